"""ACDC: `rgb_anon/{condition}/{split}/{SEQ}/*_rgb_anon.png` with `gt/{condition}/{split}/{SEQ}/*_gt_*.png`.

Every adverse frame has a partner of the same place in clear weather in `{split}_ref`, whose names carry another infix
(`_rgb_ref_anon`). Partners form the group `reference`, whatever adverse condition they belong to.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from zoo.classes import CITYSCAPES
from zoo.condition import Condition
from zoo.data.cityscapes import first_folder
from zoo.data.dataset import Dataset
from zoo.data.labels import read_label_ids, read_mask
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import CameraFrame, Frame

__all__ = ["CONDITION_OF", "read"]

CONDITION_OF = {
    "fog": Condition(weather="fog"),
    "night": Condition(time_of_day="night"),
    "rain": Condition(weather="rain"),
    "snow": Condition(weather="snow"),
}
_IMAGE_FOLDERS = ("rgb_anon", "rgb_anon_trainvaltest/rgb_anon")  # as published, or unpacked side by side
_LABEL_FOLDERS = ("gt", "gt_trainval/gt")
# The training ids first: they are what ACDC's own metric reads.
_LABEL_FILES = ("gt_labelTrainIds.png", "gt_labelIds.png")
_REFERENCE_LABEL_FILES = ("gt_ref_labelTrainIds.png", "gt_ref_labelIds.png", *_LABEL_FILES)


def read(root: Path, split: str, reference: bool = True) -> Dataset:
    """The frames of one split, grouped by condition; the labels of `test` are not public.

    Args:
        root: Folder with `rgb_anon/` and `gt/`.
        split: `train`, `val` or `test`.
        reference: Include the clear-weather partners as group `reference` (with labels where there are any).

    Raises:
        InputError: If the layout is another one, the split is empty or an adverse image has no label file.
    """
    images = first_folder(root, _IMAGE_FOLDERS, "ACDC")
    labels = None if split == "test" else first_folder(root, _LABEL_FOLDERS, "ACDC with its labels")
    frames = [
        _frame(path, condition, labels and labels / condition / split)
        for condition in CONDITION_OF
        for path in sorted((images / condition / split).glob("*/*_rgb_anon.png"))
    ]
    if not frames:
        flat = " (the images lie flat in it, without their conditions)" if any(images.glob(f"{split}/*.png")) else ""
        conditions = "|".join(CONDITION_OF)
        raise InputError(f"acdc {split} is empty: no file {images}/{conditions}/{split}/SEQ/*_rgb_anon.png{flat}")
    if reference:
        frames += [
            _reference_frame(path, condition, split, labels and labels / condition)
            for condition in CONDITION_OF
            for path in sorted((images / condition / f"{split}_ref").glob("*/*_rgb_ref_anon.png"))
        ]
    labelled_reference = any(frame.group == "reference" and "labels" in frame.meta["files"] for frame in frames)
    return Dataset(
        kind="acdc",
        root=root,
        split=split,
        classes=CITYSCAPES,
        frames=tuple(frames),
        source_group="reference" if labelled_reference else None,
        source_data="cityscapes",
        outside_pool=("reference",),
    )


def _frame(image: Path, condition: str, labels_folder: Path | None) -> Frame:
    name = image.name.removesuffix("_rgb_anon.png")
    files = {"image": image}
    if labels_folder is not None:
        stem = labels_folder / image.parent.name / name
        if (labels := _first_file(stem, _LABEL_FILES)) is None:
            raise InputError(f"acdc image {image} has no labels; looked for {stem}_gt_labelTrainIds.png")
        files["labels"] = labels
        if (mask := _first_file(stem, ("gt_invIds.png",))) is not None:
            files["invalid"] = mask
    return _make(image, f"{condition}_{name}", condition, condition, CONDITION_OF[condition], files)


def _reference_frame(image: Path, condition: str, split: str, labels_folder: Path | None) -> Frame:
    name = image.name.removesuffix("_rgb_ref_anon.png")
    files = {"image": image}
    if labels_folder is not None:
        labels = _first_file(labels_folder / f"{split}_ref" / image.parent.name / name, _REFERENCE_LABEL_FILES)
        if labels is not None:
            files["labels"] = labels
    return _make(image, f"{condition}_{name}_ref", condition, "reference", Condition(), files)


def _first_file(stem: Path, endings: tuple[str, ...]) -> Path | None:
    paths = (stem.with_name(f"{stem.name}_{ending}") for ending in endings)
    return next((path for path in paths if path.is_file()), None)


def _make(image: Path, id: str, folder: str, group: str, condition: Condition, files: dict[str, Path]) -> Frame:
    camera = CameraFrame(
        image_source=partial(read_image, image),
        labels_source=partial(read_label_ids, files["labels"]) if "labels" in files else None,
        invalid_source=partial(read_mask, files["invalid"]) if "invalid" in files else None,
        image_path=image,
    )
    return Frame(
        id=id,
        scene=f"{folder}/{image.parent.name}",
        condition=condition,
        group=group,
        cameras={"front": camera},
        meta={"folder": folder, "files": files},
    )
