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
from zoo.files import MAX_PIXELS, as_rgb, read_image
from zoo.frame import Frame
from zoo.inference import InferenceMode, labels_and_scores, nearest, predict_logits
from zoo.model_folder import ModelFolder
from zoo.prediction import Segmentation2D
from zoo.preprocessing import Prepared, Preprocessing

__all__ = ["ImageInput", "Predictor", "as_image", "is_fused"]

ImageInput = str | Path | Image.Image | np.ndarray | Frame


def as_image(source: ImageInput) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of a path, a PIL image, an array or a frame with one camera.

    Files and PIL images are turned upright where their EXIF data asks for it.

    Raises:
        InputError: If it is something else, or an array of another shape or type.
    """
    if isinstance(source, Frame):
        return source.camera.image
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, Image.Image):
        return as_rgb(source)
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


def is_fused(artefact: Mapping[str, Any]) -> bool:
    """Whether a file takes uint8 images and normalises, upsamples and picks the class inside its graph."""
    return artefact.get("input", {}).get("dtype") == "uint8"


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
        if is_fused(artefact) and inference.mode != "whole":
            raise InputError(
                f"{folder.path / artefact['file']} picks classes inside its graph and takes whole images only; "
                "use whole-image inference or a file that gives logits"
            )
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
        prepared = self.prepare(array)
        labels, scores = self.finish(self.infer(prepared), prepared)
        return Segmentation2D(labels=labels, scores=scores, classes=self.classes, image=array)

    def prepare(self, image: np.ndarray) -> Prepared:
        """What the engine takes, of `(H, W, 3)` uint8 RGB; a file with the steps inside takes the resized image."""
        if not is_fused(self.artefact):
            return self.preprocessing(image)
        resized = self.preprocessing.resize(image)
        return Prepared(resized, (resized.shape[0], resized.shape[1]), (image.shape[0], image.shape[1]))

    def infer(self, prepared: Prepared) -> dict[str, np.ndarray]:
        """`logits`, `(C, h, w)`; of a file with the steps inside `labels` and `scores`, `(h, w)`."""
        if is_fused(self.artefact):
            outputs = self.engine.run({"image": prepared.array[None]})
            return {name: outputs[name][0] for name in ("labels", "scores")}
        logits = predict_logits(prepared.array, self._run, self.stride, self.inference)
        if len(logits) != len(self.classes):
            raise InputError(
                f"{self.folder.path / self.artefact['file']} gives {len(logits)} classes, but the configuration lists "
                f"{len(self.classes)}; correct config.json"
            )
        return {"logits": logits}

    def finish(self, outputs: Mapping[str, np.ndarray], prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
        """Labels and scores at the image's own size."""
        if not is_fused(self.artefact):
            return labels_and_scores(outputs["logits"], self.stride, prepared)
        labels, scores = outputs["labels"], outputs["scores"]
        if labels.shape != prepared.original_size:
            size = prepared.original_size[::-1]
            labels = nearest(labels, prepared.original_size)
            scores = np.asarray(Image.fromarray(scores).resize(size, Image.Resampling.BILINEAR))
        return labels, scores

    def record(self, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
        """Adds measured rows to the model folder's `metrics.json`; see `ModelFolder.record`."""
        self.folder.record(rows, key)

    def _run(self, images: np.ndarray) -> np.ndarray:
        batch = self.engine.spec.inputs[0].shape[0]
        if batch in (None, len(images)):
            return self.engine.run({"image": images})["logits"]
        # A file with a fixed batch of one takes windows one by one.
        return np.concatenate([self.engine.run({"image": image[None]})["logits"] for image in images])
