"""Frames as files in the layouts of Cityscapes and ACDC.

Source: the folder and file rules of the Cityscapes scripts and of the ACDC release (https://acdc.vision.ee.ethz.ch).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.classes import CITYSCAPES
from zoo.files import atomic_file
from zoo.frame import Frame
from zoo.synthetic.render import REGULAR_IDS

__all__ = ["acdc_files", "cityscapes_files", "write_files"]

Images = dict[str, Callable[[], np.ndarray]]


def _regular_ids(labels: np.ndarray) -> np.ndarray:
    table = np.zeros(256, np.uint8)  # 0 is Cityscapes' "unlabeled"
    table[: len(REGULAR_IDS)] = REGULAR_IDS
    return table[labels]


def _color(labels: np.ndarray) -> np.ndarray:
    """`(H, W, 4)` uint8 in Cityscapes' colours, opaque."""
    rgb = CITYSCAPES.palette()[labels]
    return np.concatenate([rgb, np.full((*labels.shape, 1), 255, np.uint8)], 2)


def cityscapes_files(frame: Frame | None, split: str, sequence: int, number: int) -> Images:
    """Relative path and content of every file of one frame; the test split has no labels.

    With `frame` None the paths alone are meant, and no content may be asked for.
    """
    city = "synthetic"
    name = f"{city}_{sequence:06d}_{number:06d}"
    files: Images = {f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png": lambda: _camera(frame).image}
    if split != "test":
        stem = f"gtFine/{split}/{city}/{name}_gtFine"
        files[f"{stem}_labelIds.png"] = lambda: _regular_ids(_labels(frame))
        files[f"{stem}_labelTrainIds.png"] = lambda: _labels(frame)
        files[f"{stem}_instanceIds.png"] = lambda: _instances(frame).astype(np.uint16)
        files[f"{stem}_color.png"] = lambda: _color(_labels(frame))
    return files


def acdc_files(
    frame: Frame | None, reference: Frame | None, split: str, condition: str, sequence: int, number: int
) -> Images:
    """Relative path and content of every file of one adverse frame and of its clear-weather reference.

    With the frames None the paths alone are meant.
    """
    folder = f"GOPR{sequence:04d}"
    name = f"{folder}_frame_{number:06d}"
    files: Images = {
        f"rgb_anon/{condition}/{split}/{folder}/{name}_rgb_anon.png": lambda: _camera(frame).image,
        f"rgb_anon/{condition}/{split}_ref/{folder}/{name}_rgb_ref_anon.png": lambda: _camera(reference).image,
    }
    if split != "test":
        stem = f"gt/{condition}/{split}/{folder}/{name}_gt"
        files[f"{stem}_labelIds.png"] = lambda: _regular_ids(_labels(frame))
        files[f"{stem}_labelTrainIds.png"] = lambda: _labels(frame)
        files[f"{stem}_labelColor.png"] = lambda: _color(_labels(frame))
        files[f"{stem}_invIds.png"] = lambda: _invalid(frame).astype(np.uint8)
        files[f"{stem}_invGray.png"] = lambda: _invalid(frame).astype(np.uint8) * 255
        stem = f"gt/{condition}/{split}_ref/{folder}/{name}_gt_ref"
        files[f"{stem}_labelIds.png"] = lambda: _regular_ids(_labels(reference))
        files[f"{stem}_labelTrainIds.png"] = lambda: _labels(reference)
        files[f"{stem}_labelColor.png"] = lambda: _color(_labels(reference))
    return files


def write_files(root: Path, files: Images) -> None:
    """Writes all files of one frame below `root` as PNG, each in one step."""
    for path, content in files.items():
        with atomic_file(root / path) as handle:
            Image.fromarray(content()).save(handle, "PNG", compress_level=4)


def _camera(frame: Frame | None):
    assert frame is not None
    return frame.camera


def _labels(frame: Frame | None) -> np.ndarray:
    labels = _camera(frame).labels
    assert labels is not None
    return labels


def _instances(frame: Frame | None) -> np.ndarray:
    instances = _camera(frame).instances
    assert instances is not None
    return instances


def _invalid(frame: Frame | None) -> np.ndarray:
    invalid = _camera(frame).invalid
    assert invalid is not None
    return invalid
