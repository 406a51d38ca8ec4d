"""Per-frame records on disk, which let an evaluation be resumed and be shared by several processes.

One JSON line is appended per frame as soon as it is tallied. The file name contains a hash of the protocol (data
fingerprint, model file, settings), so results from different protocols are never mixed. Under `torchrun`, each process
writes its own file and reads all of them, so a run can be resumed with a different number of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from zoo.errors import InputError
from zoo.evaluate.metrics import Metric

__all__ = ["FrameStore", "protocol_hash"]

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 1800.0


def protocol_hash(protocol: dict[str, Any]) -> str:
    """SHA-256 of the protocol's canonical JSON."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True, default=str).encode()).hexdigest()


class FrameStore:
    """The records of one model on one data set under one protocol.

    Args:
        folder: Folder of the files.
        name: Model and data set, for the file names.
        protocol: Everything that the records depend on, as JSON values.
        metric: Metric that encodes and decodes the records.
        rank: Rank of this process.
        world: Number of processes.
    """

    def __init__(
        self, folder: Path, name: str, protocol: dict[str, Any], metric: Metric, rank: int = 0, world: int = 1
    ) -> None:
        self._folder = folder
        self._metric = metric
        self._stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
        self._hash = protocol_hash(protocol)[:16]
        self._suffix = f".rank{rank}of{world}.jsonl" if world > 1 else ".jsonl"
        self._handle: IO[bytes] | None = None

    @property
    def path(self) -> Path:
        """File that this process appends to."""
        return self._folder / f"{self._stem}.{self._hash}{self._suffix}"

    def others(self) -> list[Path]:
        """Files of the same model and data set under a different protocol."""
        mine = f"{self._stem}.{self._hash}."
        pattern = re.compile(re.escape(self._stem) + r"\.[0-9a-f]{16}\..*jsonl")
        files = self._folder.glob("*.jsonl") if self._folder.is_dir() else ()
        return sorted(path for path in files if pattern.fullmatch(path.name) and not path.name.startswith(mine))

    def clear(self) -> None:
        """Deletes the records of this protocol."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def load(self) -> dict[str, Any]:
        """Records by frame id, from the files of all processes."""
        return {id: record for path in self._files() for id, record in self._read(path).items()}

    def append(self, id: str, record: Any) -> None:
        """Appends one record and writes it to the file before returning.

        Raises:
            InputError: If the disk is full or the folder is not writable.
        """
        try:
            if self._handle is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                if self.path.exists():
                    os.truncate(self.path, len(_whole_lines(self.path)))
                self._handle = open(self.path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
            line = (json.dumps({"frame": id, "tally": self._metric.encode(record)}) + "\n").encode()
            if self._handle.write(line) != len(line):
                raise OSError(28, "No space left on device")
        except OSError as error:
            raise InputError(
                f"cannot write {self.path}: {error.strerror}; free some space or choose another folder"
            ) from error

    def close(self) -> None:
        """Closes the file."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def wait_for(self, ids: Collection[str], patience: float = _PATIENCE_SECONDS) -> dict[str, Any]:
        """Waits until the other processes have written their records and returns those of all `ids`.

        Raises:
            InputError: If no new record arrives for `patience` seconds.
        """
        count, since = -1, time.monotonic()
        while True:
            records = self.load()
            missing = [id for id in ids if id not in records]
            if not missing:
                return records
            if len(missing) != count:
                count, since = len(missing), time.monotonic()
            elif time.monotonic() - since > patience:
                raise InputError(
                    f"{len(missing)} frames of the other processes are still missing after {patience:.0f} s without "
                    "progress; --out must be a folder that all processes share"
                )
            time.sleep(_POLL_SECONDS)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._stem}.{self._hash}.*jsonl")) if self._folder.is_dir() else []

    def _read(self, path: Path) -> dict[str, Any]:
        records = {}
        for number, line in enumerate(_whole_lines(path).splitlines(), 1):
            try:
                row = json.loads(line)
                records[row["frame"]] = self._metric.decode(row["tally"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path} line {number} is damaged; start over with --fresh") from error
        return records


def _whole_lines(path: Path) -> bytes:
    """The file up to its last complete line; a killed process may leave a partial one."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]
