"""Rays against triangles: several meshes, each with an Embree tree of its own, act as one.

What stands still and what moves are separate meshes, so that the large tree is built once per place and only the small
one anew for every moment.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import require
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
        self._starts = np.cumsum([0] + [len(mesh.faces) for mesh in meshes])
        self.meshes = list(meshes)
        for name in ("color", "material", "label", "instance"):
            setattr(self, name, np.concatenate([getattr(mesh, name) for mesh in meshes]))

    color: np.ndarray
    material: np.ndarray
    label: np.ndarray
    instance: np.ndarray

    def is_first(self, face: np.ndarray) -> np.ndarray:
        """`(P,)` bool: which hits, -1 for none, are triangles of the first of several meshes."""
        return (face >= 0) & (face < self._starts[1]) & (len(self.meshes) > 1)

    def trace(self, origins: np.ndarray, directions: np.ndarray, first: np.ndarray | None = None) -> Hits:
        """First hits of `(P, 3)` rays; only the rays at the indices `first` are tried on the first mesh."""
        origins, directions = np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32)
        count = len(origins)
        distance = np.full(count, FAR, np.float32)
        face = np.full(count, -1, np.int64)
        uv = np.zeros((count, 2), np.float32)
        normal = np.zeros((count, 3), np.float32)
        for k, scene in enumerate(self._scenes):
            # `dists` is how far a ray looks: not beyond what it has hit in an earlier mesh. Embree writes into it.
            some = first if k == 0 else None
            if some is None:
                found = scene.run(origins, directions, dists=distance.copy(), output=True)
                hit = np.nonzero((found["primID"] >= 0) & (found["tfar"] < distance))[0]
                local = hit
            else:
                found = scene.run(
                    origins.take(some, axis=0), directions.take(some, axis=0), dists=distance.take(some), output=True
                )
                local = np.nonzero(found["primID"] >= 0)[0]
                hit = some.take(local)
            if not len(hit):
                continue
            prim = found["primID"].take(local)
            distance[hit] = found["tfar"].take(local)
            a, b = found["u"].take(local), found["v"].take(local)
            face[hit] = prim + self._starts[k]
            corners = self.meshes[k].corners(prim).reshape(-1, 3, 5)
            mixed = np.einsum("pi,pij->pj", np.stack([1 - a - b, a, b], 1), corners)
            uv[hit] = mixed[:, 3:]
            normal[hit] = mixed[:, :3] / np.sqrt(np.einsum("ij,ij->i", mixed[:, :3], mixed[:, :3]) + 1e-24)[:, None]
        away = np.einsum("ij,ij->i", normal, directions) > 0
        normal *= np.where(away, np.float32(-1), np.float32(1))[:, None]
        return Hits(distance, face, uv, normal)

    def blocked(self, origins: np.ndarray, directions: np.ndarray, reach: float | np.ndarray = FAR) -> np.ndarray:
        """`(P,)` bool: whether anything is hit within `reach`, which is one length or `(P,)`, along the ray."""
        origins, directions = np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32)
        far = np.empty(len(origins), np.float32)
        far[:] = reach
        # The last mesh is the largest and stops most rays; the others need only be asked about the rest.
        out = self._scenes[-1].run(origins, directions, dists=far.copy(), query="OCCLUDED") >= 0
        for scene in self._scenes[:-1]:
            free = np.nonzero(~out)[0]
            if len(free):
                some, toward = origins.take(free, axis=0), directions.take(free, axis=0)
                out[free] = scene.run(some, toward, dists=far.take(free), query="OCCLUDED") >= 0
        return out


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The Embree library inside the embreex wheel, or None if the wheel is laid out differently."""
    import embreex

    found = sorted((Path(embreex.__file__).parents[1] / "embreex.libs").glob("libembree4*.so*"))
    if len(found) != 1 or sys.implementation.name != "cpython":
        return None
    library = ctypes.CDLL(str(found[0]))
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
    for name, result, arguments in (
        ("rtcGetSceneDevice", pointer, [pointer]),
        ("rtcNewGeometry", pointer, [pointer, number]),
        ("rtcSetNewGeometryBuffer", pointer, [pointer, number, number, number, size, size]),
        ("rtcCommitGeometry", None, [pointer]),
        ("rtcAttachGeometry", number, [pointer, pointer]),
        ("rtcReleaseGeometry", None, [pointer]),
        ("rtcReleaseDevice", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _upload(scene: object, vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Hands the triangles to Embree in one copy; false if that is not possible.

    `embreex.mesh_construction.TriangleMesh` copies them in a Python loop, 8 microseconds per triangle, which would take
    longer than everything else together. So Embree's C functions are called directly: the scene's handle is the first
    field of the extension class, right after the object header.
    """
    library = _library()
    header = object.__basicsize__
    if library is None or type(scene).__basicsize__ < header + 16:
        return False
    handle = ctypes.c_void_p.from_address(id(scene) + header).value
    if not handle:
        return False
    device = library.rtcGetSceneDevice(handle)
    geometry = library.rtcNewGeometry(device, 0)  # RTC_GEOMETRY_TYPE_TRIANGLE
    for slot, format_, data in ((1, 0x9003, vertices), (0, 0x5003, faces)):  # FLOAT3 vertices, UINT3 indices
        target = library.rtcSetNewGeometryBuffer(geometry, slot, 0, format_, 12, len(data))
        ctypes.memmove(target, data.ctypes.data, data.nbytes)
    library.rtcCommitGeometry(geometry)
    library.rtcAttachGeometry(handle, geometry)
    library.rtcReleaseGeometry(geometry)
    library.rtcReleaseDevice(device)
    return True


def embree_scene(mesh: Mesh) -> Any:
    """The search tree of one mesh.

    Raises:
        MissingExtraError: If embreex is not installed.
    """
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise require("embreex", "synthetic", "rendering the synthetic world") from error
    scene = EmbreeScene()
    vertices, faces = np.ascontiguousarray(mesh.vertices, np.float32), np.ascontiguousarray(mesh.faces, np.int32)
    if not _upload(scene, vertices, faces):
        TriangleMesh(scene, vertices, faces)
    return scene
