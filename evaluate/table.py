"""The tables that the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from zoo.evaluate.report import TITLES, shown_groups, with_interval

__all__ = ["print_tables"]


def print_tables(metrics: Mapping[str, Any], console: Console) -> None:
    """Figures per model and condition of every data set, then the differences between models."""
    for kind, data in metrics["data"].items():
        source = f", rPD relative to {data['source']}" if data["source"] else ""
        table = Table(title=f"{kind}, split {data['split']}{source}", title_justify="left", title_style="bold")
        groups = shown_groups(metrics, kind)
        weighted = any(
            "iiou" in model["results"][kind]["groups"][group] for model in metrics["models"] for group in groups
        )
        table.add_column("Model", overflow="fold")
        table.add_column("Condition", no_wrap=True)
        for name in (
            "Frames",
            "mIoU %",
            "rPD",
            "Pixel acc. %",
            "Class acc. %",
            "ECE %",
            *(["iIoU %"] if weighted else []),
        ):
            table.add_column(name, justify="right", no_wrap=name in ("Frames", "mIoU %"))
        for model in metrics["models"]:
            for group in groups:
                figures = model["results"][kind]["groups"][group]
                cells = [
                    model["name"] if group == groups[0] else "",
                    TITLES.get(group, group),
                    str(figures["frames"]),
                    with_interval(figures["miou"]),
                    with_interval(figures.get("rpd"), 1, 2),
                    with_interval({**figures["pixel_accuracy"], "interval": None}),
                    with_interval({**figures["mean_class_accuracy"], "interval": None}),
                    with_interval({**figures["ece"], "interval": None}),
                ]
                if weighted:
                    cells.append(with_interval(figures.get("iiou")))
                table.add_row(*cells, style="bold" if group in TITLES else None, end_section=group == groups[-1])
        console.print(table)
        for model in metrics["models"]:
            if mapped := model["results"][kind]["class_map"]:
                console.print(
                    f"[dim]{model['name']}: classes mapped, {mapped}, after the argmax[/dim]", highlight=False
                )
        for caveat in data["caveats"]:
            console.print(f"[yellow]note:[/yellow] {caveat}", highlight=False)
    if metrics["comparison"]:
        baseline = metrics["comparison"][0]["baseline"]
        table = Table(
            title=f"Difference from {baseline}, paired 95 % intervals", title_justify="left", title_style="bold"
        )
        for name, justify in (
            ("Model", "left"),
            ("Data", "left"),
            ("Condition", "left"),
            ("mIoU points", "right"),
            ("rPD", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for row in metrics["comparison"]:
            if row["group"] in shown_groups(metrics, row["data"]):
                difference = with_interval(row["miou"], 100, 1, True), with_interval(row.get("rpd"), 1, 2, True)
                table.add_row(row["model"], row["data"], TITLES.get(row["group"], row["group"]), *difference)
        console.print(table)
