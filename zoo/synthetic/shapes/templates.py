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

__all__ = ["KINDS", "VARIANTS", "add_variant", "poses_of", "template"]

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
    "grove": plants.grove,
    "thicket": plants.thicket,
    "far_bush": plants.far_bush,
    "far_thicket": plants.far_thicket,
}
"""Makers by name. The position in this table is part of a kind's seed, so add new ones at the end."""


_SHAPED_AS = {"far_bush": "bush", "far_thicket": "thicket"}
"""Kinds that share their random numbers with another one, so that both have the same outline."""
_POSED: dict[str, Callable[[np.random.Generator, int, int], Mesh]] = {"person": people.person}
"""Kinds whose limbs move: their makers take a pose as well."""


def poses_of(kind: str) -> int:
    """In how many poses a kind of thing exists; those of people who walk follow each other over one stride."""
    return people.POSES if kind in _POSED else 1


_OWN: dict[tuple[str, int], Mesh] = {}


def add_variant(kind: str, mesh: Mesh, sha256: str) -> int:
    """Makes a mesh of one's own known to this process and returns its variant, which depends on its content alone."""
    variant = VARIANTS + int(sha256[:7], 16)
    _OWN[kind, variant] = mesh
    return variant


@lru_cache(maxsize=2048)
def template(kind: str, variant: int, pose: int = 0) -> Mesh:
    """The mesh of one variant of one kind, made once per process; `pose` is below `poses_of(kind)`."""
    if variant >= VARIANTS:
        return _OWN[kind, variant]
    number = list(KINDS).index(_SHAPED_AS.get(kind, kind))
    rng = np.random.default_rng([771, number, variant])
    return _POSED[kind](rng, variant, pose) if kind in _POSED else KINDS[kind](rng, variant)
