"""ONNX Runtime: runs an exported file without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.engines import EngineSpec, TensorSpec
from zoo.engines.checks import available_threads, check_inputs, check_threads
from zoo.engines.onnx_file import shape_nodes
from zoo.engines.onnx_folder import declare, open_onnx_file
from zoo.engines.placement import RECORD, PlacedNode, count_nodes, misplaced, placed_nodes
from zoo.errors import InputError, IntegrityError, require

if TYPE_CHECKING:
    from zoo.folder.model_folder import ModelFolder

__all__ = ["PROVIDERS", "OnnxEngine", "open_engine"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Execution provider of ONNX Runtime for each supported device."""
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
}


class OnnxEngine:
    """Runs one ONNX file.

    Args:
        source: The verified file's content, or its path if it keeps weights in separate files.
        device: `cpu`, `cuda`, `cuda:1`, `tensorrt`, `tensorrt:1` or `openvino`. There is no fallback: ONNX Runtime
            itself would silently run the whole model or single nodes on the CPU.
        precision: Precision of the file; only recorded.
        threads: Threads per operator; by default the number of CPUs that the process may use.
        declared: Properties of the tensors that the file does not state: multiples, strides, names of axes. ONNX
            Runtime does not check multiples.
        what: Name of the file, for errors.

    Raises:
        MissingExtraError: If ONNX Runtime is not installed.
        IntegrityError: If ONNX Runtime cannot read the file.
        InputError: If the device is unknown or cannot be used, or if part of the arithmetic would run elsewhere.
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
            import onnxruntime
        except ImportError as error:
            raise require("onnxruntime", "onnx", f"running {what} with the onnx engine") from error
        provider, options = _provider(onnxruntime, device)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # failures raise exceptions, so a log line would only repeat them
        # Set explicitly, because the default pins threads to cores that a container may not have.
        settings.intra_op_num_threads = threads or available_threads()
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry(*RECORD)
        session: Any
        try:
            session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else str(source), settings, providers=[(provider, options)]
            )
        except Exception as error:  # one class per status code, none of them public
            first = str(error).splitlines()[0]
            if provider != PROVIDERS["cpu"]:
                raise InputError(f"device {device!r} ({provider}) cannot be used: {first}") from error
            raise IntegrityError(f"{what} is not an ONNX file that ONNX Runtime can load: {first}") from error
        if provider not in session.get_providers():
            raise InputError(
                f"device {device!r} was requested, but ONNX Runtime could not start {provider} and would run on "
                f"{', '.join(session.get_providers())}; check the driver and its libraries, or use device 'cpu'"
            )
        nodes = placed_nodes(session)
        if provider != PROVIDERS["cpu"]:
            _check_placement(nodes, device, provider, source, what)
        session.disable_fallback()
        self._session = session
        self.spec = EngineSpec(
            engine="onnx",
            device=device,
            precision=precision,
            inputs=declare((_spec(value) for value in session.get_inputs()), declared, what),
            outputs=declare((_spec(value) for value in session.get_outputs()), declared, what),
            options={
                "provider": provider,
                "threads": settings.intra_op_num_threads,
                **({} if nodes is None else {"nodes": count_nodes(nodes)}),
            },
        )

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name.

        Raises:
            InputError: If a name, shape or dtype does not match the file's inputs.
        """
        check_inputs(arrays, self.spec.inputs)
        feeds = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return dict(zip([output.name for output in self.spec.outputs], self._session.run(None, feeds), strict=True))

    def close(self) -> None:
        """Frees the session."""
        del self._session


def _provider(onnxruntime: Any, device: str) -> tuple[str, dict[str, str]]:
    kind, separator, index = device.partition(":")
    if kind not in PROVIDERS or (separator and (kind in ("cpu", "openvino") or not index.isdigit())):
        raise InputError(f"device {device!r} is unknown to the onnx engine; known: {', '.join(PROVIDERS)}, cuda:1")
    provider = PROVIDERS[kind]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        hint = {
            "cuda": "; pip install 'perception-zoo[onnx-gpu]' in place of [onnx]",
            "tensorrt": "; pip install 'perception-zoo[onnx-gpu]' in place of [onnx]",
            "openvino": "; engine 'openvino' runs the same file without it",
        }.get(kind, "")
        raise InputError(
            f"device {device!r} needs {provider}, which the installed onnxruntime {onnxruntime.__version__} does not "
            f"have; it has {', '.join(available)}{hint}"
        )
    return provider, {"device_id": index} if index else {}


def _check_placement(
    nodes: Sequence[PlacedNode] | None, device: str, provider: str, source: bytes | Path, what: str
) -> None:
    if nodes is None:
        raise InputError(
            f"device {device!r}: this ONNX Runtime cannot say which device runs each node, so part of {what} might run "
            "on the CPU; update it to 1.24 or later, or use device 'cpu'"
        )
    content = source if isinstance(source, bytes) else source.read_bytes()
    wrong = misplaced(nodes, provider, shape_nodes(content, what))
    if wrong:
        shown = ", ".join(map(str, wrong[:3])) + (", ..." if len(wrong) > 3 else "")
        raise InputError(
            f"device {device!r} was requested, but ONNX Runtime would run {len(wrong)} of the {len(nodes)} nodes of "
            f"{what} elsewhere: {shown}; use device 'cpu', or another engine or file"
        )


def _spec(value: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else None for side in value.shape)
    return TensorSpec(value.name, _DTYPES.get(value.type, value.type), shape)


def open_engine(
    folder: ModelFolder, artefact: Mapping[str, Any], *, device: str, precision: str, threads: int | None
) -> OnnxEngine:
    """The engine for one of the folder's ONNX files.

    Raises:
        IntegrityError: If the file differs from the manifest, is damaged, or names weights outside the folder.
        InputError: If the entry does not match the file's tensors, or the device cannot be used.
    """
    return open_onnx_file(OnnxEngine, folder, artefact, device=device, precision=precision, threads=threads)
