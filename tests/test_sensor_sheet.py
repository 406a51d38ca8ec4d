"""Pictures of what a rig's sensors see: where points and boxes are drawn, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo.frame import Box3D, CameraFrame, Frame, Sweep
from zoo.synthetic.previews.sensor_sheet import birds_eye, cameras_with_boxes, project_world, with_points
from zoo.synthetic.shapes.surfaces import Label

# The vehicle stands at (100, 50) and looks along the world's y; camera and lidar sit in its origin and look ahead.
EGO = np.array([[0, -1.0, 0, 100], [1, 0, 0, 50], [0, 0, 1, 0], [0, 0, 0, 1]])
CAMERA = CameraFrame(
    image_source=np.full((9, 11, 3), 100, np.uint8),
    intrinsics=np.array([[10.0, 0, 5], [0, 10, 4], [0, 0, 1]]),
    ego_from_camera=np.array([[0, 0, 1.0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]),
)
# 10 m ahead, 2 m left, 1 m below: world (98, 60, -1). The second point is behind the vehicle.
SWEEP = Sweep(
    points_source=np.array([[10, 2, -1, 0.5], [-10, 0, 0, 0.5]], np.float32),
    labels_source=np.array([Label.CAR, Label.ROAD], np.uint8),
    ego_from_lidar=np.eye(4),
)
# 20 m ahead, its front to the right of the vehicle: the world's x, yaw 0.
BOX = Box3D(label=13, track=1, center=np.array([100.0, 70, 0]), size=np.array([4.0, 2, 1]), yaw=0.0, num_points=3)
FRAME = Frame(id="a", cameras={"front": CAMERA}, lidars={"top": (SWEEP,)}, boxes=(BOX,), world_from_ego=EGO)


def test_points_in_the_camera() -> None:
    # x right is -2, y down is 1, z is 10: u = 5 - 10 * 2 / 10, v = 4 + 10 * 1 / 10.
    pixels, depth = project_world(np.array([[98.0, 60, -1]]), CAMERA, FRAME)
    np.testing.assert_allclose(pixels, [[3, 5]])
    np.testing.assert_allclose(depth, [10])
    drawn = with_points(FRAME, CAMERA)
    assert [tuple(at) for at in np.argwhere((drawn != 50).any(2))] == [(5, 3)]


def test_view_from_above() -> None:
    picture = birds_eye(FRAME, (50, 100), metres_per_pixel=1.0)
    # Ahead is to the right of the middle (50, 25): the points lie at (60, 23), in the colour of cars made lighter, and
    # at (40, 25), in that of roads.
    assert tuple(picture[23, 60]) == (60, 60, 142)
    assert tuple(picture[25, 40]) == (128, 64, 128)
    # The box covers 19 to 21 m ahead, and 2 m to both sides; its front is on the right, which is below.
    lines = np.argwhere((picture == (255, 220, 0)).all(2))
    assert (lines.min(0).tolist(), lines.max(0).tolist()) == ([23, 69], [27, 71])
    assert tuple(picture[26, 70]) == (255, 220, 0)
    assert tuple(picture[24, 70]) == (0, 0, 0)


def test_boxes_in_the_camera() -> None:
    (drawn,) = cameras_with_boxes(FRAME)
    lines = np.argwhere((drawn == (255, 220, 0)).all(2))
    # The near face at 19 m spans x -2 to 2 and y -0.5 to 0.5: u 3.9 to 6.1, v 3.7 to 4.3.
    assert (lines.min(0).tolist(), lines.max(0).tolist()) in (([3, 3], [4, 6]), ([4, 4], [4, 6]))
    behind = replace(BOX, center=np.array([100.0, 30, 0]))
    (empty,) = cameras_with_boxes(replace(FRAME, boxes=(behind,)))
    assert (empty == 100).all()
    around = replace(BOX, center=np.array([100.0, 50, 0]), size=np.array([40.0, 40, 2]))
    (cut,) = cameras_with_boxes(replace(FRAME, boxes=(around,)))
    assert (cut == (255, 220, 0)).all(2).any()  # it ends before the camera's plane
