"""Engines: each runs one artefact of a model, and no other code depends on which engine it is.

An engine takes and returns dictionaries of NumPy arrays and knows nothing about images or points. Its `spec` lists the
tensors with their dtypes, their fixed and free axes, and the multiples that the lengths of free axes must be. A new
engine is one file here and one row in `ENGINES`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.errors import InputError, closest

if TYPE_CHECKING:
    from zoo.folder.model_folder import ModelFolder

__all__ = [
    "ENGINES",
    "Engine",
    "EngineRow",
    "EngineSpec",
    "TensorSpec",
    "engine_row",
    "engines_that_read",
    "run_in_batches",
]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output tensor.

    Attributes:
        name: Name of the tensor.
        dtype: NumPy's name for the type.
        shape: Length of every axis, `None` for a free one.
        multiples: For each axis, the number that its length must be a multiple of; 1 for most.
        stride: For an output that is a grid over the input: input size over output size.
        axes: Names of the axes, for messages and for the export: `batch`, `channels`, `height`, `width`, `points`.
        columns: Names along the axis `channels`, where one sample's may differ from another's: those of a `Sweep`.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    multiples: tuple[int, ...] = ()
    stride: int | None = None
    axes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.multiples:
            object.__setattr__(self, "multiples", (1,) * len(self.shape))

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> TensorSpec:
        """The tensor described by an artefact's entry."""
        lists = {key: tuple(entry[key]) for key in ("shape", "multiples", "axes", "columns") if key in entry}
        return cls(entry["name"], entry["dtype"], stride=entry.get("stride"), **lists)

    def to_json(self) -> dict[str, Any]:
        """The description for an artefact's entry, without default values."""
        values: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        if any(multiple != 1 for multiple in self.multiples):
            values["multiples"] = list(self.multiples)
        if self.stride is not None:
            values["stride"] = self.stride
        if self.axes:
            values["axes"] = list(self.axes)
        if self.columns:
            values["columns"] = list(self.columns)
        return values


@dataclass(frozen=True)
class EngineSpec:
    """Inputs and outputs of an engine.

    Attributes:
        engine: Name in `ENGINES`.
        device: Where it runs, for example `cpu` or `cuda:0`.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        inputs: In positional order.
        outputs: In positional order.
        options: Further settings that affect speed or results (threads, provider).
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
        """Names, dtypes, fixed and free axes, device."""

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for the inputs `arrays`.

        Raises:
            InputError: If the arrays are not what `spec` describes.
        """

    def close(self) -> None:
        """Frees the device; the engine cannot run afterwards."""


def run_in_batches(engine: Engine, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Like `engine.run` on a batch, but one sample at a time if the batch size of the artefact is fixed to one."""
    fixed = engine.spec.inputs[0].shape[0]
    count = len(next(iter(arrays.values())))
    if fixed in (None, count):
        return engine.run(arrays)
    parts = [engine.run({name: array[i : i + 1] for name, array in arrays.items()}) for i in range(count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class EngineRow:
    """One row of the table of engines.

    Attributes:
        opener: `"module:function"`, called as `function(folder, artefact, device=, precision=, threads=)`.
        package: Package that must be importable.
        distributions: Names under which the packages that affect its results may be installed.
        extra: Extra of perception-zoo that installs it.
        reads: `engine` of the artefacts that it can run.
        precisions: Each supported precision, with the precision of the file that it runs (`None`: any).
        devices: Kinds of supported devices, for help and records.
        rank: Place in the order in which `auto` tries the engines: on a CPU, and on any other device.
    """

    opener: str
    package: str
    extra: str
    reads: str
    precisions: Mapping[str, str | None]
    devices: tuple[str, ...]
    rank: tuple[int, int]
    distributions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.distributions:
            object.__setattr__(self, "distributions", (self.package,))

    def open(self, folder: ModelFolder, artefact: Mapping[str, Any], **options: Any) -> Engine:
        """The engine, ready to run `artefact`."""
        module, function = self.opener.split(":")
        return getattr(importlib.import_module(module), function)(folder, artefact, **options)

    @property
    def installed(self) -> bool:
        """Whether its package is installed."""
        try:
            return importlib.util.find_spec(self.package) is not None
        except (ImportError, ValueError):
            return False


ENGINES = {
    "torch": EngineRow(
        "zoo.engines.torch:open_engine",
        package="torch",
        extra="torch",
        reads="torch",
        precisions=dict.fromkeys(("fp32", "bf16", "fp16")),
        devices=("cpu", "cuda"),
        rank=(1, 0),
        distributions=("torch", "timm"),
    ),
    "onnx": EngineRow(
        "zoo.engines.onnx:open_engine",
        package="onnxruntime",
        extra="onnx",
        reads="onnx",
        precisions={"fp32": "fp32", "fp16": "fp16"},
        devices=("cpu", "cuda", "tensorrt", "openvino"),
        rank=(0, 1),
        distributions=("onnxruntime", "onnxruntime-gpu", "tensorrt"),
    ),
    "openvino": EngineRow(
        "zoo.engines.openvino:open_engine",
        package="openvino",
        extra="openvino",
        reads="onnx",
        precisions={"fp32": "fp32", "bf16": "fp32", "fp16": "fp16"},
        devices=("cpu", "gpu"),
        rank=(2, 2),
    ),
}


def engines_that_read(kind: str) -> list[str]:
    """Names of the engines that run artefacts whose `engine` is `kind`: `onnx` files are run by more than one."""
    return [name for name, row in ENGINES.items() if row.reads == kind]


def engine_row(name: str) -> EngineRow:
    """The row of an engine.

    Raises:
        InputError: If there is no such engine.
    """
    if name not in ENGINES:
        raise InputError(f"unknown engine {name!r}{closest(name, ENGINES)}; known: {', '.join(ENGINES)}, auto")
    return ENGINES[name]
