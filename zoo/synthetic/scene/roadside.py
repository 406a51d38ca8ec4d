"""What stands on a block: parked vehicles, racks, lamps, trees, plants, street furniture, signals on its corners."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.synthetic.scene.kinds import PLACE_KINDS, PlaceKind
from zoo.synthetic.scene.plots import Plot, kerb_at
from zoo.synthetic.scene.room import footprint
from zoo.synthetic.scene.traffic import Ego, Placer
from zoo.synthetic.scene.types import Block, Crossing, Street, Thing
from zoo.synthetic.shapes.templates import VARIANTS

__all__ = ["add_roadside", "add_signals"]

_LENGTHS_M = {"car": 4.6, "truck": 10.0, "motorcycle": 2.0}
"""Of parked vehicles: street that they take up."""

_TREES = 14
"""At least as many trees stand in a place: what remains is planted along its kerbs."""
_TREE_STYLES = VARIANTS // 3
"""Variants of a tree come in threes: bare first, then two with leaves (`shapes.plants`)."""
_FURNITURE = (
    ("sign", 0.032),
    ("bollard", 0.012),
    ("bin", 0.012),
    ("bench", 0.006),
    ("board", 0.006),
    ("mast", 0.006),
    ("shelter", 0.004),
)
"""Kinds, and how many there are per metre of a town's blocks."""


def add_roadside(
    placer: Placer, street: Street, ego: Ego, plots: Sequence[Plot], *, kind: str, season: str, density: float
) -> None:
    """Everything that stands on the blocks, and trees along the kerbs where a place has too few."""
    rng, about = placer.rng, PLACE_KINDS[kind]
    bare = season == "winter" or (season in ("autumn", "spring") and rng.random() < 0.3)
    for plot in plots:
        if plot.end - plot.start < 4:
            continue
        _add_furniture(placer, plot, about.furniture)
        if rng.random() < about.lamps:
            _add_lamps(placer, plot)
        if street.parking[0 if plot.block.side > 0 else 1] > 0:
            _add_parked(placer, plot, ego, density)
        for _ in range(rng.poisson(density * about.racks * plot.length)):
            _add_rack(placer, plot)
        if rng.random() < about.street_trees:
            _add_tree_row(placer, plot, bare)
        _add_plants(placer, plot, about, bare)
    trees = sum(thing.kind == "tree" for thing in placer.things)
    for thing in _missing_trees(rng, plots, bare, _TREES - trees):
        placer.put(thing)


def _add_parked(placer: Placer, plot: Plot, ego: Ego, density: float) -> None:
    rng, side = placer.rng, plot.block.side
    s = plot.start + 3
    taken = density * rng.uniform(0.3, 0.95)
    while s < plot.end - 4:
        if rng.random() < taken:
            what = str(rng.choice(["car", "truck", "motorcycle"], p=[0.92, 0.03, 0.05]))
            middle = s + (5.2 if what == "truck" else 2.4)
            t = side * (plot.edge - 1.03 + float(np.clip(rng.normal(0, 0.05), -0.08, 0.08)))
            yaw = (0.0 if side == ego.keep else np.pi) + float(rng.normal(0, 0.02))
            placer.put(placer.vehicle(what, middle, t, yaw))
            s += _LENGTHS_M[what] + float(rng.uniform(0.5, 1.6))
        else:
            s += 5.5


def _add_rack(placer: Placer, plot: Plot) -> None:
    """Bicycles or motorcycles parked side by side, along the pavement where they would not fit across it."""
    rng, side = placer.rng, plot.block.side
    kind = str(rng.choice(["bicycle", "motorcycle"], p=[0.9, 0.1]))
    s = float(rng.uniform(plot.start, plot.end))
    across = plot.walk1 - plot.walk0 > 3.2
    turn = np.pi / 2 * rng.choice([1, -1]) if across else float(rng.choice([0, np.pi]))
    t = side * (plot.walk1 - 1.1 if across else max(plot.posts, plot.edge + 0.4))
    for _ in range(int(rng.integers(1, 12))):
        yaw = float(turn + rng.normal(0, 0.08))
        placer.put(placer.vehicle(kind, s, t, yaw))
        s += (0.85 if kind == "bicycle" else 1.1) if across else 2.1


def _add_lamps(placer: Placer, plot: Plot) -> None:
    rng, side = placer.rng, plot.block.side
    spacing, phase = float(rng.uniform(24, 45)), float(rng.uniform(0, 18))
    style = int(rng.integers(VARIANTS))
    for s in np.arange(plot.start + phase, plot.end, spacing):
        if rng.random() < 0.9:
            placer.put(
                Thing(
                    kind="lamp",
                    variant=style,
                    s=float(s),
                    t=side * plot.posts,
                    yaw=-side * np.pi / 2,  # the arm reaches over the road
                )
            )


def _add_tree_row(placer: Placer, plot: Plot, bare: bool) -> None:
    """Trees whose crowns nearly touch, next to the kerb or where the gardens begin."""
    rng = placer.rng
    style, size = int(rng.integers(_TREE_STYLES)), float(rng.uniform(0.8, 2.0))
    spacing = float(rng.uniform(5, 8)) * (0.4 + 0.8 * size)
    t = plot.posts if rng.random() < 0.6 else plot.back + 1.1
    for s in np.arange(plot.start + float(rng.uniform(0, 6)), plot.end, spacing):
        variant = 3 * style if bare else 3 * style + int(rng.integers(1, 3))
        height = size * float(rng.uniform(0.8, 1.2))
        placer.put(
            Thing(
                kind="tree",
                variant=variant,
                s=float(s),
                t=plot.block.side * t,
                yaw=float(rng.uniform(0, 6.3)),
                scale=(height, height, height * float(rng.uniform(0.85, 1.15))),
            )
        )


def _add_plants(placer: Placer, plot: Plot, about: PlaceKind, bare: bool) -> None:
    """Trees, conifers and bushes behind the pavement, fewer with distance."""
    rng, block = placer.rng, plot.block
    nearest = plot.back + 2
    for _ in range(rng.poisson(plot.length * about.plants)):
        kind = str(rng.choice(["tree", "conifer", "bush"], p=[0.45, 0.2, 0.35]))
        height = float(rng.uniform(0.45, 1.5))  # those in gardens begin to branch low
        style = int(rng.integers(_TREE_STYLES))
        placer.put(
            Thing(
                kind=kind,
                variant=3 * style + (0 if bare and rng.random() < 0.85 else int(rng.integers(1, 3))),
                s=float(rng.uniform(block.start, block.end)),
                t=block.side * (nearest + float(rng.exponential(about.plants_reach))),
                yaw=float(rng.uniform(0, 6.3)),
                scale=(height, height, height),
            )
        )


def _add_furniture(placer: Placer, plot: Plot, share: float) -> None:
    rng, side = placer.rng, plot.block.side
    for kind, rate in _FURNITURE:
        for _ in range(rng.poisson(share * rate * plot.length)):
            s = float(rng.uniform(plot.start, plot.end))
            variant = int(rng.integers(VARIANTS))
            if kind == "bollard":
                for k in range(int(rng.integers(2, 8))):
                    t = side * (plot.edge + 0.3)
                    placer.put(Thing(kind=kind, variant=variant, s=s + 1.5 * k, t=t))
                continue
            facing = (0.0 if rng.random() < 0.7 else np.pi) + float(rng.normal(0, 0.15))
            at = plot.posts if kind in ("sign", "mast", "board") else plot.walk1 - 0.45
            if kind in ("bench", "shelter"):
                facing = -side * np.pi / 2
            # What is wide stands back, so that nothing hangs over the road.
            wide = footprint(Thing(kind=kind, variant=variant, s=0.0, t=0.0))[3]
            at = max(at, plot.edge + 0.2 + (0.8 if kind == "shelter" else wide))
            placer.put(Thing(kind=kind, variant=variant, s=s, t=side * at, yaw=facing))


def _missing_trees(rng: np.random.Generator, plots: Sequence[Plot], bare: bool, missing: int) -> list[Thing]:
    """`missing` trees of one style, spread evenly along the kerbs of all blocks that are long enough."""
    rows = [plot for plot in plots if plot.end - plot.start > 4]
    if missing <= 0 or not rows:
        return []
    style, out = int(rng.integers(_TREE_STYLES)), []
    length = np.array([plot.end - plot.start for plot in rows])
    places = np.floor(np.arange(missing) / missing * length.sum() + rng.uniform(0, 1))  # metres along all kerbs
    ends = np.cumsum(length)
    for place in places:
        k = min(int(np.searchsorted(ends, place, "right")), len(rows) - 1)
        plot = rows[k]
        size = float(rng.uniform(0.55, 1.1))
        out.append(
            Thing(
                kind="tree",
                variant=3 * style if bare else 3 * style + int(rng.integers(1, 3)),
                s=float(plot.start + place - (ends[k] - length[k])),
                t=plot.block.side * plot.posts,
                yaw=float(rng.uniform(0, 6.3)),
                scale=(size, size, size * float(rng.uniform(0.85, 1.15))),
            )
        )
    return out


def add_signals(placer: Placer, street: Street, crossings: Sequence[Crossing], blocks: Sequence[Block]) -> None:
    """Signals or signs on the corners of side streets."""
    rng = placer.rng
    for crossing in crossings:
        if not crossing.signals and rng.random() >= 0.3:
            continue
        variant = int(rng.integers(VARIANTS))
        for side in (1, -1):
            for s, yaw in ((crossing.start - 3.9, 0.0), (crossing.end + 3.9, np.pi)):
                if rng.random() < 0.75:
                    placer.put(
                        Thing(
                            kind="traffic_light" if crossing.signals else "sign",
                            variant=(variant + int(rng.integers(0, 3))) % VARIANTS,
                            s=s,
                            t=side * (kerb_at(street, blocks, side, s) + 0.6),
                            yaw=yaw + float(rng.normal(0, 0.1)),
                        )
                    )
