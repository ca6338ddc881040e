"""What a claim states, in the form in which claims are compared: a value and its unit. Pure."""

import math
import re
from typing import NamedTuple

from swarmcli.core.canonical import Value, canonical_of
from swarmcli.core.replies import Claim
from swarmcli.recipe.values import Json

_MEASURE = re.compile(
    r"[^\W\d_]{1,3}(?:/[^\W\d_]+)?|°.*|square|cubic"
    r"|(?:kilo|centi|milli|micro|mega|giga|tera)?"
    r"(?:met(?:er|re)|gram|tonne|ton|lit(?:er|re)|watt|volt|joule|byte|bit|hertz)s?"
    r"|(?:mile|yard|pound|ounce|acre|hectare|second|minute|hour|day|week|month|year|dollar|euro|cent|degree)s?"
    r"|feet|foot|inch|inches",
    re.IGNORECASE,
)
"""What makes the word behind a number a unit of its own: 5 km and 5000 m differ in it, 5 guests and 6 people do not."""
_QUANTITY = re.compile(r"(?P<number>.*\d[.,]?\s?%?)(?P<words>(?:\s*[^\W\d_][^\d]*)?)", re.DOTALL)


class Quantity(NamedTuple):
    """A claim's value in the form in which it is compared."""

    value: Value
    unit: str
    named: str
    """The unit as it was written."""
    said: Json
    """The value as it was stated, with the factor that stood in its unit: 1200 and "million USD" are "1200 million"."""


def stated_by(claim: Claim) -> Quantity | None:
    """What the claim states; None when that is nothing that can be compared."""
    try:
        return _quantity(claim)
    except (OverflowError, RecursionError, ValueError):  # 10**400, a thousand brackets
        return None


def _quantity(claim: Claim) -> Quantity | None:
    """Number and unit, also where the unit stands in the value ("5 km") or a factor in the unit ("million USD")."""
    value = claim.value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    unit = " ".join(claim.unit.split())
    number = canonical_of(value)
    if isinstance(number, str):
        return Quantity(number, canonical_unit(unit), unit, value) if number else None
    written = str(value).strip()
    parts = _QUANTITY.fullmatch(written) if isinstance(value, str) else None
    if parts is not None:
        written, inside = parts["number"].strip(), " ".join(parts["words"].split())
        factor, _, rest = inside.partition(" ")
        if factor and _with_factor(written, factor) is not None:
            written, inside = f"{written} {factor}", rest
        unit = "" if unit == "%" and written.endswith("%") else unit
        unit = unit or (inside if _MEASURE.fullmatch(inside.partition(" ")[0]) else "")
        number = canonical_of(written)
    said, (factor, _, rest) = value, unit.partition(" ")
    scaled = _with_factor(written, factor) if factor else None
    if scaled is not None:
        said, number, unit = f"{value} {factor}", scaled, rest
    return Quantity(number, canonical_unit(unit), unit, said)


def _with_factor(number: str, word: str) -> float | None:
    """The number with `word` behind it, where that is a factor (percent, million) and not a unit."""
    scaled = canonical_of(f"{number} {word}")
    return scaled if isinstance(scaled, float) and scaled != canonical_of(number) else None


def canonical_unit(unit: str) -> str:
    """Equal for units that differ only in case, spacing or a plural s."""
    folded = " ".join(unit.split()).casefold().rstrip(".")
    return folded[:-1] if len(folded) > 3 and folded.endswith("s") else folded
