"""Two baselines for segmentation of sweeps: always the most frequent class, and a histogram over height and range.

    python benchmarks/lidar_baselines.py --train semantickitti=runs/sweeps --test semantickitti=DIR --test folder=DIR

Both are fitted on labelled sweeps (of the synthetic world, for the figures in docs/lidar.md) and evaluated with the
metric of `zoo evaluate`, class map included. The histogram predicts, for each cell of 0.2 m of height above the ground
and 5 m of range, the class with the largest sum over the sweeps of (points of the class in the cell) / (points of the
class): rare classes count as much as frequent ones.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator

import numpy as np

from zoo.classes import ClassTable
from zoo.data import open_dataset, parse_source
from zoo.data.dataset import Dataset
from zoo.evaluate.metrics.segmentation3d import Segmentation3DMetric
from zoo.frame import SensorFacts, Sweep
from zoo.prediction import Segmentation3D
from zoo.sensors import component, sensor_axes
from zoo.tasks.segmentation3d import Segmentation3DTask

HEIGHT_M = np.arange(-3.0, 6.0, 0.2)
RANGE_M = np.arange(5.0, 60.0, 5.0)


def sweeps_of(dataset: Dataset) -> Iterator[tuple[Sweep, np.ndarray, np.ndarray]]:
    """Each labelled sweep with its labels and the `(N,)` cell of each point."""
    for frame in dataset.frames:
        if not frame.lidars:
            continue
        ((sweep, *_),) = frame.lidars.values()
        if (labels := sweep.labels) is not None:
            yield sweep, labels, cells(sweep)


def cells(sweep: Sweep) -> np.ndarray:
    """`(N,)` number of the cell of height above the ground and range."""
    facts = sweep.sensor or SensorFacts()
    up = sensor_axes(facts)[2]
    xyz = sweep.points[:, :3]
    height = component(xyz.T, up) + (facts.height_m or 1.8)
    reach = np.linalg.norm(np.delete(xyz, "xyz".index(up[1]), axis=1), axis=1)
    return np.searchsorted(HEIGHT_M, height) * (len(RANGE_M) + 1) + np.searchsorted(RANGE_M, reach)


def fit(dataset: Dataset) -> dict[str, np.ndarray]:
    """The class of each cell, by baseline."""
    size = (len(HEIGHT_M) + 1) * (len(RANGE_M) + 1)
    counts = np.zeros((len(dataset.classes), size))
    for _, labels, cell in sweeps_of(dataset):
        known = labels < len(dataset.classes)
        np.add.at(counts, (labels[known], cell[known]), 1)
    total = counts.sum(1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return {"majority": np.full(size, total.argmax()), "histogram": share.argmax(0)}


def miou(dataset: Dataset, classes: ClassTable, table: np.ndarray) -> tuple[float, float]:
    """mIoU by the data set's rule, and over the classes that occur, in percent."""
    rules = {"absent_classes": dataset.absent_classes}
    metric = Segmentation3DMetric(Segmentation3DTask(classes), dataset.classes, **rules)
    tallies = []
    frames = [frame for frame in dataset.frames if metric.has_truth(frame)]
    for frame, (sweep, _, cell) in zip(frames, sweeps_of(dataset), strict=True):
        labels = table[cell].astype(np.uint8)
        prediction = Segmentation3D(labels, np.ones(len(labels), np.float32), classes, sweep.points)
        axes = sensor_axes(sweep.sensor or SensorFacts())
        tallies.append(metric.tally(frame, dataclasses.replace(prediction, axes=axes)))
    figures = metric.figures(tallies)
    return 100 * figures["miou"].value, 100 * figures["miou_occurring"].value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="KIND=DIR")
    parser.add_argument("--train-split", default="train", help="its split")
    parser.add_argument("--test", required=True, action="append", help="KIND=DIR, split val")
    arguments = parser.parse_args()
    kind, path = parse_source(arguments.train)
    training = open_dataset(kind, path, split=arguments.train_split)
    print(f"| {'data':40} | baseline  | mIoU | classes that occur |\n| --- | --- | ---: | ---: |")
    tables = fit(training)
    for source in arguments.test:
        kind, path = parse_source(source)
        dataset = open_dataset(kind, path, split="val")
        for name, table in tables.items():
            rule, occurring = miou(dataset, training.classes, table)
            print(f"| {source:40} | {name:9} | {rule:.1f} | {occurring:.1f} |", flush=True)


if __name__ == "__main__":
    main()
