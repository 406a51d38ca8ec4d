"""What lies behind the pavement and between the houses: thickets, woods, meadows and car parks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.synthetic.scene.kinds import PLACE_KINDS, PlaceKind
from zoo.synthetic.scene.plots import Plot, is_grass
from zoo.synthetic.scene.traffic import Placer
from zoo.synthetic.scene.types import Thing
from zoo.synthetic.shapes.templates import VARIANTS

__all__ = ["add_surroundings"]

_FARTHEST_M = 66.0  # from the centre line; the blocks end at 75 m
_BAY_M = 2.7  # a parking space
_TRIES = 3
_THICKET_M = 6.0  # from one to the next in a row
_GROVE_STYLES = VARIANTS // 3
"""Variants of a grove come in threes: bare first, then two with leaves (`shapes.plants`)."""


def add_surroundings(placer: Placer, plots: Sequence[Plot], kind: str, season: str, density: float) -> None:
    """Everything of this sort on all blocks, where there is room."""
    about, rng = PLACE_KINDS[kind], placer.rng
    lush = float(rng.uniform(0.5, 1.5))
    bare = season == "winter"
    for plot in plots:
        if rng.random() < about.lots:
            _add_lot(placer, plot, density)
        _add_thickets(placer, plot, about, lush)
        _add_woods(placer, plot, about, lush, bare)
        _add_undergrowth(placer, plot, about, lush)
        if rng.random() < about.verges:
            _add_verge(placer, plot)
        _add_meadow(placer, plot, about)


def _plant(
    placer: Placer, kind: str, s: float, t: float, size: float, *, yaw: float | None = None, bare: bool = False
) -> bool:
    rng = placer.rng
    variant = int(rng.integers(VARIANTS))
    if kind == "grove":
        variant = 3 * (variant % _GROVE_STYLES) + (0 if bare else 1 + variant // (2 * _GROVE_STYLES))
    turn = float(rng.uniform(0, 6.3))
    return placer.put(
        Thing(
            kind=kind,
            variant=variant,
            s=s,
            t=t,
            yaw=turn if yaw is None else yaw,
            scale=(size, size, size * float(rng.uniform(0.85, 1.2))),
        )
    )


def _add_thickets(placer: Placer, plot: Plot, about: PlaceKind, lush: float) -> None:
    """Shrubs as tall as a person or twice, whose leaves reach the ground: along the edge of gardens, and in them."""
    rng, block = placer.rng, plot.block
    if plot.end - plot.start < 10:
        return
    share = min(0.9, lush * about.thickets * _THICKET_M) * (0.6 if block.park else 1)
    for s in np.arange(plot.start + 4, plot.end - 3, _THICKET_M):
        if rng.random() < share:
            at, t = float(s + rng.normal(0, 1)), plot.back + 2.0 + float(rng.exponential(0.8))
            size, yaw = float(rng.uniform(0.6, 1.2)), float(rng.normal(0, 0.06))
            _plant(placer, "thicket", at, block.side * t, size, yaw=yaw)
    for _ in range(rng.poisson((0.12 if block.park else 0.5 * about.thickets) * lush * plot.length)):
        beyond = 3 + float(rng.exponential(9)) if block.park and rng.random() < 0.5 else float(rng.uniform(5, 45))
        s, t = float(rng.uniform(plot.start, plot.end)), plot.back + beyond
        _plant(placer, "thicket", s, block.side * t, float(rng.uniform(0.7, 1.4)))


def _add_woods(placer: Placer, plot: Plot, about: PlaceKind, lush: float, bare: bool) -> None:
    rng, block = placer.rng, plot.block
    if plot.length < 16:
        return
    park = block.park
    for _ in range(rng.poisson((0.1 + about.woods if park else about.woods) * lush * plot.length)):
        for _ in range(_TRIES):
            t = plot.back + (6.5 if park else about.woods_from) + float(rng.exponential(14))
            s = float(rng.uniform(block.start + 6, block.end - 6))
            if t < _FARTHEST_M and _plant(placer, "grove", s, block.side * t, float(rng.uniform(0.7, 1.3)), bare=bare):
                break


def _add_undergrowth(placer: Placer, plot: Plot, about: PlaceKind, lush: float) -> None:
    """Bushes in loose rows, from the edge of the pavement on."""
    rng, block = placer.rng, plot.block
    if plot.end - plot.start < 8:
        return
    for _ in range(rng.poisson(about.undergrowth * lush * plot.length / 1.5)):
        s, t = float(rng.uniform(plot.start, plot.end)), plot.back + 1.3 + float(rng.exponential(6))
        for _ in range(int(rng.integers(2, 6))):
            _plant(placer, "bush", s, block.side * t, float(rng.uniform(0.6, 1.7)))
            s, t = s + float(rng.normal(1.8, 1.5)), max(t + float(rng.normal(0, 1.0)), plot.back + 1.2)


def _add_verge(placer: Placer, plot: Plot) -> None:
    """Low bushes, one next to the other, on a verge between road and pavement, or behind the pavement."""
    rng, block = placer.rng, plot.block
    if block.verge < 1.4:
        return
    t = plot.edge + (0 if block.verge_first else block.sidewalk) + block.verge / 2 + 0.15
    size = min(float(rng.uniform(0.4, 0.9)), block.verge / 2.2)
    for s in np.arange(plot.start, plot.end, 1.5 * size):
        if rng.random() < 0.8:
            _plant(placer, "bush", float(s), block.side * t, size * float(rng.uniform(0.85, 1.1)))


def _add_meadow(placer: Placer, plot: Plot, about: PlaceKind) -> None:
    """Tufts of tall grass on verges and in front of hedges, where the ground is grass."""
    rng, block = placer.rng, plot.block
    reach = plot.back + (12 if block.yard == "grass" else 0)
    if block.verge < 0.8 and block.yard != "grass":
        return
    for _ in range(rng.poisson(about.meadow * plot.length)):
        s, t = float(rng.uniform(block.start, block.end)), float(rng.uniform(plot.edge + 0.7, reach))
        around = [(ds, dt) for ds in (-0.6, 0.6) for dt in (-0.6, 0.6)]  # a tuft is a metre wide
        if all(is_grass(placer.street, block, s + ds, t + dt) for ds, dt in around):
            _plant(placer, "grass", s, block.side * t, float(rng.uniform(0.8, 1.6)))


def _add_lot(placer: Placer, plot: Plot, density: float) -> None:
    """Two rows of parked cars behind the pavement, at a right angle to the street."""
    rng, side = placer.rng, plot.block.side
    if plot.end - plot.start < 15:
        return
    full = density * float(rng.uniform(0.15, 0.5))
    for row in (plot.back + 4.2, plot.back + 15.5):
        for s in np.arange(plot.start + 2, plot.end - 2, _BAY_M):
            if rng.random() < full:
                yaw = float(np.pi / 2 * rng.choice([1, -1]) + rng.normal(0, 0.02))
                placer.put(placer.vehicle("car", float(s), side * row, yaw))
