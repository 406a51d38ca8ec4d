"""nuScenes v1.0: keyframes, lidar sweeps, lidarseg and the tables that the official devkit loads.

Source: schema, naming rules and names of scenes of the nuScenes devkit (https://github.com/nutonomy/nuscenes-devkit,
docs/schema_nuscenes.md and utils/splits.py), and the tables of the released data.

A place of the synthetic world becomes one scene with its own log and map. Scenes get the official names of their split
in order, because the devkit's splits are lists of names. The global frame of a scene is the world frame moved by
`GLOBAL_FROM_WORLD_M`, so that its map has no negative coordinates.

The pictures of nuScenes are undistorted. With a lens or a rolling shutter of one's own (`--rig FILE.yaml`) they are
not, and `calibrated_sensor` has two keys more: `camera_distortion` with `model` and `coefficients`, in OpenCV's order,
and `camera_line_time_s`.

On request, in folders of our own with the names of the pictures: `depth/CHANNEL` and `flow/CHANNEL` in KITTI's
encodings (the last keyframe of a scene has no flow), `semantic/CHANNEL` with the label ids of Cityscapes, and
`instance/CHANNEL` in the coding of Cityscapes, in which the number of an object is the same in all pictures of a scene.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame, Sweep
from zoo.geometry.boxes import box_array, points_in_box
from zoo.geometry.distortion import KannalaBrandt
from zoo.geometry.transforms import quaternion_from_rotation, transform
from zoo.synthetic.layouts import Files, Place, Record, Rendered, png, reader_of
from zoo.synthetic.layouts.extras import CAMERA_LABELS, DEPTH, FLOW, camera_files
from zoo.synthetic.scene.network import Stretch
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = [
    "CATEGORIES",
    "DEFAULT_SIZE",
    "DEFAULT_SWEEPS",
    "EXTRAS",
    "GLOBAL_FROM_WORLD_M",
    "MAX_SWEEPS",
    "RIG",
    "closing_files",
    "files",
    "record",
    "scene_name",
    "version",
]

RIG = "nuscenes"
DEFAULT_SIZE = (900, 1600)
EXTRAS = (DEPTH, FLOW, CAMERA_LABELS)
DEFAULT_SWEEPS = MAX_SWEEPS = 9
"""Sweeps between two keyframes: 20 per second, of which every tenth is a keyframe."""
GLOBAL_FROM_WORLD_M = np.array([300.0, 300.0, 0.0])
_MAP_SIDE_M, _MAP_RESOLUTION_M = 600.0, 0.1
_LIDAR = "LIDAR_TOP"
_EPOCH_US = 1_600_000_000_000_000
_SCENE_STEP_US = 3_600_000_000
_IN_AIR = 255  # material of drops, flakes and fog, and of rays without a return (`lidar`)
_LIDAR_FROM_NUSCENES = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""In nuScenes the lidar has x right and y forward, here x forward and y left."""

CATEGORIES = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
"""Categories in the order of their lidarseg index."""

_SCENES = {
    "train": (
        "1-2 4-11 19-34 41-76 120-135 138-139 149-152 154-155 157-168 170-185 187-188 190-196 199-200 202-204 "
        "206-214 218-220 222 224-264 283-306 315-318 321 323-324 328 347-386 388-403 405-408 410-459 461-465 "
        "467-469 471-472 474-480 499-502 504-515 517-518 525-539 541-546 566 568 570-578 580 582-600 639-679 681 "
        "683-689 695-698 700-701 703-719 726-728 730-731 733-741 744 746-747 749-752 757-765 767-769 786-787 "
        "789-792 803-806 808-813 815-817 819-822 847-856 858 860-866 868-873 875-878 880 882-903 945 947 949 "
        "952-953 955-961 975-984 988-992 994-1025 1044-1058 1074-1102 1104-1110"
    ),
    "val": (
        "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 "
        "775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
    ),
    "test": (
        "77-91 111-119 140 142-148 265-266 279-282 307-314 333-343 481-498 547-551 601-604 606-624 827-831 833-842 "
        "844-846 932-933 935-943 1026-1043"
    ),
}
"""Numbers of the scenes of each split."""

_ATTRIBUTES = {
    "vehicle.moving": "The vehicle drives.",
    "vehicle.stopped": "The vehicle stands in traffic and means to drive on.",
    "vehicle.parked": "The vehicle is parked.",
    "cycle.with_rider": "Somebody sits on the bicycle or motorcycle.",
    "cycle.without_rider": "Nobody sits on the bicycle or motorcycle.",
    "pedestrian.sitting_lying_down": "The person sits or lies.",
    "pedestrian.standing": "The person stands.",
    "pedestrian.moving": "The person walks or runs.",
}
_SCENE_TABLES = (
    "log",
    "map",
    "scene",
    "sample",
    "sample_data",
    "ego_pose",
    "calibrated_sensor",
    "sample_annotation",
    "instance",
)
_VISIBILITIES = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}

_CATEGORY_OF_KIND = {
    "car": "vehicle.car",
    "van": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "motorcycle": "vehicle.motorcycle",
    "motorcyclist": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "cyclist": "vehicle.bicycle",
    "person": "human.pedestrian.adult",
}
"""A cycle's box holds its rider, as in nuScenes. There is no category for trains: they are not annotated."""

_CATEGORY_OF_LABEL = {
    Label.ROAD: "flat.driveable_surface",
    Label.SIDEWALK: "flat.sidewalk",
    Label.TERRAIN: "flat.terrain",
    Label.VEGETATION: "static.vegetation",
    Label.BUILDING: "static.manmade",
    Label.WALL: "static.manmade",
    Label.FENCE: "static.manmade",
    Label.POLE: "static.manmade",
    Label.TRAFFIC_LIGHT: "static.manmade",
    Label.TRAFFIC_SIGN: "static.manmade",
    Label.PERSON: "human.pedestrian.adult",
    Label.RIDER: "vehicle.bicycle",
    Label.CAR: "vehicle.car",
    Label.TRUCK: "vehicle.truck",
    Label.BUS: "vehicle.bus.rigid",
    Label.TRAIN: "static.other",
    Label.MOTORCYCLE: "vehicle.motorcycle",
    Label.BICYCLE: "vehicle.bicycle",
}


def version(split: str) -> str:
    """Name of the folder of tables: train and val share one, as in the real data set."""
    return "v1.0-test" if split == "test" else "v1.0-trainval"


def scene_name(split: str, sequence: int) -> str:
    """The official name of scene `sequence` of a split, from 0.

    Raises:
        InputError: If the split has fewer scenes.
    """
    ranges = [[int(end) for end in part.split("-")] for part in _SCENES[split].split()]
    numbers = [number for ends in ranges for number in range(ends[0], ends[-1] + 1)]
    if sequence >= len(numbers):
        raise InputError(
            f"nuscenes: scene {sequence + 1} of split {split}, which has {len(numbers)} official names; ask for "
            f"--scenes {len(numbers)} or fewer"
        )
    return f"scene-{numbers[sequence]:04d}"


def files(rendered: Rendered | None, place: Place) -> Files:
    """Pictures and scans of one keyframe, the lidar sweeps since the previous one, and the keyframe's lidarseg.

    File names contain the time of each measurement, so that without a frame only the name of the map is known.
    """
    out: Files = {}
    if place.number == 0:
        out[_map_file(place)] = reader_of(rendered)(lambda it: _map(it.scene))
    if rendered is None:
        return out
    frame = rendered.frame
    _check(frame)
    for channel, camera in frame.cameras.items():
        name = _filename(place, channel, _time(place, camera, frame), True)
        out[name] = partial(_jpeg, camera)
        for kind, content in camera_files(place) if place.split != "test" else ():
            out[f"{kind}/{channel}/{PurePosixPath(name).stem}.png"] = partial(content, camera)
    for sweep, key in _sweeps(frame):
        name = _filename(place, _LIDAR, _time(place, sweep, frame), key)
        out[name] = partial(_scan, sweep)
        if key and place.split != "test":
            out[_lidarseg_file(place.split, name)] = partial(_lidarseg, sweep, frame)
    return out


def record(rendered: Rendered, place: Place) -> Record:
    """Times, poses, calibrations and boxes of one keyframe, in the units and axes of the tables."""
    frame = rendered.frame
    _check(frame)
    data = []
    for channel, camera in frame.cameras.items():
        assert camera.intrinsics is not None
        height, width = camera.image.shape[:2]
        row = _data_row(place, channel, camera, frame, True, camera.ego_from_camera)
        lens: dict[str, Any] = {}
        if camera.distortion is not None:
            model = "kannala-brandt" if isinstance(camera.distortion, KannalaBrandt) else "brown-conrady"
            lens["camera_distortion"] = {"model": model, "coefficients": list(camera.distortion.coefficients)}
        if camera.line_time_s:
            lens["camera_line_time_s"] = camera.line_time_s
        intrinsics = camera.intrinsics.tolist()
        data.append({**row, "camera_intrinsic": intrinsics, "height": height, "width": width})
        if lens:
            data[-1]["lens"] = lens
    for sweep, key in _sweeps(frame):
        assert sweep.ego_from_lidar is not None
        turned = sweep.ego_from_lidar.copy()
        turned[:3, :3] = turned[:3, :3] @ _LIDAR_FROM_NUSCENES
        row = _data_row(place, _LIDAR, sweep, frame, key, turned)
        data.append({**row, "camera_intrinsic": [], "height": 0, "width": 0})
    return {
        "timestamp": _time(place, frame.lidars[_LIDAR][0], frame),
        "condition": frame.condition.name,
        "data": data,
        "boxes": [] if place.split == "test" else _box_rows(frame),
    }


def closing_files(records: Sequence[tuple[Place, Record]]) -> Files:
    """The 13 tables, and with labels lidarseg.json."""
    tables = _tables(records)
    folder = version(records[0][0].split)
    return {f"{folder}/{name}.json": partial(_json, rows) for name, rows in tables.items()}


def _check(frame: Frame) -> None:
    if _LIDAR not in frame.lidars or not frame.lidars[_LIDAR]:
        have = ", ".join(frame.lidars) or "none"
        raise InputError(f"frame {frame.id} has no lidar {_LIDAR} (lidars: {have}); nuscenes needs the rig {RIG}")
    if "ring" not in frame.lidars[_LIDAR][0].channels:
        raise InputError(f"frame {frame.id}: the points of {_LIDAR} have no channel `ring`, which nuscenes stores")


def _sweeps(frame: Frame) -> Iterator[tuple[Sweep, bool]]:
    """The lidar sweeps, oldest first, and whether each is the keyframe's."""
    newest, *older = frame.lidars[_LIDAR]
    for sweep in reversed(older):
        yield sweep, False
    yield newest, True


# --- names ------------------------------------------------------------------------------------------------------------


def _token(*parts: object) -> str:
    """32 hexadecimal digits that are the same for the same thing in every run."""
    return hashlib.md5(" ".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def _time(place: Place, sensor: CameraFrame | Sweep, frame: Frame) -> int:
    """Microseconds since 1970; scenes begin an hour apart."""
    time_us = frame.timestamp_us if sensor.timestamp_us is None else sensor.timestamp_us
    assert time_us is not None
    return _EPOCH_US + place.sequence * _SCENE_STEP_US + time_us


def _logfile(place: Place) -> str:
    began = datetime.fromtimestamp((_EPOCH_US + place.sequence * _SCENE_STEP_US) // 1_000_000, UTC)
    return f"synthetic{place.seed:08d}-{began:%Y-%m-%d-%H-%M-%S}+0000"


def _filename(place: Place, channel: str, time_us: int, key: bool) -> str:
    ending = "pcd.bin" if channel == _LIDAR else "jpg"
    return f"{'samples' if key else 'sweeps'}/{channel}/{_logfile(place)}__{channel}__{time_us}.{ending}"


def _lidarseg_file(split: str, filename: str) -> str:
    return f"lidarseg/{version(split)}/{_token('sample_data', filename)}_lidarseg.bin"


def _map_file(place: Place) -> str:
    return f"maps/{_token('map', _logfile(place))}.png"


# --- content of files -------------------------------------------------------------------------------------------------


def _json(rows: list[dict]) -> bytes:
    return (json.dumps(rows, indent=0) + "\n").encode()


def _jpeg(camera: CameraFrame) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(camera.image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _scan(sweep: Sweep) -> bytes:
    """`(N, 5)` float32: x right, y forward, z up in metres, intensity 0 to 255, ring."""
    points = sweep.points
    column = {name: points[:, k] for k, name in enumerate(sweep.channels)}
    intensity = np.round(np.clip(column["intensity"] * 255, 0, 255))
    return np.stack([-column["y"], column["x"], column["z"], intensity, column["ring"]], 1).astype("<f4").tobytes()


def _lidarseg(sweep: Sweep, frame: Frame) -> bytes:
    """`(N,)` uint8 indices of `CATEGORIES`; points of an object take the category of its box."""
    labels = sweep.labels
    assert labels is not None
    table = np.full(256, CATEGORIES.index("static.other"), np.uint8)
    for label, name in _CATEGORY_OF_LABEL.items():
        table[label] = CATEGORIES.index(name)
    out = table[labels]
    if sweep.materials is not None:
        out[(labels == Label.NONE) & (sweep.materials == _IN_AIR)] = CATEGORIES.index("noise")
        out[sweep.materials == Material.EGO] = CATEGORIES.index("vehicle.ego")
    if sweep.instances is not None:
        for box in frame.boxes or ():
            if box.kind in _CATEGORY_OF_KIND:
                out[sweep.instances == box.track] = CATEGORIES.index(_CATEGORY_OF_KIND[box.kind])
    return out.tobytes()


def _map(scene: Scene) -> bytes:
    """Greyscale PNG of the place or drive from above, y up: 255 on streets and pavements, without rounded corners."""
    wide, tall = _MAP_SIDE_M, _MAP_SIDE_M
    legs = scene.parts
    if isinstance(scene, Stretch):  # the map is that of the whole drive
        legs, line = scene.drive.legs, scene.drive.ego.line
        wide, tall = (_MAP_SIDE_M + float(np.ceil(line[:, axis].max())) for axis in (0, 1))
    image = Image.new("L", (round(wide / _MAP_RESOLUTION_M), round(tall / _MAP_RESOLUTION_M)))
    draw = ImageDraw.Draw(image)
    for leg in legs:
        _draw_streets(draw, leg, tall)
    return png(np.asarray(image))


def _draw_streets(draw: ImageDraw.ImageDraw, scene: Scene, tall: float) -> None:
    """Draws one street, its side streets and its pavements on a map that is `tall` metres high."""
    street = scene.street

    def band(s0: float, s1: float, t0: float, t1: float) -> None:
        s = np.linspace(s0, s1, max(2, int((s1 - s0) / 2)))
        edge = np.concatenate([street.to_world(s, np.full_like(s, t0)), street.to_world(s[::-1], np.full_like(s, t1))])
        metres = edge + GLOBAL_FROM_WORLD_M
        pixels = np.stack([metres[:, 0], tall - metres[:, 1]], 1) / _MAP_RESOLUTION_M
        draw.polygon([(x, y) for x, y in pixels], fill=255)

    band(street.start - 60, street.end + 60, -street.half_width, street.half_width)
    for crossing in scene.crossings:
        reach = street.half_width + 60
        band(crossing.start, crossing.end, -reach if crossing.side <= 0 else 0, reach if crossing.side >= 0 else 0)
    for block in scene.blocks:
        first = street.half_width + (block.verge if block.verge_first else 0)
        band(block.start, block.end, block.side * first, block.side * (first + block.sidewalk))


# --- records ----------------------------------------------------------------------------------------------------------


def _pose(frame: Frame, sensor: CameraFrame | Sweep) -> np.ndarray:
    """`(4, 4)` global from ego at the sensor's own time."""
    pose = frame.world_from_ego if sensor.world_from_ego is None else sensor.world_from_ego
    assert pose is not None
    pose = np.array(pose, float)
    pose[:3, 3] += GLOBAL_FROM_WORLD_M
    return pose


def _data_row(
    place: Place,
    channel: str,
    sensor: CameraFrame | Sweep,
    frame: Frame,
    key: bool,
    ego_from_sensor: np.ndarray | None,
) -> dict[str, Any]:
    assert ego_from_sensor is not None
    time_us = _time(place, sensor, frame)
    pose = _pose(frame, sensor)
    return {
        "channel": channel,
        "filename": _filename(place, channel, time_us, key),
        "timestamp": time_us,
        "is_key_frame": key,
        "ego_translation": pose[:3, 3].tolist(),
        "ego_rotation": quaternion_from_rotation(pose[:3, :3]).tolist(),
        "sensor_translation": np.asarray(ego_from_sensor)[:3, 3].tolist(),
        "sensor_rotation": quaternion_from_rotation(np.asarray(ego_from_sensor)[:3, :3]).tolist(),
    }


def _box_rows(frame: Frame) -> list[dict[str, Any]]:
    sweep = frame.lidars[_LIDAR][0]
    assert sweep.ego_from_lidar is not None
    lidar = _pose(frame, sweep) @ sweep.ego_from_lidar
    points = transform(lidar, sweep.points[:, :3])
    rows = []
    for box in frame.boxes or ():
        if box.kind not in _CATEGORY_OF_KIND:
            continue
        center = np.asarray(box.center, float) + GLOBAL_FROM_WORLD_M
        length, width, height = (float(v) for v in box.size)
        rows.append(
            {
                "track": int(box.track),
                "category": _CATEGORY_OF_KIND[box.kind],
                "attribute": _attribute(box),
                "visibility": _visibility(box.visibility),
                "translation": center.tolist(),
                "size": [width, length, height],
                "rotation": [float(np.cos(box.yaw / 2)), 0.0, 0.0, float(np.sin(box.yaw / 2))],
                "num_lidar_pts": int(points_in_box(box_array(replace(box, center=center)), points).sum()),
            }
        )
    return rows


def _attribute(box: Box3D) -> str:
    if box.kind in ("cyclist", "motorcyclist"):
        return "cycle.with_rider"
    if box.kind in ("bicycle", "motorcycle"):
        return "cycle.without_rider"
    stands = box.velocity is not None and np.linalg.norm(box.velocity) < 0.2
    if box.kind == "person":
        return "pedestrian.moving" if box.moving and not stands else "pedestrian.standing"
    if box.moving:
        return "vehicle.stopped" if stands else "vehicle.moving"
    return "vehicle.parked"


def _visibility(share: float | None) -> str:
    """Token of the bin that `share` lies in, empty if it is unknown."""
    return "" if share is None else str(1 + int(np.searchsorted([0.4, 0.6, 0.8], share, side="right")))


# --- tables -----------------------------------------------------------------------------------------------------------


def _tables(records: Sequence[tuple[Place, Record]]) -> dict[str, list[dict]]:
    """Rows of all tables by name."""
    split = records[0][0].split
    out = _fixed_tables(split)
    out["sensor"] = [
        {"token": _token("sensor", name), "channel": name, "modality": "lidar" if name == _LIDAR else "camera"}
        for name in dict.fromkeys(row["channel"] for row in records[0][1]["data"])
    ]
    for name in _SCENE_TABLES:
        out[name] = []
    for _, scene in groupby(records, key=lambda pair: pair[0].sequence):
        for name, rows in _scene_tables(list(scene)).items():
            out[name] += rows
    if split != "test":
        out["lidarseg"] = [
            {
                "token": row["token"],
                "sample_data_token": row["token"],
                "filename": _lidarseg_file(split, row["filename"]),
            }
            for row in out["sample_data"]
            if row["is_key_frame"] and row["fileformat"] == "pcd"
        ]
    return out


def _fixed_tables(split: str) -> dict[str, list[dict]]:
    category = [
        {"token": _token("category", name), "name": name, "description": "", "index": index}
        for index, name in enumerate(CATEGORIES)
    ]
    if split == "test":  # without lidarseg the table has neither its classes nor the index
        labelled = ("noise", "flat.", "static.", "vehicle.ego")
        category = [
            {key: value for key, value in row.items() if key != "index"}
            for row in category
            if not str(row["name"]).startswith(labelled)
        ]
    return {
        "category": category,
        "attribute": [
            {"token": _token("attribute", name), "name": name, "description": text}
            for name, text in _ATTRIBUTES.items()
        ],
        "visibility": [
            {"token": token, "level": level, "description": f"{level[1:].replace('-', ' to ')} % of it are seen"}
            for token, level in _VISIBILITIES.items()
        ],
    }


def _scene_tables(records: list[tuple[Place, Record]]) -> dict[str, list[dict]]:
    """Rows of one scene."""
    place = records[0][0]
    logfile = _logfile(place)
    scene, log = _token("scene", logfile), _token("log", logfile)
    samples = [_token("sample", logfile, record["timestamp"]) for _, record in records]
    began = logfile.split("-", 1)[1]
    data, poses, sensors = _data_tables(records, samples)
    annotations, instances = _annotation_tables(records, samples)
    return {
        "log": [
            {
                "token": log,
                "logfile": logfile,
                "vehicle": "synthetic",
                "date_captured": began[:10],
                "location": f"synthetic-{place.seed:08d}",
            }
        ],
        "map": [
            {
                "token": _token("map", logfile),
                "log_tokens": [log],
                "category": "semantic_prior",
                "filename": _map_file(place),
            }
        ],
        "scene": [
            {
                "token": scene,
                "name": scene_name(place.split, place.sequence),
                "description": _description(place, [record["condition"] for _, record in records]),
                "log_token": log,
                "nbr_samples": len(samples),
                "first_sample_token": samples[0],
                "last_sample_token": samples[-1],
            }
        ],
        "sample": [
            {"token": token, "timestamp": record["timestamp"], "scene_token": scene, **links}
            for token, (_, record), links in zip(samples, records, _links(samples))
        ],
        "sample_data": data,
        "ego_pose": poses,
        "calibrated_sensor": sensors,
        "sample_annotation": annotations,
        "instance": instances,
    }


def _description(place: Place, conditions: Sequence[str]) -> str:
    """Names night and rain as the real descriptions do, by which users pick scenes."""
    kind = [place.kind] if place.kind else []
    return ", ".join([f"Synthetic street of seed {place.seed}", *kind, *dict.fromkeys(conditions)])


def _links(tokens: Sequence[str]) -> list[dict[str, str]]:
    """`prev` and `next` of every row of a chain."""
    around = ["", *tokens, ""]
    return [{"prev": around[k], "next": around[k + 2]} for k in range(len(tokens))]


def _data_tables(records: list[tuple[Place, Record]], samples: list[str]) -> tuple[list[dict], list[dict], list[dict]]:
    """`sample_data`, `ego_pose` and `calibrated_sensor` of one scene."""
    logfile = _logfile(records[0][0])
    rows = [(sample, row) for sample, (_, record) in zip(samples, records) for row in record["data"]]
    data, poses, sensors = [], [], []
    for channel in dict.fromkeys(row["channel"] for _, row in rows):
        chain = [(sample, row) for sample, row in rows if row["channel"] == channel]
        tokens = [_token("sample_data", row["filename"]) for _, row in chain]
        calibrated = _token("calibrated_sensor", logfile, channel)
        first = chain[0][1]
        sensors.append(
            {
                "token": calibrated,
                "sensor_token": _token("sensor", channel),
                "translation": first["sensor_translation"],
                "rotation": first["sensor_rotation"],
                "camera_intrinsic": first["camera_intrinsic"],
                **first.get("lens", {}),
            }
        )
        for (sample, row), token, links in zip(chain, tokens, _links(tokens)):
            pose = _token("ego_pose", row["filename"])
            poses.append(
                {
                    "token": pose,
                    "timestamp": row["timestamp"],
                    "translation": row["ego_translation"],
                    "rotation": row["ego_rotation"],
                }
            )
            data.append(
                {
                    "token": token,
                    "sample_token": sample,
                    "ego_pose_token": pose,
                    "calibrated_sensor_token": calibrated,
                    "filename": row["filename"],
                    "fileformat": "pcd" if channel == _LIDAR else "jpg",
                    "width": row["width"],
                    "height": row["height"],
                    "timestamp": row["timestamp"],
                    "is_key_frame": row["is_key_frame"],
                    **links,
                }
            )
    return data, poses, sensors


def _annotation_tables(records: list[tuple[Place, Record]], samples: list[str]) -> tuple[list[dict], list[dict]]:
    """`sample_annotation` and `instance` of one scene. An object is annotated from the first keyframe that has a point
    on
    it to the last, as the annotators of nuScenes did."""
    logfile = _logfile(records[0][0])
    tracks: dict[int, list[tuple[str, Record]]] = {}
    for sample, (_, record) in zip(samples, records):
        for box in record["boxes"]:
            tracks.setdefault(box["track"], []).append((sample, box))
    annotations, instances = [], []
    for track, seen in sorted(tracks.items()):
        hit = [k for k, (_, box) in enumerate(seen) if box["num_lidar_pts"]]
        if not hit:
            continue
        chain = seen[hit[0] : hit[-1] + 1]
        tokens = [_token("sample_annotation", sample, track) for sample, _ in chain]
        instance = _token("instance", logfile, track)
        instances.append(
            {
                "token": instance,
                "category_token": _token("category", chain[0][1]["category"]),
                "nbr_annotations": len(chain),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for (sample, box), token, links in zip(chain, tokens, _links(tokens)):
            annotations.append(
                {
                    "token": token,
                    "sample_token": sample,
                    "instance_token": instance,
                    "attribute_tokens": [_token("attribute", box["attribute"])],
                    "visibility_token": box["visibility"],
                    "translation": box["translation"],
                    "size": box["size"],
                    "rotation": box["rotation"],
                    "num_lidar_pts": box["num_lidar_pts"],
                    "num_radar_pts": 0,
                    **links,
                }
            )
    return annotations, instances
