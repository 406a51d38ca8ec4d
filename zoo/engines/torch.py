"""The eager PyTorch engine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from zoo.engines import EngineSpec, TensorSpec
from zoo.errors import InputError

__all__ = ["TorchEngine"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Runs an `nn.Module` that takes an image and gives logits.

    Args:
        module: The model; put into evaluation mode and moved to `device`.
        device: A torch device, for example `cpu` or `cuda:0`.
        precision: `fp32`, or `bf16` or `fp16` by autocast.

    Raises:
        InputError: If the device does not exist here or the precision is unknown.
    """

    def __init__(self, module: nn.Module, *, device: str = "cpu", precision: str = "fp32") -> None:
        if precision not in ("fp32", *_AUTOCAST):
            raise InputError(f"precision {precision!r} is unknown; the torch engine has fp32, bf16 and fp16")
        try:
            self._device = torch.device(device)
            self.module = module.to(self._device).eval()
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self.spec = EngineSpec(
            engine="torch",
            device=str(self._device),
            precision=precision,
            inputs=(TensorSpec("image", "float32", (None, 3, None, None)),),
            outputs=(TensorSpec("logits", "float32", (None, None, None, None)),),
            options={"threads": torch.get_num_threads()} if self._device.type == "cpu" else {},
        )

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`{"logits": (B, C, h, w)}` for `{"image": (B, 3, H, W)}`, float32."""
        image = torch.from_numpy(np.ascontiguousarray(arrays["image"])).to(self._device)
        with torch.inference_mode(), self._autocast():
            logits = self.module(image)
        return {"logits": logits.float().cpu().numpy()}

    def warmup(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Runs once on zeros of these shapes."""
        self.run({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})

    def close(self) -> None:
        """Frees the module."""
        del self.module

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        dtype = _AUTOCAST.get(self.spec.precision)
        return torch.autocast(self._device.type, dtype) if dtype else contextlib.nullcontext()
