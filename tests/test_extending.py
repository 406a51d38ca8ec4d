"""One more part of every kind, as `docs/extending.md` writes it, in the tables in memory and used in public."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from test_model_folder import seal, write_folder, write_safetensors
from tolerances import assert_close

import zoo
from zoo import cli
from zoo.classes import CITYSCAPES
from zoo.cli import main
from zoo.data import dataset as datasets
from zoo.data import open_dataset
from zoo.engines import ENGINES, TensorSpec
from zoo.errors import InputError
from zoo.evaluate.metrics import METRICS, metric_for
from zoo.folder.architecture import EncoderHead, build
from zoo.folder.card import render_card
from zoo.folder.catalogue import Entry, entries
from zoo.folder.model_folder import ModelFolder
from zoo.folder.schema import Schema, schema
from zoo.inputs import INPUTS, Prepared, input_class
from zoo.prediction import Features
from zoo.tasks import TASKS, task_class
from zoo.training import command as training_command

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
PARTS = {match[1]: match[2] for match in re.finditer(r"```python\n# ([\w/]+\.py)\n(.*?)```", PAGE, re.DOTALL)}
"""The files of the page, by path."""
ROWS = {match[1]: match[2] for match in re.finditer(r"```python\n# row: (\w+)\n(.*?)```", PAGE, re.DOTALL)}
(DEFINITION,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
WIDTH, PATCH = 12, 16
TINY = {"embed_dim": WIDTH, "depth": 1, "num_heads": 2, "img_size": 32, "patch_size": PATCH}
ENCODER = {"class": "zoo.encoders.vit:ViT", "arguments": {"model": "vit_tiny_patch16_224", "options": TINY}}


def row_on_page(name: str) -> str:
    """The row `"name": ...` as the page has it in its text."""
    (row,) = re.findall(rf'`"{name}": (.*?)` in `', PAGE)
    return row


def add(monkeypatch: pytest.MonkeyPatch, path: str) -> types.ModuleType:
    """The module of the page's file `path`, where an import finds it."""
    name = path.removesuffix(".py").replace("/", ".")
    name = name if name.startswith("zoo.") else f"zoo.{name}"
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(PARTS[path], path, "exec"), module.__dict__)
    return module


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The encoder and the head of the page, in the schema and as a model of the catalogue."""
    add(monkeypatch, "zoo/encoders/patches.py")
    add(monkeypatch, "zoo/heads/finest.py")
    definitions = schema("config").document["$defs"]
    head = {
        "type": "object",
        "required": ["class"],
        "properties": {"class": {"const": "zoo.heads.finest:FinestHead"}},
        "additionalProperties": False,
    }
    for kind, name, definition in (("encoder", "patches", json.loads(DEFINITION)["patches"]), ("head", "finest", head)):
        listed = definitions["architecture"]["properties"][kind]
        monkeypatch.setitem(definitions, name, definition)
        monkeypatch.setitem(listed, "oneOf", [*listed["oneOf"], {"$ref": f"#/$defs/{name}"}])
    encoder = {"class": "zoo.encoders.patches:PatchEncoder", "arguments": {"width": 6, "patch_size": PATCH}}
    row = Entry(
        name="patches-page.finest-page",
        description="The encoder and the head of the page",
        task="presence",
        modality="camera",
        released=False,
        recipe="none",
        parameters=6 * (3 * PATCH**2 + 1) + 19 * (6 + 1),
        licence="Apache-2.0",
        licences={},
        training_data=(),
        architecture={"encoder": encoder, "head": {"class": "zoo.heads.finest:FinestHead"}},
        inputs=({"kind": "image", "preprocessing": {"size_multiple": PATCH, "short_side": 64}},),
        taxonomy="cityscapes",
    )
    monkeypatch.setitem(cast(dict[str, Entry], entries()), row.name, row)
    return row


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "zoo/engines/reference.py")
    from zoo.engines import EngineRow

    for name, row in eval(ROWS["ENGINES"], {"EngineRow": EngineRow}).items():
        monkeypatch.setitem(ENGINES, name, row)


@pytest.fixture
def distances(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "zoo/inputs/distances.py")
    monkeypatch.setitem(INPUTS, "distances", eval(row_on_page("distances")))


@pytest.fixture
def presence(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("zoo/tasks/presence.py", "evaluate/metrics/presence.py"):
        add(monkeypatch, path)
    monkeypatch.setitem(TASKS, "presence", "zoo.tasks.presence:PresenceTask")
    monkeypatch.setitem(METRICS, "presence", "zoo.evaluate.metrics.presence:PresenceMetric")
    assert '`"presence": "zoo.tasks.presence:PresenceTask"` in `TASKS`' in PAGE
    assert '`"presence": "zoo.evaluate.metrics.presence:PresenceMetric"` in `METRICS`' in PAGE


def write_onnx(
    path: Path, nodes: list[Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any], constants: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """An ONNX file from its nodes, with float32 tensors; its entry in the list of artefacts."""

    def values(shapes: Mapping[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())

    def entries(shapes: Mapping[str, Any]) -> list[dict[str, Any]]:
        fixed = {name: [side if isinstance(side, int) else None for side in shape] for name, shape in shapes.items()}
        return [{"name": name, "dtype": "float32", "shape": shape} for name, shape in fixed.items()]

    return {
        "file": path.name,
        "engine": "onnx",
        "precision": "fp32",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "inputs": entries(inputs),
        "outputs": entries(outputs),
    }


def write_model(path: Path, artefacts: list[dict[str, Any]], **parts: Any) -> Path:
    """A model folder of files that are in it already."""
    config = {
        "format": 1,
        "name": path.name,
        "architecture": {"encoder": ENCODER},
        "inputs": [{"kind": "image"}],
        "artefacts": artefacts,
        **parts,
    }
    (path / "config.json").write_text(json.dumps(config))
    seal(path)
    return path


def write_torch_model(path: Path, architecture: dict[str, Any], classes: int | None, **parts: Any) -> Path:
    """A model folder with random weights."""
    path.mkdir()
    torch.manual_seed(0)
    state = build(architecture, classes).state_dict()
    write_safetensors(path / "weights.safetensors", {name: value.numpy() for name, value in state.items()})
    sha256 = hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest()
    entry = {"file": "weights.safetensors", "engine": "torch", "precision": "fp32", "sha256": sha256}
    inputs = [{"kind": "image", "preprocessing": {"size_multiple": PATCH, "short_side": 64}}]
    return write_model(path, [entry], architecture=architecture, inputs=inputs, **parts)


def bare_encoder(path: Path, **parts: Any) -> Path:
    return write_torch_model(path, {"encoder": ENCODER}, None, task="features", **parts)


def distance_model(path: Path) -> Path:
    """A model whose one output is three times its input."""
    path.mkdir()
    nodes = [helper.make_node("Mul", ["distances", "three"], ["level0"])]
    constants = (helper.make_tensor("three", TensorProto.FLOAT, [], [3.0]),)
    entry = write_onnx(path / "m.onnx", nodes, {"distances": ["b", "n"]}, {"level0": ["b", "n"]}, constants)
    inputs = [{"kind": "distances", "max_range_m": 4.0}]
    return write_model(path, [entry], task="features", inputs=inputs)


@pytest.mark.usefixtures("engine", "distances")
def test_an_input_and_an_engine_of_the_page_run_a_folder(tmp_path: Path) -> None:
    folder = distance_model(tmp_path / "bumper")
    metres = np.array([1.0, 2.0, 8.0])
    for name in ("reference", "onnx", "auto"):
        predictor = zoo.load(folder, engine=name)
        assert predictor.engine.spec.engine == ("onnx" if name == "auto" else name)
        # 8 m are clipped at 4 m; then 3 * distance / 4
        assert_close(predictor(metres).levels[0], [0.75, 1.5, 3.0])
    assert zoo.load(folder).settings["inputs"] == [{"kind": "distances", "max_range_m": 4.0}]
    with pytest.raises(InputError, match="distances in metres"):
        zoo.load(folder)("street.png")
    with pytest.raises(InputError, match="runs on the CPU only"):
        zoo.load(folder, engine="reference", device="cuda")
    config = json.loads((folder / "config.json").read_text())
    for wrong, message in (({"max_range_m": 0}, "max_range_m"), ({"file": "x"}, "file")):
        config["inputs"] = [{"kind": "distances", **wrong}]
        (folder / "config.json").write_text(json.dumps(config))
        seal(folder)
        with pytest.raises(InputError, match=rf"inputs\[0\].*{message}"):
            zoo.load(folder)


@pytest.mark.usefixtures("presence")
def test_a_task_and_a_metric_of_the_page(tmp_path: Path) -> None:
    architecture = {"encoder": ENCODER, "head": {"class": "zoo.heads.linear:LinearHead"}}
    output = {"classes": CITYSCAPES.to_json()}
    folder = write_torch_model(tmp_path / "presence", architecture, 19, task="presence", output=output)
    frame = open_dataset("synthetic").frames[0]
    prediction = zoo.load(folder)(frame)
    assert prediction.present.shape == (19,)
    truth = set(np.unique(frame.camera.labels).tolist()) - {255}
    correct = sum((c in truth) == bool(prediction.present[c]) for c in range(19))
    metric = metric_for("presence", ModelFolder.open(folder).task, CITYSCAPES)
    assert metric.tally(frame, prediction) == metric.decode(metric.encode(correct)) == correct
    figure = metric.figures([19, 0, 19], np.array([[1, 1, 1], [0, 3, 0], [2, 0, 1]]))["correct"]
    assert figure.value == pytest.approx(2 / 3)
    assert figure.replicates == pytest.approx([2 / 3, 0, 1])

    out = tmp_path / "out"
    words = ["evaluate", str(folder), "--data", "synthetic", "--limit", "1", "--out", str(out), "--no-report"]
    assert main(words) == 0
    (block,) = json.loads((out / "metrics.json").read_text())["models"]
    assert block["metric"] == "presence"
    assert block["results"]["synthetic"]["groups"]["clear"]["correct"]["value"] == pytest.approx(correct / 19)


@pytest.mark.usefixtures("presence", "engine")
def test_the_model_of_the_page_goes_through_every_command(
    catalogue: Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Encoder, head, task, metric and engine of the page in one model."""
    model = zoo.create(catalogue.name)
    assert sum(parameter.numel() for parameter in model.parameters()) == catalogue.parameters
    assert model(torch.zeros(2, 3, 2 * PATCH, 3 * PATCH)).shape == (2, 19, 2, 3)
    output = {"classes": CITYSCAPES.to_json()}
    folder = write_torch_model(tmp_path / "model", dict(catalogue.architecture), 19, task="presence", output=output)

    out = tmp_path / "out"
    assert main(["export", str(folder), "--out", str(out)]) == 0
    assert "% of the classes agree" in capsys.readouterr().out
    parity = json.loads((out / "parity.json").read_text())
    assert {part["metric"] for part in parity["rows"][0]["conditions"].values()} == {"correct"}
    assert main(["export", str(folder), "--uint8-input", "--out", str(tmp_path / "no")]) == 2
    assert "reads image for the task presence" in capsys.readouterr().err
    assert main(["verify", str(out), "--engine", "reference"]) == 0

    frame = open_dataset("synthetic").frames[0]
    Image.fromarray(frame.camera.image).save(tmp_path / "street.png")
    words = ["predict", str(out), str(tmp_path / "street.png"), "--engine", "reference", "--out", str(tmp_path / "p")]
    assert main(words) == 0
    summary = json.loads((tmp_path / "p" / "street.json").read_text())
    present = zoo.load(folder, engine="torch")(frame).present
    assert summary["present"] == [name for name, there in zip(CITYSCAPES.names, present, strict=True) if there]
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["street.json"]

    words = ["evaluate", str(out), "--data", "synthetic", "--engine", "torch", "--no-report", "--record"]
    assert main([*words, "--out", str(tmp_path / "e")]) == 0
    rows = ModelFolder.open(out).metrics()
    assert {row["headline"] for row in rows} == {"correct"}
    predictor, shares = zoo.load(out, engine="torch"), []
    for frame in open_dataset("synthetic").frames:
        if frame.group == "clear":
            truth = np.isin(np.arange(19), frame.camera.labels)
            shares.append((truth == predictor(frame).present).mean())
    (clear,) = [row for row in rows if row["group"] == "clear"]
    assert clear["correct"] == pytest.approx(np.mean(shares))


class Bumper(torch.nn.Module):
    """Three times the distances."""

    axes = ("batch", "sensors")
    strides = (1,)
    inputs = (TensorSpec("distances", "float32", (None, None), axes=("batch", "sensors")),)

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, distances: torch.Tensor) -> list[torch.Tensor]:
        return [self.factor * distances]


@pytest.mark.usefixtures("distances")
def test_the_input_of_the_page_goes_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No command takes what it reads for an image."""
    module = types.ModuleType("zoo.encoders.bumper")
    module.Bumper = Bumper  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zoo.encoders.bumper", module)
    listed = schema("config").document["$defs"]["architecture"]["properties"]["encoder"]
    bumper = {"type": "object", "properties": {"class": {"const": "zoo.encoders.bumper:Bumper"}}}
    monkeypatch.setitem(listed, "oneOf", [*listed["oneOf"], {**bumper, "additionalProperties": False}])
    path = tmp_path / "bumper"
    path.mkdir()
    write_safetensors(path / "w.safetensors", {"factor": np.float32(3)})
    sha256 = hashlib.sha256((path / "w.safetensors").read_bytes()).hexdigest()
    entry = {"file": "w.safetensors", "engine": "torch", "precision": "fp32", "sha256": sha256}
    architecture = {"encoder": {"class": "zoo.encoders.bumper:Bumper"}}
    inputs = [{"kind": "distances", "max_range_m": 4.0}]
    folder = write_model(path, [entry], architecture=architecture, task="features", inputs=inputs)

    np.save(tmp_path / "d.npy", np.array([1.0, 2.0, 8.0]))
    out = tmp_path / "out"
    assert main(["export", str(folder), "--out", str(out), "--frames", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["export", str(folder), "--out", str(out), "--frames", str(path)]) == 2
    assert "no readings in this folder (expected .npy)" in capsys.readouterr().err
    given = tmp_path / "given"
    given.mkdir()
    np.save(given / "e.npy", np.array([0.5, 3.0]))
    assert main(["export", str(folder), "--out", str(out), "--frames", str(given)]) == 0
    (row,) = json.loads((out / "parity.json").read_text())["rows"]
    assert [part["frames"] for part in row["frame_sets"]] == [1, 1]
    assert row["passed"]
    exported = ModelFolder.open(out).artefact("onnx")
    assert exported["inputs"][0]["shape"] == [None, None]

    assert main(["predict", str(out), str(tmp_path / "d.npy"), "--engine", "onnx", "--out", str(tmp_path / "p")]) == 0
    with np.load(tmp_path / "p" / "d.npz") as levels:
        assert_close(levels["level0"], [0.75, 1.5, 3.0])  # 8 m are clipped at 4 m; then 3 * distance / 4
    words = ["benchmark", str(out), "--engine", "onnx", "--runs", "1", "--warmup", "0", "--out", str(tmp_path / "b")]
    assert main([*words, "--size", "4x4"]) == 2
    assert "--size is for images" in capsys.readouterr().err


def test_a_bare_encoder_is_loaded_exported_compared_and_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {
        "description": "A bare encoder",
        "modality": "camera",
        "parameters": 1,
        "licence": {"weights": "Apache-2.0"},
        "provenance": {},
    }
    folder = bare_encoder(tmp_path / "bare", **about)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    features = zoo.load(folder, engine="torch")(image)
    assert isinstance(features, Features)
    assert [level.shape for level in features.levels] == [(WIDTH, 64 // PATCH, 96 // PATCH)]
    (folder / "README.md").write_text(render_card(json.loads((folder / "config.json").read_text()), []))
    seal(folder)

    assert main(["export", str(folder), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "labels" not in shown
    assert "% of the features agree" in shown
    exported = ModelFolder.open(tmp_path / "out")
    (entry,) = [entry for entry in exported.config["artefacts"] if entry["engine"] == "onnx"]
    assert [(output["name"], output["stride"]) for output in entry["outputs"]] == [("level0", PATCH)]
    found = zoo.load(exported.path, engine="onnx")(image)
    assert_close(found.levels[0], features.levels[0])
    (row,) = json.loads((exported.path / "parity.json").read_text())["rows"]
    assert (row["compared"], row["passed"]) == ("features", True)
    assert len(row["other_shapes"]) == 4

    card = (exported.path / "README.md").read_text()
    assert "pipeline_tag: image-feature-extraction" in card
    assert "prediction.levels" in card
    assert not re.search(r"overlay|labels|None|classes", card.partition("## Running")[0])


def test_predict_writes_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, photo = bare_encoder(tmp_path / "bare"), tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(photo)
    assert main(["predict", str(folder), str(photo), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{photo}: level0 {WIDTH} x 4 x 6 -> {tmp_path / 'out' / 'a.npz'}\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.npz"]
    with np.load(tmp_path / "out" / "a.npz") as levels:
        assert list(levels) == ["level0"]
        np.testing.assert_array_equal(levels["level0"], zoo.load(folder)(photo).levels[0])
    summary = json.loads((tmp_path / "out" / "a.json").read_text())
    assert (summary["image"], summary["model"]) == (str(photo), "bare")
    assert summary["levels"] == {"level0": [WIDTH, 4, 6]}


@pytest.mark.usefixtures("engine")
def test_commands_say_what_a_bare_encoder_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bare_encoder(tmp_path / "bare")
    assert main(["info", str(folder)]) == 0
    assert "classes: none" in capsys.readouterr().out
    assert main(["verify", str(folder), "--engine", "reference"]) == 0  # nothing exported yet
    assert main(["verify", str(folder), "--engine", "torch"]) == 2
    assert "onnx, openvino, reference" in capsys.readouterr().err


def test_a_model_with_other_levels_than_its_configuration_is_refused(tmp_path: Path) -> None:
    folder = bare_encoder(tmp_path / "bare", output={"levels": 3})
    with pytest.raises(InputError, match="level0, level1, level2"):
        zoo.load(folder, engine="torch")


def test_positions_without_features_on_both_sides_agree() -> None:
    task = task_class("features").from_json({"levels": 1})
    one = np.zeros((3, 2, 2), np.float32)
    one[:, 0, 0] = 1.0
    nothing = one.copy()
    nothing[:, 0, 0] = 0.0
    prepared = Prepared({}, None)

    def side(level: np.ndarray) -> Any:
        return {"level0": level}, task.decode({"level0": level}, prepared)

    assert task.agreement(side(one), side(one)).same == 4
    assert task.agreement(side(one), side(nothing)).same == 3
    assert task.agreement(side(one), side(one * np.nan)).same == 0


@dataclass(frozen=True)
class ShareInput:
    """Of a model's second stage: the mean brightness that the first one found, as a share of the largest."""

    kind: ClassVar[str] = "share"
    schema: ClassVar[Mapping[str, Any]] = {"type": "object", "additionalProperties": False}

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> ShareInput:
        return cls()

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    def check(self, spec: Any, in_graph: Any, what: str) -> None:
        assert [tensor.name for tensor in spec.inputs] == ["share"]

    def read(self, source: Any) -> Any:
        prepared, outputs = source
        assert prepared.arrays["image"].shape == (3, 4, 6)  # what the first stage was given
        return outputs["mean"]

    def prepare(self, sample: Any, in_graph: Any = ()) -> Prepared:
        return Prepared({"share": sample / sample.max()}, sample)

    def run(self, engine: Any, prepared: Prepared) -> dict[str, np.ndarray]:
        outputs = engine.run({name: array[None] for name, array in prepared.arrays.items()})
        return {name: array[0] for name, array in outputs.items()}


@pytest.fixture
def two_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Mean of every channel of the image; then ten times their ratio to the largest."""
    module = types.ModuleType("share_input")
    module.ShareInput = ShareInput  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "share_input", module)
    monkeypatch.setitem(INPUTS, "share", "share_input:ShareInput")
    path = tmp_path / "two"
    path.mkdir()
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    mean = [helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0)]
    first = write_onnx(path / "a.onnx", mean, {"image": ["b", 3, "h", "w"]}, {"mean": ["b", 3]}, (axes,))
    ten = helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0])
    scale = [helper.make_node("Mul", ["share", "ten"], ["level0"])]
    second = write_onnx(path / "b.onnx", scale, {"share": ["b", 3]}, {"level0": ["b", 3]}, (ten,))
    plain = {"mean": [0, 0, 0], "std": [1, 1, 1], "size_multiple": 2}
    return write_model(
        path,
        [{**second, "stage": 1}, {**first, "stage": 0}],
        task="features",
        inputs=[{"kind": "image", "preprocessing": plain}, {"kind": "share"}],
    )


def test_two_stages_run_one_after_the_other(two_stages: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[:] = (51, 102, 204)
    predictor = zoo.load(two_stages, engine="onnx")
    assert [stage.artefact["file"] for stage in predictor.stages] == ["a.onnx", "b.onnx"]
    # 51 : 102 : 204 = 0.25 : 0.5 : 1
    assert_close(predictor(image).levels[0], [2.5, 5.0, 10.0])


def test_a_file_that_is_named_decides_its_own_stage_only(two_stages: Path) -> None:
    for file in ("a.onnx", "b.onnx"):
        predictor = zoo.load(two_stages, file=file)
        assert [stage.artefact["file"] for stage in predictor.stages] == ["a.onnx", "b.onnx"]
    with pytest.raises(InputError, match=r"does not have c\.onnx"):
        zoo.load(two_stages, file="c.onnx")


def test_the_settings_name_the_files_of_all_stages(two_stages: Path) -> None:
    """A resumed evaluation must not take frames that were predicted with another first stage."""
    files = {entry["file"]: entry["sha256"] for entry in ModelFolder.open(two_stages).config["artefacts"]}
    assert zoo.load(two_stages).settings["files"] == [files["a.onnx"], files["b.onnx"]]


def test_an_engine_must_have_a_file_for_every_stage(two_stages: Path) -> None:
    config = json.loads((two_stages / "config.json").read_text())
    config["artefacts"] = [entry for entry in config["artefacts"] if entry["stage"] == 0]
    (two_stages / "config.json").write_text(json.dumps(config))
    seal(two_stages)
    with pytest.raises(InputError, match="stage 1"):
        zoo.load(two_stages)


def test_several_stages_are_neither_exported_nor_verified_yet(
    two_stages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(two_stages)]) == 2
    assert "2 stages" in capsys.readouterr().err


def test_a_reader_of_the_page_is_opened_and_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "zoo/data/pairs.py")
    monkeypatch.setitem(datasets.READERS, "pairs", eval(row_on_page("pairs"), {"Reader": datasets.Reader}))
    root = tmp_path / "pairs"
    root.mkdir()
    generator = np.random.default_rng(0)
    for name in ("b", "a"):
        Image.fromarray(generator.integers(0, 256, (32, 48, 3), dtype=np.uint8)).save(root / f"{name}.png")
        Image.fromarray(np.full((32, 48), 13, np.uint8)).save(root / f"{name}_labels.png")
    assert [frame.id for frame in open_dataset("pairs", root).frames] == ["a", "b"]
    output = {"classes": CITYSCAPES.to_json()}
    architecture = {"encoder": ENCODER, "head": {"class": "zoo.heads.linear:LinearHead"}}
    folder = write_torch_model(tmp_path / "model", architecture, 19, task="segmentation2d", output=output)
    out = tmp_path / "out"
    assert main(["evaluate", str(folder), "--data", f"pairs={root}", "--out", str(out), "--no-report"]) == 0
    (data,) = json.loads((out / "metrics.json").read_text())["data"].values()
    assert data["frames"] == {"all": 2}


def test_a_recipe_of_the_page_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, "training/line.py")
    monkeypatch.setitem(training_command.RECIPES, "line", eval(row_on_page("line")))
    assert main(["train", "line", "--out", str(tmp_path / "run"), "--device", "cpu", "--slope", "-2"]) == 0
    slope = json.loads((tmp_path / "run" / "model" / "slope.json").read_text())
    assert slope == pytest.approx(-2, abs=0.05)  # a fit on few points
    assert main(["train", "line", "--out", str(tmp_path / "other"), "--slope", "11"]) == 2
    assert "slope" in capsys.readouterr().err
    assert main(["train", "lime", "--out", str(tmp_path / "other")]) == 2
    assert "line" in capsys.readouterr().err


def test_a_command_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, "zoo/commands/size.py")
    monkeypatch.setitem(cli.COMMANDS, "size", eval(row_on_page("size")))
    folder = write_folder(tmp_path / "model")
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != "MANIFEST.json")
    assert main(["size", str(folder)]) == 0
    assert capsys.readouterr().out == f"{size:,} bytes\n"
    assert main(["--help"]) == 0
    assert "print the size of a model's files" in capsys.readouterr().out
    assert main(["size", str(tmp_path / "none")]) == 2


def test_an_encoder_and_a_head_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = add(monkeypatch, "zoo/encoders/patches.py").PatchEncoder(width=4, patch_size=8)
    head = add(monkeypatch, "zoo/heads/finest.py").FinestHead(
        in_channels=encoder.out_channels, strides=encoder.strides, num_classes=3
    )
    model = EncoderHead(encoder, head)
    assert model.inputs[0].multiples == (1, 1, 8, 8)
    assert model(torch.zeros(2, 3, 16, 24)).shape == (2, 3, 2, 3)
    document = json.loads((ROOT / "zoo" / "folder" / "config.schema.json").read_text())
    described = {"encoder": {"class": "zoo.encoders.patches:PatchEncoder", "arguments": {"width": 4}}}
    with pytest.raises(InputError, match="PatchEncoder"):
        build(described, None)
    document["$defs"] |= json.loads(DEFINITION)
    document["$defs"]["architecture"]["properties"]["encoder"]["oneOf"].append({"$ref": "#/$defs/patches"})
    extended = Schema(document)
    extended.check(described, "it", "architecture")
    described["encoder"]["arguments"] = {"file": "x"}
    with pytest.raises(InputError, match="file"):
        extended.check(described, "it", "architecture")


def test_a_rig_of_the_page_is_rendered() -> None:
    pytest.importorskip("embreex")
    from zoo.geometry.cameras import VEHICLE_FROM_OPTICAL, intrinsics_matrix
    from zoo.geometry.transforms import pose
    from zoo.synthetic.frames.render import render_frame
    from zoo.synthetic.sensors.rigs import Rig, RigCamera, RigLidar

    names = (Rig, RigCamera, RigLidar, intrinsics_matrix, pose)
    known = {each.__name__: each for each in names} | {"VEHICLE_FROM_OPTICAL": VEHICLE_FROM_OPTICAL, "np": np}
    rig = eval(ROWS["RIGS"], known)
    frame = render_frame(3, rig=rig)
    assert frame.cameras["front"].image.shape == (64, 96, 3)
    assert len(frame.lidars["roof"][0].points) > 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "os:system"}, "unknown task 'os:system'"),
        ({"task": "zoo.tasks.features:FeaturesTask"}, "unknown task"),
        ({"inputs": [{"kind": "zoo.inputs.image:ImageInput"}]}, "unknown input"),
        ({"inputs": [{"kind": "distances"}]}, "unknown input 'distances'"),
        ({"architecture": {"encoder": {"class": "zoo.encoders.minkunet:VARIANTS"}}}, r"encoder\.class"),
        ({"architecture": {"encoder": ENCODER, "head": {"class": "subprocess:Popen"}}}, r"head\.class"),
        ({"engine": "zoo.engines.onnx:open_engine"}, r"artefacts\[0\]\.engine"),
    ],
)
def test_a_configuration_names_nothing_but_rows_of_the_tables(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = bare_encoder(tmp_path / "bare")
    config = json.loads((folder / "config.json").read_text())
    if "engine" in change:
        config["artefacts"][0].update(change)
    else:
        config.update(change)
    (folder / "config.json").write_text(json.dumps(config))
    seal(folder)
    with pytest.raises(InputError, match=message):
        zoo.load(folder)


def test_every_table_names_what_exists() -> None:
    for kind in INPUTS:
        assert input_class(kind).kind == kind
    for task in TASKS:
        assert task_class(task).name == task
        assert task_class(task).metric in {None, *METRICS}


def test_the_published_schema_repeats_the_sections_of_the_tables() -> None:
    definitions = schema("config").document["$defs"]
    inputs = {f"{kind}_input": input_class(kind).schema for kind in INPUTS}
    outputs = {f"{task}_output": task_class(task).schema for task in TASKS}
    for name, section in {**inputs, **outputs}.items():
        assert definitions[name] == json.loads(json.dumps(section)), name
    assert {name for name in definitions if name.endswith(("_input", "_output"))} == {*inputs, *outputs}
