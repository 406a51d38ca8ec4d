"""Draws lidar points and boxes over the camera images of a data set, to see whether its calibration is read rightly.

    python benchmarks/frame_pictures.py --data kitti=DIR --split all --out pictures

A point has the colour of its class if it is labelled, and otherwise goes from red at 5 m to blue at 60 m.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw

from zoo.data import open_dataset, parse_source
from zoo.data.dataset import Dataset
from zoo.frame import CameraFrame, Frame
from zoo.geometry.boxes import EDGES, box_array, box_corners
from zoo.geometry.cameras import inside_image, project
from zoo.geometry.transforms import invert, transform

_NEAR_M = 0.5


@dataclass(frozen=True)
class Arguments:
    """Draws points and boxes over images."""

    data: str
    """KIND=DIR, as in `zoo evaluate`."""
    out: Path
    """Folder for the pictures, one per image."""
    split: str = "val"
    """Split of the data set."""
    limit: int = 10
    """Frames to draw, from the first."""


def main(arguments: Arguments) -> None:
    kind, root = parse_source(arguments.data)
    dataset = open_dataset(kind, root, arguments.split)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for frame in dataset.frames[: arguments.limit]:
        for name, camera in frame.cameras.items():
            if camera.intrinsics is None or camera.ego_from_camera is None:
                print(f"{frame.id} {name}: not calibrated, left out")
                continue
            path = arguments.out / f"{frame.id}_{name}.jpg"
            picture, count, boxes = draw(frame, camera, dataset)
            picture.save(path, quality=90)
            print(f"{path}: {count:,} points and {boxes} boxes in the image")


def draw(frame: Frame, camera: CameraFrame, dataset: Dataset) -> tuple[Image.Image, int, int]:
    """The picture, and how many points and boxes lie in it."""
    assert camera.ego_from_camera is not None
    assert camera.intrinsics is not None
    picture = Image.fromarray(camera.image // 2 + 20)
    size = (picture.height, picture.width)
    pen = ImageDraw.Draw(picture)
    world_from_ego = np.eye(4) if frame.world_from_ego is None else frame.world_from_ego
    camera_from_world = invert((_or(camera.world_from_ego, world_from_ego)) @ camera.ego_from_camera)
    count = 0
    for sweeps in frame.lidars.values():
        sweep = sweeps[0]
        assert sweep.ego_from_lidar is not None
        pose = camera_from_world @ _or(sweep.world_from_ego, world_from_ego) @ sweep.ego_from_lidar
        pixels, depth_m = project(transform(pose, sweep.points[:, :3]), camera.intrinsics)
        seen = np.nonzero((depth_m > _NEAR_M) & inside_image(pixels, size))[0]
        seen = seen[np.argsort(-depth_m[seen])]
        labels = sweep.labels
        colors = _by_range(depth_m[seen]) if labels is None else dataset.classes.palette()[labels[seen]]
        for (x, y), color in zip(pixels[seen], colors):
            pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=tuple(color.tolist()))
        count += len(seen)
    drawn = 0
    for box in frame.boxes or ():
        corners = transform(camera_from_world, box_corners(box_array(box)))
        if corners[:, 2].min() < _NEAR_M:
            continue
        pixels, _ = project(corners, camera.intrinsics)
        if inside_image(pixels, size).any():
            drawn += 1
            for a, b in EDGES:
                pen.line((*pixels[a], *pixels[b]), fill=(255, 255, 255), width=2)
            front = pixels[[1, 2, 6, 5]]  # the face that it heads with
            pen.line([tuple(corner) for corner in (front[0], front[2], front[1], front[3])], fill=(255, 255, 0))
    return picture, count, drawn


def _or(pose: np.ndarray | None, other: np.ndarray) -> np.ndarray:
    return other if pose is None else pose


def _by_range(depth_m: np.ndarray) -> np.ndarray:
    share = np.clip((depth_m - 5) / 55, 0, 1)
    steps = np.array([colorsys.hsv_to_rgb(0.66 * k / 255, 1, 1) for k in range(256)])
    return (255 * steps[(share * 255).astype(int)]).astype(np.uint8)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
