"""Frames on which a source and its exported file are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.classes import CITYSCAPES, ClassTable
from zoo.errors import InputError
from zoo.frame import Frame
from zoo.inputs import Input

__all__ = ["FrameSet", "embedded_set", "frames_in"]


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


def embedded_set(input: Input) -> FrameSet:
    """The frames that the package has for this input."""
    return FrameSet("embedded", input.examples(), CITYSCAPES)


def frames_in(folder: Path, input: Input) -> FrameSet:
    """The samples in a folder, unlabelled.

    Raises:
        InputError: If it is not a folder or has no file that the input reads. An unreadable file raises when it is
            read.
    """
    if not folder.is_dir():
        raise InputError(f"--frames {folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in input.suffixes)
    if not files:
        raise InputError(f"--frames {folder}: no {input.samples} in this folder (expected {', '.join(input.suffixes)})")
    return FrameSet(str(folder), [input.frame(path, path.relative_to(folder).as_posix()) for path in files])
