"""The shipped fakes behave like what they stand for."""

import asyncio

import pytest

from swarmcli.core.events import CallStarted, Stamped, Warned
from swarmcli.core.ports import Message, ModelReply, ModelRequest
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Price
from swarmcli.testing import (
    ManualClock,
    MemoryStore,
    Partial,
    RecordingRecorder,
    RecordingSink,
    RecordingText,
    ScriptedClient,
    ScriptExhausted,
)


def ask(text="q", **model):
    return ModelRequest(
        model=ModelSpec(id="openai/gpt", **model), messages=(Message(role="user", content=text),)
    )


class TestScriptedClient:
    async def test_it_answers_in_order_and_remembers_the_requests(self):
        """A list is answered from front to back."""
        client = ScriptedClient(["one", ModelReply(text="two", model="m")])
        assert [(await client.complete(ask(q))).text for q in "ab"] == ["one", "two"]
        assert [r.messages[0].content for r in client.requests] == ["a", "b"]

    async def test_a_call_too_many_is_an_assertion(self):
        """A script that runs out says which call was too many."""
        client = ScriptedClient(["one"])
        await client.complete(ask())
        with pytest.raises(ScriptExhausted, match=r"call 2 to openai/gpt, but the script holds 1"):
            await client.complete(ask())
        assert issubclass(ScriptExhausted, AssertionError)

    async def test_a_function_sees_the_request(self):
        """A script may be a function of the request."""
        client = ScriptedClient(lambda request: request.messages[0].content.upper())
        assert (await client.complete(ask("abc"))).text == "ABC"

    async def test_an_error_is_raised_anew_each_time(self):
        """A scripted error does not collect tracebacks over many calls."""
        error = ModelError("busy", kind="rate_limit", model="m", retry_after_s=2.0, hint="wait")
        client = ScriptedClient(lambda _: error)
        with pytest.raises(ModelError) as caught:
            await client.complete(ask())
        assert caught.value is not error
        assert (caught.value.kind, caught.value.retry_after_s) == ("rate_limit", 2.0)
        assert error.__traceback__ is None

    async def test_a_text_is_priced_where_the_model_has_a_price(self):
        """Usage is estimated, cost follows the price, and is unknown without one."""
        client = ScriptedClient(lambda _: "x" * 40)
        priced = await client.complete(ask(price=Price(input_per_mtok=0, output_per_mtok=1e6)))
        assert priced.usage is not None
        assert priced.cost_usd == priced.usage.output_tokens == 11
        assert (await client.complete(ask())).cost_usd is None

    async def test_it_streams_in_pieces(self):
        """A sink gets the answer in order, in more than one piece."""
        sink = RecordingText()
        client = ScriptedClient(["hello world"], chunk_chars=4)
        reply = await client.complete(ask(), sink)
        assert sink.pieces == ["hell", "o wo", "rld"]
        assert sink.text == reply.text

    async def test_a_stream_can_break(self):
        """A partial answer is streamed, then its error is raised."""
        sink = RecordingText()
        error = ModelError("cut", kind="truncated")
        with pytest.raises(ModelError, match="cut"):
            await ScriptedClient([Partial(text="half", error=error)]).complete(ask(), sink)
        assert sink.text == "half"

    async def test_latency_passes_on_the_clock_and_shows_in_peak(self):
        """Calls overlap, and take the time that the script says."""
        clock = ManualClock()
        client = ScriptedClient(lambda _: "a", clock=clock, latency_s=2.0)

        async def both():
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(client.complete(ask())) for _ in range(2)]
            return [call.result() for call in calls]

        before = clock.monotonic()
        replies = await clock.drive(both())
        assert clock.monotonic() - before == 2.0
        assert [reply.seconds for reply in replies] == [2.0, 2.0]
        assert (client.peak, client.in_flight) == (2, 0)

    async def test_a_cancelled_call_is_counted(self):
        """Cancellation passes through and leaves nothing in flight."""
        clock = ManualClock()
        client = ScriptedClient(lambda _: "a", clock=clock, latency_s=2.0)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(client.complete(ask()))
            await clock.advance(1)
            call.cancel()
        assert (client.cancelled, client.in_flight) == (1, 0)

    async def test_latency_without_a_clock_is_refused(self):
        """A fake never waits for real."""
        with pytest.raises(ValueError, match="needs a clock"):
            await ScriptedClient(["a"], latency_s=1.0).complete(ask())


class TestManualClock:
    async def test_time_stands_still_until_it_is_moved(self):
        """Sleepers wake in order of their deadlines, each at its own time."""
        clock, woken = ManualClock(start=0), []

        async def sleeper(seconds):
            await clock.sleep(seconds)
            woken.append((seconds, clock.monotonic()))

        async with asyncio.TaskGroup() as group:
            for seconds in (3, 1, 2):
                group.create_task(sleeper(seconds))
            await clock.settle()
            assert clock.sleeping == 3
            await clock.advance(2.5)
            assert woken == [(1, 1), (2, 2)]
            assert clock.monotonic() == 2.5
            await clock.advance(10)
        assert woken[-1] == (3, 3)

    async def test_a_task_may_sleep_again_while_time_passes(self):
        """One step of time holds as many naps as fit into it."""
        clock, naps = ManualClock(start=0), []

        async def napper():
            for _ in range(5):
                await clock.sleep(1)
                naps.append(clock.monotonic())

        async with asyncio.TaskGroup() as group:
            group.create_task(napper())
            await clock.advance(5)
        assert naps == [1, 2, 3, 4, 5]

    async def test_long_chains_of_wake_ups_happen_in_no_time(self):
        """Time does not move while any task can still run."""
        clock, lock, seen = ManualClock(start=0), asyncio.Lock(), []

        async def queue_up():
            async with lock:
                await asyncio.sleep(0)
                seen.append(clock.monotonic())

        async def run():
            await clock.sleep(1)
            async with asyncio.TaskGroup() as group:
                for _ in range(300):
                    group.create_task(queue_up())

        await clock.drive(run())
        assert seen == [1.0] * 300

    async def test_a_cancelled_sleeper_is_forgotten(self):
        """Cancelling a sleep takes it off the clock."""
        clock = ManualClock()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(clock.sleep(5))
            await clock.settle()
            task.cancel()
        assert clock.sleeping == 0
        await clock.advance(10)

    async def test_drive_raises_what_the_work_raises(self):
        """Errors come out as they are, not in a group."""
        clock = ManualClock()

        async def fail():
            await clock.sleep(1)
            raise KeyError("x")

        with pytest.raises(KeyError):
            await clock.drive(fail())

    async def test_drive_waits_for_threads(self):
        """Work in a thread is given real time, not virtual time."""
        clock = ManualClock()
        assert await clock.drive(asyncio.to_thread(lambda: 7)) == 7
        assert clock.monotonic() == ManualClock().monotonic()


def test_recorders_keep_what_they_get():
    """Events, texts and entries come back as they went in."""
    sink, warned = RecordingSink(), Warned(message="x")
    stamped = Stamped(seq=1, ts="", run="r", t=0.0, event=warned)
    sink.feed(stamped)
    sink.close()
    assert (sink.stamped, sink.events, sink.closed) == ([stamped], [warned], 1)
    text = RecordingText()
    text.feed("a")
    text.restart()
    text.feed("b")
    assert (text.text, text.restarts) == ("b", 1)


async def test_the_recorder_knows_which_events_were_committed():
    """`commit` is recorded beside `emit`."""
    recorder = RecordingRecorder()
    started = CallStarted(model="m", purpose="agent")
    recorder.emit(started)
    await recorder.commit(Warned(message="x"))
    assert recorder.of(CallStarted) == [started]
    assert recorder.committed == [Warned(message="x")]


async def test_the_memory_store_keeps_entries():
    """What was put is there, and nothing else."""
    store = MemoryStore()
    store.put("k", b"v")
    assert (await store.get("k"), await store.get("l")) == (b"v", None)
