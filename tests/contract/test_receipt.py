"""What a run says of itself at its end: who was asked, what it took, what was decided, and what was of no use."""

import json
from pathlib import Path

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Reply, Seen, Server

MODELS = """
models:
  small: {model: openai/small, price: {input_per_mtok: 1, output_per_mtok: 4}}
  other: {model: openai/other, price: {input_per_mtok: 1, output_per_mtok: 4}}
  large: {model: openai/large, price: {input_per_mtok: 10, output_per_mtok: 40}}
"""
VOTE = (
    MODELS
    + """
tasks:
  - id: sum
    for_each: {items: [one, two, three], as: item}
    prompt: "Add up {{ item }}."
    vote: {models: [small, other], canonical: number, escalate: large}
merge: {strategy: json}
"""
)


def typed(answer: object, *claims: dict[str, object]) -> Reply:
    """A worker's reply."""
    return Reply(text=json.dumps({"status": "ok", "answer": answer, "claims": list(claims)}))


def disagree_on_two(seen: Seen) -> Reply | str:
    """The small models answer 7, but one of them 8 where it is asked for two; large says 8."""
    if seen.model == "large":
        return typed(8)
    return typed(8 if seen.model == "other" and "up two" in seen.prompt else 7)


def test_votes_are_told_in_lines_receipt_and_show(shell: Shell, server: Server):
    """Three agents, one escalated: the same figures in the plain lines, in JSON, and in `swarm show` later."""
    server.faults = disagree_on_two

    done = shell("run", shell.recipe(VOTE), "--json", "--progress", "plain")
    shown = shell("show", "last")

    receipt = done.json["receipt"]
    assert done.code == 0
    assert {role: of["calls"] for role, of in receipt["roles"].items()} == {
        "small": 3,
        "large": 1,
        "other": 3,
    }
    assert (
        round(sum(of["cost_usd"] for of in receipt["roles"].values()), 6) == done.json["cost_usd"]
    )
    assert receipt["critical_steps"] == 2  # two votes side by side, then the large model
    assert 'vote 2/2 for "7"' in done.err
    assert "escalated" in done.err
    assert "votes: 2 agreed, 1 escalated" in done.err.splitlines()[-1]
    assert "votes: 2 agreed, 1 escalated" in shown.out
    assert "roles   small 3 calls" in shown.out
    assert [line for line in shown.out.splitlines() if "sum[1]" in line and "escalated" in line]


def test_work_that_nobody_used_is_named(shell: Shell, server: Server):
    """The writer cites one of two agents: the other one's tokens and money are the price of nothing."""
    server.faults = lambda seen: (
        Reply(text="It is blue [a].") if "RESULTS" in seen.prompt else typed("blue")
    )
    recipe = shell.recipe(
        MODELS + 'tasks: [{id: a, prompt: "A?"}, {id: b, prompt: "B?"}]\nmerge: {strategy: write}'
    )

    done = shell("run", recipe, "--json")

    unused = done.json["receipt"]["unused"]
    assert unused["agents"] == ["b"]
    assert unused["tokens"] > 0
    assert "1 agent unused (b) $" in shell("show", "last").out


def test_a_second_run_asks_nobody_and_says_so(shell: Shell, server: Server):
    """All answers come from the cache: no role was asked, nothing is critical."""
    server.faults = disagree_on_two
    recipe = shell.recipe(VOTE)
    shell("run", recipe)

    receipt = shell("run", recipe, "--json").json["receipt"]

    assert (receipt["roles"], receipt["cached"], receipt["critical_steps"]) == ({}, 7, 0)
    assert "7 calls from the cache" in shell("show", "last").out


def test_a_resumed_run_adds_up_all_its_sessions(shell: Shell, server: Server):
    """What the first session paid by role stands in the receipt of the second."""
    broken = True

    def first_two_work(seen: Seen) -> Reply | str:
        return Reply(fault="400") if broken and "up three" in seen.prompt else disagree_on_two(seen)

    server.faults = first_two_work
    shell("run", shell.recipe(VOTE))
    broken = False

    done = shell("resume", "last", "--json")

    calls = {role: of["calls"] for role, of in done.json["receipt"]["roles"].items()}
    assert done.code == 0
    assert calls == {"small": 4, "large": 2, "other": 4}, "for two, and in vain for three"
    assert sum(calls.values()) == done.json["usage"]["calls"] == len(server.requests)
    shown = {a["agent"]: a for a in json.loads(shell("show", "last", "--json").out)["agents"]}
    assert ("done", "7") == (shown["sum[2]"]["state"], shown["sum[2]"]["output"])
    assert "error" not in shown["sum[2]"]  # of the first session
    assert "escalated" in shown["sum[1]"]["vote"]


def test_the_shipped_vote_recipe_asks_two_models_and_escalates(shell: Shell, server: Server):
    """`swarm run vote` with three models: the large one is asked about one question of three."""
    server.faults = disagree_on_two
    questions = json.dumps(["Add up one.", "Add up two.", "Add up three."])
    models = [
        arg
        for m in ("small=openai/small", "judge=openai/other", "large=openai/large")
        for arg in ("-m", m)
    ]

    done = shell("run", "vote", "-p", f"questions:={questions}", *models, "--json")

    assert done.code == 0
    assert (done.json["votes"]["agreed"], done.json["votes"]["escalated"]) == (2, 1)


def test_the_shipped_facts_recipe_finds_and_settles_a_contradiction(
    shell: Shell, server: Server, tmp_path: Path
):
    """Two files state different dates; the question who is right goes to another model, and one value remains."""
    (shell.folder / "a.md").write_text("launch: May")
    (shell.folder / "b.txt").write_text("launch: June")

    def answers(seen: Seen) -> Reply | str:
        if "first_error" in seen.prompt:
            return Reply(text='{"first_error": "none", "verdict": "accept"}')
        if "RESULTS" in seen.prompt:
            return Reply(text="The launch is in May [read[0]].")
        if "disputed" in seen.prompt:
            return Reply(text='{"answer": "May"}')
        month = "May" if "launch: May" in seen.prompt else "June"
        return typed(month, {"key": "launch", "value": month, "source": "the file"})

    server.faults = answers

    models = ("-m", "small=openai/small", "-m", "judge=openai/judge", "-m", "large=openai/large")
    done = shell("run", "facts", "-p", "what=launches", *models, "--json", "--progress", "plain")

    (conflict,) = done.json["conflicts"]
    assert (conflict["key"], conflict["status"], conflict["resolution"]) == (
        "launch",
        "resolved",
        "May",
    )
    assert 'conflict    launch  "May" (read[0]) or "June" (read[1])' in done.err
    assert "critic: 2 accepted; 1 conflict (all resolved)" in done.err.splitlines()[-1]
    assert done.json["receipt"]["roles"]["judge"]["calls"] == 3
    assert done.code == 0


def test_a_run_without_an_end_shows_what_its_calls_took(shell: Shell, server: Server):
    """A killed run has no totals; its journal still knows who was asked, and how the votes went."""
    server.faults = disagree_on_two
    run = shell("run", shell.recipe(VOTE), "--json").json
    folder = Path(json.loads(shell("show", run["run"], "--json").out)["folder"])
    journal = folder / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))

    shown = shell("show", run["run"]).out
    facts = shell("show", run["run"], "--json").json

    assert (facts["totals"], facts["receipt"]["roles"]) == (None, run["receipt"]["roles"])
    assert facts["resume"] == f"swarm resume {run['run']}"
    assert [agent["vote"] for agent in facts["agents"]][1].endswith(", escalated")
    assert "checks  votes: 2 agreed, 1 escalated" in shown
    assert "roles   small 3 calls" in shown
