"""Makes `import torchvision`, and with it `import timm`, work on a CPU build of torch.

The registry's torchvision wheel is built against CUDA torch: its compiled library does not load beside a CPU build, and
importing it then fails with `operator torchvision::nms does not exist`, because it registers shape functions for two
operators that nobody defined. Nothing here calls either of them, so declaring them is enough. Get timm through
`import_timm` only; it declares nothing where the native import works.
"""

from __future__ import annotations

import sys
from typing import Any

from zoo.errors import require

__all__ = ["import_timm"]

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: Any = None  # keeps the declarations alive


def _declare_missing_operators() -> None:
    global _library
    import torch

    _library = torch.library.Library("torchvision", "DEF")
    for schema in _OPERATORS:
        _library.define(schema)


def import_timm() -> Any:
    """The module `timm`.

    Raises:
        MissingExtraError: If torch, torchvision or timm is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise require("torch", "torch", "building a model") from error
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError as error:
        raise require("torchvision", "torch", "building a model") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # the failed import leaves half of itself behind
        _declare_missing_operators()
    try:
        import timm
    except ModuleNotFoundError as error:
        raise require("timm", "torch", "building a model") from error
    return timm
