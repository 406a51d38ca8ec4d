"""The reader of A2D2: hand-made folders, rendered ones, the real files, and every kind of damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tolerances import assert_close

from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.a2d2 import IGNORED, label_of_color
from zoo.data.a2d2_cameras import Camera, read_cameras, undistort
from zoo.data.terms import is_synthetic, places_of, terms_of
from zoo.errors import InputError
from zoo.frame import Frame
from zoo.synthetic.layouts.a2d2 import COLORS as WRITTEN

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real" / "a2d2"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real/a2d2 is not here")

SCENE, NAME = "20181107_132300", "20181107132300_{}_frontcenter_000000007"
CAR, ROAD, SKY, EGO = (255, 0, 0), (255, 0, 255), (135, 206, 255), (72, 209, 204)
# In the view of the camera: x ahead, y left, z up. The first is seen at column 32 - 10 * 1 / 10, row 24 - 10 * -2 / 10.
POINTS = np.array([[10.0, 1.0, -2.0], [10.0, 40.0, 0.0], [-5.0, 0.0, 0.0]])


def calibration(**changes: Any) -> dict[str, Any]:
    """A camera 2 m ahead of and 1 m above the origin, which is 0.75 m above the road; it looks ahead."""
    k = [[10.0, 0.0, 32.0], [0.0, 10.0, 24.0], [0.0, 0.0, 1.0]]
    view = {"origin": [2.0, 0.0, 1.0], "x-axis": [3.0, 0.0, 0.0], "y-axis": [0.5, 1.0, 0.0]}
    camera = {"view": view, "Lens": "Telecam", "CamMatrix": k, "CamMatrixOriginal": k, "Distortion": [[0.0] * 5]}
    camera |= {"Resolution": [64, 48], **changes}
    return {
        "vehicle": {"ego-dimensions": {"z-range": [-0.75, 1.5]}},
        "lidars": {},
        "cameras": {"front_center": camera},
    }


def colors() -> np.ndarray:
    """Sky above, road below, a car where the first point falls, the ego car at the bottom."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24], image[24:], image[44:] = SKY, ROAD, EGO
    image[25:28, 30:33] = CAR
    return image


BOX = {
    "class": "VanSUV",
    "center": [10.0, 1.0, -1.0],
    "size": [4.0, 2.0, 1.5],
    "axis": [0.0, 0.0, -1.0],
    "rot_angle": 0.25,
    "id": 0,
}


def add(root: Path, scene: str = SCENE, number: int = 7, tree: str = "camera_lidar_semantic_bboxes") -> dict[str, Path]:
    (root / "cams_lidars.json").write_text(json.dumps(calibration()))
    paths = {}
    for kind, ending in (("camera", "png"), ("lidar", "npz"), ("label", "png"), ("label3D", "json")):
        name = f"{scene.replace('_', '')}_{kind}_frontcenter_{number:09d}.{ending}"
        paths[kind] = root / tree / scene / kind / "cam_front_center" / name
        paths[kind].parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((48, 64, 3), 77, np.uint8)).save(paths["camera"])
    paths["camera"].with_suffix(".json").write_text(json.dumps({"cam_tstamp": 1_541_597_580_000_123}))
    Image.fromarray(colors()).save(paths["label"])
    np.savez_compressed(paths["lidar"], points=POINTS, reflectance=np.array([51, 255, 0]))
    paths["label3D"].write_text(json.dumps({"box_0": BOX}))
    return paths


def only(root: Path, split: str = "val") -> Frame:
    (frame,) = open_dataset("a2d2", root, split).frames
    return frame


def test_a_folder_made_by_hand(tmp_path: Path) -> None:
    add(tmp_path)
    dataset = open_dataset("a2d2", tmp_path)
    assert (dataset.video, terms_of(dataset).licence) == (True, "CC BY-ND")
    (frame,) = dataset.frames
    assert (frame.id, frame.scene) == ("20181107132300_frontcenter_000000007", SCENE)
    names = dataset.classes.names
    camera = frame.camera
    assert camera.image.shape == (48, 64, 3)
    labels = camera.labels
    assert labels is not None
    assert [names[labels[row, 31]] for row in (3, 26, 40)] == ["Sky", "Car", "RD normal street"]
    assert labels[47, 31] == 255
    assert camera.timestamp_us == 1_541_597_580_000_123
    sweep = frame.lidars["front_center"][0]
    assert_close(sweep.points, np.column_stack([POINTS, [0.2, 1, 0]]), dtype="float32")
    # The first point falls on the car, the second to the left of the image, the third is behind.
    assert sweep.labels is not None
    assert sweep.labels.tolist() == [names.index("Car"), 255, 255]
    assert sweep.sensor is not None
    assert (sweep.sensor.height_m, sweep.sensor.intensity_scale) == (1.75, "0-255")


def test_points_and_boxes_in_the_vehicle_and_the_image(tmp_path: Path) -> None:
    add(tmp_path)
    frame = only(tmp_path)
    camera, sweep = frame.camera, frame.lidars["front_center"][0]
    assert sweep.ego_from_lidar is not None
    assert_close((sweep.ego_from_lidar @ [10, 1, -2, 1])[:3], [12, 1, -0.25])  # 2 m ahead, 1.75 m above the road
    local = np.linalg.inv(camera.ego_from_camera) @ sweep.ego_from_lidar @ [10, 1, -2, 1]  # type: ignore[operator]
    u, v, w = camera.intrinsics @ local[:3]  # type: ignore[operator]
    assert_close([u / w, v / w], [31, 26])
    (box,) = list(frame.boxes or ())
    assert (box.kind, box.label) == ("VanSUV", 0)
    assert_close(box.center, [12, 1, 0.75])
    assert box.size.tolist() == [4, 2, 1.5]
    assert box.yaw == pytest.approx(-0.25)  # about the axis that points down


def test_the_two_trees_are_one(tmp_path: Path) -> None:
    paths = add(tmp_path)
    for kind in ("camera", "label"):
        there = Path(str(paths[kind]).replace("semantic_bboxes", "semantic"))
        there.parent.mkdir(parents=True)
        paths[kind].rename(there)
    frame = only(tmp_path)
    assert frame.camera.labels is not None
    assert len(list(frame.boxes or ())) == 1


def test_splits_are_lists_of_scenes(tmp_path: Path) -> None:
    for scene in (SCENE, "20180810_142822", "20180807_145028", "20300101_000000"):
        add(tmp_path, scene)

    def scenes(split: str) -> list[str]:
        return [frame.scene for frame in open_dataset("a2d2", tmp_path, split).frames]

    assert scenes("val") == [SCENE]
    assert scenes("test") == ["20180810_142822"]
    assert scenes("train") == ["20180807_145028", "20300101_000000"]
    assert len(scenes("all")) == 4
    with pytest.raises(InputError, match="no camera 'rear'; cameras: front_center"):
        open_dataset("a2d2", tmp_path, camera="rear")


def test_the_colours_are_those_of_the_writer() -> None:
    table = label_of_color()
    from zoo.classes import A2D2

    for name, color in WRITTEN.items():
        expected = 255 if name in IGNORED else A2D2.names.index(name.rstrip(" 1234"))
        assert table[color] == expected, name
    assert int((table != 254).sum()) == len(WRITTEN) == 55


def bent(lens: str, distortion: tuple[float, ...]) -> Camera:
    return Camera("x", lens, (100, 100, 50, 40), (110, 110, 52, 41), distortion, (80, 100), (0.0,) * 16)


def test_lenses_by_hand() -> None:
    # Brown: r2 = 0.25, radial 1 - 0.2 * 0.25 + 0.04 * 0.0625 = 0.9525; x' = 0.3 * 0.9525 + 2 * 0.01 * 0.12 = 0.28815;
    # y' = 0.4 * 0.9525 + 0.01 * (0.25 + 2 * 0.16) = 0.3867.
    column, row = bent("Telecam", (-0.2, 0.04, 0.01, 0.0, 0.0)).raw_pixels(np.array(0.3), np.array(0.4))
    assert_close([column, row], [110 * 0.28815 + 52, 110 * 0.3867 + 41])
    # Equidistant: at 45 degrees to the right the radius is pi / 4 instead of 1; on the axis nothing changes.
    column, row = bent("Fisheye", (0.0, 0.0, 0.0, 0.0)).raw_pixels(np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    assert_close(column, [110 * np.pi / 4 + 52, 52])
    assert_close(row, [41, 41])


def test_undistorting_moves_pixels_to_where_the_lens_took_them_from() -> None:
    """A picture whose red is its column and whose green its row shows where each pixel came from."""
    camera = bent("Telecam", (-0.2, 0.04, 0.01, 0.0, 0.0))
    rows, columns = np.mgrid[:80, :100]
    image = np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)
    smooth = undistort(image, camera, 255, nearest=False)
    sharp = undistort(image, camera, 255, nearest=True)
    for row, column in ((40, 50), (10, 20), (70, 85)):
        x, y = camera.raw_pixels(np.array((column - 50) / 100), np.array((row - 40) / 100))
        assert_close(smooth[row, column, :2], np.rint([float(x), float(y)]), dtype="float32")
        assert sharp[row, column, :2].tolist() == [round(float(x)), round(float(y))]


def replaced(kind: str, write: Callable[[Path], object]) -> Callable[[dict[str, Path]], object]:
    return lambda paths: write(paths[kind])


def npz(**arrays: np.ndarray) -> Callable[[Path], object]:
    return lambda path: np.savez(path, **arrays)  # type: ignore[arg-type]


def box(**changes: Any) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps({"box_0": {**BOX, **changes}}))


def camera_file(text: str) -> Callable[[dict[str, Path]], object]:
    return lambda paths: (paths["camera"].parents[4] / "cams_lidars.json").write_text(text)


FINE = np.array([1, 2, 3])
DAMAGE: dict[str, tuple[Callable[[dict[str, Path]], object], str]] = {
    "objects": (replaced("lidar", npz(points=np.array([{}, {}], object))), "does not hold plain numbers"),
    "no points": (replaced("lidar", npz(reflectance=FINE)), "has no array points; it holds reflectance"),
    "lengths": (replaced("lidar", npz(points=POINTS, reflectance=FINE[:2])), r"expected \(N, 3\) and \(N,\)"),
    "nan": (replaced("lidar", npz(points=POINTS * np.nan, reflectance=FINE)), "x of point 0 is nan"),
    "reflectance": (replaced("lidar", npz(points=POINTS, reflectance=FINE * 999)), "intensity runs from"),
    "no npz": (replaced("lidar", lambda path: path.write_bytes(b"PK\3\4 nothing")), "is not a usable npz archive"),
    "colour": (
        replaced("label", lambda path: Image.fromarray(colors() + np.uint8(1)).save(path)),
        r"has colours that are not in class_list\.json: #",
    ),
    "size": (
        replaced("label", lambda path: Image.fromarray(colors()[::2]).save(path)),
        "has 64 x 24 pixels; front_center is calibrated for 64 x 48",
    ),
    "no boxes": (replaced("label3D", lambda path: path.write_text("[]")), "holds no table"),
    "broken boxes": (replaced("label3D", lambda path: path.write_text("{")), "is not JSON"),
    "box key": (replaced("label3D", lambda path: path.write_text('{"box_0": {}}')), "holds no boxes of A2D2"),
    "box size": (replaced("label3D", box(size=[1, 2, -3])), "box 1 has the centre"),
    "box axis": (replaced("label3D", box(axis=[0, 0, 0])), "box 1 has the centre"),
    "calibration": (camera_file("{}"), r"cams_lidars\.json is not the calibration of A2D2: KeyError 'vehicle'"),
    "lens": (camera_file(json.dumps(calibration(Lens="Mirror"))), "has the lens 'Mirror' with 5 coefficients"),
    "matrix": (camera_file(json.dumps(calibration(CamMatrix=[[0]]))), "a camera matrix is"),
    "axes": (
        camera_file(json.dumps(calibration(view={"origin": [0, 0, 0], "x-axis": [1, 0, 0], "y-axis": [1, 0, 0]}))),
        "has values that are not finite",
    ),
    "name": (
        replaced("camera", lambda path: path.rename(path.with_name("first.png"))),
        "expected a name such as 20180807145028_camera_frontcenter_000001617",
    ),
}


def decode(root: Path) -> None:
    frame = only(root)
    assert frame.camera.labels is not None
    assert len(frame.lidars["front_center"][0].points)
    assert frame.lidars["front_center"][0].labels is not None
    assert list(frame.boxes or ())


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_line(kind: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    damage(add(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        decode(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a2d2") / "out"
    words = "synthetic --layout a2d2 --frames 2 --scenes 2 --size 120x190 --seed 5"
    main([*words.split(), "--out", str(root)])
    return root


def test_a_rendered_folder_holds_together(rendered: Path) -> None:
    dataset = open_dataset("a2d2", rendered)
    assert is_synthetic(dataset)
    assert len(dataset) == 2
    assert places_of(dataset, dataset.frames) == [5, 6]  # the seeds of the run
    with pytest.raises(InputError, match="a2d2 train is empty"):
        open_dataset("a2d2", rendered, "train")
    held = right = 0
    for frame in dataset.frames:
        camera, sweep = frame.camera, frame.lidars["front_center"][0]
        labels, points, point_labels = camera.labels, sweep.points, sweep.labels
        assert labels is not None
        assert point_labels is not None
        # Projected by the calibration, each point has the label of its pixel.
        from_lidar = np.linalg.inv(camera.ego_from_camera) @ sweep.ego_from_lidar  # type: ignore[operator]
        local = points[:, :3].astype(float) @ from_lidar[:3, :3].T + from_lidar[:3, 3]
        pixels = local @ camera.intrinsics.T  # type: ignore[union-attr]
        column, row = np.floor(pixels[:, :2].T / pixels[:, 2] + 0.5).astype(int)
        inside = (column >= 0) & (row >= 0) & (column < labels.shape[1]) & (row < labels.shape[0])
        same = labels[row[inside], column[inside]] == point_labels[inside]
        assert inside.mean() > 0.99
        assert same.mean() > 0.99  # float32 points may fall on the other side of a pixel's border
        # Points in the box of a car are on a car, but for what stands before it.
        world = points[:, :3].astype(float) @ sweep.ego_from_lidar[:3, :3].T + sweep.ego_from_lidar[:3, 3]  # type: ignore[index]
        for each in frame.boxes or ():
            if each.kind == "Car":
                c, s = np.cos(each.yaw), np.sin(each.yaw)
                at = (world - each.center) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
                on = (np.abs(at) <= each.size / 2 - [0, 0, 0.2]).all(1)
                held += int(on.sum())
                right += int((point_labels[on] == 0).sum())
    assert held > 300
    assert right > 0.9 * held


@pytest.mark.real
@needs_real
def test_the_real_calibration_bends_as_opencv_does() -> None:
    """Columns and rows that OpenCV's initUndistortRectifyMap gives for three pixels of two cameras."""
    cameras = read_cameras(REAL / "cams_lidars.json")
    expected = {
        "front_center": [(40.041176, 60.413792), (1792.723388, 131.548599), (1896.346313, 1162.035889)],
        "rear_center": [(216.411652, 140.804474), (1653.792236, 174.504791), (1716.755737, 1083.652222)],
    }
    for name, pixels in expected.items():
        camera = cameras[name]
        fx, fy, cx, cy = camera.focal
        for (row, column), (x, y) in zip(((0, 0), (100, 1800), (1207, 1919)), pixels, strict=True):
            found = camera.raw_pixels(np.array((column - cx) / fx), np.array((row - cy) / fy))
            np.testing.assert_allclose(found, (x, y), atol=1e-3)  # OpenCV's are float32


@pytest.mark.real
@needs_real
def test_the_real_files() -> None:
    dataset = open_dataset("a2d2", REAL, "all")
    assert len(dataset) == 4
    listed = json.loads((REAL / "camera_lidar_semantic/class_list.json").read_text())
    assert {int(color[1:], 16): name for color, name in listed.items()} == {v: k for k, v in WRITTEN.items()}
    with_image = [frame for frame in dataset.frames if frame.cameras]
    for frame in with_image:
        labels = frame.camera.labels
        assert labels is not None
        assert labels.shape == frame.camera.image.shape[:2] == (1208, 1920)
        names = np.array([*dataset.classes.names, *[""] * 221])
        assert set(names[labels[800:900, 600:1300].ravel()]) & {"RD normal street", "Solid line", "Dashed line"}
    (frame,) = [frame for frame in dataset.frames if frame.lidars]
    sweep = frame.lidars["front_center"][0]
    points = sweep.points
    assert points.shape == (8196, 4)
    # The projection gives the rows and columns that the file states itself.
    (path,) = REAL.rglob("*.npz")
    with np.load(path) as stated:
        rows, columns = stated["row"], stated["col"]
    camera = read_cameras(REAL / "cams_lidars.json")["front_center"]
    fx, fy, cx, cy = camera.focal
    x, y, z = points[:, :3].astype(float).T
    np.testing.assert_allclose(cx - fx * y / x, columns, atol=1e-3)  # the points are float32 here
    np.testing.assert_allclose(cy - fy * z / x, rows, atol=1e-3)
    # Boxes hold points, and project onto the rectangles that the file states.
    assert sweep.ego_from_lidar is not None
    world = points[:, :3].astype(float) @ sweep.ego_from_lidar[:3, :3].T + sweep.ego_from_lidar[:3, 3]
    (path,) = REAL.rglob("label3D/**/*.json")
    rectangles = [each["2d_bbox"] for each in json.loads(path.read_text()).values()]
    counts = []
    for each, rectangle in zip(frame.boxes or (), rectangles, strict=True):
        c, s = np.cos(each.yaw), np.sin(each.yaw)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        counts.append(int((np.abs((world - each.center) @ turn) <= each.size / 2).all(1).sum()))
        signs = np.array([[a, b, d] for a in (-1, 1) for b in (-1, 1) for d in (-1, 1)])
        corners = signs * each.size / 2 @ turn.T + each.center
        to_view = np.linalg.inv(sweep.ego_from_lidar)
        x, y, z = (corners @ to_view[:3, :3].T + to_view[:3, 3]).T
        u, v = cx - fx * y / x, cy - fy * z / x
        np.testing.assert_allclose([u.min(), v.min(), u.max(), v.max()], rectangle, atol=6)  # the view is tilted
    assert counts == [24, 42, 32, 22]
    ground = world[(np.abs(world[:, 1]) < 4) & (world[:, 0] < 20), 2]
    assert abs(float(np.median(ground))) < 0.1


def test_a_segmenter_is_evaluated_on_the_images(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "supervised-resnet18w48-synthetic.fpn-synthetic", "--data", f"a2d2={rendered}"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    (model,) = json.loads((tmp_path / "out/metrics.json").read_text())["models"]
    found = model["results"]["a2d2"]
    assert found["class_map"] == "cityscapes to a2d2"
    assert found["groups"]["clear"]["miou"]["value"] > 0.1
    capsys.readouterr()
    add(tmp_path)
    label = next(tmp_path.rglob("*_label_*.png"))
    Image.fromarray(colors() // 2).save(label)
    words[-1] = f"a2d2={tmp_path}"
    assert main([*words, "--out", str(tmp_path / "other")]) == 2
    shown = capsys.readouterr().err
    assert "has colours that are not in class_list.json" in shown


@pytest.mark.parametrize("kind", ["kitti", "nuscenes", "semantickitti"])
def test_an_image_model_refuses_data_without_labelled_images(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / kind
    rendering = f"synthetic --layout {kind} --frames 1 --size 48x64" + (" --sweeps 0" if kind == "nuscenes" else "")
    main([*rendering.split(), "--out", str(data)])
    words = ["evaluate", "supervised-resnet18w48-synthetic.fpn-synthetic", "--data", f"{kind}={data}"]
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
