"""Tasks: decode an engine's outputs to a prediction, and define what a prediction is compared with.

A task decodes outputs, returns the ground truth of a frame, measures how far two sets of outputs agree, and names its
metrics (`zoo.evaluate.metrics`). It knows nothing about how a sample was read or which engine ran, which is up to the
input (`zoo.inputs`). A new task is one file here and one row in `TASKS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from zoo.classes import ClassTable
from zoo.contract import Contract
from zoo.errors import InputError, closest
from zoo.frame import Frame
from zoo.inputs import Prepared

__all__ = ["TASKS", "Agreement", "Task", "task_class", "task_from_json"]

TASKS = {
    "segmentation2d": "zoo.tasks.segmentation2d:Segmentation2DTask",
    "segmentation3d": "zoo.tasks.segmentation3d:Segmentation3DTask",
    "features": "zoo.tasks.features:FeaturesTask",
}
"""Class of each task, by its name in the catalogue and in configurations."""

Outputs = Mapping[str, np.ndarray]
"""An engine's outputs for one sample, by name, without the batch axis."""


@dataclass(frozen=True)
class Agreement:
    """How far two sets of outputs for one sample agree.

    Attributes:
        same: Number of elements (pixels, points, positions) with the same prediction.
        elements: Number of elements compared.
        max_error: Largest absolute difference of a raw value; infinite if one of the two is not finite.
        largest: Largest absolute raw value of the first set.
        compared: Name of the raw values: `logits`, `scores`, `features`.
    """

    same: int
    elements: int
    max_error: float
    largest: float
    compared: str


class Task(Protocol):
    """What a model's outputs mean."""

    name: ClassVar[str]
    """Name in `TASKS`."""
    schema: ClassVar[Mapping[str, Any]]
    """JSON schema of the configuration's `output` section."""
    outputs: ClassVar[tuple[str, ...]]
    """Names of the model's outputs, in the order in which its `forward` returns them."""
    in_graph: ClassVar[tuple[str, ...]]
    """Steps of decoding that a file may perform inside its graph; `zoo.export.plan.REWRITES` inserts them."""
    metric: ClassVar[str | None]
    """Name in `zoo.evaluate.metrics.METRICS` of the metric that evaluates the task; `None` if there is none. A metric
    computes any number of figures, one of which is its headline."""
    predicts: ClassVar[str]
    """What two models agree or disagree on, in the plural, for messages: `labels`."""
    pipeline_tag: ClassVar[str]
    """The Hub's name of the task, for the model card."""
    usage: ClassVar[str]
    """A line of Python that uses `prediction`, for the model card."""

    # A task may also have `command: ClassVar[str]`, the command line for the model card, with `{name}` for the model.

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Task:
        """The task that a configuration's `output` section describes.

        Raises:
            InputError: If the section is incomplete or a value is out of range.
        """

    def to_json(self) -> dict[str, Any]:
        """The `output` section of a configuration."""

    @property
    def classes(self) -> ClassTable | None:
        """Classes of the predictions; `None` for a task without classes."""

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """How to decode an exported file's outputs without this package, derived from its entry."""

    def check(self, outputs: Outputs, what: str) -> None:
        """Raises an `InputError` unless `outputs` are valid for this task."""

    def decode(self, outputs: Outputs, prepared: Prepared) -> Any:
        """The prediction, in the sample's original size and order."""

    def files(self, prediction: Any, alpha: float) -> dict[str, bytes]:
        """What `zoo predict` writes for a prediction next to its summary: content by ending, most telling last.

        Args:
            prediction: From `decode`.
            alpha: Opacity, 0 to 1, of what is drawn over the sample.
        """

    def summary(self, prediction: Any) -> dict[str, Any]:
        """What `zoo predict` writes into the JSON summary of a prediction."""

    def line(self, prediction: Any) -> str:
        """The prediction in a few words, for the terminal."""

    def truth(self, frame: Frame) -> Any | None:
        """The ground truth of a frame, `None` if it has none."""

    def agreement(self, expected: tuple[Outputs, Any], found: tuple[Outputs, Any]) -> Agreement:
        """Compares two pairs of outputs and decoded prediction, both for the same sample.

        Raises:
            ParityError: If their shapes differ.
        """

    def pack(self, outputs: Outputs, prediction: Any, like: Outputs) -> dict[str, np.ndarray]:
        """What to store of a source model's outputs, for comparison with outputs like `like` where it cannot run."""

    def unpack(self, packed: Mapping[str, np.ndarray], like: Any) -> Any | None:
        """The stored prediction, completed from `like`, a prediction for the same sample; `None` if none was stored."""

    def agreement_with_packed(self, packed: Mapping[str, np.ndarray], found: tuple[Outputs, Any]) -> Agreement:
        """Like `agreement`, with what `pack` stored of the expected outputs."""


def task_class(name: Any) -> type[Task]:
    """The class of a task.

    Raises:
        InputError: If there is no such task.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise InputError(f"unknown task {name!r}{closest(str(name), TASKS)}; known: {', '.join(TASKS)}")
    module, class_name = TASKS[name].split(":")
    return getattr(importlib.import_module(module), class_name)


def task_from_json(name: Any, section: Mapping[str, Any]) -> Task:
    """The task `name` with the settings of a configuration's `output` section.

    Raises:
        InputError: If there is no such task, the section is incomplete, or a value is out of range.
    """
    return task_class(name).from_json(section)
