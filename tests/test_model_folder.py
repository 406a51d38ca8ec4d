"""Model folders: written by an independent script, read with every check; and what is wrong with one is said."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from model_folders import agree, example, seal
from PIL import Image, ImageOps
from tolerances import assert_close

import zoo
from zoo.cli import main
from zoo.errors import InputError, IntegrityError, NotReleasedError
from zoo.folder.catalogue import BUNDLED, entries
from zoo.folder.model_folder import ModelFolder, write_manifest
from zoo.inputs import input_from_json

SCHEMA = json.loads((Path(zoo.__file__).parent / "folder" / "config.schema.json").read_text())
UNRELEASED = [name for name, entry in entries().items() if not entry.released]
RELEASED = [name for name, entry in entries().items() if entry.released]


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """The file format by hand: 8 bytes of header length, a JSON header, the data."""
    names = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header: dict[str, object] = {}
    data = b""
    for name, tensor in tensors.items():
        raw = np.ascontiguousarray(tensor).tobytes()
        header[name] = {
            "dtype": names[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_folder(path: Path, **changes: object) -> Path:
    """A linear segmenter of two classes on a tiny vision transformer, made without this project's writer.

    The network is constant: all weights zero but the classifier's bias, which prefers class 1.
    """
    path.mkdir()
    width, patch = 8, 4
    zeros = {
        "encoder.class_token": (1, 1, width),
        "encoder.position_embedding": (1, 5, width),
        "encoder.projection.weight": (width, 3, patch, patch),
        "encoder.projection.bias": (width,),
        "encoder.norm.weight": (width,),
        "encoder.norm.bias": (width,),
        "head.classifier.weight": (2, width, 1, 1),
    }
    for name, shape in {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,),
        "mlp.fc2.weight": (width, 4 * width),
        "mlp.fc2.bias": (width,),
    }.items():
        zeros[f"encoder.blocks.0.{name}"] = shape
    tensors = {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    tensors["head.classifier.bias"] = np.array([0.0, np.log(3.0)], np.float32)  # softmax: 1/4 and 3/4
    write_safetensors(path / "weights.safetensors", tensors)
    options = {"embed_dim": width, "depth": 1, "num_heads": 2, "img_size": 8, "patch_size": patch}
    config = {
        "format": 1,
        "name": "two-classes",
        "task": "segmentation2d",
        "architecture": {
            "encoder": {
                "class": "zoo.encoders.vit:ViT",
                "arguments": {"model": "vit_tiny_patch16_224", "options": options},
            },
            "head": {"class": "zoo.heads.linear:LinearHead"},
        },
        "inputs": [{"kind": "image", "preprocessing": {"size_multiple": 4}}],
        "output": {
            "classes": {"taxonomy": "ground", "names": ["floor", "wall"], "colors": [[10, 20, 30], [200, 100, 0]]}
        },
        "artefacts": [
            {
                "file": "weights.safetensors",
                "engine": "torch",
                "precision": "fp32",
                "sha256": hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest(),
            }
        ],
        **changes,
    }
    (path / "config.json").write_text(json.dumps(config))
    seal(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model")


def test_a_folder_made_by_another_script_loads_and_predicts(folder: Path) -> None:
    jsonschema.validate(json.loads((folder / "config.json").read_text()), SCHEMA)
    predictor = zoo.load(folder)
    prediction = predictor(np.full((13, 7, 3), 77, np.uint8))
    assert prediction.labels.shape == (13, 7)
    assert (prediction.labels == 1).all()
    assert_close(prediction.scores, 0.75)
    assert prediction.class_names == ("floor", "wall")
    # 0.5 * (77, 77, 77) + 0.5 * (200, 100, 0) = (138.5, 88.5, 38.5), rounded to even
    assert prediction.overlay(0.5).getpixel((3, 5)) == (138, 88, 38)
    assert prediction.fractions() == {"wall": 1.0}


def test_every_kind_of_input_gives_the_same(folder: Path, tmp_path: Path) -> None:
    predictor = zoo.load(folder)
    image = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    sources = [image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png")]
    from zoo.frame import frame_from_image

    for source in [*sources, frame_from_image(image)]:
        prediction = predictor(source)
        assert prediction.labels.shape == (21, 34)
        assert np.array_equal(prediction.image, image)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "multiply by 255"),
        (np.zeros((4, 4), np.uint8), r"\(H, W, 3\) uint8 RGB, got \(4, 4\) uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (17, "got int"),
    ],
)
def test_what_is_no_image_is_refused(folder: Path, wrong: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        zoo.load(folder)(wrong)  # type: ignore[arg-type]


def damage_manifest_missing(folder: Path) -> None:
    (folder / "MANIFEST.json").unlink()


def test_a_file_upright_by_its_exif_data_gives_what_viewers_show(folder: Path, tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to show": the rows are stored turned the other way
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / "turned.png", exif=exif)
    predictor = zoo.load(folder)
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        prediction = predictor(source)
        assert (prediction.image == upright).all()
        assert prediction.labels.shape == (6, 10)


@pytest.mark.parametrize("exif", [b"II", b"garbage", b"MM\x00*\x00\x00\x00\x08\xff\xff"])
def test_damaged_exif_data_does_not_hide_the_pixels(exif: bytes, folder: Path, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png", exif=exif)
    assert (zoo.load(folder)(tmp_path / "a.png").image == np.asarray(image)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_turn_is_that_of_pillow(orientation: int, folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    assert (zoo.load(folder)(tmp_path / "a.png").image == expected).all()


def test_16_bit_grey_is_the_same_from_a_file_and_from_pil(folder: Path, tmp_path: Path) -> None:
    grey = np.array([[0, 256, 32768, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for source in (tmp_path / "grey.png", Image.open(tmp_path / "grey.png"), Image.fromarray(grey)):
        # the upper 8 bits
        assert zoo.load(folder)(source).image[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floating_point_images_are_refused(folder: Path) -> None:
    image = Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4))
    with pytest.raises(InputError, match="floating point"):
        zoo.load(folder)(image)


def test_a_file_with_other_classes_than_its_configuration_is_refused(tmp_path: Path) -> None:
    folder = ModelFolder.open(BUNDLED / RELEASED[0]).copy_to(tmp_path / "copy")
    config = json.loads((folder.path / "config.json").read_text())
    config["output"]["classes"] = {"taxonomy": "ground", "names": ["floor"], "colors": [[1, 2, 3]]}
    (folder.path / "config.json").write_text(json.dumps(config))
    write_manifest(folder.path)
    with pytest.raises(InputError, match="returns 19 classes, but the configuration lists 1"):
        zoo.load(folder.path, engine="onnx")(np.zeros((32, 32, 3), np.uint8))


def damage_hash(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def damage_truncated(folder: Path) -> None:
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(content[:-100])


def damage_truncated_and_sealed(folder: Path) -> None:
    damage_truncated(folder)
    agree(folder)


def damage_hash_and_manifest(folder: Path) -> None:
    damage_hash(folder)
    seal(folder)


def damage_config_edited(folder: Path) -> None:
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("wall", "hall"))


def damage_version(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 2}))
    seal(folder)


def damage_no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    seal(folder)


def damage_other_shape(folder: Path) -> None:
    write_safetensors(folder / "weights.safetensors", {"head.classifier.bias": np.zeros(3, np.float32)})
    agree(folder)


def damage_missing_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def damage_outside(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["artefacts"][0]["file"] = "../secret"
    (folder / "config.json").write_text(json.dumps(config))
    (folder.parent / "secret").write_bytes((folder / "weights.safetensors").read_bytes())
    seal(folder)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"]["../secret"] = manifest["files"]["weights.safetensors"]
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def change_config(folder: Path, **sections: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **sections}))
    seal(folder)


def damage_manifest_entry(folder: Path) -> None:
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"]["config.json"]["size"] = "many"
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def damage_no_encoder(folder: Path) -> None:
    change_config(folder, architecture={})


def damage_task(folder: Path) -> None:
    change_config(folder, task="segmentation")


def damage_input_kind(folder: Path) -> None:
    change_config(folder, inputs=[{"kind": "images"}])


def damage_input_key(folder: Path) -> None:
    change_config(folder, inputs=[{"kind": "image", "preprocesing": {}}])


def damage_section_kind(folder: Path) -> None:
    change_config(folder, inputs=[1])


def damage_color(folder: Path) -> None:
    classes = {"taxonomy": "a", "names": ["a", "b"], "colors": [[1, 2, 300], [0, 0, 0]]}
    change_config(folder, output={"classes": classes})


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (damage_manifest_missing, "has no MANIFEST.json"),
    (damage_hash, "has the SHA-256"),
    (damage_truncated, r"bytes, but MANIFEST.json says"),
    (damage_truncated_and_sealed, "not a complete safetensors file"),
    (damage_hash_and_manifest, "disagree about weights.safetensors"),
    (damage_config_edited, "has the SHA-256"),
    (damage_version, "format 2; this version reads format 1"),
    (damage_no_json, "not valid JSON"),
    (damage_other_shape, "does not match its architecture"),
    (damage_missing_weights, "is missing"),
    (damage_outside, r"has the key '\.\./secret'.*expected a relative path"),
    (damage_manifest_entry, r"config.json.*\.size is 'many'; expected a whole number"),
    (damage_no_encoder, "architecture lacks encoder"),
    (damage_task, "unknown task 'segmentation'; closest: segmentation3d, segmentation2d"),
    (damage_input_kind, "unknown input 'images'; closest: image"),
    (damage_input_key, r"inputs\[0\]: has the unknown key 'preprocesing'; closest: preprocessing"),
    (damage_section_kind, r"inputs\[0\] is 1; expected a table"),
    (damage_color, r"output: classes\.colors\[0\]\[2\] is 300; expected at most 255"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[d.__name__ for d, _ in DAMAGES])
def test_damage_is_found_before_anything_is_used(
    folder: Path, damage: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message):
        zoo.load(folder)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert main(["predict", str(folder), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", UNRELEASED)
def test_unreleased_names_say_so_and_can_be_created(name: str) -> None:
    with pytest.raises(NotReleasedError, match=f"weights of {name} are not released; recipe: "):
        zoo.load(name)
    assert zoo.info(name).recipe


def test_unknown_names_offer_the_closest() -> None:
    with pytest.raises(InputError, match=r"closest: .*clcp-vit-s-a2d2"):
        zoo.load("clcp-vit-s-a2d3")
    with pytest.raises(InputError, match=r"closest: .*clcp-vit-s-a2d2"):
        zoo.create("clcp-vit-s-a2d3")
    with pytest.raises(InputError, match="expected hf-hub:org/name"):
        zoo.load("hf-hub:name")


def test_recording_does_not_make_a_changed_file_right(folder: Path) -> None:
    opened = ModelFolder.open(folder)
    artefact = opened.config["artefacts"][0]
    with open(folder / artefact["file"], "ab") as handle:
        handle.write(b"!")
    opened.record([{"artefact_sha256": artefact["sha256"], "miou": 0.25}], ["artefact_sha256"])
    again = ModelFolder.open(folder)
    assert again.metrics()[0]["miou"] == 0.25
    with pytest.raises(IntegrityError, match=r"bytes, but MANIFEST.json says"):
        again.verify()


def test_rows_are_recorded_by_the_hash_of_the_measured_file(folder: Path) -> None:
    opened = ModelFolder.open(folder)
    sha = opened.artefact("torch")["sha256"]
    key = ("artefact_sha256", "data", "group")
    opened.record([{"artefact_sha256": sha, "data": "acdc", "group": "fog", "miou": 0.25}], key)
    opened = ModelFolder.open(folder)
    opened.record(
        [
            {"artefact_sha256": sha, "data": "acdc", "group": "fog", "miou": 0.5},
            {"artefact_sha256": sha, "data": "acdc", "group": "night", "miou": 0.125},
        ],
        key,
    )
    opened = ModelFolder.open(folder)
    opened.verify()
    assert [(row["group"], row["miou"]) for row in opened.metrics()] == [("fog", 0.5), ("night", 0.125)]
    with pytest.raises(InputError, match="does not hold"):
        opened.record([{"artefact_sha256": "0" * 64}], key)


def test_a_copy_is_verified_and_never_overwrites(folder: Path, tmp_path: Path) -> None:
    copy = ModelFolder.open(folder).copy_to(tmp_path / "copy")
    copy.verify()
    assert {p.name for p in copy.path.iterdir()} == {p.name for p in folder.iterdir()}
    with pytest.raises(InputError, match="exists already"):
        ModelFolder.open(folder).copy_to(tmp_path / "copy")
    damage_hash(folder)
    with pytest.raises(IntegrityError):
        ModelFolder.open(folder).copy_to(tmp_path / "second")
    assert not (tmp_path / "second").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("name", RELEASED)
def test_released_models(name: str) -> None:
    folder = ModelFolder.open(BUNDLED / name)
    folder.verify()
    jsonschema.validate(json.loads((folder.path / "config.json").read_text()), SCHEMA)
    entry = entries()[name]
    assert folder.name == name
    assert folder.task.classes == entry.classes
    assert folder.inputs == tuple(input_from_json(section) for section in entry.inputs)
    for key in ("architecture",):
        expected = json.loads(json.dumps(getattr(entry, key)))
        assert folder.config[key] == expected
    assert (folder.path / "LICENSE").read_text().startswith(name)
    assert folder.config["licence"]["weights"] == entry.licence
    measured = {row["artefact_sha256"] for row in folder.metrics()}
    assert folder.artefact("torch")["sha256"] in measured, "a published file carries measured numbers"
    source, shape = example(name)
    prediction = zoo.load(name)(source)
    assert prediction.labels.shape == prediction.scores.shape == shape
    with pytest.raises(InputError, match="part of the installed package"):
        zoo.load(name).record([], ())


def test_released_models_fit_the_budget() -> None:
    sizes = {name: (BUNDLED / name / "model.safetensors").stat().st_size for name in RELEASED}
    assert sum(size for name, size in sizes.items() if entries()[name].modality == "camera") <= 25_000_000
    for name, size in sizes.items():
        if entries()[name].modality == "lidar":
            assert size <= (6_000_000 if "range" in name else 8_000_000)


def test_the_installed_folder_is_never_written(tmp_path: Path) -> None:
    name = RELEASED[0]
    before = (BUNDLED / name / "MANIFEST.json").read_bytes()
    assert main(["copy", name, str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / "MANIFEST.json").read_bytes() == before
    shutil.rmtree(tmp_path / "mine")
