"""Inputs: turn a source into the arrays that an engine takes, and run the engine on them.

An input reads a source (a path, an array, a frame), prepares named arrays from it, and runs an engine on them, whole or
in windows. It knows nothing about the task: a task (`zoo.tasks`) decodes the engine's outputs with the help of the
context that the input passes on. A new input is one file here and one row in `INPUTS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from zoo.contract import Contract
from zoo.engines import Engine, EngineSpec, TensorSpec
from zoo.errors import InputError, closest
from zoo.frame import Frame

__all__ = ["INPUTS", "ExportPlan", "Input", "Prepared", "Variation", "input_class", "input_from_json"]

INPUTS = {
    "image": "zoo.inputs.image:ImageInput",
    "points": "zoo.inputs.points:PointsInput",
    "range_image": "zoo.inputs.range_image:RangeImageInput",
}
"""Class of each kind of input, by its name in a configuration."""


@dataclass(frozen=True)
class Prepared:
    """One sample, ready for an engine.

    Attributes:
        arrays: Arrays by name of the engine's input, without the batch axis.
        context: What a task needs to map outputs back to the sample; its type is defined by the input.
    """

    arrays: Mapping[str, np.ndarray]
    context: Any


@dataclass(frozen=True)
class Variation:
    """Frames of one shape that a comparison of two engines should cover in addition to the given frames.

    Attributes:
        shape: Shape of one batch, for records.
        frames: An endless iterator.
        elements: Compare at least this many elements (pixels, points).
    """

    shape: tuple[int, ...]
    frames: Iterator[Frame]
    elements: int


@dataclass(frozen=True)
class ExportPlan:
    """What an input says about a file that is to be exported.

    Attributes:
        lengths: Length in the example of every free axis but the batch.
        inputs: Specs of the file's inputs.
        in_graph: Steps of the input that move into the graph.
        settings: Keyword arguments for the function that inserts these steps.
    """

    lengths: Mapping[str, int]
    inputs: tuple[TensorSpec, ...]
    in_graph: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


class Input(Protocol):
    """How one kind of sample reaches an engine."""

    kind: ClassVar[str]
    """Name in `INPUTS`."""
    schema: ClassVar[Mapping[str, Any]]
    """JSON schema of the configuration's section, without `kind`."""
    example: ClassVar[str]
    """An example of a source, for cards and help: `street.png`."""
    samples: ClassVar[str]
    """What its samples are, in the plural: `images`."""
    suffixes: ClassVar[tuple[str, ...]]
    """Endings of the files that it reads, in lower case: `.png`."""

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Input:
        """The input that a configuration's section describes.

        Raises:
            InputError: If a key is unknown or a value is out of range.
        """

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration, `kind` included."""

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """How to feed an exported file without this package, derived from its entry in `config.json`."""

    @classmethod
    def from_contract(cls, contract: Contract) -> Input:
        """The input that a contract describes, read from its data.

        Raises:
            KeyError: If a step or a value is missing.
            InputError: If a value is out of range.
        """

    def check(self, spec: EngineSpec, in_graph: Collection[str], what: str) -> None:
        """Raises an `InputError` if a file with this `spec` does not accept the arrays from `prepare`."""

    def read(self, source: Any) -> Any:
        """The sample in a source.

        Raises:
            InputError: If the source has another type, or violates the sensor contract.
        """

    def frame(self, path: Path, id: str) -> Frame:
        """An unlabelled frame with the sample of a file, which is read when the frame is used."""

    def examples(self) -> Sequence[Frame]:
        """Frames that come with the package, on which files are compared and timed; labels are Cityscapes classes."""

    def size_of(self, sample: Any) -> tuple[int, ...]:
        """Size of a sample, for records: (height, width) of an image."""

    def resized(self, sample: Any, size: tuple[int, int]) -> Any:
        """The sample at another (height, width).

        Raises:
            InputError: If its samples have no height and width.
        """

    def prepare(self, sample: Any, in_graph: Collection[str] = ()) -> Prepared:
        """Arrays for an engine, without the steps that the file performs inside its graph."""

    def run(self, engine: Engine, prepared: Prepared) -> dict[str, np.ndarray]:
        """The engine's outputs for one sample, without the batch axis."""

    def at_model_size(self) -> Input:
        """The same input for samples that already have the model's size, each run in one piece."""

    def run_together(self, engine: Engine, prepared: Sequence[Prepared]) -> list[dict[str, np.ndarray]]:
        """The outputs for several samples of one shape, run as one batch."""

    def fit(self, frame: Frame, spec: EngineSpec) -> Frame:
        """The frame with sensor data and labels resized to the working size of a file with this `spec`."""

    def variations(
        self, frames: Sequence[Frame], spec: EngineSpec, in_graph: Collection[str] = ()
    ) -> Iterator[Variation]:
        """Other shapes and batch sizes that a file with this `spec` declares to accept, made from real frames."""

    def export_plan(self, spec: EngineSpec, *, size: tuple[int, int] | None, move_steps: bool, what: str) -> ExportPlan:
        """What an exported file is given.

        Args:
            spec: The module's.
            size: Fixed (height, width) of the file's input; `None` for a free size.
            move_steps: Move the steps of the input into the graph.
            what: Name of the model, for errors.

        Raises:
            InputError: If such a file cannot be exported, or `zoo predict` could not run it.
        """


def input_class(kind: Any) -> type[Input]:
    """The class of a kind of input.

    Raises:
        InputError: If there is no such kind.
    """
    if not isinstance(kind, str) or kind not in INPUTS:
        raise InputError(f"unknown input {kind!r}{closest(str(kind), INPUTS)}; known: {', '.join(INPUTS)}")
    module, name = INPUTS[kind].split(":")
    return getattr(importlib.import_module(module), name)


def input_from_json(section: Mapping[str, Any]) -> Input:
    """The input that one entry of a configuration's `inputs` describes.

    Raises:
        InputError: If its kind or a key is unknown, or a value is out of range.
    """
    values = dict(section)
    return input_class(values.pop("kind", None)).from_json(values)
