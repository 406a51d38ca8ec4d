"""Renders small training sets of the street world with one of its properties taken away, to see what each is worth.

    python -m zoo.training.world_ablation --without optics --out DIR

writes the frames of `zoo.training.synthetic_frames` (300 by default) in Cityscapes' layout. `--without nothing` is the
world as it is. The same script runs on an older world: check that commit out and put it first on PYTHONPATH; it needs
only `render_scene`, and so draws the conditions itself, as `synthetic_frames` does. `docs/synthetic.md` has the table,
with the commands that train and test on each set.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image

from zoo.condition import Condition
from zoo.synthetic import render_scene

__all__ = ["Arguments", "main"]

_FRAMES = 5
_SHARES = {"clear": 0.45, "dusk": 0.2, "night": 0.1, "fog": 0.1, "rain": 0.1, "snow": 0.05}  # as in synthetic_frames
_NEUTRAL: dict[str, Any] = {
    "exposure_ev": 0.0,
    "highlights": 0.3,
    "white_balance": (1.0, 1.0, 1.0),
    "contrast": 1.0,
    "gamma": 1.0,
    "saturation": 1.0,
    "vignetting": 0.0,
    "blur_px": 0.0,
    "sharpen": 0.0,
    "noise": 0.0,
    "jpeg_quality": 100,
    "flare": 0.0,
    "black": 0.0,
}


@dataclass(frozen=True)
class Arguments:
    """Renders training frames of the street world without one of its properties."""

    out: Path
    """Folder for the frames."""
    without: Literal["nothing", "adverse", "annotation", "edge-rays", "optics"] = "nothing"
    """adverse: clear days only; annotation: labels of the pixels' middles, gaps in fences and crowns open; edge-rays:
    one ray per pixel; optics: one camera without noise, blur, glare, cast and compression for all places."""
    places: int = 60
    """Number of places, five frames each."""
    first_place: int = 1000
    """Seed of the first place."""
    size: tuple[int, int] = (360, 480)
    """Height and width in pixels."""
    workers: int = os.cpu_count() or 1
    """Processes."""


def _conditions(place: int, without: str) -> tuple[Condition, ...]:
    generator = np.random.default_rng([place, 77])
    names = generator.choice(list(_SHARES), _FRAMES, p=list(_SHARES.values()))
    drawn = [(str(name), int(generator.integers(1, 6))) for name in names]
    return tuple(Condition() if without == "adverse" else Condition.parse(name, severity) for name, severity in drawn)


def _options(without: str) -> dict[str, Any]:
    """What `render_scene` is told; nothing where it is not needed, so that older worlds can be rendered too."""
    if without == "annotation":
        return {"exact": True}
    if without == "edge-rays":
        return {"edge_rays": 0}
    if without == "optics":
        from zoo.synthetic.scene.types import Optics

        return {"optics": Optics(**_NEUTRAL)}
    return {}


def _render(job: tuple[int, Arguments]) -> None:
    place, arguments = job
    conditions = _conditions(place, arguments.without)
    scene = render_scene(place, _FRAMES, conditions=conditions, size=arguments.size, **_options(arguments.without))
    for k, frame in enumerate(scene):
        name = f"synthetic_{place:06d}_{k:06d}"
        camera = frame.camera
        for path, array in (
            (f"gtFine/train/synthetic/{name}_gtFine_labelTrainIds.png", camera.labels),
            (f"leftImg8bit/train/synthetic/{name}_leftImg8bit.png", camera.image),
        ):
            assert array is not None
            target = arguments.out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(target)


def main(words: Sequence[str] | None = None) -> None:
    """Renders all places, in parallel."""
    from rich.progress import track

    arguments = tyro.cli(Arguments, args=words, description=__doc__)
    jobs = [(arguments.first_place + i, arguments) for i in range(arguments.places)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=spawn) as pool:
        for _ in track(pool.map(_render, jobs), total=len(jobs), description="places"):
            pass
    # The marker of zoo.data.terms, written out here because this script also runs on worlds older than it.
    marker = {"layout": "cityscapes", "frames": arguments.places * _FRAMES, "seed": 0, "without": arguments.without}
    (arguments.out / "synthetic.json").write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
