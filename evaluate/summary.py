"""Figures per condition from per-frame records: values, 95 % intervals, rPD, and differences between models.

Source: relative performance under domain shift, rPD = mIoU on the target domain / mIoU on the source domain
(see `docs/evaluation.md`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.data import Dataset
from zoo.errors import InputError
from zoo.evaluate.intervals import Sampling, Scale, Spread, combine, interval
from zoo.evaluate.metrics.counts import (
    INSTANCE_CLASSES,
    Tally,
    calibration_error,
    class_iou,
    instance_iou,
    mean_accuracy,
    mean_iou,
    mean_of_known,
    pixel_accuracy,
)
from zoo.frame import Frame

__all__ = ["ALL", "SHIFTED", "Measured", "difference", "examples", "groups_of", "measure", "rpd", "source_of"]

ALL = "all"
SHIFTED = "shifted"
Group = tuple[str, str]
"""Kind of the data set and name of the group."""


@dataclass
class Measured:
    """Figures of one model on the frames of one group, with what comparisons need.

    Attributes:
        json: What goes into `metrics.json`; every figure is `{"value": x, "interval": [low, high] or null, "units": n
            or null}` with the effective units behind it.
        miou: Value.
        contributions: `(R,)` what every unit of the sampling contributes to the mIoU.
        sampling: What of the frames is independent.
    """

    json: dict[str, Any]
    miou: float
    contributions: np.ndarray = field(repr=False)
    sampling: Sampling = field(repr=False)


def groups_of(dataset: Dataset, frames: Sequence[Frame], source_group: str | None) -> dict[str, list[int]]:
    """Indices into `frames` of every group, then of `all` and, where it says something else, of `shifted`.

    `all` pools every group that the data set's own benchmark pools. `shifted` pools those but `source_group`.
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


def measure(dataset: Dataset, frames: Sequence[Frame], records: Sequence[Tally]) -> Measured:
    """All figures of one group.

    Args:
        dataset: Where the frames come from.
        frames: The frames of the group.
        records: Their records.

    Raises:
        InputError: If no pixel of the group has a label that counts.
    """
    scenes = [frame.scene for frame in frames]
    sampling = Sampling(scenes, video=dataset.video, together=dataset.repeated_scenes)
    absent = dataset.absent_classes
    matrices = np.stack([record.matrix for record in records])
    calibrations = np.stack([record.calibration for record in records])
    matrix = matrices.sum(0)
    if not matrix.any():
        raise InputError(
            f"{dataset.kind} {frames[0].group}: not one pixel of {len(frames)} frames counts, since every label is the "
            f"one to ignore ({dataset.classes.ignore_index}); are these the label maps of this split?"
        )

    def of_matrix(figure: Callable[..., np.ndarray]) -> dict[str, Any]:
        return _fraction(figure, sampling, matrices)

    miou = float(mean_iou(matrix, absent))
    contributions = sampling.contributions(miou, lambda m: mean_iou(m, absent), matrices)
    headline = _figure(miou, sampling.spread(contributions), "fraction")
    of_classes = class_iou(matrix, absent)
    class_contributions = sampling.contributions(of_classes, lambda m: class_iou(m, absent), matrices)
    json = {
        "frames": len(frames),
        "scenes": sampling.scenes,
        "pixels": int(matrix.sum()),
        "sampling": {"unit": sampling.unit, "units": headline["units"], "words": sampling.words(headline["units"])},
        "miou": headline,
        "pixel_accuracy": of_matrix(pixel_accuracy),
        "mean_class_accuracy": of_matrix(lambda m: mean_accuracy(m, absent)),
        "ece": _fraction(calibration_error, sampling, calibrations),
        "iou": {
            name: _figure(of_classes[i], sampling.spread(class_contributions[:, i]), "fraction")
            for i, name in enumerate(dataset.classes.names)
        },
        "truth_pixels": dict(zip(dataset.classes.names, matrix.sum(1).tolist(), strict=True)),
        "confusion": matrix.tolist(),
        "reliability": calibrations.sum(0).tolist(),
    }
    if all(record.instances is not None for record in records):
        json["iiou"] = _instance_figures(dataset, records, matrices, sampling)
    if any(record.valid_matrix is not None for record in records):
        valid = np.stack([r.matrix if r.valid_matrix is None else r.valid_matrix for r in records])
        json["miou_valid_pixels"] = _fraction(lambda m: mean_iou(m, absent), sampling, valid)
    return Measured(json, miou, contributions, sampling)


def _instance_figures(
    dataset: Dataset, records: Sequence[Tally], matrices: np.ndarray, sampling: Sampling
) -> dict[str, Any]:
    weighted = np.stack([record.instances for record in records if record.instances is not None])
    values = instance_iou(matrices.sum(0), weighted.sum(0))
    return {
        **_fraction(lambda m, w: mean_of_known(instance_iou(m, w)), sampling, matrices, weighted),
        "classes": {
            dataset.classes.names[label]: _number(value) for label, value in zip(INSTANCE_CLASSES, values, strict=True)
        },
    }


def _fraction(figure: Callable[..., np.ndarray], sampling: Sampling, *records: np.ndarray) -> dict[str, Any]:
    value = float(figure(*(record.sum(0) for record in records)))
    return _figure(value, sampling.spread(sampling.contributions(value, figure, *records)), "fraction")


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
    """The group whose mIoU is the denominator of rPD on this data set.

    Args:
        dataset: The data set of the target.
        datasets: All data sets of the run by kind.
        named: What the user named: a data set, `DATA:GROUP`, or a group that every data set looks up in itself.

    Raises:
        InputError: If nothing has that name, or its classes are others than the target's.
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
                f"--source {named}: its classes are not those of {dataset.kind}, so no ratio is meaningful"
            )
        return source
    if not any(named in other.groups for other in datasets.values()):
        known = [k for k in datasets] + [f"{k}:{g}" for k, other in datasets.items() for g in other.groups]
        raise InputError(f"--source {named!r} is neither a data set nor a group of this run; known: {', '.join(known)}")
    return (dataset.kind, named) if named in dataset.groups else None


def rpd(target: Measured, source: Measured, source_group: Group) -> dict[str, Any]:
    """rPD with its interval; the frames of the two domains are taken as independent of each other."""
    value = target.miou / source.miou if source.miou > 0 else math.nan
    return {"source": ":".join(source_group), **_figure(value, _ratio_spread([(target, source, 1.0)]), "ratio")}


def _ratio_spread(terms: Sequence[tuple[Measured, Measured, float]]) -> Spread | None:
    """Spread of the sum of `factor * target / source` over `terms`, whose targets share their frames, as their sources
    do: to first order, a ratio moves by its target's contribution over the source, less its source's times the ratio.
    """
    if any(source.miou <= 0 for _, source, _ in terms):
        return None
    of_targets = sum(factor * target.contributions / source.miou for target, source, factor in terms)
    of_sources = sum(factor * source.contributions * target.miou / source.miou**2 for target, source, factor in terms)
    target, source, _ = terms[0]
    return combine(target.sampling.spread(np.asarray(of_targets)), source.sampling.spread(np.asarray(of_sources)))


def difference(
    model: Measured, baseline: Measured, sources: tuple[Measured, Measured] | None
) -> dict[str, dict[str, Any]]:
    """mIoU (and, given both source domains, rPD) of one model minus that of another on the same frames.

    Each unit's contributions to both are subtracted, so the interval is paired: what makes a frame hard for both
    cancels.
    """
    spread = model.sampling.spread(model.contributions - baseline.contributions)
    figures = {"miou": _figure(model.miou - baseline.miou, spread, "difference")}
    if sources is not None and min(source.miou for source in sources) > 0:
        value = model.miou / sources[0].miou - baseline.miou / sources[1].miou
        terms = [(model, sources[0], 1.0), (baseline, sources[1], -1.0)]
        figures["rpd"] = _figure(value, _ratio_spread(terms), "difference")
    return figures


def examples(frames: Sequence[Frame], records: Sequence[Tally]) -> list[dict[str, Any]]:
    """The best, the median and the worst frame by mIoU over the classes that the frame itself or its prediction holds.

    Fewer than three frames give fewer examples; of equal scores the earlier frame counts as the better one.
    """
    scores = np.array([mean_iou(record.matrix, "skip") for record in records])
    order = [int(i) for i in np.argsort(-scores, kind="stable") if not math.isnan(scores[i])]
    if not order:
        return []
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    if len(order) == 2:
        del chosen["median"]
    if len(order) == 1:
        chosen = {"only": order[0]}
    return [{"which": w, "index": i, "frame": frames[i].id, "miou": float(scores[i])} for w, i in chosen.items()]
