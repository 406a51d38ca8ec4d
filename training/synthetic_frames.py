"""Renders the frames that the bundled synthetic segmenter is trained on, in Cityscapes' layout.

Five frames of every place, each under a condition and a severity drawn at random:

    python -m zoo.training.synthetic_frames --first-place 1000 --places 163 --out DIR

`zoo synthetic` takes its conditions in turn at one severity, which is what an evaluation wants; training wants all
severities. Goes on where it stopped when it is started again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from zoo.condition import Condition
from zoo.data.terms import mark_synthetic
from zoo.synthetic import render_scene
from zoo.synthetic.layouts import Place, Rendered, cityscapes
from zoo.synthetic.layouts.writer import write_files
from zoo.synthetic.scene.describe import describe

__all__ = ["Arguments", "conditions_of", "main"]

FRAMES_PER_PLACE = 5
# Clear days and dusk are what the cameras of the real data sets see most.
_SHARES = {"clear": 0.45, "dusk": 0.2, "night": 0.1, "fog": 0.1, "rain": 0.1, "snow": 0.05}


@dataclass(frozen=True)
class Arguments:
    """Renders training frames of the synthetic street world in Cityscapes' layout."""

    out: Path
    """Folder for the frames."""
    places: int = 163
    """Number of places, five frames each."""
    first_place: int = 1000
    """Seed of the first place; below 1,000,000 for training, so that embedded frames show other places."""
    size: tuple[int, int] = (360, 480)
    """Height and width in pixels."""
    workers: int = os.cpu_count() or 1
    """Processes."""


def conditions_of(place: int) -> tuple[Condition, ...]:
    """The conditions of a place's frames, a function of its seed alone."""
    generator = np.random.default_rng([place, 77])
    names = generator.choice(list(_SHARES), FRAMES_PER_PLACE, p=list(_SHARES.values()))
    return tuple(Condition.parse(str(name), int(generator.integers(1, 6))) for name in names)


def _render(job: tuple[int, Arguments]) -> int:
    place, arguments = job
    stops = [
        Place(split="train", seed=place, sequence=place, number=k, index=k, count=FRAMES_PER_PLACE)
        for k in range(FRAMES_PER_PLACE)
    ]
    if all((arguments.out / path).exists() for stop in stops for path in cityscapes.files(None, stop)):
        return place
    frames = render_scene(place, FRAMES_PER_PLACE, conditions=conditions_of(place), size=arguments.size)
    description = describe(place)
    for frame, stop in zip(frames, stops):
        write_files(arguments.out, cityscapes.files(Rendered(frame=frame, scene=description), stop))
    return place


def main(words: Sequence[str] | None = None) -> None:
    """Renders all places, in parallel."""
    from rich.progress import track

    arguments = tyro.cli(Arguments, args=words, description=__doc__)
    jobs = [(arguments.first_place + i, arguments) for i in range(arguments.places)]
    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in track(pool.map(_render, jobs), total=len(jobs), description="places"):
            pass
    _mark(arguments)


def _mark(arguments: Arguments) -> None:
    """Says in the folder that its frames are synthetic, so that nobody takes them for Cityscapes."""
    # Every place is written once, under its seed, so the folder may be filled by several runs.
    names = {path.name.split("_")[1] for path in arguments.out.glob("leftImg8bit/train/synthetic/*.png")}
    mark_synthetic(arguments.out, "cityscapes", frames=len(names) * FRAMES_PER_PLACE, seed=0, places=len(names))


if __name__ == "__main__":
    main()
