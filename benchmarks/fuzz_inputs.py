"""Mutated input files: each must be refused with an error of ours, or read as an independent reader reads it.

    python benchmarks/fuzz_inputs.py --count 100000 --seed 0 --out runs/fuzz_inputs.json

PNG images and label maps, JPEG, npz, npy, points (`.bin`), safetensors, `config.json` and `MANIFEST.json`, in turn, are
changed at random: bytes, chunks and segments with right checksums, headers, values of documents. The reader of the
package then runs on each: `zoo.files`, `zoo.npz`, `zoo.inputs.points`, `zoo.folder`. What it accepts is compared with
what NumPy, or a few lines here, read from the same bytes.

The cases run in a worker process that cannot allocate more than 256 MiB in addition to what it has when it is idle.
It is started anew when it dies or takes too long, which are failures. Case `i` of a seed is the same every time, so a
run can be split: `--first 0 --count 50000` and `--first 50000 --count 50000` are the two halves of it.
`--first i --count 1 --verbose` shows one case. `fuzz_folders.py` mutates whole model folders.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import random
import shutil
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for the tests, which run this file from elsewhere
from fuzz_folders import (
    WEIGHTS,
    change_archive,
    change_bytes,
    change_header,
    change_structure,
    limit_memory,
    main,
    make_consistent,
    peak_bytes,
    write_base,
)

MEMORY = 256 * 1024 * 1024  # bytes of addresses beyond those of an idle worker
SIZE = (24, 20)  # width, height of the images


# --- the files that are mutated ---


def write_inputs(path: Path) -> None:
    """A valid file of every kind, and a model folder."""
    import numpy as np
    from PIL import Image

    path.mkdir(parents=True)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    labels = Image.fromarray(pixels[:, :, 0] % 4)
    Image.fromarray(pixels).save(path / "image.png")
    labels.putpalette(bytes(range(12)))
    labels.save(path / "labels.png")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    Image.fromarray(pixels).save(path / "image.jpg", exif=exif)
    Image.fromarray(pixels).save(path / "progressive.jpg", progressive=True, quality=30)
    points = generator.random((60, 4)).astype("<f4")
    (path / "points.bin").write_bytes(points.tobytes())
    np.save(path / "points.npy", points)
    np.savez_compressed(path / "arrays.npz", labels=pixels[:, :, 0], values=points)
    write_base(path / "folder")
    shutil.copyfile(path / "folder" / WEIGHTS, path / "weights.safetensors")


# --- what is done to them ---


def change_png(path: Path, rng: random.Random) -> None:
    """Other chunks, with right checksums."""
    chunks = _chunks(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = rng.randrange(len(chunks))
        kind, content = chunks[place]
        choice = rng.randrange(7)
        if choice == 0:
            sizes = [0, 1, 7, 24, 20, 300, 5000, 11_000, 40_000, 2**31 - 1, 2**31, 2**32 - 1]
            depth, colour = rng.choice([0, 1, 2, 4, 8, 16, 32]), rng.choice([0, 2, 3, 4, 6, 7])
            rest = bytes([depth, colour, rng.choice([0, 1]), rng.choice([0, 1]), rng.choice([0, 1, 2])])
            keep = chunks[0][1][8:13] if rng.random() < 0.5 else rest
            chunks[0] = (b"IHDR", struct.pack(">II", rng.choice(sizes), rng.choice(sizes)) + keep)
        elif choice == 1:
            chunks[place : place + 1] = [(kind, content)] * rng.choice([0, 2, 50])
        elif choice == 2:
            chunks.insert(place, chunks.pop(rng.randrange(len(chunks))))
        elif choice == 3:
            chunks.insert(place, (rng.choice(PNG_KINDS), _chunk_content(rng)))
        elif choice == 4:
            chunks[place] = (rng.choice(PNG_KINDS), content)
        elif choice == 5:
            changed = bytearray(content or b"\0")
            changed[rng.randrange(len(changed))] = rng.randrange(256)
            chunks[place] = (kind, bytes(changed))
        else:
            rows = _compressed_zeros(rng.choice([0, 1, 1459, 1460, 3000, 1_000_000]))
            chunks = [each for each in chunks if each[0] != b"IDAT"]
            chunks.insert(-1, (b"IDAT", rows[: rng.choice([5, len(rows), len(rows)])]))
    signature = b"\x89PNG\r\n\x1a\n"
    written = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    path.write_bytes(signature + b"".join(written))


PNG_KINDS = (
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf"),
    *(b"acTL", b"fcTL", b"fdAT", b"pHYs", b"sRGB", b"cHRM", b"abcd", b"ABCD"),
)


def _chunk_content(rng: random.Random) -> bytes:
    bomb = _compressed_zeros(rng.choice([100, 20_000_000]))
    return rng.choice(
        [
            *(b"", b"\0" * 13, rng.randbytes(30), b"key\0value", b"icc\0\0" + bomb, b"key\0\0" + bomb),
            *(
                b"key\0\1\0\0\0" + bomb,
                struct.pack(">II", rng.choice([0, 1, 2, 2**31]), 0),
                b"II*\0" + rng.randbytes(40),
            ),
        ]
    )


@functools.cache
def _compressed_zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        found.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def change_jpeg(path: Path, rng: random.Random) -> None:
    """Other segments: sizes, sampling, tables, EXIF data, markers."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 3])):
        marks = [i for i in range(len(content) - 4) if content[i] == 0xFF and content[i + 1] in JPEG_MARKERS]
        if not marks:
            break
        frames = [i for i in marks if content[i + 1] in (0xC0, 0xC2)]
        place, choice = rng.choice(marks), rng.randrange(6)
        if choice == 0 and frames:
            sizes = [0, 1, 20, 24, 4000, 11_000, 65_500, 65_535]
            content[frames[0] + 5 : frames[0] + 9] = struct.pack(">HH", rng.choice(sizes), rng.choice(sizes))
        elif choice == 1 and frames:
            content[frames[0] + 9 : frames[0] + 12] = bytes([rng.choice([0, 1, 3, 4, 255]), 1, rng.randrange(256)])
        elif choice == 2:
            content[place + 1] = rng.choice(JPEG_MARKERS)
        elif choice == 3:
            content[place + 2 : place + 4] = struct.pack(">H", rng.choice([0, 1, 2, 8, 1000, 65_535]))
        elif choice == 4:
            exif = b"Exif\0\0" + rng.choice([b"II*\0", b"MM\0*"]) + rng.randbytes(rng.choice([0, 4, 60, 900]))
            exif = rng.choice([exif, b"MPF\0II*\0" + rng.randbytes(80), b"ICC_PROFILE\0" + rng.randbytes(40)])
            kind = 0xE2 if exif.startswith((b"MPF", b"ICC")) else 0xE1
            content[2:2] = bytes([0xFF, kind]) + struct.pack(">H", len(exif) + 2) + exif
        else:
            content[place + 4 + rng.randrange(40) :][:1] = bytes([rng.randrange(256)])
            at = min(place + 4 + rng.randrange(40), len(content) - 1)
            content[at] = rng.randrange(256)
    path.write_bytes(content)


JPEG_MARKERS = (
    0xC0,
    0xC1,
    0xC2,
    0xC3,
    0xC4,
    0xC9,
    0xCA,
    0xCC,
    0xD0,
    0xD8,
    0xD9,
    0xDA,
    0xDB,
    0xDD,
    0xE0,
    0xE1,
    0xE2,
    0xEE,
)


def change_points(path: Path, rng: random.Random) -> None:
    """Other values, or another length."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.6:
        value = rng.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\1\0\0\0", b"\xff\xff\x7f\x7f"])
        place = 4 * rng.randrange(len(content) // 4)
        content[place : place + 4] = rng.choice([value, struct.pack("<f", rng.choice([-1.0, 0.0, 1.0, 1.5, 255.0]))])
    else:
        content = content[: rng.randrange(len(content) + 1)] * rng.choice([1, 2, 5, 2000])
    path.write_bytes(content)


def change_npy(path: Path, rng: random.Random) -> None:
    """Another header."""
    header = path.read_bytes()[10:128]
    words = {
        b"(60, 4)": [
            b"(60, 5)",
            b"(240,)",
            b"(2**40,)",
            b"(1099511627776, 4)",
            b"(60, -4)",
            b"()",
            b"(60, 4, 1)",
            b"(4, 60)",
        ],
        b"<f4": [b"|O", b">f4", b"<f8", b"|u1", b"<U1", b"<c8", b"|V16", b"<M8[ns]"],
        b"False": [b"True", b"None", b"__import__('os')"],
    }
    for word in rng.sample(list(words), rng.choice([1, 1, 2])):
        header = header.replace(word, rng.choice(words[word]))
    version = rng.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\4\0"])
    length = struct.pack("<H" if version == b"\1\0" else "<I", rng.choice([len(header), len(header), 0, 65_535]))
    path.write_bytes(b"\x93NUMPY" + version + length + header + path.read_bytes()[128:])


def change_npz(path: Path, rng: random.Random) -> None:
    """Another archive: of arrays that NumPy writes, or by `change_archive`."""
    import numpy as np

    if rng.random() < 0.5:
        change_archive(path, rng)
        return
    types = ("f4", ">f4", "f8", "f2", "u1", "i8", ">i2", "?", "c8", "U3", "S3", "O", "M8[ns]", "V7")
    shapes: tuple[tuple[int, ...], ...] = ((), (0,), (3,), (2, 3), (4, 1, 2), (1,) * 30)
    arrays = {}
    for name in rng.sample(["a", "b", "a/labels", "../../x", "/etc/x", "é", "c.npy", ""], rng.choice([0, 1, 2])):
        array = np.zeros(rng.choice(shapes), rng.choice(types))
        arrays[name] = np.asfortranarray(array) if rng.random() < 0.3 else array
    with path.open("wb") as handle:
        (np.savez if rng.random() < 0.5 else np.savez_compressed)(handle, **arrays)  # type: ignore[arg-type]


# --- what reads them, and what they must then be ---


class Wrong(AssertionError):
    """A file was accepted that should not have been, or read wrongly."""


def require(condition: object, what: str) -> None:
    """Raises `Wrong` unless the condition holds."""
    if not condition:
        raise Wrong(what)


def read_image_file(path: Path) -> None:
    """An image: the size that its header states, in bytes of RGB."""
    import numpy as np

    from zoo.files import MAX_PIXELS, read_image

    image = read_image(path)
    require(image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8, f"{image.shape} {image.dtype}")
    require(0 < image.shape[0] * image.shape[1] <= MAX_PIXELS, f"{image.shape}")
    require(tuple(sorted(image.shape[:2])) in _stated_sizes(path.read_bytes()), f"{image.shape} is not in the header")


def read_label_file(path: Path) -> None:
    """A label map: integer ids of the size that the header states."""
    from zoo.files import read_index_png

    ids = read_index_png(path)
    require(ids.ndim == 2 and ids.dtype.kind in "iu", f"{ids.shape} {ids.dtype}")
    require(tuple(sorted(ids.shape)) in _stated_sizes(path.read_bytes()), f"{ids.shape} is not in the header")


def _stated_sizes(content: bytes) -> set[tuple[int, ...]]:
    """Width and height, smaller first, of every IHDR chunk or JPEG frame header, wherever it lies."""
    found = set()
    for place in range(len(content) - 12):
        if content[place : place + 4] == b"IHDR":
            found.add(tuple(sorted(struct.unpack(">II", content[place + 4 : place + 12]))))
        if content[place] == 0xFF and content[place + 1] in (*range(0xC0, 0xC4), *range(0xC9, 0xCC)):
            found.add(tuple(sorted(struct.unpack(">HH", content[place + 5 : place + 9]))))
    return found


def read_npz_file(path: Path) -> None:
    """An archive: the arrays that NumPy reads without pickles."""
    import numpy as np

    from zoo.npz import MAX_BYTES, read_npz

    arrays = read_npz(path.read_bytes(), path.name)
    require(sum(array.nbytes for array in arrays.values()) <= MAX_BYTES, "more than MAX_BYTES")
    with np.load(path, allow_pickle=False) as expected:
        require(sorted(expected.files) == sorted(arrays), f"{sorted(arrays)} instead of {sorted(expected.files)}")
        for name, array in arrays.items():
            require(array.dtype.kind in "biuf" and _same(array, expected[name]), f"{name} differs from NumPy's")


def read_points_file(path: Path) -> None:
    """Points: the rows of the file, finite, with an intensity from 0 to 1."""
    import numpy as np

    from zoo.inputs.points import PointsInput

    points = PointsInput(channels=("x", "y", "z", "intensity")).read(path)
    if path.suffix == ".npy":
        expected = np.load(path, allow_pickle=False)
    else:
        expected = np.array(list(struct.iter_unpack("<4f", path.read_bytes())), np.float32)
    require(points.dtype == np.float32 and points.shape == expected.shape, f"{points.shape} {points.dtype}")
    require(np.array_equal(points, expected.astype(np.float32)), "other values than in the file")
    require(len(points) and np.isfinite(points).all(), "values that are not finite")
    require(points[:, 3].min() >= 0 and points[:, 3].max() <= 1, "an intensity outside 0 to 1")


def _same(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


class WeightsReader:
    """Weights: every tensor of the architecture with its shape, each from its own bytes of the file."""

    def __init__(self) -> None:
        from fuzz_folders import ARCHITECTURE, CLASSES

        from zoo.folder.architecture import build

        self.model = build(ARCHITECTURE, len(CLASSES))

    def __call__(self, path: Path) -> None:
        """Reads the file."""
        import torch

        from zoo.folder.weights import assign, parse

        content = path.read_bytes()
        tensors = parse(content, path.name)
        assign(self.model, tensors, path.name)
        length = int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]
        for name, tensor in tensors.items():
            entry = header[name]
            own = bytearray(data[slice(*entry["data_offsets"])])
            if entry["dtype"] == "F32":
                expected = torch.frombuffer(own, dtype=torch.float32).reshape(entry["shape"])
                require(torch.equal(expected.view(torch.int32), tensor.view(torch.int32)), f"{name} differs")


class FolderReader:
    """A configuration or manifest: opened, every file that it names lies in the folder and has the hash it states."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, path: Path) -> None:
        """Reads the file in its place in the folder, and puts the folder back."""
        from zoo.folder.model_folder import ModelFolder

        target = self.folder / path.name
        before = {name: target.with_name(name).read_bytes() for name in ("config.json", "MANIFEST.json")}
        try:
            target.write_bytes(path.read_bytes())
            if path.name == "config.json":  # as whoever made the folder would write its manifest
                _agree(self.folder)
            self._check(ModelFolder.open(self.folder))
        finally:
            for name, content in before.items():
                (self.folder / name).write_bytes(content)

    def _check(self, opened: Any) -> None:
        opened.verify()
        require(opened.inputs, "no inputs")
        require(opened.task, "no task")
        opened.card()
        root = os.path.realpath(self.folder)
        for file, entry in opened.manifest.items():
            require(os.path.realpath(self.folder / file).startswith(root + os.sep), f"{file!a} leaves the folder")
            require(hashlib.sha256((self.folder / file).read_bytes()).hexdigest() == entry["sha256"], f"{file!a}")
        for entry in opened.config["artefacts"]:
            require(entry["file"] in opened.manifest, f"{entry['file']!a} is not in the manifest")


def _agree(folder: Path) -> None:
    """Puts size and hash of the configuration into the manifest."""
    content, manifest = (folder / "config.json").read_bytes(), json.loads((folder / "MANIFEST.json").read_bytes())
    manifest["files"]["config.json"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


Change = Callable[[Path, random.Random], None]
KINDS: tuple[tuple[str, Change], ...] = (
    ("image.png", change_png),
    ("labels.png", change_png),
    ("image.jpg", change_jpeg),
    ("progressive.jpg", change_jpeg),
    ("points.bin", change_points),
    ("points.npy", change_npy),
    ("arrays.npz", change_npz),
    ("weights.safetensors", change_header),
    ("config.json", change_structure),
    ("MANIFEST.json", change_structure),
)


class Cases:
    """Mutates one file after the other and reads it."""

    def __init__(self, base: Path, scratch: Path, seed: int) -> None:
        self.base, self.scratch, self.seed = base, scratch, seed
        folder = scratch / "folder"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base / "folder", folder)
        make_consistent(folder)
        in_folder = FolderReader(folder)
        self.readers: dict[str, Callable[[Path], None]] = {
            "image.png": read_image_file,
            "labels.png": read_label_file,
            "image.jpg": read_image_file,
            "progressive.jpg": read_image_file,
            "points.bin": read_points_file,
            "points.npy": read_points_file,
            "arrays.npz": read_npz_file,
            "weights.safetensors": WeightsReader(),
            "config.json": in_folder,
            "MANIFEST.json": in_folder,
        }

    def source(self, name: str) -> Path:
        """The valid file."""
        return self.base / "folder" / name if name.endswith(".json") else self.base / name

    def run(self, index: int) -> dict[str, Any]:
        """The result of one case."""
        from zoo.errors import InputError

        name, change = KINDS[index % len(KINDS)]
        rng = random.Random(f"{self.seed} {index}")
        path = self.scratch / name
        shutil.copyfile(self.source(name), path)
        chosen = change if rng.random() < 0.7 else change_bytes
        chosen(path, rng)
        begun, failures, outcome = time.process_time(), [], "refused"
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                self.readers[name](path)
            outcome = "accepted"
        except InputError as error:
            if len(str(error)) > 3000 or "\n" in str(error):
                failures.append(f"an error of {len(str(error))} characters: {str(error)[:300]}")
        except BaseException:
            failures.append(traceback.format_exc()[-1500:])
        return {
            "index": index,
            "done": [f"{chosen.__name__} {name}"],
            "passed": [name] if outcome == "accepted" else [],
            "outcome": outcome,
            "failures": failures,
            "cpu_s": time.process_time() - begun,
            "peak_bytes": peak_bytes(),
        }


# --- worker ---


def work(scratch: Path, seed: int) -> None:
    """Answers every index on stdin with a line of JSON on stdout."""
    sys.stdout, answers = sys.stderr, sys.stdout
    base = scratch / "inputs"
    if not base.exists():
        write_inputs(base)
    cases = Cases(base, scratch, seed)
    for name, _ in KINDS:  # as they are, they must be accepted; this also imports everything
        (scratch / name).write_bytes(cases.source(name).read_bytes())
        cases.readers[name](scratch / name)
    limit_memory(MEMORY)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(cases.run(int(line))), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main(__doc__, __file__, work))
