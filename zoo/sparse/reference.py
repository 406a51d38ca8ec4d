"""The reference convolution: gather, one matrix product per kernel cell, sum per output row. Plain PyTorch.

Three choices make it fast without compiled code:

- Only existing pairs are computed: 6 to 10 of the 27 cells of a 3x3x3 kernel on lidar.
- The products of one block of output rows are written side by side, and `embedding_bag` adds those of each row.
  Adding them into the output one kernel cell at a time (`index_add_`) takes about twice as long for the whole layer.
- Blocks have a fixed number of rows, so the buffers for products stay small for clouds of any size, and each thread
  reuses them across calls: page faults on fresh memory would cost more than the gathering itself.

Products accumulate in 32 bits. If the processor has no instructions for bfloat16 or float16, features are converted to
float32, summed in float32, and only the result is converted back.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.sparse.maps import KernelMap

__all__ = ["Finish", "convolve_reference", "prepare", "work_dtype"]

BLOCK_ROWS = 16384
"""Output rows per block; their products take 35 MB for 96 channels on lidar. More is not faster; at most 2^15."""


@dataclass(frozen=True)
class Finish:
    """Operations fused into a convolution when no gradient is needed, applied while each block is in the cache.

    Attributes:
        scale: `(C,)` factor per channel, in the dtype of the sums.
        shift: `(C,)` term per channel; given together with `scale`.
        residual: `(N, C)` features to add after that.
        relu: Clamp at 0 at the end.
    """

    scale: Float[Tensor, " C"] | None = None
    shift: Float[Tensor, " C"] | None = None
    residual: Float[Tensor, "N C"] | None = None
    relu: bool = False

    def rows(self, sums: Tensor, out: Tensor, start: int, stop: int) -> None:
        """Writes the rows `start` to `stop` of `out`, given their sums; `out` may be the sums themselves."""
        target = out[start:stop]
        if self.scale is None or self.shift is None:
            if sums is not out:
                target.copy_(sums)
        elif sums.dtype == out.dtype:
            torch.addcmul(self.shift, sums, self.scale, out=target)
        else:
            target.copy_(torch.addcmul(self.shift, sums, self.scale))
        if self.residual is not None:
            target.add_(self.residual[start:stop])
        if self.relu:
            target.clamp_(min=0)


@dataclass(frozen=True, eq=False)
class _Block:
    """The pairs of the output rows `start` to `stop`.

    The middle cell of a kernel that keeps the voxels pairs each row with itself, so it needs no gathering and its pairs
    are not listed. The products of the other cells are in one buffer, sorted by kernel cell, then by output row.

    Attributes:
        in_index: Input row of each listed pair.
        out_index: Output row of each listed pair.
        counts: Listed pairs per kernel cell; 0 for the middle cell.
        order: Positions in the buffer, sorted by output row.
        ends: Start of each output row's positions in `order`, and the end of the last.
    """

    start: int
    stop: int
    in_index: Tensor
    out_index: Tensor
    counts: list[int]
    order: Tensor
    ends: Tensor


def _blocks(kernel_map: KernelMap) -> list[_Block]:
    """The map split into blocks of output rows, computed once and kept with the map."""
    if "blocks" not in kernel_map.cache:
        kernel_map.cache["blocks"] = _cut_into_blocks(kernel_map)
    return kernel_map.cache["blocks"]


def prepare(kernel_map: KernelMap) -> None:
    """Performs the one-time preparation that the first convolution along the map would do, to time it separately."""
    _blocks(kernel_map)


def _cut_into_blocks(kernel_map: KernelMap) -> list[_Block]:
    middle, edges = _middle(kernel_map), _block_edges(kernel_map)
    others = [k for k in range(len(edges)) if k != middle]
    blocks = []
    for b, start in enumerate(range(0, kernel_map.num_out, BLOCK_ROWS)):
        stop = min(start + BLOCK_ROWS, kernel_map.num_out)
        parts = [slice(edges[k][b], edges[k][b + 1]) for k in others]
        in_index = torch.cat([kernel_map.in_index[part] for part in parts]) if parts else kernel_map.in_index[:0]
        out_index = torch.cat([kernel_map.out_index[part] for part in parts]) if parts else kernel_map.out_index[:0]
        # 16-bit row numbers: sorting them takes a fifth of the time of 64-bit ones.
        rows = (out_index - start).to(torch.int16)
        order = torch.sort(rows, stable=True)[1]
        ends = order.new_zeros(stop - start + 1)
        torch.cumsum(torch.bincount(rows, minlength=stop - start), 0, out=ends[1:])
        counts = [0 if k == middle else row[b + 1] - row[b] for k, row in enumerate(edges)]
        blocks.append(_Block(start, stop, in_index, out_index, counts, order, ends))
    return blocks


def _block_edges(kernel_map: KernelMap) -> list[list[int]]:
    """For each kernel cell, the start of each block of output rows in the map's pairs, and the end of the last."""
    firsts = [0, *itertools.accumulate(kernel_map.counts)]
    if kernel_map.num_out <= BLOCK_ROWS:
        return [[first, last] for first, last in itertools.pairwise(firsts)]
    rows = torch.arange(BLOCK_ROWS, kernel_map.num_out, BLOCK_ROWS, device=kernel_map.out_index.device)
    inner = [torch.searchsorted(part, rows) for part in kernel_map.out_index.split(kernel_map.counts)]
    table = torch.stack(inner).tolist()
    return [
        [first, *(first + cut for cut in cuts), last]
        for (first, last), cuts in zip(itertools.pairwise(firsts), table, strict=True)
    ]


@cache
def _multiplies_natively(dtype: torch.dtype, device: str) -> bool:
    """Whether this device has native instructions for matrix products in `dtype`."""
    if device != "cpu" or dtype in (torch.float32, torch.float64):
        return True
    names = {torch.bfloat16: ("_is_avx512_bf16_supported", "_is_amx_tile_supported")}.get(dtype, ())
    return any(getattr(torch.cpu, name, bool)() for name in names)


def work_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype in which products and sums of `dtype` features are computed."""
    return dtype if _multiplies_natively(dtype, device.type) else torch.float32


class _Workspace(threading.local):
    """Buffers that each thread reuses across calls, on the CPU.

    Fresh memory of this size costs a page fault per 4 KB, more than the work done in it; the allocator of a GPU caches
    memory itself.
    """

    def __init__(self) -> None:
        self.held: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, rows: int, columns: int, like: Tensor) -> Tensor:
        """A buffer of `rows` by `columns`, valid until the same name is taken again."""
        if like.device.type != "cpu":
            return like.new_empty(rows, columns)
        held = self.held.get((name, like.dtype))
        if held is None or held.numel() < rows * columns:
            with torch.inference_mode(False):  # a buffer created in inference mode could not be used in training later
                held = torch.empty(rows * columns, dtype=like.dtype)
            self.held[name, like.dtype] = held
        return held[: rows * columns].view(rows, columns)


_workspace = _Workspace()


def _gather(name: str, rows: Tensor, index: Tensor) -> Tensor:
    gathered = _workspace.take(name, len(index), rows.shape[1], rows)
    return torch.index_select(rows, 0, index, out=gathered)


def _sums(rows: Tensor, weights: list[Tensor], block: _Block, middle: int) -> Tensor:
    """Sum over the pairs of each output row of a block: input row times the matrix of the kernel cell."""
    products = _workspace.take("products", len(block.in_index), weights[0].shape[1], rows)
    indices, targets = block.in_index.split(block.counts), products.split(block.counts)
    for index, matrix, target in zip(indices, weights, targets, strict=True):
        if len(index):
            # One kernel cell at a time, so that the gathered rows are still in the cache when they are multiplied.
            torch.mm(_gather("gathered", rows, index), matrix, out=target)
    return _sum_per_row(products, block, rows, weights, middle)


def _sum_per_row(products: Tensor, block: _Block, rows: Tensor, weights: list[Tensor], middle: int) -> Tensor:
    sums = F.embedding_bag(block.order, products, block.ends, mode="sum", include_last_offset=True)
    return sums.addmm_(rows[block.start : block.stop], weights[middle]) if middle >= 0 else sums


def _middle(kernel_map: KernelMap) -> int:
    return len(kernel_map.counts) // 2 if kernel_map.keeps_voxels else -1


def _forward(features: Tensor, weight: Tensor, kernel_map: KernelMap, finish: Finish) -> Tensor:
    dtype = work_dtype(features.dtype, features.device)
    rows, weights = features.to(dtype), list(weight.to(dtype).unbind())
    blocks, middle = _blocks(kernel_map), _middle(kernel_map)
    if len(blocks) == 1 and dtype == features.dtype:
        out = _sums(rows, weights, blocks[0], middle)
        finish.rows(out, out, 0, len(out))
        return out
    out = features.new_empty(kernel_map.num_out, weight.shape[2])
    for block in blocks:
        finish.rows(_sums(rows, weights, block, middle), out, block.start, block.stop)
    return out


def _backward(
    grad: Tensor, features: Tensor, weight: Tensor, kernel_map: KernelMap, needs_features: bool, needs_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the features and of the weight.

    Both use the swapped map, whose outputs are the rows of the features: the gradient of a row is the sum over its
    pairs of the output gradient times the transposed weight, and the gradient of a kernel cell's weight is
    features^T gradient.
    """
    dtype = work_dtype(features.dtype, features.device)
    grad, rows, weight = grad.to(dtype), features.to(dtype), weight.to(dtype)
    # The swapped map of a kernel that keeps the voxels is the map itself with its cells in reverse order.
    back = kernel_map if kernel_map.keeps_voxels else kernel_map.transposed()
    weights = list(weight.transpose(1, 2).unbind())
    grad_features = torch.empty_like(features) if needs_features else None
    grad_weight = torch.zeros(weight.shape, dtype=_sum_dtype(dtype), device=grad.device) if needs_weight else None
    weight_slots = list(grad_weight.unbind()) if grad_weight is not None else []
    if kernel_map.keeps_voxels:
        weights.reverse()
        weight_slots.reverse()
    for block in _blocks(back):
        sums = _backward_block(block, grad, rows, weights if needs_features else None, weight_slots, _middle(back))
        if grad_features is not None and sums is not None:
            grad_features[block.start : block.stop] = sums
    return grad_features, grad_weight


def _backward_block(
    block: _Block, grad: Tensor, rows: Tensor, weights: list[Tensor] | None, slots: list[Tensor], middle: int
) -> Tensor | None:
    """The gradient of the block's rows (if `weights` is given); adds inputs^T gradients to `slots` (if any).

    The block belongs to the swapped map: it gathers gradients, and its outputs are rows of the features.
    """
    columns = weights[0].shape[1] if weights is not None else 0
    products = _workspace.take("products", len(block.in_index), columns, grad)
    indices = zip(*(index.split(block.counts) for index in (block.in_index, block.out_index)), strict=True)
    for k, ((grad_index, row_index), target) in enumerate(zip(indices, products.split(block.counts), strict=True)):
        if not len(grad_index):
            continue
        gathered = _gather("gathered", grad, grad_index)
        if weights is not None:
            torch.mm(gathered, weights[k], out=target)
        if slots:
            _add_product(slots[k], _gather("inputs", rows, row_index), gathered)
    if slots and middle >= 0:
        _add_product(slots[middle], rows[block.start : block.stop], grad[block.start : block.stop])
    return None if weights is None else _sum_per_row(products, block, grad, weights, middle)


def _add_product(slot: Tensor, left: Tensor, right: Tensor) -> None:
    if slot.dtype == left.dtype:
        slot.addmm_(left.t(), right)
    else:
        slot += left.t() @ right


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map = kernel_map
        return _forward(features, weight, kernel_map, Finish())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        needs_features, needs_weight, _ = ctx.needs_input_grad
        grads = _backward(grad, features, weight, ctx.kernel_map, needs_features, needs_weight)
        return grads[0], None if grads[1] is None else grads[1].to(weight.dtype), None


def convolve_reference(
    features: Float[Tensor, "N C"],
    weight: Float[Tensor, "K C D"],
    kernel_map: KernelMap,
    finish: Finish | None = None,
) -> Float[Tensor, "M D"]:
    """Output features: for each output row, the sum over its pairs of input row times the kernel cell's matrix.

    Args:
        features: `(num_in, C)`, of the dtype of the weight.
        weight: Kernel cells in the order of `zoo.sparse.keys.kernel_offsets`.
        kernel_map: Pairs of rows.
        finish: Operations to apply to the result; only without gradients.

    Raises:
        InputError: If `finish` is given while gradients are recorded.
    """
    needs_grad = torch.is_grad_enabled() and (features.requires_grad or weight.requires_grad)
    with torch.autocast(features.device.type, enabled=False):
        if not needs_grad:
            return _forward(features.detach(), weight.detach(), kernel_map, finish or Finish())
        if finish is not None:
            raise InputError("a finish is applied in place and has no gradient; use torch.no_grad()")
        return _Convolution.apply(features, weight, kernel_map)
