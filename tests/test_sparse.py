"""Sparse convolution against dense convolution in float64, and everything around it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoo.sparse.reference as reference_module
from zoo.errors import InputError
from zoo.sparse import (
    ConvBlock,
    MapContext,
    NumpyMapContext,
    SparseBatchNorm,
    SparseConv3d,
    SparsePool3d,
    SparseReLU,
    SparseTensor,
    cat,
    coarsen_keys,
    convolve,
    global_pool,
    kernel_offsets,
    pack_keys,
    sparse_tensor,
    unpack_keys,
)
from zoo.sparse.keys import CELL_LIMIT, MAX_BATCH, Triple
from zoo.sparse.maps import pack, unpack
from zoo.sparse.reference import convolve_reference

Size = int | tuple[int, int, int]
"""One number for all axes, or one per axis."""

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Largest difference relative to the largest value, by dtype of the computation."""


def assert_near(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    actual, expected = actual.detach(), expected.detach()
    scale = max(1e-30, float(expected.abs().max())) if expected.numel() else 1.0
    difference = float((actual.double() - expected.double()).abs().max()) if expected.numel() else 0.0
    assert difference <= TOLERANCE[dtype] * scale, f"{difference / scale:.2e} of the largest value"


def cloud(
    points: int = 220, spread: int = 7, samples: int = 2, channels: int = 3, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """Random cells on both sides of 0, some of them twice, in random order, with float64 features."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(-spread, spread, (points, 3), generator=generator)
    batch_index = torch.randint(0, samples, (points,), generator=generator)
    features = torch.randn(points, channels, generator=generator, dtype=torch.float64)
    return features, cells, batch_index


def triple(value: Size) -> Triple:
    return (value,) * 3 if isinstance(value, int) else value


def dense_grid(x: SparseTensor, origin: torch.Tensor, shape: list[int]) -> torch.Tensor:
    grid = x.features.new_zeros(x.batch_size, *shape, x.features.shape[1])
    at = x.coordinates - origin
    grid = grid.index_put((x.batch_index, at[:, 0], at[:, 1], at[:, 2]), x.features)
    return grid.permute(0, 4, 1, 2, 3)


def dense_weight(weight: torch.Tensor, kernel: tuple[int, int, int]) -> torch.Tensor:
    """(out, in, x, y, z) from (K, in, out)."""
    return weight.reshape(*kernel, *weight.shape[1:]).permute(4, 3, 0, 1, 2)


def dense_conv(
    x: SparseTensor, weight: torch.Tensor, kernel: Size, stride: Size, dilation: Size, out: SparseTensor
) -> torch.Tensor:
    """`conv3d` on a grid that is 0 elsewhere, read at the cells of `out`."""
    step = torch.tensor(stride)
    # The grid starts at a multiple of the stride.
    origin = torch.div(x.coordinates.amin(0), step, rounding_mode="floor") * step
    shape = (x.coordinates.amax(0) - origin + 1).tolist()
    sides = [p for k, d in reversed(list(zip(kernel, dilation))) for p in ((k - 1) // 2 * d, k // 2 * d)]
    padded = F.pad(dense_grid(x, origin, shape), sides)
    result = F.conv3d(padded, dense_weight(weight, kernel), stride=stride, dilation=dilation)
    at = out.coordinates - origin // step
    return result[out.batch_index, :, at[:, 0], at[:, 1], at[:, 2]]


def dense_transposed(
    x: SparseTensor, weight: torch.Tensor, kernel: Size, stride: Size, dilation: Size, out: SparseTensor
) -> torch.Tensor:
    """`conv_transpose3d` on a grid that is 0 elsewhere, read at the finer cells of `out`."""
    step = torch.tensor(stride)
    below = torch.tensor([(k - 1) // 2 * d for k, d in zip(kernel, dilation)])
    # One coarse cell per step of the kernel's reach on each side, so that every fine cell that is read exists.
    origin = x.coordinates.amin(0) - torch.tensor([k * d for k, d in zip(kernel, dilation)])
    shape = (x.coordinates.amax(0) - origin + 1 + max(k * d for k, d in zip(kernel, dilation))).tolist()
    filters = dense_weight(weight, kernel).transpose(0, 1)
    result = F.conv_transpose3d(dense_grid(x, origin, shape), filters, stride=stride, dilation=dilation)
    at = out.coordinates - origin * step + below
    return result[out.batch_index, :, at[:, 0], at[:, 1], at[:, 2]]


def gradients(value: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gradients of a sum that weighs every output differently."""
    weights = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).reshape(value.shape).cos().to(value.dtype)
    return torch.autograd.grad((value * weights).sum(), inputs)


CASES = [
    *((k, 1, d) for k in (1, 3, 5) for d in (1, 2, 3)),
    *((k, s, 1) for k in (1, 2, 3, 4, 5) for s in (2, 3)),
    (2, 2, 2),
    (3, 2, 2),
    (4, 2, 3),
    ((1, 3, 5), 1, (1, 2, 1)),
    ((3, 1, 1), 1, 1),
    ((3, 2, 1), (1, 2, 3), 1),
    ((2, 2, 1), (2, 2, 1), 1),
    ((2, 4, 3), (2, 1, 2), (1, 2, 1)),
]


@pytest.mark.parametrize(("kernel", "stride", "dilation"), CASES)
def test_convolution_equals_dense(kernel: Size, stride: Size, dilation: Size) -> None:
    features, cells, batch_index = cloud()
    x, _ = sparse_tensor(features, cells, batch_index)
    x = x.with_features(x.features.requires_grad_())
    layer = SparseConv3d(3, 4, kernel, stride=stride, dilation=dilation, bias=False).double()
    out = layer(x)

    expected_cells = {(int(b), *(int(v) // s for v, s in zip(c, triple(stride)))) for b, c in zip(batch_index, cells)}
    assert [(int(b), *c) for b, c in zip(out.batch_index, out.coordinates.tolist())] == sorted(expected_cells)
    assert out.stride == triple(stride)
    expected = dense_conv(x, layer.weight, triple(kernel), triple(stride), triple(dilation), out)
    assert_near(out.features, expected, torch.float64)
    ours = gradients(out.features, x.features, layer.weight)
    theirs = gradients(expected, x.features, layer.weight)
    for mine, reference in zip(ours, theirs):
        assert_near(mine, reference, torch.float64)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [case for case in CASES if case[1] != 1])
def test_transposed_convolution_equals_dense(kernel: Size, stride: Size, dilation: Size) -> None:
    features, cells, batch_index = cloud(seed=1)
    fine, _ = sparse_tensor(features, cells, batch_index)
    down = SparseConv3d(3, 2, kernel, stride=stride, dilation=dilation).double()
    coarse = down(fine)
    coarse = coarse.with_features(coarse.features.detach().requires_grad_())
    up = SparseConv3d(2, 4, kernel, stride=stride, dilation=dilation, bias=False, transposed=True).double()
    out = up(coarse)

    assert out.stride == (1, 1, 1)
    assert torch.equal(out.keys, fine.keys)
    expected = dense_transposed(coarse, up.weight, triple(kernel), triple(stride), triple(dilation), out)
    assert_near(out.features, expected, torch.float64)
    ours = gradients(out.features, coarse.features, up.weight)
    theirs = gradients(expected, coarse.features, up.weight)
    for mine, reference in zip(ours, theirs):
        assert_near(mine, reference, torch.float64)


@pytest.mark.parametrize("block_rows", [1, 7, 64])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    features, cells, batch_index = cloud(points=150)
    results = []
    for rows in (8192, block_rows):
        monkeypatch.setattr(reference_module, "BLOCK_ROWS", rows)
        x, _ = sparse_tensor(features, cells, batch_index)
        x = x.with_features(x.features.requires_grad_())
        torch.manual_seed(3)
        keep, down = SparseConv3d(3, 4).double(), SparseConv3d(4, 4, 3, stride=2).double()
        up = SparseConv3d(4, 2, 3, stride=2, transposed=True).double()
        out = up(down(keep(x))).features
        results.append((out, *gradients(out, x.features, keep.weight, down.weight, up.weight)))
    for one, other in zip(*results):
        assert_near(other, one, torch.float64)


@pytest.mark.parametrize(("kernel", "stride", "transposed"), [(3, 1, False), (2, 2, False), (3, 2, True)])
def test_gradcheck(kernel: Size, stride: Size, transposed: bool) -> None:
    features, cells, batch_index = cloud(points=24, spread=3, channels=2)
    fine, _ = sparse_tensor(features, cells, batch_index)
    kernel_map = fine.context.kernel_map(1, kernel, stride)
    if transposed:
        kernel_map = kernel_map.transposed()
    rows = torch.randn(kernel_map.num_in, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(kernel**3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r, w: convolve_reference(r, w, kernel_map), (rows, weight))


def test_needed_gradients_only() -> None:
    features, cells, batch_index = cloud()
    x, _ = sparse_tensor(features, cells, batch_index)
    layer = SparseConv3d(3, 4, bias=False).double()
    (alone,) = gradients(layer(x).features, layer.weight)
    inputs = x.features.clone().requires_grad_()
    both = gradients(layer(x.with_features(inputs)).features, inputs, layer.weight)
    frozen = SparseConv3d(3, 4, bias=False).double().requires_grad_(False)
    frozen.load_state_dict(layer.state_dict())
    (features_alone,) = gradients(frozen(x.with_features(inputs)).features, inputs)
    assert torch.equal(alone, both[1])
    assert torch.equal(features_alone, both[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision(dtype: torch.dtype) -> None:
    """Against float64 on the same rounded inputs, so that only the computation is measured."""
    features, cells, batch_index = cloud(points=2000, channels=32)
    x, _ = sparse_tensor(features, cells, batch_index)
    layer = SparseConv3d(32, 16, bias=False).to(dtype)
    inputs = x.features.to(dtype).requires_grad_()
    out = layer(x.with_features(inputs)).features
    assert out.dtype == dtype
    reference = SparseConv3d(32, 16, bias=False).double()
    reference.load_state_dict(layer.state_dict())
    exact_inputs = inputs.detach().double().requires_grad_()
    exact = reference(x.with_features(exact_inputs)).features
    assert_near(out, exact, dtype)
    ours = gradients(out, inputs, layer.weight)
    theirs = gradients(exact, exact_inputs, reference.weight)
    assert ours[0].dtype == ours[1].dtype == dtype
    for mine, expected in zip(ours, theirs):
        assert_near(mine, expected, dtype)


def test_bfloat16_arithmetic_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of processors that multiply bfloat16 themselves, whichever one this is."""
    monkeypatch.setattr(reference_module, "work_dtype", lambda dtype, device: dtype)
    features, cells, batch_index = cloud(points=500, channels=16)
    x, _ = sparse_tensor(features, cells, batch_index)
    inputs = x.features.bfloat16().requires_grad_()
    layer = SparseConv3d(16, 8, bias=False).bfloat16()
    out = layer(x.with_features(inputs)).features
    exact_inputs = inputs.detach().double().requires_grad_()
    reference = SparseConv3d(16, 8, bias=False).double()
    reference.load_state_dict(layer.state_dict())
    exact = reference(x.with_features(exact_inputs)).features
    assert_near(out, exact, torch.bfloat16)
    for mine, expected in zip(gradients(out, inputs, layer.weight), gradients(exact, exact_inputs, reference.weight)):
        assert_near(mine, expected, torch.bfloat16)


def test_training_after_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffers that inference leaves behind must serve a training step."""
    monkeypatch.setattr(reference_module, "_workspace", reference_module._Workspace())
    features, cells, batch_index = cloud(points=300)
    x, _ = sparse_tensor(features, cells, batch_index)
    block = ConvBlock(SparseConv3d(3, 4, bias=False)).double()
    with torch.inference_mode():
        block.eval()(x)
    out = block.train()(x).features
    out.sum().backward()
    assert torch.isfinite(block.conv.weight.grad).all()


def test_autocast_computes_in_lower_precision_and_keeps_master_weights() -> None:
    features, cells, batch_index = cloud(points=300)
    x, _ = sparse_tensor(features.float(), cells, batch_index)
    layer = SparseConv3d(3, 4)
    plain = layer(x).features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x).features
    assert out.dtype == torch.bfloat16
    assert_near(out, plain, torch.bfloat16)
    out.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_permuting_the_points_permutes_the_result() -> None:
    features, cells, batch_index = cloud(points=400)
    net = nn.Sequential(
        ConvBlock(SparseConv3d(3, 8, bias=False)),
        ConvBlock(SparseConv3d(8, 8, 2, stride=2, bias=False)),
        ConvBlock(SparseConv3d(8, 4, 2, stride=2, bias=False, transposed=True)),
    ).double()
    x, inverse = sparse_tensor(features, cells, batch_index)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(5))
    y, moved = sparse_tensor(features[order], cells[order], batch_index[order])
    assert_near(net(y).features[moved], net(x).features[inverse][order], torch.float64)


def test_samples_of_a_batch_do_not_mix() -> None:
    features, cells, batch_index = cloud(points=300, samples=3)
    net = nn.Sequential(SparseConv3d(3, 5), SparseConv3d(5, 5, 3, stride=2), SparseReLU(), SparseConv3d(5, 2)).double()
    x, _ = sparse_tensor(features, cells, batch_index)
    whole = net(x)
    for sample in range(3):
        mine = batch_index == sample
        alone, _ = sparse_tensor(features[mine], cells[mine])
        assert_near(whole.features[whole.batch_index == sample], net(alone).features, torch.float64)


# --- maps -------------------------------------------------------------------------------------------------------------


def pairs_by_hand(
    coordinates: torch.Tensor, batch_index: torch.Tensor, kernel: Triple, stride: Triple, dilation: Triple
) -> list[Triple]:
    """Every (kernel cell, output, input) with input = output * stride + offset, by dictionary."""
    row = {(int(b), *c): i for i, (b, c) in enumerate(zip(batch_index, coordinates.tolist()))}
    outputs = sorted({(b, *(v // s for v, s in zip(c, stride))) for b, *c in row})
    found = []
    for k, offset in enumerate(kernel_offsets(kernel, dilation)):
        for o, (b, *c) in enumerate(outputs):
            source = (b, *(v * s + d for v, s, d in zip(c, stride, offset)))
            if source in row:
                found.append((k, o, row[source]))
    return found


@pytest.mark.parametrize(("kernel", "stride", "dilation"), CASES)
def test_maps_equal_pairs_by_hand_and_the_numpy_twin(kernel: Size, stride: Size, dilation: Size) -> None:
    _, cells, batch_index = cloud(points=120, seed=2)
    keys = torch.unique(pack(cells, batch_index))
    context, twin = MapContext(keys, 2), NumpyMapContext(np.unique(pack_keys(cells.numpy(), batch_index.numpy())))
    ours, theirs = context.kernel_map(1, kernel, stride, dilation), twin.kernel_map(1, kernel, stride, dilation)
    cell = torch.repeat_interleave(torch.arange(len(ours.counts)), torch.tensor(ours.counts))
    pairs = list(zip(cell.tolist(), ours.out_index.tolist(), ours.in_index.tolist()))
    coordinates, samples = unpack(keys)
    assert pairs == pairs_by_hand(coordinates, samples, triple(kernel), triple(stride), triple(dilation))
    assert np.array_equal(ours.in_index.numpy(), theirs.in_index)
    assert np.array_equal(ours.out_index.numpy(), theirs.out_index)
    assert ours.counts == theirs.counts
    assert (ours.num_in, ours.num_out) == (theirs.num_in, theirs.num_out)


def test_kernel_offsets_are_those_of_dense_padding() -> None:
    # z fastest; even sizes reach one cell further up: 2 reads 0 and 1, 4 reads -1 to 2.
    assert kernel_offsets((1, 1, 2), (1, 1, 1)) == [(0, 0, 0), (0, 0, 1)]
    assert kernel_offsets((1, 2, 3), (1, 1, 2)) == [(0, 0, -2), (0, 0, 0), (0, 0, 2), (0, 1, -2), (0, 1, 0), (0, 1, 2)]
    assert [o[0] for o in kernel_offsets((4, 1, 1), (3, 1, 1))] == [-3, 0, 3, 6]


def test_maps_are_shared_and_transposed_layers_reuse_their_twin() -> None:
    features, cells, batch_index = cloud()
    x, _ = sparse_tensor(features, cells, batch_index)
    first, second = SparseConv3d(3, 3).double(), SparseConv3d(3, 3).double()
    assert first.kernel_map(x) is second.kernel_map(first(x))
    down, up = SparseConv3d(3, 3, 2, stride=2).double(), SparseConv3d(3, 3, 2, stride=2, transposed=True).double()
    coarse = down(x)
    assert up.kernel_map(coarse) is down.kernel_map(x).transposed()
    assert x.context.kernel_map(1, 3) is not x.context.kernel_map(1, 3, dilation=2)
    assert SparseConv3d(3, 3).kernel_map(coarse) is not first.kernel_map(x)
    # Two strides of 2 and one of 4 lead to the same cells: one coordinate set per stride.
    four, twice = SparseConv3d(3, 3, 4, stride=4).double()(x), down(coarse)
    assert four.keys is twice.keys
    assert torch.equal(four.rows_at((1, 1, 1)), twice.rows_at((2, 2, 2))[coarse.rows_at((1, 1, 1))])


@pytest.mark.parametrize("stride", [(2, 2, 2), (3, 2, 1), (5, 5, 5)])
def test_coarsening_floors_negative_cells(stride: Size) -> None:
    cells = torch.tensor(list(itertools.product((-CELL_LIMIT, -5, -3, -1, 0, 1, 4, CELL_LIMIT - 1), repeat=3)))
    keys = torch.unique(pack(cells, torch.full((len(cells),), MAX_BATCH)))
    context = MapContext(keys, MAX_BATCH + 1)
    parents = context.parents((1, 1, 1), stride)
    coarse, samples = unpack(context.keys(stride)[parents])
    assert coarse.tolist() == [[v // s for v, s in zip(c, stride)] for c in unpack(keys)[0].tolist()]
    assert samples.eq(MAX_BATCH).all()
    twin_keys, twin_parents = coarsen_keys(keys.numpy(), stride)
    assert np.array_equal(twin_keys, context.keys(stride).numpy())
    assert np.array_equal(twin_parents, parents.numpy())


def test_cells_at_the_ends_of_the_range_have_no_false_neighbours() -> None:
    # Neighbours in the packed integers, not in space: the end of one column and the start of the next.
    low, high = -CELL_LIMIT, CELL_LIMIT - 1
    cells = torch.tensor(
        [[0, 0, high], [0, 1, low], [0, high, low], [1, low, low], [high, high, high], [low, low, low]]
    )
    batch_index = torch.tensor([0, 0, 0, 0, 0, 1])
    context = MapContext(torch.unique(pack(cells, batch_index)), 2)
    assert context.kernel_map(1, 5, dilation=100).counts == (0,) * 62 + (6,) + (0,) * 62
    assert sum(context.kernel_map(1, 5, 3).counts) == sum(
        NumpyMapContext(context.keys().numpy()).kernel_map(1, 5, 3).counts
    )


def test_key_round_trip() -> None:
    cells = np.array([[-CELL_LIMIT, 0, CELL_LIMIT - 1], [5, -7, 11]])
    batch_index = np.array([MAX_BATCH, 0])
    keys = pack_keys(cells, batch_index)
    assert keys.tolist() == pack(torch.from_numpy(cells), torch.from_numpy(batch_index)).tolist()
    # By hand, the second: 5 + 32768 = 32773, -7 + 32768 = 32761, 11 + 32768 = 32779.
    assert keys[1] == (32773 << 32) + (32761 << 16) + 32779
    assert np.array_equal(unpack_keys(keys)[0], cells)
    assert np.array_equal(unpack_keys(keys)[1], batch_index)


def test_numpy_maps_import_without_torch() -> None:
    code = "import sys, zoo.sparse, zoo.geometry.voxels; zoo.sparse.NumpyMapContext; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


# --- tensors, layers --------------------------------------------------------------------------------------------------


def test_duplicates_are_reduced() -> None:
    cells = torch.tensor([[1, 1, 1], [0, 0, -1], [1, 1, 1], [1, 1, 1]])
    features = torch.tensor([[3.0], [10.0], [1.0], [5.0]])
    for reduce, expected in {"first": 3.0, "mean": 3.0, "sum": 9.0, "max": 5.0}.items():
        x, inverse = sparse_tensor(features, cells, reduce=reduce)
        assert x.coordinates.tolist() == [[0, 0, -1], [1, 1, 1]]
        assert inverse.tolist() == [1, 0, 1, 1]
        assert x.features.tolist() == [[10.0], [expected]], reduce


def test_mean_of_many_low_precision_rows_is_summed_in_float32() -> None:
    # 1000 ones summed in bfloat16 would stop at 256: from there on, adding 1 rounds back.
    x, _ = sparse_tensor(
        torch.ones(1000, 1, dtype=torch.bfloat16), torch.zeros(1000, 3, dtype=torch.int64), reduce="sum"
    )
    assert x.features.item() == 1000


@pytest.mark.parametrize("points", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_empty_cloud_and_one_point(points: Any, training: bool) -> None:
    net = nn.Sequential(
        ConvBlock(SparseConv3d(2, 4, bias=False)),
        ConvBlock(SparseConv3d(4, 4, 2, stride=2, bias=False)),
        SparsePool3d(3, stride=2),
        SparseConv3d(4, 3),
    ).train(training)
    x, inverse = sparse_tensor(torch.ones(points, 2), torch.full((points, 3), -9), batch_size=2)
    out = net(x)
    assert out.features.shape == (points, 3)
    assert inverse.shape == (points,)
    out.features.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert global_pool(out).shape == (2, 3)
    assert global_pool(out)[1].tolist() == [0, 0, 0]


def test_batch_of_very_different_clouds() -> None:
    sizes = (4000, 1, 0, 30)
    torch.manual_seed(0)
    cells = torch.cat([torch.randint(-20, 20, (n, 3)) for n in sizes])
    batch_index = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    features = torch.randn(sum(sizes), 4, dtype=torch.float64)
    layer = SparseConv3d(4, 4).double()
    x, inverse = sparse_tensor(features, cells, batch_index)
    pooled = global_pool(layer(x))
    assert pooled.shape == (4, 4)
    assert pooled[2].tolist() == [0, 0, 0, 0]
    # The lone point meets only the middle cell of the kernel.
    assert_near(pooled[1], features[4000] @ layer.weight[13] + layer.bias, torch.float64)
    assert len(inverse) == sum(sizes)


def test_pooling_equals_dense() -> None:
    features, cells, batch_index = cloud(points=300)
    x, _ = sparse_tensor(features, cells, batch_index)
    x = x.with_features(x.features.requires_grad_())
    ones = torch.eye(3, dtype=torch.float64).expand(27, 3, 3)
    for kernel, stride in ((3, 1), (3, 2), (2, 2)):
        weight = ones[: kernel**3]
        mean = SparsePool3d(kernel, stride=stride, mode="mean")(x)
        occupied = x.with_features(torch.ones_like(x.features))
        total = dense_conv(x, weight, triple(kernel), triple(stride), (1, 1, 1), mean)
        count = dense_conv(occupied, weight, triple(kernel), triple(stride), (1, 1, 1), mean)
        assert_near(mean.features, total / count, torch.float64)
        largest = SparsePool3d(kernel, stride=stride, mode="max")(x)
        # The largest of a window by dense pooling, unoccupied cells far below everything.
        origin = torch.tensor([-16, -16, -16])
        shifted = x.with_features(x.features + 100)
        grid = F.pad(dense_grid(shifted, origin, [32, 32, 32]), ((kernel - 1) // 2, 4) * 3)
        dense = F.max_pool3d(grid, kernel, stride)
        at = largest.coordinates - origin // stride
        assert_near(largest.features, dense[largest.batch_index, :, at[:, 0], at[:, 1], at[:, 2]] - 100, torch.float32)
        (gradient,) = torch.autograd.grad(largest.features.sum(), x.features)
        assert gradient.sum() == largest.features.numel()


def test_global_pool() -> None:
    features = torch.tensor([[1.0, 4.0], [3.0, 0.0], [5.0, -1.0]])
    x, _ = sparse_tensor(features, torch.arange(9).reshape(3, 3), torch.tensor([0, 0, 2]), batch_size=4)
    assert global_pool(x, "mean").tolist() == [[2, 2], [0, 0], [5, -1], [0, 0]]
    assert global_pool(x, "max").tolist() == [[3, 4], [0, 0], [5, -1], [0, 0]]
    assert global_pool(x, "sum").tolist() == [[4, 4], [0, 0], [5, -1], [0, 0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kernel", [1, 3])
def test_fused_evaluation_equals_the_separate_layers(kernel: Size, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    features, cells, batch_index = cloud(points=300)
    x, _ = sparse_tensor(features, cells, batch_index)
    block = ConvBlock(SparseConv3d(3, 6, kernel, bias=False)).double()
    for _ in range(3):
        block(x)  # running statistics away from 0 and 1
    block.eval()
    residual = x.with_features(torch.randn(len(x), 6, dtype=torch.float64))
    expected = F.relu(block.norm(block.conv(x)).features + residual.features)
    low = block.to(dtype)
    with torch.no_grad():
        fused = low(x.with_features(x.features.to(dtype)), residual.with_features(residual.features.to(dtype)))
        inputs = x.features.clone()
        plain = low(x.with_features(x.features.to(dtype)))
    assert fused.features.dtype == dtype
    assert_near(fused.features, expected, dtype)
    assert plain.features.min() == 0
    assert torch.equal(x.features, inputs), "the input must not be changed in place"


def test_batch_norm_uses_all_cells_of_the_batch() -> None:
    features, cells, batch_index = cloud(points=200)
    x, _ = sparse_tensor(features, cells, batch_index)
    out = SparseBatchNorm(3).double()(x).features
    assert out.mean(0).abs().max() < 1e-12
    assert (out.var(0, unbiased=False) - 1).abs().max() < 1e-4


def test_cat_and_sum() -> None:
    features, cells, batch_index = cloud()
    x, _ = sparse_tensor(features, cells, batch_index)
    both = cat([x, x + x])
    assert torch.equal(both.features, torch.cat([x.features, 2 * x.features], 1))


def test_large_cloud() -> None:
    """300,000 voxels: a plane, whose inner cells have 9 neighbours; the result is known without a second method."""
    side = 548
    grid = torch.cartesian_prod(torch.arange(side), torch.arange(side), torch.tensor([-3]))
    x, _ = sparse_tensor(torch.ones(side * side, 1), grid)
    weight = torch.ones(27, 1, 1)
    out = convolve(x, weight, x.context.kernel_map(1, 3)).features.reshape(side, side)
    assert len(x) > 300_000
    assert out[1:-1, 1:-1].eq(9).all()
    assert out[0, 1:-1].eq(6).all()
    assert out[0, 0] == out[-1, -1] == 4


# --- bad input --------------------------------------------------------------------------------------------------------


def small() -> SparseTensor:
    return sparse_tensor(torch.ones(3, 2), torch.arange(9).reshape(3, 3))[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sparse_tensor(torch.ones(2, 1), torch.tensor([[0, 0, 0], [0, 40000, 0]])),
            "cell y = 40000 does not fit",
        ),
        (lambda: sparse_tensor(torch.ones(1, 1), torch.tensor([[0, 0, -32513]])), "cell z = -32513 does not fit"),
        (lambda: pack_keys(np.array([[40000, 0, 0]])), "cell x = 40000 does not fit"),
        (lambda: sparse_tensor(torch.ones(1, 1), torch.zeros(1, 3).long(), torch.tensor([-1])), "batch index -1"),
        (lambda: sparse_tensor(torch.ones(1, 1), torch.zeros(1, 3).long(), torch.tensor([32768])), "batch index 32768"),
        (
            lambda: sparse_tensor(torch.tensor([[1.0], [float("nan")]]), torch.zeros(2, 3).long()),
            "row 1 are not finite",
        ),
        (lambda: sparse_tensor(torch.ones(2, 1), torch.zeros(3, 3).long()), "2 rows of features do not match 3"),
        (lambda: sparse_tensor(torch.ones(2, 1), torch.zeros(2, 3)), "coordinates are torch.float32, not integers"),
        (lambda: pack_keys(np.zeros((2, 3))), "coordinates are float64, not integers"),
        (lambda: sparse_tensor(torch.ones(2, 1), torch.zeros(2, 4).long()), r"not \(N, 3\) cells"),
        (lambda: pack_keys(np.zeros((2, 2), int)), r"not \(N, 3\) cells"),
        (
            lambda: sparse_tensor(torch.ones(2, 1), torch.zeros(2, 3).long(), torch.zeros(1).long()),
            "batch_index of shape",
        ),
        (lambda: pack_keys(np.zeros((2, 3), int), np.zeros(1, int)), "batch_index of shape"),
        (lambda: sparse_tensor(torch.ones(2).long(), torch.zeros(2, 3).long()), r"not \(N, C\) floats"),
        (
            lambda: sparse_tensor(torch.ones(1, 1), torch.zeros(1, 3).long(), torch.tensor([2]), batch_size=2),
            "too small",
        ),
        (lambda: sparse_tensor(torch.ones(1, 1), torch.zeros(1, 3).long(), reduce="meen"), "closest: mean"),
        (lambda: SparseConv3d(1, 1, 2), "even kernel has no centre"),
        (lambda: small().context.kernel_map(1, 4), "even kernel has no centre"),
        (lambda: NumpyMapContext(np.zeros(0, np.int64)).kernel_map(1, 2), "even kernel has no centre"),
        (lambda: SparseConv3d(1, 1, 3, dilation=256), "reaches 256 cells"),
        (lambda: SparseConv3d(1, 1, 0), "kernel size 0 is not one integer or three"),
        (lambda: SparseConv3d(1, 1, (3, 3)), "kernel size"),
        (lambda: SparseConv3d(1, 1, 3.0), "kernel size 3.0 is not one integer or three"),
        (lambda: SparseConv3d(1, 1, None), "kernel size None is not one integer or three"),
        (lambda: SparseConv3d(1, 1, "333"), "kernel size '333' is not one integer or three"),
        (lambda: SparseConv3d(1, 1, (3, 3, float("nan"))), "is not one integer or three"),
        (lambda: SparseConv3d(0, 4), "in_channels 0 is not a positive integer"),
        (lambda: SparseConv3d(4, -1), "out_channels -1 is not a positive integer"),
        (lambda: SparsePool3d(2, stride=257), "stride 257 is larger than 256"),
        (lambda: NumpyMapContext(np.zeros(0, np.int64)).kernel_map(1, 3, 300), "stride 300 is larger than 256"),
        (lambda: MapContext(torch.tensor([5, 3]), 1), "not int64 in rising order"),
        (lambda: MapContext(torch.tensor([3, 3]), 1), "not int64 in rising order"),
        (lambda: MapContext(torch.tensor([3.0, 5.0]), 1), "float32 are not int64"),
        (lambda: NumpyMapContext(np.array([5, 3])), "not int64 in rising order"),
        (lambda: MapContext(pack(torch.zeros(1, 3).long(), torch.tensor([4])), 4), "batch size 4 is too small"),
        (lambda: sparse_tensor(torch.ones(0, 1), torch.zeros(0, 3).long(), batch_size=-1), "batch size -1"),
        (lambda: (lambda x: x + x.with_features(torch.ones(3, 1)))(small()), "2 and 1 channels do not match"),
        (lambda: cat([]), "no tensors were given"),
        (lambda: SparseConv3d(3, 1)(small()), "takes 3 channels, but the features have 2"),
        (lambda: SparseConv3d(3, 1, 1)(small()), "takes 3 channels, but the features have 2"),
        (lambda: SparseConv3d(2, 1, 2, stride=2, transposed=True)(small()), "no strided twin"),
        (lambda: small() + small(), "belong to different inputs"),
        (lambda: cat([small(), small()]), "belong to different inputs"),
        (lambda: (lambda x: cat([x, SparsePool3d()(x)]))(small()), "stride"),
        (lambda: small().with_features(torch.ones(4, 2)), "do not match the 3 cells"),
        (lambda: SparseTensor(torch.ones(1, 1), small().context, (2, 2, 2)), "no voxels at stride"),
        (
            lambda: convolve(small(), torch.ones(27, 2, 2), small().context.kernel_map(1, 3)),
            "belongs to another input's voxels",
        ),
        (
            lambda: (lambda x: convolve(SparsePool3d()(x), torch.ones(27, 2, 2), x.context.kernel_map(1, 3)))(small()),
            "starts at stride",
        ),
        (
            lambda: (lambda x: convolve(x, torch.ones(8, 2, 2), x.context.kernel_map(1, 3)))(small()),
            "does not fit a kernel of 27 cells",
        ),
        (lambda: ConvBlock(SparseConv3d(1, 1)), "bias=False"),
        (lambda: ConvBlock(nn.Linear(1, 1)), "conv is a Linear, not a SparseConv3d"),
        (lambda: ConvBlock(SparseConv3d(1, 1, bias=False), momentum=7), "momentum 7 is not a number from 0 to 1"),
        (lambda: ConvBlock(SparseConv3d(1, 1, bias=False), momentum=True), "momentum True is not a number"),
        (lambda: ConvBlock(SparseConv3d(1, 1, bias=False), momentum=float("nan")), "momentum nan is not a number"),
        (lambda: ConvBlock(SparseConv3d(1, 1, bias=False), relu=1), "relu 1 is neither True nor False"),
        (lambda: SparseBatchNorm(4, eps=-1.0), "eps -1.0 is not a number between 0 and 1"),
        (lambda: SparseBatchNorm(0), "channels 0 is not a positive integer"),
        (lambda: SparseBatchNorm(3)(small()), "the norm takes 3 channels, but the features have 2"),
        (lambda: SparseConv3d(True, 4), "in_channels True is not a positive integer"),
        (lambda: SparseConv3d(4, 4, bias="no"), "bias 'no' is neither True nor False"),
        (lambda: SparseConv3d(4, 4, transposed=1), "transposed 1 is neither True nor False"),
        (lambda: SparseConv3d(4, 4, backend=["spconv"]), "unknown backend"),
        (lambda: sparse_tensor(np.ones((3, 1)), torch.zeros(3, 3).long()), "features is a numpy.ndarray, not a torch"),
        (lambda: sparse_tensor(torch.ones(3, 1), np.zeros((3, 3), int)), "coordinates is a numpy.ndarray, not a torch"),
        (lambda: sparse_tensor([[1.0]], torch.zeros(1, 3).long()), "features is a list, not a torch tensor"),
        (
            lambda: sparse_tensor(torch.ones(3, 1), torch.zeros(3, 3).long(), np.zeros(3, int)),
            r"batch_index is a numpy.ndarray, not a torch tensor; use torch.as_tensor\(batch_index\)",
        ),
        (
            lambda: sparse_tensor(torch.ones(1, 1), torch.zeros(1, 3).long(), batch_size=True),
            "batch size True is not an",
        ),
        (lambda: sparse_tensor(torch.ones(1, 1), torch.zeros(1, 3).long(), batch_size=1.5), "batch size 1.5 is not an"),
        (lambda: sparse_tensor(torch.ones(1, 1), torch.zeros(1, 3).long(), reduce=None), "unknown reduction None"),
        (lambda: MapContext(np.zeros(3, np.int64), 1), "keys is a numpy.ndarray, not a torch tensor"),
        (lambda: small().with_features(np.ones((3, 2))), "features is a numpy.ndarray, not a torch tensor"),
        (lambda: SparseConv3d(2, 1)(torch.ones(3, 2)), r"SparseConv3d takes a SparseTensor, not a dense .* \(3, 2\)"),
        (lambda: SparseConv3d(2, 1, 1)(torch.ones(3, 2)), "SparseConv3d takes a SparseTensor"),
        (lambda: SparseBatchNorm(2)(torch.ones(3, 2)), "SparseBatchNorm takes a SparseTensor"),
        (lambda: SparseReLU()(torch.ones(3, 2)), "SparseReLU takes a SparseTensor"),
        (lambda: SparsePool3d()(torch.ones(3, 2)), "SparsePool3d takes a SparseTensor"),
        (lambda: ConvBlock(SparseConv3d(2, 1, bias=False))(torch.ones(3, 2)), "ConvBlock takes a SparseTensor"),
        (
            lambda: ConvBlock(SparseConv3d(2, 2, bias=False))(small(), torch.ones(3, 2)),
            "ConvBlock takes a SparseTensor",
        ),
        (lambda: global_pool(np.ones((3, 2))), "global_pool takes a SparseTensor, not a ndarray"),
        (lambda: cat([small(), torch.ones(3, 2)]), "cat takes a SparseTensor"),
        (lambda: small() + torch.ones(3, 2), "sum takes a SparseTensor"),
        (
            lambda: convolve(torch.ones(3, 2), torch.ones(27, 2, 2), small().context.kernel_map(1, 3)),
            "convolve takes a",
        ),
        (lambda: SparsePool3d(mode="median"), "unknown pooling"),
        (lambda: global_pool(small(), "median"), "unknown pooling"),
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("fused", [True, False])
def test_block_refuses_a_residual_that_does_not_fit(kernel: Size, fused: bool) -> None:
    block = ConvBlock(SparseConv3d(2, 2, kernel, bias=False)).eval()
    x = small()
    longer, _ = sparse_tensor(torch.ones(4, 2), torch.arange(12).reshape(4, 3))
    with torch.set_grad_enabled(not fused):
        for other in (small(), longer):
            with pytest.raises(InputError, match="different inputs"):
                block(x, other)
        with pytest.raises(InputError, match="cells at stride"):
            block(x, SparsePool3d()(x))
        with pytest.raises(InputError, match="2 and 1 channels do not match"):
            block(x, x.with_features(torch.ones(3, 1)))


def test_a_norm_in_training_mode_is_not_fused() -> None:
    """Statistics that are taken anew without gradients: only the norms are in training mode."""
    features, cells, batch_index = cloud()
    x, _ = sparse_tensor(features, cells, batch_index)
    block = ConvBlock(SparseConv3d(3, 4, bias=False), relu=False).double().eval()
    block.norm.train()
    with torch.no_grad():
        out = block(x).features
        sums = block.conv(x).features
    assert out.mean(0).abs().max() < 1e-12
    # Momentum 0.1 on statistics that start at 0.
    assert_near(block.norm.bn.running_mean, 0.1 * sums.mean(0), torch.float64)


def block_with_statistics(kernel: int = 3) -> ConvBlock:
    torch.manual_seed(4)
    block = ConvBlock(SparseConv3d(3, 4, kernel, bias=False)).double()
    with torch.no_grad():
        block.norm.bn.running_mean.normal_()
        block.norm.bn.running_var.uniform_(0.5, 2)
        block.norm.bn.weight.normal_()
        block.norm.bn.bias.normal_()
    return block


@pytest.mark.parametrize("kernel", [1, 3])
def test_hooks_fire_in_evaluation(kernel: Size) -> None:
    """A fused block calls neither its convolution nor its norm; hooks on them must still see their values."""
    x, _ = sparse_tensor(*cloud())
    block = block_with_statistics(kernel).eval()
    seen = {}
    with torch.no_grad():
        fused = block(x).features
        places = {"conv": block.conv, "norm": block.norm, "bn": block.norm.bn}
        for name, module in places.items():
            handle = module.register_forward_hook(lambda module, args, out, name=name: seen.update({name: out}))
            out = block(x).features
            handle.remove()
            assert list(seen) == [name]
            assert_near(out, fused, torch.float64)
            if name == "conv":
                assert_near(seen["conv"].features, block.conv(x).features, torch.float64)
            seen.clear()
        handle = block.conv.register_forward_pre_hook(
            lambda module, args: (args[0].with_features(args[0].features * 2),)
        )
        doubled = block(x).features
        handle.remove()
        expected = block(x.with_features(x.features * 2)).features
        assert_near(doubled, expected, torch.float64)
        handle = torch.nn.modules.module.register_module_forward_hook(lambda m, args, out: seen.update({type(m): 1}))
        block(x)
        handle.remove()
    assert {SparseConv3d, SparseBatchNorm, nn.BatchNorm1d, ConvBlock} <= set(seen)


def test_synchronised_batch_norm() -> None:
    """torch replaces each norm by one that knows nothing of sparse tensors; in one process nothing may change."""
    x, _ = sparse_tensor(*cloud())
    block = block_with_statistics()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(block_with_statistics())
    assert isinstance(converted.norm.bn, nn.SyncBatchNorm)
    assert list(converted.state_dict()) == list(block.state_dict())
    for training in (True, False):
        with torch.set_grad_enabled(training):
            expected = block.train(training)(x).features
            assert_near(converted.train(training)(x).features, expected, torch.float64)
    assert_near(converted.norm.bn.running_var, block.norm.bn.running_var, torch.float64)
    for points in (0, 1):
        few, _ = sparse_tensor(torch.ones(points, 3, dtype=torch.float64), torch.zeros(points, 3).long())
        assert len(converted.train()(few)) == points


@pytest.mark.parametrize("frozen", ["module", "rows"])
def test_a_norm_is_frozen_by_its_mode(frozen: bool) -> None:
    """Either through our layer or through the torch norm in it, as code that looks for batch norms does."""
    x, _ = sparse_tensor(*cloud())
    block = block_with_statistics().train()
    (block.norm if frozen == "module" else block.norm.bn).eval()
    before = block.norm.bn.running_mean.clone()
    block(x)
    assert torch.equal(block.norm.bn.running_mean, before)


@pytest.mark.parametrize("kernel", [1, 3])
def test_fused_block_takes_features_of_another_precision(kernel: Size) -> None:
    features, cells, batch_index = cloud()
    x, _ = sparse_tensor(features, cells, batch_index)
    block = ConvBlock(SparseConv3d(3, 4, kernel, bias=False)).eval()
    with torch.no_grad():
        out = block(x).features
        expected = block(x.with_features(x.features.float())).features
    assert out.dtype == torch.float64
    assert_near(out, expected, torch.float32)


def test_strides_as_large_as_allowed_have_no_false_neighbours() -> None:
    """The lowest cell of a coarse one may lie below the key's range: it must not meet a cell of the next column."""
    low, high = -CELL_LIMIT, CELL_LIMIT - 1
    cells = torch.tensor([[0, 0, low], [0, -1, high], [0, -1, high - 1], [0, low, 5], [-1, high, 5], [low, low, low]])
    keys = torch.unique(pack(cells, torch.zeros(6).long()))
    for kernel, dilation in ((3, 1), (5, 127), (2, 255)):
        ours = MapContext(keys, 1).kernel_map(1, kernel, 256, dilation)
        cell = torch.repeat_interleave(torch.arange(len(ours.counts)), torch.tensor(ours.counts))
        pairs = list(zip(cell.tolist(), ours.out_index.tolist(), ours.in_index.tolist()))
        coordinates, samples = unpack(keys)
        assert pairs == pairs_by_hand(coordinates, samples, triple(kernel), triple(256), triple(dilation))


def test_sizes_may_be_numpy_integers() -> None:
    assert SparseConv3d(1, 1, np.int64(3), stride=np.int32(2)).kernel_size == (3, 3, 3)
