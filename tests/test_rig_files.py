"""Rigs from files, lenses and rolling shutters: rendered, projected, written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.cli import main
from zoo.data import open_dataset
from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame
from zoo.geometry.cameras import project
from zoo.geometry.distortion import BrownConrady, KannalaBrandt
from zoo.synthetic import render_scene
from zoo.synthetic.layouts.geometry import image_box
from zoo.synthetic.sensors.response import HDL_32E, HDL_64E, IDEAL, Response
from zoo.synthetic.sensors.rig_file import read_rig, rig_from
from zoo.synthetic.sensors.rigs import RIGS, Rig, RigCamera

pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")

LENS = BrownConrady(k1=-0.25, k2=0.06, p1=0.001, p2=-0.0005)


def kitti_with(**changes: object) -> Rig:
    """KITTI's left camera, changed, and its lidar."""
    camera = RIGS["kitti"].cameras["image_2"]
    assert camera is not None
    return replace(RIGS["kitti"], cameras={"image_2": replace(camera, **changes)})  # type: ignore[arg-type]


# --- files ------------------------------------------------------------------------------------------------------------

NEW = {
    "size": [100, 200],
    "intrinsics": {"fx": 150, "fy": 151.5, "cx": 99.5, "cy": 49.5},
    "position_m": [1.5, 0.2, 1.4],
}


def test_a_rig_from_nothing() -> None:
    camera = {**NEW, "rotation_deg": {"yaw": 90}, "rate_hz": 5, "phase_s": 0.01, "line_time_us": 50}
    camera["distortion"] = {"model": "kannala-brandt", "k1": 0.01}
    lidar = {"elevations_deg": [-10, 0, 10], "columns": 360, "position_m": [1, 0, 2], "max_range_m": 50}
    rig = rig_from({"name": "mine", "period_s": 0.2, "cameras": {"left": camera}, "lidars": {"top": lidar}}, "rig.yaml")
    made = rig.cameras["left"]
    assert made is not None
    assert (rig.period_s, made.size, made.rate_hz, made.line_time_s) == (0.2, (100, 200), 5.0, 5e-5)
    assert made.distortion == KannalaBrandt(k1=0.01)
    np.testing.assert_allclose(made.intrinsics, [[150, 0, 99.5], [0, 151.5, 49.5], [0, 0, 1]])
    # Turned by 90 degrees to the left: it looks along the vehicle's y, and its x axis (right) points forward.
    np.testing.assert_allclose(made.ego_from_camera[:3] @ [0, 0, 5, 1], [1.5, 5.2, 1.4], atol=1e-12)
    np.testing.assert_allclose(made.ego_from_camera[:3] @ [2, 1, 0, 1], [3.5, 0.2, 0.4], atol=1e-12)
    assert rig.lidars["top"].elevations_deg == (-10.0, 0.0, 10.0)
    frame = next(iter(render_scene(3, 1, rig=rig)))
    assert frame.cameras["left"].image.shape == (100, 200, 3)
    assert len(np.unique(frame.lidars["top"][0].points[:, 4])) <= 3


def test_the_response_of_a_lidar() -> None:
    """By name; the correction per beam belongs to the beams of the base."""

    def response(base: str, lidar: str, **entry: Any) -> Response:
        return rig_from({"name": "a", "base": base, "lidars": {lidar: entry}}, "rig.yaml").lidars[lidar].response

    assert response("kitti", "velodyne", columns=1000) == HDL_64E
    assert response("kitti", "velodyne", response="hdl-64e") == HDL_64E
    assert response("kitti", "velodyne", response="hdl-32e") == HDL_32E
    assert response("nuscenes", "LIDAR_TOP", elevations_deg=[-10, 0]) == HDL_32E
    assert response("kitti", "velodyne", response="ideal") == IDEAL
    bare = replace(HDL_64E, beam=())
    assert response("nuscenes", "LIDAR_TOP", response="hdl-64e") == bare
    assert response("kitti", "velodyne", elevations_deg=[-10, 0]) == bare
    with pytest.raises(InputError, match="response"):
        response("kitti", "velodyne", response="vlp-16")


def test_a_rig_with_a_base_changes_only_what_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text("name: lens\nbase: kitti\ncameras:\n  image_2:\n    distortion: {model: brown-conrady, k1: -0.1}\n")
    rig, content = read_rig(path)
    own = RIGS["kitti"]
    old, new = own.cameras["image_2"], rig.cameras["image_2"]
    assert old is not None
    assert new is not None
    assert content["base"] == "kitti"
    assert (rig.period_s, rig.cameras["image_3"], rig.lidars) == (0.1, own.cameras["image_3"], own.lidars)
    assert new.distortion == BrownConrady(k1=-0.1)
    np.testing.assert_allclose(new.ego_from_camera, old.ego_from_camera, atol=1e-15)
    np.testing.assert_array_equal(new.intrinsics, old.intrinsics)
    turned = rig_from({"name": "t", "base": "kitti", "cameras": {"image_2": {"rotation_deg": {"pitch": 90}}}}, "r")
    view = turned.cameras["image_2"]
    assert view is not None
    np.testing.assert_allclose(view.ego_from_camera[:3, 2], [0, 0, -1], atol=1e-12)  # it looks down
    np.testing.assert_allclose(view.ego_from_camera[:3, 3], old.ego_from_camera[:3, 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"period_s": 1}, "lacks name"),
        ({"name": "a b", "period_s": 1}, "a name of letters, digits, _ and -"),
        ({"name": "a", "cameras": {"c": NEW}}, "period_s is missing; give the seconds between frames"),
        ({"name": "a", "period_s": 1}, "has no sensor"),
        ({"name": "a", "base": "kiti"}, "unknown rig 'kiti'; closest: kitti"),
        (
            {"name": "a", "period_s": 1, "cameras": {"c": {"size": [100, 200]}}},
            "camera c: intrinsics, position_m missing",
        ),
        ({"name": "a", "period_s": 1, "cameras": {"c": {**NEW, "fov": 3}}}, "fov"),
        ({"name": "a", "period_s": 1, "cameras": {"c": {**NEW, "size": [100, 20000]}}}, "at most 8192"),
        ({"name": "a", "base": "kitti", "cameras": {"image_2": {"line_time_us": -3}}}, "at least 0"),
        (
            {"name": "a", "base": "kitti", "cameras": {"image_2": {"line_time_us": 5000}}},
            "the sum must lie in 0 to 0.1 s",
        ),
        (
            {
                "name": "a",
                "base": "kitti",
                "cameras": {"image_2": {"distortion": {"model": "brown-conrady", "k1": -2}}},
            },
            "camera image_2: the distortion",
        ),
        (
            {
                "name": "a",
                "base": "kitti",
                "cameras": {"image_2": {"distortion": {"model": "kannala-brandt", "p1": 1}}},
            },
            "distortion kannala-brandt has no coefficient p1; it takes k1, k2, k3, k4",
        ),
        ({"name": "a", "base": "kitti", "lidars": {"velodyne": {"elevations_deg": [3, 1]}}}, "the lowest first"),
        ({"name": "a", "base": "kitti", "lidars": {"velodyne": {"max_range_m": -1}}}, "max_range_m -1.0 of the lidar"),
        (
            {"name": "a", "base": "camera", "period_s": 1, "cameras": {"front": {"rate_hz": 3}}},
            "missing; a sensor that the base does not",
        ),
    ],
)
def test_impossible_rig_files(content: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        rig_from(content, "rig.yaml")
    assert str(error.value).startswith(("rig.yaml", "unknown rig"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layout", "kitti"], "camera image_2 of rig 'lens' has a lens distortion or a rolling shutter"),
        (["--layout", "cityscapes"], "layout cityscapes takes one camera, which differs from place to place; omit it"),
        (["--layout", "nuscenes"], "rig 'lens' has no sensor CAM_FRONT"),
    ],
)
def test_rig_files_that_a_layout_cannot_use(words: list[str], message: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text("name: lens\nbase: kitti\ncameras:\n  image_2:\n    distortion: {model: brown-conrady, k1: -0.1}\n")
    command = ["synthetic", *words, "--frames", "1", "--rig", str(path), "--out", str(tmp_path / "data")]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert main([*command[:-4], "--rig", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "data")]) == 2
    assert "none.yaml does not exist" in capsys.readouterr().err or "cityscapes" in words


# --- pictures through a lens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lens", [LENS, KannalaBrandt(k1=-0.02, k2=0.004)])
def test_a_lens_shows_what_a_pinhole_sees_elsewhere(lens: BrownConrady | KannalaBrandt) -> None:
    """Depth and labels at distorted pixels equal those of a pinhole picture at the pixels of the same directions."""
    size = (94, 310)
    straight, bent = (
        next(iter(render_scene(25, 1, rig=replace(kitti_with(distortion=each), lidars={}), size=size))).camera
        for each in (None, lens)
    )
    k = bent.intrinsics
    assert k is not None
    y, x = (values.ravel() for values in np.mgrid[10:84:3, 20:290:3])
    # The formulas of OpenCV, worked forward from the pinhole's pixels.
    u, v = (x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1]
    r = np.hypot(u, v)
    if isinstance(lens, BrownConrady):
        s = 1 + lens.k1 * r**2 + lens.k2 * r**4
        at = (
            u * s + 2 * lens.p1 * u * v + lens.p2 * (r**2 + 2 * u**2),
            v * s + lens.p1 * (r**2 + 2 * v**2) + 2 * lens.p2 * u * v,
        )
    else:
        a = np.arctan(r)
        t = a * (1 + lens.k1 * a**2 + lens.k2 * a**4) / np.maximum(r, 1e-12)
        at = (u * t, v * t)
    column, row = np.rint(at[0] * k[0, 0] + k[0, 2]).astype(int), np.rint(at[1] * k[1, 1] + k[1, 2]).astype(int)
    assert straight.depth_m is not None
    assert bent.depth_m is not None
    assert straight.labels is not None
    assert bent.labels is not None
    far, near = straight.depth_m[y, x], bent.depth_m[row, column]
    solid = np.isfinite(far) & np.isfinite(near)
    assert (np.abs(near[solid] / far[solid] - 1) < 0.05).mean() > 0.9  # rounded to whole pixels
    assert (straight.labels[y, x] == bent.labels[row, column]).mean() > 0.9
    assert np.hypot(column - x, row - y).max() > 15


def points_on_picture(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Depths of lidar points on what stands still, and those of the pixels that they are projected to."""
    camera, sweep = frame.cameras["image_2"], frame.lidars["velodyne"][0]
    assert camera.intrinsics is not None
    assert camera.depth_m is not None
    pose = camera.world_from_ego @ camera.ego_from_camera
    world = sweep.points[:, :3] @ (sweep.world_from_ego @ sweep.ego_from_lidar)[:3, :3].T
    world = world + (sweep.world_from_ego @ sweep.ego_from_lidar)[:3, 3]
    local = ((world - pose[:3, 3]) @ pose[:3, :3])[sweep.instances == 0]
    pixels, depth = project(local, camera.intrinsics, distortion=camera.distortion)
    x, y = np.rint(pixels).astype(int).T
    height, width = camera.depth_m.shape
    seen = (depth > 1) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return depth[seen], camera.depth_m[y[seen], x[seen]]


@pytest.mark.parametrize("lens", [None, LENS])
def test_points_meet_the_picture_through_a_lens(lens: BrownConrady | None) -> None:
    depth, shown = points_on_picture(next(iter(render_scene(25, 1, rig=kitti_with(distortion=lens)))))
    assert len(depth) > 5000
    assert (np.abs(depth - shown) < 0.3).mean() > 0.85


def test_box_of_a_bent_edge() -> None:
    # A plate from x = -2 to 2 m at z = 2, its upper edge 1 m above the axis: with a barrel lens that edge is bent, and
    # highest in the middle. k1 = -0.2: (0, -0.5) goes to -0.5 * (1 - 0.2 * 0.25) = -0.475, a corner (1, -0.5) with
    # r2 = 1.25 to -0.5 * 0.75 = -0.375.
    corners = np.array(
        [
            [-2, 0.0, 2],
            [-2, 0, 2.001],
            [2, 0, 2.001],
            [2, 0, 2],
            [-2, -1, 2],
            [-2, -1, 2.001],
            [2, -1, 2.001],
            [2, -1, 2],
        ]
    )
    k = np.array([[100.0, 0, 150], [0, 100, 150], [0, 0, 1]])
    found = image_box(corners, k, (300, 300), BrownConrady(k1=-0.2))
    assert found is not None
    (left, top, right, bottom), cut = found
    assert top == pytest.approx(150 - 47.5, abs=0.05)
    assert (left, right) == (pytest.approx(70, abs=0.1), pytest.approx(230, abs=0.1))  # 1 * (1 - 0.2) on the axis
    assert bottom == pytest.approx(150, abs=1e-6)
    assert cut == 0


def test_boxes_are_seen_through_a_lens() -> None:
    """The same objects are visible, and their share does not depend on a lens that keeps them in the picture."""

    def shares(lens: BrownConrady | None) -> dict[int, Box3D]:
        frame = next(iter(render_scene(25, 1, rig=kitti_with(distortion=lens), size=(94, 310))))
        return {box.track: box for box in frame.boxes or ()}

    straight, bent = shares(None), shares(BrownConrady(k1=0.02))
    both = [(straight[t].visibility or 0, bent[t].visibility or 0) for t in straight if straight[t].visibility]
    assert len(both) > 5
    assert np.mean([abs(a - b) for a, b in both]) < 0.05


def test_a_lens_in_the_files_of_a2d2_and_nuscenes(tmp_path: Path) -> None:
    lens = "distortion: {model: brown-conrady, k1: -0.2, p2: 0.001}\n    line_time_us: 10\n"
    path = tmp_path / "a.yaml"
    path.write_text(f"name: bent\nbase: a2d2\ncameras:\n  front_center:\n    {lens}")
    command = ["synthetic", "--frames", "1", "--seed", "25", "--workers", "1", "--rig"]
    out = tmp_path / "a2d2"
    assert main([*command, str(path), "--layout", "a2d2", "--size", "120x192", "--out", str(out)]) == 0
    told = json.loads((out / "cams_lidars.json").read_text())["cameras"]["front_center"]
    assert told["Distortion"] == [[-0.2, 0.0, 0.0, 0.001, 0.0]]
    assert told["LineTime"] == pytest.approx(10e-6 * 1208 / 120)
    assert json.loads((out / "synthetic.json").read_text())["rig"]["name"] == "bent"
    path.write_text(path.read_text().replace("-0.2", "-0.19"))
    again = [*command, str(path), "--layout", "a2d2", "--size", "120x192", "--out", str(out), "--resume"]
    assert main(again) == 2  # another lens under the same name
    path.write_text(f"name: bent\nbase: nuscenes\ncameras:\n  CAM_FRONT:\n    {lens}")
    out = tmp_path / "nuscenes"
    assert (
        main([*command, str(path), "--layout", "nuscenes", "--size", "45x80", "--sweeps", "0", "--out", str(out)]) == 0
    )
    rows = json.loads((out / "v1.0-trainval/calibrated_sensor.json").read_text())
    (bent,) = [row for row in rows if "camera_distortion" in row]
    assert bent["camera_distortion"] == {"model": "brown-conrady", "coefficients": [-0.2, 0.0, 0.0, 0.001, 0.0]}
    assert bent["camera_line_time_s"] == pytest.approx(10e-6 * 900 / 45)


# --- rolling shutter --------------------------------------------------------------------------------------------------


def side_camera(line_time_s: float) -> Rig:
    """A camera that looks to the left, from a car that drives at the speed of the place."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]]), (1.0, 0.5, 1.5)
    camera = RigCamera(
        intrinsics=np.array([[60.0, 0, 49.5], [0, 60, 29.5], [0, 0, 1]]),
        size=(60, 100),
        ego_from_camera=pose,
        line_time_s=line_time_s,
    )
    return Rig(name="side", cameras={"left": camera}, lidars={}, period_s=0.1)


def test_each_row_is_seen_from_where_the_vehicle_is_then() -> None:
    seed = next(s for s in range(25, 60) if still_moving(s))
    line = 0.001
    rolled = next(iter(render_scene(seed, 1, rig=side_camera(line), edge_rays=0, exact=True))).camera
    assert rolled.line_time_s == line
    assert rolled.depth_m is not None
    checked = 0
    for row in (5, 29, 55):
        # A global shutter whose middle is at this row's time: its own row shows the same.
        rig = side_camera(0.0)
        camera = rig.cameras["left"]
        assert camera is not None
        phase = (row - 29.5) * line
        rig = replace(rig, cameras={"left": replace(camera, phase_s=phase)})
        still = next(iter(render_scene(seed, 1, rig=rig, edge_rays=0, exact=True))).camera
        assert still.timestamp_us - rolled.timestamp_us == pytest.approx(phase * 1e6, abs=1)
        assert still.depth_m is not None
        one, other = rolled.depth_m[row], still.depth_m[row]
        same = np.isclose(one, other, rtol=0.01)
        assert same.mean() > 0.97
        assert (rolled.labels[row] == still.labels[row]).mean() > 0.97
        checked += 1
    assert checked == 3
    plain = next(iter(render_scene(seed, 1, rig=side_camera(0.0), edge_rays=0, exact=True))).camera
    assert plain.depth_m is not None
    moved = np.isfinite(plain.depth_m) & np.isfinite(rolled.depth_m)
    assert np.abs(plain.depth_m[moved] - rolled.depth_m[moved]).max() > 0.5


def still_moving(seed: int) -> bool:
    from zoo.synthetic.scene.describe import describe

    scene = describe(seed)
    s = scene.ego_along(np.array([0.9, 1.1]))
    return (s[1] - s[0]) / 0.2 > 8.0


def test_no_rows_late_is_a_global_shutter() -> None:
    """A line time of nothing but rounding gives the same picture by the other way of tracing."""
    one, other = (next(iter(render_scene(25, 1, rig=side_camera(line)))).camera for line in (0.0, 1e-12))
    assert one.depth_m is not None
    assert other.depth_m is not None
    finite = np.isfinite(one.depth_m) & np.isfinite(other.depth_m)
    assert finite.mean() > 0.1
    np.testing.assert_allclose(one.depth_m[finite], other.depth_m[finite], rtol=1e-3)
    assert (one.labels == other.labels).mean() > 0.995
    assert np.abs(one.image.astype(int) - other.image).mean() < 1.5


def test_flow_and_rolling_shutters_exclude_each_other() -> None:
    with pytest.raises(InputError, match=re.escape("camera left of rig 'side' has a rolling shutter")):
        next(iter(render_scene(25, 1, rig=side_camera(1e-4), flow=True)))


def test_flow_through_a_lens() -> None:
    """Points of the pinhole's depth, projected through the lens into the next frame."""
    rig = replace(kitti_with(distortion=LENS), lidars={})
    first, second = (f.camera for f in render_scene(25, 2, rig=rig, size=(94, 310), flow=True, exact=True))
    assert isinstance(first, CameraFrame)
    assert first.flow is not None
    assert first.depth_m is not None
    assert first.intrinsics is not None
    y, x = (values.ravel() for values in np.mgrid[5:90:4, 5:305:4])
    static = (first.instances[y, x] < 1000) & np.isfinite(first.depth_m[y, x])
    y, x = y[static], x[static]
    # Undistorted by plain fixed-point iteration, as OpenCV does.
    k = first.intrinsics
    bent = np.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1]], 1)
    u = bent.copy()
    for _ in range(200):
        r2 = (u**2).sum(1)
        s = 1 + LENS.k1 * r2 + LENS.k2 * r2**2
        dx = 2 * LENS.p1 * u[:, 0] * u[:, 1] + LENS.p2 * (r2 + 2 * u[:, 0] ** 2)
        dy = LENS.p1 * (r2 + 2 * u[:, 1] ** 2) + 2 * LENS.p2 * u[:, 0] * u[:, 1]
        u = (bent - np.stack([dx, dy], 1)) / s[:, None]
    there = np.concatenate([u, np.ones((len(u), 1))], 1) * first.depth_m[y, x][:, None]
    pose, then = (c.world_from_ego @ c.ego_from_camera for c in (first, second))
    world = there @ pose[:3, :3].T + pose[:3, 3]
    pixels, depth = project((world - then[:3, 3]) @ then[:3, :3], k, distortion=LENS)
    ahead = depth > 1
    expected = pixels - np.stack([x, y], 1)
    np.testing.assert_allclose(first.flow[y, x][ahead], expected[ahead], atol=0.03)


@pytest.mark.parametrize(("layout", "lidar"), [("semantickitti", "velodyne"), ("nuscenes", "LIDAR_TOP")])
def test_readers_know_the_lidar_of_a_rig_file(layout: str, lidar: str, tmp_path: Path) -> None:
    """Number of beams and range are those of the file that the folder was rendered with, the rest the data set's."""
    (tmp_path / "rig.yaml").write_text(
        f"name: six\nbase: {layout.removeprefix('semantic')}\nlidars:\n  {lidar}:\n"
        "    elevations_deg: [-20, -15, -10, -5, 0, 5]\n    columns: 300\n    max_range_m: 50\n"
    )
    words = f"synthetic --layout {layout} --frames 1 --scenes 1 --size 90x160 --seed 3 --sweeps 0 --workers 1"
    words = words.replace(" --sweeps 0", "") if layout != "nuscenes" else words
    assert main([*words.split(), "--rig", str(tmp_path / "rig.yaml"), "--out", str(tmp_path / "out")]) == 0
    (sweep,) = open_dataset(layout, tmp_path / "out").frames[0].lidars[lidar][:1]
    assert sweep.sensor is not None
    assert (sweep.sensor.beams, sweep.sensor.max_range_m, sweep.sensor.points) == (6, 50.0, None)
    assert sweep.sensor.height_m == pytest.approx(1.73 if layout == "semantickitti" else 1.84, abs=0.01)
    marker = json.loads((tmp_path / "out" / "synthetic.json").read_text())
    marker["lidars"][lidar] = {"beams": "many", "height_m": True, "max_range_m": -1}  # damaged: as if it said nothing
    (tmp_path / "out" / "synthetic.json").write_text(json.dumps(marker))
    (sweep,) = open_dataset(layout, tmp_path / "out").frames[0].lidars[lidar][:1]
    assert sweep.sensor is not None
    assert sweep.sensor.beams == (64 if layout == "semantickitti" else 32)
