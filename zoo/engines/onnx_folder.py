"""Shared by the engines that read ONNX files: the verified file, and the tensor descriptions in its entry."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.engines import TensorSpec
from zoo.engines.onnx_file import external_files
from zoo.errors import InputError, IntegrityError

if TYPE_CHECKING:
    from zoo.folder.model_folder import ModelFolder

__all__ = ["declare", "onnx_source", "open_onnx_file"]

E = TypeVar("E")


def open_onnx_file(
    make: Callable[..., E],
    folder: ModelFolder,
    artefact: Mapping[str, Any],
    *,
    device: str,
    precision: str,
    threads: int | None,
) -> E:
    """`make(source, ...)` for one of the folder's ONNX files.

    Raises:
        IntegrityError: If the file differs from the manifest, is damaged, or names weights outside the folder.
        InputError: If the entry does not match the file's tensors.
    """
    what = str(folder.path / artefact["file"])
    if "inputs" not in artefact or "outputs" not in artefact:
        raise InputError(f"{folder.path}: the entry of {artefact['file']} needs inputs and outputs")
    declared = [TensorSpec.from_json(tensor) for tensor in (*artefact["inputs"], *artefact["outputs"])]
    if precision == "fp32":  # the default; the file itself decides then
        precision = artefact.get("precision", precision)
    with onnx_source(folder, artefact["file"]) as source:
        return make(source, device=device, precision=precision, threads=threads, declared=declared, what=what)


def declare(found: Iterable[TensorSpec], declared: Sequence[TensorSpec], what: str) -> tuple[TensorSpec, ...]:
    """The tensors of a file, completed with what its entry declares.

    Raises:
        InputError: If rank or type of a tensor differ between the entry and the file.
    """
    by_name = {tensor.name: tensor for tensor in declared}
    merged = []
    for tensor in found:
        entry = by_name.get(tensor.name, tensor)
        if len(entry.shape) != len(tensor.shape) or entry.dtype != tensor.dtype:
            raise InputError(
                f"{what}: {tensor.name} is {tensor.shape} {tensor.dtype}, but config.json describes it as "
                f"{entry.shape} {entry.dtype}; export the model again"
            )
        kept = {name: getattr(entry, name) for name in ("multiples", "stride", "axes", "columns")}
        merged.append(dataclasses.replace(tensor, **kept))
    return tuple(merged)


@contextlib.contextmanager
def onnx_source(folder: ModelFolder, file: str) -> Iterator[bytes | Path]:
    """The verified content of an ONNX file or, if it keeps weights in other files, the path of verified copies.

    The copies are regular files in a temporary folder, because in the Hub's cache every file is a link to a blob named
    by its hash, and OpenVINO refuses weights whose link leads out of the folder. It also guarantees that the
    runtime reads the bytes that were verified. The folder is removed when the block ends; the runtime has read the
    weights by then.

    Raises:
        IntegrityError: If a file differs from the manifest, is damaged, or names weights outside the folder.
    """
    content = folder.read_bytes(file)
    others = external_files(content, str(folder.path / file))
    for location in others:
        pure = PurePosixPath(location)
        if pure.is_absolute() or ".." in pure.parts or "\\" in location:
            raise IntegrityError(
                f"{folder.path / file} keeps weights in {location!r}, outside its folder; such a file is not run"
            )
    if not others:
        yield content
        return
    with tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True) as temporary:
        for location in others:
            copy = Path(temporary, location)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(folder.read_bytes((PurePosixPath(file).parent / location).as_posix()))
        path = Path(temporary, PurePosixPath(file).name)
        path.write_bytes(content)
        yield path
