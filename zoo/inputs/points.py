"""Lidar points: one sweep as the columns that the model names. The encoder makes its own voxels of them.

Axes and units are those of `Sweep`: xyz in metres in the lidar frame, intensity from 0 to 1. A `Sweep` names its
columns and its sensor. An array or a file does not: its columns are the model's, unless `source` says otherwise. If the
configuration describes the sensor of the training data, every sweep is checked against it and converted
(`zoo.inputs.sensor_check`).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.contract import Contract
from zoo.engines import Engine, EngineSpec, TensorSpec
from zoo.errors import InputError, SensorWarning, closest
from zoo.files import read_regular
from zoo.folder.schema import section_schema
from zoo.frame import Axis, Frame, SensorFacts, Sweep
from zoo.inputs import ExportPlan, Prepared, Variation
from zoo.inputs.point_files import SUFFIXES, read_point_file
from zoo.inputs.sensor_check import fit_to_model
from zoo.npz import read_npy
from zoo.sensors import facts_to_json, sensor_axes

if TYPE_CHECKING:
    from jaxtyping import Float32

__all__ = ["POINT_CHANNELS", "PointsContext", "PointsInput", "PointsSource", "Source", "point_tensors", "rows_by_sweep"]

PointsSource = str | Path | np.ndarray | Sweep | Frame

POINT_CHANNELS: tuple[str, ...] = Sweep.channels
"""Columns of the points unless others are named: those of a `Sweep` whose sensor gives nothing more."""

_XYZ = ("x", "y", "z")
_MAX_FILE = 256 * 1024 * 1024  # bytes; a sweep of 128 beams has about 5 million
_MAX_POINTS = 10_000_000
_MAX_COORDINATE_M = 10_000.0
"""No lidar on a vehicle measures as far; a single such value would spread over many pixels of a range image."""
_WITHOUT_INTENSITY = {*_XYZ, "ring", "time_s"}
"""Columns of a sweep without intensities. Under any other name, there may be a column of intensities."""
_STREET_HEIGHT_M = 1.73
_NUSCENES_SUFFIX = ".pcd.bin"
_NUSCENES_CHANNELS = ("x", "y", "z", "intensity", "ring")


def point_tensors(channels: Sequence[str]) -> tuple[TensorSpec, TensorSpec]:
    """The inputs `points`, `(N, len(channels))` float32, and `batch_index`, `(N,)` int64: the sample of each point."""
    return (
        TensorSpec("points", "float32", (None, len(channels)), axes=("points", "channels"), columns=tuple(channels)),
        TensorSpec("batch_index", "int64", (None,), axes=("points",)),
    )


@dataclass(frozen=True)
class PointsContext:
    """What a task needs to know about a sweep.

    Attributes:
        points: `(N, C)` float32, as the model gets them.
        axes: Axes of the points that point forward, to the left and up.
    """

    points: np.ndarray
    axes: tuple[Axis, Axis, Axis]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a user declares about arrays and files.

    Attributes:
        channels: Columns; those of the model by default, and those of nuScenes for files that end in `.pcd.bin`.
        sensor: Facts about the sensor.
    """

    channels: tuple[str, ...] | None = None
    sensor: SensorFacts | None = None

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration."""
        section: dict[str, Any] = {}
        if self.channels is not None:
            section["channels"] = list(self.channels)
        if self.sensor is not None:
            section["sensor"] = facts_to_json(self.sensor)
        return section


@dataclass(frozen=True, kw_only=True)
class PointsInput:
    """One lidar sweep of any number of points.

    Attributes:
        channels: Columns of the points, named as in `Sweep.channels`; x, y and z come first.
        sensor: The sensor of the training data; `None` if it is not recorded, and nothing is compared.
        source: What is known about arrays and files, which do not say it themselves.
    """

    channels: tuple[str, ...] = POINT_CHANNELS
    sensor: SensorFacts | None = None
    source: Source = Source()

    kind: ClassVar[str] = "points"
    example: ClassVar[str] = "sweep.bin"
    samples: ClassVar[str] = "sweeps"
    suffixes: ClassVar[tuple[str, ...]] = (".bin", ".npy", *SUFFIXES)
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "channels": {"$ref": "#/$defs/point_channels"},
            "sensor": {"$ref": "#/$defs/sensor"},
            "source": {
                "type": "object",
                "properties": {
                    "channels": {"$ref": "#/$defs/column_names"},
                    "sensor": {"$ref": "#/$defs/sensor"},
                },
                "additionalProperties": False,
            },
        },
        "additionalProperties": False,
    }

    def __post_init__(self) -> None:
        if self.channels[:3] != _XYZ:
            raise InputError(f"channels {', '.join(self.channels)} of the points must start with x, y, z")
        for facts in (self.sensor, self.source.sensor):
            if facts is not None:
                sensor_axes(facts)

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> PointsInput:
        """The input that a configuration's section describes.

        Raises:
            InputError: If a key or a channel is unknown, the channels do not start with x, y, z, or the axes of a
                sensor are not three different ones.
        """
        section_schema(cls.schema, "points").check(section, "points input")
        source = section.get("source", {})
        return cls(
            channels=tuple(section.get("channels", POINT_CHANNELS)),
            sensor=_facts(section),
            source=Source(channels=tuple(source["channels"]) if "channels" in source else None, sensor=_facts(source)),
        )

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration."""
        section: dict[str, Any] = {"kind": self.kind, "channels": list(self.channels)}
        if self.sensor is not None:
            section["sensor"] = facts_to_json(self.sensor)
        if source := self.source.to_json():
            section["source"] = source
        return section

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """What someone without this package must do to feed an exported file."""
        step = self.contract_step("; and for each row the number of its sweep as int64, 0 for a single one")
        return {"before": {"points": step}, "inside": {}, "after": {}}

    def contract_step(self, more: str = "") -> dict[str, Any]:
        """The step of a contract that describes the points; `more` is what a file takes of each point besides."""
        text = (
            f"Take one row per point with the columns {', '.join(self.channels)} as float32: x, y and z in metres in "
            f"the lidar frame, intensity from 0 to 1{more}. Every value must be finite."
        )
        step: dict[str, Any] = {"text": text, "channels": list(self.channels)}
        if self.sensor is not None:
            facts = facts_to_json(self.sensor)
            step["sensor"] = facts
            step["text"] += " The sensor of the training data, whose axes and height the points must have: " + (
                ", ".join(f"{key} {value}" for key, value in facts.items() if key != "intensity_scale") + "."
            )
        return step

    @classmethod
    def from_contract(cls, contract: Contract) -> PointsInput:
        """The input that a contract describes, read from its data.

        Raises:
            KeyError: If the step is missing.
            InputError: If the channels do not start with x, y, z.
        """
        step = contract["before"]["points"]
        return cls(channels=tuple(step["channels"]), sensor=_facts(step))

    def check(self, spec: EngineSpec, in_graph: Collection[str], what: str) -> None:
        """Raises an `InputError` if a file with this `spec` cannot be fed with what `prepare` makes."""
        names = [tensor.name for tensor in spec.inputs]
        if names != ["points", "batch_index"]:
            raise InputError(
                f"{what} takes {', '.join(names) or 'nothing'}; a model for points takes points and batch_index"
            )
        if spec.inputs[0].columns != self.channels:
            raise InputError(
                f"{what} takes points with the columns {', '.join(spec.inputs[0].columns) or '(none named)'}, "
                f"but the input has {', '.join(self.channels)}; correct channels in config.json"
            )

    def read(self, source: PointsSource) -> Float32[np.ndarray, "N C"]:
        """The points with the columns `channels`.

        Args:
            source: `NAME.bin`, rows of little-endian float32 as in KITTI; `NAME.pcd.bin` of nuScenes; `NAME.npy`; a
                format of `zoo.inputs.point_files`; an array `(N, C)`; a sweep; or a frame with one lidar, whose newest
                sweep is taken.

        Raises:
            InputError: If it is something else, has other columns, no points or more than ten million, a value is not
                finite, or a coordinate is beyond 10 km; if the intensity is not from 0 to 1 or the sweep does not fit
                the sensor of the training data (`fit_to_model`).

        Warns:
            SensorWarning: As `fit_to_model`; if there are no intensities; if a sensor is declared, but the model does
                not describe that of its training data.
        """
        what = _name_of(source)
        points, facts = self._columns_of(source, what)
        if points.ndim != 2 or points.shape[1] != len(self.channels) or points.dtype.kind != "f":
            raise InputError(
                f"{what}: expected points (N, {len(self.channels)}) of floats with the columns "
                f"{', '.join(self.channels)}, got {points.shape} {points.dtype}; pass a zoo.frame.Sweep to name other "
                "columns"
            )
        if not len(points):
            raise InputError(f"{what} has no points; at least one is needed")
        _check_count(len(points), what)
        with np.errstate(over="ignore"):  # becomes infinite and is refused below
            points = points.astype(np.float32)
        self._check_values(points, what)
        if self.sensor is not None:
            return fit_to_model(points, self.channels, self.sensor, facts, what)
        if facts is not None and facts is self.source.sensor:
            return self._without_model_sensor(points, facts, what)
        self._check_intensity(points, what)
        return points

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """Axes of the points that `read` gives, forward, to the left and up: the model's, else the declared ones."""
        return sensor_axes(self.sensor or self.source.sensor or SensorFacts())

    def frame(self, path: Path, id: str) -> Frame:
        """A frame with the sweep of a file, which is read when the frame is used."""
        facts = None
        if self.sensor is not None:  # `read` gives the points the model's axes
            forward, left, up = sensor_axes(self.sensor)
            facts = SensorFacts(forward=forward, left=left, up=up)
        sweep = Sweep(points_source=lambda: self.read(path), channels=self.channels, sensor=facts)
        return Frame(id=id, group="given", lidars={"lidar": (sweep,)})

    def examples(self) -> Sequence[Frame]:
        """One sweep on a flat street between two walls, computed and without labels; 64 beams, or the sensor's."""
        beams = self.sensor.beams if self.sensor is not None and self.sensor.beams else 64
        known = _street_sweep(beams)
        points = np.column_stack([known.get(channel, np.zeros_like(known["x"])) for channel in self.channels])
        facts = SensorFacts(beams=beams, height_m=_STREET_HEIGHT_M, forward="+x", left="+y", up="+z")
        sweep = Sweep(points_source=points.astype(np.float32), channels=self.channels, sensor=facts)
        return [Frame(id="street", group="computed", lidars={"lidar": (sweep,)})]

    def size_of(self, sample: np.ndarray) -> tuple[int]:
        """The number of points."""
        return (len(sample),)

    def resized(self, sample: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Always refused.

        Raises:
            InputError: Sweeps have no height and width.
        """
        raise InputError("--size is for images; a sweep has no height and width, so omit --size")

    def prepare(self, sample: np.ndarray, in_graph: Collection[str] = ()) -> Prepared:
        """`points`, and `batch_index`: all of sample 0. The context is a `PointsContext`."""
        context = PointsContext(sample, self.axes)
        return Prepared({"points": sample, "batch_index": np.zeros(len(sample), np.int64)}, context=context)

    def together(self, prepared: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """The arrays of several sweeps of any lengths as one batch."""
        clouds = [each.arrays["points"] for each in prepared]
        batch_index = np.repeat(np.arange(len(clouds)), [len(cloud) for cloud in clouds])
        return {"points": np.concatenate(clouds), "batch_index": batch_index}

    def run(self, engine: Engine, prepared: Prepared) -> dict[str, np.ndarray]:
        """The outputs for one sweep, a row per point each."""
        return self.run_together(engine, [prepared])[0]

    def run_together(self, engine: Engine, prepared: Sequence[Prepared]) -> list[dict[str, np.ndarray]]:
        """The outputs for several sweeps of any lengths, run as one batch.

        Raises:
            InputError: If the model does not give a row per point.
        """
        return rows_by_sweep(engine.run(self.together(prepared)), [len(each.arrays["points"]) for each in prepared])

    def at_model_size(self) -> PointsInput:
        """The same input: a model takes sweeps of any length."""
        return self

    def fit(self, frame: Frame, spec: EngineSpec) -> Frame:
        """The frame as it is: a model takes sweeps of any length."""
        return frame

    def variations(
        self, frames: Sequence[Frame], spec: EngineSpec, in_graph: Collection[str] = ()
    ) -> Iterator[Variation]:
        """None: models that read points cannot be exported yet."""
        return iter(())

    def export_plan(self, spec: EngineSpec, *, size: tuple[int, int] | None, move_steps: bool, what: str) -> ExportPlan:
        """Always refused.

        Raises:
            InputError: Kernel maps depend on the points, and the exporter cannot trace them.
        """
        raise InputError(f"{what} reads points; models that read points cannot be exported yet, so run it with torch")

    def _columns_of(self, source: PointsSource, what: str) -> tuple[np.ndarray, SensorFacts | None]:
        """The model's columns, and what is known about the sensor."""
        if isinstance(source, Frame):
            source = _newest_sweep(source)
        if isinstance(source, Sweep):
            facts = source.sensor or SensorFacts()
            return self._chosen(source.points, source.channels, what), replace(facts, intensity_scale="0-1")
        if isinstance(source, np.ndarray):
            declared = self.source.channels
            return source if declared is None else self._chosen(source, declared, what), self.source.sensor
        if isinstance(source, str | Path):
            points, channels = self._of_file(Path(source))
            return points if channels == self.channels else self._chosen(points, channels, what), self.source.sensor
        raise InputError(
            f"expected a .bin or .npy file, an array (N, {len(self.channels)}), a Sweep or a Frame, "
            f"got {type(source).__name__}"
        )

    def _chosen(self, points: np.ndarray, channels: Sequence[str], what: str) -> np.ndarray:
        """The model's columns of points whose columns are `channels`, with intensities of 0 if they have none."""
        if points.ndim != 2 or points.shape[1] != len(channels):
            raise InputError(f"{what} has points {points.shape} for the channels {', '.join(channels)}")
        if tuple(channels) == self.channels:
            return points
        missing = [channel for channel in self.channels if channel not in channels]
        if missing == ["intensity"] and set(channels) <= _WITHOUT_INTENSITY:
            warnings.warn(
                f"{what} has no intensities, only {', '.join(channels)}; the model was trained with measured ones and "
                "gets 0, so expect more errors",
                SensorWarning,
                stacklevel=4,
            )
            points = np.column_stack([points, np.zeros(len(points), points.dtype)])
            channels = (*channels, "intensity")
        elif missing:
            raise InputError(
                f"{what}: the model reads {missing[0]!r}, but the sweep has {', '.join(channels)}"
                f"{closest(missing[0], channels)}"
            )
        return points[:, [list(channels).index(channel) for channel in self.channels]]

    def _of_file(self, path: Path) -> tuple[np.ndarray, Sequence[str]]:
        """The rows of a file, and their columns."""
        if path.suffix.lower() not in self.suffixes:
            raise InputError(f"{path} is none of {', '.join(self.suffixes)}; read it yourself and pass an array")
        channels = self.source.channels or self.channels
        if self.source.channels is None and path.name.lower().endswith(_NUSCENES_SUFFIX):
            channels = _NUSCENES_CHANNELS
        row = 4 * len(channels)
        if path.suffix.lower() == ".bin" and path.is_file():  # before anything is read
            _check_count(path.stat().st_size // row, str(path))
        try:
            content = read_regular(path, _MAX_FILE)
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist") from error
        if path.suffix.lower() in SUFFIXES:
            return read_point_file(content, path, _MAX_POINTS)
        if path.suffix.lower() == ".npy":
            return read_npy(content, str(path)), channels
        if len(content) % row:
            raise InputError(
                f"{path} has {len(content):,} bytes, which is not a multiple of {row}: expected float32 rows of "
                f"{', '.join(channels)}; pass a zoo.frame.Sweep to name other columns"
            )
        return np.frombuffer(content, "<f4").reshape(-1, len(channels)), channels

    def _check_values(self, points: np.ndarray, what: str) -> None:
        bad = np.argwhere(~np.isfinite(points))
        if len(bad):
            row, column = bad[0]
            value = f"{self.channels[column]} of point {row} is {points[row, column]}"
            raise InputError(f"{what}: {value}; drop points that are not finite first")
        far = np.argwhere(np.abs(points[:, :3]) > _MAX_COORDINATE_M)
        if len(far):
            row, column = far[0]
            raise InputError(
                f"{what}: {self.channels[column]} of point {row} is {points[row, column]:g}; expected metres from the "
                f"sensor, at most {_MAX_COORDINATE_M:,.0f}. Drop such points ({len(np.unique(far[:, 0])):,} of "
                f"{len(points):,}), or check unit, frame, columns and data type"
            )

    def _without_model_sensor(self, points: np.ndarray, facts: SensorFacts, what: str) -> np.ndarray:
        """Checks and scales points whose sensor is declared, for a model that does not describe its own."""
        warnings.warn(
            "the model does not say with which sensor it was trained, so the points keep their axes and height; only "
            "the intensities are converted. Make sure that its training data have the same axes",
            SensorWarning,
            stacklevel=3,
        )
        forward, left, up = sensor_axes(facts)
        return fit_to_model(points, self.channels, SensorFacts(forward=forward, left=left, up=up), facts, what)

    def _check_intensity(self, points: np.ndarray, what: str) -> None:
        # Also what a file of five columns looks like when it is read as four.
        if "intensity" not in self.channels:
            return
        intensity = points[:, self.channels.index("intensity")]
        low, high = float(intensity.min()), float(intensity.max())
        if low < 0 or high > 1:
            raise InputError(
                f"{what}: intensity runs from {low:g} to {high:g}, expected 0 to 1; scale it, declare its scale, and "
                f"check that the columns are {', '.join(self.channels)}"
            )


def _check_count(count: int, what: str) -> None:
    if count > _MAX_POINTS:
        raise InputError(f"{what} has {count:,} points; at most {_MAX_POINTS:,} are read, so split merged sweeps")


def rows_by_sweep(outputs: Mapping[str, np.ndarray], lengths: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """The outputs of each of several sweeps that ran as one batch.

    Args:
        outputs: A row per point, one sweep after the other.
        lengths: Number of points of each sweep.

    Raises:
        InputError: If an output does not have a row per point.
    """
    for name, array in outputs.items():
        if len(array) != sum(lengths):
            raise InputError(f"the model gives {len(array)} rows of {name} for {sum(lengths)} points")
    parts = {name: np.split(array, np.cumsum(lengths)[:-1]) for name, array in outputs.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(lengths))]


def _facts(section: Mapping[str, Any]) -> SensorFacts | None:
    return SensorFacts(**section["sensor"]) if "sensor" in section else None


def _name_of(source: PointsSource) -> str:
    if isinstance(source, str | Path):
        return str(source)
    return f"frame {source.id}" if isinstance(source, Frame) else "the sweep"


def _street_sweep(beams: int) -> dict[str, np.ndarray]:
    """Columns by name of what a lidar sees of a flat street between walls 8 m to either side, in metres.

    Elevations, azimuths and height are those of the Velodyne HDL-64E on KITTI's car; it sees up to 80 m.
    """
    elevations, azimuths = np.radians(np.linspace(-24.8, 2.0, beams)), np.linspace(-np.pi, np.pi, 2000, False)
    elevation, azimuth = np.meshgrid(elevations, azimuths)
    ahead, left, up = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    with np.errstate(divide="ignore"):  # a beam that never meets the ground or a wall
        ground_m, wall_m = np.where(up < 0, -_STREET_HEIGHT_M / up, np.inf), 8.0 / np.abs(left)
    range_m = np.minimum(ground_m, wall_m)
    seen = range_m < 80
    return {
        "x": ahead[seen] * range_m[seen],
        "y": left[seen] * range_m[seen],
        "z": up[seen] * range_m[seen],
        "intensity": np.where(ground_m < wall_m, 0.2, 0.4)[seen],
        "ring": np.broadcast_to(np.arange(beams), elevation.shape)[seen],
    }


def _newest_sweep(frame: Frame) -> Sweep:
    """The newest sweep of a frame that has exactly one lidar."""
    if len(frame.lidars) != 1:
        names = ", ".join(frame.lidars) or "none"
        raise InputError(
            f"frame {frame.id} has {len(frame.lidars)} lidars ({names}), expected one; pass frame.lidars[NAME][0]"
        )
    ((name, sweeps),) = frame.lidars.items()
    if not sweeps:
        raise InputError(f"frame {frame.id} has no sweep of lidar {name}")
    return sweeps[0]
