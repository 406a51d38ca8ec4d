"""Builds an architecture from its description in a configuration or in the catalogue.

A description names classes as `"module:Class"` with keyword arguments. It may come from an untrusted source, so
`config.schema.json` lists the permitted classes with all their permitted arguments and ranges: no argument can name a
file, an address or pretrained weights.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.engines import TensorSpec
from zoo.errors import InputError
from zoo.folder.schema import schema
from zoo.folder.weights import check_shapes

__all__ = ["EncoderHead", "build", "check_outline"]

_MAX_BUFFERS = 256 * 1024 * 1024  # bytes


def _class(description: Mapping[str, Any]) -> type[nn.Module]:
    module, name = description["class"].split(":")
    return getattr(importlib.import_module(module), name)


def _instantiate(description: Mapping[str, Any], **given: Any) -> nn.Module:
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in description.get("arguments", {}).items()}
    return _class(description)(**arguments, **given)


def _has_pretrained_weights(encoder: Mapping[str, Any]) -> bool:
    return "pretrained" in inspect.signature(_class(encoder)).parameters


class EncoderHead(nn.Module):
    """An encoder and a head, for any modality and task.

    Attributes:
        encoder: Follows the contract in `zoo.encoders`.
        head: Takes the encoder's levels; has `axes` and `stride`.
        inputs: What the encoder takes, by position.
        axes: Of the output, the same as those of the levels.
        strides: One entry, the head's: input size over output size.

    Raises:
        InputError: If the head takes levels with other axes than the encoder's.
    """

    # nn.Module types attributes as tensors or modules, but encoders and heads have other attributes too.
    encoder: Any
    head: Any

    def __init__(self, encoder: Any, head: Any) -> None:
        super().__init__()
        if tuple(head.axes) != tuple(encoder.axes):
            raise InputError(
                f"{type(head).__name__} takes levels ({', '.join(head.axes)}), "
                f"but {type(encoder).__name__} gives ({', '.join(encoder.axes)}); use another head"
            )
        self.encoder = encoder
        self.head = head
        self.inputs: tuple[TensorSpec, ...] = encoder.inputs
        self.axes: tuple[str, ...] = tuple(head.axes)
        self.strides: tuple[int, ...] = (head.stride,)

    def forward_features(self, *inputs: Tensor) -> list[Tensor]:
        """The encoder's levels."""
        return self.encoder.forward_features(*inputs)

    def forward_intermediates(self, *inputs: Tensor, indices: tuple[int, ...] | None = None) -> list[Tensor]:
        """Chosen levels or blocks of the encoder."""
        return self.encoder.forward_intermediates(*inputs, indices=indices)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The head's output; for an image `(B, num_classes, H / stride, W / stride)`."""
        return self.head(self.encoder.forward_features(*inputs))


def build(architecture: Mapping[str, Any], num_classes: int | None, *, pretrained: bool = False) -> Any:
    """The model that `architecture` describes: an `EncoderHead`, or the bare encoder if it names no head.

    Args:
        architecture: `{"encoder": {"class", "arguments"}, "head": {"class", "arguments"}}`, the head optional.
        num_classes: Number of classes of the head.
        pretrained: Start the encoder from timm's own weights.

    Raises:
        InputError: If `config.schema.json` does not permit it, its arguments are inconsistent, head and encoder do not
            fit together, or the encoder's pretrained weights do not exist or cannot be downloaded.
    """
    schema("config").check(architecture, "architecture", "architecture")
    if pretrained and not _has_pretrained_weights(architecture["encoder"]):
        name = architecture["encoder"]["class"].split(":")[1]
        raise InputError(f"{name} has no pretrained weights to download; start from random weights or a model folder")
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
    return EncoderHead(encoder, head)


def check_outline(
    architecture: Mapping[str, Any], num_classes: int | None, shapes: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Compares an architecture with the weights to load, before allocating memory for it.

    The model is built on torch's meta device, where tensors have a shape but no memory, so an oversized architecture is
    refused at once unless the file really holds that many weights.

    Args:
        architecture: As for `build`.
        num_classes: Number of classes of the head.
        shapes: Shapes by tensor name, from the file's header.
        what: Name of the file, for errors.

    Raises:
        InputError: If the two do not match, or the architecture computes tables, such as attention masks, of more than
            256 MB.
    """
    with torch.device("meta"):
        outline = build(architecture, num_classes)
    check_shapes(outline, shapes, what)
    if sum(buffer.numel() * buffer.element_size() for buffer in outline.buffers()) > _MAX_BUFFERS:
        raise InputError(f"the architecture of {what} computes tables of more than {_MAX_BUFFERS:,} bytes")
