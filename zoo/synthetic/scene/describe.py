"""From a seed to a scene: every random choice about a place is made here."""

from __future__ import annotations

import numpy as np

from zoo.errors import InputError
from zoo.synthetic.scene.room import Room
from zoo.synthetic.scene.types import (
    Block,
    Bonnet,
    Building,
    CameraSpec,
    Color,
    Crossing,
    Optics,
    Scene,
    Sky,
    Street,
    Strip,
    Thing,
)
from zoo.synthetic.shapes.surfaces import Material

__all__ = ["describe"]

_PAINTS: tuple[tuple[Color, float], ...] = (
    ((0.75, 0.75, 0.74), 2.2),
    ((0.42, 0.44, 0.45), 2.6),
    ((0.12, 0.125, 0.13), 2.2),
    ((0.015, 0.015, 0.017), 2.6),
    ((0.35, 0.015, 0.02), 1.3),
    ((0.02, 0.05, 0.22), 1.4),
    ((0.04, 0.13, 0.33), 0.8),
    ((0.02, 0.09, 0.05), 0.6),
    ((0.45, 0.40, 0.30), 0.6),
    ((0.6, 0.42, 0.03), 0.3),
    ((0.15, 0.07, 0.03), 0.3),
    ((0.55, 0.18, 0.02), 0.2),
    ((0.10, 0.18, 0.16), 0.3),
    ((0.25, 0.33, 0.4), 0.6),
)

_TREES = 26
"""At least as many trees stand in a place: what remains is planted along its kerbs."""


def _paint(rng: np.random.Generator) -> Color:
    weights = np.array([w for _, w in _PAINTS])
    color = np.array(_PAINTS[int(rng.choice(len(_PAINTS), p=weights / weights.sum()))][0])
    return tuple(np.clip(color * rng.uniform(0.75, 1.25) + rng.normal(0, 0.008, 3), 0.008, 0.85))


def _cloth(rng: np.random.Generator) -> Color:
    if rng.random() < 0.6:
        return tuple(np.clip(rng.choice([0.015, 0.03, 0.06, 0.12, 0.3, 0.6]) * (1 + rng.normal(0, 0.15, 3)), 0.01, 0.8))
    return _hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.7))


def _hsv(h: float, s: float, v: float) -> Color:
    k = (np.array([5, 3, 1]) + h * 6) % 6
    return tuple(v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1))


def _person_palette(rng: np.random.Generator) -> tuple[Color, ...]:
    skin = np.array(
        [(0.55, 0.36, 0.26), (0.4, 0.24, 0.16), (0.2, 0.11, 0.07), (0.08, 0.045, 0.03)][
            int(rng.choice(4, p=[0.5, 0.25, 0.15, 0.1]))
        ]
    )
    hair = [(0.02, 0.015, 0.012), (0.08, 0.05, 0.03), (0.25, 0.17, 0.08), (0.3, 0.3, 0.3), (0.12, 0.05, 0.02)][
        int(rng.integers(5))
    ]
    jeans = (0.05, 0.07, 0.14)
    lower = jeans if rng.random() < 0.35 else _cloth(rng)
    shoes = _cloth(rng) if rng.random() < 0.3 else (0.03, 0.025, 0.02)
    top = _cloth(rng)
    if rng.random() < 0.06:
        top = (0.6, 0.75, 0.05)  # a high-visibility vest
    return (top, lower, tuple(skin * rng.uniform(0.8, 1.2)), hair, shoes, _cloth(rng))


def _vehicle_palette(rng: np.random.Generator) -> tuple[Color, ...]:
    vivid = _hsv(rng.random(), rng.uniform(0.3, 0.95), rng.uniform(0.15, 0.7))
    body = _paint(rng)
    return (
        body,
        vivid if rng.random() < 0.5 else _paint(rng),
        _hsv(rng.random(), rng.uniform(0, 0.9), rng.uniform(0.1, 0.8)),
    )


def describe(seed: int) -> Scene:
    """The scene of `seed`: same seed, same scene on every machine.

    Raises:
        InputError: If the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; seeds are 0 or larger")
    rng = np.random.default_rng([20260, seed])
    kind = str(
        rng.choice(
            ["town", "residential", "city", "boulevard", "rural", "industrial"], p=[0.34, 0.2, 0.2, 0.1, 0.08, 0.08]
        )
    )
    start, end = -25.0, 190.0
    lanes = {
        "town": 2,
        "residential": 2,
        "city": int(rng.choice([2, 3, 4])),
        "boulevard": 4,
        "rural": 2,
        "industrial": int(rng.choice([2, 4])),
    }[kind]
    lane_width = rng.uniform(2.9, 3.6)
    cycle = int(rng.random() < 0.22)
    parking = tuple(
        2.1
        if rng.random()
        < {"town": 0.45, "residential": 0.6, "city": 0.5, "boulevard": 0.4, "rural": 0.05, "industrial": 0.35}[kind]
        else 0.0
        for _ in range(2)
    )
    half_width = lanes * lane_width / 2 + max(parking) + 1.5 * cycle
    pieces = 7
    straight = rng.random() < 0.4
    bend = np.zeros(pieces) if straight else np.clip(rng.normal(0, 0.0045, pieces), -0.008, 0.008)
    grade = rng.normal(0, 0.012, pieces) if rng.random() < 0.6 else np.zeros(pieces)
    sidewalk = tuple(float(rng.uniform(1.6, 4.5) if kind != "rural" else rng.choice([0.0, 1.6])) for _ in range(2))
    verge = tuple(
        float(
            rng.choice([0, rng.uniform(1, 4)], p=[0.65, 0.35])
            if kind in ("residential", "boulevard", "industrial")
            else (rng.uniform(3, 9) if kind == "rural" else 0.0)
        )
        for _ in range(2)
    )
    street = Street(
        start=start,
        end=end,
        half_width=float(half_width),
        lanes=lanes,
        bend=tuple(bend),
        grade=tuple(grade),
        sidewalk=(sidewalk[0], sidewalk[1]),
        verge=(verge[0], verge[1]),
        kerb=float(rng.uniform(0.06, 0.16)),
        markings=int(rng.choice([0, 1, 2, 1, 1])),
        tram=bool(rng.random() < (0.22 if kind in ("city", "boulevard") else 0.03)),
        shade=float(rng.uniform(0.055, 0.17)),
        parking=(parking[0], parking[1]),
        edge_line=int(rng.integers(0, 4)),
        cycle_lane=cycle,
    )
    crossings = _crossings(rng, kind)
    blocks = _blocks(rng, street, crossings, kind)
    season = str(rng.choice(["summer", "spring", "autumn", "winter"], p=[0.42, 0.15, 0.13, 0.3]))
    buildings, strips = _sides(rng, street, blocks, kind)
    things, ego_lane, ego_speed, ego_start = _things(rng, street, crossings, blocks, kind, season, lane_width)
    hue = {"summer": (0.27, 0.6), "spring": (0.23, 0.6), "autumn": (0.12, 0.65), "winter": (0.24, 0.5)}[season]
    foliage = tuple(
        _hsv(
            np.clip(hue[0] + rng.normal(0, 0.03), 0.05, 0.4),
            np.clip(hue[1] + rng.normal(0, 0.1), 0.15, 0.9),
            rng.uniform(0.06, 0.22),
        )
        for _ in range(4)
    )
    hills = tuple(
        (float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(0.1, 0.6)), float(rng.uniform(8, 60)))
        for _ in range(int(rng.integers(0, 9)))
    )
    elevation = float(np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(6)), np.sin(np.radians(62))))))
    cover = float(rng.choice([rng.uniform(0, 0.3), rng.uniform(0.3, 0.8), rng.uniform(0.85, 1.0)], p=[0.35, 0.3, 0.35]))
    sky = Sky(
        float(rng.uniform(0, 360)),
        elevation,
        cover,
        float(rng.uniform(0.4, 1.6)),
        int(rng.integers(1 << 30)),
        float(rng.uniform(0, 1)),
    )
    camera = CameraSpec(
        fov_deg=float(rng.uniform(48, 90)),
        height_m=float(rng.uniform(1.1, 1.9)),
        pitch_deg=float(np.clip(rng.normal(0, 2), -4.5, 4.5)),
        roll_deg=float(rng.normal(0, 0.7)),
        yaw_deg=float(rng.normal(0, 4) if rng.random() < 0.85 else rng.normal(0, 18)),
    )
    warm, magenta = rng.normal(0, 0.09), rng.normal(0, 0.02)
    tint = np.exp([warm + magenta, -magenta, -warm + magenta])
    below = float(rng.uniform(0.35, 0.6))
    bonnet = (
        Bonnet(below, float(rng.uniform(0.2, 0.9)), int(rng.integers(24)), _paint(rng)) if rng.random() < 0.35 else None
    )
    optics = Optics(
        exposure_ev=float(rng.normal(0.1, 0.5)),
        highlights=float(rng.beta(1.0, 2.2)),
        white_balance=tuple(tint / tint.mean()),
        contrast=float(rng.uniform(0.9, 1.7)),
        gamma=float(rng.uniform(0.85, 1.2)),
        saturation=float(rng.uniform(0.45, 1.3)),
        vignetting=float(rng.uniform(0, 0.45)),
        blur_px=float(rng.uniform(0.2, 0.75)),
        sharpen=float(rng.choice([0, rng.uniform(0.2, 1.0)])),
        noise=float(10 ** rng.uniform(-0.4, 0.7)),
        jpeg_quality=int(rng.integers(70, 98)),
        flare=float(rng.uniform(0, 0.06)),
        black=float(rng.uniform(0, 0.02)),
    )
    return Scene(
        seed,
        street,
        crossings,
        blocks,
        tuple(buildings),
        tuple(strips),
        tuple(things),
        hills,
        foliage,
        sky,
        camera,
        optics,
        ego_lane,
        ego_speed,
        ego_start,
        season,
        bonnet,
        {"kind": kind, "lane_width": float(lane_width)},
    )


def _crossings(rng: np.random.Generator, kind: str) -> tuple[Crossing, ...]:
    out, s = [], float(rng.uniform(8, 70))
    while s < 170:
        if rng.random() < (0.35 if kind == "rural" else 0.85):
            width = float(rng.uniform(6, 13))
            out.append(
                Crossing(
                    s, s + width, int(rng.choice([-1, 0, 0, 1])), bool(rng.random() < 0.5), bool(rng.random() < 0.5)
                )
            )
            s += width
        s += float(rng.uniform(45, 110))
    return tuple(out)


def _blocks(rng: np.random.Generator, street: Street, crossings: tuple[Crossing, ...], kind: str) -> tuple[Block, ...]:
    blocks = []
    for index, side in enumerate((1, -1)):
        cuts = [c for c in crossings if c.side in (0, side)]
        edges = [street.start] + [v for c in cuts for v in (c.start, c.end)] + [street.end]
        yard = str(
            rng.choice(
                ["grass", "paved", "gravel"],
                p={"residential": [0.6, 0.3, 0.1], "rural": [0.95, 0, 0.05]}.get(kind, [0.3, 0.6, 0.1]),
            )
        )
        paving, shade, first = int(rng.integers(0, 4)), float(rng.uniform(0.13, 0.4)), bool(rng.random() < 0.5)
        if paving == 3:  # tarmac, hardly lighter than the road
            shade *= 0.45
        for i in range(0, len(edges), 2):
            blocks.append(
                Block(
                    edges[i],
                    edges[i + 1],
                    side,
                    float(rng.uniform(2.5, 7)),
                    street.sidewalk[index],
                    street.verge[index],
                    first,
                    yard if rng.random() < 0.8 else str(rng.choice(["grass", "paved"])),
                    paving,
                    shade,
                    i == 0,
                    i == len(edges) - 2,
                )
            )
    return tuple(blocks)


_WALLS = (Material.PLASTER, Material.BRICK, Material.STONE, Material.CONCRETE)


def _building(rng: np.random.Generator, s0: float, s1: float, t0: float, side: int, kind: str, floors: int) -> Building:
    wall = int(
        rng.choice(
            _WALLS,
            p={"city": [0.3, 0.25, 0.25, 0.2], "industrial": [0.2, 0.35, 0.05, 0.4]}.get(kind, [0.38, 0.42, 0.1, 0.1]),
        )
    )
    if wall == 5:
        color = np.array(
            [(0.28, 0.11, 0.07), (0.2, 0.09, 0.06), (0.4, 0.27, 0.15), (0.5, 0.4, 0.25), (0.15, 0.1, 0.08)][
                int(rng.integers(5))
            ]
        )
    elif wall == 6:
        color = np.array([(0.42, 0.36, 0.27), (0.3, 0.27, 0.22), (0.5, 0.46, 0.4)][int(rng.integers(3))])
    elif wall == 7:
        color = np.full(3, rng.uniform(0.15, 0.5)) * (1 + rng.normal(0, 0.04, 3))
    else:
        color = np.array(
            _hsv(
                float(rng.choice([0.1, 0.12, 0.06, 0.0, 0.55, 0.3])) + rng.normal(0, 0.02),
                rng.uniform(0.0, 0.35),
                rng.uniform(0.35, 0.8),
            )
        )
    glassy = rng.random() < (0.3 if kind in ("city", "industrial") else 0.05)
    bay = float(rng.uniform(1.8, 4.2))
    if glassy:
        window = (0.04, 0.96, 0.12, 0.92)
    else:
        half = rng.uniform(0.17, 0.36)
        low = rng.uniform(0.22, 0.36)
        window = (float(0.5 - half), float(0.5 + half), float(low), float(min(low + rng.uniform(0.4, 0.58), 0.93)))
    roof = str(
        rng.choice(
            ["gable", "flat", "hip", "mansard"],
            p=[0.5, 0.3, 0.1, 0.1] if kind in ("town", "residential", "rural") else [0.15, 0.7, 0.05, 0.1],
        )
    )
    return Building(
        s0=s0,
        s1=s1,
        t0=t0,
        side=side,
        depth=float(rng.uniform(7, 14)),
        floors=floors,
        storey=float(rng.uniform(2.6, 3.7)),
        ground=float(rng.uniform(2.9, 4.4)),
        bay=bay,
        window=window,
        recess=float(rng.uniform(0.04, 0.35)),
        wall=wall,
        color=tuple(np.clip(color * rng.uniform(0.75, 1.3), 0.03, 0.85)),
        trim=tuple(np.full(3, rng.choice([0.75, 0.6, 0.2, 0.04, 0.4]))),
        roof=roof,
        roof_color=[(0.1, 0.1, 0.11), (0.22, 0.09, 0.06), (0.15, 0.12, 0.1), (0.3, 0.14, 0.09)][int(rng.integers(4))],
        pitch=float(rng.uniform(0.5, 1.1)),
        shop=bool(rng.random() < {"town": 0.6, "city": 0.65, "boulevard": 0.4}.get(kind, 0.05)),
        shop_color=_hsv(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.02, 0.5)),
        awning=bool(rng.random() < 0.2),
        balconies=bool(rng.random() < 0.15),
        cornice=bool(rng.random() < 0.5),
        sills=bool(rng.random() < 0.6),
        chimneys=int(rng.integers(0, 4)),
        seed=int(rng.integers(1 << 30)),
    )


def _sides(
    rng: np.random.Generator, street: Street, blocks: tuple[Block, ...], kind: str
) -> tuple[list[Building], list[Strip]]:
    buildings: list[Building] = []
    strips: list[Strip] = []
    for side in (1, -1):
        setback = float(
            {
                "town": rng.choice([0, 0, 2, 5]),
                "city": rng.choice([0, 0, 1, 6]),
                "residential": rng.uniform(3, 9),
                "boulevard": rng.choice([0, 3, 8]),
                "rural": rng.uniform(6, 20),
                "industrial": rng.uniform(3, 15),
            }[kind]
        )
        floors_mean = {"town": 2.6, "city": 4.5, "residential": 2.0, "boulevard": 4.5, "rural": 1.5, "industrial": 2.2}[
            kind
        ] * rng.uniform(0.8, 1.3)
        dense = {"town": 0.93, "city": 0.92, "residential": 0.72, "boulevard": 0.75, "rural": 0.25, "industrial": 0.55}[
            kind
        ]
        if rng.random() < 0.17:
            dense *= 0.25  # a park or an open lot
        joined = kind in ("town", "city", "boulevard") and rng.random() < 0.8
        for block in (b for b in blocks if b.side == side):
            front = street.half_width + block.sidewalk + block.verge + setback
            margin = max(block.sidewalk, 1.5)
            s = block.start + (0 if block.open_start else margin)
            stop = block.end - (0 if block.open_end else margin)
            while s < stop - 5:
                width = min(float(rng.uniform(6, 16) if kind != "industrial" else rng.uniform(14, 40)), stop - s)
                if rng.random() < dense and width > 4.5:
                    floors = int(np.clip(rng.normal(floors_mean, 0.8 if kind != "city" else 1.6), 1, 11))
                    shift = 0.0 if joined else float(rng.uniform(0, 2.5))
                    buildings.append(_building(rng, s, s + width, front + shift, side, kind, floors))
                s += width + (0.0 if joined else float(rng.uniform(0, 5)))
            if setback > 1.4 or dense < 0.6:
                strips += _strip(
                    rng,
                    street,
                    block,
                    front - setback,
                    kind,
                    s_range=(block.start + (0 if block.open_start else margin), stop),
                )
        if rng.random() < 0.25:
            for block in (b for b in blocks if b.side == side):
                for a, b_ in (
                    (block.start + block.corner + 0.5, block.start + block.corner + float(rng.uniform(8, 30))),
                    (block.end - block.corner - float(rng.uniform(8, 30)), block.end - block.corner - 0.5),
                ):
                    if block.start < a and b_ < block.end:
                        line = ((a, side * (street.half_width + 0.35)), (b_, side * (street.half_width + 0.35)))
                        strips.append(
                            Strip(
                                "fence",
                                line,
                                float(rng.uniform(0.9, 1.15)),
                                int(4 * rng.integers(6)),
                                _hsv(0.1, 0.1, float(rng.choice([0.03, 0.3, 0.5]))),
                                int(rng.integers(1 << 30)),
                            )
                        )
        for c0, c1 in [
            (a.end, b.start) for a, b in zip(*(lambda z: (z, z[1:]))([b for b in blocks if b.side == side]))
        ]:
            buildings += _side_street(rng, street, side, c0, c1, kind, floors_mean)
    if rng.random() < 0.5:  # something closes the view at the end of the street
        buildings += [
            _building(rng, street.end + 10, street.end + 24, float(t), 1, kind, int(rng.integers(2, 6)))
            for t in np.arange(-60, 40, 16)
        ]
    return buildings, strips


def _side_street(
    rng: np.random.Generator, street: Street, side: int, c0: float, c1: float, kind: str, floors: float
) -> list[Building]:
    """A house that closes the view into a side street."""
    if rng.random() < 0.55:
        return [
            _building(
                rng,
                c0 - rng.uniform(0, 6),
                c1 + rng.uniform(0, 6),
                street.half_width + float(rng.uniform(30, 55)),
                side,
                kind,
                int(np.clip(rng.normal(floors, 1), 1, 8)),
            )
        ]
    return []


def _strip(
    rng: np.random.Generator, street: Street, block: Block, t: float, kind: str, s_range: tuple[float, float]
) -> list[Strip]:
    what = str(
        rng.choice(
            ["wall", "fence", "hedge", "rail", "none"],
            p={"rural": [0.1, 0.3, 0.25, 0.2, 0.15], "residential": [0.3, 0.25, 0.3, 0, 0.15]}.get(
                kind, [0.27, 0.4, 0.13, 0.03, 0.17]
            ),
        )
    )
    if what == "none":
        return []
    out, s = [], s_range[0]
    while s < s_range[1] - 3:
        stop = min(s + float(rng.uniform(8, 45)), s_range[1])
        color = {
            "hedge": (0.1, 0.15, 0.05),
            "wall": _hsv(float(rng.uniform(0.02, 0.12)), float(rng.uniform(0, 0.5)), float(rng.uniform(0.15, 0.55))),
            "fence": _hsv(rng.random(), float(rng.choice([0, 0, 0.4])), float(rng.choice([0.02, 0.05, 0.25, 0.6]))),
        }.get(what, (0.45, 0.45, 0.46))
        height = {
            "wall": rng.uniform(0.6, 2.4),
            "fence": rng.uniform(0.8, 2.0),
            "hedge": rng.uniform(0.8, 2.2),
            "rail": 0.75,
        }[what]
        out.append(
            Strip(
                what,
                ((s, block.side * (t + 0.2)), (stop, block.side * (t + 0.2))),
                float(height),
                int(rng.integers(0, 24)),
                color,
                int(rng.integers(1 << 30)),
            )
        )
        if rng.random() < 0.4:
            what = str(rng.choice(["wall", "fence", "hedge"]))
        s = stop + float(rng.choice([0.0, rng.uniform(1, 4)]))
    return out


def _things(rng, street, crossings, blocks, kind, season, lane_width) -> tuple[list[Thing], float, float, float]:
    things: list[Thing] = []
    right_hand = rng.random() < 0.6  # traffic keeps right
    keep = -1 if right_hand else 1
    lanes_each = max(1, street.lanes // 2)
    ego_index = int(rng.integers(0, lanes_each))
    ego_lane = keep * (ego_index + 0.5) * lane_width
    ego_speed = float(rng.uniform(4, 13))
    ego_start = float(rng.uniform(0, 20))
    count = iter(range(100000))
    room = Room(ego_start, ego_lane, ego_speed, max(abs(bend) for bend in street.bend))

    def vehicle(s, t, yaw=0.0, speed=0.0, kinds=None, h=0.0):
        """Adds one where there is room for it; metres of street that it takes. As skewed as in traffic: mostly cars."""
        what = kinds or str(
            rng.choice(["car", "truck", "bus", "motorcycle", "cyclist"], p=[0.81, 0.045, 0.04, 0.06, 0.045])
        )
        variant = int(rng.integers(24))
        if what in ("cyclist", "motorcycle_rider"):
            bike = "bicycle" if what == "cyclist" else "motorcycle"
            palette = _person_palette(rng)
            ridden = Thing(bike, variant, s, t, yaw, h, (1, 1, 1), _vehicle_palette(rng), speed, next(count))
            if not room.take(ridden):
                return 2.0
            things.append(ridden)
            things.append(
                Thing(
                    "cyclist" if bike == "bicycle" else "motorcyclist",
                    variant,
                    s,
                    t,
                    yaw,
                    h,
                    (1, 1, 1),
                    palette,
                    speed,
                    next(count),
                )
            )
            return 2.0
        if what == "motorcycle" and speed != 0:
            return vehicle(s, t, yaw, speed, "motorcycle_rider", h)
        scale = tuple(rng.uniform(0.95, 1.05, 3))
        thing = Thing(what, variant, s, t, yaw, h, scale, _vehicle_palette(rng), speed, next(count))
        if room.take(thing):
            things.append(thing)
        return {"car": 4.6, "truck": 10.0, "bus": 12.0, "train": 40.0, "motorcycle": 2.0, "bicycle": 1.8}[what]

    if street.tram and rng.random() < 0.75:
        s = ego_start + float(rng.uniform(45, 130))
        direction = int(rng.choice([keep, -keep]))
        speed = float(rng.choice([0.0, rng.uniform(4, 13)])) * (1 if direction == keep else -1)
        before = len(things)
        for way, pace in ((direction, speed), (keep, ego_speed)):  # where the ego would graze it, it drives ahead
            if len(things) == before:
                vehicle(s, way * lane_width / 2, 0.0 if way == keep else np.pi, pace, "train")
    traffic = float(rng.choice([0.0, 0.02, 0.035, 0.06]))  # vehicles per metre and lane
    for direction in (keep, -keep):
        for lane in range(lanes_each):
            t = direction * (lane + 0.5) * lane_width
            forward = 1.0 if direction == keep else -1.0
            own = direction == keep and lane == ego_index
            s = ego_start + float(rng.uniform(14, 40) if own else rng.uniform(-30, 25))
            speed = ego_speed if own else float(rng.uniform(3, 13))
            while s < 170 and traffic > 0:
                jitter = float(rng.normal(0, 0.2))
                length = vehicle(s, t + jitter, 0.0 if forward > 0 else np.pi, forward * speed)
                s += length + float(rng.exponential(max(1 / traffic - 5, 4))) + 3
    if rng.random() < 0.35:  # cyclists near the kerb
        for _ in range(int(rng.integers(1, 4))):
            side = int(rng.choice([1, -1]))
            s = float(rng.uniform(8, 70))
            vehicle(
                s,
                side * (street.half_width - max(street.parking) - 0.4),
                0.0 if side == keep else np.pi,
                (4.0 if side == keep else -4.0),
                "cyclist",
            )
    crowd = {"town": 0.07, "city": 0.1, "residential": 0.02, "boulevard": 0.05, "rural": 0.003, "industrial": 0.01}[
        kind
    ] * rng.uniform(0.2, 2.2)
    bare = season == "winter" or (season in ("autumn", "spring") and rng.random() < 0.3)
    for block in blocks:
        i = 0 if block.side > 0 else 1
        edge = street.half_width
        length = block.end - block.start
        lo, hi = (
            block.start + (0 if block.open_start else block.corner + 2),
            block.end - (0 if block.open_end else block.corner + 2),
        )
        if hi - lo < 4:
            continue
        walk0 = edge + (block.verge if block.verge_first else 0)
        walk1 = walk0 + max(block.sidewalk, 0.8)
        if street.parking[i] > 0:
            s = lo + 3
            density = rng.uniform(0.3, 0.95)
            while s < hi - 4:
                if rng.random() < density:
                    what = str(rng.choice(["car", "truck", "motorcycle"], p=[0.93, 0.02, 0.05]))
                    used = vehicle(
                        s + (5.2 if what == "truck" else 2.4),
                        block.side * (edge - 1.05 + rng.normal(0, 0.1)),
                        (0.0 if block.side == keep else np.pi) + rng.normal(0, 0.03),
                        0.0,
                        what,
                    )
                    s += used + float(rng.uniform(0.5, 1.6))
                else:
                    s += 5.5
        for _ in range(rng.poisson(crowd * length)):
            s, t = float(rng.uniform(lo - 3, hi + 3)), float(rng.uniform(walk0 + 0.3, walk1))
            yaw = float(rng.choice([0, np.pi]) + rng.normal(0, 0.35))
            for _ in range(int(rng.choice([1, 2, 3], p=[0.7, 0.22, 0.08]))):
                size = float(rng.choice([rng.uniform(0.9, 1.08), rng.uniform(0.6, 0.85)], p=[0.9, 0.1]))
                things.append(
                    Thing(
                        "person",
                        int(rng.integers(24)),
                        s,
                        block.side * t,
                        yaw,
                        street.kerb,
                        (size, size, size),
                        _person_palette(rng),
                        float(1.3 * np.cos(yaw)) if rng.random() < 0.7 else 0.0,
                        next(count),
                    )
                )
                s, t = s + float(rng.normal(0, 0.5)), t + float(rng.uniform(0.5, 0.8))
        if rng.random() < 0.3:  # bicycles and motorcycles at a rack
            s0, row = float(rng.uniform(lo, hi)), str(rng.choice(["bicycle", "motorcycle"], p=[0.65, 0.35]))
            for k in range(int(rng.integers(1, 9))):
                things.append(
                    Thing(
                        row,
                        int(rng.integers(24)),
                        s0 + (0.6 if row == "bicycle" else 1.0) * k,
                        block.side * (walk1 - 0.7),
                        float(np.pi / 2 + rng.normal(0, 0.15)),
                        street.kerb,
                        (1, 1, 1),
                        _vehicle_palette(rng),
                        0.0,
                        next(count),
                    )
                )
        # Lamps, masts and street trees stand in rows along the kerb.
        spacing, phase = float(rng.uniform(18, 38)), float(rng.uniform(0, 18))
        style = int(rng.integers(24))
        for s in np.arange(lo + phase, hi, spacing):
            if rng.random() < 0.9:
                things.append(
                    Thing("lamp", style, float(s), block.side * (edge + 0.45), -block.side * np.pi / 2, street.kerb)
                )
        leafy = {"town": 0.3, "city": 0.4, "residential": 0.55, "boulevard": 0.9, "rural": 0.6, "industrial": 0.4}[kind]
        if rng.random() < leafy:
            spacing, style, size = float(rng.uniform(6, 16)), int(rng.integers(8)), float(rng.uniform(0.6, 1.4))
            line = edge + (0.9 if block.sidewalk > 2.2 else block.sidewalk + block.verge + 1.0)
            for s in np.arange(lo + float(rng.uniform(0, 6)), hi, spacing):
                variant = 3 * style if bare else 3 * style + int(rng.integers(1, 3))
                height = size * float(rng.uniform(0.8, 1.2))
                things.append(
                    Thing(
                        "tree",
                        variant % 24,
                        float(s),
                        block.side * line,
                        float(rng.uniform(0, 6.3)),
                        street.kerb,
                        (height, height, height * float(rng.uniform(0.85, 1.15))),
                    )
                )
        far = edge + block.sidewalk + block.verge + 2
        for _ in range(rng.poisson(length * {"rural": 0.16, "residential": 0.09, "industrial": 0.05}.get(kind, 0.035))):
            what = str(rng.choice(["tree", "conifer", "bush"], p=[0.45, 0.2, 0.35]))
            height = float(rng.uniform(0.7, 1.5))
            variant = 3 * int(rng.integers(8)) + (0 if bare and rng.random() < 0.85 else int(rng.integers(1, 3)))
            things.append(
                Thing(
                    what,
                    variant,
                    float(rng.uniform(block.start, block.end)),
                    block.side * (far + float(rng.exponential(8 if kind != "rural" else 16))),
                    float(rng.uniform(0, 6.3)),
                    street.kerb,
                    (height, height, height),
                )
            )
        for what, rate in (
            ("sign", 0.045),
            ("bollard", 0.02),
            ("bin", 0.012),
            ("bench", 0.006),
            ("board", 0.006),
            ("mast", 0.006),
            ("shelter", 0.004),
        ):
            for _ in range(rng.poisson(rate * length)):
                s = float(rng.uniform(lo, hi))
                variant = int(rng.integers(24))
                if what == "bollard":
                    for k in range(int(rng.integers(2, 8))):
                        things.append(Thing(what, variant, s + 1.5 * k, block.side * (edge + 0.35), 0.0, street.kerb))
                    continue
                facing = (0.0 if rng.random() < 0.7 else np.pi) + float(rng.normal(0, 0.15))
                at = edge + float(rng.uniform(0.35, 0.7)) if what in ("sign", "mast", "board") else walk1 - 0.5
                if what in ("bench", "shelter"):
                    facing = -block.side * np.pi / 2
                things.append(Thing(what, variant, s, block.side * at, facing, street.kerb))
    things += _street_trees(rng, street, blocks, bare, _TREES - sum(thing.kind == "tree" for thing in things))
    for crossing in crossings:
        if crossing.signals or rng.random() < 0.3:
            variant = int(rng.integers(24))
            for side in (1, -1):
                for s, yaw in ((crossing.start - 2.5, 0.0), (crossing.end + 2.5, np.pi)):
                    if rng.random() < 0.75:
                        things.append(
                            Thing(
                                "traffic_light" if crossing.signals else "sign",
                                (variant + int(rng.integers(0, 3))) % 24,
                                s,
                                side * (street.half_width + 0.5),
                                yaw + float(rng.normal(0, 0.1)),
                                street.kerb,
                            )
                        )
        for _ in range(rng.poisson(1.2 if kind != "rural" else 0.1)):  # people and traffic that cross
            s = float(rng.uniform(crossing.start - 3, crossing.start - 0.5))
            person = Thing(
                "person",
                int(rng.integers(24)),
                s,
                float(rng.uniform(-street.half_width, street.half_width)),
                float(rng.choice([1, -1]) * np.pi / 2),
                0.0,
                (1, 1, float(rng.uniform(0.9, 1.08))),
                _person_palette(rng),
                0.0,
                next(count),
            )
            if room.take(person, seconds=2.0):
                things.append(person)
        if crossing.side in (0, 1) and rng.random() < 0.5:
            vehicle(
                crossing.start + (crossing.end - crossing.start) * 0.3,
                street.half_width + float(rng.uniform(3, 25)),
                np.pi / 2,
                0.0,
            )
        if crossing.side in (0, -1) and rng.random() < 0.5:
            vehicle(
                crossing.start + (crossing.end - crossing.start) * 0.7,
                -street.half_width - float(rng.uniform(3, 25)),
                np.pi / 2,
                0.0,
            )
    return things, float(ego_lane), ego_speed, ego_start


def _street_trees(
    rng: np.random.Generator, street: Street, blocks: tuple[Block, ...], bare: bool, missing: int
) -> list[Thing]:
    rows = [(b, b.start + b.corner + 2, b.end - b.corner - 2) for b in blocks if b.end - b.start > 2 * b.corner + 8]
    if missing <= 0 or not rows:
        return []
    style, out = int(rng.integers(8)), []
    length = np.array([stop - start for _, start, stop in rows])
    shares = np.floor(np.arange(missing) / missing * length.sum() + rng.uniform(0, 1))  # evenly along all kerbs
    ends = np.cumsum(length)
    for place in shares:
        k = min(int(np.searchsorted(ends, place, "right")), len(rows) - 1)
        block, start, _ = rows[k]
        line = street.half_width + (0.9 if block.sidewalk > 2.2 else block.sidewalk + block.verge + 1.0)
        size = float(rng.uniform(0.55, 1.1))
        out.append(
            Thing(
                "tree",
                3 * style if bare else 3 * style + int(rng.integers(1, 3)),
                float(start + place - (ends[k] - length[k])),
                block.side * line,
                float(rng.uniform(0, 6.3)),
                street.kerb,
                (size, size, size * float(rng.uniform(0.85, 1.15))),
            )
        )
    return out
