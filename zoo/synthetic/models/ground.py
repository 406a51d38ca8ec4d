"""The ground: the road, raised blocks with kerbs and rounded corners, and a plain with hills up to the horizon.

Triangles carry no pattern: uv are street coordinates, and the shader draws paint and paving from those.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo.synthetic.scene.types import Block, Scene, Street
from zoo.synthetic.shapes.mesh import Builder, Mesh, concatenate
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["bent", "ground"]

_SIDE_REACH = 75.0  # metres to each side; streets bend with radii above 125 m, so the inner side does not fold over


def bent(street: Street, mesh: Mesh) -> Mesh:
    """A mesh given in street coordinates (s, t, h), in the world; flat shading."""
    v = mesh.vertices
    world = street.to_world(v[:, 0], v[:, 1], v[:, 2]).astype(np.float32)
    return replace(mesh, vertices=world, normals=np.zeros_like(world))


def _grid(b: Builder, s: np.ndarray, t: np.ndarray, h: float | np.ndarray, material: int, label: int | None) -> None:
    """A sheet over the grid of `s` (K,) and `t` (K, R): uv = (s, t)."""
    k, r = t.shape
    points = np.stack([np.broadcast_to(s[:, None], (k, r)), t, np.broadcast_to(h, (k, r))], -1)
    i, j = np.meshgrid(np.arange(k - 1), np.arange(r - 1), indexing="ij")
    a = i * r + j
    faces = np.stack([np.stack([a, a + r, a + 1], -1), np.stack([a + 1, a + r, a + r + 1], -1)], 2).reshape(-1, 3)
    b.add(points.reshape(-1, 3), faces, (0.2, 0.2, 0.2), material, uv=points.reshape(-1, 3)[:, :2], label=label)


def ground(scene: Scene) -> Mesh:
    """Road, blocks, and what closes the view at the horizon."""
    street = scene.street
    b = Builder(Label.ROAD)
    s = np.concatenate([[street.start - 60], np.arange(street.start, street.end + 1, 4.0), [street.end + 120]])
    t = np.array(
        [
            -_SIDE_REACH,
            -street.half_width - 1,
            -street.half_width / 2,
            0,
            street.half_width / 2,
            street.half_width + 1,
            _SIDE_REACH,
        ]
    )
    _grid(b, s, np.broadcast_to(t, (len(s), len(t))), 0.0, Material.ASPHALT, Label.ROAD)
    for block in scene.blocks:
        _block(b, street, block)
    # A plain of grass out to the horizon, 6 m lower: on a slope the street would otherwise sink into it.
    far = 900.0
    n = np.arange(24) * 2 * np.pi / 24
    disc = np.concatenate([[[100, 0, -6.0]], np.stack([100 + far * np.cos(n), far * np.sin(n), np.full(24, -6.0)], -1)])
    k = np.arange(1, 25)
    mesh = bent(street, b.mesh())
    plain = Builder(Label.TERRAIN)
    plain.add(disc, np.stack([0 * k, k, k % 24 + 1], 1), (0.1, 0.12, 0.05), Material.HILL)
    for azimuth, width, height in scene.hills:
        a = azimuth + np.linspace(-width, width, 12)
        z = (
            height
            * np.cos(np.linspace(-np.pi / 2, np.pi / 2, 12))
            * (1 + 0.25 * np.sin(np.arange(12) * 1.7 + azimuth * 9))
        )
        radius = 420 + 5 * height
        low = np.stack([100 + radius * np.cos(a), radius * np.sin(a), np.full(12, -8.0)], -1)
        plain.loft(
            np.stack([low, low + np.stack([0 * a, 0 * a, z + 8], -1)]),
            (0.06, 0.08, 0.04),
            Material.HILL,
            smooth=False,
            label=Label.VEGETATION,
        )
    return concatenate([mesh, plain.mesh()])


def _block(b: Builder, street: Street, block: Block) -> None:
    """A raised slab with rounded corners and its kerb."""
    r = block.corner
    length = block.end - block.start
    fine = np.linspace(0, min(r, length / 2), 6)
    s = np.concatenate(
        [block.start + fine, np.arange(block.start + r + 3, block.end - r - 1, 4.0), block.end - fine[::-1]]
    )
    inset = np.zeros_like(s)
    for closed, distance in ((not block.open_start, s - block.start), (not block.open_end, block.end - s)):
        if closed:
            d = np.clip(distance, 0, r)
            inset = np.maximum(inset, r - np.sqrt(np.maximum(r * r - (r - d) ** 2, 0)))
    edge = street.half_width + inset
    h = street.kerb
    rows = np.stack([edge + 0.14, edge + 3, edge + 9, np.full_like(edge, _SIDE_REACH)], 1)
    rows = np.maximum.accumulate(rows, axis=1) * block.side
    _grid(b, s, rows, h, Material.GROUND, Label.SIDEWALK)
    kerb = np.stack([edge, edge + 0.14], 1) * block.side
    _grid(b, s, kerb, h, Material.KERB, Label.SIDEWALK)
    points = np.stack([s, edge * block.side], 1)
    if not block.open_start:
        points = np.concatenate([[[block.start, block.side * _SIDE_REACH]], points])
    if not block.open_end:
        points = np.concatenate([points, [[block.end, block.side * _SIDE_REACH]]])
    low = np.concatenate([points, np.zeros((len(points), 1))], 1)
    b.loft(np.stack([low, low + [0, 0, h]]), (0.3, 0.3, 0.3), Material.KERB, smooth=False, label=Label.SIDEWALK)
