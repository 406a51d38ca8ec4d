"""Conditions as text: mixtures, severities per part and physical values."""

from __future__ import annotations

import pytest

from zoo.condition import CONDITIONS, SEVERITY_UNITS, VALUE_LIMITS, Condition
from zoo.errors import InputError
from zoo.frame import Frame


@pytest.mark.parametrize(
    ("text", "amounts", "name", "label"),
    [
        ("clear", {}, "clear", "clear"),
        ("fog", {"fog": 150.0}, "fog", "fog-3"),
        ("fog:5", {"fog": 40.0}, "fog", "fog-5"),
        ("fog:120m", {"fog": 120.0}, "fog-120m", "fog-120m"),
        ("rain:7.5mm/h", {"rain": 7.5}, "rain-7.5mmh", "rain-7.5mmh"),
        ("snow:0.3 mm/h", {"snow": 0.3}, "snow-0.3mmh", "snow-0.3mmh"),
        ("night:3lux", {"night": 3.0}, "night-3lux", "night-3lux"),
        ("night+rain", {"night": 5.0, "rain": 15.0}, "night+rain", "night-3+rain-3"),
        ("rain+night", {"night": 5.0, "rain": 15.0}, "night+rain", "night-3+rain-3"),
        ("night:4+rain:2", {"night": 2.0, "rain": 7.5}, "night+rain", "night-4+rain-2"),
        ("dusk:1+fog:55m", {"dusk": 800.0, "fog": 55.0}, "dusk+fog-55m", "dusk-1+fog-55m"),
        ("night:0.5lux+snow:1", {"night": 0.5, "snow": 0.5}, "night-0.5lux+snow", "night-0.5lux+snow-1"),
    ],
)
def test_text_of_conditions(text: str, amounts: dict[str, float], name: str, label: str) -> None:
    condition = Condition.parse(text)
    assert {part: condition.amount(part) for part in condition.parts} == amounts
    assert (condition.name, condition.label) == (name, label)
    assert Condition.parse(label) == condition
    assert not set(label) & set('/\\:*?"<>| _')  # what file names cannot hold, and what Cityscapes' names split at


def test_a_severity_for_all_parts_without_their_own() -> None:
    both = Condition.parse("night+rain:2", severity=5)
    assert (both.time_severity, both.severity) == (5, 2)
    assert both.physical == (7.5, "mm/h")
    # As before: the severity of a mixture that names one is the weather's, and the light is that of step 3.
    old = Condition(time_of_day="dusk", weather="rain", severity=4)
    assert (old.amount("rain"), old.amount("dusk")) == (30.0, 200.0)


def test_group_of_a_frame_names_both_parts() -> None:
    assert Frame(id="a", condition=Condition.parse("night:4+rain:2")).group == "night+rain"
    assert Frame(id="a", condition=Condition.parse("fog:80m")).group == "fog-80m"


def test_by_day_the_weather_is_left() -> None:
    assert Condition.parse("night:2+rain:4").by_day() == Condition.parse("rain:4")
    assert Condition.parse("night:2lux+fog:90m").by_day() == Condition.parse("fog:90m")
    assert Condition.parse("night:4").by_day() == Condition()


def test_order_is_from_mild_to_severe() -> None:
    texts = ["night+rain:1mm/h", "fog:600m", "snow", "clear", "night:2", "fog:5", "rain:1", "night:30lux", "fog:1000m"]
    ordered = sorted(texts, key=lambda text: Condition.parse(text).order)
    assert ordered == [
        *("clear", "fog:1000m", "fog:600m", "fog:5", "rain:1", "snow"),
        *("night:30lux", "night:2", "night+rain:1mm/h"),
    ]


def test_every_step_lies_within_the_limits() -> None:
    assert set(VALUE_LIMITS) == set(SEVERITY_UNITS) == set(CONDITIONS) - {"clear"}
    for part, (_, steps) in SEVERITY_UNITS.items():
        low, high = VALUE_LIMITS[part]
        assert low <= min(steps)
        assert max(steps) <= high


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rain+snow", "condition 'rain+snow' has 2 weathers; a frame has one time of day and one weather"),
        ("fog:2+rain:3", "has 2 weathers"),
        ("fog+fog", "has 2 weathers"),
        ("night+dusk+rain", "has 2 times of day"),
        ("clear+rain", "clear stands alone"),
        ("clear:2", "clear stands alone"),
        ("frog", "unknown condition 'frog'; closest: fog"),
        ("night+", "unknown condition ''"),
        ("", "unknown condition ''"),
        ("fog:-50m", "fog of -50 m is outside 5 to 5000 m"),
        ("fog:0m", "outside 5 to 5000 m"),
        ("night:200000lux", "night of 200000 lux is outside 0.05 to 100 lux, and the sun at noon gives 120,000 lux"),
        ("night:3000lux", "night of 3000 lux is outside 0.05 to 100 lux"),
        ("fog:3lux", "expected fog:N with a severity N from 1 to 5, or a value in m, such as fog:150m"),
        ("rain:7.5", "severity 7.5 is not a whole number from 1 to 5; for a value, add its unit: rain:7.5mm/h"),
        ("rain:6", "severity 6 is not a whole number from 1 to 5"),
        ("night:0", "severity 0 is not a whole number"),
        ("fog:1e3m", "expected fog:N"),
        ("fog:nanm", "expected fog:N"),
        ("fog:", "unknown condition 'fog:'; closest: fog"),
    ],
)
def test_impossible_texts(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        Condition.parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weather": "fog", "severity": 2, "weather_value": 80.0}, "fog has both a severity, 2, and a value, 80"),
        ({"weather": "fog", "weather_value": float("nan")}, "fog of nan m is outside"),
        ({"weather_value": 80.0}, "clear has no physical value, but 80 is given"),
        ({"time_of_day": "night", "time_severity": 2}, "the severity of night alone is `severity`"),
        ({"time_of_day": "night", "weather": "rain", "time_severity": 6}, "severity 6 must be a whole number"),
    ],
)
def test_impossible_conditions(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Condition(**values)
