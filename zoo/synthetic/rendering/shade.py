"""From hits to radiance: surface patterns, sun with shadow rays, sky with occlusion rays, mirrors, lamps, air.

Everything here is float32 and runs once per pixel. `take` stands where an index would do, and products stand channel by
channel, because they are several times as fast (`docs/synthetic.md`, Figures).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from zoo.synthetic.rendering.cast import Caster, Hits, dot
from zoo.synthetic.rendering.light import Light, sky_radiance
from zoo.synthetic.rendering.noise import hash01, noise
from zoo.synthetic.rendering.street_texture import ground_albedo, road_albedo
from zoo.synthetic.rendering.surface_texture import surface_albedo, window_albedo
from zoo.synthetic.scene.network import Stretch, leg_of_uv, uv_offset
from zoo.synthetic.scene.signals import Lens, lit_lenses
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["EMITTERS", "Shaded", "Stage", "openness_map", "shade"]


def _table(*materials: Material) -> np.ndarray:
    """`(256,)` bool by material; a look-up is ten times as fast as `np.isin`."""
    return np.isin(np.arange(256), materials)


EMITTERS = _table(Material.LAMP, Material.SIGNAL, Material.HEADLIGHT, Material.TAILLIGHT, Material.BRAKELIGHT)
_PANES = _table(Material.WINDOW, Material.SHOP)
_LEVEL = _table(Material.ASPHALT, Material.GROUND, Material.KERB)
_POROUS = _LEVEL | _table(
    Material.BRICK,
    Material.STONE,
    Material.CONCRETE,
    Material.PLASTER,
    Material.BARK,
    Material.BRANCH,
    Material.CLOTH,
)
_SMOOTH = {
    Material.PAINT,
    Material.GLASS,
    Material.LAMP,
    Material.SIGNAL,
    Material.HEADLIGHT,
    Material.TAILLIGHT,
    Material.BRAKELIGHT,
}
"""Surfaces without a pattern."""
_GLOSS = {
    Material.PAINT: 0.6,
    Material.GLASS: 1.0,
    Material.HEADLIGHT: 0.8,
    Material.TAILLIGHT: 0.5,
    Material.BRAKELIGHT: 0.5,
    Material.METAL: 0.12,
}
_BULB = np.array([1.0, 0.78, 0.5], np.float32)  # light from rooms
_BEAMS = {
    Material.HEADLIGHT: np.array([1.0, 0.97, 0.9], np.float32),
    Material.TAILLIGHT: np.array([0.1, 0.0035, 0.002], np.float32),
}
_BRAKE_BY_DAY, _BRAKE = 24000.0, 5.0
"""Radiance of brake lights by day: 60 candela on 80 square centimetres. With lamps on, they shine five times as
bright as the rear lamps, the least that UN Regulation 7 allows."""
_HEADLAMP = np.array([1.0, 0.93, 0.82], np.float32)
_PANE = np.float32(0.7)  # share of the light that a tinted pane lets through
_INDOORS, _LINING, _CABIN_M = 0.35, 0.12, 3.0  # light inside a vehicle, reflectance of its lining, and its size
_LIFT_M = 0.012  # a ray starts so far above its surface, or float32 would let it hit that surface again
_WINDOW = 5  # pixels of the openness map that are smoothed together, along each side
_HEAD_ON = np.full(256, 0.035, np.float32)  # what a surface mirrors when seen at a right angle
_HEAD_ON[[Material.GLASS, Material.WINDOW, Material.SHOP]] = 0.1
_HEAD_ON[Material.PAINT] = 0.07


@dataclass(frozen=True)
class Shaded:
    """What rays see.

    Attributes:
        radiance: `(P, 3)` float32 lux.
        label: `(P,)` uint8.
        instance: `(P,)` int32 number, -1 for none.
        material: `(P,)` uint8, 255 for the sky.
        bounced: `(2, 3)` radiance of the ground and of walls, which light other surfaces; `None` if all is sky.
    """

    radiance: np.ndarray
    label: np.ndarray
    instance: np.ndarray
    material: np.ndarray
    bounced: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What rays meet, and what lights it.

    Attributes:
        scene: The place.
        caster: Its triangles.
        light: Its light and air.
        lamps: `(L, 3)` world metres of the street lamps' lights.
        world_from_ego: `(4, 4)`: the ego vehicle, for its headlamps.
        time_s: Scene time, for the phases of signals.
    """

    scene: Scene
    caster: Caster
    light: Light
    lamps: np.ndarray
    world_from_ego: np.ndarray
    time_s: float = 0.0

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
    bounced: np.ndarray | None = None,
) -> Shaded:
    """Radiance, label and instance of rays.

    Args:
        stage: What they meet.
        eye: `(3,)` or `(P, 3)` where they start.
        directions: `(P, 3)`, not necessarily of unit length.
        hits: Where they end.
        openness: `(P,)` fraction of the hemisphere above each hit that is open (see `openness_map`).
        pixel_angle: Radians between two neighbouring pixels: gives the footprint that patterns are smoothed over.
        bounced: `Shaded.bounced` of a picture that the rays belong to; `None`: these rays are the picture.
    """
    count = len(directions)
    directions = directions.astype(np.float32, copy=False)
    eye = eye.astype(np.float32)
    stage = stage.in_float32()
    scene, light = stage.scene, stage.light
    length = np.sqrt(dot(directions, directions))
    unit = directions / length[:, None]
    label = np.full(count, Label.SKY, np.uint8)
    instance = np.full(count, -1, np.int32)
    material = np.full(count, 255, np.uint8)
    radiance = np.empty((count, 3), np.float32)
    miss, hit = np.nonzero(hits.face < 0)[0], np.nonzero(hits.face >= 0)[0]
    radiance[miss] = _air_before_sky(light, unit, miss, sky_radiance(light, scene, unit.take(miss, axis=0)))
    if not len(hit):
        return Shaded(radiance, label, instance, material)
    seen = stage.caster.of_faces("material", hits.face.take(hit))
    material[hit] = seen
    hit = hit.take(np.argsort(seen, kind="stable"))
    points = _points(stage.caster, eye, unit, length, hits, hit)
    instance[hit] = stage.caster.of_faces("instance", points.face)
    albedo, gloss, glow = _surface(stage, points, points.range_m * np.float32(pixel_angle) / points.facing)
    label[hit] = points.label
    if light.snow > 0:
        albedo, gloss = _snow(light, albedo, gloss, points)
    if light.wet > 0:
        albedo, gloss = _wet(light, albedo, gloss, points)
    start = points.point + points.normal * np.float32(_LIFT_M)
    out, bounced = _arriving(stage, points, start, openness.take(hit), albedo, bounced)
    out *= albedo
    panes = points.of_material(Material.GLASS)
    if panes.stop > panes.start:
        out[panes] += _behind_glass(stage, points, panes)
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
    return Shaded(radiance, label, instance, material, bounced)


def _points(
    caster: Caster, eye: np.ndarray, unit: np.ndarray, length: np.ndarray, hits: Hits, hit: np.ndarray
) -> _Points:
    face = hits.face.take(hit)
    normal, ray = hits.normal.take(hit, axis=0), unit.take(hit, axis=0)
    range_m = hits.distance.take(hit) * length.take(hit)
    return _Points(
        face=face,
        material=caster.of_faces("material", face),
        label=caster.of_faces("label", face),
        uv=hits.uv.take(hit, axis=0),
        normal=normal,
        ray=ray,
        point=(eye if eye.ndim == 1 else eye.take(hit, axis=0)) + ray * range_m[:, None],
        range_m=range_m,
        facing=np.clip(-dot(normal, ray), 0.03, 1),
    )


def _arriving(
    stage: Stage,
    points: _Points,
    start: np.ndarray,
    opened: np.ndarray,
    albedo: np.ndarray,
    bounced: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`(Q, 3)` lux that reach the points: sun, open sky, lit ground and walls, lamps; and `_bounced`."""
    light, normal = stage.light, points.normal
    direct = np.zeros(len(start), np.float32)
    if light.sun.max() > 0:
        towards = normal @ light.to_sun
        leaves = points.of_material(Material.FOLIAGE)
        towards[leaves] = 0.3 + 0.65 * np.abs(towards[leaves])  # leaves are lit through, from either side
        lit = np.nonzero(towards > 0)[0]
        sunward = np.broadcast_to(light.to_sun, (len(lit), 3))
        blocked = stage.caster.blocked(start.take(lit, axis=0), sunward, coherent=True)
        lit = lit[~blocked]
        direct[lit] = towards.take(lit)
    # Leaves let through half of the light that they do not absorb: inside a crown it is not as dark as behind stone.
    crown = points.of_material(Material.FOLIAGE)
    opened[crown] += np.float32(0.35) * (1 - opened[crown])
    up = (0.5 + 0.5 * normal[:, 2]) * 0.9 + 0.1
    # Of the open hemisphere the upper part shows the sky, the rest the ground; what is not open shows walls.
    if bounced is None:
        bounced = _bounced(light, albedo, direct, opened, normal)
    ground, shut = bounced
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
    return arriving, bounced


def _bounced(
    light: Light, albedo: np.ndarray, direct: np.ndarray, opened: np.ndarray, normal: np.ndarray
) -> np.ndarray:
    """`(2, 3)` radiance of the ground and of walls, from the points themselves: light that has bounced once.

    What the camera sees stands for what its surroundings look like. Where it sees too little of either, a grey of 16 %
    and one of 22 % that lies mostly in the shade take their place.
    """
    usual = (
        0.16 * (light.ambient + light.sun * max(light.to_sun[2], 0) * 0.5),
        0.22 * (light.ambient + 0.12 * light.sun),
    )
    out = np.stack(usual).astype(np.float32)
    for row, facing in enumerate((normal[:, 2] > 0.7, np.abs(normal[:, 2]) < 0.5)):
        some = np.nonzero(facing)[0][::5]
        if len(some) >= 100:
            lux = direct.take(some)[:, None] * light.sun + opened.take(some)[:, None] * light.ambient
            out[row] = (albedo.take(some, axis=0) * lux).mean(0)
    return out


def _air_before_sky(light: Light, unit: np.ndarray, miss: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Thick air hides the sky as well."""
    if light.extinction <= 1e-3:
        return sky
    thick = np.exp(-light.extinction * 900 / np.maximum(unit[:, 2].take(miss) * 8 + 0.15, 0.15))[:, None]
    return sky * thick + light.airlight * (1 - thick)


def _surface(stage: Stage, points: _Points, foot: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Reflectance `(Q, 3)`, gloss `(Q,)` and own light `(Q, 3)` or None of the points.

    Writes into their `label` what the ground's pattern decides.
    """
    scene, caster, light = stage.scene, stage.caster, stage.light
    face, uv, label = points.face, points.uv, points.label
    values, starts = np.unique(points.material, return_index=True)
    albedo = caster.of_faces("color", face)
    gloss = np.zeros(len(face), np.float32)
    glow: np.ndarray | None = None
    if light.lit or light.lamp or light.beam or Material.SIGNAL in values or Material.BRAKELIGHT in values:
        glow = np.zeros((len(face), 3), np.float32)
    for value, start, stop in zip(values.tolist(), starts, [*starts[1:], len(face)]):
        at = slice(start, stop)
        if value == Material.ASPHALT:
            albedo[at], _ = _by_street(road_albedo, scene, uv[at], foot[at])
        elif value == Material.GROUND:
            albedo[at], label[at] = _by_street(ground_albedo, scene, uv[at], foot[at])
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
            power = 9000 if light.lamp == 0 else 300 * (1 + 0.1 * light.lamp)
            glow[at] = albedo[at] * (power * _lit(stage, uv[at]))[:, None]
            albedo[at] *= 0.08  # dark glass
        elif value in _BEAMS and light.beam:  # parked vehicles have theirs off
            glow[at] = (caster.is_first(face[at]) * np.float32(light.beam))[:, None] * _BEAMS[value]
        elif value == Material.BRAKELIGHT:
            rear = _BEAMS[Material.TAILLIGHT]
            glow[at] = rear * np.float32(_BRAKE * light.beam if light.beam else _BRAKE_BY_DAY / rear[0])
    return albedo, gloss, glow


def _by_street(
    pattern: Callable[..., tuple[np.ndarray, np.ndarray]], scene: Scene, uv: np.ndarray, foot: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What `road_albedo` or `ground_albedo` say of the points of each street of the scene."""
    if not isinstance(scene, Stretch):
        return pattern(scene, *_columns(uv), foot)
    s, t = _columns(uv)
    leg = leg_of_uv(s)
    found: list[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]] = []
    for part in scene.parts:
        offset = uv_offset(part.street)
        some = np.nonzero(leg == leg_of_uv(np.array(offset)))[0]
        if len(some):
            found.append((some, pattern(part, s.take(some) - np.float32(offset), t.take(some), foot.take(some))))
    back = np.argsort(np.concatenate([some for some, _ in found]), kind="stable")
    color, other = (np.concatenate([values[k] for _, values in found])[back] for k in (0, 1))
    return color, other


def _columns(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two columns of `(P, 2)` or `(P, 3)`, each in one piece."""
    return np.ascontiguousarray(uv[:, 0]), np.ascontiguousarray(uv[:, 1])


def _lit(stage: Stage, uv: np.ndarray) -> np.ndarray:
    """`(P,)` float32 0 or 1: whether lenses of signals are on; their `uv` are the lens and the side street."""
    crossings = stage.scene.crossings
    table = np.zeros((max(len(crossings), 1), len(Lens)), np.float32)
    for number, crossing in enumerate(crossings):
        table[number, list(lit_lenses(crossing, stage.time_s))] = 1
    lens, street = np.rint(uv).astype(np.int64).T
    return table[np.clip(street, 0, len(table) - 1), np.clip(lens, 0, len(Lens) - 1)]


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
    toward /= np.maximum(np.sqrt(dot(toward, toward)), 1e-6)[:, None]
    free = ~caster.blocked(start, toward, reach)
    value = np.zeros(index.shape, np.float32)
    value[solid] = free
    place = _Place.of(hits, directions, index)
    return _enlarged(_smoothed(value, place), place, hits, shape).ravel()


@dataclass(frozen=True)
class _Place:
    """Where samples lie, `(h, w)` each: log of the distance, three columns of the normal, distance of their plane."""

    depth: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    plane: np.ndarray

    @classmethod
    def of(cls, hits: Hits, directions: np.ndarray, index: np.ndarray) -> _Place:
        """Of the pixels `index`; planes' distances are from the eye."""
        distance, normal = hits.distance.take(index), hits.normal.take(index.ravel(), axis=0)
        plane = dot(normal, directions.take(index.ravel(), axis=0)).reshape(index.shape) * distance
        x, y, z = (np.ascontiguousarray(normal[:, k]).reshape(index.shape) for k in range(3))
        return cls(np.log(distance), x, y, z, plane)

    def part(self, at: tuple[slice, slice]) -> _Place:
        return _Place(self.depth[at], self.x[at], self.y[at], self.z[at], self.plane[at])

    def near(self, other: _Place) -> np.ndarray:
        """How much samples have in common: 1 at the same distance or on the same plane, falling to 0.

        A road seen at a slant is one plane, although distances change fast from row to row.
        """
        turned = 1 - (self.x * other.x + self.y * other.y + self.z * other.z)
        off = np.abs(self.plane - other.plane) * np.exp(-np.minimum(self.depth, other.depth)) * 6 + turned
        return np.exp(np.minimum(off, np.abs(self.depth - other.depth)) * -12) + np.float32(1e-6)


def _smoothed(value: np.ndarray, place: _Place) -> np.ndarray:
    """Means of `(h, w)` values over windows, only of neighbours at a similar place: contact shadows stay sharp.

    Two neighbours weigh the same for each other, so that half of the pairs are enough.
    """
    reach = _WINDOW // 2
    top, bottom = value.copy(), np.ones_like(value)
    rows, columns = value.shape
    for dy in range(reach + 1):
        for dx in range(-reach if dy else 1, reach + 1):
            here = (slice(0, max(rows - dy, 0)), slice(max(0, -dx), max(columns - max(0, dx), 0)))
            there = (slice(dy, rows), slice(max(0, dx), columns - max(0, -dx)))
            near = place.part(here).near(place.part(there))
            top[here] += value[there] * near
            top[there] += value[here] * near
            bottom[here] += near
            bottom[there] += near
    return top / bottom


def _enlarged(small: np.ndarray, place: _Place, hits: Hits, shape: tuple[int, int]) -> np.ndarray:
    """`(H, W)` values from those of every second pixel: linear between them, but not across edges.

    Pixels between samples that lie apart take the value of the sample whose distance is most like their own.
    """
    height, width = shape
    value, depth, plane = (np.pad(part, ((0, 1), (0, 1)), mode="edge") for part in (small, place.depth, place.plane))
    out = np.empty((2 * small.shape[0], 2 * small.shape[1]), np.float32)
    out[::2, ::2] = small
    out[::2, 1::2] = (small + value[:-1, 1:]) * np.float32(0.5)
    below = (small + value[1:, :-1]) * np.float32(0.5)
    out[1::2, ::2] = below
    out[1::2, 1::2] = (below + (value[:-1, 1:] + value[1:, 1:]) * np.float32(0.5)) * np.float32(0.5)
    row, column = np.nonzero((_spread(depth) > 0.08) & (_spread(plane) * np.exp(-place.depth) > 0.02))
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        r, c = 2 * row + dy, 2 * column + dx
        inside = np.nonzero((r < height) & (c < width))[0]
        own = np.log(hits.distance.take(r.take(inside) * width + c.take(inside)))
        least = np.full(len(inside), np.float32(np.inf))
        for down in range(dy + 1):
            for right in range(dx + 1):
                at = (row.take(inside) + down, column.take(inside) + right)
                off = np.abs(depth[at] - own)
                nearer = np.nonzero(off < least)[0]
                least[nearer] = off.take(nearer)
                out[r.take(inside.take(nearer)), c.take(inside.take(nearer))] = value[at].take(nearer)
    return np.ascontiguousarray(out[:height, :width])


def _spread(values: np.ndarray) -> np.ndarray:
    """`(h, w)` differences between the largest and the least of each 2 x 2 of `(h + 1, w + 1)` values."""
    low, high = np.minimum(values[1:], values[:-1]), np.maximum(values[1:], values[:-1])
    return np.maximum(high[:, 1:], high[:, :-1]) - np.minimum(low[:, 1:], low[:, :-1])


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
    square_, along, height = dot(local, local), dot(local, normal), np.ascontiguousarray(local[:, 2])
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
        square = dot(to, to)
        distance = np.sqrt(square)
        cosine = np.clip(-dot(to, normal) / distance, 0, 1)
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
        np.float32(0.022) / (1 + np.sqrt(dot(away, away)) / 30),
        np.float32(0.002),
    )
    x, y = point[:, 0] + point[:, 2], point[:, 1] + point[:, 2]
    bent = normal.copy()
    bent[:, 0] += ripple * noise(x, y, 2.4, 0.8, 71)
    bent[:, 1] += ripple * noise(x, y, 2.4, 0.8, 72)
    panes = np.nonzero(_PANES.take(points.material.take(which)))[0]
    if len(panes):  # no two panes of a house are parallel: each mirrors another part of the street
        column, row = np.floor(points.uv.take(which.take(panes), axis=0)).T
        bent[panes, 0] += np.float32(0.03) * (hash01(column, row) - np.float32(0.5))
        bent[panes, 1] += np.float32(0.03) * (hash01(row, column) - np.float32(0.5))
        bent[panes, 2] += np.float32(0.03) * (hash01(column + 5, row) - np.float32(0.5))
    bent /= np.sqrt(dot(bent, bent))[:, None]
    toward = unit - (2 * dot(unit, bent))[:, None] * bent
    hits = stage.caster.trace(start, toward, coherent=True)
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


def _behind_glass(stage: Stage, points: _Points, panes: slice) -> np.ndarray:
    """`(G, 3)` radiance that comes through the windows of vehicles: a dim interior, or the street beyond both panes."""
    light, toward = stage.light, points.ray[panes]
    out = np.empty((len(toward), 3), np.float32)
    hits = _beyond(stage, points.point[panes], toward)
    inside = np.nonzero(hits.face >= 0)[0]
    face = hits.face.take(inside)
    kind = stage.caster.of_faces("material", face)
    # The inside of the bodywork is lined in grey, whatever colour it has outside; seats have their own.
    color = np.where((kind == Material.CLOTH)[:, None], stage.caster.of_faces("color", face), np.float32(_LINING))
    up = (0.4 + 0.6 * np.abs(hits.normal[inside, 2]))[:, None]
    out[inside] = _PANE * color * up * (np.float32(_INDOORS) * (light.ambient + np.float32(0.3) * light.sun))
    other = inside[(kind == Material.GLASS) & (hits.distance.take(inside) < _CABIN_M)]
    past = np.concatenate([np.nonzero(hits.face < 0)[0], other])
    start, along = points.point[panes].take(past, axis=0), toward.take(past, axis=0)
    start = start + along * np.where(hits.face.take(past) < 0, 0, hits.distance.take(past) + 2 * _LIFT_M)[:, None]
    further = _beyond(stage, start, along)
    seen = np.empty((len(past), 3), np.float32)
    sky, solid = np.nonzero(further.face < 0)[0], np.nonzero(further.face >= 0)[0]
    seen[sky] = sky_radiance(light, stage.scene, along.take(sky, axis=0))
    if len(solid):
        seen[solid] = _mirrored(stage, start, along, further, solid)
    out[past] = _PANE**2 * seen
    return out


def _beyond(stage: Stage, start: np.ndarray, toward: np.ndarray) -> Hits:
    return stage.caster.trace(start + toward * np.float32(2 * _LIFT_M), toward, coherent=True)


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
    color, kind = stage.caster.of_faces("color", face), stage.caster.of_faces("material", face)
    level *= np.where((kind == Material.ASPHALT)[:, None], np.float32(stage.scene.street.shade), color)
    shining = np.nonzero(EMITTERS.take(kind))[0]
    if len(shining) and (light.lamp or light.headlamp):
        on = np.where(kind.take(shining) == Material.SIGNAL, _lit(stage, hits.uv.take(solid.take(shining), axis=0)), 1)
        level[shining] += color.take(shining, axis=0) * (120 * max(light.lamp, 1) * on)[:, None].astype(np.float32)
    return level
