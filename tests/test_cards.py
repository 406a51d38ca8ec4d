"""Model cards: rendered from the folder's JSON files alone, current, valid for the Hub, and runnable as they stand."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import agree, seal
from PIL import Image

import zoo
from zoo.cli import main
from zoo.contract import joined
from zoo.data import open_dataset
from zoo.errors import InputError
from zoo.folder.card import render_card
from zoo.folder.catalogue import BUNDLED, entries
from zoo.folder.model_folder import ModelFolder
from zoo.folder.model_index import eval_results
from zoo.folder.plain import plain_program
from zoo.inputs.windows import InferenceMode

ROOT = Path(__file__).parents[1]
NAMES = [name for name, entry in entries().items() if entry.bundled]
CAMERA = [name for name in NAMES if entries()[name].modality == "camera"]
CAMVID_MODEL = "supervised-resnet18w48-synthetic.fpn-camvid"


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_card_is_what_the_files_say(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """After a model was measured or exported again: python benchmarks/model_cards.py."""
    folder = ModelFolder.open(BUNDLED / name)
    assert (folder.path / "README.md").read_text(encoding="utf-8") == folder.card()
    assert main(["card", name, "--check"]) == 0
    assert bool(folder.config.get("pictures")) == (folder.config["modality"] == "camera")
    for picture in folder.config.get("pictures", ()):
        with Image.open(folder.path / picture["file"]) as opened:
            assert opened.width >= 1024  # an embedded frame has 512 columns, and so has the prediction


def test_the_folder_of_cards_is_current() -> None:
    """python benchmarks/model_cards.py writes it."""
    texts = runpy.run_path(str(ROOT / "benchmarks" / "model_cards.py"))["cards"]()
    assert set(texts) == set(entries())
    assert {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "model_cards").glob("*.md")} == texts
    for name, entry in entries().items():
        if not entry.released:
            assert entry.recipe in texts[name]
            assert not re.search(r"\d+\.\d+ *%|mIoU", texts[name])
    linked = re.findall(r"\]\((\.\./[^)]+)\)", "".join(texts.values()))
    assert len(linked) == 2 * len(CAMERA)
    assert all((ROOT / "model_cards" / link).is_file() for link in linked)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(BUNDLED / CAMVID_MODEL, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("edited", ["README.md", "metrics.json"])
def test_a_figure_edited_by_hand_is_caught(copy: Path, edited: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copy / edited).read_text(encoding="utf-8")
    text, other = ("| 50.87 [", "| 58.87 [") if edited == "README.md" else ("0.5086982061567562", "0.5886982061567562")
    assert text in before
    (copy / edited).write_text(before.replace(text, other, 1), encoding="utf-8")
    assert main(["card", str(copy), "--check"]) == 2  # the manifest already says so
    seal(copy)
    capsys.readouterr()
    assert main(["card", str(copy), "--check"]) == 2
    error = capsys.readouterr().err
    assert "unlike the folder's JSON files" in error
    assert error.count("\n") == 1
    assert main(["card", str(copy)]) == 0
    assert main(["card", str(copy), "--check"]) == 0
    assert ("58.87" in (copy / "README.md").read_text(encoding="utf-8")) == (edited == "metrics.json")


def test_the_card_of_the_installed_package_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", NAMES[0]]) == 2
    assert "copy it first" in capsys.readouterr().err


def test_rows_of_a_benchmark_file_are_shown(copy: Path) -> None:
    (row,) = [row for row in json.loads((copy / "metrics.json").read_text())["rows"] if row.get("engine") == "openvino"]
    mine = {**row, "machine": {"processor": "My board"}, "latency_ms": {"p50": 7.04, "p90": 8.0, "p99": 9.0}}
    other = {**mine, "machine": {"processor": "Another file"}, "artefact_sha256": "0" * 64}
    (copy / "benchmark.json").write_text(json.dumps({"format": 1, "rows": [mine, other]}))
    seal(copy)
    assert main(["card", str(copy)]) == 0
    card = (copy / "README.md").read_text(encoding="utf-8")
    assert "| cpu: My board | 2 | 256 x 512 | 7.0 | 8.0 | 9.0 |" in card
    assert "Another file" not in card


def test_a_card_without_head_classes_or_results() -> None:
    config = {
        "name": "encoder",
        "task": "features",
        "architecture": {"encoder": {"class": "zoo.encoders.vit:ViT"}},
        "inputs": [{"kind": "image"}],
        "licence": {"weights": "Apache-2.0"},
        "artefacts": [{"file": "w.safetensors", "engine": "torch", "sha256": "0" * 64}],
    }
    card = render_card(config, [])
    assert "zoo info encoder" in card
    assert "No condition has results yet" in card
    assert "model-index" not in card
    assert "license: apache-2.0" in card
    # a row of another metric brings its own columns
    row = {"artefact_sha256": "0" * 64, "data": "d", "split": "val", "group": "night", "frames": 3, "headline": "nds"}
    row |= {"nds": 0.5, "nds_interval": [0.4, 0.6], "ate": 0.25, "ate_interval": None}
    row["columns"] = [
        {"key": "ate", "title": "ATE", "unit": "m", "scale": 1, "digits": 2},
        {"key": "nds", "title": "NDS", "unit": "%", "scale": 100, "digits": 1},
    ]
    lines = render_card(config, [row]).splitlines()
    assert "| data | split | condition | frames | NDS (%) | ATE (m) | rPD | notes |" in lines
    assert "| d | val | night | 3 | 50.00 [40.0, 60.0] | 0.250 |  |  |" in lines


def test_pictures_show_the_worst_condition_of_any_metric_and_what_the_task_draws(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    shown = next(entry["sha256"] for entry in config["artefacts"] if entry["engine"] == "onnx")
    row = {"artefact_sha256": shown, "data": "synthetic", "split": "val", "frames": 4, "headline": "error"}
    row["columns"] = [{"key": "error", "title": "Error", "unit": "m", "scale": 1, "digits": 1}]
    for higher_is_better, worst, extreme in ((True, "rain", "lowest"), (False, "fog", "highest")):
        row["columns"][0]["higher_is_better"] = higher_is_better
        rows = [
            {**row, "group": group, "error": error} for group, error in (("rain", 1.0), ("night", 2.0), ("fog", 3.0))
        ]
        (copy / "metrics.json").write_text(json.dumps({"format": 1, "rows": rows}))
        seal(copy)
        assert main(["card", str(copy), "--pictures"]) == 0
        assert f"the adverse one with the {extreme} Error." in (copy / "README.md").read_text(encoding="utf-8")
        pictures = json.loads((copy / "config.json").read_text())["pictures"]
        assert [picture["condition"] for picture in pictures] == ["clear", worst]
    frame = next(frame for frame in open_dataset("synthetic").frames if frame.group == "fog")
    files = zoo.load(copy).task.files(zoo.load(copy)(frame), 0.55)
    with Image.open(copy / "pictures/fog.jpg") as both, Image.open(io.BytesIO(files["_overlay.jpg"])) as drawn:
        assert both.size == (512 + drawn.width, drawn.height)
        found = np.asarray(both.convert("RGB")).astype(float)
        assert np.abs(found[:256, :512] - frame.camera.image).mean() < 5  # two rounds of JPEG
        assert np.abs(found[:, 512:] - np.asarray(drawn.convert("RGB"))).mean() < 5


def test_a_task_that_draws_nothing_has_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch", reason="an encoder without a head runs with torch")
    from safetensors.torch import save_file

    from zoo.folder.architecture import build

    options = {"embed_dim": 8, "depth": 1, "num_heads": 2, "img_size": 8, "patch_size": 4}
    arguments = {"model": "vit_tiny_patch16_224", "options": options}
    architecture = {"encoder": {"class": "zoo.encoders.vit:ViT", "arguments": arguments}}
    folder = tmp_path / "encoder"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(build(architecture, None).state_dict(), folder / "w.safetensors")
    config = {
        "format": 1,
        "name": "encoder",
        "task": "features",
        "architecture": architecture,
        "inputs": [{"kind": "image", "preprocessing": {"size_multiple": 4, "short_side": 16}}],
        "artefacts": [{"file": "w.safetensors", "engine": "torch", "precision": "fp32", "sha256": "0" * 64}],
    }
    (folder / "config.json").write_text(json.dumps(config))
    agree(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["card", str(folder), "--pictures"]) == 2
    assert "predicts features, of which its task draws no picture; omit --pictures" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- metadata for the Hub ---


@pytest.mark.parametrize("name", NAMES)
def test_the_hub_reads_the_metadata_and_the_scores(name: str) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    folder = ModelFolder.open(BUNDLED / name)
    card = hub.ModelCard((folder.path / "README.md").read_text(encoding="utf-8"))
    data = card.data
    assert (data.library_name, data.model_name) == ("perception-zoo", name)
    assert data.pipeline_tag == ("image-segmentation" if name in CAMERA else None)
    free = folder.config["licence"]["weights"] == "Apache-2.0"
    assert (data.license, data.license_name) == (("apache-2.0", None) if free else ("other", "research-only"))
    files = {entry["sha256"]: entry["file"] for entry in folder.config["artefacts"]}
    expected = set()
    for row in folder.metrics():
        leaked = any("neighbours" in caveat["text"] for caveat in row.get("caveats", ()))
        if row.get("kind") != "latency" and not leaked:
            expected.add(
                (row["data"], row["split"], row["group"], files[row["artefact_sha256"]], round(row["miou"], 4))
            )
    found = {
        (each.dataset_type, each.dataset_split, each.dataset_config, each.metric_name.split()[-1], each.metric_value)
        for each in data.eval_results
    }
    assert found == expected
    assert {each.metric_type for each in data.eval_results} == {"mean_iou"}
    if name == CAMVID_MODEL:  # 64.9 by day is that of neighbours of training frames
        assert not [each for each in data.eval_results if each.dataset_config == "day"]
    again = hub.ModelCardData(**data.to_dict())
    assert sorted(map(repr, again.eval_results)) == sorted(map(repr, data.eval_results))


def test_eval_results_of_named_data_sets() -> None:
    """Read back by the Hub's own client: one value per task in each file, none from neighbours of training frames."""
    hub = pytest.importorskip("huggingface_hub", reason="the Hub's client comes with the extra hub")
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra hub")
    folder = ModelFolder.open(BUNDLED / CAMVID_MODEL)
    files = eval_results(folder.config, folder.metrics(), {"camvid": "org/camvid"})
    artefacts = [f"onnx-{CAMVID_MODEL}.onnx", "model.safetensors"]
    assert sorted(files) == sorted(f".eval_results/perception-zoo-camvid-{file}.yaml" for file in artefacts)
    for text in files.values():
        (entry,) = hub.parse_eval_result_entries(yaml.safe_load(text))
        assert (entry.dataset_id, entry.task_id, entry.value) == ("org/camvid", "val_dusk", 0.5087)
        assert entry.notes.startswith("mIoU, 62 frames, ")
    assert eval_results(folder.config, folder.metrics(), {}) == {}
    with pytest.raises(InputError, match="has no score on acdc to show on the Hub; it has scores on: camvid"):
        eval_results(folder.config, folder.metrics(), {"acdc": "org/acdc"})


# --- the program in the card ---


def run_without_zoo(program: str, folder: Path) -> np.ndarray:
    """Labels that the program writes in a process in which `zoo` cannot be imported."""
    (folder / "program.py").write_text(program)
    words = "import sys, runpy; sys.modules['zoo'] = None; runpy.run_path('program.py', run_name='__main__')"
    subprocess.run([sys.executable, "-I", "-c", words], cwd=folder, check=True, capture_output=True, timeout=300)
    return np.asarray(Image.open(folder / "labels.png"))


def image_of(size: tuple[int, int], condition: str) -> Image.Image:
    frame = next(frame for frame in open_dataset("synthetic").frames if frame.group == condition)
    return Image.fromarray(frame.camera.image).resize(size)


@pytest.mark.parametrize("name", CAMERA)
def test_the_program_in_the_card_gives_the_labels_of_this_package(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    folder = ModelFolder.open(BUNDLED / name)
    card = (folder.path / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(import numpy.*?)```", card, re.DOTALL)
    files = [entry["file"] for entry in folder.config["artefacts"] if entry["engine"] == "onnx"]
    assert len(programs) == len(files) == 1
    (tmp_path / "onnx").symlink_to(folder.path / "onnx")
    image_of((500, 270), "night").save(tmp_path / "street.png")
    labels = run_without_zoo(programs[0], tmp_path)
    assert labels.shape == (270, 500)
    assert len(np.unique(labels)) > 3
    assert np.array_equal(labels, zoo.load(name, engine="onnx")(tmp_path / "street.png").labels)


def test_the_program_for_sliding_windows(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    folder = ModelFolder.open(BUNDLED / NAMES[0])
    (tmp_path / "onnx").symlink_to(folder.path / "onnx")
    image_of((500, 270), "rain").save(tmp_path / "street.png")
    inference = InferenceMode(mode="sliding", window=(256, 288), window_stride=(160, 192))
    entry = folder.artefact("onnx")
    changed: Any = dataclasses.replace(folder.inputs[0], inference=inference)  # type: ignore[type-var]
    program = plain_program(entry["file"], joined(changed.contract(entry), folder.task.contract(entry)))
    assert program is not None
    labels = run_without_zoo(program, tmp_path)
    expected = zoo.load(folder.path, engine="onnx", input_settings={"inference": inference.to_json()})(
        tmp_path / "street.png"
    ).labels
    assert (labels != expected).mean() < 1e-4  # the windows' logits are added in another order
    whole = zoo.load(folder.path, engine="onnx")(tmp_path / "street.png").labels
    assert (labels != whole).mean() > 1e-2


@pytest.mark.slow
def test_the_program_for_a_file_that_takes_pixels(tmp_path: Path) -> None:
    assert main(["export", NAMES[0], "--out", str(tmp_path / "out"), "--uint8-input"]) == 0
    folder = ModelFolder.open(tmp_path / "out")
    card = (folder.path / "README.md").read_text(encoding="utf-8")
    (program,) = [
        each for each in re.findall(r"```python\n(import numpy.*?)```", card, re.DOTALL) if "uint8.onnx" in each
    ]
    image_of((500, 270), "snow").save(folder.path / "street.png")
    labels = run_without_zoo(program, folder.path)
    file = next(entry["file"] for entry in folder.config["artefacts"] if "uint8" in entry["file"])
    assert np.array_equal(labels, zoo.load(folder.path, engine="onnx", file=file)(folder.path / "street.png").labels)


def test_a_step_without_lines_of_python_has_no_program() -> None:
    folder = ModelFolder.open(BUNDLED / NAMES[0])
    entry = folder.artefact("onnx")
    contract = joined(folder.inputs[0].contract(entry), folder.task.contract(entry))
    assert plain_program("a.onnx", contract) is not None
    contract["before"]["undistort"] = {"text": "Undistort."}
    assert plain_program("a.onnx", contract) is None
