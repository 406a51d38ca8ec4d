"""The evaluation loop: decodes frames, predicts and tallies in parallel, and keeps only one small record per frame."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from zoo.errors import InputError
from zoo.evaluate.metrics import Metric
from zoo.frame import CameraFrame, Frame, Sweep

__all__ = ["Predict", "evaluate", "load_frame", "read_ahead"]

Predict = Callable[[Frame], Any]
"""Maps a frame to its prediction."""
_COUNTING_AHEAD = 2


def evaluate(
    frames: Iterable[Frame], predict: Predict, metric: Metric, *, readers: int = 2
) -> Generator[tuple[Frame, Any], None, None]:
    """Predicts every frame and tallies the result; yields each frame with its tally, in the order of the frames.

    `readers` threads decode frames in advance and another thread tallies; `predict` runs in the caller's thread.

    Args:
        frames: Frames with ground truth.
        predict: Any callable from a frame to its prediction: an eager model, an exported file, stored results.
        metric: Metric that tallies the predictions, see `zoo.evaluate.metrics.metric_for`.
        readers: Number of decoding threads.

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
    """Yields the frames with their arrays decoded, in order, reading at most `readers` + 1 frames ahead."""
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
    """The frame with the arrays of all its cameras and lidars decoded, except depth, which no metric reads."""
    return dataclasses.replace(
        frame,
        cameras={name: _load_camera(frame.id, camera) for name, camera in frame.cameras.items()},
        lidars={name: tuple(map(_load_sweep, sweeps)) for name, sweeps in frame.lidars.items()},
    )


def _load_camera(id: str, camera: CameraFrame) -> CameraFrame:
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
                f"frame {id}: the image is {width} x {height} pixels, but its {what.removesuffix('_source')} "
                f"{array.shape[1]} x {array.shape[0]}"
            )
    return dataclasses.replace(camera, **sources)


def _load_sweep(sweep: Sweep) -> Sweep:
    return dataclasses.replace(
        sweep, points_source=sweep.points, labels_source=sweep.labels, instances_source=sweep.instances
    )
