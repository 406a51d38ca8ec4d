"""Image files: formats, frames, and headers that lie."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from zoo.cli import main
from zoo.errors import InputError
from zoo.files import as_rgb, read_image, read_index_png

MODEL = "supervised-resnet18w48-synthetic.fpn-synthetic"


def frames(count: int, mode: str = "RGB") -> list[Image.Image]:
    shape = (24, 32) if mode == "L" else (24, 32, 3)
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 200, shape, dtype=np.uint8)) for _ in range(count)]


def save(path: Path, count: int, mode: str = "RGB") -> Path:
    first, *others = frames(count, mode)
    first.save(path, save_all=True, append_images=others)
    return path


OTHER_FORMATS = ["gif", "tif", "bmp", "eps", "ico", "ppm", pytest.param("webp", marks=pytest.mark.skipif(
    not features.check("webp"), reason="this Pillow was built without WebP"))]  # fmt: skip


def test_animations_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "moving.png", 3)
    with pytest.raises(InputError, match=r"moving\.png: .* holds 3 frames, expected one; save .* as PNG"):
        read_image(path)
    assert read_image(save(tmp_path / "still.png", 1)).shape == (24, 32, 3)


@pytest.mark.parametrize("suffix", ["gif", "tif"])
def test_animations_and_pages_that_the_caller_opened(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"moving.{suffix}", 3)
    with Image.open(path) as image, pytest.raises(InputError, match="holds 3 frames"):
        as_rgb(image)
    with Image.open(path) as image:
        image.seek(1)
        assert as_rgb(image.convert("RGB")).shape == (24, 32, 3)  # a frame that the caller has chosen


@pytest.mark.parametrize("suffix", OTHER_FORMATS)
def test_only_png_and_jpeg_are_decoded(suffix: str, tmp_path: Path) -> None:
    """Whatever the file is called: Pillow goes by the content."""
    frames(1)[0].save(tmp_path / f"one.{suffix}")
    (tmp_path / f"one.{suffix}").rename(tmp_path / "disguised.png")
    for read in (read_image, read_index_png):
        with pytest.raises(InputError, match=r"disguised\.png is not a readable image; expected PNG or JPEG"):
            read(tmp_path / "disguised.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_header_that_claims_more_than_the_file_can_hold(suffix: str, tmp_path: Path) -> None:
    """Refused before memory is taken: 11,000 x 11,000 pixels in a file of a few hundred bytes."""
    path = tmp_path / f"huge.{suffix}"
    frames(1)[0].save(path)
    content = bytearray(path.read_bytes())
    if suffix == "png":
        content[16:24] = struct.pack(">II", 11_000, 11_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    else:
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", 11_000, 11_000)
    path.write_bytes(content)
    with pytest.raises(InputError, match="its header claims 11000 x 11000 pixels, more than"):
        read_image(path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_emptiest_images_are_read(mode: str, suffix: str, tmp_path: Path) -> None:
    """One colour compresses best; such an image must not be taken for a damaged one."""
    if suffix == "jpg" and mode == "P":
        pytest.skip("JPEG has no palettes")
    image = Image.new(mode, (4000, 3000))
    image.save(tmp_path / f"black.{suffix}", **({"quality": 1, "progressive": True} if suffix == "jpg" else {}))
    assert read_image(tmp_path / f"black.{suffix}").shape == (3000, 4000, 3)


def test_a_label_map_of_several_frames_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "labels.png", 2, "L")
    with pytest.raises(InputError, match="2 frames"):
        read_index_png(path)


def test_a_damaged_animation_is_an_error_of_ours(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.png", 3).read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for cut in generator.integers(0, len(whole), 60):
        (tmp_path / "cut.png").write_bytes(whole[:cut])
        try:
            read_image(tmp_path / "cut.png")
        except InputError:
            refused += 1
    assert refused >= 50  # nothing else was raised; a cut close to the end may leave one whole frame


def test_a_photo_with_the_previews_of_its_camera_is_read(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    first, second = frames(2)
    first.save(path, "MPO", save_all=True, append_images=[second])
    with Image.open(path) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)  # type: ignore[attr-defined]
    assert read_image(path).shape == (24, 32, 3)


def test_predict_names_the_file_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "moving.png", 4)
    assert main(["predict", MODEL, str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "moving.png" in error
    assert "4 frames" in error
    assert not (tmp_path / "out").exists()


def test_a_damaged_interlaced_png(tmp_path: Path) -> None:
    """Pillow decodes it once for its EXIF data, which fails, and raises a TypeError when it is to decode it again."""
    header = struct.pack(">II", 24, 20) + bytes([8, 2, 0, 0, 1])
    rows = zlib.compress(bytes((3 * 24 + 1) * 20))  # as many as without interlacing, which needs a few bytes more
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    (tmp_path / "interlaced.png").write_bytes(content)
    with pytest.raises(InputError, match=r"interlaced\.png is not a readable image: "):
        read_image(tmp_path / "interlaced.png")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory through /proc and setrlimit")
def test_a_chunk_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    frames(1, "L")[0].save(tmp_path / "long.png")
    content = bytearray((tmp_path / "long.png").read_bytes())
    place = content.index(b"IDAT") - 4
    content[place : place + 4] = struct.pack(">I", 0x7FFF_FFFF)
    (tmp_path / "long.png").write_bytes(content)
    program = (
        "import resource, sys\n"
        "from zoo.errors import InputError\n"
        "from zoo.files import read_index_png\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    read_index_png(sys.argv[1])\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "long.png")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
