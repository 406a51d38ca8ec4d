"""Whole-image and sliding-window inference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoo.engines import Engine, run_in_batches
from zoo.errors import InputError
from zoo.inputs.sections import from_section

__all__ = ["InferenceMode", "inference_settings", "run_windows", "window_cells", "window_starts"]

_WINDOW_PIXELS = 2**26  # largest batch of sliding windows: 64 of 1024 x 1024
_WINDOWS_PER_PIXEL = 64


@dataclass(frozen=True, kw_only=True)
class InferenceMode:
    """How a model processes an image of any size.

    Attributes:
        mode: `whole` runs the image in one piece; `sliding` runs overlapping windows and averages their logits.
        window: (height, width) of a window in pixels of the prepared image, for `sliding`.
        window_stride: (vertical, horizontal) distance between windows, for `sliding`.
        batch: Number of windows per batch.
    """

    mode: str = "whole"
    window: tuple[int, int] | None = None
    window_stride: tuple[int, int] | None = None
    batch: int = 4

    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "mode": {"enum": ["whole", "sliding"]},
            "window": {"$ref": "#/$defs/pair"},
            "window_stride": {"$ref": "#/$defs/pair"},
            "batch": {"type": "integer", "minimum": 1, "maximum": 256},
        },
        "additionalProperties": False,
    }

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
            self._check_cost(self.window, self.window_stride)

    def _check_cost(self, window: tuple[int, int], window_stride: tuple[int, int]) -> None:
        """Raises an `InputError` for windows that would exhaust memory or practically never finish."""
        if self.batch * math.prod(window) > _WINDOW_PIXELS:
            raise InputError(
                f"inference: a batch of {self.batch} windows of {window} has more than {_WINDOW_PIXELS:,} pixels"
            )
        if math.prod(window) > _WINDOWS_PER_PIXEL * math.prod(window_stride):
            raise InputError(
                f"inference: with windows of {window} every {window_stride} pixels, a pixel lies in more than "
                f"{_WINDOWS_PER_PIXEL} of them"
            )

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> InferenceMode:
        """The mode that a configuration describes.

        Raises:
            InputError: If a key is unknown or a value is out of range.
        """
        return from_section(cls, section, "inference")

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return values if self.mode == "sliding" else {"mode": "whole"}


def inference_settings(
    whole: bool, window: tuple[int, int] | None, window_stride: tuple[int, int] | None
) -> dict[str, Any]:
    """Settings of an input for the options `--whole`, `--window` and `--window-stride`; empty if none is given.

    Raises:
        InputError: If the options exclude each other, or the windows are not valid.
    """
    if whole and window:
        raise InputError("--whole and --window exclude each other; give one of them")
    if window_stride and not window:
        raise InputError("--window-stride needs --window; give the size of the windows too")
    if window:
        step = window_stride or (max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3))
        return {"inference": InferenceMode(mode="sliding", window=window, window_stride=step).to_json()}
    return {"inference": {"mode": "whole"}} if whole else {}


def window_starts(length: int, window: int, step: int) -> list[int]:
    """Start of each window along one side: one every `step`, the last one flush with the end."""
    if length <= window:
        return [0]
    return [*range(0, length - window, step), length - window]


def window_cells(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(height, width) of a window, or of the step between windows, rounded down to whole output cells."""
    height, width = (max(stride, side // stride * stride) for side in size)
    return height, width


def run_windows(image: np.ndarray, engine: Engine, inference: InferenceMode) -> dict[str, np.ndarray]:
    """The outputs for a prepared image, averaged over all windows that cover a position.

    Args:
        image: `(3, H, W)` float32. Height and width are multiples of the outputs' strides.
        engine: Takes `image`; every output is a grid with a stride in its `spec`.
        inference: The windows. Size and step are rounded to multiples of the largest stride, so that the outputs of all
            windows lie on one grid.

    Raises:
        InputError: If an output has no stride.
    """
    assert inference.window is not None
    assert inference.window_stride is not None
    strides = {output.name: output.stride for output in engine.spec.outputs}
    if unknown := [name for name, stride in strides.items() if stride is None]:
        raise InputError(f"output {unknown[0]} has no stride, so windows of it cannot be averaged; run whole images")
    coarsest = max(stride for stride in strides.values() if stride is not None)
    height, width = image.shape[1:]
    window = [min(side, size) for side, size in zip((height, width), window_cells(inference.window, coarsest))]
    step = window_cells(inference.window_stride, coarsest)
    corners = [
        (y, x) for y in window_starts(height, window[0], step[0]) for x in window_starts(width, window[1], step[1])
    ]
    grids = {name: _Grid(height // stride, width // stride, stride) for name, stride in strides.items() if stride}
    for first in range(0, len(corners), inference.batch):
        chunk = corners[first : first + inference.batch]
        outputs = run_in_batches(
            engine, {"image": np.stack([image[:, y : y + window[0], x : x + window[1]] for y, x in chunk])}
        )
        for name, grid in grids.items():
            for (y, x), part in zip(chunk, outputs[name]):
                grid.add(y, x, window, part)
    return {name: grid.mean() for name, grid in grids.items()}


class _Grid:
    """Sum and count of overlapping windows of an output, on the grid of the whole image."""

    def __init__(self, rows: int, columns: int, stride: int) -> None:
        self._stride = stride
        self._total: np.ndarray | None = None
        self._count = np.zeros((rows, columns), np.float32)

    def add(self, y: int, x: int, window: Sequence[int], part: np.ndarray) -> None:
        """Adds `part`, `(C, h, w)`, for the window whose top left corner is at `(y, x)` pixels."""
        if self._total is None:
            self._total = np.zeros((part.shape[0], *self._count.shape), np.float32)
        rows = slice(y // self._stride, (y + window[0]) // self._stride)
        columns = slice(x // self._stride, (x + window[1]) // self._stride)
        self._total[:, rows, columns] += part
        self._count[rows, columns] += 1

    def mean(self) -> np.ndarray:
        """`(C, H / stride, W / stride)` float32."""
        assert self._total is not None
        return self._total / self._count
