"""Segmentation metrics: counts per image, and figures computed from sums of counts.

`tally` counts one image. All other functions accept arrays with arbitrary leading axes (frames, jackknife replicates),
so a figure and its interval are computed with the same formula.

Sources: intersection over union and the instance-weighted iIoU follow the Cityscapes evaluation script; CamVid's mean
follows SegNet's test script; expected calibration error with 15 equal bins follows Guo et al., "On Calibration of
Modern Neural Networks" (2017), equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo.data.labels import LABEL_FROM_ID
from zoo.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

__all__ = [
    "ECE_BINS",
    "INSTANCE_CLASSES",
    "Absent",
    "Tally",
    "accuracy_of",
    "calibration_error",
    "class_iou",
    "count_pairs",
    "instance_iou",
    "mean_accuracy",
    "mean_iou",
    "mean_of_known",
    "pixel_accuracy",
    "tally",
]

ECE_BINS = 15
# Mean instance size in pixels of each class in the Cityscapes training set, from its evaluation script.
_MEAN_INSTANCE_PIXELS = {
    11: 3462.4756337644,  # person
    12: 3930.4788056518,  # rider
    13: 12794.0202738185,  # car
    14: 27855.1264367816,  # truck
    15: 35732.1511111111,  # bus
    16: 67583.7075812274,  # train
    17: 6298.7200839748,  # motorcycle
    18: 4672.3249222261,  # bicycle
}
INSTANCE_CLASSES = tuple(_MEAN_INSTANCE_PIXELS)
"""Labels of the Cityscapes classes with instances."""
Absent = Literal["skip", "zero"]


@dataclass(frozen=True)
class Tally:
    """Counts of one image.

    Attributes:
        matrix: `(C, C + 1)` int64 confusion matrix in pixels, truth by prediction. The last column counts predictions
            without a counterpart among the C classes. Ignored pixels are not counted.
        calibration: `(15, 3)` float64 per confidence bin: pixels, sum of confidences, number of correct pixels.
        instances: `(8, 2)` float64 instance-weighted hits and misses of `INSTANCE_CLASSES`; `None` without instances.
        valid_matrix: As `matrix`, without the pixels marked invalid; `None` without a mask.
    """

    matrix: Int[np.ndarray, "C C1"]
    calibration: Float[np.ndarray, "15 3"]
    instances: Float[np.ndarray, "8 2"] | None = None
    valid_matrix: Int[np.ndarray, "C C1"] | None = None


def tally(
    truth: UInt8[np.ndarray, "H W"],
    prediction: UInt8[np.ndarray, "H W"],
    scores: Float[np.ndarray, "H W"] | None,
    num_classes: int,
    ignore_index: int,
    instances: Int[np.ndarray, "H W"] | None = None,
    invalid: np.ndarray | None = None,
) -> Tally:
    """Counts one image.

    Args:
        truth: `(H, W)` uint8 labels.
        prediction: `(H, W)` uint8 labels in the same classes; 255 for no counterpart.
        scores: `(H, W)` float32 confidence of the prediction, 0 to 1; `None` skips the calibration.
        num_classes: Number of classes, C.
        ignore_index: Ground truth label to ignore.
        instances: `(H, W)` instance ids in the Cityscapes encoding (below 65,536), for instance weighting.
        invalid: `(H, W)` bool mask of pixels to exclude from a second count.

    Raises:
        InputError: If shapes differ, or truth or prediction contain a label outside the classes.
    """
    for name, array in (("prediction", prediction), ("scores", scores), ("instances", instances), ("invalid", invalid)):
        if array is not None and array.shape != truth.shape:
            raise InputError(f"{name} has shape {array.shape}, expected {truth.shape} as the labels")
    pairs = truth.astype(np.uint16) << 8 | prediction
    if instances is None:
        keys, lengths = _runs(pairs)
        weighted = None
    else:
        # In place after the first operation: copying arrays of this size costs more than the arithmetic.
        combined = np.left_shift(instances, 16, dtype=np.uint32, casting="unsafe")
        combined |= pairs
        keys, lengths = _runs(combined)
        weighted = _weighted_instances(keys >> 16, keys & 255, lengths)
    valid = None
    if invalid is not None:
        valid = count_pairs(np.where(invalid, np.uint8(ignore_index), truth), prediction, num_classes, ignore_index)
    return Tally(
        matrix=_pair_matrix(keys & 0xFFFF, lengths, num_classes, ignore_index),
        calibration=np.zeros((ECE_BINS, 3))
        if scores is None
        else _calibration_bins(truth, prediction, scores, ignore_index),
        instances=weighted,
        valid_matrix=valid,
    )


def count_pairs(
    truth: UInt8[np.ndarray, "H W"], prediction: UInt8[np.ndarray, "H W"], num_classes: int, ignore_index: int
) -> Int[np.ndarray, "C C1"]:
    """`(C, C + 1)` int64 confusion matrix, truth by prediction; the last column counts prediction 255.

    Raises:
        InputError: If a label is outside the classes, other than the ignore index in the truth and 255 in the
            prediction.
    """
    keys, lengths = _runs(truth.astype(np.uint16) << 8 | prediction)
    return _pair_matrix(keys, lengths, num_classes, ignore_index)


def _runs(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run-length encoding: label maps have large flat regions, so only about a fiftieth remains to be counted."""
    values = image.ravel()
    if not values.size:  # a distance band without points
        return values, np.zeros(0, np.int64)
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
    return values[ends], np.diff(ends, prepend=-1)


def _pair_matrix(keys: np.ndarray, lengths: np.ndarray, num_classes: int, ignore_index: int) -> Int[np.ndarray, "C C1"]:
    table = np.bincount(keys, weights=lengths, minlength=256 * 256).astype(np.int64).reshape(256, 256)
    present = np.flatnonzero(table.any(1))
    if outside := [int(i) for i in present if i >= num_classes and i != ignore_index]:
        raise InputError(f"the ground truth contains labels {outside[:8]}; expected 0 to {num_classes - 1}")
    counted = table[:num_classes]
    if counted[:, num_classes:255].any():
        outside = [num_classes + int(i) for i in np.flatnonzero(counted[:, num_classes:255].any(0))]
        raise InputError(f"the prediction contains labels {outside[:8]}; expected 0 to {num_classes - 1}")
    return np.concatenate([counted[:, :num_classes], counted[:, 255:]], axis=1)


def _calibration_bins(
    truth: np.ndarray, prediction: np.ndarray, scores: np.ndarray, ignore_index: int
) -> Float[np.ndarray, "15 3"]:
    confidence = scores.astype(np.float32, copy=False).ravel()
    # Counted from the top, so that every bin includes its upper edge; the lowest bin also includes 0.
    bins = ((np.float32(1) - confidence) * np.float32(ECE_BINS)).astype(np.uint8)
    np.minimum(bins, np.uint8(ECE_BINS - 1), out=bins)
    keys = bins * np.uint8(2) + (truth == prediction).ravel()
    keys[(truth == ignore_index).ravel()] = 2 * ECE_BINS
    counts = np.bincount(keys, minlength=2 * ECE_BINS + 1)[: 2 * ECE_BINS].reshape(ECE_BINS, 2)
    sums = np.bincount(keys, weights=confidence, minlength=2 * ECE_BINS + 1)[: 2 * ECE_BINS].reshape(ECE_BINS, 2)
    return np.stack([counts.sum(1), sums.sum(1), counts[:, 1]], axis=1)[::-1].astype(np.float64)


def _weighted_instances(ids: np.ndarray, predicted: np.ndarray, lengths: np.ndarray) -> Float[np.ndarray, "8 2"]:
    labels = LABEL_FROM_ID[np.minimum(ids // 1000, 255)]  # 255 for plain class ids and group regions
    ids, lengths, right = ids[labels != 255], lengths[labels != 255], (predicted == labels)[labels != 255]
    sizes = np.bincount(ids, weights=lengths)
    hits = np.bincount(ids, weights=lengths * right)
    present = np.flatnonzero(sizes)
    labels, sizes, hits = LABEL_FROM_ID[present // 1000], sizes[present], hits[present]
    weighted = np.zeros((len(INSTANCE_CLASSES), 2))
    for row, (label, mean_pixels) in enumerate(_MEAN_INSTANCE_PIXELS.items()):
        of_class = labels == label
        weight = mean_pixels / sizes[of_class]
        weighted[row] = (hits[of_class] * weight).sum(), ((sizes - hits)[of_class] * weight).sum()
    return weighted


def class_iou(matrix: Float[np.ndarray, "... C C1"], absent: Absent) -> Float[np.ndarray, "... C"]:
    """`(..., C)` intersection over union of every class.

    Args:
        matrix: `(..., C, C + 1)` counts.
        absent: `skip`: NaN for a class that occurs in neither truth nor prediction. `zero`: 0 for a class that does not
            occur in the truth.
    """
    hits, truth, predicted = _hits_and_sums(matrix)
    union = truth + predicted - hits
    iou = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
    return np.where(truth > 0, iou, 0.0) if absent == "zero" else iou


def mean_iou(matrix: Float[np.ndarray, "... C C1"], absent: Absent) -> Float[np.ndarray, "..."]:
    """Mean of `class_iou` over the classes where it is defined (`skip`), or over all classes (`zero`)."""
    return mean_of_known(class_iou(matrix, absent))


def pixel_accuracy(matrix: Float[np.ndarray, "... C C1"]) -> Float[np.ndarray, "..."]:
    """Share of correct pixels; NaN if no pixels are counted."""
    hits, truth, _ = _hits_and_sums(matrix)
    return _ratio(hits.sum(-1), truth.sum(-1))


def accuracy_of(matrix: Float[np.ndarray, "... C C1"], absent: Absent) -> Float[np.ndarray, "... C"]:
    """`(..., C)` share of correct pixels of every class; NaN or 0 for a class that does not occur in the truth."""
    hits, truth, _ = _hits_and_sums(matrix)
    accuracy = _ratio(hits, truth)
    return np.where(truth > 0, accuracy, 0.0) if absent == "zero" else accuracy


def mean_accuracy(matrix: Float[np.ndarray, "... C C1"], absent: Absent) -> Float[np.ndarray, "..."]:
    """Mean of `accuracy_of`."""
    return mean_of_known(accuracy_of(matrix, absent))


def instance_iou(
    matrix: Float[np.ndarray, "... C C1"], instances: Float[np.ndarray, "... 8 2"]
) -> Float[np.ndarray, "... 8"]:
    """`(..., 8)` iIoU of `INSTANCE_CLASSES`: weighted hits / (weighted hits + false pixels + weighted misses)."""
    hits, _, predicted = _hits_and_sums(matrix)
    false = (predicted - hits)[..., list(INSTANCE_CLASSES)]
    return _ratio(instances[..., 0], instances.sum(-1) + false)


def calibration_error(calibration: Float[np.ndarray, "... 15 3"]) -> Float[np.ndarray, "..."]:
    """Expected calibration error: mean of |accuracy - confidence| over the bins, weighted by their pixels."""
    count, confidence, right = np.moveaxis(calibration, -1, 0)
    return _ratio(np.abs(right - confidence).sum(-1), count.sum(-1))


def _hits_and_sums(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(..., C)` float64 hits, truth pixels and predicted pixels of every class."""
    classes = matrix.shape[-2]
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return hits.astype(np.float64), matrix.sum(-1).astype(np.float64), matrix[..., :classes].sum(-2).astype(np.float64)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def mean_of_known(values: Float[np.ndarray, "... C"]) -> Float[np.ndarray, "..."]:
    """Mean over the last axis, ignoring NaN; NaN if there are no other values."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1))
