"""What `swarm resume` takes over from the first session, and what its own flags change."""

import json

import pytest

from tests.contract.conftest import Done, Shell
from tests.fakes.openai_server import Seen, Server

THREE = 'tasks: [{id: s, prompt: "Say {{ item }}", for_each: {items: [a, b, c]}}]'


def broken_at_b(seen: Seen) -> str:
    """One of three agents fails."""
    return "400" if seen.prompt == "Say b" else "ok"


@pytest.fixture
def partial(shell: Shell, server: Server) -> Done:
    """A run of which one agent of three has failed; from now on the server answers."""
    server.reply = "fine"
    server.faults = broken_at_b
    done = shell("run", shell.recipe(THREE), "--json")
    server.faults = ()
    server.requests.clear()
    return done


def test_a_dry_run_of_the_rest_sends_nothing(shell: Shell, server: Server, partial: Done):
    """`resume --dry-run` shows what is left to ask, and leaves the run as it is."""
    shown = shell("resume", "--dry-run")
    facts = shell("resume", "--dry-run", "--format", "stream-json").json

    assert (shown.code, len(server.requests)) == (0, 0)
    assert f"resume {partial.json['run']}" in shell("show", "--json").json["resume"]
    assert facts == shown.json
    assert (facts["done"], facts["calls"]) == (["s[0]", "s[2]"], 1)

    text = shell("resume", "--dry-run", "--format", "text").out

    assert "3, 4 at once, 2 done before" in text
    assert len(server.requests) == 0


@pytest.mark.parametrize(
    "flags", [(), ("--json",), ("--format", "text"), ("--format", "stream-json")]
)
@pytest.mark.parametrize("first", ["json", "text", "stream-json"])
def test_the_format_is_that_of_the_first_session_unless_another_is_asked_for(
    shell: Shell, server: Server, first: str, flags: tuple[str, ...]
):
    """Also of a finished run, whose result is printed again without a call."""
    server.reply = "fine"
    run = shell("run", shell.recipe(THREE), "--format", first)
    server.requests.clear()

    again = shell("resume", "last", *flags)

    wanted = "json" if flags == ("--json",) else flags[-1] if flags else first
    assert (run.code, again.code, len(server.requests)) == (0, 0, 0)
    if wanted == "text":
        assert again.out.startswith("## s[0]: a\n")
    elif wanted == "json":
        assert again.json["result"].startswith("## s[0]: a\n")
    else:
        assert [line["type"] for line in again.lines] == ["run.completed"]
        assert again.lines[0]["result"].startswith("## s[0]: a\n")


def test_a_stream_of_events_is_nothing_but_events(shell: Shell, server: Server):
    """`-o -` adds no text to it; a file gets the result."""
    recipe = shell.recipe(THREE)

    streamed = shell("run", recipe, "--format", "stream-json", "-o", "-")
    filed = shell("resume", "last", "-o", "result.md")

    assert streamed.lines[-1]["type"] == filed.lines[-1]["type"] == "run.completed"
    assert (shell.folder / "result.md").read_text() == f"{streamed.lines[-1]['result']}\n"


@pytest.mark.parametrize(
    ("merge", "answer"),
    [
        ("auto", '{"a": 1}'),
        ("json", "one"),
        ("jsonl", "one"),
        ("table", "one"),
        ("majority", "one"),
    ],
)
@pytest.mark.parametrize("flags", [(), ("-o", "out.json")])
def test_a_finished_run_says_the_same_again(
    shell: Shell, server: Server, merge: str, answer: str, flags: tuple[str, ...]
):
    """`resume` of a finished run prints the document of the first time, field by field."""
    server.reply = answer
    recipe = shell.recipe(f'tasks: [{{id: t, prompt: "x"}}]\nmerge: {{strategy: {merge}}}')
    shell("run", recipe, "--json", "-o", "first.json")
    first = json.loads((shell.folder / "first.json").read_text())
    place = str(shell.folder / "out.json")

    again = shell("resume", "last", *(flags or ("-o", "-")))
    document = json.loads((shell.folder / "out.json").read_text()) if flags else again.json

    assert document.pop("artifacts") == first.pop("artifacts")[:-1] + ([place] if flags else [])
    assert document == first
