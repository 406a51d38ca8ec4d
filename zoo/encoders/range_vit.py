"""Range-image vision transformer: the range image of a sweep as a grey picture, encoded as a camera image is.

The picture is LIP-Loc's: distances in 255 steps up to 50 m, empty and farther pixels the step 251. The upper half of
the third ahead of the vehicle is stretched to the size of the transformer and normalised as ImageNet's pictures are.
The encoder gives the class token of a sweep, which contrastive pretraining compares with that of an image, and for
every point the features of its patch.

Sources: Puligilla et al., "LIP-Loc" (WACV Workshops 2024), and the published code for the numbers: 64 x 900 pixels from
+3 to -25 degrees, rows 0 to 31, columns 300 to 599, 5.1 steps per metre, and -1 for an empty pixel, which becomes 251
as an unsigned byte. Own implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders import POINTS
from zoo.encoders.vit import ViT
from zoo.errors import InputError
from zoo.inputs.range_image import RANGE_FEATURES, range_tensors

__all__ = ["RangeViT"]

_STEPS = 255.0
_EMPTY = 251.0
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class RangeViT(nn.Module):
    """Features of every point, and one vector per sweep, from a vision transformer on the range image.

    Args:
        features: Values of pixels and points, as in `RangeImageInput.features`; `range` is one of them.
        rows: Rows of the range image.
        columns: Columns of the range image.
        range_mean: What the input subtracts from `range`; the transformer sees metres.
        range_std: What the input divides it by.
        max_range_m: Pixels at this distance or farther away count as empty.
        crop_rows: First row of the part that the transformer sees, and the one after its last.
        crop_columns: The same for columns.
        size: Height and width to which that part is stretched.
        model: timm's name of a plain vision transformer.
        pretrained: Download timm's weights.
        options: Further keyword arguments of the timm model, as for `ViT`.

    Attributes:
        inputs: `image`, `points` and `pixel` (`zoo.inputs.range_image.range_tensors`).
        axes: `POINTS`.
        out_channels: One entry: the embedding size, then the values of the point itself.
        strides: One entry, 1.

    Raises:
        InputError: If timm has no such model, `range` is not among the features, the part does not lie in the image, or
            the size is not a multiple of the patch size.
    """

    axes = POINTS

    _mean: Tensor
    _std: Tensor
    _patch: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str] = RANGE_FEATURES,
        rows: int = 64,
        columns: int = 900,
        range_mean: float = 12.0,
        range_std: float = 12.0,
        max_range_m: float = 50.0,
        crop_rows: tuple[int, int] = (0, 32),
        crop_columns: tuple[int, int] = (300, 600),
        size: tuple[int, int] = (224, 224),
        model: str = "vit_small_patch16_224",
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if "range" not in features:
            raise InputError(f"features {', '.join(features)} lack range, of which the picture is made; add it")
        for what, (first, end), count in (("rows", crop_rows, rows), ("columns", crop_columns, columns)):
            if not 0 <= first < end <= count:
                raise InputError(f"crop_{what} {first} to {end} do not lie in an image of {count} {what}")
        self.vit = ViT(model=model, pretrained=pretrained, options=options)
        patch = self.vit.patch_size
        if size[0] % patch or size[1] % patch:
            raise InputError(f"size {size[0]} x {size[1]} is not a multiple of the patch size {patch} of {model}")
        self.inputs = range_tensors(features, rows, columns)
        self.out_channels: tuple[int, ...] = (self.vit.embed_dim + len(features) + 1,)
        self.strides: tuple[int, ...] = (1,)
        self._range = tuple(features).index("range")
        self._metres = (range_mean, range_std, max_range_m)
        self._rows, self._columns, self._size = slice(*crop_rows), slice(*crop_columns), tuple(size)
        self._pixels = rows * columns
        self._grid = size[0] // patch, size[1] // patch
        self.register_buffer("_mean", torch.tensor(_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(_STD).reshape(3, 1, 1), persistent=False)
        self.register_buffer("_patch", self._patches(rows, columns), persistent=False)

    def _patches(self, rows: int, columns: int) -> Int[Tensor, " P"]:
        """The patch that shows the middle of each pixel; one more than the last for pixels that it does not see."""
        height, width = self._grid
        found = []
        for part, count, cells in ((self._rows, rows, height), (self._columns, columns, width)):
            middle = (torch.arange(count) - part.start + 0.5) / (part.stop - part.start)
            cell = (middle * cells).floor().long()
            found.append(torch.where((middle > 0) & (middle < 1), cell, -1))
        row, column = found[0][:, None], found[1][None]
        return torch.where((row >= 0) & (column >= 0), row * width + column, height * width).flatten()

    def picture(self, image: Float[Tensor, "B F H W"]) -> Float[Tensor, "B 3 h w"]:
        """What the transformer sees of a range image."""
        mean, std, farthest = self._metres
        range_m = image[:, self._range] * std + mean  # (B, H, W)
        seen = (image[:, -1] > 0.5) & (range_m < farthest)
        steps = torch.where(seen, (range_m * (_STEPS / farthest)).floor().clamp(0.0, _STEPS), _EMPTY)
        part = steps[:, None, self._rows, self._columns]
        stretched = F.interpolate(part, size=self._size, mode="bilinear", align_corners=False, antialias=False)
        return (stretched / _STEPS - self._mean) / self._std

    def forward_pooled(
        self, image: Float[Tensor, "B F H W"], points: Float[Tensor, "N F"], pixel: Int[Tensor, " N"]
    ) -> Float[Tensor, "B D"]:
        """One vector per sweep: the class token."""
        return self.vit.forward_pooled(self.picture(image))

    def forward_patches(self, image: Float[Tensor, "B F H W"]) -> Float[Tensor, "B D h w"]:
        """Features of the patches of the picture."""
        return self.vit(self.picture(image))[0]

    def forward_features(
        self, image: Float[Tensor, "B F H W"], points: Float[Tensor, "N F"], pixel: Int[Tensor, " N"]
    ) -> list[Tensor]:
        """`(N, D + F)`, in the order of the points: the features of its patch, or 0 outside the picture, and the values
        of the point."""
        return self.forward_intermediates(image, points, pixel)

    def forward_intermediates(
        self,
        image: Float[Tensor, "B F H W"],
        points: Float[Tensor, "N F"],
        pixel: Int[Tensor, " N"],
        *,
        indices: tuple[int, ...] | None = None,
    ) -> list[Tensor]:
        """The same after the blocks `indices`, by default the last one.

        Raises:
            InputError: If a block does not exist.
        """
        levels = self.vit.forward_intermediates(self.picture(image), indices=indices)
        sweep = torch.div(pixel, self._pixels, rounding_mode="floor")
        height, width = self._grid
        patch = self._patch[pixel - sweep * self._pixels] + sweep * (height * width + 1)
        found = []
        for level in levels:
            cells = F.pad(level.flatten(2).transpose(1, 2), (0, 0, 0, 1))  # (B, h * w + 1, D), the last is 0
            found.append(torch.cat([cells.flatten(0, 1).index_select(0, patch), points], 1))
        return found

    def forward(
        self, image: Float[Tensor, "B F H W"], points: Float[Tensor, "N F"], pixel: Int[Tensor, " N"]
    ) -> list[Tensor]:
        """Same as `forward_features`."""
        return self.forward_features(image, points, pixel)
