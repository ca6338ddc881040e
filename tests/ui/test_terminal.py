"""Which display a stream gets."""

import io
import os
import pty
import termios
from collections.abc import Iterator, Mapping
from typing import TextIO

import pytest

from swarmcli.errors import UsageError
from swarmcli.ui.cells import Span
from swarmcli.ui.terminal import (
    ColorChoice,
    Progress,
    columns,
    decide,
    needs_ascii,
    paint,
    wants_color,
)

XTERM = {"TERM": "xterm-256color"}


class Tty(io.StringIO):
    """A stream that says it is a terminal; it has no size of its own."""

    def isatty(self) -> bool:
        super().isatty()
        return True


@pytest.fixture
def tty() -> TextIO:
    return Tty()


@pytest.mark.parametrize(
    ("progress", "env", "kind", "reason"),
    [
        ("auto", XTERM, "tree", "stderr is a terminal"),
        ("auto", {**XTERM, "CI": "1"}, "plain", "CI is set"),
        ("auto", {**XTERM, "CI": "true"}, "plain", "CI is set"),
        ("auto", {**XTERM, "CI": "false"}, "tree", "stderr is a terminal"),
        ("auto", {"TERM": "dumb"}, "plain", "TERM is dumb"),
        ("auto", {"TERM": "unknown"}, "plain", "TERM is unknown"),
        (
            "auto",
            {**XTERM, "COLUMNS": "39"},
            "plain",
            "the terminal has 39 columns, a tree needs 40",
        ),
        ("auto", {**XTERM, "COLUMNS": "40"}, "tree", "stderr is a terminal"),
        ("tree", {**XTERM, "CI": "1"}, "tree", "asked for"),
        ("tree", {**XTERM, "COLUMNS": "20"}, "tree", "asked for"),
        ("plain", XTERM, "plain", "asked for"),
        ("none", XTERM, "none", "asked for"),
    ],
)
def test_a_terminal_gets_a_tree_where_one_can_be_drawn(
    tty: TextIO, progress: Progress, env: Mapping[str, str], kind: str, reason: str
) -> None:
    """CI, a dumb terminal and a narrow one get lines; what was asked for wins."""
    display = decide(progress, "auto", tty, env)

    assert (display.kind, display.reason) == (kind, reason)


@pytest.mark.parametrize("env", [{}, XTERM, {"FORCE_COLOR": "1"}, {"CI": "1", "FORCE_COLOR": "1"}])
def test_a_pipe_gets_lines_whatever_the_environment_says(env: Mapping[str, str]) -> None:
    """FORCE_COLOR colours and never animates."""
    display = decide("auto", "auto", io.StringIO(), env)

    assert display.kind == "plain"
    assert display.color is ("FORCE_COLOR" in env)
    assert display.reason == "stderr is not a terminal"


@pytest.mark.parametrize(
    ("stream", "env"),
    [(io.StringIO(), XTERM), (Tty(), {"TERM": "dumb"}), (Tty(), {"TERM": "DUMB"})],
)
def test_a_tree_where_none_can_be_drawn_is_a_usage_error(
    stream: TextIO, env: Mapping[str, str]
) -> None:
    """`--progress tree` is a promise; breaking it silently would hide that."""
    with pytest.raises(UsageError, match="--progress tree cannot be drawn: ") as caught:
        decide("tree", "auto", stream, env)
    assert caught.value.exit_code == 2


def test_closed_streams_get_nothing() -> None:
    """Python has no stderr when it was started without one; a closed file is as good."""
    closed = Tty()
    closed.close()

    assert decide("auto", "auto", None, XTERM).kind == "none"
    assert decide("auto", "always", closed, XTERM).kind == "plain"


@pytest.mark.parametrize(
    ("choice", "env", "expected"),
    [
        ("auto", XTERM, True),
        ("auto", {"TERM": "dumb"}, False),
        ("auto", {**XTERM, "NO_COLOR": "1"}, False),
        ("auto", {**XTERM, "NO_COLOR": ""}, True),
        ("auto", {**XTERM, "NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ("auto", {**XTERM, "CLICOLOR": "0"}, False),
        ("auto", {**XTERM, "CLICOLOR": "0", "CLICOLOR_FORCE": "1"}, True),
        ("auto", {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ("auto", {"TERM": "dumb", "FORCE_COLOR": "0"}, False),
        ("always", {"TERM": "dumb", "NO_COLOR": "1"}, True),
        ("never", {**XTERM, "FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_follows_the_flag_then_the_environment_then_the_terminal(
    tty: TextIO, choice: ColorChoice, env: Mapping[str, str], expected: bool
) -> None:
    """The flag, NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE, CLICOLOR=0, the terminal, in this order."""
    assert wants_color(choice, tty, env) is expected


@pytest.mark.parametrize(
    ("encoding", "env", "expected"),
    [
        ("utf-8", {}, False),
        ("cp1252", {}, True),
        ("ascii", {}, True),
        ("utf-8", {"SWARM_ASCII": "1"}, True),
        ("utf-8", {"SWARM_ASCII": "0"}, False),
        ("utf-8", {"TERM": "linux"}, True),
    ],
)
def test_ascii_where_the_glyphs_cannot_be_written(
    encoding: str, env: Mapping[str, str], expected: bool
) -> None:
    """The console font of Linux lacks them too."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)

    assert needs_ascii(stream, env) is expected


@pytest.fixture
def real_tty() -> Iterator[TextIO]:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 33))
    with os.fdopen(slave, "w") as stream:
        yield stream
    os.close(master)


def test_the_width_of_a_real_terminal_is_asked_for(real_tty: TextIO) -> None:
    """COLUMNS wins, the terminal is next, 80 is the last resort."""
    assert columns(real_tty, {}) == 33
    assert columns(real_tty, {"COLUMNS": "50"}) == 50
    assert columns(io.StringIO(), {"COLUMNS": "many"}) == 80
    assert decide("auto", "auto", real_tty, XTERM).kind == "plain"


def test_painted_rows_reset_their_colours() -> None:
    """Each styled piece stands alone; without colour the row is bare text."""
    row = [Span("a", "fail"), Span("b"), Span("", "ok")]

    assert paint(row, color=True) == "\x1b[1;31ma\x1b[0mb"
    assert paint(row, color=False) == "ab"
