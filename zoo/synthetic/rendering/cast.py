"""Rays against triangles: several meshes, each with an Embree tree of its own, act as one.

What stands still and what moves are separate meshes, so that the large tree is built once per place and only the small
one anew for every moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zoo.synthetic.rendering.embree import Packets, embree_scene
from zoo.synthetic.shapes.mesh import Mesh

__all__ = ["Caster", "Hits", "dot"]

FAR = 1e6
_NO_UV, _NO_NORMAL = np.zeros((0, 2), np.float32), np.zeros((0, 3), np.float32)


@dataclass(frozen=True)
class Hits:
    """Where `(P,)` rays end.

    Attributes:
        distance: `(P,)` float32 in lengths of the ray's direction vector, `FAR` where nothing is hit.
        face: `(P,)` int64 triangle in the caster's joined arrays, -1 where nothing is hit.
        uv: `(P, 2)` float32 surface coordinates; undefined where nothing is hit.
        normal: `(P, 3)` float32 unit normal, interpolated on smooth surfaces, towards the ray's origin; undefined where
            nothing is hit.
    """

    distance: np.ndarray
    face: np.ndarray
    uv: np.ndarray
    normal: np.ndarray


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(P,)` dot products of `(P, 3)` float32 rows; `einsum` takes four times as long."""
    return np.multiply(a, b) @ np.ones(3, np.float32)


def _interpolated(
    mesh: Mesh, face: np.ndarray, on: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Surface coordinates `(P, 2)` and unit normals `(P, 3)` against the ray at places `on` `(2, P)` the triangles."""
    uv, normal = mesh.at(face, *on)
    away = dot(normal, directions) > 0
    normal *= np.where(away, np.float32(-1), np.float32(1))[:, None]
    return uv, normal


class Caster:
    """Traces rays against the union of `meshes`; the attributes of their faces are concatenated in that order.

    Raises:
        MissingExtraError: If embreex is not installed.
    """

    def __init__(self, meshes: Sequence[Mesh], scenes: Sequence[Any] | None = None) -> None:
        self._scenes = list(scenes) if scenes is not None else [embree_scene(mesh) for mesh in meshes]
        self._packets = [Packets.of(scene) for scene in self._scenes]
        self._starts = np.cumsum([0] + [len(mesh.faces) for mesh in meshes])
        self.meshes = list(meshes)

    def is_first(self, face: np.ndarray) -> np.ndarray:
        """`(P,)` bool: which hits, -1 for none, are triangles of the first of several meshes."""
        return (face >= 0) & (face < self._starts[1]) & (len(self.meshes) > 1)

    def of_faces(self, name: str, face: np.ndarray) -> np.ndarray:
        """What the triangles `(P,)` `face` (none of them -1) have of `name`: color, material, label or instance.

        The meshes' own arrays are read: joining them would copy hundreds of thousands of rows for every moment.
        """
        last = self._starts[-2]  # where the largest mesh begins, which is hit most
        out = getattr(self.meshes[-1], name).take(face - last if last else face, axis=0, mode="clip")
        if last:
            other = np.nonzero(face < last)[0]
            face = face.take(other)
            for mesh, start, end in zip(self.meshes[:-1], self._starts, self._starts[1:]):
                mine = np.nonzero((face >= start) & (face < end))[0]
                out[other.take(mine)] = getattr(mesh, name).take(face.take(mine) - start, axis=0)
        return out

    @cached_property
    def label(self) -> np.ndarray:
        """`(M,)` class of every triangle."""
        return np.concatenate([mesh.label for mesh in self.meshes])

    @cached_property
    def instance(self) -> np.ndarray:
        """`(M,)` object of every triangle, -1 for none."""
        return np.concatenate([mesh.instance for mesh in self.meshes])

    def trace(
        self,
        origins: np.ndarray,
        directions: np.ndarray,
        first: np.ndarray | None = None,
        *,
        coherent: bool = False,
        surface: bool = True,
    ) -> Hits:
        """First hits of `(P, 3)` rays.

        Args:
            origins: `(P, 3)`.
            directions: `(P, 3)`, of any length.
            first: Indices of the rays that are tried on the first mesh; `None`: all.
            coherent: Neighbours start and point alike: then packets of rays are faster.
            surface: Whether coordinates and normals are needed; otherwise those arrays are empty.
        """
        origins, directions = np.asarray(origins, np.float32), np.ascontiguousarray(directions, np.float32)
        count = len(origins)
        distance = np.full(count, FAR, np.float32)
        face = np.full(count, -1, np.int64)
        on = np.zeros((2, count), np.float32)  # place on the triangle
        for k in range(len(self._scenes)):
            # A ray looks no farther than what it has hit in an earlier mesh.
            some = first if k == 0 else None
            if some is None:
                found = self._first(k, origins, directions, distance, coherent)
                local = np.nonzero((found["primID"] >= 0) & (found["tfar"] < distance))[0]
                hit = local
            else:
                found = self._first(
                    k, origins.take(some, axis=0), directions.take(some, axis=0), distance.take(some), coherent
                )
                local = np.nonzero(found["primID"] >= 0)[0]
                hit = some.take(local)
            distance[hit], on[0, hit], on[1, hit] = (found[name].take(local) for name in ("tfar", "u", "v"))
            face[hit] = found["primID"].take(local) + self._starts[k]
        return Hits(distance, face, *(self._surface(face, on, directions) if surface else (_NO_UV, _NO_NORMAL)))

    def _surface(self, face: np.ndarray, on: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Surface coordinates `(P, 2)` and normals `(P, 3)` of hits at `(2, P)` places `on` their triangles."""
        # The last mesh is the largest: it is cheaper to ask it about all rays than to sort out its own.
        last = self._starts[-2]
        uv, normal = _interpolated(self.meshes[-1], np.maximum(face - last, 0), on, directions)
        for mesh, start, end in zip(self.meshes[:-1], self._starts, self._starts[1:]):
            hit = np.nonzero((face >= start) & (face < end))[0]
            if len(hit):
                some = face.take(hit) - start
                uv[hit], normal[hit] = _interpolated(mesh, some, on[:, hit], directions.take(hit, axis=0))
        return uv, normal

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

    def _any(self, k: int, origins: np.ndarray, directions: np.ndarray, far: np.ndarray, coherent: bool) -> np.ndarray:
        packets = self._packets[k] if coherent else None
        if packets is not None:
            return packets.any(origins, directions, far)
        origins, directions = np.ascontiguousarray(origins), np.ascontiguousarray(directions)
        return self._scenes[k].run(origins, directions, dists=far.copy(), query="OCCLUDED") >= 0
