"""Building an architecture from its description in a configuration or in the catalogue.

A description names classes as `"module:Class"` with keyword arguments. It may come from a stranger, so
`config.schema.json` lists the classes that can be named and everything that can be said about them, with ranges: no
argument can name a file, an address or pretrained weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.schema import schema
from zoo.weights import check_shapes

__all__ = ["SegmentationModel", "build", "check_outline"]

_MAX_BUFFERS = 256 * 1024 * 1024  # bytes


def _instantiate(description: Mapping[str, Any], **given: Any) -> nn.Module:
    module, name = description["class"].split(":")
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in description.get("arguments", {}).items()}
    return getattr(importlib.import_module(module), name)(**arguments, **given)


class SegmentationModel(nn.Module):
    """An encoder and a head that gives class logits.

    Attributes:
        encoder: Has `out_channels`, `strides` and `forward_features`.
        head: Has `stride`.
        stride: Input size over logits size.
        size_multiple: The input's height and width must be multiples of it.
    """

    # nn.Module's attributes are typed as tensors or modules; encoders and heads have more than that.
    encoder: Any
    head: Any

    def __init__(self, encoder: Any, head: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.stride: int = head.stride
        self.size_multiple: int = max(encoder.strides)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """The encoder's levels for `image`, `(B, 3, H, W)` after normalisation."""
        return self.encoder.forward_features(image)

    def forward_intermediates(self, image: Tensor, indices: tuple[int, ...] | None = None) -> list[Tensor]:
        """Chosen levels or blocks of the encoder."""
        return self.encoder.forward_intermediates(image, indices)

    def forward(self, image: Tensor) -> Tensor:
        """`(B, num_classes, H / stride, W / stride)` logits for `image`, `(B, 3, H, W)` after normalisation."""
        return self.head(self.encoder.forward_features(image))


def build(architecture: Mapping[str, Any], num_classes: int | None, *, pretrained: bool = False) -> Any:
    """The model that `architecture` describes: a `SegmentationModel` if it names a head, else the bare encoder.

    Args:
        architecture: `{"encoder": {"class", "arguments"}, "head": {"class", "arguments"}}`, the head optional.
        num_classes: Number of classes of the head.
        pretrained: Start the encoder from timm's own weights.

    Raises:
        InputError: If it is not what `config.schema.json` allows, its arguments do not fit together, or the pretrained
            weights cannot be downloaded.
    """
    schema("config").check(architecture, "architecture", "architecture")
    encoder: Any = _instantiate(architecture["encoder"], **({"pretrained": True} if pretrained else {}))
    if "head" not in architecture:
        return encoder
    if num_classes is None:
        raise InputError("a head needs classes, but the configuration lists none")
    head = _instantiate(
        architecture["head"],
        in_channels=encoder.out_channels,
        strides=encoder.strides,
        num_classes=num_classes,
    )
    return SegmentationModel(encoder, head)


def check_outline(
    architecture: Mapping[str, Any], num_classes: int | None, shapes: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Compares an architecture with the weights that it is to take, before memory is taken for it.

    The model is built on torch's meta device, where a tensor has a shape but no memory, so an architecture of any size
    is refused at once unless the file really holds that many weights.

    Args:
        architecture: As for `build`.
        num_classes: Number of classes of the head.
        shapes: Shapes by name, from the file's header.
        what: The file, for errors.

    Raises:
        InputError: If the two do not fit, or the architecture computes tables, such as attention masks, of more than
            256 MB.
    """
    with torch.device("meta"):
        outline = build(architecture, num_classes)
    check_shapes(outline, shapes, what)
    if sum(buffer.numel() * buffer.element_size() for buffer in outline.buffers()) > _MAX_BUFFERS:
        raise InputError(f"the architecture of {what} computes tables of more than {_MAX_BUFFERS:,} bytes")
