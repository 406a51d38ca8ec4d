"""What an exported file for images is given: its size, and the steps that move into its graph."""

from __future__ import annotations

from zoo.engines import EngineSpec, TensorSpec
from zoo.errors import InputError
from zoo.inputs import ExportPlan
from zoo.inputs.preprocessing import MAX_ASPECT, Preprocessing
from zoo.inputs.windows import InferenceMode, window_cells

__all__ = ["NORMALISE", "PAD", "image_export_plan"]

NORMALISE = "normalise"
"""Step that a file may perform inside its graph, with the padding; its input is then the resized uint8 image."""
PAD = "pad"

_CAMERA_IMAGE = TensorSpec("image", "uint8", (None, None, None, 3), axes=("batch", "height", "width", "channels"))


def image_export_plan(
    spec: EngineSpec,
    preprocessing: Preprocessing,
    inference: InferenceMode,
    *,
    size: tuple[int, int] | None,
    uint8_input: bool,
    what: str,
) -> ExportPlan:
    """The plan of a file that `zoo predict` can run.

    Args:
        spec: The module's.
        preprocessing: Of the model.
        inference: Whole images or windows.
        size: Fixed (height, width) of the file's input; `None` for a free size.
        uint8_input: Move normalisation and padding into the file.
        what: Name of the model, for errors.

    Raises:
        InputError: If the size does not fit, or the file cannot take the model's windows or any of its resized images.
    """
    stride = max(tensor.stride or 1 for tensor in spec.outputs)
    multiple = preprocessing.size_multiple
    inner = _inner_size(size, multiple, uint8_input) or (3 * multiple, 4 * multiple)
    if inference.mode == "sliding":
        _check_windows(what, preprocessing, inference, stride, size, uint8_input)
    elif size is not None:
        _check_reachable(preprocessing, size, uint8_input)
    lengths = {"height": inner[0], "width": inner[1]}
    if not uint8_input:
        return ExportPlan(lengths, spec.inputs)
    settings = {"preprocessing": preprocessing, "stride": stride, "size": size}
    return ExportPlan(lengths, (_CAMERA_IMAGE,), (NORMALISE, PAD), settings)


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


def _check_windows(
    name: str,
    preprocessing: Preprocessing,
    inference: InferenceMode,
    stride: int,
    size: tuple[int, int] | None,
    uint8_input: bool,
) -> None:
    if uint8_input:
        raise InputError(
            f'{name} runs overlapping windows (inference mode "sliding" in config.json), but a file exported with '
            "--uint8-input outputs labels and takes whole images only; omit --uint8-input"
        )
    assert inference.window is not None
    height, width = window_cells(inference.window, stride)
    multiple = preprocessing.size_multiple
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
