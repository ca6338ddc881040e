"""Provenance markers, the fact sheet, and what a reducer forgot: checked in code, because no model is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.factsheet import fact_sheet
from swarmcli.core.markers import cited, unused, without_markers
from swarmcli.core.mergetree import Piece, left_out
from swarmcli.core.replies import Claim

AGENTS = ("t1", "t2", "t3", "a-b", "scan[0]", "scan[1]", "scan[2]")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("So it is [t1].", {"t1"}),
        ("[t1, t3] and [t2][a-b]", {"t1", "t2", "t3", "a-b"}),
        ("[t1 to t3]", {"t1", "t2", "t3"}),
        ("[t1-t3]", {"t1", "t2", "t3"}),
        ("[t1\u2013t3]", {"t1", "t2", "t3"}),
        ("[agent t2](http://x)", {"t2"}),
        ("[scan[1]]", {"scan[1]"}),
        ("[scan[0] to scan[2]]", {"scan[0]", "scan[1]", "scan[2]"}),
        ("as scan[2] says", {"scan[2]"}),
        ("t1 without brackets, [t11], [xt1], [T1], [t1", set()),
        ("[t3 to t1]", {"t1", "t3"}),
        ("prescan[1] and scan[12]", set()),
    ],
)
def test_markers_are_read_as_models_write_them(text, found):
    """Alone, in lists, as spans in plan order; nothing else is taken for one."""
    assert found == cited(text, AGENTS)


@given(st.sets(st.sampled_from(AGENTS)))
def test_the_unused_are_those_whom_nobody_cites(used):
    """And nobody, where the writer cites no one: then nothing is known."""
    text = " ".join(f"word [{agent}]" for agent in sorted(used))

    assert unused(text, AGENTS) == (tuple(a for a in AGENTS if a not in used) if used else ())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("It is 72 [t1].", "It is 72."),
        ("72 [t1, t3][a-b] [scan[1]]", "72"),
        ("72 [t1 to t3] [t1\u2013t3] [t1-t3] [agents t1 and t2]", "72"),
        ("72, says scan[2]", "72, says "),
        ("[72] [t1: 72] [t9] [t1, t9] []", "[72] [t1: 72] [t9] [t1, t9] []"),
    ],
)
def test_a_text_without_its_markers_is_what_the_writer_says(text, left):
    """Brackets that hold anything but ids belong to the text."""
    assert left == without_markers(text, AGENTS)


@pytest.mark.parametrize(
    "piece", ["[", "[a", "[[1]", "a-", "a to ", "[" + "-" * 398 + "]", "scan["]
)
def test_hostile_texts_are_read_in_linear_time(piece):
    """Half a megabyte of what a backtracking pattern dislikes; in quadratic time this would take minutes."""
    text = piece * (500_000 // len(piece))

    assert {"t1"} == cited(text + "\n[t1]", AGENTS)
    assert without_markers(text + "\n[t1]", AGENTS) == text + "\n"


def test_what_a_reducer_forgot_is_carried_on():
    """A single agent's result whole; of a condensed piece the lines of whom it forgot."""
    group = [
        Piece(name="t1", agents=("t1",), text="one"),
        Piece(name="t2", agents=("t2",), text="two"),
        Piece(name="t3 to t5", agents=("t3", "t4", "t5"), text="c [t3]\nd [t4]\ne [t4, t5]\nf"),
    ]

    assert [
        Piece(name="t2", agents=("t2",), text="two"),
        Piece(name="t4", agents=("t4",), text="d [t4]\ne [t4, t5]"),
    ] == left_out(group, "all of it [t1] [t3][t5]")
    assert [] == left_out(group, "[t1 to t5]")
    assert [] == left_out(group, "no markers at all")


def test_a_marker_in_a_result_says_nothing_about_the_agent_whom_it_names():
    """An agent that writes `[t2]` under its own words cannot make t2 look as if it had been kept."""
    group = [
        Piece(name="t1", agents=("t1",), text="all is well [t2], as says [t3]"),
        Piece(name="t2", agents=("t2",), text="nothing is well"),
        Piece(name="t3", agents=("t3",), text="three"),
    ]

    assert group[1:] == left_out(group, "all is well [t2], as says [t3] [t1]")


def test_a_marker_may_name_everybody():
    """What three hundred agents say alike is one statement with three hundred ids."""
    agents = [f"review-of-the-chapter-{i}" for i in range(300)]

    assert frozenset(agents) == cited(f"It is so [{', '.join(agents)}].", agents)


def test_a_forgotten_part_of_a_condensed_piece_without_markers_is_carried_whole():
    """Where the lines do not say whose they are, all of them are kept."""
    piece = Piece(name="t1 to t2", agents=("t1", "t2"), text="prose")

    (carried,) = left_out([piece, Piece(name="t3", agents=("t3",), text="x")], "[t3]")
    assert ("prose", ("t1", "t2")) == (carried.text, carried.agents)


def claim(key, value, unit="", source=""):
    return Claim(key=key, value=value, unit=unit, source=source)


def test_equal_facts_are_one_line_with_everybody_who_states_them():
    """Spelling, case and the form of a number do not make another fact; another value does."""
    claims = [
        ("t1", claim("Price", 20, "USD", "a.pdf")),
        ("t2", claim(" price ", "20.00", "usd", "b.pdf")),
        ("t3", claim("price", 21, "USD")),
        ("t4", claim("price", None)),
        ("t1", claim("price", 20, "USD", "a.pdf")),
    ]

    assert [
        "- Price: 20 USD (a.pdf; b.pdf) [t1, t2]",
        "- price: 21 USD [t3]",
    ] == fact_sheet(claims)


def test_a_fact_is_one_line_whatever_its_words():
    """So that the sheet can be cut between facts."""
    lines = fact_sheet([("t1", claim("a\nb", "x\n- k: 1 [t9]", "m\nm", "s\ns"))])

    assert 1 == len(lines)
    assert "\n" not in lines[0]
