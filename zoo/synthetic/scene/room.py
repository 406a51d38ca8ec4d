"""Which ground is taken: nothing stands in anything else, and nothing moves through it.

Everything that is solid is a rectangle on the ground in world metres, whatever its height. Of trees, lamps and signals
only the stem counts: their crowns and arms are above everybody's head. What moves is looked at every quarter
of a second (`driving.STEP_S`), in which even the fastest vehicle covers less than its own length.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from zoo.synthetic.scene.types import Building, Ground, Strip, Thing
from zoo.synthetic.shapes.surfaces import Material
from zoo.synthetic.shapes.templates import poses_of, template

__all__ = ["Room", "Shape", "footprint", "stem"]

_GAP_M = 0.12  # left free around everything
_STEM_M = {"lamp": 0.15, "traffic_light": 0.35, "mast": 0.2}
"""Half the width of what stands on the ground, per unit of scale."""
_HEADROOM_M = 1.9  # branches above are in nobody's way
_PIECE_M = 4.0  # of a fence or wall: short enough to follow a bend
_PASSABLE = ("grass",)
_GROWING = ("bush", "thicket", "grove")
"""Plants that may grow into each other and into fences, hedges and walls."""

Shape = tuple[float, float, float, float]
"""Middle and half lengths of a rectangle in a thing's own axes: x, y, half length, half width, metres."""


@lru_cache(maxsize=2048)
def _outline(kind: str, variant: int) -> tuple[np.ndarray, np.ndarray]:
    every = np.concatenate([template(kind, variant, pose).vertices[:, :2] for pose in range(poses_of(kind))])
    return every.min(0).astype(float), every.max(0).astype(float)


@lru_cache(maxsize=2048)
def _trunk(kind: str, variant: int, below: float) -> float:
    """How far trunk and branches of a tree reach from its middle, up to the height `below`; metres."""
    mesh = template(kind, variant)
    wood = (mesh.material == Material.BARK) | (mesh.material == Material.BRANCH)
    bark = mesh.vertices[mesh.faces[wood]]  # (M, 3, 3)
    low = bark[bark[..., 2].min(1) < below]
    return float(np.abs(low[low[..., 2] < below + 0.3][:, :2]).max())


def stem(thing: Thing) -> float | None:
    """Half the width of the part that stands on the ground, if the rest is above everybody's head; metres."""
    if thing.kind in ("tree", "conifer"):
        below = float(np.ceil(2 * _HEADROOM_M / thing.scale[2])) / 2  # few values, so that they are kept
        return _trunk(thing.kind, thing.variant, below) * thing.scale[0] + 0.05
    return _STEM_M[thing.kind] * thing.scale[0] if thing.kind in _STEM_M else None


def footprint(thing: Thing, rider: Thing | None = None) -> Shape:
    """The rectangle of the ground that a thing takes up, with its rider, in its own axes."""
    half = stem(thing)
    if half is not None:
        return 0.0, 0.0, half, half
    low, high = (edge * np.asarray(thing.scale[:2]) for edge in _outline(thing.kind, thing.variant))
    if rider is not None:
        above = _outline(rider.kind, rider.variant)
        low, high = np.minimum(low, above[0]), np.maximum(high, above[1])
    middle, size = (low + high) / 2, (high - low) / 2
    return float(middle[0]), float(middle[1]), float(size[0]), float(size[1])


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(P,)` bool: whether rectangles do not meet. Rows are x, y, cosine and sine of the yaw, half length and width.

    They are apart if one of their four axes separates them.
    """
    gap = b[:, :2] - a[:, :2]
    c = a[:, 2] * b[:, 2] + a[:, 3] * b[:, 3]  # of the angle between them
    s = np.abs(a[:, 2] * b[:, 3] - a[:, 3] * b[:, 2])
    c = np.abs(c)
    free = np.zeros(len(a), bool)
    for one, other in ((a, b), (b, a)):
        along = np.abs(gap[:, 0] * one[:, 2] + gap[:, 1] * one[:, 3])
        aside = np.abs(gap[:, 1] * one[:, 2] - gap[:, 0] * one[:, 3])
        free |= along > one[:, 4] + other[:, 4] * c + other[:, 5] * s + _GAP_M
        free |= aside > one[:, 5] + other[:, 4] * s + other[:, 5] * c + _GAP_M
    return free


class Room:
    """The rectangles of everything solid at a place."""

    def __init__(self, street: Ground) -> None:
        self._street = street
        self.times_s = np.zeros(1)
        self._still = np.zeros((256, 6))  # the first `_still_count` are in use
        self._yields = np.zeros(256, bool)  # to plants that grow into them
        self._circles = np.zeros((3, 256))  # x, y and radius around them
        self._spans: list[tuple[float, float, float, float]] = []  # from s, to s, from t, to t of what stands
        self._still_count = 0
        self._moving = np.zeros((0, 1, 6))  # the first `_count` are in use
        self._bounds = np.zeros((0, 4))  # of each one's whole way
        self._count = 0

    def add_building(self, house: Building) -> None:
        """A house: a rigid box whose front follows the street's direction at its middle, with its steps and pipes."""
        s, t = (house.s0 + house.s1) / 2, house.side * (house.t0 + house.depth / 2 - 0.1)
        # The house stands on the point of its front, and its depth is measured at a right angle to the street there.
        x, y, _ = self._street.to_world(np.array(s), np.array(t))
        yaw = float(self._street.headings(np.asarray(s)))
        half = (house.s1 - house.s0) / 2, house.depth / 2 + 0.2
        self._add_still(np.array([x, y, np.cos(yaw), np.sin(yaw), *half]))
        near, far = sorted((house.side * (house.t0 - 0.3), house.side * 200.0))
        self._spans.append((house.s0, house.s1, near, far))

    def add_strip(self, strip: Strip) -> None:
        """A fence, wall, hedge or guard rail."""
        (s0, t0), (s1, t1) = strip.line
        count = max(1, int(np.ceil(np.hypot(s1 - s0, t1 - t0) / _PIECE_M)))
        part = np.linspace(0, 1, count + 1)
        ends = self._street.to_world(s0 + part * (s1 - s0), t0 + part * (t1 - t0))[:, :2]
        middle, along = (ends[1:] + ends[:-1]) / 2, np.diff(ends, axis=0)
        length = np.linalg.norm(along, axis=1)
        half = {"hedge": 1.0, "wall": 0.25, "fence": 0.08, "rail": 0.15}[strip.kind]
        for (x, y), (c, s), reach in zip(middle, along / length[:, None], length):
            self._add_still(np.array([x, y, c, s, reach / 2 + 0.1, half]), yields=True)
        self._spans.append((min(s0, s1), max(s0, s1), min(t0, t1) - half, max(t0, t1) + half))

    def add_still(self, other: Room) -> None:
        """Everything that stands in another room."""
        for row, yields in zip(other._still[: other._still_count], other._yields):
            self._add_still(row, bool(yields))

    def follow_part(self, other: Room, part: slice, times_s: np.ndarray) -> None:
        """What moves in another room, at `part` of its times, which are called `times_s` here."""
        self.follow(times_s)
        for rows in other._moving[: other._count, part]:
            if not np.isnan(rows[:, 0]).all():
                self._add_moving(rows)

    def follow(self, times_s: np.ndarray) -> None:
        """Looks at what moves at `times_s` from now on; nothing that moves may have been added before."""
        self.times_s = times_s
        self._moving = np.zeros((0, len(times_s), 6))

    def add_ego(self, x: np.ndarray, y: np.ndarray, yaw: np.ndarray) -> None:
        """The vehicle with the sensors: world metres and radians at each of `times_s`."""
        size = np.full((2, len(x)), [[2.5], [1.1]])
        self._add_moving(np.stack([x, y, np.cos(yaw), np.sin(yaw), *size], 1))

    def take(self, thing: Thing, rider: Thing | None = None) -> bool:
        """Reserves room for `thing`; false if something is in its way, at any time."""
        if thing.kind in _PASSABLE:
            return True
        rows = self._rows(thing, rider)
        if thing.moves:
            return self._take_moving(rows)
        if not self._take_still(rows, thing.kind in _GROWING):
            return False
        c, s = abs(np.cos(thing.yaw)), abs(np.sin(thing.yaw))
        long, wide = c * rows[0, 4] + s * rows[0, 5], s * rows[0, 4] + c * rows[0, 5]
        self._spans.append((thing.s - long, thing.s + long, thing.t - wide, thing.t + wide))
        return True

    def open_lanes(self, s0: float, s1: float, t: np.ndarray, half: float) -> np.ndarray:
        """`(N,)` bool: whether nothing that stands is in a lane along the street, `half` to each side of `t` (N,).

        Roughly, and much faster than `take`, which decides.
        """
        low, high = min(s0, s1) - half, max(s0, s1) + half
        spans = np.asarray(self._spans).reshape(-1, 4)
        spans = spans[(spans[:, 0] < high) & (spans[:, 1] > low)]
        taken = (spans[:, 2, None] < t + half) & (spans[:, 3, None] > t - half)
        return np.logical_not(taken.any(axis=0))

    def _rows(self, thing: Thing, rider: Thing | None) -> np.ndarray:
        """`(T, 6)` rectangles of a thing at all times, not a number where it is not there; `(1, 6)` if it stands."""
        times = self.times_s if thing.moves else np.zeros(1)
        where, yaw, there = thing.places(self._street, times)
        x, y, length, width = footprint(thing, rider)
        c, s = np.cos(yaw), np.sin(yaw)
        rows = np.empty((len(times), 6))
        rows[:, 0], rows[:, 1] = where[:, 0] + c * x - s * y, where[:, 1] + s * x + c * y
        rows[:, 2], rows[:, 3], rows[:, 4], rows[:, 5] = c, s, length, width
        if thing.moves:
            rows[~there, :2] = np.nan
        return rows

    def _take_still(self, row: np.ndarray, grows: bool) -> bool:
        if self._meets_still(row, grows) or self._meets_moving(np.broadcast_to(row, (len(self.times_s), 6))):
            return False
        self._add_still(row[0], grows)
        return True

    def _add_still(self, row: np.ndarray, yields: bool = False) -> None:
        if self._still_count == len(self._still):
            self._still = np.concatenate([self._still, np.zeros_like(self._still)])
            self._yields = np.concatenate([self._yields, np.zeros_like(self._yields)])
            self._circles = np.concatenate([self._circles, np.zeros_like(self._circles)], 1)
        self._still[self._still_count], self._yields[self._still_count] = row, yields
        self._circles[:, self._still_count] = row[0], row[1], np.hypot(row[4], row[5])
        self._still_count += 1

    def _take_moving(self, rows: np.ndarray) -> bool:
        present = rows[~np.isnan(rows[:, 0])]
        if not len(present) or self._meets_still(present) or self._meets_moving(rows):
            return False
        self._add_moving(rows)
        return True

    def _add_moving(self, rows: np.ndarray) -> None:
        if self._count == len(self._moving):
            more = np.full((self._count + 64, len(rows), 6), np.nan)
            more[: self._count] = self._moving
            self._moving = more
            self._bounds = np.concatenate([self._bounds, np.zeros((64, 4))])
        self._moving[self._count] = rows
        self._bounds[self._count] = _bounds(rows)
        self._count += 1

    def _meets_still(self, rows: np.ndarray, grows: bool = False) -> bool:
        count = self._still_count
        low, high = rows[:, :2].min(0), rows[:, :2].max(0)
        middle, half = (low + high) / 2, (high - low) / 2 + float(np.hypot(rows[0, 4], rows[0, 5])) + _GAP_M
        x, y, reach = self._circles[:, :count]
        near = (np.abs(x - middle[0]) < reach + half[0]) & (np.abs(y - middle[1]) < reach + half[1])
        if grows:
            near &= ~self._yields[:count]
        found = np.nonzero(near)[0]
        return bool(len(found)) and _meet(rows[None], self._still[found][:, None])

    def _meets_moving(self, rows: np.ndarray) -> bool:
        bounds, own = self._bounds[: self._count], _bounds(rows)
        near = np.nonzero((bounds[:, :2] < own[2:]).all(1) & (bounds[:, 2:] > own[:2]).all(1))[0]
        return bool(len(near)) and _meet(self._moving[near], rows[None])


def _bounds(rows: np.ndarray) -> np.ndarray:
    """Smallest and largest x and y that a thing comes to."""
    reach = np.hypot(rows[0, 4], rows[0, 5]) + _GAP_M
    return np.concatenate([np.nanmin(rows[:, :2], 0) - reach, np.nanmax(rows[:, :2], 0) + reach])


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether rectangles meet: `(A, T, 6)` against `(B, T, 6)`, where A, B and T may be 1."""
    x, y = a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]
    reach = np.hypot(a[:, :1, 4], a[:, :1, 5]) + np.hypot(b[:, :1, 4], b[:, :1, 5]) + _GAP_M
    close = np.nonzero(x * x + y * y < reach * reach)  # false where one of them is not there
    if not len(close[0]):
        return False
    shape = (*x.shape, 6)
    return not _apart(np.broadcast_to(a, shape)[close], np.broadcast_to(b, shape)[close]).all()
