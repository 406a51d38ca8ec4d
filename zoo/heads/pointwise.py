"""Pointwise head: a linear map, or a small network, of each point's features.

Linear probing as in SLidR (Sautier et al., 2022), section 4.2: one linear layer on the point features of the encoder.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from zoo.encoders import POINTS

__all__ = ["PointwiseHead"]


class PointwiseHead(nn.Module):
    """Class logits from each point of the finest level.

    Args:
        in_channels: Channels of the encoder's levels, finest first.
        strides: Strides of the encoder's levels.
        num_classes: Number of classes.
        hidden: Width of one hidden layer with layer normalisation and ReLU; 0 for a linear map.

    Attributes:
        axes: Axes of the levels that it takes.
        stride: 1, a row of logits per point.
    """

    axes = POINTS

    def __init__(
        self, *, in_channels: tuple[int, ...], strides: tuple[int, ...], num_classes: int, hidden: int = 0
    ) -> None:
        super().__init__()
        self.stride = 1
        layers: list[nn.Module] = []
        if hidden:
            layers = [nn.Linear(in_channels[0], hidden), nn.LayerNorm(hidden), nn.ReLU(inplace=True)]
        self.classifier = nn.Sequential(*layers, nn.Linear(hidden or in_channels[0], num_classes))

    def forward(self, levels: list[Tensor]) -> Float[Tensor, "N C"]:
        """A row of logits per point."""
        return self.classifier(levels[0])
