"""Arrays of an `.npz` file, checked before anything is decompressed.

`numpy.load` decompresses whatever an archive declares: three megabytes can become three gigabytes. Here the archive's
directory and every array's header are read first, and only what they declare within bounds is decompressed.

Source: the ZIP format (PKWARE APPNOTE) as `zipfile` reads it; the NPY format, versions 1.0 and 2.0
(`numpy.lib.format`).
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib

import numpy as np
from numpy.lib import format as npy

from zoo.errors import IntegrityError

__all__ = ["MAX_BYTES", "read_npz"]

MAX_BYTES = 256 * 1024 * 1024
"""Most that an archive may decompress to; the 20 embedded frames take 7 MB at the bundled models' size."""
_MAX_ARRAYS = 10_000
_MAX_HEADER = 10_000  # bytes of one array's header, NumPy's own limit
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others take memory for dictionaries that a file may size
_ENCRYPTED = 0x1
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(content: bytes, what: str, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The arrays by name.

    Args:
        content: The file.
        what: Its name, for errors.
        max_bytes: Most that all arrays together may take.

    Raises:
        IntegrityError: If it is not such an archive, is damaged, declares more than `max_bytes`, or holds anything
            other than arrays of numbers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check_directory(entries, max_bytes)
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    # What zipfile and NumPy's header parser raise for damaged files; their texts can have several lines.
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError),
        *(ValueError, TypeError, SyntaxError, LookupError, RecursionError, MemoryError, OverflowError),
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise IntegrityError(f"{what} is not a usable npz archive: {reason}") from error


def _check_directory(entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    names = [entry.filename for entry in entries]
    if len(names) > _MAX_ARRAYS or len(set(names)) != len(names):
        raise ValueError(f"it has {len(names)} entries, {len(set(names))} different ones; at most {_MAX_ARRAYS}")
    for entry in entries:
        if not entry.filename.endswith(".npy"):
            raise ValueError(f"its entry {entry.filename[:60]!a} is not an array")
        if entry.compress_type not in _METHODS or entry.flag_bits & _ENCRYPTED:
            raise ValueError(f"its entry {entry.filename[:60]!a} is encrypted or in a compression that is not read")
    declared = sum(entry.file_size for entry in entries)
    if declared > max_bytes:
        raise ValueError(f"it declares {declared:,} bytes; at most {max_bytes:,} are decompressed")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One array, decompressed only if its header describes numbers that fill the declared size exactly."""
    with archive.open(entry) as stream:  # checks the CRC once the declared size is read
        head = io.BytesIO(stream.read(_MAX_HEADER + 12))
        read_header = _READERS.get(npy.read_magic(head))
        if read_header is None:
            raise ValueError(f"{entry.filename[:60]!a} has an unknown version")
        shape, fortran_order, dtype = read_header(head, max_header_size=_MAX_HEADER)
        if dtype.kind not in "biuf" or dtype.hasobject:
            raise ValueError(f"{entry.filename[:60]!a} does not hold numbers")
        if len(shape) > 8 or min(shape, default=0) < 0:
            raise ValueError(f"{entry.filename[:60]!a} has the shape {str(shape)[:60]}")
        size = math.prod(shape) * dtype.itemsize
        if head.tell() + size != entry.file_size:
            raise ValueError(f"{entry.filename[:60]!a} declares {entry.file_size:,} bytes, but its shape takes {size}")
        # Never without a size: read() would decompress all there is and only then cut it to what was declared.
        data = head.read() + stream.read(max(0, entry.file_size - len(head.getvalue())))
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")
