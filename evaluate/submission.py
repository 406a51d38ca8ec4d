"""A zip of predictions for the ACDC test server: its test split has no public labels."""

from __future__ import annotations

import io
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.class_maps import NO_COUNTERPART, class_map
from zoo.classes import CITYSCAPES, ClassTable
from zoo.data import Dataset
from zoo.errors import InputError
from zoo.evaluate.core import Predict, map_prediction, read_ahead
from zoo.files import atomic_file
from zoo.frame import Frame

__all__ = ["write_submission"]

_FOLDER = "labelTrainIds"


def write_submission(
    path: Path,
    dataset: Dataset,
    predict: Predict,
    classes: ClassTable,
    *,
    readers: int = 2,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Segments the adverse frames of ACDC and writes what its server takes; gives the number of frames.

    The zip holds one flat folder `labelTrainIds/` of 8-bit one-channel PNGs of training ids (road = 0) at the images'
    own size, each named as its image. (The Cityscapes server wants regular ids instead.) The file appears only when it
    is complete.

    Args:
        path: Zip file.
        dataset: ACDC.
        predict: The model.
        classes: Its classes; every one needs a counterpart among the 19 of Cityscapes.
        readers: Threads that decode.
        advance: Called with frames done and in all.

    Raises:
        InputError: If the data set is not ACDC, a class has no counterpart, or the file cannot be written.
    """
    if dataset.kind != "acdc":
        raise InputError(f"--submission writes predictions for ACDC, but the data set is {dataset.kind}")
    lookup = class_map(classes, CITYSCAPES)
    if lost := [name for name, label in zip(classes.names, lookup, strict=False) if label == NO_COUNTERPART]:
        raise InputError(f"the model's classes {', '.join(lost)} have no training id of ACDC to submit")
    frames = submitted_frames(dataset)
    names = [frame.camera.image_path.name for frame in frames if frame.camera.image_path]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two images are called {twice[0]} in {dataset.root}; the server tells them apart by name")
    with atomic_file(path) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED) as archive:
        pool = ThreadPoolExecutor(2, thread_name_prefix="encode")
        pending: deque[tuple[str, Future[bytes]]] = deque()
        done = 0

        def write_oldest() -> None:
            nonlocal done
            name, future = pending.popleft()
            # A fixed date: the same predictions give the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}"), future.result())
            done += 1
            advance(done, len(frames))

        try:
            for frame in read_ahead(frames, readers):
                labels = map_prediction(predict(frame), CITYSCAPES)
                image_path = frame.camera.image_path
                assert image_path is not None
                pending.append((image_path.name, pool.submit(_png, labels)))
                if len(pending) > 4:
                    write_oldest()
            while pending:
                write_oldest()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return len(frames)


def submitted_frames(dataset: Dataset) -> Sequence[Frame]:
    """The adverse frames: the clear-weather references are not submitted."""
    return [frame for frame in dataset.frames if frame.group not in dataset.outside_pool]


def _png(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()
