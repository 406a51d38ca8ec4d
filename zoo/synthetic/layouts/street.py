"""What is painted on the road: classes that the world's 19 labels do not distinguish.

The renderer keeps no record of paint per pixel. It is recovered from a point's street coordinates and from how bright
and glossy the road is there.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from zoo.synthetic.rendering.street_texture import road_albedo
from zoo.synthetic.scene.network import REACH_M, LegStreet, Stretch
from zoo.synthetic.scene.types import Scene, Street

__all__ = ["Marking", "markings_at", "street_coordinates"]


class Marking(IntEnum):
    """What a point of the road is."""

    NONE = 0
    SOLID = 1
    DASHED = 2
    ZEBRA = 3
    OTHER = 4  # arrows, stop lines, yellow boxes
    PARKING = 5  # between the parking line and the kerb


def street_coordinates(street: Street, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(N,)` metres along and left of the centre line of `(N, 2)` world points, accurate to a centimetre.

    The nearest of points every 2 m along the line is found once for each 4 m cell of the plane. From there a few
    steps lead to the foot of the perpendicular.
    """
    grid = np.arange(street.start - 150.0, street.end + 150.0, 0.5)
    foot = street.to_world(grid, np.zeros_like(grid))[:, :2]
    left = street.to_world(grid, np.ones_like(grid))[:, :2] - foot
    column, row = np.floor(xy / 4).astype(np.int64).T
    cells, cell = np.unique(column * 65536 + row + 32768, return_inverse=True)
    centers = np.stack([cells // 65536, cells % 65536 - 32768], 1) * 4 + 2.0
    line = foot[::4]
    far = (centers**2).sum(1)[:, None] - 2 * centers @ line.T + (line**2).sum(1)
    s = grid[::4][far.argmin(1)][cell]
    t = np.zeros_like(s)
    for _ in range(4):
        x, y, nx, ny = (np.interp(s, grid, values) for values in (*foot.T, *left.T))
        dx, dy = xy[:, 0] - x, xy[:, 1] - y
        t = nx * dx + ny * dy
        s = s + ny * dx - nx * dy
    return s, t


def markings_at(scene: Scene, points: np.ndarray) -> np.ndarray:
    """`(N,)` uint8 `Marking` of `(N, 3)` world points on the road."""
    if not isinstance(scene, Stretch):
        return _markings(scene, *street_coordinates(scene.street, points[:, :2]))
    out = np.zeros(len(points), np.uint8)
    for leg in scene.legs:
        assert isinstance(leg.street, LegStreet)
        s, t = leg.street.locate(points[:, :2])
        own = np.nonzero(leg.street.owns(s, t) & (s > leg.street.start - 60) & (np.abs(t) < REACH_M))[0]
        if len(own):
            out[own] = _markings(leg, s[own], t[own])
    return out


def _markings(scene: Scene, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The same at `(N,)` street coordinates."""
    street = scene.street
    color, gloss = road_albedo(scene, s, t, np.full(len(s), 0.05))
    out = np.zeros(len(s), np.uint8)
    wide, outer = scene.street.lane_width, street.half_width - max(street.parking)
    beside = np.abs(t)
    in_crossing, near_crossing, zebra = (np.zeros(len(s), bool) for _ in range(3))
    for crossing in scene.crossings:
        in_crossing |= (s > crossing.start - 4) & (s < crossing.end + 4)
        near_crossing |= (s > crossing.start - 4.7) & (s < crossing.end + 4.7)
        before = np.maximum(crossing.start - s, s - crossing.end)
        zebra |= crossing.zebra & (before > 0.5) & (before < 3.7)
    for side, width in ((1, street.parking[0]), (-1, street.parking[1])):
        if width > 0:
            out[(side * t > outer) & (side * t < street.half_width) & ~in_crossing] = Marking.PARKING
    # Paint is glossy (a quarter of its cover) and brighter than asphalt; a coloured cycle lane is paint, but dark.
    painted = (gloss > 0.1) & (color.mean(1) > 0.2)
    to_lane = np.abs(beside / wide - np.round(beside / wide)) * wide
    lane = (to_lane < 0.15) & (np.round(beside / wide) < max((street.lanes + 1) // 2, 1))
    middle = (beside < 0.3) & (street.lanes > 1)
    edge = np.abs(beside - outer) < 0.7
    if street.cycle_lane:
        edge |= np.abs(beside - (outer - 1.5)) < 0.15
    out[painted] = Marking.OTHER
    out[painted & edge] = Marking.SOLID
    dashed_middle = middle & (street.markings != 2)
    out[painted & ((lane & (beside > 0.5 * wide)) | dashed_middle)] = Marking.DASHED
    out[painted & middle & (street.markings == 2)] = Marking.SOLID
    out[painted & near_crossing] = Marking.OTHER
    out[painted & zebra] = Marking.ZEBRA
    return out
