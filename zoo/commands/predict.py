"""Runs a model on images or sweeps."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from zoo.errors import InputError
from zoo.files import atomic_file
from zoo.foreign import scheme_of
from zoo.inputs.windows import inference_settings
from zoo.loading import load
from zoo.predictor import Predictor
from zoo.sensors import read_sensor

if TYPE_CHECKING:
    import tyro

    from zoo.foreign import ForeignModel

__all__ = ["Arguments", "parse", "run"]


@dataclass(frozen=True)
class Arguments:
    """Runs a model on files and writes its predictions.

    For each source: <stem>.json and what the task adds. Segmentation of images: <stem>.png (8-bit class ids) and
    <stem>_overlay.jpg; of sweeps: <stem>.label (one uint32 per point) and <stem>_points.png. Features: <stem>.npz with
    an array per level.
    """

    model: Annotated[str, tyro.conf.Positional]
    """Catalogue name, model folder, hf-hub:org/name, or a model of another project: onnx:FILE.onnx,
    python:MODULE:FUNCTION, hf:ORG/NAME, torchvision:NAME."""
    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files that the model reads: images, or sweeps (.bin, .npy, .npz, .pcd, .ply, .las, .laz)."""
    out: Path
    """Output folder; created if missing, and files of the same name are overwritten."""
    engine: str = "auto"
    """torch, onnx, openvino, or auto: the first of onnx, torch and openvino that is installed."""
    device: str = "cpu"
    """Device of the engine, for example cpu or cuda:0; never falls back to another one."""
    precision: str = "fp32"
    """Arithmetic: fp32, fp16 or bf16, if the engine and the file support it."""
    threads: int | None = None
    """Number of CPU threads."""
    file: str | None = None
    """File of the model folder to run, for example onnx/NAME.fp16.onnx."""
    description: str | None = None
    """Classes, input and output of an onnx: or python: model, as YAML. Default for onnx:FILE.onnx: FILE.yaml."""
    alpha: float = 0.55
    """Opacity of the class colours in an overlay, 0 to 1."""
    whole: bool = False
    """Images: run them whole, overriding the model's configuration."""
    window: tuple[int, int] | None = None
    """Images: run sliding windows of this height and width, in pixels of the resized image."""
    window_stride: tuple[int, int] | None = None
    """Vertical and horizontal step between windows; two thirds of the window by default."""
    sensor: str | None = None
    """Sweeps: columns and sensor of the files: kitti, nuscenes, or a YAML file (docs/lidar.md). Default: the model's
    columns, and axes that point where the model's do."""


_VALUES: dict[str, Any] = {
    "out": Path,
    "engine": str,
    "device": str,
    "precision": str,
    "threads": int,
    "file": str,
    "description": str,
    "alpha": float,
    "sensor": str,
}
_DOUBLE_SUFFIX = ".pcd.bin"  # of nuScenes' sweeps
_FOREIGN_KEYS = ("source", "revision")
"""Keys of an artefact that only models of other projects have."""
_PAIRS = ("window", "window_stride")


def parse(words: Sequence[str]) -> Arguments:
    """Parses the command line.

    Importing tyro takes a third of the time that a prediction with ONNX Runtime spends outside inference. Plain options
    are therefore parsed here; tyro is imported for the help, for uncommon syntax and for mistakes.
    """
    plain = _plain(words)
    if plain is not None:
        return plain
    global tyro  # the annotations of `Arguments` are resolved here
    import tyro

    from zoo.arguments import parse_arguments

    return parse_arguments(Arguments, words, prog="zoo predict", description=__doc__)


def _plain(words: Sequence[str]) -> Arguments | None:
    """The arguments in `MODEL SOURCE... --name value...`, or `None` if `words` contain anything else."""
    positional: list[str] = []
    options: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            positional.append(word)
            continue
        name = word[2:].replace("-", "_")
        count = 1 if name in _VALUES else 2 if name in _PAIRS else 0
        taken, rest = rest[:count], rest[count:]
        if name in options or len(taken) < count or any(value.startswith("-") or value == "None" for value in taken):
            return None
        try:
            if count == 1:
                options[name] = _VALUES[name](taken[0])
            elif count == 2:
                options[name] = (int(taken[0]), int(taken[1]))
            elif word == "--whole":
                options[name] = True
            else:
                return None
        except ValueError:
            return None
    if len(positional) < 2 or "out" not in options:
        return None
    return Arguments(model=positional[0], sources=tuple(map(Path, positional[1:])), **options)


def run(arguments: Arguments) -> int:
    """Runs the model on each source. An unreadable one stops the run before any file is written for it."""
    if not arguments.sources:
        raise InputError("no source given")
    stems: dict[str, Path] = {}
    for path in arguments.sources:
        stem = _stem(path)
        if stem in stems:
            raise InputError(f"{stems[stem]} and {path} would both be written to {stem}.json; use two runs")
        stems[stem] = path
    if not 0.0 <= arguments.alpha <= 1.0:
        raise InputError(f"--alpha {arguments.alpha} is outside 0 to 1")
    predictor = _load(arguments)
    with predictor:
        for path in arguments.sources:
            prediction = predictor(path)
            shown = _write(arguments.out, path, prediction, predictor, arguments.alpha)
            print(f"{path}: {predictor.task.line(prediction)} -> {shown}")
    return 0


def _load(arguments: Arguments) -> Predictor | ForeignModel:
    settings = inference_settings(arguments.whole, arguments.window, arguments.window_stride)
    options: dict[str, Any] = {
        "engine": arguments.engine,
        "device": arguments.device,
        "precision": arguments.precision,
        "threads": arguments.threads,
    }
    if arguments.sensor is not None:
        settings["source"] = read_sensor(arguments.sensor)
    if scheme_of(arguments.model) is None:
        if arguments.description is not None:
            raise InputError(f"{arguments.model} is a model folder, which describes itself; omit --description")
        return load(arguments.model, file=arguments.file, input_settings=settings, **options)
    if arguments.file is not None or settings:
        raise InputError(f"--file, --whole, --window and --sensor are for model folders; {arguments.model} has none")
    from zoo import foreign

    return foreign.load(arguments.model, description=arguments.description, **options)


def _stem(path: Path) -> str:
    """The name of a source without its ending."""
    double = path.name.lower().endswith(_DOUBLE_SUFFIX)
    return path.name[: -len(_DOUBLE_SUFFIX)] if double else path.stem


def _write(out: Path, path: Path, prediction: Any, predictor: Predictor | ForeignModel, alpha: float) -> Path:
    """Writes what the task makes of a prediction, and the summary; gives the file to look at first."""
    summary = {
        predictor.input_kind: str(path),
        "model": predictor.name,
        "artefact": {
            key: predictor.artefact.get(key)
            for key in ("file", "engine", "precision", "sha256", *_FOREIGN_KEYS)
            if key in predictor.artefact or key not in _FOREIGN_KEYS
        },
        "settings": predictor.settings,
        **predictor.task.summary(prediction),
    }
    text = (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode()
    # Encoded in memory: when Pillow writes a JPEG to a file, it does not notice a short write on a full disk.
    contents = {".json": text, **predictor.task.files(prediction, alpha)}
    # All are written completely before the first is renamed, so a full disk leaves none of them behind.
    with contextlib.ExitStack() as stack:
        handles = [stack.enter_context(atomic_file(out / f"{_stem(path)}{ending}")) for ending in contents]
        for handle, content in zip(handles, contents.values(), strict=True):
            handle.write(content)
            handle.flush()
    return out / f"{_stem(path)}{list(contents)[-1]}"
