"""OpenVINO: runs an exported ONNX file without torch, the fastest engine on many CPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.engines import EngineSpec, TensorSpec
from zoo.engines.checks import available_threads, check_inputs, check_threads
from zoo.engines.onnx_folder import declare, open_onnx_file
from zoo.errors import InputError, IntegrityError, require

if TYPE_CHECKING:
    from zoo.folder.model_folder import ModelFolder

__all__ = ["OpenVINOEngine", "open_engine"]

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVINOEngine:
    """Runs one ONNX file.

    Args:
        source: The verified file's content, or its path if it keeps weights in separate files.
        device: `cpu`, `gpu`, `gpu.1` or `npu`.
        precision: Arithmetic. By default OpenVINO uses bf16 if the CPU supports it; here `fp32` means fp32.
        threads: Number of threads; by default the number of CPUs that the process may use.
        declared: Properties of the tensors that the file does not state: multiples, strides, names of axes.
        what: Name of the file, for errors.

    Raises:
        MissingExtraError: If OpenVINO is not installed.
        IntegrityError: If OpenVINO cannot read the file.
        InputError: If the device does not exist or does not support the precision.
    """

    def __init__(
        self,
        source: bytes | Path,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        threads: int | None = None,
        declared: Sequence[TensorSpec] = (),
        what: str = "the file",
    ) -> None:
        check_threads(threads)
        try:
            import openvino
        except ImportError as error:
            raise require("openvino", "openvino", f"running {what} with the openvino engine") from error
        core = openvino.Core()
        target = device.upper()
        # Listing the devices makes OpenVINO load every plugin, which would slow down the cold start on a CPU.
        if target != "CPU" and target not in core.available_devices:
            raise InputError(
                f"device {device!r} is not one that OpenVINO finds here; it finds "
                f"{', '.join(name.lower() for name in core.available_devices) or 'none'}"
            )
        hint = _hint(core, target, device, precision)
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        number = threads or available_threads()
        if target == "CPU":
            settings["INFERENCE_NUM_THREADS"] = number
        try:
            model = core.read_model(source if isinstance(source, bytes) else str(source))
            compiled = core.compile_model(model, target, settings)
        except Exception as error:  # plain RuntimeError with a page of C++ context
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise IntegrityError(
                f"{what} is not an ONNX file that OpenVINO can load: {lines[-1] if lines else error}"
            ) from error
        self._request = compiled.create_infer_request()
        self._outputs = [(output.get_any_name(), output) for output in compiled.outputs]
        self.spec = EngineSpec(
            engine="openvino",
            device=device,
            precision=precision,
            inputs=declare((_spec(value) for value in compiled.inputs), declared, what),
            outputs=declare((_spec(value) for value in compiled.outputs), declared, what),
            options={"arithmetic": hint, "threads": number},
        )

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name.

        Raises:
            InputError: If a name, shape or dtype does not match the file's inputs.
        """
        check_inputs(arrays, self.spec.inputs)
        feeds = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        # Shared memory avoids a copy inside OpenVINO; results are copied here because the next run overwrites them.
        results = self._request.infer(feeds, share_inputs=True, share_outputs=True)
        return {name: np.array(results[output]) for name, output in self._outputs}

    def close(self) -> None:
        """Frees the compiled model."""
        del self._request, self._outputs


def _hint(core: Any, target: str, device: str, precision: str) -> str:
    if precision not in _HINTS:
        raise InputError(f"precision {precision!r} is unknown to the openvino engine; known: {', '.join(_HINTS)}")
    if precision == "fp16" and target == "CPU":
        return "f32"  # the weights are float16, but CPUs compute in float32
    able = core.get_property(target, "OPTIMIZATION_CAPABILITIES")
    if precision.upper() not in able:
        raise InputError(f"device {device!r} computes in {', '.join(able)}; {precision} was requested")
    return _HINTS[precision]


def _spec(port: Any) -> TensorSpec:
    shape = tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())
    return TensorSpec(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()).name, shape)


def open_engine(
    folder: ModelFolder, artefact: Mapping[str, Any], *, device: str, precision: str, threads: int | None
) -> OpenVINOEngine:
    """The engine for one of the folder's ONNX files.

    Raises:
        IntegrityError: If the file differs from the manifest, is damaged, or names weights outside the folder.
        InputError: If the entry does not match the file's tensors, or the device cannot be used.
    """
    return open_onnx_file(OpenVINOEngine, folder, artefact, device=device, precision=precision, threads=threads)
