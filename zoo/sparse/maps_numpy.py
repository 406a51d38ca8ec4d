"""The kernel maps of `zoo.sparse.maps` in NumPy, for a vehicle without torch; identical to the torch version.

The torch version explains the search; this is the same algorithm on NumPy arrays.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import InputError
from zoo.sparse.keys import OFFSET, SENTINEL, Triple, as_triple, axis_offsets, check_cells, check_kernel, key_delta

if TYPE_CHECKING:
    from jaxtyping import Int64, Integer

__all__ = ["NumpyKernelMap", "NumpyMapContext", "coarsen_keys", "pack_keys", "unpack_keys"]

ONE: Triple = (1, 1, 1)


def pack_keys(
    coordinates: Integer[np.ndarray, "N 3"], batch_index: Integer[np.ndarray, " N"] | None = None
) -> Int64[np.ndarray, " N"]:
    """Packed keys of cells.

    Args:
        coordinates: Integer cells in any order; may be negative.
        batch_index: The sample of each cell; one sample if absent.

    Raises:
        InputError: For shapes that do not match, values that are not integers, or cells that overflow the key.
    """
    coordinates = np.asarray(coordinates)
    batch_index = np.zeros(len(coordinates), np.int64) if batch_index is None else np.asarray(batch_index)
    for name, values in (("coordinates", coordinates), ("batch_index", batch_index)):
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"{name} are {values.dtype}, not integers; floor points to cells first")
    if coordinates.ndim != 2 or coordinates.shape[1] != 3:
        raise InputError(f"coordinates of shape {coordinates.shape} are not (N, 3) cells")
    if batch_index.shape != coordinates.shape[:1]:
        raise InputError(f"batch_index of shape {batch_index.shape} does not match {len(coordinates)} coordinates")
    if len(coordinates):
        low, high = coordinates.min(0).tolist(), coordinates.max(0).tolist()
        check_cells(low, high, int(batch_index.min()), int(batch_index.max()))
    return _join(coordinates.astype(np.int64), batch_index.astype(np.int64))


def unpack_keys(keys: Int64[np.ndarray, " N"]) -> tuple[Int64[np.ndarray, "N 3"], Int64[np.ndarray, " N"]]:
    """Cells and batch index of packed keys."""
    fields = np.stack([(keys >> shift) & 0xFFFF for shift in (32, 16, 0)], 1)
    return fields - OFFSET, keys >> 48


def coarsen_keys(
    keys: Int64[np.ndarray, " N"], stride: Triple
) -> tuple[Int64[np.ndarray, " M"], Int64[np.ndarray, " N"]]:
    """Sorted keys of the occupied cells `stride` times as large, and the row of the parent of each input."""
    cells, batch_index = unpack_keys(keys)
    unique, inverse = np.unique(_join(cells // np.array(stride), batch_index), return_inverse=True)
    return unique, inverse


@dataclass(frozen=True, eq=False)
class NumpyKernelMap:
    """Pairs of rows of one convolution, sorted by kernel cell, then by output row.

    Attributes:
        in_index: `(P,)` int64 row of the input of each pair.
        out_index: `(P,)` int64 row of the output of each pair.
        counts: Number of pairs of each kernel cell.
        num_in: Rows of the input.
        num_out: Rows of the output.
    """

    in_index: Int64[np.ndarray, " P"]
    out_index: Int64[np.ndarray, " P"]
    counts: tuple[int, ...]
    num_in: int
    num_out: int

    def transposed(self) -> NumpyKernelMap:
        """The map with input and output swapped."""
        return NumpyKernelMap(self.out_index, self.in_index, self.counts, self.num_out, self.num_in)


class NumpyMapContext:
    """The voxels of one input at every stride, and the kernel maps between them, each built once.

    Args:
        keys: `(N,)` packed keys, sorted, each once (`np.unique(pack_keys(...))`).

    Raises:
        InputError: If the keys are not sorted, unique int64 values.
    """

    def __init__(self, keys: Int64[np.ndarray, " N"]) -> None:
        if keys.dtype != np.int64 or keys.ndim != 1 or not (keys[1:] > keys[:-1]).all():
            raise InputError(
                f"keys of shape {keys.shape} and {keys.dtype} are not int64 in rising order, each once;"
                " use np.unique(pack_keys(...))"
            )
        self._keys: dict[Triple, np.ndarray] = {ONE: keys}
        self._parents: dict[tuple[Triple, Triple], np.ndarray] = {}
        self._maps: dict[tuple[Triple, Triple, Triple, Triple], NumpyKernelMap] = {}

    def keys(self, stride: Triple = ONE) -> Int64[np.ndarray, " N"]:
        """Sorted packed keys of the voxels at `stride`.

        Raises:
            InputError: If no layer has created voxels at that stride yet.
        """
        if stride not in self._keys:
            known = ", ".join(str(s) for s in self._keys)
            raise InputError(
                f"this input has no voxels at stride {stride}, only at {known}; a strided layer makes them"
            )
        return self._keys[stride]

    def parents(self, stride: Triple, step: Triple) -> Int64[np.ndarray, " N"]:
        """Row of the voxel at `stride * step` that contains each voxel at `stride`; creates that level if needed."""
        if (stride, step) not in self._parents:
            keys, inverse = coarsen_keys(self.keys(stride), step)
            self._keys.setdefault((stride[0] * step[0], stride[1] * step[1], stride[2] * step[2]), keys)
            self._parents[stride, step] = inverse
        return self._parents[stride, step]

    def kernel_map(
        self,
        stride: int | Triple,
        kernel_size: int | Triple,
        step: int | Triple = 1,
        dilation: int | Triple = 1,
    ) -> NumpyKernelMap:
        """The map of a layer on the voxels at `stride`; arguments as for `zoo.sparse.maps.MapContext.kernel_map`.

        Raises:
            InputError: If an even kernel keeps the voxels, or the kernel reaches too far.
        """
        stride, step = as_triple(stride, "stride"), as_triple(step, "stride")
        kernel_size, dilation = as_triple(kernel_size, "kernel size"), as_triple(dilation, "dilation")
        name = (stride, kernel_size, step, dilation)
        if name not in self._maps:
            check_kernel(kernel_size, step, dilation)
            self._maps[name] = self._build(stride, kernel_size, step, dilation)
        return self._maps[name]

    def _build(self, stride: Triple, kernel_size: Triple, step: Triple, dilation: Triple) -> NumpyKernelMap:
        fine = self.keys(stride)
        if step == ONE:
            pairs, num_out = _pairs_of_same_voxels(fine, kernel_size, dilation), len(fine)
        else:
            self.parents(stride, step)
            coarse = self.keys((stride[0] * step[0], stride[1] * step[1], stride[2] * step[2]))
            cells, batch_index = unpack_keys(coarse)
            base = _join(cells * np.array(step), batch_index)
            pairs, num_out = _pairs_by_search(fine, base, kernel_size, dilation), len(coarse)
        return NumpyKernelMap(
            np.concatenate([i for i, _ in pairs]),
            np.concatenate([o for _, o in pairs]),
            tuple(len(o) for _, o in pairs),
            len(fine),
            num_out,
        )


Pairs = list[tuple[np.ndarray, np.ndarray]]


def _join(cells: np.ndarray, batch_index: np.ndarray) -> np.ndarray:
    x, y, z = (cells + OFFSET).T
    return (batch_index << 48) + (x << 32) + (y << 16) + z


def _column(keys: np.ndarray, padded: np.ndarray, queries: np.ndarray, cells: range) -> Pairs:
    """Pairs (row in `keys`, row in `queries`) where key = query + cell, for each z of one column of the kernel."""
    wanted = queries + cells[0]
    return _walk(padded, np.searchsorted(keys, wanted), wanted, range(cells[0], cells[-1] + 1), cells)


def _walk(padded: np.ndarray, place: np.ndarray, wanted: np.ndarray, steps: range, cells: range) -> Pairs:
    """Pairs at each of `cells`, moving up one cell per step; `place` is the position of `wanted` for the first."""
    pairs: Pairs = []
    for z in steps:
        hit = padded[place] == wanted
        if z in cells:
            rows = np.flatnonzero(hit)
            pairs.append((place[rows], rows))
        if z != steps[-1]:
            place = place + hit
            wanted = wanted + 1
    return pairs


def _pairs_by_search(fine: np.ndarray, base: np.ndarray, kernel_size: Triple, dilation: Triple) -> Pairs:
    x_cells, y_cells, z_cells = map(axis_offsets, kernel_size, dilation)
    padded = np.append(fine, SENTINEL)
    pairs: Pairs = []
    for x, y in itertools.product(x_cells, y_cells):
        pairs += _column(fine, padded, base + key_delta((x, y, 0)), z_cells)
    return pairs


def _pairs_of_same_voxels(keys: np.ndarray, kernel_size: Triple, dilation: Triple) -> Pairs:
    x_cells, y_cells, z_cells = map(axis_offsets, kernel_size, dilation)
    padded = np.append(keys, SENTINEL)
    rows = np.arange(len(keys))
    below: Pairs = []
    for x, y in itertools.product(x_cells, y_cells):
        if (x, y) < (0, 0):
            below += _column(keys, padded, keys + key_delta((x, y, 0)), z_cells)
    if len(z_cells) > 1:
        # A voxel's own column needs no search: the cell above is in the next row, or absent.
        above = _walk(padded, rows + 1, keys + 1, range(1, z_cells[-1] + 1), z_cells)
        below += [(o, i) for i, o in reversed(above)]
    return [*below, (rows, rows), *((o, i) for i, o in reversed(below))]
