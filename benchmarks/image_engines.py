"""Benchmarks image models in each engine and compares them with plain ONNX Runtime on timm's own export.

    python benchmarks/image_engines.py

Models: ViT-S/16 at 224 x 224 with batch 1 and 8, and ViT-S/16 with the 2-layer mask transformer at 512 x 1024 with
batch 1. All files have the same random weights, and their outputs are compared before anything is timed. All engines
run in one process, in alternating blocks; a pause before each block lets the threads of the previous engine go idle.
Prints median milliseconds per call and ratios to timm's export. `onnx` and `openvino` run our export with dynamic
batch, height and width, as in a model folder; `fixed` is our export for this size only. On a machine with a GPU, torch
in bf16, compiled with CUDA graphs, is measured too.

`--quick` runs a few iterations to check that the script works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from zoo._torchvision import import_timm
from zoo.encoders.vit import ViT
from zoo.engines import Engine, TensorSpec
from zoo.engines.onnx import OnnxEngine
from zoo.engines.openvino import OpenVINOEngine
from zoo.export.graph import to_onnx
from zoo.folder.architecture import build
from zoo.machine import machine, packages

MODEL = "vit_small_patch16_224"
IMAGE = TensorSpec(
    "image", "float32", (None, 3, None, None), (1, 1, 16, 16), axes=("batch", "channels", "height", "width")
)
Call = Callable[[np.ndarray], np.ndarray]


def interleaved(calls: dict[str, Call], image: np.ndarray, blocks: int, runs: int) -> dict[str, float]:
    """Median milliseconds of every call over `blocks` blocks of `runs` runs, with an untimed run before each block."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(blocks):
        for name, call in calls.items():
            time.sleep(0.2)
            call(image)
            for _ in range(runs):
                start = time.perf_counter()
                call(image)
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def check(calls: dict[str, Call], image: np.ndarray) -> None:
    """Asserts that all outputs are equal to within a thousandth of the largest value."""
    outputs = {name: call(image) for name, call in calls.items()}
    reference = outputs["torch"]
    for name, output in outputs.items():
        error = np.abs(output - reference).max() / np.abs(reference).max()
        assert output.shape == reference.shape, (name, output.shape, reference.shape)
        assert error < 1e-3, (name, error)


def show(title: str, medians: dict[str, float], base: str) -> None:
    print(title)
    for name, milliseconds in medians.items():
        print(f"  {name:28} {milliseconds:8.1f} ms   {medians[base] / milliseconds:5.2f} x")


class Features(torch.nn.Module):
    """The encoder alone with one tensor of patch tokens as output, like timm's export without the class token."""

    def __init__(self, encoder: ViT) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`(B, 3, H, W)` image to `(B, N, D)` patch tokens."""
        return self.encoder(image)[0].flatten(2).transpose(1, 2)


def run_torch(module: torch.nn.Module) -> Call:
    def call(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(image)).numpy()

    return call


def exported(module: torch.nn.Module, output: str, lengths: tuple[int, int, int], free: tuple[str, ...]) -> bytes:
    """An ONNX file of the module, whose axes (batch, height, width) have these lengths unless they are in `free`."""
    named = dict(zip(("batch", "height", "width"), lengths, strict=True))
    outputs = [TensorSpec(output, "float32", (), axes=("batch",))]
    return to_onnx(module, [IMAGE], outputs, lengths=named, free=free).SerializeToString()


def engines_of(free: bytes, fixed: bytes) -> dict[str, Engine]:
    """Both files in both engines."""
    return {
        "onnx": OnnxEngine(free, declared=[IMAGE]),
        "onnx fixed": OnnxEngine(fixed),
        "openvino": OpenVINOEngine(free, declared=[IMAGE]),
        "openvino fixed": OpenVINOEngine(fixed),
    }


def encoder_calls(folder: Path) -> dict[str, Call]:
    """Our encoder in every engine, and timm's own export in plain ONNX Runtime."""
    import onnxruntime

    timm = import_timm()
    from timm.utils.onnx import onnx_export

    torch.manual_seed(0)
    ours = Features(ViT(model=MODEL)).eval()
    torch.manual_seed(0)
    theirs = timm.create_model(MODEL, num_classes=0, global_pool="").eval()
    onnx_export(theirs, str(folder / "timm.onnx"), batch_size=1, check=False, use_dynamo=True)
    plain = onnxruntime.InferenceSession(str(folder / "timm.onnx"), providers=["CPUExecutionProvider"])
    name = plain.get_inputs()[0].name
    free = exported(ours, "features", (2, 48, 64), ("batch", "height", "width"))
    engines = engines_of(free, exported(ours, "features", (2, 224, 224), ("batch",)))
    calls: dict[str, Call] = {"plain onnx of timm's export": lambda image: plain.run(None, {name: image})[0][:, 1:]}
    calls["torch"] = run_torch(ours)
    for title, engine in engines.items():
        calls[title] = lambda image, engine=engine: engine.run({"image": image})["features"]  # type: ignore[misc]
    return calls


def segmenter() -> torch.nn.Module:
    torch.manual_seed(0)
    head = {"class": "zoo.heads.mask_transformer:MaskTransformer", "arguments": {"depth": 2, "num_heads": 6}}
    return build({"encoder": {"class": "zoo.encoders.vit:ViT", "arguments": {"model": MODEL}}, "head": head}, 19).eval()


def segmenter_calls() -> dict[str, Call]:
    model = segmenter()
    free = exported(model, "logits", (2, 48, 64), ("batch", "height", "width"))
    engines = engines_of(free, exported(model, "logits", (1, 512, 1024), ()))
    calls: dict[str, Call] = {"torch": run_torch(model)}
    for title, engine in engines.items():
        calls[title] = lambda image, engine=engine: engine.run({"image": image})["logits"]  # type: ignore[misc]
    return calls


def on_gpu(batch: int = 256) -> float:
    """Images per second of the encoder in bf16, compiled, with CUDA graphs."""
    model = Features(ViT(model=MODEL)).eval().cuda().to(torch.bfloat16)
    compiled = torch.compile(model, mode="max-autotune")
    image = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode():
        for _ in range(10):
            compiled(image)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(50):
            compiled(image)
        torch.cuda.synchronize()
    return 50 * batch / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the results as JSON")
    options = parser.parse_args()
    blocks, runs = (1, 2) if options.quick else (5, 10)
    rng = np.random.default_rng(0)
    results: dict[str, dict[str, float]] = {}
    base = "plain onnx of timm's export"
    with tempfile.TemporaryDirectory() as folder:
        calls = encoder_calls(Path(folder))
        for batch in (1, 8):
            image = rng.standard_normal((batch, 3, 224, 224), np.float32)
            check(calls, image)
            title = f"ViT-S/16, {batch} x 224 x 224"
            results[title] = interleaved(calls, image, blocks, runs)
            show(f"{title} (x: times as fast as {base})", results[title], base)
    calls = segmenter_calls()
    image = rng.standard_normal((1, 3, 512, 1024), np.float32)
    check(calls, image)
    title = "ViT-S/16 + mask transformer, 1 x 512 x 1024"
    results[title] = interleaved(calls, image, 1 if options.quick else 3, 1 if options.quick else 3)
    show(f"{title} (x: times as fast as torch)", results[title], "torch")
    if torch.cuda.is_available():
        print(f"ViT-S/16 at 224, torch bf16 compiled, CUDA graphs, batch 256: {on_gpu():,.0f} images/s")
        print("  timm's published AMP figures: RTX 3090 4,585, RTX 4090 8,215 (compiled 9,949), RTX 5090 10,973")
    else:
        print("GPU: skipped, no CUDA device")
    about = {"machine": machine(), "packages": packages()}
    print(json.dumps(about))
    if options.out:
        options.out.write_text(json.dumps({**about, "milliseconds": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
