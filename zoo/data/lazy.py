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
    """A sequence of a known length whose items are built on every access."""

    def __init__(self, length: int, make: Callable[[int], T]) -> None:
        """Takes a function that builds the item at an index from 0 to `length` - 1."""
        self._length, self._make = length, make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self._make(each) for each in range(self._length)[index]]
        return self._make(range(self._length)[index])
