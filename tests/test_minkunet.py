"""MinkUNet: its forms, shapes and parameters, points in any order, gradients, upstream names."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tolerances import assert_close

from zoo.encoders.minkunet import VARIANTS, MinkUNet, rename_mmdet3d, rename_slidr
from zoo.errors import InputError
from zoo.folder.catalogue import entries
from zoo.sparse import available_backends, sparse_tensor

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
SMALL = {"layers": (1,) * 8, "width": 8, "voxel_size": 0.5}


def sweep(points: int = 500, samples: int = 2, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.randn(points, 3, generator=generator) * torch.tensor([8.0, 8.0, 1.0])
    intensity = torch.rand(points, 1, generator=generator)
    return torch.cat([xyz, intensity], 1), torch.randint(0, samples, (points,), generator=generator)


def features(model: MinkUNet, points: torch.Tensor, batch_index: torch.Tensor) -> torch.Tensor:
    """The one level of the model: a row per point."""
    (level,) = model(points, batch_index)
    return level


@pytest.fixture(scope="module")
def small() -> MinkUNet:
    torch.manual_seed(0)
    return MinkUNet(**SMALL)


def parameters_by_hand(layers, width, planes, inputs, stem):
    """The sum over the layers of the papers' tables; a batch norm has two values per channel."""

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
    inputs, stem = len(arguments.get("channels", "xyzi")), arguments.get("stem_convolutions", 2)
    width = arguments["width"]
    planes = arguments.get("planes", [p * width // 32 for p in (32, 64, 128, 256, 256, 128, 96, 96)])
    assert count == parameters_by_hand(arguments["layers"], width, planes, inputs, stem)
    assert model.out_channels == (planes[-1],)
    assert model.strides == (1,)
    if name.startswith("minkunet34"):
        assert round(count / 1e6) == 38  # as Golombiewski (2024) states


def test_points_of_a_voxel_share_its_feature(small):
    points, batch_index = sweep()
    small.eval()
    with torch.no_grad():
        voxels, point_to_voxel = small.voxelise(points, batch_index)
        of_voxels = small.forward_voxels(voxels).features
        assert len(voxels) < len(points)
        assert torch.equal(features(small, points, batch_index), of_voxels[point_to_voxel])
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
        found = features(model, points[order], batch_index[order])
        assert_close(found, features(model, points, batch_index)[order])


def test_moving_by_the_coarsest_cell_changes_nothing():
    """16 voxels is the coarsest stride, so a cloud moved by 16 voxels meets the same cells at every level."""
    torch.manual_seed(0)
    model = MinkUNet(**{**SMALL, "channels": ("intensity",), "stem_convolutions": 1}).double().eval()
    points, batch_index = sweep()
    points = points.double()
    moved = points + torch.tensor([8.0, -16.0, 24.0, 0.0])
    with torch.no_grad():
        assert_close(features(model, moved, batch_index), features(model, points, batch_index))
        assert not torch.allclose(
            features(model, points + 0.5, batch_index), features(model, points, batch_index), atol=1e-3
        )


def test_encoder_alone():
    torch.manual_seed(0)
    assert MinkUNet(**VARIANTS["minkunet34-w32"], decoder=False).out_channels == (256,)
    model = MinkUNet(**{**SMALL, "decoder": False}).eval()
    assert (model.out_channels, model.strides) == ((64,), (16,))
    points, batch_index = sweep()
    with torch.no_grad():
        out = features(model, points, batch_index)
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
        first = features(model, points, batch_index)
        other[:, 3] += 1
        assert not torch.equal(features(model, other, batch_index), first)
    voxels, _ = model.voxelise(points, batch_index)
    assert voxels.features.shape[1] == 1
    rho = torch.hypot(points[:, 0], points[:, 1])
    assert voxels.coordinates[:, 0].max() == int(rho.max() / 0.1)
    assert voxels.coordinates[:, 1].abs().max() <= 180


def test_channels_are_chosen_by_name():
    """Columns in another order, and one more of them, give the same voxels."""
    points, batch_index = sweep()
    wide = torch.cat([points[:, :3], torch.full((len(points), 1), 9.0), points[:, 3:]], 1)
    plain = MinkUNet(**SMALL, channels=("intensity", "z"), intensity_offset=1.0)
    other = MinkUNet(
        **SMALL, channels=("intensity", "z"), point_channels=("x", "y", "z", "ring", "intensity"), intensity_offset=1.0
    )
    ours, theirs = plain.voxelise(points, batch_index)[0], other.voxelise(wide, batch_index)[0]
    assert torch.equal(ours.keys, theirs.keys)
    assert torch.equal(ours.features, theirs.features)
    first = plain.voxelise(points[:1], batch_index[:1])[0].features
    assert torch.allclose(first, torch.stack([points[0, 3] + 1, points[0, 2]])[None])


def test_stages_by_number(small):
    """Stage 1 has voxels of 4 cells: points of one such voxel share its feature, and others do not."""
    points, batch_index = sweep()
    small.eval()
    with torch.no_grad():
        second, last = small.forward_intermediates(points, batch_index, indices=(1, -1))
        assert torch.equal(last, features(small, points, batch_index))
        voxels, _ = small.voxelise(points, batch_index)
        stages = small.forward_stages(voxels)
    assert [stage.stride[0] for stage in stages] == [2, 4, 8, 16, 8, 4, 2, 1]
    assert second.shape == (500, 16)
    cells = torch.cat([batch_index[:, None], torch.floor(points[:, :3].double() / (4 * 0.5)).long()], 1)
    voxel = {(int(b), *c): i for i, (b, c) in enumerate(zip(stages[1].batch_index, stages[1].coordinates.tolist()))}
    assert torch.equal(second, stages[1].features[[voxel[tuple(cell)] for cell in cells.tolist()]])
    with pytest.raises(InputError, match=r"stages \(8,\) are out of range; the encoder has 8"):
        small.forward_intermediates(points, batch_index, indices=(8,))


def test_the_catalogue_repeats_the_variant():
    arguments = entries()["supervised-minkunet34-semantickitti"].architecture["encoder"]["arguments"]
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()} == VARIANTS["minkunet34-w32"]


@pytest.mark.parametrize("points", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_almost_nothing_to_see(small, points, training):
    small.train(training)
    out = features(small, torch.ones(points, 4), torch.zeros(points, dtype=torch.int64))
    assert out.shape == (points, 24)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """Half-precision weights on float32 points, which keep their metres: within 4 % of the largest value after 22
    layers; the reference is float64."""
    torch.manual_seed(0)
    model = MinkUNet(**SMALL).double().eval()
    points, batch_index = sweep()
    with torch.no_grad():
        exact = features(model, points.double(), batch_index)
        out = features(model.to(dtype), points, batch_index)
    assert out.dtype == dtype
    assert (out.double() - exact).abs().max() <= 0.04 * exact.abs().max()


def test_state_dict_round_trip(small, tmp_path):
    from safetensors.torch import load_file, save_file

    save_file(small.state_dict(), tmp_path / "model.safetensors")
    other = MinkUNet(**SMALL)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    points, batch_index = sweep()
    with torch.no_grad():
        assert torch.equal(features(other.eval(), points, batch_index), features(small.eval(), points, batch_index))


# --- upstream networks ------------------------------------------------------------------------------------------------

UPSTREAM = {
    "mmdet3d_torchsparse": (rename_mmdet3d, "minkunet18-w32", (1, 2, 1, 2, 1, 1, 1, 2)),
    "mmdet3d_spconv": (rename_mmdet3d, "minkunet18-w32", (1, 2, 1, 2, 1, 1, 1, 2)),
    "mmdet3d_minkowski": (rename_mmdet3d, "minkunet18-w32", (1, 2, 1, 2, 1, 1, 1, 2)),
    "slidr": (rename_slidr, "minkunet34-slidr-kitti", (1, 1, 1, 2, 1, 1, 1, 2)),
}
"""What tests/data/minkunet/README.md describes: files, how each is renamed, our variant, and its layers."""


def upstream_file(name: str) -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "data" / "minkunet" / f"{name}.npz") as file:
        return dict(file)


def upstream_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """The checkpoint that the upstream network had: every value by a formula of its key's rank and its own place."""
    state = {}
    for rank, key in enumerate(sorted(shapes)):
        shape = shapes[key]
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
            continue
        i = torch.arange(math.prod(shape), dtype=torch.float64)
        wave = torch.sin(1.7 * rank + 0.61 * i + 0.013 * i * i)
        if key.endswith("running_var"):
            wave = 1.2 + 0.5 * wave
        elif len(shape) == 1 and key.endswith("weight"):
            wave = 1 + 0.3 * wave
        elif len(shape) == 1:
            wave = 0.25 + 0.2 * wave
        else:
            wave = wave / math.sqrt(len(i) / min(shape[0], shape[-1])) * 2.5
        state[key] = wave.reshape(shape)
    return state


def renamed_upstream(name: str) -> tuple[MinkUNet, dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """Our network with the upstream checkpoint loaded, that checkpoint, and the stored file."""
    rename, variant, layers = UPSTREAM[name]
    file = upstream_file(name)
    state = upstream_state(json.loads(str(file["shapes"])))
    arguments = {**VARIANTS[variant], "layers": layers, "width": 4}
    model = MinkUNet(**{**arguments, "voxel_size": arguments.get("voxel_size", 0.1)}).double().eval()
    model.load_state_dict(rename(state))
    return model, state, file


@pytest.mark.parametrize("name", UPSTREAM)
def test_upstream_checkpoints_compute_what_the_upstream_network_computes(name):
    """From raw points onward: cells, voxels, inputs, kernel order, names, features per point."""
    model, _, file = renamed_upstream(name)
    points, batch_index = torch.from_numpy(file["points"]), torch.from_numpy(file["batch_index"])
    expected = torch.from_numpy(file["features"])
    with torch.no_grad():
        out = features(model, points, batch_index)
    assert expected.std(0).min() > 0.01  # every channel says something
    assert (out - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("name", UPSTREAM)
def test_momenta_are_upstreams(name):
    model, _, file = renamed_upstream(name)
    expected = json.loads(str(file["momenta"]))
    rename = UPSTREAM[name][0]
    # Each norm carries its momentum through the renaming in place of its weight.
    marked = {f"{key}.weight": torch.tensor([momentum]) for key, momentum in expected.items()}
    ours = {key.removesuffix(".bn"): norm.momentum for key, norm in model.named_modules() if key.endswith(".bn")}
    kernels = {key: value for key, value in upstream_state(json.loads(str(file["shapes"]))).items() if value.ndim > 1}
    renamed = rename({**kernels, **marked})
    theirs = {key.removesuffix(".bn.weight"): float(value) for key, value in renamed.items() if ".bn." in key}
    assert ours == pytest.approx(theirs)
    assert len(ours) == len(expected)
    if name == "slidr":
        assert set(ours.values()) == {0.05, 0.1}


def test_heads_wrappers_and_other_parts_are_omitted():
    _, state, _ = renamed_upstream("mmdet3d_torchsparse")
    wrapped = {f"module.backbone.{key}": value for key, value in state.items()}
    wrapped["decode_head.conv_seg.weight"] = torch.ones(19, 96)
    renamed, plain = rename_mmdet3d(wrapped), rename_mmdet3d(state)
    assert renamed.keys() == plain.keys()
    assert all(torch.equal(renamed[key], plain[key]) for key in plain)
    _, state, _ = renamed_upstream("slidr")
    assert "final.kernel" in state
    assert not any("final" in key for key in rename_slidr(state))


@pytest.mark.parametrize(
    ("rename", "state", "message"),
    [
        (rename_slidr, {"encoder.0.weight": torch.ones(3)}, "no weight of a MinkUNet is recognised.*first: encoder.0"),
        (rename_mmdet3d, {}, "among the 0 keys given"),
        (rename_mmdet3d, {"conv0p1s1.kernel": torch.ones(27, 1, 4)}, "no weight of a MinkUNet is recognised"),
        (rename_mmdet3d, {"backbone.point_transforms.0.0.weight": torch.ones(4, 4)}, "SPVCNN"),
        (rename_slidr, {"conv0p1s1.kernel": torch.ones(26, 1, 4)}, r"\(26, 1, 4\) is not \(cells of a cube"),
        # mmcv's spconv 1 has (x, y, z, in, out).
        (rename_mmdet3d, {"encoder.0.1.conv1.weight": torch.ones(3, 3, 3, 4, 8)}, "not .* the layout of spconv 2"),
    ],
)
def test_checkpoints_that_are_refused(rename, state, message):
    with pytest.raises(InputError, match=message):
        rename(state)


# --- bad input, real scan ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MinkUNet(layers=(2, 2)), "eight integers"),
        (lambda: MinkUNet(width=0), "width 0"),
        (lambda: MinkUNet(width=8.5), "width 8.5"),
        (lambda: MinkUNet(width=True), "width True is not a positive integer"),
        (lambda: MinkUNet(layers=(1.5,) * 8), "eight integers"),
        (lambda: MinkUNet(layers=(True,) * 8), "eight integers"),
        (lambda: MinkUNet(layers=5), "layers 5 are not eight integers"),
        (lambda: MinkUNet(planes=(8, 8)), "planes .8, 8. are not eight channel counts"),
        (lambda: MinkUNet(width=1, planes=(1, 2, 4, 8, 8, 4, 3, 0)), "not eight channel counts"),
        (lambda: MinkUNet(**SMALL, momentum=7), "momentum 7 is not a number from 0 to 1"),
        (lambda: MinkUNet(**SMALL, momentum="0.1"), "momentum '0.1' is not a number"),
        (lambda: MinkUNet(**SMALL, block_momentum=-1), "momentum -1 is not a number from 0 to 1"),
        (lambda: MinkUNet(decoder=1), "decoder 1 is neither True nor False"),
        (lambda: MinkUNet(from_lowest="yes"), "from_lowest 'yes' is neither True nor False"),
        (lambda: MinkUNet(rounding="near"), "unknown rounding 'near'.*closest: nearest"),
        (lambda: MinkUNet(intensity_offset="1"), "intensity_offset '1' is not a finite number"),
        (lambda: MinkUNet(intensity_offset=math.inf), "intensity_offset inf is not a finite number"),
        (lambda: MinkUNet(stem_convolutions=True), "stem_convolutions True is neither 1 nor 2"),
        (lambda: MinkUNet(voxel_size=True), "voxel size True"),
        (lambda: MinkUNet(**SMALL)(np.ones((5, 4)), torch.zeros(5).long()), "points is a numpy.ndarray, not a torch"),
        (lambda: MinkUNet(**SMALL)(torch.ones(5, 4), np.zeros(5, int)), "batch_index is a numpy.ndarray, not a torch"),
        (lambda: MinkUNet(**SMALL).forward_voxels(torch.ones(5, 4)), "takes a SparseTensor, not a dense tensor"),
        (lambda: MinkUNet(channels=()), r"channels \(\) are not names of columns"),
        (lambda: MinkUNet(channels="intensity"), "channels 'intensity' are not names of columns"),
        (lambda: MinkUNet(channels=(3,)), r"channels \(3,\) are not names of columns"),
        (lambda: MinkUNet(channels=("x", "x")), "each once"),
        (lambda: MinkUNet(channels=("intensty",)), "no channel 'intensty'; they have x, y, z, .*closest: intensity"),
        (lambda: MinkUNet(channels=("ring",)), "no channel 'ring'"),
        (lambda: MinkUNet(point_channels=("intensity", "x", "y", "z")), "do not start with x, y, z"),
        (lambda: MinkUNet(reduce="median"), "unknown reduction 'median'"),
        (lambda: MinkUNet(stem_convolutions=3), "neither 1 nor 2"),
        (lambda: MinkUNet(grid="cylindrical"), "three sizes"),
        (lambda: MinkUNet(voxel_size=-0.1), "voxel size"),
        (lambda: MinkUNet(backend="spcomv"), "closest: spconv"),
        (lambda: MinkUNet(**SMALL)(torch.ones(5, 3), torch.zeros(5).long()), "do not have the columns x, y, z, int"),
        (lambda: MinkUNet(**SMALL)(torch.ones(5, 5), torch.zeros(5).long()), "name others with point_channels"),
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
        out = features(model, points, torch.zeros(len(points), dtype=torch.int64))
        rolled = features(model, points.roll(1000, 0), torch.zeros(len(points), dtype=torch.int64))
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
            expected = features(small, points, batch_index)
            assert (features(other, points, batch_index) - expected).abs().max() <= 1e-4 * expected.abs().max()
    finally:
        torch.set_num_threads(before)


def test_sparse_input_of_another_width_is_refused(small):
    x, _ = sparse_tensor(torch.ones(4, 2), torch.arange(12).reshape(4, 3))
    with pytest.raises(InputError, match="takes 4 channels, but the features have 2"):
        small.forward_voxels(x)
