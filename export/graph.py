"""A model as an ONNX graph: exported by torch, then made the same function as the model at every size."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn

from zoo.errors import InputError, require
from zoo.export.rewrite import import_onnx

__all__ = ["DYNAMIC_AXES", "OPSET", "to_onnx"]

OPSET = 18
"""What torch's exporter writes without a conversion; TensorRT takes 9 to 24."""
DYNAMIC_AXES = ("batch", "height", "width")


def to_onnx(
    module: nn.Module,
    *,
    size: tuple[int, int],
    batch: int = 2,
    dynamic: Collection[str] = DYNAMIC_AXES,
    input_name: str = "image",
    output_names: tuple[str, ...] = ("logits",),
    what: str = "the model",
) -> Any:
    """The `onnx.ModelProto` of `module`, which takes `(B, 3, H, W)` float32.

    Args:
        module: The model; its outputs are one tensor, or a list of them.
        size: (height, width) of the example; also the fixed size, if it is not dynamic.
        batch: Batch of the example, at least 2 if it is dynamic: torch takes an axis of length 1 for a constant.
        dynamic: Axes of `DYNAMIC_AXES` that stay free.
        input_name: Name of the input.
        output_names: Names of the outputs.
        what: The model's name, for errors.

    Raises:
        MissingExtraError: If the export packages are not installed.
        InputError: If the architecture cannot be exported, or an axis that should stay free does not.
    """
    onnx = import_onnx()
    if importlib.util.find_spec("onnxscript") is None:
        raise require("onnxscript", "export", "exporting to ONNX")
    example = torch.zeros(batch, 3, *size)
    # DYNAMIC, not AUTO: an axis that the model pins is an error here and not a file that fails on the road.
    places = {"batch": 0, "height": 2, "width": 3}
    free = {places[axis]: torch.export.Dim.DYNAMIC for axis in DYNAMIC_AXES if axis in dynamic}
    try:
        with warnings.catch_warnings(), _quiet("onnxscript", "torch.onnx"), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about its own deprecations
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=(free,),
                input_names=[input_name],
                output_names=list(output_names),
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
    _name_axes(model, dynamic)
    onnx.checker.check_model(model, full_check=True)
    return model


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


def _name_axes(model: Any, dynamic: Collection[str]) -> None:
    def name(value: Any, names: tuple[str, ...]) -> None:
        for side, text in zip(value.type.tensor_type.shape.dim, names):
            if side.dim_param:
                side.dim_param = text

    for value in model.graph.input:
        name(value, ("batch", "channels", "height", "width"))
    for value in model.graph.output:
        name(value, ("batch", f"{value.name}_channels", f"{value.name}_height", f"{value.name}_width"))
    shape = model.graph.input[0].type.tensor_type.shape.dim
    found = {shape[place].dim_param for place in (0, 2, 3)} - {""}
    assert found == set(dynamic), (found, dynamic)
