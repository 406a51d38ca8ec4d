"""95 % intervals from per-frame records: a jackknife over what is independent, and Student's t.

Every figure is computed again without each unit in turn; what a unit changes is its contribution, and the spread of
the contributions gives the standard error. What the units are depends on the data:

- images of an image data set: each one, taken as independent;
- places that come again under every condition, and video of many sequences: each place, each sequence;
- video of few sequences ("drives"): the frames in order. Neighbouring frames show nearly the same, so N of them are
  worth only as many independent units as the lower of two estimates says: N (1 - r) / (1 + r) from the correlation r
  of neighbours, and N times the variance over that of the slowest waves of the contributions (the first four or more
  cosines over each drive), which see every correlation that is shorter than the drive. The number of waves is the
  degrees of freedom. Such an interval is about other moments of the same drives, not about other drives.

Below ten effective units there is no interval: the spread of so few cannot be estimated well enough. The simulation
`benchmarks/interval_coverage.py` measures the coverage; its table stands in `docs/evaluation.md`.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 11 (jackknife); Lazarus, Lewis, Stock
and Watson, "HAR Inference: Recommendations for Practice" (2018), equal-weighted cosines with t quantiles; Marriott and
Pope, "Bias in the Estimation of Autocorrelations" (1954); Kish, "Survey Sampling" (1965), units of unequal size;
Welch, "The generalization of 'Student's' problem" (1947), degrees of freedom of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["MIN_UNITS", "Sampling", "Spread", "combine", "interval", "t_quantile"]

MIN_UNITS = 10
"""Effective units below which no interval is given."""
_MAX_UNITS = 1000  # more units say no more and cost time: consecutive ones are then left out together
_FEW_WAVES, _MANY_WAVES = 4, 20
_UNITS_PER_WAVE = 5  # faster waves than that no longer see the slow changes
Scale = Literal["fraction", "ratio", "difference"]


@dataclass(frozen=True)
class Spread:
    """How well one figure is known.

    Attributes:
        error: Standard error.
        degrees: Degrees of freedom of that standard error.
        units: Effective units: how many independent units would give the same standard error.
    """

    error: float
    degrees: float
    units: float


class Sampling:
    """What of a group of frames is independent.

    Args:
        scenes: Sequence or place of every frame; frames of one scene in their order in time.
        video: Neighbouring frames of a scene are alike.
        together: Frames of one scene show the same place.

    Attributes:
        unit: `images`, `places`, `sequences` or `drives` (the frames of a few sequences).
        scenes: Number of scenes.
    """

    def __init__(self, scenes: Sequence[str], *, video: bool = False, together: bool = False) -> None:
        names = np.array(scenes)
        members = [np.flatnonzero(names == name) for name in dict.fromkeys(scenes)]
        self.scenes = len(members)
        self._frames = len(names)
        parts: list[list[np.ndarray]]  # units between which neighbours are alike, one list for each drive
        if together:
            self.unit, parts = "places", [members]
        elif not video:
            self.unit, parts = "images", [list(np.arange(len(names))[:, None])]
        elif _effective_count([len(member) for member in members]) >= MIN_UNITS:
            self.unit, parts = "sequences", [members]
        else:
            self.unit, parts = "drives", [list(member[:, None]) for member in members]
        size = math.ceil(sum(map(len, parts)) / _MAX_UNITS)
        parts = [_in_groups(part, size) for part in parts]
        self._lengths = [len(part) for part in parts]
        self._units = [unit for part in parts for unit in part]

    @cached_property
    def weights(self) -> Float[np.ndarray, "R N"]:
        """`(R, N)` float64: how often every frame counts in every replicate; replicate r leaves unit r out."""
        weights = np.ones((len(self._units), self._frames))
        for row, unit in enumerate(self._units):
            weights[row, unit] = 0
        return weights

    def contributions(self, value: float, replicates: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
        """`(R,)` what every unit contributes to a figure, scaled so that the figure varies like their mean.

        Args:
            value: The figure over all frames.
            replicates: `(R,)` the figure under each row of `weights`.
        """
        return (len(self._units) - 1) * (value - replicates)

    def spread(self, contributions: Float[np.ndarray, " R"]) -> Spread | None:
        """The standard error of a figure from its contributions; sums and differences of contributions are allowed.

        `None` where nothing can be said: a figure that does not exist without one of the units, or too few units to
        look at their spread at all.
        """
        count = len(contributions)
        if count < 2 or not np.isfinite(contributions).all():
            return None
        if not contributions.any():  # two models that agree everywhere
            return Spread(0.0, count - 1, count)
        found = self._within_drives(contributions) if self.unit == "drives" else self._independent(contributions)
        if found is None:
            return None
        # A class that few units hold is known only as well as those few allow.
        return Spread(found.error, found.degrees, min(found.units, int(np.count_nonzero(contributions))))

    def _independent(self, contributions: np.ndarray) -> Spread:
        units = _effective_count([len(unit) for unit in self._units])
        error = float(contributions.std(ddof=1)) / math.sqrt(len(contributions))
        return Spread(error, max(1.0, units - 1), units)

    def _within_drives(self, contributions: np.ndarray) -> Spread | None:
        drives = np.split(contributions, np.cumsum(self._lengths)[:-1])
        if len(contributions) <= _FEW_WAVES + len(drives):
            return None
        squares = sum(len(drive) * float(drive.var()) for drive in drives)
        if not squares:
            return None
        variance = squares / (len(contributions) - len(drives))
        # Two estimates that fail differently: neighbours know nothing of slow changes, few waves scatter widely.
        by_neighbours = len(contributions) * squares / sum(map(_inflated_squares, drives))
        units, degrees = float(_FEW_WAVES), 1
        for _ in range(2):
            waves = _slow_waves(drives, round(min(max(units / _UNITS_PER_WAVE, _FEW_WAVES), _MANY_WAVES)))
            by_waves = len(contributions) * variance / float((waves**2).mean())
            units, degrees = min(by_neighbours, by_waves, len(contributions)), waves.size
        return Spread(math.sqrt(variance / units), degrees, units)

    def words(self, units: float | None) -> str:
        """What an interval over these frames covers, or why there is none, for people.

        Args:
            units: Effective units of the figure; `None` where the frames are too few to tell.
        """
        drives = "one drive" if self.scenes == 1 else f"{self.scenes} drives"
        within = self.unit == "drives"
        if units is None:
            return f"no intervals: {f'{self._frames} frames of {drives}' if within else self.unit} are too few"
        if units < MIN_UNITS:
            worth = f"{self._frames} frames of {drives} are worth about {units:.0f} independent ones"
            few = worth if within else f"about {units:.0f} {self.unit}"
            return f"no intervals: {few}, fewer than the {MIN_UNITS} that an interval needs"
        if within:
            return f"intervals within {drives} (worth about {units:.0f} independent frames), not over other drives"
        return f"intervals over {self.unit} (about {units:.0f})"


def interval(value: float, spread: Spread | None, scale: Scale) -> tuple[float, float] | None:
    """The 95 % interval of a figure; `None` below `MIN_UNITS` effective units, or where the figure has no spread.

    Args:
        value: The figure.
        spread: Its standard error, on the scale of the figure.
        scale: `fraction`: between 0 and 1, computed on the logit so that the ends are as well. `ratio`: above 0,
            computed on the logarithm. `difference`: as it is.
    """
    if spread is None or spread.units < MIN_UNITS or not math.isfinite(value):
        return None
    reach = t_quantile(spread.degrees) * spread.error
    if scale == "difference":
        return value - reach, value + reach
    if value <= 0 or (scale == "fraction" and value >= 1):
        return None
    if scale == "ratio":
        return value * math.exp(-reach / value), value * math.exp(reach / value)
    odds, reach = value / (1 - value), reach / (value * (1 - value))
    low, high = odds * math.exp(-min(reach, 700)), odds * math.exp(min(reach, 700))
    return low / (1 + low), high / (1 + high)


def combine(first: Spread | None, second: Spread | None) -> Spread | None:
    """Spread of the sum of two independent figures."""
    if first is None or second is None:
        return None
    variances = first.error**2, second.error**2
    welch = variances[0] ** 2 / first.degrees + variances[1] ** 2 / second.degrees
    degrees = sum(variances) ** 2 / welch if welch else first.degrees + second.degrees
    return Spread(math.sqrt(sum(variances)), degrees, min(first.units, second.units))


@lru_cache(maxsize=4096)
def t_quantile(degrees: float) -> float:
    """The 97.5 % quantile of Student's t with `degrees` (1 or more) degrees of freedom, to 4 digits.

    With t = sqrt(degrees) tan(a) the density becomes cos(a) ** (degrees - 1), which is summed from 0 to pi/2.
    """
    angles = np.linspace(0, math.pi / 2, 20001)
    density = np.cos(angles) ** (degrees - 1)
    share = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    angle = float(np.interp(0.95, share / share[-1], angles))
    return math.sqrt(degrees) * math.tan(angle)


def _in_groups(units: list[np.ndarray], size: int) -> list[np.ndarray]:
    return units if size == 1 else [np.concatenate(units[i : i + size]) for i in range(0, len(units), size)]


def _effective_count(sizes: Sequence[int]) -> float:
    """Kish's effective number: that of equal units which vary as much as these unequal ones."""
    return sum(sizes) ** 2 / sum(size**2 for size in sizes)


def _inflated_squares(drive: np.ndarray) -> float:
    """Sum of squares about the mean, times (1 + r) / (1 - r) for the correlation r from one frame to the next.

    r is corrected for its bias in short series and kept from 0 to below 1.
    """
    centred = drive - drive.mean()
    total = float(centred @ centred)
    if not total:
        return 0.0
    raw = float(centred[1:] @ centred[:-1]) / total
    correlation = min(max(raw + (1 + 4 * raw) / len(drive), 0.0), 1 - 1 / len(drive))
    return total * (1 + correlation) / (1 - correlation)


def _slow_waves(drives: Sequence[np.ndarray], waves: int) -> Float[np.ndarray, " W"]:
    """Projections of every drive on its first cosines, about `waves` in all, split by the drives' lengths.

    The waves have norm 1 and mean 0 over a drive: the square of a projection estimates the variance of the drive's
    mean times its length, whatever the level of the drive.
    """
    total = sum(len(drive) for drive in drives)
    found = [np.zeros(0)]
    for drive in drives:
        count = min(len(drive) - 1, max(1, round(waves * len(drive) / total)))
        phase = math.pi * (np.arange(len(drive)) + 0.5) / len(drive)
        cosines = math.sqrt(2 / len(drive)) * np.cos(np.arange(1, count + 1)[:, None] * phase)
        found.append(cosines @ drive)
    return np.concatenate(found)
