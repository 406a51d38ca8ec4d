"""The range-image input and network: pixels by hand, arrays against a loop over points, export, runtimes, bad input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from test_points import lidar_folder

import zoo
from zoo.classes import ClassTable
from zoo.cli import main
from zoo.encoders.range_unet import RangeUNet
from zoo.engines.onnx_file import metadata
from zoo.errors import InputError
from zoo.folder.card import render_card
from zoo.folder.catalogue import entries
from zoo.folder.model_folder import ModelFolder
from zoo.frame import SensorFacts, Sweep
from zoo.inputs import input_from_json
from zoo.inputs.points import PointsInput
from zoo.inputs.range_image import RangeImageInput
from zoo.inputs.range_projection import Projection, nearest_in_pixel

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
CLASSES = ClassTable("own", ("ground", "car", "tree"), ((10, 20, 30), (200, 0, 0), (0, 200, 0)))
PROJECTION = {"rows": 8, "columns": 32, "by": "fov", "fov_deg": [-25.0, 3.0]}
ENCODER = {
    "class": "zoo.encoders.range_unet:RangeUNet",
    "arguments": {
        "rows": 8,
        "columns": 32,
        "stem_width": 8,
        "levels": [0, 1],
        "options": {"channels": [8, 8, 8, 8]},
        "width": 8,
        "out_width": 8,
    },
}
KITTI_AXES = SensorFacts(forward="+x", left="+y", up="+z")
SMALL = Projection(rows=4, columns=8, fov_deg=(-20.0, 20.0))


def sweep(count: int = 500, seed: int = 0) -> np.ndarray:
    """`(count, 4)`: x, y, z, intensity in all directions, up to 60 m away."""
    generator = np.random.default_rng(seed)
    azimuth, elevation = generator.uniform(-np.pi, np.pi, count), np.radians(generator.uniform(-28, 5, count))
    range_m = generator.uniform(2, 60, count)
    flat = range_m * np.cos(elevation)
    xyz = [flat * np.cos(azimuth), flat * np.sin(azimuth), range_m * np.sin(elevation)]
    return np.column_stack([*xyz, generator.random(count)]).astype(np.float32)


def range_folder(path: Path, encoder: dict[str, Any] = ENCODER, **section: Any) -> Path:
    """A model folder of a small segmenter of range images with random weights."""
    return lidar_folder(
        path,
        architecture={"encoder": encoder, "head": {"class": "zoo.heads.pointwise:PointwiseHead"}},
        task="segmentation3d",
        output={"classes": CLASSES.to_json()},
        inputs=[{"kind": "range_image", "projection": PROJECTION, **section}],
    )


# --- pixels -----------------------------------------------------------------------------------------------------------


def pixels(projection: Projection, points: list[tuple[float, float, float]], ring: Any = None) -> list[list[int]]:
    columns = np.array(points, np.float32).T
    found = projection.pixels((columns[0], columns[1], columns[2]), None if ring is None else np.array(ring, float))
    return [list(divmod(int(value), projection.columns)) for value in found]


def test_columns_by_hand() -> None:
    """Eight columns of 45 degrees: straight back is the first, left at a quarter, ahead in the middle."""
    ahead, left, right = (10, 0, 0), (0, 10, 0), (0, -10, 0)
    back_left, back_right = (-10, 1e-3, 0), (-10, -1e-3, 0)
    found = [column for _, column in pixels(SMALL, [ahead, left, right, back_left, back_right])]
    assert found == [4, 2, 6, 0, 7]
    # Exactly behind, the angle is +180 or -180 degrees by the sign of zero: column 0 both times.
    assert [column for _, column in pixels(SMALL, [(-1, 0.0, 0), (-1, -0.0, 0)])] == [0, 0]


def test_rows_by_hand() -> None:
    """Four rows of 10 degrees from +20 to -20; what lies outside goes to the first and the last one."""
    elevations = (19, 11, 9, 1, -1, -9, -11, -19, 45, -90, 90)
    points = [(math.cos(math.radians(e)), 0.0, math.sin(math.radians(e))) for e in elevations]
    assert [row for row, _ in pixels(SMALL, points)] == [0, 0, 1, 1, 2, 2, 3, 3, 0, 3, 0]
    # The nearest of 10, 2, 0 and -10 degrees: the borders are at 6, 1 and -5.
    table = Projection(rows=4, columns=8, by="elevations", elevations_deg=(10.0, 2.0, 0.0, -10.0))
    points = [(math.cos(math.radians(e)), 0.0, math.sin(math.radians(e))) for e in (30, 6.1, 5.9, 1.1, 0.9, -4.9, -5.1)]
    assert [row for row, _ in pixels(table, points)] == [0, 0, 1, 1, 2, 2, 3]
    rings = Projection(rows=4, columns=8, by="ring")
    assert [row for row, _ in pixels(rings, [(1, 0, 0)] * 4, ring=[0, 1, 3, 2])] == [3, 2, 0, 1]
    for wrong in ([0, 4], [-1, 0], [0.5, 1]):
        with pytest.raises(InputError, match=r"ring runs from .* expected whole numbers from 0 to 3"):
            pixels(rings, [(1, 0, 0)] * 2, ring=wrong)


def test_a_point_at_the_sensor_has_a_pixel() -> None:
    (found,) = pixels(SMALL, [(0.0, 0.0, 0.0)])
    assert 0 <= found[0] < 4
    assert 0 <= found[1] < 8


def test_the_nearest_point_of_a_pixel() -> None:
    pixel = np.array([3, 0, 3, 3, 5, 5], np.int64)
    range_m = np.array([7.0, 0.0, 2.5, 2.5, 80.0, 3.0], np.float32)
    assert nearest_in_pixel(pixel, range_m, 6).tolist() == [1, -1, -1, 2, -1, 5]


AXES = {
    "kitti": (("+x", "+y", "+z"), lambda forward, left, up: (forward, left, up)),
    "nuscenes": (("+y", "-x", "+z"), lambda forward, left, up: (-left, forward, up)),
    "camera": (("+z", "-x", "-y"), lambda forward, left, up: (-left, -up, forward)),
}


@pytest.mark.parametrize("axes", AXES)
def test_arrays_against_a_loop_over_points(axes: str) -> None:
    """Every array worked out point by point with Python's own functions, for sensors with other axes too."""
    names, place = AXES[axes]
    points = sweep(400)
    points[:, :3] = np.column_stack(place(points[:, 0].copy(), points[:, 1].copy(), points[:, 2].copy()))
    facts = SensorFacts(forward=names[0], left=names[1], up=names[2])  # type: ignore[arg-type]
    reader = RangeImageInput(
        points=PointsInput(sensor=facts),
        projection=Projection(rows=8, columns=32),
        features=("z", "range", "intensity"),
        mean=(1.0, 10.0, 0.5),
        std=(2.0, 5.0, 0.25),
    )
    arrays = reader.prepare(points).arrays
    nearest: dict[tuple[int, int], int] = {}
    where, ranges = [], []
    for i, row in enumerate(points.astype(float)):
        value = {"+": 1, "-": -1}
        forward, left, up = (value[name[0]] * row["xyz".index(name[1])] for name in names)
        column = math.floor((0.5 - math.degrees(math.atan2(left, forward)) / 360) * 32) % 32
        elevation = math.degrees(math.atan2(up, math.hypot(forward, left)))
        pixel = min(max(math.floor((3 - elevation) / 28 * 8), 0), 7), column
        ranges.append(math.sqrt(sum(x * x for x in row[:3])))
        where.append(pixel)
        if pixel not in nearest or ranges[i] < ranges[nearest[pixel]]:
            nearest[pixel] = i
    assert arrays["pixel"].tolist() == [row * 32 + column for row, column in where]
    features = [[(p[2] - 1) / 2, (r - 10) / 5, (p[3] - 0.5) / 0.25] for p, r in zip(points, ranges, strict=True)]
    expected = np.zeros((4, 8, 32))
    for (row, column), i in nearest.items():
        expected[:, row, column] = [*features[i], 1]
    np.testing.assert_allclose(arrays["image"], expected, atol=1e-5)
    behind = [min(r - ranges[nearest[pixel]], 5) for r, pixel in zip(ranges, where, strict=True)]
    np.testing.assert_allclose(arrays["points"], np.column_stack([features, behind]), atol=1e-5)
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "image": "float32", "points": "float32", "pixel": "int64",
    }  # fmt: skip


# --- configuration ----------------------------------------------------------------------------------------------------


def test_one_far_point_stays_small() -> None:
    """A stray point at 9 km enters as one at 500 m; points within 500 m are as without a limit."""
    points = sweep(50)
    points[0, :3] = 9000, -9000, 9000
    points[1, :3] = 499, 0, -20
    arrays = RangeImageInput(projection=Projection(rows=8, columns=32)).prepare(points).arrays
    expected = [(500 - 12) / 12, 500 / 12, -500 / 12, 501]
    np.testing.assert_allclose(arrays["points"][0, :4], expected, rtol=1e-6)
    np.testing.assert_allclose(arrays["points"][1, 1:4], [499 / 12, 0, -19], rtol=1e-6)
    assert np.abs(arrays["image"]).max() <= 501


def test_the_section_and_the_contract_go_there_and_back() -> None:
    for section in (
        {},
        {"projection": PROJECTION},
        {"channels": ["x", "y", "z", "ring"], "projection": {"rows": 32, "by": "ring"}, "features": ["range", "z"],
         "mean": [10, 0], "std": [5, 1], "sensor": {"beams": 32, "forward": "+y", "up": "+z"}},
        {"projection": {"rows": 2, "columns": 16, "by": "elevations", "elevations_deg": [1.5, -3]}},
    ):  # fmt: skip
        made = input_from_json({"kind": "range_image", **section})
        assert input_from_json(json.loads(json.dumps(made.to_json()))) == made
        assert RangeImageInput.from_contract(json.loads(json.dumps(made.contract({})))) == made


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rows": 64}, "unknown key 'rows'"),
        ({"projection": {"rows": 0}}, "rows is 0"),
        ({"projection": {"fov_deg": [3, -25]}}, "expected the lowest elevation, then a higher one"),
        ({"projection": {"fov_deg": [-100, 3]}}, "fov_deg"),
        ({"projection": {"by": "beam"}}, "by is 'beam'"),
        (
            {"projection": {"rows": 3, "by": "elevations", "elevations_deg": [1, 2, 3]}},
            "each lower than the one before",
        ),
        ({"projection": {"rows": 3, "by": "elevations", "elevations_deg": [1]}}, "has 1 values; expected 3"),
        ({"projection": {"by": "ring"}}, "no column ring; add it to channels"),
        ({"features": ["range", "ring"], "mean": [0, 0], "std": [1, 1]}, "features name 'ring', but the points have"),
        ({"features": ["range"]}, "features need mean and std"),
        ({"features": ["range"], "mean": [0, 0], "std": [1]}, "mean has 2 values for 1 features"),
        ({"features": ["range"], "mean": [0], "std": [0]}, "std"),
    ],
)
def test_wrong_sections(section: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        input_from_json({"kind": "range_image", **section})


def test_an_input_that_does_not_fit_its_network(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes range images of 8 x 32, but the input makes 8 x 64"):
        zoo.load(range_folder(tmp_path / "a", projection={**PROJECTION, "columns": 64}))
    with pytest.raises(InputError, match="takes image with range, x, y, z, intensity, occupied, but the input makes"):
        zoo.load(range_folder(tmp_path / "b", features=["range"], mean=[1], std=[1]))
    points = lidar_folder(tmp_path / "c", architecture={"encoder": ENCODER})
    with pytest.raises(InputError, match="takes image, points, pixel; a model for points takes points"):
        zoo.load(points)
    with pytest.raises(InputError, match="range image is 8 x 30, but the strides of resnet18 go up to 4"):
        RangeUNet(rows=8, columns=30, levels=(0, 1))


# --- network and export -----------------------------------------------------------------------------------------------


def test_points_of_one_pixel_differ_by_their_own_values() -> None:
    """The one that is hidden behind the nearest gets other features, from the same pixel."""
    torch.manual_seed(0)
    net = RangeUNet(**{**ENCODER["arguments"], "levels": (0, 1)}).eval()  # type: ignore[dict-item]
    near = np.array([10.0, 0.1, 0, 0.5], np.float32)
    points = np.stack([near, near * [2, 2, 2, 1], near]).astype(np.float32)
    arrays = RangeImageInput(projection=Projection(rows=8, columns=32)).prepare(points).arrays
    assert len(set(arrays["pixel"])) == 1
    tensors = (
        torch.from_numpy(arrays["image"])[None],
        torch.from_numpy(arrays["points"]),
        torch.from_numpy(arrays["pixel"]),
    )
    with torch.no_grad():
        (features,) = net(*tensors)
        shared, _ = net.forward_intermediates(*tensors, indices=(0, 1))
    assert torch.equal(shared[0], shared[1])
    assert torch.equal(features[0], features[2])
    assert not torch.allclose(features[0], features[1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """`zoo export` of a small model for KITTI's axes."""
    root = tmp_path_factory.mktemp("range")
    sensor = {"forward": "+x", "left": "+y", "up": "+z", "intensity_scale": "0-1"}
    model = range_folder(root / "model", sensor=sensor)
    assert main(["export", str(model), "--out", str(root / "out")]) == 0
    return ModelFolder.open(root / "out")


def test_an_exported_file_takes_any_number_of_points(exported: ModelFolder, tmp_path: Path) -> None:
    row = json.loads((exported.path / "parity.json").read_text())["rows"][0]
    assert row["passed"]
    assert [part["shape"][0] for part in row["other_shapes"]] == [2]
    entry = exported.artefact("onnx")
    assert [tensor["shape"] for tensor in entry["inputs"]] == [[None, 6, 8, 32], [None, 6], [None]]
    torch_model, file = zoo.load(exported.path, engine="torch"), zoo.load(exported.path, engine="onnx")
    nearest_first = sweep(777)[np.argsort(np.linalg.norm(sweep(777)[:, :3], axis=1))]
    for count in (1, 2, 777):
        source = Sweep(points_source=nearest_first[:count], sensor=KITTI_AXES)
        expected, found = torch_model(source), file(source)
        assert found.labels.tolist() == expected.labels.tolist()
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    sweep(300).tofile(tmp_path / "sweep.bin")
    words = [
        "predict",
        str(exported.path),
        str(tmp_path / "sweep.bin"),
        "--out",
        str(tmp_path / "out"),
        "--engine",
        "onnx",
    ]
    assert main(words) == 0
    labels = np.fromfile(tmp_path / "out" / "sweep.label", "<u4")
    np.testing.assert_array_equal(labels, torch_model(sweep(300)).labels)


def test_the_exported_file_runs_without_torch(exported: ModelFolder, tmp_path: Path) -> None:
    sweep(300).tofile(tmp_path / "sweep.bin")
    words = ["predict", str(exported.path), str(tmp_path / "sweep.bin"), "--out", str(tmp_path / "out")]
    program = (
        "import sys\n"
        "for name in ('torch', 'timm', 'torchvision'):\n"
        "    sys.modules[name] = None\n"
        "from zoo.cli import main\n"
        f"sys.exit(main({words!r}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    expected = zoo.load(exported.path, engine="torch")(sweep(300)).labels
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out" / "sweep.label", "<u4"), expected)


def test_the_metadata_alone_is_enough(exported: ModelFolder) -> None:
    """A loop over points that follows the contract in the file, with onnxruntime and nothing of ours."""
    content = (exported.path / exported.artefact("onnx")["file"]).read_bytes()
    step = json.loads(metadata(content, "it")["contract"])["before"]["range_image"]
    rows, columns = step["projection"]["rows"], step["projection"]["columns"]
    bottom, top = step["projection"]["fov_deg"]
    assert step["axes"] == ["+x", "+y", "+z"]
    points = sweep(200, seed=5)
    image, values, pixel, nearest = np.zeros((1, 6, rows, columns), np.float32), [], [], {}
    for x, y, z, intensity in points.astype(float):
        known = {"range": math.sqrt(x * x + y * y + z * z), "x": x, "y": y, "z": z, "intensity": intensity}
        features = [(known[n] - m) / s for n, m, s in zip(step["features"], step["mean"], step["std"], strict=True)]
        column = math.floor((0.5 - math.degrees(math.atan2(y, x)) / 360) * columns) % columns
        elevation = math.degrees(math.atan2(z, math.hypot(x, y)))
        row = min(max(math.floor((top - elevation) / (top - bottom) * rows), 0), rows - 1)
        pixel.append(row * columns + column)
        values.append([*features, known["range"]])
        if pixel[-1] not in nearest or known["range"] < nearest[pixel[-1]]:
            nearest[pixel[-1]] = known["range"]
            image[0, :, row, column] = [*features, 1]
    for row_of, at in zip(values, pixel, strict=True):
        row_of[-1] = min(row_of[-1] - nearest[at], step["max_behind_m"])
    session = onnxruntime.InferenceSession(content)
    fed = {"image": image, "points": np.array(values, np.float32), "pixel": np.array(pixel, np.int64)}
    (logits,) = session.run(["logits"], fed)
    np.testing.assert_array_equal(logits.argmax(1), zoo.load(exported.path, engine="onnx")(points).labels)


def test_the_card_states_the_contract(exported: ModelFolder) -> None:
    card = render_card(exported.config, [])
    for each in exported.inputs[0].contract({})["before"].values():
        assert each["text"] in card


def test_fp16_and_a_batch_of_one(tmp_path: Path, exported: ModelFolder) -> None:
    model = exported.path.parent / "model"
    assert (
        main(["export", str(model), "--out", str(tmp_path / "half"), "--precision", "fp16", "--dynamic", "size"]) == 0
    )
    folder = ModelFolder.open(tmp_path / "half")
    assert folder.artefact("onnx")["inputs"][0]["shape"] == [1, 6, 8, 32]
    source, half = zoo.load(exported.path, engine="torch"), zoo.load(folder.path, engine="onnx", precision="fp16")
    assert (source(sweep(2000)).labels == half(sweep(2000)).labels).mean() > 0.99


def test_sizes_of_other_images_are_refused(tmp_path: Path, exported: ModelFolder, capsys: Any) -> None:
    model = exported.path.parent / "model"
    assert main(["export", str(model), "--out", str(tmp_path / "x"), "--size", "64x512"]) == 2
    assert "takes range images of 8 x 32 and any number of points; omit --size" in capsys.readouterr().err
    assert main(["export", str(model), "--out", str(tmp_path / "x"), "--uint8-input"]) == 2
    assert "--uint8-input is not available" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_bad_sweeps_are_refused(exported: ModelFolder, tmp_path: Path, capsys: Any) -> None:
    broken = sweep(50)
    broken[7, 1] = np.nan
    for name, content in (("nan", broken.tobytes()), ("odd", b"\0" * 30), ("empty", b"")):
        (tmp_path / f"{name}.bin").write_bytes(content)
        assert main(["predict", str(exported.path), str(tmp_path / f"{name}.bin"), "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    for message in ("y of point 7 is nan", "30 bytes, which is not a multiple of 16", "empty.bin has no points"):
        assert message in shown
    assert not (tmp_path / "out").exists()


def test_a_sweep_with_other_axes_is_turned(exported: ModelFolder) -> None:
    """Declared as nuScenes' axes, the same street gives the same labels."""
    points = sweep(600)
    turned = np.column_stack([-points[:, 1], points[:, 0], points[:, 2:]])
    model = zoo.load(exported.path, engine="onnx")
    facts = SensorFacts(forward="+y", left="-x", up="+z")
    expected = model(Sweep(points_source=points, sensor=KITTI_AXES))
    np.testing.assert_array_equal(model(Sweep(points_source=turned, sensor=facts)).labels, expected.labels)


@pytest.fixture(scope="module")
def nuscenes_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of sweeps with nuScenes' axes."""
    sensor = {"forward": "+y", "left": "-x", "up": "+z", "intensity_scale": "0-1"}
    return range_folder(tmp_path_factory.mktemp("nuscenes") / "model", sensor=sensor)


def test_files_of_another_sensor_in_the_comparison(nuscenes_model: Path, tmp_path: Path, capsys: Any) -> None:
    """`--sensor` declares the files of `--frames`; the comparison then reads five columns and bytes of intensity."""
    points = sweep(300)
    raw = np.column_stack([-points[:, 1], points[:, 0], points[:, 2], np.round(255 * points[:, 3]), np.zeros(300)])
    (tmp_path / "sweeps").mkdir()
    raw.astype("<f4").tofile(tmp_path / "sweeps" / "0.bin")
    words = ["export", str(nuscenes_model), "--frames", str(tmp_path / "sweeps"), "--out"]
    facts = "channels: [x, y, z, intensity, ring]\nforward: +y\nup: +z\nintensity_scale: 0-255\n"
    (tmp_path / "sensor.yaml").write_text(facts)
    assert main([*words, str(tmp_path / "a")]) == 2
    assert "0.bin" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "b"), "--sensor", str(tmp_path / "sensor.yaml")]) == 0
    folder = ModelFolder.open(tmp_path / "b")
    (row,) = json.loads((folder.path / "parity.json").read_text())["rows"]
    assert row["frames"] == 2
    assert "source" not in folder.config["inputs"][0]
    assert main([*words[:2], "--sensor", "nuscenes", "--out", str(tmp_path / "c")]) == 2
    assert "--sensor nuscenes describes the files in --frames, which is not given" in capsys.readouterr().err


def test_a_model_with_other_axes_gives_the_labels_of_the_turned_sweep(nuscenes_model: Path, tmp_path: Path) -> None:
    """With the same weights, a sweep turned to +y forward gives the image and the labels of the +x forward one."""
    points = sweep(600)
    turned = np.column_stack([-points[:, 1], points[:, 0], points[:, 2:]]).astype(np.float32)
    same = {"features": ["range", "z", "intensity"], "mean": [12, -1, 0.25], "std": [12, 1, 0.25]}
    encoder = {**ENCODER, "arguments": {**ENCODER["arguments"], "features": same["features"]}}  # type: ignore[dict-item]
    labels = []
    for name, cloud, forward, left in (("x", points, "+x", "+y"), ("y", turned, "+y", "-x")):
        sensor = {"forward": forward, "left": left, "up": "+z", "intensity_scale": "0-1"}
        model = zoo.load(range_folder(tmp_path / name, encoder, sensor=sensor, **same))
        facts = SensorFacts(forward=forward, left=left, up="+z")  # type: ignore[arg-type]
        labels.append(model(Sweep(points_source=cloud, sensor=facts)).labels)
    np.testing.assert_array_equal(*labels)
    assert len(set(labels[0])) > 1


@pytest.mark.parametrize("count", [1, 300_000])
def test_openvino_gives_the_same_labels(exported: ModelFolder, count: int) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    expected, found = (zoo.load(exported.path, engine=name) for name in ("onnx", "openvino"))
    (street,) = PointsInput().examples()[0].lidars["lidar"]
    points = np.concatenate([street.points] * 3)[:count]
    assert len(points) == count
    source = Sweep(points_source=points, sensor=KITTI_AXES)
    one, other = expected(source), found(source)
    assert (one.labels == other.labels).mean() > 0.9999
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_a_cloud_of_50_million_points_is_refused_before_it_is_read(
    exported: ModelFolder, tmp_path: Path, capsys: Any
) -> None:
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(50_000_000 * 16)
    assert main(["predict", str(exported.path), str(tmp_path / "huge.bin"), "--out", str(tmp_path / "out")]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "huge.bin has 50,000,000 points; at most 10,000,000 are read, so split merged sweeps" in message
    assert not (tmp_path / "out").exists()


def test_released_range_networks_are_small() -> None:
    """At most 6 MB in fp16."""
    kinds = {entry.name: entry.inputs[0]["kind"] for entry in entries().values()}
    made = [entries()[name] for name, kind in kinds.items() if kind == "range_image" and name.startswith("supervised")]
    assert made
    assert all(2 * entry.parameters <= 6_000_000 for entry in made)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
def test_the_network_of_the_catalogue_on_real_sweeps(tmp_path: Path) -> None:
    """Exported and compared on sweeps of KITTI and SemanticKITTI; those of nuScenes with the sensor declared."""
    entry = entries()["supervised-rangeunet-synthetic.pointwise-synthetic"]
    model = range_folder(tmp_path / "model", entry.architecture["encoder"], projection=entry.inputs[0]["projection"])
    sweeps = tmp_path / "sweeps"
    sweeps.mkdir()
    for i, path in enumerate(
        sorted([*REAL.glob("kitti/training/velodyne/*.bin"), *REAL.glob("semantickitti/**/*.bin")])
    ):
        (sweeps / f"{i}.bin").write_bytes(path.read_bytes())
    assert main(["export", str(model), "--out", str(tmp_path / "out"), "--frames", str(sweeps)]) == 0
    found = json.loads((tmp_path / "out" / "parity.json").read_text())["rows"][0]
    assert found["frames"] == 1 + len(list(sweeps.iterdir()))
    assert found["passed"]
    settings = {"source": {"channels": ["x", "y", "z", "intensity", "ring"], "sensor": {"intensity_scale": "0-255"}}}
    engines = [zoo.load(tmp_path / "out", engine=name, input_settings=settings) for name in ("torch", "onnx")]
    for path in sorted(REAL.glob("nuscenes/samples/LIDAR_TOP/*.bin"))[:2]:
        points = np.fromfile(path, "<f4").reshape(-1, 5)
        scaled = np.column_stack([points[:, :3], points[:, 3] / 255]).astype(np.float32)
        one, other = (engine(Sweep(points_source=scaled)) for engine in engines)
        assert (one.labels == other.labels).mean() >= 0.9999
