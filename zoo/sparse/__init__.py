"""Sparse convolution without compiled code.

The NumPy map builder imports without torch, for use on a vehicle. Everything else needs torch and is imported on first
access.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.sparse.keys import kernel_offsets
from zoo.sparse.maps_numpy import NumpyKernelMap, NumpyMapContext, coarsen_keys, pack_keys, unpack_keys

if TYPE_CHECKING:
    from zoo.sparse.backends import available_backends, convolve, pick_backend
    from zoo.sparse.layers import (
        ConvBlock,
        SparseBatchNorm,
        SparseConv3d,
        SparsePool3d,
        SparseReLU,
        global_pool,
        set_backend,
    )
    from zoo.sparse.maps import KernelMap, MapContext
    from zoo.sparse.tensor import SparseTensor, cat, sparse_tensor

__all__ = [
    "ConvBlock",
    "KernelMap",
    "MapContext",
    "NumpyKernelMap",
    "NumpyMapContext",
    "SparseBatchNorm",
    "SparseConv3d",
    "SparsePool3d",
    "SparseReLU",
    "SparseTensor",
    "available_backends",
    "cat",
    "coarsen_keys",
    "convolve",
    "global_pool",
    "kernel_offsets",
    "pack_keys",
    "pick_backend",
    "set_backend",
    "sparse_tensor",
    "unpack_keys",
]

_TORCH_NAMES = {
    "zoo.sparse.backends": ("available_backends", "convolve", "pick_backend"),
    "zoo.sparse.layers": (
        "ConvBlock",
        "SparseBatchNorm",
        "SparseConv3d",
        "SparsePool3d",
        "SparseReLU",
        "global_pool",
        "set_backend",
    ),
    "zoo.sparse.maps": ("KernelMap", "MapContext"),
    "zoo.sparse.tensor": ("SparseTensor", "cat", "sparse_tensor"),
}
_MODULE_OF = {name: module for module, names in _TORCH_NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
