"""perception-zoo: perception models with measured accuracy per weather and light condition.

>>> import zoo
>>> predictor = zoo.load("supervised-resnet18w48-synthetic.fpn-synthetic")
>>> prediction = predictor("street.png")
>>> prediction.overlay().save("overlay.jpg")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.condition import Condition
    from zoo.errors import InputError, IntegrityError, MissingExtraError, NotReleasedError
    from zoo.folder.catalogue import Entry
    from zoo.frame import CameraFrame, Frame, Sweep
    from zoo.loading import create, load
    from zoo.prediction import Segmentation2D
    from zoo.predictor import Predictor

# Names are imported on first access, so that `import zoo` costs next to nothing.
_HOMES = {
    "CameraFrame": "zoo.frame",
    "Condition": "zoo.condition",
    "Frame": "zoo.frame",
    "InputError": "zoo.errors",
    "IntegrityError": "zoo.errors",
    "MissingExtraError": "zoo.errors",
    "NotReleasedError": "zoo.errors",
    "Predictor": "zoo.predictor",
    "Segmentation2D": "zoo.prediction",
    "Sweep": "zoo.frame",
    "create": "zoo.loading",
    "load": "zoo.loading",
}

__all__ = [
    "CameraFrame",
    "Condition",
    "Frame",
    "InputError",
    "IntegrityError",
    "MissingExtraError",
    "NotReleasedError",
    "Predictor",
    "Segmentation2D",
    "Sweep",
    "create",
    "info",
    "list_models",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("perception-zoo")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def list_models(pattern: str | None = None, *, released: bool | None = None) -> list[str]:
    """Names in the catalogue.

    Args:
        pattern: Part of a name, or a shell pattern (`*camvid`).
        released: `True` for models with released weights only, `False` for the others only.
    """
    from zoo.folder.catalogue import matching

    return [entry.name for entry in matching(pattern) if released in (None, entry.released)]


def info(name: str) -> Entry:
    """The catalogue entry called `name`.

    Raises:
        InputError: If there is no such entry; the message lists the closest names.
    """
    from zoo.folder.catalogue import entry

    return entry(name)
