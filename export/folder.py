"""Exported files in a model folder: adding a file and recording its parity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.engines import ENGINES, engines_that_read
from zoo.errors import InputError
from zoo.files import atomic_directory, write_bytes
from zoo.folder.model_folder import (
    CARD,
    CONFIG,
    FORMAT,
    METRICS,
    PARITY,
    ModelFolder,
    encode_document,
    parse_document,
    write_manifest,
)

__all__ = ["PARITY", "add_file", "add_row", "not_measured", "read_parity", "reference_name"]

_ROW_KEY = ("artefact_sha256", "engine", "device", "machine", "frame_sets")


def reference_name(file: str) -> str:
    """Path of the stored source outputs that belong to `file`."""
    return str(PurePosixPath(file).with_suffix(".reference.npz"))


def read_parity(folder: ModelFolder) -> dict[str, Any]:
    """Content of `parity.json`: rows and, per file, the TensorRT findings and the engines not measured.

    Raises:
        IntegrityError: If the file differs from the manifest or is not JSON.
        InputError: If it does not match `parity.schema.json`.
    """
    if PARITY not in folder.manifest:
        return {"format": FORMAT, "rows": [], "files": []}
    return parse_document(folder.read_bytes(PARITY), "parity", folder.path / PARITY)


def not_measured(rows: Sequence[Mapping[str, Any]], sha256: str) -> list[str]:
    """Engines and devices for which this file has no row."""
    done = {(row["engine"], row["device"].split(":")[0]) for row in rows if row["artefact_sha256"] == sha256}
    return [
        f"{engine} on {device}"
        for engine in engines_that_read("onnx")
        for device in ENGINES[engine].devices
        if (engine, device) not in done
    ]


def _merged(parity: Mapping[str, Any], row: Mapping[str, Any], files: list[dict[str, Any]]) -> dict[str, Any]:
    """The record with `row` added; a row for the same file, engine, device, machine and frames is replaced."""
    known = {entry["sha256"] for entry in files}
    rows = [
        old
        for old in parity["rows"]
        if old["artefact_sha256"] in known and any(old[key] != row[key] for key in _ROW_KEY)
    ]
    rows.append(dict(row))
    for entry in files:
        entry["not_measured"] = not_measured(rows, entry["sha256"])
    return {"format": FORMAT, "rows": rows, "files": files}


def add_file(
    folder: ModelFolder,
    out: Path,
    entry: Mapping[str, Any],
    content: bytes,
    row: Mapping[str, Any],
    stored: bytes,
    tensorrt: Mapping[str, Any],
) -> ModelFolder:
    """Copies `folder` to `out` and adds one file, replacing an existing file of that name.

    Args:
        folder: Source model folder.
        out: New folder.
        entry: The file's entry in the list of artefacts.
        content: Bytes of the file.
        row: The file's row of `parity.json`.
        stored: Outputs of the source on the embedded frames.
        tensorrt: Findings of the TensorRT check.

    Raises:
        InputError: If `out` exists or cannot be written.
        IntegrityError: If a file of `folder` differs from the manifest.
    """
    file = entry["file"]
    artefacts = [old for old in folder.config["artefacts"] if old["file"] != file]
    inputs = [each.to_json() for each in folder.inputs]  # drops keys that have no effect
    config = {**folder.config, "inputs": inputs, "artefacts": [*artefacts, dict(entry)]}
    known = {artefact["sha256"] for artefact in config["artefacts"]}
    parity = read_parity(folder)
    files = [dict(old) for old in parity["files"] if old["file"] != file]
    files.append(
        {"file": file, "sha256": entry["sha256"], "source_sha256": entry["source_sha256"], "tensorrt": dict(tensorrt)}
    )
    rows = [measured for measured in folder.metrics() if measured["artefact_sha256"] in known]
    with atomic_directory(out) as temporary:
        for name in folder.manifest:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(folder.read_bytes(name))
        (temporary / file).parent.mkdir(parents=True, exist_ok=True)
        (temporary / file).write_bytes(content)
        (temporary / reference_name(file)).write_bytes(stored)
        (temporary / CONFIG).write_bytes(encode_document(config, "config", out / CONFIG))
        merged = _merged(parity, row, files)
        (temporary / PARITY).write_bytes(encode_document(merged, "parity", out / PARITY))
        if METRICS in folder.manifest:
            metrics = {"format": FORMAT, "rows": rows}
            (temporary / METRICS).write_bytes(encode_document(metrics, "metrics", out / METRICS))
        if CARD in folder.manifest and "provenance" in config:
            (temporary / CARD).write_text(folder.card(config, rows, merged["rows"]), encoding="utf-8")
        write_manifest(temporary)
    return ModelFolder.open(out)


def add_row(folder: ModelFolder, row: Mapping[str, Any]) -> None:
    """Adds one row to `parity.json` and updates the manifest.

    Raises:
        InputError: If the folder is part of the installed package or `parity.json` has no entry for the row's file.
    """
    folder.refuse_installed("record parity in")
    parity = read_parity(folder)
    files = [dict(entry) for entry in parity["files"]]
    if row["artefact_sha256"] not in {entry["sha256"] for entry in files}:
        raise InputError(
            f"{folder.path / PARITY} has no entry for the file {row['artefact_sha256'][:12]}…; export it again"
        )
    merged = _merged(parity, row, files)
    contents = {PARITY: encode_document(merged, "parity", folder.path / PARITY)}
    if CARD in folder.manifest and "provenance" in folder.config:  # rendered by this package, not written by hand
        contents[CARD] = folder.card(parity=merged["rows"]).encode()
    for file, content in contents.items():
        write_bytes(folder.path / file, content)
    folder.renew_manifest(list(contents))
