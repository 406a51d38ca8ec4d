"""Reads small YAML files that people write by hand: class tables, descriptions of models, class maps.

Only plain values are read: tags, anchors, aliases and repeated keys are refused, so a file can neither create Python
objects nor expand to more than it says.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.files import read_regular

__all__ = ["MAX_BYTES", "read_yaml"]

MAX_BYTES = 256 * 1024
"""Largest file that is read; a thousand classes with ids and colours take a quarter of it."""
_MAX_DEPTH = 16


def read_yaml(path: Path, purpose: str) -> dict[str, Any]:
    """The table in a YAML file.

    Args:
        path: The file.
        purpose: What it describes, for errors: `the classes of the label maps`.

    Raises:
        InputError: If the file is missing, too large or not YAML, if its top level is not a table, or if it uses tags,
            anchors, repeated keys or deep nesting.
    """
    try:
        content = read_regular(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; it must describe {purpose}") from error
    import yaml  # read only by commands that name such a file

    try:
        text = content.decode("utf-8")
        _refuse_uncommon(yaml, text)
        value = yaml.load(text, _plain_loader(yaml))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; it must describe {purpose}") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested more than {_MAX_DEPTH} levels deep") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {_in_one_line(error)}") from error
    except (ValueError, TypeError) as error:  # numbers and dates that Python cannot represent
        raise InputError(f"{path}: {error}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{path} must be a table such as `classes: cityscapes`; it describes {purpose}")
    return value


def _refuse_uncommon(yaml: Any, text: str) -> None:
    """Raises a `YAMLError` at the first tag, anchor, alias or value nested too deeply, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed", problem_mark=event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem=f"the tag {event.tag} is not allowed", problem_mark=event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            problem = f"nested more than {_MAX_DEPTH} levels deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _plain_loader(yaml: Any) -> Any:
    """A safe loader that refuses repeated keys and dates."""

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            found: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str | int) or isinstance(key, datetime.date):
                    problem = f"the key {key!r} is neither text nor a whole number; put it into quotes"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
                if key in found:
                    problem = f"the key {key!r} occurs twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
                found[key] = self.construct_object(value_node, deep=True)
            return found

    Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))
    return Loader


def _in_one_line(error: Any) -> str:
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{where}{problem}"
