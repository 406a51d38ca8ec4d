"""Measures the cold start: the time that `zoo predict` takes on one image in addition to the inference itself.

    python benchmarks/cold_start.py MODEL [--engine onnx] [--runs 7]

The command runs in separate processes. The inference time is the median of warm runs of the same engine on the same
image in this process. The difference covers interpreter startup, imports, checking the files, creating the session,
decoding the image, preprocessing, decoding the labels and writing the results. `python -c pass` is shown for
comparison.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import zoo
from zoo.inputs.image import as_image
from zoo.synthetic.embedded import embedded_frames


def seconds(command: list[str], runs: int) -> float:
    """Median wall time of a command, after one run to fill the disk cache."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def warm_inference(model: str, engine: str, path: Path) -> float:
    """Median seconds of the inference alone."""
    predictor = zoo.load(model, engine=engine)
    prepared = predictor.prepare(as_image(path))
    times = []
    for _ in range(12):
        start = time.perf_counter()
        predictor.infer(prepared)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "street.png"
        Image.fromarray(embedded_frames()[0].camera.image).save(path)
        words = ["predict", options.model, str(path), "--out", f"{folder}/out", "--engine", options.engine]
        whole = seconds([sys.executable, "-P", "-m", "zoo.cli", *words], options.runs)
        empty = seconds([sys.executable, "-c", "pass"], options.runs)
        inference = warm_inference(options.model, options.engine, path)
    print(f"zoo {' '.join(words[:2])} --engine {options.engine}: {whole:.3f} s, median of {options.runs}")
    print(f"  inference {inference:.3f} s, everything else {whole - inference:.3f} s; python -c pass {empty:.3f} s")


if __name__ == "__main__":
    main()
