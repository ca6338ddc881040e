"""Typed replies: what an agent says of its own answer."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.replies import MAX_CLAIM_CHARS, MAX_CLAIMS, Claim, Reply, parse_reply


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


def test_a_block_of_code_above_the_claims_stays_whole():
    """Its last fence is not that of the reply."""
    code = "Run this:\n```sh\nmake\n```"

    assert code == parse_reply(f'{code}\n{{"status": "ok", "claims": []}}').output
    assert code == parse_reply(f'{code}\n```json\n{{"status": "ok"}}\n```').output
    assert code == parse_reply(f'{code}\n```json\n{{"status": "ok"}}').output  # never closed


def test_text_on_both_sides_of_the_claims_is_kept():
    """A block with claims may stand in the middle; nothing that an agent wrote is lost."""
    text = 'Berlin.\n```json\n{"status": "ok", "claims": []}\n```\nAnd its lakes.'

    assert "Berlin.\n\nAnd its lakes." == parse_reply(text).output


def test_backticks_in_the_answer_do_not_end_its_block():
    """An answer may be Markdown with code in it."""
    answer = "Run:\n```sh\nmake\n```"
    reply = json.dumps({"status": "ok", "answer": answer})

    assert Reply(output=answer) == parse_reply(f"```json\n{reply}\n```")


def test_an_answer_that_is_null_leaves_what_stands_beside_it():
    """`insufficient` with the reason in prose is no empty answer."""
    text = 'The file is missing.\n{"status": "insufficient", "answer": null, "claims": []}'

    assert Reply(output="The file is missing.", status="insufficient") == parse_reply(text)


def test_claims_are_bounded_in_number_and_in_size():
    """A page of text is no key, and nobody makes a million claims in one answer."""
    one = {"key": "k", "value": 1}
    long = [{**one, name: "x" * MAX_CLAIM_CHARS} for name in ("key", "value", "unit", "source")]
    listed = {**one, "value": ["x"] * MAX_CLAIM_CHARS}
    reply = parse_reply(json.dumps({"status": "ok", "answer": "x", "claims": [*long, listed, one]}))
    many = parse_reply(json.dumps({"status": "ok", "answer": "x", "claims": [one] * 9000}))

    assert (Claim(key="k", value=1),) == reply.claims
    assert MAX_CLAIMS == len(many.claims)


@pytest.mark.parametrize("nest", ["[]", "{}"])
def test_an_answer_that_is_too_deep_to_be_written_is_text(nest):
    """Reading and writing JSON give up at different depths."""
    for depth in range(500, 1100):
        inner = "[" * depth + "]" * depth if nest == "[]" else '{"a":' * depth + "1" + "}" * depth
        text = f'{{"status": "ok", "answer": {inner}}}'

        assert parse_reply(text).output in {text, inner, inner.replace(":", ": ")}


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
