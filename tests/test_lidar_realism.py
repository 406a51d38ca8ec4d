"""Lidar files and ground as real ones have them: order, beams, steps, own vehicle, relief; worked by hand."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.synthetic.layouts.kitti import row_order
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.sensors.response import HDL_32E, HDL_64E, IDEAL, Response
from zoo.synthetic.sensors.rigs import RIGS
from zoo.synthetic.shapes.mesh import Builder, refined
from zoo.synthetic.shapes.templates import template

REAL = Path(__file__).parents[2] / "shared" / "real"
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "lidar_realism.py"
KITTI = sorted((REAL / "kitti/training/velodyne").glob("*.bin"))
needs_kitti = pytest.mark.skipif(not KITTI, reason="../shared/real/kitti is not there")
needs_nuscenes = pytest.mark.skipif(not (REAL / "nuscenes").is_dir(), reason="../shared/real/nuscenes is not there")


# --- files ---


def test_rows_begin_straight_ahead_and_go_left_from_the_top():
    # Two rings of four points at 10, 100, -170 and -10 degrees, in the order in which a clockwise sensor fires them.
    angle = np.radians([10.0, -10.0, -170.0, 100.0])
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1).repeat(2, 0)
    order = row_order(points, np.tile([0, 1], 4))
    assert order.tolist() == [1, 7, 5, 3, 0, 6, 4, 2]


@pytest.mark.real
@needs_kitti
def test_real_beams_are_the_rigs():
    # The rows of a file are told apart without our code: each begins where the azimuth passes zero.
    lidar = RIGS["kitti"].lidars["velodyne"]
    for file in KITTI:
        points = np.fromfile(file, "<f4").reshape(-1, 4).astype(float)
        azimuth = np.arctan2(points[:, 1], points[:, 0])
        starts = np.flatnonzero((azimuth[1:] >= 0) & (azimuth[:-1] < 0) & (np.abs(azimuth[1:]) < 1)) + 1
        if len(starts) != 63:  # 000008 holds the camera's view alone
            continue
        for ring, row in enumerate(np.split(points, starts)):
            reach = np.hypot(row[:, 0], row[:, 1])
            slope, height = np.polyfit(reach[reach > 2], row[reach > 2, 2], 1)
            assert np.degrees(np.arctan(slope)) == pytest.approx(lidar.elevations_deg[63 - ring], abs=0.03)
            assert height == pytest.approx(lidar.offsets_m[63 - ring], abs=0.003)
        # At 14 m the highest beam is seen 2.8 degrees above the origin.
        up = np.degrees(np.arctan2(lidar.offsets_m[63] + 14 * np.tan(np.radians(lidar.elevations_deg[63])), 14))
        assert up == pytest.approx(2.8, abs=0.05)
        assert len(np.unique(points[:, 3])) <= 100
        np.testing.assert_allclose(points[:, 3] * 100, np.round(points[:, 3] * 100), atol=1e-4)


# --- intensity ---


def test_steps_and_cut():
    given = np.array([-0.3, 0.004, 0.006, 0.5, 0.987, 3.0])
    np.testing.assert_allclose(HDL_64E.in_steps(given), [0, 0, 0.01, 0.5, 0.99, 0.99])
    np.testing.assert_allclose(HDL_32E.in_steps(given) * 255, [0, 1, 2, 128, 252, 255], atol=1e-9)
    np.testing.assert_allclose(IDEAL.in_steps(given), [0, 0.004, 0.006, 0.5, 0.987, 1])
    assert len(np.unique(HDL_64E.in_steps(np.linspace(-1, 2, 9999)))) == 100


def test_report_by_hand():
    # Gain 2, square root, halved at 30 m (the middle of 20 and 40), beam 1 adds 0.1, floor 0.2: 0.6 / 2 + 0.1 - 0.2.
    sensor = Response(gain=2.0, exponent=0.5, floor=0.2, curve=((20, 1.0), (40, 0.0)), beam=(0.0, 0.1))
    found = sensor.report(np.array([0.09]), np.array([30.0]), np.array([1]), np.zeros(1))
    np.testing.assert_allclose(found, 0.2)
    rough = Response(shadow=0.1)
    cosine, yes, no = np.array([0.4]), np.array([True]), np.array([False])
    np.testing.assert_allclose(rough.incidence(cosine, no, no), 0.8)
    np.testing.assert_allclose(rough.incidence(cosine, no, yes), 0.4 / 0.7)
    np.testing.assert_allclose(rough.incidence(cosine, yes, no), 0.4)
    np.testing.assert_allclose(IDEAL.incidence(cosine, no, no), 0.4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"gain": 0}, "gain 0 of"), ({"floor": -1}, "floor -1 of"), ({"top": float("nan")}, "top nan of")],
)
def test_impossible_response(changes: dict, words: str):
    with pytest.raises(InputError, match=words):
        Response(**changes)


@pytest.mark.parametrize("changes", [{"offsets_m": (0.1,)}, {"response": Response(beam=(0.1, 0.2))}])
def test_one_number_per_beam(changes: dict):
    with pytest.raises(InputError, match="give one per beam or none"):
        dataclasses.replace(RIGS["kitti"].lidars["velodyne"], **changes)


# --- ground ---


PLANTS = ("bush", "conifer", "grass", "grove", "thicket", "tree")


def test_things_and_wheels_stand_on_the_triangles_of_the_ground():
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    from zoo.synthetic.models.ground import ground
    from zoo.synthetic.rendering.cast import Caster

    for seed in (5000, 5003, 5011):
        scene = describe(seed)
        caster = Caster([ground(scene)])
        things = [
            thing
            for thing in scene.things
            if thing.speed == 0
            and thing.way is None  # what moves has no place of its own
            and thing.s > scene.street.start
            and thing.kind not in ("lamp", "traffic_light")
        ]
        at = np.array([scene.street.to_world(np.array(thing.s), np.array(thing.t), thing.h) for thing in things])
        down = caster.trace(at + [0, 0, 50.0], np.tile([0, 0, -1.0], (len(at), 1)))
        gap = np.abs(down.distance - 50.0)
        plants = np.array([thing.kind in PLANTS for thing in things])
        assert np.quantile(gap[~plants], 0.9) < 0.03
        assert np.quantile(gap[plants], 0.9) < 0.05  # roots in rough turf, far from the road in larger triangles
        # The ego vehicle's wheels: 2.7 m apart along, 1.5 m across its pose.
        for pose in scene.ego_poses(np.linspace(0, 5, 11)):
            wheels = np.array([[x, y, 0.0] for x in (0, 2.7) for y in (-0.75, 0.75)]) @ pose[:3, :3].T + pose[:3, 3]
            down = caster.trace(wheels + [0, 0, 5.0], np.tile([0, 0, -1.0], (4, 1)))
            assert np.abs(down.distance - 5.0).max() < 0.08  # it does not roll: half of 1.5 m at a slope of 6 %
            assert abs((down.distance - 5.0).mean()) < 0.015


def test_wheels_of_cars_end_at_the_ground():
    low = [template("car", variant).vertices[:, 2].min() for variant in range(24)]
    assert max(np.abs(low)) < 0.01


def test_relief_is_as_large_as_on_real_roads():
    # Over 60 places: the fall across the road, and what is left of the road within 25 m, less a plane.
    falls, rest = [], []
    for seed in range(60):
        scene = describe(seed)
        street, relief = scene.street, scene.street.relief
        assert relief is not None
        s, t = (v.ravel() for v in np.meshgrid(np.arange(40, 90, 1.0), np.linspace(-1, 1, 15) * street.half_width))
        matrix = np.stack([s, t, np.ones_like(s)], 1)
        z = relief.height(s, t)
        found = np.linalg.lstsq(matrix, z, rcond=None)[0]
        falls.append(abs(found[1]))
        rest.append((z - matrix @ found).std())
    assert 0.01 < np.median(falls) < 0.04
    assert 0.03 < np.median(rest) < 0.09


def test_heights_follow_from_the_seed_alone():
    a, b = describe(77).street.relief, describe(77).street.relief
    assert a is not None
    assert b is not None
    assert a == b
    s, t = np.linspace(-20, 180, 50), np.linspace(-60, 60, 50)
    assert a.height(s, t).tobytes() == b.height(s, t).tobytes()
    # Side streets stay at the height of the road, whatever the bank: a metre beyond the kerb and 20 m in.
    for seed in range(20):
        scene = describe(seed)
        relief = dataclasses.replace(scene.street.relief, bumps=0.0, wear=0.0, bank=((9.0,) * 9, (9.0,) * 9))
        for crossing in scene.crossings:
            middle = np.array([(crossing.start + crossing.end) / 2] * 2)
            for side in (1, -1):
                if crossing.side in (0, side):
                    low, high = relief.height(middle, side * np.array([relief.half_width + 1, relief.half_width + 20]))
                    assert abs(high - low) < 0.3


def test_refined_keeps_the_surface():
    builder = Builder(3)
    builder.box((0, 0, 0), (20, 0.1, 1), (0.5, 0.5, 0.5))
    whole = builder.mesh()
    fine = refined(whole, 3.0)

    def areas(mesh) -> np.ndarray:
        a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(float) for k in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    edges = fine.vertices[fine.faces] - np.roll(fine.vertices[fine.faces], -1, 1)
    assert np.linalg.norm(edges, axis=2).max() <= 3.0
    assert areas(fine).sum() == pytest.approx(areas(whole).sum(), rel=1e-5)
    assert (fine.vertices.min(0), fine.vertices.max(0)) == (
        pytest.approx(whole.vertices.min(0)),
        pytest.approx(whole.vertices.max(0)),
    )
    assert (fine.label == 3).all()


# --- the comparison ---


def test_rows_of_the_comparison_by_hand():
    tools = runpy.run_path(str(BENCHMARK))
    # A road that falls by 3 % to the right and rises by 1 %, with a ridge of alternating 10 cm.
    x, y = (v.ravel() for v in np.meshgrid(np.arange(3.0, 18.0), np.arange(-7.0, 8.0)))
    points = np.stack([x, y, 0.03 * y + 0.01 * x - 1.73], 1)
    slopes, rest = tools["plane"](points)
    np.testing.assert_allclose(slopes, [0.01, 0.03, -1.73], atol=1e-9)
    assert rest == pytest.approx(0, abs=1e-9)
    bumpy = points + np.stack([0 * x, 0 * x, 0.1 * (-1.0) ** np.arange(len(x))], 1)
    assert tools["plane"](bumpy)[1] == pytest.approx(0.1, rel=0.02)
    # Ranges 10, 11, 10 in one ring: |5 - 11 + 5| / 11.
    scan = tools["Scan"](np.array([[10.0, 0, 0], [11, 0, 0], [10, 0, 0]]), np.zeros(3), np.zeros(3, int), ("road",),
                         np.zeros(3, int), 1.73)  # fmt: skip
    np.testing.assert_allclose(tools["roughness"](scan, "road"), [1 / 11])


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "semantickitti").is_dir(), reason="../shared/real/semantickitti is not there")
def test_real_scan_in_the_comparison():
    tools = runpy.run_path(str(BENCHMARK))
    found = tools["summary"](tools["kitti_scans"](REAL / "semantickitti"))
    expected = {
        "intensity of road": 0.20,
        "intensity of sidewalk": 0.31,
        "intensity of terrain": 0.34,
        "intensity of building": 0.24,
        "intensity of vegetation": 0.32,
        "residual of road, m": 0.059,
        "residual of terrain, m": 0.228,
        "cross-fall of road": 0.037,
        "height of terrain, 5 %": -1.46,
        "order: rings": 64,
    }
    assert {name: pytest.approx(found[name], abs=0.006) for name in expected} == expected


@pytest.mark.real
@needs_nuscenes
def test_real_sweeps_hold_every_firing_and_so_do_ours():
    real = [np.fromfile(f, "<f4").reshape(-1, 5) for f in (REAL / "nuscenes/samples/LIDAR_TOP").glob("*.bin")]
    near = np.mean([(np.linalg.norm(points[:, :3], axis=1) < 2.5).sum() for points in real])
    assert near == 9196
    for points in real:
        np.testing.assert_array_equal(points[:, 4], np.tile(np.arange(32), len(points) // 32))


def test_nuscenes_sweep_sees_its_own_roof_and_keeps_lost_rays():
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    from zoo.synthetic.frames.render import render_rig
    from zoo.synthetic.frames.world import World
    from zoo.synthetic.layouts.nuscenes import CATEGORIES, _lidarseg, _scan

    rig = dataclasses.replace(RIGS["nuscenes"], cameras={})
    world = World(describe(5001))
    from zoo.condition import Condition

    frame = render_rig(world, 0, rig, Condition())
    sweep = frame.lidars["LIDAR_TOP"][0]
    points = np.frombuffer(_scan(sweep), "<f4").reshape(-1, 5)
    assert len(points) == 1084 * 32
    np.testing.assert_array_equal(points[:, 4], np.tile(np.arange(32), 1084))
    np.testing.assert_array_equal(points[:, 3], np.round(points[:, 3]))
    reach = np.linalg.norm(points[:, :3], axis=1)
    category = np.frombuffer(_lidarseg(sweep, frame), np.uint8)
    ego = category == CATEGORIES.index("vehicle.ego")
    # The lidar is 1.84 m above the ground and the roof 1.54 m: the lowest beam meets it 0.3 / sin(30.67 degrees) =
    # 0.59 m away, and the way during the turn is added. In two real sweeps the median is 0.60 and 0.65 m.
    lowest = ego & (points[:, 4] == 0)
    assert 0.5 < np.median(reach[lowest]) < 0.75
    assert 2500 < ego.sum() < 5500  # 3330 and 4121 in two real sweeps
    lost = (reach < 0.5) & ~ego
    assert (category[lost] == CATEGORIES.index("noise")).all()
    assert 2000 < lost.sum() < 12000


def test_annotators_err_at_borders_only():
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    from zoo.condition import Condition
    from zoo.synthetic.frames.render import render_rig
    from zoo.synthetic.frames.world import World

    rig = dataclasses.replace(RIGS["kitti"], cameras={})
    world = World(describe(5000))
    exact, annotated = (
        render_rig(world, 0, rig, Condition(), exact=flag).lidars["velodyne"][0] for flag in (True, False)
    )
    assert exact.points.tobytes() == annotated.points.tobytes()
    assert exact.labels is not None
    assert annotated.labels is not None
    changed = np.nonzero(exact.labels != annotated.labels)[0]
    assert 0.001 < len(changed) / len(exact.labels) < 0.03
    # Wherever a label changed, another point within half a metre has the new one.
    xyz = exact.points[:, :3].astype(float)
    for index in changed[:: max(1, len(changed) // 100)]:
        around = np.linalg.norm(xyz - xyz[index], axis=1)
        assert around[exact.labels == annotated.labels[index]].min() < 1.0
