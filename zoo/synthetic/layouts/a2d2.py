"""The layout of A2D2's box set: front centre camera, colour labels, lidar points in the image, 3D boxes.

Points and boxes are in the camera's view frame (x forward, y left, z up) at the time of the picture: the vehicle's
motion since each sweep is taken out of the points, and boxes of moving objects are where the object is at that time.

Deviations: the rig's own camera has no distortion, so `CamMatrixOriginal` equals `CamMatrix` and `Distortion` is 0.
`truncation`, `occlusion` and `alpha` are filled in: the share cut off by the image, the share hidden, and the direction
of the object as seen from the camera. Boxes are upright in the world, so their `axis` is not exactly the view's z. The
world has no curbstones, road blocks and so on, so not all of the 55 colours occur; pixels without a class are "Blurred
area". Buses are trucks, trains are utility vehicles, riders have the colour of what they ride, and trains have no box.

With a lens of one's own (`--rig FILE.yaml`) pictures, labels and `2d_bbox` are distorted, and `Distortion` says how;
`Lens` names the model, `Telecam` or `Fisheye`, as in the data set. `row` and `col` of the points are those of the
picture without distortion, in `CamMatrix`. A rolling shutter is `LineTime`, in seconds, a key of ours.

On request, in folders that the data set does not have: `depth` and `flow` of the picture in KITTI's encodings. The last
frame of a place has no flow.

Source: Geyer et al., A2D2, arXiv 2004.06320; real files.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame
from zoo.geometry.boxes import box_array, box_corners, wrap_angle
from zoo.geometry.cameras import rays_through
from zoo.geometry.distortion import KannalaBrandt
from zoo.geometry.transforms import invert, transform, yaw_matrix
from zoo.synthetic.layouts import Files, Place, Record, Rendered, png, reader_of
from zoo.synthetic.layouts.extras import DEPTH, FLOW, camera_files, of_camera
from zoo.synthetic.layouts.geometry import (
    VIEW_FROM_CAMERA,
    box_at,
    camera_of,
    hidden_share,
    image_box,
    sensor_pose,
)
from zoo.synthetic.layouts.street import Marking, markings_at
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.shapes.surfaces import Label

__all__ = ["COLORS", "DEFAULT_SIZE", "EXTRAS", "RIG", "closing_files", "files", "label_image", "record", "scene_name"]

RIG = "a2d2"
DEFAULT_SIZE = (1208, 1920)
EXTRAS = (DEPTH, FLOW)

COLORS = {
    "Car 1": 0xFF0000,
    "Car 2": 0xC80000,
    "Car 3": 0x960000,
    "Car 4": 0x800000,
    "Bicycle 1": 0xB65906,
    "Bicycle 2": 0x963204,
    "Bicycle 3": 0x5A1E01,
    "Bicycle 4": 0x5A1E1E,
    "Pedestrian 1": 0xCC99FF,
    "Pedestrian 2": 0xBD499B,
    "Pedestrian 3": 0xEF59BF,
    "Truck 1": 0xFF8000,
    "Truck 2": 0xC88000,
    "Truck 3": 0x968000,
    "Small vehicles 1": 0x00FF00,
    "Small vehicles 2": 0x00C800,
    "Small vehicles 3": 0x009600,
    "Traffic signal 1": 0x0080FF,
    "Traffic signal 2": 0x1E1C9E,
    "Traffic signal 3": 0x3C1C64,
    "Traffic sign 1": 0x00FFFF,
    "Traffic sign 2": 0x1EDCDC,
    "Traffic sign 3": 0x3C9DC7,
    "Utility vehicle 1": 0xFFFF00,
    "Utility vehicle 2": 0xFFFFC8,
    "Sidebars": 0xE96400,
    "Speed bumper": 0x6E6E00,
    "Curbstone": 0x808000,
    "Solid line": 0xFFC125,
    "Irrelevant signs": 0x400040,
    "Road blocks": 0xB97A57,
    "Tractor": 0x000064,
    "Non-drivable street": 0x8B636C,
    "Zebra crossing": 0xD23273,
    "Obstacles / trash": 0xFF0080,
    "Poles": 0xFFF68F,
    "RD restricted area": 0x960096,
    "Animals": 0xCCFF99,
    "Grid structure": 0xEEA2AD,
    "Signal corpus": 0x212CB1,
    "Drivable cobblestone": 0xB432B4,
    "Electronic traffic": 0xFF46B9,
    "Slow drive area": 0xEEE9BF,
    "Nature object": 0x93FDC2,
    "Parking area": 0x9696C8,
    "Sidewalk": 0xB496C8,
    "Ego car": 0x48D1CC,
    "Painted driv. instr.": 0xC87DD2,
    "Traffic guide obj.": 0x9F79EE,
    "Dashed line": 0x8000FF,
    "RD normal street": 0xFF00FF,
    "Sky": 0x87CEFF,
    "Buildings": 0xF1E6FF,
    "Blurred area": 0x60458F,
    "Rain dirt": 0x352E52,
}
"""24-bit colour of every class, in the order of `class_list.json`."""

_BY_LABEL = {
    Label.ROAD: "RD normal street",
    Label.SIDEWALK: "Sidewalk",
    Label.BUILDING: "Buildings",
    Label.WALL: "Sidebars",
    Label.FENCE: "Grid structure",
    Label.POLE: "Poles",
    Label.TRAFFIC_LIGHT: "Traffic signal 1",
    Label.TRAFFIC_SIGN: "Traffic sign 1",
    Label.VEGETATION: "Nature object",
    Label.TERRAIN: "Nature object",
    Label.SKY: "Sky",
    Label.NONE: "Blurred area",
}
_NUMBERED = {
    Label.PERSON: ("Pedestrian", 3),
    Label.CAR: ("Car", 4),
    Label.TRUCK: ("Truck", 3),
    Label.BUS: ("Truck", 3),
    Label.TRAIN: ("Utility vehicle", 2),
    Label.MOTORCYCLE: ("Small vehicles", 3),
    Label.BICYCLE: ("Bicycle", 4),
    Label.RIDER: ("Bicycle", 4),
}
"""Classes whose neighbouring objects have different colours, and how many there are."""

_MARKED = {
    Marking.SOLID: "Solid line",
    Marking.DASHED: "Dashed line",
    Marking.ZEBRA: "Zebra crossing",
    Marking.OTHER: "Painted driv. instr.",
    Marking.PARKING: "Parking area",
}
_CLASSES = {
    "car": "Car",
    "van": "VanSUV",
    "truck": "Truck",
    "bus": "Bus",
    "trailer": "Trailer",
    "motorcycle": "Motorcycle",
    "motorcyclist": "MotorBiker",
    "bicycle": "Bicycle",
    "cyclist": "Cyclist",
    "person": "Pedestrian",
}
_LIDAR_IDS = {0: "front_left", 1: "rear_right", 2: "front_right", 3: "front_center", 4: "rear_left"}

_CAMERA = "front_center"
_TREE = "camera_lidar_semantic_bboxes"
_RAISED = 0.75  # metres: A2D2's vehicle frame lies above the road
_MARKED_TO_M = 60.0  # kinds of paint on the road are distinguished up to here
_EPOCH_US = 1_514_764_800_000_000  # 2018-01-01
_PLACE_US = 600_000_000  # ten minutes between places


def _start_us(place: Place) -> int:
    """Microseconds since 1970 of the place's time 0, different for every seed of a run."""
    return _EPOCH_US + place.seed % 500_000 * _PLACE_US


def scene_name(place: Place) -> str:
    """`YYYYMMDD_hhmmss` of the place's time 0: the seed can be read from it."""
    return datetime.fromtimestamp(_start_us(place) / 1e6, UTC).strftime("%Y%m%d_%H%M%S")


def _colors(names: Sequence[str]) -> np.ndarray:
    packed = np.array([COLORS[name] for name in names], np.uint32)
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)


def label_image(frame: Frame, scene: Scene) -> np.ndarray:
    """`(H, W, 3)` uint8 colours of the front centre camera's classes; `scene` is the place.

    Raises:
        InputError: If the camera has no labels, instances or depth.
    """
    camera = camera_of(frame, _CAMERA, "a2d2")
    labels, instances, depth = camera.labels, camera.instances, camera.depth_m
    if labels is None or instances is None or depth is None:
        raise InputError(f"frame {frame.id}: a2d2's labels are made of labels, instances and depth; one is missing")
    table = np.zeros((256, 3), np.uint8)
    table[Label.NONE] = _colors(["Blurred area"])[0]
    for label, name in _BY_LABEL.items():
        table[label] = _colors([name])[0]
    out = table[labels]
    ridden = _ridden(labels, instances)
    for label, (name, count) in _NUMBERED.items():
        here = labels == label
        if not here.any():
            continue
        number = instances[here]
        if label == Label.RIDER:
            mount = np.array([ridden.get(int(rider), 0) for rider in number])
            small = mount // 1000 == 32
            colors = _colors([f"{name} {k + 1}" for k in range(count)])[mount % 1000 % count]
            colors[small] = _colors([f"Small vehicles {k + 1}" for k in range(3)])[mount[small] % 1000 % 3]
            out[here] = colors
        else:
            out[here] = _colors([f"{name} {k + 1}" for k in range(count)])[np.maximum(number % 1000, 0) % count]
    road = np.nonzero((labels == Label.ROAD) & (depth < _MARKED_TO_M))
    if len(road[0]):
        assert camera.intrinsics is not None
        if camera.distortion is None:
            rays = np.stack([road[1], road[0], np.ones(len(road[0]))], 1) @ np.linalg.inv(camera.intrinsics).T
        else:
            rays = rays_through(np.stack([road[1], road[0]], 1), camera.intrinsics, camera.distortion)
        paint = markings_at(scene, transform(sensor_pose(camera, frame), rays * depth[road][:, None]))
        for marking, name in _MARKED.items():
            chosen = paint == marking
            out[road[0][chosen], road[1][chosen]] = _colors([name])[0]
    return out


def _ridden(labels: np.ndarray, instances: np.ndarray) -> dict[int, int]:
    """Instance of the bicycle or motorcycle that each rider's instance touches most."""
    touching: dict[tuple[int, int], int] = {}
    for a, b in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        for one, other in ((a, b), (b, a)):
            pair = (labels[one] == Label.RIDER) & np.isin(labels[other], (Label.MOTORCYCLE, Label.BICYCLE))
            both = np.stack([instances[one][pair], instances[other][pair]], 1)
            for (rider, mount), count in zip(*np.unique(both, axis=0, return_counts=True)):
                key = (int(rider), int(mount))
                touching[key] = touching.get(key, 0) + int(count)
    best: dict[int, int] = {}
    for (rider, mount), count in sorted(touching.items()):
        if rider not in best or count > touching[rider, best[rider]]:
            best[rider] = mount
    return best


def _points(frame: Frame, place: Place) -> dict[str, np.ndarray]:
    """The arrays of a lidar file: points of the newest sweeps of all lidars that project into the image."""
    camera = camera_of(frame, _CAMERA, "a2d2")
    view_from_world = VIEW_FROM_CAMERA @ invert(sensor_pose(camera, frame))
    assert camera.intrinsics is not None
    (fx, _, cx), (_, fy, cy) = camera.intrinsics[:2]
    height, width = camera.image.shape[:2]
    parts: dict[str, list[np.ndarray]] = {}
    for number, name in _LIDAR_IDS.items():
        if name not in frame.lidars:
            continue
        sweep = frame.lidars[name][0]
        raw = sweep.points
        xyz = transform(view_from_world @ sensor_pose(sweep, frame), raw[:, :3])
        ahead = np.maximum(xyz[:, 0], 1e-9)
        column, row = cx - fx * xyz[:, 1] / ahead, cy - fy * xyz[:, 2] / ahead
        seen = (xyz[:, 0] > 0.1) & (np.abs(column - (width - 1) / 2) < width / 2)
        seen &= np.abs(row - (height - 1) / 2) < height / 2
        time_us = np.full(len(raw), sweep.timestamp_us or frame.timestamp_us or 0, np.int64)
        if "time_s" in sweep.channels:
            time_us += np.round(raw[:, sweep.channels.index("time_s")].astype(np.float64) * 1e6).astype(np.int64)
        intensity = raw[:, sweep.channels.index("intensity")]
        values = {
            "azimuth": np.arctan2(raw[:, 1], raw[:, 0]).astype(np.float64) % (2 * np.pi),
            "row": row,
            "lidar_id": np.full(len(raw), float(number)),
            "depth": xyz[:, 0],
            "reflectance": np.clip(np.round(intensity * 255), 0, 255).astype(np.int64),
            "col": column,
            "points": xyz,
            "timestamp": time_us + _start_us(place),
            "distance": np.linalg.norm(xyz, axis=1),
        }
        for key, value in values.items():
            parts.setdefault(key, []).append(value[seen])
    if not parts:
        known = ", ".join(frame.lidars) or "none"
        raise InputError(f"frame {frame.id} has none of A2D2's five lidars (it has {known}); a2d2 needs its own rig")
    return {key: np.concatenate(value) for key, value in parts.items()}


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    """A `.npz` file of plain arrays with the same bytes every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content.getvalue())
    return buffer.getvalue()


def _boxes(frame: Frame) -> dict[str, dict[str, object]]:
    camera = camera_of(frame, _CAMERA, "a2d2")
    size = (camera.image.shape[0], camera.image.shape[1])
    time_us = frame.timestamp_us if camera.timestamp_us is None else camera.timestamp_us
    later = ((time_us or 0) - (frame.timestamp_us or 0)) / 1e6
    world_from_camera = sensor_pose(camera, frame)
    camera_from_world = invert(world_from_camera)
    assert camera.intrinsics is not None
    out: dict[str, dict[str, object]] = {}
    for there in frame.boxes or ():
        box = box_at(there, later)
        corners = transform(camera_from_world, box_corners(box_array(box)))
        on_image = image_box(corners, camera.intrinsics, size, camera.distortion)
        if box.kind not in _CLASSES or on_image is None or box.num_points == 0:
            continue
        hidden = hidden_share(box, camera, world_from_camera)
        if hidden < 1:
            out[f"box_{len(out)}"] = _box(box, len(out), hidden, camera_from_world, corners, *on_image)
    return out


def _box(
    box: Box3D,
    number: int,
    occlusion: float,
    camera_from_world: np.ndarray,
    corners: np.ndarray,
    rectangle: tuple[float, float, float, float],
    truncation: float,
) -> dict[str, object]:
    view_from_world = VIEW_FROM_CAMERA @ camera_from_world
    rotation = view_from_world[:3, :3] @ yaw_matrix(box.yaw)
    axis, angle = _axis_angle(rotation)
    center = transform(view_from_world, box.center)
    heading = np.arctan2(rotation[1, 0], rotation[0, 0]) - np.arctan2(center[1], center[0])
    return {
        "2d_bbox": list(rectangle),
        "3d_points": transform(VIEW_FROM_CAMERA, corners).tolist(),
        "alpha": float(wrap_angle(heading)),
        "axis": axis.tolist(),
        "center": center.tolist(),
        "class": _CLASSES[box.kind],
        "id": number,
        "occlusion": occlusion,
        "rot_angle": angle,
        "size": box.size.tolist(),
        "truncation": truncation,
    }


def _axis_angle(rotation: np.ndarray) -> tuple[np.ndarray, float]:
    """Unit axis and angle, 0 to pi, of a `(3, 3)` rotation, from its quaternion.

    Not by `quaternion_from_rotation`, whose last digits differ: A2D2 files must stay the same byte for byte.
    """
    # The rows of 4 q q^T, q = (w, x, y, z), follow from the matrix alone. Each is q times a number; that with the
    # largest diagonal entry is the most accurate.
    m = rotation
    rows = np.array(
        [
            [1 + m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2]],
        ]
    )
    quaternion = rows[np.argmax(np.diag(rows))]
    quaternion = quaternion / np.linalg.norm(quaternion)
    if quaternion[0] < 0:
        quaternion = -quaternion
    length = float(np.linalg.norm(quaternion[1:]))
    if length < 1e-12:
        return np.array([0.0, 0.0, 1.0]), 0.0
    return quaternion[1:] / length, float(2 * np.arctan2(length, quaternion[0]))


def _json(value: object) -> bytes:
    return json.dumps(value, indent=4).encode()


def _view(pose: np.ndarray) -> dict[str, list[float]]:
    """Origin and axes in A2D2's vehicle frame of a sensor with the `(4, 4)` pose `pose` in ours."""
    origin = pose[:3, 3] - [0, 0, _RAISED]
    return {"origin": origin.tolist(), "x-axis": pose[:3, 0].tolist(), "y-axis": pose[:3, 1].tolist()}


def _camera_view(frame: Frame) -> dict[str, list[float]]:
    mount = camera_of(frame, _CAMERA, "a2d2").ego_from_camera
    if mount is None:
        raise InputError(f"frame {frame.id}: the front centre camera is not calibrated; a2d2 needs it")
    return _view(mount @ invert(VIEW_FROM_CAMERA))


def _name(place: Place, kind: str) -> str:
    return f"{scene_name(place).replace('_', '')}_{kind}_frontcenter_{place.number:09d}"


def _camera_info(frame: Frame, place: Place) -> dict[str, object]:
    camera = camera_of(frame, _CAMERA, "a2d2")
    time_us = frame.timestamp_us if camera.timestamp_us is None else camera.timestamp_us
    return {
        "cam_name": _CAMERA,
        "cam_tstamp": _start_us(place) + (time_us or 0),
        "image_png": f"{_name(place, 'camera')}.png",
        "image_zoom": 1.0,
        "lidar_ids": {str(number): name for number, name in _LIDAR_IDS.items()},
        "pcld_npz": f"{_name(place, 'lidar')}.npz",
        "pcld_view": _camera_view(frame),
    }


def files(rendered: Rendered | None, place: Place) -> Files:
    """The files of one frame, see `zoo.synthetic.layouts.Layout`; `test` has no labels and boxes.

    Raises:
        InputError: If a file's content is requested and the frame lacks what it needs.
    """
    of = reader_of(rendered)

    def path(kind: str, ending: str) -> str:
        return f"{_TREE}/{scene_name(place)}/{kind}/cam_{_CAMERA}/{_name(place, kind)}.{ending}"

    out: Files = {
        path("camera", "png"): of(lambda it: png(camera_of(it.frame, _CAMERA, "a2d2").image)),
        path("camera", "json"): of(lambda it: _json(_camera_info(it.frame, place))),
        path("lidar", "npz"): of(lambda it: _npz(_points(it.frame, place))),
    }
    if place.split != "test":
        out[path("label", "png")] = of(lambda it: png(label_image(it.frame, it.scene)))
        out[path("label3D", "json")] = of(lambda it: _json(_boxes(it.frame)))
        for kind, content in camera_files(place):
            out[path(kind, "png")] = of(partial(of_camera, content, _CAMERA, "a2d2"))
    return out


def record(rendered: Rendered, place: Place) -> Record:
    """The calibration."""
    frame = rendered.frame
    camera = camera_of(frame, _CAMERA, "a2d2")
    assert camera.intrinsics is not None
    lidars = {}
    for name, sweeps in frame.lidars.items():
        mount = sweeps[0].ego_from_lidar
        if mount is None:
            raise InputError(f"frame {frame.id}: lidar {name} is not calibrated; a2d2 needs it")
        lidars[name] = _view(mount)
    return {
        "view": _camera_view(frame),
        "intrinsics": camera.intrinsics.tolist(),
        "size": [camera.image.shape[1], camera.image.shape[0]],
        **_lens(camera),
        "lidars": lidars,
    }


def _lens(camera: CameraFrame) -> dict[str, Any]:
    """Entries of the record for cameras that are no ideal pinholes."""
    out: dict[str, Any] = {}
    if camera.distortion is not None:
        fisheye = isinstance(camera.distortion, KannalaBrandt)
        out |= {"lens": "Fisheye" if fisheye else "Telecam", "distortion": list(camera.distortion.coefficients)}
    if camera.line_time_s:
        out["line_time_s"] = camera.line_time_s
    return out


def closing_files(records: Sequence[tuple[Place, Record]]) -> Files:
    """`cams_lidars.json` and `class_list.json`."""
    about = records[0][1]
    straight = {"origin": [0.0, 0.0, 0.0], "x-axis": [1.0, 0.0, 0.0], "y-axis": [0.0, 1.0, 0.0]}
    extent = {"x-range": [-1.0, 4.0], "y-range": [-1.25, 1.25], "z-range": [-_RAISED, 1.5]}
    camera = {
        "tstamp_delay": 25000,
        "view": about["view"],
        "Lens": about.get("lens", "Telecam"),
        "CamMatrix": about["intrinsics"],
        "CamMatrixOriginal": about["intrinsics"],
        "Distortion": [about.get("distortion", [0.0] * 5)],
        "Resolution": about["size"],
    }
    if "line_time_s" in about:
        camera["LineTime"] = about["line_time_s"]
    sensors = {
        "vehicle": {"view": straight, "ego-dimensions": extent},
        "lidars": {name: {"view": view} for name, view in about["lidars"].items()},
        "cameras": {_CAMERA: camera},
    }
    classes = {f"#{color:06x}": name for name, color in COLORS.items()}
    return {
        "cams_lidars.json": lambda: json.dumps(sensors, indent=2).encode(),
        f"{_TREE}/class_list.json": lambda: _json(classes),
    }
