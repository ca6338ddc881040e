"""Canonical values: when two answers say the same thing."""

from collections import Counter
from collections.abc import Iterable

_QUOTES = "\"'`*_ "


def canonical_text(text: str) -> str:
    """Equal for answers that differ only in case, spacing, quotes or a final full stop."""
    folded = " ".join(text.split()).casefold()
    return folded.lstrip(_QUOTES).rstrip(_QUOTES + ".!")


def majority(answers: Iterable[str]) -> tuple[str, int] | None:
    """The answer given most often (as first written) and its count; ties go to the one that came first."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for answer in answers:
        key = canonical_text(answer)
        first.setdefault(key, answer.strip())
        counts[key] += 1
    if not counts:
        return None
    best = max(first, key=lambda key: counts[key])
    return first[best], counts[best]
