"""Reads an exported file's metadata back from its bytes and compares it with the model folder.

Users who get the file without its folder have only the metadata to go by, so wrong metadata makes a wrong file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zoo.contract import joined
from zoo.engines.onnx_file import metadata
from zoo.errors import InputError, ParityError
from zoo.folder.model_folder import ModelFolder
from zoo.inputs import Input

__all__ = ["PRODUCER", "metadata_of", "read_back"]

PRODUCER = "perception-zoo"
_TEXTS = ("name", "task", "taxonomy", "precision", "source_sha256", "producer")  # the others are JSON


def read_back(content: bytes, folder: ModelFolder, entry: Mapping[str, Any]) -> Input:
    """Checks a file's metadata against the model folder and returns the input that the metadata describes.

    Args:
        content: Bytes of the ONNX file.
        folder: Model folder.
        entry: The file's entry in the list of artefacts.

    Raises:
        ParityError: If a value is missing or differs from the folder's.
        IntegrityError: If `content` is not an ONNX file.
    """
    file = entry["file"]
    found = _parse(metadata(content, file), file)
    contract = joined(folder.inputs[0].contract(entry), folder.task.contract(entry))
    for key, expected in {**metadata_of(folder, entry), "contract": contract}.items():
        if key not in found:
            raise ParityError(f"the metadata of {file} lacks {key!r}; export the model again with zoo export")
        if found[key] != expected:
            where, got, wanted = _first_difference(key, found[key], expected)
            raise ParityError(
                f"{where} is {_short(got)} in the metadata of {file} but {_short(wanted)} in the model folder; "
                "export the model again with zoo export"
            )
    try:
        return folder.inputs[0].from_contract(found["contract"])
    except (KeyError, TypeError, InputError) as error:
        raise ParityError(f"the contract in the metadata of {file} is invalid: {error!r}") from error


def metadata_of(folder: ModelFolder, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata to store in a file, so that it can be used without its folder."""
    classes = folder.task.classes
    named = {} if classes is None else {"classes": list(classes.names), "colors": [list(c) for c in classes.colors]}
    return {
        "name": folder.name,
        "task": folder.task.name,
        **named,
        **({} if classes is None else {"taxonomy": classes.taxonomy}),
        "inputs": entry["inputs"],
        "outputs": entry["outputs"],
        "contract": entry["contract"],
        "precision": entry["precision"],
        "licence": folder.config.get("licence", {"weights": "not stated"}),
        "source_sha256": entry["source_sha256"],
        "producer": PRODUCER,
    }


def _parse(stored: Mapping[str, str], file: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in stored.items():
        try:
            values[key] = text if key in _TEXTS else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ParityError(f"{key!r} in the metadata of {file} is not valid JSON: {error}") from error
    return values


def _first_difference(where: str, found: Any, wanted: Any) -> tuple[str, Any, Any]:
    """Path of the first value that differs, followed by both values."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys([*wanted, *found]):
            if found.get(key) != wanted.get(key) or (key in found) != (key in wanted):
                return _first_difference(f"{where}.{key}", found.get(key), wanted.get(key))
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if one != other:
                return _first_difference(f"{where}[{place}]", one, other)
    return where, found, wanted


def _short(value: Any, length: int = 80) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else f"{text[:length]}…"
