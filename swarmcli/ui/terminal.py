"""What the stream on the other end can show: a tree, plain lines, colour, or ASCII only.

Rule: colour and animation are two questions. `FORCE_COLOR` asks for colour and never for cursor movement.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TextIO

from swarmcli.errors import UsageError
from swarmcli.ui.cells import STYLES, Row

Progress = Literal["auto", "tree", "plain", "none"]
ColorChoice = Literal["auto", "always", "never"]
Kind = Literal["tree", "plain", "none"]

MIN_TREE_WIDTH = 40
_GLYPHS = "✓✗↻≡⊘·▪█░│├└─…⠋"
_OFF = {"", "0", "false", "no", "off"}
_BLIND_TERMS = {"dumb", "unknown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How to show progress on a stream."""

    kind: Kind
    color: bool
    ascii: bool
    reason: str
    """Why this kind, in a few words: `stderr is not a terminal`."""


def decide(
    progress: Progress, color: ColorChoice, stream: TextIO | None, env: Mapping[str, str]
) -> Display:
    """Choose the display for stderr.

    Raises:
        UsageError: a tree was asked for where none can be drawn.
    """
    obstacle = _obstacle(stream, env)
    painted = wants_color(color, stream, env)
    plain_glyphs = needs_ascii(stream, env)
    kind: Kind = "plain"
    reason = ""
    if progress == "none" or stream is None:
        kind, reason = "none", "asked for" if progress == "none" else "stderr is closed"
    elif progress == "plain":
        reason = "asked for"
    elif progress == "tree":
        if obstacle:
            raise UsageError(
                f"--progress tree cannot be drawn: {obstacle}",
                hint="leave --progress out, or use --progress plain",
            )
        kind, reason = "tree", "asked for"
    elif obstacle:
        reason = obstacle
    elif is_on(env, "CI"):
        reason = "CI is set"
    elif (width := columns(stream, env)) < MIN_TREE_WIDTH:
        reason = f"the terminal has {width} columns, a tree needs {MIN_TREE_WIDTH}"
    else:
        kind, reason = "tree", "stderr is a terminal"
    return Display(kind=kind, color=painted, ascii=plain_glyphs, reason=reason)


def wants_color(color: ColorChoice, stream: TextIO | None, env: Mapping[str, str]) -> bool:
    """Whether to colour: the flag, NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE, CLICOLOR=0, a terminal, in this order."""
    if color != "auto":
        return color == "always"
    if env.get("NO_COLOR"):
        return False
    if is_on(env, "FORCE_COLOR") or is_on(env, "CLICOLOR_FORCE"):
        return True
    if env.get("CLICOLOR") == "0":
        return False
    return is_terminal(stream) and env.get("TERM", "").casefold() not in _BLIND_TERMS


def needs_ascii(stream: TextIO | None, env: Mapping[str, str]) -> bool:
    """Whether our glyphs cannot be written there, or the user does not want them."""
    if is_on(env, "SWARM_ASCII") or env.get("TERM") == "linux":
        return True
    try:
        _GLYPHS.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at the stream. A closed one is nobody's."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def columns(stream: TextIO, env: Mapping[str, str]) -> int:
    """The width of the terminal: COLUMNS, else what it says itself, else 80."""
    given = env.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and len(given) < 6 and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def is_on(env: Mapping[str, str], name: str) -> bool:
    """Whether the variable is set to something that does not mean no."""
    return env.get(name, "").strip().casefold() not in _OFF


def _obstacle(stream: TextIO | None, env: Mapping[str, str]) -> str:
    if not is_terminal(stream):
        return "stderr is not a terminal"
    term = env.get("TERM", "").casefold()
    return f"TERM is {term}" if term in _BLIND_TERMS else ""


_SGR = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
}
_CODES = {name: ";".join(map(_SGR.__getitem__, words.split())) for name, words in STYLES.items()}


def paint(row: Row, *, color: bool) -> str:
    """The row as text, with SGR codes where colour is wanted."""
    if not color:
        return "".join(span.text for span in row)
    return "".join(
        f"\x1b[{code}m{span.text}\x1b[0m"
        if (code := _CODES[span.style]) and span.text
        else span.text
        for span in row
    )
