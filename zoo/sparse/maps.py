"""Kernel maps on torch tensors: which input row feeds which output row, for every cell of a kernel.

All maps are built by searching sorted packed keys (`zoo.sparse.keys`). One search finds the start of a whole column of
the kernel; its other cells are a step or two further along the sorted array, since z is the fastest field. A kernel
that keeps the voxels needs a search for only half of its cells: the other half has the same pairs, with input and
output swapped.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from zoo.errors import InputError
from zoo.sparse.keys import (
    OFFSET,
    SENTINEL,
    Triple,
    as_triple,
    axis_offsets,
    check_cells,
    check_kernel,
    key_delta,
)

__all__ = ["KernelMap", "MapContext", "check_tensors", "coarsen", "pack", "unpack"]

ONE: Triple = (1, 1, 1)


def check_tensors(**values: object) -> None:
    """Checks that all values are torch tensors; the keywords are the argument names for the error message.

    Raises:
        InputError: If a value is anything else, such as a NumPy array or a list.
    """
    for name, value in values.items():
        if not isinstance(value, Tensor):
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise InputError(f"{name} is a {kind}, not a torch tensor; use torch.as_tensor({name})")


def pack(coordinates: Int[Tensor, "N 3"], batch_index: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Packed keys of cells.

    Args:
        coordinates: Integer cells in any order; may be negative.
        batch_index: The sample of each cell.

    Raises:
        InputError: For anything but torch tensors, shapes that do not match, values that are not integers, or cells
            that overflow the key.
    """
    check_tensors(coordinates=coordinates, batch_index=batch_index)
    for name, values in (("coordinates", coordinates), ("batch_index", batch_index)):
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            raise InputError(f"{name} are {values.dtype}, not integers; floor points to cells first")
    if coordinates.ndim != 2 or coordinates.shape[1] != 3:
        raise InputError(f"coordinates of shape {tuple(coordinates.shape)} are not (N, 3) cells")
    if batch_index.shape != coordinates.shape[:1]:
        raise InputError(
            f"batch_index of shape {tuple(batch_index.shape)} does not match {len(coordinates)} coordinates"
        )
    coordinates, batch_index = coordinates.long(), batch_index.long()
    if len(coordinates):
        low, high = torch.aminmax(coordinates, dim=0)
        first, last = torch.aminmax(batch_index)
        check_cells(low.tolist(), high.tolist(), int(first), int(last))
    x, y, z = (coordinates + OFFSET).unbind(1)
    return (batch_index << 48) | (x << 32) | (y << 16) | z


def unpack(keys: Int[Tensor, " N"]) -> tuple[Int[Tensor, "N 3"], Int[Tensor, " N"]]:
    """Cells and batch index of packed keys."""
    fields = torch.stack([(keys >> shift) & 0xFFFF for shift in (32, 16, 0)], 1)
    return fields - OFFSET, keys >> 48


def coarsen(keys: Int[Tensor, " N"], stride: Triple) -> tuple[Int[Tensor, " M"], Int[Tensor, " N"]]:
    """Sorted keys of the occupied cells `stride` times as large, and the row of the parent of each input."""
    if stride == (2, 2, 2):
        # floor(c / 2) in every field at once: halve, clear bits that crossed a field border, add back half the offset.
        half = (keys >> 1) & 0x0000_7FFF_7FFF_7FFF
        parents = (keys & (0x7FFF << 48)) | (half + (key_delta((1, 1, 1)) << 14))
    else:
        cells, batch_index = unpack(keys)
        step = torch.tensor(stride, device=keys.device)
        x, y, z = (torch.div(cells, step, rounding_mode="floor") + OFFSET).unbind(1)
        parents = (batch_index << 48) | (x << 32) | (y << 16) | z
    unique, inverse = torch.unique(parents, return_inverse=True)
    return unique, inverse


@dataclass(eq=False)
class KernelMap:
    """Pairs of rows of one convolution, sorted by kernel cell, then by output row.

    Both row lists increase within a kernel cell, so swapping them gives the map of the transposed layer.

    Attributes:
        in_index: `(P,)` row of the input of each pair.
        out_index: `(P,)` row of the output of each pair.
        counts: Number of pairs of each kernel cell.
        num_in: Rows of the input.
        num_out: Rows of the output.
        in_stride: Stride of the input's voxels, in cells of the context's first level.
        out_stride: The same for the output.
        kernel_size: Cells of the kernel.
        dilation: Distance between its cells.
        keeps_voxels: Input and output have the same rows, and the kernel is odd: its middle cell pairs each row with
            itself, and the pairs of cell k are those of cell K - 1 - k, swapped.
    """

    in_index: Int[Tensor, " P"]
    out_index: Int[Tensor, " P"]
    counts: tuple[int, ...]
    num_in: int
    num_out: int
    in_stride: Triple
    out_stride: Triple
    kernel_size: Triple
    dilation: Triple
    keeps_voxels: bool = False
    owner: object = None
    """Identifies the input that the map was built for: the same object as the `owner` of its context."""
    cache: dict[str, Any] = field(default_factory=dict, repr=False)
    """Data that backends derive from the map, computed once and kept with it."""

    def transposed(self) -> KernelMap:
        """The map with input and output swapped, built once."""
        if "transposed" not in self.cache:
            self.cache["transposed"] = KernelMap(
                self.out_index,
                self.in_index,
                self.counts,
                num_in=self.num_out,
                num_out=self.num_in,
                in_stride=self.out_stride,
                out_stride=self.in_stride,
                kernel_size=self.kernel_size,
                dilation=self.dilation,
                keeps_voxels=self.keeps_voxels,
                owner=self.owner,
            )
        return self.cache["transposed"]


class MapContext:
    """The voxels of one input at every stride, and the kernel maps between them, each built once.

    A context belongs to one set of voxels. Layers look up maps by stride, kernel size and dilation; layers with the
    same parameters share one map, and a transposed layer gets the map of its strided twin.

    Args:
        keys: `(N,)` packed keys, sorted, each once.
        batch_size: Samples in the batch; a sample may be empty.

    Raises:
        InputError: If the keys are not sorted, unique int64 values, or there are more samples than `batch_size`.
    """

    def __init__(self, keys: Int[Tensor, " N"], batch_size: int) -> None:
        check_tensors(keys=keys)
        if keys.dtype != torch.int64 or keys.ndim != 1 or not bool((keys[1:] > keys[:-1]).all()):
            raise InputError(
                f"keys of shape {tuple(keys.shape)} and {keys.dtype} are not int64 in rising order, each once;"
                " use torch.unique(pack(...)), or sparse_tensor"
            )
        needed = int(keys[-1] >> 48) + 1 if len(keys) else 0
        if batch_size < needed:
            raise InputError(f"batch size {batch_size} is too small; the largest batch index needs {needed}")
        self.batch_size = batch_size
        # Not the context itself: a reference cycle would keep the maps in memory until the garbage collector runs.
        self.owner = object()
        self._keys: dict[Triple, Tensor] = {ONE: keys}
        self._parents: dict[tuple[Triple, Triple], Tensor] = {}
        self._maps: dict[tuple[Triple, Triple, Triple, Triple], KernelMap] = {}

    @property
    def device(self) -> torch.device:
        """Where the maps live."""
        return self._keys[ONE].device

    def strides(self) -> list[Triple]:
        """Strides that have been created so far."""
        return list(self._keys)

    def keys(self, stride: Triple = ONE) -> Int[Tensor, " N"]:
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

    def parents(self, stride: Triple, step: Triple) -> Int[Tensor, " N"]:
        """Row of the voxel at `stride * step` that contains each voxel at `stride`; creates that level if needed."""
        if (stride, step) not in self._parents:
            coarse = (stride[0] * step[0], stride[1] * step[1], stride[2] * step[2])
            keys, inverse = coarsen(self.keys(stride), step)
            # The cells at a stride are the same along every path to it: floor(floor(c / a) / b) = floor(c / (a b)).
            self._keys.setdefault(coarse, keys)
            self._parents[stride, step] = inverse
        return self._parents[stride, step]

    def kernel_map(
        self,
        stride: int | Triple,
        kernel_size: int | Triple,
        step: int | Triple = 1,
        dilation: int | Triple = 1,
    ) -> KernelMap:
        """The kernel map of a layer on the voxels at `stride`.

        Args:
            stride: Stride of the layer's input.
            kernel_size: 1 or more cells along each axis.
            step: Stride of the layer itself; 1 keeps the voxels.
            dilation: Distance between the kernel's cells.

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

    def twin_map(self, stride: Triple, kernel_size: Triple, step: Triple, dilation: Triple) -> KernelMap:
        """The map of a transposed layer on the voxels at `stride`: that of its strided twin, swapped.

        Raises:
            InputError: If `stride` is not a multiple of `step`, or there are no voxels at the finer stride.
        """
        fine = (stride[0] // step[0], stride[1] // step[1], stride[2] // step[2])
        if (fine[0] * step[0], fine[1] * step[1], fine[2] * step[2]) != stride or fine not in self._keys:
            raise InputError(
                f"a transposed layer of stride {step} on voxels at stride {stride} has no strided twin in this input;"
                f" strides made so far: {', '.join(str(s) for s in self._keys)}"
            )
        return self.kernel_map(fine, kernel_size, step, dilation).transposed()

    def _build(self, stride: Triple, kernel_size: Triple, step: Triple, dilation: Triple) -> KernelMap:
        fine = self.keys(stride)
        if step == ONE:
            pairs = _pairs_of_same_voxels(fine, kernel_size, dilation)
            num_out, out_stride = len(fine), stride
        else:
            parents = self.parents(stride, step)
            out_stride = (stride[0] * step[0], stride[1] * step[1], stride[2] * step[2])
            coarse = self.keys(out_stride)
            num_out = len(coarse)
            if kernel_size == step and max(step) <= 2 and dilation == ONE:
                pairs = _pairs_of_tiles(fine, parents, step)
            else:
                pairs = _pairs_by_search(fine, _scale(coarse, step), kernel_size, dilation)
        return KernelMap(
            torch.cat([i for i, _ in pairs]),
            torch.cat([o for _, o in pairs]),
            tuple(len(o) for _, o in pairs),
            num_in=len(fine),
            num_out=num_out,
            in_stride=stride,
            out_stride=out_stride,
            kernel_size=kernel_size,
            dilation=dilation,
            keeps_voxels=step == ONE,
            owner=self.owner,
        )


Pairs = list[tuple[Tensor, Tensor]]


def _scale(keys: Tensor, step: Triple) -> Tensor:
    """Keys of the lowest fine cell of each coarse cell; may exceed the cell range by one step, but never a field."""
    cells, batch_index = unpack(keys)
    x, y, z = (cells * torch.tensor(step, device=keys.device) + OFFSET).unbind(1)
    return (batch_index << 48) + (x << 32) + (y << 16) + z


def _column(keys: Tensor, padded: Tensor, queries: Tensor, cells: range) -> Pairs:
    """Pairs of a column of kernel cells: (row in `keys`, row in `queries`) where key = query + cell, for each cell.

    Args:
        keys: Sorted keys.
        padded: `keys` with a sentinel at the end.
        queries: Key of z = 0 of each output, for this column.
        cells: z of the cells of the column, increasing by a fixed step.
    """
    wanted = queries + cells[0]
    return _walk(padded, torch.searchsorted(keys, wanted), wanted, range(cells[0], cells[-1] + 1), cells)


def _walk(padded: Tensor, place: Tensor, wanted: Tensor, steps: range, cells: range) -> Pairs:
    """Pairs at each of `cells`, moving up one cell per step; `place` is the position of `wanted` for the first."""
    pairs: Pairs = []
    for z in steps:
        hit = padded.index_select(0, place) == wanted
        if z in cells:
            rows = hit.nonzero().squeeze(1)
            pairs.append((place.index_select(0, rows), rows))
        if z != steps[-1]:
            # The next cell is one position further if this one was found, otherwise at the same position.
            place = place + hit
            wanted = wanted + 1
    return pairs


def _pairs_by_search(fine: Tensor, base: Tensor, kernel_size: Triple, dilation: Triple) -> Pairs:
    x_cells, y_cells, z_cells = map(axis_offsets, kernel_size, dilation)
    padded = torch.cat([fine, fine.new_tensor([SENTINEL])])
    pairs: Pairs = []
    for x, y in itertools.product(x_cells, y_cells):
        pairs += _column(fine, padded, base + key_delta((x, y, 0)), z_cells)
    return pairs


def _pairs_of_same_voxels(keys: Tensor, kernel_size: Triple, dilation: Triple) -> Pairs:
    x_cells, y_cells, z_cells = map(axis_offsets, kernel_size, dilation)
    padded = torch.cat([keys, keys.new_tensor([SENTINEL])])
    rows = torch.arange(len(keys), device=keys.device)
    below: Pairs = []
    for x, y in itertools.product(x_cells, y_cells):
        if (x, y) < (0, 0):
            below += _column(keys, padded, keys + key_delta((x, y, 0)), z_cells)
    # A voxel's own column needs no search: the cell above is in the next row, or absent.
    above = _walk(padded, rows + 1, keys + 1, range(1, z_cells[-1] + 1), z_cells) if len(z_cells) > 1 else []
    below += [(o, i) for i, o in reversed(above)]
    return [*below, (rows, rows), *((o, i) for i, o in reversed(below))]


def _pairs_of_tiles(fine: Tensor, parents: Tensor, step: Triple) -> Pairs:
    """A kernel as large as its stride, 1 or 2 along each axis: each fine voxel has exactly one pair."""
    # OFFSET is even, so the lowest bit of each field is the cell's position in its tile.
    cell = torch.zeros_like(fine)
    for shift, size in zip((32, 16, 0), step, strict=True):
        cell = cell * size + ((fine >> shift) & (size - 1))
    volume = step[0] * step[1] * step[2]
    rows = torch.sort(cell.to(torch.uint8), stable=True)[1]
    counts = torch.bincount(cell, minlength=volume).tolist()
    return list(zip(rows.split(counts), parents.index_select(0, rows).split(counts), strict=True))
