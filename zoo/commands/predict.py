"""Segments images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from PIL import Image

from zoo.errors import InputError
from zoo.files import atomic_file
from zoo.inference import InferenceMode
from zoo.loading import load
from zoo.prediction import Segmentation2D
from zoo.predictor import Predictor

if TYPE_CHECKING:
    import tyro

__all__ = ["Arguments", "parse", "run"]


@dataclass(frozen=True)
class Arguments:
    """Segments images. Per image: <stem>.png with class ids in one 8-bit channel, <stem>_overlay.jpg, <stem>.json."""

    model: Annotated[str, tyro.conf.Positional]
    """Catalogue name, model folder, or hf-hub:org/name."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""
    out: Path
    """Folder for the results; made if it does not exist, files of the same name are replaced."""
    engine: str = "auto"
    """Runs the model: torch, onnx, openvino, or auto (the first of onnx, torch, openvino that is there)."""
    device: str = "cpu"
    """Where the engine runs, for example cpu or cuda:0. Another one is never taken instead."""
    precision: str = "fp32"
    """Arithmetic: fp32, fp16 or bf16, as far as engine and file have it."""
    threads: int | None = None
    """CPU threads."""
    file: str | None = None
    """One of the model's files, for example onnx/NAME.fp16.onnx."""
    alpha: float = 0.55
    """Weight of the colours in the overlay, 0 to 1."""
    whole: bool = False
    """Run whole images, whatever the model's configuration says."""
    window: tuple[int, int] | None = None
    """Height and width of sliding windows, in pixels of the resized image."""
    window_stride: tuple[int, int] | None = None
    """Vertical and horizontal distance between windows; two thirds of the window by default."""


_VALUES: dict[str, Any] = {
    "out": Path,
    "engine": str,
    "device": str,
    "precision": str,
    "threads": int,
    "file": str,
    "alpha": float,
}
_PAIRS = ("window", "window_stride")


def parse(words: Sequence[str]) -> Arguments:
    """The arguments of the command line.

    tyro takes a third of the time that a prediction with ONNX Runtime needs besides the inference. So plain options are
    read here, and tyro is asked for help, for what is rare and for what is wrong.
    """
    plain = _plain(words)
    if plain is not None:
        return plain
    global tyro  # the annotations of `Arguments` are looked up here
    import tyro

    from zoo.arguments import parse_arguments

    return parse_arguments(Arguments, words, prog="zoo predict", description=__doc__)


def _plain(words: Sequence[str]) -> Arguments | None:
    """Arguments of `MODEL IMAGE... --name value...`; `None` if there is anything else in `words`."""
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
    return Arguments(model=positional[0], images=tuple(map(Path, positional[1:])), **options)


def run(arguments: Arguments) -> int:
    """Segments every image; a wrong one stops the run before anything of it is written."""
    if not arguments.images:
        raise InputError("no image was given")
    stems: dict[str, Path] = {}
    for path in arguments.images:
        if path.stem in stems:
            raise InputError(f"{stems[path.stem]} and {path} would both become {path.stem}.png; give them in two runs")
        stems[path.stem] = path
    if not 0.0 <= arguments.alpha <= 1.0:
        raise InputError(f"alpha {arguments.alpha} is outside 0 to 1")
    predictor = load(
        arguments.model,
        engine=arguments.engine,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.threads,
        file=arguments.file,
        inference=chosen_inference(arguments),
    )
    for path in arguments.images:
        prediction = predictor(path)
        _write(arguments.out, path, prediction, predictor, arguments.alpha)
        shares = [f"{name} {100 * share:.0f} %" for name, share in list(prediction.fractions().items())[:4]]
        print(f"{path}: {', '.join(shares)} -> {arguments.out / (path.stem + '_overlay.jpg')}")
    return 0


def chosen_inference(arguments: Arguments) -> InferenceMode | None:
    """The inference that the command line asks for; `None` for the model's own."""
    if arguments.whole and arguments.window:
        raise InputError("--whole and --window exclude each other")
    if arguments.window_stride and not arguments.window:
        raise InputError("--window-stride needs --window")
    if arguments.whole:
        return InferenceMode()
    if arguments.window is None:
        return None
    stride = arguments.window_stride or tuple(max(1, side * 2 // 3) for side in arguments.window)
    return InferenceMode(mode="sliding", window=arguments.window, window_stride=(stride[0], stride[1]))


def _write(out: Path, path: Path, prediction: Segmentation2D, predictor: Predictor, alpha: float) -> None:
    height, width = prediction.labels.shape
    summary = {
        "image": str(path),
        "height": height,
        "width": width,
        "model": predictor.name,
        "artefact": {key: predictor.artefact.get(key) for key in ("file", "engine", "precision", "sha256")},
        "settings": predictor.settings,
        "mean_score": float(np.mean(prediction.scores, dtype=np.float64)),
        "fractions": prediction.fractions(),
        "classes": [
            {"id": i, "name": name, "color": list(color)}
            for i, (name, color) in enumerate(zip(prediction.class_names, prediction.colors, strict=True))
        ],
    }
    # All three are on the disk before the first gets its name: a full disk leaves none of them.
    with (
        atomic_file(out / f"{path.stem}.png") as ids,
        atomic_file(out / f"{path.stem}_overlay.jpg") as overlay,
        atomic_file(out / f"{path.stem}.json") as text,
    ):
        Image.fromarray(prediction.labels).save(ids, "PNG")
        prediction.overlay(alpha, legend=True).save(overlay, "JPEG", quality=92)
        text.write((json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode())
        for handle in (ids, overlay, text):
            handle.flush()
