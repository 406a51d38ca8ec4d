"""`Dataset`, the table of readers, and `open_dataset`, which calls one of them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.classes import ClassTable
from zoo.errors import InputError, closest
from zoo.frame import Frame

__all__ = ["READERS", "Dataset", "Reader", "grouped_by_condition", "open_dataset", "parse_source"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The frames of one split of one data set, and what an evaluation must know about them.

    Attributes:
        kind: Name of the reader, a key of `READERS`.
        root: Folder that was read, `None` for the embedded frames.
        split: `train`, `val`, `test`, ...
        classes: Meaning of the labels.
        frames: In a fixed order; frames of one scene in chronological order.
        video: Frames of one scene are in chronological order and not independent; intervals are then over scenes or,
            if there are few scenes, within them. Otherwise images are assumed to be independent.
        repeated_scenes: Frames of one scene show the same place (under several conditions) and count as one unit.
        source_group: Group whose mIoU is the denominator of rPD by default; `None` if there is none.
        source_data: Kind of the data set whose mIoU is the denominator instead, if it is evaluated in the same run
            (ACDC: `cityscapes`, as in the literature).
        outside_pool: Groups excluded from the figures over all conditions (ACDC: `reference`).
        absent_classes: How the official script handles absent classes. `skip` (Cityscapes, ACDC): a class that occurs
            neither in the ground truth nor in the prediction has no IoU and is left out of the mean. `zero` (CamVid): a
            class that does not occur in the ground truth counts as an IoU (and accuracy) of 0.
        instances: The official metrics include one over instances: iIoU of images, panoptic quality of sweeps.
        caveats: Sentences to show wherever figures from these frames are shown.
        name: Name of the data, where the reader reads the data of many publishers (`folder`).
    """

    kind: str
    root: Path | None
    split: str
    classes: ClassTable
    frames: tuple[Frame, ...]
    video: bool = False
    repeated_scenes: bool = False
    source_group: str | None = None
    source_data: str | None = None
    outside_pool: tuple[str, ...] = ()
    absent_classes: Literal["skip", "zero"] = "skip"
    instances: bool = False
    caveats: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not self.frames:
            raise InputError(f"{self.kind} {self.split}: no frames in {self.root or 'the embedded data'}")
        ids = [frame.id for frame in self.frames]
        if len(set(ids)) != len(ids):
            twice = next(id for id in ids if ids.count(id) > 1)
            raise InputError(f"{self.kind} {self.split}: two frames are called {twice} in {self.root}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order of the frames."""
        return tuple(dict.fromkeys(frame.group for frame in self.frames))

    def select(self, groups: Collection[str] | None = None, limit: int | None = None) -> Dataset:
        """The same data set with fewer frames.

        Args:
            groups: Groups to keep; all by default.
            limit: Maximum number of frames per group, evenly spaced.

        Raises:
            InputError: If a group does not occur or `limit` is below 1.
        """
        for group in groups or ():
            if group not in self.groups:
                raise InputError(f"{self.kind} has no group {group!r}; groups: {', '.join(self.groups)}")
        if limit is not None and limit < 1:
            raise InputError(f"limit {limit}: at least one frame of each group is needed")
        kept = set()
        for group in self.groups if groups is None else groups:
            of_group = [i for i, frame in enumerate(self.frames) if frame.group == group]
            count = len(of_group) if limit is None else min(limit, len(of_group))
            kept |= {of_group[i * len(of_group) // count] for i in range(count)}
        return dataclasses.replace(self, frames=tuple(self.frames[i] for i in sorted(kept)))

    def fingerprint(self) -> str:
        """SHA-256 over kind, split, class names and every frame.

        For each frame it covers id, group, how the label file is decoded (regular or training ids, colours), and the
        size and SHA-256 of each of its files (images, labels, instances, masks), or of the decoded arrays if it has no
        files. Reads every file once (about 1 GB/s from the page cache) and does not depend on the folder's path.
        """
        total = hashlib.sha256()
        for part in (self.kind, self.split, *self.classes.names):
            total.update(part.encode() + b"\0")
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for line in pool.map(_frame_line, self.frames):
                total.update(line.encode() + b"\n")
        return total.hexdigest()


def _frame_line(frame: Frame) -> str:
    files: dict[str, Path] = frame.meta.get("files", {})
    parts = [frame.id, frame.group]
    if coding := frame.meta.get("label_coding"):
        parts.append(coding)
    for name, path in files.items():
        try:
            with open(path, "rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
                parts += [name, str(handle.tell()), digest]
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not files:
        for name, camera in frame.cameras.items():
            for array in (camera.image, camera.labels, camera.instances, camera.invalid):
                if array is not None:
                    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
                    parts += [name, str(array.dtype), str(array.shape), digest]
    return "\t".join(parts)


def grouped_by_condition(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """The frames in groups named after their conditions, one per severity where a condition occurs in several."""
    labels: dict[str, set[str]] = {}
    for frame in frames:
        labels.setdefault(frame.condition.name, set()).add(frame.condition.label)
    several = {name for name, found in labels.items() if len(found) > 1}
    return tuple(
        dataclasses.replace(frame, group=frame.condition.label) if frame.condition.name in several else frame
        for frame in frames
    )


@dataclass(frozen=True)
class Reader:
    """One row of the table of readers.

    Attributes:
        function: `"module:function"`; called as `function(root, split, **options)`, returns a `Dataset`.
        splits: Names of the splits.
        folder: Whether it reads a folder (`kind=DIR`); `False` for embedded frames.
    """

    function: str
    splits: tuple[str, ...] = ("train", "val", "test")
    folder: bool = True


READERS = {
    "a2d2": Reader("zoo.data.a2d2:read", splits=("train", "val", "test", "all")),
    "acdc": Reader("zoo.data.acdc:read"),
    "camvid": Reader("zoo.data.camvid:read", splits=("train", "val", "test", "all")),
    "cityscapes": Reader("zoo.data.cityscapes:read"),
    "folder": Reader("zoo.data.own_folder:read", splits=("train", "val", "test", "all")),
    "kitti": Reader("zoo.data.kitti:read", splits=("train", "val", "test", "all")),
    "nuscenes": Reader("zoo.data.nuscenes:read", splits=("train", "val", "test", "all")),
    "semantickitti": Reader("zoo.data.semantickitti:read"),
    "synthetic": Reader("zoo.data.embedded:read", splits=("val",), folder=False),
}


def open_dataset(kind: str, root: Path | str | None = None, split: str = "val", **options: Any) -> Dataset:
    """The frames of one split of a data set; nothing is decoded yet.

    Args:
        kind: A name in `READERS`.
        root: Its folder in the official layout; `None` for embedded data.
        split: Name of the split.
        options: Further arguments of the reader.

    Raises:
        InputError: If the kind or split is unknown, the folder is missing or has another layout, or the split is empty.
    """
    if kind not in READERS:
        raise InputError(f"unknown data set {kind!r}{closest(kind, READERS)}; known: {', '.join(READERS)}")
    reader = READERS[kind]
    if split not in reader.splits:
        raise InputError(
            f"{kind} has no split {split!r}{closest(split, reader.splits)}; known: {', '.join(reader.splits)}"
        )
    if reader.folder and root is None:
        raise InputError(f"{kind} needs its folder: --data {kind}=DIR")
    if not reader.folder and root is not None:
        raise InputError(
            f"{kind} frames are embedded and take no folder, got {root}; read a folder written by `zoo synthetic` "
            "by its layout, for example --data cityscapes=DIR"
        )
    if root is not None:
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"{kind} folder {root} {'is not a folder' if root.exists() else 'does not exist'}")
    module, function = reader.function.split(":")
    read: Callable[..., Dataset] = getattr(importlib.import_module(module), function)
    return read(root, split, **options)


def parse_source(text: str) -> tuple[str, Path | None]:
    """Kind and folder of a `--data` argument: `camvid=DIR`, or `synthetic` alone.

    Raises:
        InputError: If the kind is unknown or its folder missing.
    """
    kind, equals, folder = text.partition("=")
    if kind not in READERS:
        raise InputError(
            f"--data {text}: unknown data set {kind!r}{closest(kind, READERS)}; known: {', '.join(READERS)}"
        )
    if READERS[kind].folder and not folder:
        raise InputError(f"--data {text}: {kind} needs its folder: --data {kind}=DIR")
    if not READERS[kind].folder and equals:
        raise InputError(f"--data {text}: {kind} is embedded and takes no folder: --data {kind}")
    return kind, Path(folder).expanduser() if folder else None
