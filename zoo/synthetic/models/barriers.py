"""Walls, fences, hedges and guard rails along a line, and the closed sheets that stand for fences in annotations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo.synthetic.models.ground import bent
from zoo.synthetic.scene.types import Scene, Street, Strip
from zoo.synthetic.shapes.mesh import Builder, Mesh, Rgb, concatenate, refined
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["boxes_around", "build_sheets", "strip_mesh"]

_PIECE_M = 3.0  # longest straight piece of a barrier: it follows the ground and the bends of the street
_BARS_M = 0.9  # height of bars on top of a wall
_FAR_M = 15.0  # from the middle of the street


def strip_mesh(street: Street, strip: Strip) -> Mesh:
    """One wall, fence, hedge or guard rail in the world."""
    rng = np.random.default_rng(strip.seed)
    line = np.asarray(strip.line)
    length = float(np.hypot(*(line[1] - line[0])))
    step = (line[1] - line[0]) / length
    mesh = refined(_MAKERS[strip.kind](strip, length, rng), _PIECE_M)
    # Until here along the x axis; now along the line, in street coordinates, and bent with the street.
    v = mesh.vertices
    across = np.array([-step[1], step[0]])
    st = line[0] + v[:, :1] * step + v[:, 1:2] * across
    vertices = np.concatenate([st, v[:, 2:] + street.kerb], 1).astype(np.float32)
    return bent(street, replace(mesh, vertices=vertices))


def _wall(strip: Strip, length: float, rng: np.random.Generator) -> Mesh:
    """A wall in pieces of 4 m with coping stones, some with piers, some with bars on top."""
    b = Builder(Label.WALL)
    h = strip.height
    material = (Material.BRICK, Material.STONE, Material.PLASTER, Material.CONCRETE)[strip.variant % 4]
    _rail(b, length, (-0.13, 0.13), (-0.1, h), strip.color, material)
    _rail(b, length, (-0.18, 0.18), (h, h + 0.09), (0.35, 0.33, 0.3), Material.STONE)
    if strip.variant % 3 == 0:
        for x in np.arange(0, length, _PIECE_M):
            b.box([x - 0.22, -0.22, -0.1], [x + 0.22, 0.22, h + 0.25], strip.color, material)
    if _bars_on_wall(strip):
        _bars(b, length, h, h + _BARS_M, 0.14, 0.012, (0.03, 0.03, 0.03), Label.FENCE)
    return b.mesh()


def _bars_on_wall(strip: Strip) -> bool:
    return strip.kind == "wall" and strip.variant % 5 == 0


def _fence(strip: Strip, length: float, rng: np.random.Generator) -> Mesh:
    """Railings, boards, wire mesh, or two or three rails on posts."""
    b = Builder(Label.FENCE)
    style = ("railing", "boards", "wire", "rails")[strip.variant % 4]
    if style == "railing":
        _bars(b, length, 0.05, strip.height, float(rng.uniform(0.1, 0.16)), 0.012, strip.color, Label.FENCE)
    elif style == "boards":
        _boards(b, strip, length, rng)
    elif style == "wire":
        for z in np.linspace(0.1, strip.height, 9):
            x = np.append(np.arange(0, length, _PIECE_M), length)
            wire = np.stack([x, 0 * x, 0 * x + z], -1)
            b.tubes(wire[:-1], wire[1:], 0.006, 0.006, 3, strip.color, Material.METAL)
        _posts(b, np.arange(0, length, 0.22), strip.height, 0.006, 3, strip.color, Material.METAL)
        _posts(b, np.arange(0, length, 2.5), strip.height + 0.1, 0.035, 6, strip.color, Material.METAL)
    else:
        _posts(b, np.arange(0, length, 2.0), strip.height, 0.045, 6, strip.color, Material.WOOD)
        for z in np.linspace(0.35, 0.95, 3) * strip.height:
            _rail(b, length, (-0.02, 0.02), (z - 0.05, z + 0.05), strip.color, Material.WOOD)
    return b.mesh()


def _boards(b: Builder, strip: Strip, length: float, rng: np.random.Generator) -> None:
    wide = float(rng.uniform(0.09, 0.14))
    x = np.arange(0, length, wide * float(rng.choice([1.05, 1.5])))
    top = strip.height * (1 + 0.02 * rng.normal(size=len(x)))
    low = 0 * x + 0.05
    corners = ((x, low), (x + wide, low), (x + wide, top), (x, top))
    color = strip.color if max(strip.color) > 0.1 else (0.2, 0.13, 0.08)
    shade = rng.uniform(0.75, 1.2, (len(x), 1)) * color
    b.quads(np.stack([np.stack([u, 0 * x, z], -1) for u, z in corners], 1), shade, Material.WOOD)


def _hedge(strip: Strip, length: float, rng: np.random.Generator) -> Mesh:
    """Leaves through and through, more of them outside, so that rays end at many depths and some pass.

    With these sizes and numbers a ray across a hedge meets two leaves on average; a sixth of the rays meets none.
    Far from the street there are fewer and larger leaves.
    """
    b = Builder(Label.VEGETATION)
    h = strip.height
    wide = float(rng.uniform(0.3, 0.6))
    larger = 1.7 if min(abs(t) for _, t in strip.line) > _FAR_M else 1.0
    n = int(min(length * h * 120, 8000) / larger**2)
    p = rng.uniform([0, -1, 0.02], [length, 1, 1], (n, 3))
    outside, top = rng.random(n) < 0.5, np.where(rng.random(n) < 0.25)[0]
    p[:, 1] = np.where(outside, np.sign(p[:, 1]) * rng.uniform(0.75, 1.05, n), p[:, 1]) * wide
    p[top, 1] = rng.uniform(-wide, wide, len(top))
    p[:, 2] *= h
    p[top, 2] = h * rng.uniform(0.88, 1.04, len(top))
    a, c = (larger * np.clip(rng.normal(0, 0.1, (n, 3)), -0.18, 0.18) for _ in range(2))
    vertices = np.stack([p + a, p - a + c, p - a - c], 1).reshape(-1, 3)
    # The reflectance is a quarter of what it will be: `build` multiplies it by four times the place's foliage colour.
    shade = np.clip(rng.uniform(0.5, 1.4, (n, 1)) * 0.25 * np.ones(3), 0, 1)
    b.add(vertices, np.arange(3 * n).reshape(-1, 3), shade, Material.FOLIAGE)
    return b.mesh()


def _guard_rail(strip: Strip, length: float, rng: np.random.Generator) -> Mesh:
    b = Builder(Label.NONE)  # a guard rail has no class of the nineteen
    _rail(b, length, (-0.02, 0.04), (0.45, 0.75), strip.color, Material.METAL)
    for x in np.arange(0.5, length, 2.0):
        b.box([x, -0.12, 0], [x + 0.08, -0.03, 0.7], strip.color, Material.METAL)
    return b.mesh()


_MAKERS = {"wall": _wall, "fence": _fence, "hedge": _hedge, "rail": _guard_rail}


def _rail(
    b: Builder,
    length: float,
    across: tuple[float, float],
    height: tuple[float, float],
    color: Rgb,
    material: int,
    label: int | None = None,
) -> None:
    """A bar along the whole barrier, in pieces, that lies between two places across it and two heights."""
    for x in np.arange(0, length, _PIECE_M):
        low, high = [x, across[0], height[0]], [min(x + _PIECE_M, length), across[1], height[1]]
        b.box(low, high, color, material, label=label)


def _posts(
    b: Builder,
    x: np.ndarray,
    top: float,
    r: float,
    sides: int,
    color: Rgb,
    material: int,
    low: float = 0.0,
    label: int | None = None,
) -> None:
    """Upright tubes of radius `r` at the places `x`."""
    start, end = np.stack([x, 0 * x, 0 * x + low], -1), np.stack([x, 0 * x, 0 * x + top], -1)
    b.tubes(start, end, r, r, sides, color, material, label=label)


def _bars(b: Builder, length: float, low: float, high: float, spacing: float, r: float, color: Rgb, label: int) -> None:
    """A railing: bars from `low` to `high`, two rails, and posts every 2.5 m."""
    _posts(b, np.arange(0, length, spacing), high, r, 3, color, Material.METAL, low, label)
    for z in (low + 0.1, high - 0.12):
        _rail(b, length, (-0.015, 0.015), (z - 0.02, z + 0.02), color, Material.METAL, label)
    _posts(b, np.arange(0, length, 2.5), high + 0.1, 0.03, 5, color, Material.METAL, label=label)


def build_sheets(scene: Scene) -> tuple[Mesh | None, np.ndarray]:
    """Sheets that close the gaps in see-through fences, for annotations only, and `(K, 8, 3)` boxes around them."""
    parts = [_sheet(part.street, strip) for part in scene.parts for strip in part.strips if _is_open(strip)]
    return (concatenate(parts), boxes_around(parts)) if parts else (None, np.zeros((0, 8, 3), np.float32))


def _is_open(strip: Strip) -> bool:
    return strip.kind == "fence" or _bars_on_wall(strip)


def _sheet(street: Street, strip: Strip) -> Mesh:
    low, high = (0.05, strip.height) if strip.kind == "fence" else (strip.height, strip.height + _BARS_M)
    (s0, t0), (s1, t1) = strip.line
    steps = np.linspace(0, 1, max(2, int(np.hypot(s1 - s0, t1 - t0) / _PIECE_M)))
    line = np.stack([s0 + (s1 - s0) * steps, t0 + (t1 - t0) * steps], -1)
    b = Builder(Label.FENCE)
    rings = [np.concatenate([line, np.full((len(line), 1), street.kerb + h)], 1) for h in (low, high)]
    b.loft(np.stack(rings), smooth=False)
    return bent(street, b.mesh())


def boxes_around(parts: list[Mesh]) -> np.ndarray:
    """`(K, 8, 3)` corners of the axis-aligned boxes around `parts`."""
    low, high = np.stack([part.vertices.min(0) for part in parts]), np.stack([part.vertices.max(0) for part in parts])
    pick = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], bool)
    return np.where(pick, high[:, None], low[:, None])
