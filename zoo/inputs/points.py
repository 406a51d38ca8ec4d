"""Lidar points: one sweep as the columns that the model names. The encoder makes its own voxels of them.

Axes and units are those of `Sweep`: xyz in metres in the lidar frame, intensity from 0 to 1. An array or a file does
not say what its columns are, so it must have exactly the model's; a `Sweep` names its own, and the model's are picked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.contract import Contract
from zoo.engines import Engine, EngineSpec, TensorSpec
from zoo.errors import InputError, closest
from zoo.files import read_regular
from zoo.folder.schema import section_schema
from zoo.frame import Frame, Sweep
from zoo.inputs import ExportPlan, Prepared, Variation
from zoo.npz import read_npy

if TYPE_CHECKING:
    from jaxtyping import Float32

__all__ = ["POINT_CHANNELS", "PointsInput", "PointsSource", "point_tensors"]

PointsSource = str | Path | np.ndarray | Sweep | Frame

POINT_CHANNELS: tuple[str, ...] = Sweep.channels
"""Columns of the points unless others are named: those of a `Sweep` whose sensor gives nothing more."""

_XYZ = ("x", "y", "z")
_MAX_FILE = 256 * 1024 * 1024  # bytes; a sweep of 128 beams has about 5 million


def point_tensors(channels: Sequence[str]) -> tuple[TensorSpec, TensorSpec]:
    """The inputs `points`, `(N, len(channels))` float32, and `batch_index`, `(N,)` int64: the sample of each point."""
    return (
        TensorSpec("points", "float32", (None, len(channels)), axes=("points", "channels"), columns=tuple(channels)),
        TensorSpec("batch_index", "int64", (None,), axes=("points",)),
    )


@dataclass(frozen=True, kw_only=True)
class PointsInput:
    """One lidar sweep of any number of points.

    Attributes:
        channels: Columns of the points, named as in `Sweep.channels`; x, y and z come first.
    """

    channels: tuple[str, ...] = POINT_CHANNELS

    kind: ClassVar[str] = "points"
    example: ClassVar[str] = "sweep.bin"
    samples: ClassVar[str] = "sweeps"
    suffixes: ClassVar[tuple[str, ...]] = (".bin", ".npy")
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "channels": {
                "type": "array",
                "items": {"$ref": "#/$defs/point_channel"},
                "minItems": 3,
                "maxItems": 16,
                "uniqueItems": True,
            }
        },
        "additionalProperties": False,
    }

    def __post_init__(self) -> None:
        if self.channels[:3] != _XYZ:
            raise InputError(f"channels {', '.join(self.channels)} of the points must start with x, y, z")

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> PointsInput:
        """The input that a configuration's section describes.

        Raises:
            InputError: If a key or a channel is unknown, or the channels do not start with x, y, z.
        """
        section_schema(cls.schema, "points").check(section, "points input")
        return cls(channels=tuple(section.get("channels", POINT_CHANNELS)))

    def to_json(self) -> dict[str, Any]:
        """The section of a configuration."""
        return {"kind": self.kind, "channels": list(self.channels)}

    def contract(self, artefact: Mapping[str, Any]) -> Contract:
        """What someone without this package must do to feed an exported file."""
        text = (
            f"Give one row per point with the columns {', '.join(self.channels)} as float32: x, y and z in metres in "
            "the lidar frame, intensity from 0 to 1; and for each row the number of its sweep as int64, 0 for a single "
            "one. Every value must be finite."
        )
        return {"before": {"points": {"text": text, "channels": list(self.channels)}}, "inside": {}, "after": {}}

    @classmethod
    def from_contract(cls, contract: Contract) -> PointsInput:
        """The input that a contract describes, read from its data.

        Raises:
            KeyError: If the step is missing.
            InputError: If the channels do not start with x, y, z.
        """
        return cls(channels=tuple(contract["before"]["points"]["channels"]))

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
            source: `NAME.bin`, rows of little-endian float32 as in KITTI; `NAME.npy`; an array `(N, C)`; a sweep; or a
                frame with one lidar, whose newest sweep is taken.

        Raises:
            InputError: If it is something else, has other columns or no points, or a value is not finite or, for the
                intensity, not from 0 to 1.
        """
        points = self._columns_of(source)
        if points.ndim != 2 or points.shape[1] != len(self.channels) or points.dtype.kind != "f":
            raise InputError(
                f"expected points (N, {len(self.channels)}) of floats with the columns {', '.join(self.channels)}, "
                f"got {points.shape} {points.dtype}; pass a zoo.frame.Sweep to name other columns"
            )
        if not len(points):
            raise InputError("the sweep has no points; at least one is needed")
        with np.errstate(over="ignore"):  # becomes infinite and is refused below
            points = points.astype(np.float32)
        bad = np.argwhere(~np.isfinite(points))
        if len(bad):
            row, column = bad[0]
            value = f"{self.channels[column]} of point {row} is {points[row, column]}"
            raise InputError(f"{value}; drop points that are not finite first")
        self._check_intensity(points)
        return points

    def frame(self, path: Path, id: str) -> Frame:
        """A frame with the sweep of a file, which is read when the frame is used."""
        sweep = Sweep(points_source=lambda: self.read(path), channels=self.channels)
        return Frame(id=id, group="given", lidars={"lidar": (sweep,)})

    def examples(self) -> Sequence[Frame]:
        """One sweep of 64 beams on a flat street between two walls, computed and without labels."""
        x, y, z = _street_sweep()
        known = {"x": x, "y": y, "z": z, "intensity": np.full_like(x, 0.3)}
        points = np.column_stack([known.get(channel, np.zeros_like(x)) for channel in self.channels])
        sweep = Sweep(points_source=points.astype(np.float32), channels=self.channels)
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
        """`points`, and `batch_index`: all of sample 0. The context is the points."""
        return Prepared({"points": sample, "batch_index": np.zeros(len(sample), np.int64)}, context=sample)

    def run(self, engine: Engine, prepared: Prepared) -> dict[str, np.ndarray]:
        """The outputs for one sweep, a row per point each."""
        return self.run_together(engine, [prepared])[0]

    def run_together(self, engine: Engine, prepared: Sequence[Prepared]) -> list[dict[str, np.ndarray]]:
        """The outputs for several sweeps of any lengths, run as one batch.

        Raises:
            InputError: If the model does not give a row per point.
        """
        clouds = [each.arrays["points"] for each in prepared]
        lengths = [len(cloud) for cloud in clouds]
        batch_index = np.repeat(np.arange(len(clouds)), lengths)
        outputs = engine.run({"points": np.concatenate(clouds), "batch_index": batch_index})
        for name, array in outputs.items():
            if len(array) != sum(lengths):
                raise InputError(f"the model gives {len(array)} rows of {name} for {sum(lengths)} points")
        ends = np.cumsum(lengths)
        return [
            {name: array[end - length : end] for name, array in outputs.items()} for length, end in zip(lengths, ends)
        ]

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

    def _columns_of(self, source: PointsSource) -> np.ndarray:
        if isinstance(source, np.ndarray):
            return source
        if isinstance(source, Frame):
            return self._chosen(_newest_sweep(source))
        if isinstance(source, Sweep):
            return self._chosen(source)
        if isinstance(source, str | Path):
            return self._of_file(Path(source))
        raise InputError(
            f"expected a .bin or .npy file, an array (N, {len(self.channels)}), a Sweep or a Frame, "
            f"got {type(source).__name__}"
        )

    def _chosen(self, sweep: Sweep) -> np.ndarray:
        """The model's columns of a sweep, by name."""
        for channel in self.channels:
            if channel not in sweep.channels:
                raise InputError(
                    f"the model reads {channel!r}, but the sweep has {', '.join(sweep.channels)}"
                    f"{closest(channel, sweep.channels)}"
                )
        points = sweep.points
        if points.ndim != 2 or points.shape[1] != len(sweep.channels):
            raise InputError(f"the sweep has points {points.shape} for the channels {', '.join(sweep.channels)}")
        return points[:, [sweep.channels.index(channel) for channel in self.channels]]

    def _of_file(self, path: Path) -> np.ndarray:
        if path.suffix not in (".bin", ".npy"):
            raise InputError(f"{path} is neither a .bin nor a .npy file; read it yourself and pass an array")
        try:
            content = read_regular(path, _MAX_FILE)
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist") from error
        if path.suffix == ".npy":
            return read_npy(content, str(path))
        row = 4 * len(self.channels)
        if len(content) % row:
            raise InputError(
                f"{path} has {len(content):,} bytes, which is not a multiple of {row}: the model reads float32 rows of "
                f"{', '.join(self.channels)}; pass a zoo.frame.Sweep to name other columns"
            )
        return np.frombuffer(content, "<f4").reshape(-1, len(self.channels))

    def _check_intensity(self, points: np.ndarray) -> None:
        # Also what a file of five columns looks like when it is read as four.
        if "intensity" not in self.channels:
            return
        intensity = points[:, self.channels.index("intensity")]
        low, high = float(intensity.min()), float(intensity.max())
        if low < 0 or high > 1:
            raise InputError(
                f"intensity runs from {low:g} to {high:g}, expected 0 to 1; scale it, and check that the columns are "
                f"{', '.join(self.channels)}"
            )


def _street_sweep() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and z, in metres, of what 64 beams see of a flat street between walls 8 m to either side.

    Beams, columns and the height of 1.73 m are those of the Velodyne HDL-64E on KITTI's car; it sees up to 80 m.
    """
    elevation, azimuth = np.meshgrid(np.radians(np.linspace(-24.8, 2.0, 64)), np.linspace(-np.pi, np.pi, 2000, False))
    ahead, left, up = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    with np.errstate(divide="ignore"):  # a beam that never meets the ground or a wall
        range_m = np.minimum(np.where(up < 0, -1.73 / up, np.inf), 8.0 / np.abs(left))
    seen = range_m < 80
    return ahead[seen] * range_m[seen], left[seen] * range_m[seen], up[seen] * range_m[seen]


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
