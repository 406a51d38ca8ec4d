"""`zoo synthetic`: official layouts read back, resuming, bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cli import main
from zoo.condition import Condition
from zoo.data import acdc, cityscapes
from zoo.data.terms import is_synthetic
from zoo.errors import InputError
from zoo.frame import frame_from_image
from zoo.synthetic import render_frame, render_scene
from zoo.synthetic.layouts import Place, Rendered
from zoo.synthetic.layouts import acdc as acdc_layout
from zoo.synthetic.scene.describe import describe

pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")

NUSCENES = ["synthetic", "--layout", "nuscenes", "--size", "36x64", "--seed", "56", "--workers", "1", "--frames", "2"]
NUSCENES += ["--scenes", "1", "--sweeps", "1", "--conditions", "rain", "--severity", "4"]
COMMON = ["synthetic", "--size", "48x80", "--seed", "56", "--workers", "1"]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def acdc_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("acdc") / "data"
    assert (
        main([*COMMON, "--layout", "acdc", "--frames", "5", "--scenes", "1", "--out", str(out), "--severity", "5"]) == 0
    )
    return out


@pytest.fixture(scope="module")
def cityscapes_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cityscapes") / "data"
    assert (
        main(
            [*COMMON, "--layout", "cityscapes", "--frames", "3", "--scenes", "2", "--out", str(out), "--split", "train"]
        )
        == 0
    )
    return out


def test_cityscapes_files(cityscapes_folder: Path):
    # 3 frames of 2 places: places 0 and 1 have 2 and 1. Names are {city}_{sequence}_{frame}.
    names = [f"synthetic_{s:06d}_{k:06d}" for s, k in ((0, 0), (0, 1), (1, 0))]
    images = cityscapes_folder / "leftImg8bit/train/synthetic"
    assert sorted(path.name for path in images.iterdir()) == [f"{name}_leftImg8bit.png" for name in names]
    labels = cityscapes_folder / "gtFine/train/synthetic"
    kinds = ("color", "instanceIds", "labelIds", "labelTrainIds")
    assert sorted(path.name for path in labels.iterdir()) == sorted(
        f"{n}_gtFine_{kind}.png" for n in names for kind in kinds
    )
    # Modes and values, with Pillow alone: 8-bit ids 0..33, 16-bit id * 1000 + k, RGBA colours of the official table.
    opened = {kind: Image.open(labels / f"{names[0]}_gtFine_{kind}.png") for kind in kinds}
    assert {kind: image.mode for kind, image in opened.items()} == {
        "color": "RGBA",
        "instanceIds": "I;16",
        "labelIds": "L",
        "labelTrainIds": "L",
    }
    assert {image.size for image in opened.values()} == {(80, 48)}
    ids, instances = np.array(opened["labelIds"]), np.array(opened["instanceIds"]).astype(int)
    assert (ids == 7).any()
    assert ids.max() <= 33
    np.testing.assert_array_equal(np.where(instances < 1000, instances, instances // 1000), ids)
    np.testing.assert_array_equal(np.array(opened["labelTrainIds"])[ids == 7], 0)
    assert (np.array(opened["color"])[ids == 7] == (128, 64, 128, 255)).all()


def test_cityscapes_is_read_back(cityscapes_folder: Path):
    data = cityscapes.read(cityscapes_folder, "train")
    assert [frame.scene for frame in data.frames] == ["synthetic_000000", "synthetic_000000", "synthetic_000001"]
    rendered = render_frame(57, size=(48, 80))  # place 1 has the second seed, and one frame
    read = data.frames[2].camera
    np.testing.assert_array_equal(read.image, rendered.camera.image)
    np.testing.assert_array_equal(read.labels, rendered.camera.labels)
    np.testing.assert_array_equal(read.instances, rendered.camera.instances)


def test_mixtures_and_values_are_in_file_names_and_groups(tmp_path: Path):
    out = tmp_path / "data"
    words = ["--layout", "cityscapes", "--frames", "8", "--scenes", "2", "--severity", "5", "--out", str(out)]
    words += ["--conditions", "night:4+rain:2,fog:41m,fog:1,fog"]
    assert main([*COMMON, *words]) == 0
    cities = {path.name for path in (out / "leftImg8bit/val").iterdir()}
    assert cities == {"synthetic-night-4+rain-2", "synthetic-fog-41m", "synthetic-fog-1", "synthetic-fog-5"}
    data = cityscapes.read(out, "val")
    # Fog of 600 m and of 40 m are different groups; from mild to severe.
    assert data.groups == ("fog-1", "fog-41m", "fog-5", "night+rain")
    assert {frame.meta["city"] for frame in data.frames} == {"synthetic"}
    assert {frame.scene for frame in data.frames} == {"synthetic_000000", "synthetic_000001"}  # the same place
    assert is_synthetic(data)
    by_name = {frame.id: frame for frame in data.frames}
    night = by_name["synthetic-night-4+rain-2_000000_000000"]
    assert night.condition == Condition("night", "rain", 2, 4)
    # 40 m of visibility, and severity 5, which is defined as 40 m, are the same fog.
    rendered = [
        next(iter(render_scene(56, 1, size=(48, 80), conditions=(Condition.parse("fog", 5),)))),
        next(iter(render_scene(56, 1, size=(48, 80), conditions=(Condition(weather="fog", weather_value=40.0),)))),
    ]
    np.testing.assert_array_equal(rendered[0].camera.image, rendered[1].camera.image)
    thin = next(iter(render_scene(56, 1, size=(48, 80), conditions=(Condition.parse("fog:2000m"),))))
    assert not np.array_equal(thin.camera.image, rendered[0].camera.image)


def test_night_and_rain_are_both_in_the_picture():
    texts = ("night:4", "rain:2", "night:4+rain:2")
    night, rain, both = (
        next(iter(render_scene(56, 1, size=(48, 80), conditions=(Condition.parse(text),)))).camera.image.astype(float)
        for text in texts
    )
    assert rain.mean() > 60  # by day
    assert max(night.mean(), both.mean()) < 0.75 * rain.mean()
    assert np.abs(both - night).mean() > 2  # wet road, rain in the air


def test_acdc_is_read_back(acdc_folder: Path):
    data = acdc.read(acdc_folder, "val")
    groups = [frame.group for frame in data.frames]
    # 5 frames take fog, night, rain, snow, fog; every one has a reference of the same place.
    assert {group: groups.count(group) for group in set(groups)} == {
        "fog": 2,
        "night": 1,
        "rain": 1,
        "snow": 1,
        "reference": 5,
    }
    by_id = {frame.id: frame for frame in data.frames}
    for frame in data.frames:
        if frame.group == "reference":
            adverse = by_id[frame.id.removesuffix("_ref")]
            np.testing.assert_array_equal(frame.camera.labels, adverse.camera.labels)
            assert not np.array_equal(frame.camera.image, adverse.camera.image)
    fog = by_id["fog_GOPR0000_frame_000000"].camera
    # Visibility is 40 m.
    assert fog.invalid.any()
    assert not fog.invalid.all()
    ids = Image.open(acdc_folder / "gt/fog/val/GOPR0000/GOPR0000_frame_000000_gt_invIds.png")
    assert ids.mode == "L"
    assert set(np.unique(np.array(ids))) == {0, 1}
    assert data.source_group == "reference"


def test_acdc_without_a_reference_is_refused():
    place = Place(split="val", seed=56, sequence=0, number=0, index=0, count=1, condition=Condition.parse("fog"))
    alone = Rendered(frame=frame_from_image(np.zeros((8, 8, 3), np.uint8), id="a"), scene=describe(56))
    files = acdc_layout.files(alone, place)
    with pytest.raises(InputError, match="frame a has no clear-weather reference; acdc needs one for every frame"):
        files["rgb_anon/fog/val_ref/GOPR0000/GOPR0000_frame_000000_rgb_ref_anon.png"]()


def test_test_split_has_no_labels(tmp_path: Path):
    out = tmp_path / "data"
    assert (
        main(
            [*COMMON, "--layout", "acdc", "--frames", "1", "--conditions", "snow", "--split", "test", "--out", str(out)]
        )
        == 0
    )
    assert not (out / "gt").exists()
    assert (out / "rgb_anon/snow/test/GOPR0000/GOPR0000_frame_000000_rgb_anon.png").is_file()


def test_resume_equals_an_uninterrupted_run(acdc_folder: Path, tmp_path: Path):
    whole = content(acdc_folder)
    out = tmp_path / "data"
    shutil.copytree(acdc_folder, out)
    for missing in ("rgb_anon/rain", "gt/fog/val/GOPR0000/GOPR0000_frame_000004_gt_labelIds.png"):
        path = out / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (out / "gt/fog/val/GOPR0000/.cut.png.x7.part").write_bytes(b"killed while it wrote")
    before = {name: (out / name).stat().st_mtime_ns for name in content(out)}
    command = [
        *COMMON,
        "--layout",
        "acdc",
        "--frames",
        "5",
        "--scenes",
        "1",
        "--out",
        str(out),
        "--severity",
        "5",
        "--resume",
    ]
    assert main(command) == 0
    assert content(out) == whole
    kept = "rgb_anon/snow/val/GOPR0000/GOPR0000_frame_000003_rgb_anon.png"
    assert (out / kept).stat().st_mtime_ns == before[kept]  # what was there is not rendered again


@pytest.fixture(scope="module")
def nuscenes_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("nuscenes") / "data"
    assert main([*NUSCENES, "--out", str(out)]) == 0
    return out


def test_nuscenes_command(nuscenes_folder: Path):
    tables = {path.stem: json.loads(path.read_text()) for path in (nuscenes_folder / "v1.0-trainval").iterdir()}
    assert len(tables) == 14  # 13 and lidarseg
    # Two keyframes of six cameras, a lidar and one of its turns before, half a second apart.
    assert len(tables["sample_data"]) == 16
    first, second = (row["timestamp"] for row in tables["sample"])
    assert second - first == 500_000
    assert "rain" in tables["scene"][0]["description"]
    with Image.open(nuscenes_folder / next(row["filename"] for row in tables["sample_data"] if row["width"])) as image:
        assert image.size == (64, 36)
    # What the frames hold, in another way: the rendered scan, turned by hand.
    newest = next(
        iter(render_scene(56, 1, size=(36, 64), rig="nuscenes", conditions=(Condition.parse("rain", 4),), sweeps=0))
    )
    points = newest.lidars["LIDAR_TOP"][0].points
    (scan,) = [
        row for row in tables["sample_data"] if row["timestamp"] == first and row["filename"].endswith("pcd.bin")
    ]
    written = np.fromfile(nuscenes_folder / scan["filename"], np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(written[:, :2], np.stack([-points[:, 1], points[:, 0]], 1))
    stated = {box.num_points for box in newest.boxes or () if box.num_points}
    assert stated
    assert {row["num_lidar_pts"] for row in tables["sample_annotation"]} >= stated


def test_resume_with_tables_equals_an_uninterrupted_run(nuscenes_folder: Path, tmp_path: Path):
    whole = content(nuscenes_folder)
    out = tmp_path / "data"
    shutil.copytree(nuscenes_folder, out)
    # As if it had ended within the second frame: its record and a file are not there yet, nor are the tables.
    shutil.rmtree(out / "v1.0-trainval")
    (out / ".synthetic/000000_000001.json").write_text("{}")
    last = max((out / "samples/CAM_BACK").iterdir())
    last.unlink()
    kept = min((out / "samples/CAM_BACK").iterdir())
    before = kept.stat().st_mtime_ns
    assert main([*NUSCENES, "--out", str(out), "--resume"]) == 0
    assert content(out) == whole
    assert kept.stat().st_mtime_ns == before
    assert last.is_file()


@pytest.mark.parametrize(
    ("layout", "folders"),
    [
        ("kitti", {"ImageSets", "training"}),
        ("semantickitti", {"sequences"}),
        ("a2d2", {"camera_lidar_semantic_bboxes"}),
    ],
)
def test_other_layouts_with_lidar(layout: str, folders: set[str], tmp_path: Path):
    out = tmp_path / "data"
    assert main(["synthetic", "--layout", layout, "--frames", "1", "--size", "24x48", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir() if path.is_dir()} == {".synthetic", *folders}
    told = json.loads((out / ".synthetic/000000_000000.json").read_text())["files"]
    assert told
    assert all((out / path).stat().st_size for path in told)


def test_resume_refuses_other_settings_and_other_folders(acdc_folder: Path, tmp_path: Path, capsys):
    command = [*COMMON, "--layout", "acdc", "--frames", "6", "--scenes", "1", "--severity", "5", "--resume"]
    assert main([*command, "--out", str(acdc_folder)]) == 2
    assert "was started with frames 5, not 6" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert "was not started by zoo synthetic" in capsys.readouterr().err
    (tmp_path / "other/synthetic.json").write_text("[1]")
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert "was not started by zoo synthetic" in capsys.readouterr().err
    record = json.loads((acdc_folder / "synthetic.json").read_text())
    assert record["frames"] == 5
    assert record["conditions"] == ["fog", "night", "rain", "snow"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layout", "cityscape", "--frames", "1"], "unknown layout 'cityscape'; closest: cityscapes"),
        (["--layout", "acdc", "--frames", "0"], "at least one frame"),
        (["--layout", "acdc", "--frames", "2", "--scenes", "3"], "between 1 and the 2 frames"),
        (["--layout", "acdc", "--frames", "1", "--size", "256"], "--size 256: expected HxW in pixels"),
        (["--layout", "acdc", "--frames", "1", "--size", "4x9000"], "size 4x9000 cannot be rendered"),
        (["--layout", "acdc", "--frames", "1", "--severity", "6"], "--severity 6 is outside 1 to 5"),
        (["--layout", "acdc", "--frames", "1", "--conditions", "fog,clear"], "'clear' does not occur in acdc"),
        (["--layout", "cityscapes", "--frames", "1", "--conditions", "frog"], "closest: fog"),
        (["--layout", "cityscapes", "--frames", "1", "--conditions", "fog,rain+snow"], "'rain+snow' has 2 weathers"),
        (["--layout", "cityscapes", "--frames", "1", "--conditions", "fog:-5m"], "fog of -5 m is outside 5 to 5000 m"),
        (["--layout", "kitti", "--frames", "1", "--conditions", "night:2e5lux"], "expected night:N with a severity N"),
        (["--layout", "kitti", "--frames", "1", "--conditions", "night:200000lux"], "the sun at noon gives 120,000"),
        (["--layout", "kitti", "--frames", "1", "--conditions", "rain:5lux"], "or a value in mm/h"),
        (["--layout", "acdc", "--frames", "1", "--conditions", "night+rain"], "acdc has one folder per condition"),
        (["--layout", "acdc", "--frames", "1", "--conditions", "dusk"], "'dusk' does not occur in acdc"),
        (["--layout", "acdc", "--frames", "1", "--split", "vall"], "unknown split 'vall'; closest: val"),
        (["--layout", "acdc", "--frames", "1", "--seed", "-1"], "seeds are 0 or larger"),
        (["--layout", "kitti", "--frames", "1", "--rig", "kiti"], "unknown rig 'kiti'; closest: kitti"),
        (["--layout", "kitti", "--frames", "1", "--rig", "waymo"], "rig 'waymo' has no sensor image_2"),
        (["--layout", "kitti", "--frames", "1", "--sweeps", "2"], "layout kitti has no sweeps between frames; omit it"),
        (["--layout", "nuscenes", "--frames", "1", "--sweeps", "10"], "--sweeps 10 is outside 0 to 9"),
        (["--layout", "nuscenes", "--frames", "151", "--scenes", "151"], "split val of nuscenes has names for 150"),
        (["--layout", "nuscenes", "--frames", "500", "--scenes", "1"], "fewer frames of more places"),
        (["--layout", "nuscenes", "--frames", "1", "--size", "2x2"], "size 2x2 cannot be rendered"),
    ],
)
def test_bad_input(words: list[str], message: str, tmp_path: Path, capsys):
    assert main(["synthetic", *words, "--out", str(tmp_path / "data")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_existing_folder_is_refused(tmp_path: Path, capsys):
    assert main([*COMMON, "--layout", "acdc", "--frames", "1", "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
