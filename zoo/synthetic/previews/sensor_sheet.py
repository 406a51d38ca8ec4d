"""What the sensors of a rig see, to look at: cameras with boxes, lidar points in a camera, bird's-eye views.

First all cameras of a rig in clear daylight with the boxes in them; then two large views of the same moment from above,
the points of all lidars in the colours of their classes and by intensity; then three tiles per condition: the first
camera, the points in it (red is near, blue is far), and the view from above. There the vehicle looks to the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from zoo.classes import CITYSCAPES
from zoo.condition import CONDITIONS, DEFAULT_SEVERITY, Condition
from zoo.frame import Box3D, CameraFrame, Frame, Sweep
from zoo.geometry.boxes import box_array, box_corners
from zoo.geometry.cameras import project
from zoo.geometry.transforms import transform
from zoo.synthetic.frames.render import render_rig
from zoo.synthetic.frames.world import World
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.sensors.rigs import Rig, rig_of

__all__ = ["birds_eye", "cameras_with_boxes", "project_world", "sensor_sheet", "with_points"]

_NEAR_M = 0.1  # lines end at this distance before a camera
_FAR_M = 60.0  # blue
_BOX_COLOR = (255, 220, 0)
_EDGES = ((3, 7), (7, 4), (4, 0), (0, 3), (2, 6), (6, 5), (5, 1), (1, 2), (3, 2), (7, 6), (0, 1), (4, 5))
"""Those of `zoo.geometry.boxes`, each drawn the way it always was: Pillow's lines differ by a pixel with direction."""


def sensor_sheet(
    seed: int,
    rig: str | Rig = "nuscenes",
    size: tuple[int, int] = (128, 256),
    severity: int = DEFAULT_SEVERITY,
    conditions: Sequence[str] = CONDITIONS,
) -> np.ndarray:
    """`(6 * H, 6 * W, 3)` uint8 for six conditions and up to six cameras, as described at the top of this module.

    Args:
        seed: Of the place.
        rig: With at least one camera and one lidar.
        size: (height, width) of one tile.
        severity: Of the adverse conditions.
        conditions: Shown two in a row.

    Raises:
        InputError: If the rig is unknown or the size impossible.
        MissingExtraError: If embreex is not installed.
    """
    rig = rig_of(rig)
    world = World(describe(seed))
    clear = render_rig(world, 0, rig, Condition(), size)
    large = (2 * size[0], 3 * size[1])
    rows = [
        _in_a_row([_tile(image, size) for image in cameras_with_boxes(clear)]),
        _in_a_row([birds_eye(clear, large, by) for by in ("class", "intensity")]),
    ]
    first = next(iter(rig.cameras))
    front = replace(rig, cameras={first: rig.cameras[first]})
    blocks = []
    for name in conditions:
        frame = render_rig(world, 0, front, Condition.parse(name, severity), size)
        camera = frame.cameras[first]
        blocks.append(_in_a_row([camera.image, with_points(frame, camera), birds_eye(frame, size)]))
    rows += [_in_a_row(blocks[k : k + 2]) for k in range(0, len(blocks), 2)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def _in_a_row(tiles: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(tiles, 1)


def _tile(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` on black of `size`: cameras of one rig may differ in height."""
    out = np.zeros((*size, 3), np.uint8)
    part = image[: size[0], : size[1]]
    out[: part.shape[0], : part.shape[1]] = part
    return out


def project_world(points: np.ndarray, camera: CameraFrame, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `(N, 2)` and depths `(N,)` in metres of `(N, 3)` world points; pixels mean nothing behind the camera."""
    world_from_ego = frame.world_from_ego if camera.world_from_ego is None else camera.world_from_ego
    assert world_from_ego is not None
    assert camera.ego_from_camera is not None
    assert camera.intrinsics is not None
    world_from_camera = world_from_ego @ camera.ego_from_camera
    local = (points - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    return project(local, camera.intrinsics, _NEAR_M, camera.distortion)


def cameras_with_boxes(frame: Frame) -> list[np.ndarray]:
    """`(H, W, 3)` pictures of all cameras with the edges of the boxes that hold a point or are seen."""
    out = []
    for camera in frame.cameras.values():
        image = Image.fromarray(camera.image)
        draw = ImageDraw.Draw(image)
        for box in frame.boxes or ():
            if box.num_points or box.visibility:
                for line in _lines(box, camera, frame):
                    draw.line(line, fill=_BOX_COLOR)
        out.append(np.asarray(image))
    return out


def _lines(box: Box3D, camera: CameraFrame, frame: Frame) -> Iterator[list[tuple[float, float]]]:
    """The box's edges in pixels, cut off where they come too near to the camera's plane."""
    corners = box_corners(box_array(box))
    _, depth = project_world(corners, camera, frame)
    for a, b in _EDGES:
        ends = corners[[a, b]]
        if max(depth[a], depth[b]) <= _NEAR_M:
            continue
        for k, (here, there) in enumerate(((a, b), (b, a))):
            if depth[here] < _NEAR_M:
                share = (_NEAR_M - depth[here]) / (depth[there] - depth[here])
                ends[k] = corners[here] + share * (corners[there] - corners[here])
        pixels, _ = project_world(ends, camera, frame)
        if np.abs(pixels).max() < 1e5:
            yield [(float(x), float(y)) for x, y in pixels]


def _world_points(sweep: Sweep, frame: Frame) -> np.ndarray:
    world_from_ego = frame.world_from_ego if sweep.world_from_ego is None else sweep.world_from_ego
    assert world_from_ego is not None
    assert sweep.ego_from_lidar is not None
    return transform(world_from_ego @ sweep.ego_from_lidar, sweep.points[:, :3])


def with_points(frame: Frame, camera: CameraFrame) -> np.ndarray:
    """`(H, W, 3)` uint8: the darkened picture with the newest points of all lidars."""
    image = camera.image // 2
    height, width = image.shape[:2]
    for turns in frame.lidars.values():
        pixels, depth = project_world(_world_points(turns[0], frame), camera, frame)
        x, y = np.round(pixels).T
        seen = (depth > _NEAR_M) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
        order = np.argsort(-depth[seen])  # the nearest is drawn last
        colors = matplotlib.colormaps["turbo_r"](np.clip(depth[seen][order] / _FAR_M, 0, 1))[:, :3]
        image[y[seen][order].astype(int), x[seen][order].astype(int)] = np.round(255 * colors)
    return image


def birds_eye(
    frame: Frame, size: tuple[int, int] = (256, 512), by: str = "class", metres_per_pixel: float | None = None
) -> np.ndarray:
    """`(H, W, 3)` uint8 from above: the newest points of all lidars, the boxes with their fronts, the vehicle.

    Args:
        frame: With lidars and boxes.
        size: (height, width).
        by: `class` or `intensity`: what colours the points.
        metres_per_pixel: By default 100 m fit into the width.
    """
    scale = metres_per_pixel or 100 / size[1]
    assert frame.world_from_ego is not None
    ego_from_world = np.linalg.inv(frame.world_from_ego)

    def pixels(world: np.ndarray) -> np.ndarray:
        local = world @ ego_from_world[:3, :3].T + ego_from_world[:3, 3]
        return np.stack([local[:, 0], -local[:, 1]], 1) / scale + [size[1] / 2, size[0] / 2]

    image = np.zeros((*size, 3), np.uint8)
    for turns in frame.lidars.values():
        world = _world_points(turns[0], frame)
        order = np.argsort(world[:, 2])  # the highest is drawn last
        x, y = np.floor(pixels(world[order])).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
        if by == "class":
            labels = turns[0].labels
            assert labels is not None
            colors = CITYSCAPES.palette()[labels[order]]
            colors[labels[order] == CITYSCAPES.ignore_index] = (160, 160, 160)
            colors = np.maximum(colors, 60)  # dark blue cars show up on black
        else:
            shine = turns[0].points[order, turns[0].channels.index("intensity")]
            colors = np.round(255 * matplotlib.colormaps["viridis"](np.clip(shine * 1.5, 0, 1))[:, :3])
        image[y[inside], x[inside]] = colors[inside]
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for box in frame.boxes or ():
        corners = pixels(box_corners(box_array(box))[[3, 0, 1, 2]])  # rear right, rear left, front left, front right
        outline = _BOX_COLOR if box.num_points else (120, 110, 40)
        draw.polygon([(float(x), float(y)) for x, y in corners], outline=outline)
        middle, front = corners.mean(0), corners[2:].mean(0)
        draw.line([(float(x), float(y)) for x, y in (middle, front)], fill=outline)
    u, v = size[1] / 2, size[0] / 2
    draw.polygon(
        [(u - 1 / scale, v - 1 / scale), (u + 3.5 / scale, v), (u - 1 / scale, v + 1 / scale)], fill=(255, 255, 255)
    )
    return np.asarray(picture)
