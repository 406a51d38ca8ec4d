"""A model folder from a stranger names no file outside, runs nothing, never hangs, and takes no memory to speak of."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import json
import os
import pickle
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import agree

import zoo
from zoo.cli import main
from zoo.errors import InputError, IntegrityError
from zoo.files import atomic_directory
from zoo.folder.catalogue import BUNDLED
from zoo.folder.model_folder import ModelFolder, write_manifest
from zoo.folder.schema import schema
from zoo.npz import read_npz

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((Path(zoo.__file__).parent / "folder" / "config.schema.json").read_text())
TINY = {"embed_dim": 8, "depth": 1, "num_heads": 2, "img_size": 8, "patch_size": 4}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model for torch."""
    from zoo.folder.architecture import build
    from zoo.folder.weights import serialise

    path = tmp_path_factory.mktemp("made") / "model"
    path.mkdir()
    architecture = {
        "encoder": {
            "class": "zoo.encoders.vit:ViT",
            "arguments": {"model": "vit_tiny_patch16_224", "options": TINY},
        },
        "head": {"class": "zoo.heads.linear:LinearHead"},
    }
    import torch

    (path / "model.safetensors").write_bytes(serialise(build(architecture, 2).state_dict(), torch.float32))
    config = {
        "format": 1,
        "name": "tiny",
        "task": "segmentation2d",
        "architecture": architecture,
        "inputs": [{"kind": "image", "preprocessing": {"short_side": 16, "size_multiple": 4}}],
        "output": {
            "classes": {"taxonomy": "ground", "names": ["floor", "wall"], "colors": [[10, 20, 30], [200, 100, 0]]}
        },
        "artefacts": [{"file": "model.safetensors", "engine": "torch", "precision": "fp32", "sha256": "0" * 64}],
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.json").write_text(json.dumps({"format": 1, "rows": []}))
    (path / "parity.json").write_text(json.dumps({"format": 1, "rows": [], "files": []}))
    (path / "LICENSE").write_text("tiny\n")
    agree(path)
    return path


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "model")
    return tmp_path / "model"


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edits the configuration and makes everything agree again."""
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))
    agree(folder)


def with_arguments(folder: Path, part: str = "encoder", **arguments: Any) -> None:
    change(folder, lambda config: config["architecture"][part].setdefault("arguments", {}).update(arguments))


def with_options(folder: Path, **options: Any) -> None:
    change(folder, lambda config: config["architecture"]["encoder"]["arguments"]["options"].update(options))


# --- what an architecture may say ---


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_configuration_cannot_name_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    (folder / "weights.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with_options(folder, checkpoint_path=str(folder / "weights.bin"))
    with pytest.raises(InputError, match="unknown key 'checkpoint_path'"):
        zoo.load(folder, engine="torch")
    assert not (tmp_path / "ran").exists()


def test_a_configuration_cannot_reach_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **named: asked.append(words) or [])
    original = (folder / "config.json").read_text()
    overlay = {"url": "http://attacker.example/x", "hf_hub_id": None}
    for arguments in (
        {"pretrained": True},
        {"pretrained": True, "options": {**TINY, "pretrained_cfg_overlay": overlay}},
        {"options": {**TINY, "pretrained_cfg": overlay}},
        {"model": "hf-hub:attacker/model"},
        {"model": "local-dir:/tmp/model"},
        {"model": "vit_tiny_patch16_224@http://attacker.example"},
    ):
        (folder / "config.json").write_text(original)
        with_arguments(folder, **arguments)
        with pytest.raises(InputError, match=r"unknown key|expected the plain name"):
            zoo.load(folder, engine="torch")
    assert not asked


def timm_keywords() -> set[str]:
    """Every keyword that timm's constructors and builders take."""
    from zoo._torchvision import import_timm

    timm = import_timm()
    from timm.models import _builder, _factory, _features
    from torch import nn

    callables: list[Any] = [timm.create_model, *vars(_builder).values(), *vars(_factory).values()]
    callables += [value for value in vars(_features).values() if inspect.isclass(value)]
    modules = {timm.models.model_entrypoint(name).__module__ for name in timm.list_models()}
    for module in modules:
        values = vars(sys.modules[module]).values()
        callables += [value for value in values if inspect.isclass(value) and issubclass(value, nn.Module)]
    names: set[str] = set()
    for value in callables:
        if inspect.isfunction(value) or inspect.isclass(value):
            with contextlib.suppress(ValueError):  # a class of C code, which has no signature
                names |= set(inspect.signature(value).parameters)
    # Keywords that no signature shows, because they are taken out of **kwargs.
    for path in (Path(timm.__file__).parent / "models").glob("*.py"):
        names |= set(re.findall(r"kwargs(?:\.\w+\(|\[)['\"](\w+)['\"]", path.read_text(encoding="utf-8")))
    return names - {"self", "args", "kwargs"}


FORBIDDEN = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only"),
    *(
        "pretrained_strict",
        "pretrained_filter_fn",
        "model_cfg",
        "feature_cfg",
        "kwargs_filter",
    ),
    *("model_cls", "variant", "scriptable", "exportable", "no_jit", "out_indices", "feature_cls", "device", "dtype"),
    *("block_fn", "norm_layer", "act_layer", "cfg", "model_name", "in_chans", "num_classes"),
}


@pytest.mark.parametrize("encoder", ["convnet", "range_unet", "vit"])
def test_every_keyword_of_timm_that_is_not_listed_is_refused(encoder: str) -> None:
    names = timm_keywords()
    assert len(names) > 300
    assert names >= FORBIDDEN, "the sweep sees what timm takes"
    definition = SCHEMA["$defs"][encoder]["properties"]
    options = definition["arguments"]["properties"]["options"]
    if "$ref" in options:
        options = SCHEMA["$defs"][options["$ref"].removeprefix("#/$defs/")]
    assert options["additionalProperties"] is False
    allowed = set(options["properties"])
    assert not allowed & FORBIDDEN
    reference = definition["class"]["const"]
    validator = schema("config")
    for name in names | FORBIDDEN | {"pretrained_model_args", "url", "file", "hf_hub_id", "pretrained_loc"}:
        for value in ("/etc/passwd", {"url": "http://a"}, ["hf-hub:a/b"], True, None):
            given = {"encoder": {"class": reference, "arguments": {"options": {name: value}}}}
            arguments = {"encoder": {"class": reference, "arguments": {name: value}}}
            if name not in allowed or (not isinstance(value, int) and value is not None):
                with pytest.raises(InputError, match=r"options.*unknown key|options.*(expected|a list|a table)"):
                    validator.check(given, "it", "architecture")
            if name not in definition["arguments"]["properties"] or isinstance(value, str):
                with pytest.raises(InputError):
                    validator.check(arguments, "it", "architecture")


def test_listed_arguments_are_those_that_the_classes_take() -> None:
    import importlib

    given = {"in_channels", "strides", "num_classes"}  # to a head, by the encoder
    for branches in SCHEMA["$defs"]["architecture"]["properties"].values():
        for branch in branches["oneOf"]:
            definition = SCHEMA["$defs"][branch["$ref"].split("/")[-1]]["properties"]
            module, name = definition["class"]["const"].split(":")
            takes = set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
            listed = set(definition["arguments"].get("properties", {}))
            assert listed <= takes
            # Weights come from the folder alone, and a sparse encoder's backend is the machine's choice.
            assert takes - listed <= given | {"pretrained", "backend"}


def test_the_names_of_timm_pass_and_its_prefixes_do_not() -> None:
    from zoo._torchvision import import_timm

    names = import_timm().list_models() + import_timm().list_models(pretrained=True)
    for name in names:
        schema("config").check(name, "it", "timm_model")


def test_the_oldest_timm_that_is_allowed_unpickles_nothing() -> None:
    """Every `torch.load` below timm's models goes without code, or through the one function that decides it."""
    import ast
    import tomllib

    import timm

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["torch"]
    assert "timm>=1.0.30" in wanted
    assert tuple(map(int, timm.__version__.split(".")[:3])) >= (1, 0, 30)
    found = 0
    for path in (Path(timm.__file__).parent / "models").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "torch_load" in source or "torch.load" in source else ():
            if isinstance(node, ast.FunctionDef):
                named = node.args.args[len(node.args.args) - len(node.args.defaults) :]
                defaults = {argument.arg: default for argument, default in zip(named, node.args.defaults, strict=True)}
                if "weights_only" in defaults:
                    assert ast.unparse(defaults["weights_only"]) == "True"
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("torch.load", "_torch_load"):
                continue
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if ast.unparse(node.func) == "torch.load" and "weights_only" not in given:
                assert path.name == "_helpers.py", "only the branch for weights_only=False"
                continue
            found += 1
            assert given["weights_only"] in ("True", "weights_only")
    assert found >= 4


LIMITED = """
import resource, sys, time
import numpy as np
import torch, zoo, zoo.folder.architecture
from zoo._torchvision import import_timm
import_timm()
from zoo.errors import InputError
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 700_000_000, resource.RLIM_INFINITY))
for folder in sys.argv[1:]:
    start = time.process_time()
    try:
        zoo.load(folder, engine="torch")(np.zeros((9, 9, 3), np.uint8))
        message = "it loads and predicts"
    except InputError as error:
        message = str(error)
    print(f"{time.process_time() - start:.1f} {message}")
"""


def sliding(window: int, step: int, batch: int) -> dict[str, Any]:
    return {"mode": "sliding", "window": [window] * 2, "window_stride": [step] * 2, "batch": batch}


def convnet(**arguments: Any) -> dict[str, Any]:
    return {"class": "zoo.encoders.convnet:ConvNet", "arguments": arguments}


def options(config: dict[str, Any]) -> dict[str, Any]:
    return config["architecture"]["encoder"]["arguments"]["options"]


LARGE_RESNET = convnet(model="resnet18", options={"channels": [8192] * 4, "layers": [128] * 4})
LARGE_MINKUNET = {
    "class": "zoo.encoders.minkunet:MinkUNet",
    "arguments": {"layers": [32] * 8, "width": 8192, "planes": [8192] * 8},
}
TOO_LARGE: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda c: None, "it loads and predicts"),
    (lambda c: options(c).update(depth=200000), "depth is 200000; expected at most 128"),
    (lambda c: c["inputs"][0]["preprocessing"].update(short_side=60000), "short_side is 60000; expected at most 4096"),
    (lambda c: options(c).update(embed_dim=8192), "does not match its architecture"),
    (lambda c: options(c).update(img_size=4096, patch_size=1), "does not match its architecture"),
    (lambda c: c["architecture"].update(encoder=convnet(model="vit_giant_patch14_dinov2")), "does not match"),
    (lambda c: c["architecture"].update(encoder=LARGE_RESNET), "does not match its architecture"),
    (lambda c: c.update(architecture={"encoder": LARGE_MINKUNET}), "does not match its architecture"),
    (lambda c: c["inputs"][0].update(inference=sliding(4096, 1, 1)), "a pixel lies in more than 64 of them"),
    (lambda c: c["inputs"][0].update(inference=sliding(4096, 4096, 256)), "has more than 67,108,864 pixels"),
]


def test_sizes_beyond_reason_are_refused_before_memory_is_taken(made: Path, tmp_path: Path) -> None:
    """All of them within 700 MB of addresses beyond those that torch and timm take by themselves."""
    folders = []
    for i, (edit, _) in enumerate(TOO_LARGE):
        folders.append(tmp_path / f"model-{i}")
        shutil.copytree(made, folders[-1])
        change(folders[-1], edit)
    words = [sys.executable, "-c", LIMITED, *map(str, folders)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr[-2000:]
    for line, (_, message) in zip(result.stdout.splitlines(), TOO_LARGE, strict=True):
        seconds, said = line.split(" ", 1)
        assert message in said
        assert float(seconds) < 20  # of CPU time


# --- names and paths ---


def test_a_name_that_leads_outside_writes_nothing(folder: Path, tmp_path: Path) -> None:
    change(folder, lambda config: config.update(name="../../../../X"))
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", str(folder), "--out", str(tmp_path / "a" / "b" / "c")]) == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("key", ["../../x/f", "/tmp/x", "a/../../b", "..", "a\\b", ".hidden", "a//b", "nul\x00", "a\n"])
def test_a_manifest_key_that_leads_outside_makes_no_folder(folder: Path, tmp_path: Path, key: str) -> None:
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"][key] = {"sha256": "0" * 64, "size": 1}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    before = sorted(tmp_path.rglob("*"))
    assert main(["copy", str(folder), str(tmp_path / "a" / "copy")]) == 2
    with pytest.raises(InputError, match="expected a relative path"):
        ModelFolder.open(folder)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("Config.json", "lists both config.json and Config.json"),
        ("MANIFEST.json", "lists both"),
        ("config.json/x", "lists config.json as a file and config.json/x inside it"),
    ],
)
def test_two_names_for_one_place_are_refused(folder: Path, key: str, message: str) -> None:
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"][key] = {"sha256": "0" * 64, "size": 1}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=message):
        ModelFolder.open(folder)


def test_control_characters_do_not_reach_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, lambda config: config.update(licence={"weights": "\x1b]0;owned\x07"}))
    assert main(["info", str(folder)]) == 2
    assert capsys.readouterr().err.rstrip("\n").isprintable()


# --- kinds of files ---


def commands(folder: Path, out: Path) -> list[list[str]]:
    return [["info", str(folder)], ["copy", str(folder), str(out)], ["verify", str(folder)]]


FILES = ("MANIFEST.json", "config.json", "model.safetensors", "metrics.json", "parity.json", "LICENSE")


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    path.mkdir()


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


def as_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_link_outside(path: Path) -> None:
    other = path.parent.parent / f"elsewhere-{path.name}"
    os.rename(path.with_name(f"{path.name}.moved"), other)
    path.symlink_to(other)


def as_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket is limited to about 100 characters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("make", [as_fifo, as_folder, as_loop, as_link_to_a_device, as_link_outside, as_socket])
def test_only_regular_files_of_the_folder_are_read(
    folder: Path, tmp_path: Path, file: str, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    os.rename(folder / file, folder / f"{file}.moved")
    make(folder / file)
    signal.alarm(60)  # a hang ends here
    try:
        with pytest.raises(IntegrityError, match=r"a regular file was expected|cannot be read|outside the folder"):
            ModelFolder.open(folder)
        for words in commands(folder, tmp_path / "copy"):
            assert main(words) == 2
            assert capsys.readouterr().err.count("\n") == 1
    finally:
        signal.alarm(0)
    assert not (tmp_path / "copy").exists()


def test_a_file_that_gives_no_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files such as /proc/kmsg call themselves regular; opened without blocking, they may have nothing to give."""
    from zoo import files

    class Silent(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return None  # type: ignore[return-value]

    (tmp_path / "x").write_bytes(b"content")
    monkeypatch.setattr(files, "open", lambda descriptor, mode: Silent(descriptor), raising=False)
    with pytest.raises(IntegrityError, match="cannot be read: it returns no data"):
        files.read_regular(tmp_path / "x", 100)


def test_the_hub_cache_works_and_a_snapshot_elsewhere_does_not(folder: Path, tmp_path: Path) -> None:
    """The cache keeps `models--org--name/snapshots/<commit>/<file>` as links to `../../blobs/<hash>`."""
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in folder.iterdir():
        shutil.copyfile(file, repository / "blobs" / sha256(file))
        (snapshot / file.name).symlink_to(f"../../blobs/{sha256(file)}")
    assert zoo.load(snapshot).artefact["sha256"] == sha256(folder / "model.safetensors")
    ModelFolder.open(snapshot).copy_to(tmp_path / "copy").verify()
    (snapshot / "LICENSE").unlink()
    (snapshot / "LICENSE").symlink_to(folder / "LICENSE")
    with pytest.raises(IntegrityError, match=r"is a link to .* outside the folder"):
        ModelFolder.open(snapshot)


def test_links_inside_the_folder_are_followed(folder: Path) -> None:
    os.rename(folder / "LICENSE", folder / "LICENSE.txt")
    (folder / "LICENSE").symlink_to("LICENSE.txt")
    ModelFolder.open(folder).verify()


@pytest.mark.parametrize(("file", "size"), [("metrics.json", 17 * 2**20), ("model.safetensors", 9 * 2**30)])
def test_a_file_is_never_read_beyond_its_limit(folder: Path, file: str, size: int) -> None:
    os.truncate(folder / file, size)  # sparse: it takes no space
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"][file]["size"] = size
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"at most [0-9,]+ are read|expected at most"):
        ModelFolder.open(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_sizes_are_compared_before_a_file_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = ModelFolder.open(folder)
    os.truncate(folder / "model.safetensors", 4 * 2**30)
    monkeypatch.setattr("zoo.folder.model_folder.read_regular", lambda *words: pytest.fail("it was read"))
    with pytest.raises(IntegrityError, match=r"has 4,294,967,296 bytes, but MANIFEST.json says"):
        opened.read_bytes("model.safetensors")


# --- hashes ---


def test_a_file_that_changed_together_with_its_manifest_is_not_run(folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=r"disagree about model\.safetensors"):
        zoo.load(folder)
    for words in commands(folder, tmp_path / "copy"):
        assert main(words) == 2
    agree(folder)
    assert zoo.load(folder).artefact["sha256"] == hashlib.sha256(content).hexdigest()


# --- archives ---


def archive(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, content in entries:
            made.writestr(name, content)
    return buffer.getvalue()


def npy(text: str, data: bytes = b"") -> bytes:
    """An array file with any header."""
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def lying(content: bytes, declared: int) -> bytes:
    """The archive with another uncompressed size in its directory."""
    place = content.index(b"PK\x01\x02") + 24
    return content[:place] + struct.pack("<I", declared) + content[place + 4 :]


def header(descr: str = "<f4", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"


def bomb() -> bytes:
    """300 kB that hold a right array of 300 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made, made.open("a.npy", "w") as handle:
        handle.write(npy(header("|u1", "(300000000,)")))
        for _ in range(300):
            handle.write(bytes(1_000_000))
    return buffer.getvalue()


BOMB = bomb()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        BOMB,
        lying(BOMB, 100),
        archive(("a.txt", b"x")),
        archive(("a.npy", b"x")),
        archive(("a.npy", npy(header("|O", "(1,)"), pickle.dumps([1])))),
        archive(("a.npy", npy(header("|V8", "(1,)"), bytes(8)))),
        archive(("a.npy", npy(header("<f4", "(3,)"), bytes(8)))),
        archive(("a.npy", npy(header("<f4", "(2**70,)"), bytes(8)))),
        archive(("a.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 300) + b"(" * 300)),
        archive(("a.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"x" * 300)),
        archive(("a.npy", npy(header("<f4", "(-2,)"), bytes(8)))),
        archive(("a.npy", npy(header("<f4", "(1180591620717411303424,)"), bytes(8)))),
        archive(("a.npy", npy("(" * 5000))),
        archive(("a.npy", npy("[" * 300 + "]" * 300))),
        archive(("a.npy", npy("{'descr': '<f4'}"))),
        archive(("a.npy", npy(header(), bytes(8))), method=zipfile.ZIP_LZMA),
        archive(("a.npy", npy(header(), bytes(8))), method=zipfile.ZIP_BZIP2),
        archive(("a.npy", npy(header(), bytes(8))))[:-30],
    ],
    ids=range(20),
)
def test_archives_are_checked_before_they_are_decompressed(content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(IntegrityError, match="it is not a usable npz archive") as caught:
        read_npz(content, "it")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).count("\n") == 0
    assert peak < 20_000_000


def test_archives_are_read_as_numpy_reads_them() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a/labels": rng.integers(0, 255, (5, 7), dtype=np.uint8),
        "values": np.asfortranarray(rng.normal(size=(3, 4, 5)).astype(np.float32)),
        "large": rng.normal(size=20_000),
        "empty": np.zeros((0, 3), np.int64),
        "scalar": np.array(3.5),
    }
    for write in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        write(buffer, **arrays)
        found = read_npz(buffer.getvalue(), "it")
        assert found.keys() == arrays.keys()
        for name, value in arrays.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype
    with pytest.raises(IntegrityError, match="declares"):
        read_npz(buffer.getvalue(), "it", max_bytes=1000)


def test_safetensors_headers_are_checked() -> None:
    from zoo.folder.weights import read_header

    def made(header: Any, data: bytes = b"") -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
        return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}

    content = made({"__metadata__": {"format": "pt"}, "a": entry(), "b": entry("F16", (1, 3), (8, 14))}, bytes(14))
    assert read_header(content, "it") == {"a": (2,), "b": (1, 3)}
    for wrong in (
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        made(b"[" * 100_000),
        made(b"[]"),
        made({"a": entry()}, bytes(7)),
        made({"a": entry()}, bytes(9)),
        made({"a": entry(shape=(3,))}, bytes(8)),
        made({"a": entry(shape=(2**31, 2**31, 2**31))}, bytes(8)),
        made({"a": entry(shape=(-2,))}, bytes(8)),
        made({"a": entry(offsets=(0, 8)), "b": entry(offsets=(0, 8))}, bytes(8)),
        made({"a": entry(offsets=(8, 16))}, bytes(16)),
        made({"a": entry("PICKLE")}, bytes(8)),
        made({"a": {"dtype": "F32"}}, bytes(8)),
        made({"__metadata__": {"a": 1}}),
    ):
        with pytest.raises(IntegrityError, match=r"not a complete safetensors file|not valid JSON|nested"):
            read_header(wrong, "it")


def test_a_number_without_end_in_an_onnx_file_is_refused_at_once() -> None:
    from zoo.engines.onnx_file import external_files, metadata

    start = time.process_time()
    for read in (external_files, metadata):
        with pytest.raises(IntegrityError, match="64 bits"):
            read(b"\x3a" + b"\xff" * 3_000_000, "it")
    assert time.process_time() - start < 1
    # The largest number that protocol buffers know, 2**64 - 1 in ten bytes, is stepped over: field 1, a varint.
    assert metadata(b"\x08" + b"\xff" * 9 + b"\x01", "it") == {}


# --- what a killed process leaves ---

WRITER = """
import sys, time
from zoo.files import atomic_directory
with atomic_directory(sys.argv[1]) as temporary:
    (temporary / "big").write_bytes(b"x" * 1000)
    print("writing", flush=True)
    time.sleep(600)
"""


def parts(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".part"))


def start_writer(target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_what_a_killed_process_leaves_is_cleared_by_the_next(tmp_path: Path) -> None:
    for name in ("model", "model.fp16"):
        killed = start_writer(tmp_path / name)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    left = parts(tmp_path)
    assert len(left) == 2
    alive = start_writer(tmp_path / "model")
    try:
        assert len(parts(tmp_path)) == 2, "the next process cleared what the killed one left of the same target"
        with atomic_directory(tmp_path / "model") as temporary:
            (temporary / "file").write_text("x")
            assert len(parts(tmp_path)) == 3, "a living process keeps its folder"
        assert (tmp_path / "model" / "file").read_text() == "x"
        assert {name.split(".")[1:3][-1] for name in parts(tmp_path) if name in left} == {"fp16"}
    finally:
        alive.kill()
        alive.wait()


def test_what_a_killed_process_leaves_is_cleared_by_copy(folder: Path, tmp_path: Path) -> None:
    killed = start_writer(tmp_path / "copy")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert parts(tmp_path)
    assert main(["copy", str(folder), str(tmp_path / "copy")]) == 0
    assert not parts(tmp_path)


# --- everything together ---


@pytest.mark.skipif(sys.platform != "linux", reason="the fuzzer limits memory through /proc and setrlimit")
def test_twenty_mutated_folders_end_in_an_error_of_ours_or_a_right_load(tmp_path: Path) -> None:
    """A thousandth of `benchmarks/fuzz_folders.py`, which names the mutation behind every failure."""
    words = [sys.executable, str(ROOT / "benchmarks" / "fuzz_folders.py"), "--count", "20", "--seed", "7"]
    start = time.monotonic()
    result = subprocess.run([*words, "--out", str(tmp_path / "fuzz.json")], capture_output=True, text=True, timeout=580)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    counts = json.loads((tmp_path / "fuzz.json").read_text())["counts"]
    assert sum(counts.values()) == 20
    assert counts.get("refused", 0) > 0
    assert counts.get("loaded", 0) > 0
    assert time.monotonic() - start < 580


@pytest.mark.skipif(sys.platform != "linux", reason="the fuzzer limits memory through /proc and setrlimit")
def test_a_hundred_mutated_input_files_are_refused_or_read_as_an_independent_reader_reads_them(tmp_path: Path) -> None:
    """A thousandth of `benchmarks/fuzz_inputs.py`: ten of each kind, in at most 256 MiB."""
    words = [sys.executable, str(ROOT / "benchmarks" / "fuzz_inputs.py"), "--count", "100", "--seed", "7"]
    result = subprocess.run([*words, "--out", str(tmp_path / "fuzz.json")], capture_output=True, text=True, timeout=580)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert sum(found["counts"].values()) == 100
    assert found["counts"]["refused"] > 10
    assert len(found["passed"]) > 3  # kinds of files of which one was accepted
    assert 0 < found["peak_bytes"] < 256 * 1024 * 1024


def test_bundled_models_pass_every_check() -> None:
    for path in BUNDLED.iterdir():
        ModelFolder.open(path).verify()
