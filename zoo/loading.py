"""`load` and `create`: from a name, a folder or a Hub reference to a predictor or a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue import BUNDLED, Entry, entries, entry
from zoo.errors import InputError, MissingExtraError, NotReleasedError, closest, require
from zoo.inference import InferenceMode
from zoo.model_folder import ModelFolder
from zoo.predictor import Predictor

if TYPE_CHECKING:
    from torch import nn

__all__ = ["create", "find_folder", "load"]

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
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{path} is a file; a model folder, a name or hf-hub:org/name was expected")
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
    inference: InferenceMode | None = None,
    revision: str | None = None,
) -> Predictor:
    """A predictor with released weights; every file is checked against the manifest before it is used.

    Args:
        reference: A catalogue name, a model folder, or `hf-hub:org/name`.
        engine: `torch`, or `auto`: the engine of the first artefact that this installation can run.
        device: Where the engine runs, for example `cpu` or `cuda:0`.
        precision: Arithmetic: `fp32`, or `bf16` or `fp16` by autocast.
        inference: Overrides the folder's whole-image or sliding-window inference.
        revision: Commit, tag or branch, for the Hub.

    Raises:
        NotReleasedError: If the catalogue knows the name, but its weights are not released.
        IntegrityError: If a file differs from the manifest or is damaged.
        MissingExtraError: If the engine's package is not installed.
        InputError: If the name, engine, device or configuration is unknown.
    """
    folder = ModelFolder.open(find_folder(reference, revision))
    if folder.config["task"] != "segmentation":
        raise InputError(
            f"{folder.name} is a model for {folder.config['task']}, which has no predictor yet; "
            "use zoo.create for its architecture"
        )
    if engine == "auto":
        engine = "torch"
    if engine not in _ENGINES:
        raise InputError(f"unknown engine {engine!r}{closest(engine, _ENGINES)}; known: {', '.join(_ENGINES)}")
    artefact = folder.artefact(engine)
    return _ENGINES[engine](folder, artefact, device, precision, inference or folder.inference)


def _load_torch(folder: ModelFolder, artefact: Any, device: str, precision: str, inference: InferenceMode) -> Predictor:
    try:
        from zoo.engines.torch import TorchEngine
    except ImportError as error:
        raise require("torch", "torch", f"running {folder.name} with the torch engine") from error
    from zoo.architecture import build
    from zoo.weights import assign, parse

    file = artefact["file"]
    weights = parse(folder.read_bytes(file), str(folder.path / file))
    classes = folder.classes
    module: Any = build(folder.config["architecture"], len(classes) if classes else None)
    assign(module, weights, str(folder.path / file))
    engine = TorchEngine(module, device=device, precision=precision)
    return Predictor(
        folder=folder,
        artefact=artefact,
        engine=engine,
        stride=module.stride,
        size_multiple=module.size_multiple,
        inference=inference,
    )


_ENGINES = {"torch": _load_torch}


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
