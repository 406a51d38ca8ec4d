"""Trees, bushes and grass: branches that divide, and sprays of small leaves, so that the sky shows through."""

from __future__ import annotations

import numpy as np

from zoo.synthetic.shapes.mesh import Builder, Mesh, place
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["bush", "conifer", "far_bush", "far_thicket", "far_tree", "grass", "grove", "thicket", "tree"]

_WOOD = (0.13, 0.105, 0.085)


def _branches(
    rng: np.random.Generator,
    base: np.ndarray,
    direction: np.ndarray,
    length: float,
    radius: float,
    level: int,
    spread: float,
    out: list[tuple[np.ndarray, np.ndarray, float, float, int]],
) -> None:
    """Appends (start, end, r0, r1) of a branch and its children."""
    pieces = 3 if level > 1 else 2
    p, d = np.asarray(base, float), np.asarray(direction, float)
    for i in range(pieces):
        d = d + rng.normal(0, 0.13, 3) + [0, 0, 0.06]
        d /= np.linalg.norm(d)
        q = p + d * length / pieces
        r0, r1 = radius * (1 - 0.25 * i), radius * (1 - 0.25 * (i + 1))
        out.append((p, q, r0, r1, level))
        if level > 0 and (i > 0 or level < 3):
            for _ in range(int(rng.integers(1, 4)) if level < 3 else int(rng.integers(2, 5))):
                side = rng.normal(0, 1, 3)
                side -= side.dot(d) * d
                side /= np.linalg.norm(side) + 1e-9
                child = d * np.cos(spread) + side * np.sin(spread) * rng.uniform(0.7, 1.3)
                _branches(
                    rng,
                    p + (q - p) * rng.uniform(0.3, 1),
                    child,
                    length * rng.uniform(0.45, 0.75),
                    r1 * 0.6,
                    level - 1,
                    spread,
                    out,
                )
        p = q


def _leaves(
    rng: np.random.Generator, centres: np.ndarray, size: float, count: int, larger: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Leaf sprays: `count` random triangles around each centre; returns vertices and faces."""
    n = len(centres) * count
    middle = np.repeat(centres, count, 0) + rng.normal(0, 1, (n, 3)) * size * [1.0, 1.0, 0.75]
    a, c = rng.normal(0, 1, (n, 3)), rng.normal(0, 1, (n, 3))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    c -= (a * c).sum(1, keepdims=True) * a
    c /= np.linalg.norm(c, axis=1, keepdims=True) + 1e-9
    leaf = larger * size * rng.uniform(0.2, 0.5, (n, 1))
    vertices = np.stack(
        [middle + a * leaf, middle - a * leaf * 0.6 + c * leaf * 0.7, middle - a * leaf * 0.6 - c * leaf * 0.7], 1
    )
    return vertices.reshape(-1, 3), np.arange(3 * n).reshape(-1, 3)


def _add_leaves(
    b: Builder, rng: np.random.Generator, centres: np.ndarray, size: float, count: int, larger: float = 1.0
) -> None:
    vertices, faces = _leaves(rng, np.asarray(centres), size, count, larger)
    shade = rng.uniform(0.55, 1.35, (len(faces), 1)) * (1 + rng.normal(0, 0.12, (len(faces), 3)))
    b.add(vertices, faces, np.clip(shade * 0.25, 0.01, 1), Material.FOLIAGE, slot=-1)


_DENSE = 1.3
"""Leaves are larger than real ones by this factor, so that crowns close as real ones do with a tenth of the leaves."""


def tree(rng: np.random.Generator, variant: int, leaves: int = 26) -> Mesh:
    """A broad-leaved tree 8 m high with leaves, or bare in every third variant."""
    b = Builder(Label.VEGETATION)
    bare = variant % 3 == 0
    out: list = []
    trunk = rng.uniform(1.6, 2.8)
    spread = rng.uniform(0.45, 0.8)
    lean = rng.normal(0, 0.05, 2)
    start = np.array([lean[0] * trunk, lean[1] * trunk, trunk])
    b.tubes([[0, 0, -0.3]], [start], rng.uniform(0.09, 0.15), 0.09, 8, (0.14, 0.11, 0.085), Material.BARK)
    stems = int(rng.integers(1, 4))
    for _ in range(stems):
        tilt = rng.uniform(0.05, 0.5) if stems > 1 else 0.05
        turn = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
        _branches(rng, start, direction, rng.uniform(3.2, 4.6), 0.09, 3, spread, out)
    p0, p1 = np.array([o[0] for o in out]), np.array([o[1] for o in out])
    r0, r1 = np.array([o[2] for o in out]), np.array([o[3] for o in out])
    level = np.array([o[4] for o in out])
    keep = level > 0 if not bare else level >= 0
    most = (90 if bare else 25) * leaves  # of the thinnest pieces, which leaves hide
    thin = np.nonzero(keep & (level < 2))[0]
    keep[thin[rng.permutation(len(thin))[most:]]] = False
    for sides, chosen in ((6, keep & (level >= 2)), (3, keep & (level < 2))):
        if chosen.any():
            b.tubes(
                p0[chosen],
                p1[chosen],
                np.maximum(r0, 0.012)[chosen],
                np.maximum(r1, 0.008)[chosen],
                sides,
                (0.12, 0.1, 0.08),
                Material.BRANCH,
            )
    if bare:
        tips = p1[(level == 0) & keep]
        twig = np.repeat(tips, 3 if leaves > 10 else 1, 0)
        b.tubes(
            twig,
            twig + rng.normal(0, 0.28, twig.shape) + [0, 0, 0.12],
            0.009,
            0.005,
            3,
            _WOOD,
            Material.BRANCH,
        )
    else:
        tips = p1[level <= 1]
        if len(tips) > 260:
            tips = tips[rng.permutation(len(tips))[:260]]
        _add_leaves(b, rng, tips, rng.uniform(0.32, 0.45), leaves, _DENSE * (26 / leaves) ** 0.5)
    mesh = b.mesh()
    return place(mesh, (0, 0, 0), scale=8.0 / max(mesh.vertices[:, 2].max(), 1))


def far_tree(rng: np.random.Generator, variant: int) -> Mesh:
    """A tree for distances at which a leaf is smaller than a pixel: a quarter of the leaves, twice as large."""
    return tree(rng, variant, 7)


def conifer(rng: np.random.Generator, variant: int) -> Mesh:
    """A conifer 9 m high, slender in every third variant."""
    b = Builder(Label.VEGETATION)
    height = 9.0
    b.tubes([[0, 0, -0.3]], [[0, 0, height * 0.95]], 0.15, 0.03, 7, (0.1, 0.07, 0.05), Material.BARK)
    z = np.sort(rng.uniform(0.8, height, 190))
    wide = rng.uniform(0.2, 0.33)
    column = variant % 3 == 0
    r = (height - z) * wide if not column else np.minimum(0.9, (height - z) * 0.5 + 0.1)
    f = np.sqrt(rng.uniform(0.2, 1, 190))
    a = rng.uniform(0, 2 * np.pi, 190)
    centres = np.stack([r * f * np.cos(a), r * f * np.sin(a), z - 0.25 * r * f], -1)
    _add_leaves(b, rng, centres, 0.3, 13, 1.4)
    return b.mesh()


def bush(rng: np.random.Generator, variant: int, leaves: int = 16) -> Mesh:
    """A bush about 1.2 m high, of 30 to 60 sprays with this many leaves each."""
    b = Builder(Label.VEGETATION)
    count = int(rng.integers(30, 60))
    p = rng.normal(0, 1, (count, 3))
    p = p / np.linalg.norm(p, axis=1, keepdims=True) * rng.uniform(0.4, 1, (count, 1)) ** 0.5
    centres = p * [0.8, 0.8, 0.6] + [0, 0, 0.6]
    _add_leaves(b, rng, centres, 0.2, leaves, 1.4 * (16 / leaves) ** 0.5)
    return b.mesh()


def far_bush(rng: np.random.Generator, variant: int) -> Mesh:
    """A bush for the distance: a third of the leaves, with as much area."""
    return bush(rng, variant, 5)


def grass(rng: np.random.Generator, variant: int) -> Mesh:
    """A patch of tall blades, 1 m across."""
    b = Builder(Label.TERRAIN)
    n = 60
    root = np.concatenate([rng.uniform(-0.5, 0.5, (n, 2)), np.zeros((n, 1))], 1)
    tip = root + np.concatenate([rng.normal(0, 0.1, (n, 2)), rng.uniform(0.08, 0.3, (n, 1))], 1)
    side = rng.normal(0, 0.015, (n, 3)) * [1, 1, 0]
    vertices = np.stack([root - side, root + side, tip], 1).reshape(-1, 3)
    b.add(
        vertices, np.arange(3 * n).reshape(-1, 3), rng.uniform(0.6, 1.2, (n, 1)) * [0.16, 0.2, 0.07], Material.FOLIAGE
    )
    return b.mesh()


def grove(rng: np.random.Generator, variant: int) -> Mesh:
    """A dozen trees with undergrowth on 11 m by 11 m, up to 9 m high, for the distance: few and large leaves in heaps.

    Gaps between the heaps and the leaves let rays through to the trees behind. Every third variant is bare but for the
    undergrowth.
    """
    b = Builder(Label.VEGETATION)
    count = int(rng.integers(8, 14))
    foot = np.concatenate([rng.uniform(-4.6, 4.6, (count, 2)), np.zeros((count, 1))], 1)
    height = rng.uniform(4.5, 9, count)
    top = foot + np.stack([rng.normal(0, 0.3, count), rng.normal(0, 0.3, count), 0.8 * height], 1)
    fork, thick = foot + (top - foot) * 0.35, rng.uniform(0.09, 0.17, count)
    b.tubes(foot - [0, 0, 0.4], fork, thick, 0.7 * thick, 5, _WOOD, Material.BARK)
    b.tubes(fork, top, 0.7 * thick, 0.04, 4, _WOOD, Material.BRANCH)
    heaps, per_heap = 9, 13
    around = rng.normal(0, 1, (count, heaps, 3))
    around *= rng.uniform(0.4, 1, (count, heaps, 1)) / np.linalg.norm(around, axis=2, keepdims=True)
    tall = height[:, None, None]
    crown = (foot[:, None] + tall * (around * [0.27, 0.27, 0.34] + [0, 0, 0.64])).reshape(-1, 3)
    if variant % 3 == 0:
        fork = np.repeat(foot + (top - foot) * rng.uniform(0.4, 0.9, (count, 1)), heaps, 0)
        b.tubes(fork, crown, 0.05, 0.02, 3, _WOOD, Material.BRANCH)
        twig = np.repeat(crown, 5, 0)
        b.tubes(twig, twig + rng.normal(0, 0.7, twig.shape), 0.02, 0.012, 3, _WOOD, Material.BRANCH)
    else:
        _add_leaves(b, rng, crown, 0.62, per_heap, 1.25)
    low = np.concatenate([rng.uniform(-5.2, 5.2, (70, 2)), rng.uniform(0.2, 1.5, (70, 1))], 1)
    _add_leaves(b, rng, low, 0.5, 9, 1.5)
    return b.mesh()


def thicket(rng: np.random.Generator, variant: int, leaves: int = 8) -> Mesh:
    """Shrubs grown into each other along x: 5 to 9 m long, 2 to 3 m deep, up to 4 m high, with leaves to the ground."""
    b = Builder(Label.VEGETATION)
    length, deep = rng.uniform(5, 9), rng.uniform(1.0, 1.6)
    count = int(length / 0.9)
    middle = np.stack([np.linspace(-0.5, 0.5, count) * (length - 1.6), rng.normal(0, 0.25, count)], 1)
    high = rng.uniform(1.6, 4.2) * rng.uniform(0.6, 1.0, count)
    heaps = 26
    around = rng.normal(0, 1, (count, heaps, 3))
    around /= np.linalg.norm(around, axis=2, keepdims=True)
    around *= rng.uniform(0.55, 1, (count, heaps, 1))
    half = np.stack([np.full(count, 0.95), np.full(count, deep), 0.5 * high], 1)[:, None]
    centres = around * half + np.concatenate([middle, 0.52 * high[:, None]], 1)[:, None]
    centres[..., 2] = np.maximum(centres[..., 2], 0.12)
    _add_leaves(b, rng, centres.reshape(-1, 3), 0.34, leaves, 1.6 * (8 / leaves) ** 0.5)
    return b.mesh()


def far_thicket(rng: np.random.Generator, variant: int) -> Mesh:
    """The same for the distance: a third of the leaves, with as much area."""
    return thicket(rng, variant, 3)
