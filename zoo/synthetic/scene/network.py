"""Streets that join: the legs of a drive, and the part of them that is near the vehicle at some time.

Every leg is a place with street coordinates of its own. Its street ends at a crossing with the next leg's, which runs
at a right angle to it: the vehicle turns there, and a stub goes straight on. Legs are straight, so that their blocks
abut without gaps, and directions alternate so that no leg ever meets an earlier one. Each point of the ground belongs
to one leg (`LegStreet.owns`). Towards the next leg, a leg's ground takes on that leg's height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.synthetic.scene.types import Ground, Scene, Street, Thing, Way

__all__ = [
    "REACH_M",
    "WORLD",
    "Drive",
    "EgoTrack",
    "LegStreet",
    "Stretch",
    "WorldPlane",
    "ground_heights",
    "leg_of_uv",
    "uv_offset",
]

REACH_M = 75.0
"""From the middle of a street to where its blocks end."""
_JOIN_M = 25.0  # before its end, over which a street takes on the height of the next one
_EDGE_M = 20.0  # the same at the outer edge of its blocks, where they border on those of the next one
_UV_M, _UV_LEGS = 1000.0, 8  # of legs in sight; float32 coordinates stay exact to half a millimetre
_WHEELBASE_M, _TRACK_M = 2.7, 1.5


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


@dataclass(frozen=True, kw_only=True)
class LegStreet(Street):
    """The straight street of one leg. `s` is 0 in the middle of the crossing at which the vehicle turns into it.

    Attributes:
        number: Of the leg, from 0.
        origin: World metres of `s` = `t` = 0.
        quarter_turns: Its direction from the world's x axis, to the left.
        stem: Side on which the previous leg comes in, +1 left, -1 right; 0: there is none.
        onto: The next leg's street.
        first_crossing: Number in the drive of its first crossing.
    """

    number: int
    origin: tuple[float, float, float]
    quarter_turns: int
    stem: int = 0
    onto: LegStreet | None = None
    first_crossing: int = 0

    @cached_property
    def _line(self) -> tuple[np.ndarray, ...]:
        s = np.linspace(self.start, self.end, 400)
        grade = np.interp(s, np.linspace(self.start, self.end, len(self.grade)), self.grade)
        z = np.cumsum(grade) * (s[1] - s[0])
        return s, np.zeros_like(s), s, np.zeros_like(s), z - np.interp(0.0, s, z)

    @property
    def axes(self) -> np.ndarray:
        """`(2, 2)` world directions of `s` and `t`, in rows."""
        c, d = ((1, 0), (0, 1), (-1, 0), (0, -1))[self.quarter_turns % 4]
        return np.array([[c, d], [-d, c]], float)

    def to_world(self, s: np.ndarray, t: np.ndarray | float, h: np.ndarray | float = 0.0) -> np.ndarray:
        """See `Street`."""
        out = super().to_world(s, t, h)
        out[..., :2] = out[..., :2] @ self.axes
        out += np.asarray(self.origin)
        if self.onto is not None:
            s, t, h = (np.broadcast_to(np.asarray(value, float), out.shape[:-1]) for value in (s, t, h))
            share = self._joined(s, t)
            some = share > 0
            if some.any():
                own = out[some]
                theirs = self.onto.to_world(*self.onto.locate(own[..., :2]))[..., 2]
                own[..., 2] += share[some] * (theirs + h[some] - own[..., 2])
                out[some] = own
        return out

    def _joined(self, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """How much of the next street's height a point takes on, 0 to 1."""
        ahead = _smooth(1 - (self.end - s) / _JOIN_M)
        aside = _smooth(1 - (REACH_M - np.abs(t)) / _EDGE_M) * _smooth((s - self.end + REACH_M + _EDGE_M) / _EDGE_M)
        return np.maximum(ahead, aside)

    def headings(self, s: np.ndarray) -> np.ndarray:
        """See `Street`."""
        return np.full(np.shape(s), self.quarter_turns * np.pi / 2)

    def locate(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """s and t of `(..., 2)` world points."""
        st = (np.asarray(xy, float) - self.origin[:2]) @ self.axes.T
        return st[..., 0], st[..., 1]

    def owns(self, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Whether the ground belongs to this leg: not the blocks of the previous one, nor what is beyond its end."""
        theirs = (self.stem * t > self.half_width) & (np.abs(s) < REACH_M)
        return (s <= self.end) & np.logical_not(theirs)


def uv_offset(street: Street) -> float:
    """What the surface coordinates of a leg's ground have in addition to `s`: they say which leg it is."""
    return _UV_M * (street.number % _UV_LEGS) if isinstance(street, LegStreet) else 0.0


def leg_of_uv(s: np.ndarray) -> np.ndarray:
    """`(P,)` int64: the number of the leg, modulo 8, that ground with these surface coordinates belongs to."""
    return np.floor(s / _UV_M + 0.5).astype(np.int64)


class WorldPlane:
    """Coordinates of what drives from leg to leg: s, t and h are the world's x, y and z, and yaw is the world's."""

    start = -np.inf
    end = np.inf

    def to_world(self, s: np.ndarray, t: np.ndarray | float, h: np.ndarray | float = 0.0) -> np.ndarray:
        """See `Street`."""
        return np.stack(np.broadcast_arrays(*(np.asarray(value, float) for value in (s, t, h))), -1)

    def headings(self, s: np.ndarray) -> np.ndarray:
        """See `Street`."""
        return np.zeros(np.shape(s))


WORLD = WorldPlane()


def ground_heights(streets: Sequence[LegStreet], xy: np.ndarray) -> np.ndarray:
    """`(N,)` world heights of the road or of the ground below blocks at `(N, 2)`; not a number outside all legs."""
    out = np.full(len(xy), np.nan)
    for street in streets:
        s, t = street.locate(xy)
        inside = street.owns(s, t) & (s > street.start - 60) & (np.abs(t) <= REACH_M)
        here = np.nonzero(inside & np.isnan(out))[0]
        if len(here):
            out[here] = street.to_world(s[here], t[here])[:, 2]
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class EgoTrack:
    """Where the ego vehicle drives, and when.

    Attributes:
        way: Its `s` are metres along the line.
        line: `(K, 3)` world points of the middle of an axle, on the ground, `step_m` apart from 0 on.
        begins: Metres along the line at which the vehicle has turned into each leg.
    """

    way: Way
    line: np.ndarray
    step_m: float
    begins: tuple[float, ...]

    def along(self, times_s: np.ndarray) -> np.ndarray:
        """Metres along the line at `(N,)` scene times."""
        return self.way.at(np.asarray(times_s, float))[0]

    def poses(self, times_s: np.ndarray) -> np.ndarray:
        """`(N, 4, 4)`, see `Street.poses`: both axles are on the line."""
        x = self.along(times_s)
        here, ahead = (self._at(x + more) for more in (0.0, _WHEELBASE_M))
        forward = ahead - here
        forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
        left = np.cross([0, 0, 1.0], forward)
        left /= np.linalg.norm(left, axis=-1, keepdims=True)
        out = np.tile(np.eye(4), (*np.shape(x), 1, 1))
        out[..., :3, :3] = np.stack([forward, left, np.cross(forward, left)], -1)
        out[..., :3, 3] = here
        return out

    def _at(self, x: np.ndarray) -> np.ndarray:
        u = np.clip(x / self.step_m, 0, len(self.line) - 1.001)
        k = u.astype(np.int64)
        return self.line[k] + (u - k)[..., None] * (self.line[k + 1] - self.line[k])


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch(Scene):
    """The legs of a drive that are near the vehicle for a while; things are those that can move, of all these legs.

    Attributes:
        number: Of the stretch in its drive, from 0.
        legs: As places of their own, with what stands on them.
        drive: The whole drive.
        streets: Of which leg a thing's coordinates are, by its instance; `WORLD` for those that are missing.
    """

    number: int
    legs: tuple[Scene, ...]
    drive: Drive
    streets: Mapping[int, Ground]

    @property
    def parts(self) -> tuple[Scene, ...]:
        """See `Scene`."""
        return self.legs

    def places(self, thing: Thing, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Scene`."""
        return thing.places(self.streets.get(thing.instance, WORLD), times_s)

    def ego_along(self, times_s: np.ndarray) -> np.ndarray:
        """`(N,)` metres along the vehicle's line."""
        return self.drive.ego.along(times_s)

    def ego_poses(self, times_s: np.ndarray) -> np.ndarray:
        """See `Scene`."""
        return self.drive.ego.poses(np.asarray(times_s, float))


@dataclass(frozen=True, kw_only=True, eq=False)
class Drive:
    """A drive from leg to leg.

    Attributes:
        about: The place of the same seed: its light, season and camera are those of the whole drive.
        seconds: How long it is, from scene time 1 s on.
        legs: As places of their own; their movable things are those that keep to the leg.
        travellers: What drives on the streets, in world coordinates.
        ego: The vehicle that carries the sensors.
    """

    about: Scene
    seconds: float
    legs: tuple[Scene, ...]
    travellers: tuple[Thing, ...]
    ego: EgoTrack

    @property
    def seed(self) -> int:
        """Of the drive."""
        return self.about.seed

    @cached_property
    def spans(self) -> tuple[tuple[float, int, int], ...]:
        """Of each stretch: metres along the line at which it begins, its first leg, and the leg after its last one.

        One begins when the vehicle has turned into a leg, and one when it is halfway through: then the leg after the
        next one comes into view at the coming crossing.
        """
        out: list[tuple[float, int, int]] = []
        for k, begin in enumerate(self.ego.begins):
            last = self.ego.begins[k + 1] if k + 1 < len(self.ego.begins) else begin + 200
            out.append((begin if k else -np.inf, max(k - 1, 0), min(k + 2, len(self.legs))))
            out.append(((begin + last) / 2, max(k - 1, 0), min(k + 3, len(self.legs))))
        return tuple(out)

    def stretch_at(self, time_s: float) -> int:
        """Number of the stretch that the vehicle is in."""
        along = float(self.ego.along(np.array(time_s)))
        return max(k for k, span in enumerate(self.spans) if span[0] <= along)

    def stretch(self, number: int) -> Stretch:
        """One stretch as a scene."""
        _, first, last = self.spans[number]
        legs = self.legs[first:last]
        things, streets = list(self.travellers), dict[int, Ground]()
        for leg in legs:
            own = [thing for thing in leg.things if thing.instance >= 0]
            streets |= {thing.instance: leg.street for thing in own}
            things += own
        about = {name: getattr(self.about, name) for name in Scene.__dataclass_fields__}
        about |= {
            "street": self.legs[number // 2].street,
            "crossings": tuple(crossing for leg in self.legs for crossing in leg.crossings),
            "blocks": (),
            "buildings": (),
            "strips": (),
            "things": tuple(things),
            "ego_way": self.ego.way,
        }
        return Stretch(**about, number=number, legs=legs, drive=self, streets=streets)
