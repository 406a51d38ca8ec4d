"""Models on the Hugging Face Hub, loaded through the Hub's own cache.

The Hub's client compares only the size of a download with what the server announced. Here a file becomes visible under
its name only after its SHA-256 was found to be the one in the model's manifest:

1. A file is downloaded to `.unverified/COMMIT/` in the repository's folder of the cache.
2. Once its hash is right, it is moved to `blobs/SHA256`, and the snapshot gets a link to it.
3. `MANIFEST.json` is linked last, so a snapshot without it is not yet a model folder. Just before it comes its
   signature, `MANIFEST.sig`, if the repository has one; only `zoo verify --key` can say whose it is.

Each of these steps is atomic, so a killed process leaves nothing wrong behind, and the next one keeps the files that
were complete. A lock makes other processes wait for the one that downloads. Before a snapshot is used, all its files
are hashed, so damage and files that other programs put into the cache are found, and those files downloaded again.

`huggingface_hub` is imported only when it is needed. It follows `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`,
`HF_HUB_OFFLINE` and `HF_HUB_DISABLE_XET`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import InputError, IntegrityError, require
from zoo.files import sha256_of, write_bytes
from zoo.folder.model_folder import MANIFEST, SIGNATURE, read_manifest

__all__ = ["HUB_PREFIX", "download", "explained", "hub_client", "parse_repository"]

HUB_PREFIX = "hf-hub:"
_COMMIT = re.compile("[0-9a-f]{40}")
_NAME = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(?:/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_MAX_MANIFEST = 16 * 1024 * 1024
_MAX_SIGNATURE = 1024 * 1024
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENOTDIR)


def download(reference: str, revision: str | None = None, *, local_files_only: bool = False) -> Path:
    """The folder of a model in the Hub's cache, complete and verified; downloads what is missing.

    A full commit hash needs no connection once its files are in the cache. For a branch or a tag, the Hub is asked
    which commit it is; if the Hub cannot be reached, the commit of the last time is used, with a warning.

    Args:
        reference: `hf-hub:org/name`, optionally followed by `@` and a revision.
        revision: Commit, tag or branch; `main` by default.
        local_files_only: Use the cache without connecting to the Hub, as with `HF_HUB_OFFLINE=1`.

    Raises:
        MissingExtraError: If `huggingface_hub` is not installed.
        IntegrityError: If the Hub sends a file that differs from the manifest.
        InputError: If the reference is malformed, there is no such model or revision, access is denied, the download
            fails, or the cache cannot be written.
    """
    repository, revision = _parsed(reference, revision)
    what = f"{HUB_PREFIX}{repository}@{revision}"
    hub = hub_client(f"loading {what}")
    cached = _Cached(Path(hub.constants.HF_HUB_CACHE).expanduser().resolve(), repository)
    if local_files_only or hub.constants.is_offline_mode():
        return _without_network(cached, revision, what)
    if (known := cached.commit(revision)) == revision and _problem(cached.snapshot(known)) is None:
        return cached.snapshot(known)
    try:
        info = hub.HfApi(library_name="perception-zoo").model_info(repository, revision=revision, files_metadata=True)
    except Exception as error:
        if known and _is_outage(hub, error) and _problem(cached.snapshot(known)) is None:
            warnings.warn(f"{hub.constants.ENDPOINT} cannot be reached; using {what} as of {known[:12]}", stacklevel=2)
            return cached.snapshot(known)
        raise explained(hub, error, what) from error
    if not _COMMIT.fullmatch(info.sha or ""):
        raise InputError(f"{what}: {hub.constants.ENDPOINT} names no commit; check that HF_ENDPOINT is a Hub")
    if _problem(cached.snapshot(info.sha)) is not None:
        try:
            _fetch(hub, cached, info, what)
        except OSError as error:
            raise explained(hub, error, what) from error
    cached.remember(revision, info.sha)
    return cached.snapshot(info.sha)


def parse_repository(text: str) -> str:
    """`text`, checked to be the name of a repository, `org/name`.

    Raises:
        InputError: If it is not.
    """
    parts = text.split("/")
    good = len(parts) == 2 and all(_NAME.fullmatch(part) for part in parts) and len(text) <= 96
    if not good or "--" in text or ".." in text or text.endswith(".git"):
        raise InputError(
            f"Hub repository {text[:100]!r}: expected {HUB_PREFIX}org/name, of letters, digits and single - _ ."
        )
    return text


def _parsed(reference: str, revision: str | None) -> tuple[str, str]:
    name, at, own = reference.removeprefix(HUB_PREFIX).partition("@")
    if at and revision not in (None, own):
        raise InputError(f"{reference} names the revision {own}, but revision {revision!r} was given as well")
    revision = own if at else revision or "main"
    if not _REVISION.fullmatch(revision) or ".." in revision or len(revision) > 200:
        raise InputError(f"revision {revision[:100]!r}: expected a commit hash, a tag or a branch")
    return parse_repository(name), revision


def hub_client(purpose: str) -> Any:
    """The package `huggingface_hub`.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise require("huggingface_hub", "hub", purpose) from error
    return huggingface_hub


@dataclass(frozen=True)
class _Cached:
    """Where the Hub's cache keeps a repository; the layout is the one that the Hub documents."""

    cache: Path
    repository: str

    @property
    def folder(self) -> Path:
        return self.cache / f"models--{self.repository.replace('/', '--')}"

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def blob(self, sha256: str) -> Path:
        return self.folder / "blobs" / sha256

    def unverified(self, commit: str) -> Path:
        return self.folder / ".unverified" / commit

    def commit(self, revision: str) -> str | None:
        """The commit of a revision, as far as the cache knows."""
        if _COMMIT.fullmatch(revision):
            return revision
        with contextlib.suppress(OSError, UnicodeDecodeError):
            commit = (self.folder / "refs" / revision).read_text(encoding="utf-8").strip()
            return commit if _COMMIT.fullmatch(commit) else None
        return None

    def remember(self, revision: str, commit: str) -> None:
        """Notes the commit of a branch or tag. In a read-only cache the old note stays, which does no harm."""
        if self.commit(revision) != commit:
            with contextlib.suppress(InputError):
                write_bytes(self.folder / "refs" / revision, commit.encode())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes other processes that want to change this repository's folder wait. The system releases the lock of a
        killed process."""
        path = self.cache / ".locks" / self.folder.name / "perception-zoo.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            with contextlib.suppress(OSError):  # no locks on this file system: the same work is done several times
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _without_network(cached: _Cached, revision: str, what: str) -> Path:
    commit = cached.commit(revision)
    problem = _problem(cached.snapshot(commit)) if commit else "it was never loaded"
    if commit is None or problem is not None:
        raise InputError(
            f"{what} cannot be loaded from {cached.cache} without the network: {problem}; "
            "load it once without HF_HUB_OFFLINE and local_files_only, or give a folder"
        )
    return cached.snapshot(commit)


def _problem(snapshot: Path) -> str | None:
    """Why the snapshot cannot be used as it is: the first file that is missing or differs from the manifest."""
    if not (snapshot / MANIFEST).exists():
        return f"{MANIFEST} is missing"
    try:
        manifest = read_manifest(snapshot)
    except InputError as error:
        return str(error)
    for file, expected in manifest.items():
        if not _matches(snapshot / file, expected):
            return f"{file} {'differs from the manifest' if (snapshot / file).exists() else 'is missing'}"
    return None


def _matches(path: Path, expected: Mapping[str, Any]) -> bool:
    try:
        return path.is_file() and path.stat().st_size == expected["size"] and sha256_of(path) == expected["sha256"]
    except OSError:
        return False


def _fetch(hub: Any, cached: _Cached, info: Any, what: str) -> None:
    """Downloads the files of a commit that are missing or wrong in its snapshot.

    Args:
        hub: The client.
        cached: The repository's folder of the cache.
        info: The Hub's description of the commit: its hash, its files and their sizes and hashes.
        what: The model, for errors.
    """
    snapshot, unverified = cached.snapshot(info.sha), cached.unverified(info.sha)
    with cached.locked():
        if _problem(snapshot) is None:  # another process has downloaded it meanwhile
            return
        _remove_abandoned(unverified)
        fetch = functools.partial(_fetch_file, hub, cached, info.sha, what)
        try:
            manifest = _fetch_manifest(fetch, unverified, info, what)
        except InputError:
            shutil.rmtree(unverified, ignore_errors=True)
            raise
        for file, expected in manifest.items():
            if not _matches(snapshot / file, expected):
                if not _matches(cached.blob(expected["sha256"]), expected):
                    fetch(file, functools.partial(_matches, expected=expected))
                    _store(unverified / file, cached.blob(expected["sha256"]))
                _link(cached.blob(expected["sha256"]), snapshot / file, unverified.parent)
        blobs = {name: cached.blob(sha256_of(unverified / name)) for name in _fetch_signature(fetch, info, what)}
        for name, blob in blobs.items():
            _store(unverified / name, blob)
        shutil.rmtree(unverified, ignore_errors=True)  # before the snapshot is complete: nobody would do it afterwards
        for name, blob in blobs.items():
            _link(blob, snapshot / name, unverified.parent)


def _remove_abandoned(unverified: Path) -> None:
    """Removes what killed processes left: partial files, which the client never resumes, and other commits."""
    with contextlib.suppress(FileNotFoundError):
        for other in unverified.parent.iterdir():
            if other != unverified:
                shutil.rmtree(other, ignore_errors=True)
    for partial in unverified.rglob("*.incomplete"):
        partial.unlink(missing_ok=True)


def _fetch_manifest(
    fetch: Callable[[str, Callable[[Path], bool]], None], unverified: Path, info: Any, what: str
) -> Mapping[str, Mapping[str, Any]]:
    """The validated manifest of a commit, whose files are those that the Hub lists."""
    listed = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    if MANIFEST not in listed:
        raise InputError(f"{what} is not a model of perception-zoo: the repository has no {MANIFEST}")
    if (listed[MANIFEST].size or 0) > _MAX_MANIFEST:
        raise IntegrityError(f"{what}: {MANIFEST} has {listed[MANIFEST].size:,} bytes; at most {_MAX_MANIFEST:,}")
    fetch(MANIFEST, functools.partial(_is_listed_content, listed[MANIFEST]))
    try:
        manifest = read_manifest(unverified)
    except InputError as error:
        raise type(error)(f"{what}: {error}") from error
    for file, expected in manifest.items():
        if file not in listed:
            raise IntegrityError(f"{what}: {MANIFEST} lists {file}, which the repository does not have")
        if listed[file].size not in (None, expected["size"]):
            raise IntegrityError(
                f"{what}: {file} has {listed[file].size:,} bytes, but {MANIFEST} says {expected['size']:,}"
            )
        if listed[file].lfs is not None and listed[file].lfs.sha256 != expected["sha256"]:
            raise IntegrityError(f"{what}: {file} has another SHA-256 than {MANIFEST} says; its makers must push again")
    return manifest


def _fetch_signature(fetch: Callable[[str, Callable[[Path], bool]], None], info: Any, what: str) -> tuple[str, ...]:
    """Downloads the signature, if the repository has one; returns the files to link, the manifest last."""
    listed = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    if SIGNATURE not in listed:
        return (MANIFEST,)
    if (listed[SIGNATURE].size or 0) > _MAX_SIGNATURE:
        raise IntegrityError(f"{what}: {SIGNATURE} has {listed[SIGNATURE].size:,} bytes; at most {_MAX_SIGNATURE:,}")
    fetch(SIGNATURE, functools.partial(_is_listed_content, listed[SIGNATURE]))
    return (SIGNATURE, MANIFEST)


def _is_listed_content(sibling: Any, path: Path) -> bool:
    """Whether a file has the hash that the Hub lists: SHA-256 for large files, git's own for others."""
    if sibling.lfs is not None:
        return sha256_of(path) == sibling.lfs.sha256
    content = path.read_bytes()
    return sibling.blob_id in (None, hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


def _fetch_file(hub: Any, cached: _Cached, commit: str, what: str, file: str, is_right: Callable[[Path], bool]) -> None:
    """Downloads a file to the folder for unverified files, and removes it again unless `is_right`.

    The first attempt may find the file there or in the cache; the second one always downloads it.
    """
    path = cached.unverified(commit) / file
    for again in (False, True):
        try:
            hub.hf_hub_download(
                cached.repository,
                file,
                revision=commit,
                cache_dir=cached.cache,
                local_dir=cached.unverified(commit),
                force_download=again,
                library_name="perception-zoo",
            )
        except Exception as error:
            raise explained(hub, error, what) from error
        if is_right(path):
            return
        path.unlink(missing_ok=True)
    raise IntegrityError(
        f"{what}: {hub.constants.ENDPOINT} sent {file} twice with another SHA-256 than expected; it was discarded"
    )


def _store(verified: Path, blob: Path) -> None:
    blob.parent.mkdir(parents=True, exist_ok=True)
    os.replace(verified, blob)


def _link(blob: Path, name: Path, temporary: Path) -> None:
    """Makes a blob visible as `name`, and removes the wrong blob that it replaces there."""
    if name.exists() and sha256_of(name) == blob.name:
        return
    name.parent.mkdir(parents=True, exist_ok=True)
    replaced, link = name.resolve(), temporary / ".link"
    link.unlink(missing_ok=True)
    try:
        os.symlink(os.path.relpath(blob, name.parent), link)
    except OSError:  # no links on this file system
        shutil.copyfile(blob, link)
    os.replace(link, name)
    if replaced.parent == blob.parent and replaced != blob:
        replaced.unlink(missing_ok=True)


def _is_outage(hub: Any, error: Exception) -> bool:
    """Whether the Hub could not be reached, or answered that it is out of order."""
    if isinstance(error, hub.errors.HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, hub.errors.HTTPError | ConnectionError)


def explained(hub: Any, error: Exception, what: str) -> InputError:
    """The error to raise, in one line, when the client failed with `error` while it loaded or pushed `what`."""
    kinds, endpoint = hub.errors, hub.constants.ENDPOINT
    while error.__cause__ is not None and isinstance(error, RuntimeError | kinds.LocalEntryNotFoundError):
        error = error.__cause__  # type: ignore[assignment]
    if isinstance(error, InputError):
        return error
    if isinstance(error, kinds.GatedRepoError):
        reason = f"the repository is gated; accept its terms at {endpoint} and set HF_TOKEN to a token of that account"
    elif isinstance(error, kinds.RepositoryNotFoundError):
        reason = f"{endpoint} has no such repository, or it is private; check the name or set HF_TOKEN"
    elif isinstance(error, kinds.RevisionNotFoundError):
        reason = "the repository has no such revision"
    elif isinstance(error, kinds.HfHubHTTPError):
        reason = _status_explained(error.response.status_code, endpoint)
    elif isinstance(error, kinds.OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set; unset it"
    elif isinstance(error, OSError) and error.errno in _DISK:
        where = error.filename or hub.constants.HF_HUB_CACHE
        reason = f"cannot read or write {where}: {error.strerror}; free some space, or set HF_HOME to another folder"
    elif _is_outage(hub, error):
        reason = f"{endpoint} cannot be reached ({type(error).__name__}); check the network, HF_ENDPOINT and proxies"
    else:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    return InputError(f"{what}: {reason}")


def _status_explained(status: int, endpoint: str) -> str:
    if status == 401:
        return f"{endpoint} does not accept the token (HTTP 401); set HF_TOKEN to a valid one"
    if status == 403:
        return f"{endpoint} denies access (HTTP 403); the token in HF_TOKEN lacks the permission"
    if status == 404:
        return f"{endpoint} does not have a file that it lists (HTTP 404)"
    if status == 412:
        return "the repository has changed meanwhile (HTTP 412); nothing was pushed, so push again"
    return f"{endpoint} answered HTTP {status}; try again later"
