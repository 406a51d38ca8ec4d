"""The sparse tensor: features on occupied cells, and a context with their coordinates at every stride."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.errors import InputError, closest
from zoo.sparse.keys import Triple
from zoo.sparse.maps import ONE, MapContext, check_tensors, pack, unpack

__all__ = [
    "REDUCTIONS",
    "Reduction",
    "SparseTensor",
    "cat",
    "check_sparse",
    "reduce_rows",
    "sparse_tensor",
]

Reduction = Literal["first", "mean", "sum", "max"]
REDUCTIONS: tuple[str, ...] = ("first", "mean", "sum", "max")


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features of the occupied cells of a batch of samples. Create one with `sparse_tensor`.

    Attributes:
        features: `(N, C)` float, one row per cell, in the order of the context's keys.
        context: Coordinates and kernel maps of the input that this tensor belongs to.
        stride: Size of a cell along x, y and z, in cells of the input.
    """

    features: Float[Tensor, "N C"]
    context: MapContext
    stride: Triple = ONE

    def __post_init__(self) -> None:
        check_tensors(features=self.features)
        rows = len(self.context.keys(self.stride))
        if self.features.ndim != 2 or len(self.features) != rows:
            raise InputError(
                f"features of shape {tuple(self.features.shape)} do not match the {rows} cells at stride {self.stride}"
            )
        if self.features.device != self.context.device:
            raise InputError(f"features are on {self.features.device}, the coordinates on {self.context.device}")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def keys(self) -> Int[Tensor, " N"]:
        """Packed key of each cell, sorted."""
        return self.context.keys(self.stride)

    @property
    def coordinates(self) -> Int[Tensor, "N 3"]:
        """Cells at this tensor's stride; multiplied by the stride, the lowest input cell that each contains."""
        return unpack(self.keys)[0]

    @property
    def batch_index(self) -> Int[Tensor, " N"]:
        """The sample of each cell."""
        return self.keys >> 48

    @property
    def batch_size(self) -> int:
        """Number of samples in the batch, empty ones included."""
        return self.context.batch_size

    def with_features(self, features: Float[Tensor, "N D"]) -> SparseTensor:
        """A tensor with other features on the same cells."""
        return replace(self, features=features)

    def check_same_cells(self, other: SparseTensor, purpose: str) -> None:
        """Checks that another tensor has the same cells.

        Raises:
            InputError: If `other` belongs to another input, or to another stride of this one.
        """
        if other.context is not self.context:
            raise InputError(f"{purpose}: the two tensors belong to different inputs, so their rows do not match")
        if other.stride != self.stride:
            raise InputError(f"{purpose}: cells at stride {self.stride} and {other.stride} do not match")

    def __add__(self, other: SparseTensor) -> SparseTensor:
        check_sparse("sum", other)
        self.check_same_cells(other, "sum")
        if other.features.shape != self.features.shape:
            raise InputError(f"sum: {self.features.shape[1]} and {other.features.shape[1]} channels do not match")
        return self.with_features(self.features + other.features)

    def rows_at(self, stride: Triple) -> Int[Tensor, " M"]:
        """For each cell at the finer `stride`, the row of the cell of this tensor that contains it.

        Raises:
            InputError: If the input has no such stride, or this stride is not a multiple of it.
        """
        step = (self.stride[0] // stride[0], self.stride[1] // stride[1], self.stride[2] // stride[2])
        if (step[0] * stride[0], step[1] * stride[1], step[2] * stride[2]) != self.stride:
            raise InputError(f"stride {self.stride} is not a multiple of {stride}")
        return self.context.parents(stride, step)


def check_sparse(taker: object, x: object) -> None:
    """Checks that `x` is a sparse tensor.

    Args:
        taker: The called layer, or the name of the called function.
        x: The argument.

    Raises:
        InputError: If it is a dense tensor, an array or anything else.
    """
    if isinstance(x, SparseTensor):
        return
    name = taker if isinstance(taker, str) else type(taker).__name__
    given = f"a dense tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    raise InputError(f"{name} takes a SparseTensor, not {given}; make one with zoo.sparse.sparse_tensor")


def sparse_tensor(
    features: Float[Tensor, "P C"],
    coordinates: Int[Tensor, "P 3"],
    batch_index: Int[Tensor, " P"] | None = None,
    *,
    batch_size: int | None = None,
    reduce: Reduction = "mean",
) -> tuple[SparseTensor, Int[Tensor, " P"]]:
    """A sparse tensor from rows in any order, and for each given row its row in the tensor.

    Args:
        features: One row per point or voxel.
        coordinates: Integer cell of each row; several rows may share one.
        batch_index: The sample of each row; one sample if absent.
        batch_size: Number of samples in the batch; the largest index plus one if absent.
        reduce: How to combine the rows of a cell: the first given, their mean, sum or maximum.

    Raises:
        InputError: For anything but torch tensors, lengths that do not match, NaN or infinite features, coordinates
            that are not integers or do not fit the packed key, a batch size that is too small, or an unknown reduction.
    """
    check_tensors(features=features, coordinates=coordinates)
    if batch_index is not None:
        check_tensors(batch_index=batch_index)
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, Integral)):
        raise InputError(f"batch size {batch_size!r} is not an integer")
    if features.ndim != 2 or not features.is_floating_point():
        raise InputError(f"features of shape {tuple(features.shape)} and {features.dtype} are not (N, C) floats")
    if len(features) != len(coordinates):
        raise InputError(f"{len(features)} rows of features do not match {len(coordinates)} coordinates")
    if not torch.isfinite(features).all():
        row = int((~torch.isfinite(features)).any(1).nonzero()[0])
        raise InputError(f"features of row {row} are not finite; drop such points first")
    if batch_index is None:
        batch_index = coordinates.new_zeros(len(coordinates), dtype=torch.int64)
    keys, inverse = torch.unique(pack(coordinates, batch_index), return_inverse=True)
    needed = int(keys[-1] >> 48) + 1 if len(keys) else 0
    if batch_size is None:
        batch_size = max(needed, 1)
    return SparseTensor(reduce_rows(features, inverse, len(keys), reduce), MapContext(keys, batch_size)), inverse


def reduce_rows(
    features: Float[Tensor, "P C"], target: Int[Tensor, " P"], count: int, reduce: Reduction
) -> Float[Tensor, "M C"]:
    """Combines the rows that share a target into one row; a target without rows is 0.

    Args:
        features: Rows to reduce.
        target: Row of the result for each one.
        count: Number of rows in the result.
        reduce: `first` takes the row given first.

    Raises:
        InputError: For an unknown reduction.
    """
    if reduce not in REDUCTIONS:
        known = ", ".join(REDUCTIONS)
        raise InputError(f"unknown reduction {reduce!r}; known: {known}{closest(str(reduce), REDUCTIONS)}")
    if reduce == "first":
        places = torch.arange(len(target), device=target.device)
        first = torch.full((count,), len(target), device=target.device)
        first.scatter_reduce_(0, target, places, "amin")
        rows = features.new_zeros(count, features.shape[1])
        hit = first < len(target)
        rows[hit] = features[first[hit]]
        return rows
    if reduce == "max":
        wide = target[:, None].expand(-1, features.shape[1])
        empty = features.new_zeros(count, features.shape[1])
        return empty.scatter_reduce(0, wide, features, "amax", include_self=False)
    # Sums in at least 32 bits: the sum of a hundred points in bfloat16 would lose most of its precision.
    wide_dtype = torch.promote_types(features.dtype, torch.float32)
    total = features.new_zeros(count, features.shape[1], dtype=wide_dtype).index_add(0, target, features.to(wide_dtype))
    if reduce == "mean":
        total = total / torch.bincount(target, minlength=count).clamp(min=1)[:, None]
    return total.to(features.dtype)


def cat(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """The features of several tensors side by side.

    Raises:
        InputError: If there are none, or they do not have the same cells.
    """
    if not tensors:
        raise InputError("cat: no tensors were given; at least one is needed")
    for x in tensors:
        check_sparse("cat", x)
    for other in tensors[1:]:
        tensors[0].check_same_cells(other, "cat")
    return tensors[0].with_features(torch.cat([t.features for t in tensors], dim=1))
