"""Finds the nodes of an ONNX file that TensorRT does not support, from its public operator list, without TensorRT.

The list restricts operators, their data types, attributes and inputs. Its restrictions on run-time shapes (recurrent
layers, loops) are not checked, because a file does not reveal them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from zoo.export.rewrite import import_onnx
from zoo.export.tensorrt_operators import NETWORK_ONLY, OPERATORS, OPSETS, SOURCE

__all__ = ["Rejection", "check_tensorrt"]


@dataclass(frozen=True)
class Rejection:
    """One unsupported node.

    Attributes:
        node: Name of the node, or its position.
        operator: Operator type.
        reason: The restriction that it violates.
    """

    node: str
    operator: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """The entry in `parity.json`."""
        return asdict(self)


class _Graph:
    """Lookup of each tensor's element type, rank and, for constants, value."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx = onnx
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        self.functions = {(function.domain, function.name) for function in model.functions}
        try:
            graph = onnx.shape_inference.infer_shapes(model).graph
        except onnx.shape_inference.InferenceError:
            graph = model.graph  # a custom operator stops the inference; the other nodes are checked without it
        self.nodes = list(graph.node)
        self.types: dict[str, str] = {}
        self.shapes: dict[str, list[int | None]] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.borders = {value.name for value in (*graph.input, *graph.output)}
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            self.types[value.name] = onnx.TensorProto.DataType.Name(tensor.elem_type)
            if tensor.HasField("shape"):
                self.shapes[value.name] = [
                    side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim
                ]
        for tensor in graph.initializer:
            self._keep(tensor.name, tensor)
        for node in self.nodes:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self._keep(node.output[0], attribute.t)

    def _keep(self, name: str, tensor: Any) -> None:
        self.types[name] = self.onnx.TensorProto.DataType.Name(tensor.data_type)
        self.shapes[name] = list(tensor.dims)
        if np.prod(tensor.dims) <= 4096 and not tensor.external_data:  # rules read axes and zero points, never weights
            self.constants[name] = self.onnx.numpy_helper.to_array(tensor)

    def attribute(self, node: Any, name: str, default: Any = None) -> Any:
        for attribute in node.attribute:
            if attribute.name == name:
                value = self.onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def rank(self, name: str) -> int | None:
        return len(self.shapes[name]) if name in self.shapes else None

    def is_constant(self, node: Any, place: int) -> bool:
        """Whether the input at `place` is absent or a constant stored in the file."""
        name = node.input[place] if len(node.input) > place else ""
        return not name or name in self.constants


def check_tensorrt(model: Any) -> list[Rejection]:
    """Nodes of `model` (an `onnx.ModelProto`) that TensorRT does not support; empty if it supports all of them."""
    graph = _Graph(import_onnx(), model)
    found = []
    if not OPSETS[0] <= graph.opset <= OPSETS[1]:
        found.append(
            Rejection("file", "opset", f"opset {graph.opset} is outside {OPSETS[0]} to {OPSETS[1]} ({SOURCE})")
        )
    for place, node in enumerate(graph.nodes):
        name = node.name or f"node {place}"
        found += [Rejection(name, node.op_type, reason) for reason in _reasons(graph, node)]
    return found


def _reasons(graph: _Graph, node: Any) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        if (node.domain, node.op_type) not in graph.functions:
            yield f"operators of the domain {node.domain} are not supported"
        return
    if node.op_type not in OPERATORS:
        yield "the operator is not supported"
        return
    taken = OPERATORS[node.op_type]
    for tensor in dict.fromkeys(_data_tensors(graph, node)):
        kind = graph.types.get(tensor, "UNDEFINED")
        if kind != "UNDEFINED" and kind not in taken:
            yield f"{tensor} is {kind}; supported: {', '.join(taken)}"
        elif kind == NETWORK_ONLY and tensor not in graph.borders:
            yield f"{tensor} is {kind}, which is supported for network inputs and outputs only"
    rule = _RULES.get(node.op_type)
    if rule is not None:
        yield from rule(graph, node)


# Index of the data input where it is not the first; -1: the data is the output; -2: no data to check.
_DATA = {
    "Where": 1,
    "OneHot": 2,
    "ConstantOfShape": -1,
    "EyeLike": -1,
    "CastLike": 0,
    "Constant": -1,
    "Loop": -2,
    "If": -2,
}


def _data_tensors(graph: _Graph, node: Any) -> Iterator[str]:
    """Inputs and outputs with the type variable of the operator's data, so no indices, axes or conditions."""
    place = _DATA.get(node.op_type, 0)
    if place == -2:
        return
    if node.op_type in ("Cast", "CastLike") or place == -1:
        yield from ([node.input[0]] if node.op_type.startswith("Cast") else [])
        yield from node.output
        return
    try:
        schema = graph.onnx.defs.get_schema(node.op_type, graph.opset, "")
    except graph.onnx.defs.SchemaError:
        yield from node.input[:1]
        return
    variable = schema.inputs[place].type_str if len(schema.inputs) > place else None
    for parameters, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for i, name in enumerate(names):
            # The last parameter may be variadic (Concat, Max), in which case it covers all further names.
            if name and parameters and parameters[min(i, len(parameters) - 1)].type_str == variable:
                yield name


def _constant(*places: int, what: str) -> Callable[[_Graph, Any], Iterator[str]]:
    def rule(graph: _Graph, node: Any) -> Iterator[str]:
        if not all(graph.is_constant(node, place) for place in places):
            yield f"{what} must be a constant in the file"

    return rule


def _resize(graph: _Graph, node: Any) -> Iterator[str]:
    allowed = {
        "mode": ("nearest", ("nearest", "linear")),
        "coordinate_transformation_mode": (
            "half_pixel",
            ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
        ),
        "nearest_mode": ("round_prefer_floor", ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")),
        "keep_aspect_ratio_policy": ("stretch", ("stretch",)),
        "antialias": (0, (0,)),
    }
    for name, (default, taken) in allowed.items():
        value = graph.attribute(node, name, default)
        if value not in taken:
            yield f"attribute {name} is {value}; supported: {', '.join(map(str, taken))}"


def _pool(graph: _Graph, node: Any) -> Iterator[str]:
    dilations = graph.attribute(node, "dilations", [])
    if any(step != 1 for step in dilations):
        yield f"attribute dilations is {list(dilations)}; only 1 is supported"
    rank = graph.rank(node.input[0])
    if node.op_type != "LpPool" and rank not in (None, 4, 5):
        yield f"pooling over {rank - 2 if rank else rank} dimensions; supported: 2, 3"
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        yield "the output Indices is not supported"


def _zero_point(graph: _Graph, node: Any) -> Iterator[str]:
    name = node.input[2] if len(node.input) > 2 else ""
    if name and (name not in graph.constants or np.any(graph.constants[name])):
        yield "the zero point must be 0"


def _layer_norm(graph: _Graph, node: Any) -> Iterator[str]:
    if any(node.output[1:]):
        yield "only the first output is supported"


def _dropout(graph: _Graph, node: Any) -> Iterator[str]:
    name = node.input[2] if len(node.input) > 2 else ""
    if name and (name not in graph.constants or np.any(graph.constants[name])):
        yield "training_mode must be a constant False"


def _scatter(graph: _Graph, node: Any) -> Iterator[str]:
    reduction = graph.attribute(node, "reduction", "none")
    if reduction != "none":
        yield f"attribute reduction is {reduction}; supported: none"


def _top_k(graph: _Graph, node: Any) -> Iterator[str]:
    if graph.attribute(node, "sorted", 1) != 1:
        yield "attribute sorted must be 1"
    count = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
    if count is not None and int(count.reshape(-1)[0]) >= 3840:
        yield f"K is {int(count.reshape(-1)[0])}; it must be less than 3840"


def _constant_node(graph: _Graph, node: Any) -> Iterator[str]:
    for attribute in node.attribute:
        if attribute.name in ("sparse_value", "value_string", "value_strings"):
            yield f"attribute {attribute.name} is not supported"


def _lstm(graph: _Graph, node: Any) -> Iterator[str]:
    for name in ("input_forget", "layout"):
        if graph.attribute(node, name, 0) != 0:
            yield f"attribute {name} must be 0"


def _four_dimensions(graph: _Graph, node: Any) -> Iterator[str]:
    rank = graph.rank(node.input[0])
    if rank not in (None, 4):
        yield f"the input has {rank} dimensions; supported: 4"


def _attention(graph: _Graph, node: Any) -> Iterator[str]:
    for place in range(min(4, len(node.input))):
        if node.input[place] and graph.rank(node.input[place]) not in (None, 4):
            yield f"input {place} has {graph.rank(node.input[place])} dimensions; supported: 4"
    if any(node.input[4:]) or any(node.output[1:]):
        yield "past keys, past values and further outputs are not supported"
    for name in ("qk_matmul_output_mode", "softcap"):
        if graph.attribute(node, name, 0):
            yield f"attribute {name} is not supported"


def _eye(graph: _Graph, node: Any) -> Iterator[str]:
    if None in graph.shapes.get(node.input[0], [None]):
        yield "the input must have a fixed shape"


def _deform(graph: _Graph, node: Any) -> Iterator[str]:
    pads = list(graph.attribute(node, "pads", []))
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        yield f"attribute pads is {pads}; begin and end must be equal"
    if graph.rank(node.input[0]) not in (None, 3, 4):
        yield "only 1 or 2 spatial dimensions are supported"


_REDUCTIONS = [name for name in OPERATORS if name.startswith("Reduce")]
_RULES: dict[str, Callable[[_Graph, Any], Iterator[str]]] = {
    "Resize": _resize,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "LpPool": _pool,
    "QuantizeLinear": _zero_point,
    "DequantizeLinear": _zero_point,
    "LayerNormalization": _layer_norm,
    "Dropout": _dropout,
    "ScatterND": _scatter,
    "TopK": _top_k,
    "Constant": _constant_node,
    "LSTM": _lstm,
    "GridSample": _four_dimensions,
    "Attention": _attention,
    "EyeLike": _eye,
    "DeformConv": _deform,
    "CumSum": _constant(1, what="the axis"),
    "OneHot": _constant(1, what="the depth"),
    "Squeeze": _constant(1, what="the axes"),
    "Unsqueeze": _constant(1, what="the axes"),
    "STFT": _constant(1, 2, what="frame_step and window"),
    **dict.fromkeys(_REDUCTIONS, _constant(1, what="the axes")),
}
