"""Semantic segmentation of images: a class for every pixel."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from zoo.contract import Contract
from zoo.errors import InputError
from zoo.frame import Frame
from zoo.inputs import Prepared
from zoo.inputs.image import ImageContext
from zoo.prediction import Segmentation2D
from zoo.tasks import Agreement, Outputs
from zoo.tasks.segmentation import SegmentationTask, labels_agree
from zoo.tasks.segmentation_contract import segmentation_contract

__all__ = ["Segmentation2DTask", "labels_and_scores", "nearest"]

DECIDE = "argmax"
"""Step that a file may perform inside its graph, with the upsampling; its outputs are then labels and scores."""
_PROBE = 8
"""Every 8th row and column of the source's raw values is stored with an exported file."""


@dataclass(frozen=True)
class Segmentation2DTask(SegmentationTask):
    """Logits at a fraction of the image's size, or labels and scores if the file includes upsampling and argmax."""

    name: ClassVar[str] = "segmentation2d"
    in_graph: ClassVar[tuple[str, ...]] = ("upsample", DECIDE)
    metric: ClassVar[str | None] = "segmentation2d"
    pipeline_tag: ClassVar[str] = "image-segmentation"
    command: ClassVar[str] = "zoo predict {name} street.png --out results"
    usage: ClassVar[str] = 'prediction.overlay().save("overlay.jpg")'

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """How to decode an exported file's outputs without this package, derived from its entry."""
        return segmentation_contract(
            stride=max(tensor.get("stride", 1) for tensor in artefact["outputs"]),
            decides=DECIDE in artefact.get("in_graph", ()),
        )

    def check(self, outputs: Outputs, what: str) -> None:
        """Raises an `InputError` unless the outputs are one plane of logits per class, or labels and scores."""
        if set(outputs) == {"labels", "scores"}:
            return
        if set(outputs) != {"logits"}:
            raise InputError(f"{what} returns {', '.join(outputs)}; a segmenter returns logits, or labels and scores")
        if len(outputs["logits"]) != len(self.classes):
            raise InputError(
                f"{what} returns {len(outputs['logits'])} classes, but the configuration lists {len(self.classes)}; "
                "correct config.json"
            )

    def decode(self, outputs: Outputs, prepared: Prepared) -> Segmentation2D:
        """Labels and scores at the original image size."""
        context = prepared.context
        if not isinstance(context, ImageContext):
            raise InputError("segmentation2d labels the pixels of images; correct inputs or task in config.json")
        if "labels" in outputs:
            labels, scores = _resized(outputs["labels"], outputs["scores"], context.original_size)
        else:
            labels, scores = labels_and_scores(outputs["logits"], context)
        return Segmentation2D(labels=labels, scores=scores, classes=self.classes, image=context.image)

    def files(self, prediction: Segmentation2D, alpha: float) -> dict[str, bytes]:
        """The class ids as an 8-bit PNG, and the overlay with its legend."""
        ids, overlay = io.BytesIO(), io.BytesIO()
        Image.fromarray(prediction.labels).save(ids, "PNG")
        prediction.overlay(alpha, legend=True).save(overlay, "JPEG", quality=92)
        return {".png": ids.getvalue(), "_overlay.jpg": overlay.getvalue()}

    def summary(self, prediction: Segmentation2D) -> dict[str, Any]:
        """Size, mean score, share of each class, and the class table."""
        height, width = prediction.labels.shape
        return {
            "height": height,
            "width": width,
            **self.shares(prediction),
        }

    def truth(self, frame: Frame) -> np.ndarray | None:
        """`(H, W)` uint8 labels of the frame's camera."""
        return frame.camera.labels

    def agreement(self, expected: tuple[Outputs, Segmentation2D], found: tuple[Outputs, Segmentation2D]) -> Agreement:
        """Pixels with the same label, and the error of the logits, or of the scores if the file returns no logits."""
        compared = _compared(found[0])
        return labels_agree(
            expected[1].labels, _values(*expected, compared), found[1].labels, _values(*found, compared), compared
        )

    def pack(self, outputs: Outputs, prediction: Segmentation2D, like: Outputs) -> dict[str, np.ndarray]:
        """`labels` of every pixel, and every 8th row and column of the raw `values`."""
        values = _values(outputs, prediction, _compared(like))[:, ::_PROBE, ::_PROBE]
        return {"labels": prediction.labels, "values": values.astype(np.float32)}

    def agreement_with_packed(
        self, packed: Mapping[str, np.ndarray], found: tuple[Outputs, Segmentation2D]
    ) -> Agreement:
        """Like `agreement`, on every label and the stored raw values."""
        compared = _compared(found[0])
        values = _values(*found, compared)[:, ::_PROBE, ::_PROBE]
        return labels_agree(packed["labels"], packed["values"], found[1].labels, values, compared)


def _compared(outputs: Outputs) -> str:
    """The raw values to compare: a file that includes the argmax returns no logits."""
    return "logits" if "logits" in outputs else "scores"


def _values(outputs: Outputs, prediction: Segmentation2D, compared: str) -> np.ndarray:
    """`(C, h, w)` logits or `(1, H, W)` scores."""
    if compared == "logits":
        return outputs["logits"]
    assert prediction.scores is not None  # `decode` always computes them
    return prediction.scores[None]


def _resized(labels: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    if labels.shape == size:
        return labels, scores
    return (
        nearest(labels, size),
        np.asarray(Image.fromarray(scores).resize(size[::-1], Image.Resampling.BILINEAR)),
    )


def labels_and_scores(logits: np.ndarray, context: ImageContext) -> tuple[np.ndarray, np.ndarray]:
    """Labels and softmax scores at the original image size.

    The logits are resized bilinearly (half-pixel centres) before the argmax.

    Args:
        logits: `(C, h, w)` float32, C at most 256.
        context: The image that they belong to.

    Returns:
        `(H, W)` uint8 labels and `(H, W)` float32 scores in [0, 1].
    """
    height, width = context.original_size
    rows, columns = logits.shape[1:]
    # The part of the logits that covers the image; the rest is padding.
    box = (0.0, 0.0, context.size[1] * columns / context.padded[1], context.size[0] * rows / context.padded[0])
    best = np.full((height, width), -np.inf, np.float32)
    labels = np.zeros((height, width), np.uint8)
    planes = []
    # One class at a time: all classes of a 2-megapixel image would take 160 MB at once.
    for label, plane in enumerate(logits.astype(np.float32, copy=False)):
        resized = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR, box=box))
        planes.append(resized)
        better = resized > best
        np.copyto(best, resized, where=better)
        labels[better] = label
    total = np.zeros((height, width), np.float32)
    for plane in planes:
        total += np.exp(plane - best)
    return labels, 1 / total


def nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`labels`, `(h, w)`, at another (height, width) by nearest neighbour.

    Pixel (y, x) takes row floor((y + 0.5) * h / height), in integer arithmetic. Pillow computes this in fixed point and
    can take the previous row where the result is exact, so it would differ on up to 4 % of a small image.
    """
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(labels.shape, size, strict=True))
    return labels[rows[:, None], columns]
