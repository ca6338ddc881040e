"""Durations and percentages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.recipe.units import parse_duration, parse_percent


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1.5h", 5400),
        ("1m500ms", 60.5),
    ],
)
def test_durations(text: str, seconds: float):
    """Numbers with units, from large to small."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("90", "a duration such as 90s"), ("", "a duration such as 90s"), ("5 m", "a duration such as 90s"),
        ("-5m", "a duration such as 90s"), ("5min", "a duration such as 90s"), ("m", "a duration such as 90s"),
        ("1e3s", "a duration such as 90s"), ("٣s", "a duration such as 90s"), ("30m1h", "from large to small"),
        ("5m5m", "from large to small"), ("0s", "longer than zero"), ("0h0m", "longer than zero"), ("400d", "at most"),
        ("9" * 12 + "d", "at most"), ("9" * 13 + "s", "a duration such as 90s"),
    ],
)  # fmt: skip
def test_what_is_no_duration(text: str, reason: str):
    """A bare number is no duration: nobody knows its unit."""
    with pytest.raises(ValueError, match=reason):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "share"), [("15%", 0.15), ("0%", 0), ("100%", 1), ("2.5%", 0.025)]
)
def test_percentages(text: str, share: float):
    """A share between nothing and all."""
    assert parse_percent(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["15", "0.15", "-1%", "101%", "%", "", "1e1%", "nan%", "15 %"])
def test_what_is_no_percentage(text: str):
    """0.15 could mean 15 % or 0.15 %."""
    with pytest.raises(ValueError, match=r"a percentage such as 15%|at most 100%"):
        parse_percent(text)


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str):
    """Both readers refuse politely."""
    for parse in (parse_duration, parse_percent):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert str(error)  # noqa: PT017 - either way is fine, each with a reason
