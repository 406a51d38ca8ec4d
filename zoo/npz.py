"""Arrays of an `.npz` or `.npy` file, checked before anything is decompressed.

`numpy.load` decompresses whatever an archive declares: three megabytes can become three gigabytes. Here the archive's
directory and every array's header are read first, and nothing is decompressed unless the declared sizes are within
bounds.

NumPy's own header parser evaluates a Python literal; here only the exact form that NumPy writes is accepted.

Source: the ZIP format (PKWARE APPNOTE) as `zipfile` reads it; the NPY format, versions 1.0 to 3.0
(`numpy.lib.format`).
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from typing import IO

import numpy as np

from zoo.errors import IntegrityError

__all__ = ["MAX_BYTES", "read_npy", "read_npz"]

MAX_BYTES = 256 * 1024 * 1024
"""Largest total size that is decompressed; the 20 embedded frames take 7 MB at the bundled models' size."""
_MAX_ARRAYS = 10_000
_MAX_HEADER = 1000  # bytes of one array's header; NumPy writes 128
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others allocate dictionaries of any size
_ENCRYPTED = 0x1
_LENGTHS = {b"\x93NUMPY\x01\x00": "<H", b"\x93NUMPY\x02\x00": "<I", b"\x93NUMPY\x03\x00": "<I"}  # by magic and version
_SHAPE = rb"\(((?:\d{1,18}(?:, ?|(?=\))))*)\)"
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biuf][1248])', 'fortran_order': (True|False), 'shape': " + _SHAPE + rb", \} *\n"
)


def read_npz(content: bytes, what: str, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The arrays by name.

    Args:
        content: The file.
        what: Its name, for errors.
        max_bytes: Largest total size of all arrays.

    Raises:
        IntegrityError: If it is not an npz archive, is damaged, declares more than `max_bytes`, or holds anything
            other than arrays of numbers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check_directory(entries, max_bytes)
            return {entry.filename.removesuffix(".npy"): _entry(archive, entry) for entry in entries}
    # Everything that zipfile raises for damaged files.
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, OSError),
        *(ValueError, TypeError, LookupError, OverflowError),
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise IntegrityError(f"{what} is not a usable npz archive: {reason}") from error


def read_npy(content: bytes, what: str) -> np.ndarray:
    """The array of an `.npy` file.

    Args:
        content: The file.
        what: Its name, for errors.

    Raises:
        IntegrityError: If it is damaged or holds anything other than numbers.
    """
    try:
        return _array(io.BytesIO(content), len(content), "it")
    except (ValueError, TypeError, struct.error, OverflowError) as error:
        raise IntegrityError(f"{what} is not a usable npy array: {error}") from error


def _check_directory(entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    names = [entry.filename for entry in entries]
    if len(names) > _MAX_ARRAYS or len(set(names)) != len(names):
        raise ValueError(f"it has {len(names)} entries, {len(set(names))} different ones; at most {_MAX_ARRAYS}")
    for entry in entries:
        if not entry.filename.endswith(".npy"):
            raise ValueError(f"its entry {entry.filename[:60]!a} is not an array")
        if entry.compress_type not in _METHODS or entry.flag_bits & _ENCRYPTED:
            raise ValueError(f"its entry {entry.filename[:60]!a} is encrypted or uses an unsupported compression")
    declared = sum(entry.file_size for entry in entries)
    if declared > max_bytes:
        raise ValueError(f"it declares {declared:,} bytes; at most {max_bytes:,} are decompressed")


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as stream:  # checks the CRC once the declared size is read
        return _array(stream, entry.file_size, f"its array {entry.filename[:60]!a}")


def _array(stream: IO[bytes], file_size: int, what: str) -> np.ndarray:
    """One array, read only if its header describes numbers that fill the declared size exactly."""
    magic = stream.read(8)
    if magic not in _LENGTHS:
        raise ValueError(f"{what} is not in NPY format")
    form = _LENGTHS[magic]
    (length,) = struct.unpack(form, stream.read(struct.calcsize(form)))
    found = _HEADER.fullmatch(stream.read(min(length, _MAX_HEADER)))
    if found is None:
        raise ValueError(f"{what} does not hold plain numbers")
    dtype = np.dtype(found[1].decode())
    shape = tuple(int(side) for side in found[3].split(b",") if side.strip())
    size = math.prod(shape) * dtype.itemsize
    if len(magic) + struct.calcsize(form) + length + size != file_size:
        raise ValueError(f"{what} has {file_size:,} bytes, but its shape needs {size:,}")
    # Always with a size: read() alone would decompress everything and only then cut it to the declared size.
    data = stream.read(size)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if found[2] == b"True" else "C")
