"""SemanticKITTI: `sequences/{NN}/velodyne/*.bin` with `labels/*.label`, `poses.txt`, `calib.txt` and `image_2/*.png`.

Sequences written by `zoo synthetic` form a group per condition, which its record names. All of SemanticKITTI is the
group `clear`.

The world frame of a sequence is the vehicle frame of its first scan, and the vehicle frame lies on the ground below the
lidar, 1.73 m down, with the lidar's axes. The data set itself gives the poses of the rectified camera 0 (x right,
y down, z forward) in that camera's first frame.

Source: Behley et al., ICCV 2019; `semantic-kitti.yaml` (ids, learning map, splits); heights and range of the setup that
KITTI publishes (Geiger et al., IJRR 2013).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from zoo.classes import SEMANTICKITTI
from zoo.condition import Condition
from zoo.data.dataset import Dataset, grouped_by_condition
from zoo.data.folders import first_folder, visible_files
from zoo.data.kitti_calibration import CHANNELS, EGO_FROM_VELODYNE, camera_of, read_numbers, rigid
from zoo.data.scans import read_bytes, read_point_instances, read_point_labels, read_points
from zoo.data.terms import rendered_conditions, rendered_lidar
from zoo.errors import InputError
from zoo.frame import CameraFrame, Frame, SensorFacts, Sweep
from zoo.geometry.transforms import invert
from zoo.label_table import LabelTable
from zoo.sensors import KITTI
from zoo.yaml_file import read_yaml

__all__ = ["LABELS", "SEQUENCES", "read"]

SEQUENCES = {
    "train": (0, 1, 2, 3, 4, 5, 6, 7, 9, 10),
    "val": (8,),
    "test": tuple(range(11, 22)),
}
"""Official numbers of the sequences of each split."""
_IDS = (10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
"""Raw id of each class. The others that count are merged into one of these:"""
_MERGED = {
    13: "other-vehicle",  # bus
    16: "other-vehicle",  # on rails
    60: "road",  # lane marking
    252: "car",  # from here on the moving ones
    253: "bicyclist",
    254: "person",
    255: "motorcyclist",
    256: "other-vehicle",  # on rails
    257: "other-vehicle",  # bus
    258: "truck",
    259: "other-vehicle",
}
LABELS = LabelTable(
    SEMANTICKITTI,
    _IDS,
    ignored=(0, 1, 52, 99),  # unlabelled, outlier, other structure, other object
    merged={id: SEMANTICKITTI.names.index(name) for id, name in _MERGED.items()},
)
"""The official learning map of the 19 classes."""
_MAX_TEXT = 16 * 1024 * 1024


def read(root: Path, split: str) -> Dataset:
    """The scans of one split, in the order of their sequences; the labels of `test` are not public.

    Args:
        root: Folder with `sequences/`, or with `dataset/sequences/`. If it has a `semantic-kitti.yaml`, the splits are
            those listed there, otherwise `SEQUENCES`.
        split: `train`, `val` or `test`.

    Raises:
        InputError: If the layout is unknown, the split is empty, a scan has no labels, or poses, times or calibration
            are invalid.
    """
    sequences = first_folder(root, ("sequences", "dataset/sequences"), "SemanticKITTI")
    numbers = _split(root / "semantic-kitti.yaml", split)
    sensor = rendered_lidar(root, "velodyne", KITTI)
    conditions = rendered_conditions(root, "semantickitti") or (Condition(),)
    frames: list[Frame] = []
    for place, number in enumerate(numbers):
        condition = conditions[place % len(conditions)]
        frames += _sequence(sequences / f"{number:02d}", place, condition, sensor, labelled=split != "test")
    if not frames:
        listed = ", ".join(f"{number:02d}" for number in numbers) or "none"
        raise InputError(f"semantickitti {split} is empty: no file {sequences}/NN/velodyne/*.bin; its NN are {listed}")
    grouped = grouped_by_condition(frames)
    groups = {frame.group for frame in grouped}
    return Dataset(
        kind="semantickitti",
        root=root,
        split=split,
        classes=SEMANTICKITTI,
        frames=grouped,
        video=True,
        source_group="clear" if "clear" in groups and len(groups) > 1 else None,
        absent_classes="zero",
        instances=True,
    )


def _split(path: Path, split: str) -> tuple[int, ...]:
    """Numbers of the sequences of a split."""
    if not path.is_file():
        return SEQUENCES[split]
    splits = read_yaml(path, "the classes and splits of SemanticKITTI").get("split")
    found = splits.get("valid" if split == "val" else split) if isinstance(splits, dict) else None
    if not isinstance(found, list) or not all(type(each) is int and 0 <= each < 1000 for each in found):
        raise InputError(f"{path}: expected split: with lists of sequence numbers for train, valid and test")
    return tuple(found)


def _sequence(folder: Path, place: int, condition: Condition, sensor: SensorFacts, labelled: bool) -> list[Frame]:
    """The frames of one sequence, the `place`-th of its split; none without its folder."""
    scans = visible_files(folder / "velodyne", "*.bin")
    labels = {path.stem: path for path in visible_files(folder / "labels", "*.label")}
    images = {path.stem: path for path in visible_files(folder / "image_2", "*.png")}
    calibration = read_numbers(folder / "calib.txt") if (folder / "calib.txt").is_file() else {}
    velo = rigid(calibration["Tr"], "Tr", folder / "calib.txt") if "Tr" in calibration else None
    poses = _poses(folder / "poses.txt", velo)
    times = _table(folder / "times.txt", 1)
    frames = []
    for scan in scans:
        index = int(scan.stem) if scan.stem.isascii() and scan.stem.isdigit() else -1
        if index < 0:
            raise InputError(f"{scan}: the name of a scan must be its number, such as 000000.bin")
        if labelled and scan.stem not in labels:
            raise InputError(f"{scan} has no labels; looked for {folder / 'labels' / scan.stem}.label")
        for table, name in ((poses, "poses.txt"), (times, "times.txt")):
            if table is not None and index >= len(table):
                raise InputError(f"{folder / name} has {len(table)} rows and none for {scan}")
        cameras = {}
        if (image := images.get(scan.stem)) is not None:
            cameras["image_2"] = _camera(image, calibration, velo, folder / "calib.txt")
        frames.append(
            _frame(
                scan,
                place,
                condition,
                labels.get(scan.stem) if labelled else None,
                cameras,
                None if poses is None else poses[index],
                None if times is None else round(float(times[index, 0]) * 1e6),
                sensor,
            )
        )
    return frames


def _frame(
    scan: Path,
    place: int,
    condition: Condition,
    labels: Path | None,
    cameras: dict[str, CameraFrame],
    world_from_ego: np.ndarray | None,
    time_us: int | None,
    sensor: SensorFacts,
) -> Frame:
    sequence = scan.parent.parent.name
    files = {"velodyne": scan}
    if labels is not None:
        files["labels"] = labels
    sweep = Sweep(
        points_source=partial(read_points, scan, CHANNELS),
        channels=CHANNELS,
        labels_source=None if labels is None else partial(read_point_labels, labels, scan, CHANNELS, LABELS),
        instances_source=None if labels is None else partial(read_point_instances, labels, scan, CHANNELS),
        timestamp_us=time_us,
        ego_from_lidar=EGO_FROM_VELODYNE,
        sensor=sensor,
    )
    return Frame(
        id=f"{sequence}_{scan.stem}",
        scene=sequence,
        condition=condition,
        cameras=cameras,
        lidars={"velodyne": (sweep,)},
        timestamp_us=time_us,
        world_from_ego=world_from_ego,
        meta={"sequence": sequence, "scan": scan.stem, "place": place, "files": files},
    )


def _camera(image: Path, calibration: dict[str, np.ndarray], velo: np.ndarray | None, path: Path) -> CameraFrame:
    if velo is None or "P2" not in calibration:
        return camera_of(image, None, None, path)
    return camera_of(image, calibration["P2"], velo, path)


def _poses(path: Path, rect_from_velo: np.ndarray | None) -> list[np.ndarray] | None:
    """`(4, 4)` world_from_ego per scan; `None` without poses or without the calibration that they need."""
    rows = _table(path, 12)
    if rows is None or rect_from_velo is None:
        return None
    before = EGO_FROM_VELODYNE @ invert(rect_from_velo)
    after = invert(before)
    return [before @ rigid(row, f"line {number}", path) @ after for number, row in enumerate(rows, 1)]


def _table(path: Path, columns: int) -> np.ndarray | None:
    """`(rows, columns)` finite numbers of a text file; `None` without the file."""
    if not path.is_file():
        return None
    text = read_bytes(path, _MAX_TEXT, "a table of numbers").decode("utf-8", "replace")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise InputError(f"{path} row {number} has {len(row)} numbers; expected {columns}")
    try:
        values = np.array(rows, float).reshape(-1, columns)
    except ValueError as error:
        raise InputError(f"{path} holds something that is not a number: {error}") from error
    if not np.isfinite(values).all():
        raise InputError(
            f"{path} row {int(np.argwhere(~np.isfinite(values))[0, 0]) + 1} holds a value that is not finite"
        )
    return values
