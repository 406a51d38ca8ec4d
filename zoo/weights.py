"""Weights between a model and a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from zoo.errors import InputError, IntegrityError

__all__ = ["assign", "parse", "serialise"]


def parse(content: bytes, what: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file, floating point ones as float32.

    Raises:
        IntegrityError: If it is no safetensors file or is cut off.
    """
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise IntegrityError(f"{what} is no complete safetensors file: {error}") from error
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def serialise(weights: Mapping[str, Tensor], dtype: torch.dtype) -> bytes:
    """A safetensors file with floating point tensors as `dtype`.

    Raises:
        InputError: If a value is too large for `dtype`.
    """
    tensors = {}
    for name, value in weights.items():
        value = value.detach().cpu().contiguous()
        if value.is_floating_point():
            converted = value.to(dtype)
            if not torch.isfinite(converted).all() and torch.isfinite(value).all():
                raise InputError(f"weight {name} does not fit into {dtype}; keep float32")
            value = converted
        tensors[name] = value
    return save(tensors, metadata={"format": "pt"})


def assign(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Loads `weights` into `model`, every one of them and nothing else.

    Raises:
        InputError: If a name is missing, left over, or of another shape.
    """
    own = model.state_dict()
    problems = [f"lacks {name}" for name in own if name not in weights]
    problems += [f"has {name}, which the architecture has not" for name in weights if name not in own]
    problems += [
        f"has {name} as {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{what} does not fit its architecture: it {problems[0]}{more}")
    model.load_state_dict(weights)
