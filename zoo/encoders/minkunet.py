"""MinkUNet: a residual U-Net of sparse convolutions on voxels, with features mapped back to points.

Four strided stages down, four transposed stages up with skip connections, residual blocks of two 3x3x3 convolutions.
It exists in two published forms, which differ in the stem only: two convolutions on four inputs (mmdetection3d), or one
convolution on intensity alone (SLidR).

Sources: Choy et al., "4D Spatio-Temporal ConvNets: Minkowski Convolutional Neural Networks" (2019), for the family;
mmdetection3d (Apache-2.0) and SLidR (Apache-2.0; its network file MIT) for planes, layers, stems and the names of
parameters in their checkpoints. Facts only; nothing is ported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.geometry.voxels import Grid, cells_of
from zoo.sparse.backends import BackendName, check_backend_name, torchsparse_cell_order
from zoo.sparse.layers import ConvBlock, SparseConv3d, set_backend
from zoo.sparse.maps import ONE
from zoo.sparse.tensor import Reduction, SparseTensor, cat, sparse_tensor

__all__ = ["VARIANTS", "MinkUNet", "rename_mmdet3d", "rename_slidr"]

VARIANTS: dict[str, dict] = {
    "minkunet34-w32": {"layers": (2, 3, 4, 6, 2, 2, 2, 2), "width": 32},
    "minkunet18-w32": {"layers": (2, 2, 2, 2, 2, 2, 2, 2), "width": 32},
    "minkunet18-w16": {"layers": (2, 2, 2, 2, 2, 2, 2, 2), "width": 16},
    "minkunet34-slidr": {
        "layers": (2, 3, 4, 6, 2, 2, 2, 2),
        "width": 32,
        "stem_convolutions": 1,
        "in_columns": (3,),
        "grid": "cylindrical",
        "voxel_size": (0.1, 1.0, 0.1),
        "momentum": 0.05,
    },
}
"""Constructor arguments by name; what a row leaves out is the constructor's default."""

PLANES = (32, 64, 128, 256, 256, 128, 96, 96)
"""Channels of the eight stages at width 32."""


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with a shortcut; a 1x1x1 convolution on it where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, momentum: float) -> None:
        super().__init__()
        self.first = ConvBlock(SparseConv3d(in_channels, out_channels, 3, bias=False), momentum=momentum)
        self.second = ConvBlock(SparseConv3d(out_channels, out_channels, 3, bias=False), momentum=momentum)
        shortcut = SparseConv3d(in_channels, out_channels, 1, bias=False)
        self.shortcut = ConvBlock(shortcut, relu=False, momentum=momentum) if in_channels != out_channels else None

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features on the same voxels."""
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.second(self.first(x), residual)


class Stage(nn.Module):
    """One step of the U: a 2x2x2 convolution of stride 2, down or up, then residual blocks."""

    def __init__(
        self, in_channels: int, middle: int, skip: int, out_channels: int, layers: int, up: bool, momentum: float
    ) -> None:
        super().__init__()
        step = SparseConv3d(in_channels, middle, 2, stride=2, bias=False, transposed=up)
        self.step = ConvBlock(step, momentum=momentum)
        widths = [middle + skip] + [out_channels] * layers
        self.blocks = nn.Sequential(*(ResidualBlock(a, out_channels, momentum) for a in widths[:layers]))

    def forward(self, x: SparseTensor, skip: SparseTensor | None = None) -> SparseTensor:
        """Features at the next stride."""
        x = self.step(x)
        return self.blocks(x if skip is None else cat([x, skip]))


class MinkUNet(nn.Module):
    """Features of every point from a sparse U-Net on voxels.

    Args:
        layers: Residual blocks of the four stages down and the four up.
        width: Channels of the first stage; the others keep their ratio to it.
        in_columns: Columns of the points that a voxel gets, reduced over its points: xyz and intensity, or intensity
            alone.
        stem_convolutions: 3x3x3 convolutions before the first stage: 2 (mmdetection3d's form) or 1 (SLidR's).
        voxel_size: Metres, one number or three; for a cylindrical grid rho, phi in degrees, z.
        grid: `cartesian` or `cylindrical` (`zoo.geometry.voxels`).
        reduce: How the points of a voxel become its input: `first` or `mean`.
        decoder: False stops after the stages down: the features of stride 16, 256 channels at width 32.
        momentum: Of the batch norms.
        backend: Which sparse convolution to use (`zoo.sparse.backends`).

    Attributes:
        out_channels: One entry, the channels of a point's feature.
        strides: One entry: 1 voxel per feature, or 16 without decoder.

    Raises:
        InputError: For settings that do not fit together.
    """

    def __init__(
        self,
        *,
        layers: tuple[int, ...] = (2, 3, 4, 6, 2, 2, 2, 2),
        width: int = 32,
        in_columns: tuple[int, ...] = (0, 1, 2, 3),
        stem_convolutions: int = 2,
        voxel_size: float | tuple[float, float, float] = 0.05,
        grid: Grid = "cartesian",
        reduce: Literal["first", "mean"] = "first",
        decoder: bool = True,
        momentum: float = 0.1,
        backend: BackendName = "auto",
    ) -> None:
        super().__init__()
        if len(layers) != 8 or any(not isinstance(count, int) or count < 1 for count in layers):
            raise InputError(f"layers {layers} are not eight counts of at least 1: four stages down, four up")
        if not isinstance(width, int) or width < 1:
            raise InputError(f"width {width} is no positive number of channels")
        if not in_columns or any(not isinstance(column, int) or column < 0 for column in in_columns):
            raise InputError(
                f"in_columns {in_columns} are not columns of the points, counted from 0; give at least one"
            )
        if reduce not in ("first", "mean"):
            raise InputError(f"unknown reduction {reduce!r}; known: first, mean")
        if stem_convolutions not in (1, 2):
            raise InputError(f"stem_convolutions {stem_convolutions} is neither 1 nor 2")
        check_backend_name(backend)
        self.in_columns, self.voxel_size, self.grid = tuple(in_columns), voxel_size, grid
        self.reduce: Reduction = reduce
        cells_of(np.zeros((0, 3)), voxel_size, grid)  # refuses a size that does not fit the grid, here and not later
        planes = [width * plane // 32 for plane in PLANES]

        widths = [len(self.in_columns)] + [width] * stem_convolutions
        self.stem = nn.Sequential(
            *(ConvBlock(SparseConv3d(a, width, 3, bias=False), momentum=momentum) for a in widths[:-1])
        )
        inputs = [width, *planes[:3]]
        self.encoder = nn.ModuleList(
            Stage(inputs[i], inputs[i], 0, planes[i], layers[i], up=False, momentum=momentum) for i in range(4)
        )
        skips = inputs[::-1]
        ups = range(4, 8) if decoder else ()
        self.decoder = nn.ModuleList(
            Stage(planes[i - 1], planes[i], skips[i - 4], planes[i], layers[i], up=True, momentum=momentum) for i in ups
        )
        self.out_channels: tuple[int, ...] = (planes[7 if decoder else 3],)
        self.strides: tuple[int, ...] = (1 if decoder else 16,)
        set_backend(self, backend)

    def voxelise(
        self, points: Float[Tensor, "N C"], batch_index: Int[Tensor, " N"], batch_size: int | None = None
    ) -> tuple[SparseTensor, Int[Tensor, " N"]]:
        """The voxels of the points, and the voxel of each point.

        Raises:
            InputError: For points without the columns that the model reads, not finite ones, or ones too far away.
        """
        if points.ndim != 2 or points.shape[1] <= max(*self.in_columns, 2):
            columns = max(*self.in_columns, 2) + 1
            raise InputError(f"points of shape {tuple(points.shape)} lack columns; the model reads the first {columns}")
        cells = cells_of(points, self.voxel_size, self.grid)
        values = points[:, list(self.in_columns)].to(next(self.parameters()).dtype)
        return sparse_tensor(values, cells, batch_index, batch_size=batch_size, reduce=self.reduce)

    def forward_voxels(self, x: SparseTensor) -> SparseTensor:
        """Features of the voxels, or of those at stride 16 without decoder.

        Args:
            x: `(M, len(in_columns))` features on voxels.
        """
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            skips.append(x)
            x = stage(x)
        for stage in self.decoder:
            x = stage(x, skips.pop())
        return x

    def forward(
        self, points: Float[Tensor, "N C"], batch_index: Int[Tensor, " N"], batch_size: int | None = None
    ) -> Float[Tensor, "N D"]:
        """Features of the points, in their order.

        Args:
            points: xyz in metres in the lidar frame, then intensity and whatever else `in_columns` names.
            batch_index: The sample of each point.
            batch_size: Samples in the batch; the largest index plus one if absent.
        """
        voxels, point_to_voxel = self.voxelise(points, batch_index, batch_size)
        features = self.forward_voxels(voxels)
        if features.stride != ONE:
            for step in range(len(self.encoder)):
                fine = (2**step,) * 3
                point_to_voxel = voxels.context.parents(fine, (2, 2, 2)).index_select(0, point_to_voxel)
        return features.features.index_select(0, point_to_voxel)


def rename_mmdet3d(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names and layout for a MinkUNet checkpoint of mmdetection3d (torchsparse layers); other keys are left out.

    Names and layout were read from the public code; no checkpoint was at hand to load.
    """
    return _renamed(state, _mmdet3d_place)


def rename_slidr(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names and layout for a MinkUNet checkpoint of SLidR (MinkowskiEngine layers); other keys are left out.

    Its last 1x1x1 convolution, `final`, is left out: it is a head. Names and layout were read from the public code, and
    that of the 2x2x2 kernels from what torchsparse says of MinkowskiEngine's; no checkpoint was at hand to load.
    """
    return _renamed(state, _slidr_place)


def _renamed(state: Mapping[str, Tensor], place: Callable[[str], str | None]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        where, _, last = key.removeprefix("module.").removeprefix("backbone.").rpartition(".")
        if (name := place(where)) is not None:
            is_kernel = last == "kernel"
            renamed[f"{name}.{'weight' if is_kernel else last}"] = _our_layout(value) if is_kernel else value
    return renamed


def _our_layout(kernel: Tensor) -> Tensor:
    """`(K, C, D)` with our order of kernel cells, from that of torchsparse and MinkowskiEngine."""
    if kernel.ndim == 2:  # one cell
        return kernel[None]
    size = round(len(kernel) ** (1 / 3))
    ours = torch.empty_like(kernel)
    ours[torchsparse_cell_order((size, size, size))] = kernel
    return ours


_MMDET3D_PARTS = {
    "net.0": "first.conv",
    "net.1": "first.norm",
    "net.3": "second.conv",
    "net.4": "second.norm",
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.norm",
}


def _mmdet3d_place(name: str) -> str | None:
    if match := re.fullmatch(r"conv_input\.(\d)\.net\.([01])", name):
        return f"stem.{match[1]}.{('conv', 'norm')[int(match[2])]}"
    if match := re.fullmatch(r"(encoder|decoder)\.(\d)\.0\.net\.([01])", name):
        return f"{match[1]}.{match[2]}.step.{('conv', 'norm')[int(match[3])]}"
    # A stage down lists its blocks after the strided layer; a stage up has them in a list of their own.
    if match := re.fullmatch(r"encoder\.(\d)\.(\d)\.(net\.[0134]|downsample\.[01])", name):
        return f"encoder.{match[1]}.blocks.{int(match[2]) - 1}.{_MMDET3D_PARTS[match[3]]}"
    if match := re.fullmatch(r"decoder\.(\d)\.1\.(\d)\.(net\.[0134]|downsample\.[01])", name):
        return f"decoder.{match[1]}.blocks.{match[2]}.{_MMDET3D_PARTS[match[3]]}"
    return None


_SLIDR_PARTS = {
    "conv1": "first.conv",
    "norm1.bn": "first.norm",
    "conv2": "second.conv",
    "norm2.bn": "second.norm",
    "downsample.0": "shortcut.conv",
    "downsample.1.bn": "shortcut.norm",
}


def _slidr_place(name: str) -> str | None:
    if match := re.fullmatch(r"(?:(conv)0p1s1|bn0\.bn)", name):
        return f"stem.0.{match[1] or 'norm'}"
    if match := re.fullmatch(r"(?:(conv)([1-4])p\d+s2|bn([1-4])\.bn)", name):
        return f"encoder.{int(match[2] or match[3]) - 1}.step.{match[1] or 'norm'}"
    if match := re.fullmatch(r"(?:(conv)tr([4-7])p\d+s2|bntr([4-7])\.bn)", name):
        return f"decoder.{int(match[2] or match[3]) - 4}.step.{match[1] or 'norm'}"
    if match := re.fullmatch(r"block([1-8])\.(\d)\.(.+)", name):
        stage, part = int(match[1]) - 1, _SLIDR_PARTS.get(match[3])
        side = f"encoder.{stage}" if stage < 4 else f"decoder.{stage - 4}"
        return None if part is None else f"{side}.blocks.{match[2]}.{part}"
    return None
