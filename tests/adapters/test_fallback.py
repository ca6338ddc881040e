"""Fallbacks: another model is asked when one fails, and a failure of ours is not the model's."""

import asyncio
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from swarmcli.adapters.budget import BudgetedClient
from swarmcli.adapters.cached_client import CachedClient
from swarmcli.adapters.fallback import FallbackClient
from swarmcli.adapters.limits import LimitedClient
from swarmcli.adapters.retry import RetryingClient
from swarmcli.core.budget import Budget
from swarmcli.core.events import AgentUpdated, CallRetry, CallStarted, Warned
from swarmcli.core.ports import Message, ModelRequest
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Rate
from swarmcli.testing import (
    ManualClock,
    MemoryStore,
    Partial,
    RecordingRecorder,
    RecordingText,
    ScriptedClient,
)

ROLES = {
    "large": ModelSpec(id="b/large", temperature=0.1, fallbacks=("never",)),
    "same": ModelSpec(id="a/small"),
}


def ask(*fallbacks, agent="a1", purpose="agent"):
    return ModelRequest(
        model=ModelSpec(id="a/small", fallbacks=fallbacks),
        messages=(Message(role="user", content="q"),),
        agent=agent,
        purpose=purpose,
    )


def failed(kind, model=""):
    return ModelError(f"it was {kind}", kind=kind, model=model, hint=f"about {kind}")


class Rig:
    """A fallback client over a script."""

    def __init__(self, script):
        self.events = RecordingRecorder()
        self.model = ScriptedClient(script)
        self.client = FallbackClient(
            self.model,
            resolve=lambda name: ROLES.get(name, ModelSpec(id=name)),
            emit=self.events.emit,
        )

    @property
    def asked(self):
        return [request.model.id for request in self.model.requests]


async def test_the_first_model_answers_when_it_can():
    """Fallbacks cost nothing while they are not needed."""
    rig = Rig(["answer"])
    assert (await rig.client.complete(ask("large"))).model == "a/small"
    assert rig.events.events == []


async def test_fallbacks_are_tried_in_order():
    """Roles and ids both work, and the reply names who answered."""
    rig = Rig([failed("server"), failed("auth"), "answer"])
    reply = await rig.client.complete(ask("large", "c/other"))
    assert rig.asked == ["a/small", "b/large", "c/other"]
    assert reply.model == "c/other"
    assert rig.model.requests[1].model is ROLES["large"]


async def test_each_change_is_told():
    """The agent's row says which model failed, why, and which is asked now."""
    rig = Rig([failed("server"), "answer"])
    await rig.client.complete(ask("large"))
    assert rig.events.events == [
        AgentUpdated(agent="a1", note="a/small failed (server), trying b/large")
    ]
    rig = Rig([failed("server"), "answer"])
    await rig.client.complete(ask("large", agent=None, purpose="planner"))
    assert [e.message for e in rig.events.of(Warned)] == [
        "planner: a/small failed (server), trying b/large: it was server"
    ]


async def test_the_last_failure_wins_and_all_are_named():
    """The message says what each model answered; kind and hint are the last one's."""
    rig = Rig([failed("auth"), failed("rate_limit")])
    with pytest.raises(ModelError) as caught:
        await rig.client.complete(ask("large"))
    error = caught.value
    assert error.message == "a/small: it was auth; b/large: it was rate_limit"
    assert (error.kind, error.hint, error.model) == ("rate_limit", "about rate_limit", "b/large")
    assert error.exit_code == 75


@pytest.mark.parametrize("kind", ["budget", "cache_miss", "schema", "template", "internal"])
async def test_a_failure_of_ours_is_not_the_models(kind):
    """Another model would meet it as well."""
    rig = Rig([failed(kind), "never"])
    with pytest.raises(ModelError, match=kind):
        await rig.client.complete(ask("large"))
    assert rig.asked == ["a/small"]


async def test_the_same_model_is_not_asked_again():
    """A fallback that resolves to the model that failed is skipped."""
    rig = Rig([failed("server"), "answer"])
    await rig.client.complete(ask("same", "large"))
    assert rig.asked == ["a/small", "b/large"]
    rig = Rig([failed("server")])
    with pytest.raises(ModelError) as caught:
        await rig.client.complete(ask("same"))
    assert caught.value.message == "it was server"


async def test_a_fallbacks_own_fallbacks_are_not_followed():
    """The list that the user wrote is the whole list."""
    rig = Rig([failed("server"), failed("server")])
    with pytest.raises(ModelError):
        await rig.client.complete(ask("large"))
    assert rig.asked == ["a/small", "b/large"]


async def test_without_fallbacks_the_failure_is_unchanged():
    """Nothing to fall back to, nothing to add."""
    rig = Rig([failed("server")])
    with pytest.raises(ModelError) as caught:
        await rig.client.complete(ask())
    assert caught.value.message == "it was server"


async def test_what_a_failed_model_streamed_is_void():
    """The fallback's answer begins on a clean sheet."""
    rig = Rig([Partial(text="half", error=failed("content_filter")), "whole"])
    sink = RecordingText()
    await rig.client.complete(ask("large"), sink)
    assert (sink.text, sink.restarts) == ("whole", 1)


async def test_closing_closes_what_is_inside():
    """The chain is closed from the outside."""
    rig = Rig([])
    await rig.client.close()
    assert rig.model.closed


class TestTheWholeChain:
    """Fallback > cache > retries > budget > limits: what each of them does with the others around it."""

    def chain(self, script, store, **caps):
        clock, events, budget = ManualClock(start=0), RecordingRecorder(), Budget(**caps)
        model = ScriptedClient(script, clock=clock, latency_s=1.0)
        rates = [Rate(pattern="*", parallel=5)]
        limited = LimitedClient(model, rates=rates, clock=clock, emit=events.emit)
        budgeted = BudgetedClient(limited, budget, clock=clock, emit=events.emit)
        retrying = RetryingClient(
            budgeted, attempts=4, clock=clock, rng=random.Random(1), emit=events.emit
        )
        cached = CachedClient(retrying, store, mode="use", emit=events.emit)
        client = FallbackClient(cached, resolve=lambda name: ROLES[name], emit=events.emit)
        return SimpleNamespace(
            clock=clock, events=events, budget=budget, model=model, client=client
        )

    async def ask_all(self, chain, numbers):
        async def one(number):
            try:
                return await chain.client.complete(replace(ask("large"), sample=number))
            except ModelError as exc:
                return exc

        async def run():
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(one(number)) for number in numbers]
            return [call.result() for call in calls]

        return await chain.clock.drive(run())

    async def test_a_429_loses_no_work_and_a_rerun_is_free(self):
        """Every agent gets an answer in spite of 429s; the second run sends nothing."""
        store, failures = MemoryStore(), random.Random(5)

        def often_busy(_):
            return failed("rate_limit") if failures.random() < 0.2 else "answer"

        first = self.chain(often_busy, store)
        replies = await self.ask_all(first, range(60))
        assert [reply.text for reply in replies] == ["answer"] * 60
        assert first.model.peak <= 5
        assert sum(reply.attempts for reply in replies) == len(first.model.requests)
        assert (
            first.budget.spent.calls
            == len(first.events.of(CallStarted))
            == 60 + len(first.events.of(CallRetry))
        )
        second = self.chain([], store)
        assert all(reply.cached for reply in await self.ask_all(second, range(60)))
        assert second.budget.spent.calls == 0

    async def test_a_cap_ends_retries_and_fallbacks(self):
        """Nothing is sent beyond the cap, whoever would like to."""
        chain = self.chain(lambda _: failed("server"), MemoryStore(), max_calls=6)
        outcomes = await self.ask_all(chain, range(3))
        assert {outcome.kind for outcome in outcomes} == {"budget"}
        assert len(chain.model.requests) == 6

    async def test_a_fallbacks_answer_is_cached_under_its_own_name(self):
        """The failed model is asked again next time; its fallback is not."""
        store = MemoryStore()

        def small_is_down(request):
            return failed("unknown_model") if request.model.id == "a/small" else "answer"

        for calls in (["a/small", "b/large"], ["a/small"]):
            chain = self.chain(small_is_down, store)
            (reply,) = await self.ask_all(chain, [0])
            assert (reply.text, reply.model) == ("answer", "b/large")
            assert [request.model.id for request in chain.model.requests] == calls

    async def test_nothing_of_ours_reaches_the_model(self):
        """The edge is handed the plain request."""
        chain = self.chain(["answer"], MemoryStore())
        await self.ask_all(chain, [0])
        assert type(chain.model.requests[0]) is ModelRequest
