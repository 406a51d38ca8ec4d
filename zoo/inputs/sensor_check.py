"""What one lidar sweep shows of its sensor, compared with what the model was trained on.

A model fed with another sensor's points gives confident nonsense: intensities of 0 to 255 in place of 0 to 1, z down,
columns in another order. Each such difference is converted, refused or reported. What a sweep cannot show (which way is
forward, whether left and right are exchanged) has to be declared by its source (`SensorFacts`), or is reported as
assumed.

Everything is estimated from one sweep of a vehicle on a street, within the tolerances below, which are wide enough for
hills, kerbs and traffic.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import InputError, SensorWarning
from zoo.frame import AXES, Axis, SensorFacts
from zoo.sensors import AXIS_NAMES, component, sensor_axes, unit_vector

if TYPE_CHECKING:
    from jaxtyping import Float32

__all__ = ["Observed", "Plane", "fit_to_model", "observe"]

_HEIGHT_TOLERANCE_M = 0.6
_MAX_SHIFT_M = 2.5
_TILT_DEG = 7.0
_BEAM_RATIO = 1.5
_COVERAGE_DEG = 45.0
_DENSITY_RATIO = 2.0
_DUPLICATES = 0.2
_FAR_SHARE = 0.05
_FARTHEST_MEDIAN_M = 150.0
_NEAREST_M = 30.0
_SMALLEST_MEDIAN_M = 0.5
_MAX_PERCENT = 101.0
_FEWEST_POINTS = 100
"""Fewer points do not show their unit: all of them may be on one distant object."""
_CLEARLY_MORE = 3
"""A plane with this many times the cells is the ground, whatever lies across the axis that was declared."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Estimates from one sweep; `None` where it does not show them.

    Attributes:
        up: The axis that points up: the ground is level across it, and hardly any point is below the ground.
        height_m: Height of the origin above the ground.
        tilt_deg: Angle between `up` and the normal of the ground.
        beams: Number of beams, by the separate elevations within one degree of azimuth.
        coverage_deg: Sum of the azimuths that have points.
        median_range_m: Median distance of the points.
        nearest_m: The first percentile of the distances.
        duplicates: Share of the points that have the same coordinates as another one.
        planes: Every level plane by the axis across which it lies. On a street there is only the ground; in a tunnel or
            a garage the ceiling and the walls look the same.
    """

    up: Axis | None
    height_m: float | None
    tilt_deg: float | None
    beams: float | None
    coverage_deg: float
    median_range_m: float
    nearest_m: float
    duplicates: float
    planes: Mapping[Axis, Plane] = field(default_factory=dict)


@dataclass(frozen=True)
class Plane:
    """A plane that could be the ground.

    Attributes:
        height_m: Of the origin above it.
        tilt_deg: Angle between its normal and the axis.
        cells: Square metres around the sensor in which it is the lowest surface.
    """

    height_m: float
    tilt_deg: float
    cells: int


def observe(xyz: Float32[np.ndarray, "N 3"], up: Axis | None = None) -> Observed:
    """What the points of a sweep show; points at the origin, which some sensors give for no return, do not count.

    Args:
        xyz: `(N, 3)` in any axes.
        up: The axis that points up, if it is known.
    """
    distances = np.linalg.norm(xyz, axis=1)
    xyz, distances = xyz[distances > 1e-3], distances[distances > 1e-3]
    if not len(xyz):
        return Observed(
            up=None,
            height_m=None,
            tilt_deg=None,
            beams=None,
            coverage_deg=0.0,
            median_range_m=0.0,
            nearest_m=0.0,
            duplicates=0.0,
        )
    part = xyz[:: -(-len(xyz) // _GROUND_POINTS)]
    grounds = {axis: _ground(_along(part, axis)) for axis in ((up,) if up else AXES)}
    found = {axis: ground for axis, ground in grounds.items() if ground is not None}
    best = max(found, key=lambda axis: found[axis].cells, default=None)
    level = _along(xyz, best or up or "+z")
    sectors = np.floor(_azimuth_deg(level)).astype(np.int64) % 360
    sampled = sectors % _EVERY_SECTOR == 0
    return Observed(
        up=best,
        height_m=found[best].height_m if best else None,
        tilt_deg=found[best].tilt_deg if best else None,
        beams=_beams(level[sampled], distances[sampled], sectors[sampled]),
        coverage_deg=float(np.count_nonzero(np.bincount(sectors, minlength=360))),
        median_range_m=float(np.median(distances)),
        nearest_m=float(np.quantile(distances, 0.01)),
        duplicates=_duplicates(xyz[sampled]),
        planes=found,
    )


_GROUND_POINTS = 30_000
_CELL_M, _NEAR_M, _FAR_M = 1.0, 2.5, 20.0
_MIN_CELLS = 60
_EVERY_SECTOR = 6


def _along(xyz: np.ndarray, up: Axis) -> np.ndarray:
    """The points with `up` as the third coordinate and the two others before it, in any order."""
    axis = "xyz".index(up[1])
    others = [i for i in range(3) if i != axis]
    return np.column_stack([xyz[:, others], component(xyz.T, up)])


def _ground(points: np.ndarray) -> Plane | None:
    """The plane through the lowest points of the cells around the sensor; `None` if they do not form one."""
    radius = np.hypot(points[:, 0], points[:, 1])
    near = points[(radius > _NEAR_M) & (radius < _FAR_M)]
    columns = np.floor(near[:, :2] / _CELL_M).astype(np.int64)
    cell = (columns[:, 0] + 1000) * 2000 + columns[:, 1] + 1000
    order = np.lexsort((near[:, 2], cell))
    first = np.flatnonzero(np.diff(cell[order], prepend=-1))
    lowest = near[order[first]].astype(np.float64)
    if len(lowest) < _MIN_CELLS:
        return None
    design = np.column_stack([lowest[:, :2], np.ones(len(lowest))])
    # The lowest quarter of the ranked residuals pulls down, the upper half are walls and cars: trimmed repeatedly.
    keep = np.abs(lowest[:, 2] - np.median(lowest[:, 2])) < 1.5
    for limit in (1.0, 0.6, 0.4, 0.4):
        if np.count_nonzero(keep) < _MIN_CELLS // 2:
            return None
        plane, *_ = np.linalg.lstsq(design[keep], lowest[keep, 2], rcond=None)
        keep = np.abs(lowest[:, 2] - design @ plane) < limit
    if np.count_nonzero(keep) < 0.4 * len(lowest):
        return None
    residual = near[:, 2] - (near[:, 0] * plane[0] + near[:, 1] * plane[1] + plane[2])
    below = float(np.mean(residual < -0.5))
    height = -float(plane[2])
    if below > 0.15 or not -1.0 < height < 8.0:
        return None
    return Plane(height, float(np.degrees(np.arctan(np.hypot(*plane[:2])))), int(np.count_nonzero(keep)))


def _azimuth_deg(points: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(points[:, 1], points[:, 0])) + 180


def _beams(points: np.ndarray, distances: np.ndarray, sectors: np.ndarray, gap_deg: float = 0.12) -> float | None:
    """Separate elevations within one degree of azimuth, in the fullest tenth of the directions."""
    far = distances > 2
    elevation, sector = np.degrees(np.arcsin(np.clip(points[far, 2] / distances[far], -1, 1))), sectors[far]
    order = np.lexsort((elevation, sector))
    elevation, sector = elevation[order], sector[order]
    apart = (np.diff(elevation) > gap_deg) & (np.diff(sector) == 0)
    counts = np.bincount(sector[1:][apart], minlength=360) + 1
    counts = counts[np.bincount(sector, minlength=360) > 1]
    return float(np.quantile(counts, 0.9)) if len(counts) >= 5 else None


def _duplicates(xyz: np.ndarray) -> float:
    if not len(xyz):
        return 0.0
    words = np.ascontiguousarray(xyz, np.float32).view(np.uint32).astype(np.uint64)
    keys = (words[:, 0] * np.uint64(0x9E3779B97F4A7C15)) ^ (words[:, 1] * np.uint64(0xC2B2AE3D27D4EB4F)) ^ words[:, 2]
    return 1 - len(np.unique(keys)) / len(keys)


def fit_to_model(
    points: Float32[np.ndarray, "N C"],
    channels: Sequence[str],
    model: SensorFacts,
    source: SensorFacts | None = None,
    what: str = "the sweep",
) -> Float32[np.ndarray, "N C"]:
    """The points with the axes, the height and the intensity scale that the model was trained with.

    What the source declares is converted silently, and refused where the sweep contradicts it. Without a declaration,
    intensities of 0 to 255 and another height are converted with a `SensorWarning`, and other axes are refused. What
    cannot be converted (beams, revolutions, range, tilt, field of view) is a `SensorWarning`.

    Args:
        points: `(N, C)`, finite; the columns are `channels`.
        channels: x, y, z first.
        model: The sensor of the model's training data; facts that are `None` are not compared.
        source: What is known about the sensor of these points.
        what: Name of the sweep, for errors.

    Raises:
        InputError: If the points are not in metres around the sensor, the sweep contradicts the declaration, or a
            difference is larger than between two vehicles.
    """
    source = source or SensorFacts()
    points = np.array(points, np.float32)
    xyz, intensity = points[:, :3], None
    if "intensity" in channels:
        intensity = points[:, list(channels).index("intensity")]
    seen = observe(xyz)
    notes: list[str] = []
    try:
        _check_units(seen, len(points))
        turn = _axes(seen, model, source, notes)
        enclosed = len(seen.planes) > 1
        if seen.up is not None and seen.up != (up := _axes_of(model, source)[2]):
            seen = observe(xyz, up)  # what looked like the ground is a wall or a ceiling
        shift = _height(seen, model, source, notes, enclosed=enclosed)
        scale = 1.0 if intensity is None else _intensity(intensity, xyz, source, notes)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    _differences(seen, points, model, source, notes, moved=bool(shift) and source.height_m is None)
    if turn is not None:
        points[:, :3] = xyz @ turn.T.astype(np.float32)
    if shift:
        points[:, :3] += (shift * unit_vector(sensor_axes(model)[2])).astype(np.float32)
    if intensity is not None and scale != 1:
        intensity *= np.float32(scale)
    for note in notes:
        warnings.warn(note, SensorWarning, stacklevel=3)
    return points


def _check_units(seen: Observed, count: int) -> None:
    if not seen.median_range_m:
        raise InputError("every point is at the origin; expected metres from the sensor")
    if count < _FEWEST_POINTS:
        return
    if seen.nearest_m > _NEAREST_M or not _SMALLEST_MEDIAN_M < seen.median_range_m < _FARTHEST_MEDIAN_M:
        raise InputError(
            f"the nearest points are {seen.nearest_m:,.3g} from the origin and half of them within "
            f"{seen.median_range_m:,.3g}; expected metres from the sensor, so check unit, frame, columns and data "
            "type, and pass the whole sweep if it was cropped"
        )


def _declares_axes(source: SensorFacts) -> bool:
    return any(getattr(source, name) is not None for name in AXIS_NAMES)


def _axes_of(model: SensorFacts, source: SensorFacts) -> tuple[Axis, Axis, Axis]:
    """Forward, left and up of the points: as declared, else those of the model."""
    return sensor_axes(source if _declares_axes(source) else model)


def _axes(seen: Observed, model: SensorFacts, source: SensorFacts, notes: list[str]) -> np.ndarray | None:
    """`(3, 3)` from the source's axes to the model's; `None` if they are the same."""
    declared, of_source, of_model = _declares_axes(source), _axes_of(model, source), sensor_axes(model)
    height = source.height_m if source.height_m is not None else model.height_m
    if _contradicts(seen, of_source[2], height if declared else None):
        stated = f"its source says {of_source[2]}" if declared else f"{of_source[2]} is assumed"
        raise InputError(f"the ground shows that up is {seen.up}, but {stated}; declare forward, left and up")
    if not declared:
        notes.append(
            "the source does not say where its axes point, and a sweep cannot show all of it; assumed: "
            f"{of_source[0]} forward, {of_source[1]} left, {of_source[2]} up"
        )
    if of_source == of_model:
        return None
    return np.column_stack([unit_vector(axis) for axis in of_model]) @ np.array(
        [unit_vector(axis) for axis in of_source]
    )


def _contradicts(seen: Observed, up: Axis, height_m: float | None) -> bool:
    """Whether the ground lies across another axis than `up`.

    In a tunnel or a garage, ceiling and walls are planes as well, and parked cars can hide the floor. If there is a
    plane across `up` too, it is the ground, unless the other one is much larger. If there is none, the other one is a
    ceiling or a wall if the sensor cannot be at that height above it.

    Args:
        seen: What the sweep shows.
        up: The axis that is declared or assumed.
        height_m: Of the sensor, if `up` is declared and the height is known.
    """
    if seen.up in (None, up):
        return False
    best = seen.planes[seen.up]
    if up in seen.planes and _CLEARLY_MORE * seen.planes[up].cells >= best.cells:
        return False
    if height_m is None:
        return True
    ceiling = seen.up[1] == up[1] and best.height_m < height_m - _HEIGHT_TOLERANCE_M
    return not ceiling and best.height_m <= height_m + _HEIGHT_TOLERANCE_M


def _height(seen: Observed, model: SensorFacts, source: SensorFacts, notes: list[str], *, enclosed: bool) -> float:
    """Metres by which the points have to rise so that the ground is where the model expects it.

    Between walls or under a ceiling (`enclosed`), what looks like the ground may be the roofs of parked cars, so that
    it does not disprove a declaration.
    """
    declared = source.height_m
    if declared is not None and seen.height_m is not None and abs(seen.height_m - declared) > _HEIGHT_TOLERANCE_M:
        text = (
            f"its source says that the sensor is {declared:.2f} m above the ground, but the ground lies "
            f"{seen.height_m:.2f} m below it; correct height_m, or the unit"
        )
        if not enclosed:
            raise InputError(text)
        notes.append(f"{text}, unless this is a tunnel or a garage")
    height = declared if declared is not None else seen.height_m
    if model.height_m is None or height is None:
        return 0.0
    shift = height - model.height_m
    if declared is None and abs(shift) <= _HEIGHT_TOLERANCE_M:
        return 0.0  # hills and kerbs make the estimate differ as much
    if declared is None and abs(shift) > _MAX_SHIFT_M:
        raise InputError(
            f"the ground lies {height:.2f} m below the sensor, and {model.height_m:.2f} m in the training data; "
            "expected metres, so check the unit, or declare height_m"
        )
    if declared is None:
        notes.append(
            f"the ground lies about {height:.1f} m below the sensor, but {model.height_m:.2f} m in the training data; "
            "the points are moved accordingly (declare height_m to state it)"
        )
    return shift


def _intensity(intensity: np.ndarray, xyz: np.ndarray, source: SensorFacts, notes: list[str]) -> float:
    """Factor from the source's intensities to 0 to 1."""
    low, high, scale = float(intensity.min()), float(intensity.max()), source.intensity_scale
    if low < 0 or high > 255:
        raise InputError(f"intensity runs from {low:g} to {high:g}, expected 0 to 1 or 0 to 255; check the columns")
    if low == high:
        notes.append(f"every intensity is {low:g}; the model was trained with measured ones, so expect more errors")
    if scale == "0-1" and high > 1:
        raise InputError(f"its source says intensities of 0 to 1, but they reach {high:g}; declare 0-255")
    if scale == "0-255" and 0 < high <= 1:
        raise InputError(f"its source says intensities of 0 to 255, but none exceeds {high:g}; declare 0-1")
    if high > max(low, 1) and _counts_beams(intensity, xyz):
        raise InputError(f"the column intensity holds whole numbers to {high:g} that rise with the elevation: beams?")
    if scale is not None:
        return 1 / 255 if scale == "0-255" else 1.0
    if high <= 1:
        return 1.0
    if high <= _MAX_PERCENT:
        raise InputError(f"intensity runs to {high:g}, which may be per cent or 0 to 255; declare intensity_scale")
    notes.append(f"intensities reach {high:g}; taken as 0 to 255 and scaled (declare intensity_scale to state it)")
    return 1 / 255


def _counts_beams(intensity: np.ndarray, xyz: np.ndarray) -> bool:
    """Whether the values are whole numbers that are the same for the same elevation, as numbers of beams are."""
    if (intensity != np.floor(intensity)).any():
        return False
    distances = np.linalg.norm(xyz, axis=1)
    far = distances > 2
    if np.count_nonzero(far) < 100:
        return False
    best = max(abs(np.corrcoef(xyz[far, i] / distances[far], intensity[far])[0, 1]) for i in range(3))
    return bool(best > 0.9)


def _differences(
    seen: Observed, points: np.ndarray, model: SensorFacts, source: SensorFacts, notes: list[str], moved: bool
) -> None:
    """Notes what differs from the training data and cannot be converted.

    Elevations, and so the beams, are wrong if the origin was not at the sensor (`moved`).
    """
    beams = source.beams if source.beams is not None or moved else seen.beams
    if model.beams is not None and beams is not None and not 1 / _BEAM_RATIO < beams / model.beams < _BEAM_RATIO:
        about = "" if source.beams is not None else "about "
        notes.append(f"the sensor has {about}{beams:.0f} beams, that of the training data {model.beams}")
    if model.points is not None and model.coverage_deg is not None and seen.coverage_deg:
        density = len(points) / seen.coverage_deg * model.coverage_deg / model.points
        if not 1 / _DENSITY_RATIO < density < _DENSITY_RATIO:
            notes.append(
                f"the sweep has {len(points):,} points, those of the training data about {model.points:,}"
                + (": merged from several revolutions?" if density > 1 else "")
            )
    if model.sweeps is not None and source.sweeps is not None and source.sweeps != model.sweeps:
        notes.append(f"{source.sweeps} revolutions are merged, {model.sweeps} in the training data")
    if model.coverage_deg is not None and seen.coverage_deg < model.coverage_deg - _COVERAGE_DEG:
        notes.append(
            f"the points cover {seen.coverage_deg:.0f} degrees around the sensor, {model.coverage_deg:.0f} in the "
            "training data"
        )
    if model.max_range_m is not None:
        far = float(np.mean(np.linalg.norm(points[:, :3], axis=1) > 1.1 * model.max_range_m))
        if far > _FAR_SHARE:
            notes.append(f"{far:.0%} of the points are farther than the training data reach, {model.max_range_m:g} m")
    if seen.duplicates > _DUPLICATES:
        notes.append(f"{seen.duplicates:.0%} of the points occur more than once")
    if seen.tilt_deg is not None and seen.tilt_deg > _TILT_DEG:
        notes.append(
            f"the ground is tilted by {seen.tilt_deg:.0f} degrees; level the points with the calibration first"
        )
