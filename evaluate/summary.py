"""Figures per condition from per-frame records: values, 95 % intervals, rPD, and differences between models.

Source: relative performance under domain shift, rPD = mIoU on the target domain / mIoU on the source domain
(see `docs/evaluation.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.data import Dataset
from zoo.errors import InputError
from zoo.evaluate.bootstrap import Resampling, interval, resample
from zoo.evaluate.metrics import (
    INSTANCE_CLASSES,
    Tally,
    calibration_error,
    class_iou,
    instance_iou,
    mean_accuracy,
    mean_iou,
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
    """Figures of one model on the frames of one group, with the bootstrap replicates of those that are compared.

    Attributes:
        json: What goes into `metrics.json`: every figure as `{"value": x, "interval": [low, high] or null}`.
        miou: Value.
        miou_replicates: `(R,)`, or `None` where there is only one independent unit.
    """

    json: dict[str, Any]
    miou: float
    miou_replicates: np.ndarray | None = field(repr=False)


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


def measure(dataset: Dataset, frames: Sequence[Frame], records: Sequence[Tally], group: str) -> Measured:
    """All figures of one group.

    Args:
        dataset: Where the frames come from.
        frames: The frames of the group.
        records: Their records.
        group: Name, which seeds the resampling: all models get the same draws.
    """
    scenes = [frame.scene for frame in frames]
    drawn = resample(scenes, dataset.video, f"{dataset.kind}:{group}", together=dataset.repeated_scenes)
    matrices = np.stack([record.matrix for record in records])
    matrix, matrix_replicates = matrices.sum(0), drawn.sums(matrices)
    calibrations = np.stack([record.calibration for record in records])
    calibration = calibrations.sum(0)
    absent = dataset.absent_classes
    iou = class_iou(matrix, absent)
    iou_replicates = None if matrix_replicates is None else class_iou(matrix_replicates, absent)
    replicates = None if matrix_replicates is None else mean_iou(matrix_replicates, absent)
    value = float(mean_iou(matrix, absent))
    json = {
        "frames": len(frames),
        "scenes": len(set(scenes)),
        "pixels": int(matrix.sum()),
        "resampled": None if drawn.weights is None else {"unit": drawn.unit, "units": drawn.units},
        "miou": _figure(value, replicates),
        "pixel_accuracy": _figure(pixel_accuracy(matrix), _over(matrix_replicates, pixel_accuracy)),
        "mean_class_accuracy": _figure(
            mean_accuracy(matrix, absent), _over(matrix_replicates, lambda m: mean_accuracy(m, absent))
        ),
        "ece": _figure(calibration_error(calibration), _over(drawn.sums(calibrations), calibration_error)),
        "iou": {
            name: _figure(iou[i], None if iou_replicates is None else iou_replicates[:, i])
            for i, name in enumerate(dataset.classes.names)
        },
        "truth_pixels": dict(zip(dataset.classes.names, matrix.sum(1).tolist(), strict=True)),
        "confusion": matrix.tolist(),
        "reliability": calibration.tolist(),
    }
    if all(record.instances is not None for record in records):
        json["iiou"] = _instance_figures(dataset, records, matrices, drawn)
    if any(record.valid_matrix is not None for record in records):
        valid = np.stack([r.matrix if r.valid_matrix is None else r.valid_matrix for r in records])
        json["miou_valid_pixels"] = _figure(
            mean_iou(valid.sum(0), absent), _over(drawn.sums(valid), lambda m: mean_iou(m, absent))
        )
    return Measured(json, value, replicates)


def _instance_figures(
    dataset: Dataset, records: Sequence[Tally], matrices: np.ndarray, drawn: Resampling
) -> dict[str, Any]:
    weighted = np.stack([record.instances for record in records if record.instances is not None])
    values = instance_iou(matrices.sum(0), weighted.sum(0))
    matrix_replicates, weighted_replicates = drawn.sums(matrices), drawn.sums(weighted)
    means = None
    if matrix_replicates is not None and weighted_replicates is not None:
        of_classes = instance_iou(matrix_replicates, weighted_replicates)
        means = np.array([_nanmean(row) for row in of_classes])
    return {
        **_figure(_nanmean(values), means),
        "classes": {
            dataset.classes.names[label]: _number(value) for label, value in zip(INSTANCE_CLASSES, values, strict=True)
        },
    }


def _nanmean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _over(replicates: np.ndarray | None, figure: Any) -> np.ndarray | None:
    return None if replicates is None else figure(replicates)


def _number(value: Any) -> float | None:
    return None if math.isnan(float(value)) else float(value)


def _figure(value: Any, replicates: np.ndarray | None) -> dict[str, Any]:
    between = interval(replicates) if _number(value) is not None else None
    return {"value": _number(value), "interval": None if between is None else list(between)}


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
    """rPD with its interval; the two domains are resampled independently of each other."""
    value = target.miou / source.miou if source.miou > 0 else math.nan
    return {"source": ":".join(source_group), **_figure(value, _ratio(target, source))}


def _ratio(target: Measured, source: Measured) -> np.ndarray | None:
    if target.miou_replicates is None or source.miou_replicates is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = target.miou_replicates / source.miou_replicates
    return np.where(np.isfinite(ratio), ratio, np.nan)


def difference(
    model: Measured, baseline: Measured, sources: tuple[Measured, Measured] | None
) -> dict[str, dict[str, Any]]:
    """mIoU (and, given both source domains, rPD) of one model minus that of another on the same frames.

    Both were resampled with the same draws, so the interval is paired: what makes a frame hard for both cancels.
    """
    pairs = {"miou": (model.miou - baseline.miou, model.miou_replicates, baseline.miou_replicates)}
    if sources is not None and min(source.miou for source in sources) > 0:
        value = model.miou / sources[0].miou - baseline.miou / sources[1].miou
        pairs["rpd"] = value, _ratio(model, sources[0]), _ratio(baseline, sources[1])
    return {
        name: _figure(value, None if one is None or other is None else one - other)
        for name, (value, one, other) in pairs.items()
    }


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
