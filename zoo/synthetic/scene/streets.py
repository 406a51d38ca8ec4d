"""The street itself: its course and lanes, the side streets, and the blocks of raised ground between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.synthetic.scene.kinds import PLACE_KINDS
from zoo.synthetic.scene.types import Block, CentreLine, Crossing, EdgeLine, Paving, Street

__all__ = ["draw_blocks", "draw_crossings", "draw_street"]

START_M, END_M = -25.0, 190.0
_LAST_CROSSING_M = 170.0
_PIECES = 7
"""Pieces of the street, each with a curvature and a slope of its own."""
_PARKING_M = 2.1
_CORNER_M = 9.0  # at each end of a block, in which its kerb has one height
_LOWERED_M = 0.025  # height of the kerb at a driveway
_CYCLE_LANE_M = 1.5
_CENTRE_LINES = (CentreLine.NONE, CentreLine.DASHED, CentreLine.DOUBLE, CentreLine.DASHED, CentreLine.DASHED)
_EDGE_LINES = (EdgeLine.NONE, EdgeLine.SINGLE, EdgeLine.DOUBLE_YELLOW, EdgeLine.NONE)


def draw_street(rng: np.random.Generator, kind: str) -> Street:
    """The main street of a place of this kind."""
    about = PLACE_KINDS[kind]
    lanes = _lanes(rng, kind)
    lane_width = float(rng.uniform(*about.lane_width))
    cycle_lane = bool(rng.random() < about.cycle_lanes) and lanes > 1 and about.crowd > 0.05
    left, right = (_PARKING_M if rng.random() < about.parking else 0.0 for _ in range(2))
    straight = rng.random() < 0.33
    bend = np.zeros(_PIECES) if straight else np.clip(rng.normal(0, 0.005, _PIECES), -0.008, 0.008)
    grade = rng.normal(0, 0.012, _PIECES) if rng.random() < 0.6 else np.zeros(_PIECES)
    sidewalk = tuple(_sidewalk(rng, kind) for _ in range(2))
    verge = tuple(_verge(rng, kind) for _ in range(2))
    tram = bool(rng.random() < about.tram)
    if tram:  # a tram of 38 m is one rigid body here and would cut the corner of a sharper bend
        bend = 0.15 * bend
    return Street(
        start=START_M,
        end=END_M,
        half_width=float(lanes * lane_width / 2 + max(left, right) + _CYCLE_LANE_M * cycle_lane),
        lanes=lanes,
        lane_width=lane_width,
        bend=tuple(bend),
        grade=tuple(grade),
        sidewalk=(sidewalk[0], sidewalk[1]),
        verge=(verge[0], verge[1]),
        kerb=float(rng.uniform(0.06, 0.16)),
        markings=CentreLine(int(rng.choice(_CENTRE_LINES))),
        tram=tram,
        shade=float(rng.uniform(0.055, 0.17)),
        parking=(left, right),
        edge_line=_EDGE_LINES[int(rng.integers(0, 4))],
        cycle_lane=cycle_lane,
    )


def _sidewalk(rng: np.random.Generator, kind: str) -> float:
    if kind in ("rural", "country"):
        return float(rng.choice([0.0, 1.6])) if kind == "rural" else 0.0
    return float(rng.uniform(1.4, 2.6) if kind in ("village", "suburb", "residential") else rng.uniform(1.8, 4.8))


def _lanes(rng: np.random.Generator, kind: str) -> int:
    if rng.random() < PLACE_KINDS[kind].one_way:
        return 1
    # Both are drawn for every kind of place: the draws that follow must not depend on it.
    city, industrial = int(rng.choice([2, 2, 3])), int(rng.choice([2, 4]))
    return {"city": city, "boulevard": 4, "industrial": industrial, "retail": industrial}.get(kind, 2)


def _verge(rng: np.random.Generator, kind: str) -> float:
    if kind in ("residential", "boulevard", "industrial", "suburb", "retail"):
        return float(rng.choice([0, rng.uniform(1, 4)], p=[0.5, 0.5]))
    if kind == "village":
        return float(rng.choice([0, rng.uniform(0.8, 2.5)]))
    return float(rng.uniform(1, 4)) if kind in ("rural", "country") else 0.0


def draw_crossings(rng: np.random.Generator, kind: str) -> tuple[Crossing, ...]:
    """Side streets along the main street, 45 to 110 m apart."""
    out, s = [], float(rng.uniform(8, 70))
    while s < _LAST_CROSSING_M:
        if rng.random() < PLACE_KINDS[kind].crossing:
            width = float(rng.uniform(6, 13))
            out.append(
                Crossing(
                    start=s,
                    end=s + width,
                    side=int(rng.choice([-1, 0, 0, 1])),
                    signals=bool(rng.random() < 0.5),
                    zebra=bool(rng.random() < 0.5),
                )
            )
            s += width
        s += float(rng.uniform(45, 110))
    return tuple(out)


def draw_blocks(
    rng: np.random.Generator, street: Street, crossings: tuple[Crossing, ...], kind: str
) -> tuple[Block, ...]:
    """The blocks between the side streets, first all on the left, then all on the right."""
    blocks = []
    for index, side in enumerate((1, -1)):
        cuts = [c for c in crossings if c.side in (0, side)]
        edges = [street.start] + [v for c in cuts for v in (c.start, c.end)] + [street.end]
        yard = str(rng.choice(["grass", "paved", "gravel"], p=PLACE_KINDS[kind].yards))
        park = bool(rng.random() < PLACE_KINDS[kind].parks)
        paving, shade = Paving(int(rng.integers(0, 4))), float(rng.uniform(0.13, 0.4))
        verge_first = bool(rng.random() < 0.5)
        if paving == Paving.TARMAC:  # hardly lighter than the road
            shade *= 0.45
        for i in range(0, len(edges), 2):
            blocks.append(
                Block(
                    start=edges[i],
                    end=edges[i + 1],
                    side=side,
                    corner=float(rng.uniform(2.5, 7)),
                    sidewalk=street.sidewalk[index],
                    verge=street.verge[index],
                    verge_first=verge_first,
                    yard="grass" if park else yard if rng.random() < 0.8 else str(rng.choice(["grass", "paved"])),
                    paving=paving,
                    shade=shade,
                    open_start=i == 0,
                    open_end=i == len(edges) - 2,
                    park=park,
                    kerb=_kerb(rng, street, edges[i : i + 2], PLACE_KINDS[kind].driveways),
                )
            )
    return tuple(blocks)


def _kerb(
    rng: np.random.Generator, street: Street, ends: Sequence[float], driveways: float
) -> tuple[tuple[float, float], ...]:
    """Heights of a block's kerb along the street: it has settled unevenly and is lowered at driveways."""
    at = ends[0] + _CORNER_M
    knots = [(at, street.kerb)]
    while at < ends[1] - _CORNER_M - 12:
        at += float(rng.uniform(4, 11))
        knots.append((at, street.kerb * float(rng.uniform(0.7, 1.15))))
        if rng.random() < 7.5 * driveways:
            width, high = float(rng.uniform(2.8, 5)), knots[-1][1]
            knots += [(at + 1.0, _LOWERED_M), (at + 1.0 + width, _LOWERED_M), (at + 2.0 + width, high)]
            at += 2.0 + width
    knots.append((max(ends[1] - _CORNER_M, at + 1), street.kerb))
    return tuple(knots)
