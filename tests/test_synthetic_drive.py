"""A drive over several streets: motion, ground under the wheels, turns, signals, identities, files, bad input.

References are finite differences of poses, rays cast on the final triangles, and geometry worked out here.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cli import main
from zoo.errors import InputError
from zoo.synthetic import iter_frames, render_scene
from zoo.synthetic.frames.world import DriveWorld
from zoo.synthetic.previews.drive import drive_pictures, write_animation
from zoo.synthetic.rendering.cast import Caster
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.drive import describe_drive
from zoo.synthetic.scene.network import Drive, LegStreet
from zoo.synthetic.shapes.surfaces import Label

SEED, SECONDS = 7, 120.0
STEP_S = 0.1


@pytest.fixture(scope="module")
def drive() -> Drive:
    return describe_drive(SEED, SECONDS)


def times(drive: Drive) -> np.ndarray:
    """Of all frames of a rig of 10 Hz."""
    return 1 + np.arange(round(drive.seconds / STEP_S)) * STEP_S


def streets(drive: Drive) -> list[LegStreet]:
    return [leg.street for leg in drive.legs if isinstance(leg.street, LegStreet)]


def check_motion(drive: Drive) -> None:
    poses = drive.ego.poses(times(drive))
    assert np.isfinite(poses).all()
    velocity = np.diff(poses[:, :3, 3], axis=0) / STEP_S
    speed = np.linalg.norm(velocity, axis=1)
    assert speed.max() < 17
    # The hardest braking of the driver model is 6 m/s2; across a turn the direction adds to that.
    assert np.abs(np.diff(speed) / STEP_S).max() < 8
    yaw = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    assert np.abs(np.diff(yaw)).max() / STEP_S < 1.2
    assert np.abs(np.diff(yaw, 2)).max() / STEP_S**2 < 3
    # It drives forwards: the velocity points where the vehicle does, to within the slip of its rear axle in a turn.
    ahead = np.einsum("ij,ij->i", velocity, poses[:-1, :3, 0])
    assert (ahead > 0.97 * speed - 0.02).all()


def test_a_drive_moves_without_jumps(drive: Drive):
    assert len(times(drive)) == 1200
    check_motion(drive)


@pytest.mark.slow
def test_twenty_drives_move_without_jumps_and_get_somewhere():
    distances = []
    for seed in range(300, 320):
        drive = describe_drive(seed, SECONDS)
        check_motion(drive)
        poses = drive.ego.poses(times(drive))
        distances.append(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())
    assert min(distances) > 150
    assert np.mean(distances) > 350


def test_a_drive_turns_at_crossings_and_stops_at_red(drive: Drive):
    poses = drive.ego.poses(times(drive))
    yaw = np.degrees(np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0])))
    straight = yaw[np.abs(yaw / 90 - np.round(yaw / 90)) < 0.02]
    assert len({round(angle / 90) for angle in straight}) >= 2  # it has driven in two directions or more
    # While a leg's signal is red nobody in its lane is between the stop line, 4.9 m before the crossing, and the
    # crossing unless they were too fast to stop: the ego vehicle crosses the line at green or just after it.
    for leg, begin in zip(drive.legs, drive.ego.begins[1:]):
        crossing, street = leg.crossings[-1], leg.street
        assert isinstance(street, LegStreet)
        s, _ = street.locate(poses[:, :2, 3])
        before = np.nonzero(drive.ego.along(times(drive)) < begin)[0]
        crossed = before[np.nonzero(s[before] > crossing.start - 3)[0]]
        if len(crossed):
            moment = times(drive)[crossed[0]]
            assert all(not start + 3 < moment < end for start, end in crossing.closed), (moment, crossing.closed)


def test_the_wheels_stay_on_the_road(drive: Drive):
    world, checked = DriveWorld(drive), 0
    along = drive.ego.along(times(drive))
    turning = [float(times(drive)[np.searchsorted(along, begin - 12)]) for begin in drive.ego.begins[1:2]]
    for time_s in [3.0, *np.arange(turning[0] - 2, turning[0] + 4, 0.7)]:
        here = world.at(time_s)
        caster = Caster([here.static])
        pose = drive.ego.poses(np.array([time_s]))[0]
        wheels = np.array([[x, y, 0.6, 1] for x in (0.0, 2.7) for y in (-0.75, 0.75)]) @ pose.T
        hits = caster.trace(wheels[:, :3].astype(np.float32), np.tile(np.float32([0, 0, -1]), (4, 1)))
        assert (caster.of_faces("label", hits.face) == Label.ROAD).all()
        assert np.abs(hits.distance - 0.6).max() < 0.06  # it does not roll: 4 % across 1.5 m are 3 cm to each side
        checked += 1
    assert checked > 5


def test_the_ground_has_no_step_where_streets_join(drive: Drive):
    world = DriveWorld(drive).at(3.0)
    caster = Caster([world.static])
    for street, following in itertools.pairwise(streets(drive)[:2]):
        reach = street.half_width - 0.2
        t = np.linspace(-reach, reach, 25)
        heights = []
        for s in (street.end - 0.05, street.end + 0.05):
            start = street.to_world(np.full(25, s), t)
            start[:, 2] += 3
            hits = caster.trace(start.astype(np.float32), np.tile(np.float32([0, 0, -1]), (25, 1)))
            assert (caster.of_faces("label", hits.face) == Label.ROAD).all()
            heights.append(start[:, 2] - hits.distance)
        assert np.abs(heights[0] - heights[1]).max() < 0.03
        assert following.stem != 0


def test_every_object_has_a_number_of_its_own(drive: Drive):
    things = [thing for leg in drive.legs for thing in leg.things if thing.instance >= 0] + list(drive.travellers)
    numbers = [thing.instance for thing in things]
    assert len(set(numbers)) == len(numbers)
    assert all((number + 1) % 1000 for number in numbers)  # 0 means none in the coding of Cityscapes
    for k in range(len(drive.spans)):
        seen = [thing.instance % 1000 for thing in drive.stretch(k).things]
        assert len(set(seen)) == len(seen)


def test_a_drive_does_not_depend_on_where_it_is_started():
    size, rig = (40, 132), "kitti"
    whole = list(render_scene(3, 4, rig=rig, size=size, drive_s=2.0))
    later = list(render_scene(3, 4, start=2, rig=rig, size=size, drive_s=2.0))
    for one, other in zip(whole[2:], later):
        assert one.timestamp_us == other.timestamp_us
        assert (one.cameras["image_2"].image == other.cameras["image_2"].image).all()
        assert (one.cameras["image_2"].labels == other.cameras["image_2"].labels).all()
        assert (one.lidars["velodyne"][0].points == other.lidars["velodyne"][0].points).all()
        assert [(box.track, *box.center) for box in one.boxes or ()] == [
            (box.track, *box.center) for box in other.boxes or ()
        ]


def test_choices_reach_frames_and_drives():
    village = Choices(kinds=("village",), seasons=("winter",), density=0.0)
    assert {leg.kind for leg in describe_drive(3, 5.0, village).legs} == {"village"}
    assert not describe_drive(3, 5.0, village).travellers
    plain, chosen = (
        next(iter(iter_frames(1, 3, (32, 64), choices=choices))).camera.image for choices in (Choices(), village)
    )
    again = next(iter(render_scene(3, 1, size=(32, 64), choices=village))).camera.image
    assert (chosen == again).all()
    assert (chosen != plain).any()


def test_a_drive_as_semantickitti(tmp_path: Path):
    out = tmp_path / "out"
    words = ["synthetic", "--layout", "semantickitti", "--drive", "1s", "--size", "40x132", "--seed", "3"]
    assert main([*words, "--workers", "1", "--out", str(out)]) == 0
    folder = out / "sequences" / "08"
    assert len(list((folder / "velodyne").glob("*.bin"))) == 10
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
    drive = describe_drive(3, 1.0)
    moved = drive.ego.poses(np.array([1.0, 1.9]))[:, :3, 3]
    assert np.linalg.norm(poses[-1, :, 3]) == pytest.approx(np.linalg.norm(moved[1] - moved[0]), abs=0.05)
    settings = json.loads((out / "synthetic.json").read_text())
    assert (settings["frames"], settings["scenes"], settings["drive_s"]) == (10, 1, 1.0)
    labels = np.fromfile(folder / "labels" / "000000.label", np.uint32) & 0xFFFF
    assert {40, 48, 50} & set(labels.tolist())


@pytest.mark.parametrize(
    ("layout", "words", "message"),
    [
        ("kitti", ["--drive=-5s"], "--drive -5s: a drive takes 1 to 900 s"),
        ("kitti", ["--drive", "3000min"], "--drive 3000min: a drive takes 1 to 900 s"),
        ("kitti", ["--drive", "nan"], "--drive nan: a drive takes 1 to 900 s"),
        ("kitti", ["--drive", "soon"], "--drive soon: expected a time, for example 120s or 2min"),
        ("nuscenes", ["--drive", "10min"], "--drive 10min: a drive takes 1 to 300 s in layout nuscenes"),
        ("cityscapes", ["--drive", "120s"], "--drive: layout cityscapes has no sequences; choose a2d2, kitti"),
        ("acdc", ["--drive", "120s"], "--drive: layout acdc has no sequences"),
        ("kitti", ["--drive", "9s", "--frames", "90"], "--frames 90: with --drive the number of frames follows"),
        ("kitti", ["--drive", "9s", "--kind", "vilage"], "unknown kind of place 'vilage'"),
        ("kitti", [], "--frames 0: at least one frame is needed"),
    ],
)
def test_bad_drives_are_refused(
    layout: str, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["synthetic", "--layout", layout, *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_bad_times_are_refused_in_python():
    for seconds in (-1.0, 0.0, float("nan"), 1e6):
        with pytest.raises(InputError, match=r"a drive of .* s: choose 1 to 900 s"):
            describe_drive(0, seconds)
    with pytest.raises(InputError, match="rig 'camera' follow no clock"):
        list(render_scene(3, 1, drive_s=5.0))
    with pytest.raises(InputError, match="more than the 20 of a drive of 2 s"):
        list(render_scene(3, 21, rig="kitti", drive_s=2.0))


def test_a_drive_as_an_animated_picture(tmp_path: Path):
    path = tmp_path / "drive.webp"
    assert write_animation(path, drive_pictures(3, 2.0, step_s=1.0, size=(24, 48)), 5) == 2
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == 2
        assert picture.size == (48, 24)
    with pytest.raises(InputError, match=r"drive\.mp4: animations are written as \.webp or \.gif"):
        write_animation(tmp_path / "drive.mp4", iter(()), 5)
