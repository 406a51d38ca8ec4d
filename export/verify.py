"""Checks the hashes of a model folder's files and compares its exported files with their source.

With torch installed, the source model runs; without it, the outputs that were stored with the file are used.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from zoo.engines import ENGINES
from zoo.errors import InputError
from zoo.export.command import parity_lines
from zoo.export.folder import add_row, reference_name
from zoo.export.gate import LIMITS, compare, refuse_if_beyond
from zoo.export.readback import read_back
from zoo.export.samples import embedded_set, frames_in
from zoo.export.sources import EngineSource, ExportedFile, Side, StoredSource
from zoo.folder.model_folder import ModelFolder
from zoo.inputs import Input
from zoo.loading import find_folder, load

__all__ = ["Arguments", "run", "verify"]


@dataclass(frozen=True)
class Arguments:
    """Checks every file's hash, compares every exported file with its source, and records the results.

    Exit code 2: a file is damaged. Exit code 3: an exported file does not match its source on this machine.
    """

    folder: Annotated[str, tyro.conf.Positional]
    """Model folder, catalogue name, or hf-hub:org/name."""
    engine: str = "onnx"
    """Engine that runs the exported files: onnx or openvino."""
    device: str = "cpu"
    """Device. For onnx: cpu, cuda, tensorrt or openvino; for openvino: any device that OpenVINO finds."""
    threads: int | None = None
    """CPU threads."""
    frames: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also compare on the images in this folder; needs torch."""
    record: bool = True
    """Add the row to parity.json, except for models in the installed package."""


def run(arguments: Arguments) -> int:
    """Runs all checks and prints the results."""
    for line in verify(arguments):
        print(line)
    return 0


def verify(arguments: Arguments) -> list[str]:
    """Runs all checks and returns the lines to print.

    Raises:
        IntegrityError: If a file differs from the manifest.
        ParityError: If an exported file does not match its source.
        InputError: If the engine or the device is not available, or a frame cannot be read.
    """
    readers = [name for name, row in ENGINES.items() if row.reads == "onnx"]
    if arguments.engine not in readers:
        raise InputError(f"--engine {arguments.engine}: expected one of {', '.join(readers)}")
    folder = ModelFolder.open(find_folder(arguments.folder))
    folder.verify()
    shown = [f"{folder.path}: {len(folder.manifest)} files match the manifest"]
    sets = [embedded_set()] + ([frames_in(arguments.frames)] if arguments.frames else [])
    exported = [entry for entry in folder.config["artefacts"] if entry["engine"] == "onnx"]
    if not exported:
        return [*shown, "no exported files to compare; create one with zoo export"]
    if len(folder.inputs) > 1:
        raise InputError(
            f"{folder.name} has {len(folder.inputs)} stages; so far, only single-stage models can be compared"
        )
    for entry in exported:
        _check_entry(folder, entry)
        described = read_back(folder.read_bytes(entry["file"]), folder, entry)
        with contextlib.ExitStack() as opened:  # one file's engines are freed before the next is loaded
            source = _source(folder, entry, opened)
            file = _exported_file(folder, entry, arguments, described, opened)
            compared, _ = compare(source, file, sets, LIMITS[entry["precision"]])
        refuse_if_beyond(compared, entry["file"])
        about = {"artefact_sha256": entry["sha256"], "file": entry["file"], "precision": entry["precision"]}
        row = {**about, **compared.to_json()}
        reference = "the stored outputs of the source" if row["source"]["stored"] else "the source model"
        shown += [f"{entry['file']} compared with {reference}:", *parity_lines(row, folder.task)]
        if not arguments.record:
            continue
        try:
            add_row(folder, row)
        except InputError as error:
            shown.append(f"not recorded: {error}")
        else:
            folder = ModelFolder.open(folder.path)
    return shown


def _check_entry(folder: ModelFolder, entry: Mapping[str, Any]) -> None:
    """Raises an `InputError` unless `zoo export` wrote the entry: other ONNX files do not record their source."""
    lacks = [key for key in ("precision", "source_sha256", "inputs", "outputs") if key not in entry]
    if lacks:
        raise InputError(
            f"{folder.path}: the entry of {entry['file']} lacks {', '.join(lacks)}, so its source is unknown; "
            "export the model again with zoo export"
        )
    if entry["precision"] not in LIMITS:
        raise InputError(
            f"{folder.path}: {entry['file']} has the precision {entry['precision']}; expected {' or '.join(LIMITS)}"
        )


def _source(folder: ModelFolder, entry: Mapping[str, Any], opened: contextlib.ExitStack) -> EngineSource | StoredSource:
    sha256 = entry["source_sha256"]
    here = {artefact["sha256"]: artefact for artefact in folder.config["artefacts"] if artefact["engine"] == "torch"}
    if sha256 in here and _torch_is_installed():
        predictor = opened.enter_context(load(folder.path, engine="torch", file=here[sha256]["file"]))
        return EngineSource(Side(predictor.engine, predictor.input, predictor.task), sha256)
    stored = reference_name(entry["file"])
    if stored not in folder.manifest:
        raise InputError(
            f"{folder.path} has no stored outputs for {entry['file']}; to compare with the source itself: "
            "pip install 'perception-zoo[torch]'"
        )
    return StoredSource(folder.read_bytes(stored), sha256, folder.task, folder.inputs[0], stored)


def _torch_is_installed() -> bool:
    try:
        return all(importlib.util.find_spec(package) is not None for package in ("torch", "timm"))
    except (ImportError, ValueError):
        return False


def _exported_file(
    folder: ModelFolder,
    entry: Mapping[str, Any],
    arguments: Arguments,
    described: Input,
    opened: contextlib.ExitStack,
) -> ExportedFile:
    loaded = load(
        folder.path, engine=arguments.engine, device=arguments.device, threads=arguments.threads, file=entry["file"]
    )
    predictor = opened.enter_context(loaded)
    return ExportedFile(predictor.engine, described, predictor.task, tuple(entry.get("in_graph", ())))
