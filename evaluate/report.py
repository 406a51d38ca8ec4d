"""The HTML report: one self-contained page from the content of `metrics.json` and pictures of example frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from zoo.evaluate.metrics import Column, headline_column, metric_class
from zoo.evaluate.summary import ALL, SHIFTED
from zoo.files import write_bytes

__all__ = [
    "TITLES",
    "interval_notes",
    "model_notes",
    "percent",
    "shown_columns",
    "shown_groups",
    "with_interval",
    "write_report",
]

_TEMPLATE = "report.html.j2"
TITLES = {ALL: "all conditions", SHIFTED: "all but the source"}
"""Display names of the pooled rows."""


def write_report(path: Path, metrics: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> None:
    """Writes the page.

    Args:
        path: HTML file.
        metrics: Content of `metrics.json`.
        pictures: Example frames with `model`, `data`, `group`, `which` (best, median, worst), `frame`, the frame's
            score under the key of the headline figure, and `pictures` (data URIs by caption).
    """
    from zoo.evaluate.plots import MODEL_COLORS, conditions_plot, reliability_plot, rpd_plot

    models = metrics["models"]
    (metric,) = {model["metric"] for model in models}
    headline = headline_column(metric_class(metric))
    segmentation = "iou" in metric_class(metric).groups  # adds sections of its own to the report
    elements = _elements(metric)
    sections = []
    for kind, data in metrics["data"].items():
        groups = shown_groups(metrics, kind)
        single = [group for group in groups if group not in TITLES]
        shifted = [g for g in groups if any("rpd" in model["results"][kind]["groups"][g] for model in models)]
        sections.append(
            {
                "kind": kind,
                "data": data,
                "groups": groups,
                "single": single,
                "columns": shown_columns(metric, _all_figures(models, kind)),
                "findings": [_finding(model, kind, groups, headline) for model in models],
                "notes": [(model["name"], interval_notes(metrics, kind, model)) for model in models],
                "model_notes": [note for model in models for note in model_notes(kind, model)],
                "conditions": conditions_plot(
                    models, kind, groups, headline, f"{headline.title} per condition, 95 % intervals"
                ),
                "rpd": rpd_plot(models, kind, shifted, f"rPD, source {data['source']}") if shifted else None,
                "reliability": [
                    reliability_plot(model, kind, single, model["name"])
                    for model in models
                    if segmentation and _has_scores(model, kind)
                ],
                "comparison": [row for row in metrics["comparison"] if row["data"] == kind and row["group"] in groups],
                "pictures": [picture for picture in pictures if picture["data"] == kind],
            }
        )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"percent": percent, "with_interval": with_interval, "figure": _figure}
    environment.filters |= {"heat": _heat, "verdict": _verdict}
    environment.globals |= {"titles": TITLES, "colors": MODEL_COLORS, "headline": headline}
    environment.globals |= {"segmentation": segmentation, "difference_unit": headline.difference_unit}
    environment.globals |= {"elements": elements, "by_distance": "miou_at" in metric_class(metric).groups}
    source = resources.files("zoo.evaluate").joinpath(_TEMPLATE).read_text("utf-8")
    page = environment.from_string(source).render(metrics=metrics, models=models, sections=sections)
    write_bytes(path, page.encode())


def shown_groups(metrics: Mapping[str, Any], kind: str) -> list[str]:
    """Groups of one data set to show in tables; a pooled row of a single group is omitted, as it would repeat it."""
    groups = metrics["models"][0]["results"][kind]["groups"]
    return [group for group, figures in groups.items() if group not in TITLES or len(figures["pools"]) > 1]


def shown_columns(metric: str, rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Columns of a table of these rows, headline first; optional columns only if some row has the figure.

    Args:
        metric: Name of the metric.
        rows: Figures of the groups to show.
    """
    chosen = metric_class(metric)
    columns = sorted(chosen.columns, key=lambda column: column.key != chosen.headline)
    return [column for column in columns if not column.optional or any(column.key in row for row in rows)]


def interval_notes(metrics: Mapping[str, Any], kind: str, model: Mapping[str, Any]) -> list[str]:
    """Notes on what the intervals of one model on one data set cover, or why there are none, grouped by text."""
    results = model["results"][kind]["groups"]
    notes: dict[str, list[str]] = {}
    for group in shown_groups(metrics, kind):
        notes.setdefault(results[group]["sampling"]["words"], []).append(TITLES.get(group, group))
    return [f"{', '.join(groups)}: {words}" for words, groups in notes.items()]


def model_notes(kind: str, model: Mapping[str, Any]) -> list[str]:
    """What to keep in mind with one model's figures on one data set."""
    notes = [f"{model['name']}: {caveat['text']}." for caveat in model.get("caveats", ())]
    if never := model["results"][kind].get("unpredicted"):
        notes.append(
            f"{model['name']} cannot predict {', '.join(never)}: such {_elements(model['metric'])} count as wrong, and "
            "the IoU of these classes is 0 where they occur in the ground truth."
        )
    return notes


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage such as `62.1`, or a dash if it is undefined."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def with_interval(figure: Mapping[str, Any] | None, scale: float = 100.0, digits: int = 1, sign: bool = False) -> str:
    """A figure such as `62.1 [60.0, 64.2]`; without brackets if there is no interval, a dash if it is undefined."""
    if figure is None or figure["value"] is None:
        return "–"

    def show(number: float) -> str:
        return format(round(scale * number, digits) + 0.0, f"{'+' if sign else ''}.{digits}f")  # never -0.0

    if figure["interval"] is None:
        return show(figure["value"])
    return f"{show(figure['value'])} [{', '.join(map(show, figure['interval']))}]"


def _finding(model: Mapping[str, Any], kind: str, groups: Sequence[str], headline: Column) -> str:
    """One sentence on how much a model loses from the source condition to its worst one."""
    results = model["results"][kind]["groups"]
    single = [group for group in groups if group not in TITLES]

    def shown(group: str) -> str:
        value = with_interval(results[group][headline.key], headline.scale, headline.digits)
        return " ".join(filter(None, (value, headline.unit, headline.title)))

    with_ratio = [group for group in single if results[group].get("rpd", {}).get("value") is not None]
    if not with_ratio:
        return f"{model['name']}: {shown(single[0])}."
    worst = min(with_ratio, key=lambda group: results[group]["rpd"]["value"])
    ratio = results[worst]["rpd"]
    start = f"{model['name']}: the worst condition is {worst}, {shown(worst)}"
    return f"{start}, rPD {with_interval(ratio, 1, 2)} relative to {ratio['source']}."


def _elements(metric: str) -> str:
    """What a metric counts, in the plural."""
    return getattr(metric_class(metric), "elements", "elements")


def _has_scores(model: Mapping[str, Any], kind: str) -> bool:
    """Whether the model returned scores; without them there is no calibration."""
    return any(figures["ece"]["value"] is not None for figures in _all_figures([model], kind))


def _all_figures(models: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [figures for model in models for figures in model["results"][kind]["groups"].values()]


def _figure(figure: Mapping[str, Any] | None, *format_: Any) -> Markup:
    """As `with_interval`, with the interval in small print."""
    value, _, bounds = with_interval(figure, *format_).partition(" ")
    return Markup("{} <small>{}</small>").format(value, bounds) if bounds else Markup(value)


def _verdict(figure: Mapping[str, Any], higher_is_better: bool) -> str:
    """Whether a difference is significant: its interval excludes zero."""
    if figure["interval"] is None:
        return ""
    low, high = figure["interval"]
    if not higher_is_better:
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "open"


def _heat(value: float | None) -> str:
    """Background and text colour of a cell, from pale (0) to deep blue (1)."""
    if value is None:
        return "background:#f3f4f6;color:#8a94a0"
    low, high = (244, 248, 252), (16, 82, 148)
    mixed = [round(a + (b - a) * value) for a, b in zip(low, high, strict=True)]
    return f"background:rgb({mixed[0]},{mixed[1]},{mixed[2]});color:{'#fff' if value > 0.52 else '#1b2733'}"
