"""One interface for several convolution kernels: `reference`, `spconv`, `torchsparse`, and `auto`.

A backend turns features and a weight into output features along one of our kernel maps, in the order of our rows, so
a model gives the same numbers whichever one it runs on and its weights never change layout on disk.

| backend | runs on | state |
| --- | --- | --- |
| reference | everything | tested against dense convolution, here and in CI |
| spconv | CPU with one thread, CUDA | tested on the CPU; never run on a GPU yet |
| torchsparse | CUDA | experimental: written from the library's public interface, never run with the library itself |

`auto` is `spconv` on CUDA where it is installed, else `reference`. It never picks an experimental backend.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from types import ModuleType
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.errors import InputError, closest
from zoo.sparse.keys import Triple, kernel_offsets
from zoo.sparse.maps import KernelMap, MapContext, pack, unpack
from zoo.sparse.reference import convolve_reference
from zoo.sparse.tensor import SparseTensor

__all__ = ["BACKENDS", "BackendName", "available_backends", "convolve", "pick_backend", "torchsparse_cell_order"]

BackendName = Literal["auto", "reference", "spconv", "torchsparse"]


class _Backend(Protocol):
    def __call__(self, features: Tensor, weight: Tensor, kernel_map: KernelMap, context: MapContext) -> Tensor: ...


def _reference(features: Tensor, weight: Tensor, kernel_map: KernelMap, context: MapContext) -> Tensor:
    return convolve_reference(features, weight, kernel_map)


# --- spconv -----------------------------------------------------------------------------------------------------------


class _SpconvConvolution(torch.autograd.Function):
    """spconv's gather-GEMM-scatter kernels on our pairs."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ops = _spconv_ops()
        pairs, counts = _spconv_pairs(kernel_map)
        # Its layout is (output channels, kernel cells, input channels).
        filters = weight.permute(2, 0, 1).contiguous()
        ctx.save_for_backward(features, filters)
        ctx.kernel_map = kernel_map
        return ops.indice_conv(features.contiguous(), filters, pairs, counts, kernel_map.num_out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, filters = ctx.saved_tensors
        pairs, counts = _spconv_pairs(ctx.kernel_map)
        # Its two gradients come together, and its pairs are (input, output) here as in the forward pass.
        grad_features, grad_filters = _spconv_ops().indice_conv_backward(
            features.contiguous(), filters, grad.contiguous(), pairs, counts
        )
        return grad_features, grad_filters.permute(1, 2, 0), None


@cache
def _spconv_ops() -> ModuleType:
    from spconv.pytorch import ops

    if not torch.cuda.is_available():
        # Its backward asks for the CUDA stream even on the CPU, where it then does not use it.
        ops.get_current_stream = lambda: 0
    return ops


def _spconv_pairs(kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
    """Our pairs as spconv has them: `(2, K, largest count)` int32, filled up with -1, and the counts."""
    if "spconv" not in kernel_map.cache:
        counts = torch.tensor(kernel_map.counts, dtype=torch.int32, device=kernel_map.in_index.device)
        shape = (2, len(kernel_map.counts), max(1, *kernel_map.counts))
        pairs = torch.full(shape, -1, dtype=torch.int32, device=counts.device)
        filled = torch.arange(shape[2], device=counts.device) < counts[:, None]
        pairs[0][filled] = kernel_map.in_index.int()
        pairs[1][filled] = kernel_map.out_index.int()
        kernel_map.cache["spconv"] = pairs, counts
    return kernel_map.cache["spconv"]


def _spconv(features: Tensor, weight: Tensor, kernel_map: KernelMap, context: MapContext) -> Tensor:
    if features.device.type == "cpu":
        if torch.get_num_threads() > 1:
            raise InputError(
                "spconv gives wrong sums on a CPU with more than one thread; call torch.set_num_threads(1), or use"
                " the reference backend"
            )
        if features.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"spconv on a CPU takes float32 or float64, not {features.dtype}; use the reference backend"
            )
    if not len(kernel_map.in_index):
        # It refuses a map without pairs; the sum keeps the gradients defined.
        return (features.sum() + weight.sum()) * 0 + features.new_zeros(kernel_map.num_out, weight.shape[2])
    return _SpconvConvolution.apply(features, weight, kernel_map)


# --- torchsparse ------------------------------------------------------------------------------------------------------


def torchsparse_cell_order(kernel_size: Triple) -> list[int]:
    """For each kernel cell of torchsparse, the index of the same cell here.

    Its weights are laid out like MinkowskiEngine's: x fastest if the number of cells is odd, z fastest if it is even.
    Ours always have z fastest.
    """
    ours = {offset: k for k, offset in enumerate(kernel_offsets(kernel_size, (1, 1, 1)))}
    if (kernel_size[0] * kernel_size[1] * kernel_size[2]) % 2 == 0:
        return list(ours.values())
    return [ours[offset] for offset in sorted(ours, key=lambda offset: offset[::-1])]


def _torchsparse(features: Tensor, weight: Tensor, kernel_map: KernelMap, context: MapContext) -> Tensor:
    """torchsparse's `conv3d`, one of its tensors per kernel map so that its rows never mix with ours."""
    exchanged = any(a > b for a, b in zip(kernel_map.in_stride, kernel_map.out_stride))
    fine_stride = kernel_map.out_stride if exchanged else kernel_map.in_stride
    coarse_stride = kernel_map.in_stride if exchanged else kernel_map.out_stride
    step = (
        coarse_stride[0] // fine_stride[0],
        coarse_stride[1] // fine_stride[1],
        coarse_stride[2] // fine_stride[2],
    )
    odd = all(size % 2 for size in kernel_map.kernel_size)
    if kernel_map.dilation != (1, 1, 1) or not (step == kernel_map.kernel_size or (step == (1, 1, 1) and odd)):
        raise InputError(
            f"torchsparse has no kernel {kernel_map.kernel_size} with stride {step} and dilation {kernel_map.dilation}"
            " that reads the same cells; use the reference backend"
        )
    library = _torchsparse_module()
    order = torch.tensor(torchsparse_cell_order(kernel_map.kernel_size), device=weight.device)
    options = {"kernel_size": kernel_map.kernel_size, "stride": step, "training": torch.is_grad_enabled()}
    conv3d, filters = library.nn.functional.conv3d, weight.index_select(0, order)

    if not exchanged:
        cells, shift = _torchsparse_cells(context.keys(fine_stride), step)
        source = library.SparseTensor(feats=features, coords=cells, stride=1)
        target = conv3d(source, filters, **options)
        rows = _torchsparse_rows(target.coords, shift, step, context.keys(coarse_stride))
        kernel_map.cache["torchsparse"] = (target, rows)
        return torch.empty_like(target.feats).index_copy(0, rows, target.feats)
    twin = kernel_map.transposed()
    if "torchsparse" not in twin.cache:
        cells, shift = _torchsparse_cells(context.keys(fine_stride), step)
        probe = library.SparseTensor(feats=features.new_zeros(len(cells), weight.shape[2]), coords=cells, stride=1)
        target = conv3d(probe, filters.transpose(1, 2).contiguous(), **options)
        twin.cache["torchsparse"] = (target, _torchsparse_rows(target.coords, shift, step, context.keys(coarse_stride)))
    coarse, rows = twin.cache["torchsparse"]
    source = library.SparseTensor(feats=features.index_select(0, rows), coords=coarse.coords, stride=coarse.stride)
    source._caches = coarse._caches
    return conv3d(source, filters, transposed=True, **options).feats


def _torchsparse_cells(keys: Int[Tensor, " N"], step: Triple) -> tuple[Int[Tensor, "N 4"], Int[Tensor, "3"]]:
    """Cells as `(batch, x, y, z)` int32, moved by whole coarse cells to where none is negative, and the move."""
    cells, batch_index = unpack(keys)
    size = torch.tensor(step, device=keys.device)
    low = cells.amin(0) if len(cells) else size * 0
    shift = torch.div(low, size, rounding_mode="floor")
    return torch.cat([batch_index[:, None], cells - shift * size], 1).int(), shift


def _torchsparse_rows(
    coords: Int[Tensor, "M 4"], shift: Int[Tensor, "3"], step: Triple, keys: Int[Tensor, " M"]
) -> Int[Tensor, " M"]:
    """Our row of each of torchsparse's output rows."""
    theirs = pack(coords[:, 1:].long() + shift, coords[:, 0].long())
    return torch.searchsorted(keys, theirs)


@cache
def _torchsparse_module() -> Any:
    import torchsparse
    import torchsparse.nn.functional

    return torchsparse


# --- choice -----------------------------------------------------------------------------------------------------------

BACKENDS: dict[str, _Backend] = {"reference": _reference, "spconv": _spconv, "torchsparse": _torchsparse}
_DEVICES = {"reference": ("cpu", "cuda"), "spconv": ("cpu", "cuda"), "torchsparse": ("cuda",)}


@cache
def _installed(name: str) -> bool:
    return name == "reference" or importlib.util.find_spec(name) is not None


def available_backends(device: torch.device | str) -> list[str]:
    """Backends that are installed and run on the device, `reference` first."""
    kind = torch.device(device).type
    return [name for name in BACKENDS if (name == "reference" or kind in _DEVICES[name]) and _installed(name)]


def check_backend_name(name: str) -> None:
    """Refuses a name that no backend has.

    Raises:
        InputError: For an unknown backend.
    """
    if name != "auto" and name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}{closest(name, BACKENDS)}")


def pick_backend(name: BackendName, device: torch.device) -> str:
    """The backend that `name` stands for on `device`.

    Raises:
        InputError: For an unknown backend, or one that is not installed or does not run there.
    """
    check_backend_name(name)
    if name == "auto":
        return "spconv" if device.type == "cuda" and "spconv" in available_backends(device) else "reference"
    if name not in available_backends(device):
        reason = "is not installed" if not _installed(name) else f"does not run on {device.type}"
        raise InputError(f"backend {name} {reason}; available here: {', '.join(available_backends(device))}")
    return name


def convolve(
    x: SparseTensor, weight: Float[Tensor, "K C D"], kernel_map: KernelMap, backend: BackendName = "auto"
) -> SparseTensor:
    """The convolution of `x` along a kernel map of its context, by the backend asked for.

    Args:
        x: Input.
        weight: Kernel cells in the order of `zoo.sparse.keys.kernel_offsets`.
        kernel_map: From `x.context.kernel_map` or `twin_map`.
        backend: See the module.

    Raises:
        InputError: If features, weight and map do not fit each other, or the backend is not available.
    """
    check_fit(x, weight, kernel_map)
    features, device = x.features, x.features.device
    if torch.is_autocast_enabled(device.type):
        features = features.to(torch.get_autocast_dtype(device.type))
    run = BACKENDS[pick_backend(backend, device)]
    out = run(features, weight.to(features.dtype), kernel_map, x.context)
    return SparseTensor(out, x.context, kernel_map.out_stride)


def check_fit(x: SparseTensor, weight: Tensor, kernel_map: KernelMap) -> None:
    """Refuses what does not belong together.

    Raises:
        InputError: For a map of other voxels, another number of kernel cells, or channels that do not match.
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
    """Refuses features of another width.

    Raises:
        InputError: If the channels do not match.
    """
    if weight.shape[1] != x.features.shape[1]:
        raise InputError(f"the layer takes {weight.shape[1]} channels, but the features have {x.features.shape[1]}")
