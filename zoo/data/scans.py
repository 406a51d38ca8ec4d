"""Decodes lidar files: points in columns of float32, and one label per point.

Points are checked as they are read: with a wrong number of columns every value shifts, which no later step notices.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo.errors import InputError
from zoo.files import read_regular
from zoo.label_table import LabelTable
from zoo.npz import read_npy

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8, UInt32

__all__ = [
    "INTENSITY_MAX",
    "MAX_POINTS",
    "check_count",
    "checked_points",
    "read_bytes",
    "read_label_file",
    "read_point_instances",
    "read_point_labels",
    "read_points",
]

IntensityScale = Literal["0-1", "0-255"]

MAX_POINTS = 16_000_000
"""Most points that are read from one file; a sweep of 128 beams has about 0.3 million."""
INTENSITY_MAX = {"0-1": 1.0, "0-255": 255.0}
"""Largest intensity of each `SensorFacts.intensity_scale`."""


def read_bytes(path: Path, limit: int, what: str) -> bytes:
    """Content of a file of a data set.

    Raises:
        InputError: If it is missing, not a regular file, or has more than `limit` bytes.
    """
    try:
        return read_regular(path, limit)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected {what}") from error


def read_points(
    path: Path, channels: tuple[str, ...], intensity_scale: IntensityScale | None = "0-1"
) -> Float32[np.ndarray, "N C"]:
    """The points of a file, with intensities from 0 to 1.

    Args:
        path: `NAME.npy`, or rows of little-endian float32 under any other name.
        channels: Columns of the file; x, y and z come first.
        intensity_scale: Scale of the intensities in the file; `None` leaves them as they are.

    Raises:
        InputError: If the file is missing or too large, its size does not fit the columns, a value is not finite, or an
            intensity lies outside the scale.
    """
    if path.suffix.lower() == ".npy":
        points = read_npy(read_bytes(path, MAX_POINTS * 8 * len(channels), "the points of a sweep"), str(path))
        if points.ndim != 2 or points.shape[1] != len(channels) or points.dtype.kind != "f":
            raise InputError(
                f"{path} holds {points.shape} {points.dtype}; expected (N, {len(channels)}) floats with the columns "
                f"{', '.join(channels)}"
            )
        _check_size(len(points), str(path))
    else:
        points = np.frombuffer(_rows_of_floats(path, channels), "<f4").reshape(-1, len(channels))
    return checked_points(points, channels, intensity_scale, str(path))


def _rows_of_floats(path: Path, channels: tuple[str, ...]) -> bytes:
    row = 4 * len(channels)
    if path.is_file():  # before anything is read
        _check_size(path.stat().st_size // row, str(path))
    content = read_bytes(path, MAX_POINTS * row, "the points of a sweep")
    if len(content) % row:
        raise InputError(
            f"{path} has {len(content):,} bytes, which is not a multiple of {row}: expected float32 rows of "
            f"{', '.join(channels)}; the file is damaged or has other columns"
        )
    return content


def _check_size(count: int, what: str) -> None:
    if count > MAX_POINTS:
        raise InputError(f"{what} holds {count:,} points; at most {MAX_POINTS:,} are read, so split or thin the cloud")


def checked_points(
    points: np.ndarray, channels: tuple[str, ...], intensity_scale: IntensityScale | None, what: str
) -> Float32[np.ndarray, "N C"]:
    """A float32 copy of `(N, C)` points, with intensities from 0 to 1.

    Raises:
        InputError: If a value is not finite, or an intensity lies outside the scale.
    """
    with np.errstate(over="ignore"):  # becomes infinite and is refused below
        points = points.astype(np.float32)
    if not np.isfinite(points).all():
        point, column = np.argwhere(~np.isfinite(points))[0]
        raise InputError(f"{what}: {channels[column]} of point {point} is {points[point, column]}; drop such points")
    if "intensity" in channels and intensity_scale is not None and len(points):
        intensity = points[:, channels.index("intensity")]
        low, high, largest = float(intensity.min()), float(intensity.max()), INTENSITY_MAX[intensity_scale]
        if low < 0 or high > largest:
            raise InputError(
                f"{what}: intensity runs from {low:g} to {high:g}; expected {intensity_scale}, and the columns "
                f"{', '.join(channels)}"
            )
        intensity /= np.float32(largest)
    return points


def check_count(labels: int, path: Path, scan: Path, channels: tuple[str, ...]) -> None:
    """Raises an `InputError` unless the file of points `scan` has as many points as `path` has labels."""
    if scan.suffix.lower() == ".npy":
        points = len(read_points(scan, channels, None))
    else:
        points = scan.stat().st_size // (4 * len(channels)) if scan.is_file() else labels  # missing: reading it says so
    if points != labels:
        raise InputError(
            f"{path} has {labels:,} labels, but {scan} has {points:,} points; expected one label per point"
        )


def read_label_file(path: Path, scan: Path, channels: tuple[str, ...]) -> UInt32[np.ndarray, " N"]:
    """The values of a `.label` file, one little-endian uint32 per point: the class's id in the lower 16 bits, the
    instance in the upper 16.

    Args:
        path: The file.
        scan: File of the points that it labels.
        channels: Columns of that file.

    Raises:
        InputError: If a file is missing or damaged, or the two do not have the same number of points.
    """
    content = read_bytes(path, 4 * MAX_POINTS, f"the labels of {scan}")
    if len(content) % 4:
        raise InputError(f"{path} has {len(content):,} bytes; expected a multiple of 4, one uint32 per point")
    check_count(len(content) // 4, path, scan, channels)
    return np.frombuffer(content, "<u4")


def read_point_labels(path: Path, scan: Path, channels: tuple[str, ...], table: LabelTable) -> UInt8[np.ndarray, " N"]:
    """`(N,)` uint8 labels of a `.label` file; arguments and errors of `read_label_file`, and an unknown id."""
    ids = read_label_file(path, scan, channels) & np.uint32(0xFFFF)
    return table.labels(ids, str(path), table.classes.ignore_index)


def read_point_instances(path: Path, scan: Path, channels: tuple[str, ...]) -> Int32[np.ndarray, " N"]:
    """`(N,)` int32 instances of a `.label` file, 0 where there is none; arguments and errors of `read_label_file`."""
    return (read_label_file(path, scan, channels) >> np.uint32(16)).astype(np.int32)
