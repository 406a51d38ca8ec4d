"""The errors that a caller can cause. The command line turns them into one line and exit code 2."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["InputError", "IntegrityError", "MissingExtraError", "NotReleasedError", "ParityError", "closest", "require"]


class InputError(ValueError):
    """Wrong input or wrong use: the message names what came, what was expected and the way out."""


class IntegrityError(InputError):
    """A file differs from what its manifest says, or cannot be read as what it claims to be."""


class NotReleasedError(InputError):
    """The catalogue knows the name, but its weights are not released."""


class MissingExtraError(InputError, ImportError):
    """A package of an optional extra is missing; the message names the extra."""


class ParityError(Exception):
    """An exported file does not compute what its source computes; it is not kept. Exit code 3."""


def closest(name: str, known: Iterable[str], count: int = 3) -> str:
    """`; closest: a, b` for the names in `known` that resemble `name`, or an empty string."""
    import difflib  # only for a mistake: a cold start is short

    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.4)
    return f"; closest: {', '.join(close)}" if close else ""


def require(package: str, extra: str, purpose: str) -> MissingExtraError:
    """The error to raise when `package` (of `extra`) is not installed and `purpose` needs it."""
    return MissingExtraError(
        f"{purpose} needs the package {package}, which is not installed; pip install 'perception-zoo[{extra}]'"
    )
