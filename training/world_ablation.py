"""Renders small training sets of the street world for an ablation study, each with one property of the world removed.

    python -m zoo.training.world_ablation --without optics --out DIR

renders the frames of `zoo.training.synthetic_frames` (300 by default) in the Cityscapes layout. `--without nothing`
renders the unchanged world. The script also runs with older versions of the world: check out the commit and put it
first on PYTHONPATH. It therefore depends on `render_scene` only and has its own copy of the drawing of conditions in
`synthetic_frames`. `docs/synthetic.md` has the results and the commands that train and evaluate on each set.
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
    """Renders training frames of the street world with one of its properties removed."""

    out: Path
    """Folder for the frames."""
    without: Literal["nothing", "adverse", "annotation", "edge-rays", "optics"] = "nothing"
    """Property to remove. adverse: clear days only. annotation: labels by the ray through the pixel centre, with gaps
    in fences and tree crowns left open. edge-rays: one ray per pixel. optics: the same ideal camera for all places,
    without noise, blur, flare, colour cast or compression."""
    places: int = 60
    """Number of places, five frames each."""
    first_place: int = 1000
    """Seed of the first place."""
    size: tuple[int, int] = (360, 480)
    """Image height and width in pixels."""
    workers: int = os.cpu_count() or 1
    """Number of processes."""


def _conditions(place: int, without: str) -> tuple[Condition, ...]:
    generator = np.random.default_rng([place, 77])
    names = generator.choice(list(_SHARES), _FRAMES, p=list(_SHARES.values()))
    drawn = [(str(name), int(generator.integers(1, 6))) for name in names]
    return tuple(Condition() if without == "adverse" else Condition.parse(name, severity) for name, severity in drawn)


def _options(without: str) -> dict[str, Any]:
    """Options of `render_scene`. Only those in use are passed, because older versions of the world lack some."""
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
    # Same as zoo.data.terms.mark_synthetic, which older versions do not have.
    marker = {"layout": "cityscapes", "frames": arguments.places * _FRAMES, "seed": 0, "without": arguments.without}
    (arguments.out / "synthetic.json").write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
