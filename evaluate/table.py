"""Result tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.evaluate.metrics import Column, headline_column, metric_class
from zoo.evaluate.report import TITLES, interval_notes, shown_columns, shown_groups, with_interval

__all__ = ["print_tables"]


def print_tables(metrics: Mapping[str, Any], console: Console) -> None:
    """Prints the figures per condition of every model on every data set, then the differences between models."""
    for kind, data in metrics["data"].items():
        for model in metrics["models"]:
            _print_figures(metrics, kind, model, console)
            if mapped := model["results"][kind]["class_map"]:
                console.print(
                    f"[dim]predicted classes were mapped from {mapped} after the argmax[/dim]",
                    highlight=False,
                    soft_wrap=True,
                )
        for caveat in data["caveats"]:
            console.print(f"[yellow]note:[/yellow] {caveat}", highlight=False, soft_wrap=True)
    for model in dict.fromkeys(row["model"] for row in metrics["comparison"]):
        _print_differences([row for row in metrics["comparison"] if row["model"] == model], metrics, console)


def _print_figures(metrics: Mapping[str, Any], kind: str, model: Mapping[str, Any], console: Console) -> None:
    data, results = metrics["data"][kind], model["results"][kind]["groups"]
    source = f", rPD relative to {data['source']}" if data["source"] else ""
    console.print(f"\n[bold]{escape(model['name'])} on {kind} {data['split']}[/bold]{source}", highlight=False)
    table = Table(box=SIMPLE)
    groups = shown_groups(metrics, kind)
    headline, *others = shown_columns(model["metric"], [results[group] for group in groups])
    titles = [f"{column.title} {column.unit}".strip() for column in (headline, *others)]
    table.add_column("Condition", no_wrap=True)
    for name in ("Frames", titles[0], "rPD", *titles[1:]):
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups:
        figures = results[group]
        cells = [
            TITLES.get(group, group),
            str(figures["frames"]),
            _cell(figures, headline),
            with_interval(figures.get("rpd"), 1, 2),
            *(_cell(figures, column) for column in others),
        ]
        table.add_row(*cells, style="bold" if group in TITLES else None)
    _print_whole(table, console)
    for note in interval_notes(metrics, kind, model):
        console.print(f"[dim]{escape(note)}[/dim]", highlight=False, soft_wrap=True)


def _cell(figures: Mapping[str, Any], column: Column) -> str:
    figure = figures.get(column.key)
    if figure is not None and not column.interval:
        figure = {**figure, "interval": None}
    return with_interval(figure, column.scale, column.digits)


def _print_differences(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any], console: Console) -> None:
    title = f"[bold]{escape(rows[0]['model'])} minus {escape(rows[0]['baseline'])}[/bold], paired 95 % intervals"
    console.print(f"\n{title}", highlight=False)
    table = Table(box=SIMPLE)
    (metric,) = {model["metric"] for model in metrics["models"]}
    headline = headline_column(metric_class(metric))
    for name in ("Data", "Condition", f"{headline.title} {headline.difference_unit}".strip(), "rPD"):
        table.add_column(name, justify="left" if name in ("Data", "Condition") else "right", no_wrap=True)
    for row in rows:
        if row["group"] in shown_groups(metrics, row["data"]):
            difference = with_interval(row[headline.key], headline.scale, headline.digits, True)
            ratio = with_interval(row.get("rpd"), 1, 2, True)
            table.add_row(row["data"], TITLES.get(row["group"], row["group"]), difference, ratio)
    _print_whole(table, console)


def _print_whole(table: Table, console: Console) -> None:
    """Prints a table at full width: in a narrow terminal, wrapped lines are better than truncated figures."""
    before, console.width = console.width, max(console.width, 200)
    console.print(table)
    console.width = before
