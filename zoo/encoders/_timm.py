"""Builds timm models, with error messages that a caller can act on."""

from __future__ import annotations

import re
from typing import Any

from zoo.errors import InputError, closest

__all__ = ["create_timm_model"]


# timm's create_model also takes `hf-hub:...` and `local-dir:...`, which read weights and arguments from elsewhere.
_PLAIN_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")


def create_timm_model(timm: Any, name: str, *, pretrained: bool, **options: Any) -> Any:
    """`timm.create_model(name, ...)`.

    Args:
        timm: The module.
        name: A registered name, with or without the tag of its weights.
        pretrained: Load timm's own weights. A configuration cannot request this.
        **options: Keyword arguments of the model; those from a configuration have been validated by its schema.

    Raises:
        InputError: If there is no such model, it does not take an option, or its weights cannot be downloaded.
    """
    architecture = name.split(".")[0]
    if not _PLAIN_NAME.fullmatch(name) or not timm.is_model(architecture):
        raise InputError(f"timm has no model {name!r}{closest(architecture, timm.list_models())}")
    try:
        model = timm.create_model(name, pretrained=False, **options)
    except Exception as error:  # inconsistent arguments can fail anywhere inside timm
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"timm cannot build {name} with {options}: {reason}") from error
    if not pretrained:
        return model
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub client raises a dozen kinds; never fall back to random weights
        raise InputError(
            f"the pretrained weights of timm's {name} could not be downloaded ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); check the network, or start from random weights or a model folder"
        ) from error
