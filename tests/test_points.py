"""The points input: sources, columns by name, sweeps run together, and a folder of a lidar encoder in public use."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_model_folder import seal, write_safetensors

import zoo
from zoo.cli import main
from zoo.engines import EngineSpec, TensorSpec
from zoo.errors import InputError, SensorWarning
from zoo.folder.architecture import build
from zoo.folder.card import render_card
from zoo.folder.model_folder import ModelFolder
from zoo.frame import CameraFrame, Frame, SensorFacts, Sweep
from zoo.inputs import input_from_json
from zoo.inputs.points import PointsInput, Source, point_tensors
from zoo.inputs.range_image import RangeImageInput
from zoo.tasks import task_class

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
ENCODER = {
    "class": "zoo.encoders.minkunet:MinkUNet",
    "arguments": {"layers": [1] * 8, "width": 8, "voxel_size": 0.5},
}


def cloud(points: int = 60, seed: int = 0) -> np.ndarray:
    """`(points, 4)` float32: x, y, z, intensity."""
    generator = np.random.default_rng(seed)
    xyz = generator.normal(size=(points, 3)) * (3, 3, 1)
    return np.column_stack([xyz, generator.random(points)]).astype(np.float32)


def frame(**lidars: tuple[Sweep, ...]) -> Frame:
    return Frame(id="f", lidars=lidars)


def lidar_folder(path: Path, encoder: dict[str, Any] = ENCODER, **changes: Any) -> Path:
    """A model folder of a bare encoder with random weights."""
    path.mkdir()
    torch.manual_seed(0)
    architecture = changes.get("architecture", {"encoder": encoder})
    classes = changes.get("output", {}).get("classes", {"names": ()})["names"]
    state = build(architecture, len(classes) or None).state_dict()
    write_safetensors(path / "w.safetensors", {name: value.numpy() for name, value in state.items()})
    sha256 = hashlib.sha256((path / "w.safetensors").read_bytes()).hexdigest()
    config = {
        "format": 1,
        "name": path.name,
        "description": "A lidar encoder",
        "task": "features",
        "modality": "lidar",
        "architecture": architecture,
        "inputs": [{"kind": "points", "channels": ["x", "y", "z", "intensity"]}],
        "parameters": 1,
        "licence": {"weights": "Apache-2.0"},
        "provenance": {},
        "artefacts": [{"file": "w.safetensors", "engine": "torch", "precision": "fp32", "sha256": sha256}],
        **changes,
    }
    (path / "config.json").write_text(json.dumps(config))
    seal(path)
    return path


# --- sources ----------------------------------------------------------------------------------------------------------


def test_every_source_gives_the_same_points(tmp_path: Path) -> None:
    points = cloud()
    (tmp_path / "a.bin").write_bytes(points.astype("<f4").tobytes())
    np.save(tmp_path / "a.npy", points)
    np.save(tmp_path / "columns.npy", np.asfortranarray(points.astype(np.float64)))
    newest, older = Sweep(points_source=points), Sweep(points_source=lambda: cloud(seed=1))
    reader = PointsInput()
    for source in (
        points,
        points.astype(np.float64),
        tmp_path / "a.bin",
        str(tmp_path / "a.bin"),
        tmp_path / "a.npy",
        tmp_path / "columns.npy",
        newest,
        frame(top=(newest, older)),
    ):
        read = reader.read(source)
        assert read.dtype == np.float32
        assert read.flags.writeable
        np.testing.assert_array_equal(read, points)


def test_columns_of_a_sweep_are_picked_by_name() -> None:
    points = cloud()
    rings = np.arange(len(points)) % 5
    wide = np.column_stack([points[:, 3], points[:, 2], rings, points[:, 0], points[:, 1]]).astype(np.float32)
    sweep = Sweep(points_source=wide, channels=("intensity", "z", "ring", "x", "y"))
    np.testing.assert_array_equal(PointsInput().read(sweep), points)
    found = PointsInput(channels=("x", "y", "z", "ring")).read(frame(top=(sweep,)))
    np.testing.assert_array_equal(found, np.column_stack([points[:, :3], rings]))
    with pytest.raises(InputError, match="reads 'time_s', but the sweep has intensity, z, ring, x, y"):
        PointsInput(channels=("x", "y", "z", "time_s")).read(sweep)


def changed(row: int, column: int, value: float) -> np.ndarray:
    points = cloud().astype(np.float64)
    points[row, column] = value
    return points


SWEEP = Sweep(points_source=cloud())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, r"expected a \.bin or \.npy file, an array \(N, 4\), a Sweep or a Frame, got int"),
        ("sweep.pcd", "sweep.pcd does not exist"),
        ("missing.bin", "missing.bin does not exist"),
        (
            cloud()[:, :3],
            r"expected points \(N, 4\) of floats with the columns x, y, z, intensity, got \(60, 3\) float32",
        ),
        (cloud()[0], r"got \(4,\) float32"),
        (np.ones((5, 4), np.int64), r"got \(5, 4\) int64"),
        (np.zeros((0, 4), np.float32), "the sweep has no points"),
        (changed(7, 1, np.nan), "y of point 7 is nan; drop points"),
        (changed(59, 3, -np.inf), "intensity of point 59 is -inf"),
        (changed(0, 3, 1e39), "intensity of point 0 is inf"),  # beyond float32
        (changed(3, 3, 255), "intensity runs from .* to 255, expected 0 to 1; scale it"),
        (changed(3, 3, -0.5), "intensity runs from -0.5 to"),
        (changed(4, 0, 1e20), r"x of point 4 is 1e\+20; expected metres.*at most 10,000. Drop such points \(1 of 60\)"),
        (changed(4, 2, -10_001), "z of point 4 is -10001"),
        (Sweep(points_source=cloud()[:, :3]), r"points \(60, 3\) for the channels x, y, z, intensity"),
        (frame(), r"frame f has 0 lidars \(none\), expected one"),
        (frame(top=(SWEEP,), left=(SWEEP,)), r"has 2 lidars \(top, left\), expected one; pass frame.lidars"),
        (frame(top=()), "frame f has no sweep of lidar top"),
    ],
)
def test_sources_that_are_refused(source: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        PointsInput().read(source)


HUGE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999, 4), }\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"\0" * 30, "has 30 bytes, which is not a multiple of 16.*x, y, z, intensity"),
        ("a.bin", b"", "no points"),
        # Eight points of x, y, z, intensity 0 to 255, ring: 160 bytes are also ten rows of four columns.
        ("a.bin", np.arange(40, dtype="<f4").tobytes(), "intensity runs from 3 to 39.*check that the columns are x, y"),
        ("a.npy", b"not an array at all", "a.npy is not a usable npy array"),
        ("a.npy", b"\x93NUMPY\x01\x00", "a.npy is not a usable npy array"),
        (
            "a.npy",
            b"\x93NUMPY\x01\x00" + len(HUGE).to_bytes(2, "little") + HUGE,
            "but its shape needs 159,999,999,999,984",
        ),
    ],
)
def test_damaged_files_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        PointsInput().read(tmp_path / name)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InputError, match="does not hold plain numbers"):
        PointsInput().read(tmp_path / "a.npy")
    (tmp_path / "b.bin").mkdir()
    with pytest.raises(InputError, match="is a folder; a regular file was expected"):
        PointsInput().read(tmp_path / "b.bin")


def test_errors_name_the_source(tmp_path: Path) -> None:
    """Every complaint about points says in which file they are."""
    bad = {
        "not-finite": changed(7, 1, np.nan),
        "empty": np.zeros((0, 4)),
        "far": changed(3, 2, 1e6),
        "intensity": changed(3, 3, 255),
        "columns": cloud()[:, :3],
    }
    for name, points in bad.items():
        np.save(tmp_path / f"{name}.npy", points.astype(np.float32))
        with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}/{name}.npy"):
            PointsInput().read(tmp_path / f"{name}.npy")
    declared = PointsInput(source=Source(channels=("x", "y", "z", "power")))
    with pytest.raises(InputError, match=r"far.npy: the model reads 'intensity', but the sweep has x, y, z, power"):
        declared.read(tmp_path / "far.npy")
    wrong = Frame(id="f7", lidars={"top": (Sweep(points_source=changed(7, 1, np.nan)),)})
    with pytest.raises(InputError, match=r"^frame f7: y of point 7 is nan"):
        PointsInput().read(wrong)


def test_a_sweep_without_intensities_gets_zeros(tmp_path: Path) -> None:
    points = cloud()
    bare = points[:, :3].copy()
    bare.tofile(tmp_path / "a.bin")
    np.savez(tmp_path / "a.npz", points=bare)
    ringed = Sweep(points_source=np.column_stack([np.zeros(60), bare]), channels=("ring", "x", "y", "z"))
    expected = np.column_stack([bare, np.zeros(60)])
    for source, declared in (
        (Sweep(points_source=bare, channels=("x", "y", "z")), None),
        (ringed, None),
        (tmp_path / "a.npz", None),
        (tmp_path / "a.bin", ("x", "y", "z")),
        (bare, ("x", "y", "z")),
    ):
        with pytest.warns(SensorWarning, match=r"has no intensities, only .*expect more errors"):
            found = PointsInput(source=Source(channels=declared)).read(source)
        np.testing.assert_array_equal(found, expected)


def test_endings_in_capitals(tmp_path: Path) -> None:
    points = cloud()
    np.save(tmp_path / "a.npy", points)
    (tmp_path / "a.npy").rename(tmp_path / "A.NPY")
    np.testing.assert_array_equal(PointsInput().read(tmp_path / "A.NPY"), points)
    np.column_stack([points, np.zeros(60)]).astype("<f4").tofile(tmp_path / "B.PCD.BIN")
    np.testing.assert_array_equal(PointsInput().read(tmp_path / "B.PCD.BIN"), points)


def test_a_declared_sensor_for_a_model_that_states_none() -> None:
    """Intensities are scaled, the pictures get the declared axes, and a warning says that the points are not turned."""
    points = cloud(500)
    raw = points * np.float32([1, 1, 1, 255])
    facts = SensorFacts(forward="+y", left="-x", up="+z", intensity_scale="0-255", height_m=1.84)
    for reader in (
        PointsInput(source=Source(sensor=facts)),
        RangeImageInput(points=PointsInput(source=Source(sensor=facts))),
    ):
        with pytest.warns(SensorWarning, match="does not say with which sensor it was trained") as caught:
            found = reader.read(raw)
        assert len(caught) == 1
        np.testing.assert_allclose(found, points, rtol=1e-6)
        assert reader.prepare(found).context.axes == ("+y", "-x", "+z")
    with pytest.warns(SensorWarning), pytest.raises(InputError, match="0 to 255, but none exceeds"):
        PointsInput(source=Source(sensor=facts)).read(points)


# --- configuration and engine -----------------------------------------------------------------------------------------


def test_the_section_and_the_contract_go_there_and_back() -> None:
    for channels in (("x", "y", "z"), ("x", "y", "z", "intensity", "ring", "time_s")):
        points = PointsInput(channels=channels)
        assert input_from_json(json.loads(json.dumps(points.to_json()))) == points
        assert PointsInput.from_contract(points.contract({})) == points
    assert input_from_json({"kind": "points"}) == PointsInput()
    for section, message in (
        ({"channels": ["x", "y", "z", "reflectance"]}, r"channels\[3\] is 'reflectance'"),
        ({"channels": ["z", "y", "x"]}, "must start with x, y, z"),
        ({"channels": ["x", "y", "z", "z"]}, "channels"),
        ({"chanels": []}, "unknown key 'chanels'; closest: channels"),
    ):
        with pytest.raises(InputError, match=message):
            input_from_json({"kind": "points", **section})


def test_tensors_keep_the_names_of_their_columns() -> None:
    points, batch_index = point_tensors(("x", "y", "z", "ring"))
    assert points.shape == (None, 4)
    assert TensorSpec.from_json(json.loads(json.dumps(points.to_json()))) == points
    assert "columns" not in batch_index.to_json()


@dataclasses.dataclass
class Sums:
    """An engine that adds the columns of each point and a thousand times the number of its sample."""

    spec: Any = None
    rows: int | None = None

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert arrays["batch_index"].dtype == np.int64
        total = arrays["points"].sum(1) + 1000 * arrays["batch_index"]
        return {"level0": total[: self.rows, None]}


def test_sweeps_of_different_lengths_run_as_one_batch() -> None:
    reader = PointsInput()
    clouds = [cloud(5), cloud(1, seed=1), cloud(12, seed=2)]
    prepared = [reader.prepare(reader.read(each)) for each in clouds]
    found = reader.run_together(Sums(), prepared)  # type: ignore[arg-type]
    for number, (each, outputs) in enumerate(zip(clouds, found, strict=True)):
        np.testing.assert_allclose(outputs["level0"], each.sum(1, keepdims=True) + 1000 * number, rtol=1e-6)
    np.testing.assert_allclose(reader.run(Sums(), prepared[2])["level0"], clouds[2].sum(1, keepdims=True))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="gives 4 rows of level0 for 18 points"):
        reader.run_together(Sums(rows=4), prepared)  # type: ignore[arg-type]


def test_a_file_with_other_columns_is_refused() -> None:
    reader = PointsInput()

    def spec(*tensors: TensorSpec) -> EngineSpec:
        return EngineSpec("torch", "cpu", "fp32", tensors, ())

    reader.check(spec(*point_tensors(("x", "y", "z", "intensity"))), (), "it")
    with pytest.raises(
        InputError, match="it takes points with the columns x, y, z, ring, but the input has x, y, z, int"
    ):
        reader.check(spec(*point_tensors(("x", "y", "z", "ring"))), (), "it")
    with pytest.raises(InputError, match="it takes image; a model for points takes points and batch_index"):
        reader.check(spec(TensorSpec("image", "float32", (None, 3, None, None))), (), "it")


# --- a folder ---------------------------------------------------------------------------------------------------------


def test_a_lidar_encoder_gives_a_feature_per_point(tmp_path: Path) -> None:
    folder = lidar_folder(tmp_path / "lidar")
    points = cloud(200)
    predictor = zoo.load(folder)
    assert predictor.engine.spec.engine == "torch"
    features = predictor(Frame(id="f", lidars={"top": (Sweep(points_source=points),)}))
    (level,) = features.levels
    assert level.shape == (200, 24)
    with torch.no_grad():
        (expected,) = predictor.module(torch.from_numpy(points), torch.zeros(200, dtype=torch.int64))
    np.testing.assert_array_equal(level, expected.numpy())
    half = zoo.load(folder, precision="bf16")(points).levels[0]
    assert 0 < np.abs(half - level).max() < 0.05 * np.abs(level).max()
    with pytest.raises(InputError, match="lidar reads points, which has no setting inference; it has channels"):
        zoo.load(folder, input_settings={"inference": {"mode": "whole"}})


def test_batches_of_sweeps_agree_with_single_ones(tmp_path: Path) -> None:
    predictor = zoo.load(lidar_folder(tmp_path / "lidar"))
    prepared = [predictor.prepare(cloud(count, seed=count)) for count in (40, 3, 90)]
    together = predictor.input.run_together(predictor.engine, prepared)
    for each, outputs in zip(prepared, together, strict=True):
        alone = predictor.infer(each)[1]
        results = [(found, predictor.finish(found, each)) for found in (alone, outputs)]
        agreement = task_class("features").from_json({}).agreement(*results)
        assert agreement.same == agreement.elements == len(each.context.points)
        assert agreement.max_error < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": [{"kind": "image"}]}, "takes points, batch_index; a model for images takes one input called image"),
        (
            {"inputs": [{"kind": "points", "channels": ["x", "y", "z"]}]},
            "columns x, y, z, intensity, but the input has",
        ),
        ({"output": {"levels": 2}}, "level0, level1"),
    ],
)
def test_folders_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        zoo.load(lidar_folder(tmp_path / "lidar", **changes))


def test_pixels_cannot_be_labelled_from_points(tmp_path: Path) -> None:
    classes = {"taxonomy": "t", "names": ["a"] * 1, "colors": [[0, 0, 0]]}
    folder = lidar_folder(tmp_path / "lidar", task="segmentation2d", output={"classes": classes})
    with pytest.raises(InputError, match="segmentation2d labels the pixels of images"):
        zoo.load(folder)(cloud(1))


def test_commands_on_a_lidar_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = lidar_folder(tmp_path / "lidar")
    cloud().tofile(tmp_path / "a.bin")
    assert main(["info", str(folder)]) == 0
    assert "modality: lidar" in capsys.readouterr().out
    for words, message in (
        (
            ["predict", str(folder), str(tmp_path / "a.bin"), "--out", str(tmp_path / "p"), "--whole"],
            "no setting infer",
        ),
        (["export", str(folder), "--out", str(tmp_path / "o")], "reads points; models that read points cannot be"),
        (["evaluate", str(folder), "--data", "synthetic", "--out", str(tmp_path / "e")], "features"),
        (["benchmark", str(folder), "--size", "4x4"], "a sweep has no height and width"),
        (["benchmark", str(folder), "--whole"], "no setting inference"),
    ):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("zoo: error: ")
        assert error.count("\n") == 1
        assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "lidar"]


def test_predict_writes_the_features_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = lidar_folder(tmp_path / "lidar")
    cloud().tofile(tmp_path / "sweep.bin")
    out = tmp_path / "out"
    assert main(["predict", str(folder), str(tmp_path / "sweep.bin"), "--out", str(out)]) == 0
    assert "level0 60 x 24" in capsys.readouterr().out
    with np.load(out / "sweep.npz") as levels:
        np.testing.assert_array_equal(levels["level0"], zoo.load(folder)(cloud()).levels[0])
    summary = json.loads((out / "sweep.json").read_text())
    assert summary["points"] == str(tmp_path / "sweep.bin")
    assert summary["settings"]["inputs"][0]["channels"] == ["x", "y", "z", "intensity"]


def test_a_lidar_encoder_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = lidar_folder(tmp_path / "lidar")
    cloud().tofile(tmp_path / "sweep.bin")
    words = [
        "benchmark",
        str(folder),
        "--runs",
        "2",
        "--warmup",
        "0",
        "--out",
        str(tmp_path / "out"),
        "--record",
        "--source",
    ]
    assert main([*words, str(tmp_path / "sweep.bin")]) == 0
    assert "points 60, 2 runs per engine" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out" / "benchmark.json").read_text())["rows"]
    assert row["sample"] == {"kind": "points", "size": [60], "plural": "sweeps"}
    assert row["latency_ms"]["p50"] > 0
    assert row["samples_per_s"] > 0
    assert ModelFolder.open(folder).metrics() == [row]
    assert main(["info", str(folder)]) == 0
    assert "points 60: p50" in capsys.readouterr().out


def test_the_example_sweep_is_a_street() -> None:
    reader = PointsInput(channels=("x", "y", "z", "intensity", "ring"))
    (example,) = reader.examples()
    x, y, z, _, ring = reader.read(example).T
    assert len(x) > 50_000
    assert z.min() == pytest.approx(-1.73, abs=1e-4)  # nothing lies below the ground
    assert np.abs(y).max() == pytest.approx(8, abs=1e-4)  # or behind the walls
    assert np.hypot(np.hypot(x, y), z).max() < 80
    assert (np.isclose(z, -1.73) | np.isclose(np.abs(y), 8)).all()
    np.testing.assert_allclose(np.degrees(np.arctan2(z, np.hypot(x, y))), -24.8 + ring * 26.8 / 63, atol=1e-3)


def test_the_card_of_a_lidar_encoder(tmp_path: Path) -> None:
    folder = lidar_folder(tmp_path / "lidar")
    card = render_card(json.loads((folder / "config.json").read_text()), [])
    assert 'zoo.load("lidar")("sweep.bin")' in card
    assert "image" not in card.partition("## Files")[0]


def test_the_catalogued_encoder_is_untrained_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    name = "supervised-minkunet34-semantickitti"
    assert main(["info", name]) == 0
    shown = capsys.readouterr().out
    assert "modality: lidar" in shown
    assert "released: False" in shown
    with pytest.raises(InputError, match=f"weights of {name} are not released; recipe: .*not part of this version yet"):
        zoo.load(name)


@pytest.mark.real
def test_real_sweeps(tmp_path: Path) -> None:
    """KITTI's files are taken as they are; nuScenes' have five columns and intensity to 255, and are refused."""
    kitti = sorted((REAL / "kitti" / "training" / "velodyne").glob("*.bin"))
    nuscenes = sorted((REAL / "nuscenes" / "samples" / "LIDAR_TOP").glob("*.bin"))
    if not kitti or not nuscenes:
        pytest.skip(f"no KITTI and nuScenes sweeps in {REAL}")
    predictor = zoo.load(lidar_folder(tmp_path / "lidar"))
    for path in kitti:
        raw = np.fromfile(path, "<f4").reshape(-1, 4)
        np.testing.assert_array_equal(predictor.input.read(path), raw)
    assert predictor(kitti[0]).levels[0].shape == (len(np.fromfile(kitti[0], "<f4")) // 4, 24)
    for path in nuscenes:
        with pytest.raises(InputError, match=r"not a multiple of 16|intensity runs from"):
            predictor(path)
        points = np.fromfile(path, "<f4").reshape(-1, 5) / np.array([1, 1, 1, 255, 1], np.float32)
        sweep = Sweep(points_source=points, channels=("x", "y", "z", "intensity", "ring"))
        assert np.isfinite(predictor(sweep).levels[0]).all()


def test_a_camera_frame_has_no_points() -> None:
    camera = CameraFrame(image_source=np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="has 0 lidars"):
        PointsInput().read(Frame(id="f", cameras={"front": camera}))
