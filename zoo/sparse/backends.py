"""One interface to several convolution backends: `reference`, `spconv`, `torchsparse`, and `auto`.

A backend computes output features from features and a weight along one of our kernel maps. The libraries are given our
pairs of rows, never coordinates, so a model computes the same values with any of them, and its weights have a single
layout on disk.

| backend | runs on | precisions | state |
| --- | --- | --- | --- |
| reference | everything | all that torch supports | tested against dense convolution, here and in CI |
| spconv | CPU with one thread | float32, float64 | tested against its own layers and ours |
| spconv | CUDA | float32, float16 | never run on a GPU yet; tested with its kernels emulated |
| torchsparse | CUDA | float32, float16 | experimental: never run on a GPU yet; tested with its kernels emulated |

`auto` is `spconv` on CUDA if a CUDA build is installed and has kernels for the precision of the features, otherwise
`reference`. It never selects an experimental backend. A backend selected by name is used, or the call fails.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.errors import InputError, closest
from zoo.sparse.maps import KernelMap
from zoo.sparse.reference import convolve_reference
from zoo.sparse.tensor import SparseTensor, check_sparse

__all__ = ["BACKENDS", "BackendName", "available_backends", "convolve", "pick_backend"]

BackendName = Literal["auto", "reference", "spconv", "torchsparse"]


class _Backend(Protocol):
    def __call__(self, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor: ...


def _table(kernel_map: KernelMap) -> Tensor:
    """`(num_out, K)` int32: the input row that each kernel cell pairs with each output row, -1 where there is none."""
    counts = torch.tensor(kernel_map.counts, device=kernel_map.in_index.device)
    table = torch.full((kernel_map.num_out, len(counts)), -1, dtype=torch.int32, device=counts.device)
    cell = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    table[kernel_map.out_index, cell] = kernel_map.in_index.int()
    return table


def _records(*values: Tensor) -> bool:
    """Whether autograd records operations on the values."""
    return torch.is_grad_enabled() and any(value.requires_grad for value in values)


# --- spconv -----------------------------------------------------------------------------------------------------------

IMPLICIT_GEMM_CELLS = 32
"""Largest kernel for which spconv's own layers use the implicit GEMM on CUDA; larger ones gather and scatter."""


def _spconv(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    if features.device.type == "cpu" and torch.get_num_threads() > 1:
        raise InputError(
            "spconv computes wrong sums on a CPU with more than one thread; call torch.set_num_threads(1), or use"
            " the reference backend"
        )
    # spconv's layout is (output channels, kernel cells, input channels).
    filters = weight.permute(2, 0, 1).contiguous()
    if _takes_implicit_gemm(features.device, len(weight)):
        return _SpconvImplicitGemm.apply(features.contiguous(), filters, kernel_map, _records(features, weight))
    return _SpconvNative.apply(features.contiguous(), filters, kernel_map)


def _takes_implicit_gemm(device: torch.device, cells: int) -> bool:
    return device.type == "cuda" and cells <= IMPLICIT_GEMM_CELLS


@cache
def _spconv_ops() -> Any:
    from spconv.pytorch import ops

    if not torch.cuda.is_available():
        # Its backward pass queries the CUDA stream even on the CPU, where the stream is not used.
        ops.get_current_stream = lambda: 0
    return ops


class _SpconvNative(torch.autograd.Function):
    """spconv's gather-GEMM-scatter kernels (`ConvAlgo.Native`)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, filters: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(features, filters)
        ctx.kernel_map = kernel_map
        return _spconv_ops().indice_conv(features, filters, *_spconv_pairs(kernel_map), kernel_map.num_out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        # Computes both gradients at once; pairs are (input, output) as in the forward pass.
        pairs = _spconv_pairs(ctx.kernel_map)
        return *_spconv_ops().indice_conv_backward(*ctx.saved_tensors, grad.contiguous(), *pairs), None


def _spconv_pairs(kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
    """Our pairs as `Native` takes them: `(2, K, largest count)` int32, padded with -1, and the counts."""
    if "spconv_pairs" not in kernel_map.cache:
        counts = torch.tensor(kernel_map.counts, dtype=torch.int32, device=kernel_map.in_index.device)
        shape = (2, len(kernel_map.counts), max(1, *kernel_map.counts))
        pairs = torch.full(shape, -1, dtype=torch.int32, device=counts.device)
        filled = torch.arange(shape[2], device=counts.device) < counts[:, None]
        pairs[0][filled] = kernel_map.in_index.int()
        pairs[1][filled] = kernel_map.out_index.int()
        kernel_map.cache["spconv_pairs"] = pairs, counts
    return kernel_map.cache["spconv_pairs"]


class _SpconvImplicitGemm(torch.autograd.Function):
    """spconv's implicit GEMM (`ConvAlgo.MaskImplicitGemm`), which its own layers use on CUDA."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, filters: Tensor, kernel_map: KernelMap, training: bool) -> Tensor:
        pairs, mask, order = _spconv_masks(kernel_map)
        out, mask_out, mask_width = _spconv_ops().implicit_gemm(
            features, filters, pairs, [mask], [order], kernel_map.num_out, [_ALL_CELLS], training, False
        )
        ctx.save_for_backward(features, filters)
        ctx.kernel_map, ctx.mask_out, ctx.mask_width = kernel_map, mask_out, mask_width
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        pairs, mask, order = _spconv_masks(ctx.kernel_map)
        back_pairs, back_mask, back_order = _spconv_masks(ctx.kernel_map.transposed())
        gradients = _spconv_ops().implicit_gemm_backward(
            *ctx.saved_tensors,
            grad.contiguous(),
            pairs,
            back_pairs,
            [mask],
            [back_mask],
            [order],
            [back_order],
            mask_output_fwd=ctx.mask_out,
            masks=[_ALL_CELLS],
            mask_width=ctx.mask_width,
            is_subm=False,
        )
        return *gradients, None, None


_ALL_CELLS = np.array([0xFFFFFFFF], np.uint32)
"""spconv can split a kernel into parts, each with a mask of its cells; here a single part has all cells."""


def _spconv_masks(kernel_map: KernelMap) -> tuple[Tensor, Tensor, Tensor]:
    """Our pairs as the implicit GEMM takes them.

    Returns:
        pairs: `(K, num_out)` int32, the input row of each output row, -1 where there is none.
        mask: `(num_out, 1)` int32, sorted: bit k is set if kernel cell k has a pair. Sorting places rows with the same
            cells side by side, so that a tile of rows skips the cells that none of them has.
        order: `(num_out,)` int32, the output row of each mask.
    """
    if "spconv_masks" not in kernel_map.cache:
        table = _table(kernel_map)
        bits = 1 << torch.arange(table.shape[1], device=table.device)
        mask, order = torch.sort(((table >= 0) * bits).sum(1), stable=True)
        # Bit 31 is the sign bit of int32.
        mask = torch.where(mask >= 1 << 31, mask - (1 << 32), mask)
        kernel_map.cache["spconv_masks"] = table.t().contiguous(), mask.int()[:, None], order.int()
    return kernel_map.cache["spconv_masks"]


# --- torchsparse ------------------------------------------------------------------------------------------------------

TORCHSPARSE_CELLS = 31
"""Largest kernel that torchsparse's sorted kernels support: their masks are signed 32-bit integers."""


def _torchsparse(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """torchsparse's implicit GEMM on our pairs.

    The library builds the tables for the backward pass only in its map builder, which needs coordinates, and in
    `transpose_kernel_map`. Therefore every layer here is the transposed layer of its map with input and output swapped.
    """
    if len(weight) > TORCHSPARSE_CELLS:
        raise InputError(
            f"torchsparse takes kernels of up to {TORCHSPARSE_CELLS} cells here, not {len(weight)}; use the reference"
            " backend"
        )
    function, functional = _torchsparse_function()
    training = _records(features, weight)
    name = "torchsparse_training" if training else "torchsparse"
    if name not in kernel_map.cache:
        tables = {
            "out_in_map": _padded(_table(kernel_map.transposed())),
            "sizes": (kernel_map.num_out, kernel_map.num_in),
        }
        # The backward pass splits the kernel into three parts, as in the library's own layers.
        kernel_map.cache[name] = functional.transpose_kernel_map(
            tables, ifsort=False, training=training, split_mask_num=1, split_mask_num_bwd=3
        )
    return function.apply(features, weight, kernel_map.cache[name], {"ifsort": False}, True)


def _padded(table: Tensor) -> Tensor:
    """The table padded with rows of -1 to a multiple of 128, the tile size of torchsparse's kernels."""
    rows = -len(table) % 128
    return torch.cat([table, table.new_full((rows, table.shape[1]), -1)])


@cache
def _torchsparse_function() -> tuple[Any, Any]:
    """The library's autograd function, modified to follow torch's precision setting, and its functional module."""
    try:
        import torchsparse.backends
        from torchsparse.nn import functional
        from torchsparse.nn.functional.conv.func import ImplicitGEMMConvolutionFuntion as Base
    except ImportError as error:
        raise InputError(f"the torchsparse backend needs torchsparse 2.1: {error}") from error

    class Convolution(Base):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Tensor:
            with _torch_precision(torchsparse.backends):
                return Base.forward(ctx, *arguments)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            with _torch_precision(torchsparse.backends):
                return Base.backward(ctx, grad)

    return Convolution, functional


@contextmanager
def _torch_precision(settings: Any) -> Iterator[None]:
    """Allows TF32 only if torch's own matrix products may use it; torchsparse would always use it."""
    before = settings.allow_tf32
    settings.allow_tf32 = before and torch.get_float32_matmul_precision() != "highest"
    try:
        yield
    finally:
        settings.allow_tf32 = before


# --- choice -----------------------------------------------------------------------------------------------------------

BACKENDS: dict[str, _Backend] = {"spconv": _spconv, "torchsparse": _torchsparse}
NAMES = ("reference", *BACKENDS)
_PRECISIONS = {
    ("spconv", "cpu"): (torch.float32, torch.float64),
    ("spconv", "cuda"): (torch.float32, torch.float16),
    ("torchsparse", "cuda"): (torch.float32, torch.float16),
}
"""Precisions of each library by device; it does not run on other devices."""


@cache
def _missing(name: str, device: str) -> str:
    """Why the library does not run on this type of device; empty if it does."""
    if importlib.util.find_spec(name) is None:
        return "is not installed"
    if (name, device) not in _PRECISIONS:
        return f"does not run on {device}"
    if name != "spconv":
        return ""
    try:
        cpu_only = importlib.import_module("spconv.cppconstants").CPU_ONLY_BUILD
    except (ImportError, OSError) as error:
        return f"is installed but cannot be imported ({' '.join(str(error).split())})"
    if device == "cuda" and cpu_only:
        return (
            "is installed without CUDA (the package `spconv`; a build with CUDA is named after it, as `spconv-cu126`)"
        )
    return ""


def available_backends(device: torch.device | str) -> list[str]:
    """Backends that are installed and run on the device, `reference` first."""
    kind = torch.device(device).type
    return ["reference", *(name for name in BACKENDS if not _missing(name, kind))]


def check_backend_name(name: str) -> None:
    """Raises an error for an unknown backend name.

    Raises:
        InputError: For an unknown backend.
    """
    if name not in ("auto", *NAMES):
        raise InputError(f"unknown backend {name!r}; known: auto, {', '.join(NAMES)}{closest(str(name), NAMES)}")


def pick_backend(name: BackendName, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """The backend that `name` refers to on `device`, for features of `dtype`.

    Raises:
        InputError: If the backend is unknown, not installed, or does not support the device or precision.
    """
    check_backend_name(name)
    if name == "auto":
        fits = device.type == "cuda" and dtype in _PRECISIONS["spconv", "cuda"] and not _missing("spconv", "cuda")
        return "spconv" if fits else "reference"
    if name == "reference":
        return name
    if reason := _missing(name, device.type):
        raise InputError(f"backend {name} {reason}; available here: {', '.join(available_backends(device))}")
    if dtype not in (known := _PRECISIONS[name, device.type]):
        kinds = " or ".join(str(kind).removeprefix("torch.") for kind in known)
        given = str(dtype).removeprefix("torch.")
        raise InputError(f"{name} on {device.type} computes in {kinds}, not {given}; use the reference backend")
    return name


def convolve(
    x: SparseTensor, weight: Float[Tensor, "K C D"], kernel_map: KernelMap, backend: BackendName = "auto"
) -> SparseTensor:
    """The convolution of `x` along a kernel map of its context.

    Args:
        x: Input.
        weight: Kernel cells in the order of `zoo.sparse.keys.kernel_offsets`.
        kernel_map: From `x.context.kernel_map` or `twin_map`.
        backend: Name of a backend; see the module docstring.

    Raises:
        InputError: If features, weight and map do not match, or the backend is not available.
    """
    check_sparse("convolve", x)
    check_fit(x, weight, kernel_map)
    features, device = x.features, x.features.device
    if torch.is_autocast_enabled(device.type):
        features = features.to(torch.get_autocast_dtype(device.type))
    weight = weight.to(features.dtype)
    name = pick_backend(backend, device, features.dtype)
    if name == "reference":
        out = convolve_reference(features, weight, kernel_map)
    elif len(kernel_map.in_index):
        with torch.autocast(device.type, enabled=False):
            out = BACKENDS[name](features, weight, kernel_map)
    else:
        # The libraries do not accept a map without pairs; the sum keeps the gradients defined.
        out = (features.sum() + weight.sum()) * 0 + features.new_zeros(kernel_map.num_out, weight.shape[2])
    return SparseTensor(out, x.context, kernel_map.out_stride)


def check_fit(x: SparseTensor, weight: Tensor, kernel_map: KernelMap) -> None:
    """Checks that input, weight and kernel map belong together.

    Raises:
        InputError: If the map belongs to other voxels, or the number of kernel cells or channels does not match.
    """
    if kernel_map.owner is not x.context.owner:
        raise InputError("the kernel map belongs to another input's voxels; take it from this tensor's context")
    if kernel_map.in_stride != x.stride:
        raise InputError(f"the kernel map starts at stride {kernel_map.in_stride}, the tensor has stride {x.stride}")
    if weight.ndim != 3 or len(weight) != len(kernel_map.counts):
        raise InputError(
            f"weight of shape {tuple(weight.shape)} does not fit a kernel of {len(kernel_map.counts)} cells (K, C, D)"
        )
    check_channels(x, weight)


def check_channels(x: SparseTensor, weight: Tensor) -> None:
    """Checks that features and weight have the same number of channels.

    Raises:
        InputError: If the channels do not match.
    """
    if weight.shape[1] != x.features.shape[1]:
        raise InputError(f"the layer takes {weight.shape[1]} channels, but the features have {x.features.shape[1]}")
