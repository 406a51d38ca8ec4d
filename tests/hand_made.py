"""What tests of several layouts place by hand: poses, a camera that looks ahead, a car."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from zoo.frame import Box3D, Frame
from zoo.synthetic.layouts import Place, Rendered
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.types import Scene

AHEAD = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])  # vehicle axes from those of a camera that looks ahead
K = np.array([[100.0, 0, 64], [0, 100, 32], [0, 0, 1]])


def pose(x: float, y: float, z: float, yaw: float = 0.0, rotation: np.ndarray | None = None) -> np.ndarray:
    """`(4, 4)`: turned by `rotation`, then by `yaw`, then moved."""
    c, s = np.cos(yaw), np.sin(yaw)
    out = np.eye(4)
    out[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ (np.eye(3) if rotation is None else rotation)
    out[:3, 3] = x, y, z
    return out


def place(number: int = 0, split: str = "train", sequence: int = 0, seed: int = 56) -> Place:
    """Frame `number` of two."""
    return Place(split=split, seed=seed, sequence=sequence, number=number, index=number, count=2)


@lru_cache
def described(seed: int) -> Scene:
    """A city street, with fronts and poles on both sides, kept."""
    return describe(seed, Choices(kinds=("city",)))


def rendered_frame(frame: Frame, seed: int = 56) -> Rendered:
    """`frame` as if it had been rendered at the place `seed`."""
    return Rendered(frame=frame, scene=described(seed))


def car(ahead_m: float, num_points: int) -> Box3D:
    """A car of 4 x 2 x 1.5 m, 2 m to the left, that stands along the street."""
    return Box3D(
        label=13,
        track=5,
        center=np.array([ahead_m, 2.0, 0.75]),
        size=np.array([4.0, 2.0, 1.5]),
        yaw=0.0,
        velocity=np.zeros(3),
        kind="car",
        visibility=0.9,
        num_points=num_points,
    )
