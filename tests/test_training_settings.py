"""Settings of recipes: every range holds, whatever is fed to it, and nothing is written when one does not."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo.cli import main
from zoo.errors import InputError
from zoo.training.augment import Augmentation
from zoo.training.segmenter import PRESETS, Settings
from zoo.training.settings import Range, check

GOOD = Settings(model="m", data=("cityscapes=x",), out=Path("out"))
# The fields for which 0 means something, written down by hand; every other number must be above 0.
ZERO_ALLOWED = {
    "minimum_learning_rate",
    "power",
    "warmup",
    "weight_decay",
    "clip_norm",
    "average_decay",
    "seed",
    "workers",
    "max_minutes",
    "dice",
    "holdout",
    "augmentation.flip",
    "augmentation.photometric",
    "augmentation.low_light",
    "augmentation.degrade",
    "augmentation.distorted",
}


def numbers(kind: type, prefix: str = "") -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Name, bare type and annotations of every field that holds numbers, nested dataclasses included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, rules = hints[field.name], ()
        if dataclasses.is_dataclass(hint):
            yield from numbers(typing.cast(type, hint), f"{prefix}{field.name}.")
        if typing.get_origin(hint) is typing.Annotated:
            hint, *rules = typing.get_args(hint)
        parts = typing.get_args(hint) if typing.get_origin(hint) is tuple else (hint,)
        if {int, float} & set(parts):
            yield prefix + field.name, hint, tuple(rules)


FIELDS = {name: (hint, rules) for name, hint, rules in numbers(Settings)}


def replaced(settings: Any, name: str, value: Any) -> Any:
    first, _, rest = name.partition(".")
    if rest:
        value = replaced(getattr(settings, first), rest, value)
    return dataclasses.replace(settings, **{first: value})


def shaped(hint: Any, value: Any) -> list[Any]:
    """`value` in the shape of the field: in a tuple of two it is tried at both places."""
    items = typing.get_args(hint)
    if typing.get_origin(hint) is not tuple:
        return [value]
    return (
        [(value,)]
        if Ellipsis in items
        else [(value, 64 if int in items else 1.0), (64 if int in items else 1.0, value)]
    )


def test_the_sweep_sees_every_number() -> None:
    assert {"learning_rate", "crop", "mixture", "augmentation.scale", "seed", "max_minutes"} <= set(FIELDS)
    assert set(FIELDS) >= ZERO_ALLOWED
    assert all(any(isinstance(rule, Range) for rule in rules) for _, rules in FIELDS.values())


def test_the_presets_pass() -> None:
    check(GOOD)
    for values in PRESETS.values():
        check(dataclasses.replace(GOOD, **values))


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, -1, -1e-9, 1e300, 10**30, "1", None, True, [1], "nan"]
)
def test_no_field_takes_a_value_that_is_never_right(name: str, value: Any) -> None:
    for wrong in shaped(FIELDS[name][0], value):
        with pytest.raises(InputError, match="^--" + name.replace("_", "-")):
            check(replaced(GOOD, name, wrong))


@pytest.mark.parametrize("name", FIELDS)
def test_zero_passes_only_where_it_means_something(name: str) -> None:
    for zero in shaped(FIELDS[name][0], 0):
        changed = replaced(GOOD, name, zero)
        if name in ZERO_ALLOWED:
            check(changed)
        else:
            with pytest.raises(InputError):
                check(changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup": 9, "steps": 8}, "--warmup 9: expected at most --steps 8"),
        ({"minimum_learning_rate": 0.2}, "--minimum-learning-rate 0.2: expected at most --learning-rate 0.01"),
        ({"steps": 10_000_000, "batch": 64}, "expected at most 100,000,000 samples"),
        ({"batch": 3, "devices": 2, "device": "cpu"}, "--batch 3: expected a multiple of --devices 2"),
        ({"device": "cpu", "precision": "16-mixed"}, "--precision 16-mixed needs a CUDA device"),
        ({"mixture": (0.5, 0.5)}, "--mixture has 2 values for 1 data sets"),
        ({"augmentation": Augmentation(scale=(2.0, 0.5))}, "--augmentation.scale 2.0 0.5: expected the smaller value"),
        ({"augmentation": "strong"}, "--augmentation strong"),
        ({"data": ()}, "--data : expected at least one value"),
        ({"data": ("camvid=x",), "holdout": 0.0}, "--holdout 0: CamVid's val is part of the training sequences"),
        ({"out": "out"}, "--out out: expected a path"),
        ({"resume": 1}, "--resume 1: expected True or False"),
        ({"optimiser": "lion"}, "--optimiser lion: expected one of sgd, adamw"),
        ({"device": "gpu"}, "--device gpu: expected one of auto, cpu, cuda"),
        ({"name": "a/b"}, "--name a/b: expected up to 100 letters"),
    ],
)
def test_values_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check(dataclasses.replace(GOOD, **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "--learning-rate nan",
        "--devices 0",
        "--device foo",
        "--workers -1",
        "--augmentation.scale 2 0.5",
        "--evaluate-every 0",
        "--checkpoint-every 0",
        "--seed -1",
        "--augmentation.flip 3",
        "--average-decay 2",
        "--dice -1",
        "--power nan",
        "--weight-decay -1",
        "--device cpu --precision 16-mixed",
        "--steps 3 --warmup 4",
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_nothing(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "run"
    command = ["train", "segmenter", "--preset", "cpu", "--model", "supervised-resnet18w48-synthetic.fpn-camvid"]
    assert main([*command, "--data", f"camvid={tmp_path}", "--out", str(out), *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"zoo: error: {words.split()[-2 if 'scale' not in words else -3]} ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_cuda_is_refused_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device is available; use --device cpu"):
        check(dataclasses.replace(GOOD, device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check(dataclasses.replace(GOOD, device="cuda", devices=2, precision="16-mixed"))
    with pytest.raises(InputError, match="--devices 4: 2 CUDA devices are available"):
        check(dataclasses.replace(GOOD, device="cuda", devices=4))
