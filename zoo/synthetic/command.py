"""Renders frames of the synthetic street world in a data set's official layout."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import tyro

from zoo.condition import CONDITIONS, Condition
from zoo.errors import InputError, closest, require
from zoo.files import write_json
from zoo.synthetic.describe import describe
from zoo.synthetic.render import World, check_size, render_world, stops
from zoo.synthetic.writer import acdc_files, cityscapes_files, write_files

__all__ = ["LAYOUTS", "Arguments", "run"]

LAYOUTS = {"cityscapes": ("clear",), "acdc": ("fog", "night", "rain", "snow")}
"""Layouts and the conditions that their frames have by default."""
_SPLITS = ("train", "val", "test")
_RECORD = "synthetic.json"
_CHUNK = 8  # frames of one place that one process renders in one go


@dataclass(frozen=True)
class Arguments:
    """Renders a data set of the synthetic street world: official folders and file names, exact labels."""

    layout: Annotated[str, tyro.conf.arg(metavar="cityscapes|acdc")]
    """Data set whose folders and files are written."""
    frames: Annotated[int, tyro.conf.arg(metavar="N")]
    """Frames in all; acdc adds a clear-weather reference to each."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to make; one that exists is refused without --resume."""
    scenes: Annotated[int, tyro.conf.arg(metavar="M")] = 0
    """Places; 0: one for every eight frames."""
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0
    """Seed of the first place; the others follow it."""
    size: Annotated[str, tyro.conf.arg(metavar="HxW")] = "256x512"
    """Height and width of the images in pixels."""
    split: Annotated[str, tyro.conf.arg(metavar="train|val|test")] = "val"
    """Split whose folders are filled; test is written without labels."""
    conditions: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Conditions that the frames take in turn; by default clear for cityscapes, fog,night,rain,snow for acdc."""
    severity: int = 3
    """Severity of adverse conditions, 1 to 5 (physical units in zoo/condition.py)."""
    exact: bool = False
    """Labels of the ray through each pixel's middle, instead of closed fences and crowns as annotators draw them."""
    resume: bool = False
    """Finish an interrupted run of the same settings; the result equals an uninterrupted one."""
    workers: int = 0
    """Processes; 0: one per core."""


@dataclass(frozen=True)
class _Plan:
    layout: str
    split: str
    size: tuple[int, int]
    conditions: tuple[Condition, ...]
    exact: bool
    out: Path


@dataclass(frozen=True)
class _Job:
    """Frames `numbers` out of the `count` of one place."""

    seed: int
    sequence: int
    count: int
    numbers: tuple[int, ...]


def run(arguments: Arguments) -> int:
    """Renders and writes; returns 0."""
    plan, settings = _plan(arguments)
    _require_embreex()
    out = arguments.out
    record = out / _RECORD
    if out.exists():
        if not arguments.resume:
            raise InputError(f"{out} exists already; choose another folder, or --resume to finish an interrupted run")
        _check_same(record, settings)
    write_json(record, settings)
    jobs = list(_jobs(arguments, plan))
    total = sum(len(job.numbers) for job in jobs)
    workers = arguments.workers or os.cpu_count() or 1
    _render_all(jobs, plan, min(workers, max(len(jobs), 1)), total, arguments.frames - total)
    print(f"{arguments.frames} frames of {settings['scenes']} places in {out}")
    return 0


def _plan(arguments: Arguments) -> tuple[_Plan, dict]:
    if arguments.layout not in LAYOUTS:
        raise InputError(
            f"unknown layout {arguments.layout!r}{closest(arguments.layout, LAYOUTS)}; known: {', '.join(LAYOUTS)}"
        )
    if arguments.split not in _SPLITS:
        raise InputError(
            f"unknown split {arguments.split!r}{closest(arguments.split, _SPLITS)}; known: {', '.join(_SPLITS)}"
        )
    if arguments.frames < 1:
        raise InputError(f"--frames {arguments.frames}: at least one frame is needed")
    scenes = arguments.scenes or -(-arguments.frames // 8)
    if not 1 <= scenes <= arguments.frames:
        raise InputError(
            f"--scenes {arguments.scenes}: between 1 and the {arguments.frames} frames, so that no place stays empty"
        )
    if arguments.seed < 0:
        raise InputError(f"--seed {arguments.seed}: seeds are 0 or larger")
    if arguments.workers < 0:
        raise InputError(f"--workers {arguments.workers}: 0 (one per core) or more")
    match = re.fullmatch(r"(\d+)[xX](\d+)", arguments.size)
    if not match:
        raise InputError(f"--size {arguments.size!r} is not HxW; height and width in pixels, for example 256x512")
    size = int(match[1]), int(match[2])
    check_size(size)
    if not 1 <= arguments.severity <= 5:
        raise InputError(f"--severity {arguments.severity} is outside 1 to 5")
    allowed = CONDITIONS if arguments.layout == "cityscapes" else LAYOUTS["acdc"]
    names = (
        tuple(name.strip() for name in arguments.conditions.split(","))
        if arguments.conditions
        else LAYOUTS[arguments.layout]
    )
    for name in names:
        if name not in allowed:
            hint = f"{closest(name, allowed)}; known: {', '.join(allowed)}"
            raise InputError(f"condition {name!r} does not occur in {arguments.layout}{hint}")
    conditions = tuple(Condition.parse(name, arguments.severity) for name in names)
    settings = {
        "layout": arguments.layout,
        "frames": arguments.frames,
        "scenes": scenes,
        "seed": arguments.seed,
        "size": list(size),
        "split": arguments.split,
        "conditions": list(names),
        "severity": arguments.severity,
        "exact": arguments.exact,
    }
    return _Plan(arguments.layout, arguments.split, size, conditions, arguments.exact, arguments.out), settings


def _require_embreex() -> None:
    try:
        import embreex  # noqa: F401
    except ImportError as error:
        raise require("embreex", "synthetic", "rendering the synthetic world") from error


def _check_same(record: Path, settings: dict) -> None:
    """Refuses to resume what was not begun by this command with these settings."""
    try:
        before = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{record.parent} was not begun by zoo synthetic: no readable {_RECORD} in it") from error
    for key, value in settings.items():
        if before.get(key) != value:
            raise InputError(
                f"{record.parent} was begun with {key} {before.get(key)}, not {value}; resume with the same settings"
            )


def _jobs(arguments: Arguments, plan: _Plan) -> Iterator[_Job]:
    """What is still to be rendered: frames of which any file is missing."""
    scenes = arguments.scenes or -(-arguments.frames // 8)
    for sequence in range(scenes):
        count = arguments.frames // scenes + (sequence < arguments.frames % scenes)
        for first in range(0, count, _CHUNK):
            numbers = tuple(k for k in range(first, min(first + _CHUNK, count)) if not _done(plan, sequence, k))
            if numbers:
                yield _Job(arguments.seed + sequence, sequence, count, numbers)


def _condition(plan: _Plan, sequence: int, number: int) -> Condition:
    return plan.conditions[(sequence + number) % len(plan.conditions)]


def _done(plan: _Plan, sequence: int, number: int) -> bool:
    if plan.layout == "cityscapes":
        files = cityscapes_files(None, plan.split, sequence, number)
    else:
        files = acdc_files(None, None, plan.split, _condition(plan, sequence, number).name, sequence, number)
    return all((plan.out / path).is_file() for path in files)


def _render_job(job: _Job, plan: _Plan) -> int:
    world = World(describe(job.seed))
    way = stops(world.scene, job.count)
    for k in job.numbers:
        condition = _condition(plan, job.sequence, k)
        frame = render_world(world, k, *way[k], condition, plan.size, exact=plan.exact)
        if plan.layout == "cityscapes":
            files = cityscapes_files(frame, plan.split, job.sequence, k)
        else:
            reference = render_world(world, k, *way[k], Condition(), plan.size, exact=plan.exact)
            files = acdc_files(frame, reference, plan.split, condition.name, job.sequence, k)
        write_files(plan.out, files)
    return len(job.numbers)


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
        # Embree objects are made inside the workers; spawn, since a fork of threads may hang.
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
