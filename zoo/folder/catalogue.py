"""The catalogue of all named models (`catalogue.toml`). Listing it does not import torch."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from zoo.classes import ClassTable, taxonomy
from zoo.errors import InputError, closest

__all__ = ["BUNDLED", "Entry", "entries", "entry"]

BUNDLED = Path(__file__).parents[1] / "models"
"""Folder of the models bundled with the package."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of the catalogue.

    Attributes:
        name: Never reused for other weights.
        description: One line.
        task: Name in `zoo.tasks.TASKS`.
        modality: `camera` or `lidar`.
        released: Whether its weights can be loaded.
        recipe: Command that produces the weights.
        parameters: Number of weights, encoder and head together.
        licence: Licence of the weights: an SPDX identifier, or `research-only`.
        licences: The chain: code, each data set, initial weights.
        training_data: Names of the data sets, in the order in which they were used.
        architecture: Encoder and head, `"module:Class"` with arguments.
        inputs: As in `config.json`.
        taxonomy: Name of its classes; empty for an encoder.
        exportable: Whether it can be exported to ONNX.
        hub: Hub repository, `org/name`; empty unless the model is published there.
        revision: Full commit hash of the Hub repository. A branch or tag could move to other weights.
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
        """Whether its folder is bundled with the package."""
        return (BUNDLED / self.name).is_dir()

    def differences(
        self, architecture: Mapping[str, Any], classes: ClassTable | None, training_data: Iterable[str]
    ) -> list[str]:
        """In what a model differs from this entry: `architecture`, `classes`, `training data`.

        Only a model that differs in nothing may carry the entry's name.

        Args:
            architecture: Of the model.
            classes: Of its labels.
            training_data: Names of the data that it was trained on; what they say in brackets does not count.
        """
        bare = [{name.partition(" (")[0] for name in names} for names in (training_data, self.training_data)]
        differs = {
            "architecture": architecture != self.architecture,
            "classes": classes != self.classes,
            "training data": bare[0] != bare[1],
        }
        return [what for what, different in differs.items() if different]

    def summary(self) -> dict[str, Any]:
        """The entry as `zoo list --json` shows it."""
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
            "hub": f"{self.hub}@{self.revision}" if self.hub else None,
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
        if row.get("hub") and not re.fullmatch("[0-9a-f]{40}", row.get("revision", "")):
            raise RuntimeError(f"catalogue: {row['name']} names a Hub repository without a full commit hash")
    return result


def entry(name: str) -> Entry:
    """The entry called `name`.

    Raises:
        InputError: If there is no such entry; the message lists the closest names.
    """
    known = entries()
    if name not in known:
        raise InputError(f"unknown model {name!r}{closest(name, known)}; `zoo list` shows all")
    return known[name]


def matching(pattern: str | None = None) -> list[Entry]:
    """Entries whose name fits the pattern; see `fitting`."""
    return [entries()[name] for name in fitting(entries(), pattern)]


def fitting(names: Iterable[str], pattern: str | None = None) -> list[str]:
    """Names that match the shell pattern, or contain it if it has no wildcard; all of them without a pattern."""
    if pattern is None:
        return list(names)
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    return [name for name in names if fnmatch(name, pattern)]
