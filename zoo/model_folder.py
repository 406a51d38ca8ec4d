"""The model folder: the one unit that is bundled, lies on disk or on the Hub, and that everything reads and writes.

| file | holds |
| --- | --- |
| `config.json` | architecture, preprocessing, inference, classes, licences, provenance, list of artefacts |
| `model.safetensors` | the weights |
| `metrics.json` | measured rows, each keyed by the SHA-256 of the file that was measured |
| `LICENSE`, `README.md` | licence of the weights; the card |
| `onnx/`, `tensorrt/` | exported files |
| `MANIFEST.json` | SHA-256 and size of every other file; written last |

A file that the manifest does not list is never used. No torch is imported here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.card import render_card
from zoo.classes import ClassTable
from zoo.errors import InputError, IntegrityError
from zoo.files import atomic_directory, sha256_of, write_bytes, write_json
from zoo.inference import InferenceMode
from zoo.preprocessing import Preprocessing

__all__ = ["CARD", "CONFIG", "FORMAT", "MANIFEST", "METRICS", "ModelFolder", "write_manifest"]

FORMAT = 1
CARD = "README.md"
CONFIG = "config.json"
MANIFEST = "MANIFEST.json"
METRICS = "metrics.json"
_REQUIRED = {"format": int, "name": str, "task": str, "architecture": dict, "artefacts": list}
_TABLES = ("classes", "inference", "licence", "preprocessing")  # optional sections


@dataclass(frozen=True)
class ModelFolder:
    """An opened model folder, its configuration checked against the manifest.

    Attributes:
        path: The folder.
        config: Content of `config.json`.
        manifest: `files` of `MANIFEST.json`: SHA-256 and size by relative path.
    """

    path: Path
    config: Mapping[str, Any]
    manifest: Mapping[str, Mapping[str, Any]]

    @classmethod
    def open(cls, path: Path | str) -> ModelFolder:
        """Reads manifest and configuration.

        Raises:
            InputError: If there is no such folder, or the configuration is of another version or incomplete.
            IntegrityError: If there is no manifest, or the configuration differs from it.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path} is {'not a folder' if path.exists() else 'neither a known name nor a folder'}")
        manifest = _read_manifest(path)
        folder = cls(path, {}, manifest)
        config = _parse_json(folder.read_bytes(CONFIG), path / CONFIG)
        _check_config(config, path / CONFIG)
        return cls(path, config, manifest)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config["name"]

    @property
    def classes(self) -> ClassTable | None:
        """The classes of its labels, `None` for a model without any."""
        section = self.config.get("classes")
        if not section:
            return None
        try:
            return ClassTable(
                section["taxonomy"],
                tuple(section["names"]),
                tuple((int(r), int(g), int(b)) for r, g, b in section["colors"]),
                int(section.get("ignore_index", 255)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.path / CONFIG}: classes cannot be read: {error!r}") from error

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to an image before an engine sees it."""
        return Preprocessing.from_json(self.config.get("preprocessing", {}))

    @property
    def inference(self) -> InferenceMode:
        """Whole images or windows."""
        return InferenceMode.from_json(self.config.get("inference", {}))

    def artefact(self, engine: str, precision: str | None = None) -> Mapping[str, Any]:
        """The entry of the list of artefacts for `engine` (and `precision`, if given); the first one that fits.

        Raises:
            InputError: If there is none.
        """
        artefacts = self.config["artefacts"]
        for entry in artefacts:
            if entry.get("engine") == engine and precision in (None, entry.get("precision")):
                return entry
        have = ", ".join(f"{entry.get('engine')} {entry.get('precision', '')}".strip() for entry in artefacts)
        wanted = f"{engine} {precision or ''}".strip()
        raise InputError(f"model {self.name} has no file for {wanted}; it has {have or 'none'}")

    def read_bytes(self, file: str) -> bytes:
        """Content of one of its files, checked before it is given out.

        Raises:
            IntegrityError: If the manifest does not list the file, it is missing, or it differs.
        """
        path = self._checked_path(file)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} is missing, but {MANIFEST} lists it; get the model again") from error
        expected = self.manifest[file]
        if len(content) != expected["size"]:
            raise IntegrityError(
                f"{path} has {len(content):,} bytes, but {MANIFEST} says {expected['size']:,}; get the model again"
            )
        found = hashlib.sha256(content).hexdigest()
        if found != expected["sha256"]:
            raise IntegrityError(
                f"{path} has the SHA-256 {found[:12]}…, but {MANIFEST} says {expected['sha256'][:12]}…; "
                "get the model again"
            )
        return content

    def verify(self) -> None:
        """Checks every file that the manifest lists, and that every artefact's own hash agrees.

        Raises:
            IntegrityError: If one is missing or differs.
        """
        for file in self.manifest:
            self.read_bytes(file)
        for entry in self.config["artefacts"]:
            listed = self.manifest.get(entry["file"], {}).get("sha256")
            if listed != entry["sha256"]:
                raise IntegrityError(f"{self.path}: {CONFIG} and {MANIFEST} disagree about {entry['file']}")

    def metrics(self) -> list[dict[str, Any]]:
        """Measured rows; each names the SHA-256 of the file that was measured."""
        if METRICS not in self.manifest:
            return []
        return _parse_json(self.read_bytes(METRICS), self.path / METRICS)["rows"]

    def record(self, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
        """Adds rows to `metrics.json`, and renews the manifest.

        Args:
            rows: Each must name its `artefact_sha256`, one of this folder's artefacts.
            key: Fields that identify a measurement; a new row replaces an old one with the same values of them.

        Raises:
            InputError: If the folder belongs to the installed package, or a row names a file that is not here.
        """
        self.refuse_installed("record measurements in")
        known = {entry["sha256"] for entry in self.config["artefacts"]}
        for row in rows:
            if row.get("artefact_sha256") not in known:
                raise InputError(f"a row measured {row.get('artefact_sha256')}, a file that {self.path} does not hold")
        identities = {_identity(row, key) for row in rows}
        kept = [row for row in self.metrics() if _identity(row, key) not in identities]
        rows = kept + [dict(row) for row in rows]
        write_json(self.path / METRICS, {"format": FORMAT, "rows": rows})
        written = [METRICS]
        if CARD in self.manifest and "provenance" in self.config:  # a card of ours, not somebody else's text
            write_bytes(self.path / CARD, render_card(self.config, rows).encode())
            written.append(CARD)
        self.renew_manifest(written)

    def renew_manifest(self, written: Sequence[str]) -> None:
        """Writes the manifest with the files `written` as they are now, and all others as it had them.

        A file that was changed behind our back stays a wrong one.
        """
        entries = {**self.manifest, **{file: _manifest_entry(self.path / file) for file in written}}
        write_json(self.path / MANIFEST, {"format": FORMAT, "files": dict(sorted(entries.items()))})

    def copy_to(self, target: Path | str) -> ModelFolder:
        """A verified copy in a new folder, where measurements can be recorded and exports added.

        Raises:
            InputError: If `target` exists or cannot be written.
            IntegrityError: If a file differs from the manifest.
        """
        with atomic_directory(target) as temporary:
            for file in self.manifest:
                (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                (temporary / file).write_bytes(self.read_bytes(file))
            shutil.copyfile(self.path / MANIFEST, temporary / MANIFEST)
        return ModelFolder.open(target)

    def refuse_installed(self, action: str) -> None:
        """Raises an `InputError` if the folder belongs to the installed package."""
        if self.path.resolve().is_relative_to(Path(__file__).parent.resolve()):
            raise InputError(
                f"cannot {action} {self.name}: it is part of the installed package; "
                f"copy it first (zoo copy {self.name} DIR) and use the copy"
            )

    def _checked_path(self, file: str) -> Path:
        if file not in self.manifest:
            raise IntegrityError(f"{self.path / file} is not listed in {MANIFEST} and is not used")
        pure = PurePosixPath(file)
        if pure.is_absolute() or ".." in pure.parts:
            raise IntegrityError(f"{self.path / MANIFEST} lists {file}, which lies outside the folder")
        return self.path / file


def write_manifest(path: Path, listed: Sequence[str] | None = None) -> None:
    """Writes `MANIFEST.json` for the files `listed` (relative, with `/`), by default every file in the folder."""
    if listed is None:
        listed = [
            file.relative_to(path).as_posix()
            for file in path.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
    files = {file: _manifest_entry(path / file) for file in sorted(set(listed) - {MANIFEST})}
    write_json(path / MANIFEST, {"format": FORMAT, "files": files})


def _manifest_entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "size": path.stat().st_size}


def _identity(row: Mapping[str, Any], key: Sequence[str]) -> str:
    return json.dumps([row.get(name) for name in key], sort_keys=True)


def _parse_json(content: bytes, path: Path) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise IntegrityError(f"{path} is no valid JSON: {error}") from error


def _read_manifest(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        content = (path / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is no model folder: it has no {MANIFEST}") from error
    manifest = _parse_json(content, path / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise IntegrityError(f"{path / MANIFEST} has no table of files")
    _check_format(manifest.get("format"), path / MANIFEST)
    for file, entry in manifest["files"].items():
        known = isinstance(entry, dict) and (type(entry.get("sha256")), type(entry.get("size"))) == (str, int)
        if not known:
            raise IntegrityError(f"{path / MANIFEST}: the entry of {file} needs sha256 (text) and size (a number)")
    return manifest["files"]


def _check_format(value: Any, path: Path) -> None:
    if type(value) is not int or value != FORMAT:
        raise InputError(f"{path} has format {value!r}; this version reads format {FORMAT}: update perception-zoo")


def _check_config(config: Any, path: Path) -> None:
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no table of settings")
    _check_format(config.get("format"), path)
    for key, kind in _REQUIRED.items():
        if not isinstance(config.get(key), kind):
            raise InputError(f"{path}: {key} is missing or is no {kind.__name__}")
    for key in _TABLES:
        if not isinstance(config.get(key) or {}, dict):
            raise InputError(f"{path}: {key} is no table of settings")
    for entry in config["artefacts"]:
        missing = {"file", "engine", "sha256"} - set(entry if isinstance(entry, dict) else ())
        if missing:
            raise InputError(f"{path}: an artefact lacks {', '.join(sorted(missing))}")
