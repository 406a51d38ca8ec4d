"""Rewrites of an exported graph: conversion to half precision, image steps inside the graph, metadata."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.errors import InputError, require
from zoo.inputs.preprocessing import MIN_STD, Preprocessing

__all__ = ["fuse_image_steps", "import_onnx", "set_metadata", "to_half"]


def import_onnx() -> Any:
    """Imports the package `onnx`.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise require("onnx", "export", "reading and writing ONNX graphs") from error
    return onnx


def to_half(model: Any) -> Any:
    """Returns a copy that computes in float16 but keeps float32 inputs and outputs.

    Converting the graph instead of the torch model is more accurate: by now the optimiser has folded batch
    normalisation into the convolutions in float32, whereas a half-precision torch model would fold it in float16.

    Raises:
        InputError: If a weight overflows float16 or the graph has control flow.
    """
    onnx = import_onnx()
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    model = copy.deepcopy(model)
    graph = model.graph
    del graph.value_info[:]  # still declares float32
    # The roi and scales inputs of Resize are float32 whatever the type of its data.
    kept = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:3]}
    for tensor in graph.initializer:
        if tensor.data_type == single and tensor.name not in kept:
            tensor.CopyFrom(_halved(onnx, tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise InputError(
                    f"node {node.name} ({node.op_type}) has subgraphs, which cannot be converted to float16; "
                    "export with --precision fp32"
                )
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == single:
                attribute.t.CopyFrom(_halved(onnx, attribute.t))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == single:
                attribute.i = half
    before, after = [], []
    for value in graph.input:
        if value.type.tensor_type.elem_type == single:
            _rename(graph, value.name, f"{value.name}_half", inputs=True)
            before.append(onnx.helper.make_node("Cast", [value.name], [f"{value.name}_half"], to=half))
    for value in graph.output:
        if value.type.tensor_type.elem_type == single:
            _rename(graph, value.name, f"{value.name}_half", inputs=True, outputs=True)
            after.append(onnx.helper.make_node("Cast", [f"{value.name}_half"], [value.name], to=single))
    _replace_nodes(graph, [*before, *graph.node, *after])
    onnx.checker.check_model(model, full_check=True)
    return model


def fuse_image_steps(model: Any, preprocessing: Preprocessing, *, stride: int, size: tuple[int, int] | None) -> Any:
    """Returns a copy from camera images to labels, with normalisation, padding, upsampling and argmax in the graph.

    The new input is `image`, `(B, H, W, 3)` uint8 RGB, at the model's input size: the resize to
    `preprocessing.short_side` stays outside. The outputs are `labels`, `(B, H, W)` uint8, and `scores`, `(B, H, W)`
    float32, the softmax probability of the label.

    Args:
        model: Graph from `image`, `(B, 3, H, W)` float32, to `logits`, `(B, C, H / stride, W / stride)` float32.
        preprocessing: Preprocessing of the model.
        stride: Input size over logits size.
        size: Fixed (height, width) of the new input, padded in the graph to the network's size; `None` if dynamic.
    """
    onnx = import_onnx()
    make, types = onnx.helper.make_node, onnx.TensorProto
    model = copy.deepcopy(model)
    graph = model.graph
    del graph.value_info[:]
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    first = batch.dim_param or batch.dim_value
    _rename(graph, "image", "normalised_image", inputs=True)
    constants: dict[str, np.ndarray] = {
        "steps_axis_class": np.array([1], np.int64),
        "steps_axes_image": np.array([2, 3], np.int64),
        "steps_scales": np.array([1, 1, stride, stride], np.float32),
    }
    nodes = [
        make("Cast", ["image"], ["steps_float"], to=types.FLOAT),
        make("Transpose", ["steps_float"], ["steps_planes"], perm=[0, 3, 1, 2]),
        *_normalisation(make, preprocessing, constants),
        *_padding(make, preprocessing.size_multiple, size, constants),
        *graph.node,
        make(
            "Resize",
            ["logits", "", "steps_scales"],
            ["steps_upsampled"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
        make("Slice", ["steps_upsampled", "steps_origin", "steps_size", "steps_axes_image"], ["steps_cropped"]),
        make("ArgMax", ["steps_cropped"], ["steps_labels"], axis=1, keepdims=0),
        make("Cast", ["steps_labels"], ["labels"], to=types.UINT8),
        make("ReduceMax", ["steps_cropped", "steps_axis_class"], ["steps_best"], keepdims=1),
        make("Sub", ["steps_cropped", "steps_best"], ["steps_below"]),
        make("Exp", ["steps_below"], ["steps_odds"]),
        make("ReduceSum", ["steps_odds", "steps_axis_class"], ["steps_total"], keepdims=0),
        make("Reciprocal", ["steps_total"], ["scores"]),
    ]
    constants["steps_origin"] = np.array([0, 0], np.int64)
    if size is not None:
        constants["steps_size"] = np.array(size, np.int64)
    _replace_nodes(graph, nodes)
    graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    sides: tuple[Any, ...] = size or ("height", "width")
    del graph.input[:]
    graph.input.append(onnx.helper.make_tensor_value_info("image", types.UINT8, [first, *sides, 3]))
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("labels", types.UINT8, [first, *sides]))
    graph.output.append(onnx.helper.make_tensor_value_info("scores", types.FLOAT, [first, *sides]))
    onnx.checker.check_model(model, full_check=True)
    return model


def _normalisation(make: Any, preprocessing: Preprocessing, constants: dict[str, np.ndarray]) -> list[Any]:
    """Nodes from `steps_planes`, 0 to 255, to `steps_normalised`, equivalent to `Preprocessing.normalise`."""
    if preprocessing.normalisation == "constant":
        mean, std = (
            np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
        )
        constants["steps_factor"] = (1 / (255 * std)).astype(np.float32)
        constants["steps_offset"] = (-mean / std).astype(np.float32)
        return [
            make("Mul", ["steps_planes", "steps_factor"], ["steps_scaled"]),
            make("Add", ["steps_scaled", "steps_offset"], ["steps_normalised"]),
        ]
    constants["steps_factor"] = np.array(1 / 255, np.float32)
    constants["steps_axis_row"] = np.array([3], np.int64)
    constants["steps_axis_column"] = np.array([2], np.int64)
    constants["steps_smallest"] = np.array(MIN_STD, np.float32)
    return [
        make("Mul", ["steps_planes", "steps_factor"], ["steps_scaled"]),
        # Rows first: summing all pixels one by one in float32, as some runtimes do, loses four digits.
        make("ReduceMean", ["steps_scaled", "steps_axis_row"], ["steps_row_means"], keepdims=1),
        make("ReduceMean", ["steps_row_means", "steps_axis_column"], ["steps_mean"], keepdims=1),
        make("Sub", ["steps_scaled", "steps_mean"], ["steps_centred"]),
        make("Mul", ["steps_centred", "steps_centred"], ["steps_squares"]),
        make("ReduceMean", ["steps_squares", "steps_axis_row"], ["steps_row_variances"], keepdims=1),
        make("ReduceMean", ["steps_row_variances", "steps_axis_column"], ["steps_variance"], keepdims=1),
        make("Sqrt", ["steps_variance"], ["steps_root"]),
        make("Max", ["steps_root", "steps_smallest"], ["steps_std"]),
        make("Div", ["steps_centred", "steps_std"], ["steps_normalised"]),
    ]


def _padding(make: Any, multiple: int, size: tuple[int, int] | None, constants: dict[str, np.ndarray]) -> list[Any]:
    """Nodes that pad `steps_normalised` to `normalised_image`; with a dynamic size they also output `steps_size`."""
    if size is not None:
        constants["steps_pads"] = np.array([0] * 6 + [-side % multiple for side in size], np.int64)
        return [make("Pad", ["steps_normalised", "steps_pads"], ["normalised_image"], mode="edge")]
    constants["steps_multiple"] = np.array([multiple], np.int64)
    constants["steps_no_pads"] = np.zeros(6, np.int64)
    return [
        make("Shape", ["steps_normalised"], ["steps_size"], start=2, end=4),
        make("Neg", ["steps_size"], ["steps_negative"]),
        make("Mod", ["steps_negative", "steps_multiple"], ["steps_missing"]),  # >= 0, the divisor's sign
        make("Concat", ["steps_no_pads", "steps_missing"], ["steps_pads"], axis=0),
        make("Pad", ["steps_normalised", "steps_pads"], ["normalised_image"], mode="edge"),
    ]


def set_metadata(model: Any, values: Mapping[str, Any]) -> None:
    """Writes `values` into the model's metadata: strings verbatim, anything else as JSON."""
    onnx = import_onnx()
    texts = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in values.items()}
    onnx.helper.set_model_props(model, texts)


def _halved(onnx: Any, tensor: Any) -> Any:
    array = onnx.numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        halved = array.astype(np.float16)
    if np.isfinite(array).all() and not np.isfinite(halved).all():
        raise InputError(f"weight {tensor.name} overflows float16; export with --precision fp32")
    return onnx.numpy_helper.from_array(halved, tensor.name)


def _rename(graph: Any, old: str, new: str, *, inputs: bool = False, outputs: bool = False) -> None:
    for node in graph.node:
        if inputs:
            node.input[:] = [new if name == old else name for name in node.input]
        if outputs:
            node.output[:] = [new if name == old else name for name in node.output]


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    """Replaces the graph's nodes. New ones are named after their output, because runtimes report nodes by name."""
    copies = [copy.deepcopy(node) for node in nodes]
    for node in copies:
        node.name = node.name or f"node_{node.output[0]}"
    del graph.node[:]
    graph.node.extend(copies)
