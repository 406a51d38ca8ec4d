"""`zoo train RECIPE`: runs a recipe."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

from zoo.errors import InputError, closest

__all__ = ["RECIPES", "parse", "parse_recipe", "run"]

RECIPES = {"segmenter": "zoo.training.segmenter"}
_USAGE = "zoo train RECIPE [--preset NAME] [settings]; recipes: " + ", ".join(RECIPES)


def parse(words: Sequence[str]) -> tuple[str, Any]:
    """Recipe name and settings."""
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        raise SystemExit(0 if words else 2)
    name, *rest = words
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}{closest(name, RECIPES)}; known: {', '.join(RECIPES)}")
    return name, parse_recipe(name, rest)


def parse_recipe(name: str, words: Sequence[str]) -> Any:
    """Settings of a recipe from command-line words; `--preset` gives the defaults that the other words change."""
    import tyro

    module = importlib.import_module(RECIPES[name])
    words = list(words)
    preset = next(iter(module.PRESETS))
    for i, word in enumerate(words):
        if word == "--preset" or word.startswith("--preset="):
            given = word.partition("=")[2] if "=" in word else (words[i + 1] if i + 1 < len(words) else "")
            if given not in module.PRESETS:
                known = ", ".join(module.PRESETS)
                raise InputError(f"unknown preset {given!r}{closest(given, module.PRESETS)}; known: {known}")
            preset = given
            del words[i : i + (1 if "=" in word else 2)]
            break
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    fields = dataclasses.fields(module.Settings)
    required = {field.name: tyro.MISSING for field in fields if (field.default, field.default_factory) == missing}
    default = module.Settings(**{**required, **module.PRESETS[preset]})
    return tyro.cli(
        module.Settings,
        default=default,
        args=words,
        prog=f"zoo train {name}",
        description=f"Preset: {preset} (of {', '.join(module.PRESETS)}; choose with --preset NAME).",
        config=(tyro.conf.UseAppendAction,),
    )


def run(arguments: tuple[str, Any]) -> int:
    """Runs the recipe that `parse` found."""
    name, settings = arguments
    folder = importlib.import_module(RECIPES[name]).train(settings)
    print(f"model folder: {folder}")
    return 0
