"""Image segmentation: mIoU, IoU per class, accuracies, calibration error and iIoU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from zoo.class_maps import class_map
from zoo.classes import ClassTable
from zoo.errors import InputError
from zoo.evaluate.metrics import Column, Figure
from zoo.evaluate.metrics.counts import (
    ECE_BINS,
    INSTANCE_CLASSES,
    Absent,
    Tally,
    calibration_error,
    class_iou,
    instance_iou,
    mean_accuracy,
    mean_iou,
    mean_of_known,
    pixel_accuracy,
    tally,
)
from zoo.frame import Frame
from zoo.prediction import Segmentation2D
from zoo.tasks import Task

__all__ = ["Segmentation2DMetric"]

_CHUNK_BYTES = 256 * 1024 * 1024  # memory for weighted sums


class Segmentation2DMetric:
    """Segmentation metrics in the classes of the ground truth.

    Args:
        task: Task of the model, for the classes of the predictions.
        classes: Class table of the ground truth. Predictions in other classes are mapped with `zoo.class_maps`.
        absent_classes: Treatment of absent classes in the data set's official script, see `counts.class_iou`.
        instances: Compute iIoU for frames with instance ids.

    Raises:
        InputError: If there is no class map from the model's classes to the ground truth's.
    """

    name: ClassVar[str] = "segmentation2d"
    headline: ClassVar[str] = "miou"
    scope: ClassVar[Literal["frame", "set"]] = "frame"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("miou", "mIoU", interval=True),
        Column("pixel_accuracy", "Pixel acc."),
        Column("mean_class_accuracy", "Class acc."),
        Column("ece", "ECE", higher_is_better=False),
        Column("iiou", "iIoU", interval=True, optional=True),
        Column("miou_valid_pixels", "mIoU, valid pixels", interval=True, optional=True),
    )
    groups: ClassVar[tuple[str, ...]] = ("iou",)
    protocol: ClassVar[Mapping[str, Any]] = {"ece_bins": ECE_BINS}
    rules: ClassVar[tuple[str, ...]] = ("absent_classes", "instances")

    def __init__(
        self, task: Task, classes: ClassTable, *, absent_classes: Absent = "skip", instances: bool = False
    ) -> None:
        if task.classes is None:
            raise InputError(f"models of the task {task.name} predict no classes, so mIoU is undefined")
        self._task, self._classes, self._absent, self._instances = task, classes, absent_classes, instances
        self._lookup = None if task.classes.names == classes.names else class_map(task.classes, classes)

    def has_truth(self, frame: Frame) -> bool:
        """Whether the frame's camera has labels."""
        return frame.camera.labels_source is not None

    def tally(self, frame: Frame, prediction: Segmentation2D) -> Tally:
        """Counts one frame.

        Raises:
            InputError: If the frame has no labels, sizes differ, or labels lie outside the classes.
        """
        labels = self._task.truth(frame)
        if labels is None:
            raise InputError(f"frame {frame.id} has no labels to compare with")
        try:
            return tally(
                labels,
                self._mapped(prediction),
                prediction.scores,
                len(self._classes),
                self._classes.ignore_index,
                frame.camera.instances if self._instances else None,
                frame.camera.invalid,
            )
        except InputError as error:
            raise InputError(f"frame {frame.id}: {error}") from error

    def _mapped(self, prediction: Segmentation2D) -> np.ndarray:
        """`(H, W)` uint8 predicted labels in the ground truth's classes; 255 where a class has no counterpart."""
        return prediction.labels if self._lookup is None else self._lookup[prediction.labels]

    def encode(self, tally: Tally) -> dict[str, Any]:
        """A tally as JSON values."""
        return {
            "classes": tally.matrix.shape[0],
            "matrix": tally.matrix.ravel().tolist(),
            "calibration": tally.calibration.ravel().tolist(),
            "instances": None if tally.instances is None else tally.instances.ravel().tolist(),
            "valid_matrix": None if tally.valid_matrix is None else tally.valid_matrix.ravel().tolist(),
        }

    def decode(self, values: Mapping[str, Any]) -> Tally:
        """Inverse of `encode`."""
        shape = (values["classes"], values["classes"] + 1)
        instances, valid = values["instances"], values["valid_matrix"]
        return Tally(
            matrix=np.array(values["matrix"], np.int64).reshape(shape),
            calibration=np.array(values["calibration"], np.float64).reshape(ECE_BINS, 3),
            instances=None if instances is None else np.array(instances, np.float64).reshape(-1, 2),
            valid_matrix=None if valid is None else np.array(valid, np.int64).reshape(shape),
        )

    def check(self, tallies: Sequence[Tally]) -> None:
        """Checks that at least one pixel is counted.

        Raises:
            InputError: If all pixels are ignored.
        """
        if not any(each.matrix.any() for each in tallies):
            raise InputError(
                f"all pixels of {len(tallies)} frames have the ignored label {self._classes.ignore_index}; check that "
                "these are the label maps of this split"
            )

    def figures(self, tallies: Sequence[Tally], weights: np.ndarray | None = None) -> dict[str, Figure]:
        """mIoU, accuracies, calibration error, IoU per class and, if counted, iIoU and the mIoU of valid pixels."""
        absent = self._absent
        matrices = np.stack([each.matrix for each in tallies])
        found = {
            "miou": _figure(lambda m: mean_iou(m, absent), weights, matrices),
            "pixel_accuracy": _figure(pixel_accuracy, weights, matrices),
            "mean_class_accuracy": _figure(lambda m: mean_accuracy(m, absent), weights, matrices),
            "ece": _figure(calibration_error, weights, np.stack([each.calibration for each in tallies])),
        }
        values, replicates = _over(lambda m: class_iou(m, absent), weights, matrices)
        for i, name in enumerate(self._classes.names):
            found[f"iou/{name}"] = Figure(float(values[i]), None if replicates is None else replicates[:, i])
        weighted = [each.instances for each in tallies if each.instances is not None]
        if len(weighted) == len(tallies):
            found |= self._instance_figures(weights, matrices, np.stack(weighted))
        if any(each.valid_matrix is not None for each in tallies):
            valid = np.stack([each.matrix if each.valid_matrix is None else each.valid_matrix for each in tallies])
            found["miou_valid_pixels"] = _figure(lambda m: mean_iou(m, absent), weights, valid)
        return found

    def _instance_figures(
        self, weights: np.ndarray | None, matrices: np.ndarray, weighted: np.ndarray
    ) -> dict[str, Figure]:
        values, replicates = _over(instance_iou, weights, matrices, weighted)
        means = None if replicates is None else mean_of_known(replicates)
        found = {"iiou": Figure(float(mean_of_known(values)), means)}
        for label, value in zip(INSTANCE_CLASSES, values, strict=True):
            found[f"iiou/{self._classes.names[label]}"] = Figure(float(value))
        return found

    def details(self, tallies: Sequence[Tally]) -> dict[str, Any]:
        """Number of counted pixels, in total and per true class, the confusion matrix and the confidence bins."""
        matrix = sum(each.matrix for each in tallies)
        assert isinstance(matrix, np.ndarray)
        calibration = np.stack([each.calibration for each in tallies]).sum(0)
        return {
            "pixels": int(matrix.sum()),
            "truth_pixels": dict(zip(self._classes.names, matrix.sum(1).tolist(), strict=True)),
            "confusion": matrix.tolist(),
            "reliability": calibration.tolist(),
        }

    def score(self, tally: Tally) -> float:
        """mIoU over the classes that occur in the frame or its prediction."""
        return float(mean_iou(tally.matrix, "skip"))

    def draw(self, frame: Frame, prediction: Segmentation2D) -> dict[str, str]:
        """Image, ground truth, prediction and errors."""
        from zoo.evaluate.pictures import frame_pictures  # Pillow is not needed for counting

        return frame_pictures(frame, self._mapped(prediction), self._classes)


def _over(
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


def _figure(figure: Callable[..., np.ndarray], weights: np.ndarray | None, *records: np.ndarray) -> Figure:
    value, replicates = _over(figure, weights, *records)
    return Figure(float(value), replicates)
