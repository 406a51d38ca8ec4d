"""Inputs: from any source to the arrays that an engine takes, and through the engine.

An input reads a source (a path, an array, a frame), prepares named arrays from it, and runs an engine on them, whole or
in windows. It knows nothing about the task: a task (`zoo.tasks`) turns the engine's outputs into a prediction with the
help of the context that the input hands on. A new input is one file here and one row in `INPUTS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from zoo.contract import Contract
from zoo.engines import Engine, EngineSpec
from zoo.errors import InputError, closest
from zoo.frame import Frame

__all__ = ["INPUTS", "Input", "Prepared", "Variation", "input_class", "input_from_json"]

INPUTS = {
    "image": "zoo.inputs.image:ImageInput",
    "points": "zoo.inputs.points:PointsInput",
}
"""Where each kind of input is defined, by the name that a configuration uses."""


@dataclass(frozen=True)
class Prepared:
    """One sample, ready for an engine.

    Attributes:
        arrays: By name of the engine's input, without the batch axis.
        context: What a task needs to bring outputs back to the sample; its type belongs to the input.
    """

    arrays: Mapping[str, np.ndarray]
    context: Any


@dataclass(frozen=True)
class Variation:
    """Frames of one shape that a comparison of two engines should cover besides the frames themselves.

    Attributes:
        shape: Of one batch, for the record.
        frames: Endless.
        elements: Compare at least this many elements (pixels, points).
    """

    shape: tuple[int, ...]
    frames: Iterator[Frame]
    elements: int


class Input(Protocol):
    """How one kind of sample reaches an engine."""

    kind: ClassVar[str]
    """Name in `INPUTS`."""
    schema: ClassVar[Mapping[str, Any]]
    """JSON schema of the configuration's section, without `kind`."""
    example: ClassVar[str]
    """A source in words for cards and help, for example `street.png`."""

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Input:
        """The input that a configuration's section describes.

        Raises:
            InputError: If a key is unknown or a value is out of range.
        """

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration, `kind` included."""

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """What someone without this package must do to feed an exported file, from its entry in `config.json`."""

    @classmethod
    def from_contract(cls, contract: Contract) -> Input:
        """The input that a contract describes, read from its data.

        Raises:
            KeyError: If a step or a value is missing.
            InputError: If a value is out of range.
        """

    def check(self, spec: EngineSpec, in_graph: Collection[str], what: str) -> None:
        """Raises an `InputError` if a file with this `spec` cannot be fed with what `prepare` makes."""

    def read(self, source: Any) -> Any:
        """The sample in a source.

        Raises:
            InputError: If the source is something else, or does not fit the sensor contract.
        """

    def prepare(self, sample: Any, in_graph: Collection[str] = ()) -> Prepared:
        """Arrays for an engine, leaving out the steps that the file does inside its graph."""

    def run(self, engine: Engine, prepared: Prepared) -> dict[str, np.ndarray]:
        """The engine's outputs for one sample, without the batch axis."""

    def at_model_size(self) -> Input:
        """The same input for samples that are already at the model's own size, each run at once."""

    def run_together(self, engine: Engine, prepared: Sequence[Prepared]) -> list[dict[str, np.ndarray]]:
        """The outputs for several samples of one shape, run as one batch."""

    def fit(self, frame: Frame, spec: EngineSpec) -> Frame:
        """The frame with sensor data and labels brought to the size at which a file with this `spec` works."""

    def variations(
        self, frames: Sequence[Frame], spec: EngineSpec, in_graph: Collection[str] = ()
    ) -> Iterator[Variation]:
        """Other shapes and batches that a file with this `spec` claims to take, made from real frames."""


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
