"""A place as plain data: a `Scene` holds every number that the mesh builder and the camera need.

Street coordinates: `s` metres along the centre line, `t` to its left, `h` above the ground. `Street.to_world` bends
them into the world: x forward, y left, z up, the ego vehicle starting near the origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Protocol

import numpy as np

from zoo.synthetic.scene.relief import Relief
from zoo.synthetic.shapes.surfaces import Material
from zoo.synthetic.shapes.templates import poses_of

__all__ = [
    "MOVABLE",
    "STRIDE_M",
    "Block",
    "Bonnet",
    "Building",
    "CameraSpec",
    "CentreLine",
    "Crossing",
    "EdgeLine",
    "Ground",
    "Optics",
    "Paving",
    "Scene",
    "Sky",
    "Street",
    "Strip",
    "Thing",
    "Way",
]

_WHEELBASE_M, _TRACK_M = 2.7, 1.5

MOVABLE = ("car", "truck", "bus", "train", "motorcycle", "bicycle", "person", "cyclist", "motorcyclist")
"""Kinds of things that can move; some of them are parked or stand."""
_BRAKING_S = 0.25  # over which speeds are compared
STRIDE_M = 1.45
"""Two steps of an adult."""
Color = tuple[float, float, float]
"""Linear reflectance of red, green and blue, 0 to 1."""


class CentreLine(IntEnum):
    """Paint between the two directions."""

    NONE = 0  # nor between lanes of the same direction
    DASHED = 1
    DOUBLE = 2


class EdgeLine(IntEnum):
    """Paint along the kerb."""

    NONE = 0
    SINGLE = 1
    DOUBLE_YELLOW = 2  # no parking, as in Britain


class Paving(IntEnum):
    """What a pavement is made of."""

    SQUARE_SLABS = 0
    LONG_SLABS = 1
    BRICKS = 2
    TARMAC = 3


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A side street between `start` and `end` along the main street, on one side (+1 left, -1 right) or both (0).

    `closed` are the intervals of scene time in which the main street is stopped there, by signals or by people.
    """

    start: float
    end: float
    side: int
    signals: bool
    zebra: bool
    closed: tuple[tuple[float, float], ...] = ()


class Ground(Protocol):
    """Coordinates on the ground: those of a `Street`, or the world's own."""

    @property
    def start(self) -> float:
        """Smallest `s` at which things are there."""

    @property
    def end(self) -> float:
        """Largest `s` at which things are there."""

    def to_world(self, s: np.ndarray, t: np.ndarray | float, h: np.ndarray | float = 0.0) -> np.ndarray:
        """See `Street`."""

    def headings(self, s: np.ndarray) -> np.ndarray:
        """See `Street`."""


@dataclass(frozen=True, kw_only=True)
class Street:
    """The main street.

    Attributes:
        start, end: Metres along the centre line.
        half_width: Metres from the centre line to the kerb.
        lanes: Number of lanes in both directions together (1: no centre line).
        lane_width: Metres.
        bend: Curvature of each of several pieces, 1 / m.
        grade: Slope of the same pieces.
        sidewalk: Width of the pavement left and right, metres.
        verge: Width of grass beyond (or before) the pavement, left and right.
        kerb: Height of the kerb, metres.
        markings: Paint along the centre line and between lanes.
        tram: Whether rails lie in the road.
        shade: Reflectance of the asphalt.
        parking: Width of the parking lane left and right, metres; 0: none.
        edge_line: Paint along the kerb.
        cycle_lane: Whether both sides have a lane for bicycles.
        relief: Heights relative to the plane across the centre line; `None`: level from side to side.
    """

    start: float
    end: float
    half_width: float
    lanes: int
    lane_width: float
    bend: tuple[float, ...]
    grade: tuple[float, ...]
    sidewalk: tuple[float, float]
    verge: tuple[float, float]
    kerb: float
    markings: CentreLine
    tram: bool
    shade: float
    parking: tuple[float, float]
    edge_line: EdgeLine
    cycle_lane: bool
    relief: Relief | None = None

    @cached_property
    def _line(self) -> tuple[np.ndarray, ...]:
        s = np.linspace(self.start, self.end, 400)
        knots = np.linspace(self.start, self.end, len(self.bend))
        bend, grade = np.interp(s, knots, self.bend), np.interp(s, knots, self.grade)
        step = s[1] - s[0]
        origin = int(np.argmin(np.abs(s)))
        heading = np.cumsum(bend) * step
        heading -= heading[origin]
        x, y, z = np.cumsum(np.cos(heading)) * step, np.cumsum(np.sin(heading)) * step, np.cumsum(grade) * step
        return s, heading, x - x[origin], y - y[origin], z - z[origin]

    def to_world(self, s: np.ndarray, t: np.ndarray | float, h: np.ndarray | float = 0.0) -> np.ndarray:
        """`(..., 3)` world metres of points `h` metres above the ground."""
        line = self._line
        s, t, z = np.asarray(s, float), np.asarray(t, float), np.asarray(h, float)
        inside = np.minimum(np.maximum(s, self.start), self.end)
        # The line's stations are evenly spaced: this is `np.interp` of four columns with one search.
        u = (inside - self.start) * ((len(line[0]) - 1) / (self.end - self.start))
        i = np.minimum(u.astype(np.int64), len(line[0]) - 2)
        u = u - i
        heading, x, y, up = ((column[i] + (column[i + 1] - column[i]) * u) for column in line[1:])
        over = s - inside  # beyond its ends the street goes straight on
        if self.relief is not None:
            z = z + self.relief.height(s, t)
        c, d = np.cos(heading), np.sin(heading)
        x, y, z = x + c * over - d * t, y + d * over + c * t, up + z
        out = np.empty((*np.broadcast_shapes(x.shape, z.shape), 3))
        out[..., 0], out[..., 1], out[..., 2] = x, y, z
        return out

    def heading(self, s: float) -> float:
        """Radians from the world's x axis."""
        return float(self.headings(np.asarray(s)))

    def headings(self, s: np.ndarray) -> np.ndarray:
        """Radians from the world's x axis at each of `s`."""
        line = self._line
        return np.interp(s, line[0], line[1])

    def poses(self, s: np.ndarray, t: float) -> np.ndarray:
        """`(N, 4, 4)` world poses of a vehicle `t` metres left of the centre line at `(N,)` places `s`.

        Its origin is in the middle between the wheels of its rear axle; it pitches with its wheels, 2.7 m apart and
        1.5 m wide, and does not roll.
        """
        here, ahead = (self._axle(s + along, t) for along in (0.0, _WHEELBASE_M))
        forward = ahead - here
        forward /= np.linalg.norm(forward, axis=1, keepdims=True)
        left = np.cross([0, 0, 1.0], forward)
        left /= np.linalg.norm(left, axis=1, keepdims=True)
        out = np.tile(np.eye(4), (len(s), 1, 1))
        out[:, :3, :3] = np.stack([forward, left, np.cross(forward, left)], 2)
        out[:, :3, 3] = here
        return out

    def _axle(self, s: np.ndarray, t: float) -> np.ndarray:
        """`(N, 3)` middle between two wheels on the ground."""
        right, left = (self.to_world(s, np.full(len(s), t + side * _TRACK_M / 2)) for side in (-1, 1))
        return (right + left) / 2


@dataclass(frozen=True, kw_only=True)
class Block:
    """The ground between two side streets on one side: rounded corners, pavement, then `yard`.

    A `park` (or field) has hardly a house. `kerb` are places along the street and the height of the kerb there, in
    metres, with straight lines in between; it is lowered at driveways. A metre behind it the block has the street's
    own height.
    """

    start: float
    end: float
    side: int
    corner: float
    sidewalk: float
    verge: float
    verge_first: bool
    yard: str  # grass | paved | gravel
    paving: Paving
    shade: float
    open_start: bool
    open_end: bool
    park: bool = False
    kerb: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Building:
    """A house: its front lies along the street from `s0` to `s1`, `t0` metres from the centre line."""

    s0: float
    s1: float
    t0: float
    side: int
    depth: float
    floors: int
    storey: float
    ground: float
    bay: float
    window: tuple[float, float, float, float]  # low x, high x (of the bay), low z, high z (of the storey)
    recess: float
    wall: Material
    color: Color
    trim: Color
    roof: str  # gable | flat | hip | mansard
    roof_color: Color
    pitch: float
    shop: bool
    shop_color: Color
    awning: bool
    balconies: bool
    cornice: bool
    sills: bool
    chimneys: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A fence, wall, hedge or guard rail along a line of street coordinates."""

    kind: str  # wall | fence | hedge | rail
    line: tuple[tuple[float, float], ...]
    height: float
    variant: int
    color: Color
    seed: int


@dataclass(frozen=True, kw_only=True)
class Way:
    """How something moves: where it is at some moments, in street coordinates, with cubic curves between them.

    Attributes:
        times_s: Scene times, increasing; before the first and after the last the thing is not there.
        s, t: Metres along and left of the street.
        yaw: Radians relative to the street's heading, without jumps; a straight line between the moments, as is `h`.
        h: Metres above the road.
    """

    times_s: tuple[float, ...]
    s: tuple[float, ...]
    t: tuple[float, ...]
    yaw: tuple[float, ...]
    h: tuple[float, ...]

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(K,)` times, `(K, 4)` values and `(K, 2)` speeds along s and t."""
        times = np.asarray(self.times_s)
        values = np.stack([self.s, self.t, self.yaw, self.h], 1)
        step, change = np.diff(times)[:, None], np.diff(values[:, :2], axis=0)
        speed = np.empty((len(times), 2))
        speed[[0, -1]] = change[[0, -1]] / step[[0, -1]]
        # The speed at a moment is the mean of those before and after: along a way that is driven with constant
        # acceleration the cubic is then exact. Where something stops or turns back, it stands for that moment.
        before, after = change[:-1] / step[:-1], change[1:] / step[1:]
        speed[1:-1] = np.where(before * after > 0, (before * step[1:] + after * step[:-1]) / (step[1:] + step[:-1]), 0)
        return times, values, speed

    def at(self, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`(N,)` s, t, yaw, h, and bool: whether it is there. Outside its times it stays where it is at the ends."""
        times, values, speed = self._table
        now = np.asarray(times_s, float)
        inside = np.clip(now, times[0], times[-1])
        k = np.clip(np.searchsorted(times, inside, "right") - 1, 0, len(times) - 2)
        step = times[k + 1] - times[k]
        u = (inside - times[k]) / step
        mixed = values[k] + u[..., None] * (values[k + 1] - values[k])
        # Hermite's cubic, written as what it adds to the straight line.
        slope = (values[k + 1, :2] - values[k, :2]) / step[..., None]
        bow = (1 - u)[..., None] * (speed[k] - slope) - u[..., None] * (speed[k + 1] - slope)
        mixed[..., :2] += (u * (1 - u) * step)[..., None] * bow
        there = (now >= times[0]) & (now <= times[-1])
        return mixed[..., 0], mixed[..., 1], mixed[..., 2], mixed[..., 3], there


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One placed template, in metres and radians.

    It stands at `s`, `t`, `yaw` and `h`, or drives from there at `speed` metres per second along the street (negative:
    oncoming), or follows its `way`, which then counts alone.
    """

    kind: str
    variant: int
    s: float
    t: float
    yaw: float = 0.0  # relative to the street's heading
    h: float = 0.0
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    palette: tuple[Color, ...] = ()
    speed: float = 0.0
    instance: int = -1
    label: int | None = None
    way: Way | None = None

    @property
    def moves(self) -> bool:
        """Whether it changes its place at any time."""
        return self.way is not None or self.speed != 0

    def pose(self, time_s: float) -> int:
        """Which of the poses of `shapes.templates` it has; people who walk take one stride in `STRIDE_M`."""
        if self.way is None or poses_of(self.kind) == 1:
            return 0
        s, t, _, _, _ = self.way.at(np.array(time_s))
        walked = abs(float(s) - self.way.s[0]) + abs(float(t) - self.way.t[0])  # ways have right angles only
        return int(walked / (STRIDE_M * self.scale[2]) * poses_of(self.kind)) % poses_of(self.kind)

    def brakes(self, time_s: float) -> bool:
        """Whether its driver brakes by more than 0.6 m/s², or stands in traffic with a foot on the brake."""
        if self.way is None:
            return False
        s, t, _, _, _ = self.way.at(time_s + _BRAKING_S * np.array([-1.0, 0.0, 1.0]))
        before, after = (np.hypot(np.diff(s), np.diff(t)) / _BRAKING_S).tolist()
        return after < 0.3 or before - after > 0.6 * _BRAKING_S

    def at_rest(self) -> Thing:
        """The same, standing where it is at time 0."""
        if self.way is None:
            return replace(self, speed=0.0)
        s, t, yaw, h, _ = (float(value) for value in self.way.at(np.array(0.0)))
        return replace(self, s=s, t=t, yaw=yaw, h=h, speed=0.0, way=None)

    def places(self, street: Ground, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where it is at `(N,)` scene times.

        Returns:
            `(N, 3)` world metres of its origin, `(N,)` yaw in the world, `(N,)` bool: still on the street.
        """
        if self.way is not None:
            s, t, yaw, h, there = self.way.at(times_s)
            return street.to_world(s, t, h), street.headings(s) + yaw, there & (street.start < s) & (s < street.end)
        s = self.s + self.speed * np.asarray(times_s, float)
        here = street.to_world(s, np.full(s.shape, self.t), self.h)
        return here, street.headings(s) + self.yaw, (street.start < s) & (s < street.end)


@dataclass(frozen=True, kw_only=True)
class Sky:
    """Sun and clouds of a clear day at this place; conditions derive theirs from it."""

    sun_azimuth: float
    sun_elevation: float
    cloud_cover: float
    cloud_scale: float
    cloud_seed: int
    turbidity: float


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """A pinhole camera on the ego vehicle: degrees and metres."""

    fov_deg: float
    height_m: float
    pitch_deg: float
    roll_deg: float
    yaw_deg: float
    forward_m: float = 1.5
    left_m: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Optics:
    """What the camera does to the light."""

    exposure_ev: float
    highlights: float  # 0: exposed for the street, 1: for the brightest parts, mostly the sky
    white_balance: Color
    contrast: float
    gamma: float
    saturation: float
    vignetting: float
    blur_px: float
    sharpen: float
    noise: float
    jpeg_quality: int
    flare: float
    black: float


@dataclass(frozen=True, kw_only=True)
class Bonnet:
    """The part of the ego vehicle in front of its camera: metres below and ahead of the camera."""

    below: float
    ahead: float
    variant: int
    color: Color


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One place with everything in it."""

    seed: int
    street: Street
    crossings: tuple[Crossing, ...]
    blocks: tuple[Block, ...]
    buildings: tuple[Building, ...]
    strips: tuple[Strip, ...]
    things: tuple[Thing, ...]
    hills: tuple[tuple[float, float, float], ...]  # azimuth, width (radians), height (m)
    foliage: tuple[Color, ...]
    sky: Sky
    camera: CameraSpec
    optics: Optics
    ego_lane: float
    ego_speed: float
    ego_start: float
    season: str  # summer | spring | autumn | winter
    bonnet: Bonnet | None
    kind: str  # of `kinds.PLACE_KINDS`
    ego_way: Way | None = None  # otherwise the ego drives at its speed

    @property
    def parts(self) -> tuple[Scene, ...]:
        """The streets with their blocks, one by one; a place has a single one."""
        return (self,)

    def places(self, thing: Thing, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`Thing.places` of one of its things."""
        return thing.places(self.street, times_s)

    def ego_along(self, times_s: np.ndarray) -> np.ndarray:
        """`(N,)` metres along the street of the ego vehicle at `(N,)` scene times."""
        times_s = np.asarray(times_s, float)
        if self.ego_way is None:
            return self.ego_start + self.ego_speed * times_s
        return self.ego_way.at(times_s)[0]

    def ego_poses(self, times_s: np.ndarray) -> np.ndarray:
        """`(N, 4, 4)` poses of the ego vehicle at `(N,)` scene times; it drives along its lane."""
        return self.street.poses(self.ego_along(times_s), self.ego_lane)

    def at_rest(self) -> Scene:
        """The place as it is at time 0, with everything standing still, the ego vehicle included."""
        here = [thing for thing in self.things if thing.way is None or bool(thing.way.at(np.array(0.0))[4])]
        things = tuple(thing.at_rest() for thing in here)
        start = float(self.ego_along(np.array(0.0)))
        return replace(self, things=things, ego_start=start, ego_speed=0.0, ego_way=None)
