"""What the recipes for segmenters of images and of sweeps share: settings of data and model, and how a run ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from zoo.classes import ClassTable
from zoo.frame import Frame
from zoo.training.loop import Recipe
from zoo.training.publish import Used, publish
from zoo.training.samples import Source
from zoo.training.settings import AtLeastOne, MayChange, Name, Range, RunSettings

__all__ = ["SegmentationRecipe", "SegmentationSettings"]


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings(RunSettings):
    """Settings of both recipes."""

    model: str
    """Catalogue entry whose architecture and input are used. Classes, licence and training data follow from this
    run."""
    name: Annotated[str, Name(), MayChange()] = ""
    """Name of the finished model. Default: composed of initial weights, architecture and data. A catalogue name is
    refused unless architecture, classes and training data match that entry."""
    data: Annotated[tuple[str, ...], AtLeastOne()]
    """Training data as KIND=DIR. Repeat to train on a mixture; the first data set determines the model's classes and,
    for sweeps, the sensor, to which those of the others are converted."""
    mixture: Annotated[tuple[float, ...], Range(above=0, at_most=1e6)] = ()
    """Relative share of the samples of each data set. Default: equal shares."""
    frozen_encoder: bool = False
    """Train only the head (linear probing); the encoder stays in evaluation mode."""
    class_weights: Literal["none", "sqrt-median"] = "none"
    """Class weights of the cross entropy: none, or the square root of median frequency over frequency."""
    holdout: Annotated[float, Range(at_least=0, below=1)] = 0.0
    """Share of the first data set held back to select the best step; 0 for none. Holds back the last scenes. For
    CamVid, holds back the end of each sequence, at least `val` and its neighbours; 0 is not allowed."""
    cache: Annotated[bool, MayChange()] = False
    """Keep decoded training frames in memory."""

    def conflicts(self) -> Iterator[str]:
        """Incompatible values."""
        yield from super().conflicts()
        if self.mixture and len(self.mixture) != len(self.data):
            yield f"--mixture has {len(self.mixture)} values for {len(self.data)} data sets; give one per --data"


class SegmentationRecipe(Recipe):
    """Base class of both recipes.

    Attributes, set by `build`:
        classes: The model's.
        sources: Frames to train on.
        holdout: Held-back frames with their label maps.
        used: Records of the data.
        facts: Of the model folder, from `zoo.training.publish.describe`.
    """

    score_name = "miou"
    settings: Any
    classes: ClassTable
    sources: Sequence[Source]
    holdout: list[tuple[Frame, np.ndarray]]
    used: list[Used]
    facts: Any

    def train_mode(self, model: nn.Module) -> None:
        """Training mode; a frozen encoder stays in evaluation mode."""
        model.train()
        if self.settings.frozen_encoder:
            model.get_submodule("encoder").eval()

    def publish(self, folder: Path, model: nn.Module, record: dict[str, Any]) -> None:
        """Writes the model folder."""
        publish(folder, model, self.facts, record)

    def record(self) -> dict[str, Any]:
        """Data sets and frame counts."""
        return {
            "data": [used.summary for used in self.used],
            "training_frames": [len(source.frames) for source in self.sources],
            "holdout_frames": len(self.holdout),
        }
