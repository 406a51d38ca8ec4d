"""When and where frames are taken along the ego's way."""

from __future__ import annotations

from zoo.errors import InputError
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.sensors.rigs import Rig, rig_of

__all__ = ["frame_times", "longest", "stops"]

_LEAD_S = 1.0  # scene time of the first frame of a rig, so that there is time for older sweeps before it
_ROOM_M = 10.0  # metres of street left ahead of the ego vehicle in its last frame


def stops(scene: Scene, frames: int) -> list[tuple[float, float]]:
    """(seconds, metres along the street) of the ego vehicle for each frame: at most 1.6 s apart, 9 s in all."""
    first = scene.ego_start
    step = min(1.6, 9.0 / max(frames - 1, 1)) if frames > 1 else 0.0
    return [(k * step, first + scene.ego_speed * k * step) for k in range(frames)]


def longest(scene: Scene, rig: str | Rig) -> int:
    """Number of frames that `rig` can take before the ego vehicle reaches the end of the street.

    From the fastest to the slowest driver this is 23 to 89 for nuScenes and A2D2, and 114 to 441 for KITTI and Waymo.
    """
    rig = rig_of(rig)
    if rig.period_s is None or scene.ego_speed == 0:
        return 10**6
    way = scene.street.end - _ROOM_M - scene.ego_start
    return int((way / scene.ego_speed - _LEAD_S) / rig.period_s) + 1


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
    return [round(1e6 * (_LEAD_S + k * rig.period_s)) for k in range(frames)]
