"""Building a timm model with errors that a caller can act on."""

from __future__ import annotations

from typing import Any

from zoo.errors import InputError, closest

__all__ = ["create_timm_model"]


def create_timm_model(timm: Any, name: str, *, pretrained: bool, **options: Any) -> Any:
    """`timm.create_model(name, ...)`.

    Raises:
        InputError: If there is no such model, an option is not one of its, or its weights cannot be had.
    """
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise InputError(f"timm has no model {name!r}{closest(architecture, timm.list_models())}")
    try:
        model = timm.create_model(name, pretrained=False, **options)
    except (TypeError, AssertionError, RuntimeError) as error:
        raise InputError(f"timm cannot build {name} with {options}: {error}") from error
    if not pretrained:
        return model
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub client raises a dozen kinds; none may end in random weights
        raise InputError(
            f"the pretrained weights of timm's {name} could not be had ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); check the network, or start from random weights or a model folder"
        ) from error
