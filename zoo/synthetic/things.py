"""Templates of everything that stands or moves in a street: vehicles, people, plants and street furniture.

`template(kind, variant)` is a mesh around its own origin on the ground, facing +x. Each kind has `VARIANTS` of them that
differ in shape; colours come from the palette given when it is placed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from zoo.synthetic.mesh import Builder, Material, Mesh, concatenate, place

__all__ = ["KINDS", "VARIANTS", "template"]

VARIANTS = 24
BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, PLANT, TERRAIN = 2, 3, 4, 5, 6, 7, 8, 9
PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = 11, 12, 13, 14, 15, 16, 17, 18
OTHER = 255
_DARK = (0.02, 0.02, 0.022)
_GLASS = (0.03, 0.035, 0.04)
_CHROME = (0.55, 0.55, 0.57)


def _wheels(b: Builder, xs, half_width: float, radius: float, width: float = 0.22, hub=_CHROME) -> None:
    for x in xs:
        for side in (-1, 1):
            y = side * half_width
            b.tubes([[x, y - side * width, radius]], [[x, y, radius]], radius, radius, 18, _DARK, Material.RUBBER, caps=True)
            b.tubes([[x, y, radius]], [[x, y + side * 0.012, radius]], radius * 0.64, radius * 0.55, 14, hub, Material.METAL,
                    caps=True)
            for k in range(5):
                a = k * 2 * np.pi / 5
                p = np.array([x, y + side * 0.014, radius])
                q = p + radius * 0.5 * np.array([np.cos(a), 0, np.sin(a)])
                b.tubes([p], [q], 0.03, 0.06, 3, _DARK, Material.RUBBER)


def _panel(b: Builder, x, y0, y1, z0, z1, color, material, **kwargs) -> None:
    """An upright rectangle across the vehicle at `x`."""
    b.quads(np.array([[[x, y0, z0], [x, y1, z0], [x, y1, z1], [x, y0, z1]]]), color, material, **kwargs)


def _car(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(CAR)
    style = ("hatch", "sedan", "estate", "suv", "van", "hatch", "sedan", "mini")[variant % 8]
    length = {"hatch": 4.0, "sedan": 4.6, "estate": 4.7, "suv": 4.6, "van": 5.0, "mini": 3.5}[style] * rng.uniform(0.95, 1.06)
    width = rng.uniform(1.68, 1.86) + (0.1 if style in ("suv", "van") else 0)
    height = {"hatch": 1.47, "sedan": 1.43, "estate": 1.48, "suv": 1.7, "van": 1.95, "mini": 1.5}[style] * rng.uniform(0.97, 1.04)
    sill = 0.24 if style not in ("suv", "van") else 0.32
    belt = height * rng.uniform(0.61, 0.66) if style != "van" else height * 0.56
    front, rear = length / 2, -length / 2
    hood = {"hatch": 0.95, "sedan": 1.15, "estate": 1.15, "suv": 1.05, "van": 0.62, "mini": 0.7}[style] * rng.uniform(0.9, 1.1)
    trunk = {"hatch": 0.08, "sedan": 0.85, "estate": 0.06, "suv": 0.08, "van": 0.04, "mini": 0.06}[style] * rng.uniform(0.8, 1.2)
    hood_drop = rng.uniform(0.1, 0.2)
    # Lower body: heights along the car of bonnet, waist and boot.
    keys_x = [rear, rear + 0.06, rear + 0.25, rear + max(trunk, 0.3), 0, front - hood, front - 0.45, front - 0.12, front]
    keys_z = [belt * 0.72, belt * 0.93, belt * 0.99, belt, belt, belt, belt - hood_drop * 0.7, belt - hood_drop * 1.4, belt * 0.62]
    xs = np.unique(np.concatenate([np.linspace(rear, front, 18), keys_x]))
    top = np.interp(xs, keys_x, keys_z)
    reach = np.abs(2 * xs / length)
    half = width / 2 * (1 - 0.16 * reach**8 - 0.03 * reach**2)
    bottom = sill + 0.10 * np.clip((reach - 0.9) / 0.1, 0, 1)
    mid = sill + 0.55 * (top - sill)
    profile = [
        (0.86, lambda: bottom), (0.97, lambda: bottom + 0.06), (1.0, lambda: mid), (0.985, lambda: top - 0.07),
        (0.9, lambda: top - 0.01), (0.5, lambda: top + 0.02), (0.0, lambda: top + 0.035),
    ]  # fmt: skip
    left = np.stack([np.stack([xs, half * w, z()], -1) for w, z in profile], 1)
    right = left[:, -2::-1] * [1, -1, 1]
    body = np.concatenate([left, right], 1)
    cap0, cap1 = body[:1].copy(), body[-1:].copy()
    cap0[:, :, 1:] = cap0[:, :, 1:] * [0.6, 1] ; cap0[:, :, 2] = np.clip(cap0[:, :, 2], None, belt * 0.6)
    cap0 = np.broadcast_to(body[0].mean(0), body[:1].shape)
    cap1 = np.broadcast_to(body[-1].mean(0), body[:1].shape)
    b.loft(np.concatenate([cap0, body, cap1]), (0.5, 0.5, 0.5), Material.PAINT, slot=0)
    b.box([rear + 0.15, -width * 0.42, sill - 0.1], [front - 0.15, width * 0.42, sill + 0.05], _DARK, Material.PLAIN)
    # Greenhouse.
    w0 = front - hood - 0.02
    r0 = rear + trunk
    rake = rng.uniform(0.55, 0.8) if style not in ("van", "mini") else rng.uniform(0.35, 0.5)
    rake_rear = {"hatch": 0.45, "sedan": 0.7, "estate": 0.3, "suv": 0.35, "van": 0.1, "mini": 0.3}[style] * rng.uniform(0.8, 1.2)
    roof_f, roof_r = w0 - rake, r0 + rake_rear
    pillar = np.linspace(roof_r, roof_f, 3 + (style in ("estate", "van", "suv")))[1:-1]
    stations = [r0, roof_r - 0.03, roof_r + 0.06]
    kinds = ["rear", "post"]
    for p in pillar:
        stations += [p - 0.045, p + 0.045]
        kinds += ["side", "post"]
    panel_van = style == "van" and rng.random() < 0.6
    stations += [roof_f - 0.02, roof_f + 0.04, w0]
    kinds += ["side", "post", "front"]
    xs = np.array(stations)
    z = np.interp(xs, [r0, roof_r, (roof_r + roof_f) / 2, roof_f, w0], [belt, height - 0.04, height, height - 0.03, belt - 0.01])
    lift = np.clip((z - belt) / (height - belt), 0, 1)
    base = np.full_like(xs, width / 2 * 0.93)
    top_half = base * (1 - 0.17 * lift)
    rows = [(base, np.full_like(z, belt - 0.03)), (top_half, belt - 0.03 + (z - belt + 0.03) * 0.9), (top_half * 0.9, z),
            (top_half * 0.0, z + 0.03 * lift)]
    left = np.stack([np.stack([xs, y, zz], -1) for y, zz in rows], 1)
    cabin = np.concatenate([left, left[:, -2::-1] * [1, -1, 1]], 1)
    material = np.full((len(xs) - 1, 6), Material.PAINT, np.uint8)
    for i, kind in enumerate(kinds):
        if kind == "rear":
            material[i, 1:5] = Material.GLASS if not panel_van else Material.PAINT
        elif kind == "front":
            material[i, :] = Material.GLASS
        elif kind == "side" and not (panel_van and i < len(kinds) - 3):
            material[i, [0, 5]] = Material.GLASS
    glass = material == Material.GLASS
    color = np.where(glass[..., None], _GLASS, 0.5)
    b.loft(cabin, color, material, slot=np.where(glass, -1, 0), smooth=False)
    radius = rng.uniform(0.29, 0.33) if style not in ("suv", "van") else rng.uniform(0.34, 0.37)
    axle_f, axle_r = front - rng.uniform(0.72, 0.85), rear + rng.uniform(0.68, 0.85)
    for x in (axle_f, axle_r):  # dark wheel houses behind the wheels
        for side in (-1, 1):
            y = side * width / 2
            b.tubes([[x, y * 0.6, radius + 0.02]], [[x, y * 1.004, radius + 0.02]], radius + 0.07, radius + 0.07, 16, _DARK,
                    Material.RUBBER, caps=True)
    _wheels(b, (axle_f, axle_r), width / 2 * 1.012, radius, hub=_CHROME if rng.random() < 0.7 else (0.1, 0.1, 0.1))
    # Lamps, plates, grille, bumpers, mirrors.
    lamp_z = belt * rng.uniform(0.66, 0.74)
    lw, lh = rng.uniform(0.22, 0.4), rng.uniform(0.12, 0.2)
    for side in (-1, 1):
        y = side * width * 0.36
        b.box([front - 0.22, y - lw / 2, lamp_z - lh / 2], [front - 0.0, y + lw / 2, lamp_z + lh / 2], (0.75, 0.75, 0.78), Material.HEADLIGHT)
        tail = rng.uniform(0.1, 0.2) if rng.random() < 0.7 else rng.uniform(0.25, 0.42)
        tw = 0.13 if tail < 0.21 else 0.08
        b.box([rear - 0.005, y + side * 0.06 - tw, lamp_z + 0.02], [rear + 0.2, y + side * 0.06 + tw, lamp_z + 0.02 + tail], (0.45, 0.02, 0.02), Material.TAILLIGHT)
        mx = w0 - rake * 0.35
        b.box([mx - 0.05, side * (width / 2) - 0.02, belt - 0.02], [mx + 0.1, side * (width / 2 + 0.16) - 0.02, belt + 0.13], (0.5, 0.5, 0.5),
              Material.PAINT, slot=0) if side > 0 else b.box([mx - 0.05, -(width / 2 + 0.16), belt - 0.02], [mx + 0.1, -width / 2 + 0.02, belt + 0.13], (0.5, 0.5, 0.5), Material.PAINT, slot=0)
    plate = (0.75, 0.75, 0.7) if rng.random() < 0.7 else (0.7, 0.55, 0.05)
    b.box([front - 0.05, -0.26, 0.42], [front + 0.015, 0.26, 0.53], plate, Material.SIGN)
    b.box([rear - 0.02, -0.26, belt * 0.6], [rear + 0.05, 0.26, belt * 0.6 + 0.12], plate, Material.SIGN)
    b.box([front - 0.15, -width * 0.3, 0.3], [front + 0.005, width * 0.3, 0.42 if rng.random() < 0.5 else 0.6], _DARK, Material.PLAIN)
    if rng.random() < 0.5:
        b.box([rear - 0.04, -width * 0.43, 0.33], [rear + 0.1, width * 0.43, 0.5], (0.04, 0.04, 0.04), Material.PLAIN)
        b.box([front - 0.1, -width * 0.4, 0.3], [front + 0.03, width * 0.4, 0.44], (0.04, 0.04, 0.04), Material.PLAIN)
    return b.mesh()


def _hull(b: Builder, x0, x1, width, z0, z1, windows, *, pane=1.2, slot=0, round_=0.18, stripe=None) -> None:
    """A rounded box from `x0` to `x1` with bands of windows `(low, high)` along both sides."""
    w = width / 2
    low, high = windows if windows else (z0 + 0.5 * (z1 - z0), z0 + 0.5 * (z1 - z0) + 0.01)
    zs = [z0, z0 + 0.3, low, high, z1 - round_, z1 - 0.3 * round_, z1]
    ys = [w * 0.97, w, w, w * 0.99, w * 0.985, w - 0.6 * round_, w - 1.4 * round_]
    count = max(1, int(round((x1 - x0 - 0.4) / pane)))
    edges = np.linspace(x0 + 0.2, x1 - 0.2, count + 1)
    gap = 0.05
    xs = [x0, x0 + 0.06]
    kinds = ["end"]
    for a, c in zip(edges[:-1], edges[1:]):
        xs += [a + gap, c - gap]
        kinds += ["post", "pane"]
    xs += [x1 - 0.06, x1]
    kinds += ["post", "end"]
    xs = np.array(xs)
    shrink = np.where((xs <= x0) | (xs >= x1), 0.94, 1.0)
    left = np.stack([np.stack([xs, y * shrink, np.full_like(xs, z)], -1) for y, z in zip(ys, zs)], 1)
    rings = np.concatenate([left, left[:, ::-1] * [1, -1, 1]], 1)
    material = np.full((len(xs) - 1, rings.shape[1] - 1), Material.PAINT, np.uint8)
    slots = np.full(material.shape, slot, np.int8)
    color = np.full((*material.shape, 3), 0.5)
    if stripe is not None:
        slots[:, [0, 1, -1, -2]] = stripe
    if windows:
        for i, kind in enumerate(kinds):
            if kind == "pane":
                for j in (2, 10):
                    material[i, j], slots[i, j], color[i, j] = Material.GLASS, -1, _GLASS
    ends = [np.broadcast_to(rings[k].mean(0), rings[:1].shape) for k in (0, -1)]
    material = np.concatenate([material[:1], material, material[-1:]])
    slots = np.concatenate([slots[:1], slots, slots[-1:]])
    color = np.concatenate([color[:1], color, color[-1:]])
    b.loft(np.concatenate([ends[0], rings, ends[1]]), color, material, slot=slots, smooth=False)


def _front(b: Builder, x, width, z0, z1, rng, *, back=False) -> None:
    """Windscreen, lamps, plate and bumper of a large vehicle's end at `x`."""
    s = -1 if back else 1
    _panel(b, x + s * 0.03, -width * 0.44, width * 0.44, z0, z1, _GLASS, Material.GLASS)
    lamp = Material.TAILLIGHT if back else Material.HEADLIGHT
    color = (0.45, 0.02, 0.02) if back else (0.75, 0.75, 0.78)
    for side in (-1, 1):
        y = side * width * 0.38
        b.box([min(x, x + s * 0.04), y - 0.16, 0.62], [max(x, x + s * 0.04), y + 0.16, 0.85], color, lamp)
    b.box([min(x, x + s * 0.08), -width * 0.48, 0.3], [max(x, x + s * 0.08), width * 0.48, 0.55], (0.06, 0.06, 0.06), Material.PLAIN)
    b.box([min(x, x + s * 0.1), -0.26, 0.4], [max(x, x + s * 0.1), 0.26, 0.51], (0.75, 0.75, 0.7), Material.SIGN)


def _bus(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(BUS)
    double = variant % 3 == 1
    length, width, height = rng.uniform(9, 12.5), 2.5, 4.3 if double else rng.uniform(2.9, 3.2)
    stripe = 1 if variant % 2 else None
    if double:
        _hull(b, -length / 2, length / 2, width, 0.3, 2.35, (1.15, 2.1), pane=1.5, stripe=stripe)
        _hull(b, -length / 2, length / 2, width, 2.3, height, (2.75, 3.75), pane=1.5)
        _panel(b, length / 2 + 0.03, -1.1, 1.1, 2.75, 3.8, _GLASS, Material.GLASS)
        _panel(b, -length / 2 - 0.03, -1.0, 1.0, 2.8, 3.6, _GLASS, Material.GLASS)
    else:
        _hull(b, -length / 2, length / 2, width, 0.3, height, (1.1, height - 0.65), pane=rng.uniform(1.2, 1.8), stripe=stripe)
    _front(b, length / 2, width, 1.0, 2.4, rng)
    _front(b, -length / 2, width, 1.4, 2.2, rng, back=True)
    b.box([length / 2, -0.7, 2.45], [length / 2 + 0.05, 0.7, 2.75], (0.02, 0.02, 0.02), Material.FASCIA)
    _wheels(b, (length / 2 - 2.6, -length / 2 + 3.0), width / 2 * 1.005, 0.48, 0.3, hub=(0.3, 0.3, 0.3))
    return b.mesh()


def _truck(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(TRUCK)
    style = ("box", "tanker", "flat", "box", "tipper", "box")[variant % 6]
    length = rng.uniform(5.8, 10.5)
    width = rng.uniform(2.2, 2.5)
    cab = rng.uniform(1.6, 2.2)
    height = rng.uniform(2.3, 3.1)
    front = length / 2
    _hull(b, front - cab, front, width * 0.97, 0.45, height, (height * 0.52, height * 0.82), pane=cab * 0.55)
    _front(b, front, width, height * 0.5, height * 0.84, rng)
    b.box([front, -width * 0.35, height * 0.27], [front + 0.04, width * 0.35, height * 0.42], _DARK, Material.PLAIN)
    b.box([-length / 2, -0.45, 0.55], [front - cab, 0.45, 0.85], _DARK, Material.PLAIN)
    tail = -length / 2
    x1 = front - cab - 0.12
    top = rng.uniform(2.8, 3.9)
    if style == "box":
        b.box([tail, -width / 2, 0.95], [x1, width / 2, top], (0.6, 0.6, 0.6), Material.PAINT, slot=1)
        for z in (0.95, top - 0.08):
            b.box([tail - 0.02, -width / 2 - 0.02, z], [x1, width / 2 + 0.02, z + 0.08], _CHROME, Material.METAL)
        for side in (-1, 1):
            b.box([tail + 1, side * (width / 2 + 0.008) - 0.004, 1.3], [x1 - 1, side * (width / 2 + 0.008) + 0.004, top - 0.5], (0.5, 0.5, 0.5),
                  Material.FASCIA, slot=2)
        b.box([tail - 0.02, -0.02, 0.98], [tail, 0.02, top], _DARK)
    elif style == "tanker":
        b.tubes([[tail, 0, 1.95]], [[x1, 0, 1.95]], 1.05, 1.05, 16, (0.6, 0.6, 0.6), Material.PAINT, slot=1)
        for x in (tail, x1):
            b.ellipsoid([x, 0, 1.95], [0.35, 1.05, 1.05], (0.6, 0.6, 0.6), Material.PAINT, rings=6, sides=12, slot=1)
    else:
        b.box([tail, -width / 2, 0.9], [x1, width / 2, 1.1], (0.2, 0.15, 0.1), Material.WOOD)
        rim = 1.6 if style == "tipper" else 1.35
        for y in (-width / 2, width / 2 - 0.06):
            b.box([tail, y, 1.1], [x1, y + 0.06, rim + 0.2], (0.5, 0.5, 0.5), Material.PAINT, slot=1)
        b.box([tail, -width / 2, 1.1], [tail + 0.06, width / 2, rim], (0.5, 0.5, 0.5), Material.PAINT, slot=1)
        b.box([x1 - 0.06, -width / 2, 1.1], [x1, width / 2, rim + 0.7], (0.5, 0.5, 0.5), Material.PAINT, slot=1)
        for _ in range(4):
            x, y = rng.uniform(tail + 0.8, x1 - 0.8), rng.uniform(-0.5, 0.5)
            size = rng.uniform(0.4, 0.9, 3)
            b.box([x - size[0], y - size[1] * 0.7, 1.1], [x + size[0], y + size[1] * 0.7, 1.1 + size[2]], rng.uniform(0.05, 0.5, 3), Material.PLAIN)
    for side in (-1, 1):
        b.box([tail - 0.03, side * width * 0.38 - 0.15, 0.7], [tail + 0.03, side * width * 0.38 + 0.15, 0.9], (0.45, 0.02, 0.02), Material.TAILLIGHT)
        b.box([front - 0.35, side * (width / 2 + 0.16) - 0.1, height * 0.6], [front - 0.2, side * (width / 2 + 0.16) + 0.1, height * 0.8], _DARK)
    b.box([tail - 0.05, -width * 0.46, 0.45], [tail, width * 0.46, 0.58], (0.6, 0.1, 0.1), Material.SIGN)
    axles = [front - cab * 0.55, tail + 1.4] + ([tail + 2.5] if length > 7.5 else [])
    _wheels(b, axles, width / 2 * 0.99, 0.46, 0.3, hub=(0.35, 0.35, 0.35))
    return b.mesh()


def _train(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(TRAIN)
    cars = int(rng.integers(2, 4))
    length, width, height = rng.uniform(8.5, 13), rng.uniform(2.3, 2.65), rng.uniform(3.2, 3.6)
    for i in range(cars):
        x0 = (i - cars / 2) * (length + 0.5)
        _hull(b, x0, x0 + length, width, 0.25, height, (1.25, height - 0.85), pane=rng.uniform(1.1, 1.7), stripe=1)
        b.box([x0 + 1, -width * 0.4, 0.15], [x0 + length - 1, width * 0.4, 0.4], _DARK)
        b.box([x0 + 2, -0.7, height], [x0 + length - 2, 0.7, height + 0.35], (0.3, 0.3, 0.3), Material.METAL)
        if i:
            b.box([x0 - 0.55, -width * 0.42, 0.4], [x0 + 0.05, width * 0.42, height - 0.15], (0.03, 0.03, 0.03), Material.RUBBER)
        for x in (x0 + length * 0.2, x0 + length * 0.8):
            b.box([x - 1.1, -width * 0.46, 0.02], [x + 1.1, width * 0.46, 0.35], _DARK)
    end = (cars / 2) * (length + 0.5) - 0.5
    start = -cars / 2 * (length + 0.5)
    _front(b, end, width, 1.3, height - 0.6, rng)
    _front(b, start, width, 1.3, height - 0.6, rng, back=True)
    b.box([end, -0.6, height - 0.5], [end + 0.06, 0.6, height - 0.2], _DARK, Material.FASCIA)
    b.tubes([[0, -0.4, height + 0.3], [0, 0.4, height + 0.3], [0.9, -0.6, height + 1.4]], [[0.9, -0.3, height + 1.4], [0.9, 0.3, height + 1.4],
            [0.9, 0.6, height + 1.4]], 0.04, 0.04, 4, _DARK)
    return b.mesh()


def _bonnet(rng: np.random.Generator, variant: int) -> Mesh:
    """The ego vehicle's own bonnet, 1.3 m long and 1.6 m wide; it has no class."""
    b = Builder(OTHER)
    x = np.linspace(0, 1.3, 10)
    across = np.linspace(-1, 1, 17)
    bulge = rng.uniform(0.04, 0.1)
    rib = rng.uniform(0, 0.02)
    half = 0.8 * (1 - 0.25 * (x / 1.3) ** 4)
    z = -0.12 * (x / 1.3) ** 3
    y = half[:, None] * across
    height = z[:, None] - bulge * across**4 - 0.03 * across**2 + rib * np.exp(-(((np.abs(across) - 0.6) / 0.1) ** 2))
    b.loft(np.stack([np.broadcast_to(x[:, None], y.shape), y, height], -1), (0.5, 0.5, 0.5), Material.PAINT, slot=0)
    b.box([-0.1, -0.75, -0.1], [0.02, 0.75, 0.01], _DARK, Material.RUBBER)
    return b.mesh()


def _ring(b: Builder, centre, radius, tube, color, sides=20, label=None) -> None:
    angle = np.arange(sides + 1) * 2 * np.pi / sides
    p = np.asarray(centre) + radius * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1)
    b.tubes(p[:-1], p[1:], tube, tube, 4, color, Material.RUBBER, label=label)


def _bicycle(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(BICYCLE)
    r, base = rng.uniform(0.31, 0.35), rng.uniform(1.0, 1.1)
    rear, front = np.array([-base / 2, 0, r]), np.array([base / 2, 0, r])
    for c in (rear, front):
        _ring(b, c, r, 0.02, _DARK)
        angle = np.arange(12) * np.pi / 6
        spokes = c + 0.97 * r * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1)
        b.tubes(np.repeat(c[None], 12, 0), spokes, 0.003, 0.003, 3, (0.5, 0.5, 0.5), Material.METAL)
    crank, saddle, head = np.array([-0.05, 0, r - 0.03]), np.array([-0.22, 0, 0.92]), np.array([0.36, 0, 0.88])
    neck = np.array([0.38, 0, 0.75])
    starts = [crank, crank, saddle, rear, rear, neck]
    ends = [saddle * [1, 1, 0.92], neck, neck * [1, 1, 1.04], crank, saddle * [1, 1, 0.85], front]
    if variant % 3 == 2:
        ends[2] = np.array([0.3, 0, 0.5])  # step-through frame
    b.tubes(starts, ends, 0.02, 0.018, 5, (0.3, 0.1, 0.1), Material.PAINT, slot=0)
    bar = rng.uniform(0.95, 1.08)
    b.tubes([neck, [0.34, -0.28, bar], [0.4, 0, bar]], [[0.4, 0, bar], [0.34, 0, bar], [0.34, 0.28, bar]], 0.015, 0.015, 4, _DARK)
    b.box([-0.36, -0.07, 0.93], [-0.08, 0.07, 0.99], _DARK)
    b.tubes([[-0.05, -0.1, r - 0.03]], [[-0.05, 0.1, r - 0.03]], 0.09, 0.09, 8, (0.15, 0.15, 0.15), Material.METAL, caps=True)
    if variant % 2:
        b.box([-0.75, -0.09, 0.73], [-0.3, 0.09, 0.76], (0.1, 0.1, 0.1))
        b.box([0.45, -0.16, 0.78], [0.7, 0.16, 1.0], (0.15, 0.1, 0.05), Material.WOOD) if variant % 4 == 1 else None
    b.box([-0.62, -0.03, 0.6], [-0.58, 0.03, 0.68], (0.5, 0.02, 0.02), Material.TAILLIGHT)
    return b.mesh()


def _motorcycle(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(MOTORCYCLE)
    scooter = variant % 2 == 0
    r = (0.24 if scooter else 0.31) * rng.uniform(0.93, 1.07)
    base = (1.25 if scooter else 1.42) * rng.uniform(0.93, 1.07)
    for x in (-base / 2, base / 2):
        b.tubes([[x, -0.07, r]], [[x, 0.07, r]], r, r, 16, _DARK, Material.RUBBER, caps=True)
        b.tubes([[x, -0.075, r]], [[x, 0.075, r]], r * 0.6, r * 0.6, 10, (0.3, 0.3, 0.3), Material.METAL, caps=True)
    b.ellipsoid([-0.35, 0, 0.6], [rng.uniform(0.42, 0.55), rng.uniform(0.16, 0.23), rng.uniform(0.15, 0.23)], (0.5, 0.1, 0.1), Material.PAINT, slot=0)
    b.ellipsoid([0.1, 0, 0.75 if not scooter else 0.4], [0.38, 0.19, 0.17], (0.5, 0.1, 0.1), Material.PAINT, slot=0)
    b.ellipsoid([-0.05, 0, 0.42], [0.32, 0.2, 0.22], (0.08, 0.08, 0.08), Material.METAL)
    b.box([-0.7, -0.14, 0.76], [0.0, 0.14, 0.84], _DARK, Material.RUBBER)
    if scooter or variant % 3 == 0:
        b.ellipsoid([base / 2 - 0.22, 0, 0.75], [0.14, 0.25, 0.35], (0.5, 0.1, 0.1), Material.PAINT, slot=0)
    b.tubes([[base / 2, 0, r], [0.42, -0.34, 1.02]], [[0.42, 0, 1.0], [0.42, 0.34, 1.02]], 0.035, 0.03, 5, _CHROME, Material.METAL)
    b.tubes([[-0.1, -0.22, 0.3]], [[-0.85, -0.22, 0.38]], 0.05, 0.06, 6, _CHROME, Material.METAL)
    b.box([0.5, -0.1, 0.82], [0.62, 0.1, 0.98], (0.75, 0.75, 0.78), Material.HEADLIGHT)
    b.box([-0.9, -0.07, 0.66], [-0.84, 0.07, 0.74], (0.45, 0.02, 0.02), Material.TAILLIGHT)
    if variant % 3 == 1:
        b.box([-1.0, -0.22, 0.85], [-0.6, 0.22, 1.2], (0.3, 0.1, 0.1), Material.PAINT, slot=1)
    b.box([0.48, -0.2, 1.0], [0.5, 0.2, 1.25], (0.2, 0.2, 0.22), Material.GLASS)
    return b.mesh()


def _limb(b: Builder, points, radii, slot, sides=7, material=Material.CLOTH, label=None) -> None:
    points = np.asarray(points, float)
    b.tubes(points[:-1], points[1:], np.asarray(radii[:-1]), np.asarray(radii[1:]), sides, (0.3, 0.3, 0.3), material, slot=slot, label=label)
    for p, r in zip(points[1:-1], radii[1:-1]):
        b.ellipsoid(p, [r, r, r], (0.3, 0.3, 0.3), material, rings=3, sides=6, slot=slot, label=label)


def _head(b: Builder, centre, size, rng, helmet: bool) -> None:
    c = np.asarray(centre)
    b.ellipsoid(c, [size * 0.95, size * 0.78, size * 1.2], (0.4, 0.3, 0.2), Material.SKIN, rings=6, sides=10, slot=2)
    if helmet:
        b.ellipsoid(c + [0, 0, size * 0.35], [size * 1.25, size * 1.1, size * 1.05], (0.3, 0.3, 0.3), Material.PAINT, rings=5, sides=10, slot=5)
    else:
        long = rng.random() < 0.45
        b.ellipsoid(c + [-size * 0.22, 0, size * 0.38], [size * 0.95, size * 0.9, size * 0.95], (0.05, 0.04, 0.03), Material.CLOTH, rings=5, sides=9, slot=3)
        if long:
            b.ellipsoid(c + [-size * 0.6, 0, -size * 0.5], [size * 0.5, size * 0.85, size * 1.3], (0.05, 0.04, 0.03), Material.CLOTH, rings=4, sides=8, slot=3)


def _person(rng: np.random.Generator, variant: int) -> Mesh:
    """A walking or standing person of 1.75 m; slots: top, trousers, skin, hair, shoes, bag."""
    b = Builder(PERSON)
    walking = variant % 4 != 3
    swing = rng.uniform(0.15, 0.5) * (1 if walking else 0.12) * rng.choice([-1, 1])
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
        b.ellipsoid(foot + [0.06, 0, -0.02], [0.14, 0.05, 0.05], (0.05, 0.05, 0.05), Material.CLOTH, rings=3, sides=7, slot=4)
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
    rings = np.stack([np.stack([d * np.cos(angle), w * np.sin(angle), np.full(10, zz)], -1) for d, w, zz in zip(depth, wide, z)])
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


def _seated(rng: np.random.Generator, saddle: float, bar: tuple[float, float], foot: tuple[float, float], helmet: bool) -> Mesh:
    b = Builder(RIDER)
    lean = rng.uniform(0.15, 0.55)
    hip = np.array([-0.22, 0, saddle + 0.06])
    shoulder = hip + 0.52 * np.array([np.sin(lean), 0, np.cos(lean)])
    phase = rng.uniform(-0.12, 0.12)
    for side in (-1, 1):
        p0 = hip + [0, side * 0.09, 0]
        ankle = np.array([foot[0] + side * phase, side * 0.1, foot[1] + side * phase])
        middle = (p0 + ankle) / 2
        reach = np.linalg.norm(ankle - p0)
        knee = middle + [np.sqrt(max(0.44**2 - (reach / 2) ** 2, 0.005)), side * 0.03, 0.08]
        _limb(b, [p0, knee, ankle], [0.085, 0.06, 0.045], 1)
        b.ellipsoid(ankle + [0.06, 0, -0.03], [0.13, 0.05, 0.05], (0.05, 0.05, 0.05), Material.CLOTH, rings=3, sides=7, slot=4)
        s0 = shoulder + [0, side * 0.19, -0.02]
        hand = np.array([bar[0], side * 0.24, bar[1] + 0.02])
        elbow = (s0 + hand) / 2 + [-0.03, side * 0.06, -0.08]
        _limb(b, [s0, elbow, hand], [0.055, 0.045, 0.035], 0)
        b.ellipsoid(hand, [0.04, 0.03, 0.04], (0.4, 0.3, 0.2), Material.SKIN, rings=3, sides=6, slot=2)
    angle = np.arange(10) * np.pi / 5
    rings = []
    for f, d, w in ((-0.1, 0.13, 0.17), (0.1, 0.13, 0.17), (0.5, 0.12, 0.16), (0.85, 0.14, 0.2), (1.0, 0.09, 0.18), (1.1, 0.04, 0.05)):
        c = hip + f * (shoulder - hip)
        rings.append(np.stack([c[0] + d * np.cos(angle) * np.cos(lean), w * np.sin(angle), c[2] - d * np.cos(angle) * np.sin(lean)], -1))
    b.loft(np.stack(rings), (0.3, 0.3, 0.3), Material.CLOTH, closed=True, slot=0)
    head = shoulder + [0.06, 0, 0.2]
    b.tubes([shoulder], [head], 0.055, 0.05, 7, (0.4, 0.3, 0.2), Material.SKIN, slot=2)
    _head(b, head, 0.1, rng, helmet)
    if rng.random() < 0.35:
        b.ellipsoid(shoulder * 0.6 + hip * 0.4 + [-0.18, 0, 0.02], [0.12, 0.16, 0.22], (0.1, 0.1, 0.2), Material.CLOTH, rings=4, sides=8, slot=5)
    return b.mesh()


def _cyclist(rng: np.random.Generator, variant: int) -> Mesh:
    return _seated(rng, 0.93, (0.35, 1.02), (-0.02, 0.28), variant % 2 == 0)


def _motorcyclist(rng: np.random.Generator, variant: int) -> Mesh:
    return _seated(rng, 0.8, (0.4, 1.02), (0.05, 0.3), True)


def _branches(rng, base, direction, length, radius, level, spread, out) -> None:
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
                _branches(rng, p + (q - p) * rng.uniform(0.3, 1), child, length * rng.uniform(0.45, 0.75), r1 * 0.6, level - 1, spread, out)
        p = q


def _leaves(rng, centres, size, count) -> tuple[np.ndarray, np.ndarray]:
    """Leaf sprays: `count` random triangles around each centre; returns vertices and faces."""
    n = len(centres) * count
    middle = np.repeat(centres, count, 0) + rng.normal(0, 1, (n, 3)) * size * [1.0, 1.0, 0.75]
    a, c = rng.normal(0, 1, (n, 3)), rng.normal(0, 1, (n, 3))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    c -= (a * c).sum(1, keepdims=True) * a
    c /= np.linalg.norm(c, axis=1, keepdims=True) + 1e-9
    leaf = size * rng.uniform(0.2, 0.5, (n, 1))
    vertices = np.stack([middle + a * leaf, middle - a * leaf * 0.6 + c * leaf * 0.7, middle - a * leaf * 0.6 - c * leaf * 0.7], 1)
    return vertices.reshape(-1, 3), np.arange(3 * n).reshape(-1, 3)


def _add_leaves(b: Builder, rng, centres, size, count) -> None:
    vertices, faces = _leaves(rng, np.asarray(centres), size, count)
    shade = rng.uniform(0.55, 1.35, (len(faces), 1)) * (1 + rng.normal(0, 0.12, (len(faces), 3)))
    b.add(vertices, faces, np.clip(shade * 0.25, 0.01, 1), Material.FOLIAGE, slot=-1)


def _tree(rng: np.random.Generator, variant: int) -> Mesh:
    """A broad-leaved tree 8 m high with leaves, or bare in every third variant."""
    b = Builder(PLANT)
    bare = variant % 3 == 0
    out: list = []
    trunk = rng.uniform(1.6, 2.8)
    spread = rng.uniform(0.45, 0.8)
    lean = rng.normal(0, 0.05, 2)
    start = np.array([lean[0] * trunk, lean[1] * trunk, trunk])
    b.tubes([[0, 0, -0.3]], [start], rng.uniform(0.16, 0.26), 0.15, 8, (0.14, 0.11, 0.085), Material.BARK)
    stems = int(rng.integers(1, 4))
    for _ in range(stems):
        tilt = rng.uniform(0.05, 0.5) if stems > 1 else 0.05
        turn = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
        _branches(rng, start, direction, rng.uniform(3.2, 4.6), 0.12, 3, spread, out)
    p0, p1 = np.array([o[0] for o in out]), np.array([o[1] for o in out])
    r0, r1 = np.array([o[2] for o in out]), np.array([o[3] for o in out])
    level = np.array([o[4] for o in out])
    keep = level > 0 if not bare else level >= 0
    for sides, chosen in ((6, keep & (level >= 2)), (3, keep & (level < 2))):
        if chosen.any():
            b.tubes(p0[chosen], p1[chosen], np.maximum(r0, 0.012)[chosen], np.maximum(r1, 0.008)[chosen], sides, (0.12, 0.1, 0.08), Material.BARK)
    if bare:
        tips = p1[level == 0]
        n = len(tips)
        twig = np.repeat(tips, 3, 0)
        b.tubes(twig, twig + rng.normal(0, 0.28, twig.shape) + [0, 0, 0.12], 0.009, 0.005, 3, (0.13, 0.105, 0.085), Material.BARK)
        del n
    else:
        tips = p1[level <= 1]
        if len(tips) > 260:
            tips = tips[rng.permutation(len(tips))[:260]]
        _add_leaves(b, rng, tips, rng.uniform(0.3, 0.42), 26)
    mesh = b.mesh()
    return place(mesh, (0, 0, 0), scale=8.0 / max(mesh.vertices[:, 2].max(), 1))


def _conifer(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(PLANT)
    height = 9.0
    b.tubes([[0, 0, -0.3]], [[0, 0, height * 0.95]], 0.2, 0.03, 7, (0.1, 0.07, 0.05), Material.BARK)
    z = np.sort(rng.uniform(0.8, height, 190))
    wide = rng.uniform(0.2, 0.33)
    column = variant % 3 == 0
    r = (height - z) * wide if not column else np.minimum(0.9, (height - z) * 0.5 + 0.1)
    f = np.sqrt(rng.uniform(0.2, 1, 190))
    a = rng.uniform(0, 2 * np.pi, 190)
    centres = np.stack([r * f * np.cos(a), r * f * np.sin(a), z - 0.25 * r * f], -1)
    _add_leaves(b, rng, centres, 0.3, 13)
    return b.mesh()


def _bush(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(PLANT)
    count = int(rng.integers(30, 60))
    p = rng.normal(0, 1, (count, 3))
    p = p / np.linalg.norm(p, axis=1, keepdims=True) * rng.uniform(0.4, 1, (count, 1)) ** 0.5
    centres = p * [0.8, 0.8, 0.6] + [0, 0, 0.6]
    _add_leaves(b, rng, centres, 0.2, 16)
    return b.mesh()


def _grass(rng: np.random.Generator, variant: int) -> Mesh:
    """A patch of tall blades, 1 m across."""
    b = Builder(TERRAIN)
    n = 60
    root = np.concatenate([rng.uniform(-0.5, 0.5, (n, 2)), np.zeros((n, 1))], 1)
    tip = root + np.concatenate([rng.normal(0, 0.1, (n, 2)), rng.uniform(0.08, 0.3, (n, 1))], 1)
    side = rng.normal(0, 0.015, (n, 3)) * [1, 1, 0]
    vertices = np.stack([root - side, root + side, tip], 1).reshape(-1, 3)
    b.add(vertices, np.arange(3 * n).reshape(-1, 3), rng.uniform(0.6, 1.2, (n, 1)) * [0.16, 0.2, 0.07], Material.FOLIAGE)
    return b.mesh()


def _lamp(rng: np.random.Generator, variant: int) -> Mesh:
    """A street lamp; the arm points to +x."""
    b = Builder(POLE)
    style = variant % 4
    height = rng.uniform(6.5, 10) if style != 3 else rng.uniform(3.2, 4.5)
    color = [(0.35, 0.36, 0.36), (0.06, 0.07, 0.07), (0.12, 0.16, 0.13), (0.05, 0.05, 0.05)][int(rng.integers(4))]
    b.tubes([[0, 0, 0], [0, 0, 1.2]], [[0, 0, 1.2], [0, 0, height]], [0.1, 0.075], [0.1, 0.05], 8, color, Material.METAL)
    if style == 3:
        b.ellipsoid([0, 0, height + 0.15], [0.2, 0.2, 0.25], (0.8, 0.8, 0.75), Material.LAMP, rings=5, sides=8)
        b.tubes([[0, 0, height + 0.35]], [[0, 0, height + 0.5]], 0.25, 0.05, 8, color, Material.METAL)
    else:
        reach = rng.uniform(0.8, 2.2)
        rise = rng.uniform(0.0, 0.8)
        mid = [reach * 0.4, 0, height + rise * 0.8]
        tip = [reach, 0, height + rise]
        b.tubes([[0, 0, height - 0.05], mid], [mid, tip], 0.045, 0.04, 6, color, Material.METAL)
        b.box([reach - 0.1, -0.14, height + rise - 0.06], [reach + 0.6, 0.14, height + rise + 0.08], color, Material.METAL)
        b.box([reach, -0.11, height + rise - 0.09], [reach + 0.5, 0.11, height + rise - 0.06], (0.8, 0.8, 0.75), Material.LAMP)
    return b.mesh()


def _signal_head(b: Builder, x, y, z, state: int, facing: int = -1, pedestrian: bool = False) -> None:
    lenses = 2 if pedestrian else 3
    h, w, d = 0.3 * lenses, 0.16, 0.14
    b.box([x - d, y - w, z], [x + d, y + w, z + h], (0.025, 0.03, 0.025), Material.PLAIN, label=LIGHT)
    colors = [(0.02, 0.8, 0.25), (0.9, 0.5, 0.02), (0.9, 0.03, 0.02)] if lenses == 3 else [(0.02, 0.8, 0.25), (0.9, 0.03, 0.02)]
    for i in range(lenses):
        zc = z + 0.15 + 0.3 * i
        lit = i == state % lenses
        c = np.array(colors[i]) * (1 if lit else 0.08)
        xf = x + facing * (d + 0.012)
        a = np.arange(12) * np.pi / 6
        disc = np.stack([np.full(12, xf), y + 0.105 * np.cos(a), zc + 0.105 * np.sin(a)], -1)
        k = np.arange(1, 11)
        b.add(disc, np.stack([0 * k, k, k + 1], 1), c, Material.SIGNAL if lit else Material.PLAIN, label=LIGHT)
        b.box([min(xf, xf + facing * 0.16), y - 0.13, zc + 0.11], [max(xf, xf + facing * 0.16), y + 0.13, zc + 0.13], (0.02, 0.02, 0.02), label=LIGHT)


def _traffic_light(rng: np.random.Generator, variant: int) -> Mesh:
    """A signal facing -x (towards traffic that drives along +x); variants with an arm reach over +y."""
    b = Builder(POLE)
    height = rng.uniform(2.9, 3.6)
    color = [(0.3, 0.31, 0.31), (0.05, 0.05, 0.05), (0.35, 0.33, 0.1)][int(rng.integers(3))]
    state = int(rng.integers(3))
    arm = variant % 4 == 1
    if arm:
        height = rng.uniform(5.4, 6.3)
    b.tubes([[0, 0, 0]], [[0, 0, height]], 0.065 if not arm else 0.1, 0.06, 8, color, Material.METAL)
    if arm:
        reach = rng.uniform(2.5, 5)
        b.tubes([[0, 0, height - 0.2]], [[0, reach, height]], 0.07, 0.05, 6, color, Material.METAL)
        _signal_head(b, -0.1, reach - 0.2, height - 1.0, state)
        _signal_head(b, -0.15, 0.0, 2.5, state)
    else:
        _signal_head(b, -0.05, 0, height - 0.75, state)
    if variant % 3 == 0:
        _signal_head(b, 0.0, 0.22, 2.0, state, 1, True)
    if variant % 3 == 1:
        _signal_head(b, 0.05, -0.05, 2.3, state + 1, 1)
    if variant % 2:
        b.box([-0.12, -0.3, height - 0.9], [-0.1, 0.3, height + 0.35], (0.02, 0.02, 0.02), label=LIGHT)
    b.box([-0.1, -0.07, 0.95], [-0.05, 0.07, 1.2], (0.5, 0.4, 0.03))
    return b.mesh()


def _plate(b: Builder, shape: str, x: float, z: float, size: float, face, rim, symbol) -> None:
    """A sign plate at height `z` facing -x, with a rim and a simple symbol; its back is grey metal."""
    count = {"circle": 20, "triangle": 3, "yield": 3, "octagon": 8, "diamond": 4, "square": 4, "wide": 4, "tall": 4}[shape]
    turn = {"circle": 0, "triangle": np.pi / 2, "yield": -np.pi / 2, "octagon": np.pi / 8, "diamond": 0}.get(shape, np.pi / 4)
    a = np.arange(count) * 2 * np.pi / count + turn
    stretch = {"wide": (1.9, 0.8), "tall": (0.9, 1.3)}.get(shape, (1.0, 1.0))

    def fan(scale, dx, color, material=Material.SIGN):
        disc = np.stack([np.full(count, x + dx), size * scale * stretch[0] * np.cos(a), z + size * scale * stretch[1] * np.sin(a)], -1)
        k = np.arange(1, count - 1)
        b.add(disc, np.stack([0 * k, k, k + 1], 1), color, material, label=SIGN, uv=disc[:, 1:] - [0, z])

    fan(1.0, 0.012, (0.35, 0.36, 0.37), Material.METAL)
    fan(1.0, 0.0, rim)
    fan(0.86 if shape not in ("triangle", "yield") else 0.72, -0.006, face)
    low = -0.25 if shape != "yield" else 0.0
    for y0, z0, y1, z1 in symbol:
        b.quads(np.array([[[x - 0.012, y0 * size, z + (z0 + low) * size], [x - 0.012, y1 * size, z + (z0 + low) * size],
                           [x - 0.012, y1 * size, z + (z1 + low) * size], [x - 0.012, y0 * size, z + (z1 + low) * size]]]),
                (0.02, 0.02, 0.02) if sum(face) > 1 else (0.85, 0.85, 0.85), Material.SIGN, label=SIGN)


def _sign(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(POLE)
    height = rng.uniform(2.1, 3.0)
    pole = rng.choice([0.3, 0.45, 0.2])
    b.tubes([[0.05, 0, 0]], [[0.05, 0, height + 0.25]], 0.035, 0.035, 7, (pole, pole, pole), Material.METAL)
    white, red, blue, yellow = (0.8, 0.8, 0.8), (0.55, 0.02, 0.03), (0.02, 0.1, 0.45), (0.8, 0.55, 0.02)
    green = (0.02, 0.25, 0.1)
    kinds = [
        ("circle", white, red), ("triangle", white, red), ("circle", blue, white), ("square", blue, white), ("yield", white, red),
        ("octagon", red, white), ("diamond", yellow, white), ("tall", white, (0.1, 0.1, 0.1)), ("wide", green, white), ("circle", red, red),
        ("wide", white, (0.05, 0.05, 0.05)), ("square", yellow, (0.02, 0.02, 0.02)), ("tall", blue, white), ("circle", yellow, red),
    ]  # fmt: skip
    for i in range(2 if variant % 4 == 0 else 1):
        shape, face, rim = kinds[(variant + 5 * i) % len(kinds)]
        size = rng.uniform(0.28, 0.42) * (1.15 if shape in ("triangle", "yield") else 1)
        symbol = []
        for _ in range(int(rng.integers(1, 4))):
            y, z = rng.uniform(-0.35, 0.2), rng.uniform(-0.2, 0.3)
            symbol.append((y, z, y + rng.uniform(0.1, 0.4), z + rng.uniform(0.1, 0.4)))
        _plate(b, shape, 0.0, height - i * 0.8, size, face, rim, symbol)
    return b.mesh()


def _gantry(rng: np.random.Generator, variant: int) -> Mesh:
    """A large direction board on two posts."""
    b = Builder(POLE)
    w, h, z = rng.uniform(1.2, 2.6), rng.uniform(0.8, 1.6), rng.uniform(1.2, 2.4)
    color = [(0.02, 0.12, 0.4), (0.02, 0.25, 0.1), (0.75, 0.75, 0.72), (0.65, 0.5, 0.05)][variant % 4]
    for y in (-w * 0.35, w * 0.35):
        b.tubes([[0.08, y, 0]], [[0.08, y, z + h]], 0.05, 0.05, 7, (0.4, 0.4, 0.4), Material.METAL)
    b.box([0.02, -w / 2, z], [0.03, w / 2, z + h], (0.35, 0.36, 0.37), Material.METAL, label=SIGN)
    b.quads(np.array([[[0.0, -w / 2, z], [0.0, w / 2, z], [0.0, w / 2, z + h], [0.0, -w / 2, z + h]]]), color, Material.FASCIA, label=SIGN)
    return b.mesh()


def _bollard(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(POLE)
    color = [(0.04, 0.04, 0.04), (0.4, 0.4, 0.4), (0.5, 0.05, 0.03), (0.3, 0.25, 0.2)][variant % 4]
    r, h = rng.uniform(0.05, 0.11), rng.uniform(0.75, 1.1)
    b.tubes([[0, 0, 0], [0, 0, h * 0.75]], [[0, 0, h * 0.75], [0, 0, h * 0.85]], r, r, 8, [0, 0, 0] if False else color, Material.METAL)
    b.ellipsoid([0, 0, h * 0.9], [r * 1.15, r * 1.15, h * 0.1], color if variant % 2 else (0.7, 0.7, 0.7), Material.METAL, rings=4, sides=8)
    return b.mesh()


def _mast(rng: np.random.Generator, variant: int) -> Mesh:
    """A wooden or concrete mast for wires."""
    b = Builder(POLE)
    h = rng.uniform(7, 9.5)
    wood = variant % 2
    b.tubes([[0, 0, 0]], [[0, 0, h]], 0.14, 0.1, 8, (0.16, 0.12, 0.08) if wood else (0.4, 0.4, 0.38), Material.BARK if wood else Material.CONCRETE)
    b.box([-0.06, -0.9, h - 0.6], [0.06, 0.9, h - 0.48], (0.16, 0.12, 0.08))
    return b.mesh()


def _bin(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(OTHER)
    color = [(0.02, 0.12, 0.05), (0.05, 0.05, 0.06), (0.03, 0.06, 0.2), (0.35, 0.35, 0.3), (0.4, 0.05, 0.03)][variant % 5]
    w, h = rng.uniform(0.5, 0.8), rng.uniform(0.9, 1.3)
    b.box([-w / 2, -w / 2, 0.08], [w / 2, w / 2, h], color, Material.PLAIN)
    b.box([-w / 2 - 0.04, -w / 2 - 0.04, h], [w / 2 + 0.04, w / 2 + 0.04, h + 0.08], color, Material.PLAIN)
    return b.mesh()


def _bench(rng: np.random.Generator, variant: int) -> Mesh:
    b = Builder(OTHER)
    for k in range(4):
        b.box([-0.1 + 0.11 * k, -0.8, 0.43], [-0.02 + 0.11 * k, 0.8, 0.47], (0.2, 0.12, 0.06), Material.WOOD)
    for k in range(3):
        b.box([-0.18, -0.8, 0.55 + 0.13 * k], [-0.15, 0.8, 0.64 + 0.13 * k], (0.2, 0.12, 0.06), Material.WOOD)
    for y in (-0.6, 0.6):
        b.box([-0.18, y - 0.03, 0], [0.3, y + 0.03, 0.43], _DARK)
    return b.mesh()


def _shelter(rng: np.random.Generator, variant: int) -> Mesh:
    """A bus shelter, open towards +x."""
    b = Builder(OTHER)
    for y in (-1.8, 0, 1.8):
        b.box([-0.7, y - 0.04, 0], [-0.62, y + 0.04, 2.4], (0.1, 0.1, 0.1), Material.METAL)
    b.box([-0.8, -1.95, 2.4], [0.8, 1.95, 2.5], (0.15, 0.15, 0.15), Material.METAL)
    b.box([-0.68, -1.8, 0.3], [-0.66, 1.8, 2.2], (0.2, 0.24, 0.25), Material.GLASS)
    b.box([-0.6, 1.8, 0.3], [0.5, 1.88, 2.1], (0.5, 0.4, 0.3), Material.FASCIA)
    b.box([-0.6, -1.4, 0.45], [-0.25, 1.2, 0.5], (0.3, 0.3, 0.3))
    return b.mesh()


KINDS: dict[str, Callable[[np.random.Generator, int], Mesh]] = {
    "car": _car, "truck": _truck, "bus": _bus, "train": _train, "motorcycle": _motorcycle, "bicycle": _bicycle,
    "person": _person, "cyclist": _cyclist, "motorcyclist": _motorcyclist, "tree": _tree, "conifer": _conifer, "bush": _bush,
    "grass": _grass, "lamp": _lamp, "traffic_light": _traffic_light, "sign": _sign, "board": _gantry, "bollard": _bollard,
    "mast": _mast, "bin": _bin, "bonnet": _bonnet, "bench": _bench, "shelter": _shelter,
}  # fmt: skip


@lru_cache(maxsize=1024)
def template(kind: str, variant: int) -> Mesh:
    """The mesh of one variant of one kind, made once per process."""
    number = list(KINDS).index(kind)
    return KINDS[kind](np.random.default_rng([771, number, variant]), variant)
