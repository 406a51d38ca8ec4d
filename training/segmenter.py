"""Recipe: a segmenter, trained by pixel cross entropy.

Presets:
    `thesis`: as in Golombiewski, "Domain Generalization for Vision Perception Models by Camera-Lidar Contrastive
        Pretraining" (master's thesis, TU Berlin, 2024), section 4.2.2: SGD with momentum 0.9, no weight decay, learning
        rate 1e-2 with polynomial decay to 1e-4, batch 8, 80,000 iterations, crops of 224 x 224, random resize, crop,
        flip and photometric distortion. It needs a GPU for about a day and has not been run for this repository.
    `cpu`: what 2 cores do in at most an hour: AdamW, crops of 240 x 320, averaged weights, night-camera augmentation.

Commands, hardware, hours and scores of the bundled models stand in `training/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from zoo.evaluate.metrics.counts import mean_iou
from zoo.inputs.image import ImageInput
from zoo.training.augment import Augmentation
from zoo.training.loop import Recipe, run
from zoo.training.publish import describe, publish
from zoo.training.samples import SampleStream, loader
from zoo.training.segmenter_parts import class_weights, count_frames, initial_model, read_training_data
from zoo.training.settings import AtLeastOne, MayChange, Name, Range, RunSettings

__all__ = ["PRESETS", "Segmenter", "Settings", "dice_loss", "train"]


@dataclass(frozen=True, kw_only=True)
class Settings(RunSettings):
    """Every setting of the recipe; the values land as `settings.json` in the output folder."""

    model: str
    """The architecture, as the name of a catalogue entry; gives preprocessing and inference too. Classes, licence and
    training data follow from this run."""
    name: Annotated[str, Name(), MayChange()] = ""
    """Name of the finished model; by default made up of start, architecture and data. A name of the catalogue is
    refused unless architecture, classes and training data are that entry's."""
    data: Annotated[tuple[str, ...], AtLeastOne()]
    """Training data as KIND=DIR, several times for a mixture; the first one's classes are the model's."""
    mixture: Annotated[tuple[float, ...], Range(above=0, at_most=1e6)] = ()
    """Share of the samples of each data set; equal by default."""
    init: str = "imagenet"
    """Start of the encoder: imagenet, random, or a model folder or name (head included where its shapes fit)."""
    frozen_encoder: bool = False
    """Train the head alone; the encoder stays in evaluation mode."""
    crop: Annotated[tuple[int, int], Range(at_least=32, at_most=8192)] = (224, 224)
    """Height and width of a training sample in pixels."""
    class_weights: Literal["none", "sqrt-median"] = "none"
    """Weights of the cross entropy: none, or the square root of median frequency over frequency."""
    dice: Annotated[float, Range(at_least=0, at_most=100)] = 0.0
    """Weight of the soft Dice loss that is added to the cross entropy; 0 for none."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How samples are varied."""
    holdout: Annotated[float, Range(at_least=0, below=1)] = 0.0
    """Share of the first data set held back to decide which step is kept (the last scenes; of CamVid the end of each
    sequence, `val` and its neighbours included, and never nothing); 0: none."""
    cache: Annotated[bool, MayChange()] = False
    """Keep decoded training frames in memory."""

    def conflicts(self) -> Iterator[str]:
        """Values that do not go together."""
        yield from super().conflicts()
        if self.mixture and len(self.mixture) != len(self.data):
            yield f"--mixture has {len(self.mixture)} shares, but there are {len(self.data)} data sets"
        if not self.holdout and self.data[0].startswith("camvid="):
            yield (
                "--holdout 0: val lies within CamVid's training sequences, so their ends are always held back; "
                "give a share above 0"
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
        InputError: If a setting, the data or the initial weights cannot be used, or `out` holds another run.
    """
    return run(Segmenter(settings))


class Segmenter(Recipe):
    """Labelled images in, a segmentation model out."""

    name = "segmenter"
    score_name = "miou"
    settings: Settings

    def build(self, device: torch.device) -> nn.Module:
        """The model; reads data, class weights and initial weights."""
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
        # Convolutions on a CPU are faster with the channels last.
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

    def train_mode(self, model: nn.Module) -> None:
        """Training mode; a frozen encoder stays in evaluation mode."""
        model.train()
        if self.settings.frozen_encoder:
            model.get_submodule("encoder").eval()

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], device: torch.device) -> torch.Tensor:
        """Pixel cross entropy at the labels' size, mean over the pixels that count, plus the Dice loss."""
        image, labels = batch[0].to(device, memory_format=torch.channels_last), batch[1].to(device)
        logits = model(image).float()
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        weights = None if self.class_weights is None else self.class_weights.to(device)
        ignore_index = self.classes.ignore_index
        loss = F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index)
        dice = self.settings.dice
        return loss + dice * dice_loss(logits, labels, ignore_index) if dice else loss

    def score(self, model: nn.Module, fabric: Any) -> float | None:
        """mIoU on the held-back frames, as whole images."""
        if not self.holdout:
            return None
        own = self.holdout[fabric.global_rank :: fabric.world_size]
        counts = count_frames(model, own, self.classes, self.preprocessing, fabric.device)
        summed = fabric.all_reduce(torch.from_numpy(counts), reduce_op="sum").cpu().numpy()
        return float(mean_iou(summed, "skip"))

    def publish(self, folder: Path, model: nn.Module, record: dict[str, Any]) -> None:
        """Writes the model folder."""
        publish(folder, model, self.facts, record)

    def record(self) -> dict[str, Any]:
        """The data sets and the number of frames."""
        return {
            "data": [used.summary for used in self.used],
            "training_frames": [len(source.frames) for source in self.sources],
            "holdout_frames": len(self.holdout),
        }


def dice_loss(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """One minus the soft Dice coefficient, mean over the classes that occur in the batch.

    Source: Milletari et al., "V-Net" (2016), section 3, with one term per class and sums over the whole batch.

    Args:
        logits: `(B, C, H, W)` float.
        labels: `(B, H, W)` int64; pixels of `ignore_index` do not count.
        ignore_index: Label that is left out.

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
