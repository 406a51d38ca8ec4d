"""Depth, flow, labels and calibration of pictures: files read back by parsers written from the devkits' readmes."""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cli import main
from zoo.errors import InputError
from zoo.frame import CameraFrame, Frame
from zoo.synthetic import render_scene
from zoo.synthetic.layouts.extras import camera_json, depth_png, disparity_png, flow_png, numbered_instances_png
from zoo.synthetic.shapes.templates import poses_of, template

pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")

SIZE = (94, 310)


def read_png(content: bytes) -> np.ndarray:
    """`(H, W, C)` of a PNG file of 8 or 16 bits, by the chunks and filters of RFC 2083 and nothing of ours."""
    assert content[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    at, data, head = 8, b"", b""
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        head = body if kind == b"IHDR" else head
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    assert kind == b"IEND"
    width, height, depth, color, *_, interlaced = struct.unpack(">IIBBBBB", head)
    assert not interlaced
    channels, wide = {0: 1, 2: 3}[color], depth // 8
    step, raw = channels * wide, np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, -1)
    out = np.zeros((height + 1, raw.shape[1] - 1 + step), np.int64)
    for y, row in enumerate(raw):
        for x, value in enumerate(row[1:].tolist(), step):
            left, above, corner = (int(v) for v in (out[y + 1, x - step], out[y, x], out[y, x - step]))
            paeth = min((left, above, corner), key=lambda v: abs(left + above - corner - v))
            guess = (0, left, above, (left + above) // 2, paeth)[row[0]]
            out[y + 1, x] = (value + guess) & 255
    pixels = out[1:, step:].astype(np.uint8).tobytes()
    return np.frombuffer(pixels, f">u{wide}").reshape(height, width, channels)


def read_flow(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Flow and validity, by the readme of KITTI's scene flow devkit."""
    image = read_png(content).astype(float)
    assert image.shape[2] == 3
    return (image[..., :2] - 2**15) / 64.0, image[..., 2] > 0


# --- encodings by hand ------------------------------------------------------------------------------------------------


def camera(**values: object) -> CameraFrame:
    k = np.array([[1000.0, 0, 2.0], [0, 900.0, 1.0], [0, 0, 1]])
    return CameraFrame(image_source=np.zeros((1, 4, 3), np.uint8), intrinsics=k, **values)  # type: ignore[arg-type]


def test_depth_and_disparity_by_hand() -> None:
    shown = camera(depth_source=np.array([[10.0, 0.5, 300.0, np.inf]], np.float32))
    # 10 m * 256 = 2560; 300 m does not fit in 16 bits; the sky has none.
    assert read_png(depth_png(shown))[..., 0].tolist() == [[2560, 128, 0, 0]]
    # 1000 px * 0.209313 m / 10 m = 20.9313 px; * 256 + 1 = 5359.4. At half a metre, 418 px do not fit.
    p = read_png(disparity_png(shown))[..., 0]
    assert p.tolist() == [[5359, 0, 180, 0]]
    assert (p[0, 0] - 1) / 256 == pytest.approx(20.9313, abs=1 / 512)


def test_flow_by_hand() -> None:
    flow = np.array([[[1.5, -2.25], [0, 0], [600.0, 0], [np.nan, np.nan]]], np.float32)
    found, known = read_flow(flow_png(camera(flow_source=flow)))
    assert known.tolist() == [[True, True, False, False]]
    assert found[0, :2].tolist() == [[1.5, -2.25], [0.0, 0.0]]


def test_kitti_numbers_instances_from_one_in_each_class() -> None:
    labels = np.array([[13, 13, 11, 0]], np.uint8)  # car, car, person, road as training ids
    shown = camera(labels_source=labels, instances_source=np.array([[26107, 26012, 24107, 7]], np.int32))
    value = read_png(numbered_instances_png(shown))[..., 0].astype(int)
    assert (value // 256).tolist() == [[26, 26, 24, 7]]
    assert (value % 256).tolist() == [[2, 1, 1, 0]]
    many = camera(
        labels_source=np.full((1, 256), 13, np.uint8), instances_source=26000 + np.arange(256, dtype=np.int32)[None]
    )
    with pytest.raises(InputError, match="256 instances of label 13"):
        numbered_instances_png(many)


def test_camera_json_by_hand() -> None:
    # 1.7 m ahead, 0.1 m left, 1.22 m up, turned 0.1 to the left and then tilted 0.2 down: the columns are the images of
    # x right, y down and z forward in vehicle axes.
    c, s, d, t = np.cos(0.1), np.sin(0.1), np.cos(0.2), np.sin(0.2)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 2] = (s, -c, 0), (c * d, s * d, -t)
    pose[:3, 1], pose[:3, 3] = np.cross(pose[:3, 2], pose[:3, 0]), (1.7, 0.1, 1.22)
    told = json.loads(camera_json(replace(camera(), ego_from_camera=pose)))
    assert told["intrinsic"] == {"fx": 1000.0, "fy": 900.0, "u0": 2.0, "v0": 1.0}
    assert {name: round(value, 9) for name, value in told["extrinsic"].items()} == {
        **{"baseline": 0.209313, "pitch": 0.2, "roll": 0.0, "x": 1.7},
        **{"y": 0.1, "yaw": 0.1, "z": 1.22},
    }


def test_what_was_not_rendered_is_named() -> None:
    with pytest.raises(InputError, match="has no flow; render it with flow"):
        flow_png(camera())


# --- flow from geometry -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> list[Frame]:
    """Two frames of the first place with a moving vehicle of at least 300 pixels, and some sky."""
    for seed in range(28, 60):
        frames = list(render_scene(seed, 2, rig="kitti", size=SIZE, flow=True, exact=True))
        instances = frames[0].cameras["image_2"].instances
        assert instances is not None
        tracks = [box.track for box in frames[0].boxes or () if box.moving and box.kind in ("car", "van", "bus")]
        if any((instances % 1000 == track)[instances >= 1000].sum() >= 300 for track in tracks) and (
            (instances == 23).sum() > 100
        ):
            return frames
    raise AssertionError("no place has a moving vehicle")


def seen(frame: Frame) -> tuple[CameraFrame, np.ndarray]:
    shown = frame.cameras["image_2"]
    assert shown.world_from_ego is not None
    assert shown.ego_from_camera is not None
    return shown, shown.world_from_ego @ shown.ego_from_camera


def projected(world: np.ndarray, shown: CameraFrame, pose: np.ndarray) -> np.ndarray:
    """`(N, 2)` pixels of `(N, 3)` world points."""
    assert shown.intrinsics is not None
    local = (world - pose[:3, 3]) @ pose[:3, :3]
    pixels = local @ shown.intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


def test_flow_is_where_points_are_seen_next(pair: list[Frame]) -> None:
    """Points from the depth, moved with their boxes, projected into the second frame's camera."""
    (first, pose), (second, then) = (seen(frame) for frame in pair)
    flow, depth, instances = first.flow, first.depth_m, first.instances
    assert flow is not None
    assert depth is not None
    assert instances is not None
    assert first.intrinsics is not None
    v, u = np.nonzero(np.isfinite(depth))
    rays = np.stack([u, v, np.ones_like(u)], 1) @ np.linalg.inv(first.intrinsics).T
    world = rays * depth[v, u][:, None] @ pose[:3, :3].T + pose[:3, 3]
    track = np.where(instances >= 1000, instances % 1000, 0)[v, u]
    boxes = [{box.track: box for box in frame.boxes or ()} for frame in pair]
    moving = {box.track for box in boxes[0].values() if box.moving}
    unboxed = (track > 0) & ~np.isin(track, list(boxes[0]))  # beyond the range of boxes
    still = ~np.isin(track, list(moving)) & ~unboxed
    expected = projected(world, second, then) - np.stack([u, v], 1)
    assert still.sum() > 10_000
    np.testing.assert_allclose(flow[v, u][still], expected[still], atol=0.02)
    farthest = 0.0
    for number in moving & set(boxes[1]):
        before, after = boxes[0][number], boxes[1][number]
        here = track == number
        if before.kind not in ("car", "van", "truck", "bus") or here.sum() < 10:
            continue
        turn = after.yaw - before.yaw
        c, s = np.cos(turn), np.sin(turn)
        moved = (world[here] - before.center) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + after.center
        # The frame's boxes are of its own time, which is the picture's in this rig.
        assert first.timestamp_us == pair[0].timestamp_us
        carried = projected(moved, second, then) - np.stack([u, v], 1)[here]
        np.testing.assert_allclose(flow[v, u][here], carried, atol=0.05)
        farthest = max(farthest, float(np.abs(carried - expected[here]).max()))
    assert farthest > 1.0  # pixels from where something would be if it stood still


def test_sky_moves_with_the_camera_alone(pair: list[Frame]) -> None:
    (first, pose), (second, then) = (seen(frame) for frame in pair)
    assert first.flow is not None
    assert first.depth_m is not None
    assert first.intrinsics is not None
    v, u = np.nonzero(np.isinf(first.depth_m))
    assert len(v) > 100
    far = np.stack([u, v, np.ones_like(u)], 1) @ np.linalg.inv(first.intrinsics).T @ pose[:3, :3].T * 1e9
    np.testing.assert_allclose(first.flow[v, u], projected(far, second, then) - np.stack([u, v], 1), atol=0.01)


def test_the_second_picture_shows_the_same_there(pair: list[Frame]) -> None:
    (first, _), (second, _) = (seen(frame) for frame in pair)
    flow, size = first.flow, first.image.shape[:2]
    assert flow is not None
    v, u = np.mgrid[: size[0], : size[1]]
    x, y = np.rint(u + flow[..., 0]).astype(int), np.rint(v + flow[..., 1]).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
    assert first.instances is not None
    assert second.instances is not None
    # Away from edges, where rounding to whole pixels and what comes into view would count.
    around = [np.roll(first.instances, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    inner = inside & np.all([each == first.instances for each in around], axis=0)
    now, later = first.instances[inner], second.instances[y[inner], x[inner]]
    assert inner.mean() > 0.3
    assert (now == later).mean() > 0.93
    assert (now == later)[now >= 1000].mean() > 0.9


def test_a_limb_is_followed_through_a_stride() -> None:
    """Poses of a person have the same triangles in the same order, so that a point keeps its place on the skin."""
    for variant in range(4):
        meshes = [template("person", variant, pose) for pose in range(poses_of("person"))]
        assert all(np.array_equal(mesh.faces, meshes[0].faces) for mesh in meshes)
        assert all(np.array_equal(mesh.material, meshes[0].material) for mesh in meshes)
        # Neighbouring poses: no vertex jumps to another part of the body.
        step = max(np.linalg.norm(a.vertices - b.vertices, axis=1).max() for a, b in itertools.pairwise(meshes))
        assert step < 0.5


def test_a_rig_without_a_clock_has_no_flow() -> None:
    with pytest.raises(InputError, match="rig 'camera' has no clock"):
        next(iter(render_scene(3, 1, size=(24, 40), flow=True)))


# --- files ------------------------------------------------------------------------------------------------------------


def rendered(layout: str, out: Path, *words: str, size: str = "48x160") -> Path:
    command = ["synthetic", "--layout", layout, "--frames", "2", "--scenes", "1", "--seed", "14", "--size", size]
    assert main([*command, "--workers", "1", "--out", str(out), *words]) == 0
    return out


def test_kitti_files(tmp_path: Path) -> None:
    out = rendered("kitti", tmp_path / "data", "--depth", "--flow", "--camera-labels") / "training"
    first = next(iter(render_scene(14, 2, rig="kitti", size=(48, 160), flow=True))).cameras["image_2"]
    assert first.depth_m is not None
    assert first.labels is not None
    assert first.flow is not None
    assert first.instances is not None
    depth = np.array(Image.open(out / "depth_2/000000.png")) / 256
    near = first.depth_m < 255
    np.testing.assert_allclose(depth[near], first.depth_m[near], atol=1 / 512)
    assert (depth[np.isinf(first.depth_m)] == 0).all()
    flow, known = read_flow((out / "flow_occ/000000.png").read_bytes())
    assert known.mean() > 0.99
    np.testing.assert_allclose(flow[known], first.flow[known], atol=1 / 128)
    assert not (out / "flow_occ/000001.png").exists()  # there is no next frame
    semantic = np.array(Image.open(out / "semantic/000000.png"))
    instance = np.array(Image.open(out / "instance/000000.png")).astype(int)
    np.testing.assert_array_equal(instance // 256, semantic)
    assert set(np.unique(semantic)) >= {7, 11, 23}  # road, building, sky
    things = first.instances >= 1000
    np.testing.assert_array_equal(instance % 256 > 0, things)
    pairs = {(int(a), int(b)) for a, b in zip(instance[things], first.instances[things])}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})  # one to one


def test_cityscapes_and_acdc_files(tmp_path: Path) -> None:
    out = rendered("cityscapes", tmp_path / "city", "--depth")
    name = "val/synthetic/synthetic_000000_000000"
    told = json.loads((out / f"camera/{name}_camera.json").read_text())
    shown = next(iter(render_scene(14, 2, size=(48, 160)))).camera
    p = np.array(Image.open(out / f"disparity/{name}_disparity.png")).astype(float)
    with np.errstate(divide="ignore"):
        depth = told["extrinsic"]["baseline"] * told["intrinsic"]["fx"] / ((p - 1) / 256)
    assert shown.depth_m is not None
    known = (p > 1) & (shown.depth_m < 20)
    assert known.sum() > 500
    np.testing.assert_allclose(depth[known], shown.depth_m[known], rtol=0.02)
    assert (p[np.isinf(shown.depth_m)] == 0).all()
    out = rendered("acdc", tmp_path / "acdc", "--depth", "--calibration")
    assert json.loads((out / "camera/fog/val/GOPR0000/GOPR0000_frame_000000_camera.json").read_text()) == told
    metres = np.array(Image.open(out / "depth/fog/val/GOPR0000/GOPR0000_frame_000000_depth.png")) / 256
    near = shown.depth_m < 255
    np.testing.assert_allclose(metres[near], shown.depth_m[near], atol=1 / 512)


def test_semantickitti_nuscenes_and_a2d2_files(tmp_path: Path) -> None:
    every = ("--depth", "--flow", "--camera-labels")
    out = rendered("semantickitti", tmp_path / "s", *every) / "sequences/08"
    points = np.fromfile(out / "labels/000000.label", np.uint32) >> 16
    numbers = np.array(Image.open(out / "instance_2/000000.png")).astype(int)
    pictured = set((numbers[numbers >= 1000] % 1000).tolist())
    assert pictured & (set(points.tolist()) - {0})  # the same numbers in picture and sweep
    np.testing.assert_array_equal(
        np.where(numbers < 1000, numbers, numbers // 1000), np.array(Image.open(out / "semantic_2/000000.png"))
    )
    assert [path.name for path in (out / "flow_2").iterdir()] == ["000000.png"]
    out = rendered("nuscenes", tmp_path / "n", *every, "--sweeps", "0", size="45x80")
    for kind, count in (("depth", 2), ("flow", 1), ("semantic", 2), ("instance", 2)):
        for channel in ("CAM_FRONT", "CAM_BACK_LEFT"):
            names = [path.stem for path in sorted((out / kind / channel).iterdir())]
            assert names == [path.stem for path in sorted((out / "samples" / channel).iterdir())][:count]
    out = rendered("a2d2", tmp_path / "a", "--depth", "--flow", size="60x96")
    assert len(list(out.rglob("*_depth_frontcenter_*.png"))) == 2
    (flow,) = out.rglob("*_flow_frontcenter_*.png")
    assert read_flow(flow.read_bytes())[1].mean() > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--layout", "cityscapes", "--flow"],
            "--flow: layout cityscapes has no optical flow, as its frames are too far",
        ),
        (["--layout", "acdc", "--camera-labels"], "has labels of its pictures anyway; it takes --depth, --calibration"),
        (["--layout", "kitti", "--calibration"], "--calibration: layout kitti has its calibration anyway; it takes"),
        (["--layout", "kitti", "--depth", "--split", "test"], "split test is written without ground truth; omit it"),
    ],
)
def test_requests_that_a_layout_does_not_have(words: list[str], message: str, tmp_path: Path, capsys) -> None:
    assert main(["synthetic", *words, "--frames", "1", "--out", str(tmp_path / "data")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_resume_with_other_requests_is_refused(tmp_path: Path, capsys) -> None:
    out = rendered("cityscapes", tmp_path / "data", "--depth")
    command = ["synthetic", "--layout", "cityscapes", "--frames", "2", "--scenes", "1", "--seed", "14"]
    assert main([*command, "--size", "48x160", "--out", str(out), "--resume"]) == 2
    assert "was started with extras ['depth'], not none" in capsys.readouterr().err
    gone = out / "disparity/val/synthetic/synthetic_000000_000001_disparity.png"
    whole = gone.read_bytes()
    gone.unlink()
    assert main([*command, "--size", "48x160", "--out", str(out), "--resume", "--depth", "--workers", "1"]) == 0
    assert gone.read_bytes() == whole
