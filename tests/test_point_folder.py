"""The reader of one's own labelled sweeps: hand-made folders, a real one, and every mistake in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zoo.cli import main
from zoo.data import open_dataset
from zoo.errors import InputError

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real" / "nuscenes_lidarseg11"

POINTS = np.array([[10.0, 2.0, -1.0, 51.0, 3.0], [0.0, -3.0, -1.7, 255.0, 0.0]], "<f4")
IDS = np.array([5 << 16 | 1, 2], "<u4")
YAML = "names: [road, car, none]\nignore: [2]\nchannels: [x, y, z, intensity, ring]\n"


def add(root: Path, stem: str, points: np.ndarray = POINTS) -> None:
    for path, content in ((f"points/{stem}.bin", points), (f"labels/{stem}.label", IDS)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.tobytes())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, "a")
    add(tmp_path, "night/b")
    (tmp_path / "classes.yaml").write_text(YAML)
    return tmp_path


def test_points_labels_and_instances(root: Path) -> None:
    dataset = open_dataset("folder", root)
    assert [(frame.id, frame.group) for frame in dataset.frames] == [("a", "unknown"), ("night/b", "night")]
    assert dataset.classes.names == ("road", "car")
    sweep = dataset.frames[0].lidars["lidar"][0]
    assert sweep.channels == ("x", "y", "z", "intensity", "ring")
    expected = POINTS.copy()
    expected[:, 3] = [0.2, 1.0]  # 51 / 255
    np.testing.assert_allclose(sweep.points, expected, rtol=1e-6)
    assert sweep.labels is not None
    assert sweep.labels.tolist() == [1, 255]
    assert sweep.instances is not None
    assert sweep.instances.tolist() == [5, 0]
    assert (sweep.ego_from_lidar, sweep.sensor and sweep.sensor.forward) == (None, None)
    assert "In a.bin they reach 255, so it was taken to be 0-255" in dataset.caveats[-1]


def test_what_is_stated_is_not_guessed(root: Path) -> None:
    (root / "sensor.yaml").write_text(
        "{intensity_scale: 0-255, forward: +y, up: +z, height_m: 1.8, beams: 32, max_range_m: 70, sweeps: 1}"
    )
    dataset = open_dataset("folder", root)
    assert not any("intensities" in caveat for caveat in dataset.caveats)
    sweep = dataset.frames[0].lidars["lidar"][0]
    sensor = sweep.sensor
    assert sensor is not None
    assert (sensor.intensity_scale, sensor.forward, sensor.up, sensor.beams) == ("0-255", "+y", "+z", 32)
    assert (sensor.height_m, sensor.max_range_m, sensor.sweeps) == (1.8, 70, 1)
    # x is to the right and y ahead: (10, 2, -1) is 2 m ahead, 10 m to the right and 0.8 m above the ground.
    assert sweep.ego_from_lidar is not None
    np.testing.assert_allclose(sweep.ego_from_lidar @ [10, 2, -1, 1], [2, -10, 0.8, 1])


def test_a_small_scale_is_seen_and_a_wrong_one_refused(root: Path) -> None:
    low = POINTS.copy()
    low[:, 3] /= 255
    add(root, "a", low)
    dataset = open_dataset("folder", root)
    sensor = dataset.frames[0].lidars["lidar"][0].sensor
    assert sensor is not None
    assert sensor.intensity_scale == "0-1"
    with pytest.raises(InputError, match=r"b\.bin: intensity runs from 51 to 255; expected 0-1"):
        _ = dataset.frames[1].lidars["lidar"][0].points


def test_frames_csv_names_files_of_points(root: Path) -> None:
    (root / "frames.csv").write_text("file,scene,timestamp,split\nnight/b.bin,s,1.5,val\na.bin,s,1,train\n")
    (frame,) = open_dataset("folder", root).frames
    assert (frame.id, frame.scene, frame.timestamp_us, frame.group) == ("night/b", "s", 1_500_000, "night")


def test_numpy_arrays_are_read_too(root: Path) -> None:
    (root / "points/a.bin").unlink()
    np.save(root / "points/a.npy", POINTS)
    assert len(open_dataset("folder", root).frames[0].lidars["lidar"][0].points) == 2
    (root / "labels/a.label").write_bytes(IDS[:1].tobytes())
    with pytest.raises(InputError, match=r"a\.label has 1 labels, but .*a\.npy has 2 points"):
        _ = open_dataset("folder", root).frames[0].lidars["lidar"][0].labels


def test_the_channels_are_part_of_the_fingerprint(root: Path) -> None:
    before = open_dataset("folder", root).fingerprint()
    (root / "classes.yaml").write_text(YAML.replace("ring", "time_s"))
    assert open_dataset("folder", root).fingerprint() != before


def rewrite(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


MISTAKES = {
    "images too": (lambda root: (root / "images").mkdir(), r"has images/ and points/"),
    "no labels": (lambda root: (root / "labels/a.label").unlink(), r"a\.bin has no label file .*labels/a\.label"),
    "no points": (lambda root: (root / "points/a.bin").unlink(), r"a\.label has no sweep in"),
    "other file": (rewrite("points/notes.txt", ""), r"is not one of \.bin, \.npy"),
    "no classes": (lambda root: (root / "classes.yaml").unlink(), r"classes\.yaml does not exist"),
    "mixed": (rewrite("classes.yaml", "names: [a]\nignored: [1]"), "write either classes and ignored, or names"),
    "ignore": (rewrite("classes.yaml", "names: [a]\nignore: [1]"), "ignore lists 1, which is no position in the 1"),
    "few channels": (rewrite("classes.yaml", "names: [a]\nchannels: [x, y]"), "channels"),
    "order": (rewrite("classes.yaml", "names: [a]\nchannels: [y, x, z]"), "channels y, x, z must start with x, y, z"),
    "columns": (rewrite("classes.yaml", "names: [a, b, c]"), r"a\.bin has 40 bytes, which is not a multiple of 16"),
    "twice": (rewrite("sensor.yaml", "channels: [x, y, z]"), r"channels stands in .*classes\.yaml and in"),
    "unknown fact": (rewrite("sensor.yaml", "heigth: 2"), "unknown key .*heigth"),
    "axis": (rewrite("sensor.yaml", "forward: x"), "forward"),
    "axes": (rewrite("sensor.yaml", "{forward: +z, up: -z}"), "must be different axes"),
    "height": (rewrite("sensor.yaml", "height_m: -1000"), "height"),
    "scale": (rewrite("sensor.yaml", "intensity_scale: 0-65535"), "intensity"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(mistake: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, message = MISTAKES[mistake]
    spoil(root)
    with pytest.raises(InputError, match=message):
        open_dataset("folder", root)
    words = ["evaluate", "supervised-resnet18w48-synthetic.fpn-camvid", "--data", f"folder={root}"]
    assert main([*words, "--out", str(root / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real/nuscenes_lidarseg11 is not here")
def test_the_real_folder_is_read_as_it_is() -> None:
    dataset = open_dataset("folder", REAL)
    assert len(dataset) == 16
    assert dataset.classes.taxonomy == "nuscenes11"
    counts = np.zeros(256, int)
    for frame in dataset.frames:
        sweep = frame.lidars["lidar"][0]
        points, labels = sweep.points, sweep.labels
        assert labels is not None
        raw = np.fromfile(REAL / "labels" / f"{frame.id}.label", "<u4")
        np.testing.assert_array_equal(np.where(raw == 10, 255, raw), labels)
        assert len(points) == len(labels) == len(raw)
        assert 0.5 < points[:, 3].max() <= 1
        counts += np.bincount(labels, minlength=256)
        # The road is where the ground is: 1.84 m below the lidar, which nuScenes mounts at that height.
        assert abs(float(np.median(points[labels == 0, 2])) + 1.84) < 0.15
    assert counts[dataset.classes.names.index("road")] > counts[255] > 0
    assert "taken to be 0-255" in dataset.caveats[-1]
