"""Conflicts between agents' claims."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.claims import (
    Conflict,
    Position,
    Settled,
    conflict_record,
    conflicts_among,
    conflicts_section,
    find_conflicts,
    position_of,
    without_section,
)
from swarmcli.core.replies import Claim
from tests.core.tasks import done, failed


def claim(key: str, value: object, unit: str = "", source: str = "") -> Claim:
    return Claim(key=key, value=value, unit=unit, source=source)  # pyright: ignore[reportArgumentType]


def test_the_same_key_with_two_values_is_a_conflict():
    """With everybody who said what, and where they had it from."""
    found = find_conflicts(
        [
            ("a", claim("Revenue 2023", "$1,000", source="p. 3")),
            ("b", claim(" revenue  2023 ", 1000)),
            ("c", claim("Revenue 2023", 1200, source="p. 9")),
        ]
    )

    assert [("Revenue 2023", ("a", "b", "c"))] == [(c.key, c.agents) for c in found]
    assert [("$1,000", ("a", "b"), ("p. 3",)), (1200, ("c",), ("p. 9",))] == [
        (p.value, p.agents, p.sources) for p in found[0].positions
    ]


def test_equal_values_and_different_units_are_none():
    """5 km and 5000 m may both be right; a unit that is left out is the only one that was named."""
    assert not find_conflicts([("a", claim("d", 5, "km")), ("b", claim("d", 5000, "m"))])
    assert not find_conflicts([("a", claim("d", 5, "km")), ("b", claim("d", "5"))])
    assert find_conflicts([("a", claim("d", 5, "km")), ("b", claim("d", 6))])
    assert find_conflicts([("a", claim("d", 5, "km")), ("b", claim("d", 6, "KM"))])


def test_claims_without_key_or_value_say_nothing():
    """A model that leaves them empty contradicts nobody."""
    assert not find_conflicts([("a", claim(" ", 1)), ("b", claim(" ", 2))])
    assert not find_conflicts([("a", claim("k", None)), ("b", claim("k", 2))])


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.sets(st.integers(0, 59), max_size=8),
    st.randoms(use_true_random=False),
)
def test_planted_contradictions_are_all_found_and_none_is_invented(values, planted, rng):
    """Whatever the order in which agents speak."""
    said = [(f"t{i}", claim(f"fact {i}", value)) for i, value in enumerate(values)]
    said += [(f"u{i}", claim(f"Fact  {i}", f"{value}.00")) for i, value in enumerate(values)]
    wrong = {i for i in planted if i < len(values)}
    said += [(f"x{i}", claim(f"FACT {i}", values[i] + 1)) for i in wrong]
    rng.shuffle(said)

    found = find_conflicts(said)

    assert {f"fact {i}" for i in wrong} == {c.key.casefold() for c in found}
    assert all(len(c.positions) == 2 for c in found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("5 km", ""), ("5000 m", "")),  # the unit may stand in the value
        (("75%", ""), (75, "percent")),
        ((0.75, ""), (75, "%")),
        (("1.2 billion", "USD"), (1200, "million USD")),  # a factor may stand in the unit
        (("5 km", "km"), (5, "km")),
        (("20 people", ""), ("20 guests", "")),
        ((True, ""), ("true", "")),
        ([["a", 1], ""], [["a", 1.0], ""]),
        (("Paris", ""), (" paris. ", "")),
        ((float("nan"), ""), (float("nan"), "")),  # nothing that could be compared
        ((10**400, ""), (10**401, "")),
        (("", ""), ("x", "")),
    ],
)
def test_what_says_the_same_or_cannot_be_compared_is_no_conflict(one, other):
    """A conflict that is invented costs calls and trust."""
    assert not find_conflicts([("a", claim("k", *one)), ("b", claim("k", *other))])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("5 km", ""), ("6 km", "")),
        (("20 people", ""), ("21 guests", "")),
        (("75%", ""), (74, "percent")),
        (("1.2 billion", "USD"), (1300, "million USD")),
        (("15 April 1912", ""), ("14 April 1912", "")),
        (("Paris", ""), ("Lyon", "")),
        ((True, ""), (False, "")),
        ((["a"], ""), (["b"], "")),
        ((0, ""), (1, "")),
    ],
)
def test_what_differs_is_found(one, other):
    """In numbers, dates, words and lists."""
    assert find_conflicts([("a", claim("k", *one)), ("b", claim("k", *other))])


def conflict(*positions: tuple[object, str], unit: str = "") -> Conflict:
    return Conflict(
        key="k",
        unit=unit,
        positions=tuple(
            Position(value=value, agents=(agent,))  # pyright: ignore[reportArgumentType]
            for value, agent in positions
        ),
    )


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        (5, "a"),
        ("5.0", "a"),
        ("5 km", "a"),
        (6, "b"),
        ("7 km", None),
        ("5000 m", None),
        (None, None),
        ({}, None),
        ("", None),
        ("null", None),
    ],
)
def test_an_answer_chooses_the_position_that_it_is_equal_to(answer, chosen):
    """A third value, another unit and no value choose nobody."""
    position = position_of(conflict((5, "a"), ("6 km", "b"), unit="km"), answer)

    assert chosen == (position.agents[0] if position else None)


def test_an_answer_may_name_the_unit_that_everybody_left_out():
    """It says the same in more words; a third value stays one."""
    left_out = conflict((5, "a"), (6, "b"))

    assert left_out.positions[1] == position_of(left_out, "6 km")
    assert position_of(left_out, "7 km") is None


def test_a_factor_in_the_unit_goes_with_the_value():
    """What is shown, and what an answer is compared with, is what was meant."""
    [found] = find_conflicts(
        [("a", claim("k", 1200, "million USD")), ("b", claim("k", "1.3 billion", "USD"))]
    )

    assert ("USD", ["1200 million", "1.3 billion"]) == (
        found.unit, [p.value for p in found.positions]
    )  # fmt: skip
    assert found.positions[0] == position_of(found, 1.2e9) == position_of(found, "$1.2 billion")
    [found] = find_conflicts([("a", claim("k", 75, "%")), ("b", claim("k", "74%", "%"))])
    assert ["75 %", "74%"] == [p.value for p in found.positions]
    assert found.positions[0] == position_of(found, 0.75)


def test_one_agent_alone_is_no_conflict():
    """Two authors of one book are a list; two agents that name different ones are a conflict."""
    assert not find_conflicts([("a", claim("author", "X")), ("a", claim("author", "Y"))])
    assert find_conflicts([("a", claim("author", "X")), ("b", claim("author", "Y"))])


def test_agents_that_name_the_same_several_values_agree():
    """Both name both authors of a book; who names another one contradicts them."""
    same_list = [(agent, claim("author", name)) for agent in "ab" for name in "XY"]

    assert not find_conflicts(same_list)
    [found] = find_conflicts([*same_list, ("c", claim("author", "Z"))])
    assert [("a", "b"), ("a", "b"), ("c",)] == [p.agents for p in found.positions]


def steps(said):
    """How many lines are run to compare these claims: the work, which no other process can change."""
    count = 0

    def step(*_):
        nonlocal count
        count += 1
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        find_conflicts(said)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (lambda i: i, lambda i: ""),
        (lambda i: i * 0.9e-6, lambda i: ""),
        (lambda i: f"text {i}x", lambda i: "km" if i % 2 else ""),
        (lambda i: i, lambda i: f"unit {i}x"),
        (lambda i: 1, lambda i: f"unit {i}x"),
        (lambda i: 1, lambda i: ""),
    ],
    ids=["numbers", "neighbours", "texts", "units", "only units", "the same"],
)
def test_twice_as_many_values_of_one_key_are_twice_the_work(value, unit):
    """An agent that states thirty thousand values does not hold up the run."""
    said = [(f"t{i}", claim("k", value(i), unit(i))) for i in range(300)]
    steps(said)  # what is made once

    assert steps(said) < 2.2 * steps(said[:150])


def test_only_finished_agents_have_a_say():
    """A failed agent's claims are not those of the run; there are none, whatever it streamed."""
    outcomes = [
        done("a", claims=(claim("k", 1),)),
        failed("b", claims=(claim("k", 2),)),
        done("c", claims=(claim("k", 3),), status="insufficient"),
    ]

    assert [("a", "c")] == [one.agents for one in conflicts_among(outcomes)]


def test_the_record_and_the_section_say_who_states_what():
    """`--json` has all; the section lists what is unresolved, on one line each, cut and without line breaks."""
    left = Settled(conflict=conflict((5, "a"), ("6\n# x" + "y" * 999, "b"), unit="km"))
    right = Settled(conflict=left.conflict, chosen=left.conflict.positions[0])

    assert {
        "key": "k",
        "unit": "km",
        "values": [{"value": 5, "agents": ["a"]}, {"value": "6\n# x" + "y" * 999, "agents": ["b"]}],
        "status": "resolved",
        "resolution": 5,
    } == conflict_record(right)
    assert "resolution" not in conflict_record(left)
    section = conflicts_section([right, left])
    heading, empty, line = section.split("\n")
    assert ("## Conflicts", "") == (heading, empty)
    assert line.startswith("- k: 5 km (a) or 6 # xyyy")
    assert len(line) < 300
    assert "" == conflicts_section([right])
    assert section.endswith("(b)")
    assert conflicts_section([left] * 130).endswith("(b)\n- and 30 more")
    assert "42" == without_section(f"42\n\n{section}") == without_section("42")


def test_very_many_values_are_one_short_line():
    """A key that means something else for everybody is no reason for a page of values."""
    positions = [(f"{n}" + "y" * 999, f"a{n}") for n in range(5000)]
    [_, _, line] = conflicts_section([Settled(conflict=conflict(*positions))]).split("\n")

    assert line.startswith("- k: 0yyy")
    assert line.endswith("… (a9) or 4990 more values")
    assert len(line) < 2500


def test_values_are_shown_as_json():
    """Not as Python writes them."""
    section = conflicts_section(
        [Settled(conflict=conflict((True, "a"), (False, "b"), (["ä"], "c"), ({"n": None}, "d")))]
    )

    assert section.endswith('- k: true (a) or false (b) or ["ä"] (c) or {"n": null} (d)')


values_ = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), values_, st.sampled_from(["", "km", "%", "m$", "million"])
        )
    )
)
def test_whatever_is_claimed_comparing_never_fails_nor_depends_on_who_repeats_it(said):
    """Any JSON; and who repeats what was said adds no conflict and no position."""
    claims = [(f"t{i}", claim(key, value, unit)) for i, (key, value, unit) in enumerate(said)]
    found = find_conflicts(claims)
    again = find_conflicts([*claims, *((f"u{agent}", one) for agent, one in claims)])

    assert [(c.key, [p.value for p in c.positions]) for c in found] == [
        (c.key, [p.value for p in c.positions]) for c in again
    ]
    assert all(len(c.positions) > 1 for c in found)
    assert all(p == position_of(c, p.value) for c in found for p in c.positions)
