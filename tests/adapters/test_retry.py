"""Retries: what may pass is tried again in time, what cannot is not, and nothing holds back a cancellation."""

import asyncio
import random
from dataclasses import replace

import pytest

from swarmcli.adapters.limits import LimitedClient
from swarmcli.adapters.retry import RetryingClient, TrackedSink
from swarmcli.core.events import CallRetry, CallStarted
from swarmcli.core.ports import Message, ModelReply, ModelRequest
from swarmcli.errors import FAILURE_KINDS, RETRYABLE_KINDS, ModelError
from swarmcli.recipe.values import ModelSpec, Rate
from swarmcli.testing import (
    ManualClock,
    Partial,
    RecordingRecorder,
    RecordingText,
    ScriptedClient,
    ScriptExhausted,
)

REQUEST = ModelRequest(
    model=ModelSpec(id="openai/gpt"),
    messages=(Message(role="user", content="q"),),
    agent="scan[3]",
)


def failed(kind="server", **fields):
    return ModelError(f"it was {kind}", kind=kind, model="openai/gpt", **fields)


class Rig:
    """A retrying client over a script, and what it did."""

    def __init__(self, script, *, attempts=5, seed=1, limited=False, latency_s=0.0):
        self.clock, self.events = ManualClock(start=0), RecordingRecorder()
        self.model = ScriptedClient(script, clock=self.clock, latency_s=latency_s)
        inner = self.model
        if limited:
            inner = LimitedClient(
                inner,
                clock=self.clock,
                emit=self.events.emit,
                attempts=attempts,
                rates=[Rate(pattern="*", parallel=1)],
            )
        self.client = RetryingClient(
            inner,
            attempts=attempts,
            clock=self.clock,
            rng=random.Random(seed),
            emit=self.events.emit,
        )

    async def ask(self, stream_to=None):
        return await self.clock.drive(self.client.complete(REQUEST, stream_to))

    @property
    def calls(self):
        return len(self.model.requests)

    @property
    def delays(self):
        return [event.delay_s for event in self.events.of(CallRetry)]


async def test_a_first_answer_is_just_passed_on():
    """No failure, no wait, no event."""
    rig = Rig(["answer"])
    reply = await rig.ask()
    assert (reply.text, reply.attempts, rig.clock.monotonic()) == ("answer", 1, 0)
    assert rig.events.events == []


@pytest.mark.parametrize("kind", sorted(RETRYABLE_KINDS))
async def test_what_may_pass_is_tried_again(kind):
    """Each retryable kind gets the configured number of attempts."""
    rig = Rig([failed(kind)] * 4 + ["answer"])
    assert (await rig.ask()).attempts == 5
    assert rig.calls == 5


async def test_no_attempt_begins_after_the_wait_that_uses_up_the_time():
    """The wait before it would leave no time for an answer: the failure is told at once, and nothing is paid."""
    rig = Rig([failed("server"), "never"], limited=True, latency_s=7.0)
    with pytest.raises(ModelError, match="it was server"):
        await rig.clock.drive(rig.client.complete(replace(REQUEST, timeout_s=7.2)))
    assert (rig.calls, rig.clock.monotonic()) == (1, 7.0)
    assert rig.delays == []


async def test_an_attempt_gets_the_time_that_the_wait_leaves():
    """A failure early on is tried again, with what is left of the question's time."""
    rig = Rig([failed("server"), "answer"], limited=True, latency_s=3.0)
    reply = await rig.clock.drive(rig.client.complete(replace(REQUEST, timeout_s=7.2)))
    assert (reply.text, rig.calls) == ("answer", 2)
    assert 3.7 <= rig.model.requests[1].timeout_s <= 3.95


async def test_the_last_failure_is_raised_when_all_attempts_failed():
    """The user sees what really happened, not a wrapper."""
    rig = Rig([failed("server"), failed("network"), failed("timeout")], attempts=3)
    with pytest.raises(ModelError, match="it was timeout"):
        await rig.ask()
    assert rig.calls == 3
    assert [e.kind for e in rig.events.of(CallRetry)] == ["server", "network"]


@pytest.mark.parametrize("kind", sorted(FAILURE_KINDS - RETRYABLE_KINDS - {"protocol", "empty"}))
async def test_what_cannot_pass_is_not_tried_again(kind):
    """One request, no wait."""
    rig = Rig([failed(kind), "never"])
    with pytest.raises(ModelError, match=kind):
        await rig.ask()
    assert (rig.calls, rig.clock.monotonic()) == (1, 0)


@pytest.mark.parametrize("kind", ["protocol", "empty"])
async def test_odd_answers_get_one_more_chance(kind):
    """Twice the same nonsense is no accident."""
    rig = Rig([failed(kind), failed(kind), "never"])
    with pytest.raises(ModelError, match=kind):
        await rig.ask()
    assert rig.calls == 2
    assert [(e.attempt, e.max) for e in rig.events.of(CallRetry)] == [(1, 2)]


async def test_the_one_more_chance_is_one_in_all():
    """Other failures between them do not reset the count."""
    rig = Rig([failed("empty"), failed("server"), failed("protocol"), "never"])
    with pytest.raises(ModelError, match="protocol"):
        await rig.ask()
    assert rig.calls == 3


async def test_a_single_attempt_means_no_retry():
    """`retry: {attempts: 1}` switches retries off, also for odd answers."""
    for kind in ("server", "empty"):
        rig = Rig([failed(kind)], attempts=1)
        with pytest.raises(ModelError):
            await rig.ask()
        assert rig.calls == 1


async def test_a_cut_stream_is_tried_again_from_the_start():
    """What was streamed before is declared void, and the answer is whole."""
    rig = Rig([Partial(text="half", error=failed("network")), "a whole answer"])
    sink = RecordingText()
    reply = await rig.ask(sink)
    assert (sink.text, sink.restarts, reply.attempts) == ("a whole answer", 1, 2)


async def test_nothing_is_restarted_that_never_began():
    """A failure before the first piece needs no restart."""
    rig = Rig([failed("server"), "answer"])
    sink = RecordingText()
    await rig.ask(sink)
    assert (sink.text, sink.restarts) == ("answer", 0)


class TestDelays:
    async def test_they_double_with_jitter_up_to_a_cap(self):
        """0.5 s, 1, 2 ... at most 30, each between half and all of it."""
        rig = Rig([failed()] * 9 + ["answer"], attempts=10)
        await rig.ask()
        tops = [min(0.5 * 2**n, 30.0) for n in range(9)]
        assert all(top / 2 <= d <= top for d, top in zip(rig.delays, tops, strict=True))
        assert rig.clock.monotonic() == pytest.approx(sum(rig.delays), abs=0.01)

    async def test_callers_do_not_return_together(self):
        """Different random numbers, different delays."""
        delays = set()
        for seed in range(20):
            rig = Rig([failed(), "answer"], seed=seed)
            await rig.ask()
            delays |= set(rig.delays)
        assert len(delays) > 15

    async def test_what_the_provider_asks_for_is_honoured(self):
        """Not a moment less, and little more."""
        rig = Rig([failed("rate_limit", retry_after_s=7.0), "answer"])
        await rig.ask()
        assert 7.0 <= rig.delays[0] <= 7.7

    @pytest.mark.parametrize("asked", [0.0, -5.0])
    async def test_a_hint_that_says_nothing_is_none(self, asked):
        """Zero and negative count as absent."""
        rig = Rig([failed("rate_limit", retry_after_s=asked), "answer"])
        await rig.ask()
        assert 0.25 <= rig.delays[0] <= 0.5

    async def test_a_hint_of_up_to_two_minutes_is_cut_to_half_a_minute(self):
        """A limit per minute passes: it is asked again."""
        rig = Rig([failed("rate_limit", retry_after_s=120.0), "answer"])
        await rig.ask()
        assert 30.0 <= rig.delays[0] <= 33.0

    @pytest.mark.parametrize("kind", ["rate_limit", "server"])
    async def test_whoever_asks_for_more_is_not_asked_again(self, kind):
        """Above two minutes the call fails at once, says so, and counts as a rate limit."""
        rig = Rig([failed(kind, retry_after_s=121.0), "never"])
        with pytest.raises(ModelError, match=r"asks to wait 121 s, swarm waits 30") as caught:
            await rig.ask()
        assert (caught.value.kind, caught.value.retry_after_s) == ("rate_limit", 121.0)
        assert caught.value.attempts == 1
        assert caught.value.exit_code == 75
        assert (rig.calls, rig.clock.monotonic()) == (1, 0)

    async def test_the_retry_is_announced_before_the_wait(self):
        """A display can say what goes on while it goes on."""
        rig = Rig([failed("rate_limit", retry_after_s=9.0), "answer"])
        async with asyncio.TaskGroup() as group:
            group.create_task(rig.client.complete(REQUEST))
            await rig.clock.advance(1)
            (event,) = rig.events.of(CallRetry)
            assert (event.attempt, event.max, event.kind) == (1, 5, "rate_limit")
            assert (event.agent, event.purpose, event.message) == (
                "scan[3]",
                "agent",
                "it was rate_limit",
            )
            await rig.clock.advance(20)


class TestPassingThrough:
    @pytest.mark.parametrize("moment", [0.5, 1.1])
    async def test_a_cancellation_passes_at_once(self, moment):
        """In the request, or in the wait after it: nothing more is sent."""
        rig = Rig([failed("rate_limit", retry_after_s=20.0), "never"], latency_s=1.0)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(rig.client.complete(REQUEST))
            await rig.clock.advance(moment)
            call.cancel()
            await rig.clock.settle()
            assert call.cancelled()
        assert rig.calls == 1
        assert rig.clock.sleeping == 0

    async def test_a_bug_passes_as_it_is(self):
        """Only model errors are retried."""
        rig = Rig([])
        with pytest.raises(ScriptExhausted):
            await rig.ask()
        assert rig.events.of(CallRetry) == []

    async def test_many_at_once_do_not_mix(self):
        """Tenacity's state is not shared between calls."""
        clock, events = ManualClock(start=0), RecordingRecorder()
        tries = dict.fromkeys(range(50), 0)

        def answer(request):
            number = request.sample
            tries[number] += 1
            return f"{number}" if tries[number] > number % 5 else failed()

        client = RetryingClient(
            ScriptedClient(answer, clock=clock, latency_s=0.1),
            attempts=5,
            clock=clock,
            rng=random.Random(3),
            emit=events.emit,
        )

        async def run():
            async with asyncio.TaskGroup() as group:
                return [
                    group.create_task(client.complete(replace(REQUEST, sample=number)))
                    for number in range(50)
                ]

        replies = [call.result() for call in await clock.drive(run())]
        assert [reply.text for reply in replies] == [f"{n}" for n in range(50)]
        assert [reply.attempts for reply in replies] == [n % 5 + 1 for n in range(50)]

    async def test_attempts_below_one_are_refused(self):
        """A client that never asks is a mistake."""
        with pytest.raises(ValueError, match="attempts"):
            Rig([], attempts=0)

    async def test_closing_closes_what_is_inside(self):
        """The chain is closed from the outside."""
        rig = Rig([])
        await rig.client.close()
        assert rig.model.closed


class TestOverTheLimiter:
    async def test_each_attempt_is_a_call_of_its_own(self):
        """`call.started` counts attempts."""
        rig = Rig([failed(), failed("network"), "answer"], limited=True)
        reply = await rig.ask()
        assert [e.attempt for e in rig.events.of(CallStarted)] == [1, 2, 3]
        assert reply.attempts == 3

    async def test_seconds_run_from_the_first_request_to_the_last_byte(self):
        """Retries and their waits count."""
        rig = Rig([failed(), "answer"], limited=True, latency_s=2.0)
        reply = await rig.ask()
        assert reply.seconds == pytest.approx(4.0 + rig.delays[0], abs=0.01)

    async def test_waiting_for_a_slot_is_not_counted(self):
        """Neither before the first request nor between two of them."""
        rig = Rig([failed("server"), "other", "answer"], limited=True, latency_s=3.0)
        other = ModelRequest(model=REQUEST.model, messages=())

        async def run():
            async with asyncio.TaskGroup() as group:
                first = group.create_task(rig.client.complete(REQUEST))
                await asyncio.sleep(0)
                second = group.create_task(rig.client.complete(other))
            return first.result(), second.result()

        first, second = await rig.clock.drive(run())
        assert rig.clock.monotonic() == pytest.approx(9.0)
        assert second.seconds == 3.0
        # 3 s failed, 3 s behind the other (the delay of the retry lies within), 3 s answered.
        assert first.seconds == pytest.approx(6.0 + rig.delays[0], abs=0.01)

    async def test_a_429_is_waited_out_at_the_gate(self):
        """The retry says how long that takes, and adds nothing to it; it is no busy time."""
        rig = Rig([failed("rate_limit", retry_after_s=9.0), "answer"], limited=True, latency_s=1.0)
        reply = await rig.ask()
        assert (rig.delays, rig.clock.monotonic()) == ([9.0], 11.0)
        assert (reply.attempts, reply.seconds) == (2, 2.0)

    async def test_429s_cost_no_attempts_while_others_are_answered(self):
        """Six refusals with answers in between, and then a failure of another kind: it still goes on."""
        refusals = iter([failed("rate_limit")] * 6 + [failed("server"), "answer"])
        rig = Rig(lambda r: "other" if r.sample else next(refusals), limited=True, attempts=2)

        async def run():
            await rig.client.complete(replace(REQUEST, sample=1))
            async with asyncio.TaskGroup() as group:
                question = group.create_task(rig.client.complete(REQUEST))
                while not question.done():
                    await rig.client.complete(replace(REQUEST, sample=1))
                    await rig.clock.sleep(0.1)
            return question.result()

        reply = await rig.clock.drive(run())
        assert (reply.text, reply.attempts) == ("answer", 8)
        assert [e.kind for e in rig.events.of(CallRetry)] == ["rate_limit"] * 6 + ["server"]

    async def test_when_nobody_is_answered_it_ends(self):
        """Five episodes, three quarters of a minute, and the last refusal is raised."""
        rig = Rig(lambda _: failed("rate_limit"), limited=True)
        with pytest.raises(ModelError, match="it was rate_limit") as caught:
            await rig.ask()
        assert rig.delays == [0.25, 1.5, 9.0, 30.0]
        assert [(e.attempt, e.max) for e in rig.events.of(CallRetry)] == [
            (1, 5),
            (2, 5),
            (3, 5),
            (4, 5),
        ]
        assert (caught.value.attempts, rig.calls) == (5, 5)
        assert rig.clock.monotonic() == pytest.approx(40.75)

    async def test_with_a_single_attempt_not_even_a_429_is_repeated(self):
        """`retry: {attempts: 1}` means one request."""
        rig = Rig([failed("rate_limit")], limited=True, attempts=1)
        with pytest.raises(ModelError):
            await rig.ask()
        assert (rig.calls, rig.clock.monotonic()) == (1, 0)

    async def test_a_question_that_is_refused_again_and_again_lets_others_pass(self):
        """It may ask for more than its share of a minute: it waits longer each time, and is given up at last."""

        def answer(request):
            return "small" if request.sample else failed("rate_limit")

        rig = Rig(answer, limited=True, attempts=3, latency_s=0.1)
        small = 0

        async def others(stop):
            nonlocal small
            while not stop.is_set():
                await rig.client.complete(replace(REQUEST, sample=1))
                small += 1

        async def run():
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(others(stop))
                try:
                    await rig.client.complete(REQUEST)
                finally:
                    stop.set()

        with pytest.raises(ExceptionGroup) as caught:
            await rig.clock.drive(run())
        (error,) = caught.value.exceptions
        assert (error.kind, error.attempts) == ("rate_limit", 12)
        assert rig.delays[-1] > 10
        assert small > 200

    async def test_without_a_limiter_the_reply_knows_best(self):
        """Whoever measured the time is believed."""
        rig = Rig([ModelReply(text="a", model="m", seconds=4.5)])
        assert (await rig.ask()).seconds == 4.5


def test_a_tracked_sink_restarts_once():
    """Only a sink that holds something is restarted."""
    text = RecordingText()
    sink = TrackedSink(text)
    sink.begin()
    sink.feed("a")
    sink.begin()
    sink.begin()
    assert text.restarts == 1
