"""Known lidars, axes, and facts about a lidar that a user declares for files that do not state them.

A declaration is a YAML file, `zoo predict --sensor FILE.yaml`; every key is optional:

```yaml
channels: [x, y, z, intensity, ring]   # columns of the file, x, y, z first
forward: +y                            # axis that points in the direction of travel
left: -x                               # two of the three axes are enough for a right-handed frame
up: +z
height_m: 1.84                         # of the sensor above the ground
intensity_scale: 0-255                 # or 0-1
beams: 32
max_range_m: 105
coverage_deg: 360                      # horizontal field of view
points: 34000                          # typical number of points of a sweep
sweeps: 1                              # revolutions merged into one file
```

A data set in a plain folder (`zoo.data.own_folder`) has the same keys in its `sensor.yaml` or `classes.yaml`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError, closest
from zoo.folder.schema import section_schema
from zoo.frame import AXES, Axis, SensorFacts
from zoo.yaml_file import read_yaml

__all__ = [
    "AXIS_NAMES",
    "KITTI",
    "KITTI_HEIGHT_M",
    "NUSCENES",
    "SENSORS",
    "SENSOR_KEYS",
    "component",
    "facts_to_json",
    "read_sensor",
    "sensor_axes",
    "sensor_section",
    "unit_vector",
]

AXIS_NAMES = ("forward", "left", "up")
SENSOR_KEYS = ("channels", *(field.name for field in dataclasses.fields(SensorFacts)))
"""What can be said about the sensor of a file."""
_XYZ = ("x", "y", "z")


def facts_to_json(facts: SensorFacts) -> dict[str, Any]:
    """The facts that are known, as in a configuration."""
    return {key: value for key, value in dataclasses.asdict(facts).items() if value is not None}


KITTI_HEIGHT_M = 1.73
KITTI = SensorFacts(
    beams=64,
    height_m=KITTI_HEIGHT_M,
    max_range_m=80.0,
    intensity_scale="0-1",
    forward="+x",
    left="+y",
    up="+z",
    coverage_deg=360.0,
    points=120_000,
    sweeps=1,
)
"""The Velodyne HDL-64E of KITTI and SemanticKITTI: Geiger et al., "Vision meets Robotics" (2013), figure 3."""

NUSCENES = SensorFacts(
    beams=32,
    height_m=1.84,
    max_range_m=105.0,
    intensity_scale="0-255",
    forward="+y",
    left="-x",
    up="+z",
    coverage_deg=360.0,
    points=34_000,
    sweeps=1,
)
"""The Velodyne HDL-32E of nuScenes, on the mean of its cars' calibrations."""

SENSORS: Mapping[str, Mapping[str, Any]] = {
    "kitti": {"channels": ["x", "y", "z", "intensity"], "sensor": facts_to_json(KITTI)},
    "nuscenes": {"channels": ["x", "y", "z", "intensity", "ring"], "sensor": facts_to_json(NUSCENES)},
}
"""Columns of the files of known sensors, and facts about them."""


def sensor_axes(facts: SensorFacts) -> tuple[Axis, Axis, Axis]:
    """Forward, left and up; what is not known completes a right-handed frame, +x, +y, +z if nothing is known.

    Raises:
        InputError: If only one axis is known, or two of them are parallel.
    """
    known = {name: unit_vector(axis) for name in AXIS_NAMES if (axis := getattr(facts, name)) is not None}
    if not known:
        return "+x", "+y", "+z"
    if len(known) == 1:
        raise InputError(f"sensor: {next(iter(known))} alone does not say how the axes lie; give forward and up")
    for name, before, after in (("forward", "left", "up"), ("left", "up", "forward"), ("up", "forward", "left")):
        if name not in known:
            known[name] = np.cross(known[before], known[after])
    vectors = [known[name] for name in AXIS_NAMES]
    if abs(np.linalg.det(vectors)) < 0.5:
        given = ", ".join(f"{name} {getattr(facts, name)}" for name in AXIS_NAMES if getattr(facts, name))
        raise InputError(f"sensor: {given} must be different axes")
    forward, left, up = (next(axis for axis in AXES if np.array_equal(unit_vector(axis), each)) for each in vectors)
    return forward, left, up


def component(xyz: Sequence[np.ndarray] | np.ndarray, axis: Axis) -> np.ndarray:
    """`(N,)` coordinates along an axis, from those along x, y and z."""
    column = xyz["xyz".index(axis[1])]
    return -column if axis[0] == "-" else column


def unit_vector(axis: Axis) -> np.ndarray:
    """`(3,)` float64."""
    vector = np.zeros(3)
    vector["xyz".index(axis[1])] = -1 if axis[0] == "-" else 1
    return vector


def read_sensor(name: str) -> Mapping[str, Any]:
    """A known sensor by name, or a YAML file with one: the section `source` of an input of points.

    Raises:
        InputError: If it is neither, the file is not readable, or a key or a value in it is invalid.
    """
    if name in SENSORS:
        return SENSORS[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--sensor {name}: expected {' or '.join(SENSORS)}, or a .yaml file{closest(name, SENSORS)}")
    return sensor_section(read_yaml(path, f"columns and facts of a lidar: {', '.join(SENSOR_KEYS)}"), str(path))


def sensor_section(content: Mapping[str, Any], what: str) -> dict[str, Any]:
    """`channels` and `sensor`, as in a configuration, from the flat form in which users write them.

    Args:
        content: Any of `SENSOR_KEYS`.
        what: Where it comes from, for errors.

    Raises:
        InputError: If a key is unknown or a value invalid, or the axes are not different ones.
    """
    facts = {key: value for key, value in content.items() if key != "channels"}
    section = {key: value for key, value in (("channels", content.get("channels")), ("sensor", facts)) if value}
    properties = {"channels": {"$ref": "#/$defs/column_names"}, "sensor": {"$ref": "#/$defs/sensor"}}
    section_schema({"type": "object", "properties": properties}, "sensor").check(section, what)
    if tuple(section.get("channels", _XYZ))[:3] != _XYZ:
        raise InputError(f"{what}: channels {', '.join(section['channels'])} must start with x, y, z")
    try:
        sensor_axes(SensorFacts(**facts))
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    return section
