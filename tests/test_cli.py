"""The `zoo` command: exit codes, files written, and one line for everything that a user can get wrong."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.classes import CITYSCAPES
from zoo.cli import main

REAL = Path(__file__).parents[2] / "shared" / "real"
MODEL = "supervised-resnet18w48-synthetic.fpn-synthetic"


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Runs a command that must end with 2 and one line; gives the line."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("zoo: error: ")
    return error


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_help_version_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "evaluate" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("perception-zoo ")
    assert "no command given" in fails(capsys)
    assert "closest: evaluate" in fails(capsys, "evalute")


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = {row["name"] for row in rows}
    assert {
        "clcp-vit-s-a2d2",
        "clcp-vit-s-a2d2.segmenter-cityscapes",
        "lip-loc-vit-s-kitti",
        "lip-loc-vit-s-kitti-kitti360",
        "timm-vit-s-imagenet.segmenter-cityscapes",
        MODEL,
    } <= names
    for row in rows:
        assert {"name", "task", "modality", "released", "classes", "parameters", "licence"} <= set(row)
    assert main(["list", "lip-loc*", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == {
        "lip-loc-rangevit-s-kitti",
        "lip-loc-vit-s-kitti",
        "lip-loc-vit-s-kitti-kitti360",
    }
    assert main(["list", "camvid", "--json"]) == 0
    assert all("camvid" in row["name"] for row in json.loads(capsys.readouterr().out))
    assert "no model matches" in fails(capsys, "list", "nothing-like-it")


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "clcp-vit-s-a2d2", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["released"] is False
    assert values["recipe"]
    assert main(["info", MODEL]) == 0
    assert "SHA-256" in capsys.readouterr().out
    assert "closest" in fails(capsys, "info", "clcp-vit-s-a2d")


def test_predict_writes_ids_overlay_and_summary(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["predict", MODEL, str(photo), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["photo.json", "photo.png", "photo_overlay.jpg"]
    labels = Image.open(out / "photo.png")
    assert (labels.mode, labels.size) == ("L", (61, 45))
    assert np.asarray(labels).max() < len(CITYSCAPES)
    overlay = Image.open(out / "photo_overlay.jpg")
    assert overlay.width > 61  # the legend below is wider than so small an image
    assert overlay.height > 45
    summary = json.loads((out / "photo.json").read_text())
    assert sum(summary["fractions"].values()) == pytest.approx(1)
    assert summary["classes"][0] == {"id": 0, "name": "road", "color": [128, 64, 128]}


def test_sliding_windows_from_the_command_line(photo: Path, tmp_path: Path) -> None:
    words = ["predict", MODEL, str(photo), "--out", str(tmp_path / "out"), "--window", "128", "128"]
    assert main(words) == 0
    inference = json.loads((tmp_path / "out" / "photo.json").read_text())["settings"]["inputs"][0]["inference"]
    assert inference == {"mode": "sliding", "window": [128, 128], "window_stride": [85, 85], "batch": 4}


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_wrong_images(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:200])
    huge = png_header(tmp_path / "huge.png", 20_000, 20_000)
    cases = {
        tmp_path / "text.png": "not a readable image",
        tmp_path / "cut.png": "not a readable image",
        tmp_path / "none.png": "does not exist",
        tmp_path: "is a folder",
        huge: "too large",
        png_header(tmp_path / "less.png", 12_000, 12_000): "too large: 12000 x 12000",
    }
    for path, message in cases.items():
        assert message in fails(capsys, "predict", MODEL, path, "--out", out)
    assert not out.exists()


def test_wrong_use(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (tmp_path / "b").mkdir()
    twin = tmp_path / "b" / "photo.jpg"
    Image.open(photo).save(twin)
    assert "would both be written to photo.json" in fails(capsys, "predict", MODEL, photo, twin, "--out", out)
    assert "outside 0 to 1" in fails(capsys, "predict", MODEL, photo, "--out", out, "--alpha", 2)
    assert "cannot be used" in fails(capsys, "predict", MODEL, photo, "--out", out, "--device", "cuda:7")
    assert "unknown engine" in fails(capsys, "predict", MODEL, photo, "--out", out, "--engine", "trch")
    assert "exclude each other" in fails(capsys, "predict", MODEL, photo, "--out", out, "--whole", "--window", 8, 8)
    assert "missing SOURCES, --out" in fails(capsys, "predict", MODEL)
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_wrong_input(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "out" / "photo.png").mkdir(parents=True)
    places = (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "out", tmp_path / ("n" * 300), "/proc/none")
    for out in places:
        assert "cannot write" in fails(capsys, "predict", MODEL, photo, "--out", out)
    assert (tmp_path / "file").read_text() == "not a folder"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.png"]


def test_a_full_disk_leaves_nothing(photo: Path, tmp_path: Path) -> None:
    """The operating system's limit on file sizes stands in for the full disk."""
    assert main(["predict", MODEL, str(photo), "--out", str(tmp_path / "whole")]) == 0
    # one byte too few for the largest of the three files: the other two must not stay
    limit = max(path.stat().st_size for path in (tmp_path / "whole").iterdir()) - 1
    out = tmp_path / "out"
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "from zoo.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["predict", MODEL, str(photo), "--out", str(out)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment)
    assert result.returncode == 2, result.stderr
    assert "cannot write" in result.stderr
    assert list(out.iterdir()) == []


def without(packages: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command where these packages cannot be imported."""
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {packages.split()!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from zoo.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)


def test_the_base_install_lists_and_names_the_missing_extra(photo: Path, tmp_path: Path) -> None:
    absent = "torch torchvision timm jaxtyping onnxruntime openvino embreex lightning_fabric"
    assert without(absent, "list").returncode == 0
    assert without(absent, "info", MODEL).returncode == 0
    words = {
        "perception-zoo[torch]": ["predict", MODEL, str(photo), "--engine", "torch", "--out", str(tmp_path / "a")],
        "perception-zoo[synthetic]": ["synthetic", "--layout", "acdc", "--frames", "1", "--out", str(tmp_path / "b")],
        "perception-zoo[": ["train", "segmenter", "--model", MODEL, "--data", "camvid=x", "--out", str(tmp_path / "c")],
    }
    for extra, command in words.items():
        result = without(absent, *command)
        assert result.returncode == 2, result.stderr
        assert extra in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
def test_real_street_images(tmp_path: Path) -> None:
    kitti = REAL / "kitti/training/image_2/000000.png"
    nuscenes = next(iter(sorted((REAL / "nuscenes").rglob("*CAM_FRONT__*.jpg"))))
    assert main(["predict", MODEL, str(kitti), str(nuscenes), "--out", str(tmp_path)]) == 0
    for path in (kitti, nuscenes):
        labels = np.asarray(Image.open(tmp_path / f"{path.stem}.png"))
        assert labels.shape == Image.open(path).size[::-1]
        below = labels[-labels.shape[0] // 8 :]  # what lies before the car is road or what lies beside it
        assert np.isin(below, [0, 1, 9, 13]).mean() > 0.5
