"""`python:MODULE:FUNCTION`: any function from an image, or a frame, to labels.

The function takes an `(H, W, 3)` uint8 RGB array and returns `(H, W)` whole numbers, or a pair of these and `(H, W)`
scores in [0, 1]. Its classes are in its attribute `classes` (and `ignored`), written as in `zoo/label_table.py`, or in
a YAML file. With the attribute or key `takes` set to `frame`, it is given a `zoo.Frame` instead.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError, closest
from zoo.files import sha256_of
from zoo.foreign import NO_CLASS, ForeignModel, SchemeOptions
from zoo.foreign.description import read_description
from zoo.frame import Frame
from zoo.label_table import LabelTable, parse_classes
from zoo.prediction import Segmentation2D

__all__ = ["open_model"]


def open_model(target: str, options: SchemeOptions) -> ForeignModel:
    """The model of a function. Its module is looked for in the working directory first, as `python -m` does.

    Raises:
        InputError: If the module or function is missing or fails to import, or its classes are not stated.
    """
    reference = f"python:{target}"
    module_name, colon, name = target.partition(":")
    if not colon or not name:
        raise InputError(f"{reference}: expected python:MODULE:FUNCTION")
    function, module = _function(module_name, name, reference)
    table, takes = _described(function, reference, options.description)
    file = getattr(module, "__file__", None)
    return ForeignModel(
        name=reference,
        classes=table.classes,
        artefact={
            "file": Path(file).name if file else module_name,
            "sha256": sha256_of(file) if file else None,  # of this file only, not of what it imports or reads
            "engine": "python",
            "precision": None,
            "source": reference,
        },
        settings={"takes": takes, "labels": table.to_json()},
        segment=_PythonModel(function, table, takes, reference).segment,
    )


def _function(module_name: str, name: str, reference: str) -> tuple[Callable[..., Any], Any]:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InputError(
                f"{reference}: there is no module {module_name} in {os.getcwd()} or among the installed packages"
            ) from error
        raise InputError(f"{reference}: {module_name} imports {error.name}, which is not installed") from error
    except Exception as error:  # whatever the user's module raises
        raise InputError(f"{reference}: importing {module_name} failed: {_words(error)}") from error
    function = getattr(module, name, None)
    if function is None:
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"{reference}: {module_name} has no function {name}{closest(name, functions)}")
    if not callable(function) or inspect.isclass(function):
        raise InputError(f"{reference}: {name} is a {type(function).__name__}; expected a function of an image")
    return function, module


def _described(function: Any, reference: str, description: Path | None) -> tuple[LabelTable, str]:
    """The function's classes, and whether it takes an `image` or a `frame`."""
    what = str(description) if description is not None else f"{reference}, attribute classes"
    if description is not None:
        table, section = read_description(description, reference, ("takes",))
    else:
        if not hasattr(function, "classes"):
            raise InputError(
                f"{reference} does not state its classes; set {reference.rpartition(':')[2]}.classes to a list of "
                "names or to cityscapes, or give a YAML file with --description"
            )
        section = {key: getattr(function, key) for key in ("classes", "ignored", "takes") if hasattr(function, key)}
        section |= {key: list(section[key]) for key in ("classes", "ignored") if isinstance(section.get(key), tuple)}
        table = parse_classes(section, what, reference)
    takes = section.get("takes", "image")
    if takes not in ("image", "frame"):
        raise InputError(f"{what}: takes is {takes!r}; expected image or frame")
    return table, takes


class _PythonModel:
    """Runs the function on frames and checks what it returns."""

    def __init__(self, function: Callable[..., Any], table: LabelTable, takes: str, reference: str) -> None:
        self.function, self.table, self.takes, self.reference = function, table, takes, reference

    def segment(self, frame: Frame) -> Segmentation2D:
        image = frame.camera.image
        try:
            # A copy, so that a function that draws into its argument does not change the frame.
            returned = self.function(frame if self.takes == "frame" else image.copy())
        except Exception as error:  # whatever the user's function raises
            raise InputError(f"{self.reference} failed on frame {frame.id}: {_words(error)}") from error
        pair = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
        labels = self._labels(pair[0], frame)
        scores = None if pair[1] is None else self._scores(pair[1], frame)
        return Segmentation2D(labels=labels, scores=scores, classes=self.table.classes, image=image)

    def _labels(self, found: Any, frame: Frame) -> np.ndarray:
        size = frame.camera.image.shape[:2]
        if not isinstance(found, np.ndarray) or found.shape != size or found.dtype.kind not in "iu":
            raise InputError(
                f"{self.reference} returned {_shown(found)} for frame {frame.id}; expected labels {size}, whole numbers"
            )
        return self.table.labels(found, f"{self.reference}, frame {frame.id},", NO_CLASS)

    def _scores(self, found: Any, frame: Frame) -> np.ndarray:
        size = frame.camera.image.shape[:2]
        good = isinstance(found, np.ndarray) and found.shape == size and found.dtype.kind == "f"
        if not good or not ((found >= 0) & (found <= 1)).all():
            raise InputError(
                f"{self.reference} returned {_shown(found)} as scores for frame {frame.id}; expected {size} floating "
                "point numbers from 0 to 1"
            )
        return found.astype(np.float32)


def _shown(value: Any) -> str:
    return f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _words(error: BaseException) -> str:
    """Type and first line of an error, on one line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
