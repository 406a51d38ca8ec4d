"""Overlays: colours, outlines, hatched pixels without a class, and the legend at every image size."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from zoo.classes import CAMVID, CITYSCAPES, ClassTable
from zoo.errors import InputError
from zoo.prediction import Segmentation2D

NO_CLASS = 255


def prediction(labels: np.ndarray, classes: ClassTable = CITYSCAPES, seed: int = 0) -> Segmentation2D:
    image = np.random.default_rng(seed).integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    return Segmentation2D(labels=labels, scores=np.ones(labels.shape, np.float32), classes=classes, image=image)


def bands(height: int, width: int, classes: list[int]) -> np.ndarray:
    """Vertical bands of equal width."""
    return np.repeat([classes], height, axis=0).repeat(-(-width // len(classes)), axis=1)[:, :width].astype(np.uint8)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.55, 1.0])
def test_without_a_legend_size_and_colours_are_those_of_image_and_classes(alpha: float) -> None:
    segmented = prediction(bands(20, 31, [0, 2, 10]))
    overlay = np.asarray(segmented.overlay(alpha)).astype(float)
    colors = np.array([(128, 64, 128), (70, 70, 70), (70, 130, 180)], float)
    band = np.minimum(np.arange(31) // 11, 2)
    expected = (1 - alpha) * segmented.image + alpha * colors[band][None]
    assert overlay.shape == (20, 31, 3)
    np.testing.assert_allclose(overlay, expected, atol=1)  # grey levels


def test_alpha_outside_its_range() -> None:
    with pytest.raises(InputError, match=r"alpha 1.5 is outside 0 to 1"):
        prediction(bands(4, 4, [0])).overlay(1.5)


@pytest.mark.parametrize(("classes", "grey"), [(CITYSCAPES, 2), (CAMVID, 0)])
def test_a_grey_class_looks_unlike_no_class(classes: ClassTable, grey: int) -> None:
    labels = bands(80, 120, [grey, NO_CLASS])
    segmented = Segmentation2D(
        labels=labels, scores=np.ones(labels.shape), classes=classes, image=np.full((*labels.shape, 3), 90, np.uint8)
    )
    overlay = np.asarray(segmented.overlay())
    assert len(np.unique(overlay[:, :60].reshape(-1, 3), axis=0)) == 1
    # 0.45 * 90 = 40.5 under the black stripes; 0.45 * 90 + 0.55 * 255 = 180.75 under the white ones
    stripes = overlay[:, 60:]
    assert {tuple(row) for row in stripes.reshape(-1, 3)} == {(40, 40, 40), (180, 180, 180)}
    assert 0.3 < (stripes == 40).mean() < 0.7


def test_regions_are_outlined_in_their_full_colour_with_a_legend() -> None:
    overlay = np.asarray(prediction(bands(90, 90, [2, 10])).overlay(legend=True))
    assert (overlay[:90, 44] == (70, 70, 70)).all()
    assert (overlay[:90, 45] == (70, 130, 180)).all()


SIZES = [(48, 64), (1, 1), (375, 1242), (360, 480), (1920, 1080), (40, 3000)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_legend_names_what_occurs_below_the_image(height: int, width: int) -> None:
    labels = bands(height, width, list(range(19)) if width >= 19 else [13])
    labels[: height // 2] = 13
    segmented = prediction(labels)
    plain, sheet = segmented.overlay(1.0), segmented.overlay(1.0, legend=True)
    assert plain.size == (width, height)
    assert sheet.width >= width
    assert sheet.height > height
    pixels = np.asarray(sheet)
    np.testing.assert_array_equal(pixels[:height, :width], np.asarray(plain))  # at alpha 1 the outlines add nothing
    strip = pixels[height:]
    occurring = [CITYSCAPES.colors[i] for i in np.unique(labels)]
    for color in CITYSCAPES.colors:
        count = int((strip == color).all(axis=2).sum())
        assert (count >= 10 * 15) == (color in occurring), (color, count)  # a swatch of at least 10 x 15 pixels
    dark = (strip < 60).all(axis=2)
    assert dark.any()
    assert (strip[:, -4:] == 255).all()  # no text reaches the edges
    assert (strip[-2:] == 255).all()


def test_letters_are_as_tall_in_a_small_picture_and_taller_in_a_large_one() -> None:
    def row_height(height: int, width: int) -> int:
        two, one = (prediction(bands(height, width, classes)) for classes in ([0, 1], [0]))
        narrow = [item.overlay(legend=True) for item in (two, one)]
        return narrow[0].height - narrow[1].height

    assert row_height(48, 64) == 18  # text of 12 pixels; a row is one and a half times that
    assert row_height(2000, 90) == 18
    tall = prediction(bands(3000, 2000, [0])).overlay(legend=True)
    assert tall.height - 3000 >= 60


def test_pixels_without_a_class_stand_in_the_legend() -> None:
    labelled, unlabelled = (prediction(bands(200, 300, [0, other])).overlay(legend=True) for other in (0, NO_CLASS))
    assert unlabelled.width == labelled.width
    swatches = np.asarray(unlabelled)[200:]
    assert ((swatches == 0).all(axis=2).sum()) > 30  # the black stripes; text is (25, 25, 25)
    assert not (np.asarray(labelled)[200:] == 0).all(axis=2).any()


def test_a_name_of_any_length_keeps_the_picture_small() -> None:
    classes = ClassTable("made up", ("a" * 100_000, "two\nlines"), ((1, 2, 3), (4, 5, 6)))
    sheet = prediction(bands(40, 40, [0, 1]), classes).overlay(legend=True)
    assert sheet.width < 500
    assert sheet.height == 40 + 2 * 18 + 6


def test_import_zoo_does_without_text_drawing() -> None:
    program = "import sys, zoo, zoo.loading; sys.exit('PIL.ImageDraw' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
