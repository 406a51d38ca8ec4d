"""How much of a laser pulse at 905 nm the surfaces of the world send back.

In the near infrared leaves, grass, cloth and skin are brighter than they look, and coats of paint differ less than
their colours; carbon black stays black. The values are round numbers of the usual size for dry surfaces: asphalt 0.12
to 0.23, concrete and paving 0.25 to 0.45, brick and plaster 0.3 to 0.45, leaves and grass 0.35 to 0.5, bark 0.35 to
0.45, car paint a few percent (black) to a third (white), since most of what it reflects, it reflects elsewhere.
"""

from __future__ import annotations

import numpy as np

from zoo.synthetic.rendering.light import Light
from zoo.synthetic.rendering.street_texture import ground_albedo, road_albedo
from zoo.synthetic.scene.types import Scene
from zoo.synthetic.shapes.surfaces import Label, Material

__all__ = ["GLOSSY", "PANES", "reflectance"]


def _table(*materials: Material) -> np.ndarray:
    """`(256,)` bool by material."""
    return np.isin(np.arange(256), materials)


_GLASS = (Material.GLASS, Material.WINDOW, Material.SHOP)
PANES = _table(*_GLASS)
"""`(256,)` bool: is it a pane of glass."""
GLOSSY = _table(*_GLASS, Material.PAINT, Material.METAL)
"""`(256,)` bool: reflects by Lambert's law at most. All others are rough."""
_LEVEL = _table(Material.ASPHALT, Material.GROUND, Material.KERB)
_INFRARED = (
    (Material.FOLIAGE, 0.35, 0.6),
    (Material.CLOTH, 0.25, 0.6),
    (Material.SKIN, 0.4, 0.3),
    (Material.PAINT, 0.01, 0.35),
    (Material.BARK, 0.3, 0.6),
    (Material.BRANCH, 0.3, 0.6),
    (Material.WOOD, 0.3, 0.5),
    (Material.RUBBER, 0.04, 0.5),
    (Material.METAL, 0.1, 0.5),
    (Material.PLASTER, 0.2, 0.45),
    (Material.BRICK, 0.25, 0.4),
    (Material.STONE, 0.2, 0.45),
    (Material.ROOF, 0.2, 0.4),
    (Material.KERB, 0.15, 0.6),
)
"""Of a material: the visible reflectance r becomes low + factor * r."""


def reflectance(
    scene: Scene,
    light: Light,
    material: np.ndarray,
    color: np.ndarray,
    uv: np.ndarray,
    cosine: np.ndarray,
    label: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What is hit by `(Q,)` rays.

    Args:
        scene: The place.
        light: Air and ground: wet or covered with snow.
        material: `(Q,)` of the surfaces.
        color: `(Q, 3)` of their meshes.
        uv: `(Q, 2)` surface coordinates.
        cosine: `(Q,)` of the angle of incidence.
        label: `(Q,)` of the meshes.

    Returns:
        `(Q,)` reflectance at 905 nm, above 1 for retroreflectors, and `(Q,)` labels, in which the ground is told apart.
    """
    label = label.copy()
    rho = color.mean(1)
    foot = np.full(len(material), 0.05, np.float32)
    for which, low, factor in _INFRARED:
        at = material == which
        rho[at] = low + factor * rho[at]
    at = np.nonzero(material == Material.ASPHALT)[0]
    if len(at):
        tone, paint = road_albedo(scene, uv[at, 0], uv[at, 1], foot[at])
        paint = np.clip(4 * paint, 0, 1)  # glass beads in the paint
        rho[at] = (0.07 + 0.95 * tone.mean(1)) * (1 - paint) + 0.55 * paint
    at = np.nonzero(material == Material.GROUND)[0]
    if len(at):
        tone, label[at] = ground_albedo(scene, uv[at, 0], uv[at, 1], foot[at])
        rho[at] = np.where(label[at] == Label.TERRAIN, 0.32 + tone.mean(1), 0.2 + 0.75 * tone.mean(1))
    rho[PANES.take(material)] = 0.1
    rho[material == Material.EGO] = 0.35
    rho[np.isin(material, (Material.LAMP, Material.SIGNAL, Material.HEADLIGHT))] = 0.45
    rho[(material == Material.TAILLIGHT) | (material == Material.BRAKELIGHT)] = 2.0
    rho[material == Material.SIGN] = 8.0
    flat = _LEVEL.take(material)
    if light.wet > 0:  # a water film reflects a slanting beam away, on its way in and again on its way out (Schlick)
        through = (1 - 0.02 - 0.98 * (1 - cosine) ** 5) ** 2
        film = (1 - 0.5 * light.wet) * (1 - light.wet + light.wet * through)
        rho = rho * np.where(flat, film, 1 - 0.3 * light.wet)
    if light.snow > 0:
        rho = np.where(flat, rho * (1 - light.snow) + 0.8 * light.snow, rho)
    return rho, label
