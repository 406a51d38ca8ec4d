"""What stands along a street: lamps, signals, signs, masts, bollards, bins, benches; signals and signs face -x."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.synthetic.shapes.mesh import Builder, Mesh, Rgb
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["bench", "bin_", "board", "bollard", "lamp", "mast", "shelter", "sign", "traffic_light"]

_DARK = (0.02, 0.02, 0.022)


def lamp(rng: np.random.Generator, variant: int) -> Mesh:
    """A street lamp; the arm points to +x."""
    b = Builder(Label.POLE)
    style = variant % 4
    height = rng.uniform(6.5, 10) if style != 3 else rng.uniform(3.2, 4.5)
    color = [(0.35, 0.36, 0.36), (0.06, 0.07, 0.07), (0.12, 0.16, 0.13), (0.05, 0.05, 0.05)][int(rng.integers(4))]
    b.tubes(
        [[0, 0, 0], [0, 0, 1.2]], [[0, 0, 1.2], [0, 0, height]], [0.08, 0.062], [0.08, 0.045], 8, color, Material.METAL
    )
    if style == 3:
        b.ellipsoid([0, 0, height + 0.15], [0.2, 0.2, 0.25], (0.8, 0.8, 0.75), Material.LAMP, rings=5, sides=8)
        b.tubes([[0, 0, height + 0.35]], [[0, 0, height + 0.5]], 0.25, 0.05, 8, color, Material.METAL)
    else:
        reach = rng.uniform(0.8, 2.2)
        rise = rng.uniform(0.0, 0.8)
        mid = [reach * 0.4, 0, height + rise * 0.8]
        tip = [reach, 0, height + rise]
        b.tubes([[0, 0, height - 0.05], mid], [mid, tip], 0.045, 0.04, 6, color, Material.METAL)
        b.box(
            [reach - 0.1, -0.14, height + rise - 0.06], [reach + 0.6, 0.14, height + rise + 0.08], color, Material.METAL
        )
        b.box(
            [reach, -0.11, height + rise - 0.09],
            [reach + 0.5, 0.11, height + rise - 0.06],
            (0.8, 0.8, 0.75),
            Material.LAMP,
        )
    return b.mesh()


def _signal_head(b: Builder, x: float, y: float, z: float, facing: int = -1, pedestrian: bool = False) -> None:
    """A housing with its lenses. Whether one is lit is decided later, by its u: its number in `scene.signals.Lens`."""
    lenses = 2 if pedestrian else 3
    h, w, d = 0.3 * lenses, 0.16, 0.14
    b.box([x - d, y - w, z], [x + d, y + w, z + h], (0.025, 0.03, 0.025), Material.PLAIN, label=Label.TRAFFIC_LIGHT)
    colors = (
        [(0.02, 0.8, 0.25), (0.9, 0.5, 0.02), (0.9, 0.03, 0.02)]
        if lenses == 3
        else [(0.02, 0.8, 0.25), (0.9, 0.03, 0.02)]
    )
    for i in range(lenses):
        zc = z + 0.15 + 0.3 * i
        number = i + 3 if pedestrian else i
        xf = x + facing * (d + 0.012)
        a = np.arange(12) * np.pi / 6
        disc = np.stack([np.full(12, xf), y + 0.105 * np.cos(a), zc + 0.105 * np.sin(a)], -1)
        k = np.arange(1, 11)
        b.add(
            disc,
            np.stack([0 * k, k, k + 1], 1),
            colors[i],
            Material.SIGNAL,
            uv=np.broadcast_to([number, 0], (12, 2)),
            label=Label.TRAFFIC_LIGHT,
        )
        b.box(
            [min(xf, xf + facing * 0.16), y - 0.13, zc + 0.11],
            [max(xf, xf + facing * 0.16), y + 0.13, zc + 0.13],
            (0.02, 0.02, 0.02),
            label=Label.TRAFFIC_LIGHT,
        )


def traffic_light(rng: np.random.Generator, variant: int) -> Mesh:
    """A signal facing -x (towards traffic that drives along +x); variants with an arm reach over +y."""
    b = Builder(Label.POLE)
    height = rng.uniform(2.9, 3.6)
    color = [(0.3, 0.31, 0.31), (0.05, 0.05, 0.05), (0.35, 0.33, 0.1)][int(rng.integers(3))]
    rng.integers(3)  # once the lens that was lit: dropping it would change the shapes that follow
    arm = variant % 4 == 1
    if arm:
        height = rng.uniform(5.4, 6.3)
    b.tubes([[0, 0, 0]], [[0, 0, height]], 0.065 if not arm else 0.1, 0.06, 8, color, Material.METAL)
    if arm:
        reach = rng.uniform(2.5, 5)
        b.tubes([[0, 0, height - 0.2]], [[0, reach, height]], 0.07, 0.05, 6, color, Material.METAL)
        _signal_head(b, -0.1, reach - 0.2, height - 1.0)
        _signal_head(b, -0.15, 0.0, 2.5)
    else:
        _signal_head(b, -0.05, 0, height - 0.75)
    if variant % 3 == 0:
        _signal_head(b, 0.0, 0.22, 2.0, 1, True)
    if variant % 3 == 1:
        _signal_head(b, 0.05, -0.05, 2.3, 1)
    if variant % 2:
        b.box([-0.12, -0.3, height - 0.9], [-0.1, 0.3, height + 0.35], (0.02, 0.02, 0.02), label=Label.TRAFFIC_LIGHT)
    b.box([-0.1, -0.07, 0.95], [-0.05, 0.07, 1.2], (0.5, 0.4, 0.03))
    return b.mesh()


def _plate(
    b: Builder, shape: str, x: float, z: float, size: float, face: Rgb, rim: Rgb, symbol: Sequence[Sequence[float]]
) -> None:
    """A sign plate at height `z` facing -x, with a rim and a simple symbol; its back is grey metal."""
    count = {"circle": 20, "triangle": 3, "yield": 3, "octagon": 8, "diamond": 4, "square": 4, "wide": 4, "tall": 4}[
        shape
    ]
    turn = {"circle": 0, "triangle": np.pi / 2, "yield": -np.pi / 2, "octagon": np.pi / 8, "diamond": 0}.get(
        shape, np.pi / 4
    )
    a = np.arange(count) * 2 * np.pi / count + turn
    stretch = {"wide": (1.9, 0.8), "tall": (0.9, 1.3)}.get(shape, (1.0, 1.0))

    def fan(scale: float, dx: float, color: Rgb, material: int = Material.SIGN) -> None:
        disc = np.stack(
            [np.full(count, x + dx), size * scale * stretch[0] * np.cos(a), z + size * scale * stretch[1] * np.sin(a)],
            -1,
        )
        k = np.arange(1, count - 1)
        b.add(disc, np.stack([0 * k, k, k + 1], 1), color, material, label=Label.TRAFFIC_SIGN, uv=disc[:, 1:] - [0, z])

    fan(1.0, 0.012, (0.35, 0.36, 0.37), Material.METAL)
    fan(1.0, 0.0, rim)
    fan(0.86 if shape not in ("triangle", "yield") else 0.72, -0.006, face)
    low = -0.25 if shape != "yield" else 0.0
    for y0, z0, y1, z1 in symbol:
        b.quads(
            np.array(
                [
                    [
                        [x - 0.012, y0 * size, z + (z0 + low) * size],
                        [x - 0.012, y1 * size, z + (z0 + low) * size],
                        [x - 0.012, y1 * size, z + (z1 + low) * size],
                        [x - 0.012, y0 * size, z + (z1 + low) * size],
                    ]
                ]
            ),
            (0.02, 0.02, 0.02) if sum(face) > 1 else (0.85, 0.85, 0.85),
            Material.SIGN,
            label=Label.TRAFFIC_SIGN,
        )


def sign(rng: np.random.Generator, variant: int) -> Mesh:
    """One or two traffic signs on a pole, fourteen kinds of plates."""
    b = Builder(Label.POLE)
    height = rng.uniform(2.1, 3.0)
    pole = rng.choice([0.3, 0.45, 0.2])
    b.tubes([[0.05, 0, 0]], [[0.05, 0, height + 0.25]], 0.035, 0.035, 7, (pole, pole, pole), Material.METAL)
    white, red, blue, yellow = (0.8, 0.8, 0.8), (0.55, 0.02, 0.03), (0.02, 0.1, 0.45), (0.8, 0.55, 0.02)
    green = (0.02, 0.25, 0.1)
    kinds = [
        ("circle", white, red),
        ("triangle", white, red),
        ("circle", blue, white),
        ("square", blue, white),
        ("yield", white, red),
        ("octagon", red, white),
        ("diamond", yellow, white),
        ("tall", white, (0.1, 0.1, 0.1)),
        ("wide", green, white),
        ("circle", red, red),
        ("wide", white, (0.05, 0.05, 0.05)),
        ("square", yellow, (0.02, 0.02, 0.02)),
        ("tall", blue, white),
        ("circle", yellow, red),
    ]
    for i in range(2 if variant % 4 == 0 else 1):
        shape, face, rim = kinds[(variant + 5 * i) % len(kinds)]
        size = rng.uniform(0.28, 0.42) * (1.15 if shape in ("triangle", "yield") else 1)
        symbol = []
        for _ in range(int(rng.integers(1, 4))):
            y, z = rng.uniform(-0.35, 0.2), rng.uniform(-0.2, 0.3)
            symbol.append((y, z, y + rng.uniform(0.1, 0.4), z + rng.uniform(0.1, 0.4)))
        _plate(b, shape, 0.0, height - i * 0.8, size, face, rim, symbol)
    return b.mesh()


def board(rng: np.random.Generator, variant: int) -> Mesh:
    """A large direction board on two posts."""
    b = Builder(Label.POLE)
    w, h, z = rng.uniform(1.2, 2.6), rng.uniform(0.8, 1.6), rng.uniform(1.2, 2.4)
    color = [(0.02, 0.12, 0.4), (0.02, 0.25, 0.1), (0.75, 0.75, 0.72), (0.65, 0.5, 0.05)][variant % 4]
    for y in (-w * 0.35, w * 0.35):
        b.tubes([[0.08, y, 0]], [[0.08, y, z + h]], 0.05, 0.05, 7, (0.4, 0.4, 0.4), Material.METAL)
    b.box([0.02, -w / 2, z], [0.03, w / 2, z + h], (0.35, 0.36, 0.37), Material.METAL, label=Label.TRAFFIC_SIGN)
    b.quads(
        np.array([[[0.0, -w / 2, z], [0.0, w / 2, z], [0.0, w / 2, z + h], [0.0, -w / 2, z + h]]]),
        color,
        Material.FASCIA,
        label=Label.TRAFFIC_SIGN,
    )
    return b.mesh()


def bollard(rng: np.random.Generator, variant: int) -> Mesh:
    """A bollard with a cap."""
    b = Builder(Label.POLE)
    color = [(0.04, 0.04, 0.04), (0.4, 0.4, 0.4), (0.5, 0.05, 0.03), (0.3, 0.25, 0.2)][variant % 4]
    r, h = rng.uniform(0.045, 0.09), rng.uniform(0.75, 1.1)
    b.tubes(
        [[0, 0, 0], [0, 0, h * 0.75]],
        [[0, 0, h * 0.75], [0, 0, h * 0.85]],
        r,
        r,
        8,
        color,
        Material.METAL,
    )
    b.ellipsoid(
        [0, 0, h * 0.9],
        [r * 1.15, r * 1.15, h * 0.1],
        color if variant % 2 else (0.7, 0.7, 0.7),
        Material.METAL,
        rings=4,
        sides=8,
    )
    return b.mesh()


def mast(rng: np.random.Generator, variant: int) -> Mesh:
    """A wooden or concrete mast for wires."""
    b = Builder(Label.POLE)
    h = rng.uniform(7, 9.5)
    wood = variant % 2
    b.tubes(
        [[0, 0, 0]],
        [[0, 0, h]],
        0.12,
        0.09,
        8,
        (0.16, 0.12, 0.08) if wood else (0.4, 0.4, 0.38),
        Material.BARK if wood else Material.CONCRETE,
    )
    b.box([-0.06, -0.9, h - 0.6], [0.06, 0.9, h - 0.48], (0.16, 0.12, 0.08))
    return b.mesh()


def bin_(rng: np.random.Generator, variant: int) -> Mesh:
    """A dustbin; it has no class."""
    b = Builder(Label.NONE)
    color = [(0.02, 0.12, 0.05), (0.05, 0.05, 0.06), (0.03, 0.06, 0.2), (0.35, 0.35, 0.3), (0.4, 0.05, 0.03)][
        variant % 5
    ]
    w, h = rng.uniform(0.5, 0.8), rng.uniform(0.9, 1.3)
    b.box([-w / 2, -w / 2, 0.08], [w / 2, w / 2, h], color, Material.PLAIN)
    b.box([-w / 2 - 0.04, -w / 2 - 0.04, h], [w / 2 + 0.04, w / 2 + 0.04, h + 0.08], color, Material.PLAIN)
    return b.mesh()


def bench(rng: np.random.Generator, variant: int) -> Mesh:
    """A bench facing +x; it has no class."""
    b = Builder(Label.NONE)
    for k in range(4):
        b.box([-0.1 + 0.11 * k, -0.8, 0.43], [-0.02 + 0.11 * k, 0.8, 0.47], (0.2, 0.12, 0.06), Material.WOOD)
    for k in range(3):
        b.box([-0.18, -0.8, 0.55 + 0.13 * k], [-0.15, 0.8, 0.64 + 0.13 * k], (0.2, 0.12, 0.06), Material.WOOD)
    for y in (-0.6, 0.6):
        b.box([-0.18, y - 0.03, 0], [0.3, y + 0.03, 0.43], _DARK)
    return b.mesh()


def shelter(rng: np.random.Generator, variant: int) -> Mesh:
    """A bus shelter, open towards +x."""
    b = Builder(Label.NONE)
    for y in (-1.8, 0, 1.8):
        b.box([-0.7, y - 0.04, 0], [-0.62, y + 0.04, 2.4], (0.1, 0.1, 0.1), Material.METAL)
    b.box([-0.8, -1.95, 2.4], [0.8, 1.95, 2.5], (0.15, 0.15, 0.15), Material.METAL)
    b.box([-0.68, -1.8, 0.3], [-0.66, 1.8, 2.2], (0.2, 0.24, 0.25), Material.GLASS)
    b.box([-0.6, 1.8, 0.3], [0.5, 1.88, 2.1], (0.5, 0.4, 0.3), Material.FASCIA)
    b.box([-0.6, -1.4, 0.45], [-0.25, 1.2, 0.5], (0.3, 0.3, 0.3))
    return b.mesh()
