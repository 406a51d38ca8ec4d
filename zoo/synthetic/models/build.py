"""From a scene description to triangles: what never moves, and what moves, at one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from zoo.synthetic.models.barriers import boxes_around, strip_mesh
from zoo.synthetic.models.ground import ground, street_ground
from zoo.synthetic.models.houses import building
from zoo.synthetic.scene.network import LegStreet, uv_offset
from zoo.synthetic.scene.types import MOVABLE, Scene, Thing
from zoo.synthetic.shapes.mesh import Mesh, concatenate, place
from zoo.synthetic.shapes.surfaces import Label, Material
from zoo.synthetic.shapes.templates import template

__all__ = ["LABELS_WITH_INSTANCES", "MOVING", "build_body", "build_leg", "build_moving", "build_parked", "build_static"]

LABELS_WITH_INSTANCES = tuple(range(Label.PERSON, Label.BICYCLE + 1))
_NEAR_SIDE, _NEAR_AHEAD = 7.0, 130.0  # metres from the kerb and ahead: plants beyond have fewer and larger leaves
_FAR = {"tree": "far_tree", "bush": "far_bush", "thicket": "far_thicket"}
_BRAKE_LIGHTS = ("car", "truck", "bus", "motorcycle")
MOVING = MOVABLE


def _placed(scene: Scene, chosen: Callable[[Thing], bool], time_s: float) -> list[Mesh]:
    out = []
    tint = np.asarray(scene.foliage, np.float32)
    for index, thing in enumerate(scene.things):
        if not chosen(thing):
            continue
        position, yaw, there = scene.places(thing, np.array(time_s))
        if thing.kind in MOVING and not there:
            continue
        ahead = thing.s > _NEAR_AHEAD and not isinstance(scene.street, LegStreet)  # legs are driven to their ends
        far = abs(thing.t) > scene.street.half_width + _NEAR_SIDE or ahead
        name = _FAR.get(thing.kind, thing.kind) if far else thing.kind
        mesh = template(name, thing.variant, thing.pose(time_s))
        mesh = place(mesh, position, float(yaw), thing.scale, thing.palette, thing.instance, thing.label)
        if thing.kind in ("tree", "conifer", "bush", "grove", "thicket"):
            mesh = _tinted(mesh, tint[index % len(tint)])
        if thing.kind in _BRAKE_LIGHTS and thing.brakes(time_s):
            mesh = _braking(mesh)
        if thing.kind == "traffic_light" and scene.crossings:
            mesh = _numbered(mesh, scene, thing.s)
        out.append(mesh)
    return out


def _braking(mesh: Mesh) -> Mesh:
    lamps = mesh.material == Material.TAILLIGHT
    return replace(mesh, material=np.where(lamps, Material.BRAKELIGHT, mesh.material).astype(np.uint8))


def _numbered(mesh: Mesh, scene: Scene, s: float) -> Mesh:
    """A signal whose lenses know their side street: its number is v, next to u, the number of the lens."""
    number = int(np.argmin([abs((crossing.start + crossing.end) / 2 - s) for crossing in scene.crossings]))
    uv = mesh.uv.copy()
    uv[mesh.faces[mesh.material == Material.SIGNAL], 1] = number
    return replace(mesh, uv=uv)


def _tinted(mesh: Mesh, tint: np.ndarray) -> Mesh:
    """Leaves in the place's own green; templates hold a quarter of the reflectance, as a grey that varies by leaf."""
    leaf = mesh.material == Material.FOLIAGE
    factor = 4 * tint if leaf.all() else np.where(leaf[:, None], 4 * tint, np.float32(1))
    return replace(mesh, color=mesh.color * factor)


def build_static(scene: Scene) -> Mesh:
    """Everything that never moves, without vehicles and people."""
    return _on_ground(scene, ground(scene))


def build_leg(scene: Scene) -> Mesh:
    """The same of one leg of a drive, without the horizon; surface coordinates and signals carry the leg's number."""
    street = scene.street
    assert isinstance(street, LegStreet)
    mesh = _on_ground(scene, street_ground(scene))
    uv = mesh.uv.copy()
    level = (mesh.material == Material.ASPHALT) | (mesh.material == Material.GROUND)
    uv[np.unique(mesh.faces[level]), 0] += uv_offset(street)
    uv[np.unique(mesh.faces[mesh.material == Material.SIGNAL]), 1] += street.first_crossing
    return replace(mesh, uv=uv)


def _on_ground(scene: Scene, below: Mesh) -> Mesh:
    street = scene.street
    parts = [below]
    parts += [building(street, house) for house in scene.buildings]
    for index, strip in enumerate(scene.strips):
        mesh = strip_mesh(street, strip)
        parts.append(_tinted(mesh, np.asarray(scene.foliage[index % 4], np.float32)) if strip.kind == "hedge" else mesh)
    return concatenate(parts + _placed(scene, lambda thing: thing.kind not in MOVING, 0.0))


def build_parked(scene: Scene) -> Mesh | None:
    """Parked vehicles and standing people."""
    parts = _placed(scene, lambda thing: thing.kind in MOVING and not thing.moves, 0.0)
    return concatenate(parts) if parts else None


def build_moving(
    scene: Scene, time_s: float, world_from_ego: np.ndarray | None, *, parked: bool = True
) -> tuple[Mesh | None, np.ndarray]:
    """Vehicles and people where they are at `time_s`, and the ego vehicle's bonnet.

    Args:
        scene: The place.
        time_s: Scene time.
        world_from_ego: `(4, 4)` pose of the bonnet; `None` leaves it out.
        parked: Whether to include those that do not move.

    Returns:
        The mesh, and `(K, 8, 3)` corners of the axis-aligned boxes around its K things.
    """
    parts = _placed(scene, lambda thing: thing.kind in MOVING and (parked or thing.moves), time_s)
    if scene.bonnet is not None and world_from_ego is not None:
        parts.append(_bonnet(scene, world_from_ego))
    if not parts:
        return None, np.zeros((0, 8, 3), np.float32)
    return concatenate(parts), boxes_around(parts)


def build_body(thing: Thing, pose: int = 0) -> Mesh:
    """One thing in its own axes, at its size and in its colours."""
    mesh = template(thing.kind, thing.variant, pose)
    return place(mesh, (0, 0, 0), 0.0, thing.scale, thing.palette, thing.instance, thing.label)


def _bonnet(scene: Scene, world_from_ego: np.ndarray) -> Mesh:
    assert scene.bonnet is not None
    camera = scene.camera
    mesh = template("bonnet", scene.bonnet.variant)
    at = (camera.forward_m + scene.bonnet.ahead, camera.left_m, camera.height_m - scene.bonnet.below)
    mesh = place(mesh, at, palette=(scene.bonnet.color,))
    turn = world_from_ego[:3, :3].astype(np.float32)
    vertices = mesh.vertices @ turn.T + world_from_ego[:3, 3].astype(np.float32)
    return replace(mesh, vertices=vertices, normals=mesh.normals @ turn.T)
