"""Where on a block things can stand and people can walk, and how high the ground is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.synthetic.scene.types import Block, Street

__all__ = ["KERB_M", "ROUND_M", "Plot", "height_at", "height_of", "is_grass", "kerb_at", "kerb_heights", "plot_of"]

_KERB_STRIP_M = (0.65, 0.95)  # of a narrow and of a wide pavement, next to the kerb, where posts stand
_WIDE_M = 2.4
KERB_M = 0.14
"""Width of the kerb."""
ROUND_M = 1.0
"""From the kerb's edge to where a block has its full height."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Where things can stand on one block: metres, along the street or away from its centre line.

    Attributes:
        start, end: Of the straight part between its corners.
        edge: The kerb.
        walk0, walk1: Edges of the part of the pavement that is kept free for people.
        back: The far edge of pavement and verge: houses and gardens begin here or behind it.
        posts: Where lamps, signs and trees stand.
    """

    block: Block
    start: float
    end: float
    edge: float
    walk0: float
    walk1: float
    back: float
    posts: float

    @property
    def length(self) -> float:
        """Of the whole block."""
        return self.block.end - self.block.start


def plot_of(street: Street, block: Block) -> Plot:
    """The plot of one block."""
    edge = street.half_width
    inner = edge + (block.verge if block.verge_first else 0)
    outer = inner + max(block.sidewalk, 0.8)
    back = edge + block.sidewalk + block.verge
    if block.verge_first and block.verge > 0.8:  # posts stand on the grass
        posts, walk0 = edge + min(0.8, block.verge / 2), inner
    elif block.sidewalk > 1.2:
        strip = _KERB_STRIP_M[block.sidewalk > _WIDE_M]
        posts, walk0 = edge + strip / 2, inner + strip
    else:
        posts, walk0 = max(back, outer) + 0.5, inner + 0.1
    return Plot(
        block=block,
        start=block.start + (0 if block.open_start else block.corner + 2),
        end=block.end - (0 if block.open_end else block.corner + 2),
        edge=edge,
        walk0=walk0,
        walk1=outer,
        back=max(back, outer),
        posts=posts,
    )


def _inset(block: Block, s: np.ndarray) -> np.ndarray:
    """How far the kerb of a block recedes at its rounded corners (see `models.ground`), metres."""
    out = np.zeros_like(s)
    r = block.corner
    for closed, distance in ((not block.open_start, s - block.start), (not block.open_end, block.end - s)):
        if closed:
            d = np.clip(distance, 0, r)
            out = np.maximum(out, r - np.sqrt(np.maximum(r * r - (r - d) ** 2, 0)))
    return out


def kerb_at(street: Street, blocks: Sequence[Block], side: int, s: float) -> float:
    """Metres from the centre line to the kerb at `s`; the kerb's line goes on where there is no block."""
    for block in blocks:
        if block.side == side and block.start <= s <= block.end:
            return street.half_width + float(_inset(block, np.array(s)))
    return street.half_width


def kerb_heights(street: Street, block: Block, s: np.ndarray) -> np.ndarray:
    """`(N,)` metres of the kerb's top above the road."""
    if not block.kerb:
        return np.full(len(s), street.kerb)
    at, height = np.array(block.kerb).T
    return np.interp(s, at, height)


def height_at(street: Street, blocks: Sequence[Block], s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """`(N,)` metres of the ground above the road: the kerb's height on blocks."""
    out = np.zeros(len(s))
    for block in blocks:
        here = np.nonzero((np.sign(t) == block.side) & (s >= block.start) & (s <= block.end))[0]
        if len(here):
            beyond = np.abs(t[here]) - street.half_width - _inset(block, s[here])
            low = kerb_heights(street, block, s[here])
            u = np.clip((beyond - KERB_M) / (ROUND_M - KERB_M), 0, 1)
            out[here] = np.where(beyond >= 0, low + u * (street.kerb - low), 0)
    return out


def height_of(street: Street, blocks: Sequence[Block], s: float, t: float) -> float:
    """The same for one point; fast where a block has its full height, as it has almost everywhere."""
    if abs(t) - street.half_width >= ROUND_M:
        side = 1 if t > 0 else -1
        for block in blocks:
            if block.side == side and block.start + block.corner <= s <= block.end - block.corner:
                return street.kerb
    return float(height_at(street, blocks, np.array([s]), np.array([t]))[0])


def is_grass(street: Street, block: Block, s: float, t: float) -> bool:
    """Whether a point is on a block's grass: pavements and verges follow the street and both side streets.

    Args:
        street: The main street.
        block: The block.
        s, t: Metres along the street and left of its centre line.
    """
    beyond = [abs(t) - street.half_width]  # the nearest kerb
    beyond += [] if block.open_start else [s - block.start]
    beyond += [] if block.open_end else [block.end - s]
    d = min(beyond)
    before = block.verge if block.verge_first else 0.0
    if d > block.verge + block.sidewalk:
        return block.yard == "grass"
    return d >= 0 and not before <= d <= before + block.sidewalk
