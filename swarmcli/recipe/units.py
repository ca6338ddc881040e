"""Durations and percentages as people write them. Pure; flags and recipes read them with the same code."""

import re
from collections.abc import Mapping

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"

_SECONDS: Mapping[str, float] = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h|d)", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)%", re.ASCII)
_LONGEST_S = 366 * 86400.0


def parse_duration(text: str) -> float:
    """Seconds in `500ms`, `90s`, `5m`, `1h30m`, `2d`.

    Raises:
        ValueError: not a duration; the message completes "it must be ...".
    """
    parts = [(found[1], found[2]) for found in _PART.finditer(text)]
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("a duration such as 90s, 5m or 1h30m")
    units = [unit for _, unit in parts]
    if units != [unit for unit in _SECONDS if unit in units]:
        raise ValueError("a duration with its units from large to small, such as 1h30m")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds <= 0:
        raise ValueError("longer than zero")
    if seconds > _LONGEST_S:
        raise ValueError("at most 366d")
    return seconds


def parse_percent(text: str) -> float:
    """The share, 0 to 1, in `15%`.

    Raises:
        ValueError: not a percentage from 0% to 100%; the message completes "it must be ...".
    """
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise ValueError("a percentage such as 15%")
    share = float(match[1]) / 100
    if share > 1:
        raise ValueError("at most 100%")
    return share
