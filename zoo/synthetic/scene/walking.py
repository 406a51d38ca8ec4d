"""People on foot stand in groups, walk along pavements and round corners, and cross where the cars are stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zoo.synthetic.scene.colors import person_palette
from zoo.synthetic.scene.plots import Plot, height_at, kerb_at
from zoo.synthetic.scene.traffic import ENTER_S, Placer
from zoo.synthetic.scene.types import Block, Crossing, Street, Thing, Way
from zoo.synthetic.shapes.templates import VARIANTS

__all__ = ["add_standing", "add_walkers"]

_ABREAST_M = 0.72  # between two people who walk together
_KNOT_S = 0.5
_STANDING = 3
"""Of four variants of a person the last one stands (`shapes.people`)."""
_SIDE_M = 45.0  # that people walk into a side street
_TRIES = 3
_LANES = 4  # that a group may choose from
_HALF_M = 0.28  # of somebody's width


def _person(placer: Placer, walks: bool) -> Thing:
    """Somebody of random looks, not yet in any place."""
    rng = placer.rng
    size = float(rng.choice([rng.uniform(0.92, 1.06), rng.uniform(0.62, 0.85)], p=[0.92, 0.08]))
    variant = 4 * int(rng.integers(VARIANTS // 4)) + (int(rng.integers(_STANDING)) if walks else _STANDING)
    return Thing(
        kind="person",
        variant=variant,
        s=0.0,
        t=0.0,
        scale=(size, size, size),
        palette=person_palette(rng),
    )


def add_standing(placer: Placer, plot: Plot, crowd: float) -> None:
    """Groups of one to four people who stand on the pavement; those in a group face each other."""
    rng, side = placer.rng, plot.block.side
    if plot.end - plot.start < 4:
        return
    for _ in range(rng.poisson(crowd * plot.length)):
        count = int(rng.choice([1, 2, 3, 4], p=[0.5, 0.3, 0.13, 0.07]))
        s = float(rng.uniform(plot.start, plot.end))
        t = (
            float(rng.uniform(plot.walk0 + 0.4, plot.walk1 - 0.3))
            if plot.walk1 - plot.walk0 > 0.8
            else plot.walk0 + 0.4
        )
        first, radius = float(rng.uniform(0, 2 * np.pi)), 0.0 if count == 1 else 0.55 + 0.08 * count
        for k in range(count):
            a = first + 2 * np.pi * k / count
            at_s, at_t = s + radius * np.cos(a), side * float(np.clip(t + radius * np.sin(a), plot.walk0, plot.walk1))
            yaw = float(a * side + np.pi + rng.normal(0, 0.3))
            where = replace(_person(placer, False), s=float(at_s), t=float(at_t), yaw=yaw)
            placer.put(where)


def add_walkers(
    placer: Placer,
    plots: Sequence[Plot],
    crossings: Sequence[Crossing],
    crowd: float,
    crossing_people: float,
    end_s: float,
) -> None:
    """Everybody who walks; called after the traffic, since they wait for nobody.

    Args:
        placer: Collects them.
        plots: The blocks.
        crossings: The side streets, with the times at which the main street is stopped.
        crowd: People per metre of pavement.
        crossing_people: Mean number who cross the main street each time it is stopped.
        end_s: Scene time up to which they walk.
    """
    rng, street = placer.rng, placer.street
    blocks = [plot.block for plot in plots]
    for crossing in crossings:
        for window in crossing.closed:
            if window[1] > ENTER_S and window[0] < end_s:
                for _ in range(rng.poisson(crossing_people)):
                    _add_crossing(placer, blocks, crossing, window, end_s)
    for plot in plots:
        if plot.walk1 - plot.walk0 < 0.9:
            continue
        for _ in range(rng.poisson(crowd * (plot.block.end - plot.block.start))):
            _add_group(placer, blocks, plot, end_s)
        for _ in range(rng.poisson(0.25 * crowd * plot.length)):
            _add_jaywalker(placer, street, blocks, plot, end_s)


def _add_group(placer: Placer, blocks: Sequence[Block], plot: Plot, end_s: float) -> None:
    """One to three people who walk along a block and then round its corner or on, across the side street."""
    rng, block = placer.rng, plot.block
    forward = 1 if rng.random() < 0.5 else -1
    pace = float(np.clip(rng.normal(1.3, 0.15), 0.8, 1.8))
    start = float(rng.uniform(block.start, block.end))
    # They keep to the right, more or less: most opposite ways lie on opposite halves of the pavement.
    middle, half = (plot.walk0 + plot.walk1) / 2, (plot.walk1 - plot.walk0) / 2 - 0.32
    end = block.end if forward > 0 else block.start
    open_end = block.open_end if forward > 0 else block.open_start
    onward = not open_end and rng.random() < 0.4
    members, placed, t = int(rng.choice([1, 2, 3], p=[0.68, 0.25, 0.07])), 0, middle
    lanes = middle + half * np.clip(rng.normal(-0.4 * forward * block.side, 0.6, _LANES), -1, 1)
    lanes = lanes[placer.room.open_lanes(start, end, block.side * lanes, _HALF_M)]
    for trial in range(len(lanes) + members - 1):
        if placed == members or (trial >= len(lanes) and not placed):
            break
        if placed:
            aside = t + placed * _ABREAST_M * (1 if t < middle else -1)
        else:
            t = aside = float(lanes[trial])
        if abs(aside - middle) > half + 0.05:
            break
        if open_end or onward:
            points = [(start, aside), (end + forward * 70.0, aside)]
        else:
            inner = end - forward * (0.6 + (aside - plot.walk0) % 1.2)
            points = [(start, aside), (inner, aside), (inner, aside + _SIDE_M)]
        line = [(s, block.side * at) for s, at in points]
        placed += _put_walker(placer, blocks, line, pace, ENTER_S, end_s)


def _add_crossing(
    placer: Placer, blocks: Sequence[Block], crossing: Crossing, window: tuple[float, float], end_s: float
) -> None:
    """Somebody who waits at the kerb, crosses the main street while it is stopped, and walks on."""
    rng, street = placer.rng, placer.street
    before = rng.random() < 0.5
    s = crossing.start - float(rng.uniform(0.9, 3.4)) if before else crossing.end + float(rng.uniform(0.9, 3.4))
    side = int(rng.choice([1, -1]))
    pace = float(np.clip(rng.normal(1.35, 0.15), 1.0, 1.9))
    near, far = (kerb_at(street, blocks, way, s) + 0.45 for way in (side, -side))
    across = (near + far) / pace
    latest = window[1] - across - 0.5
    begins = window[0] + float(rng.uniform(2.2, 5))
    if latest < begins:
        return
    onward = s - 30.0 if before else s + 30.0
    walkway = far + float(rng.uniform(0.2, 1.0))
    line = [(s, side * near), (s, -side * walkway), (onward, -side * walkway)]
    _put_walker(placer, blocks, line, pace, begins, end_s, waits_s=float(rng.uniform(2, 25)))


def _add_jaywalker(placer: Placer, street: Street, blocks: Sequence[Block], plot: Plot, end_s: float) -> None:
    """Somebody who crosses anywhere, in a gap in the traffic; nobody, if there is none."""
    rng, side = placer.rng, plot.block.side
    for _ in range(_TRIES if plot.end - plot.start > 4 else 0):
        s = float(rng.uniform(plot.start, plot.end))
        near = kerb_at(street, blocks, side, s) + 0.5
        far = kerb_at(street, blocks, -side, s) + 0.9
        onward = s + float(rng.choice([1, -1])) * 30
        if not placer.room.open_lanes(s, onward, np.array([-side * far]), _HALF_M).all():
            continue
        line = [(s, side * near), (s, -side * far), (onward, -side * far)]
        pace = float(np.clip(rng.normal(1.5, 0.2), 1.1, 2.4))
        begins = float(rng.uniform(0, min(end_s - 10, 40)))
        if _put_walker(placer, blocks, line, pace, begins, end_s, waits_s=float(rng.uniform(1, 6))):
            return


def _put_walker(
    placer: Placer,
    blocks: Sequence[Block],
    line: Sequence[tuple[float, float]],
    pace: float,
    begins: float,
    end_s: float,
    waits_s: float = 0.0,
) -> bool:
    """Somebody who is at the start of `line`, in street coordinates, until `begins` and then walks along it."""
    corners = np.asarray(line)
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    first, last = max(begins - waits_s, ENTER_S), min(begins + lengths[-1] / pace, end_s)
    if last - first < 1:
        return False
    times = np.append(np.arange(first, last, _KNOT_S), last)
    along = np.clip((times - begins) * pace, 0, None)
    s, t = np.interp(along, lengths, corners[:, 0]), np.interp(along, lengths, corners[:, 1])
    h = height_at(placer.street, blocks, s, t)
    ahead_s, ahead_t = (np.interp(along + 0.35, lengths, corners[:, k]) for k in (0, 1))
    back_s, back_t = (np.interp(np.maximum(along - 0.35, 0), lengths, corners[:, k]) for k in (0, 1))
    yaw = np.unwrap(np.arctan2(ahead_t - back_t, ahead_s - back_s))
    yaw[along + 0.35 > lengths[-1]] = yaw[along + 0.35 <= lengths[-1]][-1]
    needed = np.ones(len(times), bool)  # moments at which speed, direction or height change
    values = np.stack([s, t, h, yaw], 1)
    bend = np.abs(values[2:] - 2 * values[1:-1] + values[:-2]).max(1) > 1e-6
    needed[1:-1] = bend
    needed[2:-1] |= bend[:-1]
    needed[1:-2] |= bend[1:]
    columns = [tuple(value[needed].tolist()) for value in (times, s, t, yaw, h)]
    way = Way(times_s=columns[0], s=columns[1], t=columns[2], yaw=columns[3], h=columns[4])
    person = _person(placer, True)
    return placer.put(replace(person, s=way.s[0], t=way.t[0], yaw=way.yaw[0], h=way.h[0], way=way))
