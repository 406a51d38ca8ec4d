"""Procedural surfaces: reflectance from position, all as table look-ups so that a frame costs tenths of a second."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from zoo.synthetic.scene.types import Block, Crossing, Scene
from zoo.synthetic.shapes.surfaces import Material

__all__ = ["ground_albedo", "hash01", "noise", "road_albedo", "surface_albedo"]

_SIZE = 512


@lru_cache(maxsize=64)
def _tile(slope: float, seed: int) -> np.ndarray:
    """`(512 * 512, 2)`: a seamless tile of noise and how much its right neighbours differ from it.

    Amplitude spectrum 1 / f ** slope, mean 0, standard deviation 1.
    """
    rng = np.random.default_rng([5, seed])
    f = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None]) * _SIZE
    spectrum = np.fft.rfft2(rng.normal(size=(_SIZE, _SIZE))) / np.maximum(f, 2.0) ** slope
    tile = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE))
    tile = ((tile - tile.mean()) / tile.std()).astype(np.float32)
    return np.stack([tile, np.roll(tile, -1, 1) - tile], -1).reshape(-1, 2)


def noise(x: np.ndarray, y: np.ndarray, period: float, slope: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise of mean 0 and deviation 1 that repeats after `period` metres; bilinear."""
    tile = _tile(slope, seed)
    scale = np.float32(_SIZE / period)
    u, v = np.asarray(x * scale, np.float32), np.asarray(y * scale, np.float32)
    left, low = np.floor(u), np.floor(v)
    u -= left
    v -= low
    i, j = left.astype(np.int32) & (_SIZE - 1), low.astype(np.int32) & (_SIZE - 1)
    below, above = tile.take(j * _SIZE + i, axis=0), tile.take(((j + 1) & (_SIZE - 1)) * _SIZE + i, axis=0)
    bottom, top = below[:, 1] * u, above[:, 1] * u
    bottom += below[:, 0]
    top += above[:, 0]
    top -= bottom
    top *= v
    top += bottom
    return top


def hash01(*keys: np.ndarray | int) -> np.ndarray:
    """A number in [0, 1) from whole numbers of less than 32 bits."""
    h = np.zeros(np.shape(keys[0]), np.uint32)
    for key in keys:
        h = h ^ (np.uint32(key & 0xFFFFFFFF) if isinstance(key, int) else key.astype(np.int32).view(np.uint32))
        h *= np.uint32(2654435761)
        h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h >>= np.uint32(8)
    return h.astype(np.float32) / np.float32(1 << 24)


def _times(color: np.ndarray, value: np.ndarray) -> np.ndarray:
    """`(P, 3)` products; channel by channel is three times as fast as broadcasting over three columns."""
    out = np.empty((len(value), 3), np.float32)
    for k in range(3):
        np.multiply(color[:, k], value, out=out[:, k], casting="same_kind")
    return out


def _part(x: np.ndarray) -> np.ndarray:
    """What is left of the whole number below: `x % 1`, which takes fifteen times as long."""
    return x - np.floor(x)


def _odd(x: np.ndarray) -> np.ndarray:
    """1 for odd whole numbers, 0 for even ones."""
    return x - 2 * np.floor(x / 2)


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
    fade = np.clip(0.05 / foot, 0, 1)
    value = street.shade * (
        1
        + 0.10 * noise(s, t, 60.0, 1.4, 1)
        + 0.16 * fade * rng.uniform(0.4, 1.3) * noise(s, t, 3.1, 0.35, 2)
        + 0.05 * noise(s * 0.12, t, 9.0, 1.0, 3)
    )
    wide = scene.extra["lane_width"]
    wear = rng.uniform(-0.12, 0.12)  # wheel tracks are polished or dark
    lane = np.abs(_part(np.abs(t) / wide) - 0.5)
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
    color = _times(np.broadcast_to(tone, (len(s), 3)), value)
    # Drains and covers.
    ct = np.floor(t / 3.0)
    near = np.nonzero(np.abs(t - (ct + 0.5) * 3) < 0.3)[0]
    s_, t_, ct = s.take(near), t.take(near), ct.take(near)
    cs = np.floor(s_ / 17.0)
    ds, dt = s_ - (cs + hash01(cs, ct)) * 17, t_ - (ct + 0.5) * 3
    cover = (ds**2 + dt**2 < 0.3**2) & (hash01(ct, cs) < 0.35)
    color[near[cover]] = (0.05 + 0.03 * (np.sin(s_[cover] * 60) > 0))[:, None]
    paint, kind, tints = _markings(scene, s, t, foot, rng)
    marked = np.nonzero(paint > 0)[0]
    if len(marked):
        worn = np.clip(0.85 + 0.25 * noise(s.take(marked), t.take(marked), 2.2, 0.8, 5), 0.15, 1)
        paint[marked] *= worn
        some = paint.take(marked)[:, None]
        color[marked] = color.take(marked, axis=0) * (1 - some) + some * tints.take(kind.take(marked), axis=0)
    if street.tram:
        rails = np.zeros_like(t)
        for centre in (-wide * 0.5, wide * 0.5):
            for g in (-0.72, 0.72):
                _stripe(rails, t - centre - g, 0.045, foot * 0.1)
        some = np.nonzero(rails > 0)[0]
        metal = rails.take(some)[:, None]
        color[some] += metal * (0.22 - color.take(some, axis=0))
    return color, 0.25 * paint


def _markings(scene: Scene, s, t, foot, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paint `(P,)` from 0 to 1, the number of its colour `(P,)`, and the colours `(K, 3)`."""
    street, wide = scene.street, scene.extra["lane_width"]
    white = np.array([0.62, 0.62, 0.6]) * rng.uniform(0.6, 1.15)
    yellow = np.array([0.6, 0.42, 0.06])
    tints = np.stack([white, yellow, white]).astype(np.float32)
    kind = np.zeros(len(s), np.uint8)
    paint = np.zeros(len(s), np.float32)
    side_foot = np.maximum(foot * 0.12, 0.004)
    width = rng.uniform(0.05, 0.09)
    dash, gap = [(3, 6), (2, 4), (4, 2), (6, 9)][int(rng.integers(4))]
    clear = np.ones(len(s), bool)
    for crossing in scene.crossings:
        clear &= (s < crossing.start - 4) | (s > crossing.end + 4)
    clear = clear.astype(np.float32)
    beside = np.abs(t)
    inner = beside < street.half_width - 0.3
    if street.markings and street.lanes > 1:
        at = (s / (dash + gap) - np.floor(s / (dash + gap))) * (dash + gap)
        broken = np.clip((0.5 * dash - np.abs(at - dash / 2)) / np.maximum(foot, 0.02) + 0.5, 0, 1)
        broken *= clear
    if street.markings:
        yellow_centre = rng.random() < 0.2
        if street.lanes > 1:
            if street.markings == 2:
                _stripe(paint, t - 0.12, width, side_foot, clear)
                _stripe(paint, t + 0.12, width, side_foot, clear)
            else:
                _stripe(paint, t, width, side_foot, broken)
            if yellow_centre:
                kind[beside < 0.3] = 1
        for k in range(1, (street.lanes + 1) // 2):
            for sign in (-1, 1):
                _stripe(paint, t - sign * k * wide, width, side_foot, broken)
    outer = street.half_width - max(street.parking)
    if street.edge_line in (1, 2):
        _stripe(paint, beside - outer + 0.25, width, side_foot, clear)
        if street.edge_line == 2:  # the double yellow lines of a street without parking
            _stripe(paint, beside - outer + 0.47, width, side_foot, clear)
            kind[beside > outer - 0.7] = 1
    if max(street.parking):
        _stripe(paint, beside - outer, 0.05, side_foot, clear * np.float32(0.9))
    if street.cycle_lane:
        line = outer - 1.5
        _stripe(paint, beside - line, 0.06, side_foot, clear)
        if rng.random() < 0.35:
            lane = np.nonzero((beside > line) & (beside < outer) & (paint < 0.3))[0]
            tints[2] = [(0.3, 0.08, 0.06), (0.05, 0.2, 0.1), (0.05, 0.12, 0.3)][int(rng.integers(3))]
            kind[lane] = 2
            paint[lane] = 0.7 * clear.take(lane)
    for crossing in scene.crossings:
        boxed = rng.random() < 0.15
        reach = foot / 2 + 4.7
        near = np.nonzero((s > crossing.start - reach) & (s < crossing.end + reach))[0]
        if len(near):
            paint[near], kind[near] = _crossing(
                street.half_width,
                crossing,
                boxed,
                s.take(near),
                t.take(near),
                foot.take(near),
                inner.take(near),
                paint.take(near),
                kind.take(near),
            )
    # Arrows and letters in the lanes.
    if street.markings and rng.random() < 0.6:
        period = rng.uniform(28, 60)
        u = (s + rng.uniform(0, 30)) / period
        a = _part(u) * np.float32(period)
        near = np.nonzero((a < 4.6) & (beside < outer))[0]
        a, t_ = a.take(near), t.take(near)
        for k in range(-(street.lanes // 2), (street.lanes + 1) // 2):
            dt = np.abs(t_ - (k + 0.5) * wide)
            keep = (dt < 0.1) & (a < 3)
            head = (a >= 3) & (dt < 0.45 * (4.6 - a) / 1.6)
            drawn = near[keep | head]
            paint[drawn] = clear.take(drawn) * 0.9
    paint[beside > street.half_width + 1.4] = 0
    return paint, kind, tints


def _crossing(half_width: float, crossing: Crossing, boxed: bool, s, t, foot, inner, paint, kind):
    """Paint and its colour with zebras, stop lines and boxes of one crossing added, for points near it."""
    side_foot = np.maximum(foot * 0.12, 0.004)
    for edge, sign in ((crossing.start, -1), (crossing.end, 1)):
        d = (s - edge) * sign
        if crossing.zebra:
            band = np.nonzero((d > 0.6) & (d < 3.6) & inner)[0]
            across = 0.25 - np.abs(_part(t.take(band)) - 0.5)
            paint[band] = np.clip(across / np.maximum(side_foot.take(band), 0.01) + 0.5, 0, 1)
            kind[band] = 0  # white, whatever the lines along the street are
        elif crossing.signals:
            for g in (1.0, 3.6):
                line = _line(d - g, 0.1, foot) * inner
                kind[line > paint] = 0
                paint = np.maximum(paint, line)
        if crossing.signals or crossing.zebra:
            stop = (d > 4.2) & (d < 4.6) & inner & ((t * sign) < 0)
            paint[stop], kind[stop] = 0.9, 0
    inside = (s > crossing.start) & (s < crossing.end)
    for side in (-1, 1):
        if crossing.side in (0, side):
            give = (np.abs(t - side * (half_width + 1.0)) < 0.15) & inside
            give &= _part(s) < 0.6
            paint[give], kind[give] = 0.9, 0
    if boxed:  # a yellow box
        box = inside & inner
        kind[box] = 1
        a, b = (s + t) / 2.2, (s - t) / 2.2
        cross = np.minimum(np.abs(_part(a) - 0.5), np.abs(_part(b) - 0.5)) * 2.2 < 0.09
        paint[box & cross] = 0.8
    return paint, kind


def ground_albedo(scene: Scene, s: np.ndarray, t: np.ndarray, foot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance `(P, 3)` and label `(P,)` of the raised ground beside the road: pavement, verge or yard."""
    color = np.zeros((len(s), 3), np.float32)
    label = np.ones(len(s), np.uint8)
    side = np.sign(t)
    for block in scene.blocks:
        here = np.nonzero((side == block.side) & (s >= block.start - 0.01) & (s <= block.end + 0.01))[0]
        if len(here):
            color[here], label[here] = _block_albedo(scene, block, s.take(here), np.abs(t.take(here)), foot.take(here))
    return color, label


def _block_albedo(scene: Scene, block: Block, s, t, foot) -> tuple[np.ndarray, np.ndarray]:
    edge = scene.street.half_width
    d = t - edge
    for open_, distance in ((block.open_start, s - block.start), (block.open_end, block.end - s)):
        if not open_:
            d = np.minimum(d, distance)
    first, second = (block.verge, block.sidewalk) if block.verge_first else (block.sidewalk, block.verge)
    pave = (d >= first) & (d < first + second) if block.verge_first else d < first
    grass = d < first if block.verge_first else (d >= first) & (d < first + second)
    yard = ~(pave | grass)
    label = np.where(pave, 1, 9).astype(np.uint8)
    if block.yard != "grass":
        label = np.where(yard, 1 if block.yard == "paved" else 9, label).astype(np.uint8)
    color = np.empty((len(s), 3), np.float32)
    paved = np.nonzero(pave | yard if block.yard == "paved" else pave)[0]
    color[paved] = _paving(scene, block, s.take(paved), t.take(paved), foot.take(paved))
    if block.yard == "paved":
        yards = np.nonzero(yard)[0]
        color[yards] = color.take(yards, axis=0) * np.float32(0.85)
        yard[:] = False
    elif block.yard == "gravel":
        rough = np.nonzero(yard)[0]
        value = 1 + 0.25 * noise(s.take(rough), t.take(rough), 1.3, 0.3, 11)
        color[rough] = value[:, None] * np.array([0.22, 0.2, 0.17], np.float32)
        yard[:] = False
    green = np.nonzero(grass | yard)[0]
    color[green] = _turf(scene, s.take(green), t.take(green), foot.take(green))
    return np.clip(color, 0.01, 0.9), label


def _paving(scene: Scene, block: Block, s, t, foot) -> np.ndarray:
    rng = np.random.default_rng([scene.seed, 43, int(block.start) + 100])
    tone = (np.array([1.0, 0.97, 0.92]) * (1 + rng.normal(0, 0.05, 3))).astype(np.float32)
    value = block.shade * (
        1 + 0.1 * noise(s, t, 31.0, 1.2, 6) + 0.08 * np.clip(0.05 / foot, 0, 1) * noise(s, t, 2.3, 0.4, 7)
    )
    fade = np.clip(0.12 / foot, 0, 1)
    if block.paving < 3:
        a, c = [(0.6, 0.6), (0.9, 0.6), (0.2, 0.1)][block.paving]
        v = t / c
        row = np.floor(v)
        u = s / a + 0.5 * _odd(row)
        column = np.floor(u)
        value = value * (1 + 0.1 * (hash01(column, row) - 0.5) * fade)
        joint = ((0.5 - np.abs(u - column - 0.5)) * a < 0.012) | ((0.5 - np.abs(v - row - 0.5)) * c < 0.012)
        value = np.where(joint, value * (1 - 0.4 * fade), value)
    return _times(np.broadcast_to(tone, (len(s), 3)), value)


def _turf(scene: Scene, s, t, foot) -> np.ndarray:
    lush = (np.asarray(scene.foliage[0]) * 1.1 + 0.02).astype(np.float32)
    dry = np.array([0.16, 0.13, 0.075], np.float32)
    mixture = np.clip(0.35 + 0.25 * noise(s, t, 19.0, 1.2, 8) + 0.12 * noise(s, t, 3.0, 0.6, 9), 0, 1) * np.float32(0.7)
    turf = lush + mixture[:, None] * (dry - lush)
    return _times(turf, 1 + 0.3 * np.clip(0.06 / foot, 0.15, 1) * noise(s, t, 1.7, 0.3, 10))


def surface_albedo(material: int, color: np.ndarray, uv: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Reflectance `(P, 3)` of points of one material: `color` with the material's pattern on it."""
    u, v = uv[:, 0], uv[:, 1]
    out = color
    if material == Material.BRICK:
        fade = np.clip(0.06 / foot, 0, 1)
        row = np.floor(v / 0.075)
        w = u / 0.225 + 0.5 * _odd(row)
        each = hash01(np.floor(w), row)
        joint = (np.abs(_part(w) - 0.5) > 0.46) | (np.abs(_part(v / 0.075) - 0.5) > 0.41)
        value = 1 + (0.5 * (each - 0.5) * fade) + 0.12 * noise(u, v, 11.0, 1.2, 12)
        out = _times(color, value)
        mortar = np.array([0.36, 0.34, 0.3], np.float32)
        mix = np.where(joint, fade * 0.8, 0.16 * (1 - fade))[:, None].astype(np.float32)
        out = out * (1 - mix) + mortar * mix
    elif material == Material.STONE:
        fade = np.clip(0.12 / foot, 0, 1)
        row = np.floor(v / 0.3)
        w = u / 0.65 + 0.37 * row
        joint = (np.abs(_part(w) - 0.5) > 0.485) | (np.abs(_part(v / 0.3) - 0.5) > 0.465)
        value = (1 + 0.35 * (hash01(np.floor(w), row) - 0.5)) * np.where(joint, 1 - 0.45 * fade, 1) + 0.12 * noise(
            u, v, 6.0, 0.9, 13
        )
        out = _times(color, value)
    elif material == Material.PLASTER:
        stain = np.clip(noise(u, v * 0.25, 14.0, 1.2, 14), 0, 3)
        value = 1 + 0.05 * noise(u, v, 4.0, 0.6, 15) - 0.08 * stain
        out = _times(color, value)
    elif material == Material.CONCRETE:
        joint = (np.abs(_part(u / 2.7) - 0.5) > 0.495) | (np.abs(_part(v / 1.35) - 0.5) > 0.49)
        value = (1 + 0.12 * noise(u, v, 9.0, 1.0, 16)) * np.where(joint, 0.7, 1)
        out = _times(color, value)
    elif material == Material.ROOF:
        fade = np.clip(0.15 / foot, 0, 1)
        row = np.floor(v / 0.3)
        w = u / 0.3 + 0.5 * _odd(row)
        value = (
            1
            + 0.3 * fade * (hash01(np.floor(w), row) - 0.5)
            - 0.3 * fade * (_part(v / 0.3) < 0.15)
            + 0.12 * noise(u, v, 8.0, 1.0, 17)
        )
        out = _times(color, value)
    elif material in (Material.KERB,):
        value = 0.9 + 0.15 * noise(u, v, 9.0, 0.9, 18) - 0.3 * (_part(u / 0.9) < 0.03)
        out = _times(np.broadcast_to(np.array([0.3, 0.29, 0.27], np.float32), (len(u), 3)), value)
    elif material == Material.BARK:
        out = _times(
            color,
            np.clip(
                1 + 0.35 * noise(u * 6, v, 2.0, 0.6, 19) + 0.15 * noise(xyz[:, 0], xyz[:, 2], 3.0, 0.8, 20), 0.3, 2
            ),
        )
    elif material == Material.FOLIAGE:
        out = _times(color, np.clip(1 + 0.25 * noise(xyz[:, 0] + xyz[:, 1], xyz[:, 2], 5.0, 0.7, 21), 0.3, 2))
    elif material == Material.CLOTH:
        out = _times(
            color, np.clip(1 + 0.18 * noise(xyz[:, 0] * 3 + xyz[:, 1] * 3, xyz[:, 2] * 2, 3.0, 0.9, 22), 0.4, 1.6)
        )
    elif material == Material.WOOD:
        out = _times(color, np.clip(1 + 0.2 * noise(u * 4, v, 3.0, 0.9, 23), 0.4, 1.6))
    elif material == Material.HILL:
        value = 1 + 0.35 * noise(xyz[:, 0] + xyz[:, 1] * 0.7, xyz[:, 2] * 2 + xyz[:, 1], 160.0, 0.8, 24)
        out = _times(color, np.clip(value, 0.3, 2))
    elif material == Material.FASCIA:
        # Something like letters: dark or light strokes in the middle of the board.
        row = np.floor(v / 0.42)
        inside = np.abs(_part(v / 0.42) - 0.5) < 0.27
        letter = np.floor(u / 0.2)
        word = hash01(np.floor(u / 2.4), row + 3) < 0.6
        stroke = hash01(letter, np.floor(u / 0.055), np.floor(v / 0.07)) < 0.52
        ink = inside & word & stroke & (_part(u / 0.2) < 0.8)
        light = color.mean(1, keepdims=True) < 0.25
        out = np.where(ink[:, None], np.where(light, 0.75, 0.04), color)
    elif material in (Material.METAL, Material.PLAIN, Material.METAL_RAIL):
        out = _times(color, 1 + 0.06 * noise(xyz[:, 0] + xyz[:, 1], xyz[:, 2], 3.0, 1.0, 25))
        if material == Material.METAL_RAIL:
            out = np.where((np.abs(_part(u / 0.12) - 0.5) < 0.3)[:, None], out, out * 0.35)
    return np.clip(out, 0.004, 0.95)


def window_albedo(color: np.ndarray, uv: np.ndarray, shop: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is seen of a pane: reflectance of frame or interior, gloss, and how brightly it is lit by night (0..1)."""
    cell = np.floor(uv)
    x, y = uv[:, 0] - cell[:, 0], uv[:, 1] - cell[:, 1]
    across, up = np.ascontiguousarray(cell[:, 0]), np.ascontiguousarray(cell[:, 1])
    a, b = hash01(across, up), hash01(up, across + 7)
    if shop:
        columns, rows = np.ones_like(a), np.ones_like(a)
    else:
        columns = 1 + (a >= 0.35).astype(np.float32) + (a >= 0.8)
        rows = 1 + (b >= 0.5).astype(np.float32)
    edge_u = 0.5 - np.abs(_part(x * columns) - 0.5)
    edge_v = 0.5 - np.abs(_part(y * rows) - 0.5)
    frame = (edge_u / columns < (0.02 if shop else 0.035)) | (edge_v / rows < (0.015 if shop else 0.025))
    lit = (hash01(across + 31, up) < (0.6 if shop else 0.28)) & ~frame
    if shop:
        column, row = np.floor(x * 9), np.floor(y * 5)
        goods = np.nonzero((hash01(column, row, across) < 0.5) & (y < 0.75))[0]
        out = np.repeat((0.03 + 0.04 * a)[:, None], 3, 1)
        column, row, across = column.take(goods), row.take(goods), across.take(goods)
        hue = np.stack([hash01(across, column + k, row) for k in range(3)], -1)
        out[goods] = 0.02 + 0.3 * hue**2
    else:
        curtain = (b > 0.62) & ((x < 0.22 + 0.2 * a) | (x > 0.8 - 0.2 * a) | (y > 0.98 - 0.6 * (b - 0.62)))
        out = 0.012 + (0.05 * a)[:, None] * np.array([1.0, 0.95, 0.85], np.float32)
        drawn = np.nonzero(curtain)[0]
        out[drawn] = (0.25 + 0.3 * a.take(drawn))[:, None]
    some = np.nonzero(frame)[0]
    out[some] = color.take(some, axis=0)
    return out, np.where(frame, np.float32(0.05), np.float32(1)), lit * (0.5 + 0.5 * b)
