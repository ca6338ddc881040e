"""Foreign text is harmless on a terminal, and results stay what they are."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.ui.clean import clean, clean_result, one_line

ANY_TEXT = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Cf"]),
        st.sampled_from("\x1b\x9b\x9d\x90[]PX^_;0m\x07\\\r\n\t"),
    ),
    max_size=60,
)
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1$r0m\x1b\\x", "x"),
        ("\x9b31mred", "red"),
        ("\x9d52;c;ZXZpbA==\x9cafter", "after"),
        ("\x1b]0;never closed\nnext line", "\nnext line"),
        ("\x1b(Bcharset\x1bc", "charset"),
        ("a\x1b\x1b[31m[31mb", "a[31mb"),
        ("bell\x07 nul\x00 del\x7f", "bell nul del"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("in\u200bvis\u2060ible\ufeff\U000e0041", "invisible"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("tab\tand\nnewline", "tab\tand\nnewline"),
        ("array[int] [/bold] :smile:", "array[int] [/bold] :smile:"),
        ("日本語 café naïve", "日本語 café naïve"),
    ],
)
def test_clean_leaves_only_what_a_person_reads(text: str, expected: str) -> None:
    """Escape sequences go as a whole; words, tabs and newlines stay."""
    assert expected == clean(text)


def test_joiners_survive_where_they_are_part_of_spelling() -> None:
    """A rendered answer keeps Persian and composed emoji; a row of the tree drops them for certain widths."""
    text = "می\u200cخواهم ❤\ufe0f"

    assert text == clean(text, joiners=True)
    assert clean(text) == "میخواهم ❤"


def test_one_line_is_one_line() -> None:
    """Every kind of line end and run of blanks becomes one space."""
    assert one_line("  a\r\nb\t\tc\u2029 d\n") == "a b c d"


def test_a_result_keeps_everything_but_control_characters() -> None:
    """Bidi controls, joiners and trailing blanks are part of a text; ESC, NUL and CR are not."""
    assert (
        clean_result("a\r\n\x1b[31mb\x00  \n\tc\u202e\u200c\x9b\x7f")
        == "a\n[31mb  \n\tc\u202e\u200c"
    )


def test_a_result_with_a_lone_surrogate_can_be_encoded() -> None:
    """It has no UTF-8 form, so it becomes the replacement character."""
    assert "x\ufffdy".encode() == clean_result("x\udc80y").encode()


@settings(deadline=None)
@given(ANY_TEXT)
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    """Whatever comes in, no control, bidi, zero-width or surrogate character comes out."""
    assert not UNSAFE.search(clean(text))
    assert not UNSAFE.search(clean(text, joiners=True))
    assert not re.search(r"[\n\t]", one_line(text))


@settings(deadline=None)
@given(ANY_TEXT)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    """Removing a sequence never makes a new one."""
    assert clean(text) == clean(clean(text))
    assert one_line(text) == one_line(one_line(text))
    assert clean_result(text) == clean_result(clean_result(text))


@settings(deadline=None)
@given(ANY_TEXT)
def test_a_result_loses_control_characters_and_nothing_else(text: str) -> None:
    """Checked against the Unicode category, not against our own pattern."""
    expected = [c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc"]

    assert "".join(expected).replace("\ufffd", "") == re.sub(
        "\ufffd", "", _back(clean_result(text), expected)
    )


def _back(result: str, expected: list[str]) -> str:
    """The result with surrogates put back where they were replaced."""
    assert len(result) == len(expected)
    return "".join(
        e if r == "\ufffd" and unicodedata.category(e) == "Cs" else r
        for r, e in zip(result, expected, strict=True)
    )


@pytest.mark.parametrize(
    "bad", ["\x1b]" * 50_000, "\x1bP" * 50_000, "\x9b" * 100_000, "\x1b[" + ";" * 100_000]
)
def test_cleaning_is_linear(bad: str) -> None:
    """Hostile text of 100 kB takes no noticeable time; the suite's time-out would tell."""
    assert not UNSAFE.search(clean(bad))
