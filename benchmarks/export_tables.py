"""Writes the tables in docs/export.md from the records of the bundled models, or checks that they are up to date.

python benchmarks/export_tables.py          # rewrites docs/export.md; run it after exporting a bundled model
python benchmarks/export_tables.py --check  # exit code 1 if the page differs from parity.json and metrics.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "export.md"
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
MODELS = ROOT / "zoo" / "models"
_BEGIN, _END = "<!-- {name}: written by benchmarks/export_tables.py -->\n", "<!-- end of {name} -->"


def read_rows(file: str) -> list[tuple[str, dict[str, Any]]]:
    """Every row in this file of every bundled model, as (model, row)."""
    records = [(path.parent.name, json.loads(path.read_text())) for path in sorted(MODELS.glob(f"*/{file}"))]
    return [(model, row) for model, record in records for row in record["rows"]]


def parity_table() -> str:
    """Table with a line per row of `parity.json`; the mIoU column has the largest difference of any condition."""
    lines = [
        "| model | file | engine | device | frames | labels that agree | error / largest | other shapes | mIoU |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for model, row in read_rows("parity.json"):
        differences = [part["difference"] for part in row["conditions"].values()]
        largest = max((abs(value) for value in differences if value is not None), default=None)
        worst = min((shape["agreement"] for shape in row["other_shapes"]), default=None)
        cells = [
            f"`{model}`",
            f"`{row['artefact_sha256'][:12]}…`",
            f"{row['engine']} {row['packages'][_PACKAGES[row['engine']]]}",
            f"{row['device']}: {row['machine']['processor']}",
            str(row["frames"]),
            f"{100 * row['agreement']:.5f} %",
            f"{row['relative_error']:.1e}",
            "" if worst is None else f"{100 * worst:.5f} %",
            "" if largest is None else f"{100 * largest:.5f} points",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def speed_table() -> str:
    """Table with a line per latency row of `metrics.json`."""
    lines = [
        "| model | engine | precision | device | threads | sample | p50 | p90 | p99 |",
        "| --- | --- | --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for model, row in read_rows("metrics.json"):
        if row.get("kind") == "latency":
            times = [f"{row['latency_ms'][name]:.1f} ms" for name in ("p50", "p90", "p99")]
            size = " x ".join(map(str, row["sample"]["size"]))
            device = f"{row['device']}: {row['machine']['processor']}"
            cells = [f"`{model}`", row["engine"], row["precision"], device, str(row["threads"]), size, *times]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rendered(page: str) -> str:
    """The page with both tables generated from the records."""
    for name, table in (("parity", parity_table()), ("speed", speed_table())):
        begin, end = _BEGIN.format(name=name), _END.format(name=name)
        page, count = re.subn(
            f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, new=begin + table + end: new, page, flags=re.DOTALL
        )
        assert count == 1, f"docs/export.md has {count} markers for the table {name}; expected 1"
    return page


if __name__ == "__main__":
    now = PAGE.read_text(encoding="utf-8")
    new = rendered(now)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == now else "docs/export.md differs from the records; run benchmarks/export_tables.py")
    PAGE.write_text(new, encoding="utf-8")
