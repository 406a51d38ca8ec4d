"""What a surface is: its class, and what it is made of."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Label", "Material"]


class Label(IntEnum):
    """Training ids of Cityscapes."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    WALL = 3
    FENCE = 4
    POLE = 5
    TRAFFIC_LIGHT = 6
    TRAFFIC_SIGN = 7
    VEGETATION = 8
    TERRAIN = 9
    SKY = 10
    PERSON = 11
    RIDER = 12
    CAR = 13
    TRUCK = 14
    BUS = 15
    TRAIN = 16
    MOTORCYCLE = 17
    BICYCLE = 18
    NONE = 255


class Material(IntEnum):
    """What a surface is made of: decides texture, gloss and the lidar's reflectance."""

    PLAIN = 0
    ASPHALT = 1
    GROUND = 2  # a block between streets: the shader decides per pixel between pavement, grass and yard
    KERB = 3
    PLASTER = 4
    BRICK = 5
    STONE = 6
    CONCRETE = 7
    WINDOW = 8  # a pane in a facade, with its frame
    SHOP = 9  # a shop window
    ROOF = 10
    PAINT = 11
    GLASS = 12  # a vehicle's window
    RUBBER = 13
    METAL = 14
    FOLIAGE = 15
    BARK = 16
    CLOTH = 17
    SIGN = 18
    LAMP = 19  # shines at dusk and by night
    SIGNAL = 20  # always shines: traffic lights
    HEADLIGHT = 21
    TAILLIGHT = 22
    FASCIA = 23  # a shop's sign board, with something like writing on it
    HILL = 24
    SKIN = 25
    METAL_RAIL = 26
    WOOD = 27
    EGO = 28  # the vehicle that carries the sensors, in lidar sweeps
    BRANCH = 29  # bark above the trunk: SemanticKITTI counts it as vegetation
    BRAKELIGHT = 30  # a rear lamp of a vehicle that brakes
