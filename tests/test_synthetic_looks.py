"""How pictures of the synthetic world look: physical and statistical claims, and what must not change with them."""

from __future__ import annotations

import dataclasses

import numpy as np

from zoo.condition import Condition
from zoo.synthetic.models.build import build_static
from zoo.synthetic.rendering.cast import Caster
from zoo.synthetic.rendering.light import light_of
from zoo.synthetic.rendering.shade import Stage, shade
from zoo.synthetic.rendering.weather import halos
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.types import Thing
from zoo.synthetic.shapes.surfaces import Material


def test_signals_show_the_phase_that_traffic_obeys() -> None:
    # The main street is stopped from 20 s to 40 s. Seen from ahead, what shines is green before, amber for the 3 s up
    # to 20 s, then red, and red with amber in the last second.
    scene = next(scene for scene in map(describe, range(60)) if any(c.signals for c in scene.crossings))
    crossing = next(c for c in scene.crossings if c.signals)
    crossing = dataclasses.replace(crossing, closed=((20.0, 40.0),))
    signal = Thing(kind="traffic_light", variant=2, s=crossing.start - 3.9, t=6.0)
    scene = dataclasses.replace(scene, crossings=(crossing,), things=(signal,), buildings=(), strips=())
    mesh = build_static(scene)
    lenses = np.nonzero(mesh.material == Material.SIGNAL)[0]
    corners = mesh.vertices[mesh.faces[lenses]]
    middle = corners.mean(1)
    yaw = scene.street.heading(signal.s)
    eye = (middle.mean(0) - 8 * np.array([np.cos(yaw), np.sin(yaw), 0])).astype(np.float32)  # 8 m before it
    caster, light = Caster([mesh]), light_of(scene, Condition())
    directions = (middle - eye).astype(np.float32)
    hits = caster.trace(np.broadcast_to(eye, directions.shape), directions)
    seen = (hits.face >= 0) & (caster.of_faces("material", np.maximum(hits.face, 0)) == Material.SIGNAL)
    assert seen.sum() >= 20  # ten triangles per lens, of the head that faces the viewer
    shown = {}
    for time_s in (10.0, 18.0, 30.0, 39.5, 41.0):
        stage = Stage(
            scene=scene, caster=caster, light=light, lamps=np.zeros((0, 3)), world_from_ego=np.eye(4), time_s=time_s
        )
        radiance = shade(stage, eye, directions, hits, np.ones(len(directions), np.float32), 0.001).radiance[seen]
        shining = radiance[radiance.max(1) > 0.3 * radiance.max()]
        red, green = shining[:, 0] / shining.sum(1), shining[:, 1] / shining.sum(1)
        shown[time_s] = (bool((green > 0.6).any()), bool(((red > 0.5) & (green > 0.25)).any()), bool((red > 0.7).any()))
    assert shown == {
        10.0: (True, False, False),
        18.0: (False, True, False),
        30.0: (False, False, True),
        39.5: (False, True, True),
        41.0: (True, False, False),
    }


def test_a_lamp_in_fog_has_a_halo_that_falls_with_the_angle() -> None:
    # One pixel of 1000 lux, 30 m away, f = 350 pixels, b = 0.02 / m: at r pixels b D / (4 f r) of it, that is
    # 1000 * 0.6 / 1400 / r = 0.4286 / r. The grid of 4 pixels blurs that by a few percent.
    light = dataclasses.replace(light_of(describe(3), Condition.parse("fog")), extinction=0.02, airlight=np.zeros(3))
    radiance, sources = np.zeros((128, 192, 3), np.float32), np.zeros((128, 192), bool)
    radiance[66, 98], sources[66, 98] = 1000, True
    out = halos(radiance, sources, np.full((128, 192), 30.0, np.float32), light, 350.0)
    for r in (16, 32, 64):
        around = [out[66, 98 + r, 0], out[66, 98 - r, 0]] + ([out[66 + r, 98, 0], out[66 - r, 98, 0]] if r < 60 else [])
        np.testing.assert_allclose(np.mean(around), 0.4286 / r, rtol=0.06)
    np.testing.assert_array_equal(
        halos(radiance, sources, np.ones((128, 192)), light_of(describe(3), Condition()), 350.0), radiance
    )
