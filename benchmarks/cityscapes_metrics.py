"""Compares our mIoU, IoU and iIoU with the official Cityscapes script on the same files, in results and speed.

    python -m venv /tmp/official && /tmp/official/bin/pip install cityscapesscripts
    python benchmarks/cityscapes_metrics.py --official /tmp/official/bin/python

This runs the script's pure Python path. The published package lacks its Cython extension; to compare with that, install
from a checkout of github.com/mcordts/cityscapesScripts:

    /tmp/official/bin/pip install cython setuptools numpy
    CYTHONIZE_EVAL=1 /tmp/official/bin/pip install --no-build-isolation CHECKOUT

Both read the label, instance and prediction PNGs of the same 100 frames of 2048 x 1024 pixels from the disk cache and
return the same figures. Ours runs once with one thread, like the official script, and once with two. On a shared
machine, compare the CPU times. The script needs `np.in1d`, which NumPy 2.4 removed, so a replacement is defined; the
script is otherwise unmodified.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from zoo.classes import CITYSCAPES
from zoo.data import open_dataset
from zoo.data.labels import CITYSCAPES_IDS, LABEL_FROM_ID, read_label_ids
from zoo.evaluate.metrics.counts import INSTANCE_CLASSES, Tally, class_iou, instance_iou, mean_iou, tally

HEIGHT, WIDTH = 1024, 2048
_OFFICIAL = """
import json, sys, time, glob
import numpy as np
if not hasattr(np, "in1d"):
    np.in1d = np.isin
import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
truth = sorted(glob.glob(sys.argv[1] + "/gtFine/val/*/*_gtFine_labelIds.png"))
args = official.args
args.predictionPath = sys.argv[1] + "/results"
args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, sys.argv[2] == "1"
predictions = [official.getPrediction(args, path) for path in truth]
start, cpu = time.perf_counter(), time.process_time()
scores = official.evaluateImgLists(predictions, truth, args)
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
keys = ("classScores", "classInstScores", "averageScoreClasses", "averageScoreInstClasses")
print(json.dumps({"seconds": seconds, "cpu": cpu, "cython": official.CSUPPORT, **{k: scores[k] for k in keys}}))
"""


def write_frame(folder: Path, number: int) -> None:
    """Writes one frame of layered shapes: regular label ids, instance ids, and a prediction with various errors."""
    rng = np.random.default_rng(number)
    labels = Image.new("L", (WIDTH, HEIGHT), 23)
    instances = Image.new("I", (WIDTH, HEIGHT), 23)
    draw, draw_instances = ImageDraw.Draw(labels), ImageDraw.Draw(instances)

    def paint(polygon: list[tuple[float, float]], id: int, instance: int | None = None) -> None:
        draw.polygon(polygon, fill=id)
        draw_instances.polygon(polygon, fill=id if instance is None else id * 1000 + instance)

    horizon = rng.integers(380, 520)
    still = (11, 11, 11, 12, 13, 17, 21, 4, 15)  # facades, trees, fences, poles and some ignored classes
    for _ in range(30):
        x, w, top = rng.integers(0, WIDTH), rng.integers(15, 500), rng.integers(50, horizon)
        paint([(x, top), (x + w, top - 20), (x + w, 620), (x, 600)], int(rng.choice(still)))
    paint([(0, horizon + 100), (WIDTH, horizon + 80), (WIDTH, HEIGHT), (0, HEIGHT)], 8)
    paint([(WIDTH * 0.45, horizon), (WIDTH * 0.55, horizon), (WIDTH * 0.9, HEIGHT), (WIDTH * 0.05, HEIGHT)], 7)
    counters = dict.fromkeys(range(24, 34), 0)
    for _ in range(rng.integers(10, 40)):
        id = int(rng.choice([24, 24, 24, 25, 26, 26, 26, 26, 27, 28, 29, 31, 32, 33]))
        x, y, size = rng.integers(0, WIDTH), rng.integers(horizon, 900), 10 + 250 * rng.random() ** 3
        corners = rng.normal(0, 0.12, (9, 2)) + [(math.cos(a), math.sin(a)) for a in np.linspace(0, 5.6, 9)]
        group = rng.random() < 0.1  # a group region carries the plain class id
        paint([(x + size * a, y + size * b) for a, b in corners], id, None if group else counters[id])
        counters[id] += not group
    draw.rectangle((0, 1000, WIDTH, HEIGHT), fill=1)
    draw_instances.rectangle((0, 1000, WIDTH, HEIGHT), fill=1)
    truth = np.array(labels)
    prediction = np.roll(truth, rng.integers(-4, 5), axis=int(rng.integers(2)))
    for _ in range(40):  # wrong regions of evaluated classes
        x, y, w, h = rng.integers(0, WIDTH), rng.integers(0, HEIGHT), rng.integers(4, 120), rng.integers(4, 120)
        prediction[y : y + h, x : x + w] = rng.choice(CITYSCAPES_IDS)
    ignored = LABEL_FROM_ID[prediction] == 255  # a network never predicts ignored classes
    prediction[ignored] = np.array(CITYSCAPES_IDS)[(np.cumsum(ignored)[ignored.ravel()] // 5000) % 19]
    name = f"bench_{number // 50:06d}_{number:06d}"
    for path, image in (
        (folder / f"gtFine/val/bench/{name}_gtFine_labelIds.png", labels),
        (folder / f"gtFine/val/bench/{name}_gtFine_instanceIds.png", Image.fromarray(np.array(instances, np.uint16))),
        (folder / f"leftImg8bit/val/bench/{name}_leftImg8bit.png", labels),  # only its name is read
        (folder / f"results/{name}_labelIds.png", Image.fromarray(prediction)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def ours(folder: Path, threads: int, instances: bool) -> dict[str, Any]:
    """Our figures from the same files, in the format of the official script."""
    frames = open_dataset("cityscapes", folder, "val").frames

    def one(index: int) -> Tally:
        camera = frames[index].camera
        prediction = read_label_ids(folder / f"results/{frames[index].id}_labelIds.png")
        truth = camera.labels  # decoded at each access
        assert truth is not None
        return tally(truth, prediction, None, 19, 255, camera.instances if instances else None)

    start, cpu = time.perf_counter(), time.process_time()
    matrix, weighted = np.zeros((19, 20), np.int64), np.zeros((8, 2))
    with ThreadPoolExecutor(threads) as pool:
        for record in (map if threads == 1 else pool.map)(one, range(len(frames))):
            matrix += record.matrix
            weighted += 0 if record.instances is None else record.instances
    iou, weighted_iou = class_iou(matrix, "skip"), instance_iou(matrix, weighted)
    mean = mean_iou(matrix, "skip")
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu": cpu,
        "classScores": dict(zip(CITYSCAPES.names, iou.tolist())),
        "classInstScores": {CITYSCAPES.names[c]: v for c, v in zip(INSTANCE_CLASSES, weighted_iou.tolist())},
        "averageScoreClasses": float(mean),
        "averageScoreInstClasses": float(np.nanmean(weighted_iou)) if instances else math.nan,
    }


def official(python: str, folder: Path, instances: bool) -> dict[str, Any]:
    command = [python, "-c", _OFFICIAL, str(folder), str(int(instances))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(f"the official script failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(expected: dict[str, Any], got: dict[str, Any], instances: bool) -> None:
    """Prints the largest difference; exits at the first figure that differs in the 3 digits that the script prints."""
    pairs = [("mIoU", expected["averageScoreClasses"], got["averageScoreClasses"])]
    pairs += [(name, expected["classScores"][name], got["classScores"][name]) for name in CITYSCAPES.names]
    if instances:
        pairs += [("iIoU", expected["averageScoreInstClasses"], got["averageScoreInstClasses"])]
        pairs += [(f"iIoU {n}", expected["classInstScores"][n], v) for n, v in got["classInstScores"].items()]
    for name, a, b in pairs:
        if f"{a:5.3f}" != f"{b:5.3f}":
            sys.exit(f"{name}: official {a!r}, ours {b!r}")
    worst = max(abs(a - b) for _, a, b in pairs if not math.isnan(a))
    print(
        f"  {len(pairs)} figures equal in all printed digits; largest difference {worst:.1e}; mIoU {pairs[0][2]:5.3f}"
    )


def print_parts(folder: Path) -> None:
    """Prints the CPU time in milliseconds of each step per frame (median of 20 frames)."""
    rows = []
    for frame in open_dataset("cityscapes", folder, "val").frames[:20]:
        marks = [time.thread_time()]
        truth, prediction = frame.camera.labels, read_label_ids(folder / f"results/{frame.id}_labelIds.png")
        marks.append(time.thread_time())
        instances = frame.camera.instances
        marks.append(time.thread_time())
        assert truth is not None
        tally(truth, prediction, None, 19, 255)
        marks.append(time.thread_time())
        tally(truth, prediction, None, 19, 255, instances)
        marks.append(time.thread_time())
        rows.append(np.diff(marks) * 1e3)
    pair, instance_map, counts, both = np.median(rows, axis=0)
    print(f"per frame: decoding the pair {pair:.1f} ms, counting it {counts:.1f} ms")
    print(f"           decoding the instances {instance_map:.1f} ms, counting pair and instances {both:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, help="python with cityscapesscripts installed")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="folder in which to keep the frames and reuse them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "results").is_dir():
            for number in range(arguments.frames):
                write_frame(folder, number)
        for instances in (False, True):
            print("mIoU and iIoU" if instances else "mIoU only")
            times: dict[str, list[tuple[float, float]]] = {"official": [], "ours, 1 thread": [], "ours, 2 threads": []}
            for _ in range(arguments.repeats):
                expected = official(arguments.official, folder, instances)
                one, two = ours(folder, 1, instances), ours(folder, 2, instances)
                for name, result in zip(times, (expected, one, two)):
                    times[name].append((result["seconds"], result["cpu"]))
            print(f"  official script with Cython: {'yes' if expected['cython'] else 'no'}")
            compare(expected, one, instances)
            compare(expected, two, instances)
            medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in times.items()}
            for name, (seconds, cpu) in medians.items():
                wall, processor = seconds / medians["official"][0], cpu / medians["official"][1]
                print(
                    f"  {name:16} {seconds:7.2f} s, ratio {wall:4.2f}; processor {cpu:7.2f} s, ratio {processor:4.2f}"
                )
        print_parts(folder)


if __name__ == "__main__":
    main()
