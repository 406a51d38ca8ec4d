"""Bicycles and motorcycles without their riders, facing +x."""

from __future__ import annotations

import numpy as np

from zoo.synthetic.shapes.mesh import Builder, Mesh, Points, Rgb
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["bicycle", "motorcycle"]

_DARK = (0.02, 0.02, 0.022)
_CHROME = (0.55, 0.55, 0.57)


def _ring(
    b: Builder,
    centre: Points,
    radius: float,
    tube: float,
    color: Rgb,
    sides: int = 20,
    label: int | None = None,
) -> None:
    angle = np.arange(sides + 1) * 2 * np.pi / sides
    p = np.asarray(centre) + radius * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1)
    b.tubes(p[:-1], p[1:], tube, tube, 4, color, Material.RUBBER, label=label)


def bicycle(rng: np.random.Generator, variant: int) -> Mesh:
    """A bicycle; slot 0 paints its frame."""
    b = Builder(Label.BICYCLE)
    r, base = rng.uniform(0.31, 0.35), rng.uniform(1.0, 1.1)
    rear, front = np.array([-base / 2, 0, r]), np.array([base / 2, 0, r])
    for c in (rear, front):
        _ring(b, c, r, 0.02, _DARK)
        angle = np.arange(12) * np.pi / 6
        spokes = c + 0.97 * r * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1)
        b.tubes(np.repeat(c[None], 12, 0), spokes, 0.003, 0.003, 3, (0.5, 0.5, 0.5), Material.METAL)
    crank, saddle = np.array([-0.05, 0, r - 0.03]), np.array([-0.22, 0, 0.92])
    neck = np.array([0.38, 0, 0.75])
    starts = [crank, crank, saddle, rear, rear, neck]
    ends = [saddle * [1, 1, 0.92], neck, neck * [1, 1, 1.04], crank, saddle * [1, 1, 0.85], front]
    if variant % 3 == 2:
        ends[2] = np.array([0.3, 0, 0.5])  # step-through frame
    b.tubes(starts, ends, 0.02, 0.018, 5, (0.3, 0.1, 0.1), Material.PAINT, slot=0)
    bar = rng.uniform(0.95, 1.08)
    b.tubes(
        [neck, [0.34, -0.28, bar], [0.4, 0, bar]],
        [[0.4, 0, bar], [0.34, 0, bar], [0.34, 0.28, bar]],
        0.015,
        0.015,
        4,
        _DARK,
    )
    b.box([-0.36, -0.07, 0.93], [-0.08, 0.07, 0.99], _DARK)
    b.tubes(
        [[-0.05, -0.1, r - 0.03]],
        [[-0.05, 0.1, r - 0.03]],
        0.09,
        0.09,
        8,
        (0.15, 0.15, 0.15),
        Material.METAL,
        caps=True,
    )
    if variant % 2:
        b.box([-0.75, -0.09, 0.73], [-0.3, 0.09, 0.76], (0.1, 0.1, 0.1))
        b.box([0.45, -0.16, 0.78], [0.7, 0.16, 1.0], (0.15, 0.1, 0.05), Material.WOOD) if variant % 4 == 1 else None
    b.box([-0.62, -0.03, 0.6], [-0.58, 0.03, 0.68], (0.5, 0.02, 0.02), Material.TAILLIGHT)
    return b.mesh()


def motorcycle(rng: np.random.Generator, variant: int) -> Mesh:
    """A motorcycle, or a scooter in every second variant; slots 0 and 1."""
    b = Builder(Label.MOTORCYCLE)
    scooter = variant % 2 == 0
    r = (0.24 if scooter else 0.31) * rng.uniform(0.93, 1.07)
    base = (1.25 if scooter else 1.42) * rng.uniform(0.93, 1.07)
    for x in (-base / 2, base / 2):
        b.tubes([[x, -0.07, r]], [[x, 0.07, r]], r, r, 16, _DARK, Material.RUBBER, caps=True)
        b.tubes([[x, -0.075, r]], [[x, 0.075, r]], r * 0.6, r * 0.6, 10, (0.3, 0.3, 0.3), Material.METAL, caps=True)
    b.ellipsoid(
        [-0.35, 0, 0.6],
        [rng.uniform(0.42, 0.55), rng.uniform(0.16, 0.23), rng.uniform(0.15, 0.23)],
        (0.5, 0.1, 0.1),
        Material.PAINT,
        slot=0,
    )
    b.ellipsoid([0.1, 0, 0.75 if not scooter else 0.4], [0.38, 0.19, 0.17], (0.5, 0.1, 0.1), Material.PAINT, slot=0)
    b.ellipsoid([-0.05, 0, 0.42], [0.32, 0.2, 0.22], (0.08, 0.08, 0.08), Material.METAL)
    b.box([-0.7, -0.14, 0.76], [0.0, 0.14, 0.84], _DARK, Material.RUBBER)
    if scooter or variant % 3 == 0:
        b.ellipsoid([base / 2 - 0.22, 0, 0.75], [0.14, 0.25, 0.35], (0.5, 0.1, 0.1), Material.PAINT, slot=0)
    b.tubes(
        [[base / 2, 0, r], [0.42, -0.34, 1.02]],
        [[0.42, 0, 1.0], [0.42, 0.34, 1.02]],
        0.035,
        0.03,
        5,
        _CHROME,
        Material.METAL,
    )
    b.tubes([[-0.1, -0.22, 0.3]], [[-0.85, -0.22, 0.38]], 0.05, 0.06, 6, _CHROME, Material.METAL)
    b.box([0.5, -0.1, 0.82], [0.62, 0.1, 0.98], (0.75, 0.75, 0.78), Material.HEADLIGHT)
    b.box([-0.9, -0.07, 0.66], [-0.84, 0.07, 0.74], (0.45, 0.02, 0.02), Material.TAILLIGHT)
    if variant % 3 == 1:
        b.box([-1.0, -0.22, 0.85], [-0.6, 0.22, 1.2], (0.3, 0.1, 0.1), Material.PAINT, slot=1)
    b.box([0.48, -0.2, 1.0], [0.5, 0.2, 1.25], (0.2, 0.2, 0.22), Material.GLASS)
    return b.mesh()
