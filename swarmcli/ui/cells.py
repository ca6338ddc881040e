"""Text in terminal cells: spans, rows, widths, and how numbers are written. Pure.

Rule: a width is never under-estimated. A row that ends one cell early looks odd; one that wraps breaks the tree.
"""

import re
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category, east_asian_width

STYLES = {
    "": "",
    "name": "bold",
    "live": "bold",
    "dim": "dim",
    "run": "cyan",
    "ok": "green",
    "fail": "bold red",
    "wait": "yellow",
    "warn": "yellow",
    "late": "red",
    "stopped": "magenta",
}
"""What each style name of a `Span` looks like: words that Rich and `terminal.paint` both know."""


MAX_SECONDS = 1e9
"""No log can claim a time that cannot be written down."""


class Span(NamedTuple):
    """A piece of a row; `style` is a key of `STYLES`."""

    text: str
    style: str = ""


Row = list[Span]
"""One line of a display, without its line end."""


def text_of(row: Row) -> str:
    """The row without its styles."""
    return "".join(span.text for span in row)


_WIDE_SINCE_UNICODE_16 = re.compile(
    "[\u2630-\u2637\u268a-\u268f\u4dc0-\u4dff\U0001d300-\U0001d376]"
)
_VISIBLE_FORMATS = re.compile(
    "[\xad\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]"
)


@lru_cache(maxsize=8192)
def _char_cells(char: str) -> int:
    kind = category(char)
    if kind in {"Mn", "Me", "Cf", "Cc"}:
        return 1 if kind == "Cf" and _VISIBLE_FORMATS.match(char) else 0
    # "Cn" is what this Python's tables do not know: perhaps a newer emoji.
    wide = east_asian_width(char) in "WF" or kind == "Cn" or _WIDE_SINCE_UNICODE_16.match(char)
    return 2 if wide else 1


def cells(text: str) -> int:
    """How many cells of a terminal the text takes at most. It holds no control characters."""
    if text.isascii():
        return len(text)
    return sum(map(_char_cells, text))


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """The text, cut to `width` cells with an ellipsis where it is longer."""
    if cells(text) <= width:
        return text
    room = width - len(ellipsis)
    if room < 0:
        room, ellipsis = width, ""
    used = 0
    for index, char in enumerate(text):
        used += _char_cells(char)
        if used > room:
            return text[:index] + ellipsis
    return text


def row_cells(row: Row) -> int:
    """How many cells the row takes at most."""
    return sum(cells(span.text) for span in row)


def fit_row(row: Row, width: int, ellipsis: str = "…") -> Row:
    """The row, cut to `width` cells."""
    fitted: Row = []
    for span in row:
        size = cells(span.text)
        if size > width:
            if cut := fit(span.text, width, ellipsis):
                fitted.append(Span(cut, span.style))
            break
        fitted.append(span)
        width -= size
    return fitted


def spread(left: Row, right: Row, width: int, ellipsis: str = "…") -> Row:
    """A row with `right` at the right edge; `left` gives way, and `right` goes when there is no room for both."""
    right_size = row_cells(right)
    room = width - right_size - 1
    if not right or room < 1:
        return fit_row(left, width, ellipsis)
    fitted = fit_row(left, room, ellipsis)
    return [*fitted, Span(" " * (width - right_size - row_cells(fitted))), *right]


def duration(seconds: float) -> str:
    """`0s`, `42s`, `1m22s`, `1h02m`: at most six cells up to 100 hours."""
    whole = int(min(max(0.0, seconds), MAX_SECONDS))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def clock(seconds: float) -> str:
    """`00:42`, `71:05`: minutes and seconds, for the start of a plain line."""
    whole = int(min(max(0.0, seconds), MAX_SECONDS))
    return f"{whole // 60:02d}:{whole % 60:02d}"


def count(tokens: int) -> str:
    """`233`, `1.1k`, `384k`, `1.2M`: at most five cells up to a billion."""
    if tokens < 1000:
        return str(max(0, tokens))
    if tokens < 99_950:
        return f"{tokens / 1000:.1f}k"
    if tokens < 999_500:
        return f"{tokens / 1000:.0f}k"
    if tokens < 99_950_000:
        return f"{tokens / 1e6:.1f}M"
    return f"{tokens / 1e6:.0f}M"


def cap(amount: float) -> str:
    """`$2.00`, `$0.0030`: a limit as it was set, never rounded to another one that looks exact."""
    return dollars(amount, 2 if round(amount, 2) == amount else 4)


def dollars(amount: float, digits: int = 2) -> str:
    """`$0.41`; `digits` is how many decimals small amounts get, and large ones need none."""
    if amount >= 1000:
        return f"${amount:.0f}"
    if amount >= 100:
        return f"${amount:.1f}"
    return f"${amount:.{2 if amount >= 10 else digits}f}"
