"""The nuScenes layout, read back by a parser made from the schema alone, and by the official devkit where it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import rendered_frame
from PIL import Image
from tolerances import assert_close

from zoo.condition import Condition
from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame, Sweep
from zoo.synthetic.layouts import Place, nuscenes
from zoo.synthetic.layouts.writer import write_files
from zoo.synthetic.shapes.surfaces import Label, Material

REAL = Path(__file__).parents[2] / "shared" / "real" / "nuscenes"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")


# --- a parser that shares nothing with the writer ---------------------------------------------------------------------


def rotate(quaternion: list[float], points: np.ndarray) -> np.ndarray:
    """`(N, 3)` points turned by the unit quaternion (w, x, y, z): v + 2 w (u x v) + 2 u x (u x v)."""
    w, u = quaternion[0], np.array(quaternion[1:])
    across = np.cross(u, points)
    return points + 2 * w * across + 2 * np.cross(u, across)


class Tables:
    def __init__(self, root: Path, version: str) -> None:
        self.root = root
        self.rows: dict[str, list[dict[str, Any]]] = {
            path.stem: json.loads(path.read_text()) for path in (root / version).glob("*.json")
        }
        self.by_token = {name: {row["token"]: row for row in rows} for name, rows in self.rows.items() if rows}

    def get(self, table: str, token: str) -> dict[str, Any]:
        return self.by_token[table][token]

    def points(self, data: dict[str, Any]) -> np.ndarray:
        return np.fromfile(self.root / data["filename"], "<f4").reshape(-1, 5)

    def in_global(self, data: dict[str, Any]) -> np.ndarray:
        """`(N, 3)` float64 points of a scan: sensor -> ego -> global."""
        points = self.points(data)[:, :3].astype(float)
        for table in ("calibrated_sensor", "ego_pose"):
            row = self.get(table, data[f"{table}_token"])
            points = rotate(row["rotation"], points) + row["translation"]
        return points

    def key_lidar(self, sample: str) -> dict[str, Any]:
        (row,) = [
            row
            for row in self.rows["sample_data"]
            if row["sample_token"] == sample and row["is_key_frame"] and row["fileformat"] == "pcd"
        ]
        return row

    def inside(self, annotation: dict[str, Any], points: np.ndarray) -> np.ndarray:
        """Which global points lie in the box: size is width, length, height; x runs along the length."""
        w, x, y, z = annotation["rotation"]
        local = rotate([w, -x, -y, -z], points - annotation["translation"])
        width, length, height = annotation["size"]
        return (np.abs(local) <= np.array([length, width, height]) / 2).all(1)


def check_tables(tables: Tables) -> int:
    """Everything that the schema promises; the number of boxes whose points were counted."""
    for name, rows in tables.rows.items():
        assert len({row["token"] for row in rows}) == len(rows), name
        if name != "visibility":
            assert all(re.fullmatch("[0-9a-f]{32}", row["token"]) for row in rows), name
    for rows in tables.rows.values():  # every foreign key leads somewhere
        for row in rows:
            for key, value in row.items():
                table = key.removesuffix("_token").removeprefix("first_").removeprefix("last_")
                if key.endswith("_token") and value != "":
                    table = "sample_annotation" if table == "annotation" else table
                    assert value in tables.by_token[table], (key, value)
    for scene in tables.rows["scene"]:
        chain, token = [], scene["first_sample_token"]
        while token:
            chain.append(tables.get("sample", token))
            assert chain[-1]["scene_token"] == scene["token"]
            token = chain[-1]["next"]
        assert len(chain) == scene["nbr_samples"]
        assert chain[-1]["token"] == scene["last_sample_token"]
        assert [row["prev"] for row in chain] == ["", *(row["token"] for row in chain[:-1])]
        assert all(a["timestamp"] < b["timestamp"] for a, b in pairwise(chain))
    for data in tables.rows["sample_data"]:
        assert (tables.root / data["filename"]).is_file()
        assert data["filename"].split("/")[0] == ("samples" if data["is_key_frame"] else "sweeps")
        assert data["filename"].split("__")[2].split(".")[0] == str(data["timestamp"])
        if data["next"]:
            after = tables.get("sample_data", data["next"])
            assert after["prev"] == data["token"]
            assert after["timestamp"] > data["timestamp"]
            assert after["calibrated_sensor_token"] == data["calibrated_sensor_token"]
        assert tables.get("ego_pose", data["ego_pose_token"])["timestamp"] == data["timestamp"]
    for instance in tables.rows["instance"]:
        count, token = 0, instance["first_annotation_token"]
        while token:
            row = tables.get("sample_annotation", token)
            assert row["instance_token"] == instance["token"]
            count, last, token = count + 1, token, row["next"]
        assert count == instance["nbr_annotations"]
        assert last == instance["last_annotation_token"]
    scans = {row["token"]: tables.in_global(tables.key_lidar(row["token"])) for row in tables.rows["sample"]}
    for row in tables.rows["sample_annotation"]:
        found = tables.inside(row, scans[row["sample_token"]])
        assert found.sum() == row["num_lidar_pts"], row["token"]
    return len(tables.rows["sample_annotation"])


# --- frames by hand ---------------------------------------------------------------------------------------------------

CAR = np.array([16.0, 4.0, 0.9])  # where things stand in the world, metres
BUS = np.array([-12.0, -5.0, 1.6])
TRAIN = np.array([5.0, 12.0, 1.8])


def pose(x: float, y: float, z: float, yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])


def ego(time_us: int) -> np.ndarray:
    t = time_us * 1e-6
    return pose(8 * t, t * t, 0.1, 0.25 * t)


LIDAR = pose(0.9, 0.0, 1.8, 0.03)


def cyclist_at(time_us: int) -> np.ndarray:
    return np.array([10.0 + 4 * time_us * 1e-6, -3.0, 0.85])


def cloud(time_us: int, person_points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """World points, labels, tracks, materials: 40 road, 7 car, 3 rider, 2 bicycle, 6 bus, 2 train, 1 flake, ..."""
    rng = np.random.default_rng(time_us)

    def within(center: np.ndarray, size: tuple[float, float, float], count: int) -> np.ndarray:
        return center + rng.uniform(-0.4, 0.4, (count, 3)) * size

    parts = [
        (rng.uniform(-30, 30, (40, 3)) * [1, 1, 0], Label.ROAD, 0, Material.ASPHALT),
        (within(CAR, (1.9, 1.8, 1.4), 7), Label.CAR, 3, Material.PAINT),
        (within(cyclist_at(time_us), (0.6, 0.6, 1.7), 3), Label.RIDER, 5, Material.CLOTH),
        (within(cyclist_at(time_us), (0.6, 0.6, 1.7), 2), Label.BICYCLE, 5, Material.METAL),
        (within(BUS, (2.5, 2.5, 3.0), 6), Label.BUS, 6, Material.PAINT),
        (within(TRAIN, (2.5, 2.5, 3.0), 2), Label.TRAIN, 7, Material.PAINT),
        (within(np.array([4.0, 5.0, 0.9]), (0.5, 0.5, 1.7), person_points), Label.PERSON, 8, Material.CLOTH),
        (rng.uniform(-3, 3, (1, 3)) + [0, 0, 9], Label.NONE, 0, 255),
        (rng.uniform(-3, 3, (1, 3)) + [0, 0, 7], Label.NONE, 0, Material.WOOD),
    ]
    counts = [len(points) for points, *_ in parts]
    columns = [np.repeat([int(part[k]) for part in parts], counts) for k in (1, 2, 3)]
    return np.concatenate([points for points, *_ in parts]), *columns


def sweep(time_us: int, person_points: int = 0) -> Sweep:
    world, labels, tracks, materials = cloud(time_us, person_points)
    inverse = np.linalg.inv(ego(time_us) @ LIDAR)
    local = world @ inverse[:3, :3].T + inverse[:3, 3]
    count = len(local)
    rest = np.stack([np.linspace(0, 1, count), np.arange(count) % 32, np.zeros(count)], 1)
    return Sweep(
        points_source=np.concatenate([local, rest], 1).astype(np.float32),
        channels=("x", "y", "z", "intensity", "ring", "time_s"),
        labels_source=labels.astype(np.uint8),
        instances_source=tracks.astype(np.int32),
        materials_source=materials.astype(np.uint8),
        timestamp_us=time_us,
        ego_from_lidar=LIDAR,
        world_from_ego=ego(time_us),
    )


def frame(number: int, sweeps: int = 2) -> Frame:
    """Keyframe `number`: two per second, from second 1. The person is hit in keyframe 1 alone."""
    now = 1_000_000 + 500_000 * number
    optical = np.array([[0, 0, 1.0, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]])
    cameras = {
        name: CameraFrame(
            image_source=np.full((9, 16, 3), 20 * k, np.uint8),
            timestamp_us=now - 40_000 + 7_000 * k,
            intrinsics=np.array([[12.0, 0, 7.5], [0, 12, 4], [0, 0, 1]]),
            ego_from_camera=pose(0, 0, 0, -k * np.pi / 3) @ optical,
            world_from_ego=ego(now - 40_000 + 7_000 * k),
        )
        for k, name in enumerate(CAMERAS)
    }
    turns = [sweep(now - 50_000 * k, 4 if number == 1 and k == 0 else 0) for k in range(sweeps + 1)]

    def box(
        label: Label, track: int, center: np.ndarray, size: tuple[float, float, float], kind: str, **more: Any
    ) -> Box3D:
        return Box3D(label=label, track=track, center=center, size=np.array(size), kind=kind, **{"yaw": 0.0, **more})

    ride = {"velocity": np.array([4.0, 0, 0]), "moving": True}
    boxes = (
        box(Label.CAR, 3, CAR, (4.4, 1.8, 1.5), "van", yaw=2.0, visibility=0.39, num_points=7),
        box(Label.RIDER, 5, cyclist_at(now), (1.8, 0.6, 1.7), "cyclist", visibility=0.4, **ride),
        box(Label.BUS, 6, BUS, (11.0, 2.6, 3.1), "bus", yaw=-0.4, visibility=0.8, velocity=np.zeros(3), moving=True),
        box(Label.TRAIN, 7, TRAIN, (30.0, 2.6, 3.4), "train", visibility=1.0),
        box(Label.PERSON, 8, np.array([4.0, 5.0, 0.9]), (0.5, 0.5, 1.8), "person", visibility=0.6, moving=False),
    )
    return Frame(
        id=f"{number}",
        condition=Condition.parse("night"),
        cameras=cameras,
        lidars={"LIDAR_TOP": tuple(turns)},
        boxes=boxes,
        timestamp_us=now,
        world_from_ego=ego(now),
    )


def write(root: Path, split: str = "val") -> Tables:
    """Two scenes of three and one keyframes."""
    records, index = [], 0
    for sequence, count in enumerate((3, 1)):
        for number in range(count):
            place = Place(
                split=split,
                seed=40 + sequence,
                sequence=sequence,
                number=number,
                index=index,
                count=count,
                size=(9, 16),
            )
            write_files(root, nuscenes.files(rendered_frame(frame(number)), place))
            records.append((place, json.loads(json.dumps(nuscenes.record(rendered_frame(frame(number)), place)))))
            index += 1
    write_files(root, nuscenes.closing_files(records))
    return Tables(root, "v1.0-test" if split == "test" else "v1.0-trainval")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return write(tmp_path_factory.mktemp("nuscenes"))


def test_tables_keep_what_the_schema_promises(tables: Tables) -> None:
    # Per keyframe 6 cameras, the lidar and 2 turns before it; 4 keyframes. Boxes: van, cyclist and bus in all four, the
    # person in the one where it is hit; the train has no category.
    assert {name: len(rows) for name, rows in tables.rows.items()} == {
        "attribute": 8,
        "calibrated_sensor": 14,
        "category": 32,
        "ego_pose": 36,
        "instance": 7,
        "lidarseg": 4,
        "log": 2,
        "map": 2,
        "sample": 4,
        "sample_annotation": 13,
        "sample_data": 36,
        "scene": 2,
        "sensor": 7,
        "visibility": 4,
    }
    assert check_tables(tables) == 13
    assert [row["name"] for row in tables.rows["scene"]] == ["scene-0003", "scene-0012"]  # the first two of val
    assert "night" in tables.rows["scene"][0]["description"]
    with Image.open(tables.root / tables.rows["map"][0]["filename"]) as image:
        assert (image.mode, image.size) == ("L", (6000, 6000))


def test_annotations(tables: Tables) -> None:
    first = tables.rows["scene"][0]["first_sample_token"]
    rows = [row for row in tables.rows["sample_annotation"] if row["sample_token"] == first]
    category = {row["token"]: row["name"] for row in tables.rows["category"]}
    attribute = {row["token"]: row["name"] for row in tables.rows["attribute"]}
    told = {}
    for row in rows:
        name = category[tables.get("instance", row["instance_token"])["category_token"]]
        told[name] = (row["num_lidar_pts"], row["visibility_token"], [attribute[t] for t in row["attribute_tokens"]])
    assert told == {
        "vehicle.car": (7, "1", ["vehicle.parked"]),
        "vehicle.bicycle": (5, "2", ["cycle.with_rider"]),
        "vehicle.bus.rigid": (6, "4", ["vehicle.stopped"]),
    }
    (car,) = [row for row in rows if row["num_lidar_pts"] == 7]
    assert car["size"] == [1.8, 4.4, 1.5]  # width first
    assert_close(rotate(car["rotation"], np.array([[1.0, 0, 0]]))[0], [np.cos(2), np.sin(2), 0])
    (person,) = [row for row in tables.rows["sample_annotation"] if row["num_lidar_pts"] == 4]
    assert (person["prev"], person["next"]) == ("", "")
    assert [attribute[token] for token in person["attribute_tokens"]] == ["pedestrian.standing"]


def test_scans_have_x_right_and_y_ahead(tables: Tables) -> None:
    row = tables.key_lidar(tables.rows["scene"][0]["first_sample_token"])
    points = tables.points(row)
    ours = sweep(1_000_000).points
    np.testing.assert_array_equal(points[:, 0], -ours[:, 1])
    np.testing.assert_array_equal(points[:, 1], ours[:, 0])
    assert (points[0, 3], points[-1, 3]) == (0, 255)  # intensity 0 to 255
    np.testing.assert_array_equal(points[:, 4], np.arange(len(points)) % 32)
    # Through the written calibration and pose they come back to where they were put, moved by the map's offset.
    world = cloud(1_000_000, 0)[0]
    assert_close(tables.in_global(row) - [300, 300, 0], world, dtype="float32")


def test_sweeps_belong_to_the_keyframe_that_follows(tables: Tables) -> None:
    scene = tables.rows["scene"][0]
    row: dict[str, Any] | None = tables.key_lidar(scene["first_sample_token"])
    while row is not None and row["prev"]:
        row = tables.get("sample_data", row["prev"])
    chain = []
    while row is not None:
        chain.append(row)
        row = tables.get("sample_data", row["next"]) if row["next"] else None
    assert [row["is_key_frame"] for row in chain] == [False, False, True] * 3
    for k, row in enumerate(chain):
        assert row["sample_token"] == chain[k // 3 * 3 + 2]["sample_token"]
    # What stands still lies at the same place in all turns: the seven points on the van, by their mean.
    van = next(row for row in tables.rows["sample_annotation"] if row["num_lidar_pts"] == 7)
    assert [int(tables.inside(van, tables.in_global(row)).sum()) for row in chain] == [7] * 9


def test_lidarseg(tables: Tables) -> None:
    names = {row["index"]: row["name"] for row in tables.rows["category"]}
    assert sorted(names) == list(range(32))
    row = tables.rows["lidarseg"][0]
    assert row["token"] == row["sample_data_token"]
    assert row["filename"] == f"lidarseg/v1.0-trainval/{row['token']}_lidarseg.bin"
    values = np.fromfile(tables.root / row["filename"], np.uint8)
    assert Counter(names[value] for value in values.tolist()) == {
        "flat.driveable_surface": 40,
        "vehicle.car": 7,
        "vehicle.bicycle": 5,  # its rider too
        "vehicle.bus.rigid": 6,
        "static.other": 3,  # the train, which has no category, and the bench
        "noise": 1,
    }


def test_test_split_has_no_labels(tmp_path: Path) -> None:
    tables = write(tmp_path, "test")
    assert not (tmp_path / "lidarseg").exists()
    assert tables.rows["sample_annotation"] == tables.rows["instance"] == []
    assert "lidarseg" not in tables.rows
    assert len(tables.rows["category"]) == 23
    assert not any("index" in row for row in tables.rows["category"])
    assert [row["name"] for row in tables.rows["scene"]] == ["scene-0077", "scene-0078"]


def test_twice_the_same_bytes(tables: Tables, tmp_path: Path) -> None:
    write(tmp_path)
    again = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    first = {str(p.relative_to(tables.root)): p.read_bytes() for p in tables.root.rglob("*") if p.is_file()}
    assert again == first


def test_quaternions_of_every_turn(tmp_path: Path) -> None:
    # The branches of the conversion: half turns about each axis, and turns between; checked by turning the axes.
    rng = np.random.default_rng(3)
    turns = [np.diag(d) for d in ([1.0, 1, 1], [1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])]
    for _ in range(40):
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        q = q * np.sign(np.diag(r))
        turns.append(q if np.linalg.det(q) > 0 else -q)
    place = Place(split="val", seed=0, sequence=0, number=0, index=0, count=1)
    for turn in turns:
        mount = np.eye(4)
        mount[:3, :3] = turn
        made = frame(0, sweeps=0)
        camera = replace(made.cameras["CAM_BACK"], ego_from_camera=mount)
        row = nuscenes.record(rendered_frame(replace(made, cameras={"CAM_BACK": camera})), place)["data"][0]
        assert_close(rotate(row["sensor_rotation"], np.eye(3)), turn.T)


def test_bad_frames() -> None:
    place = Place(split="val", seed=0, sequence=0, number=0, index=0, count=1)
    with pytest.raises(InputError, match=r"no lidar LIDAR_TOP \(lidars: none\); nuscenes needs the rig nuscenes"):
        nuscenes.record(rendered_frame(Frame(id="a")), place)
    bare = Sweep(points_source=np.zeros((1, 4), np.float32))
    with pytest.raises(InputError, match="no channel `ring`"):
        nuscenes.files(rendered_frame(Frame(id="a", lidars={"LIDAR_TOP": (bare,)})), place)
    with pytest.raises(InputError, match="scene 151 of split val, which has 150 official names"):
        nuscenes.scene_name("val", 150)
    assert nuscenes.scene_name("train", 699) == "scene-1110"
    assert nuscenes.scene_name("test", 149) == "scene-1043"


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real/nuscenes is not here")
def test_the_parser_reads_real_tables() -> None:
    assert check_tables(Tables(REAL, "v1.0-mini")) == 78


def test_official_devkit(tables: Tables) -> None:
    devkit = pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed (it needs numpy below 2)")
    from nuscenes.utils.geometry_utils import points_in_box
    from nuscenes.utils.splits import create_splits_scenes

    nusc = devkit.NuScenes(version="v1.0-trainval", dataroot=str(tables.root), verbose=False)
    assert {scene["name"] for scene in nusc.scene} <= set(create_splits_scenes()["val"])
    for sample in nusc.sample:
        token = sample["data"]["LIDAR_TOP"]
        path, boxes, _ = nusc.get_sample_data(token)
        points = np.fromfile(path, np.float32).reshape(-1, 5)[:, :3].T
        for box in boxes:
            stated = nusc.get("sample_annotation", box.token)["num_lidar_pts"]
            assert points_in_box(box, points).sum() == stated
        labels = np.fromfile(tables.root / nusc.get("lidarseg", token)["filename"], np.uint8)
        assert len(labels) == points.shape[1]
