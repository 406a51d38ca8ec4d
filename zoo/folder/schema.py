"""Strict JSON, and validation against the published schemas in this folder (`*.schema.json`).

To keep the base install small, this is our own validator for the part of JSON Schema, draft 2020-12, that these schemas
use. An unknown keyword in a schema is an error and never skipped. It is stricter than the draft in one point: `1.0` is
not accepted as an integer, because Python code that expects one would fail on it later. As in ECMA 262, `$` in a
pattern matches only at the end of the string, where Python's `$` also accepts a final newline.

Source: JSON Schema core and validation, draft 2020-12.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from zoo.errors import InputError, IntegrityError, closest

__all__ = ["MAX_DEPTH", "Problem", "Schema", "parse_json", "schema", "section_schema"]

MAX_DEPTH = 32
"""Maximum nesting of lists and tables; the files of a model folder need 7."""
_MAX_INTEGER = 2**63 - 1
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list | tuple),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
}
_TYPE_NAMES = {
    "object": "a table",
    "array": "a list",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "integer": "a whole number",
    "number": "a finite number",
}
# What the value of a keyword is: a schema, schemas by name, a list of schemas, or no schema.
_ONE, _NAMED, _LISTED, _NONE = "one", "named", "listed", "none"
_KEYWORDS = {
    **dict.fromkeys(("$schema", "$ref", "$comment", "title", "description"), _NONE),
    **dict.fromkeys(("type", "enum", "const", "required", "pattern", "uniqueItems"), _NONE),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), _NONE),
    **dict.fromkeys(("minimum", "maximum"), _NONE),
    **dict.fromkeys(("additionalProperties", "propertyNames", "items"), _ONE),
    **dict.fromkeys(("properties", "patternProperties", "$defs"), _NAMED),
    **dict.fromkeys(("anyOf", "oneOf"), _LISTED),
}


class Problem(NamedTuple):
    """What is wrong with one value: its path, and what was found and expected."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{_name(step)}" for step in self.path)
        return f"{where.lstrip('.')} {self.message}".strip()


def _name(key: str) -> str:
    return key if re.fullmatch(r"[\w$-]{1,60}", key) else _shown(key)


class Schema:
    """One of the published schemas.

    Args:
        document: The schema.
        name: For errors.

    Raises:
        ValueError: If the schema uses an unknown keyword or refers to itself.
    """

    def __init__(self, document: Mapping[str, Any], name: str = "schema") -> None:
        self.document = document
        self._definitions: Mapping[str, Any] = document.get("$defs", {})
        _check_schema(document, name, self._definitions, ())

    def problems(self, value: Any, definition: str | None = None) -> Iterator[Problem]:
        """The problems of `value` according to the whole schema or one of its definitions."""
        return self._problems(self._definitions[definition] if definition else self.document, value, ())

    def check(self, value: Any, what: str, definition: str | None = None) -> None:
        """Raises an `InputError` that names the first problem of `value`; `what` is the file or object it is in."""
        problem = next(self.problems(value, definition), None)
        if problem is not None:
            raise InputError(f"{what}: {problem}")

    def _problems(self, part: Any, value: Any, path: tuple[str | int, ...]) -> Iterator[Problem]:
        if isinstance(part, bool):
            if not part:
                yield Problem(path, "is not allowed")
            return
        if "$ref" in part:
            yield from self._problems(_resolved(part["$ref"], self._definitions), value, path)
        wrong = _wrong_kind(part, value)
        if wrong:
            yield Problem(path, wrong)
            return  # further problems would only be consequences
        for wrong in _wrong_value(part, value):
            yield Problem(path, wrong)
        if _TYPES["array"](value):
            yield from self._of_items(part, value, path)
        elif isinstance(value, Mapping):
            yield from self._of_keys(part, value, path)
        for keyword in ("anyOf", "oneOf"):
            if keyword in part:
                yield from self._of_branches(keyword, part[keyword], value, path)

    def _of_items(self, part: Mapping[str, Any], value: Any, path: tuple[str | int, ...]) -> Iterator[Problem]:
        if len(value) < part.get("minItems", 0):
            yield Problem(path, f"has {len(value)} entries; at least {part['minItems']} are needed")
        if len(value) > part.get("maxItems", math.inf):
            yield Problem(path, f"has {len(value)} entries; at most {part['maxItems']} are allowed")
        elif part.get("uniqueItems") and (twice := _repeated(value)) is not None:
            yield Problem(path, f"lists {_shown(value[twice])} twice")
        if "items" in part:
            for i, item in enumerate(value):
                yield from self._problems(part["items"], item, (*path, i))

    def _of_keys(self, part: Mapping[str, Any], value: Any, path: tuple[str | int, ...]) -> Iterator[Problem]:
        if len(value) < part.get("minProperties", 0):
            yield Problem(path, f"has {len(value)} keys; at least {part['minProperties']} are needed")
        if len(value) > part.get("maxProperties", math.inf):
            yield Problem(path, f"has {len(value)} keys; at most {part['maxProperties']} are allowed")
        properties = part.get("properties", {})
        for name in part.get("required", ()):
            if name not in value:
                yield Problem(path, f"lacks {name}")
        for key, item in value.items():
            if not isinstance(key, str):  # possible in a table built by Python code
                yield Problem(path, f"has the key {_shown(key)}; keys are text")
                continue
            for problem in self._problems(part.get("propertyNames", True), key, path):
                reason = problem.message.removeprefix(f"is {_shown(key)}; ")
                yield Problem(path, f"has the key {_shown(key)}: {reason}")
            known = key in properties
            if known:
                yield from self._problems(properties[key], item, (*path, key))
            for pattern, of_pattern in part.get("patternProperties", {}).items():
                if _matches(pattern, key):
                    known = True
                    yield from self._problems(of_pattern, item, (*path, key))
            if not known and part.get("additionalProperties", True) is False:
                hint = closest(key[:100], properties) or f"; known: {', '.join(properties) or 'none'}"
                yield Problem(path, f"has the unknown key {_shown(key)}{hint}")
            elif not known:
                yield from self._problems(part.get("additionalProperties", True), item, (*path, key))

    def _of_branches(
        self, keyword: str, branches: list[Any], value: Any, path: tuple[str | int, ...]
    ) -> Iterator[Problem]:
        found = [next(self._problems(branch, value, path), None) for branch in branches]
        fits = found.count(None)
        if fits > 1 and keyword == "oneOf":
            yield Problem(path, f"is {_shown(value)}, which fits {fits} of the alternatives; it may fit only one")
        if fits:
            return
        chosen = self._meant(branches, value)
        if isinstance(chosen, Problem):
            yield Problem(path + chosen.path, chosen.message)
        else:  # without such a key, the alternative that matched deepest
            problems = [problem for problem in found if problem is not None]
            yield problems[chosen] if chosen is not None else max(problems, key=lambda problem: len(problem.path))

    def _meant(self, branches: list[Any], value: Any) -> int | Problem | None:
        """The alternative meant by `value`, found by a key that is constant in each, such as `class`; for messages."""
        parts = [self._dereferenced(branch) for branch in branches]
        constants = [
            {key: of["const"] for key, of in part.get("properties", {}).items() if "const" in of}
            for part in parts
            if isinstance(part, Mapping)
        ]
        shared = set.intersection(*(set(keys) for keys in constants)) if len(constants) == len(parts) else set()
        if len(shared) != 1 or not isinstance(value, Mapping):
            return None
        (key,) = shared
        options = [keys[key] for keys in constants]
        if key not in value:
            return Problem((), f"lacks {key}")
        if value[key] in options:
            return options.index(value[key])
        hint = closest(value[key][:100], options) if isinstance(value[key], str) else ""
        return Problem((key,), f"is {_shown(value[key])}; expected one of {', '.join(map(str, options))}{hint}")

    def _dereferenced(self, part: Any) -> Any:
        while isinstance(part, Mapping) and "$ref" in part:
            part = _resolved(part["$ref"], self._definitions)
        return part


@functools.cache
def schema(name: str) -> Schema:
    """The published schema `name` (`config`, `manifest`, `metrics` or `parity`)."""
    return Schema(json.loads(files("zoo.folder").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")), name)


def section_schema(section: Mapping[str, Any], name: str) -> Schema:
    """The schema of one section of `config.json`, which may refer to the definitions of the whole schema.

    Args:
        section: The `schema` of an input or a task.
        name: For errors.
    """
    return Schema({"$defs": schema("config").document["$defs"], **section}, name)


def _resolved(reference: str, definitions: Mapping[str, Any]) -> Any:
    return definitions[reference.removeprefix("#/$defs/")]


def _check_schema(part: Any, where: str, definitions: Mapping[str, Any], followed: tuple[str, ...]) -> None:
    """Raises a `ValueError` for an unknown keyword, or a reference that is dangling or circular."""
    if isinstance(part, bool):
        return
    for keyword, below in part.items():
        kind = _KEYWORDS.get(keyword)
        if kind is None:
            raise ValueError(f"{where}: unknown keyword {keyword!r}")
        if keyword == "$ref":
            if below in followed:
                raise ValueError(f"{where}: {below} refers to itself")
            if not below.startswith("#/$defs/") or below.removeprefix("#/$defs/") not in definitions:
                raise ValueError(f"{where}: {below} leads nowhere")
            _check_schema(_resolved(below, definitions), below, definitions, (*followed, below))
        parts = {_ONE: [below], _LISTED: below, _NONE: []}.get(kind) if kind != _NAMED else list(below.values())
        for entry in parts or []:
            _check_schema(entry, f"{where}/{keyword}", definitions, followed)


def _wrong_kind(part: Mapping[str, Any], value: Any) -> str | None:
    if "type" in part:
        kinds = [part["type"]] if isinstance(part["type"], str) else part["type"]
        if not any(_TYPES[kind](value) for kind in kinds):
            return f"is {_shown(value)}; expected {_noun(part, ' or '.join(_TYPE_NAMES[kind] for kind in kinds))}"
    if "const" in part and not _equal(part["const"], value):
        return f"is {_shown(value)}; expected {_shown(part['const'])}"
    if "enum" in part and not any(_equal(option, value) for option in part["enum"]):
        return f"is {_shown(value)}; expected one of {', '.join(_shown(option) for option in part['enum'])}"
    return None


def _wrong_value(part: Mapping[str, Any], value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) < part.get("minLength", 0):
            yield f"is {_shown(value)}; at least {part['minLength']} characters are needed"
        if len(value) > part.get("maxLength", math.inf):
            yield f"has {len(value)} characters; at most {part['maxLength']} are allowed"
        elif "pattern" in part and not _matches(part["pattern"], value):
            yield f"is {_shown(value)}; expected {_noun(part, 'a match of ' + part['pattern'])}"
    elif _TYPES["number"](value):
        if value < part.get("minimum", -math.inf):
            yield f"is {_shown(value)}; expected at least {part['minimum']}"
        if value > part.get("maximum", math.inf):
            yield f"is {_shown(value)}; expected at most {part['maximum']}"


def _noun(part: Mapping[str, Any], otherwise: str) -> str:
    return part.get("title", otherwise)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"(?<!\\)\$", r"\\Z", pattern))


def _matches(pattern: str, value: str) -> bool:
    return _compiled(pattern).search(value) is not None


def _equal(one: Any, other: Any) -> bool:
    """Equality as in JSON: `1` equals `1.0`, but not `true`."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if _TYPES["array"](one) and _TYPES["array"](other):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _repeated(values: Any) -> int | None:
    """Index of the first value that also occurs earlier in the list."""
    return next((i for i, value in enumerate(values) if any(_equal(value, earlier) for earlier in values[:i])), None)


def _shown(value: Any) -> str:
    """A value as one short line."""
    if isinstance(value, Mapping):
        return "a table"
    if _TYPES["array"](value):
        return "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int) and abs(value) > 10**40:
        return "a number of more than 40 digits"
    text = ascii(value[:61] if isinstance(value, str) else value)
    return f"{text[:60]}…" if len(text) > 61 else text


def parse_json(content: bytes, what: str) -> Any:
    """The value of a JSON text, strictly by RFC 8259.

    Python's own parser also accepts NaN, infinities, numbers of any length, duplicate keys, and characters that cannot
    be encoded again. All of these are refused here, as is nesting beyond `MAX_DEPTH`.

    Args:
        content: UTF-8.
        what: The file, for errors.

    Raises:
        IntegrityError: If it is not valid.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
            object_pairs_hook=_table,
        )
    except RecursionError as error:
        raise IntegrityError(f"{what} is nested more than {MAX_DEPTH} levels deep") from error
    except ValueError as error:
        raise IntegrityError(f"{what} is not valid JSON: {error}") from error
    _check_content(value, what)
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) > _MAX_INTEGER:
        raise ValueError(f"the number {text[:20]}… does not fit into 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number in JSON")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {_shown(twice)} appears twice in one table")
    return table


def _check_content(value: Any, what: str) -> None:
    """Refuses deep nesting and unpaired surrogates. Iterative, because the depth is not known yet."""
    layer = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for entry in layer:
            if isinstance(entry, dict):
                below += entry.keys()
                below += entry.values()
            elif isinstance(entry, list):
                below += entry
            elif isinstance(entry, str) and not entry.isascii() and re.search("[\ud800-\udfff]", entry):
                raise IntegrityError(f"{what} is not valid JSON: the text {_shown(entry)} holds an unpaired surrogate")
        if not below:
            return
        layer = below
    raise IntegrityError(f"{what} is nested more than {MAX_DEPTH} levels deep")
