"""Figures per condition from per-frame records: values, 95 % intervals, rPD, and differences between models.

rPD is the relative performance under domain shift: the headline figure on the target domain divided by that on the
source domain (mIoU for segmentation; see `docs/evaluation.md`), the other way round if the figure is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.data import Dataset
from zoo.errors import InputError
from zoo.evaluate.intervals import Sampling, Scale, Spread, combine, interval
from zoo.evaluate.metrics import Figure, Metric, headline_column
from zoo.frame import Frame

__all__ = ["ALL", "SHIFTED", "Measured", "difference", "examples", "groups_of", "measure", "rpd", "source_of"]

ALL = "all"
SHIFTED = "shifted"
Group = tuple[str, str]
"""Kind of the data set and name of the group."""


@dataclass
class Measured:
    """Figures of one model on the frames of one group, with the data needed for comparisons.

    Attributes:
        json: Content for `metrics.json`; every figure is `{"value": x, "interval": [low, high] or null, "units": n or
            null}`, where `units` is the number of effective units.
        headline: Key of the headline figure.
        value: Value of the headline figure.
        contributions: `(R,)` contribution of every sampling unit to it.
        sampling: Independent units of the frames.
        higher_is_better: False if the headline figure is an error.
    """

    json: dict[str, Any]
    headline: str
    value: float
    contributions: np.ndarray = field(repr=False)
    sampling: Sampling = field(repr=False)
    higher_is_better: bool = True


def groups_of(dataset: Dataset, frames: Sequence[Frame], source_group: str | None) -> dict[str, list[int]]:
    """Indices into `frames` of every group, then of `all` and, if it differs, of `shifted`.

    `all` pools every group that the data set's own benchmark pools. `shifted` pools the same groups without
    `source_group`.
    """
    members: dict[str, list[int]] = {}
    for index, frame in enumerate(frames):
        members.setdefault(frame.group, []).append(index)
    pooled = [name for name in members if name not in dataset.outside_pool]
    targets = [name for name in pooled if name != source_group]
    indices = dict(members)
    if pooled:
        indices[ALL] = sorted(i for name in pooled for i in members[name])
    if len(targets) >= 2 and len(targets) < len(pooled):
        indices[SHIFTED] = sorted(i for name in targets for i in members[name])
    return indices


def measure(dataset: Dataset, metric: Metric, frames: Sequence[Frame], tallies: Sequence[Any]) -> Measured:
    """Computes all figures of one group.

    Args:
        dataset: Data set of the frames.
        metric: Metric that made the tallies.
        frames: Frames of the group.
        tallies: One tally per frame.

    Raises:
        InputError: If the tallies are empty, for example because all pixels are ignored.
    """
    try:
        metric.check(tallies)
    except InputError as error:
        raise InputError(f"{dataset.kind} {frames[0].group}: {error}") from error
    scenes = [frame.scene for frame in frames]
    sampling = Sampling(scenes, video=dataset.video, together=dataset.repeated_scenes)
    whole_set = metric.scope == "set"
    found = metric.figures(tallies, None if whole_set else sampling.weights)
    value, replicates = found[metric.headline].value, found[metric.headline].replicates
    if replicates is None:
        assert whole_set, f"{metric.name} computes no replicates of {metric.headline}"
        contributions = np.full(len(sampling.weights), np.nan)  # unknown, so there is no interval of it or of its rPD
    else:
        contributions = sampling.contributions(value, replicates)
    figures = _grouped({key: _shown(figure, sampling, whole_set, _scale(metric, key)) for key, figure in found.items()})
    units = figures[metric.headline]["units"]
    words = "no intervals: the figures compare frames with each other" if whole_set else sampling.words(units)
    json = {
        "frames": len(frames),
        "scenes": sampling.scenes,
        "sampling": {"unit": sampling.unit, "units": units, "words": words},
        **figures,
        **metric.details(tallies),
    }
    better = headline_column(metric).higher_is_better
    return Measured(json, metric.headline, value, contributions, sampling, better)


def _scale(metric: Metric, key: str) -> Scale:
    """Scale of the interval of a figure; the figures of a group are on that of the headline figure."""
    column = next((column for column in metric.columns if column.key == key), headline_column(metric))
    return "fraction" if column.fraction else "difference"


def _shown(figure: Figure, sampling: Sampling, whole_set: bool, scale: Scale) -> Any:
    """A figure with its interval; the value alone if a metric of scope `frame` computes no replicates of it."""
    if whole_set:
        return _figure(figure.value, None, scale)
    if figure.replicates is None:
        return _number(figure.value)
    spread = sampling.spread(sampling.contributions(figure.value, figure.replicates))
    return _figure(figure.value, spread, scale)


def _grouped(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Nests grouped figures: `iou/road` becomes `iou.road`; `iiou/car`, as `iiou` is a figure, `iiou.classes.car`."""
    json: dict[str, Any] = {}
    for key, figure in shown.items():
        group, _, part = key.partition("/")
        if not part:
            json[group] = figure
            continue
        parts = json.setdefault(group, {})
        (parts.setdefault("classes", {}) if group in shown else parts)[part] = figure
    return json


def _number(value: Any) -> float | None:
    return None if math.isnan(float(value)) else float(value)


def _figure(value: Any, spread: Spread | None, scale: Scale) -> dict[str, Any]:
    between = interval(float(value), spread, scale)
    return {
        "value": _number(value),
        "interval": None if between is None else list(between),
        "units": None if spread is None else round(spread.units, 1),
    }


def source_of(dataset: Dataset, datasets: Mapping[str, Dataset], named: str | None) -> Group | None:
    """The group whose headline figure is the denominator of rPD on this data set; `None` if there is none.

    Args:
        dataset: Target data set.
        datasets: All data sets of the run by kind.
        named: Choice of the user: a data set, `DATA:GROUP`, or the name of a group, which stands for that group of
            each data set.

    Raises:
        InputError: If there is no such data set or group, or its classes differ from the target's.
    """
    if named is None:
        if dataset.source_data in datasets:
            return str(dataset.source_data), ALL
        return None if dataset.source_group is None else (dataset.kind, dataset.source_group)
    kind, colon, group = named.partition(":")
    if kind in datasets:
        source = kind, group if colon else ALL
        if source[1] not in (*datasets[kind].groups, ALL):
            raise InputError(f"--source {named}: {kind} has no group {group!r}; {', '.join(datasets[kind].groups)}")
        if datasets[kind].classes.names != dataset.classes.names:
            raise InputError(
                f"--source {named}: its classes differ from those of {dataset.kind}, so rPD would be meaningless"
            )
        return source
    if not any(named in other.groups for other in datasets.values()):
        known = [k for k in datasets] + [f"{k}:{g}" for k, other in datasets.items() for g in other.groups]
        raise InputError(f"--source {named!r} is neither a data set nor a group of this run; known: {', '.join(known)}")
    return (dataset.kind, named) if named in dataset.groups else None


def rpd(target: Measured, source: Measured, source_group: Group) -> dict[str, Any]:
    """rPD with its interval; the frames of the two domains are assumed to be independent of each other.

    The ratio of an error is that of source to target, so that a value below 1 always means a loss.
    """
    above, below = _sides(target, source)
    value = above.value / below.value if below.value > 0 else math.nan
    return {"source": ":".join(source_group), **_figure(value, _ratio_spread([(above, below, 1.0)]), "ratio")}


def _sides(target: Measured, source: Measured) -> tuple[Measured, Measured]:
    """Numerator and denominator of rPD."""
    return (target, source) if target.higher_is_better else (source, target)


def _ratio_spread(terms: Sequence[tuple[Measured, Measured, float]]) -> Spread | None:
    """Spread of the sum of `factor * target / source` over `terms`; for errors target and source are exchanged.

    All targets are on the same frames, and so are all sources. To first order, a ratio changes by the target's
    contribution divided by the source's value, minus the source's contribution times the ratio over that value.
    """
    if any(source.value <= 0 for _, source, _ in terms):
        return None
    of_targets = sum(factor * target.contributions / source.value for target, source, factor in terms)
    of_sources = sum(factor * source.contributions * target.value / source.value**2 for target, source, factor in terms)
    target, source, _ = terms[0]
    return combine(target.sampling.spread(np.asarray(of_targets)), source.sampling.spread(np.asarray(of_sources)))


def difference(
    model: Measured, baseline: Measured, sources: tuple[Measured, Measured] | None
) -> dict[str, dict[str, Any]]:
    """Difference of two models on the same frames in the headline figure and, given both source domains, in rPD.

    The interval is paired: the contributions of each unit are subtracted, so whatever makes a frame hard for both
    models cancels out.
    """
    spread = model.sampling.spread(model.contributions - baseline.contributions)
    figures = {model.headline: _figure(model.value - baseline.value, spread, "difference")}
    if sources is None:
        return figures
    (above, below), (other_above, other_below) = _sides(model, sources[0]), _sides(baseline, sources[1])
    if min(below.value, other_below.value) > 0:
        value = above.value / below.value - other_above.value / other_below.value
        terms = [(above, below, 1.0), (other_above, other_below, -1.0)]
        figures["rpd"] = _figure(value, _ratio_spread(terms), "difference")
    return figures


def examples(metric: Metric, frames: Sequence[Frame], tallies: Sequence[Any]) -> list[dict[str, Any]]:
    """The best, median and worst frame by the metric's score; none for a metric of scope `set`.

    Fewer than three frames give fewer examples. Of frames with equal scores, the earlier one ranks higher.
    """
    if metric.scope == "set":
        return []
    scores = np.array([metric.score(tally) for tally in tallies])
    ranked = -scores if headline_column(metric).higher_is_better else scores
    order = [int(i) for i in np.argsort(ranked, kind="stable") if not math.isnan(scores[i])]
    if not order:
        return []
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    if len(order) == 2:
        del chosen["median"]
    if len(order) == 1:
        chosen = {"only": order[0]}
    return [
        {"which": which, "index": i, "frame": frames[i].id, metric.headline: float(scores[i])}
        for which, i in chosen.items()
    ]
