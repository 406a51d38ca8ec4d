"""Lists the models in the catalogue and the installed ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from zoo.errors import InputError
from zoo.folder.catalogue import BUNDLED, Entry, entries, fitting, matching
from zoo.folder.installed import find_installed, installed_names
from zoo.folder.licences import UNKNOWN, chain_of, commercial_use
from zoo.folder.model_folder import ModelFolder

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Lists the models in the catalogue and the installed ones."""

    pattern: Annotated[str | None, tyro.conf.Positional] = None
    """Part of a name, or a shell pattern such as '*camvid'."""
    json: bool = False
    """Print JSON instead of a table."""
    task: str | None = None
    """Only this task: for example segmentation2d or features."""
    licence: str | None = None
    """Only models whose weights are under this licence, for example Apache-2.0."""
    commercial: bool = False
    """Only models whose licence chain is known to allow commercial use, part by part."""
    released: bool = False
    """Only models whose weights are released or installed."""


def run(arguments: Arguments) -> int:
    """Prints the table or JSON.

    Raises:
        InputError: If no model matches, unless JSON is requested.
    """
    rows = [
        row
        for row in [*map(_of_entry, matching(arguments.pattern)), *_installed(arguments.pattern)]
        if arguments.task in (None, row["task"])
        and arguments.licence in (None, row["licence"])
        and (row["commercial"] or not arguments.commercial)
        and (row["released"] or row["installed"] or not arguments.released)
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        raise InputError("no model matches; run `zoo list` to see all of them")
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "task", "classes", "parameters", "licence", "weights"):
        table.add_column(heading, justify="right" if heading in ("classes", "parameters") else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            row["task"],
            str(len(row["classes"])) if row["classes"] else "",
            f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] else "",
            row["licence"],
            "installed" if row["installed"] else "released" if row["released"] else "not released",
        )
    # Users copy names from this table, so it is not truncated to the width of the terminal.
    Console(width=max(Console().width, 160)).print(table)
    return 0


def _of_entry(entry: Entry) -> dict[str, Any]:
    """A row for an entry of the catalogue; its facts are those of the installed model if it was filled by one."""
    summary = {**entry.summary(), "commercial": False, "installed": False, "problem": None}
    if entry.bundled:
        return {**summary, "commercial": commercial_use(chain_of(ModelFolder.open(BUNDLED / entry.name).config))}
    if entry.name not in installed_names():
        return summary
    return {**summary, **_of_installed(entry.name)}


def _installed(pattern: str | None) -> list[dict[str, Any]]:
    """Rows for the installed models that the catalogue does not know."""
    names = fitting([name for name in installed_names() if name not in entries()], pattern)
    return [{"modality": "", "exportable": False, **_of_installed(name)} for name in names]


def _of_installed(name: str) -> dict[str, Any]:
    """What the folder of an installed model says; one that cannot be used is listed with the reason."""
    row = {"name": name, "released": False, "bundled": False, "installed": True, "problem": None}
    try:
        path = find_installed(name)
        folder = ModelFolder.open(path) if path is not None else None
    except InputError as error:
        return {**_UNUSABLE, **row, "problem": " ".join(str(error).split())}
    if folder is None:  # removed since its name was listed
        return {**_UNUSABLE, **row, "problem": "it is no longer installed"}
    config, classes = folder.config, folder.task.classes
    return {
        **row,
        "task": config["task"],
        "modality": config.get("modality", ""),
        "classes": list(classes.names) if classes else [],
        "parameters": config.get("parameters", 0),
        "licence": config.get("licence", {}).get("weights", UNKNOWN),
        "commercial": commercial_use(chain_of(config)),
        "training_data": list(config.get("training_data", ())),
        "description": config.get("description", ""),
    }


_UNUSABLE = {
    "task": "unusable",
    "classes": [],
    "parameters": 0,
    "licence": UNKNOWN,
    "commercial": False,
    "training_data": [],
    "description": "",
}
