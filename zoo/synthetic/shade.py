"""From hits to radiance: surface patterns, sun with shadow rays, sky with occlusion rays, mirrors, lamps, air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.synthetic.cast import Caster, Hits
from zoo.synthetic.light import Light, sky_radiance
from zoo.synthetic.mesh import Label, Material
from zoo.synthetic.scene import Scene
from zoo.synthetic.texture import ground_albedo, noise, road_albedo, surface_albedo, window_albedo

__all__ = ["Shaded", "openness_map", "shade"]

_EMITTERS = (Material.LAMP, Material.SIGNAL, Material.HEADLIGHT, Material.TAILLIGHT)


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
    directions, eye, ego = directions.astype(np.float32), eye.astype(np.float32), ego.astype(np.float32)
    light = light.in_float32()
    length = np.sqrt(_dot(directions, directions))
    unit = directions / length[:, None]
    hit = np.nonzero(hits.face >= 0)[0]
    label = np.full(count, Label.SKY, np.uint8)
    instance = np.full(count, -1, np.int32)
    radiance = np.empty((count, 3), np.float32)
    miss = hits.face < 0
    radiance[miss] = sky_radiance(light, scene, unit[miss])
    if not len(hit):
        return Shaded(radiance, label, instance)
    face = hits.face[hit]
    label[hit], instance[hit] = caster.label[face], caster.instance[face]
    material = caster.material[face]
    normal, ray = hits.normal.take(hit, axis=0), unit.take(hit, axis=0)
    range_m = hits.distance.take(hit) * length.take(hit)
    point = eye + ray * range_m[:, None]  # (Q, 3)
    facing = np.clip(-_dot(normal, ray), 0.03, 1)
    foot = (range_m * pixel_angle / facing).astype(np.float32)
    albedo, gloss, glow, ground_label = _surface(scene, caster, hits, hit, face, material, point, foot, light)
    label[hit] = np.where(ground_label == 254, label[hit], ground_label)
    if light.snow > 0:
        albedo, gloss = _snow(scene, light, albedo, gloss, material, label[hit], normal, point)
    if light.wet > 0:
        albedo, gloss = _wet(light, albedo, gloss, material, label[hit], normal, point)
    start = point + normal * np.float32(0.012)
    direct = np.zeros(len(hit), np.float32)
    if light.sun.max() > 0:
        towards = normal @ light.to_sun
        towards = np.where(material == Material.FOLIAGE, 0.25 + 0.6 * np.abs(towards), towards)
        lit = np.nonzero(towards > 0)[0]
        blocked = caster.blocked(start[lit], np.broadcast_to(light.to_sun.astype(np.float32), (len(lit), 3)))
        direct[lit] = towards[lit] * ~blocked
    opened = openness.take(hit)
    up = (0.5 + 0.5 * normal[:, 2]) * 0.9 + 0.1
    ground = 0.16 * (light.ambient + light.sun * max(light.to_sun[2], 0) * 0.5)
    # Three colours, few distinct sources: a product with a small matrix is faster than broadcasting over them.
    shut = 0.22 * (light.ambient + 0.12 * light.sun)
    sources = np.stack([light.sun, light.ambient, ground, shut]).astype(np.float32)
    amounts = np.stack([direct, opened * up, opened * (1 - up), 1 - opened], 1)
    arriving = amounts @ sources
    if light.lamp or light.headlamp:
        arriving = arriving + _lamps(light, lamps, point, normal, ego)
    out = albedo * arriving
    mirror = np.nonzero(gloss > 0.02)[0]
    if len(mirror):
        out[mirror] = _mirror(
            scene,
            caster,
            light,
            lamps,
            start[mirror],
            ray[mirror],
            normal[mirror],
            gloss[mirror],
            material[mirror],
            out[mirror],
            point[mirror],
            facing[mirror],
            rng,
            ego,
        )
    out = out + glow
    air = np.exp(np.float32(-light.extinction) * range_m)[:, None]
    out *= air
    out += (1 - air) @ light.airlight[None]
    radiance[hit] = out
    if light.extinction > 1e-3:  # thick air hides the sky as well
        thick = np.exp(-light.extinction * 900 / np.maximum(unit[miss][:, 2:] * 8 + 0.15, 0.15))
        radiance[miss] = radiance[miss] * thick + light.airlight * (1 - thick)
    return Shaded(radiance, label, instance)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(P,)` scalar products; `sum(axis=1)` over three columns is five times slower."""
    return np.einsum("ij,ij->i", a, b)


def _surface(scene: Scene, caster: Caster, hits: Hits, hit, face, material, point, foot, light: Light):
    """Reflectance, gloss, own light `(Q, 3)` and the label that the ground's pattern decides (254 elsewhere)."""
    # Pixels in the order of their materials: each material is then one slice.
    order = np.argsort(material, kind="stable")
    values, starts = np.unique(material[order], return_index=True)
    albedo, uv = caster.color.take(face.take(order), axis=0), hits.uv.take(hit.take(order), axis=0)
    point, foot = point.take(order, axis=0), foot.take(order)
    gloss, glow = np.zeros(len(hit), np.float32), np.zeros((len(hit), 3), np.float32)
    ground_label = np.full(len(hit), 254, np.uint8)
    for value, start, stop in zip(values, starts, [*starts[1:], len(hit)]):
        at = slice(start, stop)
        if value == Material.ASPHALT:
            albedo[at], _ = road_albedo(scene, uv[at, 0], uv[at, 1], foot[at])
        elif value == Material.GROUND:
            albedo[at], ground_label[at] = ground_albedo(scene, uv[at, 0], uv[at, 1], foot[at])
        elif value in (Material.WINDOW, Material.SHOP):
            albedo[at], gloss[at], lit = window_albedo(albedo[at], uv[at], value == Material.SHOP)
            if light.lit:
                power = light.lit * (25 if value == Material.SHOP else 8) * min(1.0, max(light.lamp, 2) / 6)
                glow[at] = (lit * power)[:, None] * np.array([1.0, 0.78, 0.5]) * (0.35 + albedo[at])
        elif value == Material.PAINT:
            gloss[at] = 0.6
        elif value == Material.GLASS:
            gloss[at] = 1.0
        elif value == Material.LAMP:
            glow[at] = 250 * light.lamp * np.asarray(light.lamp_color)
        elif value == Material.SIGNAL:
            glow[at] = albedo[at] * (9000 if light.lamp == 0 else 300 * (1 + 0.1 * light.lamp))
        elif value == Material.HEADLIGHT:
            gloss[at], glow[at] = 0.8, 900.0 if light.headlamp else 0.0
        elif value == Material.TAILLIGHT:
            gloss[at], glow[at] = 0.5, (90.0, 3.0, 2.0) if light.headlamp else 0.0
        else:
            albedo[at] = surface_albedo(int(value), albedo[at], uv[at], point[at], foot[at])
            if value == Material.METAL:
                gloss[at] = 0.12
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return (
        albedo.take(back, axis=0),
        gloss.take(back),
        glow if not glow.any() else glow.take(back, axis=0),
        ground_label.take(back),
    )


def _snow(scene, light, albedo, gloss, material, label, normal, point):
    """White on what faces up; tyre tracks stay dark on the road."""
    patch = noise(point[:, 0], point[:, 1], 23.0, 1.1, 51) * 0.35 + 0.2 * noise(point[:, 0], point[:, 1], 4.0, 0.7, 52)
    cover = np.clip((normal[:, 2] - 0.35) * 2.2, 0, 1) * np.clip(light.snow * 1.5 + patch, 0, 1)
    road = label == Label.ROAD
    if road.any():
        slush = np.clip(light.snow * 1.15 - 0.35 + 1.1 * patch[road], 0, 1)
        cover[road] = slush
    leaves = material == Material.FOLIAGE
    cover[leaves] = np.clip(np.abs(normal[leaves, 2]) * light.snow + 0.2 * patch[leaves], 0, 0.9)
    people = (label == 11) | (label == 12)
    cover[people] *= 0.3
    white = np.array([0.82, 0.85, 0.9]) * (1 + 0.06 * noise(point[:, 0], point[:, 1], 1.5, 0.6, 53))[:, None]
    cover = cover[:, None]
    return (albedo * (1 - cover) + white * cover).astype(np.float32), gloss * (1 - cover[:, 0])


def _wet(light, albedo, gloss, material, label, normal, point):
    """Water fills the pores: darker, and a mirror where it lies level."""
    level = normal[:, 2] > 0.85
    porous = np.isin(
        material,
        (
            Material.ASPHALT,
            Material.GROUND,
            Material.KERB,
            Material.BRICK,
            Material.STONE,
            Material.CONCRETE,
            Material.PLASTER,
            Material.BARK,
            Material.CLOTH,
        ),
    )
    darker = np.where(porous, 1 - 0.5 * light.wet * np.where(level, 1, 0.5), 1).astype(np.float32)
    puddle = np.clip(0.5 + 0.6 * noise(point[:, 0], point[:, 1], 17.0, 1.3, 61), 0.12, 1)
    flat = level & np.isin(material, (Material.ASPHALT, Material.GROUND, Material.KERB)) & (label != 9)
    return albedo * darker[:, None], np.where(flat, np.maximum(gloss, light.wet * puddle), gloss).astype(np.float32)


def openness_map(
    caster: Caster,
    eye: np.ndarray,
    directions: np.ndarray,
    hits: Hits,
    shape: tuple[int, int],
    rng: np.random.Generator,
    rays: int = 2,
    reach: float = 30.0,
) -> np.ndarray:
    """`(H * W,)` open fraction of the hemisphere within `reach` metres: cosine rays at every second pixel, smoothed."""
    height, width = shape
    index = np.arange(height * width).reshape(shape)[::2, ::2]
    solid = hits.face.take(index) >= 0
    chosen = index[solid]
    normal = hits.normal.take(chosen, axis=0)
    start = (
        eye.astype(np.float32)
        + directions.astype(np.float32).take(chosen, axis=0) * hits.distance.take(chosen)[:, None]
        + normal * np.float32(0.012)
    )
    total = np.zeros(len(chosen), np.float32)
    for _ in range(rays):
        random = rng.standard_normal((len(chosen), 3), np.float32)
        random *= (0.98 / np.sqrt(_dot(random, random)))[:, None]
        toward = normal + random
        toward /= np.maximum(np.sqrt(_dot(toward, toward)), 1e-6)[:, None]
        total += ~caster.blocked(start, toward, reach)
    # Smoothing only among neighbours at a similar distance keeps contact shadows sharp.
    value, log_depth = np.zeros(index.shape, np.float32), np.full(index.shape, 20.0, np.float32)
    value[solid] = total / rays
    log_depth[solid] = np.log(hits.distance.take(chosen))
    pad = 2
    h, w = index.shape
    values, depths = np.pad(value, pad, mode="edge"), np.pad(log_depth, pad, mode="edge")
    top, bottom = np.zeros_like(value), np.full_like(value, 1e-6)
    for dy in range(2 * pad + 1):
        for dx in range(2 * pad + 1):
            near = np.exp(np.abs(depths[dy : dy + h, dx : dx + w] - log_depth) * -12)
            top += values[dy : dy + h, dx : dx + w] * near
            bottom += near
    return np.repeat(np.repeat(top / bottom, 2, 0), 2, 1)[:height, :width].ravel()


def _lamps(light: Light, lamps: np.ndarray, point: np.ndarray, normal: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """Lux from street lamps and the ego's own headlamps, without shadows."""
    total = np.zeros((len(point), 3), np.float32)
    if light.lamp and len(lamps):
        near = lamps[np.argsort(np.linalg.norm(lamps - ego[:3, 3], axis=1))[:14]]
        amount = np.zeros(len(point), np.float32)
        for lamp in near:
            to = lamp - point
            square = _dot(to, to)
            distance = np.sqrt(square)
            cosine = np.clip(_dot(to, normal) / distance, 0, 1)
            down = np.clip(to[:, 2] / distance, 0, 1)
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


def _mirror(
    scene, caster, light, lamps, start, unit, normal, gloss, material, base, point, facing, rng, ego
) -> np.ndarray:
    """Adds what glossy surfaces reflect, by one ray each and Schlick's Fresnel term."""
    # Ripples of water films are metres to centimetres long; panes and paint are almost flat.
    level = np.isin(material, (Material.ASPHALT, Material.GROUND, Material.KERB))
    far = np.sqrt(_dot(point - ego[:3, 3], point - ego[:3, 3]))
    ripple = np.where(level, np.float32(0.022) / (1 + far / 30), np.float32(0.002)).astype(np.float32)
    x, y = point[:, 0] + point[:, 2], point[:, 1] + point[:, 2]
    bent = normal + ripple[:, None] * np.stack(
        [noise(x, y, 2.4, 0.8, 71), noise(x, y, 2.4, 0.8, 72), np.zeros_like(x)], 1
    )
    bent /= np.sqrt(_dot(bent, bent))[:, None]
    toward = unit - 2 * _dot(unit, bent)[:, None] * bent
    hits = caster.trace(start, toward)
    seen = np.empty((len(start), 3), np.float32)
    sky = hits.face < 0
    seen[sky] = np.minimum(sky_radiance(light, scene, toward[sky]), 60000)
    if (~sky).any():
        face = hits.face[~sky]
        n = hits.normal[~sky]
        at = start[~sky] + toward[~sky] * hits.distance[~sky][:, None]
        level = (
            light.ambient * (0.35 + 0.3 * n[:, 2:])
            + 0.45 * light.sun * np.clip(n @ light.to_sun, 0, 1)[:, None]
            + _lamps(light, lamps, at, n, ego)
        )
        color = np.where((caster.material[face] == Material.ASPHALT)[:, None], scene.street.shade, caster.color[face])
        seen[~sky] = color * level
        shining = np.isin(caster.material[face], _EMITTERS)
        if shining.any() and (light.lamp or light.headlamp):
            seen[np.nonzero(~sky)[0][shining]] += caster.color[face][shining] * (120 * max(light.lamp, 1))
    f0 = np.where(
        np.isin(material, (Material.GLASS, Material.WINDOW, Material.SHOP)),
        0.1,
        np.where(material == Material.PAINT, 0.07, 0.035),
    )
    fresnel = f0 + (1 - f0) * (1 - facing) ** 5
    strength = (gloss * fresnel)[:, None]
    return base * (1 - strength) + strength * seen
