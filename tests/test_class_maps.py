import numpy as np
import pytest

from zoo.class_maps import MAPS, class_map
from zoo.classes import CAMVID, CITYSCAPES, TAXONOMIES, ClassTable
from zoo.errors import InputError


def test_the_same_names_map_to_themselves_and_nothing_else() -> None:
    lookup = class_map(CITYSCAPES, ClassTable("copy", CITYSCAPES.names, CITYSCAPES.colors))
    assert lookup.dtype == np.uint8
    assert lookup.tolist() == [*range(19), *[255] * 237]


@pytest.mark.parametrize(
    ("source", "target", "pairs"),
    [
        ("cityscapes", "camvid", {"rider": "bicyclist", "traffic light": "sign", "terrain": "tree", "bus": "car"}),
        ("camvid", "cityscapes", {"pavement": "sidewalk", "tree": "vegetation", "bicyclist": "bicycle"}),
    ],
)
def test_rows_land_where_their_names_say(source: ClassTable, target: ClassTable, pairs: dict[str, str]) -> None:
    source, target = TAXONOMIES[source], TAXONOMIES[target]
    lookup = class_map(source, target)
    for name, counterpart in pairs.items():
        assert target.names[lookup[source.names.index(name)]] == counterpart
    assert (lookup[len(source) :] == 255).all()


def test_every_table_names_existing_classes_and_maps_every_source_class() -> None:
    for (source, target), table in MAPS.items():
        assert set(table) == set(TAXONOMIES[source].names)
        assert set(table.values()) - {None} <= set(TAXONOMIES[target].names)


STREET = ("cityscapes", "semantickitti", "nuscenes", "nuscenes11", "a2d2")


def test_every_pair_of_street_taxonomies_has_a_table() -> None:
    assert {(a, b) for a in STREET for b in STREET if a != b} <= set(MAPS)


def test_nuscenes_classes_merge_as_published() -> None:
    """The label map of the folder's makers: categories of nuScenes by lidarseg index, and the class of each."""
    merged = {
        "road": [24],
        "sidewalk": [25, 26],
        "building": [28],
        "pole": [9, 12],
        "vegetation": [30, 27],
        "person": [2, 3, 4, 6],
        "two-wheeler": [21, 14],
        "car": [17],
        "truck": [23, 18, 22],
        "bus": [15, 16],
    }
    # The 16 classes by lidarseg index, from the devkit.
    names = {2: "pedestrian", 3: "pedestrian", 4: "pedestrian", 6: "pedestrian", 9: "barrier", 12: "traffic_cone"}
    names |= {14: "bicycle", 15: "bus", 16: "bus", 17: "car", 18: "construction_vehicle", 21: "motorcycle"}
    names |= {22: "trailer", 23: "truck", 24: "driveable_surface", 25: "other_flat", 26: "sidewalk", 27: "terrain"}
    names |= {28: "manmade", 30: "vegetation"}
    expected = {names[index]: name for name, indices in merged.items() for index in indices}
    assert MAPS["nuscenes", "nuscenes11"] == expected


def test_there_and_back_again_is_the_same_where_one_class_has_one_counterpart() -> None:
    """A class that only one class leads to, and that leads to one class, comes back to itself."""
    for a, b in MAPS:
        if (b, a) not in MAPS or "camvid" in (a, b):
            continue
        there, back = MAPS[a, b], MAPS[b, a]
        for name, counterpart in there.items():
            alone = counterpart is not None and sum(other == counterpart for other in there.values()) == 1
            if counterpart is not None and alone and sum(other == name for other in back.values()) == 1:
                assert back[counterpart] == name, (a, b, name)


@pytest.mark.parametrize(
    ("source", "target", "pairs"),
    [
        # No equal names by accident: the class `pole` of nuscenes11 is barriers and cones.
        ("cityscapes", "nuscenes11", {"pole": "building", "terrain": "vegetation", "rider": "two-wheeler"}),
        ("nuscenes11", "cityscapes", {"pole": "fence", "building": "building"}),
        ("semantickitti", "cityscapes", {"trunk": "vegetation", "bicyclist": "rider", "parking": "road"}),
        ("a2d2", "cityscapes", {"Dashed line": "road", "Nature object": "vegetation", "Sky": "sky"}),
    ],
)
def test_counterparts_of_the_street(source: str, target: str, pairs: dict[str, str]) -> None:
    lookup = class_map(TAXONOMIES[source], TAXONOMIES[target])
    for name, counterpart in pairs.items():
        assert TAXONOMIES[target].names[lookup[TAXONOMIES[source].names.index(name)]] == counterpart


def test_a_class_without_a_counterpart_is_never_right() -> None:
    lookup = class_map(TAXONOMIES["cityscapes"], TAXONOMIES["semantickitti"])
    assert lookup[TAXONOMIES["cityscapes"].names.index("sky")] == 255


def test_camvid_classes_are_all_reached_from_cityscapes() -> None:
    assert set(class_map(CITYSCAPES, CAMVID)[:19].tolist()) == set(range(11))


def test_without_a_table_the_map_is_refused() -> None:
    rooms = ClassTable("rooms", ("wall", "floor"), ((1, 1, 1), (2, 2, 2)))
    with pytest.raises(InputError, match=r"no table maps the classes rooms \(2 classes\) onto camvid \(11 classes\)"):
        class_map(rooms, CAMVID)


def test_a_taxonomy_name_with_other_classes_is_refused() -> None:
    wrong = ClassTable("cityscapes", ("road", "tree"), ((1, 1, 1), (2, 2, 2)))
    with pytest.raises(InputError, match="no table maps"):
        class_map(wrong, CAMVID)
