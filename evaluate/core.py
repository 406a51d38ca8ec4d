"""Frames in, one record per frame out: reading, prediction and counting overlap, and no pixel is kept."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from zoo.class_maps import class_map
from zoo.classes import ClassTable
from zoo.errors import InputError
from zoo.evaluate.metrics import Metric
from zoo.frame import Frame
from zoo.prediction import Segmentation2D

__all__ = ["Predict", "evaluate", "load_frame", "map_prediction", "read_ahead"]

Predict = Callable[[Frame], Any]
"""From a frame to its prediction."""
_COUNTING_AHEAD = 2


def evaluate(
    frames: Iterable[Frame], predict: Predict, metric: Metric, *, readers: int = 2
) -> Generator[tuple[Frame, Any], None, None]:
    """Predicts every frame and tallies the result; yields each frame with its tally, in the order of the frames.

    Frames are decoded ahead in `readers` threads and tallied in another one, while `predict` runs in the caller's.

    Args:
        frames: Frames with ground truth.
        predict: Any callable from a frame to its prediction: an eager model, an exported file, a table of results.
        metric: What to count, see `zoo.evaluate.metrics.metric_for`.
        readers: Threads that decode.

    Raises:
        InputError: If a frame cannot be read, has no ground truth, or does not fit its prediction.
    """
    counting = ThreadPoolExecutor(1, thread_name_prefix="count")
    pending: deque[tuple[Frame, Future[Any]]] = deque()
    try:
        for frame in read_ahead(frames, readers):
            pending.append((frame, counting.submit(metric.tally, frame, predict(frame))))
            while len(pending) > _COUNTING_AHEAD:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        counting.shutdown(wait=True, cancel_futures=True)


def read_ahead(frames: Iterable[Frame], readers: int = 2) -> Iterator[Frame]:
    """The frames with their arrays decoded, in order, read by so many threads at most `readers` + 1 frames ahead."""
    reading = ThreadPoolExecutor(readers, thread_name_prefix="read")
    pending: deque[Future[Frame]] = deque()
    try:
        for frame in frames:
            pending.append(reading.submit(load_frame, frame))
            if len(pending) > readers + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        reading.shutdown(wait=True, cancel_futures=True)


def load_frame(frame: Frame) -> Frame:
    """The frame with its camera's image, labels, instances and mask decoded."""
    (name,) = frame.cameras if len(frame.cameras) == 1 else (None,)
    camera = frame.camera
    sources: dict[str, Any] = {
        "image_source": camera.image,
        "labels_source": camera.labels,
        "instances_source": camera.instances,
        "invalid_source": camera.invalid,
    }
    height, width = sources["image_source"].shape[:2]
    for what, array in sources.items():
        if array is not None and array.shape[:2] != (height, width):
            raise InputError(
                f"frame {frame.id}: the image is {width} x {height} pixels, but its {what.removesuffix('_source')} "
                f"{array.shape[1]} x {array.shape[0]}"
            )
    assert name is not None
    return dataclasses.replace(frame, cameras={name: dataclasses.replace(camera, **sources)})


def map_prediction(prediction: Segmentation2D, classes: ClassTable) -> np.ndarray:
    """`(H, W)` uint8 predicted labels in `classes`; 255 where the model's class has no counterpart."""
    if prediction.classes.names == classes.names:
        return prediction.labels
    return class_map(prediction.classes, classes)[prediction.labels]
