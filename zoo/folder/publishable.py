"""Whether a model folder may be published: every reason why not, at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.errors import InputError
from zoo.folder.licences import APACHE, OWN_PARTS, UNKNOWN, chain_of, weights_licence
from zoo.folder.model_folder import CONFIG, METRICS, PARITY, ModelFolder, parse_document
from zoo.folder.provenance import headline

__all__ = ["publishable"]


def publishable(folder: ModelFolder, artefacts: Sequence[Mapping[str, Any]] | None = None) -> list[str]:
    """Why `folder` must not be published, one line per reason; empty if it may be.

    Every file must match the manifest. Every exported file needs a parity record, and every file measured results if
    the task has a metric. The licence chain must be complete, without unknown terms, must agree with the licence stated
    for the weights, and must allow passing the weights on.

    Args:
        folder: The folder.
        artefacts: The entries of `config.json` that would be published; by default all of them.
    """
    try:
        folder.verify()
        return [*_files(folder, folder.config["artefacts"] if artefacts is None else artefacts), *_licences(folder)]
    except InputError as error:
        return [str(error)]


def _files(folder: ModelFolder, artefacts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    compared = set()
    if PARITY in folder.manifest:
        parity = parse_document(folder.read_bytes(PARITY), "parity", folder.path / PARITY)
        compared = {row["artefact_sha256"] for row in parity["rows"]}
    for entry in artefacts:
        if entry["engine"] != "torch" and entry["sha256"] not in compared:
            yield f"{entry['file']} has no row in {PARITY}: zoo verify {folder.path}"
    if folder.task.metric is None:
        return
    rows = [row for row in folder.metrics() if row.get("kind") != "latency"]
    measured = {row["artefact_sha256"] for row in rows if row.get(headline(row).key) is not None}
    for entry in artefacts:
        if entry["sha256"] not in measured:
            command = f"zoo evaluate {folder.path} --engine {entry['engine']} --data KIND=DIR --record"
            yield f"{entry['file']} has no measured results in {METRICS}: {command}"


def _licences(folder: ModelFolder) -> Iterator[str]:
    chain = chain_of(folder.config)
    parts = [link.part for link in chain]
    for part in (*OWN_PARTS, "data"):
        if part not in parts:
            yield f"the licence chain in {CONFIG} lacks {part}"
    if not folder.config.get("training_data"):
        yield f"{CONFIG} does not name the training data"
    for link in chain:
        terms = link.terms
        # For other parts a null means that the terms do not mention it; without `commercial` nothing is known.
        if terms.licence == UNKNOWN or terms.commercial is None:
            yield f"the terms of {link.part} {terms.name} are unknown ({terms.licence})"
        if terms.no_derivatives and link.part != "weights":
            yield f"{terms.name} ({terms.licence}) forbids passing on works made from it"
    texts = folder.config.get("licence", {})
    for part in ("weights", "code"):
        if part not in texts:
            yield f"the licence of {part} is missing in {CONFIG}"
    for part, text in texts.items():
        if not text.strip() or re.search(r"\b(unknown|unreleased)\b", text, re.IGNORECASE):
            yield f"the licence of {part} is unknown ({text!r})"
    stated = next((link.terms.licence for link in chain if link.part == "weights"), None)
    if stated is not None and stated != folder.config.get("licence", {}).get("weights", stated):
        yield f"config.json states two licences of the weights: {folder.config['licence']['weights']} and {stated}"
    follows = weights_licence([link.terms for link in chain if link.part in ("data", "initial weights")])
    # Of free parts, the weights may carry any licence.
    if stated is not None and follows not in (APACHE, UNKNOWN, stated):
        yield f"the weights are stated to be {stated}, but {follows} follows from what went into them"
