"""ACDC: frames in adverse conditions with their clear-weather references, labels and masks of invalid pixels.

ACDC has neither depth nor calibration. On request they are written next to the labels, `depth` in KITTI's encoding and
`camera` in the form of Cityscapes; both hold for the reference as well.

Source: the folder and file rules of the ACDC release (https://acdc.vision.ee.ethz.ch).
"""

from __future__ import annotations

import numpy as np

from zoo.errors import InputError
from zoo.frame import CameraFrame
from zoo.synthetic.layouts import Files, Place, Rendered, no_closing_files, no_record, png, reader_of
from zoo.synthetic.layouts.cityscapes import colored, labels_of, regular_ids
from zoo.synthetic.layouts.extras import CALIBRATION, DEPTH, camera_json, depth_png

__all__ = ["DEFAULT_SIZE", "EXTRAS", "RIG", "closing_files", "files", "record"]

RIG = "camera"
DEFAULT_SIZE = (256, 512)
EXTRAS = (DEPTH, CALIBRATION)
record, closing_files = no_record, no_closing_files


def _reference(rendered: Rendered) -> CameraFrame:
    if rendered.reference is None:
        raise InputError(f"frame {rendered.frame.id} has no clear-weather reference; acdc needs one for every frame")
    return rendered.reference.camera


def _invalid(rendered: Rendered) -> np.ndarray:
    mask = rendered.frame.camera.invalid
    assert mask is not None
    return mask.astype(np.uint8)


def files(rendered: Rendered | None, place: Place) -> Files:
    """The files of one adverse frame and of its reference, see `zoo.synthetic.layouts.Layout`.

    Raises:
        InputError: If the condition is clear or a mixture, or the content of a reference's file is requested and there
            is none.
    """
    if len(place.condition.parts) != 1:
        raise InputError(f"acdc has no folder for {place.condition.name}; its frames have one adverse condition each")
    of = reader_of(rendered)
    folder, split, condition = f"GOPR{place.sequence:04d}", place.split, place.condition.parts[0]
    name = f"{folder}_frame_{place.number:06d}"
    out: Files = {
        f"rgb_anon/{condition}/{split}/{folder}/{name}_rgb_anon.png": of(lambda it: png(it.frame.camera.image)),
        f"rgb_anon/{condition}/{split}_ref/{folder}/{name}_rgb_ref_anon.png": of(lambda it: png(_reference(it).image)),
    }
    if CALIBRATION in place.extras:
        path = f"camera/{condition}/{split}/{folder}/{name}_camera.json"
        out[path] = of(lambda it: camera_json(it.frame.camera))
    if split != "test":
        if DEPTH in place.extras:
            path = f"depth/{condition}/{split}/{folder}/{name}_depth.png"
            out[path] = of(lambda it: depth_png(it.frame.camera))
        stem = f"gt/{condition}/{split}/{folder}/{name}_gt"
        out[f"{stem}_labelIds.png"] = of(lambda it: png(regular_ids(labels_of(it.frame.camera))))
        out[f"{stem}_labelTrainIds.png"] = of(lambda it: png(labels_of(it.frame.camera)))
        out[f"{stem}_labelColor.png"] = of(lambda it: png(colored(labels_of(it.frame.camera))))
        out[f"{stem}_invIds.png"] = of(lambda it: png(_invalid(it)))
        out[f"{stem}_invGray.png"] = of(lambda it: png(_invalid(it) * 255))
        stem = f"gt/{condition}/{split}_ref/{folder}/{name}_gt_ref"
        out[f"{stem}_labelIds.png"] = of(lambda it: png(regular_ids(labels_of(_reference(it)))))
        out[f"{stem}_labelTrainIds.png"] = of(lambda it: png(labels_of(_reference(it))))
        out[f"{stem}_labelColor.png"] = of(lambda it: png(colored(labels_of(_reference(it)))))
    return out
