"""Zips of predictions for the test servers of ACDC and Cityscapes, whose test splits have no public labels."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.class_maps import NO_COUNTERPART, class_map
from zoo.classes import CITYSCAPES, ClassTable
from zoo.data import Dataset
from zoo.data.acdc import UNKNOWN
from zoo.data.labels import CITYSCAPES_IDS
from zoo.errors import InputError
from zoo.evaluate.core import Predict, read_ahead
from zoo.files import atomic_file
from zoo.frame import Frame

__all__ = ["SERVERS", "Server", "Submission", "submitted_frames", "write_submission"]


@dataclass(frozen=True)
class Server:
    """Requirements of a test server, which takes one 8-bit single-channel PNG per image, at the size of the image.

    Attributes:
        title: Name of the benchmark.
        folder: Folder of the PNGs in the zip; empty for the root.
        ids: Pixel value for each of the 19 training ids.
        meaning: Name of these values.
        size: Height and width of the test images.
        counts: Number of test images per part, which is a condition or a city.
        part: Function that returns the part of a frame.
        name: Regular expression for the image names.
    """

    title: str
    folder: str
    ids: tuple[int, ...]
    meaning: str
    size: tuple[int, int]
    counts: Mapping[str, int]
    part: Callable[[Frame], str]
    name: str


def _city(frame: Frame) -> str:
    return str(frame.meta.get("city", ""))


def _group(frame: Frame) -> str:
    return frame.group


# Counts are from the data sets' own descriptions. The Cityscapes server expects exactly one file CITY_SEQ_FRAME*.png
# per image with regular ids (its script `evalPixelLevelSemanticLabeling.py`). The ACDC server expects training ids, in
# the layout written by published code that submits to it.
SERVERS = {
    "acdc": Server(
        title="ACDC",
        folder="labelTrainIds/",
        ids=tuple(range(len(CITYSCAPES))),
        meaning="training ids",
        size=(1080, 1920),
        counts={"fog": 500, "night": 500, "rain": 500, "snow": 500},
        part=_group,
        name=r"(GOPR\d{4}|GP\d{6})_frame_\d{6}_rgb_anon\.png",
    ),
    "cityscapes": Server(
        title="Cityscapes",
        folder="",
        ids=CITYSCAPES_IDS,
        meaning="regular label ids",
        size=(1024, 2048),
        counts={"berlin": 544, "bielefeld": 181, "bonn": 46, "leverkusen": 58, "mainz": 298, "munich": 398},
        part=_city,
        name=r"[a-z]+_\d{6}_\d{6}_leftImg8bit\.png",
    ),
}


@dataclass(frozen=True)
class Submission:
    """A written submission.

    Attributes:
        count: Number of PNGs.
        shortcomings: Reasons why the server would reject the zip or give it a lower score; empty if it is complete.
    """

    count: int
    shortcomings: tuple[str, ...]


def write_submission(
    path: Path,
    dataset: Dataset,
    predict: Predict,
    classes: ClassTable,
    *,
    readers: int = 2,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Submission:
    """Predicts the frames that a test server scores and writes them to a zip in the server's format.

    Every PNG is named after its image. The zip appears only once it is complete, and the same predictions always
    produce the same bytes.

    Args:
        path: Zip file.
        dataset: ACDC or Cityscapes.
        predict: Model.
        classes: The model's classes, each with a counterpart among the 19 Cityscapes classes.
        readers: Number of decoding threads.
        advance: Called with the number of completed frames and the total.

    Raises:
        InputError: If the data set has no known server, a class has no counterpart, two images have the same name, or
            the file cannot be written.
    """
    if dataset.kind not in SERVERS:
        raise InputError(f"--submission supports {' and '.join(SERVERS)}, got {dataset.kind}")
    server = SERVERS[dataset.kind]
    lookup = class_map(classes, CITYSCAPES)
    if lost := [name for name, label in zip(classes.names, lookup, strict=False) if label == NO_COUNTERPART]:
        raise InputError(
            f"the model's classes {', '.join(lost)} have no Cityscapes training id; --submission needs a model whose "
            "classes all map to Cityscapes"
        )
    never = [name for label, name in enumerate(CITYSCAPES.names) if label not in lookup[: len(classes)]]
    frames = submitted_frames(dataset)
    names = [_name(frame) for frame in frames]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"two images in {dataset.root} are named {twice[0]}, but the server matches images by name; remove one"
        )
    sizes: Counter[tuple[int, int]] = Counter()
    values = np.array(server.ids, np.uint8)
    with atomic_file(path) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED) as archive:
        pool = ThreadPoolExecutor(2, thread_name_prefix="encode")
        pending: deque[tuple[str, Future[bytes]]] = deque()
        done = 0

        def write_oldest() -> None:
            nonlocal done
            name, future = pending.popleft()
            # ZipInfo has a fixed date, so the same predictions produce the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{server.folder}{name}"), future.result())
            done += 1
            advance(done, len(frames))

        try:
            for frame in read_ahead(frames, readers):
                labels = values[lookup[predict(frame).labels]]
                sizes[labels.shape] += 1
                pending.append((_name(frame), pool.submit(_png, labels)))
                if len(pending) > 4:
                    write_oldest()
            while pending:
                write_oldest()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return Submission(len(frames), tuple(_shortcomings(server, dataset, frames, sizes, never)))


def submitted_frames(dataset: Dataset) -> Sequence[Frame]:
    """The frames that the server scores, which excludes ACDC's clear-weather references."""
    return [frame for frame in dataset.frames if frame.group not in dataset.outside_pool]


def _shortcomings(
    server: Server,
    dataset: Dataset,
    frames: Sequence[Frame],
    sizes: Mapping[tuple[int, int], int],
    never: Sequence[str],
) -> list[str]:
    found = []
    if dataset.split != "test":
        found.append(f"these frames are from the split {dataset.split}, but the server scores test")
    wanted, parts = sum(server.counts.values()), Counter(map(server.part, frames))
    if len(frames) != wanted:
        found.append(f"{len(frames)} frames, but the test split has {wanted}")
    elif set(parts) != {UNKNOWN}:  # in flat folders of ACDC the condition is unknown
        wrong = [f"{parts[name]} of {count} in {name}" for name, count in server.counts.items() if parts[name] != count]
        if wrong:
            found.append(f"frames are missing from a part of the test split: {', '.join(wrong)}")
    if other := {size: count for size, count in sizes.items() if size != server.size}:
        (height, width), count = next(iter(other.items()))
        expected = f"{server.size[1]} x {server.size[0]}"
        found.append(f"{sum(other.values())} frames are not {expected} pixels ({count} are {width} x {height})")
    if odd := [name for name in map(_name, frames) if not re.fullmatch(server.name, name)]:
        found.append(f"{len(odd)} image names are not what the server expects, for example {odd[0]}")
    if never:
        share = f"{len(never)} of the {len(CITYSCAPES)} classes"
        found.append(f"the model cannot predict {share}, which will score 0: {', '.join(never)}")
    return found


def _name(frame: Frame) -> str:
    assert frame.camera.image_path is not None
    return frame.camera.image_path.name


def _png(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()
