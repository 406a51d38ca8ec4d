"""Optical flow from geometry: where what each pixel shows is in the camera's next picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.geometry.cameras import pixel_rays, project
from zoo.geometry.distortion import Distortion
from zoo.geometry.transforms import invert, transform
from zoo.synthetic.rendering.cast import Caster, Hits
from zoo.synthetic.scene.types import Scene, Thing
from zoo.synthetic.shapes.mesh import Mesh, place
from zoo.synthetic.shapes.templates import template

__all__ = ["Next", "optical_flow"]

_NEAR_M = 0.05  # what is nearer to the camera's plane in the next picture has no pixel there


@dataclass(frozen=True)
class Next:
    """The camera's next picture.

    Attributes:
        time_s: Scene time of the middle of its exposure.
        world_from_camera: `(4, 4)` at that time.
    """

    time_s: float
    world_from_camera: np.ndarray


def optical_flow(
    scene: Scene,
    caster: Caster,
    hits: Hits,
    size: tuple[int, int],
    intrinsics: np.ndarray,
    world_from_camera: np.ndarray,
    following: Next,
    distortion: Distortion | None = None,
) -> np.ndarray:
    """`(H, W, 2)` float32 pixels (x, y) from each pixel's centre to the same point of the surface in the next picture.

    Points of moving things keep their place on the thing's surface, limbs included. The sky is infinitely far away.
    Whether the point is hidden or outside the next picture is not asked; NaN marks what has left the street or lies
    behind the camera's plane.

    Args:
        scene: The place.
        caster: What the picture's rays were traced against, with the moving things as its first mesh.
        hits: Of the rays through the centres of all pixels, row by row, in lengths along the optical axis.
        size: (height, width).
        intrinsics: `(3, 3)` pixels, of both pictures.
        world_from_camera: `(4, 4)` pose of this picture.
        following: The next picture.
        distortion: Of the lens; `None`: a pinhole.
    """
    rays = pixel_rays(intrinsics, size, distortion)
    sky = hits.face < 0
    there = rays * np.where(sky, 1.0, hits.distance)[:, None].astype(float)
    points = transform(world_from_camera, there)
    gone = _moved(scene, caster, hits.face, points, following.time_s)
    later = transform(invert(following.world_from_camera), points)
    attached = _attached(caster, hits.face)
    later[attached] = there[attached]
    later[sky] = rays[sky] @ world_from_camera[:3, :3].T @ following.world_from_camera[:3, :3]
    pixels, depth = project(later, intrinsics, distortion=distortion)
    row, column = np.divmod(np.arange(len(rays)), size[1])
    flow = pixels - np.stack([column, row], 1)
    flow[(depth < _NEAR_M) | gone] = np.nan
    return flow.astype(np.float32).reshape(*size, 2)


def _attached(caster: Caster, face: np.ndarray) -> np.ndarray:
    """`(P,)` bool: hits of the ego vehicle's own bonnet, the only part of the moving mesh without a number."""
    return caster.is_first(face) & (caster.instance[face] < 0)


def _moved(scene: Scene, caster: Caster, face: np.ndarray, points: np.ndarray, time_s: float) -> np.ndarray:
    """Moves `(P, 3)` world points of moving things, in place, to where they are at `time_s`.

    Returns:
        `(P,)` bool: points of things that have left the street by then.
    """
    gone = np.zeros(len(points), bool)
    on_mover = np.nonzero(caster.is_first(face) & (caster.instance[face] >= 0))[0]
    if not len(on_mover):
        return gone
    now = caster.meshes[0]
    things = {thing.instance: thing for thing in scene.things if thing.moves}
    owner = caster.instance[face[on_mover]]
    for number in np.unique(owner).tolist():
        here = on_mover[owner == number]
        position, yaw, still_there = scene.places(things[number], np.array(time_s))
        if not still_there:
            gone[here] = True
            continue
        later = _at(things[number], time_s, position, float(yaw))
        first = int(np.argmax(now.instance == number))  # its triangles follow each other
        corners = now.vertices[now.faces[face[here]]].astype(float)
        shares = _barycentric(corners, points[here])
        corners = later.vertices[later.faces[face[here] - first]].astype(float)
        points[here] = np.einsum("pk,pkc->pc", shares, corners)
    return gone


def _at(thing: Thing, time_s: float, position: np.ndarray, yaw: float) -> Mesh:
    return place(template(thing.kind, thing.variant, thing.pose(time_s)), position, yaw, thing.scale)


def _barycentric(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`(P, 3)` weights of the corners of `(P, 3, 3)` triangles whose sums are nearest to `(P, 3)` points."""
    a, b, to = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    aa, ab, bb = (np.einsum("pc,pc->p", x, y) for x, y in ((a, a), (a, b), (b, b)))
    at, bt = np.einsum("pc,pc->p", a, to), np.einsum("pc,pc->p", b, to)
    area = np.maximum(aa * bb - ab * ab, 1e-18)
    u, v = (bb * at - ab * bt) / area, (aa * bt - ab * at) / area
    return np.stack([1 - u - v, u, v], 1)
