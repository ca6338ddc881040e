"""Canonical values: when two answers say the same thing.

Published comparisons went wrong for want of this: "$20.00" and 20 counted as two answers (RouteLLM's labels of GSM8K).
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import cast

from swarmcli.core.fences import fenced_blocks
from swarmcli.core.numerals import numerals, plain
from swarmcli.recipe.values import Canonical, Json

Value = str | float
"""A canonical value; compare with `same`."""

ABSOLUTE = 1e-6
RELATIVE = 1e-9
_QUOTES = "\"'`*_ \u2018\u2019\u201c\u201d\u00ab\u00bb"
_MARKUP = _QUOTES + "$[]{}"
_MAX_CHARS = 100_000
"""Of a longer answer only the end is looked at: that is where the result stands."""

_GAP = r"(?:[^\w.,;?!\\]|_|\\(?:[a-z]+(?=[{ ])|[(\[]))*"
"""What may stand between `answer`, `is` and a letter: spaces, brackets, emphasis, quotes, `\boxed{`."""
_CHOICE_WORDS = re.compile(
    rf"\b(?:answer|option|choice)\b{_GAP}(?:is\b{_GAP})?"
    r"((?-i:[A-HJ-Z])(?!\s*(?:[,/&]|and|or)\s*\(?(?-i:[A-Z])\b)|(?-i:[a-zI])(?=[)\]}*_.,;:!\"'$\\]|\s*$))(?!\w|'\w)",
    re.IGNORECASE,
)
"""`a` and `I` are words as well: they name a choice only where nothing follows them. `A and C` names none."""
_CHOICE_ALONE = re.compile(rf"{_GAP}([A-Za-z])(?:[)\].:}}]|\*\*|$)")


def canonical_text(text: str) -> str:
    """Equal for answers that differ only in case, spacing, quotes or a final full stop."""
    folded = " ".join(text.split()).casefold()
    return folded.lstrip(_QUOTES).rstrip(_QUOTES + ".!")


def canonical_number(text: str) -> float | None:
    r"""The last number in `text`; None when there is none. A digit of a name or of a unit (CO2, m^2) counts only alone.

    Currency signs, thousands separators and units are dropped; `3/4`, `1 1/2`, `\frac{3}{4}`, `75 %`, `2 million` and
    `2 \times 10^6` are understood.
    """
    found = glued = None
    for numeral in numerals(plain(text[-_MAX_CHARS:])):
        if numeral.glued:
            glued = numeral.value
        else:
            found = numeral.value
    return glued if found is None else found


def canonical_choice(text: str) -> str | None:
    """The letter of a multiple-choice answer, in lower case; else the text itself."""
    stripped = text.strip().strip(_MARKUP)
    named = _CHOICE_WORDS.findall(stripped)
    if named:
        return str(named[-1]).casefold()
    for line in (stripped, stripped.rpartition("\n")[2].strip().strip(_MARKUP)):
        alone = _CHOICE_ALONE.match(line)
        if alone is not None:
            return alone[1].casefold()
    return canonical_text(stripped) or None


def canonical_json(text: str) -> str | None:
    """Compact JSON with sorted keys, in which 1 and 1.0 are the same; None when `text` holds no JSON."""
    stripped = text.strip()
    candidates = [stripped, *reversed(fenced_blocks(stripped)), stripped.rpartition("\n")[2]]
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
        number = _bare_number(plain(value))
        return canonical_text(value) if number is None else number
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def same(one: Value, other: Value) -> bool:
    """Whether two canonical values are equal; numbers within 1e-6."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _bare_number(text: str) -> float | None:
    """The number of a text that is nothing but one, with a sign or words for its unit; else None."""
    number = next(numerals(text), None)
    if number is None or re.search(r"[^\W\d_]", text[: number.start]):
        return None
    rest = text[number.end :]
    return number.value if not re.search(r"\d", rest) and len(rest.split()) <= 2 else None


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
