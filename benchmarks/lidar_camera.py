"""How well lidar points meet the picture of a camera of the same rig: label, depth and object of their pixel.

    python benchmarks/lidar_camera.py --rig kitti --camera image_2 --seed 11 --places 6

Points at an object's edge do not count: for labels and objects those with another one among the eight neighbours, for
depth those whose nine pixels do not lie on one plane to 5 cm. Camera and lidar see from different places at different
times, and the range has the sensor's noise: what is left of the error is theirs. `--ideal` takes these away: the lidar
stands in the camera, its range is exact, time stands still.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import tyro

from zoo.condition import Condition
from zoo.frame import Frame
from zoo.geometry.cameras import project
from zoo.geometry.transforms import invert, transform
from zoo.synthetic.frames.render import render_rig
from zoo.synthetic.frames.world import World
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.sensors.rigs import RIGS, Rig

_AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


@dataclass(frozen=True)
class Arguments:
    """Compares lidar points with the camera pixels they fall on."""

    rig: str = "kitti"
    """Preset."""
    camera: str = "image_2"
    """Of the rig."""
    lidar: str = "velodyne"
    """Of the rig."""
    seed: int = 11
    """Of the first place."""
    places: int = 6
    """How many, one frame each."""
    exact: bool = False
    """Labels of the pixels' middles; otherwise closed fences and crowns, as the layouts write them."""
    ideal: bool = False
    """Lidar in the camera, no noise of the range, nothing moves."""


def main(arguments: Arguments) -> None:
    rig = RIGS[arguments.rig]
    camera, lidar = rig.cameras[arguments.camera], rig.lidars[arguments.lidar]
    assert camera is not None
    if arguments.ideal:
        pose = lidar.ego_from_lidar.copy()
        pose[:3, 3] = camera.ego_from_camera[:3, 3]
        lidar = dataclasses.replace(
            lidar,
            ego_from_lidar=pose,
            range_noise_m=0.0,
            range_noise_growth=0.0,
            offsets_m=(),
            straddling=0.0,
            grass=False,
        )
    rig = dataclasses.replace(rig, cameras={arguments.camera: camera}, lidars={arguments.lidar: lidar})
    names = ("label", "depth", "depth of what stands", "object")
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for seed in range(arguments.seed, arguments.seed + arguments.places):
        frame = _frame(seed, rig, arguments)
        for name, right in zip(names, _compare(frame, arguments), strict=True):
            found[name].append(right)
    for name, parts in found.items():
        shares = ", ".join(f"{100 * part.mean():.1f}" for part in parts)
        whole = np.concatenate(parts)
        print(f"{name}: {100 * whole.mean():.2f} % of {len(whole):,} points (by place: {shares})")


def _frame(seed: int, rig: Rig, arguments: Arguments) -> Frame:
    scene = describe(seed)
    if arguments.ideal:
        things = tuple(dataclasses.replace(thing, speed=0.0) for thing in scene.things)
        scene = dataclasses.replace(scene, ego_speed=0.0, things=things)
    return render_rig(World(scene), 0, rig, Condition(), exact=arguments.exact)


def _compare(frame: Frame, arguments: Arguments) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whether each point that counts meets label, depth (all; without things that can move), and object."""
    view, sweep = frame.cameras[arguments.camera], frame.lidars[arguments.lidar][0]
    assert view.intrinsics is not None
    assert view.labels is not None
    to_camera = invert(view.world_from_ego @ view.ego_from_camera) @ sweep.world_from_ego @ sweep.ego_from_lidar
    points = transform(to_camera, sweep.points[:, :3])
    pixels, _ = project(points, view.intrinsics)
    x, y = np.rint(pixels).astype(int).T
    height, width = view.labels.shape
    seen = (points[:, 2] > 1) & (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1)
    x, y, pixels, z = x[seen], y[seen], pixels[seen], points[seen, 2]

    def around(image: np.ndarray) -> np.ndarray:
        return np.stack([image[y + dy, x + dx] for dy, dx in _AROUND])

    labels, numbers, inverse = around(view.labels), around(view.instances), 1 / around(view.depth_m).astype(float)
    design = np.array([[1, dx, dy] for dy, dx in _AROUND], float)
    plane = np.linalg.pinv(design) @ inverse  # on a plane the inverse of the depth is linear in the pixel
    inside = (labels == labels[4]).all(0)
    flat = inside & (inverse > 0).all(0) & (np.abs(design @ plane - inverse) * z**2 < 0.05).all(0)
    with np.errstate(divide="ignore"):  # the sky
        depth = 1 / (plane[0] + plane[1] * (pixels[:, 0] - x) + plane[2] * (pixels[:, 1] - y))
    near = np.abs(depth - z) < 0.05
    track = sweep.instances[seen]
    thing = (numbers == numbers[4]).all(0) & (track > 0)
    same_thing = numbers[4][thing] % 1000 == track[thing]
    return (labels[4] == sweep.labels[seen])[inside], near[flat], near[flat & (track == 0)], same_thing


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
