"""What someone without this package needs to run an exported file: every step from picture to labels, as data and text.

The contract has three parts, each a table of steps in the order in which they are done: `before` (the caller's steps
up to the file's input), `inside` (the file itself), `after` (the caller's steps from the file's output to labels at the
picture's own size). Every step has a `text` that says all of it, and its parameters as data. Only what is in use is
listed: a model that normalises each image by its own statistics has no constants in its contract.

It is written into the file's metadata (`contract`), into the file's entry in `config.json`, and into the model card.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.inference import InferenceMode, window_cells
from zoo.preprocessing import MAX_ASPECT, MIN_STD, Preprocessing

__all__ = ["artefact_contract", "image_contract", "preprocessing_of"]

_TRIANGLE = "bilinear with half-pixel centres"


def artefact_contract(
    artefact: Mapping[str, Any], preprocessing: Preprocessing, inference: InferenceMode
) -> dict[str, Any]:
    """The contract of one exported file, from its entry in `config.json`.

    Args:
        artefact: With `stride`, `dynamic` and `input`.
        preprocessing: Of the model.
        inference: Of the model.
    """
    fused = artefact["input"]["dtype"] == "uint8"
    shape = artefact["input"]["shape"]
    size = None if "height" in artefact["dynamic"] else tuple(shape[1:3] if fused else shape[2:4])
    return image_contract(preprocessing, inference, stride=artefact["stride"], fused=fused, size=size)


def image_contract(
    preprocessing: Preprocessing,
    inference: InferenceMode,
    *,
    stride: int,
    fused: bool = False,
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Every step from a picture to its labels and scores.

    Args:
        preprocessing: Of the model.
        inference: Of the model; a fused file takes whole images only.
        stride: Input size over logits size.
        fused: The file takes uint8 images and gives labels and scores at their size.
        size: Fixed (height, width) of the file's input in pixels, if it is fixed.

    Returns:
        `before`, `inside` and `after`, each a table of steps; see the module's docstring.
    """
    outside = {"decode": _decode()}
    if preprocessing.short_side is not None:
        outside["resize"] = _resize(preprocessing.short_side)
    image_steps = {"normalise": _normalise(preprocessing)}
    if preprocessing.size_multiple > 1:
        image_steps["pad"] = _pad(preprocessing.size_multiple)
    label_steps = {"label": _label(), "score": _score()}
    if fused:
        return {
            "before": outside,
            "inside": {
                "input": _uint8_input(size),
                **image_steps,
                "run": {
                    "stride": stride,
                    "text": f"Run the network: one cell of logits for {stride} x {stride} pixels.",
                },
                "upsample": _upsample_inside(stride),
                **label_steps,
                "output": _label_output(),
            },
            "after": {"restore": _restore()},
        }
    windows = {"windows": _windows(inference, stride)} if inference.mode == "sliding" else {}
    return {
        "before": {**outside, **image_steps},
        "inside": {"input": _float_input(size, preprocessing, bool(windows)), "output": _logits_output(stride)},
        "after": {**windows, "upsample": _upsample(stride), **label_steps},
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
            f"the step if the size stays the same. The filter is {_TRIANGLE}, antialiased where it shrinks (a triangle "
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


def _logits_output(stride: int) -> dict[str, Any]:
    return {
        "name": "logits",
        "dtype": "float32",
        "layout": "NCHW",
        "stride": stride,
        "text": (
            f"The output `logits` is float32, (batch, classes, height / {stride}, width / {stride}): before any "
            "softmax; class c is entry c of `classes`."
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


def _label_output() -> dict[str, Any]:
    return {
        "names": ["labels", "scores"],
        "dtypes": ["uint8", "float32"],
        "layout": "NHW",
        "text": (
            "The outputs are `labels`, uint8, and `scores`, float32, both (batch, height, width) as fed; label c is "
            "entry c of `classes`."
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


def _upsample(stride: int) -> dict[str, Any]:
    return {
        "filter": "bilinear",
        "antialias": True,
        "coordinates": "half_pixel",
        "stride": stride,
        "crop": ["bottom", "right"],
        "text": (
            "Bring each class's logits to the picture's own size H x W in one step that also cuts the padding off. "
            "With h x w the size before the padding, pixel (y, x) takes the logit at row "
            f"(y + 0.5) * (h / {stride}) / H - 0.5 and column (x + 0.5) * (w / {stride}) / W - 0.5 of the whole logits "
            "array, padding included, interpolated bilinearly between the four nearest cells, positions beyond the "
            "array clamped to its edge; antialiased where it shrinks, as in the resize. In Pillow, on the class's "
            "plane as float32 (mode F): "
            f"resize((W, H), Image.Resampling.BILINEAR, box=(0, 0, w / {stride}, h / {stride}))."
        ),
    }


def _upsample_inside(stride: int) -> dict[str, Any]:
    return {
        "filter": "bilinear",
        "coordinates": "half_pixel",
        "stride": stride,
        "crop": ["bottom", "right"],
        "text": (
            f"Enlarge the logits {stride} times, {_TRIANGLE}, positions beyond the array clamped to its edge, and cut "
            "the padding off."
        ),
    }


def _label() -> dict[str, Any]:
    return {
        "rule": "argmax",
        "ties": "lowest",
        "text": "The label of a pixel is the class with the largest logit, the lowest class number on a tie.",
    }


def _score() -> dict[str, Any]:
    formula = "1 / sum over c of exp(logit[c] - logit[label])"
    return {
        "rule": "softmax",
        "formula": formula,
        "text": f"The score of a pixel is the softmax probability of its label: {formula}.",
    }


def _restore() -> dict[str, Any]:
    return {
        "labels": "nearest",
        "scores": "bilinear",
        "text": (
            "Bring the labels to the picture's own size H x W by nearest neighbour: with h x w the size that was fed, "
            "pixel (y, x) takes row floor((y + 0.5) * h / H) and column floor((x + 0.5) * w / W). The "
            "scores are resized bilinearly, antialiased where that shrinks, Pillow's BILINEAR on float32 (mode F). "
            "Skip the step if the size is the same."
        ),
    }
