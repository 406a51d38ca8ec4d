"""Runs one engine in a separate process, so that its memory and threads can be measured on their own.

The protocol is one JSON object per line: the first request says what to load, each further one how many runs to time.
Every request is answered with one line.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError
from zoo.loading import load
from zoo.predictor import Predictor

__all__ = ["main"]


def _load(request: Mapping[str, Any]) -> tuple[Predictor, dict[str, Any]]:
    start = time.perf_counter()
    predictor = load(
        request["model"],
        engine=request["engine"],
        device=request["device"],
        precision=request["precision"],
        threads=request["threads"],
        file=request["file"],
        input_settings=request["input_settings"],
    )
    seconds = time.perf_counter() - start
    answer = {
        "artefact": dict(predictor.artefact),
        "settings": predictor.settings,
        "options": dict(predictor.engine.spec.options),
        "name": predictor.name,
        "load_s": seconds,
    }
    return predictor, answer


def _runs(predictor: Predictor, sample: np.ndarray, count: int) -> list[list[float]]:
    """Seconds spent on preprocessing, inference and postprocessing in each run."""
    times = []
    for _ in range(count):
        marks = [time.perf_counter()]
        prepared = predictor.prepare(sample)
        marks.append(time.perf_counter())
        prepared, outputs = predictor.infer(prepared)
        marks.append(time.perf_counter())
        predictor.finish(outputs, prepared)
        marks.append(time.perf_counter())
        times.append([end - start for start, end in itertools.pairwise(marks)])
    return times


def _memory(device: str) -> dict[str, int | None]:
    torch = sys.modules.get("torch")
    on_device = torch.cuda.max_memory_allocated(device) if torch is not None and device.startswith("cuda") else None
    return {"peak_bytes": _peak_bytes(), "peak_device_bytes": on_device}


def _peak_bytes() -> int:
    """Peak resident memory of this process.

    On Linux, `ru_maxrss` is inherited from the parent process, so `VmHWM` is read instead.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Answers the parent's requests until it closes the pipe."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # keeps whatever a library prints out of the protocol
    request = json.loads(sys.stdin.readline())
    try:
        predictor, answer = _load(request)
    except InputError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    print(json.dumps(answer), file=answers, flush=True)
    sample = np.load(request["sample"], allow_pickle=False)
    for line in sys.stdin:
        try:
            times = _runs(predictor, sample, json.loads(line)["runs"])
        except InputError as error:  # the file takes a fixed size and the image has another
            print(json.dumps({"error": str(error)}), file=answers, flush=True)
            return
        print(json.dumps({"times": times, **_memory(request["device"])}), file=answers, flush=True)


if __name__ == "__main__":
    main()
