"""What goes wrong with models, limits and keys, and how it ends."""

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Reply, Server

ONE = 'tasks: [{id: t, prompt: "Say it."}]\nretry: {attempts: 2}'
FAN = """
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: [a, b, c, d, e, f], as: item}}
merge: {strategy: concat}
"""


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        ("400", 1, "bad_request"),
        ("401", 77, "auth"),
        ("403", 77, "auth"),
        ("404", 1, "unknown_model"),
        ("429 quota", 77, "quota"),
        ("context", 1, "context_overflow"),
        ("429", 75, "rate_limit"),
        ("500", 75, "server"),
        ("503", 75, "server"),
        ("reset", 75, "network"),
        ("half", 75, "network"),
        ("html", 1, "protocol"),
        ("bad json", 1, "protocol"),
        ("no choices", 1, "protocol"),
        ("length", 1, "truncated"),
    ],
)
def test_exit_codes_by_cause(shell: Shell, server: Server, fault: str, code: int, kind: str):
    """When everything fails the same way, the exit code says whether to wait, to pay, or to look."""
    server.faults = lambda _seen: fault

    done = shell("run", shell.recipe(ONE), "--json")

    assert (done.code, done.json["failures"][0]["kind"]) == (code, kind)


def test_a_429_is_retried_and_nothing_is_lost(shell: Shell, server: Server):
    """Two 429s in a row cost a retry each, and the agent succeeds."""
    server.faults = ["429", "429"]

    done = shell(
        "run", shell.recipe('tasks: [{id: t, prompt: "Say it."}]'), "--format", "stream-json"
    )

    retries = [e for e in done.lines if e["type"] == "call.retry"]
    assert (done.code, [r["attempt"] for r in retries], {r["kind"] for r in retries}) == (
        0,
        [1, 2],
        {"rate_limit"},
    )


def test_401_stops_the_run_at_first_sight(shell: Shell, server: Server):
    """A refused key is not tried once per agent, and the key is printed nowhere."""
    server.faults = lambda _seen: "401"
    server.latency_s = 0.05

    done = shell("run", shell.recipe(FAN), "-j", "1")

    assert (done.code, done.out, len(server.requests)) == (77, "", 1)
    assert "sk-test-key-of-the-fake" not in done.err
    assert "agents)\nhint: check OPENAI_API_KEY; swarm doctor\n" in done.err
    assert "(1 of 1 agents)" not in done.err


def test_fallback_models_answer_when_the_first_fails(shell: Shell, server: Server):
    """`fallbacks` are asked in order, and the answer says which model gave it."""
    recipe = shell.recipe(
        ONE + "\nmodels:\n  small: {model: openai/first, fallbacks: [openai/second]}\n"
    )
    server.faults = lambda seen: "404" if seen.model == "first" else "ok"

    events = shell("run", recipe, "--format", "stream-json").lines

    completed = next(e for e in events if e["type"] == "agent.completed")
    assert completed["model"] == "openai/second"


def test_min_success_decides_between_0_and_3(shell: Shell, server: Server):
    """One of six fails: 3 by default, 0 when 80 % are enough."""
    server.faults = lambda seen: "400" if "Do c" in seen.prompt else "ok"
    recipe = shell.recipe(FAN)

    assert shell("run", recipe).code == 3
    assert shell("run", recipe, "--min-success", "80%").code == 0


def test_fail_fast_stops_the_rest(shell: Shell, server: Server):
    """--fail-fast: nothing starts after the first failure."""
    server.faults = lambda seen: "400" if "Do a" in seen.prompt else "ok"

    shell("run", shell.recipe(FAN), "--fail-fast", "-j", "1")

    assert len(server.requests) == 1


def test_max_calls_ends_with_4_and_the_best_result(shell: Shell, server: Server):
    """The cap on calls holds, what was finished is written, and the exit code says budget."""
    done = shell("run", shell.recipe(FAN + "limits: {max_calls: 3}"), "-j", "1", "--json")

    assert (done.code, len(server.requests), done.json["status"]) == (4, 3, "budget")
    assert "echo: Do a" in done.json["result"]


def test_a_cost_cap_needs_a_price(shell: Shell, server: Server):
    """--max-cost with a model of unknown price is refused before anything is sent, unless allowed."""
    refused = shell("run", shell.recipe(ONE), "--max-cost", "1")
    allowed = shell("run", shell.recipe(ONE), "--max-cost", "1", "--allow-unpriced")

    assert (refused.code, refused.out) == (2, "")
    assert "--allow-unpriced" in refused.err
    assert (allowed.code, len(server.requests)) == (0, 1)


def test_a_cost_cap_stops_the_run(shell: Shell, server: Server):
    """Spending stops at the cap; exit 4 with what there is."""
    server.reply = lambda _body: Reply(text="x", tokens=(100, 100))
    priced = "\nmodels:\n  small: {model: openai/fake, max_output_tokens: 100, price: {input_per_mtok: 1000, output_per_mtok: 1000}}\n"  # noqa: E501

    done = shell("run", shell.recipe(FAN + priced), "--max-cost", "0.5", "-j", "1", "--json")

    assert done.code == 4
    assert 0.0 < done.json["cost_usd"] <= 0.5
    assert len(server.requests) < 6


def test_timeout_writes_what_is_done(shell: Shell, server: Server):
    """--timeout: exit 124 with the finished agents' outputs."""
    server.faults = lambda seen: "hang" if "Do b" in seen.prompt else "ok"

    done = shell("run", shell.recipe(FAN), "-j", "1", "--timeout", "3s")

    assert done.code == 124
    assert "echo: Do a" in done.out


def test_timeout_with_nothing_done_is_empty(shell: Shell, server: Server):
    """--timeout before any agent ended: exit 124 and an empty stdout."""
    server.faults = lambda _seen: "hang"

    done = shell("run", shell.recipe(ONE), "--timeout", "2s")

    assert (done.code, done.out) == (124, "")


def test_task_timeout_ends_one_agent(shell: Shell, server: Server):
    """--task-timeout: a hanging agent fails as a timeout while the others succeed."""
    server.faults = lambda seen: "hang" if "Do b" in seen.prompt else "ok"

    done = shell("run", shell.recipe(FAN), "--task-timeout", "1s", "--json")

    assert done.code == 3
    assert [(f["agent"], f["kind"]) for f in done.json["failures"]] == [("t[1]", "timeout")]


def test_no_model_says_what_would_help(
    shell: Shell, server: Server, monkeypatch: pytest.MonkeyPatch
):
    """Without key, Ollama and weights: exit 77, nothing sent, and the commands that help."""
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "SWARM_MODEL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")

    done = shell("solve", "What is the capital of France?")

    assert (done.code, done.out, server.requests) == (77, "", [])
    for help_text in (
        "OPENAI_API_KEY",
        "ollama",
        "swarmcli[embedded]",
        "swarm models pull smollm2",
    ):
        assert help_text.casefold() in done.err.casefold()


def test_a_missing_key_is_found_before_any_request(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    """A model whose provider's key is not set: exit 77 naming the variable."""
    done = shell("run", shell.recipe(ONE), "-m", "anthropic/claude-haiku-4-5")

    assert done.code == 77
    assert "ANTHROPIC_API_KEY" in done.err


def test_caps_hold_over_all_sessions_of_a_run(shell: Shell, server: Server):
    """`resume` counts what was spent before: with the same cap it stops at once, with a higher one it goes on."""
    recipe = shell.recipe(FAN + "limits: {max_calls: 3}")
    shell("run", recipe, "-j", "1", "--cache", "off")

    again = shell("resume", "last", "--json")

    assert (again.code, len(server.requests), again.json["usage"]["calls"]) == (4, 3, 3)


def test_an_empty_typed_reply_is_a_failure(shell: Shell, server: Server):
    """JSON around nothing is still nothing."""
    server.reply = '{"status": "insufficient", "answer": null}'

    done = shell("run", shell.recipe(ONE), "--json")

    assert (done.code, done.json["failures"][0]["kind"]) == (1, "empty")


def test_a_fan_out_over_nothing_is_an_empty_result(shell: Shell, server: Server):
    """An empty list is no failure: an empty JSON list, exit 0, no call."""
    recipe = 'tasks: [{id: t, prompt: "Do {{ item }}", for_each: {items: [], as: item}}]\nmerge: {strategy: json}'

    done = shell("run", shell.recipe(recipe))

    assert (done.code, done.out, server.requests) == (0, "[]\n", [])


def test_declared_parallelism_lifts_the_local_default(shell: Shell, server: Server):
    """A loopback model gets four agents at once, and as many as `rate` declares where it does."""
    server.together = 4
    shell("run", shell.recipe(FAN), "--cache", "off")
    by_default = server.peak
    server.together = 6
    shell("run", shell.recipe(FAN + 'rate: {"openai/*": {parallel: 6}}'), "--cache", "off")

    assert (by_default, server.peak) == (4, 6)
