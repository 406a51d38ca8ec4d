"""Plans an export: the size of the example input, and the image steps that move into the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from zoo.engines import TensorSpec
from zoo.errors import InputError
from zoo.inputs.image import NORMALISE, ImageInput
from zoo.inputs.preprocessing import MAX_ASPECT, Preprocessing
from zoo.inputs.windows import window_cells
from zoo.predictor import Predictor
from zoo.tasks.segmentation2d import DECIDE, Segmentation2DTask

__all__ = ["Plan", "plan_for"]


@dataclass(frozen=True)
class Plan:
    """How a model is exported.

    Attributes:
        lengths: Length of each axis of the example input.
        module_inputs: Specs of the module's inputs.
        in_graph: Steps that move into the graph.
        rewrite: Function that inserts them into the graph; `None` if there are none.
    """

    lengths: Mapping[str, int]
    module_inputs: tuple[TensorSpec, ...]
    in_graph: tuple[str, ...] = ()
    rewrite: Callable[[Any], Any] | None = None

    def inputs(self, model: Any) -> tuple[TensorSpec, ...]:
        """Specs of the graph's inputs, before or after `rewrite`."""
        rewritten = self.rewrite is not None and model.graph.input[0].type.tensor_type.elem_type == _UINT8
        return (_CAMERA_IMAGE,) if rewritten else self.module_inputs


_UINT8 = 2  # onnx.TensorProto.UINT8
_CAMERA_IMAGE = TensorSpec("image", "uint8", (None, None, None, 3), axes=("batch", "height", "width", "channels"))


def plan_for(predictor: Predictor, axes: tuple[str, ...], size: tuple[int, int] | None, uint8_input: bool) -> Plan:
    """Plans the export of one model.

    Args:
        predictor: Source model, loaded with the torch engine.
        axes: Dynamic axes.
        size: Fixed (height, width) of the file's input; `None` for a dynamic size.
        uint8_input: Move the image steps into the graph.

    Raises:
        InputError: If the model does not read images, a size does not fit, or `zoo predict` could not run the file.
    """
    if len(predictor.stages) > 1:
        raise InputError(
            f"{predictor.name} has {len(predictor.stages)} stages; so far, only single-stage models can be exported"
        )
    inputs, image = predictor.engine.spec.inputs, predictor.input
    if not isinstance(image, ImageInput):
        raise InputError(f"{predictor.name} reads {image.kind}; only models that read images can be exported so far")
    if uint8_input and not isinstance(predictor.task, Segmentation2DTask):
        raise InputError(
            f"--uint8-input is for segmentation models, but the task of {predictor.name} is {predictor.task.name}; "
            "omit --uint8-input"
        )
    stride = max(tensor.stride or 1 for tensor in predictor.engine.spec.outputs)
    multiple = image.preprocessing.size_multiple
    inner = _inner_size(size, multiple, uint8_input) or (3 * multiple, 4 * multiple)
    check_runnable(predictor.name, image, stride, size, uint8_input)
    lengths = {"batch": 2 if "batch" in axes else 1, "height": inner[0], "width": inner[1]}
    if not uint8_input:
        return Plan(lengths, inputs)
    from zoo.export.rewrite import fuse_image_steps

    rewrite = partial(fuse_image_steps, preprocessing=image.preprocessing, stride=stride, size=size)
    return Plan(lengths, inputs, (NORMALISE, "pad", "upsample", DECIDE), rewrite)


def _inner_size(size: tuple[int, int] | None, multiple: int, uint8_input: bool) -> tuple[int, int] | None:
    """The fixed input size of the network itself, after padding."""
    if size is None:
        return None
    padded = tuple(side + -side % multiple for side in size)
    if padded != size and not uint8_input:
        raise InputError(
            f"--size {size[0]}x{size[1]} is not a multiple of {multiple}; use {padded[0]}x{padded[1]}, "
            "or --uint8-input, which pads inside the file"
        )
    return padded[0], padded[1]


def check_runnable(name: str, image: ImageInput, stride: int, size: tuple[int, int] | None, uint8_input: bool) -> None:
    """Refuses settings whose file could be exported but never run by `zoo predict`.

    Args:
        name: Name of the model.
        image: Input of the model.
        stride: Input size over output size.
        size: Fixed (height, width) of the file's input; `None` for a dynamic size.
        uint8_input: Whether the image steps are inside the file.

    Raises:
        InputError: If the file cannot take the model's windows or any of its resized images.
    """
    if image.inference.mode == "sliding":
        _check_windows(name, image, stride, size, uint8_input)
    elif size is not None:
        _check_reachable(image.preprocessing, size, uint8_input)


def _check_windows(name: str, image: ImageInput, stride: int, size: tuple[int, int] | None, uint8_input: bool) -> None:
    if uint8_input:
        raise InputError(
            f'{name} runs overlapping windows (inference mode "sliding" in config.json), but a file exported with '
            "--uint8-input outputs labels and takes whole images only; omit --uint8-input"
        )
    assert image.inference.window is not None
    height, width = window_cells(image.inference.window, stride)
    multiple = image.preprocessing.size_multiple
    if height % multiple or width % multiple:
        raise InputError(
            f"{name} runs windows of {height}x{width} pixels, but the network takes multiples of {multiple}; "
            f"set inference.window in config.json to [{height + -height % multiple}, {width + -width % multiple}]"
        )
    if size is not None and size != (height, width):
        raise InputError(
            f"--size {size[0]}x{size[1]}: {name} runs windows of {height}x{width} pixels; "
            f"use --size {height}x{width}, or omit --size"
        )


def _check_reachable(preprocessing: Preprocessing, size: tuple[int, int], uint8_input: bool) -> None:
    """Checks that some image can have this size after the resize (and the padding, unless the file pads)."""
    short = preprocessing.short_side
    if short is None:
        return
    multiple = 1 if uint8_input else preprocessing.size_multiple
    smallest, largest = (side + -side % multiple for side in (short, short * MAX_ASPECT))
    if min(size) != smallest or max(size) > largest:
        wide = size[1] >= size[0]
        long = min(max(max(size), smallest), largest)
        height, width = (smallest, long) if wide else (long, smallest)
        padded = f", padded to {smallest}," if smallest != short else ""
        raise InputError(
            f"--size {size[0]}x{size[1]}: images are resized to a short side of {short} pixels{padded} before the "
            f"file runs, so no image ever has this size; use for example --size {height}x{width}, or change "
            "preprocessing.short_side in a copy of the model and evaluate that"
        )
