"""What a model's source computes against what its exported file computes, frame by frame.

The source is the torch model; where torch is not installed, its outputs that were stored with the file. Both are run on
the same whole images, at the size that the model works at, and their labels are compared there.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from zoo.class_maps import class_map
from zoo.classes import CITYSCAPES, ClassTable
from zoo.engines import Engine
from zoo.errors import InputError, ParityError
from zoo.export.machine import machine, packages
from zoo.files import read_image
from zoo.frame import CameraFrame, Frame
from zoo.inference import labels_and_scores
from zoo.npz import read_npz
from zoo.preprocessing import Prepared, Preprocessing

__all__ = [
    "LIMITS",
    "EngineSource",
    "ExportedFile",
    "FrameSet",
    "Limits",
    "StoredSource",
    "compare",
    "embedded_set",
    "frames_in",
    "refuse_if_beyond",
]

_SHAPE_PIXELS = 100_000
"""Of every other shape so many crops are compared that they have at least this number of pixels together: the strictest
limit then allows ten pixels to differ, and a single tie decides nothing."""
_BATCH = 64  # crops at once at the most
_CROPPED_FRAMES = 24  # the first so many of the frames are cropped to other shapes
_PROBE = 8  # of the source's outputs, every 8th row and column is stored beside the file
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True)
class Limits:
    """What a file must keep to.

    Attributes:
        agreement: Smallest share of pixels with the same label.
        relative_error: Largest error of a logit over the source's largest logit; of a score, where the file gives
            scores. Labels alone would not show a class that wins no pixel of the frames.
    """

    agreement: float
    relative_error: float


LIMITS = {"fp32": Limits(0.9999, 1e-3), "fp16": Limits(0.999, 2e-2)}


@dataclass(frozen=True)
class FrameSet:
    """Frames to compare on.

    Attributes:
        name: `embedded`, or the folder.
        frames: One camera each.
        classes: Meaning of their labels; `None` if they have none.
    """

    name: str
    frames: Sequence[Frame]
    classes: ClassTable | None = None


@dataclass(frozen=True)
class ExportedFile:
    """What must be known of a file to run it on a frame.

    Attributes:
        engine: Runs the file.
        fused: It takes uint8 images and gives labels and scores; else it takes prepared images and gives logits.
        stride: Input size over logits size.
        size_multiple: Prepared images have sides that are multiples of it.
        size: Fixed (height, width) of its input, if it is fixed.
        batch: Its batch is free.
        preprocessing: Of the model.
        classes: Of the model.
        said: The preprocessing that the file's own metadata describes, which the file is fed with, so that the
            comparison covers the metadata; the model's if `None`.
    """

    engine: Engine
    fused: bool
    stride: int
    size_multiple: int
    size: tuple[int, int] | None
    batch: bool
    preprocessing: Preprocessing
    classes: ClassTable
    said: Preprocessing | None = None


@dataclass(frozen=True)
class _Sample:
    id: str
    condition: str
    image: np.ndarray  # (h, w, 3) uint8, as large as the model works at
    truth: np.ndarray | None  # (h, w) uint8


@dataclass(frozen=True)
class _Output:
    labels: np.ndarray  # (h, w) uint8
    values: np.ndarray  # (C, h / stride, w / stride) logits or (1, h, w) scores, float32
    step: int = 1  # only every so many rows and columns of the values are kept


class _Source(Protocol):
    about: dict[str, Any]

    def __call__(self, sample: _Sample, file: ExportedFile) -> _Output: ...


class EngineSource:
    """Runs the source model.

    Args:
        engine: Of the source, giving logits.
        sha256: Of the source's weights.
    """

    def __init__(self, engine: Engine, sha256: str) -> None:
        self._engine = engine
        self.about = {"engine": engine.spec.engine, "sha256": sha256, "stored": False}

    def logits(self, images: np.ndarray) -> np.ndarray:
        """`(B, C, h, w)` for `(B, 3, H, W)`."""
        return self._engine.run({"image": images})["logits"]

    def __call__(self, sample: _Sample, file: ExportedFile) -> _Output:
        """The source's labels and values for one sample."""
        prepared = _prepare(sample.image, file.preprocessing)
        return _output(self.logits(prepared.array[None])[0], prepared, file)


class StoredSource:
    """The source's outputs on the embedded frames, as they were stored with the file.

    Args:
        content: A file that `EngineSource` outputs were packed into.
        sha256: Of the source's weights.
        what: Name of the file, for errors.
    """

    def __init__(self, content: bytes, sha256: str, what: str) -> None:
        self.about = {"engine": "torch", "sha256": sha256, "stored": True}
        self._arrays = read_npz(content, what)

    def __call__(self, sample: _Sample, file: ExportedFile) -> _Output:
        """The source's labels and values for one sample."""
        try:
            output = _Output(self._arrays[f"{sample.id}/labels"], self._arrays[f"{sample.id}/values"], _PROBE)
        except KeyError as error:
            raise InputError(
                f"no output of the source is stored for frame {sample.id}; comparing other frames needs torch: "
                "pip install 'perception-zoo[torch]'"
            ) from error
        image = self._arrays.get(f"{sample.id}/image_sha256")
        if image is not None and image.tobytes() != _digest(sample.image):
            raise InputError(
                f"the source's stored output for frame {sample.id} is of another picture than the one in this version "
                "of perception-zoo; compare with the source (pip install 'perception-zoo[torch]') or export again"
            )
        return output


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def embedded_set() -> FrameSet:
    """The synthetic frames that lie in the package: day and adverse conditions."""
    from zoo.synthetic.embedded import embedded_frames

    return FrameSet("embedded", embedded_frames(), CITYSCAPES)


def frames_in(folder: Path) -> FrameSet:
    """The images in a folder, unlabelled.

    Raises:
        InputError: If it is no folder or holds no image. An unreadable image raises when it is read.
    """
    if not folder.is_dir():
        raise InputError(f"--frames {folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGES)
    if not files:
        raise InputError(f"--frames {folder}: no image ({', '.join(_IMAGES)}) lies in it")
    return FrameSet(
        str(folder),
        [
            Frame(
                id=path.relative_to(folder).as_posix(),
                group="given",
                cameras={"front": CameraFrame(image_source=partial(read_image, path), image_path=path)},
            )
            for path in files
        ],
    )


def compare(
    source: _Source,
    file: ExportedFile,
    sets: Sequence[FrameSet],
    limits: Limits,
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], bytes]:
    """Runs source and file on all frames.

    Args:
        source: `EngineSource` or `StoredSource`.
        file: The file.
        sets: Frames.
        limits: What the file must keep to.
        advance: Called after every frame.

    Returns:
        The row of `parity.json`, and the source's outputs on the embedded frames, to be stored with the file.

    Raises:
        ParityError: If the file cannot be run on an image of a size that it claims to take.
        InputError: If a frame cannot be read.
    """
    totals = _Totals()
    stored: dict[str, np.ndarray] = {}
    by_condition: dict[str, _Counts] = {}
    for frames in sets:
        lookup = _lookup(file.classes, frames.classes)
        for sample in _samples(frames, file):
            expected = source(sample, file)
            found = _run(file, sample)
            same = totals.add(sample.id, expected, found)
            counts = by_condition.setdefault(sample.condition, _Counts())
            counts.add(sample.truth, expected.labels, found.labels, same, lookup, frames.classes)
            if frames.name == "embedded" and expected.step == 1:
                stored[f"{sample.id}/labels"] = expected.labels
                stored[f"{sample.id}/image_sha256"] = np.frombuffer(_digest(sample.image), np.uint8)
                stored[f"{sample.id}/values"] = expected.values[:, ::_PROBE, ::_PROBE].astype(np.float32)
            advance()
    shapes = _shapes(source, file, sets) if isinstance(source, EngineSource) else []
    row = {
        "source": source.about,
        "engine": file.engine.spec.engine,
        "device": file.engine.spec.device,
        "options": dict(file.engine.spec.options),
        "machine": machine(),
        "packages": packages(),
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "frames": totals.frames,
        "frame_sets": [{"name": frames.name, "frames": len(frames.frames)} for frames in sets],
        "compared": "scores" if file.fused else "logits",
        **totals.to_json(),
        "conditions": {name: counts.to_json() for name, counts in by_condition.items()},
        "other_shapes": shapes,
        "limits": {"agreement": limits.agreement, "relative_error": limits.relative_error},
    }
    row["passed"] = not _beyond(row)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored)  # type: ignore[arg-type]
    return row, buffer.getvalue()


def refuse_if_beyond(row: dict[str, Any], what: str) -> None:
    """Raises a `ParityError` that names what is beyond its limit, unless the row passed."""
    if row["passed"]:
        return
    where, part = _beyond(row)[0]
    limits = row["limits"]
    raise ParityError(
        f"{what} does not compute what its source computes ({row['engine']} on {row['device']}, {where}): "
        f"{100 * part['agreement']:.4f} % of the labels agree (at least {100 * limits['agreement']:g} %), "
        f"relative error of the {row['compared']} {part['relative_error']:.2g} "
        f"(at most {limits['relative_error']:g}); the file is not kept"
    )


def _beyond(row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Where the file is beyond its limits: the place and its numbers; the frames first."""
    limits = row["limits"]
    parts = [(f"{row['frames']} frames, worst {row['worst_frame']}", row)]
    parts += [(f"input {part['shape']}", part) for part in row["other_shapes"]]
    return [
        (where, part)
        for where, part in parts
        if part["agreement"] < limits["agreement"] or part["relative_error"] > limits["relative_error"]
    ]


class _Totals:
    """Sums over all frames."""

    def __init__(self) -> None:
        self.frames = self.pixels = self.same = 0
        self.max_error = self.largest = 0.0
        self.worst = (2.0, "")

    def add(self, name: str, expected: _Output, found: _Output) -> int:
        """Counts one frame; gives the number of pixels with the same label."""
        values = found.values[:, :: expected.step, :: expected.step]
        if values.shape != expected.values.shape or found.labels.shape != expected.labels.shape:
            raise ParityError(f"frame {name}: the file gives {found.values.shape}, its source {expected.values.shape}")
        difference = np.abs(values - expected.values)
        # A file that gives NaN must not pass because no comparison with NaN holds.
        self.max_error = max(self.max_error, float(np.where(np.isfinite(difference), difference, np.inf).max()))
        self.largest = max(self.largest, float(np.abs(expected.values).max()))
        same = int(np.count_nonzero(found.labels == expected.labels))
        self.frames += 1
        self.pixels += expected.labels.size
        self.same += same
        self.worst = min(self.worst, (same / expected.labels.size, name))
        return same

    def to_json(self) -> dict[str, Any]:
        return {
            "agreement": self.same / self.pixels,
            "max_error": self.max_error,
            "relative_error": self.max_error / max(self.largest, 1e-12),
            "worst_frame": self.worst[1],
            "worst_agreement": self.worst[0],
        }


class _Counts:
    """Sums over the frames of one condition."""

    def __init__(self) -> None:
        self.frames = self.pixels = self.same = 0
        self.matrices: dict[str, np.ndarray] | None = None

    def add(
        self,
        truth: np.ndarray | None,
        expected: np.ndarray,
        found: np.ndarray,
        same: int,
        lookup: np.ndarray | None,
        classes: ClassTable | None,
    ) -> None:
        self.frames += 1
        self.pixels += expected.size
        self.same += same
        if truth is None or lookup is None or classes is None:
            return
        matrices = {
            "source": _matrix(truth, lookup[expected], len(classes)),
            "file": _matrix(truth, lookup[found], len(classes)),
        }
        old = self.matrices
        self.matrices = matrices if old is None else {name: old[name] + matrix for name, matrix in matrices.items()}

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"frames": self.frames, "agreement": self.same / self.pixels}
        if self.matrices is None:
            return {**values, "miou_source": None, "miou_file": None, "miou_difference": None}
        source, file = _miou(self.matrices["source"]), _miou(self.matrices["file"])
        return {**values, "miou_source": source, "miou_file": file, "miou_difference": file - source}


def _matrix(truth: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """`(C, 256)` pixels of every truth and prediction, without the pixels that have no class."""
    table = np.bincount(truth.astype(np.int64).ravel() << 8 | predicted.ravel(), minlength=1 << 16)
    return table.reshape(256, 256)[:count]


def _miou(matrix: np.ndarray) -> float:
    """Mean over the classes that occur in truth or prediction."""
    count = len(matrix)
    hits = np.diagonal(matrix)
    union = matrix.sum(1) + matrix[:, :count].sum(0) - hits
    return float((hits[union > 0] / union[union > 0]).mean())


def _lookup(model: ClassTable, frames: ClassTable | None) -> np.ndarray | None:
    """From the model's labels to the frames'; `None` where nothing maps them."""
    if frames is None:
        return None
    try:
        return class_map(model, frames)
    except InputError:
        return None


def _samples(frames: FrameSet, file: ExportedFile) -> Iterator[_Sample]:
    for frame in frames.frames:
        image = frame.camera.image
        if file.size is None:
            image = file.preprocessing.resize(image)
        else:
            image = np.asarray(Image.fromarray(image).resize(file.size[::-1], Image.Resampling.BILINEAR))
        truth = frame.camera.labels
        if truth is not None:
            size = image.shape[1], image.shape[0]
            truth = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.NEAREST))
        yield _Sample(frame.id, frame.group, image, truth)


def _prepare(image: np.ndarray, preprocessing: Preprocessing) -> Prepared:
    """The image normalised and padded, to be labelled at its own size: it has been resized already."""
    return dataclasses.replace(preprocessing, short_side=None)(image)


def _prepare_for_file(image: np.ndarray, file: ExportedFile) -> Prepared:
    return _prepare(image, file.said or file.preprocessing)


def _output(logits: np.ndarray, prepared: Prepared, file: ExportedFile) -> _Output:
    labels, scores = labels_and_scores(logits, file.stride, prepared)
    return _Output(labels, scores[None] if file.fused else logits)


def _run(file: ExportedFile, sample: _Sample) -> _Output:
    if file.fused:
        outputs = _attempt(file, sample.image[None])
        return _Output(outputs["labels"][0], outputs["scores"])
    prepared = _prepare_for_file(sample.image, file)
    return _output(_attempt(file, prepared.array[None])["logits"][0], prepared, file)


def _attempt(file: ExportedFile, images: np.ndarray) -> dict[str, np.ndarray]:
    try:
        return file.engine.run({"image": images})
    except InputError:
        raise
    except Exception as error:  # a runtime's own kinds: the graph does not take this size
        raise ParityError(
            f"the file cannot be run on an input {images.shape}: {str(error).splitlines()[0]}; the file is not kept"
        ) from error


def _shapes(source: EngineSource, file: ExportedFile, sets: Sequence[FrameSet]) -> list[dict[str, Any]]:
    """Source and file on a batch, and on sizes that the frames do not have, as far as the file's axes are free.

    The images are crops of the frames at their own scale: what the model was made for, where ties are rare.
    """
    frames = [frame for frames in sets for frame in frames.frames][:_CROPPED_FRAMES]
    if not frames or not (file.batch or file.size is None):
        return []
    images = [frame.camera.image for frame in frames]
    if file.size is None:
        images = [file.preprocessing.resize(image) for image in images]
    rows = []
    for count, size in _other_shapes(file, images[0].shape):
        crops = _crops(images, size)
        totals = _Totals()
        while totals.pixels < _SHAPE_PIXELS:
            samples = [_Sample("", "", next(crops), None) for _ in range(count)]
            prepared = [_prepare(sample.image, file.preprocessing) for sample in samples]
            logits = source.logits(np.stack([part.array for part in prepared]))
            if file.fused:
                outputs = _attempt(file, np.stack([sample.image for sample in samples]))
                found = [_Output(a, b[None]) for a, b in zip(outputs["labels"], outputs["scores"], strict=True)]
            else:
                fed = [_prepare_for_file(sample.image, file).array for sample in samples]
                values = _attempt(file, np.stack(fed))["logits"]
                found = [_output(value, part, file) for value, part in zip(values, prepared, strict=True)]
            for value, part, output in zip(logits, prepared, found, strict=True):
                totals.add("of another shape", _output(value, part, file), output)
        numbers = totals.to_json()
        kept = {key: numbers[key] for key in ("agreement", "max_error", "relative_error")}
        rows.append({"shape": [count, *size], "images": totals.frames, **kept})
    return rows


def _other_shapes(file: ExportedFile, frame: tuple[int, ...]) -> list[tuple[int, tuple[int, int]]]:
    """Batch and (height, width) of the shapes to compare on, besides single frames of the shape `frame`."""

    def batch(size: tuple[int, int]) -> int:
        # Several different images, so that a graph which mixes up its batch is seen.
        return max(3, min(_BATCH, -(-_SHAPE_PIXELS // math.prod(size)))) if file.batch else 1

    if file.size is not None:
        return [(batch(file.size), file.size)]
    step = file.size_multiple
    small = [(batch(size), size) for size in ((step, step), (step, 3 * step), (5 * step, 2 * step))]
    # One image is enough here: it takes as long as four frames, and the small shapes have shown the batch.
    return [*small, (1, (2 * frame[0], 2 * frame[1]))]


def _crops(images: Sequence[np.ndarray], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Endless crops of the images in turn, at places drawn with a fixed seed; enlarged first where one is too small."""
    generator = np.random.default_rng(0)
    height, width = size
    for image in itertools.cycle(images):
        factor = max(height / image.shape[0], width / image.shape[1], 1.0)
        if factor > 1:
            larger = math.ceil(image.shape[1] * factor), math.ceil(image.shape[0] * factor)
            image = np.asarray(Image.fromarray(image).resize(larger, Image.Resampling.BILINEAR))
        top = int(generator.integers(image.shape[0] - height + 1))
        left = int(generator.integers(image.shape[1] - width + 1))
        yield np.ascontiguousarray(image[top : top + height, left : left + width])
