"""Traffic on the legs of a drive: lanes that lead from leg to leg, and vehicles on all of them, moved together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo.synthetic.scene.driving import Driver, Route, Stop, drive
from zoo.synthetic.scene.kinds import PLACE_KINDS
from zoo.synthetic.scene.network import WORLD, LegStreet, ground_heights
from zoo.synthetic.scene.room import Room
from zoo.synthetic.scene.traffic import (
    ENTER_S,
    SIDE_M,
    STOP_M,
    WARM_UP_S,
    Ego,
    MainLane,
    Placer,
    Plan,
    add_cycle_lanes,
    fill_main,
    fill_side,
    main_lanes,
    side_lanes,
)
from zoo.synthetic.scene.types import Block, Crossing, Thing, Way

__all__ = ["LegTraffic", "Moved", "move"]

_UPSTREAM_M = 700.0  # of road before a leg, where vehicles start that arrive later
_TURNING = 0.3  # share of the cars at the end of a leg that turn off to the near side
_SIGHT_M = 250.0  # from the ego vehicle: what is farther away is not there
_ARC = 60  # points of a turn
_LATERAL = 1.8  # m / s2, in a turn
_EGO_LENGTH_M = 5.0


@dataclass(frozen=True, kw_only=True)
class LegTraffic:
    """What traffic needs to know of a leg.

    Attributes:
        kind: Of place.
        street: Its street.
        crossings: The last one is that with the next leg, the first that with the previous one, if there is one.
        opposite: When those who come from beyond the end of the leg are stopped there.
        blocks: Its blocks.
        ego: How the ego vehicle drives on it.
    """

    kind: str
    street: LegStreet
    crossings: tuple[Crossing, ...]
    opposite: tuple[tuple[float, float], ...]
    blocks: tuple[Block, ...]
    ego: Ego


@dataclass(frozen=True)
class _Line:
    """A lane as a straight line in the world: its number, a point, its direction."""

    number: int
    point: np.ndarray
    direction: np.ndarray

    @classmethod
    def of(cls, street: LegStreet, lane: MainLane, number: int) -> _Line:
        """Of a lane of a leg; metres along it are those of the lane."""
        along, left = street.axes
        return cls(number, np.array(street.origin[:2]) + lane.t * left, lane.forward * along)

    @property
    def yaw(self) -> float:
        """Radians in the world."""
        return float(np.arctan2(self.direction[1], self.direction[0]))


@dataclass(frozen=True)
class _Turn:
    """A quarter turn from one line to another: metres along both where it begins and ends, radius, +1 left."""

    begins: float
    ends: float
    radius: float
    side: int

    @classmethod
    def between(cls, one: _Line, other: _Line, radius: float) -> _Turn:
        """The turn of this radius."""
        gap = other.point - one.point
        side = int(np.sign(one.direction[0] * other.direction[1] - one.direction[1] * other.direction[0]))
        return cls(float(gap @ one.direction) - radius, radius - float(gap @ other.direction), radius, side)


def _chain(lines: Sequence[_Line], turns: Sequence[_Turn], first: float, tail: float) -> tuple[Route, list[float]]:
    """A route in world coordinates over several lines, and the metres along it at which each turn ends.

    It starts `first` metres along the first line, which is also where its own metres start to count from.
    """
    x, points, yaws, slow, joins, ends = (
        [first],
        [lines[0].point + first * lines[0].direction],
        [lines[0].yaw],
        [],
        [],
        [],
    )
    yaw, shift = lines[0].yaw, 0.0  # metres along the line less metres along the route
    for line, turn, after in zip(lines, turns, lines[1:]):
        angle = np.linspace(0, np.pi / 2, _ARC)
        begins = turn.begins - shift
        start = line.point + turn.begins * line.direction
        x += (begins + turn.radius * angle).tolist()
        points += [
            start + turn.radius * (np.sin(a) * line.direction + (1 - np.cos(a)) * after.direction) for a in angle
        ]
        yaws += (yaw + turn.side * angle).tolist()
        yaw += turn.side * np.pi / 2
        end = begins + turn.radius * np.pi / 2
        shift = turn.ends - end
        slow.append((begins, end, float(np.sqrt(_LATERAL * turn.radius))))
        joins.append((begins, after.number, shift))
        ends.append(end)
    x.append(x[-1] + tail)
    points.append(points[-1] + tail * lines[len(turns)].direction)
    yaws.append(yaw)
    s, t = np.array(points).T
    return Route(x=np.array(x), s=s, t=t, yaw=np.array(yaws), slow=tuple(slow), joins=tuple(joins)), ends


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved:
    """What has been driven.

    Attributes:
        times_s: `(T,)` scene times.
        x: `(T, N)` metres along each route; not a number while a vehicle is not on the street.
        drivers: The ego vehicle first; routes are in world coordinates.
        things: What each of them looks like.
        legs: On which leg each of them starts.
        begins: Metres along the ego vehicle's route at which it has turned into each leg.
        rng: Random numbers for what follows.
    """

    times_s: np.ndarray
    x: np.ndarray
    drivers: list[Driver]
    things: list[Thing]
    legs: list[int]
    begins: list[float]
    rng: np.random.Generator

    def things_near(self, ego: np.ndarray, streets: Sequence[LegStreet]) -> Iterator[Thing]:
        """Vehicles with their ways while they are in sight of `ego` `(T, 2)`, in world coordinates."""
        for driver, thing, leg, x in zip(self.drivers[1:], self.things[1:], self.legs[1:], self.x.T[1:]):
            placed = self._placed(driver, thing, x, ego, streets[leg : leg + 2])
            if placed is not None:
                yield placed

    def _placed(
        self, driver: Driver, thing: Thing, x: np.ndarray, ego: np.ndarray, streets: Sequence[LegStreet]
    ) -> Thing | None:
        px, py, yaw = driver.route.at(np.nan_to_num(x, nan=-1e5))
        here = np.zeros(len(x), bool)
        for street in streets:
            s, t = street.locate(np.stack([px, py], 1))
            here |= (s > street.start) & (s < street.end + SIDE_M) & (np.abs(t) < SIDE_M)
        here &= ~np.isnan(x) & (np.hypot(px - ego[:, 0], py - ego[:, 1]) < _SIGHT_M)
        part = _longest(here)
        if part.stop - part.start < 3:
            return None
        px, py, yaw, times = px[part], py[part], yaw[part], self.times_s[part]
        height = ground_heights(streets, np.stack([px, py], 1))
        if np.isnan(height).any():
            return None
        moves = np.hypot(np.diff(px), np.diff(py)) > 1e-3
        needed = np.ones(len(px), bool)
        needed[1:-1] = moves[1:] | moves[:-1]
        columns = [tuple(value[needed].tolist()) for value in (times, px, py, yaw, height)]
        way = Way(times_s=columns[0], s=columns[1], t=columns[2], yaw=columns[3], h=columns[4])
        return replace(thing, s=way.s[0], t=way.t[0], yaw=way.yaw[0], h=way.h[0], way=way)


def _longest(here: np.ndarray) -> slice:
    """The longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], here.astype(np.int8), [0]])))
    if not len(edges):
        return slice(0, 0)
    k = int(np.argmax(edges[1::2] - edges[::2]))
    return slice(int(edges[2 * k]), int(edges[2 * k + 1]))


def move(rng: np.random.Generator, legs: Sequence[LegTraffic], busy: float, end_s: float) -> Moved:
    """Everything that drives on the legs, up to scene time `end_s`; `busy` is a factor on the number of vehicles."""
    placer = Placer(rng, legs[0].street, (), Room(WORLD))
    plans, mains, base = [], [], 0
    for k, leg in enumerate(legs):
        plan = Plan(street=leg.street, ego=leg.ego)
        lanes = _lanes(plan, leg)
        _fill(plan, placer, leg, lanes, busy, upstream=_UPSTREAM_M if k else 330.0)
        plans.append((plan, base))
        mains.append({lane.number: _Line.of(leg.street, lane, base + lane.number) for lane in lanes})
        base += plan.lanes
    lanes_of = [_by_place(plan, leg) for (plan, _), leg in zip(plans, legs)]
    route, begins = _ego_route(legs, mains, lanes_of)
    first = legs[0].ego
    own = mains[0][lanes_of[0][1, first.lane_index].number]
    drivers = [Driver(lane=own.number, x=first.start, length=_EGO_LENGTH_M, speed=first.speed, route=route)]
    things, of_leg = [Thing(kind="car", variant=0, s=0.0, t=0.0)], [0]
    stops: list[Stop] = []
    for k, ((plan, base), leg) in enumerate(zip(plans, legs)):
        wakes = -np.inf if k < 2 else begins[k - 1]
        stops += [
            replace(
                stop,
                lane=base + stop.lane,
                gives_way=None if stop.gives_way is None else (base + stop.gives_way[0], stop.gives_way[1]),
            )
            for stop in plan.stops
        ]
        near = _near_turn(legs, mains, lanes_of, k)
        for driver, thing in zip(plan.drivers, plan.things):
            world = _in_world(leg.street, driver.route, base)
            if (
                near is not None
                and thing.kind == "car"
                and base + driver.lane == near[0][0].number
                and not driver.route.slow
                and rng.random() < _TURNING
            ):
                world = _chain(*near, first=driver.x - 1, tail=400.0)[0]
            drivers.append(replace(driver, lane=base + driver.lane, route=world, wakes=wakes))
            things.append(thing)
            of_leg.append(k)
    times, x = drive(drivers, stops, ENTER_S - WARM_UP_S, ENTER_S, end_s)
    return Moved(times_s=times, x=x, drivers=drivers, things=things, legs=of_leg, begins=begins, rng=rng)


def _lanes(plan: Plan, leg: LegTraffic) -> list[MainLane]:
    """The lanes of the leg's own street with their stop lines; those of the last crossing differ by direction."""
    lanes = main_lanes(plan, leg.crossings[:-1])
    last = leg.crossings[-1]
    for lane in lanes:
        if lane.forward > 0:
            plan.stops.append(Stop(lane=lane.number, x=last.start - STOP_M, closed=last.closed))
        else:
            plan.stops.append(Stop(lane=lane.number, x=-(last.end + STOP_M), closed=leg.opposite))
    return lanes


def _fill(plan: Plan, placer: Placer, leg: LegTraffic, lanes: Sequence[MainLane], busy: float, upstream: float) -> None:
    about = PLACE_KINDS[leg.kind]
    inner = leg.crossings[1:-1] if leg.street.stem else leg.crossings[:-1]
    sides = side_lanes(plan, inner, lanes, leg.blocks)
    density = busy * about.traffic * float(placer.rng.uniform(0.5, 1.7))
    for lane in lanes:
        fill_main(plan, placer, lane, sides, leg.blocks, density, upstream)
    for side in sides:
        fill_side(plan, placer, side, lanes, leg.blocks, density)
    add_cycle_lanes(plan, placer, lanes, leg.crossings, busy / about.cyclist_gap)


def _by_place(plan: Plan, leg: LegTraffic) -> dict[tuple[int, int], MainLane]:
    """The leg's lanes by direction and number from the middle."""
    lanes = main_lanes(replace(plan, stops=[], lanes=0), ())
    each = len(lanes) // 2
    return {(lane.forward, k % each): lane for k, lane in enumerate(lanes)}


def _radius(leg: LegTraffic, after: LegTraffic, one: MainLane, other: MainLane, near: bool) -> float:
    """Of the turn from a lane of a leg into one of the next leg: round the corner, or from kerb line to lane."""
    if not near:
        return after.street.half_width + abs(other.t)
    side = leg.ego.keep
    corner = next(block.corner for block in leg.blocks if block.side == side and block.end == leg.street.end)
    return corner + min(leg.street.half_width - abs(one.t), after.street.half_width - abs(other.t))


def _ego_route(
    legs: Sequence[LegTraffic],
    lines: Sequence[dict[int, _Line]],
    places: Sequence[dict[tuple[int, int], MainLane]],
) -> tuple[Route, list[float]]:
    """The ego vehicle's way from leg to leg, and where on it each leg begins."""
    lanes = [place[1, leg.ego.lane_index] for leg, place in zip(legs, places)]
    own = [line[lane.number] for line, lane in zip(lines, lanes)]
    turns = []
    for k, after in enumerate(legs[1:]):
        near = after.street.stem == after.ego.keep
        radius = _radius(legs[k], after, lanes[k], lanes[k + 1], near)
        turns.append(_Turn.between(own[k], own[k + 1], radius))
    route, ends = _chain(own, turns, legs[0].ego.start - 50, 400.0)
    return route, [legs[0].ego.start, *ends]


def _near_turn(
    legs: Sequence[LegTraffic],
    lines: Sequence[dict[int, _Line]],
    places: Sequence[dict[tuple[int, int], MainLane]],
    k: int,
) -> tuple[list[_Line], list[_Turn]] | None:
    """From the outer lane at the end of leg `k` to the near side; `None` behind the last leg."""
    if k + 1 >= len(legs):
        return None
    leg, after = legs[k], legs[k + 1]
    one = places[k][1, len(places[k]) // 2 - 1]
    forward = 1 if after.street.stem == leg.ego.keep else -1
    other = places[k + 1][forward, len(places[k + 1]) // 2 - 1]
    start, end = lines[k][one.number], lines[k + 1][other.number]
    return [start, end], [_Turn.between(start, end, _radius(leg, after, one, other, True))]


def _in_world(street: LegStreet, route: Route, base: int) -> Route:
    """A route of a leg in world coordinates; the leg's lanes are numbered from `base` on."""
    xy = np.stack([route.s, route.t], 1) @ street.axes + street.origin[:2]
    joins = tuple((x, base + lane, shift) for x, lane, shift in route.joins)
    return replace(route, s=xy[:, 0], t=xy[:, 1], yaw=route.yaw + street.quarter_turns * np.pi / 2, joins=joins)
