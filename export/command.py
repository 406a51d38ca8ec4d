"""Turns a model into an ONNX file that is compared with it before it is kept."""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from zoo.contract import artefact_contract
from zoo.errors import InputError, require
from zoo.inference import window_cells
from zoo.loading import find_folder, load
from zoo.model_folder import ModelFolder
from zoo.predictor import Predictor
from zoo.preprocessing import MAX_ASPECT, Preprocessing

__all__ = ["Arguments", "export", "run"]


@dataclass(frozen=True)
class Arguments:
    """Copies a model folder and adds an ONNX file, compared with the model frame by frame before it is kept.

    Exit code 3: the file does not compute what the model computes; nothing is written.
    """

    model: Annotated[str, tyro.conf.Positional]
    """Catalogue name, model folder, or hf-hub:org/name."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to make."""
    format: Literal["onnx"] = "onnx"
    """Kind of file."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """Arithmetic inside the file; its inputs and outputs stay float32."""
    dynamic: Annotated[str | None, tyro.conf.arg(metavar="batch,size")] = None
    """What stays free: batch, size or both. Default: both; with --size, neither."""
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    """Fixed height and width of the input in pixels, for example 384x640."""
    uint8_input: bool = False
    """Take camera images, (B, H, W, 3) uint8 RGB, and give labels and scores: all steps but the resize inside."""
    frames: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Compare on the images in this folder too."""


def run(arguments: Arguments) -> int:
    """Exports, compares, writes the folder and says what was found."""
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, lambda number, stack: sys.exit(128 + number))  # so that cleaning up happens
    folder, row, findings = export(arguments)
    entry = row["file"]
    print(f"{folder.path / entry}: {(folder.path / entry).stat().st_size:,} bytes, SHA-256 {row['artefact_sha256']}")
    print_parity(row)
    print(
        f"TensorRT, by its list ({findings['list']}): "
        + (f"{len(findings['rejected'])} nodes not taken" if findings["rejected"] else "every node is taken")
    )
    for finding in findings["rejected"]:
        print(f"  {finding['node']} ({finding['operator']}): {finding['reason']}")
    return 0


def print_parity(row: Mapping[str, Any]) -> None:
    """One line for all frames, one per condition."""
    print(
        f"parity, {row['engine']} on {row['device']}: {row['frames']} frames, {100 * row['agreement']:.4f} % of the "
        f"labels agree, {row['compared']} differ by at most {row['max_error']:.2g}, "
        f"{row['relative_error']:.2g} of the largest"
    )
    for name, values in row["conditions"].items():
        difference = values["miou_difference"]
        shown = "no labels" if difference is None else f"mIoU {100 * difference:+.4f} points"
        print(f"  {name}: {values['frames']} frames, {100 * values['agreement']:.4f} %, {shown}")
    for shape in row["other_shapes"]:
        size = "x".join(map(str, shape["shape"]))
        print(f"  input {size}: {100 * shape['agreement']:.4f} %, relative error {shape['relative_error']:.2g}")


def parse_shape(arguments: Arguments) -> tuple[tuple[str, ...], tuple[int, int] | None]:
    """The free axes and the fixed (height, width) that the command line asks for."""
    words = arguments.dynamic.split(",") if arguments.dynamic else ([] if arguments.size else ["batch", "size"])
    if unknown := [word for word in words if word not in ("batch", "size")]:
        raise InputError(f"--dynamic {arguments.dynamic}: {unknown[0]!r} is neither batch nor size")
    if "size" in words and arguments.size:
        raise InputError(f"--dynamic {arguments.dynamic} leaves the size free and --size {arguments.size} fixes it")
    axes = (("batch",) if "batch" in words else ()) + (("height", "width") if "size" in words else ())
    if "size" in words:
        return axes, None
    if not arguments.size:
        raise InputError(f"--dynamic {arguments.dynamic} fixes the size; say which: --size HxW")
    height, separator, width = arguments.size.partition("x")
    if not separator or not (height.isdigit() and width.isdigit()) or min(int(height), int(width)) < 1:
        raise InputError(f"--size {arguments.size}: expected HxW in pixels, for example 384x640")
    return axes, (int(height), int(width))


def export(arguments: Arguments) -> tuple[ModelFolder, dict[str, Any], dict[str, Any]]:
    """The new folder, its file's row of `parity.json`, and what the TensorRT check found.

    Raises:
        ParityError: If the file does not compute what the model computes.
        MissingExtraError: If a package that exporting needs is not installed.
        InputError: If the model cannot be exported, a size does not fit, or a frame cannot be read.
    """
    axes, size = parse_shape(arguments)
    if arguments.out.exists():
        raise InputError(f"{arguments.out} exists already; choose another folder or remove it first")
    try:
        from zoo.export.graph import OPSET, to_onnx
    except ImportError as error:
        raise require("torch", "export", "exporting a model") from error
    from zoo.export.parity import LIMITS, EngineSource, compare, embedded_set, frames_in, refuse_if_beyond
    from zoo.export.readback import read_back
    from zoo.export.rewrite import fuse_image_steps, set_metadata, to_half
    from zoo.export.tensorrt_check import check_tensorrt
    from zoo.export.tensorrt_operators import SOURCE

    folder = ModelFolder.open(find_folder(arguments.model))
    folder.verify()
    sets = [embedded_set()] + ([frames_in(arguments.frames)] if arguments.frames else [])
    predictor = load(folder.path, engine="torch")
    module, stride, multiple = predictor.module, predictor.stride, predictor.preprocessing.size_multiple
    check_runnable(predictor, size, arguments.uint8_input)
    inner = _inner_size(size, multiple, arguments.uint8_input)
    model = to_onnx(
        module,
        size=inner or (3 * multiple, 4 * multiple),
        batch=2 if "batch" in axes else 1,
        dynamic=axes,
        what=folder.name,
    )
    if arguments.precision == "fp16":
        model = to_half(model)
    source = EngineSource(predictor.engine, predictor.artefact["sha256"])
    limits = LIMITS[arguments.precision]
    if arguments.uint8_input:
        # Scores alone would hardly show a class that never wins, so the graph inside is compared as well.
        core = _file(model.SerializeToString(), predictor, axes, inner, fused=False, precision=arguments.precision)
        refuse_if_beyond(compare(source, core, sets[:1], limits)[0], f"the graph inside the file of {folder.name}")
        model = fuse_image_steps(model, predictor.preprocessing, stride=stride, size=size)
    entry: dict[str, Any] = {
        "file": _file_name(folder.name, arguments, axes, size),
        "engine": "onnx",
        "precision": arguments.precision,
        "source_sha256": predictor.artefact["sha256"],
        "opset": OPSET,
        "stride": stride,
        "size_multiple": multiple,
        "dynamic": list(axes),
        **_tensors(model),
        "in_graph": ["normalise", "pad", "upsample", "argmax"] if arguments.uint8_input else [],
    }
    entry["contract"] = artefact_contract(entry, folder.preprocessing, folder.inference)
    set_metadata(model, _metadata(folder, predictor, entry))
    content = model.SerializeToString()
    said = read_back(content, folder, entry)
    findings = {"list": SOURCE, "rejected": [finding.to_json() for finding in check_tensorrt(model)]}
    file = _file(content, predictor, axes, size, fused=arguments.uint8_input, precision=arguments.precision, said=said)
    row, stored = compare(source, file, sets, limits)
    refuse_if_beyond(row, entry["file"])
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    row = {"artefact_sha256": entry["sha256"], "file": entry["file"], "precision": arguments.precision, **row}
    return add(folder, arguments.out, entry, content, row, stored, findings), row, findings


def add(folder: ModelFolder, out: Path, *parts: Any) -> ModelFolder:
    """Writes the new folder; see `zoo.export.folder.add_file`."""
    from zoo.export.folder import add_file

    return add_file(folder, out, *parts)


def _inner_size(size: tuple[int, int] | None, multiple: int, uint8_input: bool) -> tuple[int, int] | None:
    """The fixed size that the network itself sees."""
    if size is None:
        return None
    padded = tuple(side + -side % multiple for side in size)
    if padded != size and not uint8_input:
        raise InputError(
            f"--size {size[0]}x{size[1]} is no multiple of {multiple}; take {padded[0]}x{padded[1]}, "
            "or --uint8-input, which pads inside"
        )
    return padded[0], padded[1]


def check_runnable(predictor: Predictor, size: tuple[int, int] | None, uint8_input: bool) -> None:
    """Refuses a file that would be exported, and that `zoo predict` could then not run on any picture.

    Args:
        predictor: The source model.
        size: Fixed (height, width) of the file's input, if it is fixed.
        uint8_input: The image steps are inside the file.

    Raises:
        InputError: If the model's windows or the size of its images do not fit the file.
    """
    if predictor.inference.mode == "sliding":
        _check_windows(predictor, size, uint8_input)
    elif size is not None:
        _check_reachable(predictor.preprocessing, size, uint8_input)


def _check_windows(predictor: Predictor, size: tuple[int, int] | None, uint8_input: bool) -> None:
    if uint8_input:
        raise InputError(
            f'{predictor.name} runs overlapping windows (inference mode "sliding" in config.json), but a file with '
            "--uint8-input picks the labels itself and takes whole images only; omit --uint8-input"
        )
    assert predictor.inference.window is not None
    height, width = window_cells(predictor.inference.window, predictor.stride)
    multiple = predictor.preprocessing.size_multiple
    if height % multiple or width % multiple:
        raise InputError(
            f"{predictor.name} runs windows of {height}x{width} pixels, but the network takes multiples of {multiple}; "
            f"set inference.window in config.json to [{height + -height % multiple}, {width + -width % multiple}]"
        )
    if size is not None and size != (height, width):
        raise InputError(
            f"--size {size[0]}x{size[1]}: {predictor.name} runs windows of {height}x{width} pixels; "
            f"take --size {height}x{width}, or leave the size free"
        )


def _check_reachable(preprocessing: Preprocessing, size: tuple[int, int], uint8_input: bool) -> None:
    """Whether any picture has this size after the resize (and after the padding, if that is outside the file)."""
    short = preprocessing.short_side
    if short is None:
        return
    multiple = 1 if uint8_input else preprocessing.size_multiple
    smallest, largest = (side + -side % multiple for side in (short, short * MAX_ASPECT))
    if min(size) != smallest or max(size) > largest:
        wide = size[1] >= size[0]
        long = min(max(max(size), smallest), largest)
        height, width = (smallest, long) if wide else (long, smallest)
        padded = f", padded to {smallest}," if smallest != short else ""
        raise InputError(
            f"--size {size[0]}x{size[1]}: pictures are resized to a short side of {short} pixels{padded} before the "
            f"file runs, so none has this size; take for example --size {height}x{width}, or change "
            "preprocessing.short_side in a copy of the model and measure that"
        )


def _file(
    content: bytes,
    predictor: Predictor,
    axes: tuple[str, ...],
    size: Any,
    *,
    fused: bool,
    precision: str,
    said: Preprocessing | None = None,
) -> Any:
    from zoo.engines.onnx import OnnxEngine
    from zoo.export.parity import ExportedFile

    multiple = predictor.preprocessing.size_multiple
    return ExportedFile(
        engine=OnnxEngine(content, precision=precision, size_multiple=multiple, what="the exported file"),
        fused=fused,
        stride=predictor.stride,
        size_multiple=multiple,
        size=size,
        batch="batch" in axes,
        preprocessing=predictor.preprocessing,
        classes=predictor.classes,
        said=said,
    )


def _file_name(model: str, arguments: Arguments, axes: tuple[str, ...], size: tuple[int, int] | None) -> str:
    """`onnx/<name>.onnx`, with what is out of the ordinary in between."""
    parts = [model]
    parts += ["fp16"] if arguments.precision == "fp16" else []
    parts += ["uint8"] if arguments.uint8_input else []
    parts += [f"{size[0]}x{size[1]}"] if size else []
    parts += ["batch"] if size and "batch" in axes else []
    parts += ["one"] if not size and "batch" not in axes else []
    return f"onnx/{'.'.join(parts)}.onnx"


def _tensors(model: Any) -> dict[str, Any]:
    """`input` and `outputs` of the file's entry, read from the graph; `None` is a free axis."""
    from onnx.helper import tensor_dtype_to_np_dtype

    def described(value: Any) -> dict[str, Any]:
        tensor = value.type.tensor_type
        shape = [side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim]
        return {"name": value.name, "dtype": tensor_dtype_to_np_dtype(tensor.elem_type).name, "shape": shape}

    image = described(model.graph.input[0])
    image["layout"] = "NHWC" if image["dtype"] == "uint8" else "NCHW"
    return {"input": image, "outputs": [described(value) for value in model.graph.output]}


def _metadata(folder: ModelFolder, predictor: Predictor, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says about itself, for whoever has it without its folder."""
    from zoo.export.readback import PRODUCER

    config = folder.config
    return {
        "name": folder.name,
        "task": config["task"],
        "classes": list(predictor.classes.names),
        "colors": [list(color) for color in predictor.classes.colors],
        "taxonomy": predictor.classes.taxonomy,
        "preprocessing": predictor.preprocessing.to_json(),
        "contract": entry["contract"],
        "stride": entry["stride"],
        "size_multiple": entry["size_multiple"],
        "precision": entry["precision"],
        "licence": config.get("licence", {"weights": "not stated"}),
        "source_sha256": entry["source_sha256"],
        "producer": PRODUCER,
    }
