"""One moment of one scene: what every reader gives and every predictor takes.

Arrays are held as they are or as a function that decodes them, and are decoded at each access: a list of thousands of
frames holds no pixels. Frames, axes and pixel centres are those of `zoo/geometry/README.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.condition import Condition
from zoo.errors import InputError

__all__ = ["ArraySource", "Box3D", "CameraFrame", "Frame", "Sweep", "frame_from_image"]

ArraySource = np.ndarray | Callable[[], np.ndarray]


def _read(source: ArraySource | None) -> np.ndarray | None:
    return source() if callable(source) else source


@dataclass(frozen=True, kw_only=True)
class CameraFrame:
    """One camera's picture with its calibration and labels.

    Attributes:
        image_source: Gives `(H, W, 3)` uint8 RGB.
        labels_source: Gives `(H, W)` uint8 class labels of the data set's class table.
        instances_source: Gives `(H, W)` int32: class id * 1000 + instance number in the coding of Cityscapes (regular
            label ids, not training ids); plain class ids where there is no instance. In the synthetic world the
            number is the `track` of the object's box.
        depth_source: Gives `(H, W)` float32 metres along the optical axis, infinity for the sky.
        invalid_source: Gives `(H, W)` bool, true where the image alone does not tell the class (ACDC).
        timestamp_us: Microseconds, the middle of the exposure.
        intrinsics: `(3, 3)` pixels; the centre of the first pixel is (0, 0).
        ego_from_camera: `(4, 4)`; the camera looks along +z, x right, y down.
        world_from_ego: `(4, 4)` pose of the vehicle at `timestamp_us`; `None`: that of the frame.
        image_path: File of the image, where there is one.
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
        """`(H, W, 3)` uint8 RGB, decoded now."""
        image = _read(self.image_source)
        assert image is not None
        return image

    @property
    def labels(self) -> np.ndarray | None:
        """`(H, W)` uint8 class labels, decoded now; `None` where there are none."""
        return _read(self.labels_source)

    @property
    def instances(self) -> np.ndarray | None:
        """`(H, W)` int32 instance ids, decoded now; `None` where there are none."""
        return _read(self.instances_source)

    @property
    def depth_m(self) -> np.ndarray | None:
        """`(H, W)` float32 metres along the optical axis, decoded now; `None` where there is none."""
        return _read(self.depth_source)

    @property
    def invalid(self) -> np.ndarray | None:
        """`(H, W)` bool mask of invalid pixels, decoded now; `None` where there is none."""
        return _read(self.invalid_source)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One turn of a lidar.

    Attributes:
        points_source: Gives `(N, 3 + C)` float32 with the columns `channels`: xyz in metres in the lidar frame of the
            moment `timestamp_us` (the vehicle's motion during the turn is taken out), then intensity and so on.
        channels: Names of the columns: `x y z intensity`, and where the sensor gives them `ring` (0: lowest beam) and
            `time_s` (seconds from `timestamp_us`, negative: earlier). Intensity is 0 to 1.
        labels_source: Gives `(N,)` uint8 class labels.
        instances_source: Gives `(N,)` int32: the `track` of the object's box, 0 where there is none.
        materials_source: Gives `(N,)` uint8 surface materials (`zoo.synthetic.shapes.surfaces.Material`); only in
            synthetic sweeps.
        timestamp_us: Microseconds, the end of the turn.
        ego_from_lidar: `(4, 4)`.
        world_from_ego: `(4, 4)` pose of the vehicle at `timestamp_us`; `None`: that of the frame.
    """

    points_source: ArraySource
    channels: tuple[str, ...] = ("x", "y", "z", "intensity")
    labels_source: ArraySource | None = None
    instances_source: ArraySource | None = None
    materials_source: ArraySource | None = None
    timestamp_us: int | None = None
    ego_from_lidar: np.ndarray | None = None
    world_from_ego: np.ndarray | None = None

    @property
    def points(self) -> np.ndarray:
        """`(N, 3 + C)` float32, decoded now."""
        points = _read(self.points_source)
        assert points is not None
        return points

    @property
    def labels(self) -> np.ndarray | None:
        """`(N,)` class labels, decoded now; `None` where there are none."""
        return _read(self.labels_source)

    @property
    def instances(self) -> np.ndarray | None:
        """`(N,)` int32 tracks, decoded now; `None` where there are none."""
        return _read(self.instances_source)

    @property
    def materials(self) -> np.ndarray | None:
        """`(N,)` uint8 materials, decoded now; `None` where there are none."""
        return _read(self.materials_source)


@dataclass(frozen=True, kw_only=True)
class Box3D:
    """An upright box around one object, in the world frame at the frame's time.

    Attributes:
        label: Class of the data set's class table.
        track: Identity, the same number in all frames of a scene; above 0.
        center: `(3,)` metres, the geometric centre.
        size: `(3,)` metres: length (along the heading), width, height.
        yaw: Radians from the world's x axis towards its y axis; 0: the object's front points along x.
        velocity: `(3,)` metres per second, world axes; `None` where unknown.
        moving: Whether it moves in the scene, rather than being parked or standing.
        visibility: Share of it that the cameras see, 0 to 1; `None` where unknown.
        num_points: Points of the newest sweeps of all lidars inside it; `None` where unknown.
        kind: What it is, finer than its class, where that is known (`van`, `cyclist`).
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
    """One moment of one scene.

    Attributes:
        id: Unique in its data set; the stem of result files.
        scene: Sequence or drive; frames of one scene are not independent.
        condition: Light and weather.
        group: Name under which results are reported (`fog`, `reference`, `day`); the condition's name by default.
        cameras: By name; most data sets here have one, `front`.
        lidars: By name, the newest sweep first.
        boxes: Objects around the vehicle; `None` where they are unknown.
        timestamp_us: Microseconds.
        world_from_ego: `(4, 4)`.
        meta: What else the reader knows and its writers need (names of files, the city).
    """

    id: str
    scene: str = ""
    condition: Condition = field(default_factory=Condition)
    group: str = ""
    cameras: Mapping[str, CameraFrame] = field(default_factory=dict)
    lidars: Mapping[str, tuple[Sweep, ...]] = field(default_factory=dict)
    boxes: tuple[Box3D, ...] | None = None
    timestamp_us: int | None = None
    world_from_ego: np.ndarray | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.condition.name)

    @property
    def camera(self) -> CameraFrame:
        """The only camera.

        Raises:
            InputError: If the frame has none or several.
        """
        if len(self.cameras) != 1:
            names = ", ".join(self.cameras) or "none"
            raise InputError(f"frame {self.id} has {len(self.cameras)} cameras ({names}); name one of them")
        return next(iter(self.cameras.values()))


def frame_from_image(image: np.ndarray, id: str = "image", labels: np.ndarray | None = None) -> Frame:
    """A frame with one camera, `front`, that holds `image`, `(H, W, 3)` uint8 RGB."""
    return Frame(id=id, cameras={"front": CameraFrame(image_source=image, labels_source=labels)})
