"""Compares how bright pictures of the synthetic world are with real pictures, over whole pictures and without labels.

    python benchmarks/picture_statistics.py --places 40 --real camvid 'data/camvid/train/00[01]6*.jpg' \
        kitti 'data/kitti/training/image_2/*.png'

One row per source, each value the mean over its pictures: share of pixels whose mean of the channels exceeds 0.97 of
white, mean, 10th, 50th and 90th percentile, standard deviation, and the mean difference between the largest and the
smallest channel. The last row gives every real source the same weight.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass, field

import numpy as np
import tyro
from PIL import Image

from zoo.condition import Condition
from zoo.synthetic import render_frame


@dataclass(frozen=True)
class Arguments:
    """Compares brightness statistics of synthetic and real pictures."""

    real: dict[str, str] = field(default_factory=dict)
    """Name and glob pattern of each set of real pictures."""
    places: int = 40
    """Synthetic places, one picture each."""
    seed: int = 3000
    """Seed of the first place."""
    size: tuple[int, int] = (128, 256)
    """Height and width of the synthetic pictures."""
    condition: str = "clear"
    """Condition of the synthetic pictures."""


def statistics(image: np.ndarray) -> np.ndarray:
    """The seven values of one `(H, W, 3)` uint8 picture."""
    values = image.astype(np.float32) / 255
    grey = values.mean(2)
    spread = (values.max(2) - values.min(2)).mean()
    return np.array([(grey > 0.97).mean(), grey.mean(), *np.percentile(grey, (10, 50, 90)), grey.std(), spread])


def main(arguments: Arguments) -> None:
    """Prints the table."""
    rows = {}
    for name, pattern in arguments.real.items():
        rows[name] = [statistics(np.asarray(Image.open(path).convert("RGB"))) for path in sorted(glob.glob(pattern))]
    real = [np.mean(values, 0) for values in rows.values()]
    condition = Condition.parse(arguments.condition)
    seeds = range(arguments.seed, arguments.seed + arguments.places)
    rows["synthetic"] = [
        statistics(render_frame(seed, condition=condition, size=arguments.size).camera.image) for seed in seeds
    ]
    if real:
        rows["all real"] = [np.mean(real, 0)]
    print(f"{'':12}{'pictures':>10}{'> 0.97':>8}{'mean':>8}{'10 %':>8}{'50 %':>8}{'90 %':>8}{'std':>8}{'colour':>8}")
    for name, values in rows.items():
        count = "" if name == "all real" else str(len(values))
        print(f"{name:12}{count:>10}" + "".join(f"{value:8.3f}" for value in np.mean(values, 0)))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
