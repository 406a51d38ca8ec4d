"""The synthetic world: geometry by hand, exact labels, conditions, determinism."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.classes import CITYSCAPES
from zoo.condition import CONDITIONS, Condition
from zoo.errors import InputError, IntegrityError, MissingExtraError
from zoo.geometry.cameras import pixel_rays
from zoo.synthetic import iter_frames, render_frame, render_scene
from zoo.synthetic.embedded import EMBEDDED_SEEDS, embedded_frames
from zoo.synthetic.rendering.camera import ego_from_camera, intrinsics_of
from zoo.synthetic.rendering.light import light_of
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.types import CameraSpec, Optics
from zoo.synthetic.shapes.mesh import Builder, concatenate, place
from zoo.synthetic.shapes.templates import KINDS, VARIANTS, template
from zoo.synthetic.truth.annotate import close_crowns, close_fences

pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")

from tolerances import assert_close

from zoo.synthetic.frames.render import render_world
from zoo.synthetic.frames.times import stops
from zoo.synthetic.frames.world import World
from zoo.synthetic.rendering.cast import Caster
from zoo.synthetic.rendering.shade import Stage, shade

SIZE = (96, 160)
SPEC = CameraSpec(fov_deg=90.0, height_m=1.5, pitch_deg=0.0, roll_deg=0.0, yaw_deg=0.0, forward_m=0.0)


@pytest.fixture(scope="module")
def world() -> World:
    return World(describe(0))


def box(low: tuple[float, ...], high: tuple[float, ...], label: int = 13, color: tuple[float, ...] = (0.5, 0.5, 0.5)):
    builder = Builder(label)
    builder.box(low, high, color)
    return builder.mesh()


def rays(size: tuple[int, int], spec: CameraSpec = SPEC):
    pose = ego_from_camera(spec)
    intrinsics = intrinsics_of(spec, size)
    return pose[:3, 3], pixel_rays(intrinsics, size) @ pose[:3, :3].T, intrinsics


def test_one_box_in_one_camera():
    # 200 pixels wide with 90 degrees: focal length 100, principal point (99.5, 49.5). The box's front is 10 m ahead of
    # the camera, reaches 1.02 m to each side and from 1.02 m below to 1.02 m above the camera: 10.2 pixels each way, so
    # columns 89.3..109.7 and rows 39.3..59.7, that is columns 90..109 and rows 40..59, all at depth 10.
    caster = Caster([box((10, -1.02, 0.48), (11, 1.02, 2.52))])
    eye, directions, intrinsics = rays((100, 200))
    np.testing.assert_allclose(intrinsics, [[100, 0, 99.5], [0, 100, 49.5], [0, 0, 1]])
    hits = caster.trace(np.broadcast_to(eye, directions.shape), directions)
    seen = (hits.face >= 0).reshape(100, 200)
    rows, columns = np.nonzero(seen)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 59, 90, 109)
    assert seen.sum() == 20 * 20
    assert_close(hits.distance[hits.face >= 0], 10.0)
    assert_close(hits.normal[hits.face >= 0], np.tile([-1.0, 0, 0], (400, 1)))


def test_camera_axes():
    # Ego: x forward, y left, z up. Ten degrees of pitch look up, ten degrees of yaw look left.
    axis = ego_from_camera(dataclasses.replace(SPEC, pitch_deg=10.0))[:3, 2]
    assert_close(axis, [np.cos(np.radians(10)), 0, np.sin(np.radians(10))])
    axis = ego_from_camera(dataclasses.replace(SPEC, yaw_deg=10.0))[:3, 2]
    assert_close(axis, [np.cos(np.radians(10)), np.sin(np.radians(10)), 0])
    pose = ego_from_camera(SPEC)
    assert_close(pose[:3, 0], [0, -1, 0])  # image right is the ego's right
    assert_close(pose[:3, 1], [0, 0, -1])  # image down is down
    np.testing.assert_allclose(np.linalg.det(pose[:3, :3]), 1)


def test_nearer_of_two_meshes_and_shadow():
    # A car 10 m and a person 5 m ahead in separate trees; the order of the meshes does not matter.
    car, person = box((10, -2, 0), (11, 2, 3), 13), box((5, -0.2, 0), (5.1, 0.2, 3), 11)
    for meshes in ([car, person], [person, car]):
        caster = Caster(meshes)
        hits = caster.trace(np.array([[0, 0, 1.5], [0, 1, 1.5]]), np.array([[1.0, 0, 0], [1.0, 0, 0]]))
        assert_close(hits.distance, [5, 10])
        assert caster.label[hits.face].tolist() == [11, 13]
    # A roof 2 m above the ground shades what lies below it, not what lies beside it, and not beyond `reach`.
    caster = Caster([box((-1, -1, 2), (1, 1, 2.1))])
    up = np.tile([0.0, 0, 1], (2, 1))
    assert caster.blocked(np.array([[0.0, 0, 0], [3.0, 0, 0]]), up).tolist() == [True, False]
    assert not caster.blocked(np.array([[0.0, 0, 0]]), up[:1], reach=1.9)[0]


def test_upload_equals_the_slow_constructor(monkeypatch):
    mesh = concatenate([template("car", 1), place(template("tree", 2), (6, 3, 0))])
    origin = np.random.default_rng(0).uniform(-2, 8, (2000, 3)) * [1, 0.6, 0.8]
    toward = np.array([0.5, 0.3, 0.5]) - origin
    fast = Caster([mesh]).trace(origin, toward)
    monkeypatch.setattr("zoo.synthetic.rendering.embree._library", lambda: None)
    slow = Caster([mesh]).trace(origin, toward)
    assert (fast.face >= 0).sum() > 200
    np.testing.assert_array_equal(fast.face, slow.face)
    np.testing.assert_array_equal(fast.distance, slow.distance)


def test_road_is_where_depth_says(world: World):
    # On a straight level street every pixel of the road, taken back into the world by its depth, has height 0.
    street = dataclasses.replace(world.scene.street, bend=(0.0,) * 7, grade=(0.0,) * 7, relief=None)
    scene = dataclasses.replace(world.scene, street=street)
    frame = render_world(World(scene), 0, *stops(scene, 1)[0], Condition(), SIZE, exact=True)
    camera = frame.camera
    rows, columns = np.nonzero((camera.labels == 0) & (camera.depth_m < 60))
    assert len(rows) > 500  # of 15,360: traffic and pavements take the rest
    pixels = np.stack([columns, rows, np.ones_like(rows)]).astype(float)
    points = np.linalg.inv(camera.intrinsics) @ pixels * camera.depth_m[rows, columns]
    pose = frame.world_from_ego @ camera.ego_from_camera
    height = (pose[:3, :3] @ points)[2] + pose[2, 3]
    np.testing.assert_allclose(height, 0, atol=0.005)  # metres, of float32 rays 60 m long
    assert np.isinf(camera.depth_m[camera.labels == 10]).all()


def test_fog_follows_beer_and_lambert(world: World):
    # A black wall at range r in fog shows nothing but airlight: L = A (1 - exp(-b r)), b = -ln(0.05) / visibility.
    light = light_of(world.scene, Condition(weather="fog", severity=4))
    assert light.extinction == pytest.approx(-np.log(0.05) / 75.0)
    caster = Caster([box((40, -50, -50), (41, 50, 50), 2, (0, 0, 0))])
    eye, directions, intrinsics = rays((5, 5))
    hits = caster.trace(np.broadcast_to(eye, directions.shape), directions)
    stage = Stage(scene=world.scene, caster=caster, light=light, lamps=np.zeros((0, 3)), world_from_ego=np.eye(4))
    shaded = shade(stage, eye, directions, hits, np.ones(25, np.float32), 0.01)
    range_m = 40 * np.linalg.norm(directions, axis=1)
    expected = light.airlight * (1 - np.exp(-light.extinction * range_m))[:, None]
    np.testing.assert_allclose(shaded.radiance, expected, rtol=0.02)  # black is 0.4 % grey here
    del intrinsics


def test_severity_in_physical_units(world: World):
    for weather, attribute, values in (("rain", "rain_mm_h", (2.5, 60.0)), ("snow", "snow_mm_h", (0.5, 8.0))):
        for severity, value in zip((1, 5), values):
            assert getattr(light_of(world.scene, Condition(weather=weather, severity=severity)), attribute) == value
    lamps = [light_of(world.scene, Condition(time_of_day="night", severity=k)).lamp for k in range(1, 6)]
    assert lamps == sorted(lamps, reverse=True)
    assert lamps[0] / lamps[4] == pytest.approx(20 / 0.5)
    # The sun does not shine through fog, rain and snow, nor at dusk and by night.
    assert all(light_of(world.scene, Condition.parse(name)).sun.max() == 0 for name in CONDITIONS if name != "clear")


def test_a_place_is_the_same_under_every_condition(world: World):
    time_s, s = stops(world.scene, 1)[0]
    frames = [render_world(world, 0, time_s, s, Condition.parse(name), SIZE) for name in CONDITIONS]
    first = frames[0].camera
    images = {frame.camera.image.tobytes() for frame in frames}
    assert len(images) == len(CONDITIONS)
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame.camera.labels, first.labels)
        np.testing.assert_array_equal(frame.camera.instances, first.instances)
        np.testing.assert_array_equal(frame.camera.depth_m, first.depth_m)
    assert [frame.group for frame in frames] == list(CONDITIONS)
    assert not first.invalid.any()
    night, fog = frames[2].camera, frames[3].camera
    assert night.image.mean() < 0.6 * first.image.mean()
    # In 150 m of visibility, contrast has fallen to 5 % at 150 m: exactly the surfaces beyond are invalid.
    rays_per_metre = np.linalg.norm(
        np.linalg.inv(fog.intrinsics)
        @ np.stack([*np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])), np.ones(SIZE)]).reshape(3, -1),
        axis=0,
    ).reshape(SIZE)
    range_m = fog.depth_m * rays_per_metre
    sure = np.isfinite(range_m) & (np.abs(range_m - 150) > 0.1)
    np.testing.assert_array_equal(fog.invalid[sure], (range_m > 150)[sure])


PLAIN = Optics(
    exposure_ev=0.0,
    highlights=0.3,
    white_balance=(1.0, 1.0, 1.0),
    contrast=1.0,
    gamma=1.0,
    saturation=1.0,
    vignetting=0.0,
    blur_px=0.0,
    sharpen=0.0,
    noise=0.0,
    jpeg_quality=100,
    flare=0.0,
    black=0.0,
)


def test_extra_rays_are_for_edges():
    # Labels and depth are the first ray's. Without noise, blur and compression the picture changes at edges only, but
    # for a slightly different exposure.
    for seed in (3, 7):
        pictures = (
            next(render_scene(seed, 1, size=SIZE, exact=True, optics=PLAIN, edge_rays=n)).camera for n in (1, 0)
        )
        with_extra, without = pictures
        np.testing.assert_array_equal(with_extra.labels, without.labels)
        np.testing.assert_array_equal(with_extra.depth_m, without.depth_m)
        change = np.abs(with_extra.image.astype(int) - without.image).max(2)
        edge = np.zeros(SIZE, bool)
        for axis in (0, 1):
            differs = np.diff(with_extra.labels.astype(int), axis=axis) != 0
            differs |= np.abs(np.diff(np.log(np.minimum(with_extra.depth_m, 1e6)), axis=axis)) > 0.25
            for part in (slice(1, None), slice(None, -1)):
                edge[part if axis == 0 else (slice(None), part)] |= differs
        assert change[edge].mean() > 10
        assert np.median(change[~edge]) <= 2


def test_optics_change_the_picture_and_nothing_else():
    grey_optics = dataclasses.replace(PLAIN, saturation=0.0)
    own, grey = (next(render_scene(0, 1, size=SIZE, optics=optics)).camera for optics in (None, grey_optics))
    np.testing.assert_array_equal(own.labels, grey.labels)
    np.testing.assert_array_equal(own.depth_m, grey.depth_m)
    # Without saturation the three channels are equal up to the rounding of a JPEG.
    assert np.ptp(grey.image.astype(int), axis=2).max() <= 2
    assert np.ptp(own.image.astype(int), axis=2).max() > 20


def test_instances_are_coded_as_in_cityscapes():
    frame = render_frame(10_000_001, size=SIZE)
    labels, instances = frame.camera.labels, frame.camera.instances
    ids = dict(zip(range(19), (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)))
    cars = np.unique(instances[labels == 13])
    assert len(cars) > 3
    assert cars.min() > 26000
    assert cars.max() < 27000
    for label, id in ids.items():
        here = instances[labels == label]
        if label < 11:
            assert set(np.unique(here)) <= {id}
        else:
            assert set(np.unique(here) // 1000) <= {id}
    assert (instances[labels == 255] == 0).all()


def test_same_seed_same_bytes_whatever_the_workers():
    settings = dict(
        size=(24, 40), frames_per_scene=2, conditions=[Condition.parse(n) for n in ("clear", "rain", "night")]
    )
    # Two places, so that two processes share the work.
    alone = list(iter_frames(3, 56, **settings))
    spread = list(iter_frames(3, 56, workers=2, **settings))
    assert [f.id for f in alone] == [f.id for f in spread] == ["00000056_000000", "00000056_000001", "00000057_000000"]
    assert [f.condition.name for f in alone] == ["clear", "rain", "rain"]  # each place begins with another condition
    for a, b in zip(alone, spread):
        for name in ("image", "labels", "instances", "depth_m"):
            assert getattr(a.camera, name).tobytes() == getattr(b.camera, name).tobytes()


def test_scene_yields_frames_along_the_way():
    frames = list(render_scene(38, 3, size=(24, 40)))
    x = np.array([frame.world_from_ego[:3, 3] for frame in frames])
    speed = np.linalg.norm(np.diff(x, axis=0), axis=1) / np.diff([frame.timestamp_us for frame in frames]) * 1e6
    # It brakes for others; the lane is a little longer or shorter than the centre line.
    assert (speed > 0).all()
    assert (speed < 1.05 * describe(38).ego_speed).all()
    later = next(iter(render_scene(38, 3, size=(24, 40), start=2)))
    assert later.camera.image.tobytes() == frames[2].camera.image.tobytes()


def test_streets_differ_in_topology():
    scenes = [describe(seed) for seed in range(72)]
    assert describe(5) == scenes[5]
    assert {scene.street.lanes for scene in scenes} >= {2, 3, 4}
    assert len({len(scene.crossings) for scene in scenes}) >= 3
    assert len({tuple(c.side for c in scene.crossings) for scene in scenes}) > 8
    assert {scene.kind for scene in scenes} >= {
        "town",
        "residential",
        "city",
        "boulevard",
        "rural",
        "industrial",
    }
    assert any(any(scene.street.bend) for scene in scenes)
    assert any(any(scene.street.grade) for scene in scenes)


@pytest.mark.parametrize("kind", ["car", "truck", "bus", "train", "motorcycle", "bicycle", "person", "sign", "tree"])
def test_twenty_shapes_of_every_kind(kind: str):
    assert len({template(kind, k).vertices.tobytes() for k in range(VARIANTS)}) >= 20
    assert set(KINDS) >= {kind}


def test_fence_holes_belong_to_the_fence():
    # Rays along x: one passes the fence's sheet at 5 m and hits a house at 10 m, one goes above the sheet, one hits a
    # car at 3 m before the sheet.
    sheet = Caster([box((5, -1, 0), (5.01, 1, 1), 4)])
    directions = np.array([[1.0, 0, 0], [1.0, 0, 0.3], [1.0, 0, 0]])
    label, distance = np.array([2, 2, 13], np.uint8), np.array([10.0, 10.0, 3.0], np.float32)
    out = close_fences(label, distance, sheet, np.array([0, 0, 0.5]), directions, np.arange(3))
    assert out.tolist() == [4, 2, 13]
    assert label.tolist() == [2, 2, 13]
    assert close_fences(label, distance, sheet, np.array([0, 0, 0.5]), directions, np.array([1, 2])).tolist() == [
        2,
        2,
        13,
    ]


def test_gaps_in_crowns_belong_to_the_tree():
    # A crown of every second pixel 20 m away before the sky is closed; a car that shows through it stays a car, and a
    # lone twig a twig.
    label, depth = np.full((40, 60), 10, np.uint8), np.full((40, 60), np.inf, np.float32)
    label[10:21, 10:31:2], depth[10:21, 10:31:2] = 8, 20.0
    label[15, 15], depth[15, 15] = 13, 30.0
    label[10:20, 50], depth[10:20, 50] = 8, 20.0
    out = close_crowns(label, depth, 2)
    assert (np.delete(out[12:19, 12:29].ravel(), (15 - 12) * 17 + 3) == 8).all()
    assert out[15, 15] == 13
    assert (out[:, 45:50] == 10).all()
    assert (out[:, 51:] == 10).all()
    assert (out[:8] == 10).all()
    # A wall in front of the leaves is no gap.
    label[12, 13], depth[12, 13] = 3, 5.0
    assert close_crowns(label, depth, 2)[12, 13] == 3


def test_embedded_frames():
    frames = embedded_frames()
    assert len(frames) == 20
    assert {frame.group for frame in frames} == {"clear", "night", "fog", "rain", "snow"}
    assert min(EMBEDDED_SEEDS) >= 10_000_000
    seen: set[int] = set()
    for start in range(0, 20, 5):
        labels = frames[start].camera.labels
        seen |= set(np.unique(labels).tolist())
        assert labels.shape == (256, 512)
        assert frames[start].camera.image.shape == (256, 512, 3)
        for frame in frames[start + 1 : start + 5]:
            assert frame.scene == frames[start].scene
            np.testing.assert_array_equal(frame.camera.labels, labels)
    assert seen - {255} == set(range(len(CITYSCAPES)))
    # As skewed as in traffic: road, building, sky and vegetation cover more than the other fifteen classes together.
    count = sum(np.bincount(frame.camera.labels.ravel(), minlength=256) for frame in frames)
    assert count[[0, 2, 8, 10]].sum() > 0.6 * count[:19].sum()
    folder = frames[0].camera.image_path.parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000


@pytest.mark.xfail(reason="the embedded frames show the world of an earlier version", strict=True)
def test_embedded_frames_are_what_their_command_renders():
    frame = next(frame for frame in embedded_frames() if frame.id == "10000057_clear")
    again = render_frame(10_000_057, size=(256, 512)).camera
    # Another processor may round a ray to the neighbouring surface; another world differs in far more pixels.
    assert (again.labels == frame.camera.labels).mean() > 0.995
    assert_close(again.intrinsics, frame.camera.intrinsics)
    difference = np.abs(again.image.astype(int) - frame.camera.image)
    assert difference.mean() < 3  # JPEG of quality 92


def test_embedded_frames_need_no_ray_caster():
    code = (
        "import sys; sys.modules['embreex'] = None; from zoo.synthetic.embedded import embedded_frames; "
        "print(embedded_frames()[0].camera.image.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(256, 512, 3)", done.stderr


def test_damaged_index_is_named(tmp_path: Path):
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"index\.json is missing or damaged"):
        embedded_frames(tmp_path)


def test_missing_embreex_names_the_extra(monkeypatch, world: World):
    monkeypatch.setitem(sys.modules, "embreex.rtcore_scene", None)
    with pytest.raises(MissingExtraError, match=r"perception-zoo\[synthetic\]"):
        Caster([world.static])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: render_frame(1, size=(0, 100)), "size 0x100 cannot be rendered"),
        (lambda: render_frame(1, size=(100, 100_000)), "8 to 8192"),
        (lambda: next(iter(render_scene(1, 0))), "frames 0 is not positive"),
        (lambda: iter_frames(0), "0 frames"),
        (lambda: iter_frames(4, frames_per_scene=0), "both must be at least 1"),
        (lambda: render_frame(-1), "seed -1"),
        (lambda: iter_frames(1, seed=-1), "seed -1"),
        (lambda: iter_frames(1, workers=-1), "workers -1"),
        (lambda: iter_frames(1, conditions=()), r"conditions \(\): one Condition or more"),
        (lambda: render_frame(1, condition="fog"), "conditions .*'fog'.* one Condition or more"),
        (lambda: render_frame(1, size=(16.5, 32)), "whole pixels"),
        (lambda: next(iter(render_scene(1, 1, edge_rays=-1))), "edge_rays -1 is negative; 0 gives one ray per pixel"),
    ],
)
def test_wrong_use_is_named(call, message: str):
    with pytest.raises(InputError, match=message):
        call()
