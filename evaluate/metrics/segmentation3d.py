"""Segmentation of sweeps: mIoU, IoU per class, accuracies, calibration error, mIoU by distance, panoptic quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.classes import THINGS
from zoo.errors import InputError
from zoo.evaluate.metrics import Column, Figure
from zoo.evaluate.metrics.counts import ECE_BINS, Tally, class_iou, count_pairs, mean_iou, mean_of_known, tally
from zoo.evaluate.metrics.panoptic import MIN_POINTS, count_segments, panoptic_quality
from zoo.evaluate.metrics.segmentation import MIOU, SegmentationMetric, figure_of, over
from zoo.frame import Frame, Sweep
from zoo.geometry.clusters import clusters
from zoo.prediction import Segmentation3D

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["BANDS_M", "PointTally", "Segmentation3DMetric"]

BANDS_M = (10.0, 20.0, 30.0, 50.0)
"""Limits of the distance bands, seen from above."""
_BAND_NAMES = ("0-10 m", "10-20 m", "20-30 m", "30-50 m", "50 m and more")


@dataclass(frozen=True)
class PointTally(Tally):
    """Counts of one sweep.

    Attributes:
        bands: `(5, C, C + 1)` int64 confusion matrix of each distance band.
        segments: `(C, 4)` of `panoptic.count_segments`; `None` without instances.
    """

    bands: Int[np.ndarray, "5 C C1"] | None = None
    segments: Float[np.ndarray, "C 4"] | None = None


class Segmentation3DMetric(SegmentationMetric):
    """Segmentation metrics of sweeps.

    A model that predicts classes only is given instances for the panoptic quality: the connected components of the
    points of each class with instances, in cells of half a metre seen from above.
    """

    name: ClassVar[str] = "segmentation3d"
    elements: ClassVar[str] = "points"
    accuracy: ClassVar[str] = "point_accuracy"
    groups: ClassVar[tuple[str, ...]] = ("iou", "miou_at")
    protocol: ClassVar[Mapping[str, Any]] = {
        "ece_bins": ECE_BINS,
        "bands_m": list(BANDS_M),
        "panoptic": {"min_points": MIN_POINTS, "instances": "connected components, cells of 0.5 m from above"},
    }
    columns: ClassVar[tuple[Column, ...]] = (
        MIOU,
        Column("miou_occurring", "mIoU, classes that occur", interval=True),
        Column("point_accuracy", "Point acc."),
        Column("mean_class_accuracy", "Class acc."),
        Column("ece", "ECE", higher_is_better=False),
        Column("pq", "PQ, clustered", interval=True, optional=True),
    )

    def has_truth(self, frame: Frame) -> bool:
        """Whether the newest sweep of the frame's lidar has labels."""
        return bool(frame.lidars) and _sweep(frame).labels_source is not None

    def tally(self, frame: Frame, prediction: Segmentation3D) -> PointTally:
        """Counts one sweep.

        Raises:
            InputError: If it has no labels, their number is not that of the predictions, or labels lie outside the
                classes.
        """
        sweep, labels = _sweep(frame), self._task.truth(frame)
        if labels is None:
            raise InputError(f"frame {frame.id} has no labels to compare with")
        found, count, ignored = self.mapped(prediction.labels), len(self._classes), self._classes.ignore_index
        try:
            counts = tally(labels, found, prediction.scores, count, ignored)
        except InputError as error:
            raise InputError(f"frame {frame.id}: {error}") from error
        up = "xyz".index(prediction.axes[2][1])
        level = np.delete(prediction.points[:, :3], up, axis=1)
        band = np.searchsorted(BANDS_M, np.hypot(level[:, 0], level[:, 1]), side="right")
        bands = [count_pairs(labels[band == i], found[band == i], count, ignored) for i in range(len(_BAND_NAMES))]
        segments = None
        if self._instances and (instances := sweep.instances) is not None:
            segments = self._segments(labels, instances, found, level)
        return PointTally(counts.matrix, np.asarray(counts.calibration), bands=np.stack(bands), segments=segments)

    def _segments(self, labels: np.ndarray, instances: np.ndarray, found: np.ndarray, level: np.ndarray) -> np.ndarray:
        things = self._things()
        of_found = np.zeros(len(found), np.int64)
        for label in np.flatnonzero(things):
            points = np.flatnonzero(found == label)
            of_found[points] = clusters(level[points])
        is_thing = np.zeros(256, bool)
        is_thing[: len(things)] = things
        return count_segments(labels, np.where(is_thing[labels], instances, 0), found, of_found, len(self._classes))

    def _things(self) -> np.ndarray:
        names = THINGS.get(self._classes.taxonomy, ())
        return np.array([name in names for name in self._classes.names])

    def encode(self, tally: PointTally) -> dict[str, Any]:
        """A tally as JSON values."""
        assert tally.bands is not None
        return {
            "classes": tally.matrix.shape[0],
            "calibration": tally.calibration.ravel().tolist(),
            "bands": tally.bands.ravel().tolist(),  # their sum is the matrix
            "segments": None if tally.segments is None else tally.segments.ravel().tolist(),
        }

    def decode(self, values: Mapping[str, Any]) -> PointTally:
        """Inverse of `encode`."""
        classes, segments = values["classes"], values["segments"]
        bands = np.array(values["bands"], np.int64).reshape(len(_BAND_NAMES), classes, classes + 1)
        return PointTally(
            matrix=bands.sum(0),
            calibration=np.array(values["calibration"], np.float64).reshape(ECE_BINS, 3),
            bands=bands,
            segments=None if segments is None else np.array(segments, np.float64).reshape(classes, 4),
        )

    def figures(self, tallies: Sequence[PointTally], weights: np.ndarray | None = None) -> dict[str, Figure]:
        """The shared figures, mIoU over the classes that occur and by distance, and panoptic quality if counted.

        A band's mIoU is over the classes that occur in it, in the ground truth or the prediction.
        """
        found = super().figures(tallies, weights)
        matrices = np.stack([each.matrix for each in tallies])
        found["miou_occurring"] = figure_of(lambda m: mean_of_known(_occurring(m)), weights, matrices)
        bands = np.stack([each.bands for each in tallies if each.bands is not None])
        for i, name in enumerate(_BAND_NAMES):
            found[f"miou_at/{name}"] = figure_of(lambda m: mean_iou(m, "skip"), weights, bands[:, i])
        counted = [each.segments for each in tallies if each.segments is not None]
        if len(counted) == len(tallies):
            values, replicates = over(lambda s: panoptic_quality(s, self._absent), weights, np.stack(counted))
            means = None if replicates is None else mean_of_known(replicates)
            found["pq"] = Figure(float(mean_of_known(values)), means)
            for name, value in zip(self._classes.names, values, strict=True):
                found[f"pq/{name}"] = Figure(float(value))
        return found

    def draw(self, frame: Frame, prediction: Segmentation3D) -> dict[str, str]:
        """Ground truth, prediction and errors from above."""
        from zoo.evaluate.pictures import sweep_pictures

        truth = self._task.truth(frame)
        assert truth is not None
        return sweep_pictures(prediction, truth, self.mapped(prediction.labels), self._classes)


def _occurring(matrix: np.ndarray) -> np.ndarray:
    """IoU of the classes that occur in the ground truth; NaN for the others."""
    return np.where(matrix.sum(-1) > 0, class_iou(matrix, "skip"), np.nan)


def _sweep(frame: Frame) -> Sweep:
    """The newest sweep of a frame that has exactly one lidar."""
    if len(frame.lidars) != 1:
        names = ", ".join(frame.lidars) or "none"
        raise InputError(f"frame {frame.id} has {len(frame.lidars)} lidars ({names}); models of sweeps need one")
    ((sweep, *_),) = frame.lidars.values()
    return sweep
