"""Motion blur: what moves past the camera while its shutter is open."""

from __future__ import annotations

import numpy as np

from zoo.geometry.cameras import pixel_rays
from zoo.geometry.distortion import Distortion
from zoo.synthetic.scene.types import Scene

__all__ = ["exposure_s", "image_flow", "motion_blur"]

_TAPS = 7


def exposure_s(gain: float) -> float:
    """Seconds that the shutter is open; `gain` is `Light.gain`, 1 by day.

    2 ms by day, longer in less light, at most 25 ms; beyond that the sensor's gain makes up for the rest.
    """
    return min(0.002 * gain**2, 0.025)


def image_flow(
    depth: np.ndarray,
    intrinsics: np.ndarray,
    camera_from_world_start: np.ndarray,
    world_from_camera: np.ndarray,
    camera_from_world_end: np.ndarray,
    moved: np.ndarray | None = None,
    distortion: Distortion | None = None,
) -> np.ndarray:
    """`(H, W, 2)` float32 pixels that every pixel's surface moves between two poses of the camera.

    Args:
        depth: `(H, W)` metres along the optical axis in the middle of the exposure; infinity for the sky.
        intrinsics: `(3, 3)` pixels.
        camera_from_world_start: `(4, 4)` at the beginning.
        world_from_camera: `(4, 4)` in the middle.
        camera_from_world_end: `(4, 4)` at the end.
        moved: `(H, W, 3)` metres that the surfaces themselves move in that time, world axes; `None`: they stand still.
        distortion: Of the lens; `None`: a pinhole.
    """
    height, width = depth.shape
    z = np.minimum(depth, 1e5).astype(np.float32)
    x = (np.arange(width, dtype=np.float32) - np.float32(intrinsics[0, 2])) / np.float32(intrinsics[0, 0])
    y = (np.arange(height, dtype=np.float32) - np.float32(intrinsics[1, 2])) / np.float32(intrinsics[1, 1])
    points = np.stack([x[None] * z, y[:, None] * z, z], 2)
    if distortion is not None:
        points = (pixel_rays(intrinsics, (height, width), distortion).reshape(height, width, 3) * z[..., None]).astype(
            "f4"
        )
    ends = []
    for pose, sign in ((camera_from_world_start, -0.5), (camera_from_world_end, 0.5)):
        relative = (pose @ world_from_camera).astype(np.float32)
        there = points @ relative[:3, :3].T + relative[:3, 3]
        if moved is not None:
            there += np.float32(sign) * (moved @ pose[:3, :3].T.astype(np.float32))
        ahead = np.maximum(there[..., 2:], 0.05)
        xy = there[..., :2] / ahead
        if distortion is not None:
            xy = distortion.distort(xy.reshape(-1, 2)).reshape(xy.shape).astype(np.float32)
        ends.append(xy * np.array([intrinsics[0, 0], intrinsics[1, 1]], np.float32))
    return ends[1] - ends[0]


def motion_blur(
    radiance: np.ndarray,
    depth: np.ndarray,
    instance: np.ndarray,
    scene: Scene,
    time_s: float,
    gain: float,
    ego_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    distortion: Distortion | None = None,
) -> np.ndarray:
    """`(H, W, 3)` radiance, each pixel averaged along the path of its surface in the picture.

    Args:
        radiance: `(H, W, 3)` of a sharp picture.
        depth: `(H, W)` metres along the optical axis.
        instance: `(H, W)` number of the thing, -1 for none: things move at their own speed.
        scene: Gives the motion of the vehicle and of the things.
        time_s: Scene time of the middle of the exposure.
        gain: See `exposure_s`.
        ego_from_camera: `(4, 4)`.
        intrinsics: `(3, 3)`.
        distortion: Of the lens; `None`: a pinhole.
    """
    open_s = exposure_s(gain)
    times = np.array([time_s - open_s / 2, time_s, time_s + open_s / 2])
    before, middle, after = scene.ego_poses(times) @ ego_from_camera
    moved = _moved(scene, instance, times)
    flow = image_flow(depth, intrinsics, np.linalg.inv(before), middle, np.linalg.inv(after), moved, distortion)
    length = np.sqrt(np.einsum("hwc,hwc->hw", flow, flow))
    blurred = np.nonzero(length.ravel() > 0.7)[0]
    if not len(blurred):
        return radiance
    height, width = depth.shape
    shift = flow.reshape(-1, 2)[blurred]
    longest = np.float32(0.05 * width)  # a surface that nearly touches the lens would smear across the whole picture
    shift *= np.minimum(1, longest / length.ravel()[blurred])[:, None]
    row, column = np.divmod(blurred, width)
    flat = radiance.reshape(-1, 3)
    total = np.zeros((len(blurred), 3), np.float32)
    for part in np.linspace(-0.5, 0.5, _TAPS, dtype=np.float32):
        r = np.clip(np.rint(row + part * shift[:, 1]), 0, height - 1).astype(np.int64)
        c = np.clip(np.rint(column + part * shift[:, 0]), 0, width - 1).astype(np.int64)
        total += flat.take(r * width + c, axis=0)
    out = flat.copy()
    out[blurred] = total / np.float32(_TAPS)
    return out.reshape(radiance.shape)


def _moved(scene: Scene, instance: np.ndarray, times_s: np.ndarray) -> np.ndarray | None:
    """`(H, W, 3)` metres that each pixel's thing moves from the first to the last of three times."""
    seen = np.unique(instance[instance >= 0])
    moving = {thing.instance: thing for thing in scene.things if thing.moves}
    table = np.zeros((int(seen[-1]) + 2 if len(seen) else 1, 3), np.float32)
    for number in seen.tolist():
        if number in moving:
            where, _, _ = scene.places(moving[number], times_s)
            table[number] = where[2] - where[0]
    return table[instance] if table.any() else None
