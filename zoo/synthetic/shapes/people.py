"""People on foot, on bicycles and on motorcycles, facing +x.

Palette slots: 0 top, 1 trousers, 2 skin, 3 hair, 4 shoes, 5 bag or helmet."""

from __future__ import annotations

import numpy as np

from zoo.synthetic.shapes.mesh import Builder, Mesh, Points
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["POSES", "cyclist", "motorcyclist", "person"]


POSES = 8


def _limb(
    b: Builder,
    points: Points,
    radii: Points,
    slot: int,
    sides: int = 7,
    material: int = Material.CLOTH,
    label: int | None = None,
) -> None:
    points = np.asarray(points, float)
    b.tubes(
        points[:-1],
        points[1:],
        np.asarray(radii[:-1]),
        np.asarray(radii[1:]),
        sides,
        (0.3, 0.3, 0.3),
        material,
        slot=slot,
        label=label,
    )
    for p, r in zip(points[1:-1], radii[1:-1]):
        b.ellipsoid(p, [r, r, r], (0.3, 0.3, 0.3), material, rings=3, sides=6, slot=slot, label=label)


def _head(b: Builder, centre: Points, size: float, rng: np.random.Generator, helmet: bool) -> None:
    c = np.asarray(centre)
    b.ellipsoid(c, [size * 0.95, size * 0.78, size * 1.2], (0.4, 0.3, 0.2), Material.SKIN, rings=6, sides=10, slot=2)
    if helmet:
        b.ellipsoid(
            c + [0, 0, size * 0.35],
            [size * 1.25, size * 1.1, size * 1.05],
            (0.3, 0.3, 0.3),
            Material.PAINT,
            rings=5,
            sides=10,
            slot=5,
        )
    else:
        hat, long, length = rng.random() < 0.12, rng.random() < 0.45, rng.uniform(0.7, 1.7)
        b.ellipsoid(
            c + [-size * 0.2, 0, size * 0.32],
            [size * 1.0, size * 0.93, size * 1.02],
            (0.05, 0.04, 0.03),
            Material.CLOTH,
            rings=5,
            sides=9,
            slot=5 if hat else 3,
        )
        if hat:  # a cap with a peak
            low, high = c + size * np.array([0.5, -0.6, 0.62]), c + size * np.array([1.7, 0.6, 0.75])
            b.box(low.tolist(), high.tolist(), (0.1, 0.1, 0.1), Material.CLOTH, slot=5)
        if long:
            b.ellipsoid(
                c + [-size * 0.6, 0, -size * (0.8 * length - 0.55)],
                [size * 0.5, size * 0.85, size * length],
                (0.05, 0.04, 0.03),
                Material.CLOTH,
                rings=4,
                sides=8,
                slot=3,
            )


def person(rng: np.random.Generator, variant: int, pose: int = 0) -> Mesh:
    """A person of 1.75 m; slots: top, trousers, skin, hair, shoes, bag.

    Every fourth variant stands in all poses. The others walk: the poses are equal parts of one stride, two steps, and
    in the first one the legs are together.
    """
    b = Builder(Label.PERSON)
    walking = variant % 4 != 3
    swing = rng.uniform(0.3, 0.5) * (np.sin(2 * np.pi * pose / POSES) if walking else 0.12) * rng.choice([-1, 1])
    build = rng.uniform(0.88, 1.18)
    hip, shoulder = 0.92, 1.44
    skirt = rng.random() < 0.2
    for side in (-1, 1):
        a = swing * side
        p0 = np.array([0, side * 0.09, hip])
        knee = p0 + 0.44 * np.array([np.sin(a) + 0.03, 0, -np.cos(a)])
        back = a - 0.5 * abs(swing) if a < 0 else a * 0.6
        foot = knee + 0.43 * np.array([np.sin(back - 0.05), 0, -np.cos(back)])
        _limb(b, [p0, knee, foot], [0.085 * build, 0.06 * build, 0.045], 2 if skirt and rng.random() < 0.4 else 1)
        b.ellipsoid(
            foot + [0.06, 0, -0.02], [0.14, 0.05, 0.05], (0.05, 0.05, 0.05), Material.CLOTH, rings=3, sides=7, slot=4
        )
        s0 = np.array([0, side * 0.2 * build, shoulder - 0.03])
        bend = rng.uniform(0.1, 0.9)
        elbow = s0 + 0.29 * np.array([np.sin(-a * 0.9), side * 0.12, -np.cos(a)])
        hand = elbow + 0.26 * np.array([np.sin(-a * 0.9 + bend), 0, -np.cos(bend)])
        _limb(b, [s0, elbow, hand], [0.055 * build, 0.045, 0.035], 0)
        b.ellipsoid(hand, [0.04, 0.03, 0.05], (0.4, 0.3, 0.2), Material.SKIN, rings=3, sides=6, slot=2)
    z = np.array([hip - 0.08 if not skirt else hip - 0.4, hip, hip + 0.2, shoulder - 0.12, shoulder, shoulder + 0.06])
    if rng.random() < 0.3:
        z[0] = hip - rng.uniform(0.1, 0.45)  # a coat
    depth = np.array([0.12, 0.12, 0.105, 0.13, 0.09, 0.04]) * build
    wide = np.array([0.17 if not skirt else 0.22, 0.165, 0.145, 0.2, 0.19, 0.05]) * build
    angle = np.arange(10) * np.pi / 5
    rings = np.stack(
        [np.stack([d * np.cos(angle), w * np.sin(angle), np.full(10, zz)], -1) for d, w, zz in zip(depth, wide, z)]
    )
    slots = np.repeat(np.array([[1 if skirt else 0], [0], [0], [0], [0]]), 10, 1)
    b.loft(rings, (0.3, 0.3, 0.3), Material.CLOTH, closed=True, slot=slots)
    b.tubes([[0.0, 0, shoulder]], [[0.02, 0, shoulder + 0.14]], 0.055, 0.05, 7, (0.4, 0.3, 0.2), Material.SKIN, slot=2)
    _head(b, [0.03, 0, 1.63], 0.1, rng, False)
    bag = variant % 5
    if bag == 1:
        b.ellipsoid([-0.2, 0, 1.25], [0.12, 0.16, 0.24], (0.1, 0.1, 0.2), Material.CLOTH, rings=4, sides=8, slot=5)
    elif bag == 2:
        b.box([-0.12, 0.24, 0.55], [0.14, 0.34, 0.85], (0.3, 0.2, 0.1), Material.CLOTH, slot=5)
    return b.mesh()


def _seated(
    rng: np.random.Generator, saddle: float, bar: tuple[float, float], foot: tuple[float, float], helmet: bool
) -> Mesh:
    b = Builder(Label.RIDER)
    lean = rng.uniform(0.15, 0.55)
    hip = np.array([-0.22, 0, saddle + 0.06])
    shoulder = hip + 0.52 * np.array([np.sin(lean), 0, np.cos(lean)])
    phase = rng.uniform(-0.12, 0.12)
    for side in (-1, 1):
        p0 = hip + [0, side * 0.09, 0]
        ankle = np.array([foot[0] + side * phase, side * 0.1, foot[1] + side * phase])
        middle = (p0 + ankle) / 2
        reach = np.linalg.norm(ankle - p0)
        knee = middle + [np.sqrt(max(0.44**2 - float(reach / 2) ** 2, 0.005)), side * 0.03, 0.08]
        _limb(b, [p0, knee, ankle], [0.085, 0.06, 0.045], 1)
        b.ellipsoid(
            ankle + [0.06, 0, -0.03], [0.13, 0.05, 0.05], (0.05, 0.05, 0.05), Material.CLOTH, rings=3, sides=7, slot=4
        )
        s0 = shoulder + [0, side * 0.19, -0.02]
        hand = np.array([bar[0], side * 0.24, bar[1] + 0.02])
        elbow = (s0 + hand) / 2 + [-0.03, side * 0.06, -0.08]
        _limb(b, [s0, elbow, hand], [0.055, 0.045, 0.035], 0)
        b.ellipsoid(hand, [0.04, 0.03, 0.04], (0.4, 0.3, 0.2), Material.SKIN, rings=3, sides=6, slot=2)
    angle = np.arange(10) * np.pi / 5
    rings = []
    for f, d, w in (
        (-0.1, 0.13, 0.17),
        (0.1, 0.13, 0.17),
        (0.5, 0.12, 0.16),
        (0.85, 0.14, 0.2),
        (1.0, 0.09, 0.18),
        (1.1, 0.04, 0.05),
    ):
        c = hip + f * (shoulder - hip)
        rings.append(
            np.stack(
                [c[0] + d * np.cos(angle) * np.cos(lean), w * np.sin(angle), c[2] - d * np.cos(angle) * np.sin(lean)],
                -1,
            )
        )
    b.loft(np.stack(rings), (0.3, 0.3, 0.3), Material.CLOTH, closed=True, slot=0)
    head = shoulder + [0.06, 0, 0.2]
    b.tubes([shoulder], [head], 0.055, 0.05, 7, (0.4, 0.3, 0.2), Material.SKIN, slot=2)
    _head(b, head, 0.1, rng, helmet)
    if rng.random() < 0.35:
        b.ellipsoid(
            shoulder * 0.6 + hip * 0.4 + [-0.18, 0, 0.02],
            [0.12, 0.16, 0.22],
            (0.1, 0.1, 0.2),
            Material.CLOTH,
            rings=4,
            sides=8,
            slot=5,
        )
    return b.mesh()


def cyclist(rng: np.random.Generator, variant: int) -> Mesh:
    """Who rides a bicycle, with a helmet in every second variant."""
    return _seated(rng, 0.93, (0.35, 1.02), (-0.02, 0.28), variant % 2 == 0)


def motorcyclist(rng: np.random.Generator, variant: int) -> Mesh:
    """Who rides a motorcycle."""
    return _seated(rng, 0.8, (0.4, 1.02), (0.05, 0.3), True)
