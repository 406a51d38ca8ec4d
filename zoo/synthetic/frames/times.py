"""When and where frames are taken along the ego's way."""

from __future__ import annotations

import numpy as np

from zoo.errors import InputError
from zoo.synthetic.scene.network import Drive
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.sensors.rigs import Rig, rig_of

__all__ = ["clock_us", "drive_length", "drive_times", "frame_times", "longest", "stops"]

_LEAD_S = 1.0  # scene time of the first frame of a rig, so that there is time for older sweeps before it
_ROOM_M = 10.0  # metres of street left ahead of the ego vehicle in its last frame


def stops(scene: Scene, frames: int) -> list[tuple[float, float]]:
    """(seconds, metres along the street) of the ego vehicle for each frame: at most 1.6 s apart, 9 s in all."""
    step = min(1.6, 9.0 / max(frames - 1, 1)) if frames > 1 else 0.0
    times = np.arange(frames) * step
    return list(zip(times.tolist(), scene.ego_along(times).tolist()))


def longest(scene: Scene, rig: str | Rig) -> int:
    """Number of frames that `rig` can take before the ego vehicle reaches the end of the street.

    It depends on how fast the ego vehicle drives and on how long it waits in queues and at signals.
    """
    rig = rig_of(rig)
    stop = scene.street.end - _ROOM_M
    if rig.period_s is None or (scene.ego_speed == 0 and scene.ego_way is None):
        return 10**6
    if scene.ego_way is None:
        arrival = (stop - scene.ego_start) / scene.ego_speed
    else:
        s = np.asarray(scene.ego_way.s)
        passed = np.nonzero(s >= stop)[0]
        arrival = scene.ego_way.times_s[max(int(passed[0]) - 1, 0) if len(passed) else -1]
    return int((arrival - _LEAD_S) / rig.period_s) + 1


def frame_times(scene: Scene, rig: Rig, frames: int) -> list[int]:
    """Scene times of the first `frames` frames in microseconds.

    Raises:
        InputError: If the ego vehicle would leave the street.
    """
    if rig.period_s is None:
        return [int(time_s * 1e6) for time_s, _ in stops(scene, frames)]
    most = longest(scene, rig)
    if frames > most:
        raise InputError(
            f"{frames} frames of rig {rig.name!r}, {rig.period_s} s apart, are more than the {most} that fit into the "
            f"street of place {scene.seed}; ask for fewer frames of more places"
        )
    return [clock_us(rig, k) for k in range(frames)]


def drive_length(seconds: float, rig: Rig) -> int:
    """Number of frames that `rig` takes during a drive of so many seconds.

    Raises:
        InputError: If the rig has no clock.
    """
    if rig.period_s is None:
        raise InputError(f"drive: the frames of rig {rig.name!r} follow no clock; choose another rig")
    return max(int(seconds / rig.period_s + 1e-6), 1)


def drive_times(drive: Drive, rig: Rig, frames: int) -> list[int]:
    """Scene times of the first `frames` frames of a drive in microseconds.

    Raises:
        InputError: If the drive is shorter, or the rig has no clock.
    """
    most = drive_length(drive.seconds, rig)
    if frames > most:
        raise InputError(
            f"{frames} frames of rig {rig.name!r}, {rig.period_s} s apart, are more than the {most} of a drive of "
            f"{drive.seconds:g} s; ask for fewer frames or a longer drive"
        )
    return [clock_us(rig, k) for k in range(frames)]


def clock_us(rig: Rig, index: int) -> int:
    """Scene time in microseconds of frame `index` of a rig with a clock."""
    assert rig.period_s is not None
    return round(1e6 * (_LEAD_S + index * rig.period_s))
