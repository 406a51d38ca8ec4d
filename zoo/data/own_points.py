"""The points of one's own folder: what its columns mean, and what is known about the lidar.

The classes may be written as in other tools, as names by position with the ids that are ignored among them:

```yaml
names: [road, grass, none]
ignore: [2]
```

Facts about the lidar stand in `classes.yaml` next to the classes, or in a `sensor.yaml` of their own; all are optional.
`zoo/sensors.py` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.data.scans import IntensityScale, read_point_instances, read_point_labels, read_points
from zoo.errors import InputError
from zoo.frame import SensorFacts, Sweep
from zoo.geometry.transforms import pose
from zoo.label_table import LabelTable
from zoo.sensors import AXIS_NAMES, SENSOR_KEYS, sensor_axes, sensor_section, unit_vector
from zoo.yaml_file import read_yaml

__all__ = ["POINT_KEYS", "PointColumns", "class_section", "read_columns"]

POINT_KEYS: dict[str, Any] = {
    "names": {"type": "array"},
    "ignore": {"type": "array"},
    **dict.fromkeys(SENSOR_KEYS, True),
}
"""Schema of each key that `classes.yaml` may have besides those of every folder."""


@dataclass(frozen=True, kw_only=True)
class PointColumns:
    """How the files of a folder are read.

    Attributes:
        channels: Their columns.
        sensor: What is known about the lidar.
        ego_from_lidar: `(4, 4)`, if both axes and the height are known; the vehicle frame is below the sensor.
        caveats: What had to be found out from the points.
    """

    channels: tuple[str, ...]
    sensor: SensorFacts
    ego_from_lidar: np.ndarray | None
    caveats: tuple[str, ...] = ()

    def sweep(self, points: Path, labels: Path, table: LabelTable) -> Sweep:
        """The sweep of one pair of files, read when it is used."""
        return Sweep(
            points_source=partial(read_points, points, self.channels, self.sensor.intensity_scale),
            channels=self.channels,
            labels_source=partial(read_point_labels, labels, points, self.channels, table),
            instances_source=partial(read_point_instances, labels, points, self.channels),
            ego_from_lidar=self.ego_from_lidar,
            sensor=self.sensor,
        )


def class_section(content: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The classes of a `classes.yaml` in the form that `zoo.label_table.parse_classes` reads.

    Raises:
        InputError: If both forms are mixed, or `ignore` holds something other than positions in `names`.
    """
    section = {key: value for key, value in content.items() if key in ("classes", "ignored")}
    if "names" not in content and "ignore" not in content:
        return section
    if section or "names" not in content:
        raise InputError(f"{what}: write either classes and ignored, or names and ignore")
    names, ignored = content["names"], content.get("ignore", [])
    if wrong := [id for id in ignored if type(id) is not int or not 0 <= id < len(names)]:
        raise InputError(f"{what}: ignore lists {wrong[0]!r}, which is no position in the {len(names)} names")
    classes = [{"name": name, "id": id} for id, name in enumerate(names) if id not in ignored]
    return {"classes": classes, "ignored": ignored}


def read_columns(root: Path, classes: Mapping[str, Any], first: Path) -> PointColumns:
    """The columns and facts that a folder states.

    Args:
        root: The folder.
        classes: Content of its `classes.yaml`.
        first: A file of points, which shows the scale of the intensities if the folder does not state it.

    Raises:
        InputError: If a value is invalid, a key stands in both files, or the points do not fit the columns.
    """
    path = root / "classes.yaml"
    found = {key: value for key, value in classes.items() if key in SENSOR_KEYS}
    if (root / "sensor.yaml").is_file():
        more = read_yaml(root / "sensor.yaml", f"the lidar: {', '.join(SENSOR_KEYS)}")
        if both := sorted(set(found) & set(more)):
            raise InputError(f"{both[0]} stands in {path} and in {root / 'sensor.yaml'}; remove one of them")
        found |= more
        path = root / "sensor.yaml"
    section = sensor_section(found, str(path))
    channels = tuple(section.get("channels", ("x", "y", "z", "intensity")))
    sensor = SensorFacts(**section.get("sensor", {}))
    if sensor.intensity_scale is not None and "intensity" not in channels:
        raise InputError(f"{path}: a scale of intensities is given, but the channels are {', '.join(channels)}")
    scale, caveats = _scale(sensor.intensity_scale, channels, first)
    sensor = replace(sensor, intensity_scale=scale)
    return PointColumns(
        channels=channels, sensor=sensor, ego_from_lidar=_ego_from_lidar(sensor), caveats=tuple(caveats)
    )


def _scale(
    stated: IntensityScale | None, channels: tuple[str, ...], first: Path
) -> tuple[IntensityScale | None, list[str]]:
    """The scale of the intensities; unless it is stated, that of the first file."""
    if stated is not None or "intensity" not in channels:
        return stated, []
    points = read_points(first, channels, None)
    largest = float(points[:, channels.index("intensity")].max(initial=0))
    scale: Literal["0-1", "0-255"] = "0-1" if largest <= 1 else "0-255"
    return scale, [
        f"The scale of the intensities is not stated (intensity_scale: 0-1 or 0-255). In {first.name} they reach "
        f"{largest:g}, so it was taken to be {scale}."
    ]


def _ego_from_lidar(sensor: SensorFacts) -> np.ndarray | None:
    if all(getattr(sensor, name) is None for name in AXIS_NAMES) or sensor.height_m is None:
        return None
    axes = [unit_vector(axis) for axis in sensor_axes(sensor)]
    return pose(np.stack(axes), (0.0, 0.0, sensor.height_m))
