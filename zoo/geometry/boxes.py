"""Upright 3D boxes as `(M, 7)` arrays: centre x, y, z, then length, width, height in metres, yaw in radians.

See `README.md` for the frame and the direction of yaw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from zoo.frame import Box3D
from zoo.geometry.transforms import yaw_matrix

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = ["EDGES", "box_array", "box_corners", "boxes_3d", "points_in_box", "wrap_angle"]

EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]])
"""`(12, 2)`: the two corners that each edge joins, as indices into `box_corners`."""

_LENGTHWISE, _SIDEWAYS = np.array([-1.0, 1, 1, -1]), np.array([1.0, 1, -1, -1])


def wrap_angle(angle: float | np.ndarray) -> float | np.ndarray:
    """The same angle wrapped to [-pi, pi), in radians."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def box_array(box: Box3D) -> Float[np.ndarray, "7"]:
    """One box of a frame as a row of `boxes_3d`."""
    return np.array([*box.center, *box.size, box.yaw], float)


def boxes_3d(boxes: Iterable[Box3D]) -> Float[np.ndarray, "M 7"]:
    """The boxes of a frame."""
    return np.array([box_array(box) for box in boxes]).reshape(-1, 7)


def box_corners(boxes: Float[np.ndarray, "*M 7"]) -> Float[np.ndarray, "*M 8 3"]:
    """Corners: rear left, front left, front right, rear right of the lower face, then the same of the upper face."""
    center, half, yaw = boxes[..., :3], boxes[..., 3:6] / 2, boxes[..., 6:]
    x, y = half[..., :1] * _LENGTHWISE, half[..., 1:2] * _SIDEWAYS
    c, s = np.cos(yaw), np.sin(yaw)
    flat = np.stack([c * x - s * y, s * x + c * y], -1)  # (*M, 4, 2)
    z = np.broadcast_to(half[..., 2:, None], (*flat.shape[:-1], 1))
    below, above = np.concatenate([flat, -z], -1), np.concatenate([flat, z], -1)
    return center[..., None, :] + np.concatenate([below, above], -2)


def points_in_box(box: Float[np.ndarray, "7"], points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, " N"]:
    """Which points lie inside one box, its faces included."""
    center, size, yaw = box[:3], box[3:6], box[6]
    out = np.zeros(len(points), bool)
    reach = np.linalg.norm(size)  # most points of a sweep are far from any one box, so only near ones are rotated
    close = np.nonzero(np.abs(points[:, 0] - center[0]) <= reach)[0]
    close = close[np.abs(points[close, 1] - center[1]) <= reach]
    local = (points[close] - center) @ yaw_matrix(yaw)
    out[close] = (np.abs(local) <= size / 2).all(1)
    return out
