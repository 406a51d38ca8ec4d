"""Counterparts between the classes of Cityscapes, SemanticKITTI, nuScenes and A2D2, as tables.

One table per set of classes, with a column for each of the others; `None` where there is no counterpart. A row says
what a prediction of the class counts as: the class under which the other data set labels the same thing or, if there
are several, the one of them with most pixels or points there. What decides the less obvious rows:

- SemanticKITTI: `fence` holds small walls and crash barriers, `other-vehicle` buses and trams, `other-ground` traffic
  islands. Traffic lights, cones and rubbish are not evaluated. Trunks have a class of their own.
- nuScenes: a rider belongs to the cycle. `manmade` holds everything built: houses, walls, fences, poles, signs, lights.
  `barrier` is a movable road barrier. `other_flat` holds traffic islands. Trams have no category.
- `nuscenes11` merges the categories of nuScenes: all of `manmade` is its `building`, and so are poles. Its class `pole`
  is, despite its name, barriers and traffic cones. `terrain` belongs to its `vegetation`, `other_flat` to `sidewalk`.
- A2D2 labels riders with the cycle, and motorcycles as `Small vehicles`; it has no class for buses, which count as
  `Truck`, and labels paint on the road and kerbs apart. `Nature object` is any plant.
- Cityscapes ignores guard rails, cones, rubbish and parking lots; kerbs and walkable islands are `sidewalk`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["STREET_MAPS"]

Table = Mapping[str, Sequence[str | None]]

_CITYSCAPES: Table = {
    "": ("semantickitti", "nuscenes", "nuscenes11", "a2d2"),
    "road": ("road", "driveable_surface", "road", "RD normal street"),
    "sidewalk": ("sidewalk", "sidewalk", "sidewalk", "Sidewalk"),
    "building": ("building", "manmade", "building", "Buildings"),
    "wall": ("fence", "manmade", "building", "Sidebars"),
    "fence": ("fence", "manmade", "building", "Grid structure"),
    "pole": ("pole", "manmade", "building", "Poles"),
    "traffic light": (None, "manmade", "building", "Traffic signal"),
    "traffic sign": ("traffic-sign", "manmade", "building", "Traffic sign"),
    "vegetation": ("vegetation", "vegetation", "vegetation", "Nature object"),
    "terrain": ("terrain", "terrain", "vegetation", "Nature object"),
    "sky": (None, None, None, "Sky"),
    "person": ("person", "pedestrian", "person", "Pedestrian"),
    "rider": ("bicyclist", "bicycle", "two-wheeler", "Bicycle"),  # most riders are cyclists
    "car": ("car", "car", "car", "Car"),
    "truck": ("truck", "truck", "truck", "Truck"),
    "bus": ("other-vehicle", "bus", "bus", "Truck"),
    "train": ("other-vehicle", None, None, "Utility vehicle"),
    "motorcycle": ("motorcycle", "motorcycle", "two-wheeler", "Small vehicles"),
    "bicycle": ("bicycle", "bicycle", "two-wheeler", "Bicycle"),
}
_SEMANTICKITTI: Table = {
    "": ("cityscapes", "nuscenes", "nuscenes11", "a2d2"),
    "car": ("car", "car", "car", "Car"),
    "bicycle": ("bicycle", "bicycle", "two-wheeler", "Bicycle"),
    "motorcycle": ("motorcycle", "motorcycle", "two-wheeler", "Small vehicles"),
    "truck": ("truck", "truck", "truck", "Truck"),
    "other-vehicle": ("bus", "bus", "bus", "Truck"),  # Cityscapes ignores its other members, such as trailers
    "person": ("person", "pedestrian", "person", "Pedestrian"),
    "bicyclist": ("rider", "bicycle", "two-wheeler", "Bicycle"),
    "motorcyclist": ("rider", "motorcycle", "two-wheeler", "Small vehicles"),
    "road": ("road", "driveable_surface", "road", "RD normal street"),
    "parking": ("road", "driveable_surface", "road", "Parking area"),
    "sidewalk": ("sidewalk", "sidewalk", "sidewalk", "Sidewalk"),
    "other-ground": ("sidewalk", "other_flat", "sidewalk", "Non-drivable street"),
    "building": ("building", "manmade", "building", "Buildings"),
    "fence": ("fence", "manmade", "building", "Grid structure"),
    "vegetation": ("vegetation", "vegetation", "vegetation", "Nature object"),
    "trunk": ("vegetation", "vegetation", "vegetation", "Nature object"),
    "terrain": ("terrain", "terrain", "vegetation", "Nature object"),
    "pole": ("pole", "manmade", "building", "Poles"),
    "traffic-sign": ("traffic sign", "manmade", "building", "Traffic sign"),
}
_NUSCENES: Table = {
    "": ("cityscapes", "semantickitti", "nuscenes11", "a2d2"),
    "barrier": ("fence", "fence", "pole", "Road blocks"),
    "bicycle": ("bicycle", "bicycle", "two-wheeler", "Bicycle"),
    "bus": ("bus", "other-vehicle", "bus", "Truck"),
    "car": ("car", "car", "car", "Car"),
    "construction_vehicle": ("truck", "other-vehicle", "truck", "Utility vehicle"),
    "motorcycle": ("motorcycle", "motorcycle", "two-wheeler", "Small vehicles"),
    "pedestrian": ("person", "person", "person", "Pedestrian"),
    "traffic_cone": (None, None, "pole", "Traffic guide obj."),
    "trailer": (
        "truck",
        "other-vehicle",
        "truck",
        "Truck",
    ),  # in Cityscapes a trailer belongs to the truck that pulls it
    "truck": ("truck", "truck", "truck", "Truck"),
    "driveable_surface": ("road", "road", "road", "RD normal street"),
    "other_flat": ("sidewalk", "other-ground", "sidewalk", "Non-drivable street"),
    "sidewalk": ("sidewalk", "sidewalk", "sidewalk", "Sidewalk"),
    "terrain": ("terrain", "terrain", "vegetation", "Nature object"),
    "manmade": ("building", "building", "building", "Buildings"),
    "vegetation": ("vegetation", "vegetation", "vegetation", "Nature object"),
}
_NUSCENES11: Table = {
    "": ("cityscapes", "semantickitti", "nuscenes", "a2d2"),
    "road": ("road", "road", "driveable_surface", "RD normal street"),
    "sidewalk": ("sidewalk", "sidewalk", "sidewalk", "Sidewalk"),
    "building": ("building", "building", "manmade", "Buildings"),
    "pole": ("fence", "fence", "barrier", "Road blocks"),  # barriers and cones, see above
    "vegetation": ("vegetation", "vegetation", "vegetation", "Nature object"),
    "person": ("person", "person", "pedestrian", "Pedestrian"),
    # Bicycles cover more pixels of Cityscapes and A2D2, motorcycles more points of SemanticKITTI and nuScenes.
    "two-wheeler": ("bicycle", "motorcycle", "motorcycle", "Bicycle"),
    "car": ("car", "car", "car", "Car"),
    "truck": ("truck", "truck", "truck", "Truck"),
    "bus": ("bus", "other-vehicle", "bus", "Truck"),
}
_A2D2: Table = {
    "": ("cityscapes", "semantickitti", "nuscenes", "nuscenes11"),
    "Car": ("car", "car", "car", "car"),
    "Bicycle": ("bicycle", "bicycle", "bicycle", "two-wheeler"),
    "Pedestrian": ("person", "person", "pedestrian", "person"),
    "Truck": ("truck", "truck", "truck", "truck"),
    "Small vehicles": ("motorcycle", "motorcycle", "motorcycle", "two-wheeler"),
    "Traffic signal": ("traffic light", None, "manmade", "building"),
    "Traffic sign": ("traffic sign", "traffic-sign", "manmade", "building"),
    "Utility vehicle": ("truck", "other-vehicle", "construction_vehicle", "truck"),
    "Sidebars": ("wall", "fence", "manmade", "building"),
    "Speed bumper": ("road", "road", "driveable_surface", "road"),
    "Curbstone": ("sidewalk", "sidewalk", "sidewalk", "sidewalk"),
    "Solid line": ("road", "road", "driveable_surface", "road"),
    "Irrelevant signs": (None, None, "manmade", "building"),
    "Road blocks": ("fence", "fence", "barrier", "pole"),
    "Tractor": ("truck", "other-vehicle", "truck", "truck"),
    "Non-drivable street": ("sidewalk", "other-ground", "other_flat", "sidewalk"),
    "Zebra crossing": ("road", "road", "driveable_surface", "road"),
    "Obstacles / trash": (None, None, None, None),
    "Poles": ("pole", "pole", "manmade", "building"),
    "RD restricted area": ("road", "road", "driveable_surface", "road"),
    "Animals": (None, None, None, None),
    "Grid structure": ("fence", "fence", "manmade", "building"),
    "Signal corpus": ("traffic light", None, "manmade", "building"),  # the housing of the signal
    "Drivable cobblestone": ("road", "road", "driveable_surface", "road"),
    "Electronic traffic": ("traffic sign", "traffic-sign", "manmade", "building"),
    "Slow drive area": ("road", "road", "driveable_surface", "road"),
    "Nature object": ("vegetation", "vegetation", "vegetation", "vegetation"),
    "Parking area": ("road", "parking", "driveable_surface", "road"),
    "Sidewalk": ("sidewalk", "sidewalk", "sidewalk", "sidewalk"),
    "Painted driv. instr.": ("road", "road", "driveable_surface", "road"),
    "Traffic guide obj.": (None, None, "traffic_cone", "pole"),
    "Dashed line": ("road", "road", "driveable_surface", "road"),
    "RD normal street": ("road", "road", "driveable_surface", "road"),
    "Sky": ("sky", None, None, None),
    "Buildings": ("building", "building", "manmade", "building"),
}
_TABLES = {
    "cityscapes": _CITYSCAPES,
    "semantickitti": _SEMANTICKITTI,
    "nuscenes": _NUSCENES,
    "nuscenes11": _NUSCENES11,
    "a2d2": _A2D2,
}


def _columns(source: str, table: Table) -> dict[tuple[str, str], dict[str, str | None]]:
    header, *_ = table.values()
    found = {}
    for column, target in enumerate(header):
        assert target is not None
        found[source, target] = {name: row[column] for name, row in table.items() if name}
    return found


STREET_MAPS: dict[tuple[str, str], dict[str, str | None]] = {
    pair: column for source, table in _TABLES.items() for pair, column in _columns(source, table).items()
}
"""For each pair of taxonomies, the counterpart of every class of the first in the second."""
