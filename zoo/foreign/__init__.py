"""Models of other projects as callables from a frame to a `Segmentation2D`, so that our evaluation can measure them.

A reference is `SCHEME:TARGET`. Each scheme is one file here and one row in `SCHEMES`; `docs/other-models.md` has a
worked example of each.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.classes import ClassTable
from zoo.errors import InputError
from zoo.frame import Frame, frame_from_image
from zoo.inputs.image import as_image
from zoo.prediction import Segmentation2D
from zoo.tasks.segmentation2d import Segmentation2DTask

__all__ = [
    "NO_CLASS",
    "SCHEMES",
    "TRAINING_UNKNOWN",
    "ForeignModel",
    "Scheme",
    "SchemeOptions",
    "descriptions_by_model",
    "load",
    "scheme_of",
]

NO_CLASS = 255
"""Label of pixels for which a model predicts none of its classes; the evaluation counts it as wrong."""
TRAINING_UNKNOWN = {
    "kind": "training_unknown",
    "text": "it is not known here what this model was trained on; it may have seen the evaluated frames",
}
"""Caveat shown with every figure of a model that is not from a model folder."""


@dataclass(frozen=True, kw_only=True)
class SchemeOptions:
    """What the command line says about a model.

    Attributes:
        description: YAML file that describes the model; `None` means the one next to the model, if the scheme has one.
        device: `cpu`, `cuda:0`, ...
        threads: CPU threads; `None` for the runtime's default.
    """

    description: Path | None = None
    device: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True)
class Scheme:
    """One row of the table of schemes.

    Attributes:
        opener: `"module:function"`, called as `function(target, options)`; returns a `ForeignModel`.
        engine: What runs the model: the `--engine` that the scheme accepts in addition to `auto`.
        target: What follows the colon, for messages.
        described: Whether a YAML file may describe its models.
    """

    opener: str
    engine: str
    target: str
    described: bool = False


SCHEMES = {
    "hf": Scheme("zoo.foreign.huggingface:open_model", "torch", "ORG/NAME[@REVISION] or a folder"),
    "onnx": Scheme("zoo.foreign.onnx:open_model", "onnx", "FILE.onnx", described=True),
    "python": Scheme("zoo.foreign.python:open_model", "python", "MODULE:FUNCTION", described=True),
    "torchvision": Scheme("zoo.foreign.torchvision:open_model", "torch", "NAME"),
}
"""Schemes of references to models of other projects."""


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A model of another project, with the interface that the evaluation expects of a `Predictor`.

    Attributes:
        name: The reference, without the path of a file.
        classes: Names and colours of its labels.
        artefact: `file`, `sha256`, `engine`, `precision`, `source` (the reference) and, from the Hub, `revision`.
        settings: Everything other than the file that affects the result.
        segment: The prediction for one frame.
        caveats: What to show with its figures: `kind` and `text` of each.
    """

    name: str
    classes: ClassTable
    artefact: Mapping[str, Any]
    settings: Mapping[str, Any]
    segment: Callable[[Frame], Segmentation2D]
    caveats: tuple[Mapping[str, str], ...] = (TRAINING_UNKNOWN,)

    def __enter__(self) -> ForeignModel:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is freed before the process ends."""

    @property
    def input_kind(self) -> str:
        """What the sources are."""
        return "image"

    @property
    def task(self) -> Segmentation2DTask:
        """Segmentation into its own classes."""
        return Segmentation2DTask(self.classes)

    def with_classes(self, classes: ClassTable) -> ForeignModel:
        """The same model with another class table, for example with class maps that the user gave."""
        return dataclasses.replace(self, classes=classes)

    def __call__(self, source: Any) -> Segmentation2D:
        """The prediction for a path, a PIL image, an `(H, W, 3)` uint8 RGB array, or a frame with one camera.

        Raises:
            InputError: If the source cannot be read, the model fails, or it returns something else than it should.
        """
        frame = source if isinstance(source, Frame) else frame_from_image(as_image(source))
        prediction = self.segment(frame)
        expected = prediction.image.shape[:2]
        assert prediction.labels.shape == expected, f"{self.name}: {prediction.labels.shape} for {expected}"
        assert prediction.labels.dtype == np.uint8
        return prediction


def scheme_of(reference: str | Path) -> str | None:
    """The scheme of a reference; `None` if it names a model of ours: a catalogue name, a folder, `hf-hub:org/name`."""
    scheme, colon, _ = str(reference).partition(":")
    return scheme if colon and scheme in SCHEMES and isinstance(reference, str) else None


def descriptions_by_model(given: Sequence[str], references: Sequence[str]) -> dict[str, str]:
    """The YAML file of each described model, from the values of `--description`: `FILE`, or `MODEL=FILE`.

    Raises:
        InputError: If it is unclear which model a file describes, or a model is described twice.
    """
    describable = [each for each in references if (name := scheme_of(each)) and SCHEMES[name].described]
    found: dict[str, str] = {}
    for text in given:
        named = [each for each in describable if text.startswith(f"{each}=")]
        if not named and len(describable) != 1:
            models = ", ".join(describable) or "none of the models needs a description"
            raise InputError(f"--description {text}: expected MODEL=FILE, to say which model it is for: {models}")
        model = named[0] if named else describable[0]
        if model in found:
            raise InputError(f"--description {text}: {model} has a description already, {found[model]}")
        found[model] = text.removeprefix(f"{model}=") if named else text
    return found


def load(
    reference: str,
    *,
    description: Path | str | None = None,
    engine: str = "auto",
    device: str = "cpu",
    precision: str = "fp32",
    threads: int | None = None,
) -> ForeignModel:
    """A model of another project.

    Args:
        reference: `onnx:FILE.onnx`, `python:MODULE:FUNCTION`, `hf:ORG/NAME`, or `torchvision:NAME`.
        description: YAML file with its classes, input and output, for `onnx` and `python`; for `onnx`, the file of the
            same name that ends in `.yaml` by default.
        engine: `auto`, or the only engine that runs models of the scheme.
        device: Where it runs: `cpu`, `cuda:0`, ...
        precision: `fp32`.
        threads: CPU threads. With torch, this sets the whole process.

    Raises:
        MissingExtraError: If a package that runs the model is not installed.
        InputError: If the scheme is unknown, or the model cannot be found, is not described, or is refused.
    """
    name, _, target = reference.partition(":")
    if name not in SCHEMES:
        raise InputError(f"{reference}: unknown scheme {name!r}; known: {', '.join(SCHEMES)}")
    scheme = SCHEMES[name]
    if not target:
        raise InputError(f"{reference}: expected {name}:{scheme.target}")
    if engine not in ("auto", scheme.engine):
        raise InputError(f"{reference} runs with {scheme.engine}, not with --engine {engine}; omit the option")
    if precision != "fp32":
        raise InputError(f"{reference} runs in the precision of its file, not in {precision}; omit --precision")
    if description is not None and not scheme.described:
        raise InputError(f"{reference} describes itself; a description is for onnx: and python: models")
    options = SchemeOptions(
        description=None if description is None else Path(description), device=device, threads=threads
    )
    module, function = scheme.opener.split(":")
    return getattr(importlib.import_module(module), function)(target, options)
