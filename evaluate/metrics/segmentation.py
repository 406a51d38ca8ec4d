"""What segmentation metrics of images and of sweeps share: mIoU, IoU per class, accuracies, calibration error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from zoo.class_maps import class_map, class_map_name
from zoo.classes import ClassTable
from zoo.errors import InputError
from zoo.evaluate.metrics import Column, Figure
from zoo.evaluate.metrics.counts import (
    ECE_BINS,
    Absent,
    Tally,
    calibration_error,
    class_iou,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
)
from zoo.tasks import Task

__all__ = ["MIOU", "SegmentationMetric", "figure_of", "over"]

_CHUNK_BYTES = 256 * 1024 * 1024  # memory for weighted sums
MIOU = Column("miou", "mIoU", interval=True)


class SegmentationMetric:
    """Segmentation metrics in the classes of the ground truth, over elements of any kind.

    Args:
        task: Task of the model, for the classes of the predictions.
        classes: Class table of the ground truth. Predictions in other classes are mapped with `zoo.class_maps`.
        absent_classes: Treatment of absent classes in the data set's official script, see `counts.class_iou`.
        instances: Whether the data set's official metrics include one over instances.

    Raises:
        InputError: If there is no class map from the model's classes to the ground truth's.
    """

    name: ClassVar[str]
    elements: ClassVar[str]
    """What is counted, in the plural: `pixels`."""
    accuracy: ClassVar[str]
    """Key of the share of correct elements."""
    headline: ClassVar[str] = "miou"
    scope: ClassVar[Literal["frame", "set"]] = "frame"
    groups: ClassVar[tuple[str, ...]] = ("iou",)
    protocol: ClassVar[Mapping[str, Any]] = {"ece_bins": ECE_BINS}
    rules: ClassVar[tuple[str, ...]] = ("absent_classes", "instances")

    def __init__(
        self, task: Task, classes: ClassTable, *, absent_classes: Absent = "skip", instances: bool = False
    ) -> None:
        if task.classes is None:
            raise InputError(f"models of the task {task.name} predict no classes, so mIoU is undefined")
        self._task, self._classes, self._absent, self._instances = task, classes, absent_classes, instances
        same = class_map_name(task.classes, classes) is None
        self._lookup = None if same else class_map(task.classes, classes)

    def mapped(self, labels: np.ndarray) -> np.ndarray:
        """Predicted labels in the ground truth's classes, uint8; 255 where a class has no counterpart."""
        return labels if self._lookup is None else self._lookup[labels]

    def check(self, tallies: Sequence[Tally]) -> None:
        """Checks that at least one element is counted.

        Raises:
            InputError: If all are ignored.
        """
        if not any(each.matrix.any() for each in tallies):
            raise InputError(
                f"all {self.elements} of {len(tallies)} frames have the ignored label {self._classes.ignore_index}; "
                "check that these are the labels of this split"
            )

    def figures(self, tallies: Sequence[Any], weights: np.ndarray | None = None) -> dict[str, Figure]:
        """mIoU, accuracies, calibration error and IoU per class."""
        absent = self._absent
        matrices = np.stack([each.matrix for each in tallies])
        found = {
            "miou": figure_of(lambda m: mean_iou(m, absent), weights, matrices),
            self.accuracy: figure_of(pixel_accuracy, weights, matrices),
            "mean_class_accuracy": figure_of(lambda m: mean_accuracy(m, absent), weights, matrices),
            "ece": figure_of(calibration_error, weights, np.stack([each.calibration for each in tallies])),
        }
        values, replicates = over(lambda m: class_iou(m, absent), weights, matrices)
        for i, name in enumerate(self._classes.names):
            found[f"iou/{name}"] = Figure(float(values[i]), None if replicates is None else replicates[:, i])
        return found

    def details(self, tallies: Sequence[Any]) -> dict[str, Any]:
        """Number of counted elements, in total and per true class, the confusion matrix and the confidence bins."""
        matrix = sum(each.matrix for each in tallies)
        assert isinstance(matrix, np.ndarray)
        calibration = np.stack([each.calibration for each in tallies]).sum(0)
        return {
            "elements": self.elements,
            "counted": int(matrix.sum()),
            "truth": dict(zip(self._classes.names, matrix.sum(1).tolist(), strict=True)),
            "confusion": matrix.tolist(),
            "reliability": calibration.tolist(),
        }

    def score(self, tally: Any) -> float:
        """mIoU over the classes that occur in the frame or its prediction."""
        return float(mean_iou(tally.matrix, "skip"))


def over(
    figure: Callable[..., np.ndarray], weights: np.ndarray | None, *records: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """A figure of the summed records and, computed in chunks, of their sum under each row of weights."""
    value = figure(*(record.sum(0) for record in records))
    if weights is None:
        return value, None
    flat = [record.reshape(len(record), -1).astype(np.float64) for record in records]
    rows = max(1, _CHUNK_BYTES // sum(8 * each.shape[1] for each in flat))
    chunks = [
        figure(*((part @ each).reshape(-1, *record.shape[1:]) for each, record in zip(flat, records, strict=True)))
        for part in (weights[first : first + rows] for first in range(0, len(weights), rows))
    ]
    return value, np.concatenate(chunks)


def figure_of(figure: Callable[..., np.ndarray], weights: np.ndarray | None, *records: np.ndarray) -> Figure:
    """`over` as a `Figure`."""
    value, replicates = over(figure, weights, *records)
    return Figure(float(value), replicates)
