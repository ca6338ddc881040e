"""Words that several messages share. Pure."""

import difflib
from collections.abc import Iterable

_MAX_SHOWN = 40


def found(value: object) -> str:
    """What stands there, for `..., found ...`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {shortened(str(value))}"
        case str():
            return f"'{shortened(value)}'"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


def shortened(text: str) -> str:
    """At most forty characters of it."""
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    choices = list(known)
    matches = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if matches:
        return matches[0]
    folded = {choice.casefold(): choice for choice in choices}
    return folded.get(word.casefold())


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "known here") -> str | None:
    """`did you mean 'x'?`, else the known words, else None."""
    choices = list(known)
    close = closest(word, choices)
    if close is not None:
        return f"did you mean '{close}'?"
    return f"{otherwise}: {listed(choices)}" if choices else None


def listed(words: Iterable[str], most: int = 12) -> str:
    """`a, b, c and 4 more`."""
    choices = list(words)
    rest = len(choices) - most
    return ", ".join(choices[:most]) + (f" and {rest} more" if rest > 0 else "")


def quoted(words: Iterable[str]) -> str:
    """`'a', 'b' and 'c'`."""
    choices = [f"'{word}'" for word in words]
    return " and ".join(filter(None, [", ".join(choices[:-1]), choices[-1]])) if choices else ""
