"""Cars, trucks, buses and trains, each a function from a random generator and a variant to a mesh facing +x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from zoo.synthetic.shapes.mesh import Builder, Mesh, Rgb
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["CAR_STYLES", "bonnet", "bus", "car", "train", "truck"]

_DARK = (0.02, 0.02, 0.022)
_GLASS = (0.03, 0.035, 0.04)
_CHROME = (0.55, 0.55, 0.57)
_LAMP_GLASS = (0.75, 0.75, 0.78)
_TAIL_GLASS = (0.45, 0.02, 0.02)
_BUMPER = (0.04, 0.04, 0.04)


def _wheels(
    b: Builder, xs: Sequence[float], half_width: float, radius: float, width: float = 0.22, hub: Rgb = _CHROME
) -> None:
    for x in xs:
        for side in (-1, 1):
            y = side * half_width
            b.tubes(
                [[x, y - side * width, radius]], [[x, y, radius]], radius, radius, 18, _DARK, Material.RUBBER, caps=True
            )
            b.tubes(
                [[x, y, radius]],
                [[x, y + side * 0.012, radius]],
                radius * 0.64,
                radius * 0.55,
                14,
                hub,
                Material.METAL,
                caps=True,
            )
            for k in range(5):
                a = k * 2 * np.pi / 5
                p = np.array([x, y - side * 0.035, radius])  # flat enough for the wheel to stay below the body's side
                q = p + radius * 0.5 * np.array([np.cos(a), 0, np.sin(a)])
                b.tubes([p], [q], 0.03, 0.06, 3, _DARK, Material.RUBBER)


def _panel(
    b: Builder, x: float, y0: float, y1: float, z0: float, z1: float, color: Rgb, material: int, **kwargs: Any
) -> None:
    """An upright rectangle across the vehicle at `x`."""
    b.quads(np.array([[[x, y0, z0], [x, y1, z0], [x, y1, z1], [x, y0, z1]]]), color, material, **kwargs)


@dataclass(frozen=True, kw_only=True)
class _Build:
    """One build of car, in metres: `hood` is the bonnet's length, `trunk` the boot's, `rear_rake` the slope of the
    rear window, how much farther ahead its top lies than its bottom."""

    length: float
    height: float
    hood: float
    trunk: float
    rear_rake: float
    tall: bool = False  # stands higher on larger wheels
    steep: bool = False  # windscreen
    long_roof: bool = False  # one more pillar


_BUILDS = {
    "hatch": _Build(length=4.0, height=1.47, hood=0.95, trunk=0.08, rear_rake=0.45),
    "sedan": _Build(length=4.6, height=1.43, hood=1.15, trunk=0.85, rear_rake=0.7),
    "estate": _Build(length=4.7, height=1.48, hood=1.15, trunk=0.06, rear_rake=0.3, long_roof=True),
    "suv": _Build(length=4.6, height=1.7, hood=1.05, trunk=0.08, rear_rake=0.35, tall=True, long_roof=True),
    "van": _Build(length=5.0, height=1.95, hood=0.62, trunk=0.04, rear_rake=0.1, tall=True, steep=True, long_roof=True),
    "mini": _Build(length=3.5, height=1.5, hood=0.7, trunk=0.06, rear_rake=0.3, steep=True),
}
CAR_STYLES = ("hatch", "sedan", "estate", "suv", "van", "hatch", "sedan", "mini")
"""Build of variant k: entry k % 8."""


@dataclass(frozen=True, kw_only=True)
class _CarSize:
    """Measures of one car: metres, x from its middle, heights from the ground; `belt` is the windows' lower edge."""

    style: str
    build: _Build
    length: float
    width: float
    height: float
    sill: float
    belt: float
    hood: float
    trunk: float
    hood_drop: float

    @property
    def front(self) -> float:
        return self.length / 2

    @property
    def rear(self) -> float:
        return -self.length / 2

    @property
    def windscreen(self) -> float:
        """x of its lower edge."""
        return self.front - self.hood - 0.02


def _car_size(rng: np.random.Generator, style: str) -> _CarSize:
    build = _BUILDS[style]
    length = build.length * rng.uniform(0.95, 1.06)
    width = rng.uniform(1.68, 1.86) + (0.1 if build.tall else 0)
    height = build.height * rng.uniform(0.97, 1.04)
    return _CarSize(
        style=style,
        build=build,
        length=length,
        width=width,
        height=height,
        sill=0.32 if build.tall else 0.24,
        belt=height * rng.uniform(0.61, 0.66) if style != "van" else height * 0.56,
        hood=build.hood * rng.uniform(0.9, 1.1),
        trunk=build.trunk * rng.uniform(0.8, 1.2),
        hood_drop=rng.uniform(0.1, 0.2),
    )


def car(rng: np.random.Generator, variant: int) -> Mesh:
    """A car of one of six builds; slot 0 is its paint."""
    b = Builder(Label.CAR)
    size = _car_size(rng, CAR_STYLES[variant % len(CAR_STYLES)])
    _car_body(b, size)
    rake = _car_cabin(b, size, rng)
    _car_interior(b, size, rake)
    _car_wheels(b, size, rng)
    _car_lamps_and_mirrors(b, size, rake, rng)
    _car_plates_and_bumpers(b, size, rng)
    return b.mesh()


def _car_body(b: Builder, size: _CarSize) -> None:
    """The lower body: rings across the car whose tops follow bonnet, waist and boot."""
    front, rear, belt, drop = size.front, size.rear, size.belt, size.hood_drop
    outline = (
        (rear, belt * 0.72),
        (rear + 0.06, belt * 0.93),
        (rear + 0.25, belt * 0.99),
        (rear + max(size.trunk, 0.3), belt),
        (0, belt),
        (front - size.hood, belt),
        (front - 0.45, belt - drop * 0.7),
        (front - 0.12, belt - drop * 1.4),
        (front, belt * 0.62),
    )
    keys_x, keys_z = zip(*outline)
    xs = np.unique(np.concatenate([np.linspace(rear, front, 18), keys_x]))
    top = np.interp(xs, keys_x, keys_z)
    reach = np.abs(2 * xs / size.length)
    half = size.width / 2 * (1 - 0.16 * reach**8 - 0.03 * reach**2)
    bottom = size.sill + 0.10 * np.clip((reach - 0.9) / 0.1, 0, 1)
    mid = size.sill + 0.55 * (top - size.sill)
    profile = (  # share of the half width, and height, from the sill up to the middle of the top
        (0.86, bottom),
        (0.97, bottom + 0.06),
        (1.0, mid),
        (0.985, top - 0.07),
        (0.9, top - 0.01),
        (0.5, top + 0.02),
        (0.0, top + 0.035),
    )
    left = np.stack([np.stack([xs, half * w, z], -1) for w, z in profile], 1)
    body = np.concatenate([left, left[:, -2::-1] * [1, -1, 1]], 1)
    ends = [np.broadcast_to(body[k].mean(0), body[:1].shape) for k in (0, -1)]
    b.loft(np.concatenate([ends[0], body, ends[1]]), (0.5, 0.5, 0.5), Material.PAINT, slot=0)
    _car_seams(b, size, xs, left[:, 1:4])
    low, high = [rear + 0.15, -size.width * 0.42, size.sill - 0.1], [front - 0.15, size.width * 0.42, size.sill + 0.05]
    b.box(low, high, _DARK, Material.PLAIN)


def _car_seams(b: Builder, size: _CarSize, xs: np.ndarray, side: np.ndarray) -> None:
    """Gaps around the doors and their handles; `(X, 3, 3)` points of the left side at stations `xs`, from the sill."""
    first, last = size.windscreen - 0.12, size.rear + max(size.trunk, 0.3) + 0.35
    for x in np.linspace(first, last, 3):
        line = np.array([[np.interp(x, xs, side[:, row, axis]) for axis in range(3)] for row in range(3)])
        line[:, 1] += 0.003
        for mirror in (1, -1):
            strip = line * [1, mirror, 1]
            for low, high in pairwise(strip):
                edge = np.array([0.007, 0, 0])
                b.quads(np.array([[low - edge, low + edge, high + edge, high - edge]]), _DARK, Material.PLAIN)
            if x > last:
                handle = strip[2] - [0.14, 0, 0.06]
                out = [0.0, mirror * 0.025, 0.02]
                low, high = np.minimum(handle, handle + out), np.maximum(handle + [0.12, 0, 0], handle + out)
                b.box(low, high + [0.0, 0, 0.0], _DARK, Material.PLAIN)


def _car_cabin(b: Builder, size: _CarSize, rng: np.random.Generator) -> float:
    """Windows, pillars and roof; returns how far the windscreen leans back, metres."""
    build, belt, height = size.build, size.belt, size.height
    screen, boot = size.windscreen, size.rear + size.trunk
    rake = rng.uniform(0.35, 0.5) if build.steep else rng.uniform(0.55, 0.8)
    roof_front, roof_rear = screen - rake, boot + build.rear_rake * rng.uniform(0.8, 1.2)
    stations = [boot, roof_rear - 0.03, roof_rear + 0.06]
    kinds = ["rear", "post"]  # what lies between one station and the next
    for pillar in np.linspace(roof_rear, roof_front, 3 + build.long_roof)[1:-1]:
        stations += [pillar - 0.045, pillar + 0.045]
        kinds += ["side", "post"]
    panel_van = size.style == "van" and rng.random() < 0.6  # sheet metal behind the front seats
    stations += [roof_front - 0.02, roof_front + 0.04, screen]
    kinds += ["side", "post", "front"]
    xs = np.array(stations)
    z = np.interp(
        xs,
        [boot, roof_rear, (roof_rear + roof_front) / 2, roof_front, screen],
        [belt, height - 0.04, height, height - 0.03, belt - 0.01],
    )
    lift = np.clip((z - belt) / (height - belt), 0, 1)
    base = np.full_like(xs, size.width / 2 * 0.93)
    top_half = base * (1 - 0.17 * lift)
    rows = [
        (base, np.full_like(z, belt - 0.03)),
        (top_half, belt - 0.03 + (z - belt + 0.03) * 0.9),
        (top_half * 0.9, z),
        (top_half * 0.0, z + 0.03 * lift),
    ]
    left = np.stack([np.stack([xs, y, zz], -1) for y, zz in rows], 1)
    cabin = np.concatenate([left, left[:, -2::-1] * [1, -1, 1]], 1)
    # Six strips around the cabin: 0 and 5 are the side windows, those between them the roof.
    glass = np.zeros((len(xs) - 1, 6), bool)
    for i, kind in enumerate(kinds):
        if kind == "rear":
            glass[i, 1:5] = not panel_van
        elif kind == "front":
            glass[i, :] = True
        elif kind == "side" and not (panel_van and i < len(kinds) - 3):
            glass[i, [0, 5]] = True
    material = np.where(glass, Material.GLASS, Material.PAINT).astype(np.uint8)
    color = np.where(glass[..., None], _GLASS, 0.5)
    b.loft(cabin, color, material, slot=np.where(glass, -1, 0), smooth=False)
    return rake


def _car_interior(b: Builder, size: _CarSize, rake: float) -> None:
    """Dashboard, parcel shelf and seats, as far as they can be seen through the windows."""
    half, belt, top = size.width * 0.42, size.belt, size.height
    boot, screen = size.rear + size.trunk + 0.12, size.windscreen - 0.14
    b.box([boot, -half, belt - 0.04], [screen, half, belt + 0.045], (0.03, 0.03, 0.032), Material.CLOTH)
    front, back = screen - rake - 0.45, boot + 0.45
    for x, centres, width in ((front, (-0.36, 0.36), 0.46), (back, (-0.36, 0.36), 0.68)):
        if x < boot + 0.3 or (x == back and front - back < 0.6):
            continue
        for y in centres:
            rest = min(top - 0.3, belt + 0.3)
            b.box([x - 0.1, y - width / 2, belt], [x + 0.02, y + width / 2, rest], (0.05, 0.05, 0.055), Material.CLOTH)
            low, high = [x - 0.09, y - 0.13, rest], [x, y + 0.13, min(top - 0.1, rest + 0.17)]
            b.box(low, high, (0.05, 0.05, 0.055), Material.CLOTH)


def _car_wheels(b: Builder, size: _CarSize, rng: np.random.Generator) -> None:
    radius = rng.uniform(0.34, 0.37) if size.build.tall else rng.uniform(0.29, 0.33)
    axles = size.front - rng.uniform(0.72, 0.85), size.rear + rng.uniform(0.68, 0.85)
    for x in axles:  # dark wheel houses behind the wheels, clear of the ground
        for side in (-1, 1):
            y = side * size.width / 2
            inner, outer = [x, y * 0.6, radius + 0.12], [x, y * 1.004, radius + 0.12]
            b.tubes([inner], [outer], radius + 0.02, radius + 0.02, 16, _DARK, Material.RUBBER, caps=True)
    _wheels(b, axles, size.width / 2 * 1.012, radius, hub=_CHROME if rng.random() < 0.7 else (0.1, 0.1, 0.1))


def _car_lamps_and_mirrors(b: Builder, size: _CarSize, rake: float, rng: np.random.Generator) -> None:
    front, rear, belt, width = size.front, size.rear, size.belt, size.width
    lamp_z = belt * rng.uniform(0.66, 0.74)
    lw, lh = rng.uniform(0.22, 0.4), rng.uniform(0.12, 0.2)
    mirror_x = size.windscreen - rake * 0.35
    for side in (-1, 1):
        y = side * width * 0.36
        low, high = [front - 0.22, y - lw / 2, lamp_z - lh / 2], [front - 0.0, y + lw / 2, lamp_z + lh / 2]
        b.box(low, high, _LAMP_GLASS, Material.HEADLIGHT)
        tail = rng.uniform(0.1, 0.2) if rng.random() < 0.7 else rng.uniform(0.25, 0.42)
        half = 0.13 if tail < 0.21 else 0.08
        y += side * 0.06
        low, high = [rear - 0.005, y - half, lamp_z + 0.02], [rear + 0.2, y + half, lamp_z + 0.02 + tail]
        b.box(low, high, _TAIL_GLASS, Material.TAILLIGHT)
        # The left mirror is 2 cm shorter than the right one: a slip that is kept, as the scenes must not change.
        y0, y1 = (width / 2 - 0.02, width / 2 + 0.16 - 0.02) if side > 0 else (-(width / 2 + 0.16), -width / 2 + 0.02)
        b.box(
            [mirror_x - 0.05, y0, belt - 0.02],
            [mirror_x + 0.1, y1, belt + 0.13],
            (0.5, 0.5, 0.5),
            Material.PAINT,
            slot=0,
        )


def _car_plates_and_bumpers(b: Builder, size: _CarSize, rng: np.random.Generator) -> None:
    front, rear, width, plate_z = size.front, size.rear, size.width, size.belt * 0.6
    plate = (0.75, 0.75, 0.7) if rng.random() < 0.7 else (0.7, 0.55, 0.05)
    b.box([front - 0.05, -0.26, 0.42], [front + 0.015, 0.26, 0.53], plate, Material.SIGN)
    b.box([rear - 0.02, -0.26, plate_z], [rear + 0.05, 0.26, plate_z + 0.12], plate, Material.SIGN)
    grille_top = 0.42 if rng.random() < 0.5 else 0.6
    b.box([front - 0.15, -width * 0.3, 0.3], [front + 0.005, width * 0.3, grille_top], _DARK, Material.PLAIN)
    if rng.random() < 0.5:
        b.box([rear - 0.04, -width * 0.43, 0.33], [rear + 0.1, width * 0.43, 0.5], _BUMPER, Material.PLAIN)
        b.box([front - 0.1, -width * 0.4, 0.3], [front + 0.03, width * 0.4, 0.44], _BUMPER, Material.PLAIN)


def _hull(
    b: Builder,
    x0: float,
    x1: float,
    width: float,
    z0: float,
    z1: float,
    windows: tuple[float, float],
    *,
    pane: float = 1.2,
    slot: int = 0,
    round_: float = 0.18,
    stripe: int | None = None,
) -> None:
    """A rounded box from `x0` to `x1` with bands of windows `(low, high)` along both sides."""
    w = width / 2
    low, high = windows if windows else (z0 + 0.5 * (z1 - z0), z0 + 0.5 * (z1 - z0) + 0.01)
    zs = [z0, z0 + 0.3, low, high, z1 - round_, z1 - 0.3 * round_, z1]
    ys = [w * 0.97, w, w, w * 0.99, w * 0.985, w - 0.6 * round_, w - 1.4 * round_]
    count = max(1, round((x1 - x0 - 0.4) / pane))
    edges = np.linspace(x0 + 0.2, x1 - 0.2, count + 1)
    gap = 0.05
    xs = [x0, x0 + 0.06]
    kinds = ["end"]
    for a, c in pairwise(edges):
        xs += [a + gap, c - gap]
        kinds += ["post", "pane"]
    xs += [x1 - 0.06, x1]
    kinds += ["post", "end"]
    stations = np.array(xs)
    shrink = np.where((stations <= x0) | (stations >= x1), 0.94, 1.0)
    left = np.stack([np.stack([stations, y * shrink, np.full_like(stations, z)], -1) for y, z in zip(ys, zs)], 1)
    rings = np.concatenate([left, left[:, ::-1] * [1, -1, 1]], 1)
    material = np.full((len(stations) - 1, rings.shape[1] - 1), Material.PAINT, np.uint8)
    slots = np.full(material.shape, slot, np.int8)
    color = np.full((*material.shape, 3), 0.5)
    if stripe is not None:
        slots[:, [0, 1, -1, -2]] = stripe  # below the windows, on both sides
    if windows:
        for i, kind in enumerate(kinds):
            if kind == "pane":
                for j in (2, 10):  # the strips between `low` and `high`, on the left and on the right
                    material[i, j], slots[i, j], color[i, j] = Material.GLASS, -1, _GLASS
    ends = [np.broadcast_to(rings[k].mean(0), rings[:1].shape) for k in (0, -1)]
    material = np.concatenate([material[:1], material, material[-1:]])
    slots = np.concatenate([slots[:1], slots, slots[-1:]])
    color = np.concatenate([color[:1], color, color[-1:]])
    b.loft(np.concatenate([ends[0], rings, ends[1]]), color, material, slot=slots, smooth=False)


def _front(
    b: Builder, x: float, width: float, z0: float, z1: float, rng: np.random.Generator, *, back: bool = False
) -> None:
    """Windscreen, lamps, plate and bumper of a large vehicle's end at `x`."""
    s = -1 if back else 1
    _panel(b, x + s * 0.03, -width * 0.44, width * 0.44, z0, z1, _GLASS, Material.GLASS)
    lamp = Material.TAILLIGHT if back else Material.HEADLIGHT
    color = _TAIL_GLASS if back else _LAMP_GLASS
    for side in (-1, 1):
        y = side * width * 0.38
        b.box([min(x, x + s * 0.04), y - 0.16, 0.62], [max(x, x + s * 0.04), y + 0.16, 0.85], color, lamp)
    b.box(
        [min(x, x + s * 0.08), -width * 0.48, 0.3],
        [max(x, x + s * 0.08), width * 0.48, 0.55],
        (0.06, 0.06, 0.06),
        Material.PLAIN,
    )
    b.box([min(x, x + s * 0.1), -0.26, 0.4], [max(x, x + s * 0.1), 0.26, 0.51], (0.75, 0.75, 0.7), Material.SIGN)


def bus(rng: np.random.Generator, variant: int) -> Mesh:
    """A bus, with two decks in every third variant; slots 0 and 1."""
    b = Builder(Label.BUS)
    double = variant % 3 == 1
    length, width, height = rng.uniform(9, 12.5), 2.5, 4.3 if double else rng.uniform(2.9, 3.2)
    stripe = 1 if variant % 2 else None
    if double:
        _hull(b, -length / 2, length / 2, width, 0.3, 2.35, (1.15, 2.1), pane=1.5, stripe=stripe)
        _hull(b, -length / 2, length / 2, width, 2.3, height, (2.75, 3.75), pane=1.5)
        _panel(b, length / 2 + 0.03, -1.1, 1.1, 2.75, 3.8, _GLASS, Material.GLASS)
        _panel(b, -length / 2 - 0.03, -1.0, 1.0, 2.8, 3.6, _GLASS, Material.GLASS)
    else:
        _hull(
            b,
            -length / 2,
            length / 2,
            width,
            0.3,
            height,
            (1.1, height - 0.65),
            pane=rng.uniform(1.2, 1.8),
            stripe=stripe,
        )
    _front(b, length / 2, width, 1.0, 2.4, rng)
    _front(b, -length / 2, width, 1.4, 2.2, rng, back=True)
    b.box([length / 2, -0.7, 2.45], [length / 2 + 0.05, 0.7, 2.75], (0.02, 0.02, 0.02), Material.FASCIA)
    _wheels(b, (length / 2 - 2.6, -length / 2 + 3.0), width / 2 * 1.005, 0.48, 0.3, hub=(0.3, 0.3, 0.3))
    return b.mesh()


def truck(rng: np.random.Generator, variant: int) -> Mesh:
    """A truck with a box, a tank, a flat bed or a tipper; slots 0 cab, 1 body, 2 lettering board."""
    b = Builder(Label.TRUCK)
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
        _box_body(b, tail, x1, width, top)
    elif style == "tanker":
        _tank(b, tail, x1)
    else:
        _open_bed(b, tail, x1, width, 1.6 if style == "tipper" else 1.35, rng)
    for side in (-1, 1):
        b.box(
            [tail - 0.03, side * width * 0.38 - 0.15, 0.7],
            [tail + 0.03, side * width * 0.38 + 0.15, 0.9],
            _TAIL_GLASS,
            Material.TAILLIGHT,
        )
        b.box(
            [front - 0.35, side * (width / 2 + 0.16) - 0.1, height * 0.6],
            [front - 0.2, side * (width / 2 + 0.16) + 0.1, height * 0.8],
            _DARK,
        )
    b.box([tail - 0.05, -width * 0.46, 0.45], [tail, width * 0.46, 0.58], (0.6, 0.1, 0.1), Material.SIGN)
    axles = [front - cab * 0.55, tail + 1.4] + ([tail + 2.5] if length > 7.5 else [])
    _wheels(b, axles, width / 2 * 0.99, 0.46, 0.3, hub=(0.35, 0.35, 0.35))
    return b.mesh()


def _box_body(b: Builder, tail: float, x1: float, width: float, top: float) -> None:
    b.box([tail, -width / 2, 0.95], [x1, width / 2, top], (0.6, 0.6, 0.6), Material.PAINT, slot=1)
    for z in (0.95, top - 0.08):
        b.box([tail - 0.02, -width / 2 - 0.02, z], [x1, width / 2 + 0.02, z + 0.08], _CHROME, Material.METAL)
    for side in (-1, 1):
        y = side * (width / 2 + 0.008)
        low, high = [tail + 1, y - 0.004, 1.3], [x1 - 1, y + 0.004, top - 0.5]
        b.box(low, high, (0.5, 0.5, 0.5), Material.FASCIA, slot=2)
    b.box([tail - 0.02, -0.02, 0.98], [tail, 0.02, top], _DARK)


def _tank(b: Builder, tail: float, x1: float) -> None:
    b.tubes([[tail, 0, 1.95]], [[x1, 0, 1.95]], 1.05, 1.05, 16, (0.6, 0.6, 0.6), Material.PAINT, slot=1)
    for x in (tail, x1):
        b.ellipsoid([x, 0, 1.95], [0.35, 1.05, 1.05], (0.6, 0.6, 0.6), Material.PAINT, rings=6, sides=12, slot=1)


def _open_bed(b: Builder, tail: float, x1: float, width: float, rim: float, rng: np.random.Generator) -> None:
    """A bed with sides up to `rim` and four crates on it."""
    b.box([tail, -width / 2, 0.9], [x1, width / 2, 1.1], (0.2, 0.15, 0.1), Material.WOOD)
    for y in (-width / 2, width / 2 - 0.06):
        b.box([tail, y, 1.1], [x1, y + 0.06, rim + 0.2], (0.5, 0.5, 0.5), Material.PAINT, slot=1)
    b.box([tail, -width / 2, 1.1], [tail + 0.06, width / 2, rim], (0.5, 0.5, 0.5), Material.PAINT, slot=1)
    b.box([x1 - 0.06, -width / 2, 1.1], [x1, width / 2, rim + 0.7], (0.5, 0.5, 0.5), Material.PAINT, slot=1)
    for _ in range(4):
        x, y = rng.uniform(tail + 0.8, x1 - 0.8), rng.uniform(-0.5, 0.5)
        size = rng.uniform(0.4, 0.9, 3)
        low, high = [x - size[0], y - size[1] * 0.7, 1.1], [x + size[0], y + size[1] * 0.7, 1.1 + size[2]]
        b.box(low, high, rng.uniform(0.05, 0.5, 3), Material.PLAIN)


def train(rng: np.random.Generator, variant: int) -> Mesh:
    """A tram of two or three cars; slots 0 and 1."""
    b = Builder(Label.TRAIN)
    cars = int(rng.integers(2, 4))
    length, width, height = rng.uniform(8.5, 13), rng.uniform(2.3, 2.65), rng.uniform(3.2, 3.6)
    for i in range(cars):
        x0 = (i - cars / 2) * (length + 0.5)
        _hull(b, x0, x0 + length, width, 0.25, height, (1.25, height - 0.85), pane=rng.uniform(1.1, 1.7), stripe=1)
        b.box([x0 + 1, -width * 0.4, 0.15], [x0 + length - 1, width * 0.4, 0.4], _DARK)
        b.box([x0 + 2, -0.7, height], [x0 + length - 2, 0.7, height + 0.35], (0.3, 0.3, 0.3), Material.METAL)
        if i:
            b.box(
                [x0 - 0.55, -width * 0.42, 0.4],
                [x0 + 0.05, width * 0.42, height - 0.15],
                (0.03, 0.03, 0.03),
                Material.RUBBER,
            )
        for x in (x0 + length * 0.2, x0 + length * 0.8):
            b.box([x - 1.1, -width * 0.46, 0.02], [x + 1.1, width * 0.46, 0.35], _DARK)
    end = (cars / 2) * (length + 0.5) - 0.5
    start = -cars / 2 * (length + 0.5)
    _front(b, end, width, 1.3, height - 0.6, rng)
    _front(b, start, width, 1.3, height - 0.6, rng, back=True)
    b.box([end, -0.6, height - 0.5], [end + 0.06, 0.6, height - 0.2], _DARK, Material.FASCIA)
    b.tubes(
        [[0, -0.4, height + 0.3], [0, 0.4, height + 0.3], [0.9, -0.6, height + 1.4]],
        [[0.9, -0.3, height + 1.4], [0.9, 0.3, height + 1.4], [0.9, 0.6, height + 1.4]],
        0.04,
        0.04,
        4,
        _DARK,
    )
    return b.mesh()


def bonnet(rng: np.random.Generator, variant: int) -> Mesh:
    """The ego vehicle's own bonnet, 1.3 m long and 1.6 m wide; it has no class."""
    b = Builder(Label.NONE)
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
