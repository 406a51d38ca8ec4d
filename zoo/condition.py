"""Time of day and weather of a frame, and the physical meaning of severities.

Severity 0 means none or unknown. Severities 1 to 5 are physical quantities, fixed before any model was evaluated:

| condition | unit | 1 | 2 | 3 | 4 | 5 |
| --- | --- | --- | --- | --- | --- | --- |
| fog | meteorological visibility, metres (5 % contrast) | 600 | 300 | 150 | 75 | 40 |
| rain | millimetres of water per hour | 2.5 | 7.5 | 15 | 30 | 60 |
| snow | millimetres of water per hour | 0.5 | 1 | 2 | 4 | 8 |
| dusk | lux on the ground | 800 | 400 | 200 | 100 | 40 |
| night | lux on the ground | 20 | 10 | 5 | 2 | 0.5 |
"""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import InputError, closest

__all__ = ["CONDITIONS", "DEFAULT_SEVERITY", "SEVERITY_UNITS", "TIMES_OF_DAY", "WEATHERS", "Condition"]

TIMES_OF_DAY = ("day", "dusk", "night")
WEATHERS = ("clear", "fog", "rain", "snow")
SEVERITY_UNITS: dict[str, tuple[str, tuple[float, float, float, float, float]]] = {
    "fog": ("m visibility", (600.0, 300.0, 150.0, 75.0, 40.0)),
    "rain": ("mm/h", (2.5, 7.5, 15.0, 30.0, 60.0)),
    "snow": ("mm/h", (0.5, 1.0, 2.0, 4.0, 8.0)),
    "dusk": ("lux", (800.0, 400.0, 200.0, 100.0, 40.0)),
    "night": ("lux", (20.0, 10.0, 5.0, 2.0, 0.5)),
}
DEFAULT_SEVERITY = 3
"""Severity of an adverse condition for which none is given."""


@dataclass(frozen=True)
class Condition:
    """Light and weather of one frame.

    Attributes:
        time_of_day: `day`, `dusk` or `night`.
        weather: `clear`, `fog`, `rain` or `snow`.
        severity: 0 (none or unknown) to 5; the table above gives the physical value of each step.
    """

    time_of_day: str = "day"
    weather: str = "clear"
    severity: int = 0

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.time_of_day, TIMES_OF_DAY, "time of day"),
            (self.weather, WEATHERS, "weather"),
        ):
            if value not in known:
                raise InputError(f"unknown {what} {value!r}{closest(value, known)}; known: {', '.join(known)}")
        if isinstance(self.severity, bool) or not (isinstance(self.severity, int) and 0 <= self.severity <= 5):
            raise InputError(f"severity {self.severity!r} must be a whole number from 0 to 5")

    @property
    def name(self) -> str:
        """The weather if it is adverse, otherwise the time of day if it is not day, otherwise `clear`."""
        if self.weather != "clear":
            return self.weather
        return "clear" if self.time_of_day == "day" else self.time_of_day

    @property
    def physical(self) -> tuple[float, str] | None:
        """Value and unit of the severity, or `None` at severity 0 and in clear daylight."""
        if self.severity == 0 or self.name == "clear":
            return None
        unit, steps = SEVERITY_UNITS[self.name]
        return steps[self.severity - 1], unit

    @classmethod
    def parse(cls, name: str, severity: int = DEFAULT_SEVERITY) -> Condition:
        """The condition with this name: `clear`, `dusk`, `night`, `fog`, `rain` or `snow`."""
        if name == "clear":
            return cls()
        if name in TIMES_OF_DAY[1:]:
            return cls(time_of_day=name, severity=severity)
        if name in WEATHERS[1:]:
            return cls(weather=name, severity=severity)
        raise InputError(f"unknown condition {name!r}{closest(name, CONDITIONS)}; known: {', '.join(CONDITIONS)}")


CONDITIONS = ("clear", "dusk", "night", "fog", "rain", "snow")
