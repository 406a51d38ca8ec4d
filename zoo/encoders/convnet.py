"""Convolutional encoders from timm, selected by timm's model name.

Source: blocks and weights from timm (Apache-2.0).
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from zoo._torchvision import import_timm
from zoo.encoders import GRID, resolve_indices
from zoo.encoders._timm import create_timm_model
from zoo.inputs.image import image_tensor

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """Feature levels of a timm convnet, finest first.

    Args:
        model: timm's model name, for example `resnet18` or `convnext_tiny`.
        levels: Indices of timm's feature levels to return; 0 is the finest.
        in_channels: Channels of the input image.
        pretrained: Download timm's weights, trained on ImageNet for most models.
        options: Further keyword arguments of the timm model, for example `{"channels": [48, 96, 192, 320]}`;
            `config.schema.json` lists those that a configuration may give.

    Attributes:
        inputs: `image`, after normalisation.
        axes: `GRID`.
        out_channels: Channels of each level.
        strides: Ratio of input size to feature size of each level.

    Raises:
        InputError: If timm has no such model, the model has no feature levels, or the download fails.
    """

    axes = GRID

    def __init__(
        self,
        *,
        model: str = "resnet18",
        levels: tuple[int, ...] = (1, 2, 3, 4),
        in_channels: int = 3,
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.body = create_timm_model(
            import_timm(),
            model,
            pretrained=pretrained,
            features_only=True,
            out_indices=tuple(levels),
            in_chans=in_channels,
            **(options or {}),
        )
        self.out_channels: tuple[int, ...] = tuple(self.body.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(self.body.feature_info.reduction())
        self.inputs = (image_tensor(in_channels, max(self.strides)),)

    def forward_features(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """All levels; level `i` is `(B, out_channels[i], H / strides[i], W / strides[i])`."""
        return self.forward_intermediates(image)

    def forward_intermediates(
        self, image: Float[Tensor, "B 3 H W"], *, indices: tuple[int, ...] | None = None
    ) -> list[Tensor]:
        """The levels `indices`, by default all, finest first.

        Raises:
            InputError: If a level does not exist.
        """
        levels = self.body(image)
        # Some timm families, Swin among them, return channels last.
        levels = [
            level if level.shape[1] == channels else level.permute(0, 3, 1, 2)
            for level, channels in zip(levels, self.out_channels, strict=True)
        ]
        return levels if indices is None else [levels[i] for i in resolve_indices(indices, len(levels), "levels")]

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Same as `forward_features`."""
        return self.forward_features(image)
