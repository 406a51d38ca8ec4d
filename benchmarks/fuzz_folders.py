"""Mutated model folders: each must end in an error of ours or in a right load, quickly and in little memory.

    python benchmarks/fuzz_folders.py --count 20000 --seed 0 --out runs/fuzz.json

A small folder with every kind of file is changed at random: JSON by structure and by bytes, weights, ONNX files and
archives by bytes and in their headers, files replaced by folders, links, pipes and sockets, names that lead elsewhere.
Mostly the hashes are made to agree again, as an attacker would, so that they hide nothing. Then everything that reads a
folder runs on it: open, load (torch, onnx), info, verify without its engines, copy, the stored outputs, recording rows,
the card. A load is right if the hash that it reports is that of the file that lies in the folder. No case may write
outside its own folder.

The cases run in a worker process with a limit on its memory, which is started anew when it dies or takes too long.
Case `i` of a seed is the same every time: `--first i --count 1 --verbose` shows it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import json
import math
import os
import random
import re
import resource
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WEIGHTS, ONNX, STORED = "model.safetensors", "onnx/tiny.onnx", "onnx/tiny.reference.npz"
DOCUMENTS = ("config.json", "metrics.json", "parity.json")
FILES = (*DOCUMENTS, "MANIFEST.json", WEIGHTS, ONNX, STORED, "LICENSE", "README.md")
SECONDS = 60.0  # for one case, on a machine that others use too
MEMORY = 1_500_000_000  # bytes of addresses beyond those of an idle worker
CASES_PER_WORKER = 2000
CLASSES = ("floor", "wall")
WITHOUT_OPEN = ("open", "load torch", "info", "copy")  # what still runs on a folder that cannot be opened


# --- the folder that is mutated ---


def write_base(path: Path) -> None:
    """A valid folder with small files of every kind."""
    import torch

    from zoo.folder.architecture import build
    from zoo.folder.card import render_card
    from zoo.folder.weights import serialise

    (path / "onnx").mkdir(parents=True)
    torch.manual_seed(0)
    (path / WEIGHTS).write_bytes(serialise(build(ARCHITECTURE, len(CLASSES)).state_dict(), torch.float32))
    (path / ONNX).write_bytes(_onnx_model())
    (path / STORED).write_bytes(_stored_outputs())
    weights, exported = sha256(path / WEIGHTS), sha256(path / ONNX)
    config = _config(weights, exported)
    rows = [_accuracy(exported), _latency(weights)]
    compared = {"file": ONNX, "sha256": exported, "source_sha256": weights, "not_measured": []}
    parity = {"format": 1, "rows": [_parity_row(exported)], "files": [compared]}
    (path / "config.json").write_text(json.dumps(config, indent=1))
    (path / "metrics.json").write_text(json.dumps({"format": 1, "rows": rows}, indent=1))
    (path / "parity.json").write_text(json.dumps(parity, indent=1))
    (path / "LICENSE").write_text("tiny\n")
    (path / "README.md").write_text(render_card(config, rows))
    make_consistent(path)


ARCHITECTURE = {
    "encoder": {
        "class": "zoo.encoders.vit:ViT",
        "arguments": {
            "model": "vit_tiny_patch16_224",
            "options": {"embed_dim": 8, "depth": 1, "num_heads": 2, "img_size": 8, "patch_size": 4},
        },
    },
    "head": {"class": "zoo.heads.linear:LinearHead"},
}
IMAGE = {
    "name": "image",
    "dtype": "float32",
    "shape": [None, 3, None, None],
    "axes": ["batch", "channels", "height", "width"],
    "multiples": [1, 1, 4, 4],
}
LOGITS = {"name": "logits", "dtype": "float32", "shape": [None, 2, None, None], "stride": 4}


def _config(weights: str, exported: str) -> dict[str, Any]:
    """The configuration, with the hashes of the two files."""
    return {
        "format": 1,
        "name": "tiny",
        "description": "two classes",
        "task": "segmentation2d",
        "modality": "camera",
        "architecture": ARCHITECTURE,
        "inputs": [
            {
                "kind": "image",
                "preprocessing": {"normalisation": "constant", "mean": [0.5] * 3, "std": [0.2] * 3, "size_multiple": 4},
                "inference": {"mode": "sliding", "window": [8, 8], "window_stride": [4, 4], "batch": 2},
                "sensor": {"type": "camera", "channels": "RGB", "bits": 8},
            }
        ],
        "output": {
            "classes": {
                "taxonomy": "ground",
                "names": list(CLASSES),
                "colors": [[1, 2, 3], [4, 5, 6]],
                "ignore_index": 255,
            }
        },
        "parameters": 1000,
        "licence": {"weights": "Apache-2.0"},
        "training_data": ["nothing"],
        "provenance": {
            "command": "none",
            "settings": {"steps": 1, "seed": 0, "init": "random"},
            "training_frames": [1],
            "holdout_frames": 0,
            "kept_step": 1,
            "seconds": 1.0,
            "machine": "none",
            "torch": "none",
        },
        "artefacts": [
            {"file": WEIGHTS, "engine": "torch", "precision": "fp32", "sha256": weights},
            {
                "file": ONNX,
                "engine": "onnx",
                "precision": "fp32",
                "sha256": exported,
                "source_sha256": weights,
                "opset": 18,
                "inputs": [IMAGE],
                "outputs": [LOGITS],
                "in_graph": [],
            },
        ],
    }


def _stored_outputs() -> bytes:
    """Outputs of one frame, as an export stores them."""
    import numpy as np

    stored = io.BytesIO()
    arrays = {"a/labels": np.zeros((8, 8), np.uint8), "a/values": np.ones((2, 2, 2), np.float32)}
    np.savez_compressed(stored, **arrays)  # type: ignore[arg-type]
    return stored.getvalue()


def _onnx_model() -> bytes:
    """Two logits at stride 4: a convolution of 4 x 4."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weight = np.linspace(-1, 1, 2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["logits"], strides=[4, 4])],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 2, "i", "j"])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


def _accuracy(artefact: str) -> dict[str, Any]:
    row: dict[str, Any] = {"artefact_sha256": artefact, "data": "camvid", "split": "val", "group": "day", "frames": 3}
    for name in ("miou", "pixel_accuracy", "mean_class_accuracy", "ece", "rpd", "iiou"):
        row |= {name: 0.5, f"{name}_interval": [0.4, 0.6]}
    return {**row, "iou": {"floor": 0.5, "wall": None}, "settings": {"engine": "onnx"}, "command": "zoo evaluate"}


def _latency(artefact: str) -> dict[str, Any]:
    return {
        "kind": "latency",
        "artefact_sha256": artefact,
        "engine": "torch",
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "sample": {"kind": "image", "size": [8, 8], "plural": "images"},
        "runs": 3,
        "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0},
        "samples_per_s": 1000.0,
        "peak_bytes": 1000,
        "machine": {"processor": "none"},
        "command": "zoo benchmark",
    }


def _parity_row(artefact: str) -> dict[str, Any]:
    return {
        "artefact_sha256": artefact,
        "file": ONNX,
        "precision": "fp32",
        "engine": "onnx",
        "device": "cpu",
        "machine": {"processor": "none"},
        "frame_sets": [{"name": "embedded", "frames": 20}],
        "passed": True,
    }


# --- what is done to it ---


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_consistent(path: Path) -> None:
    """Hashes and sizes of whatever lies there, as whoever made the folder would write them."""
    with contextlib.suppress(Exception):  # a mutated configuration need not have any artefacts
        config = _read(path / "config.json")
        for entry in config["artefacts"]:
            with contextlib.suppress(Exception):
                if _plain(path / entry["file"]):
                    entry["sha256"] = sha256(path / entry["file"])
        (path / "config.json").write_text(json.dumps(config))
    listed = {
        file: {"sha256": sha256(path / file), "size": (path / file).stat().st_size}
        for file in FILES
        if file != "MANIFEST.json" and _plain(path / file)
    }
    with contextlib.suppress(Exception):
        previous = _read(path / "MANIFEST.json")["files"]
        listed = {**previous, **listed}  # files that are no longer plain ones stay listed
    if not os.path.lexists(path / "MANIFEST.json") or _plain(path / "MANIFEST.json"):
        (path / "MANIFEST.json").write_text(json.dumps({"format": 1, "files": listed}))


def _read(path: Path) -> Any:
    if not _plain(path):
        raise ValueError(f"{path} is not a file any more")
    return json.loads(path.read_bytes())


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size < 2**24


NAMES = (
    *("../x", "../../../../X", "/tmp/fuzz-escape", "a/../../b", "..", ".", "", ".hidden", "a\\..\\b", "a\0b", "a\nb"),
    *(
        "CON",
        "x" * 5000,
        "\u202eexe",
        "é",
        "config.json",
        "MANIFEST.json",
        "Config.JSON",
        WEIGHTS,
        ONNX,
        "onnx",
        "onnx/",
    ),
    *("hf-hub:a/b", "local-dir:/tmp", "http://example.com/x", "file:///etc/passwd", "${HOME}", "%s%n", "{{7*7}}"),
)
KEYS = (
    *("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "features_only"),
    *("model", "options", "depth", "depths", "channels", "layers", "img_size", "patch_size", "levels", "embed_dim"),
    *("num_heads", "window", "batch", "short_side", "kind", "class", "arguments", "in_channels", "global_pool"),
)
NUMBERS = (
    *(0, -1, 1, 2, 3, 7, 255, 256, 4096, 60_000, 200_000, 2**31, 2**63, 10**30, 0.5, -0.0, 1e-320, 1e308),
    *(math.nan, math.inf, -math.inf),
)
SCALARS: tuple[Any, ...] = (
    *NUMBERS,
    *NAMES,
    None,
    True,
    False,
    "resnet18",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
)
PARTS: tuple[Any, ...] = (
    {"class": "zoo.encoders.convnet:ConvNet", "arguments": {"model": "resnet18"}},
    {"class": "zoo.encoders.convnet:ConvNet", "arguments": {"model": "regnetx_002", "levels": [1, 2]}},
    {"class": "zoo.encoders.convnet:ConvNet", "arguments": {"model": "vit_giant_patch14_dinov2"}},
    {"class": "zoo.encoders.convnet:ConvNet", "arguments": {"model": "resnet18", "options": {"channels": [8192] * 4}}},
    {"class": "zoo.encoders.vit:ViT", "arguments": {"options": {"img_size": 4096, "patch_size": 1}}},
    {"class": "zoo.heads.mask_transformer:MaskTransformer", "arguments": {"depth": 64}},
    {"class": "zoo.heads.fpn:FPNHead", "arguments": {"width": [1, 2, 3]}},
    {"class": "zoo.encoders.minkunet:MinkUNet"},
    {"class": "os:system"},
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys."""
    found, waiting = [], [value]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def change_structure(path: Path, rng: random.Random) -> None:
    """One to three changes of the values in a JSON document."""
    with contextlib.suppress(ValueError, RecursionError, OSError):
        document = json.loads(path.read_bytes())
        for _ in range(rng.randint(1, 3)):
            if not isinstance(document, dict | list) or not places(document):
                break
            document = _changed(document, rng)
        text = json.dumps(document)
        if rng.random() < 0.05:  # a key twice
            text = text.replace('"format"', '"format": 1, "format"', 1)
        path.write_text(text)


def _changed(document: Any, rng: random.Random) -> Any:
    container, key = rng.choice(places(document))
    kind = rng.randrange(10)
    if kind == 0:
        del container[key]
    elif kind == 1:
        container[key] = rng.choice(SCALARS)
    elif kind == 2:
        container[key] = rng.choice([[], {}, [container[key]], {"x": container[key]}, [1, "a", None], [[[]]]])
    elif kind == 3 and isinstance(container, dict):
        container[rng.choice((*KEYS, *NAMES))] = rng.choice(SCALARS)
    elif kind == 4 and isinstance(container, dict):
        container[rng.choice((*KEYS, *NAMES))] = container.pop(key)
    elif kind == 5:
        value: Any = rng.choice(SCALARS)
        for _ in range(rng.choice([3, 30, 40, 200, 900])):
            value = [value] if rng.random() < 0.5 else {"x": value}
        container[key] = value
    elif kind == 6 and isinstance(container, list):
        container *= rng.choice([2, 3, 300])
    elif kind == 7:
        return rng.choice([container, [document], container[key], {}, [], None, 3, "x"])
    elif kind == 8 and key in ("encoder", "head"):
        container[key] = rng.choice(PARTS)
    else:
        targets = [place for place in places(document) if isinstance(place[0][place[1]], int | float | str)]
        if targets:
            container, key = rng.choice(targets)
            container[key] = rng.choice(SCALARS if isinstance(container[key], str) else NUMBERS)
    return document


def change_bytes(path: Path, rng: random.Random) -> None:
    """A truncated, flipped, padded or exchanged part of a file."""
    content = bytearray(path.read_bytes())
    kind = rng.randrange(7)
    place = rng.randrange(len(content) + 1)
    if kind == 0:
        del content[place:]
    elif kind == 1:
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            if content:
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        content[place:place] = rng.randbytes(rng.choice([1, 8, 100, 10_000]))
    elif kind == 3:
        del content[place : place + rng.choice([1, 4, 100])]
    elif kind == 4:
        content = bytearray(
            rng.choice([b"", b"\0" * 4096, b"[" * 50_000, b'{"a":' * 50_000, b"\xff" * 50_000, b"\xef\xbb\xbf{}"])
        )
    elif kind == 5:
        token = rng.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b'"\\ud800"', b"null"])
        content = content.replace(rng.choice([b"1", b"0.5", b"null", b"8"]), token, 1)
    else:
        content[place : place + 8] = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**63, 2**64 - 1]))
    path.write_bytes(content)


def change_header(path: Path, rng: random.Random) -> None:
    """Another JSON header of a safetensors file."""
    content = path.read_bytes()
    with contextlib.suppress(ValueError, struct.error):
        length = struct.unpack("<Q", content[:8])[0]
        header = path.parent / "header"
        header.write_bytes(content[8 : 8 + length])
        change_structure(header, rng)
        text = header.read_bytes()
        header.unlink()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def change_archive(path: Path, rng: random.Random) -> None:
    """Another archive: bombs, wrong sizes, headers that Python would have to evaluate, other methods."""
    shape = rng.choice(["(8, 8)", "(-1,)", f"({2**40},)", "(2**70,)", "()", "(1,)" * 2, "[8]", "(300000000,)"])
    descr = rng.choice(["|u1", "|O", "<f4", "|V9", "<U5", "x", "|u1'; import os"])
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = rng.choice([header, b"(" * 9000, b"[" * 9000, b"", header * 30])[:60_000]
    data = bytes(rng.choice([64, 64, 10, 0] * 4 + [40_000_000]))
    version = rng.choice([b"\x01\x00", b"\x02\x00", b"\x09\x00"])
    length = struct.pack("<H", len(header)) if version == b"\x01\x00" else struct.pack("<I", len(header))
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method if len(data) < 1000 else zipfile.ZIP_DEFLATED) as archive:
        for name in rng.sample(["a/labels.npy", "../../x.npy", "a.txt", "b.npy"], 2):
            archive.writestr(name, b"\x93NUMPY" + version + length + header + data)
    content = bytearray(buffer.getvalue())
    if rng.random() < 0.3:
        place = content.index(b"PK\x01\x02") + rng.choice([16, 20, 24, 28, 42])
        content[place : place + 4] = struct.pack("<I", rng.choice([0, 10, 2**31, 2**32 - 1]))
    path.write_bytes(content)


def change_kind(path: Path, rng: random.Random) -> None:
    """Something else where the file was."""
    folder, aside = path.parent, path.parent / f"aside-{rng.randrange(10**9)}"
    kind = rng.randrange(10)  # 9: nothing
    os.rename(path, aside)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.symlink_to(rng.choice(["/dev/zero", "/dev/random", "/dev/stdin", "/proc/self/mem", "/proc/kmsg"]))
    elif kind == 4:
        path.symlink_to(rng.choice(["/etc/passwd", "../../canary", "missing", "..", "/proc/self/fd/0"]))
    elif kind == 5:
        path.symlink_to(aside.name)  # a link inside the folder is right
        return
    elif kind == 6:
        here = os.getcwd()
        os.chdir(folder)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(here)
    elif kind == 7:
        os.truncate(aside, rng.choice([0, 2**24 + 1, 2**33 + 1, 2**40]))
        os.rename(aside, path)
        return
    elif kind == 8:
        os.link(aside, path)
        return
    aside.unlink()


def change_folder(path: Path, rng: random.Random) -> None:
    """Something else where the folder `onnx` was."""
    if (path / "onnx").is_symlink():
        return  # an earlier change of the same case came first
    shutil.rmtree(path / "onnx")
    kind = rng.randrange(5)
    if kind == 0:
        (path / "onnx").symlink_to("onnx")
    elif kind == 1:
        (path / "onnx").symlink_to(".")
    elif kind == 2:
        (path / "onnx").symlink_to("../..")
    elif kind == 3:
        (path / "onnx").write_text("a file")


def mutate(path: Path, rng: random.Random) -> list[str]:
    """Changes the folder; returns what was done."""
    changes: list[tuple[str, Callable[[Path, random.Random], None], Path]] = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = rng.random()
        if kind < 0.5:
            document = rng.choice(("config.json", "config.json", "config.json", *DOCUMENTS))
            changes.append((f"structure of {document}", change_structure, path / document))
        elif kind < 0.6:
            file = rng.choice(FILES)
            changes.append((f"bytes of {file}", change_bytes, path / file))
        elif kind < 0.72:
            file = rng.choice((WEIGHTS, ONNX, STORED))
            changes.append((f"bytes of {file}", change_bytes, path / file))
        elif kind < 0.78:
            changes.append(("header of the weights", change_header, path / WEIGHTS))
        elif kind < 0.84:
            changes.append(("archive", change_archive, path / STORED))
        elif kind < 0.94:
            file = rng.choice(FILES)
            changes.append((f"kind of {file}", change_kind, path / file))
        elif kind < 0.95:
            changes.append(("kind of the folder onnx", change_folder, path))
    for _, change, target in changes:
        if target == path or _plain(target):
            change(target, rng)
    done = [what for what, _, _ in changes]
    if rng.random() < 0.85:
        make_consistent(path)
        done.append("made consistent")
    if rng.random() < 0.15 and _plain(path / "MANIFEST.json"):
        (change_structure if rng.random() < 0.8 else change_bytes)(path / "MANIFEST.json", rng)
        done.append("MANIFEST.json")
    return done


# --- what is run on it ---


def steps(folder: Path, out: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Everything that reads a folder."""
    import zoo
    from zoo.commands import info
    from zoo.export.folder import add_row, read_parity
    from zoo.export.sources import StoredSource
    from zoo.export.verify import _check_entry
    from zoo.folder.model_folder import ModelFolder

    def load(engine: str) -> None:
        predictor = zoo.load(folder, engine=engine, threads=1)
        found = sha256(folder / predictor.artefact["file"])
        if found != predictor.artefact["sha256"]:
            raise AssertionError(f"{engine} reports {predictor.artefact['sha256']}, but ran {found}")

    def verify() -> None:
        opened = ModelFolder.open(folder)
        opened.verify()
        for entry in opened.config["artefacts"]:
            if entry["engine"] == "onnx":
                _check_entry(opened, entry)

    def stored() -> None:
        opened = ModelFolder.open(folder)
        StoredSource(opened.read_bytes(STORED), "0" * 64, opened.task, opened.inputs[0], STORED)

    def record() -> None:
        copy = ModelFolder.open(out / "copy")
        hashes = [entry["sha256"] for entry in copy.config["artefacts"]]
        copy.record([_accuracy(hashes[0])], ("artefact_sha256", "data", "group"))
        ModelFolder.open(out / "copy").verify()

    def add_parity() -> None:
        copy = ModelFolder.open(out / "copy")
        hashes = [entry["sha256"] for entry in copy.config["artefacts"] if entry["engine"] == "onnx"]
        add_row(copy, _parity_row(hashes[0] if hashes else "0" * 64))
        read_parity(ModelFolder.open(out / "copy"))

    yield "open", lambda: ModelFolder.open(folder)
    yield "load torch", lambda: load("torch")
    yield "load onnx", lambda: load("onnx")
    yield "info", lambda: info.run(info.Arguments(str(folder)))
    yield "info --json", lambda: info.run(info.Arguments(str(folder), json=True))
    yield "verify", verify
    yield "metrics", lambda: ModelFolder.open(folder).metrics()
    yield "parity", lambda: read_parity(ModelFolder.open(folder))
    yield "stored outputs", stored
    yield "copy", lambda: ModelFolder.open(folder).copy_to(out / "copy")
    yield "record", record
    yield "record parity", add_parity


def run_case(base: Path, scratch: Path, seed: int, index: int) -> dict[str, Any]:
    """Mutates a copy of the folder and runs everything on it."""
    from zoo.errors import InputError

    case = scratch / "case"
    folder, out = case / "in" / "model", case / "out"
    out.mkdir(parents=True)
    (case / "canary").write_text("canary")
    shutil.copytree(base, folder)
    done = mutate(folder, random.Random(f"{seed} {index}"))
    before, begun = _listing(case, out), time.process_time()
    passed, failures = [], []
    for name, step in steps(folder, out):
        if "open" not in passed and name not in WITHOUT_OPEN:
            continue  # they begin by opening it too
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                step()
            passed.append(name)
        except InputError as error:
            if len(str(error)) > 3000:
                failures.append(f"{name}: an error of {len(str(error))} characters: {str(error)[:300]}")
        except BaseException:
            failures.append(f"{name}: {traceback.format_exc()[-1500:]}")
        if not all(line.isprintable() for line in printed.getvalue().split("\n")):
            failures.append(f"{name}: control characters on the terminal")
    if {entry.name for entry in out.iterdir()} - {"copy"}:
        failures.append(f"left behind: {sorted(entry.name for entry in out.iterdir())}")
    took = time.process_time() - begun
    if _listing(case, out) != before or Path("/tmp/fuzz-escape").exists():
        failures.append("something was written outside the folder")
    shutil.rmtree(case)
    outcome = "loaded" if {"load torch", "load onnx"} & set(passed) else "refused"
    return {
        "index": index,
        "done": done,
        "passed": passed,
        "outcome": outcome,
        "failures": failures,
        "cpu_s": took,
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """Most memory that this process has had at once, in addition to what it had in `limit_memory`."""
    return _memory("VmHWM") - _idle_bytes


_idle_bytes = 0


def _memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    (kilobytes,) = re.findall(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kilobytes) * 1024


def _listing(path: Path, without: Path) -> list[tuple[str, int]]:
    found = []
    for folder, folders, files in os.walk(path):
        if Path(folder) == without:
            folders.clear()
            continue
        found += [(os.path.join(folder, file), os.lstat(os.path.join(folder, file)).st_size) for file in files]
    return sorted(found)


# --- worker and supervisor ---


def work(scratch: Path, seed: int) -> None:
    """Answers every index on stdin with a line of JSON on stdout."""
    sys.stdout, answers = sys.stderr, sys.stdout
    base = scratch / "base"
    if not base.exists():
        write_base(base)
    healthy = run_unmutated(base, scratch)
    assert not healthy, healthy
    limit_memory(MEMORY)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run_case(base, scratch, seed, int(line))), file=answers, flush=True)


def limit_memory(beyond: int) -> None:
    """Lets this process allocate `beyond` bytes of addresses more than it has now, and forgets its peak so far."""
    global _idle_bytes
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    _idle_bytes = _memory("VmRSS")
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + beyond, resource.RLIM_INFINITY))


def run_unmutated(base: Path, scratch: Path) -> list[str]:
    """What fails on the folder as it is: nothing may."""
    shutil.rmtree(scratch / "case", ignore_errors=True)
    out = scratch / "case" / "out"
    out.mkdir(parents=True)
    failures = []
    for name, step in steps(base, out):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                step()
        except Exception as error:
            failures.append(f"{name}: {error!r}")
    shutil.rmtree(scratch / "case")
    return failures


class Worker:
    """The process that runs the cases."""

    def __init__(self, scratch: Path, seed: int, script: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        words = [sys.executable, script, "--work", str(scratch), "--seed", str(seed)]
        self.errors = (scratch / "stderr").open("w+b")
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment
        )
        self.buffer = b""
        self.cases = 0
        answer = self._line(300)
        if answer != b"ready":
            raise RuntimeError(f"the worker did not start: {answer!r} {self.said()}")

    def said(self) -> str:
        """The end of what it printed."""
        self.errors.seek(0)
        return self.errors.read()[-3000:].decode(errors="replace")

    def run(self, index: int) -> dict[str, Any]:
        """The result of one case; a worker that dies or hangs is the result too."""
        assert self.process.stdin is not None
        self.cases += 1
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{index}\n".encode())
            self.process.stdin.flush()
        line = self._line(SECONDS)
        if line:
            return json.loads(line)
        self.process.kill()
        code = self.process.wait()
        how = f"took more than {SECONDS:.0f} s" if line is None else f"the process died: {code}"
        return {"index": index, "done": [], "passed": [], "failures": [f"{how}\n{self.said()}"]}

    def alive(self) -> bool:
        """Whether it can run another case."""
        return self.process.poll() is None and self.cases < CASES_PER_WORKER

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def _line(self, seconds: float) -> bytes | None:
        """The next line; empty if the process ended, `None` if it took too long."""
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            read = os.read(self.process.stdout.fileno(), 65536)
            if not read:
                return b""
            self.buffer += read
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line


def fuzz(first: int, count: int, seed: int, verbose: bool, script: str = __file__) -> dict[str, Any]:
    """Counts of outcomes, and everything that is wrong, of the cases that the workers of `script` run."""
    counts: collections.Counter[str] = collections.Counter()
    passed: collections.Counter[str] = collections.Counter()
    kinds: collections.Counter[str] = collections.Counter()
    failures, slowest, cpu_seconds, peak = [], (0.0, -1), 0.0, 0
    worker: Worker | None = None
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        scratch = Path(root)
        try:
            for index in range(first, first + count):
                if worker is None or not worker.alive():
                    if worker is not None:
                        worker.close()
                    shutil.rmtree(scratch / "case", ignore_errors=True)
                    worker = Worker(scratch, seed, script)
                begun = time.monotonic()
                result = worker.run(index)
                slowest = max(slowest, (time.monotonic() - begun, index))
                cpu_seconds += result.get("cpu_s", 0.0)
                peak = max(peak, result.get("peak_bytes", 0))
                counts["failed" if result["failures"] else result["outcome"]] += 1
                passed.update(result["passed"])
                kinds.update(result["done"])
                if result["failures"]:
                    failures.append(result)
                    print(f"case {index}: {result['done']}", *result["failures"], sep="\n", flush=True)
                elif verbose:
                    print(result, flush=True)
                if (index + 1) % 1000 == 0:
                    print(f"{index + 1}: {dict(counts)}, {time.monotonic() - started:.0f} s", flush=True)
        finally:
            if worker is not None:
                worker.close()
    return {
        "seed": seed,
        "first": first,
        "counts": dict(counts),
        "mutations": dict(kinds.most_common()),
        "passed": dict(passed.most_common()),
        "slowest_s": round(slowest[0], 2),
        "slowest_case": slowest[1],
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_bytes": peak,  # beyond those of an idle worker
        "seconds": round(time.monotonic() - started, 1),
        "failures": failures,
    }


def main(description: str, script: str, start_work: Callable[[Path, int], None]) -> int:
    """The command line of a fuzzer.

    Args:
        description: For `--help`.
        script: Its file, which the workers run with `--work`.
        start_work: What a worker does.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="result as JSON")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        start_work(arguments.work, arguments.seed)
        return 0
    result = fuzz(arguments.first, arguments.count, arguments.seed, arguments.verbose, script)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "failures"}, indent=2))
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(__doc__, __file__, work))
