"""Range-image U-Net: a feature of every lidar point from 2D convolutions on the range image.

Convolutions at full resolution, a timm convnet below them, a feature pyramid back up, then the features of each point's
pixel, refined with the values of the point itself, because several points share a pixel and the nearest hides the
others. With a linear head, this is a network of one hidden layer on the features of pixel and point. Plain
convolutions, one Gather and small matrix products, which every runtime has.

Sources: projecting to a range image as in Milioto et al., "RangeNet++" (2019); full resolution kept at the top as in
Cheng et al., "CENet" (2022); features of pixels and points fused as in Xu et al., "FRNet" (2025). Own implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.encoders import POINTS, resolve_indices
from zoo.encoders.convnet import ConvNet
from zoo.errors import InputError
from zoo.heads.fpn import FPNHead
from zoo.inputs.range_image import RANGE_FEATURES, range_tensors

__all__ = ["RangeUNet"]


class RangeUNet(nn.Module):
    """Features of every point from a U-Net on the range image.

    Args:
        features: Values of pixels and points, as in `RangeImageInput.features`.
        rows: Rows of the range image.
        columns: Columns of the range image.
        stem_width: Channels of the two convolutions at full resolution.
        model: timm's model name of the convnet, for example `resnet18` or `mobilenetv3_small_050`.
        levels: Indices of timm's feature levels to use.
        options: Further keyword arguments of the timm model, as for `ConvNet`.
        width: Channels of the pyramid: one number, or one for full resolution and one per level, finest first.
        out_width: Channels of a point's feature.

    Attributes:
        inputs: `image`, `points` and `pixel` (`zoo.inputs.range_image.range_tensors`).
        axes: `POINTS`.
        out_channels: One entry, `out_width`.
        strides: One entry, 1.

    Raises:
        InputError: If timm has no such model, the numbers of widths and levels differ, or the size of the image is not
            a multiple of the largest stride.
    """

    axes = POINTS

    def __init__(
        self,
        *,
        features: Sequence[str] = RANGE_FEATURES,
        rows: int = 64,
        columns: int = 1024,
        stem_width: int = 32,
        model: str = "resnet18",
        levels: tuple[int, ...] = (0, 1, 2, 3),
        options: dict[str, Any] | None = None,
        width: int | Sequence[int] = 64,
        out_width: int = 32,
    ) -> None:
        super().__init__()
        self.inputs = range_tensors(features, rows, columns)
        channels = len(features) + 1
        self.stem = nn.Sequential(*_conv_norm_act(channels, stem_width), *_conv_norm_act(stem_width, stem_width))
        self.convnet = ConvNet(model=model, levels=levels, in_channels=stem_width, options=options)
        largest = max(self.convnet.strides)
        if rows % largest or columns % largest:
            raise InputError(
                f"the range image is {rows} x {columns}, but the strides of {model} go up to {largest}; "
                "choose multiples of that, or fewer levels"
            )
        self.pyramid = FPNHead(
            in_channels=(stem_width, *self.convnet.out_channels),
            strides=(1, *self.convnet.strides),
            num_classes=out_width,
            width=width,
            dropout=0.0,
        )
        self.of_point = nn.Linear(channels, out_width, bias=False)
        self.out_channels: tuple[int, ...] = (out_width,)
        self.strides: tuple[int, ...] = (1,)

    def forward_features(
        self, image: Float[Tensor, "B F H W"], points: Float[Tensor, "N F"], pixel: Int[Tensor, " N"]
    ) -> list[Tensor]:
        """`(N, out_width)`, in the order of the points."""
        return self.forward_intermediates(image, points, pixel)

    def forward_intermediates(
        self,
        image: Float[Tensor, "B F H W"],
        points: Float[Tensor, "N F"],
        pixel: Int[Tensor, " N"],
        *,
        indices: tuple[int, ...] | None = None,
    ) -> list[Tensor]:
        """The features of the points by step: 0 are those of their pixel, 1 (default) the refined ones.

        Raises:
            InputError: If a step does not exist.
        """
        stem = self.stem(image)
        pixels = self.pyramid([stem, *self.convnet(stem)])  # (B, out_width, H, W)
        of_pixel = pixels.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, pixel)  # (N, out_width)
        # One addmm, which becomes one Gemm: of 120,000 points, every pass over their features takes milliseconds.
        refined = torch.addmm(of_pixel, points, self.of_point.weight.T).relu()
        steps = [of_pixel, refined]
        return steps[1:] if indices is None else [steps[i] for i in resolve_indices(indices, 2, "steps")]

    def forward(
        self, image: Float[Tensor, "B F H W"], points: Float[Tensor, "N F"], pixel: Int[Tensor, " N"]
    ) -> list[Tensor]:
        """Same as `forward_features`."""
        return self.forward_features(image, points, pixel)


def _conv_norm_act(in_channels: int, out_channels: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
