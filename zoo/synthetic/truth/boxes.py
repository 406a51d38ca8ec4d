"""3D boxes of everything that can drive, ride or walk, and how much of each object the cameras see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from zoo.frame import Box3D, Sweep
from zoo.geometry.boxes import box_array, points_in_box, wrap_angle
from zoo.geometry.cameras import inside_image, project
from zoo.geometry.distortion import Distortion
from zoo.geometry.transforms import transform, yaw_matrix
from zoo.synthetic.models.build import MOVING
from zoo.synthetic.rendering.cast import Caster
from zoo.synthetic.scene.types import Scene, Thing
from zoo.synthetic.shapes.surfaces import Label
from zoo.synthetic.shapes.templates import VARIANTS, poses_of, template
from zoo.synthetic.shapes.vehicles import CAR_STYLES

__all__ = ["RANGE_M", "Body", "View", "bodies_of", "boxes_at", "track_table"]

RANGE_M = 80.0
"""Boxes whose centres are farther from the ego vehicle, seen from above, are left out."""
_SAMPLES = 60  # points on an object's surface, for its visibility
_RIDERS = {"cyclist": "bicycle", "motorcyclist": "motorcycle"}
_LABELS = {
    "car": Label.CAR,
    "van": Label.CAR,
    "truck": Label.TRUCK,
    "bus": Label.BUS,
    "train": Label.TRAIN,
    "motorcycle": Label.MOTORCYCLE,
    "bicycle": Label.BICYCLE,
    "person": Label.PERSON,
    "cyclist": Label.RIDER,
    "motorcyclist": Label.RIDER,
}


@dataclass(frozen=True)
class Body:
    """One object: a thing of the scene, or a rider with what they ride.

    Attributes:
        kind: As in `Box3D`.
        track: As in `Box3D`.
        thing: What places it.
        parts: Itself, and the rider.
        low, high: `(3,)` corners of the box around all its vertices, in its own axes, metres.
    """

    kind: str
    track: int
    thing: Thing
    parts: tuple[Thing, ...]
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class View:
    """What one camera sees, and when: for visibility.

    Attributes:
        caster: Everything where it is at `time_s`.
        time_s: Scene time.
        world_from_camera: `(4, 4)`.
        intrinsics: `(3, 3)`.
        size: (height, width).
        distortion: Of the lens; `None`: a pinhole.
    """

    caster: Caster
    time_s: float
    world_from_camera: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]
    distortion: Distortion | None = None


@lru_cache(maxsize=512)
def _extent(kind: str, variant: int, poses: int) -> tuple[np.ndarray, np.ndarray]:
    """Over the first `poses` poses: somebody who walks has a box of one size all the time.

    A car is as wide as its lower half: annotators leave its mirrors out.
    """
    every = np.concatenate([template(kind, variant, pose).vertices for pose in range(poses)]).astype(float)
    low, high = every.min(0), every.max(0)
    if kind == "car":
        body = every[every[:, 2] < high[2] / 2, 1]
        low[1], high[1] = body.min(), body.max()
    return low, high


@lru_cache(maxsize=2048)
def _surface_points(kind: str, variant: int, pose: int) -> np.ndarray:
    """`(60, 3)` centroids of triangles, drawn with probabilities in proportion to their areas."""
    mesh = template(kind, variant, pose)
    corners = mesh.vertices[mesh.faces].astype(float)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.default_rng([83, variant])
    return corners[rng.choice(len(corners), _SAMPLES, p=area / area.sum())].mean(1)


def _kind(thing: Thing) -> str:
    ours = thing.kind == "car" and thing.variant < VARIANTS
    is_van = ours and CAR_STYLES[thing.variant % len(CAR_STYLES)] == "van"
    return "van" if is_van else thing.kind


def bodies_of(scene: Scene) -> list[Body]:
    """All objects of the scene that get boxes. A rider is joined with what they ride, and both have its track."""
    bodies: list[Body] = []
    things = scene.things
    for index, thing in enumerate(things):
        if thing.kind not in MOVING:
            continue
        before = things[index - 1] if index else None
        if (
            thing.kind in _RIDERS
            and before is not None
            and before.kind == _RIDERS[thing.kind]
            and _together(thing, before)
        ):
            below = bodies[-1]
            low, high = _scaled(thing)
            bodies[-1] = Body(
                thing.kind,
                below.track,
                below.thing,
                (*below.parts, thing),
                np.minimum(below.low, low),
                np.maximum(below.high, high),
            )
            continue
        bodies.append(Body(_kind(thing), thing.instance + 1, thing, (thing,), *_scaled(thing)))
    return bodies


def _together(a: Thing, b: Thing) -> bool:
    return (a.s, a.t, a.yaw, a.h, a.speed, a.way) == (b.s, b.t, b.yaw, b.h, b.speed, b.way)


def _scaled(thing: Thing) -> tuple[np.ndarray, np.ndarray]:
    low, high = _extent(thing.kind, thing.variant, poses_of(thing.kind) if thing.moves else 1)
    return low * thing.scale, high * thing.scale


def track_table(bodies: Iterable[Body]) -> np.ndarray:
    """`(K,)` int32: the track of every instance number of the scene, 0 for none; the last entry is for -1."""
    pairs = [(part.instance, body.track) for body in bodies for part in body.parts]
    table = np.zeros(max((instance for instance, _ in pairs), default=-1) + 2, np.int32)
    for instance, track in pairs:
        table[instance] = track
    return table


def boxes_at(
    scene: Scene,
    bodies: Sequence[Body],
    tracks: np.ndarray,
    time_s: float,
    world_from_ego: np.ndarray,
    views: Sequence[View] = (),
    sweeps: Sequence[Sweep] = (),
) -> tuple[Box3D, ...]:
    """Boxes of all bodies near the ego vehicle at `time_s`.

    A box is tight around the vertices of its mesh, in all of its poses, but for the mirrors of cars. Its visibility is
    the share of 60 points on its surface, including the far side, in whose direction some camera sees the object
    itself: inside the picture and not behind something else.

    Args:
        scene: The place.
        bodies: Of `bodies_of`.
        tracks: Of `track_table`.
        time_s: Scene time.
        world_from_ego: `(4, 4)` at that time.
        views: The cameras, each at its own time; without any the visibility is unknown.
        sweeps: The newest sweep of every lidar, with its pose; without any the number of points is unknown.
    """
    near: list[tuple[Body, Box3D]] = []
    for body in bodies:
        around = np.array([time_s - 0.05, time_s, time_s + 0.05])
        where, yaw, there = scene.places(body.thing, around)
        center = where[1] + yaw_matrix(yaw[1]) @ ((body.low + body.high) / 2)
        if not there[1] or np.linalg.norm((center - world_from_ego[:3, 3])[:2]) > RANGE_M:
            continue
        box = Box3D(
            label=int(_LABELS[body.kind]),
            track=body.track,
            center=center,
            size=body.high - body.low,
            yaw=float(wrap_angle(yaw[1])),
            velocity=(where[2] - where[0]) / 0.1,
            moving=body.thing.moves,
            kind=body.kind,
        )
        near.append((body, box))
    seen = _visibility(scene, [body for body, _ in near], tracks, views) if views else [None] * len(near)
    world = [_world_points(sweep) for sweep in sweeps]
    out = []
    for (_, box), share in zip(near, seen):
        count = sum(int(points_in_box(box_array(box), points).sum()) for points in world) if sweeps else None
        out.append(replace(box, visibility=share, num_points=count))
    return tuple(out)


def _world_points(sweep: Sweep) -> np.ndarray:
    assert sweep.world_from_ego is not None
    assert sweep.ego_from_lidar is not None
    return transform(sweep.world_from_ego @ sweep.ego_from_lidar, sweep.points[:, :3])


def _visibility(scene: Scene, bodies: list[Body], tracks: np.ndarray, views: Sequence[View]) -> list[float]:
    if not bodies:
        return []
    seen = np.zeros((len(bodies), _SAMPLES), bool)
    for view in views:
        points = np.stack([_points_at(scene, body, view.time_s) for body in bodies]).reshape(-1, 3)
        rotation, eye = view.world_from_camera[:3, :3], view.world_from_camera[:3, 3]
        local = (points - eye) @ rotation
        pixels, depth = project(local, view.intrinsics, distortion=view.distortion)
        some = np.nonzero((depth > 0.1) & inside_image(pixels, view.size))[0]
        if not len(some):
            continue
        hits = view.caster.trace(np.broadcast_to(eye, (len(some), 3)), points[some] - eye)
        own = np.array([body.track for body in bodies])[some // _SAMPLES]
        met = hits.face >= 0
        seen.reshape(-1)[some[met]] |= tracks[view.caster.of_faces("instance", hits.face[met])] == own[met]
    return seen.mean(1).tolist()


def _points_at(scene: Scene, body: Body, time_s: float) -> np.ndarray:
    """`(60, 3)` world points on the surface; with a rider, half of them on the rider."""
    where, yaw, _ = scene.places(body.thing, np.array([time_s]))
    share = _SAMPLES // len(body.parts)
    local = np.concatenate(
        [_surface_points(part.kind, part.variant, part.pose(time_s))[:share] * part.scale for part in body.parts]
    )
    return local @ yaw_matrix(-yaw[0]) + where[0]
