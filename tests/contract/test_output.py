"""What stdout, files and streams hold."""

import json
import re
from pathlib import Path

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import HOSTILE, Reply, Server

ONE = 'tasks: [{id: t, prompt: "Say it."}]'


def test_the_json_document_has_every_field(shell: Shell, server: Server):
    """`--json` is one document with the fields that scripts rely on."""
    server.reply = "fine"

    document = shell("run", shell.recipe(ONE), "--json").json

    assert {
        "schema_version", "run", "status", "exit_code", "mode", "result", "structured", "cost_usd", "usage",
        "duration_s", "agents", "votes", "conflicts", "critical_path", "speedup", "failures", "artifacts", "resume",
    } <= document.keys()  # fmt: skip
    assert (document["status"], document["exit_code"], document["result"]) == ("ok", 0, "fine")
    assert document["usage"].keys() == {"input_tokens", "output_tokens", "cached_tokens", "calls"}
    assert (document["usage"]["calls"], document["resume"]) == (1, None)
    assert document["critical_path"]["agents"] == ["t"]


def test_an_unknown_price_is_null_and_a_stated_one_counts(shell: Shell, server: Server):
    """cost_usd is null for a model that nobody prices, never 0; the recipe's price counts."""
    server.reply = lambda _body: Reply(text="four", tokens=(1000, 500))
    price = "{input_per_mtok: 2.0, output_per_mtok: 8.0}"
    models = f"\nmodels:\n  small: {{model: openai/fake, price: {price}}}"

    unknown = shell("run", shell.recipe(ONE), "--cache", "off", "--json").json
    known = shell("run", shell.recipe(ONE + models, "priced"), "--cache", "off", "--json").json

    assert (unknown["cost_usd"], known["cost_usd"]) == (None, 0.006)


def test_a_failed_call_that_is_charged_makes_the_cost_unknown(shell: Shell, server: Server):
    """A truncated answer costs money; where nobody has named how much: null, not 0."""
    server.faults = lambda _seen: "length"
    server.usage = False
    price = "{input_per_mtok: 2.0, output_per_mtok: 8.0}"
    models = f"\nmodels:\n  small: {{model: openai/fake, price: {price}}}"

    assert shell("run", shell.recipe(ONE + models), "--json").json["cost_usd"] is None


def test_the_json_document_tells_of_failures_too(shell: Shell, server: Server):
    """A runtime failure still prints one document, with status failed."""
    server.faults = lambda _seen: "400"

    done = shell("run", shell.recipe(ONE), "--json")

    assert (done.code, done.json["status"], done.json["result"]) == (1, "failed", None)
    assert done.json["failures"][0].keys() == {"agent", "kind", "message"}
    assert done.json["resume"].startswith("swarm resume ")


def test_output_file_gets_what_stdout_would_have_had(shell: Shell, server: Server):
    """-o writes the same bytes, parents included, and leaves stdout empty."""
    server.reply = "line one \r\nline two\n\n\n"

    plain = shell("run", shell.recipe(ONE))
    filed = shell("run", shell.recipe(ONE), "-o", "deep/er/out.md")

    assert plain.out == "line one \nline two\n"
    assert (filed.out, (shell.folder / "deep/er/out.md").read_text()) == ("", plain.out)


def test_a_failed_run_leaves_no_file(shell: Shell, server: Server):
    """-o of a run without a result does not touch an earlier file."""
    shell.write("out.md", "earlier")
    server.faults = lambda _seen: "400"

    shell("run", shell.recipe(ONE), "-o", "out.md")

    assert (shell.folder / "out.md").read_text() == "earlier"


def test_control_characters_never_reach_stdout(shell: Shell, server: Server):
    """A hostile answer cannot drive the terminal, from stdout or from the progress lines."""
    server.reply = HOSTILE

    done = shell("run", shell.recipe(ONE), "-v")

    for stream in (done.out, done.err):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", stream)
    assert "red" in done.out


def test_a_model_cannot_command_the_ci_runner(shell: Shell, server: Server):
    """With GITHUB_ACTIONS, no stderr line starts with `::` because a model said so."""
    server.faults = lambda _seen: "400"
    recipe = shell.recipe(
        'tasks: [{id: t, prompt: "::error::owned"}, {id: u, prompt: "##[group]x"}]'
    )

    done = shell("run", recipe, "-v", env={"GITHUB_ACTIONS": "true"})

    commands = [line for line in done.err.splitlines() if line.startswith(("::", "##["))]
    assert all("owned" not in line for line in commands)
    assert len([c for c in commands if c.startswith(("::error", "::warning", "::notice"))]) <= 10


def test_stream_json_is_the_journal(shell: Shell, server: Server):
    """One JSON object a line, in seq order, with the common fields; the result is in the last one."""
    server.reply = "fine"

    events = shell("run", shell.recipe(ONE), "--format", "stream-json").lines

    assert all({"v", "seq", "ts", "run", "type"} <= event.keys() for event in events)
    assert [e["seq"] for e in events] == sorted(e["seq"] for e in events)
    assert (events[0]["type"], events[-1]["type"], events[-1]["result"]) == (
        "run.started",
        "run.completed",
        "fine",
    )
    completed = next(e for e in events if e["type"] == "agent.completed")
    fields = {
        "agent",
        "status",
        "model",
        "cached",
        "attempts",
        "tokens",
        "cost_usd",
        "seconds",
        "output",
    }
    assert fields <= completed.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", events[0]["ts"])


def test_events_file_holds_the_same_lines(shell: Shell):
    """--events FILE gets bare JSON lines beside an ordinary result."""
    done = shell("run", shell.recipe(ONE), "--events", "log/events.jsonl")

    lines = (shell.folder / "log/events.jsonl").read_text().splitlines()
    assert done.code == 0
    assert json.loads(lines[-1])["type"] == "run.completed"


def test_quiet_prints_only_errors(shell: Shell, server: Server):
    """-q: nothing on stderr when all is well, the error when not."""
    well = shell("run", shell.recipe(ONE), "-q")
    server.faults = lambda _seen: "401"
    ill = shell("run", shell.recipe(ONE), "-q", "--cache", "off")

    assert well.err == ""
    assert "error:" in ill.err


def test_a_schema_for_the_result(shell: Shell, server: Server):
    """--schema: the answer is asked for as JSON, checked, and given as `structured`."""
    shell.write("s.json", '{"type": "object", "required": ["city"]}')
    server.reply = '```json\n{"city": "Paris"}\n```'

    done = shell("solve", "Which city is it?", "--schema", "s.json", "--json")

    assert (done.code, done.json["structured"]) == (0, {"city": "Paris"})


def test_a_result_that_breaks_the_schema_exits_5(shell: Shell, server: Server):
    """A merged result that does not fit is written, and the exit code says so."""
    shell.write("s.json", '{"type": "object", "required": ["city"]}')
    server.reply = "no json"

    done = shell("run", shell.recipe(ONE), "--schema", "s.json")

    assert done.code == 5
    assert "schema" in done.err


@pytest.mark.parametrize("kind", ["run.json", "journal.jsonl", "out/t.txt", "result.md"])
def test_the_run_folder(shell: Shell, kind: str, monkeypatch: pytest.MonkeyPatch):
    """A run leaves its files, readable by nobody else."""
    import os

    shell("run", shell.recipe(ONE))

    folder = next((Path(os.environ["SWARM_HOME"]) / "state/runs").iterdir())
    assert (folder / kind).is_file()
    assert (folder / kind).stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_result_does_not_replace_what_it_was_made_from(shell: Shell, server: Server):
    """`-o` with the recipe or the dataset is refused before a call, whatever way it is written."""
    recipe = Path(shell.recipe('tasks: [{id: t, prompt: "Hi."}]'))
    data = shell.write("sums.jsonl", '{"question": "1 + 1", "answer": "2"}\n')
    before = recipe.read_text(), data.read_text()

    ran = shell("run", str(recipe), "-o", f"./{recipe.name}")
    judged = shell("eval", "sums.jsonl", "-o", str(data))

    assert (ran.code, judged.code, server.requests) == (2, 2, [])
    assert f"-o ./{recipe.name} would replace {recipe}" in ran.err
    assert "would replace sums.jsonl" in judged.err
    assert before == (recipe.read_text(), data.read_text())
