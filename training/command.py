"""The command `zoo train RECIPE`."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

from zoo.errors import InputError, closest

__all__ = ["RECIPES", "parse", "parse_recipe", "run"]

RECIPES = {
    "segmenter": "zoo.training.segmenter",
    "lidar-segmenter": "zoo.training.lidar_segmenter",
}
_USAGE = "zoo train RECIPE [--preset NAME] [settings]; recipes: " + ", ".join(RECIPES)


def parse(words: Sequence[str]) -> tuple[str, Any]:
    """Parses the command line into the recipe's name and its settings."""
    if not words:
        raise InputError(f"no recipe given; {_USAGE}")
    if words[0] in ("-h", "--help"):
        print(_USAGE)
        raise SystemExit(0)
    name, *rest = words
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}{closest(name, RECIPES)}; known: {', '.join(RECIPES)}")
    return name, parse_recipe(name, rest)


def parse_recipe(name: str, words: Sequence[str]) -> Any:
    """Parses the settings of a recipe; `--preset` selects the defaults that the other options override."""
    import tyro

    from zoo.arguments import parse_arguments

    module = importlib.import_module(RECIPES[name])
    preset, words = _preset(words, tuple(module.PRESETS), f"zoo train {name}")
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    fields = dataclasses.fields(module.Settings)
    required = {field.name: tyro.MISSING for field in fields if (field.default, field.default_factory) == missing}
    default = module.Settings(**{**required, **module.PRESETS[preset]})
    return parse_arguments(
        module.Settings,
        words,
        default=default,
        prog=f"zoo train {name}",
        description=f"Defaults of the preset {preset}; --preset NAME selects one of {', '.join(module.PRESETS)}.",
        config=(tyro.conf.UseAppendAction,),
        others=("--preset",),
    )


def _preset(words: Sequence[str], known: Sequence[str], prog: str) -> tuple[str, list[str]]:
    """The preset named by `--preset` (the first one by default), and the words without that option."""
    places = [i for i, word in enumerate(words) if word.partition("=")[0] == "--preset"]
    if not places:
        return known[0], list(words)
    if len(places) > 1:
        raise InputError("--preset is given more than once; give it once")
    first = places[0]
    end = first + (1 if "=" in words[first] else 2)
    value = " ".join(words[first:end]).partition("=" if "=" in words[first] else " ")[2]
    if value not in known:
        got = f"got {value!r}{closest(value, known)}" if value and not value.startswith("--") else "got no value"
        raise InputError(f"--preset expects one of {', '.join(known)}, {got}; see {prog} --help")
    return value, [*words[:first], *words[end:]]


def run(arguments: tuple[str, Any]) -> int:
    """Runs the recipe with the settings from `parse`."""
    name, settings = arguments
    folder = importlib.import_module(RECIPES[name]).train(settings)
    print(f"model folder: {folder}")
    return 0
