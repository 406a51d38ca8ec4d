"""Panoptic quality of points, as SemanticKITTI and nuScenes compute it.

Sources: Kirillov et al., "Panoptic Segmentation" (2019), equation 1; Behley et al., "A Benchmark for LiDAR-based
Panoptic Segmentation" (2021), section 3, with their script's rule that unmatched segments of fewer than 50 points are
neither misses nor false alarms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.evaluate.metrics.counts import Absent

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

__all__ = ["MIN_POINTS", "count_segments", "panoptic_quality"]

MIN_POINTS = 50


def count_segments(
    truth: Shaped[np.ndarray, " N"],
    truth_instances: Shaped[np.ndarray, " N"],
    predicted: Shaped[np.ndarray, " N"],
    predicted_instances: Shaped[np.ndarray, " N"],
    num_classes: int,
    min_points: int = MIN_POINTS,
) -> Float[np.ndarray, "C 4"]:
    """`(C, 4)` per class: sum of the IoUs of matched segments, number of matches, of false alarms, of misses.

    A segment is a pair of class and instance. Two segments of one class match if their IoU exceeds one half, so that no
    segment has two matches.

    Args:
        truth: `(N,)` labels; points whose label is not a class are left out.
        truth_instances: `(N,)` numbers, the same for all points of a class without instances.
        predicted: `(N,)` labels.
        predicted_instances: `(N,)` numbers.
        num_classes: Number of classes.
        min_points: Fewest points of an unmatched segment that counts.
    """
    counted = truth < num_classes
    true_id = _segments(truth[counted], truth_instances[counted])
    found_id = _segments(predicted[counted], predicted_instances[counted])
    true_segments, true_at, true_sizes = np.unique(true_id, return_inverse=True, return_counts=True)
    found_segments, found_at, found_sizes = np.unique(found_id, return_inverse=True, return_counts=True)
    pairs, shared = np.unique(true_at * len(found_segments) + found_at, return_counts=True)
    of_true, of_found = pairs // max(len(found_segments), 1), pairs % max(len(found_segments), 1)
    true_class, found_class = true_segments >> 32, found_segments >> 32
    iou = shared / (true_sizes[of_true] + found_sizes[of_found] - shared)
    match = (true_class[of_true] == found_class[of_found]) & (iou > 0.5)
    table = np.zeros((num_classes, 4))
    np.add.at(table[:, 0], true_class[of_true[match]], iou[match])
    np.add.at(table[:, 1], true_class[of_true[match]], 1)
    alone = np.setdiff1d(np.flatnonzero(found_sizes >= min_points), of_found[match])
    alone = alone[found_class[alone] < num_classes]
    np.add.at(table[:, 2], found_class[alone], 1)
    missed = np.setdiff1d(np.flatnonzero(true_sizes >= min_points), of_true[match])
    np.add.at(table[:, 3], true_class[missed], 1)
    return table


def _segments(labels: np.ndarray, instances: np.ndarray) -> np.ndarray:
    return labels.astype(np.int64) << 32 | instances.astype(np.int64)


def panoptic_quality(table: Float[np.ndarray, "... C 4"], absent: Absent = "skip") -> Float[np.ndarray, "... C"]:
    """PQ of every class from sums of `count_segments`.

    Args:
        table: `(..., C, 4)`.
        absent: PQ of a class without any segment: `skip`: NaN; `zero`: 0, as in SemanticKITTI's script.
    """
    iou, matches, alarms, misses = np.moveaxis(np.asarray(table, np.float64), -1, 0)
    total = matches + 0.5 * alarms + 0.5 * misses
    return np.divide(iou, total, out=np.full(iou.shape, 0.0 if absent == "zero" else np.nan), where=total > 0)
