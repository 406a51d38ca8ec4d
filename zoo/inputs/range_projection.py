"""Projection of a sweep to a range image: a row per beam, a column per direction, the nearest point in each pixel.

The image looks outwards from the sensor: the first row is the highest elevation, the first column points straight back,
the columns turn from there to the left, ahead and to the right, so that what is ahead is in the middle.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from zoo.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64

__all__ = ["Projection", "nearest_in_pixel"]

_TINY_M = 1e-6


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Which pixel a point falls into.

    Attributes:
        rows: Rows of the image.
        columns: Columns of the image, for 360 degrees.
        by: What gives the row: `fov` divides the elevations of `fov_deg` evenly, `elevations` takes the nearest of
            `elevations_deg`, `ring` takes the number of the beam, 0 for the lowest.
        fov_deg: Lowest and highest elevation of the image. Points outside go to the last or the first row.
        elevations_deg: Elevation of each row, highest first.
    """

    rows: int = 64
    columns: int = 1024
    by: Literal["fov", "elevations", "ring"] = "fov"
    fov_deg: tuple[float, float] = (-25.0, 3.0)
    elevations_deg: tuple[float, ...] = ()

    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "rows": {"$ref": "#/$defs/range_rows"},
            "columns": {"$ref": "#/$defs/range_columns"},
            "by": {"enum": ["fov", "elevations", "ring"]},
            "fov_deg": {
                "type": "array",
                "items": {"type": "number", "minimum": -90, "maximum": 90},
                "minItems": 2,
                "maxItems": 2,
            },
            "elevations_deg": {
                "type": "array",
                "items": {"type": "number", "minimum": -90, "maximum": 90},
                "minItems": 1,
                "maxItems": 1024,
            },
        },
        "additionalProperties": False,
    }

    def __post_init__(self) -> None:
        if self.by == "fov" and not self.fov_deg[0] < self.fov_deg[1]:
            raise InputError(f"fov_deg {list(self.fov_deg)}: expected the lowest elevation, then a higher one")
        falls = all(upper > lower for upper, lower in zip(self.elevations_deg, self.elevations_deg[1:]))
        if self.by == "elevations" and (len(self.elevations_deg) != self.rows or not falls):
            raise InputError(
                f"elevations_deg has {len(self.elevations_deg)} values; expected {self.rows}, one per row, "
                "each lower than the one before"
            )

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Projection:
        """The projection that a section describes, which `schema` has checked.

        Raises:
            InputError: If its values do not fit together.
        """
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in section.items()
        }
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The section, without values that are not in use."""
        unused = {"fov": ("elevations_deg",), "elevations": ("fov_deg",), "ring": ("fov_deg", "elevations_deg")}[
            self.by
        ]
        values = {key: value for key, value in asdict(self).items() if key not in unused}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @property
    def text(self) -> str:
        """How to find the pixel of a point, for someone without this package."""
        row = {
            "fov": f"floor((top - elevation) / (top - bottom) * {self.rows}) between bottom {self.fov_deg[0]:g} and "
            f"top {self.fov_deg[1]:g} degrees, limited to 0 and {self.rows - 1}",
            "elevations": f"the index of the nearest of the {self.rows} elevations in elevations_deg",
            "ring": f"{self.rows - 1} - ring, limited to 0 and {self.rows - 1}",
        }[self.by]
        return (
            "With f, l and u the coordinates of a point forward, to the left and up, its azimuth is atan2(l, f), its "
            f"elevation atan2(u, hypot(f, l)), its column is floor((0.5 - azimuth / 360 degrees) * {self.columns}) "
            f"modulo {self.columns}, and its row is {row}."
        )

    def pixels(
        self, level: tuple[np.ndarray, np.ndarray, np.ndarray], ring: np.ndarray | None = None
    ) -> Int64[np.ndarray, " N"]:
        """The pixel of each point, row times `columns` plus column.

        Args:
            level: Coordinates forward, to the left and up, `(N,)` float32 each, in metres.
            ring: `(N,)` number of the beam, which `by="ring"` needs.

        Raises:
            InputError: If the ring is missing, or is not a whole number from 0 to `rows` - 1.
        """
        forward, left, _ = level
        azimuth = np.arctan2(left, forward)
        azimuth *= np.float32(-self.columns / (2 * np.pi))
        azimuth += np.float32(self.columns / 2)
        # Rounding can give `columns` itself; the conversion to integers rounds down, as nothing is below 0.
        column = np.maximum(azimuth, 0, out=azimuth).astype(np.int64)
        column[column >= self.columns] -= self.columns
        column += self._rows(level, ring) * self.columns
        return column

    def _rows(self, level: tuple[np.ndarray, np.ndarray, np.ndarray], ring: np.ndarray | None) -> np.ndarray:
        if self.by == "ring":
            return self._rows_of_rings(ring)
        forward, left, up = level
        planar = np.hypot(forward, left)
        elevation = np.arctan2(up, planar)
        if self.by == "elevations":
            return self.rows - 1 - np.searchsorted(self._borders, elevation)
        low, high = np.radians(self.fov_deg)
        elevation -= np.float32(high)
        elevation *= np.float32(self.rows / (low - high))
        np.clip(elevation, 0, self.rows - 1, out=elevation)
        return elevation.astype(np.int64)

    @functools.cached_property
    def _borders(self) -> np.ndarray:
        """Elevations in radians between two rows, lowest first."""
        rising = np.radians(np.array(self.elevations_deg[::-1]))
        return ((rising[1:] + rising[:-1]) / 2).astype(np.float32)

    def _rows_of_rings(self, ring: np.ndarray | None) -> np.ndarray:
        if ring is None:
            raise InputError("the rows are rings, but the points have no column ring; add it to channels")
        numbers = ring.astype(np.int64)
        if len(ring) and ((numbers != ring).any() or numbers.min() < 0 or numbers.max() >= self.rows):
            raise InputError(
                f"ring runs from {ring.min():g} to {ring.max():g}; expected whole numbers from 0 to {self.rows - 1}, "
                "a row each"
            )
        return self.rows - 1 - numbers


def nearest_in_pixel(
    pixel: Int64[np.ndarray, " N"], range_m: Float32[np.ndarray, " N"], count: int
) -> Int64[np.ndarray, " P"]:
    """The nearest point of each pixel; the first of several that are equally near, -1 where there is none.

    Args:
        pixel: Pixel of each point, 0 to `count` - 1.
        range_m: Metres, not negative.
        count: Number of pixels.
    """
    # The bits of floats that are not negative are ordered as the floats are.
    keys = np.ascontiguousarray(range_m, np.float32).view(np.uint32).astype(np.int64)
    keys <<= 32
    keys |= np.arange(len(keys), dtype=np.int64)
    best = np.full(count, -1, np.int64).view(np.uint64)  # larger than every key
    np.minimum.at(best, pixel, keys.view(np.uint64))
    nearest = best.view(np.int64)
    found = nearest >= 0
    nearest[found] &= 0xFFFFFFFF
    return nearest
