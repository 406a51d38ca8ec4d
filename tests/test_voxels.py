"""Voxels: cells by hand, both grids, reductions, and the quantisation error of real sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import assert_close

from zoo.errors import InputError
from zoo.geometry.voxels import (
    cartesian_cells,
    cells_from_lowest,
    cells_of,
    cylindrical_cells,
    lower_corners,
    quantisation_error,
    voxelise,
)
from zoo.sparse import sparse_tensor

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"


def sweep(points: int = 3000, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    xyz = generator.normal(0, 15, (points, 3)) * [1, 1, 0.1]
    return np.concatenate([xyz, generator.random((points, 1))], 1).astype(np.float32)


def test_cartesian_cells_by_hand() -> None:
    points = np.array([[0.0, 0.09, 0.1], [-0.01, -0.1, -0.11], [1.25, 99.95, 0.3]])
    # -0.01 is in cell -1; -0.1 is the lower corner of cell -1.
    assert cartesian_cells(points, 0.1).tolist() == [[0, 0, 1], [-1, -1, -2], [12, 999, 2]]
    # 0.3 / 0.1 is 2.9999999999999996 in binary: cell 2. With one size per axis:
    assert cartesian_cells(points, (0.5, 10.0, 0.25)).tolist() == [[0, 0, 0], [-1, -1, -1], [2, 9, 1]]


def test_nearest_cells_by_hand() -> None:
    points = np.array([[0.0, 0.14, 0.16], [-0.14, -0.16, 9.96], [0.5, 1.5, -2.5]])
    assert cartesian_cells(points[:2], 0.1, "nearest").tolist() == [[0, 1, 2], [-1, -2, 100]]
    # Halves go to the even cell.
    assert cartesian_cells(points[2:], 1.0, "nearest").tolist() == [[0, 2, -2]]
    # rho 5.4, phi -90 degrees, z 0.6.
    point = np.array([[0.0, -5.4, 0.6]])
    assert cells_of(point, (1.0, 20.0, 1.0), "cylindrical", "nearest").tolist() == [[5, -4, 1]]  # -4.5 to even


def test_cells_from_the_lowest_by_hand() -> None:
    cells = np.array([[5, -3, 0], [7, -4, 2], [1, 1, 1], [5, 0, -1]])
    batch_index = np.array([0, 0, 2, 0])
    # Sample 0 has its lowest x in the first row, y in the second, z in the last; sample 1 is empty.
    expected = [[0, 1, 1], [2, 0, 3], [0, 0, 0], [0, 4, 0]]
    assert cells_from_lowest(cells, batch_index).tolist() == expected
    assert cells_from_lowest(torch.from_numpy(cells), torch.from_numpy(batch_index)).tolist() == expected
    assert cells_from_lowest(cells[:0], batch_index[:0]).shape == (0, 3)
    points = np.concatenate([cells * 0.5, np.ones((4, 1))], 1)
    voxels = voxelise(points, 0.5, batch_index=batch_index, rounding="nearest", from_lowest=True)
    assert voxels.cells[voxels.point_to_voxel].tolist() == expected


def test_sizes_may_be_numpy_numbers() -> None:
    points = np.array([[1.3, -0.2, 0.6]])
    assert cartesian_cells(points, np.float32(0.5)).tolist() == [[2, -1, 1]]
    assert cartesian_cells(points, np.array([0.5, 1.0, 0.25])).tolist() == [[2, -1, 2]]


def test_cylindrical_cells_by_hand() -> None:
    # (3, 4): rho 5, phi 53.13 degrees. (-1, 0): 180 degrees. (0, -2): -90 degrees. The origin: rho 0, phi 0.
    points = np.array([[3.0, 4.0, 1.0], [-1.0, 0.0, -0.3], [0.0, -2.0, 0.0], [0.0, 0.0, 0.0]])
    assert cylindrical_cells(points, (1.0, 10.0, 0.5)).tolist() == [[5, 5, 2], [1, 18, -1], [2, -9, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("grid", "size"), [("cartesian", 0.1), ("cartesian", (0.2, 0.1, 0.3)), ("cylindrical", (0.1, 1.0, 0.1))]
)
@pytest.mark.parametrize("rounding", ["floor", "nearest"])
def test_torch_and_numpy_cells_are_equal(grid: Any, size: Any, rounding: Any) -> None:
    points = sweep()
    ours = cells_of(torch.from_numpy(points), size, grid, rounding).numpy()
    assert np.array_equal(ours, cells_of(points, size, grid, rounding))


@pytest.mark.parametrize(("grid", "size"), [("cartesian", 0.4), ("cylindrical", (0.4, 3.0, 0.4))])
def test_lower_corner_lies_in_its_cell_and_below_its_points(grid: Any, size: Any) -> None:
    points = sweep().astype(np.float64)
    cells = cells_of(points, size, grid)
    corners = lower_corners(cells, size, grid)
    # A touch inwards along each axis, since the corner itself can round to the neighbour.
    step = np.array([1e-6] * 3)
    if grid == "cartesian":
        assert np.array_equal(cells_of(corners + step, size, grid), cells)
        assert (points[:, :3] >= corners).all()
    else:
        rho, phi = np.hypot(corners[:, 0], corners[:, 1]), np.degrees(np.arctan2(corners[:, 1], corners[:, 0]))
        far = rho > 0.3  # at rho = 0 every phi is the same point
        assert np.allclose(rho, cells[:, 0] * 0.4)
        difference = (phi - cells[:, 1] * 3.0)[far]
        assert_close(difference - 360 * np.round(difference / 360), 0)


def test_voxelise_by_hand() -> None:
    # Two points share cell (0, 0, 0) of sample 0; the same cell of sample 1 is another voxel.
    points = np.array(
        [[0.5, 0.5, 0.5, 8.0], [-0.5, 0.0, 0.0, 1.0], [0.1, 0.9, 0.3, 2.0], [0.2, 0.2, 0.2, 5.0]], np.float32
    )
    batch_index = np.array([0, 0, 0, 1])
    first = voxelise(points, 1.0, batch_index=batch_index, reduce="first")
    assert first.cells.tolist() == [[-1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert first.batch_index.tolist() == [0, 0, 1]
    assert first.point_to_voxel.tolist() == [1, 0, 1, 2]
    assert first.counts.tolist() == [1, 2, 1]
    assert first.first.tolist() == [1, 0, 3]
    assert first.features[:, 3].tolist() == [1, 8, 5]
    assert voxelise(points, 1.0, batch_index=batch_index, reduce="mean").features[:, 3].tolist() == [1, 5, 5]
    largest = voxelise(points, 1.0, batch_index=batch_index, reduce="max").features[1]
    assert largest.tolist() == pytest.approx([0.5, 0.9, 0.5, 8.0])
    assert first.features.dtype == np.float32


@pytest.mark.parametrize("reduce", ["first", "mean", "max"])
def test_voxelise_equals_the_sparse_tensor(reduce: Any) -> None:
    points = sweep(2000)
    batch_index = np.arange(2000) % 3
    voxels = voxelise(points, 0.8, batch_index=batch_index, reduce=reduce)
    cells = cartesian_cells(torch.from_numpy(points), 0.8)
    x, inverse = sparse_tensor(torch.from_numpy(points), cells, torch.from_numpy(batch_index), reduce=reduce)
    assert np.array_equal(x.coordinates.numpy(), voxels.cells)
    assert np.array_equal(x.batch_index.numpy(), voxels.batch_index)
    assert np.array_equal(inverse.numpy(), voxels.point_to_voxel)
    assert_close(x.features.numpy(), voxels.features)


def test_empty_cloud() -> None:
    for reduce in ("first", "mean", "max"):
        voxels = voxelise(np.zeros((0, 4), np.float32), 0.1, reduce=reduce)
        assert voxels.features.shape == (0, 4)
        assert voxels.cells.shape == (0, 3)
        assert voxels.point_to_voxel.shape == (0,)


def test_quantisation_error_of_evenly_spread_points() -> None:
    # The mean distance from a corner of the unit cube to a point in it is 0.960592 (Robbins constant's cousin).
    points = np.random.default_rng(0).uniform(-8, 8, (400_000, 3))
    assert quantisation_error(points, 0.5).mean_m == pytest.approx(
        0.960592 * 0.5, rel=2e-3
    )  # a mean over random points


def test_quantisation_error_by_distance_by_hand() -> None:
    # Corners of cells of 1 m: the errors are 0.5, 0 and sqrt(0.25 + 0.25).
    points = np.array([[3.5, 0, 0], [0, 12, 0], [14.5, 0.5, 0]])
    result = quantisation_error(points, 1.0, edges_m=(0, 10))
    assert result.mean_m == pytest.approx((0.5 + math.sqrt(0.5)) / 3)
    near, far = result.by_distance
    assert (near.points, near.mean_m) == (1, 0.5)
    assert (far.points, far.mean_m) == (2, pytest.approx(math.sqrt(0.5) / 2))
    assert far.far_m == math.inf
    # Cylindrical, cells of 1 m and 90 degrees: (0, 1.25) is at rho 1.25, phi 90: its corner is (0, 1).
    assert quantisation_error(np.array([[0, 1.25, 0.0]]), (1.0, 90.0, 1.0), grid="cylindrical").mean_m == pytest.approx(
        0.25
    )


@pytest.mark.real
def test_quantisation_error_of_real_sweeps() -> None:
    """Jo et al., "Simple Remedies" (2024), measured 96.5 and 48.2 mm over all of nuScenes; two keyframes come near."""
    files = sorted((REAL / "nuscenes" / "samples" / "LIDAR_TOP").glob("*.bin"))
    if not files:
        pytest.skip(f"no nuScenes sweeps in {REAL}")
    points = np.concatenate([np.fromfile(file, np.float32).reshape(-1, 5)[:, :3] for file in files])
    assert len(files) == 2
    assert quantisation_error(points, 0.1).mean_m == pytest.approx(
        0.0965, abs=0.0015
    )  # metres; two keyframes, not the whole data set
    assert quantisation_error(points, 0.05).mean_m == pytest.approx(
        0.0482, abs=0.0008
    )  # metres; two keyframes, not the whole data set
    cylindrical = quantisation_error(points, (0.1, 1.0, 0.1), grid="cylindrical")
    assert 0.13 < cylindrical.mean_m < 0.15
    # A cell of one degree widens with distance, a Cartesian one does not.
    means = [part.mean_m for part in cylindrical.by_distance if part.points > 100]
    assert means == sorted(means)
    assert means[-1] > 3 * means[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cartesian_cells(np.array([[0.0, 0, 0], [np.nan, 0, 0]]), 0.1), "point 1 at .* is not finite"),
        (lambda: cartesian_cells(torch.tensor([[0.0, math.inf, 0]]), 0.1), "point 0 at .* is not finite"),
        (lambda: cylindrical_cells(torch.tensor([[0.0, math.nan, 0]])), "point 0 at .* is not finite"),
        (lambda: cartesian_cells(np.array([[1e30, 0, 0]]), 0.1), "far outside"),
        (lambda: voxelise(np.array([[1e5, 0, 0]]), 0.1), "does not fit the packed key"),
        (lambda: cartesian_cells(np.zeros((3, 2)), 0.1), r"not \(N, 3 or more\)"),
        (lambda: cartesian_cells(np.zeros((3, 3)), 0.0), "voxel size 0.0"),
        (lambda: cartesian_cells(np.zeros((3, 3)), (0.1, 0.1)), "voxel size"),
        (lambda: cartesian_cells(np.zeros((3, 3)), "0.1"), "voxel size '0.1'"),
        (lambda: cartesian_cells(np.zeros((3, 3)), None), "voxel size None"),
        (lambda: cartesian_cells(np.zeros((3, 3)), (0.1, math.nan, 0.1)), "voxel size"),
        (lambda: cells_of(np.zeros((3, 3)), np.float32(0.1), "cylindrical"), "three sizes"),
        (lambda: quantisation_error(np.zeros(5), 0.1), r"not \(N, 3 or more\)"),
        (lambda: cells_of(np.zeros((3, 3)), 0.1, "cylindrical"), "three sizes"),
        (lambda: cells_of(np.zeros((3, 3)), 0.1, "cartesien"), "closest: cartesian"),
        (lambda: cells_of(np.zeros((3, 3)), 0.1, None), "unknown grid None"),
        (lambda: cells_of(np.zeros((3, 3)), 0.1, rounding="up"), "unknown rounding 'up'; known: floor, nearest"),
        (lambda: cartesian_cells(np.zeros((3, 3)), True), "voxel size True"),
        (lambda: cells_from_lowest(np.zeros((3, 3), int), np.zeros(2, int)), "does not match 3 coordinates"),
        (lambda: cells_from_lowest(np.zeros((1, 3), int), np.array([-1])), "batch index -1 is outside"),
        (lambda: cells_from_lowest(np.zeros((1, 3), int), np.array([1 << 40])), "is outside 0 to 32767"),
        (lambda: voxelise(np.zeros((3, 3)), 0.1, reduce="median"), "unknown reduction"),
        (lambda: voxelise(np.zeros((3, 3)), 0.1, batch_index=np.zeros(2, int)), "does not match 3 coordinates"),
        (lambda: quantisation_error(np.zeros((0, 3)), 0.1), "no points"),
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
