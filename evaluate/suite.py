"""Evaluation of several models on several data sets, with resumable per-frame records and paired comparisons.

`metrics.json` (format 1; figures are fractions, `null` if undefined):

| key | contents |
| --- | --- |
| `format`, `created`, `command`, `environment` | version of this layout, UTC time, command line, machine and packages |
| `protocol` | method of the intervals, settings of the metric (`ece_bins`), `--source` |
| `data` | per data set: folder, split, fingerprint, classes, frames per group, source of rPD, caveats |
| `models` | per model: name, task, metric, artefact (file, hash, engine, precision), settings, caveats, `results` |
| `models[].results[data]` | class map, `unpredicted` classes, protocol hash, per group figures, `rpd`, `pools` |
| `comparison` | per data set, group and further model: difference to the first model, with paired intervals |
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from zoo.class_maps import class_map_name, unpredicted
from zoo.data import Dataset
from zoo.data.terms import is_synthetic
from zoo.errors import InputError
from zoo.evaluate.core import evaluate, load_frame
from zoo.evaluate.intervals import MIN_UNITS
from zoo.evaluate.metrics import Metric, metric_class, metric_for
from zoo.evaluate.store import FrameStore, protocol_hash
from zoo.evaluate.submission import SERVERS
from zoo.evaluate.summary import ALL, Measured, difference, examples, groups_of, measure, rpd, source_of
from zoo.frame import Frame
from zoo.machine import packages, processor
from zoo.tasks import Task

__all__ = ["METRICS_FORMAT", "RECORD_KEY", "EvaluatedModel", "Run", "Session", "metric_of", "processes", "record_rows"]

METRICS_FORMAT = 1
RECORD_KEY = ("artefact_sha256", "data", "split", "group", "protocol")
"""Fields that identify a recorded row; evaluating the same file under the same protocol again replaces it."""


class EvaluatedModel(Protocol):
    """Interface that a model needs to be evaluated; `zoo.load` and `zoo.foreign.load` return such models.

    The latter also have `caveats`, which are shown with their figures.
    """

    name: str
    task: Task
    artefact: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything other than the file that affects the results."""

    def __call__(self, frame: Frame, /) -> Any:
        """The task's prediction for one frame."""


def processes() -> tuple[int, int]:
    """Rank of this process and number of processes, from the environment variables set by `torchrun`."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Run:
    """One model on one data set.

    Attributes:
        label: Name of the model in this session.
        predictor: Model.
        dataset: Data set.
        metric: Metric that tallies the predictions.
        frames: Frames with ground truth.
        protocol: Everything that the per-frame records depend on.
        store: Per-frame records.
    """

    label: str
    predictor: EvaluatedModel
    dataset: Dataset
    metric: Metric
    frames: tuple[Frame, ...]
    protocol: dict[str, Any]
    store: FrameStore


class Session:
    """Evaluates models on data sets into one folder.

    Args:
        predictors: Models by display name. The others are compared with the first one.
        datasets: Data sets, at most one of each kind. Frames without ground truth are skipped.
        out: Folder for per-frame records, `metrics.json` and `report.html`.
        source: Denominator of rPD, see `summary.source_of`.

    Raises:
        InputError: If there is no model or no data set, two data sets have the same kind, no frame has ground truth, a
            model's task has no metric, the models' metrics differ, or there is no class map from a model's classes to a
            data set's. Raised before anything is predicted.
    """

    def __init__(
        self,
        predictors: Mapping[str, EvaluatedModel],
        datasets: Sequence[Dataset],
        out: Path,
        *,
        source: str | None = None,
    ) -> None:
        if not predictors or not datasets:
            raise InputError(
                f"got {len(predictors)} models and {len(datasets)} data sets; expected at least one of each"
            )
        kinds = [dataset.kind for dataset in datasets]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise InputError(f"data set {twice[0]} is given twice; evaluate the second folder with another --out")
        self.out = out
        self.source = source
        self.predictors = dict(predictors)
        self.datasets = {dataset.kind: dataset for dataset in datasets}
        self.rank, self.world = processes()
        self.sources = {kind: source_of(dataset, self.datasets, source) for kind, dataset in self.datasets.items()}
        metrics = {
            (label, dataset.kind): metric_of(predictor.task, dataset)
            for label, predictor in predictors.items()
            for dataset in datasets
        }
        if len(names := dict.fromkeys(metric.name for metric in metrics.values())) > 1:
            raise InputError(
                f"the models have different metrics ({', '.join(names)}); evaluate models with the same metric together"
            )
        self.fingerprints = {kind: dataset.fingerprint() for kind, dataset in self.datasets.items()}
        self.runs = [
            self._prepare(label, dataset, metrics[label, dataset.kind]) for label in predictors for dataset in datasets
        ]

    def _prepare(self, label: str, dataset: Dataset, metric: Metric) -> Run:
        predictor = self.predictors[label]
        frames = tuple(filter(metric.has_truth, dataset.frames))
        if not frames:
            hint = "; --submission FILE.zip writes predictions for its test server" if dataset.kind in SERVERS else ""
            raise InputError(f"{dataset.kind} {dataset.split} has no public labels to evaluate with{hint}")
        protocol = {
            "format": METRICS_FORMAT,
            "data": dataset.kind,
            "split": dataset.split,
            "fingerprint": self.fingerprints[dataset.kind],
            "model": predictor.name,
            "classes": _class_names(predictor.task),
            "artefact": dict(predictor.artefact),
            "settings": dict(predictor.settings),
            **_given_maps(predictor.task, dataset),
        }
        store = FrameStore(self.out / "frames", f"{label}.{dataset.kind}", protocol, metric, self.rank, self.world)
        return Run(label, predictor, dataset, metric, frames, protocol, store)

    def run(
        self,
        *,
        fresh: bool = False,
        readers: int = 2,
        say: Callable[[str], None] = lambda line: None,
        advance: Callable[[Run, int, int], None] = lambda run, done, total: None,
        patience: float = 1800.0,
    ) -> dict[str, Any] | None:
        """Evaluates the remaining frames and returns the content of `metrics.json`, or `None` except on rank 0.

        Args:
            fresh: Discard the records of an earlier run under the same protocol.
            readers: Number of threads that decode images.
            say: Called with messages for the user.
            advance: Called as frames are completed, with their number and the total of this process.
            patience: Seconds to wait for other processes without progress.
        """
        if fresh and self.world > 1:
            raise InputError("--fresh does not work under torchrun; choose a new --out instead")
        records = []
        for run in self.runs:
            if fresh:
                run.store.clear()
            if self.rank == 0 and not run.store.load():
                for stale in run.store.others():
                    say(f"{stale.name} belongs to a different model file, data or settings; starting from scratch")
            self._count(run, readers, say, advance)
        if self.rank != 0:
            return None
        for run in self.runs:
            found = run.store.wait_for([frame.id for frame in run.frames], patience)
            records.append([found[frame.id] for frame in run.frames])
        return self._summarise(records)

    def _count(
        self, run: Run, readers: int, say: Callable[[str], None], advance: Callable[[Run, int, int], None]
    ) -> None:
        mine = run.frames[self.rank :: self.world]
        done = run.store.load()
        left = [frame for frame in mine if frame.id not in done]
        if len(left) < len(mine):
            say(f"{run.label} on {run.dataset.kind}: {len(mine) - len(left)} of {len(mine)} frames already done")
        advance(run, len(mine) - len(left), len(mine))
        counted = evaluate(left, run.predictor, run.metric, readers=readers)
        try:
            for number, (frame, record) in enumerate(counted, len(mine) - len(left) + 1):
                run.store.append(frame.id, record)
                advance(run, number, len(mine))
        finally:
            counted.close()
            run.store.close()

    def _summarise(self, records: list[list[Any]]) -> dict[str, Any]:
        models = {label: _model_block(label, predictor) for label, predictor in self.predictors.items()}
        measured: dict[tuple[str, str, str], Measured] = {}
        for run, of_run in zip(self.runs, records, strict=True):
            groups = {}
            for group, indices in groups_of(run.dataset, run.frames, self._own_source(run.dataset)).items():
                frames, tallies = [run.frames[i] for i in indices], [of_run[i] for i in indices]
                result = measure(run.dataset, run.metric, frames, tallies)
                result.json["pools"] = list(dict.fromkeys(frame.group for frame in frames))
                result.json["examples"] = examples(run.metric, frames, tallies)
                measured[run.label, run.dataset.kind, group] = result
                groups[group] = result.json
            models[run.label]["results"][run.dataset.kind] = {
                "class_map": _class_map(run.predictor.task, run.dataset),
                "unpredicted": _unpredicted(run.predictor.task, run.dataset),
                "protocol": protocol_hash(run.protocol),
                "groups": groups,
            }
        for (model, kind, group), result in measured.items():
            if found := self._source_of(measured, model, kind, group):
                result.json["rpd"] = rpd(result, found, self.sources[kind] or ("", ""))
        return {
            "format": METRICS_FORMAT,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": "",
            "environment": environment(),
            "protocol": {
                "intervals": {"method": "95 %, jackknife over independent units, Student's t", "min_units": MIN_UNITS},
                **self.runs[0].metric.protocol,
                "source": self.source,
            },
            "data": {kind: self._data_block(dataset) for kind, dataset in self.datasets.items()},
            "models": list(models.values()),
            "comparison": self._compare(measured),
        }

    def _source_of(
        self, measured: Mapping[tuple[str, str, str], Measured], model: str, kind: str, group: str
    ) -> Measured | None:
        """The figures of the source domain; `None` for a group that is or includes the source itself."""
        source = self.sources[kind]
        if source is None or (kind, group) == source:
            return None
        dataset = self.datasets[kind]
        if source[0] == kind:
            pooled = [name for name in dataset.groups if name not in dataset.outside_pool]
            if source[1] == ALL or (group == ALL and source[1] in pooled):
                return None
        return measured.get((model, *source))

    def _own_source(self, dataset: Dataset) -> str | None:
        source = self.sources[dataset.kind]
        return source[1] if source is not None and source[0] == dataset.kind else None

    def members(self) -> dict[str, dict[str, list[Frame]]]:
        """The frames of every group, by kind of data set."""
        return {
            run.dataset.kind: {
                group: [run.frames[i] for i in indices]
                for group, indices in groups_of(run.dataset, run.frames, self._own_source(run.dataset)).items()
            }
            for run in self.runs
        }

    def _compare(self, measured: Mapping[tuple[str, str, str], Measured]) -> list[dict[str, Any]]:
        first = next(iter(self.predictors))
        rows = []
        for (model, kind, group), result in measured.items():
            if model == first:
                continue
            sources = [self._source_of(measured, name, kind, group) for name in (model, first)]
            pair = (sources[0], sources[1]) if sources[0] is not None and sources[1] is not None else None
            differences = difference(result, measured[first, kind, group], pair)
            rows.append({"data": kind, "group": group, "model": model, "baseline": first, **differences})
        return rows

    def pictures(self, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Predicts the example frames named in `metrics` again and draws them for `report.write_report`."""
        shown = []
        for run in self.runs:
            (block,) = [block for block in metrics["models"] if block["name"] == run.label]
            by_id = {frame.id: frame for frame in run.frames}
            for group, figures in block["results"][run.dataset.kind]["groups"].items():
                for example in figures["examples"] if group in run.dataset.groups else ():
                    frame = load_frame(by_id[example["frame"]])
                    if drawn := run.metric.draw(frame, run.predictor(frame)):
                        named = {"model": run.label, "data": run.dataset.kind, "group": group}
                        shown.append({**named, **example, "pictures": drawn})
        return shown

    def _data_block(self, dataset: Dataset) -> dict[str, Any]:
        labelled = next(run.frames for run in self.runs if run.dataset is dataset)
        source = self.sources[dataset.kind]
        rendered = dataset.kind != "synthetic" and is_synthetic(dataset)
        return {
            "root": None if dataset.root is None else str(dataset.root),
            "split": dataset.split,
            "fingerprint": self.fingerprints[dataset.kind],
            "taxonomy": dataset.classes.taxonomy,
            "classes": list(dataset.classes.names),
            "colors": [list(color) for color in dataset.classes.colors],
            "absent_classes": dataset.absent_classes,
            "video": dataset.video,
            "frames": {name: sum(frame.group == name for frame in labelled) for name in dataset.groups},
            "unlabelled": len(dataset.frames) - len(labelled),
            "source": None if source is None else ":".join(source),
            "rendered": rendered,
            "caveats": [*dataset.caveats, *([_RENDERED] if rendered else [])],
        }


def _given_maps(task: Task, dataset: Dataset) -> dict[str, Any]:
    """The user's class map, which the per-frame records depend on."""
    given = None if task.classes is None else task.classes.maps.get(dataset.classes.taxonomy)
    return {} if given is None else {"class_map": dict(given)}


def metric_of(task: Task, dataset: Dataset) -> Metric:
    """The metric that evaluates models of a task on a data set.

    Raises:
        InputError: If the task has no metric, or no table maps its classes onto the data set's.
    """
    if task.metric is None:
        raise InputError(f"there is no metric for models of the task {task.name}; choose a model with a head")
    rules = {name: getattr(dataset, name) for name in metric_class(task.metric).rules}
    return metric_for(task.metric, task, dataset.classes, **rules)


def _class_names(task: Task) -> list[str] | None:
    return None if task.classes is None else list(task.classes.names)


def _class_map(task: Task, dataset: Dataset) -> str | None:
    """Human-readable name of the class map in use; `None` if the classes are the same."""
    return None if task.classes is None else class_map_name(task.classes, dataset.classes)


def _unpredicted(task: Task, dataset: Dataset) -> list[str]:
    """Classes of the data set that the model can never predict."""
    return [] if task.classes is None else unpredicted(task.classes, dataset.classes)


def _model_block(label: str, predictor: EvaluatedModel) -> dict[str, Any]:
    return {
        "name": label,
        "task": predictor.task.name,
        "metric": predictor.task.metric,
        "artefact": dict(predictor.artefact),
        "settings": dict(predictor.settings),
        "caveats": [dict(caveat) for caveat in getattr(predictor, "caveats", ())],
        "taxonomy": None if predictor.task.classes is None else predictor.task.classes.taxonomy,
        "results": {},
    }


_RENDERED = "These frames were rendered by zoo synthetic in the files of this data set; none is a recording."
_SHOWN = ("key", "title", "unit", "scale", "digits", "higher_is_better")
"""What a row says of each of its columns; `zoo.folder.provenance.Shown` reads it."""


def record_rows(metrics: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    """Rows for a model folder's `metrics.json`: one self-contained row per data set and group.

    Keys: `artefact_sha256`, `task`, `data` (`synthetic-KIND` if `zoo synthetic` rendered the frames), `split`, `group`,
    `protocol` (hash), `frames`, `fingerprint`, `class_map`,
    `source` (of rPD), `intervals` (what they cover, or why there are none), `effective_units` (of the headline figure),
    `headline` (key of the headline figure), `columns` (how to show the figures: `key`, `title`, `unit`, `scale`,
    `digits`, `higher_is_better`), those figures and `rpd` (each with `_interval`, `null` if there is none), the
    metric's `groups` of values (`iou` by class), `settings`, `environment`, `command`, `created`. When the rows are
    recorded, `zoo.folder.provenance.row_caveats` adds `caveats` that follow from the training data.
    """
    (block,) = [block for block in metrics["models"] if block["name"] == model]
    metric = metric_class(block["metric"])
    rows = []
    for kind, result in block["results"].items():
        for group, figures in result["groups"].items():
            row = {
                "artefact_sha256": block["artefact"]["sha256"],
                "task": block["task"],
                "data": f"synthetic-{kind}" if metrics["data"][kind]["rendered"] else kind,
                "split": metrics["data"][kind]["split"],
                "group": group,
                "protocol": result["protocol"],
                "frames": figures["frames"],
                "fingerprint": metrics["data"][kind]["fingerprint"],
                "class_map": result["class_map"],
                "source": figures.get("rpd", {}).get("source"),
                "intervals": figures["sampling"]["words"],
                "effective_units": figures["sampling"]["units"],
                "headline": metric.headline,
                "columns": [{key: getattr(column, key) for key in _SHOWN} for column in metric.columns],
            }
            for name in (*(column.key for column in metric.columns), "rpd"):
                figure = figures.get(name, {"value": None, "interval": None})
                row[name], row[f"{name}_interval"] = figure["value"], figure["interval"]
            for group_name in metric.groups:
                row[group_name] = {name: figure["value"] for name, figure in figures[group_name].items()}
            row["settings"] = block["settings"]
            row |= {key: metrics[key] for key in ("environment", "command", "created")}
            rows.append(row)
    return rows


def environment() -> dict[str, Any]:
    """The machine, the processes and threads, and the packages in use."""
    torch: Any = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads() if torch else os.environ.get("OMP_NUM_THREADS"),
        "processes": processes()[1],
        "packages": packages(loaded=True),
    }
