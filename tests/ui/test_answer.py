"""The result on stdout."""

import io
import os
import pty
import re
from collections.abc import Iterator
from typing import TextIO

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.ui.answer import MAX_RENDERED_CHARS, answer_text, print_answer
from tests.ui.test_clean import ANY_TEXT, UNSAFE

XTERM = {"TERM": "xterm-256color", "COLUMNS": "60"}
ANSWER = "# Findings\n\n- **one** [site](http://example.com)\n- two\n\n```python\nx = 1\n```\n"


class Tty(io.StringIO):
    """A terminal in memory."""

    def isatty(self) -> bool:
        return True


def shown(text: str, env: dict[str, str] | None = None, **options: bool) -> str:
    """What a terminal receives."""
    stream = Tty()
    print_answer(text, stream, env=XTERM if env is None else env, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", b"x\n"),
        ("x\n\n\n", b"x\n"),
        ("", b"\n"),
        ("  x \n\ty  ", b"  x \n\ty  \n"),
        ("a\r\nb\x1b[31m\x00", b"a\nb[31m\n"),
        ("日本 \u202e \ud800", "日本 \u202e \ufffd\n".encode()),
    ],
)
def test_a_pipe_gets_the_bytes_of_the_result_and_one_newline(text: str, expected: bytes) -> None:
    """Nothing is rendered, wrapped or coloured; the encoding is UTF-8 whatever the locale says."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_answer(text, stream, env={"FORCE_COLOR": "1"})

    assert raw.getvalue() == expected
    assert answer_text(text).encode() == expected


def test_a_terminal_gets_markdown() -> None:
    """Headings and lists are drawn, and a link shows where it goes."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown(ANSWER))

    assert "# Findings" not in text
    assert "Findings" in text
    assert "site (http://example.com)" in text
    assert " • two" in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_a_format_that_is_no_prose_is_printed_as_it_is() -> None:
    """JSON is not Markdown, on a terminal either."""
    assert shown('{"a": "*b*"}', markdown=False) == '{"a": "*b*"}\n'


def test_no_colour_where_none_is_wanted() -> None:
    """NO_COLOR and `--color never` leave plain text."""
    assert "\x1b" not in shown(ANSWER, {**XTERM, "NO_COLOR": "1"})
    assert "\x1b" not in shown(ANSWER, color=False)
    assert "\x1b[" in shown(ANSWER, {**XTERM, "NO_COLOR": "1"}, color=True)


def test_very_long_answers_and_ascii_terminals_get_plain_text() -> None:
    """Laying out a megabyte takes seconds; bullets cannot be written in ASCII."""
    long = "- x\n" * (MAX_RENDERED_CHARS // 4 + 1)

    assert shown(long) == long
    assert shown("- x", {**XTERM, "SWARM_ASCII": "1"}) == "- x\n"


@pytest.mark.parametrize(
    "text",
    [
        "&#x202e;reversed &#27;[31m &#x9b;31m &#13; &#12; &#x2066;",
        "[a](http://x/%1b]0;t%07) ![b](\x1b]8;;http://evil\x07)",
        "| a\x1b[5m | b |\n|---|---|\n| &#x202e; | \x9b31m |",
        "```\n\x1b]52;c;ZXZpbA==\x07\n```",
        "<b>\x1b[31m</b> <!-- \x1b --> :smile: [/bold]",
    ],
)
def test_a_terminal_obeys_nothing_in_an_answer(text: str) -> None:
    """Also what becomes a character only while Markdown is rendered, such as an entity."""
    assert not UNSAFE.search(re.sub(r"\x1b\[[0-9;]*m", "", shown(text)))


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT, st.sampled_from(["", "# ", "- ", "```\n", "| a |\n|--|\n| "]))
def test_any_answer_can_be_shown(text: str, prefix: str) -> None:
    """No text raises, and no escape sequence but our own colours comes out."""
    assert not UNSAFE.search(re.sub(r"\x1b\[[0-9;]*m", "", shown(prefix + text)))


@pytest.fixture
def real_tty() -> Iterator[tuple[int, TextIO]]:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        yield master, stream
    os.close(master)


def test_a_real_terminal_shows_it(real_tty: tuple[int, TextIO]) -> None:
    """Through a pseudo-terminal, as a person sees it."""
    master, stream = real_tty
    print_answer("**bold** and `code`", stream, env=XTERM)
    screen = pyte.Screen(60, 5)
    pyte.ByteStream(screen).feed(os.read(master, 10_000))

    assert screen.display[0].rstrip() == "bold and code"
    assert screen.buffer[0][0].bold
