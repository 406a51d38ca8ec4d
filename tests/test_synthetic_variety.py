"""How varied the synthetic world is: variants are counted in what is built, not in the tables that it is built from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from zoo.classes import CITYSCAPES
from zoo.condition import Condition
from zoo.synthetic.models.barriers import strip_mesh
from zoo.synthetic.models.build import build_parked, build_static
from zoo.synthetic.models.houses import building
from zoo.synthetic.rendering.light import light_of, sky_radiance
from zoo.synthetic.rendering.street_texture import ground_albedo, road_albedo
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.shapes.mesh import Mesh
from zoo.synthetic.shapes.surfaces import Label
from zoo.synthetic.shapes.templates import KINDS, VARIANTS, template


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [describe(seed) for seed in range(96)]


def shape(mesh: Mesh, label: int) -> bytes:
    """The triangles of one class, rounded to a centimetre: copies that differ less count as one shape."""
    corners = mesh.vertices[mesh.faces[mesh.label == label]]
    return np.round(corners * 100).astype(np.int32).tobytes()


def profile(mesh: Mesh, label: int) -> tuple[bytes, bytes]:
    """Heights of the triangles of one class to 5 cm, and their colours to 5 %: the same wherever the mesh stands."""
    here = mesh.label == label
    heights = mesh.vertices[mesh.faces[here]][..., 2]
    return np.round((heights - heights.min()) * 20).astype(np.int32).tobytes(), (
        mesh.color[here] * 20
    ).round().tobytes()


def distinct(patterns: list[np.ndarray], least: float) -> int:
    """How many patterns differ from all that were counted before by `least` on average, as a fraction of the mean."""
    counted: list[np.ndarray] = []
    for pattern in patterns:
        if all(np.abs(pattern - other).mean() > least * np.mean([pattern.mean(), other.mean()]) for other in counted):
            counted.append(pattern)
    return len(counted)


def test_distinct_counts_copies_once():
    one = np.linspace(0.5, 1, 10)
    assert distinct([one, one * 1.001, one * 1.2, one[::-1]], 0.02) == 3


def test_templates_have_twenty_shapes_of_every_class():
    shapes: dict[int, set[bytes]] = {}
    for kind in KINDS:
        for variant in range(VARIANTS):
            mesh = template(kind, variant)
            for label in np.unique(mesh.label).tolist():
                shapes.setdefault(label, set()).add(shape(mesh, label))
    count = {label: len(found) for label, found in shapes.items()}
    for label in (
        *(Label.POLE, Label.TRAFFIC_LIGHT, Label.TRAFFIC_SIGN, Label.VEGETATION, Label.PERSON, Label.RIDER),
        *(Label.CAR, Label.TRUCK, Label.BUS, Label.TRAIN, Label.MOTORCYCLE, Label.BICYCLE),
    ):
        assert count[label] >= 20, CITYSCAPES.names[label]


def test_placed_things_have_their_own_shapes_and_colours(scenes):
    variants: dict[str, set] = {}
    for scene in scenes:
        for thing in scene.things:
            colours = np.round(np.array(thing.palette), 2).tobytes()
            variants.setdefault(thing.kind, set()).add((thing.variant, colours))
    for kind in ("car", "truck", "bus", "motorcycle", "bicycle", "person", "cyclist", "motorcyclist"):
        assert len(variants[kind]) >= 20, kind
    assert variants["train"]  # in one place of fifteen; its shapes are counted above
    for kind in ("lamp", "sign", "traffic_light", "tree", "bush"):
        assert len({variant for variant, _ in variants[kind]}) >= 10, kind


def test_houses_walls_and_fences(scenes):
    found: dict[int, set] = {Label.BUILDING: set(), Label.WALL: set(), Label.FENCE: set()}
    for scene in scenes[:24]:
        meshes = [building(scene.street, house) for house in scene.buildings[:2]]
        for kind in ("wall", "fence"):
            meshes += [strip_mesh(scene.street, strip) for strip in scene.strips if strip.kind == kind][:2]
        for mesh in meshes:
            for label, variants in found.items():
                if (mesh.label == label).any():
                    variants.add(profile(mesh, label))
    assert all(len(variants) >= 20 for variants in found.values()), {k.name: len(v) for k, v in found.items()}


def test_road_pavement_terrain_and_sky(scenes):
    s, t = (axis.ravel().astype(np.float32) for axis in np.meshgrid(np.arange(0, 60, 0.5), np.arange(-4, 4, 0.25)))
    foot = np.full(len(s), 0.05, np.float32)
    roads = [road_albedo(scene, s, t, foot)[0] for scene in scenes]
    pavements, terrains = [], []
    for scene in scenes:
        beside = t - t.min() + scene.street.half_width + 0.05
        for sign in (1, -1):
            color, label = ground_albedo(scene, s, sign * beside.astype(np.float32), foot)
            for patterns, value in ((pavements, Label.SIDEWALK), (terrains, Label.TERRAIN)):
                here = color[label == value]
                if len(here) >= 400:
                    patterns.append(here[np.linspace(0, len(here) - 1, 400).astype(int)])
    up = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    up[:, 2] = np.abs(up[:, 2])
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    skies = [sky_radiance(light_of(scene, Condition()).in_float32(), scene, up) for scene in scenes]
    for name, patterns in (("road", roads), ("sidewalk", pavements), ("terrain", terrains), ("sky", skies)):
        assert distinct(patterns, 0.03) >= 20, name


def test_streets_differ_in_topology(scenes):
    turns = np.array([scene.street.heading(160.0) - scene.street.heading(0.0) for scene in scenes])
    # Where side streets leave (to ten metres) and to which side, lanes, and the bend from end to end (to ten degrees).
    layouts = {
        (
            tuple((round(crossing.start / 10), crossing.side) for crossing in scene.crossings),
            scene.street.lanes,
            round(np.degrees(turn) / 10),
        )
        for scene, turn in zip(scenes, turns)
    }
    assert len(layouts) > 0.9 * len(scenes)
    assert {len(scene.crossings) for scene in scenes} >= {1, 2, 3}
    assert (turns > np.radians(10)).any()
    assert (turns < -np.radians(10)).any()
    assert 0.2 < (turns == 0).mean() < 0.7
    rise = np.array([scene.street.to_world(np.array(160.0), np.array(0.0))[2] for scene in scenes])
    assert np.ptp(rise) > 2
    assert len({(scene.street.lanes, scene.street.tram, scene.street.cycle_lane) for scene in scenes}) >= 6


def test_classes_are_as_skewed_as_in_traffic(scenes):
    # Cityscapes' training set has 26.9k cars, 17.9k persons, 3.7k bicycles, 1.8k riders, 0.7k motorcycles, 0.5k trucks,
    # 0.4k buses and 0.2k trains (He et al., Mask R-CNN, table 7): the same order here.
    count = Counter(thing.kind for scene in scenes for thing in scene.things)
    assert count["car"] > 8 * count["truck"] > 0
    assert count["car"] > 15 * count["bus"] > 15 * count["train"] > 0
    assert count["person"] > 3 * count["cyclist"] > 0
    assert count["bicycle"] > count["motorcycle"] > 0


def test_places_are_rich_in_detail(scenes):
    for scene in scenes[:20]:
        parked = build_parked(scene)
        count = len(build_static(scene).faces) + (0 if parked is None else len(parked.faces))
        assert count >= 200_000, (scene.seed, count)
