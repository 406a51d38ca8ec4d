"""The loop with the smallest recipe there is: nothing but settings, data and a step, and no other file touched."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tolerances import assert_close
from torch import nn

from zoo.cli import main
from zoo.frame import frame_from_image
from zoo.inputs.preprocessing import Preprocessing
from zoo.training import command
from zoo.training.augment import Augmentation
from zoo.training.logs import RunLog
from zoo.training.loop import Recipe, load_checkpoint, run
from zoo.training.samples import SampleStream, Source
from zoo.training.settings import Range, RunSettings, changed_settings


@dataclass(frozen=True, kw_only=True)
class Settings(RunSettings):
    """Fits a line to points."""

    slope: Annotated[float, Range(at_least=-10, at_most=10)] = 3.0
    """Of the points."""
    dropout: Annotated[float, Range(at_least=0, below=1)] = 0.25
    """Of the input."""


PRESETS: dict[str, dict[str, Any]] = {
    "default": {"steps": 12, "batch": 4, "learning_rate": 0.1, "evaluate_every": 5, "checkpoint_every": 3},
    "average": {"steps": 12, "batch": 4, "average_decay": 0.5, "optimiser": "adamw", "checkpoint_every": 3},
}


class Line(Recipe):
    name = "line"
    score_name = "closeness"
    settings: Settings

    def build(self, device: torch.device) -> nn.Module:
        return nn.Sequential(nn.Dropout(self.settings.dropout), nn.Linear(1, 1))

    def batches(self, first_step: int, rank: int, world_size: int) -> Any:
        for step in range(first_step, self.settings.steps):
            generator = torch.Generator().manual_seed(1000 * self.settings.seed + step)
            x = torch.randn(self.settings.batch, 1, generator=generator)
            yield x, self.settings.slope * x

    def loss(self, model: nn.Module, batch: Any, device: torch.device) -> torch.Tensor:
        return (model(batch[0].to(device)) - batch[1].to(device)).square().mean()

    def score(self, model: nn.Module, fabric: Any) -> float | None:
        assert not model.training
        return -abs(float(model[1].weight.detach()) - self.settings.slope)  # type: ignore[index, union-attr, operator]

    def publish(self, folder: Path, model: nn.Module, record: dict[str, Any]) -> None:
        folder.mkdir()
        torch.save(model.state_dict(), folder / "weights.pt")
        (folder / "record.json").write_text(json.dumps(record))

    def record(self) -> dict[str, Any]:
        return {"data": ["points"]}


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("line_recipe")
    module.Settings, module.PRESETS = Settings, PRESETS  # type: ignore[attr-defined]
    module.train = lambda settings: run(Line(settings))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "line_recipe", module)
    monkeypatch.setitem(command.RECIPES, "line", "line_recipe")


def train(out: Path, *words: object) -> int:
    return main(["train", "line", "--device", "cpu", "--out", str(out), *map(str, words)])


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "model" / "weights.pt", weights_only=True)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open() as handle:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(handle)]


@pytest.mark.usefixtures("line")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_recipe_of_three_functions_is_resumed_exactly(tmp_path: Path, preset: str) -> None:
    assert train(tmp_path / "whole", "--preset", preset, "--log-every", 1) == 0
    # Stopped by the clock after every single step, until it is done.
    starts = 0
    while train(tmp_path / "parts", "--preset", preset, "--log-every", 1, "--max-minutes", 1e-9, "--resume") != 0:
        starts += 1
    assert starts == 11  # the twelfth start does the last step and finishes
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert [row["step"] for row in rows(tmp_path / "whole")] == [str(step) for step in range(1, 13)]
    scored = [row["step"] for row in rows(tmp_path / "whole") if row["closeness"]]
    assert scored == (["5", "10", "12"] if preset == "default" else ["12"])
    record = json.loads((tmp_path / "whole" / "model" / "record.json").read_text())
    assert (record["recipe"], record["data"]) == ("zoo train line", ["points"])
    assert record["kept_step"] == max(record["holdout_closeness"], key=lambda pair: pair[1])[0]
    with Image.open(tmp_path / "whole" / "curves.png") as curves:
        assert curves.format == "PNG"


@pytest.mark.usefixtures("line")
def test_the_weights_follow_the_optimiser_by_hand(tmp_path: Path) -> None:
    """Three steps of SGD with momentum 0.9 and polynomial decay, worked out with plain arithmetic."""
    more = ["--steps", 3, "--batch", 2, "--learning-rate", 0.1, "--minimum-learning-rate", 0, "--power", 1]
    assert train(tmp_path / "run", *more, "--dropout", 0, "--evaluate-every", 3) == 0
    torch.manual_seed(0)
    start = nn.Linear(1, 1)
    weight, bias = float(start.weight.detach()), float(start.bias.detach())
    momentum = [0.0, 0.0]
    for step in range(3):
        x = torch.randn(2, 1, generator=torch.Generator().manual_seed(step))[:, 0].double().numpy()
        error = weight * x + bias - 3 * x
        gradient = [(2 * error * x).mean(), (2 * error).mean()]
        momentum = [0.9 * m + g for m, g in zip(momentum, gradient)]
        rate = 0.1 * (1 - step / 3)
        weight, bias = weight - rate * momentum[0], bias - rate * momentum[1]
    found = weights(tmp_path / "run")
    assert_close(found["1.weight"], weight)
    assert_close(found["1.bias"], bias)


@pytest.mark.usefixtures("line")
def test_the_loop_checks_and_refuses_for_every_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(out: str, *words: object) -> str:
        capsys.readouterr()
        assert train(tmp_path / out, *words) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    assert "--slope 11.0: expected at least -10" in error("new", "--slope", 11)
    assert "--warmup 13: expected at most --steps 12" in error("new", "--warmup", 13)
    (tmp_path / "file").write_text("")
    assert "is a file" in error("file")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert "stopped at step 1 of 12; continue with --resume" in error("run", "--max-minutes", 1e-9)
    assert "already contains a run" in error("run")
    assert "contains a run with different settings (seed, slope)" in error("run", "--resume", "--slope", 2, "--seed", 1)
    former = json.loads((tmp_path / "run" / "settings.json").read_text())
    (tmp_path / "run" / "settings.json").write_text("{")
    assert "settings.json is damaged" in error("run", "--resume")
    (tmp_path / "run" / "settings.json").unlink()
    assert "no settings.json" in error("run", "--resume")
    del former["slope"], former["log_every"]  # a run from before these settings existed
    (tmp_path / "run" / "settings.json").write_text(json.dumps(former))
    assert train(tmp_path / "run", "--resume", "--workers", 7) == 0
    assert "contains a finished run" in error("run", "--resume")


@pytest.mark.usefixtures("line")
def test_a_loss_that_is_not_finite_ends_the_run_and_not_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ["--slope", 10, "--learning-rate", 10, "--minimum-learning-rate", 10, "--steps", 500]
    assert train(tmp_path / "run", *wild, "--checkpoint-every", 500, "--evaluate-every", 500) == 2
    assert "lower --learning-rate" in capsys.readouterr().err
    assert train(tmp_path / "run") == 0  # as the message says, with no other folder and no --resume
    assert rows(tmp_path / "run")[-1]["step"] == "12"


def test_rows_after_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "score")
    for step in (1, 2, 3):
        log.add(step=step, seconds=0.1, loss=1 / step, learning_rate=0.1, score=0.5 if step == 2 else None)
    with (tmp_path / "log.csv").open("a") as handle:
        handle.write("4,0.1,0.2")  # killed in the middle of a row
    resumed = RunLog(tmp_path, "score", step=2)
    resumed.add(step=3, seconds=0.2, loss=1 / 3, learning_rate=0.1)
    resumed.close()
    assert [(row["step"], row["loss"], row["score"]) for row in rows(tmp_path)] == [
        ("1", "1.0", ""),
        ("2", "0.5", "0.5"),
        ("3", "0.3333333333333333", ""),
    ]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert RunLog(tmp_path, "score").rows == []  # a run that starts anew


def test_tensorboard_events_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed (extra `train`)")
    program = f"""
import json
from pathlib import Path
from zoo.training.logs import RunLog
for step in (0, 2):
    log = RunLog(Path({str(tmp_path)!r}), "score", step)
    for step in range(step + 1, 4):
        log.add(step=step, seconds=0.1, loss=10.0 * step, learning_rate=0.5, score=0.25 if step == 2 else None)
    log.close()
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator({str(tmp_path / "tensorboard")!r}).Reload()
print(json.dumps({{tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loss"] == [[1, 10.0], [2, 20.0], [3, 30.0]]
    assert found["score"] == [[2, 0.25]]


def test_settings_that_may_change_and_those_that_may_not() -> None:
    now = Settings(out=Path("b"), workers=0, resume=True, max_minutes=3, checkpoint_every=9, log_every=9, slope=2)
    former = {"out": "a", "workers": 2, "slope": 3.0, "steps": 80_000}
    assert changed_settings(now, former) == ["slope"]
    assert changed_settings(now, {**former, "slope": 2.0, "seed": 1}) == ["seed"]


def test_samples_need_labels_only_where_the_recipe_does() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    options: dict[str, Any] = {"total": 3, "crop": (32, 32), "augmentation": Augmentation(), "ignore_index": 255}
    options |= {"preprocessing": Preprocessing.from_json({"normalisation": "image"}), "seed": 5}
    labelled = frame_from_image(image, labels=np.zeros((40, 48), np.uint8))
    with_labels = SampleStream([Source([labelled], np.arange(256, dtype=np.uint8))], **options)
    without = SampleStream([Source([frame_from_image(image)])], **options)
    for position in range(3):
        pixels, labels = with_labels[position]
        assert labels.shape == (32, 32)
        assert torch.equal(without[position], pixels)  # the same crop and the same distortion
    with pytest.raises(ValueError, match="has no labels to train on"):
        SampleStream([Source([frame_from_image(image)], np.arange(256, dtype=np.uint8))], **options)[0]


def test_checkpoints_are_read_without_running_code(tmp_path: Path) -> None:
    torch.save({"step": Settings}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        load_checkpoint(tmp_path / "last.pt")
