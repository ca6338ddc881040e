"""Stragglers, as a user meets them: one slow answer no longer holds the run up, and `hedge: off` is off."""

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Reply, Seen, Server

FORTY = """
tasks:
  - {id: scan, prompt: "Look at part {{ item }}.", for_each: {items: "{{ range(40) | list }}", as: item}}
merge: {strategy: json}
"""
SLOW_S = 60.0
"""Longer than any test waits: who sees its answer has waited for it."""


def first_one_hangs(seen: Seen) -> Reply | str:
    """Part 7 is slow when it is asked first, and quick when it is asked again."""
    slow = "part 7." in seen.prompt and seen.nth == 0
    return Reply(latency_s=SLOW_S, text="late") if slow else "ok"


def test_a_straggler_is_asked_again_and_the_run_goes_on(shell: Shell, server: Server):
    """One of 40 would take a minute: 41 requests, all answered, and the report says that it was hedged."""
    server.faults = first_one_hangs

    done = shell("run", shell.recipe(FORTY), "-j", "40", "--format", "stream-json")

    hedged = [e for e in done.lines if e["type"] == "call.hedged"]
    completed = {e["agent"]: e for e in done.lines if e["type"] == "agent.completed"}
    assert done.code == 0
    assert [(e["agent"], e["model"], e["to"]) for e in hedged] == [
        ("scan[7]", "openai/fake", "openai/fake")
    ]
    assert len(server.requests) == 41
    assert [name for name, e in completed.items() if e["hedged"]] == ["scan[7]"]
    assert completed["scan[7]"]["attempts"] == 2
    assert completed["scan[7]"]["output"].startswith("echo: ")
    assert done.lines[-1]["totals"]["agents"]["hedged"] == 1
    assert server.disconnects == 1


def test_a_fallback_answers_for_a_straggler_and_is_not_taken_for_the_model(
    shell: Shell, server: Server
):
    """The answer says who gave it; the next run has 39 answers in its cache and asks the model for the last."""
    server.faults = lambda seen: first_one_hangs(seen) if seen.model == "fake" else "ok"
    models = "models:\n  small: {model: openai/fake, fallbacks: [openai/second]}\n"
    recipe = shell.recipe(FORTY + models)

    first = shell("run", recipe, "-j", "40", "--format", "stream-json")
    asked = len(server.requests)
    second = shell("run", recipe, "-j", "40", "--format", "stream-json")

    models_of = [
        {e["agent"]: e["model"] for e in run.lines if e["type"] == "agent.completed"}
        for run in (first, second)
    ]
    assert (models_of[0]["scan[7]"], models_of[0]["scan[8]"]) == ("openai/second", "openai/fake")
    assert models_of[1]["scan[7]"] == "openai/fake"
    assert [seen.model for seen in server.requests[asked:]] == ["fake"]


def test_hedge_off_means_one_request_per_agent(shell: Shell, server: Server):
    """The recipe's word counts: the slow one is waited for."""
    server.faults = lambda seen: Reply(latency_s=4.0, text="late") if seen.index == 7 else "ok"

    done = shell("run", shell.recipe(FORTY + "hedge: off"), "-j", "40", "--json")

    assert (done.code, len(server.requests)) == (0, 40)
    assert done.json["agents"]["hedged"] == 0


def test_a_small_run_is_never_hedged(shell: Shell, server: Server):
    """5 % of 19 calls is none."""
    server.faults = lambda seen: Reply(latency_s=4.0, text="late") if seen.index == 7 else "ok"

    done = shell("run", shell.recipe(FORTY.replace("40", "19")), "-j", "19", "--json")

    assert (done.code, len(server.requests), done.json["agents"]["hedged"]) == (0, 19, 0)


def test_even_latencies_are_never_hedged(shell: Shell, server: Server):
    """40 equal calls are 40 requests."""
    server.latency_s = 0.3

    done = shell("run", shell.recipe(FORTY), "-j", "10", "--json")

    assert (done.code, len(server.requests), done.json["agents"]["hedged"]) == (0, 40, 0)
