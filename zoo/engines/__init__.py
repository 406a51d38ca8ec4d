"""Engines run a model's arithmetic; nothing else knows which one it is.

An engine takes and gives dictionaries of NumPy arrays. Image models have the input `image`, `(B, 3, H, W)` float32
after normalisation, and segmenters the output `logits`, `(B, C, H / stride, W / stride)` float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

__all__ = ["Engine", "EngineSpec", "TensorSpec"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; `None` in `shape` is a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class EngineSpec:
    """What an engine takes and gives.

    Attributes:
        engine: `torch`, `onnx`, `openvino` or `tensorrt`.
        device: Where it runs, for example `cpu` or `cuda:0`.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        inputs: By position.
        outputs: By position.
        options: What else decides speed or result (threads, provider).
    """

    engine: str
    device: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    options: Mapping[str, object] = field(default_factory=dict)


class Engine(Protocol):
    """Runs one artefact of one model."""

    @property
    def spec(self) -> EngineSpec:
        """Names, dtypes, fixed and dynamic axes, device."""

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for the inputs `arrays`."""

    def warmup(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Runs once on zeros of these shapes, so that the next run is at full speed."""

    def close(self) -> None:
        """Frees the device; the engine cannot run afterwards."""
