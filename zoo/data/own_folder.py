"""Labelled images or lidar sweeps of one's own: `images/` or `points/`, `labels/` with the same names, `classes.yaml`.

```
DIR/images/night/0001.jpg     any image format; subfolders are conditions
DIR/labels/night/0001.png     one channel of ids, 8 or 16 bits
DIR/classes.yaml              the classes, as in zoo/label_table.py, and optionally a `name` for the data set
DIR/frames.csv                optional: one row per image or sweep
```

Sweeps lie in `points/` instead, and the facts about their lidar in `classes.yaml` or `sensor.yaml`
(`zoo/data/own_points.py`):

```
DIR/points/night/0001.bin     rows of float32, or .npy with an array (N, channels)
DIR/labels/night/0001.label   one uint32 per point: the id in the lower 16 bits, an instance or 0 in the upper 16
```

The columns of `frames.csv`: `file` (below `images/` or `points/`), and any of `scene`, `timestamp` (seconds),
`condition` (in place of the subfolder) and `split` (`train`, `val`, `test`). Without the column `split`, every split is
the whole folder.
Without the column `scene`, every image or sweep is assumed to be independent of the others.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.condition import CONDITIONS, Condition
from zoo.data.dataset import Dataset
from zoo.data.own_points import POINT_KEYS, PointColumns, class_section, read_columns
from zoo.data.terms import terms_named
from zoo.errors import InputError, closest
from zoo.files import read_image, read_index_png, read_regular
from zoo.folder.schema import Schema
from zoo.frame import CameraFrame, Frame
from zoo.label_table import LabelTable, parse_classes
from zoo.yaml_file import read_yaml

if TYPE_CHECKING:
    from jaxtyping import UInt8

__all__ = ["COLUMNS", "read"]

COLUMNS = ("file", "scene", "timestamp", "condition", "split")
"""Columns of `frames.csv`."""
_SPLITS = ("train", "val", "test")
_MAX_CSV = 64 * 1024 * 1024
_UNKNOWN = "unknown"
_SOURCES = ("clear", "day")
"""Conditions that are the source of rPD, if the data has one of them and others."""
_RESERVED = ("all", "shifted")
_CLASS_KEYS = dict.fromkeys(("name", "classes", "ignored"), True)


@dataclass(frozen=True)
class _Kind:
    """What a folder holds.

    Attributes:
        folder: Where the samples are.
        sample: Name of one, for messages.
        suffixes: Endings of their files.
        labels: Name of the labels of one.
        label_suffix: Ending of their files.
        keys: Keys that `classes.yaml` may have, with their schemas.
    """

    folder: str
    sample: str
    suffixes: tuple[str, ...]
    labels: str
    label_suffix: str
    keys: Mapping[str, Any]


_IMAGES = _Kind("images", "image", (".png", ".jpg", ".jpeg"), "label map", ".png", _CLASS_KEYS)
_POINTS = _Kind("points", "sweep", (".bin", ".npy"), "label file", ".label", {**_CLASS_KEYS, **POINT_KEYS})


def read(root: Path, split: str) -> Dataset:
    """The frames of one split, in the order of scene, time and name.

    Args:
        root: The folder.
        split: `train`, `val`, `test`, or `all`.

    Raises:
        InputError: If a part is missing or invalid, an image or sweep has no labels or labels no image or sweep, or the
            split is empty.
    """
    kind = _POINTS if (root / "points").is_dir() else _IMAGES
    if kind is _POINTS and (root / "images").is_dir():
        raise InputError(f"{root} has images/ and points/; labels/ belongs to one of them, so make two folders of it")
    for part in (kind.folder, "labels"):
        if not (root / part).is_dir():
            raise InputError(f"{root} has no folder {part}/; expected images/ or points/, labels/ and classes.yaml")
    name, table, content = _classes(root, kind)
    samples, labels = _files(root / kind.folder, kind.suffixes), _files(root / "labels", (kind.label_suffix,))
    for stem, path in samples.items():
        if stem not in labels:
            raise InputError(f"{path} has no {kind.labels} {root / 'labels' / stem}{kind.label_suffix}")
    for stem, path in labels.items():
        if stem not in samples:
            raise InputError(f"{path} has no {kind.sample} in {root / kind.folder} of the same name")
    rows = _rows(root / "frames.csv", samples, kind)
    columns = set() if rows is None else set(next(iter(rows.values())))
    points = read_columns(root, content, next(iter(samples.values()))) if kind is _POINTS and samples else None
    frames = [
        _frame(stem, path, labels[stem], table, {} if rows is None else rows[stem], points)
        for stem, path in samples.items()
        if rows is None or split == "all" or "split" not in columns or rows[stem]["split"] == split
    ]
    if not frames:
        where = f"has no {kind.sample}" if not samples else f"has no row with the split {split} in frames.csv"
        raise InputError(f"folder {split} is empty: {root} {where}")
    groups = {frame.group for frame in frames}
    return Dataset(
        kind="folder",
        name=name,
        root=root,
        split=split,
        classes=table.classes,
        frames=tuple(sorted(frames, key=lambda frame: (frame.scene, frame.timestamp_us or 0, frame.id))),
        video="scene" in columns,
        source_group=next((each for each in _SOURCES if each in groups and len(groups) > 1), None),
        caveats=_caveats(columns, kind) + (() if points is None else points.caveats),
    )


def _caveats(columns: set[str], kind: _Kind) -> tuple[str, ...]:
    found = []
    if "scene" not in columns:
        found.append(
            f"No scenes are known, so all {kind.sample}s count as independent; for video, intervals are too narrow."
        )
    if "split" not in columns:
        found.append("No splits are known, so every split is the whole folder.")
    return tuple(found)


def _classes(root: Path, kind: _Kind) -> tuple[str, LabelTable, dict[str, Any]]:
    """Name and classes of the data set, and the content of `classes.yaml`."""
    path = root / "classes.yaml"
    content = read_yaml(path, "the classes of the labels: names, ids, colours, ignored ids")
    Schema({"type": "object", "properties": kind.keys, "additionalProperties": False}, "classes").check(
        content, str(path)
    )
    name = content.get("name", root.resolve().name)
    if not isinstance(name, str) or not re.fullmatch(r"[\w][\w .-]{0,79}", name):
        raise InputError(f"{path}: name {name!r} must be up to 80 letters, digits, spaces, dots and dashes")
    if terms_named(name) is not None:  # its licence is that of its publisher, not the user's
        raise InputError(f"{path}: {name} is the name of a published data set; choose another name")
    section = class_section(content, str(path)) if kind is _POINTS else content
    return name, parse_classes(section, str(path), name), content


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files below a folder by path without suffix, without hidden ones."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if path.suffix.lower() not in suffixes:
            raise InputError(f"{path} is not one of {', '.join(suffixes)}; remove it from {folder.name}/")
        stem = relative.with_suffix("").as_posix()
        if stem in found:
            raise InputError(f"{path} and {found[stem]} have the same name; their labels could not be told apart")
        found[stem] = path
    return found


def _rows(path: Path, samples: Mapping[str, Path], kind: _Kind) -> dict[str, dict[str, str]] | None:
    """The rows of `frames.csv` by path without suffix; `None` without the file."""
    try:
        text = read_regular(path, _MAX_CSV).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text") from error
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is not a table of comma-separated values: {error}") from error
    header = [column.strip() for column in lines[0]] if lines else []
    if "file" not in header:
        raise InputError(f"{path} has no column file; columns: {', '.join(COLUMNS)}")
    for column in header:
        if column not in COLUMNS or header.count(column) > 1:
            problem = "twice" if column in COLUMNS else f"which is unknown{closest(column, COLUMNS)}"
            raise InputError(f"{path} has the column {column!r}, {problem}; columns: {', '.join(COLUMNS)}")
    by_path = {sample.relative_to(path.parent / kind.folder).as_posix(): stem for stem, sample in samples.items()}
    rows: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not any(line):
            continue
        where = f"{path} line {number}"
        if len(line) != len(header):
            raise InputError(f"{where} has {len(line)} values; expected {len(header)}: {', '.join(header)}")
        row = {column: value.strip() for column, value in zip(header, line, strict=True)}
        stem = by_path.get(PurePosixPath(row["file"]).as_posix())
        if stem is None:
            raise InputError(
                f"{where}: no {kind.sample} {path.parent / kind.folder / row['file']}{closest(row['file'], by_path)}"
            )
        if stem in rows:
            raise InputError(f"{where}: {row['file']} occurs twice")
        rows[stem] = _checked(row, where)
    if lacking := [sample for stem, sample in samples.items() if stem not in rows]:
        raise InputError(
            f"{path} has no row for {lacking[0]}" + (f" and {len(lacking) - 1} more" if lacking[1:] else "")
        )
    return rows


def _checked(row: dict[str, str], where: str) -> dict[str, str]:
    if row.get("split", "val") not in _SPLITS:
        raise InputError(f"{where}: split {row['split']!r} is none of {', '.join(_SPLITS)}")
    if "timestamp" in row:
        try:
            good = math.isfinite(float(row["timestamp"])) and abs(float(row["timestamp"])) < 1e12
        except ValueError:
            good = False
        if not good:
            raise InputError(f"{where}: timestamp {row['timestamp']!r} is not a number of seconds")
    return row


def _frame(
    stem: str, sample: Path, labels: Path, table: LabelTable, row: Mapping[str, str], points: PointColumns | None
) -> Frame:
    folder = PurePosixPath(stem).parent.as_posix()
    group = row.get("condition") or ("" if folder == "." else folder) or _UNKNOWN
    if group in _RESERVED or not re.fullmatch(r"[\w][\w ./-]{0,79}", group):
        raise InputError(
            f"{sample}: the condition {group!r} must be letters, digits, spaces and dashes, not all or shifted"
        )
    camera = CameraFrame(
        image_source=partial(read_image, sample),
        labels_source=partial(_read_labels, labels, table),
        image_path=sample,
    )
    coding = table.to_json() if points is None else {**table.to_json(), "channels": points.channels}
    return Frame(
        id=stem,
        scene=row.get("scene") or stem,
        condition=Condition.parse(group) if group in CONDITIONS else Condition(),
        group=group,
        timestamp_us=round(float(row["timestamp"]) * 1e6) if "timestamp" in row else None,
        cameras={"front": camera} if points is None else {},
        lidars={} if points is None else {"lidar": (points.sweep(sample, labels, table),)},
        meta={
            "files": {"image" if points is None else "points": sample, "labels": labels},
            "label_coding": repr(coding),
        },
    )


def _read_labels(path: Path, table: LabelTable) -> UInt8[np.ndarray, "H W"]:
    """`(H, W)` uint8 labels.

    Raises:
        InputError: If the file is unreadable or holds an id outside the classes.
    """
    return table.labels(read_index_png(path), str(path), table.classes.ignore_index)
