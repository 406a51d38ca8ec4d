"""Draws the picture in the README: one place of the embedded frames under five conditions, with a model's predictions.

python docs/overview.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import zoo
from zoo.synthetic.embedded import embedded_frames

MODEL = "supervised-resnet18w48-synthetic.fpn-synthetic"


def main() -> None:
    """Writes docs/overview.jpg."""
    frames = embedded_frames()
    place = frames[0].scene
    chosen = [frame for frame in frames if frame.scene == place]
    predictor = zoo.load(MODEL)
    columns = []
    for frame in chosen:
        prediction = predictor(frame)
        columns.append(np.vstack([prediction.image, np.asarray(prediction.overlay())]))
    sheet = Image.fromarray(np.hstack(columns))
    sheet = sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)
    sheet.save(Path(__file__).parent / "overview.jpg", quality=88)


if __name__ == "__main__":
    main()
