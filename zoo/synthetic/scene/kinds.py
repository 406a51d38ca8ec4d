"""Kinds of places: what differs between a city, a suburb and a country road."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PLACE_KINDS", "PlaceKind"]


@dataclass(frozen=True, kw_only=True)
class PlaceKind:
    """Numbers that differ between kinds of places; probabilities are 0 to 1.

    Attributes:
        share: Of all places.
        parking: Probability of a parking lane, for each side of the street.
        tram: Probability of rails.
        crossing: Probability that a side street leaves where one could.
        yards: Probabilities of grass, paving and gravel behind the pavement.
        floors: Mean number of floors of a house.
        floors_spread: Standard deviation of the number of floors between neighbours.
        built_up: Share of the frontage that houses stand on.
        rows: Whether houses may stand wall to wall.
        house_width: Smallest and largest, metres.
        walls: Probabilities of plaster, brick, stone and concrete.
        glass: Probability that a house's windows fill its front.
        roofs: Probabilities of gable, flat, hip and mansard roofs.
        shop: Probability of a shop on the ground floor.
        barriers: Probabilities of wall, fence, hedge, guard rail and nothing in front of the houses.
        crowd: People per metre of pavement.
        street_trees: Probability of a row of trees along a block.
        lamps: Probability that a block has street lamps.
        furniture: Factor on the number of signs, bollards, bins and the like.
        plants: Trees, conifers and bushes behind the pavement, per metre.
        plants_reach: Their mean distance from it, metres.
        crossing_people: Mean number of people who cross the main street each time it is stopped for them.
        traffic: Vehicles per metre of lane, on average.
        speeds: Slowest and fastest ego vehicle on an empty street, m/s.
        racks: Groups of parked bicycles or motorcycles per metre of block.
        cycle_lanes: Probability of lanes for bicycles.
        cyclist_gap: Mean metres between cyclists on their own lane.
        one_way: Probability of a street with a single lane.
        lane_width: Narrowest and widest, metres.
        setback: Nearest and farthest house fronts from the pavement, metres.
        flush: Probability that they stand right at the pavement instead.
        second_row: Probability of a house behind the first row, for every 22 m.
        woods: Groves behind the pavement per metre of block; each is a dozen trees with undergrowth.
        woods_from: How far behind the pavement they begin, metres.
        undergrowth: Bushes behind the pavement, per metre.
        meadow: Tufts of tall grass per metre of block.
        lots: Probability of a car park on a block.
        thickets: Groups of tall shrubs with leaves to the ground, per metre of block.
        parks: Probability that one side of the street is a park or an open field, with hardly a house.
        driveways: Lowered kerbs per metre of block.
        gaps: Smallest and largest space between houses that do not stand wall to wall, metres.
        verges: Probability that bushes grow all along a verge that is wide enough.
        bounds: Probability that a hedge or fence runs back from the street between two lots, or along their far ends.
    """

    share: float
    parking: float
    tram: float = 0.03
    crossing: float = 0.85
    yards: tuple[float, float, float] = (0.3, 0.6, 0.1)
    floors: float
    floors_spread: float = 0.8
    built_up: float
    rows: bool = False
    house_width: tuple[float, float] = (6, 16)
    walls: tuple[float, float, float, float] = (0.38, 0.42, 0.1, 0.1)
    glass: float = 0.05
    roofs: tuple[float, float, float, float] = (0.15, 0.7, 0.05, 0.1)
    shop: float = 0.05
    barriers: tuple[float, float, float, float, float] = (0.14, 0.33, 0.33, 0.03, 0.17)
    crowd: float
    street_trees: float
    lamps: float = 1.0
    furniture: float = 1.0
    plants: float = 0.035
    plants_reach: float = 8
    crossing_people: float = 2.5
    traffic: float = 0.025
    speeds: tuple[float, float] = (5, 12)
    racks: float = 0.013
    cycle_lanes: float = 0.22
    cyclist_gap: float = 28
    one_way: float = 0.0
    lane_width: tuple[float, float] = (2.9, 3.6)
    setback: tuple[float, float] = (0, 3)
    flush: float = 0.0
    second_row: float = 0.5
    woods: float = 0.015
    woods_from: float = 14
    undergrowth: float = 0.03
    meadow: float = 0.1
    lots: float = 0.0
    thickets: float = 0.02
    parks: float = 0.12
    gaps: tuple[float, float] = (0, 5)
    driveways: float = 0.01
    verges: float = 0.0
    bounds: float = 0.0


_PITCHED = (0.5, 0.3, 0.1, 0.1)

PLACE_KINDS: dict[str, PlaceKind] = {
    "town": PlaceKind(
        share=0.12,
        parking=0.35,
        floors=3.9,
        built_up=0.97,
        rows=True,
        roofs=_PITCHED,
        shop=0.6,
        crowd=0.32,
        street_trees=0.5,
        one_way=0.4,
        lane_width=(2.7, 3.2),
        setback=(1, 4),
        flush=0.7,
        racks=0.018,
        parks=0.08,
        lamps=0.8,
        furniture=0.8,
        tram=0.08,
        cycle_lanes=0.3,
        cyclist_gap=16,
        barriers=(0.3, 0.28, 0.28, 0.0, 0.14),
    ),
    "residential": PlaceKind(
        share=0.25,
        parking=0.25,
        yards=(0.8, 0.1, 0.1),
        floors=2.2,
        built_up=0.75,
        roofs=_PITCHED,
        barriers=(0.13, 0.38, 0.45, 0, 0.04),
        crowd=0.02,
        street_trees=0.5,
        plants=0.2,
        plants_reach=11,
        traffic=0.018,
        one_way=0.3,
        lane_width=(2.4, 2.9),
        setback=(4, 11),
        second_row=0.65,
        woods=0.1,
        woods_from=15,
        undergrowth=0.3,
        meadow=0.3,
        speeds=(4, 10),
        thickets=0.18,
        parks=0.22,
        gaps=(4, 15),
        driveways=0.05,
        racks=0.002,
        lamps=0.5,
        furniture=0.3,
        bounds=0.5,
        verges=0.5,
        crossing_people=0.8,
    ),
    "city": PlaceKind(
        share=0.13,
        parking=0.4,
        tram=0.4,
        floors=6.8,
        floors_spread=1.3,
        built_up=0.97,
        rows=True,
        walls=(0.3, 0.25, 0.25, 0.2),
        glass=0.25,
        shop=0.65,
        crowd=0.6,
        street_trees=0.6,
        one_way=0.3,
        lane_width=(2.75, 3.2),
        setback=(0.5, 3),
        flush=0.8,
        racks=0.03,
        crossing_people=3.5,
        parks=0.05,
        cycle_lanes=0.4,
        cyclist_gap=14,
        barriers=(0.3, 0.28, 0.28, 0.0, 0.14),
    ),
    "boulevard": PlaceKind(
        share=0.06,
        parking=0.35,
        tram=0.6,
        floors=6.3,
        built_up=0.95,
        rows=True,
        shop=0.4,
        crowd=0.45,
        street_trees=1.0,
        setback=(0, 4),
        flush=0.6,
        racks=0.022,
        undergrowth=0.15,
        thickets=0.04,
        parks=0.12,
        verges=0.6,
        cycle_lanes=0.5,
        cyclist_gap=13,
        barriers=(0.25, 0.25, 0.4, 0.0, 0.1),
    ),
    "rural": PlaceKind(
        share=0.07,
        parking=0.05,
        crossing=0.35,
        yards=(0.95, 0, 0.05),
        floors=1.5,
        built_up=0.35,
        roofs=_PITCHED,
        barriers=(0.02, 0.4, 0.4, 0.08, 0.1),
        crowd=0.004,
        street_trees=0.4,
        plants=0.2,
        plants_reach=12,
        crossing_people=0.3,
        traffic=0.014,
        lane_width=(2.4, 3.0),
        setback=(6, 20),
        second_row=0.15,
        woods=0.24,
        woods_from=9,
        undergrowth=0.35,
        meadow=1.2,
        thickets=0.2,
        parks=0.3,
        gaps=(4, 20),
        racks=0.0005,
        lamps=0.2,
        furniture=0.3,
        bounds=0.2,
        verges=0.25,
    ),
    "industrial": PlaceKind(
        share=0.05,
        parking=0.25,
        floors=2.4,
        built_up=0.6,
        house_width=(14, 40),
        walls=(0.2, 0.35, 0.05, 0.4),
        barriers=(0.08, 0.47, 0.35, 0.03, 0.07),
        glass=0.3,
        crowd=0.015,
        street_trees=0.5,
        plants=0.08,
        lane_width=(2.9, 3.4),
        setback=(3, 15),
        woods=0.07,
        undergrowth=0.25,
        meadow=0.3,
        lots=0.3,
        thickets=0.14,
        parks=0.2,
        gaps=(3, 14),
        driveways=0.03,
        racks=0.003,
        lamps=0.5,
        furniture=0.4,
        bounds=0.25,
        verges=0.4,
        crossing_people=0.5,
    ),
    "village": PlaceKind(
        share=0.11,
        parking=0.12,
        crossing=0.6,
        yards=(0.75, 0.12, 0.13),
        floors=1.8,
        built_up=0.75,
        roofs=_PITCHED,
        walls=(0.55, 0.2, 0.2, 0.05),
        barriers=(0.15, 0.36, 0.45, 0.0, 0.04),
        crowd=0.018,
        street_trees=0.4,
        plants=0.18,
        plants_reach=11,
        traffic=0.015,
        one_way=0.3,
        lane_width=(2.4, 2.8),
        setback=(1, 8),
        flush=0.2,
        second_row=0.5,
        woods=0.12,
        woods_from=16,
        undergrowth=0.28,
        meadow=0.4,
        speeds=(4, 10),
        thickets=0.18,
        parks=0.25,
        gaps=(2, 12),
        driveways=0.05,
        racks=0.002,
        lamps=0.45,
        furniture=0.3,
        bounds=0.5,
        verges=0.4,
        crossing_people=0.5,
    ),
    "suburb": PlaceKind(
        share=0.14,
        parking=0.15,
        yards=(0.9, 0.05, 0.05),
        floors=1.8,
        built_up=0.7,
        house_width=(9, 16),
        roofs=_PITCHED,
        barriers=(0.12, 0.39, 0.45, 0, 0.04),
        crowd=0.015,
        street_trees=0.5,
        plants=0.2,
        plants_reach=11,
        traffic=0.014,
        lane_width=(2.4, 2.8),
        setback=(4, 12),
        second_row=0.6,
        woods=0.12,
        woods_from=15,
        undergrowth=0.32,
        meadow=0.4,
        speeds=(4, 9),
        thickets=0.18,
        parks=0.25,
        gaps=(4, 15),
        driveways=0.06,
        racks=0.0015,
        lamps=0.5,
        furniture=0.3,
        bounds=0.55,
        one_way=0.1,
        verges=0.5,
        crossing_people=0.5,
    ),
    "country": PlaceKind(
        share=0.05,
        parking=0.0,
        crossing=0.2,
        yards=(1.0, 0, 0),
        floors=1.4,
        built_up=0.06,
        roofs=_PITCHED,
        barriers=(0.01, 0.15, 0.4, 0.2, 0.24),
        crowd=0.001,
        street_trees=0.3,
        plants=0.22,
        plants_reach=12,
        crossing_people=0.1,
        traffic=0.012,
        lane_width=(2.4, 3.0),
        setback=(10, 25),
        second_row=0.05,
        woods=0.3,
        woods_from=6,
        undergrowth=0.4,
        meadow=1.5,
        speeds=(8, 15),
        thickets=0.2,
        parks=0.5,
        racks=0.0,
        lamps=0.05,
        furniture=0.2,
        verges=0.25,
    ),
    "retail": PlaceKind(
        share=0.02,
        parking=0.1,
        yards=(0.15, 0.85, 0),
        floors=1.6,
        built_up=0.6,
        house_width=(18, 40),
        walls=(0.25, 0.2, 0.05, 0.5),
        barriers=(0.02, 0.2, 0.5, 0.08, 0.2),
        glass=0.5,
        shop=0.5,
        crowd=0.08,
        street_trees=0.7,
        plants=0.06,
        setback=(22, 34),
        undergrowth=0.3,
        meadow=0.2,
        lots=0.85,
        thickets=0.14,
        parks=0.2,
        driveways=0.03,
        racks=0.008,
        furniture=0.5,
        lamps=0.7,
        verges=0.6,
    ),
}
"""By name. A seed's kind is drawn by position in this table, so the order is part of every scene."""
