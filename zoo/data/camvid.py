"""CamVid in SegNet's 11 classes, read from any of the forms of `zoo/data/camvid_layouts.py`.

The first part of a name is the sequence. `0001TP` was filmed at dusk, the others by day. The published split puts
dusk frames into `train` and `test` only, so nothing would tell how a model does at dusk before the test. Here the
split `val` is therefore the folder `val/` (group `day`) and the dusk frames of `train/` (group `dusk`), which
`training_split` never trains on unless told to. The dusk frames of `test/` stay in `test`.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from zoo.classes import CAMVID
from zoo.condition import Condition
from zoo.data.camvid_layouts import CamVidFolder, find_layout
from zoo.data.dataset import Dataset
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import CameraFrame, Frame

__all__ = ["DUSK_SEQUENCES", "read", "training_split"]

DUSK_SEQUENCES = ("0001TP",)
_FOLDERS = ("train", "val", "test")
_SAME_DRIVE = (
    "CamVid val frames by day are of the same drive as most day training frames (0016E5), so figures of models trained "
    "on CamVid are same-drive figures."
)
_PLACE_AND_LIGHT = (
    "CamVid dusk frames are of another drive than the day frames: day to dusk mixes a change of place with a change "
    "of light."
)


def read(root: Path, split: str) -> Dataset:
    """The frames of one split, with groups `day` and `dusk`.

    Args:
        root: The folder of CamVid, or its parent.
        split: `train` or `test`: all frames of that split. `val`: the published `val` and the dusk frames of `train`.
            `all`: everything.

    Raises:
        InputError: If the layout is another one, the split is empty or an image has no label map.
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
        caveats=((_SAME_DRIVE,) if split in ("val", "all") else ())
        + ((_PLACE_AND_LIGHT,) if {"day", "dusk"} <= groups else ()),
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
                cameras={"front": camera},
                meta={
                    "folder": folder,
                    "files": {"image": entry.image, "labels": entry.labels},
                    "label_coding": entry.coding,
                },
            )
        )
    return frames


def training_split(
    dataset: Dataset, holdout: float = 0.15, include_dusk: bool = False
) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Frames to train on and frames to decide on (when to stop), from the split `train`.

    The held-back frames are the last ones of each sequence: neighbouring frames are nearly the same, so a random
    choice would leave the answers in the training set.

    Args:
        dataset: `open_dataset("camvid", root, "train")`.
        holdout: Share of each sequence to hold back, 0 to below 1; at least one frame if above 0.
        include_dusk: Train on the dusk sequence too. The figures at dusk on `val` are then training figures.

    Raises:
        InputError: If the split is not `train`, the share is out of range, or nothing is left to train on.
    """
    if dataset.kind != "camvid" or dataset.split != "train":
        raise InputError(f"{dataset.kind} {dataset.split} came; training frames are taken from camvid train only")
    if not 0 <= holdout < 1:
        raise InputError(f"holdout {holdout} is outside 0 to 1")
    training: list[Frame] = []
    held: list[Frame] = []
    frames = [frame for frame in dataset.frames if include_dusk or frame.group != "dusk"]
    for sequence in dict.fromkeys(frame.scene for frame in frames):
        of_sequence = [frame for frame in frames if frame.scene == sequence]
        back = max(1, math.floor(len(of_sequence) * holdout + 0.5)) if holdout else 0
        training += of_sequence[: len(of_sequence) - back]
        held += of_sequence[len(of_sequence) - back :]
    if not training:
        raise InputError(f"camvid train in {dataset.root} leaves no frame to train on")
    return tuple(training), tuple(held)
