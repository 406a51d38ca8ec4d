"""A drive as an animated picture: `python -m zoo.synthetic.previews.drive --out drive.webp`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.condition import Condition
from zoo.errors import InputError
from zoo.files import atomic_file
from zoo.geometry.cameras import VEHICLE_FROM_OPTICAL, intrinsics_from_fov
from zoo.geometry.transforms import pose
from zoo.synthetic.frames.picture import check_size
from zoo.synthetic.frames.render import drive_world, render_rig
from zoo.synthetic.frames.times import drive_length
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.sensors.rigs import Rig, RigCamera

__all__ = ["drive_pictures", "write_animation"]

_FOV_DEG, _HEIGHT_M = 75.0, 1.6


def drive_pictures(
    seed: int,
    seconds: float,
    *,
    step_s: float = 0.2,
    size: tuple[int, int] = (160, 320),
    condition: Condition | None = None,
    choices: Choices | None = None,
) -> Iterator[np.ndarray]:
    """`(H, W, 3)` uint8 pictures of a camera that looks ahead, `step_s` of the drive apart.

    Args:
        seed: Of the drive.
        seconds: Its length.
        step_s: Between two pictures.
        size: (height, width).
        condition: Light and weather; `None`: clear.
        choices: Kind of place, season and density.

    Raises:
        InputError: If the size or a time is impossible.
        MissingExtraError: If embreex is not installed.
    """
    check_size(size)
    if not 0.01 <= step_s <= seconds:
        raise InputError(f"step of {step_s:g} s: choose 0.01 s to the {seconds:g} s of the drive")
    camera = RigCamera(
        intrinsics=intrinsics_from_fov(_FOV_DEG, size),
        size=size,
        ego_from_camera=pose(VEHICLE_FROM_OPTICAL, (1.7, 0.0, _HEIGHT_M)),
        rate_hz=1 / step_s,
    )
    rig = Rig(name="ahead", cameras={"front": camera}, lidars={}, period_s=step_s)
    world = drive_world(seed, seconds, choices or Choices())
    for index in range(drive_length(seconds, rig)):
        yield render_rig(world, index, rig, condition or Condition()).camera.image


def write_animation(path: Path, pictures: Iterator[np.ndarray], frames_per_second: float, quality: int = 60) -> int:
    """Writes an animated WebP, or a GIF if the file is called so; returns the number of pictures.

    Raises:
        InputError: If the name ends in neither, the rate is not positive, or the file cannot be written.
    """
    kinds = {".webp": "WEBP", ".gif": "GIF"}
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path}: animations are written as {' or '.join(kinds)}; change the file's name")
    if not 0.1 <= frames_per_second <= 60:
        raise InputError(f"{frames_per_second:g} pictures per second: choose 0.1 to 60")
    images = [Image.fromarray(picture) for picture in pictures]
    with atomic_file(path) as handle:
        images[0].save(
            handle,
            kinds[path.suffix.lower()],
            save_all=True,
            append_images=images[1:],
            duration=round(1000 / frames_per_second),
            loop=0,
            quality=quality,
            method=4,
        )
    return len(images)


@dataclass(frozen=True)
class Arguments:
    """Renders a drive as an animated picture."""

    out: Path
    """WebP or GIF file."""
    seed: int = 0
    """Seed of the drive."""
    seconds: float = 120.0
    """Its length."""
    step: float = 0.2
    """Seconds of the drive between two pictures."""
    fps: float = 5.0
    """Pictures per second of the animation; more than 1 / step is a time lapse."""
    size: tuple[int, int] = (160, 320)
    """Height and width."""
    condition: str = "clear"
    """Light and weather, see zoo/condition.py."""
    kind: str = ""
    """Kinds of places, as in `zoo synthetic --kind`."""
    season: str = ""
    """Seasons, as in `zoo synthetic --season`."""
    density: str = ""
    """How busy it is, as in `zoo synthetic --density`."""
    quality: int = 60
    """Of the compression, 0 to 100."""


if __name__ == "__main__":
    import tyro

    arguments = tyro.cli(Arguments)
    shown = drive_pictures(
        arguments.seed,
        arguments.seconds,
        step_s=arguments.step,
        size=arguments.size,
        condition=Condition.parse(arguments.condition),
        choices=Choices.parse(arguments.kind, arguments.season, arguments.density),
    )
    print(f"{write_animation(arguments.out, shown, arguments.fps, arguments.quality)} pictures in {arguments.out}")
