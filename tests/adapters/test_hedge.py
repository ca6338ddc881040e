"""Hedging: a straggler is asked once more, the first answer counts, and nothing else changes."""

import asyncio
import random
import statistics
from dataclasses import replace

import pytest

from swarmcli.adapters.attempt import Attempt
from swarmcli.adapters.budget import BudgetedClient
from swarmcli.adapters.cached_client import CachedClient
from swarmcli.adapters.hedge import HedgedClient, Substitute, siblings_of
from swarmcli.adapters.limits import LimitedClient
from swarmcli.adapters.retry import RetryingClient
from swarmcli.core.budget import Budget
from swarmcli.core.events import CallFailed, CallHedged, CallStarted, Usage
from swarmcli.core.ports import ModelRequest
from swarmcli.errors import ModelError, UsageError
from swarmcli.recipe.values import Hedge, ModelSpec, Price, Rate
from swarmcli.testing import MemoryStore, RecordingRecorder, RecordingText, reply_to
from tests.hedging import Stragglers, compare, question, run_with_stragglers
from tests.virtual import LoopClock, virtual_runner

PRICE = Price(input_per_mtok=1000.0, output_per_mtok=1000.0)
MODEL = ModelSpec(id="a/model", price=PRICE)
OTHER = ModelSpec(id="b/other", price=PRICE)
ELSEWHERE = ModelSpec(id="a/model", api_base="http://elsewhere")
ROLES = {"other": OTHER, "elsewhere": ELSEWHERE, "here": ModelSpec(id="ollama/small")}
SLOW = "scan[99]"
"""The call that the tests watch; its siblings take one second."""


class Provider:
    """Answers after a second; `SLOW` gets (seconds, what) from the script, for one request after the other."""

    def __init__(self, *script):
        self.script = list(script)
        self.asked = []
        """What `SLOW` asked."""
        self.cancelled = 0
        self.at_work = 0

    async def complete(self, request, stream_to=None):
        seconds, what = 1.0, None
        if request.agent == SLOW:
            self.asked.append(request)
            seconds, what = self.script.pop(0)
        self.at_work += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_work -= 1
        if isinstance(what, Exception):
            raise what
        return reply_to(request, what or "answer")

    async def close(self):
        pass


class Rig:
    """The path of a run over a provider, in virtual time."""

    def __init__(self, *script, rules=None, rates=(), budget=None, attempts=1, spare=lambda: True):
        self.clock, self.events, self.provider = LoopClock(), RecordingRecorder(), Provider(*script)
        self.budget = budget or Budget()
        limited = LimitedClient(
            self.provider,
            rates=rates or [Rate(pattern="*", parallel=500)],
            clock=self.clock,
            emit=self.events.emit,
        )
        budgeted = BudgetedClient(limited, self.budget, clock=self.clock, emit=self.events.emit)
        retrying = RetryingClient(
            budgeted,
            attempts=attempts,
            clock=self.clock,
            rng=random.Random(1),
            emit=self.events.emit,
        )
        self.client = HedgedClient(
            retrying,
            rules or Hedge(),
            resolve=self.resolve,
            clock=self.clock,
            emit=self.events.emit,
            spare=spare,
        )

    def resolve(self, name):
        if name not in ROLES:
            raise UsageError(f"no role {name}")
        return ROLES[name]

    def run(self, work):
        """The result of `work()` on a virtual loop; nothing may be left at work."""
        with virtual_runner() as runner:
            result = runner.run(work())
        assert self.provider.at_work == 0
        assert self.budget.open == 0
        return result

    async def siblings(self, count=30):
        """Calls of one second, all answered."""
        async with asyncio.TaskGroup() as group:
            for n in range(count):
                group.create_task(self.client.complete(question(f"scan[{n}]", model=MODEL)))

    def ask(self, *fallbacks, model=MODEL, **more):
        """What becomes of the slow call after 30 siblings: the reply or the error, and how long it took."""

        async def work():
            await self.siblings()
            began = self.clock.monotonic()
            asked = question(SLOW, model=replace(model, fallbacks=fallbacks), **more)
            try:
                outcome = await self.client.complete(asked)
            except ModelError as error:
                outcome = error
            return outcome, self.clock.monotonic() - began

        return self.run(work)

    @property
    def hedges(self):
        return self.events.of(CallHedged)


def error(kind):
    return ModelError(f"it was {kind}", kind=kind, model="a/model")


def test_a_straggler_is_asked_once_more_and_the_first_answer_counts():
    """30 siblings took 1 s; the call that would take 60 is asked again after 2 s and answered after 3."""
    rig = Rig((60.0, "late"), (1.0, "quick"))
    reply, seconds = rig.ask()

    assert (reply.text, reply.hedged, reply.attempts) == ("quick", True, 2)
    assert seconds == reply.seconds == pytest.approx(3.0, abs=0.1)
    (hedge,) = rig.hedges
    assert (hedge.model, hedge.to, hedge.agent) == ("a/model", "a/model", SLOW)
    assert hedge.after_s == pytest.approx(2.0, abs=0.1)
    assert rig.provider.cancelled == 1


def test_the_first_request_may_still_win():
    """The duplicate is cancelled, and the reply says that there was one."""
    rig = Rig((2.5, "first"), (60.0, "second"))
    reply, seconds = rig.ask()

    assert (reply.text, reply.hedged, reply.attempts) == ("first", True, 2)
    assert (seconds, rig.provider.cancelled) == (pytest.approx(2.5), 1)


def test_a_call_that_is_cut_off_is_taken_to_cost_what_its_twin_did():
    """Nobody says it; it was asked the same. The reply, the caps and the journal count it alike."""
    rig = Rig((60.0, "late"), (1.0, "quick"))
    reply, _ = rig.ask()

    assert reply.usage == Usage(input_tokens=2, output_tokens=4)
    (cut,) = rig.events.of(CallFailed)
    assert (cut.kind, cut.agent) == ("cancelled", SLOW)
    assert cut.tokens == Usage(input_tokens=1, output_tokens=2)
    assert reply.cost_usd == pytest.approx(2 * cut.booked_usd)
    assert rig.budget.spent.cost_known
    assert rig.budget.spent.calls == 32


def test_two_answers_in_one_moment_are_both_paid():
    """Nothing is cut off, and nothing is unknown."""
    rig = Rig((3.0, "answer"), (1.0, "answer"))
    reply, _ = rig.ask()
    one = reply_to(question(model=MODEL), "answer")

    assert rig.provider.cancelled == 0
    assert reply.cost_usd == pytest.approx(2 * one.cost_usd)
    assert reply.usage == one.usage + one.usage


def test_a_call_without_trouble_is_as_it_was():
    """No mark, no cost forgotten, no event."""
    rig = Rig((1.0, "quick"))
    reply, _ = rig.ask()

    assert (reply.hedged, reply.attempts, rig.hedges) == (False, 1, [])
    assert reply.cost_usd == reply_to(question(model=MODEL), "quick").cost_usd
    assert type(reply) is not Substitute


def test_the_first_usable_fallback_is_asked_instead_where_there_is_one():
    """Another model or endpoint may be quick where this one is slow; names that mean nothing are passed over."""
    rig = Rig((60.0, "late"), (1.0, "quick"))
    reply, _ = rig.ask("nobody", "here", "other")

    assert [request.model.id for request in rig.provider.asked] == ["a/model", "b/other"]
    assert (reply.model, rig.hedges[0].to) == ("b/other", "b/other")

    rig = Rig((60.0, "late"), (1.0, "quick"))
    rig.ask("elsewhere")
    assert rig.provider.asked[1].model == ELSEWHERE


def test_a_model_on_this_machine_is_not_asked_twice():
    """The same work once more makes a machine slower."""
    rig = Rig((60.0, "late"))
    reply, seconds = rig.ask(model=ROLES["here"])

    assert (reply.text, seconds, rig.hedges) == ("late", 60.0, [])


def test_a_failure_that_would_repeat_itself_is_not_waited_out():
    """A bad request is bad on every connection: the duplicate is cancelled and the failure told."""
    rig = Rig((2.5, error("bad_request")), (60.0, "second"))
    failure, seconds = rig.ask()

    assert (failure.kind, failure.attempts, seconds) == ("bad_request", 2, pytest.approx(2.5))
    assert rig.provider.cancelled == 1


def test_a_failure_that_may_pass_leaves_the_duplicate_its_chance():
    """The first call is lost after 2.5 s, the second answers after 5."""
    rig = Rig((2.5, error("server")), (3.0, "second"))
    reply, seconds = rig.ask()

    assert (reply.text, reply.attempts) == ("second", 2)
    assert seconds == pytest.approx(5.0, abs=0.1)


def test_a_duplicate_that_fails_harms_nobody():
    """Whatever it dies of, the first call goes on."""
    for kind in ("auth", "server", "bad_request", "budget", "context_overflow"):
        rig = Rig((10.0, "first"), (0.1, error(kind)))
        reply, seconds = rig.ask("other")
        assert (reply.text, reply.hedged, seconds) == ("first", True, pytest.approx(10.0))
    rig = Rig((10.0, "first"), (0.1, RuntimeError("a bug")))
    assert rig.ask("other")[0].text == "first"


def test_when_both_fail_it_is_the_first_that_counts():
    """The user asked one model, and hears what became of that."""
    rig = Rig((4.0, error("server")), (0.1, error("auth")))
    failure, _ = rig.ask("other")

    assert (failure.kind, failure.model, failure.attempts) == ("server", "a/model", 2)


def test_a_fallback_without_access_is_not_tried_by_the_next_straggler():
    """One refused key is enough; the next duplicate goes to the model itself."""
    rig = Rig((10.0, "a"), (0.1, error("auth")), (10.0, "b"), (1.0, "c"))
    asked = question(SLOW, model=replace(MODEL, fallbacks=("other",)))

    async def work():
        await rig.siblings(60)
        await rig.client.complete(asked)
        return await rig.client.complete(asked)

    assert rig.run(work).text == "c"
    assert [h.to for h in rig.hedges] == ["b/other", "a/model"]


def test_a_refused_reservation_is_no_failure():
    """The cap leaves no room for the duplicate: the first call is answered as if nothing had been."""
    rig = Rig((10.0, "first"), budget=Budget(max_calls=31))
    reply, _ = rig.ask()

    assert (reply.text, reply.hedged, reply.attempts) == ("first", False, 1)
    assert reply.cost_usd is not None
    assert len(rig.provider.asked) == 1


def test_near_a_cap_nothing_is_asked_twice():
    """What is left is for first calls."""
    rig = Rig((10.0, "first"), spare=lambda: False)

    assert rig.ask()[0].text == "first"
    assert rig.hedges == []


def test_a_call_that_waits_for_its_turn_is_no_straggler():
    """Two at a time: the last ones have waited for ages, and are as quick as the others."""
    rig = Rig(rates=[Rate(pattern="*", parallel=2)])
    rig.run(lambda: rig.siblings(90))

    assert rig.hedges == []


def test_both_share_the_time_of_the_question():
    """10 s are 10 s for both together, although nobody answers."""
    rig = Rig((60.0, "late"), (60.0, "late"))
    reply, _ = rig.ask(timeout_s=10.0)

    first, second = rig.provider.asked
    assert reply.text == "late"  # this provider keeps no deadline; the edge does
    assert first.timeout_s == 10.0
    assert second.timeout_s == pytest.approx(8.0, abs=0.1)


def test_a_cancelled_question_cancels_both():
    """Ctrl-C leaves no request behind."""
    rig = Rig((60.0, "late"), (60.0, "late"))

    async def work():
        await rig.siblings()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(rig.client.complete(question(SLOW, model=MODEL)))
            await asyncio.sleep(10)
            asking.cancel()
        return asking.cancelled()

    assert rig.run(work)
    assert rig.provider.cancelled == 2


def test_planner_writer_and_streams_are_never_asked_twice():
    """Only an agent's question for a whole text is."""
    for more in ({"purpose": "planner", "agent": None}, {"purpose": "writer", "agent": None}, {}):
        rig = Rig((60.0, "late"))
        sink = None if more else RecordingText()

        async def work(rig=rig, more=more, sink=sink):
            await rig.siblings()
            begun = rig.clock.monotonic()
            asked = question(**{"agent": SLOW, "model": MODEL, **more})
            await rig.client.complete(asked, sink)
            return rig.clock.monotonic() - begun

        assert rig.run(work) == pytest.approx(1.0 if more else 60.0)
        assert rig.hedges == []


def test_less_than_twenty_calls_are_never_hedged():
    """5 % of 19 is less than one call."""
    rig = Rig((60.0, "late"))

    async def work():
        await rig.siblings(18)
        return await rig.client.complete(question(SLOW, model=MODEL))

    assert rig.run(work).text == "late"
    assert rig.hedges == []


def test_siblings_share_fan_out_and_model():
    """`scan[3]` and `scan[4]` are siblings; agents without a fan-out are, too, of each other."""
    same = [("scan[3]", "scan[4]"), ("look", "write")]
    for one, other in same:
        assert siblings_of(question(one)) == siblings_of(question(other))
    assert siblings_of(question("scan[3]")) != siblings_of(question("check[3]"))
    assert siblings_of(question("scan[3]")) != siblings_of(question("scan"))
    assert siblings_of(question("a", model=MODEL)) != siblings_of(question("a", model=ELSEWHERE))


def test_a_substitutes_answer_is_not_kept_under_the_name_of_the_model_that_was_asked():
    """The next run asks the model again; also where only the endpoint differs."""
    for fallback, kept in (("other", 0), ("elsewhere", 0), (None, 1)):
        rig, store = Rig((60.0, "late"), (1.0, "quick")), MemoryStore()
        client = CachedClient(rig.client, store, mode="use", emit=rig.events.emit)
        model = replace(MODEL, fallbacks=(fallback,) if fallback else ())

        async def work(rig=rig, client=client, model=model):
            await rig.siblings()
            return await client.complete(question(SLOW, model=model))

        assert rig.run(work).text == "quick"
        assert len(store.entries) == kept


def test_the_provider_is_handed_the_plain_question():
    """Nothing of our own log reaches the edge."""
    rig = Rig((60.0, "late"), (1.0, "quick"))
    rig.ask()

    assert [type(request) for request in rig.provider.asked] == [ModelRequest, ModelRequest]
    assert not any(isinstance(request, Attempt) for request in rig.provider.asked)


def test_retries_of_a_call_and_its_duplicate_are_counted_together():
    """Three requests were sent for this answer, and three were started."""
    rig = Rig((0.5, error("server")), (60.0, "late"), (1.0, "quick"), attempts=3)
    reply, _ = rig.ask()

    assert (reply.text, reply.attempts) == ("quick", 3)
    assert len([e for e in rig.events.of(CallStarted) if e.agent == SLOW]) == 3


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_stragglers_no_longer_decide_how_long_a_run_takes(sigma):
    """300 tasks, 100 at a time, 2 % take ten times as long: at most 0.45 of the time for at most 5 % more calls.

    On average over 20 seeds; duplicates are drawn like all calls, so here and there one is a straggler itself.
    """
    pairs = [compare(seed, latencies=Stragglers(sigma=sigma)) for seed in range(20)]

    assert statistics.mean(hedged.makespan_s / plain.makespan_s for plain, hedged in pairs) <= 0.45
    for plain, hedged in pairs:
        assert hedged.makespan_s <= plain.makespan_s + 1e-6
        assert plain.requests == 300
        assert hedged.requests - 300 == hedged.hedges <= 15


@pytest.mark.parametrize(("sigma", "share"), [(0.0, 0.0), (0.3, 0.01), (0.6, 0.01)])
def test_calls_that_just_differ_are_hardly_ever_asked_twice(sigma, share):
    """Without stragglers there is next to nothing to gain, so next to nothing is spent: at most 1 % of the calls."""
    alike = Stragglers(sigma=sigma, share=0.0)
    runs = [run_with_stragglers(seed, hedge=Hedge(), latencies=alike) for seed in range(8)]

    assert sum(run.hedges for run in runs) <= share * sum(run.tasks for run in runs)
