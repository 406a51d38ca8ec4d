"""What traffic signals show: the phases that vehicles and people obey (`Crossing.closed`)."""

from __future__ import annotations

from enum import IntEnum

from zoo.synthetic.scene.types import Crossing

__all__ = ["Lens", "lit_lenses"]

_AMBER_S = 3.0  # before the main street is stopped
_STARTING_S = 1.0  # of red and amber together, before it may go
_CLEARING_S = 3.0  # people start and finish crossing that long after and before the red of the main street


class Lens(IntEnum):
    """A light of a signal, for vehicles on the main street or for people who cross it."""

    GREEN = 0
    AMBER = 1
    RED = 2
    WALK = 3
    WAIT = 4


def lit_lenses(crossing: Crossing, time_s: float) -> frozenset[Lens]:
    """Which lights are on at scene time `time_s`, in the European order: green, amber, red, red with amber."""
    for start, end in crossing.closed:
        if start <= time_s < end:
            walk = Lens.WALK if start + _CLEARING_S <= time_s < end - _CLEARING_S else Lens.WAIT
            return frozenset({Lens.RED, walk} | ({Lens.AMBER} if time_s >= end - _STARTING_S else set()))
        if start - _AMBER_S <= time_s < start:
            return frozenset({Lens.AMBER, Lens.WAIT})
    return frozenset({Lens.GREEN, Lens.WAIT})
