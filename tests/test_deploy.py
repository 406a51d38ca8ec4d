"""A model folder on the device: checked and measured without torch, recorded apart from what is signed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.folder.catalogue import BUNDLED
from zoo.folder.model_folder import ModelFolder

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
NAME = "supervised-resnet18w48-synthetic.fpn-synthetic"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(BUNDLED / NAME, tmp_path / "model")
    return tmp_path / "model"


def test_a_device_is_recorded_without_torch_and_the_folder_stays_as_published(folder: Path) -> None:
    before = (folder / "MANIFEST.json").read_bytes()
    words = ["deploy", str(folder), "--runs", "2", "--name", "board-1"]
    blocked = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'timm', 'onnx'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from zoo.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    result = subprocess.run([sys.executable, "-c", blocked, *words], capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr
    assert "stored outputs of its source" in result.stdout
    record = json.loads((folder / "devices" / "board-1.json").read_text())
    assert record["manifest_sha256"] == hashlib.sha256(before).hexdigest()
    onnx = hashlib.sha256((folder / "onnx" / f"{NAME}.onnx").read_bytes()).hexdigest()
    ((parity,), (latency,)) = record["parity"], record["latency"]
    assert (parity["artefact_sha256"], parity["passed"], parity["source"]["stored"]) == (onnx, True, True)
    assert {"clear", "night", "fog", "rain", "snow"} <= set(parity["conditions"])
    assert (latency["artefact_sha256"], latency["engine"], latency["runs"]) == (onnx, "onnx", 2)
    assert latency["latency_ms"]["p50"] > 0
    assert (folder / "MANIFEST.json").read_bytes() == before
    ModelFolder.open(folder).verify()


def test_what_is_refused_leaves_no_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(*words: str) -> str:
        capsys.readouterr()
        assert main(["deploy", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "copy it first" in refusal(NAME)
    assert "expected letters, digits" in refusal(str(folder), "--name", "../x")
    onnx = folder / "onnx" / f"{NAME}.onnx"
    with onnx.open("r+b") as handle:
        handle.seek(100_000)
        handle.write(b"\0\1\2\3")
    assert "has the SHA-256" in refusal(str(folder))
    assert not (folder / "devices").exists()
