"""MinkUNet: its forms, shapes and parameters, points in any order, gradients, upstream names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.encoders.minkunet import VARIANTS, MinkUNet, rename_mmdet3d, rename_slidr
from zoo.errors import InputError
from zoo.sparse import available_backends, kernel_offsets, sparse_tensor

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
SMALL = {"layers": (1,) * 8, "width": 8, "voxel_size": 0.5}


def sweep(points: int = 500, samples: int = 2, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.randn(points, 3, generator=generator) * torch.tensor([8.0, 8.0, 1.0])
    intensity = torch.rand(points, 1, generator=generator)
    return torch.cat([xyz, intensity], 1), torch.randint(0, samples, (points,), generator=generator)


@pytest.fixture(scope="module")
def small() -> MinkUNet:
    torch.manual_seed(0)
    return MinkUNet(**SMALL)


def parameters_by_hand(layers, width, inputs, stem):
    """The sum over the layers of the papers' tables; a batch norm has two values per channel."""
    planes = [p * width // 32 for p in (32, 64, 128, 256, 256, 128, 96, 96)]

    def conv(cells, a, b):
        return cells * a * b + 2 * b

    total = conv(27, inputs, width) + (stem - 1) * conv(27, width, width)
    skips = [width, *planes[:3]]
    before = width
    for i, (plane, count) in enumerate(zip(planes, layers)):
        middle = before if i < 4 else plane
        total += conv(8, before, middle)
        entering = middle + (skips[7 - i] if i >= 4 else 0)
        for _ in range(count):
            total += conv(27, entering, plane) + conv(27, plane, plane)
            total += conv(1, entering, plane) if entering != plane else 0
            entering = plane
        before = plane
    return total


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    arguments = VARIANTS[name]
    model = MinkUNet(**arguments)
    count = sum(p.numel() for p in model.parameters())
    inputs, stem = len(arguments.get("in_columns", (0, 1, 2, 3))), arguments.get("stem_convolutions", 2)
    assert count == parameters_by_hand(arguments["layers"], arguments["width"], inputs, stem)
    assert model.out_channels == (96 * arguments["width"] // 32,)
    assert model.strides == (1,)
    if name.startswith("minkunet34"):
        assert round(count / 1e6) == 38  # as Golombiewski (2024) states


def test_features_per_point(small):
    points, batch_index = sweep()
    small.train()
    out = small(points, batch_index)
    assert out.shape == (500, 24)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in small.parameters())
    small.zero_grad()


def test_points_of_a_voxel_share_its_feature(small):
    points, batch_index = sweep()
    small.eval()
    with torch.no_grad():
        voxels, point_to_voxel = small.voxelise(points, batch_index)
        features = small.forward_voxels(voxels).features
        assert len(voxels) < len(points)
        assert torch.equal(small(points, batch_index), features[point_to_voxel])
    cells = torch.floor(points[:, :3].double() / 0.5).long()
    assert torch.equal(voxels.coordinates[point_to_voxel], cells)
    assert torch.equal(voxels.batch_index[point_to_voxel], batch_index)


@pytest.mark.parametrize("reduce", ["first", "mean"])
def test_permuted_points_give_permuted_features(reduce):
    torch.manual_seed(0)
    model = MinkUNet(**{**SMALL, "reduce": reduce}).double().eval()
    points, batch_index = sweep()
    points = points.double()
    if reduce == "first":  # the first point of a voxel depends on the order; one point each does not
        keep = np.unique(
            torch.cat([batch_index[:, None], torch.floor(points[:, :3] / 0.5).long()], 1), axis=0, return_index=True
        )[1]
        points, batch_index = points[keep], batch_index[keep]
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.allclose(model(points[order], batch_index[order]), model(points, batch_index)[order], atol=1e-9)


def test_moving_by_the_coarsest_cell_changes_nothing():
    """16 voxels is the coarsest stride, so a cloud moved by 16 voxels meets the same cells at every level."""
    torch.manual_seed(0)
    model = MinkUNet(**{**SMALL, "in_columns": (3,), "stem_convolutions": 1}).double().eval()
    points, batch_index = sweep()
    points = points.double()
    moved = points + torch.tensor([8.0, -16.0, 24.0, 0.0])
    with torch.no_grad():
        assert torch.allclose(model(moved, batch_index), model(points, batch_index), atol=1e-9)
        assert not torch.allclose(model(points + 0.5, batch_index), model(points, batch_index), atol=1e-3)


def test_encoder_alone():
    torch.manual_seed(0)
    assert MinkUNet(**VARIANTS["minkunet34-w32"], decoder=False).out_channels == (256,)
    model = MinkUNet(**{**SMALL, "decoder": False}).eval()
    assert (model.out_channels, model.strides) == ((64,), (16,))
    points, batch_index = sweep()
    with torch.no_grad():
        out = model(points, batch_index)
        voxels, point_to_voxel = model.voxelise(points, batch_index)
        coarse = model.forward_voxels(voxels)
    assert out.shape == (500, 64)
    assert coarse.stride == (16, 16, 16)
    cells = torch.div(voxels.coordinates, 16, rounding_mode="floor")[point_to_voxel]
    row = {(int(b), *c): i for i, (b, c) in enumerate(zip(coarse.batch_index, coarse.coordinates.tolist()))}
    expected = coarse.features[[row[int(b), *c] for b, c in zip(batch_index, cells.tolist())]]
    assert torch.equal(out, expected)


def test_cylindrical_form_reads_intensity_alone():
    model = MinkUNet(**{**VARIANTS["minkunet34-slidr"], "layers": (1,) * 8, "width": 8}).eval()
    points, batch_index = sweep()
    other = points.clone()
    with torch.no_grad():
        first = model(points, batch_index)
        other[:, 3] += 1
        assert not torch.equal(model(other, batch_index), first)
    voxels, _ = model.voxelise(points, batch_index)
    assert voxels.features.shape[1] == 1
    rho = torch.hypot(points[:, 0], points[:, 1])
    assert voxels.coordinates[:, 0].max() == int(rho.max() / 0.1)
    assert voxels.coordinates[:, 1].abs().max() <= 180


@pytest.mark.parametrize("points", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_almost_nothing_to_see(small, points, training):
    small.train(training)
    out = small(torch.ones(points, 4), torch.zeros(points, dtype=torch.int64))
    assert out.shape == (points, 24)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """Within 4 % of the largest value after 22 layers; the reference is float64."""
    torch.manual_seed(0)
    model = MinkUNet(**SMALL).double().eval()
    points, batch_index = sweep()
    with torch.no_grad():
        exact = model(points.double(), batch_index)
        out = model.to(dtype)(points, batch_index)
    assert out.dtype == dtype
    assert (out.double() - exact).abs().max() <= 0.04 * exact.abs().max()


def test_state_dict_round_trip(small, tmp_path):
    from safetensors.torch import load_file, save_file

    save_file(small.state_dict(), tmp_path / "model.safetensors")
    other = MinkUNet(**SMALL)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    points, batch_index = sweep()
    with torch.no_grad():
        assert torch.equal(other.eval()(points, batch_index), small.eval()(points, batch_index))


# --- upstream names ---------------------------------------------------------------------------------------------------


def upstream_kernel(weight: torch.Tensor) -> torch.Tensor:
    """Their layout: x fastest for 3x3x3, ours for 2x2x2, no first axis for one cell."""
    if len(weight) == 1:
        return weight[0]
    if len(weight) == 8:
        return weight
    x_fastest = sorted(kernel_offsets((3, 3, 3), (1, 1, 1)), key=lambda offset: (offset[2], offset[1], offset[0]))
    return weight[[kernel_offsets((3, 3, 3), (1, 1, 1)).index(offset) for offset in x_fastest]]


def mmdet3d_name(name: str) -> str:
    name = re.sub(r"stem\.(\d)\.", r"conv_input.\1.net.", name)
    name = re.sub(r"(encoder|decoder)\.(\d)\.step\.", r"\1.\2.0.net.", name)
    name = re.sub(r"encoder\.(\d)\.blocks\.(\d)", lambda m: f"encoder.{m[1]}.{int(m[2]) + 1}", name)
    name = re.sub(r"decoder\.(\d)\.blocks\.(\d)", r"decoder.\1.1.\2", name)
    for ours, theirs in (("first", "net.0"), ("second", "net.3"), ("shortcut", "downsample.0")):
        group, index = theirs.split(".")
        name = name.replace(f"{ours}.conv", theirs).replace(f"{ours}.norm", f"{group}.{int(index) + 1}")
    name = re.sub(r"net\.conv\b", "net.0", re.sub(r"net\.norm\b", "net.1", name))
    return "backbone." + name


def slidr_name(name: str) -> str:
    name = name.replace("stem.0.conv", "conv0p1s1").replace("stem.0.norm", "bn0.bn")
    for i in range(4):
        name = name.replace(f"encoder.{i}.step.conv", f"conv{i + 1}p{2**i}s2")
        name = name.replace(f"encoder.{i}.step.norm", f"bn{i + 1}.bn")
        name = name.replace(f"decoder.{i}.step.conv", f"convtr{i + 4}p{16 >> i}s2")
        name = name.replace(f"decoder.{i}.step.norm", f"bntr{i + 4}.bn")
        name = name.replace(f"encoder.{i}.blocks", f"block{i + 1}").replace(f"decoder.{i}.blocks", f"block{i + 5}")
    for ours, conv, norm in (("first", "conv1", "norm1.bn"), ("second", "conv2", "norm2.bn")):
        name = name.replace(f"{ours}.conv", conv).replace(f"{ours}.norm", norm)
    return name.replace("shortcut.conv", "downsample.0").replace("shortcut.norm", "downsample.1.bn")


@pytest.mark.parametrize(
    ("rename", "upstream", "stem", "examples"),
    [
        (
            rename_mmdet3d,
            mmdet3d_name,
            2,
            {
                "backbone.conv_input.1.net.0.kernel",
                "backbone.encoder.0.0.net.1.running_var",
                "backbone.encoder.3.2.net.4.bias",
                "backbone.decoder.2.0.net.0.kernel",
                "backbone.decoder.3.1.0.downsample.0.kernel",
            },
        ),
        (
            rename_slidr,
            slidr_name,
            1,
            {
                "conv0p1s1.kernel",
                "bn0.bn.weight",
                "conv4p8s2.kernel",
                "convtr4p16s2.kernel",
                "bntr7.bn.running_mean",
                "block4.1.conv2.kernel",
                "block8.0.downsample.1.bn.weight",
            },
        ),
    ],
)
def test_upstream_checkpoints_load(rename, upstream, stem, examples):
    """A checkpoint with upstream's names and layout, made from a model of ours, comes back as that model."""
    torch.manual_seed(0)
    arguments = {**SMALL, "layers": (1, 1, 1, 2, 1, 1, 1, 1), "stem_convolutions": stem}
    model = MinkUNet(**arguments)
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith("conv.weight"):
            state[upstream(name.removesuffix(".weight")) + ".kernel"] = upstream_kernel(value)
        else:
            state[upstream(name)] = value
    assert examples <= set(state), examples - set(state)
    state["final.kernel"] = torch.ones(96, 64)
    state["decode_head.conv_seg.weight"] = torch.ones(19, 96)
    renamed = rename(state)
    assert set(renamed) == set(model.state_dict())
    other = MinkUNet(**arguments)
    other.load_state_dict(renamed)
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


# --- bad input, real scan ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MinkUNet(layers=(2, 2)), "eight counts"),
        (lambda: MinkUNet(width=0), "width 0"),
        (lambda: MinkUNet(width=8.5), "width 8.5"),
        (lambda: MinkUNet(layers=(1.5,) * 8), "eight counts"),
        (lambda: MinkUNet(in_columns=()), "give at least one"),
        (lambda: MinkUNet(in_columns=(-1,)), "counted from 0"),
        (lambda: MinkUNet(reduce="median"), "unknown reduction 'median'"),
        (lambda: MinkUNet(stem_convolutions=3), "neither 1 nor 2"),
        (lambda: MinkUNet(grid="cylindrical"), "three sizes"),
        (lambda: MinkUNet(voxel_size=-0.1), "voxel size"),
        (lambda: MinkUNet(backend="spcomv"), "closest: spconv"),
        (lambda: MinkUNet(**SMALL)(torch.ones(5, 3), torch.zeros(5).long()), "reads the first 4"),
        (
            lambda: MinkUNet(**SMALL)(torch.full((5, 4), torch.nan), torch.zeros(5).long()),
            "point 0 at .* is not finite",
        ),
        (lambda: MinkUNet(**SMALL)(torch.ones(5, 4), torch.zeros(4).long()), "does not match 5 coordinates"),
        (lambda: MinkUNet(**SMALL)(torch.full((5, 4), 1e5), torch.zeros(5).long()), "does not fit the packed key"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.real
def test_real_scan():
    """A SemanticKITTI scan: a feature per point, the same when the file starts at another point."""
    files = sorted((REAL / "semantickitti" / "sequences" / "08" / "velodyne").glob("*.bin"))
    if not files:
        pytest.skip(f"no SemanticKITTI scan in {REAL}")
    points = torch.from_numpy(np.fromfile(files[0], np.float32).reshape(-1, 4))
    torch.manual_seed(0)
    model = MinkUNet(**{**SMALL, "reduce": "mean"}).eval()
    with torch.no_grad():
        out = model(points, torch.zeros(len(points), dtype=torch.int64))
        rolled = model(points.roll(1000, 0), torch.zeros(len(points), dtype=torch.int64))
    assert out.shape == (123_389, 24)
    assert torch.isfinite(out).all()
    assert (rolled.roll(-1000, 0) - out).abs().max() <= 1e-3 * out.abs().max()


def test_backends_that_are_installed_agree(small):
    if "spconv" not in available_backends("cpu"):
        pytest.skip("spconv is not installed (pip install spconv==2.3.8)")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        points, batch_index = sweep()
        small.eval()
        other = MinkUNet(**SMALL, backend="spconv").eval()
        other.load_state_dict(small.state_dict())
        with torch.no_grad():
            expected = small(points, batch_index)
            assert (other(points, batch_index) - expected).abs().max() <= 1e-4 * expected.abs().max()
    finally:
        torch.set_num_threads(before)


def test_sparse_input_of_another_width_is_refused(small):
    x, _ = sparse_tensor(torch.ones(4, 2), torch.arange(12).reshape(4, 3))
    with pytest.raises(InputError, match="takes 4 channels, but the features have 2"):
        small.forward_voxels(x)
