"""nuScenes v1.0: keyframes with the lidar sweeps before them, six cameras, boxes and lidarseg labels.

Everything is found through the tables in `v1.0-{trainval|mini|test}/`. A frame is one keyframe. World coordinates are
those of the data set's global frame, and points stay in the axes of the file (x right, y forward, z up).

Source: docs/schema_nuscenes.md of the nuScenes devkit (https://github.com/nutonomy/nuscenes-devkit) for the tables; its
`splits.py` for the names of the scenes, `box_velocity` for velocities, and the lidarseg evaluation for the 16 classes.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.classes import NUSCENES
from zoo.condition import TIMES_OF_DAY, WEATHERS, Condition
from zoo.data.dataset import Dataset
from zoo.data.lazy import LazyMapping, LazySequence
from zoo.data.nuscenes_tables import TokenColumn, numbers_of, read_rows, rows_of_tokens
from zoo.data.scans import MAX_POINTS, check_count, read_bytes, read_points
from zoo.data.terms import rendered_lidar
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import Box3D, CameraFrame, Frame, Sweep
from zoo.geometry.transforms import pose, rotation_from_quaternion
from zoo.label_table import LabelTable
from zoo.npz import read_npz
from zoo.sensors import NUSCENES as HDL_32E

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt8

__all__ = ["CHANNELS", "CLASS_OF_CATEGORY", "MAX_SWEEPS", "read", "scenes_of"]

CHANNELS = ("x", "y", "z", "intensity", "ring")
"""Columns of a scan."""
MAX_SWEEPS = 10
"""Sweeps before each keyframe, by default; there are nine between two keyframes."""
CLASS_OF_CATEGORY: dict[str, str | None] = {
    "noise": None,
    "animal": None,
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.personal_mobility": None,
    "human.pedestrian.police_officer": "pedestrian",
    "human.pedestrian.stroller": None,
    "human.pedestrian.wheelchair": None,
    "movable_object.barrier": "barrier",
    "movable_object.debris": None,
    "movable_object.pushable_pullable": None,
    "movable_object.trafficcone": "traffic_cone",
    "static_object.bicycle_rack": None,
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.emergency.ambulance": None,
    "vehicle.emergency.police": None,
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
    "flat.driveable_surface": "driveable_surface",
    "flat.other": "other_flat",
    "flat.sidewalk": "sidewalk",
    "flat.terrain": "terrain",
    "static.manmade": "manmade",
    "static.other": None,
    "static.vegetation": "vegetation",
    "vehicle.ego": None,
}
"""Which of the 16 classes each of the 32 categories belongs to; `None`: it is ignored."""

_LIDAR = "LIDAR_TOP"
_MAX_VELOCITY_GAP_S = 1.5
_VISIBILITY = {"1": 0.2, "2": 0.5, "3": 0.7, "4": 0.9}  # middles of 0-40, 40-60, 60-80 and 80-100 %
_FEW = 1000  # bytes of a panoptic file before its points: the headers of an npz
_VAL = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775 "
    "777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
)
_MINI_VAL = "103 916"


def _scene_names(ranges: str) -> frozenset[str]:
    ends = [[int(end) for end in part.split("-")] for part in ranges.split()]
    return frozenset(f"scene-{number:04d}" for each in ends for number in range(each[0], each[-1] + 1))


def scenes_of(split: str, version: str) -> Callable[[str], bool]:
    """Whether a scene of the tables `version` belongs to `split`, by its name.

    The devkit lists the names of all splits. The 700 of `train` are those of v1.0-trainval that are not in `val`.
    """
    val = _scene_names(_MINI_VAL if version == "v1.0-mini" else _VAL)
    return {"train": lambda name: name not in val, "val": lambda name: name in val}.get(split, lambda name: True)


def read(root: Path, split: str, sweeps: int = MAX_SWEEPS) -> Dataset:
    """The keyframes of one split, scene by scene.

    Args:
        root: Folder with `samples/`, `sweeps/` and the tables.
        split: `train` or `val`: official scenes of v1.0-trainval or, if that is not there, of v1.0-mini. `test`: all of
            v1.0-test, without labels. `all`: all scenes of the first of the three that is there.
        sweeps: Lidar sweeps before each keyframe, at most.

    Raises:
        InputError: If tables are missing, broken or contradictory, the split is empty, or a keyframe has no scan.
    """
    if sweeps < 0:
        raise InputError(f"sweeps {sweeps} must be 0 or more")
    folder = _tables_of(root, split)
    tables = _Tables(root, folder, scenes_of(split, folder.name))
    frames = tuple(tables.frame(row, sweeps) for row in range(len(tables.samples)))
    if not frames:
        raise InputError(f"nuscenes {split} is empty: {folder} has none of its scenes; read all with the split all")
    tables.check_files()
    conditions = {frame.group for frame in frames}
    return Dataset(
        kind="nuscenes",
        root=root,
        split=split,
        classes=NUSCENES,
        frames=frames,
        video=True,
        source_group="clear" if "clear" in conditions and len(conditions) > 1 else None,
    )


def _tables_of(root: Path, split: str) -> Path:
    versions = {"test": ("v1.0-test",), "all": ("v1.0-trainval", "v1.0-mini", "v1.0-test")}
    candidates = versions.get(split, ("v1.0-trainval", "v1.0-mini"))
    for version in candidates:
        if (root / version).is_dir():
            return root / version
    raise InputError(f"{root} is not nuScenes {split}: looked for {' or '.join(f'{each}/' for each in candidates)}")


@dataclass(frozen=True, slots=True)
class _Sample:
    token: str
    timestamp_us: int
    scene: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class _Sensor:
    channel: str
    ego_from_sensor: np.ndarray
    intrinsics: np.ndarray | None


# Row of `sample_data`: row of the pose, row of the sensor, filename, timestamp, row of the scan before (lidar only).
_Data = tuple[int, int, str, int, int]


class _Tables:
    """What the frames of some scenes need of the tables."""

    def __init__(self, root: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
        self.root, self.folder = root, folder
        self._facts = rendered_lidar(root, "LIDAR_TOP", HDL_32E)
        self._scene_rows: dict[str, int] = {}
        self.samples = self._samples(wanted)
        self.row_of_sample = {sample.token: row for row, sample in enumerate(self.samples)}
        self._places = {scene: place for place, scene in enumerate(dict.fromkeys(each.scene for each in self.samples))}
        self._sensors, sensor_rows = self._calibrated_sensors()
        self._scans: list[_Data] = []
        self._key_scan = np.full(len(self.samples), -1, np.int64)
        self._key_token: dict[int, str] = {}
        self._images: list[dict[str, _Data]] = [{} for _ in self.samples]
        self._poses = self._ego_poses(self._sample_data(sensor_rows))
        self._label_files = self._files_by_scan("lidarseg", ".bin")
        self._panoptic_files = self._files_by_scan("panoptic", ".npz")
        self._classes = _label_table(folder) if self._label_files or self._panoptic_files else None
        annotated = (folder / "sample_annotation.json").is_file() and "test" not in folder.name
        self._boxes = _Annotations(self) if annotated else None

    def rows(self, table: str, /, **keys: type) -> Iterator[tuple[Any, ...]]:
        """The values of `keys` of every row of a table, see `read_rows`."""
        return read_rows(self.folder / f"{table}.json", keys)

    def _samples(self, wanted: Callable[[str], bool]) -> list[_Sample]:
        scenes: dict[str, tuple[str, Condition]] = {}
        for row, (token, name, description) in enumerate(self.rows("scene", token=str, name=str, description=str)):
            if wanted(name):
                scenes[token] = (name, _condition(description))
                self._scene_rows[name] = row
        found, links = [], []
        for token, time_us, scene, before in self.rows("sample", token=str, timestamp=int, scene_token=str, prev=str):
            if scene in scenes:
                _check_time(time_us, f"sample {token}")
                found.append(_Sample(token, time_us, *scenes[scene]))
                links.append(before)
        times = {sample.token: sample.timestamp_us for sample in found}
        for sample, before in zip(found, links):
            _check_before(before, times, sample.timestamp_us, f"sample {sample.token}")
        return sorted(found, key=lambda sample: (sample.scene, sample.timestamp_us))

    def _calibrated_sensors(self) -> tuple[list[_Sensor], dict[str, int]]:
        channels = dict(self.rows("sensor", token=str, channel=str))
        sensors: list[_Sensor] = []
        rows: dict[str, int] = {}
        keys: dict[str, type] = {"token": str, "sensor_token": str, "translation": list, "rotation": list}
        for token, sensor, translation, rotation, intrinsics in self.rows(
            "calibrated_sensor", **keys, camera_intrinsic=list
        ):
            what = f"{self.folder / 'calibrated_sensor.json'}: {token}"
            if sensor not in channels:
                raise InputError(f"{what} names the sensor {sensor}, which sensor.json does not have")
            matrix = _pose(translation, rotation, what)
            k = np.array([numbers_of(row, 3, f"{what} camera_intrinsic") for row in intrinsics]) if intrinsics else None
            if k is not None and k.shape != (3, 3):
                raise InputError(f"{what}: camera_intrinsic has {len(k)} rows; expected 3")
            rows[token] = len(sensors)
            sensors.append(_Sensor(channels[sensor], matrix, k))
        return sensors, rows

    def _sample_data(self, sensor_rows: dict[str, int]) -> dict[str, int]:
        """Fills the scans of the lidar and the images of the keyframes; returns the row for each pose in use."""
        keys: dict[str, type] = {"token": str, "sample_token": str, "ego_pose_token": str}
        keys |= {"calibrated_sensor_token": str, "filename": str, "timestamp": int, "is_key_frame": bool, "prev": str}
        poses: dict[str, int] = {}
        rows: dict[str, int] = {}
        links: list[str] = []
        for row in self.rows("sample_data", **keys):
            token, sample_token, pose_token, sensor_token, filename, time_us, key, before = row
            sample = self.row_of_sample.get(sample_token)
            if sample is None:
                continue
            if sensor_token not in sensor_rows:
                raise InputError(f"sample_data {token} names the calibrated_sensor {sensor_token}, which is not there")
            sensor = sensor_rows[sensor_token]
            channel = self._sensors[sensor].channel
            is_lidar = channel == _LIDAR
            if not (is_lidar or (key and channel.startswith("CAM_"))):
                continue
            data: _Data = (poses.setdefault(pose_token, len(poses)), sensor, filename, time_us, -1)
            _check_time(time_us, f"sample_data {token}")
            if not is_lidar:
                self._images[sample][channel] = data
                continue
            if key:
                self._key_scan[sample] = len(self._scans)
                self._key_token[sample] = token
            rows[token] = len(self._scans)
            self._scans.append(data)
            links.append(before)
        self._link_scans(rows, links)
        if (self._key_scan < 0).any():
            lacking = self.samples[int(np.argmin(self._key_scan))]
            raise InputError(f"sample {lacking.token} ({lacking.scene}) has no {_LIDAR} keyframe in sample_data.json")
        return poses

    def _link_scans(self, rows: dict[str, int], links: list[str]) -> None:
        for scan, before in enumerate(links):
            if not before:
                continue
            data = self._scans[scan]
            if before not in rows:
                raise InputError(f"sample_data: {data[2]} follows {before}, which is not in the table")
            if self._scans[rows[before]][3] >= data[3]:
                raise InputError(f"sample_data: {data[2]} follows a scan that is not earlier; prev runs in a circle")
            self._scans[scan] = (*data[:4], rows[before])

    def _ego_poses(self, rows: dict[str, int]) -> np.ndarray:
        """`(P, 7)` translation and quaternion of the poses in use."""
        found = np.full((len(rows), 7), np.nan)
        for token, translation, rotation in self.rows("ego_pose", token=str, translation=list, rotation=list):
            row = rows.get(token)
            if row is not None:
                what = f"ego_pose {token}"
                found[row] = [*numbers_of(translation, 3, what), *numbers_of(rotation, 4, what)]
        for token, row in rows.items():
            if np.isnan(found[row, 0]):
                raise InputError(f"{self.folder / 'ego_pose.json'} lacks {token}, which sample_data names")
        return found

    def _files_by_scan(self, table: str, ending: str) -> dict[str, str]:
        """Filename of the labels of each keyframe's scan; empty without the table."""
        if not (self.folder / f"{table}.json").is_file():
            return {}
        tokens = set(self._key_token.values())
        rows = self.rows(table, sample_data_token=str, filename=str)
        return {token: name for token, name in rows if token in tokens and name.endswith(ending)}

    def check_files(self) -> None:
        """Raises an `InputError` if the scan of a keyframe or its labels are not there; lists every folder once."""
        names: dict[Path, frozenset[str]] = {}
        for row, sample in enumerate(self.samples):
            for path in self._files(row).values():
                if path.parent not in names:
                    there = path.parent.is_dir()
                    names[path.parent] = (
                        frozenset(each.name for each in path.parent.iterdir()) if there else frozenset()
                    )
                if path.name not in names[path.parent]:
                    raise InputError(
                        f"{path} does not exist, but the tables in {self.folder} name it (sample {sample.token}); "
                        "download the missing part of the data set"
                    )

    def _path(self, filename: str) -> Path:
        parts = PurePosixPath(filename)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise InputError(f"{self.folder}: the filename {filename!r} leads out of {self.root}")
        return self.root / parts

    def _files(self, sample: int) -> dict[str, Path]:
        files = {_LIDAR: self._path(self._scans[self._key_scan[sample]][2])}
        token = self._key_token[sample]
        for name, table in (("lidarseg", self._label_files), ("panoptic", self._panoptic_files)):
            if token in table:
                files[name] = self._path(table[token])
        return files

    def frame(self, row: int, sweeps: int) -> Frame:
        """The frame of one keyframe; its sensors and boxes are put together on access."""
        sample = self.samples[row]
        cameras = {channel: partial(self._camera, data) for channel, data in sorted(self._images[row].items())}
        return Frame(
            id=sample.token,
            scene=sample.scene,
            condition=sample.condition,
            cameras=LazyMapping(cameras),
            lidars=LazyMapping({_LIDAR: partial(self._sweeps, row, sweeps)}),
            boxes=None if self._boxes is None else self._boxes.of_sample(row),
            timestamp_us=sample.timestamp_us,
            world_from_ego=self._world_from_ego(self._scans[self._key_scan[row]]),
            meta={
                "sample_token": sample.token,
                "place": self._places[sample.scene],
                "scene_row": self._scene_rows[sample.scene],  # in scene.json
                "files": self._files(row),
            },
        )

    def _world_from_ego(self, data: _Data) -> np.ndarray:
        values = self._poses[data[0]]
        return pose(rotation_from_quaternion(values[3:]), values[:3])

    def _camera(self, data: _Data) -> CameraFrame:
        sensor, path = self._sensors[data[1]], self._path(data[2])
        return CameraFrame(
            image_source=partial(read_image, path),
            timestamp_us=data[3],
            intrinsics=sensor.intrinsics,
            ego_from_camera=sensor.ego_from_sensor,
            world_from_ego=self._world_from_ego(data),
            image_path=path,
        )

    def _sweeps(self, sample: int, count: int) -> tuple[Sweep, ...]:
        """The scan of a keyframe and up to `count` before it, newest first."""
        row = int(self._key_scan[sample])
        files = self._files(sample)
        found = [self._sweep(self._scans[row], files)]
        while len(found) <= count and (row := self._scans[row][4]) >= 0:
            found.append(self._sweep(self._scans[row], {}))
        return tuple(found)

    def _sweep(self, data: _Data, labels: dict[str, Path]) -> Sweep:
        sensor, path = self._sensors[data[1]], self._path(data[2])
        lidarseg, panoptic = labels.get("lidarseg"), labels.get("panoptic")
        labels_source = None
        if (file := lidarseg or panoptic) is not None:
            assert self._classes is not None
            labels_source = partial(_read_labels, file, path, self._classes)
        return Sweep(
            points_source=partial(read_points, path, CHANNELS, "0-255"),
            channels=CHANNELS,
            labels_source=labels_source,
            instances_source=None if panoptic is None else partial(_read_instances, panoptic, path),
            timestamp_us=data[3],
            ego_from_lidar=sensor.ego_from_sensor,
            world_from_ego=self._world_from_ego(data),
            sensor=replace(self._facts, height_m=float(sensor.ego_from_sensor[2, 3])),
        )


class _Annotations:
    """The boxes of all samples, in columns."""

    def __init__(self, tables: _Tables) -> None:
        self._times = np.array([sample.timestamp_us for sample in tables.samples], np.int64)
        self._categories: list[str] = []
        categories = dict(tables.rows("category", token=str, name=str))
        instances: dict[str, int] = {}
        for token, category in tables.rows("instance", token=str, category_token=str):
            if category not in categories:
                raise InputError(f"instance {token} names the category {category}, which is not in category.json")
            instances[token] = len(instances)
            self._categories.append(categories[category])
        moving = {token for token, name in tables.rows("attribute", token=str, name=str) if name.endswith(".moving")}
        tokens, before, after = (TokenColumn(f"sample_annotation {name}") for name in ("token", "prev", "next"))
        integers, values = array("i"), array("d")
        keys: dict[str, type] = {"token": str, "sample_token": str, "instance_token": str, "attribute_tokens": list}
        keys |= {"visibility_token": str, "translation": list, "size": list, "rotation": list, "num_lidar_pts": int}
        for row in tables.rows("sample_annotation", **keys, prev=str, next=str):
            token, sample_token, instance, attributes, visibility, center, size, rotation, points, previous, later = row
            sample = tables.row_of_sample.get(sample_token)
            if sample is None:
                continue
            what = f"sample_annotation {token}"
            if instance not in instances or not 0 <= points < 2**31:
                raise InputError(f"{what} names the instance {instance}, which is not there, or holds {points} points")
            tokens.append(token)
            before.append(previous)
            after.append(later)
            integers.extend((sample, instances[instance], points, not moving.isdisjoint(map(str, attributes))))
            values.extend(numbers_of(center, 3, what))
            values.extend(numbers_of(size, 3, what))
            values.extend(numbers_of(rotation, 4, what))
            values.append(_VISIBILITY.get(visibility, np.nan))
        self._integers = np.frombuffer(integers, np.int32).reshape(-1, 4)
        self._sample = self._integers[:, 0]
        self._values = np.frombuffer(values, np.float64).reshape(-1, 11)
        table = tokens.array()
        self._before = rows_of_tokens(before.array(), table, "sample_annotation prev").astype(np.int32)
        self._after = rows_of_tokens(after.array(), table, "sample_annotation next").astype(np.int32)
        self._check_links(self._before, self._after)
        order = np.argsort(self._sample, kind="stable")
        self._rows = order.astype(np.int32)
        self._ends = np.searchsorted(self._sample[order], np.arange(len(self._times) + 1))

    def _check_links(self, before: np.ndarray, after: np.ndarray) -> None:
        time = self._times[self._sample]
        for links, sign, name in ((before, 1, "prev"), (after, -1, "next")):
            linked = np.nonzero(links >= 0)[0]
            if (sign * (time[linked] - time[links[linked]]) <= 0).any():
                raise InputError(f"sample_annotation: {name} leads to a sample that is not {name}; it runs in a circle")

    def of_sample(self, sample: int) -> LazySequence[Box3D]:
        """The boxes of a sample, in the order of the table."""
        rows = self._rows[self._ends[sample] : self._ends[sample + 1]]
        return LazySequence(partial(self._boxes, rows))

    def _boxes(self, rows: np.ndarray) -> list[Box3D]:
        return [self._box(int(row)) for row in rows]

    def _box(self, row: int) -> Box3D:
        instance, points, moving = (int(each) for each in self._integers[row, 1:])
        values = self._values[row]
        width, length, height = values[3:6]
        forward = rotation_from_quaternion(values[6:10])[:, 0]
        category = self._categories[instance]
        name = CLASS_OF_CATEGORY.get(category)
        return Box3D(
            label=NUSCENES.ignore_index if name is None else NUSCENES.names.index(name),
            track=instance + 1,
            center=values[:3].copy(),
            size=np.array([length, width, height]),
            yaw=float(np.arctan2(forward[1], forward[0])),
            velocity=self._velocity(row),
            moving=bool(moving),
            visibility=None if np.isnan(values[10]) else float(values[10]),
            num_points=points,
            kind=category,
        )

    def _velocity(self, row: int) -> np.ndarray | None:
        """`(3,)` m/s by the devkit's rule: from the neighbouring annotations, if they are not too far apart."""
        before, after = int(self._before[row]), int(self._after[row])
        if before < 0 and after < 0:
            return None
        limit_s = _MAX_VELOCITY_GAP_S * (2 if before >= 0 and after >= 0 else 1)
        first, last = (before if before >= 0 else row), (after if after >= 0 else row)
        seconds = 1e-6 * float(self._times[self._sample[last]] - self._times[self._sample[first]])
        if seconds > limit_s:
            return None
        return (self._values[last, :3] - self._values[first, :3]) / seconds


def _label_table(folder: Path) -> LabelTable:
    """Labels of the indices in `category.json`."""
    ids: dict[str, list[int]] = {name: [] for name in NUSCENES.names}
    ignored: list[int] = []
    for name, index in read_rows(folder / "category.json", {"name": str, "index": int}):
        if name not in CLASS_OF_CATEGORY or not 0 <= index < 256:
            raise InputError(
                f"{folder / 'category.json'} has the category {name!r} with index {index}; expected the 32"
            )
        target = CLASS_OF_CATEGORY[name]
        (ignored if target is None else ids[target]).append(index)
    if empty := [name for name, found in ids.items() if not found]:
        raise InputError(
            f"{folder / 'category.json'} has no category of the class {empty[0]}; install lidarseg's tables"
        )
    merged = {id: label for label, found in enumerate(ids.values()) for id in found[1:]}
    return LabelTable(NUSCENES, tuple(found[0] for found in ids.values()), tuple(ignored), merged)


def _read_labels(path: Path, scan: Path, table: LabelTable) -> UInt8[np.ndarray, " N"]:
    """`(N,)` uint8 labels of a lidarseg or panoptic file."""
    if path.suffix == ".npz":
        ids = _panoptic(path, scan) // 1000
    else:
        ids = np.frombuffer(read_bytes(path, MAX_POINTS, f"the labels of {scan}"), np.uint8)
        check_count(len(ids), path, scan, CHANNELS)
    return table.labels(ids, str(path), table.classes.ignore_index)


def _read_instances(path: Path, scan: Path) -> Int32[np.ndarray, " N"]:
    """`(N,)` int32 of a panoptic file: category * 1000 + instance, 0 for points without an instance."""
    values = _panoptic(path, scan).astype(np.int32)
    return np.where(values % 1000 > 0, values, 0).astype(np.int32)


def _panoptic(path: Path, scan: Path) -> np.ndarray:
    content = read_bytes(path, 8 * MAX_POINTS, f"the panoptic labels of {scan}")
    arrays = read_npz(content, str(path), max_bytes=8 * MAX_POINTS + _FEW)
    values = arrays.get("data")
    if values is None or values.ndim != 1 or values.dtype.kind not in "iu":
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; expected whole numbers (N,) called data")
    check_count(len(values), path, scan, CHANNELS)
    return values


def _pose(translation: Any, rotation: Any, what: str) -> np.ndarray:
    quaternion = np.array(numbers_of(rotation, 4, f"{what} rotation"), float)
    if np.linalg.norm(quaternion) < 0.5:
        raise InputError(f"{what}: rotation {rotation} is not a unit quaternion")
    return pose(
        rotation_from_quaternion(quaternion), np.array(numbers_of(translation, 3, f"{what} translation"), float)
    )


def _check_time(time_us: int, what: str) -> None:
    if not 0 <= time_us < 2**62:
        raise InputError(f"{what}: timestamp {str(time_us)[:40]} is not a number of microseconds since 1970")


def _check_before(before: str, times: dict[str, int], time_us: int, what: str) -> None:
    if before and before not in times:
        raise InputError(f"{what} follows {before}, which is not in its scene")
    if before and times[before] >= time_us:
        raise InputError(f"{what} follows {before}, which is not earlier; prev runs in a circle")


def _condition(description: str) -> Condition:
    """Night and rain as the descriptions of the scenes name them; there is no other record of them."""
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", description)}
    times, weathers = words & set(TIMES_OF_DAY[1:]), words & set(WEATHERS[1:])
    return Condition(time_of_day=min(times, default="day"), weather=min(weathers, default="clear"))
