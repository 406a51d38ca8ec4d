"""The two sides of a comparison: the source (or its stored outputs) and the exported file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from zoo.engines import Engine, EngineSpec
from zoo.errors import InputError, ParityError
from zoo.frame import Frame
from zoo.inputs import Input
from zoo.npz import read_npz
from zoo.tasks import Agreement, Task

__all__ = ["EngineSource", "ExportedFile", "Side", "Source", "StoredSource"]

Result = tuple[Mapping[str, np.ndarray], Any]
"""Raw outputs for one sample and the prediction decoded from them."""


@dataclass(frozen=True)
class Side:
    """A model that runs on whole samples at its own input size.

    Attributes:
        engine: Engine that runs the model.
        input: Input of the model.
        task: Task of the model.
        in_graph: Steps that the file performs itself.
    """

    engine: Engine
    input: Input
    task: Task
    in_graph: tuple[str, ...] = ()

    def results(self, frames: Sequence[Frame]) -> list[Result]:
        """Outputs and predictions for frames of the same size, run as one batch."""
        ready = self.input.at_model_size()
        prepared = [ready.prepare(ready.read(frame), self.in_graph) for frame in frames]
        of_all = ready.run_together(self.engine, prepared)
        for outputs in of_all:
            self.task.check(outputs, "the model")
        return [(outputs, self.task.decode(outputs, each)) for outputs, each in zip(of_all, prepared, strict=True)]


class ExportedFile(Side):
    """An exported file. If its runtime fails on a size that the file claims to support, the file is rejected."""

    def results(self, frames: Sequence[Frame]) -> list[Result]:
        """As `Side.results`.

        Raises:
            ParityError: If the runtime fails.
        """
        try:
            return super().results(frames)
        except InputError:
            raise
        except Exception as error:  # runtimes raise exception types of their own
            shape = np.shape(self.input.read(frames[0]))
            raise ParityError(
                f"the file cannot be run on {len(frames)} samples of {shape}: {str(error).splitlines()[0]}; "
                "the file is not kept"
            ) from error


class Source(Protocol):
    """The reference that a file is compared with."""

    about: dict[str, Any]

    def agreement(self, frame: Frame, found: Result) -> Agreement:
        """Agreement of the file's result for a frame with the source's."""

    def prediction(self, frame: Frame, found: Result) -> Any | None:
        """The source's prediction for a frame, or `None` if it was not stored."""


class EngineSource:
    """The source model itself.

    Args:
        side: The model to run.
        sha256: Hash of its weights.
    """

    def __init__(self, side: Side, sha256: str) -> None:
        self.side = side
        self.about = {"engine": side.engine.spec.engine, "sha256": sha256, "stored": False}
        self._latest: tuple[Frame, Result] | None = None

    @property
    def spec(self) -> EngineSpec:
        """Spec of the source's engine."""
        return self.side.engine.spec

    def _result(self, frame: Frame) -> Result:
        if self._latest is None or self._latest[0] is not frame:
            self._latest = frame, self.side.results([frame])[0]
        return self._latest[1]

    def agreement(self, frame: Frame, found: Result) -> Agreement:
        """Agreement of the file's result for a frame with the source's."""
        return self.side.task.agreement(self._result(frame), found)

    def prediction(self, frame: Frame, found: Result) -> Any:
        """The source's prediction for a frame."""
        return self._result(frame)[1]

    def packed(self, frame: Frame, found: Result) -> dict[str, np.ndarray]:
        """The part of the source's outputs for a frame to store, for later comparison with results like `found`."""
        sample = self.side.input.read(frame)
        stored = self.side.task.pack(*self._result(frame), like=found[0])
        return {**stored, "sample_sha256": np.frombuffer(_digest(sample), np.uint8)}


class StoredSource:
    """The source's outputs on the embedded frames, as stored with the file.

    Args:
        content: Bytes of an .npz file of the arrays that `EngineSource.packed` returned.
        sha256: Hash of the source's weights.
        task: Task of the model.
        input: Input of the model.
        what: Name of the file, for error messages.

    Raises:
        IntegrityError: If the file is damaged.
    """

    def __init__(self, content: bytes, sha256: str, task: Task, input: Input, what: str) -> None:
        self.about = {"engine": "torch", "sha256": sha256, "stored": True}
        self._task, self._input = task, input
        self._arrays = read_npz(content, what)

    def _stored(self, frame: Frame) -> dict[str, np.ndarray]:
        """The arrays stored for a frame.

        Raises:
            InputError: If nothing is stored for the frame, or its image has changed since.
        """
        prefix = f"{frame.id}/"
        packed = {name.removeprefix(prefix): value for name, value in self._arrays.items() if name.startswith(prefix)}
        if not packed:
            raise InputError(
                f"no source outputs are stored for frame {frame.id}; comparing on other frames needs torch: "
                "pip install 'perception-zoo[torch]'"
            )
        digest = packed.pop("sample_sha256", None)
        if digest is not None and digest.tobytes() != _digest(self._input.read(frame)):
            raise InputError(
                f"the stored source outputs for frame {frame.id} belong to a different image than the one in this "
                "version of perception-zoo; compare with the source itself (pip install 'perception-zoo[torch]') or "
                "export again"
            )
        return packed

    def agreement(self, frame: Frame, found: Result) -> Agreement:
        """Agreement of the file's result for a frame with the stored outputs."""
        return self._task.agreement_with_packed(self._stored(frame), found)

    def prediction(self, frame: Frame, found: Result) -> Any | None:
        """The stored part of the source's prediction for a frame."""
        return self._task.unpack(self._stored(frame), found[1])


def _digest(sample: Any) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(sample).tobytes()).digest()
