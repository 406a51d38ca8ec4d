"""Semantic segmentation of lidar sweeps: a class for every point."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoo.classes import ClassTable
from zoo.contract import Contract
from zoo.errors import InputError, ParityError
from zoo.frame import Frame
from zoo.inputs import Prepared
from zoo.inputs.points import PointsContext
from zoo.prediction import Segmentation3D
from zoo.tasks import Agreement, Outputs

__all__ = ["Segmentation3DTask"]

_PROBE = 8
"""The raw values of every 8th point are stored with an exported file."""


@dataclass(frozen=True)
class Segmentation3DTask:
    """Logits for every point of a sweep, `(N, C)`.

    Attributes:
        classes: Names and colours of the labels.
    """

    classes: ClassTable

    name: ClassVar[str] = "segmentation3d"
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    in_graph: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str | None] = "segmentation3d"
    predicts: ClassVar[str] = "labels"
    pipeline_tag: ClassVar[str] = "other"
    command: ClassVar[str] = "zoo predict {name} sweep.bin --out results"
    usage: ClassVar[str] = 'prediction.bird_view().save("above.png")'
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["classes"],
        "properties": {"classes": {"$ref": "#/$defs/classes"}},
        "additionalProperties": False,
    }

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Segmentation3DTask:
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

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """How to decode an exported file's outputs without this package."""
        text = (
            "The output logits is (points, classes) float32, in the order of the points. The label of a point is the "
            "position of its largest logit, and its score the softmax of that logit."
        )
        return {"before": {}, "inside": {}, "after": {"argmax": {"text": text, "axis": 1}}}

    def check(self, outputs: Outputs, what: str) -> None:
        """Raises an `InputError` unless the outputs are a column of logits per class."""
        if set(outputs) != {"logits"}:
            raise InputError(f"{what} returns {', '.join(outputs)}; a segmenter of points returns logits")
        if outputs["logits"].ndim != 2 or outputs["logits"].shape[1] != len(self.classes):
            raise InputError(
                f"{what} returns logits {outputs['logits'].shape}, but the configuration lists {len(self.classes)} "
                "classes, a column each; correct config.json"
            )

    def decode(self, outputs: Outputs, prepared: Prepared) -> Segmentation3D:
        """Labels and scores of all points, in their order."""
        context = prepared.context
        if not isinstance(context, PointsContext):
            raise InputError("segmentation3d labels the points of sweeps; correct inputs or task in config.json")
        logits = outputs["logits"].astype(np.float32, copy=False)
        labels = logits.argmax(1)
        best = np.take_along_axis(logits, labels[:, None], 1)
        scores = 1 / np.exp(logits - best).sum(1)
        return Segmentation3D(
            labels=labels.astype(np.uint8),
            scores=scores,
            classes=self.classes,
            points=context.points,
            axes=context.axes,
        )

    def files(self, prediction: Segmentation3D, alpha: float) -> dict[str, bytes]:
        """The labels as SemanticKITTI writes them, one uint32 per point, and a picture from above and from the sensor.

        The semantic id of a point is in the lower 16 bits. It is the class's position in the summary's table.
        """
        picture = io.BytesIO()
        prediction.picture().save(picture, "PNG")
        return {".label": prediction.labels.astype("<u4").tobytes(), "_points.png": picture.getvalue()}

    def summary(self, prediction: Segmentation3D) -> dict[str, Any]:
        """Number of points, mean score, share of each class, and the class table."""
        return {
            "number_of_points": len(prediction.labels),
            "mean_score": float(np.mean(prediction.scores, dtype=np.float64)),
            "fractions": prediction.fractions(),
            "classes": [
                {"id": i, "name": name, "color": list(color)}
                for i, (name, color) in enumerate(zip(self.classes.names, self.classes.colors, strict=True))
            ],
        }

    def line(self, prediction: Segmentation3D) -> str:
        """The four largest classes."""
        return ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(prediction.fractions().items())[:4])

    def truth(self, frame: Frame) -> np.ndarray | None:
        """`(N,)` labels of the newest sweep of the frame's lidar."""
        (sweeps,) = frame.lidars.values()
        return sweeps[0].labels

    def agreement(self, expected: tuple[Outputs, Segmentation3D], found: tuple[Outputs, Segmentation3D]) -> Agreement:
        """Points with the same label, and the largest error of a logit."""
        return _agreement(expected[1].labels, expected[0]["logits"], found[1].labels, found[0]["logits"])

    def pack(self, outputs: Outputs, prediction: Segmentation3D, like: Outputs) -> dict[str, np.ndarray]:
        """`labels` of every point, and the logits of every 8th one."""
        return {"labels": prediction.labels, "values": outputs["logits"][::_PROBE].astype(np.float32)}

    def unpack(self, packed: Mapping[str, np.ndarray], like: Segmentation3D) -> Segmentation3D:
        """The stored labels, with scores and points from `like`."""
        return dataclasses.replace(like, labels=packed["labels"])

    def agreement_with_packed(
        self, packed: Mapping[str, np.ndarray], found: tuple[Outputs, Segmentation3D]
    ) -> Agreement:
        """Like `agreement`, on every label and the stored logits."""
        return _agreement(packed["labels"], packed["values"], found[1].labels, found[0]["logits"][::_PROBE])


def _agreement(labels: np.ndarray, values: np.ndarray, found_labels: np.ndarray, found_values: np.ndarray) -> Agreement:
    if found_values.shape != values.shape or found_labels.shape != labels.shape:
        raise ParityError(
            f"logits have the shapes {values.shape} and {found_values.shape}, "
            f"labels {labels.shape} and {found_labels.shape}"
        )
    difference = np.abs(found_values - values)
    return Agreement(
        same=int(np.count_nonzero(found_labels == labels)),
        elements=labels.size,
        # NaN outputs must not pass just because every comparison with NaN is false.
        max_error=float(np.where(np.isfinite(difference), difference, np.inf).max()),
        largest=float(np.abs(values).max()),
        compared="logits",
    )
