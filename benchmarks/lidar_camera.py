"""Checks how well lidar points agree with the camera image of the same rig in label, depth and object.

    python benchmarks/lidar_camera.py --rig kitti --camera image_2 --seed 11 --places 6

Points at object boundaries are excluded: for labels and objects, points whose pixel has a neighbour (of eight) with a
different value; for depth, points whose nine pixels do not lie on a plane to within 5 cm. The remaining errors are due
to parallax, the time offset between camera and lidar, and range noise. `--ideal` removes all three: the lidar is placed
at the camera, its range is exact, and nothing moves.
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
    """Compares lidar points with the camera pixels that they project to."""

    rig: str = "kitti"
    """Sensor rig."""
    camera: str = "image_2"
    """Camera of the rig."""
    lidar: str = "velodyne"
    """Lidar of the rig."""
    seed: int = 11
    """Seed of the first place."""
    places: int = 6
    """Number of places, one frame each."""
    exact: bool = False
    """Label pixels by the ray through their centre, instead of closing fences and crowns as the layouts do."""
    ideal: bool = False
    """Place the lidar at the camera, without range noise or motion."""


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
    names = ("label", "depth", "depth, static points", "object")
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
        scene = scene.at_rest()
    return render_rig(World(scene), 0, rig, Condition(), exact=arguments.exact)


def _compare(frame: Frame, arguments: Arguments) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whether each included point agrees in label, in depth (all points, then static points only), and in object."""
    view, sweep = frame.cameras[arguments.camera], frame.lidars[arguments.lidar][0]
    assert view.intrinsics is not None
    assert view.labels is not None
    to_camera = invert(view.world_from_ego @ view.ego_from_camera) @ sweep.world_from_ego @ sweep.ego_from_lidar
    points = transform(to_camera, sweep.points[:, :3])
    pixels, _ = project(points, view.intrinsics, distortion=view.distortion)
    x, y = np.rint(pixels).astype(int).T
    height, width = view.labels.shape
    seen = (points[:, 2] > 1) & (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1)
    x, y, pixels, z = x[seen], y[seen], pixels[seen], points[seen, 2]

    def around(image: np.ndarray) -> np.ndarray:
        return np.stack([image[y + dy, x + dx] for dy, dx in _AROUND])

    labels, numbers, inverse = around(view.labels), around(view.instances), 1 / around(view.depth_m).astype(float)
    design = np.array([[1, dx, dy] for dy, dx in _AROUND], float)
    plane = np.linalg.pinv(design) @ inverse  # on a plane, inverse depth is linear in the pixel coordinates
    inside = (labels == labels[4]).all(0)
    flat = inside & (inverse > 0).all(0) & (np.abs(design @ plane - inverse) * z**2 < 0.05).all(0)
    with np.errstate(divide="ignore"):  # inverse depth is 0 in the sky
        depth = 1 / (plane[0] + plane[1] * (pixels[:, 0] - x) + plane[2] * (pixels[:, 1] - y))
    near = np.abs(depth - z) < 0.05
    track = sweep.instances[seen]
    thing = (numbers == numbers[4]).all(0) & (track > 0)
    same_thing = numbers[4][thing] % 1000 == track[thing]
    return (labels[4] == sweep.labels[seen])[inside], near[flat], near[flat & (track == 0)], same_thing


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
