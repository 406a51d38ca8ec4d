"""Feature pyramid head for encoders with several levels.

Source: Kirillov et al., "Panoptic feature pyramid networks" (2019), section 3.1 (semantic branch: levels summed at the
finest stride); the global context vector follows ParseNet (Liu et al., 2015). Own implementation.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders import GRID
from zoo.errors import InputError

__all__ = ["FPNHead"]


def _conv_norm_act(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class FPNHead(nn.Module):
    """Class logits at the finest stride, from all levels merged from coarse to fine.

    Args:
        in_channels: Channels of the encoder's levels, finest first.
        strides: Strides of the encoder's levels.
        num_classes: Number of classes.
        width: Channels inside the pyramid: one number, or one per level, finest first.
        context: Add the global average of the coarsest level before merging.
        dropout: Channel dropout before the classifier.

    Attributes:
        axes: Axes of the levels that it takes.
        stride: Ratio of input size to logits size.

    Raises:
        InputError: If the number of widths differs from the number of levels.
    """

    axes = GRID

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        strides: tuple[int, ...],
        num_classes: int,
        width: int | Sequence[int] = 96,
        context: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        widths = [width] * len(in_channels) if isinstance(width, int) else list(width)
        if len(widths) != len(in_channels):
            raise InputError(f"width {widths} has {len(widths)} numbers, but the encoder has {len(in_channels)} levels")
        self.stride = strides[0]
        self.laterals = nn.ModuleList(_conv_norm_act(*channels, 1) for channels in zip(in_channels, widths))
        self.context = nn.Sequential(nn.Linear(in_channels[-1], widths[-1]), nn.ReLU(inplace=True)) if context else None
        # Merging a level changes its width to that of the next finer one.
        self.merges = nn.ModuleList(_conv_norm_act(*channels, 3) for channels in zip(widths, [widths[0], *widths]))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(widths[0], num_classes, kernel_size=1)

    def forward(self, levels: list[Tensor]) -> Float[Tensor, "B C h w"]:
        """Logits at `stride`."""
        merged = self.laterals[-1](levels[-1])  # (B, width, h, w) of the coarsest level
        if self.context is not None:
            merged = merged + self.context(levels[-1].mean(dim=(2, 3)))[:, :, None, None]
        merged = self.merges[-1](merged)
        for i in range(len(levels) - 2, -1, -1):
            lateral = self.laterals[i](levels[i])
            merged = F.interpolate(merged, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
            merged = self.merges[i](merged + lateral)
        return self.classifier(self.dropout(merged))
