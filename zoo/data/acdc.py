"""ACDC: `rgb_anon/{condition}/{split}/{SEQ}/*_rgb_anon.png` with `gt/{condition}/{split}/{SEQ}/*_gt_*.png`.

Every adverse frame has a counterpart in `{split}_ref` that shows the same place in clear weather; its file name ends in
`_rgb_ref_anon`. The counterparts form the group `reference`, whatever adverse condition they belong to.

Training code often moves everything into flat folders, `rgb_anon/{split}/*_rgb_anon.png` with `gt/{split}/*_gt_*.png`.
The condition of a frame is lost there, so these frames form the group `unknown`, without rPD.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from zoo.classes import CITYSCAPES
from zoo.condition import Condition
from zoo.data.dataset import Dataset
from zoo.data.folders import first_folder, visible_files
from zoo.data.labels import read_label_ids, read_mask
from zoo.errors import InputError
from zoo.files import read_image
from zoo.frame import CameraFrame, Frame

__all__ = ["CONDITION_OF", "UNKNOWN", "read"]

CONDITION_OF = {
    "fog": Condition(weather="fog"),
    "night": Condition(time_of_day="night"),
    "rain": Condition(weather="rain"),
    "snow": Condition(weather="snow"),
}
UNKNOWN = "unknown"
"""Group of frames in flat folders."""
_IMAGE_FOLDERS = ("rgb_anon", "rgb_anon_trainvaltest/rgb_anon")  # second: archives unpacked separately
_LABEL_FOLDERS = ("gt", "gt_trainval/gt")
# Training ids first: ACDC's own metric reads them.
_LABEL_FILES = ("gt_labelTrainIds.png", "gt_labelIds.png")
_REFERENCE_LABEL_FILES = ("gt_ref_labelTrainIds.png", "gt_ref_labelIds.png", *_LABEL_FILES)
_FLAT = (
    "This copy of ACDC is in flat folders, which do not record whether a frame shows fog, night, rain or snow, so "
    "there are no figures per condition and no rPD."
)


def read(root: Path, split: str, reference: bool = True) -> Dataset:
    """The frames of one split, grouped by condition; the labels of `test` are not public.

    Args:
        root: Folder with `rgb_anon/` and `gt/`, sorted by condition or flat.
        split: `train`, `val` or `test`.
        reference: Include the clear-weather counterparts as group `reference`, with labels where available.

    Raises:
        InputError: If the layout is unknown, the split is empty or an adverse image has no label file.
    """
    images = first_folder(root, _IMAGE_FOLDERS, "ACDC")
    labels = None if split == "test" else first_folder(root, _LABEL_FOLDERS, "ACDC with its labels")
    frames = [
        _frame(path, condition, labels and labels / condition / split / path.parent.name)
        for condition in CONDITION_OF
        for path in visible_files(images / condition / split, "*/*_rgb_anon.png")
    ]
    flat = not frames
    if flat:
        paths = visible_files(images / split, "*_rgb_anon.png")
        frames = [_frame(path, UNKNOWN, labels and labels / split) for path in paths]
    if not frames:
        conditions = "|".join(CONDITION_OF)
        raise InputError(
            f"acdc {split} is empty: no file {images}/{conditions}/{split}/SEQ/*_rgb_anon.png, nor "
            f"{images}/{split}/*_rgb_anon.png"
        )
    if reference and flat:
        paths = visible_files(images / f"{split}_ref", "*_rgb_ref_anon.png")
        frames += [_reference_frame(path, UNKNOWN, labels and labels / f"{split}_ref") for path in paths]
    elif reference:
        frames += [
            _reference_frame(path, condition, labels and labels / condition / f"{split}_ref" / path.parent.name)
            for condition in CONDITION_OF
            for path in visible_files(images / condition / f"{split}_ref", "*/*_rgb_ref_anon.png")
        ]
    labelled_reference = any(frame.group == "reference" and "labels" in frame.meta["files"] for frame in frames)
    return Dataset(
        kind="acdc",
        root=root,
        split=split,
        classes=CITYSCAPES,
        frames=tuple(frames),
        video=True,  # the frames are stills of a few recordings, the sequences
        source_group="reference" if labelled_reference and not flat else None,
        source_data=None if flat else "cityscapes",
        outside_pool=("reference",),
        caveats=(_FLAT,) if flat else (),
    )


def _frame(image: Path, condition: str, labels_folder: Path | None) -> Frame:
    name = image.name.removesuffix("_rgb_anon.png")
    files = {"image": image}
    if labels_folder is not None:
        stem = labels_folder / name
        if (labels := _first_file(stem, _LABEL_FILES)) is None:
            raise InputError(f"acdc image {image} has no labels; looked for {stem}_gt_labelTrainIds.png")
        files["labels"] = labels
        if (mask := _first_file(stem, ("gt_invIds.png",))) is not None:
            files["invalid"] = mask
    return _make(image, f"{condition}_{name}", condition, condition, CONDITION_OF.get(condition, Condition()), files)


def _reference_frame(image: Path, condition: str, labels_folder: Path | None) -> Frame:
    name = image.name.removesuffix("_rgb_ref_anon.png")
    files = {"image": image}
    if labels_folder is not None and (labels := _first_file(labels_folder / name, _REFERENCE_LABEL_FILES)) is not None:
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
    # `..._gt_labelTrainIds.png` gives `labelTrainIds`.
    coding = files["labels"].stem.split("_")[-1] if "labels" in files else ""
    return Frame(
        id=id,
        scene=f"{folder}/{image.name.split('_')[0]}",
        condition=condition,
        group=group,
        cameras={"front": camera},
        meta={"folder": folder, "files": files, "label_coding": coding},
    )
