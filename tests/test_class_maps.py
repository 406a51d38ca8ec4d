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
        assert set(table.values()) <= set(TAXONOMIES[target].names)


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
