"""Seconds per frame of the synthetic street world on one core, part by part.

    python benchmarks/synthetic.py --scenes 6 --frames 4 --size 256 512

CPU seconds of the process, so that other work on the machine counts little.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import tyro

from zoo.condition import CONDITIONS, Condition
from zoo.synthetic.describe import describe
from zoo.synthetic.render import World, render_world, stops


@dataclass(frozen=True)
class Arguments:
    """Times the synthetic world."""

    scenes: int = 6
    """Places."""
    frames: int = 4
    """Frames per place, in clear weather."""
    size: tuple[int, int] = (256, 512)
    """Height and width."""
    seed: int = 1000
    """Of the first place."""


def main(arguments: Arguments) -> None:
    World(describe(arguments.seed))  # fills the caches of templates and noise
    build, render, triangles, by_condition = [], [], [], {name: [] for name in CONDITIONS}
    for seed in range(arguments.seed, arguments.seed + arguments.scenes):
        start = time.process_time()
        world = World(describe(seed))
        build.append(time.process_time() - start)
        triangles.append(len(world.static.faces))
        way = stops(world.scene, arguments.frames)
        render_world(world, 0, *way[0], Condition(), arguments.size)
        for k, stop in enumerate(way):
            start = time.process_time()
            render_world(world, k, *stop, Condition(), arguments.size)
            render.append(time.process_time() - start)
        for name in CONDITIONS:
            start = time.process_time()
            render_world(world, 0, *way[0], Condition.parse(name), arguments.size)
            by_condition[name].append(time.process_time() - start)
    height, width = arguments.size
    each = np.mean(render) + np.mean(build) / arguments.frames
    print(f"{height}x{width}: {np.mean(triangles):,.0f} static triangles (median {np.median(triangles):,.0f})")
    print(f"scene {np.mean(build):.2f} s, frame {np.mean(render):.2f} s (median {np.median(render):.2f})")
    print(f"with {arguments.frames} frames per scene: {1 / each:.2f} frames per second and core")
    print("frame by condition: " + ", ".join(f"{name} {np.mean(value):.2f} s" for name, value in by_condition.items()))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
