"""One camera's picture of a place, with its ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.errors import InputError
from zoo.frame import CameraFrame
from zoo.geometry.cameras import pixel_rays
from zoo.synthetic.frames.shutter import RollingShutter, Shot, Shutter, covered
from zoo.synthetic.frames.world import World
from zoo.synthetic.rendering.camera import take_picture
from zoo.synthetic.rendering.cast import Caster, Hits
from zoo.synthetic.rendering.exposure import motion_blur
from zoo.synthetic.rendering.light import Light, light_of
from zoo.synthetic.rendering.shade import EMITTERS, Shaded, Stage, openness_map, shade
from zoo.synthetic.rendering.weather import falling, halos, on_the_lens, spray
from zoo.synthetic.shapes.surfaces import Label
from zoo.synthetic.truth.annotate import close_crowns, close_fences
from zoo.synthetic.truth.flow import optical_flow
from zoo.synthetic.truth.instances import instance_ids

__all__ = ["MAX_SIDE", "Shot", "check_size", "picture"]

MAX_SIDE = 8192
_LEAST_CONTRAST = 0.05  # of a surface behind the air: below it cannot be seen (the definition of visibility)
_CROWN_GAP = 0.012  # of the longer side: half the width of gaps in crowns that annotators paint over
_SAME_DEPTH = 0.03  # difference of log distances up to which two rays see the same surface


def check_size(size: tuple[int, int]) -> None:
    """Refuses a (height, width) that cannot be rendered."""
    height, width = size
    if not (8 <= height <= MAX_SIDE and 8 <= width <= MAX_SIDE):
        raise InputError(f"size {height}x{width} cannot be rendered; height and width must lie in 8 to {MAX_SIDE}")


def picture(world: World, caster: Caster, boxes: np.ndarray, shot: Shot, rng: np.random.Generator) -> CameraFrame:
    """What a camera takes of the world in `caster`, whose first mesh lies in the `(K, 8, 3)` boxes."""
    scene, size = world.scene, shot.size
    light = light_of(scene, shot.condition)
    view = _view(world, caster, boxes, shot)
    caster, eye, directions, hits = view.shutter.caster, view.shutter.eye, view.directions, view.hits
    stage = Stage(
        scene=scene,
        caster=caster,
        light=light,
        lamps=world.lamps,
        world_from_ego=shot.world_from_ego,
        time_s=shot.time_us * 1e-6,
    )
    shaded = _render(stage, view, shot, rng)
    depth = np.where(hits.face < 0, np.inf, hits.distance).astype(np.float32).reshape(size)
    radiance = shaded.radiance.reshape(*size, 3)
    radiance = spray(radiance, depth, directions, shot.world_from_camera, scene, light, shot.time_us * 1e-6)
    sources = EMITTERS.take(shaded.material).reshape(size)
    radiance = halos(radiance, sources, depth, light, shot.intrinsics[0, 0])
    if shot.motion_blur:
        instance = shaded.instance.reshape(size)
        seconds = shot.time_us * 1e-6
        radiance = motion_blur(
            radiance,
            depth,
            instance,
            scene,
            seconds,
            light.gain,
            shot.ego_from_camera,
            shot.intrinsics,
            shot.distortion,
        )
    radiance = falling(radiance, depth, light, shot.intrinsics[0, 0], rng)
    radiance = on_the_lens(radiance, light, np.random.default_rng([scene.seed, 57]))  # drops stay where they are
    image, dark = take_picture(radiance, scene.optics, light, rng)
    labels = shaded.label.reshape(size)
    if not shot.exact:
        labels = _annotated(world, labels, depth, hits, eye, directions, shot)
    flow = None
    if shot.following is not None:
        pose = shot.world_from_camera
        flow = optical_flow(scene, caster, hits, size, shot.intrinsics, pose, shot.following, shot.distortion)
    return CameraFrame(
        image_source=image,
        labels_source=labels,
        instances_source=instance_ids(labels, world.tracks[shaded.instance].reshape(size)),
        depth_source=depth,
        invalid_source=_invalid(depth, dark, directions, light, shot),
        timestamp_us=shot.time_us,
        intrinsics=shot.intrinsics,
        ego_from_camera=shot.ego_from_camera,
        world_from_ego=shot.world_from_ego,
        flow_source=flow,
        distortion=shot.distortion,
        line_time_s=shot.line_time_s,
    )


@dataclass(frozen=True, kw_only=True)
class _View:
    """What the rays through the middles of a camera's pixels meet; light and weather play no part in it.

    Attributes:
        shutter: When and from where each pixel is taken.
        directions: `(H * W, 3)` of the rays, world axes.
        hits: Where they end.
        starts: `(3,)` or `(H * W, 3)` where rays start in the caster of the shutter, see `Shutter.starts`.
        opened: `(H * W,)` open part of the sky, see `openness_map`.
    """

    shutter: Shutter
    directions: np.ndarray
    hits: Hits
    starts: np.ndarray
    opened: np.ndarray


def _view(world: World, caster: Caster, boxes: np.ndarray, shot: Shot) -> _View:
    """The view of `shot`; the last one is kept, since the same moment is often taken under several conditions."""
    key = (
        shot.time_us,
        shot.size,
        shot.intrinsics.tobytes(),
        shot.world_from_camera.tobytes(),
        shot.distortion,
        shot.line_time_s,
    )
    if world.last_view is not None and world.last_view[0] is caster and world.last_view[1] == key:
        return world.last_view[2]
    shutter = RollingShutter(world, shot) if shot.line_time_s else Shutter(caster, boxes, shot)
    directions = shutter.turned(pixel_rays(shot.intrinsics, shot.size, shot.distortion))
    hits = shutter.trace(directions)
    starts = shutter.starts(hits)
    rng = np.random.default_rng([world.scene.seed, 11, shot.time_us + 10**12])  # the time may be negative
    opened = openness_map(shutter.caster, starts, directions, hits, shot.size, rng)
    view = _View(shutter=shutter, directions=directions, hits=hits, starts=starts, opened=opened)
    world.last_view = (caster, key, view)
    return view


def _render(stage: Stage, view: _View, shot: Shot, rng: np.random.Generator) -> Shaded:
    """Radiance and labels of the rays through the middle of every pixel; more rays where neighbours differ."""
    shutter, size, directions, hits = view.shutter, shot.size, view.directions, view.hits
    pixel = float(1 / shot.intrinsics[0, 0])
    shaded = shade(stage, view.starts, directions, hits, view.opened, pixel)
    edges = _edges(shaded.label, hits, size)
    if shot.edge_rays and len(edges):
        several = np.tile(edges, shot.edge_rays)
        jitter = rng.random((len(several), 2), np.float32) - np.float32(0.5)  # pixels
        sides = (1 / shot.intrinsics[[0, 1], [0, 1]]).astype(np.float32)  # of a pixel, at depth 1
        more = shutter.shifted(directions, several, jitter * sides)
        seen = shutter.trace(more, several, surface=False)
        extra, new = _seen_nearby(stage.caster, shaded, hits, seen, several, jitter, size)
        if len(new):
            more, several = more.take(new, axis=0), several.take(new)
            again = shutter.trace(more, several)
            starts = shutter.starts(again, several)
            own = shade(stage, starts, more, again, view.opened.take(several), pixel, shaded.bounced)
            # A single ray that meets a lamp would make its pixel, and by glare its surroundings, far too bright.
            extra[new] = np.minimum(own.radiance, np.float32(20 * stage.light.brightest))
        added = extra.reshape(shot.edge_rays, -1, 3)
        shaded.radiance[edges] = (shaded.radiance[edges] + added.sum(0)) / np.float32(1 + shot.edge_rays)
    return shaded


def _seen_nearby(
    caster: Caster,
    shaded: Shaded,
    hits: Hits,
    again: Hits,
    pixel: np.ndarray,
    jitter: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Radiance of further rays through pixels, as far as the rays through the middles of pixels have seen the same.

    A ray at the side of a pixel mostly meets what the neighbour on that side shows: the same material at the same
    distance. Then its radiance is taken, and neither patterns nor shadows need to be worked out again.

    Args:
        caster: What the rays meet.
        shaded: What the rays through the middles show.
        hits: Of the rays through the middles.
        again: Hits of the further rays, `(M,)`.
        pixel: `(M,)` pixels that they belong to.
        jitter: `(M, 2)` where they pass, in pixels right of and below the middle.
        size: (height, width).

    Returns:
        `(M, 3)` radiance, and the indices of those that nobody has seen, whose radiance is undefined.
    """
    row, column = np.divmod(pixel, size[1])
    side = np.clip(column + np.where(jitter[:, 0] > 0, 1, -1), 0, size[1] - 1)
    beyond = np.clip(row + np.where(jitter[:, 1] > 0, 1, -1), 0, size[0] - 1)
    depth = np.log(again.distance)
    seen = np.full(len(pixel), 255, np.uint8)
    solid = np.nonzero(again.face >= 0)[0]
    seen[solid] = caster.of_faces("material", again.face.take(solid))
    least, best = np.full(len(pixel), np.float32(_SAME_DEPTH)), np.full(len(pixel), -1)
    for candidate in (pixel, row * size[1] + side, beyond * size[1] + column, beyond * size[1] + side):
        off = np.abs(np.log(hits.distance.take(candidate)) - depth)
        off[shaded.material.take(candidate) != seen] = 1
        nearer = np.nonzero(off < least)[0]
        least[nearer], best[nearer] = off.take(nearer), candidate.take(nearer)
    return shaded.radiance.take(best, axis=0), np.nonzero(best < 0)[0]


def _annotated(
    world: World,
    labels: np.ndarray,
    depth: np.ndarray,
    hits: Hits,
    eye: np.ndarray,
    directions: np.ndarray,
    shot: Shot,
) -> np.ndarray:
    """`(H, W)` labels with closed fences and crowns."""
    tried = np.nonzero(covered(world.sheet_boxes, shot).ravel())[0]
    if world.sheets is not None and len(tried):
        labels = close_fences(labels.ravel(), hits.distance, world.sheets, eye, directions, tried).reshape(shot.size)
    return close_crowns(labels, depth, max(1, round(_CROWN_GAP * max(shot.size))))


def _invalid(depth: np.ndarray, dark: np.ndarray, directions: np.ndarray, light: Light, shot: Shot) -> np.ndarray:
    """`(H, W)` bool: hidden by the air, or too dark for the sensor. On a clear day nothing is."""
    if shot.condition.name == "clear":
        return np.zeros(shot.size, bool)
    range_m = depth * np.linalg.norm(directions, axis=1).reshape(shot.size)
    return (np.isfinite(depth) & (light.extinction * range_m > -np.log(_LEAST_CONTRAST))) | dark


def _edges(label: np.ndarray, hits: Hits, size: tuple[int, int]) -> np.ndarray:
    """Flat indices of the pixels that differ from a neighbour in label, distance or direction of the surface.

    Leaves of the same crown do not count as different because they point elsewhere: they all do.
    """
    label, depth = label.reshape(size), np.log(hits.distance).reshape(size)
    bends = (label != Label.SKY) & (label != Label.VEGETATION)
    x, y, z = (np.ascontiguousarray(hits.normal[:, k]).reshape(size) for k in range(3))
    edge = np.zeros(size, bool)
    for a, b in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        slanted = (x[a] * x[b] + y[a] * y[b] + z[a] * z[b] < 0.8) & bends[a]
        differs = (label[a] != label[b]) | (np.abs(depth[a] - depth[b]) > 0.25) | slanted
        edge[a] |= differs
        edge[b] |= differs
    return np.nonzero(edge.ravel())[0]
