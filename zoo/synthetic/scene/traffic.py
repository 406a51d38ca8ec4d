"""Who drives: the ego vehicle, traffic in all lanes and in side streets, trams, and cyclists.

Everybody keeps to a lane. Two lanes lead across the main street at every side street, one to each side; signals and
zebras close them or the main street in turn. Vehicles turn into and out of side streets on the near side only, where
they cross nobody's way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from zoo.synthetic.scene.colors import person_palette, vehicle_palette
from zoo.synthetic.scene.driving import Driver, Route, Stop, drive, way_of
from zoo.synthetic.scene.kinds import PLACE_KINDS
from zoo.synthetic.scene.plots import height_of
from zoo.synthetic.scene.room import Room
from zoo.synthetic.scene.types import MOVABLE, Block, Crossing, Street, Thing, Way
from zoo.synthetic.shapes.templates import VARIANTS, template

__all__ = [
    "ENTER_S",
    "SIDE_M",
    "STOP_M",
    "WARM_UP_S",
    "Ego",
    "MainLane",
    "Placer",
    "Plan",
    "SideLane",
    "add_cycle_lanes",
    "add_traffic",
    "draw_ego",
    "draw_phases",
    "fill_main",
    "fill_side",
    "lane_middle",
    "lanes_each_way",
    "main_lanes",
    "quarter_turn",
    "side_lanes",
]

ENTER_S = -2.0
"""Scene time at which everything is in its place: there may be older sweeps before the first frame."""
WARM_UP_S = 14.0  # before that, for queues to form
_LEAST_S = 34.0  # of scene time that is prepared
_MOST_S = 90.0
_RIDER_OF = {"bicycle": "cyclist", "motorcycle": "motorcyclist"}
SIDE_M = 70.0  # of a side street that vehicles use
_BEHIND_KERB_M = 1.6  # where they stop before the main street
STOP_M = 4.9  # where those on the main street stop before a side street: in front of the stop line
_CLEARING_S = 3.0  # between the end of one green and the next
_TURN_SPEED = 4.2  # m/s
_UPSTREAM_M = 330.0  # of road before the street, where vehicles start that arrive later
_MIX = (("car", 0.8), ("truck", 0.05), ("bus", 0.034), ("motorcycle", 0.036), ("bicycle", 0.08))
"""Kinds of vehicles in traffic, the last two with riders."""


@dataclass(frozen=True, kw_only=True)
class Ego:
    """The vehicle that carries the sensors.

    Attributes:
        keep: Side of the street that traffic along +s keeps to: -1 right, +1 left.
        lane_index: Of its lane, from the middle of the street.
        lane: Metres left of the centre line.
        speed: Metres per second on an empty street.
        start: Metres along the street at `ENTER_S`.
    """

    keep: int
    lane_index: int
    lane: float
    speed: float
    start: float


def lanes_each_way(street: Street) -> int:
    """Lanes per direction; a street with a single lane is a one-way street."""
    return max(1, street.lanes // 2)


def lane_middle(street: Street, index: int) -> float:
    """Metres from the centre line."""
    return 0.0 if street.lanes == 1 else (index + 0.5) * street.lane_width


def draw_ego(rng: np.random.Generator, street: Street, slowest: float, fastest: float) -> Ego:
    """Side, lane and speed of the ego vehicle."""
    keep = -1 if rng.random() < 0.6 else 1
    lane_index = int(rng.integers(0, lanes_each_way(street)))
    return Ego(
        keep=keep,
        lane_index=lane_index,
        lane=keep * lane_middle(street, lane_index),
        speed=float(rng.uniform(slowest, fastest)),
        start=float(rng.uniform(-15, 5)),
    )


def draw_phases(
    rng: np.random.Generator, crossings: Sequence[Crossing], people: float, until: float = _MOST_S
) -> tuple[Crossing, ...]:
    """The crossings with the times at which they stop the main street: signals in cycles, zebras when people come.

    Args:
        rng: Random numbers.
        crossings: The side streets.
        people: How many cross at a zebra, on average, in ten seconds.
        until: Scene time up to which they are needed.
    """
    out = []
    for crossing in crossings:
        closed: list[tuple[float, float]] = []
        if crossing.signals:
            cycle, share = float(rng.uniform(32, 60)), float(rng.uniform(0.35, 0.5))
            start = -WARM_UP_S - float(rng.uniform(0, cycle))
            closed = [(at, at + share * cycle) for at in np.arange(start, until, cycle).tolist()]
        elif crossing.zebra:
            at = ENTER_S + float(rng.exponential(14 / max(people, 0.05)))
            while at < until:
                closed.append((at, at + float(rng.uniform(11, 16))))
                at = closed[-1][1] + float(rng.uniform(5, 10) + rng.exponential(14 / max(people, 0.05)))
        out.append(replace(crossing, closed=tuple(closed)))
    return tuple(out)


class Placer:
    """Collects the things of a place: gives each an instance number and keeps them out of each other."""

    def __init__(
        self,
        rng: np.random.Generator,
        street: Street,
        blocks: Sequence[Block],
        room: Room,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.rng = rng
        self.street = street
        self.blocks = blocks
        self.room = room
        self.things: list[Thing] = []
        self._numbers = count() if numbers is None else numbers

    def put(self, thing: Thing, rider: Thing | None = None) -> bool:
        """Adds a thing where there is room, and right after it its rider: `truth.boxes` joins the two by that.

        What stands is put on the ground, whatever its height. Only what can move stands on the road.
        """
        if not thing.moves:
            h = height_of(self.street, self.blocks, thing.s, thing.t)
            if h == 0 and thing.kind not in MOVABLE:
                return False
            thing, rider = replace(thing, h=h), rider and replace(rider, h=h)
        if not self.room.take(thing, rider):
            return False
        for part in (thing,) if rider is None else (thing, rider):
            numbered = part.kind in MOVABLE
            self.things.append(replace(part, instance=next(self._numbers)) if numbered else part)
        return True

    def vehicle(self, kind: str, s: float, t: float, yaw: float) -> Thing:
        """A vehicle of a random shape and colour; it still has to be `put`."""
        rng = self.rng
        scale = (1.0, 1.0, 1.0) if kind in _RIDER_OF else tuple(rng.uniform(0.95, 1.04, 3))
        return Thing(
            kind=kind,
            variant=int(rng.integers(VARIANTS)),
            s=s,
            t=t,
            yaw=yaw,
            scale=scale,
            palette=vehicle_palette(rng),
        )

    def rider(self, cycle: Thing) -> Thing | None:
        """Who rides a cycle; nobody for other vehicles."""
        kind = _RIDER_OF.get(cycle.kind)
        if kind is None:
            return None
        return replace(cycle, kind=kind, palette=person_palette(self.rng))


@dataclass(kw_only=True)
class Plan:
    """The lanes of a place and who drives on them; a vehicle's thing has the same index as its driver."""

    street: Street
    ego: Ego
    drivers: list[Driver] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    lanes: int = 0

    def lane(self) -> int:
        """A new lane's number."""
        self.lanes += 1
        return self.lanes - 1

    def add(self, driver: Driver, thing: Thing) -> None:
        """One more vehicle."""
        self.drivers.append(driver)
        self.things.append(thing)


@dataclass(frozen=True, kw_only=True)
class MainLane:
    """A lane of the main street: `forward` is +1 along s and -1 against it; metres along it are `forward` times s."""

    number: int
    forward: int
    t: float
    outermost: bool

    @property
    def side(self) -> int:
        """Of the street: +1 left, -1 right."""
        return 1 if self.t > 0 else -1

    def straight(self) -> Route:
        """Along it from far behind the street to far beyond it."""
        x = np.array([-2000.0, 4000.0])
        yaw = 0.0 if self.forward > 0 else np.pi
        return Route(x=x, s=self.forward * x, t=np.full(2, self.t), yaw=np.full(2, yaw))


@dataclass(frozen=True, kw_only=True)
class SideLane:
    """A lane across the main street; it comes from `side` (or would) and metres along it are -`side` times t."""

    number: int
    side: int
    s: float
    crossing: Crossing

    def straight(self) -> Route:
        """From one end to the other."""
        x = np.array([-SIDE_M, SIDE_M])
        return Route(x=x, s=np.full(2, self.s), t=-self.side * x, yaw=np.full(2, -self.side * np.pi / 2))


def add_traffic(
    placer: Placer,
    street: Street,
    ego: Ego,
    crossings: Sequence[Crossing],
    blocks: Sequence[Block],
    kind: str,
    busy: float = 1.0,
) -> Way:
    """Everything that drives, with its way, on `placer`; `busy` is a factor on the number of vehicles.

    Returns:
        The ego vehicle's way.
    """
    plan = Plan(street=street, ego=ego)
    mains = main_lanes(plan, crossings)
    own = next(lane for lane in mains if lane.forward > 0 and lane.t == ego.lane)
    plan.add(
        Driver(lane=own.number, x=ego.start, length=5.0, speed=ego.speed, route=own.straight()),
        Thing(kind="car", variant=0, s=ego.start, t=ego.lane),
    )
    sides = side_lanes(plan, crossings, mains, blocks)
    density = busy * PLACE_KINDS[kind].traffic * float(placer.rng.uniform(0.3, 1.7))
    if busy > 0:
        _add_trams(plan, placer, mains)
    for lane in mains:
        fill_main(plan, placer, lane, sides, blocks, density)
    for side in sides:
        fill_side(plan, placer, side, mains, blocks, density)
    add_cycle_lanes(plan, placer, mains, crossings, busy / PLACE_KINDS[kind].cyclist_gap)
    end_s = min(_MOST_S, max(_LEAST_S, 25 + 1.6 * (street.end - ego.start) / ego.speed))
    times, x = drive(plan.drivers, plan.stops, ENTER_S - WARM_UP_S, ENTER_S, end_s)
    arrived = np.nonzero((x[:, 0] > street.end) & (times > _LEAST_S))[0]
    last = int(arrived[0]) + 1 if len(arrived) else len(times)
    times, x = times[:last], x[:last]
    way = way_of(plan.drivers[0].route, times, x[:, 0])
    assert way is not None
    placer.room.follow(times)
    placer.room.add_ego(*_ego_track(street, ego, way, placer.room.times_s))
    for driver, thing, along in zip(plan.drivers[1:], plan.things[1:], x.T[1:]):
        placed = _placed(driver, thing, times, along, street)
        if placed is not None:
            placer.put(placed, placer.rider(placed))
    return way


def _ego_track(street: Street, ego: Ego, way: Way, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s = way.at(times_s)[0]
    where = street.to_world(s, np.full(len(s), ego.lane))
    return where[:, 0], where[:, 1], street.headings(s)


def _placed(driver: Driver, thing: Thing, times: np.ndarray, x: np.ndarray, street: Street) -> Thing | None:
    """The thing with its way, or standing if it never moves; `None` if it never is on the street."""
    s, t, yaw = driver.route.at(np.nan_to_num(x, nan=-1e4))
    seen = ~np.isnan(x) & (s > street.start - 30) & (s < street.end + 30) & (np.abs(t) < SIDE_M)
    if seen.sum() < 2:
        return None
    first, last = np.nonzero(seen)[0][[0, -1]]
    part = slice(first, last + 1)
    if np.ptp(x[part]) < 0.05 and last - first == len(times) - 1:
        return replace(thing, s=float(s[first]), t=float(t[first]), yaw=float(yaw[first]))
    way = way_of(driver.route, times[part], x[part])
    return None if way is None else replace(thing, s=way.s[0], t=way.t[0], yaw=way.yaw[0], way=way)


def main_lanes(plan: Plan, crossings: Sequence[Crossing]) -> list[MainLane]:
    """The lanes of the main street, from the middle outwards, first those along s; with their stop lines."""
    street, keep = plan.street, plan.ego.keep
    lanes = []
    each = lanes_each_way(street)
    for forward in (1, -1) if street.lanes > 1 else (1,):
        for index in range(each):
            t = forward * keep * lane_middle(street, index)
            lanes.append(MainLane(number=plan.lane(), forward=forward, t=t, outermost=index == each - 1))
    for lane in lanes:
        _add_stops(plan, lane.number, lane.forward, crossings)
    return lanes


def _add_stops(plan: Plan, number: int, forward: int, crossings: Sequence[Crossing]) -> None:
    for crossing in crossings:
        if crossing.closed:
            line = crossing.start - STOP_M if forward > 0 else -(crossing.end + STOP_M)
            plan.stops.append(Stop(lane=number, x=line, closed=crossing.closed))


def side_lanes(
    plan: Plan, crossings: Sequence[Crossing], mains: Sequence[MainLane], blocks: Sequence[Block]
) -> list[SideLane]:
    """Two lanes across the main street at every crossing, one from each side; with their stop lines."""
    out = []
    for crossing in crossings:
        middle, quarter = (crossing.start + crossing.end) / 2, (crossing.end - crossing.start) / 4
        for side in (1, -1):
            s = middle + plan.ego.keep * side * quarter
            lane = SideLane(number=plan.lane(), side=side, s=s, crossing=crossing)
            out.append(lane)
            if crossing.side not in (0, side):
                continue
            line = -(plan.street.half_width + _BEHIND_KERB_M)
            if crossing.signals:
                plan.stops.append(Stop(lane=lane.number, x=line, closed=_side_red(crossing)))
            else:
                near = _near_lane(mains, side)
                if near is not None:
                    turn = _turn_in(plan, lane, near, blocks)
                    place = near.forward * (turn.s[-2] if turn is not None else s)
                    plan.stops.append(Stop(lane=lane.number, x=line, gives_way=(near.number, float(place))))
    return out


def _side_red(crossing: Crossing) -> tuple[tuple[float, float], ...]:
    """When the side street has to wait: all the time but while the main street is stopped, less the clearing times."""
    edges = [-1e3]
    for start, end in crossing.closed:
        if end - start > 2 * _CLEARING_S + 2:
            edges += [start + _CLEARING_S, end - _CLEARING_S]
    edges.append(1e3)
    return tuple(zip(edges[::2], edges[1::2]))


def _near_lane(mains: Sequence[MainLane], side: int) -> MainLane | None:
    """The lane next to the kerb of one side."""
    here = [lane for lane in mains if lane.outermost and (lane.side == side or lane.t == 0)]
    return here[0] if here else None


def _corner(blocks: Sequence[Block], side: int, s: float) -> float:
    """Radius of the rounded corner of the block that begins or ends at `s`."""
    found = [block.corner for block in blocks if block.side == side and s in (block.start, block.end)]
    return found[0] if found else 3.0


def quarter_turn(radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A quarter turn to the left from the origin along +x: metres along it, x, y, yaw."""
    a = np.linspace(0, np.pi / 2, 9)
    return radius * a, radius * np.sin(a), radius * (1 - np.cos(a)), a


def _turn_in(plan: Plan, lane: SideLane, near: MainLane, blocks: Sequence[Block]) -> Route | None:
    """From a side street into the near lane of the main street; `None` if its corner is too tight."""
    side, forward = lane.side, near.forward
    edge = lane.crossing.end if forward > 0 else lane.crossing.start
    inside = forward * (edge - lane.s)
    if near.t == 0 and side * plan.ego.keep * forward < 0:
        return None  # a one-way street: its far side
    radius = _corner(blocks, side, edge) + min(inside, plan.street.half_width - abs(near.t))
    if inside < 1.25 or radius < 3.5:
        return None
    x0 = -(abs(near.t) + radius)
    along, ahead, aside, turn = quarter_turn(radius)
    x = np.concatenate([[-SIDE_M], x0 + along, [x0 + along[-1] + 4000]])
    s = np.concatenate([[lane.s], lane.s + forward * aside, [lane.s + forward * (radius + 4000)]])
    t = np.concatenate([[side * SIDE_M], side * (abs(near.t) + radius - ahead), [near.t]])
    yaw = np.concatenate([[0], turn, [np.pi / 2]]) * side * forward - side * np.pi / 2
    end = x0 + along[-1]
    leaves = -(plan.street.half_width + _BEHIND_KERB_M) - 1.5
    joins = (leaves, near.number, forward * (lane.s + forward * radius) - end)
    return Route(x=x, s=s, t=t, yaw=yaw, slow=((x0, end, _TURN_SPEED),), joins=(joins,))


def _turn_out(plan: Plan, near: MainLane, out: SideLane, blocks: Sequence[Block]) -> Route | None:
    """From the near lane of the main street into a side street on its side, where `out` leads away."""
    side, forward = near.side, near.forward
    edge = out.crossing.start if forward > 0 else out.crossing.end
    inside = forward * (out.s - edge)
    radius = _corner(blocks, side, edge) + min(inside, plan.street.half_width - abs(near.t))
    if inside < 1.25 or radius < 3.5 or near.t == 0:
        return None
    x0 = forward * out.s - radius
    along, ahead, aside, turn = quarter_turn(radius)
    end = x0 + along[-1]
    x = np.concatenate([[x0 - 2000], x0 + along, [end + SIDE_M]])
    s = np.concatenate([[forward * (x0 - 2000)], forward * (x0 + ahead), [out.s]])
    t = np.concatenate([[near.t], side * (abs(near.t) + aside), [side * (abs(near.t) + radius + SIDE_M)]])
    yaw = np.concatenate([[0], turn, [np.pi / 2]]) * side * forward + (0.0 if forward > 0 else np.pi)
    joins = (end, out.number, abs(near.t) + radius - end)
    return Route(x=x, s=s, t=t, yaw=yaw, slow=((x0, end, _TURN_SPEED),), joins=(joins,))


def vehicle_of(plan: Plan, placer: Placer, kind: str | None, wide: float) -> Thing:
    """A vehicle for traffic; no truck or bus in a lane that it would fill with its mirrors."""
    rng = placer.rng
    what = kind or str(rng.choice([name for name, _ in _MIX], p=[share for _, share in _MIX]))
    if wide < {"truck": 2.8, "bus": 2.7}.get(what, 0.0):
        what = "car"
    return placer.vehicle(what, 0.0, 0.0, 0.0)


def length_of(thing: Thing) -> float:
    vertices = template(thing.kind, thing.variant).vertices[:, 0]
    # Templates do not all have their origin in the middle: twice the longer part is safe.
    return float(2 * np.abs(vertices).max() * thing.scale[0])


def _add_trams(plan: Plan, placer: Placer, mains: Sequence[MainLane]) -> None:
    """Trams in the inner lanes of a street with rails."""
    rng = placer.rng
    if not plan.street.tram:
        return
    for lane in mains:
        if abs(lane.t) > plan.street.lane_width or rng.random() > 0.85:
            continue
        ahead = plan.ego.start - ENTER_S * plan.ego.speed  # where the ego will be when the first frame is taken
        s = ahead + float(rng.uniform(25, 90)) if lane.forward > 0 else ahead + float(rng.uniform(60, 260))
        speed = float(rng.uniform(5, 11))
        thing = placer.vehicle("train", 0.0, 0.0, 0.0)
        x = lane.forward * (s - lane.forward * 14 * speed * 0.8)
        plan.add(Driver(lane=lane.number, x=x, length=length_of(thing), speed=speed, route=lane.straight()), thing)


def fill_main(
    plan: Plan,
    placer: Placer,
    lane: MainLane,
    sides: Sequence[SideLane],
    blocks: Sequence[Block],
    density: float,
    upstream: float = _UPSTREAM_M,
) -> None:
    """Traffic along one lane, from far behind the street to its end; some of it turns off."""
    rng, street = placer.rng, plan.street
    if density == 0:
        return
    outs = []
    if lane.outermost and lane.t != 0:
        for out in sides:
            if out.side == -lane.side and out.crossing.side in (0, lane.side):
                route = _turn_out(plan, lane, out, blocks)
                if route is not None:
                    outs.append(route)
    low, high = sorted((lane.forward * (street.start - 5), lane.forward * (street.end + 5)))
    pace = float(rng.uniform(0.75, 1.1)) * plan.ego.speed
    taken = [(driver.x, driver.length) for driver in plan.drivers if driver.lane == lane.number]
    x = low - upstream + float(rng.uniform(0, 40))
    while x < high:
        thing = vehicle_of(plan, placer, None, street.lane_width)
        length = length_of(thing)
        aside = float(rng.normal(0, 0.08))
        speed = float(np.clip(pace * rng.normal(1, 0.08), 2.5, 16))
        route = lane.straight()
        turns = [one for one in outs if one.slow[0][0] > x + 25]
        if thing.kind == "bicycle":
            speed = float(rng.uniform(3.8, 6))
            aside += lane.side * (street.lane_width / 2 - 0.55) if lane.outermost and lane.t else 0.0
        elif thing.kind == "car" and turns and rng.random() < 0.25:
            route, aside = turns[int(rng.integers(len(turns)))], 0.0
        if all(abs(x - other) > (length + size) / 2 + 4 for other, size in taken):
            route = replace(route, t=route.t + aside)
            plan.add(Driver(lane=lane.number, x=x, length=length, speed=speed, route=route), thing)
        x += length + 5 + float(rng.exponential(max(1 / max(density, 1e-3) - 10, 4)))


def fill_side(
    plan: Plan,
    placer: Placer,
    lane: SideLane,
    mains: Sequence[MainLane],
    blocks: Sequence[Block],
    density: float,
) -> None:
    """Vehicles that come out of a side street: with signals some go straight on, the others turn."""
    rng = placer.rng
    if lane.crossing.side not in (0, lane.side):
        return
    near = _near_lane(mains, lane.side)
    turn = None if near is None else _turn_in(plan, lane, near, blocks)
    through = lane.crossing.signals and lane.crossing.side == 0
    if turn is None and not through:
        return
    x = -(plan.street.half_width + 6 + float(rng.uniform(0, 25)))
    while x > -SIDE_M and rng.random() < min(0.75, 22 * density):
        thing = placer.vehicle("car" if rng.random() < 0.9 else "motorcycle", 0.0, 0.0, 0.0)
        route = lane.straight() if through and (turn is None or rng.random() < 0.6) else turn
        assert route is not None
        length = length_of(thing)
        speed = float(rng.uniform(6, 10))
        plan.add(Driver(lane=lane.number, x=x, length=length, speed=speed, route=route), thing)
        x -= length + float(rng.uniform(3, 14))


def add_cycle_lanes(
    plan: Plan, placer: Placer, mains: Sequence[MainLane], crossings: Sequence[Crossing], density: float
) -> None:
    """Cyclists on lanes of their own, `density` to the metre, where the street has them."""
    rng, street = placer.rng, plan.street
    if not street.cycle_lane or density == 0:
        return
    for side in (1, -1):
        near = _near_lane(mains, side)
        if near is None or near.t == 0:
            continue
        t = side * (street.half_width - max(street.parking) - 0.7)
        lane = MainLane(number=plan.lane(), forward=near.forward, t=t, outermost=False)
        _add_stops(plan, lane.number, lane.forward, crossings)
        low, high = sorted((lane.forward * street.start, lane.forward * street.end))
        x = low - 200 + float(rng.exponential(20))
        while x < high:
            thing = placer.vehicle("bicycle", 0.0, 0.0, 0.0)
            route = replace(lane.straight(), t=np.full(2, t + float(rng.normal(0, 0.12))))
            plan.add(Driver(lane=lane.number, x=x, length=1.8, speed=float(rng.uniform(3.5, 6)), route=route), thing)
            x += 4 + float(rng.exponential(1 / density))
