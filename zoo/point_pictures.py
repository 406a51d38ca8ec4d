"""Pictures of lidar points from above and from the sensor, drawn with NumPy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped, UInt8

__all__ = ["bird_view", "labelled_colors", "range_view"]

_BACKGROUND = np.array((18, 18, 22), np.uint8)
_RINGS_M = 10.0
_RING = np.array((44, 44, 52), np.uint8)


def bird_view(
    points: Float[np.ndarray, "N 3"], colors: UInt8[np.ndarray, "N 3"], *, pixels: int = 800, extent_m: float = 50.0
) -> UInt8[np.ndarray, "P P 3"]:
    """The points from above: forward is up, left is left, the sensor is in the middle.

    A higher point hides a lower one. Each ring is 10 m farther from the sensor.

    Args:
        points: Metres; columns forward, left, up.
        colors: RGB of each point.
        pixels: Side of the picture.
        extent_m: Distance from the sensor to the edges.
    """
    scale = pixels / (2 * extent_m)
    centre = (np.arange(pixels) + 0.5) / scale - extent_m
    distance = np.hypot(centre[:, None], centre)
    ring = np.abs(distance - _RINGS_M * np.maximum(np.round(distance / _RINGS_M), 1)) < 0.6 / scale
    picture = np.where(ring[..., None], _RING, _BACKGROUND)
    row = np.floor((extent_m - points[:, 0]) * scale).astype(np.int64)
    column = np.floor((extent_m - points[:, 1]) * scale).astype(np.int64)
    inside = np.flatnonzero((row >= 0) & (row < pixels) & (column >= 0) & (column < pixels))
    order = inside[np.argsort(points[inside, 2], kind="stable")]
    picture[row[order], column[order]] = colors[order]
    return picture


def range_view(
    points: Float[np.ndarray, "N 3"],
    colors: UInt8[np.ndarray, "N 3"],
    *,
    rows: int = 64,
    columns: int = 1024,
    row_pixels: int = 3,
) -> UInt8[np.ndarray, "H W 3"]:
    """The points as the sensor sees them: straight ahead is in the middle, left is left, up is up.

    The nearest point of a cell is drawn.

    Args:
        points: Metres; columns forward, left, up.
        colors: RGB of each point.
        rows: Cells between the lowest and the highest elevation, without the outermost 0.1 % of the points.
        columns: Cells of 360 degrees.
        row_pixels: Height of a cell in pixels; it is one pixel wide.
    """
    picture = np.broadcast_to(_BACKGROUND, (rows, columns, 3)).copy()
    distance = np.linalg.norm(points, axis=1)
    seen = np.flatnonzero(distance > 1e-3)
    if len(seen):
        elevation = np.arcsin(np.clip(points[seen, 2] / distance[seen], -1, 1))
        low, high = np.quantile(elevation, (0.001, 0.999))
        row = np.clip(((high - elevation) / max(high - low, 1e-6) * rows).astype(np.int64), 0, rows - 1)
        azimuth = np.arctan2(points[seen, 1], points[seen, 0])  # to the left
        column = np.floor((0.5 - azimuth / (2 * np.pi)) * columns).astype(np.int64) % columns
        order = np.argsort(-distance[seen], kind="stable")
        picture[row[order], column[order]] = colors[seen[order]]
    return np.repeat(picture, row_pixels, axis=0)


def labelled_colors(labels: Shaped[np.ndarray, " N"], palette: UInt8[np.ndarray, "256 3"]) -> UInt8[np.ndarray, "N 3"]:
    """RGB of each point; a dim grey for points without a class."""
    table = palette.copy()
    table[(table == 0).all(1)] = (70, 70, 70)
    return table[labels]
