"""Semantic segmentation of lidar sweeps: a class for every point."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoo.contract import Contract
from zoo.errors import InputError
from zoo.frame import Frame
from zoo.inputs import Prepared
from zoo.inputs.points import PointsContext
from zoo.prediction import Segmentation3D
from zoo.tasks import Agreement, Outputs
from zoo.tasks.segmentation import SegmentationTask, labels_agree

__all__ = ["Segmentation3DTask"]

_PROBE = 8
"""The raw values of every 8th point are stored with an exported file."""


@dataclass(frozen=True)
class Segmentation3DTask(SegmentationTask):
    """Logits for every point of a sweep, `(N, C)`."""

    name: ClassVar[str] = "segmentation3d"
    in_graph: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str | None] = "segmentation3d"
    pipeline_tag: ClassVar[str] = "other"
    command: ClassVar[str] = "zoo predict {name} sweep.bin --out results"
    usage: ClassVar[str] = 'prediction.bird_view().save("above.png")'

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
        """The labels in SemanticKITTI's format, and a picture from above and from the sensor.

        One little-endian uint32 per point, with the id of its class in the lower 16 bits: SemanticKITTI's own id (10
        for a car) if the model has its classes, otherwise the class's position.
        """
        picture = io.BytesIO()
        prediction.picture().save(picture, "PNG")
        ids = np.array(self._ids(), "<u4")
        return {".label": ids[prediction.labels].tobytes(), "_points.png": picture.getvalue()}

    def _ids(self) -> Sequence[int]:
        """The number of each class in `.label` files."""
        from zoo.data.semantickitti import LABELS

        return LABELS.ids if self.classes.names == LABELS.classes.names else range(len(self.classes))

    def summary(self, prediction: Segmentation3D) -> dict[str, Any]:
        """Number of points, mean score, share of each class, and the class table with the ids in the `.label` file."""
        shares = self.shares(prediction)
        rows = [{**row, "label_id": id} for row, id in zip(shares["classes"], self._ids(), strict=True)]
        return {"number_of_points": len(prediction.labels), **shares, "classes": rows}

    def truth(self, frame: Frame) -> np.ndarray | None:
        """`(N,)` labels of the newest sweep of the frame's lidar."""
        (sweeps,) = frame.lidars.values()
        return sweeps[0].labels

    def agreement(self, expected: tuple[Outputs, Segmentation3D], found: tuple[Outputs, Segmentation3D]) -> Agreement:
        """Points with the same label, and the largest error of a logit."""
        return labels_agree(expected[1].labels, expected[0]["logits"], found[1].labels, found[0]["logits"], "logits")

    def pack(self, outputs: Outputs, prediction: Segmentation3D, like: Outputs) -> dict[str, np.ndarray]:
        """`labels` of every point, and the logits of every 8th one."""
        return {"labels": prediction.labels, "values": outputs["logits"][::_PROBE].astype(np.float32)}

    def agreement_with_packed(
        self, packed: Mapping[str, np.ndarray], found: tuple[Outputs, Segmentation3D]
    ) -> Agreement:
        """Like `agreement`, on every label and the stored logits."""
        return labels_agree(packed["labels"], packed["values"], found[1].labels, found[0]["logits"][::_PROBE], "logits")
