"""The sensor contract: mismatches planted in a real scan, no false alarm on real sensors, axes worked by hand."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.errors import InputError, SensorWarning
from zoo.frame import Frame, SensorFacts, Sweep
from zoo.inputs.points import PointsInput
from zoo.inputs.sensor_check import fit_to_model, observe
from zoo.sensors import KITTI, NUSCENES, sensor_axes

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
COLUMNS = ("x", "y", "z", "intensity")
AXES = SensorFacts(forward="+x", left="+y", up="+z")
A2D2 = SensorFacts(forward="+x", up="+z", height_m=1.69, coverage_deg=60, points=8_000, intensity_scale="0-255")
"""The points of A2D2's front camera, which is 0.943 m above the origin of the car, and the wheels stand 0.75 m below it
(`view.origin` of the camera and `ego-dimensions` in `cams_lidars.json`)."""


def fitted(
    points: np.ndarray, model: SensorFacts = KITTI, source: SensorFacts | None = AXES
) -> tuple[np.ndarray, list[str]]:
    """The points as the model gets them, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fit_to_model(np.ascontiguousarray(points, np.float32), COLUMNS, model, source)
    assert all(issubclass(each.category, SensorWarning) for each in caught)
    return found, [str(each.message) for each in caught]


def real_scan() -> np.ndarray:
    path = REAL / "semantickitti" / "sequences" / "08" / "velodyne" / "000000.bin"
    if not path.exists():
        pytest.skip(f"no SemanticKITTI scan in {REAL}")
    return np.fromfile(path, "<f4").reshape(-1, 4)


def of_xyz(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda points: np.column_stack([change(points[:, :3]), points[:, 3]])


def of_intensity(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda points: np.column_stack([points[:, :3], change(points[:, 3])])


def elevation_deg(points: np.ndarray) -> np.ndarray:
    return np.degrees(np.arcsin(points[:, 2] / np.linalg.norm(points[:, :3], axis=1)))


def five_revolutions(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points + np.float32([0.9 * i, 0.05 * i, 0.02 * i, 0]) for i in range(5)])


def pitched(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


REFUSED = {
    "intensity in per cent": (of_intensity(lambda i: np.round(100 * i)), "per cent or 0 to 255"),
    "intensity of 16 bits": (of_intensity(lambda i: np.round(65535 * i)), "expected 0 to 1 or 0 to 255"),
    "beam in place of intensity": (lambda p: np.column_stack([p[:, :3], (elevation_deg(p) + 25) // 0.5]), "beams?"),
    "intensity first": (lambda p: p[:, [3, 0, 1, 2]], "the ground shows that up is [+]x"),
    "z down": (of_xyz(lambda x: x * [1, -1, -1]), "up is -z, but its source says [+]z"),
    "y up": (of_xyz(lambda x: x[:, [0, 2, 1]] * [1, 1, -1]), "up is [+]y"),
    "axes of a camera": (of_xyz(lambda x: np.column_stack([-x[:, 1], -x[:, 2], x[:, 0]])), "up is -y"),
    "millimetres": (of_xyz(lambda x: 1000 * x), "expected metres from the sensor"),
    "centimetres": (of_xyz(lambda x: 100 * x), "expected metres from the sensor"),
    "feet": (of_xyz(lambda x: 3.281 * x), "check the unit"),
    "world coordinates": (of_xyz(lambda x: x + [4000, 300, 20]), "expected metres from the sensor"),
    "big-endian numbers": (lambda p: np.frombuffer(p.astype(">f4").tobytes(), "<f4").reshape(-1, 4), "data type"),
    "float64 read as float32": (lambda p: np.frombuffer(p.astype("<f8").tobytes(), "<f4").reshape(-1, 4), "intensity"),
}
WARNED = {
    "intensities of 0 to 255": (of_intensity(lambda i: np.round(255 * i)), "taken as 0 to 255"),
    "no intensities": (of_intensity(lambda i: 0 * i), "every intensity is 0"),
    "origin on the ground": (of_xyz(lambda x: x + [0, 0, 1.73]), "the points are moved"),
    "another height": (of_xyz(lambda x: x - [0, 0, 1.0]), "ground lies about 2.8 m below the sensor"),
    "tilted": (of_xyz(lambda x: x @ pitched(10).T), "tilted by (9|10|11) degrees"),
    "16 beams": (lambda p: p[(elevation_deg(p) + 25) // 0.5 % 4 == 0], "about 1[5-9] beams"),
    "five revolutions": (five_revolutions, "merged from several revolutions"),
    "a quarter of the view": (lambda p: p[np.abs(np.arctan2(p[:, 1], p[:, 0])) < np.pi / 4], "cover 90 degrees"),
    "every point twice": (lambda p: np.concatenate([p, p]), "50% of the points occur more than once"),
    "one point in ten": (lambda p: p[::10], "12,339 points"),
    "another range": (of_xyz(lambda x: x * (1 + 2 * (np.linalg.norm(x, axis=1) > 30))[:, None]), "farther than"),
}


@pytest.mark.real
@pytest.mark.parametrize("name", REFUSED)
def test_planted_mismatches_that_are_refused(name: str) -> None:
    plant, message = REFUSED[name]
    with np.errstate(all="ignore"):  # arithmetic with the garbage of a wrong data type
        planted = plant(real_scan())
        with pytest.raises(InputError, match=message):
            fitted(planted)


@pytest.mark.real
@pytest.mark.parametrize("name", WARNED)
def test_planted_mismatches_that_are_reported(name: str) -> None:
    plant, message = WARNED[name]
    _, notes = fitted(plant(real_scan()))
    assert re.search(message, "\n".join(notes)), notes


@pytest.mark.real
def test_conversions_restore_the_scan() -> None:
    """Scale, height and axes: what is converted is the original again."""
    points = real_scan()
    np.testing.assert_array_equal(fitted(points)[0], points)
    scaled, _ = fitted(of_intensity(lambda i: np.round(255 * i))(points))
    np.testing.assert_allclose(scaled[:, 3], points[:, 3], atol=0.5 / 255)
    raised, _ = fitted(of_xyz(lambda x: x + [0, 0, 1.73])(points))
    assert abs(float(np.median(raised[:, 2] - points[:, 2]))) < 0.2  # the estimate of the ground
    nuscenes = of_xyz(lambda x: np.column_stack([-x[:, 1], x[:, 0], x[:, 2] - 0.11]))(points)
    nuscenes[:, 3] = np.round(255 * nuscenes[:, 3])
    declared = replace(NUSCENES, beams=64, points=None)
    found, notes = fitted(nuscenes, source=declared)
    assert not notes
    np.testing.assert_allclose(found[:, :3], points[:, :3], atol=1e-5)
    np.testing.assert_allclose(found[:, 3], points[:, 3], atol=0.5 / 255)


@pytest.mark.real
def test_what_no_sweep_shows_is_named() -> None:
    """Turned and mirrored sweeps look right; without a declaration, the assumption is reported."""
    points = real_scan()
    for change in (lambda x: x, lambda x: x[:, [1, 0, 2]] * [-1, 1, 1], lambda x: x * [1, -1, 1]):
        _, notes = fitted(of_xyz(change)(points), source=None)
        assert len(notes) == 1
        assert "assumed: +x forward, +y left, +z up" in notes[0]
    mirrored = of_xyz(lambda x: x * [1, -1, 1])(points)
    found, notes = fitted(mirrored, source=SensorFacts(forward="+x", left="-y", up="+z"))
    assert not notes
    np.testing.assert_array_equal(found, points)


def real_sweeps() -> list[tuple[Path, np.ndarray, SensorFacts]]:
    """All sweeps of four real sensors with all their points, and the facts of the sensor."""
    found = []
    for folder, pattern, columns, facts in (
        ("kitti/training/velodyne", "*.bin", 4, KITTI),
        ("semantickitti/sequences/08/velodyne", "*.bin", 4, KITTI),
        ("nuscenes/samples/LIDAR_TOP", "*.bin", 5, NUSCENES),
        ("nuscenes_lidarseg11/points", "*.bin", 5, NUSCENES),
    ):
        for path in sorted((REAL / folder).glob(pattern)):
            found.append((path, np.fromfile(path, "<f4").reshape(-1, columns)[:, :4], facts))
    for path in (REAL / "a2d2").rglob("*.npz"):
        with np.load(path) as arrays:
            found.append((path, np.column_stack([arrays["points"], arrays["reflectance"]]), A2D2))
    if not found:
        pytest.skip(f"no sweeps in {REAL}")
    assert len(found) == 23
    return found


@pytest.mark.real
def test_no_false_alarm_on_real_sensors() -> None:
    """Every real sweep passes silently, for a model of its own sensor, whether it declares all facts or the axes only.

    Except for what the declaration leaves open: intensities above 1 are scaled with a warning.
    """
    for path, points, facts in real_sweeps():
        assert fitted(points, facts, facts)[1] == [], path
        axes = SensorFacts(forward=facts.forward, left=facts.left, up=facts.up)
        notes = fitted(points, facts, axes)[1]
        assert [note for note in notes if "taken as 0 to 255 and scaled" not in note] == [], path
        assert bool(notes) == (points[:, 3].max() > 1), path


@pytest.mark.real
def test_the_height_of_real_sensors() -> None:
    """Heights of KITTI's and nuScenes' roof lidars, from their calibration files, and of A2D2's camera."""
    for path, points, facts in real_sweeps():
        found = observe(points[:, :3]).height_m
        assert found is not None
        assert facts.height_m is not None
        assert abs(found - facts.height_m) < 0.2, path


@pytest.mark.real
def test_the_up_axis_of_every_orientation() -> None:
    """All 48 ways to write the same scan: the ground shows the axis that points up, and its height."""
    points = real_scan()[::4, :3]
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            found = observe((points * np.float32(signs))[:, order])
            assert found.up == f"{'-' if signs[2] < 0 else '+'}{'xyz'[order.index(2)]}"
            assert found.height_m is not None
            assert abs(found.height_m - 1.73) < 0.3


def test_two_axes_give_the_third() -> None:
    assert sensor_axes(SensorFacts()) == ("+x", "+y", "+z")
    assert sensor_axes(SensorFacts(forward="+y", up="+z")) == ("+y", "-x", "+z")  # nuScenes: x right, y forward
    assert sensor_axes(SensorFacts(forward="+z", up="-y")) == ("+z", "-x", "-y")  # a camera: x right, y down
    assert sensor_axes(SensorFacts(forward="-y", left="+x")) == ("-y", "+x", "+z")  # ONCE: x left, y back
    assert sensor_axes(SensorFacts(left="+y", up="+z")) == ("+x", "+y", "+z")


def test_a_source_that_contradicts_itself() -> None:
    points = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32) * np.float32([20, 20, 0.01, 0])
    points[:, 2] -= 1.7
    points[:, 3] = np.linspace(0, 1, 500)
    facts = replace(AXES, height_m=1.7)
    assert fitted(points, SensorFacts(height_m=1.7), facts)[1] == []
    for changed, message in (
        (replace(facts, height_m=3.0), r"says that the sensor is 3.00 m above the ground, but the ground lies 1.70 m"),
        (replace(facts, intensity_scale="0-255"), r"says intensities of 0 to 255, but none exceeds 1"),
        (replace(facts, up="-z", left=None), r"up is \+z, but its source says -z"),
    ):
        with pytest.raises(InputError, match=message):
            fitted(points, SensorFacts(height_m=1.7), changed)
    points[:, 3] *= 200
    with pytest.raises(InputError, match="says intensities of 0 to 1, but they reach 200"):
        fitted(points, SensorFacts(), replace(facts, intensity_scale="0-1"))
    with pytest.raises(InputError, match="every point is at the origin"):
        fitted(0 * points, SensorFacts(), facts)


def test_a_sweep_declares_its_sensor() -> None:
    """The same points as a sweep with facts and as a bare array: silent, and with the assumption named."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(2000, 4)).astype(np.float32) * np.float32([10, 10, 0.01, 0])
    points[:, 2] -= 1.84
    points[:, 3] = generator.random(2000)
    model = PointsInput(sensor=SensorFacts(height_m=1.73))
    sweep = Sweep(points_source=points, sensor=replace(NUSCENES, intensity_scale="0-255"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = model.read(Frame(id="a", lidars={"top": (sweep,)}))
    expected = np.column_stack([points[:, 1], -points[:, 0], points[:, 2] + 0.11, points[:, 3]])
    np.testing.assert_allclose(read, expected, atol=1e-5)
    with pytest.warns(SensorWarning, match="does not say where its axes point"):
        np.testing.assert_array_equal(model.read(points), points)
    wrong = Frame(id="a", lidars={"top": (Sweep(points_source=points, sensor=replace(NUSCENES, height_m=5.0)),)})
    with pytest.raises(InputError, match="frame a: its source says that the sensor is 5"):
        model.read(wrong)


def test_a_frame_of_a_file_is_fitted_once(tmp_path: Path) -> None:
    """The points of a file as a frame are those of the file, raised once, with the warnings given once."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(20_000, 4)).astype(np.float32) * np.float32([10, 10, 0.01, 0])
    points[:, 3] = generator.random(20_000)  # the ground at the height of the sensor
    points.tofile(tmp_path / "a.bin")
    model = PointsInput(sensor=SensorFacts(forward="+y", up="+z", height_m=1.84))
    for source in (tmp_path / "a.bin", model.frame(tmp_path / "a.bin", "a")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = model.read(source)
        assert len([each for each in caught if "does not say where its axes point" in str(each.message)]) == 1
        assert abs(np.median(read[:, 2]) + 1.84) < 0.05


# --- computed sweeps --------------------------------------------------------------------------------------------------


def room(ceiling_m: float, half_m: float, *, bays: bool) -> np.ndarray:
    """`(N, 4)`: rays of 64 beams from -22.5 to 22.5 degrees in a room 400 m long, 1.73 m above its floor.

    Args:
        ceiling_m: Height of the ceiling above the sensor.
        half_m: Distance of the walls to either side.
        bays: Cars parked side by side, as in a garage, instead of one behind the other, as in a tunnel.
    """
    rng = np.random.default_rng(0)
    elevation, azimuth = np.meshgrid(np.radians(np.linspace(-22.5, 22.5, 64)), np.linspace(-np.pi, np.pi, 1800, False))
    e, a = elevation.ravel(), azimuth.ravel() + 1e-4
    ray = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    far = np.array([200, half_m, ceiling_m]), np.array([-200, -half_m, -1.73])
    distance = np.where(ray > 0, far[0][:, None] / ray, far[1][:, None] / ray).min(0)
    length, width, every = (1.8, 4.4, 2.8) if bays else (4.5, 1.9, 5.5)
    for side, x in itertools.product((-1, 1), np.arange(-40, 40, every)):
        y = side * (half_m - 0.3 - width / 2)
        low, high = np.array([x, y - width / 2, -1.73]), np.array([x + length, y + width / 2, -0.23])
        planes = np.stack([low[:, None] / ray, high[:, None] / ray])
        enters, leaves = planes.min(0).max(0), planes.max(0).min(0)
        distance = np.where((enters <= leaves) & (enters > 0), np.minimum(distance, enters), distance)
    xyz = (ray * (distance + rng.normal(0, 0.02, len(e)))).T[distance < 80]
    return np.column_stack([xyz, rng.random(len(xyz))])


@pytest.mark.parametrize(("half_m", "bays"), [(4, False), (6, False), (8, True), (15, True)])
@pytest.mark.parametrize("ceiling_m", [4.5, 2.5, 0.77])
def test_tunnels_and_garages_are_not_refused(ceiling_m: float, half_m: float, bays: bool) -> None:
    """A ceiling or a wall is not the ground: what is declared correctly is accepted, and the points stay."""
    points = room(ceiling_m, half_m, bays=bays).astype(np.float32)
    facts = replace(KITTI, max_range_m=None)
    found, notes = fitted(points, facts, facts)
    np.testing.assert_array_equal(found, points)
    assert notes == []


def test_a_hidden_floor_does_not_disprove_the_height() -> None:
    """Two walls of cars 0.7 m to either side hide the floor: a warning, and the declared height is used."""
    points = room(2.5, 4, bays=True)
    facts = replace(KITTI, max_range_m=None)
    found, notes = fitted(points, facts, facts)
    np.testing.assert_array_equal(found, points.astype(np.float32))
    assert len(notes) == 1
    assert "unless this is a tunnel or a garage" in notes[0]


def street(up: str, height_m: float) -> np.ndarray:
    """`(20000, 4)`: flat ground and two walls 10 m to either side, along x, below an origin that is `height_m` up."""
    rng = np.random.default_rng(0)
    ground = np.column_stack([rng.uniform(-20, 20, (16_000, 1)), rng.uniform(-10, 10, (16_000, 1)), np.zeros(16_000)])
    wall = np.column_stack([rng.uniform(-20, 20, 4000), rng.choice([-10, 10], 4000), rng.uniform(0, 6, 4000)])
    xyz = np.concatenate([ground, wall]) - [0, 0, height_m]
    if up == "-z":
        xyz *= [1, -1, -1]  # turned about the direction of travel
    return np.column_stack([xyz, rng.random(20_000)])


@pytest.mark.parametrize("up", ["+z", "-z"])
@pytest.mark.parametrize("declared", [True, False])
def test_the_height_is_shifted_along_up(up: str, declared: bool) -> None:
    """A sensor 1.83 m above the ground, a model for 1.0 m: the ground is brought to 1.0 m below the origin."""
    left = "+y" if up == "+z" else "-y"
    model = SensorFacts(forward="+x", left=left, up=up, height_m=1.0)  # type: ignore[arg-type]
    source = replace(model, height_m=1.83 if declared else None)
    points = street(up, 1.83)
    found, notes = fitted(points, model, source)
    assert bool(notes) != declared
    below = found[:16_000, 2] * (-1 if up == "+z" else 1)
    np.testing.assert_allclose(below, 1.0, atol=0.01)
    np.testing.assert_allclose(found[:, :2], points[:, :2], atol=1e-5)


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [(255, "0-255", 1), (255, None, 1), (51, "0-255", 0.2), (0, "0-255", 0), (0, None, 0), (0.5, "0-1", 0.5)],
)
def test_equal_intensities_are_scaled_as_others_are(value: float, scale: Any, expected: float) -> None:
    points = street("+z", 1.73)
    points[:, 3] = value
    found, notes = fitted(points, SensorFacts(height_m=1.73), replace(AXES, intensity_scale=scale))
    np.testing.assert_allclose(found[:, 3], expected, rtol=1e-6)
    assert f"every intensity is {value:g}" in notes[0]


@pytest.mark.parametrize(
    ("value", "scale", "message"),
    [(100, "0-1", "says intensities of 0 to 1, but they reach 100"), (100, None, "per cent or 0 to 255; declare")],
)
def test_equal_intensities_are_refused_as_others_are(value: float, scale: Any, message: str) -> None:
    points = street("+z", 1.73)
    points[:, 3] = value
    with pytest.raises(InputError, match=message):
        fitted(points, SensorFacts(height_m=1.73), replace(AXES, intensity_scale=scale))


def test_a_few_points_do_not_show_their_unit() -> None:
    far = np.column_stack([np.linspace(60, 70, 300), np.linspace(10, 20, 300), np.zeros(300), np.linspace(0, 1, 300)])
    for count in (1, 5, 50):
        assert fitted(far[:count], SensorFacts(), AXES)[0].shape == (count, 4)
    with pytest.raises(InputError, match=r"nearest points are 60.* pass the whole sweep if it was cropped"):
        fitted(far, SensorFacts(), AXES)
