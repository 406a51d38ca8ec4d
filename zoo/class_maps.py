"""Written tables from one data set's classes to another's, so that a model can be measured on a taxonomy not its own.

A map acts on class ids after the argmax: scores are never added up, so it says what the model as it stands is worth.
A class without a counterpart becomes 255, which an evaluation counts as a wrong prediction.
"""

from __future__ import annotations

import numpy as np

from zoo.classes import ClassTable
from zoo.errors import InputError

__all__ = ["MAPS", "NO_COUNTERPART", "class_map"]

NO_COUNTERPART = 255

MAPS: dict[tuple[str, str], dict[str, str]] = {
    # CamVid's 11 classes are groups of its 32 original ones. The usual grouping (SegNet's label maps; MathWorks'
    # CamVid example writes it down: Building = Bridge, Building, Wall, Tunnel, Archway; SignSymbol = SignSymbol,
    # Misc_Text, TrafficLight; Tree = Tree, VegetationMisc; Car = Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving;
    # Bicyclist = Bicyclist, MotorcycleScooter) decides every row below that its name does not.
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
    # The other way round a group can only stand for its largest member; the Cityscapes classes that no row names
    # (wall, traffic light, terrain, rider, truck, bus, train, motorcycle) are never predicted and score 0 where they
    # occur.
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
        "bicyclist": "bicycle",  # rider and bicycle in one; in Cityscapes bicycles cover more pixels than riders
    },
}


def class_map(source: ClassTable, target: ClassTable) -> np.ndarray:
    """`(256,)` uint8: the label in `target` of every label in `source`, 255 where there is none.

    Args:
        source: Classes that a model predicts.
        target: Classes of the data set.

    Raises:
        InputError: If the names differ and no table is written for the two taxonomies.
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
            f"({len(target)} classes), so the two cannot be compared; written tables: {known}"
        )
    for name, counterpart in table.items():
        lookup[source.names.index(name)] = target.names.index(counterpart)
    return lookup
