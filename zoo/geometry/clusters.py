"""Connected components of points seen from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

__all__ = ["clusters"]


def clusters(xy: Float[np.ndarray, "N 2"], cell_m: float = 0.5) -> Int64[np.ndarray, " N"]:
    """Numbers from 1: points are in one cluster if a chain of occupied cells, each touching the next, joins them.

    Args:
        xy: Metres.
        cell_m: Side of the square cells; cells that share a corner touch.
    """
    if not len(xy):
        return np.zeros(0, np.int64)
    cells = np.floor(xy / cell_m).astype(np.int64)
    cells -= cells.min(0) - 1
    width = int(cells[:, 1].max()) + 2
    keys, inverse = np.unique(cells[:, 0] * width + cells[:, 1], return_inverse=True)
    pairs = []
    for step in (1, width - 1, width, width + 1):  # the other four neighbours are found from the other side
        at = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
        touching = np.flatnonzero(keys[at] == keys + step)
        pairs.append(np.column_stack([touching, at[touching]]))
    first, second = np.concatenate(pairs).T
    root = np.arange(len(keys))
    while True:  # every cell takes the lowest root among its neighbours, then the root of its root
        lowest = np.minimum(root[first], root[second])
        changed = root.copy()
        np.minimum.at(changed, root[first], lowest)
        np.minimum.at(changed, root[second], lowest)
        changed = changed[changed]
        if np.array_equal(changed, root):
            break
        root = changed
    return np.unique(root, return_inverse=True)[1][inverse] + 1
