"""Adds to a released model's folder what is known about it beyond what its run recorded (`training/released.json`).

    python -m zoo.training.annotate zoo/models/NAME --data camvid=DIR --data synthetic

Writes `provenance.trained_on` into `config.json`, recomputes the caveats of every measured row whose frames are given
with `--data` (a row is recognised by its fingerprint), adds the figures of `also` to the rows they belong to, and
renders the card and the manifest anew. Weights and exported files are not touched. Running it twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from zoo.data import Dataset, open_dataset, parse_source
from zoo.errors import InputError
from zoo.evaluate.summary import groups_of
from zoo.files import write_bytes, write_json
from zoo.folder.card import render_card
from zoo.folder.model_folder import CARD, CONFIG, FORMAT, METRICS, ModelFolder
from zoo.folder.provenance import row_caveats

__all__ = ["Arguments", "annotate", "main"]

RELEASED = Path(__file__).parent / "released.json"


@dataclass(frozen=True)
class Arguments:
    """Adds to a released model's folder what is known about it beyond what its run recorded."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Model folder; it is changed in place."""
    data: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KIND[=DIR]")] = ()
    """Data whose rows get their caveats: camvid=DIR, synthetic. May be given several times."""


def annotate(path: Path, datasets: Sequence[Dataset]) -> ModelFolder:
    """Writes what is known about the model in `path` into its folder.

    Args:
        path: Model folder.
        datasets: Data sets whose rows get their caveats.

    Raises:
        InputError: If nothing is known about exactly these weights.
    """
    folder = ModelFolder.open(path)
    known = json.loads(RELEASED.read_text("utf-8")).get(folder.name)
    weights = folder.artefact("torch")["sha256"]
    if known is None or known["weights_sha256"] != weights:
        raise InputError(f"{path}: {RELEASED.name} says nothing about a {folder.name} with the weights {weights[:12]}…")
    config = {**folder.config, "provenance": {**folder.config["provenance"], "trained_on": known["trained_on"]}}
    rows = [_with_figures(row, known["also"]) for row in _rows(folder, config, datasets)]
    write_json(path / CONFIG, config)
    write_json(path / METRICS, {"format": FORMAT, "rows": rows})
    write_bytes(path / CARD, render_card(config, rows).encode())
    folder.renew_manifest([CONFIG, METRICS, CARD])
    return ModelFolder.open(path)


def _rows(folder: ModelFolder, config: Mapping[str, Any], datasets: Sequence[Dataset]) -> list[dict[str, Any]]:
    fingerprints = {dataset.kind: dataset.fingerprint() for dataset in datasets}
    by_kind = {dataset.kind: dataset for dataset in datasets}
    members = {
        kind: {
            group: [dataset.frames[i] for i in indices]
            for group, indices in groups_of(dataset, dataset.frames, dataset.source_group).items()
        }
        for kind, dataset in by_kind.items()
    }
    rows = []
    for row in folder.metrics():
        if row.get("data") in by_kind and row["fingerprint"] == fingerprints[row["data"]]:
            (row,) = row_caveats([row], config, by_kind, members)
        rows.append(row)
    return rows


def _with_figures(row: dict[str, Any], figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row with the figures that belong next to it, those whose `row` agrees with it."""
    also = [each["figure"] for each in figures if each["row"].items() <= row.items()]
    return {**row, "also": also} if also else row


def main(words: Sequence[str] | None = None) -> None:
    """Annotates one folder."""
    arguments = tyro.cli(Arguments, args=words, description=__doc__)
    datasets = [open_dataset(kind, root, "val") for kind, root in map(parse_source, arguments.data)]
    folder = annotate(arguments.folder, datasets)
    folder.verify()
    print(f"{arguments.folder}: {len(folder.metrics())} rows")


if __name__ == "__main__":
    main()
