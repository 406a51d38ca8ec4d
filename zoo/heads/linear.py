"""Linear head: one 1x1 convolution on the coarsest or on all levels.

Source: Segmenter (Strudel et al., 2021), section 3.2, linear decoder.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["LinearHead"]


class LinearHead(nn.Module):
    """Class logits from the coarsest level by a linear map of every position.

    Args:
        in_channels: Channels of the encoder's levels, finest first.
        strides: Strides of the encoder's levels.
        num_classes: Number of classes.

    Attributes:
        stride: Input size over logits size.
    """

    def __init__(self, *, in_channels: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.stride = strides[-1]
        self.classifier = nn.Conv2d(in_channels[-1], num_classes, kernel_size=1)

    def forward(self, levels: list[Tensor]) -> Float[Tensor, "B C h w"]:
        """Logits at `stride`."""
        return self.classifier(levels[-1])
