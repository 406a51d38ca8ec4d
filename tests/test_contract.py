"""The contract in an exported file's metadata is enough to run the file, and says nothing that is not in use."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import follow_contract
import jsonschema
import numpy as np
import onnx
import pytest
from PIL import Image
from test_export import SCHEMA, graph_of, write_model

import zoo
from zoo.cli import main
from zoo.contract import joined
from zoo.engines.onnx_file import metadata
from zoo.export.samples import FrameSet, embedded_set
from zoo.folder.card import render_card
from zoo.folder.model_folder import ModelFolder, write_manifest
from zoo.inputs.image import ImageInput
from zoo.inputs.image_contract import image_contract
from zoo.inputs.preprocessing import Preprocessing
from zoo.inputs.windows import InferenceMode

REAL = Path(__file__).parents[2] / "shared" / "real"
BUNDLED = "supervised-resnet18w48-synthetic.fpn-camvid"


def write_pictures(folder: Path) -> list[Path]:
    """Odd sizes, upright, smaller than the model works at, a strip, grey with transparency, turned by EXIF."""
    folder.mkdir()
    rng = np.random.default_rng(0)

    def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
        channels = len(mode) if mode != "LA" else 2
        small = rng.integers(0, 256, (height // 5 + 2, width // 5 + 2, channels), dtype=np.uint8)
        return Image.fromarray(small, mode).resize((width, height), Image.Resampling.BICUBIC)

    for name, image in {
        "odd": picture(97, 141),
        "upright": picture(163, 75),
        "small": picture(21, 29),
        "tiny": picture(7, 9),
        "strip": picture(10, 200),
        "same": picture(32, 53),
        "transparent": picture(61, 80, "LA"),
    }.items():
        image.save(folder / f"{name}.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(60, 90).save(folder / "turned.png", exif=turned)
    return sorted(folder.iterdir())


def predicted(model: Path | str, pictures: list[Path], out: Path, *options: str) -> dict[str, np.ndarray]:
    """Labels that `zoo predict` writes."""
    words = ["predict", str(model), *map(str, pictures), "--out", str(out), "--engine", "onnx", *options]
    assert main(words) == 0
    return {picture.stem: np.asarray(Image.open(out / f"{picture.stem}.png")) for picture in pictures}


def agreement(file: Path, pictures: list[Path], expected: dict[str, np.ndarray], contract: Any = None) -> float:
    """Share of all pixels that have the same label when the contract is followed."""
    found = {picture.stem: follow_contract.follow(str(file), str(picture), contract)[0] for picture in pictures}
    assert {name: labels.shape for name, labels in found.items()} == {name: e.shape for name, e in expected.items()}
    same = sum(int((found[name] == expected[name]).sum()) for name in expected)
    return same / sum(labels.size for labels in expected.values())


def test_the_follower_imports_nothing_of_ours() -> None:
    text = Path(follow_contract.__file__).read_text()
    lines = [line.split() for line in text.splitlines() if line.startswith(("import", "from"))]
    assert {words[1].split(".")[0] for words in lines} == {
        "__future__", "json", "math", "numpy", "onnxruntime", "PIL", "typing",
    }  # fmt: skip


NORMALISATIONS: dict[str, dict[str, Any]] = {
    "constant": {"normalisation": "constant", "mean": [0.4, 0.5, 0.3], "std": [0.25, 0.2, 0.3]},
    "image": {"normalisation": "image"},
}

WRONG: dict[str, dict[str, Any]] = {
    "resize": {"antialias": False},
    "normalise": {"kind": "constant", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "pad": {"kind": "constant"},
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """torch's exporter takes long; the graph is the same for every normalisation."""
    model = write_model(tmp_path_factory.mktemp("graph") / "model")
    return graph_of(zoo.load(model, engine="torch").module, (24, 32))


@pytest.fixture
def export(tmp_path: Path, graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelFolder]:
    """`zoo export` of a small model with this preprocessing, and perhaps with windows."""

    def make(*options: str, inference: dict[str, Any] | None = None, **preprocessing: Any) -> ModelFolder:
        monkeypatch.setattr("zoo.export.graph.to_onnx", lambda *_, **__: copy.deepcopy(graph))
        monkeypatch.setattr("zoo.inputs.image._SHAPE_PIXELS", 1000)  # the gate has tests of its own
        monkeypatch.setattr(
            "zoo.export.samples.embedded_set", lambda input: FrameSet("embedded", embedded_set(input).frames[:1])
        )
        model = write_model(tmp_path / "model", **preprocessing)
        if inference is not None:
            config = json.loads((model / "config.json").read_text())
            config["inputs"][0]["inference"] = inference
            (model / "config.json").write_text(json.dumps(config))
            write_manifest(model)
        assert main(["export", str(model), "--out", str(tmp_path / "out"), *options]) == 0
        return ModelFolder.open(tmp_path / "out")

    return make


@pytest.mark.parametrize("uint8", [False, True])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_metadata_alone_is_enough(
    tmp_path: Path, export: Callable[..., ModelFolder], normalisation: str, uint8: bool
) -> None:
    folder = export(*(["--uint8-input"] if uint8 else []), **NORMALISATIONS[normalisation])
    entry = folder.config["artefacts"][1]
    pictures = write_pictures(tmp_path / "pictures")
    expected = predicted(folder.path, pictures, tmp_path / "predicted", "--file", entry["file"])
    assert agreement(folder.path / entry["file"], pictures, expected) >= 0.9999
    for step, changes in WRONG.items():  # the comparison can fail: every parameter matters
        contract = copy.deepcopy(entry["contract"])
        if step in contract["before"]:
            contract["before"][step].update(changes)
            assert agreement(folder.path / entry["file"], pictures, expected, contract) < 0.999, step

    said = metadata((folder.path / entry["file"]).read_bytes(), "it")
    assert json.loads(said["contract"]) == entry["contract"]
    jsonschema.validate(json.loads((folder.path / "config.json").read_text()), SCHEMA)
    # Only what is in use: neither in the data nor in the words of the contract, nor in the section of the config.
    constant = normalisation == "constant"
    for section in (folder.config["inputs"][0]["preprocessing"], entry["contract"]["before"].get("normalise", {})):
        assert ("mean" in section, "std" in section) == ((constant, constant) if section else (False, False))
    assert ("0.485" in said["contract"], "[0.4, 0.5, 0.3]" in said["contract"]) == (False, constant)


def test_windows_are_part_of_the_contract(tmp_path: Path, export: Callable[..., ModelFolder]) -> None:
    windows = {"mode": "sliding", "window": [25, 24], "window_stride": [16, 19], "batch": 2}
    folder = export(normalisation="image", inference=windows)
    pictures = write_pictures(tmp_path / "pictures")
    expected = predicted(folder.path, pictures, tmp_path / "predicted")
    file = folder.path / "onnx" / "small.onnx"
    assert agreement(file, pictures, expected) >= 0.9999
    contract = json.loads(metadata(file.read_bytes(), "it")["contract"])
    assert contract["after"]["windows"]["window"] == [24, 24]  # whole cells of 8 pixels
    del contract["after"]["windows"]
    assert agreement(file, pictures, expected, contract) < 0.999


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(normalisation="image", short_side=360, size_multiple=32),
        Preprocessing(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), short_side=64),
    ],
)
@pytest.mark.parametrize("fused", [False, True])
def test_the_data_of_a_contract_gives_the_preprocessing_back(preprocessing: Preprocessing, fused: bool) -> None:
    contract = image_contract(preprocessing, InferenceMode(), stride=4, normalises=fused, size=None)
    assert ImageInput.from_contract(json.loads(json.dumps(contract))).preprocessing == preprocessing
    assert preprocessing.to_json().keys() >= {"normalisation", "size_multiple"}
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing
    every = {**contract["before"], **contract["inside"]}
    assert ("resize" in every, "pad" in every) == (
        preprocessing.short_side is not None,
        preprocessing.size_multiple > 1,
    )


def test_a_section_lists_only_what_is_in_use() -> None:
    image = Preprocessing(normalisation="image", short_side=360, size_multiple=32)
    assert image.to_json() == {"normalisation": "image", "short_side": 360, "size_multiple": 32}
    constant = Preprocessing(mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert constant.to_json() == {
        "normalisation": "constant", "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3], "size_multiple": 1,
    }  # fmt: skip
    assert dataclasses.replace(image, mean=(0, 0, 0)).to_json() == image.to_json()


def test_the_card_states_the_contract_of_every_file() -> None:
    """In the words of the metadata, worked out anew from the configuration."""
    folder = ModelFolder.open(Path(__file__).parents[1] / "zoo" / "models" / BUNDLED)
    card = render_card(folder.config, [])
    entry = folder.artefact("onnx")
    contract = joined(folder.inputs[0].contract(entry), folder.task.contract(entry))
    for part in ("before", "inside", "after"):
        for step in contract[part].values():
            assert step["text"] in card
    assert "0.485" not in card


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
@pytest.mark.parametrize("uint8", [False, True])
def test_real_photos_by_the_metadata_alone(tmp_path: Path, uint8: bool) -> None:
    """A bundled model, normalised per image, on KITTI's and nuScenes' cameras."""
    options = ["--uint8-input"] if uint8 else []
    assert main(["export", BUNDLED, "--out", str(tmp_path / "out"), *options]) == 0
    entry = ModelFolder.open(tmp_path / "out").config["artefacts"][-1]
    pictures = sorted([*REAL.glob("kitti/training/image_2/*.png"), *REAL.glob("nuscenes/samples/CAM_*/*.jpg")])[:8]
    assert len(pictures) == 8
    expected = predicted(tmp_path / "out", pictures, tmp_path / "predicted", "--file", entry["file"])
    assert agreement(tmp_path / "out" / entry["file"], pictures, expected) >= 0.9999
