"""Vision transformer encoder: timm's blocks and weights with our own forward pass, which takes any input size.

The position embedding is resized bilinearly without antialiasing, so that the eager model and exported files compute
the same function at every size.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021) for the architecture; blocks and weights from
timm (Apache-2.0).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from zoo._torchvision import import_timm
from zoo.encoders import GRID, resolve_indices
from zoo.encoders._timm import create_timm_model
from zoo.errors import InputError
from zoo.inputs.image import image_tensor

__all__ = ["ViT"]


class ViT(nn.Module):
    """Patch features of a timm vision transformer.

    Args:
        model: timm's name of a plain vision transformer, for example `vit_small_patch16_224`.
        in_channels: Channels of the input image.
        drop_path_rate: Stochastic depth rate.
        pretrained: Download timm's weights.
        options: Further keyword arguments of the timm model; `config.schema.json` lists those that a configuration may
            give.

    Attributes:
        inputs: `image`, after normalisation.
        axes: `GRID`.
        patch_size: Pixels along one side of a patch.
        out_channels: One entry, the embedding size.
        strides: One entry, the patch size.

    Raises:
        InputError: If timm has no such model, the model is not a plain vision transformer, or the download fails.
    """

    axes = GRID

    def __init__(
        self,
        *,
        model: str = "vit_small_patch16_224",
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        timm = import_timm()
        body = create_timm_model(
            timm,
            model,
            pretrained=pretrained,
            num_classes=0,
            in_chans=in_channels,
            drop_path_rate=drop_path_rate,
            **(options or {}),
        )
        if not isinstance(body, timm.models.vision_transformer.VisionTransformer) or body.pos_embed is None:
            raise InputError(f"timm's {model} is not a plain vision transformer; use zoo.encoders.convnet:ConvNet")
        self.patch_size: int = body.patch_embed.patch_size[0]
        self.embed_dim: int = body.embed_dim
        self.out_channels: tuple[int, ...] = (self.embed_dim,)
        self.strides: tuple[int, ...] = (self.patch_size,)
        self.inputs = (image_tensor(in_channels, self.patch_size),)
        self._grid: tuple[int, int] = tuple(body.patch_embed.grid_size)
        # Prefix tokens (class token and, in some families, registers), and those of them with a position embedding.
        self._prefix: int = body.num_prefix_tokens
        self._prefix_has_position: int = 0 if body.no_embed_class else self._prefix

        self.projection = body.patch_embed.proj
        self.patch_norm = body.patch_embed.norm
        self.class_token = body.cls_token
        self.register_tokens = body.reg_token
        self.position_embedding = body.pos_embed  # (1, prefix + grid, D)
        self.pre_norm = body.norm_pre
        self.blocks = body.blocks
        self.norm = body.norm

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 N D"]:
        """The position embedding, prefix tokens included, for a grid of `rows` by `columns` patches."""
        prefix, grid = self.position_embedding.split(
            [self._prefix_has_position, self.position_embedding.shape[1] - self._prefix_has_position], dim=1
        )
        height, width = self._grid
        grid = grid.reshape(1, height, width, self.embed_dim).permute(0, 3, 1, 2)  # (1, D, h, w)
        grid = F.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=False, antialias=False)
        return torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)  # (1, prefix + rows * columns, D)

    def forward_intermediates(
        self, image: Float[Tensor, "B 3 H W"], *, indices: tuple[int, ...] | None = None
    ) -> list[Float[Tensor, "B D h w"]]:
        """Normalised patch features after the blocks `indices`, by default the last one.

        Raises:
            InputError: If the image size is not a multiple of the patch size, or a block does not exist.
        """
        height, width = image.shape[-2:]
        if not torch.compiler.is_compiling() and (height % self.patch_size or width % self.patch_size):
            raise InputError(
                f"image size {height} x {width} is not a multiple of the patch size {self.patch_size}; pad it"
            )
        wanted = resolve_indices((-1,) if indices is None else indices, len(self.blocks), "blocks")
        rows, columns = height // self.patch_size, width // self.patch_size
        return [
            tokens[:, self._prefix :].transpose(1, 2).reshape(-1, self.embed_dim, rows, columns)
            for tokens in self._tokens(image, wanted)
        ]

    def forward_pooled(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """One normalised vector per image: the class token of the last block, without one the mean of the patches."""
        (tokens,) = self._tokens(image, [len(self.blocks) - 1])
        return tokens[:, self._prefix :].mean(1) if self.class_token is None else tokens[:, 0]

    def _tokens(self, image: Float[Tensor, "B 3 H W"], wanted: list[int]) -> list[Float[Tensor, "B N D"]]:
        """Normalised tokens, prefix tokens first, after the blocks `wanted`."""
        patches = self.projection(image)  # (B, D, h, w)
        rows, columns = patches.shape[-2:]
        tokens = self.patch_norm(patches.flatten(2).transpose(1, 2))  # (B, h * w, D)
        prefix = [token.expand(tokens.shape[0], -1, -1) for token in self._prefix_tokens()]
        positions = self.positions(rows, columns)
        if self._prefix_has_position:
            tokens = torch.cat([*prefix, tokens], dim=1) + positions
        else:
            tokens = torch.cat([*prefix, tokens + positions], dim=1)
        tokens = self.pre_norm(tokens)
        after: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks[: max(wanted) + 1]):
            tokens = block(tokens)  # (B, prefix + h * w, D)
            if i in wanted:
                after[i] = self.norm(tokens)
        return [after[i] for i in wanted]

    def forward_features(self, image: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B D h w"]]:
        """One level: normalised patch features of the last block."""
        return self.forward_intermediates(image)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B D h w"]]:
        """Same as `forward_features`."""
        return self.forward_features(image)

    def _prefix_tokens(self) -> list[Tensor]:
        return [token for token in (self.class_token, self.register_tokens) if token is not None]
