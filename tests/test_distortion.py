"""Lenses: OpenCV's formulas worked by hand, round trips, folds."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.geometry.cameras import inside_image, pixel_rays, project, rays_through
from zoo.geometry.distortion import BrownConrady, KannalaBrandt, check

K = np.array([[500.0, 0, 320.0], [0, 510.0, 240.0], [0, 0, 1]])
SIZE = (480, 640)
LENSES = [
    BrownConrady(k1=-0.28, k2=0.09, p1=0.001, p2=-0.0007, k3=-0.01),
    BrownConrady(k1=0.12, k2=0.02, p1=-0.002, p2=0.003),
    KannalaBrandt(k1=-0.03, k2=0.01, k3=-0.004, k4=0.0005),
]


def test_brown_conrady_by_hand() -> None:
    # (0.3, 0.4): r2 = 0.25, so s = 1 + 0.1 * 0.25 + 0.2 * 0.0625 + 0.4 * 0.015625 = 1.04375. Tangential parts:
    # x: 2 * 0.01 * 0.12 + 0.02 * (0.25 + 0.18) = 0.011; y: 0.01 * (0.25 + 0.32) + 2 * 0.02 * 0.12 = 0.0105.
    lens = BrownConrady(k1=0.1, k2=0.2, p1=0.01, p2=0.02, k3=0.4)
    np.testing.assert_allclose(lens.distort(np.array([[0.3, 0.4]])), [[0.324125, 0.428]], atol=1e-12)
    assert lens.coefficients == (0.1, 0.2, 0.01, 0.02, 0.4)  # OpenCV's order


def test_kannala_brandt_by_hand() -> None:
    # 45 degrees to the right: a = 0.785398, a2 = 0.61685; 1 + 0.1 * 0.61685 - 0.05 * 0.380504 = 1.0426598.
    lens = KannalaBrandt(k1=0.1, k2=-0.05)
    np.testing.assert_allclose(lens.distort(np.array([[1.0, 0.0], [0, 0]])), [[0.8189031, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("lens", LENSES)
def test_rays_and_projection_are_inverse(lens: BrownConrady | KannalaBrandt) -> None:
    check(lens, K, SIZE)
    rays = pixel_rays(K, SIZE, lens)
    y, x = np.divmod(np.arange(480 * 640), 640)
    found, depth = project(rays * 7.5, K, distortion=lens)
    np.testing.assert_allclose(found, np.stack([x, y], 1), atol=1e-6)
    np.testing.assert_allclose(depth, 7.5)
    np.testing.assert_allclose(rays_through(np.array([[12.0, 345.0]]), K, lens)[0], rays[345 * 640 + 12])


def test_without_a_lens_nothing_changes() -> None:
    np.testing.assert_allclose(pixel_rays(K, SIZE, BrownConrady()), pixel_rays(K, SIZE), atol=1e-12)
    points = np.random.default_rng(1).normal(size=(50, 3)) * [1, 1, 0] + [0, 0, 3]
    np.testing.assert_allclose(project(points, K, distortion=BrownConrady())[0], project(points, K)[0], atol=1e-9)


def test_what_lies_beyond_the_fold_is_not_in_the_image() -> None:
    lens, r = LENSES[0], 2.6  # 69 degrees off the axis, which the polynomial alone would show at r' = 0.33
    assert lens.reach < r
    bare = r * (1 + r**2 * (-0.28 + r**2 * (0.09 - 0.01 * r**2)))
    assert abs(bare) < 0.64
    far = np.array([[r, 0.0, 1.0], [-r, 0, 1.0], [0, r, 1], [2, 2, 1]])
    assert not inside_image(project(far, K, distortion=lens)[0], SIZE).any()


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        (BrownConrady(k1=-1.5), r"cannot be inverted within the 480x640 image, for example at pixel \(-0, -0\)"),
        (BrownConrady(p1=0.9), "cannot be inverted"),
        (BrownConrady(k1=5.0, k2=-40.0), "cannot be inverted"),
        (KannalaBrandt(k1=-0.9), "cannot be inverted"),
        (BrownConrady(k2=float("nan")), "must be finite numbers"),
    ],
)
def test_lenses_that_show_nothing_or_twice(lens: BrownConrady | KannalaBrandt, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(lens, K, SIZE)


def test_a_fisheye_may_not_look_sideways() -> None:
    wide = np.array([[200.0, 0, 320.0], [0, 200.0, 240.0], [0, 0, 1]])  # 320 / 200 rad = 92 degrees to the side
    with pytest.raises(InputError, match="it holds up to 80 degrees off the axis"):
        check(KannalaBrandt(), wide, SIZE)


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed")
@pytest.mark.parametrize("lens", LENSES)
def test_projection_equals_opencv(lens: BrownConrady | KannalaBrandt) -> None:
    import cv2

    points = np.random.default_rng(3).uniform([-2, -1.5, 3], [2, 1.5, 9], (400, 3))
    zero, coefficients = np.zeros(3), np.array(lens.coefficients)
    if isinstance(lens, BrownConrady):
        expected = cv2.projectPoints(points, zero, zero, K, coefficients)[0]
    else:
        expected = cv2.fisheye.projectPoints(points[:, None], zero, zero, K, coefficients)[0]
    np.testing.assert_allclose(project(points, K, distortion=lens)[0], expected.reshape(-1, 2), atol=1e-6)
