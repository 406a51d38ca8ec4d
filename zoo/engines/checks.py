"""Checks arrays against the inputs of an artefact, because runtimes silently accept wrong sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from zoo.engines import TensorSpec
from zoo.errors import InputError

__all__ = ["available_threads", "check_inputs", "check_threads"]


def check_inputs(arrays: Mapping[str, np.ndarray], specs: tuple[TensorSpec, ...]) -> None:
    """Raises an `InputError` unless `arrays`, by input name, match `specs`."""
    names = [spec.name for spec in specs]
    if set(arrays) != set(names):
        raise InputError(f"the model takes {', '.join(names)}; got {', '.join(arrays) or 'nothing'}")
    for spec in specs:
        _check_input(arrays[spec.name], spec)


def _check_input(array: np.ndarray, spec: TensorSpec) -> None:
    wanted = f"({', '.join('any' if side is None else str(side) for side in spec.shape)}) {spec.dtype}"
    same = len(array.shape) == len(spec.shape) and all(
        side in (None, found) for side, found in zip(spec.shape, array.shape)
    )
    if not same or str(array.dtype) != spec.dtype:
        raise InputError(f"input {spec.name} must be {wanted}; got {array.shape} {array.dtype}")
    if 0 in array.shape:
        raise InputError(f"input {spec.name} is empty: {array.shape}")
    for i, (found, multiple) in enumerate(zip(array.shape, spec.multiples, strict=True)):
        if found % multiple:
            axis = spec.axes[i] if i < len(spec.axes) else f"axis {i}"
            padded = found + -found % multiple
            raise InputError(f"{spec.name} {axis} {found} is not a multiple of {multiple}; pad it to {padded}")


def check_threads(threads: int | None) -> None:
    """Raises an `InputError` if a number of threads is below 1."""
    if threads is not None and threads < 1:
        raise InputError(f"threads {threads}: at least one is needed")


def available_threads() -> int:
    """Number of CPUs that this process may use; in a container, it can be less than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
