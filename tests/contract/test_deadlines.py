"""`--timeout` as a user meets it: the best answer in time, 124, and nothing asked that could not be answered."""

import pytest

from tests.contract.conftest import Planner, Shell
from tests.fakes.openai_server import Seen, Server

PLANNER = "You plan work"
WRITER = "You write the final deliverable"
MANY = """
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: "{{ range(60) | list }}", as: item}}
merge: {strategy: concat}
rate: {"openai/*": {parallel: 2}}
"""


@pytest.fixture(autouse=True)
def _warm(shell: Shell) -> None:
    """LiteLLM is loaded before a deadline is set: on a busy machine that alone may take longer."""
    assert shell("map", "Warm up {}", stdin="once\n").code == 0


def hang_at(words: str, server: Server) -> None:
    """Never answer the requests that hold these words."""
    server.faults = lambda seen: "hang" if _holds(seen, words) else "ok"


def _holds(seen: Seen, words: str) -> bool:
    return words in seen.text


def test_near_the_deadline_nothing_is_asked_that_could_not_be_answered(
    shell: Shell, server: Server
) -> None:
    """60 agents stand in line for 2 slots: those who had no turn are told that there was no time for one more."""
    server.latency_s = 0.5
    before = len(server.requests)

    done = shell("run", shell.recipe(MANY), "--timeout", "6s", "--format", "stream-json")

    ends = [e["because"] for e in done.lines if e["type"] in {"agent.cancelled", "agent.skipped"}]
    answered = [e for e in done.lines if e["type"] == "agent.completed"]
    assert done.code == 124
    assert len(answered) >= 3
    assert len(server.requests) - before <= len(answered) + 2
    assert sum("s are left for agents, and one takes" in because for because in ends) >= 10


def test_a_planner_that_never_ends_is_cut_off(shell: Shell, server: Server) -> None:
    """Nothing is known, so there is no answer: 124, an empty stdout, and how to go on."""
    hang_at(PLANNER, server)

    done = shell("solve", "Compare two things", "--mode", "swarm", "--timeout", "2s")

    assert (done.code, done.out) == (124, "")
    assert "stopped by the timeout" in done.err
    assert "swarm resume" in done.err.splitlines()[-1]


def test_a_writer_that_never_ends_is_left_out(
    shell: Shell, server: Server, plan_of: Planner
) -> None:
    """The agents' answers are put together without it."""
    server.routes[:] = [(PLANNER, plan_of(a="Say one.", b="Say two.")), (WRITER, "DELIVERED")]
    hang_at(WRITER, server)

    done = shell("solve", "Say both", "--mode", "swarm", "--timeout", "6s")

    assert done.code == 124
    assert "DELIVERED" not in done.out
    assert "## a: Say one." in done.out
    assert "## b: Say two." in done.out
    assert "without the writer model" in done.err


def test_an_agent_that_never_ends_leaves_the_writer_its_share_of_the_time(
    shell: Shell, server: Server, plan_of: Planner
) -> None:
    """The agents are cut off when only its share (here a half) is left; the writer is told who has no result."""
    server.routes[:] = [(PLANNER, plan_of(a="Say one.", b="Say two.")), (WRITER, "DELIVERED")]
    server.faults = lambda seen: (
        "hang" if _holds(seen, "Say two.") and not _is_about_all(seen) else "ok"
    )

    body = "task: Say both\nmode: swarm\nlimits: {timeout: 6s, reserve: 50%}"
    done = shell("run", shell.recipe(body))

    assert (done.code, done.out) == (124, "DELIVERED\n")
    assert "b: uncalled" in server.asked(WRITER)[0].prompt


def _is_about_all(seen: Seen) -> bool:
    return _holds(seen, PLANNER) or _holds(seen, WRITER)
