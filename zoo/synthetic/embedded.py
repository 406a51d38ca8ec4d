"""The few frames that come with the package, for a first run with nothing to download and no ray caster.

Reading them does not need embreex; `python -m zoo.synthetic.embedded --out DIR` renders them again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from zoo.condition import DEFAULT_SEVERITY, Condition
from zoo.errors import IntegrityError
from zoo.files import atomic_directory, atomic_file, read_image, read_index_png, write_json
from zoo.frame import CameraFrame, Frame

__all__ = ["EMBEDDED_SEEDS", "embedded_frames"]

EMBEDDED_SEEDS = (10_000_005, 10_000_018, 10_000_057, 10_000_117)
"""Places of the embedded frames, which show all 19 classes; training uses seeds below 1,000,000."""
_CONDITIONS = ("clear", "night", "fog", "rain", "snow")
_SIZE = (256, 512)
_FOLDER = Path(__file__).parents[1] / "embedded"


def embedded_frames(folder: Path | None = None) -> tuple[Frame, ...]:
    """Four places under clear, night, fog, rain and snow, 256 x 512 pixels, Cityscapes training ids.

    Args:
        folder: That holds them; by default the one in the package.

    Raises:
        IntegrityError: If the index is missing or damaged.
    """
    folder = folder or _FOLDER
    try:
        index = json.loads((folder / "index.json").read_text("utf-8"))
        return tuple(_frame(folder, row) for row in index["frames"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{folder}/index.json is missing or damaged ({error}); install perception-zoo again"
        ) from error


def _frame(folder: Path, row: dict) -> Frame:
    files = {"image": folder / row["image"], "labels": folder / row["labels"]}
    camera = CameraFrame(
        image_source=partial(read_image, files["image"]),
        labels_source=partial(_read_labels, files["labels"]),
        intrinsics=np.array(row["intrinsics"]),
        ego_from_camera=np.array(row["ego_from_camera"]),
        image_path=files["image"],
    )
    return Frame(
        id=row["id"],
        scene=row["scene"],
        condition=Condition.parse(row["condition"], row["severity"]),
        cameras={"front": camera},
        meta={"files": files},
    )


def _read_labels(path: Path) -> np.ndarray:
    return read_index_png(path).astype(np.uint8)


def write_embedded(out: Path, seeds: tuple[int, ...] = EMBEDDED_SEEDS, severity: int = DEFAULT_SEVERITY) -> None:
    """Renders the embedded frames into a new folder: JPEG images of quality 92, PNG labels, `index.json`.

    Raises:
        InputError: If the folder exists.
        MissingExtraError: If embreex is not installed.
    """
    from PIL import Image

    from zoo.synthetic.frames.render import render_world
    from zoo.synthetic.frames.times import stops
    from zoo.synthetic.frames.world import World
    from zoo.synthetic.scene.describe import describe

    rows = []
    with atomic_directory(out) as folder:
        for seed in seeds:
            world = World(describe(seed))
            for name in _CONDITIONS:
                condition = Condition.parse(name, severity)
                frame = render_world(world, 0, *stops(world.scene, 1)[0], condition, _SIZE)
                camera = frame.camera
                assert camera.labels is not None
                assert camera.intrinsics is not None
                assert camera.ego_from_camera is not None
                stem = f"{seed}_{name}"
                with atomic_file(folder / f"{stem}.jpg") as handle:
                    Image.fromarray(camera.image).save(handle, "JPEG", quality=92, subsampling=0)
                with atomic_file(folder / f"{stem}_labels.png") as handle:
                    Image.fromarray(camera.labels).save(handle, "PNG", optimize=True)
                rows.append(
                    {
                        "id": stem,
                        "scene": str(seed),
                        "condition": name,
                        "severity": condition.severity or severity,
                        "image": f"{stem}.jpg",
                        "labels": f"{stem}_labels.png",
                        "intrinsics": camera.intrinsics.round(6).tolist(),
                        "ego_from_camera": camera.ego_from_camera.round(9).tolist(),
                    }
                )
        write_json(folder / "index.json", {"format": 1, "classes": "cityscapes", "size": list(_SIZE), "frames": rows})


@dataclass(frozen=True)
class Arguments:
    """Renders the frames that come with the package."""

    out: Path
    """New folder."""


if __name__ == "__main__":
    import tyro

    write_embedded(tyro.cli(Arguments).out)
