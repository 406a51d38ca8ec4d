"""Reads and writes the weights of a model as safetensors files.

Source: the safetensors format: 8 bytes with the length of a JSON header, the header, then the data of all tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from zoo.errors import InputError, IntegrityError
from zoo.folder.schema import Schema, parse_json

__all__ = ["assign", "check_shapes", "parse", "read_header", "serialise"]

_DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}  # bytes
_MAX_HEADER = 16 * 1024 * 1024
_NATURAL = {"type": "integer", "minimum": 0}
_HEADER = Schema(
    {
        "type": "object",
        "properties": {"__metadata__": {"type": "object", "additionalProperties": {"type": "string"}}},
        "additionalProperties": {
            "type": "object",
            "required": ["dtype", "shape", "data_offsets"],
            "properties": {
                "dtype": {"enum": list(_DTYPES)},
                "shape": {"type": "array", "items": _NATURAL, "maxItems": 8},
                "data_offsets": {"type": "array", "items": _NATURAL, "minItems": 2, "maxItems": 2},
            },
            "additionalProperties": False,
        },
    },
    "safetensors header",
)


def read_header(content: bytes, what: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file by name, from its header alone.

    Raises:
        IntegrityError: If the header is invalid, or its tensors do not fill the file without gaps and overlaps.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _MAX_HEADER):
        raise IntegrityError(f"{what} is not a complete safetensors file: its header is longer than the file")
    header: dict[str, Any] = parse_json(content[8 : 8 + length], f"the header of {what}")
    problem = next(_HEADER.problems(header), None)
    if problem is not None:
        raise IntegrityError(f"{what} is not a complete safetensors file: in its header, {problem}")
    header.pop("__metadata__", None)
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        if first != end or last - first != math.prod(entry["shape"]) * _DTYPES[entry["dtype"]]:
            raise IntegrityError(
                f"{what} is not a complete safetensors file: {name[:100]!a} has bytes {first} to {last} "
                f"for the shape {entry['shape']} in {entry['dtype']}, after byte {end}"
            )
        end = last
    if end != len(content) - 8 - length:
        raise IntegrityError(
            f"{what} is not a complete safetensors file: its header lists {end:,} bytes of data, "
            f"but it has {len(content) - 8 - length:,}"
        )
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def parse(content: bytes, what: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file, floating point ones as float32.

    Raises:
        IntegrityError: If it is not a safetensors file or is truncated.
    """
    read_header(content, what)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise IntegrityError(f"{what} is not a complete safetensors file: {error}") from error
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


def check_shapes(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raises an `InputError` unless `shapes` has every weight of `model` with its shape, and nothing else."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    problems = [f"lacks {name}" for name in own if name not in shapes]
    problems += [f"has the unexpected weight {name[:100]!a}" for name in shapes if name not in own]
    problems += [
        f"has {name} as {shapes[name]} instead of {own[name]}"
        for name in own
        if name in shapes and shapes[name] != own[name]
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{what} does not match its architecture: it {problems[0]}{more}")


def assign(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Loads `weights` into `model`, every one of them and nothing else.

    Raises:
        InputError: If a weight is missing, unexpected, or has another shape.
    """
    check_shapes(model, {name: tuple(value.shape) for name, value in weights.items()}, what)
    model.load_state_dict(weights)
