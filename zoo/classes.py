"""Class tables of the data sets: names, colours and ignore index, in the order of the training ids.

Source: the label tables published with the data sets: `labels.py` of the Cityscapes scripts, SegNet's 11-class split of
CamVid, `semantic-kitti.yaml`, the lidarseg tables of the nuScenes devkit, `class_list.json` of A2D2, and the label map
of https://github.com/ika-rwth-aachen/PCLSegmentation for `NUSCENES11`, with colours of nuScenes and Cityscapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.errors import InputError, closest

__all__ = [
    "A2D2",
    "CAMVID",
    "CITYSCAPES",
    "NUSCENES",
    "NUSCENES11",
    "SEMANTICKITTI",
    "TAXONOMIES",
    "THINGS",
    "ClassTable",
    "taxonomy",
]


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

_SEMANTICKITTI = (
    ("car", (100, 150, 245)),
    ("bicycle", (100, 230, 245)),
    ("motorcycle", (30, 60, 150)),
    ("truck", (80, 30, 180)),
    ("other-vehicle", (0, 0, 255)),
    ("person", (255, 30, 30)),
    ("bicyclist", (255, 40, 200)),
    ("motorcyclist", (150, 30, 90)),
    ("road", (255, 0, 255)),
    ("parking", (255, 150, 255)),
    ("sidewalk", (75, 0, 75)),
    ("other-ground", (175, 0, 75)),
    ("building", (255, 200, 0)),
    ("fence", (255, 120, 50)),
    ("vegetation", (0, 175, 0)),
    ("trunk", (135, 60, 0)),
    ("terrain", (150, 240, 80)),
    ("pole", (255, 240, 150)),
    ("traffic-sign", (255, 0, 0)),
)
_NUSCENES = (
    ("barrier", (112, 128, 144)),
    ("bicycle", (220, 20, 60)),
    ("bus", (255, 127, 80)),
    ("car", (255, 158, 0)),
    ("construction_vehicle", (233, 150, 70)),
    ("motorcycle", (255, 61, 99)),
    ("pedestrian", (0, 0, 230)),
    ("traffic_cone", (47, 79, 79)),
    ("trailer", (255, 140, 0)),
    ("truck", (255, 99, 71)),
    ("driveable_surface", (0, 207, 191)),
    ("other_flat", (175, 0, 75)),
    ("sidewalk", (75, 0, 75)),
    ("terrain", (112, 180, 60)),
    ("manmade", (222, 184, 135)),
    ("vegetation", (0, 175, 0)),
)
_NUSCENES11 = (
    ("road", (0, 207, 191)),
    ("sidewalk", (75, 0, 75)),
    ("building", (222, 184, 135)),
    ("pole", (153, 153, 153)),
    ("vegetation", (0, 175, 0)),
    ("person", (0, 0, 230)),
    ("two-wheeler", (255, 61, 99)),
    ("car", (255, 158, 0)),
    ("truck", (255, 99, 71)),
    ("bus", (255, 127, 80)),
)
# The names without their numbers (Car 1 to Car 4 tell neighbouring cars apart) in the order of the list, with the first
# colour of each. Ego car, Blurred area and Rain dirt are not classes of the street: `zoo.data.a2d2` ignores them.
_A2D2 = (
    ("Car", (255, 0, 0)),
    ("Bicycle", (182, 89, 6)),
    ("Pedestrian", (204, 153, 255)),
    ("Truck", (255, 128, 0)),
    ("Small vehicles", (0, 255, 0)),
    ("Traffic signal", (0, 128, 255)),
    ("Traffic sign", (0, 255, 255)),
    ("Utility vehicle", (255, 255, 0)),
    ("Sidebars", (233, 100, 0)),
    ("Speed bumper", (110, 110, 0)),
    ("Curbstone", (128, 128, 0)),
    ("Solid line", (255, 193, 37)),
    ("Irrelevant signs", (64, 0, 64)),
    ("Road blocks", (185, 122, 87)),
    ("Tractor", (0, 0, 100)),
    ("Non-drivable street", (139, 99, 108)),
    ("Zebra crossing", (210, 50, 115)),
    ("Obstacles / trash", (255, 0, 128)),
    ("Poles", (255, 246, 143)),
    ("RD restricted area", (150, 0, 150)),
    ("Animals", (204, 255, 153)),
    ("Grid structure", (238, 162, 173)),
    ("Signal corpus", (33, 44, 177)),
    ("Drivable cobblestone", (180, 50, 180)),
    ("Electronic traffic", (255, 70, 185)),
    ("Slow drive area", (238, 233, 191)),
    ("Nature object", (147, 253, 194)),
    ("Parking area", (150, 150, 200)),
    ("Sidewalk", (180, 150, 200)),
    ("Painted driv. instr.", (200, 125, 210)),
    ("Traffic guide obj.", (159, 121, 238)),
    ("Dashed line", (128, 0, 255)),
    ("RD normal street", (255, 0, 255)),
    ("Sky", (135, 206, 255)),
    ("Buildings", (241, 230, 255)),
)


def _table(name: str, rows: tuple[tuple[str, tuple[int, int, int]], ...], ignore_index: int) -> ClassTable:
    return ClassTable(name, tuple(row[0] for row in rows), tuple(row[1] for row in rows), ignore_index)


CITYSCAPES = _table("cityscapes", _CITYSCAPES, 255)
CAMVID = _table("camvid", _CAMVID, 11)
SEMANTICKITTI = _table("semantickitti", _SEMANTICKITTI, 255)
NUSCENES = _table("nuscenes", _NUSCENES, 255)
NUSCENES11 = _table("nuscenes11", _NUSCENES11, 255)
A2D2 = _table("a2d2", _A2D2, 255)
THINGS: Mapping[str, tuple[str, ...]] = {
    "semantickitti": SEMANTICKITTI.names[:8],
    "nuscenes": NUSCENES.names[:10],
}
"""Classes with instances of the lidar data sets, by taxonomy: those of their panoptic benchmarks."""
TAXONOMIES = {table.taxonomy: table for table in (CITYSCAPES, CAMVID, SEMANTICKITTI, NUSCENES, NUSCENES11, A2D2)}


def taxonomy(name: str) -> ClassTable:
    """The class table called `name`.

    Raises:
        InputError: If there is no such table.
    """
    if name not in TAXONOMIES:
        raise InputError(f"unknown taxonomy {name!r}{closest(name, TAXONOMIES)}; known: {', '.join(TAXONOMIES)}")
    return TAXONOMIES[name]
