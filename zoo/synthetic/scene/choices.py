"""What a user may fix about places: their kinds, the season, and how busy they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from zoo.errors import InputError, closest
from zoo.synthetic.scene.kinds import PLACE_KINDS

__all__ = ["DENSITIES", "SEASONS", "Choices"]

SEASONS = {"summer": 0.45, "spring": 0.2, "autumn": 0.17, "winter": 0.18}
"""Share of all places by season. A seed's season is drawn by position in this table."""
DENSITIES = {"sparse": 0.4, "normal": 1.0, "dense": 2.0}
"""Factors on traffic, people and parked vehicles by name."""
_MOST = 4.0


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Which places may be drawn; without arguments all of them.

    Attributes:
        kinds: Kinds of places to draw from, with the shares of `PLACE_KINDS` relative to each other; empty: all.
        seasons: Seasons to draw from in the same way; empty: all.
        density: Factor on the number of vehicles on the road and at its side, of people and of cyclists, 0 to 4.

    Raises:
        InputError: If a kind or season is unknown or the density is out of range.
    """

    kinds: tuple[str, ...] = ()
    seasons: tuple[str, ...] = ()
    density: float = 1.0

    def __post_init__(self) -> None:
        _check("kind of place", self.kinds, PLACE_KINDS)
        _check("season", self.seasons, SEASONS)
        if not 0 <= self.density <= _MOST:  # false for what is not a number, too
            raise InputError(f"density {self.density:g} is outside 0 (nobody) to {_MOST:g}; 1 is normal")

    @classmethod
    def parse(cls, kind: str = "", season: str = "", density: str = "") -> Choices:
        """From the text of options: names with commas between them, and a name of `DENSITIES` or a number.

        Raises:
            InputError: If a name is unknown or the density is neither a name nor a number from 0 to 4.
        """
        return cls(kinds=_names(kind), seasons=_names(season), density=_density(density))

    @property
    def settings(self) -> dict[str, object]:
        """As written to the record of a run."""
        return {"kind": list(self.kinds), "season": list(self.seasons), "density": self.density}


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(","))) if text else ()


def _check(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"unknown {what} {name!r}{closest(name, known)}; choose from {', '.join(known)}")


def _density(text: str) -> float:
    if not text:
        return 1.0
    if text in DENSITIES:
        return DENSITIES[text]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        names = ", ".join(DENSITIES)
        raise InputError(f"density {text!r}{closest(text, DENSITIES)}: choose from {names}, or a number from 0 to 4")
    return number
