"""The ground: the road, raised blocks with kerbs and rounded corners, and a plain with hills up to the horizon.

Triangles carry no pattern: uv are street coordinates, and the shader draws paint and paving from those.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo.synthetic.scene.network import LegStreet
from zoo.synthetic.scene.plots import KERB_M, ROUND_M, kerb_heights
from zoo.synthetic.scene.types import Block, Scene, Street
from zoo.synthetic.shapes.mesh import Builder, Mesh, concatenate
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["bent", "ground", "horizon", "street_ground"]

_STEP_M = 1.0  # between vertices along the street
_ASIDE_M = np.concatenate([np.arange(1.0, 20, 1), np.arange(20.0, 75, 2)])
"""From the first vertex on the block to the others: as fine as the relief is there."""
_BELOW_M = 0.5  # that the road's sheet lies deeper below blocks
_UNDER_M = 0.3  # of a street under the next one of a drive, and as deep
_BEYOND_M = np.array([20.0, 60.0, 120.0])
_SIDE_REACH = 75.0  # metres to each side; streets bend with radii above 125 m, so the inner side does not fold over


def bent(street: Street, mesh: Mesh) -> Mesh:
    """A mesh given in street coordinates (s, t, h), in the world; flat shading."""
    v = mesh.vertices
    world = street.to_world(v[:, 0], v[:, 1], v[:, 2]).astype(np.float32)
    return replace(mesh, vertices=world, normals=np.zeros_like(world))


def _grid(b: Builder, s: np.ndarray, t: np.ndarray, h: float | np.ndarray, material: int, label: int | None) -> None:
    """A sheet over the grid of `s` (K,) and `t` (K, R): uv = (s, t). What lies below the blocks is left out."""
    k, r = t.shape
    points = np.stack([np.broadcast_to(s[:, None], (k, r)), t, np.broadcast_to(h, (k, r))], -1)
    i, j = np.meshgrid(np.arange(k - 1), np.arange(r - 1), indexing="ij")
    a = i * r + j
    faces = np.stack([np.stack([a, a + r, a + 1], -1), np.stack([a + 1, a + r, a + r + 1], -1)], 2).reshape(-1, 3)
    points = points.reshape(-1, 3)
    seen = (points[faces, 2] > -_BELOW_M).any(1)
    b.add(points, faces[seen], (0.2, 0.2, 0.2), material, uv=points[:, :2], label=label)


def _across(edge: float) -> np.ndarray:
    """`(R,)` metres left of the centre line of the vertices: close together where the ground has small relief."""
    road = np.linspace(-edge, edge, 2 * round(edge / 1.5) + 1)
    side = edge + _ASIDE_M[edge + _ASIDE_M < _SIDE_REACH]
    return np.concatenate([[-_SIDE_REACH], -side[::-1], road, side, [_SIDE_REACH]])


def _hidden(scene: Scene, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """`(K, R)` height of the road's sheet: below the blocks it lies deeper, so as not to come through them."""
    out = np.zeros((len(s), len(t)))
    for block in scene.blocks:
        along = (s > block.start + block.corner) & (s < block.end - block.corner)  # the kerb recedes at corners
        out[np.ix_(along, block.side * t > scene.street.half_width + ROUND_M + 0.5)] = -_BELOW_M
    return out


def ground(scene: Scene) -> Mesh:
    """Road, blocks, and what closes the view at the horizon."""
    return concatenate([street_ground(scene), horizon((100.0, 0.0), 0.0, 0.0, scene)])


def street_ground(scene: Scene) -> Mesh:
    """Road and blocks."""
    street = scene.street
    b = Builder(Label.ROAD)
    s = np.concatenate(
        [
            [street.start - 60, street.start - 30],
            np.arange(street.start, street.end + 1, _STEP_M),
            street.end + _BEYOND_M,
        ]
    )
    t = _across(street.half_width + ROUND_M)
    if isinstance(street, LegStreet):
        # The next leg's ground begins at the end. A strip under it hides cracks between vertices of either.
        s = np.append(s[s <= street.end], street.end + _UNDER_M)
        t = np.unique(np.append(t, [-street.half_width, street.half_width]))
    h = _hidden(scene, s, t)
    if isinstance(street, LegStreet):
        h[-1] = -_UNDER_M
        _leave_out(h, street, s, t)
    _grid(b, s, np.broadcast_to(t, (len(s), len(t))), h, Material.ASPHALT, Label.ROAD)
    for block in scene.blocks:
        _block(b, street, block)
    return bent(street, b.mesh())


def _leave_out(h: np.ndarray, street: LegStreet, s: np.ndarray, t: np.ndarray) -> None:
    """Marks in `h`, as `_grid` reads it, vertices on the previous leg's ground, all but those at its edges."""
    theirs = np.logical_not(street.owns(s[:, None], t[None])) & (s[:, None] < street.end)
    h[theirs] = -_BELOW_M


def horizon(middle: tuple[float, float], reach: float, height: float, scene: Scene) -> Mesh:
    """A plain of grass, 6 m lower: on a slope the street would otherwise sink into it, and the hills around it.

    Args:
        middle: World metres.
        reach: Radius of what lies within, beyond that of a place.
        height: Of the street, metres.
        scene: Gives the hills.
    """
    far = 900.0 + reach
    x, y = middle
    n = np.arange(24) * 2 * np.pi / 24
    rim = np.stack([x + far * np.cos(n), y + far * np.sin(n), np.full(24, height - 6.0)], -1)
    disc = np.concatenate([[[x, y, height - 6.0]], rim])
    k = np.arange(1, 25)
    plain = Builder(Label.TERRAIN)
    plain.add(disc, np.stack([0 * k, k, k % 24 + 1], 1), (0.1, 0.12, 0.05), Material.HILL)
    for azimuth, width, tall in scene.hills:
        a = azimuth + np.linspace(-width, width, 12)
        z = (
            tall
            * np.cos(np.linspace(-np.pi / 2, np.pi / 2, 12))
            * (1 + 0.25 * np.sin(np.arange(12) * 1.7 + azimuth * 9))
        )
        radius = 420 + 5 * tall + reach
        z = z * (radius / (radius - reach))  # as high above the horizon as from nearby
        low = np.stack([x + radius * np.cos(a), y + radius * np.sin(a), np.full(12, height - 8.0)], -1)
        plain.loft(
            np.stack([low, low + np.stack([0 * a, 0 * a, z + 8], -1)]),
            (0.06, 0.08, 0.04),
            Material.HILL,
            smooth=False,
            label=Label.VEGETATION,
        )
    return plain.mesh()


def _block(b: Builder, street: Street, block: Block) -> None:
    """A raised slab with rounded corners and its kerb."""
    r = block.corner
    length = block.end - block.start
    fine = np.linspace(0, min(r, length / 2), 6)
    s = np.concatenate(
        [block.start + fine, np.arange(block.start + r + 1, block.end - r - 0.7, _STEP_M), block.end - fine[::-1]]
    )
    inset = np.zeros_like(s)
    for closed, distance in ((not block.open_start, s - block.start), (not block.open_end, block.end - s)):
        if closed:
            d = np.clip(distance, 0, r)
            inset = np.maximum(inset, r - np.sqrt(np.maximum(r * r - (r - d) ** 2, 0)))
    edge = street.half_width + inset
    low = kerb_heights(street, block, s)
    fixed = _across(street.half_width + ROUND_M)
    fixed = fixed[fixed > street.half_width + ROUND_M - 0.1]
    rows = np.concatenate([edge[:, None] + KERB_M, np.broadcast_to(fixed, (len(s), len(fixed)))], 1)
    rows = np.maximum.accumulate(rows, axis=1) * block.side
    u = np.clip((np.abs(rows) - edge[:, None] - KERB_M) / (ROUND_M - KERB_M), 0, 1)
    _grid(b, s, rows, low[:, None] + u * (street.kerb - low[:, None]), Material.GROUND, Label.SIDEWALK)
    kerb = np.stack([edge, edge + KERB_M], 1) * block.side
    _grid(b, s, kerb, np.repeat(low[:, None], 2, 1), Material.KERB, Label.SIDEWALK)
    points = np.stack([s, edge * block.side, low], 1)
    if not block.open_start:
        points = np.concatenate([_side_street(street, block, block.start)[::-1], points])
    if not block.open_end:
        points = np.concatenate([points, _side_street(street, block, block.end)])
    b.loft(np.stack([points * [1, 1, 0], points]), (0.3, 0.3, 0.3), Material.KERB, smooth=False, label=Label.SIDEWALK)


def _side_street(street: Street, block: Block, s: float) -> np.ndarray:
    """`(N, 3)` the kerb along a side street, away from the main street: as fine as the ground next to it."""
    t = _across(street.half_width + ROUND_M)
    t = t[t > street.half_width + block.corner]
    return np.stack([np.full(len(t), s), block.side * t, np.full(len(t), street.kerb)], 1)
