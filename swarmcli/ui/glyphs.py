"""The glyphs of a display, in Unicode and in ASCII, and the styles of states. Pure.

Rule: every glyph is one cell wide, and colour never carries a meaning alone: a glyph or a word stands beside it.
"""

import re
from dataclasses import dataclass

from swarmcli.ui.cells import Row, Span, cells
from swarmcli.ui.steps import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """One way to draw everything."""

    spinner: str
    of: dict[State, str]
    strip: dict[int, str]
    """For `str.translate`: state letter -> cell."""
    tee: str
    last: str
    pipe: str
    bar: str
    rest: str
    dot: str
    more: str


def _glyphs(states: str, **others: str) -> Glyphs:
    of = dict(zip(State, states, strict=True))
    strip = {ord(state): glyph for state, glyph in of.items()}
    return Glyphs(of=of, strip=strip, **others)


# In the order of `State`: queued, started, running, retrying, done, cached, reused, failed, skipped, cancelled.
UNICODE = _glyphs(
    "·▪▪↻✓≡≡✗⊘⊘",
    spinner="⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
    tee="├─ ",
    last="└─ ",
    pipe="│  ",
    bar="█",
    rest="░",
    dot="·",
    more="…",
)
ASCII = _glyphs(
    ".>>~+==xoo",
    spinner="|/-\\",
    tee="|- ",
    last="`- ",
    pipe="|  ",
    bar="#",
    rest="-",
    dot=".",
    more="...",
)

STYLE_OF = {
    State.QUEUED: "dim",
    State.STARTED: "run",
    State.RUNNING: "run",
    State.RETRYING: "wait",
    State.DONE: "ok",
    State.CACHED: "ok",
    State.REUSED: "ok",
    State.FAILED: "fail",
    State.SKIPPED: "dim",
    State.CANCELLED: "stopped",
}


_FOREIGN = re.compile(r"[^\x00-\x7f]")
_PLAIN = str.maketrans("…–—‘’“”•", ".--''\"\"*")


def in_ascii(row: Row) -> Row:
    """The row with nothing but ASCII, as wide as before; an unknown character becomes `?`."""
    return [Span(_FOREIGN.sub(_unknown, span.text.translate(_PLAIN)), span.style) for span in row]


def _unknown(match: re.Match[str]) -> str:
    return "?" * cells(match[0])
