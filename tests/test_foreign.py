"""Models of other projects in our evaluation: hand-made ONNX files and functions, transformers and torchvision."""

import json
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from onnx import TensorProto, helper
from PIL import Image
from tolerances import assert_close
from torch.nn import functional as F

import zoo
from zoo import foreign
from zoo.class_maps import class_map, read_class_map, unpredicted, with_class_maps
from zoo.classes import CAMVID, CITYSCAPES, ClassTable
from zoo.cli import main
from zoo.data import open_dataset
from zoo.errors import InputError
from zoo.foreign.torch_models import labels_and_scores
from zoo.frame import frame_from_image

PAGE = (Path(__file__).parents[1] / "docs" / "other-models.md").read_text(encoding="utf-8")
FILES = {match[1]: match[0] for match in re.finditer(r"# ([\w-]+\.(?:yaml|py))\n.*?(?=```)", PAGE, re.DOTALL)}
"""The files that the page writes out, by name."""
NATIVE = "supervised-resnet18w48-synthetic.fpn-camvid"
RGB = np.random.default_rng(0).integers(0, 256, (7, 10, 3), dtype=np.uint8)


def write_onnx(path: Path, nodes: list[Any], shape: list[Any], outputs: dict[str, Any], **options: Any) -> None:
    """A file with the input `pixels`; `outputs` has the shape of each, `dtype` and `to` are types of ONNX."""
    dtype, to = options.get("dtype", TensorProto.FLOAT), options.get("to", TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", dtype, shape)],
        [helper.make_tensor_value_info(name, to, sides) for name, sides in outputs.items()],
        options.get("constants", []),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def identity(path: Path, shape: tuple[Any, ...] = (1, 3, "h", "w"), **description: Any) -> str:
    """A file whose three logits are the channels of its input, with its description; its reference."""
    write_onnx(path, [helper.make_node("Identity", ["pixels"], ["logits"])], list(shape), {"logits": list(shape)})
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"classes": ["one", "two", "three"], **description}))
    return f"onnx:{path}"


def test_onnx_logits_are_the_prepared_pixels(tmp_path: Path) -> None:
    section = {"scale": 2, "mean": [1, 2, 3], "std": [0.5, 1, 2]}
    found = foreign.load(identity(tmp_path / "a.onnx", input=section))(RGB)
    logits = (RGB / 2 - [1, 2, 3]) / [0.5, 1, 2]
    assert found.labels.tolist() == logits.argmax(2).tolist()
    assert found.scores is not None
    expected = np.exp(logits.max(2)) / np.exp(logits).sum(2)
    assert_close(found.scores, expected)


def test_onnx_channels_and_layout(tmp_path: Path) -> None:
    plain = foreign.load(identity(tmp_path / "a.onnx"))(RGB).labels
    assert plain.tolist() == RGB.argmax(2).tolist()
    last = foreign.load(identity(tmp_path / "b.onnx", (1, "h", "w", 3), input={"layout": "NHWC", "channels": "BGR"}))
    assert last(RGB).labels.tolist() == RGB[:, :, ::-1].argmax(2).tolist()


def test_onnx_sizes(tmp_path: Path) -> None:
    big = np.repeat(np.repeat(RGB, 4, 0), 4, 1)
    fixed = foreign.load(identity(tmp_path / "a.onnx", (1, 3, 14, 20), input={"resample": "nearest"}))
    assert fixed.settings["input"]["size"] == (14, 20)
    assert fixed(RGB).labels.shape == (7, 10)
    enlarged = foreign.load(identity(tmp_path / "b.onnx", input={"resize": {"short_side": 7}, "resample": "nearest"}))
    # Nearest neighbour at a quarter, then bilinear back: the centres of the blocks keep their label.
    assert enlarged(big).labels.shape == (28, 40)
    # 7 x 10 padded to 8 x 16; the logits of the padding are cut off, so nothing shifts.
    padded = foreign.load(identity(tmp_path / "c.onnx", input={"size_multiple": 8}))
    assert padded(RGB).labels.tolist() == RGB.argmax(2).tolist()


@pytest.mark.parametrize("shape", [(1, "h", "w"), (1, 1, "h", "w"), (1, "h", "w", 1)])
def test_onnx_labels(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    axes = {3: [], 4: [1 if shape[1] == 1 else 3]}[len(shape)]
    nodes = [helper.make_node("ArgMax", ["pixels"], ["index"], axis=1, keepdims=0)]
    nodes.append(
        helper.make_node("Unsqueeze", ["index", "axes"], ["ids"])
        if axes
        else helper.make_node("Identity", ["index"], ["ids"])
    )
    constants = [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)]
    path = tmp_path / "labels.onnx"
    write_onnx(path, nodes, [1, 3, "h", "w"], {"ids": list(shape)}, to=TensorProto.INT64, constants=constants)
    (tmp_path / "other.yaml").write_text(
        "classes: {0: a, 1: b}\nignored: [2]\noutput: {kind: labels}\ninput: {size_multiple: 8}"
    )
    model = foreign.load(f"onnx:{path}", description=tmp_path / "other.yaml")
    found = model(RGB)
    assert found.scores is None
    assert found.labels.tolist() == np.array([0, 1, 255])[RGB.argmax(2)].tolist()
    (tmp_path / "labels.yaml").write_text("classes: {0: a, 1: b}\noutput: {kind: labels}")
    with pytest.raises(InputError, match="ids holds ids outside the classes: 2"):
        foreign.load(f"onnx:{path}")(RGB)


def test_onnx_bytes(tmp_path: Path) -> None:
    cast = [helper.make_node("Cast", ["pixels"], ["logits"], to=TensorProto.FLOAT)]
    shape = [1, 3, "h", "w"]
    write_onnx(tmp_path / "a.onnx", cast, shape, {"logits": shape}, dtype=TensorProto.UINT8)
    (tmp_path / "a.yaml").write_text("classes: [a, b, c]")
    assert foreign.load(f"onnx:{tmp_path / 'a.onnx'}")(RGB).labels.tolist() == RGB.argmax(2).tolist()
    (tmp_path / "a.yaml").write_text("classes: [a, b, c]\ninput: {mean: [1, 1, 1]}")
    with pytest.raises(InputError, match="takes bytes, which are not normalised"):
        foreign.load(f"onnx:{tmp_path / 'a.onnx'}")


def test_onnx_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    reference = identity(tmp_path / "a.onnx")
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secret")
    shape = [1, 3, "h", "w"]
    nodes = [helper.make_node("Mul", ["pixels", "w"], ["logits"])]
    write_onnx(tmp_path / "a.onnx", nodes, shape, {"logits": shape}, constants=[weights])
    with pytest.raises(InputError, match=r"keeps weights in '\.\./secret', outside its folder"):
        foreign.load(reference)


ONNX_MISTAKES: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "input name": (
        (1, 3, "h", "w"),
        {"input": {"name": "image"}},
        "input name 'image' is not in .*its input is 'pixels'",
    ),
    "output name": ((1, 3, "h", "w"), {"output": {"name": "out"}}, "output name 'out' is not in .*it has logits"),
    "layout": ((1, "h", "w", 3), {}, r"pixels \(1, any, any, 3\), which is not NCHW"),
    "rank": ((3, "h", "w"), {}, r"pixels \(3, any, any\), which is not NCHW with 3 channels"),
    "batch": ((4, 3, "h", "w"), {}, "takes batches of 4"),
    "size": ((1, 3, 8, 8), {"input": {"resize": {"size": [4, 8]}}}, "size 4 x 8 does not fit"),
    "one side": ((1, 3, 8, "w"), {}, "fixes one side of the image"),
    "short side": ((1, 3, 8, 8), {"input": {"resize": {"short_side": 8}}}, "images of a fixed size"),
    "both sizes": ((1, 3, "h", "w"), {"input": {"resize": {"short_side": 8, "size": [8, 8]}}}, "has 2 keys"),
    "classes": ((1, 3, "h", "w"), {"classes": ["a", "b"]}, "is not NCHW with the 2 classes"),
    "ids": ((1, 3, "h", "w"), {"classes": {0: "a", 1: "b", 3: "c"}}, "the ids must be 0 to 2"),
    "key": ((1, 3, "h", "w"), {"input": {"chanels": "BGR"}}, "unknown key .*chanels.*closest: channels"),
    "kind": ((1, 3, "h", "w"), {"output": {"kind": "mask"}}, "kind is 'mask'|kind is"),
    "std": ((1, 3, "h", "w"), {"input": {"std": [0, 1, 1]}}, "std"),
    "huge": ((1, 3, "h", "w"), {"input": {"resize": {"size": [10**6, 10**6]}}}, "at most|8192"),
}


@pytest.mark.parametrize("mistake", ONNX_MISTAKES)
def test_an_onnx_file_that_does_not_fit_its_description(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape, description, message = ONNX_MISTAKES[mistake]
    reference = identity(tmp_path / "a.onnx", shape, **description)
    fails(["evaluate", reference, "--data", "synthetic"], message, tmp_path, capsys)


def fails(words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with exit code 2, one line, and nothing written."""
    assert main([*words, "--out", str(folder / "out")]) == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown)
    assert shown.count("\n") == 1
    assert not (folder / "out").exists()


def test_references_that_lead_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = identity(tmp_path / "a.onnx")
    data = ["--data", "synthetic"]
    fails(["evaluate", "onnx:no.onnx", *data], r"no\.onnx does not exist", tmp_path, capsys)
    fails(["evaluate", "onnx:", *data], "expected onnx:FILE.onnx", tmp_path, capsys)
    fails(["evaluate", "onnxx:a", *data], "unknown model", tmp_path, capsys)
    fails(["evaluate", reference, *data, "--record"], "--record adds results to a model folder", tmp_path, capsys)
    fails(["evaluate", reference, *data, "--engine", "torch"], "runs with onnx", tmp_path, capsys)
    fails(["evaluate", reference, *data, "--precision", "fp16"], "precision of its file", tmp_path, capsys)
    fails(["evaluate", "hf:a/b", *data, "--description", "x.yaml"], "none of the models", tmp_path, capsys)
    fails(["predict", reference, "a.png", "--whole"], "are for model folders", tmp_path, capsys)
    fails(["export", reference], "without a model folder", tmp_path, capsys)
    (tmp_path / "a.yaml").unlink()
    fails(["evaluate", reference, *data], r"a\.yaml does not exist; write it as in docs", tmp_path, capsys)
    (tmp_path / "a.yaml").write_text("classes: [a, b, c]")
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    fails(["evaluate", reference, *data], "is not", tmp_path, capsys)
    with pytest.raises(InputError, match=r"zoo\.foreign\.load"):
        zoo.load(reference)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes `their_model.py` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "their_model", raising=False)

    def write(text: str) -> str:
        (tmp_path / "their_model.py").write_text(f"import numpy as np\n{text}\n")
        return "python:their_model:segment"

    yield write
    sys.modules.pop("their_model", None)


def test_a_function_of_an_image_or_a_frame(module, tmp_path: Path) -> None:
    reference = module("def segment(image):\n    image[:] = 0\n    return np.ones(image.shape[:2], int)")
    (tmp_path / "their.yaml").write_text("classes: [a, b]")
    model = foreign.load(reference, description=tmp_path / "their.yaml")
    frame = frame_from_image(RGB.copy())
    found = model(frame)
    assert (found.labels == 1).all()
    assert found.scores is None
    assert found.image.tolist() == RGB.tolist()  # the function got a copy
    assert model.caveats[0]["kind"] == "training_unknown"
    del sys.modules["their_model"]
    text = "def segment(frame):\n    ids = np.full(frame.camera.image.shape[:2], 7)\n    ids[0] = 255\n"
    text += "    return ids, np.full(ids.shape, 0.5)\nsegment.classes = {7: 'road', 8: 'x'}\nsegment.takes = 'frame'"
    found = foreign.load(module(text))(frame)
    assert found.labels[1:].max() == 0
    assert (found.labels[0] == 255).all()
    assert found.scores is not None
    assert (found.scores == 0.5).all()


PYTHON_MISTAKES = {
    "raise ValueError('broken\\nlines')": r"failed on frame .*: ValueError: broken",
    "return image": r"returned \(.*3\) uint8 for frame .*; expected labels",
    "return image[:, :, 0].astype(float)": "float64 .*whole numbers",
    "return None": "returned NoneType",
    "return image[:5, :, 0]": "expected labels",
    "return np.full(image.shape[:2], 2)": "ids outside the classes: 2",
    "return np.full(image.shape[:2], -1)": "ids from -1 to -1",
    "return np.zeros(image.shape[:2], int), np.full(image.shape[:2], 1.5)": "as scores",
    "return np.zeros(image.shape[:2], int), np.full(image.shape[:2], np.nan)": "as scores",
}


@pytest.mark.parametrize("body", PYTHON_MISTAKES)
def test_a_function_that_fails_or_returns_nonsense(
    body: str, module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = module(f"def segment(image):\n    {body}\nsegment.classes = ['road', 'sky']")
    image = tmp_path / "a.png"
    Image.fromarray(RGB).save(image)
    fails(["predict", reference, str(image)], PYTHON_MISTAKES[body], tmp_path, capsys)


def test_a_function_that_is_not_there(module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "segment = 3\nsegmen_t = print": "segment is a int; expected a function",
        "def segmet(): pass": "has no function segment; closest: segmet",
        "def segment(image): pass": "does not state its classes",
        "def segment(image): pass\nsegment.classes = []": "classes must be",
        "import no_such_package": "imports no_such_package, which is not installed",
        "1 / 0": "importing their_model failed: ZeroDivisionError",
    }
    for text, message in cases.items():
        sys.modules.pop("their_model", None)
        fails(["evaluate", module(text), "--data", "synthetic"], message, tmp_path, capsys)
    fails(["evaluate", "python:nowhere_x:f", "--data", "synthetic"], "no module nowhere_x in", tmp_path, capsys)
    fails(["evaluate", "python:nowhere_x", "--data", "synthetic"], "expected python:MODULE:FUNCTION", tmp_path, capsys)


def test_the_page_evaluates_an_onnx_file_and_a_function_next_to_a_model_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files as the page writes them; the figures of the function are counted here a second time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("street.yaml", "nearest_colour.py"):
        Path(name).write_text(FILES[name])
    names = yaml.safe_load(FILES["street.yaml"])["classes"]
    weights = torch.randn(len(names), 3, generator=torch.Generator().manual_seed(0)).numpy()
    constants = [helper.make_tensor("w", TensorProto.FLOAT, [3, len(names)], weights.T.ravel())]
    nodes = [helper.make_node("MatMul", ["pixels", "w"], ["logits"])]
    shape = ["n", "h", "w", 3]
    write_onnx(Path("street.onnx"), nodes, shape, {"logits": [*shape[:3], len(names)]}, constants=constants)
    Path("street.yaml").write_text(FILES["street.yaml"].replace("  layout: NCHW", "  layout: NHWC"))
    models = [NATIVE.replace("camvid", "synthetic"), "onnx:street.onnx", "python:nearest_colour:segment"]
    assert main(["evaluate", *models, "--data", "synthetic", "--limit", "1", "--out", "out"]) == 0
    sys.modules.pop("nearest_colour")
    shown = " ".join(capsys.readouterr().out.split())
    assert "onnx:street.onnx: it is not known here what this model was trained on" in shown
    assert "python:nearest_colour:segment cannot predict sidewalk, building" in shown
    metrics = json.loads(Path("out/metrics.json").read_text())
    ours, onnx, function = metrics["models"]
    assert ours["caveats"] == []
    assert [caveat["kind"] for caveat in onnx["caveats"]] == ["training_unknown"]
    assert onnx["artefact"]["source"] == "onnx:street.onnx"
    found = function["results"]["synthetic"]
    assert found["class_map"] == "cityscapes to cityscapes, by equal names"
    frames = open_dataset("synthetic").select(limit=1).frames
    colours = np.array([[128, 64, 128], [70, 130, 180], [107, 142, 35]])
    hits = counted = 0
    for frame in frames:
        image, truth = frame.camera.image.astype(int), frame.camera.labels
        distances = [np.abs(image - colour).sum(2) for colour in colours]
        predicted = np.array([0, 10, 8])[np.argmin(distances, 0)]  # road, sky, vegetation
        hits += int(((predicted == truth) & (truth != 255)).sum())
        counted += int((truth != 255).sum())
    assert_close(found["groups"]["all"]["pixel_accuracy"]["value"], hits / counted)
    assert found["groups"]["all"]["ece"]["value"] is None
    assert found["groups"]["all"]["iou"]["building"]["value"] == 0
    assert "training_unknown" not in Path("out/report.html").read_text()
    assert "it is not known here what this model was trained on" in Path("out/report.html").read_text()


# Class maps


def test_a_map_of_the_user_takes_precedence(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("to: camvid\nclasses: {road: pavement, ship: null}")
    table = ClassTable("own", ("ship", "road"), ((0, 0, 0), (1, 1, 1)))
    (mapped,) = with_class_maps({"m": table}, [read_class_map(path)]).values()
    lookup = class_map(mapped, CAMVID)
    assert lookup[:3].tolist() == [255, CAMVID.names.index("pavement"), 255]
    assert unpredicted(mapped, CAMVID) == [name for name in CAMVID.names if name != "pavement"]


def test_equal_names_and_subsets_of_a_known_taxonomy_are_mapped() -> None:
    own = ClassTable("x", ("sky", "car"), ((0, 0, 0), (1, 1, 1)))
    assert class_map(own, CAMVID)[:2].tolist() == [0, 8]
    part = ClassTable("cityscapes", ("rider", "sky"), ((0, 0, 0), (1, 1, 1)))
    assert class_map(part, CAMVID)[:2].tolist() == [10, 0]
    assert unpredicted(CITYSCAPES, CAMVID) == []
    assert "wall" in unpredicted(CAMVID, CITYSCAPES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {one: sky}", "must have the keys"),
        ("to: camvid\nclasses: {one: sky, two: car}", "exactly the classes of onnx:a.onnx; unmapped: three"),
        ("to: camvid\nclasses: {one: sky, two: car, three: null, four: car}", "not among its classes: four"),
        (
            "to: camvid\nclasses: {one: sky, two: cars, three: null}",
            "'cars', which is no class of camvid; closest: car",
        ),
        ("to: kitti\nclasses: {one: sky, two: car, three: null}", "leads to kitti; the data has the classes camvid"),
        ("to: camvid\nclasses: {one: 1}", "is not NAME: COUNTERPART"),
    ],
)
def test_a_map_that_does_not_fit(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = identity(tmp_path / "a.onnx")
    (tmp_path / "map.yaml").write_text(text)
    camvid = tmp_path / "camvid"
    for folder, size in (("val", (4, 4, 3)), ("valannot", (4, 4))):
        (camvid / folder).mkdir(parents=True)
        Image.fromarray(np.zeros(size, np.uint8)).save(camvid / folder / "0016E5_07959.png")
    words = ["evaluate", reference, "--data", f"camvid={camvid}"]
    fails([*words, "--class-map", str(tmp_path / "map.yaml")], message, tmp_path, capsys)
    fails(words, r"unmapped: one, two, three; .*--class-map FILE", tmp_path, capsys)


def test_the_map_of_the_page_covers_voc() -> None:
    from zoo._torchvision import import_torchvision

    weights = import_torchvision().models.get_model_weights("lraspp_mobilenet_v3_large").DEFAULT
    content = yaml.safe_load(FILES["voc-to-camvid.yaml"])
    assert set(content["classes"]) == set(weights.meta["categories"])
    assert set(content["classes"].values()) - {None} <= set(CAMVID.names)


# torch


@pytest.mark.parametrize("size", [(40, 50), (5, 9)])
def test_labels_of_logits_are_those_of_torch(size: tuple[int, int]) -> None:
    logits = torch.randn(6, 12, 14, generator=torch.Generator().manual_seed(0)) * 5
    resized = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    labels, scores = labels_and_scores(logits, size)
    assert labels.tolist() == resized.argmax(0).tolist()
    assert_close(scores, resized.softmax(0).max(0).values.numpy())
    with pytest.raises(InputError, match="not numbers"):
        labels_and_scores(logits * torch.nan, size)


@pytest.fixture
def torchvision_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Random weights in torch's cache, under a name with their hash; returns the model and the file."""
    from zoo._torchvision import import_torchvision

    models = import_torchvision().models
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    torch.manual_seed(0)
    model = models.get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None)
    (tmp_path / "checkpoints").mkdir()
    weights = models.get_model_weights("lraspp_mobilenet_v3_large").DEFAULT

    def write(save: Any) -> Path:
        path = tmp_path / "checkpoints" / "x.pth"
        save(path)
        from zoo.files import sha256_of

        named = path.with_name(f"lraspp-{sha256_of(path)[:8]}.pth")
        path.rename(named)
        monkeypatch.setattr(weights.value, "url", f"http://127.0.0.1:9/{named.name}")
        return named

    return model.eval(), write


def test_a_model_of_torchvision(torchvision_weights, tmp_path: Path) -> None:
    model, write = torchvision_weights
    path = write(lambda path: torch.save(model.state_dict(), path))
    found = foreign.load("torchvision:lraspp_mobilenet_v3_large")
    assert found.artefact["file"] == path.name
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    # The published preset: short side 520, antialiased; then ImageNet's mean and standard deviation.
    pixels = F.interpolate(pixels, (520, 693), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = model((pixels - mean[:, None, None]) / std[:, None, None])["out"]
    expected = F.interpolate(logits, (60, 80), mode="bilinear", align_corners=False)[0].argmax(0).numpy()
    # Pillow resizes bytes, torch floats: a few pixels of random logits may flip.
    assert (found(image).labels == expected).mean() > 0.97
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match="is damaged, its SHA-256 does not begin with"):
        foreign.load("torchvision:lraspp_mobilenet_v3_large")
    path.unlink()
    with pytest.raises(InputError, match=r"downloading http://127.0.0.1:9/.* failed .*; put the file into"):
        foreign.load("torchvision:lraspp_mobilenet_v3_large")
    assert not list(path.parent.iterdir())
    with pytest.raises(InputError, match="closest: fcn_resnet50"):
        foreign.load("torchvision:fcn_resnet_50")


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_pickled_code_of_torchvision_is_not_run(torchvision_weights, tmp_path: Path) -> None:
    _, write = torchvision_weights
    write(lambda path: torch.save({"a": Evil(tmp_path / "ran")}, path))
    with pytest.raises(InputError, match="holds more than tensors"):
        foreign.load("torchvision:lraspp_mobilenet_v3_large")
    assert not (tmp_path / "ran").exists()


# transformers

NAMES = dict(enumerate(["road", "sidewalk", "building", "sky", "car"]))


@pytest.fixture(scope="module")
def transformers() -> Any:
    pytest.importorskip("transformers", reason="needs the extra hf (transformers)")
    pytest.importorskip("scipy", reason="transformers needs scipy for Mask2Former")
    from zoo._torchvision import import_torchvision

    import_torchvision()
    import transformers

    return transformers


def tiny(t: Any, kind: str, seed: int = 0) -> tuple[Any, Any]:
    """A model with random weights and its processor."""
    torch.manual_seed(seed)
    size = {"height": 64, "width": 96}
    stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"], "depths": [1] * 4}
    sizes = {"hidden_sizes": [8, 8, 16, 16]}
    processor = t.SegformerImageProcessor(size=size)
    if kind == "segformer":
        config = t.SegformerConfig(
            **sizes, depths=[1] * 4, num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16, id2label=NAMES
        )
        model = t.SegformerForSemanticSegmentation(config)
    elif kind == "upernet":
        backbone = t.ConvNextConfig(**sizes, **stages)
        config = t.UperNetConfig(backbone_config=backbone, hidden_size=16, pool_scales=[1, 2], id2label=NAMES)
        config.auxiliary_in_channels, config.auxiliary_channels = 16, 8
        model = t.UperNetForSemanticSegmentation(config)
    elif kind == "mask2former":
        backbone = t.SwinConfig(embed_dim=8, num_heads=[1, 1, 2, 2], window_size=2, **stages)
        widths = dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 32)
        few = {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 6}
        config = t.Mask2FormerConfig(backbone_config=backbone, **widths, **few, dim_feedforward=16, id2label=NAMES)
        model = t.Mask2FormerForUniversalSegmentation(config)
        processor = t.Mask2FormerImageProcessor(size=size)
    else:
        few = {"num_hidden_layers": 3, "num_attention_heads": 2, "num_queries": 6, "num_blocks": 1}
        config = t.EomtConfig(hidden_size=16, **few, image_size=64, patch_size=8, num_upscale_blocks=1, id2label=NAMES)
        model = t.EomtForUniversalSegmentation(config)
        processor = t.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": None}, do_split_image=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval(), processor


def saved(t: Any, kind: str, path: Path, seed: int = 0) -> tuple[Any, Any]:
    model, processor = tiny(t, kind, seed)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return model, processor


IMAGE = np.random.default_rng(3).integers(0, 256, (50, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["segformer", "upernet", "mask2former", "eomt"])
def test_labels_are_those_of_transformers(kind: str, transformers: Any, tmp_path: Path) -> None:
    varied = False
    for seed in range(6):  # with which of them labels vary depends on the version of transformers
        path = tmp_path / f"{kind}{seed}"
        model, processor = saved(transformers, kind, path, seed)
        found = foreign.load(f"hf:{path}")
        prediction = found(IMAGE)
        inputs = processor(images=Image.fromarray(IMAGE), return_tensors="pt")
        with torch.inference_mode():
            outputs = model(**{key: value for key, value in inputs.items() if key != "pixel_mask"})
        (expected,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[(50, 90)])
        assert prediction.labels.tolist() == expected.tolist()
        if varied := len(np.unique(prediction.labels)) > 1:
            break
    assert varied  # otherwise the comparison would prove nothing
    assert found.classes.names == tuple(NAMES.values())
    assert (prediction.scores is None) == (kind in ("mask2former", "eomt"))
    if prediction.scores is not None:
        resized = F.interpolate(outputs.logits, (50, 90), mode="bilinear", align_corners=False)
        assert_close(prediction.scores, resized.softmax(1)[0].max(0).values.numpy())
    elif kind == "mask2former":
        # By hand: the probability of each class, times the masks of the queries, summed.
        masks = F.interpolate(outputs.masks_queries_logits, (384, 384), mode="bilinear").sigmoid()[0]
        classes = outputs.class_queries_logits[0].softmax(-1)[:, :-1]
        summed = F.interpolate(torch.tensordot(classes.T, masks, 1)[None], (50, 90), mode="bilinear")[0]
        assert (prediction.labels == summed.argmax(0).numpy()).mean() > 0.999


def test_repositories_that_are_refused(transformers: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(transformers, "segformer", tmp_path / "a")

    def refused(name: str, message: str) -> None:
        fails(["evaluate", f"hf:{tmp_path / name}", "--data", "synthetic"], message, tmp_path, capsys)

    def copy(name: str, file: str = "", **changes: Any) -> Path:
        import shutil

        shutil.copytree(tmp_path / "a", tmp_path / name)
        if file:
            content = json.loads((tmp_path / name / file).read_text()) | changes
            (tmp_path / name / file).write_text(json.dumps(content))
        return tmp_path / name

    folder = copy("pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    refused("pickled", "pytorch_model.bin may hold pickled code and is never read")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "pytorch_model.bin"}}')
    refused("pickled", "only safetensors files next to it are read")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a/model.safetensors"}}')
    refused("pickled", "only safetensors files next to it are read")
    assert not (tmp_path / "ran").exists()
    copy("code", "config.json", auto_map={"AutoModel": "evil.Model"})
    refused("code", "needs code of its own")
    copy("code2", "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.P"})
    refused("code2", "needs code of its own")
    copy("other", "config.json", architectures=["LlamaForCausalLM"])
    refused("other", "architecture LlamaForCausalLM is not supported; known: SegformerForSemanticSegmentation")
    copy("size", "preprocessor_config.json", size={"height": 10**6, "width": 10**6})
    refused("size", "must be sides from 1 to 8192")
    copy("names", "config.json", id2label={"0": "a", "1": "a"})
    refused("names", "two classes|cannot load")
    copy("deeper", "config.json", depths=[2, 1, 1, 1])
    refused("deeper", "lacks .* tensors of the architecture|cannot load")
    copy("backbone", "config.json", backbone="evil/model")
    refused("backbone", "takes its backbone from another model")
    copy("quantised", "config.json", quantization_config={"quant_method": "x"})
    refused("quantised", "is quantised")
    (copy("adapter") / "adapter_config.json").write_text("{}")
    refused("adapter", "is an adapter")
    (copy("damaged") / "model.safetensors").write_bytes(b"\x10" * 100)
    refused("damaged", "cannot load it")
    (copy("nopre") / "preprocessor_config.json").unlink()
    refused("nopre", "has no preprocessor_config.json")
    refused("nowhere", "is neither a folder nor ORG/NAME")


def test_the_model_of_the_page(
    transformers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(FILES["tiny_segformer.py"], "tiny_segformer.py", "exec"), {})
    Image.fromarray(IMAGE).save("street.png")
    assert main(["predict", "hf:tiny", "street.png", "--out", "out"]) == 0
    summary = json.loads(Path("out/street.json").read_text())
    assert (summary["model"], summary["artefact"]["source"]) == ("hf:tiny", "hf:tiny")


def test_of_a_repository_only_json_and_safetensors_are_downloaded(
    transformers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    saved(transformers, "segformer", tmp_path / commit)
    asked: list[Any] = []

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, revision))
        assert all(pattern.endswith((".json", ".safetensors")) for pattern in allow_patterns)
        if revision == "gone":
            raise OSError("no such revision\nand more")
        return str(tmp_path / commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = foreign.load("hf:org/name@v1")
    assert asked == [("org/name", "v1")]
    assert (model.name, model.artefact["revision"]) == ("hf:org/name@v1", commit)
    with pytest.raises(InputError, match=r"downloading hf:org/name@gone failed \(OSError: no such revision\); check"):
        foreign.load("hf:org/name@gone")


def test_without_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    words = ["evaluate", f"hf:{tmp_path}", "--data", "synthetic"]
    fails(words, r"needs the package transformers.*perception-zoo\[hf\]", tmp_path, capsys)
