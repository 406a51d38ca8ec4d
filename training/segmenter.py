"""Recipe: a semantic segmentation model, trained with pixelwise cross entropy.

Presets:
    `thesis`: as in Golombiewski, "Domain Generalization for Vision Perception Models by Camera-Lidar Contrastive
        Pretraining" (master's thesis, TU Berlin, 2024), section 4.2.2: SGD with momentum 0.9, no weight decay, learning
        rate 1e-2 with polynomial decay to 1e-4, batch 8, 80,000 iterations, crops of 224 x 224, random resize, crop,
        flip and photometric distortion. It takes about a day on a GPU and has not been run for this repository.
    `cpu`: runs on 2 cores in at most an hour: AdamW, crops of 240 x 320, averaged weights, night-camera augmentation.

`training/README.md` has the commands, hardware, hours and scores of the bundled models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn
from torch.nn import functional as F

from zoo.evaluate.metrics.counts import mean_iou
from zoo.inputs.image import ImageInput
from zoo.training.augment import Augmentation
from zoo.training.loop import run
from zoo.training.publish import describe
from zoo.training.samples import SampleStream, loader
from zoo.training.segmentation import SegmentationRecipe, SegmentationSettings
from zoo.training.segmenter_parts import class_weights, count_frames, initial_model, read_training_data
from zoo.training.settings import Range

__all__ = ["PRESETS", "Segmenter", "Settings", "dice_loss", "train"]


@dataclass(frozen=True, kw_only=True)
class Settings(SegmentationSettings):
    """All settings of the recipe, saved as `settings.json` in the output folder."""

    init: str = "imagenet"
    """Initial weights: imagenet, random, or a model folder or name (including the head, where the shapes match)."""
    crop: Annotated[tuple[int, int], Range(at_least=32, at_most=8192)] = (224, 224)
    """Height and width of a training sample in pixels."""
    dice: Annotated[float, Range(at_least=0, at_most=100)] = 0.0
    """Weight of the soft Dice loss added to the cross entropy; 0 disables it."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Augmentation of the samples."""

    def conflicts(self) -> Iterator[str]:
        """Incompatible values."""
        yield from super().conflicts()
        if not self.holdout and self.data[0].startswith("camvid="):
            yield (
                "--holdout 0: CamVid's val is part of the training sequences, so their ends are always held back; "
                "give a value above 0"
            )


PRESETS: dict[str, dict[str, Any]] = {
    "thesis": {},
    "cpu": {
        "steps": 3000,
        "crop": (240, 320),
        "optimiser": "adamw",
        "learning_rate": 1e-3,
        "minimum_learning_rate": 1e-6,
        "warmup": 150,
        "weight_decay": 0.05,
        "clip_norm": 5.0,
        "class_weights": "sqrt-median",
        "average_decay": 0.998,
        "augmentation": Augmentation(scale=(0.6, 1.9), photometric=1.0, low_light=0.35, degrade=0.12),
        "holdout": 0.15,
        "evaluate_every": 250,
        "checkpoint_every": 100,
        "workers": 1,
        "cache": True,
        "init": "random",
    },
}


def train(settings: Settings) -> Path:
    """Runs the recipe and returns the finished model folder, `out/model`.

    Raises:
        InputError: If a setting, the data or the initial weights are invalid, or `out` contains another run.
    """
    return run(Segmenter(settings))


class Segmenter(SegmentationRecipe):
    """Trains a segmentation model on labelled images."""

    name = "segmenter"
    settings: Settings

    def build(self, device: torch.device) -> nn.Module:
        """Builds the model and reads the data, class weights and initial weights."""
        settings = self.settings
        self.classes, self.sources, self.holdout, self.used = read_training_data(settings)
        model, entry, start = initial_model(settings, self.classes)
        self.facts = describe(settings, entry, start, self.used, self.classes)
        (section,) = entry.inputs
        image = ImageInput.from_json({key: value for key, value in section.items() if key != "kind"})
        self.preprocessing = image.preprocessing
        self.stream = SampleStream(
            self.sources,
            total=settings.steps * settings.batch,
            crop=settings.crop,
            augmentation=settings.augmentation,
            preprocessing=self.preprocessing,
            ignore_index=self.classes.ignore_index,
            seed=settings.seed,
            cache=settings.cache,
        )
        weighted = settings.class_weights != "none"
        self.class_weights = class_weights(self.sources, len(self.classes)) if weighted else None
        if settings.cache:
            self.stream.fill_cache()
        if settings.frozen_encoder:
            model.encoder.requires_grad_(False)
        # Convolutions on CPUs are faster in channels-last layout.
        return model.to(memory_format=torch.channels_last) if device.type == "cpu" else model  # type: ignore[call-overload]

    def batches(self, first_step: int, rank: int, world_size: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """`(b, 3, h, w)` float32 images and `(b, h, w)` int64 labels."""
        settings = self.settings
        return loader(
            self.stream,
            batch=settings.batch,
            first_step=first_step,
            workers=settings.workers,
            rank=rank,
            world_size=world_size,
        )

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], device: torch.device) -> torch.Tensor:
        """Pixelwise cross entropy at label resolution, averaged over the labelled pixels, plus the Dice loss."""
        image, labels = batch[0].to(device, memory_format=torch.channels_last), batch[1].to(device)
        logits = model(image).float()
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        weights = None if self.class_weights is None else self.class_weights.to(device)
        ignore_index = self.classes.ignore_index
        loss = F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index)
        dice = self.settings.dice
        return loss + dice * dice_loss(logits, labels, ignore_index) if dice else loss

    def score(self, model: nn.Module, fabric: Any) -> float | None:
        """mIoU on the held-back frames, run as whole images."""
        if not self.holdout:
            return None
        own = self.holdout[fabric.global_rank :: fabric.world_size]
        counts = count_frames(model, own, self.classes, self.preprocessing, fabric.device)
        summed = fabric.all_reduce(torch.from_numpy(counts), reduce_op="sum").cpu().numpy()
        return float(mean_iou(summed, "skip"))


def dice_loss(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """One minus the soft Dice coefficient, averaged over the classes that occur in the batch.

    Source: Milletari et al., "V-Net" (2016), section 3, with one term per class and sums over the whole batch.

    Args:
        logits: `(B, C, H, W)` float.
        labels: `(B, H, W)` int64.
        ignore_index: Label of the pixels to ignore.

    Returns:
        A scalar in [0, 1].
    """
    counts = (labels != ignore_index)[:, None]
    probabilities = logits.softmax(1) * counts
    truth = torch.zeros_like(probabilities).scatter_(1, torch.where(counts, labels[:, None], 0), counts.float())
    overlap = (probabilities * truth).sum((0, 2, 3))
    size, true_size = probabilities.sum((0, 2, 3)), truth.sum((0, 2, 3))
    present = true_size > 0
    return (1 - 2 * overlap[present] / (size + true_size)[present]).mean() if present.any() else logits.sum() * 0
