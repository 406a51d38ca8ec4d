"""Shared by both map builders: the layout of a packed key, and the cells that a kernel reads. Does not need torch.

A voxel is one 64-bit integer, so that sorting, uniqueness and neighbour search are operations on one array:

    bits 62..48   batch index, 0 to 32,767
    bits 47..32   x + 32,768
    bits 31..16   y + 32,768
    bits 15..0    z + 32,768

The sign bit stays 0. Cells stay at least 256 away from the limits of their field, so that adding a kernel offset to a
key never carries into the next field; at 5 cm this still covers 3.2 km.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from zoo.errors import InputError

__all__ = [
    "CELL_LIMIT",
    "MAX_BATCH",
    "SENTINEL",
    "Triple",
    "as_triple",
    "axis_offsets",
    "check_cells",
    "check_kernel",
    "kernel_offsets",
    "key_delta",
]

Triple = tuple[int, int, int]

OFFSET = 1 << 15
REACH_LIMIT = 256
CELL_LIMIT = OFFSET - REACH_LIMIT
"""Cell indices lie in -CELL_LIMIT .. CELL_LIMIT - 1."""
MAX_BATCH = (1 << 15) - 1
SENTINEL = (1 << 63) - 1
"""Larger than every key; padding for searches that run off the end."""


def as_triple(value: int | Sequence[int], name: str, smallest: int = 1) -> Triple:
    """`value` for x, y and z, from one integer or three.

    Raises:
        InputError: If it is not one or three integers, or one is smaller than `smallest`.
    """
    parts = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    # NumPy integers are accepted; a bool, a float or a string is a mistake.
    if len(parts) != 3 or any(isinstance(p, bool) or not isinstance(p, Integral) or p < smallest for p in parts):
        raise InputError(f"{name} {value!r} is not one integer or three, each at least {smallest}")
    return int(parts[0]), int(parts[1]), int(parts[2])


def axis_offsets(size: int, dilation: int) -> range:
    """Cells that a kernel of `size` reads along one axis: odd sizes are centred, even sizes reach one cell further up.

    The same as a dense convolution padded by `dilation * ((size - 1) // 2)` below: 2 reads 0 and 1, 3 reads -1 to 1, 4
    reads -1 to 2.
    """
    low = -((size - 1) // 2)
    return range(low * dilation, (low + size) * dilation, dilation)


def kernel_offsets(kernel_size: Triple, dilation: Triple) -> list[Triple]:
    """Cells that a kernel reads, z fastest, which is the order of the first axis of all weights."""
    x, y, z = (axis_offsets(size, step) for size, step in zip(kernel_size, dilation, strict=True))
    return [(i, j, k) for i in x for j in y for k in z]


def key_delta(offset: Triple) -> int:
    """The number to add to a key to move by `offset` cells."""
    return (offset[0] << 32) + (offset[1] << 16) + offset[2]


def check_kernel(kernel_size: Triple, stride: Triple, dilation: Triple) -> None:
    """Checks that a kernel is valid.

    Raises:
        InputError: If an even kernel keeps the voxels (it has no centre), the kernel reaches too far, or the stride is
            so large that the lowest fine cell of a coarse cell could overflow its field of the key.
    """
    for size, step, spread in zip(kernel_size, stride, dilation, strict=True):
        if step > REACH_LIMIT:
            raise InputError(f"stride {step} is larger than {REACH_LIMIT}; use several layers one after the other")
        if size % 2 == 0 and step == 1 and max(stride) == 1:
            raise InputError(
                f"kernel size {kernel_size} with stride 1 keeps the voxels, but an even kernel has no centre;"
                " use an odd size, or a stride"
            )
        if (size // 2) * spread >= REACH_LIMIT:
            raise InputError(f"kernel size {size} with dilation {spread} reaches {REACH_LIMIT} cells or more")


def check_cells(low: Sequence[int], high: Sequence[int], batch_low: int, batch_high: int) -> None:
    """Checks that cells fit the packed key, given the extremes of each axis and of the batch index.

    Raises:
        InputError: If a cell or a batch index is outside the range of the key.
    """
    for axis, smallest, largest in zip("xyz", low, high, strict=True):
        worst = smallest if smallest < -CELL_LIMIT else largest
        if smallest < -CELL_LIMIT or largest >= CELL_LIMIT:
            raise InputError(
                f"cell {axis} = {worst} does not fit the packed key, which holds -{CELL_LIMIT} to {CELL_LIMIT - 1};"
                " use larger voxels, or drop far points"
            )
    if batch_low < 0 or batch_high > MAX_BATCH:
        worst = batch_low if batch_low < 0 else batch_high
        raise InputError(f"batch index {worst} is outside 0 to {MAX_BATCH}")
