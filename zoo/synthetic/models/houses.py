"""Houses: storeys of windows set into their walls, shops, balconies, roofs, dormers and chimneys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo.synthetic.scene.types import Building, Street
from zoo.synthetic.shapes.mesh import Builder, Mesh, Points, Rgb, place
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["building"]

_DECK = (0.2, 0.2, 0.2)
_FOOT_M = 2.5  # of wall below the ground at the middle of the front: the ground slopes
_HEADROOM_M = 2.1  # below awnings and signs that stick out
_MANSARD_RISE = 2.6
_PANE_UV = np.array([[[0.001, 0.001], [0.999, 0.001], [0.999, 0.999], [0.001, 0.999]]])
"""The whole of one pane. The shader takes what stands before the point as the number of the window, so that adding
whole numbers makes panes differ, and reaching 1 would show a strip of the next pane."""


def _facade(
    b: Builder,
    origin: Points,
    along: Points,
    out: Points,
    width: float,
    base: float,
    floors: int,
    house: Building,
    rng: np.random.Generator,
    *,
    plain: bool = False,
) -> None:
    """Storeys of windows on a wall from `origin` along `along`, whose outside is `out`, from height `base` on."""
    bays = max(1, round(width / house.bay))
    bay, storey = width / bays, house.storey
    x0, x1, z0, z1 = house.window
    x0, x1, z0, z1 = x0 * bay, x1 * bay, z0 * storey, z1 * storey
    i, j = np.meshgrid(np.arange(bays), np.arange(floors), indexing="ij")
    corner = np.stack([i.ravel() * bay, base + j.ravel() * storey], -1)  # (Q, 2)
    along, out, origin = np.asarray(along), np.asarray(out), np.asarray(origin)

    def quads(points: Points, color: Rgb, material: int, depths: Points = (0, 0, 0, 0), local_uv: bool = False) -> None:
        """`points` (4, 2) in one bay, repeated over all; `depths` go into the wall."""
        p = corner[:, None] + np.asarray(points, float)  # (Q, 4, 2)
        world = origin + p[..., :1] * along - np.asarray(depths)[:, None] * out
        world[..., 2] += p[..., 1]
        if local_uv:  # unit coordinates of the pane plus the number of the window, so that panes differ
            unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float) * 0.998 + 0.001
            uv = unit + (rng.integers(0, 500, (len(corner), 1, 2)) * np.ones((1, 4, 1)))
        else:
            uv = p
        b.quads(world, color, material, uv=uv)

    wall, c, d = house.wall, house.color, house.recess
    if plain:
        quads([[0, 0], [bay, 0], [bay, storey], [0, storey]], c, wall)
        return
    quads([[0, 0], [bay, 0], [bay, z0], [0, z0]], c, wall)
    quads([[0, z1], [bay, z1], [bay, storey], [0, storey]], c, wall)
    quads([[0, z0], [x0, z0], [x0, z1], [0, z1]], c, wall)
    quads([[x1, z0], [bay, z0], [bay, z1], [x1, z1]], c, wall)
    shade = tuple(np.asarray(c) * 0.9)
    quads([[x0, z0], [x1, z0], [x1, z0], [x0, z0]], shade, Material.PLAIN, (0, 0, d, d))
    quads([[x0, z1], [x1, z1], [x1, z1], [x0, z1]], shade, Material.PLAIN, (0, 0, d, d))
    quads([[x0, z0], [x0, z0], [x0, z1], [x0, z1]], shade, Material.PLAIN, (0, d, d, 0))
    quads([[x1, z0], [x1, z0], [x1, z1], [x1, z1]], shade, Material.PLAIN, (0, d, d, 0))
    quads([[x0, z0], [x1, z0], [x1, z1], [x0, z1]], house.trim, Material.WINDOW, (d, d, d, d), local_uv=True)
    if house.sills:
        quads(
            [[x0 - 0.08, z0 - 0.1], [x1 + 0.08, z0 - 0.1], [x1 + 0.08, z0], [x0 - 0.08, z0]],
            house.trim,
            Material.PLAIN,
            (-0.1,) * 4,
        )
        quads(
            [[x0 - 0.08, z0], [x1 + 0.08, z0], [x1 + 0.08, z0], [x0 - 0.08, z0]],
            house.trim,
            Material.PLAIN,
            (-0.1, -0.1, 0, 0),
        )
    if house.balconies and floors:
        quads(
            [[x0 - 0.3, z0 - 0.5], [x1 + 0.3, z0 - 0.5], [x1 + 0.3, z0 + 0.2], [x0 - 0.3, z0 + 0.2]],
            house.trim,
            Material.METAL_RAIL,
            (-0.8,) * 4,
        )
        quads(
            [[x0 - 0.3, z0 - 0.5], [x1 + 0.3, z0 - 0.5], [x1 + 0.3, z0 - 0.5], [x0 - 0.3, z0 - 0.5]],
            shade,
            Material.PLAIN,
            (-0.8, -0.8, 0, 0),
        )


def building(street: Street, house: Building) -> Mesh:
    """One house in the world: a rigid box whose front follows the street's direction at its middle."""
    rng = np.random.default_rng(house.seed)
    b = Builder(Label.BUILDING)
    width = house.s1 - house.s0
    height = house.ground + house.storey * (house.floors - 1)
    _walls(b, house, width, height, rng)
    if house.cornice:
        b.box([-0.05, -0.3, height - 0.25], [width + 0.05, 0.0, height + 0.05], house.trim)
        b.box([-0.02, -0.08, house.ground - 0.15], [width + 0.02, 0.0, house.ground + 0.05], house.trim)
    if house.roof == "flat":
        _flat_roof(b, house, width, height, rng)
    else:
        _pitched_roof(b, house, width, height, rng)
    _chimneys(b, house, width, height, rng)
    if rng.random() < 0.3:  # a rain pipe
        x = rng.choice([0.15, width - 0.15])
        b.tubes([[x, -0.08, 0]], [[x, -0.08, height]], 0.05, 0.05, 5, house.trim)
    b.box([0, 0, -_FOOT_M], [width, house.depth, 0], house.color, house.wall)
    return _at_street(b.mesh(), street, house, width)


def _at_street(mesh: Mesh, street: Street, house: Building, width: float) -> Mesh:
    middle = (house.s0 + house.s1) / 2
    v = mesh.vertices.copy()
    v[:, 0] -= width / 2
    # On the right side the house is mirrored, not turned. That swaps the winding of its triangles, which nothing
    # depends on: hits turn normals towards the ray.
    v[:, 1] *= house.side
    moved = replace(mesh, vertices=v, normals=np.zeros_like(v))
    position = street.to_world(np.array(middle), np.array(house.side * house.t0), street.kerb)
    return place(moved, position, street.heading(middle))


def _walls(b: Builder, house: Building, width: float, height: float, rng: np.random.Generator) -> None:
    """Four walls: local x runs along the street, y away from it, both from the left end of the front."""
    along, away = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    front, depth, upper = np.array([0.0, 0, 0]), house.depth, house.floors - 1
    if house.shop:
        _shop(b, house, width, rng)
    else:
        ground_floor = replace(house, storey=house.ground, balconies=False)
        _facade(b, front, along, -away, width, 0.0, 1, ground_floor, rng)
        door = float(rng.uniform(0.1, 0.8)) * (width - 1.2)
        b.box([door, -0.04, 0], [door + 1.0, 0.02, 2.15], tuple(rng.uniform(0.02, 0.4, 3)), Material.WOOD)
        b.box([door - 0.12, -0.06, 2.15], [door + 1.12, 0.02, 2.35], house.trim)
    if upper:
        _facade(b, front, along, -away, width, house.ground, upper, house, rng)
    end_wall = replace(house, storey=height / max(house.floors, 1), balconies=False, bay=max(house.bay, 3.0))
    for x, sign in ((0.0, -1), (width, 1)):
        blind = rng.random() < 0.5
        _facade(b, [x, 0, 0], away, sign * along, depth, 0.0, house.floors, end_wall, rng, plain=blind)
    back = [[0, depth, -1], [width, depth, -1], [width, depth, height], [0, depth, height]]
    b.quads(np.array([back]), house.color, house.wall)
    b.box([0, 0.02, -2], [width, depth, 0.02], house.color, house.wall)


def _flat_roof(b: Builder, house: Building, width: float, height: float, rng: np.random.Generator) -> None:
    """A deck with a parapet and, on most houses, a box for lift or ventilation."""
    depth = house.depth
    deck = [[0, 0, height], [width, 0, height], [width, depth, height], [0, depth, height]]
    b.quads(np.array([deck]), _DECK, Material.CONCRETE)
    b.box([0, 0, height], [width, 0.25, height + 0.6], house.color, house.wall)
    for x in (0.0, width - 0.2):
        b.box([x, 0, height], [x + 0.2, depth, height + 0.6], house.color, house.wall)
    if rng.random() < 0.6:
        x, w = rng.uniform(0, width * 0.6), rng.uniform(1.5, 4)
        top = height + rng.uniform(1.2, 3)
        b.box([x, 3, height], [min(x + w, width), 6, top], (0.35, 0.35, 0.35), Material.CONCRETE)


def _rise(house: Building) -> float:
    """Height of the roof's ridge above the walls, metres."""
    return _MANSARD_RISE if house.roof == "mansard" else house.pitch * house.depth / 2


def _pitched_roof(b: Builder, house: Building, width: float, height: float, rng: np.random.Generator) -> None:
    """Two slopes, the ends between them, and dormers: a gable, hip or mansard roof."""
    depth, rise, mansard = house.depth, _rise(house), house.roof == "mansard"
    inset = {"gable": 0.0, "hip": min(width * 0.3, depth / 2), "mansard": 0.6}[house.roof]  # of the ridge's ends
    eave = 0.35
    ridge0, ridge1 = (1.2, depth - 1.2) if mansard else (depth / 2, depth / 2)
    z = height - 0.05
    top = z + rise
    front = [
        [-0.1, -eave, z - eave * rise / ridge0],
        [width + 0.1, -eave, z - eave * rise / ridge0],
        [width - inset, ridge0, top],
        [inset, ridge0, top],
    ]
    back = [[width, depth + eave, z], [0, depth + eave, z], [inset, ridge1, top], [width - inset, ridge1, top]]
    slope = np.hypot(ridge0, rise)
    uv = np.array([[[0, 0], [width, 0], [width, slope], [0, slope]]] * 2, float)
    b.quads(np.array([front, back]), house.roof_color, Material.ROOF, uv=uv)
    for x, ridge_x in ((0.0, inset), (width, width - inset)):
        end = [[x, 0, z], [x, depth, z], [ridge_x, ridge1, top], [ridge_x, ridge0, top]]
        gable = inset == 0
        b.quads(np.array([end]), house.color if gable else house.roof_color, house.wall if gable else Material.ROOF)
    if mansard:
        deck = [[inset, ridge0, top], [width - inset, ridge0, top], [width - inset, ridge1, top], [inset, ridge1, top]]
        b.quads(np.array([deck]), _DECK)
    if house.roof != "hip" and rng.random() < 0.5:
        _dormers(b, house, width, (ridge0 * 0.3, z + rise * 0.3), rng)


def _dormers(b: Builder, house: Building, width: float, at: tuple[float, float], rng: np.random.Generator) -> None:
    """A row of dormers at `at`: metres behind the front, and height of their sills."""
    y, z = at
    for x in np.arange(1.5, width - 1.5, max(house.bay, 2.4)):
        b.box([x - 0.6, y - 0.1, z], [x + 0.6, y + 2.5, z + 1.4], house.trim)
        pane = [
            [x - 0.45, y - 0.12, z + 0.2],
            [x + 0.45, y - 0.12, z + 0.2],
            [x + 0.45, y - 0.12, z + 1.2],
            [x - 0.45, y - 0.12, z + 1.2],
        ]
        b.quads(np.array([pane]), house.trim, Material.WINDOW, uv=_PANE_UV + rng.integers(0, 500, 2))


def _chimneys(b: Builder, house: Building, width: float, height: float, rng: np.random.Generator) -> None:
    for _ in range(house.chimneys):
        x, y = rng.uniform(0.3, width - 1), rng.choice([house.depth * 0.35, house.depth * 0.5])
        top = height + (_rise(house) if house.roof in ("gable", "hip") else 1.0) + rng.uniform(0.4, 1.3)
        b.box([x, y, height - 0.5], [x + rng.uniform(0.6, 1.2), y + 0.6, top], house.color, Material.BRICK)
        for k in range(2):
            pot = x + 0.15 + 0.3 * k
            b.tubes([[pot, y + 0.3, top]], [[pot, y + 0.3, top + 0.4]], 0.1, 0.09, 6, (0.3, 0.13, 0.07))


def _shop(b: Builder, house: Building, width: float, rng: np.random.Generator) -> None:
    """A ground floor of shop windows, doors and a sign board above."""
    h = house.ground
    sign = float(rng.uniform(0.4, 0.8))
    base = float(rng.uniform(0.1, 0.7))
    top = h - sign - float(rng.uniform(0.05, 0.4))
    color = house.shop_color
    pieces = max(1, round(width / rng.uniform(1.6, 3.5)))
    step = width / pieces
    door = int(rng.integers(pieces))
    d = float(rng.uniform(0.05, 0.4))
    b.quads(np.array([[[0, 0, top], [width, 0, top], [width, 0, h], [0, 0, h]]]), house.color, house.wall)
    for i in range(pieces):
        x0, x1 = i * step + 0.14, (i + 1) * step - 0.14
        low = 0.05 if i == door else base
        b.box([x0 - 0.14, -0.03, 0], [x0, d, top], color, Material.PLAIN)
        b.box([x1, -0.03, 0], [x1 + 0.14, d, top], color, Material.PLAIN)
        b.box([x0, -0.01, 0], [x1, d, low], color, Material.PLAIN)
        pane = [[x0, d, low], [x1, d, low], [x1, d, top], [x0, d, top]]
        b.quads(np.array([pane]), color, Material.SHOP, uv=_PANE_UV + rng.integers(0, 500, 2))
    b.box([0.05, -0.16, top], [width - 0.05, 0.0, top + sign], color, Material.FASCIA)
    if house.awning and top - 0.65 > _HEADROOM_M:
        y = -float(rng.uniform(0.9, 1.6))
        left, right = 0.2, width - 0.2
        cover = [[left, -0.05, top + 0.1], [right, -0.05, top + 0.1], [right, y, top - 0.45], [left, y, top - 0.45]]
        flap = [[left, y, top - 0.45], [right, y, top - 0.45], [right, y, top - 0.65], [left, y, top - 0.65]]
        for quad in (cover, flap):
            b.quads(np.array([quad]), color, Material.CLOTH)
    if rng.random() < 0.3 and top + 0.2 > _HEADROOM_M:  # a sign that sticks out
        x = rng.uniform(0.5, width - 0.5)
        b.box([x, -0.9, top + 0.2], [x + 0.08, -0.2, top + 0.9], tuple(rng.uniform(0.05, 0.7, 3)), Material.FASCIA)
