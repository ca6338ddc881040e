r"""Numbers as people and models write them: money, fractions, powers, the separators of several countries, LaTeX. Pure.

Rule: a number is read whole. Whoever takes the end of `1.234,56`, `1{,}234`, `2.5 \times 10^6` or `10 m^2` for the
number makes answers agree that have nothing in common.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_TIMES: Mapping[str, float] = {
    "hundred": 1e2,
    "k": 1e3,
    "thousand": 1e3,
    "lakh": 1e5,
    "m": 1e6,
    "mn": 1e6,
    "million": 1e6,
    "crore": 1e7,
    "b": 1e9,
    "bn": 1e9,
    "billion": 1e9,
    "trillion": 1e12,
}
_TYPESET: Mapping[str, str] = {"{,}": ",", ",\\!": ",", "\\,": " ", "\\;": " ", "\\:": " "}
"""How LaTeX sets digits apart."""
_IS_TYPESET = re.compile("|".join(map(re.escape, _TYPESET)))
_GLUED = re.compile(r"(?:[^\W\d_](?=\d)|\^\{?).\Z", re.DOTALL)
"""How a text ends with the first character of a number that is part of a name or of a unit: CO2, m^2."""

_COMMAS = r"[1-9]\d{0,2}(?:,\d{3}){1,6}|[1-9]\d?(?:,\d\d){1,6},\d{3}"
"""Thousands, and lakhs."""
_DECIMAL = (
    rf"(?:(?:{_COMMAS})(?!,?\d)(?:\.\d+)?"
    r"|[1-9]\d{0,2}(?:\.\d{3}){1,6},\d+|[1-9]\d{0,2}(?:\.\d{3}){2,6}(?![.\d])"
    r"|\d{1,3}(?:['\u2019_\u00a0\u2009\u202f\ ]\d{3}){1,6}(?!\d)(?:[.,]\d+)?"
    r"|(?<!\d,)\d+,\d+(?!,?\d)"  # with more commas it is a list
    r"|\d+(?:\.\d+)?|(?<![\w.])\.\d+)"
)
_SLASH = r"[/\u2044\u2215]"
_DASHES = r"\u2010-\u2013\u2212\ufe63\uff0d-"
_MINUS = f"[{_DASHES}]"
_SIGNS = r"$\u00a2-\u00a5\u20a0-\u20cf"
_FRACTIONS = r"\u00bc-\u00be\u2150-\u215e"
_VULGAR = f"[{_FRACTIONS}]"
_POWER = (
    rf"(?:(?:\^|\*\*)\{{?{_MINUS}?\d{{1,3}}(?!\d)\}}?"
    r"|\u207b?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]{1,3})"
)
_NUMERAL = re.compile(
    rf"""
    (?=[\d.\\{_SIGNS}{_FRACTIONS}{_DASHES}])  # what a number can begin with: most characters are ruled out by it
    (?P<minus>(?<![\w)\]}}%°€£]){_MINUS}(?!\s)  # with a space behind it a bullet or a dash, but for `x = - 5`
      |(?:(?<=[=:(<>≈])|(?<=[=:(<>≈]\ )){_MINUS}\ )?
    (?P<money>\\?[{_SIGNS}]\s?(?P<minus_money>{_MINUS})?)?
    (?:(?P<whole>\d+)(?:\ (?=\d+{_SLASH}\d)|\s?(?={_VULGAR}|\\[dtc]?frac)))?
    (?:\\[dtc]?frac\s?(?:\{{(?P<minus_top>{_MINUS})?(?P<top>{_DECIMAL})\}}\{{(?P<bottom>{_DECIMAL})\}}|(?P<digits>\d\d))
      |(?P<vulgar>{_VULGAR})
      |(?P<number>{_DECIMAL})
       (?:e(?P<exp>[+-]?\d{{1,3}})
         |\s?(?:[x×·*]|\\times|\\cdot)\s?10(?P<ten>{_POWER})
         |(?P<power>{_POWER}))?
       (?:\s?{_SLASH}\s?(?P<over>{_DECIMAL}))?)
    (?P<percent>\s?(?:\\?%|percent\b|per\ cent\b))?
    (?:\s?(?P<times>{"|".join(word for word in _TIMES if len(word) > 1)})s?\b
      |(?P<letter>(?-i:[kMB])|(?(money)[kmb]|(?!)))(?!\w))?
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Numeral(NamedTuple):
    """One number, and where in the text it stands."""

    value: float
    start: int
    end: int
    glued: bool
    """It is part of a name or of a unit."""


def plain(text: str) -> str:
    """The text as `numerals` reads it: without LaTeX's ways to set digits apart."""
    return _IS_TYPESET.sub(lambda found: _TYPESET[found[0]], text)


def numerals(text: str) -> Iterator[Numeral]:
    """The numbers in a plain text, in order; what only looks like one (5/0, 1e999) is left out."""
    for match in _NUMERAL.finditer(text):
        start, end = match.span()
        value = _value_of(match)
        if value is not None:
            glued = _GLUED.search(text[max(0, start - 2) : start + 1]) is not None
            yield Numeral(value, start, end, glued)


def _value_of(match: re.Match[str]) -> float | None:
    try:
        value = float(match["whole"] or 0) + _magnitude(match)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    if match["percent"]:
        value /= 100
    times = match["times"] or match["letter"]
    if times:
        value *= _TIMES[times.casefold()]
    if match["minus"] or match["minus_money"] or match["minus_top"]:
        value = -value
    return value if math.isfinite(value) else None


def _magnitude(match: re.Match[str]) -> float:
    if match["top"]:
        return _float(match["top"]) / _float(match["bottom"])
    if match["digits"]:
        return int(match["digits"][0]) / int(match["digits"][1])
    if match["vulgar"]:
        return unicodedata.numeric(match["vulgar"])
    ten = match["exp"] or (_integer(match["ten"]) if match["ten"] else 0)
    value = _float(match["number"], ten)
    if match["power"]:
        value **= _integer(match["power"])
    return value / _float(match["over"]) if match["over"] else value


def _float(text: str, ten: str | int = 0) -> float:
    """What a `_DECIMAL` spells, times so many powers of ten."""
    digits = re.sub(r"[^\d.,]", "", text)
    whole, mark, rest = digits.rpartition("," if digits.rfind(",") > digits.rfind(".") else ".")
    groups = mark in whole or re.fullmatch(_COMMAS, digits) is not None
    return float(f"{re.sub('[.,]', '', whole)}{'' if groups else '.'}{rest}e{ten}")


def _integer(power: str) -> int:
    """What `^{-3}`, `**6` or `⁻⁶` raise to."""
    sign = -1 if re.search(rf"{_MINUS}|\u207b", power) else 1
    return sign * int(re.sub(r"\D", "", unicodedata.normalize("NFKC", power)))
