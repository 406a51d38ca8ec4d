"""From hits to radiance: surface patterns, sun with shadow rays, sky with occlusion rays, mirrors, lamps, air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.synthetic.rendering.cast import Caster, Hits
from zoo.synthetic.rendering.light import Light, sky_radiance
from zoo.synthetic.rendering.texture import ground_albedo, noise, road_albedo, surface_albedo, window_albedo
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["Shaded", "openness_map", "shade"]


def _table(*materials: Material) -> np.ndarray:
    """`(256,)` bool by material; a look-up is ten times as fast as `np.isin`."""
    return np.isin(np.arange(256), materials)


_EMITTERS = _table(Material.LAMP, Material.SIGNAL, Material.HEADLIGHT, Material.TAILLIGHT)
_LEVEL = _table(Material.ASPHALT, Material.GROUND, Material.KERB)
_POROUS = _LEVEL | _table(
    Material.BRICK, Material.STONE, Material.CONCRETE, Material.PLASTER, Material.BARK, Material.CLOTH
)
_WINDOW = 5  # pixels of the openness map that are smoothed together, along each side
_HEAD_ON = np.full(256, 0.035, np.float32)  # what a surface mirrors when seen at a right angle
_HEAD_ON[[Material.GLASS, Material.WINDOW, Material.SHOP]] = 0.1
_HEAD_ON[Material.PAINT] = 0.07


@dataclass(frozen=True)
class Shaded:
    """`(P, 3)` float32 radiance in lux, `(P,)` uint8 label, `(P,)` int32 instance number (-1 for none)."""

    radiance: np.ndarray
    label: np.ndarray
    instance: np.ndarray


def shade(
    scene: Scene,
    caster: Caster,
    light: Light,
    lamps: np.ndarray,
    eye: np.ndarray,
    directions: np.ndarray,
    hits: Hits,
    openness: np.ndarray,
    pixel_angle: float,
    rng: np.random.Generator,
    ego: np.ndarray,
) -> Shaded:
    """Radiance, label and instance of `(P, 3)` rays `directions` from `eye` that gave `hits`.

    `openness` `(P,)` is the fraction of the hemisphere above each hit that is open (see `openness_map`).
    """
    count = len(directions)
    directions = directions.astype(np.float32, copy=False)
    eye, ego = eye.astype(np.float32), ego.astype(np.float32)
    light = light.in_float32()
    length = np.sqrt(_dot(directions, directions))
    unit = directions / length[:, None]
    label = np.full(count, Label.SKY, np.uint8)
    instance = np.full(count, -1, np.int32)
    radiance = np.empty((count, 3), np.float32)
    miss, hit = np.nonzero(hits.face < 0)[0], np.nonzero(hits.face >= 0)[0]
    radiance[miss] = _air_before_sky(light, unit, miss, sky_radiance(light, scene, unit.take(miss, axis=0)))
    if not len(hit):
        return Shaded(radiance, label, instance)
    # In the order of their materials: each material is then one slice.
    material = caster.material.take(hits.face.take(hit))
    order = np.argsort(material, kind="stable")
    hit, material = hit.take(order), material.take(order)
    face = hits.face.take(hit)
    label_ = caster.label.take(face)
    instance[hit] = caster.instance.take(face)
    normal, ray = hits.normal.take(hit, axis=0), unit.take(hit, axis=0)
    range_m = hits.distance.take(hit) * length.take(hit)
    point = eye + ray * range_m[:, None]  # (Q, 3)
    facing = np.clip(-_dot(normal, ray), 0.03, 1)
    foot = range_m * np.float32(pixel_angle) / facing
    albedo, gloss, glow = _surface(scene, caster, hits.uv.take(hit, axis=0), face, material, label_, point, foot, light)
    label[hit] = label_
    if light.snow > 0:
        albedo, gloss = _snow(light, albedo, gloss, material, label_, normal, point)
    if light.wet > 0:
        albedo, gloss = _wet(light, albedo, gloss, material, label_, normal, point)
    start = point + normal * np.float32(0.012)
    direct = np.zeros(len(hit), np.float32)
    if light.sun.max() > 0:
        towards = normal @ light.to_sun
        leaves = slice(*np.searchsorted(material, (Material.FOLIAGE, Material.FOLIAGE + 1)))
        towards[leaves] = 0.25 + 0.6 * np.abs(towards[leaves])
        lit = np.nonzero(towards > 0)[0]
        blocked = caster.blocked(start.take(lit, axis=0), np.broadcast_to(light.to_sun, (len(lit), 3)))
        lit = lit[~blocked]
        direct[lit] = towards.take(lit)
    opened = openness.take(hit)
    up = (0.5 + 0.5 * normal[:, 2]) * 0.9 + 0.1
    ground = 0.16 * (light.ambient + light.sun * max(light.to_sun[2], 0) * 0.5)
    # Three colours, few distinct sources: a product with a small matrix is faster than broadcasting over them.
    shut = 0.22 * (light.ambient + 0.12 * light.sun)
    sources = np.stack([light.sun, light.ambient, ground, shut]).astype(np.float32)
    amounts = np.empty((len(hit), 4), np.float32)
    amounts[:, 0] = direct
    np.multiply(opened, up, out=amounts[:, 1])
    np.subtract(opened, amounts[:, 1], out=amounts[:, 2])
    np.subtract(1, opened, out=amounts[:, 3])
    arriving = amounts @ sources
    if light.lamp or light.headlamp:
        arriving += _lamps(light, lamps, point, normal, ego)
    out = arriving
    out *= albedo
    strength = _strength(gloss, material, facing)
    mirror = np.nonzero(strength > 0.01)[0]
    if len(mirror):
        out[mirror] = _mirror(
            scene,
            caster,
            light,
            lamps,
            start.take(mirror, axis=0),
            ray.take(mirror, axis=0),
            normal.take(mirror, axis=0),
            strength.take(mirror),
            material.take(mirror),
            out.take(mirror, axis=0),
            point.take(mirror, axis=0),
            ego,
        )
    if glow is not None:
        out += glow
    air = np.exp(np.float32(-light.extinction) * range_m)
    for k in range(3):  # channel by channel: broadcasting over three columns is three times as slow
        out[:, k] = (out[:, k] - light.airlight[k]) * air + light.airlight[k]
    radiance[hit] = out
    return Shaded(radiance, label, instance)


def _air_before_sky(light: Light, unit: np.ndarray, miss: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Thick air hides the sky as well."""
    if light.extinction <= 1e-3:
        return sky
    thick = np.exp(-light.extinction * 900 / np.maximum(unit[:, 2].take(miss) * 8 + 0.15, 0.15))[:, None]
    return sky * thick + light.airlight * (1 - thick)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(P,)` scalar products; `einsum` takes four times as long."""
    return np.multiply(a, b) @ np.ones(3, np.float32)


def _surface(scene: Scene, caster: Caster, uv, face, material, label, point, foot, light: Light):
    """Reflectance `(Q, 3)`, gloss `(Q,)` and own light `(Q, 3)` or None of points in the order of their materials.

    Writes into `label` what the ground's pattern decides.
    """
    values, starts = np.unique(material, return_index=True)
    albedo = caster.color.take(face, axis=0)
    gloss = np.zeros(len(face), np.float32)
    glow: np.ndarray | None = None
    if (light.lit or light.lamp or light.headlamp) or Material.SIGNAL in values:
        glow = np.zeros((len(face), 3), np.float32)
    for value, start, stop in zip(values.tolist(), starts, [*starts[1:], len(face)]):
        at = slice(start, stop)
        if value == Material.ASPHALT:
            albedo[at], _ = road_albedo(scene, *_columns(uv[at]), foot[at])
        elif value == Material.GROUND:
            albedo[at], label[at] = ground_albedo(scene, *_columns(uv[at]), foot[at])
        elif value in (Material.WINDOW, Material.SHOP):
            albedo[at], gloss[at], lit = window_albedo(albedo[at], uv[at], value == Material.SHOP)
            if light.lit and glow is not None:
                power = light.lit * (25 if value == Material.SHOP else 8) * min(1.0, max(light.lamp, 2) / 6)
                glow[at] = (lit * power)[:, None] * np.array([1.0, 0.78, 0.5], np.float32) * (0.35 + albedo[at])
        elif value == Material.PAINT:
            gloss[at] = 0.6
        elif value == Material.GLASS:
            gloss[at] = 1.0
        elif value == Material.LAMP:
            if glow is not None:
                glow[at] = 250 * light.lamp * np.asarray(light.lamp_color)
        elif value == Material.SIGNAL:
            if glow is not None:
                glow[at] = albedo[at] * (9000 if light.lamp == 0 else 300 * (1 + 0.1 * light.lamp))
        elif value == Material.HEADLIGHT:
            gloss[at] = 0.8
            if light.headlamp and glow is not None:
                glow[at] = 900.0
        elif value == Material.TAILLIGHT:
            gloss[at] = 0.5
            if light.headlamp and glow is not None:
                glow[at] = (90.0, 3.0, 2.0)
        else:
            albedo[at] = surface_albedo(value, albedo[at], uv[at], point[at], foot[at])
            if value == Material.METAL:
                gloss[at] = 0.12
    return albedo, gloss, glow


def _columns(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both columns of `(P, 2)`, each in one piece."""
    return np.ascontiguousarray(uv[:, 0]), np.ascontiguousarray(uv[:, 1])


def _snow(light, albedo, gloss, material, label, normal, point):
    """White on what faces up; tyre tracks stay dark on the road."""
    x, y = _columns(point)
    patch = noise(x, y, 23.0, 1.1, 51) * 0.35 + 0.2 * noise(x, y, 4.0, 0.7, 52)
    up = normal[:, 2]
    cover = np.clip((up - 0.35) * 2.2, 0, 1) * np.clip(light.snow * 1.5 + patch, 0, 1)
    road = np.nonzero(label == Label.ROAD)[0]
    cover[road] = np.clip(light.snow * 1.15 - 0.35 + 1.1 * patch.take(road), 0, 1)
    leaves = slice(*np.searchsorted(material, (Material.FOLIAGE, Material.FOLIAGE + 1)))
    cover[leaves] = np.clip(np.abs(up[leaves]) * light.snow + 0.2 * patch[leaves], 0, 0.9)
    cover[(label == Label.PERSON) | (label == Label.RIDER)] *= 0.3
    white = 1 + 0.06 * noise(x, y, 1.5, 0.6, 53)
    for k, tone in enumerate((0.82, 0.85, 0.9)):
        albedo[:, k] += (white * tone - albedo[:, k]) * cover
    return albedo, gloss * (1 - cover)


def _wet(light, albedo, gloss, material, label, normal, point):
    """Water fills the pores: darker, and a mirror where it lies level."""
    level = normal[:, 2] > 0.85
    half = np.float32(0.5 * light.wet)
    darker = np.where(_POROUS.take(material), 1 - half * np.where(level, np.float32(1), np.float32(0.5)), np.float32(1))
    for k in range(3):
        albedo[:, k] *= darker
    flat = np.nonzero(level & _LEVEL.take(material) & (label != Label.TERRAIN))[0]
    x, y = point[:, 0].take(flat), point[:, 1].take(flat)
    puddle = np.clip(0.5 + 0.6 * noise(x, y, 17.0, 1.3, 61), 0.12, 1)
    gloss[flat] = np.maximum(gloss.take(flat), light.wet * puddle)
    return albedo, gloss


def openness_map(
    caster: Caster,
    eye: np.ndarray,
    directions: np.ndarray,
    hits: Hits,
    shape: tuple[int, int],
    rng: np.random.Generator,
    reach: float = 30.0,
) -> np.ndarray:
    """`(H * W,)` open fraction of the hemisphere within `reach` metres: a cosine ray at every second pixel, smoothed.

    The 25 rays that are smoothed together start into 25 different parts of the hemisphere.
    """
    height, width = shape
    index = np.arange(height * width).reshape(shape)[::2, ::2]
    solid = hits.face.take(index) >= 0
    chosen = index[solid]
    normal = hits.normal.take(chosen, axis=0)
    start = directions.take(chosen, axis=0).astype(np.float32, copy=False) * hits.distance.take(chosen)[:, None]
    start += eye.astype(np.float32)
    start += normal * np.float32(0.012)
    row, column = np.nonzero(solid)
    part = (row % _WINDOW) * _WINDOW + column % _WINDOW
    # A point on the unit sphere added to the normal gives a cosine direction.
    z = (2 / _WINDOW) * (part % _WINDOW + rng.random(len(chosen), np.float32)) - 1
    turn = (2 * np.pi / _WINDOW) * (part // _WINDOW + rng.random(len(chosen), np.float32))
    flat = np.sqrt(np.maximum(1 - z * z, 0))
    toward = normal + 0.98 * np.stack([flat * np.cos(turn), flat * np.sin(turn), z], 1).astype(np.float32)
    toward /= np.maximum(np.sqrt(_dot(toward, toward)), 1e-6)[:, None]
    free = ~caster.blocked(start, toward, reach)
    # Smoothing only among neighbours at a similar distance keeps contact shadows sharp.
    value, log_depth = np.zeros(index.shape, np.float32), np.full(index.shape, 20.0, np.float32)
    value[solid] = free
    log_depth[solid] = np.log(hits.distance.take(chosen))
    pad = _WINDOW // 2
    values, depths = np.pad(value, pad, mode="edge"), np.pad(log_depth, pad, mode="edge")
    top, bottom = values.copy(), np.full_like(values, 1 + 1e-6)
    rows, columns = values.shape
    for dy in range(pad + 1):  # two neighbours weigh the same for each other: half of the pairs are enough
        for dx in range(-pad if dy else 1, pad + 1):
            here = (slice(0, rows - dy), slice(max(0, -dx), columns - max(0, dx)))
            there = (slice(dy, rows), slice(max(0, dx), columns - max(0, -dx)))
            near = np.exp(np.abs(depths[here] - depths[there]) * -12)
            top[here] += values[there] * near
            top[there] += values[here] * near
            bottom[here] += near
            bottom[there] += near
    top, bottom = top[pad:-pad, pad:-pad], bottom[pad:-pad, pad:-pad]
    return np.repeat(np.repeat(top / bottom, 2, 0), 2, 1)[:height, :width].ravel()


def _lamps(light: Light, lamps: np.ndarray, point: np.ndarray, normal: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """Lux from street lamps and the ego's own headlamps, without shadows."""
    total = np.zeros((len(point), 3), np.float32)
    if light.lamp and len(lamps):
        middle = ego[:3, 3]
        near = lamps[np.argsort(np.linalg.norm(lamps - middle, axis=1))[:14]].astype(np.float32) - middle
        local = point - middle
        square_, along, height = _dot(local, local), _dot(local, normal), np.ascontiguousarray(local[:, 2])
        amount = np.zeros(len(point), np.float32)
        for lamp in near:
            square = np.maximum(square_ - 2 * (local @ lamp) + lamp @ lamp, 1e-4)
            distance = np.sqrt(square)
            cosine = np.clip((normal @ lamp - along) / distance, 0, 1)
            down = np.clip((lamp[2] - height) / distance, 0, 1)
            amount += light.lamp * 55.0 * cosine * (0.1 + 0.9 * down) / np.maximum(square, 4)
        total += amount[:, None] * np.asarray(light.lamp_color, np.float32)
    if light.headlamp:
        for side in (-0.6, 0.6):
            source = ego[:3, 3] + ego[:3, :3] @ np.array([2.2, side, 0.65], np.float32)
            to = point - source
            local = to @ ego[:3, :3]
            square = _dot(to, to)
            distance = np.sqrt(square)
            cosine = np.clip(-_dot(to, normal) / distance, 0, 1)
            ahead = np.maximum(local[:, 0], 0.01)
            beam = (
                np.exp(-((local[:, 1] / ahead / 0.33) ** 2))
                * np.clip(0.5 - (local[:, 2] / ahead) * 14, 0.03, 1)
                * (local[:, 0] > 0)
            )
            total += (light.headlamp * 160 * cosine * beam / np.maximum(square, 6))[:, None] * np.array(
                [1.0, 0.93, 0.82], np.float32
            )
    return total


def _strength(gloss: np.ndarray, material: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """`(Q,)` share of the light that is mirrored: `gloss` times Schlick's Fresnel term."""
    strength = np.zeros_like(gloss)
    glossy = np.nonzero(gloss > 0.02)[0]
    f0 = _HEAD_ON.take(material.take(glossy))
    strength[glossy] = gloss.take(glossy) * (f0 + (1 - f0) * (1 - facing.take(glossy)) ** 5)
    return strength


def _mirror(scene, caster, light, lamps, start, unit, normal, strength, material, base, point, ego) -> np.ndarray:
    """Adds what glossy surfaces reflect, by one ray each."""
    # Ripples of water films are metres to centimetres long; panes and paint are almost flat.
    away = point - ego[:3, 3]
    ripple = np.where(
        _LEVEL.take(material), np.float32(0.022) / (1 + np.sqrt(_dot(away, away)) / 30), np.float32(0.002)
    )
    x, y = point[:, 0] + point[:, 2], point[:, 1] + point[:, 2]
    bent = normal.copy()
    bent[:, 0] += ripple * noise(x, y, 2.4, 0.8, 71)
    bent[:, 1] += ripple * noise(x, y, 2.4, 0.8, 72)
    bent /= np.sqrt(_dot(bent, bent))[:, None]
    toward = unit - (2 * _dot(unit, bent))[:, None] * bent
    hits = caster.trace(start, toward)
    seen = np.empty((len(start), 3), np.float32)
    sky, solid = np.nonzero(hits.face < 0)[0], np.nonzero(hits.face >= 0)[0]
    seen[sky] = np.minimum(sky_radiance(light, scene, toward.take(sky, axis=0)), 60000)
    if len(solid):
        face = hits.face.take(solid)
        n = hits.normal.take(solid, axis=0)
        at = start.take(solid, axis=0) + toward.take(solid, axis=0) * hits.distance.take(solid)[:, None]
        amounts = np.stack([0.35 + 0.3 * n[:, 2], 0.45 * np.clip(n @ light.to_sun, 0, 1)], 1)
        level = amounts @ np.stack([light.ambient, light.sun])
        if light.lamp or light.headlamp:
            level += _lamps(light, lamps, at, n, ego)
        color, kind = caster.color.take(face, axis=0), caster.material.take(face)
        level *= np.where((kind == Material.ASPHALT)[:, None], np.float32(scene.street.shade), color)
        shining = np.nonzero(_EMITTERS.take(kind))[0]
        if len(shining) and (light.lamp or light.headlamp):
            level[shining] += color.take(shining, axis=0) * (120 * max(light.lamp, 1))
        seen[solid] = level
    seen -= base
    seen *= strength[:, None]
    seen += base
    return seen
