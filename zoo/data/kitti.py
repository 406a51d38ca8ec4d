"""KITTI's object set: `{training,testing}/{velodyne,image_2,image_3,calib,label_2}/{ID}.*` and `ImageSets/*.txt`.

Every frame stands alone: its world frame is its vehicle frame, on the ground below the lidar. Labels describe boxes
that are upright in the rectified camera 0, which is tilted by about a degree; here they keep their centre, size and
heading and are upright in the world. `DontCare` regions are rectangles in the image without a box and are left out.

Source: Geiger, Lenz and Urtasun, CVPR 2012; the readme of the object development kit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from zoo.classes import ClassTable
from zoo.data.dataset import Dataset
from zoo.data.folders import first_folder, visible_files
from zoo.data.kitti_calibration import CHANNELS, EGO_FROM_VELODYNE, camera_of, read_numbers, rigid
from zoo.data.lazy import LazyMapping, LazySequence
from zoo.data.scans import read_bytes, read_points
from zoo.data.terms import rendered_lidar
from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame, SensorFacts, Sweep
from zoo.geometry.transforms import invert, transform
from zoo.sensors import KITTI

__all__ = ["CLASSES", "read"]

CLASSES = ClassTable(
    "kitti",
    ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc"),
    ((0, 0, 142), (0, 60, 100), (0, 0, 70), (220, 20, 60), (255, 0, 0), (119, 11, 32), (0, 80, 100), (128, 128, 128)),
)
"""Types of the labelled objects."""
_DONT_CARE = "DontCare"
_COLUMNS = 15
_MAX_TEXT = 1024 * 1024
_CAVEAT = (
    "The frames of KITTI's object set come from a few drives. Which of them share one is not known, so all count as "
    "independent and intervals are too narrow."
)
_SCANS = ("velodyne", "velodyne_reduced")  # second: cropped to the camera's view, as toolboxes do
_CROPPED = replace(KITTI, coverage_deg=81.0, points=17_000)  # 1242 pixels at a focal length of 721


def read(root: Path, split: str) -> Dataset:
    """The frames of one split, in the order of its list.

    Args:
        root: Folder with `training/`, or `testing/`, or with `object/` around them.
        split: `train` or `val`: the frames in `ImageSets/train.txt` and `ImageSets/val.txt`, or without that folder all
            of `training`. `all`: all of `training`. `test`: all of `testing`, without labels.

    Raises:
        InputError: If the layout is unknown, the split is empty, or a frame lacks its scan, calibration or labels.
    """
    part = "testing" if split == "test" else "training"
    folder = first_folder(root, (part, f"object/{part}"), "KITTI's object set")
    sensor = rendered_lidar(root, "velodyne", KITTI)
    frames = [_frame(folder, id, split != "test", sensor) for id in _ids(folder, split)]
    if not frames:
        raise InputError(f"kitti {split} is empty: no file {folder}/velodyne/*.bin")
    lists = (folder.parent / "ImageSets").is_dir()
    whole = () if lists or split in ("test", "all") else ("Without ImageSets/, every split is all of training/.",)
    return Dataset(
        kind="kitti", root=root, split=split, classes=CLASSES, frames=tuple(frames), caveats=(_CAVEAT, *whole)
    )


def _ids(folder: Path, split: str) -> list[str]:
    lists = folder.parent / "ImageSets"
    if split in ("test", "all") or not lists.is_dir():
        return sorted({path.stem for name in _SCANS for path in visible_files(folder / name, "*.bin")})
    path = lists / f"{split}.txt"
    ids = read_bytes(path, _MAX_TEXT, f"the frames of {split}").decode("utf-8", "replace").split()
    for id in ids:
        if not (id.isascii() and id.isdigit()):
            raise InputError(f"{path} lists {id[:40]!r}; expected numbers such as 000007")
    return ids


def _frame(folder: Path, id: str, labelled: bool, sensor: SensorFacts) -> Frame:
    scan = next((path for name in _SCANS if (path := folder / name / f"{id}.bin").is_file()), None)
    if scan is None:
        raise InputError(f"kitti frame {id} has no scan; looked for {folder}/velodyne/{id}.bin")
    calibration = folder / "calib" / f"{id}.txt"
    if not calibration.is_file():
        raise InputError(f"kitti frame {id} has no calibration; looked for {calibration}")
    files = {"velodyne": scan, "calib": calibration}
    cameras = {}
    for name, row in (("image_2", "P2"), ("image_3", "P3")):
        image = folder / name / f"{id}.png"
        if image.is_file():
            files[name] = image
            cameras[name] = partial(_camera, image, calibration, row)
    boxes = None
    if labelled:
        files["label_2"] = folder / "label_2" / f"{id}.txt"
        if not files["label_2"].is_file():
            raise InputError(f"kitti frame {id} has no labels; looked for {files['label_2']}")
        boxes = LazySequence(partial(_boxes, files["label_2"], calibration))
    sweep = Sweep(
        points_source=partial(read_points, scan, CHANNELS),
        channels=CHANNELS,
        ego_from_lidar=EGO_FROM_VELODYNE,
        sensor=sensor if scan.parent.name == _SCANS[0] else _CROPPED,
    )
    return Frame(
        id=id,
        scene=id,
        cameras=LazyMapping(cameras),
        lidars={"velodyne": (sweep,)},
        boxes=boxes,
        world_from_ego=np.eye(4),
        meta={"place": None, "files": files},
    )


def _rect_from_velo(calibration: Path) -> np.ndarray:
    """`(4, 4)` rectified camera 0 from the lidar."""
    rows = read_numbers(calibration)
    for name in ("R0_rect", "Tr_velo_to_cam", "P2", "P3"):
        if name not in rows:
            raise InputError(f"{calibration} has no row {name}; expected the calibration of KITTI's object set")
    rotation = np.hstack([rows["R0_rect"].reshape(3, 3), np.zeros((3, 1))])
    return rigid(rotation.ravel(), "R0_rect", calibration) @ rigid(
        rows["Tr_velo_to_cam"], "Tr_velo_to_cam", calibration
    )


def _camera(image: Path, calibration: Path, row: str) -> CameraFrame:
    return camera_of(image, read_numbers(calibration)[row], _rect_from_velo(calibration), calibration)


def _boxes(path: Path, calibration: Path) -> list[Box3D]:
    """The objects of a label file.

    Raises:
        InputError: If a file is damaged, or a type is unknown.
    """
    ego_from_rect = EGO_FROM_VELODYNE @ invert(_rect_from_velo(calibration))
    text = read_bytes(path, _MAX_TEXT, "the labels of a frame").decode("utf-8", "replace")
    found: list[Box3D] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and words[0] != _DONT_CARE:
            found.append(_box(words, ego_from_rect, len(found) + 1, f"{path} line {number}"))
    return found


def _box(words: Sequence[str], ego_from_rect: np.ndarray, track: int, what: str) -> Box3D:
    """The box of one line: type, truncated, occluded, alpha, 4 of the image, h w l, x y z of the bottom, rotation_y."""
    if words[0] not in CLASSES.names:
        raise InputError(f"{what}: unknown type {words[0][:40]!r}; known: {', '.join(CLASSES.names)}, {_DONT_CARE}")
    if len(words) != _COLUMNS:
        raise InputError(f"{what} has {len(words)} values; expected {_COLUMNS}")
    try:
        values = [float(word) for word in words[1:]]
    except ValueError as error:
        raise InputError(f"{what} holds something that is not a number: {error}") from error
    height, width, length, x, y, z, turn = values[7:]
    if not all(map(math.isfinite, values)) or min(height, width, length) <= 0:
        raise InputError(f"{what}: sizes must be positive and all values finite")
    heading = ego_from_rect[:3, :3] @ [math.cos(turn), 0.0, -math.sin(turn)]  # rotation_y 0 is the camera's x
    return Box3D(
        label=CLASSES.names.index(words[0]),
        track=track,
        center=transform(ego_from_rect, np.array([x, y - height / 2, z])),
        size=np.array([length, width, height]),
        yaw=math.atan2(heading[1], heading[0]),
        kind=words[0],
    )
