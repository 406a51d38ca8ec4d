"""Pasting objects of rare classes into other sweeps of the same data set.

An object keeps its distance from the sensor and the pattern of the beams on it: it is turned about the sensor and set
on the ground there.

Sources: objects of other sweeps turned about the sensor: Xiao et al., "PolarMix" (2022, arXiv:2208.00223). A collection
of objects, of which those of rare classes are drawn more often, mirrored at random, and several random directions until
nothing is in the way: Zhou et al., "Panoptic-PolarNet" (2021), whose code Cylinder3D's panoptic version shares. Ours:
every class is equally likely; the sector that an object fills must be free (they ask for 2 m around its centre); it is
set on the labelled ground; what it hides is removed, and so are its own points that something nearer hides; clusters
where a data set has no instances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.classes import THINGS, ClassTable
from zoo.errors import InputError
from zoo.geometry.clusters import clusters

__all__ = ["Cutout", "Polar", "cut_out", "ground_labels", "paste", "place", "thing_labels"]

Objects = Mapping[int, Sequence["Cutout"]]
"""Objects by their label."""

_GROUND = {
    "road", "parking", "sidewalk", "pavement", "terrain", "ground", "other-ground", "driveable_surface", "other_flat",
}  # fmt: skip
_THINGS = {name for names in THINGS.values() for name in names} | {"rider", "cyclist", "bus", "train", "tram", "van"}
_MOST_OBJECTS = 8
_DIRECTIONS = 10
"""Directions that are tried for an object."""
_FEWEST_POINTS = 10
_LONGEST_M = 20.0
"""Larger groups of points are several objects."""
_HIDDEN_FOOT_M = 0.5
"""If its lowest point is higher above the ground, something hid the lower part of an object."""
_FREE_M = 0.3
"""What must be free around an object."""
_GROUND_M = 2.0
"""How far away ground is looked for: at 20 m, neighbouring beams of a 64-beam lidar meet the ground 1.7 m apart."""
_FEWEST_GROUND_POINTS = 3
_RISE_M = 0.5
"""Largest change of an object's height, because it changes the elevations under which its points are seen."""
_STEP_DEG = 0.4
"""Width of the directions in which points hide each other: no less than the sensors' steps in azimuth."""
_BEAM_GAP_DEG = 0.2
_IN_FRONT_M = 0.3


@dataclass(frozen=True)
class Cutout:
    """An object of a sweep.

    Attributes:
        points: `(n, C)` float32: forward, left, up in metres from the sensor, then other columns.
        label: Its class.
        ground_m: Height of the ground that it stands on, relative to the sensor.
    """

    points: np.ndarray
    label: int
    ground_m: float


def thing_labels(classes: ClassTable) -> tuple[int, ...]:
    """Labels of the classes that are objects: those of the panoptic benchmarks, other tables' by the same names.

    Raises:
        InputError: If there are none, or none of the classes is ground.
    """
    names = THINGS.get(classes.taxonomy, _THINGS)
    found = tuple(label for label, name in enumerate(classes.names) if name in names)
    if not found or not len(ground_labels(classes)):
        lacking = "is an object (car, person, ...)" if not found else "is ground (road, terrain, ...)"
        raise InputError(
            f"--augmentation.instance-paste: none of the classes {', '.join(classes.names)} {lacking}; set it to 0"
        )
    return found


def ground_labels(classes: ClassTable) -> tuple[int, ...]:
    """Labels of the classes that objects stand on."""
    return tuple(label for label, name in enumerate(classes.names) if name in _GROUND)


def cut_out(
    points: np.ndarray,
    labels: np.ndarray,
    instances: np.ndarray | None,
    things: Sequence[int],
    ground: Sequence[int],
) -> Iterator[Cutout]:
    """The objects of a sweep that stand on visible ground and whose lower part is visible.

    Args:
        points: `(N, C)`: forward, left, up in metres, then other columns.
        labels: `(N,)`.
        instances: `(N,)` number of the object, 0 where it is not known; points of no known object are clustered.
        things: Labels of objects.
        ground: Labels of ground.
    """
    scene = Polar.of(points)
    on_ground = np.isin(labels, ground)
    for label in things:
        mine = np.flatnonzero(labels == label)
        for rows in _groups(points[mine, :2], None if instances is None else instances[mine]):
            group = points[mine[rows]]
            if len(group) < _FEWEST_POINTS or np.ptp(group[:, :2], axis=0).max() > _LONGEST_M:
                continue
            height = _ground_height(scene, on_ground, Polar.of(group))
            if height is not None and group[:, 2].min() < height + _HIDDEN_FOOT_M:
                yield Cutout(group.copy(), label, height)


def paste(
    points: np.ndarray, labels: np.ndarray, objects: Objects, ground: Sequence[int], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The sweep with up to eight objects more; those for which there is no free place are left out.

    Args:
        points: `(N, C)`: forward, left, up in metres, then other columns.
        labels: `(N,)`.
        objects: What can be pasted, with the same columns; every class is equally likely.
        ground: Labels of ground.
        generator: Random generator.
    """
    kinds = sorted(objects)
    for _ in range(int(generator.integers(1, _MOST_OBJECTS + 1))):
        known = objects[kinds[generator.integers(len(kinds))]]
        chosen = known[int(generator.integers(len(known)))]
        mirrored = bool(generator.random() < 0.5)
        scene = Polar.of(points)
        for angle in generator.uniform(-np.pi, np.pi, _DIRECTIONS):
            placed = place(points, labels, _turned(chosen, angle, mirrored), ground, scene)
            if placed is not None:
                points, labels = placed
                break
    return points, labels


def place(
    points: np.ndarray, labels: np.ndarray, chosen: Cutout, ground: Sequence[int], scene: Polar | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """The sweep with an object at its place, or `None` if there is no ground, something is in the way or hides it.

    Args:
        points: `(N, C)`: forward, left, up in metres, then other columns.
        labels: `(N,)`.
        chosen: The object; its height is set to that of the ground.
        ground: Labels of ground.
        scene: Polar coordinates of the points, if known.
    """
    scene = Polar.of(points) if scene is None else scene
    on_ground = np.isin(labels, ground)
    there = Polar.of(chosen.points)
    height = _ground_height(scene, on_ground, there)
    if height is None or abs(height - chosen.ground_m) > _RISE_M:
        return None
    moved = chosen.points.copy()
    moved[:, 2] += np.float32(height - chosen.ground_m)
    there = Polar.of(moved)
    near = scene.around(there, _FREE_M)
    if (~on_ground[near] & (scene.height[near] < moved[:, 2].max() + _FREE_M)).any():
        return None
    keep, visible = _hidden(scene, ~on_ground, there)
    if visible.sum() < max(_FEWEST_POINTS, len(moved) / 2):
        return None
    added = np.full(np.count_nonzero(visible), chosen.label, labels.dtype)
    return np.concatenate([points[keep], moved[visible]]), np.concatenate([labels[keep], added])


@dataclass(frozen=True)
class Polar:
    """Points as the sensor sees them.

    Attributes:
        azimuth: `(N,)` radians, from forward to the left.
        flat: `(N,)` metres in the plane.
        height: `(N,)` metres above the sensor.
    """

    azimuth: np.ndarray
    flat: np.ndarray
    height: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray) -> Polar:
        """Of points forward, to the left and up."""
        x, y, z = points[:, 0], points[:, 1], points[:, 2]
        return cls(np.arctan2(y, x), np.hypot(x, y), z)

    @property
    def range_m(self) -> np.ndarray:
        """`(N,)` metres from the sensor."""
        return np.hypot(self.flat, self.height)

    @property
    def elevation(self) -> np.ndarray:
        """`(N,)` radians."""
        return np.arctan2(self.height, self.flat)

    def around(self, there: Polar, margin_m: float) -> np.ndarray:
        """Indices of the points in the sector that `there` fills, widened by a margin."""
        centre = np.arctan2(np.sin(there.azimuth).mean(), np.cos(there.azimuth).mean())
        nearest = there.flat.min()
        half = np.abs(_wrapped(there.azimuth - centre)).max() + margin_m / max(nearest, margin_m)
        inside = np.abs(self.flat - (nearest + there.flat.max()) / 2) <= np.ptp(there.flat) / 2 + margin_m
        inside = np.flatnonzero(inside)
        return inside[np.abs(_wrapped(self.azimuth[inside] - centre)) <= half]


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _turned(chosen: Cutout, angle: float, mirrored: bool) -> Cutout:
    """The object elsewhere around the sensor, at the same distance and height."""
    points = chosen.points.copy()
    x, y = points[:, 0], points[:, 1] * np.float32(-1 if mirrored else 1)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    points[:, 0], points[:, 1] = cos * x - sin * y, sin * x + cos * y
    return Cutout(points, chosen.label, chosen.ground_m)


def _ground_height(scene: Polar, on_ground: np.ndarray, there: Polar) -> float | None:
    """Median height of the ground around `there`; `None` if too little of it is seen."""
    around = scene.around(there, _GROUND_M)
    heights = scene.height[around[on_ground[around]]]
    return float(np.median(heights)) if len(heights) >= _FEWEST_GROUND_POINTS else None


def _hidden(scene: Polar, solid: np.ndarray, there: Polar) -> tuple[np.ndarray, np.ndarray]:
    """Which points of the scene stay visible, and which points of the object are, bool.

    In each step of azimuth an object hides everything farther away between its lowest and its highest point, however
    far apart the beams are. A solid point of the scene hides what is behind it in its own direction; ground does not,
    because seen from the sensor it rises to the foot of the object.
    """
    step = np.radians(_STEP_DEG)
    columns, rows = round(2 * np.pi / step), round(np.pi / step)
    at, of_object = (np.floor(each.azimuth / step).astype(np.int64) % columns for each in (scene, there))
    low, high, nearest = np.full(columns, np.inf), np.full(columns, -np.inf), np.full(columns, np.inf)
    np.minimum.at(low, of_object, there.elevation)
    np.maximum.at(high, of_object, there.elevation)
    np.minimum.at(nearest, of_object, there.range_m)
    keep = np.ones(len(at), bool)
    shared = np.flatnonzero(np.isfinite(nearest[at]))
    column, elevation = at[shared], scene.elevation[shared]
    range_m = scene.range_m[shared]
    gap = np.radians(_BEAM_GAP_DEG)
    between = (elevation >= low[column] - gap) & (elevation <= high[column] + gap)
    keep[shared[between & (range_m > nearest[column])]] = False
    first = np.full(columns * (rows + 1), np.inf)
    can = solid[shared]
    np.minimum.at(first, (column * (rows + 1) + _row(elevation, step))[can], range_m[can])
    cell = of_object * (rows + 1) + _row(there.elevation, step)
    return keep, first[cell] > there.range_m - _IN_FRONT_M


def _row(elevation: np.ndarray, step: float) -> np.ndarray:
    return np.floor((elevation + np.pi / 2) / step).astype(np.int64)


def _groups(xy: np.ndarray, instances: np.ndarray | None) -> Iterator[np.ndarray]:
    """Indices of the points of each object: one per number, and clusters of the points without a number."""
    numbers = np.zeros(len(xy), np.int64) if instances is None else instances
    for number in np.unique(numbers[numbers > 0]):
        yield np.flatnonzero(numbers == number)
    free = np.flatnonzero(numbers == 0)
    cluster = clusters(xy[free])
    for number in np.unique(cluster):
        yield free[cluster == number]
