"""The optional backends: spconv against its own layers and ours, torchsparse's adapter against a stand-in."""

from __future__ import annotations

import importlib.util
import itertools
import types

import pytest
import torch

import zoo.sparse.backends as backends
from zoo.errors import InputError
from zoo.sparse import SparseConv3d, available_backends, pick_backend, set_backend, sparse_tensor
from zoo.sparse.backends import torchsparse_cell_order

needs_spconv = pytest.mark.skipif(
    importlib.util.find_spec("spconv") is None, reason="spconv is not installed (pip install spconv==2.3.8)"
)


@pytest.fixture
def one_thread():
    """spconv's CPU kernels add to the same row from two threads without a lock."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cloud(channels: int, points: int = 400, samples: int = 2):
    generator = torch.Generator().manual_seed(1)
    cells = torch.randint(-8, 8, (points, 3), generator=generator)
    batch_index = torch.randint(0, samples, (points,), generator=generator)
    features = torch.randn(points, channels, generator=generator)
    return sparse_tensor(features, cells, batch_index)[0]


def gradients(value, *inputs):
    weights = torch.linspace(-1, 1, value.numel()).reshape(value.shape).cos()
    return torch.autograd.grad((value * weights).sum(), inputs)


def assert_close(actual, expected):
    assert (actual - expected).abs().max() <= 2e-5 * expected.abs().max()


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
def test_reference_equals_spconvs_own_layers(one_thread, kernel, channels, stride, dilation):
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
def test_reference_equals_spconvs_inverse_layer(one_thread):
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
def test_spconv_backend_equals_reference(one_thread, kernel, channels, stride, dilation, transposed):
    if transposed and stride == 1:
        pytest.skip("a transposed layer has a stride")
    x = cloud(channels)
    if transposed:
        x = SparseConv3d(channels, channels, kernel, stride=stride, dilation=dilation)(x)
        x = x.with_features(x.features.detach())
    x = x.with_features(x.features.requires_grad_())
    layer = SparseConv3d(channels, 6, kernel, stride=stride, dilation=dilation, transposed=transposed)
    results = []
    for name in ("reference", "spconv"):
        set_backend(layer, name)
        out = layer(x).features
        results.append((out, *gradients(out, x.features, layer.weight)))
    for one, other in zip(*results):
        assert_close(other, one)


@needs_spconv
def test_spconv_backend_takes_an_empty_cloud(one_thread):
    x, _ = sparse_tensor(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    layer = SparseConv3d(3, 2, backend="spconv")
    layer(x).features.sum().backward()
    assert layer.weight.grad.eq(0).all()


@needs_spconv
def test_spconv_backend_refuses_two_threads_and_half_precision(one_thread):
    layer = SparseConv3d(3, 2, backend="spconv")
    half = cloud(3)
    half = half.with_features(half.features.bfloat16())
    with pytest.raises(InputError, match="takes float32 or float64"):
        layer.bfloat16()(half)
    torch.set_num_threads(2)
    with pytest.raises(InputError, match="wrong sums on a CPU with more than one thread"):
        SparseConv3d(3, 2, backend="spconv")(cloud(3))


def formula_weight(cells: int, channels: int, out_channels: int) -> torch.Tensor:
    i = torch.arange(cells * channels * out_channels, dtype=torch.float64)
    return torch.cos(0.37 * i + 0.01 * i * i / len(i)).float().reshape(cells, channels, out_channels)


def test_golden_values_of_spconv():
    """Numbers that spconv 2.3.8's own layers gave (CPU, one thread, Native) for the same formulas, so that CI compares
    with an independent implementation where it is not installed: sum, sum weighed by cos(position), largest."""
    n = torch.arange(60, dtype=torch.float64)
    cells = torch.stack([(7 * n) % 9, (5 * n) % 8, (3 * n * n + n) % 7], 1).long()
    features = torch.sin(1 + 0.7 * n[:, None] + 1.3 * torch.arange(3)).float()
    x, _ = sparse_tensor(features, cells)

    def layer(channels, out_channels, kernel, **options):
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
        assert got == pytest.approx(expected, abs=2e-4), name


# --- choice -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch):
    names = {"reference"}
    monkeypatch.setattr(backends, "_installed", lambda name: name in names)
    return names


def test_auto_picks_what_is_installed_and_fits(installed):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert pick_backend("auto", cpu) == pick_backend("auto", cuda) == "reference"
    installed |= {"spconv", "torchsparse"}
    assert pick_backend("auto", cpu) == "reference"
    assert pick_backend("auto", cuda) == "spconv"
    assert available_backends("cpu") == ["reference", "spconv"]
    assert available_backends("cuda") == ["reference", "spconv", "torchsparse"]
    installed -= {"spconv"}
    assert pick_backend("auto", cuda) == "reference", "an experimental backend is never picked by itself"


@pytest.mark.parametrize(
    ("name", "has", "message"),
    [
        ("spconv", set(), "spconv is not installed; available here: reference"),
        ("torchsparse", {"torchsparse"}, "torchsparse does not run on cpu"),
        ("spcomv", set(), "unknown backend 'spcomv'.*closest: spconv"),
    ],
)
def test_unavailable_backends(installed, name, has, message):
    installed |= has
    with pytest.raises(InputError, match=message):
        SparseConv3d(3, 2, backend=name)(cloud(3))
    with pytest.raises(InputError, match=message):
        set_backend(SparseConv3d(3, 2), name)


# --- torchsparse ------------------------------------------------------------------------------------------------------


def test_torchsparse_cell_order():
    """x fastest for an odd number of cells, z fastest for an even one; by hand for 3x3x3 and 2x2x2."""
    order = torchsparse_cell_order((3, 3, 3))
    # Its second cell is (0, -1, -1): x moved by one, so ours 9 further on. Its fourth is (-1, 0, -1): ours 3.
    assert order[:4] == [0, 9, 18, 3]
    assert order[13] == 13
    assert sorted(order) == list(range(27))
    assert torchsparse_cell_order((2, 2, 2)) == list(range(8))
    # 1x3x3 has 9 cells: y fastest, since x has one cell only.
    assert torchsparse_cell_order((1, 3, 3)) == [0, 3, 6, 1, 4, 7, 2, 5, 8]


class StandInTensor:
    """As much of torchsparse's tensor as the adapter uses."""

    def __init__(self, feats, coords, stride=1):
        assert coords.dtype == torch.int32
        assert coords.min() >= 0
        self.feats, self.coords, self._caches = feats, coords, {}
        self.stride = (stride,) * 3 if isinstance(stride, int) else stride


def stand_in_conv3d(input, weight, kernel_size, bias=None, stride=1, transposed=False, training=False):
    """What torchsparse documents, by brute force, with its own order of kernel cells and of output rows."""
    ranges = [range(-((k - 1) // 2), k // 2 + 1) for k in kernel_size]
    odd = kernel_size[0] * kernel_size[1] * kernel_size[2] % 2 == 1
    if odd:
        offsets = [(x, y, z) for z, y, x in itertools.product(*reversed(ranges))]
    else:
        offsets = list(itertools.product(*ranges))
    if transposed:
        fine, coarse = input._caches["fine"], input.coords
    else:
        fine = input.coords
        cells = {(b, *(v // s for v, s in zip(c, stride))) for b, *c in fine.tolist()}
        # Rows in an order of its own, as a hash map would give.
        coarse = fine if stride == (1, 1, 1) else torch.tensor(sorted(cells, key=lambda c: (c[3] * 7 + c[1] * 5) % 11))
    row = {tuple(c): i for i, c in enumerate(fine.tolist())}
    out = weight.new_zeros(len(fine) if transposed else len(coarse), weight.shape[2])
    for o, (b, *c) in enumerate(coarse.tolist()):
        for matrix, offset in zip(weight, offsets):
            i = row.get((b, *(v * s + d for v, s, d in zip(c, stride, offset))))
            if i is not None and transposed:
                out[i] += input.feats[o] @ matrix
            elif i is not None:
                out[o] += input.feats[i] @ matrix
    result = StandInTensor(out, (fine if transposed else coarse).int(), stride)
    result._caches = {"fine": fine}
    return result


@pytest.fixture
def stand_in(monkeypatch):
    functional = types.SimpleNamespace(conv3d=stand_in_conv3d)
    library = types.SimpleNamespace(SparseTensor=StandInTensor, nn=types.SimpleNamespace(functional=functional))
    monkeypatch.setattr(backends, "_torchsparse_module", lambda: library)
    monkeypatch.setattr(backends, "_installed", lambda name: True)
    monkeypatch.setitem(backends._DEVICES, "torchsparse", ("cpu",))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (2, 2), (3, 3), ((1, 3, 3), 1)])
def test_torchsparse_adapter(stand_in, kernel, stride):
    """Weights, coordinates and rows reach the library and come back in our order; not the library itself."""
    x = cloud(3, points=90)
    down = SparseConv3d(3, 4, kernel, stride=stride, bias=False)
    up = SparseConv3d(4, 2, kernel, stride=stride, bias=False, transposed=stride != 1)
    with torch.no_grad():
        expected = down(x), up(down(x))
        set_backend(down, "torchsparse")
        set_backend(up, "torchsparse")
        coarse = down(x)
        assert_close(coarse.features, expected[0].features)
        assert_close(up(coarse).features, expected[1].features)
        # A transposed layer whose twin has not run: the map is made for it.
        fresh = cloud(3, points=90)
        set_backend(down, "reference")
        assert_close(up(down(fresh)).features, expected[1].features)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 2), (3, 2, 1), (4, 2, 1)])
def test_torchsparse_adapter_refuses_what_the_library_reads_otherwise(stand_in, kernel, stride, dilation):
    layer = SparseConv3d(3, 4, kernel, stride=stride, dilation=dilation, backend="torchsparse")
    with pytest.raises(InputError, match="torchsparse has no kernel"):
        layer(cloud(3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["reference", "spconv", "torchsparse"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 2)])
def test_backends_agree_on_cuda(name, kernel, stride):
    if name not in available_backends("cuda"):
        pytest.skip(f"{name} is not installed")
    x = cloud(16)
    layer = SparseConv3d(16, 32, kernel, stride=stride, backend="reference")
    expected = layer(x).features
    on_gpu, _ = sparse_tensor(x.features.cuda(), x.coordinates.cuda(), x.batch_index.cuda())
    set_backend(layer.cuda(), name)
    out = layer(on_gpu).features
    assert (out.cpu() - expected).abs().max() <= 1e-3 * expected.abs().max()
