"""What the calls of a run were for: sums by role, lost calls, and steps that followed one another."""

from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.accounts import Accounts
from swarmcli.core.callbook import CallBook
from swarmcli.core.events import (
    AgentCompleted,
    CallCompleted,
    CallFailed,
    CallHedged,
    CallStarted,
    MergeCompleted,
    PlanReady,
    PlanRevised,
    RunStarted,
    Usage,
)
from swarmcli.core.spend import Amount, Spent

MODELS = {"small": "s", "large": "l", "planner": "l", "judge": "j", "writer": "l", "coder": "c"}


def fed(*events, models=MODELS):
    accounts = Accounts()
    for event in (RunStarted(recipe="r", models=models), *events):
        accounts.feed(event)
    return accounts


def call(model, purpose="agent", *, agent="a", tokens=10, cost_usd=0.5, **more):
    """A call and its answer."""
    usage = Usage(input_tokens=tokens)
    return (
        CallStarted(model=model, purpose=purpose, agent=agent),
        CallCompleted(
            model=model, purpose=purpose, agent=agent, seconds=1, tokens=usage, cost_usd=cost_usd, **more
        ),
    )  # fmt: skip


def calls_of(accounts):
    return {role: spent.calls for role, spent in accounts.roles.items()}


def test_calls_are_summed_by_what_they_were_for():
    """The large model is planner, writer and large at once: the purpose tells them apart."""
    accounts = fed(
        *call("l", "writer", agent=None),
        *call("l", "planner", agent=None),
        *call("s"),
        *call("s", agent="b"),
        *call("l"),
        *call("j", "judge"),
        *call("c"),
        *call("elsewhere"),
    )

    assert ["planner", "small", "large", "coder", "other", "judge", "writer"] == list(
        accounts.roles
    )
    assert [1, 2, 1, 1, 1, 1, 1] == list(calls_of(accounts).values())
    assert (20, 1.0) == (
        accounts.roles["small"].usage.input_tokens,
        accounts.roles["small"].cost_usd,
    )


def test_one_model_for_everything_is_neither_small_nor_large():
    """`-m MODEL`: its agents' calls are called what they are."""
    accounts = fed(*call("x"), *call("x", "planner", agent=None), models=dict.fromkeys(MODELS, "x"))

    assert {"planner": 1, "agents": 1} == calls_of(accounts)


def test_cached_answers_are_no_calls_of_a_role():
    """They are counted on their own."""
    accounts = fed(*call("s", cached=True)[1:], *call("l"))

    assert ({"large": 1}, 1) == (calls_of(accounts), accounts.cached)


def test_a_failed_call_that_is_booked_is_lost():
    """Turned away is free; cut off may be charged; with an unknown price the sum is unknown."""
    refused = CallFailed(model="s", purpose="agent", kind="rate_limit")
    cut_off = CallFailed(
        model="s", purpose="agent", kind="cancelled", booked_tokens=7, booked_usd=0.5
    )
    unpriced = CallFailed(
        model="s", purpose="agent", kind="server", booked_tokens=3, booked_usd=None
    )
    start = CallStarted(model="s", purpose="agent")

    one = fed(start, refused, start, cut_off)
    two = fed(start, cut_off, start, unpriced)

    assert (1, Amount(tokens=7, cost_usd=0.5)) == (one.lost_calls, one.lost)
    assert (2, Amount(tokens=10, cost_usd=None)) == (two.lost_calls, two.lost)


def test_steps_are_answers_that_followed_one_another():
    """Two votes side by side are one step, the escalation after them is the second."""
    accounts = fed()
    first, second = (call("s")[1] for _ in range(2))
    accounts.feed(first, 1.0)
    accounts.feed(second, 1.5)
    accounts.feed(call("l")[1], 2.6)

    assert {"a": 2} == accounts.steps


def test_a_new_session_takes_no_steps_for_what_is_done():
    """Money adds up over sessions; time and steps begin again, under the models of that session."""
    again = RunStarted(recipe="r", models={"small": "l", "large": "x"}, resumed=True)
    killed = CallStarted(model="s", purpose="agent", estimated_tokens=5, estimated_usd=0.1)
    accounts = fed(*call("s"), killed, again, *call("l"))

    assert {"small": 3} == calls_of(accounts)  # the one that died with its session was sent
    assert {"a": 1} == accounts.steps


def test_the_rest_is_counted():
    """Hedges, folded duplicates, and who merged."""
    accounts = fed(
        CallHedged(model="s", to="s", after_s=2, agent="a"),
        PlanReady(tasks=2, folded={"b": "a"}),
        PlanReady(tasks=3),
        MergeCompleted(strategy="write"),
    )

    assert (1, 1, "write") == (accounts.hedged, accounts.folded, accounts.merged_by)


def test_what_a_revised_plan_takes_out_was_paid_for_nothing():
    """Also where the same task runs again; who had not finished took nothing that counts here."""
    ten = {"tokens": Usage(input_tokens=8, output_tokens=2), "cost_usd": 0.5}
    accounts = fed(
        AgentCompleted(agent="a", output="x", **ten),
        AgentCompleted(agent="b", output="x", cached=True, **ten),
        PlanRevised(removed=("a", "b", "c"), added=("a",)),
        AgentCompleted(agent="a", output="y", **ten),
    )

    assert [("a", Amount(tokens=10, cost_usd=0.5))] == accounts.discarded


MODEL = st.sampled_from(["s", "l", "j", "elsewhere"])
PURPOSE = st.sampled_from(["agent", "planner", "judge", "writer"])
STARTS = st.builds(CallStarted, model=MODEL, purpose=PURPOSE, estimated_tokens=st.integers(0, 9))
ENDS = st.builds(
    CallCompleted, model=MODEL, purpose=PURPOSE, seconds=st.just(1.0), cached=st.booleans(),
    tokens=st.builds(Usage, input_tokens=st.integers(0, 99)), cost_usd=st.none() | st.just(0.25),
)  # fmt: skip
FAILS = st.builds(
    CallFailed, model=MODEL, purpose=PURPOSE, kind=st.just("server"), booked_tokens=st.integers(0, 9)
)  # fmt: skip
BEGINS = st.builds(RunStarted, recipe=st.just("r"), models=st.just(MODELS))


@given(st.lists(STARTS | ENDS | FAILS | BEGINS, max_size=30))
def test_the_roles_add_up_to_the_run(events):
    """Whatever happened, also in sessions that died: nothing is counted twice, and nothing is left out."""
    book, accounts = CallBook(), Accounts()
    for event in (RunStarted(recipe="r", models=MODELS), *events):
        book.feed(event)
        accounts.feed(event)

    assert book.spent == sum(accounts.roles.values(), Spent())
