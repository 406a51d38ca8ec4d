"""From a seed to a scene: every random choice about a place is made in this package.

All draws come from one generator, one after the other. A draw that is added, removed or moved therefore changes
everything that is drawn after it, in every place: add new ones at the end, or give them a generator of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from zoo.errors import InputError
from zoo.synthetic.scene.choices import SEASONS, Choices
from zoo.synthetic.scene.colors import hsv, paint
from zoo.synthetic.scene.frontage import draw_frontage
from zoo.synthetic.scene.kinds import PLACE_KINDS
from zoo.synthetic.scene.plots import plot_of
from zoo.synthetic.scene.relief import draw_relief
from zoo.synthetic.scene.roadside import add_roadside, add_signals
from zoo.synthetic.scene.room import Room
from zoo.synthetic.scene.streets import draw_blocks, draw_crossings, draw_street
from zoo.synthetic.scene.surroundings import add_surroundings
from zoo.synthetic.scene.traffic import Placer, add_traffic, draw_ego, draw_phases
from zoo.synthetic.scene.types import Block, Bonnet, CameraSpec, Color, Crossing, Optics, Scene, Sky, Street
from zoo.synthetic.scene.walking import add_standing, add_walkers
from zoo.synthetic.shapes.templates import VARIANTS

__all__ = ["describe", "drawn", "with_relief"]

_ANY = Choices()
_FOLIAGE = {"summer": (0.27, 0.6), "spring": (0.23, 0.6), "autumn": (0.12, 0.65), "winter": (0.2, 0.38)}
"""Hue and saturation of leaves."""


def describe(seed: int, choices: Choices = _ANY) -> Scene:
    """The scene of `seed`: same seed and choices, same scene on every machine.

    Args:
        seed: Of the place.
        choices: Restrict what may be drawn.

    Raises:
        InputError: If the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; seeds are 0 or larger")
    rng = np.random.default_rng([20260, seed])
    kind = drawn(rng, {name: about.share for name, about in PLACE_KINDS.items()}, choices.kinds)
    street = draw_street(rng, kind)
    crossings = draw_crossings(rng, kind)
    blocks = draw_blocks(rng, street, crossings, kind)
    street = with_relief(seed, kind, street, crossings, blocks)
    season = drawn(rng, SEASONS, choices.seasons)
    buildings, strips = draw_frontage(rng, street, blocks, kind)
    ego = draw_ego(rng, street, *PLACE_KINDS[kind].speeds)
    crossings = draw_phases(rng, crossings, PLACE_KINDS[kind].crossing_people)
    room = Room(street)
    for house in buildings:
        room.add_building(house)
    for strip in strips:
        room.add_strip(strip)
    placer = Placer(rng, street, blocks, room)
    plots = [plot_of(street, block) for block in blocks]
    crowd = PLACE_KINDS[kind].crowd * float(rng.uniform(0.3, 1.9)) * choices.density
    add_signals(placer, street, crossings, blocks)
    add_roadside(placer, street, ego, plots, kind=kind, season=season, density=choices.density)
    add_surroundings(placer, plots, kind, season, choices.density)
    ego_way = add_traffic(placer, street, ego, crossings, blocks, kind, choices.density)
    crossing_people = PLACE_KINDS[kind].crossing_people * choices.density
    add_walkers(placer, plots, crossings, crowd, crossing_people, ego_way.times_s[-1])
    for plot in plots:
        add_standing(placer, plot, 0.6 * crowd)
    foliage = _draw_foliage(rng, season)
    hills = _draw_hills(rng)
    sky = _draw_sky(rng)
    camera = _draw_camera(rng)
    tint = _draw_tint(rng)
    bonnet = _draw_bonnet(rng)
    return Scene(
        seed=seed,
        kind=kind,
        season=season,
        street=street,
        crossings=crossings,
        blocks=blocks,
        buildings=buildings,
        strips=strips,
        things=tuple(placer.things),
        hills=hills,
        foliage=foliage,
        sky=sky,
        camera=camera,
        optics=_draw_optics(rng, tint),
        bonnet=bonnet,
        ego_lane=ego.lane,
        ego_speed=ego.speed,
        ego_start=ego.start,
        ego_way=ego_way,
    )


def drawn(rng: np.random.Generator, shares: Mapping[str, float], chosen: Sequence[str]) -> str:
    """One of the chosen names, or of all of them if none is chosen, in proportion to its share."""
    weights = np.array([share * (not chosen or name in chosen) for name, share in shares.items()])
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def with_relief(
    seed: int, kind: str, street: Street, crossings: tuple[Crossing, ...], blocks: tuple[Block, ...]
) -> Street:
    """The street with its relief: banks begin behind the pavement, be it before or behind the verge."""
    paved = [0.0, 0.0]
    for block in blocks:
        width = block.sidewalk + (block.verge if block.verge_first and block.sidewalk > 0 else 0.0)
        paved[block.side < 0] = max(paved[block.side < 0], width)
    cuts = tuple((crossing.start, crossing.end, crossing.side) for crossing in crossings)
    relief = draw_relief(seed, kind, (street.start, street.end), street.half_width, (paved[0], paved[1]), cuts)
    return replace(street, relief=relief)


def _draw_foliage(rng: np.random.Generator, season: str) -> tuple[Color, ...]:
    hue, saturation = _FOLIAGE[season]
    return tuple(
        hsv(
            np.clip(hue + rng.normal(0, 0.03), 0.05, 0.4),
            np.clip(saturation + rng.normal(0, 0.1), 0.15, 0.9),
            rng.uniform(0.06, 0.22),
        )
        for _ in range(4)
    )


def _draw_hills(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    return tuple(
        (float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(0.1, 0.6)), float(rng.uniform(8, 60)))
        for _ in range(int(rng.integers(0, 9)))
    )


def _draw_sky(rng: np.random.Generator) -> Sky:
    # Even in the sine of the elevation: every part of the sky between 6 and 62 degrees is as likely as any other.
    elevation = float(np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(6)), np.sin(np.radians(62))))))
    cover = float(rng.choice([rng.uniform(0, 0.3), rng.uniform(0.3, 0.8), rng.uniform(0.85, 1.0)], p=[0.35, 0.3, 0.35]))
    return Sky(
        sun_azimuth=float(rng.uniform(0, 360)),
        sun_elevation=elevation,
        cloud_cover=cover,
        cloud_scale=float(rng.uniform(0.4, 1.6)),
        cloud_seed=int(rng.integers(1 << 30)),
        turbidity=float(rng.uniform(0, 1)),
    )


def _draw_camera(rng: np.random.Generator) -> CameraSpec:
    return CameraSpec(
        fov_deg=float(rng.uniform(48, 90)),
        height_m=float(rng.uniform(1.1, 1.9)),
        pitch_deg=float(np.clip(rng.normal(-1.2, 2), -5, 4)),
        roll_deg=float(rng.normal(0, 0.7)),
        yaw_deg=float(rng.normal(0, 4) if rng.random() < 0.85 else rng.normal(0, 18)),
    )


def _draw_tint(rng: np.random.Generator) -> Color:
    """An error of the white balance: warm against cold, magenta against green; mean 1."""
    warm, magenta = rng.normal(0, 0.09), rng.normal(0, 0.02)
    tint = np.exp([warm + magenta, -magenta, -warm + magenta])
    return tuple(tint / tint.mean())


def _draw_bonnet(rng: np.random.Generator) -> Bonnet | None:
    below = float(rng.uniform(0.35, 0.6))
    if rng.random() >= 0.35:
        return None
    ahead, variant = float(rng.uniform(0.2, 0.9)), int(rng.integers(VARIANTS))
    return Bonnet(below=below, ahead=ahead, variant=variant, color=paint(rng))


def _draw_optics(rng: np.random.Generator, tint: Color) -> Optics:
    return Optics(
        exposure_ev=float(rng.normal(0.1, 0.5)),
        highlights=float(rng.beta(1.0, 2.2)),
        white_balance=tint,
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
