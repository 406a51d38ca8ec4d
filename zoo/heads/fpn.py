"""Feature pyramid head for encoders with several levels.

Source: Kirillov et al., "Panoptic feature pyramid networks" (2019), section 3.1 (semantic branch: levels summed at the
finest stride); the image-wide context vector follows the global pooling of ParseNet (Liu et al., 2015). Not ported.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FPNHead"]


def _conv_norm_act(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class FPNHead(nn.Module):
    """Class logits at the finest stride from all levels, merged from coarse to fine.

    Args:
        in_channels: Channels of the encoder's levels, finest first.
        strides: Strides of the encoder's levels.
        num_classes: Number of classes.
        width: Channels inside the pyramid.
        context: Add the image-wide mean of the coarsest level before merging.
        dropout: Dropout of whole channels before the classifier while training.

    Attributes:
        stride: Input size over logits size.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        strides: tuple[int, ...],
        num_classes: int,
        width: int = 96,
        context: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stride = strides[0]
        self.laterals = nn.ModuleList(_conv_norm_act(channels, width, 1) for channels in in_channels)
        self.context = nn.Sequential(nn.Linear(in_channels[-1], width), nn.ReLU(inplace=True)) if context else None
        self.merges = nn.ModuleList(_conv_norm_act(width, width, 3) for _ in in_channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, kernel_size=1)

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
