"""Segmentation's part of the contract: every step from the file's outputs to labels and scores, as data and text."""

from __future__ import annotations

from typing import Any

from zoo.contract import TRIANGLE, Contract

__all__ = ["segmentation_contract"]


def segmentation_contract(*, stride: int, decides: bool) -> Contract:
    """Every step from the network's logits to labels and scores at the original image size.

    Args:
        stride: Input size over logits size.
        decides: Whether the file includes upsampling and argmax.
    """
    label_steps = {"label": _label(), "score": _score()}
    if not decides:
        return {
            "before": {},
            "inside": {"output": _logits_output(stride)},
            "after": {"upsample": _upsample(stride), **label_steps},
        }
    run = {"stride": stride, "text": f"Run the network: one cell of logits for {stride} x {stride} pixels."}
    return {
        "before": {},
        "inside": {"run": run, "upsample": _upsample_inside(stride), **label_steps, "output": _label_output()},
        "after": {"restore": _restore()},
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
            f"Enlarge the logits {stride} times, {TRIANGLE}, positions beyond the array clamped to its edge, and cut "
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
