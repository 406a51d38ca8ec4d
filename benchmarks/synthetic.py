"""Seconds per frame of the synthetic street world on one core, part by part.

    python benchmarks/synthetic.py --scenes 4 --size 256 512
    python benchmarks/synthetic.py --scenes 4 --size 512 1024 --sweep

CPU seconds of the process, so that other work on the machine counts little (it still takes caches and memory). The peer
is Embree alone: the frame's own rays through pixel middles, traced and nothing else.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np
import tyro

from zoo.condition import CONDITIONS, Condition
from zoo.frame import Frame
from zoo.geometry.cameras import pixel_rays
from zoo.synthetic.frames.render import render_rig, render_world
from zoo.synthetic.frames.times import stops
from zoo.synthetic.frames.world import World
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.sensors.rigs import RIGS

_UP = np.array([[0.0, 0.0, 1.0]], np.float32)


@dataclass(frozen=True)
class Arguments:
    """Times the synthetic world."""

    scenes: int = 4
    """Places."""
    frames: int = 3
    """Frames per place, in clear weather, each at its own time."""
    size: tuple[int, int] = (256, 512)
    """Height and width."""
    seed: int = 1000
    """Of the first place."""
    sweep: bool = False
    """Adds boxes and a turn of KITTI's 64-beam lidar to each frame."""
    conditions: bool = False
    """Times a frame of each condition as well."""


def main(arguments: Arguments) -> None:
    kitti = RIGS["kitti"]
    rig = dataclasses.replace(kitti, name="one-camera", cameras={"image_2": kitti.cameras["image_2"]})

    def render(world: World, k: int, condition: Condition) -> Frame:
        if arguments.sweep:
            return render_rig(world, k, rig, condition, arguments.size)
        return render_world(world, k, *way[k], condition, arguments.size)

    clock = time.process_time
    parts: dict[str, list[float]] = {name: [] for name in ("describe", "triangles", "tree", "first", "frame", "rays")}
    by_condition: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    triangles = []
    for seed in range(arguments.seed - 1, arguments.seed + arguments.scenes):  # the first one fills the caches
        times = [clock()]
        scene = describe(seed)
        times.append(clock())
        world = World(scene)
        times.append(clock())
        mesh, tree = world.still
        tree.run(100 * _UP, _UP)
        times.append(clock())
        way = stops(scene, arguments.frames + 1)
        frames = []
        for k in range(arguments.frames + 1):
            frames.append(render(world, k, Condition()))
            times.append(clock())
        if seed < arguments.seed:
            continue
        for name, seconds in zip(("describe", "triangles", "tree", "first"), np.diff(times)):
            parts[name].append(seconds)
        parts["frame"] += np.diff(times)[4:].tolist()
        triangles.append(len(mesh.faces))
        for frame in frames[1:]:
            parts["rays"].append(_bare(tree, frame))
        for name in CONDITIONS if arguments.conditions else ():
            start = clock()
            render(world, 1, Condition.parse(name))
            by_condition[name].append(clock() - start)
    mean = {name: float(np.mean(values)) for name, values in parts.items()}
    print(f"{arguments.size[0]}x{arguments.size[1]}{', 64-beam sweep and boxes' if arguments.sweep else ''}")
    print(f"triangles: mean {np.mean(triangles):,.0f}, median {np.median(triangles):,.0f}")
    print("place: " + ", ".join(f"{name} {mean[name]:.3f} s" for name in ("describe", "triangles", "tree")))
    usual, ratio = np.median(parts["frame"]), mean["frame"] / mean["rays"]
    print(f"frame: {mean['frame']:.3f} s (median {usual:.3f}), the place's first {mean['first']:.3f} s")
    print(f"one ray per pixel by Embree alone: {mean['rays']:.3f} s; a frame takes {ratio:.1f} times it")
    once = mean["describe"] + mean["triangles"] + mean["tree"] + mean["first"] - mean["frame"]
    for count in (4, 10, 40):
        print(f"{count} frames per place: {1 / (mean['frame'] + once / count):.2f} frames per second and core")
    if arguments.conditions:
        print("by condition: " + ", ".join(f"{name} {np.mean(value):.3f} s" for name, value in by_condition.items()))


def _bare(tree, frame: Frame) -> float:  # type: ignore[no-untyped-def]
    """CPU seconds of the frame's rays through pixel middles against what stands still."""
    camera = frame.camera
    assert camera.intrinsics is not None
    assert camera.ego_from_camera is not None
    assert camera.depth_m is not None
    height, width = camera.depth_m.shape
    ego = frame.world_from_ego if camera.world_from_ego is None else camera.world_from_ego
    assert ego is not None
    pose = ego @ camera.ego_from_camera
    rays = pixel_rays(camera.intrinsics, (height, width)) @ pose[:3, :3].T
    directions = np.ascontiguousarray(rays, np.float32)
    origins = np.ascontiguousarray(np.broadcast_to(pose[:3, 3], rays.shape), np.float32)
    start = time.process_time()
    tree.run(origins, directions, output=True)
    return time.process_time() - start


if __name__ == "__main__":
    main(tyro.cli(Arguments))
