"""The model folder: the unit in which models are bundled, stored on disk or on the Hub, read and written.

| file | contents |
| --- | --- |
| `config.json` | architecture, preprocessing, inference, classes, licences, provenance, list of artefacts |
| `model.safetensors` | weights |
| `metrics.json` | measured rows, keyed by the SHA-256 of the measured file |
| `parity.json` | comparisons of every exported file with its source |
| `benchmark.json` | further rows of latency, as `zoo benchmark` writes them |
| `LICENSE`, `README.md` | licence of the weights; model card |
| `onnx/`, `tensorrt/` | exported files |
| `MANIFEST.json` | SHA-256 and size of every other file but the two below; written last |
| `MANIFEST.sig` | optional signature of the manifest |
| `devices/` | optional records of single devices: parity and latency measured there, not signed |

A file that the manifest does not list is never used. This module does not import torch.

A folder is untrusted input. Before any of its files is used, manifest and configuration are validated against the
published schemas (`*.schema.json`), the type of every listed file is checked, and the hashes in the configuration are
compared with those in the manifest. Every file must be a regular file. A link is followed only if it stays inside the
folder, or leads from a snapshot in the Hub's cache to the `blobs` of the same repository, where that cache stores its
files. The size of a file is compared with the manifest before it is read.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import InputError, IntegrityError
from zoo.files import atomic_directory, read_regular, require_regular, sha256_of, write_bytes, write_json
from zoo.folder.schema import parse_json, schema, section_schema
from zoo.inputs import Input, input_class, input_from_json
from zoo.tasks import Task, task_class, task_from_json

__all__ = [
    "BENCHMARK",
    "CARD",
    "CONFIG",
    "DEVICES",
    "FORMAT",
    "MANIFEST",
    "METRICS",
    "PARITY",
    "SIGNATURE",
    "ModelFolder",
    "encode_document",
    "parse_document",
    "read_manifest",
    "write_manifest",
]

FORMAT = 1
BENCHMARK = "benchmark.json"
CARD = "README.md"
CONFIG = "config.json"
MANIFEST = "MANIFEST.json"
METRICS = "metrics.json"
PARITY = "parity.json"
SIGNATURE = "MANIFEST.sig"
DEVICES = "devices"
_MB = 1024 * 1024
_LIMITS = {
    ".json": 16 * _MB,
    ".md": 16 * _MB,
    "LICENSE": 16 * _MB,
    ".npz": 256 * _MB,
    SIGNATURE: _MB,
    ".sig": _MB,
}  # bytes, by suffix or name
_OTHER_LIMIT = 8192 * _MB  # weights


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
            InputError: If there is no such folder, or the configuration has another version or is invalid.
            IntegrityError: If the manifest is missing or invalid, a listed file is not a regular file inside the
                folder, or the configuration differs from the manifest.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path} is {'not a folder' if path.exists() else 'neither a known name nor a folder'}")
        manifest = read_manifest(path)
        _check_files(path, manifest)
        folder = cls(path, {}, manifest)
        config = parse_document(folder.read_bytes(CONFIG), "config", path / CONFIG)
        folder = cls(path, config, manifest)
        folder._check_config()
        return folder

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config["name"]

    @functools.cached_property
    def inputs(self) -> tuple[Input, ...]:
        """How samples reach the engine, one input per graph."""
        return tuple(input_from_json(section) for section in self.config["inputs"])

    @functools.cached_property
    def task(self) -> Task:
        """What the outputs mean."""
        return task_from_json(self.config["task"], self.config.get("output", {}))

    def artefact(self, engine: str, precision: str | None = None) -> Mapping[str, Any]:
        """The first entry in the list of artefacts for `engine` (and `precision`, if given).

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
        """Verified content of one of its files.

        Raises:
            IntegrityError: If the manifest does not list the file, or it is missing or differs.
        """
        if file not in self.manifest:
            raise IntegrityError(f"{self.path / file} is not listed in {MANIFEST} and is not used")
        path, expected = self.path / file, self.manifest[file]
        try:
            _check_file(path, file, expected["size"], _roots(self.path))
            content = read_regular(path, expected["size"])
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} is missing, but {MANIFEST} lists it; get the model again") from error
        found = hashlib.sha256(content).hexdigest()
        if found != expected["sha256"]:
            raise IntegrityError(
                f"{path} has the SHA-256 {found[:12]}…, but {MANIFEST} says {expected['sha256'][:12]}…; "
                "get the model again"
            )
        return content

    def verify(self) -> None:
        """Checks every file in the manifest, and that the manifest lists every artefact.

        Raises:
            IntegrityError: If one is missing or differs.
        """
        for file in {**self.manifest, **{entry["file"]: entry for entry in self.config["artefacts"]}}:
            self.read_bytes(file)

    def metrics(self) -> list[dict[str, Any]]:
        """Measured rows; each names the SHA-256 of the measured file."""
        return self._rows(METRICS, "metrics")

    def card(
        self,
        config: Mapping[str, Any] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
        parity: Sequence[Mapping[str, Any]] | None = None,
        pictures: str = "",
    ) -> str:
        """The model card, rendered anew from the folder's JSON files.

        Args:
            config: In place of the content of `config.json`.
            rows: In place of the rows of `metrics.json`.
            parity: In place of the rows of `parity.json`.
            pictures: Path from the card to the model folder; see `render_card`.

        Raises:
            InputError: If a file violates its schema, or lacks a value that the card shows.
            IntegrityError: If a file differs from the manifest.
        """
        from zoo.folder.card import render_card  # not needed for prediction, and slows down the cold start

        config = self.config if config is None else config
        known = {entry["sha256"] for entry in config["artefacts"]}
        timed = [row for row in self._rows(BENCHMARK, "metrics") if row["artefact_sha256"] in known]
        rows = [*(self.metrics() if rows is None else rows), *timed]
        return render_card(config, rows, self._rows(PARITY, "parity") if parity is None else parity, pictures)

    def _rows(self, file: str, kind: str) -> list[dict[str, Any]]:
        """Rows of one of its JSON files; none if the folder does not have it."""
        if file not in self.manifest:
            return []
        return parse_document(self.read_bytes(file), kind, self.path / file)["rows"]

    def record(self, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
        """Adds rows to `metrics.json` and updates the manifest.

        Args:
            rows: Each must name its `artefact_sha256`, one of this folder's artefacts.
            key: Fields that identify a measurement; a new row replaces an old one with the same values in these fields.

        Raises:
            InputError: If the folder belongs to the installed package, or a row names a file that is not in the folder
                or violates `metrics.schema.json`.
        """
        self.refuse_installed("record measurements in")
        known = {entry["sha256"] for entry in self.config["artefacts"]}
        for row in rows:
            if row.get("artefact_sha256") not in known:
                raise InputError(f"a row measured {row.get('artefact_sha256')}, a file that {self.path} does not hold")
        identities = {_identity(row, key) for row in rows}
        kept = [row for row in self.metrics() if _identity(row, key) not in identities]
        rows = kept + [dict(row) for row in rows]
        contents = {METRICS: encode_document({"format": FORMAT, "rows": rows}, "metrics", self.path / METRICS)}
        if CARD in self.manifest and "provenance" in self.config:  # rendered by this package, not written by hand
            contents[CARD] = self.card(rows=rows).encode()
        for file, content in contents.items():
            write_bytes(self.path / file, content)
        self.renew_manifest(list(contents))

    def renew_manifest(self, written: Sequence[str]) -> None:
        """Writes the manifest with new entries for the files `written`; all other entries stay as they are.

        A file changed by anything else therefore still differs from the manifest.
        """
        entries = {**self.manifest, **{file: _manifest_entry(self.path / file) for file in written}}
        write_json(self.path / MANIFEST, {"format": FORMAT, "files": dict(sorted(entries.items()))})

    def manifest_bytes(self) -> bytes:
        """Content of `MANIFEST.json`.

        Raises:
            IntegrityError: If it is no longer the one that was read when the folder was opened.
        """
        content = _manifest_content(self.path)
        if parse_document(content, "manifest", self.path / MANIFEST)["files"] != self.manifest:
            raise IntegrityError(f"{self.path / MANIFEST} was changed while it was in use")
        return content

    def signature(self) -> bytes | None:
        """Content of `MANIFEST.sig`, `None` if the folder is not signed.

        Raises:
            IntegrityError: If it is not a regular file inside the folder, or too large.
        """
        path = self.path / SIGNATURE
        if not os.path.lexists(path):
            return None
        try:
            _check_file(path, SIGNATURE, None, _roots(self.path))
            return read_regular(path, _LIMITS[SIGNATURE])
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} is a link to nothing") from error

    def copy_to(self, target: Path | str, *, replace: bool = False, signed: bool = False) -> ModelFolder:
        """A verified copy in another folder, to which measurements and exports can be added.

        Args:
            target: Folder to create.
            replace: Replace an existing folder.
            signed: Copy the signature too, if there is one; such a copy takes no measurements.

        Raises:
            InputError: If `target` exists and is not to be replaced, or cannot be written.
            IntegrityError: If a file differs from the manifest.
        """
        with atomic_directory(target, replace=replace) as temporary:
            for file in self.manifest:
                (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                (temporary / file).write_bytes(self.read_bytes(file))
            (temporary / MANIFEST).write_bytes(self.manifest_bytes())
            if signed and (signature := self.signature()) is not None:
                (temporary / SIGNATURE).write_bytes(signature)
        return ModelFolder.open(target)

    def refuse_installed(self, action: str) -> None:
        """Raises an `InputError` if the folder must not be changed: part of the installed package, or signed."""
        self.refuse_package(action)
        if os.path.lexists(self.path / SIGNATURE):
            raise InputError(
                f"cannot {action} {self.name}: it is signed, and the change would break the signature; copy it first "
                f"(zoo copy {self.path} DIR) and use the copy"
            )

    def refuse_package(self, action: str) -> None:
        """Raises an `InputError` if the folder belongs to the installed package or to the Hub's cache."""
        path = self.path.resolve()
        if path.parent.name == "snapshots" and (path.parents[1] / "blobs").is_dir():
            raise InputError(
                f"cannot {action} {self.path}: it is a snapshot in the Hub's cache; "
                f"copy it first (zoo copy {self.path} DIR) and use the copy"
            )
        if path.is_relative_to(Path(__file__).parents[1].resolve()):
            raise InputError(
                f"cannot {action} {self.name}: it is part of the installed package; "
                f"copy it first (zoo copy {self.name} DIR) and use the copy"
            )

    def _check_config(self) -> None:
        """Checks of the configuration that a schema cannot express.

        Raises:
            InputError: If sections contradict each other.
            IntegrityError: If the configuration and the manifest disagree about a file.
        """
        where = self.path / CONFIG
        artefacts = self.config["artefacts"]
        if len({entry["file"] for entry in artefacts}) < len(artefacts):
            raise InputError(f"{where}: two artefacts are the same file")
        for entry in artefacts:
            # A file that the manifest does not list is refused when it is read.
            if self.manifest.get(entry["file"], entry)["sha256"] != entry["sha256"]:
                raise IntegrityError(
                    f"{self.path}: {CONFIG} and {MANIFEST} disagree about {entry['file']}; get the model again"
                )
            if entry.get("stage", 0) >= len(self.config["inputs"]):
                raise InputError(f"{where}: {entry['file']} belongs to stage {entry['stage']}, which has no input")
            for tensor in (*entry.get("inputs", ()), *entry.get("outputs", ())):
                _check_tensor(tensor, f"{where}: {entry['file']}")
        for i, section in enumerate(self.config["inputs"]):
            of_kind = {key: value for key, value in section.items() if key != "kind"}
            _check_section(of_kind, input_class(section["kind"]).schema, f"{where}: inputs[{i}]")
        _check_section(self.config.get("output", {}), task_class(self.config["task"]).schema, f"{where}: output")
        try:
            _ = self.inputs, self.task
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


def _check_section(section: Mapping[str, Any], description: Mapping[str, Any], what: str) -> None:
    section_schema(description, what).check(section, what)


def _check_tensor(tensor: Mapping[str, Any], what: str) -> None:
    """Raises an `InputError` unless axes and multiples, if given, have one entry per entry of the shape."""
    for key in ("axes", "multiples"):
        if tensor.get(key) and len(tensor[key]) != len(tensor["shape"]):
            raise InputError(
                f"{what}: {tensor['name']} has {len(tensor[key])} {key}, but a shape of {len(tensor['shape'])}"
            )


def parse_document(content: bytes, kind: str, path: Path) -> Any:
    """The content of a JSON file of a model folder, validated.

    Args:
        content: The file.
        kind: Its schema: `config`, `manifest`, `metrics` or `parity`.
        path: For errors.

    Raises:
        IntegrityError: If it is not JSON.
        InputError: If it has another format version, or violates the schema.
    """
    document = parse_json(content, str(path))
    version = document.get("format") if isinstance(document, dict) else None
    if type(version) is int and version != FORMAT:
        raise InputError(f"{path} has format {version!r}; this version reads format {FORMAT}: update perception-zoo")
    schema(kind).check(document, str(path))
    return document


def encode_document(document: Mapping[str, Any], kind: str, path: Path) -> bytes:
    """The JSON text of `document`, checked to be readable by `parse_document`.

    Raises:
        InputError: If it is not.
    """
    content = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    parse_document(content, kind, path)
    return content


def write_manifest(path: Path, listed: Sequence[str] | None = None) -> None:
    """Writes `MANIFEST.json` for the files `listed` (relative, with `/`), by default every file in the folder."""
    if listed is None:
        listed = [
            file.relative_to(path).as_posix()
            for file in path.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
    listed = [file for file in listed if file not in (MANIFEST, SIGNATURE) and not file.startswith(f"{DEVICES}/")]
    files = {file: _manifest_entry(path / file) for file in sorted(set(listed))}
    write_json(path / MANIFEST, {"format": FORMAT, "files": files})


def _manifest_entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "size": path.stat().st_size}


def _identity(row: Mapping[str, Any], key: Sequence[str]) -> str:
    return json.dumps([row.get(name) for name in key], sort_keys=True)


def _manifest_content(path: Path) -> bytes:
    try:
        _check_file(path / MANIFEST, MANIFEST, None, _roots(path))
        return read_regular(path / MANIFEST, _LIMITS[".json"])
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is not a model folder: it has no {MANIFEST}") from error


def read_manifest(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """`files` of the `MANIFEST.json` in the folder `path`, validated.

    Raises:
        InputError: If it has another format version.
        IntegrityError: If it is missing, not a regular file inside the folder, invalid or ambiguous.
    """
    content = _manifest_content(path)
    files = parse_document(content, "manifest", path / MANIFEST)["files"]
    folded: dict[str, str] = {name.lower(): name for name in (MANIFEST, SIGNATURE)}
    for file in files:  # two names for one file, on case-insensitive file systems
        other = folded.setdefault(file.lower(), file)
        if other != file or file in (MANIFEST, SIGNATURE):
            raise IntegrityError(f"{path / MANIFEST} lists both {other} and {file}")
    for file in files:
        parents = file.lower().split("/")[:-1]
        if inside := [name for i in range(len(parents)) if (name := "/".join(parents[: i + 1])) in folded]:
            raise IntegrityError(f"{path / MANIFEST} lists {folded[inside[0]]} as a file and {file} inside it")
    return files


def _check_files(path: Path, manifest: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises an `IntegrityError` unless every listed file that exists is a regular file in its place.

    A missing file does no harm until it is read; sizes are compared when a file is read.
    """
    roots = _roots(path)
    for file in manifest:
        try:
            _check_file(path / file, file, None, roots)
        except FileNotFoundError:
            continue


def _roots(path: Path) -> tuple[str, ...]:
    """Folders that may hold the files: the model folder itself and, for a snapshot in the Hub's cache, its `blobs`."""
    own = os.path.realpath(path)
    snapshots = os.path.dirname(own)
    if os.path.basename(snapshots) == "snapshots":
        return own, os.path.join(os.path.dirname(snapshots), "blobs")
    return (own,)


def _check_file(path: Path, file: str, size: int | None, roots: tuple[str, ...]) -> None:
    """Raises an `IntegrityError` unless `path` is a regular file under `roots`, of `size` bytes if given."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise
    except OSError as error:  # a loop of links, a file in place of a folder, no permission
        raise IntegrityError(f"{path} cannot be read: {error.strerror}") from error
    require_regular(status, path)
    real = os.path.realpath(path)
    if not any(os.path.commonpath([root, real]) == root for root in roots):
        raise IntegrityError(f"{path} is a link to {real}, outside the folder; such a file is not used")
    limit = _LIMITS.get(os.path.splitext(file)[1] or file, _OTHER_LIMIT)
    if status.st_size > limit:
        raise IntegrityError(f"{path} has {status.st_size:,} bytes; at most {limit:,} are read from such a file")
    if size is not None and status.st_size != size:
        raise IntegrityError(f"{path} has {status.st_size:,} bytes, but {MANIFEST} says {size:,}; get the model again")
