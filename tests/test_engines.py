"""The torch-free runtime on hand-made ONNX files: right numbers, and no wrong size, device or file goes unnoticed.

The network is one 2 x 2 convolution of stride 2. Class 0 has the logit 0; class 1 has 4 * (mean red of the block) - 2,
so red 255 gives 2, red 0 gives -2, and the winner's probability is 1 / (1 + exp(-2)) = 0.880797 in both cases.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from model_folders import agree
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tolerances import assert_close

import zoo
from zoo.cli import main
from zoo.engines.onnx import PROVIDERS, OnnxEngine
from zoo.engines.onnx_file import external_files, metadata, shape_nodes
from zoo.engines.openvino import OpenVINOEngine
from zoo.engines.placement import misplaced, placed_nodes
from zoo.errors import InputError, IntegrityError, MissingExtraError
from zoo.folder.model_folder import ModelFolder
from zoo.inputs.image import image_tensor
from zoo.inputs.windows import InferenceMode
from zoo.loading import engines_for

SCHEMA = json.loads((Path(zoo.__file__).parent / "folder" / "config.schema.json").read_text())
CONFIDENCE = 0.880797
BOTH = pytest.mark.parametrize("engine", ["onnx", "openvino"])


def red_model(batch: Any = "batch", height: Any = "height", width: Any = "width") -> onnx.ModelProto:
    weight = np.zeros((2, 3, 2, 2), np.float32)
    weight[1, 0] = 1.0  # the sum over four pixels is 4 times their mean
    node = helper.make_node("Conv", ["image", "weight", "bias"], ["logits"], strides=[2, 2])
    out = [batch, 2, *(side // 2 if isinstance(side, int) else f"{side}_out" for side in (height, width))]
    graph = helper.make_graph(
        [node],
        "red",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([0, -2], np.float32), "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def image_entry(batch: int | None, height: int | None, width: int | None) -> dict[str, Any]:
    return {
        "name": "image",
        "dtype": "float32",
        "shape": [batch, 3, height, width],
        "axes": ["batch", "channels", "height", "width"],
        "multiples": [1, 1, 2, 2],
    }


def write_folder(path: Path, content: bytes, **changes: Any) -> Path:
    """A folder with an ONNX file and no weights for torch, written without this project's writer."""
    (path / "onnx").mkdir(parents=True)
    (path / "onnx" / "red.onnx").write_bytes(content)
    artefact = {
        "file": "onnx/red.onnx",
        "engine": "onnx",
        "precision": "fp32",
        "sha256": hashlib.sha256(content).hexdigest(),
        "source_sha256": "0" * 64,
        "opset": 18,
        "inputs": [image_entry(None, None, None)],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [None, 2, None, None], "stride": 2}],
        "in_graph": [],
        **changes,
    }
    config = {
        "format": 1,
        "name": "red",
        "task": "segmentation2d",
        "architecture": {"encoder": {"class": "zoo.encoders.vit:ViT"}},
        "inputs": [{"kind": "image", "preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1], "size_multiple": 2}}],
        "output": {
            "classes": {"taxonomy": "ground", "names": ["floor", "wall"], "colors": [[10, 20, 30], [200, 100, 0]]}
        },
        "artefacts": [artefact],
    }
    (path / "config.json").write_text(json.dumps(config))
    agree(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model", red_model().SerializeToString())


@pytest.fixture
def half_red() -> np.ndarray:
    """5 x 8 pixels, the left half red: odd, so that padding is needed."""
    image = np.zeros((5, 8, 3), np.uint8)
    image[:, :4, 0] = 255
    return image


@BOTH
def test_the_numbers_are_those_worked_out_by_hand(folder: Path, half_red: np.ndarray, engine: str) -> None:
    jsonschema.validate(json.loads((folder / "config.json").read_text()), SCHEMA)
    predictor = zoo.load(folder, engine=engine, threads=1)
    prediction = predictor(half_red)
    assert prediction.labels.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 5
    # Columns 0 and 7 lie at the border, where nothing is interpolated.
    assert_close(prediction.scores[:, [0, 7]], CONFIDENCE)
    assert predictor.settings["engine"] == engine
    assert predictor.engine.spec.options["threads"] == 1
    assert [output.stride for output in predictor.engine.spec.outputs] == [2]
    with pytest.raises(InputError, match=f"the {engine} engine has no nn"):
        _ = predictor.module


@BOTH
def test_windows_and_batches(folder: Path, half_red: np.ndarray, engine: str) -> None:
    mode = InferenceMode(mode="sliding", window=(4, 4), window_stride=(2, 2), batch=3)
    prediction = zoo.load(folder, engine=engine, input_settings={"inference": mode.to_json()})(half_red)
    assert np.array_equal(prediction.labels, zoo.load(folder, engine=engine)(half_red).labels)
    assert_close(prediction.scores[:, [0, 7]], CONFIDENCE)


@BOTH
def test_a_fixed_file_takes_windows_one_by_one_and_no_other_size(
    tmp_path: Path, half_red: np.ndarray, engine: str
) -> None:
    content = red_model(1, 4, 4).SerializeToString()
    folder = write_folder(tmp_path / "fixed", content, inputs=[image_entry(1, 4, 4)])
    mode = InferenceMode(mode="sliding", window=(4, 4), window_stride=(2, 2), batch=3)
    windows = {"inference": mode.to_json()}
    labels = zoo.load(folder, engine=engine, input_settings=windows)(half_red).labels
    assert labels.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 5
    with pytest.raises(InputError, match=r"must be \(1, 3, 4, 4\) float32; got \(1, 3, 6, 8\) float32"):
        zoo.load(folder, engine=engine)(half_red)


@pytest.mark.parametrize("make", [OnnxEngine, OpenVINOEngine])
def test_what_the_runtimes_would_swallow_is_refused(make: Any) -> None:
    engine = make(red_model().SerializeToString(), declared=[image_tensor(3, 4)])
    engine.run({"image": np.zeros((2, 3, 8, 4), np.float32)})
    with pytest.raises(InputError, match="image height 6 is not a multiple of 4; pad it to 8"):
        engine.run({"image": np.zeros((1, 3, 6, 8), np.float32)})
    with pytest.raises(InputError, match="image width 10 is not a multiple of 4; pad it to 12"):
        engine.run({"image": np.zeros((1, 3, 8, 10), np.float32)})
    with pytest.raises(InputError, match=r"\(any, 3, any, any\) float32; got \(1, 3, 8, 8\) float64"):
        engine.run({"image": np.zeros((1, 3, 8, 8))})
    with pytest.raises(InputError, match=r"got \(1, 4, 8, 8\) float32"):
        engine.run({"image": np.zeros((1, 4, 8, 8), np.float32)})
    with pytest.raises(InputError, match="is empty"):
        engine.run({"image": np.zeros((0, 3, 8, 8), np.float32)})
    with pytest.raises(InputError, match="takes image; got picture"):
        engine.run({"picture": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(InputError, match="threads 0"):
        make(red_model().SerializeToString(), threads=0)
    engine.close()


def test_outputs_are_not_overwritten_by_the_next_run() -> None:
    engine = OpenVINOEngine(red_model().SerializeToString())
    first = engine.run({"image": np.ones((1, 3, 2, 2), np.float32)})["logits"]
    engine.run({"image": np.zeros((1, 3, 2, 2), np.float32)})
    assert first[0, :, 0, 0].tolist() == [0, 2]


def test_a_provider_is_had_or_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    messages = {
        "cuda": "needs CUDAExecutionProvider, which the installed onnxruntime .* does not have",
        "tensorrt:1": "needs TensorrtExecutionProvider",
        "openvino": "engine 'openvino' runs the same file",
        "tpu": "device 'tpu' is unknown; known: |unknown to the onnx engine",
        "cpu:1": "unknown to the onnx engine",
        "cuda:x": "unknown to the onnx engine",
    }
    if PROVIDERS["openvino"] in onnxruntime.get_available_providers():
        del messages["openvino"]
    for device, message in messages.items():
        with pytest.raises(InputError, match=message):
            zoo.load(folder, engine="onnx", device=device)
    # A build that has the provider, on a machine where it cannot start: ONNX Runtime would take the CPU.
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    warns = pytest.warns(UserWarning, match="CUDAExecutionProvider")  # of ONNX Runtime; then it goes on
    with warns, pytest.raises(InputError, match="could not start CUDAExecutionProvider"):
        zoo.load(folder, engine="onnx", device="cuda:0")
    with pytest.raises(InputError, match="is not one that OpenVINO finds here; it finds cpu"):
        zoo.load(folder, engine="openvino", device="gpu")


def mixed_model() -> onnx.ModelProto:
    """`red_model`, followed by arithmetic on shapes only and by one operator (Unique) that OpenVINO lacks.

    The 0 that is added is the smallest value of four zeros.
    """
    model = red_model()
    graph = model.graph
    graph.node[0].name = "convolution"
    graph.node[0].output[0] = "logits_before"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([2], np.int64), "two"),
            numpy_helper.from_array(np.array([0.0], np.float32), "zero"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Shape", ["logits_before"], ["shape"], name="shape"),
            helper.make_node("Gather", ["shape", "two"], ["rows"], name="rows"),
            helper.make_node("Mul", ["rows", "two"], ["twice"], name="twice"),
            helper.make_node("Div", ["twice", "two"], ["once"], name="once"),
            helper.make_node("Expand", ["zero", "once"], ["zeros"], name="zeros"),
            helper.make_node("Unique", ["zeros"], ["smallest"], name="unique"),
            helper.make_node("Relu", ["logits_before"], ["positive"], name="positive"),
            helper.make_node("Sub", ["logits_before", "positive"], ["negative"], name="negative"),
            helper.make_node("Add", ["positive", "negative"], ["sum"], name="sum"),
            helper.make_node("Mul", ["smallest", "logits_before"], ["nothing"], name="nothing"),
            helper.make_node("Add", ["sum", "nothing"], ["logits"], name="logits"),
        ]
    )
    onnx.checker.check_model(model, full_check=True)
    return model


ON_SHAPES = {"shape", "rows", "twice", "once", "zeros", "unique"}


def test_which_nodes_compute_shapes_only() -> None:
    assert shape_nodes(mixed_model().SerializeToString(), "it") == ON_SHAPES
    assert shape_nodes(red_model().SerializeToString(), "it") == set()
    # Two nodes of one name cannot be told apart, nor can nodes without any.
    model = mixed_model()
    model.graph.node[3].name = "sum"
    model.graph.node[4].name = ""
    assert shape_nodes(model.SerializeToString(), "it") == ON_SHAPES - {"twice", "once"}
    with pytest.raises(IntegrityError, match="not a complete ONNX file"):
        shape_nodes(model.SerializeToString()[:200], "it")


def test_nodes_by_provider_as_onnx_runtime_reports_them() -> None:
    """A real session; on another device than the CPU all of its arithmetic would be in the wrong place."""
    content = mixed_model().SerializeToString()
    engine = OnnxEngine(content)
    nodes = placed_nodes(engine._session)
    if nodes is None:
        pytest.skip("ONNX Runtime before 1.24 does not report where nodes run")
    assert engine.spec.options["nodes"] == {"CPUExecutionProvider": len(nodes)}
    assert misplaced(nodes, "CPUExecutionProvider", set()) == []
    wrong = misplaced(nodes, "CUDAExecutionProvider", shape_nodes(content, "it"))
    assert {node.name for node in wrong} == {"convolution", "positive", "negative", "sum", "nothing", "logits"}
    assert {node.name for node in nodes} - {node.name for node in wrong} == ON_SHAPES


class ElsewhereSession:
    """A session of ONNX Runtime whose report says that a device called CUDA runs all nodes but some.

    Args:
        on_cpu: Names of the nodes that the report leaves on the CPU.
    """

    def __init__(self, session: Any, on_cpu: set[str]) -> None:
        self.session, self.on_cpu = session, on_cpu

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [
            SimpleNamespace(
                ep_name="CPUExecutionProvider" if node.name in self.on_cpu else "CUDAExecutionProvider",
                get_nodes=lambda node=node: [node],
            )
            for part in self.session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ]


def test_single_nodes_on_the_cpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would run them there without a word; nodes on shapes are there on purpose."""
    import onnxruntime

    content = mixed_model().SerializeToString()
    right = onnxruntime.InferenceSession
    on_cpu = set(ON_SHAPES)

    def session(source: Any, settings: Any, providers: Any) -> ElsewhereSession:
        assert providers == [("CUDAExecutionProvider", {})]
        return ElsewhereSession(right(source, settings, providers=["CPUExecutionProvider"]), on_cpu)

    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    engine = OnnxEngine(content, device="cuda", what="mixed.onnx")
    assert engine.spec.options["nodes"] == {"CUDAExecutionProvider": 6, "CPUExecutionProvider": 6}
    on_cpu.add("positive")
    message = (
        r"device 'cuda' was requested, but ONNX Runtime would run 1 of the 12 nodes of mixed.onnx elsewhere: "
        r"positive \(Relu\) on CPUExecutionProvider; use device 'cpu'"
    )
    with pytest.raises(InputError, match=message):
        OnnxEngine(content, device="cuda", what="mixed.onnx")
    monkeypatch.setattr("zoo.engines.onnx.placed_nodes", lambda session: None)  # as before ONNX Runtime 1.24
    with pytest.raises(InputError, match=r"cannot say which device runs each node.*update it to 1.24"):
        OnnxEngine(content, device="cuda", what="mixed.onnx")


def test_the_openvino_provider_of_onnx_runtime_runs_all_or_is_refused() -> None:
    """A real second provider: a graph that it takes whole, and one with an operator that it lacks."""
    import onnxruntime

    if PROVIDERS["openvino"] not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no OpenVINO provider; pip install onnxruntime-openvino in an environment")
    engine = OnnxEngine(red_model().SerializeToString(), device="openvino")
    assert engine.spec.options["nodes"] == {"OpenVINOExecutionProvider": 1}
    with pytest.raises(InputError, match=r"of the 12 nodes of the file elsewhere: .* on CPUExecutionProvider"):
        OnnxEngine(mixed_model().SerializeToString(), device="openvino")


def test_openvino_computes_in_what_was_asked_for(folder: Path) -> None:
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert zoo.load(folder, engine="openvino").engine.spec.options["arithmetic"] == "f32"
    if "BF16" in able:
        predictor = zoo.load(folder, engine="openvino", precision="bf16")
        assert predictor.engine.spec.options["arithmetic"] == "bf16"
    else:
        with pytest.raises(InputError, match="bf16 was requested"):
            zoo.load(folder, engine="openvino", precision="bf16")


def test_auto_is_the_first_that_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = ModelFolder.open(folder)
    assert engines_for(opened) == ["onnx", "openvino"]
    assert zoo.load(folder).settings["engine"] == "onnx"
    missing = {"onnxruntime"}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else find(name, *rest))
    assert zoo.load(folder).settings["engine"] == "openvino"
    missing.add("openvino")
    with pytest.raises(MissingExtraError, match=r"perception-zoo\[onnx\]"):
        zoo.load(folder)


def test_wrong_choices_say_what_there_is(folder: Path) -> None:
    for options, message in (
        ({"engine": "tensorrt"}, "unknown engine 'tensorrt'; .*known: torch, onnx, openvino, auto"),
        ({"engine": "torch"}, r"does not have a file for torch in fp32; it has onnx/red.onnx \(onnx fp32\)"),
        ({"engine": "onnx", "precision": "fp16"}, "does not have a file for onnx in fp16.*zoo export makes one"),
        ({"engine": "onnx", "precision": "bf16"}, "the onnx engine has no precision 'bf16'; it has fp32, fp16"),
        ({"precision": "int8"}, "the onnx engine has no precision 'int8'"),
        ({"file": "onnx/blue.onnx"}, "does not have onnx/blue.onnx; it has onnx/red.onnx"),
        ({"file": "onnx/red.onnx", "precision": "fp16"}, r"does not have onnx/red.onnx in fp16; .*\(onnx fp32\)"),
    ):
        with pytest.raises(InputError, match=message):
            zoo.load(folder, **options)  # type: ignore[arg-type]
    assert zoo.load(folder, file="onnx/red.onnx").artefact["file"] == "onnx/red.onnx"


@pytest.mark.parametrize("missing", ["inputs", "outputs"])
def test_an_entry_without_its_sizes_is_refused(tmp_path: Path, missing: str) -> None:
    folder = write_folder(tmp_path / "model", red_model().SerializeToString())
    config = json.loads((folder / "config.json").read_text())
    del config["artefacts"][0][missing]
    (folder / "config.json").write_text(json.dumps(config))
    agree(folder)
    with pytest.raises(InputError, match="needs inputs and outputs"):
        zoo.load(folder)


@BOTH
def test_a_damaged_file_is_never_run(folder: Path, tmp_path: Path, engine: str) -> None:
    file = folder / "onnx" / "red.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="has the SHA-256"):
        zoo.load(folder, engine=engine)
    for content, message in (
        (whole[: len(whole) // 2], "not a complete ONNX file|not an ONNX file"),
        (b"no protocol buffer", "not a complete ONNX file|not an ONNX file"),
        (b"", "holds 0 graphs"),
    ):
        file.write_bytes(content)
        agree(folder)
        with pytest.raises(IntegrityError, match=message):
            zoo.load(folder, engine=engine)
    model = red_model()
    model.graph.node[0].op_type = "Convolve"
    file.write_bytes(model.SerializeToString())
    agree(folder)
    with pytest.raises(IntegrityError, match=r"not an ONNX file that .* can load"):
        zoo.load(folder, engine=engine)


def with_weights_in(location: str) -> bytes:
    """The model with its convolution's weights in another file."""
    model = red_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model.SerializeToString()


@BOTH
def test_weights_beside_the_file(tmp_path: Path, half_red: np.ndarray, engine: str) -> None:
    weight = numpy_helper.to_array(red_model().graph.initializer[0]).tobytes()
    folder = write_folder(tmp_path / "model", with_weights_in("red.data"))
    with pytest.raises(IntegrityError, match="is not listed"):
        zoo.load(folder, engine=engine)
    (folder / "onnx" / "red.data").write_bytes(weight)
    agree(folder)
    assert zoo.load(folder, engine=engine)(half_red).labels.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 5
    (folder / "onnx" / "red.data").write_bytes(b"\0" * len(weight))
    with pytest.raises(IntegrityError, match="has the SHA-256"):
        zoo.load(folder, engine=engine)


@BOTH
def test_weights_beside_the_file_in_the_cache_of_the_hub(tmp_path: Path, half_red: np.ndarray, engine: str) -> None:
    """Every file is a relative link to a blob that has the hash for a name; OpenVINO refuses to follow it by itself."""
    folder = write_folder(tmp_path / "model", with_weights_in("red.data"))
    (folder / "onnx" / "red.data").write_bytes(numpy_helper.to_array(red_model().graph.initializer[0]).tobytes())
    agree(folder)
    snapshot = tmp_path / "hub" / "models--org--red" / "snapshots" / "0123abc"
    blobs = tmp_path / "hub" / "models--org--red" / "blobs"
    blobs.mkdir(parents=True)
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    before = set(Path(tempfile.gettempdir()).glob("zoo-*"))
    predictor = zoo.load(snapshot, engine=engine)
    assert predictor(half_red).labels.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 5
    assert set(Path(tempfile.gettempdir()).glob("zoo-*")) <= before, "the copies are removed"
    blob = (snapshot / "onnx" / "red.data").resolve()
    blob.write_bytes(b"\0" * blob.stat().st_size)
    with pytest.raises(IntegrityError, match="has the SHA-256"):
        zoo.load(snapshot, engine=engine)


@pytest.mark.parametrize("location", ["../../secret", "/tmp/secret", "..\\secret", "a/../../../secret"])
def test_weights_outside_the_folder_are_not_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(numpy_helper.to_array(red_model().graph.initializer[0]).tobytes())
    folder = write_folder(tmp_path / "model", with_weights_in(location))
    with pytest.raises(IntegrityError, match="outside its folder"):
        zoo.load(folder)


def test_the_reader_of_onnx_files_against_the_onnx_package() -> None:
    """External tensors in every place that the format has for them, and the metadata."""
    model = red_model()

    def outside(name: str) -> TensorProto:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="offset", value="0")
        tensor.external_data.add(key="location", value=name)
        return tensor

    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=outside("in a branch"))], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    model.graph.node.append(helper.make_node("Constant", [], ["d"], value=outside("in an attribute")))
    model.graph.initializer.append(outside("as an initializer"))
    sparse = onnx.SparseTensorProto(values=outside("sparse values"), indices=outside("sparse indices"), dims=[3])
    model.graph.sparse_initializer.append(sparse)
    function = helper.make_function(
        "own", "f", [], ["e"], [helper.make_node("Constant", [], ["e"], value=outside("in a function"))], []
    )
    model.functions.append(function)
    helper.set_model_props(model, {"licence": "Apache-2.0", "größe": "zwölf"})
    content = model.SerializeToString()
    assert sorted(external_files(content, "it")) == [
        "as an initializer", "in a branch", "in a function", "in an attribute", "sparse indices", "sparse values",
    ]  # fmt: skip
    assert external_files(red_model().SerializeToString(), "it") == []
    assert metadata(content, "it") == {"licence": "Apache-2.0", "größe": "zwölf"}
    content = red_model().SerializeToString()  # its graph ends a few bytes before the file does
    for cut in range(10, len(content) - 20, 7):
        with pytest.raises(IntegrityError, match="not a complete ONNX file"):
            external_files(content[:cut], "it")


BLOCKER = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "timm", "torchvision", "onnx", "onnxscript", "jaxtyping"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def without_torch(program: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", BLOCKER + program, *map(str, words)], capture_output=True, text=True, cwd=cwd
    )


@BOTH
def test_predicting_without_torch(folder: Path, tmp_path: Path, half_red: np.ndarray, engine: str) -> None:
    Image.fromarray(half_red).save(tmp_path / "a.png")
    program = "from zoo.cli import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(code)"
    words = ["predict", folder, tmp_path / "a.png", "--out", tmp_path / "out", "--engine", engine]
    result = without_torch(program, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 5
    summary = json.loads((tmp_path / "out" / "a.json").read_text())
    assert summary["settings"]["engine"] == engine
    assert summary["artefact"]["file"] == "onnx/red.onnx"


def test_torch_asked_for_where_it_is_not(tmp_path: Path, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["artefacts"].append({"file": "model.safetensors", "engine": "torch", "sha256": "0" * 64})
    (folder / "config.json").write_text(json.dumps(config))
    agree(folder)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    program = "from zoo.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["predict", folder, tmp_path / "a.png", "--out", tmp_path / "out", "--engine", "torch"]
    result = without_torch(program, *words, cwd=tmp_path)
    assert result.returncode == 2
    assert "pip install 'perception-zoo[torch]'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_fresh_environment_with_the_base_and_onnx_only(tmp_path: Path, folder: Path, half_red: np.ndarray) -> None:
    """Installs the project with its `onnx` and `openvino` extras; skipped where there is no package index."""
    root = Path(__file__).parents[1]
    Image.fromarray(half_red).save(tmp_path / "a.png")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{root}[onnx,openvino]"]
    installed = subprocess.run(list(map(str, install)), capture_output=True, text=True, cwd=tmp_path)
    if "No matching distribution" in installed.stderr or "Connection" in installed.stderr:
        pytest.skip("no package index here")
    assert installed.returncode == 0, installed.stderr
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def command(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), *map(str, words)], cwd=tmp_path, capture_output=True, text=True, env=environment
        )

    missing = command("-c", "import importlib.util as u; print([u.find_spec(n) for n in ('torch', 'timm', 'onnx')])")
    assert missing.stdout.strip() == "[None, None, None]"
    for engine in ("auto", "onnx", "openvino"):
        result = command(
            "-m", "zoo.cli", "predict", folder, "a.png", "--out", tmp_path / engine, "--engine", engine
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert np.asarray(Image.open(tmp_path / engine / "a.png")).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 5


def test_measuring_a_fixed_file_on_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = red_model(1, 8, 12).SerializeToString()
    folder = write_folder(tmp_path / "model", content, inputs=[image_entry(1, 8, 12)])
    words = ["benchmark", str(folder), "--engine", "onnx", "--runs", "1", "--warmup", "0", "--out", str(tmp_path)]
    assert main([*words, "--size", "8x14"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("zoo: error: input image must be (1, 3, 8, 12) float32; got (1, 3, 8, 14) float32")
    assert error.count("\n") == 1


def test_verifying_a_file_whose_source_is_not_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["artefacts"][0]["source_sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    agree(folder)
    assert main(["verify", str(folder)]) == 2
    assert "the entry of onnx/red.onnx lacks source_sha256," in capsys.readouterr().err


def test_a_wrong_engine_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    words = ["predict", str(folder), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main([*words, "--engine", "onnx", "--device", "cuda"]) == 2
    error = capsys.readouterr().err
    assert "CUDAExecutionProvider" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        "m a.png --out o",
        "m --out o a.png b/c.jpg --engine onnx --device cuda:0 --alpha 0.25",
        "m a.png --out o --window 30 40 --window-stride 20 10 --threads 3 --precision fp16 --file onnx/m.onnx",
        "--out o --whole m a.png",
    ],
)
def test_plain_commands_are_read_as_tyro_reads_them(words: str) -> None:
    import tyro

    from zoo.arguments import parse_arguments
    from zoo.commands import predict

    plain = predict._plain(words.split())
    assert plain is not None
    predict.tyro = tyro  # type: ignore[attr-defined]
    assert plain == parse_arguments(predict.Arguments, words.split(), prog="zoo predict")


@pytest.mark.parametrize(
    "words",
    [
        "m a.png", "m --out o", "m a.png --out", "m a.png --out o --threads two", "m a.png --out o --hepl",
        "m a.png --out o --out p", "m a.png --out=o", "-h", "m a.png --out o --threads None",
        "m a.png --out o --alpha -1", "m a.png --out o --no-whole",
    ],
)  # fmt: skip
def test_anything_else_is_left_to_tyro(words: str) -> None:
    from zoo.commands import predict

    assert predict._plain(words.split()) is None


def test_plain_predictions_import_no_command_line_package(folder: Path, tmp_path: Path) -> None:
    """The cold start: what a prediction with ONNX Runtime does not need is not imported."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    program = (
        "import sys; from zoo.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'tyro', 'rich', 'typeguard', 'torch', 'matplotlib', 'jinja2', 'openvino', 'onnx', 'scipy'};"
        "assert not heavy & {name.split('.')[0] for name in sys.modules}, heavy & set(sys.modules); sys.exit(code)"
    )
    words = ["predict", str(folder), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    result = subprocess.run([sys.executable, "-P", "-c", program, *words], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
