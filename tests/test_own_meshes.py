"""Meshes of one's own: glTF files built here byte by byte, and what becomes of them in frames and boxes."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.cli import main
from zoo.data import cityscapes
from zoo.data.terms import terms_of
from zoo.errors import InputError
from zoo.synthetic import render_scene
from zoo.synthetic.frames.own_meshes import with_meshes
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.shapes.surfaces import Label, Material
from zoo.synthetic.truth.boxes import bodies_of

pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
pytest.importorskip("trimesh", reason="the extra `mesh` is not installed")

from zoo.synthetic.shapes import own_mesh
from zoo.synthetic.shapes.own_mesh import read_mesh

QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
BOX = np.array([face for a, b, c, d in QUADS for face in ([a, b, c], [a, c, d])], "<u2")
"""A closed box over the eight corners of `corners`."""


def corners(size: tuple[float, float, float], at: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    unit = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float) - 0.5
    return (unit * size + at).astype("<f4")


def glb(
    parts: list[tuple[np.ndarray, np.ndarray]],
    material: Mapping[str, Any] | None = None,
    texture: np.ndarray | None = None,
    uv: np.ndarray | None = None,
    node: Mapping[str, Any] | None = None,
) -> bytes:
    """A binary glTF 2.0 file, by the specification: header, JSON chunk, binary chunk."""
    binary, views, accessors, primitives = b"", [], [], []

    def view(data: bytes) -> int:
        nonlocal binary
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary += data + bytes(-len(data) % 4)
        return len(views) - 1

    def accessor(array: np.ndarray, component: int, kind: str) -> int:
        about = {"bufferView": view(array.tobytes()), "componentType": component, "count": len(array), "type": kind}
        if kind == "VEC3":
            about |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        accessors.append(about)
        return len(accessors) - 1

    for vertices, faces in parts:
        attributes = {"POSITION": accessor(vertices.astype("<f4"), 5126, "VEC3")}
        if uv is not None:
            attributes["TEXCOORD_0"] = accessor(uv.astype("<f4"), 5126, "VEC2")
        flat = faces.astype("<u2").ravel()
        accessors.append(
            {"bufferView": view(flat.tobytes()), "componentType": 5123, "count": len(flat), "type": "SCALAR"}
        )
        primitives.append({"attributes": attributes, "indices": len(accessors) - 1, "material": 0})
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, **(node or {})}],
        "meshes": [{"primitives": primitives}],
        "materials": [dict(material or {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.25, 0.125, 1]}})],
        "accessors": accessors,
        "bufferViews": views,
    }
    if texture is not None:
        buffer = io.BytesIO()
        Image.fromarray(texture).save(buffer, "PNG")
        document["images"] = [{"bufferView": view(buffer.getvalue()), "mimeType": "image/png"}]
        document["textures"] = [{"source": 0}]
    document["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def written(folder: Path, content: bytes, name: str = "car.glb") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


CAR = (corners((1.8, 1.5, 4.2), (5, 7, 9)), BOX)  # glTF: 1.8 wide, 1.5 high, 4.2 long, anywhere


def test_axes_units_colours_and_ground(tmp_path: Path) -> None:
    # A plate is added at the front (+z), 0.1 m thick, to tell front from back.
    nose = (corners((0.2, 0.2, 0.4), (5, 7, 9 + 2.1 + 0.2)), BOX)
    own = read_mesh("car", written(tmp_path, glb([CAR, nose])))
    mesh = own.mesh
    # 4.2 + 0.4 long, centred; the nose is at +x.
    np.testing.assert_allclose(mesh.vertices.min(0), [-2.3, -0.9, 0], atol=1e-5)
    np.testing.assert_allclose(mesh.vertices.max(0), [2.3, 0.9, 1.5], atol=1e-5)
    ahead = mesh.vertices[mesh.vertices[:, 0] > 2.29]
    np.testing.assert_allclose(np.ptp(ahead, axis=0), [0, 0.2, 0.2], atol=1e-5)
    assert len(mesh.faces) == 24
    np.testing.assert_allclose(
        mesh.color, np.tile([0.5, 0.25, 0.125], (24, 1)), atol=0.003
    )  # linear, in steps of 1/255
    assert set(mesh.material.tolist()) == {Material.PAINT}
    assert set(mesh.label.tolist()) == {Label.CAR}
    # y is up and x is to the left in glTF (-x is right): something on +x ends up on our left, +y.
    mirror = (corners((0.2, 0.1, 0.1), (5 + 0.9 + 0.1, 7, 9)), BOX)
    left = read_mesh("car", written(tmp_path, glb([CAR, mirror]), "b.glb")).mesh
    outer = left.vertices[left.vertices[:, 1] > left.vertices[:, 1].max() - 1e-4]
    assert np.ptp(outer[:, 0]) == pytest.approx(0.1, abs=1e-5)


def test_nodes_textures_glass_and_rubber(tmp_path: Path) -> None:
    # A node that scales centimetres to metres.
    small = (corners((180, 150, 420)), BOX)
    mesh = read_mesh("car", written(tmp_path, glb([small], node={"scale": [0.01, 0.01, 0.01]}))).mesh
    assert mesh.vertices[:, 0].max() == pytest.approx(2.1, abs=1e-4)
    glass = {"alphaMode": "BLEND", "pbrMetallicRoughness": {"baseColorFactor": [0.2, 0.3, 0.4, 0.5]}}
    mesh = read_mesh("car", written(tmp_path, glb([CAR], material=glass), "glass.glb")).mesh
    assert set(mesh.material.tolist()) == {Material.GLASS}
    tyre = {"pbrMetallicRoughness": {"baseColorFactor": [0.03, 0.03, 0.03, 1.0], "roughnessFactor": 0.9}}
    mesh = read_mesh("car", written(tmp_path, glb([CAR], material=tyre), "tyre.glb")).mesh
    assert set(mesh.material.tolist()) == {Material.RUBBER}
    # The upper left quarter of the picture is a mid grey of 188, which is 0.5 in linear light; v counts downwards.
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, :4] = 188
    textured = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    content = glb([CAR], material=textured, texture=picture, uv=np.full((8, 2), [0.2, 0.2]))
    mesh = read_mesh("car", written(tmp_path, content, "texture.glb")).mesh
    np.testing.assert_allclose(mesh.color, 0.5, atol=0.01)


def test_a_car_in_the_place_of_parked_ones(tmp_path: Path) -> None:
    own = read_mesh("car", written(tmp_path, glb([CAR])))
    scene = describe(25)
    dressed = with_meshes(scene, [own])
    still = [thing for thing in scene.things if thing.kind == "car" and not thing.moves]
    assert still
    replaced = [b for a, b in zip(scene.things, dressed.things) if a != b]
    assert len(replaced) == len(still)
    sizes = {(body.kind, *np.round(body.high - body.low, 3)) for body in bodies_of(dressed) if not body.thing.moves}
    assert [size for size in sizes if size[0] in ("car", "van")] == [("car", 4.2, 1.8, 1.5)]
    parked = {thing.instance + 1 for thing in still}
    seed = next(s for s in (25, 28, 35, 39, 44) if _shown(s, own)[1].any())
    frame, mine = _shown(seed, own)
    camera = frame.camera
    plain = next(iter(render_scene(seed, 1, rig=_rig(), size=(94, 310), exact=True))).camera
    assert set(camera.labels[mine].tolist()) == {Label.CAR}
    assert not np.array_equal(camera.image, plain.image)
    tracks = set((camera.instances[mine] % 1000).tolist())
    boxes = {box.track: box for box in frame.boxes or ()}
    assert tracks & set(boxes)
    for track in tracks & set(boxes):
        np.testing.assert_allclose(boxes[track].size, [4.2, 1.8, 1.5], atol=1e-4)
    assert seed != 25 or tracks <= parked
    # Twice the same bytes.
    again, _ = _shown(seed, own)
    np.testing.assert_array_equal(again.camera.image, camera.image)


def _rig():
    from zoo.synthetic.sensors.rigs import RIGS

    own = RIGS["kitti"]
    return replace(own, cameras={"image_2": own.cameras["image_2"]}, lidars={})


def _shown(seed: int, own: Any) -> tuple[Any, np.ndarray]:
    """A frame, and its pixels that show parked cars whose boxes are the mesh's."""
    frame = next(iter(render_scene(seed, 1, rig=_rig(), size=(94, 310), meshes=[own], exact=True)))
    parked = [box.track for box in frame.boxes or () if box.label == Label.CAR and not box.moving]
    instances = frame.camera.instances
    return frame, (instances >= 1000) & np.isin(instances % 1000, parked) & (instances // 1000 == 26)


def test_a_person(tmp_path: Path) -> None:
    path = written(tmp_path, glb([(corners((0.5, 1.75, 0.3)), BOX)]), "p.glb")
    own = read_mesh("person", path)
    assert set(own.mesh.material.tolist()) == {Material.CLOTH}
    assert set(own.mesh.label.tolist()) == {Label.PERSON}
    scene = next(s for s in map(describe, range(20, 60)) if any(t.kind == "person" and not t.moves for t in s.things))
    bodies = [body for body in bodies_of(with_meshes(scene, [own])) if body.kind == "person" and not body.thing.moves]
    np.testing.assert_allclose(bodies[0].high - bodies[0].low, [0.3, 0.5, 1.75], atol=1e-4)


def test_the_command_and_its_licence(tmp_path: Path, capsys) -> None:
    path = written(tmp_path, glb([CAR]))
    out = tmp_path / "data"
    command = [
        "synthetic",
        "--layout",
        "cityscapes",
        "--frames",
        "2",
        "--scenes",
        "1",
        "--seed",
        "25",
        "--size",
        "48x80",
    ]
    command += ["--workers", "2", "--out", str(out)]
    assert main([*command, "--mesh", f"car={path}"]) == 0
    record = json.loads((out / "synthetic.json").read_text())
    assert [(row["kind"], len(row["sha256"])) for row in record["meshes"]] == [("car", 64)]
    # What may be done with these frames depends on the mesh, whose licence nobody has told.
    assert terms_of(cityscapes.read(out, "val")).commercial is None
    assert main([*command, "--resume"]) == 2
    assert "was started with meshes" in capsys.readouterr().err
    path.write_bytes(glb([(corners((1.8, 1.5, 4.3)), BOX)]))
    read_mesh.cache_clear()
    assert main([*command, "--resume", "--mesh", f"car={path}"]) == 2
    assert "was started with meshes" in capsys.readouterr().err


OPEN = glb([(CAR[0], BOX[:-1])])


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("car", b"", "is not a valid glTF file"),
        ("car", b"not a mesh at all", "is not a valid glTF file"),
        ("car", glb([CAR])[:200], "is not a valid glTF file"),
        ("car", OPEN, "is not closed: 3 of 18 edges belong to an odd number of triangles"),
        ("car", glb([(corners((180, 150, 420)), BOX)]), "is 420 m long; a car is 1.5 to 8 m. glTF is in metres"),
        ("car", glb([(corners((1.8, 4.2, 1.5)), BOX)]), "is 4.2 m high; a car is 0.7 to 4 m"),
        ("person", glb([(corners((1.8, 1.5, 4.2)), BOX)]), "a person is 0.05 to 2 m"),
        ("car", glb([(np.full((8, 3), np.nan, "<f4"), BOX)]), "car.glb"),
        ("bus", glb([CAR]), "unknown kind of mesh 'bus'; known: car, person"),
        ("carr", glb([CAR]), "unknown kind of mesh 'carr'; closest: car"),
    ],
)
def test_broken_meshes(kind: str, content: bytes, message: str, tmp_path: Path, capsys) -> None:
    path = written(tmp_path, content)
    with pytest.raises(InputError) as error:
        read_mesh(kind, path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    out = tmp_path / "data"
    command = ["synthetic", "--layout", "cityscapes", "--frames", "1", "--mesh", f"{kind}={path}", "--out", str(out)]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_limits_and_names(tmp_path: Path, monkeypatch, capsys) -> None:
    path = written(tmp_path, glb([CAR]))
    monkeypatch.setattr(own_mesh, "MAX_TRIANGLES", 11)
    with pytest.raises(InputError, match="has 12 triangles; at most 11 are read, simplify the mesh"):
        read_mesh("car", path)
    monkeypatch.setattr(own_mesh, "MAX_BYTES", 100)
    with pytest.raises(InputError, match=r"car\.glb"):
        read_mesh("car", path)
    with pytest.raises(InputError, match=r"is not a \.glb file"):
        read_mesh("car", tmp_path / "car.gltf")
    with pytest.raises(InputError, match="does not exist"):
        read_mesh("car", tmp_path / "none.glb")
    assert main(["synthetic", "--layout", "kitti", "--frames", "1", "--mesh", "car", "--out", str(tmp_path / "o")]) == 2
    assert "--mesh car: expected KIND=FILE.glb" in capsys.readouterr().err


def test_empty_mesh(tmp_path: Path) -> None:
    document = json.dumps({"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}]}).encode()
    document += b" " * (-len(document) % 4)
    chunk = struct.pack("<II", len(document), 0x4E4F534A) + document
    path = written(tmp_path, struct.pack("<4sII", b"glTF", 2, 12 + len(chunk)) + chunk)
    with pytest.raises(InputError, match=r"has no triangles|is not a valid glTF file"):
        read_mesh("car", path)
