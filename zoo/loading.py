"""`load` and `create`: from a name, a folder or a Hub reference to a predictor or a model."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoo.catalogue import BUNDLED, Entry, entries, entry
from zoo.engines import Engine
from zoo.engines.checks import check_threads
from zoo.errors import InputError, IntegrityError, MissingExtraError, NotReleasedError, closest, require
from zoo.inference import InferenceMode
from zoo.model_folder import ModelFolder
from zoo.predictor import Predictor, is_fused

if TYPE_CHECKING:
    from torch import nn

__all__ = ["create", "engines_for", "find_folder", "load", "onnx_source"]

_HUB_PREFIX = "hf-hub:"


def find_folder(reference: str | Path, revision: str | None = None) -> Path:
    """The model folder that `reference` means.

    Args:
        reference: A catalogue name, a folder, or `hf-hub:org/name`.
        revision: Commit, tag or branch of a Hub repository; the catalogue's pinned one by default.

    Raises:
        NotReleasedError: If the catalogue knows the name, but its weights are not released.
        InputError: If there is no such name or folder.
    """
    text = str(reference)
    if text.startswith(_HUB_PREFIX):
        return _download(text.removeprefix(_HUB_PREFIX), revision)
    known = entries()
    if isinstance(reference, str) and text in known:
        return _of_entry(known[text], revision)
    path = Path(reference)
    try:
        if path.is_dir():
            return path
        if path.exists():
            raise InputError(f"{path} is a file; a model folder, a name or hf-hub:org/name was expected")
    except OSError as error:  # longer than a path may be, no permission
        raise InputError(f"{text[:100]!r} cannot be a model folder: {error.strerror}") from error
    raise InputError(
        f"unknown model {text!r}: neither a name in the catalogue nor a folder{closest(text, known)}; "
        "`zoo list` shows all names"
    )


def _of_entry(found: Entry, revision: str | None) -> Path:
    if not found.released:
        raise NotReleasedError(f"the weights of {found.name} are not released; recipe: {found.recipe}")
    if found.bundled:
        return BUNDLED / found.name
    if found.hub:
        return _download(found.hub, revision or found.revision)
    raise InputError(f"{found.name} is neither part of this package nor on the Hub; reinstall perception-zoo")


def _download(repository: str, revision: str | None) -> Path:
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError(f"Hub reference {_HUB_PREFIX}{repository}: expected {_HUB_PREFIX}org/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise require("huggingface_hub", "hub", f"loading {_HUB_PREFIX}{repository}") from error
    try:
        return Path(snapshot_download(repository, revision=revision))
    except Exception as error:  # the client raises many kinds, from connection errors to missing repositories
        raise InputError(
            f"{_HUB_PREFIX}{repository} could not be had ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "check the name and the network, or give a folder"
        ) from error


def load(
    reference: str | Path,
    *,
    engine: str = "auto",
    device: str = "cpu",
    precision: str = "fp32",
    threads: int | None = None,
    file: str | None = None,
    inference: InferenceMode | None = None,
    revision: str | None = None,
) -> Predictor:
    """A predictor with released weights; every file is checked against the manifest before it is used.

    `auto` takes the first engine of `onnx`, `torch`, `openvino` whose package is installed and for which the folder has
    a file of this precision; on another device than the CPU, `torch` comes first. ONNX Runtime leads because it is the
    published file that runs then, it starts ten times as fast as torch, and it computes in float32 on every CPU.

    Args:
        reference: A catalogue name, a model folder, or `hf-hub:org/name`.
        engine: `torch`, `onnx`, `openvino` (runs the ONNX file), or `auto`.
        device: Where the engine runs: `cpu`; for torch `cuda:0`; for onnx `cuda`, `cuda:1`, `tensorrt`, `openvino`; for
            openvino what it finds here, for example `gpu`. Another device is never taken instead.
        precision: Arithmetic. torch: `fp32`, or `bf16` or `fp16` by autocast. onnx: that of the file, `fp32` or `fp16`.
            openvino: `fp32`, or `bf16` where the device has it, or an `fp16` file.
        threads: CPU threads; by default those that the process may use. For torch this sets the whole process.
        file: One of the folder's files, for example `onnx/NAME.fp16.onnx`; chosen by engine and precision by default.
        inference: Overrides the folder's whole-image or sliding-window inference.
        revision: Commit, tag or branch, for the Hub.

    Raises:
        NotReleasedError: If the catalogue knows the name, but its weights are not released.
        IntegrityError: If a file differs from the manifest or is damaged.
        MissingExtraError: If the engine's package is not installed.
        InputError: If the name, engine, device, file or configuration is unknown or cannot be had.
    """
    folder = ModelFolder.open(find_folder(reference, revision))
    if folder.config["task"] != "segmentation":
        raise InputError(
            f"{folder.name} is a model for {folder.config['task']}, which has no predictor yet; "
            "use zoo.create for its architecture"
        )
    if engine == "auto":
        engine = _automatic(folder, device, precision, file)
    if engine not in _ENGINES:
        raise InputError(f"unknown engine {engine!r}{closest(engine, _ENGINES)}; known: {', '.join(_ENGINES)}, auto")
    found = _fitting(folder, engine, precision, file)
    if not found:
        raise InputError(_nothing_fits(folder, engine, precision, file))
    return _ENGINES[engine].load(
        folder, found[0], device=device, precision=precision, threads=threads, inference=inference or folder.inference
    )


@dataclass(frozen=True)
class _EngineRow:
    load: Callable[..., Predictor]
    package: str
    reads: str  # engine of the artefacts that it can run
    precisions: Mapping[str, str | None]  # what may be asked for, and the precision of the file that serves it


def _fitting(folder: ModelFolder, engine: str, precision: str, file: str | None) -> list[Mapping[str, Any]]:
    """Artefacts that `engine` can run at `precision`: those that take an image of any size first."""
    row = _ENGINES[engine]
    if precision not in row.precisions:
        return []
    wanted = row.precisions[precision]
    found = [
        entry
        for entry in folder.config["artefacts"]
        if entry["engine"] == row.reads
        and (entry["file"] == file if file else wanted in (None, entry.get("precision")))
        # A file that was named decides itself, unless another arithmetic than the default was asked for.
        and (wanted in (None, entry.get("precision")) or precision == "fp32")
    ]
    return sorted(found, key=lambda entry: "height" not in entry.get("dynamic", ("height",)) or is_fused(entry))


def _nothing_fits(folder: ModelFolder, engine: str, precision: str, file: str | None) -> str:
    row = _ENGINES[engine]
    if precision not in row.precisions:
        return f"the {engine} engine has no precision {precision!r}; it has {', '.join(row.precisions)}"
    have = ", ".join(f"{e['file']} ({e['engine']} {e.get('precision', '')})" for e in folder.config["artefacts"])
    wanted = file or f"a file for {engine}"
    if not file or precision != "fp32":
        wanted += f" in {precision}"
    hint = "; zoo export makes one" if row.reads == "onnx" else ""
    return f"{folder.path} has not {wanted}; it has {have or 'none'}{hint}"


def _automatic(folder: ModelFolder, device: str, precision: str, file: str | None) -> str:
    """The engine that `auto` means here."""
    order = ("onnx", "torch", "openvino") if device == "cpu" else ("torch", "onnx", "openvino")
    able = [engine for engine in order if _fitting(folder, engine, precision, file)]
    for engine in able:
        if _installed(_ENGINES[engine].package):
            return engine
    if able:
        raise require(_ENGINES[able[0]].package, able[0], f"running {folder.name}")
    raise InputError(_nothing_fits(folder, order[0], precision, file))


def engines_for(folder: ModelFolder, precision: str = "fp32", file: str | None = None) -> list[str]:
    """Engines that are installed here and that can run a file of the folder at this precision, or this `file`."""
    return [
        engine
        for engine, row in _ENGINES.items()
        if _installed(row.package) and _fitting(folder, engine, precision, file)
    ]


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _load_torch(
    folder: ModelFolder,
    artefact: Mapping[str, Any],
    *,
    device: str,
    precision: str,
    threads: int | None,
    inference: InferenceMode,
) -> Predictor:
    check_threads(threads)
    try:
        import torch

        from zoo.engines.torch import TorchEngine
    except ImportError as error:
        raise require("torch", "torch", f"running {folder.name} with the torch engine") from error
    from zoo.architecture import build, check_outline
    from zoo.weights import assign, parse, read_header

    if threads is not None:
        torch.set_num_threads(threads)
    file, architecture = artefact["file"], folder.config["architecture"]
    what = str(folder.path / file)
    content = folder.read_bytes(file)
    num_classes = len(folder.classes) if folder.classes else None
    check_outline(architecture, num_classes, read_header(content, what), what)
    module: Any = build(architecture, num_classes)
    assign(module, parse(content, what), what)
    engine = TorchEngine(module, device=device, precision=precision)
    return Predictor(
        folder=folder,
        artefact=artefact,
        engine=engine,
        stride=module.stride,
        size_multiple=module.size_multiple,
        inference=inference,
    )


def _load_onnx_file(
    make: Callable[..., Engine],
    folder: ModelFolder,
    artefact: Mapping[str, Any],
    *,
    device: str,
    precision: str,
    threads: int | None,
    inference: InferenceMode,
) -> Predictor:
    stride, size_multiple = artefact.get("stride"), artefact.get("size_multiple")
    if not isinstance(stride, int) or not isinstance(size_multiple, int):
        raise InputError(f"{folder.path}: the entry of {artefact['file']} needs stride and size_multiple")
    if precision == "fp32":  # the default; a file that was named decides itself
        precision = artefact.get("precision", precision)
    with onnx_source(folder, artefact["file"]) as source:
        engine = make(
            source,
            device=device,
            precision=precision,
            threads=threads,
            size_multiple=size_multiple,
            what=str(folder.path / artefact["file"]),
        )
    return Predictor(
        folder=folder,
        artefact=artefact,
        engine=engine,
        stride=stride,
        size_multiple=size_multiple,
        inference=inference,
    )


@contextlib.contextmanager
def onnx_source(folder: ModelFolder, file: str) -> Iterator[bytes | Path]:
    """The checked content of an ONNX file, or, if weights lie in other files, a path to checked copies of them all.

    The copies are regular files in a temporary folder, because in the Hub's cache every file is a link to a blob named
    by its hash, and OpenVINO refuses weights whose link leads out of the folder. It also means that what was checked is
    what is read. The folder is removed when the block ends; by then the runtime has read the weights.

    Raises:
        IntegrityError: If a file differs from the manifest, is damaged, or names weights outside the folder.
    """
    from zoo.engines.onnx_file import external_files

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


def _load_onnx(folder: ModelFolder, artefact: Mapping[str, Any], **options: Any) -> Predictor:
    from zoo.engines.onnx import OnnxEngine

    return _load_onnx_file(OnnxEngine, folder, artefact, **options)


def _load_openvino(folder: ModelFolder, artefact: Mapping[str, Any], **options: Any) -> Predictor:
    from zoo.engines.openvino import OpenVINOEngine

    return _load_onnx_file(OpenVINOEngine, folder, artefact, **options)


_ENGINES = {
    "torch": _EngineRow(_load_torch, "torch", "torch", dict.fromkeys(("fp32", "bf16", "fp16"))),
    "onnx": _EngineRow(_load_onnx, "onnxruntime", "onnx", {"fp32": "fp32", "fp16": "fp16"}),
    "openvino": _EngineRow(_load_openvino, "openvino", "onnx", {"fp32": "fp32", "bf16": "fp32", "fp16": "fp16"}),
}


def create(name: str, *, num_classes: int | None = None, pretrained: bool = False) -> nn.Module:
    """The untrained architecture of a catalogue entry.

    Args:
        name: Catalogue name, released or not.
        num_classes: Number of classes of the head; the entry's own by default.
        pretrained: Start the encoder from timm's own weights (ImageNet, for most).

    Returns:
        An `nn.Module` with `forward_features` and `forward_intermediates`.

    Raises:
        InputError: If the name is unknown or the pretrained weights cannot be had.
        MissingExtraError: If torch or timm is not installed.
    """
    chosen = entry(name)
    try:
        from zoo.architecture import build
    except MissingExtraError:
        raise
    except ImportError as error:
        raise require("torch", "torch", f"creating {name}") from error
    classes = chosen.classes
    return build(chosen.architecture, num_classes or (len(classes) if classes else None), pretrained=pretrained)
