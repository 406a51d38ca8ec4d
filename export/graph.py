"""Export of a model to an ONNX graph with torch, and fixes so that the graph equals the model at every size."""

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
"""Native opset of torch's exporter, so no version conversion is needed; TensorRT supports 9 to 24."""


def to_onnx(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    lengths: Mapping[str, int],
    free: Collection[str],
    what: str = "the model",
) -> Any:
    """Exports `module` to an `onnx.ModelProto`.

    Args:
        module: Model that takes `inputs` by position and returns one tensor or a sequence of tensors.
        inputs: Specs of its inputs, with every axis named.
        outputs: Specs of its outputs, of which the names and the names of the axes are used.
        lengths: Length in the example input of every axis that `inputs` leave open. Axes not in `free` are fixed to
            it. A dynamic axis needs at least 2, because torch specialises axes of length 1.
        free: Names of the dynamic axes.
        what: Name of the model, for error messages.

    Raises:
        MissingExtraError: If the export packages are not installed.
        InputError: If the architecture cannot be exported, or fixes an axis that should be dynamic.
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
    # DYNAMIC, not AUTO: if the model specialises the axis, AUTO would silently export a file with a fixed size.
    dynamic = tuple(
        {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(tensor.axes) if axis in free and tensor.shape[i] is None}
        for tensor in inputs
    )
    try:
        with warnings.catch_warnings(), _quiet("onnxscript", "torch.onnx"), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's warnings about its own deprecations
            program = torch.onnx.export(
                module.eval(),
                example,
                dynamo=True,
                dynamic_shapes=(dynamic,) if _takes_any_number(module) else dynamic,
                input_names=[tensor.name for tensor in inputs],
                output_names=[tensor.name for tensor in outputs],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # the exporter raises a dozen exception types from four packages
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise InputError(f"the architecture of {what} cannot be exported to ONNX: {reason}") from error
    assert program is not None
    model = program.model_proto
    _tidy(model)
    _name_axes(model, inputs, outputs, free)
    onnx.checker.check_model(model, full_check=True)
    return model


def _takes_any_number(module: nn.Module) -> bool:
    """Whether `forward` is declared as `forward(*inputs)`, which torch treats as a single tuple argument."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return kinds == [inspect.Parameter.VAR_POSITIONAL]


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Silences the optimiser's messages about nodes that it leaves unchanged."""
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
    """Removes the exporter's own notes, which include paths of this machine, and corrects the Resize nodes."""
    graph = model.graph
    del graph.value_info[:]  # stale after any rewrite; the quantiser relies on it and fails
    del model.metadata_props[:]
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            # For an output of length 1, ONNX's `pytorch_half_pixel` samples the first pixel but torch the centre.
            if node.op_type == "Resize" and attribute.s == b"pytorch_half_pixel":
                attribute.s = b"half_pixel"


def _name_axes(model: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], free: Collection[str]) -> None:
    """Names the dynamic axes after the specs.

    The first axis counts samples or points and is the same in inputs and outputs. The others of an output have lengths
    of their own, so their names start with the output's.
    """

    def name(value: Any, names: Sequence[str]) -> set[str]:
        named = set()
        for side, text in zip(value.type.tensor_type.shape.dim, names):
            if side.dim_param:
                side.dim_param = text
                named.add(text)
        return named

    found = set().union(*(name(value, tensor.axes) for value, tensor in zip(model.graph.input, inputs, strict=True)))
    for value, tensor in zip(model.graph.output, outputs, strict=True):
        name(value, [axis if i == 0 else f"{tensor.name}_{axis}" for i, axis in enumerate(tensor.axes)])
    assert found == set(free), (found, free)
