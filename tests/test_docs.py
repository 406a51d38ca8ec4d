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


def test_the_ledger_is_that_of_the_records() -> None:
    """After a bundled model was measured again: python benchmarks/ledger.py."""
    ledger = runpy.run_path(str(ROOT / "benchmarks" / "ledger.py"))
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    assert ledger["rendered"]() == page
    # 64.9 by day is shown only with what must be read with it
    (day,) = [line for line in page.splitlines() if "| camvid | val | day | 101 | mIoU (%) | 64.87" in line]
    assert "neighbours of training frames" in day
    published, measured = page.split("## Measured here")
    assert "| 4.1 | CLCP (Lin) b512 | acdc | val | mIoU | 39.73 |" in published
    assert "39.73" not in measured


def test_ours_stands_only_next_to_the_same_figure() -> None:
    ours = runpy.run_path(str(ROOT / "benchmarks" / "ledger.py"))["ours"]
    figure = {"model": "m", "data": "acdc", "split": "val", "group": "all", "metric": "mIoU", "needs": "ACDC"}
    row = {"data": "acdc", "split": "val", "group": "all", "artefact_sha256": "a" * 64, "rpd": None}
    row |= {"miou": 0.4, "miou_interval": [0.35, 0.45]}
    assert ours(figure, [row]) == "40.00 [35.0, 45.0] (file `aaaaaaaaaaaa…`)"
    for other in ({"split": "test"}, {"data": "cityscapes"}, {"group": "night"}):
        assert ours(figure, [{**row, **other}]).startswith("not measured here: needs ACDC")
    assert ours({**figure, "metric": "rPD"}, [row]).startswith("not measured here")
