"""The object detection layout of KITTI.

Deviations: points, boxes and calibration are for the time of `image_2`: the vehicle's motion between sweep and image is
taken out of the points, and boxes of moving objects are where the object is at that time. Lengths and angles in labels
have six decimals, not two, since they are exact. The IMU's frame is the vehicle's. `mapping` is not written. A label's
box is upright in the camera's frame, so on a slope it is tilted slightly relative to the object's own box, which is
upright in the world. `occluded` is 1 if more than a fifth is hidden and 2 if more than three fifths are. DontCare marks
objects of which more than nine tenths are hidden, and objects without a point.

On request, for `image_2`: `depth_2`, in the encoding of the depth benchmark; `flow_occ` to the next frame of the place,
which the last frame does not have, in that of the flow benchmark; `semantic` and `instance` as in the semantics
benchmark.

Source: Geiger, Lenz and Urtasun, CVPR 2012; the readme of the object development kit; real files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame
from zoo.geometry.boxes import box_array, box_corners, wrap_angle
from zoo.geometry.transforms import invert, pitch_matrix, roll_matrix, transform, yaw_matrix
from zoo.synthetic.layouts import Files, Place, Record, Rendered, no_record, png, reader_of
from zoo.synthetic.layouts.extras import (
    CAMERA_LABELS,
    DEPTH,
    FLOW,
    camera_files,
    numbered_instances_png,
    of_camera,
)
from zoo.synthetic.layouts.geometry import (
    box_at,
    camera_of,
    hidden_share,
    image_box,
    newest_sweep,
    sensor_pose,
)

__all__ = [
    "DEFAULT_SIZE",
    "EXTRAS",
    "RIG",
    "TYPES",
    "Calibration",
    "calibration",
    "closing_files",
    "files",
    "image_time_points",
    "record",
]

RIG = "kitti"
DEFAULT_SIZE = (375, 1242)
EXTRAS = (DEPTH, FLOW, CAMERA_LABELS)
record = no_record
"""The lists need only the frames' numbers."""

TYPES = {
    "car": "Car",
    "van": "Van",
    "truck": "Truck",
    "train": "Tram",
    "person": "Pedestrian",
    "cyclist": "Cyclist",
    "bus": "Misc",
    "trailer": "Misc",
    "motorcyclist": "Misc",
    "motorcycle": "Misc",
    "bicycle": "Misc",
}
"""Type of a label by `Box3D.kind`. KITTI has no type for buses and motorcycles."""

_FOLDERS = {"depth": "depth_2", "flow": "flow_occ"}
_LEFT = 0.06  # metres that camera 2 is to the left of camera 0
_BASELINE = 0.54  # metres between the grey cameras 0 and 1, which are not rendered


_RECTIFICATION = yaw_matrix(-0.0101) @ pitch_matrix(-0.0085) @ roll_matrix(0.004)
"""The rectified camera 0 is rotated slightly relative to the calibrated one, as in the recordings."""


@dataclass(frozen=True)
class Calibration:
    """Relative poses of the sensors of one frame at the time of `image_2`.

    Attributes:
        projections: `(4, 3, 4)`: pixels of cameras 0 to 3 from the rectified camera 0.
        rect_from_velo: `(4, 4)` rectified camera 0 from the lidar.
        velo_from_imu: `(4, 4)`.
        world_from_rect: `(4, 4)` pose of the rectified camera 0.
        time_us: Of `image_2`.
    """

    projections: np.ndarray
    rect_from_velo: np.ndarray
    velo_from_imu: np.ndarray
    world_from_rect: np.ndarray
    time_us: int

    @property
    def world_from_left(self) -> np.ndarray:
        """`(4, 4)` pose of camera 2."""
        right_of_it = np.eye(4)
        right_of_it[0, 3] = -_LEFT
        return self.world_from_rect @ right_of_it

    @property
    def text(self) -> str:
        """The content of a file in `calib`."""
        unrectified = np.eye(4)
        unrectified[:3, :3] = _RECTIFICATION.T
        rows = {f"P{k}": self.projections[k] for k in range(4)}
        rows["R0_rect"] = _RECTIFICATION
        rows["Tr_velo_to_cam"] = (unrectified @ self.rect_from_velo)[:3]
        rows["Tr_imu_to_velo"] = self.velo_from_imu[:3]
        return "".join(f"{name}: {numbers(values)}\n" for name, values in rows.items()) + "\n"


def numbers(values: np.ndarray) -> str:
    """Row by row, in the format of KITTI's calibration files."""
    return " ".join(f"{value + 0.0:.12e}" for value in values.ravel())


def calibration(frame: Frame, layout: str = "kitti") -> Calibration:
    """The calibration of a frame with the cameras `image_2` and `image_3` and one lidar.

    Raises:
        InputError: If a sensor or its calibration is missing, or the two cameras are not a stereo pair.
    """
    left, right = camera_of(frame, "image_2", layout), camera_of(frame, "image_3", layout)
    sweep = newest_sweep(frame, layout)
    world_from_left = sensor_pose(left, frame)
    assert left.ego_from_camera is not None
    assert sweep.ego_from_lidar is not None
    assert left.intrinsics is not None
    assert right.intrinsics is not None
    if right.ego_from_camera is None:
        raise InputError(f"frame {frame.id}: the place of image_3 is unknown; {layout} needs both cameras' calibration")
    left_from_rect = np.eye(4)
    left_from_rect[0, 3] = _LEFT
    right_from_rect = invert(right.ego_from_camera) @ left.ego_from_camera @ left_from_rect
    if not np.allclose(right_from_rect[:3, :3], np.eye(3), atol=1e-6):
        raise InputError(
            f"frame {frame.id}: image_2 and image_3 look in different directions; {layout} needs them parallel"
        )
    right_grey = np.eye(4)
    right_grey[0, 3] = -_BASELINE
    projections = [
        left.intrinsics @ np.eye(4)[:3],
        left.intrinsics @ right_grey[:3],
        left.intrinsics @ left_from_rect[:3],
        right.intrinsics @ right_from_rect[:3],
    ]
    return Calibration(
        projections=np.stack(projections),
        rect_from_velo=invert(left_from_rect) @ invert(left.ego_from_camera) @ sweep.ego_from_lidar,
        velo_from_imu=invert(sweep.ego_from_lidar),
        world_from_rect=world_from_left @ left_from_rect,
        time_us=_time_us(left, frame),
    )


def _time_us(camera: CameraFrame, frame: Frame) -> int:
    time_us = frame.timestamp_us if camera.timestamp_us is None else camera.timestamp_us
    if time_us is None:
        raise InputError(f"frame {frame.id} has no time; layouts with 3D data need it")
    return time_us


def row_order(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """`(N,)` indices in the order of KITTI's files: ring by ring from the top, each from straight ahead to the left.

    Args:
        points: `(N, 3)` in the lidar's frame.
        ring: `(N,)` the lowest is 0.
    """
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    return np.lexsort((np.where(azimuth < 0, azimuth + 2 * np.pi, azimuth), -ring))


def image_time_points(frame: Frame, layout: str = "kitti") -> tuple[np.ndarray, np.ndarray]:
    """The newest sweep as its file holds it.

    Returns:
        `(N, 4)` float32: x y z in the lidar's frame at the time of `image_2`, and reflectance; `(N,)` the index of each
        point in the sweep.
    """
    sweep = newest_sweep(frame, layout)
    at = calibration(frame, layout)
    velo_from_world = invert(at.world_from_rect @ at.rect_from_velo)
    points = sweep.points
    xyz = transform(velo_from_world @ sensor_pose(sweep, frame), points[:, :3])
    out = np.concatenate([xyz, points[:, [sweep.channels.index("intensity")]]], 1).astype("<f4")
    order = row_order(out, points[:, sweep.channels.index("ring")]) if "ring" in sweep.channels else np.arange(len(out))
    return out[order], order


@dataclass(frozen=True)
class _Label:
    type: str
    truncated: float
    occluded: int
    alpha: float
    box: tuple[float, float, float, float]
    size: np.ndarray
    bottom: np.ndarray
    rotation_y: float
    labelled: bool

    @property
    def line(self) -> str:
        box = " ".join(f"{value:.2f}" for value in self.box)
        if not self.labelled:
            return f"DontCare -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10\n"
        length, width, height = self.size
        solid = " ".join(f"{value + 0.0:.6f}" for value in (height, width, length, *self.bottom, self.rotation_y))
        return f"{self.type} {self.truncated:.2f} {self.occluded} {self.alpha:.6f} {box} {solid}\n"


def _labels(frame: Frame) -> str:
    at = calibration(frame)
    camera = camera_of(frame, "image_2", "kitti")
    later = (at.time_us - (frame.timestamp_us or 0)) / 1e6
    found = [_label(box_at(box, later), at, camera) for box in frame.boxes or ()]
    labels = [label for label in found if label is not None]
    return "".join(label.line for label in sorted(labels, key=lambda label: not label.labelled))


def _label(box: Box3D, at: Calibration, camera: CameraFrame) -> _Label | None:
    """The label of a box, `None` if nothing of it is visible."""
    rect_from_world = invert(at.world_from_rect)
    corners = transform(rect_from_world, box_corners(box_array(box)))
    assert camera.intrinsics is not None
    on_image = image_box(corners + [_LEFT, 0, 0], camera.intrinsics, (camera.image.shape[0], camera.image.shape[1]))
    if on_image is None:
        return None
    rectangle, truncated = on_image
    hidden = hidden_share(box, camera, at.world_from_left)
    if hidden == 1:
        return None
    heading = rect_from_world[:3, :3] @ [np.cos(box.yaw), np.sin(box.yaw), 0.0]
    rotation_y = float(np.arctan2(-heading[2], heading[0]))
    bottom = transform(rect_from_world, box.center) + [0, box.size[2] / 2, 0]
    alpha = rotation_y - float(np.arctan2(bottom[0], bottom[2]))
    return _Label(
        type=TYPES.get(box.kind, "Misc"),
        truncated=truncated,
        occluded=0 if hidden <= 0.2 else 1 if hidden <= 0.6 else 2,
        alpha=float(wrap_angle(alpha)),
        box=rectangle,
        size=box.size,
        bottom=bottom,
        rotation_y=rotation_y,
        labelled=box.num_points != 0 and hidden <= 0.9,
    )


def _id(place: Place) -> str:
    return f"{place.index:06d}"


def files(rendered: Rendered | None, place: Place) -> Files:
    """The files of one frame, see `zoo.synthetic.layouts.Layout`; `test` goes to `testing` and has no labels.

    Raises:
        InputError: If a file's content is requested and the frame lacks what it needs.
    """
    of = reader_of(rendered)
    root = "testing" if place.split == "test" else "training"
    out: Files = {
        f"{root}/image_2/{_id(place)}.png": of(lambda it: png(camera_of(it.frame, "image_2", "kitti").image)),
        f"{root}/image_3/{_id(place)}.png": of(lambda it: png(camera_of(it.frame, "image_3", "kitti").image)),
        f"{root}/velodyne/{_id(place)}.bin": of(lambda it: image_time_points(it.frame)[0].tobytes()),
        f"{root}/calib/{_id(place)}.txt": of(lambda it: calibration(it.frame).text.encode()),
    }
    if place.split != "test":
        out[f"{root}/label_2/{_id(place)}.txt"] = of(lambda it: _labels(it.frame).encode())
        for kind, content in camera_files(place, numbered_instances_png):
            out[f"{root}/{_FOLDERS.get(kind, kind)}/{_id(place)}.png"] = of(
                partial(of_camera, content, "image_2", "kitti")
            )
    return out


def closing_files(records: Sequence[tuple[Place, Record]]) -> Files:
    """The lists of frames in `ImageSets`."""
    lists: dict[str, list[str]] = {}
    for place, _ in records:
        for name in (place.split,) if place.split == "test" else (place.split, "trainval"):
            lists.setdefault(name, []).append(_id(place))
    return {f"ImageSets/{name}.txt": "\n".join(ids).encode for name, ids in lists.items()}
