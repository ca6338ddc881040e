"""Types and null rules of what programs read: the document of `--json`, and the events."""

import json
from typing import Any, cast

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Seen, Server

THREE = 'tasks: [{id: s, prompt: "Say {{ item }}", for_each: {items: [a, b, c]}}]'
NUMBER = (int, float)
DOCUMENT: dict[str, Any] = {
    "schema_version": int, "run": str, "status": str, "exit_code": int, "mode": str, "cost_usd": (*NUMBER, type(None)),
    "usage": {"input_tokens": int, "output_tokens": int, "cached_tokens": int, "calls": int}, "duration_s": NUMBER,
    "agents": dict.fromkeys(("total", "done", "failed", "skipped", "cached", "hedged"), int),
    "votes": {"tasks": int, "agreed": int, "escalated": int, "audited": int, "routing_stopped": bool},
    "conflicts": list, "critical_path": {"seconds": NUMBER, "agents": list}, "speedup": (*NUMBER, type(None)),
    "failures": list, "artifacts": list,
}  # fmt: skip
"""Field -> its type in every document; `result`, `structured` and `resume` depend on how the run ended."""


def misfits(value: Any, shape: Any, name: str = "") -> list[str]:
    """The fields that are missing or of another type."""
    if isinstance(shape, dict):
        inner = cast("dict[str, Any]", shape)
        found = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        return [
            bad
            for key, one in inner.items()
            for bad in misfits(found.get(key, ...), one, f"{name}.{key}")
        ]
    number_is_truth = isinstance(value, bool) and shape is not bool
    return [] if isinstance(value, shape) and not number_is_truth else [name]


@pytest.mark.parametrize(
    ("more", "flags", "fault", "status", "code", "has_result"),
    [
        ("", (), "ok", "ok", 0, True),
        ("", (), "400 at b", "partial", 3, True),
        ("", ("--min-success", "60%"), "400 at b", "ok", 0, True),
        ("", ("--cache", "only"), "ok", "failed", 1, False),
        ("", (), "400", "failed", 1, False),
        ("", (), "401", "failed", 77, False),
        ("limits: {max_calls: 1, parallel: 1}", (), "ok", "budget", 4, True),
        ("", ("--max-tokens", "1"), "ok", "budget", 4, False),
        ("", ("--timeout", "100ms"), "hang", "timeout", 124, False),
        ('output: {schema: {type: object}}', (), "ok", "unverified", 5, True),
    ],
    ids=str,
)  # fmt: skip
def test_the_document_has_one_shape_however_the_run_ends(
    shell: Shell,
    server: Server,
    more: str,
    flags: tuple[str, ...],
    fault: str,
    status: str,
    code: int,
    has_result: bool,
):
    """The same fields with the same types; null only where the contract says so; a text run agrees with it."""
    server.reply = "fine"

    def spoil(seen: Seen) -> str:
        kind, _, where = fault.partition(" at ")
        return kind if seen.prompt.endswith(where) else "ok"

    server.faults = spoil
    recipe = shell.recipe(f"{THREE}\n{more}\ncache: {{mode: 'off'}}")

    done = shell("run", recipe, "--json", *flags)
    text = shell("run", recipe, *flags)
    document = done.json

    assert (done.code, document["exit_code"], document["status"]) == (code, code, status)
    assert misfits(document, DOCUMENT) == []
    assert isinstance(document["result"], str) == has_result == (document["artifacts"] != [])
    assert (document["result"] is None) != has_result
    assert document["structured"] is None
    assert document["resume"] == (None if status == "ok" else f"swarm resume {document['run']}")
    assert all({"agent", "kind", "message"} == one.keys() for one in document["failures"])
    assert (text.code, text.out != "") == (code, has_result)


@pytest.mark.parametrize(
    ("merge", "format_", "begins"),
    [
        ("auto", "json", "["), ("auto", "jsonl", '{"index": 0'), ("auto", "text", "## s[0]"),
        ("auto", "markdown", "## s[0]"),
        ("table", "json", "| agent"), ("json", "text", "["),
    ],
)  # fmt: skip
def test_the_output_format_decides_how_several_answers_become_one(
    shell: Shell, server: Server, merge: str, format_: str, begins: str
):
    """`output.format: json` makes records of them, unless `merge` says something else."""
    server.reply = "fine"
    recipe = shell.recipe(
        f"{THREE}\nmerge: {{strategy: {merge}}}\noutput: {{file: out, format: {format_}}}"
    )

    done = shell("run", recipe)
    written = (shell.folder / "out").read_text()

    assert (done.code, done.out, written.startswith(begins)) == (0, "", True)
    if begins == "[":
        assert [record["agent"] for record in json.loads(written)] == ["s[0]", "s[1]", "s[2]"]


def test_a_single_answer_is_the_result_in_any_format(shell: Shell, server: Server):
    """One final task that answers in JSON is not wrapped into a record."""
    server.reply = '{"a": 1}'
    body = 'tasks: [{id: t, prompt: "x"}]\noutput: {format: json}'

    assert shell("run", shell.recipe(body)).out == '{"a": 1}\n'
