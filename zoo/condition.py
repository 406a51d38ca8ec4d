"""Time of day and weather of a frame, and the physical meaning of severities.

Severity 0 means none or unknown. Severities 1 to 5 are physical quantities, fixed before any model was evaluated:

| condition | unit | 1 | 2 | 3 | 4 | 5 | free values |
| --- | --- | --- | --- | --- | --- | --- | --- |
| fog | meteorological visibility, metres (5 % contrast) | 600 | 300 | 150 | 75 | 40 | 5 to 5000 |
| rain | millimetres of water per hour | 2.5 | 7.5 | 15 | 30 | 60 | 0.1 to 300 |
| snow | millimetres of water per hour | 0.5 | 1 | 2 | 4 | 8 | 0.1 to 30 |
| dusk | lux on the ground | 800 | 400 | 200 | 100 | 40 | 5 to 2000 |
| night | lux on the ground | 20 | 10 | 5 | 2 | 0.5 | 0.05 to 100 |

`Condition.parse` reads them as text: `fog`, `fog:4` (a severity), `fog:120m` (a value), `night+rain` (a time of day and
a weather), `night:4+rain:7.5mm/h`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from zoo.errors import InputError, closest

__all__ = [
    "CONDITIONS",
    "DEFAULT_SEVERITY",
    "SEVERITY_UNITS",
    "TIMES_OF_DAY",
    "VALUE_LIMITS",
    "WEATHERS",
    "Condition",
]

TIMES_OF_DAY = ("day", "dusk", "night")
WEATHERS = ("clear", "fog", "rain", "snow")
CONDITIONS = ("clear", "dusk", "night", "fog", "rain", "snow")
"""Conditions of one part."""
SEVERITY_UNITS: dict[str, tuple[str, tuple[float, float, float, float, float]]] = {
    "fog": ("m visibility", (600.0, 300.0, 150.0, 75.0, 40.0)),
    "rain": ("mm/h", (2.5, 7.5, 15.0, 30.0, 60.0)),
    "snow": ("mm/h", (0.5, 1.0, 2.0, 4.0, 8.0)),
    "dusk": ("lux", (800.0, 400.0, 200.0, 100.0, 40.0)),
    "night": ("lux", (20.0, 10.0, 5.0, 2.0, 0.5)),
}
VALUE_LIMITS: dict[str, tuple[float, float]] = {
    "fog": (5.0, 5000.0),
    "rain": (0.1, 300.0),
    "snow": (0.1, 30.0),
    "dusk": (5.0, 2000.0),
    "night": (0.05, 100.0),
}
"""Lowest and highest value that the world renders, in the units of `SEVERITY_UNITS`."""
DEFAULT_SEVERITY = 3
"""Severity of an adverse condition for which none is given."""
_SUN_LUX = 120_000.0  # on the ground, from sun and sky together, with the sun overhead
_PART = re.compile(r"([a-z]+)(?:[:-](.+))?")
_AMOUNT = re.compile(r"([+-]?\d+(?:\.\d+)?) ?([a-z/]*)")


@dataclass(frozen=True)
class Condition:
    """Light and weather of one frame.

    Attributes:
        time_of_day: `day`, `dusk` or `night`.
        weather: `clear`, `fog`, `rain` or `snow`.
        severity: 0 (none or unknown) to 5, of the weather if it is adverse and otherwise of the time of day; the table
            above gives the physical value of each step.
        time_severity: The same for a time of day with adverse weather.
        weather_value: Physical value of the weather in place of a severity, see `SEVERITY_UNITS` for the unit.
        time_value: Physical value of the time of day in place of a severity.
    """

    time_of_day: str = "day"
    weather: str = "clear"
    severity: int = 0
    time_severity: int = 0
    weather_value: float | None = None
    time_value: float | None = None

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.time_of_day, TIMES_OF_DAY, "time of day"),
            (self.weather, WEATHERS, "weather"),
        ):
            if value not in known:
                raise InputError(f"unknown {what} {value!r}{closest(value, known)}; known: {', '.join(known)}")
        for step in (self.severity, self.time_severity):
            if isinstance(step, bool) or not (isinstance(step, int) and 0 <= step <= 5):
                raise InputError(f"severity {step!r} must be a whole number from 0 to 5")
        if self.time_severity and len(self.parts) < 2:
            raise InputError(
                f"time_severity {self.time_severity} belongs to a time of day with adverse weather; the severity of "
                f"{self.name} alone is `severity`"
            )
        for part, amount in ((self.weather, self.weather_value), (self.time_of_day, self.time_value)):
            if amount is not None:
                _check_value(part, amount)
                if self._step(part):
                    raise InputError(
                        f"{part} has both a severity, {self._step(part)}, and a value, {amount:g}; give one"
                    )

    @property
    def parts(self) -> tuple[str, ...]:
        """The time of day unless it is day, and the weather unless it is clear; nothing on a clear day."""
        return tuple(part for part in (self.time_of_day, self.weather) if part not in ("day", "clear"))

    @property
    def name(self) -> str:
        """`clear`, or the parts joined by `+`, each with its free value if it has one: `night+rain`, `fog-120m`.

        Figures are reported under this name; it contains no character that a file name cannot.
        """
        return "+".join(self._written(part, False) for part in self.parts) or "clear"

    @property
    def label(self) -> str:
        """The name with severities: `night-4+rain-2`. `Condition.parse` reads names and labels back."""
        return "+".join(self._written(part, True) for part in self.parts) or "clear"

    @property
    def physical(self) -> tuple[float, str] | None:
        """Value and unit of the weather or, if that is clear, of the time of day; `None` if neither is known."""
        part = self.parts[-1] if self.parts else ""
        if not part or (self._step(part) == 0 and self._value(part) is None):
            return None
        return self.amount(part), SEVERITY_UNITS[part][0]

    @property
    def order(self) -> tuple[tuple[int, float], ...]:
        """Sorts conditions by time of day, then by weather, each from mild to severe."""
        keys = []
        for known, part in ((TIMES_OF_DAY, self.time_of_day), (WEATHERS, self.weather)):
            amount = self.amount(part) if part in self.parts else 0.0
            falls = part in ("fog", "dusk", "night")  # less of it is worse
            keys.append((known.index(part), -amount if falls else amount))
        return tuple(keys)

    def amount(self, part: str) -> float:
        """Physical value of `part` (`fog`, `rain`, `snow`, `dusk`, `night`); that of step 3 if it is unknown."""
        value = self._value(part) if part in self.parts else None
        step = self._step(part) if part in self.parts else 0
        return SEVERITY_UNITS[part][1][(step or DEFAULT_SEVERITY) - 1] if value is None else value

    def by_day(self) -> Condition:
        """The same weather in daylight."""
        severity = 0 if self.weather == "clear" else self.severity
        return replace(self, time_of_day="day", severity=severity, time_severity=0, time_value=None)

    def _step(self, part: str) -> int:
        return self.severity if part == self.parts[-1] else self.time_severity

    def _value(self, part: str) -> float | None:
        return self.weather_value if part in WEATHERS else self.time_value

    def _written(self, part: str, with_step: bool) -> str:
        value = self._value(part)
        if value is not None:
            return f"{part}-{value:.10g}{_unit(part).replace('/', '')}"
        return f"{part}-{self._step(part)}" if with_step and self._step(part) else part

    @classmethod
    def parse(cls, name: str, severity: int = DEFAULT_SEVERITY) -> Condition:
        """The condition that a text such as `fog`, `night:4+rain`, `fog:120m` or a `label` describes.

        Args:
            name: `clear`, or a time of day (`dusk`, `night`), a weather (`fog`, `rain`, `snow`), or both joined by `+`.
                `:` and a whole number give a part its severity, `:` and a number with a unit its physical value.
            severity: Of the parts that state neither.

        Raises:
            InputError: If a part is unknown, there are two weathers or two times of day, or a value is impossible.
        """
        if name == "clear":
            return cls()
        parts = [_parse_part(text.strip(), name, severity) for text in name.split("+")]
        times = [part for part in parts if part[0] in TIMES_OF_DAY]
        weathers = [part for part in parts if part[0] in WEATHERS]
        for several, what in ((times, "times of day"), (weathers, "weathers")):
            if len(several) > 1:
                raise InputError(
                    f"condition {name!r} has {len(several)} {what}; a frame has one time of day and one weather, as in "
                    "night+rain"
                )
        time, time_step, time_value = times[0] if times else ("day", 0, None)
        if not weathers:
            return cls(time_of_day=time, severity=time_step, time_value=time_value)
        weather, step, value = weathers[0]
        return cls(time, weather, step, time_step, value, time_value)


def _unit(part: str) -> str:
    """As it is written after a value."""
    return SEVERITY_UNITS[part][0].split()[0]


def _parse_part(text: str, whole: str, severity: int) -> tuple[str, int, float | None]:
    """Name, severity (0 if there is a value) and value of one part of the condition `whole`."""
    found = _PART.fullmatch(text)
    part = found[1] if found else text
    if part == "clear":
        raise InputError(f"condition {whole!r}: clear stands alone, without a severity; omit it from mixtures")
    if part not in SEVERITY_UNITS:
        raise InputError(f"unknown condition {part!r}{closest(part, CONDITIONS)}; known: {', '.join(CONDITIONS)}")
    assert found
    if found[2] is None:
        return part, severity, None
    unit = _unit(part)
    amount = _AMOUNT.fullmatch(found[2])
    if amount is None or amount[2] not in ("", unit, unit.replace("/", "")):
        raise InputError(
            f"condition {text!r}: expected {part}:N with a severity N from 1 to 5, or a value in {unit}, such as "
            f"{part}:{SEVERITY_UNITS[part][1][2]:g}{unit}"
        )
    if not amount[2]:
        if not re.fullmatch("[1-5]", amount[1]):
            raise InputError(
                f"condition {text!r}: severity {amount[1]} is not a whole number from 1 to 5; for a value, add its "
                f"unit: {part}:{amount[1]}{unit}"
            )
        return part, int(amount[1]), None
    _check_value(part, float(amount[1]))
    return part, 0, float(amount[1])


def _check_value(part: str, value: float) -> None:
    """Refuses a physical value that the world cannot render."""
    if part not in VALUE_LIMITS:
        raise InputError(f"{part} has no physical value, but {value:g} is given; omit it")
    unit, (low, high) = _unit(part), VALUE_LIMITS[part]
    if isinstance(value, bool) or not low <= value <= high:
        sun = f", and the sun at noon gives {_SUN_LUX:,.0f} lux" if unit == "lux" and value > _SUN_LUX else ""
        raise InputError(f"{part} of {value:g} {unit} is outside {low:g} to {high:g} {unit}{sun}")
