"""Kerbs, and what grows: measured on triangles and rays, not with the code that places things."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zoo.synthetic.models.barriers import strip_mesh
from zoo.synthetic.models.ground import ground
from zoo.synthetic.models.houses import building
from zoo.synthetic.rendering.street_texture import ground_albedo
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.plots import height_at, height_of, is_grass
from zoo.synthetic.scene.types import MOVABLE, Block, Paving, Strip
from zoo.synthetic.shapes.mesh import place
from zoo.synthetic.shapes.surfaces import Label, Material
from zoo.synthetic.shapes.templates import VARIANTS, template

GREEN = Choices(kinds=("residential", "suburb", "village", "country"))


def caster_of(*meshes):
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    from zoo.synthetic.rendering.cast import Caster

    return Caster(list(meshes))


def test_kerb_is_lowered_at_a_driveway():
    # A straight, level street whose kerb is 12 cm high, 8 cm from s = 20 on, and 2 cm from 40 to 44.
    scene = describe(3)
    kerb = ((0.0, 0.12), (19.0, 0.12), (20.0, 0.08), (39.0, 0.08), (40.0, 0.02), (44.0, 0.02), (45.0, 0.12))
    block = Block(
        start=-25.0, end=190.0, side=1, corner=4.0, sidewalk=3.0, verge=0.0, verge_first=False, yard="grass",
        paving=Paving.TARMAC, shade=0.2, open_start=True, open_end=True, kerb=kerb,
    )  # fmt: skip
    flat = {"relief": None, "grade": (0.0,) * 7, "bend": (0.0,) * 7, "half_width": 3.0, "kerb": 0.12}
    street = dataclasses.replace(scene.street, **flat)
    scene = dataclasses.replace(scene, street=street, blocks=(block,), crossings=())
    s = np.array([10.0, 30.0, 42.0, 42.0, 42.0, 42.0])
    t = np.array([3.07, 3.07, 3.07, 3.57, 5.0, 2.9])
    expected = [0.12, 0.08, 0.02, 0.07, 0.12, 0.0]  # half a metre behind the kerb: in the middle of the slope
    np.testing.assert_allclose(height_at(street, scene.blocks, s, t), expected, atol=1e-9)
    down = caster_of(ground(scene)).trace(np.stack([s, t, 0 * s + 5], 1), np.tile([0, 0, -1.0], (6, 1)))
    np.testing.assert_allclose(5 - down.distance, expected, atol=2e-3)


def test_kerbs_differ_along_a_street():
    heights = [height for seed in range(8) for block in describe(seed, GREEN).blocks for _, height in block.kerb]
    assert 0.02 <= min(heights) < 0.03
    assert np.std([height for height in heights if height > 0.03]) > 0.02
    assert max(heights) < 0.2


def test_tufts_of_grass_stand_on_grass_and_nothing_fixed_on_the_road():
    tufts = others = 0
    for seed in (5000, 5001, 5003, 5005, 5009):
        scene = describe(seed)
        fixed = [thing for thing in scene.things if thing.kind not in MOVABLE and not thing.moves]
        feet = np.array([(thing.s, thing.t) for thing in fixed])
        # The shader decides what is pavement: at the middle of a tuft and 30 cm around it.
        grass = np.array([thing.kind == "grass" for thing in fixed])
        for ds, dt in ((0, 0), (0.3, 0), (-0.3, 0), (0, 0.3), (0, -0.3)):
            s, t = feet[grass].T
            _, label = ground_albedo(scene, (s + ds).astype(np.float32), (t + dt).astype(np.float32), 0 * s + 0.05)
            assert (label == Label.TERRAIN).all(), seed
        world = scene.street.to_world(feet[:, 0], feet[:, 1], 50.0)
        mesh = ground(scene)
        below = caster_of(mesh).trace(world, np.tile([0, 0, -1.0], (len(world), 1)))
        on_road = mesh.label[below.face] == Label.ROAD
        assert not on_road.any(), [(fixed[k].kind, fixed[k].s, fixed[k].t) for k in np.nonzero(on_road)[0]]
        tufts, others = tufts + int(grass.sum()), others + int((~grass).sum())
    assert tufts > 100
    assert others > 500


def test_pavement_follows_rounded_corners():
    # A block from 0 to 60 m, left of a road 3 m wide to each side: first 1 m of grass, then 2 m of pavement.
    block = Block(
        start=0.0, end=60.0, side=1, corner=5.0, sidewalk=2.0, verge=1.0, verge_first=True, yard="grass",
        paving=Paving.TARMAC, shade=0.2, open_start=False, open_end=True,
    )  # fmt: skip
    street = dataclasses.replace(describe(3).street, half_width=3.0)
    places = {
        (30, 2.9): False, (30, 3.5): True, (30, 5): False, (30, 6.5): True,  # across the middle
        (-0.1, 30): False, (0.5, 30): True, (2, 30): False, (4, 30): True,  # along the side street
        (2, 5): False, (58, 5): False, (59.5, 30): True,  # its corner, and its open end
    }  # fmt: skip
    assert {at: is_grass(street, block, *at) for at in places} == places
    assert not is_grass(street, dataclasses.replace(block, yard="gravel"), 30, 20)


@pytest.mark.parametrize("kind", ["thicket", "hedge", "grove"])
def test_rays_end_in_dense_leaves(kind: str):
    # Rays across, at chest height: nearly all of them return from a thicket or a hedge, most from a small wood.
    if kind == "hedge":
        strip = Strip(kind="hedge", line=((0, 0), (8, 0)), height=1.8, variant=0, color=(0.1, 0.1, 0.1), seed=1)
        flat = {"relief": None, "grade": (0.0,) * 7, "bend": (0.0,) * 7, "kerb": 0.0}
        meshes = [strip_mesh(dataclasses.replace(describe(3).street, **flat), strip)]
    else:
        meshes = [template(kind, variant) for variant in range(1, VARIANTS, 5)]
    u = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    found = []
    for mesh in meshes:
        middle = 4.0 if kind == "hedge" else 0.0
        origin = np.stack([middle + 1.6 * u[:, 0], np.full(400, -30.0), 1.0 + 0.3 * u[:, 1]], 1)
        hits = caster_of(mesh).trace(origin, np.tile([0, 1.0, 0], (400, 1)))
        found.append((hits.face >= 0).mean())
    assert np.mean(found) > {"thicket": 0.9, "hedge": 0.8, "grove": 0.6}[kind]


def test_no_trunk_stands_in_a_house():
    checked = 0
    for seed in range(6):
        scene = describe(seed, GREEN)
        houses = [building(scene.street, house) for house in scene.buildings]
        boxes = []
        for house, mesh in zip(scene.buildings, houses):
            # The walls, in the house's own axes: it is turned with the street at its middle.
            yaw = scene.street.heading((house.s0 + house.s1) / 2)
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            own = mesh.vertices[:, :2] @ turn.T
            boxes.append((turn, own.min(0) + 0.5, own.max(0) - 0.5))
        for thing in scene.things:
            if thing.kind not in ("tree", "conifer", "grove"):
                continue
            where, turned, _ = thing.places(scene.street, np.zeros(1))
            mesh = place(template(thing.kind, thing.variant), where[0], float(turned[0]), thing.scale)
            bark = mesh.vertices[mesh.faces[mesh.material == Material.BARK].ravel()]
            foot = bark[bark[:, 2] < where[0, 2] + 0.5][:, :2]
            for turn, low, high in boxes:
                own = foot @ turn.T
                assert not ((own > low) & (own < high)).all(1).any(), (seed, thing)
            checked += 1
    assert checked > 100


def test_one_point_has_the_height_that_many_have():
    rng = np.random.default_rng(5)
    for seed in (3, 8, 11):
        scene = describe(seed)
        edge = scene.street.half_width
        s, t = rng.uniform(-24, 189, 3000), rng.choice([-1, 1], 3000) * rng.uniform(edge - 1, edge + 9, 3000)
        many = height_at(scene.street, scene.blocks, s, t)
        one = [height_of(scene.street, scene.blocks, a, b) for a, b in zip(s.tolist(), t.tolist())]
        np.testing.assert_allclose(one, many, atol=1e-12)
        assert 0 < (many > 0).mean() < 1


def test_hedges_between_gardens_pass_by_the_houses():
    backward = 0
    for seed in range(40):
        scene = describe(seed, GREEN)
        if any(scene.street.bend):
            continue  # there, rectangles along the street are none in the world
        for strip in scene.strips:
            ends = np.array(strip.line)
            along = ends[0] + np.linspace(0, 1, 50)[:, None] * (ends[1] - ends[0])
            backward += ends[0, 0] == ends[1, 0]
            for house in scene.buildings:
                inside = (along[:, 0] > house.s0) & (along[:, 0] < house.s1)
                inside &= (house.side * along[:, 1] > house.t0) & (house.side * along[:, 1] < house.t0 + house.depth)
                assert not inside.any(), (seed, strip, house)
    assert backward > 20


def test_a_trunk_ends_where_branches_begin():
    for variant in range(VARIANTS):
        tree = template("tree", variant)
        heights = [tree.vertices[tree.faces[tree.material == wood], 2] for wood in (Material.BARK, Material.BRANCH)]
        trunk, branches = heights
        assert trunk.min() < 0.1
        assert trunk.max() < 0.5 * tree.vertices[:, 2].max()
        assert branches.min() > trunk.max() - 0.6
        assert len(branches) > 100
