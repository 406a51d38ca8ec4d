"""Publishing a model folder on the Hugging Face Hub, in one commit.

Refused are folders that differ from their manifest, exported files without a parity record, files without measured
figures, and models whose licence chain is missing or unknown. Engines and records of one device stay where they are;
the documents that mention them are written anew without them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.errors import InputError
from zoo.folder.card import render_card
from zoo.folder.model_folder import (
    CARD,
    CONFIG,
    DEVICES,
    FORMAT,
    MANIFEST,
    METRICS,
    PARITY,
    SIGNATURE,
    ModelFolder,
    encode_document,
    parse_document,
    read_manifest,
)
from zoo.folder.model_index import EVAL_RESULTS, eval_results
from zoo.folder.publishable import publishable
from zoo.hub import explained, hub_client, parse_repository

__all__ = ["PushPlan", "Pushed", "plan_push", "push"]

_LOCAL_FOLDERS = {"tensorrt": "an engine built for one device", DEVICES: "a record of one device"}
_ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
_READ_AHEAD = 8 * 1024 * 1024  # bytes; larger files are read by the client, which shows their progress
_OF_EVERY_REPOSITORY = {".gitattributes", "README.md", "LICENSE"}  # a new repository may have them


@dataclass(frozen=True)
class PushPlan:
    """What a push sends.

    Attributes:
        name: The model's name.
        files: Content, or the file to read, by path in the repository; the manifest is one of them.
        manifest: SHA-256 and size by path, of every file but the manifest, its signature and `.eval_results`.
        left_out: Files of the folder that stay local, and why.
    """

    name: str
    files: Mapping[str, bytes | Path]
    manifest: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, str]

    def size(self, file: str) -> int:
        """Size of a file in bytes."""
        content = self.files[file]
        return len(content) if isinstance(content, bytes) else self.manifest[file]["size"]


@dataclass(frozen=True)
class Pushed:
    """A finished push: the commit, its page, and files of an earlier push that it removed."""

    commit: str
    url: str
    removed: Sequence[str]


def plan_push(folder: ModelFolder, eval_datasets: Mapping[str, str] | None = None) -> PushPlan:
    """Checks a folder and says what a push would send. Needs no network.

    Args:
        folder: The model.
        eval_datasets: Data sets on the Hub (`org/name`), by the kind of data, for which `.eval_results` are sent too.

    Raises:
        IntegrityError: If a file differs from the manifest.
        InputError: If the folder may not be published; the message lists all reasons.
    """
    left_out = {file: reason for file in folder.manifest if (reason := _stays_local(folder, file))}
    artefacts = [entry for entry in folder.config["artefacts"] if entry["file"] not in left_out]
    problems = publishable(folder, artefacts)
    if not artefacts:
        problems.append("it holds no file that runs on more than one device")
    if problems:
        raise InputError(f"{folder.path} cannot be pushed: {'; '.join(problems)}")
    kept = [file for file in folder.manifest if file not in left_out]
    written = _without(folder, artefacts) if left_out else {}
    files: dict[str, bytes | Path] = {}
    for file in kept:
        large = folder.manifest[file]["size"] > _READ_AHEAD
        files[file] = written.get(file) or (folder.path / file if large else folder.read_bytes(file))
    manifest = {file: _entry(written[file]) if file in written else folder.manifest[file] for file in kept}
    files[MANIFEST] = _encoded_manifest(manifest) if left_out else folder.manifest_bytes()
    if (signature := folder.signature()) is not None:
        if left_out:
            left_out[SIGNATURE] = "it signs the manifest with the files that are left out"
        else:
            files[SIGNATURE] = signature
    known = {entry["sha256"] for entry in artefacts}
    rows = [row for row in folder.metrics() if row["artefact_sha256"] in known]
    for path, text in eval_results(folder.config, rows, eval_datasets or {}).items():
        files[path] = text.encode()
    return PushPlan(folder.name, files, manifest, {**left_out, **_unlisted(folder)})


def _stays_local(folder: ModelFolder, file: str) -> str | None:
    """Why a file is not published, or `None`."""
    top = file.split("/")[0]
    engines = {entry["file"]: entry["engine"] for entry in folder.config["artefacts"]}
    if engines.get(file) == "tensorrt" or PurePosixPath(file).suffix in _ENGINE_SUFFIXES:
        return _LOCAL_FOLDERS["tensorrt"]
    return _LOCAL_FOLDERS.get(top) if "/" in file else None


def _unlisted(folder: ModelFolder) -> dict[str, str]:
    present = (file.relative_to(folder.path).as_posix() for file in folder.path.rglob("*") if file.is_file())
    return {
        file: f"not listed in {MANIFEST}"
        for file in sorted(present)
        if file not in {*folder.manifest, MANIFEST, SIGNATURE}
    }


def _read_parity(folder: ModelFolder) -> dict[str, Any]:
    if PARITY not in folder.manifest:
        return {"format": FORMAT, "rows": [], "files": []}
    return parse_document(folder.read_bytes(PARITY), "parity", folder.path / PARITY)


def _without(folder: ModelFolder, artefacts: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """The documents of the folder, reduced to the files that are published."""
    known = {entry["sha256"] for entry in artefacts}
    config = {**folder.config, "artefacts": list(artefacts)}
    rows = [row for row in folder.metrics() if row["artefact_sha256"] in known]
    parity = _read_parity(folder)
    parity["rows"] = [row for row in parity["rows"] if row["artefact_sha256"] in known]
    parity["files"] = [entry for entry in parity["files"] if entry["sha256"] in known]
    documents = {
        CONFIG: encode_document(config, "config", folder.path / CONFIG),
        METRICS: encode_document({"format": FORMAT, "rows": rows}, "metrics", folder.path / METRICS),
        PARITY: encode_document(parity, "parity", folder.path / PARITY),
    }
    if "provenance" in config:  # rendered by this package, not written by hand
        documents[CARD] = render_card(config, rows).encode()
    return {file: content for file, content in documents.items() if file in folder.manifest}


def _entry(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _encoded_manifest(files: Mapping[str, Any]) -> bytes:
    return (json.dumps({"format": FORMAT, "files": dict(sorted(files.items()))}, indent=2) + "\n").encode()


def push(plan: PushPlan, repository: str, *, private: bool = False, message: str | None = None) -> Pushed:
    """Publishes a model folder: creates the repository if it does not exist, and sends everything in one commit.

    Files of an earlier push that the folder no longer has are removed in the same commit. Files that no manifest lists
    stay, since no model uses them.

    Args:
        plan: What to send.
        repository: `org/name`.
        private: Create the repository as a private one.
        message: Commit message.

    Raises:
        MissingExtraError: If `huggingface_hub` is not installed.
        InputError: If the name is malformed, there is no token or it does not allow the push, the repository holds
            something else, someone else pushed meanwhile, or the Hub fails. Nothing is published then.
    """
    parse_repository(repository)
    hub = hub_client(f"pushing to {repository}")
    what = f"pushing {plan.name} to {repository}"
    if hub.get_token() is None:
        raise InputError(f"{what}: no token; set HF_TOKEN to one that may write to {repository}, or run hf auth login")
    api = hub.HfApi(library_name="perception-zoo")
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        info = api.model_info(repository)
        if private and info.private is False:
            raise InputError(f"{what}: the repository exists and is public; make it private in its settings first")
        removed = _stale(hub, plan, info, what)
        operations = [*_additions(hub, plan, what), *(hub.CommitOperationDelete(file) for file in removed)]
        commit = api.create_commit(
            repository, operations, commit_message=message or f"Push {plan.name}", parent_commit=info.sha
        )
    except Exception as error:
        raise explained(hub, error, what) from error
    return Pushed(commit.oid, commit.commit_url, removed)


def _additions(hub: Any, plan: PushPlan, what: str) -> Iterator[Any]:
    for file, content in plan.files.items():
        addition = hub.CommitOperationAdd(file, content)
        expected = plan.manifest.get(file)  # none for what the manifest does not list, which is in memory
        if expected is not None and addition.upload_info.sha256.hex() != expected["sha256"]:
            raise InputError(f"{what}: {file} has changed since it was checked; push again")
        yield addition


def _stale(hub: Any, plan: PushPlan, info: Any, what: str) -> list[str]:
    """Files that an earlier push made and this one lacks.

    Raises:
        InputError: If the repository holds something other than a model folder.
    """
    present = {sibling.rfilename for sibling in info.siblings or ()}
    if MANIFEST not in present:
        if foreign := sorted(present - _OF_EVERY_REPOSITORY):
            raise InputError(f"{what}: the repository holds {foreign[0]} but no {MANIFEST}; choose another repository")
        return []
    with tempfile.TemporaryDirectory() as temporary:
        hub.hf_hub_download(info.id, MANIFEST, revision=info.sha, local_dir=temporary)
        before = read_manifest(Path(temporary).resolve())
    ours = {*before, SIGNATURE, *(file for file in present if file.startswith(EVAL_RESULTS))}
    return sorted((ours & present) - set(plan.files))
