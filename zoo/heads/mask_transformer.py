"""Segmenter's mask transformer.

Transformer layers process the class embeddings together with the patch features. The mask of a class is the dot product
of its embedding with each patch, both L2-normalised, followed by a layer norm over the classes.

Source: Strudel et al., "Segmenter: Transformer for Semantic Segmentation" (ICCV 2021), section 3.2; the sizes for ViT-S
(2 layers, 6 heads) from Golombiewski, "Domain Generalization for Vision Perception Models by Camera-Lidar Contrastive
Pretraining" (master's thesis, TU Berlin, 2024), sections 4.1.1 and 4.2.2.
The layers are timm's transformer blocks; the rest is our own implementation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from zoo._torchvision import import_timm
from zoo.encoders import GRID
from zoo.errors import InputError

__all__ = ["MaskTransformer"]


class MaskTransformer(nn.Module):
    """Class logits as dot products of class embeddings and patch features.

    Args:
        in_channels: Channels of the encoder's levels, finest first; the coarsest is used.
        strides: Strides of the encoder's levels.
        num_classes: Number of classes, one embedding each.
        embed_dim: Width of the layers; by default that of the encoder.
        depth: Number of transformer layers.
        num_heads: Attention heads per layer.
        dropout: Dropout rate in the layers.
        drop_path_rate: Stochastic depth rate of the last layer, rising linearly from zero.

    Attributes:
        axes: Axes of the levels that it takes.
        stride: Ratio of input size to logits size.

    Raises:
        InputError: If `num_heads` does not divide `embed_dim`.
    """

    axes = GRID

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        strides: tuple[int, ...],
        num_classes: int,
        embed_dim: int | None = None,
        depth: int = 2,
        num_heads: int = 6,
        dropout: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        import_timm()
        from timm.models.vision_transformer import Block

        embed_dim = embed_dim or in_channels[-1]
        if embed_dim % num_heads:
            raise InputError(f"embed_dim {embed_dim} is not a multiple of num_heads {num_heads}")
        self.stride = strides[-1]
        self.num_classes = num_classes
        self.input = nn.Linear(in_channels[-1], embed_dim)
        self.class_embedding = nn.Parameter(torch.empty(1, num_classes, embed_dim))
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, qkv_bias=True, proj_drop=dropout, drop_path=rate) for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.patch_projection = nn.Parameter(torch.empty(embed_dim, embed_dim))
        self.class_projection = nn.Parameter(torch.empty(embed_dim, embed_dim))
        self.mask_norm = nn.LayerNorm(num_classes)
        self._initialise(embed_dim)

    def _initialise(self, embed_dim: int) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.class_embedding, std=0.02)
        for projection in (self.patch_projection, self.class_projection):
            nn.init.normal_(projection, std=embed_dim**-0.5)

    def forward(self, levels: list[Tensor]) -> Float[Tensor, "B C h w"]:
        """Logits at `stride`."""
        features = levels[-1]  # (B, D, h, w)
        rows, columns = features.shape[-2:]
        patches = self.input(features.flatten(2).transpose(1, 2))  # (B, N, D)
        classes = self.class_embedding.expand(patches.shape[0], -1, -1)
        tokens = torch.cat([patches, classes], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        # Slicing from the end keeps the number of patches dynamic in an exported graph.
        patches = tokens[:, : -self.num_classes] @ self.patch_projection  # (B, N, D)
        classes = tokens[:, -self.num_classes :] @ self.class_projection  # (B, C, D)
        masks = F.normalize(patches, dim=-1) @ F.normalize(classes, dim=-1).transpose(1, 2)  # (B, N, C)
        masks = self.mask_norm(masks)
        return masks.transpose(1, 2).reshape(-1, self.num_classes, rows, columns)
