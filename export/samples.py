"""Frames on which a source and its exported file are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zoo.classes import CITYSCAPES, ClassTable
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import CameraFrame, Frame

__all__ = ["FrameSet", "embedded_set", "frames_in"]

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True)
class FrameSet:
    """A set of frames to compare on.

    Attributes:
        name: `embedded`, or the folder.
        frames: Frames with the sensors that the model reads.
        classes: Class table of their labels; `None` if the frames are unlabelled.
    """

    name: str
    frames: Sequence[Frame]
    classes: ClassTable | None = None


def embedded_set() -> FrameSet:
    """The synthetic frames that ship with the package: clear day and adverse conditions."""
    from zoo.synthetic.embedded import embedded_frames

    return FrameSet("embedded", embedded_frames(), CITYSCAPES)


def frames_in(folder: Path) -> FrameSet:
    """The images in a folder, unlabelled.

    Raises:
        InputError: If it is not a folder or contains no images. An unreadable image raises when it is read.
    """
    if not folder.is_dir():
        raise InputError(f"--frames {folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGES)
    if not files:
        raise InputError(f"--frames {folder}: no images in this folder (expected {', '.join(_IMAGES)})")
    return FrameSet(
        str(folder),
        [
            Frame(
                id=path.relative_to(folder).as_posix(),
                group="given",
                cameras={"front": CameraFrame(image_source=partial(read_image, path), image_path=path)},
            )
            for path in files
        ],
    )
