"""What stands on a block: parked vehicles, people, racks, lamps, trees, plants and street furniture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.synthetic.scene.colors import person_palette, vehicle_palette
from zoo.synthetic.scene.kinds import PLACE_KINDS, PlaceKind
from zoo.synthetic.scene.traffic import Ego, Placer
from zoo.synthetic.scene.types import Block, Street, Thing
from zoo.synthetic.shapes.templates import VARIANTS

__all__ = ["add_roadside"]

_TREES = 26
"""At least as many trees stand in a place: what remains is planted along its kerbs."""
_TREE_STYLES = VARIANTS // 3
"""Variants of a tree come in threes: bare first, then two with leaves (`shapes.plants`)."""
_FURNITURE = (
    ("sign", 0.045),
    ("bollard", 0.02),
    ("bin", 0.012),
    ("bench", 0.006),
    ("board", 0.006),
    ("mast", 0.006),
    ("shelter", 0.004),
)
"""Kinds, and how many there are per metre of block."""


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """Where things can stand on one block: metres, along the street or away from its centre line.

    Attributes:
        start, end: Of the straight part between its corners.
        edge: The kerb.
        walk0, walk1: Edges of the pavement.
    """

    block: Block
    start: float
    end: float
    edge: float
    walk0: float
    walk1: float

    @property
    def length(self) -> float:
        """Of the whole block."""
        return self.block.end - self.block.start


def _plot(street: Street, block: Block) -> _Plot:
    edge = street.half_width
    walk0 = edge + (block.verge if block.verge_first else 0)
    return _Plot(
        block=block,
        start=block.start + (0 if block.open_start else block.corner + 2),
        end=block.end - (0 if block.open_end else block.corner + 2),
        edge=edge,
        walk0=walk0,
        walk1=walk0 + max(block.sidewalk, 0.8),
    )


def add_roadside(placer: Placer, street: Street, ego: Ego, blocks: Sequence[Block], *, kind: str, season: str) -> None:
    """Everything on the blocks, and trees along the kerbs where a place has too few."""
    rng, about = placer.rng, PLACE_KINDS[kind]
    crowd = about.crowd * rng.uniform(0.2, 2.2)
    bare = season == "winter" or (season in ("autumn", "spring") and rng.random() < 0.3)
    for block in blocks:
        plot = _plot(street, block)
        if plot.end - plot.start < 4:
            continue
        if street.parking[0 if block.side > 0 else 1] > 0:
            _add_parked(placer, plot, ego)
        _add_people(placer, street, plot, crowd)
        if rng.random() < 0.3:
            _add_rack(placer, street, plot)
        _add_lamps(placer, street, plot)
        if rng.random() < about.street_trees:
            _add_tree_row(placer, street, plot, bare)
        _add_plants(placer, street, plot, about, bare)
        _add_furniture(placer, street, plot)
    trees = sum(thing.kind == "tree" for thing in placer.things)
    placer.things += _missing_trees(rng, street, blocks, bare, _TREES - trees)


def _add_parked(placer: Placer, plot: _Plot, ego: Ego) -> None:
    rng, side = placer.rng, plot.block.side
    s = plot.start + 3
    density = rng.uniform(0.3, 0.95)
    while s < plot.end - 4:
        if rng.random() < density:
            what = str(rng.choice(["car", "truck", "motorcycle"], p=[0.93, 0.02, 0.05]))
            middle = s + (5.2 if what == "truck" else 2.4)
            t = side * (plot.edge - 1.05 + rng.normal(0, 0.1))
            yaw = (0.0 if side == ego.keep else np.pi) + rng.normal(0, 0.03)
            used = placer.vehicle(middle, t, yaw=yaw, kind=what)
            s += used + float(rng.uniform(0.5, 1.6))
        else:
            s += 5.5


def _add_people(placer: Placer, street: Street, plot: _Plot, crowd: float) -> None:
    """Groups of one to three; seven in ten walk."""
    rng = placer.rng
    for _ in range(rng.poisson(crowd * plot.length)):
        s = float(rng.uniform(plot.start - 3, plot.end + 3))
        t = float(rng.uniform(plot.walk0 + 0.3, plot.walk1))
        yaw = float(rng.choice([0, np.pi]) + rng.normal(0, 0.35))
        for _ in range(int(rng.choice([1, 2, 3], p=[0.7, 0.22, 0.08]))):
            size = float(rng.choice([rng.uniform(0.9, 1.08), rng.uniform(0.6, 0.85)], p=[0.9, 0.1]))
            placer.things.append(
                Thing(
                    kind="person",
                    variant=int(rng.integers(VARIANTS)),
                    s=s,
                    t=plot.block.side * t,
                    yaw=yaw,
                    h=street.kerb,
                    scale=(size, size, size),
                    palette=person_palette(rng),
                    # Things move along the street only: of 1.3 m/s along their heading, this is the part that counts.
                    speed=float(1.3 * np.cos(yaw)) if rng.random() < 0.7 else 0.0,
                    instance=placer.number(),
                )
            )
            s, t = s + float(rng.normal(0, 0.5)), t + float(rng.uniform(0.5, 0.8))


def _add_rack(placer: Placer, street: Street, plot: _Plot) -> None:
    """Bicycles or motorcycles parked side by side."""
    rng = placer.rng
    s0, kind = float(rng.uniform(plot.start, plot.end)), str(rng.choice(["bicycle", "motorcycle"], p=[0.65, 0.35]))
    for k in range(int(rng.integers(1, 9))):
        placer.things.append(
            Thing(
                kind=kind,
                variant=int(rng.integers(VARIANTS)),
                s=s0 + (0.6 if kind == "bicycle" else 1.0) * k,
                t=plot.block.side * (plot.walk1 - 0.7),
                yaw=float(np.pi / 2 + rng.normal(0, 0.15)),
                h=street.kerb,
                palette=vehicle_palette(rng),
                instance=placer.number(),
            )
        )


def _add_lamps(placer: Placer, street: Street, plot: _Plot) -> None:
    rng, side = placer.rng, plot.block.side
    spacing, phase = float(rng.uniform(18, 38)), float(rng.uniform(0, 18))
    style = int(rng.integers(VARIANTS))
    for s in np.arange(plot.start + phase, plot.end, spacing):
        if rng.random() < 0.9:
            placer.things.append(
                Thing(
                    kind="lamp",
                    variant=style,
                    s=float(s),
                    t=side * (plot.edge + 0.45),
                    yaw=-side * np.pi / 2,  # the arm reaches over the road
                    h=street.kerb,
                )
            )


def _tree_line(street: Street, block: Block) -> float:
    """Metres from the centre line of a row of trees: on a wide pavement at the kerb, otherwise behind it."""
    return street.half_width + (0.9 if block.sidewalk > 2.2 else block.sidewalk + block.verge + 1.0)


def _add_tree_row(placer: Placer, street: Street, plot: _Plot, bare: bool) -> None:
    rng = placer.rng
    spacing, style, size = float(rng.uniform(6, 16)), int(rng.integers(_TREE_STYLES)), float(rng.uniform(0.6, 1.4))
    line = _tree_line(street, plot.block)
    for s in np.arange(plot.start + float(rng.uniform(0, 6)), plot.end, spacing):
        variant = 3 * style if bare else 3 * style + int(rng.integers(1, 3))
        height = size * float(rng.uniform(0.8, 1.2))
        placer.things.append(
            Thing(
                kind="tree",
                variant=variant,
                s=float(s),
                t=plot.block.side * line,
                yaw=float(rng.uniform(0, 6.3)),
                h=street.kerb,
                scale=(height, height, height * float(rng.uniform(0.85, 1.15))),
            )
        )


def _add_plants(placer: Placer, street: Street, plot: _Plot, about: PlaceKind, bare: bool) -> None:
    """Trees, conifers and bushes behind the pavement, fewer with distance."""
    rng, block = placer.rng, plot.block
    nearest = plot.edge + block.sidewalk + block.verge + 2
    for _ in range(rng.poisson(plot.length * about.plants)):
        kind = str(rng.choice(["tree", "conifer", "bush"], p=[0.45, 0.2, 0.35]))
        height = float(rng.uniform(0.7, 1.5))
        style = int(rng.integers(_TREE_STYLES))
        placer.things.append(
            Thing(
                kind=kind,
                variant=3 * style + (0 if bare and rng.random() < 0.85 else int(rng.integers(1, 3))),
                s=float(rng.uniform(block.start, block.end)),
                t=block.side * (nearest + float(rng.exponential(about.plants_reach))),
                yaw=float(rng.uniform(0, 6.3)),
                h=street.kerb,
                scale=(height, height, height),
            )
        )


def _add_furniture(placer: Placer, street: Street, plot: _Plot) -> None:
    rng, side = placer.rng, plot.block.side
    for kind, rate in _FURNITURE:
        for _ in range(rng.poisson(rate * plot.length)):
            s = float(rng.uniform(plot.start, plot.end))
            variant = int(rng.integers(VARIANTS))
            if kind == "bollard":
                for k in range(int(rng.integers(2, 8))):
                    t = side * (plot.edge + 0.35)
                    placer.things.append(Thing(kind=kind, variant=variant, s=s + 1.5 * k, t=t, h=street.kerb))
                continue
            facing = (0.0 if rng.random() < 0.7 else np.pi) + float(rng.normal(0, 0.15))
            at_kerb = kind in ("sign", "mast", "board")
            at = plot.edge + float(rng.uniform(0.35, 0.7)) if at_kerb else plot.walk1 - 0.5
            if kind in ("bench", "shelter"):
                facing = -side * np.pi / 2
            placer.things.append(Thing(kind=kind, variant=variant, s=s, t=side * at, yaw=facing, h=street.kerb))


def _missing_trees(
    rng: np.random.Generator, street: Street, blocks: Sequence[Block], bare: bool, missing: int
) -> list[Thing]:
    """`missing` trees of one style, spread evenly along the kerbs of all blocks that are long enough."""
    rows = [(b, b.start + b.corner + 2, b.end - b.corner - 2) for b in blocks if b.end - b.start > 2 * b.corner + 8]
    if missing <= 0 or not rows:
        return []
    style, out = int(rng.integers(_TREE_STYLES)), []
    length = np.array([stop - start for _, start, stop in rows])
    places = np.floor(np.arange(missing) / missing * length.sum() + rng.uniform(0, 1))  # metres along all kerbs
    ends = np.cumsum(length)
    for place in places:
        k = min(int(np.searchsorted(ends, place, "right")), len(rows) - 1)
        block, start, _ = rows[k]
        size = float(rng.uniform(0.55, 1.1))
        out.append(
            Thing(
                kind="tree",
                variant=3 * style if bare else 3 * style + int(rng.integers(1, 3)),
                s=float(start + place - (ends[k] - length[k])),
                t=block.side * _tree_line(street, block),
                yaw=float(rng.uniform(0, 6.3)),
                h=street.kerb,
                scale=(size, size, size * float(rng.uniform(0.85, 1.15))),
            )
        )
    return out
