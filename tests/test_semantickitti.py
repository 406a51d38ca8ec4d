"""The reader of SemanticKITTI: hand-made folders, rendered ones, the real scan, and every kind of damage."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tolerances import assert_close

from zoo.cli import main
from zoo.condition import Condition
from zoo.data import open_dataset
from zoo.data.scans import MAX_POINTS, read_points
from zoo.data.semantickitti import LABELS, SEQUENCES
from zoo.data.terms import is_synthetic, mark_synthetic, places_of, terms_of
from zoo.errors import InputError
from zoo.frame import Sweep

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real" / "semantickitti"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real/semantickitti is not here")

POINTS = np.array([[10.0, 2.0, -1.0, 0.25], [20.0, -3.0, -1.7, 1.0], [5.0, 0.0, 0.5, 0.0]], "<f4")
# A car of instance 7, lane marking (which is road), a moving person of instance 3.
IDS = np.array([7 << 16 | 10, 60, 3 << 16 | 254], "<u4")
# Camera 0 is 0.27 m ahead of the lidar and 0.08 m below it: z ahead, x right, y down.
TR = "0 -1 0 0  0 0 -1 -0.08  1 0 0 -0.27"
P2 = "100 0 64 6  0 100 32 0  0 0 1 0"  # 6 / 100: camera 2 is 6 cm left of camera 0


def add(root: Path, sequence: str = "08", number: int = 0) -> Path:
    """Scan `number` of a sequence; the vehicle drives 2 m ahead and then turns left by a right angle."""
    folder = root / "sequences" / sequence
    for part in ("velodyne", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / f"velodyne/{number:06d}.bin").write_bytes(POINTS.tobytes())
    (folder / f"labels/{number:06d}.label").write_bytes(IDS.tobytes())
    (folder / "calib.txt").write_text(f"P0: {P2}\nP2: {P2}\nTr: {TR}\n")
    # In the axes of camera 0: z ahead, x right. Turned left by 90 degrees, its z points to -x and its x to z.
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n0 0 -1 0 0 1 0 0 1 0 0 2\n")
    (folder / "times.txt").write_text("0.0\n1.036e-01\n")
    return folder


def sweep_of(root: Path, index: int = 0) -> Sweep:
    return open_dataset("semantickitti", root).frames[index].lidars["velodyne"][0]


def decode(root: Path) -> None:
    sweep = sweep_of(root)
    assert sweep.points.any()
    assert sweep.labels is not None


def test_a_folder_made_by_hand(tmp_path: Path) -> None:
    add(tmp_path)
    add(tmp_path, number=1)
    add(tmp_path, "03")
    dataset = open_dataset("semantickitti", tmp_path)
    assert [(frame.id, frame.scene, frame.timestamp_us) for frame in dataset.frames] == [
        ("08_000000", "08", 0),
        ("08_000001", "08", 103_600),
    ]
    assert (dataset.video, dataset.absent_classes) == (True, "zero")
    assert [frame.id for frame in open_dataset("semantickitti", tmp_path, "train").frames] == ["03_000000"]
    sweep = dataset.frames[0].lidars["velodyne"][0]
    np.testing.assert_array_equal(sweep.points, POINTS)
    assert sweep.channels == ("x", "y", "z", "intensity")
    assert sweep.labels is not None
    assert [dataset.classes.names[label] for label in sweep.labels] == ["car", "road", "person"]
    assert sweep.instances is not None
    assert sweep.instances.tolist() == [7, 0, 3]
    assert sweep.sensor is not None
    assert (sweep.sensor.beams, sweep.sensor.height_m, sweep.sensor.intensity_scale) == (64, 1.73, "0-1")
    assert terms_of(dataset).name == "SemanticKITTI"


def test_poses_move_the_vehicle_and_not_the_camera(tmp_path: Path) -> None:
    add(tmp_path)
    add(tmp_path, number=1)
    first, second = open_dataset("semantickitti", tmp_path).frames
    assert_close(first.world_from_ego, np.eye(4))
    # Camera 0 went from (0.27, 0) to (2.27, 0), then the vehicle faces left. Its lidar is 0.27 m behind the camera, so
    # from there in the direction that is now the right hand: -y.
    assert_close(
        second.world_from_ego, [[0, -1, 0, 2.27], [1, 0, 0, -0.27], [0, 0, 1, 0], [0, 0, 0, 1]], dtype="float64"
    )
    lidar = second.lidars["velodyne"][0].ego_from_lidar
    assert lidar is not None
    assert lidar[:3, 3].tolist() == [0, 0, 1.73]


def test_points_project_into_the_image(tmp_path: Path) -> None:
    from PIL import Image

    folder = add(tmp_path)
    (folder / "image_2").mkdir()
    Image.fromarray(np.full((64, 128, 3), 9, np.uint8)).save(folder / "image_2/000000.png")
    (frame,) = open_dataset("semantickitti", tmp_path).frames
    camera = frame.camera
    assert camera.ego_from_camera is not None
    assert camera.intrinsics is not None
    assert camera.image.shape == (64, 128, 3)
    lidar = frame.lidars["velodyne"][0].ego_from_lidar
    assert lidar is not None
    camera_from_lidar = np.linalg.inv(camera.ego_from_camera) @ lidar
    x, y, z = (camera_from_lidar @ [10, 2, -1, 1])[:3]
    # 10 m ahead of the lidar, 2 m left, 1 m below: from camera 2 it is 9.73 m ahead, 1.94 m left, 0.92 m below.
    assert_close([x, y, z], [-1.94, 0.92, 9.73])
    u, v, w = camera.intrinsics @ [x, y, z]
    assert_close([u / w, v / w], [64 - 194 / 9.73, 32 + 92 / 9.73])


def test_without_poses_and_calibration_there_are_none(tmp_path: Path) -> None:
    folder = add(tmp_path)
    for name in ("poses.txt", "calib.txt", "times.txt"):
        (folder / name).unlink()
    (frame,) = open_dataset("semantickitti", tmp_path).frames
    assert (frame.world_from_ego, frame.timestamp_us) == (None, None)
    assert frame.lidars["velodyne"][0].ego_from_lidar is not None


def test_labels_of_the_test_sequences_are_not_read(tmp_path: Path) -> None:
    add(tmp_path, "11")
    (frame,) = open_dataset("semantickitti", tmp_path, "test").frames
    assert frame.lidars["velodyne"][0].labels is None


def test_nothing_is_decoded_before_it_is_used(tmp_path: Path) -> None:
    folder = add(tmp_path)
    (folder / "velodyne/000000.bin").write_bytes(b"123")
    assert len(open_dataset("semantickitti", tmp_path)) == 1


def edit(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def at(row: int, column: int, value: float) -> bytes:
    points = POINTS.copy()
    points[row, column] = value
    return points.tobytes()


SCAN, LABEL = "velodyne/000000.bin", "labels/000000.label"
DAMAGE = {
    "cut scan": (edit(SCAN, POINTS.tobytes()[:-4]), r"000000\.bin has 44 bytes, which is not a multiple of 16"),
    "nan": (edit(SCAN, at(1, 2, np.nan)), r"z of point 1 is nan"),
    "infinite": (edit(SCAN, at(2, 0, np.inf)), r"x of point 2 is inf"),
    "intensity": (edit(SCAN, at(0, 3, 55)), r"intensity runs from 0 to 55; expected 0-1"),
    "cut labels": (edit(LABEL, IDS.tobytes()[:-1]), r"000000\.label has 11 bytes; expected a multiple of 4"),
    "fewer labels": (edit(LABEL, IDS.tobytes()[:-4]), r"has 2 labels, but .*000000\.bin has 3 points"),
    "unknown id": (edit(LABEL, np.array([10, 60, 77], "<u4").tobytes()), r"ids outside the classes: 77"),
    "no labels": (lambda folder: (folder / LABEL).unlink(), r"000000\.bin has no labels"),
    "no scan": (lambda folder: (folder / SCAN).unlink(), r"semantickitti val is empty"),
    "name": (lambda folder: (folder / SCAN).rename(folder / "velodyne/first.bin"), r"must be its number"),
    "short poses": (edit("poses.txt", b""), r"poses\.txt has 0 rows and none for"),
    "cut pose": (edit("poses.txt", b"1 0 0 0 0 1 0 0 0 0 1"), r"row 1 has 11 numbers; expected 12"),
    "no pose": (edit("poses.txt", b"2 0 0 0 0 1 0 0 0 0 1 0"), r"line 1 is not a rotation"),
    "nan pose": (edit("poses.txt", b"nan 0 0 0 0 1 0 0 0 0 1 0"), r"poses\.txt row 1 holds a value that is not"),
    "words": (edit("times.txt", b"soon"), r"times\.txt holds something that is not a number"),
    "calibration": (edit("calib.txt", b"Tr: 1 2 3"), r"calib\.txt: Tr has 3 values; expected 12"),
    "mirrored": (edit("calib.txt", b"Tr: -1 0 0 0 0 1 0 0 0 0 1 0"), r"calib\.txt: Tr is not a rotation"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_line(kind: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    damage(add(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        decode(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_cloud_of_50_million_points_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = add(tmp_path)
    with open(folder / SCAN, "wb") as handle:
        handle.truncate(50_000_000 * 16)  # sparse: takes no room
    with pytest.raises(InputError, match=f"holds 50,000,000 points; at most {MAX_POINTS:,} are read"):
        _ = sweep_of(tmp_path).points


def test_numpy_files_and_their_damage(tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    channels = ("x", "y", "z", "intensity")
    np.save(path, POINTS.astype(float))
    np.testing.assert_array_equal(read_points(path, channels), POINTS)
    np.save(path, np.array([[1, "a"], [None, {}]], object), allow_pickle=True)
    with pytest.raises(InputError, match="does not hold plain numbers"):
        read_points(path, channels)
    np.save(path, POINTS[:, :3])
    with pytest.raises(InputError, match=r"\(3, 3\) float32; expected \(N, 4\)"):
        read_points(path, channels)
    with pytest.raises(InputError, match=r"gone\.bin does not exist"):
        read_points(tmp_path / "gone.bin", channels)


def test_the_splits_of_the_folder_itself_come_first(tmp_path: Path) -> None:
    add(tmp_path, "22")
    (tmp_path / "semantic-kitti.yaml").write_text("split:\n  train: []\n  valid: [22]\n  test: []\n")
    assert [frame.id for frame in open_dataset("semantickitti", tmp_path).frames] == ["22_000000"]
    (tmp_path / "semantic-kitti.yaml").write_text("split: [8]\n")
    with pytest.raises(InputError, match="expected split: with lists of sequence numbers"):
        open_dataset("semantickitti", tmp_path)


def test_rendered_places_keep_their_seeds(tmp_path: Path) -> None:
    for sequence in ("08", "22", "23"):
        add(tmp_path, sequence)
    (tmp_path / "semantic-kitti.yaml").write_text("split:\n  train: []\n  valid: [8, 22, 23]\n  test: []\n")
    mark_synthetic(tmp_path, "semantickitti", frames=3, seed=70)
    dataset = open_dataset("semantickitti", tmp_path)
    assert places_of(dataset, dataset.frames[1:]) == [71, 72]  # the second and the third place of the run


def test_rendered_places_take_the_conditions_in_turn(tmp_path: Path) -> None:
    """Five places under clear, fog and night; the order of the frames stays that of the sequences."""
    numbers = (8, 22, 23, 24, 25)
    for number in numbers:
        add(tmp_path, f"{number:02d}")
    (tmp_path / "semantic-kitti.yaml").write_text(f"split:\n  train: []\n  valid: {list(numbers)}\n  test: []\n")
    dataset = open_dataset("semantickitti", tmp_path)
    assert (dataset.groups, dataset.source_group) == (("clear",), None)
    settings: dict[str, Any] = {"frames": 5, "seed": 0, "severity": 2}
    mark_synthetic(tmp_path, "semantickitti", conditions=["clear", "fog", "night"], **settings)
    dataset = open_dataset("semantickitti", tmp_path)
    assert [frame.group for frame in dataset.frames] == ["clear", "fog", "night", "clear", "fog"]
    assert [frame.scene for frame in dataset.frames] == ["08", "22", "23", "24", "25"]
    assert dataset.frames[1].condition == Condition(weather="fog", severity=2)
    assert dataset.source_group == "clear"
    mark_synthetic(tmp_path, "semantickitti", conditions=["fog:1", "fog:5"], **settings)
    assert open_dataset("semantickitti", tmp_path).groups == ("fog-1", "fog-5")
    mark_synthetic(tmp_path, "kitti", conditions=["fog"], **settings)
    assert open_dataset("semantickitti", tmp_path).groups == ("clear",)
    mark_synthetic(tmp_path, "semantickitti", conditions=["hail"], **settings)
    with pytest.raises(InputError, match=r"synthetic\.json: unknown condition 'hail'"):
        open_dataset("semantickitti", tmp_path)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("semantickitti") / "out"
    main(["synthetic", "--layout", "semantickitti", "--frames", "2", "--size", "96x320", "--out", str(root)])
    return root


def test_a_rendered_folder_holds_together(rendered: Path) -> None:
    dataset = open_dataset("semantickitti", rendered)
    assert is_synthetic(dataset)
    assert len(dataset) == 2
    grounds = []
    for frame in dataset.frames:
        sweep = frame.lidars["velodyne"][0]
        labels = sweep.labels
        assert labels is not None
        assert sweep.instances is not None
        assert len(labels) == len(sweep.points) == len(sweep.instances)
        # Every instance is one thing: a vehicle, cycle or person, never the road.
        names = np.array([*dataset.classes.names, *["ignored"] * 237])
        things = set(names[labels[sweep.instances > 0]])
        assert things <= {*dataset.classes.names[:8], "ignored"}
        assert frame.world_from_ego is not None
        assert sweep.ego_from_lidar is not None
        road = sweep.points[labels == dataset.classes.names.index("road"), :3]
        world = frame.world_from_ego @ sweep.ego_from_lidar
        grounds.append(np.median(road @ world[:3, :3].T + world[:3, 3], axis=0)[2])
    # The road lies at the vehicle's feet, in both scans at the same height of the world.
    assert np.abs(grounds).max() < 0.3
    # The pose of each scan is that of the rectified camera, carried over by the calibration: inv(Tr) P Tr.
    folder = rendered / "sequences" / "08"
    text = (folder / "calib.txt").read_text()
    tr = np.vstack([np.array(re.search("Tr: (.*)", text)[1].split(), float).reshape(3, 4), [0, 0, 0, 1]])  # type: ignore[index]
    for line, frame in zip((folder / "poses.txt").read_text().splitlines(), dataset.frames, strict=True):
        pose = np.vstack([np.array(line.split(), float).reshape(3, 4), [0, 0, 0, 1]])
        up = np.eye(4)
        up[2, 3] = 1.73
        expected = up @ np.linalg.inv(tr) @ pose @ tr @ np.linalg.inv(up)
        np.testing.assert_allclose(frame.world_from_ego, expected, atol=1e-9)  # type: ignore[arg-type]


@pytest.mark.real
@needs_real
def test_the_real_scan() -> None:
    dataset = open_dataset("semantickitti", REAL)
    (frame,) = dataset.frames
    sweep = frame.lidars["velodyne"][0]
    points, labels, instances = sweep.points, sweep.labels, sweep.instances
    assert points.shape == (123_389, 4)
    assert labels is not None
    assert instances is not None
    raw = np.fromfile(REAL / "sequences/08/labels/000000.label", "<u4")
    table = yaml.safe_load((REAL / "semantic-kitti.yaml").read_text())
    # The official map has 0 for ignored and the classes from 1.
    official = np.array([table["learning_map"][id] for id in (raw & 0xFFFF).tolist()])
    np.testing.assert_array_equal(np.where(official == 0, 255, official - 1), labels)
    np.testing.assert_array_equal(instances, raw >> 16)
    assert int((labels == 255).sum()) == 6924
    heights = points[labels == dataset.classes.names.index("road"), 2]
    assert abs(float(np.median(heights)) + 1.73) < 0.1  # the lidar stands 1.73 m above the road


@pytest.mark.real
@needs_real
def test_the_tables_are_the_official_ones() -> None:
    table = yaml.safe_load((REAL / "semantic-kitti.yaml").read_text())
    for id, label in table["learning_map"].items():
        found = LABELS.labels(np.array([id]), "x", 255)[0]
        assert found == (255 if label == 0 else label - 1), id
    for label, raw in table["learning_map_inv"].items():
        if label:
            assert LABELS.classes.names[label - 1] == table["labels"][raw]
            assert LABELS.classes.colors[label - 1] == tuple(reversed(table["color_map"][raw]))
    splits = {"train": table["split"]["train"], "val": table["split"]["valid"], "test": table["split"]["test"]}
    assert {name: tuple(numbers) for name, numbers in splits.items()} == SEQUENCES
