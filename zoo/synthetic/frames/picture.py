"""One camera's picture of a place, with its ground truth."""

from __future__ import annotations

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
from zoo.synthetic.rendering.shade import Shaded, Stage, openness_map, shade
from zoo.synthetic.rendering.weather import falling
from zoo.synthetic.shapes.surfaces import Label
from zoo.synthetic.truth.annotate import close_crowns, close_fences
from zoo.synthetic.truth.flow import optical_flow
from zoo.synthetic.truth.instances import instance_ids

__all__ = ["MAX_SIDE", "Shot", "check_size", "picture"]

MAX_SIDE = 8192
_LEAST_CONTRAST = 0.05  # of a surface behind the air: below it cannot be seen (the definition of visibility)
_CROWN_GAP = 0.012  # of the longer side: half the width of gaps in crowns that annotators paint over


def check_size(size: tuple[int, int]) -> None:
    """Refuses a (height, width) that cannot be rendered."""
    height, width = size
    if not (8 <= height <= MAX_SIDE and 8 <= width <= MAX_SIDE):
        raise InputError(f"size {height}x{width} cannot be rendered; height and width must lie in 8 to {MAX_SIDE}")


def picture(world: World, caster: Caster, boxes: np.ndarray, shot: Shot, rng: np.random.Generator) -> CameraFrame:
    """What a camera takes of the world in `caster`, whose first mesh lies in the `(K, 8, 3)` boxes."""
    scene, size = world.scene, shot.size
    light = light_of(scene, shot.condition)
    shutter = RollingShutter(world, shot) if shot.line_time_s else Shutter(caster, boxes, shot)
    caster = shutter.caster
    stage = Stage(scene=scene, caster=caster, light=light, lamps=world.lamps, world_from_ego=shot.world_from_ego)
    eye, directions = shutter.eye, shutter.turned(pixel_rays(shot.intrinsics, size, shot.distortion))
    hits, shaded = _render(stage, shutter, directions, shot, rng)
    depth = np.where(hits.face < 0, np.inf, hits.distance).astype(np.float32).reshape(size)
    radiance = shaded.radiance.reshape(*size, 3)
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


def _render(
    stage: Stage, shutter: Shutter, directions: np.ndarray, shot: Shot, rng: np.random.Generator
) -> tuple[Hits, Shaded]:
    """One ray through the middle of every pixel, then more where neighbours differ."""
    caster, size = stage.caster, shot.size
    hits = shutter.trace(directions)
    eye = shutter.starts(hits)
    opened = openness_map(caster, eye, directions, hits, size, rng)
    pixel = float(1 / shot.intrinsics[0, 0])
    shaded = shade(stage, eye, directions, hits, opened, pixel)
    edges = _edges(shaded.label, hits, size)
    if shot.edge_rays and len(edges):
        several = np.tile(edges, shot.edge_rays)
        sides = 1 / shot.intrinsics[[0, 1], [0, 1]]  # of a pixel, at depth 1
        shift = rng.uniform(-0.5, 0.5, (len(several), 2))
        more = shutter.shifted(directions, several, (shift * sides).astype(np.float32))
        again = shutter.trace(more, several)
        extra = shade(stage, shutter.starts(again, several), more, again, opened.take(several), pixel)
        # A single ray that meets a lamp would make its pixel, and by glare its surroundings, far too bright.
        added = np.minimum(extra.radiance, np.float32(20 * stage.light.brightest)).reshape(shot.edge_rays, -1, 3)
        shaded.radiance[edges] = (shaded.radiance[edges] + added.sum(0)) / np.float32(1 + shot.edge_rays)
    return hits, shaded


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
