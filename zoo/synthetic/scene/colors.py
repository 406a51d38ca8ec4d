"""Colours of clothes, skin and paint: linear reflectances, as everywhere in the world, not sRGB."""

from __future__ import annotations

import numpy as np

from zoo.synthetic.scene.types import Color

__all__ = ["cloth", "hsv", "paint", "person_palette", "vehicle_palette"]

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
"""Car paints and how often each occurs: white, grey and black make up most of real traffic."""

_SKINS: tuple[Color, ...] = ((0.55, 0.36, 0.26), (0.4, 0.24, 0.16), (0.2, 0.11, 0.07), (0.08, 0.045, 0.03))
_SKIN_SHARES = (0.5, 0.25, 0.15, 0.1)
_HAIR: tuple[Color, ...] = (
    (0.02, 0.015, 0.012),
    (0.08, 0.05, 0.03),
    (0.25, 0.17, 0.08),
    (0.3, 0.3, 0.3),
    (0.12, 0.05, 0.02),
)
_GREYS = (0.012, 0.022, 0.04, 0.08, 0.2, 0.5)
_GREY_SHARES = (0.3, 0.26, 0.2, 0.12, 0.07, 0.05)
_JEANS: Color = (0.025, 0.035, 0.075)
_DARK_LEATHER: Color = (0.03, 0.025, 0.02)
_HIGH_VISIBILITY: Color = (0.6, 0.75, 0.05)


def hsv(h: float, s: float, v: float) -> Color:
    """The colour of hue `h` (a whole turn is 1), saturation `s` and value `v`, each 0 to 1."""
    k = (np.array([5, 3, 1]) + h * 6) % 6
    return tuple(v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1))


def paint(rng: np.random.Generator) -> Color:
    """A car's paint."""
    weights = np.array([w for _, w in _PAINTS])
    color = np.array(_PAINTS[int(rng.choice(len(_PAINTS), p=weights / weights.sum()))][0])
    return tuple(np.clip(color * rng.uniform(0.75, 1.25) + rng.normal(0, 0.008, 3), 0.008, 0.85))


def cloth(rng: np.random.Generator) -> Color:
    """A piece of clothing: mostly black or dark grey, otherwise of any hue and rarely bright."""
    if rng.random() < 0.65:
        return tuple(np.clip(rng.choice(_GREYS, p=_GREY_SHARES) * (1 + rng.normal(0, 0.15, 3)), 0.008, 0.8))
    return hsv(rng.random(), rng.uniform(0.3, 0.9), 0.02 + 0.5 * rng.random() ** 2)


def person_palette(rng: np.random.Generator) -> tuple[Color, ...]:
    """Top, trousers, skin, hair, shoes, bag or helmet: the slots of `shapes.people`."""
    skin = np.array(_SKINS[int(rng.choice(4, p=_SKIN_SHARES))])
    hair = _HAIR[int(rng.integers(5))]
    lower = _JEANS if rng.random() < 0.35 else cloth(rng)
    shoes = cloth(rng) if rng.random() < 0.3 else _DARK_LEATHER
    top = cloth(rng)
    if rng.random() < 0.02:
        top = _HIGH_VISIBILITY
    return (top, lower, tuple(skin * rng.uniform(0.8, 1.2)), hair, shoes, cloth(rng))


def vehicle_palette(rng: np.random.Generator) -> tuple[Color, ...]:
    """Body, second colour, lettering: the slots of `shapes.vehicles`."""
    vivid = hsv(rng.random(), rng.uniform(0.3, 0.95), rng.uniform(0.15, 0.7))
    body = paint(rng)
    return (
        body,
        vivid if rng.random() < 0.5 else paint(rng),
        hsv(rng.random(), rng.uniform(0, 0.9), rng.uniform(0.1, 0.8)),
    )
