"""Lidar points as a range image, for networks of plain 2D convolutions.

A sweep is read and checked as by `zoo.inputs.points`. It then becomes three arrays: `image` has a pixel for each beam
and direction, with the values of the nearest point there; `points` has the same values of every point, and how far it
lies behind the point of its pixel; `pixel` says where each point is in the image. A network computes features of the
image, gathers those of each point's pixel, and refines them with the values of the point.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.contract import Contract
from zoo.engines import Engine, EngineSpec, TensorSpec
from zoo.errors import InputError
from zoo.folder.schema import section_schema
from zoo.frame import Frame, SensorFacts, Sweep
from zoo.inputs import ExportPlan, Prepared, Variation
from zoo.inputs.points import POINT_CHANNELS, PointsContext, PointsInput, PointsSource, rows_by_sweep
from zoo.inputs.range_projection import Projection, nearest_in_pixel
from zoo.sensors import component, sensor_axes

if TYPE_CHECKING:
    from jaxtyping import Float32

__all__ = ["RANGE_FEATURES", "RangeImageInput", "range_tensors"]

_METRES = ("range", "x", "y", "z")

RANGE_FEATURES: tuple[str, ...] = ("range", *POINT_CHANNELS)
"""What is known of each pixel and each point: the distance in metres, and columns of the points."""

_OCCUPIED, _BEHIND = "occupied", "behind"
_MAX_BEHIND_M = 5.0
_LIMIT_M = 500.0
"""Metres in the features end here, so that one stray point does not dominate the pixels around it."""
_DROPPED = 3
"""A comparison on batches puts a sweep next to the same sweep without every third point."""


def range_tensors(
    features: Sequence[str], rows: int | None, columns: int | None
) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
    """The inputs `image`, `(B, F + 1, rows, columns)`, `points`, `(N, F + 1)`, and `pixel`, `(N,)`.

    Args:
        features: The F values of pixels and points. The last plane of the image is 1 where the pixel has a point; the
            last column of the points is how far they lie behind the one of their pixel.
        rows: Rows of the image.
        columns: Columns of the image.
    """
    planes, values = (*features, _OCCUPIED), (*features, _BEHIND)
    axes = ("batch", "channels", "height", "width")
    return (
        TensorSpec("image", "float32", (None, len(planes), rows, columns), axes=axes, columns=planes),
        TensorSpec("points", "float32", (None, len(values)), axes=("points", "channels"), columns=values),
        TensorSpec("pixel", "int64", (None,), axes=("points",)),
    )


@dataclass(frozen=True, kw_only=True)
class RangeImageInput:
    """One lidar sweep of any number of points, as a range image and the points in it.

    Attributes:
        points: Reads and checks sweeps.
        projection: Pixel of each point.
        features: Values of pixels and points: `range`, and columns of the points. Coordinates are in the axes of the
            points.
        mean: Subtracted from each feature.
        std: Each feature is divided by it then. Pixels without a point are 0. Before that, `range` and the coordinates
            are limited to 500 m.
    """

    points: PointsInput = field(default_factory=PointsInput)
    projection: Projection = field(default_factory=Projection)
    features: tuple[str, ...] = RANGE_FEATURES
    mean: tuple[float, ...] = (12.0, 0.0, 0.0, -1.0, 0.25)
    std: tuple[float, ...] = (12.0, 12.0, 12.0, 1.0, 0.25)

    kind: ClassVar[str] = "range_image"
    example: ClassVar[str] = PointsInput.example
    samples: ClassVar[str] = PointsInput.samples
    suffixes: ClassVar[tuple[str, ...]] = PointsInput.suffixes
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            **PointsInput.schema["properties"],
            "projection": Projection.schema,
            "features": {"$ref": "#/$defs/range_features"},
            "mean": {
                "type": "array",
                "items": {"type": "number", "minimum": -10000, "maximum": 10000},
                "minItems": 1,
                "maxItems": 16,
            },
            "std": {
                "type": "array",
                "items": {"type": "number", "minimum": 1e-6, "maximum": 10000},
                "minItems": 1,
                "maxItems": 16,
            },
        },
        "additionalProperties": False,
    }

    def __post_init__(self) -> None:
        known = ("range", *self.points.channels)
        if missing := [name for name in self.features if name not in known]:
            raise InputError(
                f"features name {missing[0]!r}, but the points have {', '.join(known)}; add it to channels"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != len(self.features):
                raise InputError(f"{name} has {len(values)} values for {len(self.features)} features; give one each")
        if self.projection.by == "ring" and "ring" not in self.points.channels:
            raise InputError("the rows are rings, but the points have no column ring; add it to channels")

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> RangeImageInput:
        """The input that a configuration's section describes.

        Raises:
            InputError: If a key is unknown, or values do not fit together.
        """
        section_schema(cls.schema, cls.kind).check(section, "range_image input")
        own = {key: tuple(section[key]) for key in ("features", "mean", "std") if key in section}
        if "features" in own and not {"mean", "std"} <= set(own):
            raise InputError("features need mean and std, a value each")
        shared = {key: value for key, value in section.items() if key in PointsInput.schema["properties"]}
        projection = Projection.from_json(section.get("projection", {}))
        return cls(points=PointsInput.from_json(shared), projection=projection, **own)

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration."""
        return {
            **self.points.to_json(),
            "kind": self.kind,
            "projection": self.projection.to_json(),
            "features": list(self.features),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """What someone without this package must do to feed an exported file."""
        rows, columns = self.projection.rows, self.projection.columns
        names = ", ".join(self.features)
        step = {
            "text": (
                f"{self.projection.text} The features of a point are {names} (range: distance in metres; "
                f"range, x, y and z limited to -{_LIMIT_M:g} and {_LIMIT_M:g}), less mean, divided by std. "
                f"image is (1, {len(self.features) + 1}, {rows}, {columns}) float32: features of the nearest point of "
                "each pixel, then a plane that is 1 where there is one; all planes are 0 where there is none. "
                f"points is (points, {len(self.features) + 1}) float32: the features of each point, then its distance "
                "less that of the nearest point of its pixel, in metres, at most "
                f"{_MAX_BEHIND_M:g}. pixel is (points,) int64: row * {columns} + column of each point. In a batch, add "
                f"{rows * columns} times the number of the sweep to pixel, and append the points of all sweeps."
            ),
            "projection": self.projection.to_json(),
            "features": list(self.features),
            "mean": list(self.mean),
            "std": list(self.std),
            "max_behind_m": _MAX_BEHIND_M,
            "limit_m": _LIMIT_M,
            "axes": list(self._axes),
        }
        return {"before": {"points": self.points.contract_step(), "range_image": step}, "inside": {}, "after": {}}

    @classmethod
    def from_contract(cls, contract: Contract) -> RangeImageInput:
        """The input that a contract describes, read from its data.

        Raises:
            KeyError: If a step or a value is missing.
            InputError: If a value is out of range.
        """
        step = contract["before"]["range_image"]
        own = {key: tuple(step[key]) for key in ("features", "mean", "std")}
        points = PointsInput.from_contract(contract)
        return cls(points=points, projection=Projection.from_json(step["projection"]), **own)

    def check(self, spec: EngineSpec, in_graph: Collection[str], what: str) -> None:
        """Raises an `InputError` if a file with this `spec` cannot be fed with what `prepare` makes."""
        rows, columns = self.projection.rows, self.projection.columns
        expected = range_tensors(self.features, rows, columns)
        names = [tensor.name for tensor in spec.inputs]
        if names != [tensor.name for tensor in expected]:
            raise InputError(
                f"{what} takes {', '.join(names) or 'nothing'}; a model for range images takes image, points and pixel"
            )
        for found, wanted in zip(spec.inputs[:2], expected[:2], strict=True):
            if found.columns != wanted.columns:
                raise InputError(
                    f"{what} takes {found.name} with {', '.join(found.columns) or '(none named)'}, but the input makes "
                    f"{', '.join(wanted.columns)}; correct features in config.json"
                )
        size = spec.inputs[0].shape[2:]
        if size != (rows, columns):
            raise InputError(
                f"{what} takes range images of {size[0]} x {size[1]}, but the input makes {rows} x {columns}; "
                "correct projection in config.json"
            )

    def read(self, source: PointsSource) -> Float32[np.ndarray, "N C"]:
        """The points with the columns `points.channels`; errors and warnings as those of `PointsInput.read`."""
        return self.points.read(source)

    def frame(self, path: Path, id: str) -> Frame:
        """A frame with the sweep of a file, which is read when the frame is used."""
        return self.points.frame(path, id)

    def examples(self) -> Sequence[Frame]:
        """The computed sweep of `PointsInput.examples`."""
        return self.points.examples()

    def size_of(self, sample: np.ndarray) -> tuple[int]:
        """The number of points."""
        return (len(sample),)

    def resized(self, sample: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Always refused.

        Raises:
            InputError: The size of a range image is part of the model.
        """
        raise InputError("--size is for camera images; the size of a range image is part of the model, so omit --size")

    def prepare(self, sample: np.ndarray, in_graph: Collection[str] = ()) -> Prepared:
        """`image`, `points` and `pixel` of one sweep. The context is a `PointsContext`."""
        columns = [np.ascontiguousarray(sample[:, i]) for i in range(3)]
        range_m = np.sqrt(columns[0] ** 2 + columns[1] ** 2 + columns[2] ** 2)
        pixel = self.projection.pixels(self._level(columns), self._column(sample, "ring"))
        count = self.projection.rows * self.projection.columns
        nearest = nearest_in_pixel(pixel, range_m, count)
        occupied = np.flatnonzero(nearest >= 0)
        planes = np.zeros((len(self.features) + 1, count), np.float32)
        values = np.empty((len(sample), len(self.features) + 1), np.float32)
        for i, (name, mean, std) in enumerate(zip(self.features, self.mean, self.std, strict=True)):
            column = range_m if name == "range" else np.ascontiguousarray(self._column(sample, name))
            if name in _METRES:
                column = np.clip(column, -_LIMIT_M, _LIMIT_M)
            normalised = (column - np.float32(mean)) * np.float32(1 / std)
            values[:, i] = normalised
            planes[i, occupied] = normalised[nearest[occupied]]
        planes[-1, occupied] = 1
        np.minimum(range_m - range_m[nearest[pixel]], np.float32(_MAX_BEHIND_M), out=values[:, -1])
        image = planes.reshape(-1, self.projection.rows, self.projection.columns)
        return Prepared({"image": image, "points": values, "pixel": pixel}, PointsContext(sample, self.points.axes))

    def together(self, prepared: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """The arrays of several sweeps as one batch: images stacked, points and pixels one sweep after the other."""
        count = self.projection.rows * self.projection.columns
        pixels = [each.arrays["pixel"] + i * count for i, each in enumerate(prepared)]
        return {
            "image": np.stack([each.arrays["image"] for each in prepared]),
            "points": np.concatenate([each.arrays["points"] for each in prepared]),
            "pixel": np.concatenate(pixels),
        }

    def run(self, engine: Engine, prepared: Prepared) -> dict[str, np.ndarray]:
        """The outputs for one sweep, a row per point each."""
        return self.run_together(engine, [prepared])[0]

    def run_together(self, engine: Engine, prepared: Sequence[Prepared]) -> list[dict[str, np.ndarray]]:
        """The outputs for several sweeps of any lengths, run as one batch if the file takes one.

        Raises:
            InputError: If the model does not give a row per point.
        """
        if len(prepared) > 1 and engine.spec.inputs[0].shape[0] not in (None, len(prepared)):
            return [self.run(engine, each) for each in prepared]
        return rows_by_sweep(engine.run(self.together(prepared)), [len(each.arrays["pixel"]) for each in prepared])

    def at_model_size(self) -> RangeImageInput:
        """The same input: sweeps of any length become images of one size."""
        return self

    def fit(self, frame: Frame, spec: EngineSpec) -> Frame:
        """The frame as it is: a model takes sweeps of any length."""
        return frame

    def variations(
        self, frames: Sequence[Frame], spec: EngineSpec, in_graph: Collection[str] = ()
    ) -> Iterator[Variation]:
        """A batch of two sweeps of different lengths, if the file takes batches."""
        if spec.inputs[0].shape[0] is not None:
            return
        whole = self.read(frames[0])
        forward, left, up = self._axes
        sensor = SensorFacts(forward=forward, left=left, up=up)
        clouds = (whole, np.delete(whole, np.s_[::_DROPPED], 0))
        sweeps = [Sweep(points_source=cloud, channels=self.points.channels, sensor=sensor) for cloud in clouds]
        batch = [Frame(id=f"part-{i}", lidars={"lidar": (sweep,)}) for i, sweep in enumerate(sweeps)]
        points = sum(map(len, clouds))
        yield Variation((2, points), cycle(batch), points)

    def export_plan(self, spec: EngineSpec, *, size: tuple[int, int] | None, move_steps: bool, what: str) -> ExportPlan:
        """A file for any number of points and the model's size of image.

        Raises:
            InputError: If another size is asked for.
        """
        if size is not None:
            rows, columns = self.projection.rows, self.projection.columns
            raise InputError(
                f"--size: {what} takes range images of {rows} x {columns} and any number of points; omit --size"
            )
        return ExportPlan({"points": _TRACED_POINTS}, spec.inputs)

    @property
    def _axes(self) -> tuple[Any, Any, Any]:
        return sensor_axes(self.points.sensor or SensorFacts())

    def _level(self, xyz: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates forward, to the left and up."""
        forward, left, up = (component(xyz, axis) for axis in self._axes)
        return forward, left, up

    def _column(self, sample: np.ndarray, name: str) -> np.ndarray | None:
        return sample[:, self.points.channels.index(name)] if name in self.points.channels else None


_TRACED_POINTS = 1000
