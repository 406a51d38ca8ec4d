"""A place that is ready to be rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from zoo.synthetic.models.barriers import build_sheets
from zoo.synthetic.models.build import build_leg, build_moving, build_parked, build_static
from zoo.synthetic.models.ground import horizon
from zoo.synthetic.rendering.cast import Caster
from zoo.synthetic.rendering.embree import embree_scene
from zoo.synthetic.scene.network import Drive, LegStreet, Stretch
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.sensors.lidar import Movers
from zoo.synthetic.shapes.mesh import Mesh, concatenate
from zoo.synthetic.shapes.surfaces import Material
from zoo.synthetic.truth.boxes import bodies_of, track_table

__all__ = ["DriveWorld", "World"]


class World:
    """Triangles and search trees of a scene, reused for all of its frames."""

    def __init__(self, scene: Scene, static: Mesh | None = None) -> None:
        self.scene = scene
        self.static = build_static(scene) if static is None else static
        self.lamps = _lamp_positions(self.static)
        sheets, self.sheet_boxes = build_sheets(scene)
        self.sheets = None if sheets is None else Caster([sheets])
        self.bodies = bodies_of(scene)
        self.tracks = track_table(self.bodies)
        self.movers = Movers(scene)
        self.last_view: tuple[Any, Any, Any] | None = None  # kept for `picture`, with what identifies it
        self._moving: tuple[float, Caster, np.ndarray] | None = None

    def at(self, time_s: float) -> World:
        """The world at a scene time: a place is the same at all times."""
        return self

    @cached_property
    def still(self) -> tuple[Mesh, Any]:
        """Mesh and search tree of everything that stands still, including parked vehicles."""
        parked = build_parked(self.scene)
        mesh = self.static if parked is None else concatenate([parked, self.static])
        return mesh, embree_scene(mesh)

    def caster(self, time_s: float, world_from_ego: np.ndarray) -> tuple[Caster, np.ndarray]:
        """The caster with everything where it is at `time_s`, and `(K, 8, 3)` boxes around its first mesh's things."""
        if self._moving is None or self._moving[0] != time_s:
            self._moving = (time_s, *self.caster_at(time_s, world_from_ego))
        return self._moving[1:]

    def caster_at(self, time_s: float, bonnet: np.ndarray | None) -> tuple[Caster, np.ndarray]:
        """The same, not cached, with the ego vehicle's bonnet at the `(4, 4)` pose `bonnet`, or without it."""
        moving, boxes = build_moving(self.scene, time_s, bonnet, parked=False)
        return self._join(moving, *self.still), boxes

    def casters_at(self, times_s: Sequence[float]) -> list[Caster]:
        """Casters for several moments in which a triangle has the same number; for moments that are close together.

        Without things that enter or leave the street between them, and without the ego vehicle.
        """
        times = np.asarray(times_s, float)
        there = [thing for thing in self.scene.things if not thing.moves or self.scene.places(thing, times)[2].all()]
        scene = replace(self.scene, things=tuple(there))
        return [self._join(build_moving(scene, time_s, None, parked=False)[0], *self.still) for time_s in times_s]

    @staticmethod
    def _join(moving: Mesh | None, mesh: Mesh, tree: Any) -> Caster:
        if moving is None:
            return Caster([mesh], [tree])
        return Caster([moving, mesh], [embree_scene(moving), tree])

    def world_from_ego(self, s: float) -> np.ndarray:
        """`(4, 4)` pose of the ego vehicle `s` metres along the street."""
        return self.scene.street.poses(np.array([s]), self.scene.ego_lane)[0]


class DriveWorld:
    """The worlds of the stretches of a drive, built when they are needed; only the last one is kept, and its legs."""

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self._legs: dict[int, Mesh] = {}
        self._world: World | None = None

    def at(self, time_s: float) -> World:
        """The world of the stretch that the vehicle is in at a scene time."""
        number = self.drive.stretch_at(time_s)
        scene = None if self._world is None else self._world.scene
        if self._world is None or not isinstance(scene, Stretch) or scene.number != number:
            self._world = None  # its memory is needed
            self._world = self._built(number)
        return self._world

    def _built(self, number: int) -> World:
        stretch = self.drive.stretch(number)
        streets = {street.number: leg for leg in stretch.legs if isinstance(street := leg.street, LegStreet)}
        self._legs = {k: self._legs[k] if k in self._legs else build_leg(leg) for k, leg in streets.items()}
        return World(stretch, concatenate([*self._legs.values(), self._horizon]))

    @cached_property
    def _horizon(self) -> Mesh:
        line = self.drive.ego.line
        low, high = line.min(0), line.max(0)
        x, y = ((low + high) / 2)[:2].tolist()
        return horizon((x, y), float(np.linalg.norm((high - low)[:2]) / 2), float(low[2]), self.drive.about)


def _lamp_positions(mesh: Mesh) -> np.ndarray:
    """`(L, 3)` centres of the street lamps' lights. A lamp has many triangles: centres in one 1.5 m cell count once."""
    centres = mesh.vertices[mesh.faces[mesh.material == Material.LAMP]].mean(1)
    if not len(centres):
        return np.zeros((0, 3), np.float32)
    _, first = np.unique(np.round(centres / 1.5).astype(int), axis=0, return_index=True)
    return centres[np.sort(first)]
