"""`output_schema`: which JSON an answer holds, and why it does not fit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.recipe.output_schema import schema_problems, validate_output

OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "level": {"enum": ["low", "high"]},
        "items": {"type": "array", "items": {"type": "object", "required": ["id", "at"]}},
    },
    "required": ["n"],
}
LIST: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 1}',
        '  {"n": 1}\n',
        'Here it is:\n```json\n{"n": 1}\n```\nDone.',
        'First:\n```json\n{"n": 7}\n```\nBetter:\n```\n{"n": 1}\n```',
        'I think {"n": 9} was wrong, so {"n": 1} it is [1].',
        '```json\n{"n": 1}\n```\nor in short {"m": 2}',
        'The set {a, b} and then {"n": 1}',
        '{"n": 1,}',
        "{'n': 1}",
        '{"n": 1',
        "```json\n{n: 1}\n```",
        '<think>{"n": 5}</think>{"n": 1}',
    ],
)
def test_the_json_of_an_answer_is_found(text: str):
    """Alone, fenced or in prose the last fitting object counts; slightly broken JSON is repaired."""
    assert validate_output(text, OBJECT) == ({"n": 1}, None)


@pytest.mark.parametrize(
    "text", ["[1, 2]", "So [1, 2].", "```\n[1, 2]\n```", 'Not {"n": 1} but [1, 2].', "[1, 2"]
)
def test_lists_are_found_too(text: str):
    """The schema decides what is looked for."""
    assert validate_output(text, LIST) == ([1, 2], None)


def test_scalars_count_when_they_are_the_whole_answer():
    """A number in a sentence is none."""
    assert validate_output(" 42\n", {"type": "integer"}) == (42, None)
    assert validate_output("It is 42.", {"type": "integer"}) == (None, "the answer holds no JSON")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("no idea", "the answer holds no JSON"),
        ("", "the answer holds no JSON"),
        ("{}", "the answer: 'n' is missing"),
        ("[]", "the answer: must be an object, found a list"),
        ('{"n": "1"}', "/n: must be a whole number, found '1'"),
        ('{"n": 1.5}', "/n: must be a whole number, found the number 1.5"),
        ('{"n": 1, "level": "mid"}', '/level: must be one of "low", "high", found \'mid\''),
        ('{"n": 1, "items": [{"id": 1, "at": 2}, {}]}', "/items/1: 'id' and 'at' are missing"),
        ("NaN", "the answer holds no JSON"),
        ("{'n': 'x'}", "/n: must be a whole number, found 'x'"),
    ],
)
def test_the_first_fault_is_told_in_plain_words(text: str, error: str):
    """The model is asked again with this sentence, and the user reads it."""
    assert validate_output(text, OBJECT) == (None, error)


def test_pointers_are_escaped():
    """A key with a slash stays one step."""
    schema: dict[str, Any] = {"properties": {"a/b~": {"type": "null"}}}

    assert (
        validate_output('{"a/b~": 1}', schema).error == "/a~1b~0: must be null, found the number 1"
    )


def test_other_faults_keep_the_words_of_the_library():
    """They are rare, and cut when they quote a long value."""
    schema: dict[str, Any] = {"properties": {"s": {"maxLength": 3}}}

    assert validate_output('{"s": "abcd"}', schema).error == "/s: 'abcd' is too long"
    assert len(validate_output('{"s": "' + "x" * 999 + '"}', schema).error or "") < 310


def test_nothing_is_fetched():
    """A reference to another document is an error, not a request (the test environment has no network)."""
    assert validate_output("{}", {"$ref": "https://example.com/s"}).error == (
        "the schema refers to 'https://example.com/s', which does not exist"
    )
    assert validate_output("{}", {"$ref": "#/nope"}).error == (
        "the schema refers to '/nope', which does not exist"
    )


def test_deep_or_endless_answers_do_no_harm():
    """Ten thousand brackets are read in a moment."""
    for text in (
        "[" * 10_000,
        '{"a":' * 10_000,
        "{" * 10_000 + "}" * 10_000,
        "[" * 9000 + "]" * 9000,
        "9" * 9000,
    ):
        assert validate_output(text, OBJECT).value is None


@pytest.mark.parametrize(
    ("schema", "problems"),
    [
        (OBJECT, []),
        ({}, []),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, []),
        ({"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}}, []),
        ({"enum": [{"$ref": "x"}]}, []),
        ({"type": "objekt"},
         [(("type",), "is no valid JSON Schema: 'objekt' is not valid under any of the given schemas")]),
        ({"required": "n"}, [(("required",), "is no valid JSON Schema: must be a list, found 'n'")]),
        ({"properties": {"a": {"minimum": "1"}}},
         [(("properties", "a", "minimum"), "is no valid JSON Schema: must be a number, found '1'")]),
        ({"items": {"$ref": "file:///etc/passwd"}},
         [(("items", "$ref"), "refers to another document ('file:///etc/passwd')")]),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": 5},
         [(("type",), "is no valid JSON Schema: 5 is not valid under any of the given schemas")]),
    ],
)  # fmt: skip
def test_a_schema_that_is_none_is_found_when_the_recipe_is_read(
    schema: dict[str, Any], problems: list[Any]
):
    """Not by the first agent's answer."""
    assert schema_problems(schema) == problems


@given(
    st.text()
    | st.lists(st.sampled_from([*'{}[]",:n1 \n`', '{"n": 1}', "```json\n", "```\n"])).map("".join)
)
def test_any_answer_fits_or_has_a_reason(text: str):
    """The validator never raises."""
    value, error = validate_output(text, OBJECT)

    assert (value is None) == (error is not None)
