"""Votes, critics, conflicts and revised plans, in the words of a display."""

from typing import Any

import pytest

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    ConflictFound,
    Failure,
    PlanRevised,
    VoteTallied,
)
from swarmcli.ui.checks import Checks, conflict_words, critic_words, revision_words, vote_words
from swarmcli.ui.receipt import ReceiptWords
from swarmcli.ui.view import RunView
from tests.ui import runs
from tests.ui.runs import judged, vote


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (vote("a", True, {"42": 3}, asked=5), 'vote 3/5 for "42"'),
        (vote("a", False, {"42": 2, "41": 1}, asked=4), 'vote 2/4: "42" 2, "41" 1, escalated'),
        (vote("a", False, {"1": 1, "2": 1}, escalated=False), 'vote 1/2: "1" 1, "2" 1'),
        (vote("a", False, {}, asked=2), "vote 0/2: no answer, escalated"),
        (vote("a", False, {}), "no vote, escalated"),
        (vote("a", True, {"x\x1b[2J\ny" * 20: 2}), 'vote 2/2 for "x yx yx yx yx yx yx yx …"'),
        (vote("a", False, {str(n): 1 for n in range(6)}), 'vote 1/6: "0" 1, "1" 1, "2" 1, "3" 1, ..., escalated'),
    ],
)  # fmt: skip
def test_a_vote_in_words(event: VoteTallied, words: str) -> None:
    """Who leads by how much of what was asked for; the value is data, quoted and cut."""
    assert vote_words(event) == words


def test_a_verdict_in_words() -> None:
    """Of an accepted answer nothing more is said."""
    assert critic_words(judged("a", "accept", "none")) == "critic: accept"
    assert critic_words(judged("a", "reject", "no\nunit")) == "critic: reject, no unit"
    assert critic_words(judged("a", "unsure")) == "critic: unsure"


def test_a_conflict_in_words() -> None:
    """Each value with who states it; older logs hold bare values."""
    names = [f"scan[{n}]" for n in range(5)]
    stated = [{"value": "12", "agents": names}, {"value": 14, "agents": ["b"]}, {"value": None}]
    told = conflict_words(stated)

    assert told == '"12" (scan[0], scan[1], scan[2] and 2 more) or "14" (b) or "None"'
    assert conflict_words([1, 2]) == '"1" or "2"'
    assert conflict_words("odd") == "odd"


def test_a_revision_in_words() -> None:
    """How many tasks came and went."""
    assert revision_words(PlanRevised(added=("a", "b"), removed=("c",))) == "2 added, 1 removed"
    assert revision_words(PlanRevised()) == "nothing changed"


def test_what_was_doubted_is_summed_up_by_its_last_word() -> None:
    """An answer that was rejected and then accepted is accepted; a conflict is one however often it is told."""
    checks = Checks()
    conflict = ConflictFound(key=" Price ", values=[])
    for event in (
        vote("a", True, {"1": 2}),
        vote("b", False, {"1": 1, "2": 1}),
        vote("c", False, {"1": 1, "2": 1}, escalated=False),
        judged("a", "reject"),
        judged("a", "accept"),
        judged("b", "reject"),
        conflict,
        ConflictFound(key="price", values=[]),
        PlanRevised(added=("d",)),
        PlanRevised(added=("e",)),
    ):
        checks.feed(event)

    assert checks.summary() == (
        "votes: 1 agreed, 1 divided, 1 escalated; critic: 1 accepted, 1 rejected; 1 conflict; re-planned 2x"
    )
    assert (checks.escalated, checks.rejected) == (1, 1)
    assert Checks().summary() == ""


def test_the_sums_are_of_the_agents_that_have_an_answer() -> None:
    """As in `--json`: who is asked again counts once, a reused answer counts, a failed or dropped agent does not."""
    view = RunView()
    tape = runs.asked_again(3)
    for name in ("broken", "dropped", "cut"):
        tape.started(name).add(vote(name, False, {"1": 1, "2": 1}), judged(name, "reject"))
    tape.add(
        AgentFailed(agent="broken", error=Failure(kind="server", message="it broke")),
        AgentSkipped(agent="dropped", because="the plan was revised"),
        AgentCancelled(agent="cut", because="interrupted"),
        AgentCompleted(agent="kept", output="", reused=True, vote={"agreed": True}, verdict="reject"),
    )  # fmt: skip
    for stamped in tape.stamped:
        view.feed(stamped)

    assert view.checks.summary() == "votes: 1 agreed, 3 escalated; critic: 1 rejected"
    assert (view.checks.escalated, view.checks.rejected) == (3, 1)


TOTALS: dict[str, Any] = {
    "speedup": 2.5,
    "critical_path": {"seconds": 61.0, "agents": ["planner", "a", "writer"]},
    "votes": {
        "tasks": 40, "agreed": 37, "escalated": 3, "divided": 2, "audited": 4, "routing_stopped": True,
        "cost": {"k": 2.0, "r": 0.1, "e": 0.08, "of_large": 0.28},
    },
    "conflicts": [{"key": "x", "status": "resolved"}, {"key": "y", "status": "unresolved"}],
    "receipt": {
        "wall_s": 50.0, "agent_s": 125.0, "serial_s": 127.25, "critical_steps": 5,
        "roles": {
            "planner": {"calls": 1, "tokens": 900, "cost_usd": 0.002},
            "small": {"calls": 80, "tokens": 0, "cost_usd": 0},
            "writer": {"calls": 1, "tokens": 2000, "cost_usd": None},
        },
        "unused": {"agents": ["a", "b", "c", "d", "e"], "tokens": 10, "cost_usd": 0.25},
        "lost": {"calls": 2, "tokens": 10, "cost_usd": 0.01},
        "hedged": 4, "folded": 1, "cached": 12,
    },
}  # fmt: skip


def test_a_receipt_in_words() -> None:
    """Times, the path, the votes with what they saved, who paid, and what was of no use."""
    words = ReceiptWords(TOTALS)

    assert [words.time(), words.path(), words.checks(Checks()), words.identity(), words.roles(), words.waste()] == [
        "2.5x: 2m05s of agent time in 50.0s; 2m07s one after the other; 5 critical steps",
        "planner > a > writer (1m01s)",
        "votes: 35 agreed, 2 divided, 3 escalated, 4 audited, routing stopped (0.28 of the large model's cost); "
        "2 conflicts (1 unresolved)",
        "k 2 small calls x r 0.1 + e 0.08 large calls = 0.28 of asking the large model alone",
        "planner 1 call 900 tok $0.002, small 80 calls, writer 1 call 2.0k tok $?",
        "5 agents unused (a, b, c, d, ...) $0.250; 2 calls lost ~$0.010; 4 hedged; 1 duplicate task; "
        "12 calls from the cache",
    ]  # fmt: skip
    assert "$" not in ReceiptWords(TOTALS, free=True).roles()


@pytest.mark.parametrize(
    "totals",
    [
        {},
        {"receipt": None, "votes": [], "conflicts": {}, "critical_path": 3, "speedup": "x"},
        {"receipt": {"roles": {"a": 1, "b": None}, "unused": {"agents": 3}, "lost": {"calls": "x"}}},
        {"receipt": {"critical_steps": float("nan"), "cached": float("inf")}, "speedup": float("nan")},
        {"receipt": {"roles": {}, "unused": {"agents": []}, "lost": {}}, "critical_path": {"agents": []}},
    ],
)  # fmt: skip
def test_older_and_odd_totals_have_less_to_say(totals: dict[str, Any]) -> None:
    """A run of an older version has no receipt; nothing breaks, and nothing is made up."""
    words = ReceiptWords(totals)

    assert [
        words.time(),
        words.path(),
        words.checks(Checks()),
        words.identity(),
        words.waste(),
    ] == [""] * 5
    assert "$0" not in words.roles()
