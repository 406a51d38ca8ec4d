"""A2D2: camera images with coloured labels, lidar points in the camera's view, and 3D boxes.

Two trees of the same form are read together, the semantic set and its part with boxes:
`camera_lidar_semantic[_bboxes]/{SCENE}/{camera,lidar,label,label3D}/cam_{NAME}/`. A frame is one image of one camera
with what belongs to it: images of two cameras with the same number were not taken at the same time.

Images and labels come without the distortion of the lens, so that points project into them. Points are in the camera's
view frame (x forward, y left, z up, at the camera), merged from five lidars; that is the lidar frame here, and each
point has the label of the pixel that it falls on. The world frame of a frame is its vehicle frame, on the ground.

Source: Geyer et al., A2D2, arXiv 2004.06320; `class_list.json`; real files. There is no official split; `SCENES` lists
one by drives that others have used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.classes import A2D2
from zoo.data.a2d2_cameras import Camera, json_of, read_cameras, undistort
from zoo.data.dataset import Dataset
from zoo.data.folders import visible_files
from zoo.data.lazy import LazyMapping, LazySequence
from zoo.data.scans import MAX_POINTS, checked_points, read_bytes
from zoo.data.terms import rendered_split
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import Box3D, CameraFrame, Frame, SensorFacts, Sweep
from zoo.geometry.cameras import VEHICLE_FROM_OPTICAL
from zoo.geometry.transforms import pose, transform
from zoo.npz import read_npz

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

__all__ = ["CHANNELS", "IGNORED", "SCENES", "label_of_color", "read"]

CHANNELS = ("x", "y", "z", "intensity")
"""Columns of the points."""
SCENES = {
    "val": ("20180925_101535", "20181008_095521", "20181107_132300", "20181204_191844"),
    "test": ("20180810_142822",),
}
"""Scenes of the splits; those of `train` are all others."""
_FURTHER_COLORS = {
    "Car": (0xC80000, 0x960000, 0x800000),
    "Bicycle": (0x963204, 0x5A1E01, 0x5A1E1E),
    "Pedestrian": (0xBD499B, 0xEF59BF),
    "Truck": (0xC88000, 0x968000),
    "Small vehicles": (0x00C800, 0x009600),
    "Traffic signal": (0x1E1C9E, 0x3C1C64),
    "Traffic sign": (0x1EDCDC, 0x3C9DC7),
    "Utility vehicle": (0xFFFFC8,),
}
"""Colours 2 to 4 of the classes that have several, to tell neighbouring objects apart."""
IGNORED = {"Ego car": 0x48D1CC, "Blurred area": 0x60458F, "Rain dirt": 0x352E52}
"""Colours that show no part of the street. A2D2 itself names no ignored class."""
_CLASS_OF_BOX = {
    "animal": "Animals",
    "bicycle": "Bicycle",
    "bus": "Truck",
    "car": "Car",
    "cyclist": "Bicycle",
    "motorbiker": "Small vehicles",
    "motorcycle": "Small vehicles",
    "pedestrian": "Pedestrian",
    "truck": "Truck",
    "utilityvehicle": "Utility vehicle",
    "vansuv": "Car",
}
"""Class of a box by its name in lower case; the semantic classes have no buses and no motorcycles of their own."""
_TREES = ("camera_lidar_semantic", "camera_lidar_semantic_bboxes")
_KINDS = (("camera", "png"), ("camera", "json"), ("lidar", "npz"), ("label", "png"), ("label3D", "json"))
_NAME = re.compile(r"(\d{14})_(?:camera|lidar|label|label3D)_([a-z]+)_(\d{1,12})")
_MAX_RANGE_M = 100.0
_UNKNOWN = 254
_VIEW_FROM_CAMERA = pose(VEHICLE_FROM_OPTICAL, np.zeros(3))
_ARRAYS = {"points": ("points", "pcloud_points"), "reflectance": ("reflectance", "pcloud_attr.reflectance")}
"""Names of the arrays in the labelled and in the unlabelled set."""


def read(root: Path, split: str, camera: str | None = None) -> Dataset:
    """The frames of one split, scene by scene and camera by camera.

    Args:
        root: Folder with `cams_lidars.json` and one or both trees.
        split: `train`, `val` or `test`, see `SCENES`, or `all`. A folder of the synthetic world is the split that it
            was rendered as.
        camera: Only the frames of this camera (`front_center`); all by default.

    Raises:
        InputError: If the layout is unknown, the calibration is missing, or the split is empty.
    """
    cameras = read_cameras(root / "cams_lidars.json")
    if camera is not None and camera not in cameras:
        raise InputError(f"a2d2 has no camera {camera!r}; cameras: {', '.join(cameras)}")
    files = _files(root)
    own_split = rendered_split(root)
    places = {scene: place for place, scene in enumerate(sorted({scene for scene, _, _ in files}))}
    frames = [
        _frame(scene, places[scene], cameras, name, number, found)
        for (scene, name, number), found in sorted(files.items())
        if (camera is None or name == camera) and split in ("all", own_split or _split_of(scene))
    ]
    if not frames:
        there = ", ".join(sorted({scene for scene, _, _ in files})[:6]) or "none"
        raise InputError(
            f"a2d2 {split} is empty: none of its scenes is in {root}, but {there}; read all with the split all"
        )
    return Dataset(kind="a2d2", root=root, split=split, classes=A2D2, frames=tuple(frames), video=True)


def _split_of(scene: str) -> str:
    return next((split for split, scenes in SCENES.items() if scene in scenes), "train")


def _files(root: Path) -> dict[tuple[str, str, int], dict[str, Path]]:
    """The files of each image by scene, camera and number."""
    trees = [root / name for name in _TREES if (root / name).is_dir()]
    if not trees:
        raise InputError(f"{root} is not A2D2: looked for {' or '.join(f'{name}/' for name in _TREES)} in it")
    found: dict[tuple[str, str, int], dict[str, Path]] = {}
    for tree in trees:
        for kind, ending in _KINDS:
            for path in visible_files(tree, f"*/{kind}/cam_*/*.{ending}"):
                name = _NAME.fullmatch(path.stem)
                if name is None:
                    raise InputError(f"{path}: expected a name such as 20180807145028_{kind}_frontcenter_000001617")
                key = (path.parent.parent.parent.name, path.parent.name.removeprefix("cam_"), int(name[3]))
                found.setdefault(key, {}).setdefault("info" if (kind, ending) == ("camera", "json") else kind, path)
    return found


def _frame(
    scene: str, place: int, cameras: Mapping[str, Camera], name: str, number: int, files: dict[str, Path]
) -> Frame:
    if name not in cameras:
        raise InputError(f"{next(iter(files.values()))}: cams_lidars.json has no camera {name}")
    camera = cameras[name]
    label = files.get("label")
    sweeps: dict[str, tuple[Sweep, ...]] = {}
    if (lidar := files.get("lidar")) is not None:
        sweep = Sweep(
            points_source=partial(_read_points, lidar),
            channels=CHANNELS,
            labels_source=None if label is None else partial(_point_labels, lidar, label, camera),
            ego_from_lidar=camera.ego_from_view,
            sensor=SensorFacts(
                beams=None,  # five lidars of 16 beams in one cloud
                height_m=float(camera.ego_from_view[2, 3]),
                max_range_m=_MAX_RANGE_M,
                intensity_scale="0-255",
                forward="+x",
                left="+y",
                up="+z",
                sweeps=1,
            ),
        )
        sweeps[name] = (sweep,)
    boxes = files.get("label3D")
    image = files.get("camera")
    return Frame(
        id=f"{scene.replace('_', '')}_{name.replace('_', '')}_{number:09d}",
        scene=scene,
        cameras={} if image is None else LazyMapping({name: partial(_camera_frame, image, files, camera)}),
        lidars=sweeps,
        boxes=None if boxes is None else LazySequence(partial(_boxes, boxes, camera)),
        world_from_ego=np.eye(4),
        meta={"camera": name, "number": number, "place": place, "files": files},
    )


def _camera_frame(image: Path, files: Mapping[str, Path], camera: Camera) -> CameraFrame:
    label, info = files.get("label"), files.get("info")
    time_us = None if info is None else json_of(info, "the time of an image").get("cam_tstamp")
    return CameraFrame(
        image_source=partial(_read_image, image, camera),
        labels_source=None if label is None else partial(_pixel_labels, label, camera),
        timestamp_us=time_us if type(time_us) is int else None,
        intrinsics=camera.intrinsics,
        ego_from_camera=camera.ego_from_view @ _VIEW_FROM_CAMERA,
        image_path=image,
    )


def _of_size(image: np.ndarray, path: Path, camera: Camera) -> np.ndarray:
    if image.shape[:2] != camera.size:
        height, width = image.shape[:2]
        raise InputError(
            f"{path} has {width} x {height} pixels; {camera.name} is calibrated for {camera.size[1]} x {camera.size[0]}"
        )
    return image


def _read_image(path: Path, camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
    return undistort(_of_size(read_image(path), path, camera), camera, 0, nearest=False)


def _pixel_labels(path: Path, camera: Camera) -> UInt8[np.ndarray, "H W"]:
    """Labels of the undistorted image."""
    return undistort(_raw_labels(path, camera), camera, A2D2.ignore_index, nearest=True)


def _raw_labels(path: Path, camera: Camera) -> UInt8[np.ndarray, "H W"]:
    """Labels of the recorded image.

    Raises:
        InputError: If a colour is not in the list, as after lossy compression or resizing.
    """
    colors = _of_size(read_image(path), path, camera)
    packed = (colors[..., 0].astype(np.uint32) << 16) | (colors[..., 1].astype(np.uint32) << 8) | colors[..., 2]
    labels = label_of_color()[packed]
    if (labels == _UNKNOWN).any():
        unknown = np.unique(packed[labels == _UNKNOWN])
        listed = ", ".join(f"#{color:06x}" for color in unknown[:6]) + (", ..." if len(unknown) > 6 else "")
        raise InputError(
            f"{path} has colours that are not in class_list.json: {listed}; label images must not be resized or "
            "compressed with loss"
        )
    return labels


@lru_cache(maxsize=1)
def label_of_color() -> np.ndarray:
    """`(2^24,)` uint8: the label of each colour 0xRRGGBB, 255 for ignored ones, 254 for unknown ones."""
    table = np.full(1 << 24, _UNKNOWN, np.uint8)
    for label, (name, (red, green, blue)) in enumerate(zip(A2D2.names, A2D2.colors, strict=True)):
        table[[red << 16 | green << 8 | blue, *_FURTHER_COLORS.get(name, ())]] = label
    table[list(IGNORED.values())] = A2D2.ignore_index
    return table


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`(N, 3)` points and `(N,)` reflectances; arrays of objects, which would have to be unpickled, are refused."""
    arrays = read_npz(read_bytes(path, 64 * MAX_POINTS, "the points of an image"), str(path))
    found = []
    for names in _ARRAYS.values():
        name = next((name for name in names if name in arrays), None)
        if name is None:
            raise InputError(f"{path} has no array {names[0]}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
        found.append(arrays[name])
    points, reflectance = found
    if points.ndim != 2 or points.shape[1] != 3 or reflectance.shape != (len(points),):
        raise InputError(f"{path}: points {points.shape} and reflectance {reflectance.shape}; expected (N, 3) and (N,)")
    if len(points) > MAX_POINTS:
        raise InputError(f"{path} holds {len(points):,} points; at most {MAX_POINTS:,} are read")
    return points, reflectance


def _read_points(path: Path) -> Float32[np.ndarray, "N 4"]:
    return checked_points(np.column_stack(_arrays(path)), CHANNELS, "0-255", str(path))


def _point_labels(path: Path, label: Path, camera: Camera) -> UInt8[np.ndarray, " N"]:
    """Label of the pixel of the recorded image that each point falls on; 255 outside the image."""
    points = _arrays(path)[0].astype(np.float64)
    labels = _raw_labels(label, camera)
    out = np.full(len(points), A2D2.ignore_index, np.uint8)
    ahead = np.nonzero(points[:, 0] > 0)[0]
    x, y, z = points[ahead].T
    columns, rows = camera.raw_pixels(-y / x, -z / x)
    height, width = camera.size
    seen = (columns >= -0.5) & (rows >= -0.5) & (columns < width - 0.5) & (rows < height - 0.5)
    column, row = (np.floor(values[seen] + 0.5).astype(int) for values in (columns, rows))
    out[ahead[seen]] = labels[row, column]
    return out


def _boxes(path: Path, camera: Camera) -> list[Box3D]:
    """The boxes of a label3D file.

    Raises:
        InputError: If it is damaged or incomplete.
    """
    found = json_of(path, "the boxes of an image")
    try:
        return [_box(box, index + 1, camera) for index, box in enumerate(found.values())]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} holds no boxes of A2D2: {type(error).__name__} {error}") from error


def _box(box: Mapping[str, Any], track: int, camera: Camera) -> Box3D:
    center, size, axis = (np.array(box[key], float) for key in ("center", "size", "axis"))
    angle = float(box["rot_angle"])
    length = float(np.linalg.norm(axis)) if axis.shape == (3,) else 0.0
    shapes = center.shape == size.shape == axis.shape == (3,)
    if not shapes or not np.isfinite([*center, *size, *axis, angle]).all() or (size <= 0).any() or length < 1e-6:
        raise ValueError(f"box {track} has the centre {center}, size {size}, axis {axis} and angle {angle}")
    x, y, z = axis / length
    c, s = math.cos(angle), math.sin(angle)
    # First column of the rotation by `angle` about `axis` (Rodrigues): where the box's x axis points.
    forward = camera.ego_from_view[:3, :3] @ [c + (1 - c) * x * x, s * z + (1 - c) * x * y, -s * y + (1 - c) * x * z]
    name = str(box["class"])
    label = _CLASS_OF_BOX.get(name.lower().replace("_", ""))
    return Box3D(
        label=A2D2.ignore_index if label is None else A2D2.names.index(label),
        track=track,
        center=transform(camera.ego_from_view, center),
        size=size,
        yaw=math.atan2(forward[1], forward[0]),
        kind=name,
    )
