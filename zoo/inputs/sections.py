"""Sections of a configuration as frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from zoo.errors import InputError

__all__ = ["from_section"]

_T = TypeVar("_T")


def from_section(kind: type[_T], section: Mapping[str, Any], name: str) -> _T:
    """The dataclass `kind` with the values of a section; lists become tuples.

    Args:
        kind: A dataclass that checks its values itself.
        section: Values by field name; fields with defaults may be missing.
        name: What errors call the section.

    Raises:
        InputError: If a key is unknown or missing, or `kind` refuses a value.
    """
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(section) - known)
    if unknown:
        raise InputError(f"{name}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in section.items()})
    except TypeError as error:
        raise InputError(f"{name}: {error}") from error
