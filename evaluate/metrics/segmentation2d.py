"""Image segmentation: mIoU, IoU per class, accuracies, calibration error and iIoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from zoo.errors import InputError
from zoo.evaluate.metrics import Column, Figure
from zoo.evaluate.metrics.counts import (
    ECE_BINS,
    INSTANCE_CLASSES,
    Tally,
    instance_iou,
    mean_iou,
    mean_of_known,
    tally,
)
from zoo.evaluate.metrics.segmentation import MIOU, SegmentationMetric, figure_of, over
from zoo.frame import Frame
from zoo.prediction import Segmentation2D

__all__ = ["Segmentation2DMetric"]


class Segmentation2DMetric(SegmentationMetric):
    """Segmentation metrics of images. `instances` adds iIoU for frames with instance ids."""

    name: ClassVar[str] = "segmentation2d"
    elements: ClassVar[str] = "pixels"
    accuracy: ClassVar[str] = "pixel_accuracy"
    columns: ClassVar[tuple[Column, ...]] = (
        MIOU,
        Column("pixel_accuracy", "Pixel acc."),
        Column("mean_class_accuracy", "Class acc."),
        Column("ece", "ECE", higher_is_better=False),
        Column("iiou", "iIoU", interval=True, optional=True),
        Column("miou_valid_pixels", "mIoU, valid pixels", interval=True, optional=True),
    )

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
                self.mapped(prediction.labels),
                prediction.scores,
                len(self._classes),
                self._classes.ignore_index,
                frame.camera.instances if self._instances else None,
                frame.camera.invalid,
            )
        except InputError as error:
            raise InputError(f"frame {frame.id}: {error}") from error

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

    def figures(self, tallies: Sequence[Tally], weights: np.ndarray | None = None) -> dict[str, Figure]:
        """The shared figures and, if counted, iIoU and the mIoU of valid pixels."""
        found = super().figures(tallies, weights)
        matrices = np.stack([each.matrix for each in tallies])
        weighted = [each.instances for each in tallies if each.instances is not None]
        if len(weighted) == len(tallies):
            found |= self._instance_figures(weights, matrices, np.stack(weighted))
        if any(each.valid_matrix is not None for each in tallies):
            valid = np.stack([each.matrix if each.valid_matrix is None else each.valid_matrix for each in tallies])
            found["miou_valid_pixels"] = figure_of(lambda m: mean_iou(m, self._absent), weights, valid)
        return found

    def _instance_figures(
        self, weights: np.ndarray | None, matrices: np.ndarray, weighted: np.ndarray
    ) -> dict[str, Figure]:
        values, replicates = over(instance_iou, weights, matrices, weighted)
        means = None if replicates is None else mean_of_known(replicates)
        found = {"iiou": Figure(float(mean_of_known(values)), means)}
        for label, value in zip(INSTANCE_CLASSES, values, strict=True):
            found[f"iiou/{self._classes.names[label]}"] = Figure(float(value))
        return found

    def draw(self, frame: Frame, prediction: Segmentation2D) -> dict[str, str]:
        """Image, ground truth, prediction and errors."""
        from zoo.evaluate.pictures import frame_pictures  # Pillow is not needed for counting

        return frame_pictures(frame, self.mapped(prediction.labels), self._classes)
