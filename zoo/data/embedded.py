"""The synthetic frames embedded in the package: clear, night, fog, rain and snow; no download needed."""

from __future__ import annotations

from pathlib import Path

from zoo.classes import CITYSCAPES
from zoo.data.dataset import Dataset

__all__ = ["CAVEATS", "read"]

CAVEATS = (
    "The embedded frames are rendered and few: four places under five conditions. They show that everything works and "
    "allow comparing models; absolute figures do not transfer to real roads.",
)
"""What to keep in mind with any figure of these frames."""


def read(root: Path | None, split: str) -> Dataset:
    """The embedded frames, labelled with the Cityscapes classes; group `clear` is the source of rPD."""
    from zoo.synthetic.embedded import embedded_frames

    assert root is None
    return Dataset(
        kind="synthetic",
        root=None,
        split=split,
        classes=CITYSCAPES,
        frames=tuple(embedded_frames()),
        repeated_scenes=True,
        source_group="clear",
        caveats=CAVEATS,
    )
