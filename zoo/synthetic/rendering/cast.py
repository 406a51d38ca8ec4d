"""Rays against triangles: several meshes, each with an Embree tree of its own, act as one.

What stands still and what moves are separate meshes, so that the large tree is built once per place and only the small
one anew for every moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.synthetic.rendering.embree import Packets, embree_scene
from zoo.synthetic.shapes.mesh import Mesh

__all__ = ["Caster", "Hits"]

FAR = 1e6


@dataclass(frozen=True)
class Hits:
    """Where `(P,)` rays end.

    Attributes:
        distance: `(P,)` float32 in lengths of the ray's direction vector, `FAR` where nothing is hit.
        face: `(P,)` int64 triangle in the caster's joined arrays, -1 where nothing is hit.
        uv: `(P, 2)` float32 surface coordinates.
        normal: `(P, 3)` float32 unit normal, interpolated on smooth surfaces, towards the ray's origin.
    """

    distance: np.ndarray
    face: np.ndarray
    uv: np.ndarray
    normal: np.ndarray


class Caster:
    """Traces rays against the union of `meshes`; the attributes of their faces are concatenated in that order.

    Raises:
        MissingExtraError: If embreex is not installed.
    """

    def __init__(self, meshes: Sequence[Mesh], scenes: Sequence[Any] | None = None) -> None:
        self._scenes = list(scenes) if scenes is not None else [embree_scene(mesh) for mesh in meshes]
        self._packets = [Packets.of(scene) for scene in self._scenes]
        self._starts = np.cumsum([0] + [len(mesh.faces) for mesh in meshes])
        self._meshes = list(meshes)
        for name in ("color", "material", "label", "instance"):
            setattr(self, name, np.concatenate([getattr(mesh, name) for mesh in meshes]))

    color: np.ndarray
    material: np.ndarray
    label: np.ndarray
    instance: np.ndarray

    def trace(
        self, origins: np.ndarray, directions: np.ndarray, first: np.ndarray | None = None, *, coherent: bool = False
    ) -> Hits:
        """First hits of `(P, 3)` rays.

        Args:
            origins: `(P, 3)`.
            directions: `(P, 3)`, of any length.
            first: Indices of the rays that are tried on the first mesh; `None`: all.
            coherent: Neighbours start and point alike: then packets of rays are faster.
        """
        origins, directions = np.asarray(origins, np.float32), np.ascontiguousarray(directions, np.float32)
        count = len(origins)
        distance = np.full(count, FAR, np.float32)
        face = np.full(count, -1, np.int64)
        uv = np.zeros((count, 2), np.float32)
        normal = np.zeros((count, 3), np.float32)
        for k in range(len(self._scenes)):
            # A ray looks no farther than what it has hit in an earlier mesh.
            some = first if k == 0 else None
            if some is None:
                found = self._first(k, origins, directions, distance, coherent)
                hit = np.nonzero((found["primID"] >= 0) & (found["tfar"] < distance))[0]
                local = hit
            else:
                found = self._first(
                    k, origins.take(some, axis=0), directions.take(some, axis=0), distance.take(some), coherent
                )
                local = np.nonzero(found["primID"] >= 0)[0]
                hit = some.take(local)
            if not len(hit):
                continue
            prim = found["primID"].take(local)
            distance[hit] = found["tfar"].take(local)
            a, b = found["u"].take(local), found["v"].take(local)
            face[hit] = prim + self._starts[k]
            corners = self._meshes[k].corners(prim).reshape(-1, 3, 5)
            mixed = np.einsum("pi,pij->pj", np.stack([1 - a - b, a, b], 1), corners)
            uv[hit] = mixed[:, 3:]
            normal[hit] = mixed[:, :3] / np.sqrt(np.einsum("ij,ij->i", mixed[:, :3], mixed[:, :3]) + 1e-24)[:, None]
        away = np.einsum("ij,ij->i", normal, directions) > 0
        normal *= np.where(away, np.float32(-1), np.float32(1))[:, None]
        return Hits(distance, face, uv, normal)

    def _first(
        self, k: int, origins: np.ndarray, directions: np.ndarray, far: np.ndarray, coherent: bool
    ) -> dict[str, np.ndarray]:
        """Distance `tfar`, triangle `primID` and place `u`, `v` on it of hits in mesh `k` within `far`."""
        packets = self._packets[k] if coherent else None
        if packets is not None:
            return packets.first(origins, directions, far)
        # `dists` is how far a ray looks. Embree writes into it.
        return self._scenes[k].run(np.ascontiguousarray(origins), directions, dists=far.copy(), output=True)

    def blocked(
        self,
        origins: np.ndarray,
        directions: np.ndarray,
        reach: float | np.ndarray = FAR,
        *,
        coherent: bool = False,
    ) -> np.ndarray:
        """`(P,)` bool: whether anything is hit within `reach`, which is one length or `(P,)`, along the ray.

        Args:
            origins: `(P, 3)`.
            directions: `(P, 3)`.
            reach: In lengths of the directions.
            coherent: See `trace`.
        """
        origins, directions = np.asarray(origins, np.float32), np.asarray(directions, np.float32)
        far = np.empty(len(origins), np.float32)
        far[:] = reach
        # The last mesh is the largest and stops most rays; the others need only be asked about the rest.
        last = len(self._scenes) - 1
        out = self._any(last, origins, directions, far, coherent)
        for k in range(last):
            free = np.nonzero(~out)[0]
            if len(free):
                some, toward = origins.take(free, axis=0), directions.take(free, axis=0)
                out[free] = self._any(k, some, toward, far.take(free), coherent)
        return out

    def _any(
        self, k: int, origins: np.ndarray, directions: np.ndarray, far: np.ndarray, coherent: bool
    ) -> np.ndarray:
        packets = self._packets[k] if coherent else None
        if packets is not None:
            return packets.any(origins, directions, far)
        origins, directions = np.ascontiguousarray(origins), np.ascontiguousarray(directions)
        return self._scenes[k].run(origins, directions, dists=far.copy(), query="OCCLUDED") >= 0
