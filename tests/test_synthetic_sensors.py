"""Sensors of the synthetic world: rigs, turns of lidars, boxes and time, against scenes worked out by hand."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from zoo.condition import Condition
from zoo.errors import InputError
from zoo.frame import Frame, Sweep
from zoo.geometry.boxes import box_array, points_in_box
from zoo.synthetic.rendering.exposure import exposure_s, image_flow, motion_blur
from zoo.synthetic.rendering.light import light_of
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.types import Scene, Thing
from zoo.synthetic.sensors.rigs import RIGS, Rig, RigCamera, RigLidar, rig_of
from zoo.synthetic.shapes.mesh import Builder, Mesh
from zoo.synthetic.shapes.surfaces import Material

pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")

from tolerances import assert_close

from zoo.synthetic import iter_frames, render_frame, render_scene
from zoo.synthetic.frames.render import render_rig
from zoo.synthetic.frames.times import longest
from zoo.synthetic.frames.world import World
from zoo.synthetic.models.build import build_body
from zoo.synthetic.rendering.cast import Caster
from zoo.synthetic.sensors.lidar import Movers, sweep_at
from zoo.synthetic.truth.boxes import View, bodies_of, boxes_at, track_table

OPTICAL = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
"""Vehicle axes from those of a camera that looks ahead."""
CLEAR = Condition()


def pose(rotation: np.ndarray, at: tuple[float, float, float]) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, at
    return out


def lidar(**changes) -> RigLidar:
    """One metre above the origin, three beams, a column per degree, no noise, no losses."""
    settings = {
        "elevations_deg": (-1.0, 0.0, 1.0),
        "columns": 360,
        "ego_from_lidar": pose(np.eye(3), (0, 0, 1.0)),
        "range_noise_m": 0.0,
        "intensity_noise": 0.0,
        "dropout": 0.0,
        "min_range_m": 0.1,
    }
    return RigLidar(**{**settings, **changes})


def bare(speed: float = 0.0, things: tuple[Thing, ...] = ()) -> Scene:
    """A straight level street along the world's x axis; the ego drives on its middle from x = 0."""
    scene = describe(0)
    # 400 stations 0.5 m apart, one of them at the origin.
    street = dataclasses.replace(scene.street, start=-20.0, end=179.5, bend=(0.0,) * 7, grade=(0.0,) * 7, relief=None)
    return dataclasses.replace(
        scene, street=street, things=things, ego_lane=0.0, ego_speed=speed, ego_start=0.0, ego_way=None, bonnet=None
    )


def block(
    low: tuple[float, ...], high: tuple[float, ...], material: int = Material.CONCRETE, instance: int = -1
) -> Mesh:
    builder = Builder(13)
    builder.box(low, high, (0.5, 0.5, 0.5), material)
    mesh = builder.mesh()
    return dataclasses.replace(mesh, instance=np.full(len(mesh.faces), instance, np.int32))


def turn(scene: Scene, mesh: Mesh, sensor: RigLidar, end_us: int = 1_000_000, condition: Condition = CLEAR) -> Sweep:
    bodies = bodies_of(scene)
    return sweep_at(scene, Caster([mesh]), Movers(scene), sensor, 0, end_us, condition, track_table(bodies))


# --- lidars, by hand ---


def test_unit_box_ten_metres_ahead():
    # Its front is 9.5 m ahead and reaches 0.5 m to each side: columns up to atan(0.5 / 9.5) = 3.01 degrees, that is -3
    # to 3. A beam of 1 degree is 0.166 m off there, so all three meet it.
    sweep = turn(bare(), block((9.5, -0.5, 0.5), (10.5, 0.5, 1.5)), lidar())
    assert sweep.channels == ("x", "y", "z", "intensity", "ring", "time_s")
    points = sweep.points
    assert points.shape == (21, 6)
    np.testing.assert_allclose(points[:, 0], 9.5, atol=1e-3)  # metres, of float32 rays
    angle = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    assert_close(angle.reshape(7, 3), np.tile(np.arange(3, -4, -1)[:, None], 3))  # clockwise
    np.testing.assert_allclose(points[:, 4].reshape(7, 3), np.tile([0, 1, 2], (7, 1)))
    up = 9.5 / np.cos(np.radians(angle)) * np.tan(np.radians(points[:, 4] - 1))
    np.testing.assert_allclose(points[:, 2], up, atol=1e-3)  # metres, of float32 rays
    # The turn begins at 180 degrees, its 360th column ends it: 180 - k degrees at k / 360 of 0.1 s.
    assert_close(points[:, 5], (180 - angle) / 3600 - 0.1)
    assert (sweep.labels == 13).all()
    assert (sweep.instances == 0).all()
    assert (sweep.materials == Material.CONCRETE).all()
    assert sweep.timestamp_us == 1_000_000
    np.testing.assert_allclose(sweep.ego_from_lidar, pose(np.eye(3), (0, 0, 1.0)))


def test_what_stands_still_is_straight_after_a_turn_on_the_move():
    # The ego drives at 20 m/s towards a wall at x = 70. At 1 s it is at 20, so the wall lies 50 m ahead in the frame of
    # the end of the turn, for every column, though the range was up to 2 m longer when the column fired.
    sweep = turn(bare(20.0), block((70, -40, 0), (71, 40, 9)), lidar(start_deg=-50.0))
    points = sweep.points
    assert len(points) > 150
    np.testing.assert_allclose(points[:, 0], 50.0, atol=1e-3)  # metres, of float32 rays
    assert points[:, 5].min() < -0.02
    assert_close(sweep.world_from_ego, pose(np.eye(3), (20, 0, 0)))
    # A sensor off the axis that looks back and down sees the same plane of the world.
    c, s = np.cos(0.2), np.sin(0.2)
    tilted = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1.0]]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    sensor = lidar(ego_from_lidar=pose(tilted, (1.5, 0.7, 2.0)))
    sweep = turn(bare(20.0), block((70, -40, -40), (71, 40, 40)), sensor)
    world = sweep.world_from_ego @ sweep.ego_from_lidar
    x = (sweep.points[:, :3].astype(float) @ world[:3, :3].T + world[:3, 3])[:, 0]
    assert len(x) > 50
    np.testing.assert_allclose(x, 70.0, atol=1e-3)  # metres, of float32 rays


def test_what_moves_is_where_it_was_when_the_ray_fired(monkeypatch):
    # A block 2 m long comes down the street at 20 m/s; it is at x = 50 at time 0, so its front at 1 s is at 29, and
    # 1 ms earlier at 29.02. The standing ego is at 0.
    monkeypatch.setattr(
        "zoo.synthetic.sensors.lidar.build_body", lambda thing, pose: block((-1, -2, 0), (1, 2, 3), instance=4)
    )
    scene = bare(0.0, (Thing(kind="car", variant=0, s=50.0, t=0.0, yaw=np.pi, speed=-20.0, instance=4),))
    sweep = turn(scene, block((100, -50, 0), (101, 50, 9)), lidar(columns=3600, start_deg=20.0))
    own = sweep.instances == 5  # the track is the number of the thing + 1
    points = sweep.points[own]
    front = points[np.abs(points[:, 1]) < 1.99]
    assert len(front) > 150
    np.testing.assert_allclose(front[:, 0], 29.0 - 20.0 * front[:, 5], atol=1e-3)  # metres, of float32 rays
    assert np.ptp(front[:, 5]) > 0.001
    assert (sweep.points[~own, 0] > 99).all()
    # Half a turn earlier the same block is 1 m farther away.
    sweep = turn(scene, block((100, -50, 0), (101, 50, 9)), lidar(columns=3600, start_deg=180.0))
    points = sweep.points[sweep.instances == 5]
    front = points[np.abs(points[:, 1]) < 1.99]
    np.testing.assert_allclose(front[:, 0], 29.0 - 20.0 * front[:, 5], atol=1e-3)  # metres, of float32 rays
    np.testing.assert_allclose(front[:, 0].mean(), 30.0, atol=0.05)  # metres, over the time of the sweep


def test_intensity_by_material_and_angle():
    # White 0.5 concrete at 10 m, head on: 0.5 / (1 + (10 / 120) ** 2) in air of the place's extinction.
    scene = bare()
    through = np.exp(-2 * light_of(scene, CLEAR).extinction * 10)
    one = lidar(elevations_deg=(0.0,))
    head_on = turn(scene, block((10, -9, 0), (11, 9, 9)), one).points
    assert_close(head_on[np.abs(head_on[:, 1]) < 0.01, 3], 0.5 * through / (1 + 1 / 144))
    # 40 degrees aside on the same wall: cos 40 and a range of 10 / cos 40.
    angle = np.degrees(np.arctan2(head_on[:, 1], head_on[:, 0]))
    far = 10 / np.cos(np.radians(40))
    expected = (
        0.5 * np.cos(np.radians(40)) * np.exp(-2 * light_of(scene, CLEAR).extinction * far) / (1 + (far / 120) ** 2)
    )
    assert_close(head_on[np.abs(angle - 40) < 0.1, 3], expected)
    sign = turn(scene, block((10, -9, 0), (11, 9, 9), Material.SIGN), one).points
    rubber = turn(scene, block((10, -9, 0), (11, 9, 9), Material.RUBBER), one).points
    assert sign[:, 3].min() > 0.5
    assert sign[np.abs(sign[:, 1]) < 0.01, 3] > 0.95
    assert rubber[:, 3].max() < 0.31
    # Glass mirrors most of a slanting beam away.
    pane = turn(scene, block((10, -40, 0), (11, 40, 9), Material.GLASS), lidar(columns=3600)).points
    wall = turn(scene, block((10, -40, 0), (11, 40, 9)), lidar(columns=3600)).points
    slanting = [(np.abs(np.arctan2(p[:, 1], p[:, 0])) > 0.7).sum() for p in (pane, wall)]
    assert slanting[0] < 0.3 * slanting[1]


def test_range_noise_and_dropout():
    mesh = block((10, -0.5, 0), (11, 0.5, 9))
    many = lidar(columns=7200, elevations_deg=tuple(np.linspace(-2, 2, 40)))
    full = turn(bare(), mesh, many)
    noisy = turn(bare(), mesh, dataclasses.replace(many, range_noise_m=0.02, dropout=0.25))
    # 25 % of about 4,500 returns are lost, 3 deviations are 2 %.
    assert abs(len(noisy.points) / len(full.points) - 0.75) < 0.03
    off = np.linalg.norm(noisy.points[:, :3], axis=1) - 10 / (
        noisy.points[:, 0] / np.linalg.norm(noisy.points[:, :3], axis=1)
    )
    np.testing.assert_allclose(off.std(), 0.02, rtol=0.05)  # an estimate from a few thousand draws
    assert abs(off.mean()) < 0.002


def test_nothing_nearer_or_farther_than_the_sensor_reaches():
    mesh = block((100, -90, 0), (101, 90, 9))
    reach = np.linalg.norm(turn(bare(), mesh, lidar(max_range_m=110.0)).points[:, :3], axis=1)
    assert 100 <= reach.min() <= reach.max() <= 110
    assert len(turn(bare(), mesh, lidar(max_range_m=99.0)).points) == 0
    assert len(turn(bare(), block((1, -1, 0), (2, 1, 9)), lidar(min_range_m=3.0)).points) == 0


# --- weather ---


@pytest.fixture(scope="module")
def worlds() -> dict[int, World]:
    return {2012: World(describe(2012))}


SMALL = RigLidar(
    elevations_deg=tuple(np.linspace(-20.0, 3.0, 24).tolist()),
    columns=360,
    ego_from_lidar=pose(np.eye(3), (1.0, 0.0, 1.8)),
    start_deg=-60.0,
)
SMALL_RIG = Rig(
    name="small",
    cameras={
        "ahead": RigCamera(
            intrinsics=np.array([[60.0, 0, 63.5], [0, 60.0, 31.5], [0, 0, 1]]),
            size=(64, 128),
            ego_from_camera=pose(OPTICAL, (1.6, 0.0, 1.5)),
            rate_hz=12.0,
            phase_s=0.02,
        )
    },
    lidars={"top": SMALL},
    period_s=0.3,
)


def sweep_of(world: World, condition: Condition) -> Sweep:
    still = Caster([world.still[0]], [world.still[1]])
    return sweep_at(world.scene, still, world.movers, SMALL, 0, 1_000_000, condition, world.tracks)


@pytest.mark.parametrize(("weather", "severity"), [("clear", 0), ("rain", 4)])
def test_night_is_as_clear_as_day(worlds: dict[int, World], weather: str, severity: int):
    day = sweep_of(worlds[2012], Condition(weather=weather, severity=severity))
    for time_of_day in ("dusk", "night"):
        dark = sweep_of(worlds[2012], Condition(time_of_day=time_of_day, weather=weather, severity=severity or 3))
        for name in ("points", "labels", "instances", "materials"):
            assert getattr(dark, name).tobytes() == getattr(day, name).tobytes()


@pytest.mark.parametrize("weather", ["fog", "rain", "snow"])
def test_weather_takes_returns(worlds: dict[int, World], weather: str):
    clear = sweep_of(worlds[2012], CLEAR)
    steps = [sweep_of(worlds[2012], Condition(weather=weather, severity=k)) for k in (1, 3, 5)]
    surface = [s.points[s.materials != 255] for s in (clear, *steps)]
    count = [len(points) for points in surface]
    assert count == sorted(count, reverse=True)
    assert count[3] < 0.975 * count[0]  # rays without a return in clear weather have none to lose
    far = [np.percentile(np.linalg.norm(points[:, :3], axis=1), 99) for points in surface]
    if weather == "fog":
        assert far[1] > far[2] > far[3]
        assert far[3] < 0.5 * far[0]
    assert not (clear.materials == 255).any()
    air = [(s.materials == 255) for s in steps]
    assert air[0].sum() < air[1].sum() < air[2].sum()
    for sweep, mask in zip(steps, air):
        assert (sweep.labels[mask] == 255).all()
        assert (sweep.instances[mask] == 0).all()
        if mask.any():
            assert np.linalg.norm(sweep.points[mask, :3], axis=1).max() < 21
    # What remains is where it was: surfaces do not move in weather.
    keys = [{tuple(row) for row in np.round(p[:, [0, 1, 2, 4]], 3).tolist()} for p in surface]
    assert keys[3] <= keys[0]


def test_fog_thins_returns_as_beer_and_lambert_say():
    # One wall at 50 m, head on: its intensity falls by exp(-2 a 50) with a = -ln(0.05) / visibility.
    scene, one = bare(), lidar(elevations_deg=(0.0,), columns=36000, max_range_m=400.0)
    wall = block((50, -0.5, 0), (51, 0.5, 9), Material.SIGN)
    clear = turn(scene, wall, one).points[:, 3].max()
    for severity, visibility in ((1, 600), (2, 300)):
        sweep = turn(scene, wall, one, condition=Condition(weather="fog", severity=severity))
        extinction = -np.log(0.05) / visibility
        before = light_of(scene, CLEAR).extinction
        seen = sweep.points[sweep.materials == Material.SIGN, 3].max()
        np.testing.assert_allclose(
            seen / clear, np.exp(-2 * (extinction - before) * 50), rtol=0.01
        )  # intensities of single returns


def test_wet_road_gives_less_back(worlds: dict[int, World]):
    dry, wet = (sweep_of(worlds[2012], c) for c in (CLEAR, Condition(weather="rain", severity=5)))
    road = [s.points[s.materials == Material.ASPHALT] for s in (dry, wet)]
    far = [(np.linalg.norm(points[:, :3], axis=1) > 18).sum() for points in road]
    assert far[0] > 50
    assert far[1] < 0.6 * far[0]
    # The lowest beam meets the road at cos = sin 20 degrees = 0.34; through the film and back (1 - F) ** 2 = 0.74, and
    # wet pores halve what is left.
    bright = [points[points[:, 4] == 0, 3] for points in road]
    assert 0.3 < bright[1].mean() / bright[0].mean() < 0.45


# --- camera and lidar see one world ---


def frozen(seed: int) -> World:
    scene = describe(seed, Choices(kinds=("town",), density=3.0))  # with many things to see
    return World(scene.at_rest())


@pytest.fixture(scope="module")
def frozen_worlds() -> dict[int, World]:
    return {seed: frozen(seed) for seed in (2012, 2002)}


@pytest.mark.parametrize("seed", [2012, 2002])
def test_points_meet_the_cameras_label_and_depth(frozen_worlds: dict[int, World], seed: int):
    # Both look from one place, so nothing is hidden from one of them alone; time stands still.
    eye = (1.2, 0.1, 1.7)
    sensor = RigLidar(
        elevations_deg=tuple(np.linspace(-16.0, 4.0, 64).tolist()),
        columns=1500,
        ego_from_lidar=pose(np.eye(3), eye),
        range_noise_m=0.0,
    )
    camera = RigCamera(
        intrinsics=np.array([[200.0, 0, 191.5], [0, 200.0, 95.5], [0, 0, 1]]),
        size=(192, 384),
        ego_from_camera=pose(OPTICAL, eye),
    )
    rig = Rig(name="one", cameras={"c": camera}, lidars={"l": sensor}, period_s=0.1)
    frame = render_rig(frozen_worlds[seed], 0, rig, CLEAR, exact=True, edge_rays=0)
    view, sweep = frame.cameras["c"], frame.lidars["l"][0]
    to_camera = np.linalg.inv(view.world_from_ego @ view.ego_from_camera) @ sweep.world_from_ego @ sweep.ego_from_lidar
    points = sweep.points[:, :3].astype(float) @ to_camera[:3, :3].T + to_camera[:3, 3]
    u = points @ view.intrinsics.T
    u = u[:, :2] / np.maximum(u[:, 2:], 1e-9)
    x, y = np.rint(u).astype(int).T
    height, width = view.labels.shape
    inside = (points[:, 2] > 1) & (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1)
    x, y, u, z, labels = x[inside], y[inside], u[inside], points[inside, 2], sweep.labels[inside]
    assert len(z) > 8000
    # An edge: one of the eight neighbours has another label, or the nine depths do not lie on one plane to 5 cm (on a
    # plane the inverse of the depth is linear in the pixel).
    near = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    lab = np.stack([view.labels[y + dy, x + dx] for dy, dx in near])
    inverse = 1 / np.stack([view.depth_m[y + dy, x + dx] for dy, dx in near]).astype(float)
    design = np.array([[1, dx, dy] for dy, dx in near], float)
    plane = np.linalg.pinv(design) @ inverse
    whole = (lab == lab[4]).all(0)
    flat = whole & (inverse > 0).all(0) & (np.abs(design @ plane - inverse) * z**2 < 0.05).all(0)
    same = view.labels[y, x] == labels
    assert whole.mean() > 0.6
    assert flat.mean() > 0.4
    assert same[whole].mean() >= 0.99
    inverse_here = plane[0] + plane[1] * (u[:, 0] - x) + plane[2] * (u[:, 1] - y)
    assert (np.abs(1 / inverse_here[flat] - z[flat]) < 0.05).mean() >= 0.99
    # Picture, sweep and boxes give an object one number.
    numbers = np.stack([view.instances[y + dy, x + dx] for dy, dx in near])
    own = sweep.instances[inside]
    thing = (numbers == numbers[4]).all(0) & (own > 0)
    assert thing.sum() > 300
    assert (numbers[4][thing] % 1000 == own[thing]).mean() >= 0.99
    shown = {int(number) % 1000 for number in np.unique(view.instances[view.depth_m < 60]) if number >= 1000}
    assert shown <= {box.track for box in frame.boxes}


# --- boxes ---


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(render_scene(2003, 3, rig=SMALL_RIG, sweeps=1, exact=True))


def corners(box) -> np.ndarray:
    """`(8, 3)` world corners, with arithmetic of their own."""
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    signs = np.array([[a, b, d] for a in (-1, 1) for b in (-1, 1) for d in (-1, 1)])
    half = signs * np.asarray(box.size) / 2
    return np.stack([c * half[:, 0] - s * half[:, 1], s * half[:, 0] + c * half[:, 1], half[:, 2]], 1) + box.center


def test_boxes_hold_the_stated_number_of_points(frames: list[Frame]):
    total = 0
    for frame in frames:
        sweep = frame.lidars["top"][0]
        lift = sweep.world_from_ego @ sweep.ego_from_lidar
        world = sweep.points[:, :3].astype(np.float64) @ lift[:3, :3].T + lift[:3, 3]
        for box in frame.boxes:
            c, s = np.cos(box.yaw), np.sin(box.yaw)
            delta = world - box.center
            local = np.stack([c * delta[:, 0] + s * delta[:, 1], -s * delta[:, 0] + c * delta[:, 1], delta[:, 2]], 1)
            assert box.num_points == (np.abs(local) <= box.size / 2).all(1).sum()
            total += box.num_points
    assert total > 1000


def test_points_of_an_object_lie_in_its_box(frames: list[Frame], frozen_worlds: dict[int, World]):
    # What moves is left behind by up to its speed times the time since the ray; what stands is not. 0.1 m: five
    # deviations of the range.
    standing = render_rig(frozen_worlds[2002], 0, dataclasses.replace(SMALL_RIG, cameras={}), CLEAR, exact=True)
    met = 0
    for frame in (*frames, standing):
        sweep = frame.lidars["top"][0]
        lift = sweep.world_from_ego @ sweep.ego_from_lidar
        world = sweep.points[:, :3].astype(np.float64) @ lift[:3, :3].T + lift[:3, 3]
        for box in frame.boxes:
            own = world[sweep.instances == box.track]
            late = 0.1 + 0.1 * np.linalg.norm(box.velocity)
            inside = points_in_box(box_array(dataclasses.replace(box, size=box.size + 2 * late)), own)
            if box.kind in (
                "car",
                "van",
            ):  # their mirrors are outside: 16 cm wide, at half to three quarters of the height
                out = own[~inside]
                up = (out[:, 2] - box.center[2]) / box.size[2]
                assert ((up > 0.0) & (up < 0.3)).all()
                wide = box.size + 2 * late + np.array([0, 0.32, 0])
                assert points_in_box(box_array(dataclasses.replace(box, size=wide)), out).all()
                inside |= True
            assert inside.all()
            met += len(own) > 0
        near = np.linalg.norm(sweep.points[:, :2], axis=1) < 70  # boxes are given up to 80 m
        seen = set(np.unique(sweep.instances[near])) - {0}
        assert seen <= {box.track for box in frame.boxes} or frame is not standing
    assert met > 15


def test_tracks_fit_into_the_coding_of_cityscapes():
    assert max(body.track for seed in range(40) for body in bodies_of(describe(seed))) < 1000


def test_box_is_tight_around_its_mesh_and_turned_with_it():
    for thing in (
        Thing(kind="car", variant=3, s=30.0, t=2.0, yaw=0.4, h=0.1, scale=(1.05, 0.95, 1.1), instance=7),
        Thing(kind="person", variant=2, s=20.0, t=-4.0, yaw=-2.0, h=0.15, scale=(0.7, 0.7, 0.7), instance=7),
        Thing(kind="bus", variant=1, s=40.0, t=0.0, yaw=np.pi, instance=7, speed=-9.0),
    ):
        scene = bare(0.0, (thing,))
        bodies = bodies_of(scene)
        (box,) = boxes_at(scene, bodies, track_table(bodies), 0.0, np.eye(4))
        vertices = build_body(thing).vertices.astype(float)
        c, s = np.cos(thing.yaw), np.sin(thing.yaw)
        world = vertices @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [thing.s, thing.t, thing.h]
        local = (world - box.center) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        if thing.kind == "car":  # its mirrors, at the height of the windows, are outside
            local[vertices[:, 2] > 0.5 * vertices[:, 2].max(), 1] = 0
        assert_close(local.max(0), box.size / 2, dtype="float32")
        assert_close(local.min(0), -box.size / 2, dtype="float32")
        assert box.track == 8
        assert box.kind == thing.kind
        assert box.moving == (thing.speed != 0)
        np.testing.assert_allclose(box.velocity, [thing.speed, 0, 0], atol=1e-2)  # m/s, from a difference of positions
        np.testing.assert_allclose(np.cos(box.yaw - thing.yaw), 1)
        assert box.visibility is None
        assert box.num_points is None


def test_boxes_of_cars_are_as_wide_as_annotated_ones():
    # KITTI's cars are 1.6 to 1.9 m wide, its vans up to 2.1 m; with mirrors they would be 2.0 to 2.2 m.
    widths = []
    for variant in range(24):
        scene = bare(0.0, (Thing(kind="car", variant=variant, s=30.0, t=2.0, instance=0),))
        bodies = bodies_of(scene)
        (box,) = boxes_at(scene, bodies, track_table(bodies), 0.0, np.eye(4))
        widths.append(box.size[1])
    assert min(widths) > 1.6
    assert max(widths) < 2.05
    assert 1.7 < np.median(widths) < 1.9


def test_rider_and_bicycle_are_one_object():
    things = (
        Thing(kind="bicycle", variant=0, s=10.0, t=1.0, speed=4.0, instance=0),
        Thing(kind="cyclist", variant=0, s=10.0, t=1.0, speed=4.0, instance=1),
        Thing(kind="bicycle", variant=1, s=20.0, t=1.0, instance=2),
        Thing(kind="car", variant=4, s=30.0, t=1.0, instance=3),
    )
    bodies = bodies_of(bare(0.0, things))
    assert [(body.kind, body.track) for body in bodies] == [("cyclist", 1), ("bicycle", 3), ("van", 4)]
    assert track_table(bodies).tolist() == [1, 1, 3, 4, 0]
    assert bodies[0].high[2] > 1.5  # the head of the rider
    assert bodies[0].low[2] < 0.05  # the tyres


def test_objects_keep_identity_size_and_velocity(frames: list[Frame]):
    by_track: dict[int, list] = {}
    for frame in frames:
        assert len({box.track for box in frame.boxes}) == len(frame.boxes)
        for box in frame.boxes:
            by_track.setdefault(box.track, []).append((frame.timestamp_us, box))
    moving = 0
    for seen in by_track.values():
        for (t0, a), (t1, b) in pairwise(seen):
            assert (a.kind, a.label) == (b.kind, b.label)
            np.testing.assert_array_equal(a.size, b.size)
            step = (b.center - a.center) / ((t1 - t0) * 1e-6)
            np.testing.assert_allclose(
                step, (a.velocity + b.velocity) / 2, atol=0.15
            )  # metres, speed changes in between
            moving += a.moving
            if a.moving and np.linalg.norm(a.velocity) > 0.1:  # everybody walks and drives forwards
                heading = [np.cos(a.yaw), np.sin(a.yaw)]
                assert a.velocity[:2] @ heading > 0.97 * np.linalg.norm(a.velocity[:2])
    assert moving > 3
    for frame in frames:
        ahead = frame.world_from_ego[:3, 0]
        scene = describe(2003)
        later = scene.ego_poses(np.array([frame.timestamp_us * 1e-6 + 0.1]))[0]
        step = (later[:3, 3] - frame.world_from_ego[:3, 3]) / 0.1
        assert step @ ahead >= 0.999 * np.linalg.norm(step)


def test_visibility_of_a_car_behind_a_wall():
    scene = bare(
        0.0,
        (
            Thing(kind="car", variant=0, s=20.0, t=0.0, instance=0),
            Thing(kind="car", variant=0, s=20.0, t=6.0, instance=1),
        ),
    )
    bodies = bodies_of(scene)
    cars = [
        dataclasses.replace(m, vertices=(m.vertices + np.array([20.0, t, 0], np.float32)).astype(np.float32))
        for m, t in zip([build_body(thing) for thing in scene.things], (0.0, 6.0))
    ]
    k = np.array([[300.0, 0, 199.5], [0, 300.0, 99.5], [0, 0, 1]])
    for wall, expected in (((-3.0, 1.5), (0.0, 1.0)), ((-30.0, -29.0), (1.0, 1.0)), ((1.5, 9.0), (None, 0.0))):
        caster = Caster([*cars, block((12, wall[0], 0), (12.1, wall[1], 6))])
        view = View(caster, 0.0, pose(OPTICAL, (0, 0, 1.5)), k, (200, 400))
        boxes = boxes_at(scene, bodies, track_table(bodies), 0.0, np.eye(4), [view])
        for box, share in zip(boxes, expected):
            if share is not None:
                assert box.visibility == pytest.approx(share, abs=0.02)  # sampled rays
    # A camera that looks the other way sees nothing.
    back = View(Caster(cars), 0.0, pose(np.diag([-1.0, -1, 1]) @ OPTICAL, (0, 0, 1.5)), k, (200, 400))
    assert [box.visibility for box in boxes_at(scene, bodies, track_table(bodies), 0.0, np.eye(4), [back])] == [0, 0]


# --- time ---


def test_each_sensor_has_its_own_time(frames: list[Frame]):
    scene = describe(2003)
    for k, frame in enumerate(frames):
        assert frame.timestamp_us == 1_000_000 + 300_000 * k
        camera, turns = frame.cameras["ahead"], frame.lidars["top"]
        assert [turn.timestamp_us - frame.timestamp_us for turn in turns] == [0, -100_000]
        # 12 pictures a second from 20 ms on: the nearest one is at most 1/24 s away.
        assert abs(camera.timestamp_us - frame.timestamp_us) <= 41_667
        assert abs((camera.timestamp_us - 20_000) * 12e-6 - round((camera.timestamp_us - 20_000) * 12e-6)) < 1e-4
        for sensor in (camera, *turns):
            expected = scene.ego_poses(np.array([sensor.timestamp_us * 1e-6]))[0]
            assert_close(sensor.world_from_ego, expected)
        assert turns[0].points[:, 5].max() <= 0
        assert turns[0].points[:, 5].min() >= -0.1
    assert len({frame.cameras["ahead"].timestamp_us - frame.timestamp_us for frame in frames}) > 1


def same(a: Frame, b: Frame) -> bool:
    if (a.id, a.timestamp_us, len(a.boxes)) != (b.id, b.timestamp_us, len(b.boxes)):
        return False
    pairs = [(a.cameras[n], b.cameras[n], ("image", "labels", "instances", "depth_m")) for n in a.cameras]
    pairs += [
        (s, t, ("points", "labels", "instances", "materials"))
        for n in a.lidars
        for s, t in zip(a.lidars[n], b.lidars[n], strict=True)
    ]
    return all(getattr(p, name).tobytes() == getattr(q, name).tobytes() for p, q, names in pairs for name in names)


def test_a_later_start_and_an_older_turn_give_the_same_bytes(frames: list[Frame]):
    (last,) = render_scene(2003, 3, rig=SMALL_RIG, sweeps=1, exact=True, start=2)
    assert same(last, frames[2])
    assert not same(last, frames[1])
    often = dataclasses.replace(SMALL_RIG, cameras={}, period_s=0.1)
    a, b = render_scene(38, 2, rig=often, sweeps=1)
    assert a.lidars["top"][0].points.tobytes() == b.lidars["top"][1].points.tobytes()


def test_same_bytes_whatever_the_workers():
    rig = dataclasses.replace(SMALL_RIG, lidars={"top": dataclasses.replace(SMALL, columns=60)})
    settings = {"size": (16, 32), "frames_per_scene": 1, "rig": rig}
    alone = list(iter_frames(2, 56, **settings))
    spread = list(iter_frames(2, 56, workers=2, **settings))
    assert len(alone) == len(spread) == 2
    assert all(same(a, b) for a, b in zip(alone, spread))


# --- motion blur ---


def test_flow_of_a_camera_that_drives_ahead():
    # A wall at depth 10, camera 0.5 m forward from start to end: a point at x (in focal lengths from the middle) goes
    # from x * 10 / 10.25 to x * 10 / 9.75, in pixels times the focal length.
    k = np.array([[100.0, 0, 19.5], [0, 100.0, 9.5], [0, 0, 1]])
    depth = np.full((20, 40), 10.0, np.float32)
    ends = [np.eye(4), np.eye(4)]
    ends[0][2, 3], ends[1][2, 3] = 0.25, -0.25
    flow = image_flow(depth, k, ends[0], np.eye(4), ends[1])
    x = np.arange(40) - 19.5
    assert_close(flow[5, :, 0], x * (10 / 9.75 - 10 / 10.25))
    # A surface that moves 1 m to the right while the camera stands: 10 pixels.
    flow = image_flow(depth, k, np.eye(4), np.eye(4), np.eye(4), np.tile(np.array([1, 0, 0], np.float32), (20, 40, 1)))
    assert_close(flow[..., 0], 10)
    assert_close(flow[..., 1], 0)


def test_blur_smears_along_the_flow_and_only_on_the_move():
    assert exposure_s(1.0) == pytest.approx(0.002)
    assert exposure_s(5.0) == 0.025
    k = np.array([[200.0, 0, 149.5], [0, 200.0, 19.5], [0, 0, 1]])
    side = pose(np.array([[1, 0, 0], [0, 0, 1.0], [0, -1, 0]]), (0, 0, 1.5))  # looks left
    radiance = np.zeros((40, 300, 3), np.float32)
    radiance[:, 150] = 7.0
    depth, nothing = np.full((40, 300), 5.0, np.float32), np.full((40, 300), -1)
    stands = motion_blur(radiance, depth, nothing, bare(0.0), 1.0, 5.0, side, k)
    np.testing.assert_array_equal(stands, radiance)
    # 8 m/s for 25 ms at depth 5: 8 pixels; the line keeps its light and is 7 to 9 pixels wide.
    moves = motion_blur(radiance, depth, nothing, bare(8.0), 1.0, 5.0, side, k)
    assert_close(moves.sum(1)[20], radiance.sum(1)[20])
    assert np.ptp(np.nonzero(moves[20, :, 0])[0]) in (7, 8, 9)
    assert moves[:10].sum() == pytest.approx(moves[30:].sum())


# --- rigs ---


def test_presets():
    assert set(RIGS) == {"camera", "kitti", "a2d2", "nuscenes", "waymo"}
    kitti = RIGS["kitti"]
    assert kitti.sizes(None) == {"image_2": (375, 1242), "image_3": (375, 1242)}
    assert len(kitti.lidars["velodyne"].elevations_deg) == 64
    baseline = kitti.cameras["image_2"].ego_from_camera[:3, 3] - kitti.cameras["image_3"].ego_from_camera[:3, 3]
    np.testing.assert_allclose(baseline, [0, 0.53, 0], atol=0.01)  # metres, of the published rig
    nuscenes = RIGS["nuscenes"]
    # Where each camera looks, degrees from ahead to the left; published as 0, -55, -110, 180, 110, 55.
    yaw = {
        n: np.degrees(np.arctan2(c.ego_from_camera[1, 2], c.ego_from_camera[0, 2])) for n, c in nuscenes.cameras.items()
    }
    expected = {"FRONT": 0, "FRONT_RIGHT": -55, "BACK_RIGHT": -110, "BACK": 180, "BACK_LEFT": 110, "FRONT_LEFT": 55}
    for name, angle in expected.items():
        assert np.cos(np.radians(yaw[f"CAM_{name}"] - angle)) > np.cos(np.radians(3))
    top = nuscenes.lidars["LIDAR_TOP"]
    assert (len(top.elevations_deg), top.rate_hz, nuscenes.period_s) == (32, 20.0, 0.5)
    assert top.ego_from_lidar[0, 0] > 0.999  # x ahead
    assert len(RIGS["a2d2"].lidars) == 5
    assert all(sensor.ego_from_lidar[0, 0] > 0.8 for sensor in RIGS["a2d2"].lidars.values())
    waymo = RIGS["waymo"]
    assert waymo.sizes((64, 96))["SIDE_LEFT"] == (44, 96)
    for rig in RIGS.values():
        for sensor in (*rig.lidars.values(), *(c for c in rig.cameras.values() if c is not None)):
            turned = (sensor.ego_from_lidar if isinstance(sensor, RigLidar) else sensor.ego_from_camera)[:3, :3]
            assert_close(turned @ turned.T, np.eye(3))
            assert np.linalg.det(turned) == pytest.approx(1)


def test_view_of_a_scaled_picture():
    # Half the size: a pixel of the small picture covers two by two of the large one, whose middle is half a pixel off.
    camera = RigCamera(
        intrinsics=np.array([[100.0, 0, 49.5], [0, 100.0, 24.5], [0, 0, 1]]), size=(50, 100), ego_from_camera=np.eye(4)
    )
    np.testing.assert_allclose(camera.intrinsics_at((25, 50)), [[50, 0, 24.5], [0, 50, 12.0], [0, 0, 1]])
    np.testing.assert_allclose(camera.intrinsics_at((50, 50)), [[50, 0, 24.5], [0, 100, 24.5], [0, 0, 1]])


def test_nuscenes_frame_has_all_sensors():
    frame = render_frame(4, rig="nuscenes", size=(18, 32), sweeps=1)
    assert len(frame.cameras) == 6
    assert all(camera.image.shape == (18, 32, 3) for camera in frame.cameras.values())
    assert len({camera.timestamp_us for camera in frame.cameras.values()}) == 6
    turns = frame.lidars["LIDAR_TOP"]
    assert turns[0].timestamp_us - turns[1].timestamp_us == 50_000
    assert set(np.unique(turns[0].points[:, 4])) <= set(range(32))
    assert 5_000 < len(turns[0].points) <= 32 * 1084
    assert frame.meta["rig"] == "nuscenes"
    assert any(box.visibility > 0.5 for box in frame.boxes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rig_of("nuscene"), "unknown rig 'nuscene'; closest: nuscenes"),
        (lambda: render_frame(1, rig="kiti"), "unknown rig 'kiti'; closest: kitti"),
        (lambda: iter_frames(1, rig="kiti"), "unknown rig 'kiti'"),
        (lambda: render_frame(1, rig="kitti", sweeps=-1), "sweeps -1 is negative"),
        (lambda: next(render_scene(1, 2, start=-1)), "start -1 is outside 0 to 1"),
        (lambda: next(render_scene(1, 2, start=2)), "start 2 is outside 0 to 1"),
        (lambda: render_frame(1, sweeps=3), "sweeps 3: rig 'camera' has no lidar"),
        (lambda: render_frame(1, rig="waymo", size=(8, 8)), "size 6x8 cannot be rendered"),
        (lambda: Rig(name="none", cameras={}, lidars={}, period_s=0.1), "rig 'none' has no sensor"),
        (lambda: dataclasses.replace(SMALL, rate_hz=0.0), "rate_hz 0.0 of the lidar is not positive"),
        (lambda: dataclasses.replace(SMALL, elevations_deg=(3.0, 1.0)), "the lowest first"),
        (lambda: dataclasses.replace(SMALL, dropout=-0.1), "dropout -0.1 of a lidar is negative"),
        (lambda: dataclasses.replace(SMALL_RIG, period_s=0.0), "period_s 0.0 of the rig 'small' is not positive"),
    ],
)
def test_impossible_rigs_are_refused(call, message: str):
    with pytest.raises(InputError, match=message):
        call()


def test_a_way_that_is_too_long_is_refused():
    scene = describe(2012)
    most = longest(scene, "nuscenes")
    # The ego drives until 10 m before the end of the street; its first frame is at 1 s.
    last = scene.ego_along(np.array([1 + 0.5 * (most - 1), 1 + 0.5 * (most + 1)]))
    assert last[0] <= 180 < last[1]
    with pytest.raises(InputError, match=f"{most + 1} frames of rig 'nuscenes'.* more than the {most} that fit"):
        next(render_scene(2012, most + 1, rig="nuscenes"))


def test_custom_rig_with_the_places_own_camera():
    # `None` is the camera that the place draws: the same view as the rig `camera` has from the same pose.
    scene = describe(5)
    rig = Rig(
        name="mixed", cameras={"front": None}, lidars={"top": dataclasses.replace(SMALL, columns=36)}, period_s=0.5
    )
    frame = render_rig(World(scene), 0, rig, CLEAR, (32, 64), exact=True, edge_rays=0)
    own = render_frame(5, size=(32, 64), exact=True).cameras["front"]
    np.testing.assert_array_equal(frame.cameras["front"].intrinsics, own.intrinsics)
    np.testing.assert_array_equal(frame.cameras["front"].ego_from_camera, own.ego_from_camera)
    assert frame.cameras["front"].timestamp_us == frame.timestamp_us
    assert len(frame.lidars["top"][0].points) > 200
