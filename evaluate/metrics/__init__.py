"""Metrics: a small tally per frame, and figures computed from tallies under resampling weights.

A metric tallies one frame at a time, encodes tallies so that a run can be resumed, and computes its figures from any
number of tallies, once unweighted and once per replicate. It also names its headline figure and the columns of tables,
so the rest of the code does not depend on any particular metric. A new metric is one file here and one row in
`METRICS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from zoo.classes import ClassTable
from zoo.errors import InputError, closest
from zoo.frame import Frame

if TYPE_CHECKING:
    from zoo.tasks import Task

__all__ = ["METRICS", "Column", "Figure", "Metric", "headline_column", "metric_class", "metric_for"]

METRICS = {
    "segmentation2d": "zoo.evaluate.metrics.segmentation2d:Segmentation2DMetric",
    "segmentation3d": "zoo.evaluate.metrics.segmentation3d:Segmentation3DMetric",
}
"""Where each metric is defined, by the name that tasks use."""


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        value: NaN if undefined.
        replicates: `(R,)` values under each row of resampling weights; `None` if no weights were given.
    """

    value: float
    replicates: np.ndarray | None = None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: Key of the figure.
        title: Heading, without the unit.
        unit: Unit of the value after multiplication by `scale`.
        scale: Factor for display: 100 for per cent.
        digits: Decimal places.
        interval: Show the interval in the terminal too; the report shows every interval.
        optional: Omit the column if no row has the figure.
        higher_is_better: False for errors. Decides best and worst frames, verdicts, and which way round rPD is.
        fraction: The figure lies between 0 and 1, and its interval stays within that range.
    """

    key: str
    title: str
    unit: str = "%"
    scale: float = 100.0
    digits: int = 1
    interval: bool = False
    optional: bool = False
    higher_is_better: bool = True
    fraction: bool = True

    @property
    def difference_unit(self) -> str:
        """Unit of a difference between two figures; percentages differ by percentage points."""
        return "points" if self.unit == "%" else self.unit


class Metric(Protocol):
    """Figures of one task on the frames of one data set."""

    name: ClassVar[str]
    """Name in `METRICS`."""
    headline: ClassVar[str]
    """Key of the figure by which models are compared and from which rPD is computed."""
    columns: ClassVar[tuple[Column, ...]]
    """Figures that tables show and model folders record, including the headline."""
    groups: ClassVar[tuple[str, ...]]
    """Groups of figures that model folders also record, such as IoU by class."""
    scope: ClassVar[Literal["frame", "set"]]
    """`frame`: a figure over fewer frames follows from fewer tallies. `set`: a figure compares frames with each other
    (retrieval recall), so leaving out a frame changes the result of the others: it has no interval, and frames have no
    score of their own."""
    protocol: ClassVar[Mapping[str, Any]]
    """Fixed settings that `metrics.json` records, such as the number of calibration bins."""
    rules: ClassVar[tuple[str, ...]]
    """Rules of a data set that the constructor takes as keyword arguments, named as in `Dataset`."""

    def has_truth(self, frame: Frame) -> bool:
        """Whether the frame has the ground truth that `tally` needs. Must not decode any array."""

    def tally(self, frame: Frame, prediction: Any) -> Any:
        """Reduces one frame to a small record.

        Raises:
            InputError: If the frame has no ground truth, or prediction and ground truth do not match.
        """

    def encode(self, tally: Any) -> dict[str, Any]:
        """A tally as JSON values."""

    def decode(self, values: Mapping[str, Any]) -> Any:
        """Inverse of `encode`.

        Raises:
            KeyError, TypeError, ValueError: If `values` do not come from `encode`.
        """

    def check(self, tallies: Sequence[Any]) -> None:
        """Checks that the tallies are not empty.

        Raises:
            InputError: If they are, so that no figure would be meaningful.
        """

    def figures(self, tallies: Sequence[Any], weights: np.ndarray | None = None) -> dict[str, Figure]:
        """All figures by key; `iou/road` is the figure `road` in the group `iou`.

        A figure that summarises a group (`iiou` for `iiou/car`) comes before the group.

        Args:
            tallies: One per frame.
            weights: `(R, N)` weight of each frame in each replicate; always `None` for a metric of scope `set`. A row
                may be all zeros, for example if there is only one independent unit; its replicates are NaN.
        """

    def details(self, tallies: Sequence[Any]) -> dict[str, Any]:
        """Further content for `metrics.json`, such as counts and confusion matrices."""

    def score(self, tally: Any) -> float:
        """The headline figure of one frame, or a stand-in that ranks frames in the same way, for the report's best and
        worst examples; NaN if undefined."""

    def draw(self, frame: Frame, prediction: Any) -> dict[str, str]:
        """Thumbnails of one frame for the report's examples, as data URIs by caption; may be empty.

        Args:
            frame: Frame with its arrays decoded.
            prediction: Prediction for the frame.
        """


def metric_class(name: str) -> type[Metric]:
    """The class of a metric.

    Raises:
        InputError: If there is no such metric.
    """
    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}{closest(name, METRICS)}; known: {', '.join(METRICS)}")
    module, class_name = METRICS[name].split(":")
    return getattr(importlib.import_module(module), class_name)


def headline_column(metric: Metric | type[Metric]) -> Column:
    """The column of the headline figure."""
    (column,) = [column for column in metric.columns if column.key == metric.headline]
    return column


def metric_for(name: str, task: Task, classes: ClassTable, **options: Any) -> Metric:
    """Creates the metric `name` for predictions of `task` and ground truth in `classes`.

    Args:
        name: Name in `METRICS`.
        task: Task of the model.
        classes: Class table of the ground truth.
        options: Keyword arguments of the metric, for example the data set's rules in `Metric.rules`.

    Raises:
        InputError: If there is no such metric, or no class map from the task's classes to `classes`.
    """
    kind: Any = metric_class(name)  # the protocol says nothing about constructors
    return kind(task, classes, **options)
