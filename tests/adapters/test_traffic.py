"""Traffic against limits that nobody told: all are answered, soon, with few refusals, and what cannot be ends in time.

Time is virtual, so every figure is exact. `python -m tests.traffic` prints them.
"""

import asyncio
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from swarmcli.adapters.limits import LimitedClient
from swarmcli.core.events import CallRetry, CallStarted, LimitChanged
from swarmcli.core.ports import Headroom, Message, ModelRequest
from swarmcli.errors import ModelError
from swarmcli.recipe.values import Rate
from swarmcli.testing import RecordingRecorder
from tests.traffic import (
    FORTY,
    MODEL,
    SCENARIOS,
    FixedMinute,
    Provider,
    TokenBucket,
    constant,
    lognormal,
    simulate,
    steps,
)
from tests.virtual import LoopClock, virtual_runner


def scenario(name):
    make, load = SCENARIOS[name]
    return simulate(make(), **load)


class TestHiddenConcurrency:
    """A provider takes 40 at once and says so only by refusing more: 600 calls of a second take it 15 s at best."""

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("refusal_s", [0.0, 0.2])
    @pytest.mark.parametrize("answer_s", [constant(1.0), lognormal(1.0)], ids=["1s", "lognormal"])
    def test_it_is_found_with_few_refusals_and_used(self, answer_s, refusal_s, seed):
        """All are answered in at most 1.25 times the ideal, with at most 3 % refusals."""
        provider = Provider(
            parallel=FORTY, answer_s=answer_s, refusal_s=refusal_s, rng=random.Random(seed)
        )
        figures = simulate(provider, calls=600)
        assert figures.answered == 600
        assert figures.makespan_s <= 1.25 * 15
        assert figures.refused_share <= 0.03

    def test_a_limit_that_drops_is_followed_and_climbs_back(self):
        """100, then 20 from second 15 on, then 100 again from second 30: few refusals, and full use within 15 s."""
        provider = Provider(parallel=steps((0, 100), (15, 20), (30, 100)))
        figures = simulate(provider, calls=5000, agents=300)
        assert figures.answered == 5000
        assert figures.refused < 50
        assert provider.most_at_work(20, 30) == 20
        assert provider.most_at_work(30, 45) >= 90

    def test_slow_answers_do_not_slow_the_start(self):
        """Refusals come at once, so a request that is still out was let in: 300 calls of a minute take 76 s."""
        assert scenario("no limit, 300 of 60 s").makespan_s < 80

    def test_three_hundred_are_reached_in_five_round_trips(self):
        """Without any limit, slow start costs 300 calls of half a second two seconds."""
        assert scenario("no limit, 300 of 0.5 s").makespan_s <= 3.0


class TestHiddenRates:
    """A provider counts requests a minute."""

    @pytest.mark.parametrize("retry_after", [False, True])
    @pytest.mark.parametrize("minute", [TokenBucket(600), TokenBucket(600, 10), FixedMinute(600)])
    def test_600_a_minute_lose_nothing(self, minute, retry_after):
        """300 agents with 1,200 calls: all are answered, in little more than the minutes allow."""
        provider = Provider(minute=type(minute)(**_arguments(minute)), retry_after=retry_after)
        figures = simulate(provider, calls=1200, agents=300)
        assert figures.answered == 1200
        assert figures.makespan_s < 125
        assert figures.refused_share < 0.05

    def test_fifteen_a_minute_lose_nothing(self):
        """A free tier, where one at a time is too many."""
        figures = scenario("15 rpm, a bucket of 1, calls of 0.5 s")
        assert figures.answered == 60
        assert figures.makespan_s < 2 * 60 / 15 * 60

    def test_headroom_saves_refusals(self):
        """Answers that say when nothing is left spare all the 429s of a bucket of requests."""
        told, untold = TokenBucket(60, 5), TokenBucket(60, 5)

        def headroom():
            return Headroom(requests=int(told.left), requests_reset_s=5.0)

        load = {"calls": 60, "rates": [Rate(pattern="*", parallel=1)]}
        quick = constant(0.2)
        with_it = simulate(Provider(minute=told, headroom=headroom, answer_s=quick), **load)
        without = simulate(Provider(minute=untold, answer_s=quick), **load)
        assert (with_it.answered, with_it.refused) == (60, 0)
        assert without.refused > 0


def _arguments(minute):
    if isinstance(minute, FixedMinute):
        return {"rpm": minute.rpm}
    return {"rpm": minute.per_s * 60, "burst": minute.burst}


class TestNoise:
    """Refusals that are not about us."""

    def test_one_429_among_many_costs_little(self):
        """Of 600 calls at 100 at once, one refusal costs less than one round trip."""

        class Once(Provider):
            def _refusal(self, now):
                return 0.0 if self.seen == 250 else None

        declared = [Rate(pattern="*", parallel=100)]
        clean = simulate(Provider(), calls=600, rates=declared)
        spoilt = simulate(Once(), calls=600, rates=declared)
        assert (clean.makespan_s, spoilt.refused, spoilt.answered) == (6.0, 1, 600)
        assert spoilt.makespan_s <= clean.makespan_s + 1.0

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("answer_s", [0.02, 1.0])
    def test_one_in_five_by_chance_loses_nothing(self, answer_s, seed):
        """Whatever the load: all are answered, and the number at work does not sink to one."""
        provider = Provider(chance=0.2, answer_s=constant(answer_s), rng=random.Random(seed))
        figures = simulate(provider, calls=300)
        assert figures.answered == 300
        assert figures.makespan_s < 60
        assert figures.peak > 16


class TestHopeless:
    """A provider that refuses everything."""

    def test_a_permanent_429_ends_in_time(self):
        """300 agents fail together after 41 s and 20 requests, not one after the other."""
        figures = simulate(Provider(parallel=steps((0, 0))), calls=300)
        assert (figures.answered, figures.refused) == (0, 20)
        assert figures.last_failure_s == pytest.approx(40.75)

    def test_what_was_answered_before_gets_a_minute(self):
        """After some answers it may be a limit per minute: it is given up when a minute has passed, not before."""
        provider = Provider(parallel=steps((0, 40), (5, 0)))
        figures = simulate(provider, calls=300)
        assert 40 < figures.answered < 300
        assert 61 < figures.last_failure_s < 100

    def test_each_retry_is_told_and_bounded(self):
        """`call.retry` stands for each further request, and its delay is what the gate makes it wait."""
        events = RecordingRecorder()
        simulate(Provider(parallel=steps((0, 0))), calls=1, recorder=events)
        assert [e.delay_s for e in events.of(CallRetry)] == [0.25, 1.5, 9.0, 30.0]
        assert len(events.of(CallStarted)) == 5
        assert max(e.pause_s for e in events.of(LimitChanged)) == 30.0


class LimiterMachine(RuleBasedStateMachine):
    """Callers that come, go and lose patience, in front of a provider whose limits change, on virtual time."""

    @initialize(
        parallel=st.none() | st.integers(1, 12),
        rpm=st.none() | st.integers(1, 40),
        hidden=st.integers(1, 30),
    )
    def begin(self, parallel, rpm, hidden):
        self.context = virtual_runner()
        self.runner = self.context.__enter__()
        self.parallel, self.rpm, self.hidden = parallel, rpm, hidden
        self.provider = Provider(parallel=lambda _: self.hidden, refusal_s=0.1)
        self.events = RecordingRecorder()
        self.client = LimitedClient(
            self.provider,
            rates=[Rate(pattern="*", parallel=parallel, rpm=rpm)] if parallel or rpm else [],
            clock=LoopClock(),
            emit=self.note,
        )
        self.calls, self.left_at = [], []
        self.loop = self.runner.get_loop()

    def note(self, event):
        if isinstance(event, CallStarted):
            self.left_at.append(self.loop.time())
        self.events.emit(event)

    @rule(count=st.integers(1, 40))
    def ask(self, count):
        """Some callers come."""
        for _ in range(count):
            message = Message(role="user", content="q")
            request = ModelRequest(model=MODEL, messages=(message,))
            self.calls.append(self.loop.create_task(self.client.complete(request)))

    @rule(which=st.randoms(use_true_random=False), share=st.floats(0, 1))
    def cancel(self, which, share):
        """Some lose patience, in the line or in flight."""
        for call in self.calls:
            if which.random() < share:
                call.cancel()

    @rule(seconds=st.floats(0.01, 100))
    def wait(self, seconds):
        """Time passes."""
        self.runner.run(asyncio.sleep(seconds))

    @rule(hidden=st.integers(0, 30))
    def change(self, hidden):
        """The provider takes more, or fewer."""
        self.hidden = hidden

    @invariant()
    def declared_limits_hold(self):
        """Never more at once than declared, and in no minute more than declared."""
        if not hasattr(self, "left_at"):
            return
        if self.parallel is not None:
            assert self.provider.peak <= self.parallel
        if self.rpm is not None:
            ahead = self.left_at[self.rpm :]
            assert all(b - a >= 60 for a, b in zip(self.left_at, ahead, strict=False))
        assert all(event.parallel >= 1 for event in self.events.of(LimitChanged))

    def teardown(self):
        """Nobody is lost, nothing is left behind, and a provider that takes all again is used fully again."""
        if not hasattr(self, "runner"):
            return
        try:
            self.hidden = 1000
            self.runner.run(self.come_to_rest())
            assert self.provider.at_work == 0
            if self.rpm is None:
                self.provider.peak = 0
                self.ask(400)
                self.runner.run(self.come_to_rest())
                assert self.provider.peak >= min(self.parallel or 40, 40)
        finally:
            self.context.__exit__(None, None, None)

    async def come_to_rest(self):
        """Every call ends, one way or another; a lost waiter would stall the loop."""
        outcomes = [await asyncio.wait({call}) and call for call in self.calls]
        for call in outcomes:
            if not call.cancelled() and call.exception() is not None:
                assert isinstance(call.exception(), ModelError)


TestLimiter = LimiterMachine.TestCase
TestLimiter.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
