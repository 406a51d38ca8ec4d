"""From logits to labels, and whole-image and sliding-window inference. NumPy and Pillow only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from zoo.errors import InputError
from zoo.preprocessing import Prepared

__all__ = ["InferenceMode", "labels_and_scores", "nearest", "predict_logits", "window_cells"]

RunLogits = Callable[[np.ndarray], np.ndarray]
"""`(B, 3, H, W)` float32 to `(B, C, H / stride, W / stride)` float32."""


@dataclass(frozen=True, kw_only=True)
class InferenceMode:
    """How an image of any size passes through a model.

    Attributes:
        mode: `whole` runs the image at once; `sliding` runs overlapping windows and averages their logits.
        window: (height, width) of a window in pixels of the prepared image, for `sliding`.
        window_stride: (vertical, horizontal) distance between windows, for `sliding`.
        batch: Windows that run at once.
    """

    mode: str = "whole"
    window: tuple[int, int] | None = None
    window_stride: tuple[int, int] | None = None
    batch: int = 4

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "sliding"):
            raise InputError(f"inference: mode {self.mode!r} is neither 'whole' nor 'sliding'")
        if self.mode == "sliding":
            for name, value in (("window", self.window), ("window_stride", self.window_stride)):
                if value and (len(value) != 2 or not all(isinstance(side, int) for side in value)):
                    raise InputError(f"inference: {name} {value} must be two whole numbers, height and width")
            if not self.window or not self.window_stride or min(*self.window, *self.window_stride, self.batch) < 1:
                raise InputError("inference: sliding needs window, window_stride and batch, each at least 1")
            if any(step > side for step, side in zip(self.window_stride, self.window, strict=True)):
                raise InputError(f"inference: stride {self.window_stride} leaves gaps between windows {self.window}")

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> InferenceMode:
        """The mode that a configuration describes.

        Raises:
            InputError: If a key is unknown or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(section) - known)
        if unknown:
            raise InputError(f"inference: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"inference: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return values if self.mode == "sliding" else {"mode": "whole"}


def window_starts(length: int, window: int, step: int) -> list[int]:
    """Where windows begin along one side: every `step`, the last one flush with the end."""
    if length <= window:
        return [0]
    return [*range(0, length - window, step), length - window]


def window_cells(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(height, width) of a window, or of the distance between windows, rounded down to whole cells of logits."""
    height, width = (max(stride, side // stride * stride) for side in size)
    return height, width


def predict_logits(image: np.ndarray, run: RunLogits, stride: int, inference: InferenceMode) -> np.ndarray:
    """`(C, H / stride, W / stride)` float32 logits of a prepared image, `(3, H, W)` float32.

    Args:
        image: Height and width are multiples of `stride`.
        run: The engine.
        stride: Input size over logits size. Windows and their distances are rounded to multiples of it, so that the
            windows' logits lie on one grid.
        inference: Whole image or windows.
    """
    if inference.mode == "whole":
        return run(image[None])[0]
    assert inference.window is not None
    assert inference.window_stride is not None
    height, width = image.shape[1:]
    window = [min(side, size) for side, size in zip((height, width), window_cells(inference.window, stride))]
    step = window_cells(inference.window_stride, stride)
    corners = [
        (y, x) for y in window_starts(height, window[0], step[0]) for x in window_starts(width, window[1], step[1])
    ]
    total: np.ndarray | None = None
    count = np.zeros((height // stride, width // stride), np.float32)
    for first in range(0, len(corners), inference.batch):
        chunk = corners[first : first + inference.batch]
        logits = run(np.stack([image[:, y : y + window[0], x : x + window[1]] for y, x in chunk]))
        if total is None:
            total = np.zeros((logits.shape[1], *count.shape), np.float32)
        for (y, x), part in zip(chunk, logits):
            rows = slice(y // stride, (y + window[0]) // stride)
            columns = slice(x // stride, (x + window[1]) // stride)
            total[:, rows, columns] += part
            count[rows, columns] += 1
    assert total is not None
    return total / count


def labels_and_scores(logits: np.ndarray, stride: int, prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Labels and softmax scores at the image's own size.

    The logits are resized bilinearly (half-pixel centres) before the maximum is taken.

    Args:
        logits: `(C, h, w)` float32, C at most 256.
        stride: Input size over logits size.
        prepared: The image that they belong to.

    Returns:
        `(H, W)` uint8 labels and `(H, W)` float32 scores in [0, 1].
    """
    height, width = prepared.original_size
    box = (0.0, 0.0, prepared.size[1] / stride, prepared.size[0] / stride)
    best = np.full((height, width), -np.inf, np.float32)
    labels = np.zeros((height, width), np.uint8)
    planes = []
    # One class at a time: all classes of a 2-megapixel image would take 160 MB at once.
    for label, plane in enumerate(logits.astype(np.float32, copy=False)):
        resized = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR, box=box))
        planes.append(resized)
        better = resized > best
        np.copyto(best, resized, where=better)
        labels[better] = label
    total = np.zeros((height, width), np.float32)
    for plane in planes:
        total += np.exp(plane - best)
    return labels, 1 / total


def nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`labels`, `(h, w)`, at another (height, width) by nearest neighbour.

    Pixel (y, x) takes row floor((y + 0.5) * h / height), in whole numbers: Pillow's own, in fixed point, takes the one
    before where that is exact, so another implementation would differ on up to 4 % of a small picture.
    """
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(labels.shape, size, strict=True))
    return labels[rows[:, None], columns]
