"""Encoders: camera images or lidar points to features, one architecture per file and one contract for all of them.

An encoder is an `nn.Module` with a keyword-only constructor. It declares

- `inputs`: one `TensorSpec` per input, in the order in which the methods take them, each with its name;
- `axes`: axes of a level, `GRID` or `POINTS`;
- `out_channels` and `strides` (input size over feature size, for points in voxels): one entry per level, finest first.

It has

- `forward_features(*inputs)`: the list of levels, float tensors with `axes`. `POINTS` levels have one row per input
  point, in the order of the points;
- `forward_intermediates(*inputs, indices=None)`: levels, blocks or stages by number, those of `forward_features` by
  default. Negative numbers count from the end;
- `forward(*inputs)`: the same as `forward_features`.

A constructor has the argument `pretrained` only if there are pretrained weights to download. A head is built from
`out_channels` and `strides` alone, and states the `axes` that it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import InputError

__all__ = ["GRID", "POINTS", "resolve_indices"]

GRID = ("batch", "channels", "height", "width")
"""Axes of a level that is a grid over the image: `(B, out_channels[i], H / strides[i], W / strides[i])`."""

POINTS = ("points", "channels")
"""Axes of a level with a feature per point: `(N, out_channels[i])`, whatever the stride."""


def resolve_indices(indices: Sequence[int], count: int, parts: str) -> list[int]:
    """Indices counted from 0, given ones that may count from the end.

    Args:
        indices: What was asked for.
        count: How many there are.
        parts: What they are, for the error: `levels`, `blocks`, `stages`.

    Raises:
        InputError: If one does not exist.
    """
    if any(not -count <= i < count for i in indices):
        raise InputError(f"{parts} {tuple(indices)} are out of range; the encoder has {count}, counted from 0")
    return [i % count for i in indices]
