"""Building an architecture from its description in a configuration or in the catalogue.

A description names classes as `"module:Class"` with keyword arguments. Only this project's encoders and heads can be
named, so a configuration from elsewhere cannot make anything else run.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from zoo.errors import InputError

__all__ = ["SegmentationModel", "build", "build_encoder"]

_ALLOWED_PREFIXES = ("zoo.encoders.", "zoo.heads.")


def _instantiate(description: Mapping[str, Any], **given: Any) -> nn.Module:
    reference = description.get("class")
    if not isinstance(reference, str) or not reference.startswith(_ALLOWED_PREFIXES) or reference.count(":") != 1:
        raise InputError(
            f"architecture class {reference!r}: expected 'module:Class', module {' or '.join(_ALLOWED_PREFIXES)}"
        )
    module_name, class_name = reference.split(":")
    try:
        factory = getattr(importlib.import_module(module_name), class_name)
    except (ModuleNotFoundError, AttributeError) as error:
        missing = getattr(error, "name", None)
        if isinstance(error, ModuleNotFoundError) and missing != module_name:
            raise
        raise InputError(
            f"architecture class {reference!r} does not exist in this version of perception-zoo"
        ) from error
    if not (inspect.isclass(factory) and issubclass(factory, nn.Module)):
        raise InputError(f"architecture class {reference!r} is no model")
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in description.get("arguments", {}).items()}
    known = set(inspect.signature(factory).parameters)
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise InputError(f"{reference} has no argument {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return factory(**arguments, **given)


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


def build_encoder(architecture: Mapping[str, Any], *, pretrained: bool = False) -> Any:
    """The encoder that `architecture` describes, with random weights or (`pretrained`) timm's own."""
    description = architecture.get("encoder")
    if not isinstance(description, Mapping):
        raise InputError("the architecture names no encoder; expected {'encoder': {'class': 'module:Class'}}")
    return _instantiate(description, pretrained=True) if pretrained else _instantiate(description)


def build(architecture: Mapping[str, Any], num_classes: int | None, *, pretrained: bool = False) -> Any:
    """The model that `architecture` describes: a `SegmentationModel` if it names a head, else the bare encoder.

    Args:
        architecture: `{"encoder": {"class", "arguments"}, "head": {"class", "arguments"}}`, the head optional.
        num_classes: Number of classes of the head.
        pretrained: Start the encoder from timm's own weights.

    Raises:
        InputError: If a class or an argument does not exist, or the pretrained weights cannot be had.
    """
    encoder = build_encoder(architecture, pretrained=pretrained)
    if not architecture.get("head"):
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
