"""Adds facts that a training run did not record to a released model's folder (`training/released.json`).

    python -m zoo.training.annotate zoo/models/NAME --data camvid=DIR --data synthetic

Writes `provenance.trained_on` and `licence_chain` into `config.json`, recomputes the caveats of every recorded row
whose frames are given with `--data` (rows are matched by fingerprint), adds the figures of `also` to their rows, and
updates the card and the manifest. Weights and exported files are not touched. Running it again changes nothing.
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
from zoo.files import write_bytes
from zoo.folder.licences import chain_of
from zoo.folder.model_folder import CARD, CONFIG, FORMAT, METRICS, ModelFolder, encode_document
from zoo.folder.provenance import row_caveats

__all__ = ["Arguments", "annotate", "main"]

RELEASED = Path(__file__).parent / "released.json"


@dataclass(frozen=True)
class Arguments:
    """Adds facts that the training run did not record to a released model's folder."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Model folder, modified in place."""
    data: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KIND[=DIR]")] = ()
    """Data sets whose rows get caveats: camvid=DIR or synthetic. Repeat for several."""


def annotate(path: Path, datasets: Sequence[Dataset]) -> ModelFolder:
    """Adds the facts in `released.json` to a model folder.

    Args:
        path: Model folder.
        datasets: Data sets whose rows get caveats.

    Raises:
        InputError: If `released.json` has no entry for exactly these weights.
    """
    folder = ModelFolder.open(path)
    known = json.loads(RELEASED.read_text("utf-8")).get(folder.name)
    weights = folder.artefact("torch")["sha256"]
    if known is None or known["weights_sha256"] != weights:
        raise InputError(f"{path}: {RELEASED.name} has no entry for {folder.name} with the weights {weights[:12]}…")
    config = {
        **folder.config,
        "licence_chain": [link.to_json() for link in chain_of(folder.config)],
        "provenance": {**folder.config["provenance"], "trained_on": known["trained_on"]},
    }
    rows = [_with_figures(row, known["also"]) for row in _rows(folder, config, datasets)]
    contents = {
        CONFIG: encode_document(config, "config", path / CONFIG),
        METRICS: encode_document({"format": FORMAT, "rows": rows}, "metrics", path / METRICS),
        CARD: folder.card(config, rows).encode(),
    }
    for name, content in contents.items():
        write_bytes(path / name, content)
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
    """The row with the related figures from `released.json`, matched by their `row`."""
    also = [each["figure"] for each in figures if each["row"].items() <= row.items()]
    return {**row, "also": also} if also else row


def main(words: Sequence[str] | None = None) -> None:
    """Annotates one model folder."""
    arguments = tyro.cli(Arguments, args=words, description=__doc__)
    datasets = [open_dataset(kind, root, "val") for kind, root in map(parse_source, arguments.data)]
    folder = annotate(arguments.folder, datasets)
    folder.verify()
    print(f"{arguments.folder}: {len(folder.metrics())} rows")


if __name__ == "__main__":
    main()
