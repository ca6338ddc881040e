"""What a resumed run knows of the sessions before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    CallCompleted,
    CallFailed,
    CallStarted,
    Failure,
    PlanReady,
    RunCompleted,
    RunInterrupted,
    RunStarted,
    ToolCompleted,
    ToolStarted,
    TurnCompleted,
    Usage,
)
from swarmcli.core.replay import replay
from swarmcli.core.spend import Amount, Spent

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


TURN = TurnCompleted(agent="a", key="q1", output="{}")


def test_turns_are_kept_by_agent_and_question():
    """A later answer to the same question overrules; an agent's other failures keep what it had heard."""
    later = TurnCompleted(agent="a", key="q1", output="[]")
    other = TurnCompleted(agent="a", key="q2", output="{}")
    network = AgentFailed(agent="a", error=Failure(kind="network", message="x"))

    history = replay([STARTED, TURN, other, network, STARTED, later])
    assert {"a": {"q1": later, "q2": other}} == history.turns


def test_a_conversation_that_led_nowhere_begins_anew():
    """Two answers that did not fit the schema: a resumed run asks afresh, not with the same bad start."""
    misfit = AgentFailed(agent="a", error=Failure(kind="schema", message="x"))

    assert {} == replay([STARTED, TURN, misfit]).turns


def begun(call, tool="mail/send", agent="a", **more):
    return ToolStarted(agent=agent, tool=tool, call=call, **more)


def ended(call, tool="mail/send"):
    return ToolCompleted(agent="a", tool=tool, call=call)


def test_a_tool_call_without_an_end_makes_its_agent_uncertain():
    """Killed while it ran, or the agent was cancelled: nobody knows whether the mail was sent."""
    failure = AgentFailed(agent="a", error=Failure(kind="timeout", message="x"))
    history = replay([STARTED, begun("r/a/1"), ended("r/a/1"), begun("r/a/2"), failure])

    assert {"a": ("mail/send",)} == history.uncertain


def test_read_only_and_completed_tool_calls_are_certain():
    """Also one that had ended with an error, and one that is called again under its key and ends."""
    first = [STARTED, begun("1", read_only=True), begun("2"), ended("2"), begun("3")]

    assert {} == replay([*first, STARTED, begun("3"), ended("3")]).uncertain


def test_an_agent_that_finished_is_certain():
    """Its result is durable; what its tools did is part of it. Until then no number of sessions clears it."""
    unsure = AgentFailed(agent="a", error=Failure(kind="uncertain", message="x"))

    assert {"a": ("mail/send",)} == replay([STARTED, begun("1"), STARTED, unsure]).uncertain
    assert {} == replay([STARTED, begun("1"), STARTED, ONE]).uncertain


def started(agent="a", tokens=100, usd=0.5, **more):
    return CallStarted(
        model="m", purpose="agent", agent=agent, estimated_tokens=tokens, estimated_usd=usd, **more
    )


def answered(agent="a", cost_usd=0.2, **more):
    usage = Usage(input_tokens=30, output_tokens=10, cached_tokens=5)
    return CallCompleted(
        **{"model": "m", "purpose": "agent", "seconds": 1.0, "tokens": usage, **more},
        agent=agent,
        cost_usd=cost_usd,
    )


def failed(agent="a", kind="timeout", **booked):
    return CallFailed(model="m", purpose="agent", kind=kind, agent=agent, **booked)


class TestSpent:
    """What all sessions of a run have taken, call by call."""

    def test_answers_count_as_they_cost(self):
        """Beside what had been set aside for them."""
        spent = replay([STARTED, started(), answered()]).spent

        assert spent == Spent(
            calls=1,
            tokens=40,
            cost_usd=0.2,
            usage=Usage(input_tokens=30, output_tokens=10, cached_tokens=5),
            estimate=Amount(tokens=100, cost_usd=0.5),
        )

    def test_cached_answers_are_no_calls(self):
        """Nothing was sent, so nothing was started."""
        assert replay([STARTED, answered(cached=True, cost_usd=0.0)]).spent == Spent()

    def test_a_failed_call_counts_as_it_was_booked(self):
        """Nobody has said what it costs: the caps count the guess, and the cost is unknown."""
        spent = replay([STARTED, started(), failed(booked_tokens=100, booked_usd=0.5)]).spent

        assert (spent.calls, spent.tokens, spent.cost_usd, spent.cost_known) == (1, 100, 0.5, False)
        assert spent.usage == Usage()

    def test_a_useless_answer_that_was_counted_is_known(self):
        """The provider has said what it took, although there is no answer."""
        usage = Usage(input_tokens=30, output_tokens=7)
        event = failed(kind="truncated", booked_tokens=37, booked_usd=0.3, tokens=usage)
        spent = replay([STARTED, started(), event]).spent

        assert (spent.usage, spent.cost_usd, spent.cost_known) == (usage, 0.3, True)

    def test_a_call_that_was_turned_away_costs_nothing(self):
        """It is a call all the same, and its estimate stands beside nothing."""
        events = [STARTED, started(), failed(kind="rate_limit"), started(), answered()]
        spent = replay(events).spent

        assert (spent.calls, spent.cost_usd, spent.cost_known) == (2, 0.2, True)
        assert spent.estimate == Amount(tokens=100, cost_usd=0.5)

    def test_a_call_whose_session_was_killed_counts_with_its_estimate(self):
        """It was sent, so it may be charged; a later session of the same agent is another call."""
        spent = replay([STARTED, started(), STARTED, started(usd=0.75), answered()]).spent

        assert (spent.calls, spent.tokens) == (2, 140)
        assert spent.cost_usd == pytest.approx(0.7)
        assert not spent.cost_known
        assert spent.estimate == Amount(tokens=200, cost_usd=1.25)

    def test_calls_of_one_agent_at_the_same_time_are_kept_apart(self):
        """A duplicate to another model that was cut off is not taken for the answer."""
        other = CallFailed(
            model="n",
            purpose="agent",
            kind="cancelled",
            agent="a",
            booked_tokens=50,
            booked_usd=0.1,
        )
        duplicate = CallStarted(
            model="n", purpose="agent", agent="a", estimated_tokens=50, estimated_usd=0.1
        )
        spent = replay([STARTED, started(), duplicate, answered(), other]).spent

        assert (spent.calls, spent.tokens) == (2, 90)
        assert spent.cost_usd == pytest.approx(0.3)
        assert spent.estimate == Amount(tokens=150, cost_usd=0.6)

    def test_an_answer_without_usage_counts_as_what_was_set_aside(self):
        """Neither the tokens nor the cost are known, and the caps count both."""
        spent = replay([STARTED, started(), answered(tokens=None, cost_usd=None)]).spent

        assert (spent.tokens, spent.cost_usd, spent.cost_known) == (100, 0.5, False)

    def test_calls_of_an_older_journal_make_the_cost_unknown(self):
        """Nothing was written down about what they may take; that they were sent is known."""
        old = CallStarted(model="m", purpose="agent", agent="a")
        spent = replay([STARTED, old, STARTED, old, answered()]).spent

        assert (spent.calls, spent.tokens, spent.cost_usd, spent.cost_known) == (2, 40, 0.2, False)

    def test_a_free_model_stays_free(self):
        """A guess of nothing is certain."""
        spent = replay([STARTED, started(usd=0.0), failed(booked_tokens=100, booked_usd=0.0)]).spent

        assert (spent.tokens, spent.cost_usd, spent.cost_known) == (100, 0.0, True)

    @given(st.lists(st.sampled_from(["start", "answer", "fail", "turn", "kill"]), max_size=30))
    def test_every_call_that_was_sent_is_counted_once(self, story):
        """Whatever happens to calls, and however often sessions die."""
        events, open_calls, sent, guess = [STARTED], 0, 0, 0
        for step in story:
            if step == "start":
                events.append(started())
                open_calls, sent = open_calls + 1, sent + 1
            elif step == "kill":
                events.append(STARTED)
                guess, open_calls = guess + open_calls, 0
            elif open_calls:
                events.append({
                    "answer": answered(),
                    "fail": failed(booked_tokens=100, booked_usd=0.5),
                    "turn": failed(kind="server"),
                }[step])  # fmt: skip
                open_calls -= 1
                guess += step == "fail"
        guess += open_calls
        spent = replay(events).spent

        assert spent.calls == sent
        assert spent.cost_known == (guess == 0)
        answers = sum(isinstance(event, CallCompleted) for event in events)
        assert spent.tokens == 100 * guess + 40 * answers
        assert spent.estimate.tokens == 100 * (guess + answers)
