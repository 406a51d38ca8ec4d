"""Lidar sweeps: rays in the order in which the sensor fires them, and what comes back through the air.

Each column of a sweep fires at its own time, from where the vehicle is and at objects where they are at that time.
Moving objects are intersected in their own axes, with one pose per ray. The points are then moved to the sensor's frame
at the end of the sweep. As in real data sets, this takes out the vehicle's motion but not that of the objects.

A return is detected if its power, relative to the weakest that the sensor can detect, is at least 1:

    rho * incidence * exp(-2 * extinction * range) / range ** 2,  over  0.02 / max_range ** 2

with the extinction from `light_of`, rho from `reflectance`, and the incidence and the intensity from the sensor's
`Response`. Closer than 20 m the threshold rises by `(20 m / range) ** 2`, as real sensors raise theirs against their
own glare. Only the strongest return of a ray counts. Fog returns as much power as a surface of reflectance
`0.013 * extinction`, times the exponential of normal noise, from 1.5 m to 20 m; where that is the strongest return, the
point lies there. Drops and flakes are hit by a share of the rays: 0.15 % * rate ** 0.63 for rain and 2 % * rate ** 0.8
for snow, rate in mm/h. Returns from the air have label and material 255.

A beam has a width, and a pulse a length of about a metre. Where neighbouring columns hit surfaces less than
1.2 m apart in range, `straddling` of the rays return something in between, labelled as what was hit. Grass ends a
beam above the ground: by an exponentially distributed height of 5 mm on average, which a slanting beam reaches
`height / cosine` earlier. (The ranges on terrain in SemanticKITTI's scan scatter by as much as this gives, near
and far.)

A rig may say that its lidar sees its own vehicle, and that rays without a return are points of range 0, as in nuScenes.

Daylight has no effect: a sweep has the same bytes by day, at dusk and at night.

Source: attenuation as in `light`; returns from fog after Hahner et al., Fog Simulation on Real LiDAR Point
Clouds (2021), equations 4 to 9, simplified to one soft target for the whole column of air.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from zoo.condition import Condition
from zoo.frame import Sweep
from zoo.geometry.transforms import yaw_matrix
from zoo.synthetic.models.build import build_body
from zoo.synthetic.rendering.cast import Caster
from zoo.synthetic.rendering.light import Light, light_of
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.sensors.reflectance import GLOSSY, PANES, reflectance
from zoo.synthetic.sensors.rigs import RigLidar
from zoo.synthetic.shapes.mesh import place
from zoo.synthetic.shapes.surfaces import Label, Material
from zoo.synthetic.shapes.templates import template

__all__ = ["CHANNELS", "Movers", "Returns", "beam_directions", "cast_turn", "firing_times", "sweep_at"]

CHANNELS = ("x", "y", "z", "intensity", "ring", "time_s")
_WEAKEST = 0.02  # reflectance that can just be detected at the maximum range, at a right angle in clear air
_NEAR = 20.0  # metres: closer than this the threshold rises
_BLADE_M = 0.005  # mean height above the ground at which grass ends a beam
_PULSE_M = 1.2  # surfaces closer together than this along a beam are one return
_EDGE_M = 0.3  # neighbouring returns closer together than this are one surface to an annotator
_EDGE_ERRORS = 0.25
"""Share of the points at a border between classes on one surface that get the label of their neighbour. In
SemanticKITTI's scan, 1 of 600 points lies between two of another class on the same surface, in its own ring."""
_NOTHING = 255  # material of drops, flakes and fog, and of rays without a return


@dataclass(frozen=True)
class Returns:
    """First surfaces hit by the `(C * B,)` rays of a sweep, column by column, the lowest beam first.

    Attributes:
        range_m: `(P,)` float64, infinity where nothing was hit.
        cosine: `(P,)` float32 of the angle of incidence.
        label, material: `(P,)` uint8.
        instance: `(P,)` int32 number of the thing, -1 for none.
        color: `(P, 3)` float32 reflectance of the mesh.
        uv: `(P, 2)` float32 surface coordinates.
    """

    range_m: np.ndarray
    cosine: np.ndarray
    label: np.ndarray
    material: np.ndarray
    instance: np.ndarray
    color: np.ndarray
    uv: np.ndarray


def _empty(count: int) -> Returns:
    return Returns(
        range_m=np.full(count, np.inf),
        cosine=np.zeros(count, np.float32),
        label=np.full(count, Label.NONE, np.uint8),
        material=np.full(count, 255, np.uint8),
        instance=np.full(count, -1, np.int32),
        color=np.zeros((count, 3), np.float32),
        uv=np.zeros((count, 2), np.float32),
    )


def _keep_nearest(
    found: Returns, caster: Caster, rays: np.ndarray | slice, origins: np.ndarray, toward: np.ndarray
) -> None:
    """Traces unit rays and writes the hits that are nearer than those found so far into `found` at `rays`."""
    hits = caster.trace(origins, toward)
    number = np.arange(len(found.range_m))[rays]
    better = np.nonzero((hits.face >= 0) & (hits.distance < found.range_m[number]))[0]
    face, at = hits.face.take(better), number[better]
    found.range_m[at] = hits.distance.take(better)
    normal = hits.normal.take(better, axis=0)
    found.cosine[at] = np.abs(np.einsum("ij,ij->i", normal, toward.take(better, axis=0).astype(np.float32)))
    found.label[at], found.material[at] = caster.of_faces("label", face), caster.of_faces("material", face)
    found.instance[at], found.color[at] = caster.of_faces("instance", face), caster.of_faces("color", face)
    found.uv[at] = hits.uv.take(better, axis=0)


def beam_directions(lidar: RigLidar) -> np.ndarray:
    """`(C, B, 3)` unit vectors in the lidar's frame, in firing order; seen from above a lidar turns clockwise."""
    azimuth = np.radians(lidar.start_deg) - 2 * np.pi * np.arange(1, lidar.columns + 1) / lidar.columns
    elevation = np.radians(np.asarray(lidar.elevations_deg))
    flat = np.stack([np.cos(azimuth), np.sin(azimuth)], 1)  # (C, 2)
    around = np.cos(elevation)[None, :, None] * flat[:, None]
    up = np.broadcast_to(np.sin(elevation)[None, :, None], (*around.shape[:2], 1))
    return np.concatenate([around, up], 2)


def firing_times(lidar: RigLidar) -> np.ndarray:
    """`(C,)` seconds relative to the end of the sweep: negative, the last one 0."""
    return (np.arange(1, lidar.columns + 1) - lidar.columns) / (lidar.columns * lidar.rate_hz)


class Movers:
    """The moving things of a scene, each in its own axes with a search tree for each pose: built once, used often."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.things = [thing for thing in scene.things if thing.instance >= 0 and thing.moves]
        self._made: dict[tuple[int, int], tuple[Caster, np.ndarray, float]] = {}

    def body(self, index: int, time_s: float) -> tuple[Caster, np.ndarray, float]:
        """The caster of one thing, the middle of its bounding box and the radius of the sphere around that, metres."""
        pose = self.things[index].pose(time_s)
        if (index, pose) not in self._made:
            mesh = build_body(self.things[index], pose)
            low, high = mesh.vertices.min(0), mesh.vertices.max(0)
            self._made[index, pose] = (Caster([mesh]), (low + high) / 2, float(np.linalg.norm(high - low) / 2))
        return self._made[index, pose]


def cast_turn(
    scene: Scene, static: Caster, movers: Movers, lidar: RigLidar, end_s: float
) -> tuple[Returns, np.ndarray]:
    """What the rays of the sweep that ends at scene time `end_s` hit.

    Returns:
        The returns, and `(C, 4, 4)` poses of the lidar in the world, one per column.
    """
    times = end_s + firing_times(lidar)
    poses = scene.ego_poses(times) @ lidar.ego_from_lidar
    rotation, origin = poses[:, :3, :3], poses[:, :3, 3]
    local = beam_directions(lidar)
    columns, beams = local.shape[:2]
    toward = local @ rotation.transpose(0, 2, 1)
    found = _empty(columns * beams)
    start = origin[:, None] + lidar.beam_offsets[None, :, None] * rotation[:, None, :, 2]
    _keep_nearest(found, static, slice(None), start.reshape(-1, 3), toward.reshape(-1, 3))
    highest = float(np.abs(lidar.beam_offsets).max())
    # The rays of a column lie in a half plane. Only columns whose half plane cuts the sphere around a thing can hit it,
    # and of its rays only those that cut the sphere.
    azimuth = np.radians(lidar.start_deg) - 2 * np.pi * np.arange(1, columns + 1) / columns
    zero = np.zeros(columns)
    ahead = np.einsum("cij,cj->ci", rotation, np.stack([np.cos(azimuth), np.sin(azimuth), zero], 1))
    aside = np.einsum("cij,cj->ci", rotation, np.stack([-np.sin(azimuth), np.cos(azimuth), zero], 1))
    for index, thing in enumerate(movers.things):
        where, yaw, there = scene.places(thing, times)
        gap = where[columns // 2] - origin[columns // 2]
        if not there.any() or gap @ gap > (lidar.max_range_m + 30) ** 2:
            continue
        caster, middle, radius = movers.body(index, end_s)
        radius += highest  # the beams do not all start at the lidar's origin
        own_from_world = yaw_matrix(-yaw)  # (C, 3, 3): the thing stands elsewhere when each column fires
        c, s = own_from_world[:, 0, 0], own_from_world[:, 0, 1]
        sphere = where + np.stack([c * middle[0] - s * middle[1], s * middle[0] + c * middle[1], zero + middle[2]], 1)
        gap = sphere - origin
        some = np.nonzero(
            there
            & (np.abs(np.einsum("ci,ci->c", gap, aside)) <= radius)
            & (np.einsum("ci,ci->c", gap, ahead) >= -radius)
        )[0]
        if not len(some):
            continue
        along = np.einsum("ci,cbi->cb", gap[some], toward[some])
        square = np.einsum("ci,ci->c", gap[some], gap[some])[:, None] - along**2
        column, beam = np.nonzero((square <= radius**2) & (along >= -radius))
        if not len(column):
            continue
        column = some[column]
        turn = own_from_world[column]
        origins = np.einsum("pij,pj->pi", turn, start[column, beam] - where[column])
        directions = np.einsum("pij,pj->pi", turn, toward[column, beam])
        _keep_nearest(found, caster, column * beams + beam, origins, directions)
    return found, poses


def _air(scene: Scene, condition: Condition) -> Light:
    """Air and ground of a condition, in daylight."""
    return light_of(scene, condition.by_day())


@lru_cache(maxsize=16)
def _own_vehicle(lidar: RigLidar) -> Returns:
    """What the rays of a sweep hit of the vehicle that carries the lidar: the same in every sweep."""
    x, length, width, height = lidar.vehicle or (0.0, 0.0, 0.0, 0.0)
    mesh = template("car", 0)
    size = mesh.vertices.max(0) - mesh.vertices.min(0)
    caster = Caster([place(mesh, (x, 0.0, 0.0), scale=tuple(np.array([length, width, height]) / size))])
    local = beam_directions(lidar)
    rotation, origin = lidar.ego_from_lidar[:3, :3], lidar.ego_from_lidar[:3, 3]
    found = _empty(local.shape[0] * local.shape[1])
    start = np.broadcast_to(origin + lidar.beam_offsets[:, None] * rotation[:, 2], local.shape)
    _keep_nearest(found, caster, slice(None), start.reshape(-1, 3), (local @ rotation.T).reshape(-1, 3))
    return found


def _add_own_vehicle(found: Returns, lidar: RigLidar) -> None:
    own = _own_vehicle(lidar)
    at = np.nonzero(own.range_m < found.range_m)[0]
    for name in ("range_m", "cosine", "color", "uv"):
        getattr(found, name)[at] = getattr(own, name)[at]
    found.label[at], found.material[at], found.instance[at] = Label.NONE, Material.EGO, -1


def _straddled(range_m: np.ndarray, beams: int, share: float, luck: np.ndarray, part: np.ndarray) -> np.ndarray:
    """`(P,)` range with rays at edges between what they and the next column's ray hit."""
    grid = range_m.reshape(-1, beams)
    with np.errstate(invalid="ignore"):  # infinity less infinity: neither hit anything
        step = np.roll(grid, -1, 0) - grid
        edge = (np.abs(step) > 0.1) & (np.abs(step) < _PULSE_M) & (luck.reshape(step.shape) < share)
    return np.where(edge, grid + part.reshape(step.shape) * np.where(edge, step, 0), grid).ravel()


def _as_annotated(values: tuple[np.ndarray, ...], range_m: np.ndarray, beams: int, luck: np.ndarray) -> None:
    """Points at a border take label, material and instance of a neighbour in the grid of rays; in place.

    Args:
        values: `(P,)` labels first.
        range_m: `(P,)`, 0 or infinity without a return.
        beams: Rays per column.
        luck: `(P,)` uniform in [0, 1).
    """
    count = len(range_m)
    ray = np.nonzero(luck < _EDGE_ERRORS)[0]
    way = (luck[ray] * (4 / _EDGE_ERRORS)).astype(np.int64)
    beam = np.clip(ray % beams + np.array([0, 0, 1, -1])[way], 0, beams - 1)
    other = ((ray // beams + np.array([1, -1, 0, 0])[way]) * beams + beam) % count
    there = (range_m[ray] > 0) & (range_m[other] > 0) & np.isfinite(range_m[ray]) & np.isfinite(range_m[other])
    ray, other = ray[there], other[there]
    near = np.abs(range_m[ray] - range_m[other]) < _EDGE_M
    ray, other = ray[near], other[near]
    for value in values:
        value[ray] = value[other]


def sweep_at(
    scene: Scene,
    static: Caster,
    movers: Movers,
    lidar: RigLidar,
    number: int,
    end_us: int,
    condition: Condition,
    tracks: np.ndarray,
    *,
    annotated: bool = False,
) -> Sweep:
    """The sweep of `lidar` that ends at `end_us`.

    Args:
        scene: The place.
        static: Caster of everything that stands still.
        movers: Everything else.
        lidar: The sensor.
        number: Its index in the rig, part of the seed of its noise.
        end_us: Scene time in microseconds.
        condition: Weather and its severity; the time of day has no effect.
        tracks: Of `boxes.track_table`.
        annotated: Labels with an annotator's errors at borders, instead of what each ray hit.

    Returns:
        Points with the columns `CHANNELS`, in firing order.
    """
    found, poses = cast_turn(scene, static, movers, lidar, end_us * 1e-6)
    if lidar.vehicle is not None:
        _add_own_vehicle(found, lidar)
    light = _air(scene, condition)
    count, beams, response = len(found.range_m), len(lidar.elevations_deg), lidar.response
    # Every ray draws the same numbers in every weather, so that a return lost in thin fog is lost in thick fog too.
    # The offset keeps the seed positive: older sweeps of the first frame may end before scene time 0.
    rng = np.random.default_rng([scene.seed, 61, number, end_us + 10**12])
    noise, spread, gain, cloud = (rng.standard_normal(count, np.float32) for _ in range(4))
    lost, drop, where, edge, border = (rng.random(count, np.float32) for _ in range(5))
    weakest = _WEAKEST / lidar.max_range_m**2
    range_m, label = _straddled(found.range_m, beams, lidar.straddling, edge, where), found.label
    hit = np.nonzero((range_m >= lidar.min_range_m) & (range_m <= lidar.max_range_m))[0]
    material, cosine, far = found.material[hit], found.cosine[hit], range_m[hit]
    rho, label[hit] = reflectance(scene, light, material, found.color[hit], found.uv[hit], cosine, label[hit])
    through = np.exp(-2 * light.extinction * far)
    power = rho * response.incidence(cosine, GLOSSY.take(material), material == Material.ASPHALT) * through
    strength, intensity = np.zeros(count), np.zeros(count)
    strength[hit] = power / np.maximum(far, _NEAR) ** 2 / weakest * np.exp(0.3 * gain[hit])
    power = np.where(rho > 1, (0.6 + 0.4 * cosine) * through * response.retro, power)
    intensity[hit] = response.report(power, far, hit % beams, spread[hit])
    pane = hit[PANES.take(material)]
    strength[pane[lost[pane] < 0.8 * (1 - found.cosine[pane] ** 8)]] = 0  # glass reflects most of the beam elsewhere
    strength[hit[lost[hit] > 1 - lidar.dropout]] = 0
    strength[strength < 1] = 0
    at, shine = _in_air(light, strength, weakest, drop, where, cloud)
    in_air = (at >= lidar.min_range_m) & (at < range_m)
    range_m[in_air], intensity[in_air] = at[in_air], shine[in_air]
    seen = (strength > 0) | in_air
    range_m += np.hypot(lidar.range_noise_m, lidar.range_noise_growth * np.where(seen, range_m, 0)) * noise
    if lidar.grass:
        turf = hit[label[hit] == Label.TERRAIN]
        range_m[turf] -= np.minimum(_BLADE_M * -np.log1p(-edge[turf]) / np.maximum(found.cosine[turf], 0.02), 1.0)
    for values, nothing in ((label, Label.NONE), (found.material, _NOTHING), (found.instance, -1)):
        values[in_air | ~seen] = nothing
    if annotated:
        _as_annotated((label, found.material, found.instance), np.where(seen, range_m, 0), beams, border)
    kept = np.nonzero(seen)[0]
    if response.misses is not None:
        range_m[~seen], intensity[~seen] = 0.0, response.misses * np.exp(1.3 * spread[~seen])
        kept = np.arange(count)
    bright = response.in_steps(intensity[kept] * (1 + lidar.intensity_noise * cloud[kept]))
    return _sweep(lidar, found, poses, kept, range_m[kept], bright, end_us, tracks)


def _in_air(
    light: Light, surface: np.ndarray, weakest: float, drop: np.ndarray, where: np.ndarray, cloud: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`(P,)` range (0: none) and `(P,)` intensity of fog, drops and flakes that outshine the surface behind them.

    Args:
        light: The air.
        surface: `(P,)` strength of the return from the surface, 0 where it is not detected.
        weakest: Power that can just be detected.
        drop, where: `(P,)` uniform in [0, 1).
        cloud: `(P,)` normal.
    """
    if light.rain_mm_h or light.snow_mm_h:
        share = 0.0015 * light.rain_mm_h**0.63 if light.rain_mm_h else 0.02 * light.snow_mm_h**0.8
        shine = np.clip((0.03 if light.rain_mm_h else 0.15) * np.exp(0.6 * cloud), 0.005, 0.6)
        return np.where(drop < share, 1.0 + 14.0 * where**1.5, 0.0), shine
    if light.extinction < 4e-3:  # clear air
        return np.zeros(len(surface)), np.zeros(len(surface))
    at = 1.5 / (1 - where * (1 - 1.5 / _NEAR))  # 1.5 m to 20 m, as often as light comes back: 1 / range ** 2
    power = 0.013 * light.extinction * np.exp(-2 * light.extinction * at + cloud) / _NEAR**2 / weakest
    shine = np.minimum(0.05 + 0.6 * light.extinction * np.exp(0.5 * cloud), 0.3)
    return np.where((power >= 1) & (power > surface), at, 0.0), shine


def _sweep(
    lidar: RigLidar,
    found: Returns,
    poses: np.ndarray,
    kept: np.ndarray,
    range_m: np.ndarray,
    intensity: np.ndarray,
    end_us: int,
    tracks: np.ndarray,
) -> Sweep:
    """The rays `kept`, with their `range_m` and `intensity`, in the sensor's frame at the end of the sweep."""
    beams = len(lidar.elevations_deg)
    column, ring = kept // beams, kept % beams
    local = beam_directions(lidar).reshape(-1, 3)[kept] * range_m[:, None]
    local[:, 2] += np.where(range_m > 0, lidar.beam_offsets[ring], 0)
    end = poses[-1]
    moved = np.einsum(
        "ij,cjk->cik", np.linalg.inv(end), poses
    )  # (C, 4, 4): the frame at the end of the sweep from that of each column
    points = np.einsum("pij,pj->pi", moved[column, :3, :3], local) + moved[column, :3, 3]
    columns = [points, intensity[:, None], ring[:, None], firing_times(lidar)[column][:, None]]
    return Sweep(
        points_source=np.concatenate(columns, 1).astype(np.float32),
        channels=CHANNELS,
        labels_source=found.label[kept],
        instances_source=tracks[found.instance[kept]],
        materials_source=found.material[kept],
        timestamp_us=end_us,
        ego_from_lidar=lidar.ego_from_lidar,
        world_from_ego=end @ np.linalg.inv(lidar.ego_from_lidar),
    )
