"""Image preprocessing in NumPy and Pillow, the same for every engine.

A configuration's `preprocessing` section is a `Preprocessing` as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from zoo.errors import InputError
from zoo.inputs.sections import from_section

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "MAX_ASPECT", "MIN_STD", "Preprocessing"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_ASPECT = 8  # a strip of 10 x 5000 pixels must not become 360 x 180,000
MIN_STD = 0.02  # keeps the noise of a nearly uniform image from being amplified


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to an image before an engine sees it: resize, scale to [0, 1], normalise, pad.

    Attributes:
        normalisation: `constant` subtracts `mean` and divides by `std`; `image` uses each image's own mean and standard
            deviation per channel, which cancels exposure, contrast and colour cast.
        mean: Per channel, RGB in [0, 1]; for `constant`.
        std: Per channel; for `constant`.
        short_side: The image is resized (bilinear, antialiased when it shrinks) so that its short side has this many
            pixels; `None` keeps the size.
        size_multiple: Height and width are padded to multiples of this by repeating the edge.
    """

    normalisation: str = "constant"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    short_side: int | None = None
    size_multiple: int = 1

    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "normalisation": {"enum": ["constant", "image"]},
            "mean": {
                "type": "array",
                "items": {"type": "number", "minimum": -1000, "maximum": 1000},
                "minItems": 3,
                "maxItems": 3,
            },
            "std": {
                "type": "array",
                "items": {"type": "number", "minimum": 1e-06, "maximum": 1000},
                "minItems": 3,
                "maxItems": 3,
            },
            "short_side": {"type": ["integer", "null"], "minimum": 1, "maximum": 4096},
            "size_multiple": {"type": "integer", "minimum": 1, "maximum": 1024},
        },
        "additionalProperties": False,
    }

    def __post_init__(self) -> None:
        if self.normalisation not in ("constant", "image"):
            raise InputError(f"preprocessing: normalisation {self.normalisation!r} is neither 'constant' nor 'image'")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise InputError(f"preprocessing: mean {self.mean} and std {self.std} must be three numbers, std above 0")
        if not (isinstance(self.size_multiple, int) and isinstance(self.short_side, int | None)):
            raise InputError(
                f"preprocessing: short_side {self.short_side!r} and size_multiple {self.size_multiple!r} "
                "must be whole numbers"
            )
        if (self.short_side is not None and self.short_side < 1) or self.size_multiple < 1:
            raise InputError("preprocessing: short_side and size_multiple must be at least 1")

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing that a configuration describes.

        Raises:
            InputError: If a key is unknown or a value is out of range.
        """
        return from_section(cls, section, "preprocessing")

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration, with only those keys that have an effect."""
        section: dict[str, Any] = {"normalisation": self.normalisation}
        if self.normalisation == "constant":
            section |= {"mean": list(self.mean), "std": list(self.std)}
        if self.short_side is not None:
            section["short_side"] = self.short_side
        return {**section, "size_multiple": self.size_multiple}

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after the resize, before the padding."""
        if self.short_side is None:
            return height, width
        longest = self.short_side * MAX_ASPECT
        scale = self.short_side / min(height, width)
        return tuple(max(1, min(longest, round(side * scale))) for side in (height, width))  # type: ignore[return-value]

    def normalise(self, image: np.ndarray) -> np.ndarray:
        """`(3, H, W)` float32 from `(H, W, 3)` uint8 RGB: scaled to [0, 1], then normalised."""
        levels = np.arange(256) / 255
        array = np.empty((3, *image.shape[:2]), np.float32)
        for channel in range(3):
            plane = np.ascontiguousarray(image[:, :, channel])
            mean, std = self.mean[channel], self.std[channel]
            if self.normalisation == "image":
                # The histogram gives exact moments, several times faster than a pass over the pixels.
                weights = np.bincount(plane.ravel(), minlength=256) / plane.size
                mean = float(weights @ levels)
                std = max(float(np.sqrt(weights @ (levels - mean) ** 2)), MIN_STD)
            # mode="clip" only because the default copies through a buffer; a byte is never outside the table
            np.take(((levels - mean) / std).astype(np.float32), plane, out=array[channel], mode="clip")
        return array

    def resize(self, image: np.ndarray) -> np.ndarray:
        """`(h, w, 3)` uint8 RGB, of the size `resized_size`, from `(H, W, 3)` uint8 RGB."""
        height, width = image.shape[:2]
        size = self.resized_size(height, width)
        if size == (height, width):
            return image
        return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))

    def pad(self, array: np.ndarray) -> np.ndarray:
        """`(3, H, W)` with height and width padded to multiples by repeating the last row and column."""
        missing = [-side % self.size_multiple for side in array.shape[1:]]
        if not any(missing):
            return array
        return np.pad(array, ((0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
