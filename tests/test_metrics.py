"""Counts and formulas against hand-worked tables."""

import numpy as np
import pytest
from tolerances import assert_close

from zoo.errors import InputError
from zoo.evaluate.metrics.counts import (
    ECE_BINS,
    accuracy_of,
    calibration_error,
    class_iou,
    count_pairs,
    instance_iou,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
    tally,
)

A = np.array


def naive_counts(truth, prediction, classes):
    table = np.zeros((classes, classes + 1), int)
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if t < classes:
            table[t, p if p < classes else classes] += 1
    return table


@pytest.mark.parametrize("noise", [0.02, 1.0])  # long runs and runs of one pixel
def test_counts_equal_a_loop_over_pixels(noise):
    rng = np.random.default_rng(3)
    truth = np.kron(rng.integers(0, 6, (6, 9)), np.ones((8, 8), int)).astype(np.uint8)
    truth[truth == 5] = 255
    prediction = truth.copy()
    wrong = (rng.random(truth.shape) < noise) | (truth == 255)
    prediction[wrong] = rng.choice([0, 1, 2, 3, 4, 255], wrong.sum())
    assert (count_pairs(truth, prediction, 5, 255) == naive_counts(truth, prediction, 5)).all()


def test_iou_by_hand():
    # truth     0 0 0 1 | ignored        class 0: hits 2, truth 3, predicted 3 (an ignored pixel never counts) -> 2/4
    # predicted 0 0 1 0 | 0              class 1: hits 0, truth 1, predicted 1 -> 0/2
    #                                    class 2: nowhere -> no value
    matrix = count_pairs(A([[0, 0, 0, 1, 255]], np.uint8), A([[0, 0, 1, 0, 0]], np.uint8), 3, 255)
    assert class_iou(matrix, "skip").tolist()[:2] == [0.5, 0.0]
    assert np.isnan(class_iou(matrix, "skip")[2])
    assert mean_iou(matrix, "skip") == 0.25  # (1/2 + 0) / 2
    assert mean_iou(matrix, "zero") == pytest.approx(0.5 / 3)
    assert pixel_accuracy(matrix) == 0.5
    assert mean_accuracy(matrix, "skip") == pytest.approx((2 / 3 + 0) / 2)
    assert mean_accuracy(matrix, "zero") == pytest.approx((2 / 3 + 0) / 3)
    assert np.isnan(accuracy_of(matrix, "skip")[2])


def test_a_class_that_is_only_predicted_scores_zero_in_both_conventions():
    # class 1 is predicted on one pixel of class 0 and occurs nowhere: IoU 0/1
    matrix = count_pairs(A([[0, 0]], np.uint8), A([[0, 1]], np.uint8), 2, 255)
    assert class_iou(matrix, "skip").tolist() == [0.5, 0.0]
    assert class_iou(matrix, "zero").tolist() == [0.5, 0.0]


def test_a_prediction_without_counterpart_is_a_miss_and_no_false_hit():
    # truth 0 0 1; predicted 0 none 1: class 0: 1 / (2 + 1 - 1) = 1/2, class 1: 1
    matrix = count_pairs(A([[0, 0, 1]], np.uint8), A([[0, 255, 1]], np.uint8), 2, 255)
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert class_iou(matrix, "skip").tolist() == [0.5, 1.0]


def test_nothing_counted_gives_no_figures():
    matrix = count_pairs(A([[255]], np.uint8), A([[0]], np.uint8), 2, 255)
    assert np.isnan(mean_iou(matrix, "skip"))
    assert np.isnan(pixel_accuracy(matrix))
    assert mean_iou(matrix, "zero") == 0


@pytest.mark.parametrize(("truth", "prediction", "message"), [(7, 0, "truth contains"), (0, 7, "prediction contains")])
def test_labels_outside_the_classes_are_refused(truth, prediction, message):
    with pytest.raises(InputError, match=message + r".*\[7\].*0 to 2"):
        count_pairs(A([[truth]], np.uint8), A([[prediction]], np.uint8), 3, 255)


def test_camvid_ignore_index_is_the_class_after_the_last():
    matrix = count_pairs(A([[11, 3]], np.uint8), A([[3, 3]], np.uint8), 11, 11)
    assert matrix.sum() == 1
    assert matrix[3, 3] == 1


def test_shapes_must_agree():
    small, large = np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)
    with pytest.raises(InputError, match=r"prediction has shape \(2, 3\), expected \(2, 2\)"):
        tally(small, large, None, 2, 255)


def test_instances_weigh_by_their_size():
    # Cars (label 13, id 26): one of 4 pixels, 3 hit; one of 2 pixels, 1 hit; a group of 3 pixels (plain id), all hit.
    # Two pixels of road are called car: FP = 2. With w = mean size a of a car over the instance's size:
    # iTP = a (3/4 + 1/2), iFN = a (1/4 + 1/2), iIoU = 1.25 a / (2 a + 2). Caravans (29) are ignored.
    a = 12794.0202738185
    instances = A([[26000] * 4 + [26001] * 2 + [26] * 3 + [7] * 3 + [29000]])
    truth = A([[13] * 9 + [0] * 3 + [255]], np.uint8)
    prediction = A([[13, 13, 13, 0, 13, 0, 13, 13, 13, 13, 13, 0, 13]], np.uint8)
    record = tally(truth, prediction, None, 19, 255, instances)
    weighted = instance_iou(record.matrix, record.instances)
    assert_close(weighted[2], 1.25 * a / (2 * a + 2))
    assert np.isnan(np.delete(weighted, 2)).all()


def test_the_number_of_an_instance_does_not_change_its_class():
    instances = A([[24999, 33000, 24000, 24000]])  # person 999, bicycle 0, person 0 of two pixels
    truth = A([[11, 18, 11, 11]], np.uint8)
    record = tally(truth, truth, None, 19, 255, instances)
    persons, bicycles = 3462.4756337644, 4672.3249222261
    assert record.instances[0].tolist() == pytest.approx([2 * persons, 0])
    assert record.instances[7].tolist() == pytest.approx([bicycles, 0])


def test_calibration_by_hand():
    # confidence 0.9 four times, three right: |3 - 3.6| = 0.6; 0.5 twice, none right: |0 - 1| = 1; 1.0 once, right: 0.
    # ECE = 1.6 / 7. The ignored pixel (label 255) does not count.
    truth = A([[0, 0, 0, 0, 0, 0, 0, 255]], np.uint8)
    prediction = A([[0, 0, 0, 1, 1, 1, 0, 0]], np.uint8)
    scores = A([[0.9, 0.9, 0.9, 0.9, 0.5, 0.5, 1.0, 0.1]], np.float32)
    bins = tally(truth, prediction, scores, 2, 255).calibration
    assert_close(calibration_error(bins), 1.6 / 7, dtype="float32")
    assert bins[:, 0].tolist() == [0] * 7 + [2] + [0] * 5 + [4, 1]  # 0.5 in (7/15, 8/15], 0.9 in (13/15, 14/15]


def test_calibration_equals_a_loop_over_pixels():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, (40, 50)).astype(np.uint8)
    truth[truth == 3] = 255
    prediction = rng.integers(0, 3, truth.shape).astype(np.uint8)
    scores = rng.random(truth.shape).astype(np.float32)
    expected = np.zeros((ECE_BINS, 3))
    for t, p, s in zip(truth.ravel(), prediction.ravel(), scores.ravel().tolist(), strict=True):
        if t != 255:
            expected[min(ECE_BINS - 1, int(np.ceil(s * ECE_BINS)) - 1)] += 1, s, t == p
    assert_close(tally(truth, prediction, scores, 3, 255).calibration, expected)


def test_invalid_pixels_keep_their_label_and_are_left_out_of_the_second_count_only():
    truth, prediction = A([[0, 1]], np.uint8), A([[0, 0]], np.uint8)
    record = tally(truth, prediction, None, 2, 255, invalid=A([[False, True]]))
    assert record.matrix.tolist() == [[1, 0, 0], [1, 0, 0]]
    assert record.valid_matrix.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_formulas_take_leading_axes():
    matrices = np.random.default_rng(0).integers(0, 9, (4, 3, 2, 3))
    values = mean_iou(matrices, "skip")
    assert values.shape == (4, 3)
    assert values[2, 1] == mean_iou(matrices[2, 1], "skip")
