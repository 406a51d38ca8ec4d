"""Lenses that bend straight lines: pixels of a pinhole camera's directions, and back.

A point at (X, Y, Z) in camera axes has the normalised coordinates x = X / Z, y = Y / Z; r is their length. A lens moves
them to (x', y'), and the intrinsics map those to pixels.

| model | x', y' |
| --- | --- |
| `BrownConrady` | x s + 2 p1 x y + p2 (r² + 2 x²), y s + p1 (r² + 2 y²) + 2 p2 x y; s = 1 + k1 r² + k2 r⁴ + k3 r⁶ |
| `KannalaBrandt` | x t / r, y t / r; t = a (1 + k1 a² + k2 a⁴ + k3 a⁶ + k4 a⁸) and a = atan(r) |

Both are those of OpenCV (`calib3d` and its `fisheye`), with its names and the order of its coefficients.

A polynomial may fold: beyond some r, x' falls again, and points far off the axis would appear inside the image. They
are moved to the r of the fold, which lies outside every image that `check` has accepted.

Source: Brown, Close-range camera calibration (1971); Kannala and Brandt, A generic camera model (2006), equation 6.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["BrownConrady", "Distortion", "KannalaBrandt", "check"]

_WIDEST_DEG = 80.0  # off the axis; a ray at 90 degrees has no normalised coordinates
_TABLE = 4096


@dataclass(frozen=True)
class BrownConrady:
    """Radial and tangential distortion of ordinary lenses; coefficients in OpenCV's order."""

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    @property
    def coefficients(self) -> tuple[float, ...]:
        """In OpenCV's order."""
        return astuple(self)

    @cached_property
    def reach(self) -> float:
        """The largest r before the radial part folds, at most that of a ray 80 degrees off the axis."""
        return min(_first_root((3 * self.k1, 5 * self.k2, 7 * self.k3)), np.tan(np.radians(_WIDEST_DEG)))

    def radial(self, r: np.ndarray) -> np.ndarray:
        """r' without the tangential part."""
        square = r * r
        return r * (1 + square * (self.k1 + square * (self.k2 + square * self.k3)))

    def distort(self, xy: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Where the lens moves normalised coordinates to."""
        xy = _within(xy, self.reach)
        x, y = xy[:, 0], xy[:, 1]
        square = x * x + y * y
        scale = 1 + square * (self.k1 + square * (self.k2 + square * self.k3))
        tangential = np.stack(
            [
                2 * self.p1 * x * y + self.p2 * (square + 2 * x * x),
                self.p1 * (square + 2 * y * y) + 2 * self.p2 * x * y,
            ],
            1,
        )
        return xy * scale[:, None] + tangential

    def undistort(self, xy: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """The normalised coordinates that the lens moves to `xy`, by Newton's method from the radial solution."""
        out = _radial_inverse(self, xy)
        for _ in range(8 if self.p1 or self.p2 else 2):
            x, y = out[:, 0], out[:, 1]
            square = x * x + y * y
            scale = 1 + square * (self.k1 + square * (self.k2 + square * self.k3))
            slope = 2 * (self.k1 + square * (2 * self.k2 + square * 3 * self.k3))
            a = scale + slope * x * x + 2 * self.p1 * y + 6 * self.p2 * x
            b = slope * x * y + 2 * self.p1 * x + 2 * self.p2 * y
            d = scale + slope * y * y + 6 * self.p1 * y + 2 * self.p2 * x
            wrong = self.distort(out) - xy
            determinant = a * d - b * b
            step = np.stack([d * wrong[:, 0] - b * wrong[:, 1], a * wrong[:, 1] - b * wrong[:, 0]], 1)
            out = out - step / np.where(np.abs(determinant) < 1e-9, 1e-9, determinant)[:, None]
        return out


@dataclass(frozen=True)
class KannalaBrandt:
    """Fisheye lenses: the angle to the axis counts, not its tangent. Up to 80 degrees off the axis."""

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0

    @property
    def coefficients(self) -> tuple[float, ...]:
        """In OpenCV's order."""
        return astuple(self)

    @cached_property
    def reach(self) -> float:
        """The largest r before the polynomial folds, at most that of a ray 80 degrees off the axis."""
        fold = _first_root((3 * self.k1, 5 * self.k2, 7 * self.k3, 9 * self.k4))
        return float(np.tan(min(fold, np.radians(_WIDEST_DEG))))

    def radial(self, r: np.ndarray) -> np.ndarray:
        """r'."""
        angle = np.arctan(r)
        square = angle * angle
        return angle * (1 + square * (self.k1 + square * (self.k2 + square * (self.k3 + square * self.k4))))

    def distort(self, xy: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Where the lens moves normalised coordinates to."""
        xy = _within(xy, self.reach)
        r = np.sqrt((xy * xy).sum(1))
        return xy * (self.radial(r) / np.maximum(r, 1e-12))[:, None]

    def undistort(self, xy: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """The normalised coordinates that the lens moves to `xy`."""
        out = _radial_inverse(self, xy)
        bent = np.sqrt((xy * xy).sum(1))
        angle = np.arctan(np.sqrt((out * out).sum(1)))
        for _ in range(4):
            square = angle * angle
            slope = 1 + square * (3 * self.k1 + square * (5 * self.k2 + square * (7 * self.k3 + square * 9 * self.k4)))
            angle = angle - (self.radial(np.tan(angle)) - bent) / np.maximum(slope, 1e-9)
        return xy * (np.tan(np.minimum(angle, np.radians(89.0))) / np.maximum(bent, 1e-12))[:, None]


Distortion = BrownConrady | KannalaBrandt


def check(distortion: Distortion, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> None:
    """Refuses a lens that shows one direction twice in an image, or none at some pixel.

    Args:
        distortion: The lens.
        intrinsics: In pixels.
        size: (height, width) of the image.

    Raises:
        InputError: With the first pixel that no direction leads to, or that several do.
    """
    if not np.isfinite(distortion.coefficients).all():
        raise InputError(f"distortion coefficients {distortion.coefficients} must be finite numbers")
    height, width = size
    x, y = np.meshgrid(np.linspace(-0.5, width - 0.5, 65), np.linspace(-0.5, height - 0.5, 65))
    pixels = np.stack([x.ravel(), y.ravel()], 1)
    bent = (pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    straight = distortion.undistort(bent)
    # The picture must not be mirrored anywhere on the way from the axis to a pixel: then nothing is shown twice.
    wrong = ~(np.abs(distortion.distort(straight) - bent).max(1) * intrinsics[0, 0] < 0.01)
    for part in np.linspace(0, 1, 17):
        wrong |= ~(_determinant(distortion, part * straight) > 1e-3)
    if wrong.any():
        column, row = pixels[np.argmax(wrong)].tolist()
        angle = np.degrees(np.arctan(distortion.reach))
        raise InputError(
            f"the distortion {distortion} cannot be inverted within the {height}x{width} image, for example at "
            f"pixel ({column:.0f}, {row:.0f}); it holds up to {angle:.0f} degrees off the axis. Use smaller "
            "coefficients, a smaller image or a longer focal length"
        )


def _determinant(distortion: Distortion, xy: np.ndarray) -> np.ndarray:
    """`(N,)` by which areas grow around normalised coordinates; negative where the picture is mirrored."""
    step = 1e-6
    dx = (distortion.distort(xy + [step, 0]) - distortion.distort(xy - [step, 0])) / (2 * step)
    dy = (distortion.distort(xy + [0, step]) - distortion.distort(xy - [0, step])) / (2 * step)
    return dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]


def _first_root(coefficients: tuple[float, ...]) -> float:
    """The smallest u > 0 at which 1 + c1 u² + c2 u⁴ + ... is 0; infinity if there is none."""
    roots = np.roots([*coefficients[::-1], 1.0])
    real = roots[np.abs(roots.imag) < 1e-9 * np.maximum(np.abs(roots), 1e-12)].real
    return float(np.sqrt(real[real > 0].min())) if (real > 0).any() else np.inf


def _within(xy: np.ndarray, reach: float) -> np.ndarray:
    """`(N, 2)` with lengths of at most `reach`."""
    r = np.sqrt((xy * xy).sum(1))
    return xy * np.minimum(1.0, reach / np.maximum(r, 1e-12))[:, None]


def _radial_inverse(distortion: Distortion, xy: np.ndarray) -> np.ndarray:
    """`(N, 2)` undistorted coordinates for the radial part alone, from a table."""
    bent = np.sqrt((xy * xy).sum(1))
    table = np.linspace(0, distortion.reach, _TABLE)
    r = np.interp(bent, distortion.radial(table), table)
    return xy * (r / np.maximum(bent, 1e-12))[:, None]
