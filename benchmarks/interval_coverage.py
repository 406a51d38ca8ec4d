"""Measures the coverage of the 95 % intervals in a simulation and on windows of a real drive.

    python benchmarks/interval_coverage.py                        # the table of docs/evaluation.md
    python benchmarks/interval_coverage.py --records runs/camvid/frames/MODEL.camvid.HASH.jsonl --sequence 0016E5

The simulated frames are confusion matrices of eleven classes, some of which are absent from most frames. Difficulty and
the classes' area, presence and accuracy all follow the same first-order autoregression from frame to frame, so N frames
with correlation rho are worth N (1 - rho) / (1 + rho) independent ones. The simulation uses none of the code under
test. The true value is computed from 200,000 independent frames, or, for three drives, from 10,000 for each level of
difficulty that a drive can have. `before` is the previous method: 2,000 percentile bootstrap replicates over images,
over sequences if there are at least five, or else over blocks of ten frames.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np

from zoo.evaluate.intervals import Sampling, Spread, interval
from zoo.evaluate.metrics.counts import mean_iou
from zoo.evaluate.summary import Measured, difference, rpd

PIXELS = 172_800
#        sky  building pole road pavement tree sign fence car pedestrian bicyclist
SHARE = (0.17, 0.24, 0.03, 0.27, 0.08, 0.11, 0.02, 0.04, 0.06, 0.02, 0.02)
PRESENCE = (1, 1, 0.95, 1, 0.9, 0.95, 0.5, 0.4, 0.7, 0.3, 0.15)
ACCURACY = (3.0, 2.0, 0.0, 3.0, 1.5, 1.8, -0.3, 0.2, 1.5, 0.0, 0.3)  # logits
CLASSES = len(SHARE)
SHIFT = {"source": 0.0, "target": -0.8}  # added to all logits, by domain
TRUTH_FRAMES = 200_000
Bounds = tuple[float, float] | None
_THRESHOLD = np.array([NormalDist().inv_cdf(p) if p < 1 else np.inf for p in PRESENCE])
_CONFUSION = np.random.default_rng(5).dirichlet(np.full(CLASSES, 0.7), CLASSES) * (1 - np.eye(CLASSES))
_CONFUSION /= _CONFUSION.sum(1, keepdims=True)


def autoregression(rng: np.random.Generator, drives: int, frames: int, columns: int, rho: float) -> np.ndarray:
    """`(drives, frames, columns)` values of mean 0 and variance 1, with correlation `rho` between neighbours."""
    values = rng.standard_normal((drives, frames, columns))
    values[:, 1:] *= np.sqrt(1 - rho**2)
    for t in range(1, frames):
        values[:, t] += rho * values[:, t - 1]
    return values


def simulate(
    rng: np.random.Generator,
    frames: int,
    rho: float = 0.0,
    *,
    level: np.ndarray | None = None,
    domain: str = "source",
    models: int = 1,
) -> list[np.ndarray]:
    """Simulates `(drives * frames, C, C + 1)` counts for each model on the same frames.

    Args:
        rng: Random generator.
        frames: Frames per drive.
        rho: Correlation of neighbouring frames.
        level: `(drives,)` difficulty shared by all frames of a drive; `None` for a single drive without a shared part.
        domain: `source` or `target`.
        models: Number of models; each further one is slightly worse and makes independent errors.
    """
    drives = 1 if level is None else len(level)
    hard = autoregression(rng, drives, frames, 1, rho)
    if level is not None:
        hard = np.sqrt(0.5) * (hard + level[:, None, None])
    present = autoregression(rng, drives, frames, CLASSES, rho) < _THRESHOLD
    share = np.array(SHARE) * np.exp(0.5 * autoregression(rng, drives, frames, CLASSES, rho)) * present
    truth = np.floor(PIXELS * share / share.sum(-1, keepdims=True))
    made = []
    for model in range(models):
        own = autoregression(rng, drives, frames, CLASSES, rho)
        logit = np.array(ACCURACY) + SHIFT[domain] - 0.15 * model + 0.6 * hard + 0.5 * own
        hits = np.floor(truth / (1 + np.exp(-logit)))
        counts = (truth - hits)[..., None] * _CONFUSION + hits[..., None] * np.eye(CLASSES)
        counts = np.concatenate([counts, np.zeros((*hits.shape, 1))], -1)
        made.append(counts.reshape(-1, CLASSES, CLASSES + 1))
    return made


def miou(counts: np.ndarray) -> float:
    return float(mean_iou(counts.sum(0), "skip"))


def measured(counts: np.ndarray, sampling: Sampling) -> Measured:
    sums = sampling.weights @ counts.reshape(len(counts), -1)
    replicates = mean_iou(sums.reshape(-1, *counts.shape[1:]), "skip")
    return Measured({}, "miou", miou(counts), sampling.contributions(miou(counts), replicates), sampling)


def before(counts: list[np.ndarray], scenes: list[str], video: bool, figure: Callable[..., np.ndarray]) -> Bounds:
    """Interval of the previous method; a second domain, if there is one, is resampled independently."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero([scene == name for scene in scenes]) for name in dict.fromkeys(scenes)]
    if not video:
        blocks = [np.array([i]) for i in range(len(scenes))]
    elif len(members) >= 5:
        blocks = members
    else:
        blocks = [m[(start + np.arange(min(10, len(m)))) % len(m)] for m in members for start in range(len(m))]
    draws = round(len(scenes) / np.mean([len(block) for block in blocks]))
    if draws < 2:
        return None
    sums = [np.stack([domain[block].sum(0) for block in blocks]).reshape(len(blocks), -1) for domain in counts]

    def draw() -> np.ndarray:
        picks = rng.integers(len(blocks), size=(2000, draws)) + np.arange(2000)[:, None] * len(blocks)
        return np.bincount(picks.ravel(), minlength=2000 * len(blocks)).reshape(2000, -1).astype(float)

    drawn = draw()
    values = []
    for domain in sums:
        values.append(mean_iou((drawn @ domain).reshape(2000, *counts[0].shape[1:]), "skip"))
        drawn = drawn if figure is np.subtract else draw()
    low, high = np.percentile(figure(*values), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Case:
    """One row of the table: `drives` drives of `frames` frames each; images are a single drive with `rho` 0."""

    what: str
    drives: int
    frames: int
    rho: float = 0.0
    figure: str = "mIoU"

    @property
    def units(self) -> float:
        """Effective number of independent units, known from the design of the simulation."""
        if self.what == "sequences":
            return self.drives
        return self.drives * self.frames * (1 - self.rho) / (1 + self.rho)


def drives_of(units: int, rho: float, drives: int = 1) -> int:
    """Frames per drive so that all drives together are worth `units` independent frames."""
    return round(units * (1 + rho) / (1 - rho) / drives)


CASES = [
    *(Case("images", 1, n) for n in (2, 5, 10, 20, 50, 200)),
    *(Case("sequences", n, 20, 0.9) for n in (10, 20, 40)),
    *(Case("one drive", 1, drives_of(n, rho), rho) for rho in (0.5, 0.8, 0.9, 0.95) for n in (5, 10, 20, 50)),
    *(Case("three drives", 3, drives_of(n, 0.9, 3), 0.9) for n in (5, 10, 20, 50)),
    *(Case("images", 1, n, figure=figure) for figure in ("difference", "rPD") for n in (10, 50)),
    *(Case("one drive", 1, drives_of(n, 0.9), 0.9, figure) for figure in ("difference", "rPD") for n in (10, 50)),
]


class Truth:
    """True values, from the expected counts per frame, overall and for given drive difficulties."""

    def __init__(self) -> None:
        self._levels = np.linspace(-4, 4, 33)
        self.means = {domain: self._mean(domain, TRUTH_FRAMES, None) for domain in SHIFT}
        given = [self._mean("source", 10_000, np.array([level])) for level in self._levels]
        self._given = np.stack([means[0] for means in given])

    @staticmethod
    def _mean(domain: str, frames: int, level: np.ndarray | None) -> list[np.ndarray]:
        rng, parts = np.random.default_rng(99), max(1, frames // 10_000)
        sums = [simulate(rng, frames // parts, level=level, domain=domain, models=2) for _ in range(parts)]
        return [np.mean([part[model].mean(0) for part in sums], axis=0) for model in range(2)]

    def of_drives(self, levels: np.ndarray) -> float:
        """mIoU of infinitely long drives with these difficulties."""
        places = np.clip((levels + 4) * 4, 0, 31.999)
        low = places.astype(int)
        share = (places - low)[:, None, None]
        return float(mean_iou(((1 - share) * self._given[low] + share * self._given[low + 1]).mean(0), "skip"))

    def value(self, figure: str) -> float:
        """Figure of infinite data: mIoU, its difference between two models, or rPD between two domains."""
        first, second = (float(mean_iou(mean, "skip")) for mean in self.means["source"])
        if figure == "difference":
            return second - first
        return float(mean_iou(self.means["target"][0], "skip")) / first if figure == "rPD" else first


def run_case(case: Case, truth: Truth, simulations: int, compare: int) -> Iterator[tuple[float, Bounds, Bounds]]:
    """Yields the true value, the previous interval (first `compare` simulations only) and the current interval."""
    video = case.what != "images"
    scenes = [str(drive) for drive in range(case.drives) for _ in range(case.frames)]
    sampling = Sampling(scenes, video=video)
    for number in range(simulations):
        rng = np.random.default_rng([number, case.drives, case.frames, int(100 * case.rho)])
        level = rng.standard_normal(case.drives) if case.drives > 1 else None
        true = truth.of_drives(level) if case.what == "three drives" and level is not None else truth.value(case.figure)
        make = partial(simulate, rng, case.frames, case.rho)
        now: Bounds
        if case.figure == "mIoU":
            counts = make(level=level)
            one = measured(counts[0], sampling)
            now = interval(one.value, sampling.spread(one.contributions), "fraction")
            figure: Callable[..., np.ndarray] = lambda value: value  # noqa: E731
        elif case.figure == "difference":
            counts = make(models=2)[::-1]
            found = difference(measured(counts[0], sampling), measured(counts[1], sampling), None)["miou"]
            now, figure = found["interval"], np.subtract
        else:
            counts = make(domain="target") + make()
            found = rpd(measured(counts[0], sampling), measured(counts[1], sampling), ("", ""))
            now, figure = found["interval"], np.divide
        yield true, before(counts, scenes, video, figure) if number < compare else None, now


def coverage(results: list[tuple[float, Bounds]]) -> tuple[float, float, float]:
    """Share of simulations with an interval, share of these that contain the true value, and their median width."""
    given = [(true, bounds) for true, bounds in results if bounds is not None]
    if not given:
        return 0.0, float("nan"), float("nan")
    held = [bounds[0] <= true <= bounds[1] for true, bounds in given]
    return len(given) / len(results), float(np.mean(held)), float(np.median([b[1] - b[0] for _, b in given]))


def table(simulations: int, compare: int) -> None:
    truth = Truth()
    print("| figure | frames | correlation | effective units | before: held | width | now: given | held | width |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        results = list(run_case(case, truth, simulations, compare))
        old = coverage([(true, bounds) for true, bounds, _ in results[:compare]])
        new = coverage([(true, bounds) for true, _, bounds in results])
        frames = f"{case.frames} images" if case.what == "images" else f"{case.what}, {case.drives * case.frames}"
        shown = [f"{100 * x:.1f}" if x == x else "–" for x in (old[1], old[2], new[0], new[1], new[2])]
        print(f"| {case.figure} | {frames} | {case.rho:g} | {case.units:.0f} | {' | '.join(shown)} |", flush=True)


def windows(records: Path, sequence: str, sizes: list[int]) -> None:
    """Prints how often the intervals of windows of a real drive contain the value of the whole drive."""
    rows = sorted((json.loads(line) for line in records.read_text().splitlines()), key=lambda row: row["frame"])
    rows = [row for row in rows if row["frame"].startswith(sequence)]
    counts = np.array([row["matrix"] for row in rows], float).reshape(len(rows), rows[0]["classes"], -1)
    whole = miou(counts)
    print(f"{len(rows)} frames of {sequence}: mIoU {100 * whole:.1f}")
    print("| window | windows | before: held | now: given | held | median effective units |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in (size for size in sizes if size < len(rows)):
        old, new, units = [], [], []
        for start in range(len(rows) - size + 1):
            window, scenes = counts[start : start + size], [sequence] * size
            sampling = Sampling(scenes, video=True)
            one = measured(window, sampling)
            spread: Spread | None = sampling.spread(one.contributions)
            units.append(0 if spread is None else spread.units)
            old.append((whole, before([window], scenes, True, lambda value: value)))
            new.append((whole, interval(one.value, spread, "fraction")))
        held = [coverage(old)[1], *coverage(new)[:2]]
        shown = [f"{100 * x:.0f}" if x == x else "–" for x in held]
        print(f"| {size} | {len(old)} | {' | '.join(shown)} | {np.median(units):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500, help="simulations per row (default: 500)")
    parser.add_argument(
        "--compare", type=int, default=100, help="how many also run the slow previous method (default: 100)"
    )
    parser.add_argument(
        "--records", type=Path, help="per-frame records of `zoo evaluate`; evaluates windows of a real drive instead"
    )
    parser.add_argument("--sequence", default="", help="prefix of the frame names of the drive")
    parser.add_argument("--windows", type=int, nargs="+", default=[31, 62, 93], help="frames per window")
    arguments = parser.parse_args()
    started = time.perf_counter()
    if arguments.records is None:
        table(arguments.simulations, arguments.compare)
    else:
        windows(arguments.records, arguments.sequence, arguments.windows)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
