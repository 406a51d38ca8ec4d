"""The forms in which CamVid is distributed: where images and label maps are, and what the pixels of a label map mean.

| form | images | label maps | pixels |
| --- | --- | --- | --- |
| SegNet's | `{train,val,test}/NAME.png` | `{train,val,test}annot/NAME.png` | ids of 11 classes; 11 or 255: ignored |
| Kaggle's | `{train,val,test}/NAME.png` | `{train,val,test}_labels/NAME_L.png` | colours of the 32 classes |
| the original | `701_StillsRaw_full/NAME.png` | `LabeledApproved_full/NAME_L.png` | colours of the 32 classes |
| fastai's | `images/NAME.png` | `labels/NAME_P.png` | line numbers of `codes.txt`, which names the 32 classes |

The last two have no split folders. There the frame's name decides, so that `val` holds the same frames in every form.
fastai's `valid.txt` is not used.

Sources: colours: `label_colors.txt` of the CamVid download page, equal to the `class_dict.csv` of the Kaggle copies.
Grouping of the 32 classes into SegNet's 11: MathWorks' CamVid example (`camvidPixelLabelIDs`). Split by name: the file
lists of SegNet's CamVid folder, in which each split takes consecutive frames of a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.classes import CAMVID
from zoo.data.folders import visible_files
from zoo.data.labels import read_labels
from zoo.errors import InputError
from zoo.files import read_image

if TYPE_CHECKING:
    from jaxtyping import UInt8

__all__ = ["ORIGINAL_CLASSES", "CamVidFolder", "LabelledImage", "find_layout"]

# The 32 classes: name, colour, and the one of the 11 classes that it belongs to.
ORIGINAL_CLASSES = (
    ("Animal", (64, 128, 64), "pedestrian"),
    ("Archway", (192, 0, 128), "building"),
    ("Bicyclist", (0, 128, 192), "bicyclist"),
    ("Bridge", (0, 128, 64), "building"),
    ("Building", (128, 0, 0), "building"),
    ("Car", (64, 0, 128), "car"),
    ("CartLuggagePram", (64, 0, 192), "pedestrian"),
    ("Child", (192, 128, 64), "pedestrian"),
    ("Column_Pole", (192, 192, 128), "pole"),
    ("Fence", (64, 64, 128), "fence"),
    ("LaneMkgsDriv", (128, 0, 192), "road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "road"),
    ("Misc_Text", (128, 128, 64), "sign"),
    ("MotorcycleScooter", (192, 0, 192), "bicyclist"),
    ("OtherMoving", (128, 64, 64), "car"),
    ("ParkingBlock", (64, 192, 128), "pavement"),
    ("Pedestrian", (64, 64, 0), "pedestrian"),
    ("Road", (128, 64, 128), "road"),
    ("RoadShoulder", (128, 128, 192), "pavement"),
    ("Sidewalk", (0, 0, 192), "pavement"),
    ("SignSymbol", (192, 128, 128), "sign"),
    ("Sky", (128, 128, 128), "sky"),
    ("SUVPickupTruck", (64, 128, 192), "car"),
    ("TrafficCone", (0, 0, 64), "pole"),
    ("TrafficLight", (0, 64, 64), "sign"),
    ("Train", (192, 64, 128), "car"),
    ("Tree", (128, 128, 0), "tree"),
    ("Truck_Bus", (192, 128, 192), "car"),
    ("Tunnel", (64, 0, 64), "building"),
    ("VegetationMisc", (192, 192, 0), "tree"),
    ("Void", (0, 0, 0), None),
    ("Wall", (64, 192, 0), "building"),
)
_SUFFIXES = (".png", ".jpg")  # of two files with the same stem, the lossless one is used


def _label(group: str | None) -> int:
    return CAMVID.ignore_index if group is None else CAMVID.names.index(group)


_LABEL_OF = {name: _label(group) for name, _, group in ORIGINAL_CLASSES}
_KEYS, _KEY_LABELS = np.array(
    sorted((red << 16 | green << 8 | blue, _label(group)) for _, (red, green, blue), group in ORIGINAL_CLASSES)
).T


@dataclass(frozen=True)
class _Layout:
    form: str
    images: str  # {folder} stands for train, val and test
    labels: str
    ending: str
    coding: str

    @property
    def is_split(self) -> bool:
        return "{folder}" in self.images


_SEGNET = _Layout("SegNet", "{folder}", "{folder}annot", ".png", "")
_LAYOUTS = (
    _SEGNET,
    _Layout("Kaggle", "{folder}", "{folder}_labels", "_L.png", "colours"),
    _Layout("original", "701_StillsRaw_full", "LabeledApproved_full", "_L.png", "colours"),
    _Layout("fastai", "images", "labels", "_P.png", "codes"),
)


@dataclass(frozen=True)
class LabelledImage:
    """The files of one frame.

    Attributes:
        name: Stem of the image file.
        image: The image file.
        labels: The label map file.
        read_labels: Returns `(H, W)` uint8 labels of the 11 classes; 11: ignored.
        coding: What the label map's pixels mean, `colours` or `codes`; empty for ids of the 11 classes.
    """

    name: str
    image: Path
    labels: Path
    read_labels: Callable[[], np.ndarray]
    coding: str


@dataclass(frozen=True)
class CamVidFolder:
    """A CamVid folder in a known form.

    Attributes:
        base: Folder that contains the image folders.
        layout: Its form.
    """

    base: Path
    layout: _Layout

    def has(self, folder: str) -> bool:
        """Whether the folder has this split; forms without split folders have all of them."""
        return not self.layout.is_split or self.images(folder).is_dir()

    def images(self, folder: str) -> Path:
        """Folder with the images of `train`, `val` or `test`."""
        return self.base / self.layout.images.format(folder=folder)

    def entries(self, folder: str) -> list[LabelledImage]:
        """The frames of `train`, `val` or `test`, sorted by name.

        Raises:
            InputError: If an image has no label map, or its split is unknown.
        """
        place = self.images(folder)
        paths = {path.stem: path for suffix in reversed(_SUFFIXES) for path in visible_files(place, f"*{suffix}")}
        names = [name for name in sorted(paths) if self.layout.is_split or _published_split(paths[name]) == folder]
        return [self._entry(name, paths[name], folder) for name in names]

    def _entry(self, name: str, image: Path, folder: str) -> LabelledImage:
        labels = self.base / self.layout.labels.format(folder=folder) / f"{name}{self.layout.ending}"
        if not labels.is_file():
            raise InputError(f"camvid image {image} has no label map; looked for {labels}")
        read: Callable[[], np.ndarray]
        if self.layout.coding == "colours":
            read = partial(_read_colours, labels)
        elif self.layout.coding == "codes":
            read = partial(_read_codes, labels, _codes(self.base / "codes.txt"))
        else:
            read = partial(_read_ids, labels)
        return LabelledImage(name, image, labels, read, self.layout.coding)


def find_layout(root: Path) -> CamVidFolder:
    """The form of the CamVid folder `root`, or of the folder `CamVid` or `camvid` in it.

    Raises:
        InputError: If it is in none of the known forms.
    """
    for base in (root, root / "CamVid", root / "camvid"):
        for layout in _LAYOUTS:
            if any((base / layout.labels.format(folder=folder)).is_dir() for folder in ("train", "val", "test")):
                return CamVidFolder(base, layout)
        if (base / "val").is_dir():
            return CamVidFolder(base, _SEGNET)  # its error then names the missing label map
    looked = ", ".join(f"{layout.labels.format(folder='val')}/ ({layout.form})" for layout in _LAYOUTS)
    found = ", ".join([path.name for path in visible_files(root, "*")][:6]) or "nothing"
    raise InputError(f"{root} is not CamVid in a known form: looked for label maps in {looked}; found {found}")


def _published_split(image: Path) -> str:
    """The split to which SegNet's lists assign a frame of one of the four sequences."""
    found = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", image.stem)
    if found is None:
        raise InputError(
            f"camvid image {image} is not named like CamVid's frames (0001TP_006690, 0006R0_f00930, 0016E5_07959, "
            "Seq05VD_f00000), so its split is unknown; sort the images into train/, val/ and test/"
        )
    sequence, number = found[1], int(found[2])
    if sequence == "Seq05VD" or (sequence == "0001TP" and number >= 8550):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= number <= 8159 else "train"


def _read_ids(path: Path) -> UInt8[np.ndarray, "H W"]:
    labels = read_labels(path, len(CAMVID) + 1, with_255=True)
    return np.where(labels == 255, np.uint8(CAMVID.ignore_index), labels)


def _read_codes(path: Path, codes: bytes) -> UInt8[np.ndarray, "H W"]:
    return np.frombuffer(codes, np.uint8)[read_labels(path, len(codes))]


def _codes(path: Path) -> bytes:
    """The label of every line of `codes.txt`."""
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read; it names the classes of the label maps in labels/") from error
    if unknown := [name for name in names if name not in _LABEL_OF]:
        raise InputError(f"{path} names {unknown[0]!r}, which is not one of CamVid's 32 classes")
    return bytes(_LABEL_OF[name] for name in names)


def _read_colours(path: Path) -> UInt8[np.ndarray, "H W"]:
    """`(H, W)` uint8 labels of a colour label map.

    Raises:
        InputError: If a colour is not one of the 32; the message names the first such pixel.
    """
    red, green, blue = np.moveaxis(read_image(path).astype(np.int32), 2, 0)
    keys = red << 16 | green << 8 | blue
    rows = np.searchsorted(_KEYS, keys).clip(max=len(_KEYS) - 1)
    wrong = _KEYS[rows] != keys
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise InputError(
            f"{path} holds the colour ({red[y, x]}, {green[y, x]}, {blue[y, x]}) at x {x}, y {y}, which is not one of "
            f"CamVid's 32 ({int(wrong.sum())} such pixels); colours change when a label map is saved as JPEG or scaled "
            "with interpolation"
        )
    return _KEY_LABELS[rows].astype(np.uint8)
