"""Known lidars, and facts about a lidar that a user declares for files that do not state them.

A declaration is a YAML file, `zoo predict --sensor FILE.yaml`; every key is optional:

```yaml
channels: [x, y, z, intensity, ring]   # columns of the file
sensor:
  forward: +y                          # axis that points in the direction of travel
  up: +z
  height_m: 1.84                       # of the sensor above the ground
  intensity_scale: 0-255
  beams: 32
  max_range_m: 105
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import InputError, closest
from zoo.frame import SensorFacts
from zoo.yaml_file import read_yaml

__all__ = ["KITTI", "NUSCENES", "SENSORS", "facts_to_json", "read_sensor"]


def facts_to_json(facts: SensorFacts) -> dict[str, Any]:
    """The facts that are known, as in a configuration."""
    return {key: value for key, value in dataclasses.asdict(facts).items() if value is not None}


KITTI = SensorFacts(
    beams=64,
    height_m=1.73,
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


def read_sensor(name: str) -> Mapping[str, Any]:
    """A known sensor by name, or a YAML file with one: the section `source` of an input of points.

    Raises:
        InputError: If it is neither, or the file is not readable. The input checks keys and values.
    """
    if name in SENSORS:
        return SENSORS[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--sensor {name}: expected {' or '.join(SENSORS)}, or a .yaml file{closest(name, SENSORS)}")
    return read_yaml(path, "columns and facts of a lidar: channels, forward, up, height_m, intensity_scale, beams")
