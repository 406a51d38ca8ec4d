"""`onnx:FILE.onnx`: any ONNX file that maps one image to logits or labels, described by a YAML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from zoo.engines import EngineSpec, TensorSpec
from zoo.engines.onnx import OnnxEngine
from zoo.engines.onnx_file import external_files
from zoo.errors import InputError
from zoo.files import read_regular, sha256_of
from zoo.foreign import NO_CLASS, ForeignModel, SchemeOptions
from zoo.foreign.description import ImageRule, OutputRule, read_description
from zoo.frame import Frame
from zoo.inputs.image import ImageContext
from zoo.inputs.preprocessing import Preprocessing
from zoo.label_table import LabelTable
from zoo.prediction import Segmentation2D
from zoo.tasks.segmentation2d import labels_and_scores, nearest

__all__ = ["open_model", "prepare_image"]

_MAX_BYTES = 2**31 - 1  # the limit of Protocol Buffers
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def open_model(target: str, options: SchemeOptions) -> ForeignModel:
    """The model of an ONNX file.

    Raises:
        InputError: If the file or its description is missing or invalid, or they do not fit together.
        IntegrityError: If it is not an ONNX file, or keeps weights outside its folder.
        MissingExtraError: If ONNX Runtime is not installed.
    """
    path = Path(target).expanduser()
    try:
        content = read_regular(path, _MAX_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"onnx:{target}: {path} does not exist") from error
    description = options.description or path.with_suffix(".yaml")
    if not description.is_file():
        raise InputError(
            f"onnx:{target} needs a description of its classes and input: {description} does not exist; "
            "write it as in docs/other-models.md, or name another file with --description"
        )
    table, section = read_description(description, path.stem, ("input", "output"))
    what = str(description)
    image = ImageRule.from_json(section.get("input", {}), what)
    output = OutputRule.from_json(section.get("output", {}), what, image.layout)
    weights = _weights(path, content)
    engine = OnnxEngine(path if weights else content, device=options.device, threads=options.threads, what=str(path))
    model = _OnnxModel(engine, table, *_checked(engine.spec, image, output, table, str(path), what))
    return ForeignModel(
        name=f"onnx:{path.name}",
        classes=table.classes,
        artefact={
            "file": path.name,
            "sha256": sha256_of(path),
            "engine": "onnx",
            "precision": "of the file",
            "source": f"onnx:{target}",
        },
        settings={
            "device": engine.spec.device,
            "input": dataclasses.asdict(model.image),
            "output": dataclasses.asdict(model.output),
            "labels": table.to_json(),
            **({"weights": weights} if weights else {}),
        },
        segment=model.segment,
    )


def _weights(path: Path, content: bytes) -> dict[str, str]:
    """SHA-256 of the separate files that hold weights."""
    found = {}
    for location in external_files(content, str(path)):
        pure = PurePosixPath(location)
        if pure.is_absolute() or ".." in pure.parts or "\\" in location:
            raise InputError(f"{path} keeps weights in {location!r}, outside its folder; such a file is not run")
        if not (path.parent / location).is_file():
            raise InputError(f"{path} keeps weights in {location!r}, which does not exist next to it")
        found[location] = sha256_of(path.parent / location)
    return found


def _checked(
    spec: EngineSpec, image: ImageRule, output: OutputRule, table: LabelTable, what: str, description: str
) -> tuple[ImageRule, OutputRule, TensorSpec]:
    """The rules, completed with names and the fixed size from the file, and the input that takes the image."""
    if len(spec.inputs) != 1:
        listed = ", ".join(tensor.name for tensor in spec.inputs)
        raise InputError(f"{what} takes {len(spec.inputs)} inputs ({listed}); expected a single one, an image")
    tensor = spec.inputs[0]
    if image.name not in (None, tensor.name):
        raise InputError(f"{description}: input name {image.name!r} is not in {what}; its input is {tensor.name!r}")
    names = [each.name for each in spec.outputs]
    if output.name is None and len(names) > 1:
        raise InputError(f"{description}: {what} has several outputs; choose one as output name: {', '.join(names)}")
    if output.name not in (None, *names):
        raise InputError(f"{description}: output name {output.name!r} is not in {what}; it has {', '.join(names)}")
    image = _with_size(image, tensor, what, description)
    result = next(each for each in spec.outputs if output.name in (None, each.name))
    output = dataclasses.replace(output, name=result.name)
    if output.kind == "logits":
        _check_planes(result, output, table, what, description)
    return dataclasses.replace(image, name=tensor.name), output, tensor


def _with_size(image: ImageRule, tensor: TensorSpec, what: str, description: str) -> ImageRule:
    shape = f"({', '.join('any' if side is None else str(side) for side in tensor.shape)})"
    other = {"NCHW": 3, "NHWC": 1}[image.layout]  # the axis of the channels in the other layout
    swapped = len(tensor.shape) == 4 and (tensor.shape[image.layout.index("C")], tensor.shape[other]) == (None, 3)
    if len(tensor.shape) != 4 or swapped or tensor.shape[image.layout.index("C")] not in (None, 3):
        raise InputError(
            f"{what} takes {tensor.name} {shape}, which is not {image.layout} with 3 channels; "
            f"correct input layout in {description}"
        )
    if tensor.shape[0] not in (None, 1):
        raise InputError(f"{what} takes batches of {tensor.shape[0]}; export it with a batch size of 1 or a free one")
    if tensor.dtype not in ("float32", "float16", "uint8"):
        raise InputError(f"{what} takes {tensor.name} as {tensor.dtype}; expected float32, float16 or uint8")
    if tensor.dtype == "uint8" and (image.mean, image.std, image.scale) != ((0, 0, 0), (1, 1, 1), 1):
        neutral = ImageRule()
        if (image.mean, image.std, image.scale) != (neutral.mean, neutral.std, neutral.scale):
            raise InputError(f"{what} takes bytes, which are not normalised; remove scale, mean and std")
        image = dataclasses.replace(image, scale=1.0)
    fixed = tensor.shape[image.layout.index("H")], tensor.shape[image.layout.index("W")]
    if fixed == (None, None):
        return image
    if image.short_side is not None or image.size_multiple != 1:
        raise InputError(f"{what} takes images of a fixed size, {shape}; remove short_side and size_multiple")
    if image.size is None and None in fixed:
        raise InputError(f"{what} fixes one side of the image, {shape}; give the other: resize: {{size: [H, W]}}")
    height, width = image.size or (fixed[0] or 0, fixed[1] or 0)
    if fixed[0] not in (None, height) or fixed[1] not in (None, width):
        raise InputError(f"{description}: size {height} x {width} does not fit {what}, which takes {shape}")
    return dataclasses.replace(image, size=(height, width))


def _check_planes(tensor: TensorSpec, output: OutputRule, table: LabelTable, what: str, description: str) -> None:
    if table.ids != tuple(range(len(table.ids))):
        raise InputError(
            f"{description}: logits have one plane per class, so the ids must be 0 to {len(table.ids) - 1}"
        )
    if len(tensor.shape) == 4 and tensor.shape[output.layout.index("C")] not in (None, len(table.ids)):
        raise InputError(
            f"{what} returns {tensor.name} {tensor.shape}, which is not {output.layout} with the {len(table.ids)} "
            f"classes of {description}"
        )


def prepare_image(image: np.ndarray, rule: ImageRule, dtype: str) -> tuple[np.ndarray, ImageContext]:
    """The input of a file, with a batch axis, and what is needed to map outputs back.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        rule: How it becomes the input.
        dtype: NumPy's name of the input's type.
    """
    sides = Preprocessing(short_side=rule.short_side, size_multiple=rule.size_multiple)
    height, width = rule.size or sides.resized_size(image.shape[0], image.shape[1])
    resized = image
    if (height, width) != image.shape[:2]:
        resized = np.asarray(Image.fromarray(image).resize((width, height), _FILTERS[rule.resample]))
    pixels = sides.pad(np.moveaxis(resized[:, :, ::-1] if rule.channels == "BGR" else resized, 2, 0))
    if dtype == "uint8":
        array = pixels
    else:
        mean, std = (np.array(each, np.float32)[:, None, None] for each in (rule.mean, rule.std))
        array = ((pixels.astype(np.float32) / np.float32(rule.scale) - mean) / std).astype(dtype)
    if rule.layout == "NHWC":
        array = np.moveaxis(array, 0, 2)
    return np.ascontiguousarray(array[None]), ImageContext(image, (height, width), (pixels.shape[1], pixels.shape[2]))


class _OnnxModel:
    """Runs the file on frames."""

    def __init__(
        self, engine: OnnxEngine, table: LabelTable, image: ImageRule, output: OutputRule, tensor: TensorSpec
    ) -> None:
        self.engine, self.table, self.image, self.output, self.tensor = engine, table, image, output, tensor

    def segment(self, frame: Frame) -> Segmentation2D:
        image = frame.camera.image
        array, context = prepare_image(image, self.image, self.tensor.dtype)
        raw = self._run({self.tensor.name: array}, context)
        scores: np.ndarray | None = None
        if self.output.kind == "labels":
            labels = self._labels(raw, context)
        else:
            labels, scores = labels_and_scores(self._logits(raw), context)
        return Segmentation2D(labels=labels, scores=scores, classes=self.table.classes, image=image)

    def _run(self, arrays: Mapping[str, np.ndarray], context: ImageContext) -> np.ndarray:
        try:
            outputs: dict[str, Any] = self.engine.run(arrays)
        except InputError:
            raise
        except Exception as error:  # ONNX Runtime has a class per status code, none of them public
            height, width = context.padded
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"ONNX Runtime cannot run the file on an image of {height} x {width}: {first}; does it need a "
                "size_multiple, or a fixed size?"
            ) from error
        assert self.output.name is not None
        return np.asarray(outputs[self.output.name])

    def _logits(self, raw: np.ndarray) -> np.ndarray:
        """`(C, h, w)` float32."""
        classes = len(self.table.classes)
        if raw.ndim != 4 or raw.shape[0] != 1 or raw.shape[self.output.layout.index("C")] != classes:
            raise InputError(
                f"output {self.output.name} has the shape {raw.shape}; expected logits in {self.output.layout} with "
                f"{classes} classes"
            )
        logits = np.moveaxis(raw[0], 2, 0) if self.output.layout == "NHWC" else raw[0]
        if raw.dtype.kind != "f" or np.isnan(logits).any():
            problem = "NaN" if raw.dtype.kind == "f" else str(raw.dtype)
            raise InputError(
                f"output {self.output.name} holds {problem}; expected logits, finite floating point numbers"
            )
        return np.ascontiguousarray(logits, np.float32)

    def _labels(self, raw: np.ndarray, context: ImageContext) -> np.ndarray:
        """`(H, W)` uint8 at the size of the image, by nearest neighbour."""
        what = f"output {self.output.name}"
        one = {2: raw, 3: raw[0] if raw.shape[0] == 1 else None}.get(raw.ndim)
        if raw.ndim == 4 and raw.shape[0] == 1 and 1 in (raw.shape[1], raw.shape[3]):
            one = raw[0, 0] if raw.shape[1] == 1 else raw[0, :, :, 0]
        if one is None or one.size == 0:
            raise InputError(f"{what} has the shape {raw.shape}; expected labels (1, H, W), (1, 1, H, W) or (H, W)")
        if one.dtype.kind == "f":
            if not (np.isfinite(one).all() and (one == np.rint(one)).all()):
                raise InputError(f"{what} holds fractions; expected labels, or set output kind to logits")
            one = one.astype(np.int64)
        if one.dtype.kind not in "iu":
            raise InputError(f"{what} holds {one.dtype}; expected labels, whole numbers")
        rows, columns = (
            max(1, round(side * part / whole)) for side, part, whole in zip(one.shape, context.size, context.padded)
        )
        labels = self.table.labels(one[:rows, :columns], what, NO_CLASS)
        return labels if labels.shape == context.original_size else nearest(labels, context.original_size)
