"""Rotations and rigid transforms; `README.md` in this folder defines axes, units and the order of quaternions.

Matrices act on column vectors and are named target_from_source, so that chains read from right to left and neighbouring
names agree: `world_from_ego @ ego_from_camera`. All results are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "invert",
    "pitch_matrix",
    "pose",
    "quaternion_from_rotation",
    "roll_matrix",
    "rotation_from_quaternion",
    "transform",
    "yaw_matrix",
]


def yaw_matrix(yaw: float | Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B 3 3"]:
    """Rotation by `yaw` radians about z: x towards y. `yaw_matrix(-yaw)` is its inverse, bit for bit."""
    return _about(0, 1, yaw)


def pitch_matrix(pitch: float | Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B 3 3"]:
    """Rotation by `pitch` radians about y: z towards x. With x forward and z up, positive angles look down."""
    return _about(2, 0, pitch)


def roll_matrix(roll: float | Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B 3 3"]:
    """Rotation by `roll` radians about x: y towards z."""
    return _about(1, 2, roll)


def _about(first: int, second: int, angle: float | np.ndarray) -> np.ndarray:
    """A rotation that turns the axis `first` towards the axis `second`."""
    c, s = np.cos(angle), np.sin(angle)
    out = np.zeros((*np.shape(angle), 3, 3))
    out[..., first, first] = out[..., second, second] = c
    out[..., first, second], out[..., second, first] = -s, s
    out[..., 3 - first - second, 3 - first - second] = 1
    return out


def pose(
    rotation: Float[np.ndarray, "3 3"], translation: Sequence[float] | Float[np.ndarray, "3"]
) -> Float[np.ndarray, "4 4"]:
    """The transform that rotates, then translates by `translation` metres."""
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation
    return out


def invert(a_from_b: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """The inverse of a rigid transform, by transposition, since `np.linalg.inv` would lose precision."""
    rotation = a_from_b[:3, :3]
    return pose(rotation.T, -rotation.T @ a_from_b[:3, 3])


def transform(a_from_b: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Points given in frame b, in frame a."""
    return np.asarray(points, np.float64) @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def rotation_from_quaternion(quaternion: Sequence[float] | Float[np.ndarray, "4"]) -> Float[np.ndarray, "3 3"]:
    """The rotation of a quaternion (w, x, y, z) of any nonzero length."""
    w, x, y, z = np.asarray(quaternion, float) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "4"]:
    """The unit quaternion (w, x, y, z) of a rotation, with w >= 0.

    Computed from its largest component, because the usual formula divides by w, which is 0 for half turns.
    """
    m = np.asarray(rotation, float)
    squares = 1 + np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) @ np.diag(m)  # 4 w^2, 4 x^2, ...
    cross = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])  # 4 w (x, y, z)
    outer = m + m.T  # 4 x y, ... off the diagonal
    largest = int(np.argmax(squares))
    if largest == 0:
        q = np.concatenate([[squares[0]], cross])
    else:
        k = largest - 1
        vector = outer[k].copy()
        vector[k] = squares[largest]
        q = np.concatenate([[cross[k]], vector])
    q /= np.linalg.norm(q)
    return q if q[0] >= 0 else -q
