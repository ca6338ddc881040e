"""What a resumed run knows of the sessions before it."""

from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    Failure,
    PlanReady,
    RunCompleted,
    RunInterrupted,
    RunStarted,
)
from swarmcli.core.replay import replay

STARTED = RunStarted(recipe="r", models={})
ONE = AgentCompleted(agent="a", output="one", key="k1")
PLAN = {"version": 1, "tasks": []}


def test_a_killed_session_leaves_its_finished_agents_and_its_plan():
    """kill -9: what was durable is not paid twice."""
    failure = AgentFailed(agent="b", error=Failure(kind="server", message="x"))
    history = replay([STARTED, PlanReady(tasks=2, plan=PLAN), ONE, failure])

    assert ({"a": ONE}, PLAN, None) == (history.finished, history.plan, history.end)
    assert not history.is_whole


def test_a_later_session_overrules_an_earlier_one():
    """The same agent, asked again with another key, and an end that is no end any more."""
    again = AgentCompleted(agent="a", output="two", key="k2")
    end = RunInterrupted(status="interrupted", exit_code=130)

    history = replay([STARTED, ONE, end, STARTED, again])
    assert ({"a": again}, None) == (history.finished, history.end)


def test_only_a_run_that_ended_well_is_whole():
    """A partial run goes on when it is resumed; a finished one prints its result again."""
    assert replay([STARTED, RunCompleted(status="ok", exit_code=0)]).is_whole
    assert not replay([STARTED, RunCompleted(status="partial", exit_code=3)]).is_whole


def test_a_fixed_graph_leaves_no_plan():
    """`plan.ready` of fixed tasks only counts them; the recipe says what they are."""
    assert replay([STARTED, PlanReady(tasks=3)]).plan is None
