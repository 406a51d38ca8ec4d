"""What opening nuScenes costs: tables of the size of v1.0-trainval are written, and its reader opens them.

    python -m benchmarks.nuscenes_tables --scenes 850

Per scene they have about as many rows as the published ones: 40 keyframes, 390 lidar scans, 2,640 images and radar
scans, 1,360 annotations. The lidar files are empty, since opening a data set decodes none.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.data import open_dataset

CAMERAS = ("CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT", "CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT")
RADARS = ("RADAR_BACK_LEFT", "RADAR_BACK_RIGHT", "RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT")
LOGFILE = "n015-2018-07-18-11-07-57+0800"
KEYFRAMES, SCANS, OTHERS, BOXES = 40, 390, 2640, 34
"""Per scene, and boxes per keyframe; others are images and radar scans."""


def token(kind: str, number: int) -> str:
    return f"{sum(kind.encode()) % 65536:04x}{number:028x}"


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with open(path, "w") as file:
        file.write("[\n")
        for number, row in enumerate(rows):
            file.write((",\n" if number else "") + json.dumps(row, indent=0))
        file.write("\n]")


def data_rows(scenes: int) -> Iterable[dict[str, Any]]:
    """`sample_data`: the scans of each scene, ten per keyframe, and images and radar scans."""
    for scene in range(scenes):
        for k in range(SCANS + OTHERS):
            lidar = k < SCANS
            channel = "LIDAR_TOP" if lidar else (*CAMERAS, *RADARS)[k % 11]
            step = k / SCANS if lidar else (k - SCANS) // 11 / (OTHERS // 11)
            sample = min(int(step * KEYFRAMES), KEYFRAMES - 1)
            key = k * KEYFRAMES // SCANS != (k - 1) * KEYFRAMES // SCANS if lidar else (k - SCANS) // 11 % 6 == 0
            number = scene * (SCANS + OTHERS) + k
            stamp = 1_500_000_000_000_000 + scene * 60_000_000 + int(step * 20_000_000)
            yield {
                "token": token("data", number),
                "sample_token": token("sample", scene * KEYFRAMES + sample),
                "ego_pose_token": token("pose", number),
                "calibrated_sensor_token": token("calibrated", 0 if lidar else 1 + k % 11),
                "timestamp": stamp,
                "fileformat": "pcd" if lidar else "jpg",
                "is_key_frame": key,
                "height": 0 if lidar else 900,
                "width": 0 if lidar else 1600,
                "filename": f"{'samples' if key else 'sweeps'}/{channel}/{LOGFILE}__{channel}__{number}.x",
                "prev": token("data", number - 1) if lidar and k else "",
                "next": token("data", number + 1) if lidar and k < SCANS - 1 else "",
            }


def pose_rows(scenes: int) -> Iterable[dict[str, Any]]:
    for number in range(scenes * (SCANS + OTHERS)):
        yield {
            "token": token("pose", number),
            "timestamp": 1_500_000_000_000_000 + number,
            "rotation": [0.5720320396729045, -0.0016977771610471074, 0.011798001930183783, -0.8201446642457809],
            "translation": [411.3039349319818 + number * 1e-3, 1180.8903791765097, 0.0],
        }


def annotation_rows(scenes: int) -> Iterable[dict[str, Any]]:
    for sample in range(scenes * KEYFRAMES):
        first, last = sample % KEYFRAMES == 0, sample % KEYFRAMES == KEYFRAMES - 1
        for box in range(BOXES):
            number = sample * BOXES + box
            yield {
                "token": token("annotation", number),
                "sample_token": token("sample", sample),
                "instance_token": token("instance", sample // KEYFRAMES * BOXES + box),
                "visibility_token": "4",
                "attribute_tokens": [token("attribute", 0)],
                "translation": [373.256 + number * 1e-3, 1130.419, 0.8],
                "size": [0.621, 0.669, 1.642],
                "rotation": [0.9831098797903927, 0.0, 0.0, -0.18301629506281616],
                "prev": "" if first else token("annotation", number - BOXES),
                "next": "" if last else token("annotation", number + BOXES),
                "num_lidar_pts": 5,
                "num_radar_pts": 0,
            }


def write_tables(root: Path, scenes: int) -> None:
    """A folder of tables, with an empty file for each lidar keyframe."""
    tables = root / "v1.0-trainval"
    tables.mkdir()
    channels = ("LIDAR_TOP", *CAMERAS, *RADARS)
    k = [[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]]
    names = [f"scene-{2000 + scene}" for scene in range(scenes)]
    rows: dict[str, Iterable[dict[str, Any]]] = {
        "sensor": ({"token": token("sensor", n), "channel": name} for n, name in enumerate(channels)),
        "calibrated_sensor": (
            {
                "token": token("calibrated", n),
                "sensor_token": token("sensor", n),
                "translation": [0.94, 0.0, 1.84],
                "rotation": [0.7077955, -0.0064922, 0.0106462, -0.7063073],
                "camera_intrinsic": k if name.startswith("CAM") else [],
            }
            for n, name in enumerate(channels)
        ),
        "scene": ({"token": token("scene", n), "name": name, "description": "Rain"} for n, name in enumerate(names)),
        "sample": (
            {
                "token": token("sample", n),
                "timestamp": 1_500_000_000_000_000 + n // KEYFRAMES * 60_000_000 + n % KEYFRAMES * 500_000,
                "scene_token": token("scene", n // KEYFRAMES),
                "prev": token("sample", n - 1) if n % KEYFRAMES else "",
            }
            for n in range(scenes * KEYFRAMES)
        ),
        "category": ({"token": token("category", 0), "name": "vehicle.car"} for _ in range(1)),
        "attribute": ({"token": token("attribute", 0), "name": "vehicle.moving"} for _ in range(1)),
        "instance": (
            {"token": token("instance", n), "category_token": token("category", 0)} for n in range(scenes * BOXES)
        ),
        "sample_data": data_rows(scenes),
        "ego_pose": pose_rows(scenes),
        "sample_annotation": annotation_rows(scenes),
    }
    for name, table in rows.items():
        write(tables / f"{name}.json", table)
    (root / "samples" / "LIDAR_TOP").mkdir(parents=True)
    for row in data_rows(scenes):
        if row["is_key_frame"] and row["fileformat"] == "pcd":
            (root / row["filename"]).touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=850)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_tables(root, arguments.scenes)
        megabytes = sum(path.stat().st_size for path in (root / "v1.0-trainval").iterdir()) / 1e6
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        dataset = open_dataset("nuscenes", root, "train")
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        sweeps = sum(len(frame.lidars["LIDAR_TOP"]) for frame in dataset.frames[:1000])
        boxes = sum(len(list(frame.boxes or ())) for frame in dataset.frames[:1000])
        each = (time.perf_counter() - start) / min(len(dataset), 1000)
        print(f"{arguments.scenes} scenes, {megabytes:,.0f} MB of tables, {len(dataset):,} frames")
        print(f"opened in {seconds:.1f} s, peak {peak / 1024:,.0f} MB of memory ({before / 1024:,.0f} MB before)")
        print(f"sweeps and boxes of one frame in {each * 1e3:.2f} ms ({sweeps} sweeps, {boxes} boxes of 1000 frames)")


if __name__ == "__main__":
    main()
