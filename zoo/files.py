"""Atomic writes, hashing, and checked reading of files and images."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoo.errors import InputError, IntegrityError

__all__ = [
    "MAX_PIXELS",
    "as_rgb",
    "atomic_directory",
    "atomic_file",
    "read_image",
    "read_index_png",
    "read_regular",
    "remove_directory",
    "require_regular",
    "sha256_of",
    "write_bytes",
    "write_json",
]

MAX_PIXELS = 128 * 1024 * 1024
"""Largest image that is decoded (134 million pixels); a file whose header claims more is refused before decoding."""
_MAX_IMAGE_FILE = 512 * 1024 * 1024  # more than MAX_PIXELS take uncompressed
_FORMATS = ("PNG", "JPEG")  # Pillow has 40 more; one of them starts Ghostscript
_PIXELS_PER_BYTE = {"PNG": 8256, "JPEG": 1024, "MPO": 1024}
"""Most pixels that a byte of a file can stand for: deflate expands at most 1032 times, and a byte has 8 pixels of one
bit; JPEG has at least one bit per block, and a block covers at most 1024 / 8 pixels on average. A header that claims
more is refused before memory is taken for it."""

# Pillow warns from 89 million pixels on, which would print a second line in addition to the error below.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data|Truncated File Read", module="PIL")


_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


@contextlib.contextmanager
def _disk_errors(path: Path, every: bool = False) -> Iterator[None]:
    """Turns disk errors into an `InputError`; with `every`, all errors that the operating system reports for a path."""
    try:
        yield
    except OSError as error:
        if every or error.errno in _DISK:
            hint = "free some space or choose another folder" if error.errno in _FULL else "choose another location"
            raise InputError(f"cannot write {path}: {error.strerror}; {hint}") from error
        raise


@contextlib.contextmanager
def atomic_file(path: Path | str, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file handle whose content appears at `path` only when the block ends without an error.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with _disk_errors(path, every=True):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    with _disk_errors(path):
        try:
            os.fchmod(descriptor, 0o644)
            with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def write_bytes(path: Path | str, content: bytes) -> None:
    """Writes `content` to `path` atomically."""
    with atomic_file(path) as handle:
        handle.write(content)


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON to `path` atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


@contextlib.contextmanager
def atomic_directory(path: Path | str, *, replace: bool = False) -> Iterator[Path]:
    """An empty temporary folder that becomes `path` when the block ends without an error.

    The temporary folder is created next to `path` as `.NAME.XXXXXXXX.part`. A killed process cannot remove its own, so
    the next process that writes the same `path` does. The owner holds a lock on the folder, which the system releases
    when the owner dies, so a folder that is still being written is never touched.

    Args:
        path: Folder to create.
        replace: Replace an existing folder. Both change places in one step, so there is never a moment without `path`.

    Raises:
        InputError: If `path` exists and is not to be replaced, or is not a folder; if the disk is full or the folder
            cannot be written.
    """
    path = Path(path)
    with _disk_errors(path, every=True):
        if os.path.lexists(path):
            if not replace:
                raise _exists(path)
            if path.is_symlink() or not path.is_dir():
                raise InputError(f"{path} is not a folder of its own, so it is not replaced; remove it first")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        temporary, lock = _locked_directory(path)
    with _disk_errors(path):
        try:
            temporary.chmod(0o755)
            yield temporary
            _move_into_place(temporary, path, replace)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            os.close(lock)


def _exists(path: Path) -> InputError:
    return InputError(f"{path} exists already; choose another folder or remove it first")


def _move_into_place(temporary: Path, path: Path, replace: bool) -> None:
    """Renames a finished folder, or exchanges it with the one that it replaces, which is then removed."""
    while True:
        try:
            os.rename(temporary, path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if not replace:  # another process was faster
                raise _exists(path) from error
        try:
            _exchange(temporary, path)
        except FileNotFoundError:  # it was removed in the meantime
            continue
        shutil.rmtree(temporary, ignore_errors=True)  # now the former folder
        return


def _exchange(one: Path, other: Path) -> None:
    """Makes two folders change places in one step, for which Python has no function: Linux's renameat2.

    Raises:
        InputError: If the file system cannot.
        OSError: If it fails for another reason.
    """
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of linux/fcntl.h and linux/fs.h
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise InputError(f"the file system of {other} cannot replace a folder in one step; remove {other} first")
    raise OSError(code, os.strerror(code), str(other))


def remove_directory(path: Path) -> None:
    """Removes a folder: its name disappears in one step, before the files do.

    If the process is killed in between, the next one that writes `path` removes the rest, as `atomic_directory` does.

    Raises:
        InputError: If the folder cannot be removed.
    """
    with _disk_errors(path, every=True):
        temporary, lock = _locked_directory(path)
        try:
            os.rename(path, temporary)  # the temporary folder is empty, so it is replaced
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.rmdir()
            raise
        finally:
            os.close(lock)
        shutil.rmtree(temporary, ignore_errors=True)
        if temporary.exists():
            raise InputError(f"{path} is gone, but its files in {temporary} cannot be removed; remove them by hand")


def _locked_directory(path: Path) -> tuple[Path, int]:
    """A new temporary folder for `path` and the descriptor that holds its lock."""
    while True:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        lock = os.open(temporary, os.O_RDONLY)
        with contextlib.suppress(OSError):  # without locks on this file system, nobody removes the folder either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, lock
        os.close(lock)  # another process removed it as abandoned before it was locked


def _remove_abandoned(path: Path) -> None:
    """Removes temporary folders of `path` whose owner is dead."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"[a-z0-9_]{8}\.part")
    for found in [entry.path for entry in os.scandir(path.parent) if pattern.fullmatch(entry.name)]:
        with contextlib.suppress(OSError):  # locked by its owner, already gone, or owned by another user
            lock = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found, ignore_errors=True)
            finally:
                os.close(lock)


def read_regular(path: Path | str, limit: int) -> bytes:
    """Content of a regular file.

    A FIFO or a device, which could block or never end, is refused before it is opened. A file that is too large is
    refused before it is read.

    Args:
        path: The file; links are followed.
        limit: Largest size in bytes.

    Raises:
        FileNotFoundError: If `path` does not exist.
        IntegrityError: If it is not a regular file, too large, or cannot be read.
    """
    try:
        require_regular(os.stat(path), path)
        # It may have been replaced in between, so it is opened without blocking and checked again.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as handle:
            status = os.fstat(handle.fileno())
            require_regular(status, path)
            if status.st_size > limit:
                raise IntegrityError(f"{path} has {status.st_size:,} bytes; at most {limit:,} are read")
            content = handle.read(status.st_size + 1)
            if content is None:  # some files in /proc claim to be regular but have no data yet
                raise IntegrityError(f"{path} cannot be read: it returns no data")
            return content
    except (FileNotFoundError, IntegrityError):
        raise
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}") from error


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def require_regular(status: os.stat_result, path: Path | str) -> None:
    """Raises an `IntegrityError` unless `status` is that of a regular file."""
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise IntegrityError(f"{path} is {kind}; a regular file was expected")


def sha256_of(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _open(path: Path | str, read: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    try:
        # From memory: from a file, Pillow takes memory for whatever length a chunk claims.
        content = read_regular(path, _MAX_IMAGE_FILE)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise InputError(f"{path} is too large: {width} x {height}; at most {MAX_PIXELS:,} pixels are decoded")
            if width * height > _PIXELS_PER_BYTE[str(image.format)] * len(content):
                raise InputError(
                    f"{path} is damaged: its header claims {width} x {height} pixels, more than {len(content):,} bytes "
                    "can hold"
                )
            return read(image)
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: at most {MAX_PIXELS:,} pixels are decoded") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a readable image; expected {' or '.join(_FORMATS)}") from error
    except MemoryError:
        raise
    except Exception as error:  # for a damaged file, Pillow raises a dozen kinds of errors
        raise InputError(f"{path} is not a readable image: {error}") from error


_STILLS_OF_SEVERAL_FRAMES = ("MPO", "PSD")
"""Formats whose first frame is the complete image; the other frames are previews, depth maps or layers."""


def _refuse_several_frames(image: Image.Image) -> None:
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # Pillow parses the whole file to count, which can raise a dozen kinds of errors
        raise InputError(f"the {image.format} image is damaged: {error}") from error
    if frames > 1 and image.format not in _STILLS_OF_SEVERAL_FRAMES:
        raise InputError(f"the {image.format} image holds {frames} frames, expected one; save the one you want as PNG")


_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _exif_turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises a dozen kinds of errors for damaged EXIF data; the pixels can still be intact
        return None


def as_rgb(image: Image.Image) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of a Pillow image, upright.

    The EXIF orientation is applied, as image viewers do: a camera held sideways stores its pixels unrotated. 16-bit
    greyscale keeps its upper 8 bits, transparency is dropped.

    Raises:
        InputError: If the pixels are floating point numbers, whose range is unknown, or if the image is an animation or
            has several pages.
    """
    _refuse_several_frames(image)
    if (turn := _exif_turn(image)) is not None:
        image = image.transpose(turn)
    if image.mode == "F":
        raise InputError("the image holds floating point numbers; save it as 8-bit RGB")
    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def read_image(path: Path | str) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of a PNG or JPEG file, converted by `as_rgb`.

    Raises:
        InputError: If the file is missing, neither PNG nor JPEG, damaged, larger than `MAX_PIXELS`, or holds more than
            one frame.
    """
    return _open(path, as_rgb)


def read_index_png(path: Path | str) -> np.ndarray:
    """`(H, W)` integer ids of a label image: the raw indices of a palette, never its colours.

    Raises:
        InputError: If the file is missing, neither PNG nor JPEG, damaged, or has more than one channel or frame.
    """

    def to_ids(image: Image.Image) -> np.ndarray:
        _refuse_several_frames(image)
        if image.mode not in ("L", "P", "I", "I;16", "I;16B", "1"):
            raise InputError(f"{path} has mode {image.mode}; a label map has one channel of ids")
        ids = np.asarray(image)
        return ids.astype(np.uint8) if ids.dtype == bool else ids

    return _open(path, to_ids)
