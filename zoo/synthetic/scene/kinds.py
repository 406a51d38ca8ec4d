"""Kinds of places: what differs between a town, a suburb and a country road."""

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
        plants: Trees, conifers and bushes behind the pavement, per metre.
        plants_reach: Their mean distance from it, metres.
        crossing_people: Mean number of people who cross the main street each time it is stopped for them.
        traffic: Vehicles per metre of lane, on average.
        speeds: Slowest and fastest ego vehicle on an empty street, m/s.
        racks: Groups of parked bicycles or motorcycles per metre of block.
        cyclist_gap: Mean metres between cyclists on their own lane.
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
    barriers: tuple[float, float, float, float, float] = (0.27, 0.4, 0.13, 0.03, 0.17)
    crowd: float
    street_trees: float
    plants: float = 0.035
    plants_reach: float = 8
    crossing_people: float = 2.5
    traffic: float = 0.025
    speeds: tuple[float, float] = (5, 12)
    racks: float = 0.02
    cyclist_gap: float = 45


_PITCHED = (0.5, 0.3, 0.1, 0.1)

PLACE_KINDS: dict[str, PlaceKind] = {
    "town": PlaceKind(
        share=0.34,
        parking=0.45,
        floors=2.6,
        built_up=0.93,
        rows=True,
        roofs=_PITCHED,
        shop=0.6,
        crowd=0.2,
        street_trees=0.3,
    ),
    "residential": PlaceKind(
        share=0.2,
        parking=0.6,
        yards=(0.6, 0.3, 0.1),
        floors=2.0,
        built_up=0.72,
        roofs=_PITCHED,
        barriers=(0.3, 0.25, 0.3, 0, 0.15),
        crowd=0.06,
        street_trees=0.55,
        plants=0.09,
    ),
    "city": PlaceKind(
        share=0.2,
        parking=0.5,
        tram=0.22,
        floors=4.5,
        floors_spread=1.6,
        built_up=0.92,
        rows=True,
        walls=(0.3, 0.25, 0.25, 0.2),
        glass=0.3,
        shop=0.65,
        crowd=0.28,
        street_trees=0.4,
    ),
    "boulevard": PlaceKind(
        share=0.1,
        parking=0.4,
        tram=0.22,
        floors=4.5,
        built_up=0.75,
        rows=True,
        shop=0.4,
        crowd=0.17,
        street_trees=0.9,
    ),
    "rural": PlaceKind(
        share=0.08,
        parking=0.05,
        crossing=0.35,
        yards=(0.95, 0, 0.05),
        floors=1.5,
        built_up=0.25,
        roofs=_PITCHED,
        barriers=(0.1, 0.3, 0.25, 0.2, 0.15),
        crowd=0.012,
        street_trees=0.6,
        plants=0.16,
        plants_reach=16,
        crossing_people=0.3,
    ),
    "industrial": PlaceKind(
        share=0.08,
        parking=0.35,
        floors=2.2,
        built_up=0.55,
        house_width=(14, 40),
        walls=(0.2, 0.35, 0.05, 0.4),
        glass=0.3,
        crowd=0.03,
        street_trees=0.4,
        plants=0.05,
    ),
}
"""By name. A seed's kind is drawn by position in this table, so the order is part of every scene."""
