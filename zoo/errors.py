"""Errors that a caller can cause. The command line reports them in one line with exit code 2."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "InputError",
    "IntegrityError",
    "MissingExtraError",
    "NotReleasedError",
    "ParityError",
    "SensorWarning",
    "closest",
    "require",
]


class InputError(ValueError):
    """Invalid input or usage: the message says what was given, what was expected and what to do about it."""


class IntegrityError(InputError):
    """A file differs from its manifest, or is not a valid file of its type."""


class NotReleasedError(InputError):
    """The name is in the catalogue, but its weights are not released."""


class MissingExtraError(InputError, ImportError):
    """A package of an optional extra is missing; the message names the extra."""


class SensorWarning(UserWarning):
    """A lidar sweep differs from what the model was trained on, or does not say something that matters."""


class ParityError(Exception):
    """An exported file does not compute what its source model computes, and is discarded. Exit code 3."""


def closest(name: str, known: Iterable[str], count: int = 3) -> str:
    """`; closest: a, b` for the names in `known` that resemble `name`, or an empty string."""
    import difflib  # imported only on errors, to keep the cold start short

    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.4)
    return f"; closest: {', '.join(close)}" if close else ""


def require(package: str, extra: str, purpose: str) -> MissingExtraError:
    """The error to raise when `purpose` needs `package` (installed by `extra`) and it is missing."""
    return MissingExtraError(
        f"{purpose} needs the package {package}, which is not installed; pip install 'perception-zoo[{extra}]'"
    )
