"""What the segmentation of images and that of sweeps share: classes, table, and agreement of labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from zoo.classes import ClassTable
from zoo.errors import InputError, ParityError
from zoo.prediction import Segmentation2D, Segmentation3D
from zoo.tasks import Agreement

__all__ = ["SegmentationTask", "labels_agree"]

_Prediction = TypeVar("_Prediction", Segmentation2D, Segmentation3D)


@dataclass(frozen=True)
class SegmentationTask:
    """A class for each of many elements.

    Attributes:
        classes: Names and colours of the labels.
    """

    classes: ClassTable

    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    predicts: ClassVar[str] = "labels"
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["classes"],
        "properties": {"classes": {"$ref": "#/$defs/classes"}},
        "additionalProperties": False,
    }

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Self:
        """The task that a configuration's `output` section describes.

        Raises:
            InputError: If it lists no classes, or they are inconsistent.
        """
        if not section.get("classes"):
            raise InputError("the configuration of a segmenter must list its classes")
        return cls(ClassTable.from_json(section["classes"]))

    def to_json(self) -> dict[str, Any]:
        """The `output` section of a configuration."""
        return {"classes": self.classes.to_json()}

    def shares(self, prediction: Segmentation2D | Segmentation3D) -> dict[str, Any]:
        """Mean score, share of each class, and the class table, for the summary of a prediction."""
        return {
            "mean_score": None if prediction.scores is None else float(np.mean(prediction.scores, dtype=np.float64)),
            "fractions": prediction.fractions(),
            "classes": [
                {"id": i, "name": name, "color": list(color)}
                for i, (name, color) in enumerate(zip(prediction.classes.names, prediction.classes.colors, strict=True))
            ],
        }

    def line(self, prediction: Segmentation2D | Segmentation3D) -> str:
        """The four largest classes."""
        return ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(prediction.fractions().items())[:4])

    def unpack(self, packed: Mapping[str, np.ndarray], like: _Prediction) -> _Prediction:
        """The stored labels, with everything else from `like`."""
        return dataclasses.replace(like, labels=packed["labels"])


def labels_agree(
    labels: np.ndarray, values: np.ndarray, found_labels: np.ndarray, found_values: np.ndarray, compared: str
) -> Agreement:
    """Elements with the same label, and the largest error of a raw value.

    Args:
        labels: Expected labels, of any shape.
        values: Expected raw values, of any shape.
        found_labels: Labels to compare.
        found_values: Raw values to compare.
        compared: What the raw values are: `logits`, `scores`.

    Raises:
        ParityError: If shapes differ.
    """
    if found_values.shape != values.shape or found_labels.shape != labels.shape:
        raise ParityError(
            f"{compared} have the shapes {values.shape} and {found_values.shape}, "
            f"labels {labels.shape} and {found_labels.shape}"
        )
    difference = np.abs(found_values - values)
    return Agreement(
        same=int(np.count_nonzero(found_labels == labels)),
        elements=labels.size,
        # NaN outputs must not pass just because every comparison with NaN is false.
        max_error=float(np.where(np.isfinite(difference), difference, np.inf).max()),
        largest=float(np.abs(values).max()),
        compared=compared,
    )
