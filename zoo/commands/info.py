"""Shows one model: its description, licences and measured results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from zoo.errors import NotReleasedError
from zoo.folder.catalogue import entries
from zoo.folder.model_folder import ModelFolder
from zoo.folder.provenance import headline, row_note
from zoo.loading import resolve

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Shows one model: its description, licences and measured results."""

    model: Annotated[str, tyro.conf.Positional]
    """Catalogue name, installed model, model folder, or hf-hub:org/name."""
    json: bool = False
    """Print everything as one JSON object."""


def run(arguments: Arguments) -> int:
    """Prints the catalogue entry, and what the verified folder says where there is one."""
    known = entries().get(arguments.model)
    values: dict[str, Any] = {}
    if known:
        values = {**known.summary(), "licences": dict(known.licences), "recipe": known.recipe}
    try:
        found = resolve(arguments.model)
    except NotReleasedError:
        pass
    else:
        folder = ModelFolder.open(found.path)
        folder.verify()
        values |= _of_folder(folder) | {"origin": found.origin, "folder": str(folder.path), "rows": folder.metrics()}
    if arguments.json:
        print(json.dumps(values, indent=2))
        return 0
    for key, value in values.items():
        if key == "rows":
            _print_rows(value)
        elif key == "classes":
            print(f"classes: {len(value)}: {', '.join(value)}" if value else "classes: none")
        elif isinstance(value, dict):
            print(f"{key}:")
            for name, entry in value.items():
                print(f"  {name}: {entry}")
        elif isinstance(value, list):
            print(f"{key}: {', '.join(map(str, value))}")
        else:
            print(f"{key}: {value}")
    return 0


def _of_folder(folder: ModelFolder) -> dict[str, Any]:
    config = folder.config
    classes = folder.task.classes
    return {
        "name": folder.name,
        "description": config.get("description", ""),
        "task": config["task"],
        "modality": config.get("modality", ""),
        "training_data": list(config.get("training_data", ())),
        "classes": list(classes.names) if classes else [],
        "parameters": config.get("parameters"),
        "licence": config.get("licence", {}).get("weights", "not stated"),
        "licences": {part: terms for part, terms in config.get("licence", {}).items() if part != "weights"},
        "files": {
            entry["file"]: f"{entry['engine']} {entry.get('precision', '')}, SHA-256 {entry['sha256']}, "
            f"{Path(folder.path / entry['file']).stat().st_size:,} bytes"
            for entry in config["artefacts"]
        },
    }


def _print_rows(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("measured: nothing yet; zoo evaluate MODEL --record adds rows")
        return
    print("measured:")
    for row in rows:
        if row.get("kind") == "latency":
            size = " x ".join(map(str, row["sample"]["size"]))
            print(
                f"  {row['engine']} {row['precision']} on {row['machine']['processor']}, {row['threads']} threads, "
                f"{row['sample']['kind']} {size}: p50 {row['latency_ms']['p50']:.1f} ms, "
                f"p99 {row['latency_ms']['p99']:.1f} ms, {row['runs']} runs, file {row['artefact_sha256'][:12]}"
            )
            continue
        first = headline(row)
        rpd = f", rPD {row['rpd']:.2f}" if row.get("rpd") is not None else ""
        note = row_note(row)
        print(
            f"  {row.get('data')} {row.get('split')} {row.get('group')}: "
            f"{first.title} {first.value(row) or 'undefined'}{first.interval(row)} {first.unit}{rpd}, "
            f"{row.get('frames')} frames, file {row['artefact_sha256'][:12]}" + (f"; NOTE: {note}" if note else "")
        )
