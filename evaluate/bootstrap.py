"""95 % bootstrap intervals from per-frame records, by resampling what is independent.

Images of an image data set are resampled one by one, unless several show the same place. Neighbouring frames of a
video show nearly the same, so there whole sequences are resampled, or, with fewer than five of them, blocks of ten
consecutive frames (circular within the sequence, so that every frame is drawn equally often). Two models are compared
on the same resamples, which removes what they share; a source and a target domain are resampled independently.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), percentile intervals; Politis and Romano,
"A circular block-resampling procedure for stationary data" (1992).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["BLOCK_FRAMES", "MIN_SEQUENCES", "REPLICATES", "Resampling", "interval", "resample"]

REPLICATES = 2000
BLOCK_FRAMES = 10
MIN_SEQUENCES = 5


@dataclass(frozen=True)
class Resampling:
    """How often every frame is drawn in every replicate.

    Attributes:
        weights: `(R, N)` float64; `None` when there is only one unit, so that nothing can be said about spread.
        unit: What was resampled, in words.
        units: How many independent units there are.
    """

    weights: Float[np.ndarray, "R N"] | None
    unit: str
    units: int

    def sums(self, records: np.ndarray) -> np.ndarray | None:
        """`(R, ...)` sums over the drawn frames of `(N, ...)` records."""
        if self.weights is None:
            return None
        flat = records.reshape(len(records), -1).astype(np.float64)
        return (self.weights @ flat).reshape(-1, *records.shape[1:])


def resample(
    scenes: Sequence[str], video: bool, seed: str, *, together: bool = False, replicates: int = REPLICATES
) -> Resampling:
    """Draws the replicates for the frames of one condition.

    Args:
        scenes: Sequence of every frame, in order.
        video: Neighbouring frames of a sequence are alike.
        seed: Any text; the same text and frames give the same draws.
        together: Frames of a scene are one unit, however few scenes there are.
        replicates: R.
    """
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    names = list(dict.fromkeys(scenes))
    members = [np.flatnonzero([scene == name for scene in scenes]) for name in names]
    if together:
        blocks, draws, unit = members, len(members), "scenes"
    elif not video:
        blocks, draws, unit = [np.array([i]) for i in range(len(scenes))], len(scenes), "images"
    elif len(names) >= MIN_SEQUENCES:
        blocks, draws, unit = members, len(members), "sequences"
    else:
        blocks = [
            of_scene[(start + np.arange(min(BLOCK_FRAMES, len(of_scene)))) % len(of_scene)]
            for of_scene in members
            for start in range(len(of_scene))
        ]
        draws = round(len(scenes) / np.mean([len(block) for block in blocks])) if blocks else 0
        unit = f"blocks of {BLOCK_FRAMES} frames"
    if draws < 2:
        return Resampling(None, unit, draws)
    picks = rng.integers(len(blocks), size=(replicates, draws))
    rows = np.arange(replicates)[:, None] * len(blocks)
    drawn = np.bincount((picks + rows).ravel(), minlength=replicates * len(blocks)).reshape(replicates, len(blocks))
    if unit == "images":
        return Resampling(drawn.astype(np.float64), unit, draws)
    membership = np.zeros((len(blocks), len(scenes)))
    for row, block in enumerate(blocks):
        membership[row, block] = 1
    return Resampling(drawn @ membership, unit, draws)


def interval(values: Float[np.ndarray, " R"] | None) -> tuple[float, float] | None:
    """The 2.5 and 97.5 percentiles of the replicates; `None` without replicates or when one of them has no value."""
    if values is None or not len(values) or np.isnan(values).any():
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
