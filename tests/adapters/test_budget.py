"""Caps at the door: no request leaves that might pass a cap, and none is refused that need not be."""

import asyncio
import random

import pytest

from swarmcli.adapters.attempt import Attempt, Flight
from swarmcli.adapters.budget import BudgetedClient
from swarmcli.adapters.limits import LimitedClient
from swarmcli.adapters.retry import RetryingClient
from swarmcli.core.budget import Budget
from swarmcli.core.events import BudgetWarning, CallFailed, CallStarted, LimitWaiting, Usage
from swarmcli.core.ports import Message, ModelReply, ModelRequest
from swarmcli.errors import Charge, ModelError
from swarmcli.recipe.values import ModelSpec, Price, Rate
from swarmcli.testing import ManualClock, RecordingRecorder, ScriptedClient

PRICE = Price(input_per_mtok=1000.0, output_per_mtok=1000.0)
MODEL = ModelSpec(id="openai/gpt", price=PRICE)
USAGE = Usage(input_tokens=10, output_tokens=10)


def ask(model=MODEL, **fields):
    return ModelRequest(model=model, messages=(Message(role="user", content="q"),), **fields)


def paid(request):
    return ModelReply(text="answer", model=request.model.id, usage=USAGE, cost_usd=0.02)


class Rig:
    """A budgeted client over a script."""

    def __init__(self, script=paid, *, latency_s=1.0, **caps):
        self.clock, self.events, self.budget = ManualClock(start=0), RecordingRecorder(), None
        self.model = ScriptedClient(script, clock=self.clock, latency_s=latency_s)
        self.budget = Budget(**caps)
        self.client = self.over(self.model)

    def over(self, inner, **more):
        return BudgetedClient(inner, self.budget, clock=self.clock, emit=self.events.emit, **more)

    async def all_of(self, requests):
        async def one(request):
            try:
                return await self.client.complete(request)
            except ModelError as exc:
                return exc

        async def run():
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(one(request)) for request in requests]
            return [call.result() for call in calls]

        return await self.clock.drive(run())


def answered(outcomes):
    return [outcome for outcome in outcomes if isinstance(outcome, ModelReply)]


async def test_replies_are_booked_as_they_cost():
    """Calls, tokens and dollars add up."""
    rig = Rig()
    await rig.all_of([ask()] * 3)
    spent = rig.budget.spent
    assert (spent.calls, spent.tokens, spent.cost_known) == (3, 60, True)
    assert spent.cost_usd == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("caps", "fits", "name"),
    [
        ({"max_calls": 4}, 4, "max_calls"),
        ({"max_cost_usd": 0.1}, 4, "max_cost_usd"),
        ({"max_tokens": 100}, 4, "max_tokens"),
    ],
)
async def test_a_cap_lets_through_what_fits(caps, fits, name):
    """As many answers as the cap holds, and a clear refusal for the others."""
    rig = Rig(**caps)
    outcomes = await rig.all_of([ask()] * 20)
    assert len(answered(outcomes)) == len(rig.model.requests) == fits
    refusals = [outcome for outcome in outcomes if isinstance(outcome, ModelError)]
    assert {error.kind for error in refusals} == {"budget"}
    assert name in refusals[-1].message
    assert f"{fits} calls" in refusals[-1].message
    assert refusals[-1].hint == f"raise {name}"
    spent = rig.budget.spent
    assert spent.cost_usd <= 0.1
    assert spent.tokens <= 100


async def test_cautious_estimates_do_not_refuse_what_would_fit():
    """Calls wait for others to turn out cheap instead of failing."""
    rig = Rig(max_cost_usd=4.2)  # four estimates of a thousand tokens, 200 real answers
    outcomes = await rig.all_of([ask()] * 150)
    assert len(answered(outcomes)) == 150
    assert {e.bucket for e in rig.events.of(LimitWaiting)} == {"budget"}
    assert rig.events.of(LimitWaiting)[-1].waiting == 0


async def test_one_that_waits_goes_when_it_is_cancelled():
    """The next in line takes its turn."""
    rig = Rig(max_cost_usd=1.1)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(rig.client.complete(ask())) for _ in range(3)]
        await rig.clock.settle()
        calls[1].cancel()
        await rig.clock.advance(5)
    assert calls[2].result().text == "answer"
    assert rig.budget.open == 0


async def test_the_writer_does_not_wait_behind_the_agents():
    """Its share is there for exactly then."""
    rig = Rig(max_calls=4, reserve=0.25, latency_s=5.0)
    writing = asyncio.Event()

    async def write():
        await rig.client.complete(ask(purpose="writer"))
        writing.set()

    async with asyncio.TaskGroup() as group:
        agents = [group.create_task(rig.client.complete(ask(purpose="agent"))) for _ in range(4)]
        await rig.clock.advance(1)
        group.create_task(write())
        await rig.clock.advance(1)
        assert [r.purpose for r in rig.model.requests] == ["agent"] * 3 + ["writer"]
        agents[3].cancel()
        await rig.clock.advance(10)
    assert writing.is_set()


class TestPrices:
    async def test_an_unknown_price_is_refused_under_a_cost_cap(self):
        """Nothing is sent, and the hint says what to do."""
        rig = Rig(max_cost_usd=1.0)
        (error,) = await rig.all_of([ask(ModelSpec(id="x/unknown"))])
        assert (error.kind, rig.model.requests) == ("budget", [])
        assert "price of x/unknown is unknown" in error.message
        assert "--allow-unpriced" in error.hint

    async def test_a_table_of_prices_may_know_it(self):
        """The caller says what models cost that the recipe does not price."""
        rig = Rig(max_cost_usd=10.0)
        rig.client = rig.over(rig.model, price_of=lambda _: PRICE)
        assert len(answered(await rig.all_of([ask(ModelSpec(id="x/unknown"))]))) == 1

    async def test_without_a_cost_cap_an_unknown_price_is_no_error(self):
        """Cost is then unknown, not zero."""
        rig = Rig(lambda r: ModelReply(text="a", model=r.model.id, usage=USAGE))
        await rig.all_of([ask(ModelSpec(id="x/unknown"))])
        assert not rig.budget.spent.cost_known

    async def test_an_answer_without_usage_is_estimated(self):
        """What the provider does not say is not free."""
        rig = Rig(lambda r: ModelReply(text="x" * 400, model=r.model.id))
        await rig.all_of([ask()])
        spent = rig.budget.spent
        assert spent.tokens > 100
        assert spent.cost_usd == pytest.approx(spent.tokens / 1000)


class Raises:
    """A model whose every call ends like this."""

    def __init__(self, error):
        self.error = error

    async def complete(self, request, stream_to=None):
        raise self.error

    async def close(self):
        pass


class TestEstimates:
    async def test_a_call_carries_what_was_set_aside(self):
        """So that it can be counted even if nobody sees its end."""
        rig = Rig()
        client = rig.over(LimitedClient(rig.model, clock=rig.clock, emit=rig.events.emit))
        await rig.clock.drive(client.complete(Attempt.of(ask(), 1, Flight())))
        (started,) = rig.events.of(CallStarted)
        assert started.estimated_tokens == rig.budget.spent.estimate.tokens > 1000
        assert started.estimated_usd == rig.budget.spent.estimate.cost_usd

    async def test_a_bound_that_was_passed_once_is_not_believed_again(self):
        """Ten times the bound: the next call of that sort sets aside as much."""
        huge = ModelReply(
            text="x", model="m", usage=Usage(input_tokens=10, output_tokens=1000), cost_usd=1.01
        )
        rig = Rig(lambda _: huge, max_cost_usd=1.5)
        bounded = ask(max_output_tokens=100)
        assert len(answered(await rig.all_of([bounded]))) == 1
        (refused,) = await rig.all_of([bounded])
        assert (refused.kind, len(rig.model.requests)) == ("budget", 1)
        assert rig.budget.spent.cost_usd == 1.01

    async def test_bounds_do_not_mix(self):
        """A long answer without a bound says nothing about one that has a bound."""
        long = ModelReply(text="x", model="m", usage=Usage(output_tokens=5000), cost_usd=0.0)
        rig = Rig([long, long], max_tokens=5300)
        await rig.all_of([ask()])
        assert len(answered(await rig.all_of([ask(max_output_tokens=100)]))) == 1


class TestFailures:
    @pytest.mark.parametrize(
        ("kind", "charged"),
        [("rate_limit", False), ("network", False), ("timeout", True), ("truncated", True)],
    )
    async def test_only_what_the_provider_worked_on_is_charged(self, kind, charged):
        """A request that was turned away is a call, but costs nothing."""
        rig = Rig([ModelError("x", kind=kind)], max_tokens=5000)
        await rig.all_of([ask()])
        assert rig.budget.spent.calls == 1
        assert (rig.budget.spent.tokens > 0) == charged
        assert rig.budget.open == 0

    async def test_every_attempt_counts_as_a_call(self):
        """Retries are calls, and a cap on calls ends them."""
        rig = Rig(lambda _: ModelError("x", kind="server"), max_calls=3)
        rig.client = RetryingClient(
            rig.client,
            attempts=5,
            clock=rig.clock,
            rng=random.Random(1),
            emit=rig.events.emit,
        )
        (error,) = await rig.all_of([ask()])
        assert (error.kind, len(rig.model.requests)) == ("budget", 3)

    async def test_a_request_that_never_left_costs_nothing(self):
        """Cancelled in the queue: money and call are given back."""
        rig = Rig(max_calls=2)
        limited = LimitedClient(
            rig.model,
            rates=[Rate(pattern="*", parallel=1)],
            clock=rig.clock,
            emit=rig.events.emit,
        )
        client = rig.over(limited)
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(client.complete(Attempt.of(ask(), 1, Flight()))) for _ in range(2)
            ]
            await rig.clock.settle()
            calls[1].cancel()
            await rig.clock.advance(2)
        assert (rig.budget.spent.calls, rig.budget.open) == (1, 0)

    async def test_one_that_is_cancelled_in_flight_may_have_cost_all(self):
        """Nobody tells us what it cost."""
        rig = Rig(max_tokens=5000)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(rig.client.complete(ask()))
            await rig.clock.advance(0.5)
            call.cancel()
        assert rig.budget.spent.tokens > 1000
        assert rig.budget.open == 0

    @pytest.mark.parametrize(
        ("kind", "booked"), [("server", 0), ("timeout", 1000), ("truncated", 1000)]
    )
    async def test_a_call_that_failed_says_what_is_booked_for_it(self, kind, booked):
        """Nothing where the provider turned it away, else all that was set aside."""
        rig = Rig([ModelError("x", kind=kind)])
        await rig.all_of([ask(agent="a")])
        (failed,) = rig.events.of(CallFailed)
        assert (failed.kind, failed.agent, failed.tokens) == (kind, "a", None)
        assert booked <= failed.booked_tokens <= booked * 1.1
        assert failed.booked_tokens == rig.budget.spent.tokens
        assert rig.budget.spent.cost_known == (booked == 0)

    async def test_a_useless_answer_costs_what_the_provider_says(self):
        """Not what had been set aside."""
        error = ModelError("cut", kind="truncated")
        error.charge = Charge(input_tokens=7, output_tokens=5, cost_usd=0.25)
        rig = Rig()
        client = rig.over(Raises(error))
        with pytest.raises(ModelError):
            await client.complete(ask())
        (failed,) = rig.events.of(CallFailed)
        assert (failed.booked_tokens, failed.booked_usd) == (12, 0.25)
        spent = rig.budget.spent
        assert (spent.usage, spent.cost_known) == (Usage(input_tokens=7, output_tokens=5), True)

    async def test_a_call_that_was_cut_off_says_so(self):
        """Its kind is `cancelled`; one that never left says nothing."""
        rig = Rig()
        limited = LimitedClient(
            rig.model,
            rates=[Rate(pattern="*", parallel=1)],
            clock=rig.clock,
            emit=rig.events.emit,
        )
        client = rig.over(limited)
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(client.complete(Attempt.of(ask(agent=name), 1, Flight())))
                for name in ("sent", "queued")
            ]
            await rig.clock.advance(0.5)
            for call in reversed(calls):
                call.cancel()
            await rig.clock.settle()
        assert [(e.agent, e.kind) for e in rig.events.of(CallFailed)] == [("sent", "cancelled")]
        assert rig.budget.spent.calls == len(rig.events.of(CallStarted)) == 1
        assert not rig.budget.spent.cost_known

    async def test_a_bug_in_a_sink_is_no_free_call(self):
        """Whatever ends a call that left, it is booked."""
        rig = Rig()
        with pytest.raises(ZeroDivisionError):
            await rig.over(Raises(ZeroDivisionError())).complete(ask())
        assert [e.kind for e in rig.events.of(CallFailed)] == ["internal"]
        assert (rig.budget.open, rig.budget.spent.tokens > 1000) == (0, True)

    async def test_waiting_for_money_is_no_busy_time(self):
        """Between two tries of one question it is time in a queue."""
        rig = Rig(max_cost_usd=1.1, latency_s=4.0)
        flight = Flight()
        flight.leave(0.0)

        async def run():
            async with asyncio.TaskGroup() as group:
                group.create_task(rig.client.complete(ask()))
                await asyncio.sleep(0)
                group.create_task(rig.client.complete(Attempt.of(ask(), 2, flight)))

        await rig.clock.drive(run())
        assert flight.queued_s == 4.0


async def test_the_user_is_warned_once_near_the_cap_and_once_at_it():
    """Eighty percent, then the first refusal; not one line per agent."""
    rig = Rig(max_calls=10)
    await rig.all_of([ask()] * 30)
    warnings = rig.events.of(BudgetWarning)
    assert len(warnings) == 2
    assert any("max_calls 10 is reached" in w.message for w in warnings)
    assert any(w.message == "80% of the budget is used" for w in warnings)


async def test_closing_closes_what_is_inside():
    """The chain is closed from the outside."""
    rig = Rig()
    await rig.client.close()
    assert rig.model.closed
