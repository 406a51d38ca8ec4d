"""The reader of KITTI's object set: hand-made folders, rendered ones, the real frames, and every kind of damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_layouts_kitti import read_frame, read_labels
from tolerances import assert_close

from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.terms import is_synthetic, places_of, terms_of
from zoo.errors import InputError
from zoo.frame import Box3D, Frame

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real" / "kitti"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real/kitti is not here")

POINTS = np.array([[10.27, 2.0, -0.5, 0.25], [40.0, -3.0, -1.7, 1.0]], "<f4")
# Rectified camera 0 is 0.27 m ahead of the lidar and 0.08 m below it; R0 turns the other one by 90 degrees about z.
CALIB = """P0: 100 0 64 0 0 100 32 0 0 0 1 0
P1: 100 0 64 0 0 100 32 0 0 0 1 0
P2: 100 0 64 6 0 100 32 0 0 0 1 0
P3: 100 0 64 -48 0 100 32 0 0 0 1 0
R0_rect: 0 -1 0 1 0 0 0 0 1
Tr_velo_to_cam: 0 0 -1 -0.08 0 1 0 0 1 0 0 -0.27
Tr_imu_to_velo: 1 0 0 -0.8 0 1 0 0 0 0 1 -1.7

"""
# 4 m long, 2 m wide, 1.5 m high; its bottom 1.25 m below the camera, 2 m left, 10 m ahead; it faces away (-90 degrees).
CAR = "Car 0.10 1 -1.37 30 20 60 50 1.5 2.0 4.0 -2.0 1.25 10.0 -1.5707963267948966"
DONT_CARE = "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10"


def add(root: Path, id: str = "000000", part: str = "training") -> Path:
    folder = root / part
    for name, suffix, content in (
        ("velodyne", "bin", POINTS.tobytes()),
        ("calib", "txt", CALIB.encode()),
        ("label_2", "txt", f"{CAR}\n{DONT_CARE}\n".encode()),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{id}.{suffix}").write_bytes(content)
    for name in ("image_2", "image_3"):
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(np.full((64, 128, 3), 9, np.uint8)).save(folder / name / f"{id}.png")
    return folder


def boxes_of(frame: Frame) -> list[Box3D]:
    assert frame.boxes is not None
    return list(frame.boxes)


def test_a_folder_made_by_hand(tmp_path: Path) -> None:
    add(tmp_path)
    dataset = open_dataset("kitti", tmp_path)
    (frame,) = dataset.frames
    assert terms_of(dataset).name == "KITTI"
    assert any("every split is all of training" in caveat for caveat in dataset.caveats)
    sweep = frame.lidars["velodyne"][0]
    np.testing.assert_array_equal(sweep.points, POINTS)
    assert sweep.labels is None
    (box,) = boxes_of(frame)
    assert (dataset.classes.names[box.label], box.kind, box.velocity) == ("Car", "Car", None)
    assert box.size.tolist() == [4, 2, 1.5]
    # Above the ground: camera 1.65 m, bottom 1.25 m below it, middle 0.75 m above that. Ahead: 10 + 0.27.
    assert_close(box.center, [10.27, 2.0, 1.15])
    assert abs(box.yaw) < 1e-9  # it faces the way we go
    assert frame.boxes is not None
    assert len(frame.boxes) == 1
    assert frame.boxes[0].kind == "Car"


def test_points_project_into_both_cameras(tmp_path: Path) -> None:
    add(tmp_path)
    (frame,) = open_dataset("kitti", tmp_path).frames
    lidar = frame.lidars["velodyne"][0].ego_from_lidar
    assert lidar is not None
    # From camera 0 the first point is 10 m ahead, 2 m left, 0.42 m below; camera 2 is 6 cm left, camera 3 48 cm right.
    for name, left in (("image_2", 1.94), ("image_3", 2.48)):
        camera = frame.cameras[name]
        assert camera.ego_from_camera is not None
        assert camera.intrinsics is not None
        local = (np.linalg.inv(camera.ego_from_camera) @ lidar @ [10.27, 2, -0.5, 1])[:3]
        assert_close(local, [-left, 0.42, 10])
        u, v, w = camera.intrinsics @ local
        assert_close([u / w, v / w], [64 - 10 * left, 32 + 4.2])
        assert camera.image.shape == (64, 128, 3)


def test_splits_are_lists(tmp_path: Path) -> None:
    for id in ("000000", "000001", "000002"):
        add(tmp_path, id)
    add(tmp_path, "000000", "testing")
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets/train.txt").write_text("000002")
    (tmp_path / "ImageSets/val.txt").write_text("000001\n000000")  # without a last newline, as published
    assert [frame.id for frame in open_dataset("kitti", tmp_path, "train").frames] == ["000002"]
    assert [frame.id for frame in open_dataset("kitti", tmp_path).frames] == ["000001", "000000"]
    assert len(open_dataset("kitti", tmp_path, "all")) == 3
    (test,) = open_dataset("kitti", tmp_path, "test").frames
    assert test.boxes is None
    (tmp_path / "ImageSets/val.txt").unlink()
    with pytest.raises(InputError, match=r"val\.txt does not exist; expected the frames of val"):
        open_dataset("kitti", tmp_path)


def test_cropped_scans_stand_in_for_missing_ones(tmp_path: Path) -> None:
    folder = add(tmp_path)
    (folder / "velodyne").rename(folder / "velodyne_reduced")
    (frame,) = open_dataset("kitti", tmp_path).frames
    assert len(frame.lidars["velodyne"][0].points) == 2


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


LABEL = "label_2/000000.txt"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "scan": (lambda folder: (folder / "velodyne/000000.bin").write_bytes(b"12345"), "is not a multiple of 16"),
    "type": (text(LABEL, CAR.replace("Car", "Horse")), r"line 1: unknown type 'Horse'; known: Car, Van"),
    "columns": (text(LABEL, CAR + " 0.9"), r"line 1 has 16 values; expected 15"),
    "words": (text(LABEL, CAR.replace("10.0", "far")), "line 1 holds something that is not a number"),
    "size": (text(LABEL, CAR.replace("1.5 2.0", "-1 -1")), "line 1: sizes must be positive"),
    "nan": (text(LABEL, CAR.replace("10.0", "nan")), "line 1: sizes must be positive and all values finite"),
    "calibration": (text("calib/000000.txt", CALIB.replace("R0_rect", "R1_rect")), "has no row R0_rect"),
    "rotation": (text("calib/000000.txt", CALIB.replace("0 -1 0 1", "0 1 0 1")), "R0_rect is not a rotation"),
    "projection": (text("calib/000000.txt", CALIB.replace("P2: 100", "P2: -100")), "positive focal lengths"),
    "number": (text("calib/000000.txt", CALIB.replace("P2: 100", "P2: x")), "P2 holds something that is not a number"),
    "no labels": (lambda folder: (folder / LABEL).unlink(), r"has no labels; looked for .*label_2/000000\.txt"),
    "no calibration": (lambda folder: (folder / "calib/000000.txt").unlink(), "has no calibration"),
    "no scans": (lambda folder: (folder / "velodyne/000000.bin").unlink(), "kitti val is empty"),
}


def decode(root: Path) -> None:
    (frame,) = open_dataset("kitti", root).frames
    assert boxes_of(frame)
    assert frame.cameras["image_2"].image.any()
    assert frame.lidars["velodyne"][0].points.any()


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_line(kind: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    damage(add(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        decode(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not KITTI's object set: looked for training/ or object/training/"):
        open_dataset("kitti", tmp_path)


def corners(box: Box3D) -> np.ndarray:
    """`(8, 3)` in the frame of the box."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    return signs * box.size / 2 @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + box.center


def check_frame(frame: Frame, label_file: Path, pixels: float) -> tuple[list[int], int]:
    """Points in each box, and how many whole boxes project onto their rectangle in the label, to within `pixels`."""
    sweep, camera = frame.lidars["velodyne"][0], frame.cameras["image_2"]
    assert sweep.ego_from_lidar is not None
    assert camera.ego_from_camera is not None
    assert camera.intrinsics is not None
    points = sweep.points[:, :3] + sweep.ego_from_lidar[:3, 3]
    lines = [line.split() for line in label_file.read_text().splitlines()]
    rectangles = [np.array(line[4:8], float) for line in lines if line[0] != "DontCare"]
    whole = [float(line[1]) == 0 for line in lines if line[0] != "DontCare"]
    counts, checked = [], 0
    for box, rectangle, uncut in zip(boxes_of(frame), rectangles, whole, strict=True):
        c, s = np.cos(box.yaw), np.sin(box.yaw)
        local = (points - box.center) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        counts.append(int((np.abs(local) <= box.size / 2).all(1).sum()))
        from_ego = np.linalg.inv(camera.ego_from_camera)
        seen = corners(box) @ from_ego[:3, :3].T + from_ego[:3, 3]
        if uncut and seen[:, 2].min() > 1:
            image = seen @ camera.intrinsics.T
            image = image[:, :2] / image[:, 2:]
            np.testing.assert_allclose([*image.min(0), *image.max(0)], rectangle, atol=pixels)
            checked += 1
    return counts, checked


def test_a_rendered_folder_holds_together(tmp_path: Path) -> None:
    words = "synthetic --layout kitti --frames 1 --size 96x320 --seed 3"
    main([*words.split(), "--out", str(tmp_path / "out")])
    dataset = open_dataset("kitti", tmp_path / "out")
    assert is_synthetic(dataset)
    (frame,) = dataset.frames
    assert list(frame.cameras) == ["image_2", "image_3"]
    assert places_of(dataset, dataset.frames) == ["000000"]  # which place of the run it shows is not recorded
    # The box of the label is upright in a camera that is tilted by a degree, so that its corners move a little.
    counts, checked = check_frame(frame, tmp_path / "out/training/label_2/000000.txt", pixels=1.5)
    assert checked > 3
    assert min(counts) >= 1


@pytest.mark.real
@needs_real
def test_the_real_frames() -> None:
    dataset = open_dataset("kitti", REAL)
    sizes, counts = {}, {}
    for frame in dataset.frames:
        sizes[frame.id] = len(frame.lidars["velodyne"][0].points)
        counts[frame.id], _ = check_frame(frame, REAL / f"training/label_2/{frame.id}.txt", pixels=12)
    assert sizes == {"000000": 115_384, "000001": 120_268, "000002": 126_891, "000008": 17_238}
    assert counts == {
        "000000": [377],
        "000001": [72, 9, 18],
        "000002": [1346, 67],
        "000008": [1426, 1933, 881, 666, 54, 169],
    }
    # In the tilted frame of the camera, in which the boxes were labelled, they hold about as many.
    root = REAL / "training"
    for id, found in counts.items():
        _, _, rect = read_frame(root, int(id), "velodyne" if id < "000008" else "velodyne_reduced")
        labels = read_labels((root / f"label_2/{id}.txt").read_text())
        there = [int(label.holds(rect).sum()) for label in labels if label.kind != "DontCare"]
        np.testing.assert_allclose(found, there, rtol=0.03, atol=2)
