"""What the synthetic world shows: shares of pixels by class, and shares and distances of the points of KITTI's lidar.

    python benchmarks/content_shares.py --places 20
    python benchmarks/content_shares.py --places 20 --kind town,city,boulevard
    PYTHONPATH=/path/to/older/checkout python benchmarks/content_shares.py --places 20

The yardsticks are the shares of pixels in the training set of Cityscapes (as DANNet uses them to weight its classes)
and SemanticKITTI's own table of content. Cityscapes was recorded in inner cities and SemanticKITTI mostly in
residential streets, so each compares best with those kinds of places. Labels are as the layouts write them, lane
markings counted as road.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from zoo.classes import CITYSCAPES
from zoo.condition import Condition
from zoo.frame import Frame
from zoo.synthetic.frames.render import render_rig, render_world
from zoo.synthetic.frames.times import stops
from zoo.synthetic.frames.world import World
from zoo.synthetic.layouts.semantickitti import CLASSES, point_labels
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.sensors.rigs import RIGS

_PIXELS = dict(
    zip(
        range(19),
        (36.9, 6.1, 22.8, 0.66, 0.88, 1.23, 0.21, 0.55, 15.9, 1.16, 4.0, 1.22, 0.14, 7.0, 0.27, 0.24, 0.23, 0.10, 0.41),
    )
)
"""Percent of the pixels of Cityscapes' training set, by training id."""
_POINTS = {
    "unlabelled": 3.1,
    "car": 4.3,
    "bicycle": 0.017,
    "motorcycle": 0.04,
    "truck": 0.22,
    "other-vehicle": 0.18,
    "person": 0.034,
    "bicyclist": 0.013,
    "road": 19.9,
    "parking": 1.5,
    "sidewalk": 14.4,
    "other-ground": 0.39,
    "building": 13.3,
    "fence": 7.2,
    "vegetation": 26.7,
    "trunk": 0.6,
    "terrain": 7.8,
    "pole": 0.29,
    "traffic-sign": 0.06,
}
"""Percent of SemanticKITTI's labelled points."""
_BANDS_M = (0, 5, 10, 20, 30, 60, 200)
_SMALL = (12, 40)
"""Of the pictures that belong to a sweep: only their cameras' calibration is used."""
_REAL_BANDS = {"20-30": 13_300, "30-60": 13_900}
"""Points per sweep at these distances in the real scan."""


@dataclass(frozen=True)
class Arguments:
    """Counts what the world shows."""

    places: int = 20
    """How many."""
    seed: int = 2000
    """Of the first place."""
    kind: str = ""
    """Kinds of places to draw from, with commas between them; all by default."""
    frames: int = 2
    """Pictures per place."""
    size: tuple[int, int] = (128, 256)
    """Height and width of the pictures."""
    json: Path | None = None
    """Also writes the shares there."""


def main(arguments: Arguments) -> None:
    rig, choices = RIGS["kitti"], Choices.parse(kind=arguments.kind)
    pixels = np.zeros(256, int)
    points: dict[str, int] = {}
    bands = np.zeros(len(_BANDS_M) - 1, int)
    triangles, still_places, kinds = [], 0, []
    for seed in range(arguments.seed, arguments.seed + arguments.places):
        scene = describe(seed, choices)
        kinds.append(scene.kind)
        still_places += not _has_moving_vehicle(scene)
        world = World(scene)
        triangles.append(len(world.still[0].faces))
        way = stops(scene, max(arguments.frames, 2))
        for k in range(arguments.frames):
            frame = render_world(world, k, *way[k], Condition(), arguments.size, edge_rays=0)
            assert frame.camera.labels is not None
            pixels += np.bincount(frame.camera.labels.ravel(), minlength=256)
        frame = render_rig(world, 0, rig, Condition(), size=_SMALL)
        _count_points(frame, scene, points)
        range_m = np.linalg.norm(frame.lidars["velodyne"][0].points[:, :3], axis=1)
        bands += np.histogram(range_m, _BANDS_M)[0]
    found = {
        "pixels": {CITYSCAPES.names[k]: 100 * int(pixels[k]) / pixels.sum() for k in range(19)},
        "points": {name: 100 * points.get(name, 0) / sum(points.values()) for name in _POINTS},
        "bands": {
            f"{a}-{b}": int(n) / arguments.places for a, b, n in zip(_BANDS_M, _BANDS_M[1:], bands, strict=False)
        },
    }
    _print(found)
    print(f"triangles: mean {np.mean(triangles):,.0f}, most {np.max(triangles):,.0f}")
    print(f"places without a moving vehicle: {still_places} of {arguments.places}; kinds: {sorted(set(kinds))}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))


def _has_moving_vehicle(scene: Scene) -> bool:
    vehicles = ("car", "truck", "bus", "train", "motorcycle")
    moves = [getattr(thing, "moves", thing.speed != 0) for thing in scene.things if thing.kind in vehicles]
    return any(moves)


def _count_points(frame: Frame, scene: Scene, points: dict[str, int]) -> None:
    """Adds the points of the frame's sweep by SemanticKITTI's training class."""
    names = {train: name for raw, (name, train, _) in CLASSES.items() if raw < 100 and raw != 60 and train}
    train_of = {raw: train for raw, (_, train, _) in CLASSES.items()}
    raw, counts = np.unique(point_labels(frame, scene) & 0xFFFF, return_counts=True)
    for one, n in zip(raw.tolist(), counts.tolist()):
        name = names.get(train_of[one], "unlabelled")
        points[name] = points.get(name, 0) + n


def _print(found: dict[str, dict[str, float]]) -> None:
    print(f"{'pixels':16}{'here':>8}{'Cityscapes':>12}")
    for k, name in enumerate(CITYSCAPES.names):
        print(f"{name:16}{found['pixels'][name]:8.2f}{_PIXELS[k]:12.2f}")
    print(f"{'points':16}{'here':>8}{'SemanticKITTI':>15}")
    for name, real in _POINTS.items():
        print(f"{name:16}{found['points'][name]:8.2f}{real:15.2f}")
    print("points per sweep by distance, metres (real scan in brackets):")
    for band, n in found["bands"].items():
        real_band = f" ({_REAL_BANDS[band]:,})" if band in _REAL_BANDS else ""
        print(f"  {band}: {n:,.0f}{real_band}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
