"""Exports a model to an ONNX file, which is kept only if its outputs match the model's."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from zoo.arguments import parse_size
from zoo.contract import joined
from zoo.engines import TensorSpec
from zoo.errors import InputError, require
from zoo.evaluate.metrics import headline_column, metric_class
from zoo.export.plan import plan_for
from zoo.folder.model_folder import ModelFolder
from zoo.inputs import Input
from zoo.loading import find_folder, load
from zoo.predictor import Predictor
from zoo.sensors import read_sensor
from zoo.tasks import Task

__all__ = ["Arguments", "export", "run"]


@dataclass(frozen=True)
class Arguments:
    """Copies a model folder and adds an ONNX file, after comparing the file with the model frame by frame.

    Exit code 3: the file's outputs differ from the model's beyond the limits. Nothing is written.
    """

    model: Annotated[str, tyro.conf.Positional]
    """Catalogue name, model folder, or hf-hub:org/name."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """New model folder."""
    format: Literal["onnx"] = "onnx"
    """File format."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """Arithmetic precision inside the file. Inputs and outputs are float32 either way."""
    dynamic: Annotated[str | None, tyro.conf.arg(metavar="batch,size")] = None
    """Dynamic axes: batch, size or both. Default: both, or neither with --size."""
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    """Fixed height and width of the input in pixels, for example 384x640."""
    uint8_input: bool = False
    """Take camera images, (B, H, W, 3) uint8 RGB, and output labels and scores. Every step but the resize moves into
    the file."""
    frames: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also compare on the images in this folder, or whatever the model reads."""
    sensor: str | None = None
    """Sweeps: columns and sensor of the files in --frames, as for `zoo predict`."""


def run(arguments: Arguments) -> int:
    """Exports the model, compares the file with it, writes the folder and prints the results."""
    if hasattr(signal, "SIGTERM"):
        # The default handler would leave temporary files behind; SystemExit unwinds the stack and removes them.
        signal.signal(signal.SIGTERM, lambda number, stack: sys.exit(128 + number))
    folder, row, findings = export(arguments)
    entry = row["file"]
    print(f"{folder.path / entry}: {(folder.path / entry).stat().st_size:,} bytes, SHA-256 {row['artefact_sha256']}")
    print(*parity_lines(row, folder.task), sep="\n")
    print(
        f"TensorRT, according to {findings['list']}: "
        + (f"{len(findings['rejected'])} unsupported nodes" if findings["rejected"] else "all nodes are supported")
    )
    for finding in findings["rejected"]:
        print(f"  {finding['node']} ({finding['operator']}): {finding['reason']}")
    return 0


def _sensor_settings(arguments: Arguments) -> dict[str, Any]:
    """What `--sensor` says about the files in `--frames`, as settings of the input."""
    if arguments.sensor is None:
        return {}
    if arguments.frames is None:
        raise InputError(f"--sensor {arguments.sensor} describes the files in --frames, which is not given; omit it")
    return {"source": read_sensor(arguments.sensor)}


def parity_lines(row: Mapping[str, Any], task: Task) -> list[str]:
    """A parity row as text: one line for all frames, then one per condition and one per other input shape."""
    lines = [
        f"parity, {row['engine']} on {row['device']}: {row['frames']} frames, {100 * row['agreement']:.4f} % of the "
        f"{task.predicts} agree, {row['compared']} differ by at most {row['max_error']:.2g}, "
        f"{row['relative_error']:.2g} of the largest"
    ]
    for name, values in row["conditions"].items():
        difference = values["difference"]
        shown = "no metric"
        if difference is not None and task.metric is not None:
            column = headline_column(metric_class(task.metric))
            shown = f"{column.title} {column.scale * difference:+.4f} {column.difference_unit}"
        lines.append(f"  {name}: {values['frames']} frames, {100 * values['agreement']:.4f} %, {shown}")
    for shape in row["other_shapes"]:
        size = "x".join(map(str, shape["shape"]))
        lines.append(f"  input {size}: {100 * shape['agreement']:.4f} %, relative error {shape['relative_error']:.2g}")
    return lines


def parse_shape(arguments: Arguments) -> tuple[list[str], tuple[int, int] | None]:
    """What is dynamic, `batch` and `size`, and the fixed (height, width) that the command line asks for."""
    words = arguments.dynamic.split(",") if arguments.dynamic else ([] if arguments.size else ["batch", "size"])
    if unknown := [word for word in words if word not in ("batch", "size")]:
        raise InputError(f"--dynamic {arguments.dynamic}: expected batch, size or batch,size, got {unknown[0]!r}")
    if "size" in words and arguments.size:
        raise InputError(
            f"--dynamic {arguments.dynamic} makes the size dynamic but --size {arguments.size} fixes it; omit one"
        )
    if "size" in words:
        return words, None
    if not arguments.size:
        raise InputError(f"--dynamic {arguments.dynamic} fixes the size; add --size HxW")
    return words, parse_size("--size", arguments.size)


def export(arguments: Arguments) -> tuple[ModelFolder, dict[str, Any], dict[str, Any]]:
    """Exports a model into a new folder.

    Returns:
        The new folder, the file's row of `parity.json`, and the findings of the TensorRT check.

    Raises:
        ParityError: If the file's outputs differ from the model's beyond the limits.
        MissingExtraError: If a package needed for exporting is not installed.
        InputError: If the model cannot be exported, a size does not fit, or a frame cannot be read.
    """
    dynamic, size = parse_shape(arguments)
    settings = _sensor_settings(arguments)
    if arguments.out.exists():
        raise InputError(f"{arguments.out} exists already; choose another folder or remove it first")
    try:
        from zoo.export.graph import OPSET, to_onnx
    except ImportError as error:
        raise require("torch", "export", "exporting a model") from error
    from zoo.export.folder import add_file
    from zoo.export.gate import LIMITS, compare, refuse_if_beyond
    from zoo.export.readback import metadata_of, read_back
    from zoo.export.rewrite import set_metadata, to_half
    from zoo.export.samples import embedded_set, frames_in
    from zoo.export.sources import EngineSource, Side
    from zoo.export.tensorrt_check import check_tensorrt
    from zoo.export.tensorrt_operators import SOURCE

    folder = ModelFolder.open(find_folder(arguments.model))
    folder.verify()
    predictor = load(folder.path, engine="torch", input_settings=settings)
    plan = plan_for(predictor, dynamic, size, arguments.uint8_input)
    sets = [embedded_set(predictor.input)]
    sets += [frames_in(arguments.frames, predictor.input)] if arguments.frames else []
    engine = predictor.engine
    model = to_onnx(
        predictor.module,
        engine.spec.inputs,
        engine.spec.outputs,
        lengths=plan.lengths,
        free=plan.free,
        what=folder.name,
    )
    if arguments.precision == "fp16":
        model = to_half(model)
    source = EngineSource(Side(engine, predictor.input, predictor.task), predictor.artefact["sha256"])
    limits = LIMITS[arguments.precision]
    if plan.rewrite is not None:
        # Labels and scores hide errors in the logits of classes that never win, so the inner graph is compared first.
        inside = _tensors(model, (*engine.spec.inputs, *engine.spec.outputs))
        core = _file(model.SerializeToString(), predictor, inside, precision=arguments.precision)
        refuse_if_beyond(compare(source, core, sets[:1], limits)[0], f"the graph inside the file of {folder.name}")
        model = plan.rewrite(model)
    entry: dict[str, Any] = {
        "file": _file_name(folder.name, arguments, dynamic, size),
        "engine": "onnx",
        "precision": arguments.precision,
        "source_sha256": predictor.artefact["sha256"],
        "opset": OPSET,
        **_tensors(model, (*plan.inputs, *engine.spec.outputs)),
        "in_graph": list(plan.in_graph),
    }
    entry["contract"] = joined(predictor.input.contract(entry), predictor.task.contract(entry))
    set_metadata(model, metadata_of(folder, entry))
    content = model.SerializeToString()
    described = read_back(content, folder, entry)
    findings = {"list": SOURCE, "rejected": [finding.to_json() for finding in check_tensorrt(model)]}
    file = _file(content, predictor, entry, precision=arguments.precision, described=described)
    compared, stored = compare(source, file, sets, limits)
    refuse_if_beyond(compared, entry["file"])
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    about = {"artefact_sha256": entry["sha256"], "file": entry["file"], "precision": arguments.precision}
    row = {**about, **compared.to_json()}
    return add_file(folder, arguments.out, entry, content, row, stored, findings), row, findings


def _file(
    content: bytes, predictor: Predictor, entry: Mapping[str, Any], *, precision: str, described: Input | None = None
) -> Any:
    """The finished file as one side of the comparison, fed according to its own metadata."""
    from zoo.engines.onnx import OnnxEngine
    from zoo.export.sources import ExportedFile

    declared = [TensorSpec.from_json(tensor) for tensor in (*entry["inputs"], *entry["outputs"])]
    engine = OnnxEngine(content, precision=precision, declared=declared, what="the exported file")
    return ExportedFile(engine, described or predictor.input, predictor.task, tuple(entry.get("in_graph", ())))


def _file_name(model: str, arguments: Arguments, dynamic: list[str], size: tuple[int, int] | None) -> str:
    """`onnx/<name>.onnx`, with a part in between for each option that differs from the default."""
    parts = [model]
    parts += ["fp16"] if arguments.precision == "fp16" else []
    parts += ["uint8"] if arguments.uint8_input else []
    parts += [f"{size[0]}x{size[1]}"] if size else []
    parts += ["batch"] if size and "batch" in dynamic else []
    parts += ["one"] if not size and "batch" not in dynamic else []
    return f"onnx/{'.'.join(parts)}.onnx"


def _tensors(model: Any, specs: Iterable[TensorSpec]) -> dict[str, Any]:
    """`inputs` and `outputs` of the file's entry: shapes and dtypes from the graph, the rest from `specs`."""
    from onnx.helper import tensor_dtype_to_np_dtype

    def shape(value: Any) -> tuple[int | None, ...]:
        sides = value.type.tensor_type.shape.dim
        return tuple(side.dim_value if side.HasField("dim_value") else None for side in sides)

    def dtype(value: Any) -> str:
        return tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name

    known = {tensor.name: tensor for tensor in specs}
    inputs, outputs = (
        [
            dataclasses.replace(known[value.name], dtype=dtype(value), shape=shape(value)).to_json()
            if value.name in known
            else TensorSpec(value.name, dtype(value), shape(value)).to_json()
            for value in values
        ]
        for values in (model.graph.input, model.graph.output)
    )
    return {"inputs": inputs, "outputs": outputs}
