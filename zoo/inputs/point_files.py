"""Files of points other than rows of float32: `.pcd`, `.ply`, `.las`, `.laz`, and `.npz` with arrays.

Their columns have names. Those that say x, y, z, intensity and beam are kept under the names of `Sweep`, others are
dropped. The libraries believe what a header says, so the number of points in it is compared with a limit first.

Formats: PCD 0.7 (Point Cloud Library), PLY 1.0, LAS 1.0 to 1.4 (ASPRS).
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from zoo.errors import InputError, require
from zoo.npz import read_npz

__all__ = ["SUFFIXES", "read_point_file"]

_NAMES = {
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "intensity": ("intensity", "i", "reflectance", "reflectivity", "remission", "scalar_intensity"),
    "ring": ("ring", "beam", "line", "laser_id", "channel"),
}
"""Names of the columns, by name in `Sweep.channels`; the first that a file has is taken."""
_HEADER_BYTES = 64 * 1024
_INTENSITY_16_BIT = 65535.0


def read_point_file(content: bytes, path: Path, max_points: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The points of a file, `(N, C)`, and their columns.

    Intensities keep the file's scale, except in LAS, whose 16 bits are scaled to 0 to 1; many programs write 0 to 255
    into them, so they are left alone if none is larger.

    Args:
        content: The file.
        path: Its name: the ending says the format, and errors name it.
        max_points: Files with more are refused before they are decoded.

    Raises:
        InputError: If the file is damaged, has too many points, or no x, y, z.
        MissingExtraError: If the library that reads the format is not installed.
    """
    try:
        named = SUFFIXES[path.suffix.lower()](content, path, max_points)
        with np.errstate(over="ignore"):  # becomes infinite and is refused
            columns = {name: np.asarray(column).astype(np.float32) for name, column in named.items()}
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the libraries raise whatever they stumble over
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error
    lengths = {len(column) for column in columns.values()}
    if not {"x", "y", "z"} <= set(columns) or len(lengths) != 1:
        found = ", ".join(f"{name} ({len(column):,})" for name, column in columns.items()) or "none of them"
        raise InputError(f"{path} has {found}; expected x, y and z, and columns of one length")
    channels = tuple(name for name in _NAMES if name in columns)
    return np.column_stack([columns[name] for name in channels]), channels


def _known(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns under our names."""
    given = {name.lower(): column for name, column in columns.items()}
    found = {}
    for channel, names in _NAMES.items():
        if name := next((each for each in names if each in given), None):
            found[channel] = np.asarray(given[name]).reshape(len(given[name]), -1)[:, 0]
    return found


def _check_count(count: int, path: Path, max_points: int) -> None:
    if count > max_points:
        raise InputError(f"{path} says that it has {count:,} points; at most {max_points:,} are read")


def _pcd(content: bytes, path: Path, max_points: int) -> dict[str, np.ndarray]:
    header = content[:_HEADER_BYTES]
    for key in (rb"POINTS\s+(\d{1,18})", rb"WIDTH\s+(\d{1,18})", rb"HEIGHT\s+(\d{1,18})"):
        if found := re.search(rb"^" + key + rb"\s*$", header, re.MULTILINE):
            _check_count(int(found[1]), path, max_points)
    if re.search(rb"^COUNT(?:\s+1)*\s+(?!1\s)\d", header, re.MULTILINE):
        raise InputError(f"{path} has fields of several values (COUNT); write x, y, z and intensity as single fields")
    if compressed := re.search(rb"^DATA binary_compressed\r?\n", header, re.MULTILINE):
        size = int.from_bytes(content[compressed.end() + 4 : compressed.end() + 8], "little")
        if size > 64 * max_points:
            raise InputError(f"{path} says that its points take {size:,} bytes; at most {64 * max_points:,} are read")
    try:
        from pypcd4 import PointCloud
    except ImportError as error:
        raise require("pypcd4", "points", f"reading {path}") from error
    cloud = PointCloud.from_fileobj(io.BufferedReader(io.BytesIO(content)))
    return _known({name: cloud.pc_data[name] for name in cloud.fields})


def _ply(content: bytes, path: Path, max_points: int) -> dict[str, np.ndarray]:
    for found in re.finditer(rb"^element \w+ (\d{1,18})\s*$", content[:_HEADER_BYTES], re.MULTILINE):
        _check_count(int(found[1]), path, max_points)
    try:
        import trimesh
    except ImportError as error:
        raise require("trimesh", "points", f"reading {path}") from error
    cloud = trimesh.load(io.BytesIO(content), file_type="ply", process=False)
    vertices = cloud.metadata["_ply_raw"].get("vertex", {}).get("data")
    if vertices is None:
        raise InputError(f"{path} has no vertices; expected at least one point, as the element vertex with x, y and z")
    names = vertices.dtype.names if isinstance(vertices, np.ndarray) else tuple(vertices)
    return _known({name: vertices[name] for name in names})


def _las(content: bytes, path: Path, max_points: int) -> dict[str, np.ndarray]:
    try:
        import laspy
    except ImportError as error:
        raise require("laspy", "points", f"reading {path}") from error
    _check_las_records(content, path)
    with laspy.open(io.BytesIO(content)) as reader:
        _check_count(reader.header.point_count, path, max_points)
        points = reader.read()
    columns = _known({name: np.asarray(points[name]) for name in points.point_format.dimension_names})
    columns |= {"x": np.asarray(points.x), "y": np.asarray(points.y), "z": np.asarray(points.z)}  # scaled to metres
    if "intensity" in columns and columns["intensity"].max(initial=0) > 255:
        columns["intensity"] = columns["intensity"] / _INTENSITY_16_BIT
    return columns


def _check_las_records(content: bytes, path: Path) -> None:
    """Raises an `InputError` if the header announces more records than fit into the file; laspy would read on."""
    if len(content) < 227:
        raise InputError(f"{path} has {len(content)} bytes, less than the header of a LAS file")
    header_size, points_at, records = struct.unpack_from("<HII", content, 94)
    extended = struct.unpack_from("<I", content, 243)[0] if content[25] >= 4 and len(content) >= 375 else 0
    if records * 54 > max(0, min(points_at, len(content)) - header_size) or extended * 60 > len(content):
        raise InputError(f"{path} announces {records:,} and {extended:,} records of metadata, which it cannot hold")


def _npz(content: bytes, path: Path, max_points: int) -> dict[str, np.ndarray]:
    arrays = read_npz(content, str(path))
    points = arrays.get("points", arrays.get("pcloud_points"))
    if points is None or points.ndim != 2 or points.shape[1] < 3:
        raise InputError(f"{path} has {', '.join(arrays) or 'no arrays'}; expected points, (N, 3) or more columns")
    _check_count(len(points), path, max_points)
    named = {name.rpartition(".")[2]: array for name, array in arrays.items() if array.shape == points.shape[:1]}
    return _known(named) | dict(zip(("x", "y", "z"), points.T))


SUFFIXES: Mapping[str, Callable[[bytes, Path, int], dict[str, np.ndarray]]] = {
    ".pcd": _pcd,
    ".ply": _ply,
    ".las": _las,
    ".laz": _las,
    ".npz": _npz,
}
"""Reader of each format, by the ending of the file's name."""
