"""The light of a place under a condition: sun, sky, lamps and air, in lux and per metre.

Radiance is written in lux too: a white matt surface under E lux has radiance E (the factor pi is left out everywhere).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.condition import SEVERITY_UNITS, Condition
from zoo.synthetic.rendering.texture import noise
from zoo.synthetic.scene.types import Scene

__all__ = ["Light", "light_of", "physical_value", "sky_radiance"]

_DEFAULT_SEVERITY = 3


@dataclass(frozen=True)
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
        arrays = {k: v.astype(np.float32) for k, v in self.__dict__.items() if isinstance(v, np.ndarray)}
        numbers = {k: float(v) for k, v in self.__dict__.items() if isinstance(v, float)}
        return Light(**{**self.__dict__, **numbers, **arrays})


def physical_value(condition: Condition, what: str) -> float:
    """The physical value of `what` (fog, rain, snow, dusk, night): the step of the condition's severity, or step 3.

    With adverse weather the severity is the weather's, and the time of day takes step 3.
    """
    own = what == condition.name and condition.severity > 0
    return SEVERITY_UNITS[what][1][(condition.severity if own else _DEFAULT_SEVERITY) - 1]


def light_of(scene: Scene, condition: Condition) -> Light:
    """Sun, sky, lamps and air of `scene` under `condition`."""
    sky = scene.sky
    rng = np.random.default_rng([scene.seed, 97])
    azimuth, elevation = np.radians(sky.sun_azimuth), np.radians(sky.sun_elevation)
    to_sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    high = np.sin(elevation)
    cover = sky.cloud_cover if condition.weather == "clear" else float(rng.uniform(0.9, 1.0))
    warm = np.array([1.0, 0.96 - 0.25 * np.exp(-high * 5), 0.9 - 0.5 * np.exp(-high * 5)])
    through = 0.0 if cover > 0.82 else 1 - 0.75 * cover**2
    sun = 95000 * np.exp(-0.22 / max(high, 0.06)) * through * warm
    blue, grey = np.array([0.50, 0.72, 1.15]), np.array([0.97, 1.0, 1.05])
    level = (9000 + 9000 * high) * (1 - cover) + (7000 + 16000 * high) * cover
    zenith = level * (blue * (1 - cover) + grey * cover)
    horizon = level * 1.25 * (np.array([0.85, 0.95, 1.05]) * (1 - cover) + grey * cover)
    extinction, wet, snow, rain_rate, snow_rate, gain = 3.0 / float(rng.uniform(8000, 40000)), 0.0, 0.0, 0.0, 0.0, 1.0
    lamp = headlamp = lit = 0.0
    target = 0.2
    if condition.weather == "fog":
        extinction = -np.log(0.05) / physical_value(condition, "fog")
        zenith = horizon = level * grey * 0.8
        sun = sun * 0
        wet = float(rng.uniform(0, 0.35))
        target = 0.26
    elif condition.weather == "rain":
        rain_rate = physical_value(condition, "rain")
        extinction += 0.248e-3 * rain_rate**0.67  # 1.076 R ** 0.67 dB / km
        zenith, horizon = zenith * 0.5, horizon * 0.55
        sun = sun * 0
        wet = float(np.clip(0.55 + 0.012 * rain_rate, 0, 1))
    elif condition.weather == "snow":
        snow_rate = physical_value(condition, "snow")
        extinction += 1.26e-3 * snow_rate**1.38  # dry snow, 5.5 S ** 1.38 dB / km
        sun = sun * 0
        snow = float(np.clip(0.45 + 0.11 * snow_rate, 0, 1))
        zenith, horizon = zenith * 0.8, horizon * 0.8
        target = 0.3
    if condition.time_of_day == "dusk":
        lux = physical_value(condition, "dusk")
        glow = np.array([1.25, 0.95, 0.75]) if cover < 0.7 else np.array([0.95, 0.97, 1.08])
        zenith, horizon = lux * np.array([0.62, 0.8, 1.2]) * 0.85, lux * glow * 1.4
        sun = sun * 0
        lamp, headlamp, lit = (12.0, 8.0, 0.6) if lux < 300 else (4.0, 4.0, 0.4)
        target, gain = float(rng.uniform(0.06, 0.14)), 1.6 + 120 / lux
    elif condition.time_of_day == "night":
        lux = physical_value(condition, "night")
        zenith = horizon = lux * 0.02 * np.array([0.75, 0.8, 1.0])
        horizon = horizon * np.array([2.4, 1.9, 1.4])
        sun = sun * 0
        lamp, headlamp, lit = lux * 2.2, 9.0, 1.0
        target, gain = float(rng.uniform(0.035, 0.09)), 3.0 + 4.0 / np.sqrt(lux)
    ambient = 0.62 * zenith + 0.38 * horizon
    color = [(1.0, 0.62, 0.25), (1.0, 0.8, 0.55), (0.9, 0.95, 1.0)][int(rng.choice(3, p=[0.5, 0.25, 0.25]))]
    airlight = 0.95 * horizon * np.array([1.0, 1.0, 1.0])
    if condition.time_of_day == "night":
        airlight = horizon + 0.03 * lamp * np.asarray(color)
    return Light(
        to_sun,
        sun,
        zenith,
        horizon,
        ambient,
        cover,
        float(extinction),
        airlight,
        lamp,
        color,
        headlamp,
        lit,
        wet,
        snow,
        rain_rate,
        snow_rate,
        target,
        gain,
    )


def sky_radiance(light: Light, scene: Scene, directions: np.ndarray) -> np.ndarray:
    """`(P, 3)` radiance of the sky along `(P, 3)` unit vectors; below the horizon it goes on as at the horizon."""
    up = np.clip(directions[:, 2], 0.0, 1)
    mix = np.sqrt(up)[:, None]
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
