"""Measures a model's latency, throughput and memory, engine by engine.

Each engine runs in its own process, and the engines take turns, so a machine that slows down affects all of them alike.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from zoo.arguments import parse_size
from zoo.errors import InputError
from zoo.files import atomic_file, write_json
from zoo.folder.model_folder import ModelFolder
from zoo.inputs import Input
from zoo.inputs.windows import inference_settings
from zoo.loading import engines_for, find_folder
from zoo.machine import machine, packages

__all__ = ["RECORD_KEY", "Arguments", "measure", "run"]

RECORD_KEY = ("kind", "artefact_sha256", "engine", "device", "precision", "threads", "sample", "inputs", "machine")
"""Fields that identify a recorded row; repeating a measurement replaces it."""
_STEPS = ("preprocessing", "inference", "postprocessing")
_ROUNDS = 5


@dataclass(frozen=True)
class Arguments:
    """Measures latency (p50, p90, p99, and per step), throughput and peak memory, one image or sweep at a time."""

    model: Annotated[str, tyro.conf.Positional]
    """Catalogue name, model folder, or hf-hub:org/name."""
    engine: str = "auto"
    """Comma-separated engines, for example torch,onnx,openvino. auto: every installed engine that has a file."""
    device: str = "cpu"
    """Device to run on."""
    precision: str = "fp32"
    """Arithmetic precision."""
    threads: int | None = None
    """CPU threads. Default: all CPUs available to the process."""
    file: str | None = None
    """Run this file of the model folder."""
    source: Path | None = None
    """Image or sweep to run on. Default: an embedded synthetic frame, or a computed sweep of a street."""
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    """Images: resize to this size before measuring, for example 512x1024."""
    whole: bool = False
    """Images: run them whole even if the model is configured for sliding windows."""
    runs: int = 50
    """Timed runs per engine."""
    warmup: int = 5
    """Untimed warm-up runs per engine."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/benchmark")
    """Folder for benchmark.json and benchmark.png."""
    record: bool = False
    """Add the results to the model folder's metrics.json."""


def run(arguments: Arguments) -> int:
    """Runs the benchmark, prints the table and writes the JSON file and the plot."""
    folder = ModelFolder.open(find_folder(arguments.model))
    if arguments.record:
        folder.refuse_installed("record measurements in")
    rows = measure(arguments, folder)
    print_table(rows)
    write_json(arguments.out / "benchmark.json", {"format": 1, "rows": rows})
    write_plot(arguments.out / "benchmark.png", rows)
    if arguments.record:
        folder.record(rows, RECORD_KEY)
    print(f"wrote {arguments.out / 'benchmark.json'}, {arguments.out / 'benchmark.png'}")
    return 0


def measure(arguments: Arguments, folder: ModelFolder) -> list[dict[str, Any]]:
    """Runs the benchmark and returns one row per engine.

    Raises:
        InputError: If an engine is not available, the source cannot be read or has no such size, or a number is out of
            range.
    """
    if arguments.runs < 1:
        raise InputError(f"--runs {arguments.runs}: expected at least 1")
    if arguments.warmup < 0:
        raise InputError(f"--warmup {arguments.warmup}: expected at least 0")
    if arguments.engine == "auto":
        engines = engines_for(folder, arguments.precision, arguments.file)
    else:
        engines = arguments.engine.split(",")
    if not engines:
        raise InputError("--engine auto: no installed engine can run a file of this model; zoo info lists the files")
    if len(set(engines)) != len(engines):
        raise InputError(f"--engine {arguments.engine}: an engine is given twice; give each once")
    sample = _sample(arguments, folder.inputs[0])
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        path = Path(temporary) / "sample.npy"
        np.save(path, sample)
        workers = [stack.enter_context(_Worker(arguments, engine, path)) for engine in engines]
        for worker in workers:
            worker.run(arguments.warmup)
        times: list[list[list[float]]] = [[] for _ in workers]
        share = -(-arguments.runs // _ROUNDS)
        for first in range(0, arguments.runs, share):
            for worker, taken in zip(workers, times, strict=True):
                worker.run(1)  # another engine has just filled the CPU caches, so the first run is not timed
                taken += worker.run(min(share, arguments.runs - first))
        described = _described(folder.inputs[0], sample)
        return [_row(worker, taken, described) for worker, taken in zip(workers, times, strict=True)]


class _Worker:
    """Parent's side of a process that runs one engine."""

    def __init__(self, arguments: Arguments, engine: str, sample: Path) -> None:
        self._request = {
            "model": str(arguments.model),
            "engine": engine,
            "device": arguments.device,
            "precision": arguments.precision,
            "threads": arguments.threads,
            "file": arguments.file,
            "input_settings": inference_settings(arguments.whole, None, None),
            "sample": str(sample),
        }
        self.about: dict[str, Any] = {}
        self.memory: dict[str, Any] = {}

    def __enter__(self) -> _Worker:
        command = [sys.executable, "-P", "-m", "zoo.export.benchmark_worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.about = self._ask(self._request)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def run(self, count: int) -> list[list[float]]:
        """Runs the model `count` times and returns the seconds that each step of each run took."""
        answer = self._ask({"runs": count})
        self.memory = {key: answer[key] for key in ("peak_bytes", "peak_device_bytes")}
        return answer["times"]

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self._request['engine']} process exited with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(answer["error"])
        return answer


def _sample(arguments: Arguments, input: Input) -> Any:
    """The benchmark's sample, as the model's input reads it."""
    sample = input.read(input.examples()[0] if arguments.source is None else arguments.source)
    if arguments.size is None:
        return sample
    return input.resized(sample, parse_size("--size", arguments.size))


def _described(input: Input, sample: Any) -> dict[str, Any]:
    """What was measured: kind of input, size, and the plural that tables show; a row needs no model to be shown."""
    return {"kind": input.kind, "size": list(input.size_of(sample)), "plural": input.samples}


def _row(worker: _Worker, times: Sequence[Sequence[float]], sample: Mapping[str, Any]) -> dict[str, Any]:
    about = worker.about
    steps = np.array(times) * 1000  # (runs, 3) milliseconds
    whole = steps.sum(1)
    artefact, settings, options = about["artefact"], about["settings"], about["options"]
    return {
        "kind": "latency",
        "artefact_sha256": artefact["sha256"],
        "file": artefact["file"],
        "engine": settings["engine"],
        "device": settings["device"],
        "precision": settings["precision"],
        "threads": options.get("threads"),
        "sample": dict(sample),
        "inputs": settings["inputs"],
        "runs": len(times),
        "latency_ms": {f"p{share}": float(np.percentile(whole, share)) for share in (50, 90, 99)},
        "steps_ms": {name: float(np.median(steps[:, i])) for i, name in enumerate(_STEPS)},
        "samples_per_s": float(1000 / whole.mean()),
        "load_s": about["load_s"],
        **worker.memory,
        "machine": machine(),
        "packages": packages(),
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["zoo", *sys.argv[1:]]),
    }


def _sample_text(row: Mapping[str, Any]) -> str:
    """`image 256 x 512`."""
    return f"{row['sample']['kind']} {' x '.join(map(str, row['sample']['size']))}"


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints one line per engine, with times in milliseconds."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    headings = (
        "engine",
        "device",
        "precision",
        "threads",
        "p50",
        "p90",
        "p99",
        "pre",
        "infer",
        "post",
        f"{rows[0]['sample']['plural']}/s",
        "MB",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("engine", "device", "precision") else "right")
    for row in rows:
        table.add_row(
            row["engine"],
            row["device"],
            row["precision"],
            str(row["threads"] or ""),
            *(f"{row['latency_ms'][share]:.1f}" for share in ("p50", "p90", "p99")),
            *(f"{row['steps_ms'][step]:.1f}" for step in _STEPS),
            f"{row['samples_per_s']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
        )
    console = Console()
    console.print(f"{_sample_text(rows[0])}, {rows[0]['runs']} runs per engine, times in ms", highlight=False)
    console.print(table)


def write_plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the median time of each step as stacked bars, with markers at p90 and p99 of the total."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.5 * len(rows)), layout="constrained")
    names = [f"{row['engine']} {row['precision']}\n{row['device']}" for row in rows]
    left = np.zeros(len(rows))
    for step, color in zip(_STEPS, ("#8da0cb", "#1f4e79", "#66a182"), strict=True):
        values = np.array([row["steps_ms"][step] for row in rows])
        axes.barh(names, values, left=left, color=color, label=step)
        left += values
    for share, mark in (("p90", "|"), ("p99", "x")):
        axes.plot([row["latency_ms"][share] for row in rows], range(len(rows)), mark, color="black", label=share)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds")
    axes.set_title(f"{rows[0]['file'].split('/')[-1]}, {_sample_text(rows[0])}", fontsize=9)
    axes.legend(fontsize=8, ncols=5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    with atomic_file(path) as handle:
        figure.savefig(handle, format="png", dpi=120)
    pyplot.close(figure)
