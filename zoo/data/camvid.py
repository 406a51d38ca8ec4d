"""CamVid in SegNet's 11 classes, read from any of the forms of `zoo/data/camvid_layouts.py`.

The first part of a file name is the sequence. `0001TP` was filmed at dusk, the others by day. The published split has
dusk frames in `train` and `test` only, so performance at dusk could not be measured before the final test. Here the
split `val` therefore consists of the folder `val/` (group `day`) and the dusk frames of `train/` (group `dusk`).
`training_split` excludes these frames and their neighbours. The dusk frames of `test/` stay in `test`.
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path

from zoo.classes import CAMVID
from zoo.condition import Condition
from zoo.data.camvid_layouts import CamVidFolder, find_layout
from zoo.data.dataset import Dataset
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import CameraFrame, Frame

__all__ = ["CAVEATS", "DUSK_SEQUENCES", "FRAMES_PER_SECOND", "GUARD_S", "PUBLISHED_VAL", "read", "training_split"]

DUSK_SEQUENCES = ("0001TP",)
FRAMES_PER_SECOND = 30
"""Frame rate of the videos; file names contain the frame number."""
PUBLISHED_VAL = {"0016E5": (7959, 8159)}
"""First and last frame of the published `val`, which lies within a day sequence of `train`."""
GUARD_S = 10
"""Seconds between the last training frame and the first evaluated frame."""
_FOLDERS = ("train", "val", "test")
CAVEATS = (
    "The day frames of CamVid val are from the same drive as most day training frames (0016E5), so figures of models "
    "trained on CamVid are same-drive figures.",
    "The dusk frames of CamVid are from another drive than the day frames: day to dusk mixes a change of place with a "
    "change of light.",
)
"""What to keep in mind with figures of `val` by day, and with figures of day and dusk together."""


def read(root: Path, split: str) -> Dataset:
    """The frames of one split, with groups `day` and `dusk`.

    Args:
        root: The CamVid folder or its parent.
        split: `train` or `test`: all frames of that split. `val`: the published `val` and the dusk frames of `train`.
            `all`: everything.

    Raises:
        InputError: If the layout is unknown, the split is empty or an image has no label map.
    """
    found = find_layout(root)
    folders = {"val": ("val", "train"), "all": _FOLDERS}.get(split, (split,))
    present = [folder for folder in folders if found.has(folder)]
    required = present if split == "all" else [folders[0]]
    if required[0] not in present:
        raise InputError(f"camvid {split} is empty: no folder {found.images(folders[0])}")
    frames = [frame for folder in present for frame in _frames_of(found, folder)]
    if split == "val":
        frames = [frame for frame in frames if frame.meta["folder"] == "val" or frame.group == "dusk"]
    if not any(frame.meta["folder"] == required[0] for frame in frames):
        raise InputError(f"camvid {split} is empty: no .png or .jpg image of it in {found.images(required[0])}")
    groups = {frame.group for frame in frames}
    return Dataset(
        kind="camvid",
        root=root,
        split=split,
        classes=CAMVID,
        frames=tuple(frames),
        video=True,
        source_group="day" if "day" in groups else None,
        absent_classes="zero",
        caveats=(CAVEATS[:1] if split in ("val", "all") else ()) + (CAVEATS[1:] if {"day", "dusk"} <= groups else ()),
    )


def _frames_of(found: CamVidFolder, folder: str) -> list[Frame]:
    frames = []
    for entry in found.entries(folder):
        sequence = entry.name.split("_")[0]
        group = "dusk" if sequence in DUSK_SEQUENCES else "day"
        camera = CameraFrame(
            image_source=partial(read_image, entry.image),
            labels_source=entry.read_labels,
            image_path=entry.image,
        )
        frames.append(
            Frame(
                id=entry.name,
                scene=sequence,
                condition=Condition(time_of_day=group),
                group=group,
                timestamp_us=_number(entry.name) * 1_000_000 // FRAMES_PER_SECOND,
                cameras={"front": camera},
                meta={
                    "folder": folder,
                    "files": {"image": entry.image, "labels": entry.labels},
                    "label_coding": entry.coding,
                },
            )
        )
    return frames


def training_split(dataset: Dataset, holdout: float = 0.15) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Frames to train on and frames held back for model selection, from the day sequences of `train`.

    The end of each sequence is held back: neighbouring frames are nearly identical, so a random choice would leak the
    answers into the training set. For the same reason, the part held back starts at least `GUARD_S` before the first
    evaluated frame of the sequence (in the published `val`, or in the folders `val` and `test` here), however small
    `holdout` is. Neither part has dusk frames: `val` evaluates all of them.

    Args:
        dataset: `open_dataset("camvid", root, "train")`.
        holdout: Minimum share of each sequence to hold back, from 0 to below 1; at least one frame if above 0.

    Raises:
        InputError: If the split is not `train`, the share is out of range, or no frame is left to train on.
    """
    if dataset.kind != "camvid" or dataset.split != "train":
        raise InputError(f"training frames are taken from camvid train, not from {dataset.kind} {dataset.split}")
    if not 0 <= holdout < 1:
        raise InputError(f"holdout {holdout} is outside 0 to 1")
    reported = _first_reported(dataset.root)
    training: list[Frame] = []
    held: list[Frame] = []
    frames = [frame for frame in dataset.frames if frame.group != "dusk"]
    for sequence in dict.fromkeys(frame.scene for frame in frames):
        of_sequence = [frame for frame in frames if frame.scene == sequence]
        back = max(1, math.floor(len(of_sequence) * holdout + 0.5)) if holdout else 0
        limit = reported.get(sequence, math.inf) - GUARD_S * FRAMES_PER_SECOND
        before = sum(_number(frame.id) < limit for frame in of_sequence)
        cut = min(before, len(of_sequence) - back)
        training += of_sequence[:cut]
        held += of_sequence[cut:]
    if not training:
        raise InputError(
            f"camvid train in {dataset.root} leaves no frame to train on: every day sequence is held back from "
            f"{GUARD_S} s before its first frame in val or test"
        )
    return tuple(training), tuple(held)


def _first_reported(root: Path | None) -> dict[str, int]:
    """Number of the first evaluated frame of each sequence."""
    numbers: dict[str, list[int]] = {sequence: [first] for sequence, (first, _) in PUBLISHED_VAL.items()}
    found = None if root is None else find_layout(root)
    for folder in ("val", "test"):
        for entry in found.entries(folder) if found is not None and found.has(folder) else ():
            numbers.setdefault(entry.name.split("_")[0], []).append(_number(entry.name))
    return {sequence: min(of_sequence) for sequence, of_sequence in numbers.items()}


def _number(stem: str) -> int:
    """Number of the frame in its video: `8159` for `0016E5_08159` and `930` for `0006R0_f00930`."""
    digits = re.search(r"(\d+)(?:_L)?$", stem)
    return int(digits[1]) if digits else 0
