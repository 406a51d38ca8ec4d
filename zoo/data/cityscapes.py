"""Cityscapes: `leftImg8bit/{split}/{city}/*_leftImg8bit.png` with `gtFine/{split}/{city}/*_gtFine_labelIds.png`.

All of Cityscapes is the group `clear`. Frames of the synthetic world have their condition in the city's name
(`city_of`); they form a group per condition, and one per severity where a condition occurs in several.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from zoo.classes import CITYSCAPES
from zoo.condition import Condition
from zoo.data.dataset import Dataset, grouped_by_condition
from zoo.data.folders import first_folder, visible_files
from zoo.data.labels import read_instances, read_label_ids
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import CameraFrame, Frame

__all__ = ["SYNTHETIC_CITY", "city_of", "read"]

SYNTHETIC_CITY = "synthetic"
"""City of rendered frames; adverse ones add their condition."""

_IMAGE_FOLDERS = ("leftImg8bit", "leftImg8bit_trainvaltest/leftImg8bit")  # second: archives unpacked separately
_LABEL_FOLDERS = ("gtFine", "gtFine_trainvaltest/gtFine")
_LABEL_FILES = ("labelIds", "labelTrainIds")


def read(root: Path, split: str) -> Dataset:
    """The frames of one split, sorted by name; the public labels of `test` are dummies and are not read.

    Raises:
        InputError: If the layout is unknown, the split is empty or an image has no label file.
    """
    images = first_folder(root, _IMAGE_FOLDERS, "Cityscapes")
    labels = None if split == "test" else first_folder(root, _LABEL_FOLDERS, "Cityscapes with its fine labels")
    paths = visible_files(images / split, "*/*_leftImg8bit.png")
    if not paths:
        raise InputError(f"cityscapes {split} is empty: no file {images / split}/CITY/*_leftImg8bit.png")
    frames = grouped_by_condition([_frame(path, None if labels is None else labels / split) for path in paths])
    return Dataset(
        kind="cityscapes",
        root=root,
        split=split,
        classes=CITYSCAPES,
        frames=tuple(sorted(frames, key=lambda frame: frame.condition.order)),
        source_group="clear",
        instances=True,
    )


def city_of(condition: Condition) -> str:
    """Name of the folder, and first part of the file names, of rendered frames under `condition`."""
    return SYNTHETIC_CITY if not condition.parts else f"{SYNTHETIC_CITY}-{condition.label}"


def _frame(image: Path, labels_folder: Path | None) -> Frame:
    name = image.name.removesuffix("_leftImg8bit.png")
    city, sequence = name.split("_")[:2] if name.count("_") >= 2 else (image.parent.name, "")
    condition = Condition()
    if city.startswith(f"{SYNTHETIC_CITY}-"):
        city, _, text = city.partition("-")
        try:
            condition = Condition.parse(text)
        except InputError as error:
            raise InputError(f"cityscapes image {image}: {error}") from error
    files, coding = {"image": image}, ""
    if labels_folder is not None:
        stem = labels_folder / image.parent.name / f"{name}_gtFine"
        for kind in _LABEL_FILES:
            if (path := Path(f"{stem}_{kind}.png")).is_file():
                files["labels"], coding = path, kind
                break
        else:
            raise InputError(f"cityscapes image {image} has no labels; looked for {stem}_labelIds.png")
        if (path := Path(f"{stem}_instanceIds.png")).is_file():
            files["instances"] = path
    camera = CameraFrame(
        image_source=partial(read_image, image),
        labels_source=partial(read_label_ids, files["labels"]) if "labels" in files else None,
        instances_source=partial(read_instances, files["instances"]) if "instances" in files else None,
        image_path=image,
    )
    meta = {"city": city, "files": files, "label_coding": coding}
    return Frame(id=name, scene=f"{city}_{sequence}", condition=condition, cameras={"front": camera}, meta=meta)
