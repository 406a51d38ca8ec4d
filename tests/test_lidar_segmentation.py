"""Segmentation of sweeps: labels and scores by hand, pictures, files, and a folder in public use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_points import ENCODER, cloud, lidar_folder

import zoo
from zoo.classes import SEMANTICKITTI, ClassTable
from zoo.cli import main
from zoo.data.kitti_calibration import CHANNELS
from zoo.data.scans import read_point_labels
from zoo.data.semantickitti import LABELS
from zoo.errors import InputError
from zoo.inputs import Prepared
from zoo.inputs.points import PointsContext, PointsInput
from zoo.point_pictures import bird_view, range_view
from zoo.prediction import Segmentation3D
from zoo.tasks.segmentation3d import Segmentation3DTask

CLASSES = ClassTable("own", ("ground", "car", "tree"), ((10, 20, 30), (200, 0, 0), (0, 200, 0)))
RED, GREEN = (200, 0, 0), (0, 200, 0)


def segmenter_folder(path: Path, classes: ClassTable = CLASSES, **input_section: object) -> Path:
    """A model folder of a segmenter with random weights and a linear head."""
    architecture = {"encoder": ENCODER, "head": {"class": "zoo.heads.pointwise:PointwiseHead"}}
    return lidar_folder(
        path,
        architecture=architecture,
        task="segmentation3d",
        output={"classes": classes.to_json()},
        inputs=[{"kind": "points", "channels": ["x", "y", "z", "intensity"], **input_section}],
    )


def test_labels_and_scores_by_hand() -> None:
    points = cloud(3)
    logits = np.array([[0.0, 0.0, np.log(2)], [5, 5, 5], [-3, 4, -800]], np.float32)
    task = Segmentation3DTask(CLASSES)
    prepared = Prepared({}, PointsContext(points, ("+x", "+y", "+z")))
    prediction = task.decode({"logits": logits}, prepared)
    assert prediction.labels.tolist() == [2, 0, 1]
    np.testing.assert_allclose(prediction.scores, [1 / 2, 1 / 3, 1 / (1 + np.exp(-7))], rtol=1e-6)
    assert prediction.fractions() == {"ground": 1 / 3, "car": 1 / 3, "tree": 1 / 3}
    with pytest.raises(InputError, match=r"logits \(3, 2\), but the configuration lists 3 classes"):
        task.check({"logits": logits[:, :2]}, "x.onnx")
    with pytest.raises(InputError, match="returns labels; a segmenter of points returns logits"):
        task.check({"labels": logits}, "x.onnx")


def test_the_view_from_above() -> None:
    """A metre is two pixels; forward is up and left is left; the higher of two points is seen."""
    points = np.array([[5.2, 0.2, 0], [5.2, 0.2, 1], [-9.9, 9.9, 0], [50, 0, 0]])
    colors = np.array([RED, GREEN, RED, RED], np.uint8)
    picture = bird_view(points, colors, pixels=40, extent_m=10)
    found = {tuple(map(int, at)): tuple(map(int, picture[tuple(at)])) for at in np.argwhere(picture.max(-1) > 100)}
    assert found == {(9, 19): GREEN, (39, 0): RED}
    swapped = bird_view(points[[1, 0, 2, 3]], colors[[1, 0, 2, 3]], pixels=40, extent_m=10)
    np.testing.assert_array_equal(swapped, picture)


def test_the_view_from_the_sensor() -> None:
    """A point ahead is in the middle, one to the left at a quarter; the nearer of two is seen; no return is skipped."""
    points = np.array([[10, 0, 1], [20, 0, 2], [0, 10, -1], [0, 0, 0]], np.float64)
    colors = np.array([RED, GREEN, GREEN, (255, 255, 255)], np.uint8)
    picture = range_view(points, colors, rows=2, columns=8, row_pixels=1)
    found = {tuple(map(int, at)): tuple(map(int, picture[tuple(at)])) for at in np.argwhere(picture.max(-1) > 100)}
    assert found == {(0, 4): RED, (1, 2): GREEN}


def test_pictures_are_upright_whatever_the_axes() -> None:
    """The same street with the axes of KITTI and of nuScenes gives the same pictures."""
    kitti = cloud(500).astype(np.float64)
    nuscenes = np.column_stack([-kitti[:, 1], kitti[:, 0], kitti[:, 2]])
    labels = (np.arange(500) % 3).astype(np.uint8)
    one = Segmentation3D(labels, np.ones(500), CLASSES, kitti)
    other = Segmentation3D(labels, np.ones(500), CLASSES, nuscenes, axes=("+y", "-x", "+z"))
    for draw in (Segmentation3D.bird_view, Segmentation3D.range_view, Segmentation3D.picture):
        np.testing.assert_array_equal(np.asarray(draw(one)), np.asarray(draw(other)))


def test_prediction_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = segmenter_folder(tmp_path / "model")
    cloud(400).tofile(tmp_path / "sweep.bin")
    assert main(["predict", str(folder), str(tmp_path / "sweep.bin"), "--out", str(tmp_path / "out")]) == 0
    assert "sweep_points.png" in capsys.readouterr().out
    labels = np.fromfile(tmp_path / "out" / "sweep.label", "<u4")
    prediction = zoo.load(folder)(tmp_path / "sweep.bin")
    np.testing.assert_array_equal(labels, prediction.labels)
    summary = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert summary["number_of_points"] == 400
    assert [row["name"] for row in summary["classes"]] == list(CLASSES.names)
    counted = {name: np.count_nonzero(labels == i) / 400 for i, name in enumerate(CLASSES.names)}
    assert summary["fractions"] == {name: share for name, share in counted.items() if share}
    with Image.open(tmp_path / "out" / "sweep_points.png") as picture:
        assert picture.width >= 1024


def test_label_files_have_the_ids_of_the_data_set(tmp_path: Path) -> None:
    """SemanticKITTI's ids, as its semantic-kitti.yaml lists them, with which the official tools read a prediction."""
    official = {
        "car": 10, "bicycle": 11, "motorcycle": 15, "truck": 18, "other-vehicle": 20, "person": 30, "bicyclist": 31,
        "motorcyclist": 32, "road": 40, "parking": 44, "sidewalk": 48, "other-ground": 49, "building": 50, "fence": 51,
        "vegetation": 70, "trunk": 71, "terrain": 72, "pole": 80, "traffic-sign": 81,
    }  # fmt: skip
    labels = np.arange(19, dtype=np.uint8)
    task = Segmentation3DTask(SEMANTICKITTI)
    prediction = Segmentation3D(labels, np.ones(19), SEMANTICKITTI, cloud(19))
    content = task.files(prediction, 0.5)[".label"]
    assert [official[name] for name in SEMANTICKITTI.names] == np.frombuffer(content, "<u4").tolist()
    assert {row["name"]: row["label_id"] for row in task.summary(prediction)["classes"]} == official
    cloud(19).tofile(tmp_path / "a.bin")
    (tmp_path / "a.label").write_bytes(content)
    read = read_point_labels(tmp_path / "a.label", tmp_path / "a.bin", CHANNELS, LABELS)
    np.testing.assert_array_equal(read, labels)
    own = Segmentation3D(labels[:3], np.ones(3), CLASSES, cloud(3))
    assert np.frombuffer(Segmentation3DTask(CLASSES).files(own, 0.5)[".label"], "<u4").tolist() == [0, 1, 2]


def test_files_of_a_declared_sensor(tmp_path: Path) -> None:
    """The columns of nuScenes' files are read with --sensor, and by the ending of the name."""
    folder = segmenter_folder(tmp_path / "model")
    points = cloud(200)
    wide = np.column_stack([points, np.arange(200) % 32]).astype("<f4")
    wide.tofile(tmp_path / "a.pcd.bin")
    (wide * np.float32([1, 1, 1, 255, 1])).tofile(tmp_path / "b.bin")
    expected = zoo.load(folder)(points).labels
    for name, sensor in (("a.pcd.bin", ()), ("b.bin", ("--sensor", "nuscenes"))):
        words = ["predict", str(folder), str(tmp_path / name), "--out", str(tmp_path / "out"), *sensor]
        assert main(words) == 0
        labels = np.fromfile(tmp_path / "out" / f"{name[0]}.label", "<u4")
        assert (labels == expected).mean() > 0.99  # scaling rounds the intensities


def test_sources_with_the_same_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "none", str(tmp_path / "a.pcd.bin"), str(tmp_path / "a.bin"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "would both be written to a.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("channels: [y, x, z]", "must start with x, y, z"),
        ("channels: [x, y, z, power]", "reads 'intensity', but the sweep has x, y, z, power"),
        ("colour: red", "colour"),
        ("forward: '+x'", "forward alone does not say how the axes lie"),
        ("{forward: '+x', up: '-x'}", "must be different axes"),
        ("up: z", "up"),
        ("beams: 0", "beams"),
        ("[", "yaml"),
    ],
)
def test_a_wrong_sensor_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    folder = segmenter_folder(tmp_path / "model")
    cloud().tofile(tmp_path / "sweep.bin")
    (tmp_path / "sensor.yaml").write_text(text)
    words = ["predict", str(folder), str(tmp_path / "sweep.bin"), "--out", str(tmp_path / "out"), "--sensor"]
    assert main([*words, str(tmp_path / "sensor.yaml")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sensors_that_do_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = segmenter_folder(tmp_path / "model")
    cloud().tofile(tmp_path / "sweep.bin")
    words = ["predict", str(folder), str(tmp_path / "sweep.bin"), "--out", str(tmp_path / "out"), "--sensor"]
    assert main([*words, "kiti"]) == 2
    assert "expected kitti or nuscenes, or a .yaml file; closest: kitti" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_too_many_points() -> None:
    with pytest.raises(InputError, match="50,000,000 points; at most 10,000,000"):
        PointsInput().read(np.broadcast_to(np.float32(0), (50_000_000, 4)))
