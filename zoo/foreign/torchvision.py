"""`torchvision:NAME`: the segmentation models of torchvision with their published weights.

The weights are pickled; they are read with torch's restricted unpickler, which creates tensors only, after their hash
was compared with the one in their published file name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo._torchvision import import_torchvision
from zoo.classes import ClassTable
from zoo.errors import InputError, closest
from zoo.files import sha256_of
from zoo.foreign import ForeignModel, SchemeOptions
from zoo.frame import Frame
from zoo.label_table import class_table
from zoo.prediction import Segmentation2D

__all__ = ["open_model"]


def open_model(target: str, options: SchemeOptions) -> ForeignModel:
    """A segmentation model of torchvision with its default weights.

    Raises:
        MissingExtraError: If torch or torchvision is not installed.
        InputError: If there is no such model, or its weights cannot be downloaded or read.
    """
    reference = f"torchvision:{target}"
    torchvision = import_torchvision(f"running {reference}")
    models = torchvision.models
    known = models.list_models(module=models.segmentation)
    if target not in known:
        raise InputError(f"{reference}: unknown model{closest(target, known)}; known: {', '.join(known)}")
    weights = models.get_model_weights(target).DEFAULT
    state, path = _state(weights, reference)
    model = models.get_model(target, weights=None, weights_backbone=None, num_classes=len(weights.meta["categories"]))
    try:
        lacking, further = model.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{reference}: {path} does not fit the model; delete it and try again") from error
    # The auxiliary classifier is used in training only.
    if wrong := [*lacking, *(name for name in further if not name.startswith("aux_classifier."))]:
        raise InputError(f"{reference}: {path} and the model differ in {wrong[0]}; delete it and try again")
    from zoo.foreign.torch_models import on_device

    classes = class_table(weights.meta["categories"], "voc", reference)
    runner = _TorchvisionModel(on_device(model, options), weights.transforms(), classes, options.device, reference)
    return ForeignModel(
        name=reference,
        classes=classes,
        artefact={
            "file": path.name,
            "sha256": sha256_of(path),
            "engine": "torch",
            "precision": "fp32",
            "source": reference,
            "revision": str(weights),
        },
        settings={"device": options.device, "weights": weights.url, "transforms": repr(weights.transforms())},
        segment=runner.segment,
    )


def _state(weights: Any, reference: str) -> tuple[Any, Path]:
    """The weights and the file that they were read from."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / os.path.basename(weights.url)
    hint = f"put the file into {folder} or try again with a network connection"
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(path), _hash_in(path), progress=False)
        except (OSError, RuntimeError) as error:  # no network, a server's error, a full disk, another hash
            raise InputError(f"{reference}: downloading {weights.url} failed ({_reason(error)}); {hint}") from error
    if not sha256_of(path).startswith(_hash_in(path)):
        raise InputError(f"{reference}: {path} is damaged, its SHA-256 does not begin with {_hash_in(path)}; delete it")
    try:
        return torch.load(path, map_location="cpu", weights_only=True), path
    except Exception as error:  # a damaged archive raises many kinds
        raise InputError(
            f"{reference}: {path} holds more than tensors or is damaged; delete it and try again"
        ) from error


def _hash_in(path: Path) -> str:
    """First digits of the SHA-256, which torchvision's file names end in."""
    return path.stem.rpartition("-")[2]


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}".rstrip(": ")


class _TorchvisionModel:
    """Runs the model on frames."""

    def __init__(self, model: Any, transforms: Any, classes: ClassTable, device: str, reference: str) -> None:
        self.model, self.transforms, self.classes = model, transforms, classes
        self.device, self.reference = device, reference

    def segment(self, frame: Frame) -> Segmentation2D:
        import torch

        from zoo.foreign.torch_models import first_line, labels_and_scores

        image: np.ndarray = frame.camera.image
        array = self.transforms(Image.fromarray(image))[None].to(self.device)
        try:
            with torch.inference_mode():
                logits = self.model(array)["out"][0]
        except RuntimeError as error:  # memory, on a huge image
            raise InputError(f"{self.reference} failed on frame {frame.id}: {first_line(error)}") from error
        labels, scores = labels_and_scores(logits, (image.shape[0], image.shape[1]))
        return Segmentation2D(labels=labels, scores=scores, classes=self.classes, image=image)
