"""The layout of SemanticKITTI: the sequences of KITTI odometry with a raw class id and an instance id per point.

One place is one sequence. Points, poses and pictures are for the time of `image_2`, as in the KITTI layout. The places
of a split get that split's official numbers in order, then 22 and up; `semantic-kitti.yaml` lists them.

Deviations: `image_3` and the grey cameras are not written. Class ids are derived from the world's 19 labels, the
surface's material, the object's box and the paint on the road; outliers occur only in fog, rain and snow, other-ground
never. Points on an object beyond the range of boxes have instance 0 and count as standing still.

On request, for `image_2`, in folders that the data set does not have: `depth_2` and `flow_2` in KITTI's encodings (the
last frame of a sequence has no flow), `semantic_2` with the label ids of Cityscapes, and `instance_2` in the coding of
Cityscapes, where `value % 1000` is the instance id of the points.

Source: Behley et al., ICCV 2019, and the class table of `semantic-kitti.yaml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from zoo.errors import InputError
from zoo.frame import Frame
from zoo.geometry.transforms import invert, transform
from zoo.synthetic.layouts import Files, Place, Record, Rendered, png, reader_of
from zoo.synthetic.layouts.extras import CAMERA_LABELS, DEPTH, FLOW, camera_files, of_camera
from zoo.synthetic.layouts.geometry import camera_of, newest_sweep, sensor_pose
from zoo.synthetic.layouts.kitti import calibration, image_time_points, numbers
from zoo.synthetic.layouts.street import Marking, markings_at
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = [
    "CLASSES",
    "DEFAULT_SIZE",
    "EXTRAS",
    "RIG",
    "closing_files",
    "files",
    "point_labels",
    "record",
    "sequence_number",
]

RIG = "kitti"
DEFAULT_SIZE = (375, 1242)
EXTRAS = (DEPTH, FLOW, CAMERA_LABELS)

CLASSES: dict[int, tuple[str, int, tuple[int, int, int]]] = {
    0: ("unlabeled", 0, (0, 0, 0)),
    1: ("outlier", 0, (255, 0, 0)),
    10: ("car", 1, (100, 150, 245)),
    11: ("bicycle", 2, (100, 230, 245)),
    13: ("bus", 5, (100, 80, 250)),
    15: ("motorcycle", 3, (30, 60, 150)),
    16: ("on-rails", 5, (0, 0, 255)),
    18: ("truck", 4, (80, 30, 180)),
    20: ("other-vehicle", 5, (0, 0, 255)),
    30: ("person", 6, (255, 30, 30)),
    31: ("bicyclist", 7, (255, 40, 200)),
    32: ("motorcyclist", 8, (150, 30, 90)),
    40: ("road", 9, (255, 0, 255)),
    44: ("parking", 10, (255, 150, 255)),
    48: ("sidewalk", 11, (75, 0, 75)),
    49: ("other-ground", 12, (175, 0, 75)),
    50: ("building", 13, (255, 200, 0)),
    51: ("fence", 14, (255, 120, 50)),
    52: ("other-structure", 0, (255, 150, 0)),
    60: ("lane-marking", 9, (150, 255, 170)),
    70: ("vegetation", 15, (0, 175, 0)),
    71: ("trunk", 16, (135, 60, 0)),
    72: ("terrain", 17, (150, 240, 80)),
    80: ("pole", 18, (255, 240, 150)),
    81: ("traffic-sign", 19, (255, 0, 0)),
    99: ("other-object", 0, (50, 255, 255)),
    252: ("moving-car", 1, (100, 150, 245)),
    253: ("moving-bicyclist", 7, (255, 40, 200)),
    254: ("moving-person", 6, (255, 30, 30)),
    255: ("moving-motorcyclist", 8, (150, 30, 90)),
    256: ("moving-on-rails", 5, (0, 0, 255)),
    257: ("moving-bus", 5, (100, 80, 250)),
    258: ("moving-truck", 4, (80, 30, 180)),
    259: ("moving-other-vehicle", 5, (0, 0, 255)),
}
"""Name, training id and RGB of every raw id."""

_BY_LABEL = {
    Label.ROAD: 40,
    Label.SIDEWALK: 48,
    Label.BUILDING: 50,
    Label.WALL: 51,  # "fence" holds small walls and crash barriers
    Label.FENCE: 51,
    Label.POLE: 80,
    Label.TRAFFIC_LIGHT: 99,
    Label.TRAFFIC_SIGN: 81,
    Label.VEGETATION: 70,
    Label.TERRAIN: 72,
    Label.SKY: 0,
    Label.PERSON: 30,
    Label.RIDER: 31,
    Label.CAR: 10,
    Label.TRUCK: 18,
    Label.BUS: 13,
    Label.TRAIN: 16,
    Label.MOTORCYCLE: 15,
    Label.BICYCLE: 11,
}
_BY_KIND = {
    "car": (10, 252),
    "van": (10, 252),
    "truck": (18, 258),
    "bus": (13, 257),
    "train": (16, 256),
    "trailer": (20, 259),
    "motorcycle": (15, 15),
    "bicycle": (11, 11),
    "cyclist": (31, 253),  # with the bicycle
    "motorcyclist": (32, 255),
    "person": (30, 254),
}
"""Raw ids of standing and of moving objects."""

_MARKED = {
    Marking.SOLID: 60,
    Marking.DASHED: 60,
    Marking.ZEBRA: 60,
    Marking.OTHER: 60,
    Marking.PARKING: 44,
}
_LABELLED_M = 50.0
_SPLIT_NAMES = {"train": "train", "val": "valid", "test": "test"}
_NUMBERS = {"train": (0, 1, 2, 3, 4, 5, 6, 7, 9, 10), "val": (8,), "test": tuple(range(11, 22))}


def sequence_number(place: Place) -> int:
    """Number of the place's sequence: the split's official ones first, then 22 and up."""
    official = _NUMBERS[place.split]
    return official[place.sequence] if place.sequence < len(official) else 22 + place.sequence - len(official)


def point_labels(frame: Frame, scene: Scene) -> np.ndarray:
    """`(N,)` uint32 of the newest sweep of a frame of `scene`, in the file's order: instance * 65536 + raw class id.

    As in the data set, points more than 50 m away are not labelled: of its first scan, all of them have the id 0.

    Raises:
        InputError: If the sweep has no labels.
    """
    sweep = newest_sweep(frame, "semantickitti")
    labels, tracks, materials = sweep.labels, sweep.instances, sweep.materials
    if labels is None or tracks is None:
        raise InputError(f"frame {frame.id}: its sweep has no labels or instances; semantickitti is made of them")
    table = np.zeros(256, np.uint32)
    for label, raw in _BY_LABEL.items():
        table[label] = raw
    ids = table[labels]
    if materials is not None:
        ids[(labels == Label.VEGETATION) & (materials == Material.BARK)] = 71
        ids[(labels == Label.NONE) & (materials == Material.METAL_RAIL)] = 51
        solid = np.isin(materials, [int(material) for material in Material])
        ids[(labels == Label.NONE) & solid & (ids == 0)] = 99
        ids[(labels == Label.NONE) & ~solid] = 1  # drops, flakes and mist have no material
    road = np.nonzero(labels == Label.ROAD)[0]
    if len(road):
        paint = markings_at(scene, transform(sensor_pose(sweep, frame), sweep.points[road, :3]))
        for marking, raw in _MARKED.items():
            ids[road[paint == marking]] = raw
    instances = np.zeros(len(ids), np.uint32)
    for box in frame.boxes or ():
        mine = tracks == box.track
        if box.kind in _BY_KIND and mine.any():
            ids[mine] = _BY_KIND[box.kind][box.moving]
            instances[mine] = box.track
    points, order = image_time_points(frame, "semantickitti")
    far = np.linalg.norm(points[:, :3], axis=1)[np.argsort(order)] > _LABELLED_M
    ids[far], instances[far] = 0, 0
    if instances.max(initial=0) > 0xFFFF:
        raise InputError(f"frame {frame.id}: track {instances.max()} does not fit in the 16 bits of an instance id")
    return (instances << np.uint32(16) | ids).astype("<u4")[order]


def _folder(place: Place) -> str:
    return f"sequences/{sequence_number(place):02d}"


def files(rendered: Rendered | None, place: Place) -> Files:
    """The files of one frame, see `zoo.synthetic.layouts.Layout`.

    Raises:
        InputError: If a file's content is requested and the frame lacks what it needs.
    """
    of = reader_of(rendered)
    folder, name = _folder(place), f"{place.number:06d}"
    out: Files = {
        f"{folder}/image_2/{name}.png": of(lambda it: png(camera_of(it.frame, "image_2", "semantickitti").image)),
        f"{folder}/velodyne/{name}.bin": of(lambda it: image_time_points(it.frame, "semantickitti")[0].tobytes()),
    }
    if place.split != "test":
        out[f"{folder}/labels/{name}.label"] = of(lambda it: point_labels(it.frame, it.scene).tobytes())
        for kind, content in camera_files(place):
            out[f"{folder}/{kind}_2/{name}.png"] = of(partial(of_camera, content, "image_2", "semantickitti"))
    return out


def record(rendered: Rendered, place: Place) -> Record:
    """Pose, time and calibration of the frame, and its number of points per class."""
    at = calibration(rendered.frame, "semantickitti")
    content: dict[str, int] = {}
    if place.split != "test":
        ids, counts = np.unique(point_labels(rendered.frame, rendered.scene) & 0xFFFF, return_counts=True)
        content = {str(raw): int(count) for raw, count in zip(ids, counts)}
    return {
        "time_us": at.time_us,
        "world_from_rect": at.world_from_rect.tolist(),
        "projections": at.projections.tolist(),
        "rect_from_velo": at.rect_from_velo.tolist(),
        "content": content,
    }


def closing_files(records: Sequence[tuple[Place, Record]]) -> Files:
    """`poses.txt`, `calib.txt` and `times.txt` of each sequence, and the table of classes and sequences."""
    sequences: dict[str, list[Record]] = {}
    for place, about in records:
        sequences.setdefault(_folder(place), []).append(about)
    out: Files = {}
    for folder, frames in sequences.items():
        out[f"{folder}/poses.txt"] = _poses(frames).encode
        out[f"{folder}/calib.txt"] = _calib(frames[0]).encode
        out[f"{folder}/times.txt"] = _times(frames).encode
    out["semantic-kitti.yaml"] = _table(records).encode
    return out


def _poses(frames: Sequence[Record]) -> str:
    poses = [np.array(about["world_from_rect"]) for about in frames]
    start = invert(poses[0])
    return "".join(numbers((start @ pose)[:3]) + "\n" for pose in poses)


def _calib(about: Record) -> str:
    rows = {f"P{k}": np.array(projection) for k, projection in enumerate(about["projections"])}
    rows["Tr"] = np.array(about["rect_from_velo"])[:3]
    return "".join(f"{name}: {numbers(values)}\n" for name, values in rows.items())


def _times(frames: Sequence[Record]) -> str:
    return "".join(f"{(about['time_us'] - frames[0]['time_us']) / 1e6:.6e}\n" for about in frames)


def _table(records: Sequence[tuple[Place, Record]]) -> str:
    """The classes as the data set's own tools read them; `content` is that of these frames."""
    counts = dict.fromkeys(CLASSES, 0)
    for _, about in records:
        for raw, count in about["content"].items():
            counts[int(raw)] += count
    total = max(sum(counts.values()), 1)
    first = {train: raw for raw, (_, train, _) in reversed(CLASSES.items()) if raw != 16}
    splits: dict[str, set[int]] = {name: set() for name in _SPLIT_NAMES.values()}
    for place, _ in records:
        splits[_SPLIT_NAMES[place.split]].add(sequence_number(place))
    sections: dict[str, dict[int, object]] = {
        "labels": {raw: f'"{name}"' for raw, (name, _, _) in CLASSES.items()},
        "color_map": {raw: list(reversed(rgb)) for raw, (_, _, rgb) in CLASSES.items()},
        "content": {raw: f"{count / total:.12f}" for raw, count in counts.items()},
        "learning_map": {raw: train for raw, (_, train, _) in CLASSES.items()},
        "learning_map_inv": {train: 20 if train == 5 else first[train] for train in sorted(first)},
        "learning_ignore": {train: train == 0 for train in sorted(first)},
    }
    lines = []
    for section, rows in sections.items():
        comment = "  # bgr" if section == "color_map" else ""
        lines += [f"{section}:{comment}", *(f"  {key}: {value}" for key, value in rows.items())]
    lines.append("split:")
    for name, numbers_of in splits.items():
        lines.append(f"  {name}: {sorted(numbers_of)}")
    return "\n".join(lines) + "\n"
