"""What stands along both sides of the street behind the pavement: houses, and the barriers in front of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from zoo.synthetic.scene.colors import hsv
from zoo.synthetic.scene.kinds import PLACE_KINDS
from zoo.synthetic.scene.types import Block, Building, Color, Street, Strip
from zoo.synthetic.shapes.surfaces import Material

__all__ = ["draw_frontage"]

_WALLS = (Material.PLASTER, Material.BRICK, Material.STONE, Material.CONCRETE)
_BRICKS = ((0.28, 0.11, 0.07), (0.2, 0.09, 0.06), (0.4, 0.27, 0.15), (0.5, 0.4, 0.25), (0.15, 0.1, 0.08))
_STONES = ((0.42, 0.36, 0.27), (0.3, 0.27, 0.22), (0.5, 0.46, 0.4))
_ROOFS: tuple[Color, ...] = ((0.1, 0.1, 0.11), (0.22, 0.09, 0.06), (0.15, 0.12, 0.1), (0.3, 0.14, 0.09))
_CURTAIN_WALL = (0.04, 0.96, 0.12, 0.92)
"""The window of a glass front, in the form of `Building.window`: it leaves narrow frames."""
_LEAST_WIDTH_M = 4.5  # of a house


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What the houses along one side of the street have in common.

    Attributes:
        side: +1 left, -1 right.
        setback: Metres between pavement and houses.
        floors: Mean number.
        built_up: Share of the frontage with houses.
        joined: Whether they stand wall to wall.
    """

    side: int
    setback: float
    floors: float
    built_up: float
    joined: bool


def draw_frontage(
    rng: np.random.Generator, street: Street, blocks: tuple[Block, ...], kind: str
) -> tuple[tuple[Building, ...], tuple[Strip, ...]]:
    """All houses and barriers of a place."""
    buildings: list[Building] = []
    strips: list[Strip] = []
    for side in (1, -1):
        here = [block for block in blocks if block.side == side]
        row = _draw_row(rng, side, kind, here[0].park)
        for block in here:
            front = street.half_width + block.sidewalk + block.verge
            margin = max(block.sidewalk, 1.5)
            start = block.start + (0 if block.open_start else margin)
            stop = block.end - (0 if block.open_end else margin)
            buildings += _houses(rng, row, kind, (start, stop), front + row.setback)
            buildings += _second_row(rng, row, kind, (start, stop), front + row.setback)
            if rng.random() < 0.75 if block.park else row.setback > 1.0:
                strips += _barriers(rng, kind, side, (start, stop), front)
        if rng.random() < 0.25:
            strips += _railings(rng, street, here)
        for before, after in pairwise(here):
            buildings += _behind_side_street(rng, street, row, kind, before.end, after.start)
        for block in here if not here[0].park else ():
            strips += _bounds(rng, kind, street, block, row.setback, buildings)
    if rng.random() < 0.75 * PLACE_KINDS[kind].built_up:  # something closes the view at the end of the street
        buildings += [
            _building(rng, kind, street.end + 10, street.end + 24, float(t), 1, int(rng.integers(2, 6)))
            for t in np.arange(-60, 40, 16)
        ]
    return tuple(buildings), tuple(strips)


def _draw_row(rng: np.random.Generator, side: int, kind: str, park: bool) -> _Row:
    about = PLACE_KINDS[kind]
    floors = about.floors * rng.uniform(0.8, 1.3)
    setback = 0.0 if rng.random() < about.flush else float(rng.uniform(*about.setback))
    return _Row(
        side=side,
        setback=setback,
        floors=floors,
        built_up=about.built_up * (0.12 if park else 1),
        joined=about.rows and rng.random() < 0.8,
    )


def _houses(
    rng: np.random.Generator, row: _Row, kind: str, s_range: tuple[float, float], front: float
) -> list[Building]:
    """Houses from one end of a block to the other, `front` metres from the centre line."""
    about = PLACE_KINDS[kind]
    out = []
    s, stop = s_range
    while s < stop - 5:
        width = min(float(rng.uniform(*about.house_width)), stop - s)
        if rng.random() < row.built_up and width > _LEAST_WIDTH_M:
            floors = int(np.clip(rng.normal(row.floors, about.floors_spread), 1, 11))
            shift = 0.0 if row.joined else float(rng.uniform(0, 2.5))
            out.append(_building(rng, kind, s, s + width, front + shift, row.side, floors))
        s += width + (0.0 if row.joined else float(rng.uniform(*about.gaps)))
    return out


def _second_row(
    rng: np.random.Generator, row: _Row, kind: str, s_range: tuple[float, float], front: float
) -> list[Building]:
    """Houses 30 to 60 m behind the fronts, seen in the gaps of the first row and above it."""
    out = []
    for s in np.arange(s_range[0], s_range[1] - 18, 22.0):
        if rng.random() < PLACE_KINDS[kind].second_row * (0.3 if row.built_up < 0.15 else 1):
            width, back = float(rng.uniform(10, 20)), front + float(rng.uniform(28, 45))
            floors = int(np.clip(rng.normal(row.floors + 0.8, 1.5), 1, 11))
            plain = _building(rng, kind, float(s), float(s) + width, back, row.side, floors)
            # Seen from the street only from afar: without what would not be made out.
            out.append(replace(plain, shop=False, balconies=False, sills=False, bay=max(plain.bay, 3.0)))
    return out


def _behind_side_street(
    rng: np.random.Generator, street: Street, row: _Row, kind: str, start: float, end: float
) -> list[Building]:
    """A house that closes the view into a side street, or none."""
    if rng.random() >= 0.55:
        return []
    s0, s1 = start - rng.uniform(0, 6), end + rng.uniform(0, 6)
    front = street.half_width + float(rng.uniform(30, 55))
    return [_building(rng, kind, s0, s1, front, row.side, int(np.clip(rng.normal(row.floors, 1), 1, 8)))]


def _building(rng: np.random.Generator, kind: str, s0: float, s1: float, t0: float, side: int, floors: int) -> Building:
    about = PLACE_KINDS[kind]
    wall = Material(int(rng.choice(_WALLS, p=about.walls)))
    color = _wall_color(rng, wall)
    glass = rng.random() < about.glass
    bay = float(rng.uniform(1.8, 4.2))
    window = _CURTAIN_WALL if glass else _window(rng)
    roof = str(rng.choice(["gable", "flat", "hip", "mansard"], p=about.roofs))
    return Building(
        s0=s0,
        s1=s1,
        t0=t0,
        side=side,
        depth=float(rng.uniform(7, 14)),
        floors=floors,
        storey=float(rng.uniform(2.6, 3.7)),
        ground=float(rng.uniform(2.9, 4.4)),
        bay=bay,
        window=window,
        recess=float(rng.uniform(0.04, 0.35)),
        wall=wall,
        color=tuple(np.clip(color * rng.uniform(0.75, 1.3), 0.03, 0.85)),
        trim=tuple(np.full(3, rng.choice([0.75, 0.6, 0.2, 0.04, 0.4]))),
        roof=roof,
        roof_color=_ROOFS[int(rng.integers(4))],
        pitch=float(rng.uniform(0.5, 1.1)),
        shop=bool(rng.random() < about.shop),
        shop_color=hsv(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.02, 0.5)),
        awning=bool(rng.random() < 0.2),
        balconies=bool(rng.random() < 0.15),
        cornice=bool(rng.random() < 0.5),
        sills=bool(rng.random() < 0.6),
        chimneys=int(rng.integers(0, 4)),
        seed=int(rng.integers(1 << 30)),
    )


def _wall_color(rng: np.random.Generator, wall: Material) -> np.ndarray:
    if wall == Material.BRICK:
        return np.array(_BRICKS[int(rng.integers(5))])
    if wall == Material.STONE:
        return np.array(_STONES[int(rng.integers(3))])
    if wall == Material.CONCRETE:
        return np.full(3, rng.uniform(0.15, 0.5)) * (1 + rng.normal(0, 0.04, 3))
    hue = float(rng.choice([0.1, 0.12, 0.06, 0.0, 0.55, 0.3])) + rng.normal(0, 0.02)
    return np.array(hsv(hue, rng.uniform(0.0, 0.35), rng.uniform(0.35, 0.8)))


def _window(rng: np.random.Generator) -> tuple[float, float, float, float]:
    half = rng.uniform(0.17, 0.36)
    low = rng.uniform(0.22, 0.36)
    return float(0.5 - half), float(0.5 + half), float(low), float(min(low + rng.uniform(0.4, 0.58), 0.93))


def _barriers(
    rng: np.random.Generator, kind: str, side: int, s_range: tuple[float, float], front: float
) -> list[Strip]:
    """Walls, fences, hedges or guard rails along one block, `front` metres from the centre line."""
    what = str(rng.choice(["wall", "fence", "hedge", "rail", "none"], p=PLACE_KINDS[kind].barriers))
    if what == "none":
        return []
    out, s = [], s_range[0]
    while s < s_range[1] - 3:
        stop = min(s + float(rng.uniform(8, 45)), s_range[1])
        out.append(_strip(rng, what, ((s, side * (front + 0.2)), (stop, side * (front + 0.2)))))
        if rng.random() < 0.4:
            what = str(rng.choice(["wall", "fence", "hedge"], p=[0.14, 0.42, 0.44]))
        s = stop + float(rng.choice([0.0, rng.uniform(1, 4)]))
    return out


def _bounds(
    rng: np.random.Generator, kind: str, street: Street, block: Block, setback: float, houses: list[Building]
) -> list[Strip]:
    """Hedges and fences between the lots of a block, and along their far ends; they pass by the houses."""
    out = []
    margin = max(block.sidewalk, 1.5)
    front = street.half_width + block.sidewalk + block.verge
    s, end = block.start + margin + float(rng.uniform(2, 9)), block.end - margin
    near, far = block.side * (front + 1.6), block.side * (front + setback + float(rng.uniform(18, 25)))
    while s < end - 2:
        stop = min(s + float(rng.uniform(9, 20)), end)
        for line in (((s, near), (s, far)), ((s + 0.6, far), (stop - 0.6, far))):
            if rng.random() < PLACE_KINDS[kind].bounds and not any(_crosses(line, house) for house in houses):
                out.append(_strip(rng, str(rng.choice(["fence", "hedge"], p=[0.4, 0.6])), line))
        s = stop
    return out


def _crosses(line: tuple[tuple[float, float], ...], house: Building) -> bool:
    """Whether a line along or across the street runs through a house, or passes by within a hedge's width."""
    (s0, t0), (s1, t1) = line
    if t0 * house.side < 0:
        return False
    near, far = sorted((abs(t0), abs(t1)))
    beside = s1 < house.s0 - 1.3 or s0 > house.s1 + 1.3
    return not (beside or far < house.t0 - 1.3 or near > house.t0 + house.depth + 1.3)


def _strip(rng: np.random.Generator, what: str, line: tuple[tuple[float, float], ...]) -> Strip:
    color, height = _barrier_look(rng, what)
    return Strip(
        kind=what,
        line=line,
        height=height,
        variant=int(rng.integers(0, 24)),
        color=color,
        seed=int(rng.integers(1 << 30)),
    )


def _barrier_look(rng: np.random.Generator, what: str) -> tuple[Color, float]:
    """Colour, and height in metres. Those of every sort are drawn: the draws that follow must not depend on it."""
    colors = {
        "hedge": (0.1, 0.15, 0.05),
        "wall": hsv(float(rng.uniform(0.02, 0.12)), float(rng.uniform(0, 0.5)), float(rng.uniform(0.15, 0.55))),
        "fence": hsv(rng.random(), float(rng.choice([0, 0, 0.4])), float(rng.choice([0.02, 0.05, 0.25, 0.6]))),
        "rail": (0.45, 0.45, 0.46),
    }
    heights = {
        "wall": rng.uniform(0.4, 1.9),
        "fence": rng.uniform(0.8, 1.8),
        "hedge": rng.uniform(0.7, 1.9),
        "rail": 0.75,
    }
    return colors[what], float(heights[what])


def _railings(rng: np.random.Generator, street: Street, blocks: list[Block]) -> list[Strip]:
    """Railings along the kerb at both ends of each block, where there is room for them."""
    out = []
    for block in blocks:
        low, high = block.start + block.corner, block.end - block.corner
        at = block.side * (street.half_width + 0.35)
        for s0, s1 in ((low + 0.5, low + float(rng.uniform(8, 30))), (high - float(rng.uniform(8, 30)), high - 0.5)):
            if block.start < s0 and s1 < block.end:
                out.append(
                    Strip(
                        kind="fence",
                        line=((s0, at), (s1, at)),
                        height=float(rng.uniform(0.9, 1.15)),
                        variant=int(4 * rng.integers(6)),  # multiples of 4 are railings, see `models.barriers`
                        color=hsv(0.1, 0.1, float(rng.choice([0.03, 0.3, 0.5]))),
                        seed=int(rng.integers(1 << 30)),
                    )
                )
    return out
