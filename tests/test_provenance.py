"""Terms of data, the licence that follows from them, and caveats from what a model was trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.classes import CAMVID
from zoo.cli import main
from zoo.data import READERS, Dataset, open_dataset
from zoo.data.terms import IMAGENET, TERMS, Terms, is_synthetic, places_of, terms_named, terms_of
from zoo.errors import InputError
from zoo.folder.catalogue import BUNDLED
from zoo.folder.licences import licence_text, terms_of_weights, weights_licence
from zoo.folder.model_folder import ModelFolder
from zoo.folder.provenance import caveats, row_caveats, row_note, trained_on
from zoo.frame import CameraFrame, Frame
from zoo.training.annotate import annotate

ROOT = Path(__file__).parents[1]
CAMVID_MODEL = "supervised-resnet18w48-synthetic.fpn-camvid"
CAMVID_REAL = ROOT.parent / "shared" / "real" / "camvid"


def test_every_reader_has_terms() -> None:
    assert set(READERS) - {"folder"} <= set(TERMS)  # nothing is known about the terms of your own data
    assert {name: TERMS[name].commercial for name in ("synthetic", "camvid", "cityscapes", "acdc")} == {
        "synthetic": True,
        "camvid": False,
        "cityscapes": False,
        "acdc": None,
    }
    assert all(terms.source.startswith("http") for terms in TERMS.values() if terms.name != "synthetic street world")
    assert terms_named("CamVid (day sequences of train)") is TERMS["camvid"]
    assert terms_named("my own drives") is None
    assert terms_named("ImageNet-1k") is IMAGENET


def data(commercial: bool | None, share_alike: bool | None = False, no_derivatives: bool | None = False) -> Terms:
    return Terms(name="x", licence="x", commercial=commercial, share_alike=share_alike, no_derivatives=no_derivatives)


@pytest.mark.parametrize(
    ("parts", "licence"),
    [
        ([], "unknown"),
        ([data(True)], "Apache-2.0"),
        ([data(True), data(False)], "research-only"),
        ([data(True), data(None)], "unknown"),
        ([data(False), data(None)], "unknown"),
        ([data(False, None, None)], "research-only"),
        ([data(True, None, False)], "unknown"),
        ([data(True, False, None)], "unknown"),
        ([data(True, True)], "share-alike"),
        ([data(True, True), data(True, False, True)], "no-derivatives"),
        ([data(False, False, True)], "research-only"),
        ([data(True), terms_of_weights("w", "Apache-2.0")], "Apache-2.0"),
        ([data(True), terms_of_weights("w", "MIT")], "Apache-2.0"),
        ([data(True), terms_of_weights("w", "research-only")], "research-only"),
        ([data(True), terms_of_weights("w", "no-derivatives")], "no-derivatives"),
        ([data(True), terms_of_weights("w", "unreleased")], "unknown"),
        ([data(True), terms_of_weights("w", "Apache 2")], "unknown"),
    ],
)
def test_the_strictest_part_decides(parts: list[Terms], licence: str) -> None:
    assert weights_licence(parts) == licence


def test_the_licence_file_names_the_chain() -> None:
    text = licence_text("mine", {"weights": "unknown", "code": "Apache-2.0", "ACDC": "unknown (https://x)"})
    assert text.startswith("mine\n\nThe licence of these weights is unknown.")
    assert text.endswith("What went into them:\n- code: Apache-2.0\n- ACDC: unknown (https://x)\n")
    assert "weights:" not in text.split("What went into them")[1]
    for licence in ("research-only", "no-derivatives", "share-alike", "unknown"):
        assert "Apache" not in licence_text("mine", {"weights": licence})


def frame(scene: str, second: float | None, group: str = "day") -> Frame:
    image = np.zeros((2, 2, 3), np.uint8)
    return Frame(
        id=f"{scene}_{second}",
        scene=scene,
        group=group,
        timestamp_us=None if second is None else round(second * 1e6),
        cameras={"front": CameraFrame(image_source=image, labels_source=image[..., 0])},
    )


def drives(*frames: Frame, kind: str = "camvid") -> Dataset:
    return Dataset(kind=kind, root=None, split="train", classes=CAMVID, frames=frames)


def config_of(*records: dict[str, Any]) -> dict[str, Any]:
    return {"provenance": {"trained_on": list(records)}}


def test_caveats_by_hand() -> None:
    # Drive A: 10, 11 and 12 s, then 40 s. Drive B: 5 s. Frames two seconds apart at most are one stretch.
    training = drives(*(frame("A", second) for second in (10, 11, 12, 40)), frame("B", 5))
    record = trained_on(training, training.frames, held_back=7)
    assert record["scenes"] == {"A": [[10.0, 12.0], [40.0, 40.0]], "B": [[5.0, 5.0]]}
    assert (record["name"], record["frames"], record["held_back"]) == ("CamVid", 5, 7)

    def kinds(*frames: Frame, kind: str = "camvid") -> dict[str, Any]:
        found = caveats(config_of(record), drives(*frames, kind=kind), frames)
        return {caveat["kind"]: (caveat["frames"], caveat.get("nearest_s")) for caveat in found}

    assert kinds(frame("C", 10)) == {}  # another drive
    assert kinds(frame("A", 10), kind="acdc") == {}  # another data set's drive of the same name
    assert kinds(frame("A", 13), frame("A", 20), frame("C", 1)) == {"neighbours_of_training": (2, 1.0)}
    # 25 s is 13 after 12 and 15 before 40; 80 s is 40 after 40.
    assert kinds(frame("A", 25), frame("A", 80)) == {"same_scene": (2, 13.0)}
    assert kinds(frame("A", 13), frame("A", 80)) == {"neighbours_of_training": (1, 1.0), "same_scene": (1, 40.0)}
    assert kinds(frame("A", 11), frame("A", 14)) == {"trained_on": (2, 0.0)}
    assert kinds(frame("B", None)) == {"same_scene": (1, None)}
    (unknown,) = caveats({}, training, training.frames)
    assert unknown["kind"] == "training_unknown"
    (inherited,) = caveats(config_of({"by": "old", "unrecorded": True, "scenes": {}}), training, training.frames)
    assert (inherited["kind"], "old" in inherited["text"]) == ("training_unknown", True)


def test_a_ratio_to_frames_next_to_training_is_marked() -> None:
    dataset = drives(frame("A", 13), frame("D", 3, "dusk"))
    config = config_of({"name": "CamVid", "scenes": {"A": [[10.0, 12.0]]}})
    rows = [
        {"data": "camvid", "group": "day", "rpd": None, "source": None, "miou": 0.6},
        {"data": "camvid", "group": "dusk", "rpd": 0.8, "source": "camvid:day", "miou": 0.5, "split": "val"},
    ]
    members = {"camvid": {"day": dataset.frames[:1], "dusk": dataset.frames[1:]}}
    also = [{"what": "elsewhere", "data": "camvid", "split": "test", "group": "dusk", "miou": 0.4, "rpd": 0.9}]
    also[0] |= {"miou_interval": [0.35, 0.45], "origin": "somebody", "measured_here": False}
    day, dusk = row_caveats(rows, config, {"camvid": dataset}, members, [{**rows[1], "also": also}])
    assert [caveat["kind"] for caveat in day["caveats"]] == ["neighbours_of_training"]
    assert [caveat["kind"] for caveat in dusk["caveats"]] == ["source_near_training"]
    assert "also" not in day
    assert dusk["also"] == also  # measuring the same frames and file again does not lose it
    assert row_note(day) == (
        "1 of 1 frames are neighbours of training frames (same drive, 1.0 s apart at the nearest, 1.0 s at most)"
    )
    assert row_note(dusk).endswith(
        "also mIoU 40.0 [35.0, 45.0], rPD 0.90 on camvid test dusk: elsewhere (reported by somebody, not measured here)"
    )
    assert row_note({}) == ""


def test_what_zoo_synthetic_renders_is_recognised(tmp_path: Path) -> None:
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    out = tmp_path / "frames"
    words = [
        "synthetic",
        "--layout",
        "cityscapes",
        "--frames",
        "2",
        "--scenes",
        "2",
        "--seed",
        "56",
        "--split",
        "train",
    ]
    assert main([*words, "--size", "48x80", "--workers", "1", "--out", str(out)]) == 0
    dataset = open_dataset("cityscapes", out, "train")
    assert terms_of(dataset).name == "synthetic street world"
    assert places_of(dataset, dataset.frames) == [56, 57]
    (out / "synthetic.json").unlink()
    assert not is_synthetic(dataset)
    embedded = open_dataset("synthetic")
    assert set(places_of(embedded, embedded.frames)) == {10000005, 10000018, 10000057, 10000117}
    record = trained_on(embedded, embedded.frames)
    assert (record["scenes"], record["places"][0]) == ({}, [10000005, 10000005])
    (caveat,) = caveats(config_of(record), embedded, embedded.frames)
    assert (caveat["kind"], caveat["frames"]) == ("same_scene", 20)
    assert caveats(config_of({**record, "places": [[1000, 1399]]}), embedded, embedded.frames) == []


@pytest.fixture
def camvid_model(tmp_path: Path) -> Path:
    """A copy of the bundled model without what was added to it by hand."""
    path = tmp_path / "model"
    shutil.copytree(BUNDLED / CAMVID_MODEL, path)
    config = json.loads((path / "config.json").read_text())
    config["provenance"].pop("trained_on", None)
    rows = json.loads((path / "metrics.json").read_text())
    for row in rows["rows"]:
        row.pop("caveats", None)
        row.pop("also", None)
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.json").write_text(json.dumps(rows))
    folder = ModelFolder(path, config, json.loads((path / "MANIFEST.json").read_text())["files"])
    folder.renew_manifest(["config.json", "metrics.json"])
    return path


@pytest.mark.real
@pytest.mark.skipif(not CAMVID_REAL.is_dir(), reason="../shared/real/camvid is not there")
def test_released_folders_get_what_their_runs_did_not_record(
    camvid_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in camvid_model.iterdir() if path.suffix == ".safetensors"}
    folder = annotate(camvid_model, [open_dataset("camvid", CAMVID_REAL), open_dataset("synthetic")])
    folder.verify()
    assert before == {path.name: path.read_bytes() for path in camvid_model.iterdir() if path.suffix == ".safetensors"}
    rows = {(row["data"], row["group"]): row for row in folder.metrics() if row.get("kind") != "latency"}
    (caveat,) = rows["camvid", "day"]["caveats"]
    # val is 07959 to 08159, and the nearest frames of train are 07920 and 08190, at 30 frames per second.
    assert (caveat["kind"], caveat["frames"], caveat["nearest_s"]) == ("neighbours_of_training", 101, 1.033)
    assert [caveat["kind"] for caveat in rows["camvid", "dusk"]["caveats"]] == ["source_near_training"]
    assert rows["synthetic", "clear"]["caveats"] == []
    assert [(a["miou"], a["measured_here"]) for a in rows["camvid", "day"]["also"]] == [(0.54, True), (0.564, False)]
    content = {path: path.read_bytes() for path in camvid_model.iterdir() if path.is_file()}
    annotate(camvid_model, [open_dataset("camvid", CAMVID_REAL), open_dataset("synthetic")])
    assert content == {path: path.read_bytes() for path in camvid_model.iterdir() if path.is_file()}
    assert main(["info", str(camvid_model)]) == 0
    (line, _) = [line for line in capsys.readouterr().out.splitlines() if "camvid val day" in line]
    for figure in ("mIoU 64.87 %, ", "101 of 101 frames are neighbours", "also mIoU 54.0 on", "also mIoU 56.4 on"):
        assert figure in line


def test_annotate_refuses_other_weights(camvid_model: Path) -> None:
    config = json.loads((camvid_model / "config.json").read_text())
    config["artefacts"][0]["sha256"] = "0" * 64
    (camvid_model / "config.json").write_text(json.dumps(config))
    files = json.loads((camvid_model / "MANIFEST.json").read_text())["files"]
    files[config["artefacts"][0]["file"]]["sha256"] = "0" * 64
    ModelFolder(camvid_model, config, files).renew_manifest(["config.json"])
    with pytest.raises(InputError, match="has no entry for"):
        annotate(camvid_model, [])


def rows_of(name: str) -> dict[str, dict[str, Any]]:
    """Accuracy rows of a bundled model on CamVid, by group; those of the ONNX file, which come first."""
    rows = ModelFolder.open(BUNDLED / name).metrics()
    return {row["group"]: row for row in reversed(rows) if row.get("data") == "camvid"}


def test_the_headline_carries_its_caveat_in_every_row() -> None:
    """README, card and `zoo info` show the same figures, and none of them without what must be read with it."""
    readme = (ROOT / "README.md").read_text()
    for name in (CAMVID_MODEL, "supervised-resnet18w48-synthetic.fpn-synthetic"):
        (line,) = [line for line in readme.splitlines() if line.startswith(f"| `{name}`")]
        rows = rows_of(name)
        for group in ("day", "dusk"):
            interval = rows[group]["miou_interval"]
            spread = " [{:.1f}, {:.1f}]".format(*(100 * value for value in interval)) if interval else ""
            shown = f"{100 * rows[group]['miou']:.1f}{spread}"
            assert shown in line
            assert interval or f"{shown} [" not in line
            for also in rows[group]["also"]:
                assert f"{100 * also['miou']:.1f}" in line
        for caveat in rows["day"]["caveats"]:
            assert caveat["kind"].replace("_", " ").split()[0] in line
    folder = ModelFolder.open(BUNDLED / CAMVID_MODEL)
    card = (folder.path / "README.md").read_text()
    lines = [line for line in card.splitlines() if line.startswith("| camvid | val | day |")]
    assert len(lines) == 2
    for line in lines:
        assert "neighbours of training frames" in line
        assert "mIoU 54.0 on camvid val day: the same recipe" in line
        assert "mIoU 56.4 on camvid test day" in line
        assert "not measured here" in line


@pytest.mark.slow
def test_training_frames_carry_the_marker_of_every_run_that_added_places(tmp_path: Path) -> None:
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    from zoo.training.synthetic_frames import main as render

    common = ["--places", "1", "--size", "36", "64", "--workers", "1", "--out", str(tmp_path)]
    for first_place, places in ((1000, [1000]), (1500, [1000, 1500])):
        render(["--first-place", str(first_place), *common])
        dataset = open_dataset("cityscapes", tmp_path, "train")
        assert is_synthetic(dataset)
        assert sorted(set(places_of(dataset, dataset.frames))) == places
        assert len(dataset) == 5 * len(places)
