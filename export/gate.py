"""Parity of an exported file with its source: the frame-by-frame comparison and the limits that a file must meet.

The source is the torch model or, where torch is not installed, the model's outputs that were stored with the file. Both
sides run on the same whole samples at the model's input size, and predictions are compared at that size.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from zoo.errors import InputError, ParityError
from zoo.evaluate.metrics import Metric, metric_for
from zoo.export.samples import FrameSet
from zoo.export.sources import EngineSource, ExportedFile, Result, Source
from zoo.frame import Frame
from zoo.machine import machine, packages
from zoo.tasks import Agreement

__all__ = ["LIMITS", "Limits", "Row", "compare", "refuse_if_beyond"]


@dataclass(frozen=True)
class Limits:
    """Limits that a file must meet.

    Attributes:
        agreement: Smallest share of elements (pixels, points) on which both sides must agree.
        relative_error: Largest error of a raw value, relative to the source's largest. Agreement alone would miss
            errors in a class that is not predicted anywhere in the frames.
    """

    agreement: float
    relative_error: float


LIMITS = {"fp32": Limits(0.9999, 1e-3), "fp16": Limits(0.999, 2e-2)}


@dataclass
class Row:
    """One comparison; `to_json` returns it as a row of `parity.json`.

    Attributes:
        source: Engine and hash of the source, and whether stored outputs were used.
        engine: Engine that ran the file.
        device: Device that ran the file.
        options: Engine options.
        frame_sets: Name and number of frames of each set.
        limits: Limits that the file must meet.
        predicts: What the two sides agree on, for messages: `labels`, `features`.
        compared: Kind of raw values compared: `logits`, `scores`, `features`.
        totals: Results over all frames.
        conditions: Per condition: frames, agreement, and the headline figure of both sides.
        other_shapes: Results on batches and sizes that the frames do not have.
        frames: Number of frames.
    """

    source: dict[str, Any]
    engine: str
    device: str
    options: dict[str, Any]
    frame_sets: list[dict[str, Any]]
    limits: Limits
    predicts: str
    compared: str = ""
    totals: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)
    other_shapes: list[dict[str, Any]] = field(default_factory=list)
    frames: int = 0

    def beyond(self) -> list[tuple[str, dict[str, Any]]]:
        """Every violation of the limits, as a description of where it occurred and the results there; frames first."""
        parts = [(f"{self.frames} frames, worst {self.totals['worst_frame']}", self.totals)]
        parts += [(f"input {part['shape']}", part) for part in self.other_shapes]
        return [
            (where, part)
            for where, part in parts
            if part["agreement"] < self.limits.agreement or part["relative_error"] > self.limits.relative_error
        ]

    def to_json(self) -> dict[str, Any]:
        """The row of `parity.json`, without the file's name and hash."""
        return {
            "source": self.source,
            "engine": self.engine,
            "device": self.device,
            "options": self.options,
            "machine": machine(),
            "packages": packages(),
            "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "frames": self.frames,
            "frame_sets": self.frame_sets,
            "compared": self.compared,
            **self.totals,
            "conditions": self.conditions,
            "other_shapes": self.other_shapes,
            "limits": asdict(self.limits),
            "passed": not self.beyond(),
        }


def compare(
    source: Source,
    file: ExportedFile,
    sets: Sequence[FrameSet],
    limits: Limits,
) -> tuple[Row, bytes]:
    """Runs source and file on all frames and compares them.

    Args:
        source: `EngineSource` or `StoredSource`.
        file: Exported file.
        sets: Frames to compare on.
        limits: Limits that the file must meet.

    Returns:
        The row, and the source's outputs on the embedded frames for storage with the file.

    Raises:
        ParityError: If the file cannot run on a sample of a size that it claims to support.
        InputError: If a frame cannot be read.
    """
    spec = file.engine.spec
    frame_sets = [{"name": frames.name, "frames": len(frames.frames)} for frames in sets]
    row = Row(source.about, spec.engine, spec.device, dict(spec.options), frame_sets, limits, file.task.predicts)
    totals, conditions, stored = _Totals(), dict[str, _Condition](), dict[str, np.ndarray]()
    for frames in sets:
        metric = _metric(file, frames)
        for original in frames.frames:
            frame = file.input.fit(original, spec)
            found = file.results([frame])[0]
            agreement = totals.add(frame.id, source, frame, found)
            condition = conditions.setdefault(frame.group, _Condition(metric))
            condition.add(frame, agreement, source.prediction(frame, found), found[1])
            if frames.name == "embedded" and isinstance(source, EngineSource):
                stored |= {f"{frame.id}/{name}": array for name, array in source.packed(frame, found).items()}
    row.frames, row.totals, row.compared = totals.frames, totals.to_json(), totals.compared
    row.conditions = {name: condition.to_json() for name, condition in conditions.items()}
    if isinstance(source, EngineSource):
        row.other_shapes = list(_other_shapes(source, file, [frame for frames in sets for frame in frames.frames]))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored)  # type: ignore[arg-type]
    return row, buffer.getvalue()


def refuse_if_beyond(row: Row, what: str) -> None:
    """Raises a `ParityError` that names the first violation of the limits, if there is any."""
    beyond = row.beyond()
    if not beyond:
        return
    where, part = beyond[0]
    raise ParityError(
        f"{what} does not match its source ({row.engine} on {row.device}, {where}): "
        f"{100 * part['agreement']:.4f} % of the {row.predicts} agree (at least {100 * row.limits.agreement:g} %), "
        f"relative error of the {row.compared} {part['relative_error']:.2g} "
        f"(at most {row.limits.relative_error:g}); the file is not kept"
    )


class _Totals:
    """Running totals over frames."""

    def __init__(self) -> None:
        self.frames = self.elements = self.same = 0
        self.max_error = self.largest = 0.0
        self.worst = (2.0, "")
        self.compared = ""

    def add(self, name: str, source: Source, frame: Frame, found: Result) -> Agreement:
        """Adds one frame."""
        try:
            return self.count(name, source.agreement(frame, found))
        except ParityError as error:
            raise ParityError(f"frame {name}: {error}") from error

    def count(self, name: str, agreement: Agreement) -> Agreement:
        """Adds the agreement of one sample."""
        self.frames += 1
        self.elements += agreement.elements
        self.same += agreement.same
        self.max_error = max(self.max_error, agreement.max_error)
        self.largest = max(self.largest, agreement.largest)
        self.worst = min(self.worst, (agreement.same / agreement.elements, name))
        self.compared = agreement.compared
        return agreement

    def to_json(self) -> dict[str, Any]:
        return {
            "agreement": self.same / self.elements,
            "max_error": self.max_error,
            "relative_error": self.max_error / max(self.largest, 1e-12),
            "worst_frame": self.worst[1],
            "worst_agreement": self.worst[0],
        }


class _Condition:
    """Running totals over the frames of one condition."""

    def __init__(self, metric: Metric | None) -> None:
        self.frames = self.elements = self.same = 0
        self._metric = metric
        self._tallies: list[tuple[Any, Any]] = []

    def add(self, frame: Frame, agreement: Agreement, expected: Any | None, found: Any) -> None:
        self.frames += 1
        self.elements += agreement.elements
        self.same += agreement.same
        if self._metric is not None and expected is not None and self._metric.has_truth(frame):
            self._tallies.append((self._metric.tally(frame, expected), self._metric.tally(frame, found)))

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"frames": self.frames, "agreement": self.same / self.elements}
        if self._metric is None or not self._tallies:
            return {**values, "metric": None, "source": None, "file": None, "difference": None}
        name = self._metric.headline
        source, file = (self._metric.figures([pair[side] for pair in self._tallies])[name].value for side in (0, 1))
        return {**values, "metric": name, "source": source, "file": file, "difference": file - source}


def _metric(file: ExportedFile, frames: FrameSet) -> Metric | None:
    """The task's metric for these frames; `None` if there is no class map from the model's classes to theirs."""
    if frames.classes is None or file.task.metric is None:
        return None
    try:
        return metric_for(file.task.metric, file.task, frames.classes)
    except InputError:
        return None


def _other_shapes(source: EngineSource, file: ExportedFile, frames: Sequence[Frame]) -> Iterable[dict[str, Any]]:
    """Compares source and file on batches and sizes that the frames do not have, where the file's axes are dynamic."""
    for variation in file.input.variations(frames, file.engine.spec, file.in_graph):
        totals = _Totals()
        while totals.elements < variation.elements:
            batch = list(islice(variation.frames, variation.shape[0]))
            for expected, found in zip(source.side.results(batch), file.results(batch), strict=True):
                totals.count("", file.task.agreement(expected, found))
        numbers = totals.to_json()
        kept = {key: numbers[key] for key in ("agreement", "max_error", "relative_error")}
        yield {"shape": list(variation.shape), file.input.samples: totals.frames, **kept}
