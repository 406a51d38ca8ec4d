"""`load` and `create`: from a name, a folder or a Hub reference to a predictor or a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.engines import ENGINES, Engine, EngineRow, engine_row
from zoo.errors import InputError, MissingExtraError, NotReleasedError, closest, require
from zoo.folder.catalogue import BUNDLED, entries, entry
from zoo.folder.installed import find_installed, installed_names
from zoo.folder.model_folder import ModelFolder
from zoo.foreign import scheme_of
from zoo.hub import HUB_PREFIX, download
from zoo.inputs import Input, input_from_json
from zoo.predictor import Predictor, Stage

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Found", "create", "engines_for", "find_folder", "load", "resolve"]


@dataclass(frozen=True)
class Found:
    """Where a reference led.

    Attributes:
        path: The model folder.
        origin: `bundled`, `installed`, `hub` or `folder`.
    """

    path: Path
    origin: str


def find_folder(reference: str | Path, revision: str | None = None, *, local_files_only: bool = False) -> Path:
    """The model folder that `reference` refers to; see `resolve`."""
    return resolve(reference, revision, local_files_only=local_files_only).path


def resolve(reference: str | Path, revision: str | None = None, *, local_files_only: bool = False) -> Found:
    """The model folder that `reference` refers to, and where it was found.

    A name means the bundled model of that name, then the installed one, then the one on the Hub, which is downloaded to
    the Hub's cache first. A folder of the same name in the current directory is `./NAME`.

    Args:
        reference: A name, a folder, or `hf-hub:org/name`, optionally followed by `@` and a revision.
        revision: Commit, tag or branch of a Hub repository; the catalogue's pinned commit or `main` by default.
        local_files_only: Use the Hub's cache without connecting to the Hub.

    Raises:
        NotReleasedError: If the catalogue knows the name, but its weights are neither released nor installed.
        IntegrityError: If a file of the Hub differs from its manifest.
        MissingExtraError: If the model is on the Hub and the extra `hub` is not installed.
        InputError: If there is no such name, folder, repository or revision, or the download fails.
    """
    text = str(reference)
    if scheme_of(reference) is not None:
        raise InputError(
            f"{text} is a model of another project, without a model folder; zoo evaluate, zoo predict and "
            "zoo.foreign.load run it"
        )
    if text.startswith(HUB_PREFIX):
        return Found(download(text, revision, local_files_only=local_files_only), "hub")
    found = _of_name(text, revision, local_files_only) if isinstance(reference, str) else None
    if found is not None:
        return found
    path = Path(reference)
    try:
        if path.is_dir():
            _refuse_revision(revision, text)
            return Found(path, "folder")
        if path.exists():
            raise InputError(f"{path} is a file; a model folder, a name or hf-hub:org/name was expected")
    except OSError as error:  # path too long, no permission
        raise InputError(f"{text[:100]!r} cannot be a model folder: {error.strerror}") from error
    raise InputError(
        f"unknown model {text!r}: neither a name in the catalogue nor a folder, and not installed either"
        f"{closest(text, [*entries(), *installed_names()])}; `zoo list` shows all names"
    )


def _of_name(name: str, revision: str | None, local_files_only: bool) -> Found | None:
    """What a name means, `None` if it is not a name."""
    known = entries().get(name)
    if known is not None and known.bundled:
        _refuse_revision(revision, name)
        return Found(BUNDLED / name, "bundled")
    installed = find_installed(name)
    if installed is not None:
        _refuse_revision(revision, name)
        return Found(installed, "installed")
    if known is None:
        return None
    if not known.released:
        raise NotReleasedError(f"the weights of {name} are not released; recipe: {known.recipe}")
    if known.hub:
        hub = f"{HUB_PREFIX}{known.hub}"
        return Found(download(hub, revision or known.revision, local_files_only=local_files_only), "hub")
    raise InputError(f"{name} is neither bundled with this package nor on the Hub; reinstall perception-zoo")


def _refuse_revision(revision: str | None, what: str) -> None:
    if revision is not None:
        raise InputError(f"revision {revision!r}: {what} is not loaded from the Hub and has only one; omit revision")


def load(
    reference: str | Path,
    *,
    engine: str = "auto",
    device: str = "cpu",
    precision: str = "fp32",
    threads: int | None = None,
    file: str | None = None,
    input_settings: Mapping[str, Any] | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Predictor:
    """A predictor with released weights; every file is checked against the manifest before it is used.

    `auto` takes the first engine of `onnx`, `torch`, `openvino` whose package is installed and for which the folder has
    a file at this precision; on any device other than the CPU, `torch` comes first. ONNX Runtime leads because it runs
    the published file, starts ten times as fast as torch, and computes in float32 on every CPU.

    Args:
        reference: A catalogue name, an installed model, a model folder, or `hf-hub:org/name`, optionally followed by
            `@` and a revision.
        engine: `torch`, `onnx`, `openvino` (runs the ONNX file), or `auto`.
        device: Where the engine runs: `cpu`; for torch `cuda:0`; for onnx `cuda`, `cuda:1`, `tensorrt`, `openvino`; for
            openvino what it finds here, for example `gpu`. There is no fallback to another device.
        precision: Arithmetic. torch: `fp32`, or `bf16` or `fp16` by autocast. onnx: that of the file, `fp32` or `fp16`.
            openvino: `fp32`, `bf16` if the device supports it, or an `fp16` file.
        threads: CPU threads; by default those that the process may use. For torch this sets the whole process.
        file: One of the folder's files, for example `onnx/NAME.fp16.onnx`; chosen by engine and precision by default.
        input_settings: Replaces settings of the input that reads the source, as its section of `config.json` has them.
            For images, `{"inference": {"mode": "whole"}}` overrides sliding windows.
        revision: Commit, tag or branch of a model on the Hub; the catalogue's pinned commit or `main` by default.
        local_files_only: Use the Hub's cache without connecting to the Hub.

    Raises:
        NotReleasedError: If the catalogue knows the name, but its weights are neither released nor installed.
        IntegrityError: If a file differs from the manifest or is damaged.
        MissingExtraError: If the package of the engine or of the Hub is not installed.
        InputError: If the name, engine, device or file is unknown or unusable, the configuration is invalid, or the
            download fails.
    """
    folder = ModelFolder.open(find_folder(reference, revision, local_files_only=local_files_only))
    if engine == "auto":
        engine = _automatic(folder, device, precision, file)
    row = engine_row(engine)
    stages = []
    for number, each in enumerate(folder.inputs):
        found = _fitting(folder, engine, precision, file, number)
        if not found:
            raise InputError(_nothing_fits(folder, engine, precision, file, number))
        chosen = _with_settings(folder.name, each, input_settings) if input_settings and number == 0 else each
        opened = _open(row, folder, found[0], device=device, precision=precision, threads=threads)
        stages.append(Stage(chosen, found[0], opened))
    return Predictor(folder, stages, folder.task)


def _with_settings(name: str, chosen: Input, settings: Mapping[str, Any]) -> Input:
    known = chosen.schema["properties"]
    if unknown := sorted(set(settings) - set(known)):
        raise InputError(
            f"{name} reads {chosen.kind}, which has no setting {', '.join(unknown)}; it has {', '.join(known)}"
        )
    return input_from_json({**chosen.to_json(), **settings})


def _open(row: EngineRow, folder: ModelFolder, artefact: Mapping[str, Any], **options: Any) -> Engine:
    try:
        return row.open(folder, artefact, **options)
    except ModuleNotFoundError as error:
        if not row.installed and not isinstance(error, MissingExtraError):
            raise require(row.package, row.extra, f"running {folder.name} with the {row.extra} engine") from error
        raise


def _fitting(
    folder: ModelFolder, engine: str, precision: str, file: str | None, stage: int = 0
) -> list[Mapping[str, Any]]:
    """Artefacts of a stage that `engine` can run at `precision`: those with free sizes and
    without steps inside the graph first.

    A `file` that belongs to another stage is ignored.
    """
    row = ENGINES[engine]
    if precision not in row.precisions:
        return []
    wanted = row.precisions[precision]
    if file in {entry["file"] for entry in folder.config["artefacts"] if entry.get("stage", 0) != stage}:
        file = None
    found = [
        entry
        for entry in folder.config["artefacts"]
        if entry["engine"] == row.reads
        and entry.get("stage", 0) == stage
        and (entry["file"] == file if file else wanted in (None, entry.get("precision")))
        # A file chosen by name is run at its own precision, unless a precision other than the default is given.
        and (wanted in (None, entry.get("precision")) or precision == "fp32")
    ]
    return sorted(found, key=lambda entry: _fixes_size(entry) or bool(entry.get("in_graph")))


def _able(folder: ModelFolder, engine: str, precision: str, file: str | None) -> bool:
    """Whether `engine` can run every stage."""
    return all(_fitting(folder, engine, precision, file, stage) for stage in range(len(folder.inputs)))


def _fixes_size(entry: Mapping[str, Any]) -> bool:
    """Whether a file takes samples of one size only; a fixed batch size does not count."""
    sizes = [
        side
        for tensor in entry.get("inputs", ())
        for side, axis in zip(tensor["shape"], tensor.get("axes", ()))
        if axis not in ("batch", "channels")
    ]
    return any(side is not None for side in sizes)


def _nothing_fits(folder: ModelFolder, engine: str, precision: str, file: str | None, stage: int = 0) -> str:
    row = ENGINES[engine]
    if precision not in row.precisions:
        return f"the {engine} engine has no precision {precision!r}; it has {', '.join(row.precisions)}"
    have = ", ".join(f"{e['file']} ({e['engine']} {e.get('precision', '')})" for e in folder.config["artefacts"])
    wanted = file or f"a file for {engine}"
    if not file or precision != "fp32":
        wanted += f" in {precision}"
    if len(folder.inputs) > 1:
        wanted += f" for stage {stage}"
    hint = "; zoo export makes one" if row.reads == "onnx" else ""
    return f"{folder.path} does not have {wanted}; it has {have or 'none'}{hint}"


def _automatic(folder: ModelFolder, device: str, precision: str, file: str | None) -> str:
    """The engine that `auto` selects."""
    order = sorted(ENGINES, key=lambda name: ENGINES[name].rank[device != "cpu"])
    able = [engine for engine in order if _able(folder, engine, precision, file)]
    for engine in able:
        if ENGINES[engine].installed:
            return engine
    if able:
        row = ENGINES[able[0]]
        raise require(row.package, row.extra, f"running {folder.name}")
    stages = range(len(folder.inputs))
    lacking = next((stage for stage in stages if not _fitting(folder, order[0], precision, file, stage)), 0)
    raise InputError(_nothing_fits(folder, order[0], precision, file, lacking))


def engines_for(folder: ModelFolder, precision: str = "fp32", file: str | None = None) -> list[str]:
    """Installed engines that can run one of the folder's files at this precision, or this `file`."""
    return [engine for engine, row in ENGINES.items() if row.installed and _able(folder, engine, precision, file)]


def create(name: str, *, num_classes: int | None = None, pretrained: bool = False) -> nn.Module:
    """The untrained architecture of a catalogue entry.

    Args:
        name: Catalogue name, released or not.
        num_classes: Number of classes of the head; the entry's own by default.
        pretrained: Start the encoder from timm's own weights (ImageNet, for most). Lidar encoders have none.

    Returns:
        An `nn.Module` with `forward_features` and `forward_intermediates`.

    Raises:
        InputError: If the name is unknown, `num_classes` is below 1 or given for a bare encoder, or the pretrained
            weights do not exist or cannot be downloaded.
        MissingExtraError: If torch or timm is not installed.
    """
    chosen = entry(name)
    if num_classes is not None:
        if "head" not in chosen.architecture:
            raise InputError(f"{name} is a bare encoder without classes; omit num_classes")
        if not isinstance(num_classes, int) or num_classes < 1:
            raise InputError(f"num_classes {num_classes!r}: expected a whole number of at least 1")
    try:
        from zoo.folder.architecture import build
    except MissingExtraError:
        raise
    except ImportError as error:
        raise require("torch", "torch", f"creating {name}") from error
    if num_classes is None and chosen.classes:
        num_classes = len(chosen.classes)
    return build(chosen.architecture, num_classes, pretrained=pretrained)
