"""Checks the hashes of a model folder's files and compares its exported files with their source.

With torch installed, the source model runs; without it, the outputs that were stored with the file are used.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from zoo.engines import engines_that_read
from zoo.errors import InputError
from zoo.export.command import parity_lines
from zoo.export.folder import add_row, reference_name
from zoo.export.gate import LIMITS, compare, refuse_if_beyond
from zoo.export.readback import read_back
from zoo.export.samples import FrameSet, embedded_set, frames_in
from zoo.export.sources import EngineSource, ExportedFile, Side, StoredSource
from zoo.folder.model_folder import MANIFEST, SIGNATURE, ModelFolder
from zoo.folder.signature import check_signature
from zoo.inputs import Input
from zoo.loading import find_folder, load

__all__ = ["Arguments", "compare_file", "run", "signature_lines", "verify"]

ENGINE_HELP = f"Engine that runs the exported files: {' or '.join(engines_that_read('onnx'))}."


@dataclass(frozen=True)
class Arguments:
    """Checks every file's hash, compares every exported file with its source, and records the results.

    Exit code 2: a file is damaged. Exit code 3: an exported file does not match its source on this machine.
    """

    folder: Annotated[str, tyro.conf.Positional]
    """Model folder, catalogue name, or hf-hub:org/name."""
    engine: Annotated[str, tyro.conf.arg(help=ENGINE_HELP)] = "onnx"
    device: str = "cpu"
    """Device. For onnx: cpu, cuda, tensorrt or openvino; for openvino: any device that OpenVINO finds."""
    threads: int | None = None
    """CPU threads."""
    frames: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also compare on the images or sweeps in this folder; needs torch."""
    key: Path | None = None
    """Public key in PEM: also require that the manifest is signed with its private key."""
    record: bool = True
    """Add the row to parity.json, except for models in the installed package and signed ones."""


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
    readers = engines_that_read("onnx")
    if arguments.engine not in readers:
        raise InputError(f"--engine {arguments.engine}: expected one of {', '.join(readers)}")
    folder = ModelFolder.open(find_folder(arguments.folder))
    shown = list(signature_lines(folder, arguments.key))
    folder.verify()
    shown.append(f"{folder.path}: {len(folder.manifest)} files match the manifest")
    sets = [embedded_set(folder.inputs[0])]
    sets += [frames_in(arguments.frames, folder.inputs[0])] if arguments.frames else []
    exported = [entry for entry in folder.config["artefacts"] if entry["engine"] == "onnx"]
    if not exported:
        return [*shown, "no exported files to compare; create one with zoo export"]
    if len(folder.inputs) > 1:
        raise InputError(
            f"{folder.name} has {len(folder.inputs)} stages; so far, only single-stage models can be compared"
        )
    for entry in exported:
        row = compare_file(folder, entry, arguments, sets)
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


def compare_file(
    folder: ModelFolder,
    entry: Mapping[str, Any],
    arguments: Arguments,
    sets: Sequence[FrameSet],
    stored: bool = False,
) -> dict[str, Any]:
    """Compares one exported file with its source; returns its row for `parity.json`.

    Args:
        folder: The model.
        entry: The file's entry in the list of artefacts.
        arguments: Engine, device and threads.
        sets: Frames to compare on.
        stored: Compare with the stored outputs of the source even if torch is installed.

    Raises:
        ParityError: If the two differ by more than the limits.
        InputError: If the source or the engine is not available.
    """
    _check_entry(folder, entry)
    described = read_back(folder.read_bytes(entry["file"]), folder, entry)
    with contextlib.ExitStack() as opened:  # frees the engines before the next file is loaded
        source = _stored_source(folder, entry) if stored else _source(folder, entry, opened)
        file = _exported_file(folder, entry, arguments, described, opened)
        compared, _ = compare(source, file, sets, LIMITS[entry["precision"]])
    refuse_if_beyond(compared, entry["file"])
    about = {"artefact_sha256": entry["sha256"], "file": entry["file"], "precision": entry["precision"]}
    return {**about, **compared.to_json()}


def signature_lines(folder: ModelFolder, key: Path | None) -> Iterator[str]:
    """Checks the signature if a key was given, and says what was done."""
    if key is not None:
        check_signature(folder, key)
        yield f"{folder.path / SIGNATURE}: {MANIFEST} is signed with the key of {key}"
    elif folder.signature() is not None:
        yield f"{folder.path / SIGNATURE} was not checked; --key FILE does that"


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
    return _stored_source(folder, entry)


def _stored_source(folder: ModelFolder, entry: Mapping[str, Any]) -> StoredSource:
    stored = reference_name(entry["file"])
    if stored not in folder.manifest:
        raise InputError(
            f"{folder.path} has no stored outputs for {entry['file']}; to compare with the source itself: "
            "pip install 'perception-zoo[torch]'"
        )
    return StoredSource(folder.read_bytes(stored), entry["source_sha256"], folder.task, folder.inputs[0], stored)


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
