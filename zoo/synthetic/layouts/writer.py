"""Writes the files of a layout."""

from __future__ import annotations

from pathlib import Path

from zoo.files import write_bytes
from zoo.synthetic.layouts import Files

__all__ = ["write_files"]


def write_files(root: Path, files: Files) -> None:
    """Writes `files` below `root`, each in one step.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
    """
    for path, content in files.items():
        write_bytes(root / path, content())
