"""Installs a model folder, so that its name can be used like one of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from zoo.folder.installed import install
from zoo.folder.model_folder import ModelFolder
from zoo.loading import find_folder

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Copies a model folder, verifying each file, into ZOO_HOME (by default ~/.local/share/perception-zoo).

    An unreleased name of the catalogue is accepted only for a model with the entry's architecture and classes whose
    training record names the entry's data.
    """

    folder: Annotated[str, tyro.conf.Positional]
    """Model folder, or hf-hub:org/name."""
    as_: Annotated[str | None, tyro.conf.arg(name="as", metavar="NAME")] = None
    """Name to install it as. Default: the name in its config.json."""
    force: bool = False
    """Replace a model installed under this name."""


def run(arguments: Arguments) -> int:
    """Installs the folder."""
    folder = install(ModelFolder.open(find_folder(arguments.folder)), arguments.as_, replace=arguments.force)
    print(f"{folder.path.name}: {len(folder.manifest)} files in {folder.path}")
    return 0
