"""Transforms, cameras and boxes against cases worked out by hand, round trips and invariances."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from tolerances import assert_close

from zoo.frame import Box3D
from zoo.geometry import boxes, cameras, transforms

ROOT_HALF = np.sqrt(0.5)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def test_each_rotation_turns_its_axes() -> None:
    x, y, z = np.eye(3)
    assert_close(transforms.yaw_matrix(np.pi / 2) @ x, y)
    assert_close(transforms.yaw_matrix(np.pi / 2) @ y, -x)
    assert_close(transforms.pitch_matrix(np.pi / 2) @ x, -z)  # forward turns down
    assert_close(transforms.roll_matrix(np.pi / 2) @ y, z)
    # 0.6 and 0.8 are the cosine and sine of one angle.
    np.testing.assert_allclose(transforms.yaw_matrix(np.arctan2(0.8, 0.6)), [[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])


@pytest.mark.parametrize("about", [transforms.yaw_matrix, transforms.pitch_matrix, transforms.roll_matrix])
def test_rotations_of_many_angles(about: Callable[..., np.ndarray]) -> None:
    angles = np.linspace(-4, 4, 24).reshape(2, 3, 4)
    many = about(angles)
    assert many.shape == (2, 3, 4, 3, 3)
    np.testing.assert_array_equal(many[1, 2, 3], about(angles[1, 2, 3]))
    np.testing.assert_array_equal(about(-angles), many.swapaxes(-1, -2))
    np.testing.assert_allclose(np.linalg.det(many), 1)


def test_pose_and_inverse() -> None:
    # A quarter turn to the left, then 10 m ahead: what is 1 m in front of b is 1 m to the left of its place in a.
    a_from_b = transforms.pose(transforms.yaw_matrix(np.pi / 2), np.array([10.0, 0, 2]))
    assert_close(transforms.transform(a_from_b, np.array([1.0, 0, 0])), [10, 1, 2])
    rng = np.random.default_rng(1)
    for _ in range(10):
        a_from_b = transforms.pose(random_rotation(rng), rng.normal(size=3) * 100)
        assert_close(transforms.invert(a_from_b), np.linalg.inv(a_from_b))
        points = rng.normal(size=(4, 5, 3))
        there = transforms.transform(a_from_b, points)
        assert there.shape == points.shape
        assert_close(transforms.transform(transforms.invert(a_from_b), there), points)


def test_quaternions_by_hand() -> None:
    # (w, x, y, z) = (cos, axis * sin) of half the angle.
    cases = {
        (1.0, 0.0, 0.0, 0.0): np.eye(3),
        (ROOT_HALF, 0.0, 0.0, ROOT_HALF): [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        (ROOT_HALF, ROOT_HALF, 0.0, 0.0): [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        (0.0, 0.0, 1.0, 0.0): np.diag([-1.0, 1, -1]),
        (0.5, 0.5, 0.5, 0.5): [[0, 0, 1], [1, 0, 0], [0, 1, 0]],  # x to y to z to x
    }
    for quaternion, rotation in cases.items():
        assert_close(transforms.rotation_from_quaternion(np.array(quaternion)), rotation)
        assert_close(transforms.rotation_from_quaternion(-3 * np.array(quaternion)), rotation)
        np.testing.assert_allclose(transforms.quaternion_from_rotation(np.array(rotation, float)), quaternion)


def test_quaternions_round_trip_and_compose() -> None:
    def times(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Hamilton's product, written out."""
        (a, b, c, d), (e, f, g, h) = p, q
        return np.array(
            [
                a * e - b * f - c * g - d * h,
                a * f + b * e + c * h - d * g,
                a * g - b * h + c * e + d * f,
                a * h + b * g - c * f + d * e,
            ]
        )

    rng = np.random.default_rng(2)
    for _ in range(50):
        one, other = random_rotation(rng), random_rotation(rng)
        p, q = transforms.quaternion_from_rotation(one), transforms.quaternion_from_rotation(other)
        assert p[0] >= 0
        np.testing.assert_allclose(np.linalg.norm(p), 1)
        assert_close(transforms.rotation_from_quaternion(p), one)
        assert_close(transforms.rotation_from_quaternion(times(p, q)), one @ other)


def test_a_camera_of_ninety_degrees() -> None:
    # 200 x 100 pixels and 90 degrees across: the edge at 99.5 + 100 is at 45 degrees, so the focal length is 100.
    intrinsics = cameras.intrinsics_from_fov(90.0, (100, 200))
    np.testing.assert_allclose(intrinsics, [[100, 0, 99.5], [0, 100, 49.5], [0, 0, 1]])
    np.testing.assert_allclose(cameras.intrinsics_from_fov(90.0, (200, 100))[0, 0], 100)
    pixels, depth = cameras.project(np.array([[0, 0, 5.0], [1, -1, 4], [4, 0, 4], [0, 0, -2]]), intrinsics)
    np.testing.assert_allclose(pixels[:3], [[99.5, 49.5], [124.5, 24.5], [199.5, 49.5]])
    assert depth.tolist() == [5, 4, 4, -2]
    # The right edge is half a pixel beyond the centre of the last one, 199, and does not belong to the image.
    assert cameras.inside_image(pixels[:3], (100, 200)).tolist() == [True, True, False]
    assert cameras.inside_image(np.array([[-0.4, 0.0], [-0.6, 0], [0, 99.4], [0, 99.6]]), (100, 200)).tolist() == [
        True,
        False,
        True,
        False,
    ]


def test_rays_and_projection_are_inverse() -> None:
    intrinsics = cameras.intrinsics_matrix(80.0, 90.0, 11.0, 5.5)
    rays = cameras.pixel_rays(intrinsics, (12, 20))
    np.testing.assert_allclose(rays[12 * 0 + 11], [0, -5.5 / 90, 1])
    pixels, depth = cameras.project(rays * 7.0, intrinsics)
    np.testing.assert_allclose(depth, 7)
    assert_close(pixels.reshape(12, 20, 2), np.stack(np.meshgrid(range(20), range(12)), -1))


def test_half_an_image_keeps_its_edges() -> None:
    intrinsics = cameras.intrinsics_matrix(100.0, 100.0, 99.5, 49.5)
    half = cameras.scale_intrinsics(intrinsics, (100, 200), (50, 100))
    # The middle of 100 x 50 pixels is (49.5, 24.5).
    np.testing.assert_allclose(half, [[50, 0, 49.5], [0, 50, 24.5], [0, 0, 1]])
    np.testing.assert_allclose(cameras.scale_intrinsics(half, (50, 100), (100, 200)), intrinsics)


def test_a_camera_that_looks_ahead() -> None:
    right, down, forward = cameras.VEHICLE_FROM_OPTICAL.T
    assert (right.tolist(), down.tolist(), forward.tolist()) == ([0, -1, 0], [0, 0, -1], [1, 0, 0])


def test_corners_of_a_turned_box() -> None:
    # 4 m long, 2 m wide, 6 m high, turned so that its length lies along y: the front is at the larger y, the left side
    # at the smaller x.
    corners = boxes.box_corners(np.array([1.0, 2, 3, 4, 2, 6, np.pi / 2]))
    below = [[0, 0, 0], [0, 4, 0], [2, 4, 0], [2, 0, 0]]
    assert_close(corners, [*below, *(np.array(below) + [0, 0, 6])])
    many = boxes.box_corners(np.array([[[1.0, 2, 3, 4, 2, 6, np.pi / 2], [0, 0, 0, 1, 1, 1, 0]]]))
    assert many.shape == (1, 2, 8, 3)
    np.testing.assert_array_equal(many[0, 0], corners)


def test_edges_join_corners_that_differ_in_one_direction() -> None:
    corners = boxes.box_corners(np.array([0.0, 0, 0, 2, 4, 8, 0]))
    lengths = np.linalg.norm(corners[boxes.EDGES[:, 0]] - corners[boxes.EDGES[:, 1]], axis=1)
    assert sorted(lengths.tolist()) == [2] * 4 + [4] * 4 + [8] * 4
    assert len({frozenset(edge) for edge in boxes.EDGES.tolist()}) == 12


def test_points_in_a_box_and_on_its_faces() -> None:
    box = np.array([10.0, 0, 1, 4, 2, 2, 0])
    points = np.array([[10.0, 0, 1], [12, 1, 2], [12.01, 0, 1], [10, -1.01, 1], [10, 0, -0.01], [-10, 0, 1]])
    assert boxes.points_in_box(box, points).tolist() == [True, True, False, False, False, False]
    # Turned by 45 degrees the box reaches (2 + 1) * sqrt(0.5) = 2.12 m along x, at y = (2 - 1) * sqrt(0.5) = 0.71 m.
    box[6] = np.pi / 4
    points = np.array([[12.1, 0.71, 1], [12.1, 0, 1], [11.9, 0.71, 1], [8.6, -1.4, 1], [8.6, 1.4, 1]])
    assert boxes.points_in_box(box, points).tolist() == [True, False, True, True, False]


def test_points_stay_in_boxes_that_turn_with_them() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform(-2, 2, (3000, 3))
    box = np.array([0.5, -0.3, 0.2, 3, 1.6, 1.4, 0.4])
    inside = boxes.points_in_box(box, points)
    assert 50 < inside.sum() < 1000
    for angle, shift in product((0.7, -2.0), (np.zeros(3), np.array([100.0, -50, 3]))):
        motion = transforms.pose(transforms.yaw_matrix(angle), shift)
        moved = np.concatenate([transforms.transform(motion, box[:3]), box[3:6], [box[6] + angle]])
        np.testing.assert_array_equal(boxes.points_in_box(moved, transforms.transform(motion, points)), inside)
        assert_close(boxes.box_corners(moved), transforms.transform(motion, boxes.box_corners(box)))


def test_boxes_of_a_frame_and_angles() -> None:
    box = Box3D(label=13, track=1, center=np.array([1.0, 2, 3]), size=np.array([4.0, 5, 6]), yaw=0.5)
    assert boxes.boxes_3d([box, box]).tolist() == [[1, 2, 3, 4, 5, 6, 0.5]] * 2
    assert boxes.boxes_3d([]).shape == (0, 7)
    np.testing.assert_allclose(
        [boxes.wrap_angle(a) for a in (0.0, np.pi, 3 * np.pi / 2, -np.pi, 7.0)],
        [0, -np.pi, -np.pi / 2, -np.pi, 7 - 2 * np.pi],
    )


def test_examples_of_the_conventions_page() -> None:
    page = Path(__file__).resolve().parents[1] / "zoo" / "geometry" / "README.md"
    failures, examples = doctest.testfile(str(page), module_relative=False)
    assert examples >= 30
    assert failures == 0
