"""A drive of minutes: streets that join, one after the other, and everything on them.

A drive is a chain of legs (`scene.network`). Each is a place from a seed of its own with the same draws as any place:
houses, plants, parked vehicles, people. That keeps all of the world's variety, and only the legs near the vehicle need
triangles at any time, whatever the length of the drive. A graph laid out at once would let streets meet again, but then
every block would have to fit its neighbours on all sides, and a drive hardly ever comes back within minutes.

At the end of a leg its street crosses that of the next one. Signals let one direction go at a time: the ego vehicle's,
the opposite one, or the next street's. Vehicles of all legs are moved together (`scene.driving`), so that they keep
their distance across crossings. Those of a leg are put on the street when the ego vehicle enters the leg before, out of
its sight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import count, pairwise

import numpy as np

from zoo.errors import InputError
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.describe import describe, drawn, with_relief
from zoo.synthetic.scene.drive_traffic import LegTraffic, Moved, move
from zoo.synthetic.scene.driving import STEP_S
from zoo.synthetic.scene.frontage import draw_frontage
from zoo.synthetic.scene.kinds import PLACE_KINDS
from zoo.synthetic.scene.network import REACH_M, WORLD, Drive, EgoTrack, LegStreet, ground_heights
from zoo.synthetic.scene.plots import plot_of
from zoo.synthetic.scene.roadside import add_roadside, add_signals
from zoo.synthetic.scene.room import Room, footprint
from zoo.synthetic.scene.streets import draw_blocks, draw_street
from zoo.synthetic.scene.surroundings import add_surroundings
from zoo.synthetic.scene.traffic import ENTER_S, SIDE_M, Ego, Placer, draw_phases, lane_middle, lanes_each_way
from zoo.synthetic.scene.types import Block, Building, Crossing, Scene, Street, Strip, Thing, Way
from zoo.synthetic.scene.walking import add_standing, add_walkers

__all__ = ["LONGEST_S", "SHORTEST_S", "describe_drive"]

SHORTEST_S, LONGEST_S = 1.0, 900.0
"""Of a drive."""
_ANY = Choices()
_LENGTH_M = (175.0, 230.0)
_START_M = (-25.0, -100.0)  # of the first leg, and of the others, behind the crossing at which they begin
_LEAST_SPEED = 8.0  # m/s on an empty street
_SAME_KIND = 0.6  # probability that a leg is of the same kind as the one before
_CORNER_M = 4.5  # least radius of corners where the ego vehicle turns
_LEAD_S, _AFTER_S = 1.0, 3.0
_LEAST_S = 34.0  # of scene time that is prepared
_WALK_S = 15.0  # shorter walks are not worth it
_LINE_M = 0.1  # between points of the vehicle's line
_APART_M = 0.3  # left free before the next leg
_PAST_M = 120.0  # how far behind the vehicle people are still moved


@dataclass(frozen=True, kw_only=True)
class _Leg:
    """What is known of a leg before anything moves."""

    kind: str
    seed: int
    street: LegStreet
    crossings: tuple[Crossing, ...]
    opposite: tuple[tuple[float, float], ...]
    blocks: tuple[Block, ...]
    ego: Ego
    rng: np.random.Generator


class _LegPlacer(Placer):
    """Puts nothing on or over the ground of another leg."""

    def put(self, thing: Thing, rider: Thing | None = None) -> bool:
        """See `Placer`."""
        street = self.street
        assert isinstance(street, LegStreet)
        if thing.way is None:
            here = (block for block in self.blocks if block.side * thing.t > 0 and block.start < thing.s < block.end)
            if next(here, None) is None:  # in the mouth of a side street
                return False
            x, y, length, width = footprint(thing, rider)
            c, d = np.cos(thing.yaw), np.sin(thing.yaw)
            across = np.array([-length, length, length, -length]), np.array([-width, -width, width, width])
            s = thing.s + c * (x + across[0]) - d * (y + across[1])
            t = thing.t + d * (x + across[0]) + c * (y + across[1])
        else:
            s, t = np.array(thing.way.s), np.array(thing.way.t)
        return bool(street.owns(s + _APART_M, t).all()) and super().put(thing, rider)


@lru_cache(maxsize=2)
def describe_drive(seed: int, seconds: float, choices: Choices = _ANY) -> Drive:
    """The drive of `seed`: the same on every machine.

    Args:
        seed: Of the drive. Light, season and camera are those of the place of this seed.
        seconds: How long it is.
        choices: Restrict what may be drawn.

    Raises:
        InputError: If the seed is negative or the time is out of range.
    """
    if not SHORTEST_S <= seconds <= LONGEST_S:  # false for what is not a number, too
        raise InputError(f"a drive of {seconds:g} s: choose {SHORTEST_S:g} to {LONGEST_S:g} s")
    about = describe(seed, choices)
    end_s = max(_LEAD_S + seconds, _LEAST_S) + _AFTER_S
    legs = _legs(about, end_s, choices)
    moved = move(
        np.random.default_rng([20264, seed]),
        [
            LegTraffic(
                kind=leg.kind,
                street=leg.street,
                crossings=leg.crossings,
                opposite=leg.opposite,
                blocks=leg.blocks,
                ego=leg.ego,
            )
            for leg in legs
        ],
        choices.density,
        end_s,
    )
    reached = sum(float(np.nanmax(moved.x[:, 0])) >= begin for begin in moved.begins)
    legs = legs[: reached + 2]
    streets = [leg.street for leg in legs]
    ego = _ego_track(moved, streets)
    numbers = (number for number in count() if (number + 1) % 1000)  # of tracks, which are larger by one
    rooms, placers = [], []
    for leg in legs:
        room = Room(leg.street)
        placers.append(_LegPlacer(leg.rng, leg.street, leg.blocks, room, numbers))
        rooms.append(room)
    scenes = [_furnished(leg, placer, about, choices) for leg, placer in zip(legs, placers)]
    travellers, room = _travellers(moved, ego, streets, rooms, numbers)
    scenes = [
        _peopled(leg, placer, scene, _presence(ego, k, moved.times_s), room, choices)
        for k, (leg, placer, scene) in enumerate(zip(legs, placers, scenes))
    ]
    return Drive(about=about, seconds=seconds, legs=tuple(scenes), travellers=travellers, ego=ego)


def _legs(about: Scene, end_s: float, choices: Choices) -> list[_Leg]:
    """As many as the ego vehicle could come to on an empty road with all signals green, and two more."""
    rng = np.random.default_rng([20262, about.seed])
    keep, speed = 1 if about.ego_lane > 0 else -1, max(about.ego_speed, _LEAST_SPEED)
    total = math.ceil(end_s * speed / _LENGTH_M[0]) + 3
    kinds, turns, heading = [about.kind], [0], 0
    for _ in range(1, total + 1):
        same = rng.random() < _SAME_KIND
        drawn_kind = drawn(rng, {name: kind.share for name, kind in PLACE_KINDS.items()}, choices.kinds)
        kinds.append(kinds[-1] if same else drawn_kind)
        # Directions are 0, a quarter turn to either side, 0, and so on: the drive never comes back to where it was.
        turns.append(int(rng.choice([-1, 1])) if heading == 0 else -heading)
        heading += turns[-1]
    rngs = [np.random.default_rng([20263, about.seed, k]) for k in range(total + 1)]
    plain = [_street(rng, kind) for rng, kind in zip(rngs, kinds)]
    phases = [_junction_phases(rng, end_s) for _ in plain]
    ends = [round(float(rng.uniform(*_LENGTH_M))) for rng in rngs]
    streets = _laid_out(plain, ends, turns, 0.0)
    lowest = min(street.origin[1] for street in streets)
    streets, out, crossing_count = _laid_out(plain, ends, turns, -lowest), [], 0
    for k, street in enumerate(streets[:-1]):
        rng_k, kind = rngs[k], kinds[k]
        street = replace(street, first_crossing=crossing_count)
        inner = _inner_crossings(rng_k, street, kind)
        beyond = Crossing(
            start=street.end, end=street.end + 2 * streets[k + 1].half_width, side=0, signals=True, zebra=False
        )
        blocks = _blocks(rng_k, street, streets[k - 1].half_width if k else 0.0, inner, kind)
        crossings = [*draw_phases(rng_k, inner, PLACE_KINDS[kind].crossing_people, end_s)]
        crossings.append(replace(beyond, closed=phases[k][0]))
        if k:
            half = streets[k - 1].half_width
            entry = Crossing(start=-half, end=half, side=0, signals=True, zebra=False, closed=phases[k - 1][1])
            crossings.insert(0, entry)
        crossing_count += len(crossings)
        seed = int(rng_k.integers(1 << 30))
        relieved = with_relief(seed, kind, street, tuple(crossings), blocks)
        assert isinstance(relieved, LegStreet)
        each = lanes_each_way(street)
        index = each - 1 if turns[k + 1] == keep else 0  # the ego turns from the lane next to where it turns to
        lane = keep * lane_middle(street, index)
        ego = Ego(keep=keep, lane_index=index, lane=lane, speed=speed, start=about.ego_start)
        out.append(
            _Leg(
                kind=kind,
                seed=seed,
                street=relieved,
                crossings=tuple(crossings),
                opposite=phases[k][2],
                blocks=blocks,
                ego=ego,
                rng=rng_k,
            )
        )
    joined = [replace(leg, street=replace(leg.street, onto=after.street)) for leg, after in pairwise(out)]
    return joined  # without the last one, which joins nothing


def _street(rng: np.random.Generator, kind: str) -> Street:
    """A street with both directions and without rails: a tram is one rigid body, which cannot turn."""
    while True:
        street = draw_street(rng, kind)
        if street.lanes > 1:
            return replace(street, tram=False, bend=(0.0,) * len(street.bend))


def _laid_out(plain: Sequence[Street], ends: Sequence[float], turns: Sequence[int], y: float) -> list[LegStreet]:
    """The streets with their places: each begins in the middle of the crossing at the end of the one before."""
    out: list[LegStreet] = []
    quarter, at = 0, np.array([0.0, y, 0.0])
    for k, street in enumerate(plain):
        quarter += turns[k]
        about = {field.name: getattr(street, field.name) for field in fields(Street)}
        about |= {"start": _START_M[k > 0], "end": ends[k]}
        leg = LegStreet(
            **about,
            number=k,
            origin=(float(at[0]), float(at[1]), float(at[2])),
            quarter_turns=quarter,
            stem=turns[k],
        )
        out.append(leg)
        if k + 1 < len(plain):
            at = leg.to_world(np.array(leg.end + plain[k + 1].half_width), 0.0)
    return out


def _inner_crossings(rng: np.random.Generator, street: LegStreet, kind: str) -> list[Crossing]:
    """Side streets between the two ends of a leg."""
    out, s = [], float(rng.uniform(88, 110)) if street.stem else float(rng.uniform(15, 70))
    while s < street.end - 55:
        if rng.random() < PLACE_KINDS[kind].crossing:
            width = float(rng.uniform(6, 13))
            signals, zebra = bool(rng.random() < 0.25), bool(rng.random() < 0.5)
            side = int(rng.choice([-1, 0, 0, 1]))
            out.append(Crossing(start=s, end=s + width, side=side, signals=signals, zebra=zebra))
            s += width
        s += float(rng.uniform(45, 110))
    return out


def _junction_phases(
    rng: np.random.Generator, end_s: float
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """When a leg's end, the next leg's street and the stub opposite are stopped."""
    cycle, ours, theirs = float(rng.uniform(36, 46)), float(rng.uniform(14, 19)), float(rng.uniform(4, 6))
    begins = np.arange(-60 - float(rng.uniform(0, cycle)), end_s + cycle, cycle).tolist()
    leg = tuple((at + ours, at + cycle) for at in begins)
    across = tuple((at - 3, at + ours + theirs + 6) for at in begins)
    opposite = tuple((at + ours + 3 + theirs, at + cycle + ours + 3) for at in begins)
    return leg, across, opposite


def _blocks(
    rng: np.random.Generator, street: LegStreet, stem_half: float, inner: Sequence[Crossing], kind: str
) -> tuple[Block, ...]:
    """The leg's own blocks: on the side of the previous leg, those beyond that leg's."""
    cuts = list(inner)
    if street.stem:
        cuts = [
            Crossing(start=-REACH_M, end=REACH_M, side=street.stem, signals=False, zebra=False),
            Crossing(start=-stem_half, end=stem_half, side=-street.stem, signals=False, zebra=False),
            *cuts,
        ]
    out = []
    for block in draw_blocks(rng, street, tuple(cuts), kind):
        corner = max(block.corner, _CORNER_M)
        if block.end == street.end:
            block = replace(block, open_end=False, corner=corner)
        if street.stem and block.side == street.stem:
            block = replace(
                block,
                open_end=block.open_end or block.end == -REACH_M,
                open_start=block.open_start or block.start == REACH_M,
            )
        out.append(block)
    return tuple(out)


def _frontage(leg: _Leg) -> tuple[tuple[Building, ...], tuple[Strip, ...]]:
    """Houses and barriers on the leg's own ground; what closes the view stands at its back end."""
    street = leg.street
    houses, strips = draw_frontage(leg.rng, street, leg.blocks, leg.kind)
    kept = []
    for house in houses:
        if house.s0 >= street.end:
            kept.append(replace(house, s0=street.start - 24, s1=street.start - 10))
            continue
        if any(house.side * c.side >= 0 and house.s0 < c.end and house.s1 > c.start for c in leg.crossings):
            house = replace(house, t0=max(house.t0, SIDE_M + 3))  # behind a side street: traffic leaves it before
        behind = street.stem == house.side and house.s0 < REACH_M - 1 and house.s1 > 1 - REACH_M
        own = house.t0 > SIDE_M or house.t0 + house.depth < REACH_M - 1
        if not behind and house.s1 < street.end and own:
            kept.append(house)
    barriers = [strip for strip in strips if street.owns(*np.array(strip.line).T).all()]
    return tuple(kept), tuple(barriers)


def _furnished(leg: _Leg, placer: Placer, about: Scene, choices: Choices) -> Scene:
    """The leg with everything that stands, except people."""
    buildings, strips = _frontage(leg)
    for house in buildings:
        placer.room.add_building(house)
    for strip in strips:
        placer.room.add_strip(strip)
    plots = [plot_of(leg.street, block) for block in leg.blocks]
    add_signals(placer, leg.street, leg.crossings, leg.blocks)
    add_roadside(placer, leg.street, leg.ego, plots, kind=leg.kind, season=about.season, density=choices.density)
    add_surroundings(placer, plots, leg.kind, about.season, choices.density)
    return replace(
        about,
        seed=leg.seed,
        kind=leg.kind,
        street=leg.street,
        crossings=leg.crossings,
        blocks=leg.blocks,
        buildings=buildings,
        strips=strips,
        things=(),
        hills=(),
        ego_lane=leg.ego.lane,
        ego_way=None,
    )


def _ego_track(moved: Moved, streets: Sequence[LegStreet]) -> EgoTrack:
    route = moved.drivers[0].route
    x = moved.x[:, 0]
    first = float(np.nanmin(x)) - 1  # metres along the route at which the line begins
    line_x = np.arange(0.0, float(np.nanmax(x)) - first + 10, _LINE_M)
    px, py, yaw = route.at(line_x + first)
    middle = np.stack([px, py], 1)
    left = 0.75 * np.stack([-np.sin(yaw), np.cos(yaw)], 1)
    height = (ground_heights(streets, middle + left) + ground_heights(streets, middle - left)) / 2
    zeros = (0.0,) * len(x)
    way = Way(times_s=tuple(moved.times_s.tolist()), s=tuple((x - first).tolist()), t=zeros, yaw=zeros, h=zeros)
    begins = tuple(float(begin - first) for begin in moved.begins if begin <= np.nanmax(x))
    return EgoTrack(way=way, line=np.column_stack([middle, height]), step_m=_LINE_M, begins=begins)


def _travellers(
    moved: Moved,
    ego: EgoTrack,
    streets: Sequence[LegStreet],
    rooms: Sequence[Room],
    numbers: Iterator[int],
) -> tuple[tuple[Thing, ...], Room]:
    """What drives, in world coordinates, and the room in which the ego vehicle and all of that moves."""
    room = Room(WORLD)
    for one in rooms:
        room.add_still(one)
    room.follow(moved.times_s)
    poses = ego.poses(moved.times_s)
    room.add_ego(poses[:, 0, 3], poses[:, 1, 3], np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    placer = Placer(moved.rng, streets[0], (), room, numbers)
    for thing in moved.things_near(poses[:, :2, 3], streets):
        placer.put(thing, placer.rider(thing))
    return tuple(placer.things), room


def _presence(ego: EgoTrack, number: int, times_s: np.ndarray) -> slice:
    """The moments at which people of a leg are about: from when the vehicle enters the leg before."""
    along = ego.along(times_s)
    begins = [-np.inf, *ego.begins[1:]]
    first = begins[number - 1] if 0 < number <= len(begins) else -np.inf if number == 0 else np.inf
    last = begins[number + 1] + _PAST_M if number + 1 < len(begins) else np.inf
    here = np.nonzero((along >= first) & (along <= last))[0]
    return slice(int(here[0]), int(here[-1]) + 1) if len(here) * STEP_S > _WALK_S else slice(0, 0)


def _peopled(leg: _Leg, placer: Placer, scene: Scene, part: slice, moving: Room, choices: Choices) -> Scene:
    """The leg with people."""
    about, rng = PLACE_KINDS[leg.kind], leg.rng
    plots = [plot_of(leg.street, block) for block in leg.blocks]
    crowd = about.crowd * float(rng.uniform(0.3, 1.9)) * choices.density
    still = len(placer.things)
    times = moving.times_s[part]
    late = float(times[0]) - ENTER_S if len(times) else 0.0
    if len(times):
        placer.room.follow_part(moving, part, times - late)
        clocks = [
            replace(crossing, closed=tuple((a - late, b - late) for a, b in crossing.closed))
            for crossing in leg.crossings
        ]
        add_walkers(placer, plots, clocks, crowd, about.crossing_people * choices.density, float(times[-1]) - late)
    for plot in plots:
        add_standing(placer, plot, 0.6 * crowd)
    things = placer.things[:still] + [_later(thing, late) for thing in placer.things[still:]]
    return replace(scene, things=tuple(things))


def _later(thing: Thing, seconds: float) -> Thing:
    if thing.way is None:
        return thing
    return replace(thing, way=replace(thing.way, times_s=tuple(time + seconds for time in thing.way.times_s)))
