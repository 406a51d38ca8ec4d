"""Signed folders: one flipped byte, another key, a signature of something else, links and device records."""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub

from zoo.cli import main
from zoo.errors import IntegrityError
from zoo.folder.installed import install
from zoo.folder.model_folder import ModelFolder, write_manifest
from zoo.folder.signature import check_signature, sign

ROOT = Path(__file__).parents[1]
pytest.importorskip("model_signing", reason="the extra sign is not installed")
TOOLS: Any = runpy.run_path(str(ROOT / "benchmarks" / "flipped_bytes.py"))

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the keys, is not here")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return TOOLS["keys"](tmp_path)


@pytest.fixture
def folder(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    path = tmp_path / "model"
    (path / "onnx").mkdir(parents=True)
    (path / "weights.bin").write_bytes(bytes(range(256)))
    (path / "onnx" / "more.bin").write_bytes(b"more")
    config = {
        "format": 1,
        "name": "mine",
        "task": "features",
        "architecture": {"encoder": {"class": "zoo.encoders.vit:ViT", "arguments": {"model": "vit_tiny_patch16_224"}}},
        "inputs": [{"kind": "image"}],
        "artefacts": [
            {"file": "weights.bin", "engine": "torch", "sha256": hashlib.sha256(bytes(range(256))).hexdigest()}
        ],
    }
    (path / "config.json").write_text(json.dumps(config))
    write_manifest(path)
    assert main(["sign", str(path), "--key", str(keys[0])]) == 0
    return path


def test_a_signed_folder_is_accepted(folder: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder), "--key", str(keys[1])]) == 0
    assert "MANIFEST.json is signed with the key" in capsys.readouterr().out
    assert main(["verify", str(folder)]) == 0
    assert "was not checked" in capsys.readouterr().out
    assert "MANIFEST.sig" not in json.loads((folder / "MANIFEST.json").read_text())["files"]


def test_a_fiftieth_of_the_flips_of_the_benchmark(folder: Path, keys: tuple[Path, Path]) -> None:
    tried, accepted = TOOLS["flip"](folder, keys[1], 20, seed=3)
    assert accepted == []
    assert sum(tried.values()) == 20
    assert len(tried) == 4  # every signed file


def test_what_was_changed_and_sealed_again_is_refused(folder: Path, keys: tuple[Path, Path]) -> None:
    (folder / "onnx" / "more.bin").write_bytes(b"evil")
    write_manifest(folder)
    ModelFolder.open(folder).verify()  # the hashes fit
    with pytest.raises(IntegrityError, match=r"not a signature of its MANIFEST\.json"):
        check_signature(ModelFolder.open(folder), keys[1])


def test_another_key_no_signature_and_a_damaged_one(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    _, other = TOOLS["keys"](tmp_path / "other")

    def refusal(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "is not a signature" in refusal("verify", folder, "--key", other)
    assert "is not a public key" in refusal("verify", folder, "--key", folder / "config.json")
    assert "does not exist" in refusal("verify", folder, "--key", tmp_path / "nowhere.pem")
    assert "cannot sign" in refusal("sign", folder, "--key", keys[1])
    content = (folder / "MANIFEST.sig").read_bytes()
    for damaged in (b"", b"{}", b"[]", content[: len(content) // 2], b"\xff" * 100):
        (folder / "MANIFEST.sig").write_bytes(damaged)
        assert "is not a signature" in refusal("verify", folder, "--key", keys[1])
    (folder / "MANIFEST.sig").unlink()
    assert "is not signed" in refusal("verify", folder, "--key", keys[1])


@pytest.mark.parametrize(
    "words",
    [
        ("genpkey", "-algorithm", "RSA"),
        ("genpkey", "-algorithm", "ED25519"),
        ("ecparam", "-name", "secp256k1", "-genkey", "-noout"),
        ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:x"),
    ],
    ids=lambda words: words[2],
)
def test_keys_of_other_kinds_are_wrong_input(
    words: tuple[str, ...], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = tmp_path / "other.pem", tmp_path / "other_public.pem"
    subprocess.run(["openssl", *words, "-out", str(private)], check=True, capture_output=True)
    extract = ["openssl", "pkey", "-in", str(private), "-passin", "pass:x", "-pubout", "-out", str(public)]
    subprocess.run(extract, check=True, capture_output=True)
    before = (folder / "MANIFEST.sig").read_bytes()
    assert main(["sign", str(folder), "--key", str(private)]) == 2
    error = capsys.readouterr().err
    assert "cannot sign" in error
    assert error.count("\n") == 1
    assert (folder / "MANIFEST.sig").read_bytes() == before
    assert main(["verify", str(folder), "--key", str(public)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_signature_of_an_empty_folder_by_the_same_key_is_refused(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its list of ignored paths would otherwise make it fit every folder."""
    from model_signing import hashing, signing

    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "MANIFEST.json").write_text("{}")
    config = hashing.Config().set_ignored_paths(paths=["MANIFEST.json"], ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=keys[0]).set_hashing_config(config)
    signer.sign(tmp_path / "empty", folder / "MANIFEST.sig")
    with pytest.raises(IntegrityError, match="is not a signature"):
        check_signature(ModelFolder.open(folder), keys[1])


def test_a_signed_folder_takes_no_measurements_but_device_records(folder: Path, keys: tuple[Path, Path]) -> None:
    assert main(["card", str(folder)]) == 2
    assert main(["copy", str(folder), str(folder.parent / "copy")]) == 0
    assert not (folder.parent / "copy" / "MANIFEST.sig").exists()
    (folder / "devices").mkdir()
    (folder / "devices" / "board.json").write_text("{}")
    check_signature(ModelFolder.open(folder), keys[1])
    sign(ModelFolder.open(folder), keys[0])
    write_manifest(folder)
    assert not [file for file in ModelFolder.open(folder).manifest if file.startswith("devices") or ".sig" in file]
    check_signature(ModelFolder.open(folder), keys[1])


def test_the_links_of_a_cache_are_resolved(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """As the Hub's client stores a download: every file is a link to `blobs`."""
    blobs, snapshot = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    for i, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        target = snapshot / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blobs / str(i))
        target.symlink_to(blobs / str(i))
    check_signature(ModelFolder.open(snapshot), keys[1])
    (snapshot / "MANIFEST.sig").unlink()
    (snapshot / "MANIFEST.sig").symlink_to(folder / "MANIFEST.sig")  # out of the cache
    with pytest.raises(IntegrityError, match="outside the folder"):
        check_signature(ModelFolder.open(snapshot), keys[1])


def test_an_installed_copy_stays_signed(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    check_signature(install(ModelFolder.open(folder)), keys[1])


def test_a_signature_travels_through_the_hub(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """Pushed with the folder, downloaded with it, removed by a push of an unsigned folder; with the real client."""
    faults: Any = runpy.run_path(str(ROOT / "benchmarks" / "hub_faults.py"))
    folder = tmp_path / "model"
    for name, content in faults["small_files"](size=20_000).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert main(["sign", str(folder), "--key", str(keys[0])]) == 0
    program = (
        "import sys\n"
        "from zoo.folder.model_folder import ModelFolder\n"
        "from zoo.folder.signature import check_signature\n"
        "from zoo.hub import download\n"
        "from zoo.pushing import plan_push, push\n"
        "from pathlib import Path\n"
        "push(plan_push(ModelFolder.open(sys.argv[1])), 'org/model')\n"
        "loaded = download('hf-hub:org/model')\n"
        "if (loaded / 'MANIFEST.sig').exists():\n"
        "    check_signature(ModelFolder.open(loaded), Path(sys.argv[2]))\n"
        "    print('signed')\n"
    )

    def push_and_load(cache: str) -> str:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / cache),
            "HF_TOKEN": "hf_writer",
            "HF_HUB_DISABLE_XET": "1",
        }
        words = [sys.executable, "-c", program, str(folder), str(keys[1])]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with Hub().running() as hub:
        assert push_and_load("first") == "signed"
        signature = (folder / "MANIFEST.sig").read_bytes()
        found = hub.repositories["org/model"]
        assert found.commits[found.refs["main"]]["MANIFEST.sig"].content == signature
        (folder / "MANIFEST.sig").unlink()
        assert push_and_load("second") == ""
        assert "MANIFEST.sig" not in found.commits[found.refs["main"]]
        assert not hub.complaints
