"""Hand-written mappings between the classes of two data sets, to evaluate a model on a taxonomy it was not trained on.

A mapping acts on class ids after the argmax; scores are never summed, so the model is measured as it is deployed.
Classes without a counterpart map to 255, which the evaluation counts as a wrong prediction. Classes of the data set to
which no class of the model maps are never predicted: their IoU is 0 where they occur in the ground truth.

A user's own map (`read_class_map`) is a YAML file:

```yaml
to: camvid             # taxonomy of the data set
classes:               # every class of the model, with its counterpart
  person: pedestrian
  boat: null           # none
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.class_map_tables import STREET_MAPS
from zoo.classes import TAXONOMIES, ClassTable
from zoo.errors import InputError, closest
from zoo.yaml_file import read_yaml

__all__ = [
    "MAPS",
    "NO_COUNTERPART",
    "ClassMap",
    "class_map",
    "class_map_name",
    "read_class_map",
    "unpredicted",
    "with_class_maps",
]

NO_COUNTERPART = 255

MAPS: dict[tuple[str, str], dict[str, str | None]] = {
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
    **STREET_MAPS,
}


def class_map(source: ClassTable, target: ClassTable) -> np.ndarray:
    """`(256,)` uint8 lookup table: the label in `target` for each label in `source`, 255 where there is none.

    The first of these that applies: the user's own map (`source.maps`), equal names, a table of `MAPS`.

    Args:
        source: Classes the model predicts.
        target: Classes of the data set.

    Raises:
        InputError: If none of them covers every class of `source`; the message lists the classes without a counterpart.
    """
    lookup = np.full(256, NO_COUNTERPART, np.uint8)
    for name, counterpart in _counterparts(source, target).items():
        if counterpart is not None:
            lookup[source.names.index(name)] = target.names.index(counterpart)
    return lookup


def _counterparts(source: ClassTable, target: ClassTable) -> dict[str, str | None]:
    """The counterpart of every class of `source`."""
    own = source.maps.get(target.taxonomy)
    if own is not None:
        if unknown := [name for name in own.values() if name is not None and name not in target.names]:
            hint = closest(unknown[0], target.names) or f"; its classes: {', '.join(target.names)}"
            raise InputError(f"the class map names {unknown[0]!r}, which is no class of {target.taxonomy}{hint}")
        return {name: own[name] for name in source.names}
    known_table = TAXONOMIES.get(source.taxonomy)
    is_what_it_says = known_table is None or set(source.names) <= set(known_table.names)
    if is_what_it_says and set(source.names) <= set(target.names):
        return {name: name for name in source.names}
    table = MAPS.get((source.taxonomy, target.taxonomy))
    if table is not None and set(source.names) <= set(table) and set(table.values()) - {None} <= set(target.names):
        return {name: table[name] for name in source.names}
    known = "; ".join(f"{a} to {b}" for a, b in MAPS if b == target.taxonomy or a == source.taxonomy) or "none for them"
    unmapped = [name for name in source.names if name not in target.names]
    raise InputError(
        f"no table maps the classes {source.taxonomy} ({len(source)} classes) onto {target.taxonomy} "
        f"({len(target)} classes), so the model cannot be evaluated on this data; unmapped: {', '.join(unmapped)}; "
        f"available: {known}; or give a class map of your own with --class-map FILE"
    )


def class_map_name(source: ClassTable, target: ClassTable) -> str | None:
    """What maps the classes, for reports; `None` if the classes are the same."""
    if source.names == target.names and target.taxonomy not in source.maps:
        return None
    if target.taxonomy in source.maps:
        return f"{source.taxonomy} to {target.taxonomy}, a class map given by the user"
    if set(source.names) <= set(target.names):
        return f"{source.taxonomy} to {target.taxonomy}, by equal names"
    return f"{source.taxonomy} to {target.taxonomy}"


def unpredicted(source: ClassTable, target: ClassTable) -> list[str]:
    """The classes of `target` that a model with the classes `source` can never predict."""
    reached = set(_counterparts(source, target).values())
    return [name for name in target.names if name not in reached]


@dataclass(frozen=True)
class ClassMap:
    """A class map that the user wrote.

    Attributes:
        path: The file.
        target: Taxonomy that it leads to.
        table: For each name the name of its counterpart, or `None`.
    """

    path: Path
    target: str
    table: Mapping[str, str | None]


def read_class_map(path: Path) -> ClassMap:
    """The class map in a YAML file.

    Raises:
        InputError: If the file is missing or invalid.
    """
    found = read_yaml(path, "which class of the data each class of a model counts as")
    target, table = found.get("to"), found.get("classes")
    if set(found) != {"to", "classes"} or not isinstance(target, str) or not isinstance(table, dict) or not table:
        raise InputError(f"{path} must have the keys `to` (a taxonomy) and `classes` (NAME: COUNTERPART or null)")
    for name, counterpart in table.items():
        if not isinstance(name, str) or not isinstance(counterpart, str | None):
            raise InputError(f"{path}: {name!r}: {counterpart!r} is not NAME: COUNTERPART; put such words into quotes")
    return ClassMap(path, target, table)


def with_class_maps(models: Mapping[str, ClassTable], maps: Sequence[ClassMap]) -> dict[str, ClassTable]:
    """The class tables of several models, completed with the user's maps.

    A map applies to every model whose classes are exactly those that it names.

    Args:
        models: Class tables by label of the model.
        maps: The maps.

    Raises:
        InputError: If a map applies to no model, or two maps from the same classes lead to the same taxonomy.
    """
    tables = dict(models)
    for each in maps:
        fitting = [label for label, table in tables.items() if set(table.names) == set(each.table)]
        if not fitting:
            raise InputError(_fits_no_model(each, models))
        for label in fitting:
            if each.target in tables[label].maps:
                raise InputError(f"{each.path}: another class map leads from the same classes to {each.target}")
            merged = {**tables[label].maps, each.target: each.table}
            tables[label] = dataclasses.replace(tables[label], maps=merged)
    return tables


def _fits_no_model(found: ClassMap, models: Mapping[str, ClassTable]) -> str:
    label, table = max(models.items(), key=lambda item: len(set(item[1].names) & set(found.table)))
    missing = [name for name in table.names if name not in found.table]
    unknown = [name for name in found.table if name not in table.names]
    parts = [f"unmapped: {', '.join(missing)}"] if missing else []
    parts += [f"not among its classes: {', '.join(unknown)}"] if unknown else []
    return f"{found.path} must name exactly the classes of {label}; {'; '.join(parts)}"
