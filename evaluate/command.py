"""Evaluates models per weather and light condition.

Writes metrics.json and report.html to --out. Run the same command again to resume an interrupted run. Under torchrun,
the frames are split across the processes.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from zoo.class_maps import read_class_map, with_class_maps
from zoo.data import Dataset, open_dataset, parse_source
from zoo.errors import InputError
from zoo.files import write_json
from zoo.folder.provenance import row_caveats
from zoo.foreign import descriptions_by_model, scheme_of

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Evaluates models per weather and light condition and writes metrics.json and report.html."""

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL [MODEL ...]")]
    """Catalogue names, model folders, hf-hub:org/name, or models of other projects: onnx:FILE.onnx,
    python:MODULE:FUNCTION, hf:ORG/NAME, torchvision:NAME. Every further model is compared with the first."""
    data: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KIND[=DIR]")] = ()
    """Data set: acdc=DIR, camvid=DIR, cityscapes=DIR, folder=DIR (your own images and label maps), or synthetic
    (embedded frames). Repeat for several."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/evaluate")
    """Folder for the results."""
    split: Literal["train", "val", "test", "all"] = "val"
    """Split to evaluate. The embedded frames have no splits."""
    engine: str = "auto"
    """Engine: torch, onnx, openvino, or auto (the first of onnx, torch, openvino that is available)."""
    device: str = ""
    """Device, for example cuda:0. Default: cpu; under torchrun with CUDA, one GPU per process."""
    precision: str = "fp32"
    """Arithmetic precision: fp32, bf16 or fp16, if the engine and the file support it."""
    threads: int | None = None
    """CPU threads of the engine."""
    file: str | None = None
    """Run this file of the model folder, for example onnx/NAME.fp16.onnx."""
    description: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="[MODEL=]FILE.yaml")] = ()
    """Classes, input and output of an onnx: or python: model. Default for onnx:FILE.onnx: FILE.yaml. Repeat for
    several models."""
    class_map: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="FILE.yaml")] = ()
    """Which class of the data each class of a model counts as, in place of the tables of this package. Repeat for
    several."""
    source: Annotated[str | None, tyro.conf.arg(metavar="DATA|GROUP|DATA:GROUP")] = None
    """Source domain, the denominator of rPD. Default: for ACDC, Cityscapes if it is evaluated too; otherwise the data
    set's own clear, day or reference frames."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Evaluate at most N evenly spaced frames per condition, for a quick look; the results are marked as limited."""
    record: bool = False
    """Add the results to each model folder's metrics.json."""
    submission: Annotated[Path | None, tyro.conf.arg(metavar="FILE.zip")] = None
    """Write predictions as a zip for the test server of ACDC or Cityscapes (one model, one data set, --split test)."""
    fresh: bool = False
    """Discard the results of an earlier, interrupted run in --out."""
    readers: int = 2
    """Threads that decode images."""
    report: bool = True
    """Write report.html."""


def run(arguments: Arguments) -> int:
    """Runs the evaluation, prints the tables and writes the files."""
    datasets = open_datasets(arguments)
    if arguments.readers < 1:
        raise InputError(f"--readers {arguments.readers}: expected at least 1")
    if not arguments.models:
        raise InputError("no model given; try zoo evaluate MODEL --data synthetic (zoo list shows all names)")
    if arguments.record and arguments.limit is not None:
        raise InputError("--record stores results of whole splits only; omit --limit")
    if arguments.submission is not None:
        _check_submission(arguments, datasets)
    predictors = _with_class_maps(arguments, _load(arguments), datasets)
    if arguments.submission is not None:
        _submit(arguments, predictors, datasets[0])
        if not _has_truth(predictors, datasets[0]):
            return 0
    return _evaluate(arguments, predictors, datasets)


def open_datasets(arguments: Arguments) -> list[Dataset]:
    """Opens the data sets selected by `--data`, `--split` and `--limit`."""
    if not arguments.data:
        raise InputError("no data given; use --data synthetic or, for example, --data camvid=DIR")
    datasets = []
    for text in arguments.data:
        kind, root = parse_source(text)
        dataset = open_dataset(kind, root, "val" if root is None else arguments.split)
        limited = dataset if arguments.limit is None else dataset.select(limit=arguments.limit)
        if len(limited) < len(dataset):
            caveat = f"Only up to {arguments.limit} frames per condition were evaluated (--limit)."
            limited = dataclasses.replace(limited, caveats=(*limited.caveats, caveat))
        datasets.append(limited)
    return datasets


def _load(arguments: Arguments) -> dict[str, Any]:
    import zoo

    device = _device(arguments)
    if twice := [name for name in arguments.models if arguments.models.count(name) > 1]:
        raise InputError(f"model {twice[0]} is given twice")
    descriptions = descriptions_by_model(arguments.description, arguments.models)
    options: dict[str, Any] = {
        "engine": arguments.engine,
        "device": device,
        "precision": arguments.precision,
        "threads": arguments.threads,
    }
    predictors: dict[str, Any] = {}
    for reference in arguments.models:
        if scheme_of(reference) is not None:
            predictor = _load_foreign(arguments, reference, description=descriptions.get(reference), **options)
        else:
            predictor = zoo.load(reference, file=arguments.file, **options)
            if arguments.record:
                predictor.folder.refuse_installed("record measurements in")
        # Two folders may contain models of the same name; the second is labelled with its folder too.
        label = predictor.name if predictor.name not in predictors else f"{predictor.name} ({reference})"
        predictors[label] = predictor
    return predictors


def _load_foreign(arguments: Arguments, reference: str, **options: Any) -> Any:
    from zoo import foreign

    if arguments.record:
        raise InputError(f"--record adds results to a model folder, which {reference} does not have; omit it")
    if arguments.file is not None:
        raise InputError(f"--file chooses a file of a model folder, which {reference} does not have; omit it")
    return foreign.load(reference, **options)


def _with_class_maps(arguments: Arguments, predictors: dict[str, Any], datasets: list[Dataset]) -> dict[str, Any]:
    """The models with the class maps of `--class-map`."""
    maps = [read_class_map(path) for path in arguments.class_map]
    taxonomies = [dataset.classes.taxonomy for dataset in datasets]
    for each in maps:
        if each.target not in taxonomies:
            raise InputError(f"{each.path} leads to {each.target}; the data has the classes {', '.join(taxonomies)}")
    tables = {label: each.classes for label, each in predictors.items() if each.classes is not None}
    for label, table in with_class_maps(tables, maps).items():
        if table.maps:
            predictors[label] = predictors[label].with_classes(table)
    return predictors


def _device(arguments: Arguments) -> str:
    if arguments.device:
        return arguments.device
    if "LOCAL_RANK" in os.environ and arguments.engine in ("auto", "torch"):
        import torch

        if torch.cuda.is_available():
            return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return "cpu"


def _check_submission(arguments: Arguments, datasets: list[Dataset]) -> None:
    from zoo.evaluate.submission import SERVERS

    if len(arguments.models) != 1 or len(datasets) != 1 or datasets[0].kind not in SERVERS:
        kinds = ", ".join(dataset.kind for dataset in datasets)
        raise InputError(
            "--submission takes one model and either --data acdc=DIR or --data cityscapes=DIR, "
            f"got {len(arguments.models)} models and {kinds}"
        )
    if "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1:
        raise InputError("--submission runs in a single process; start it without torchrun")


def _has_truth(predictors: Mapping[str, Any], dataset: Dataset) -> bool:
    from zoo.evaluate.suite import metric_of

    return any(
        any(map(metric_of(predictor.task, dataset).has_truth, dataset.frames)) for predictor in predictors.values()
    )


def _submit(arguments: Arguments, predictors: Mapping[str, Any], dataset: Dataset) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from zoo.evaluate.submission import SERVERS, submitted_frames, write_submission

    console = Console()
    server = SERVERS[dataset.kind]
    ((label, predictor),) = predictors.items()
    path = arguments.submission
    assert path is not None
    with Progress(console=console) as progress:
        task = progress.add_task(f"{label} for the {server.title} server", total=len(submitted_frames(dataset)))
        written = write_submission(
            path,
            dataset,
            predictor,
            predictor.classes,
            readers=arguments.readers,
            advance=lambda done, total: progress.update(task, completed=done),
        )
    lines = [f"{path}: {written.count} predictions as {server.meaning}"]
    if written.shortcomings:
        lines += [f"not ready for the {server.title} server: {line}" for line in written.shortcomings]
    else:
        lines += [f"ready for the {server.title} server"]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _evaluate(arguments: Arguments, predictors: Mapping[str, Any], datasets: list[Dataset]) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from zoo.evaluate.suite import RECORD_KEY, Session, record_rows
    from zoo.evaluate.table import print_tables

    session = Session(predictors, datasets, arguments.out, source=arguments.source)
    console = Console(quiet=session.rank != 0)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=session.rank != 0) as progress:
        tasks = {id(r): progress.add_task(f"{r.label} on {r.dataset.kind}", total=None) for r in session.runs}
        metrics = session.run(
            fresh=arguments.fresh,
            readers=arguments.readers,
            say=lambda line: progress.console.print(line, highlight=False),
            advance=lambda run, done, total: progress.update(tasks[id(run)], completed=done, total=total),
        )
    if metrics is None:
        return 0
    metrics["command"] = shlex.join(["zoo", *sys.argv[1:]])
    write_json(arguments.out / "metrics.json", metrics)
    print_tables(metrics, console)
    written = [arguments.out / "metrics.json"]
    if arguments.report:
        from zoo.evaluate.report import write_report

        with console.status("drawing the report"):
            write_report(arguments.out / "report.html", metrics, session.pictures(metrics))
        written.append(arguments.out / "report.html")
    if arguments.record:
        for label, predictor in predictors.items():
            folder, rows = predictor.folder, record_rows(metrics, label)
            rows = row_caveats(rows, folder.config, session.datasets, session.members(), folder.metrics())
            predictor.record(rows, RECORD_KEY)
            written.append(predictor.folder.path / "metrics.json")
    for path in written:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    return 0
