"""Templates of everything that stands or moves in a street.

`template(kind, variant)` is a mesh around its own origin on the ground, facing +x. Each kind has `VARIANTS` of them,
which differ in shape; their colours come from the palette that is given when they are placed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from zoo.synthetic.shapes import furniture, people, plants, two_wheelers, vehicles
from zoo.synthetic.shapes.mesh import Mesh

__all__ = ["KINDS", "VARIANTS", "template"]

VARIANTS = 24
KINDS: dict[str, Callable[[np.random.Generator, int], Mesh]] = {
    "car": vehicles.car,
    "truck": vehicles.truck,
    "bus": vehicles.bus,
    "train": vehicles.train,
    "motorcycle": two_wheelers.motorcycle,
    "bicycle": two_wheelers.bicycle,
    "person": people.person,
    "cyclist": people.cyclist,
    "motorcyclist": people.motorcyclist,
    "tree": plants.tree,
    "conifer": plants.conifer,
    "bush": plants.bush,
    "grass": plants.grass,
    "lamp": furniture.lamp,
    "traffic_light": furniture.traffic_light,
    "sign": furniture.sign,
    "board": furniture.board,
    "bollard": furniture.bollard,
    "mast": furniture.mast,
    "bin": furniture.bin_,
    "bonnet": vehicles.bonnet,
    "bench": furniture.bench,
    "shelter": furniture.shelter,
    "far_tree": plants.far_tree,
}
"""Makers by name. The position in this table is part of a kind's seed, so add new ones at the end."""


@lru_cache(maxsize=1024)
def template(kind: str, variant: int) -> Mesh:
    """The mesh of one variant of one kind, made once per process."""
    number = list(KINDS).index(kind)
    return KINDS[kind](np.random.default_rng([771, number, variant]), variant)
