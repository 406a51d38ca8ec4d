"""Convolutional encoders from timm, by timm's name.

Source: timm (Apache-2.0) gives blocks and weights; nothing is ported.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from zoo._torchvision import import_timm
from zoo.encoders._timm import create_timm_model

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """The feature levels of a timm convnet, finest first.

    Args:
        model: timm's name, for example `resnet18` or `convnext_tiny`.
        levels: Which of timm's feature levels to give, by index (0 is the finest that the model has).
        in_channels: Channels of the input image.
        pretrained: Load timm's own weights (ImageNet, for most names); they come from its hub.
        options: Further keyword arguments of the timm model; `config.schema.json` lists those that a configuration may
            give. For example `{"channels": [48, 96, 192, 320]}`.

    Attributes:
        out_channels: Channels of every level.
        strides: Input size over feature size of every level.

    Raises:
        InputError: If timm has no such model, it gives no feature levels, or its weights cannot be had.
    """

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

    def forward_features(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """All levels, `(B, out_channels[i], H / strides[i], W / strides[i])`."""
        return self.forward_intermediates(image)

    def forward_intermediates(
        self, image: Float[Tensor, "B 3 H W"], indices: tuple[int, ...] | None = None
    ) -> list[Tensor]:
        """The levels `indices` (all by default), finest first."""
        levels = self.body(image)
        # Some timm families (Swin and its kin) give channels last.
        levels = [
            level if level.shape[1] == channels else level.permute(0, 3, 1, 2)
            for level, channels in zip(levels, self.out_channels, strict=True)
        ]
        return levels if indices is None else [levels[i] for i in indices]

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Same as `forward_features`."""
        return self.forward_features(image)
