"""Downloads from the Hub that are killed at random moments, and many processes that load one model at once.

Run: python benchmarks/hub_faults.py [--kills 100] [--processes 16]

A local server (`tests/hub_server.py`) plays the Hub; the clients are the real `huggingface_hub` in processes of their
own. After each SIGKILL every file that is visible under a name in the cache is compared with the published one, byte
for byte, and then the next load has to succeed. `tests/test_hub.py` runs a few of both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from hub_server import Fault, Hub  # noqa: E402

MODEL = "supervised-resnet18w48-synthetic.fpn-camvid"
REPOSITORY = "org/model"
CHUNK_S = 0.01  # between chunks of 64 KiB, so that a download takes long enough to be killed in the middle
DOWNLOAD = f"""
from zoo.hub import download
print(download("hf-hub:{REPOSITORY}"))
"""
LOAD = f"""
import pathlib, sys, time, numpy as np, huggingface_hub, onnxruntime, zoo
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)
predictor = zoo.load("hf-hub:{REPOSITORY}", engine="onnx", threads=1)
print(predictor(np.zeros((64, 96, 3), np.uint8)).labels.shape)
"""


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of every file of a folder by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small_files(seed: int = 0, size: int = 1_000_000) -> dict[str, bytes]:
    """A model folder that no engine can run: the bundled one, its large files replaced by `size` random bytes."""
    files = files_of(ROOT / "zoo" / "models" / MODEL)
    draw = random.Random(seed)
    for path in [path for path, content in files.items() if len(content) > 100_000]:
        before, files[path] = files[path], draw.randbytes(size)
        for document in ("config.json", "metrics.json", "parity.json", "README.md"):
            old, new = (hashlib.sha256(content).hexdigest().encode() for content in (before, files[path]))
            files[document] = files[document].replace(old, new)
    del files["MANIFEST.json"]
    files["MANIFEST.json"] = manifest_of(files)
    return files


def manifest_of(files: dict[str, bytes]) -> bytes:
    """`MANIFEST.json` of `files`."""
    entries = {
        path: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for path, content in files.items()
    }
    return json.dumps({"format": 1, "files": entries}).encode()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """Environment variables of a client: nothing else tells it where the Hub and its cache are."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    return {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}


def start(hub: Hub, home: Path, program: str, *words: str) -> subprocess.Popen[str]:
    """A client process."""
    command = [sys.executable, "-c", program, *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(hub, home), stdout=pipe, stderr=pipe, text=True)


def finished(client: subprocess.Popen[str]) -> str:
    """What a client printed.

    Raises:
        RuntimeError: If it failed.
    """
    printed, errors = client.communicate()
    if client.returncode != 0:
        raise RuntimeError(f"a client failed:\n{errors}")
    return printed.strip()


def visible(home: Path) -> dict[str, bytes]:
    """Every file of the cache that has a name of the model: what any program finds in a snapshot."""
    found: dict[str, bytes] = {}
    for snapshot in (home / "hub").glob("models--*/snapshots/*"):
        found |= {
            path.relative_to(snapshot).as_posix(): path.read_bytes()
            for path in snapshot.rglob("*")
            if not path.is_dir()
        }
    return found


def kill_downloads(count: int, seed: int = 0) -> dict[str, float]:
    """Kills `count` downloads, each at a random moment after its first request; those that end before do not count.

    Returns:
        How many downloads were started and killed, how many snapshots were then partly filled, and how many of all
        files the next loads did not have to fetch again.

    Raises:
        RuntimeError: If a file is visible that is not the published one, or a load fails.
    """
    draw, files = random.Random(seed), small_files(seed)
    trials = killed = partial = reused = 0
    with Hub().running() as hub, tempfile.TemporaryDirectory() as temporary:
        hub.add(REPOSITORY, files)
        hub.faults.append(Fault("slow", value=CHUNK_S))
        home = Path(temporary) / "warm"
        began = _first_request(hub, client := start(hub, home, DOWNLOAD))
        finished(client)
        duration = time.monotonic() - began
        while killed < count:
            home, trials = Path(temporary) / str(trials), trials + 1
            began = _first_request(hub, client := start(hub, home, DOWNLOAD))
            time.sleep(max(0, began + draw.uniform(0, duration) - time.monotonic()))
            client.kill()
            client.communicate()
            killed += client.returncode != 0
            found = visible(home)
            _check(found, files)
            partial += 0 < len(found) < len(files)
            asked = len(hub.requests)
            snapshot = Path(finished(start(hub, home, DOWNLOAD)))
            _check(found := visible(home), files)
            if found != files or files_of(snapshot) != files:
                raise RuntimeError("the next load left the model incomplete")
            if leftovers := [path for path in home.rglob("*") if ".unverified" in path.parts and path.is_file()]:
                raise RuntimeError(f"left behind: {leftovers}")
            reused += len(files) - len(
                [line for line in hub.requests[asked:] if line.startswith("GET") and _is_content(line)]
            )
            shutil.rmtree(home)
        if hub.complaints:
            raise RuntimeError(f"the server refused: {hub.complaints[:3]}")
    return {
        "downloads": trials,
        "killed": killed,
        "partly visible": partial,
        "files reused": reused,
        "files": trials * len(files),
    }


def _first_request(hub: Hub, client: subprocess.Popen[str]) -> float:
    """The time of the client's first request."""
    before = len(hub.requests)
    while len(hub.requests) == before and client.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def _is_content(line: str) -> bool:
    return "/download/" in line or "/resolve-cache/" in line


def _check(found: dict[str, bytes], published: dict[str, bytes]) -> None:
    wrong = [path for path, content in found.items() if published.get(path) != content]
    if wrong:
        raise RuntimeError(f"visible, but not what was published: {wrong}")


def load_at_once(processes: int, program: str = LOAD, files: dict[str, bytes] | None = None) -> dict[str, float]:
    """Loads one model in many processes that start at the same moment with an empty cache.

    Returns:
        Seconds until the last one was done, and how often each large file was downloaded at most.

    Raises:
        RuntimeError: If one of them fails.
    """
    files = files or files_of(ROOT / "zoo" / "models" / MODEL)
    with Hub().running() as hub, tempfile.TemporaryDirectory() as temporary:
        hub.add(REPOSITORY, files)
        home, go = Path(temporary) / "home", Path(temporary) / "go"
        ready = [Path(temporary) / f"ready{number}" for number in range(processes)]
        clients = [start(hub, home, program, str(path), str(go)) for path in ready]
        while not all(path.exists() for path in ready):
            if any(client.poll() for client in clients):
                break
            time.sleep(0.02)
        began = time.monotonic()
        go.touch()
        printed = {finished(client) for client in clients}
        seconds = time.monotonic() - began
        _check(visible(home), files)
        if len(printed) != 1 or hub.complaints:
            raise RuntimeError(f"clients disagree or the server refused: {printed}, {hub.complaints[:3]}")
        paths = [line.partition("path=")[2] for line in hub.sent("^GET /download/")]
    return {"seconds": seconds, "downloads per file": max(paths.count(path) for path in paths)}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(words)
    for name, figures in (
        (f"{arguments.kills} downloads, SIGKILL", lambda: kill_downloads(arguments.kills, arguments.seed)),
        (f"{arguments.processes} processes at once", lambda: load_at_once(arguments.processes)),
    ):
        print(
            f"{name}: all checks passed; " + ", ".join(f"{key} {value:g}" for key, value in figures().items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
