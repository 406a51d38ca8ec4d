"""Augmentation of lidar sweeps for segmentation: geometry, lost points and beams, intensity, and mixing of two sweeps.

All functions draw from the generator that they are given, so a sample depends on (seed, epoch, index) alone. They take
points whose first three columns are metres forward, to the left and up. Objects of other sweeps are pasted before
(`zoo.training.paste_objects`), while the points still lie as the sensor saw them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from zoo.training.settings import Fraction, Range

__all__ = ["PointAugmentation", "augment", "laser_mix"]

_BEAM_DEG = 0.4
"""Distance of the beams of a sensor with an unknown number of them."""
_INTENSITY_STEPS = (100, 255)
"""Steps from 0 to 1 in which sensors measure intensities: KITTI's, and those that use a byte."""
_RELIEF_M = (15.0, 60.0)
"""Wavelengths of the relief."""


@dataclass(frozen=True)
class PointAugmentation:
    """Augmentation settings.

    Attributes:
        rotate_deg: Largest rotation about the vertical, drawn uniformly in both directions.
        flip: Probability of exchanging left and right.
        scale: Range of a random factor on all coordinates.
        tilt_deg: Standard deviation of a rotation about each horizontal axis.
        lift_m: Standard deviation of a shift along the vertical.
        relief_m: Largest amplitude of a wave that is added to the height of all points, as hills and camber are.
        point_drop: Largest share of the points that is removed at random.
        beam_drop: Probability of keeping only every second to fourth beam.
        cuboid_drop: Probability of removing the points in a box of up to a fifth of the sweep's extent (SLidR).
        intensity_drop: Probability of setting every intensity to 0.
        intensity_jitter: Strength of a random gain and exponent of the intensities; 0 disables it. Intensities in steps
            of 1/100 or 1/255 stay so.
        laser_mix: Probability of taking every second band of elevations from another sweep (Kong et al., "LaserMix for
            Semi-Supervised LiDAR Semantic Segmentation", 2023).
        instance_paste: Probability of pasting up to eight objects from other sweeps, rare classes as often as frequent
            ones (`zoo.training.paste_objects`).
    """

    rotate_deg: Annotated[float, Range(at_least=0, at_most=180)] = 180.0
    flip: Fraction = 0.5
    scale: Annotated[tuple[float, float], Range(at_least=0.5, at_most=2)] = (0.95, 1.05)
    tilt_deg: Annotated[float, Range(at_least=0, at_most=10)] = 0.0
    lift_m: Annotated[float, Range(at_least=0, at_most=2)] = 0.0
    relief_m: Annotated[float, Range(at_least=0, at_most=5)] = 0.0
    point_drop: Annotated[float, Range(at_least=0, below=1)] = 0.0
    beam_drop: Fraction = 0.0
    cuboid_drop: Fraction = 0.0
    intensity_drop: Fraction = 0.0
    intensity_jitter: Annotated[float, Range(at_least=0, at_most=2)] = 0.0
    laser_mix: Fraction = 0.0
    instance_paste: Fraction = 0.0

    def conflicts(self) -> Iterator[str]:
        """Incompatible values."""
        if self.scale[0] > self.scale[1]:
            yield f"--scale {self.scale[0]} {self.scale[1]}: expected the smaller value first"


def augment(
    points: np.ndarray,
    labels: np.ndarray,
    settings: PointAugmentation,
    generator: np.random.Generator,
    *,
    intensity: int | None = 3,
    ring: int | None = None,
    beams: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A changed copy of a sweep and its labels; at least one point is left.

    Args:
        points: `(N, C)` float32: forward, left, up in metres, then other columns.
        labels: `(N,)`.
        settings: What to change.
        generator: Random generator.
        intensity: Column of the intensity, 0 to 1; `None` if there is none.
        ring: Column of the number of the beam; `None` if there is none, and beams are found by elevation.
        beams: Number of beams of the sensor, if known.
    """
    keep = _kept(points, settings, generator, ring, beams)
    if keep.any():
        points, labels = points[keep], labels[keep]
    points = points.copy()
    points[:, :3] = _moved(points[:, :3], settings, generator)
    if intensity is not None:
        points[:, intensity] = _intensities(points[:, intensity], settings, generator)
    return points, labels


def _kept(
    points: np.ndarray,
    settings: PointAugmentation,
    generator: np.random.Generator,
    ring: int | None,
    beams: int | None,
) -> np.ndarray:
    """`(N,)` bool: the points that are not removed."""
    xyz = points[:, :3]
    keep = np.ones(len(xyz), bool)
    if settings.point_drop:
        keep &= generator.random(len(xyz)) >= generator.uniform(0, settings.point_drop)
    if generator.random() < settings.beam_drop:
        every, first = int(generator.integers(2, 5)), int(generator.integers(4))
        beam = _beam(xyz, beams) if ring is None else points[:, ring].astype(np.int64)
        keep &= (beam + first) % every == 0
    if generator.random() < settings.cuboid_drop:
        centre = xyz[generator.integers(len(xyz))]
        half = (xyz.max(0) - xyz.min(0)) * generator.uniform(0, 0.1, 3)
        keep &= (np.abs(xyz - centre) > half).any(1)
    return keep


def _beam(xyz: np.ndarray, beams: int | None) -> np.ndarray:
    """`(N,)` int64: number of the beam of each point, as if the beams divided the field of view evenly."""
    elevation = _elevation_deg(xyz)
    low, high = np.quantile(elevation, [0.001, 0.999])  # a single beam has more points, stray ones are fewer
    step = _BEAM_DEG if beams is None or beams < 2 else max(high - low, 1e-6) / (beams - 1)
    return np.round((elevation - low) / step).astype(np.int64)


def _moved(xyz: np.ndarray, settings: PointAugmentation, generator: np.random.Generator) -> np.ndarray:
    """The coordinates after relief, rotation, flip, scale and lift."""
    if settings.relief_m:
        heading, phase = generator.uniform(0, 2 * np.pi, 2)
        wave = 2 * np.pi / generator.uniform(*_RELIEF_M)
        along = xyz[:, 0] * np.cos(heading) + xyz[:, 1] * np.sin(heading)
        rise = np.sin(along * wave + phase) - np.sin(phase)  # the ground below the sensor stays where it is
        xyz = xyz.copy()
        xyz[:, 2] += (generator.uniform(0, settings.relief_m) * rise).astype(np.float32)
    yaw = np.radians(generator.uniform(-settings.rotate_deg, settings.rotate_deg))
    roll, pitch = np.radians(generator.normal(0, settings.tilt_deg, 2))
    matrix = _rotation(2, yaw) @ _rotation(1, pitch) @ _rotation(0, roll) * generator.uniform(*settings.scale)
    if generator.random() < settings.flip:
        matrix[1] *= -1
    moved = xyz @ matrix.T.astype(np.float32)
    moved[:, 2] += np.float32(generator.normal(0, settings.lift_m))
    return moved


def _rotation(axis: int, angle: float) -> np.ndarray:
    """`(3, 3)`, right-handed about a coordinate axis."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[one, other], [one, other]] = np.cos(angle)
    matrix[one, other], matrix[other, one] = -np.sin(angle), np.sin(angle)
    return matrix


def _intensities(values: np.ndarray, settings: PointAugmentation, generator: np.random.Generator) -> np.ndarray:
    if generator.random() < settings.intensity_drop:
        return np.zeros_like(values)
    if not settings.intensity_jitter:
        return values
    gain, exponent = np.exp(generator.normal(0, 0.3 * settings.intensity_jitter, 2))
    changed = np.clip(gain * values**exponent, 0, 1)
    for steps in _INTENSITY_STEPS:
        if np.abs(values * steps - np.round(values * steps)).max() < 1e-3:
            changed = np.round(changed * steps) / steps
    return changed.astype(np.float32)


def laser_mix(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two sweeps with labels as one: bands of elevations from one and the other in turn.

    Args:
        one: `(N, C)` points and `(N,)` labels.
        other: The same of another sweep.
        generator: Random generator, for the number of bands (3 to 6) and which sweep comes first.
    """
    bands, first = int(generator.integers(3, 7)), int(generator.integers(2))
    elevations = [_elevation_deg(points[:, :3]) for points, _ in (one, other)]
    low, high = np.quantile(np.concatenate(elevations), [0.001, 0.999])
    parts = []
    for number, ((points, labels), elevation) in enumerate(zip((one, other), elevations, strict=True)):
        band = np.floor((elevation - low) / max(high - low, 1e-6) * bands).clip(0, bands - 1).astype(np.int64)
        keep = (band + first + number) % 2 == 0
        parts.append((points[keep], labels[keep]))
    points, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return (points, labels) if len(points) else one


def _elevation_deg(xyz: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
