"""Model folders edited by hand, whose hashes agree again, and something to read for each released model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from zoo.folder.catalogue import entry


def example(name: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """Noise that a released model reads, and the shape of its labels."""
    generator = np.random.default_rng(0)
    if entry(name).modality == "camera":
        return generator.integers(0, 256, (61, 83, 3), dtype=np.uint8), (61, 83)
    azimuth, range_m = generator.uniform(-np.pi, np.pi, 5000), generator.uniform(4, 40, 5000)
    xyz = [range_m * np.cos(azimuth), range_m * np.sin(azimuth), np.full(5000, -1.73)]
    return np.column_stack([*xyz, generator.random(5000)]).astype(np.float32), (5000,)


def seal(path: Path) -> None:
    """Writes the manifest of whatever lies in the folder."""
    files = {
        file.relative_to(path).as_posix(): {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "size": file.stat().st_size,
        }
        for file in path.rglob("*")
        if file.is_file() and file.name != "MANIFEST.json"
    }
    (path / "MANIFEST.json").write_text(json.dumps({"format": 1, "files": files}))


def agree(path: Path) -> None:
    """Makes the configuration's hashes and the manifest agree with whatever lies in the folder."""
    if (path / "config.json").exists():
        config = json.loads((path / "config.json").read_text())
        for entry in config["artefacts"]:
            if (path / entry["file"]).is_file():
                entry["sha256"] = hashlib.sha256((path / entry["file"]).read_bytes()).hexdigest()
        (path / "config.json").write_text(json.dumps(config))
    seal(path)
