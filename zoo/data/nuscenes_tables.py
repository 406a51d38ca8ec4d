"""Reads the JSON tables of nuScenes row by row.

Those of v1.0-trainval hold 2.6 million rows of `sample_data` and as many of `ego_pose`. Parsed at once, they become
several gigabytes of dictionaries; here a row exists only until the few values that are needed have been taken from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError

__all__ = ["TokenColumn", "numbers_of", "read_rows", "rows_of_tokens"]

_CHUNK = 4 * 1024 * 1024  # characters
_MAX_ROW = 16 * 1024 * 1024
_TOKEN = 32
_BETWEEN = re.compile(r"[\s,]*")


def read_rows(path: Path, keys: Mapping[str, type]) -> Iterator[tuple[Any, ...]]:
    """The values of `keys`, at least two, of every row of a table.

    Args:
        path: The table.
        keys: Type of each value, as JSON gives it: `str`, `int`, `bool` or `list`.

    Raises:
        InputError: If the file is missing, no JSON list of tables, or a row lacks a key or has another type there.
    """
    take, types = itemgetter(*keys), tuple(keys.values())
    for number, row in enumerate(_objects(path)):
        try:
            values = take(row)
        except (KeyError, TypeError) as error:
            found = f"lacks the key {error}" if isinstance(row, dict) else f"is {str(row)[:40]!r} instead of a table"
            raise InputError(f"{path}: row {number} {found}; expected {', '.join(keys)}") from error
        if tuple(map(type, values)) != types:
            pairs = zip(keys.items(), values, strict=True)
            key, value = next((key, value) for (key, kind), value in pairs if type(value) is not kind)
            raise InputError(f"{path}: {key} of row {number} is {str(value)[:60]!r}; expected {keys[key].__name__}")
        yield values


def _objects(path: Path) -> Iterator[Any]:
    decode = json.JSONDecoder().raw_decode
    number = 0
    try:
        with open(path, encoding="utf-8") as file:
            buffer = file.read(_CHUNK).lstrip()
            if not buffer.startswith("["):
                raise InputError(f"{path} is not a JSON list; expected a table of nuScenes")
            position = 1
            while True:
                between = _BETWEEN.match(buffer, position)
                assert between is not None
                position = between.end()
                if buffer.startswith("]", position):
                    return
                try:
                    row, position = decode(buffer, position)
                except json.JSONDecodeError as error:  # damaged, or cut at the end of the buffer
                    more = file.read(_CHUNK)
                    if not more or len(buffer) - position > _MAX_ROW:
                        reason = "ends within a row" if not more else f"is damaged: {error.msg}"
                        raise InputError(f"{path} {reason}, after {number:,} rows; download it again") from error
                    buffer, position = buffer[position:] + more, 0
                    continue
                number += 1
                yield row
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a table of nuScenes") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged after {number:,} rows: {type(error).__name__}; download it again"
        ) from error


def numbers_of(value: Any, count: int, what: str) -> list[float]:
    """`count` finite numbers of a row, as they are in a list.

    Raises:
        InputError: If it is something else.
    """
    # The comparison is false for NaN, too.
    if isinstance(value, list) and len(value) == count and all(_is_number(each) and abs(each) < 1e12 for each in value):
        return value
    raise InputError(f"{what} is {str(value)[:80]}; expected {count} finite numbers")


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


class TokenColumn:
    """Tokens in 32 bytes each: a million strings would take 80 MB."""

    def __init__(self, what: str) -> None:
        """`what` names the column, for errors."""
        self._what, self._bytes = what, bytearray()

    def append(self, token: str) -> None:
        """Adds one, or the empty text that ends a list.

        Raises:
            InputError: If it is not up to 32 characters of ASCII.
        """
        if len(token) > _TOKEN or not token.isascii():
            raise InputError(f"{self._what} holds {token[:80]!r}; expected a token of 32 characters")
        self._bytes += token.encode().ljust(_TOKEN, b"\0")

    def array(self) -> np.ndarray:
        """`(N,)` bytes of length 32."""
        return np.frombuffer(bytes(self._bytes), f"S{_TOKEN}")


def rows_of_tokens(tokens: np.ndarray, table: np.ndarray, what: str) -> np.ndarray:
    """`(N,)` the position of each of `tokens` in `table`; -1 for an empty one.

    Args:
        tokens: `(N,)` from `TokenColumn.array`.
        table: `(M,)` from `TokenColumn.array`.
        what: Name of the link, for errors.

    Raises:
        InputError: If a token is not in the table.
    """
    order = np.argsort(table, kind="stable")
    found = np.searchsorted(table, tokens, sorter=order)
    rows = order[np.minimum(found, max(len(table) - 1, 0))] if len(table) else np.zeros(len(tokens), np.int64)
    given = tokens != b""
    wrong = given & (table[rows] != tokens) if len(table) else given
    if wrong.any():
        token = tokens[int(np.argmax(wrong))].decode()
        raise InputError(f"{what} {token} is not in the table; the tables are incomplete or from two versions")
    return np.where(given, rows, -1)
