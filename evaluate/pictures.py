"""Thumbnails of example frames for the report (image or sweep, ground truth, prediction, errors) as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from zoo.classes import ClassTable
from zoo.frame import Frame
from zoo.point_pictures import bird_view, labelled_colors
from zoo.prediction import Segmentation3D

__all__ = ["frame_pictures", "jpeg_uri", "labels_uri", "sweep_pictures"]

_WIDTH = 440
_WRONG = (214, 39, 40)


def frame_pictures(frame: Frame, prediction: np.ndarray, classes: ClassTable) -> dict[str, str]:
    """Data URIs of the thumbnails `image`, `truth`, `prediction` and `errors` of one frame.

    Args:
        frame: Frame with labels.
        prediction: `(H, W)` uint8 predicted labels in `classes`.
        classes: Class table of the frame's labels.
    """
    image, truth = frame.camera.image, frame.camera.labels
    assert truth is not None
    return {
        "image": jpeg_uri(image),
        "truth": labels_uri(truth, classes),
        "prediction": labels_uri(prediction, classes),
        "errors": jpeg_uri(_errors(image, truth, prediction, classes.ignore_index)),
    }


def sweep_pictures(
    prediction: Segmentation3D, truth: np.ndarray, labels: np.ndarray, classes: ClassTable
) -> dict[str, str]:
    """Data URIs of the thumbnails `truth`, `prediction` and `errors` of one sweep, from above.

    Args:
        prediction: The segmented points.
        truth: `(N,)` labels in `classes`.
        labels: `(N,)` uint8 predicted labels in `classes`.
        classes: Class table of the ground truth.
    """
    upright, palette = prediction.upright, classes.palette()
    wrong = np.where((labels != truth)[:, None], np.array(_WRONG, np.uint8), np.uint8(110))
    wrong[truth == classes.ignore_index] = 45
    colors = {"truth": labelled_colors(truth, palette), "prediction": labelled_colors(labels, palette), "errors": wrong}
    return {name: jpeg_uri(bird_view(upright, rgb, pixels=_WIDTH)) for name, rgb in colors.items()}


def _errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, ignore_index: int) -> np.ndarray:
    """`(H, W, 3)` image with correct pixels in pale grey, wrong ones in red and ignored ones dark."""
    grey = np.repeat(image.mean(2, keepdims=True), 3, axis=2)
    shown = 150 + 0.4 * grey
    wrong = (truth != prediction) & (truth != ignore_index)
    shown[wrong] = 0.3 * grey[wrong] + 0.7 * np.array(_WRONG)
    shown[truth == ignore_index] = 30 + 0.25 * grey[truth == ignore_index]
    return shown.clip(0, 255).astype(np.uint8)


def _small(image: Image.Image, resample: Image.Resampling) -> Image.Image:
    if image.width <= _WIDTH:
        return image
    return image.resize((_WIDTH, max(1, round(image.height * _WIDTH / image.width))), resample)


def jpeg_uri(image: np.ndarray) -> str:
    """Data URI of an `(H, W, 3)` uint8 image, resized to at most 440 pixels wide."""
    buffer = io.BytesIO()
    _small(Image.fromarray(image), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def labels_uri(labels: np.ndarray, classes: ClassTable) -> str:
    """Data URI of an `(H, W)` uint8 label map in the class colours, resized to at most 440 pixels wide."""
    image = _small(Image.fromarray(labels), Image.Resampling.NEAREST)
    image.putpalette(classes.palette().ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
