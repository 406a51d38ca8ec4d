"""Meshes of one's own from glTF files, as cars that are parked and people who stand.

A file is a `.glb` of glTF 2.0: metres, y up, z ahead. It is turned to x ahead, y left, z up, and moved so that its
middle is above the origin and its lowest point on the ground. All of its triangles count, with the transforms of their
nodes; skins, animations, cameras and lights do not.

Colours are `baseColorFactor` times the texture's or the vertices' colour, one per triangle. What is transparent is
glass; the rest is a car's paint or a person's cloth, and rubber where a car is rough and nearly black. Triangles are
flat.

The surface must be closed: each edge, of vertices in the same place, belongs to an even number of triangles. Through a
hole a ray would see the inside.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError, closest, require
from zoo.files import read_regular
from zoo.synthetic.shapes.mesh import Mesh
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["KINDS", "MAX_BYTES", "MAX_TRIANGLES", "OwnMesh", "read_mesh"]

MAX_BYTES = 64 * 1024 * 1024
MAX_TRIANGLES = 200_000
KINDS: dict[str, tuple[Label, tuple[tuple[float, float], ...]]] = {
    "car": (Label.CAR, ((1.5, 8.0), (0.8, 3.2), (0.7, 4.0))),
    "person": (Label.PERSON, ((0.05, 2.0), (0.05, 2.0), (0.5, 2.5))),
}
"""Label of each kind, and the least and greatest length, width and height in metres."""
_SAME_PLACE_M = 1e-5


@dataclass(frozen=True)
class OwnMesh:
    """A mesh of one's own.

    Attributes:
        kind: Of `KINDS`.
        mesh: In the axes and units of a template.
        sha256: Of the file.
    """

    kind: str
    mesh: Mesh = field(repr=False, compare=False)
    sha256: str


@lru_cache(maxsize=64)
def read_mesh(kind: str, path: Path) -> OwnMesh:
    """The mesh in a `.glb` file, read once per process.

    Args:
        kind: What it stands for, of `KINDS`.
        path: The file.

    Raises:
        InputError: If the kind is unknown, or the file is missing, too large, broken, empty, not closed, or of a size
            that no such thing has.
        MissingExtraError: If trimesh is not installed.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of mesh {kind!r}{closest(kind, KINDS)}; known: {', '.join(KINDS)}")
    if path.suffix.lower() != ".glb":
        raise InputError(f"{path} is not a .glb file; export the mesh as binary glTF, with its textures inside")
    try:
        content = read_regular(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; --mesh takes KIND=FILE.glb") from error
    vertices, faces, color, material = _triangles(content, path, kind)
    if not np.isfinite(vertices).all():
        raise InputError(f"{path} has vertices that are not finite numbers; repair the mesh")
    vertices = vertices[:, [2, 0, 1]]
    low, high = vertices.min(0), vertices.max(0)
    _check_size(path, kind, high - low)
    vertices -= np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    faces, color, material = _closed(path, vertices, faces, color, material)
    count = len(faces)
    mesh = Mesh(
        vertices=vertices.astype(np.float32),
        normals=np.zeros((len(vertices), 3), np.float32),
        uv=vertices[:, :2].astype(np.float32),
        faces=faces.astype(np.int32),
        color=color.astype(np.float32),
        slot=np.full(count, -1, np.int8),
        material=material.astype(np.uint8),
        label=np.full(count, KINDS[kind][0], np.uint8),
        instance=np.full(count, -1, np.int32),
    )
    return OwnMesh(kind, mesh, hashlib.sha256(content).hexdigest())


def _triangles(content: bytes, path: Path, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`(N, 3)` vertices in glTF's axes, `(M, 3)` faces, `(M, 3)` linear colours and `(M,)` materials of a file."""
    try:
        import trimesh
    except ImportError as error:
        raise require("trimesh", "mesh", "reading glTF files") from error
    try:
        # From memory there is no folder that references to other files could be resolved in.
        scene = trimesh.load_scene(io.BytesIO(content), file_type="glb")
        every = [part for part in scene.dump(concatenate=False) if isinstance(part, trimesh.Trimesh)]
    except Exception as error:  # whatever its parser meets in a broken file
        raise InputError(f"{path} is not a valid glTF file: {' '.join(str(error).split()) or repr(error)}") from error
    parts = [part for part in every if len(part.faces)]
    count = sum(len(part.faces) for part in parts)
    if not count:
        raise InputError(f"{path} has no triangles; export a mesh, without compression extensions such as Draco")
    if count > MAX_TRIANGLES:
        raise InputError(f"{path} has {count:,} triangles; at most {MAX_TRIANGLES:,} are read, simplify the mesh")
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    looks = [_looks(part, kind) for part in parts]
    return (
        np.concatenate([np.asarray(part.vertices, float) for part in parts]),
        np.concatenate([np.asarray(part.faces) + start for part, start in zip(parts, starts)]),
        np.concatenate([color for color, _ in looks]),
        np.concatenate([material for _, material in looks]),
    )


def _looks(part: Any, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """`(M, 3)` linear colours and `(M,)` materials of the triangles of one part."""
    count, visual = len(part.faces), part.visual
    rgba, rough = np.ones((count, 4)), 1.0
    if visual.kind == "texture" and visual.material is not None:
        pbr = visual.material.to_pbr() if hasattr(visual.material, "to_pbr") else visual.material
        if pbr.baseColorFactor is not None:
            rgba *= np.asarray(pbr.baseColorFactor, float) / 255
        rough = 1.0 if pbr.roughnessFactor is None else float(pbr.roughnessFactor)
        if pbr.baseColorTexture is not None and visual.uv is not None:
            rgba *= _texels(pbr.baseColorTexture, np.asarray(visual.uv)[part.faces].mean(1))
        if pbr.alphaMode not in ("BLEND", "MASK"):
            rgba[:, 3] = 1
    elif visual.kind in ("vertex", "face"):
        rgba *= np.asarray(visual.face_colors, float) / 255
    color, alpha = np.clip(rgba[:, :3], 0.02, 0.9), rgba[:, 3]
    if kind == "person":
        return color, np.full(count, Material.CLOTH)
    dark = (color.max(1) < 0.08) & (rough > 0.6)
    material = np.where(dark, Material.RUBBER, Material.PAINT)
    return color, np.where(alpha < 0.9, Material.GLASS, material)


def _texels(image: Any, uv: np.ndarray) -> np.ndarray:
    """`(M, 4)` linear colours of an sRGB picture at texture coordinates; v counts from the bottom."""
    pixels = np.asarray(image.convert("RGBA"), float) / 255
    height, width = pixels.shape[:2]
    uv = np.nan_to_num(uv) % 1.0
    column = np.minimum((uv[:, 0] * width).astype(int), width - 1)
    row = np.minimum(((1 - uv[:, 1]) * height).astype(int), height - 1)
    found = pixels[row, column]
    srgb = found[:, :3]
    found[:, :3] = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return found


def _check_size(path: Path, kind: str, size: np.ndarray) -> None:
    for name, value, (least, most) in zip(("long", "wide", "high"), size.tolist(), KINDS[kind][1]):
        if not least <= value <= most:
            raise InputError(
                f"{path} is {value:.3g} m {name}; a {kind} is {least:g} to {most:g} m. glTF is in metres with y up and "
                "z ahead: scale or turn the mesh"
            )


def _closed(
    path: Path, vertices: np.ndarray, faces: np.ndarray, color: np.ndarray, material: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces, colours and materials without triangles that are only a line; refuses a surface with holes."""
    _, place = np.unique(np.round(vertices / _SAME_PLACE_M), axis=0, return_inverse=True)
    corners = place.reshape(-1)[faces]
    solid = (corners != np.roll(corners, 1, 1)).all(1)
    edges = np.sort(np.stack([corners[solid], np.roll(corners[solid], -1, 1)], 2).reshape(-1, 2), 1)
    found, count = np.unique(edges, axis=0, return_counts=True)
    holes = found[count % 2 == 1]
    if not solid.any() or len(holes):
        if not solid.any():
            raise InputError(f"{path} has only triangles without an area; repair the mesh")
        x, y, z = vertices[np.nonzero(place.reshape(-1) == holes[0, 0])[0][0]]
        raise InputError(
            f"{path} is not closed: {len(holes)} of {len(found)} edges belong to an odd number of triangles, one of "
            f"them {x:.2f} m ahead, {y:.2f} m left and {z:.2f} m above the middle of the ground; fill the holes"
        )
    return faces[solid], color[solid], material[solid]
