"""Renders the model card of a folder anew from its JSON files, or checks that it is what they say."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import tyro
from PIL import Image

from zoo.data import open_dataset
from zoo.errors import InputError, IntegrityError
from zoo.files import write_bytes
from zoo.folder.model_folder import CARD, CONFIG, ModelFolder, encode_document
from zoo.folder.provenance import headline
from zoo.frame import Frame
from zoo.loading import find_folder, load
from zoo.predictor import Predictor

__all__ = ["Arguments", "add_pictures", "render", "run"]

_DATA = "synthetic"  # the frames that everybody has
_DAY, _ADVERSE = "clear", "night"


@dataclass(frozen=True)
class Arguments:
    """Writes README.md of a model folder from config.json, metrics.json, parity.json and benchmark.json alone.

    Exit code 2 with --check: the card differs from what these files say.
    """

    folder: Annotated[str, tyro.conf.Positional]
    """Model folder, installed model, or catalogue name (with --check)."""
    check: bool = False
    """Only compare the existing card with what would be written."""
    pictures: bool = False
    """First make the pictures of a clear and an adverse embedded frame with the model's prediction."""


def run(arguments: Arguments) -> int:
    """Writes or checks the card."""
    folder = ModelFolder.open(find_folder(arguments.folder))
    folder.verify()
    if arguments.check:
        if arguments.pictures:
            raise InputError("--check and --pictures exclude each other; give one of them")
        check(folder)
        print(f"{folder.path / CARD} is what the folder's JSON files say")
        return 0
    folder.refuse_installed("write the card of")
    if arguments.pictures:
        folder = add_pictures(folder)
    render(folder)
    print(f"wrote {folder.path / CARD}")
    return 0


def render(folder: ModelFolder) -> None:
    """Writes the card and renews the manifest."""
    write_bytes(folder.path / CARD, folder.card().encode())
    folder.renew_manifest([CARD])


def check(folder: ModelFolder) -> None:
    """Compares the card in the folder with a new one.

    Raises:
        IntegrityError: If they differ; the message has the first line that does.
    """
    found, expected = folder.read_bytes(CARD).decode("utf-8", "replace").splitlines(), folder.card().splitlines()
    changes = [line for line in difflib.ndiff(expected, found) if line[0] in "+-"]
    if changes:
        first = changes[0][2:][:160]
        what = "lacks" if changes[0][0] == "-" else "has"
        raise IntegrityError(
            f"{folder.path / CARD} {what} the line {first!r}, unlike the folder's JSON files; zoo card {folder.path} "
            "renders it anew"
        )


def add_pictures(folder: ModelFolder) -> ModelFolder:
    """Adds pictures of a clear and an adverse embedded frame, each with the prediction next to it.

    The adverse condition is the one with the lowest headline figure measured with the same file.

    Raises:
        InputError: If the model predicts no labels for images, or the folder cannot be written.
    """
    predictor = load(folder.path)
    if predictor.task.name != "segmentation2d":
        raise InputError(f"{folder.name} is a model for {predictor.task.name}; pictures show labels of images")
    adverse, chosen_by = _worst(folder, predictor.artefact)
    frames = open_dataset(_DATA).frames
    entries = []
    for condition in (_DAY, adverse):
        frame = next(frame for frame in frames if frame.group == condition)
        file = f"pictures/{condition}.jpg"
        write_bytes(folder.path / file, _picture(predictor, frame))
        entries.append(
            {
                "file": file,
                "data": _DATA,
                "condition": condition,
                "frame": frame.id,
                "artefact_sha256": predictor.artefact["sha256"],
                "chosen_by": chosen_by,
            }
        )
    config = {**folder.config, "pictures": entries}
    write_bytes(folder.path / CONFIG, encode_document(config, "config", folder.path / CONFIG))
    folder.renew_manifest([CONFIG, *(entry["file"] for entry in entries)])
    return ModelFolder.open(folder.path)


def _worst(folder: ModelFolder, artefact: Mapping[str, Any]) -> tuple[str, str]:
    """The adverse condition with the lowest headline figure, and the figure's title."""
    groups = {frame.group for frame in open_dataset(_DATA).frames} - {_DAY}
    figures = {
        row["group"]: (headline(row).title, row.get(headline(row).key))
        for row in folder.metrics()
        if row.get("data") == _DATA and row["artefact_sha256"] == artefact["sha256"] and row.get("group") in groups
    }
    measured = {group: value for group, (_, value) in figures.items() if value is not None}
    if not measured:
        return _ADVERSE, "measured figure (none so far, so night)"
    worst = min(measured, key=lambda group: measured[group])
    return worst, figures[worst][0]


def _picture(predictor: Predictor, frame: Frame) -> bytes:
    """JPEG of the image and, to its right, of the image with the predicted classes."""
    image = frame.camera.image
    overlay = np.asarray(predictor(image).overlay().convert("RGB"))
    encoded = io.BytesIO()
    Image.fromarray(np.concatenate([image, overlay], axis=1)).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()
