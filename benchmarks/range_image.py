"""Benchmarks the range network of the catalogue from points to labels in ONNX Runtime, fp32, 64 x 1024.

    python benchmarks/range_image.py --scan SCAN.bin [--threads 2] [--laserscan LASERSCAN.py]

SCAN is a sweep of KITTI or SemanticKITTI (`velodyne/000000.bin`). Weights are random, which does not change the time.
The exported graph is cut where the features of the image leave the last convolution: what comes before is the network,
what comes after, gathering and refining the features of each point, is the back-projection. Also given: the whole as a
multiple of a lower bound, the same number of multiply-adds at the rate of the fastest dense fp32 matrix product with
the same threads in the same process.

LASERSCAN.py is `train/common/laserscan.py` of lidar-bonnetal (RangeNet++, github.com/PRBonn/lidar-bonnetal), which is
not part of this repository: its projection of the same points to the same image is timed in turn with ours.

With one thread, the CPU time of the process is measured, which equals wall time on an idle machine and is unaffected by
other programs. With more threads, wall time is measured, so the machine must be idle.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.engines import TensorSpec
from zoo.export.graph import to_onnx
from zoo.folder.catalogue import entry
from zoo.inputs import input_from_json
from zoo.machine import machine, packages

MODEL = "supervised-rangeunet-synthetic.pointwise-synthetic"


def medians(calls: dict[str, Callable[[], object]], runs: int, threads: int) -> dict[str, float]:
    """Median milliseconds of every call, in turn, after two untimed calls each."""
    clock = time.process_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(runs + 2):
        for name, call in calls.items():
            start = clock()
            call()
            if turn > 1:
                times[name].append(1000 * (clock() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def cut(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto, str]:
    """The network and the back-projection, and the tensor between them: the output of the last convolution."""
    between = next(node.output[0] for node in reversed(model.graph.node) if node.op_type == "Conv")
    inferred = onnx.shape_inference.infer_shapes(model)
    extractor = onnx.utils.Extractor(inferred)
    return (
        extractor.extract_model(["image"], [between]),
        extractor.extract_model([between, "points", "pixel"], ["logits"]),
        between,
    )


def ceiling(threads: int) -> float:
    """GFLOP/s of the fastest dense fp32 matrix product: torch's, ONNX Runtime's, and torch's as a 1x1 convolution."""
    best = 0.0
    for rows, inner, columns in ((4096, 96, 96), (1024, 256, 256), (512, 512, 512), (2048, 512, 512)):
        left, right = torch.randn(rows, inner), torch.randn(inner, columns)
        image, kernel = left.T.reshape(1, inner, rows // 32, 32).contiguous(), right.T.reshape(columns, inner, 1, 1)
        image = image.contiguous(memory_format=torch.channels_last)
        sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("a", "y")]
        weight = helper.make_tensor("b", TensorProto.FLOAT, right.shape, right.numpy().tobytes(), raw=True)
        graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "g", sides[:1], sides[1:], [weight])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        run, fed = session(model, threads), {"a": left.numpy()}
        calls: dict[str, Callable[[], object]] = {
            "torch": lambda a=left, b=right: torch.mm(a, b),
            "convolution": lambda a=image, b=kernel: torch.conv2d(a, b),
            "onnxruntime": lambda r=run, f=fed: r.run(None, f),
        }
        found = medians(calls, 40, threads)
        best = max(best, 2e-6 * rows * inner * columns / min(found.values()))
    return best


def peer(path: Path, points: np.ndarray) -> Callable[[], object]:
    """lidar-bonnetal's projection of the points to 64 x 1024."""
    found = importlib.util.spec_from_file_location("laserscan", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    scan = module.LaserScan(project=True, H=64, W=1024, fov_up=3.0, fov_down=-25.0)
    return lambda: scan.set_points(points[:, :3], points[:, 3])


def measure(scan: Path, threads: int, runs: int, laserscan: Path | None) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    module: Any = zoo.create(MODEL).eval()
    (section,) = entry(MODEL).inputs
    reader: Any = input_from_json(section)
    points = np.fromfile(scan, "<f4").reshape(-1, 4)
    outputs = (TensorSpec("logits", "float32", (), axes=tuple(module.axes)),)
    model = to_onnx(module, module.inputs, outputs, lengths={"batch": 1, "points": 1000}, free=("points",))
    network, back, between = cut(model)
    whole, first, second = (session(part, threads) for part in (model, network, back))
    arrays = reader.together([reader.prepare(points)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.from_numpy(arrays[tensor.name]) for tensor in module.inputs))
    image = {"image": arrays["image"]}
    middle = {between: first.run(None, image)[0], "points": arrays["points"], "pixel": arrays["pixel"]}
    assert np.allclose(second.run(None, middle)[0], whole.run(None, arrays)[0], atol=1e-4)

    def labels() -> np.ndarray:
        return whole.run(None, reader.together([reader.prepare(points)]))[0].argmax(1)

    calls: dict[str, Callable[[], object]] = {
        "points to labels": labels,
        "projection": lambda: reader.prepare(points),
        "network": lambda: first.run(None, image),
        "back-projection": lambda: second.run(None, middle),
    }
    if laserscan is not None:
        calls["projection of lidar-bonnetal"] = peer(laserscan, points)
    rate = ceiling(threads)
    found = medians(calls, runs, threads)
    floor = counter.get_total_flops() / 1e6 / rate
    return {
        "scan": scan.name,
        "points": len(points),
        "threads": threads,
        "gflop": counter.get_total_flops() / 1e9,
        "ceiling_gflops": (rate, ceiling(threads)),
        "floor_ms": floor,
        "ms": found,
        "times_floor": found["points to labels"] / floor,
        "network_times_floor": found["network"] / floor,
        "projection_share": (found["projection"] + found["back-projection"]) / found["points to labels"],
        "machine": machine(),
        "packages": packages(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--laserscan", type=Path)
    arguments = parser.parse_args()
    row = measure(arguments.scan, arguments.threads, arguments.runs, arguments.laserscan)
    print(f"{row['points']:,} points, {row['threads']} threads, {row['gflop']:.1f} GFLOP")
    before, after = row["ceiling_gflops"]
    print(f"fastest matrix product {before:.0f} GFLOP/s (then {after:.0f}): at least {row['floor_ms']:.1f} ms")
    for name, value in row["ms"].items():
        print(f"  {name:30} {value:7.1f} ms")
    print(f"points to labels: {row['times_floor']:.2f} times the floor; the network {row['network_times_floor']:.2f}")
    print(f"projection and back-projection: {100 * row['projection_share']:.1f} % of the whole")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
