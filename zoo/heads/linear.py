"""Linear head: one 1x1 convolution on the coarsest level.

Source: Segmenter (Strudel et al., 2021), section 3.2, linear decoder.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from zoo.encoders import GRID

__all__ = ["LinearHead"]


class LinearHead(nn.Module):
    """Class logits from a linear map of each position of the coarsest level.

    Args:
        in_channels: Channels of the encoder's levels, finest first.
        strides: Strides of the encoder's levels.
        num_classes: Number of classes.

    Attributes:
        axes: Axes of the levels that it takes.
        stride: Ratio of input size to logits size.
    """

    axes = GRID

    def __init__(self, *, in_channels: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.stride = strides[-1]
        self.classifier = nn.Conv2d(in_channels[-1], num_classes, kernel_size=1)

    def forward(self, levels: list[Tensor]) -> Float[Tensor, "B C h w"]:
        """Logits at `stride`."""
        return self.classifier(levels[-1])
