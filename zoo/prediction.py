"""What predictors return: one dataclass per task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from zoo.classes import ClassTable
from zoo.errors import InputError

__all__ = ["Segmentation2D"]


@dataclass(frozen=True)
class Segmentation2D:
    """A class for every pixel of one image, at the image's own size.

    Attributes:
        labels: `(H, W)` uint8 class labels.
        scores: `(H, W)` float32 in [0, 1]: softmax probability of the label.
        classes: Names and colours of the labels.
        image: `(H, W, 3)` uint8 RGB that was segmented.
    """

    labels: np.ndarray
    scores: np.ndarray
    classes: ClassTable
    image: np.ndarray

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every label."""
        return self.classes.names

    @property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """RGB of every label, 0..255."""
        return self.classes.colors

    @property
    def color_map(self) -> np.ndarray:
        """`(H, W, 3)` uint8: every pixel in its label's colour."""
        return self.classes.palette()[self.labels]

    def fractions(self) -> dict[str, float]:
        """Share of the image's pixels for each class that occurs, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))[: len(self.classes)]
        order = np.argsort(-counts, kind="stable")
        return {self.classes.names[i]: float(counts[i] / self.labels.size) for i in order if counts[i]}

    def overlay(self, alpha: float = 0.55) -> Image.Image:
        """The image with the labels' colours over it.

        Args:
            alpha: Weight of the colours, 0 to 1.
        """
        if not 0.0 <= alpha <= 1.0:
            raise InputError(f"alpha {alpha} is outside 0 to 1")
        mixed = self.image.astype(np.float32) * (1 - alpha) + self.color_map.astype(np.float32) * alpha
        return Image.fromarray(np.rint(mixed).astype(np.uint8))
