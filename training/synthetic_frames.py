"""Renders the training frames of the bundled synthetic segmenter in the Cityscapes layout.

Each place is rendered in five frames, each with a random condition and severity:

    python -m zoo.training.synthetic_frames --first-place 1000 --places 163 --out DIR

`zoo synthetic`, in contrast, cycles through the conditions at a single severity, which suits evaluation; training needs
all severities. Run the same command again to resume an interrupted run.
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
# Most frames of the real data sets were recorded on clear days and at dusk.
_SHARES = {"clear": 0.45, "dusk": 0.2, "night": 0.1, "fog": 0.1, "rain": 0.1, "snow": 0.05}


@dataclass(frozen=True)
class Arguments:
    """Renders training frames of the synthetic street world in the Cityscapes layout."""

    out: Path
    """Folder for the frames."""
    places: int = 163
    """Number of places, five frames each."""
    first_place: int = 1000
    """Seed of the first place. Stay below 1,000,000 for training, so that the embedded frames show other places."""
    size: tuple[int, int] = (360, 480)
    """Image height and width in pixels."""
    workers: int = os.cpu_count() or 1
    """Number of processes."""


def conditions_of(place: int) -> tuple[Condition, ...]:
    """Conditions of a place's frames, which depend on its seed alone."""
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
    """Marks the folder's frames as synthetic, so that they are not mistaken for Cityscapes."""
    # Several runs with different seeds may write to the same folder, so all places in it are counted.
    names = {path.name.split("_")[1] for path in arguments.out.glob("leftImg8bit/train/synthetic/*.png")}
    mark_synthetic(arguments.out, "cityscapes", frames=len(names) * FRAMES_PER_PLACE, seed=0, places=len(names))


if __name__ == "__main__":
    main()
