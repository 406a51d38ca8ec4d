"""Meshes of one's own in a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zoo.synthetic.scene.types import Scene, Thing
from zoo.synthetic.shapes.own_mesh import OwnMesh
from zoo.synthetic.shapes.templates import add_variant

__all__ = ["with_meshes"]


def with_meshes(scene: Scene, meshes: Sequence[OwnMesh]) -> Scene:
    """The place with `meshes` in the places of its things of their kinds that never move: they take turns."""
    variants: dict[str, list[int]] = {}
    for own in meshes:
        variants.setdefault(own.kind, []).append(add_variant(own.kind, own.mesh, own.sha256))
    seen = dict.fromkeys(variants, 0)

    def dressed(thing: Thing) -> Thing:
        if thing.kind not in variants or thing.moves:
            return thing
        mine = variants[thing.kind]
        variant = mine[seen[thing.kind] % len(mine)]
        seen[thing.kind] += 1
        return replace(thing, variant=variant, scale=(1.0, 1.0, 1.0), palette=())

    return replace(scene, things=tuple(dressed(thing) for thing in scene.things)) if meshes else scene
