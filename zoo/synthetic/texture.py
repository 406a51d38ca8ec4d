"""Procedural surfaces: reflectance from position, all as table look-ups so that a frame costs tenths of a second."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from zoo.synthetic.mesh import Material
from zoo.synthetic.scene import Block, Scene

__all__ = ["ground_albedo", "hash01", "noise", "road_albedo", "surface_albedo"]

_SIZE = 512


@lru_cache(maxsize=64)
def _tile(slope: float, seed: int) -> np.ndarray:
    """A seamless tile of noise with amplitude spectrum 1 / f ** slope, mean 0, standard deviation 1."""
    rng = np.random.default_rng([5, seed])
    f = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None]) * _SIZE
    spectrum = np.fft.rfft2(rng.normal(size=(_SIZE, _SIZE))) / np.maximum(f, 2.0) ** slope
    tile = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def noise(x: np.ndarray, y: np.ndarray, period: float, slope: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise of mean 0 and deviation 1 that repeats after `period` metres; bilinear."""
    tile = _tile(slope, seed)
    scale = np.float32(_SIZE / period)
    u, v = (x * scale).astype(np.float32), (y * scale).astype(np.float32)
    i, j = np.floor(u), np.floor(v)
    fu, fv = u - i, v - j
    i, j = i.astype(np.int32) & (_SIZE - 1), j.astype(np.int32) & (_SIZE - 1)
    i1, j1 = (i + 1) & (_SIZE - 1), ((j + 1) & (_SIZE - 1)) * _SIZE
    j *= _SIZE
    flat = tile.ravel()
    a, b, c, d = flat.take(j + i), flat.take(j + i1), flat.take(j1 + i), flat.take(j1 + i1)
    top = a + (b - a) * fu
    return top + (c + (d - c) * fu - top) * fv


def hash01(*keys: np.ndarray) -> np.ndarray:
    """A number in [0, 1) from integers."""
    h = np.zeros(np.shape(keys[0]), np.uint32)
    for key in keys:
        h = (h ^ np.asarray(key).astype(np.int64).astype(np.uint32)) * np.uint32(2654435761)
        h ^= h >> np.uint32(15)
    return ((h * np.uint32(2246822519)) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)


def _times(color: np.ndarray, value: np.ndarray) -> np.ndarray:
    return color * value.astype(np.float32)[:, None]


def _line(distance: np.ndarray, half: float, foot: np.ndarray) -> np.ndarray:
    """How much of a pixel of footprint `foot` a stripe `half` metres to each side covers."""
    return np.clip((half + foot / 2 - np.abs(distance)) / np.maximum(foot, 1e-3), 0, 1) * np.minimum(
        1, 2 * half / np.maximum(foot, 1e-3)
    )


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
    lane = np.abs(((np.abs(t) / wide) % 1) - 0.5)
    value = value * (1 + wear * np.exp(-(((lane - 0.25) / 0.1) ** 2)))
    if rng.random() < 0.6:  # patches of newer asphalt
        cell_s, cell_t = np.floor(s / 7.3), np.floor((t + 1.3) / 2.6)
        on = hash01(cell_s, cell_t, np.full_like(s, scene.seed)) < rng.uniform(0.03, 0.2)
        inside = ((s / 7.3) % 1 < 0.2 + 0.8 * hash01(cell_s, cell_t)) & on
        value = np.where(inside, value * rng.uniform(0.6, 0.95), value)
    if rng.random() < 0.6:  # cracks: zero lines of smooth noise
        crack = np.abs(noise(s, t, 23.0, 1.7, 4))
        value = value * (1 - 0.55 * np.clip(1 - crack / 0.03, 0, 1) * np.clip(0.08 / foot, 0, 1))
    color = _times(tone[None], value)
    # Drains and covers.
    cs, ct = np.floor(s / 17.0), np.floor(t / 3.0)
    ds = s - (cs + hash01(cs, ct)) * 17
    dt = t - (ct + 0.5) * 3
    cover = (ds**2 + dt**2 < 0.3**2) & (hash01(ct, cs) < 0.35)
    color[cover] = (0.05 + 0.03 * (np.sin(s[cover] * 60) > 0))[:, None]
    paint, tint = _markings(scene, s, t, foot, rng)
    worn = np.clip(0.85 + 0.25 * noise(s, t, 2.2, 0.8, 5), 0.15, 1)
    paint = paint * worn
    paint = paint.astype(np.float32)
    marked = np.nonzero(paint > 0)[0]
    some = paint[marked, None]
    color[marked] = color[marked] * (1 - some) + some * tint[marked]
    if street.tram:
        rails = np.zeros_like(t)
        for centre in (-wide * 0.5, wide * 0.5):
            for g in (-0.72, 0.72):
                rails = np.maximum(rails, _line(t - centre - g, 0.045, foot * 0.1))
        color += rails[:, None].astype(np.float32) * (0.22 - color)
    return color, 0.25 * paint


def _markings(scene: Scene, s, t, foot, rng) -> tuple[np.ndarray, np.ndarray]:
    street, wide = scene.street, scene.extra["lane_width"]
    white = np.array([0.62, 0.62, 0.6]) * rng.uniform(0.6, 1.15)
    yellow = np.array([0.6, 0.42, 0.06])
    paint = np.zeros_like(s)
    side_foot = np.maximum(foot * 0.12, 0.004)
    width = rng.uniform(0.05, 0.09)
    dash, gap = [(3, 6), (2, 4), (4, 2), (6, 9)][int(rng.integers(4))]
    broken = np.clip((0.5 * dash - np.abs((s % (dash + gap)) - dash / 2)) / np.maximum(foot, 0.02) + 0.5, 0, 1)
    inner = np.abs(t) < street.half_width - 0.3
    clear = np.ones_like(s)
    for crossing in scene.crossings:
        clear = clear * ((s < crossing.start - 4) | (s > crossing.end + 4))
    tint = np.tile(white.astype(np.float32), (len(s), 1))
    if street.markings:
        yellow_centre = rng.random() < 0.2
        if street.lanes > 1:
            if street.markings == 2:
                centre = np.maximum(_line(t - 0.12, width, side_foot), _line(t + 0.12, width, side_foot))
            else:
                centre = _line(t, width, side_foot) * broken
            paint = np.maximum(paint, centre * clear)
            if yellow_centre:
                tint[np.abs(t) < 0.3] = yellow
        for k in range(1, (street.lanes + 1) // 2):
            for sign in (-1, 1):
                paint = np.maximum(paint, _line(t - sign * k * wide, width, side_foot) * broken * clear)
    outer = street.half_width - max(street.parking)
    if street.edge_line in (1, 2):
        edge = np.maximum(_line(t - outer + 0.25, width, side_foot), _line(t + outer - 0.25, width, side_foot))
        if street.edge_line == 2:  # the double yellow lines of a street without parking
            edge = np.maximum(
                edge, np.maximum(_line(t - outer + 0.47, width, side_foot), _line(t + outer - 0.47, width, side_foot))
            )
            tint[(np.abs(t) > outer - 0.7)] = yellow
        paint = np.maximum(paint, edge * clear)
    if max(street.parking):
        bay = _line(np.abs(t) - outer, 0.05, side_foot)
        paint = np.maximum(paint, bay * clear * 0.9)
    if street.cycle_lane:
        line = outer - 1.5
        paint = np.maximum(paint, _line(np.abs(t) - line, 0.06, side_foot) * clear)
        if rng.random() < 0.35:
            lane = (np.abs(t) > line) & (np.abs(t) < outer) & (paint < 0.3)
            tint[lane] = [(0.3, 0.08, 0.06), (0.05, 0.2, 0.1), (0.05, 0.12, 0.3)][int(rng.integers(3))]
            paint = np.where(lane, 0.7 * clear, paint)
    for crossing in scene.crossings:
        for edge, sign in ((crossing.start, -1), (crossing.end, 1)):
            d = (s - edge) * sign
            if crossing.zebra:
                band = (d > 0.6) & (d < 3.6) & inner
                stripes = np.clip((0.25 - np.abs((t % 1.0) - 0.5)) / np.maximum(side_foot, 0.01) + 0.5, 0, 1)
                paint = np.where(band, stripes, paint)
            elif crossing.signals:
                for g in (1.0, 3.6):
                    paint = np.maximum(paint, _line(d - g, 0.1, foot) * inner)
            stop = (d > 4.2) & (d < 4.6) & inner & ((t * sign) < 0)
            if crossing.signals or crossing.zebra:
                paint = np.where(stop, 0.9, paint)
        for side in (-1, 1):
            if crossing.side in (0, side):
                give = (np.abs(t - side * (street.half_width + 1.0)) < 0.15) & (s > crossing.start) & (s < crossing.end)
                paint = np.where(give & ((s % 1.0) < 0.6), 0.9, paint)
        if rng.random() < 0.15:  # a yellow box
            box = (s > crossing.start) & (s < crossing.end) & inner
            cross = np.minimum(np.abs(((s + t) % 2.2) - 1.1), np.abs(((s - t) % 2.2) - 1.1)) < 0.09
            tint[box] = yellow
            paint = np.where(box & cross, 0.8, paint)
    # Arrows and letters in the lanes.
    if street.markings and rng.random() < 0.6:
        period = rng.uniform(28, 60)
        a = (s + rng.uniform(0, 30)) % period
        for k in range(-(street.lanes // 2), (street.lanes + 1) // 2):
            centre = (k + 0.5) * wide
            dt = np.abs(t - centre)
            keep = (dt < 0.1) & (a < 3)
            head = (a >= 3) & (a < 4.6) & (dt < 0.45 * (4.6 - a) / 1.6)
            paint = np.where((keep | head) & (np.abs(t) < outer), clear * 0.9, paint)
    paint = np.where(np.abs(t) > street.half_width + 1.4, 0, paint)
    return paint, tint


def ground_albedo(scene: Scene, s: np.ndarray, t: np.ndarray, foot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance `(P, 3)` and label `(P,)` of the raised ground beside the road: pavement, verge or yard."""
    color = np.zeros((len(s), 3), np.float32)
    label = np.ones(len(s), np.uint8)
    for block in scene.blocks:
        here = (np.sign(t) == block.side) & (s >= block.start - 0.01) & (s <= block.end + 0.01)
        if not here.any():
            continue
        color[here], label[here] = _block_albedo(scene, block, s[here], np.abs(t[here]), foot[here])
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
    rng = np.random.default_rng([scene.seed, 43, int(block.start) + 100])
    tone = np.array([1.0, 0.97, 0.92]) * (1 + rng.normal(0, 0.05, 3))
    value = block.shade * (
        1 + 0.1 * noise(s, t, 31.0, 1.2, 6) + 0.08 * np.clip(0.05 / foot, 0, 1) * noise(s, t, 2.3, 0.4, 7)
    )
    fade = np.clip(0.12 / foot, 0, 1)
    if block.paving < 3:
        a, c = [(0.6, 0.6), (0.9, 0.6), (0.2, 0.1)][block.paving]
        row = np.floor(t / c)
        u = s / a + 0.5 * (row % 2)
        value = value * (1 + 0.1 * (hash01(np.floor(u), row) - 0.5) * fade)
        joint = np.minimum(np.abs(u % 1 - 0.5) - 0.5 + 0.012 / a, np.abs((t / c) % 1 - 0.5) - 0.5 + 0.012 / c)
        joint = ((0.5 - np.abs(u % 1 - 0.5)) * a < 0.012) | ((0.5 - np.abs((t / c) % 1 - 0.5)) * c < 0.012)
        value = np.where(joint, value * (1 - 0.4 * fade), value)
    paved = value[:, None] * tone
    lush = np.asarray(scene.foliage[0]) * 1.1 + 0.02
    dry = np.array([0.16, 0.13, 0.075])
    mixture = np.clip(0.35 + 0.25 * noise(s, t, 19.0, 1.2, 8) + 0.12 * noise(s, t, 3.0, 0.6, 9), 0, 1)[:, None]
    turf = lush * (1 - mixture * 0.7) + dry * mixture * 0.7
    turf = turf * (1 + 0.3 * np.clip(0.06 / foot, 0.15, 1) * noise(s, t, 1.7, 0.3, 10))[:, None]
    rough = np.array([0.22, 0.2, 0.17]) * (1 + 0.25 * noise(s, t, 1.3, 0.3, 11))[:, None]
    color = np.where(pave[:, None], paved, turf)
    if block.yard == "paved":
        color = np.where(yard[:, None], paved * 0.85, color)
    elif block.yard == "gravel":
        color = np.where(yard[:, None], rough, color)
    return np.clip(color, 0.01, 0.9), label


def surface_albedo(material: int, color: np.ndarray, uv: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Reflectance `(P, 3)` of points of one material: `color` with the material's pattern on it."""
    u, v = uv[:, 0], uv[:, 1]
    out = color
    if material == Material.BRICK:
        fade = np.clip(0.06 / foot, 0, 1)
        row = np.floor(v / 0.075)
        w = u / 0.225 + 0.5 * (row % 2)
        each = hash01(np.floor(w), row)
        joint = (np.abs(w % 1 - 0.5) > 0.46) | (np.abs((v / 0.075) % 1 - 0.5) > 0.41)
        value = 1 + (0.5 * (each - 0.5) * fade) + 0.12 * noise(u, v, 11.0, 1.2, 12)
        out = _times(color, value)
        mortar = np.array([0.36, 0.34, 0.3], np.float32)
        mix = np.where(joint, fade * 0.8, 0.16 * (1 - fade))[:, None].astype(np.float32)
        out = out * (1 - mix) + mortar * mix
    elif material == Material.STONE:
        fade = np.clip(0.12 / foot, 0, 1)
        row = np.floor(v / 0.3)
        w = u / 0.65 + 0.37 * row
        joint = (np.abs(w % 1 - 0.5) > 0.485) | (np.abs((v / 0.3) % 1 - 0.5) > 0.465)
        value = (1 + 0.35 * (hash01(np.floor(w), row) - 0.5)) * np.where(joint, 1 - 0.45 * fade, 1) + 0.12 * noise(
            u, v, 6.0, 0.9, 13
        )
        out = _times(color, value)
    elif material == Material.PLASTER:
        stain = np.clip(noise(u, v * 0.25, 14.0, 1.2, 14), 0, 3)
        value = 1 + 0.05 * noise(u, v, 4.0, 0.6, 15) - 0.08 * stain
        out = _times(color, value)
    elif material == Material.CONCRETE:
        joint = (np.abs((u / 2.7) % 1 - 0.5) > 0.495) | (np.abs((v / 1.35) % 1 - 0.5) > 0.49)
        value = (1 + 0.12 * noise(u, v, 9.0, 1.0, 16)) * np.where(joint, 0.7, 1)
        out = _times(color, value)
    elif material == Material.ROOF:
        fade = np.clip(0.15 / foot, 0, 1)
        row = np.floor(v / 0.3)
        w = u / 0.3 + 0.5 * (row % 2)
        value = (
            1
            + 0.3 * fade * (hash01(np.floor(w), row) - 0.5)
            - 0.3 * fade * (((v / 0.3) % 1) < 0.15)
            + 0.12 * noise(u, v, 8.0, 1.0, 17)
        )
        out = _times(color, value)
    elif material in (Material.KERB,):
        value = 0.9 + 0.15 * noise(u, v, 9.0, 0.9, 18) - 0.3 * (((u / 0.9) % 1) < 0.03)
        out = _times(np.array([[0.3, 0.29, 0.27]], np.float32), value)
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
        inside = np.abs((v / 0.42) % 1 - 0.5) < 0.27
        letter = np.floor(u / 0.2)
        word = hash01(np.floor(u / 2.4), row + 3) < 0.6
        stroke = hash01(letter, np.floor(u / 0.055), np.floor(v / 0.07)) < 0.52
        ink = inside & word & stroke & ((u / 0.2) % 1 < 0.8)
        light = color.mean(1, keepdims=True) < 0.25
        out = np.where(ink[:, None], np.where(light, 0.75, 0.04), color)
    elif material in (Material.METAL, Material.PLAIN, Material.METAL_RAIL):
        out = _times(color, 1 + 0.06 * noise(xyz[:, 0] + xyz[:, 1], xyz[:, 2], 3.0, 1.0, 25))
        if material == Material.METAL_RAIL:
            out = np.where((np.abs((u / 0.12) % 1 - 0.5) < 0.3)[:, None], out, out * 0.35)
    return np.clip(out, 0.004, 0.95)


def window_albedo(color: np.ndarray, uv: np.ndarray, shop: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is seen of a pane: reflectance of frame or interior, gloss, and how brightly it is lit by night (0..1)."""
    cell, f = np.floor(uv), uv % 1
    a, b = hash01(cell[:, 0], cell[:, 1]), hash01(cell[:, 1], cell[:, 0] + 7)
    columns = np.where(a < 0.35, 1, np.where(a < 0.8, 2, 3)).astype(float)
    rows = np.where(b < 0.5, 1, 2).astype(float)
    if shop:
        columns, rows = np.ones_like(a), np.ones_like(a)
    edge_u = 0.5 - np.abs((f[:, 0] * columns) % 1 - 0.5)
    edge_v = 0.5 - np.abs((f[:, 1] * rows) % 1 - 0.5)
    frame = (edge_u / columns < (0.02 if shop else 0.035)) | (edge_v / rows < (0.015 if shop else 0.025))
    inside = 0.012 + 0.05 * a[:, None] * np.array([1.0, 0.95, 0.85])
    if shop:
        item = hash01(np.floor(f[:, 0] * 9), np.floor(f[:, 1] * 5), cell[:, 0])
        hue = np.stack([hash01(cell[:, 0], np.floor(f[:, 0] * 9) + k, np.floor(f[:, 1] * 5)) for k in range(3)], -1)
        goods = (item < 0.5)[:, None] & (f[:, 1] < 0.75)[:, None]
        inside = np.where(goods, 0.02 + 0.3 * hue**2, 0.03 + 0.04 * a[:, None])
    else:
        curtain = (b > 0.62) & (
            (f[:, 0] < 0.22 + 0.2 * a) | (f[:, 0] > 0.8 - 0.2 * a) | (f[:, 1] > 0.98 - 0.6 * (b - 0.62))
        )
        inside = np.where(curtain[:, None], 0.25 + 0.3 * a[:, None], inside)
    out = np.where(frame[:, None], color, inside)
    lit = (hash01(cell[:, 0] + 31, cell[:, 1]) < (0.6 if shop else 0.28)) & ~frame
    return out, np.where(frame, 0.05, 1.0), lit * (0.5 + 0.5 * b)
