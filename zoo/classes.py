"""Class tables of the data sets: names, colours and ignore index, in the order of the training ids.

Source: the label tables published with the data sets: `labels.py` of the Cityscapes scripts, and SegNet's 11-class
split of CamVid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.errors import InputError, closest

__all__ = ["CAMVID", "CITYSCAPES", "TAXONOMIES", "ClassTable", "taxonomy"]


@dataclass(frozen=True)
class ClassTable:
    """An ordered set of classes; label `i` means `names[i]`.

    Attributes:
        taxonomy: Name of the set of classes (`cityscapes`, `camvid`); the tables that map classes are keyed by it.
        names: Class names.
        colors: One RGB triple (0..255) per class.
        ignore_index: Label of pixels without a class; metrics never count them.
        maps: Class maps that the user gave, by the taxonomy that they lead to: for each name the name of its
            counterpart, or `None`. They take precedence over `zoo.class_maps`.
    """

    taxonomy: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255
    maps: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.colors):
            raise InputError(
                f"classes {self.taxonomy}: {len(self.names)} names but {len(self.colors)} colours; each needs both"
            )
        if any(len(color) != 3 or min(color) < 0 or max(color) > 255 for color in self.colors):
            raise InputError(f"classes {self.taxonomy}: each colour must be three numbers from 0 to 255")
        if 0 <= self.ignore_index < len(self.names):
            raise InputError(f"classes {self.taxonomy}: ignore index {self.ignore_index} is one of the classes")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> ClassTable:
        """The table described by the `classes` section of a configuration.

        Raises:
            InputError: If names and colours do not match.
        """
        return cls(
            section["taxonomy"],
            tuple(section["names"]),
            tuple((r, g, b) for r, g, b in section["colors"]),
            section.get("ignore_index", 255),
        )

    def to_json(self) -> dict[str, Any]:
        """The `classes` section of a configuration."""
        return {
            "taxonomy": self.taxonomy,
            "names": list(self.names),
            "colors": [list(color) for color in self.colors],
            "ignore_index": self.ignore_index,
        }

    def palette(self) -> np.ndarray:
        """`(256, 3)` uint8 RGB: the colour of each 8-bit label, black for labels without a class."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colors
        return table


_CITYSCAPES = (
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)
_CAMVID = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)


def _table(name: str, rows: tuple[tuple[str, tuple[int, int, int]], ...], ignore_index: int) -> ClassTable:
    return ClassTable(name, tuple(row[0] for row in rows), tuple(row[1] for row in rows), ignore_index)


CITYSCAPES = _table("cityscapes", _CITYSCAPES, 255)
CAMVID = _table("camvid", _CAMVID, 11)
TAXONOMIES = {table.taxonomy: table for table in (CITYSCAPES, CAMVID)}


def taxonomy(name: str) -> ClassTable:
    """The class table called `name`.

    Raises:
        InputError: If there is no such table.
    """
    if name not in TAXONOMIES:
        raise InputError(f"unknown taxonomy {name!r}{closest(name, TAXONOMIES)}; known: {', '.join(TAXONOMIES)}")
    return TAXONOMIES[name]
