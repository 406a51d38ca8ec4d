"""95 % confidence intervals from per-frame records: a jackknife over independent units with Student's t.

Every figure is recomputed with each unit left out in turn. The change is the unit's contribution, and the spread of the
contributions gives the standard error. The units depend on the data:

- Image data sets: each image, assumed independent.
- Places that reappear under every condition, and video with many sequences: each place or sequence.
- Video with few sequences ("drives"): the frames in order. Neighbouring frames are nearly identical, so N frames are
  worth fewer independent units. Two estimates are made and the lower one is used: N (1 - r) / (1 + r), where r is the
  correlation of neighbours; and N times the variance of the contributions over the variance of their slowest waves
  (the first four or more cosines over each drive), which captures every correlation shorter than the drive. The
  degrees of freedom are the number of waves. Such an interval covers other moments of the same drives, not other
  drives.

With fewer than ten effective units there is no interval, because their spread cannot be estimated well enough. The
simulation `benchmarks/interval_coverage.py` measures the coverage; `docs/evaluation.md` has the results.

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
"""Fewest effective units for which an interval is computed."""
_MAX_UNITS = 1000  # more cost time without improving the estimate; beyond this, consecutive units are left out together
_FEW_WAVES, _MANY_WAVES = 4, 20
_UNITS_PER_WAVE = 5  # faster waves no longer capture the slow changes
Scale = Literal["fraction", "ratio", "difference"]


@dataclass(frozen=True)
class Spread:
    """Uncertainty of one figure.

    Attributes:
        error: Standard error.
        degrees: Degrees of freedom of that standard error.
        units: Effective units: the number of independent units that would give the same standard error.
    """

    error: float
    degrees: float
    units: float


class Sampling:
    """Independent units of a group of frames.

    Args:
        scenes: Sequence or place of every frame; the frames of a scene in temporal order.
        video: Whether neighbouring frames of a scene are correlated.
        together: Whether the frames of a scene show the same place.

    Attributes:
        unit: `images`, `places`, `sequences` or `drives` (the frames of a few sequences).
        scenes: Number of scenes.
    """

    def __init__(self, scenes: Sequence[str], *, video: bool = False, together: bool = False) -> None:
        names = np.array(scenes)
        members = [np.flatnonzero(names == name) for name in dict.fromkeys(scenes)]
        self.scenes = len(members)
        self._frames = len(names)
        parts: list[list[np.ndarray]]  # one list per stretch in which neighbouring units are correlated
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
        """`(R, N)` float64 weight of every frame in every replicate; replicate r leaves out unit r."""
        weights = np.ones((len(self._units), self._frames))
        for row, unit in enumerate(self._units):
            weights[row, unit] = 0
        return weights

    def contributions(self, value: float, replicates: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
        """`(R,)` contribution of every unit to a figure, scaled so that the figure varies like their mean.

        Args:
            value: Figure over all frames.
            replicates: `(R,)` figure under each row of `weights`.
        """
        return (len(self._units) - 1) * (value - replicates)

    def spread(self, contributions: Float[np.ndarray, " R"]) -> Spread | None:
        """Standard error of a figure from its contributions, which may be sums or differences of contributions.

        Returns `None` if there is no estimate: the figure is undefined when some unit is left out, or there are too few
        units.
        """
        count = len(contributions)
        if count < 2 or not np.isfinite(contributions).all():
            return None
        if not contributions.any():  # the difference of two models that agree everywhere
            return Spread(0.0, count - 1, count)
        found = self._within_drives(contributions) if self.unit == "drives" else self._independent(contributions)
        if found is None:
            return None
        # A class that occurs in few units has no more effective units than those.
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
        # The estimates fail differently: neighbours miss slow changes, and few waves have a large variance.
        by_neighbours = len(contributions) * squares / sum(map(_inflated_squares, drives))
        units, degrees = float(_FEW_WAVES), 1
        for _ in range(2):
            waves = _slow_waves(drives, round(min(max(units / _UNITS_PER_WAVE, _FEW_WAVES), _MANY_WAVES)))
            by_waves = len(contributions) * variance / float((waves**2).mean())
            units, degrees = min(by_neighbours, by_waves, len(contributions)), waves.size
        return Spread(math.sqrt(variance / units), degrees, units)

    def words(self, units: float | None) -> str:
        """Human-readable description of what an interval over these frames covers, or why there is none.

        Args:
            units: Effective units of the figure; `None` if there are too few frames to estimate them.
        """
        drives = "one drive" if self.scenes == 1 else f"{self.scenes} drives"
        within = self.unit == "drives"
        if units is None:
            return f"no intervals: {f'{self._frames} frames of {drives}' if within else self.unit} are too few"
        if units < MIN_UNITS:
            worth = f"{self._frames} frames of {drives} are worth about {units:.0f} independent ones"
            few = worth if within else f"about {units:.0f} {self.unit}"
            return f"no intervals: {few}, but an interval needs at least {MIN_UNITS}"
        if within:
            return f"intervals within {drives} (about {units:.0f} independent frames); other drives are not covered"
        return f"intervals over {self.unit} (about {units:.0f})"


def interval(value: float, spread: Spread | None, scale: Scale) -> tuple[float, float] | None:
    """95 % interval of a figure; `None` below `MIN_UNITS` effective units or without a spread.

    Args:
        value: Figure.
        spread: Its standard error, on the scale of the figure.
        scale: `fraction`: between 0 and 1, computed on the logit so that the bounds stay within that range. `ratio`:
            above 0, computed on the logarithm. `difference`: computed on the figure itself.
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
    """97.5 % quantile of Student's t with `degrees` (at least 1) degrees of freedom, accurate to 4 digits.

    Substituting t = sqrt(degrees) tan(a) turns the density into cos(a) ** (degrees - 1), integrated from 0 to pi/2.
    """
    angles = np.linspace(0, math.pi / 2, 20001)
    density = np.cos(angles) ** (degrees - 1)
    share = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    angle = float(np.interp(0.95, share / share[-1], angles))
    return math.sqrt(degrees) * math.tan(angle)


def _in_groups(units: list[np.ndarray], size: int) -> list[np.ndarray]:
    return units if size == 1 else [np.concatenate(units[i : i + size]) for i in range(0, len(units), size)]


def _effective_count(sizes: Sequence[int]) -> float:
    """Kish's effective sample size: the number of equal units that would have the same variance."""
    return sum(sizes) ** 2 / sum(size**2 for size in sizes)


def _inflated_squares(drive: np.ndarray) -> float:
    """Sum of squares about the mean, times (1 + r) / (1 - r) for the correlation r from one frame to the next.

    r is corrected for its bias in short series and clipped to between 0 and just below 1.
    """
    centred = drive - drive.mean()
    total = float(centred @ centred)
    if not total:
        return 0.0
    raw = float(centred[1:] @ centred[:-1]) / total
    correlation = min(max(raw + (1 + 4 * raw) / len(drive), 0.0), 1 - 1 / len(drive))
    return total * (1 + correlation) / (1 - correlation)


def _slow_waves(drives: Sequence[np.ndarray], waves: int) -> Float[np.ndarray, " W"]:
    """Projections of every drive onto its first cosines, about `waves` in total, distributed by drive length.

    The cosines have norm 1 and mean 0 over a drive, so the square of a projection estimates the variance of the drive's
    mean times its length, independently of the mean itself.
    """
    total = sum(len(drive) for drive in drives)
    found = [np.zeros(0)]
    for drive in drives:
        count = min(len(drive) - 1, max(1, round(waves * len(drive) / total)))
        phase = math.pi * (np.arange(len(drive)) + 0.5) / len(drive)
        cosines = math.sqrt(2 / len(drive)) * np.cos(np.arange(1, count + 1)[:, None] * phase)
        found.append(cosines @ drive)
    return np.concatenate(found)
