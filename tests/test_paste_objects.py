"""Objects cut from sweeps and pasted into others: where they may stand, and what they and the scene hide."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from zoo.classes import NUSCENES, SEMANTICKITTI, ClassTable
from zoo.errors import InputError
from zoo.frame import Frame, SensorFacts, Sweep
from zoo.inputs.points import PointsInput
from zoo.training.augment_points import PointAugmentation
from zoo.training.paste_objects import Cutout, cut_out, ground_labels, paste, place, thing_labels
from zoo.training.samples import Source
from zoo.training.sweeps import SweepStream

ROAD, CAR, PERSON, WALL = 0, 1, 2, 3
GROUND = (ROAD,)
STILL = PointAugmentation(rotate_deg=0, flip=0, scale=(1, 1))


def block(x: Any, y: Any, z: Any) -> np.ndarray:
    """All combinations of the coordinates, with an intensity of 0.5."""
    grid = np.stack(np.meshgrid(x, y, z, indexing="ij"), -1).reshape(-1, 3)
    return np.column_stack([grid, np.full(len(grid), 0.5)]).astype(np.float32)


def floor(height: float, half: float = 30) -> np.ndarray:
    return block(np.arange(-half, half, 0.5), np.arange(-half, half, 0.5), [height])


def person(x: float = 10.0, ground: float = -1.7) -> Cutout:
    """0.4 m wide and 1.6 m high, facing the sensor."""
    points = block([x], np.linspace(-0.2, 0.2, 9), ground + np.linspace(0.1, 1.7, 17))
    return Cutout(points, PERSON, ground)


def scene(*parts: tuple[np.ndarray, int]) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate([points for points, _ in parts])
    return points, np.concatenate([np.full(len(points), label, np.uint8) for points, label in parts])


def rows(points: np.ndarray) -> set[tuple[float, ...]]:
    return set(map(tuple, points.tolist()))


def test_it_stands_on_the_ground_and_hides_what_is_behind_it() -> None:
    """A person 10 m ahead, from ground at -1.7 to ground at -1.5: 0.2 m higher, so from -1.4 to 0.2.

    Seen from the sensor, the wall 20 m ahead is hidden where y is within 0.2 / 10 * 20 = 0.4 and z within
    20 * (-1.4 to 0.2) / 10 = -2.8 to 0.4, give or take half a beam gap and a step of azimuth (0.14 m at 20 m). Ground
    is hidden where it is farther away than the person: the lowest sight line, -1.4 at 10 m, meets it at 10.7 m.
    """
    wall = block([20.0], np.arange(-3, 3.01, 0.1), np.arange(-1.4, 3, 0.1))
    points, labels = scene((floor(-1.5), ROAD), (wall, WALL))
    found, found_labels = place(points, labels, person(), GROUND) or pytest.fail("there is room")
    added = found[found_labels == PERSON]
    expected = person().points + np.float32([0, 0, 0.2, 0])
    np.testing.assert_allclose(added, expected, atol=1e-6)
    kept = rows(found)
    lost = np.array([tuple(point) not in kept for point in points.tolist()])
    on_wall, on_floor = (points[lost & (labels == label)] for label in (WALL, ROAD))
    inside = (np.abs(wall[:, 1]) < 0.35) & (wall[:, 2] < 0.35)
    assert rows(wall[inside]) <= rows(on_wall)
    assert np.abs(on_wall[:, 1]).max() < 0.4 + 0.15
    assert on_wall[:, 2].max() < 0.4 + 20 * np.tan(np.radians(0.25))
    assert on_floor[:, 0].min() > 10
    ahead = on_floor[np.abs(on_floor[:, 1]) < 0.1, 0]
    assert set(np.arange(11, 30, 0.5)) <= set(ahead)
    assert (found_labels == WALL).sum() == len(wall) - len(on_wall)


def test_something_in_the_way_or_no_ground() -> None:
    ground = (floor(-1.7), ROAD)
    assert place(*scene(ground), person(), GROUND) is not None
    post = block([10.3], [0.1], np.arange(-1.6, 1, 0.1))
    assert place(*scene(ground, (post, WALL)), person(), GROUND) is None
    unlabelled = (post, 255)
    assert place(*scene(ground, unlabelled), person(), GROUND) is None
    branch = post + np.float32([0, 0, 3, 0])
    assert place(*scene(ground, (branch, WALL)), person(), GROUND) is not None
    aside = post + np.float32([0, 1, 0, 0])
    assert place(*scene(ground, (aside, WALL)), person(), GROUND) is not None
    far_ground = floor(-1.7)
    far_ground = far_ground[np.hypot(far_ground[:, 0] - 10, far_ground[:, 1]) > 4]
    assert place(*scene((far_ground, ROAD)), person(), GROUND) is None
    assert place(*scene((floor(-1.0), ROAD)), person(), GROUND) is None  # 0.7 m higher: another elevation


def test_what_is_nearer_hides_the_object() -> None:
    """A board at 5 m, up to 0.1 m to the right of the line ahead, hides the object right of 0.2 m at 10 m... and all
    of it if it is a metre wide."""
    ground = (floor(-1.7), ROAD)
    heights = np.arange(-1.65, 0.5, 0.02)
    half = block([5.0], np.arange(-0.5, -0.001, 0.01), heights)
    found, labels = place(*scene(ground, (half, WALL)), person(), GROUND) or pytest.fail("half of it is visible")
    left = found[labels == PERSON]
    assert left[:, 1].min() >= 0  # the person's points from y = 0 to 0.2
    assert len(left) == 5 * 17
    whole = block([5.0], np.arange(-0.5, 0.5, 0.01), heights)
    assert place(*scene(ground, (whole, WALL)), person(), GROUND) is None


def test_the_sector_may_lie_across_the_back() -> None:
    """Azimuths jump from 180 to -180 degrees behind the sensor; nothing else changes."""
    behind = person()
    turned = behind.points * np.float32([-1, -1, 1, 1])
    post = block([-10.2], [-0.1], np.arange(-1.6, 1, 0.1))
    ground = (floor(-1.7), ROAD)
    wall = block([-20.0], np.arange(-3, 3.01, 0.1), np.arange(-1.4, 3, 0.1))
    found, labels = place(*scene(ground, (wall, WALL)), Cutout(turned, PERSON, -1.7), GROUND) or pytest.fail("room")
    assert (labels == PERSON).sum() == len(turned)
    kept = found[labels == WALL]
    assert not ((np.abs(kept[:, 1]) < 0.35) & (kept[:, 2] < -0.1)).any()
    assert place(*scene(ground, (post, WALL)), Cutout(turned, PERSON, -1.7), GROUND) is None


def test_pasting_keeps_the_distance_and_draws_every_class_as_often() -> None:
    points, labels = scene((floor(-1.7), ROAD))
    car = Cutout(block([15.0], np.linspace(-2, 2, 30), np.linspace(-1.6, -0.3, 8)), CAR, -1.7)
    objects = {CAR: [car] * 50, PERSON: [person()]}
    counts = dict.fromkeys((CAR, PERSON), 0)
    sides = []
    for seed in range(60):
        found, found_labels = paste(points, labels, objects, GROUND, np.random.default_rng(seed))
        for label, each in ((CAR, car), (PERSON, person())):
            added = found[found_labels == label]
            counts[label] += round(len(added) / len(each.points))
            distance = np.hypot(each.points[:, 0], each.points[:, 1])
            if len(added):
                assert distance.min() - 1e-3 < np.hypot(added[:, 0], added[:, 1]).min()
                assert np.hypot(added[:, 0], added[:, 1]).max() < distance.max() + 1e-3
                assert added[:, 2].min() >= each.points[:, 2].min() - 1e-6
                assert (added[:, 3] == 0.5).all()
                sides.append(np.sign(added[:, 0].mean()))
    assert 0.6 < counts[CAR] / counts[PERSON] < 1.6
    assert {-1, 1} == set(sides)
    np.testing.assert_array_equal(points, scene((floor(-1.7), ROAD))[0])  # nothing is changed in place


def test_nothing_behind_an_object_is_left() -> None:
    """Brute force over pairs of points: none is farther away in the direction of a pasted point."""
    points, labels = scene(
        (floor(-1.7, 15), ROAD), (block([14.0], np.arange(-9, 9, 0.1), np.arange(-1.5, 2, 0.2)), WALL)
    )
    found, found_labels = paste(points, labels, {PERSON: [person(8.0)]}, GROUND, np.random.default_rng(3))
    added, others = found[found_labels == PERSON, :3], found[found_labels != PERSON, :3]
    assert len(added)
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (added, others))
    close = one @ other.T > np.cos(np.radians(0.15))
    farther = np.linalg.norm(others, axis=1)[None] > np.linalg.norm(added, axis=1)[:, None] + 0.05
    assert not (close & farther).any()


def test_objects_are_cut_out_by_number_or_by_cluster() -> None:
    one, other = person().points, person().points + np.float32([0, 4, 0, 0])
    touching = person().points + np.float32([0, 0.5, 0, 0])
    points, labels = scene((floor(-1.7), ROAD), (one, PERSON), (touching, PERSON), (other, PERSON))
    size, n = len(one), len(points)
    clusters = list(cut_out(points, labels, None, (CAR, PERSON), GROUND))
    assert sorted(len(each.points) for each in clusters) == [size, 2 * size]
    assert {each.label for each in clusters} == {PERSON}
    assert all(each.ground_m == pytest.approx(-1.7) for each in clusters)
    numbers = np.repeat([0, 7, 8, 0], [n - 3 * size, size, size, size])
    found = list(cut_out(points, labels, numbers, (CAR, PERSON), GROUND))
    assert [len(each.points) for each in found] == [size] * 3
    np.testing.assert_array_equal(found[0].points, one)
    np.testing.assert_array_equal(found[1].points, touching)
    np.testing.assert_array_equal(found[2].points, other)


def test_objects_that_are_not_cut_out() -> None:
    """Too few points, no ground around, or the lower part hidden."""
    few = person().points[:9]
    hidden = person().points[person().points[:, 2] > -1.0] + np.float32([0, 5, 0, 0])
    remote = person(60.0).points
    parts = ((few, PERSON), (hidden, PERSON), (remote, PERSON))
    points, labels = scene((floor(-1.7), ROAD), *parts)
    numbers = np.repeat([0, 1, 2, 3], [len(points) - sum(len(p) for p, _ in parts), *(len(p) for p, _ in parts)])
    assert list(cut_out(points, labels, numbers, (PERSON,), GROUND)) == []


def test_things_and_ground_of_the_taxonomies() -> None:
    assert [SEMANTICKITTI.names[i] for i in thing_labels(SEMANTICKITTI)] == [
        "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist",
    ]  # fmt: skip
    assert [SEMANTICKITTI.names[i] for i in ground_labels(SEMANTICKITTI)] == [
        "road", "parking", "sidewalk", "other-ground", "terrain",
    ]  # fmt: skip
    assert [NUSCENES.names[i] for i in ground_labels(NUSCENES)] == [
        "driveable_surface", "other_flat", "sidewalk", "terrain",
    ]  # fmt: skip
    own = ClassTable("own", ("ground", "wall", "car"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    assert thing_labels(own) == (2,)
    assert ground_labels(own) == (0,)
    for names, message in ((("ground", "wall"), "is an object"), (("car", "wall"), "is ground")):
        with pytest.raises(InputError, match=rf"none of the classes {', '.join(names)} {message} .*; set it to 0"):
            thing_labels(ClassTable("own", names, ((0, 0, 0), (1, 1, 1))))


CLASSES = ClassTable("own", ("road", "car", "person", "wall"), tuple((i, i, i) for i in range(4)))
AXES = SensorFacts(forward="+y", left="-x", up="+z")


def frames(persons: int) -> list[Frame]:
    """Sweeps with nuScenes' axes; the first has a person ahead, the sensor's +y."""
    found = []
    for i in range(3):
        parts = [(floor(-1.7, 20), ROAD), *([(person().points, PERSON)] if i < persons else [])]
        points, labels = scene(*parts)
        points[:, [0, 1]] = np.column_stack([-points[:, 1], points[:, 0]])
        points[:, 3] = np.linspace(0, 1, len(points))
        sweep = Sweep(points_source=points, labels_source=labels, sensor=AXES)
        found.append(Frame(id=f"f{i}", lidars={"top": (sweep,)}))
    return found


def stream(cache: bool = True, persons: int = 1, **settings: Any) -> SweepStream:
    return SweepStream(
        [Source(frames(persons), np.arange(256, dtype=np.uint8))],
        total=9,
        input=PointsInput(sensor=AXES),
        augmentation=dataclasses.replace(STILL, **settings),
        seed=0,
        cache=cache,
        classes=CLASSES,
    )


def test_the_stream_pastes_objects_of_other_sweeps() -> None:
    plain, pasted, again = stream(), stream(instance_paste=1.0), stream(instance_paste=1.0, cache=False)
    for position in range(9):
        (prepared, labels), (same, same_labels) = pasted[position], again[position]
        points = prepared.arrays["points"]
        np.testing.assert_array_equal(points, same.arrays["points"])
        np.testing.assert_array_equal(labels, same_labels)
        assert len(points) == len(labels)
        assert (labels == PERSON).sum() > (plain[position][1] == PERSON).sum()
        own = points[labels == PERSON]
        assert np.hypot(own[:, 0], own[:, 1]) == pytest.approx(10, abs=0.05)  # about the sensor's vertical
        assert own[:, 2].min() == pytest.approx(-1.6, abs=1e-5)


def test_streams_that_have_nothing_to_paste() -> None:
    with pytest.raises(InputError, match="no object that stands on visible ground; set it to 0"):
        stream(persons=0, instance_paste=0.5)
