"""Renders frames of the synthetic street world in a data set's official layout."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, cast

import tyro

from zoo.arguments import parse_size
from zoo.condition import CONDITIONS, DEFAULT_SEVERITY, Condition
from zoo.errors import InputError, closest, require
from zoo.files import write_json
from zoo.frame import Frame
from zoo.synthetic.frames.own_meshes import with_meshes
from zoo.synthetic.frames.picture import check_size
from zoo.synthetic.frames.render import check_flow, drive_world, render_rig, render_world
from zoo.synthetic.frames.times import drive_length, frame_times, stops
from zoo.synthetic.frames.world import World
from zoo.synthetic.layouts import Layout, Place, Rendered
from zoo.synthetic.layouts.extras import CALIBRATION, CAMERA_LABELS, DEPTH, FLOW
from zoo.synthetic.layouts.writer import write_files
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.drive import LONGEST_S, SHORTEST_S
from zoo.synthetic.sensors.rig_file import read_rig
from zoo.synthetic.sensors.rigs import Rig, RigLidar, rig_of
from zoo.synthetic.shapes.own_mesh import read_mesh

__all__ = ["LAYOUTS", "Arguments", "run"]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What the command knows about a layout, in addition to its module.

    Attributes:
        conditions: Default conditions of its frames.
        allowed: Conditions that it has folders for.
        mixtures: Whether a frame may have a time of day and a weather together.
        sweeps: Default number of older lidar sweeps per frame; `None`: the layout has none.
        lists: Whether it has files over several frames, and so needs a record of each frame to write them from.
        reference: Whether every frame comes with a clear-weather reference of the same moment.
        most_scenes: How many places each split has names for.
        lenses: Whether its calibration has a place for lens distortion and rolling shutters.
        longest_drive_s: Length of a drive that it has room for; 0: it has no sequences.
    """

    conditions: tuple[str, ...] = ("clear",)
    allowed: tuple[str, ...] = CONDITIONS
    mixtures: bool = True
    sweeps: int | None = None
    lists: bool = True
    reference: bool = False
    most_scenes: Mapping[str, int] = field(default_factory=dict)
    lenses: bool = True
    longest_drive_s: float = LONGEST_S


_ADVERSE = ("fog", "night", "rain", "snow")
LAYOUTS = {
    "cityscapes": _Kind(lists=False, longest_drive_s=0),
    "acdc": _Kind(
        conditions=_ADVERSE, allowed=_ADVERSE, mixtures=False, lists=False, reference=True, longest_drive_s=0
    ),
    "a2d2": _Kind(),
    "kitti": _Kind(lenses=False),
    "semantickitti": _Kind(lenses=False),
    "nuscenes": _Kind(
        sweeps=9,
        most_scenes={"train": 700, "val": 150, "test": 150},
        longest_drive_s=300.0,  # its map has ten pixels to the metre
    ),
}
"""Layouts by name; each is the module of the same name in `zoo.synthetic.layouts`."""
_WITHOUT = {
    DEPTH: "has no depth",
    FLOW: "has no optical flow, as its frames are too far apart",
    CAMERA_LABELS: "has labels of its pictures anyway",
    CALIBRATION: "has its calibration anyway",
}
_SPLITS = ("train", "val", "test")
_RECORD = "synthetic.json"
_RECORDS = ".synthetic"  # folder of the frames' records
_CHUNK = 8  # frames of one place that a process renders in one go, so that it builds the place once
_DRIVE_CHUNK = 64  # the same of a drive, of which it builds several streets


@dataclass(frozen=True)
class Arguments:
    """Renders a data set of the synthetic street world: official folders and file names, exact labels."""

    layout: Annotated[str, tyro.conf.arg(metavar="|".join(LAYOUTS))]
    """Data set whose layout is written."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """New folder; an existing one is refused without --resume."""
    frames: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Total number of frames, required without --drive; acdc adds a clear-weather reference to each. In nuscenes they
    are keyframes, two per second."""
    drive: Annotated[str, tyro.conf.arg(metavar="120s|2min")] = ""
    """Length of a drive over several streets with turns at crossings, instead of frames in one street, in layouts with
    sequences. Every place is then such a drive."""
    scenes: Annotated[int, tyro.conf.arg(metavar="M")] = 0
    """Number of places; 0: one for every eight frames, or one drive."""
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0
    """Seed of the first place; the others count up from it."""
    size: Annotated[str, tyro.conf.arg(metavar="HxW")] = ""
    """Height and width of the images in pixels, of the first camera if there are several. Default: those of the real
    data set, but 256x512 for cityscapes and acdc."""
    split: Annotated[str, tyro.conf.arg(metavar="train|val|test")] = "val"
    """Split to write; test is written without labels."""
    conditions: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Conditions, taken in turn by the frames in cityscapes and acdc, and by the places in the other layouts: clear,
    dusk, night, fog, rain, snow; night+rain for both; night:4+rain:2 with severities of their own; fog:120m,
    rain:7.5mm/h, night:3lux for physical values. Default: clear, for acdc fog,night,rain,snow."""
    severity: int = DEFAULT_SEVERITY
    """Severity, 1 to 5, of conditions that state neither a severity nor a value (zoo/condition.py)."""
    rig: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.yaml")] = ""
    """Sensor rig (zoo/synthetic/sensors/rigs.py), or a file that describes one (rig_file.py). Default: the layout's
    own."""
    mesh: Annotated[str, tyro.conf.arg(metavar="KIND=FILE.glb,...")] = ""
    """Meshes of one's own, car=FILE.glb or person=FILE.glb, in the places of parked cars and standing people; several
    of a kind take turns."""
    sweeps: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """Lidar sweeps before each keyframe, in nuscenes. Default: all nine between two keyframes."""
    kind: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Kinds of places to draw from: town, residential, city, boulevard, rural, industrial, village, suburb, country,
    retail. Default: all."""
    season: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Seasons to draw from: spring, summer, autumn, winter. Default: all."""
    density: Annotated[str, tyro.conf.arg(metavar="sparse|normal|dense|X")] = ""
    """How many vehicles and people there are: sparse, normal, dense, or a factor from 0 to 4. Default: normal."""
    exact: bool = False
    """Label every pixel by the ray through its centre, instead of closing fences and crowns as annotators do."""
    depth: bool = False
    """Also write the depth of every pixel: disparity and calibration in cityscapes, metres in the other layouts."""
    flow: bool = False
    """Also write the optical flow to the next frame of the place, in layouts whose frames follow a clock."""
    camera_labels: bool = False
    """Also write labels and instances of the camera pictures, in kitti, semantickitti and nuscenes."""
    calibration: bool = False
    """Also write the calibration of the camera, in cityscapes and acdc; the other layouts always have it."""
    resume: bool = False
    """Finish an interrupted run with the same settings; the result is the same as without the interruption."""
    workers: int = 0
    """Processes; 0: one per core."""


@dataclass(frozen=True)
class _Plan:
    layout: str
    size: tuple[int, int]
    conditions: tuple[Condition, ...]
    rig: Rig
    sweeps: int
    exact: bool
    out: Path
    choices: Choices
    drive_s: float | None = None
    extras: tuple[str, ...] = ()
    meshes: tuple[tuple[str, Path], ...] = ()


_Job = tuple[Place, ...]
"""Frames of one place."""


def run(arguments: Arguments) -> int:
    """Renders and writes; returns 0."""
    plan, settings = _plan(arguments)
    _require_embreex()
    places = list(_places(arguments, settings["scenes"], plan))
    out = arguments.out
    record = out / _RECORD
    if out.exists():
        if not arguments.resume:
            raise InputError(f"{out} exists already; choose another folder, or --resume to finish an interrupted run")
        _check_same(record, settings)
        for left in out.rglob(".*.part"):  # left behind by a process that was killed while writing
            left.unlink(missing_ok=True)
    write_json(record, settings)
    jobs = list(_jobs(places, plan))
    total = sum(map(len, jobs))
    workers = arguments.workers or os.cpu_count() or 1
    _render_all(jobs, plan, min(workers, max(len(jobs), 1)), total, settings["frames"] - total)
    if LAYOUTS[plan.layout].lists:
        records = [(place, _read_record(plan, place)) for place in places]
        assert all(record is not None for _, record in records)
        write_files(out, _module(plan.layout).closing_files([(p, r["record"]) for p, r in records if r is not None]))
    what = "places" if plan.drive_s is None else "drives"
    print(f"{settings['frames']} frames of {settings['scenes']} {what} in {out}")
    return 0


def _module(layout: str) -> Layout:
    return cast(Layout, importlib.import_module(f"zoo.synthetic.layouts.{layout}"))


def _plan(arguments: Arguments) -> tuple[_Plan, dict]:
    if arguments.layout not in LAYOUTS:
        raise InputError(
            f"unknown layout {arguments.layout!r}{closest(arguments.layout, LAYOUTS)}; known: {', '.join(LAYOUTS)}"
        )
    if arguments.split not in _SPLITS:
        raise InputError(
            f"unknown split {arguments.split!r}{closest(arguments.split, _SPLITS)}; known: {', '.join(_SPLITS)}"
        )
    drive_s = _drive_seconds(arguments) if arguments.drive else None
    frames, scenes = _counts(arguments, drive_s)
    if scenes > LAYOUTS[arguments.layout].most_scenes.get(arguments.split, scenes):
        raise InputError(
            f"{scenes} places: split {arguments.split} of {arguments.layout} has names for "
            f"{LAYOUTS[arguments.layout].most_scenes[arguments.split]}; set --scenes to fewer"
        )
    if arguments.seed < 0:
        raise InputError(f"--seed {arguments.seed}: seeds are 0 or larger")
    if arguments.workers < 0:
        raise InputError(f"--workers {arguments.workers}: 0 (one per core) or more")
    if not 1 <= arguments.severity <= 5:
        raise InputError(f"--severity {arguments.severity} is outside 1 to 5")
    kind = LAYOUTS[arguments.layout]
    names = tuple(name.strip() for name in arguments.conditions.split(",")) if arguments.conditions else kind.conditions
    conditions = tuple(_condition(name, arguments) for name in names)
    layout = _module(arguments.layout)
    size = parse_size("--size", arguments.size) if arguments.size else layout.DEFAULT_SIZE
    check_size(size)
    rig, described = _rig(arguments, layout)
    sweeps = _sweeps(arguments)
    choices = Choices.parse(arguments.kind, arguments.season, arguments.density)
    settings = {
        "layout": arguments.layout,
        "frames": frames,
        "scenes": scenes,
        "seed": arguments.seed,
        "size": list(size),
        "split": arguments.split,
        "conditions": list(names),
        "severity": arguments.severity,
        "exact": arguments.exact,
        **choices.settings,
    }
    if kind.lists:
        settings |= {"rig": described, "sweeps": sweeps}
        if isinstance(described, dict):  # for the readers
            settings["lidars"] = {name: _lidar_facts(lidar) for name, lidar in rig.lidars.items()}
    if drive_s is not None:
        settings["drive_s"] = drive_s
    if extras := _extras(arguments, layout, rig):
        settings["extras"] = list(extras)
    if meshes := _meshes(arguments.mesh):
        settings["meshes"] = [{"kind": kind, "sha256": read_mesh(kind, path).sha256} for kind, path in meshes]
    plan = _Plan(
        arguments.layout,
        size,
        conditions,
        rig,
        sweeps,
        arguments.exact,
        arguments.out,
        choices,
        drive_s,
        extras,
        meshes,
    )
    if drive_s is not None and arguments.frames == 0:
        settings["frames"] = scenes * drive_length(drive_s, rig)
    return plan, settings


def _counts(arguments: Arguments, drive_s: float | None) -> tuple[int, int]:
    """Frames and places; a drive's frames are not known yet."""
    if drive_s is not None:
        if arguments.frames:
            raise InputError(
                f"--frames {arguments.frames}: with --drive the number of frames follows from its length; omit it"
            )
        if arguments.scenes < 0:
            raise InputError(f"--scenes {arguments.scenes}: at least one drive is needed")
        return 0, arguments.scenes or 1
    if arguments.frames < 1:
        raise InputError(f"--frames {arguments.frames}: at least one frame is needed")
    scenes = arguments.scenes or -(-arguments.frames // 8)
    if not 1 <= scenes <= arguments.frames:
        raise InputError(
            f"--scenes {arguments.scenes}: between 1 and the {arguments.frames} frames, so that no place is left empty"
        )
    return arguments.frames, scenes


def _drive_seconds(arguments: Arguments) -> float:
    """The length of a drive, which the layout must have sequences for."""
    layout = arguments.layout
    if LAYOUTS[layout].longest_drive_s == 0:
        others = ", ".join(name for name, kind in LAYOUTS.items() if kind.longest_drive_s)
        raise InputError(f"--drive: layout {layout} has no sequences; choose {others}, or --frames instead")
    text = arguments.drive.strip().lower()
    number, factor = (text[:-3], 60) if text.endswith("min") else (text.removesuffix("s"), 1)
    try:
        seconds = float(number) * factor
    except ValueError:
        raise InputError(f"--drive {arguments.drive}: expected a time, for example 120s or 2min") from None
    longest = LAYOUTS[layout].longest_drive_s
    if not SHORTEST_S <= seconds <= longest:  # false for what is not a number, too
        raise InputError(
            f"--drive {arguments.drive}: a drive takes {SHORTEST_S:g} to {longest:g} s in layout {layout}; "
            "choose a length in between, and --scenes for several drives"
        )
    return seconds


def _meshes(text: str) -> tuple[tuple[str, Path], ...]:
    """Kind and file of each mesh of one's own."""
    pairs = [part.strip().partition("=") for part in text.split(",")] if text else []
    for kind, equals, path in pairs:
        if not (kind and equals and path):
            raise InputError(f"--mesh {text}: expected KIND=FILE.glb, for example car=FILE.glb")
    return tuple((kind, Path(path)) for kind, _, path in pairs)


def _extras(arguments: Arguments, layout: Layout, rig: Rig) -> tuple[str, ...]:
    """Files on request, which the layout, the split and the rig must have."""
    asked = {
        DEPTH: arguments.depth,
        FLOW: arguments.flow,
        CAMERA_LABELS: arguments.camera_labels,
        CALIBRATION: arguments.calibration,
    }
    extras = tuple(name for name, wanted in asked.items() if wanted)
    for name in extras:
        if name not in layout.EXTRAS:
            have = ", ".join(f"--{extra}" for extra in layout.EXTRAS)
            raise InputError(f"--{name}: layout {arguments.layout} {_WITHOUT[name]}; it takes {have}")
        if arguments.split == "test" and name != CALIBRATION:
            raise InputError(f"--{name}: split test is written without ground truth; omit it, or choose --split val")
    if arguments.flow:
        check_flow(rig)
    return extras


def _condition(text: str, arguments: Arguments) -> Condition:
    """A condition that the layout has a place for."""
    kind, condition = LAYOUTS[arguments.layout], Condition.parse(text, arguments.severity)
    for part in condition.parts or ("clear",):
        if part not in kind.allowed:
            hint = f"{closest(part, kind.allowed)}; known: {', '.join(kind.allowed)}"
            raise InputError(f"condition {part!r} does not occur in {arguments.layout}{hint}")
    if len(condition.parts) > 1 and not kind.mixtures:
        raise InputError(
            f"condition {text!r} has two parts, but {arguments.layout} has one folder per condition; give one of "
            f"{', '.join(kind.allowed)}, or choose another layout"
        )
    return condition


def _lidar_facts(lidar: RigLidar) -> dict[str, float]:
    return {
        "beams": len(lidar.elevations_deg),
        "height_m": float(lidar.ego_from_lidar[2, 3]),
        "max_range_m": lidar.max_range_m,
    }


def _rig(arguments: Arguments, layout: Layout) -> tuple[Rig, str | dict]:
    """A rig that has every sensor of the layout's own, and its name or description."""
    own = rig_of(layout.RIG)
    if own.period_s is None and arguments.rig not in ("", own.name):
        raise InputError(
            f"--rig {arguments.rig}: layout {arguments.layout} takes one camera, which differs from place to place; "
            "omit it"
        )
    described: str | dict
    if arguments.rig.endswith((".yaml", ".yml")):
        rig, described = read_rig(Path(arguments.rig))
    else:
        rig = rig_of(arguments.rig or layout.RIG)
        described = rig.name
    missing = [name for name in (*own.cameras, *own.lidars) if name not in (*rig.cameras, *rig.lidars)]
    if missing:
        raise InputError(
            f"rig {rig.name!r} has no sensor {missing[0]}, which layout {arguments.layout} writes; omit --rig or "
            f"choose {own.name}"
        )
    if not LAYOUTS[arguments.layout].lenses:
        for name, camera in rig.cameras.items():
            if camera is not None and (camera.distortion is not None or camera.line_time_s):
                raise InputError(
                    f"camera {name} of rig {rig.name!r} has a lens distortion or a rolling shutter, but the pictures "
                    f"of {arguments.layout} are rectified; remove it, or choose another layout"
                )
    return rig, described


def _sweeps(arguments: Arguments) -> int:
    most = LAYOUTS[arguments.layout].sweeps
    if arguments.sweeps is None:
        return most or 0
    if most is None:
        raise InputError(f"--sweeps: layout {arguments.layout} has no sweeps between frames; omit it")
    if not 0 <= arguments.sweeps <= most:
        raise InputError(f"--sweeps {arguments.sweeps} is outside 0 to {most}, the sweeps between two keyframes")
    return arguments.sweeps


def _require_embreex() -> None:
    try:
        import embreex  # noqa: F401
    except ImportError as error:
        raise require("embreex", "synthetic", "rendering the synthetic world") from error


def _check_same(record: Path, settings: dict) -> None:
    """Refuses to resume a folder that was not started by this command with these settings."""
    try:
        before = dict(json.loads(record.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{record.parent} was not started by zoo synthetic: it has no readable {_RECORD}") from error
    for key in dict.fromkeys([*settings, *before]):
        then, now = ("none" if it.get(key) is None else it[key] for it in (before, settings))
        if then != now:
            raise InputError(f"{record.parent} was started with {key} {then}, not {now}; resume with the same settings")


def _places(arguments: Arguments, scenes: int, plan: _Plan) -> Iterator[Place]:
    """Every frame of the data set."""
    index, conditions = 0, plan.conditions
    for sequence in range(scenes):
        scene = describe(arguments.seed + sequence, plan.choices)
        if plan.drive_s is None:
            count = arguments.frames // scenes + (sequence < arguments.frames % scenes)
            frame_times(scene, plan.rig, count)  # fails before anything is written if they do not fit into the street
        else:
            count = drive_length(plan.drive_s, plan.rig)
        for number in range(count):
            turn = sequence if LAYOUTS[plan.layout].lists else sequence + number
            yield Place(
                split=arguments.split,
                seed=scene.seed,
                sequence=sequence,
                number=number,
                index=index,
                count=count,
                size=plan.size,
                condition=conditions[turn % len(conditions)],
                kind=scene.kind,
                extras=plan.extras,
            )
            index += 1


def _jobs(places: list[Place], plan: _Plan) -> Iterator[_Job]:
    """What remains to be rendered: frames of which any file is missing."""
    chunk = _CHUNK if plan.drive_s is None else _DRIVE_CHUNK
    for _, group in groupby(places, key=lambda place: (place.sequence, place.number // chunk)):
        missing = tuple(place for place in group if not _done(plan, place))
        if missing:
            yield missing


def _record_path(plan: _Plan, place: Place) -> Path:
    return plan.out / _RECORDS / f"{place.sequence:06d}_{place.number:06d}.json"


def _read_record(plan: _Plan, place: Place) -> dict | None:
    """The frame's files and what the lists need of it, or `None` if it was not finished."""
    try:
        found = dict(json.loads(_record_path(plan, place).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if {"files", "record"} <= set(found) else None


def _done(plan: _Plan, place: Place) -> bool:
    if LAYOUTS[plan.layout].lists:
        record = _read_record(plan, place)
        return record is not None and all((plan.out / path).is_file() for path in record["files"])
    return all((plan.out / path).is_file() for path in _module(plan.layout).files(None, place))


def _render_job(job: _Job, plan: _Plan) -> int:
    layout = _module(plan.layout)
    for place, rendered in zip(job, _frames(job, plan)):
        files = layout.files(rendered, place)
        write_files(plan.out, files)
        if LAYOUTS[plan.layout].lists:
            write_json(_record_path(plan, place), {"files": list(files), "record": layout.record(rendered, place)})
    return len(job)


def _frames(job: _Job, plan: _Plan) -> Iterator[Rendered]:
    """The frames of a job, one by one."""
    meshes, rig = [read_mesh(kind, path) for kind, path in plan.meshes], plan.rig
    if plan.drive_s is not None:
        drive = drive_world(job[0].seed, plan.drive_s, plan.choices, meshes)
        for place in job:
            flow = FLOW in plan.extras and place.number < place.count - 1
            frame = render_rig(
                drive, place.number, rig, place.condition, plan.size, sweeps=plan.sweeps, exact=plan.exact, flow=flow
            )
            assert frame.timestamp_us is not None
            yield Rendered(frame=frame, scene=drive.at(frame.timestamp_us * 1e-6).scene)
        return
    world = World(with_meshes(describe(job[0].seed, plan.choices), meshes))

    def render(place: Place, condition: Condition) -> Frame:
        if rig.period_s is not None:
            flow = FLOW in plan.extras and place.number < place.count - 1
            return render_rig(
                world, place.number, rig, condition, plan.size, sweeps=plan.sweeps, exact=plan.exact, flow=flow
            )
        stop = stops(world.scene, place.count)[place.number]
        return render_world(world, place.number, *stop, condition, plan.size, exact=plan.exact)

    for place in job:
        frame = render(place, place.condition)
        reference = render(place, Condition()) if LAYOUTS[plan.layout].reference else None
        yield Rendered(frame=frame, scene=world.scene, reference=reference)


def _render_all(jobs: list[_Job], plan: _Plan, workers: int, total: int, before: int) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("rendering"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("frames", total=before + total, completed=before)
        if workers == 1:
            for job in jobs:
                progress.advance(task, _render_job(job, plan))
            return
        # Embree's objects cannot be pickled, so each worker makes its own. Spawn, since forking a process with threads
        # may hang.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                pending = {pool.submit(_render_job, job, plan) for job in jobs}
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        progress.advance(task, future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
