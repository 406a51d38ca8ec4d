"""The licence chain in a model folder, what it allows, and why a folder must not be published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import seal

from zoo.classes import CITYSCAPES
from zoo.cli import main
from zoo.data import Dataset
from zoo.data.terms import IMAGENET, SYNTHETIC, TERMS, Terms
from zoo.folder.catalogue import BUNDLED, entries, entry
from zoo.folder.licences import Link, chain_of, commercial_use, terms_of_weights
from zoo.folder.model_folder import ModelFolder
from zoo.folder.publishable import publishable
from zoo.frame import CameraFrame, Frame
from zoo.training.publish import Start, Used, describe

FREE = "supervised-resnet18w48-synthetic.fpn-synthetic"
RESEARCH = "supervised-resnet18w48-synthetic.fpn-camvid"


def drives(kind: str) -> Dataset:
    frame = Frame(id="a", scene="s", cameras={"front": CameraFrame(image_source=np.zeros((2, 2, 3), np.uint8))})
    return Dataset(kind=kind, root=None, split="train", classes=CITYSCAPES, frames=(frame,))


class Run:
    name = "mine"


def chain_by_hand(start: Start, *kinds: str) -> list[tuple[str, str, bool | None]]:
    used = [Used(data := drives(kind), data.frames) for kind in kinds]
    facts = describe(Run(), entry("clcp-vit-s-a2d2"), start, used)
    return [(link.part, link.terms.name, link.terms.commercial) for link in facts.chain]


def test_a_run_writes_the_chain_of_its_data_and_of_its_initial_weights() -> None:
    assert chain_by_hand(Start.random(), "synthetic") == [
        ("weights", "mine", True),
        ("code", "perception-zoo", True),
        ("initial weights", "random", True),
        ("data", "synthetic street world", True),
    ]
    architecture = entry("clcp-vit-s-a2d2").architecture
    assert chain_by_hand(Start.imagenet(architecture), "a2d2") == [
        ("weights", "mine", False),
        ("code", "perception-zoo", True),
        ("initial weights", "timm vit_small_patch16_224.augreg_in21k_ft_in1k", False),
        ("data", "A2D2", True),
        ("data", "ImageNet-21k", False),
        ("data", "ImageNet-1k", False),
    ]
    # the data behind a folder's weights is taken over, and a data set that comes twice is listed once
    assert chain_by_hand(Start.folder(ModelFolder.open(BUNDLED / RESEARCH)), "acdc", "synthetic") == [
        ("weights", "mine", None),
        ("code", "perception-zoo", True),
        ("initial weights", RESEARCH, False),
        ("data", "ACDC", None),
        ("data", "synthetic street world", True),
        ("data", "CamVid", False),
    ]


def test_weights_inherit_the_conditions_of_their_parts() -> None:
    used = [Used(data := drives(kind), data.frames) for kind in ("a2d2", "nuscenes", "camvid")]
    facts = describe(Run(), entry("clcp-vit-s-a2d2"), Start.random(), used)
    terms = facts.chain[0].terms
    assert (terms.licence, terms.share_alike, terms.no_derivatives) == ("research-only", True, True)
    facts = describe(Run(), entry("clcp-vit-s-a2d2"), Start.random(), used[2:])  # CamVid: not known
    assert (facts.chain[0].terms.share_alike, facts.chain[0].terms.no_derivatives) == (None, None)


def test_a_link_reads_back_as_it_was_written() -> None:
    for terms in (*TERMS.values(), IMAGENET, terms_of_weights("w", "research-only")):
        link = Link("data", terms)
        assert Link.from_json(json.loads(json.dumps(link.to_json()))) == link


def test_a_folder_that_states_its_licences_in_words_only_is_read() -> None:
    words = {
        "weights": "research-only",
        "code": "Apache-2.0",
        "CamVid": "research use only",
        "my drives": "ask me",
        "initial weights": "first.model (Apache-2.0), which started from random",
    }
    chain = chain_of({"name": "w", "licence": words, "training_data": ["synthetic street world", "CamVid (train)"]})
    assert [(link.part, link.terms.name, link.terms.licence, link.terms.commercial) for link in chain] == [
        ("weights", "w", "research-only", False),
        ("code", "perception-zoo", "Apache-2.0", True),
        ("data", "CamVid", "research use only", False),
        ("data", "my drives", "unknown", None),
        ("initial weights", "first.model", "Apache-2.0", True),
        ("data", "synthetic street world", "Apache-2.0", True),
    ]
    assert chain_of({"name": "w"}) == ()
    assert not commercial_use(())


def test_list_filters_by_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--commercial", "--json"]) == 0
    synthetic = [name for name, each in entries().items() if each.released and name != RESEARCH]
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == synthetic
    assert FREE in synthetic


@pytest.mark.parametrize("name", [FREE, RESEARCH])
def test_the_bundled_models_may_be_published(name: str) -> None:
    folder = ModelFolder.open(BUNDLED / name)
    assert publishable(folder) == []
    data = {link.terms.name for link in chain_of(folder.config) if link.part == "data"}
    assert data == {each["name"] for each in folder.config["provenance"]["trained_on"]}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(BUNDLED / FREE, tmp_path / "model")
    return tmp_path / "model"


def with_chain(path: Path, *links: Link, **changes: Any) -> list[str]:
    config = json.loads((path / "config.json").read_text()) | changes
    config["licence_chain"] = [link.to_json() for link in links]
    (path / "config.json").write_text(json.dumps(config))
    seal(path)
    return publishable(ModelFolder.open(path))


def weights(licence: str) -> tuple[Link, ...]:
    own = Terms(name="x", licence="MIT", commercial=True, share_alike=False, no_derivatives=False)
    return Link("weights", terms_of_weights("x", licence)), Link("code", own), Link("initial weights", own)


def test_reasons_of_the_chain(copy: Path) -> None:
    free, data = weights("Apache-2.0"), Link("data", SYNTHETIC)
    assert with_chain(copy, *free, data) == []
    assert with_chain(copy, *free) == ["the licence chain in config.json lacks data"]
    unknown = Link("data", TERMS["acdc"])
    assert with_chain(copy, *free, data, unknown) == ["the terms of data ACDC are unknown (unknown)"]
    # CC BY-ND: commercial use is allowed, passing weights on is not
    reasons = with_chain(copy, *free, Link("data", TERMS["a2d2"]))
    assert reasons == [
        "A2D2 (CC BY-ND) forbids passing on works made from it",
        "the weights are stated to be Apache-2.0, but no-derivatives follows from what went into them",
    ]
    research = Link("data", TERMS["camvid"])
    assert with_chain(copy, *free, research) == [
        "the weights are stated to be Apache-2.0, but research-only follows from what went into them"
    ]
    own = {"licence": {"weights": "research-only", "code": "Apache-2.0"}}
    assert with_chain(copy, *weights("research-only"), research, **own) == []
    assert with_chain(copy, *free, data, **own) == [
        "config.json states two licences of the weights: research-only and Apache-2.0"
    ]


def test_reasons_of_the_files(copy: Path) -> None:
    onnx = f"onnx/{FREE}.onnx"
    (copy / "parity.json").write_text(json.dumps({"format": 1, "rows": [], "files": []}))
    rows = json.loads((copy / "metrics.json").read_text())["rows"]
    kept = [row for row in rows if row.get("kind") == "latency"]
    assert kept
    (copy / "metrics.json").write_text(json.dumps({"format": 1, "rows": kept}))
    seal(copy)
    reasons = publishable(ModelFolder.open(copy))
    assert [reason.partition(": ")[0] for reason in reasons] == [
        f"{onnx} has no row in parity.json",
        "model.safetensors has no measured results in metrics.json",
        f"{onnx} has no measured results in metrics.json",
    ]
    (copy / "model.safetensors").write_bytes(b"other")
    (reason,) = publishable(ModelFolder.open(copy))
    assert "model.safetensors has 5 bytes" in reason
