"""Flips single bytes in the files of a signed model folder; `zoo verify --key` must refuse every one.

    python benchmarks/flipped_bytes.py [--count 1000] [--seed 0] [--folder DIR]

Needs the extra `sign` and `openssl`. Each round draws one of the signed files (the manifest included), a position and
another value for that byte, checks signature and hashes, and puts the byte back. Prints how many were refused; the exit
code is 1 if one was accepted.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from zoo.errors import InputError
from zoo.folder.catalogue import BUNDLED
from zoo.folder.model_folder import MANIFEST, ModelFolder
from zoo.folder.signature import check_signature, sign


def keys(folder: Path) -> tuple[Path, Path]:
    """A new pair of keys: private, public."""
    private, public = folder / "private.pem", folder / "public.pem"
    words = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)]
    subprocess.run(words, check=True, capture_output=True)
    subprocess.run(
        ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)], check=True, capture_output=True
    )
    return private, public


def refused(path: Path, public: Path) -> bool:
    """Whether signature or hashes are refused with an error of ours."""
    try:
        folder = ModelFolder.open(path)
        check_signature(folder, public)
        folder.verify()
    except InputError:
        return True
    return False


def flip(path: Path, public: Path, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Files in which bytes were flipped, with how often, and the flips that were accepted."""
    draw = random.Random(seed)
    files = sorted([*ModelFolder.open(path).manifest, MANIFEST])
    tried: Counter[str] = Counter()
    accepted = []
    for _ in range(count):
        file = draw.choice(files)
        with open(path / file, "r+b") as handle:
            position = draw.randrange((path / file).stat().st_size)
            handle.seek(position)
            before = handle.read(1)
            after = bytes([before[0] ^ draw.randrange(1, 256)])
            handle.seek(position)
            handle.write(after)
            handle.flush()
            tried[file] += 1
            if not refused(path, public):
                accepted.append(f"{file} at {position}: {before!r} to {after!r}")
            handle.seek(position)
            handle.write(before)
    return tried, accepted


def main() -> int:
    """Signs a copy of a folder, flips bytes in it and prints the outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=BUNDLED / "supervised-resnet18w48-synthetic.fpn-synthetic")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model"
        shutil.copytree(arguments.folder, path)
        private, public = keys(Path(temporary))
        sign(ModelFolder.open(path), private)
        assert not refused(path, public), "the signed folder itself must be accepted"
        tried, accepted = flip(path, public, arguments.count, arguments.seed)
        assert not refused(path, public), "all bytes were put back"
    for file, times in sorted(tried.items()):
        print(f"{times:5} {file}")
    print(f"{sum(tried.values())} flips, {sum(tried.values()) - len(accepted)} refused")
    for line in accepted:
        print("accepted:", line)
    return 1 if accepted else 0


if __name__ == "__main__":
    raise SystemExit(main())
