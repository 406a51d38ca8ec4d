"""Parses a command line into a command's dataclass; every mistake becomes a one-line `InputError`.

tyro converts the values and prints the help. Its error messages are boxes of up to 16 lines whose wording changes
between versions, so mistakes are caught here before tyro sees the arguments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro

from zoo.errors import InputError, closest

__all__ = ["parse_arguments", "parse_size"]

T = TypeVar("T")


def parse_arguments(
    kind: type[T],
    words: Sequence[str],
    *,
    prog: str,
    description: str | None = None,
    default: T | None = None,
    config: Sequence[Any] = (),
    others: Sequence[str] = (),
) -> T:
    """An instance of the dataclass `kind`, parsed from command-line arguments.

    Args:
        kind: Dataclass whose fields are the arguments, nested dataclasses included.
        words: The arguments after the command's name.
        prog: The command as the user types it, for messages and help.
        description: First paragraph of the help.
        default: Values of the arguments that are not given.
        config: tyro markers that apply to every field.
        others: Options that the caller parses itself; only used to suggest corrections of misspelt options.

    Raises:
        InputError: If an argument is unknown, missing, repeated or has an invalid value.
        SystemExit: With code 0, after printing the help.
    """
    words = list(words)
    if not any(word in ("-h", "--help") or word.startswith("--tyro-") for word in words):
        words = _checked(list(_arguments(kind, config)), words, prog, others)
    options: dict[str, Any] = {} if default is None else {"default": default}
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            arguments = tyro.cli(kind, args=words, prog=prog, description=description, config=tuple(config), **options)
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        # tyro reports a ValueError raised by the dataclass's own checks as a command-line error.
        own = next((error for error in _causes(exit_) if isinstance(error, InputError)), None)
        raise own or InputError(f"{_in_one_line(captured.getvalue())}; see {prog} --help") from exit_
    sys.stderr.write(captured.getvalue())
    return arguments


def parse_size(option: str, text: str) -> tuple[int, int]:
    """(height, width) in pixels from the value of an option, such as `512x1024`.

    Args:
        option: Name of the option, for the message.
        text: Its value.

    Raises:
        InputError: If the value is not of the form HxW, with both at least 1.
    """
    match = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 1:
        raise InputError(f"{option} {text}: expected HxW in pixels, for example 512x1024")
    return size


@dataclasses.dataclass(frozen=True)
class _Argument:
    name: str
    """As shown in messages: `--learning-rate`, or `MODEL` for a positional argument."""
    kinds: tuple[Any, ...]
    """Types that its value may have, except `None`."""
    optional: bool
    """Whether `None` is a valid value."""
    positional: bool
    required: bool
    repeats: bool
    """Whether the option may be given several times, with one value each time."""
    metavar: str | None

    @property
    def count(self) -> int | None:
        """Number of words in one value; `None` for any number."""
        if self.repeats:
            return 1
        counts = {_word_count(kind) for kind in self.kinds}
        return counts.pop() if len(counts) == 1 else None

    @property
    def expected(self) -> str:
        """What a value looks like."""
        described = " or ".join(_describe(kind) for kind in self.kinds)
        return self.metavar if self.metavar and described in ("a value", "a path") else described

    def accepts(self, values: Sequence[str]) -> bool:
        """Whether the words form a valid value."""
        if self.optional and list(values) == ["None"]:
            return True
        return any(_accepts(kind, values) for kind in self.kinds)


def _arguments(kind: type, config: Sequence[Any], prefix: str = "") -> Iterator[_Argument]:
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        markers: tuple[Any, ...] = tuple(config)
        hint = hints[field.name]
        if typing.get_origin(hint) is typing.Annotated:
            hint, *own = typing.get_args(hint)
            markers += tuple(own)
        named = next((marker.name for marker in markers if getattr(marker, "name", None)), field.name)
        flag = f"{prefix}{named}".replace("_", "-")
        if dataclasses.is_dataclass(hint):
            yield from _arguments(typing.cast(type, hint), config, f"{flag}.")
            continue
        members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        kinds = tuple(member for member in members if member is not types.NoneType)
        positional = tyro.conf.Positional in markers
        yield _Argument(
            name=field.name.upper() if positional else f"--{flag}",
            kinds=kinds,
            optional=len(kinds) < len(members),
            positional=positional,
            required=field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            repeats=tyro.conf.UseAppendAction in markers and any(_word_count(kind) is None for kind in kinds),
            metavar=next((marker.metavar for marker in markers if getattr(marker, "metavar", None)), None),
        )


def _word_count(kind: Any) -> int | None:
    if kind is bool:
        return 0
    if typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        return None if Ellipsis in items else len(items)
    return None if typing.get_origin(kind) in (list, set, dict) else 1


def _accepts(kind: Any, values: Sequence[str]) -> bool:
    origin, items = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and Ellipsis in items:
        return all(_accepts(items[0], [value]) for value in values)
    if origin is tuple:
        return len(values) == len(items) and all(_accepts(item, [value]) for item, value in zip(items, values))
    if origin is Literal:
        return len(values) == 1 and values[0] in map(str, items)
    if kind in (int, float):
        try:
            kind(*values)
        except (TypeError, ValueError):
            return False
    return True  # tyro checks all other types


def _describe(kind: Any) -> str:
    origin, items = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and Ellipsis in items:
        return _describe(items[0])
    if origin is tuple:
        singular = _describe(items[0])
        plural = {"a whole number": "whole numbers", "a number": "numbers"}.get(singular, "values")
        return f"{len(items)} {plural}"
    if origin is Literal:
        return "one of " + ", ".join(map(str, items))
    return {int: "a whole number", float: "a number", Path: "a path"}.get(kind, "a value")


def _is_option(word: str) -> bool:
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)  # -0.5 is a value
    except ValueError:
        return True
    return False


def _checked(arguments: Sequence[_Argument], words: Sequence[str], prog: str, others: Sequence[str]) -> list[str]:
    """The words with the positional arguments moved to the front, because tyro accepts them only side by side.

    Raises:
        InputError: For the first mistake.
    """
    options = {argument.name: argument for argument in arguments if not argument.positional}
    places = [argument for argument in arguments if argument.positional]
    positional: list[str] = []
    rest: list[str] = []
    seen: set[str] = set()
    left = list(words)
    while left:
        if not _is_option(left[0]):
            positional.append(left.pop(0))
            continue
        name, values, taken = _option(options, left, prog, others)
        if name in seen and not options[name].repeats:
            raise InputError(f"{name} is given more than once; give it once")
        seen.add(name)
        _check_values(options[name], values, prog)
        rest += left[:taken]
        left = left[taken:]
    if len(positional) > len(places) and not (places and places[-1].count is None):
        takes = " ".join(place.name for place in places) or "options only"
        raise InputError(f"unexpected argument {positional[len(places)]!r}; {prog} takes {takes}; see {prog} --help")
    seen |= {place.name for place, _ in zip(places, positional)}
    missing = [argument.name for argument in (*places, *options.values()) if argument.required]
    if missing := [name for name in missing if name not in seen]:
        raise InputError(f"missing {', '.join(missing)}; see {prog} --help")
    return positional + rest


def _option(
    options: Mapping[str, _Argument], words: Sequence[str], prog: str, others: Sequence[str]
) -> tuple[str, list[str], int]:
    """Name and values of the option at the start of `words`, and the number of words that they occupy."""
    flag, equals, value = words[0].partition("=")
    flag = flag.replace("_", "-")
    switches = {f"--no-{name[2:]}": name for name, option in options.items() if option.count == 0}
    name = switches.get(flag, flag)
    if name not in options:
        near = closest(flag, [*options, *switches, *others])
        raise InputError(f"unknown option {flag}{near}; {prog} --help lists all options")
    option = options[name]
    if equals and option.count == 0:
        raise InputError(f"{flag} takes no value, got {value!r}; give {name} or --no-{name[2:]}")
    values = [value] if equals else _take(option, words[1:])
    return name, values, 1 if equals else 1 + len(values)


def _take(option: _Argument, words: Sequence[str]) -> list[str]:
    """The leading words that are values of the option."""
    if option.optional and list(words[:1]) == ["None"]:
        return ["None"]
    values: list[str] = []
    for word in words if option.count is None else words[: option.count]:
        if _is_option(word):
            break
        values.append(word)
    return values


def _check_values(argument: _Argument, values: Sequence[str], prog: str) -> None:
    if argument.count == 0 or (values and argument.accepts(values)):
        return
    got = " ".join(map(repr, values)) or "no value"
    choices = [str(item) for kind in argument.kinds if typing.get_origin(kind) is Literal for item in kind.__args__]
    near = closest(values[0], choices) if values else ""
    raise InputError(f"{argument.name} expects {argument.expected}, got {got}{near}; see {prog} --help")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_one_line(box: str) -> str:
    """One line from tyro's error box, for a mistake not caught above: the text inside the frame, without the help."""
    lines: list[str] = []
    for line in box.splitlines():
        text = line.strip("│╭╮╰╯─━ |+\t")
        if lines and line.strip("│ ").startswith("──"):
            break
        if text and not line.startswith("╭"):
            lines.append(text)
    return " ".join(lines) or "the command line cannot be parsed"
