"""From an image or a frame to a prediction, whichever engine runs in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.classes import ClassTable
from zoo.engines import Engine
from zoo.errors import InputError
from zoo.files import MAX_PIXELS, read_image
from zoo.frame import Frame
from zoo.inference import InferenceMode, labels_and_scores, predict_logits
from zoo.model_folder import ModelFolder
from zoo.prediction import Segmentation2D
from zoo.preprocessing import Preprocessing

__all__ = ["ImageInput", "Predictor", "as_image"]

ImageInput = str | Path | Image.Image | np.ndarray | Frame


def as_image(source: ImageInput) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of a path, a PIL image, an array or a frame with one camera.

    Raises:
        InputError: If it is something else, or an array of another shape or type.
    """
    if isinstance(source, Frame):
        return source.camera.image
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, Image.Image):
        return np.asarray(source.convert("RGB"))
    if not isinstance(source, np.ndarray):
        raise InputError(f"a path, a PIL image, an array or a frame was expected; {type(source).__name__} came")
    if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or 0 in source.shape:
        raise InputError(
            f"an image array must be (H, W, 3) uint8 RGB; {source.shape} {source.dtype} came"
            + ("; multiply by 255 and convert" if source.dtype.kind == "f" else "")
        )
    if source.shape[0] * source.shape[1] > MAX_PIXELS:
        raise InputError(f"the image has {source.shape[:2]} pixels; at most {MAX_PIXELS:,} are taken")
    return source


class Predictor:
    """A loaded segmenter: `predictor(image)` gives a `Segmentation2D`.

    Attributes:
        name: Of the model.
        folder: The model folder that it was loaded from.
        artefact: Entry of the file that runs: `file`, `sha256`, `engine`, `precision`.
        engine: Runs the file.
        classes: Names and colours of the labels.
        preprocessing: Applied to every image.
        inference: Whole images or windows.
        stride: Input size over logits size.
    """

    def __init__(
        self,
        *,
        folder: ModelFolder,
        artefact: Mapping[str, Any],
        engine: Engine,
        stride: int,
        size_multiple: int,
        inference: InferenceMode,
    ) -> None:
        classes = folder.classes
        if classes is None:
            raise InputError(f"{folder.path}: a segmenter's configuration must list its classes")
        self.name = folder.name
        self.folder = folder
        self.artefact = artefact
        self.engine = engine
        self.classes: ClassTable = classes
        self.preprocessing: Preprocessing = folder.preprocessing
        self.inference = inference
        self.stride = stride
        if self.preprocessing.size_multiple % size_multiple:
            raise InputError(
                f"{folder.path}: images are padded to multiples of {self.preprocessing.size_multiple}, "
                f"but the architecture needs multiples of {size_multiple}"
            )

    @property
    def module(self) -> Any:
        """The `nn.Module`, for the torch engine.

        Raises:
            InputError: If another engine runs the model.
        """
        module = getattr(self.engine, "module", None)
        if module is None:
            raise InputError(f"the {self.engine.spec.engine} engine has no nn.Module; load with engine='torch'")
        return module

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the result besides the file: engine, device, arithmetic, preprocessing, inference."""
        spec = self.engine.spec
        return {
            "engine": spec.engine,
            "device": spec.device,
            "precision": spec.precision,
            "preprocessing": self.preprocessing.to_json(),
            "inference": self.inference.to_json(),
        }

    def __call__(self, image: ImageInput) -> Segmentation2D:
        """Segments one image.

        Args:
            image: A path, a PIL image, an `(H, W, 3)` uint8 RGB array of any size, or a frame with one camera.

        Returns:
            Labels and scores at the image's own size.

        Raises:
            InputError: If it is no image.
        """
        array = as_image(image)
        prepared = self.preprocessing(array)
        logits = predict_logits(prepared.array, self._run, self.stride, self.inference)
        labels, scores = labels_and_scores(logits, self.stride, prepared)
        return Segmentation2D(labels=labels, scores=scores, classes=self.classes, image=array)

    def record(self, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
        """Adds measured rows to the model folder's `metrics.json`; see `ModelFolder.record`."""
        self.folder.record(rows, key)

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self.engine.run({"image": images})["logits"]
