"""Containers that build their items on every access, so that a list of thousands of frames holds none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, overload

__all__ = ["LazyMapping", "LazySequence"]

T = TypeVar("T")


class LazyMapping(Mapping[str, T], Generic[T]):
    """A mapping whose values are built on every access."""

    def __init__(self, makers: Mapping[str, Callable[[], T]]) -> None:
        """Takes a function without arguments for each value."""
        self._makers = makers

    def __getitem__(self, key: str) -> T:
        return self._makers[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


class LazySequence(Sequence[T], Generic[T]):
    """A sequence whose items are built on every access; a loop over it builds them once."""

    def __init__(self, make: Callable[[], Sequence[T]]) -> None:
        """Takes a function that builds all items."""
        self._make = make

    def __len__(self) -> int:
        return len(self._make())

    def __iter__(self) -> Iterator[T]:
        return iter(self._make())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self._make()[index]
