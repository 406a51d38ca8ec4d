"""Triangle meshes with what the shader needs, and the solids that everything in the world is made of.

Metres; x forward, y left, z up. A template is a mesh around its own origin: made once per process, placed many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zoo.geometry.transforms import yaw_matrix
from zoo.synthetic.shapes.surfaces import Material

__all__ = ["Builder", "Mesh", "Points", "Rgb", "concatenate", "place", "refined"]

Rgb = Sequence[float] | np.ndarray
"""Linear reflectance: of all faces, or one row per face."""
Points = Sequence[Any] | np.ndarray
"""Coordinates in metres, as nested sequences or an array."""


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        vertices: `(N, 3)` float32 metres.
        normals: `(N, 3)` float32; zero where the triangle's own normal counts.
        uv: `(N, 2)` float32, mostly metres on the surface.
        faces: `(M, 3)` int32.
        color: `(M, 3)` float32 linear reflectance.
        slot: `(M,)` int8: index of the palette colour that replaces `color` when the mesh is placed, or -1.
        material: `(M,)` uint8.
        label: `(M,)` uint8 training id.
        instance: `(M,)` int32: number of the thing in its scene, -1 for none.
    """

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    color: np.ndarray
    slot: np.ndarray
    material: np.ndarray
    label: np.ndarray
    instance: np.ndarray

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What `at` needs of each face; rows are computed when a face is first hit, since most never are.

        `(M, 3)` uv of the corners as complex numbers (NumPy has no faster way to handle pairs), `(M, 3)` unit normal of
        flat faces, `(M,)` bool: the normals of the corners differ, and `(M,)` bool: the row has been computed.
        """
        count = len(self.faces)
        smooth, known = np.zeros((2, count), bool)
        return np.empty((count, 3), np.complex64), np.empty((count, 3), np.float32), smooth, known

    def at(self, some: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Surface coordinates `(P, 2)` and unit normals `(P, 3)` at places on the `(P,)` faces `some`.

        Args:
            some: Indices of faces.
            u: `(P,)` float32 share of the second corner.
            v: `(P,)` float32 share of the third corner.
        """
        uv, flat, smooth, known = self._table
        if not known.take(some).all():
            missing = np.zeros(len(known), bool)
            missing[some] = True
            self._look_up(np.nonzero(missing & ~known)[0])
        first = 1 - u
        first -= v
        corners = uv.take(some, axis=0)
        at = corners[:, 0] * first
        at += corners[:, 1] * u
        at += corners[:, 2] * v
        normal = flat.take(some, axis=0)
        bent = np.nonzero(smooth.take(some))[0]
        faces = self.faces.take(some.take(bent), axis=0)
        mixed = self.normals.take(faces[:, 0], axis=0) * first.take(bent)[:, None]
        mixed += self.normals.take(faces[:, 1], axis=0) * u.take(bent)[:, None]
        mixed += self.normals.take(faces[:, 2], axis=0) * v.take(bent)[:, None]
        normal[bent] = _unit(mixed)
        return at.view(np.float32).reshape(-1, 2), normal

    def _look_up(self, some: np.ndarray) -> None:
        """Fills the rows `some` of the table."""
        uv, flat, smooth, known = self._table
        faces = self.faces.take(some, axis=0)
        uv[some] = np.ascontiguousarray(self.uv.take(faces, axis=0)).view(np.complex64)[..., 0]
        normals = self.normals.take(faces, axis=0)
        smooth[some] = (normals != normals[:, :1]).any((1, 2))
        sharp = np.nonzero(np.einsum("ij,ij->i", normals[:, 0], normals[:, 0]) < 0.04)[0]
        a, b, c = (self.vertices.take(faces[:, k].take(sharp), axis=0) for k in range(3))
        own = normals[:, 0].copy()
        own[sharp] = _cross(b - a, c - a)
        flat[some] = _unit(own)
        smooth[some.take(sharp)] = False
        known[some] = True


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt(np.einsum("ij,ij->i", rows, rows) + 1e-24)[:, None]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(N, 3)` products of rows; `np.cross` costs three times as much."""
    out = np.empty_like(a)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        out[:, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return out


def concatenate(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh out of many."""
    corners = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    triangles = np.cumsum([0] + [len(mesh.faces) for mesh in meshes])
    # Written once each: the arrays of a place are so large that copies of copies take longer than all the arithmetic.
    faces = np.empty((triangles[-1], 3), np.int32)
    normals = np.zeros((corners[-1], 3), np.float32)
    for k, mesh in enumerate(meshes):
        np.add(mesh.faces, np.int32(corners[k]), out=faces[triangles[k] : triangles[k + 1]])
        if mesh.normals.strides[0]:  # otherwise flat, see `place`
            normals[corners[k] : corners[k + 1]] = mesh.normals
    rest = {
        name: np.concatenate([getattr(mesh, name) for mesh in meshes])
        for name in ("vertices", "uv", "color", "slot", "material", "label", "instance")
    }
    return Mesh(faces=faces, normals=normals, **rest)


def place(
    mesh: Mesh,
    position: Sequence[float] | np.ndarray,
    yaw: float = 0.0,
    scale: float | Sequence[float] = 1.0,
    palette: Sequence[Sequence[float]] = (),
    instance: int = -1,
    label: int | None = None,
) -> Mesh:
    """A copy of a template at `position` metres, turned by `yaw` radians about z, in the colours of `palette`."""
    turn = yaw_matrix(yaw).astype(np.float32)
    size = np.broadcast_to(np.asarray(scale, np.float32), 3)
    vertices = mesh.vertices @ (turn * size).T
    vertices += np.asarray(position, np.float32)
    # Leaves and boxes have no normals of their own; one row of zeros stands for all of theirs.
    normals = (mesh.normals / size) @ turn.T if mesh.normals.any() else np.broadcast_to(_FLAT, vertices.shape)
    color = mesh.color
    if len(palette):
        table = np.asarray(palette, np.float32)
        color = np.where((mesh.slot >= 0)[:, None], table[np.clip(mesh.slot, 0, len(table) - 1)], color)
    count = len(mesh.faces)
    return Mesh(
        vertices=vertices,
        normals=normals,
        uv=mesh.uv,
        faces=mesh.faces,
        color=color,
        slot=mesh.slot,
        material=mesh.material,
        label=mesh.label if label is None else np.full(count, label, np.uint8),
        instance=np.broadcast_to(np.int32(instance), count),
    )


_FLAT = np.zeros((1, 3), np.float32)
_BOX = np.array(  # which of low (0) and high (1) each coordinate of the corners of a box's six sides takes
    [
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],
        [[1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]],
        [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]],
        [[0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]],
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],
        [[0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]],
    ],
    bool,
)
_TWO_TRIANGLES = np.array([0, 1, 2, 0, 2, 3], np.int32)


class Builder:
    """Collects solids into one mesh. Each method adds one kind of solid, with its colour, material and label."""

    def __init__(self, label: int) -> None:
        self.label = label
        self._size = 0  # vertices so far
        self._vertices: list[np.ndarray] = []
        self._normals: list[np.ndarray] = []
        self._uv: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._each: list[tuple[int, Any, Any, Any, Any]] = []  # triangles, colour, slot, material, label

    def add(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        color: Sequence[float] | np.ndarray = (0.5, 0.5, 0.5),
        material: int | np.ndarray = Material.PLAIN,
        *,
        smooth: bool = False,
        uv: np.ndarray | None = None,
        slot: int | np.ndarray = -1,
        label: int | None = None,
    ) -> None:
        """Adds triangles; `color` and `material` for all or per triangle."""
        vertices = np.ascontiguousarray(vertices, np.float32)
        count = len(faces)
        self._vertices.append(vertices)
        self._normals.append(_smooth_normals(vertices, faces) if smooth else np.zeros_like(vertices))
        self._uv.append(vertices[:, :2] if uv is None else np.asarray(uv, np.float32))
        self._faces.append(np.asarray(faces, np.int32) + np.int32(self._size))
        self._each.append((count, color, slot, material, self.label if label is None else label))
        self._size += len(vertices)

    def mesh(self) -> Mesh:
        """Everything added so far."""
        faces = np.concatenate(self._faces)
        color, slot = np.empty((len(faces), 3), np.float32), np.empty(len(faces), np.int8)
        material, label = np.empty(len(faces), np.uint8), np.empty(len(faces), np.uint8)
        arrays: tuple[np.ndarray, ...] = (color, slot, material, label)
        start = 0
        for count, *values in self._each:
            for array, value in zip(arrays, values):
                array[start : start + count] = value
            start += count
        return Mesh(
            vertices=np.concatenate(self._vertices),
            normals=np.concatenate(self._normals),
            uv=np.concatenate(self._uv),
            faces=faces,
            color=color,
            slot=slot,
            material=material,
            label=label,
            instance=np.full(len(faces), -1, np.int32),
        )

    def box(
        self,
        low: Sequence[float],
        high: Sequence[float],
        color: Rgb = (0.5, 0.5, 0.5),
        material: int = 0,
        **kwargs: Any,
    ) -> None:
        """An axis-aligned box between two corners; uv in metres on each side."""
        corners = np.where(_BOX, np.asarray(high, np.float32), np.asarray(low, np.float32))
        self.quads(corners, color, material, **kwargs)

    def quads(
        self,
        corners: np.ndarray,
        color: Rgb = (0.5, 0.5, 0.5),
        material: int = 0,
        *,
        uv: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        """`(Q, 4, 3)` corners in order around each quad; `uv` `(Q, 4, 2)`, by default metres from the first corner."""
        corners = np.asarray(corners, np.float32).reshape(-1, 4, 3)
        count = len(corners)
        if uv is None:
            sides = corners[:, (1, 3)] - corners[:, :1]
            sides *= sides
            uv = np.zeros((count, 4, 2), np.float32)
            uv[:, (1, 2), 0], uv[:, (2, 3), 1] = np.sqrt(sides.sum(2)).T[:, :, None]
        faces = (np.arange(0, 4 * count, 4, dtype=np.int32)[:, None] + _TWO_TRIANGLES).reshape(-1, 3)
        if isinstance(color, np.ndarray) and color.ndim == 2:
            color = np.repeat(color, 2, axis=0)
        self.add(corners.reshape(-1, 3), faces, color, material, uv=np.asarray(uv).reshape(-1, 2), **kwargs)

    def tubes(
        self,
        start: Points,
        end: Points,
        r0: float | Points,
        r1: float | Points,
        sides: int = 6,
        color: Rgb = (0.5, 0.5, 0.5),
        material: int = 0,
        *,
        caps: bool = False,
        **kwargs: Any,
    ) -> None:
        """`(K, 3)` start and end points, `(K,)` radii: tapered tubes."""
        start, end = np.atleast_2d(np.asarray(start, float)), np.atleast_2d(np.asarray(end, float))
        count = len(start)
        r0, r1 = np.broadcast_to(r0, count), np.broadcast_to(r1, count)
        axis = end - start
        length = np.linalg.norm(axis, axis=1, keepdims=True)
        axis = axis / np.maximum(length, 1e-9)
        other = np.where(np.abs(axis[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
        side = _cross(axis, other)
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        up = _cross(axis, side)
        angle = np.arange(sides) * (2 * np.pi / sides)
        ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
        vertices = np.stack(
            [start[:, None] + ring * r0[:, None, None], end[:, None] + ring * r1[:, None, None]], 1
        )  # (K, 2, sides, 3)
        i = np.arange(sides)
        j = (i + 1) % sides
        one = np.concatenate([np.stack([i, i + sides, j], 1), np.stack([j, i + sides, j + sides], 1)])
        if caps:
            k = np.arange(1, sides - 1)
            zero = np.zeros_like(k)
            one = np.concatenate(
                [one, np.stack([zero + sides, k + sides, k + 1 + sides], 1), np.stack([zero, k + 1, k], 1)]
            )
        faces = (np.arange(count)[:, None, None] * (2 * sides) + one).reshape(-1, 3)
        around = np.broadcast_to(angle[None, None] * r0[:, None, None], (count, 2, sides))
        along = np.broadcast_to(np.stack([np.zeros(count), length[:, 0]], 1)[:, :, None], (count, 2, sides))
        uv = np.stack([around, along], -1).reshape(-1, 2)
        self.add(vertices.reshape(-1, 3), faces, color, material, smooth=not caps and sides > 4, uv=uv, **kwargs)

    def ellipsoid(
        self,
        centre: Points,
        radii: Points,
        color: Rgb = (0.5, 0.5, 0.5),
        material: int = 0,
        *,
        rings: int = 5,
        sides: int = 8,
        **kwargs: Any,
    ) -> None:
        """An ellipsoid of `rings` by `sides` patches."""
        polar = np.linspace(0, np.pi, rings + 1)
        angle = np.arange(sides) * (2 * np.pi / sides)
        unit = np.stack(
            [
                np.sin(polar)[:, None] * np.cos(angle),
                np.sin(polar)[:, None] * np.sin(angle),
                np.cos(polar)[:, None] + 0 * angle,
            ],
            -1,
        )
        self.loft(unit * np.asarray(radii) + np.asarray(centre), color, material, closed=True, smooth=True, **kwargs)

    def loft(
        self,
        rings: np.ndarray,
        color: Rgb = (0.5, 0.5, 0.5),
        material: int | np.ndarray = 0,
        *,
        closed: bool = False,
        smooth: bool = True,
        **kwargs: Any,
    ) -> None:
        """`(K, R, 3)` rings of points joined to a skin; `color`, `material`, `slot` may be `(K - 1, R or R - 1)`."""
        rings = np.asarray(rings, np.float32)
        k, r = rings.shape[:2]
        columns = r if closed else r - 1
        i, j = np.meshgrid(np.arange(k - 1), np.arange(columns), indexing="ij")
        a, b = i * r + j, i * r + (j + 1) % r
        c, d = a + r, b + r
        faces = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], 2).reshape(-1, 3)

        def per_face(value: Rgb | int, channels: int) -> np.ndarray:
            values = np.asarray(value)
            if values.ndim == channels:
                return values
            return np.repeat(values.reshape(-1, *values.shape[2:]), 2, axis=0)

        if "slot" in kwargs:
            kwargs["slot"] = per_face(kwargs["slot"], 0)
        self.add(rings.reshape(-1, 3), faces, per_face(color, 1), per_face(material, 0), smooth=smooth, **kwargs)


def _smooth_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    normal = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length = twice the area
    total = np.zeros_like(vertices)
    for axis in range(3):
        total[:, axis] = np.bincount(faces.ravel(), np.repeat(normal[:, axis], 3), minlength=len(vertices))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.maximum(length, 1e-12)).astype(np.float32)


def refined(mesh: Mesh, longest: float) -> Mesh:
    """The same surface with no edge longer than `longest` metres: triangles are halved at their longest edge.

    No gaps open between neighbours: an edge is halved, in both of its triangles, exactly if it is too long.
    """
    table = np.concatenate([mesh.vertices, mesh.normals, mesh.uv], 1)
    many = _longest_edge(mesh.vertices[mesh.faces])[1] > longest
    of, rows = np.nonzero(many)[0], table[mesh.faces[many]]  # (K, 3, 8): each with corners of its own
    whole, parts, owners = np.nonzero(~many)[0], [], []
    while len(of):
        first = _longest_edge(rows[..., :3])[0]
        a, b, c = (rows[np.arange(len(of)), (first + k) % 3] for k in range(3))
        middle = (a + b) / 2
        rows = np.concatenate([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)])
        of = np.concatenate([of, of])
        small = _longest_edge(rows[..., :3])[1] <= longest
        parts.append(rows[small])
        owners.append(of[small])
        rows, of = rows[~small], of[~small]
    if not parts:
        return mesh
    corners = np.concatenate(parts).reshape(-1, table.shape[1])
    table = np.concatenate([table, corners]).astype(np.float32)
    own = len(mesh.vertices) + np.arange(len(corners), dtype=mesh.faces.dtype).reshape(-1, 3)
    face = np.concatenate([whole, *owners])
    return Mesh(
        vertices=table[:, :3],
        normals=table[:, 3:6],
        uv=table[:, 6:],
        faces=np.concatenate([mesh.faces[whole], own]),
        **{name: getattr(mesh, name)[face] for name in ("color", "slot", "material", "label", "instance")},
    )


def _longest_edge(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of `(K, 3, 3)` triangles: the corner from which the longest edge goes to the next corner, and its length."""
    step = np.roll(corners, -1, 1) - corners
    square = np.einsum("kij,kij->ki", step, step)
    return square.argmax(1), np.sqrt(square.max(1, initial=0.0))
