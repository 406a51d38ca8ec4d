"""Conditions, frames, class tables, and files that are never half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.classes import CAMVID, CITYSCAPES, ClassTable, taxonomy
from zoo.condition import CONDITIONS, Condition
from zoo.errors import InputError
from zoo.files import atomic_directory, atomic_file, read_image, read_index_png
from zoo.frame import CameraFrame, Frame, frame_from_image


def test_conditions_have_names_and_physical_values() -> None:
    assert [Condition.parse(name).name for name in CONDITIONS] == list(CONDITIONS)
    assert Condition.parse("fog", 1).physical == (600.0, "m visibility")
    assert Condition.parse("night", 5).physical == (0.5, "lux")
    assert Condition().physical is None
    assert Condition(time_of_day="night", weather="rain", severity=2).name == "night+rain"


@pytest.mark.parametrize("wrong", [{"weather": "fogg"}, {"time_of_day": "noon"}, {"severity": 6}, {"severity": -1}])
def test_wrong_conditions(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Condition(**wrong)  # type: ignore[arg-type]


def test_frames_decode_at_each_access() -> None:
    calls = []

    def decode() -> np.ndarray:
        calls.append(1)
        return np.zeros((2, 2, 3), np.uint8)

    frame = Frame(id="a", cameras={"front": CameraFrame(image_source=decode)})
    assert not calls
    assert frame.camera.image.shape == (2, 2, 3)
    assert frame.camera.labels is None
    assert len(calls) == 1
    assert frame.group == "clear"
    two = Frame(id="b", cameras={"left": frame.camera, "right": frame.camera})
    with pytest.raises(InputError, match=r"2 cameras \(left, right\)"):
        _ = two.camera
    assert frame_from_image(np.zeros((1, 1, 3), np.uint8)).camera.image.shape == (1, 1, 3)


def test_class_tables() -> None:
    assert (len(CITYSCAPES), len(CAMVID)) == (19, 11)
    assert CITYSCAPES.names[13] == "car"
    assert CITYSCAPES.palette()[13].tolist() == [0, 0, 142]
    assert CAMVID.palette()[CAMVID.ignore_index].tolist() == [0, 0, 0]
    assert len({*CITYSCAPES.colors}) == 19
    with pytest.raises(InputError, match="closest: camvid"):
        taxonomy("camvit")
    with pytest.raises(InputError, match="1 names but 2 colours"):
        ClassTable("x", ("a",), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(InputError, match="is one of the classes"):
        ClassTable("x", ("a",), ((0, 0, 0),), ignore_index=0)


def test_files_and_folders_appear_whole_or_not_at_all(tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def fail_in_file() -> None:
        with atomic_file(tmp_path / "a") as handle:
            handle.write(b"half")
            raise RuntimeError

    def fail_in_folder() -> None:
        with atomic_directory(tmp_path / "b") as folder:
            (folder / "x").write_text("half")
            raise RuntimeError

    for fail in (fail_in_file, fail_in_folder):
        with pytest.raises(RuntimeError):
            fail()
    assert list(tmp_path.iterdir()) == []
    with atomic_file(tmp_path / "a") as handle:
        handle.write(b"whole")
    with atomic_directory(tmp_path / "b") as folder:
        (folder / "x").write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    with pytest.raises(InputError, match="exists already"), atomic_directory(tmp_path / "b"):
        pass


def test_label_maps_are_read_as_indices_never_as_colours(tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ids = np.array([[0, 1], [2, 33]], np.uint8)
    image = Image.fromarray(ids)
    image.putpalette([7] * 768)
    image.save(tmp_path / "palette.png")
    assert image.mode == "P"
    assert np.array_equal(read_index_png(tmp_path / "palette.png"), ids)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(InputError, match="has mode RGB; a label map has one channel"):
        read_index_png(tmp_path / "rgb.png")
    wide = np.array([[1, 26001]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_index_png(tmp_path / "wide.png").tolist() == [[1, 26001]]


def test_images_of_every_mode_become_rgb(tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    grey16 = np.array([[0, 256 * 200]], np.uint16)
    Image.fromarray(grey16).save(tmp_path / "grey16.png")
    assert read_image(tmp_path / "grey16.png").tolist() == [[[0] * 3, [200] * 3]]
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        path = tmp_path / f"image_{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (4, 3)).save(path)
        assert read_image(path).shape == (3, 4, 3)
