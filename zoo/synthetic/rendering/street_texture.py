"""The ground: reflectance of the road with its paint, and of pavements, verges and yards, from street coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from zoo.synthetic.rendering.noise import hash01, noise, odd, part, times
from zoo.synthetic.scene.types import Block, CentreLine, Crossing, EdgeLine, Paving, Scene, Street
from zoo.synthetic.shapes.surfaces import Label

__all__ = ["ground_albedo", "road_albedo"]

_ARROW_M = 4.6  # length of an arrow: a shaft of 3 m and its head
_SLABS_M = {Paving.SQUARE_SLABS: (0.6, 0.6), Paving.LONG_SLABS: (0.9, 0.6), Paving.BRICKS: (0.2, 0.1)}
"""Along and across the street."""


class _Tint(IntEnum):
    """Colour of a paint: its row in `_Paint.tints`."""

    WHITE = 0
    YELLOW = 1
    CYCLE_LANE = 2


@dataclass(frozen=True, kw_only=True)
class _Paint:
    """Paint on the road; the functions below write into its arrays.

    Attributes:
        amount: `(P,)` float32, 0 to 1.
        tint: `(P,)` uint8 `_Tint`.
        tints: `(3, 3)` float32 reflectance of each tint.
    """

    amount: np.ndarray
    tint: np.ndarray
    tints: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _RoadPoints:
    """Points on the road, `(P,)` each.

    Attributes:
        s, t: Street coordinates, metres.
        foot: Footprint of the pixel along the street, metres.
        side_foot: Across it: seen from a vehicle a footprint is long and narrow.
        beside: Distance from the centre line.
        clear: Float32, 0 near side streets, where lines along the street are interrupted, otherwise 1.
    """

    s: np.ndarray
    t: np.ndarray
    foot: np.ndarray
    side_foot: np.ndarray
    beside: np.ndarray
    clear: np.ndarray


def _line(distance: np.ndarray, half: float, foot: np.ndarray) -> np.ndarray:
    """How much of a pixel of footprint `foot` a stripe `half` metres to each side covers."""
    foot_ = np.maximum(foot, 1e-3)
    return np.clip((half + foot / 2 - np.abs(distance)) / foot_, 0, 1) * np.minimum(1, 2 * half / foot_)


def _stripe(
    paint: np.ndarray, distance: np.ndarray, half: float, foot: np.ndarray, times: np.ndarray | None = None
) -> None:
    """Paints a stripe `half` metres to each side of where `distance` is 0, `times` as dense; in place."""
    some = np.nonzero(np.abs(distance) < half + foot / 2)[0]
    if len(some):
        value = _line(distance.take(some), half, foot.take(some))
        if times is not None:
            value *= times.take(some)
        paint[some] = np.maximum(paint.take(some), value)


def road_albedo(scene: Scene, s: np.ndarray, t: np.ndarray, foot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance `(P, 3)` and gloss `(P,)` of the road at street coordinates; `foot` is the pixel's size along s."""
    street = scene.street
    rng = np.random.default_rng([scene.seed, 41])
    tone = (1 + rng.normal(0, 0.025, 3)).astype(np.float32)
    value = _asphalt(scene, s, t, foot, rng)
    color = times(np.broadcast_to(tone, (len(s), 3)), value)
    _add_covers(color, s, t)
    paint = _markings(street, scene.crossings, s, t, foot, rng)
    marked = np.nonzero(paint.amount > 0)[0]
    if len(marked):
        worn = np.clip(0.85 + 0.25 * noise(s.take(marked), t.take(marked), 2.2, 0.8, 5), 0.15, 1)
        paint.amount[marked] *= worn
        some = paint.amount.take(marked)[:, None]
        tints = paint.tints.take(paint.tint.take(marked), axis=0)
        color[marked] = color.take(marked, axis=0) * (1 - some) + some * tints
    if street.tram:
        _add_rails(color, street, t, foot)
    return color, 0.25 * paint.amount


def _asphalt(scene: Scene, s: np.ndarray, t: np.ndarray, foot: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`(P,)` reflectance: stains, grain, wheel tracks, patches and cracks."""
    street = scene.street
    fade = np.clip(0.05 / foot, 0, 1)
    value = street.shade * (
        1
        + 0.10 * noise(s, t, 60.0, 1.4, 1)
        + 0.16 * fade * rng.uniform(0.4, 1.3) * noise(s, t, 3.1, 0.35, 2)
        + 0.05 * noise(s * 0.12, t, 9.0, 1.0, 3)
    )
    wear = rng.uniform(-0.12, 0.12)  # wheel tracks are polished or dark
    lane = np.abs(part(np.abs(t) / street.lane_width) - 0.5)
    value = value * (1 + wear * np.exp(-(((lane - 0.25) / 0.1) ** 2)))
    if rng.random() < 0.6:  # patches of newer asphalt
        u = s / 7.3
        cell_s, cell_t = np.floor(u), np.floor((t + 1.3) / 2.6)
        on = np.nonzero(hash01(cell_s, cell_t, int(np.float32(scene.seed))) < rng.uniform(0.03, 0.2))[0]
        darker = rng.uniform(0.6, 0.95)
        cell_s, cell_t = cell_s.take(on), cell_t.take(on)
        inside = on[u.take(on) - cell_s < 0.2 + 0.8 * hash01(cell_s, cell_t)]
        value[inside] *= darker
    if rng.random() < 0.6:  # cracks: zero lines of smooth noise
        crack = np.abs(noise(s, t, 23.0, 1.7, 4))
        thin = np.nonzero(crack < 0.03)[0]
        value[thin] *= 1 - 0.55 * (1 - crack.take(thin) / 0.03) * np.clip(0.08 / foot.take(thin), 0, 1)
    return value


def _add_covers(color: np.ndarray, s: np.ndarray, t: np.ndarray) -> None:
    """Manhole covers: at most one in each cell of 17 m by 3 m."""
    ct = np.floor(t / 3.0)
    near = np.nonzero(np.abs(t - (ct + 0.5) * 3) < 0.3)[0]
    s_, t_, ct = s.take(near), t.take(near), ct.take(near)
    cs = np.floor(s_ / 17.0)
    ds, dt = s_ - (cs + hash01(cs, ct)) * 17, t_ - (ct + 0.5) * 3
    cover = (ds**2 + dt**2 < 0.3**2) & (hash01(ct, cs) < 0.35)
    color[near[cover]] = (0.05 + 0.03 * (np.sin(s_[cover] * 60) > 0))[:, None]


def _add_rails(color: np.ndarray, street: Street, t: np.ndarray, foot: np.ndarray) -> None:
    """Tram rails of 1.44 m gauge in the middle of the inner lanes."""
    rails = np.zeros_like(t)
    for centre in (-street.lane_width * 0.5, street.lane_width * 0.5):
        for rail in (-0.72, 0.72):
            _stripe(rails, t - centre - rail, 0.045, foot * 0.1)
    some = np.nonzero(rails > 0)[0]
    metal = rails.take(some)[:, None]
    color[some] += metal * (0.22 - color.take(some, axis=0))


def _markings(
    street: Street,
    crossings: tuple[Crossing, ...],
    s: np.ndarray,
    t: np.ndarray,
    foot: np.ndarray,
    rng: np.random.Generator,
) -> _Paint:
    """All paint on the road. What comes later is painted over what came before."""
    white = np.array([0.62, 0.62, 0.6]) * rng.uniform(0.6, 1.15)
    yellow = np.array([0.6, 0.42, 0.06])
    paint = _Paint(
        amount=np.zeros(len(s), np.float32),
        tint=np.zeros(len(s), np.uint8),
        tints=np.stack([white, yellow, white]).astype(np.float32),
    )
    width = rng.uniform(0.05, 0.09)
    dash_gap = [(3, 6), (2, 4), (4, 2), (6, 9)][int(rng.integers(4))]
    clear = np.ones(len(s), bool)
    for crossing in crossings:
        clear &= (s < crossing.start - 4) | (s > crossing.end + 4)
    points = _RoadPoints(
        s=s,
        t=t,
        foot=foot,
        side_foot=np.maximum(foot * 0.12, 0.004),
        beside=np.abs(t),
        clear=clear.astype(np.float32),
    )
    if street.markings != CentreLine.NONE:
        _paint_lanes(paint, street, points, width, dash_gap, rng)
    _paint_sides(paint, street, points, width, rng)
    _paint_crossings(paint, street, crossings, points, rng)
    if street.markings != CentreLine.NONE and rng.random() < 0.6:
        _paint_arrows(paint, street, points, rng)
    paint.amount[points.beside > street.half_width + 1.4] = 0
    return paint


def _paint_lanes(
    paint: _Paint,
    street: Street,
    points: _RoadPoints,
    width: float,
    dash_gap: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """The centre line, and dashes between lanes of one direction."""
    yellow_centre = rng.random() < 0.2
    if street.lanes == 1:
        return
    dash, gap = dash_gap
    at = (points.s / (dash + gap) - np.floor(points.s / (dash + gap))) * (dash + gap)
    broken = np.clip((0.5 * dash - np.abs(at - dash / 2)) / np.maximum(points.foot, 0.02) + 0.5, 0, 1)
    broken *= points.clear
    if street.markings == CentreLine.DOUBLE:
        _stripe(paint.amount, points.t - 0.12, width, points.side_foot, points.clear)
        _stripe(paint.amount, points.t + 0.12, width, points.side_foot, points.clear)
    else:
        _stripe(paint.amount, points.t, width, points.side_foot, broken)
    if yellow_centre:
        paint.tint[points.beside < 0.3] = _Tint.YELLOW
    for k in range(1, (street.lanes + 1) // 2):
        for sign in (-1, 1):
            _stripe(paint.amount, points.t - sign * k * street.lane_width, width, points.side_foot, broken)


def _paint_sides(paint: _Paint, street: Street, points: _RoadPoints, width: float, rng: np.random.Generator) -> None:
    """Lines along the kerb, parking lanes and cycle lanes."""
    beside, clear, side_foot = points.beside, points.clear, points.side_foot
    outer = street.half_width - max(street.parking)
    if street.edge_line != EdgeLine.NONE:
        _stripe(paint.amount, beside - outer + 0.25, width, side_foot, clear)
        if street.edge_line == EdgeLine.DOUBLE_YELLOW:
            _stripe(paint.amount, beside - outer + 0.47, width, side_foot, clear)
            paint.tint[beside > outer - 0.7] = _Tint.YELLOW
    if max(street.parking):
        _stripe(paint.amount, beside - outer, 0.05, side_foot, clear * np.float32(0.9))
    if street.cycle_lane:
        line = outer - 1.5
        _stripe(paint.amount, beside - line, 0.06, side_foot, clear)
        if rng.random() < 0.35:
            lane = np.nonzero((beside > line) & (beside < outer) & (paint.amount < 0.3))[0]
            colors = [(0.3, 0.08, 0.06), (0.05, 0.2, 0.1), (0.05, 0.12, 0.3)]  # red, green or blue asphalt
            paint.tints[_Tint.CYCLE_LANE] = colors[int(rng.integers(3))]
            paint.tint[lane] = _Tint.CYCLE_LANE
            paint.amount[lane] = 0.7 * clear.take(lane)


def _paint_arrows(paint: _Paint, street: Street, points: _RoadPoints, rng: np.random.Generator) -> None:
    """An arrow in the middle of every lane, again and again."""
    outer = street.half_width - max(street.parking)
    period = rng.uniform(28, 60)
    along = part((points.s + rng.uniform(0, 30)) / period) * np.float32(period)
    near = np.nonzero((along < _ARROW_M) & (points.beside < outer))[0]
    along, t = along.take(near), points.t.take(near)
    for k in range(-(street.lanes // 2), (street.lanes + 1) // 2):
        aside = np.abs(t - (k + 0.5) * street.lane_width)
        shaft = (aside < 0.1) & (along < 3)
        head = (along >= 3) & (aside < 0.45 * (_ARROW_M - along) / 1.6)
        drawn = near[shaft | head]
        paint.amount[drawn] = points.clear.take(drawn) * 0.9


def _paint_crossings(
    paint: _Paint,
    street: Street,
    crossings: tuple[Crossing, ...],
    points: _RoadPoints,
    rng: np.random.Generator,
) -> None:
    """Zebras, stop lines, give-way lines and yellow boxes."""
    inner = points.beside < street.half_width - 0.3
    for crossing in crossings:
        boxed = rng.random() < 0.15
        reach = points.foot / 2 + 4.7
        near = np.nonzero((points.s > crossing.start - reach) & (points.s < crossing.end + reach))[0]
        if len(near):
            paint.amount[near], paint.tint[near] = _crossing(
                street.half_width,
                crossing,
                boxed,
                points.s.take(near),
                points.t.take(near),
                points.foot.take(near),
                inner.take(near),
                paint.amount.take(near),
                paint.tint.take(near),
            )


def _crossing(
    half_width: float,
    crossing: Crossing,
    boxed: bool,
    s: np.ndarray,
    t: np.ndarray,
    foot: np.ndarray,
    inner: np.ndarray,
    paint: np.ndarray,
    tint: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Paint and its colour with zebras, stop lines and boxes of one crossing added, for points near it."""
    side_foot = np.maximum(foot * 0.12, 0.004)
    for edge, sign in ((crossing.start, -1), (crossing.end, 1)):
        d = (s - edge) * sign  # metres before the side street begins
        if crossing.zebra:
            band = np.nonzero((d > 0.6) & (d < 3.6) & inner)[0]
            across = 0.25 - np.abs(part(t.take(band)) - 0.5)
            paint[band] = np.clip(across / np.maximum(side_foot.take(band), 0.01) + 0.5, 0, 1)
            tint[band] = _Tint.WHITE  # whatever the lines along the street are
        elif crossing.signals:
            for g in (1.0, 3.6):
                line = _line(d - g, 0.1, foot) * inner
                tint[line > paint] = _Tint.WHITE
                paint = np.maximum(paint, line)
        if crossing.signals or crossing.zebra:
            stop = (d > 4.2) & (d < 4.6) & inner & ((t * sign) < 0)
            paint[stop], tint[stop] = 0.9, _Tint.WHITE
    inside = (s > crossing.start) & (s < crossing.end)
    for side in (-1, 1):
        if crossing.side in (0, side):
            give = (np.abs(t - side * (half_width + 1.0)) < 0.15) & inside
            give &= part(s) < 0.6
            paint[give], tint[give] = 0.9, _Tint.WHITE
    if boxed:
        box = inside & inner
        tint[box] = _Tint.YELLOW
        a, b = (s + t) / 2.2, (s - t) / 2.2
        cross = np.minimum(np.abs(part(a) - 0.5), np.abs(part(b) - 0.5)) * 2.2 < 0.09
        paint[box & cross] = 0.8
    return paint, tint


def ground_albedo(scene: Scene, s: np.ndarray, t: np.ndarray, foot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance `(P, 3)` and label `(P,)` of the raised ground along the road: pavement, verge or yard."""
    color = np.zeros((len(s), 3), np.float32)
    label = np.full(len(s), Label.SIDEWALK, np.uint8)
    side = np.sign(t)
    for block in scene.blocks:
        here = np.nonzero((side == block.side) & (s >= block.start - 0.01) & (s <= block.end + 0.01))[0]
        if len(here):
            color[here], label[here] = _block_albedo(scene, block, s.take(here), np.abs(t.take(here)), foot.take(here))
    return color, label


def _block_albedo(
    scene: Scene, block: Block, s: np.ndarray, t: np.ndarray, foot: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    edge = scene.street.half_width
    d = t - edge  # metres from the nearest kerb
    for open_, distance in ((block.open_start, s - block.start), (block.open_end, block.end - s)):
        if not open_:
            d = np.minimum(d, distance)
    first, second = (block.verge, block.sidewalk) if block.verge_first else (block.sidewalk, block.verge)
    pave = (d >= first) & (d < first + second) if block.verge_first else d < first
    grass = d < first if block.verge_first else (d >= first) & (d < first + second)
    yard = ~(pave | grass)
    label = np.where(pave, Label.SIDEWALK, Label.TERRAIN).astype(np.uint8)
    if block.yard == "paved":
        label[yard] = Label.SIDEWALK
    color = np.empty((len(s), 3), np.float32)
    paved = np.nonzero(pave | yard if block.yard == "paved" else pave)[0]
    color[paved] = _paving(scene, block, s.take(paved), t.take(paved), foot.take(paved))
    turf = grass
    if block.yard == "paved":
        yards = np.nonzero(yard)[0]
        color[yards] = color.take(yards, axis=0) * np.float32(0.85)
    elif block.yard == "gravel":
        rough = np.nonzero(yard)[0]
        value = 1 + 0.25 * noise(s.take(rough), t.take(rough), 1.3, 0.3, 11)
        color[rough] = value[:, None] * np.array([0.22, 0.2, 0.17], np.float32)
    else:
        turf = grass | yard
    green = np.nonzero(turf)[0]
    color[green] = _turf(scene, s.take(green), t.take(green), foot.take(green))
    return np.clip(color, 0.01, 0.9), label


def _paving(scene: Scene, block: Block, s: np.ndarray, t: np.ndarray, foot: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([scene.seed, 43, int(block.start) + 100])
    tone = (np.array([1.0, 0.97, 0.92]) * (1 + rng.normal(0, 0.05, 3))).astype(np.float32)
    value = block.shade * (
        1 + 0.1 * noise(s, t, 31.0, 1.2, 6) + 0.08 * np.clip(0.05 / foot, 0, 1) * noise(s, t, 2.3, 0.4, 7)
    )
    fade = np.clip(0.12 / foot, 0, 1)
    if block.paving in _SLABS_M:
        a, c = _SLABS_M[block.paving]
        v = t / c
        row = np.floor(v)
        u = s / a + 0.5 * odd(row)
        column = np.floor(u)
        value = value * (1 + 0.1 * (hash01(column, row) - 0.5) * fade)
        joint = ((0.5 - np.abs(u - column - 0.5)) * a < 0.012) | ((0.5 - np.abs(v - row - 0.5)) * c < 0.012)
        value = np.where(joint, value * (1 - 0.4 * fade), value)
    return times(np.broadcast_to(tone, (len(s), 3)), value)


def _turf(scene: Scene, s: np.ndarray, t: np.ndarray, foot: np.ndarray) -> np.ndarray:
    lush = (np.asarray(scene.foliage[0]) * 1.1 + 0.02).astype(np.float32)
    dry = np.array([0.16, 0.13, 0.075], np.float32)
    mixture = np.clip(0.35 + 0.25 * noise(s, t, 19.0, 1.2, 8) + 0.12 * noise(s, t, 3.0, 0.6, 9), 0, 1) * np.float32(0.7)
    turf = lush + mixture[:, None] * (dry - lush)
    return times(turf, 1 + 0.3 * np.clip(0.06 / foot, 0.15, 1) * noise(s, t, 1.7, 0.3, 10))
