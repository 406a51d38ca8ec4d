"""Sensor rigs of the ego vehicle: which cameras and lidars there are, where they are mounted, and when they fire.

| rig | cameras | lidars | frames every |
| --- | --- | --- | --- |
| `camera` | `front`: a different one in every place | none | see `frames.times.stops` |
| `kitti` | `image_2`, `image_3`: 1242x375, 0.53 m apart | `velodyne`: 64 beams, 10 Hz | 0.1 s |
| `a2d2` | `front_center`: 1920x1208, 30 Hz | five of 16 beams, 10 Hz, 20 ms apart | 0.5 s |
| `nuscenes` | six: 1600x900, 12 Hz | `LIDAR_TOP`: 32 beams, 20 Hz | 0.5 s |
| `waymo` | five: 1920x1280 and 1920x886, 10 Hz | `TOP`: 64 beams, 10 Hz | 0.1 s |

All clocks run freely from scene time 0: a camera fires, and a sweep of a lidar ends, at `phase_s + n / rate_hz`. A
frame holds the picture of each camera that is nearest in time, and the newest complete sweep of each lidar.

Source: calibration files of KITTI (drive 2011_09_26), nuScenes (scene 0061) and A2D2 (`cams_lidars.json`); data sheets
of the HDL-64E, HDL-32E and VLP-16; the Waymo poses are round numbers based on its paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zoo.errors import InputError, closest
from zoo.geometry.cameras import VEHICLE_FROM_OPTICAL, intrinsics_matrix, scale_intrinsics
from zoo.geometry.distortion import Distortion
from zoo.geometry.distortion import check as check_distortion
from zoo.geometry.transforms import pose, rotation_from_quaternion, yaw_matrix
from zoo.synthetic.sensors.response import HDL_32E, HDL_64E, IDEAL, Response

__all__ = ["RIGS", "Rig", "RigCamera", "RigLidar", "rig_of"]

_LONGEST_READOUT_S = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class RigCamera:
    """A camera.

    Attributes:
        intrinsics: `(3, 3)` pixels for `size`; the centre of the first pixel is (0, 0).
        size: (height, width).
        ego_from_camera: `(4, 4)`; the camera looks along +z, x right, y down.
        rate_hz: Pictures per second.
        phase_s: Time of the middle of one exposure.
        distortion: Of the lens; `None`: a pinhole.
        line_time_s: Seconds from one row's exposure to the next one's, top row first; 0: all rows at once. It belongs
            to `size`: in smaller pictures the rows take as long together.
    """

    intrinsics: np.ndarray
    size: tuple[int, int]
    ego_from_camera: np.ndarray
    rate_hz: float = 10.0
    phase_s: float = 0.0
    distortion: Distortion | None = None
    line_time_s: float = 0.0

    def __post_init__(self) -> None:
        _check_positive("camera", rate_hz=self.rate_hz)
        if np.shape(self.intrinsics) != (3, 3) or np.shape(self.ego_from_camera) != (4, 4):
            raise InputError(
                f"camera with intrinsics {np.shape(self.intrinsics)} and pose {np.shape(self.ego_from_camera)}; "
                "they must be (3, 3) and (4, 4)"
            )
        if self.distortion is not None:
            check_distortion(self.distortion, np.asarray(self.intrinsics, float), self.size)
        readout = self.line_time_s * self.size[0]
        if not 0 <= readout <= _LONGEST_READOUT_S:
            raise InputError(
                f"line_time_s {self.line_time_s} of a camera with {self.size[0]} rows: they take {readout:g} s "
                f"together; the sum must lie in 0 to {_LONGEST_READOUT_S} s"
            )

    def intrinsics_at(self, size: tuple[int, int]) -> np.ndarray:
        """`(3, 3)` pixels of the same view in `size` (height, width); pixels are oblong where the aspect differs."""
        return scale_intrinsics(self.intrinsics, self.size, size)

    def line_time_at(self, size: tuple[int, int]) -> float:
        """Seconds from row to row in pictures of `size` (height, width)."""
        return self.line_time_s * self.size[0] / size[0]

    def time_us(self, near_us: int) -> int:
        """Microseconds of the exposure nearest to `near_us`, the earlier one of a tie."""
        count = np.ceil((near_us * 1e-6 - self.phase_s) * self.rate_hz - 0.5 - 1e-7)
        return round(1e6 * (self.phase_s + float(count) / self.rate_hz))


@dataclass(frozen=True, kw_only=True, eq=False)
class RigLidar:
    """A spinning lidar; seen from above it turns clockwise.

    Attributes:
        elevations_deg: Of the beams, the lowest first; the index in this list is a point's `ring`.
        columns: Firings per revolution.
        ego_from_lidar: `(4, 4)`; x forward, y left, z up, even if the data set's own axes differ.
        rate_hz: Revolutions per second.
        phase_s: Scene time at which a sweep ends.
        start_deg: Azimuth at which a sweep begins and ends, from x towards y.
        max_range_m: Of the farthest return.
        min_range_m: Of the nearest return.
        range_noise_m: Standard deviation of the range.
        intensity_noise: Standard deviation of the intensity, relative.
        dropout: Share of returns that are lost at random.
        response: What it reports as intensity.
        offsets_m: Height of each beam's start above the lidar's origin; empty: 0 for all.
        range_noise_growth: What is added to the deviation of the range per metre, in squares.
        straddling: Share of rays at an edge that return a mixture of what is on both sides.
        grass: Whether beams end above the ground in grass.
        vehicle: What it sees of its own vehicle: (x of the middle from the vehicle's origin, length, width, height) in
            metres; `None`: nothing.
    """

    elevations_deg: tuple[float, ...]
    columns: int
    ego_from_lidar: np.ndarray
    rate_hz: float = 10.0
    phase_s: float = 0.0
    start_deg: float = 180.0
    max_range_m: float = 120.0
    min_range_m: float = 0.9
    range_noise_m: float = 0.02
    intensity_noise: float = 0.05
    dropout: float = 0.01
    response: Response = IDEAL
    offsets_m: tuple[float, ...] = ()
    range_noise_growth: float = 0.0
    straddling: float = 0.0
    grass: bool = False
    vehicle: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        _check_positive("lidar", rate_hz=self.rate_hz, columns=self.columns, max_range_m=self.max_range_m)
        if not self.elevations_deg or list(self.elevations_deg) != sorted(self.elevations_deg):
            raise InputError("elevations_deg of a lidar must hold at least one angle, the lowest first")
        if np.shape(self.ego_from_lidar) != (4, 4):
            raise InputError(f"lidar with a pose of shape {np.shape(self.ego_from_lidar)}; it must be (4, 4)")
        beams = len(self.elevations_deg)
        for name, values in (("offsets_m", self.offsets_m), ("response.beam", self.response.beam)):
            if values and len(values) != beams:
                raise InputError(
                    f"{name} of a lidar holds {len(values)} numbers for {beams} beams; give one per beam or none"
                )
        if self.vehicle is not None:
            _check_positive("lidar's vehicle", **dict(zip(("length", "width", "height"), self.vehicle[1:])))
        for name in (
            "range_noise_m",
            "range_noise_growth",
            "intensity_noise",
            "dropout",
            "min_range_m",
            "straddling",
        ):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} {getattr(self, name)} of a lidar is negative")

    @property
    def beam_offsets(self) -> np.ndarray:
        """`(B,)` metres, `offsets_m` or zeros."""
        return np.asarray(self.offsets_m) if self.offsets_m else np.zeros(len(self.elevations_deg))

    def turn_ends_us(self, until_us: int, count: int) -> list[int]:
        """Microseconds at which the last `count` sweeps that are complete by `until_us` end, the newest first."""
        newest = np.floor((until_us * 1e-6 - self.phase_s) * self.rate_hz + 1e-6)
        return [round(1e6 * (self.phase_s + (float(newest) - k) / self.rate_hz)) for k in range(count)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rig:
    """A set of sensors.

    Attributes:
        name: Of the rig.
        cameras: By name; `None` is the camera that is drawn for each place, with its bonnet and without a clock.
        lidars: By name.
        period_s: Seconds between frames; `None`: as far apart as `frames.times.stops` puts them.
    """

    name: str
    cameras: Mapping[str, RigCamera | None]
    lidars: Mapping[str, RigLidar]
    period_s: float | None

    def __post_init__(self) -> None:
        if not self.cameras and not self.lidars:
            raise InputError(f"rig {self.name!r} has no sensor; give it at least one camera or lidar")
        if self.period_s is not None:
            _check_positive(f"rig {self.name!r}", period_s=self.period_s)

    def sizes(self, size: tuple[int, int] | None) -> dict[str, tuple[int, int]]:
        """(height, width) of every camera if the first one has `size`; the others are scaled by the same factors."""
        own = {name: (256, 512) if camera is None else camera.size for name, camera in self.cameras.items()}
        if size is None or not own:
            return own
        first = next(iter(own.values()))
        return {name: (round(size[0] * h / first[0]), round(size[1] * w / first[1])) for name, (h, w) in own.items()}


def _check_positive(what: str, **values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{name} {value} of the {what} is not positive")


def _camera_rig() -> Rig:
    return Rig(name="camera", cameras={"front": None}, lidars={}, period_s=None)


_HDL_64E_DEG = (
    *(-25.0, -24.5, -23.97, -23.32, -22.86, -22.44, -21.93, -21.32, -20.79, -20.22, -19.74, -19.32, -18.8, -18.32),
    *(-17.73, -17.19, -16.55, -16.18, -15.66, -15.19, -14.6, -14.05, -13.48, -13.04, -12.56, -12.11, -11.6, -10.96),
    *(-10.47, -10.06, -9.57, -9.03, -8.71, -8.31, -8.06, -7.68, -7.29, -7.0, -6.68, -6.33, -5.96, -5.61, -5.25, -4.91),
    *(-4.59, -4.22, -3.94, -3.54, -3.24, -2.87, -2.55, -2.21, -1.83, -1.49, -1.2, -0.8, -0.45, -0.09, 0.18, 0.58),
    *(0.87, 1.3, 1.57, 1.94),
)
"""Beams of KITTI's HDL-64E. In a file of the object data set the points of a ring lie on a cone to within 0.1 mm per
metre: these are its angles, and `_HDL_64E_OFFSETS_M` the heights of its tip. Seen from the origin, the highest beam
points 2.8 degrees up where it hits something 14 m away."""
_HDL_64E_OFFSETS_M = tuple(
    round(0.1309 + 0.0006 * angle if angle < -8.9 else 0.2065 + 0.00106 * angle, 4) for angle in _HDL_64E_DEG
)


def _kitti() -> Rig:
    # The Velodyne is mounted 0.81 m ahead of the origin and 1.73 m above the road, the cameras 0.27 m ahead of it and
    # 0.08 m below it; image_2 is 0.06 m to the left of the reference camera, image_3 0.47 m to the right. A sweep ends
    # just right of the cameras' view, which is therefore scanned last, and the pictures are taken at that moment: the
    # calibration relates the two without the vehicle's motion, as it does in KITTI.
    k = intrinsics_matrix(721.5377, 721.5377, 609.5593, 172.854)
    return Rig(
        name="kitti",
        cameras={
            name: RigCamera(intrinsics=k, size=(375, 1242), ego_from_camera=pose(VEHICLE_FROM_OPTICAL, (1.08, y, 1.65)))
            for name, y in (("image_2", 0.06), ("image_3", -0.47))
        },
        lidars={
            "velodyne": RigLidar(
                elevations_deg=_HDL_64E_DEG,
                offsets_m=_HDL_64E_OFFSETS_M,
                columns=2160,
                ego_from_lidar=pose(np.eye(3), (0.81, 0.0, 1.73)),
                start_deg=-50.0,
                dropout=0.03,
                max_range_m=80.0,
                range_noise_m=0.008,
                range_noise_growth=0.0005,
                intensity_noise=0.0,
                straddling=0.5,
                grass=True,
                response=HDL_64E,
            )
        },
        period_s=0.1,
    )


def _from_view(x_axis: tuple[float, float, float], y_axis: tuple[float, float, float]) -> np.ndarray:
    """`(3, 3)` vehicle axes from those of a view in A2D2, which is given as an x axis and an approximate y axis."""
    x = np.array(x_axis) / np.linalg.norm(x_axis)
    y = np.array(y_axis) - x * float(np.dot(x, y_axis))
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], 1)


def _a2d2() -> Rig:
    # The vehicle's origin in `cams_lidars.json` is 0.75 m above the road (`ego-dimensions`).
    up = 0.75
    views = {
        "front_center": (
            (1.71840, 0.0, 1.12014),
            (-0.00784089, -0.99992758, -0.00912956),
            (0.98072, -0.00590690, -0.19532736),
        ),
        "front_left": (
            (1.71155, 0.63093, 1.11836),
            (0.99971818, -0.02247155, -0.00765499),
            (0.01357754, 0.80574335, -0.59210919),
        ),
        "front_right": (
            (1.70572, -0.65463, 1.11621),
            (-0.99986104, 0.01066232, 0.01281486),
            (-0.01623087, -0.79801374, -0.60242064),
        ),
        "rear_left": (
            (-0.43095, 0.58801, 1.14796),
            (0.94293954, -0.00744130, 0.33288082),
            (0.09087819, 0.96754336, -0.23579866),
        ),
        "rear_right": (
            (-0.43359, -0.60503, 1.11864),
            (-0.94610566, 0.02227804, -0.32309097),
            (0.06774258, -0.96194864, -0.26469936),
        ),
    }
    lidars = {}
    for k, (name, (at, x_axis, y_axis)) in enumerate(views.items()):
        # Keep the tilt of the view, but turn it about its own z axis so that x points forward.
        up_axis = _from_view(x_axis, y_axis)[:, 2]
        forward = np.array([1.0, 0, 0]) - up_axis * up_axis[0]
        forward /= np.linalg.norm(forward)
        rotation = np.stack([forward, np.cross(up_axis, forward), up_axis], 1)
        lidars[name] = RigLidar(
            elevations_deg=tuple(np.arange(-15.0, 15.1, 2.0).tolist()),
            columns=1800,
            ego_from_lidar=pose(rotation, (at[0], at[1], at[2] + up)),
            phase_s=-0.02 * k,
            start_deg=-60.0,
            max_range_m=100.0,
            range_noise_m=0.015,
        )
    view = _from_view((0.99975958, 0.02137218, -0.00490014), (-0.02148264, 0.99948777, -0.02372100))
    camera = RigCamera(
        intrinsics=intrinsics_matrix(1687.337, 1783.428, 965.434, 684.419),
        size=(1208, 1920),
        ego_from_camera=pose(view @ VEHICLE_FROM_OPTICAL, (1.71105, 0.0, 0.94314 + up)),
        rate_hz=30.0,
        phase_s=0.005,
    )
    return Rig(name="a2d2", cameras={"front_center": camera}, lidars=lidars, period_s=0.5)


def _nuscenes() -> Rig:
    rows = {
        "CAM_FRONT": (
            (1.7008, 0.0159, 1.5110),
            (0.49980154, -0.50303162, 0.49977980, -0.49737084),
            1266.417,
            816.267,
            491.507,
            -0.0369,
        ),
        "CAM_FRONT_RIGHT": (
            (1.5508, -0.4934, 1.4957),
            (0.20603480, -0.20269406, 0.68245078, -0.67136111),
            1260.847,
            807.968,
            495.334,
            -0.0290,
        ),
        "CAM_BACK_RIGHT": (
            (1.0149, -0.4806, 1.5624),
            (0.12280980, -0.13240084, -0.70043058, 0.69049603),
            1259.514,
            807.253,
            501.196,
            -0.0215,
        ),
        "CAM_BACK": (
            (0.0283, 0.0035, 1.5791),
            (0.50378727, -0.49740250, -0.49418502, 0.50454955),
            809.221,
            829.220,
            481.778,
            -0.0119,
        ),
        "CAM_BACK_LEFT": (
            (1.0357, 0.4848, 1.5910),
            (0.69241856, -0.70316194, -0.11648343, 0.11203318),
            1256.741,
            792.113,
            492.776,
            -0.0020,
        ),
        "CAM_FRONT_LEFT": (
            (1.5239, 0.4946, 1.5093),
            (0.67572650, -0.67362665, 0.21214015, -0.21122827),
            1272.598,
            826.615,
            479.752,
            -0.0445,
        ),
    }
    cameras: dict[str, RigCamera | None] = {
        name: RigCamera(
            intrinsics=intrinsics_matrix(f, f, cx, cy),
            size=(900, 1600),
            ego_from_camera=pose(rotation_from_quaternion(turn), at),
            rate_hz=12.0,
            phase_s=phase,
        )
        for name, (at, turn, f, cx, cy, phase) in rows.items()
    }
    # nuScenes gives the pose of axes that are x right, y forward; ours are turned by 90 degrees about z.
    turn = rotation_from_quaternion((0.70779551, -0.00649224, 0.01064621, -0.70630729)) @ yaw_matrix(np.radians(90.0))
    lidar = RigLidar(
        elevations_deg=tuple(np.linspace(-30.67, 10.67, 32).tolist()),
        columns=1084,
        ego_from_lidar=pose(turn, (0.943713, 0.0, 1.84023)),
        rate_hz=20.0,
        start_deg=95.0,
        max_range_m=100.0,
        min_range_m=0.4,
        range_noise_m=0.0045,
        range_noise_growth=0.0005,
        intensity_noise=0.0,
        straddling=0.5,
        grass=True,
        vehicle=(1.3, 4.08, 1.8, 1.54),  # a small car whose roof is 0.3 m below the lidar
        response=HDL_32E,
    )
    return Rig(name="nuscenes", cameras=cameras, lidars={"LIDAR_TOP": lidar}, period_s=0.5)


def _waymo() -> Rig:
    cameras: dict[str, RigCamera | None] = {}
    for name, yaw, at, height in (
        ("FRONT", 0.0, (1.54, 0.0, 2.12), 1280),
        ("FRONT_LEFT", 45.0, (1.49, 0.10, 2.12), 1280),
        ("FRONT_RIGHT", -45.0, (1.49, -0.10, 2.12), 1280),
        ("SIDE_LEFT", 90.0, (1.43, 0.12, 2.12), 886),
        ("SIDE_RIGHT", -90.0, (1.43, -0.12, 2.12), 886),
    ):
        # Each camera fires when the lidar, which turns clockwise, passes the middle of its view.
        phase = -((yaw + 85.0) % 360.0) / 3600.0
        cameras[name] = RigCamera(
            intrinsics=intrinsics_matrix(2055.0, 2055.0, 959.5, (height - 1) / 2),
            size=(height, 1920),
            ego_from_camera=pose(yaw_matrix(np.radians(yaw)) @ VEHICLE_FROM_OPTICAL, at),
            phase_s=phase,
        )
    lidar = RigLidar(
        elevations_deg=tuple(np.linspace(-17.6, 2.4, 64).tolist()),
        columns=2650,
        ego_from_lidar=pose(np.eye(3), (1.43, 0.0, 2.18)),
        start_deg=-85.0,
        max_range_m=75.0,
        min_range_m=1.5,
    )
    return Rig(name="waymo", cameras=cameras, lidars={"TOP": lidar}, period_s=0.1)


RIGS: dict[str, Rig] = {rig.name: rig for rig in (_camera_rig(), _kitti(), _a2d2(), _nuscenes(), _waymo())}
"""Presets by name."""


def rig_of(rig: str | Rig) -> Rig:
    """The preset of this name, or `rig` itself.

    Raises:
        InputError: If there is no rig of that name.
    """
    if isinstance(rig, Rig):
        return rig
    if rig not in RIGS:
        raise InputError(f"unknown rig {rig!r}{closest(rig, RIGS)}; known: {', '.join(RIGS)}")
    return RIGS[rig]
