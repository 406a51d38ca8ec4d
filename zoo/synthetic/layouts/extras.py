"""Files that a layout writes on request: depth, optical flow, labels of camera pictures, and calibration.

| encoding | rule | source |
| --- | --- | --- |
| disparity | 16 bits: 1 + 256 times the pixels, 0 where unknown | readme of the Cityscapes scripts |
| depth | 16 bits: 256 times the metres, 0 where unknown | devkit of KITTI's depth benchmark |
| flow | three channels of 16 bits: 2^15 + 64 u, 2^15 + 64 v, 1 if known | devkit of KITTI's scene flow benchmark |
| `semantic` | 8 bits: label ids of Cityscapes | devkit of KITTI's semantics benchmark |
| `instance` | 16 bits: 256 times the label id + number, from 1 for each class | the same |
| `camera` | JSON: intrinsics, baseline and pose in vehicle axes | calibration notes of the Cityscapes scripts |

Depth is unknown in the sky and from 256 m on, disparity in the sky and above 255.99 pixels, flow above 511.98 pixels
and where `CameraFrame.flow` has no value.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np

from zoo.data.labels import CITYSCAPES_IDS
from zoo.errors import InputError
from zoo.frame import CameraFrame
from zoo.synthetic.layouts import Place, Rendered, png
from zoo.synthetic.layouts.geometry import camera_of
from zoo.synthetic.models.build import LABELS_WITH_INSTANCES

__all__ = [
    "BASELINE_M",
    "CALIBRATION",
    "CAMERA_LABELS",
    "DEPTH",
    "FLOW",
    "camera_files",
    "camera_json",
    "depth_png",
    "disparity_png",
    "flow_png",
    "label_ids_png",
    "numbered_instances_png",
    "of_camera",
    "tracked_instances_png",
]

DEPTH, FLOW, CAMERA_LABELS, CALIBRATION = "depth", "flow", "camera-labels", "calibration"
Encoder = Callable[[CameraFrame], bytes]
BASELINE_M = 0.209313
"""Between the two cameras of Cityscapes' stereo rig, of which the left one is rendered."""


def _need(camera: CameraFrame, name: str) -> np.ndarray:
    values = getattr(camera, name)
    if values is None:
        raise InputError(f"the picture of {camera.timestamp_us} us has no {name}; render it with {name}")
    return np.asarray(values)


def depth_png(camera: CameraFrame) -> bytes:
    """The depth of a picture."""
    steps = np.round(_need(camera, "depth_m").astype(float) * 256)
    return png(np.where(steps < 2**16, steps, 0).astype(np.uint16))


def disparity_png(camera: CameraFrame) -> bytes:
    """The disparity to a right camera `BASELINE_M` beside this one."""
    assert camera.intrinsics is not None
    depth = _need(camera, "depth_m").astype(float)
    steps = np.round(256 * camera.intrinsics[0, 0] * BASELINE_M / depth) + 1
    return png(np.where(np.isfinite(depth) & (steps < 2**16), steps, 0).astype(np.uint16))


def flow_png(camera: CameraFrame) -> bytes:
    """The optical flow of a picture."""
    flow = _need(camera, "flow").astype(float)
    steps = np.round(flow * 64) + 2**15
    known = (np.isfinite(steps) & (steps > 0) & (steps < 2**16)).all(2)
    out = np.zeros((*known.shape, 3), np.uint16)
    out[known, :2], out[known, 2] = steps[known], 1
    return _deep_png(out)


def _deep_png(image: np.ndarray) -> bytes:
    """A PNG file of `(H, W, 3)` uint16, which Pillow cannot write."""
    height, width, _ = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.astype(">u2").view(np.uint8).reshape(height, -1)], 1)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),  # 16 bits, RGB, no interlacing
        (b"IDAT", zlib.compress(rows.tobytes(), 4)),  # each row begins with its filter, 0: none
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def label_ids_png(camera: CameraFrame) -> bytes:
    """Regular label ids of Cityscapes."""
    return png(_label_ids(camera))


def _label_ids(camera: CameraFrame) -> np.ndarray:
    table = np.zeros(256, np.uint8)
    table[: len(CITYSCAPES_IDS)] = CITYSCAPES_IDS
    return table[_need(camera, "labels")]


def tracked_instances_png(camera: CameraFrame) -> bytes:
    """Instances in the coding of Cityscapes, where the number is the track of the object's box."""
    return png(_need(camera, "instances").astype(np.uint16))


def numbered_instances_png(camera: CameraFrame) -> bytes:
    """Instances in the coding of KITTI, numbered from 1 for each class of the picture in the order of their tracks.

    Raises:
        InputError: If a class has more than the 255 instances that the coding has numbers for.
    """
    labels, instances = _need(camera, "labels"), _need(camera, "instances")
    out = _label_ids(camera).astype(np.uint16) * 256
    for label in LABELS_WITH_INSTANCES:
        here = (labels == label) & (instances >= 1000)
        _, number = np.unique(instances[here], return_inverse=True)
        if number.max(initial=0) > 254:
            raise InputError(f"{number.max() + 1} instances of label {label} in a picture; KITTI's coding has 255")
        out[here] += (number + 1).astype(np.uint16)
    return png(out)


def camera_files(
    place: Place, instances: Encoder = tracked_instances_png
) -> list[tuple[Literal["depth", "flow", "semantic", "instance"], Encoder]]:
    """What layouts with a clock write of a camera on request: the kind of each file, and what makes it.

    Args:
        place: Its `extras` are the requests. The last frame of a place has no flow, since there is no next picture.
        instances: Coding of the instances.
    """
    out: list[tuple[Literal["depth", "flow", "semantic", "instance"], Encoder]] = []
    if DEPTH in place.extras:
        out.append(("depth", depth_png))
    if FLOW in place.extras and place.number < place.count - 1:
        out.append(("flow", flow_png))
    if CAMERA_LABELS in place.extras:
        out += [("semantic", label_ids_png), ("instance", instances)]
    return out


def of_camera(encode: Encoder, name: str, layout: str, rendered: Rendered) -> bytes:
    """What `encode` makes of one camera's picture."""
    return encode(camera_of(rendered.frame, name, layout))


def camera_json(camera: CameraFrame) -> bytes:
    """Calibration in the form of Cityscapes: x forward, y left, z up from the ground below the rear axle; radians."""
    assert camera.intrinsics is not None
    assert camera.ego_from_camera is not None
    (fx, _, u0), (_, fy, v0) = camera.intrinsics[:2].tolist()
    pose = camera.ego_from_camera
    forward, left, up = pose[:3, 2], -pose[:3, 0], -pose[:3, 1]  # the sensor's own axes, in the vehicle's
    extrinsic = {
        "baseline": BASELINE_M,
        "pitch": float(-np.arcsin(forward[2])),
        "roll": float(np.arctan2(left[2], up[2])),
        "x": float(pose[0, 3]),
        "y": float(pose[1, 3]),
        "yaw": float(np.arctan2(forward[1], forward[0])),
        "z": float(pose[2, 3]),
    }
    return json.dumps(
        {"extrinsic": extrinsic, "intrinsic": {"fx": fx, "fy": fy, "u0": u0, "v0": v0}}, indent=4
    ).encode()
