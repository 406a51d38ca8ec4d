"""Who moves along the street and across it: the ego vehicle, trams, traffic in lanes, cyclists, side streets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import numpy as np

from zoo.synthetic.scene.colors import person_palette, vehicle_palette
from zoo.synthetic.scene.kinds import PLACE_KINDS
from zoo.synthetic.scene.room import Room
from zoo.synthetic.scene.types import Crossing, Street, Thing
from zoo.synthetic.shapes.templates import VARIANTS

__all__ = ["Ego", "Placer", "add_across", "add_along", "draw_ego"]

_LAST_VEHICLE_M = 170.0
_LENGTHS_M = {"car": 4.6, "truck": 10.0, "bus": 12.0, "train": 40.0, "motorcycle": 2.0, "bicycle": 1.8}
"""Street that a vehicle takes up, for the distance to the next one."""
_CYCLE_M = 2.0
_RIDER_OF = {"bicycle": "cyclist", "motorcycle": "motorcyclist"}


@dataclass(frozen=True, kw_only=True)
class Ego:
    """The vehicle that carries the sensors.

    Attributes:
        keep: Side of the street that traffic along +s keeps to: -1 right, +1 left.
        lane_index: Of its lane, from the middle of the street.
        lane: Metres left of the centre line.
        speed: Metres per second.
        start: Metres along the street at time 0.
    """

    keep: int
    lane_index: int
    lane: float
    speed: float
    start: float


def lanes_each_way(street: Street) -> int:
    """Lanes per direction."""
    return max(1, street.lanes // 2)


def draw_ego(rng: np.random.Generator, street: Street) -> Ego:
    """Side, lane and speed of the ego vehicle."""
    keep = -1 if rng.random() < 0.6 else 1
    lane_index = int(rng.integers(0, lanes_each_way(street)))
    return Ego(
        keep=keep,
        lane_index=lane_index,
        lane=float(keep * (lane_index + 0.5) * street.lane_width),
        speed=float(rng.uniform(4, 13)),
        start=float(rng.uniform(0, 20)),
    )


class Placer:
    """Collects the things of a place: gives each an instance number and keeps vehicles apart."""

    def __init__(self, rng: np.random.Generator, street: Street, ego: Ego) -> None:
        self.rng = rng
        self.things: list[Thing] = []
        self._numbers = count()
        self._room = Room(ego.start, ego.lane, ego.speed, max(abs(bend) for bend in street.bend))

    def number(self) -> int:
        """The next instance number. One that is drawn and not used stays unused: numbers only have to differ."""
        return next(self._numbers)

    def vehicle(self, s: float, t: float, *, yaw: float = 0.0, speed: float = 0.0, kind: str | None = None) -> float:
        """Adds a vehicle where there is room for it; without a `kind` as skewed as real traffic: mostly cars.

        Returns:
            Metres of street that it takes up, whether it was added or not.
        """
        rng = self.rng
        what = kind or str(
            rng.choice(["car", "truck", "bus", "motorcycle", "cyclist"], p=[0.81, 0.045, 0.04, 0.06, 0.045])
        )
        variant = int(rng.integers(VARIANTS))
        if what == "cyclist":
            return self._ridden("bicycle", variant, s, t, yaw, speed)
        if what == "motorcycle" and speed != 0:
            variant = int(rng.integers(VARIANTS))
            return self._ridden("motorcycle", variant, s, t, yaw, speed)
        scale = tuple(rng.uniform(0.95, 1.05, 3))
        thing = Thing(
            kind=what,
            variant=variant,
            s=s,
            t=t,
            yaw=yaw,
            scale=scale,
            palette=vehicle_palette(rng),
            speed=speed,
            instance=self.number(),
        )
        if self._room.take(thing):
            self.things.append(thing)
        return _LENGTHS_M[what]

    def _ridden(self, cycle: str, variant: int, s: float, t: float, yaw: float, speed: float) -> float:
        """A cycle and, as the thing right after it, its rider: `truth.boxes` joins the two by that order."""
        rider_palette = person_palette(self.rng)
        ridden = Thing(
            kind=cycle,
            variant=variant,
            s=s,
            t=t,
            yaw=yaw,
            palette=vehicle_palette(self.rng),
            speed=speed,
            instance=self.number(),
        )
        if self._room.take(ridden):
            rider = Thing(
                kind=_RIDER_OF[cycle],
                variant=variant,
                s=s,
                t=t,
                yaw=yaw,
                palette=rider_palette,
                speed=speed,
                instance=self.number(),
            )
            self.things += [ridden, rider]
        return _CYCLE_M

    def crossing_person(self, person: Thing) -> None:
        """Adds somebody who stands on the road, unless a vehicle comes by within two seconds."""
        if self._room.take(person, seconds=2.0):
            self.things.append(person)


def add_along(placer: Placer, street: Street, ego: Ego) -> None:
    """Trams, traffic in all lanes, and cyclists near the kerb."""
    if street.tram and placer.rng.random() < 0.75:
        _add_tram(placer, street, ego)
    _add_traffic(placer, street, ego)
    if placer.rng.random() < 0.35:
        _add_cyclists(placer, street, ego)


def _facing(along: bool) -> float:
    return 0.0 if along else np.pi


def _add_tram(placer: Placer, street: Street, ego: Ego) -> None:
    rng = placer.rng
    s = ego.start + float(rng.uniform(45, 130))
    direction = int(rng.choice([ego.keep, -ego.keep]))
    speed = float(rng.choice([0.0, rng.uniform(4, 13)])) * (1 if direction == ego.keep else -1)
    before = len(placer.things)
    for way, pace in ((direction, speed), (ego.keep, ego.speed)):  # where the ego would graze it, it drives ahead
        if len(placer.things) == before:
            yaw = _facing(way == ego.keep)
            placer.vehicle(s, way * street.lane_width / 2, yaw=yaw, speed=pace, kind="train")


def _add_traffic(placer: Placer, street: Street, ego: Ego) -> None:
    rng = placer.rng
    density = float(rng.choice([0.0, 0.02, 0.035, 0.06]))  # vehicles per metre and lane
    for direction in (ego.keep, -ego.keep):
        for lane in range(lanes_each_way(street)):
            t = direction * (lane + 0.5) * street.lane_width
            forward = 1.0 if direction == ego.keep else -1.0
            own = direction == ego.keep and lane == ego.lane_index
            s = ego.start + float(rng.uniform(14, 40) if own else rng.uniform(-30, 25))
            speed = ego.speed if own else float(rng.uniform(3, 13))
            while s < _LAST_VEHICLE_M and density > 0:
                jitter = float(rng.normal(0, 0.2))
                length = placer.vehicle(s, t + jitter, yaw=_facing(forward > 0), speed=forward * speed)
                s += length + float(rng.exponential(max(1 / density - 5, 4))) + 3


def _add_cyclists(placer: Placer, street: Street, ego: Ego) -> None:
    rng = placer.rng
    for _ in range(int(rng.integers(1, 4))):
        side = int(rng.choice([1, -1]))
        s = float(rng.uniform(8, 70))
        t = side * (street.half_width - max(street.parking) - 0.4)
        along = side == ego.keep
        placer.vehicle(s, t, yaw=_facing(along), speed=4.0 if along else -4.0, kind="cyclist")


def add_across(placer: Placer, street: Street, crossings: Iterable[Crossing], kind: str) -> None:
    """At every side street: signals or signs, people that cross, vehicles that wait."""
    rng = placer.rng
    for crossing in crossings:
        if crossing.signals or rng.random() < 0.3:
            _add_signals(placer, street, crossing)
        for _ in range(rng.poisson(PLACE_KINDS[kind].crossing_people)):
            placer.crossing_person(
                Thing(
                    kind="person",
                    s=float(rng.uniform(crossing.start - 3, crossing.start - 0.5)),
                    variant=int(rng.integers(VARIANTS)),
                    t=float(rng.uniform(-street.half_width, street.half_width)),
                    yaw=float(rng.choice([1, -1]) * np.pi / 2),
                    scale=(1.0, 1.0, float(rng.uniform(0.9, 1.08))),
                    palette=person_palette(rng),
                    instance=placer.number(),
                )
            )
        width = crossing.end - crossing.start
        for side, share in ((1, 0.3), (-1, 0.7)):
            if crossing.side in (0, side) and rng.random() < 0.5:
                t = side * (street.half_width + float(rng.uniform(3, 25)))
                placer.vehicle(crossing.start + width * share, t, yaw=np.pi / 2)


def _add_signals(placer: Placer, street: Street, crossing: Crossing) -> None:
    rng = placer.rng
    variant = int(rng.integers(VARIANTS))
    for side in (1, -1):
        for s, yaw in ((crossing.start - 2.5, 0.0), (crossing.end + 2.5, np.pi)):
            if rng.random() < 0.75:
                placer.things.append(
                    Thing(
                        kind="traffic_light" if crossing.signals else "sign",
                        variant=(variant + int(rng.integers(0, 3))) % VARIANTS,
                        s=s,
                        t=side * (street.half_width + 0.5),
                        yaw=yaw + float(rng.normal(0, 0.1)),
                        h=street.kerb,
                    )
                )
