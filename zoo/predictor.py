"""The predictor: from a source to a prediction, with any input, engine and task."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.classes import ClassTable
from zoo.engines import Engine
from zoo.errors import InputError
from zoo.folder.model_folder import ModelFolder
from zoo.inputs import Input, Prepared
from zoo.tasks import Task

__all__ = ["Predictor", "Stage"]


@dataclass(frozen=True)
class Stage:
    """One graph of a model. Most models have one; a pillar detector has two.

    Attributes:
        input: Prepares the engine's arrays.
        artefact: Entry of the file that runs: `file`, `sha256`, `engine`, `precision`.
        engine: Runs the file.
    """

    input: Input
    artefact: Mapping[str, Any]
    engine: Engine

    @property
    def in_graph(self) -> tuple[str, ...]:
        """Steps that the file performs inside its graph."""
        return tuple(self.artefact.get("in_graph", ()))


class Predictor:
    """A loaded model: `predictor(source)` returns its task's prediction.

    As a context manager, it frees its engines at the end.

    Attributes:
        folder: The model folder that it was loaded from.
        stages: In execution order. The input of the first stage reads the source; the input of each later stage reads
            the pair of `Prepared` and outputs from the stage before it.
        task: Decodes the last stage's outputs.
    """

    def __init__(self, folder: ModelFolder, stages: Sequence[Stage], task: Task) -> None:
        self.folder = folder
        self.stages = tuple(stages)
        self.task = task
        for stage in self.stages:
            stage.input.check(stage.engine.spec, stage.in_graph, self._what(stage))

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the memory and devices of all engines; the predictor cannot run afterwards."""
        for stage in self.stages:
            stage.engine.close()

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.folder.name

    @property
    def artefact(self) -> Mapping[str, Any]:
        """Entry of the file that the last stage runs."""
        return self.stages[-1].artefact

    @property
    def engine(self) -> Engine:
        """Engine of the last stage."""
        return self.stages[-1].engine

    @property
    def input(self) -> Input:
        """Input of the first stage, which reads the source."""
        return self.stages[0].input

    @property
    def input_kind(self) -> str:
        """What the sources are, a name in `INPUTS`."""
        return self.input.kind

    @property
    def classes(self) -> ClassTable | None:
        """Names and colours of the labels; `None` for a task without classes."""
        return self.task.classes

    def with_classes(self, classes: ClassTable) -> Predictor:
        """The same model with another class table, for example with class maps that the user gave."""
        changed = copy.copy(self)
        changed.task = dataclasses.replace(self.task, classes=classes)  # type: ignore[type-var]
        return changed

    @property
    def module(self) -> Any:
        """The `nn.Module` that the torch engine runs.

        Raises:
            InputError: If another engine runs the model.
        """
        module = getattr(self.engine, "module", None)
        if module is None:
            raise InputError(f"the {self.engine.spec.engine} engine has no nn.Module; load with engine='torch'")
        return module

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that affects the result except the last stage's file: engine, device, precision, inputs."""
        spec = self.engine.spec
        # `artefact` is the last stage's file only; results depend on all of them.
        files = [stage.artefact["sha256"] for stage in self.stages]
        return {
            "engine": spec.engine,
            "device": spec.device,
            "precision": spec.precision,
            "inputs": [stage.input.to_json() for stage in self.stages],
            **({"files": files} if len(files) > 1 else {}),
        }

    def __call__(self, source: Any) -> Any:
        """The prediction for one source.

        Args:
            source: Whatever the model's input reads: for images a path, a PIL image, an `(H, W, 3)` uint8 RGB array of
                any size, or a frame with one camera.

        Returns:
            The task's prediction, for example a `Segmentation2D` at the image's own size.

        Raises:
            InputError: If the input cannot read the source.
        """
        prepared = self.prepare(source)
        prepared, outputs = self.infer(prepared)
        return self.finish(outputs, prepared)

    def prepare(self, source: Any) -> Prepared:
        """The arrays for the first stage's engine."""
        stage = self.stages[0]
        return stage.input.prepare(stage.input.read(source), stage.in_graph)

    def infer(self, prepared: Prepared) -> tuple[Prepared, dict[str, np.ndarray]]:
        """Runs all stages; returns what the last one was given, and its outputs."""
        outputs = self.stages[0].input.run(self.stages[0].engine, prepared)
        for stage in self.stages[1:]:
            prepared = stage.input.prepare(stage.input.read((prepared, outputs)), stage.in_graph)
            outputs = stage.input.run(stage.engine, prepared)
        self.task.check(outputs, self._what(self.stages[-1]))
        return prepared, outputs

    def finish(self, outputs: Mapping[str, np.ndarray], prepared: Prepared) -> Any:
        """The prediction decoded from the outputs."""
        return self.task.decode(outputs, prepared)

    def record(self, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
        """Adds measured rows to the model folder's `metrics.json`; see `ModelFolder.record`."""
        self.folder.record(rows, key)

    def _what(self, stage: Stage) -> str:
        return str(self.folder.path / stage.artefact["file"])
