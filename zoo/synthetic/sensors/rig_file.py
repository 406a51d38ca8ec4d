"""Rigs of one's own, described in a YAML file.

```yaml
name: my-rig
base: nuscenes                  # optional: a preset whose sensors the entries below change or add to
period_s: 0.5                   # seconds between frames
cameras:
  CAM_FRONT:
    size: [900, 1600]           # height, width
    intrinsics: {fx: 1266.4, fy: 1266.4, cx: 816.3, cy: 491.5}    # pixels; (0, 0) is the middle of the first pixel
    position_m: [1.7, 0.0, 1.5]                  # forward, left, up from the ground below the rear axle
    rotation_deg: {yaw: 0, pitch: 2, roll: 0}    # to the left, downwards, to the right
    rate_hz: 12
    phase_s: 0.0
    distortion: {model: brown-conrady, k1: -0.28, k2: 0.09, p1: 0.0, p2: 0.0, k3: 0.0}
    line_time_us: 25            # rolling shutter: microseconds from row to row; 0: global
lidars:
  LIDAR_TOP:
    elevations_deg: [-25, -20, -15, -10, -5, 0, 5]                # lowest first
    columns: 1800
    position_m: [1.0, 0.0, 1.9]
    max_range_m: 100
    response: hdl-32e           # of the intensity: hdl-64e, hdl-32e or ideal (response.py)
```

`distortion` is `brown-conrady` (k1, k2, p1, p2, k3) or `kannala-brandt` (k1, k2, k3, k4), as in OpenCV, or `null`.
A sensor that `base` does not have needs its size, intrinsics and position, or elevations, columns and position. Numbers
of a lidar that can be given are the fields of `rigs.RigLidar`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from zoo.errors import InputError
from zoo.folder.schema import Schema
from zoo.geometry.cameras import VEHICLE_FROM_OPTICAL, intrinsics_matrix
from zoo.geometry.distortion import BrownConrady, Distortion, KannalaBrandt
from zoo.geometry.transforms import pitch_matrix, pose, roll_matrix, yaw_matrix
from zoo.synthetic.sensors.response import IDEAL, RESPONSES, Response
from zoo.synthetic.sensors.rigs import Rig, RigCamera, RigLidar, rig_of
from zoo.yaml_file import read_yaml

__all__ = ["read_rig", "rig_from"]

Sensor = TypeVar("Sensor", RigCamera, RigLidar)
_MODELS: dict[str, type[BrownConrady] | type[KannalaBrandt]] = {
    "brown-conrady": BrownConrady,
    "kannala-brandt": KannalaBrandt,
}
_NUMBER = {"type": "number"}
_POSITIVE = {"type": "number", "minimum": 1e-6, "maximum": 1e6}
_DEGREES = {"type": "number", "minimum": -360, "maximum": 360}
_SIDE = {"type": "integer", "minimum": 8, "maximum": 8192}
_METRES = {"type": "number", "minimum": -20, "maximum": 20}


def _table(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_POSE = {
    "position_m": {"type": "array", "items": _METRES, "minItems": 3, "maxItems": 3},
    "rotation_deg": _table({"yaw": _DEGREES, "pitch": _DEGREES, "roll": _DEGREES}),
    "rate_hz": _POSITIVE,
    "phase_s": _NUMBER,
}
_LIDAR_NUMBERS = (
    *("start_deg", "max_range_m", "min_range_m", "range_noise_m", "range_noise_growth", "intensity_noise", "dropout"),
    "straddling",
)
_COEFFICIENTS = {key: _NUMBER for model in _MODELS.values() for key in model.__dataclass_fields__}
_CAMERA = {
    **_POSE,
    "size": {
        "type": "array",
        "items": {"type": "integer", "minimum": 8, "maximum": 8192},
        "minItems": 2,
        "maxItems": 2,
    },
    "intrinsics": _table({"fx": _POSITIVE, "fy": _POSITIVE, "cx": _NUMBER, "cy": _NUMBER}, "fx", "fy", "cx", "cy"),
    "distortion": {
        "type": ["object", "null"],
        "properties": {"model": {"enum": list(_MODELS)}, **_COEFFICIENTS},
        "required": ["model"],
        "additionalProperties": False,
    },
    "line_time_us": {"type": "number", "minimum": 0, "maximum": 1e4},
}
_LIDAR = {
    **_POSE,
    "elevations_deg": {
        **{"type": "array", "minItems": 1, "maxItems": 512},
        "items": {"type": "number", "minimum": -90, "maximum": 90},
    },
    "columns": {"type": "integer", "minimum": 1, "maximum": 20000},
    "response": {"enum": list(RESPONSES)},
    **dict.fromkeys(_LIDAR_NUMBERS, _NUMBER),
}
_NAMES = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,39}$", "title": "a name of letters, digits, _ and -"}
_SENSORS = {"type": "object", "propertyNames": _NAMES, "maxProperties": 32}
_SCHEMA = _table(
    {
        "name": _NAMES,
        "base": {"type": "string"},
        "period_s": {"type": "number", "minimum": 1e-3, "maximum": 60},
        "cameras": {**_SENSORS, "additionalProperties": _table(_CAMERA)},
        "lidars": {**_SENSORS, "additionalProperties": _table(_LIDAR)},
    },
    "name",
)
_NEW_CAMERA, _NEW_LIDAR = ("size", "intrinsics", "position_m"), ("elevations_deg", "columns", "position_m")


def read_rig(path: Path) -> tuple[Rig, dict[str, Any]]:
    """The rig that a file describes, and the file's content.

    Raises:
        InputError: If the file cannot be read or describes no rig; the message names the entry.
    """
    content = read_yaml(path, "a sensor rig: its name, cameras and lidars")
    return rig_from(content, str(path)), content


def rig_from(content: Mapping[str, Any], where: str) -> Rig:
    """The rig that a table describes.

    Args:
        content: The table.
        where: Names it in errors.

    Raises:
        InputError: If it describes no rig.
    """
    Schema(_SCHEMA, "rig").check(content, where)
    base = rig_of(content["base"]) if "base" in content else None
    period = content.get("period_s", base.period_s if base else None)
    if period is None:
        raise InputError(f"{where}: period_s is missing; give the seconds between frames")
    cameras: dict[str, RigCamera | None] = dict(base.cameras) if base else {}
    lidars: dict[str, RigLidar] = dict(base.lidars) if base else {}
    for name, entry in content.get("cameras", {}).items():
        cameras[name] = _made(_camera, entry, cameras.get(name), f"{where}: camera {name}")
    for name, entry in content.get("lidars", {}).items():
        lidars[name] = _made(_lidar, entry, lidars.get(name), f"{where}: lidar {name}")
    try:
        return Rig(name=content["name"], cameras=cameras, lidars=lidars, period_s=period)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _made(
    make: Callable[[Mapping[str, Any], Sensor | None], Sensor], entry: Mapping[str, Any], old: Sensor | None, where: str
) -> Sensor:
    try:
        return make(entry, old)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _needed(entry: Mapping[str, Any], needed: tuple[str, ...]) -> None:
    missing = [key for key in needed if key not in entry]
    if missing:
        raise InputError(
            f"{', '.join(missing)} missing; a sensor that the base does not have needs {', '.join(needed)}"
        )


def _camera(entry: Mapping[str, Any], old: RigCamera | None) -> RigCamera:
    """A camera with what `entry` says, and what `old` says about the rest."""
    given: dict[str, Any] = {key: float(entry[key]) for key in ("rate_hz", "phase_s") if key in entry}
    if "size" in entry:
        given["size"] = tuple(entry["size"])
    if "intrinsics" in entry:
        given["intrinsics"] = intrinsics_matrix(*(float(entry["intrinsics"][key]) for key in ("fx", "fy", "cx", "cy")))
    if "distortion" in entry:
        given["distortion"] = _distortion(entry["distortion"])
    if "line_time_us" in entry:
        given["line_time_s"] = entry["line_time_us"] / 1e6
    if old is None:
        _needed(entry, _NEW_CAMERA)
        return RigCamera(ego_from_camera=_pose(entry, np.eye(4)) @ _OPTICAL, **given)
    return replace(old, ego_from_camera=_pose(entry, old.ego_from_camera @ _OPTICAL.T) @ _OPTICAL, **given)


def _distortion(entry: Mapping[str, Any] | None) -> Distortion | None:
    if entry is None:
        return None
    given = {key: float(value) for key, value in entry.items() if key != "model"}
    takes = _MODELS[entry["model"]].__dataclass_fields__
    for key in given:
        if key not in takes:
            raise InputError(f"distortion {entry['model']} has no coefficient {key}; it takes {', '.join(takes)}")
    return _MODELS[entry["model"]](**given)


def _lidar(entry: Mapping[str, Any], old: RigLidar | None) -> RigLidar:
    given: dict[str, Any] = {key: float(entry[key]) for key in ("rate_hz", "phase_s", *_LIDAR_NUMBERS) if key in entry}
    if "columns" in entry:
        given["columns"] = entry["columns"]
    if "elevations_deg" in entry:  # the old sensor's table is for its own beams
        given |= {"elevations_deg": tuple(map(float, entry["elevations_deg"])), "offsets_m": ()}
    given["response"] = _response(entry, old)
    if old is None:
        _needed(entry, _NEW_LIDAR)
        return RigLidar(ego_from_lidar=_pose(entry, np.eye(4)), **given)
    return replace(old, ego_from_lidar=_pose(entry, old.ego_from_lidar), **given)


def _response(entry: Mapping[str, Any], old: RigLidar | None) -> Response:
    """That of `entry`, else of `old`, else an ideal one; its correction per beam only if it is for as many beams."""
    response = RESPONSES[entry["response"]] if "response" in entry else old.response if old else IDEAL
    fits = old is not None and "elevations_deg" not in entry and len(old.elevations_deg) == len(response.beam)
    return response if fits else replace(response, beam=())


def _pose(entry: Mapping[str, Any], old: np.ndarray) -> np.ndarray:
    """`(4, 4)` of axes x forward, y left, z up in the vehicle's; parts that `entry` omits are those of `old`."""
    out = np.array(old, float)
    if "position_m" in entry:
        out[:3, 3] = entry["position_m"]
    if "rotation_deg" in entry:
        yaw, pitch, roll = (np.radians(float(entry["rotation_deg"].get(key, 0))) for key in ("yaw", "pitch", "roll"))
        out[:3, :3] = yaw_matrix(yaw) @ pitch_matrix(pitch) @ roll_matrix(roll)
    return out


_OPTICAL = pose(VEHICLE_FROM_OPTICAL, np.zeros(3))
