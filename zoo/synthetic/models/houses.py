"""Houses: storeys of windows set into their walls, shops, balconies, roofs, dormers and chimneys."""

from __future__ import annotations

import numpy as np

from zoo.synthetic.scene.types import Building, Street
from zoo.synthetic.shapes.mesh import Builder, Mesh, place
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["building"]


def _facade(
    b: Builder, origin, along, out, width: float, base: float, floors: int, house: Building, rng, *, plain=False
) -> None:
    """Storeys of windows on a wall from `origin` along `along`, whose outside is `out`, from height `base` on."""
    bays = max(1, round(width / house.bay))
    bay, storey = width / bays, house.storey
    x0, x1, z0, z1 = house.window
    x0, x1, z0, z1 = x0 * bay, x1 * bay, z0 * storey, z1 * storey
    i, j = np.meshgrid(np.arange(bays), np.arange(floors), indexing="ij")
    corner = np.stack([i.ravel() * bay, base + j.ravel() * storey], -1)  # (Q, 2)
    along, out, origin = np.asarray(along), np.asarray(out), np.asarray(origin)

    def quads(points, color, material, depths=(0, 0, 0, 0), local_uv=False):
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
    """One house in the world: a rigid box whose front follows the street at its middle."""
    """One house as a rigid box with its front along the street's direction at its middle."""
    rng = np.random.default_rng(house.seed)
    b = Builder(Label.BUILDING)
    width = house.s1 - house.s0
    height = house.ground + house.storey * (house.floors - 1)
    depth = house.depth
    # Local axes: x along the street, y away from it, both measured from the left end of the front.
    ex, ey = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    front = np.array([0.0, 0, 0])
    upper = house.floors - 1
    if house.shop:
        _shop(b, house, width, rng)
    else:
        one = Building(**{**house.__dict__, "storey": house.ground, "balconies": False})
        _facade(b, front, ex, -ey, width, 0.0, 1, one, rng)
        door = float(rng.uniform(0.1, 0.8)) * (width - 1.2)
        b.box([door, -0.04, 0], [door + 1.0, 0.02, 2.15], tuple(rng.uniform(0.02, 0.4, 3)), Material.WOOD)
        b.box([door - 0.12, -0.06, 2.15], [door + 1.12, 0.02, 2.35], house.trim)
    if upper:
        _facade(b, front, ex, -ey, width, house.ground, upper, house, rng)
    for x, sign in ((0.0, -1), (width, 1)):  # sides
        blind = rng.random() < 0.5
        plain = Building(
            **{
                **house.__dict__,
                "storey": height / max(house.floors, 1),
                "balconies": False,
                "bay": max(house.bay, 3.0),
            }
        )
        _facade(b, [x, 0, 0], ey, sign * ex, depth, 0.0, house.floors, plain, rng, plain=blind)
    b.quads(
        np.array([[[0, depth, -1], [width, depth, -1], [width, depth, height], [0, depth, height]]]),
        house.color,
        house.wall,
    )
    b.box([0, 0.02, -2], [width, depth, 0.02], house.color, house.wall)
    if house.cornice:
        b.box([-0.05, -0.3, height - 0.25], [width + 0.05, 0.0, height + 0.05], house.trim)
        b.box([-0.02, -0.08, house.ground - 0.15], [width + 0.02, 0.0, house.ground + 0.05], house.trim)
    rise = house.pitch * depth / 2
    if house.roof == "flat":
        b.quads(
            np.array([[[0, 0, height], [width, 0, height], [width, depth, height], [0, depth, height]]]),
            (0.2, 0.2, 0.2),
            Material.CONCRETE,
        )
        b.box([0, 0, height], [width, 0.25, height + 0.6], house.color, house.wall)
        for x in (0.0, width - 0.2):
            b.box([x, 0, height], [x + 0.2, depth, height + 0.6], house.color, house.wall)
        if rng.random() < 0.6:
            x, w = rng.uniform(0, width * 0.6), rng.uniform(1.5, 4)
            b.box(
                [x, 3, height],
                [min(x + w, width), 6, height + rng.uniform(1.2, 3)],
                (0.35, 0.35, 0.35),
                Material.CONCRETE,
            )
    else:
        inset = {"gable": 0.0, "hip": min(width * 0.3, depth / 2), "mansard": 0.6}[house.roof]
        if house.roof == "mansard":
            rise = 2.6
        eave = 0.35
        ridge0, ridge1 = (depth / 2, depth / 2) if house.roof != "mansard" else (1.2, depth - 1.2)
        z = height - 0.05
        slope = np.hypot(ridge0, rise)
        front_q = [
            [-0.1, -eave, z - eave * rise / ridge0],
            [width + 0.1, -eave, z - eave * rise / ridge0],
            [width - inset, ridge0, z + rise],
            [inset, ridge0, z + rise],
        ]
        back_q = [
            [width, depth + eave, z],
            [0, depth + eave, z],
            [inset, ridge1, z + rise],
            [width - inset, ridge1, z + rise],
        ]
        uv = np.array([[[0, 0], [width, 0], [width, slope], [0, slope]]] * 2, float)
        b.quads(np.array([front_q, back_q]), house.roof_color, Material.ROOF, uv=uv)
        for x, xi in ((0.0, inset), (width, width - inset)):
            end = [[x, 0, z], [x, depth, z], [xi, ridge1, z + rise], [xi, ridge0, z + rise]]
            b.quads(
                np.array([end]),
                house.color if inset == 0 else house.roof_color,
                house.wall if inset == 0 else Material.ROOF,
            )
        if house.roof == "mansard":
            b.quads(
                np.array(
                    [
                        [
                            [inset, ridge0, z + rise],
                            [width - inset, ridge0, z + rise],
                            [width - inset, ridge1, z + rise],
                            [inset, ridge1, z + rise],
                        ]
                    ]
                ),
                (0.2, 0.2, 0.2),
            )
        if house.roof != "hip" and rng.random() < 0.5:  # dormers
            for x in np.arange(1.5, width - 1.5, max(house.bay, 2.4)):
                y = ridge0 * 0.3
                zz = z + rise * 0.3
                b.box([x - 0.6, y - 0.1, zz], [x + 0.6, y + 2.5, zz + 1.4], house.trim)
                b.quads(
                    np.array(
                        [
                            [
                                [x - 0.45, y - 0.12, zz + 0.2],
                                [x + 0.45, y - 0.12, zz + 0.2],
                                [x + 0.45, y - 0.12, zz + 1.2],
                                [x - 0.45, y - 0.12, zz + 1.2],
                            ]
                        ]
                    ),
                    house.trim,
                    Material.WINDOW,
                    uv=np.array([[[0.001, 0.001], [0.999, 0.001], [0.999, 0.999], [0.001, 0.999]]])
                    + rng.integers(0, 500, 2),
                )
    for _ in range(house.chimneys):
        x, y = rng.uniform(0.3, width - 1), rng.choice([depth * 0.35, depth * 0.5])
        top = height + (rise if house.roof in ("gable", "hip") else 1.0) + rng.uniform(0.4, 1.3)
        b.box([x, y, height - 0.5], [x + rng.uniform(0.6, 1.2), y + 0.6, top], house.color, Material.BRICK)
        for k in range(2):
            b.tubes(
                [[x + 0.15 + 0.3 * k, y + 0.3, top]],
                [[x + 0.15 + 0.3 * k, y + 0.3, top + 0.4]],
                0.1,
                0.09,
                6,
                (0.3, 0.13, 0.07),
            )
    if rng.random() < 0.3:  # a rain pipe
        x = rng.choice([0.15, width - 0.15])
        b.tubes([[x, -0.08, 0]], [[x, -0.08, height]], 0.05, 0.05, 5, house.trim)
    mesh = b.mesh()
    middle = (house.s0 + house.s1) / 2
    heading = street.heading(middle)
    side = house.side
    v = mesh.vertices.copy()
    v[:, 0] -= width / 2
    v[:, 1] *= side
    moved = Mesh(**{**mesh.__dict__, "vertices": v, "normals": np.zeros_like(v)})
    position = street.to_world(np.array(middle), np.array(side * house.t0), street.kerb)
    return place(moved, position, heading)


def _shop(b: Builder, house: Building, width: float, rng) -> None:
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
        uv = np.array([[[0.001, 0.001], [0.999, 0.001], [0.999, 0.999], [0.001, 0.999]]]) + rng.integers(0, 500, 2)
        b.quads(np.array([[[x0, d, low], [x1, d, low], [x1, d, top], [x0, d, top]]]), color, Material.SHOP, uv=uv)
    b.box([0.05, -0.16, top], [width - 0.05, 0.0, top + sign], color, Material.FASCIA)
    if house.awning:
        y = -float(rng.uniform(0.9, 1.6))
        b.quads(
            np.array(
                [
                    [
                        [0.2, -0.05, top + 0.1],
                        [width - 0.2, -0.05, top + 0.1],
                        [width - 0.2, y, top - 0.45],
                        [0.2, y, top - 0.45],
                    ]
                ]
            ),
            color,
            Material.CLOTH,
        )
        b.quads(
            np.array(
                [
                    [
                        [0.2, y, top - 0.45],
                        [width - 0.2, y, top - 0.45],
                        [width - 0.2, y, top - 0.65],
                        [0.2, y, top - 0.65],
                    ]
                ]
            ),
            color,
            Material.CLOTH,
        )
    if rng.random() < 0.3:  # a sign that sticks out
        x = rng.uniform(0.5, width - 0.5)
        b.box([x, -0.9, top + 0.2], [x + 0.08, -0.2, top + 0.9], tuple(rng.uniform(0.05, 0.7, 3)), Material.FASCIA)
