"""Copies a model folder so that measurements and exports can be added to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoo.folder.model_folder import ModelFolder
from zoo.loading import find_folder

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Copies a model folder, verifying each file, so that measurements and exports can be added to the copy."""

    model: Annotated[str, tyro.conf.Positional]
    """Catalogue name, model folder, or hf-hub:org/name."""
    to: Annotated[Path, tyro.conf.Positional]
    """Folder to create."""


def run(arguments: Arguments) -> int:
    """Copies the folder."""
    folder = ModelFolder.open(find_folder(arguments.model)).copy_to(arguments.to)
    print(f"{folder.name}: {len(folder.manifest)} files in {folder.path}")
    return 0
