"""Makes `import torchvision`, and with it `import timm`, work on a CPU build of torch.

The torchvision wheel on PyPI is built against CUDA torch. With a CPU build of torch its compiled library does not load,
and the import fails with `operator torchvision::nms does not exist`, because it registers shape functions for two
operators that were never defined. Nothing here calls either of them, so declaring them is enough. Always import
torchvision, and packages that import it, after `import_torchvision`, which declares nothing if the native import works.
"""

from __future__ import annotations

import sys
from typing import Any

from zoo.errors import require

__all__ = ["import_timm", "import_torchvision"]

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: Any = None  # the declarations disappear with this object


def _declare_missing_operators() -> None:
    global _library
    import torch

    _library = torch.library.Library("torchvision", "DEF")
    for schema in _OPERATORS:
        _library.define(schema)


def import_torchvision(purpose: str = "building a model") -> Any:
    """The module `torchvision`.

    Args:
        purpose: What needs it, for errors.

    Raises:
        MissingExtraError: If torch or torchvision is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise require("torch", "torch", purpose) from error
    try:
        import torchvision
    except ModuleNotFoundError as error:
        raise require("torchvision", "torch", purpose) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # the failed import leaves half-initialised modules behind
        _declare_missing_operators()
        import torchvision
    return torchvision


def import_timm() -> Any:
    """The module `timm`.

    Raises:
        MissingExtraError: If torch, torchvision or timm is not installed.
    """
    import_torchvision()
    try:
        import timm
    except ModuleNotFoundError as error:
        raise require("timm", "torch", "building a model") from error
    return timm
