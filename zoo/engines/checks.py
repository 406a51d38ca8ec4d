"""Checks of arrays against what a file takes, because runtimes accept wrong sizes without a word."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from zoo.engines import TensorSpec
from zoo.errors import InputError

__all__ = ["available_threads", "check_inputs", "check_threads"]


def check_inputs(arrays: Mapping[str, np.ndarray], specs: tuple[TensorSpec, ...], size_multiple: int) -> None:
    """Raises an `InputError` unless `arrays` are what `specs` describe.

    Args:
        arrays: By input name.
        specs: Inputs; a dynamic axis is `None`.
        size_multiple: Dynamic height and width of `(B, C, H, W)` must be multiples of it.
    """
    names = [spec.name for spec in specs]
    if set(arrays) != set(names):
        raise InputError(f"the model takes {', '.join(names)}; {', '.join(arrays) or 'nothing'} came")
    for spec in specs:
        array = arrays[spec.name]
        wanted = f"({', '.join('any' if side is None else str(side) for side in spec.shape)}) {spec.dtype}"
        same = len(array.shape) == len(spec.shape) and all(
            side in (None, found) for side, found in zip(spec.shape, array.shape)
        )
        if not same or str(array.dtype) != spec.dtype:
            raise InputError(f"input {spec.name} must be {wanted}; {array.shape} {array.dtype} came")
        if 0 in array.shape:
            raise InputError(f"input {spec.name} is empty: {array.shape}")
        if len(array.shape) == 4 and spec.dtype != "uint8":
            for side, found in zip(("height", "width"), array.shape[2:]):
                if found % size_multiple:
                    padded = found + -found % size_multiple
                    raise InputError(f"image {side} {found} is no multiple of {size_multiple}; pad it to {padded}")


def check_threads(threads: int | None) -> None:
    """Raises an `InputError` if a number of threads is below 1."""
    if threads is not None and threads < 1:
        raise InputError(f"threads {threads}: at least one is needed")


def available_threads() -> int:
    """Number of CPUs that this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
