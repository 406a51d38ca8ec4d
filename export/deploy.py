"""Checks a model folder on the device that will run it, without torch, and keeps the record in the folder.

The record is `devices/NAME.json`: parity with the outputs that the source model left in the folder, and latency, both
for this device. The manifest does not list it, so the folder stays as it was published and signed.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from zoo.errors import InputError
from zoo.export import benchmark, verify
from zoo.export.command import parity_lines
from zoo.export.samples import embedded_set
from zoo.files import write_json
from zoo.folder.model_folder import DEVICES, FORMAT, ModelFolder
from zoo.loading import find_folder
from zoo.machine import machine

__all__ = ["Arguments", "deploy", "run"]


@dataclass(frozen=True)
class Arguments:
    """Verifies signature and hashes, compares every exported file with its source, measures latency, and records both.

    Exit code 2: a file is damaged or not signed with the key. Exit code 3: a file does not match its source here.
    """

    folder: Annotated[str, tyro.conf.Positional]
    """Model folder or installed model."""
    key: Path | None = None
    """Public key in PEM: require that the manifest is signed with its private key."""
    engine: Annotated[str, tyro.conf.arg(help=verify.ENGINE_HELP)] = "onnx"
    device: str = "cpu"
    """Device. For onnx: cpu, cuda or tensorrt; never falls back to another one."""
    threads: int | None = None
    """CPU threads."""
    runs: int = 50
    """Timed runs per file."""
    name: str | None = None
    """Name of the record. Default: from the device and the processor."""


def run(arguments: Arguments) -> int:
    """Checks, measures, records."""
    for line in deploy(arguments):
        print(line)
    return 0


def deploy(arguments: Arguments) -> list[str]:
    """Checks and measures the folder, writes the record, and returns the lines to print.

    Raises:
        IntegrityError: If the signature or a file is wrong.
        ParityError: If an exported file does not match its source on this device; nothing is recorded then.
        InputError: If the folder has no exported file, is part of the installed package or cannot be written, or the
            engine or the device is not available.
    """
    folder = ModelFolder.open(find_folder(arguments.folder))
    folder.refuse_package("record a device in")
    name = arguments.name or _slug(f"{arguments.device}-{machine()['processor']}")
    if _slug(name) != name:
        raise InputError(f"--name {name}: expected letters, digits and _ . -, for example {_slug(name)}")
    lines = list(verify.signature_lines(folder, arguments.key))
    folder.verify()
    lines.append(f"{folder.path}: {len(folder.manifest)} files match the manifest")
    exported = [entry for entry in folder.config["artefacts"] if entry["engine"] == "onnx"]
    if not exported:
        raise InputError(f"{folder.path} has no exported file to run without torch; create one with zoo export")
    settings = {"engine": arguments.engine, "device": arguments.device, "threads": arguments.threads}
    checks = verify.Arguments(folder=str(folder.path), record=False, **settings)  # type: ignore[arg-type]
    parity, latency = [], []
    for entry in exported:
        parity.append(verify.compare_file(folder, entry, checks, [embedded_set(folder.inputs[0])], stored=True))
        lines += [f"{entry['file']} compared with the stored outputs of its source:"]
        lines += parity_lines(parity[-1], folder.task)
    for entry in exported:
        measured = benchmark.Arguments(
            model=str(folder.path),
            file=entry["file"],
            precision=entry["precision"],
            runs=arguments.runs,
            **settings,  # type: ignore[arg-type]
        )
        latency += benchmark.measure(measured, folder)
        times = latency[-1]["latency_ms"]
        lines.append(f"{entry['file']}: p50 {times['p50']:.1f} ms, p99 {times['p99']:.1f} ms, {arguments.runs} runs")
    path = folder.path / DEVICES / f"{name}.json"
    write_json(path, _record(folder, arguments.device, parity, latency))
    return [*lines, f"wrote {path}"]


def _record(
    folder: ModelFolder, device: str, parity: list[dict[str, Any]], latency: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model": folder.name,
        "manifest_sha256": hashlib.sha256(folder.manifest_bytes()).hexdigest(),
        "device": device,
        "machine": machine(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "parity": parity,
        "latency": latency,
    }


def _slug(text: str) -> str:
    """`cpu-intel-r-xeon-r-processor`; a name that is one already stays the same."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:80] or "device"
