"""How far apart two computations of the same numbers may lie: one table, by the less precise of their dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

TOLERANCES = {"float64": 1e-10, "six decimals": 1e-6, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}
"""Relative and absolute; "six decimals" is for text files. A few hundred roundings of numbers around 1, in any
order. A test that needs more room says why next to its own number."""


def assert_close(found: Any, expected: Any, dtype: str | None = None) -> None:
    """Fails unless the shapes agree and every number is within the tolerance of its dtype.

    Args:
        found: Array, tensor or numbers, as computed by the code under test.
        expected: The reference, broadcast to the shape of `found`.
        dtype: What was computed or stored in, if the arrays do not show it (float64 read from a file).
    """
    one, other = _array(found), _array(expected)
    kinds = [str(_dtype(each)) for each in (found, expected)]
    floats = [kind for kind in kinds if kind in TOLERANCES]
    tolerance = TOLERANCES[dtype] if dtype else max((TOLERANCES[kind] for kind in floats), default=1e-10)
    np.testing.assert_allclose(one, np.broadcast_to(other, one.shape), rtol=tolerance, atol=tolerance)


def _dtype(values: Any) -> str:
    if isinstance(values, torch.Tensor):
        return str(values.dtype).removeprefix("torch.")
    return str(np.asarray(values).dtype)


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        return values.detach().double().numpy()
    return np.asarray(values, np.float64)
