"""Typed replies: what an agent says of its own answer."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.replies import Claim, Reply, parse_reply


def test_without_a_typed_reply_the_whole_text_is_the_answer():
    """Prose is prose; the spaces around it are not kept."""
    assert Reply(output="Berlin has 3.7 million people.") == parse_reply(
        "\nBerlin has 3.7 million people.\n\n"
    )


def test_the_last_line_may_be_the_typed_reply():
    """Steps first, the answer last: only the answer goes on to the dependants."""
    text = 'I add 2 and 2.\nThat makes 4.\n{"status": "ok", "answer": "4"}\n'

    assert Reply(output="4") == parse_reply(text)


@pytest.mark.parametrize("fence", ["```", "```json", "```JSON title=reply"])
def test_the_last_fenced_block_may_be_the_typed_reply(fence):
    """Models like to fence JSON, and to say goodbye after it."""
    text = f'```python\nprint(1)\n```\nSo:\n{fence}\n{{\n  "status": "ok",\n  "answer": "4"\n}}\n```\nBye.'

    assert Reply(output="4") == parse_reply(text)


def test_a_block_of_code_after_the_typed_reply_does_not_hide_it():
    """The last block that parses as one counts."""
    text = '```json\n{"status": "conflict", "answer": "4"}\n```\n```python\nprint(4)\n```'

    assert Reply(output="4", status="conflict") == parse_reply(text)


def test_the_whole_text_may_be_the_typed_reply():
    """Indented over several lines."""
    assert Reply(output="4") == parse_reply(json.dumps({"status": "ok", "answer": "4"}, indent=2))


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ("text", "text"),
        (4, "4"),
        ([1, "ä"], '[1, "ä"]'),
        ({"a": None}, '{"a": null}'),
        (False, "false"),
        (None, ""),
    ],
)
def test_an_answer_that_is_no_text_is_json(answer, output):
    """A number, a list or an object goes on as JSON."""
    assert output == parse_reply(json.dumps({"status": "ok", "answer": answer})).output


def test_a_status_without_an_answer_keeps_the_text():
    """The text above is the answer then."""
    reply = parse_reply('The file is missing.\n{"status": "insufficient"}')

    assert Reply(output="The file is missing.", status="insufficient") == reply


@pytest.mark.parametrize("fence", ["", "```json\n"])
def test_claims_under_a_text_are_taken_off_it(fence):
    """The line is for the program, and no reader of the result has to see it."""
    end = "\n```" if fence else ""
    text = f'Berlin is large.\n\nIt is.\n{fence}{{"status": "ok", "claims": []}}{end}'

    assert Reply(output="Berlin is large.\n\nIt is.") == parse_reply(text)


def test_claims_are_read_and_broken_ones_left_out():
    """A claim needs a key and a value."""
    claims = [
        {"key": "population", "value": 3.7, "unit": "million", "source": "stat.de"},
        {"key": "area", "value": None},
        {"key": 3, "value": 1},
        {"key": "no value"},
        "prose",
    ]
    reply = parse_reply(json.dumps({"status": "ok", "answer": "x", "claims": claims}))

    assert (
        Claim(key="population", value=3.7, unit="million", source="stat.de"),
        Claim(key="area", value=None),
    ) == (reply.claims)
    assert () == parse_reply('{"status": "ok", "answer": "x", "claims": "many"}').claims


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": "4"}',
        '{"status": "done", "answer": "4"}',
        '{"status": ["ok"], "answer": "4"}',
        'Answer: {"status": "ok", "answer": "4"}',
        '{"status": "ok", "answer": "4"}\nand more prose',
        '{"status": "ok", "answer": "4"',
        '["status", "ok"]',
    ],
)
def test_other_json_is_just_text(text):
    """Only the exact form counts, at the end or in a block."""
    assert Reply(output=text) == parse_reply(text)


@given(st.text(max_size=80) | st.text(st.sampled_from('`\n {}":statusok'), max_size=80))
def test_any_text_is_a_reply(text):
    """Nothing that a model writes can break the reader."""
    reply = parse_reply(text)

    assert reply.status in {"ok", "insufficient", "conflict"}
    assert reply.output == text.strip() or "status" in text


@pytest.mark.parametrize(
    "text",
    ["```\n" + " " * 300_000 + "x", "```" * 100_000, "```a\n" * 60_000, "```\n" + "\n" * 300_000, "{" * 300_000 + "}",
     "[" * 300_000, '{"status": ' + "[" * 100_000 + "]" * 100_000 + "}"],
    ids=["spaces", "ticks", "fences", "lines", "braces", "brackets", "a deep nest"],
)  # fmt: skip
def test_hostile_replies_are_read_in_linear_time(text):
    """A model that writes a megabyte of spaces into a fence does not freeze the run."""
    started = time.perf_counter()

    assert Reply(output=text.strip()) == parse_reply(text)
    assert time.perf_counter() - started < 1
