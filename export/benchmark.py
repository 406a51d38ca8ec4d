"""Measures a model's latency, throughput and memory, engine by engine.

Every engine runs in a process of its own; the engines take turns, so that a machine that slows down slows them all.
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
from PIL import Image

from zoo.errors import InputError
from zoo.export.machine import machine, packages
from zoo.files import atomic_file, read_image, write_json
from zoo.folder.model_folder import ModelFolder
from zoo.loading import engines_for, find_folder

__all__ = ["RECORD_KEY", "Arguments", "measure", "run"]

RECORD_KEY = ("kind", "artefact_sha256", "engine", "device", "precision", "threads", "image", "inputs", "machine")
"""Fields that identify a recorded row: measuring the same again replaces it."""
_STEPS = ("preprocessing", "inference", "postprocessing")
_ROUNDS = 5


@dataclass(frozen=True)
class Arguments:
    """Measures one image after the other: latency p50, p90 and p99, split into steps, throughput and peak memory."""

    model: Annotated[str, tyro.conf.Positional]
    """Catalogue name, model folder, or hf-hub:org/name."""
    engine: str = "auto"
    """Engines, with commas between them: torch,onnx,openvino. auto: all that are installed and have a file."""
    device: str = "cpu"
    """Where they run."""
    precision: str = "fp32"
    """Arithmetic."""
    threads: int | None = None
    """CPU threads; by default those that the process may use."""
    file: str | None = None
    """One of the model's files."""
    image: Path | None = None
    """Image to segment; an embedded synthetic frame by default."""
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    """Resize the image to this before anything is measured, for example 512x1024."""
    whole: bool = False
    """Run whole images, whatever the model's configuration says."""
    runs: int = 50
    """Measured runs per engine."""
    warmup: int = 5
    """Runs per engine before that."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/benchmark")
    """Folder for benchmark.json and benchmark.png."""
    record: bool = False
    """Add the figures to the model folder's metrics.json."""


def run(arguments: Arguments) -> int:
    """Measures, prints the table, writes JSON and plot."""
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
    """One row per engine.

    Raises:
        InputError: If the model does not read images, an engine is not there, the image cannot be read, or a number is
            out of range.
    """
    if folder.inputs[0].kind != "image":
        raise InputError(
            f"{folder.name} reads {folder.inputs[0].kind}; only models that read images can be timed with zoo benchmark"
        )
    if arguments.runs < 1 or arguments.warmup < 0:
        raise InputError(f"--runs {arguments.runs} --warmup {arguments.warmup}: at least 1 and 0 are needed")
    if arguments.engine == "auto":
        engines = engines_for(folder, arguments.precision, arguments.file)
    else:
        engines = arguments.engine.split(",")
    if not engines or len(set(engines)) != len(engines):
        raise InputError(f"--engine {arguments.engine}: {'none is there' if not engines else 'one is given twice'}")
    image = _image(arguments)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        path = Path(temporary) / "image.npy"
        np.save(path, image)
        workers = [stack.enter_context(_Worker(arguments, engine, path)) for engine in engines]
        for worker in workers:
            worker.run(arguments.warmup)
        times: list[list[list[float]]] = [[] for _ in workers]
        share = -(-arguments.runs // _ROUNDS)
        for first in range(0, arguments.runs, share):
            for worker, taken in zip(workers, times, strict=True):
                worker.run(1)  # the processor's caches and its threads belonged to another engine until now
                taken += worker.run(min(share, arguments.runs - first))
        return [_row(worker, taken, image, arguments) for worker, taken in zip(workers, times, strict=True)]


class _Worker:
    """A process that runs one engine."""

    def __init__(self, arguments: Arguments, engine: str, image: Path) -> None:
        self._request = {
            "model": str(arguments.model),
            "engine": engine,
            "device": arguments.device,
            "precision": arguments.precision,
            "threads": arguments.threads,
            "file": arguments.file,
            "inference": {"mode": "whole"} if arguments.whole else None,
            "image": str(image),
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
        """Seconds of the steps of so many runs."""
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
            raise RuntimeError(f"the {self._request['engine']} process ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(answer["error"])
        return answer


def _image(arguments: Arguments) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB to measure with."""
    if arguments.image is not None:
        image = read_image(arguments.image)
    else:
        from zoo.synthetic.embedded import embedded_frames

        image = embedded_frames()[0].camera.image
    if arguments.size is None:
        return image
    height, separator, width = arguments.size.partition("x")
    if not separator or not (height.isdigit() and width.isdigit()) or min(int(height), int(width)) < 1:
        raise InputError(f"--size {arguments.size}: expected HxW in pixels, for example 512x1024")
    return np.asarray(Image.fromarray(image).resize((int(width), int(height)), Image.Resampling.BILINEAR))


def _row(worker: _Worker, times: Sequence[Sequence[float]], image: np.ndarray, arguments: Arguments) -> dict[str, Any]:
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
        "image": list(image.shape[:2]),
        "inputs": settings["inputs"],
        "runs": len(times),
        "latency_ms": {f"p{share}": float(np.percentile(whole, share)) for share in (50, 90, 99)},
        "steps_ms": {name: float(np.median(steps[:, i])) for i, name in enumerate(_STEPS)},
        "images_per_s": float(1000 / whole.mean()),
        "load_s": about["load_s"],
        **worker.memory,
        "machine": machine(),
        "packages": packages(),
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["zoo", *sys.argv[1:]]),
    }


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per engine; times in milliseconds."""
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
        "images/s",
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
            f"{row['images_per_s']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
        )
    height, width = rows[0]["image"]
    console = Console()
    console.print(f"image {height} x {width}, {rows[0]['runs']} runs each in turn, milliseconds", highlight=False)
    console.print(table)


def write_plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Median of the steps as stacked bars, p90 and p99 of the whole as marks."""
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
    axes.set_xlabel("milliseconds per image")
    axes.set_title(f"{rows[0]['file'].split('/')[-1]}, image {rows[0]['image'][0]} x {rows[0]['image'][1]}", fontsize=9)
    axes.legend(fontsize=8, ncols=5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    with atomic_file(path) as handle:
        figure.savefig(handle, format="png", dpi=120)
    pyplot.close(figure)
