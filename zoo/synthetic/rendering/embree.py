"""Embree through the `embreex` wheel: search trees from whole arrays, and rays in packets of 16.

embreex itself copies triangles one by one and traces rays one by one. Both are several times as slow as Embree's own C
functions, which are therefore called directly; where the wheel is laid out differently, embreex's way is the fallback.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import require
from zoo.synthetic.shapes.mesh import Mesh

__all__ = ["Packets", "embree_scene"]


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The Embree library inside the embreex wheel, or None if the wheel is laid out differently."""
    import embreex

    found = sorted((Path(embreex.__file__).parents[1] / "embreex.libs").glob("libembree4*.so*"))
    if len(found) != 1 or sys.implementation.name != "cpython":
        return None
    library = ctypes.PyDLL(str(found[0]))  # its calls are too short to give up Python's lock for each
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
    for name, result, arguments in (
        ("rtcGetSceneDevice", pointer, [pointer]),
        ("rtcNewGeometry", pointer, [pointer, number]),
        ("rtcSetNewGeometryBuffer", pointer, [pointer, number, number, number, size, size]),
        ("rtcCommitGeometry", None, [pointer]),
        ("rtcAttachGeometry", number, [pointer, pointer]),
        ("rtcReleaseGeometry", None, [pointer]),
        ("rtcReleaseDevice", None, [pointer]),
        ("rtcIntersect16", None, None),
        ("rtcOccluded16", None, None),
    ):
        function = getattr(library, name)
        function.restype = result
        if arguments is not None:  # without a declaration a call is faster, and takes ready-made pointers only
            function.argtypes = arguments
    return library


def _handle(scene: Any) -> int | None:
    """The `RTCScene` of an embreex scene: the first field of the extension class, right after the object header."""
    if _library() is None or type(scene).__basicsize__ < object.__basicsize__ + 16:
        return None
    return ctypes.c_void_p.from_address(id(scene) + object.__basicsize__).value


def _upload(scene: object, vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Hands the triangles to Embree in one copy; false if that is not possible.

    `embreex.mesh_construction.TriangleMesh` copies them in a Python loop, 8 microseconds per triangle, which would take
    longer than everything else together.
    """
    library, handle = _library(), _handle(scene)
    if library is None or not handle:
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


_WIDTH = 16
_CHUNK = 512  # packets traced together, 0.7 MB: they stay in the cache between writing, tracing and reading
_ROWS = 21  # of 16 float32 each: origin, near, direction, time, far, mask, id, flags; normal, u, v, triangle, mesh, ...
_FAR, _MASK, _U, _PRIMITIVE, _GEOMETRY = 8, 9, 15, 17, 18
_COHERENT = 1 << 16  # RTC_RAY_QUERY_FLAG_COHERENT


class _Arguments(ctypes.Structure):
    """`RTCIntersectArguments`, which has the layout of `RTCOccludedArguments`."""

    _fields_ = (
        ("flags", ctypes.c_uint),
        ("features", ctypes.c_uint),
        ("context", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
        ("callback", ctypes.c_void_p),
    )


class _Buffer(threading.local):
    """Memory for `_CHUNK` packets, aligned as Embree wants it; one per thread."""

    def __init__(self) -> None:
        raw = np.zeros(_CHUNK * _ROWS * _WIDTH + 2 * _WIDTH, np.float32)
        start = (-raw.ctypes.data // 4) % _WIDTH
        aligned = raw[start : start + (_CHUNK * _ROWS + 1) * _WIDTH]
        self.rows = aligned[:-_WIDTH].reshape(_CHUNK, _ROWS, _WIDTH)
        self.rows.view(np.uint32)[:, _MASK] = 0xFFFFFFFF
        self.valid = aligned[-_WIDTH:].view(np.int32)
        self.valid[:] = -1
        step, first = _ROWS * _WIDTH * 4, self.rows.ctypes.data
        self.packets = [ctypes.c_void_p(first + k * step) for k in range(_CHUNK)]
        self.all = ctypes.c_void_p(self.valid.ctypes.data)
        self.arguments = _Arguments(_COHERENT, 0xFFFFFFFF, None, None, None)
        self.pointer = ctypes.byref(self.arguments)


_buffer = _Buffer()


class Packets:
    """Traces rays through one search tree, 16 at a time.

    It pays for neighbours that start and point alike, as those of a camera and towards the sun do: up to twice as fast
    as ray by ray. Where triangles touch, either may be returned, and the distance may differ in the last bit.
    """

    def __init__(self, scene: Any, handle: int) -> None:
        self._scene = scene  # kept alive
        self._handle = ctypes.c_void_p(handle)
        library = _library()
        assert library is not None
        self._intersect, self._occluded = library.rtcIntersect16, library.rtcOccluded16

    @classmethod
    def of(cls, scene: Any) -> Packets | None:
        """For a tree that `embree_scene` has made; `None` if Embree's C functions cannot be reached."""
        handle = _handle(scene)
        if not handle:
            return None
        scene.run(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))  # embreex builds the tree at the first ray
        return cls(scene, handle)

    def first(self, origins: np.ndarray, directions: np.ndarray, far: np.ndarray) -> dict[str, np.ndarray]:
        """First hits of `(P, 3)` float32 rays within `(P,)` `far`: `tfar`, `u`, `v`, and `primID`, -1 for none."""
        count = len(origins)
        out = {name: np.empty(count, np.float32) for name in ("tfar", "u", "v")}
        out["primID"] = np.empty(count, np.int32)
        names = (("tfar", _FAR), ("u", _U), ("v", _U + 1), ("primID", _PRIMITIVE))
        for begin, end, rows in self._chunks(origins, directions, far, self._intersect):
            for name, row in names:
                values = rows[:, row] if name != "primID" else rows.view(np.int32)[:, row]
                out[name][begin:end] = values.reshape(-1)[: end - begin]
        return out

    def any(self, origins: np.ndarray, directions: np.ndarray, far: np.ndarray) -> np.ndarray:
        """`(P,)` bool: whether `(P, 3)` float32 rays hit anything within `(P,)` `far`."""
        out = np.empty(len(origins), bool)
        for begin, end, rows in self._chunks(origins, directions, far, self._occluded):
            out[begin:end] = (rows[:, _FAR] < 0).reshape(-1)[: end - begin]  # Embree sets it to minus infinity
        return out

    def _chunks(self, origins: np.ndarray, directions: np.ndarray, far: np.ndarray, trace: Any) -> Any:
        buffer = _buffer
        for begin in range(0, len(origins), _CHUNK * _WIDTH):
            end = min(begin + _CHUNK * _WIDTH, len(origins))
            packets = -(-(end - begin) // _WIDTH)
            rows = buffer.rows[:packets]
            _write(rows[:, 0:3], origins[begin:end])
            _write(rows[:, 4:7], directions[begin:end])
            _write(rows[:, _FAR : _FAR + 1], far[begin:end, None])
            rows.view(np.uint32)[:, _PRIMITIVE : _GEOMETRY + 1] = 0xFFFFFFFF
            rows[-1, _FAR].reshape(-1)[end - begin - (packets - 1) * _WIDTH :] = -1  # beyond the last ray: inactive
            scene, valid, arguments = self._handle, buffer.all, buffer.pointer
            for packet in buffer.packets[:packets]:
                trace(valid, scene, packet, arguments)
            yield begin, end, rows


def _write(rows: np.ndarray, values: np.ndarray) -> None:
    """`(P, C)` values into `(N, C, 16)` rows; the last packet may stay incomplete."""
    whole = len(values) // _WIDTH
    rows[:whole] = values[: whole * _WIDTH].reshape(whole, _WIDTH, values.shape[1]).transpose(0, 2, 1)
    if whole < len(rows):
        rest = values[whole * _WIDTH :]
        rows[whole, :, : len(rest)] = rest.T
