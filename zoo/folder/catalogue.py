"""The catalogue: every model that has a name, as data (`catalogue.toml`). Listing it imports no torch."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from zoo.classes import ClassTable, taxonomy
from zoo.errors import InputError, closest

__all__ = ["BUNDLED", "Entry", "entries", "entry"]

BUNDLED = Path(__file__).parents[1] / "models"
"""Folder of the models that the package carries."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of the catalogue.

    Attributes:
        name: Never reused for other weights.
        description: One line.
        task: Name in `zoo.tasks.TASKS`.
        modality: `camera` or `lidar`.
        released: Its weights can be loaded.
        recipe: Command that makes the weights.
        parameters: Number of weights, encoder and head together.
        licence: Of the weights: an SPDX name, or `research-only`.
        licences: The chain: code, each data set, initial weights.
        training_data: Names of the data sets, in the order of use.
        architecture: Encoder and head, `"module:Class"` with arguments.
        inputs: As in `config.json`.
        taxonomy: Name of its classes; empty for an encoder.
        exportable: It can become an ONNX file.
        hub: Hub repository, `org/name`.
        revision: Pinned commit of the Hub repository.
    """

    name: str
    description: str
    task: str
    modality: str
    released: bool
    recipe: str
    parameters: int
    licence: str
    licences: Mapping[str, str]
    training_data: tuple[str, ...]
    architecture: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...]
    taxonomy: str = ""
    exportable: bool = True
    hub: str = ""
    revision: str = ""

    @property
    def classes(self) -> ClassTable | None:
        """The classes of its labels; `None` for an encoder."""
        return taxonomy(self.taxonomy) if self.taxonomy else None

    @property
    def bundled(self) -> bool:
        """The package carries its folder."""
        return (BUNDLED / self.name).is_dir()

    def summary(self) -> dict[str, Any]:
        """What `zoo list --json` shows."""
        return {
            "name": self.name,
            "task": self.task,
            "modality": self.modality,
            "released": self.released,
            "bundled": self.bundled,
            "classes": list(self.classes.names) if self.classes else [],
            "parameters": self.parameters,
            "licence": self.licence,
            "training_data": list(self.training_data),
            "exportable": self.exportable,
            "description": self.description,
        }


@functools.cache
def entries() -> Mapping[str, Entry]:
    """All entries by name, in the order of the file."""
    with (Path(__file__).parent / "catalogue.toml").open("rb") as handle:
        tables = tomllib.load(handle)
    shared = tables.get("encoder", {})
    result = {}
    for row in tables["model"]:
        row = dict(row)
        encoder = row.pop("encoder")
        architecture: dict[str, Any] = {"encoder": shared[encoder]}
        if "head" in row:
            architecture["head"] = row.pop("head")
        row["training_data"] = tuple(row.get("training_data", ()))
        row["inputs"] = (row.pop("input"),)
        row.setdefault("licences", {})
        if row["name"] in result:
            raise RuntimeError(f"catalogue: two models are called {row['name']}")
        result[row["name"]] = Entry(architecture=architecture, **row)
    return result


def entry(name: str) -> Entry:
    """The entry called `name`.

    Raises:
        InputError: If there is none; names the closest ones.
    """
    known = entries()
    if name not in known:
        raise InputError(f"unknown model {name!r}{closest(name, known)}; `zoo list` shows all")
    return known[name]


def matching(pattern: str | None = None) -> list[Entry]:
    """Entries whose name matches the shell pattern, or contains it where it has no wildcard."""
    if pattern is None:
        return list(entries().values())
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    return [entry for entry in entries().values() if fnmatch(entry.name, pattern)]
