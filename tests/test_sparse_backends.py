"""The optional backends against the libraries' own layers and ours, where they are installed; CUDA kernels emulated."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from library_kernels import import_torchsparse, spconv_implicit_gemm, spconv_implicit_gemm_backward

import zoo.sparse.backends as backends
from zoo.encoders.minkunet import MinkUNet
from zoo.errors import InputError
from zoo.sparse import (
    SparseConv3d,
    SparseTensor,
    available_backends,
    kernel_offsets,
    pick_backend,
    set_backend,
    sparse_tensor,
)

Size = int | tuple[int, int, int]
"""One number for all axes, or one per axis."""

needs_spconv = pytest.mark.skipif(
    importlib.util.find_spec("spconv") is None, reason="spconv is not installed (pip install spconv==2.3.8)"
)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """spconv's CPU kernels add to the same row from two threads without a lock."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cloud(channels: int, points: int = 400, samples: int = 2) -> SparseTensor:
    generator = torch.Generator().manual_seed(1)
    cells = torch.randint(-8, 8, (points, 3), generator=generator)
    batch_index = torch.randint(0, samples, (points,), generator=generator)
    features = torch.randn(points, channels, generator=generator)
    return sparse_tensor(features, cells, batch_index)[0]


def gradients(value: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    weights = torch.linspace(-1, 1, value.numel()).reshape(value.shape).cos()
    return torch.autograd.grad((value * weights).sum(), inputs)


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert (actual - expected).abs().max() <= 2e-5 * expected.abs().max()


def assert_equals_reference(
    backend: Any, kernel: Size, channels: int, stride: Size, dilation: Size, transposed: bool
) -> None:
    """The same layer by both backends, forward and backward."""
    x = cloud(channels)
    if transposed:
        x = SparseConv3d(channels, channels, kernel, stride=stride, dilation=dilation)(x)
        x = x.with_features(x.features.detach())
    x = x.with_features(x.features.requires_grad_())
    layer = SparseConv3d(channels, 6, kernel, stride=stride, dilation=dilation, transposed=transposed)
    results = []
    for name in ("reference", backend):
        layer.backend = name
        out = layer(x).features
        results.append((out, *gradients(out, x.features, layer.weight)))
    for one, other in zip(*results):
        assert_close(other, one)


# No kernel of one cell: spconv multiplies by that weight as if it were (in, out), against its own layout.
LAYERS = [
    (3, 3, 1, 1),
    (5, 3, 1, 1),
    (3, 4, 1, 2),
    (2, 4, 2, 1),
    (3, 4, 2, 1),
    (4, 2, 2, 1),
    (3, 3, 3, 1),
]


@needs_spconv
@pytest.mark.parametrize(("kernel", "channels", "stride", "dilation"), LAYERS)
def test_reference_equals_spconvs_own_layers(
    one_thread: None, kernel: Size, channels: int, stride: Size, dilation: Size
) -> None:
    """Forward and backward, with the pairs that spconv finds by itself."""
    import spconv.pytorch as library
    from spconv.pytorch import ops

    ops.get_current_stream = lambda: 0
    x = cloud(channels)
    features = x.features.requires_grad_()
    layer = SparseConv3d(channels, 5, kernel, stride=stride, dilation=dilation, bias=False)
    ours = layer(x.with_features(features))

    low = (kernel - 1) // 2 * dilation
    # Its cells start at 0; moving by a multiple of every stride here keeps the coarse cells where they are.
    indices = torch.cat([x.batch_index[:, None], x.coordinates + 12], 1).int()
    given = features.detach().clone().requires_grad_()
    tensor = library.SparseConvTensor(given, indices, [24, 24, 24], x.batch_size)
    if stride == 1:
        theirs_layer = library.SubMConv3d(
            channels, 5, kernel, dilation=dilation, bias=False, algo=library.ConvAlgo.Native
        )
    else:
        theirs_layer = library.SparseConv3d(
            channels, 5, kernel, stride=stride, padding=low, dilation=dilation, bias=False, algo=library.ConvAlgo.Native
        )
    with torch.no_grad():  # its layout is (out, x, y, z, in)
        theirs_layer.weight.copy_(layer.weight.reshape(kernel, kernel, kernel, channels, 5).permute(4, 0, 1, 2, 3))
    theirs = theirs_layer(tensor)

    # Its strided layers also make cells outside ours, where only a kernel's rim reaches, and none where a kernel reads
    # nothing, where ours are 0.
    row = {tuple(index): i for i, index in enumerate(theirs.indices.tolist())}
    wanted = torch.cat([ours.batch_index[:, None], ours.coordinates + 12 // stride], 1).tolist()
    rows = [row.get(tuple(index), len(row)) for index in wanted]
    expected = torch.cat([theirs.features, theirs.features.new_zeros(1, 5)])[rows]
    assert_close(ours.features, expected)
    mine = gradients(ours.features, features, layer.weight)
    reference = gradients(expected, given, theirs_layer.weight)
    assert_close(mine[0], reference[0])
    assert_close(mine[1], reference[1].permute(1, 2, 3, 4, 0).reshape(layer.weight.shape))


@needs_spconv
def test_reference_equals_spconvs_inverse_layer(one_thread: None) -> None:
    import spconv.pytorch as library

    x = cloud(3)
    down = SparseConv3d(3, 4, 2, stride=2, bias=False)
    up = SparseConv3d(4, 5, 2, stride=2, bias=False, transposed=True)
    ours = up(down(x))
    indices = torch.cat([x.batch_index[:, None], x.coordinates + 12], 1).int()
    native = library.ConvAlgo.Native
    their_down = library.SparseConv3d(3, 4, 2, stride=2, bias=False, indice_key="a", algo=native)
    their_up = library.SparseInverseConv3d(4, 5, 2, bias=False, indice_key="a", algo=native)
    with torch.no_grad():
        their_down.weight.copy_(down.weight.reshape(2, 2, 2, 3, 4).permute(4, 0, 1, 2, 3))
        their_up.weight.copy_(up.weight.reshape(2, 2, 2, 4, 5).permute(4, 0, 1, 2, 3))
    theirs = their_up(their_down(library.SparseConvTensor(x.features, indices, [24, 24, 24], x.batch_size)))
    assert torch.equal(theirs.indices, indices)
    assert_close(ours.features, theirs.features)


@needs_spconv
@pytest.mark.parametrize(("kernel", "channels", "stride", "dilation"), LAYERS)
@pytest.mark.parametrize("transposed", [False, True])
def test_spconv_backend_equals_reference(
    one_thread: None, kernel: Size, channels: int, stride: Size, dilation: Size, transposed: bool
) -> None:
    if transposed and stride == 1:
        pytest.skip("a transposed layer has a stride")
    assert_equals_reference("spconv", kernel, channels, stride, dilation, transposed)


@needs_spconv
def test_spconv_backend_takes_an_empty_cloud(one_thread: None) -> None:
    x, _ = sparse_tensor(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    layer = SparseConv3d(3, 2, backend="spconv")
    layer(x).features.sum().backward()
    assert layer.weight.grad.eq(0).all()


@needs_spconv
def test_spconv_backend_refuses_two_threads_and_half_precision(one_thread: None) -> None:
    layer = SparseConv3d(3, 2, backend="spconv")
    half = cloud(3)
    half = half.with_features(half.features.bfloat16())
    with pytest.raises(InputError, match="computes in float32 or float64, not bfloat16"):
        layer.bfloat16()(half)
    torch.set_num_threads(2)
    with pytest.raises(InputError, match="wrong sums on a CPU with more than one thread"):
        SparseConv3d(3, 2, backend="spconv")(cloud(3))


def formula_weight(cells: int, channels: int, out_channels: int) -> torch.Tensor:
    i = torch.arange(cells * channels * out_channels, dtype=torch.float64)
    return torch.cos(0.37 * i + 0.01 * i * i / len(i)).float().reshape(cells, channels, out_channels)


def test_golden_values_of_spconv() -> None:
    """Numbers that spconv 2.3.8's own layers gave (CPU, one thread, Native) for the same formulas, so that CI compares
    with an independent implementation where it is not installed: sum, sum weighed by cos(position), largest."""
    n = torch.arange(60, dtype=torch.float64)
    cells = torch.stack([(7 * n) % 9, (5 * n) % 8, (3 * n * n + n) % 7], 1).long()
    features = torch.sin(1 + 0.7 * n[:, None] + 1.3 * torch.arange(3)).float()
    x, _ = sparse_tensor(features, cells)

    def layer(channels: int, out_channels: int, kernel: Size, **options: Any) -> SparseConv3d:
        made = SparseConv3d(channels, out_channels, kernel, bias=False, **options)
        with torch.no_grad():
            made.weight.copy_(formula_weight(kernel**3, channels, out_channels))
        return made

    down = layer(3, 4, 2, stride=2)(x)
    results = {
        "submanifold": (layer(3, 4, 3)(x), [-0.889508, -0.965112, 4.795018]),
        "dilated": (layer(3, 4, 3, dilation=2)(x), [0.480091, -24.518086, 7.518162]),
        "strided": (down, [7.920524, 15.078088, 3.142241]),
        "inverse": (layer(4, 3, 2, stride=2, transposed=True)(down), [-6.999276, 25.436216, 3.564197]),
    }
    assert len(down) == 41
    for name, (out, expected) in results.items():
        values = out.features.detach().double()
        weighed = (values.flatten() * torch.arange(values.numel(), dtype=torch.float64).cos()).sum()
        got = [float(values.sum()), float(weighed), float(values.abs().max())]
        assert got == pytest.approx(expected, abs=2e-4), name  # sums of thousands of float32 numbers


# --- spconv's implicit GEMM, its kernels emulated ---------------------------------------------------------------------


@pytest.fixture
def implicit_gemm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The path for CUDA on the CPU, with the kernels of `library_kernels`."""
    library = types.SimpleNamespace(
        implicit_gemm=spconv_implicit_gemm, implicit_gemm_backward=spconv_implicit_gemm_backward
    )
    monkeypatch.setattr(backends, "_spconv_ops", lambda: library)
    monkeypatch.setattr(backends, "_takes_implicit_gemm", lambda device, cells: cells <= 32)
    monkeypatch.setattr(backends, "_missing", lambda name, device: "")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("kernel", "channels", "stride", "dilation"), [(1, 3, 2, 1), ((4, 2, 4), 3, 2, 1), *LAYERS])
@pytest.mark.parametrize("transposed", [False, True])
def test_implicit_gemm_equals_reference(
    implicit_gemm: None, kernel: Size, channels: int, stride: Size, dilation: Size, transposed: bool
) -> None:
    """Forward and backward; the kernel of 32 cells uses the sign bit of the mask."""
    if transposed and stride == 1:
        pytest.skip("a transposed layer has a stride")
    if kernel in (4, 5):
        pytest.skip("64 and 125 cells: spconv gathers and scatters beyond 32")
    assert_equals_reference("spconv", kernel, channels, stride, dilation, transposed)


def test_implicit_gemm_without_gradients(implicit_gemm: None) -> None:
    x, layer = cloud(3), SparseConv3d(3, 6, backend="spconv")
    with torch.no_grad():
        out = layer(x).features
        set_backend(layer, "reference")
        assert_close(out, layer(x).features)


# --- choice -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """Stands for what is installed: name to why it does not run, by kind of device."""
    reasons = {("spconv", "cpu"): "is not installed", ("spconv", "cuda"): "is not installed"}
    reasons |= {("torchsparse", "cpu"): "is not installed", ("torchsparse", "cuda"): "is not installed"}
    monkeypatch.setattr(backends, "_missing", lambda name, device: reasons[name, device])
    return reasons


def test_auto_picks_what_is_installed_and_fits(build: dict[tuple[str, str], str]) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert pick_backend("auto", cpu) == pick_backend("auto", cuda) == "reference"
    build |= {("spconv", "cpu"): "", ("spconv", "cuda"): "", ("torchsparse", "cuda"): ""}
    assert pick_backend("auto", cpu) == "reference"
    assert pick_backend("auto", cuda) == "spconv"
    assert available_backends("cpu") == ["reference", "spconv"]
    assert available_backends("cuda") == ["reference", "spconv", "torchsparse"]
    build["spconv", "cuda"] = "is installed without CUDA"
    assert pick_backend("auto", cuda) == "reference", "an experimental backend is never picked by itself"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, "spconv"),
        (torch.float16, "spconv"),
        (torch.bfloat16, "reference"),
        (torch.float64, "reference"),
    ],
)
def test_auto_on_cuda_leaves_to_the_reference_what_spconv_has_no_kernels_for(
    build: dict[tuple[str, str], str], dtype: torch.dtype, expected: str
) -> None:
    build["spconv", "cuda"] = ""
    assert pick_backend("auto", torch.device("cuda"), dtype) == expected


@pytest.mark.parametrize("name", ["spconv", "torchsparse"])
def test_bfloat16_is_refused_where_a_library_is_asked_for(build: dict[tuple[str, str], str], name: str) -> None:
    build[name, "cuda"] = ""
    with pytest.raises(InputError, match=f"{name} on cuda computes in float32 or float16, not bfloat16; use the refer"):
        pick_backend(name, torch.device("cuda"), torch.bfloat16)


def fake_spconv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """A package `spconv` whose file of build constants has the given text."""
    (tmp_path / "spconv").mkdir()
    (tmp_path / "spconv" / "__init__.py").write_text("")
    (tmp_path / "spconv" / "cppconstants.py").write_text(text)
    for name in [name for name in sys.modules if name.split(".")[0] == "spconv"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("spconv", "spconv.cppconstants"):  # so that the end of the test removes what it imports
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backends, "_missing", backends._missing.__wrapped__)


@pytest.mark.parametrize(
    ("text", "on_cuda", "on_cpu"),
    [
        ("CPU_ONLY_BUILD = False", "", ""),
        ("CPU_ONLY_BUILD = True", "is installed without CUDA", ""),
        ("raise ImportError('libcudart.so.12: no such file')", "cannot be imported .libcudart", "cannot be imported"),
    ],
)
def test_what_the_installed_spconv_runs_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, on_cuda: str, on_cpu: str
) -> None:
    """`spconv.cppconstants.CPU_ONLY_BUILD` as the wheels spconv and spconv-cu126 2.3.8 have it."""
    fake_spconv(monkeypatch, tmp_path, text)
    for device, reason in (("cuda", on_cuda), ("cpu", on_cpu)):
        if not reason:
            assert pick_backend("spconv", torch.device(device)) == "spconv"
            continue
        assert pick_backend("auto", torch.device(device)) == "reference"
        with pytest.raises(InputError, match=reason):
            pick_backend("spconv", torch.device(device))


@needs_spconv
def test_the_cpu_wheel_is_told_apart() -> None:
    """The real constants of the installed build."""
    from spconv.cppconstants import CPU_ONLY_BUILD

    assert ("spconv" in available_backends("cuda")) is not CPU_ONLY_BUILD
    assert "spconv" in available_backends("cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spconv", "spconv is not installed; available here: reference"),
        ("torchsparse", "torchsparse does not run on cpu"),
        ("spcomv", "unknown backend 'spcomv'.*closest: spconv"),
        (None, "unknown backend None"),
    ],
)
def test_unavailable_backends(build: dict[tuple[str, str], str], name: str, message: str) -> None:
    build["torchsparse", "cpu"] = "does not run on cpu"
    with pytest.raises(InputError, match=message):
        SparseConv3d(3, 2, backend=name)(cloud(3))
    with pytest.raises(InputError, match=message):
        set_backend(SparseConv3d(3, 2), name)


# --- torchsparse ------------------------------------------------------------------------------------------------------


def torchsparse_folder() -> Path | None:
    """The parent of the package: from TORCHSPARSE_PYTHON, else where it is installed."""
    if given := os.environ.get("TORCHSPARSE_PYTHON"):
        return Path(given)
    spec = importlib.util.find_spec("torchsparse")
    return Path(spec.origin).parents[1] if spec is not None and spec.origin else None


@pytest.fixture
def torchsparse(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.SimpleNamespace]:
    """The library's own Python with its CUDA kernels emulated, and our adapter on it, both on the CPU."""
    folder = torchsparse_folder()
    if folder is None:
        pytest.skip("no torchsparse: name a checkout of its version 2.1 in TORCHSPARSE_PYTHON")
    try:
        library, kernels = import_torchsparse(folder, monkeypatch)
    except ImportError as error:
        pytest.skip(f"torchsparse in {folder} cannot be imported: {error}")
    if not library.__version__.startswith("2.1"):
        pytest.skip(f"torchsparse {library.__version__}, not 2.1")
    monkeypatch.setattr(backends, "_missing", lambda name, device: "")
    monkeypatch.setitem(backends._PRECISIONS, ("torchsparse", "cpu"), (torch.float32, torch.float16))
    backends._torchsparse_function.cache_clear()
    yield types.SimpleNamespace(library=library, kernels=kernels)
    backends._torchsparse_function.cache_clear()


def library_layer(
    torchsparse: types.SimpleNamespace, layer: SparseConv3d, transposed: bool = False
) -> tuple[Any, list[int]]:
    """torchsparse's own layer with the weights of ours, in the order of its own table of offsets."""
    made = torchsparse.library.nn.Conv3d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, transposed=transposed
    )
    offsets = torchsparse.library.nn.utils.get_kernel_offsets(layer.kernel_size).tolist()
    ours = [list(offset) for offset in kernel_offsets(layer.kernel_size, (1, 1, 1))]
    with torch.no_grad():
        made.kernel.copy_(layer.weight[[ours.index(offset) for offset in offsets]])
    return made, [ours.index(offset) for offset in offsets]


def library_tensor(torchsparse: types.SimpleNamespace, x: SparseTensor, features: torch.Tensor) -> Any:
    """Its cells start at 0. An odd highest cell, since it drops the last coarse cell otherwise."""
    coords = torch.cat([x.batch_index[:, None], x.coordinates + 8], 1).int()
    assert (coords[:, 1:].amax(0) % 2 == 1).all()
    return torchsparse.library.SparseTensor(features, coords, stride=1)


def rows_of(theirs: Any, ours: SparseTensor) -> list[int]:
    row = {tuple(cell): i for i, cell in enumerate(theirs.coords.tolist())}
    cells = torch.cat([ours.batch_index[:, None], ours.coordinates + 8 // ours.stride[0]], 1)
    return [row[tuple(cell)] for cell in cells.tolist()]


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 2)])
def test_torchsparse_backend_equals_the_librarys_own_layers(
    torchsparse: types.SimpleNamespace, kernel: Size, stride: Size
) -> None:
    """What MinkUNet uses, forward and backward: the library builds its own maps, we hand ours in."""
    x = cloud(3, points=90)
    features = x.features.requires_grad_()
    layer = SparseConv3d(3, 4, kernel, stride=stride, bias=False, backend="torchsparse")
    ours = layer(x.with_features(features))
    theirs_layer, order = library_layer(torchsparse, layer)
    given = features.detach().clone().requires_grad_()
    theirs = theirs_layer.train()(library_tensor(torchsparse, x, given))
    rows = rows_of(theirs, ours)
    assert len(rows) == len(theirs.coords)
    assert_close(ours.features, theirs.feats[rows])
    mine = gradients(ours.features, features, layer.weight)
    reference = gradients(theirs.feats[rows], given, theirs_layer.kernel)
    assert_close(mine[0], reference[0])
    assert_close(mine[1][order], reference[1])


def test_torchsparse_backend_equals_the_librarys_transposed_layer(torchsparse: types.SimpleNamespace) -> None:
    x = cloud(3, points=90)
    down = SparseConv3d(3, 4, 2, stride=2, bias=False, backend="torchsparse")
    up = SparseConv3d(4, 5, 2, stride=2, bias=False, transposed=True, backend="torchsparse")
    ours = up(down(x))
    theirs_down, _ = library_layer(torchsparse, down)
    theirs_up, order = library_layer(torchsparse, up, transposed=True)
    source = library_tensor(torchsparse, x, x.features)
    coarse = theirs_down.train()(source)
    with pytest.raises(KeyError, match=r"\(1, 1, 1\)"):
        theirs_up(coarse)  # the library never records the cells that it started from
    source._caches.cmaps[1, 1, 1] = (source.coords, None)
    theirs = theirs_up.train()(coarse)
    rows = rows_of(theirs, ours)
    assert_close(ours.features, theirs.feats[rows])
    assert_close(gradients(ours.features, up.weight)[0][order], gradients(theirs.feats[rows], theirs_up.kernel)[0])


@pytest.mark.parametrize(("kernel", "channels", "stride", "dilation"), LAYERS)
@pytest.mark.parametrize("transposed", [False, True])
def test_torchsparse_backend_equals_reference(
    torchsparse: types.SimpleNamespace, kernel: Size, channels: int, stride: Size, dilation: Size, transposed: bool
) -> None:
    """Kernels, strides and dilations that the library's own layers lack or read otherwise, since the maps are ours."""
    if transposed and stride == 1:
        pytest.skip("a transposed layer has a stride")
    if kernel in (4, 5):
        with pytest.raises(InputError, match="kernels of up to 31 cells"):
            assert_equals_reference("torchsparse", kernel, channels, stride, dilation, transposed)
        return
    assert_equals_reference("torchsparse", kernel, channels, stride, dilation, transposed)


def test_torchsparse_backend_runs_minkunet(torchsparse: types.SimpleNamespace) -> None:
    """Evaluation and a training step; cells on both sides of 0, even highest cells."""
    arguments = {"layers": (1,) * 8, "width": 4, "voxel_size": 0.5}
    torch.manual_seed(0)
    reference = MinkUNet(**arguments)
    other = MinkUNet(**arguments)
    other.load_state_dict(reference.state_dict())
    for layer in other.modules():
        if isinstance(layer, SparseConv3d):
            layer.backend = "torchsparse"
    generator = torch.Generator().manual_seed(3)
    points = torch.cat([torch.randn(150, 3, generator=generator) * 2, torch.rand(150, 1, generator=generator)], 1)
    batch_index = torch.randint(0, 2, (150,), generator=generator)
    with torch.no_grad():
        (expected,) = reference.eval()(points, batch_index)
        (found,) = other.eval()(points, batch_index)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    results = []
    for model in (reference, other):
        model.train()(points, batch_index)[0].square().mean().backward()
        results.append(model.encoder[1].step.conv.weight.grad)
    assert (results[1] - results[0]).abs().max() <= 1e-3 * results[0].abs().max()


def test_torchsparse_backend_takes_an_empty_cloud(torchsparse: types.SimpleNamespace) -> None:
    x, _ = sparse_tensor(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    layer = SparseConv3d(3, 2, backend="torchsparse")
    layer(x).features.sum().backward()
    assert layer.weight.grad.eq(0).all()


def test_torchsparse_backend_follows_torchs_setting_for_tf32(torchsparse: types.SimpleNamespace) -> None:
    x, layer = cloud(3, points=60), SparseConv3d(3, 2, backend="torchsparse")
    layer(x).features.sum().backward()
    assert torchsparse.kernels.precisions == [False] * 3  # forward, and both gradients
    before = torch.get_float32_matmul_precision()
    torchsparse.kernels.precisions.clear()
    try:
        torch.set_float32_matmul_precision("high")
        layer(x)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torchsparse.kernels.precisions == [True]
    assert torchsparse.library.backends.allow_tf32 is True  # its own layers keep their setting


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_torchsparse_backend_refuses_precisions_that_the_library_lacks(
    torchsparse: types.SimpleNamespace, dtype: torch.dtype
) -> None:
    x = cloud(3, points=60)
    with pytest.raises(InputError, match="torchsparse on cpu computes in float32 or float16"):
        SparseConv3d(3, 2, backend="torchsparse").to(dtype)(x.with_features(x.features.to(dtype)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["reference", "spconv", "torchsparse"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 2)])
def test_backends_agree_on_cuda(name: str, kernel: Size, stride: Size) -> None:
    if name not in available_backends("cuda"):
        pytest.skip(f"{name} is not installed")
    x = cloud(16)
    layer = SparseConv3d(16, 32, kernel, stride=stride, backend="reference")
    expected = layer(x).features
    on_gpu, _ = sparse_tensor(x.features.cuda(), x.coordinates.cuda(), x.batch_index.cuda())
    set_backend(layer.cuda(), name)
    out = layer(on_gpu).features
    assert (out.cpu() - expected).abs().max() <= 1e-3 * expected.abs().max()
