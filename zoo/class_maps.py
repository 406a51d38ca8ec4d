"""Hand-written mappings between the classes of two data sets, to evaluate a model on a taxonomy it was not trained on.

A mapping acts on class ids after the argmax; scores are never summed, so the model is measured as it is deployed.
Classes without a counterpart map to 255, which the evaluation counts as a wrong prediction.
"""

from __future__ import annotations

import numpy as np

from zoo.classes import ClassTable
from zoo.errors import InputError

__all__ = ["MAPS", "NO_COUNTERPART", "class_map"]

NO_COUNTERPART = 255

MAPS: dict[tuple[str, str], dict[str, str]] = {
    # CamVid's 11 classes are groups of its 32 original ones. The usual grouping (SegNet's label maps, spelled out in
    # MathWorks' CamVid example: Building = Bridge, Building, Wall, Tunnel, Archway; SignSymbol = SignSymbol,
    # Misc_Text, TrafficLight; Tree = Tree, VegetationMisc; Car = Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving;
    # Bicyclist = Bicyclist, MotorcycleScooter) decides each row below whose names differ.
    ("cityscapes", "camvid"): {
        "road": "road",
        "sidewalk": "pavement",
        "building": "building",
        "wall": "building",  # Wall belongs to Building
        "fence": "fence",
        "pole": "pole",
        "traffic light": "sign",  # TrafficLight belongs to SignSymbol
        "traffic sign": "sign",
        "vegetation": "tree",
        "terrain": "tree",  # grass and low plants are VegetationMisc, which belongs to Tree
        "sky": "sky",
        "person": "pedestrian",
        "rider": "bicyclist",  # CamVid labels rider and bicycle as one Bicyclist
        "car": "car",
        "truck": "car",  # Truck_Bus belongs to Car
        "bus": "car",
        "train": "car",  # Train belongs to Car
        "motorcycle": "bicyclist",  # MotorcycleScooter belongs to Bicyclist
        "bicycle": "bicyclist",
    },
    # In the other direction a group can only stand for its largest member. The Cityscapes classes missing here (wall,
    # traffic light, terrain, rider, truck, bus, train, motorcycle) are never predicted and score 0 where they occur.
    ("camvid", "cityscapes"): {
        "sky": "sky",
        "building": "building",
        "pole": "pole",
        "road": "road",
        "pavement": "sidewalk",
        "tree": "vegetation",
        "sign": "traffic sign",
        "fence": "fence",
        "car": "car",
        "pedestrian": "person",
        "bicyclist": "bicycle",  # CamVid merges rider and bicycle; in Cityscapes bicycles cover more pixels than riders
    },
}


def class_map(source: ClassTable, target: ClassTable) -> np.ndarray:
    """`(256,)` uint8 lookup table: the label in `target` for each label in `source`, 255 where there is none.

    Args:
        source: Classes the model predicts.
        target: Classes of the data set.

    Raises:
        InputError: If the names differ and no mapping between the two taxonomies exists.
    """
    lookup = np.full(256, NO_COUNTERPART, np.uint8)
    if source.names == target.names:
        lookup[: len(source)] = np.arange(len(source))
        return lookup
    table = MAPS.get((source.taxonomy, target.taxonomy))
    if table is None or not set(table) <= set(source.names):
        known = "; ".join(f"{a} to {b}" for a, b in MAPS)
        raise InputError(
            f"no table maps the classes {source.taxonomy} ({len(source)} classes) onto {target.taxonomy} "
            f"({len(target)} classes), so the model cannot be evaluated on this data; available: {known}"
        )
    for name, counterpart in table.items():
        lookup[source.names.index(name)] = target.names.index(counterpart)
    return lookup
