"""Writes docs/ledger.md: published figures next to ours, from `published.toml` and the records of the bundled models.

    python benchmarks/ledger.py          # rewrites the page
    python benchmarks/ledger.py --check  # exit code 1 if it differs

A figure of ours stands next to a published one only if model, data, split, condition and metric are the same; otherwise
the line says what is needed to measure it. Figures that others report about our weights have a column of their own.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.folder.catalogue import BUNDLED, entries
from zoo.folder.model_folder import ModelFolder
from zoo.folder.provenance import headline

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ledger.md"
PUBLISHED = Path(__file__).parent / "published.toml"
_KEYS = {"mIoU": "miou", "rPD": "rpd"}


def measured(name: str) -> list[dict[str, Any]]:
    """Accuracy rows of a bundled model, for the file that a vehicle runs; none for a model that is not bundled."""
    if name not in entries() or not entries()[name].bundled:
        return []
    folder = ModelFolder.open(BUNDLED / name)
    exported = [entry["sha256"] for entry in folder.config["artefacts"] if entry["engine"] != "torch"]
    return [row for row in folder.metrics() if row.get("kind") != "latency" and row["artefact_sha256"] in exported]


def shown(row: Any) -> str:
    """The headline figure of a row with its interval."""
    first = headline(row)
    return f"{first.value(row) or 'undefined'}{first.interval(row) or ', no interval'}"


def percent(value: float | None, interval: Any = None) -> str:
    """A figure in per cent with its interval."""
    if value is None:
        return "undefined"
    spread = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ", no interval"
    return f"{100 * value:.2f}{spread}"


def ours(figure: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    """Our figure for the same model, data, split, condition and metric, or what it takes to measure it."""
    key = _KEYS.get(figure["metric"])  # none of a metric that nothing here measures
    for row in rows if key else ():
        if all(row[part] == figure[part] for part in ("data", "split", "group")) and row.get(key) is not None:
            if key == "rpd":
                return f"{row[key]:.2f} (file `{row['artefact_sha256'][:12]}…`)"
            return f"{percent(row[key], row.get(f'{key}_interval'))} (file `{row['artefact_sha256'][:12]}…`)"
    weights = f" and the weights of `{figure['model']}`" if figure["model"] else " and its weights"
    return f"not measured here: needs {figure['needs']}{weights}"


def published_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """A table per paper."""
    for key, paper in document["paper"].items():
        year = f", {paper['year']}" if paper["year"] else ""
        yield f"### {paper['authors']}: {paper['title']} ({paper['where']}{year})\n"
        yield "| table | method | data | split | metric | published | protocol | test-time augmentation | ours |"
        yield "| --- | --- | --- | --- | --- | ---: | --- | --- | --- |"
        for figure in document["figure"]:
            if figure["paper"] == key:
                cells = [
                    figure[part] for part in ("table", "method", "data", "split", "metric", "value", "protocol", "tta")
                ]
                yield f"| {' | '.join([*cells, ours(figure, measured(figure['model']))])} |"
        yield ""


def measured_lines() -> Iterator[str]:
    """Every figure of the bundled models, and what others report about the same weights."""
    yield "| model | data | split | condition | frames | figure | measured here | read with | reported by others |"
    yield "| --- | --- | --- | --- | ---: | --- | --- | --- | --- |"
    for name in entries():
        for row in measured(name):
            caveats = "; ".join(caveat["text"] for caveat in row.get("caveats", ()))
            others = [each for each in row.get("also", ()) if not each["measured_here"]]
            reported = "; ".join(
                f"{shown(each)} on {each['data']} {each['split']} {each['group']} ({each['origin']})" for each in others
            )
            cells = [f"`{name}`", row["data"], row["split"], row["group"], str(row["frames"]), headline(row).heading]
            yield f"| {' | '.join([*cells, shown(row), caveats, reported])} |"


def rendered() -> str:
    """The page."""
    document = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    known = {figure["model"] for figure in document["figure"]}
    without = [f"`{name}`" for name in entries() if name not in known]
    return "\n".join(
        [
            "# Published and measured figures",
            "",
            "Written by `python benchmarks/ledger.py` from `benchmarks/published.toml` and the records of the bundled",
            "models. mIoU in per cent with its 95 % interval. A published figure and ours stand in one line only if",
            "model, data, split, condition and metric are the same. Validation and test are never mixed, nor are",
            "figures with and without test-time augmentation; ours are without.",
            "",
            "## Published, and ours next to it",
            "",
            *published_lines(document),
            "## Measured here",
            "",
            f"No published figure is known for the weights of {', '.join(without)}. Figures of the exported file:",
            "",
            *measured_lines(),
            "",
        ]
    )


def main() -> int:
    """Writes or checks the page."""
    page = rendered()
    if "--check" in sys.argv[1:]:
        same = PAGE.read_text(encoding="utf-8") == page
        print("docs/ledger.md is current" if same else "docs/ledger.md differs: python benchmarks/ledger.py")
        return 0 if same else 1
    PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
