"""Lists the models in the catalogue."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import tyro

from zoo.errors import InputError
from zoo.folder.catalogue import matching

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Lists the models in the catalogue."""

    pattern: Annotated[str | None, tyro.conf.Positional] = None
    """Part of a name, or a shell pattern such as '*camvid'."""
    json: bool = False
    """Print JSON instead of a table."""
    task: str | None = None
    """Only this task: for example segmentation2d or features."""
    licence: str | None = None
    """Only models whose weights are under this licence, for example Apache-2.0."""
    released: bool = False
    """Only models with released weights."""


def run(arguments: Arguments) -> int:
    """Prints the table or JSON.

    Raises:
        InputError: If no model matches, unless JSON is requested.
    """
    found = [
        entry
        for entry in matching(arguments.pattern)
        if arguments.task in (None, entry.task)
        and arguments.licence in (None, entry.licence)
        and (entry.released or not arguments.released)
    ]
    if arguments.json:
        print(json.dumps([entry.summary() for entry in found], indent=2))
        return 0
    if not found:
        raise InputError("no model matches; run `zoo list` to see all of them")
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "task", "classes", "parameters", "licence", "released"):
        table.add_column(heading, justify="right" if heading in ("classes", "parameters") else "left", no_wrap=True)
    for entry in found:
        table.add_row(
            entry.name,
            entry.task,
            str(len(entry.classes)) if entry.classes else "",
            f"{entry.parameters / 1e6:.1f} M",
            entry.licence,
            "yes" if entry.released else "no",
        )
    # Users copy names from this table, so it is not truncated to the width of the terminal.
    Console(width=max(Console().width, 160)).print(table)
    return 0
