"""The light of a place under a condition: sun, sky, lamps and air, in lux and per metre.

Radiance is written in lux too: a white matt surface under E lux has radiance E (the factor pi is left out everywhere).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from zoo.condition import Condition
from zoo.synthetic.rendering.noise import noise
from zoo.synthetic.scene.types import Scene

__all__ = ["Light", "light_of", "sky_radiance"]

_BLUE, _HAZE, _GREY = np.array([0.50, 0.72, 1.15]), np.array([0.9, 0.97, 1.05]), np.array([0.97, 1.0, 1.05])
"""Colours of a blue sky overhead and near the horizon, and of clouds."""
_DAY_BEAM, _NIGHT_BEAM = 60000.0, 900.0
"""A dipped headlamp has some 20,000 cd/m2 away from its axis; by night as much would blind the sensor."""
_LAMP_COLORS = ((1.0, 0.62, 0.25), (1.0, 0.8, 0.55), (0.9, 0.95, 1.0))
"""Of street lamps: sodium, warm and cold white."""
_LAMP_SHARES = (0.5, 0.25, 0.25)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light and air of one condition.

    Attributes:
        to_sun: `(3,)` unit vector.
        sun: `(3,)` lux on a surface that faces the sun.
        zenith, horizon: `(3,)` sky radiance.
        ambient: `(3,)` lux of the whole sky on a level surface.
        cloud: Cover, 0 to 1.
        extinction: Of the air, 1 / m.
        airlight: `(3,)` radiance of endless air.
        lamp: Lux of a street lamp on the ground below it.
        headlamp: Lux of the ego's headlamps at 10 m.
        beam: Radiance of other vehicles' headlamps; 0: off. Their rear lamps have a tenth of it.
        lit: Fraction of the lit windows that are on.
        wet, snow: 0 to 1.
        rain_mm_h, snow_mm_h: Rates.
        target: Mean brightness that the exposure aims at (0..1).
        gain: Sensor noise relative to daylight.
    """

    to_sun: np.ndarray
    sun: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    ambient: np.ndarray
    cloud: float
    extinction: float
    airlight: np.ndarray
    lamp: float = 0.0
    lamp_color: tuple[float, float, float] = (1.0, 0.72, 0.4)
    headlamp: float = 0.0
    beam: float = 0.0
    lit: float = 0.0
    wet: float = 0.0
    snow: float = 0.0
    rain_mm_h: float = 0.0
    snow_mm_h: float = 0.0
    target: float = 0.2
    gain: float = 1.0

    @property
    def brightest(self) -> float:
        """Radiance of a white surface in full light: a sample far above it would speckle."""
        return float(self.sun.max() + self.ambient.max() + 10 * self.lamp + self.headlamp)

    def in_float32(self) -> Light:
        """The same with float32 arrays, so that the shader never leaves float32."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                changed[field.name] = value.astype(np.float32)
            elif isinstance(value, float):  # a NumPy float64 among them would make every float32 product a float64
                changed[field.name] = float(value)
        return replace(self, **changed)


def light_of(scene: Scene, condition: Condition) -> Light:
    """Sun, sky, lamps and air of `scene` under `condition`."""
    rng = np.random.default_rng([scene.seed, 97])
    # Under a condition the sky is overcast, whatever it is on a clear day.
    cover = scene.sky.cloud_cover if condition.weather == "clear" else float(rng.uniform(0.9, 1.0))
    light = _by_day(scene, cover, visibility_m=float(rng.uniform(8000, 40000)))
    if condition.weather != "clear":
        light = _in_weather(light, scene, condition, rng)
    if condition.time_of_day == "dusk":
        light = _at_dusk(light, condition, rng)
    elif condition.time_of_day == "night":
        light = _by_night(light, condition, rng)
    ambient = 0.62 * light.zenith + 0.38 * light.horizon  # the sky's mean over the hemisphere, weighted by the cosine
    lamp_color = _LAMP_COLORS[int(rng.choice(3, p=_LAMP_SHARES))]
    airlight = 0.95 * light.horizon
    if condition.time_of_day == "night":  # the air shines in the light of the street lamps
        airlight = light.horizon + 0.03 * light.lamp * np.asarray(lamp_color)
    return replace(light, ambient=ambient, airlight=airlight, lamp_color=lamp_color)


def _elevation_sine(scene: Scene) -> float:
    return np.sin(np.radians(scene.sky.sun_elevation))


def _overcast_level(high: float, cover: float) -> float:
    """Lux of a level surface under the sky alone: 9,000 to 18,000 if blue, 7,000 to 23,000 under clouds."""
    return (9000 + 9000 * high) * (1 - cover) + (7000 + 16000 * high) * cover


def _by_day(scene: Scene, cover: float, visibility_m: float) -> Light:
    """A dry day; `ambient` and `airlight` are left to `light_of`."""
    azimuth, elevation = np.radians(scene.sky.sun_azimuth), np.radians(scene.sky.sun_elevation)
    high = _elevation_sine(scene)
    warm = np.array([1.0, 0.96 - 0.25 * np.exp(-high * 5), 0.9 - 0.5 * np.exp(-high * 5)])
    # Above a cover of 0.82 the sun casts no shadows.
    through = 0.0 if cover > 0.82 else 1 - 0.75 * cover**2
    level = _overcast_level(high, cover)
    return Light(
        to_sun=np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), high]),
        # 95,000 lux above the air, dimmed along its slanting path through it (at most 17 times the upright one).
        sun=95000 * np.exp(-0.22 / max(high, 0.06)) * through * warm,
        # Towards the horizon a clear sky is whiter and about three times as bright as overhead.
        zenith=level * (0.75 * _BLUE * (1 - cover) + _GREY * cover),
        horizon=level * (2.1 * _HAZE * (1 - cover) + 1.25 * _GREY * cover),
        ambient=np.zeros(3),
        cloud=cover,
        extinction=3.0 / visibility_m,  # Koschmieder: 5 % of the contrast is left at the visibility, -ln(0.05) = 3.0
        airlight=np.zeros(3),
    )


def _in_weather(light: Light, scene: Scene, condition: Condition, rng: np.random.Generator) -> Light:
    """Fog, rain or snow by day. Sources of the attenuations: `docs/synthetic.md`."""
    value = condition.amount(condition.weather)
    sunless = replace(light, sun=light.sun * 0, beam=_DAY_BEAM)  # vehicles switch their lamps on
    if condition.weather == "fog":
        grey = _overcast_level(_elevation_sine(scene), light.cloud) * _GREY * 0.8
        extinction, wet = float(-np.log(0.05) / value), float(rng.uniform(0, 0.35))
        return replace(sunless, extinction=extinction, zenith=grey, horizon=grey, wet=wet, target=0.26)
    if condition.weather == "rain":
        return replace(
            sunless,
            extinction=light.extinction + 0.248e-3 * value**0.67,  # 1.076 R ** 0.67 dB / km
            zenith=light.zenith * 0.5,
            horizon=light.horizon * 0.55,
            wet=float(np.clip(0.55 + 0.012 * value, 0, 1)),
            rain_mm_h=value,
        )
    return replace(
        sunless,
        extinction=light.extinction + 1.26e-3 * value**1.38,  # dry snow, 5.5 S ** 1.38 dB / km
        zenith=light.zenith * 0.8,
        horizon=light.horizon * 0.8,
        snow=float(np.clip(0.45 + 0.11 * value, 0, 1)),
        snow_mm_h=value,
        target=0.3,  # cameras expose snow so that it comes out white
    )


def _at_dusk(light: Light, condition: Condition, rng: np.random.Generator) -> Light:
    lux = condition.amount("dusk")
    glow = np.array([1.25, 0.95, 0.75]) if light.cloud < 0.7 else np.array([0.95, 0.97, 1.08])
    lamp, headlamp, lit = (12.0, 8.0, 0.6) if lux < 300 else (4.0, 4.0, 0.4)
    return replace(
        light,
        sun=light.sun * 0,
        zenith=lux * np.array([0.62, 0.8, 1.2]) * 0.85,
        horizon=lux * glow * 1.4,
        lamp=lamp,
        headlamp=headlamp,
        beam=_NIGHT_BEAM,
        lit=lit,
        target=float(rng.uniform(0.06, 0.14)),
        gain=1.6 + 120 / lux,
    )


def _by_night(light: Light, condition: Condition, rng: np.random.Generator) -> Light:
    lux = condition.amount("night")
    sky = lux * 0.02 * np.array([0.75, 0.8, 1.0])
    return replace(
        light,
        sun=light.sun * 0,
        zenith=sky,
        horizon=sky * np.array([2.4, 1.9, 1.4]),  # the glow of the town
        lamp=lux * 2.2,  # a lamp's own spot; the road between lamps comes to `lux` on average
        headlamp=9.0,
        beam=_NIGHT_BEAM,
        lit=1.0,
        target=float(rng.uniform(0.035, 0.09)),
        gain=3.0 + 4.0 / np.sqrt(lux),
    )


def sky_radiance(light: Light, scene: Scene, directions: np.ndarray) -> np.ndarray:
    """`(P, 3)` radiance of the sky along `(P, 3)` unit vectors; below the horizon it goes on as at the horizon."""
    up = np.clip(directions[:, 2], 0.0, 1)
    mix = (up ** np.float32(0.35))[:, None]  # haze whitens the lowest 10 to 20 degrees
    base = light.horizon * (1 - mix) + light.zenith * mix
    if light.cloud > 0.02 and light.zenith.max() > 20:
        h = np.maximum(up, 0.03) + 0.06
        x, y = directions[:, 0] / h, directions[:, 1] / h
        k = scene.sky.cloud_scale
        shift = scene.sky.cloud_seed % 997
        field = noise(x * k + shift, y * k, 18.0, 1.5, 31) + 0.35 * noise(x * k, y * k + shift, 5.0, 1.2, 32)
        threshold = 1.6 - 3.2 * light.cloud
        amount = np.clip((field - threshold) * 0.9, 0, 1)[:, None]
        body = light.horizon * 0.35 + light.ambient * 0.75 + 0.16 * light.sun
        shade = 1.08 - 0.22 * np.clip(field - threshold - 0.6, 0, 1.5)[:, None]
        base = base * (1 - amount) + amount * body * shade
    toward = directions @ light.to_sun
    if light.sun.max() > 0:
        glow = 0.12 * np.exp((toward - 1) * 9) + 1.2 * np.exp((toward - 1) * 250) + np.float32(25) * (toward > 0.99996)
        base += glow[:, None] * light.sun
    return base
