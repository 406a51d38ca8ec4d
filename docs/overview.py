"""Draws the picture in the README: one place of the embedded frames under five conditions, with a model's predictions.

python docs/overview.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import zoo
from zoo.prediction import Segmentation2D
from zoo.synthetic.embedded import embedded_frames

MODEL = "supervised-resnet18w48-synthetic.fpn-synthetic"


def main() -> None:
    """Writes docs/overview.jpg: the frames in the upper row, overlays in the lower one, and a legend."""
    frames = embedded_frames()
    predictor = zoo.load(MODEL)
    predictions = [predictor(frame) for frame in frames if frame.scene == frames[0].scene]
    images = [_half(prediction.image, Image.Resampling.LANCZOS) for prediction in predictions]
    labels = [_half(prediction.labels, Image.Resampling.NEAREST) for prediction in predictions]
    scores = [_half(prediction.scores, Image.Resampling.NEAREST) for prediction in predictions]
    row = Segmentation2D(
        labels=np.hstack(labels), scores=np.hstack(scores), classes=predictor.classes, image=np.hstack(images)
    )
    overlays = row.overlay(legend=True)
    sheet = Image.new("RGB", (overlays.width, row.image.shape[0] + overlays.height))
    sheet.paste(Image.fromarray(row.image), (0, 0))
    sheet.paste(overlays, (0, row.image.shape[0]))
    sheet.save(Path(__file__).parent / "overview.jpg", quality=88)


def _half(array: np.ndarray, resample: Image.Resampling) -> np.ndarray:
    height, width = array.shape[:2]
    return np.asarray(Image.fromarray(array).resize((width // 2, height // 2), resample))


if __name__ == "__main__":
    main()
