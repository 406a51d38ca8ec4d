"""What every recipe's loop needs: schedules, an average of the weights, checkpoints, a log.

The loop itself stands in the recipe, where it can be read.
"""

from __future__ import annotations

import ctypes
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.errors import InputError
from zoo.files import atomic_file

__all__ = ["Log", "WeightAverage", "keep_freed_memory", "load_checkpoint", "poly_factor", "save_checkpoint"]


def poly_factor(step: int, steps: int, *, power: float, warmup: int = 0, minimum: float = 0.0) -> float:
    """Learning rate at `step` relative to the base rate: linear warm-up, then polynomial decay to `minimum`.

    Source: Golombiewski, "Domain Generalization for Vision Perception Models by Camera-Lidar Contrastive Pretraining"
    (master's thesis, TU Berlin, 2024), section 4.2.2: polynomial decay with a minimum.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return (1 - minimum) * (1 - min(progress, 1.0)) ** power + minimum


class WeightAverage:
    """Exponential moving average of a model's weights and buffers.

    Args:
        model: Whose weights are averaged.
        decay: Weight of the old average in each step; early steps use less, so that the start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the model's weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values) to `path` in one step."""
    with atomic_file(path) as handle:
        torch.save(state, handle)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote; nothing but tensors and plain values is accepted.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error


class Log:
    """Lines of JSON, one per event, appended to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **values: Any) -> None:
        """Appends one event with the time of day."""
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **values}) + "\n")


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory instead of returning it to the system after every tensor.

    On two cores this took a training step of a small convnet from 1.14 to 0.79 s (`benchmarks/training_step.py`): the
    time went into page faults. Does nothing where the C library has no `mallopt`.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # the constants of malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)
