"""Cityscapes: pictures, label ids, training ids, instance ids and colours; on request disparity and calibration.

The city of clear frames is `synthetic`; other frames have their condition in its name: `synthetic-night-3+rain-2`.

Source: the folder and file rules of the Cityscapes scripts (https://github.com/mcordts/cityscapesScripts).
"""

from __future__ import annotations

import numpy as np

from zoo.classes import CITYSCAPES
from zoo.data.cityscapes import city_of
from zoo.data.labels import CITYSCAPES_IDS
from zoo.frame import CameraFrame
from zoo.synthetic.layouts import Files, Place, Rendered, no_closing_files, no_record, png, reader_of
from zoo.synthetic.layouts.extras import CALIBRATION, DEPTH, camera_json, disparity_png

__all__ = ["DEFAULT_SIZE", "EXTRAS", "RIG", "closing_files", "colored", "files", "labels_of", "record", "regular_ids"]

RIG = "camera"
DEFAULT_SIZE = (256, 512)
EXTRAS = (DEPTH, CALIBRATION)
record, closing_files = no_record, no_closing_files


def regular_ids(labels: np.ndarray) -> np.ndarray:
    """Regular label ids, 0 ("unlabeled") to 33, of training ids; uint8 both."""
    table = np.zeros(256, np.uint8)
    table[: len(CITYSCAPES_IDS)] = CITYSCAPES_IDS
    return table[labels]


def colored(labels: np.ndarray) -> np.ndarray:
    """`(H, W, 4)` uint8: training ids in Cityscapes' colours, opaque."""
    rgb = CITYSCAPES.palette()[labels]
    return np.concatenate([rgb, np.full((*labels.shape, 1), 255, np.uint8)], 2)


def labels_of(camera: CameraFrame) -> np.ndarray:
    """`(H, W)` uint8 training ids of a rendered picture."""
    labels = camera.labels
    assert labels is not None
    return labels


def _instances(camera: CameraFrame) -> np.ndarray:
    found = camera.instances
    assert found is not None
    return found.astype(np.uint16)


def files(rendered: Rendered | None, place: Place) -> Files:
    """The files of one frame, see `zoo.synthetic.layouts.Layout`; the test split has no labels."""
    of = reader_of(rendered)
    city = city_of(place.condition)
    name = f"{city}_{place.sequence:06d}_{place.number:06d}"
    out: Files = {f"leftImg8bit/{place.split}/{city}/{name}_leftImg8bit.png": of(lambda it: png(it.frame.camera.image))}
    if {DEPTH, CALIBRATION} & set(place.extras):  # a disparity means nothing without the baseline
        out[f"camera/{place.split}/{city}/{name}_camera.json"] = of(lambda it: camera_json(it.frame.camera))
    if place.split != "test":
        if DEPTH in place.extras:
            path = f"disparity/{place.split}/{city}/{name}_disparity.png"
            out[path] = of(lambda it: disparity_png(it.frame.camera))
        stem = f"gtFine/{place.split}/{city}/{name}_gtFine"
        out[f"{stem}_labelIds.png"] = of(lambda it: png(regular_ids(labels_of(it.frame.camera))))
        out[f"{stem}_labelTrainIds.png"] = of(lambda it: png(labels_of(it.frame.camera)))
        out[f"{stem}_instanceIds.png"] = of(lambda it: png(_instances(it.frame.camera)))
        out[f"{stem}_color.png"] = of(lambda it: png(colored(labels_of(it.frame.camera))))
    return out
