"""The reader of nuScenes: tables made by hand, rendered ones, the real keyframes, and contradictory tables."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tolerances import assert_close

from zoo.classes import NUSCENES
from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.nuscenes import CLASS_OF_CATEGORY, scenes_of
from zoo.data.terms import is_synthetic, places_of
from zoo.errors import InputError
from zoo.frame import Frame, Sweep
from zoo.synthetic.layouts import nuscenes as layout

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real" / "nuscenes"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real/nuscenes is not here")

POINTS = np.array([[1.0, 10.0, -1.0, 51.0, 3.0], [2.0, -4.0, 0.5, 255.0, 31.0], [0.0, 1.0, 0.0, 0.0, 0.0]], "<f4")
HALF = 0.7071067811865476
TURN = [HALF, 0, 0, -HALF]  # by -90 degrees about z: the lidar's y axis points ahead
Tables = dict[str, list[dict[str, Any]]]


def tables_by_hand() -> Tables:
    """One scene of three keyframes, half a second apart, with a scan 50 ms before each, and one camera."""
    samples = [("k0", 1_000_000), ("k1", 1_500_000), ("k2", 2_000_000)]
    scans = [
        ("d0", "k0", 950_000, False),
        ("d1", "k0", 1_000_000, True),
        ("d2", "k1", 1_450_000, False),
        ("d3", "k1", 1_500_000, True),
        ("d4", "k2", 1_950_000, False),
        ("d5", "k2", 2_000_000, True),
    ]

    def links(tokens: list[str], k: int) -> dict[str, str]:
        return {"prev": tokens[k - 1] if k else "", "next": tokens[k + 1] if k + 1 < len(tokens) else ""}

    names, tokens = [name for name, _ in samples], [scan[0] for scan in scans]
    data = [
        {
            "token": token,
            "sample_token": sample,
            "ego_pose_token": f"p{token}",
            "calibrated_sensor_token": "c0",
            "filename": f"{'samples' if key else 'sweeps'}/LIDAR_TOP/{token}.pcd.bin",
            "timestamp": time,
            "is_key_frame": key,
            **links(tokens, k),
        }
        for k, (token, sample, time, key) in enumerate(scans)
    ]
    data += [
        {
            "token": f"i{sample}",
            "sample_token": sample,
            "ego_pose_token": f"pi{sample}",
            "calibrated_sensor_token": "c1",
            "filename": f"samples/CAM_FRONT/{sample}.jpg",
            "timestamp": time + 20_000,
            "is_key_frame": True,
            "prev": "",
            "next": "",
        }
        for sample, time in samples
    ]
    boxes = [
        {
            "token": f"a{sample}",
            "sample_token": sample,
            "instance_token": "car",
            "attribute_tokens": ["moves"],
            "visibility_token": "3",
            "translation": [x, 20.0, 1.0],
            "size": [2.0, 4.0, 1.5],
            "rotation": [HALF, 0, 0, HALF],
            "num_lidar_pts": 7,
            **links(["ak0", "ak1", "ak2"], k),
        }
        for k, (sample, x) in enumerate((("k0", 5.0), ("k1", 6.0), ("k2", 9.0)))
    ]
    return {
        "scene": [{"token": "s", "name": "scene-0003", "description": "Night, after rain, parked cars"}],
        "sample": [
            {"token": name, "timestamp": time, "scene_token": "s", **links(names, k)}
            for k, (name, time) in enumerate(samples)
        ],
        "sensor": [{"token": "lidar", "channel": "LIDAR_TOP"}, {"token": "camera", "channel": "CAM_FRONT"}],
        "calibrated_sensor": [
            {
                "token": "c0",
                "sensor_token": "lidar",
                "translation": [1.0, 0.0, 1.8],
                "rotation": TURN,
                "camera_intrinsic": [],
            },
            {
                "token": "c1",
                "sensor_token": "camera",
                "translation": [1.5, 0.0, 1.5],
                "rotation": [0.5, -0.5, 0.5, -0.5],  # z ahead, x right
                "camera_intrinsic": [[100.0, 0.0, 64.0], [0.0, 100.0, 32.0], [0.0, 0.0, 1.0]],
            },
        ],
        "sample_data": data,
        # The vehicle drives along the world's y axis: 2 m from keyframe to keyframe.
        "ego_pose": [
            {
                "token": row["ego_pose_token"],
                "translation": [5.0, (row["timestamp"] - 1_000_000) * 4e-6, 0.0],
                "rotation": [HALF, 0, 0, HALF],
            }
            for row in data
        ],
        "category": [
            {"token": name, "name": name, "index": index} for index, name in enumerate(reversed(CLASS_OF_CATEGORY))
        ],
        "attribute": [{"token": "moves", "name": "vehicle.moving"}],
        "instance": [{"token": "car", "category_token": "vehicle.car"}],
        "sample_annotation": boxes,
        "lidarseg": [
            {"sample_data_token": token, "filename": f"lidarseg/v1.0-trainval/{token}_lidarseg.bin"}
            for token in ("d1", "d3", "d5")
        ],
    }


def index_of(name: str) -> int:
    return list(reversed(CLASS_OF_CATEGORY)).index(name)


IDS = np.array([index_of("vehicle.car"), index_of("vehicle.ego"), index_of("flat.driveable_surface")], np.uint8)


def write(root: Path, tables: Tables, version: str = "v1.0-trainval") -> Path:
    """The tables, and every file that they name."""
    (root / version).mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows, indent=0))
    for row in tables["sample_data"]:
        path = root / row["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jpg":
            Image.fromarray(np.full((64, 128, 3), 80, np.uint8)).save(path)
        else:
            path.write_bytes(POINTS.tobytes())
    for row in tables.get("lidarseg", []):
        (root / row["filename"]).parent.mkdir(parents=True, exist_ok=True)
        (root / row["filename"]).write_bytes(IDS.tobytes())
    return root


def lidar(frame: Frame, sweep: int = 0) -> Sweep:
    return frame.lidars["LIDAR_TOP"][sweep]


def test_keyframes_sweeps_and_cameras(tmp_path: Path) -> None:
    dataset = open_dataset("nuscenes", write(tmp_path, tables_by_hand()))
    assert [frame.id for frame in dataset.frames] == ["k0", "k1", "k2"]
    assert {frame.scene for frame in dataset.frames} == {"scene-0003"}
    assert (dataset.video, dataset.absent_classes, dataset.classes.taxonomy) == (True, "skip", "nuscenes")
    # The keyframe and what came before, across keyframes.
    assert [[sweep.timestamp_us for sweep in frame.lidars["LIDAR_TOP"]] for frame in dataset.frames] == [
        [1_000_000, 950_000],
        [1_500_000, 1_450_000, 1_000_000, 950_000],
        [2_000_000, 1_950_000, 1_500_000, 1_450_000, 1_000_000, 950_000],
    ]
    assert len(open_dataset("nuscenes", tmp_path, sweeps=3).frames[2].lidars["LIDAR_TOP"]) == 4
    assert len(open_dataset("nuscenes", tmp_path, sweeps=0).frames[2].lidars["LIDAR_TOP"]) == 1
    sweep = lidar(dataset.frames[1])
    assert sweep.channels == ("x", "y", "z", "intensity", "ring")
    expected = POINTS.copy()
    expected[:, 3] = [0.2, 1, 0]
    assert_close(sweep.points, expected)
    assert sweep.labels is not None
    assert [dataset.classes.names[label] for label in sweep.labels[[0, 2]]] == ["car", "driveable_surface"]
    assert sweep.labels[1] == 255
    assert lidar(dataset.frames[1], 1).labels is None
    sensor = sweep.sensor
    assert sensor is not None
    assert (sensor.beams, sensor.height_m, sensor.forward, sensor.intensity_scale) == (32, 1.8, "+y", "0-255")
    camera = dataset.frames[1].cameras["CAM_FRONT"]
    assert camera.timestamp_us == 1_520_000
    assert camera.image.shape == (64, 128, 3)


def test_a_point_in_the_world_and_in_the_image(tmp_path: Path) -> None:
    frame = open_dataset("nuscenes", write(tmp_path, tables_by_hand())).frames[1]
    sweep, camera = lidar(frame), frame.cameras["CAM_FRONT"]
    # 10 m ahead of the lidar and 1 m right: 11 m ahead of the vehicle. It stands at (5, 2) and faces along y, so its
    # right is x: (6, 13), and 0.8 m up.
    world_from_lidar = sweep.world_from_ego @ sweep.ego_from_lidar  # type: ignore[operator]
    world = world_from_lidar @ [1, 10, -1, 1]
    assert_close(world, [6, 13, 0.8, 1])
    # 20 ms later the camera is 1.5 m ahead of the vehicle at (5, 2.08): 9.42 m away, 1 m to the left of the point and
    # 0.7 m above it.
    camera_from_world = np.linalg.inv(camera.world_from_ego @ camera.ego_from_camera)  # type: ignore[operator]
    assert_close((camera_from_world @ world)[:3], [1, 0.7, 9.42])
    assert camera.intrinsics is not None
    assert camera.intrinsics[0].tolist() == [100, 0, 64]


def test_boxes_and_velocities(tmp_path: Path) -> None:
    frames = open_dataset("nuscenes", write(tmp_path, tables_by_hand())).frames
    (box,) = frames[0].boxes or ()
    assert (box.label, box.kind, box.track, box.num_points, box.moving) == (3, "vehicle.car", 1, 7, True)
    assert box.center.tolist() == [5, 20, 1]
    assert box.size.tolist() == [4, 2, 1.5]  # the table has the width first
    assert box.yaw == pytest.approx(np.pi / 2)
    assert box.visibility == 0.7
    velocities = [frame.boxes[0].velocity for frame in frames if frame.boxes is not None]
    # One-sided at the ends, central between: 1 m in 0.5 s, 4 m in 1 s, 3 m in 0.5 s.
    np.testing.assert_allclose(velocities, [[2, 0, 0], [4, 0, 0], [6, 0, 0]])  # type: ignore[arg-type]


@pytest.mark.parametrize(("gap_us", "known"), [(1_500_000, True), (1_600_000, False)])
def test_a_velocity_over_too_long_a_time_is_unknown(gap_us: int, known: bool, tmp_path: Path) -> None:
    tables = tables_by_hand()
    tables["sample_annotation"] = tables["sample_annotation"][:2]
    tables["sample_annotation"][1]["next"] = ""
    tables["sample"] = tables["sample"][:2]
    tables["sample"][1]["timestamp"] = 1_000_000 + gap_us
    box = (open_dataset("nuscenes", write(tmp_path, tables)).frames[0].boxes or ())[0]
    assert (box.velocity is not None) == known


def test_frames_can_be_sent_to_another_process(tmp_path: Path) -> None:
    frames = open_dataset("nuscenes", write(tmp_path, tables_by_hand())).frames
    again = pickle.loads(pickle.dumps(frames))
    assert [frame.id for frame in again] == ["k0", "k1", "k2"]
    assert (again[0].boxes or ())[0].num_points == 7
    np.testing.assert_array_equal(lidar(again[1]).points, lidar(frames[1]).points)


def test_categories_lead_to_the_classes_of_the_challenge() -> None:
    """By lidarseg index, from the table of the challenge: 0 is ignored, and 1 to 16 are the classes."""
    official = [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]
    assert list(CLASS_OF_CATEGORY) == list(layout.CATEGORIES)
    found = [0 if name is None else 1 + NUSCENES.names.index(name) for name in CLASS_OF_CATEGORY.values()]
    assert found == official


def test_conditions_are_those_of_the_description(tmp_path: Path) -> None:
    frame = open_dataset("nuscenes", write(tmp_path, tables_by_hand())).frames[0]
    assert (frame.condition.time_of_day, frame.condition.weather, frame.group) == ("night", "rain", "night+rain")


def test_splits_are_lists_of_scenes(tmp_path: Path) -> None:
    tables = tables_by_hand()
    write(tmp_path, tables)
    with pytest.raises(InputError, match="nuscenes train is empty"):
        open_dataset("nuscenes", tmp_path, "train")
    assert len(open_dataset("nuscenes", tmp_path, "all")) == 3
    with pytest.raises(InputError, match=r"looked for v1\.0-test/"):
        open_dataset("nuscenes", tmp_path, "test")
    tables["scene"][0]["name"] = "scene-0061"  # a training scene of both
    assert len(open_dataset("nuscenes", write(tmp_path / "other", tables), "train")) == 3
    assert len(open_dataset("nuscenes", write(tmp_path / "mini", tables, "v1.0-mini"), "train")) == 3


def test_the_names_of_the_scenes_agree_with_the_writer() -> None:
    def names(split: str) -> set[str]:
        count = {"train": 700, "val": 150}[split]
        return {layout.scene_name(split, number) for number in range(count)}

    train, val = scenes_of("train", "v1.0-trainval"), scenes_of("val", "v1.0-trainval")
    assert {name for name in names("train") | names("val") if val(name)} == names("val")
    assert {name for name in names("train") | names("val") if train(name)} == names("train")
    mini = ["0061", "0553", "0655", "0757", "0796", "1077", "1094", "1100", "0103", "0916"]
    in_val = [number for number in mini if scenes_of("val", "v1.0-mini")(f"scene-{number}")]
    assert in_val == ["0103", "0916"]


def test_test_has_no_boxes_and_no_labels(tmp_path: Path) -> None:
    tables = tables_by_hand()
    del tables["lidarseg"]
    tables["sample_annotation"] = []
    write(tmp_path, tables, "v1.0-test")
    frame = open_dataset("nuscenes", tmp_path, "test").frames[0]
    assert frame.boxes is None
    assert lidar(frame).labels is None


def test_panoptic_labels(tmp_path: Path) -> None:
    tables = tables_by_hand()
    del tables["lidarseg"]
    tables["panoptic"] = [{"sample_data_token": "d1", "filename": "panoptic/v1.0-trainval/d1_panoptic.npz"}]
    write(tmp_path, tables)
    path = tmp_path / "panoptic/v1.0-trainval/d1_panoptic.npz"
    path.parent.mkdir(parents=True)
    values = IDS.astype(np.uint16) * 1000 + np.array([4, 0, 0], np.uint16)
    np.savez_compressed(path, data=values)
    sweep = lidar(open_dataset("nuscenes", tmp_path).frames[0])
    assert sweep.labels is not None
    assert sweep.labels.tolist() == [3, 255, 10]
    assert sweep.instances is not None
    assert sweep.instances.tolist() == [values[0], 0, 0]
    np.savez(path, data=np.array([{}, {}, {}], object))
    with pytest.raises(InputError, match=r"d1_panoptic\.npz .* does not hold plain numbers"):
        _ = sweep.labels
    np.savez(path, data=values[:2])
    with pytest.raises(InputError, match=r"has 2 labels, but .* has 3 points"):
        _ = sweep.labels


def test_the_length_of_a_table_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces of a few characters, the rows are the same."""
    expected = open_dataset("nuscenes", write(tmp_path, tables_by_hand())).frames
    monkeypatch.setattr("zoo.data.nuscenes_tables._CHUNK", 7)
    found = open_dataset("nuscenes", tmp_path).frames
    assert [frame.id for frame in found] == [frame.id for frame in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.world_from_ego, theirs.world_from_ego)  # type: ignore[arg-type]
        assert len(ours.lidars["LIDAR_TOP"]) == len(theirs.lidars["LIDAR_TOP"])


def row_change(table: str, row: int, **values: Any) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables[table][row].update(values)

    return change


def without(table: str, row: int, key: str) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        del tables[table][row][key]

    return change


def remove(table: str, row: int) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        del tables[table][row]

    return change


CONTRADICTIONS: dict[str, tuple[Callable[[Tables], None], str]] = {
    "circle of samples": (row_change("sample", 0, prev="k2"), "k0 follows k2, which is not earlier"),
    "sample of nothing": (row_change("sample", 0, prev="k9"), "k0 follows k9, which is not in its scene"),
    "circle of scans": (row_change("sample_data", 0, prev="d5"), "prev runs in a circle"),
    "scan after itself": (row_change("sample_data", 1, prev="d1"), "prev runs in a circle"),
    "scan of nothing": (row_change("sample_data", 1, prev="dx"), "follows dx, which is not in the table"),
    "circle of boxes": (row_change("sample_annotation", 0, prev="ak2"), "prev leads to a sample that is not prev"),
    "circle of next": (row_change("sample_annotation", 2, next="ak0"), "next leads to a sample that is not next"),
    "box after nothing": (
        row_change("sample_annotation", 0, prev="ax"),
        "sample_annotation prev ax is not in the table",
    ),
    "no pose": (remove("ego_pose", 1), r"ego_pose\.json lacks pd1"),
    "no sensor": (remove("sensor", 0), r"sensor lidar, which sensor\.json does not have"),
    "no calibration": (remove("calibrated_sensor", 0), "names the calibrated_sensor c0, which is not there"),
    "no scan": (remove("sample_data", 3), "is not in the table|has no LIDAR_TOP keyframe"),
    "no instance": (remove("instance", 0), "names the instance car"),
    "no category": (row_change("instance", 0, category_token="x"), "category x, which is not in category.json"),
    "no key": (without("sample", 1, "timestamp"), r"sample\.json: row 1 lacks the key 'timestamp'"),
    "type": (row_change("sample", 1, timestamp="now"), r"timestamp of row 1 is 'now'; expected int"),
    "far future": (row_change("sample", 1, timestamp=10**30), "timestamp 10+ is not a number of microseconds"),
    "far past": (row_change("sample_data", 1, timestamp=-5), "timestamp -5 is not a number of microseconds"),
    "translation": (row_change("ego_pose", 1, translation=[1, 2]), r"ego_pose pd1 is \[1, 2\]; expected 3 finite"),
    "nan": (row_change("ego_pose", 1, translation=[1, 2, float("nan")]), "expected 3 finite numbers"),
    "rotation": (row_change("calibrated_sensor", 0, rotation=[0, 0, 0, 0]), "is not a unit quaternion"),
    "outside": (row_change("sample_data", 1, filename="../../etc/passwd"), "leads out of"),
    "absolute": (row_change("sample_data", 1, filename="/etc/passwd"), "leads out of"),
    "missing file": (
        row_change("sample_data", 1, filename="samples/LIDAR_TOP/gone.bin"),
        r"gone\.bin does not exist, but",
    ),
    "missing labels": (row_change("lidarseg", 0, filename="lidarseg/gone.bin"), r"gone\.bin does not exist, but"),
    "category name": (row_change("category", 3, name="vehicle.spaceship"), "has the category 'vehicle.spaceship'"),
    "long token": (row_change("sample_annotation", 1, token="a" * 40), "expected a token of 32 characters"),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_tables_that_contradict_each_other(kind: str, tmp_path: Path) -> None:
    change, message = CONTRADICTIONS[kind]
    write(tmp_path, tables_by_hand())
    tables = tables_by_hand()
    change(tables)
    for name, rows in tables.items():
        (tmp_path / "v1.0-trainval" / f"{name}.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=message) as caught:
        open_dataset("nuscenes", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a JSON list"),
        ("{}", "is not a JSON list"),
        ("[", r"ends within a row, after 0 rows"),
        ('[{"token": "k0"', "ends within a row, after 0 rows"),
        ('[{"token": k0}]', "ends within a row, after 0 rows"),
        ("[3]", "row 0 is '3' instead of a table"),
        ("[" * 100_000, r"is damaged after 0 rows"),
        (b'[{"token": "\xff"}]', r"is damaged after 0 rows: UnicodeDecodeError"),
    ],
)
def test_broken_json(text: str | bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, tables_by_hand())
    (tmp_path / "v1.0-trainval/sample.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        open_dataset("nuscenes", tmp_path)
    words = ["evaluate", "supervised-resnet18w48-synthetic.fpn-camvid", "--data", f"nuscenes={tmp_path}"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_damaged_files(tmp_path: Path) -> None:
    root = write(tmp_path, tables_by_hand())
    sweep, older = open_dataset("nuscenes", root).frames[0].lidars["LIDAR_TOP"]
    (root / "lidarseg/v1.0-trainval/d1_lidarseg.bin").write_bytes(IDS[:2].tobytes())
    with pytest.raises(InputError, match=r"has 2 labels, but .* has 3 points"):
        _ = sweep.labels
    (root / "lidarseg/v1.0-trainval/d1_lidarseg.bin").write_bytes(np.array([1, 2, 40], np.uint8).tobytes())
    with pytest.raises(InputError, match="holds ids outside the classes: 40"):
        _ = sweep.labels
    (root / "samples/LIDAR_TOP/d1.pcd.bin").write_bytes(POINTS.tobytes()[:-2])
    with pytest.raises(InputError, match="is not a multiple of 20"):
        _ = sweep.points
    (root / "sweeps/LIDAR_TOP/d0.pcd.bin").unlink()
    with pytest.raises(InputError, match=r"d0\.pcd\.bin does not exist"):
        _ = older.points


def inside(box: Any, points: np.ndarray) -> int:
    """Points of the world in an upright box, by hand."""
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    local = (points - box.center) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return int((np.abs(local) <= box.size / 2).all(1).sum())


def check_boxes(frames: tuple[Frame, ...]) -> int:
    """Every box holds exactly the points that the table counts; the number of boxes."""
    count = 0
    for frame in frames:
        sweep = lidar(frame)
        pose = sweep.world_from_ego @ sweep.ego_from_lidar  # type: ignore[operator]
        world = sweep.points[:, :3].astype(float) @ pose[:3, :3].T + pose[:3, 3]
        for box in frame.boxes or ():
            assert inside(box, world) == box.num_points, (frame.id, box)
            count += 1
    return count


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nuscenes") / "out"
    words = "synthetic --layout nuscenes --frames 2 --scenes 1 --size 90x160 --sweeps 2 --seed 3"
    main([*words.split(), "--out", str(root)])
    return root


def test_a_rendered_folder_holds_together(rendered: Path) -> None:
    dataset = open_dataset("nuscenes", rendered)
    assert is_synthetic(dataset)
    assert [len(frame.lidars["LIDAR_TOP"]) for frame in dataset.frames] == [3, 6]
    assert places_of(dataset, dataset.frames) == [3, 3]  # the seed of the run
    assert check_boxes(dataset.frames) > 20
    right = of_road = 0
    for frame in dataset.frames:
        sweep = lidar(frame)
        labels = sweep.labels
        assert labels is not None
        pose = sweep.world_from_ego @ sweep.ego_from_lidar  # type: ignore[operator]
        world = sweep.points[:, :3].astype(float) @ pose[:3, :3].T + pose[:3, 3]
        for box in frame.boxes or ():
            if box.label == dataset.classes.names.index("car"):
                c, s = np.cos(box.yaw), np.sin(box.yaw)
                local = (world - box.center) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
                held = (np.abs(local) <= box.size / 2 - [0, 0, 0.2]).all(1)
                right += int((labels[held] == box.label).sum())
                of_road += int((labels[held] == dataset.classes.names.index("driveable_surface")).sum())
    assert right > 50 * max(of_road, 1)
    # Sweeps of one place agree in the world: the road's points have the height of the newest one's.
    first, *others = dataset.frames[1].lidars["LIDAR_TOP"]
    assert first.labels is not None
    for older in others:
        assert (older.timestamp_us or 0) < (first.timestamp_us or 0)


@pytest.mark.real
@needs_real
def test_the_real_keyframes() -> None:
    dataset = open_dataset("nuscenes", REAL, "all")
    assert len(dataset) == 2
    assert check_boxes(dataset.frames) == 78
    total = 0
    for frame in dataset.frames:
        assert len(frame.cameras) == 6
        sweep = lidar(frame)
        assert sweep.labels is None
        points = sweep.points
        assert points.shape in {(34_688, 5), (34_720, 5)}
        assert 0 <= points[:, 3].min() <= points[:, 3].max() <= 1
        assert set(np.unique(points[:, 4])) == set(range(32))
        pose = sweep.world_from_ego @ sweep.ego_from_lidar  # type: ignore[operator]
        world = points[:, :3].astype(float) @ pose[:3, :3].T + pose[:3, 3]
        for camera in frame.cameras.values():
            from_world = np.linalg.inv(camera.world_from_ego @ camera.ego_from_camera)  # type: ignore[operator]
            local = world @ from_world[:3, :3].T + from_world[:3, 3]
            pixels = local @ camera.intrinsics.T  # type: ignore[union-attr]
            u, v = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
            total += int(((local[:, 2] > 1) & (u > 1) & (u < 1599) & (v > 1) & (v < 899)).sum())
    assert total == 42_834  # what the official devkit counts, by the same rule
