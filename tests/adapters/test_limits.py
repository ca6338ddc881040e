"""Limits: never too many, never out of turn, nothing lost, and next to no work while waiting."""

import asyncio
import contextlib
import random
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from asyncio_throttle import throttler
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.adapters.allowance import WINDOW_S, Claim, LocalAllowance, Wait
from swarmcli.adapters.attempt import Attempt, Flight
from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.limits import LimitedClient, rate_for
from swarmcli.core.events import CallCompleted, CallStarted, LimitChanged, LimitWaiting, Usage
from swarmcli.core.ports import Headroom, Message, ModelReply, ModelRequest
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Rate
from swarmcli.testing import ManualClock, RecordingRecorder, ScriptedClient

MODEL = ModelSpec(id="openai/gpt")


def ask(number=0, model=MODEL, **fields):
    content = Message(role="user", content=f"{number}")
    return ModelRequest(model=model, messages=(content,), agent=f"a{number}", **fields)


def busy(retry_after_s=None):
    return ModelError("busy", kind="rate_limit", model=MODEL.id, retry_after_s=retry_after_s)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the real asyncio-throttle reads too."""
    manual = ManualClock(start=0)
    monkeypatch.setattr(throttler, "time", SimpleNamespace(monotonic=manual.monotonic))
    monkeypatch.setattr(throttler, "asyncio", SimpleNamespace(sleep=manual.sleep))
    return manual


@pytest.fixture
def events():
    return RecordingRecorder()


class Door(ScriptedClient):
    """Notes when each request came through."""

    def __init__(self, clock, script=lambda _: "answer", latency_s=1.0):
        super().__init__(script, clock=clock, latency_s=latency_s)
        self.clock = clock
        self.times = []

    async def complete(self, request, stream_to=None):
        self.times.append(self.clock.monotonic())
        return await super().complete(request, stream_to)

    @property
    def order(self):
        return [int(request.messages[0].content) for request in self.requests]


class Crowded:
    """A provider that takes ten requests at once and quickly refuses the others."""

    def __init__(self, clock, refusals):
        self.clock, self.refusals, self.working = clock, refusals, 0

    async def complete(self, request, stream_to=None):
        if self.working >= 10:
            self.refusals[int(request.messages[0].content)] += 1
            await self.clock.sleep(0.01)
            raise busy()
        self.working += 1
        await self.clock.sleep(1.0)
        self.working -= 1
        return ModelReply(text="ok", model=request.model.id)

    async def close(self):
        pass


async def all_of(client, requests):
    """Every outcome, in order; a failure is its error."""

    async def one(request):
        try:
            return await client.complete(request)
        except ModelError as exc:
            return exc

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(one(request)) for request in requests]
    return [call.result() for call in calls]


def most_in_window(times, window_s=60.0):
    return max(sum(start <= t < start + window_s for t in times) for start in times)


class TestRequestsPerMinute:
    async def test_no_sliding_minute_holds_more_than_the_limit(self, clock, events):
        """At most rpm requests leave in any 60 s, and they leave in the order they came."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="openai/*", rpm=20)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n) for n in range(70)]))
        assert most_in_window(door.times) == 20
        assert door.order == list(range(70))
        assert door.times[-1] < 3 * WINDOW_S + 5

    async def test_a_late_wave_does_not_get_a_second_burst(self, clock, events):
        """Idle time saves up nothing beyond one window's worth."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", rpm=10)], clock=clock, emit=events.emit
        )

        async def waves():
            for size in (6, 10, 3, 12):
                await all_of(client, [ask(n) for n in range(size)])
                await clock.sleep(17)

        await clock.drive(waves())
        assert most_in_window(door.times) <= 10

    async def test_a_few_requests_do_not_wait(self, clock, events):
        """A run below the limit leaves within a tenth of a second, and says nothing."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", rpm=20)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n) for n in range(16)]))
        assert max(door.times) < 0.1
        assert len(set(door.times)) == 16  # spaced: what counts is when they really leave
        assert events.of(LimitWaiting) == []

    async def test_a_pause_wastes_no_window(self, clock, events):
        """A permit that a 429 outlives is not used later, where it would crowd the window."""
        replies = iter([busy(retry_after_s=30), *["ok"] * 40])
        door = Door(clock, lambda _: next(replies), latency_s=50)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", rpm=5)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n) for n in range(20)]))
        assert most_in_window(door.times) <= 5
        assert not any(50 < t < 80 for t in door.times)
        assert door.order == list(range(20))

    async def test_the_real_thing(self, events):
        """asyncio-throttle on the real clock: 30 requests at 10 per half second."""
        door = Door(SystemClock(), latency_s=0)
        client = LimitedClient(
            door,
            rates=[Rate(pattern="*", rpm=10)],
            clock=SystemClock(),
            emit=events.emit,
            allowance_of=lambda _, caps: LocalAllowance(caps, SystemClock(), 0.5),
        )
        await all_of(client, [ask(n) for n in range(30)])
        assert most_in_window(door.times, 0.5) <= 10
        assert door.order == list(range(30))
        assert 1.0 <= door.times[-1] - door.times[0] < 2.0

    async def test_waiting_costs_next_to_nothing(self, events):
        """Hundreds of waiters need a small part of a core."""
        client = LimitedClient(
            Door(SystemClock(), latency_s=0),
            rates=[Rate(pattern="*", rpm=1)],
            clock=SystemClock(),
            emit=events.emit,
        )
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(client.complete(ask(n))) for n in range(500)]
            await asyncio.sleep(0.1)
            before = time.process_time()
            await asyncio.sleep(1.0)
            spent = time.process_time() - before
            for call in calls:
                call.cancel()
        assert spent < 0.1


class TestTokensPerMinute:
    async def test_estimates_are_reserved_and_answers_settle_them(self, clock, events):
        """No minute's answers hold more tokens than allowed, and short answers make room."""
        usage = Usage(input_tokens=100, output_tokens=100)
        door = Door(clock, lambda r: ModelReply(text="a", model=r.model.id, usage=usage))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", tpm=2000)], clock=clock, emit=events.emit
        )
        requests = [ask(n, max_output_tokens=490) for n in range(30)]
        await clock.drive(all_of(client, requests))
        assert most_in_window(door.times) == 8  # a ninth might take 500 more than the 1,600
        assert door.order == list(range(30))
        assert {e.reason for e in events.of(LimitWaiting)} == {"2,000 tokens a minute", ""}

    async def test_a_request_larger_than_the_limit_goes_alone(self, clock, events):
        """It cannot be sent in any other way, and must not hang."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", tpm=100)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n, max_output_tokens=500) for n in range(3)]))
        gaps = [b - a for a, b in zip(door.times, door.times[1:], strict=False)]
        assert min(gaps) >= 60


class TestConcurrency:
    async def test_a_declared_parallel_is_the_limit_from_the_start(self, clock, events):
        """Never more at once, no slow start, first come first served."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=7)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n) for n in range(30)]))
        assert door.peak == 7
        assert door.times.count(0) == 7
        assert door.order == list(range(30))
        assert clock.monotonic() == 5

    async def test_an_undeclared_limit_is_found_by_slow_start(self, clock, events):
        """Sixteen at first, about twice as many each round trip, and no bursts on the way."""
        door = Door(clock)
        client = LimitedClient(door, clock=clock, emit=events.emit)
        await clock.drive(all_of(client, [ask(n) for n in range(300)]))
        by_second = [sum(second <= t < second + 1 for t in door.times) for second in range(5)]
        assert by_second == [16, 32, 64, 128, 60]
        assert (
            door.times.count(1.0) <= 18
        )  # sixteen have come home, and the new places open one by one

    async def test_the_caller_gives_local_models_a_default(self, clock, events):
        """A default per model holds where no rate is declared, and a declared one wins."""
        local = ModelSpec(id="ollama/x", api_base="http://127.0.0.1:1")
        door = Door(clock)
        client = LimitedClient(
            door, clock=clock, emit=events.emit, default_parallel=lambda m: 2 if m.api_base else 9
        )
        await clock.drive(all_of(client, [ask(n, local) for n in range(6)]))
        assert door.peak == 2
        client = LimitedClient(
            door := Door(clock),
            rates=[Rate(pattern="ollama/*", parallel=5)],
            clock=clock,
            emit=events.emit,
            default_parallel=lambda _: 2,
        )
        await clock.drive(all_of(client, [ask(n, local) for n in range(6)]))
        assert door.peak == 5

    async def test_buckets_do_not_wait_for_each_other(self, clock, events):
        """Another endpoint, model or key has a queue of its own."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        models = [
            MODEL,
            ModelSpec(id="openai/other"),
            ModelSpec(id=MODEL.id, api_base="http://b"),
            ModelSpec(id=MODEL.id, api_key_env="OTHER_KEY"),
        ]
        await clock.drive(all_of(client, [ask(n, m) for n, m in enumerate(models)]))
        assert door.peak == 4

    @pytest.mark.parametrize(
        ("model", "parallel"), [("openai/gpt-5", 1), ("openai/o3", 2), ("ollama/x", 3), ("y", None)]
    )
    def test_the_longest_matching_pattern_counts(self, model, parallel):
        """A rule for one model wins over the one for its provider."""
        rates = [
            Rate(pattern="*/*", parallel=3),
            Rate(pattern="openai/*", parallel=2),
            Rate(pattern="openai/gpt*", parallel=1),
        ]
        rate = rate_for(model, rates)
        assert (rate and rate.parallel) == parallel


class TestRateLimited:
    async def test_a_429_pauses_the_whole_bucket(self, clock, events):
        """While one was told to wait, no other leaves."""
        replies = iter([busy(retry_after_s=5), *["ok"] * 20])
        door = Door(clock, lambda _: next(replies))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=2)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n) for n in range(6)]))
        assert door.times[:2] == [0, 0]
        assert min(door.times[2:]) == 6

    async def test_without_a_hint_the_pause_grows(self, clock, events):
        """A quarter of a second, six times as long, and so on: until an answer comes."""
        replies = iter([busy(), busy(), busy(), "ok", busy(), "ok"])
        door = Door(clock, lambda _: next(replies))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n) for n in range(6)]))
        gaps = [b - a - 1 for a, b in zip(door.times, door.times[1:], strict=False)]
        assert gaps == [0.25, 1.5, 9, 0, 0.25]

    async def test_a_hint_of_a_minute_is_cut(self, clock, events):
        """No provider holds everybody for more than 30 s at a time."""
        replies = iter([busy(retry_after_s=100), "ok"])
        door = Door(clock, lambda _: next(replies))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(0), ask(1)]))
        assert door.times == [0, 31]

    async def test_whoever_is_asked_to_come_back_tomorrow_is_told_at_once(self, clock, events):
        """Above two minutes nobody waits: when a second request hears the same, all have its error."""
        door = Door(clock, lambda _: busy(retry_after_s=3600))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        errors = await clock.drive(all_of(client, [ask(n) for n in range(300)]))
        assert {(e.kind, e.retry_after_s) for e in errors} == {("rate_limit", 3600)}
        assert len({id(e) for e in errors}) == 300
        assert (door.times, clock.monotonic()) == ([0, 1.25], 2.25)

    async def test_a_hopeless_bucket_keeps_nobody_waiting(self, clock, events):
        """After five episodes without an answer everybody who waits fails together; later callers may ask again."""
        door = Door(clock, lambda _: busy() if clock.monotonic() < 100 else "ok", latency_s=0.1)
        client = LimitedClient(door, clock=clock, emit=events.emit)

        async def run():
            first = await all_of(client, [ask(n) for n in range(300)])
            assert 40 < clock.monotonic() < 45
            assert {e.kind for e in first} == {"rate_limit"}
            await clock.sleep(60)
            return await all_of(client, [ask(n) for n in range(20)])

        assert {reply.text for reply in await clock.drive(run())} == {"ok"}
        assert sum(t < 100 for t in door.times) <= 20

    async def test_a_burst_of_429s_is_one_lesson(self, clock, events):
        """Thirty refusals among a hundred leave seventy at once, and nobody waits longer for that."""
        replies = iter([busy()] * 30 + ["ok"] * 300)
        door = Door(clock, lambda _: next(replies))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=100)], clock=clock, emit=events.emit
        )

        async def run():
            await all_of(client, [ask(n) for n in range(100)])
            await all_of(client, [ask(n) for n in range(200)])

        await clock.drive(run())
        assert [door.times.count(t) for t in (0, 1, 2)] == [100, 70, 70]
        assert events.of(LimitChanged)[0].bucket == "openai/gpt"

    async def test_a_single_429_costs_little(self, clock, events):
        """One refusal among a hundred is no reason to crawl."""
        replies = iter([busy(retry_after_s=1)] + ["ok"] * 300)
        door = Door(clock, lambda _: next(replies))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=100)], clock=clock, emit=events.emit
        )

        async def run():
            await all_of(client, [ask(n) for n in range(100)])
            await all_of(client, [ask(n) for n in range(200)])

        await clock.drive(run())
        assert clock.monotonic() <= 6

    async def test_a_crowd_finds_the_number_that_the_provider_takes(self, clock, events):
        """A provider that takes 10 at once gets 300 answered, with few refusals for each."""
        refusals = dict.fromkeys(range(300), 0)
        door = Crowded(clock, refusals)
        client = LimitedClient(door, clock=clock, emit=events.emit)

        async def persistent(number):
            while True:
                try:
                    return await client.complete(ask(number))
                except ModelError:
                    await clock.sleep(0.5)

        async def run():
            async with asyncio.TaskGroup() as group:
                for number in range(300):
                    group.create_task(persistent(number))

        await clock.drive(run())
        assert max(refusals.values()) <= 3
        assert sum(refusals.values()) <= 340
        assert clock.monotonic() <= 33

    async def test_a_provider_that_is_down_is_not_hammered(self, clock, events):
        """While everything is refused, one request at a time asks whether it is over."""
        door = Door(clock, lambda _: busy() if clock.monotonic() < 60 else "ok", latency_s=0.1)
        client = LimitedClient(door, clock=clock, emit=events.emit)

        async def persistent(number):
            while isinstance((await all_of(client, [ask(number)]))[0], ModelError):
                pass

        async def run():
            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(persistent(number))

        await clock.drive(run())
        assert sum(2 < t < 60 for t in door.times) <= 10
        assert clock.monotonic() < 60 + 35

    async def test_refusals_by_chance_do_not_make_it_crawl(self, clock, events):
        """One in six is refused, whatever the load, and asks for a second: slow start and the pauses are the price."""
        chance = random.Random(7)
        door = Door(clock, lambda _: busy(1.0) if chance.random() < 1 / 6 else "ok")
        client = LimitedClient(door, clock=clock, emit=events.emit)

        async def persistent(number):
            while isinstance((await all_of(client, [ask(number)]))[0], ModelError):
                pass

        async def run():
            async with asyncio.TaskGroup() as group:
                for number in range(300):
                    group.create_task(persistent(number))

        await clock.drive(run())
        assert clock.monotonic() < 30
        assert door.peak > 50

    async def test_other_failures_pause_nobody(self, clock, events):
        """Only a 429 is about the rate."""
        replies = iter([ModelError("x", kind="server"), "ok", "ok"])
        door = Door(clock, lambda _: next(replies))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n) for n in range(3)]))
        assert door.times == [0, 1, 2]


class TestPassedOn:
    """What the parts around the limiter need to hear."""

    async def test_the_books_hear_of_everything(self, clock, events):
        """Each claim is freed once, settled when the tokens are known, and a 429's pause is handed on."""
        books = Books()
        usage = Usage(input_tokens=30, output_tokens=12)
        replies = iter([busy(retry_after_s=7), ModelReply(text="a", model=MODEL.id, usage=usage)])
        client = LimitedClient(
            Door(clock, lambda _: next(replies)),
            rates=[Rate(pattern="*", parallel=1)],
            clock=clock,
            emit=events.emit,
            allowance_of=lambda _, caps: books,
        )
        await clock.drive(all_of(client, [ask(0), ask(1)]))
        assert books.log == ["claim 1", "pause 7", "free 1", "claim 2", "settle 2: 42", "free 2"]

    async def test_books_that_say_wait_are_asked_again(self, clock, events):
        """Other processes may have taken the minute: the wait is theirs to name."""
        books = Books(waits=[Wait(3.0, "another process"), Wait(4.5, "another process")])
        door = Door(clock)
        client = LimitedClient(
            door, clock=clock, emit=events.emit, allowance_of=lambda _, caps: books
        )
        await clock.drive(all_of(client, [ask(0)]))
        assert door.times == [7.5]
        assert [e.reason for e in events.of(LimitWaiting)] == ["another process", ""]

    async def test_nothing_left_closes_the_gate_until_the_reset(self, clock, events):
        """An answer says that no request is left for 20 s: the next one leaves then, without a 429."""
        spent = ModelReply(
            text="a", model=MODEL.id, headroom=Headroom(requests=0, requests_reset_s=20.0)
        )
        replies = iter([spent, "b", "c"])
        door = Door(clock, lambda _: next(replies))
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        await clock.drive(all_of(client, [ask(n) for n in range(3)]))
        assert door.times == [0, 21, 22]

    async def test_a_question_that_goes_round_again_stands_before_fresh_ones(self, clock, events):
        """It has waited longest; among those that do, first come, first served."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        again = [Flight(sent=1, left_at=0.0), Flight(sent=1, left_at=0.0)]

        async def run():
            async with asyncio.TaskGroup() as group:
                for number in (0, 1, 2):
                    group.create_task(client.complete(ask(number)))
                await asyncio.sleep(0)
                for number, flight in zip((8, 9), again, strict=True):
                    group.create_task(client.complete(Attempt.of(ask(number), 2, flight)))

        await clock.drive(run())
        assert door.order == [0, 8, 9, 1, 2]

    async def test_the_estimate_is_told_when_the_request_leaves(self, clock, events):
        """What the budget has set aside stands on `call.started`."""
        client = LimitedClient(Door(clock), clock=clock, emit=events.emit)
        attempt = replace(Attempt.of(ask(), 1, Flight()), estimated_tokens=900, estimated_usd=0.25)
        await clock.drive(client.complete(attempt))
        (started,) = events.of(CallStarted)
        assert (started.estimated_tokens, started.estimated_usd) == (900, 0.25)

    async def test_the_first_429_is_told_at_once_and_then_once_a_second(self, clock, events):
        """The state of the bucket, with the pause that everybody makes."""
        replies = iter(["ok"] * 3 + [busy(retry_after_s=2)] + ["ok"] * 80)
        client = LimitedClient(
            Door(clock, lambda _: next(replies), latency_s=0.1),
            rates=[Rate(pattern="*", parallel=4)],
            clock=clock,
            emit=events.emit,
        )
        await clock.drive(all_of(client, [ask(n) for n in range(80)]))
        first, *later = events.of(LimitChanged)
        assert (first.parallel, first.pause_s) == (3, 2.0)
        assert first.reason == "rate limited by the provider"
        assert later[-1].parallel == 4
        assert len(later) <= clock.monotonic()


class Books:
    """An `Allowance` that writes down what it is told."""

    def __init__(self, waits=()):
        self.log, self.waits, self.claims = [], list(waits), 0

    def claim(self, tokens):
        if self.waits:
            return self.waits.pop(0)
        self.claims += 1
        self.log.append(f"claim {self.claims}")
        return Claim(self.claims)

    def settle(self, claim, tokens):
        self.log.append(f"settle {claim.id}: {tokens}")

    def free(self, claim):
        self.log.append(f"free {claim.id}")

    def pause(self, seconds):
        self.log.append(f"pause {seconds:g}")


class TestCancelled:
    async def test_a_waiter_that_is_cancelled_keeps_no_place(self, clock, events):
        """The next in line gets the slot."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(client.complete(ask(n))) for n in range(4)]
            await clock.settle()
            calls[1].cancel()
            calls[2].cancel()
            await clock.advance(2)
        assert door.order == [0, 3]

    @given(st.randoms(use_true_random=False))
    @settings(max_examples=40, deadline=None)
    def test_no_permit_is_ever_lost(self, rng):
        """Whoever is cancelled whenever: the limits hold, order stays, and the rest get through."""
        asyncio.run(self.storm(rng))

    async def storm(self, rng: random.Random):
        """Random arrivals and cancellations at a narrow door."""
        clock, events = ManualClock(start=0), RecordingRecorder()
        replies = (busy(retry_after_s=1), "ok", "ok", "ok", "ok", "ok")
        door = Door(clock, lambda _: rng.choice(replies), latency_s=0.7)
        client = LimitedClient(
            door,
            rates=[Rate(pattern="*", parallel=3, tpm=4000)],
            clock=clock,
            emit=events.emit,
        )
        ended = []

        async def one(number):
            with contextlib.suppress(ModelError):
                await client.complete(ask(number, max_output_tokens=90))
            ended.append(number)

        async def run():
            async with asyncio.TaskGroup() as group:
                calls = []
                for number in range(40):
                    calls.append(group.create_task(one(number)))
                    if rng.random() < 0.3:
                        await clock.sleep(rng.random())
                    if rng.random() < 0.4:
                        rng.choice(calls).cancel()
            cancelled = {n for n, call in enumerate(calls) if call.cancelled()}
            assert set(ended) | cancelled == set(range(40))
            await client.complete(ask(99))  # every place is free again

        with contextlib.suppress(ModelError):
            await clock.drive(run())
        assert door.peak <= 3
        assert door.order == sorted(door.order)
        assert door.in_flight == 0
        last = events.of(LimitWaiting)[-1:]
        assert all(event.waiting == 0 for event in last)


class TestEvents:
    async def test_a_call_starts_when_its_request_leaves(self, clock, events):
        """Waiting is neither `call.started` nor busy time."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        replies = await clock.drive(all_of(client, [ask(0), ask(1)]))
        assert [reply.seconds for reply in replies] == [1.0, 1.0]
        assert [(type(e).__name__, e.agent) for e in events.events if hasattr(e, "purpose")] == [
            ("CallStarted", "a0"),
            ("CallCompleted", "a0"),
            ("CallStarted", "a1"),
            ("CallCompleted", "a1"),
        ]
        completed = events.of(CallCompleted)[0]
        assert (completed.seconds, completed.cached) == (1.0, False)
        assert completed.tokens == replies[0].usage

    async def test_a_failed_call_has_started_but_not_completed(self, clock, events):
        """What failed is told by whoever gives up or tries again."""
        client = LimitedClient(Door(clock, lambda _: busy()), clock=clock, emit=events.emit)
        await clock.drive(all_of(client, [ask()]))
        assert len(events.of(CallStarted)) == 1
        assert events.of(CallCompleted) == []

    async def test_waiting_is_told_once_a_second_and_when_it_ends(self, clock, events):
        """Three hundred waiters are a handful of events."""
        client = LimitedClient(
            Door(clock, latency_s=0.1),
            rates=[Rate(pattern="*", parallel=10)],
            clock=clock,
            emit=events.emit,
        )
        await clock.drive(all_of(client, [ask(n) for n in range(300)]))
        told = events.of(LimitWaiting)
        assert 3 <= len(told) <= 6
        assert told[0].reason == "10 at once"
        assert [e.waiting for e in told] == sorted((e.waiting for e in told), reverse=True) or (
            told[0].waiting == 1
        )
        assert (told[-1].waiting, told[-1].reason) == (0, "")

    async def test_an_attempt_keeps_its_log_and_reaches_the_model_bare(self, clock, events):
        """The number of the try is told; time in the queue between tries is no busy time."""
        door = Door(clock)
        client = LimitedClient(
            door, rates=[Rate(pattern="*", parallel=1)], clock=clock, emit=events.emit
        )
        question, flight = ask(5), Flight()

        async def run():
            await client.complete(Attempt.of(question, 1, flight))
            async with asyncio.TaskGroup() as group:
                group.create_task(client.complete(ask(6)))
                await asyncio.sleep(0)
                group.create_task(client.complete(Attempt.of(question, 2, flight)))

        await clock.drive(run())
        assert [e.attempt for e in events.of(CallStarted)] == [1, 1, 2]
        assert door.requests[0] is question
        assert (flight.sent, flight.queued_s, flight.busy_s(clock.monotonic())) == (2, 1.0, 2.0)


async def test_closing_closes_what_is_inside(clock, events):
    """The chain is closed from the outside."""
    door = Door(clock)
    await LimitedClient(door, clock=clock, emit=events.emit).close()
    assert door.closed
