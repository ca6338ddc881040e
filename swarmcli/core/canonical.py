"""Canonical values: when two answers say the same thing.

Published comparisons went wrong for want of this: "$20.00" and 20 counted as two answers (RouteLLM's labels of GSM8K).
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import cast

from swarmcli.recipe.values import Canonical, Json

Value = str | float
"""A canonical value; compare with `same`."""

ABSOLUTE = 1e-6
_RELATIVE = 1e-9
_QUOTES = "\"'`*_ "
_MAX_CHARS = 100_000
"""Of a longer answer only the end is looked at: that is where the result stands."""

_TIMES: Mapping[str, float] = {
    "thousand": 1e3,
    "million": 1e6,
    "mn": 1e6,
    "billion": 1e9,
    "bn": 1e9,
    "trillion": 1e12,
}
_DIGITS = r"\d{1,3}(?:(?:,\d{3})+|(?:'\d{3})+|(?:[\u2009\u202f\u00a0 ]\d{3})+)(?!\d)|\d+"
_DECIMAL = rf"(?:{_DIGITS})(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    r"(?P<minus>(?<![\w)])[-\u2212\u2013]\s?)?(?:[$\u20ac\u00a3\u00a5\u20b9]\s?)?(?P<minus2>(?<![\w)])[-\u2212])?"
    rf"(?:\\[dt]?frac\{{(?P<top>{_DECIMAL})\}}\{{(?P<bottom>{_DECIMAL})\}}"
    rf"|(?:(?P<whole>\d+)[ ](?=\d+/\d))?(?P<number>{_DECIMAL})(?P<exp>[eE][+-]?\d{{1,3}})?"
    rf"(?:\s?/\s?(?P<over>{_DECIMAL}))?)"
    rf"(?P<percent>\s?(?:\\?%|percent\b|per cent\b))?(?:\s?(?P<times>{'|'.join(_TIMES)})\b)?",
    re.IGNORECASE,
)
_CHOICE_WORDS = re.compile(
    r"\b(?:answer|option|choice)\b[\s*_]*(?:is|:|=)?[\s*_]*[(\[]?"
    r"((?-i:[A-HJ-Z])|[a-z](?=[)\]*_.,;:!\"]|\s*$))[)\]]?(?![\w'])",
    re.IGNORECASE,
)
"""`a` and `I` are words as well: they name a choice only where nothing follows them."""
_CHOICE_ALONE = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:]|$)")
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)


def canonical_text(text: str) -> str:
    """Equal for answers that differ only in case, spacing, quotes or a final full stop."""
    folded = " ".join(text.split()).casefold()
    return folded.lstrip(_QUOTES).rstrip(_QUOTES + ".!")


def canonical_number(text: str) -> float | None:
    r"""The last number in `text`; None when there is none.

    Currency signs, thousands separators and units are dropped; `3/4`, `1 1/2`, `\frac{3}{4}`, `75 %` and `2 million`
    are understood.
    """
    found = None
    for match in _NUMBER.finditer(text[-_MAX_CHARS:]):
        value = _value_of(match)
        found = found if value is None else value
    return found


def canonical_choice(text: str) -> str | None:
    """The letter of a multiple-choice answer, in lower case; else the text itself."""
    stripped = text.strip().strip("*_`\"'")
    named = _CHOICE_WORDS.findall(stripped)
    if named:
        return str(named[-1]).casefold()
    for line in (stripped, stripped.rpartition("\n")[2].strip().strip("*_`\"'")):
        alone = _CHOICE_ALONE.match(line)
        if alone is not None:
            return alone[1].casefold()
    return canonical_text(stripped) or None


def canonical_json(text: str) -> str | None:
    """Compact JSON with sorted keys, in which 1 and 1.0 are the same; None when `text` holds no JSON."""
    stripped = text.strip()
    candidates = [stripped, *reversed(_FENCE.findall(stripped)), stripped.rpartition("\n")[2]]
    for candidate in candidates:
        try:
            value = cast("Json", json.loads(candidate))
            return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (ValueError, RecursionError):
            continue
    return None


_READERS: Mapping[Canonical, Callable[[str], Value | None]] = {
    "text": lambda text: canonical_text(text) or None,
    "number": canonical_number,
    "choice": canonical_choice,
    "json": canonical_json,
}


def canonical(text: str, kind: Canonical) -> Value | None:
    """What `text` says, in the form in which answers of `kind` are compared; None when it says nothing of that kind."""
    return _READERS[kind](text)


def canonical_of(value: Json) -> Value:
    """A claim's value: numbers as numbers also where they are written as text, other text without its spelling."""
    if isinstance(value, bool):
        return str(value).casefold()
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        match = _NUMBER.search(value)
        number = canonical_number(value)
        bare = match is not None and not re.search(r"[^\W\d_]", value[: match.start()])
        rest = "" if match is None else value[match.end() :].strip()
        if number is not None and bare and not re.search(r"\d", rest) and len(rest.split()) <= 2:
            return number
        return canonical_text(value)
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def same(one: Value, other: Value) -> bool:
    """Whether two canonical values are equal; numbers within 1e-6."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=ABSOLUTE)


def _value_of(match: re.Match[str]) -> float | None:
    try:
        value = _magnitude(match)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    if match["percent"]:
        value /= 100
    if match["times"]:
        value *= _TIMES[match["times"].casefold()]
    value = -value if match["minus"] or match["minus2"] else value
    return value if math.isfinite(value) else None


def _magnitude(match: re.Match[str]) -> float:
    if match["top"]:
        return float(Fraction(_digits(match["top"])) / Fraction(_digits(match["bottom"])))
    number = _digits(match["number"])
    if match["over"]:
        return float(
            Fraction(match["whole"] or 0) + Fraction(number) / Fraction(_digits(match["over"]))
        )
    return float(number + (match["exp"] or ""))


def _digits(text: str) -> str:
    return re.sub(r"[^\d.]", "", text)


def _plain(value: Json) -> Json:
    """JSON in which equal values are spelt equally."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key.strip(): _plain(item) for key, item in value.items()}
    return value
