"""Labels as human annotators draw them: what shows through a fence or a crown belongs to the fence or the tree.

Cityscapes defines the holes of a fence as part of it, and in all street data sets polygons are drawn around a tree, not
around its leaves. Rays alone would label the sky between two twigs as sky.
"""

from __future__ import annotations

import numpy as np

from zoo.synthetic.rendering.cast import FAR, Caster
from zoo.synthetic.shapes.surfaces import Label

__all__ = ["close_crowns", "close_fences"]

_BEHIND = (Label.BUILDING, Label.WALL, Label.FENCE, Label.SKY, Label.TERRAIN)


def close_fences(
    label: np.ndarray, distance: np.ndarray, sheets: Caster, eye: np.ndarray, directions: np.ndarray, tried: np.ndarray
) -> np.ndarray:
    """`(P,)` labels in which rays that pass through a fence before they hit something are labelled fence.

    Args:
        label: `(P,)` uint8.
        distance: `(P,)` of the hits, in lengths of the directions.
        sheets: The closed fences.
        eye: `(3,)` or `(P, 3)` metres.
        directions: `(P, 3)`.
        tried: Indices of the rays that may meet a fence.
    """
    tried = tried[label.take(tried) != Label.FENCE]
    toward = directions.take(tried, axis=0)
    start = np.broadcast_to(eye, toward.shape) if eye.ndim == 1 else eye.take(tried, axis=0)
    passed = sheets.blocked(start, toward, np.minimum(distance.take(tried), FAR))
    out = label.copy()
    out[tried[passed]] = Label.FENCE
    return out


def close_crowns(label: np.ndarray, depth: np.ndarray, radius: int) -> np.ndarray:
    """`(H, W)` labels in which vegetation covers its gaps of up to `2 * radius` pixels, if what shows is farther."""
    plants = label == Label.VEGETATION
    if radius < 1 or not plants.any():
        return label
    closed = ~_grown(~_grown(plants, radius), radius)
    open_ = closed & _table_of(_BEHIND).take(label)
    if not open_.any():
        return label
    count = _box_sum(plants, radius)
    near = _box_sum(np.where(plants, np.minimum(depth, 1e4), 0).astype(np.float32), radius) / np.maximum(count, 1)
    # A gap needs a fifth of its surroundings to be leaves or twigs: a lone twig does not swallow the sky around it.
    gap = open_ & (depth > 1.1 * near) & (count > 0.2 * (2 * radius + 1) ** 2)
    return np.where(gap, np.uint8(Label.VEGETATION), label)


def _table_of(labels: tuple[Label, ...]) -> np.ndarray:
    """`(256,)` bool; a look-up is ten times as fast as `np.isin`."""
    return np.isin(np.arange(256), labels)


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """`(H, W)` bool: whether the square of `2 * radius + 1` pixels around each pixel has any of `mask`."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius, radius)
        mask, width = np.pad(mask, pad), 1
        # Runs of `width` pixels are joined to runs of twice the width, the last time with an overlap.
        while width < 2 * radius + 1:
            step = min(width, 2 * radius + 1 - width)
            mask = mask[step:] | mask[:-step] if axis == 0 else mask[:, step:] | mask[:, :-step]
            width += step
    return mask


def _box_sum(values: np.ndarray, radius: int) -> np.ndarray:
    """`(H, W)` sums over squares of `2 * radius + 1` pixels; zero outside."""
    kind = np.float64 if values.dtype.kind == "f" else np.int32
    n, reach = values.shape, 2 * radius + 1
    total = np.zeros((n[0] + reach, n[1]), kind)
    np.cumsum(values, axis=0, dtype=kind, out=total[radius + 1 : radius + 1 + n[0]])
    total[radius + 1 + n[0] :] = total[radius + n[0]]
    values = total[reach:] - total[: n[0]]
    total = np.zeros((n[0], n[1] + reach), kind)
    np.cumsum(values, axis=1, dtype=kind, out=total[:, radius + 1 : radius + 1 + n[1]])
    total[:, radius + 1 + n[1] :] = total[:, radius + n[1], None]
    return total[:, reach:] - total[:, : n[1]]
