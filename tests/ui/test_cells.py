"""Widths, cuts and the small formats."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len, get_character_cell_size

from swarmcli.ui.cells import (
    STYLES,
    Span,
    cells,
    clock,
    count,
    dollars,
    duration,
    fit,
    fit_row,
    row_cells,
    spread,
    text_of,
)
from swarmcli.ui.clean import one_line
from swarmcli.ui.painter import _STYLES

LINES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(one_line)


def test_no_character_is_narrower_here_than_for_rich() -> None:
    """Rich's table is newer than Python's; a row that we think fits must fit for Rich too."""
    for code in range(0x20, 0x110000):
        char = one_line(f"a{chr(code)}a")[1:-1]
        if char and unicodedata.category(char) != "Cs":
            assert cells(char) >= get_character_cell_size(char), hex(code)


def test_common_scripts_have_the_width_that_rich_gives_them() -> None:
    """Latin, Cyrillic, CJK, Hangul, kana, combining marks and single emoji agree exactly."""
    for text in (
        "naïve",
        "Привет",
        "日本語テキスト",
        "한국어",
        "e\u0301a\u0308",
        "🎉✅",
        "ｆｕｌｌ",
        "│├└…·✓✗",
    ):
        assert cell_len(text) == cells(text), text


@settings(deadline=None)
@given(LINES, st.integers(0, 30))
def test_cut_text_fits(text: str, width: int) -> None:
    """A cut text never takes more cells than allowed, and an uncut one is the text itself."""
    cut = fit(text, width)

    assert cells(cut) <= width
    assert cut == text or cells(text) > width


@settings(deadline=None)
@given(LINES, LINES, st.integers(0, 60))
def test_a_spread_row_fits_and_keeps_its_right_part_whole(
    left: str, right: str, width: int
) -> None:
    """The right part stands whole at the edge, or is left out."""
    row = spread([Span(left)], [Span(right)] if right else [], width)

    assert row_cells(row) <= width
    assert text_of(row).endswith(right) or cells(right) + 2 > width


def test_a_wide_character_is_not_cut_in_half() -> None:
    """Half a character leaves its cell free."""
    assert fit("日本語", 4) == "日…"
    assert cells(fit("日本語", 4)) == 3


def test_a_row_is_cut_inside_the_span_that_is_too_long() -> None:
    """What follows the cut is dropped."""
    row = [Span("ab", "ok"), Span("cdefgh", "fail"), Span("x")]

    assert [Span("ab", "ok"), Span("cd…", "fail")] == fit_row(row, 5)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0s"), (0.4, "0s"), (59.9, "59s"), (82, "1m22s"), (3599, "59m59s"), (3725, "1h02m")],
)
def test_durations_are_short(seconds: float, expected: str) -> None:
    """Two units at most."""
    assert expected == duration(seconds)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, "0"), (999, "999"), (1049, "1.0k"), (99_949, "99.9k"), (99_951, "100k"), (384_000, "384k"),
     (999_499, "999k"), (999_501, "1.0M"), (120_000_000, "120M")],
)  # fmt: skip
def test_token_counts_are_at_most_five_cells(tokens: int, expected: str) -> None:
    """Rounding never makes `1000k`."""
    assert expected == count(tokens)


@pytest.mark.parametrize(
    ("amount", "digits", "expected"),
    [
        (0, 2, "$0.00"),
        (0.0012, 3, "$0.001"),
        (12.345, 3, "$12.35"),
        (123.4, 2, "$123.4"),
        (4321, 2, "$4321"),
    ],
)
def test_money_loses_decimals_as_it_grows(amount: float, digits: int, expected: str) -> None:
    """A column of seven cells holds any sum."""
    assert expected == dollars(amount, digits)


def test_the_clock_counts_minutes_beyond_an_hour() -> None:
    """Plain lines keep one width for a long time."""
    assert [clock(0), clock(82.9), clock(4265)] == ["00:00", "01:22", "71:05"]


def test_rich_knows_every_style() -> None:
    """A style name that a row uses can be drawn."""
    assert set(STYLES) == set(_STYLES)
