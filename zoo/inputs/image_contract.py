"""The image input's part of the contract: every step from an image to the file's input, as data and text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.contract import TRIANGLE, Contract
from zoo.inputs.preprocessing import MAX_ASPECT, MIN_STD, Preprocessing
from zoo.inputs.windows import InferenceMode, window_cells

__all__ = ["image_contract", "preprocessing_of"]


def image_contract(
    preprocessing: Preprocessing,
    inference: InferenceMode,
    *,
    stride: int,
    normalises: bool,
    size: tuple[int, int] | None,
) -> Contract:
    """Every step from an image to the file's input, and how windows are combined.

    Args:
        preprocessing: Preprocessing of the model.
        inference: Inference mode of the model; a file that normalises takes whole images only.
        stride: Input size over output size; windows are rounded to multiples of it.
        normalises: The file takes uint8 images, and normalises and pads them itself.
        size: Fixed (height, width) of the file's input in pixels, if it is fixed.
    """
    outside = {"decode": _decode()}
    if preprocessing.short_side is not None:
        outside["resize"] = _resize(preprocessing.short_side)
    steps = {"normalise": _normalise(preprocessing)}
    if preprocessing.size_multiple > 1:
        steps["pad"] = _pad(preprocessing.size_multiple)
    if normalises:
        return {"before": outside, "inside": {"input": _uint8_input(size), **steps}, "after": {}}
    windows = {"windows": _windows(inference, stride)} if inference.mode == "sliding" else {}
    return {
        "before": {**outside, **steps},
        "inside": {"input": _float_input(size, preprocessing, bool(windows))},
        "after": windows,
    }


def preprocessing_of(contract: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a contract describes, read from its data.

    Raises:
        KeyError: If a step or a value is missing.
        InputError: If a value is out of range.
    """
    steps = {**contract["before"], **contract["inside"]}
    normalise = steps["normalise"]
    section = {key: normalise[key] for key in ("mean", "std") if key in normalise}
    if "resize" in steps:
        section["short_side"] = steps["resize"]["short_side"]
    multiple = steps["pad"]["size_multiple"] if "pad" in steps else 1
    return Preprocessing.from_json({"normalisation": normalise["kind"], **section, "size_multiple": multiple})


def _decode() -> dict[str, Any]:
    return {
        "color_order": "RGB",
        "dtype": "uint8",
        "value_range": [0, 255],
        "layout": "HWC",
        "text": (
            "Decode the picture to 8-bit RGB: an array (height, width, 3) of integers 0 to 255, red first, turned "
            "upright as its EXIF orientation says, transparency dropped."
        ),
    }


def _resize(short_side: int) -> dict[str, Any]:
    longest = short_side * MAX_ASPECT
    return {
        "short_side": short_side,
        "longest_side": longest,
        "rounding": "half_to_even",
        "filter": "bilinear",
        "antialias": True,
        "coordinates": "half_pixel",
        "dtype": "uint8",
        "text": (
            f"Resize so that the short side has {short_side} pixels. With s = {short_side} / min(height, width) in "
            "double precision, the new height is round(height * s) and the new width round(width * s), to the nearest "
            f"integer, halves to the even one; a side above {longest} becomes {longest}, one below 1 becomes 1. Skip "
            f"the step if the size stays the same. The filter is {TRIANGLE}, antialiased where it shrinks (a triangle "
            "as wide as the scale), along the rows first, then along the columns, each pass rounded to 8 bits. In "
            "Pillow: Image.resize((width, height), Image.Resampling.BILINEAR). A bilinear resize without antialiasing "
            "(OpenCV's INTER_LINEAR, PyTorch's default) gives other values."
        ),
    }


def _normalise(preprocessing: Preprocessing) -> dict[str, Any]:
    if preprocessing.normalisation == "constant":
        mean, std = list(preprocessing.mean), list(preprocessing.std)
        formula = "(value / 255 - mean[channel]) / std[channel]"
        values: dict[str, Any] = {"kind": "constant", "mean": mean, "std": std, "formula": formula}
        text = f"Normalise to float32: {formula}, with mean {mean} and std {std} for red, green, blue."
    else:
        formula = f"(value / 255 - mean[channel]) / max(std[channel], {MIN_STD})"
        values = {"kind": "image", "minimum_std": MIN_STD, "formula": formula}
        text = (
            f"Normalise to float32: {formula}, where mean and std are those of value / 255 over all pixels of this "
            "image's own channel, taken after the resize and before any padding, in double precision; std divides by "
            "the number of pixels, not by one less. No constant of any data set is used."
        )
    return {**values, "dtype": "float32", "text": text}


def _pad(multiple: int) -> dict[str, Any]:
    return {
        "size_multiple": multiple,
        "sides": ["bottom", "right"],
        "kind": "edge",
        "text": (
            f"After the normalisation, pad height and width up to the next multiple of {multiple}, at the bottom and "
            "at the right only, by repeating the last row and the last column (edge), not with zeros."
        ),
    }


def _fixed(size: tuple[int, int] | None) -> tuple[dict[str, Any], str]:
    if size is None:
        return {}, ""
    return {"size": list(size)}, f" Height and width are fixed at {size[0]} x {size[1]}; no other size can be run."


def _float_input(size: tuple[int, int] | None, preprocessing: Preprocessing, windows: bool) -> dict[str, Any]:
    values, fixed = _fixed(size)
    what = "each window" if windows else "the array"
    multiple = preprocessing.size_multiple
    multiples = f", height and width multiples of {multiple}" if multiple > 1 else ""
    return {
        "name": "image",
        "dtype": "float32",
        "layout": "NCHW",
        "color_order": "RGB",
        **values,
        "text": (
            f"Feed {what} as input `image`: float32, (batch, 3, height, width), channels red, green, blue{multiples}."
            + fixed
        ),
    }


def _uint8_input(size: tuple[int, int] | None) -> dict[str, Any]:
    values, fixed = _fixed(size)
    return {
        "name": "image",
        "dtype": "uint8",
        "layout": "NHWC",
        "color_order": "RGB",
        **values,
        "text": (
            "Feed the array as input `image`: uint8, (batch, height, width, 3), red, green, blue; the file itself does "
            "the steps down to its outputs." + fixed
        ),
    }


def _windows(inference: InferenceMode, stride: int) -> dict[str, Any]:
    assert inference.window is not None
    assert inference.window_stride is not None
    window, step = window_cells(inference.window, stride), window_cells(inference.window_stride, stride)
    return {
        "window": list(window),
        "window_stride": list(step),
        "text": (
            f"The file runs on overlapping windows of the padded array, each {window[0]} x {window[1]} pixels or as "
            f"much of that as there is, one every {step[0]} rows and {step[1]} columns from the top left corner, the "
            "last one of each direction flush with the end. Where windows overlap, their logits are averaged."
        ),
    }
