"""Preprocessing, whole-image and sliding-window inference, and the way back to the image's size, by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from tolerances import assert_close

from zoo.engines import EngineSpec, TensorSpec
from zoo.errors import InputError
from zoo.inputs.image import ImageContext, ImageInput, image_tensor
from zoo.inputs.preprocessing import Preprocessing
from zoo.inputs.windows import InferenceMode, run_windows, window_starts
from zoo.tasks.segmentation2d import labels_and_scores


def test_constant_normalisation_by_hand() -> None:
    preprocessing = Preprocessing(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    image = np.array([[[255, 0, 51]]], np.uint8)
    # (1 - 0.5) / 0.5 = 1; (0 - 0.25) / 0.25 = -1; (0.2 - 0) / 2 = 0.1
    assert_close(preprocessing.normalise(image).ravel(), [1, -1, 0.1])


def test_image_normalisation_cancels_gain_offset_and_cast() -> None:
    preprocessing = Preprocessing(normalisation="image")
    image = np.random.default_rng(0).integers(0, 100, (20, 30, 3))
    changed = image * np.array([2, 1, 1]) + np.array([10, 0, 50])
    one, other = (preprocessing.normalise(values.astype(np.uint8)) for values in (image, changed))
    assert_close(one, other)
    assert_close(one.mean(axis=(1, 2)), 0)
    assert_close(one.std(axis=(1, 2)), 1)


def test_an_even_image_is_not_blown_up() -> None:
    array = Preprocessing(normalisation="image").normalise(np.full((5, 5, 3), 128, np.uint8))
    assert np.abs(array).max() < 1e-4


def test_an_almost_even_image_is_divided_by_the_smallest_deviation() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    image[0] = 102
    # The deviation is 1 / 255, below the minimum of 0.02, and every pixel is 1 / 255 from the mean.
    assert_close(Preprocessing(normalisation="image").normalise(image)[:, 0], 1 / 255 / 0.02)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((360, 480), (360, 480)),
        ((720, 960), (360, 480)),
        ((375, 1242), (360, 1192)),  # 1242 * 360 / 375 = 1192.3
        ((10, 5000), (360, 2880)),  # the long side stops at 8 short sides
        ((5000, 10), (2880, 360)),
        ((1, 1), (360, 360)),
    ],
)
def test_resized_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Preprocessing(short_side=360).resized_size(*size) == expected


def test_padding_repeats_the_edge_at_the_right_and_the_bottom() -> None:
    preprocessing = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1), size_multiple=4)
    prepared = ImageInput(preprocessing=preprocessing).prepare(np.array([[[255] * 3, [0] * 3]], np.uint8))
    array = prepared.arrays["image"]
    assert array.shape == (3, 4, 4)
    assert (prepared.context.size, prepared.context.padded) == ((1, 2), (4, 4))
    np.testing.assert_allclose(array[0], [[1, 0, 0, 0]] * 4)


def test_windows_cover_everything_and_end_flush() -> None:
    assert window_starts(10, 4, 3) == [0, 3, 6]
    assert window_starts(11, 4, 3) == [0, 3, 6, 7]
    assert window_starts(4, 4, 3) == [0]
    assert window_starts(3, 4, 3) == [0]


class FakeEngine:
    """Gives the output `logits` at stride 4; `run` maps `(B, 3, H, W)` to it."""

    def __init__(self, run: Callable[[np.ndarray], np.ndarray]) -> None:
        self._run = run
        logits = TensorSpec("logits", "float32", (None, None, None, None), stride=4)
        self.spec = EngineSpec("fake", "cpu", "fp32", (image_tensor(3, 4),), (logits,))

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": self._run(arrays["image"])}

    def close(self) -> None: ...


def windows(image: np.ndarray, run: Callable[[np.ndarray], np.ndarray], mode: InferenceMode) -> np.ndarray:
    return run_windows(image, FakeEngine(run), mode)["logits"]


def test_sliding_a_local_model_gives_the_whole_image_result() -> None:
    # A model that only averages its own 4 x 4 cells sees no window borders, so windows must change nothing.
    def run(images: np.ndarray) -> np.ndarray:
        batch, channels, height, width = images.shape
        return images.reshape(batch, channels, height // 4, 4, width // 4, 4).mean(axis=(3, 5))

    image = np.random.default_rng(1).normal(size=(3, 36, 52)).astype(np.float32)
    whole = run(image[None])[0]
    for window, stride in (((16, 16), (8, 12)), ((36, 52), (36, 52)), ((100, 20), (50, 7))):
        mode = InferenceMode(mode="sliding", window=window, window_stride=stride, batch=3)
        assert_close(windows(image, run, mode), whole)


def test_overlapping_windows_are_averaged() -> None:
    # Each window answers with a constant: its number in order of running. Width 12, window 8, step 4: windows at 0
    # and 4. Cells of 4 pixels: the first is seen by window 0, the second by both, the third by window 1.
    answers = iter([0.0, 1.0])

    def run(images: np.ndarray) -> np.ndarray:
        return np.stack([np.full((1, 1, 2), next(answers), np.float32) for _ in images])

    mode = InferenceMode(mode="sliding", window=(4, 8), window_stride=(4, 4), batch=1)
    found = windows(np.zeros((3, 4, 12), np.float32), run, mode)
    assert found.ravel().tolist() == [0.0, 0.5, 1.0]


def test_two_outputs_of_two_strides_under_windows() -> None:
    # Local at both strides, so windows must change nothing. Only if windows start and end on cells of the coarser
    # output do the cells of both lie on one grid: 12 x 12 pixels every 4 become 8 x 8 every 8.
    def mean(images: np.ndarray, stride: int) -> np.ndarray:
        batch, channels, height, width = images.shape
        return images.reshape(batch, channels, height // stride, stride, width // stride, stride).mean(axis=(3, 5))

    seen = set()

    class TwoOutputs:
        spec = EngineSpec(
            "fake",
            "cpu",
            "fp32",
            (image_tensor(3, 8),),
            tuple(TensorSpec(f"level{i}", "float32", (None,) * 4, stride=stride) for i, stride in enumerate((4, 8))),
        )

        def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            seen.add(arrays["image"].shape[2:])
            return {"level0": mean(arrays["image"], 4), "level1": mean(arrays["image"], 8)}

        def close(self) -> None: ...

    image = np.random.default_rng(2).normal(size=(3, 32, 40)).astype(np.float32)
    mode = InferenceMode(mode="sliding", window=(12, 12), window_stride=(4, 4), batch=3)
    found = run_windows(image, TwoOutputs(), mode)
    assert seen == {(8, 8)}
    assert_close(found["level0"], mean(image[None], 4)[0])
    assert_close(found["level1"], mean(image[None], 8)[0])


def test_labels_and_scores_by_hand() -> None:
    # Two classes on a 1 x 2 grid of stride 2; the image is 2 x 4. Half-pixel centres: output columns 0..3 lie at
    # (x + 0.5) / 2 - 0.5 = -0.25, 0.25, 0.75, 1.25; clamped at the edge, so the weights of the right cell are
    # 0, 0.25, 0.75, 1. Class 0 has logits (4, 0), class 1 has (0, 4): class 0 is 4, 3, 1, 0 and class 1 is 0, 1, 3, 4.
    logits = np.array([[[4.0, 0.0]], [[0.0, 4.0]]], np.float32)
    context = ImageContext(np.zeros((2, 4, 3), np.uint8), size=(2, 4), padded=(2, 4))
    labels, scores = labels_and_scores(logits, context)
    assert labels.tolist() == [[0, 0, 1, 1]] * 2
    expected = [1 / (1 + np.exp(-4)), 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-4))]
    assert_close(scores, [expected] * 2)


def test_of_equal_logits_the_first_class_wins() -> None:
    """As in argmax, so that an exported file with the argmax inside gives the same labels."""
    image = np.zeros((2, 3, 3), np.uint8)
    labels, scores = labels_and_scores(np.zeros((4, 2, 3), np.float32), ImageContext(image, (2, 3), (2, 3)))
    assert not labels.any()
    assert_close(scores, 0.25)


def test_padding_does_not_move_the_labels() -> None:
    # A 2 x 4 image padded to 2 x 8: the padded half is never looked at beyond the bilinear neighbour.
    logits = np.array([[[4.0, 0.0, 9.0, 9.0]], [[0.0, 4.0, 0.0, 0.0]]], np.float32)
    labels, _ = labels_and_scores(logits, ImageContext(np.zeros((2, 4, 3), np.uint8), size=(2, 4), padded=(2, 8)))
    # column 3 lies at 1.25: 0.75 * (0, 4) + 0.25 * (9, 0) = (2.25, 3): class 1
    assert labels.tolist() == [[0, 0, 1, 1]] * 2


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"mode": "slide"}, "neither"),
        ({"mode": "sliding"}, "needs window"),
        ({"mode": "sliding", "window": [8, 8], "window_stride": [9, 8]}, "leaves gaps"),
        ({"modus": "whole"}, "unknown modus"),
        ({"mode": "sliding", "window": [8], "window_stride": [4]}, "two whole numbers"),
        ({"mode": "sliding", "window": ["8", "8"], "window_stride": [4, 4]}, "two whole numbers"),
        ({"mode": "sliding", "window": "8x8", "window_stride": [4, 4]}, "two whole numbers"),
        ({"mode": "sliding", "window": 8, "window_stride": [4, 4]}, "inference: "),
    ],
)
def test_wrong_inference_is_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InferenceMode.from_json(section)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"normalisation": "z"}, "neither"),
        ({"std": [1, 0, 1]}, "std above 0"),
        ({"short_side": 0}, "at least 1"),
        ({"sizes": 3}, "unknown sizes"),
        ({"short_side": 36.5}, "whole numbers"),
        ({"short_side": "360"}, "whole numbers"),
    ],
)
def test_wrong_preprocessing_is_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessing.from_json(section)


def test_sections_survive_json() -> None:
    preprocessing = Preprocessing(normalisation="image", short_side=360, size_multiple=32)
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing
    mode = InferenceMode(mode="sliding", window=(8, 16), window_stride=(4, 8), batch=2)
    assert InferenceMode.from_json(mode.to_json()) == mode
