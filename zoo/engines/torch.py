"""The eager PyTorch engine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.engines import EngineSpec, TensorSpec
from zoo.engines.checks import check_inputs, check_threads
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.folder.model_folder import ModelFolder

__all__ = ["TorchEngine", "open_engine"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Runs an `nn.Module`.

    Args:
        module: The model; put into evaluation mode and moved to `device`. Its `forward` takes `module.inputs` by
            position and returns one tensor, or a sequence of tensors, at `module.strides` and with `module.axes`.
        outputs: Names of the outputs.
        device: A torch device, for example `cpu` or `cuda:0`.
        precision: `fp32`, or `bf16` or `fp16` by autocast.

    Raises:
        InputError: If the device does not exist, the precision is unknown, or the number of outputs differs.
    """

    def __init__(
        self,
        module: Any,
        outputs: Sequence[str],
        *,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if precision not in ("fp32", *_AUTOCAST):
            raise InputError(f"precision {precision!r} is unknown; the torch engine supports fp32, bf16 and fp16")
        try:
            self._device = torch.device(device)
            self.module: Any = module.to(self._device).eval()
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
        if len(outputs) != len(self.module.strides):
            raise InputError(
                f"the model returns {len(self.module.strides)} outputs, but its task expects {', '.join(outputs)}; "
                "correct output in config.json"
            )
        self.spec = EngineSpec(
            engine="torch",
            device=str(self._device),
            precision=precision,
            inputs=tuple(self.module.inputs),
            outputs=tuple(
                TensorSpec(name, "float32", (), stride=stride, axes=tuple(self.module.axes))
                for name, stride in zip(outputs, self.module.strides, strict=True)
            ),
            options={"threads": torch.get_num_threads()} if self._device.type == "cpu" else {},
        )

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name, floating point ones as float32.

        Raises:
            InputError: If a name, shape or dtype does not match the model's inputs.
        """
        check_inputs(arrays, self.spec.inputs)
        tensors = [torch.from_numpy(np.ascontiguousarray(arrays[spec.name])) for spec in self.spec.inputs]
        with torch.inference_mode(), self._autocast():
            found = self.module(*(tensor.to(self._device) for tensor in tensors))
        values = [found] if isinstance(found, torch.Tensor) else list(found)
        return {spec.name: _to_numpy(value) for spec, value in zip(self.spec.outputs, values, strict=True)}

    def close(self) -> None:
        """Frees the module."""
        del self.module

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        dtype = _AUTOCAST.get(self.spec.precision)
        return torch.autocast(self._device.type, dtype) if dtype else contextlib.nullcontext()


def _to_numpy(value: torch.Tensor) -> np.ndarray:
    return (value.float() if value.is_floating_point() else value).cpu().numpy()


def open_engine(
    folder: ModelFolder, artefact: Mapping[str, Any], *, device: str, precision: str, threads: int | None
) -> TorchEngine:
    """Builds the folder's architecture and loads the artefact's weights into it.

    Raises:
        IntegrityError: If the file differs from the manifest or is damaged.
        InputError: If the weights do not match the architecture, or the device cannot be used.
    """
    from zoo.folder.architecture import build, check_outline
    from zoo.folder.weights import assign, parse, read_header

    check_threads(threads)
    if threads is not None:
        torch.set_num_threads(threads)
    what = str(folder.path / artefact["file"])
    content, architecture = folder.read_bytes(artefact["file"]), folder.config["architecture"]
    num_classes = len(folder.task.classes) if folder.task.classes else None
    check_outline(architecture, num_classes, read_header(content, what), what)
    module = build(architecture, num_classes)
    assign(module, parse(content, what), what)
    return TorchEngine(module, folder.task.outputs, device=device, precision=precision)
