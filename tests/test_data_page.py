"""What docs/data.md says about folders is true of the readers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from zoo.data import READERS, open_dataset

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")


def test_every_reader_of_a_folder_is_on_the_page() -> None:
    table = PAGE.split("## Conventions")[0]
    assert {kind for kind, reader in READERS.items() if reader.folder} == set(
        re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `")))
    )


def test_the_folder_of_the_page(tmp_path: Path) -> None:
    for name in ("classes", "sensor"):
        (text,) = re.findall(rf"```yaml\n(# {name}\.yaml.*?)```", PAGE, re.DOTALL)
        (tmp_path / f"{name}.yaml").write_text(text)
    for path, content in (
        ("points/night/0001.bin", np.array([[1, 2, 3, 255, 4]], "<f4")),
        ("labels/night/0001.label", np.array([1], "<u4")),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(content.tobytes())
    (frame,) = open_dataset("folder", tmp_path).frames
    sweep = frame.lidars["lidar"][0]
    assert sweep.points.tolist() == [[1, 2, 3, 1, 4]]
    assert sweep.labels is not None
    assert sweep.labels.tolist() == [1]
    assert sweep.sensor is not None
    assert (sweep.sensor.beams, sweep.sensor.height_m, sweep.sensor.forward) == (32, 1.84, "+y")
    assert frame.group == "night"
