"""Frames of the synthetic street world: the pipeline from a seed to images with exact labels.

scene description (`scene`) -> triangles (`build`) -> rays (`cast`) -> radiance (`shade`, `light`, `texture`) -> motion
blur (`exposure`) -> falling rain or snow (`weather`) -> picture (`camera`); beside it rays -> turns of lidars (`lidar`)
and 3D boxes (`boxes`). Which sensors there are is told by the rig (`rigs`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zoo.condition import Condition
from zoo.errors import InputError
from zoo.frame import CameraFrame, Frame, Sweep
from zoo.synthetic.models.barriers import build_sheets
from zoo.synthetic.models.build import LABELS_WITH_INSTANCES, build_moving, build_parked, build_static
from zoo.synthetic.rendering.camera import camera_from_pixels, ego_from_camera, intrinsics_of, take_picture
from zoo.synthetic.rendering.cast import Caster, Hits, embree_scene
from zoo.synthetic.rendering.exposure import motion_blur
from zoo.synthetic.rendering.light import light_of
from zoo.synthetic.rendering.shade import openness_map, shade
from zoo.synthetic.rendering.weather import falling
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.sensors.lidar import Movers, sweep_at
from zoo.synthetic.sensors.rigs import Rig, RigCamera, rig_of
from zoo.synthetic.shapes.mesh import Mesh, concatenate
from zoo.synthetic.shapes.surfaces import Label, Material
from zoo.synthetic.truth.annotate import close_crowns, close_fences
from zoo.synthetic.truth.boxes import View, bodies_of, boxes_at, track_table

__all__ = [
    "MAX_SIDE",
    "REGULAR_IDS",
    "World",
    "check_size",
    "frame_times",
    "iter_frames",
    "longest",
    "render_frame",
    "render_rig",
    "render_scene",
    "render_world",
    "stops",
]

MAX_SIDE = 8192
_CLEAR = Condition()
REGULAR_IDS = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33])
"""Regular Cityscapes id of every training id, 0 to 18."""


class World:
    """A scene's triangles and search trees, reused for all of its frames."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.static = build_static(scene)
        self.lamps = _lamp_positions(self.static)
        sheets, self.sheet_boxes = build_sheets(scene)
        self.sheets = None if sheets is None else Caster([sheets])
        self.bodies = bodies_of(scene)
        self.tracks = track_table(self.bodies)
        self.movers = Movers(scene)
        self._moving: tuple[float, Caster, np.ndarray] | None = None

    @cached_property
    def still(self) -> tuple[Mesh, Any]:
        """Mesh and search tree of all that stays where it is, parked vehicles too."""
        parked = build_parked(self.scene)
        mesh = self.static if parked is None else concatenate([parked, self.static])
        return mesh, embree_scene(mesh)

    def caster(self, time_s: float, world_from_ego: np.ndarray) -> tuple[Caster, np.ndarray]:
        """The caster with everything where it is at `time_s`, and `(K, 8, 3)` boxes around its first mesh."""
        if self._moving is None or self._moving[0] != time_s:
            self._moving = (time_s, *self.caster_at(time_s, world_from_ego))
        return self._moving[1:]

    def caster_at(self, time_s: float, bonnet: np.ndarray | None) -> tuple[Caster, np.ndarray]:
        """The same for many moments: parked vehicles are not built anew; the bonnet belongs to it at its pose."""
        moving, boxes = build_moving(self.scene, time_s, bonnet, parked=False)
        return self._join(moving, *self.still), boxes

    @staticmethod
    def _join(moving: Mesh | None, mesh: Mesh, tree: Any) -> Caster:
        if moving is None:
            return Caster([mesh], [tree])
        return Caster([moving, mesh], [embree_scene(moving), tree])

    def world_from_ego(self, s: float) -> np.ndarray:
        """`(4, 4)` pose of the ego vehicle `s` metres along the street."""
        return self.scene.street.poses(np.array([s]), self.scene.ego_lane)[0]


def _lamp_positions(mesh: Mesh) -> np.ndarray:
    """`(L, 3)` centres of the street lamps' lights, joined where nearer than a metre."""
    centres = mesh.vertices[mesh.faces[mesh.material == Material.LAMP]].mean(1)
    if not len(centres):
        return np.zeros((0, 3), np.float32)
    _, first = np.unique(np.round(centres / 1.5).astype(int), axis=0, return_index=True)
    return centres[np.sort(first)]


def check_size(size: tuple[int, int]) -> None:
    """Refuses a (height, width) that cannot be rendered."""
    height, width = size
    if not (8 <= height <= MAX_SIDE and 8 <= width <= MAX_SIDE):
        raise InputError(f"size {height}x{width} cannot be rendered; height and width must lie in 8 to {MAX_SIDE}")


def render_world(
    world: World,
    index: int,
    time_s: float,
    s: float,
    condition: Condition,
    size: tuple[int, int],
    *,
    extra: int = 1,
    exact: bool = False,
) -> Frame:
    """One frame of `world` from `s` metres along the street at `time_s` seconds.

    `extra` rays are added in pixels at edges; `exact` labels are the middle ray's, others are as annotators draw them.
    """
    check_size(size)
    scene, ego, stamp = world.scene, world.world_from_ego(s), int(time_s * 1e6)
    caster, boxes = world.caster(time_s, ego)
    camera = _picture(
        world,
        caster,
        boxes,
        condition,
        intrinsics_of(scene.camera, size),
        ego_from_camera(scene.camera),
        ego,
        size,
        np.random.default_rng([scene.seed, index, 7]),
        stamp,
        extra=extra,
        exact=exact,
    )
    return Frame(
        id=f"{scene.seed:08d}_{index:06d}",
        scene=f"{scene.seed:08d}",
        condition=condition,
        cameras={"front": camera},
        timestamp_us=stamp,
        world_from_ego=ego,
        meta={"seed": scene.seed, "index": index, "city": "synthetic", "rig": "camera"},
    )


def _picture(
    world: World,
    caster: Caster,
    boxes: np.ndarray,
    condition: Condition,
    intrinsics: np.ndarray,
    ego_camera: np.ndarray,
    ego: np.ndarray,
    size: tuple[int, int],
    rng: np.random.Generator,
    stamp_us: int,
    *,
    extra: int,
    exact: bool,
    moves: bool = False,
) -> CameraFrame:
    """What one camera takes at `stamp_us` of the world in `caster`; with `moves`, blurred by the vehicle's motion."""
    scene = world.scene
    light = light_of(scene, condition)
    world_camera = ego @ ego_camera
    eye = world_camera[:3, 3]
    directions = (camera_from_pixels(intrinsics, size) @ world_camera[:3, :3].T).astype(np.float32)
    near_boxes = (
        _covered(boxes, world_camera, intrinsics, size).ravel() if len(boxes) else np.ones(len(directions), bool)
    )
    hits = caster.trace(np.broadcast_to(eye, directions.shape), directions, np.nonzero(near_boxes)[0])
    opened = openness_map(caster, eye, directions, hits, size, rng)
    pixel = float(1 / intrinsics[0, 0])
    shaded = shade(scene, caster, light, world.lamps, eye, directions, hits, opened, pixel, rng, ego)
    edges = _edges(shaded.label, hits, size)
    if extra and len(edges):  # more rays where one is not the mean of its pixel
        twice = np.tile(edges, extra)
        sides = 1 / intrinsics[[0, 1], [0, 1]]  # of a pixel, at depth 1
        jitter = (rng.uniform(-0.5, 0.5, (len(twice), 2)) * sides).astype(np.float32)
        more = directions.take(twice, axis=0) + jitter @ world_camera[:3, :2].T.astype(np.float32)
        again = caster.trace(np.broadcast_to(eye, more.shape), more, np.nonzero(near_boxes[twice])[0])
        part = shade(scene, caster, light, world.lamps, eye, more, again, opened.take(twice), pixel, rng, ego)
        part = np.minimum(part.radiance, np.float32(20 * light.brightest)).reshape(extra, -1, 3)
        shaded.radiance[edges] = (shaded.radiance[edges] + part.sum(0)) / np.float32(1 + extra)
    depth = np.where(hits.face < 0, np.inf, hits.distance).astype(np.float32).reshape(size)
    radiance = shaded.radiance.reshape(*size, 3)
    if moves:
        radiance = motion_blur(
            radiance, depth, shaded.instance.reshape(size), scene, stamp_us * 1e-6, light.gain, ego_camera, intrinsics
        )
    radiance = falling(radiance, depth, light, intrinsics[0, 0], rng)
    image, dark = take_picture(radiance, scene.optics, light, rng)
    # What is left of a surface's contrast behind the air: below 5 % it cannot be seen (the definition of visibility).
    range_m = depth * np.linalg.norm(directions, axis=1).reshape(size)
    hidden = np.isfinite(depth) & (light.extinction * range_m > -np.log(0.05))
    invalid = hidden | dark if condition.name != "clear" else np.zeros(size, bool)
    labels = shaded.label
    if not exact:
        tried = np.nonzero(_covered(world.sheet_boxes, world_camera, intrinsics, size).ravel())[0]
        if world.sheets is not None and len(tried):
            labels = close_fences(labels, hits.distance, world.sheets, eye, directions, tried)
        labels = close_crowns(labels.reshape(size), depth, max(1, round(0.012 * max(size))))
    labels = labels.reshape(size)
    return CameraFrame(
        image_source=image,
        labels_source=labels,
        instances_source=_instances(labels, world.tracks[shaded.instance].reshape(size)),
        depth_source=depth,
        invalid_source=invalid,
        timestamp_us=stamp_us,
        intrinsics=intrinsics,
        ego_from_camera=ego_camera,
        world_from_ego=ego,
    )


def render_rig(
    world: World,
    index: int,
    rig: Rig,
    condition: Condition,
    size: tuple[int, int] | None = None,
    *,
    sweeps: int = 0,
    extra: int = 1,
    exact: bool = False,
) -> Frame:
    """Frame `index` of `world` as the sensors of `rig` take it, with boxes.

    Args:
        world: The place.
        index: Of the frame along the ego's way.
        rig: The sensors.
        condition: Light and weather.
        size: (height, width) of the first camera, the others in the same ratio; `None`: the rig's own.
        sweeps: Older turns of each lidar beside the newest.
        extra: See `render_world`.
        exact: See `render_scene`.
    """
    scene = world.scene
    stamp = frame_times(scene, rig, index + 1)[index]
    ego = scene.ego_poses(np.array([stamp * 1e-6]))[0]
    cameras: dict[str, CameraFrame] = {}
    views: list[View] = []
    for number, (name, camera) in enumerate(rig.cameras.items()):
        pixels = rig.sizes(size)[name]
        check_size(pixels)
        taken = stamp if camera is None else camera.time_us(stamp)
        pose = scene.ego_poses(np.array([taken * 1e-6]))[0]
        caster, boxes = world.caster_at(taken * 1e-6, pose if camera is None else None)
        intrinsics, mount = _mounted(scene, camera, pixels)
        cameras[name] = _picture(
            world,
            caster,
            boxes,
            condition,
            intrinsics,
            mount,
            pose,
            pixels,
            np.random.default_rng([scene.seed, 7, number, taken + 10**12]),
            taken,
            extra=extra,
            exact=exact,
            moves=True,
        )
        views.append(View(caster, taken * 1e-6, pose @ mount, intrinsics, pixels))
    lidars: dict[str, tuple[Sweep, ...]] = {}
    still = Caster([world.still[0]], [world.still[1]])
    for number, (name, lidar) in enumerate(rig.lidars.items()):
        ends = lidar.turn_ends_us(stamp, 1 + sweeps)
        lidars[name] = tuple(
            sweep_at(scene, still, world.movers, lidar, number, end, condition, world.tracks) for end in ends
        )
    newest = [turns[0] for turns in lidars.values()]
    return Frame(
        id=f"{scene.seed:08d}_{index:06d}",
        scene=f"{scene.seed:08d}",
        condition=condition,
        cameras=cameras,
        lidars=lidars,
        boxes=boxes_at(scene, world.bodies, world.tracks, stamp * 1e-6, ego, views, newest),
        timestamp_us=stamp,
        world_from_ego=ego,
        meta={"seed": scene.seed, "index": index, "city": "synthetic", "rig": rig.name},
    )


def _mounted(scene: Scene, camera: RigCamera | None, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`(3, 3)` intrinsics and `(4, 4)` ego_from_camera."""
    if camera is None:
        return intrinsics_of(scene.camera, size), ego_from_camera(scene.camera)
    return camera.intrinsics_at(size), np.asarray(camera.ego_from_camera, float)


def _covered(boxes: np.ndarray, world_camera: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`(H, W)` bool: pixels inside the image rectangle of any of the `(K, 8, 3)` boxes, one pixel more on each side."""
    mask = np.zeros(size, bool)
    local = (boxes - world_camera[:3, 3]) @ world_camera[:3, :3]
    z = local[..., 2]
    for corners, depth in zip(local[z.max(1) > 0.05], z[z.max(1) > 0.05]):
        if depth.min() < 0.05:  # part of it lies behind the camera: it ends on the plane z = 0.05 between its corners
            corners, depth = (
                np.concatenate([corners, corners]),
                np.concatenate([np.maximum(depth, 0.05), np.full(8, 0.05)]),
            )
        x = corners[:, 0] / depth * intrinsics[0, 0] + intrinsics[0, 2]
        y = corners[:, 1] / depth * intrinsics[1, 1] + intrinsics[1, 2]
        x0, y0 = int(max(np.floor(x.min()) - 1, 0)), int(max(np.floor(y.min()) - 1, 0))
        mask[y0 : int(max(np.ceil(y.max()) + 2, 0)), x0 : int(max(np.ceil(x.max()) + 2, 0))] = True
    return mask


def _edges(label: np.ndarray, hits: Hits, size: tuple[int, int]) -> np.ndarray:
    """Flat indices of the pixels that differ from a neighbour in label, distance or direction of the surface."""
    label, depth = label.reshape(size), np.log(hits.distance).reshape(size)
    normal = hits.normal.reshape(*size, 3)
    edge = np.zeros(size, bool)
    for a, b in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        slanted = np.einsum("ijk,ijk->ij", normal[a], normal[b]) < 0.8
        differs = (label[a] != label[b]) | (np.abs(depth[a] - depth[b]) > 0.25) | (slanted & (label[a] != Label.SKY))
        edge[a] |= differs
        edge[b] |= differs
    return np.nonzero(edge.ravel())[0]


def _instances(labels: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """`(H, W)` int32 in the coding of Cityscapes: id * 1000 + track for the classes that have instances.

    Tracks of a place stay below 1000, so that a number means the same object in every picture, sweep and box.
    """
    ids = np.zeros(256, np.int32)
    ids[: len(REGULAR_IDS)] = REGULAR_IDS
    out = ids[labels]
    here = np.isin(labels, list(LABELS_WITH_INSTANCES))
    out[here] = out[here] * 1000 + tracks[here]
    return out


def stops(scene: Scene, frames: int) -> list[tuple[float, float]]:
    """(time, place) of the ego for each frame: it drives on at its own speed."""
    first = scene.ego_start
    step = min(1.6, 9.0 / max(frames - 1, 1)) if frames > 1 else 0.0
    return [(k * step, first + scene.ego_speed * k * step) for k in range(frames)]


_LEAD_S = 1.0  # the first frame of a rig: older turns lie behind it
_ROOM_M = 10.0  # metres of street that are left ahead of the ego at its last frame


def longest(scene: Scene, rig: str | Rig) -> int:
    """Frames that `rig` can take before the ego comes to the end of the street.

    With the fastest and slowest drivers and the presets: 23 to 89 of nuScenes and A2D2, 114 to 441 of KITTI and Waymo.
    """
    rig = rig_of(rig)
    if rig.period_s is None or scene.ego_speed == 0:
        return 10**6
    way = scene.street.end - _ROOM_M - scene.ego_start
    return int((way / scene.ego_speed - _LEAD_S) / rig.period_s) + 1


def frame_times(scene: Scene, rig: Rig, frames: int) -> list[int]:
    """Scene times of the first `frames` frames in microseconds.

    Raises:
        InputError: If the ego would leave the street.
    """
    if rig.period_s is None:
        return [int(time_s * 1e6) for time_s, _ in stops(scene, frames)]
    most = longest(scene, rig)
    if frames > most:
        raise InputError(
            f"{frames} frames of rig {rig.name!r}, {rig.period_s} s apart, are more than the {most} that fit into the "
            f"street of place {scene.seed}; ask for fewer frames of more places"
        )
    return [round(1e6 * (_LEAD_S + k * rig.period_s)) for k in range(frames)]


def render_scene(
    seed: int,
    frames: int = 4,
    *,
    conditions: Sequence[Condition] = (Condition(),),
    size: tuple[int, int] | None = None,
    start: int = 0,
    exact: bool = False,
    rig: str | Rig = "camera",
    sweeps: int = 0,
) -> Iterator[Frame]:
    """Frames `start` to `frames - 1` of one place along the ego's way; frame k has condition `k % len(conditions)`.

    With the rig `camera` a frame holds one picture, `front`, of a camera that is another one in every place, and
    nothing else. With other rigs it holds the pictures of all cameras, each with its own time and pose of the vehicle
    and with motion blur, the turns of all lidars, and boxes; its own time is the end of the newest turn, for a rig of
    your own frame k is at 1 s + k times its period.

    Args:
        seed: Of the place.
        frames: How many there are along the way.
        conditions: Taken in turn.
        size: (height, width) of the rig's first camera, the others in the same ratio; `None`: the rig's own, which is
            256 x 512 for `camera`.
        start: First frame to render.
        exact: Labels of the ray through each pixel's middle; otherwise gaps in fences and crowns belong to them, as
            annotators of real frames draw them.
        rig: Name of a preset of `rigs.RIGS`, or a `Rig`.
        sweeps: Older turns of each lidar beside the newest.

    Raises:
        InputError: If sizes or counts are impossible, or the rig is unknown.
        MissingExtraError: If embreex is not installed.
    """
    rig = _checked(rig, size, sweeps, conditions)
    if frames < 1:
        raise InputError(f"frames {frames} is not positive; ask for at least one")
    if not 0 <= start < frames:
        raise InputError(f"start {start} is outside 0 to {frames - 1}, the frames of the place")
    scene = describe(seed)
    frame_times(scene, rig, frames)
    world = World(scene)
    for k in range(start, frames):
        condition = conditions[k % len(conditions)]
        if rig.name == "camera" and rig.period_s is None:
            place = stops(scene, frames)[k]
            yield render_world(world, k, *place, condition, rig.sizes(size)["front"], exact=exact)
        else:
            yield render_rig(world, k, rig, condition, size, sweeps=sweeps, exact=exact)


def _checked(rig: str | Rig, size: tuple[int, int] | None, sweeps: int, conditions: Sequence[Condition]) -> Rig:
    rig = rig_of(rig)
    if isinstance(conditions, str) or not conditions or not all(isinstance(c, Condition) for c in conditions):
        raise InputError(
            f"conditions {conditions!r}: one Condition or more is needed, for example (Condition.parse('fog'),)"
        )
    if size is not None and not (len(size) == 2 and all(isinstance(side, int | np.integer) for side in size)):
        raise InputError(f"size {size} is not (height, width) in whole pixels")
    for pixels in rig.sizes(size).values():
        check_size(pixels)
    if sweeps < 0:
        raise InputError(f"sweeps {sweeps} is negative; 0 gives the newest turn alone")
    if sweeps and not rig.lidars:
        raise InputError(f"sweeps {sweeps}: rig {rig.name!r} has no lidar")
    return rig


def render_frame(
    seed: int,
    *,
    condition: Condition = _CLEAR,
    size: tuple[int, int] | None = None,
    exact: bool = False,
    rig: str | Rig = "camera",
    sweeps: int = 0,
) -> Frame:
    """The first frame of place `seed` under `condition`; labels and depth do not depend on the condition.

    Args:
        seed: Of the place.
        condition: Light and weather.
        size: (height, width) in pixels, see `render_scene`.
        exact: See `render_scene`.
        rig: See `render_scene`.
        sweeps: See `render_scene`.

    Raises:
        InputError: If the size is impossible or the rig unknown.
        MissingExtraError: If embreex is not installed.
    """
    return next(iter(render_scene(seed, 1, conditions=(condition,), size=size, exact=exact, rig=rig, sweeps=sweeps)))


@dataclass(frozen=True)
class _Job:
    """One place to render."""

    seed: int
    frames: int
    conditions: tuple[Condition, ...]
    size: tuple[int, int] | None
    rig: str | Rig
    sweeps: int

    def run(self) -> Iterator[Frame]:
        return render_scene(
            self.seed, self.frames, conditions=self.conditions, size=self.size, rig=self.rig, sweeps=self.sweeps
        )


def _scene_frames(job: _Job) -> list[Frame]:
    return list(job.run())


def iter_frames(
    count: int,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    *,
    conditions: Sequence[Condition] = (Condition(),),
    frames_per_scene: int = 4,
    workers: int = 0,
    rig: str | Rig = "camera",
    sweeps: int = 0,
) -> Iterable[Frame]:
    """`count` frames of places `seed`, `seed + 1`, ..., in the same order for every number of `workers`.

    Args:
        count: Frames in all.
        seed: Of the first place.
        size: (height, width), see `render_scene`.
        conditions: Each place's frames take them in turn, starting at a different one in every place.
        frames_per_scene: Frames per place.
        workers: Processes; 0 renders in this one.
        rig: See `render_scene`.
        sweeps: See `render_scene`.

    Raises:
        InputError: If sizes or counts are impossible or the rig is unknown.
        MissingExtraError: If embreex is not installed.
    """
    checked = _checked(rig, size, sweeps, conditions)
    if count < 1 or frames_per_scene < 1:
        raise InputError(f"{count} frames, {frames_per_scene} per scene: both must be at least 1")
    if seed < 0 or workers < 0:
        raise InputError(f"seed {seed}, workers {workers}: neither may be negative")
    frame_times(describe(seed), checked, frames_per_scene)  # refuses more than the first street holds
    places = -(-count // frames_per_scene)
    jobs = [
        _Job(
            seed + k,
            frames_per_scene,
            tuple(conditions[(k + i) % len(conditions)] for i in range(len(conditions))),
            size,
            rig,
            sweeps,
        )
        for k in range(places)
    ]
    return itertools.islice(_frames(jobs, workers), count)


def _frames(jobs: list[_Job], workers: int) -> Iterator[Frame]:
    if workers < 1:
        for job in jobs:
            yield from job.run()
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pending: list = []
        queue = iter(jobs)
        for job in itertools.islice(queue, 2 * workers):
            pending.append(pool.submit(_scene_frames, job))
        while pending:
            yield from pending.pop(0).result()
            for job in itertools.islice(queue, 1):
                pending.append(pool.submit(_scene_frames, job))
