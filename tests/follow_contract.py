"""Runs an exported file from the contract in its metadata alone: ONNX Runtime, NumPy and Pillow, nothing of ours.

Written from the words of the contract, as an engineer would who has the file and not the package. Every parameter is
read from the metadata; a step that the contract does not list is not done.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

Contract = dict[str, dict[str, Any]]


def follow(file: str, picture: str, contract: Contract | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels and scores of `picture` at its own size, and the names of the classes.

    Args:
        file: The ONNX file.
        picture: The image file.
        contract: Followed in place of the file's own, to see what a wrong one costs.
    """
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    contract = contract or json.loads(metadata["contract"])
    before, inside, after = contract["before"], contract["inside"], contract["after"]
    with Image.open(picture) as opened:
        pixels = np.asarray(ImageOps.exif_transpose(opened).convert(before["decode"]["color_order"]))
    own_size = pixels.shape[:2]
    if "resize" in before:
        pixels = resize(pixels, before["resize"])
    size = pixels.shape[:2]
    array = pixels
    if "normalise" in before:
        array = normalise(pixels, before["normalise"])
    if "pad" in before:
        array = pad(array, before["pad"])
    feed = np.ascontiguousarray(array[None] if inside["input"]["layout"] == "NHWC" else array.transpose(2, 0, 1)[None])
    assert feed.dtype == inside["input"]["dtype"]
    name = inside["input"]["name"]
    if "restore" in after:
        labels, scores = session.run(inside["output"]["names"], {name: feed})
        labels, scores = restore(labels[0], scores[0], own_size)
    else:
        logits = run(session, name, inside["output"], feed, after.get("windows"))
        planes = upsample(logits, after["upsample"], size, own_size)
        labels, scores = decide(planes)
    return labels, scores, json.loads(metadata["classes"])


def resize(pixels: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    height, width = pixels.shape[:2]
    s = step["short_side"] / min(height, width)
    new = [max(1, min(step["longest_side"], half_to_even(side * s))) for side in (height, width)]
    if new == [height, width]:
        return pixels
    assert (step["filter"], step["rounding"]) == ("bilinear", "half_to_even")
    if step["antialias"]:
        return np.asarray(Image.fromarray(pixels).resize((new[1], new[0]), Image.Resampling.BILINEAR))
    return sample(pixels.astype(np.float64), new[0], new[1]).round().astype(np.uint8)


def half_to_even(value: float) -> int:
    whole = math.floor(value)
    rest = value - whole
    return whole + (rest > 0.5 or (rest == 0.5 and whole % 2 == 1))


def sample(values: np.ndarray, height: int, width: int, box: tuple[float, float] | None = None) -> np.ndarray:
    """`(H, W, C)` read bilinearly at half-pixel centres, not antialiased, clamped at the edge of the array.

    Args:
        values: `(h, w, C)`.
        height: Rows of the result.
        width: Columns of the result.
        box: Rows and columns of `values`, from the top left, that the result covers; all by default.
    """

    def places(covered: float, old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = ((np.arange(new) + 0.5) * covered / new - 0.5).clip(0, old - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, old - 1), at - low

    rows, columns = box or values.shape[:2]
    top, bottom, down = places(rows, values.shape[0], height)
    left, right, across = places(columns, values.shape[1], width)
    lines = values[top] * (1 - down)[:, None, None] + values[bottom] * down[:, None, None]
    return lines[:, left] * (1 - across)[:, None] + lines[:, right] * across[:, None]


def normalise(pixels: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    value = pixels / 255
    if step["kind"] == "constant":
        return ((value - step["mean"]) / step["std"]).astype(np.float32)
    assert step["kind"] == "image"
    mean = value.mean(axis=(0, 1))
    std = np.sqrt(((value - mean) ** 2).mean(axis=(0, 1)))
    return ((value - mean) / np.maximum(std, step["minimum_std"])).astype(np.float32)


def pad(array: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    assert step["sides"] == ["bottom", "right"]
    missing = [math.ceil(side / step["size_multiple"]) * step["size_multiple"] - side for side in array.shape[:2]]
    return np.pad(array, ((0, missing[0]), (0, missing[1]), (0, 0)), mode=step["kind"])


def run(session: Any, name: str, output: dict[str, Any], feed: np.ndarray, windows: dict[str, Any] | None) -> Any:
    if windows is None:
        return session.run([output["name"]], {name: feed})[0][0]
    stride = output["stride"]
    total = count = np.zeros(1)
    for y in starts(feed.shape[2], windows["window"][0], windows["window_stride"][0]):
        for x in starts(feed.shape[3], windows["window"][1], windows["window_stride"][1]):
            part = feed[:, :, y : y + windows["window"][0], x : x + windows["window"][1]]
            logits = session.run([output["name"]], {name: np.ascontiguousarray(part)})[0][0]
            if total.ndim == 1:
                total = np.zeros((len(logits), feed.shape[2] // stride, feed.shape[3] // stride))
                count = np.zeros(total.shape)
            place = np.s_[:, y // stride :, x // stride :]
            total[place][:, : logits.shape[1], : logits.shape[2]] += logits
            count[place][:, : logits.shape[1], : logits.shape[2]] += 1
    return (total / count).astype(np.float32)


def starts(length: int, window: int, step: int) -> list[int]:
    found = [0]
    while found[-1] + window < length:
        found.append(min(found[-1] + step, length - window))
    return found


def upsample(logits: np.ndarray, step: dict[str, Any], size: Any, own_size: Any) -> np.ndarray:
    """`(C, H, W)`: by the formula in the text where it enlarges, by Pillow where it shrinks and is antialiased."""
    assert (step["filter"], step["coordinates"], step["antialias"]) == ("bilinear", "half_pixel", True)
    rows, columns = (side / step["stride"] for side in size)
    if own_size[0] >= rows and own_size[1] >= columns:
        return sample(logits.transpose(1, 2, 0), *own_size, box=(rows, columns)).transpose(2, 0, 1)
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in logits]
    target = (own_size[1], own_size[0])
    return np.stack(
        [np.asarray(p.resize(target, Image.Resampling.BILINEAR, box=(0, 0, columns, rows))) for p in planes]
    )


def decide(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = planes.argmax(axis=0)  # NumPy takes the first of equal values: the lowest class
    odds = np.exp(planes.astype(np.float64) - planes.max(axis=0))
    return labels.astype(np.uint8), 1 / odds.sum(axis=0)


def restore(labels: np.ndarray, scores: np.ndarray, own_size: Any) -> tuple[np.ndarray, np.ndarray]:
    if labels.shape == tuple(own_size):
        return labels, scores
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * old / new).astype(int)
        for old, new in zip(labels.shape, own_size, strict=True)
    )
    target = (own_size[1], own_size[0])
    return labels[rows][:, columns], np.asarray(Image.fromarray(scores).resize(target, Image.Resampling.BILINEAR))
