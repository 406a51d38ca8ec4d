"""The report's plots, as SVG data URIs, drawn from the content of `metrics.json` alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.evaluate.metrics import Column

__all__ = ["MODEL_COLORS", "conditions_plot", "reliability_plot", "rpd_plot"]

# Okabe and Ito's palette, designed for readers with colour vision deficiencies.
MODEL_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4d4d4d")
_INK, _GRID = "#26323f", "#dfe4ea"
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.5,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": _INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "legend.frameon": False,
    "svg.hashsalt": "perception-zoo",  # makes the files reproducible
}


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _color(index: int) -> str:
    return MODEL_COLORS[index % len(MODEL_COLORS)]


def _whiskers(figure: Mapping[str, Any], scale: float) -> np.ndarray | None:
    if figure["interval"] is None or figure["value"] is None:
        return None
    low, high = figure["interval"]
    return np.array([[max(0.0, figure["value"] - low)], [max(0.0, high - figure["value"])]]) * scale


def _grouped(
    axes: Axes, labels: Sequence[str], rows: Sequence[Sequence[Mapping[str, Any] | None]], scale: float, bars: bool
) -> None:
    """Draws one bar or point with its interval per label and model, from `rows[model][label]`."""
    width = 0.72 / len(rows)
    for number, row in enumerate(rows):
        for place, figure in enumerate(row):
            if figure is None or figure["value"] is None:
                continue
            x, y = place + (number - (len(rows) - 1) / 2) * width, figure["value"] * scale
            whiskers = _whiskers(figure, scale)
            if bars:
                axes.bar(x, y, width * 0.9, color=_color(number), zorder=2)
                axes.errorbar(x, y, whiskers, color=_INK, lw=1.1, capsize=3, zorder=3)
                top = y + (0 if whiskers is None else float(whiskers[1, 0]))
                axes.text(x, top + 1.2, f"{y:.1f}", ha="center", va="bottom", fontsize=8.5)
            else:
                axes.errorbar(x, y, whiskers, fmt="o", color=_color(number), ms=6, lw=1.6, capsize=4, zorder=3)
                top = y + (0 if whiskers is None else float(whiskers[1, 0]))
                axes.text(x, top + 0.02, f"{y:.2f}", ha="center", va="bottom", fontsize=8.5)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.tick_params(length=0)
    axes.grid(axis="y")


def conditions_plot(
    models: Sequence[Mapping[str, Any]], data: str, groups: Sequence[str], column: Column, title: str
) -> str:
    """Headline figure of every model in every condition of one data set, with 95 % intervals."""
    with matplotlib.rc_context(_STYLE):
        rows = [[model["results"][data]["groups"][group][column.key] for group in groups] for model in models]
        figure, axes = plt.subplots(figsize=(max(4.0, 1.0 + 0.36 * len(groups) * (1 + len(models))), 3.0))
        _grouped(axes, groups, rows, column.scale, bars=True)
        axes.set(ylabel=f"{column.title} [{column.unit}]" if column.unit else column.title, title=title)
        highest = max([column.scale / 10, *(column.scale * f["value"] for row in rows for f in row if f["value"])])
        axes.set_ylim(0, min(1.12 * column.scale, highest * 1.22))
        return _uri(figure)


def rpd_plot(models: Sequence[Mapping[str, Any]], data: str, groups: Sequence[str], title: str) -> str:
    """rPD of every model in every condition where it is defined, with 95 % intervals; 1 means no loss."""
    with matplotlib.rc_context(_STYLE):
        rows = [[model["results"][data]["groups"][group].get("rpd") for group in groups] for model in models]
        figure, axes = plt.subplots(figsize=(max(3.2, 1.0 + 0.36 * len(groups) * (1 + len(models))), 3.0))
        axes.axhline(1, color="#9aa5b1", lw=1, ls=(0, (4, 3)))
        _grouped(axes, groups, rows, 1, bars=False)
        values = [f["interval"][1] if f["interval"] else f["value"] for row in rows for f in row if f and f["value"]]
        axes.set(ylabel="rPD", title=title, ylim=(0, max([1.1, *(1.1 * value for value in values)])))
        return _uri(figure)


def reliability_plot(model: Mapping[str, Any], data: str, groups: Sequence[str], title: str) -> str:
    """Reliability diagram of one model, one line per condition, with the share of elements per bin below."""
    with matplotlib.rc_context(_STYLE):
        figure, (axes, below) = plt.subplots(
            2, 1, figsize=(3.9, 4.3), sharex=True, gridspec_kw={"height_ratios": [3, 1], "hspace": 0.12}
        )
        axes.plot([0, 1], [0, 1], color="#9aa5b1", lw=1, ls=(0, (4, 3)))
        elements = model["results"][data]["groups"][groups[0]]["elements"]
        for number, group in enumerate(groups):
            result = model["results"][data]["groups"][group]
            count, confidence, right = np.array(result["reliability"]).T
            if not count.sum():
                continue
            # Bins with almost no elements are noise, but would catch the eye.
            seen = count >= 1e-4 * count.sum()
            error = result["ece"]["value"]
            label = f"{group}, ECE {100 * error:.1f} %"
            x = confidence[seen] / count[seen]
            axes.plot(x, right[seen] / count[seen], "o-", ms=3.5, lw=1.4, color=_color(number), label=label)
            centres = (np.arange(len(count)) + 0.5) / len(count)
            shares = np.maximum(100 * count / count.sum(), 1e-3)
            below.step(centres, shares, where="mid", lw=1.2, color=_color(number))
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=title)
        axes.grid()
        axes.legend(fontsize=8, loc="upper left", handlelength=1.4)
        below.set(ylabel=f"{elements} [%]", xlabel="confidence", yscale="log", ylim=(0.05, 150))
        below.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        below.minorticks_off()
        below.grid()
        return _uri(figure)
