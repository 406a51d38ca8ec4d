"""Renders the model card of a folder anew from its JSON files, or checks that it is what they say."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from PIL import Image

from zoo.data import open_dataset
from zoo.errors import InputError, IntegrityError
from zoo.files import write_bytes
from zoo.folder.model_folder import CARD, CONFIG, ModelFolder, encode_document
from zoo.folder.provenance import Shown, headline
from zoo.frame import Frame
from zoo.loading import find_folder, load
from zoo.predictor import Predictor

__all__ = ["Arguments", "add_pictures", "render", "run"]

_DATA = "synthetic"  # the frames that everybody has
_DAY, _ADVERSE = "clear", "night"
_OPACITY = 0.55  # of what is drawn over the image, as `zoo predict` has it


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

    The adverse condition is the one with the worst headline figure measured with the same file.

    Raises:
        InputError: If the model does not read images, its task draws no picture of a prediction, or the folder cannot
            be written.
    """
    predictor = load(folder.path)
    adverse, shown = _worst(folder, predictor.artefact)
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
                "chosen_by": shown.title if shown else "measured figure (none so far, so night)",
                "extreme": "lowest" if shown is None or shown.higher_is_better else "highest",
            }
        )
    config = {**folder.config, "pictures": entries}
    write_bytes(folder.path / CONFIG, encode_document(config, "config", folder.path / CONFIG))
    folder.renew_manifest([CONFIG, *(entry["file"] for entry in entries)])
    return ModelFolder.open(folder.path)


def _worst(folder: ModelFolder, artefact: Mapping[str, Any]) -> tuple[str, Shown | None]:
    """The adverse condition with the worst headline figure, and that figure; `None` if nothing was measured."""
    groups = {frame.group for frame in open_dataset(_DATA).frames} - {_DAY}
    rows = {
        row["group"]: row
        for row in folder.metrics()
        if row.get("data") == _DATA and row["artefact_sha256"] == artefact["sha256"] and row.get("group") in groups
    }
    measured = {group: row for group, row in rows.items() if row.get(headline(row).key) is not None}
    if not measured:
        return _ADVERSE, None

    def quality(group: str) -> float:
        shown = headline(measured[group])
        value = measured[group][shown.key]
        return value if shown.higher_is_better else -value

    worst = min(measured, key=quality)
    return worst, headline(measured[worst])


def _picture(predictor: Predictor, frame: Frame) -> bytes:
    """JPEG of the image and, to its right, of the picture that the task draws of the prediction."""
    drawn = [
        content
        for ending, content in predictor.task.files(predictor(frame), _OPACITY).items()
        if ending.endswith((".jpg", ".png"))
    ]
    if not drawn:
        raise InputError(
            f"{predictor.folder.name} predicts {predictor.task.predicts}, of which its task draws no picture; omit "
            "--pictures"
        )
    image, prediction = Image.fromarray(frame.camera.image), Image.open(io.BytesIO(drawn[-1]))
    size = image.width + prediction.width, max(image.height, prediction.height)
    both = Image.new("RGB", size, "white")
    both.paste(image, (0, 0))
    both.paste(prediction, (image.width, 0))
    encoded = io.BytesIO()
    both.save(encoded, "JPEG", quality=85)
    return encoded.getvalue()
