"""Validation of recipe settings.

A field declares its allowed values in its annotation:

    learning_rate: Annotated[float, Range(above=0, at_most=10)] = 1e-2

`check` validates a recipe's settings against these annotations, including nested dataclasses, and then calls the method
`conflicts` of each dataclass that has one to find incompatible values. A recipe writes nothing before `check` passes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from zoo.errors import InputError, closest

__all__ = [
    "AtLeastOne",
    "Count",
    "Fraction",
    "MayChange",
    "Name",
    "OneOf",
    "Range",
    "RunSettings",
    "changed_settings",
    "check",
    "plain",
]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Allowed values of a number, or of every number in a tuple. NaN and infinity are never allowed."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def problem(self, value: Any) -> str | None:
        """Error text if `value` is out of range, else `None`."""
        inside = (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )
        return None if inside else f"expected {self}"

    def __str__(self) -> str:
        bounds = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        return " and ".join(f"{word} {bound:,}" for word, bound in bounds.items() if bound is not None)


@dataclass(frozen=True)
class OneOf:
    """Allowed choices of a string."""

    choices: tuple[str, ...]

    def problem(self, value: str) -> str | None:
        """Error text if `value` is not one of the choices, else `None`."""
        if value in self.choices:
            return None
        return f"expected one of {', '.join(self.choices)}{closest(value, self.choices)}"


@dataclass(frozen=True)
class AtLeastOne:
    """Requires a non-empty tuple of non-empty strings."""

    def problem(self, value: str) -> str | None:
        """Error text if `value`, one of the strings, is empty; `check` handles an empty tuple."""
        return None if value else "expected a value"


@dataclass(frozen=True)
class Name:
    """A string that is safe as a file name, or empty."""

    def problem(self, value: str) -> str | None:
        """Error text if `value` is not a valid name, else `None`."""
        good = not value or (re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value) and ".." not in value)
        return None if good else "expected up to 100 letters, digits, dots, dashes and underscores"


@dataclass(frozen=True)
class MayChange:
    """Marks a setting that may change when a run is resumed, because it does not influence the weights."""


Fraction = Annotated[float, Range(at_least=0, at_most=1)]
"""A share or a probability."""
Count = Annotated[int, Range(at_least=1, at_most=10_000_000)]
"""A number of steps."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings shared by all recipes; the loop in `zoo.training.loop` reads no others."""

    out: Annotated[Path, MayChange()]
    """Folder for checkpoints, logs and the finished model folder."""
    steps: Count = 80_000
    """Optimiser steps."""
    batch: Annotated[int, Range(at_least=1, at_most=65_536)] = 8
    """Samples per step, in total over all processes."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum 0.9, or AdamW with betas 0.9 and 0.999."""
    learning_rate: Annotated[float, Range(above=0, at_most=10)] = 1e-2
    """Base learning rate."""
    minimum_learning_rate: Annotated[float, Range(at_least=0, at_most=10)] = 1e-4
    """Final learning rate of the polynomial decay."""
    power: Annotated[float, Range(at_least=0, at_most=10)] = 0.9
    """Exponent of the polynomial decay."""
    warmup: Annotated[int, Range(at_least=0, at_most=10_000_000)] = 0
    """Steps of linear warm-up."""
    weight_decay: Annotated[float, Range(at_least=0, at_most=1)] = 0.0
    """Weight decay. Applies to weight matrices and kernels only."""
    clip_norm: Annotated[float, Range(at_least=0, at_most=1e6)] = 0.0
    """Maximum gradient norm; 0 disables clipping."""
    average_decay: Annotated[float, Range(at_least=0, below=1)] = 0.0
    """Decay of the moving average of the weights, which is evaluated and saved; 0 disables averaging."""
    evaluate_every: Count = 2000
    """Steps between evaluations on the held-back frames."""
    checkpoint_every: Annotated[int, Range(at_least=1, at_most=10_000_000), MayChange()] = 1000
    """Steps between checkpoints."""
    log_every: Annotated[int, Range(at_least=1, at_most=10_000_000), MayChange()] = 50
    """Steps between rows of log.csv. Evaluations and the last step are always logged."""
    seed: Annotated[int, Range(at_least=0, below=2**32)] = 0
    """Seed of sample order, augmentation, initial weights and dropout."""
    workers: Annotated[int, Range(at_least=0, at_most=1024), MayChange()] = 2
    """Data loading processes; 0 prepares samples in the training process."""
    device: Annotated[str, OneOf(("auto", "cpu", "cuda"))] = "auto"
    """Device: auto, cpu or cuda."""
    devices: Annotated[int, Range(at_least=1, at_most=1024)] = 1
    """Number of processes or GPUs."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Arithmetic precision of the forward and backward passes."""
    resume: Annotated[bool, MayChange()] = False
    """Resume from the last checkpoint in the output folder."""
    max_minutes: Annotated[float, Range(at_least=0, at_most=1e6), MayChange()] = 0.0
    """Save a checkpoint and stop after this many minutes (continue with --resume); 0 for no limit."""

    def conflicts(self) -> Iterator[str]:
        """Incompatible values, as `--name value: reason and remedy`."""
        if self.minimum_learning_rate > self.learning_rate:
            yield (
                f"--minimum-learning-rate {self.minimum_learning_rate}: expected at most --learning-rate "
                f"{self.learning_rate}"
            )
        if self.warmup > self.steps:
            yield f"--warmup {self.warmup}: expected at most --steps {self.steps}"
        if self.steps * self.batch > _MOST_SAMPLES:
            yield f"--steps {self.steps} times --batch {self.batch}: expected at most {_MOST_SAMPLES:,} samples"
        if self.batch % self.devices:
            yield f"--batch {self.batch}: expected a multiple of --devices {self.devices}"
        yield from _device_conflicts(self.device, self.devices, self.precision)


_MOST_SAMPLES = 100_000_000  # the sample order is drawn up front and takes 24 bytes per sample


def _device_conflicts(device: str, devices: int, precision: str) -> Iterator[str]:
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not found:
        yield "--device cuda: no CUDA device is available; use --device cpu"
    elif device != "cpu" and found and devices > found:
        yield f"--devices {devices}: {found} CUDA devices are available"
    if precision == "16-mixed" and (device == "cpu" or not found):
        yield "--precision 16-mixed needs a CUDA device; use bf16-mixed or 32-true on a CPU"


def check(settings: Any) -> None:
    """Checks the type and range of every field of a recipe's settings, and that the values are compatible.

    Args:
        settings: Dataclass instance; nested dataclasses are checked too.

    Raises:
        InputError: For the first invalid value; names the option as spelt on the command line.
    """
    for problem in _problems(settings, "--"):
        raise InputError(problem)


def plain(settings: Any) -> dict[str, Any]:
    """Converts the settings to JSON values."""
    return json.loads(json.dumps(settings, default=_as_json))


def changed_settings(settings: Any, former: dict[str, Any]) -> list[str]:
    """Names of the settings that differ from those that a run was started with, except those marked `MayChange`.

    Args:
        settings: Settings of this run.
        former: `plain` settings of the earlier run; fields added since then are assumed to have their defaults.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    rules = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    fixed = [name for name in hints if not any(isinstance(rule, MayChange) for rule in rules[name])]
    values, before = plain(settings), {**_defaults(type(settings)), **former}
    for name, value in _defaults(type(settings)).items():
        if isinstance(value, dict) and isinstance(before[name], dict):
            before[name] = {**value, **before[name]}
    return [name for name in fixed if values[name] != before.get(name)]


def _defaults(kind: type) -> dict[str, Any]:
    """Defaults of all fields that have one, as JSON values."""
    found = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return json.loads(json.dumps(found, default=_as_json))


def _as_json(value: Any) -> Any:
    """Converts the types that JSON does not support: paths and nested settings."""
    return str(value) if isinstance(value, Path) else dataclasses.asdict(value)


def _problems(settings: Any, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(type(settings), include_extras=True)
    nested = []
    for field in dataclasses.fields(settings):
        flag = prefix + field.name.replace("_", "-")
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(hints[field.name]) and isinstance(value, hints[field.name]):
            nested.append((flag, value))
        elif (problem := _field_problem(hints[field.name], value)) is not None:
            yield f"{flag} {_shown(value)}: {problem}"
    for flag, value in nested:
        yield from _problems(value, f"{flag}.")
    if hasattr(settings, "conflicts"):
        for conflict in settings.conflicts():
            yield conflict.replace("--", prefix)


def _field_problem(hint: Any, value: Any) -> str | None:
    rules = getattr(hint, "__metadata__", ())
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if (problem := _type_problem(hint, value)) is not None:
        return problem
    if value == () and any(isinstance(rule, AtLeastOne) for rule in rules):
        return "expected at least one value"
    parts = value if isinstance(value, tuple) else (value,)
    found = (rule.problem(part) for rule in rules if hasattr(rule, "problem") for part in parts)
    return next((problem for problem in found if problem is not None), None)


def _type_problem(hint: Any, value: Any) -> str | None:
    origin, items = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return None if value in items else f"expected one of {', '.join(map(str, items))}"
    if origin is tuple:
        if not isinstance(value, tuple):
            return "expected a tuple"
        kinds = [items[0]] * len(value) if Ellipsis in items else items
        if len(kinds) != len(value):
            return f"expected {len(kinds)} values"
        found = (_type_problem(kind, part) for kind, part in zip(kinds, value, strict=True))
        return next((problem for problem in found if problem is not None), None)
    if origin in (typing.Union, types.UnionType):
        return None if any(_type_problem(kind, value) is None for kind in items) else "expected another type"
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if number and math.isfinite(value) else "expected a finite number"
    if hint is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else "expected a whole number"
    if hint is types.NoneType:
        return None if value is None else "expected nothing"
    words = {str: "text", bool: "True or False", Path: "a path"}
    return None if isinstance(value, hint) else f"expected {words.get(hint, hint)}"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
