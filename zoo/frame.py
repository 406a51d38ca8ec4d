"""The sensor data of one moment: what data set readers produce and predictors consume.

An array is stored either directly or as a function that decodes it on every access, so a list of thousands of frames
holds no pixels in memory. Coordinate frames, axes and pixel centres follow `zoo/geometry/README.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.condition import Condition
from zoo.errors import InputError

__all__ = ["AXES", "ArraySource", "Axis", "Box3D", "CameraFrame", "Frame", "SensorFacts", "Sweep", "frame_from_image"]

ArraySource = np.ndarray | Callable[[], np.ndarray]
Axis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]
AXES: tuple[Axis, ...] = ("+z", "-z", "+x", "-x", "+y", "-y")


def _read(source: ArraySource | None) -> np.ndarray | None:
    return source() if callable(source) else source


@dataclass(frozen=True, kw_only=True)
class CameraFrame:
    """One camera image with its calibration and ground truth.

    Attributes:
        image_source: Returns `(H, W, 3)` uint8 RGB.
        labels_source: Returns `(H, W)` uint8 class labels of the data set's class table.
        instances_source: Returns `(H, W)` int32: class id * 1000 + instance number, as Cityscapes encodes it (regular
            label ids, not training ids); plain class ids for pixels without an instance. In the synthetic world the
            number is the `track` of the object's box.
        depth_source: Returns `(H, W)` float32 metres along the optical axis, infinity for the sky.
        invalid_source: Returns `(H, W)` bool, true where the class cannot be recognised from the image alone (ACDC).
        timestamp_us: Middle of the exposure, in microseconds.
        intrinsics: `(3, 3)` in pixels; (0, 0) is the centre of the first pixel.
        ego_from_camera: `(4, 4)`; camera axes: x right, y down, z forward.
        world_from_ego: `(4, 4)` vehicle pose at `timestamp_us`; `None` means the pose of the frame.
        image_path: Image file, if the image comes from one.
    """

    image_source: ArraySource
    labels_source: ArraySource | None = None
    instances_source: ArraySource | None = None
    depth_source: ArraySource | None = None
    invalid_source: ArraySource | None = None
    timestamp_us: int | None = None
    intrinsics: np.ndarray | None = None
    ego_from_camera: np.ndarray | None = None
    world_from_ego: np.ndarray | None = None
    image_path: Path | None = None

    @property
    def image(self) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB, decoded on access."""
        image = _read(self.image_source)
        assert image is not None
        return image

    @property
    def labels(self) -> np.ndarray | None:
        """`(H, W)` uint8 class labels, decoded on access; `None` if the frame has none."""
        return _read(self.labels_source)

    @property
    def instances(self) -> np.ndarray | None:
        """`(H, W)` int32 instance ids, decoded on access; `None` if the frame has none."""
        return _read(self.instances_source)

    @property
    def depth_m(self) -> np.ndarray | None:
        """`(H, W)` float32 metres along the optical axis, decoded on access; `None` if the frame has none."""
        return _read(self.depth_source)

    @property
    def invalid(self) -> np.ndarray | None:
        """`(H, W)` bool mask of invalid pixels, decoded on access; `None` if the frame has none."""
        return _read(self.invalid_source)


@dataclass(frozen=True, kw_only=True)
class SensorFacts:
    """What is known about the lidar behind a sweep; `None` means that the source does not say.

    Readers fill in what the data set's publisher states or its calibration holds, and guess nothing. Models compare
    these facts with what they were trained on.

    Attributes:
        beams: Number of beams, 64 for a Velodyne HDL-64E.
        height_m: Height of the sensor above the ground.
        max_range_m: Range up to which the publisher calls the points usable.
        intensity_scale: Scale of the intensities in the file. Those of a `Sweep` are always 0 to 1.
        forward: Axis of the lidar frame that points in the direction of travel. Readers keep the axes of the file.
        left: Axis of the lidar frame that points to the left.
        up: Axis of the lidar frame that points up.
        coverage_deg: Horizontal field of view.
        points: Typical number of points of a sweep.
        sweeps: Number of revolutions that the points of one sweep were merged from.
    """

    beams: int | None = None
    height_m: float | None = None
    max_range_m: float | None = None
    intensity_scale: Literal["0-1", "0-255"] | None = None
    forward: Axis | None = None
    left: Axis | None = None
    up: Axis | None = None
    coverage_deg: float | None = None
    points: int | None = None
    sweeps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One lidar sweep.

    Attributes:
        points_source: Returns `(N, 3 + C)` float32 with the columns `channels`: xyz in metres in the lidar frame at
            `timestamp_us` (compensated for the motion of the vehicle during the sweep), then intensity and so on.
        channels: Names of the columns: `x y z intensity`, and if the sensor reports them `ring` (0 is the lowest beam)
            and `time_s` (seconds relative to `timestamp_us`, negative is earlier). Intensity is 0 to 1.
        labels_source: Returns `(N,)` uint8 class labels.
        instances_source: Returns `(N,)` int32, the `track` of the object's box or 0.
        materials_source: Returns `(N,)` uint8 surface materials (`zoo.synthetic.shapes.surfaces.Material`); only
            in synthetic sweeps.
        timestamp_us: End of the sweep, in microseconds.
        ego_from_lidar: `(4, 4)`.
        world_from_ego: `(4, 4)` vehicle pose at `timestamp_us`; `None` means the pose of the frame.
        sensor: What is known about the lidar; `None` if nothing is.
    """

    points_source: ArraySource
    channels: tuple[str, ...] = ("x", "y", "z", "intensity")
    labels_source: ArraySource | None = None
    instances_source: ArraySource | None = None
    materials_source: ArraySource | None = None
    timestamp_us: int | None = None
    ego_from_lidar: np.ndarray | None = None
    world_from_ego: np.ndarray | None = None
    sensor: SensorFacts | None = None

    @property
    def points(self) -> np.ndarray:
        """`(N, 3 + C)` float32, decoded on access."""
        points = _read(self.points_source)
        assert points is not None
        return points

    @property
    def labels(self) -> np.ndarray | None:
        """`(N,)` class labels, decoded on access; `None` if the sweep has none."""
        return _read(self.labels_source)

    @property
    def instances(self) -> np.ndarray | None:
        """`(N,)` int32 tracks, decoded on access; `None` if the sweep has none."""
        return _read(self.instances_source)

    @property
    def materials(self) -> np.ndarray | None:
        """`(N,)` uint8 materials, decoded on access; `None` if the sweep has none."""
        return _read(self.materials_source)


@dataclass(frozen=True, kw_only=True)
class Box3D:
    """The upright box around one object, in the world frame at the time of the frame.

    Attributes:
        label: Class of the data set's class table.
        track: Identity of the object, a positive number that stays the same in all frames of a scene.
        center: `(3,)` metres, the geometric centre.
        size: `(3,)` metres: length along the heading, width, height.
        yaw: Heading in radians, from the world's x axis towards its y axis.
        velocity: `(3,)` metres per second along the world axes; `None` if unknown.
        moving: Whether the object moves during the scene.
        visibility: Fraction of the object that the cameras see, 0 to 1; `None` if unknown.
        num_points: Number of points inside the box, from the newest sweep of each lidar; `None` if unknown.
        kind: A finer description than the class, if known (`van`, `cyclist`).
    """

    label: int
    track: int
    center: np.ndarray
    size: np.ndarray
    yaw: float
    velocity: np.ndarray | None = None
    moving: bool = False
    visibility: float | None = None
    num_points: int | None = None
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """All sensor data of one moment.

    Attributes:
        id: Unique in its data set; names the files of results.
        scene: Sequence or drive. Frames of one scene are not statistically independent.
        condition: Light and weather.
        group: Group under which results are reported (`fog`, `reference`, `day`); by default the name of the condition.
        cameras: Images by camera name; most data sets here have only `front`.
        lidars: Sweeps by lidar name, newest first.
        boxes: Objects around the vehicle; `None` if they are not annotated.
        timestamp_us: Microseconds.
        world_from_ego: `(4, 4)`.
        meta: Anything else that layout writers need, such as file names or the city.
    """

    id: str
    scene: str = ""
    condition: Condition = field(default_factory=Condition)
    group: str = ""
    cameras: Mapping[str, CameraFrame] = field(default_factory=dict)
    lidars: Mapping[str, tuple[Sweep, ...]] = field(default_factory=dict)
    boxes: Sequence[Box3D] | None = None
    timestamp_us: int | None = None
    world_from_ego: np.ndarray | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.condition.name)

    @property
    def camera(self) -> CameraFrame:
        """The camera of a frame that has exactly one.

        Raises:
            InputError: If the frame has no camera or several.
        """
        if len(self.cameras) != 1:
            names = ", ".join(self.cameras) or "none"
            raise InputError(
                f"frame {self.id} has {len(self.cameras)} cameras ({names}), expected one; use frame.cameras[NAME]"
            )
        return next(iter(self.cameras.values()))


def frame_from_image(image: np.ndarray, id: str = "image", labels: np.ndarray | None = None) -> Frame:
    """A frame whose only camera, `front`, holds `image`, `(H, W, 3)` uint8 RGB."""
    return Frame(id=id, cameras={"front": CameraFrame(image_source=image, labels_source=labels)})
