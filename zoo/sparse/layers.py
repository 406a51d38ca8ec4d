"""Layers on sparse tensors: convolution, batch norm, ReLU, pooling. Kernel maps come from the tensor's context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.sparse.backends import BackendName, check_backend_name, check_channels, check_fit, convolve, pick_backend
from zoo.sparse.keys import Triple, as_triple, check_kernel
from zoo.sparse.maps import ONE, KernelMap
from zoo.sparse.reference import Finish, convolve_reference, work_dtype
from zoo.sparse.tensor import SparseTensor, check_sparse, reduce_rows

__all__ = ["ConvBlock", "SparseBatchNorm", "SparseConv3d", "SparsePool3d", "SparseReLU", "global_pool", "set_backend"]


class SparseConv3d(nn.Module):
    """Convolution on the occupied cells.

    With stride 1 the output has the cells of the input (submanifold). With a larger stride it has the cells
    `floor(c / stride)`. A transposed layer returns to the finer cells that the matching strided layer (its twin)
    started from, along the twin's map. On these cells the values equal those of a dense convolution on a grid that is
    0 elsewhere, padded by `dilation * ((kernel - 1) // 2)` below.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Cells along each axis, one integer or three; odd if the stride is 1.
        stride: Size of output cells relative to input cells (of input relative to output cells if transposed).
        dilation: Distance between the kernel's cells.
        bias: Whether to add a learned bias per channel.
        transposed: Whether the output cells are finer.
        backend: Convolution backend (`zoo.sparse.backends`).

    Attributes:
        weight: `(K, in_channels, out_channels)`; kernel cells with z fastest (`zoo.sparse.keys.kernel_offsets`).

    Raises:
        InputError: If an even kernel has stride 1, the kernel reaches too far, the stride is too large, a channel count
            is not positive, or the backend is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        transposed: bool = False,
        backend: BackendName = "auto",
    ) -> None:
        super().__init__()
        _check_count("in_channels", in_channels)
        _check_count("out_channels", out_channels)
        _check_flags(bias=bias, transposed=transposed)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size: Triple = as_triple(kernel_size, "kernel size")
        self.stride: Triple = as_triple(stride, "stride")
        self.dilation: Triple = as_triple(dilation, "dilation")
        check_kernel(self.kernel_size, self.stride, self.dilation)
        check_backend_name(backend)
        self.transposed = transposed
        self.backend: BackendName = backend
        self.weight = nn.Parameter(torch.empty(math.prod(self.kernel_size), in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation (normal, fan out), as for the dense convolutions of a residual network."""
        cells = len(self.weight) / (math.prod(self.stride) if self.transposed else 1)
        nn.init.normal_(self.weight, std=math.sqrt(2 / (cells * self.out_channels)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """Channels, kernel, stride and dilation."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        return text + f", dilation={self.dilation}, transposed={self.transposed}, bias={self.bias is not None}"

    def kernel_map(self, x: SparseTensor) -> KernelMap:
        """The kernel map of this layer for `x`, from its context."""
        if self.transposed:
            return x.context.twin_map(x.stride, self.kernel_size, self.stride, self.dilation)
        return x.context.kernel_map(x.stride, self.kernel_size, self.stride, self.dilation)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Output features on the cells described in the class docstring.

        Raises:
            InputError: If `x` is not a sparse tensor, the channels do not match, or a transposed layer has no strided
                twin.
        """
        check_sparse(self, x)
        if self.is_pointwise:
            check_channels(x, self.weight)
            features = F.linear(x.features, self.weight[0].t().to(x.features.dtype), _cast(self.bias, x.features))
            return x.with_features(features)
        out = convolve(x, self.weight, self.kernel_map(x), self.backend)
        return out if self.bias is None else out.with_features(out.features + self.bias.to(out.features.dtype))

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel has one cell and stride 1, so that the layer is a matrix product."""
        return self.kernel_size == ONE and self.stride == ONE


def _cast(value: Tensor | None, like: Tensor) -> Tensor | None:
    return None if value is None else value.to(like.dtype)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _check_count(name: str, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
        raise InputError(f"{name} {count!r} is not a positive integer")


def _check_flags(**flags: object) -> None:
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise InputError(f"{name} {flag!r} is neither True nor False")


class SparseBatchNorm(nn.Module):
    """Batch norm over all cells of the batch; fewer than two rows are normalised with the running statistics.

    The norm itself is a submodule on plain tensors, so that `nn.SyncBatchNorm.convert_sync_batchnorm` can replace it.

    Args:
        channels: Channels of the features.
        momentum: Momentum of the running statistics, 0 to 1.
        eps: Added to the variance.

    Attributes:
        bn: The batch norm applied to the rows.

    Raises:
        InputError: If the channel count is not positive, or momentum or eps is out of range.
    """

    def __init__(self, channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        _check_count("channels", channels)
        if not _is_number(momentum) or not 0 <= momentum <= 1:
            raise InputError(f"momentum {momentum!r} is not a number from 0 to 1")
        if not _is_number(eps) or not 0 < eps < 1:
            raise InputError(f"eps {eps!r} is not a number between 0 and 1")
        self.bn: nn.BatchNorm1d | nn.SyncBatchNorm = nn.BatchNorm1d(channels, momentum=momentum, eps=eps)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Normalised features on the same cells.

        Raises:
            InputError: If the channels do not match.
        """
        check_sparse(self, x)
        if x.features.shape[1] != self.bn.num_features:
            width = x.features.shape[1]
            raise InputError(f"the norm takes {self.bn.num_features} channels, but the features have {width}")
        # A synchronised norm counts the rows of all processes, and every process must take part.
        if len(x) > 1 or not self.bn.training or (isinstance(self.bn, nn.SyncBatchNorm) and _is_distributed()):
            return x.with_features(self.bn(x.features))
        # Too few rows for batch statistics: an almost empty sweep must not stop a training run.
        bn = self.bn
        rows = F.batch_norm(x.features, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps)
        return x.with_features(rows)

    def scale_and_shift(self) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
        """Scale and shift per channel in evaluation mode."""
        assert self.bn.running_mean is not None
        assert self.bn.running_var is not None
        scale = self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        return scale, self.bn.bias - self.bn.running_mean * scale


class SparseReLU(nn.Module):
    """ReLU on the features."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Clamped features on the same cells."""
        check_sparse(self, x)
        return x.with_features(F.relu(x.features))


class ConvBlock(nn.Module):
    """Convolution, batch norm, an optional sum with other features, ReLU.

    In evaluation mode without gradients, the reference backend fuses everything after the convolution and applies it
    block by block, while the sums are still in the cache. If the convolution or the norm has forward hooks, the layers
    run separately, so that the hooks see the values they expect.

    Args:
        conv: The convolution, without bias.
        relu: Whether a ReLU ends the block.
        momentum: Momentum of the batch norm's running statistics, 0 to 1.

    Raises:
        InputError: If the convolution has a bias, or the momentum is out of range.
    """

    def __init__(self, conv: SparseConv3d, *, relu: bool = True, momentum: float = 0.1) -> None:
        super().__init__()
        _check_flags(relu=relu)
        if not isinstance(conv, SparseConv3d):
            raise InputError(f"conv is a {type(conv).__name__}, not a SparseConv3d")
        if conv.bias is not None:
            raise InputError("a convolution before a batch norm needs no bias; make it with bias=False")
        self.conv = conv
        self.norm = SparseBatchNorm(conv.out_channels, momentum=momentum)
        self.relu = relu

    def forward(self, x: SparseTensor, residual: SparseTensor | None = None) -> SparseTensor:
        """Output of the block.

        Args:
            x: Input.
            residual: Features on the output cells, added before the ReLU.

        Raises:
            InputError: If the channels do not match, or the residual has other cells or channels than the output.
        """
        check_sparse(self, x)
        if residual is not None:
            check_sparse(self, residual)
        if self._can_fuse(x):
            return self._evaluate(x, residual)
        out = self.norm(self.conv(x))
        if residual is not None:
            out = out + residual
        return out.with_features(F.relu(out.features)) if self.relu else out

    def _can_fuse(self, x: SparseTensor) -> bool:
        # The norm can be frozen, or trained alone, by its own mode.
        learns = self.training or self.norm.training or self.norm.bn.training or torch.is_grad_enabled()
        if learns or torch.is_autocast_enabled(x.features.device.type):
            return False
        if _has_forward_hooks(self.conv, self.norm, self.norm.bn):
            return False
        if self.conv.is_pointwise:
            return True
        return pick_backend(self.conv.backend, x.features.device, x.features.dtype) == "reference"

    def _evaluate(self, x: SparseTensor, residual: SparseTensor | None) -> SparseTensor:
        scale, shift = (value.detach() for value in self.norm.scale_and_shift())
        if self.conv.is_pointwise:
            check_channels(x, self.conv.weight)
            self._check_residual(x, x.stride, residual)
            matrix = (self.conv.weight[0] * scale).to(x.features.dtype)
            out = torch.addmm(shift.to(x.features.dtype), x.features, matrix)
            stride = x.stride
        else:
            kernel_map = self.conv.kernel_map(x)
            check_fit(x, self.conv.weight, kernel_map)
            stride = kernel_map.out_stride
            self._check_residual(x, stride, residual)
            added = None if residual is None else residual.features
            work = work_dtype(x.features.dtype, x.features.device)
            finish = Finish(scale.to(work), shift.to(work), added, self.relu)
            out = convolve_reference(x.features, self.conv.weight, kernel_map, finish)
        if self.conv.is_pointwise:
            if residual is not None:
                out += residual.features
            if self.relu:
                out.clamp_(min=0)
        return SparseTensor(out, x.context, stride)

    def _check_residual(self, x: SparseTensor, stride: Triple, residual: SparseTensor | None) -> None:
        if residual is None:
            return
        if residual.context is not x.context:
            raise InputError("residual sum: the two tensors belong to different inputs, so their rows do not match")
        if residual.stride != stride:
            raise InputError(f"residual sum: cells at stride {stride} and {residual.stride} do not match")
        if residual.features.shape[1] != self.conv.out_channels:
            raise InputError(
                f"residual sum: {self.conv.out_channels} and {residual.features.shape[1]} channels do not match"
            )


def _has_forward_hooks(*modules: nn.Module) -> bool:
    """Whether calling one of the modules would run more than its `forward`."""
    if torch.nn.modules.module._global_forward_hooks or torch.nn.modules.module._global_forward_pre_hooks:
        return True
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


class SparsePool3d(nn.Module):
    """Maximum or mean over the occupied cells that the kernel reads.

    Args:
        kernel_size: Cells along each axis.
        stride: Size of output cells relative to input cells; 1 keeps the cells.
        mode: `max` or `mean`; the mean counts occupied cells only.

    Raises:
        InputError: If the mode is unknown, or an even kernel has stride 1.
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 2,
        *,
        stride: int | Sequence[int] = 2,
        mode: Literal["max", "mean"] = "max",
    ) -> None:
        super().__init__()
        if mode not in ("max", "mean"):
            raise InputError(f"unknown pooling {mode!r}; known: max, mean")
        self.kernel_size, self.stride = as_triple(kernel_size, "kernel size"), as_triple(stride, "stride")
        check_kernel(self.kernel_size, self.stride, ONE)
        self.mode: Literal["max", "mean"] = mode

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Pooled features; a cell whose kernel covers no occupied cell is 0."""
        check_sparse(self, x)
        kernel_map = x.context.kernel_map(x.stride, self.kernel_size, self.stride)
        rows = x.features.index_select(0, kernel_map.in_index)
        features = reduce_rows(rows, kernel_map.out_index, kernel_map.num_out, self.mode)
        return SparseTensor(features, x.context, kernel_map.out_stride)


def global_pool(x: SparseTensor, mode: Literal["max", "mean", "sum"] = "mean") -> Float[Tensor, "B C"]:
    """One vector per sample, from all its cells; an empty sample is 0.

    Raises:
        InputError: For an unknown mode, or if `x` is not a sparse tensor.
    """
    check_sparse("global_pool", x)
    if mode not in ("max", "mean", "sum"):
        raise InputError(f"unknown pooling {mode!r}; known: max, mean, sum")
    return reduce_rows(x.features, x.batch_index, x.batch_size, mode)


def set_backend(module: nn.Module, backend: BackendName) -> None:
    """Makes every sparse convolution inside `module` use `backend`.

    Raises:
        InputError: For an unknown backend.
    """
    if backend != "auto":
        pick_backend(backend, next((p.device for p in module.parameters()), torch.device("cpu")))
    for layer in module.modules():
        if isinstance(layer, SparseConv3d):
            layer.backend = backend
