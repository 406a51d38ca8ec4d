"""The layouts of KITTI and SemanticKITTI, read back by a parser that knows the format alone; real files by the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hand_made import AHEAD, K, car, described, place, pose, rendered_frame
from PIL import Image
from tolerances import assert_close

from zoo.errors import InputError
from zoo.frame import Box3D, CameraFrame, Frame, Sweep
from zoo.synthetic.layouts import Place, Record, kitti, semantickitti, street
from zoo.synthetic.layouts.geometry import image_box

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"

# ---- A parser of both data sets, written from their readmes. It uses nothing of `zoo`.


@dataclass
class Label:
    kind: str
    truncated: float
    occluded: int
    alpha: float
    box: np.ndarray  # left top right bottom
    size: np.ndarray  # h w l
    bottom: np.ndarray
    ry: float

    def holds(self, rect: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Which (N, 3) points of the rectified camera 0 lie in the box, grown by `margin` metres on each side."""
        c, s = np.cos(self.ry), np.sin(self.ry)
        local = (rect - self.bottom) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])  # R_y^T, for rows
        h, w, length = self.size
        return (
            (np.abs(local[:, 0]) <= length / 2 + margin)
            & (np.abs(local[:, 2]) <= w / 2 + margin)
            & (local[:, 1] <= margin)
            & (local[:, 1] >= -h - margin)
        )

    def corners(self) -> np.ndarray:
        h, w, length = self.size
        c, s = np.cos(self.ry), np.sin(self.ry)
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (0, -1) for z in (-1, 1)])
        return signs * [length / 2, h, w / 2] @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + self.bottom


def read_calib(text: str) -> dict[str, np.ndarray]:
    rows = dict(line.split(":", 1) for line in text.splitlines() if line.strip())
    values = {key: np.array([float(word) for word in row.split()]) for key, row in rows.items()}
    return {key: row.reshape(3, -1) for key, row in values.items()}


def four(matrix: np.ndarray) -> np.ndarray:
    out = np.eye(4)
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out


def read_labels(text: str) -> list[Label]:
    out = []
    for line in text.splitlines():
        words = line.split(" ")
        assert len(words) == 15, line
        number = [float(word) for word in words[1:]]
        out.append(
            Label(
                words[0],
                number[0],
                int(words[2]),
                number[2],
                np.array(number[3:7]),
                np.array(number[7:10]),
                np.array(number[10:13]),
                number[13],
            )
        )
    return out


def read_points(content: bytes) -> np.ndarray:
    return np.frombuffer(content, "<f4").reshape(-1, 4)


def rectified(calib: dict[str, np.ndarray], points: np.ndarray) -> np.ndarray:
    lidar = np.hstack([points[:, :3].astype(float), np.ones((len(points), 1))])
    return (lidar @ (four(calib["R0_rect"]) @ four(calib["Tr_velo_to_cam"])).T)[:, :3]


def pixels(projection: np.ndarray, rect: np.ndarray) -> np.ndarray:
    projected = np.hstack([rect, np.ones((len(rect), 1))]) @ projection.T
    return projected[:, :2] / projected[:, 2:]


def read_poses(text: str) -> list[np.ndarray]:
    return [four(np.array([float(word) for word in line.split()]).reshape(3, 4)) for line in text.splitlines()]


def read_table(text: str) -> dict[str, dict[str, str]]:
    """Sections of `semantic-kitti.yaml`: the flat mappings in it."""
    out: dict[str, dict[str, str]] = {}
    section = ""
    for line in text.splitlines():
        line = line.split("#")[0].rstrip()
        if re.fullmatch(r"\w+:", line):
            section = line[:-1]
            out[section] = {}
        elif match := re.fullmatch(r"\s+(\w+)\s*:\s*(.*)", line):
            out[section][match[1]] = match[2]
    return out


def check_labels(labels: list[Label], rect: np.ndarray, projection: np.ndarray, pixel_error: float) -> int:
    """What holds for every label file with its points; gives the number of labelled objects."""
    kinds = [label.kind for label in labels]
    objects = [label for label in labels if label.kind != "DontCare"]
    assert kinds == [label.kind for label in objects] + ["DontCare"] * (len(kinds) - len(objects))
    for label in labels[len(objects) :]:
        assert (label.truncated, label.occluded, label.alpha, label.ry) == (-1, -1, -10, -10)
        assert [*label.size, *label.bottom] == [-1] * 3 + [-1000] * 3
    for label in objects:
        assert label.kind in {"Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc"}
        assert label.holds(rect).sum() > 0
        angle = label.alpha - (label.ry - np.arctan2(label.bottom[0], label.bottom[2]))
        assert abs((angle + np.pi) % (2 * np.pi) - np.pi) < 0.12 * (pixel_error > 0.1) + 1e-5
        corners = label.corners()
        if corners[:, 2].min() > 1 and label.truncated == 0:
            on_image = pixels(projection, corners)
            np.testing.assert_allclose(label.box, [*on_image.min(0), *on_image.max(0)], atol=pixel_error)  # by data set
    return len(objects)


# ---- Frames made by hand: what the files must hold is worked out beside them.


def hand_frame(
    world_points: np.ndarray,
    boxes: tuple[Box3D, ...] = (),
    ego: np.ndarray | None = None,
    ego_at_image: np.ndarray | None = None,
    image_later_us: int = 0,
    **labels: np.ndarray,
) -> Frame:
    """A frame at 2 s whose sweep meets `world_points`; its pictures may be taken later, from elsewhere."""
    ego = np.eye(4) if ego is None else ego
    ego_from_lidar = pose(0.8, 0, 1.73)
    from_world = np.linalg.inv(ego @ ego_from_lidar)
    xyz = world_points @ from_world[:3, :3].T + from_world[:3, 3]
    points = np.hstack([xyz, np.full((len(xyz), 1), 0.25)]).astype(np.float32)
    cameras = {
        name: CameraFrame(
            image_source=np.full((64, 128, 3), shade, np.uint8),
            timestamp_us=2_000_000 + image_later_us,
            intrinsics=K,
            ego_from_camera=pose(1.08, y, 1.65, rotation=AHEAD),
            world_from_ego=ego if ego_at_image is None else ego_at_image,
        )
        for name, y, shade in (("image_2", 0.06, 50), ("image_3", -0.48, 90))
    }
    sweep = Sweep(
        points_source=points,
        timestamp_us=2_000_000,
        ego_from_lidar=ego_from_lidar,
        world_from_ego=ego,
        **{f"{key}_source": value for key, value in labels.items()},  # type: ignore[arg-type]
    )
    return Frame(
        id="hand",
        cameras=cameras,
        lidars={"velodyne": (sweep,)},
        boxes=boxes,
        timestamp_us=2_000_000,
        world_from_ego=ego,
    )


def text_of(files: dict[str, Callable[[], bytes]], path: str) -> str:
    return files[path]().decode()


CAR = car(21.08, num_points=1)


def test_one_box_one_point_one_camera() -> None:
    frame = hand_frame(np.array([[20.0, 2.5, 1.0]]), (CAR,))
    files = kitti.files(rendered_frame(frame), place())
    assert list(files) == [
        "training/image_2/000000.png",
        "training/image_3/000000.png",
        "training/velodyne/000000.bin",
        "training/calib/000000.txt",
        "training/label_2/000000.txt",
    ]
    calib = read_calib(text_of(files, "training/calib/000000.txt"))
    assert list(calib) == ["P0", "P1", "P2", "P3", "R0_rect", "Tr_velo_to_cam", "Tr_imu_to_velo"]
    assert text_of(files, "training/calib/000000.txt").endswith("\n\n")
    # Camera 2 is 0.06 m left of camera 0, camera 3 is 0.48 m right of it: 100 px * 0.06, 100 px * -0.48.
    assert calib["P2"][0, 3] == pytest.approx(6.0)
    assert calib["P3"][0, 3] == pytest.approx(-48.0)
    assert_close(calib["R0_rect"] @ calib["R0_rect"].T, np.eye(3))
    assert np.abs(calib["R0_rect"] - np.eye(3)).max() > 0.005  # a reader that leaves it out is off
    # The IMU is the vehicle's frame: the lidar stands 0.8 m before and 1.73 m above it.
    np.testing.assert_allclose(calib["Tr_imu_to_velo"], np.hstack([np.eye(3), [[-0.8], [0], [-1.73]]]))

    points = read_points(files["training/velodyne/000000.bin"]())
    assert_close(points, [[19.2, 2.5, -0.73, 0.25]])
    # In camera 0, 1.08 m before and 1.65 m above the origin: x = -2.5, y = 1.65 - 1, z = 20 - 1.08.
    rect = rectified(calib, points)
    assert_close(rect, [[-2.5, 0.65, 18.92]], dtype="float32")
    assert_close(pixels(calib["P2"], rect)[0], [64 - 244 / 18.92, 32 + 65 / 18.92], dtype="float32")

    # The car's middle is 20 m before and 2 m left of camera 0; its front points ahead, which is rotation_y = -pi / 2.
    # Image 2: x from -2.94 at 18 m to -0.94 at 22 m; y from 0.15 m to 1.65 m below the camera at 18 m.
    (car,) = read_labels(text_of(files, "training/label_2/000000.txt"))
    assert (car.kind, car.truncated, car.occluded) == ("Car", 0.0, 0)
    np.testing.assert_allclose(car.size, [1.5, 2.0, 4.0])
    assert_close(car.bottom, [-2.0, 1.65, 20.0], dtype="six decimals")
    assert_close(car.ry, -np.pi / 2, dtype="six decimals")
    assert_close(car.alpha, -np.pi / 2 - np.arctan2(-2, 20), dtype="six decimals")
    expected = [64 - 294 / 18, 32 + 15 / 22, 64 - 94 / 22, 32 + 165 / 18]
    np.testing.assert_allclose(car.box, expected, atol=0.006)  # two decimals
    assert car.holds(rect).tolist() == [True]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "van", "visibility": 0.5}, ("Van", 1)),
        ({"kind": "train", "visibility": 0.2}, ("Tram", 2)),
        ({"kind": "cyclist"}, ("Cyclist", 0)),
        ({"kind": "bus"}, ("Misc", 0)),
        ({"visibility": 0.05}, ("DontCare", -1)),
        ({"num_points": 0}, ("DontCare", -1)),
        ({"visibility": 0.0}, None),
        ({"center": np.array([-20.0, 0, 1])}, None),  # behind
        ({"center": np.array([20.0, 90, 1])}, None),  # beside the image
    ],
)
def test_types_and_visibility(change: dict[str, object], expected: tuple[str, int] | None) -> None:
    frame = hand_frame(np.zeros((1, 3)), (replace(CAR, **change),))  # type: ignore[arg-type]
    labels = read_labels(text_of(kitti.files(rendered_frame(frame), place()), "training/label_2/000000.txt"))
    assert [(label.kind, label.occluded) for label in labels] == ([] if expected is None else [expected])


def test_dont_care_comes_last_and_cut_boxes_are_truncated() -> None:
    hidden = replace(CAR, num_points=0)
    # 4.5 m left of camera 2 at 5 m, it reaches from pixel -26 (rear) to beyond 0: the left image border cuts it.
    cut = replace(CAR, center=np.array([7.08, 4.0, 0.75]), visibility=0.4)
    frame = hand_frame(np.zeros((1, 3)), (hidden, cut))
    first, last = read_labels(text_of(kitti.files(rendered_frame(frame), place()), "training/label_2/000000.txt"))
    assert (first.kind, last.kind) == ("Car", "DontCare")
    # Camera 2 sees x from -4.94 to -2.94, z from 4 to 8: columns 64 - 494 / 4 = -59.5 to 64 - 294 / 8 = 27.25, rows
    # 32 + 15 / 8 to 32 + 165 / 4 = 73.25, cut at 63. Of 86.75 x 71.375 there is 27.25 x 29.125 / (86.75 x 39.375) left.
    rows = 63 - (32 + 15 / 8), 32 + 165 / 4 - (32 + 15 / 8)
    assert first.truncated == pytest.approx(1 - 27.25 * rows[0] / (86.75 * rows[1]), abs=0.006)  # two decimals
    np.testing.assert_allclose(first.box, [0, 32 + 15 / 8, 27.25, 63], atol=0.006)  # two decimals
    assert first.occluded == 0  # 0.4 of it is seen: about as much as the image holds


def test_points_and_moving_boxes_hold_for_the_time_of_the_image() -> None:
    # 50 ms after the sweep the vehicle is 0.6 m ahead and turned, and a car at 10 m/s is 0.5 m ahead.
    there, later = pose(3, 1, 0.2, 0.3), pose(3.6, 1.2, 0.2, 0.34)
    mark = np.array([[24.0, 9.0, 1.0]])
    car = replace(CAR, center=np.array([24.0, 9.0, 0.75]), velocity=np.array([10.0, 0, 0]), moving=True)
    frame = hand_frame(mark, (car,), there, later, 50_000)
    files = kitti.files(rendered_frame(frame), place())
    calib = read_calib(text_of(files, "training/calib/000000.txt"))
    rect = rectified(calib, read_points(files["training/velodyne/000000.bin"]()))
    camera = np.linalg.inv(later @ pose(1.08, 0.06, 1.65, rotation=AHEAD))
    seen = K @ (camera[:3, :3] @ mark[0] + camera[:3, 3])
    assert_close(pixels(calib["P2"], rect)[0], seen[:2] / seen[2], dtype="float32")
    (label,) = read_labels(text_of(files, "training/label_2/000000.txt"))
    zero = np.linalg.inv(later @ pose(1.08, 0, 1.65, rotation=AHEAD))
    assert_close(label.bottom, zero[:3, :3] @ [24.5, 9.0, 0.0] + zero[:3, 3], dtype="six decimals")
    # The car heads along the world's x axis, 0.34 rad right of the camera.
    assert_close(label.ry, -np.pi / 2 + 0.34, dtype="six decimals")


def test_split_and_lists() -> None:
    frame = hand_frame(np.zeros((1, 3)))
    assert sorted(kitti.files(None, place(3, "test"))) == [
        f"testing/{folder}/000003.{ending}"
        for folder, ending in (("calib", "txt"), ("image_2", "png"), ("image_3", "png"), ("velodyne", "bin"))
    ]
    records = [(place(k, "val"), kitti.record(rendered_frame(frame), place(k, "val"))) for k in range(3)]
    lists = kitti.closing_files(records)
    assert {path: content() for path, content in lists.items()} == {
        "ImageSets/val.txt": b"000000\n000001\n000002",
        "ImageSets/trainval.txt": b"000000\n000001\n000002",
    }
    assert list(kitti.closing_files([(place(0, "test"), {})])) == ["ImageSets/test.txt"]


def test_missing_sensors_and_calibration() -> None:
    frame = hand_frame(np.zeros((1, 3)), (CAR,))
    with pytest.raises(InputError, match=r"no sensor 'image_3' \(it has image_2, velodyne\)"):
        kitti.calibration(replace(frame, cameras={"image_2": frame.cameras["image_2"]}))
    with pytest.raises(InputError, match=r"0 lidars \(none\)"):
        kitti.files(rendered_frame(replace(frame, lidars={})), place())["training/velodyne/000000.bin"]()
    crooked = replace(frame.cameras["image_3"], ego_from_camera=pose(1, 0, 1))
    with pytest.raises(InputError, match="parallel"):
        kitti.calibration(replace(frame, cameras={**frame.cameras, "image_3": crooked}))
    bare = replace(frame.cameras["image_3"], intrinsics=None)
    with pytest.raises(InputError, match="image_3 has no intrinsics"):
        kitti.calibration(replace(frame, cameras={**frame.cameras, "image_3": bare}))
    bare = replace(frame.cameras["image_2"], ego_from_camera=None)
    with pytest.raises(InputError, match="without calibration"):
        kitti.calibration(replace(frame, cameras={**frame.cameras, "image_2": bare}))
    with pytest.raises(InputError, match="no labels or instances"):
        semantickitti.point_labels(frame, described(56))


def closed(frames: list[Frame], split: str = "train", sequence: int = 0) -> dict[str, str]:
    records: list[tuple[Place, Record]] = []
    for number, frame in enumerate(frames):
        where = place(number, split, sequence)
        records.append((where, semantickitti.record(rendered_frame(frame), where)))
    return {path: content().decode() for path, content in semantickitti.closing_files(records).items()}


def test_poses_bring_the_scans_together() -> None:
    rng = np.random.default_rng(3)
    world = rng.uniform([18, -4, 0], [60, 12, 4], (50, 3))
    nothing = {"labels": np.full(50, 2, np.uint8), "instances": np.zeros(50, np.int32)}
    steps = [(pose(3, 1, 0.2, 0.3), pose(3.6, 1.2, 0.2, 0.34)), (pose(9, 4, 0.4, 0.5), pose(9.5, 4.4, 0.4, 0.53))]
    frames = [hand_frame(world, (), ego, then, 50_000, **nothing) for ego, then in steps]
    text = closed(frames)
    poses = read_poses(text["sequences/00/poses.txt"])
    velo = four(read_calib(text["sequences/00/calib.txt"])["Tr"])
    assert_close(poses[0], np.eye(4))
    scans = []
    for number, frame in enumerate(frames):
        path = f"sequences/00/velodyne/{number:06d}.bin"
        points = read_points(semantickitti.files(rendered_frame(frame), place(number))[path]())
        homogeneous = np.hstack([points[:, :3].astype(float), np.ones((50, 1))])
        scans.append(homogeneous @ (np.linalg.inv(velo) @ poses[number] @ velo).T)
    assert_close(scans[1], scans[0], dtype="float32")
    # and into the picture
    camera = np.linalg.inv(steps[1][1] @ pose(1.08, 0.06, 1.65, rotation=AHEAD))
    expected = (world @ camera[:3, :3].T + camera[:3, 3]) @ K.T
    back = np.linalg.inv(poses[1]) @ velo @ scans[0].T
    projected = (read_calib(text["sequences/00/calib.txt"])["P2"] @ back).T
    np.testing.assert_allclose(
        projected[:, :2] / projected[:, 2:], expected[:, :2] / expected[:, 2:], atol=1e-3
    )  # pixels, from float32 points
    assert text["sequences/00/times.txt"].split() == ["0.000000e+00", "0.000000e+00"]  # both hand frames are at 2 s


def test_point_labels() -> None:
    from zoo.synthetic.shapes.surfaces import Material

    # label, material, track -> raw id, instance
    cases = [
        (2, Material.BRICK, 0, 50, 0),
        (8, Material.FOLIAGE, 0, 70, 0),
        (8, Material.BARK, 0, 71, 0),
        (8, Material.BRANCH, 0, 70, 0),
        (9, Material.GROUND, 0, 72, 0),
        (255, Material.METAL_RAIL, 0, 51, 0),
        (255, Material.WOOD, 0, 99, 0),
        (255, 255, 0, 1, 0),  # a drop
        (13, Material.PAINT, 7, 252, 7),
        (13, Material.GLASS, 8, 10, 8),
        (12, Material.CLOTH, 9, 253, 9),  # rider and bicycle are one bicyclist
        (18, Material.METAL, 9, 253, 9),
        (18, Material.METAL, 10, 11, 10),
        (13, Material.PAINT, 99, 10, 0),  # beyond the boxes
        (11, Material.CLOTH, 11, 254, 11),
    ]
    labels, materials, tracks, raws, instances = (np.array(column) for column in zip(*cases))
    kinds = {7: ("car", True), 8: ("van", False), 9: ("cyclist", True), 10: ("bicycle", False), 11: ("person", True)}
    boxes = tuple(replace(CAR, track=track, kind=kind, moving=moves) for track, (kind, moves) in kinds.items())
    frame = hand_frame(
        np.zeros((len(cases), 3)),
        boxes,
        labels=labels.astype(np.uint8),
        instances=tracks.astype(np.int32),
        materials=materials.astype(np.uint8),
    )
    content = semantickitti.files(rendered_frame(frame), place())["sequences/00/labels/000000.label"]()
    read = np.frombuffer(content, "<u4")
    assert (read & 0xFFFF).tolist() == raws.tolist()
    assert (read >> 16).tolist() == instances.tolist()
    large = hand_frame(
        np.zeros((1, 3)),
        (replace(CAR, track=70000),),
        labels=np.array([13], np.uint8),
        instances=np.array([70000], np.int32),
    )
    with pytest.raises(InputError, match="70000 does not fit"):
        semantickitti.point_labels(large, described(56))


def test_sequence_numbers_are_those_of_the_splits() -> None:
    numbers = [semantickitti.sequence_number(place(0, "train", k)) for k in range(12)]
    assert numbers == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 22, 23]
    assert [semantickitti.sequence_number(place(0, "val", k)) for k in range(3)] == [8, 22, 23]
    assert semantickitti.sequence_number(place(0, "test", 10)) == 21
    assert not any("labels" in path for path in semantickitti.files(None, place(0, "test")))


def test_street_coordinates_and_markings() -> None:
    from zoo.synthetic.scene.describe import describe
    from zoo.synthetic.scene.types import CentreLine, Crossing, EdgeLine

    bent = describe(57).street
    assert max(abs(bend) for bend in bent.bend) > 0.005
    rng = np.random.default_rng(0)
    s, t = rng.uniform(bent.start, bent.end, 2000), rng.uniform(-12, 12, 2000)
    found_s, found_t = street.street_coordinates(bent, bent.to_world(s, t)[:, :2])
    np.testing.assert_allclose(found_s, s, atol=0.01)  # metres; found by interpolation along the bend
    np.testing.assert_allclose(found_t, t, atol=0.01)  # metres; found by interpolation along the bend
    # A double centre line 0.12 m on each side of the middle, and two lines at each edge of the road.
    scene = describe(56)
    lines = {"markings": CentreLine.DOUBLE, "edge_line": EdgeLine.DOUBLE_YELLOW, "tram": False, "cycle_lane": False}
    size = {"lanes": 2, "lane_width": 3.0, "half_width": 3.0, "parking": (0.0, 0.0)}
    zebra = Crossing(start=60.0, end=70.0, side=0, signals=False, zebra=True)
    scene = replace(scene, street=replace(scene.street, **lines, **size), crossings=(zebra,))
    across = np.linspace(-3.0, 3.0, 601)
    marks = street.markings_at(scene, scene.street.to_world(np.full(601, 20.0), across))
    painted = across[marks == street.Marking.SOLID]
    assert set(np.unique(marks)) == {street.Marking.NONE, street.Marking.SOLID}
    edges = np.nonzero(np.diff(painted) > 0.025)[0]
    assert len(edges) + 1 == 6  # two lines each: left, middle, right; worn specks do not part them
    assert np.abs(painted).min() < 0.12 < np.abs(painted[np.abs(painted) < 1]).max()
    # Its crossing has a zebra from 0.6 m to 3.6 m before it.
    crossing = scene.crossings[0]
    marks = street.markings_at(scene, scene.street.to_world(np.full(601, crossing.start - 2.0), across))
    assert set(np.unique(marks)) == {street.Marking.NONE, street.Marking.ZEBRA}


# ---- Frames of the synthetic world.


@pytest.fixture(scope="module")
def rendered() -> list[Frame]:
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    from zoo.synthetic.frames.render import render_scene
    from zoo.synthetic.sensors.rigs import RIGS

    # KITTI's rig with every third beam and a sixth of the columns, without noise, and half a second between frames.
    lidar = RIGS["kitti"].lidars["velodyne"]
    lidar = replace(
        lidar,
        elevations_deg=lidar.elevations_deg[::3],
        offsets_m=lidar.offsets_m[::3],
        response=replace(lidar.response, beam=lidar.response.beam[::3]),
        columns=350,
        range_noise_m=0.0,
        range_noise_growth=0.0,
        straddling=0.0,
        grass=False,
        dropout=0.0,
    )
    rig = replace(RIGS["kitti"], lidars={"velodyne": lidar}, period_s=0.5)
    # A level street: boxes are upright in the world, and those of KITTI upright in the camera.
    level = replace(described(58), street=replace(described(58).street, relief=None, grade=(0.0,) * 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.synthetic.frames.render.describe", lambda seed, choices: level)
        return list(render_scene(58, 2, rig=rig, size=(96, 318), exact=True))


@pytest.fixture(scope="module")
def kitti_folder(rendered: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    for number, frame in enumerate(rendered):
        for module in (kitti, semantickitti):
            files = module.files(rendered_frame(frame, 58), place(number))
            assert set(files) == set(module.files(None, place(number)))
            for path, content in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content())
    for path, text in closed(rendered).items():
        (root / path).write_text(text)
    return root


def read_frame(
    root: Path, number: int, points: str = "velodyne"
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    calib = read_calib((root / f"calib/{number:06d}.txt").read_text())
    scan = read_points((root / f"{points}/{number:06d}.bin").read_bytes())
    return calib, scan, rectified(calib, scan)


def test_rendered_boxes_hold_their_points(kitti_folder: Path, rendered: list[Frame]) -> None:
    found = 0
    for number, frame in enumerate(rendered):
        calib, scan, rect = read_frame(kitti_folder / "training", number)
        labels = read_labels((kitti_folder / f"training/label_2/{number:06d}.txt").read_text())
        found += check_labels(labels, rect, calib["P2"], 0.02)
        assert scan.dtype == np.float32
        assert 0 <= scan[:, 3].min() <= scan[:, 3].max() <= 1
        # Boxes are found again by their size; this world is level, so that boxes are upright in the camera.
        for label in labels:
            if label.kind == "DontCare":
                continue
            (box,) = [
                box
                for box in frame.boxes or ()
                if np.allclose(box.size[[2, 1, 0]], label.size, atol=2e-6)  # six decimals
                and label.holds(rect, -1e-3).sum() <= (box.num_points or 0) <= label.holds(rect, 1e-3).sum()
                and np.isclose(
                    np.linalg.norm(label.bottom[[0, 2]]), _away(frame, box), atol=1e-3
                )  # six decimals, three coordinates
            ]
            cycles = {"cyclist", "motorcyclist", "motorcycle", "bicycle"}
            assert box.kind in {"car", "van", "truck", "bus", "person"} | cycles
    assert found >= 10


def _away(frame: Frame, box: Box3D) -> float:
    """Metres in the plane from camera 0 to the box."""
    assert frame.world_from_ego is not None
    camera = frame.world_from_ego @ np.array([1.08, 0, 1.65, 1])
    return float(np.linalg.norm((box.center - camera[:3])[:2]))


def test_rendered_points_meet_the_picture(kitti_folder: Path, rendered: list[Frame]) -> None:
    same_label, same_depth, count, visible = 0, 0, 0, 0
    for number, frame in enumerate(rendered):
        calib, _, rect = read_frame(kitti_folder / "training", number)
        raw = np.fromfile(kitti_folder / f"sequences/00/labels/{number:06d}.label", "<u4") & 0xFFFF
        for camera, projection in (("image_2", calib["P2"]), ("image_3", calib["P3"])):
            about = frame.cameras[camera]
            labels, depth = about.labels, about.depth_m
            assert labels is not None
            assert depth is not None
            np.testing.assert_array_equal(
                np.array(Image.open(kitti_folder / f"training/{camera}/{number:06d}.png")), about.image
            )
            ahead = rect[:, 2] > 1
            column, row = np.floor(pixels(projection, rect[ahead]) + 0.5).astype(int).T
            inside = (column >= 1) & (column < 317) & (row >= 1) & (row < 95)
            column, row, z, ids = column[inside], row[inside], rect[ahead][inside, 2], raw[ahead][inside]
            around = np.stack([labels[row + j, column + i] for j in (-1, 0, 1) for i in (-1, 0, 1)])
            depths = np.stack([depth[row + j, column + i] for j in (-1, 0, 1) for i in (-1, 0, 1)])
            far = np.isfinite(depths).all(0) & (depths.max(0) < 1.3 * depths.min(0))  # one surface, though slanted
            whole = (around == around[0]).all(0) & far & (ids > 0)  # beyond 50 m nothing is labelled
            # The lidar, half a metre above the camera, sees past poles that hide what is behind them from the camera.
            shown = whole & (z < depths.max(0) + 1)
            count += int(whole.sum())
            visible += int(shown.sum())
            same_label += sum(
                int(shown[(ids == raw_id) & (around[0] == label)].sum())
                for raw_id in np.unique(ids[whole])
                for label in LABELS_OF[int(raw_id)]
            )
            same_depth += int((shown & (z > depths.min(0) - 0.05) & (z < depths.max(0) + 0.05)).sum())
    assert count > 1000
    assert visible > 0.9 * count
    assert same_label / visible > 0.99
    assert same_depth / visible > 0.98


LABELS_OF = {
    10: (13,), 252: (13,), 11: (18,), 13: (15,), 257: (15,), 15: (17,), 18: (14,), 258: (14,), 30: (11,), 254: (11,),
    31: (12, 18), 253: (12, 18), 32: (12, 17), 255: (12, 17), 40: (0,), 44: (0,), 60: (0,), 48: (1,), 50: (2,),
    51: (3, 4, 255), 70: (8,), 71: (8,), 72: (9,), 80: (5,), 81: (7,), 99: (6, 255),
}  # fmt: skip
"""The labels of a picture that a raw id may meet."""


def test_rendered_pictures_show_what_the_labels_say(kitti_folder: Path, rendered: list[Frame]) -> None:
    # Every pixel of a vehicle or person lies in the image box of something, one pixel more on each side.
    for number, frame in enumerate(rendered):
        labels = frame.cameras["image_2"].labels
        assert labels is not None
        boxes = [label.box for label in read_labels((kitti_folder / f"training/label_2/{number:06d}.txt").read_text())]
        row, column = np.nonzero((labels >= 11) & (labels <= 18))
        assert len(row) > 50
        inside = [(column > a - 1) & (row > b - 1) & (column < c + 1) & (row < d + 1) for a, b, c, d in boxes]
        assert np.any(inside, 0).mean() > 0.97  # the rest is farther away than boxes reach


def test_rendered_scans_share_poses_and_instances(kitti_folder: Path, rendered: list[Frame]) -> None:
    folder = kitti_folder / "sequences/00"
    poses = read_poses((folder / "poses.txt").read_text())
    velo = four(read_calib((folder / "calib.txt").read_text())["Tr"])
    times = [float(word) for word in (folder / "times.txt").read_text().split()]
    assert times == [0.0, 0.5]
    step = np.linalg.norm(poses[1][:3, 3])
    assert 1.5 < step < 7  # 4 to 13 m/s
    scans, ids, instances = [], [], []
    for number in range(2):
        points = read_points((folder / f"velodyne/{number:06d}.bin").read_bytes())[:, :3].astype(float)
        label = np.fromfile(folder / f"labels/{number:06d}.label", "<u4")
        assert len(label) == len(points)
        lidar = np.linalg.inv(velo) @ poses[number] @ velo
        scans.append(points @ lidar[:3, :3].T + lidar[:3, 3])
        ids.append(label & 0xFFFF)
        instances.append(label >> 16)
    assert not set(np.unique(np.concatenate(ids))) - set(semantickitti.CLASSES)
    # What stands (walls, poles, trunks) in the second scan is in the first, where the poses bring it.
    upright = [np.isin(raw, (50, 71, 80)) & (np.linalg.norm(scan, axis=1) < 25) for raw, scan in zip(ids, scans)]
    here, there = scans[0][upright[0]], scans[1][upright[1]][::4]
    assert len(there) > 100
    placed = np.median(_nearest(there, here))
    left_out = np.median(_nearest(there - (np.linalg.inv(velo) @ poses[1] @ velo)[:3, 3], here))
    assert placed < 0.35
    assert placed < 0.7 * left_out
    # An instance that stands has one place in both scans.
    both = 0
    for track in set(instances[0]) & set(instances[1]) - {0}:
        raw = {int(ids[k][instances[k] == track][0]) for k in range(2)}
        assert len(raw) == 1
        if raw.pop() < 250:
            centre = [scans[k][instances[k] == track].mean(0) for k in range(2)]
            assert np.linalg.norm((centre[0] - centre[1])[:2]) < 3
            both += 1
    assert both >= 1


def _nearest(points: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    return np.sqrt(((points[:, None] - cloud[None]) ** 2).sum(2).min(1))


def test_table_of_classes(rendered: list[Frame]) -> None:
    table = read_table(closed(rendered)["semantic-kitti.yaml"])
    assert table["labels"]["252"] == '"moving-car"'
    assert table["split"] == {"train": "[0]", "valid": "[]", "test": "[]"}
    assert sum(float(value) for value in table["content"].values()) == pytest.approx(1)
    assert table["learning_map_inv"]["5"] == "20"


# ---- The same parser on real files.


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "kitti").is_dir(), reason="../shared/real/kitti is not there")
def test_real_kitti() -> None:
    root = REAL / "kitti/training"
    counts = []
    for number in (0, 1, 2, 8):
        calib, _, rect = read_frame(root, number, "velodyne" if number < 8 else "velodyne_reduced")
        labels = read_labels((root / f"label_2/{number:06d}.txt").read_text())
        counts.append(check_labels(labels, rect, calib["P2"], 12.0))
    assert counts == [1, 3, 2, 6]
    # How much of a box the image cuts off is a share of its image rectangle, as our labels have it.
    calib, _, _ = read_frame(root, 8, "velodyne_reduced")
    height, width = np.array(Image.open(root / "image_2/000008.png")).shape[:2]
    cut = [label for label in read_labels((root / "label_2/000008.txt").read_text()) if label.truncated > 0]
    assert [label.truncated for label in cut] == [0.88, 0.34]
    for label in cut:
        camera_2 = label.corners() + [calib["P2"][0, 3] / calib["P2"][0, 0], 0, 0]
        on_image = image_box(camera_2, calib["P2"][:, :3], (height, width))
        assert on_image is not None
        assert on_image[1] == pytest.approx(label.truncated, abs=0.03)  # annotators round
    # Our calibration files have the same lines in the same format.
    ours = text_of(kitti.files(rendered_frame(hand_frame(np.zeros((1, 3)))), place()), "training/calib/000000.txt")
    real = (root / "calib/000000.txt").read_text()
    shape = [re.sub(r"-?\d\.\d{12}e[+-]\d\d", "#", text) for text in (ours, real)]
    assert shape[0] == shape[1].rstrip("\n") + "\n\n"


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "semantickitti").is_dir(), reason="../shared/real/semantickitti is not there")
def test_real_semantickitti() -> None:
    root = REAL / "semantickitti"
    points = read_points((root / "sequences/08/velodyne/000000.bin").read_bytes())
    label = np.fromfile(root / "sequences/08/labels/000000.label", "<u4")
    assert len(points) == len(label) == 123_389
    table = read_table((root / "semantic-kitti.yaml").read_text())
    assert {str(value) for value in np.unique(label & 0xFFFF)} <= set(table["labels"])
    names = {int(raw): name.strip('"') for raw, name in table["labels"].items()}
    assert names == {raw: name for raw, (name, _, _) in semantickitti.CLASSES.items()}
    train = {int(raw): int(value) for raw, value in table["learning_map"].items()}
    assert train == {raw: value for raw, (_, value, _) in semantickitti.CLASSES.items()}
    colors = {
        int(raw): [int(word) for word in value.strip("[]").split(",")] for raw, value in table["color_map"].items()
    }
    assert colors == {raw: list(rgb[::-1]) for raw, (_, _, rgb) in semantickitti.CLASSES.items()}
    frame = hand_frame(np.zeros((1, 3)), labels=np.array([2], np.uint8), instances=np.zeros(1, np.int32))
    ours = read_table(closed([frame])["semantic-kitti.yaml"])
    for section in ("learning_map_inv", "learning_ignore"):
        assert ours[section] == table[section]
