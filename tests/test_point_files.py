"""Point clouds in other formats: the same points from files written by hand or by other libraries, and damaged ones."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_lidar_segmentation import segmenter_folder
from test_points import cloud

import zoo
from zoo.cli import main
from zoo.errors import InputError
from zoo.inputs.point_files import read_point_file

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
CHANNELS = ("x", "y", "z", "intensity", "ring")


def points_with_ring(count: int = 200) -> np.ndarray:
    """`(N, 5)`: x, y, z, intensity of 0 to 1, ring."""
    return np.column_stack([cloud(count), np.arange(count) % 32]).astype(np.float32)


def ascii_pcd(path: Path, points: np.ndarray) -> None:
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity ring\nSIZE 4 4 4 4 2\nTYPE F F F F U\nCOUNT 1 1 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA ascii\n"
    )
    rows = "".join(" ".join(repr(float(v)) for v in row[:4]) + f" {int(row[4])}\n" for row in points)
    path.write_text(head + rows)


def binary_pcd(path: Path, points: np.ndarray) -> None:
    """Columns in another order, under the names that another driver gives them."""
    head = (
        "VERSION 0.7\nFIELDS ring reflectivity z y x\nSIZE 1 4 4 4 4\nTYPE U F F F F\nCOUNT 1 1 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary\n"
    )
    rows = b"".join(struct.pack("<Bffff", int(r), i, z, y, x) for x, y, z, i, r in points)
    path.write_bytes(head.encode() + rows)


def compressed_pcd(path: Path, points: np.ndarray) -> None:
    """LZF with literal runs only: the compressed form of data that cannot be compressed."""
    head = (
        "VERSION 0.7\nFIELDS x y z intensity ring\nSIZE 4 4 4 4 4\nTYPE F F F F F\nCOUNT 1 1 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary_compressed\n"
    )
    plain = points.T.astype("<f4").tobytes()  # column after column
    packed = b"".join(bytes([len(plain[i : i + 32]) - 1]) + plain[i : i + 32] for i in range(0, len(plain), 32))
    path.write_bytes(head.encode() + struct.pack("<II", len(packed), len(plain)) + packed)


def ply(kind: str) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, points: np.ndarray) -> None:
        head = f"ply\nformat {kind} 1.0\ncomment by hand\nelement vertex {len(points)}\n"
        head += "".join(f"property float {name}\n" for name in ("x", "y", "z", "scalar_Intensity"))
        head += "property uchar ring\nend_header\n"
        if kind == "ascii":
            body = "".join(" ".join(map(repr, map(float, row[:4]))) + f" {int(row[4])}\n" for row in points).encode()
        else:
            order = "<" if "little" in kind else ">"
            body = b"".join(struct.pack(f"{order}ffffB", *row[:4], int(row[4])) for row in points)
        path.write_bytes(head.encode() + body)

    return write


def las(scale: float) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, points: np.ndarray) -> None:
        laspy = pytest.importorskip("laspy")
        header = laspy.LasHeader(point_format=3, version="1.2")
        header.scales = np.full(3, 1e-5)
        data = laspy.LasData(header)
        data.x, data.y, data.z = points[:, :3].T.astype(np.float64)
        data.intensity = np.round(points[:, 3] * scale).astype(np.uint16)
        data.write(str(path))

    return write


def npz(path: Path, points: np.ndarray) -> None:
    np.savez(path, points=points[:, :3].astype(np.float64), reflectance=points[:, 3], row=np.zeros(len(points)))


FILES = {
    "ascii.pcd": (ascii_pcd, CHANNELS, 1e-7),
    "binary.pcd": (binary_pcd, CHANNELS, 0),
    "compressed.pcd": (compressed_pcd, CHANNELS, 0),
    "ascii.ply": (ply("ascii"), CHANNELS, 1e-6),
    "little.ply": (ply("binary_little_endian"), CHANNELS, 0),
    "big.ply": (ply("binary_big_endian"), CHANNELS, 0),
    "sweep.las": (las(65535), CHANNELS[:4], 2e-5),
    "sweep.laz": (las(65535), CHANNELS[:4], 2e-5),
    "sweep.npz": (npz, CHANNELS[:4], 0),
}


def write(folder: Path, name: str, points: np.ndarray) -> Path:
    if name.endswith((".pcd", ".ply")):
        pytest.importorskip("pypcd4" if name.endswith(".pcd") else "trimesh")
    path = folder / name
    FILES[name][0](path, points)
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_points(tmp_path: Path, name: str) -> None:
    points = points_with_ring()
    path = write(tmp_path, name, points)
    found, channels = read_point_file(path.read_bytes(), path, 1000)
    assert channels == FILES[name][1]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, points[:, : len(channels)], atol=FILES[name][2])


@pytest.mark.parametrize("name", FILES)
def test_predictions_are_those_of_the_array(tmp_path: Path, name: str) -> None:
    folder = segmenter_folder(tmp_path / "model")
    points = points_with_ring()
    path = write(tmp_path, name, points)
    assert main(["predict", str(folder), str(path), "--out", str(tmp_path / "out")]) == 0
    labels = np.fromfile(tmp_path / "out" / f"{path.stem}.label", "<u4")
    same = labels == zoo.load(folder)(points[:, :4]).labels
    assert same.mean() > 0.99  # LAS rounds coordinates, which can move a point to another voxel


def test_intensities_of_las(tmp_path: Path) -> None:
    """16 bits are scaled; the 0 to 255 that other programs write are left to the sensor check."""
    points = points_with_ring()
    for scale, expected in ((65535, points[:, 3]), (255, np.round(255 * points[:, 3]))):
        las(scale)(tmp_path / "a.las", points)
        found, _ = read_point_file((tmp_path / "a.las").read_bytes(), tmp_path / "a.las", 1000)
        np.testing.assert_allclose(found[:, 3], expected, atol=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_too_many_points_are_refused_before_they_are_decoded(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, points_with_ring())
    with pytest.raises(InputError, match="200 points; at most 199 are read"):
        read_point_file(path.read_bytes(), path, 199)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("ascii.pcd", b"POINTS 200", b"POINTS 999999999999", "999,999,999,999 points"),
        ("binary.pcd", b"WIDTH 200", b"WIDTH 999999999999", "999,999,999,999 points"),
        ("binary.pcd", b"COUNT 1 1 1", b"COUNT 1 1 9", "fields of several values"),
        ("binary.pcd", b" z y x", b" z y t", "expected x, y and z"),
        ("binary.pcd", b"DATA binary", b"DATA unknown", "cannot be read"),
        ("little.ply", b"vertex 200", b"vertex 99999999999", "99,999,999,999 points"),
        ("little.ply", b"property float x", b"property list uchar float x", "cannot be read|expected x"),
        ("little.ply", b"ply\n", b"plx\n", "cannot be read"),
        ("sweep.las", b"LASF", b"LASX", "cannot be read"),
    ],
)
def test_headers_that_lie(tmp_path: Path, name: str, old: bytes, new: bytes, message: str) -> None:
    path = write(tmp_path, name, points_with_ring())
    content = path.read_bytes()
    assert content.count(old) >= 1
    with pytest.raises(InputError, match=message):
        read_point_file(content.replace(old, new, 1), path, 10_000_000)


@pytest.mark.parametrize(
    "elements", ["", "element face 0\nproperty list uchar int vertex_indices\n", "element vertex 0\nproperty float x\n"]
)
def test_a_ply_without_vertices(elements: str) -> None:
    pytest.importorskip("trimesh")
    content = f"ply\nformat ascii 1.0\n{elements}end_header\n".encode()
    with pytest.raises(InputError, match=r"m\.ply has no vertices; expected at least one point"):
        read_point_file(content, Path("m.ply"), 100)


def test_a_compressed_size_that_lies(tmp_path: Path) -> None:
    path = write(tmp_path, "compressed.pcd", points_with_ring())
    content = path.read_bytes()
    at = content.index(b"binary_compressed\n") + len(b"binary_compressed\n") + 4
    with pytest.raises(InputError, match="4,294,967,295 bytes"):
        read_point_file(content[:at] + b"\xff" * 4 + content[at + 4 :], path, 1_000_000)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_errors_of_ours(tmp_path: Path, name: str) -> None:
    """Cut off anywhere, or with bytes changed: an `InputError`, or an array of floats."""
    path = write(tmp_path, name, points_with_ring(50))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for round in range(120):
        damaged = bytearray(content)
        if round % 3 == 0:
            damaged = damaged[: rng.integers(len(content))]
        else:
            for at in rng.integers(0, min(len(content), 400 if round % 3 == 1 else len(content)), 3):
                damaged[at] = rng.integers(256)
        with contextlib.suppress(InputError):
            found, channels = read_point_file(bytes(damaged), path, 1000)
            assert found.dtype == np.float32
            assert found.shape[1] == len(channels)


@pytest.mark.real
def test_a_real_file_of_a2d2() -> None:
    paths = sorted((REAL / "a2d2").rglob("*lidar*.npz"))
    if not paths:
        pytest.skip(f"no A2D2 sweep in {REAL}")
    found, channels = read_point_file(paths[0].read_bytes(), paths[0], 10_000_000)
    assert channels == ("x", "y", "z", "intensity")
    with np.load(paths[0]) as arrays:
        np.testing.assert_allclose(found[:, :3], arrays["points"], rtol=1e-6)
        np.testing.assert_array_equal(found[:, 3], arrays["reflectance"])
