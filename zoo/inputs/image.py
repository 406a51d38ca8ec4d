"""Camera images: resize, normalise, pad, then the whole image or sliding windows."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from zoo.contract import Contract
from zoo.engines import Engine, EngineSpec, TensorSpec
from zoo.errors import InputError
from zoo.files import MAX_PIXELS, as_rgb, read_image
from zoo.frame import CameraFrame, Frame
from zoo.inputs import ExportPlan, Prepared, Variation
from zoo.inputs.image_contract import image_contract, preprocessing_of
from zoo.inputs.image_export import NORMALISE, image_export_plan
from zoo.inputs.preprocessing import Preprocessing
from zoo.inputs.windows import InferenceMode, run_windows

__all__ = ["ImageContext", "ImageInput", "ImageSource", "as_image", "fixed_size", "image_tensor"]

ImageSource = str | Path | Image.Image | np.ndarray | Frame
_SHAPE_PIXELS = 100_000
"""Minimum number of pixels in all crops of one shape: the strictest limit on labels then allows ten pixels to differ,
so a single tie does not decide the result."""
_BATCH = 64  # largest batch of crops
_CROPPED_FRAMES = 24  # at most this many frames are cropped to other shapes


@dataclass(frozen=True)
class ImageContext:
    """What is needed to map outputs back to an image.

    Attributes:
        image: `(H, W, 3)` uint8 RGB as it was read.
        size: (height, width) of the image within the prepared array, without padding.
        padded: (height, width) of the prepared array.
    """

    image: np.ndarray
    size: tuple[int, int]
    padded: tuple[int, int]

    @property
    def original_size(self) -> tuple[int, int]:
        """(height, width) of the original image."""
        return self.image.shape[0], self.image.shape[1]


def image_tensor(channels: int, multiple: int, size: tuple[int, int] | None = None) -> TensorSpec:
    """The input `image`, `(B, channels, H, W)` float32, whose height and width are multiples of `multiple`."""
    return TensorSpec(
        "image",
        "float32",
        (None, channels, *(size or (None, None))),
        multiples=(1, 1, multiple, multiple),
        axes=("batch", "channels", "height", "width"),
    )


def as_image(source: ImageSource) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of a path, a PIL image, an array or a frame with one camera.

    Files and PIL images are rotated according to their EXIF orientation.

    Raises:
        InputError: If it has another type, or is an array of another shape or dtype.
    """
    if isinstance(source, Frame):
        return source.camera.image
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, Image.Image):
        return as_rgb(source)
    if not isinstance(source, np.ndarray):
        raise InputError(f"expected a path, a PIL image, an array or a frame, got {type(source).__name__}")
    if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or 0 in source.shape:
        raise InputError(
            f"expected an image array (H, W, 3) uint8 RGB, got {source.shape} {source.dtype}"
            + ("; multiply by 255 and convert" if source.dtype.kind == "f" else "")
        )
    if source.shape[0] * source.shape[1] > MAX_PIXELS:
        raise InputError(f"the image has {source.shape[0]} x {source.shape[1]} pixels; the limit is {MAX_PIXELS:,}")
    return source


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """Images of any size.

    Attributes:
        preprocessing: Applied to every image.
        inference: Whole images or windows.
        sensor: What the model was trained for: `{"type": "camera", "channels": "RGB", "bits": 8}`.
    """

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    inference: InferenceMode = field(default_factory=InferenceMode)
    sensor: Mapping[str, Any] = field(default_factory=lambda: {"type": "camera", "channels": "RGB", "bits": 8})

    kind: ClassVar[str] = "image"
    example: ClassVar[str] = "street.png"
    samples: ClassVar[str] = "images"
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg")
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "preprocessing": Preprocessing.schema,
            "inference": InferenceMode.schema,
            "sensor": {
                "type": "object",
                "properties": {
                    "type": {"const": "camera"},
                    "channels": {"const": "RGB"},
                    "bits": {"const": 8},
                },
                "additionalProperties": False,
            },
        },
        "additionalProperties": False,
    }

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> ImageInput:
        """The input that a configuration's section describes.

        Raises:
            InputError: If a key is unknown or a value is out of range.
        """
        known = {each.name for each in dataclasses.fields(cls)}
        if unknown := sorted(set(section) - known):
            raise InputError(f"image input: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        values: dict[str, Any] = {
            "preprocessing": Preprocessing.from_json(section.get("preprocessing", {})),
            "inference": InferenceMode.from_json(section.get("inference", {})),
        }
        if "sensor" in section:
            values["sensor"] = dict(section["sensor"])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration."""
        return {
            "kind": self.kind,
            "preprocessing": self.preprocessing.to_json(),
            "inference": self.inference.to_json(),
            "sensor": dict(self.sensor),
        }

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """How to feed an exported file without this package, derived from its entry in `config.json`."""
        return image_contract(
            self.preprocessing,
            self.inference,
            stride=max(tensor.get("stride", 1) for tensor in artefact["outputs"]),
            normalises=NORMALISE in artefact.get("in_graph", ()),
            size=fixed_size(TensorSpec.from_json(artefact["inputs"][0])),
        )

    @classmethod
    def from_contract(cls, contract: Contract) -> ImageInput:
        """The input that a contract describes, read from its data; always whole images.

        Raises:
            KeyError: If a step or a value is missing.
            InputError: If a value is out of range.
        """
        return cls(preprocessing=preprocessing_of(contract))

    def check(self, spec: EngineSpec, in_graph: Collection[str], what: str) -> None:
        """Raises an `InputError` if a file with this `spec` does not accept the arrays from `prepare`."""
        if in_graph and self.inference.mode != "whole":
            raise InputError(
                f"{what} performs {', '.join(in_graph)} inside its graph and takes whole images only; "
                "use whole-image inference or a file that returns logits"
            )
        (image,) = _image_inputs(spec, what)
        multiples = () if NORMALISE in in_graph else image.multiples[2:]
        if any(self.preprocessing.size_multiple % multiple for multiple in multiples):
            raise InputError(
                f"{what}: images are padded to multiples of {self.preprocessing.size_multiple}, "
                f"but the architecture needs multiples of {max(multiples)}"
            )

    def read(self, source: ImageSource) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB; see `as_image`."""
        return as_image(source)

    def frame(self, path: Path, id: str) -> Frame:
        """A frame with the image of a file, which is decoded when the frame is used."""
        camera = CameraFrame(image_source=partial(read_image, path), image_path=path)
        return Frame(id=id, group="given", cameras={"front": camera})

    def examples(self) -> Sequence[Frame]:
        """The embedded synthetic frames: clear day and adverse conditions."""
        from zoo.synthetic.embedded import embedded_frames  # not needed for prediction

        return embedded_frames()

    def size_of(self, sample: np.ndarray) -> tuple[int, int]:
        """(height, width)."""
        return sample.shape[0], sample.shape[1]

    def resized(self, sample: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The image at another (height, width), bilinearly."""
        return np.asarray(Image.fromarray(sample).resize(size[::-1], Image.Resampling.BILINEAR))

    def prepare(self, sample: np.ndarray, in_graph: Collection[str] = ()) -> Prepared:
        """`image`: `(3, H, W)` float32, normalised and padded; `(h, w, 3)` uint8 for a file that normalises itself."""
        resized = self.preprocessing.resize(sample)
        size = resized.shape[0], resized.shape[1]
        array = resized if NORMALISE in in_graph else self.preprocessing.pad(self.preprocessing.normalise(resized))
        padded = size if NORMALISE in in_graph else (array.shape[1], array.shape[2])
        return Prepared({"image": array}, ImageContext(sample, size, padded))

    def run(self, engine: Engine, prepared: Prepared) -> dict[str, np.ndarray]:
        """The outputs for one image; overlapping windows are averaged on the grid of each output."""
        if self.inference.mode == "whole":
            outputs = engine.run({name: array[None] for name, array in prepared.arrays.items()})
            return {name: array[0] for name, array in outputs.items()}
        return run_windows(prepared.arrays["image"], engine, self.inference)

    def at_model_size(self) -> ImageInput:
        """The same input for images that are already resized, run whole."""
        preprocessing = dataclasses.replace(self.preprocessing, short_side=None)
        return dataclasses.replace(self, preprocessing=preprocessing, inference=InferenceMode())

    def run_together(self, engine: Engine, prepared: Sequence[Prepared]) -> list[dict[str, np.ndarray]]:
        """The outputs for several images of one size, run as one batch."""
        outputs = engine.run({"image": np.stack([each.arrays["image"] for each in prepared])})
        return [{name: array[i] for name, array in outputs.items()} for i in range(len(prepared))]

    def fit(self, frame: Frame, spec: EngineSpec) -> Frame:
        """The frame resized to the model's working size, or to the file's fixed size; labels by nearest neighbour."""
        image = frame.camera.image
        size = fixed_size(spec.inputs[0])
        if size is None:
            fitted = self.preprocessing.resize(image)
        else:
            fitted = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        labels = frame.camera.labels
        if labels is not None:
            target = fitted.shape[1], fitted.shape[0]
            labels = np.asarray(Image.fromarray(labels).resize(target, Image.Resampling.NEAREST))
        return _with_image(frame, fitted, labels)

    def variations(
        self, frames: Sequence[Frame], spec: EngineSpec, in_graph: Collection[str] = ()
    ) -> Iterator[Variation]:
        """Batch sizes and image sizes other than those of the frames, as far as the file leaves them free.

        The images are unscaled crops of the frames: realistic images, for which ties between classes are rare.
        """
        (image,) = _image_inputs(spec, "the file")
        size, batch = fixed_size(spec.inputs[0]), image.shape[0] is None
        if not frames or not (batch or size is None):
            return
        images = [frame.camera.image for frame in frames[:_CROPPED_FRAMES]]
        if size is None:
            images = [self.preprocessing.resize(image) for image in images]
        for count, (height, width) in _other_shapes(size, batch, self.preprocessing.size_multiple, images[0].shape):
            yield Variation((count, height, width), _frames(_crops(images, (height, width))), _SHAPE_PIXELS)

    def export_plan(self, spec: EngineSpec, *, size: tuple[int, int] | None, move_steps: bool, what: str) -> ExportPlan:
        """A file for resized images, normalised and padded outside, or inside if steps move into the file."""
        return image_export_plan(spec, self.preprocessing, self.inference, size=size, uint8_input=move_steps, what=what)


def _other_shapes(
    fixed: tuple[int, int] | None, batch: bool, multiple: int, frame: tuple[int, ...]
) -> list[tuple[int, tuple[int, int]]]:
    """Batch size and (height, width) to compare on, in addition to single frames of the shape `frame`."""

    def count(size: tuple[int, int]) -> int:
        # Several different images, to detect a graph that mixes up the samples of a batch.
        return max(3, min(_BATCH, -(-_SHAPE_PIXELS // math.prod(size)))) if batch else 1

    if fixed is not None:
        return [(count(fixed), fixed)]
    small = [(multiple, multiple), (multiple, 3 * multiple), (5 * multiple, 2 * multiple)]
    # One image is enough for the last: it takes as long as four frames, and the small shapes already test batches.
    return [*((count(size), size) for size in small), (1, (2 * frame[0], 2 * frame[1]))]


def _frames(images: Iterator[np.ndarray]) -> Iterator[Frame]:
    for image in images:
        yield Frame(id="crop", cameras={"front": CameraFrame(image_source=image)})


def _image_inputs(spec: EngineSpec, what: str) -> tuple[TensorSpec]:
    if [tensor.name for tensor in spec.inputs] != ["image"]:
        names = ", ".join(tensor.name for tensor in spec.inputs) or "nothing"
        raise InputError(f"{what} takes {names}; a model for images takes one input called image")
    return (spec.inputs[0],)


def fixed_size(tensor: TensorSpec) -> tuple[int, int] | None:
    """(height, width) of the images that an input takes, `None` if they are free."""
    height, width = (tensor.shape[tensor.axes.index(axis)] for axis in ("height", "width"))
    return None if height is None or width is None else (height, width)


def _with_image(frame: Frame, image: np.ndarray, labels: np.ndarray | None) -> Frame:
    (name,) = frame.cameras
    camera = dataclasses.replace(
        frame.camera,
        image_source=image,
        labels_source=labels,
        instances_source=None,
        depth_source=None,
        invalid_source=None,
    )
    return dataclasses.replace(frame, cameras={name: camera})


def _crops(images: Sequence[np.ndarray], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Endless crops of the images in turn, at positions drawn with a fixed seed; small images are enlarged first."""
    generator = np.random.default_rng(0)
    height, width = size
    for image in itertools.cycle(images):
        factor = max(height / image.shape[0], width / image.shape[1], 1.0)
        if factor > 1:
            larger = math.ceil(image.shape[1] * factor), math.ceil(image.shape[0] * factor)
            image = np.asarray(Image.fromarray(image).resize(larger, Image.Resampling.BILINEAR))
        top = int(generator.integers(image.shape[0] - height + 1))
        left = int(generator.integers(image.shape[1] - width + 1))
        yield np.ascontiguousarray(image[top : top + height, left : left + width])
