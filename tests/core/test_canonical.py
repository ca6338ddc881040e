"""When two answers say the same thing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.canonical import (
    canonical,
    canonical_choice,
    canonical_json,
    canonical_number,
    canonical_of,
    canonical_text,
    same,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$20.00", 20), ("the answer is 1,234.50 dollars", 1234.5), ("3/4", 0.75), ("1 1/2 cups", 1.5),
        ("50%", 0.5), ("50 percent", 0.5), (r"50\%", 0.5), ("-5", -5), ("minus \u22127", -7), ("10-5", 5),
        ("2 million", 2e6), ("1.5e3", 1500), (r"\frac{3}{4}", 0.75), ("1'234", 1234), ("12 345 km", 12345),
        ("x = 5.", 5), ("#### 72", 72), ("10 - 3 = 7", 7), ("\u20ac3.50 each", 3.5), (r"\boxed{42}", 42),
        ("$-20$", -20), ("-$20", -20), ("in 2024, 17", 17), ("18.00%", 0.18), ("1,2,3", 3), ("GPT-4", 4),
        ("(-3)", -3), (".5", 0.5), ("Step 1: 20 apples", 20), ("1,000,000", 1e6),
        # decimal commas and other separators
        ("1.234,56", 1234.56), ("1.234.567", 1234567), ("3,14", 3.14), ("0,234", 0.234), ("42,00 \u20ac", 42),
        ("1 234,5", 1234.5),
        ("\u20b912,34,567", 1234567), ("1,00,000.50", 100000.5), ("1\u2019234\u2019567", 1234567), ("1_000_000", 1e6),
        # LaTeX
        (r"\boxed{1{,}234}", 1234), (r"1\,234\,567", 1234567), (r"1,\!234", 1234), (r"\$18{,}000", 18000),
        (r"1\frac{1}{2}", 1.5),
        (r"\frac12", 0.5), (r"\frac{-3}{4}", -0.75), (r"2.5 \times 10^{6}", 2.5e6), (r"42\text{ cm}^2", 42),
        (r"$\boxed{-\frac{1}{2}}$", -0.5),
        # powers, signs and multiples
        ("3 \u00d7 10\u2078", 3e8), ("1.5 x 10^-3", 0.0015), ("10\u207b\u00b3", 0.001), ("2^10", 1024),
        ("1\u00bd cups", 1.5), ("-\u00be", -0.75),
        ("\u20115", -5), ("x = - 5", -5), ("Total - 5", 5), ("So:\n- 5", 5), ("10%-20%", 0.2),
        ("$1.5M", 1.5e6), ("$20k", 20000), ("5k", 5000), ("3m", 3), ("2 hundred", 200), ("5 lakh", 5e5),
        ("2 crores", 2e7),
        # digits of names and of units
        ("50 tonnes of CO2", 50), ("9.8 m/s^2", 9.8), ("10m2", 10), ("10 m\u00b2", 10), ("USD42", 42),
        ("Rs.500", 500), ("wait...5", 5),
    ],
)  # fmt: skip
def test_the_last_number_counts_however_it_is_written(text: str, number: float):
    """Money, percent, fractions, separators and units are spelling."""
    found = canonical_number(text)

    assert found is not None
    assert same(found, float(number))


@pytest.mark.parametrize(
    "text", ["", "no number", "5/0", r"\frac{1}{0}", "NaN", "inf", "1e999", "9^999", "0^-1"]
)
def test_what_is_no_number_is_none(text: str):
    """No vote is better than a made-up one."""
    assert canonical_number(text) is None


@given(st.integers(-(10**9), 10**9))
def test_a_number_survives_separators_and_decoration(number: int):
    """However large, and with a sign."""
    for text in (f"{number:,}", f"${number:,}.00", f"**{number}**", f"so it is {number} apples."):
        assert canonical_number(text) == number, text


@given(st.text(max_size=300))
def test_nothing_that_a_model_writes_breaks_a_reader(text: str):
    """Any text has a canonical value or none, in every form."""
    for kind in ("text", "number", "choice", "json"):
        assert canonical(text, kind) is None or isinstance(canonical(text, kind), str | float)
    canonical_of(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.234,56", "9.876,56"), (r"1{,}234", r"5{,}234"), ("3,14", "2,14"), ("1,00,000", "7,00,000"),
        ("1\u00bd", "1"),
        ("1.5 \u00d7 10^6", "3 \u00d7 10^6"), ("10 m^2", "8 m^2"), ("5 kg CO2", "7 kg CO2"), ("$1.5M", "$1.5k"),
        ("\u20115", "5"),
        (r"1\frac{1}{2}", r"2\frac{1}{2}"), ("1_000", "2_000"),
    ],
)  # fmt: skip
def test_numbers_with_the_same_end_do_not_agree(one: str, other: str):
    """Two models that are both wrong would be believed."""
    first, second = canonical_number(one), canonical_number(other)

    assert first is not None
    assert second is not None
    assert not same(first, second)


def test_a_long_answer_is_read_in_no_time():
    """Megabytes of digits are cut to their end and read once (a quadratic reader would take minutes)."""
    assert canonical_number("1 " * 2_000_000 + "7") == 7


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", "b"), ("(B)", "b"), ("B.", "b"), ("The answer is B", "b"), ("Answer: (c)", "c"), ("**B**", "b"),
        ("b) because it is", "b"), ("I think\nD", "d"), ("option A, not B", "a"), ("Yes.", "yes"),
        ("The answer is **C**.", "c"), ("A good idea is rare", "a good idea is rare"),
        ("the answer is: **B. Paris**", "b"),
        (r"\boxed{B}", "b"), (r"The answer is: $\boxed{\text{B}}$", "b"), ("answer is 'C'", "c"), ("[[B]]", "b"),
        (r"answer: \(B\)", "b"),
        ("Answer: A, C", "answer: a, c"), ("Answer: A or B", "answer: a or b"), ("\u201cYes\u201d", "yes"),
    ],
)  # fmt: skip
def test_a_choice_is_its_letter(text: str, choice: str):
    """And without a letter the words themselves."""
    assert choice == canonical_choice(text)


def test_a_model_that_stammers_spaces_does_not_hold_up_the_run():
    """The gap behind `answer` is read once, not once for each way to divide it (that took minutes)."""
    for gap in (" ", "\n", "*", "( "):
        assert canonical_choice("answer" + gap * 100_000 + "xy") is not None


def test_json_is_compared_by_value():
    """Order of keys, spacing, fences and 1.0 for 1 are spelling; the order of a list is not."""
    assert canonical_json('{"b": 1.0, "a": [1, 2]}') == canonical_json(
        'So:\n```json\n{"a":[1,2],"b":1}\n```'
    )
    assert canonical_json("[1, 2]") != canonical_json("[2, 1]")
    assert canonical_json("no json") is None
    assert canonical_json('{"a": NaN}') is None


def test_text_is_compared_without_case_quotes_and_a_full_stop():
    """What a reader would call the same answer."""
    assert canonical_text('"Paris."') == canonical_text(" paris ")


@pytest.mark.parametrize(
    ("one", "other"),
    [(20, "20 dollars"), (1000, "$1,000"), (0.1, "10%"), ("12 km", 12.0), ("Paris", " paris. "), ([1, 2.0], [1.0, 2])],
)  # fmt: skip
def test_claims_of_one_value_are_the_same(one: object, other: object):
    """However agents write it."""
    assert same(canonical_of(one), canonical_of(other))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("one", "other"), [("Berlin 3", "Berlin 4"), ("v2", "v3"), (True, 1), ("2024-05-01", "2024-05-02"), ("3 of 5", 5)]
)  # fmt: skip
def test_claims_of_different_values_are_not(one: object, other: object):
    """A number inside of a name or a date is no number."""
    assert not same(canonical_of(one), canonical_of(other))  # pyright: ignore[reportArgumentType]


@given(st.floats(-1e6, 1e6), st.floats(-1e-7, 1e-7))
def test_equal_means_within_a_millionth(number: float, error: float):
    """1/3 written with seven digits is still 1/3; a hundredth more is not."""
    assert same(number, number + error)
    assert not same(number, number + 0.01)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_json_read_twice_is_the_same(value: object):
    """The canonical form is its own canonical form."""
    once = canonical_json(json.dumps(value))

    assert once is not None
    assert once == canonical_json(once)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("The answer is B", "b"),
        ("the answer is a.", "a"),
        ("answer: a", "a"),
        ("The answer is a dog", "the answer is a dog"),
        ("The answer I get is no", "the answer i get is no"),
        ("Answer: (I)", "i"),
    ],
)
def test_words_of_one_letter_are_no_choices(text: str, choice: str):
    """Two models that both write "the answer I found" have not agreed on I."""
    assert canonical_choice(text) == choice
