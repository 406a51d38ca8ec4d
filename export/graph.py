"""A model as an ONNX graph: exported by torch, then made the same function as the model at every size."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from zoo.engines import TensorSpec
from zoo.errors import InputError, require
from zoo.export.rewrite import import_onnx

__all__ = ["OPSET", "to_onnx"]

OPSET = 18
"""What torch's exporter writes without a conversion; TensorRT takes 9 to 24."""


def to_onnx(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
    *,
    lengths: Mapping[str, int],
    free: Collection[str],
    what: str = "the model",
) -> Any:
    """The `onnx.ModelProto` of `module`.

    Args:
        module: The model; it takes `inputs` by position and gives one tensor, or a sequence of them.
        inputs: What it takes, every axis named.
        outputs: Names of what it gives.
        lengths: Of the example, for every axis that `inputs` leave free; also the fixed length, if it is not in `free`.
            A free axis needs at least 2: torch takes an axis of length 1 for a constant.
        free: Names of the axes that stay free.
        what: The model's name, for errors.

    Raises:
        MissingExtraError: If the export packages are not installed.
        InputError: If the architecture cannot be exported, or an axis that should stay free does not.
    """
    onnx = import_onnx()
    if importlib.util.find_spec("onnxscript") is None:
        raise require("onnxscript", "export", "exporting to ONNX")
    shapes = [
        [lengths[axis] if side is None else side for side, axis in zip(tensor.shape, tensor.axes, strict=True)]
        for tensor in inputs
    ]
    example = tuple(
        torch.zeros(shape, dtype=getattr(torch, tensor.dtype)) for shape, tensor in zip(shapes, inputs, strict=True)
    )
    # DYNAMIC, not AUTO: an axis that the model pins is an error here and not a file that fails on the road.
    dynamic = tuple(
        {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(tensor.axes) if axis in free and tensor.shape[i] is None}
        for tensor in inputs
    )
    try:
        with warnings.catch_warnings(), _quiet("onnxscript", "torch.onnx"), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about its own deprecations
            program = torch.onnx.export(
                module.eval(),
                example,
                dynamo=True,
                dynamic_shapes=(dynamic,) if _takes_any_number(module) else dynamic,
                input_names=[tensor.name for tensor in inputs],
                output_names=list(outputs),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # the exporter raises a dozen kinds from four packages
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise InputError(f"the architecture of {what} cannot be exported to ONNX: {reason}") from error
    assert program is not None
    model = program.model_proto
    _tidy(model)
    _name_axes(model, inputs, free)
    onnx.checker.check_model(model, full_check=True)
    return model


def _takes_any_number(module: nn.Module) -> bool:
    """Whether `forward` is `forward(*inputs)`, which torch sees as one argument that is a tuple."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return kinds == [inspect.Parameter.VAR_POSITIONAL]


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """No remarks of the optimiser about nodes that it leaves as they are."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _tidy(model: Any) -> None:
    """Removes what the exporter noted about its own work (paths of this machine among it), and mends the resizes."""
    graph = model.graph
    del graph.value_info[:]  # stale after any rewrite; the quantiser trusts it and fails
    del model.metadata_props[:]
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            # ONNX's `pytorch_half_pixel` takes the first pixel when the result has length 1; torch takes the middle.
            if node.op_type == "Resize" and attribute.s == b"pytorch_half_pixel":
                attribute.s = b"half_pixel"


def _name_axes(model: Any, inputs: Sequence[TensorSpec], free: Collection[str]) -> None:
    """Names the free axes: those of an input by its spec, those of an output by the output."""

    def name(value: Any, names: Sequence[str]) -> set[str]:
        named = set()
        for side, text in zip(value.type.tensor_type.shape.dim, names):
            if side.dim_param:
                side.dim_param = text
                named.add(text)
        return named

    found = set().union(*(name(value, tensor.axes) for value, tensor in zip(model.graph.input, inputs, strict=True)))
    for value in model.graph.output:
        rest = [f"{value.name}_{axis}" for axis in ("channels", "height", "width")]
        name(value, (inputs[0].axes[0], *rest))
    assert found == set(free), (found, free)
