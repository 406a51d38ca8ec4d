"""A contact sheet to look at: `python -m zoo.synthetic.previews.sheet --out sheet.png`.

One row per place: the clear frame, its labels, its depth (near is bright), then dusk, night, fog, rain and snow. Below
that, what the sensors of a rig see at the first place, as in `sensor_sheet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.classes import CITYSCAPES
from zoo.condition import CONDITIONS, DEFAULT_SEVERITY, Condition
from zoo.errors import InputError
from zoo.files import atomic_file
from zoo.synthetic.frames.picture import check_size
from zoo.synthetic.frames.render import render_world
from zoo.synthetic.frames.times import stops
from zoo.synthetic.frames.world import World
from zoo.synthetic.previews.sensor_sheet import sensor_sheet
from zoo.synthetic.scene.describe import describe

__all__ = ["contact_sheet"]


def contact_sheet(seeds: range, size: tuple[int, int], severity: int = DEFAULT_SEVERITY) -> np.ndarray:
    """`(len(seeds) * H, 8 * W, 3)` uint8: one row per place.

    Args:
        seeds: Places.
        size: (height, width) of one tile.
        severity: Of the adverse conditions.

    Raises:
        InputError: If there is no place or the size is impossible.
        MissingExtraError: If embreex is not installed.
    """
    check_size(size)
    if not len(seeds):
        raise InputError("no seed was given; a contact sheet needs at least one place")
    return np.concatenate([_row(seed, size, severity) for seed in seeds])


def _row(seed: int, size: tuple[int, int], severity: int) -> np.ndarray:
    world = World(describe(seed))
    stop = stops(world.scene, 1)[0]
    frames = [render_world(world, 0, *stop, Condition.parse(name, severity), size) for name in CONDITIONS]
    clear = frames[0].camera
    assert clear.depth_m is not None
    near = np.clip(1 - np.log10(np.maximum(clear.depth_m, 1)) / 2.5, 0, 1)
    depth = np.repeat((near * 255).astype(np.uint8)[..., None], 3, 2)
    tiles = [clear.image, CITYSCAPES.palette()[clear.labels], depth, *(frame.camera.image for frame in frames[1:])]
    return np.concatenate(tiles, 1)


def _below(above: np.ndarray, sheet: np.ndarray) -> np.ndarray:
    """Both, one above the other, the narrower one padded with black on the right."""
    width = max(above.shape[1], sheet.shape[1])
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0))) for part in (above, sheet)])


@dataclass(frozen=True)
class Arguments:
    """Renders a contact sheet of the synthetic street world."""

    out: Path
    """PNG file."""
    places: int = 24
    """How many places, one row each."""
    seed: int = 0
    """Seed of the first place."""
    size: tuple[int, int] = (128, 256)
    """Height and width of one tile."""
    severity: int = DEFAULT_SEVERITY
    """Severity of the adverse conditions, 1 to 5."""
    rig: str = "nuscenes"
    """Rig whose cameras, lidars and boxes are shown below; an empty name omits them."""


if __name__ == "__main__":
    import tyro

    arguments = tyro.cli(Arguments)
    sheet = contact_sheet(range(arguments.seed, arguments.seed + arguments.places), arguments.size, arguments.severity)
    if arguments.rig:
        sheet = _below(sheet, sensor_sheet(arguments.seed, arguments.rig, arguments.size, arguments.severity))
    with atomic_file(arguments.out) as handle:
        Image.fromarray(sheet).save(handle, "PNG")
