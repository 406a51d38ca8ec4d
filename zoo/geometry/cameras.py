"""Cameras: x right, y down, z forward; the centre of the first pixel is (0, 0). See `README.md`.

They are pinholes, or have a lens of `zoo.geometry.distortion` where one is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.geometry.distortion import Distortion

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = [
    "VEHICLE_FROM_OPTICAL",
    "inside_image",
    "intrinsics_from_fov",
    "intrinsics_matrix",
    "pixel_rays",
    "project",
    "rays_through",
    "scale_intrinsics",
]

VEHICLE_FROM_OPTICAL = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
"""`(3, 3)` rotation from the axes of a forward-looking camera to vehicle axes (x forward, y left, z up)."""


def intrinsics_matrix(fx: float, fy: float, cx: float, cy: float) -> Float[np.ndarray, "3 3"]:
    """Pixels from directions: focal lengths and principal point, in pixels."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def intrinsics_from_fov(fov_deg: float, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Intrinsics with square pixels and the principal point at the image centre.

    Args:
        fov_deg: Field of view of the longer side, outer edge to outer edge.
        size: (height, width) in pixels.
    """
    height, width = size
    focal = max(height, width) / 2 / np.tan(np.radians(fov_deg) / 2)
    return intrinsics_matrix(focal, focal, (width - 1) / 2, (height - 1) / 2)


def scale_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], new_size: tuple[int, int]
) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of the same view when an image of `size` is resized to `new_size`, both (height, width).

    Resizing maps the image's outer edges onto each other, so the principal point is scaled from the edge at -0.5.
    """
    tall, wide = new_size[0] / size[0], new_size[1] / size[1]
    out = np.array(intrinsics, float)
    out[0, :2] *= wide
    out[1, :2] *= tall
    out[0, 2] = (intrinsics[0, 2] + 0.5) * wide - 0.5
    out[1, 2] = (intrinsics[1, 2] + 0.5) * tall - 0.5
    return out


def pixel_rays(
    intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], distortion: Distortion | None = None
) -> Float[np.ndarray, "HW 3"]:
    """Directions through the centres of all pixels, row by row, in camera axes. z is 1, so a length along z is a depth.

    Args:
        intrinsics: In pixels, without skew.
        size: (height, width).
        distortion: Of the lens; `None`: a pinhole.
    """
    height, width = size
    if distortion is not None:
        row, column = np.divmod(np.arange(height * width), width)
        return rays_through(np.stack([column, row], 1), intrinsics, distortion)
    x = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
    grid = np.ones((height, width, 3))
    grid[..., 0], grid[..., 1] = x, y[:, None]
    return grid.reshape(-1, 3)


def rays_through(
    pixels: Float[np.ndarray, "N 2"], intrinsics: Float[np.ndarray, "3 3"], distortion: Distortion | None = None
) -> Float[np.ndarray, "N 3"]:
    """Directions through pixels (x, y) in camera axes, with z 1.

    Args:
        pixels: Inside the image, where there is a distortion.
        intrinsics: In pixels, without skew.
        distortion: Of the lens; `None`: a pinhole.
    """
    xy = (pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    if distortion is not None:
        xy = distortion.undistort(xy)
    return np.concatenate([xy, np.ones((len(xy), 1))], 1)


def project(
    points: Float[np.ndarray, "N 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    nearest_m: float = 1e-6,
    distortion: Distortion | None = None,
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
    """Pixels (x, y), and depths in metres, of points in camera axes.

    Args:
        points: In metres.
        intrinsics: In pixels.
        nearest_m: Depths are clamped to this minimum. The pixels of points that are nearer or behind the camera are
            meaningless; check the returned depths.
        distortion: Of the lens; `None`: a pinhole.
    """
    if distortion is not None:
        bent = distortion.distort(points[:, :2] / np.maximum(points[:, 2:], nearest_m))
        return bent * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2], points[:, 2]
    pixels = points @ intrinsics.T
    return pixels[:, :2] / np.maximum(points[:, 2:], nearest_m), points[:, 2]


def inside_image(pixels: Float[np.ndarray, "N 2"], size: tuple[int, int]) -> Bool[np.ndarray, " N"]:
    """Which pixels (x, y) lie in an image of `size` (height, width); its edges are half a pixel beyond the centres."""
    x, y = pixels[:, 0], pixels[:, 1]
    return (x > -0.5) & (y > -0.5) & (x < size[1] - 0.5) & (y < size[0] - 0.5)
