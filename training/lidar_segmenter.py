"""Recipe: semantic segmentation of lidar sweeps, trained with cross entropy and the Lovász-softmax loss.

For range networks and for voxel networks alike: the input of the catalogue entry prepares the sweeps.

Presets:
    `cpu`: for 2 cores: AdamW, averaged weights, and mild augmentation. Stronger changes of intensity and relief made a
        model of the synthetic world worse on a real sweep (`training/README.md`).
    `probe`: linear probing: as `cpu`, with a frozen encoder and without augmentation of beams and intensity. Give
        `--init`, a model folder with the pretrained encoder.

Finetuning on a share of the labels: `--init` with `--labels 1` (5, 10, 25 or 100 per cent, by the rule of
`zoo.training.sweeps.label_subset`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.evaluate.metrics.counts import count_pairs, mean_iou
from zoo.folder.catalogue import entries, entry
from zoo.inputs import input_from_json
from zoo.inputs.points import PointsInput
from zoo.inputs.range_image import RangeImageInput
from zoo.sensors import facts_to_json
from zoo.tasks.segmentation3d import Segmentation3DTask
from zoo.training.augment_points import PointAugmentation
from zoo.training.loop import run
from zoo.training.losses import lovasz_softmax
from zoo.training.publish import describe
from zoo.training.samples import loader
from zoo.training.segmentation import SegmentationRecipe, SegmentationSettings
from zoo.training.segmenter_parts import class_weights, initial_model, read_training_data
from zoo.training.settings import Range
from zoo.training.sweeps import (
    Batch,
    Collate,
    Percent,
    SweepStream,
    label_subset,
    labelled_sweeps,
    sensor_of,
    sweep_of,
    tensors_of,
)

__all__ = ["PRESETS", "LidarSegmenter", "Settings", "train"]


@dataclass(frozen=True, kw_only=True)
class Settings(SegmentationSettings):
    """All settings of the recipe, saved as `settings.json` in the output folder."""

    labels: Percent = 100
    """Per cent of the labelled sweeps to train on, by the published rule: every Nth scene in nuScenes, every Nth sweep
    elsewhere."""
    init: str = "random"
    """Initial weights: random, or a model folder or name (including the head, where the shapes match)."""
    lovasz: Annotated[float, Range(at_least=0, at_most=100)] = 1.0
    """Weight of the Lovász-softmax loss added to the cross entropy; 0 disables it."""
    loss_points: Annotated[int, Range(at_least=0, at_most=10_000_000)] = 0
    """Random points of a batch on which the loss is computed, because sorting all of them for the Lovász-softmax loss
    takes long; 0 for all."""
    augmentation: PointAugmentation = field(default_factory=PointAugmentation)
    """Augmentation of the sweeps."""

    def conflicts(self) -> Iterator[str]:
        """Incompatible values."""
        yield from super().conflicts()
        if self.frozen_encoder and self.init == "random":
            yield "--frozen-encoder needs a pretrained encoder; give --init, a model folder or name"


_TRANSFER = PointAugmentation(
    rotate_deg=180, scale=(0.95, 1.05), tilt_deg=0.5, lift_m=0.05, beam_drop=0.1, intensity_drop=0.15,
    intensity_jitter=0.3,
)  # fmt: skip
_CPU: dict[str, Any] = {
    "steps": 3000,
    "batch": 2,
    "optimiser": "adamw",
    "learning_rate": 2e-3,
    "minimum_learning_rate": 1e-6,
    "warmup": 100,
    "weight_decay": 0.02,
    "clip_norm": 5.0,
    "class_weights": "sqrt-median",
    "loss_points": 60_000,
    "average_decay": 0.998,
    "augmentation": _TRANSFER,
    "holdout": 0.15,
    "evaluate_every": 250,
    "checkpoint_every": 100,
    "workers": 1,
    "cache": True,
}
PRESETS: dict[str, dict[str, Any]] = {
    "cpu": _CPU,
    "probe": {**_CPU, "frozen_encoder": True, "augmentation": PointAugmentation(), "weight_decay": 0.0, "steps": 1000},
}


def train(settings: Settings) -> Path:
    """Runs the recipe and returns the finished model folder, `out/model`.

    Raises:
        InputError: If a setting, the data or the initial weights are invalid, or `out` contains another run.
    """
    return run(LidarSegmenter(settings))


class LidarSegmenter(SegmentationRecipe):
    """Trains a segmentation model on labelled sweeps."""

    name = "lidar-segmenter"
    settings: Settings

    def build(self, device: torch.device) -> nn.Module:
        """Builds the model and reads the data, class weights and initial weights."""
        settings = self.settings
        self._check_model()
        self.classes, self.sources, self.holdout, self.used = read_training_data(
            settings, lambda dataset: label_subset(dataset.kind, labelled_sweeps(dataset), settings.labels)
        )
        model, chosen, start = initial_model(settings, self.classes)
        (section,) = chosen.inputs
        self.sensor = sensor_of(self.sources[0].frames)
        section = {**section, "sensor": facts_to_json(self.sensor)}
        read = input_from_json(section)
        assert isinstance(read, PointsInput | RangeImageInput)
        self.input = read
        self.names = tuple(tensor.name for tensor in model.inputs)
        described = dataclasses.replace(chosen, inputs=(section,))
        self.facts = describe(settings, described, start, self.used, self.classes)
        self.stream = SweepStream(
            self.sources,
            total=settings.steps * settings.batch,
            input=self.input,
            augmentation=settings.augmentation,
            seed=settings.seed,
            cache=settings.cache,
            classes=self.classes,
        )
        weighted = settings.class_weights != "none"
        labels_of = Segmentation3DTask(self.classes).truth
        self.class_weights = class_weights(self.sources, len(self.classes), labels_of) if weighted else None
        if settings.cache:
            self.stream.fill_cache()
        if settings.frozen_encoder:
            model.encoder.requires_grad_(False)
        return model

    def _check_model(self) -> None:
        """Refuses models for other tasks."""
        name, task = self.settings.model, Segmentation3DTask.name
        if entry(name).task != task:
            known = ", ".join(each.name for each in entries().values() if each.task == task)
            raise InputError(f"--model {name} is for {entry(name).task}, not for labelling points; choose from {known}")

    def batches(self, first_step: int, rank: int, world_size: int) -> Iterable[Batch]:
        """The arrays that the model takes, and `(N,)` int64 labels of all points of the batch."""
        settings = self.settings
        return loader(
            self.stream,
            batch=settings.batch,
            first_step=first_step,
            workers=settings.workers,
            rank=rank,
            world_size=world_size,
            collate=Collate(self.input, self.names),
        )

    def loss(self, model: nn.Module, batch: Batch, device: torch.device) -> torch.Tensor:
        """Cross entropy over the labelled points plus the Lovász-softmax loss."""
        inputs, labels = batch
        logits = model(*(tensor.to(device) for tensor in inputs)).float()
        chosen = torch.nonzero(labels != self.classes.ignore_index)[:, 0]
        most = self.settings.loss_points
        if most and len(chosen) > most:
            chosen = chosen[torch.randperm(len(chosen))[:most]]
        if not len(chosen):
            return logits.sum() * 0
        logits, labels = logits[chosen.to(device)], labels[chosen].to(device)
        weights = None if self.class_weights is None else self.class_weights.to(device)
        # Summed over the weights of the points, so 0 if all points are of classes without weight.
        loss = F.cross_entropy(logits, labels, weight=weights, reduction="sum")
        loss = loss / (len(labels) if weights is None else weights[labels].sum().clamp(min=1e-6))
        if not self.settings.lovasz:
            return loss
        return loss + self.settings.lovasz * lovasz_softmax(logits.softmax(1), labels, self.classes.ignore_index)

    def score(self, model: nn.Module, fabric: Any) -> float | None:
        """mIoU on the held-back sweeps."""
        if not self.holdout:
            return None
        total = np.zeros((len(self.classes), len(self.classes) + 1), np.float64)
        for frame, label_map in self.holdout[fabric.global_rank :: fabric.world_size]:
            truth = sweep_of(frame).labels
            assert truth is not None
            prepared = self.input.prepare(self.input.read(frame))
            with torch.inference_mode():
                tensors = tensors_of(self.input, [prepared], self.names)
                found = model(*(tensor.to(fabric.device) for tensor in tensors)).float().argmax(1).cpu().numpy()
            labels = found.astype(np.uint8)
            total += count_pairs(label_map[truth], labels, len(self.classes), self.classes.ignore_index)
        summed = fabric.all_reduce(torch.from_numpy(total), reduce_op="sum").cpu().numpy()
        return float(mean_iou(summed, "skip"))

    def record(self) -> dict[str, Any]:
        """Data sets, numbers of sweeps, and the share of the labels."""
        return {**super().record(), "labels_percent": self.settings.labels}
