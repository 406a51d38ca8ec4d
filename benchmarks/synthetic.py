"""Benchmarks the rendering of the synthetic street world on one core, stage by stage.

    python benchmarks/synthetic.py --scenes 4 --size 256 512
    python benchmarks/synthetic.py --scenes 4 --size 512 1024 --sweep

Times are CPU seconds of the process, so other programs have little influence (they still compete for caches and memory
bandwidth). The baseline is Embree alone, tracing one ray through each pixel centre of the same frame.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

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
    """Benchmarks the rendering of the synthetic world."""

    scenes: int = 4
    """Number of places."""
    frames: int = 3
    """Frames per place, in clear weather, each at a different time."""
    size: tuple[int, int] = (256, 512)
    """Image height and width in pixels."""
    seed: int = 1000
    """Seed of the first place."""
    sweep: bool = False
    """Also compute boxes and a sweep of KITTI's 64-beam lidar for each frame."""
    conditions: bool = False
    """Also time a frame under each condition."""


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
    for seed in range(arguments.seed - 1, arguments.seed + arguments.scenes):  # the first place warms up the caches
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
    print(f"frame: {mean['frame']:.3f} s (median {usual:.3f}), first frame of a place {mean['first']:.3f} s")
    print(f"Embree alone, one ray per pixel: {mean['rays']:.3f} s; a frame takes {ratio:.1f} times as long")
    once = mean["describe"] + mean["triangles"] + mean["tree"] + mean["first"] - mean["frame"]
    for count in (4, 10, 40):
        print(f"{count} frames per place: {1 / (mean['frame'] + once / count):.2f} frames per second per core")
    if arguments.conditions:
        print("by condition: " + ", ".join(f"{name} {np.mean(value):.3f} s" for name, value in by_condition.items()))


def _bare(tree: Any, frame: Frame) -> float:
    """CPU seconds for tracing the rays through the frame's pixel centres against the static geometry."""
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
