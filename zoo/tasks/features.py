"""Features of a bare encoder, level by level."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoo.contract import Contract
from zoo.errors import InputError, ParityError
from zoo.frame import Frame
from zoo.inputs import Prepared
from zoo.prediction import Features
from zoo.tasks import Agreement, Outputs

__all__ = ["FeaturesTask"]

_SAME_DIRECTION = 0.999
"""Minimum cosine between two feature vectors that count as the same."""


@dataclass(frozen=True)
class FeaturesTask:
    """The unprocessed levels of an encoder, `(C, h, w)` or `(N, C)` each, finest first.

    Attributes:
        levels: Number of levels.
    """

    levels: int = 1

    name: ClassVar[str] = "features"
    in_graph: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str | None] = None
    predicts: ClassVar[str] = "features"
    pipeline_tag: ClassVar[str] = "image-feature-extraction"
    usage: ClassVar[str] = "[level.shape for level in prediction.levels]"
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"levels": {"type": "integer", "minimum": 1, "maximum": 64}},
        "additionalProperties": False,
    }

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> FeaturesTask:
        """The task that a configuration's `output` section describes.

        Raises:
            InputError: If a key is unknown or the number of levels is below 1.
        """
        if unknown := sorted(set(section) - {"levels"}):
            raise InputError(f"output: unknown {', '.join(unknown)}; features have levels")
        levels = section.get("levels", 1)
        if not isinstance(levels, int) or isinstance(levels, bool) or levels < 1:
            raise InputError(f"output: levels {levels!r} must be a whole number of at least 1")
        return cls(levels)

    def to_json(self) -> dict[str, Any]:
        """The `output` section of a configuration."""
        return {"levels": self.levels}

    @property
    def outputs(self) -> tuple[str, ...]:
        """`level0`, `level1` and so on."""
        return tuple(f"level{i}" for i in range(self.levels))

    @property
    def classes(self) -> None:
        """Features have no classes."""
        return None

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """The outputs are the features; nothing is left to do."""
        names = ", ".join(self.outputs)
        return {
            "before": {},
            "inside": {"output": {"text": f"The outputs {names} are float32, finest first."}},
            "after": {},
        }

    def check(self, outputs: Outputs, what: str) -> None:
        """Raises an `InputError` unless every level is present."""
        if set(outputs) != set(self.outputs):
            raise InputError(f"{what} returns {', '.join(outputs)}; expected {', '.join(self.outputs)}")

    def decode(self, outputs: Outputs, prepared: Prepared) -> Features:
        """The levels in order."""
        return Features(levels=tuple(outputs[name] for name in self.outputs))

    def files(self, prediction: Features, alpha: float) -> dict[str, bytes]:
        """All levels in one `.npz`, named as the outputs."""
        archive = io.BytesIO()
        levels = dict(zip(self.outputs, prediction.levels, strict=True))
        np.savez_compressed(archive, **levels)  # type: ignore[arg-type]
        return {".npz": archive.getvalue()}

    def summary(self, prediction: Features) -> dict[str, Any]:
        """Shape of every level."""
        return {"levels": {name: list(level.shape) for name, level in zip(self.outputs, prediction.levels)}}

    def line(self, prediction: Features) -> str:
        """Shape of every level."""
        shapes = (" x ".join(map(str, level.shape)) for level in prediction.levels)
        return ", ".join(f"{name} {shape}" for name, shape in zip(self.outputs, shapes))

    def truth(self, frame: Frame) -> None:
        """Features have no ground truth."""
        return None

    def agreement(self, expected: tuple[Outputs, Features], found: tuple[Outputs, Features]) -> Agreement:
        """Positions whose feature vectors point the same way, and the largest error of a value."""
        return self.agreement_with_packed(self.pack(*expected, like=found[0]), found)

    def pack(self, outputs: Outputs, prediction: Features, like: Outputs) -> dict[str, np.ndarray]:
        """All levels as float32."""
        return {name: outputs[name].astype(np.float32) for name in self.outputs}

    def unpack(self, packed: Mapping[str, np.ndarray], like: Features) -> Features:
        """All levels."""
        return Features(levels=tuple(packed[name] for name in self.outputs))

    def agreement_with_packed(self, packed: Mapping[str, np.ndarray], found: tuple[Outputs, Features]) -> Agreement:
        """Like `agreement`; `pack` stores everything."""
        same = elements = 0
        max_error = largest = 0.0
        for name in self.outputs:
            one, other = packed[name], found[0][name].astype(np.float32)
            if one.shape != other.shape:
                raise ParityError(f"{name} has the shapes {one.shape} and {other.shape}")
            difference = np.abs(one - other)
            max_error = max(max_error, float(np.where(np.isfinite(difference), difference, np.inf).max()))
            largest = max(largest, float(np.abs(one).max()))
            cosine, equal = _cosine(one, other), (one == other).all(_axis(one))
            same += int(np.count_nonzero((cosine >= _SAME_DIRECTION) | equal))  # two zero vectors have no direction
            elements += cosine.size
        return Agreement(same, elements, max_error, largest, "features")


def _axis(level: np.ndarray) -> int:
    """The axis of the channels: the first of `(C, h, w)`, the last of `(N, C)`."""
    return 0 if level.ndim == 3 else -1


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine between every pair of vectors."""
    axis = _axis(one)
    norms = np.linalg.norm(one, axis=axis) * np.linalg.norm(other, axis=axis)
    return (one * other).sum(axis) / np.maximum(norms, 1e-12)
