"""Figures in the documentation are those of the bundled records."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_tables_of_the_export_page_are_those_of_the_records() -> None:
    """After a bundled model was exported or measured again: python benchmarks/export_tables.py."""
    tables = runpy.run_path(str(ROOT / "benchmarks" / "export_tables.py"))
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    assert tables["rendered"](page) == page
    for model in ("supervised-resnet18w48-synthetic.fpn-camvid", "supervised-resnet18w48-synthetic.fpn-synthetic"):
        assert page.count(f"| `{model}` |") >= 4  # a row of parity, three engines
