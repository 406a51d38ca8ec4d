"""Benchmarks MinkUNet and its sparse convolutions on this machine.

    python benchmarks/sparse_conv.py model  --scan SCAN.bin [--threads 2] [--dtypes fp32 bf16]
    python benchmarks/sparse_conv.py train  --scan SCAN.bin [--threads 2]
    python benchmarks/sparse_conv.py layer  --scan SCAN.bin
    python benchmarks/sparse_conv.py spconv --scan SCAN.bin
    python benchmarks/sparse_conv.py scale  --scan SCAN.bin [--threads 2] [--plot docs/sparse_growth.png]
    python benchmarks/sparse_conv.py all    --scan SCAN.bin [--threads 2] [--plot docs/sparse_growth.png]

SCAN is a SemanticKITTI or KITTI sweep (`velodyne/000000.bin`). `model` runs MinkUNet34-W32 in evaluation mode from
points to per-point features, including the kernel maps, at 0.15, 0.10 and 0.05 m. Each row runs in its own process and
reports its peak memory. `layer` and `spconv` always use one thread, because spconv's CPU sums are wrong with more.
`scale` goes from 10,000 to 300,000 voxels. `all` runs everything, including `spconv` if it is installed.

Times are also given as multiples of a lower bound: the same number of multiply-adds at the rate of the fastest dense
matrix product with the same threads in the same process (in fp32, or in the row's dtype if that is faster).

With one thread, the CPU time of the process is measured, which equals wall time on an idle machine and is unaffected by
other programs. With more threads, wall time is measured, so the machine must be idle.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.minkunet import VARIANTS, MinkUNet
from zoo.files import atomic_file
from zoo.sparse import KernelMap, SparseConv3d, SparseTensor
from zoo.sparse.layers import ConvBlock
from zoo.sparse.maps import MapContext
from zoo.sparse.reference import convolve_reference, prepare

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STRIDES = [(2**i,) * 3 for i in range(5)]


def seconds(function: Callable[[], object], repeats: int) -> list[float]:
    """Sorted times of `repeats` calls, after one untimed call."""
    return alternate({"only": function}, repeats)["only"]


def alternate(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """As `seconds`, for several functions in turn, so that changes in the machine's speed affect all of them alike."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            times[name].append(clock() - start)
    return {name: sorted(values) for name, values in times.items()}


def show(times: list[float]) -> str:
    return f"{statistics.median(times) * 1e3:8.1f} ms (best {times[0] * 1e3:.1f})"


def read_scan(path: Path) -> Tensor:
    return torch.from_numpy(np.fromfile(path, np.float32).reshape(-1, 4))


def make_model(voxel_size: float, dtype: torch.dtype = torch.float32) -> MinkUNet:
    torch.manual_seed(0)
    return MinkUNet(**{**VARIANTS["minkunet34-w32"], "voxel_size": voxel_size}).to(dtype).eval()


def build_maps(context: MapContext) -> list[KernelMap]:
    """Builds all kernel maps of MinkUNet in a fresh context, including the data that the reference kernel derives."""
    fresh = MapContext(context.keys(), context.batch_size)
    maps = []
    for i, stride in enumerate(STRIDES):
        maps.append(fresh.kernel_map(stride, 3))
        if i < 4:
            strided = fresh.kernel_map(stride, 2, 2)
            maps += [strided, strided.transposed()]
    for kernel_map in maps:
        prepare(kernel_map)
    return maps


def count_flops(model: MinkUNet, voxels: SparseTensor) -> float:
    """Floating point operations of all sparse convolutions, 1x1x1 included: two per multiply-add."""
    total = 0.0

    def count(layer: SparseConv3d, inputs: tuple[SparseTensor]) -> None:
        nonlocal total
        pairs = len(inputs[0]) if layer.is_pointwise else len(layer.kernel_map(inputs[0]).in_index)
        total += 2.0 * pairs * layer.in_channels * layer.out_channels

    hooks = [m.register_forward_pre_hook(count) for m in model.modules() if isinstance(m, SparseConv3d)]
    with torch.enable_grad():  # the fused inference path does not call hooks
        model.requires_grad_(False).forward_voxels(voxels)
    for hook in hooks:
        hook.remove()
    return total


def ceiling(dtype: torch.dtype = torch.float32, repeats: int = 12) -> float:
    """FLOP/s of the fastest of three matrix products: one with a typical layer's shape, and two larger ones."""
    best = 0.0
    for rows, inner, columns in ((4096, 96, 96), (1024, 256, 256), (512, 512, 512)):
        left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
        out = torch.empty(rows, columns, dtype=dtype)
        best = max(best, 2 * rows * inner * columns / seconds(partial(torch.mm, left, right, out=out), repeats)[0])
    return best


def rates(dtype: str) -> dict[str, float]:
    """GFLOP/s of dense matrix products in fp32 and in `dtype`."""
    return {name: ceiling(DTYPES[name]) / 1e9 for name in dict.fromkeys(("fp32", dtype))}


def against_floor(row: dict, key: str, times_work: float = 1.0) -> str:
    """Operations, rate and multiple of the lower bound for the time `row[key]`, for `times_work` forward passes."""
    gflop, taken = row["gflop"] * times_work, statistics.median(row[key])
    known = ", ".join(f"{name} {rate:.0f}" for name, rate in row["rates"].items())
    multiple = taken * max(row["rates"].values()) / gflop
    rate = f"{gflop:.0f} GFLOP at {gflop / taken:.0f} GFLOP/s"
    return f"{rate}, {multiple:.2f} times the lower bound (matrix product: {known})"


def model_row(scan: Path, voxel_size: float, dtype: str, repeats: int) -> dict:
    points = read_scan(scan)
    batch_index = torch.zeros(len(points), dtype=torch.int64)
    model = make_model(voxel_size, DTYPES[dtype])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        total = seconds(lambda: model(points, batch_index), repeats)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        voxels, _ = model.voxelise(points, batch_index)
        voxelise = seconds(lambda: model.voxelise(points, batch_index), repeats)
        maps = seconds(lambda: build_maps(voxels.context), repeats)
        model.forward_voxels(voxels)
        layers = seconds(lambda: model.forward_voxels(voxels), repeats)
    flops = count_flops(model.float(), voxels.with_features(voxels.features.float()))
    return {
        "voxels": len(voxels),
        "total": total,
        "voxelise": voxelise,
        "maps": maps,
        "layers": layers,
        "gflop": flops / 1e9,
        "rates": rates(dtype),
        "peak_mb": peak / 1024,
        "extra_mb": (peak - before) / 1024,
    }


def train_row(scan: Path, voxel_size: float, dtype: str, repeats: int) -> dict:
    points = read_scan(scan)
    batch_index = torch.zeros(len(points), dtype=torch.int64)
    model = make_model(voxel_size).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = model(points, batch_index)[0].float().square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    total = seconds(step, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    voxels, _ = model.voxelise(points, batch_index)
    return {
        "voxels": len(voxels),
        "total": total,
        "gflop": count_flops(model.eval(), voxels) / 1e9,
        "rates": rates(dtype),
        "peak_mb": peak / 1024,
        "extra_mb": (peak - before) / 1024,
    }


def in_own_process(arguments: argparse.Namespace, kind: str, voxel_size: float, dtype: str) -> dict:
    command = [sys.executable, __file__, "row", "--scan", str(arguments.scan), "--threads", str(arguments.threads)]
    command += ["--repeats", str(arguments.repeats), "--kind", kind, "--voxel-size", str(voxel_size), "--dtypes", dtype]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def run_model(arguments: argparse.Namespace) -> None:
    for voxel_size in (0.15, 0.10, 0.05):
        for dtype in arguments.dtypes:
            row = in_own_process(arguments, "model", voxel_size, dtype)
            print(f"{voxel_size:.2f} m, {row['voxels']} voxels, {dtype}, {arguments.threads} threads")
            print(f"  points to features {show(row['total'])}")
            print(f"  of it voxelise     {show(row['voxelise'])}")
            print(f"  of it maps         {show(row['maps'])}")
            print(f"  of it layers       {show(row['layers'])}")
            print(f"  layers: {against_floor(row, 'layers')}")
            print(f"  peak {row['peak_mb']:.0f} MB, {row['extra_mb']:.0f} MB over the loaded model", flush=True)


def run_train(arguments: argparse.Namespace) -> None:
    for dtype in arguments.dtypes:
        row = in_own_process(arguments, "train", 0.15, dtype)
        print(
            f"training step, 0.15 m, {row['voxels']} voxels, {dtype}, {arguments.threads} threads: {show(row['total'])}"
        )
        # The backward pass has two products for each one of the forward pass: with the weight and with the input.
        print(f"  {against_floor(row, 'total', 3)}")
        print(f"  peak {row['peak_mb']:.0f} MB, {row['extra_mb']:.0f} MB over the loaded model", flush=True)


# --- one layer --------------------------------------------------------------------------------------------------------


def naive(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Straightforward version: gather, multiply and scatter-add per kernel cell, with autograd recording every step."""
    out = features.new_zeros(kernel_map.num_out, weight.shape[2])
    pairs = zip(kernel_map.in_index.split(kernel_map.counts), kernel_map.out_index.split(kernel_map.counts), weight)
    for rows, targets, matrix in pairs:
        out = out.index_add(0, targets, features[rows] @ matrix)
    return out


def run_layer(arguments: argparse.Namespace) -> None:
    """Times one 3x3x3 layer on the scan at 0.15 m: the forward pass, and forward and backward together."""
    torch.set_num_threads(1)
    points = read_scan(arguments.scan)
    voxels, _ = make_model(0.15).voxelise(points, torch.zeros(len(points), dtype=torch.int64))
    kernel_map = voxels.context.kernel_map(1, 3)
    try:
        from zoo.sparse.backends import BACKENDS

        methods: dict[str, Callable] = {"spconv": lambda f, w: BACKENDS["spconv"](f, w, kernel_map)}
        import spconv  # noqa: F401
    except ImportError:
        methods = {}
    methods["naive"] = lambda f, w: naive(f, w, kernel_map)
    methods["ours"] = lambda f, w: convolve_reference(f, w, kernel_map)
    print(f"3x3x3, {len(voxels)} voxels, {len(kernel_map.in_index)} pairs, fp32, 1 thread")
    for channels in (32, 64, 96):
        compare_layers(methods, len(voxels), channels, arguments.repeats)


def compare_layers(methods: dict[str, Callable], rows: int, channels: int, repeats: int) -> None:
    features = torch.randn(rows, channels, requires_grad=True)
    weight = (torch.randn(27, channels, channels) * 0.05).requires_grad_()
    grad = torch.randn(rows, channels)
    with torch.no_grad():
        results = {name: method(features, weight) for name, method in methods.items()}
        forward = alternate({n: partial(m, features, weight) for n, m in methods.items()}, repeats)
    both = alternate({n: partial(step, m, features, weight, grad) for n, m in methods.items()}, repeats)
    for name in methods:
        faster = [statistics.median(t[name]) / statistics.median(t["ours"]) for t in (forward, both)]
        error = float((results[name] - results["ours"]).abs().max() / results["ours"].abs().max())
        print(
            f"  {channels:3d} channels {name:7s} forward {show(forward[name])}, with backward {show(both[name])};"
            f" ours is {faster[0]:.2f} and {faster[1]:.2f} times as fast; relative difference {error:.0e}",
            flush=True,
        )


def step(method: Callable, features: Tensor, weight: Tensor, grad: Tensor) -> None:
    features.grad = weight.grad = None
    method(features, weight).backward(grad)


# --- the whole network in spconv --------------------------------------------------------------------------------------


class SpconvMinkUNet:
    """The same network and weights built from spconv's layers, with spconv's own neighbour search, shared by key."""

    def __init__(self, model: MinkUNet) -> None:
        import spconv.pytorch as library

        self.library, self.model = library, model
        self.layers: dict[nn.Module, nn.Module] = {}

    def layer(self, conv: SparseConv3d, level: int) -> nn.Module:
        """spconv's counterpart of one of our layers, with the same weight; cached."""
        if conv not in self.layers:
            options = {"bias": False, "algo": self.library.ConvAlgo.Native}
            shape = conv.in_channels, conv.out_channels, conv.kernel_size[0]
            if conv.transposed:
                made = self.library.SparseInverseConv3d(*shape, indice_key=f"down{level - 1}", **options)
            elif conv.stride[0] == 2:
                made = self.library.SparseConv3d(*shape, stride=2, indice_key=f"down{level}", **options)
            else:
                made = self.library.SubMConv3d(*shape, indice_key=f"same{level}", **options)
            size = conv.kernel_size
            weight = conv.weight.detach().reshape(*size, conv.in_channels, conv.out_channels).permute(4, 0, 1, 2, 3)
            made.weight.data.copy_(weight)
            self.layers[conv] = made.eval()
        return self.layers[conv]

    def block(self, block: ConvBlock, x: Any, level: int, residual: Tensor | None = None) -> Any:
        """Runs a `ConvBlock`."""
        if block.conv.is_pointwise:
            out = x.replace_feature(x.features @ block.conv.weight[0])
        else:
            out = self.layer(block.conv, level)(x)
        norm = block.norm
        features = F.batch_norm(
            out.features,
            norm.bn.running_mean,
            norm.bn.running_var,
            norm.bn.weight,
            norm.bn.bias,
            False,
            0.0,
            norm.bn.eps,
        )
        if residual is not None:
            features += residual
        return out.replace_feature(features.relu_() if block.relu else features)

    def blocks(self, blocks: nn.Sequential, x: Any, level: int) -> Any:
        """Runs the residual blocks of a stage."""
        for unit in blocks:
            residual = x if unit.shortcut is None else self.block(unit.shortcut, x, level)
            x = self.block(unit.second, self.block(unit.first, x, level), level, residual.features)
        return x

    def __call__(self, features: Tensor, indices: Tensor, shape: list[int]) -> Tensor:
        """Voxel features, in the order of `indices`."""
        x = self.library.SparseConvTensor(features, indices, shape, 1)
        for block in self.model.stem:
            x = self.block(block, x, 0)
        skips = []
        for level, stage in enumerate(self.model.encoder):
            skips.append(x)
            x = self.blocks(stage.blocks, self.block(stage.step, x, level), level + 1)
        for level, stage in zip((4, 3, 2, 1), self.model.decoder):
            x = self.block(stage.step, x, level)
            x = self.blocks(
                stage.blocks, x.replace_feature(torch.cat([x.features, skips.pop().features], 1)), level - 1
            )
        return x.features


def run_spconv(arguments: argparse.Namespace) -> None:
    """Times MinkUNet34-W32 from voxels to features, including maps: ours and spconv's, one thread, in turn."""
    torch.set_num_threads(1)
    points = read_scan(arguments.scan)
    model = make_model(0.15)
    other = SpconvMinkUNet(model)
    voxels, _ = model.voxelise(points, torch.zeros(len(points), dtype=torch.int64))
    low = torch.div(voxels.coordinates.amin(0), 16, rounding_mode="floor") * 16  # aligned to the coarsest level
    indices = torch.cat([voxels.batch_index[:, None], voxels.coordinates - low], 1).int()
    shape = ((indices[:, 1:].amax(0) // 16 + 1) * 16).tolist()

    def ours() -> Tensor:
        fresh = SparseTensor(voxels.features, MapContext(voxels.keys, 1))
        return model.forward_voxels(fresh).features

    def theirs() -> Tensor:
        return other(voxels.features, indices, shape)

    with torch.no_grad():
        one, two = ours(), theirs()
        difference = float((one - two).abs().max() / one.abs().max())
        times = alternate({"ours": ours, "spconv": theirs}, arguments.repeats)
    print(
        f"MinkUNet34-W32, {len(voxels)} voxels, fp32, 1 thread each, maps included; results differ by {difference:.0e}"
    )
    for name, values in times.items():
        print(f"  {name:6s} {show(values)}")
    ratio = statistics.median(times["spconv"]) / statistics.median(times["ours"])
    print(f"  ours is {ratio:.2f} times as fast")


# --- growth -----------------------------------------------------------------------------------------------------------


def cloud_of(points: Tensor, voxels: int, voxel_size: float) -> tuple[Tensor, Tensor]:
    """Roughly the requested number of voxels: a sector of the scan, or a batch of several copies of it."""
    whole = len(make_cells(points, voxel_size))
    copies, part = divmod(voxels, whole)
    azimuth = torch.atan2(points[:, 1], points[:, 0])
    sector = points[azimuth < torch.quantile(azimuth, part / whole)] if part else points[:0]
    clouds = [points] * copies + [sector]
    batch_index = torch.repeat_interleave(torch.arange(len(clouds)), torch.tensor([len(c) for c in clouds]))
    return torch.cat(clouds), batch_index


def make_cells(points: Tensor, voxel_size: float) -> Tensor:
    return torch.unique(torch.floor(points[:, :3] / voxel_size).long(), dim=0)


def run_scale(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    points = read_scan(arguments.scan)
    model = make_model(0.15)
    rows = []
    with torch.no_grad():
        for wanted in (10_000, 20_000, 50_000, 100_000, 200_000, 300_000):
            cloud, batch_index = cloud_of(points, wanted, 0.15)
            voxels, _ = model.voxelise(cloud, batch_index)
            maps = seconds(lambda v=voxels: build_maps(v.context), arguments.repeats)
            total = seconds(lambda c=cloud, b=batch_index: model(c, b), arguments.repeats)
            rows.append((len(voxels), statistics.median(total), statistics.median(maps)))
            print(
                f"{len(voxels):7d} voxels: {show(total)}, maps {show(maps)}, {total[0] / len(voxels) * 1e6:.1f} us each"
            )
    if arguments.plot:
        draw(rows, arguments)


def draw(rows: list[tuple[int, float, float]], arguments: argparse.Namespace) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    count, total, maps = zip(*rows)
    axes.loglog(count, total, "o-", label="points to features")
    axes.loglog(count, maps, "s-", label="of it kernel maps")
    axes.loglog(count, [total[0] * n / count[0] for n in count], ":", color="grey", label="in proportion")
    axes.set_xlabel("voxels")
    axes.set_ylabel("seconds")
    axes.set_title(f"MinkUNet34-W32, fp32, {arguments.threads} threads")
    axes.legend()
    with atomic_file(arguments.plot) as handle:
        figure.savefig(handle, dpi=120, format=arguments.plot.suffix.removeprefix(".") or "png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("model", "train", "layer", "spconv", "scale", "all", "row"))
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--plot", type=Path, help="plot of time over voxels, for scale and all")
    parser.add_argument("--kind", choices=("model", "train"), help=argparse.SUPPRESS)
    parser.add_argument("--voxel-size", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what == "row":
        torch.set_num_threads(arguments.threads)
        row = {"model": model_row, "train": train_row}[arguments.kind]
        print(json.dumps(row(arguments.scan, arguments.voxel_size, arguments.dtypes[0], arguments.repeats)))
        return
    print(
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, load"
        f" {os.getloadavg()[0]:.1f} before the start",
        flush=True,
    )
    kinds = {"model": run_model, "train": run_train, "layer": run_layer, "spconv": run_spconv, "scale": run_scale}
    if arguments.what == "all":
        if importlib.util.find_spec("spconv") is None:
            print("spconv is not installed, skipping the comparison with it (pip install spconv==2.3.8)")
            del kinds["spconv"]
        for run in kinds.values():
            run(arguments)
    else:
        kinds[arguments.what](arguments)


if __name__ == "__main__":
    main()
