"""The layout of A2D2, read back by a parser that knows the format alone; real files by the same."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import AHEAD, K, car, described, place, pose, rendered_frame
from PIL import Image
from tolerances import assert_close

from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame, Sweep
from zoo.synthetic.layouts import Place, Record, a2d2

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real" / "a2d2"
BOXES = "camera_lidar_semantic_bboxes"

# ---- A parser written from the description of the data set. It uses nothing of `zoo`.


def read_lidar(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def vehicle_from_view(view: dict[str, list[float]]) -> np.ndarray:
    x = np.array(view["x-axis"]) / np.linalg.norm(view["x-axis"])
    z = np.cross(x, view["y-axis"])
    z /= np.linalg.norm(z)
    out = np.eye(4)
    out[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    out[:3, 3] = view["origin"]
    return out


def box_rotation(box: dict[str, Any]) -> np.ndarray:
    x, y, z = box["axis"]
    c, s = np.cos(box["rot_angle"]), np.sin(box["rot_angle"])
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return c * np.eye(3) + s * cross + (1 - c) * np.outer(box["axis"], box["axis"])


def box_holds(box: dict[str, Any], points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    local = (points - box["center"]) @ box_rotation(box)
    return (np.abs(local) <= np.array(box["size"]) / 2 + margin).all(1)


def check_lidar(lidar: dict[str, np.ndarray], k: np.ndarray) -> None:
    """Types, shapes and the projection with the undistorted image's matrix."""
    count = len(lidar["points"])
    types = {"reflectance": np.int64, "timestamp": np.int64}
    keys = {"points", "row", "col", "depth", "distance", "azimuth", "reflectance", "lidar_id", "timestamp"}
    assert set(lidar) == keys
    for key, array in lidar.items():
        assert array.dtype == types.get(key, np.float64)
        assert array.shape == ((count, 3) if key == "points" else (count,))
    x, y, z = lidar["points"].T
    assert_close(lidar["col"], k[0, 2] - k[0, 0] * y / x)
    assert_close(lidar["row"], k[1, 2] - k[1, 1] * z / x)
    np.testing.assert_array_equal(lidar["depth"], x)
    np.testing.assert_allclose(lidar["distance"], np.sqrt(x**2 + y**2 + z**2))
    assert 0 <= lidar["reflectance"].min() <= lidar["reflectance"].max() <= 255
    assert 0 <= lidar["azimuth"].min() <= lidar["azimuth"].max() <= 2 * np.pi
    assert set(np.unique(lidar["lidar_id"])) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def check_boxes(boxes: dict[str, dict[str, Any]], k: np.ndarray, size: tuple[int, int]) -> None:
    """Names, corners in their order, and the image rectangle of what the image does not cut."""
    assert list(boxes) == [f"box_{n}" for n in range(len(boxes))]
    for box in boxes.values():
        length, width, height = np.array(box["size"]) / 2
        signs = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]])  # rear left, front left, front right, rear right
        local = np.array([[x * length, y * width, z * height] for z in (-1, 1) for x, y in signs])
        corners = np.array(box["3d_points"])
        np.testing.assert_allclose(
            local @ box_rotation(box).T + box["center"], corners, atol=2e-3
        )  # files print millimetres
        x0, y0, x1, y1 = box["2d_bbox"]
        assert x0 < x1
        assert y0 < y1
        if corners[:, 0].min() > 0.2:
            column, row = (
                k[0, 2] - k[0, 0] * corners[:, 1] / corners[:, 0],
                k[1, 2] - k[1, 1] * corners[:, 2] / corners[:, 0],
            )
            edges = [column.min(), row.min(), column.max(), row.max()]
            expected = np.clip(edges, 0, [size[1] - 1, size[0] - 1] * 2)
            np.testing.assert_allclose(box["2d_bbox"], expected, atol=1.5)  # whole pixels


def names_of(colors: np.ndarray, class_list: dict[str, str]) -> np.ndarray:
    """Class names of `(H, W, 3)` colours; a colour that is not in the list is an error."""
    packed = colors[..., 0].astype(int) << 16 | colors[..., 1].astype(int) << 8 | colors[..., 2]
    known = {int(key[1:], 16): name for key, name in class_list.items()}
    values, back = np.unique(packed, return_inverse=True)
    return np.array([known[int(value)] for value in values])[back.reshape(packed.shape)]


# ---- A frame made by hand.

CAR = car(21.711, num_points=3)


def hand_frame(boxes: tuple[Box3D, ...] = (), ego_at_image: np.ndarray | None = None, **camera: Any) -> Frame:
    """Frame at 2 s: one point of `front_left` 3 ms before 1.98 s, two of `front_center` at 2 s, a picture at 2.01 s."""
    about: dict[str, Any] = {
        "image_source": np.full((64, 128, 3), 50, np.uint8),
        "timestamp_us": 2_010_000,
        "intrinsics": K,
        "ego_from_camera": pose(1.711, 0, 1.693, rotation=AHEAD),
        "world_from_ego": np.eye(4) if ego_at_image is None else ego_at_image,
    }
    left = np.array([[20.0, 1.5, 0.5, 0.5, 7, -0.003]], np.float32)
    center = np.array([[19.0, 2.0, 0.0, 1.0, 3, 0.0], [-19.0, 2.0, 0.0, 1.0, 3, 0.0]], np.float32)
    sweeps = {
        name: Sweep(
            points_source=points,
            channels=("x", "y", "z", "intensity", "ring", "time_s"),
            timestamp_us=time_us,
            ego_from_lidar=pose(1.711, y, 1.868),
            world_from_ego=pose(x, 0, 0),
        )
        for name, points, time_us, x, y in (
            ("front_center", center, 2_000_000, 0.0, 0.0),
            ("front_left", left, 1_980_000, -0.2, 0.6),
        )
    }
    return Frame(
        id="hand",
        cameras={"front_center": CameraFrame(**{**about, **camera})},
        lidars={name: (sweep,) for name, sweep in sweeps.items()},
        boxes=boxes,
        timestamp_us=2_000_000,
        world_from_ego=np.eye(4),
    )


def content(files: dict[str, Callable[[], bytes]], part: str) -> bytes:
    (path,) = [path for path in files if part in path]
    return files[path]()


def test_one_box_three_points_one_camera() -> None:
    files = a2d2.files(rendered_frame(hand_frame((CAR,))), place())
    # Place 56 begins 56 * 10 minutes after 2018-01-01.
    assert a2d2.scene_name(place()) == "20180101_092000"
    assert list(files) == [
        f"{BOXES}/20180101_092000/{kind}/cam_front_center/20180101092000_{kind}_frontcenter_000000000.{ending}"
        for kind, ending in (
            ("camera", "png"),
            ("camera", "json"),
            ("lidar", "npz"),
            ("label", "png"),
            ("label3D", "json"),
        )
    ]
    about = json.loads(content(files, "camera_frontcenter_000000000.json"))
    start = 1_514_764_800_000_000 + 56 * 600_000_000
    assert about["cam_tstamp"] == start + 2_010_000
    assert about["cam_name"] == "front_center"
    assert about["lidar_ids"]["3"] == "front_center"
    # The camera stands 0.943 m above the vehicle's frame, which lies 0.75 m above the road.
    assert about["pcld_view"]["origin"] == pytest.approx([1.711, 0, 0.943])

    lidar = read_lidar(content(files, "npz"))
    check_lidar(lidar, K)
    # One point of front_center is behind. The other two, less the camera's place: 20 - 0.2 ahead, 1.5 + 0.6 left and
    # 0.5 + 1.868 - 1.693 above; 19 ahead, 2 left and 0.175 above.
    assert_close(lidar["points"], [[19.8, 2.1, 0.675], [19.0, 2.0, 0.175]])
    assert lidar["lidar_id"].tolist() == [0.0, 3.0]
    assert lidar["reflectance"].tolist() == [128, 255]
    assert lidar["timestamp"].tolist() == [start + 1_977_000, start + 2_000_000]
    assert_close(lidar["azimuth"], [np.arctan2(1.5, 20), np.arctan2(2, 19)], dtype="float32")

    boxes = json.loads(content(files, "label3D"))
    check_boxes(boxes, K, (64, 128))
    box = boxes["box_0"]
    assert (box["class"], box["id"]) == ("Car", 0)
    # 20 m ahead, 2 m left, 0.75 - 1.693 m below; columns 64 - 300 / 18 to 64 - 100 / 22, rows 32 + 19.3 / 22 and so on.
    assert box["center"] == pytest.approx([20, 2, -0.943])
    assert box["2d_bbox"] == pytest.approx([64 - 300 / 18, 32 + 19.3 / 22, 64 - 100 / 22, 32 + 169.3 / 18])
    assert (box["rot_angle"], box["axis"], box["truncation"]) == (0.0, [0, 0, 1], 0.0)
    assert box["occlusion"] == pytest.approx(0.1)
    assert box["alpha"] == pytest.approx(-np.arctan2(2, 20))


@pytest.mark.parametrize("yaw", [-3.1, -np.pi / 2, -0.3, 0.2, 1.7, np.pi])
def test_turned_boxes(yaw: float) -> None:
    boxes = json.loads(content(a2d2.files(rendered_frame(hand_frame((replace(CAR, yaw=yaw),))), place()), "label3D"))
    check_boxes(boxes, K, (64, 128))
    box = boxes["box_0"]
    assert 0 <= box["rot_angle"] <= np.pi + 1e-12
    turned = box["rot_angle"] * box["axis"][2]
    assert np.cos(turned - yaw) == pytest.approx(1)


def test_tilted_camera_and_moving_boxes() -> None:
    tilt, yaw = 0.05, 0.4
    down = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    moving = replace(CAR, yaw=0.7, velocity=np.array([10.0, -5.0, 0]), moving=True)
    ego, mount = pose(1, 0.5, 0, 0.1), pose(1.7, 0, 1.7, yaw, rotation=down @ AHEAD)
    frame = hand_frame((moving,), ego_at_image=ego, ego_from_camera=mount)
    box = json.loads(content(a2d2.files(rendered_frame(frame), place()), "label3D"))["box_0"]
    view = ego @ pose(1.7, 0, 1.7, yaw, rotation=down)
    # 10 ms later the car is 0.1 m and -0.05 m away.
    assert_close(view[:3, :3] @ box["center"] + view[:3, 3], CAR.center + [0.1, -0.05, 0])
    front = view[:3, :3] @ box_rotation(box)[:, 0]
    assert_close(front, [np.cos(0.7), np.sin(0.7), 0])
    assert_close(view[:3, :3] @ box_rotation(box)[:, 2], [0, 0, 1])


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "train"},
        {"num_points": 0},
        {"visibility": 0.0},
        {"center": np.array([-20.0, 0, 1])},
        {"center": np.array([20.0, 90, 1])},
    ],
)
def test_boxes_that_are_not_written(change: dict[str, Any]) -> None:
    frame = hand_frame((replace(CAR, **change), CAR))
    boxes = json.loads(content(a2d2.files(rendered_frame(frame), place()), "label3D"))
    assert [box["class"] for box in boxes.values()] == ["Car"]


def test_colors_separate_objects_and_join_riders_with_what_they_ride() -> None:
    # One row, one pixel per case: Cityscapes training id, instance, expected class.
    cases = [
        (10, 23, "Sky"),
        (13, 26000, "Car 1"),
        (13, 26001, "Car 2"),
        (13, 26003, "Car 4"),
        (13, 26004, "Car 1"),
        (2, 11, "Buildings"),
        (18, 33002, "Bicycle 3"),
        (12, 25000, "Bicycle 3"),
        (2, 11, "Buildings"),
        (12, 25001, "Small vehicles 2"),
        (17, 32001, "Small vehicles 2"),
        (8, 21, "Nature object"),
        (12, 25002, "Bicycle 1"),  # rides what cannot be seen
        (11, 24002, "Pedestrian 3"),
        (15, 28001, "Truck 2"),
        (16, 31000, "Utility vehicle 1"),
        (4, 13, "Grid structure"),
        (7, 20, "Traffic sign 1"),
        (255, 0, "Blurred area"),
    ]
    labels = np.array([[case[0] for case in cases]], np.uint8)
    frame = hand_frame(
        labels_source=labels,
        instances_source=np.array([[case[1] for case in cases]], np.int32),
        depth_source=np.full(labels.shape, 10.0, np.float32),
    )
    image = np.array(Image.open(io.BytesIO(content(a2d2.files(rendered_frame(frame), place()), "label/"))))
    assert image.dtype == np.uint8
    classes = json.loads(
        a2d2.closing_files([(place(), a2d2.record(rendered_frame(frame), place()))])[f"{BOXES}/class_list.json"]()
    )
    assert names_of(image, classes)[0].tolist() == [case[2] for case in cases]


def test_paint_on_the_road_has_its_colors() -> None:
    from zoo.synthetic.scene.describe import describe
    from zoo.synthetic.scene.types import CentreLine, Crossing, EdgeLine

    # A camera 10 m above a road looks down at a zebra and at the double centre line before it.
    scene = describe(56)
    lines = {"markings": CentreLine.DOUBLE, "edge_line": EdgeLine.DOUBLE_YELLOW, "tram": False, "cycle_lane": False}
    size = {"lanes": 2, "lane_width": 3.0, "half_width": 3.0, "parking": (0.0, 0.0), "bend": (0.0,) * 7}
    zebra = Crossing(start=30.0, end=40.0, side=0, signals=False, zebra=True)
    scene = replace(scene, street=replace(scene.street, **lines, **size), crossings=(zebra,))
    street, crossing = scene.street, scene.crossings[0]
    down = np.array([[0, -1.0, 0], [-1, 0, 0], [0, 0, -1]])
    where = street.to_world(np.array([crossing.start - 5.0]), np.zeros(1))[0] + [0, 0, 10]
    size, k = (96, 48), np.array([[80.0, 0, 23.5], [0, 80, 47.5], [0, 0, 1]])
    frame = hand_frame(
        image_source=np.zeros((*size, 3), np.uint8),
        labels_source=np.zeros(size, np.uint8),
        instances_source=np.full(size, 7, np.int32),
        depth_source=np.full(size, 10.0, np.float32),
        intrinsics=k,
        ego_from_camera=pose(*where, rotation=down),
    )
    names = names_of(a2d2.label_image(frame, scene), {f"#{color:06x}": name for name, color in a2d2.COLORS.items()})
    row, column = np.mgrid[:96, :48]
    along, left = 5 - (47.5 - row) / 8, (23.5 - column) / 8  # metres before the crossing, metres left of the middle
    assert set(names[(along > 0.8) & (along < 3.4) & (np.abs(left) < 2.5)]) == {"Zebra crossing", "RD normal street"}
    line = names[(along > 6) & (np.abs(np.abs(left) - 0.12) < 0.07)]
    assert set(line) <= {"Solid line", "RD normal street"}
    assert (line == "Solid line").mean() > 0.7  # some of it is worn off
    assert set(names[(along > 6) & (np.abs(left) > 0.5) & (np.abs(left) < 2)]) == {
        "RD normal street",
        "Painted driv. instr.",  # an arrow
    }


def test_calibration_and_classes() -> None:
    frame = hand_frame()
    records: list[tuple[Place, Record]] = [
        (place(), json.loads(json.dumps(a2d2.record(rendered_frame(frame), place()))))
    ]
    files = a2d2.closing_files(records)
    assert list(files) == ["cams_lidars.json", f"{BOXES}/class_list.json"]
    sensors = json.loads(files["cams_lidars.json"]())
    camera = sensors["cameras"]["front_center"]
    assert camera["CamMatrix"] == camera["CamMatrixOriginal"] == K.tolist()
    assert camera["Resolution"] == [128, 64]
    assert camera["Distortion"] == [[0.0] * 5]
    np.testing.assert_allclose(vehicle_from_view(camera["view"]), pose(1.711, 0, 0.943))
    np.testing.assert_allclose(vehicle_from_view(sensors["lidars"]["front_left"]["view"]), pose(1.711, 0.6, 1.118))
    assert sensors["vehicle"]["ego-dimensions"]["z-range"] == [-0.75, 1.5]
    assert len(json.loads(files[f"{BOXES}/class_list.json"]())) == 55


def test_test_split_has_no_labels_and_the_same_frame_the_same_bytes() -> None:
    assert not any("label" in path.split("/")[2] for path in a2d2.files(None, place(split="test")))
    first, second = (content(a2d2.files(rendered_frame(hand_frame()), place(3)), "npz") for _ in range(2))
    assert first == second


def test_missing_sensors_and_labels() -> None:
    frame = hand_frame()
    with pytest.raises(InputError, match="no sensor 'front_center'"):
        a2d2.files(rendered_frame(replace(frame, cameras={})), place())[next(iter(a2d2.files(None, place())))]()
    with pytest.raises(InputError, match=r"none of A2D2's five lidars \(it has TOP\)"):
        content(a2d2.files(rendered_frame(replace(frame, lidars={"TOP": frame.lidars["front_left"]})), place()), "npz")
    with pytest.raises(InputError, match="one is missing"):
        a2d2.label_image(frame, described(56))


# ---- Frames of the synthetic world.


@pytest.fixture(scope="module")
def rendered() -> list[Frame]:
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    from zoo.synthetic.frames.render import render_scene
    from zoo.synthetic.sensors.rigs import RIGS

    # A2D2's rig with a fifth of the columns, without noise.
    lidars = {
        name: replace(lidar, columns=360, range_noise_m=0.0, dropout=0.0) for name, lidar in RIGS["a2d2"].lidars.items()
    }
    return list(render_scene(58, 2, rig=replace(RIGS["a2d2"], lidars=lidars), size=(120, 190), exact=True))


@pytest.fixture(scope="module")
def folder(rendered: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a2d2")
    records: list[tuple[Place, Record]] = []
    for number, frame in enumerate(rendered):
        where = place(number, seed=58)
        for path, make in a2d2.files(rendered_frame(frame, 58), where).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(make())
        records.append((where, a2d2.record(rendered_frame(frame, 58), where)))
    for path, make in a2d2.closing_files(records).items():
        (root / path).write_bytes(make())
    return root


def test_rendered_points_meet_the_picture(folder: Path, rendered: list[Frame]) -> None:
    k = np.array(json.loads((folder / "cams_lidars.json").read_text())["cameras"]["front_center"]["CamMatrix"])
    classes = json.loads((folder / BOXES / "class_list.json").read_text())
    lidars, count, same_depth = set(), 0, 0
    for path, frame in zip(sorted((folder / BOXES).rglob("*.npz")), rendered):
        lidar = read_lidar(path.read_bytes())
        check_lidar(lidar, k)
        lidars |= set(np.unique(lidar["lidar_id"]))
        assert np.ptp(lidar["timestamp"]) < 200_000
        names = names_of(np.array(Image.open(_sibling(path, "label", "png"))), classes)
        camera = frame.cameras["front_center"]
        labels, depth = camera.labels, camera.depth_m
        assert labels is not None
        assert depth is not None
        # Colours by class, against the labels.
        for label, expected in ((10, "Sky"), (1, "Sidewalk"), (2, "Buildings"), (5, "Poles"), (8, "Nature object")):
            assert set(np.unique(names[labels == label])) <= {expected}
        assert all(name.startswith("Car") for name in np.unique(names[labels == 13]))
        row, column = np.floor(lidar["row"] + 0.5).astype(int), np.floor(lidar["col"] + 0.5).astype(int)
        assert (row >= 0).all()
        assert (row < 120).all()
        assert (column >= 0).all()
        assert (column < 190).all()
        inside = (row > 0) & (row < 119) & (column > 0) & (column < 189)
        row, column, x = row[inside], column[inside], lidar["depth"][inside]
        depths = np.stack([depth[row + j, column + i] for j in (-1, 0, 1) for i in (-1, 0, 1)])
        still = ~np.isin(labels[row, column], range(11, 19))  # others moved between the turn and the picture
        whole = still & np.isfinite(depths).all(0) & (depths.max(0) < 1.2 * depths.min(0))
        count += int(whole.sum())
        same_depth += int((whole & (x > depths.min(0) - 0.05) & (x < depths.max(0) + 0.05)).sum())
    assert len(lidars) >= 3
    assert count > 500
    assert same_depth / count > 0.97


def _sibling(lidar: Path, kind: str, ending: str) -> Path:
    name = lidar.name.replace("_lidar_", f"_{kind}_").replace(".npz", f".{ending}")
    return lidar.parents[2] / kind / lidar.parent.name / name


def test_rendered_boxes_hold_their_points(folder: Path, rendered: list[Frame]) -> None:
    k = np.array(json.loads((folder / "cams_lidars.json").read_text())["cameras"]["front_center"]["CamMatrix"])
    found = 0
    for path, frame in zip(sorted((folder / BOXES).rglob("*.npz")), rendered):
        lidar = read_lidar(path.read_bytes())
        boxes = json.loads(_sibling(path, "label3D", "json").read_text())
        check_boxes(boxes, k, (120, 190))
        for box in boxes.values():
            match = [b for b in frame.boxes or () if np.allclose(b.size, box["size"])]
            assert match
            standing = [b for b in match if not b.moving]
            if box["truncation"] > 0 or len(standing) != 1 or len(match) != 1:
                continue
            # All of it is in the image, so all its points are in the file.
            low, high = (int(box_holds(box, lidar["points"], margin).sum()) for margin in (-1e-3, 1e-3))
            assert low <= (standing[0].num_points or 0) <= high
            found += 1
    assert found >= 3


# ---- The same parser on real files.


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real/a2d2 is not there")
def test_real_a2d2() -> None:
    camera = json.loads((REAL / "cams_lidars.json").read_text())["cameras"]["front_center"]
    k = np.array(camera["CamMatrix"])
    (path,) = (REAL / BOXES).rglob("*.npz")
    lidar = read_lidar(path.read_bytes())
    check_lidar(lidar, k)
    boxes = json.loads(_sibling(path, "label3D", "json").read_text())
    check_boxes(boxes, k, (1208, 1920))
    assert [int(box_holds(box, lidar["points"]).sum()) > 0 for box in boxes.values()] == [True] * 4
    classes = json.loads((REAL / "camera_lidar_semantic/class_list.json").read_text())
    assert {f"#{color:06x}": name for name, color in a2d2.COLORS.items()} == classes
    for label in (REAL / "camera_lidar_semantic").rglob("label/*/*.png"):
        assert "Sky" in names_of(np.array(Image.open(label))[::8, ::8], classes)
    # Our files have the same keys.
    ours = json.loads(content(a2d2.files(rendered_frame(hand_frame((CAR,))), place()), "label3D"))
    assert list(ours["box_0"]) == list(boxes["box_0"])
    written = json.loads(
        a2d2.closing_files([(place(), a2d2.record(rendered_frame(hand_frame()), place()))])["cams_lidars.json"]()
    )
    assert set(written["cameras"]["front_center"]) == set(camera) - {"view_"}
