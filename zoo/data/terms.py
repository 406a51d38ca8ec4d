"""The terms of use of each data set: the only table from which licences of trained weights are derived.

Terms that could not be looked up are `None`, and such a licence is `unknown`, as are weights trained on the data
(`zoo.folder.licences`). The table repeats what the publishers of the data state; it is not legal advice.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.condition import DEFAULT_SEVERITY, Condition
from zoo.data.dataset import Dataset
from zoo.errors import InputError
from zoo.files import write_json
from zoo.frame import Frame, SensorFacts

__all__ = [
    "IMAGENET",
    "IMAGENET_21K",
    "MARKER",
    "SYNTHETIC",
    "TERMS",
    "Terms",
    "is_synthetic",
    "mark_synthetic",
    "places_of",
    "rendered_conditions",
    "rendered_lidar",
    "rendered_split",
    "terms_named",
    "terms_of",
]

MARKER = "synthetic.json"
"""File at the top of every folder rendered by the synthetic world."""
_CITY = "synthetic"  # city name of rendered frames in the Cityscapes layout


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the publisher of a data set (or of weights) allows.

    Attributes:
        name: Its name in licence chains and lists of training data.
        licence: SPDX identifier where there is one, otherwise in a few words; `unknown` if it could not be looked up.
        commercial: Whether works made from it may be used commercially; `None`: unknown.
        share_alike: Whether works made from it must carry the same licence; `None`: unknown.
        no_derivatives: Whether works made from it must not be distributed; `None`: unknown.
        source: Where the terms are published.
    """

    name: str
    licence: str
    commercial: bool | None
    share_alike: bool | None = None
    no_derivatives: bool | None = None
    source: str = ""

    @property
    def summary(self) -> str:
        """One entry of a licence chain."""
        return f"{self.licence} ({self.source})" if self.source else self.licence


def _by_nc_sa(name: str, source: str) -> Terms:
    return Terms(
        name=name, licence="CC BY-NC-SA", commercial=False, share_alike=True, no_derivatives=False, source=source
    )


SYNTHETIC = Terms(
    name="synthetic street world", licence="Apache-2.0", commercial=True, share_alike=False, no_derivatives=False
)
_SYNTHETIC_WITH_MESHES = Terms(
    name="synthetic street world with meshes of its user", licence="unknown, that of the meshes", commercial=None
)
IMAGENET = Terms(
    name="ImageNet-1k",
    licence="non-commercial research and education only",
    commercial=False,
    source="https://www.image-net.org/download.php",
)
IMAGENET_21K = dataclasses.replace(IMAGENET, name="ImageNet-21k")
TERMS: dict[str, Terms] = {
    "a2d2": Terms(
        name="A2D2",
        licence="CC BY-ND",
        commercial=True,
        share_alike=False,
        no_derivatives=True,
        source="https://www.a2d2.audi",
    ),
    # Only the address of the licence page is known here, not its text.
    "acdc": Terms(name="ACDC", licence="unknown", commercial=None, source="https://acdc.vision.ee.ethz.ch/license"),
    "camvid": Terms(
        name="CamVid",
        licence="research use only",
        commercial=False,
        source="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    ),
    # Models may be distributed ("abstract representations"), but no derivative work may be used commercially.
    "cityscapes": Terms(
        name="Cityscapes",
        licence="non-commercial use only",
        commercial=False,
        share_alike=False,
        no_derivatives=False,
        source="https://www.cityscapes-dataset.com/license/",
    ),
    "kitti": _by_nc_sa("KITTI", "https://www.cvlibs.net/datasets/kitti/"),
    "kitti360": _by_nc_sa("KITTI-360", "https://www.cvlibs.net/datasets/kitti-360/"),
    "nuscenes": _by_nc_sa("nuScenes", "https://www.nuscenes.org/terms-of-use"),
    "semantickitti": _by_nc_sa("SemanticKITTI", "http://www.semantic-kitti.org"),
    "synthetic": SYNTHETIC,
}
"""Terms by kind of reader."""


def terms_of(dataset: Dataset) -> Terms:
    """The terms of the frames that were read: those of the reader, unless the frames are synthetic."""
    if is_synthetic(dataset):
        return _SYNTHETIC_WITH_MESHES if _marker(dataset.root).get("meshes") else SYNTHETIC
    unknown = Terms(name=dataset.name or dataset.kind, licence="unknown", commercial=None)
    return TERMS.get(dataset.kind, unknown)


def terms_named(name: str) -> Terms | None:
    """The terms of an entry in a list of training data, such as `CamVid (train)`; `None` if the table lacks it."""
    bare = name.partition(" (")[0]
    return next((terms for terms in (*TERMS.values(), IMAGENET, IMAGENET_21K) if terms.name == bare), None)


def is_synthetic(dataset: Dataset) -> bool:
    """Whether all frames were rendered, in whatever layout.

    The marker alone is not enough, since recordings may have been copied into a rendered folder: there must not be more
    frames than the marker says, and in the Cityscapes layout all must be from the renderer's own city.
    """
    if dataset.kind == "synthetic":
        return True
    if any(frame.meta.get("city", _CITY) != _CITY for frame in dataset.frames):
        return False
    marker = _marker(dataset.root)
    frames = sum(frame.group != "reference" for frame in dataset.frames)  # ACDC's reference frames are extra
    return marker.get("layout") == dataset.kind and frames <= marker["frames"]


def rendered_split(root: Path) -> str | None:
    """The split that a rendered folder was written as; `None` for every other folder."""
    split = _marker(root).get("split")
    return split if isinstance(split, str) else None


def rendered_conditions(root: Path, layout: str) -> tuple[Condition, ...]:
    """Conditions that the places of a rendered folder take in turn; empty for every other folder.

    Raises:
        InputError: If the marker names a condition that does not exist.
    """
    marker = _marker(root)
    names, severity = marker.get("conditions", []), marker.get("severity", DEFAULT_SEVERITY)
    if marker.get("layout") != layout or not isinstance(names, list):
        return ()
    try:
        return tuple(Condition.parse(str(name), severity) for name in names)
    except InputError as error:
        raise InputError(f"{root / MARKER}: {error}") from error


def places_of(dataset: Dataset, frames: Sequence[Frame]) -> list[str | int]:
    """The identity of each frame's surroundings: its scene or, in the synthetic world, the seed of its place.

    Layouts count places from 0, so scenes of two rendered folders may have the same name and show different places.
    Where scenes have names that do not end in that number, the reader says it in `meta["place"]`.
    """
    if not is_synthetic(dataset):
        return [frame.scene for frame in frames]
    first = _marker(dataset.root).get("seed", 0)
    return [frame.scene if (number := _place_number(frame)) is None else first + number for frame in frames]


def rendered_lidar(root: Path, name: str, facts: SensorFacts) -> SensorFacts:
    """Facts about a lidar of a folder: those of the data set, but for what a rendered folder's own rig changed."""
    own = _marker(root).get("lidars")
    entry = own.get(name) if isinstance(own, dict) else None
    if not isinstance(entry, dict):
        return facts
    if type(entry.get("beams")) is int and entry["beams"] > 0:
        facts = dataclasses.replace(facts, beams=entry["beams"], points=None)
    if _positive(entry.get("height_m")):
        facts = dataclasses.replace(facts, height_m=float(entry["height_m"]))
    if _positive(entry.get("max_range_m")):
        facts = dataclasses.replace(facts, max_range_m=float(entry["max_range_m"]))
    return facts


def _positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf  # type: ignore[operator]


def _place_number(frame: Frame) -> int | None:
    if "place" in frame.meta:
        return frame.meta["place"]
    number = re.search(r"(\d+)$", frame.scene)
    return int(number[1]) if number else None


def mark_synthetic(root: Path, layout: str, *, frames: int, seed: int, **settings: Any) -> None:
    """Writes the marker of a rendered folder.

    Args:
        root: The folder.
        layout: The kind of reader for it.
        frames: Number of frames in it.
        seed: Seed of the place that its layout numbers 0.
        settings: Further settings to store.
    """
    write_json(root / MARKER, {"layout": layout, "frames": frames, "seed": seed, **settings})


def _marker(root: Path | None) -> dict[str, Any]:
    """Content of the marker; empty if it is missing or invalid."""
    try:
        found = json.loads((root / MARKER).read_text("utf-8")) if root is not None else {}
    except (OSError, ValueError):
        return {}
    known = isinstance(found, dict) and all(type(found.get(key)) is int for key in ("frames", "seed"))
    return found if known else {}
