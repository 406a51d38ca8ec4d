"""The cameras of A2D2: calibration, and images without the distortion of their lenses.

`cams_lidars.json` gives each sensor's pose in the vehicle's frame as an origin and two axes, the camera matrix of the
raw image (`CamMatrixOriginal`) with the lens's distortion, and the matrix of the undistorted image (`CamMatrix`), which
is the one that lidar points project with.

Source: Geyer et al., A2D2, arXiv 2004.06320, and its tutorial. Lenses: the radial and tangential model of Brown with
five coefficients (`Telecam`), and the equidistant fisheye model of Kannala and Brandt with four (`Fisheye`), both as
OpenCV defines them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.scans import read_bytes
from zoo.errors import InputError
from zoo.geometry.transforms import pose

__all__ = ["Camera", "json_of", "read_cameras", "undistort"]

_MAX_JSON = 16 * 1024 * 1024
_COEFFICIENTS = {"Telecam": 5, "Fisheye": 4}


@dataclass(frozen=True)
class Camera:
    """One calibrated camera; hashable, so that what is computed from it can be kept.

    Attributes:
        name: As in `cams_lidars.json`: `front_center`.
        lens: `Telecam` or `Fisheye`.
        focal: (fx, fy, cx, cy) of the undistorted image, in pixels.
        raw: The same of the image as it was recorded.
        distortion: Coefficients of the lens.
        size: (height, width) of both images.
        view: The 16 numbers of ego_from_view, row by row; the view has x forward, y left, z up.
    """

    name: str
    lens: str
    focal: tuple[float, float, float, float]
    raw: tuple[float, float, float, float]
    distortion: tuple[float, ...]
    size: tuple[int, int]
    view: tuple[float, ...]

    @property
    def ego_from_view(self) -> np.ndarray:
        """`(4, 4)` vehicle frame, on the ground, from the frame of the points and boxes."""
        return np.array(self.view).reshape(4, 4)

    @property
    def intrinsics(self) -> np.ndarray:
        """`(3, 3)` of the undistorted image."""
        fx, fy, cx, cy = self.focal
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    @property
    def is_straight(self) -> bool:
        """Whether the recorded image is undistorted already, as in the synthetic world."""
        return self.focal == self.raw and not any(self.distortion)

    def raw_pixels(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows in the recorded image of directions (x right, y down, 1 ahead), of any shape."""
        square = x * x + y * y
        if self.lens == "Fisheye":
            radius = np.sqrt(square)
            angle = np.arctan(radius)
            k1, k2, k3, k4 = self.distortion
            a2 = angle * angle
            bent = angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))
            scale = np.divide(bent, radius, out=np.ones_like(radius), where=radius > 1e-9)
            x, y = x * scale, y * scale
        else:
            k1, k2, p1, p2, k3 = self.distortion
            radial = 1 + square * (k1 + square * (k2 + square * k3))
            xy = x * y
            x, y = (
                x * radial + 2 * p1 * xy + p2 * (square + 2 * x * x),
                y * radial + p1 * (square + 2 * y * y) + 2 * p2 * xy,
            )
        fx, fy, cx, cy = self.raw
        return fx * x + cx, fy * y + cy


def undistort(image: np.ndarray, camera: Camera, fill: int, *, nearest: bool) -> np.ndarray:
    """A recorded image as the undistorted camera would have seen it.

    Args:
        image: `(H, W)` or `(H, W, C)` uint8.
        camera: Its calibration.
        fill: Value of pixels that the recorded image does not show.
        nearest: Take the nearest pixel, for labels; otherwise interpolate.
    """
    if camera.is_straight:
        return image
    columns, rows = _source_pixels(camera)
    height, width = camera.size
    if nearest:
        column, row = np.floor(columns + np.float32(0.5)).astype(np.int32), np.floor(rows + np.float32(0.5)).astype(int)
        seen = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        out = np.full_like(image, fill)
        out[seen] = image[row[seen], column[seen]]
        return out
    left, top = np.floor(columns).astype(np.int32), np.floor(rows).astype(np.int32)
    seen = (left >= 0) & (top >= 0) & (left < width - 1) & (top < height - 1)
    left, top, columns, rows = left[seen], top[seen], columns[seen], rows[seen]
    right, down = (columns - left)[:, None], (rows - top)[:, None]
    flat, at = image.reshape(height * width, -1), top.astype(np.int64) * width + left
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + width] * (1 - right) + flat[at + width + 1] * right
    out = np.full_like(image, fill)
    out.reshape(height * width, -1)[seen.ravel()] = np.rint(upper * (1 - down) + lower * down).astype(np.uint8)
    return out


@lru_cache(maxsize=6)
def _source_pixels(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """`(H, W)` float32 columns and rows of the recorded image for every pixel of the undistorted one."""
    height, width = camera.size
    fx, fy, cx, cy = camera.focal
    x, y = np.meshgrid((np.arange(width) - cx) / fx, (np.arange(height) - cy) / fy)
    columns, rows = camera.raw_pixels(x, y)
    return columns.astype(np.float32), rows.astype(np.float32)


def read_cameras(path: Path) -> dict[str, Camera]:
    """The cameras of `cams_lidars.json` by name.

    Raises:
        InputError: If the file is missing, damaged or incomplete.
    """
    found = json_of(path, "the calibration of A2D2")
    try:
        lowest = float(found["vehicle"]["ego-dimensions"]["z-range"][0])
        return {name: _camera(name, section, -lowest) for name, section in found["cameras"].items()}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path} is not the calibration of A2D2: {type(error).__name__} {error}; download cams_lidars.json again"
        ) from error


def json_of(path: Path, what: str) -> dict[str, Any]:
    """The table in a JSON file.

    Raises:
        InputError: If the file is missing, larger than 16 MB, or something else.
    """
    try:
        found = json.loads(read_bytes(path, _MAX_JSON, what))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not JSON: {error}; expected {what}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no table; expected {what}")
    return found


def _camera(name: str, section: Mapping[str, Any], raised: float) -> Camera:
    """`raised`: metres of the vehicle frame of A2D2 above the ground."""
    lens, distortion = section["Lens"], tuple(float(each) for each in section["Distortion"][0])
    width, height = (int(each) for each in section["Resolution"])
    if _COEFFICIENTS.get(lens) != len(distortion):
        raise ValueError(f"camera {name} has the lens {lens!r} with {len(distortion)} coefficients")
    if not (0 < width < 20_000 and 0 < height < 20_000):
        raise ValueError(f"camera {name} has the size {width}x{height}")
    view = _pose_of_view(section["view"])
    view[2, 3] += raised
    focal, raw = _focal(section["CamMatrix"]), _focal(section["CamMatrixOriginal"])
    values = (*focal, *raw, *distortion, *view.ravel())
    if not all(map(math.isfinite, values)):
        raise ValueError(f"camera {name} has values that are not finite")
    return Camera(name, lens, focal, raw, distortion, (height, width), tuple(view.ravel().tolist()))


def _focal(matrix: Any) -> tuple[float, float, float, float]:
    k = np.array(matrix, float)
    if k.shape != (3, 3) or k[0, 0] <= 0 or k[1, 1] <= 0:
        raise ValueError(f"a camera matrix is {matrix}")
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])


def _pose_of_view(view: Mapping[str, Any]) -> np.ndarray:
    """`(4, 4)` vehicle from view; the y axis in the file only tells the plane."""
    x = np.array(view["x-axis"], float)
    x /= np.linalg.norm(x)
    z = np.cross(x, np.array(view["y-axis"], float))
    z /= np.linalg.norm(z)
    return pose(np.stack([x, np.cross(z, x), z], 1), np.array(view["origin"], float))
