"""Metrics: small records per frame, and figures from records under bootstrap weights.

A metric tallies one frame at a time, writes tallies down so that a run can be resumed, and computes its figures from
any number of tallies, once as they are and once per bootstrap replicate. It names its headline figure and the columns
that tables show, so nothing else spells a metric's name. A new metric is one file here and one row in `METRICS`.
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
}
"""Where each metric is defined, by the name that tasks use."""


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        value: NaN where it is undefined.
        replicates: `(R,)` values under bootstrap weights, `None` without any.
    """

    value: float
    replicates: np.ndarray | None = None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: Of the figure.
        title: Heading, without the unit.
        unit: Of the value once it is multiplied by `scale`.
        scale: What the value is multiplied by: 100 for percent.
        digits: After the decimal point.
        interval: Show the interval in the terminal too; the report shows every interval.
        optional: Omitted where no row has the figure.
    """

    key: str
    title: str
    unit: str = "%"
    scale: float = 100.0
    digits: int = 1
    interval: bool = False
    optional: bool = False


class Metric(Protocol):
    """Figures of one task on the frames of one data set."""

    name: ClassVar[str]
    """Name in `METRICS`."""
    headline: ClassVar[str]
    """Key of the figure that models are compared by, and that rPD is the ratio of."""
    columns: ClassVar[tuple[Column, ...]]
    """What tables show and model folders record; one of them is the headline."""
    groups: ClassVar[tuple[str, ...]]
    """Groups of figures that model folders record as well, such as IoU by class."""
    scope: ClassVar[Literal["frame", "set"]]
    """`frame`: a figure over fewer frames follows from fewer tallies. `set`: a figure compares frames with each other
    (retrieval recall), so leaving out a frame changes the result of the others: it has no interval, and frames have no
    score of their own."""
    protocol: ClassVar[Mapping[str, Any]]
    """Fixed settings that `metrics.json` records, such as the number of calibration bins."""

    def has_truth(self, frame: Frame) -> bool:
        """Whether the frame has the ground truth that `tally` needs. Must not decode any array."""

    def tally(self, frame: Frame, prediction: Any) -> Any:
        """The record of one frame.

        Raises:
            InputError: If the frame has no ground truth, or prediction and truth do not fit together.
        """

    def encode(self, tally: Any) -> dict[str, Any]:
        """A tally as JSON values."""

    def decode(self, values: Mapping[str, Any]) -> Any:
        """What `encode` wrote.

        Raises:
            KeyError, TypeError, ValueError: If it was not written by `encode`.
        """

    def check(self, tallies: Sequence[Any]) -> None:
        """Checks that the tallies count something.

        Raises:
            InputError: If they do not, so that no figure would mean anything.
        """

    def figures(self, tallies: Sequence[Any], weights: np.ndarray | None = None) -> dict[str, Figure]:
        """All figures by key; `iou/road` is the figure `road` in the group `iou`.

        A figure that summarises a group (`iiou` of `iiou/car`) comes before the group.

        Args:
            tallies: One per frame.
            weights: `(R, N)`: how often each frame counts in each replicate.
        """

    def details(self, tallies: Sequence[Any]) -> dict[str, Any]:
        """What else `metrics.json` keeps: counts, confusion matrices."""

    def score(self, tally: Any) -> float:
        """What frames are ranked by for the report's best and worst examples; NaN if undefined."""

    def draw(self, frame: Frame, prediction: Any) -> dict[str, str]:
        """Small pictures of one frame for the report's examples: data URIs by caption, or none.

        Args:
            frame: With its arrays decoded.
            prediction: Of the frame.
        """


def metric_class(name: str) -> type[Metric]:
    """The class of a metric, which names its headline and its columns.

    Raises:
        InputError: If there is no such metric.
    """
    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}{closest(name, METRICS)}; known: {', '.join(METRICS)}")
    module, class_name = METRICS[name].split(":")
    return getattr(importlib.import_module(module), class_name)


def headline_column(metric: Metric | type[Metric]) -> Column:
    """The column of the figure that models are compared by."""
    (column,) = [column for column in metric.columns if column.key == metric.headline]
    return column


def metric_for(name: str, task: Task, classes: ClassTable, **options: Any) -> Metric:
    """The metric `name` for predictions of `task` and ground truth in `classes`.

    Args:
        name: In `METRICS`.
        task: Of the model.
        classes: Of the ground truth.
        options: What the data set's own rules decide.

    Raises:
        InputError: If there is no such metric, or nothing maps the task's classes onto `classes`.
    """
    kind: Any = metric_class(name)  # the protocol says nothing about constructors
    return kind(task, classes, **options)
