"""What an engine must know about an ONNX file before running it, read without the `onnx` package.

Only the Protocol Buffers wire format is parsed, and weights are skipped, so a file of any size takes
milliseconds. Field numbers are those of `onnx.proto`.

Source: Protocol Buffers encoding (wire types 0, 1, 2, 5); onnx/onnx.proto, IR version 10.
"""

from __future__ import annotations

from collections.abc import Iterator

from zoo.errors import IntegrityError

__all__ = ["external_files", "metadata", "shape_nodes"]

_MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_FUNCTION_NODE, _FUNCTION_ATTRIBUTE = 7, 11
_SPARSE_TENSORS = (1, 2)
_TENSOR_NAME, _TENSOR_EXTERNAL = 8, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_MAX_SHIFT = 63


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
        if shift > _MAX_SHIFT:  # otherwise such bytes would become one number of megabytes, after hours
            raise ValueError("a number does not fit into 64 bits")


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of every length-delimited field of one message; other fields are skipped."""
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        wire = key & 7
        if wire == 0:
            _, position = _varint(content, position)
        elif wire == 1:
            position += 8
        elif wire == 5:
            position += 4
        elif wire == 2:
            length, position = _varint(content, position)
            if position + length > len(content):
                raise ValueError("a field is longer than the file")
            yield key >> 3, content[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire}")


def _entry(content: memoryview) -> tuple[str, str]:
    values = {number: bytes(field).decode("utf-8", "replace") for number, field in _fields(content)}
    return values.get(_ENTRY_KEY, ""), values.get(_ENTRY_VALUE, "")


def _of_tensor(content: memoryview) -> Iterator[str]:
    for number, field in _fields(content):
        if number == _TENSOR_EXTERNAL:
            key, value = _entry(field)
            if key == "location":
                yield value


def _of_sparse(content: memoryview) -> Iterator[str]:
    for number, field in _fields(content):
        if number in _SPARSE_TENSORS:
            yield from _of_tensor(field)


def _of_attribute(content: memoryview) -> Iterator[str]:
    for number, field in _fields(content):
        if number in _ATTRIBUTE_TENSORS:
            yield from _of_tensor(field)
        elif number in _ATTRIBUTE_GRAPHS:
            yield from _of_graph(field)
        elif number in _ATTRIBUTE_SPARSE:
            yield from _of_sparse(field)


def _of_node(content: memoryview) -> Iterator[str]:
    for number, field in _fields(content):
        if number == _NODE_ATTRIBUTE:
            yield from _of_attribute(field)


def _of_graph(content: memoryview) -> Iterator[str]:
    for number, field in _fields(content):
        if number == _GRAPH_INITIALIZER:
            yield from _of_tensor(field)
        elif number == _GRAPH_SPARSE:
            yield from _of_sparse(field)
        elif number == _GRAPH_NODE:
            yield from _of_node(field)


def _of_function(content: memoryview) -> Iterator[str]:
    for number, field in _fields(content):
        if number == _FUNCTION_NODE:
            yield from _of_node(field)
        elif number == _FUNCTION_ATTRIBUTE:
            yield from _of_attribute(field)


def external_files(content: bytes, what: str) -> list[str]:
    """Paths of the separate files that hold weights, as the ONNX file names them; empty if it holds all weights itself.

    Args:
        content: The ONNX file.
        what: Its name, for errors.

    Raises:
        IntegrityError: If it is not an ONNX file or is truncated.
    """
    found: dict[str, None] = {}
    graphs = 0
    try:
        for number, field in _fields(memoryview(content)):
            if number == _MODEL_GRAPH:
                graphs += 1
                found.update(dict.fromkeys(_of_graph(field)))
            elif number == _MODEL_FUNCTIONS:
                found.update(dict.fromkeys(_of_function(field)))
    except (ValueError, IndexError, RecursionError) as error:
        raise IntegrityError(f"{what} is not a complete ONNX file: {error}") from error
    if graphs != 1:
        raise IntegrityError(f"{what} is not an ONNX file: it holds {graphs} graphs")
    return list(found)


def metadata(content: bytes, what: str) -> dict[str, str]:
    """The file's metadata: licence, classes, preprocessing, hash of the source weights.

    Raises:
        IntegrityError: If it is not an ONNX file or is truncated.
    """
    try:
        return dict(_entry(field) for number, field in _fields(memoryview(content)) if number == _MODEL_METADATA)
    except (ValueError, IndexError) as error:
        raise IntegrityError(f"{what} is not a complete ONNX file: {error}") from error


def shape_nodes(content: bytes, what: str) -> set[str]:
    """Names of the nodes that only compute shapes: all their inputs derive from `Shape`, `Size` or constants.

    Nodes inside branches and functions are not analysed, and nodes without a unique name cannot be identified, so
    neither kind is ever in the result.

    Args:
        content: The ONNX file.
        what: Its name, for errors.

    Raises:
        IntegrityError: If it is not an ONNX file or is truncated.
    """
    try:
        (graph,) = [field for number, field in _fields(memoryview(content)) if number == _MODEL_GRAPH]
        fields = list(_fields(graph))
        constants = {_text(field, _TENSOR_NAME) for number, field in fields if number == _GRAPH_INITIALIZER}
        nodes = [_strings(field) for number, field in fields if number == _GRAPH_NODE]
    except (ValueError, IndexError) as error:
        raise IntegrityError(f"{what} is not a complete ONNX file: {error}") from error
    shapes: set[str] = set()  # tensors
    found: list[str] = []
    others: set[str] = set()
    for node in nodes:  # in a valid file, a node comes after the nodes whose outputs it reads
        (operator,), (name,) = node[_NODE_OPERATOR] or [""], node[_NODE_NAME] or [""]
        inputs = set(node[_NODE_INPUT]) - {""}
        if operator == "Constant":
            constants.update(node[_NODE_OUTPUT])
        elif operator in ("Shape", "Size") or (inputs & shapes and inputs <= shapes | constants):
            shapes.update(node[_NODE_OUTPUT])
            found.append(name)
            continue
        others.add(name)
    return {name for name in found if found.count(name) == 1} - others - {""}


def _strings(node: memoryview) -> dict[int, list[str]]:
    """Inputs, outputs, name and operator of a node."""
    wanted = (_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR)
    found: dict[int, list[str]] = {number: [] for number in wanted}
    for number, field in _fields(node):
        if number in found:
            found[number].append(bytes(field).decode("utf-8", "replace"))
    return found


def _text(message: memoryview, wanted: int) -> str:
    return next((bytes(field).decode("utf-8", "replace") for number, field in _fields(message) if number == wanted), "")
