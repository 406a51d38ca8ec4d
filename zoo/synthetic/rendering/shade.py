"""From hits to radiance: surface patterns, sun with shadow rays, sky with occlusion rays, mirrors, lamps, air.

Everything here is float32 and runs once per pixel. `take` stands where an index would do, and products stand channel by
channel, because they are several times as fast (`docs/synthetic.md`, Figures).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zoo.synthetic.rendering.cast import Caster, Hits
from zoo.synthetic.rendering.light import Light, sky_radiance
from zoo.synthetic.rendering.noise import noise
from zoo.synthetic.rendering.street_texture import ground_albedo, road_albedo
from zoo.synthetic.rendering.surface_texture import surface_albedo, window_albedo
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["Shaded", "Stage", "openness_map", "shade"]


def _table(*materials: Material) -> np.ndarray:
    """`(256,)` bool by material; a look-up is ten times as fast as `np.isin`."""
    return np.isin(np.arange(256), materials)


_EMITTERS = _table(Material.LAMP, Material.SIGNAL, Material.HEADLIGHT, Material.TAILLIGHT)
_LEVEL = _table(Material.ASPHALT, Material.GROUND, Material.KERB)
_POROUS = _LEVEL | _table(
    Material.BRICK, Material.STONE, Material.CONCRETE, Material.PLASTER, Material.BARK, Material.CLOTH
)
_SMOOTH = {Material.PAINT, Material.GLASS, Material.LAMP, Material.SIGNAL, Material.HEADLIGHT, Material.TAILLIGHT}
"""Surfaces without a pattern."""
_GLOSS = {
    Material.PAINT: 0.6,
    Material.GLASS: 1.0,
    Material.HEADLIGHT: 0.8,
    Material.TAILLIGHT: 0.5,
    Material.METAL: 0.12,
}
_BULB = np.array([1.0, 0.78, 0.5], np.float32)  # light from rooms
_HEADLAMP = np.array([1.0, 0.93, 0.82], np.float32)
_LIFT_M = 0.012  # a ray starts so far above its surface, or float32 would let it hit that surface again
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


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What rays meet, and what lights it.

    Attributes:
        scene: The place.
        caster: Its triangles.
        light: Its light and air.
        lamps: `(L, 3)` world metres of the street lamps' lights.
        world_from_ego: `(4, 4)`: the ego vehicle, for its headlamps.
    """

    scene: Scene
    caster: Caster
    light: Light
    lamps: np.ndarray
    world_from_ego: np.ndarray

    def in_float32(self) -> Stage:
        """The same with float32 light and pose, so that nothing below is promoted to float64 and halves its speed."""
        return replace(self, light=self.light.in_float32(), world_from_ego=self.world_from_ego.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Hit points in the order of their materials, so that each material is one slice; `(Q,)` or `(Q, 3)` each.

    Attributes:
        face: Triangle.
        material: Sorted.
        label: Of the triangle; what the ground's pattern decides is written into it.
        uv: `(Q, 2)` surface coordinates.
        normal: Unit, towards the eye.
        ray: Unit, away from the eye.
        point: World metres.
        range_m: Distance from the eye.
        facing: Cosine between normal and ray, at least 0.03.
    """

    face: np.ndarray
    material: np.ndarray
    label: np.ndarray
    uv: np.ndarray
    normal: np.ndarray
    ray: np.ndarray
    point: np.ndarray
    range_m: np.ndarray
    facing: np.ndarray

    def of_material(self, material: Material) -> slice:
        """Where the points of one material lie."""
        return slice(*np.searchsorted(self.material, (material, material + 1)))

    def columns(self) -> tuple[np.ndarray, np.ndarray]:
        """World x and y, each in one piece."""
        return _columns(self.point)


def shade(
    stage: Stage,
    eye: np.ndarray,
    directions: np.ndarray,
    hits: Hits,
    openness: np.ndarray,
    pixel_angle: float,
) -> Shaded:
    """Radiance, label and instance of rays.

    Args:
        stage: What they meet.
        eye: `(3,)` or `(P, 3)` where they start.
        directions: `(P, 3)`, not necessarily of unit length.
        hits: Where they end.
        openness: `(P,)` fraction of the hemisphere above each hit that is open (see `openness_map`).
        pixel_angle: Radians between two neighbouring pixels: gives the footprint that patterns are smoothed over.
    """
    count = len(directions)
    directions = directions.astype(np.float32, copy=False)
    eye = eye.astype(np.float32)
    stage = stage.in_float32()
    scene, light = stage.scene, stage.light
    length = np.sqrt(_dot(directions, directions))
    unit = directions / length[:, None]
    label = np.full(count, Label.SKY, np.uint8)
    instance = np.full(count, -1, np.int32)
    radiance = np.empty((count, 3), np.float32)
    miss, hit = np.nonzero(hits.face < 0)[0], np.nonzero(hits.face >= 0)[0]
    radiance[miss] = _air_before_sky(light, unit, miss, sky_radiance(light, scene, unit.take(miss, axis=0)))
    if not len(hit):
        return Shaded(radiance, label, instance)
    hit = hit.take(np.argsort(stage.caster.material.take(hits.face.take(hit)), kind="stable"))
    points = _points(stage.caster, eye, unit, length, hits, hit)
    instance[hit] = stage.caster.instance.take(points.face)
    albedo, gloss, glow = _surface(stage, points, points.range_m * np.float32(pixel_angle) / points.facing)
    label[hit] = points.label
    if light.snow > 0:
        albedo, gloss = _snow(light, albedo, gloss, points)
    if light.wet > 0:
        albedo, gloss = _wet(light, albedo, gloss, points)
    start = points.point + points.normal * np.float32(_LIFT_M)
    out = _arriving(stage, points, start, openness.take(hit))
    out *= albedo
    strength = _strength(gloss, points.material, points.facing)
    mirror = np.nonzero(strength > 0.01)[0]
    if len(mirror):
        out[mirror] = _mirror(stage, points, mirror, start, strength, out)
    if glow is not None:
        out += glow
    air = np.exp(np.float32(-light.extinction) * points.range_m)
    for k in range(3):  # channel by channel: broadcasting over three columns is three times as slow
        out[:, k] = (out[:, k] - light.airlight[k]) * air + light.airlight[k]
    radiance[hit] = out
    return Shaded(radiance, label, instance)


def _points(
    caster: Caster, eye: np.ndarray, unit: np.ndarray, length: np.ndarray, hits: Hits, hit: np.ndarray
) -> _Points:
    face = hits.face.take(hit)
    normal, ray = hits.normal.take(hit, axis=0), unit.take(hit, axis=0)
    range_m = hits.distance.take(hit) * length.take(hit)
    return _Points(
        face=face,
        material=caster.material.take(face),
        label=caster.label.take(face),
        uv=hits.uv.take(hit, axis=0),
        normal=normal,
        ray=ray,
        point=(eye if eye.ndim == 1 else eye.take(hit, axis=0)) + ray * range_m[:, None],
        range_m=range_m,
        facing=np.clip(-_dot(normal, ray), 0.03, 1),
    )


def _arriving(stage: Stage, points: _Points, start: np.ndarray, opened: np.ndarray) -> np.ndarray:
    """`(Q, 3)` lux that reach the points: sun, open sky, lit ground, what comes through openings, lamps."""
    light, normal = stage.light, points.normal
    direct = np.zeros(len(start), np.float32)
    if light.sun.max() > 0:
        towards = normal @ light.to_sun
        leaves = points.of_material(Material.FOLIAGE)
        towards[leaves] = 0.25 + 0.6 * np.abs(towards[leaves])  # leaves are lit through, from either side
        lit = np.nonzero(towards > 0)[0]
        blocked = stage.caster.blocked(start.take(lit, axis=0), np.broadcast_to(light.to_sun, (len(lit), 3)))
        lit = lit[~blocked]
        direct[lit] = towards.take(lit)
    up = (0.5 + 0.5 * normal[:, 2]) * 0.9 + 0.1
    # Of the open hemisphere the upper part shows the sky, the rest the ground, a grey of 16 %.
    ground = 0.16 * (light.ambient + light.sun * max(light.to_sun[2], 0) * 0.5)
    # What is not open shows other surfaces, of about 22 %, mostly in the shade.
    shut = 0.22 * (light.ambient + 0.12 * light.sun)
    # Three colours, few distinct sources: a product with a small matrix is faster than broadcasting over them.
    sources = np.stack([light.sun, light.ambient, ground, shut]).astype(np.float32)
    amounts = np.empty((len(start), 4), np.float32)
    amounts[:, 0] = direct
    np.multiply(opened, up, out=amounts[:, 1])
    np.subtract(opened, amounts[:, 1], out=amounts[:, 2])
    np.subtract(1, opened, out=amounts[:, 3])
    arriving = amounts @ sources
    if light.lamp or light.headlamp:
        arriving += _lamps(stage, points.point, normal)
    return arriving


def _air_before_sky(light: Light, unit: np.ndarray, miss: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Thick air hides the sky as well."""
    if light.extinction <= 1e-3:
        return sky
    thick = np.exp(-light.extinction * 900 / np.maximum(unit[:, 2].take(miss) * 8 + 0.15, 0.15))[:, None]
    return sky * thick + light.airlight * (1 - thick)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(P,)` scalar products; `einsum` takes four times as long."""
    return np.multiply(a, b) @ np.ones(3, np.float32)


def _surface(stage: Stage, points: _Points, foot: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Reflectance `(Q, 3)`, gloss `(Q,)` and own light `(Q, 3)` or None of the points.

    Writes into their `label` what the ground's pattern decides.
    """
    scene, caster, light = stage.scene, stage.caster, stage.light
    face, uv, label = points.face, points.uv, points.label
    values, starts = np.unique(points.material, return_index=True)
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
        elif value not in _SMOOTH:
            albedo[at] = surface_albedo(value, albedo[at], uv[at], points.point[at], foot[at])
        if value in _GLOSS:
            gloss[at] = _GLOSS[value]
        if glow is None:
            continue
        if value in (Material.WINDOW, Material.SHOP) and light.lit:
            power = light.lit * (25 if value == Material.SHOP else 8) * min(1.0, max(light.lamp, 2) / 6)
            glow[at] = (lit * power)[:, None] * _BULB * (0.35 + albedo[at])
        elif value == Material.LAMP:
            glow[at] = 250 * light.lamp * np.asarray(light.lamp_color)
        elif value == Material.SIGNAL:
            # By day a signal must outshine the sun on its housing; by night as much would blind the sensor.
            glow[at] = albedo[at] * (9000 if light.lamp == 0 else 300 * (1 + 0.1 * light.lamp))
        elif value == Material.HEADLIGHT and light.headlamp:
            glow[at] = 900.0
        elif value == Material.TAILLIGHT and light.headlamp:
            glow[at] = (90.0, 3.0, 2.0)
    return albedo, gloss, glow


def _columns(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two columns of `(P, 2)` or `(P, 3)`, each in one piece."""
    return np.ascontiguousarray(uv[:, 0]), np.ascontiguousarray(uv[:, 1])


def _snow(light: Light, albedo: np.ndarray, gloss: np.ndarray, points: _Points) -> tuple[np.ndarray, np.ndarray]:
    """White on what faces up; tyre tracks stay dark on the road."""
    x, y = points.columns()
    label = points.label
    patch = noise(x, y, 23.0, 1.1, 51) * 0.35 + 0.2 * noise(x, y, 4.0, 0.7, 52)
    up = points.normal[:, 2]
    cover = np.clip((up - 0.35) * 2.2, 0, 1) * np.clip(light.snow * 1.5 + patch, 0, 1)
    road = np.nonzero(label == Label.ROAD)[0]
    cover[road] = np.clip(light.snow * 1.15 - 0.35 + 1.1 * patch.take(road), 0, 1)
    leaves = points.of_material(Material.FOLIAGE)
    cover[leaves] = np.clip(np.abs(up[leaves]) * light.snow + 0.2 * patch[leaves], 0, 0.9)
    cover[(label == Label.PERSON) | (label == Label.RIDER)] *= 0.3  # they shake it off
    white = 1 + 0.06 * noise(x, y, 1.5, 0.6, 53)
    for k, tone in enumerate((0.82, 0.85, 0.9)):
        albedo[:, k] += (white * tone - albedo[:, k]) * cover
    return albedo, gloss * (1 - cover)


def _wet(light: Light, albedo: np.ndarray, gloss: np.ndarray, points: _Points) -> tuple[np.ndarray, np.ndarray]:
    """Water fills the pores: darker, and a mirror where it lies level."""
    level = points.normal[:, 2] > 0.85
    half = np.float32(0.5 * light.wet)
    soaked = 1 - half * np.where(level, np.float32(1), np.float32(0.5))
    darker = np.where(_POROUS.take(points.material), soaked, np.float32(1))
    for k in range(3):
        albedo[:, k] *= darker
    flat = np.nonzero(level & _LEVEL.take(points.material) & (points.label != Label.TERRAIN))[0]
    x, y = points.point[:, 0].take(flat), points.point[:, 1].take(flat)
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
    start += (eye if eye.ndim == 1 else eye.take(chosen, axis=0)).astype(np.float32)
    start += normal * np.float32(_LIFT_M)
    row, column = np.nonzero(solid)
    part = (row % _WINDOW) * _WINDOW + column % _WINDOW
    # A point on the unit sphere added to the normal gives a cosine direction.
    z = (2 / _WINDOW) * (part % _WINDOW + rng.random(len(chosen), np.float32)) - 1
    turn = (2 * np.pi / _WINDOW) * (part // _WINDOW + rng.random(len(chosen), np.float32))
    flat = np.sqrt(np.maximum(1 - z * z, 0))
    toward = normal + 0.98 * np.stack([flat * np.cos(turn), flat * np.sin(turn), z], 1).astype(np.float32)
    toward /= np.maximum(np.sqrt(_dot(toward, toward)), 1e-6)[:, None]
    free = ~caster.blocked(start, toward, reach)
    value, log_depth = np.zeros(index.shape, np.float32), np.full(index.shape, 20.0, np.float32)
    value[solid] = free
    log_depth[solid] = np.log(hits.distance.take(chosen))
    smooth = _smoothed(value, log_depth)
    return np.repeat(np.repeat(smooth, 2, 0), 2, 1)[:height, :width].ravel()


def _smoothed(value: np.ndarray, log_depth: np.ndarray) -> np.ndarray:
    """Means of `(h, w)` values over windows, only of neighbours at a similar distance: contact shadows stay sharp.

    Two neighbours weigh the same for each other, so that half of the pairs are enough.
    """
    pad = _WINDOW // 2
    values, depths = np.pad(value, pad, mode="edge"), np.pad(log_depth, pad, mode="edge")
    top, bottom = values.copy(), np.full_like(values, 1 + 1e-6)
    rows, columns = values.shape
    for dy in range(pad + 1):
        for dx in range(-pad if dy else 1, pad + 1):
            here = (slice(0, rows - dy), slice(max(0, -dx), columns - max(0, dx)))
            there = (slice(dy, rows), slice(max(0, dx), columns - max(0, -dx)))
            near = np.exp(np.abs(depths[here] - depths[there]) * -12)
            top[here] += values[there] * near
            top[there] += values[here] * near
            bottom[here] += near
            bottom[there] += near
    return top[pad:-pad, pad:-pad] / bottom[pad:-pad, pad:-pad]


def _lamps(stage: Stage, point: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """`(Q, 3)` lux from street lamps and the ego's own headlamps, without shadows."""
    total = np.zeros((len(point), 3), np.float32)
    light, ego = stage.light, stage.world_from_ego
    if light.lamp and len(stage.lamps):
        _add_street_lamps(total, light, stage.lamps, ego[:3, 3], point, normal)
    if light.headlamp:
        _add_headlamps(total, light.headlamp, ego, point, normal)
    return total


def _add_street_lamps(
    total: np.ndarray, light: Light, lamps: np.ndarray, middle: np.ndarray, point: np.ndarray, normal: np.ndarray
) -> None:
    """The 14 lamps nearest to the vehicle at `middle`.

    Coordinates are taken from there: |point - lamp| ** 2 is worked out as a sum of squares and a product, which in
    float32 would lose all its digits with coordinates of hundreds of metres.
    """
    near = lamps[np.argsort(np.linalg.norm(lamps - middle, axis=1))[:14]].astype(np.float32) - middle
    local = point - middle
    square_, along, height = _dot(local, local), _dot(local, normal), np.ascontiguousarray(local[:, 2])
    amount = np.zeros(len(point), np.float32)
    for lamp in near:
        square = np.maximum(square_ - 2 * (local @ lamp) + lamp @ lamp, 1e-4)
        distance = np.sqrt(square)
        cosine = np.clip((normal @ lamp - along) / distance, 0, 1)
        down = np.clip((lamp[2] - height) / distance, 0, 1)
        # 55 square metres: a lamp about 7.4 m high gives `light.lamp` lux right below. At 2 m and less it is capped.
        amount += light.lamp * 55.0 * cosine * (0.1 + 0.9 * down) / np.maximum(square, 4)
    total += amount[:, None] * np.asarray(light.lamp_color, np.float32)


def _add_headlamps(total: np.ndarray, power: float, ego: np.ndarray, point: np.ndarray, normal: np.ndarray) -> None:
    """Two low beams 2.2 m ahead of the ego's origin: full 2 degrees below the horizon, faint 2 degrees above."""
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
        total += (power * 160 * cosine * beam / np.maximum(square, 6))[:, None] * _HEADLAMP


def _strength(gloss: np.ndarray, material: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """`(Q,)` share of the light that is mirrored: `gloss` times Schlick's Fresnel term."""
    strength = np.zeros_like(gloss)
    glossy = np.nonzero(gloss > 0.02)[0]
    f0 = _HEAD_ON.take(material.take(glossy))
    strength[glossy] = gloss.take(glossy) * (f0 + (1 - f0) * (1 - facing.take(glossy)) ** 5)
    return strength


def _mirror(
    stage: Stage,
    points: _Points,
    which: np.ndarray,
    start: np.ndarray,
    strength: np.ndarray,
    out: np.ndarray,
) -> np.ndarray:
    """`(R, 3)` radiance of the glossy points `which`: their own `out`, mixed with what one mirrored ray sees."""
    light = stage.light
    unit, normal, point = (
        points.ray.take(which, axis=0),
        points.normal.take(which, axis=0),
        points.point.take(which, axis=0),
    )
    start, base = start.take(which, axis=0), out.take(which, axis=0)
    away = point - stage.world_from_ego[:3, 3]
    # Ripples of water films are metres to centimetres long; panes and paint are almost flat. They fade with distance,
    # where a pixel covers many of them.
    ripple = np.where(
        _LEVEL.take(points.material.take(which)),
        np.float32(0.022) / (1 + np.sqrt(_dot(away, away)) / 30),
        np.float32(0.002),
    )
    x, y = point[:, 0] + point[:, 2], point[:, 1] + point[:, 2]
    bent = normal.copy()
    bent[:, 0] += ripple * noise(x, y, 2.4, 0.8, 71)
    bent[:, 1] += ripple * noise(x, y, 2.4, 0.8, 72)
    bent /= np.sqrt(_dot(bent, bent))[:, None]
    toward = unit - (2 * _dot(unit, bent))[:, None] * bent
    hits = stage.caster.trace(start, toward)
    seen = np.empty((len(start), 3), np.float32)
    sky, solid = np.nonzero(hits.face < 0)[0], np.nonzero(hits.face >= 0)[0]
    # The sun's disc in a mirror is far above what any sensor records: cut, it speckles less.
    seen[sky] = np.minimum(sky_radiance(light, stage.scene, toward.take(sky, axis=0)), 60000)
    if len(solid):
        seen[solid] = _mirrored(stage, start, toward, hits, solid)
    seen -= base
    seen *= strength.take(which)[:, None]
    seen += base
    return seen


def _mirrored(stage: Stage, start: np.ndarray, toward: np.ndarray, hits: Hits, solid: np.ndarray) -> np.ndarray:
    """Radiance of what mirrored rays hit, roughly: no shadows, no patterns, no second mirror."""
    light = stage.light
    face = hits.face.take(solid)
    n = hits.normal.take(solid, axis=0)
    at = start.take(solid, axis=0) + toward.take(solid, axis=0) * hits.distance.take(solid)[:, None]
    amounts = np.stack([0.35 + 0.3 * n[:, 2], 0.45 * np.clip(n @ light.to_sun, 0, 1)], 1)
    level = amounts @ np.stack([light.ambient, light.sun])
    if light.lamp or light.headlamp:
        level += _lamps(stage, at, n)
    color, kind = stage.caster.color.take(face, axis=0), stage.caster.material.take(face)
    level *= np.where((kind == Material.ASPHALT)[:, None], np.float32(stage.scene.street.shade), color)
    shining = np.nonzero(_EMITTERS.take(kind))[0]
    if len(shining) and (light.lamp or light.headlamp):
        level[shining] += color.take(shining, axis=0) * (120 * max(light.lamp, 1))
    return level
