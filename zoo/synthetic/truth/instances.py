"""Instance ids in the coding of Cityscapes."""

from __future__ import annotations

import numpy as np

from zoo.data.labels import CITYSCAPES_IDS
from zoo.synthetic.models.build import LABELS_WITH_INSTANCES

__all__ = ["instance_ids"]


def instance_ids(labels: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """`(H, W)` int32 in the coding of Cityscapes: id * 1000 + track for the classes that have instances.

    Tracks of a place stay below 1000, so that a number means the same object in every picture, sweep and box. In
    a drive they go on beyond that, and the number is the track's modulo 1000, which no two objects in sight share.
    """
    ids = np.zeros(256, np.int32)
    ids[: len(CITYSCAPES_IDS)] = CITYSCAPES_IDS
    out = ids[labels]
    here = np.isin(labels, list(LABELS_WITH_INSTANCES))
    out[here] = out[here] * 1000 + tracks[here] % 1000
    return out
