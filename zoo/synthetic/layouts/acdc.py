"""ACDC: frames in adverse conditions with their clear-weather references, labels and masks of invalid pixels.

Source: the folder and file rules of the ACDC release (https://acdc.vision.ee.ethz.ch).
"""

from __future__ import annotations

import numpy as np

from zoo.frame import CameraFrame, Frame
from zoo.synthetic.layouts import Files, Place, no_closing_files, no_record, png
from zoo.synthetic.layouts.cityscapes import colored, labels_of, regular_ids

__all__ = ["DEFAULT_SIZE", "RIG", "closing_files", "files", "record"]

RIG = "camera"
DEFAULT_SIZE = (256, 512)
record, closing_files = no_record, no_closing_files


def files(frame: Frame | None, place: Place) -> Files:
    """All files of one adverse frame and of its reference, the frame `meta["reference"]`.

    With `frame` None the paths alone are meant.
    """

    def camera() -> CameraFrame:
        assert frame is not None
        return frame.camera

    def reference() -> CameraFrame:
        assert frame is not None
        return frame.meta["reference"].camera

    def invalid() -> np.ndarray:
        mask = camera().invalid
        assert mask is not None
        return mask.astype(np.uint8)

    folder, split, condition = f"GOPR{place.sequence:04d}", place.split, place.condition.name
    name = f"{folder}_frame_{place.number:06d}"
    out: Files = {
        f"rgb_anon/{condition}/{split}/{folder}/{name}_rgb_anon.png": lambda: png(camera().image),
        f"rgb_anon/{condition}/{split}_ref/{folder}/{name}_rgb_ref_anon.png": lambda: png(reference().image),
    }
    if split != "test":
        stem = f"gt/{condition}/{split}/{folder}/{name}_gt"
        out[f"{stem}_labelIds.png"] = lambda: png(regular_ids(labels_of(camera())))
        out[f"{stem}_labelTrainIds.png"] = lambda: png(labels_of(camera()))
        out[f"{stem}_labelColor.png"] = lambda: png(colored(labels_of(camera())))
        out[f"{stem}_invIds.png"] = lambda: png(invalid())
        out[f"{stem}_invGray.png"] = lambda: png(invalid() * 255)
        stem = f"gt/{condition}/{split}_ref/{folder}/{name}_gt_ref"
        out[f"{stem}_labelIds.png"] = lambda: png(regular_ids(labels_of(reference())))
        out[f"{stem}_labelTrainIds.png"] = lambda: png(labels_of(reference()))
        out[f"{stem}_labelColor.png"] = lambda: png(colored(labels_of(reference())))
    return out
