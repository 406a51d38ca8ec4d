"""Regression check of the synthetic world: compares hashes of its outputs before and after a change.

    python benchmarks/world_golden.py --write before.json      # on the commit before the change
    python benchmarks/world_golden.py --compare before.json    # after it, on the same machine

Covers the descriptions of 100 places, all templates, the meshes of 16 places, the light under every condition, road and
ground patterns, frames under every condition, frames of every rig with sweeps and boxes, every file of every layout,
and both contact sheets. Takes one to two minutes on one core. Floating point results differ between machines and
between versions of NumPy and Embree, so a file of hashes is only valid on the machine that wrote it and is not kept in
the repository.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from zoo.condition import CONDITIONS, SEVERITY_UNITS, Condition
from zoo.frame import Frame
from zoo.synthetic import command, render_scene
from zoo.synthetic.models.barriers import build_sheets
from zoo.synthetic.models.build import build_moving, build_parked, build_static
from zoo.synthetic.previews.sensor_sheet import sensor_sheet
from zoo.synthetic.previews.sheet import contact_sheet
from zoo.synthetic.rendering.light import light_of
from zoo.synthetic.rendering.street_texture import ground_albedo, road_albedo
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.shapes.templates import KINDS, VARIANTS, template

_RIGS = {"kitti": (60, 200), "a2d2": (76, 120), "nuscenes": (56, 100), "waymo": (64, 96)}
_LAYOUTS = {
    "cityscapes": "64x128",
    "acdc": "64x128",
    "a2d2": "76x120",
    "kitti": "60x200",
    "semantickitti": "60x200",
    "nuscenes": "56x100",
}
Hashes = Iterator[tuple[str, Any]]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Hashes the outputs of the synthetic world."""

    write: Path | None = None
    """Write the hashes to this file."""
    compare: Path | None = None
    """Compare the hashes with those in this file; the exit status is 1 if any differ."""


def plain(value: Any) -> Any:
    """Lossless JSON form of a value. Numbers become hexadecimal floats, so 1, 1.0 and True are equal.

    Fields of a dataclass that have their default, or None, are left out: a new field that is not used changes nothing.
    """
    if dataclasses.is_dataclass(value):
        fields = {field.name: (getattr(value, field.name), field.default) for field in dataclasses.fields(value)}
        value = {name: own for name, (own, default) in fields.items() if own is not None and not _same(own, default)}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return float(value).hex()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"no canonical form of {type(value)}")


def _same(own: Any, default: Any) -> bool:
    return not isinstance(own, np.ndarray) and type(own) is type(default) and own == default


def places() -> Hashes:
    for seed in range(100):
        yield f"scene/{seed}", describe(seed)
    for kind in KINDS:
        yield f"template/{kind}", [template(kind, variant) for variant in range(VARIANTS)]
    for seed in range(16):
        scene = describe(seed)
        pose = scene.ego_poses(np.array([1.3]))[0]
        yield f"mesh/{seed}", [build_static(scene), build_parked(scene), build_moving(scene, 1.3, pose)]
        yield f"sheets/{seed}", build_sheets(scene)


def surfaces() -> Hashes:
    conditions = [Condition.parse(name, step) for name in SEVERITY_UNITS for step in range(1, 6)] + [Condition()]
    for time_of_day in ("dusk", "night"):
        conditions += [Condition(time_of_day=time_of_day, weather=name, severity=3) for name in ("fog", "rain", "snow")]
    rng = np.random.default_rng(3)
    for seed in range(40):
        scene = describe(seed)
        yield f"light/{seed}", [light_of(scene, condition) for condition in conditions]
        s, t, foot = (
            rng.uniform(low, high, 4000).astype(np.float32) for low, high in ((-60, 200), (-20, 20), (0.005, 0.8))
        )
        yield f"ground/{seed}", [road_albedo(scene, s, t, foot), ground_albedo(scene, s, t, foot)]


def frames() -> Hashes:
    all_conditions = tuple(Condition.parse(name, 3) for name in CONDITIONS)
    for seed in (3, 17):
        yield from _parts(f"frame/{seed}", render_scene(seed, 6, conditions=all_conditions, size=(96, 192)))
    dusk_rain = Condition(time_of_day="dusk", weather="rain", severity=4)
    for seed in range(20, 32):
        condition = dusk_rain if seed % 2 else Condition()
        yield from _parts(f"frame/{seed}", render_scene(seed, 1, conditions=(condition,), size=(96, 192)))
    yield from _parts("exact/3", render_scene(3, 1, size=(97, 191), exact=True))
    conditions = tuple(Condition.parse(name, 3) for name in ("clear", "rain", "night"))
    for rig, size in _RIGS.items():
        yield from _parts(f"rig/{rig}", render_scene(5, 3, conditions=conditions, size=size, rig=rig, sweeps=1))
    for name in ("fog", "snow"):
        thick = (Condition.parse(name, 4),)
        yield from _parts(f"rig/kitti/{name}", render_scene(9, 1, conditions=thick, size=_RIGS["kitti"], rig="kitti"))


def _parts(key: str, rendered: Iterator[Frame]) -> Hashes:
    for number, frame in enumerate(rendered):
        key_ = f"{key}/{number}"
        values = {field.name: getattr(frame, field.name) for field in dataclasses.fields(frame)}
        # Images and sweeps are hashed one by one below.
        yield key_, {**values, "cameras": list(frame.cameras), "lidars": list(frame.lidars)}
        for name, camera in frame.cameras.items():
            yield f"{key_}/{name}", camera
        for name, sweeps in frame.lidars.items():
            yield f"{key_}/{name}", sweeps


def files() -> Hashes:
    for layout, size in _LAYOUTS.items():
        for split in ("train", "test"):
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                out = Path(folder) / "out"
                sweeps = 1 if layout == "nuscenes" else None
                command.run(
                    command.Arguments(
                        layout=layout,
                        frames=2,
                        scenes=1,
                        seed=6,
                        size=size,
                        split=split,
                        sweeps=sweeps,
                        out=out,
                        workers=1,
                    )
                )
                for path in sorted(path for path in out.rglob("*") if path.is_file()):
                    yield f"{layout}/{split}/{path.relative_to(out)}", path.read_bytes()
    yield "sheet", contact_sheet(range(2), (40, 64))
    yield "sensor_sheet", sensor_sheet(2, "nuscenes", (40, 64), 3, ("clear", "fog"))


def main(arguments: Arguments) -> int:
    """Writes or compares the hashes; returns 1 if any differ."""
    if (arguments.write is None) == (arguments.compare is None):
        print("give either --write FILE or --compare FILE", file=sys.stderr)
        return 2
    found = {}
    for part in (places, surfaces, frames, files):
        for key, value in part():
            found[key] = hashlib.sha256(json.dumps(plain(value)).encode()).hexdigest()
        print(f"{part.__name__}: {len(found)} hashes so far", flush=True)
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(found, indent=0))
        return 0
    assert arguments.compare is not None
    before = json.loads(arguments.compare.read_text())
    differing = [key for key in dict.fromkeys([*before, *found]) if before.get(key) != found.get(key)]
    print(f"{len(found)} hashes, {len(before)} before, {len(differing)} differ", *differing, sep="\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
