"""How many agents a job gets: from one small call to one agent per item, through the real command."""

import json
from typing import Any

import pytest

from tests.contract.conftest import Done, Shell
from tests.fakes.openai_server import Server

PLANNER = "You plan work"
LONG = (
    "A train leaves at nine with forty passengers, takes on twelve at the first stop, loses seven at the second and "
    "doubles at the third; how many passengers arrive in the evening?"
)
SPLIT = ("swarm", f"a job of {len(LONG.split())} words: the planner decides how far to split")
LIST = "Describe each of these:\n- iron\n- copper\n- tin\n- zinc\n- lead"


def events(done: Done) -> list[dict[str, Any]]:
    """What `--format stream-json` told."""
    return done.lines


def modes(done: Done) -> list[tuple[str, str]]:
    """Mode and reason of each `mode.chosen`."""
    return [(e["mode"], e["reason"]) for e in events(done) if e["type"] == "mode.chosen"]


def planner_says(server: Server, plan: str) -> None:
    server.routes[:] = [(PLANNER, plan)]
    server.reply = "42"


@pytest.mark.parametrize(
    ("task", "plan", "calls", "reasons"),
    [
        ("What is the capital of France?", None, 1, [("instant", "a short question (6 words, nothing to split)")]),
        (LONG, '{"tasks": [{"id": "t1", "prompt": "Count the passengers."}]}', 2,
         [SPLIT, ("swarm", "the planner sees one task")]),
        (LONG, '{"mode": "instant"}', 2,
         [SPLIT, ("instant", "the planner declined to split")]),
        (LONG, '{"mode": "thinking", "tasks": []}', 2,
         [SPLIT, ("thinking", "the planner declined to split")]),
        ("Which of all planets is largest?", '{"mode": "agent"}', 2,
         [("swarm", "the job says 'all': the planner decides how far to split"),
          ("agent", "the planner declined to split")]),
    ],
    ids=["short", "one task", "declined", "one hard question", "a false alarm"],
)  # fmt: skip
def test_a_simple_question_costs_at_most_two_calls(
    shell: Shell, server: Server, task: str, plan: str | None, calls: int, reasons
):
    """`auto`: cheap signals first, then the planner's own answer; the reason is told each time."""
    planner_says(server, plan or "never asked")

    done = shell("solve", task, "--format", "stream-json")

    assert (done.code, len(server.requests), modes(done)) == (0, calls, reasons)
    assert events(done)[-1]["result"] == "42"


@pytest.mark.parametrize(
    ("mode", "model", "effort"),
    [("instant", "s", None), ("thinking", "l", "medium"), ("agent", "l", None)],
)
def test_each_single_mode_asks_its_model(shell: Shell, server: Server, mode, model, effort):
    """instant: the small model; thinking: the large one with reasoning effort; agent: the large one."""
    server.reply = "Done."

    done = shell(
        "solve", LIST, "--mode", mode, "-m", "small=openai/s", "-m", "large=openai/l", "--json"
    )

    (seen,) = server.requests
    assert (done.json["mode"], seen.model, seen.body.get("reasoning_effort")) == (
        mode, model, effort)  # fmt: skip


def test_a_planner_that_asks_for_thinking_gets_it(shell: Shell, server: Server):
    """`{"mode": "thinking"}` is one call to the large model with reasoning effort."""
    planner_says(server, '{"mode": "thinking"}')

    done = shell("solve", LONG, "-m", "small=openai/s", "-m", "large=openai/l", "--json")

    seen = server.requests[-1]
    assert (done.json["mode"], seen.model, seen.body.get("reasoning_effort"), seen.prompt) == (
        "thinking", "l", "medium", LONG)  # fmt: skip


def test_a_list_is_counted_before_a_model_is_asked(shell: Shell, server: Server, plan_of):
    """The reason names the items, the planner is told how many there are, and each gets an agent."""
    items = ("iron", "copper", "tin", "zinc", "lead")
    planner_says(server, plan_of(**{f"t{i}": f"Describe {m}." for i, m in enumerate(items)}))

    done = shell("solve", LIST, "--format", "stream-json")

    assert modes(done)[0][1] == "a list of 5 items: the planner decides how far to split"
    assert "The JOB lists 5 items." in server.asked(PLANNER)[0].prompt
    assert events(done)[-1]["totals"]["agents"]["total"] == 5


def test_more_items_than_agents_are_grouped(shell: Shell, server: Server, plan_of):
    """`--max-agents 2` and five items: the planner is told to group, and cannot do otherwise."""
    planner_says(server, plan_of(t1="iron, copper, tin", t2="zinc, lead"))

    done = shell("solve", LIST, "--max-agents", "2")

    asked = server.asked(PLANNER)[0]
    assert done.code == 0
    assert "lists 5 items and only 2 tasks are allowed" in asked.prompt
    assert "Never more than 2." in asked.text


def test_piped_text_is_for_the_planner_to_judge(shell: Shell, server: Server, plan_of):
    """Material may be large; the reason says so."""
    planner_says(server, plan_of(t1="Summarise it."))

    done = shell("solve", "Summarise this", "--format", "stream-json", stdin="x " * 5000)

    assert modes(done) == [
        ("swarm", "files or piped text came along: the planner decides how far to split"),
        ("swarm", "the planner sees one task"),
    ]
    assert len(server.requests) == 2


def test_the_reason_stands_in_the_header(shell: Shell, server: Server, plan_of):
    """Also where nobody reads events."""
    planner_says(server, plan_of(t1="Only this."))

    done = shell("solve", LIST, "--progress", "plain")

    assert "a list of 5 items" in done.err
    assert "the planner sees one task" in done.err


def test_a_chain_and_a_repetition_are_told(shell: Shell, server: Server, plan_of):
    """Serial collapse and spurious parallelism stop nothing, but nobody should wonder."""
    chain = plan_of(
        t1="Find a.", t2=("Find b.", ["t1"]), t3=("Find c.", ["t2"]), t4=("Find d.", ["t3"])
    )
    planner_says(server, chain)
    assert "the plan is a chain: 4 of its 4 tasks" in shell("solve", LIST).err

    planner_says(
        server, plan_of(t1="List the uses of tin.", t2="Please list uses of TIN!", t3="Zinc.")
    )
    done = shell("solve", LIST, "--cache", "off")
    assert (done.code, "ask for the same: t1 and t2" in done.err) == (0, True)
    assert "ask for the same: t1 and t2" in shell("plan", "--task", LIST, "--cache", "off").err


def test_a_resumed_run_keeps_the_mode_that_the_planner_chose(shell: Shell, server: Server):
    """The answer failed; `swarm resume` asks the large model again, and does not plan again."""
    planner_says(server, '{"mode": "thinking"}')
    server.reply = ""
    first = shell("solve", LONG, "-m", "small=openai/s", "-m", "large=openai/l")
    server.reply = "42"
    planned = len(server.asked(PLANNER))

    done = shell("resume", "--json")

    assert (first.code, done.code, done.json["mode"]) == (1, 0, "thinking")
    assert (len(server.asked(PLANNER)), server.requests[-1].model) == (planned, "l")
    assert json.loads(done.out)["result"] == "42"
