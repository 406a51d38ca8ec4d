"""Frames of the synthetic street world: from a seed to pictures, sweeps and exact ground truth.

`scene` describes the place, `models` builds its triangles, `picture` renders a camera (`rendering`: rays, radiance,
motion blur, falling rain or snow, optics), `sensors.lidar` casts the sweeps, and `truth` adds boxes. The rig says which
sensors there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo.condition import Condition
from zoo.errors import InputError
from zoo.frame import CameraFrame, Frame, Sweep
from zoo.synthetic.frames.own_meshes import with_meshes
from zoo.synthetic.frames.picture import check_size, picture
from zoo.synthetic.frames.shutter import Shot
from zoo.synthetic.frames.times import clock_us, drive_times, frame_times, stops
from zoo.synthetic.frames.world import DriveWorld, World
from zoo.synthetic.rendering.camera import ego_from_camera, intrinsics_of
from zoo.synthetic.rendering.cast import Caster
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.drive import describe_drive
from zoo.synthetic.scene.types import Optics, Scene
from zoo.synthetic.sensors.lidar import sweep_at
from zoo.synthetic.sensors.rigs import Rig, RigCamera, rig_of
from zoo.synthetic.shapes.own_mesh import OwnMesh
from zoo.synthetic.truth.boxes import View, boxes_at
from zoo.synthetic.truth.flow import Next

__all__ = ["check_flow", "drive_world", "iter_frames", "render_frame", "render_rig", "render_scene", "render_world"]

_CLEAR = Condition()
_ANY = Choices()
_AFTER_ANY_TIME = 10**12  # microseconds: scene times may be negative, the parts of a seed must not be


def render_world(
    world: World,
    index: int,
    time_s: float,
    s: float,
    condition: Condition,
    size: tuple[int, int],
    *,
    edge_rays: int = 1,
    exact: bool = False,
) -> Frame:
    """One frame of the camera that was drawn for the place itself.

    Args:
        world: The place.
        index: Of the frame.
        time_s: Scene time, seconds.
        s: Of the vehicle, metres along the street.
        condition: Light and weather.
        size: (height, width).
        edge_rays: See `render_scene`.
        exact: See `render_scene`.
    """
    check_size(size)
    scene, ego, stamp = world.scene, world.world_from_ego(s), int(time_s * 1e6)
    caster, boxes = world.caster(time_s, ego)
    shot = Shot(
        condition=condition,
        size=size,
        intrinsics=intrinsics_of(scene.camera, size),
        ego_from_camera=ego_from_camera(scene.camera),
        world_from_ego=ego,
        time_us=stamp,
        motion_blur=False,
        edge_rays=edge_rays,
        exact=exact,
    )
    camera = picture(world, caster, boxes, shot, np.random.default_rng([scene.seed, index, 7]))
    return Frame(
        id=f"{scene.seed:08d}_{index:06d}",
        scene=f"{scene.seed:08d}",
        condition=condition,
        cameras={"front": camera},
        timestamp_us=stamp,
        world_from_ego=ego,
        meta={"seed": scene.seed, "index": index, "city": "synthetic", "rig": "camera"},
    )


def render_rig(
    world: World | DriveWorld,
    index: int,
    rig: Rig,
    condition: Condition,
    size: tuple[int, int] | None = None,
    *,
    sweeps: int = 0,
    edge_rays: int = 1,
    exact: bool = False,
    flow: bool = False,
) -> Frame:
    """Frame `index` of `world` as the sensors of `rig` take it, with boxes.

    Args:
        world: The place, or the drive.
        index: Of the frame along the ego's way.
        rig: The sensors.
        condition: Light and weather.
        size: (height, width) of the first camera, the others in the same ratio; `None`: the rig's own.
        sweeps: Older sweeps of each lidar in addition to the newest.
        edge_rays: See `render_scene`.
        exact: See `render_scene`.
        flow: See `render_scene`.
    """
    if isinstance(world, DriveWorld):
        stamp = drive_times(world.drive, rig, index + 1)[index]
        world = world.at(stamp * 1e-6)
    else:
        stamp = frame_times(world.scene, rig, index + 1)[index]
    scene = world.scene
    ego = scene.ego_poses(np.array([stamp * 1e-6]))[0]
    cameras: dict[str, CameraFrame] = {}
    views: list[View] = []
    for number, (name, camera) in enumerate(rig.cameras.items()):
        pixels = rig.sizes(size)[name]
        check_size(pixels)
        taken = stamp if camera is None else camera.time_us(stamp)
        pose = scene.ego_poses(np.array([taken * 1e-6]))[0]
        # A rig's own cameras do not sit behind the bonnet that the place draws.
        caster, boxes = world.caster_at(taken * 1e-6, pose if camera is None else None)
        intrinsics, mount = _mounted(scene, camera, pixels)
        shot = Shot(
            condition=condition,
            size=pixels,
            intrinsics=intrinsics,
            ego_from_camera=mount,
            world_from_ego=pose,
            time_us=taken,
            motion_blur=True,
            edge_rays=edge_rays,
            exact=exact,
            following=_next_picture(scene, rig, index, camera, mount) if flow else None,
            distortion=None if camera is None else camera.distortion,
            line_time_s=0.0 if camera is None else camera.line_time_at(pixels),
        )
        rng = np.random.default_rng([scene.seed, 7, number, taken + _AFTER_ANY_TIME])
        cameras[name] = picture(world, caster, boxes, shot, rng)
        views.append(View(caster, taken * 1e-6, shot.world_from_camera, intrinsics, pixels, shot.distortion))
    lidars = _sweeps(world, rig, condition, stamp, 1 + sweeps, annotated=not exact)
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


def _next_picture(scene: Scene, rig: Rig, index: int, camera: RigCamera | None, mount: np.ndarray) -> Next:
    """The picture of the same camera in frame `index + 1`."""
    stamp = clock_us(rig, index + 1)
    taken = stamp if camera is None else camera.time_us(stamp)
    pose = scene.ego_poses(np.array([taken * 1e-6]))[0]
    return Next(taken * 1e-6, pose @ mount)


def _sweeps(
    world: World, rig: Rig, condition: Condition, stamp_us: int, count: int, *, annotated: bool
) -> dict[str, tuple[Sweep, ...]]:
    """The last `count` sweeps of every lidar, the newest first."""
    still = Caster([world.still[0]], [world.still[1]])
    return {
        name: tuple(
            sweep_at(world.scene, still, world.movers, lidar, number, end, condition, world.tracks, annotated=annotated)
            for end in lidar.turn_ends_us(stamp_us, count)
        )
        for number, (name, lidar) in enumerate(rig.lidars.items())
    }


def _mounted(scene: Scene, camera: RigCamera | None, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`(3, 3)` intrinsics and `(4, 4)` ego_from_camera."""
    if camera is None:
        return intrinsics_of(scene.camera, size), ego_from_camera(scene.camera)
    return camera.intrinsics_at(size), np.asarray(camera.ego_from_camera, float)


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
    edge_rays: int = 1,
    optics: Optics | None = None,
    flow: bool = False,
    meshes: Sequence[OwnMesh] = (),
    choices: Choices = _ANY,
    drive_s: float | None = None,
) -> Iterator[Frame]:
    """Frames `start` to `frames - 1` of one place along the ego's way; frame k has condition `k % len(conditions)`.

    With the rig `camera` a frame holds one picture, `front`, of a camera that differs from place to place, and nothing
    else. With other rigs it holds the pictures of all cameras, each with its own time and vehicle pose and with motion
    blur, the sweeps of all lidars, and boxes. Frame k of a rig is at 1 s + k times its period.

    Args:
        seed: Of the place.
        frames: How many frames the way along the street is divided into.
        conditions: Taken in turn.
        size: (height, width) of the rig's first camera, the others in the same ratio; `None`: the rig's own, which is
            256 x 512 for `camera`.
        start: First frame to render.
        exact: Labels of the ray through the centre of each pixel. Otherwise gaps in fences and crowns belong to them,
            as annotators of real frames label them.
        rig: Name of a preset of `rigs.RIGS`, or a `Rig`.
        sweeps: Older sweeps of each lidar in addition to the newest.
        edge_rays: Additional rays in pixels at edges; 0: one ray per pixel.
        optics: What the camera does to the light; `None`: the place's own.
        flow: Also the optical flow to the picture of the next frame, for rigs with a clock.
        meshes: Of one's own, in the places of things of their kinds that never move.
        choices: Kind of place, season and density.
        drive_s: Seconds of a drive over several streets instead of one place, for rigs with a clock.

    Raises:
        InputError: If sizes, counts or times are impossible, or the rig is unknown.
        MissingExtraError: If embreex is not installed.
    """
    rig = _checked(rig, size, sweeps, conditions)
    if frames < 1:
        raise InputError(f"frames {frames} is not positive; ask for at least one")
    if not 0 <= start < frames:
        raise InputError(f"start {start} is outside 0 to {frames - 1}, the frames of the place")
    if edge_rays < 0:
        raise InputError(f"edge_rays {edge_rays} is negative; 0 gives one ray per pixel")
    if flow:
        check_flow(rig)
    if drive_s is not None:
        driven = drive_world(seed, drive_s, choices, meshes, optics)
        drive_times(driven.drive, rig, frames)
        for k in range(start, frames):
            condition = conditions[k % len(conditions)]
            yield render_rig(
                driven, k, rig, condition, size, sweeps=sweeps, edge_rays=edge_rays, exact=exact, flow=flow
            )
        return
    scene = with_meshes(describe(seed, choices), meshes)
    if optics is not None:
        scene = replace(scene, optics=optics)
    frame_times(scene, rig, frames)
    world = World(scene)
    for k in range(start, frames):
        condition = conditions[k % len(conditions)]
        if rig.name == "camera" and rig.period_s is None:
            place = stops(scene, frames)[k]
            yield render_world(world, k, *place, condition, rig.sizes(size)["front"], edge_rays=edge_rays, exact=exact)
        else:
            yield render_rig(world, k, rig, condition, size, sweeps=sweeps, edge_rays=edge_rays, exact=exact, flow=flow)


def drive_world(
    seed: int, seconds: float, choices: Choices, meshes: Sequence[OwnMesh] = (), optics: Optics | None = None
) -> DriveWorld:
    """The world of a drive, see `render_scene`."""
    drive = describe_drive(seed, seconds, choices)
    if meshes:
        drive = replace(drive, legs=tuple(with_meshes(leg, meshes) for leg in drive.legs))
    if optics is not None:
        drive = replace(drive, about=replace(drive.about, optics=optics))
    return DriveWorld(drive)


def check_flow(rig: Rig) -> None:
    """Refuses rigs whose pictures have no optical flow."""
    if rig.period_s is None:
        raise InputError(f"flow: rig {rig.name!r} has no clock, so there is no next picture; choose another rig")
    for name, camera in rig.cameras.items():
        if camera is not None and camera.line_time_s:
            raise InputError(
                f"flow: camera {name} of rig {rig.name!r} has a rolling shutter, for which flow is not computed; "
                "set its line time to 0, or omit flow"
            )


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
        raise InputError(f"sweeps {sweeps} is negative; 0 gives the newest sweep alone")
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
    choices: Choices
    drive_s: float | None

    def run(self) -> Iterator[Frame]:
        return render_scene(
            self.seed,
            self.frames,
            conditions=self.conditions,
            size=self.size,
            rig=self.rig,
            sweeps=self.sweeps,
            choices=self.choices,
            drive_s=self.drive_s,
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
    choices: Choices = _ANY,
    drive_s: float | None = None,
) -> Iterable[Frame]:
    """`count` frames of places `seed`, `seed + 1`, ..., in the same order for every number of `workers`.

    Args:
        count: Frames in all.
        seed: Of the first place.
        size: (height, width), see `render_scene`.
        conditions: The frames of a place take them in turn, and each place starts with the next one.
        frames_per_scene: Frames per place.
        workers: Processes; 0 renders in this one.
        rig: See `render_scene`.
        sweeps: See `render_scene`.
        choices: See `render_scene`.
        drive_s: See `render_scene`; every place is then a drive.

    Raises:
        InputError: If sizes, counts or times are impossible or the rig is unknown.
        MissingExtraError: If embreex is not installed.
    """
    checked = _checked(rig, size, sweeps, conditions)
    if count < 1 or frames_per_scene < 1:
        raise InputError(f"{count} frames, {frames_per_scene} per scene: both must be at least 1")
    if seed < 0 or workers < 0:
        raise InputError(f"seed {seed}, workers {workers}: neither may be negative")
    if drive_s is None:  # fails early if the frames do not fit into the first street
        frame_times(describe(seed, choices), checked, frames_per_scene)
    else:
        drive_times(describe_drive(seed, drive_s, choices), checked, frames_per_scene)
    places = -(-count // frames_per_scene)
    jobs = [
        _Job(
            seed + k,
            frames_per_scene,
            tuple(conditions[(k + i) % len(conditions)] for i in range(len(conditions))),
            size,
            rig,
            sweeps,
            choices,
            drive_s,
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
