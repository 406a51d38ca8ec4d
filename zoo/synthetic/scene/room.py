"""Which parts of the street are taken: no vehicle stands in another one or drives through it."""

from __future__ import annotations

import numpy as np

from zoo.geometry.transforms import yaw_matrix
from zoo.synthetic.scene.types import Thing
from zoo.synthetic.shapes.templates import template

__all__ = ["Room", "footprint"]

_SECONDS = 10.0  # of scene time that vehicles keep apart: longer than a place's frames with the rig `camera`
_GAP = 0.1  # metres


def footprint(thing: Thing) -> tuple[float, float, float, float]:
    """(s, t, half length, half width) of the rectangle around a thing along the street at time 0, metres."""
    vertices = template(thing.kind, thing.variant).vertices[:, :2] * np.asarray(thing.scale[:2])
    turned = vertices @ np.ascontiguousarray(yaw_matrix(-thing.yaw)[:2, :2])
    low, high = turned.min(0), turned.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    return thing.s + float(middle[0]), thing.t + float(middle[1]), float(half[0]), float(half[1])


class Room:
    """The rectangles of everything that drives or stands on the street, in street coordinates, starting with the ego.

    Each moves along the street at a constant speed. Two meet if they overlap sideways and their distance along the
    street falls below the sum of their half lengths within the time looked at. A long vehicle cuts the corner in a bend
    and so needs more width: `bend` is the street's largest curvature, 1 / m.
    """

    def __init__(self, ego_s: float, ego_t: float, ego_speed: float, bend: float) -> None:
        self._bend = bend
        self._taken = [(ego_s, ego_t, 2.4, 0.95, ego_speed)]

    def take(self, thing: Thing, seconds: float = _SECONDS) -> bool:
        """Reserves room for `thing`; false if another vehicle is there, or comes within `seconds`."""
        s, t, length, width = footprint(thing)
        width += self._bend * length**2 / 2
        length /= 1 - min(self._bend * abs(t), 0.5)  # a metre of street is shorter on the inside of a bend
        taken = np.array(self._taken)
        ahead = taken[:, 0] - s
        later = ahead + (taken[:, 4] - thing.speed) * seconds
        nearest = np.where(ahead * later <= 0, 0.0, np.minimum(np.abs(ahead), np.abs(later)))
        beside = np.abs(taken[:, 1] - t) < taken[:, 3] + width + _GAP
        if (beside & (nearest < taken[:, 2] + length + _GAP)).any():
            return False
        self._taken.append((s, t, length, width, thing.speed))
        return True
