"""A program that runs an exported file with ONNX Runtime, NumPy and Pillow alone, written from the file's contract.

Every step of a contract that the caller performs has one function here, which gives its lines of Python. A contract
with a step that is not in the table has no program; its steps in words remain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["plain_program"]

Step = Mapping[str, Any]


def plain_program(file: str, contract: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The program for one exported file, to be run in the model folder; `None` if a step has no lines of Python.

    Args:
        file: Path of the file in the model folder.
        contract: As `zoo.contract.joined` returns it.
    """
    before, inside, after = contract["before"], contract["inside"], contract["after"]
    if not (before.keys() <= _BEFORE.keys() and after.keys() <= _AFTER.keys() and "decode" in before):
        return None
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "from PIL import Image, ImageOps",
        "",
        f'session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])',
        *(line for name, step in before.items() for line in _BEFORE[name](step)),
        "rows, columns = size  # without the padding",
        _feed(inside["input"]),
        *(_windows(after["windows"], inside) if "windows" in after else _run(inside)),
        *(line for name, step in after.items() for line in _AFTER[name](step)),
    ]
    return "\n".join(lines)


def _decode(step: Step) -> list[str]:
    return [
        'with Image.open("street.png") as opened:',
        f'    picture = ImageOps.exif_transpose(opened).convert("{step["color_order"]}")',
        "width, height = picture.size",
        "array = np.asarray(picture)",
        "size = array.shape[:2]",
    ]


def _resize(step: Step) -> list[str]:
    return [
        f"scale = {step['short_side']} / min(height, width)",
        f"target = [max(1, min({step['longest_side']}, round(side * scale))) for side in (width, height)]",
        "array = np.asarray(picture.resize(target, Image.Resampling.BILINEAR))",
        "size = array.shape[:2]",
    ]


def _normalise(step: Step) -> list[str]:
    if step["kind"] == "constant":
        return [f"array = ((array / 255 - {step['mean']}) / {step['std']}).astype(np.float32)"]
    return [
        "value = array / 255",
        f"spread = np.maximum(value.std(axis=(0, 1)), {step['minimum_std']})",
        "array = ((value - value.mean(axis=(0, 1))) / spread).astype(np.float32)",
    ]


def _pad(step: Step) -> list[str]:
    margins = ", ".join(f"(0, -{side} % {step['size_multiple']})" for side in ("size[0]", "size[1]"))
    return [f'array = np.pad(array, ({margins}, (0, 0)), mode="{step["kind"]}")']


def _feed(step: Step) -> str:
    turned = "" if step["layout"] == "NHWC" else ".transpose(2, 0, 1)"
    return f"array = np.ascontiguousarray(array{turned}[None])"


def _run(inside: Mapping[str, Any]) -> list[str]:
    name, output = inside["input"]["name"], inside["output"]
    if "names" in output:
        return [f'labels, scores = (each[0] for each in session.run({output["names"]}, {{"{name}": array}}))']
    if "name" in output:
        return [f'logits = session.run(["{output["name"]}"], {{"{name}": array}})[0][0]']
    return [
        f'outputs = session.run(None, {{"{name}": array}})',
        "print([output.shape for output in outputs])",
    ]


def _windows(step: Step, inside: Mapping[str, Any]) -> list[str]:
    (high, wide), (down, across), stride = step["window"], step["window_stride"], inside["output"]["stride"]
    name, output = inside["input"]["name"], inside["output"]["name"]
    return [
        "",
        "",
        "def starts(length, window, step):",
        "    last = max(length - window, 0)",
        "    return [*range(0, last, step), last]",
        "",
        "",
        "total = count = 0",
        f"for y in starts(array.shape[2], {high}, {down}):",
        f"    for x in starts(array.shape[3], {wide}, {across}):",
        f"        part = np.ascontiguousarray(array[:, :, y : y + {high}, x : x + {wide}])",
        f'        found = session.run(["{output}"], {{"{name}": part}})[0][0]',
        "        if np.ndim(total) == 0:",
        f"            count = np.zeros((array.shape[2] // {stride}, array.shape[3] // {stride}), np.float32)",
        "            total = np.zeros((len(found), *count.shape), np.float32)",
        f"        place = np.s_[y // {stride} : y // {stride} + found.shape[1],"
        f" x // {stride} : x // {stride} + found.shape[2]]",
        "        total[:, place[0], place[1]] += found",
        "        count[place] += 1",
        "logits = total / count",
    ]


def _upsample(step: Step) -> list[str]:
    stride = step["stride"]
    return [
        f"box = (0, 0, columns / {stride}, rows / {stride})",
        "planes = [",
        "    Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR, box=box) for plane in logits",
        "]",
    ]


def _label(step: Step) -> list[str]:
    return [
        "labels = np.argmax([np.asarray(plane) for plane in planes], axis=0).astype(np.uint8)",
        'Image.fromarray(labels).save("labels.png")',
    ]


def _restore(step: Step) -> list[str]:
    return [
        "at = [((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(labels.shape, (height, width))]",
        "labels = labels[at[0]][:, at[1]]",
        'Image.fromarray(labels).save("labels.png")',
    ]


def _nothing(step: Step) -> list[str]:
    return []


_BEFORE: dict[str, Callable[[Step], list[str]]] = {
    "decode": _decode,
    "resize": _resize,
    "normalise": _normalise,
    "pad": _pad,
}
# Windows are part of running the file; the score is not needed for the labels.
_AFTER: dict[str, Callable[[Step], list[str]]] = {
    "windows": _nothing,
    "upsample": _upsample,
    "label": _label,
    "score": _nothing,
    "restore": _restore,
}
