"""What a judge says is what it wrote last."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.judgement import MAX_ERROR_CHARS, last_object, parse_judgement

REJECT = '{"first_error": "17 * 3 is 51", "verdict": "reject"}'


@pytest.mark.parametrize(
    "text",
    [
        REJECT,
        f"I recompute: 51.\n{REJECT}\n",
        f"Steps\n```json\n{REJECT}\n```",
        f"Steps\n```json\n{REJECT}```",
        '```json\n{"verdict": "accept"}\n```\nNo:\n```json\n' + REJECT + "\n```",
        f'It says {{"verdict": "accept"}}.\n{{"verdict": "accept"}}\n{REJECT}',
    ],
)
def test_the_last_line_is_the_verdict(text):
    """Bare, behind steps, in a fence, and behind quotations of other verdicts."""
    judged = parse_judgement(text)

    assert ("reject", "17 * 3 is 51") == (judged.verdict, judged.first_error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I accept.",
        '{"verdict": "accept"}\nSo it is right.',
        '{"verdict": "accept|reject|unsure"}',
        '{"verdict": "<accept, reject or unsure>"}',
        '{"verdict": true}',
        '["accept"]',
        '{"verdict": "ACCEPT"}',
        "[" * 5000,
    ],
)
def test_anything_else_is_unsure(text):
    """A verdict that is not the last word, is no word of ours or cannot be read decides nothing."""
    assert "unsure" == parse_judgement(text).verdict


def test_backticks_in_what_it_says_do_not_hide_the_verdict():
    """The first error may be about a fence."""
    judged = parse_judgement(
        '```json\n{"first_error": "no ``` at the end", "verdict": "reject"}\n```'
    )

    assert ("reject", "no ``` at the end") == (judged.verdict, judged.first_error)


def test_no_error_is_said_in_several_ways_and_a_long_one_is_cut():
    """It goes into another prompt."""
    none = parse_judgement('{"first_error": "none", "verdict": "reject"}')
    long = parse_judgement(json.dumps({"first_error": "x" * 9000, "verdict": "reject"}))
    odd = parse_judgement('{"first_error": ["a"], "verdict": "reject"}')

    assert ("", MAX_ERROR_CHARS, "") == (
        none.first_error, len(long.first_error), odd.first_error
    )  # fmt: skip


@given(st.text(), st.sampled_from(["accept", "reject", "unsure"]))
def test_no_text_before_the_last_line_changes_it(text, verdict):
    """Whatever a judge quotes."""
    said = (
        f'{text}\n{{"verdict": "accept"}}\n{text}\n{{"first_error": "e", "verdict": "{verdict}"}}'
    )

    assert verdict == parse_judgement(said).verdict


@given(st.text())
def test_reading_never_fails(text):
    """A judge is a model: it may answer anything."""
    assert isinstance(last_object(text), dict)
