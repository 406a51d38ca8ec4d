"""From a scene description to triangles: the ground, houses with windows set into their walls, fences, and placed things."""

from __future__ import annotations

import numpy as np

from zoo.synthetic.mesh import Builder, Material, Mesh, concatenate, place
from zoo.synthetic.scene import Block, Building, Scene, Street, Strip
from zoo.synthetic.things import template

__all__ = ["LABELS_WITH_INSTANCES", "build_moving", "build_sheets", "build_static"]

ROAD, SIDEWALK, BUILDING, WALL, FENCE, VEGETATION, TERRAIN = 0, 1, 2, 3, 4, 8, 9
LABELS_WITH_INSTANCES = (11, 12, 13, 14, 15, 16, 17, 18)
_MOVING = ("car", "truck", "bus", "train", "motorcycle", "bicycle", "person", "cyclist", "motorcyclist")
_SIDE_REACH = 75.0


def _bent(street: Street, mesh: Mesh) -> Mesh:
    """A mesh given in street coordinates (s, t, h), in the world; flat shading."""
    v = mesh.vertices
    world = street.to_world(v[:, 0], v[:, 1], v[:, 2]).astype(np.float32)
    return Mesh(**{**mesh.__dict__, "vertices": world, "normals": np.zeros_like(world)})


def _grid(b: Builder, s: np.ndarray, t: np.ndarray, h, material, label) -> None:
    """A sheet over the grid of `s` (K,) and `t` (K, R): uv = (s, t)."""
    k, r = t.shape
    points = np.stack([np.broadcast_to(s[:, None], (k, r)), t, np.broadcast_to(h, (k, r))], -1)
    i, j = np.meshgrid(np.arange(k - 1), np.arange(r - 1), indexing="ij")
    a = i * r + j
    faces = np.stack([np.stack([a, a + r, a + 1], -1), np.stack([a + 1, a + r, a + r + 1], -1)], 2).reshape(-1, 3)
    b.add(points.reshape(-1, 3), faces, (0.2, 0.2, 0.2), material, uv=points.reshape(-1, 3)[:, :2], label=label)


def _ground(scene: Scene) -> Mesh:
    street = scene.street
    b = Builder(ROAD)
    s = np.concatenate([[street.start - 60], np.arange(street.start, street.end + 1, 4.0), [street.end + 120]])
    t = np.array([-_SIDE_REACH, -street.half_width - 1, -street.half_width / 2, 0, street.half_width / 2, street.half_width + 1, _SIDE_REACH])
    _grid(b, s, np.broadcast_to(t, (len(s), len(t))), 0.0, Material.ASPHALT, ROAD)
    for block in scene.blocks:
        _block(b, street, block)
    far = 900.0  # a plain of grass out to the horizon, a little lower
    n = np.arange(24) * 2 * np.pi / 24
    disc = np.concatenate([[[100, 0, -6.0]], np.stack([100 + far * np.cos(n), far * np.sin(n), np.full(24, -6.0)], -1)])
    k = np.arange(1, 25)
    mesh = _bent(street, b.mesh())
    plain = Builder(TERRAIN)
    plain.add(disc, np.stack([0 * k, k, k % 24 + 1], 1), (0.1, 0.12, 0.05), Material.HILL)
    for azimuth, width, height in scene.hills:
        a = azimuth + np.linspace(-width, width, 12)
        z = height * np.cos(np.linspace(-np.pi / 2, np.pi / 2, 12)) * (1 + 0.25 * np.sin(np.arange(12) * 1.7 + azimuth * 9))
        radius = 420 + 5 * height
        low = np.stack([100 + radius * np.cos(a), radius * np.sin(a), np.full(12, -8.0)], -1)
        plain.loft(np.stack([low, low + np.stack([0 * a, 0 * a, z + 8], -1)]), (0.06, 0.08, 0.04), Material.HILL, smooth=False, label=VEGETATION)
    return concatenate([mesh, plain.mesh()])


def _block(b: Builder, street: Street, block: Block) -> None:
    """A raised slab with rounded corners and its kerb."""
    r = block.corner
    length = block.end - block.start
    fine = np.linspace(0, min(r, length / 2), 6)
    s = np.concatenate([block.start + fine, np.arange(block.start + r + 3, block.end - r - 1, 4.0), block.end - fine[::-1]])
    inset = np.zeros_like(s)
    for closed, distance in ((not block.open_start, s - block.start), (not block.open_end, block.end - s)):
        if closed:
            d = np.clip(distance, 0, r)
            inset = np.maximum(inset, r - np.sqrt(np.maximum(r * r - (r - d) ** 2, 0)))
    edge = street.half_width + inset
    h = street.kerb
    rows = np.stack([edge + 0.14, edge + 3, edge + 9, np.full_like(edge, _SIDE_REACH)], 1)
    rows = np.maximum.accumulate(rows, axis=1) * block.side
    _grid(b, s, rows, h, Material.GROUND, SIDEWALK)
    kerb = np.stack([edge, edge + 0.14], 1) * block.side
    _grid(b, s, kerb, h, Material.KERB, SIDEWALK)
    points = np.stack([s, edge * block.side], 1)
    if not block.open_start:
        points = np.concatenate([[[block.start, block.side * _SIDE_REACH]], points])
    if not block.open_end:
        points = np.concatenate([points, [[block.end, block.side * _SIDE_REACH]]])
    low = np.concatenate([points, np.zeros((len(points), 1))], 1)
    b.loft(np.stack([low, low + [0, 0, h]]), (0.3, 0.3, 0.3), Material.KERB, smooth=False, label=SIDEWALK)


def _facade(b: Builder, origin, along, out, width: float, base: float, floors: int, house: Building, rng, *, plain=False) -> None:
    """Storeys of windows on a wall from `origin` along `along`, whose outside is `out`; storeys start at height `base`."""
    bays = max(1, int(round(width / house.bay)))
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
        quads([[x0 - 0.08, z0 - 0.1], [x1 + 0.08, z0 - 0.1], [x1 + 0.08, z0], [x0 - 0.08, z0]], house.trim, Material.PLAIN, (-0.1,) * 4)
        quads([[x0 - 0.08, z0], [x1 + 0.08, z0], [x1 + 0.08, z0], [x0 - 0.08, z0]], house.trim, Material.PLAIN, (-0.1, -0.1, 0, 0))
    if house.balconies and floors:
        quads([[x0 - 0.3, z0 - 0.5], [x1 + 0.3, z0 - 0.5], [x1 + 0.3, z0 + 0.2], [x0 - 0.3, z0 + 0.2]], house.trim, Material.METAL_RAIL, (-0.8,) * 4)
        quads([[x0 - 0.3, z0 - 0.5], [x1 + 0.3, z0 - 0.5], [x1 + 0.3, z0 - 0.5], [x0 - 0.3, z0 - 0.5]], shade, Material.PLAIN, (-0.8, -0.8, 0, 0))


def _building(street: Street, house: Building) -> Mesh:
    """One house as a rigid box with its front along the street's direction at its middle."""
    rng = np.random.default_rng(house.seed)
    b = Builder(BUILDING)
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
        plain = Building(**{**house.__dict__, "storey": height / max(house.floors, 1), "balconies": False, "bay": max(house.bay, 3.0)})
        _facade(b, [x, 0, 0], ey, sign * ex, depth, 0.0, house.floors, plain, rng, plain=blind)
    b.quads(np.array([[[0, depth, -1], [width, depth, -1], [width, depth, height], [0, depth, height]]]), house.color, house.wall)
    b.box([0, 0.02, -2], [width, depth, 0.02], house.color, house.wall)
    if house.cornice:
        b.box([-0.05, -0.3, height - 0.25], [width + 0.05, 0.0, height + 0.05], house.trim)
        b.box([-0.02, -0.08, house.ground - 0.15], [width + 0.02, 0.0, house.ground + 0.05], house.trim)
    rise = house.pitch * depth / 2
    if house.roof == "flat":
        b.quads(np.array([[[0, 0, height], [width, 0, height], [width, depth, height], [0, depth, height]]]), (0.2, 0.2, 0.2), Material.CONCRETE)
        b.box([0, 0, height], [width, 0.25, height + 0.6], house.color, house.wall)
        for x in (0.0, width - 0.2):
            b.box([x, 0, height], [x + 0.2, depth, height + 0.6], house.color, house.wall)
        if rng.random() < 0.6:
            x, w = rng.uniform(0, width * 0.6), rng.uniform(1.5, 4)
            b.box([x, 3, height], [min(x + w, width), 6, height + rng.uniform(1.2, 3)], (0.35, 0.35, 0.35), Material.CONCRETE)
    else:
        inset = {"gable": 0.0, "hip": min(width * 0.3, depth / 2), "mansard": 0.6}[house.roof]
        if house.roof == "mansard":
            rise = 2.6
        eave = 0.35
        ridge0, ridge1 = (depth / 2, depth / 2) if house.roof != "mansard" else (1.2, depth - 1.2)
        z = height - 0.05
        slope = np.hypot(ridge0, rise)
        front_q = [[-0.1, -eave, z - eave * rise / ridge0], [width + 0.1, -eave, z - eave * rise / ridge0], [width - inset, ridge0, z + rise], [inset, ridge0, z + rise]]
        back_q = [[width, depth + eave, z], [0, depth + eave, z], [inset, ridge1, z + rise], [width - inset, ridge1, z + rise]]
        uv = np.array([[[0, 0], [width, 0], [width, slope], [0, slope]]] * 2, float)
        b.quads(np.array([front_q, back_q]), house.roof_color, Material.ROOF, uv=uv)
        for x, xi in ((0.0, inset), (width, width - inset)):
            end = [[x, 0, z], [x, depth, z], [xi, ridge1, z + rise], [xi, ridge0, z + rise]]
            b.quads(np.array([end]), house.color if inset == 0 else house.roof_color, house.wall if inset == 0 else Material.ROOF)
        if house.roof == "mansard":
            b.quads(np.array([[[inset, ridge0, z + rise], [width - inset, ridge0, z + rise], [width - inset, ridge1, z + rise], [inset, ridge1, z + rise]]]), (0.2, 0.2, 0.2))
        if house.roof != "hip" and rng.random() < 0.5:  # dormers
            for x in np.arange(1.5, width - 1.5, max(house.bay, 2.4)):
                y = ridge0 * 0.3
                zz = z + rise * 0.3
                b.box([x - 0.6, y - 0.1, zz], [x + 0.6, y + 2.5, zz + 1.4], house.trim)
                b.quads(np.array([[[x - 0.45, y - 0.12, zz + 0.2], [x + 0.45, y - 0.12, zz + 0.2], [x + 0.45, y - 0.12, zz + 1.2], [x - 0.45, y - 0.12, zz + 1.2]]]),
                        house.trim, Material.WINDOW, uv=np.array([[[0.001, 0.001], [0.999, 0.001], [0.999, 0.999], [0.001, 0.999]]]) + rng.integers(0, 500, 2))
    for _ in range(house.chimneys):
        x, y = rng.uniform(0.3, width - 1), rng.choice([depth * 0.35, depth * 0.5])
        top = height + (rise if house.roof in ("gable", "hip") else 1.0) + rng.uniform(0.4, 1.3)
        b.box([x, y, height - 0.5], [x + rng.uniform(0.6, 1.2), y + 0.6, top], house.color, Material.BRICK)
        for k in range(2):
            b.tubes([[x + 0.15 + 0.3 * k, y + 0.3, top]], [[x + 0.15 + 0.3 * k, y + 0.3, top + 0.4]], 0.1, 0.09, 6, (0.3, 0.13, 0.07))
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
    pieces = max(1, int(round(width / rng.uniform(1.6, 3.5))))
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
        b.quads(np.array([[[0.2, -0.05, top + 0.1], [width - 0.2, -0.05, top + 0.1], [width - 0.2, y, top - 0.45], [0.2, y, top - 0.45]]]), color, Material.CLOTH)
        b.quads(np.array([[[0.2, y, top - 0.45], [width - 0.2, y, top - 0.45], [width - 0.2, y, top - 0.65], [0.2, y, top - 0.65]]]), color, Material.CLOTH)
    if rng.random() < 0.3:  # a sign that sticks out
        x = rng.uniform(0.5, width - 0.5)
        b.box([x, -0.9, top + 0.2], [x + 0.08, -0.2, top + 0.9], tuple(rng.uniform(0.05, 0.7, 3)), Material.FASCIA)


def _strip(street: Street, strip: Strip) -> Mesh:
    rng = np.random.default_rng(strip.seed)
    line = np.asarray(strip.line)
    length = float(np.hypot(*(line[1] - line[0])))
    step = (line[1] - line[0]) / length
    h = strip.height
    if strip.kind == "wall":
        b = Builder(WALL)
        material = (Material.BRICK, Material.STONE, Material.PLASTER, Material.CONCRETE)[strip.variant % 4]
        for x in np.arange(0, length, 4.0):
            b.box([x, -0.13, -0.1], [min(x + 4.0, length), 0.13, h], strip.color, material)
        for x in np.arange(0, length, 4.0):
            b.box([x, -0.18, h], [min(x + 4.0, length), 0.18, h + 0.09], (0.35, 0.33, 0.3), Material.STONE)
        if strip.variant % 3 == 0:
            for x in np.arange(0, length, 4.0):
                b.box([x - 0.22, -0.22, -0.1], [x + 0.22, 0.22, h + 0.25], strip.color, material)
        if strip.variant % 5 == 0:
            _bars(b, length, h, h + 0.9, 0.14, 0.012, (0.03, 0.03, 0.03), FENCE)
    elif strip.kind == "fence":
        b = Builder(FENCE)
        style = strip.variant % 4
        if style == 0:
            _bars(b, length, 0.05, h, float(rng.uniform(0.1, 0.16)), 0.012, strip.color, FENCE)
        elif style == 1:  # boards
            wide = float(rng.uniform(0.09, 0.14))
            x = np.arange(0, length, wide * float(rng.choice([1.05, 1.5])))
            z = h * (1 + 0.02 * rng.normal(size=len(x)))
            one = [np.stack([x, 0 * x, 0 * x + 0.05], -1), np.stack([x + wide, 0 * x, 0 * x + 0.05], -1), np.stack([x + wide, 0 * x, z], -1), np.stack([x, 0 * x, z], -1)]
            shade = rng.uniform(0.75, 1.2, (len(x), 1)) * (strip.color if max(strip.color) > 0.1 else (0.2, 0.13, 0.08))
            b.quads(np.stack(one, 1), shade, Material.WOOD)
        elif style == 2:  # wire mesh between posts
            for z in np.linspace(0.1, h, 9):
                b.tubes([[0, 0, z]], [[length, 0, z]], 0.006, 0.006, 3, strip.color, Material.METAL)
            x = np.arange(0, length, 0.22)
            b.tubes(np.stack([x, 0 * x, 0 * x], -1), np.stack([x, 0 * x, 0 * x + h], -1), 0.006, 0.006, 3, strip.color, Material.METAL)
            x = np.arange(0, length, 2.5)
            b.tubes(np.stack([x, 0 * x, 0 * x], -1), np.stack([x, 0 * x, 0 * x + h + 0.1], -1), 0.035, 0.035, 6, strip.color, Material.METAL)
        else:  # two or three rails on posts
            x = np.arange(0, length, 2.0)
            b.tubes(np.stack([x, 0 * x, 0 * x], -1), np.stack([x, 0 * x, 0 * x + h], -1), 0.045, 0.045, 6, strip.color, Material.WOOD)
            for z in np.linspace(0.35, 0.95, 3) * h:
                b.box([0, -0.02, z - 0.05], [length, 0.02, z + 0.05], strip.color, Material.WOOD)
    elif strip.kind == "hedge":
        b = Builder(VEGETATION)
        wide = float(rng.uniform(0.3, 0.6))
        b.box([0, -wide * 0.7, 0], [length, wide * 0.7, h * 0.9], (0.012, 0.018, 0.008), Material.FOLIAGE)
        n = int(min(length * h * 90, 6000))
        p = rng.uniform([0, -1, 0.02], [length, 1, 1], (n, 3))
        shell = np.where(rng.random(n) < 0.35)[0]
        p[:, 1] = np.sign(p[:, 1]) * wide * rng.uniform(0.7, 1.05, n)
        p[shell, 1] = rng.uniform(-wide, wide, len(shell))
        p[:, 2] *= h
        p[shell, 2] = h * rng.uniform(0.88, 1.04, len(shell))
        a, c = rng.normal(0, 0.085, (n, 3)), rng.normal(0, 0.085, (n, 3))
        vertices = np.stack([p + a, p - a + c, p - a - c], 1).reshape(-1, 3)
        b.add(vertices, np.arange(3 * n).reshape(-1, 3), np.clip(rng.uniform(0.5, 1.4, (n, 1)) * 0.25 * np.ones(3), 0, 1), Material.FOLIAGE)
    else:
        b = Builder(255)  # a guard rail has no class of the nineteen
        b.box([0, -0.02, 0.45], [length, 0.04, 0.75], strip.color, Material.METAL)
        for x in np.arange(0.5, length, 2.0):
            b.box([x, -0.12, 0], [x + 0.08, -0.03, 0.7], strip.color, Material.METAL)
    mesh = b.mesh()
    v = mesh.vertices
    across = np.array([-step[1], step[0]])
    st = line[0] + v[:, :1] * step + v[:, 1:2] * across
    return _bent(street, Mesh(**{**mesh.__dict__, "vertices": np.concatenate([st, v[:, 2:] + street.kerb], 1).astype(np.float32)}))


def _bars(b: Builder, length: float, low: float, high: float, spacing: float, r: float, color, label: int) -> None:
    x = np.arange(0, length, spacing)
    b.tubes(np.stack([x, 0 * x, 0 * x + low], -1), np.stack([x, 0 * x, 0 * x + high], -1), r, r, 3, color, Material.METAL, label=label)
    for z in (low + 0.1, high - 0.12):
        b.box([0, -0.015, z - 0.02], [length, 0.015, z + 0.02], color, Material.METAL, label=label)
    x = np.arange(0, length, 2.5)
    b.tubes(np.stack([x, 0 * x, 0 * x], -1), np.stack([x, 0 * x, 0 * x + high + 0.1], -1), 0.03, 0.03, 5, color, Material.METAL, label=label)


def _placed(scene: Scene, moving: bool, time_s: float) -> list[Mesh]:
    out = []
    tint = np.asarray(scene.foliage, np.float32)
    for index, thing in enumerate(scene.things):
        if (thing.kind in _MOVING) != moving:
            continue
        s = thing.s + thing.speed * time_s
        if moving and not scene.street.start < s < scene.street.end:
            continue
        mesh = template(thing.kind, thing.variant)
        position = scene.street.to_world(np.array(s), np.array(thing.t), thing.h)
        mesh = place(mesh, position, scene.street.heading(s) + thing.yaw, thing.scale, thing.palette, thing.instance, thing.label)
        if thing.kind in ("tree", "conifer", "bush"):
            mesh = _tinted(mesh, tint[index % len(tint)])
        out.append(mesh)
    return out


def _tinted(mesh: Mesh, tint: np.ndarray) -> Mesh:
    leaf = (mesh.material == Material.FOLIAGE)[:, None]
    return Mesh(**{**mesh.__dict__, "color": np.where(leaf, mesh.color * 4 * tint, mesh.color).astype(np.float32)})


def build_static(scene: Scene) -> Mesh:
    """Everything that never moves."""
    street = scene.street
    parts = [_ground(scene)]
    parts += [_building(street, house) for house in scene.buildings]
    for index, strip in enumerate(scene.strips):
        mesh = _strip(street, strip)
        parts.append(_tinted(mesh, np.asarray(scene.foliage[index % 4], np.float32)) if strip.kind == "hedge" else mesh)
    return concatenate(parts + _placed(scene, False, 0.0))


def build_moving(scene: Scene, time_s: float, world_from_ego: np.ndarray) -> tuple[Mesh | None, np.ndarray]:
    """Vehicles and people where they are at `time_s`, parked ones too, and the ego vehicle's bonnet.

    Returns:
        The mesh, and `(K, 8, 3)` corners of the axis-aligned boxes around its K things.
    """
    parts = _placed(scene, True, time_s)
    if scene.bonnet is not None:
        parts.append(_bonnet(scene, world_from_ego))
    if not parts:
        return None, np.zeros((0, 8, 3), np.float32)
    return concatenate(parts), _boxes(parts)


def _bonnet(scene: Scene, world_from_ego: np.ndarray) -> Mesh:
    assert scene.bonnet is not None
    camera = scene.camera
    mesh = template("bonnet", scene.bonnet.variant)
    at = (camera.forward_m + scene.bonnet.ahead, camera.left_m, camera.height_m - scene.bonnet.below)
    mesh = place(mesh, at, palette=(scene.bonnet.color,))
    turn = world_from_ego[:3, :3].astype(np.float32)
    vertices = mesh.vertices @ turn.T + world_from_ego[:3, 3].astype(np.float32)
    return Mesh(**{**mesh.__dict__, "vertices": vertices, "normals": mesh.normals @ turn.T})


def build_sheets(scene: Scene) -> tuple[Mesh | None, np.ndarray]:
    """Sheets that close the gaps of see-through fences, for annotations only, and `(K, 8, 3)` boxes around them."""
    parts = []
    for strip in scene.strips:
        bars_on_wall = strip.kind == "wall" and strip.variant % 5 == 0
        if strip.kind != "fence" and not bars_on_wall:
            continue
        low, high = (strip.height, strip.height + 0.9) if bars_on_wall else (0.05, strip.height)
        (s0, t0), (s1, t1) = strip.line
        steps = np.linspace(0, 1, max(2, int((s1 - s0) / 4)))
        line = np.stack([s0 + (s1 - s0) * steps, t0 + (t1 - t0) * steps], -1)
        b = Builder(FENCE)
        rings = [np.concatenate([line, np.full((len(line), 1), scene.street.kerb + h)], 1) for h in (low, high)]
        b.loft(np.stack(rings), smooth=False)
        parts.append(_bent(scene.street, b.mesh()))
    return (concatenate(parts), _boxes(parts)) if parts else (None, np.zeros((0, 8, 3), np.float32))


def _boxes(parts: list[Mesh]) -> np.ndarray:
    low, high = np.stack([part.vertices.min(0) for part in parts]), np.stack([part.vertices.max(0) for part in parts])
    pick = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], bool)
    return np.where(pick, high[:, None], low[:, None])
