"""Removes an installed model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from zoo.folder.installed import uninstall

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Removes a model that was installed with zoo install."""

    name: Annotated[str, tyro.conf.Positional]
    """Name that it is installed as."""


def run(arguments: Arguments) -> int:
    """Removes the model."""
    print(f"removed {uninstall(arguments.name)}")
    return 0
