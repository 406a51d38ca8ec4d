"""Calibration files of KITTI, and what no file states: where the vehicle frame is.

Source: Geiger et al., "Vision meets robotics: the KITTI dataset", IJRR 2013, and the readme of the object development
kit.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from zoo.data.scans import read_bytes
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import CameraFrame
from zoo.geometry.transforms import invert, pose
from zoo.sensors import KITTI_HEIGHT_M

__all__ = ["CHANNELS", "EGO_FROM_VELODYNE", "camera_of", "read_numbers", "rigid"]

CHANNELS = ("x", "y", "z", "intensity")
"""Columns of a scan."""
EGO_FROM_VELODYNE = pose(np.eye(3), (0.0, 0.0, KITTI_HEIGHT_M))
"""The vehicle frame is on the ground below the lidar. Files relate the lidar to the cameras and the IMU only."""
_SIZES = {"P0": 12, "P1": 12, "P2": 12, "P3": 12, "R0_rect": 9, "Tr": 12, "Tr_velo_to_cam": 12, "Tr_imu_to_velo": 12}
_MAX_TEXT = 64 * 1024


def read_numbers(path: Path) -> dict[str, np.ndarray]:
    """The known rows of a `calib.txt`, each `(12,)` or `(9,)` float64.

    Raises:
        InputError: If the file is missing, or one of these rows has another number of values or one that is not finite.
    """
    text = read_bytes(path, _MAX_TEXT, "the calibration").decode("utf-8", "replace")
    found: dict[str, np.ndarray] = {}
    for line in text.splitlines():
        name, *words = line.replace(":", " ", 1).split() or [""]  # some releases write `Tr` without a colon
        if name not in _SIZES:
            continue
        try:
            values = np.array(words, float)
        except ValueError as error:
            raise InputError(f"{path}: {name} holds something that is not a number: {error}") from error
        if len(values) != _SIZES[name] or not np.isfinite(values).all():
            raise InputError(f"{path}: {name} has {len(values)} values; expected {_SIZES[name]} finite numbers")
        found[name] = values
    return found


def rigid(values: np.ndarray, name: str, path: Path) -> np.ndarray:
    """`(4, 4)` transform of the 12 numbers of a 3x4 matrix, row by row.

    Raises:
        InputError: If it does not rotate: its columns are not orthogonal, or it mirrors.
    """
    matrix = values.reshape(3, 4)
    rotation = matrix[:, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2) or np.linalg.det(rotation) < 0:
        raise InputError(f"{path}: {name} is not a rotation and a translation")
    left, _, right = np.linalg.svd(rotation)  # rounded in the file; `invert` relies on orthogonality
    return pose(left @ right, matrix[:, 3])


def camera_of(image: Path, projection: np.ndarray | None, rect_from_velo: np.ndarray | None, path: Path) -> CameraFrame:
    """The camera of an image.

    Args:
        image: The file.
        projection: `(12,)` P2 or P3: pixels from the rectified camera 0; `None` if it is unknown.
        rect_from_velo: `(4, 4)` rectified camera 0 from the lidar; `None` if it is unknown.
        path: The calibration file, for errors.

    Raises:
        InputError: If the projection is not that of a camera.
    """
    source = partial(read_image, image)
    if projection is None or rect_from_velo is None:
        return CameraFrame(image_source=source, image_path=image)
    matrix = projection.reshape(3, 4)
    intrinsics = matrix[:, :3]
    if not (intrinsics[0, 0] > 0 and intrinsics[1, 1] > 0 and np.allclose(intrinsics[2], [0, 0, 1])):
        raise InputError(f"{path}: P2 and P3 must be projections of cameras, with positive focal lengths")
    # P = K [I | t]: the camera is displaced from camera 0 without a rotation.
    camera_from_rect = pose(np.eye(3), np.linalg.solve(intrinsics, matrix[:, 3]))
    return CameraFrame(
        image_source=source,
        image_path=image,
        intrinsics=intrinsics,
        ego_from_camera=EGO_FROM_VELODYNE @ invert(camera_from_rect @ rect_from_velo),
    )
