"""Sensors, poses, and boxes in images: what several layouts compute from a frame. Axes: `zoo/geometry/README.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame, Sweep
from zoo.geometry.boxes import EDGES, box_array, box_corners
from zoo.geometry.cameras import VEHICLE_FROM_OPTICAL, inside_image, project, rays_through
from zoo.geometry.distortion import Distortion
from zoo.geometry.transforms import invert, pose, transform

__all__ = [
    "VIEW_FROM_CAMERA",
    "box_at",
    "camera_of",
    "hidden_share",
    "image_box",
    "newest_sweep",
    "sensor_pose",
]

VIEW_FROM_CAMERA = pose(VEHICLE_FROM_OPTICAL, np.zeros(3))
"""From x right, y down, z forward to x forward, y left, z up."""

_NEAR = 0.1  # metres: anything closer to the camera's plane is not projected

Sensor = TypeVar("Sensor", CameraFrame, Sweep)


def _named(sensors: Mapping[str, Sensor], name: str, frame: Frame, layout: str) -> Sensor:
    if name not in sensors:
        known = ", ".join([*frame.cameras, *frame.lidars]) or "none"
        raise InputError(f"frame {frame.id} has no sensor {name!r} (it has {known}); {layout} needs its own rig")
    return sensors[name]


def camera_of(frame: Frame, name: str, layout: str) -> CameraFrame:
    """The camera `name`.

    Raises:
        InputError: If the frame has no such camera, or its intrinsics are unknown.
    """
    camera = _named(frame.cameras, name, frame, layout)
    if camera.intrinsics is None:
        raise InputError(f"frame {frame.id}: camera {name} has no intrinsics; {layout} needs calibrated cameras")
    return camera


def newest_sweep(frame: Frame, layout: str) -> Sweep:
    """The newest sweep of the only lidar.

    Raises:
        InputError: If the frame has no lidar or several.
    """
    if len(frame.lidars) != 1:
        known = ", ".join(frame.lidars) or "none"
        raise InputError(
            f"frame {frame.id} has {len(frame.lidars)} lidars ({known}); {layout} needs one, as in its rig"
        )
    return next(iter(frame.lidars.values()))[0]


def sensor_pose(sensor: CameraFrame | Sweep, frame: Frame) -> np.ndarray:
    """`(4, 4)` world_from_camera or world_from_lidar at the sensor's own time.

    Raises:
        InputError: If the sensor is not calibrated or the vehicle's pose is unknown.
    """
    mount = sensor.ego_from_camera if isinstance(sensor, CameraFrame) else sensor.ego_from_lidar
    world_from_ego = frame.world_from_ego if sensor.world_from_ego is None else sensor.world_from_ego
    if mount is None or world_from_ego is None:
        raise InputError(f"frame {frame.id} has a sensor without calibration or pose; layouts with 3D data need both")
    return world_from_ego @ mount


def box_at(box: Box3D, seconds: float) -> Box3D:
    """The box `seconds` later; unchanged if its velocity is unknown."""
    return box if box.velocity is None else replace(box, center=box.center + box.velocity * seconds)


def hidden_share(box: Box3D, camera: CameraFrame, world_from_camera: np.ndarray) -> float:
    """Of the part of an object that lies in an image, the share that something else hides; 1: nothing of it is visible.

    `Box3D.visibility`, a share of the whole object, is divided by the share of the box that lies in the image. If that
    is small, or no sample of the object was visible, it is estimated from the pixels whose points lie in the box, if
    the depth is known.
    """
    if box.visibility is None:
        return 0.0
    assert camera.intrinsics is not None
    size = camera.image.shape[:2]
    steps = (np.arange(8) + 0.5) / 8
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    corners = transform(invert(world_from_camera), box_corners(box_array(box)))
    rear_left, front_left, rear_right, top = corners[0], corners[1], corners[3], corners[4]
    axes = np.stack([front_left - rear_left, rear_right - rear_left, top - rear_left])
    pixels, depths = project(rear_left + lattice @ axes, camera.intrinsics, distortion=camera.distortion)
    share = float(((depths > _NEAR) & inside_image(pixels, (size[0], size[1]))).mean())
    on_image = image_box(corners, camera.intrinsics, (size[0], size[1]), camera.distortion)
    depth = camera.depth_m
    if depth is None or on_image is None or (share >= 0.15 and box.visibility > 0):
        return float(np.clip(1 - box.visibility / max(share, 1e-6), 0, 1))
    left, top_row, right, bottom = (round(value) for value in on_image[0])
    v, u = (values.ravel() for values in np.mgrid[top_row : bottom + 1, left : right + 1])
    finite = np.isfinite(depth[v, u])
    if camera.distortion is None:
        rays = np.stack([u, v, np.ones_like(u)], 1)[finite] @ np.linalg.inv(camera.intrinsics).T
    else:
        rays = rays_through(np.stack([u, v], 1)[finite], camera.intrinsics, camera.distortion)
    local = (rays * depth[v, u][finite][:, None] - rear_left) @ np.linalg.inv(axes)
    margin = 0.05 / box.size
    shown = float(((local > -margin) & (local < 1 + margin)).all(1).sum() / len(u))
    return 0.0 if shown >= 0.25 else 0.5 if shown >= 0.05 else 0.95 if shown > 0 else 1.0


def image_box(
    corners: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], distortion: Distortion | None = None
) -> tuple[tuple[float, float, float, float], float] | None:
    """The rectangle around a solid in an image.

    Args:
        corners: `(8, 3)` metres in the camera's frame, in the order of `box_corners`.
        intrinsics: `(3, 3)` pixels.
        size: (height, width) in pixels.
        distortion: Of the lens; it bends the solid's edges. `None`: a pinhole.

    Returns:
        (left, top, right, bottom) in pixels, clipped to the centres of the outermost pixels, and the share of the
        whole rectangle that was cut off; `None` if none of the rectangle is in the image. Parts of the solid that are
        less than 0.1 m ahead of the camera are left out.
    """
    if distortion is not None:
        return _bent_box(corners, intrinsics, size, distortion)
    seen = [corners[corners[:, 2] >= _NEAR]]
    a, b = corners[EDGES[:, 0]], corners[EDGES[:, 1]]
    crossing = (a[:, 2] < _NEAR) != (b[:, 2] < _NEAR)
    if crossing.any():
        a, b = a[crossing], b[crossing]
        seen.append(a + (b - a) * ((_NEAR - a[:, 2]) / (b[:, 2] - a[:, 2]))[:, None])
    solid = np.concatenate(seen)
    if not len(solid):
        return None
    pixels = solid @ intrinsics.T
    return _clipped(pixels[:, :2] / pixels[:, 2:], size)


def _bent_box(
    corners: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], distortion: Distortion
) -> tuple[tuple[float, float, float, float], float] | None:
    """`image_box` from points along the edges."""
    a, b = corners[EDGES[:, 0]], corners[EDGES[:, 1]]
    edges = (a[:, None] + (b - a)[:, None] * np.linspace(0, 1, 33)[:, None]).reshape(-1, 3)
    ahead = edges[edges[:, 2] >= _NEAR]
    return _clipped(project(ahead, intrinsics, distortion=distortion)[0], size) if len(ahead) else None


def _clipped(pixels: np.ndarray, size: tuple[int, int]) -> tuple[tuple[float, float, float, float], float] | None:
    """The rectangle around `(N, 2)` pixels as `image_box` returns it."""
    low, high = pixels.min(0), pixels.max(0)
    border = np.array([size[1] - 1.0, size[0] - 1.0])
    cut_low, cut_high = np.clip(low, 0, border), np.clip(high, 0, border)
    if (cut_high <= cut_low).any():
        return None
    left, top, right, bottom = (float(value) for value in (*cut_low, *cut_high))
    return (left, top, right, bottom), float(1 - np.prod(cut_high - cut_low) / np.prod(high - low))
