"""Image files with more than one frame."""

from __future__ import annotations

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


SUFFIXES = ["gif", "png", "tif", pytest.param("webp", marks=pytest.mark.skipif(
    not features.check("webp"), reason="this Pillow was built without WebP"))]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_animations_and_pages_are_refused(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"moving.{suffix}", 3)
    with pytest.raises(InputError, match=rf"moving\.{suffix}: .* holds 3 frames, expected one; save .* as PNG"):
        read_image(path)
    with Image.open(path) as image, pytest.raises(InputError, match="holds 3 frames"):
        as_rgb(image)
    with Image.open(path) as image:
        image.seek(1)
        assert as_rgb(image.convert("RGB")).shape == (24, 32, 3)  # a frame that the caller has chosen


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_frame_in_the_same_formats_is_read(suffix: str, tmp_path: Path) -> None:
    assert read_image(save(tmp_path / f"still.{suffix}", 1)).shape == (24, 32, 3)


def test_a_label_map_of_several_frames_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "labels.png", 2, "L")
    with pytest.raises(InputError, match="2 frames"):
        read_index_png(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_animation_is_an_error_of_ours(suffix: str, tmp_path: Path) -> None:
    whole = save(tmp_path / f"whole.{suffix}", 3).read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for cut in generator.integers(0, len(whole), 60):
        (tmp_path / f"cut.{suffix}").write_bytes(whole[:cut])
        try:
            read_image(tmp_path / f"cut.{suffix}")
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
    path = save(tmp_path / "moving.gif", 4)
    assert main(["predict", MODEL, str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "moving.gif" in error
    assert "4 frames" in error
    assert not (tmp_path / "out").exists()
