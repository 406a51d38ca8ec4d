"""Installed models: names that the user's own training fills, in one step, and never with another model."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import seal

import zoo
from zoo.classes import CITYSCAPES
from zoo.cli import main
from zoo.data import Dataset
from zoo.data.terms import mark_synthetic
from zoo.errors import InputError, IntegrityError, NotReleasedError
from zoo.folder.catalogue import BUNDLED, entry
from zoo.folder.installed import find_installed, home, install, installed_names, uninstall
from zoo.folder.model_folder import ModelFolder
from zoo.folder.provenance import trained_on
from zoo.frame import CameraFrame, Frame
from zoo.loading import resolve
from zoo.training.publish import Start, Used, describe, publish

RELEASED = "supervised-resnet18w48-synthetic.fpn-synthetic"
NAME = "clcp-vit-s-a2d2"


@pytest.fixture
def zoo_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tiny(path: Path, weights: bytes = b"weights", **changes: Any) -> Path:
    """A folder with a valid configuration whose weights nobody runs."""
    path.mkdir(parents=True)
    (path / "weights.bin").write_bytes(weights)
    sha256 = hashlib.sha256(weights).hexdigest()
    config = {
        "format": 1,
        "name": "mine",
        "task": "features",
        "architecture": {"encoder": {"class": "zoo.encoders.vit:ViT", "arguments": {"model": "vit_tiny_patch16_224"}}},
        "inputs": [{"kind": "image"}],
        "artefacts": [{"file": "weights.bin", "engine": "torch", "sha256": sha256}],
        **changes,
    }
    (path / "config.json").write_text(json.dumps(config))
    seal(path)
    return path


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_an_installed_name_is_used_like_one_of_the_catalogue(
    zoo_home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert installed_names() == []
    assert main(["install", str(BUNDLED / RELEASED), "--as", "mine"]) == 0
    assert resolve("mine").origin == "installed"
    assert resolve("mine").path == zoo_home / "models" / "mine"
    image = np.zeros((40, 60, 3), np.uint8)
    assert np.array_equal(zoo.load("mine")(image).labels, zoo.load(RELEASED)(image).labels)
    assert resolve(RELEASED).origin == "bundled"
    assert resolve(BUNDLED / RELEASED).origin == "folder"
    capsys.readouterr()
    assert main(["info", "mine", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["origin"], shown["name"], shown["licence"]) == ("installed", RELEASED, "Apache-2.0")
    assert main(["list", "mine", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["installed"], row["released"], row["problem"]) == ("mine", True, False, None)
    assert "installed already" in fails(capsys, "install", BUNDLED / RELEASED, "--as", "mine")
    assert "where mine is installed" in fails(capsys, "install", "mine", "--as", "mine", "--force")
    assert main(["uninstall", "mine"]) == 0
    assert list((zoo_home / "models").iterdir()) == []
    assert "installed: none" in fails(capsys, "uninstall", "mine")
    with pytest.raises(InputError, match="unknown model"):
        zoo.load("mine")


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/tmp/x", "", ".", "..", ".hidden", "-x", "a b", "a\n", "x" * 129, "é"]
)
def test_names_that_are_no_names(zoo_home: Path, tmp_path: Path, name: str) -> None:
    folder = ModelFolder.open(tiny(tmp_path / "m"))
    with pytest.raises(InputError, match=r"^the name "):
        install(folder, name)
    with pytest.raises(InputError, match="no model is installed"):
        uninstall(name)
    assert find_installed(name) is None
    assert not zoo_home.exists()


def test_the_name_of_a_released_model_is_refused(zoo_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "released model; choose another one" in fails(capsys, "install", BUNDLED / RELEASED)
    assert not zoo_home.exists()


def test_a_damaged_folder_is_not_installed(zoo_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny(tmp_path / "m")
    (folder / "weights.bin").write_bytes(b"weightz")
    assert "weights.bin has the SHA-256" in fails(capsys, "install", folder)
    assert installed_names() == []
    assert list((zoo_home / "models").iterdir()) == []


# --- names of the catalogue ---


def drives(root: Path | None = None) -> Dataset:
    """Two frames that a reader of A2D2 could have read."""
    image = np.zeros((2, 2, 3), np.uint8)
    frames = tuple(
        Frame(id=f"a{i}", scene=f"2018080700000{i}", cameras={"front": CameraFrame(image_source=image)})
        for i in range(2)
    )
    return Dataset(kind="a2d2", root=root, split="train", classes=CITYSCAPES, frames=frames)


@dataclass(frozen=True)
class Run:
    name: str = "my-run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with the entry's architecture that started from timm's weights and read A2D2 leaves behind."""
    data = drives()
    start = Start.imagenet(entry(NAME).architecture)
    facts = describe(Run(), entry(NAME), start, [Used(data, data.frames)])
    folder = tmp_path_factory.mktemp("run") / "model"
    torch.manual_seed(0)
    publish(folder, zoo.create(NAME), facts, {})
    return folder


def changed(source: Path, target: Path, **changes: Any) -> Path:
    """A copy with other values in its configuration, sealed again."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    config.update(changes)
    (target / "config.json").write_text(json.dumps(config))
    seal(target)
    return target


def test_a_catalogue_name_is_filled_by_a_model_trained_on_its_data(
    zoo_home: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotReleasedError):
        zoo.load(NAME)
    assert main(["install", str(trained), "--as", NAME]) == 0
    predictor = zoo.load(NAME, engine="torch")
    assert predictor.folder.path == zoo_home / "models" / NAME
    assert len(predictor(np.zeros((32, 32, 3), np.uint8)).levels) == len(predictor.task.outputs)
    capsys.readouterr()
    assert main(["info", NAME]) == 0
    shown = capsys.readouterr().out
    assert "origin: installed" in shown
    assert "licence: research-only" in shown  # the folder's, where the entry says unreleased
    assert main(["list", NAME + "*", "--released", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["installed"], row["licence"]) == (NAME, True, "research-only")
    assert main(["uninstall", NAME]) == 0
    with pytest.raises(NotReleasedError):
        zoo.load(NAME)


def test_a_rendered_folder_in_the_layout_of_a_data_set_is_refused(
    zoo_home: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark_synthetic(tmp_path / "rendered", "a2d2", frames=2, seed=5)
    data = drives(tmp_path / "rendered")
    record = trained_on(data, data.frames)
    assert record["name"] == "synthetic street world"
    # even if the list of training data claims otherwise
    before = json.loads((trained / "config.json").read_text())
    assert "A2D2 (train)" in before["training_data"]
    folder = changed(trained, tmp_path / "m", provenance={"trained_on": [record]})
    error = fails(capsys, "install", folder, "--as", NAME)
    assert "training data as in the catalogue" in error
    assert "synthetic street world" in error
    assert not zoo_home.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance": {}}, "training data as in the catalogue"),
        ({"provenance": {"trained_on": [{"scenes": {}, "unrecorded": True}]}}, "training data as in the catalogue"),
        (
            {"provenance": {"trained_on": [{"scenes": {}, "name": "A2D2"}]}, "training_data": []},
            "training data as in the catalogue",
        ),
        (
            {"architecture": {"encoder": {"class": "zoo.encoders.vit:ViT", "arguments": {"model": "x"}}}},
            "not the same architecture as",
        ),
        ({"task": "segmentation2d", "output": {"classes": CITYSCAPES.to_json()}}, "not the same task, classes as"),
    ],
)
def test_another_model_is_refused(
    zoo_home: Path, trained: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = ModelFolder.open(changed(trained, tmp_path / "m", **changes))
    with pytest.raises(InputError, match=message):
        install(folder, NAME)
    assert not zoo_home.exists()
    # nor is it used if it got there in another way
    shutil.copytree(folder.path, zoo_home / "models" / NAME)
    with pytest.raises(InputError, match=message):
        zoo.load(NAME)


# --- hostile contents of the directory ---


def test_links_and_files_in_the_directory_are_refused(
    zoo_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tiny(tmp_path / "outside")
    models = zoo_home / "models"
    models.mkdir(parents=True)
    (models / "linked").symlink_to(outside)
    (models / "dangling").symlink_to(tmp_path / "nothing")
    (models / "file").write_text("x")
    os.mkfifo(models / "pipe")
    (models / "bad name").mkdir()
    assert installed_names() == []
    for name in ("linked", "dangling", "file", "pipe"):
        for words in (["info", name], ["uninstall", name], ["install", outside, "--as", name, "--force"]):
            assert "remove it and install again" in fails(capsys, *words), words
    assert ModelFolder.open(outside).config["name"] == "mine"
    assert (models / "linked").is_symlink()


def test_a_damaged_installed_model_is_listed_as_unusable_and_can_be_removed(
    zoo_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(ModelFolder.open(tiny(tmp_path / "m")))
    (zoo_home / "models" / "mine" / "MANIFEST.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"MANIFEST\.json"):
        zoo.load("mine")
    capsys.readouterr()
    assert main(["list", "mine", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["task"], "MANIFEST.json" in row["problem"]) == ("unusable", True)
    assert main(["list"]) == 0  # the table as well
    assert main(["uninstall", "mine"]) == 0
    assert installed_names() == []


def test_the_directory_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny(tmp_path / "m")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    assert "cannot write" in fails(capsys, "install", folder)
    assert "check ZOO_HOME" in fails(capsys, "list")
    monkeypatch.delenv("ZOO_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data" / "perception-zoo"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".local" / "share" / "perception-zoo"


# --- several processes, and processes that are killed ---


def started(home: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zoo.cli", *words]
    return subprocess.Popen(
        command, env={**os.environ, "ZOO_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("force", [False, True])
def test_several_processes_install_one_name_at_once(zoo_home: Path, tmp_path: Path, force: bool) -> None:
    folders = [tiny(tmp_path / f"m{i}", bytes([i]) * 1000) for i in range(4)]
    runs = [started(zoo_home, "install", str(folder), *(["--force"] if force else [])) for folder in folders]
    outcomes = [(*run.communicate(), run.returncode) for run in runs]
    codes = sorted(code for _, _, code in outcomes)
    assert codes == ([0, 0, 0, 0] if force else [0, 2, 2, 2]), outcomes
    assert all("already" in error for _, error, code in outcomes if code == 2)
    ModelFolder.open(zoo_home / "models" / "mine").verify()
    assert os.listdir(zoo_home / "models") == ["mine"]


def test_a_replaced_model_is_never_missing(zoo_home: Path, tmp_path: Path) -> None:
    folders = [ModelFolder.open(tiny(tmp_path / f"m{i}", bytes([i]) * 1000)) for i in range(2)]
    install(folders[0])
    missing, done = 0, threading.Event()

    def watch() -> None:
        nonlocal missing
        while not done.is_set():
            missing += not (zoo_home / "models" / "mine" / "MANIFEST.json").exists()

    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(100):
        install(folders[i % 2], replace=True)
    done.set()
    watcher.join()
    assert missing == 0
    assert (zoo_home / "models" / "mine" / "weights.bin").read_bytes() == bytes([1]) * 1000


def test_a_killed_install_leaves_nothing_visible(zoo_home: Path, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "m", random.Random(0).randbytes(1_000_000) * 48)
    draw = random.Random(1)
    states = set()
    for _ in range(6):
        run = started(zoo_home, "install", str(folder))
        deadline = time.monotonic() + 60
        while not list(zoo_home.glob("models/.mine.*.part/*")) and time.monotonic() < deadline:
            time.sleep(0.001)  # until it writes
        time.sleep(draw.uniform(0, 0.03))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        if (zoo_home / "models" / "mine").exists():  # it was finished
            ModelFolder.open(zoo_home / "models" / "mine").verify()
            uninstall("mine")
            states.add("finished")
        else:
            assert installed_names() == []
            states.add("cut off")
    assert "cut off" in states
    install(ModelFolder.open(folder)).verify()
    assert os.listdir(zoo_home / "models") == ["mine"]  # what the killed ones left is gone
