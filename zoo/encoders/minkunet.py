"""MinkUNet: a residual U-Net of sparse convolutions on voxels, with features mapped back to points.

Four strided stages down, four transposed stages up with skip connections, residual blocks of two 3x3x3 convolutions.
It exists in two published forms. mmdetection3d's has two convolutions in the stem, reads xyz and intensity, and rounds
points to the nearest cell, counted from the lowest cell of the sweep. SLidR's has one convolution in the stem, reads
intensity alone on a cylindrical grid, and adds 1 to the intensity on SemanticKITTI.

Sources: Choy et al., "4D Spatio-Temporal ConvNets: Minkowski Convolutional Neural Networks" (2019), for the family;
mmdetection3d (Apache-2.0) and SLidR (Apache-2.0; its network file MIT) for planes, layers, stems, momenta, voxels, and
the names and layouts of parameters in their checkpoints. Facts only; nothing is ported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.encoders import POINTS, resolve_indices
from zoo.errors import InputError, closest
from zoo.geometry.voxels import Grid, Rounding, cells_from_lowest, cells_of
from zoo.inputs.points import POINT_CHANNELS, point_tensors
from zoo.sparse.backends import BackendName, check_backend_name
from zoo.sparse.layers import ConvBlock, SparseConv3d, set_backend
from zoo.sparse.maps import ONE, check_tensors
from zoo.sparse.tensor import Reduction, SparseTensor, cat, sparse_tensor

__all__ = ["VARIANTS", "MinkUNet", "rename_mmdet3d", "rename_slidr"]

_LAYERS_34 = (2, 3, 4, 6, 2, 2, 2, 2)
_LAYERS_18 = (2, 2, 2, 2, 2, 2, 2, 2)
_MMDET3D = {"rounding": "nearest", "from_lowest": True}
_SLIDR = {
    "layers": _LAYERS_34,
    "width": 32,
    "stem_convolutions": 1,
    "channels": ("intensity",),
    "grid": "cylindrical",
    "voxel_size": (0.1, 1.0, 0.1),
    "momentum": 0.05,
    "block_momentum": 0.1,
}

VARIANTS: dict[str, dict] = {
    "minkunet34-w32": {"layers": _LAYERS_34, "width": 32, **_MMDET3D},
    "minkunet18-w32": {"layers": _LAYERS_18, "width": 32, **_MMDET3D},
    "minkunet18-w20": {
        "layers": _LAYERS_18,
        "width": 20,
        "planes": (20, 40, 81, 163, 163, 81, 61, 61),
        **_MMDET3D,
    },
    "minkunet18-w16": {"layers": _LAYERS_18, "width": 16, **_MMDET3D},
    "minkunet34-slidr": _SLIDR,
    "minkunet34-slidr-kitti": {**_SLIDR, "intensity_offset": 1.0},
}
"""Constructor arguments by name; anything a row omits is the constructor's default."""

PLANES = (32, 64, 128, 256, 256, 128, 96, 96)
"""Channels of the eight stages at width 32."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_channels(channels: Sequence[str], point_channels: Sequence[str]) -> None:
    for name, names in (("channels", channels), ("point_channels", point_channels)):
        # A lone string would pass for a sequence of names.
        good = isinstance(names, Sequence) and not isinstance(names, str) and len(names) > 0
        if not good or not all(isinstance(part, str) for part in names) or len(set(names)) != len(names):
            raise InputError(f"{name} {names!r} are not names of columns, each once; for example {POINT_CHANNELS}")
    if tuple(point_channels[:3]) != ("x", "y", "z"):
        raise InputError(f"point_channels {point_channels!r} do not start with x, y, z")
    for channel in channels:
        if channel not in point_channels:
            known = ", ".join(point_channels)
            raise InputError(
                f"the points have no channel {channel!r}; they have {known}{closest(channel, point_channels)}"
            )


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with a shortcut; a 1x1x1 convolution on it where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, momentum: float, block_momentum: float) -> None:
        super().__init__()
        self.first = ConvBlock(SparseConv3d(in_channels, out_channels, 3, bias=False), momentum=block_momentum)
        self.second = ConvBlock(SparseConv3d(out_channels, out_channels, 3, bias=False), momentum=block_momentum)
        shortcut = SparseConv3d(in_channels, out_channels, 1, bias=False)
        self.shortcut = ConvBlock(shortcut, relu=False, momentum=momentum) if in_channels != out_channels else None

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features on the same voxels."""
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.second(self.first(x), residual)


class Stage(nn.Module):
    """One step of the U: a 2x2x2 convolution of stride 2, down or up, then residual blocks."""

    def __init__(
        self,
        in_channels: int,
        middle: int,
        skip: int,
        out_channels: int,
        layers: int,
        *,
        up: bool,
        momentum: float,
        block_momentum: float,
    ) -> None:
        super().__init__()
        step = SparseConv3d(in_channels, middle, 2, stride=2, bias=False, transposed=up)
        self.step = ConvBlock(step, momentum=momentum)
        widths = [middle + skip] + [out_channels] * layers
        self.blocks = nn.Sequential(
            *(ResidualBlock(a, out_channels, momentum, block_momentum) for a in widths[:layers])
        )

    def forward(self, x: SparseTensor, skip: SparseTensor | None = None) -> SparseTensor:
        """Features at the next stride."""
        x = self.step(x)
        return self.blocks(x if skip is None else cat([x, skip]))


class MinkUNet(nn.Module):
    """Features of every point from a sparse U-Net on voxels.

    Args:
        layers: Residual blocks of the four stages down and the four up.
        width: Channels of the stem; the stages keep their ratio to it.
        planes: Channels of the eight stages, where they do not.
        channels: What a voxel gets of its points, by name: xyz and intensity, or intensity alone.
        point_channels: Columns of the points, as in `Sweep.channels`; x, y and z come first.
        stem_convolutions: 3x3x3 convolutions before the first stage: 2 (mmdetection3d's form) or 1 (SLidR's).
        voxel_size: Metres, one number or three; for a cylindrical grid rho, phi in degrees, z.
        grid: `cartesian` or `cylindrical` (`zoo.geometry.voxels`).
        rounding: `floor`, or `nearest` as in mmdetection3d.
        from_lowest: Count cells from the lowest one of each sample along each axis, as mmdetection3d does. The strided
            stages then start there, so features depend on where the sweep ends.
        reduce: How the points of a voxel become its input: `first` or `mean`.
        intensity_offset: Added to the intensity; SLidR adds 1 on SemanticKITTI.
        decoder: False stops after the stages down: the features of stride 16, 256 channels at width 32.
        momentum: Of the batch norms.
        block_momentum: Of the norms after the two convolutions of a residual block, where it differs (SLidR).
        backend: Which sparse convolution to use (`zoo.sparse.backends`).

    Attributes:
        inputs: `points` and `batch_index` (`zoo.inputs.points.point_tensors`).
        axes: `POINTS`.
        out_channels: One entry, the channels of a point's feature.
        strides: One entry: 1 voxel per feature, or 16 without decoder.

    Raises:
        InputError: For settings that do not fit together.
    """

    axes = POINTS

    def __init__(
        self,
        *,
        layers: tuple[int, ...] = (2, 3, 4, 6, 2, 2, 2, 2),
        width: int = 32,
        planes: tuple[int, ...] | None = None,
        channels: tuple[str, ...] = POINT_CHANNELS,
        point_channels: tuple[str, ...] = POINT_CHANNELS,
        stem_convolutions: int = 2,
        voxel_size: float | tuple[float, float, float] = 0.05,
        grid: Grid = "cartesian",
        rounding: Rounding = "floor",
        from_lowest: bool = False,
        reduce: Literal["first", "mean"] = "first",
        intensity_offset: float = 0.0,
        decoder: bool = True,
        momentum: float = 0.1,
        block_momentum: float | None = None,
        backend: BackendName = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(layers, Sequence) or len(layers) != 8 or not all(_is_count(count) for count in layers):
            raise InputError(f"layers {layers!r} are not eight integers of at least 1: four stages down, four up")
        if not _is_count(width):
            raise InputError(f"width {width!r} is not a positive integer")
        planes = tuple(width * plane // 32 for plane in PLANES) if planes is None else planes
        if not isinstance(planes, Sequence) or len(planes) != 8 or not all(_is_count(plane) for plane in planes):
            raise InputError(f"planes {planes!r} are not eight channel counts: four stages down, four up")
        _check_channels(channels, point_channels)
        if reduce not in ("first", "mean"):
            raise InputError(f"unknown reduction {reduce!r}; known: first, mean")
        if not _is_count(stem_convolutions) or stem_convolutions > 2:
            raise InputError(f"stem_convolutions {stem_convolutions!r} is neither 1 nor 2")
        for name, flag in (("from_lowest", from_lowest), ("decoder", decoder)):
            if not isinstance(flag, bool):
                raise InputError(f"{name} {flag!r} is neither True nor False")
        if not _is_finite(intensity_offset):
            raise InputError(f"intensity_offset {intensity_offset!r} is not a finite number")
        check_backend_name(backend)
        # Refuses a size that does not fit the grid now, before the first sweep does.
        cells_of(np.zeros((0, 3)), voxel_size, grid, rounding)
        self.channels, self.point_channels, self.voxel_size = tuple(channels), tuple(point_channels), voxel_size
        self.inputs = point_tensors(self.point_channels)
        self.grid: Grid = grid
        self.rounding: Rounding = rounding
        self.from_lowest = from_lowest
        self.intensity_offset = float(intensity_offset)
        self.reduce: Reduction = reduce
        momenta = {"momentum": momentum, "block_momentum": momentum if block_momentum is None else block_momentum}

        widths = [len(self.channels)] + [width] * stem_convolutions
        self.stem = nn.Sequential(
            *(ConvBlock(SparseConv3d(a, width, 3, bias=False), momentum=momentum) for a in widths[:-1])
        )
        inputs = [width, *planes[:3]]
        self.encoder = nn.ModuleList(
            Stage(inputs[i], inputs[i], 0, planes[i], layers[i], up=False, **momenta) for i in range(4)
        )
        skips = inputs[::-1]
        ups = range(4, 8) if decoder else ()
        self.decoder = nn.ModuleList(
            Stage(planes[i - 1], planes[i], skips[i - 4], planes[i], layers[i], up=True, **momenta) for i in ups
        )
        self.out_channels: tuple[int, ...] = (planes[7 if decoder else 3],)
        self.strides: tuple[int, ...] = (1 if decoder else 16,)
        set_backend(self, backend)

    def voxelise(
        self, points: Float[Tensor, "N C"], batch_index: Int[Tensor, " N"], batch_size: int | None = None
    ) -> tuple[SparseTensor, Int[Tensor, " N"]]:
        """The voxels of the points, and the voxel of each point.

        Raises:
            InputError: For points with other columns than `point_channels`, not finite ones, or ones too far away.
        """
        check_tensors(points=points, batch_index=batch_index)
        if points.ndim != 2 or points.shape[1] != len(self.point_channels):
            raise InputError(
                f"points of shape {tuple(points.shape)} do not have the columns {', '.join(self.point_channels)};"
                " name others with point_channels"
            )
        cells = cells_of(points, self.voxel_size, self.grid, self.rounding)
        if self.from_lowest:
            cells = cells_from_lowest(cells, batch_index)
        offset = points.new_tensor([self.intensity_offset * (channel == "intensity") for channel in self.channels])
        columns = [self.point_channels.index(channel) for channel in self.channels]
        values = (points[:, columns] + offset).to(next(self.parameters()).dtype)
        return sparse_tensor(values, cells, batch_index, batch_size=batch_size, reduce=self.reduce)

    def forward_voxels(self, x: SparseTensor) -> SparseTensor:
        """Features of the voxels, or of those at stride 16 without decoder.

        Args:
            x: `(M, len(channels))` features on voxels.
        """
        return self.forward_stages(x)[-1]

    def forward_stages(self, x: SparseTensor) -> list[SparseTensor]:
        """Features after every stage, those down first; arguments as for `forward_voxels`."""
        x = self.stem(x)
        skips, stages = [], []
        for stage in self.encoder:
            skips.append(x)
            x = stage(x)
            stages.append(x)
        for stage in self.decoder:
            x = stage(x, skips.pop())
            stages.append(x)
        return stages

    def forward_intermediates(
        self,
        points: Float[Tensor, "N C"],
        batch_index: Int[Tensor, " N"],
        *,
        indices: tuple[int, ...] | None = None,
    ) -> list[Float[Tensor, "N D"]]:
        """Features of the points after the stages `indices`, by default the last one.

        A point gets the feature of the voxel that holds it at the stage's stride.

        Raises:
            InputError: If a stage does not exist.
        """
        count = len(self.encoder) + len(self.decoder)
        wanted = resolve_indices((-1,) if indices is None else indices, count, "stages")
        voxels, point_to_voxel = self.voxelise(points, batch_index)
        stages = self.forward_stages(voxels)
        return [_at_points(stages[i], point_to_voxel) for i in wanted]

    def forward_features(
        self, points: Float[Tensor, "N C"], batch_index: Int[Tensor, " N"]
    ) -> list[Float[Tensor, "N D"]]:
        """One level: a feature per point, in the order of the points.

        Args:
            points: The columns `point_channels`; xyz in metres in the lidar frame.
            batch_index: The sample of each point.
        """
        return self.forward_intermediates(points, batch_index)

    def forward(self, points: Float[Tensor, "N C"], batch_index: Int[Tensor, " N"]) -> list[Float[Tensor, "N D"]]:
        """Same as `forward_features`."""
        return self.forward_features(points, batch_index)


def _at_points(level: SparseTensor, point_to_voxel: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
    """The feature of each point, from its voxel at the input's stride."""
    fine, rows = ONE, point_to_voxel
    while fine != level.stride:
        rows = level.context.parents(fine, (2, 2, 2)).index_select(0, rows)
        fine = (2 * fine[0], 2 * fine[1], 2 * fine[2])
    return level.features.index_select(0, rows)


def rename_mmdet3d(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names and layout for a MinkUNet checkpoint of mmdetection3d, whichever of its three libraries made it.

    The form is read from the keys: torchsparse, spconv 2 or MinkowskiEngine. Keys outside the network, such as those of
    the segmentation head, are omitted. A checkpoint of `MinkUNetBackboneV2` holds the same network; what differs is its
    head, which also reads two coarser levels interpolated at the points, and this encoder does not compute those.

    Raises:
        InputError: If no MinkUNet is recognised, the checkpoint is an SPVCNN, or a kernel has an unknown layout.
    """
    keys = list(state)
    if any(".point_transforms." in f".{key}" for key in keys):
        raise InputError("this is a checkpoint of SPVCNN, whose branch on points MinkUNet does not have")
    if any(re.search(r"\.conv1\.weight$", key) for key in keys):
        return _renamed(state, _mmdet3d_spconv_place, _from_spconv)
    if any(".bn." in key for key in keys):
        return _renamed(state, _mmdet3d_minkowski_place, _from_minkowski)
    return _renamed(state, _mmdet3d_torchsparse_place, _from_torchsparse)


def rename_slidr(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names and layout for a MinkUNet checkpoint of SLidR (MinkowskiEngine layers).

    Its last 1x1x1 convolution, `final`, is a head and is omitted.

    Raises:
        InputError: If no MinkUNet is recognised, or a kernel has an unknown layout.
    """
    return _renamed(state, _slidr_place, _from_minkowski)


def _renamed(
    state: Mapping[str, Tensor], place: Callable[[str], str | None], our_layout: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        where, _, last = key.removeprefix("module.").removeprefix("backbone.").rpartition(".")
        if (name := place(where)) is None:
            continue
        if name.endswith(".norm"):
            renamed[f"{name}.bn.{last}"] = value
        else:
            renamed[f"{name}.weight"] = our_layout(value)
    if not renamed:
        examples = ", ".join(list(state)[:3]) or "none"
        raise InputError(f"no weight of a MinkUNet is recognised among the {len(state)} keys given (first: {examples})")
    return renamed


# --- kernel layouts ---------------------------------------------------------------------------------------------------
#
# Ours is (K, in, out) with z fastest. Nothing in a checkpoint says which order its kernels have, and a wrong one loads
# without an error, so tests/data/minkunet holds outputs of the upstream networks for each of these.


def _from_minkowski(kernel: Tensor) -> Tensor:
    """`(K, in, out)` with x fastest for every size; one cell has no first axis."""
    if kernel.ndim == 2:
        return kernel[None]
    size = _cube_side(kernel)
    return kernel.reshape(size, size, size, *kernel.shape[1:]).permute(2, 1, 0, 3, 4).reshape(kernel.shape)


def _from_torchsparse(kernel: Tensor) -> Tensor:
    """`(K, in, out)` with x fastest if the kernel has an odd number of cells and z fastest otherwise."""
    return kernel if kernel.ndim == 3 and len(kernel) % 2 == 0 else _from_minkowski(kernel)


def _from_spconv(kernel: Tensor) -> Tensor:
    """`(out, x, y, z, in)`, except that one cell holds `(in, out)` in that shape.

    spconv multiplies by a kernel of one cell without unrolling it: its code views the memory as (in, out).
    """
    if kernel.ndim != 5 or len(set(kernel.shape[1:4])) != 1:
        raise InputError(
            f"a kernel of shape {tuple(kernel.shape)} is not (out, x, y, z, in), the layout of spconv 2;"
            " save the checkpoint with spconv 2"
        )
    out_channels, in_channels = kernel.shape[0], kernel.shape[4]
    if kernel.shape[1] == 1:
        return kernel.reshape(1, in_channels, out_channels)
    return kernel.permute(1, 2, 3, 4, 0).reshape(-1, in_channels, out_channels)


def _cube_side(kernel: Tensor) -> int:
    side = round(len(kernel) ** (1 / 3))
    if kernel.ndim != 3 or side**3 != len(kernel):
        raise InputError(f"a kernel of shape {tuple(kernel.shape)} is not (cells of a cube, in, out)")
    return side


# --- names ------------------------------------------------------------------------------------------------------------

_PARTS = ("conv", "norm")
_TORCHSPARSE_BLOCK = {
    "net.0": "first.conv",
    "net.1": "first.norm",
    "net.3": "second.conv",
    "net.4": "second.norm",
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.norm",
}
_SPCONV_BLOCK = {
    "conv1": "first.conv",
    "bn1": "first.norm",
    "conv2": "second.conv",
    "bn2": "second.norm",
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.norm",
}
_MINKOWSKI_BLOCK = {
    "conv1": "first.conv",
    "norm1.bn": "first.norm",
    "conv2": "second.conv",
    "norm2.bn": "second.norm",
    "downsample.net.0": "shortcut.conv",
    "downsample.net.1.bn": "shortcut.norm",
}
_SLIDR_BLOCK = {
    "conv1": "first.conv",
    "norm1.bn": "first.norm",
    "conv2": "second.conv",
    "norm2.bn": "second.norm",
    "downsample.0": "shortcut.conv",
    "downsample.1.bn": "shortcut.norm",
}


def _mmdet3d_torchsparse_place(name: str) -> str | None:
    return _mmdet3d_place(name, r"\.net\.([01])", _TORCHSPARSE_BLOCK)


def _mmdet3d_spconv_place(name: str) -> str | None:
    return _mmdet3d_place(name, r"\.([01])", _SPCONV_BLOCK)


def _mmdet3d_minkowski_place(name: str) -> str | None:
    return _mmdet3d_place(name, r"\.net\.([01])(?:\.bn)?", _MINKOWSKI_BLOCK)


def _mmdet3d_place(name: str, part: str, block: Mapping[str, str]) -> str | None:
    """Our name of a layer, given how a convolution followed by a norm and how a residual block name their layers."""
    if match := re.fullmatch(rf"conv_input\.(\d){part}", name):
        return f"stem.{match[1]}.{_PARTS[int(match[2])]}"
    if match := re.fullmatch(rf"(encoder|decoder)\.(\d)\.0{part}", name):
        return f"{match[1]}.{match[2]}.step.{_PARTS[int(match[3])]}"
    # A stage down lists its blocks after the strided layer; a stage up has them in a list of their own.
    if (match := re.fullmatch(r"encoder\.(\d)\.(\d+)\.(.+)", name)) and match[3] in block:
        return f"encoder.{match[1]}.blocks.{int(match[2]) - 1}.{block[match[3]]}"
    if (match := re.fullmatch(r"decoder\.(\d)\.1\.(\d+)\.(.+)", name)) and match[3] in block:
        return f"decoder.{match[1]}.blocks.{match[2]}.{block[match[3]]}"
    return None


def _slidr_place(name: str) -> str | None:
    if match := re.fullmatch(r"(?:(conv)0p1s1|bn0\.bn)", name):
        return f"stem.0.{match[1] or 'norm'}"
    if match := re.fullmatch(r"(?:(conv)([1-4])p\d+s2|bn([1-4])\.bn)", name):
        return f"encoder.{int(match[2] or match[3]) - 1}.step.{match[1] or 'norm'}"
    if match := re.fullmatch(r"(?:(conv)tr([4-7])p\d+s2|bntr([4-7])\.bn)", name):
        return f"decoder.{int(match[2] or match[3]) - 4}.step.{match[1] or 'norm'}"
    if (match := re.fullmatch(r"block([1-8])\.(\d+)\.(.+)", name)) and match[3] in _SLIDR_BLOCK:
        stage = int(match[1]) - 1
        side = f"encoder.{stage}" if stage < 4 else f"decoder.{stage - 4}"
        return f"{side}.blocks.{match[2]}.{_SLIDR_BLOCK[match[3]]}"
    return None
