"""Reflectance of walls, roofs, plants and cloth by material, and of window panes.

Sizes are those of the real thing: a brick course is 75 mm high and 225 mm long with its joint, ashlar 0.3 m by 0.65 m,
roof tiles 0.3 m. The last number of each `noise` is a seed of its own, so that no two patterns are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zoo.synthetic.rendering.noise import hash01, noise, odd, part, times
from zoo.synthetic.shapes.surfaces import Material

__all__ = ["surface_albedo", "window_albedo"]

_MORTAR = np.array([0.36, 0.34, 0.3], np.float32)
_KERB_STONE = np.array([0.3, 0.29, 0.27], np.float32)


def surface_albedo(material: int, color: np.ndarray, uv: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Reflectance `(P, 3)` of points of one material: `color` with the material's pattern on it.

    Args:
        material: `Material`; one without a pattern keeps its colour.
        color: `(P, 3)` reflectance of the mesh.
        uv: `(P, 2)` metres on the surface.
        xyz: `(P, 3)` world metres, for materials whose meshes have no useful uv.
        foot: `(P,)` footprint of the pixel, metres.
    """
    pattern = _PATTERNS.get(material)
    out = color if pattern is None else pattern(color, uv[:, 0], uv[:, 1], xyz, foot)
    return np.clip(out, 0.004, 0.95)


def _brick(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    fade = np.clip(0.06 / foot, 0, 1)
    row = np.floor(v / 0.075)
    w = u / 0.225 + 0.5 * odd(row)
    each = hash01(np.floor(w), row)
    joint = (np.abs(part(w) - 0.5) > 0.46) | (np.abs(part(v / 0.075) - 0.5) > 0.41)
    value = 1 + (0.5 * (each - 0.5) * fade) + 0.12 * noise(u, v, 11.0, 1.2, 12)
    out = times(color, value)
    # From afar joints cannot be told apart: then all of the wall takes the sixth of mortar that it is made of.
    mix = np.where(joint, fade * 0.8, 0.16 * (1 - fade))[:, None].astype(np.float32)
    return out * (1 - mix) + _MORTAR * mix


def _stone(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    fade = np.clip(0.12 / foot, 0, 1)
    row = np.floor(v / 0.3)
    w = u / 0.65 + 0.37 * row
    joint = (np.abs(part(w) - 0.5) > 0.485) | (np.abs(part(v / 0.3) - 0.5) > 0.465)
    each = 1 + 0.35 * (hash01(np.floor(w), row) - 0.5)
    return times(color, each * np.where(joint, 1 - 0.45 * fade, 1) + 0.12 * noise(u, v, 6.0, 0.9, 13))


def _plaster(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    stain = np.clip(noise(u, v * 0.25, 14.0, 1.2, 14), 0, 3)  # stretched downwards, as rain leaves it
    return times(color, 1 + 0.05 * noise(u, v, 4.0, 0.6, 15) - 0.08 * stain)


def _concrete(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    joint = (np.abs(part(u / 2.7) - 0.5) > 0.495) | (np.abs(part(v / 1.35) - 0.5) > 0.49)  # of the formwork
    return times(color, (1 + 0.12 * noise(u, v, 9.0, 1.0, 16)) * np.where(joint, 0.7, 1))


def _roof(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    fade = np.clip(0.15 / foot, 0, 1)
    row = np.floor(v / 0.3)
    w = u / 0.3 + 0.5 * odd(row)
    value = (
        1
        + 0.3 * fade * (hash01(np.floor(w), row) - 0.5)
        - 0.3 * fade * (part(v / 0.3) < 0.15)
        + 0.12 * noise(u, v, 8.0, 1.0, 17)
    )
    return times(color, value)


def _kerb(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    value = 0.9 + 0.15 * noise(u, v, 9.0, 0.9, 18) - 0.3 * (part(u / 0.9) < 0.03)
    return times(np.broadcast_to(_KERB_STONE, (len(u), 3)), value)


def _bark(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    value = 1 + 0.35 * noise(u * 6, v, 2.0, 0.6, 19) + 0.15 * noise(xyz[:, 0], xyz[:, 2], 3.0, 0.8, 20)
    return times(color, np.clip(value, 0.3, 2))


def _foliage(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Leaves of 4 cm on the larger ones of the mesh, where a pixel is small enough to tell them apart."""
    fade = np.clip(0.025 / foot, 0, 1)
    leaf = hash01(*(np.floor(xyz[:, k] * np.float32(25)) for k in range(3))) - np.float32(0.5)
    broad = 0.25 * noise(xyz[:, 0] + xyz[:, 1], xyz[:, 2], 5.0, 0.7, 21)
    return times(color, np.clip(1 + 0.9 * fade * leaf + broad, 0.3, 2))


def _cloth(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    folds = noise(xyz[:, 0] * 3 + xyz[:, 1] * 3, xyz[:, 2] * 2, 3.0, 0.9, 22)
    return times(color, np.clip(1 + 0.18 * folds, 0.4, 1.6))


def _wood(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    return times(color, np.clip(1 + 0.2 * noise(u * 4, v, 3.0, 0.9, 23), 0.4, 1.6))


def _hill(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    value = 1 + 0.35 * noise(xyz[:, 0] + xyz[:, 1] * 0.7, xyz[:, 2] * 2 + xyz[:, 1], 160.0, 0.8, 24)
    return times(color, np.clip(value, 0.3, 2))


def _fascia(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Something like letters: dark or light strokes in the middle of the board."""
    row = np.floor(v / 0.42)
    inside = np.abs(part(v / 0.42) - 0.5) < 0.27
    letter = np.floor(u / 0.2)
    word = hash01(np.floor(u / 2.4), row + 3) < 0.6
    stroke = hash01(letter, np.floor(u / 0.055), np.floor(v / 0.07)) < 0.52
    ink = inside & word & stroke & (part(u / 0.2) < 0.8)
    light = color.mean(1, keepdims=True) < 0.25
    return np.where(ink[:, None], np.where(light, 0.75, 0.04), color)


def _plain(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    return times(color, 1 + 0.06 * noise(xyz[:, 0] + xyz[:, 1], xyz[:, 2], 3.0, 1.0, 25))


def _railing(color: np.ndarray, u: np.ndarray, v: np.ndarray, xyz: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Upright bars on a sheet: a balcony's railing need not be made of triangles."""
    out = _plain(color, u, v, xyz, foot)
    return np.where((np.abs(part(u / 0.12) - 0.5) < 0.3)[:, None], out, out * 0.35)


_PATTERNS: dict[int, Callable[..., np.ndarray]] = {
    Material.BRICK: _brick,
    Material.STONE: _stone,
    Material.PLASTER: _plaster,
    Material.CONCRETE: _concrete,
    Material.ROOF: _roof,
    Material.KERB: _kerb,
    Material.BARK: _bark,
    Material.BRANCH: _bark,
    Material.FOLIAGE: _foliage,
    Material.CLOTH: _cloth,
    Material.WOOD: _wood,
    Material.HILL: _hill,
    Material.FASCIA: _fascia,
    Material.METAL: _plain,
    Material.PLAIN: _plain,
    Material.METAL_RAIL: _railing,
}


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
    edge_u = 0.5 - np.abs(part(x * columns) - 0.5)
    edge_v = 0.5 - np.abs(part(y * rows) - 0.5)
    frame = (edge_u / columns < (0.02 if shop else 0.035)) | (edge_v / rows < (0.015 if shop else 0.025))
    lit = (hash01(across + 31, up) < (0.6 if shop else 0.28)) & ~frame
    if shop:
        column, row = np.floor(x * 9), np.floor(y * 5)
        goods = np.nonzero((hash01(column, row, across) < 0.5) & (y < 0.75))[0]
        out = np.repeat((0.03 + 0.04 * a)[:, None], 3, 1)
        column, row, across = column.take(goods), row.take(goods), across.take(goods)
        hue = np.stack([hash01(across, column + k, row) for k in range(3)], -1)
        grey = hue.mean(1, keepdims=True)
        out[goods] = 0.02 + 0.25 * (grey + 0.35 * (hue - grey)) ** 2  # behind glass, in dim light: pale colours
    else:
        curtain = (b > 0.62) & ((x < 0.22 + 0.2 * a) | (x > 0.8 - 0.2 * a) | (y > 0.98 - 0.6 * (b - 0.62)))
        out = 0.012 + (0.05 * a)[:, None] * np.array([1.0, 0.95, 0.85], np.float32)
        drawn = np.nonzero(curtain)[0]
        out[drawn] = (0.25 + 0.3 * a.take(drawn))[:, None]
    some = np.nonzero(frame)[0]
    out[some] = color.take(some, axis=0)
    return out, np.where(frame, np.float32(0.05), np.float32(1)), lit * (0.5 + 0.5 * b)
