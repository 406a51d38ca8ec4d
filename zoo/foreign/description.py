"""The YAML file that describes an ONNX file or a Python function.

```yaml
classes: cityscapes        # or a list of names, or names by id; see zoo/label_table.py
ignored: [255]             # ids that mean no class
input:
  name: image              # default: the file's only input
  layout: NCHW             # or NHWC
  channels: RGB            # or BGR
  resize: {short_side: 512}   # or {size: [512, 1024]} as height, width; default: the file's fixed size, or none
  size_multiple: 32        # pads height and width by repeating the edge
  resample: bilinear       # or nearest, bicubic
  scale: 255               # pixel values are divided by this, then
  mean: [0.485, 0.456, 0.406]   # subtracted, in the order of `channels`
  std: [0.229, 0.224, 0.225]    # divided
output:
  name: logits             # default: the file's only output
  kind: logits             # or labels
  layout: NCHW             # of logits; default: that of the input
```

A function has `takes: image` or `takes: frame` in place of `input` and `output`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.folder.schema import Schema
from zoo.label_table import LabelTable, parse_classes
from zoo.yaml_file import read_yaml

__all__ = ["ImageRule", "OutputRule", "check_keys", "read_description"]

_THREE_NUMBERS = {
    "type": "array",
    "items": {"type": "number", "minimum": -1000, "maximum": 1000},
    "minItems": 3,
    "maxItems": 3,
}
_SIDE = {"type": "integer", "minimum": 1, "maximum": 8192}
_LAYOUT = {"enum": ["NCHW", "NHWC"]}
_NAME = {"type": "string", "minLength": 1, "maxLength": 200}
_INPUT = {
    "type": "object",
    "properties": {
        "name": _NAME,
        "layout": _LAYOUT,
        "channels": {"enum": ["RGB", "BGR"]},
        "resize": {
            "type": "object",
            "properties": {
                "short_side": _SIDE,
                "size": {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2},
            },
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        },
        "size_multiple": {"type": "integer", "minimum": 1, "maximum": 1024},
        "resample": {"enum": ["nearest", "bilinear", "bicubic"]},
        "scale": {"type": "number", "minimum": 1e-06, "maximum": 65535},
        "mean": _THREE_NUMBERS,
        "std": {**_THREE_NUMBERS, "items": {"type": "number", "minimum": 1e-06, "maximum": 1000}},
    },
    "additionalProperties": False,
}
_OUTPUT = {
    "type": "object",
    "properties": {"name": _NAME, "kind": {"enum": ["logits", "labels"]}, "layout": _LAYOUT},
    "additionalProperties": False,
}


@dataclass(frozen=True, kw_only=True)
class ImageRule:
    """How an image becomes the input of an ONNX file; see the module's text for the values.

    Attributes:
        name: Name of the input; `None` for the only one.
        layout: Axes of the input.
        channels: Order of the colours.
        size: (height, width) that every image is resized to.
        short_side: Pixels of the short side after the resize.
        size_multiple: Height and width are padded to multiples of this.
        resample: Filter of the resize; Pillow's, which averages when an image shrinks.
        scale, mean, std: The input is `(pixels / scale - mean) / std`.
    """

    name: str | None = None
    layout: str = "NCHW"
    channels: str = "RGB"
    size: tuple[int, int] | None = None
    short_side: int | None = None
    size_multiple: int = 1
    resample: str = "bilinear"
    scale: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def from_json(cls, section: Any, what: str) -> ImageRule:
        """The rule of a section `input`.

        Raises:
            InputError: If a key is unknown or a value is out of range.
        """
        Schema(_INPUT, "input").check(section, f"{what}, input")
        resize = section.get("resize", {})
        values = {key: value for key, value in section.items() if key != "resize"} | resize
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class OutputRule:
    """What an ONNX file returns.

    Attributes:
        name: Name of the output; `None` for the only one.
        kind: `logits`, one plane per class, or `labels`.
        layout: Axes of logits.
    """

    name: str | None = None
    kind: str = "logits"
    layout: str = "NCHW"

    @classmethod
    def from_json(cls, section: Any, what: str, layout: str) -> OutputRule:
        """The rule of a section `output`; `layout` is that of the input.

        Raises:
            InputError: If a key is unknown or a value is out of range.
        """
        Schema(_OUTPUT, "output").check(section, f"{what}, output")
        return cls(**{"layout": layout, **section})


def read_description(path: Path, own_name: str, known: tuple[str, ...]) -> tuple[LabelTable, dict[str, Any]]:
    """Classes and the whole content of a description.

    Args:
        path: YAML file.
        own_name: Name of the model's set of classes, if it is not a known one.
        known: Keys allowed in addition to `classes` and `ignored`.

    Raises:
        InputError: If the file is missing, invalid, or has an unknown key.
    """
    content = read_yaml(path, f"the classes of {own_name}")
    check_keys(content, ("classes", "ignored", *known), str(path))
    return parse_classes(content, str(path), own_name), content


def check_keys(content: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    """Raises an `InputError` that names the first key that is not in `known`."""
    schema = {"type": "object", "properties": dict.fromkeys(known, True), "additionalProperties": False}
    Schema(schema, "file").check(content, what)
