"""Shipped fakes: a model that follows a script, a clock that tests own, and recorders of what happened.

Rule: no real waiting, no network, no files. A fake that is asked for more than its script holds says so.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from swarmcli.core.events import Event, Stamped, Usage
from swarmcli.core.ports import ModelReply, ModelRequest, TextSink
from swarmcli.core.tokens import estimate_tokens
from swarmcli.errors import ModelError

if TYPE_CHECKING:
    from swarmcli.core.events import Sink
    from swarmcli.core.ports import Clock, ModelClient, Recorder

T = TypeVar("T")

_MANY_STEPS = 100_000
"""Loop iterations after which `ManualClock` no longer believes that the tasks come to rest."""
_STALLED_ROUNDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """A script's answer that breaks off: `text` is streamed, then `error` is raised."""

    text: str
    error: ModelError


Answer = str | ModelReply | ModelError | Partial
Script = Sequence[Answer] | Callable[[ModelRequest], Answer]


class ScriptExhausted(AssertionError):
    """More was asked than the script holds: the code under test made a call too many."""


class ScriptedClient:
    """A `ModelClient` that answers from a list, in order, or from a function of the request.

    Args:
        script: a text becomes a reply with estimated usage (and its price, where the model has
            one); a `ModelReply` is returned as it is; a `ModelError` is raised.
        clock: needed with a latency.
        latency_s: how long each answer takes, in all.
        chunk_chars: length of the pieces that a streamed answer comes in.
    """

    def __init__(
        self,
        script: Script,
        *,
        clock: "Clock | None" = None,
        latency_s: float | Callable[[ModelRequest], float] = 0.0,
        chunk_chars: int = 8,
    ) -> None:
        self.requests: list[ModelRequest] = []
        """Every request, in order of arrival."""
        self.in_flight = 0
        self.peak = 0
        """Most requests in flight at once."""
        self.cancelled = 0
        self.closed = False
        self._script = script
        self._clock = clock
        self._latency_s = latency_s
        self._chunk_chars = chunk_chars

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        index = len(self.requests)
        self.requests.append(request)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            answer = self._answer(request, index)
            latency_s = self._latency_s(request) if callable(self._latency_s) else self._latency_s
            return await self._deliver(request, answer, latency_s, stream_to)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        self.closed = True

    def _answer(self, request: ModelRequest, index: int) -> Answer:
        if callable(self._script):
            return self._script(request)
        if index >= len(self._script):
            raise ScriptExhausted(
                f"call {index + 1} to {request.model.id}, but the script holds {len(self._script)}"
            )
        return self._script[index]

    async def _deliver(
        self, request: ModelRequest, answer: Answer, latency_s: float, stream_to: TextSink | None
    ) -> ModelReply:
        match answer:
            case ModelError():
                await self._pass(latency_s)
                raise answer.copy()
            case Partial():
                await self._stream(answer.text, latency_s, stream_to)
                raise answer.error.copy()
            case ModelReply():
                await self._stream(answer.text, latency_s, stream_to)
                return answer
            case str():
                await self._stream(answer, latency_s, stream_to)
                return replace(reply_to(request, answer), seconds=latency_s)

    async def _stream(self, text: str, latency_s: float, stream_to: TextSink | None) -> None:
        if stream_to is None:
            await self._pass(latency_s)
            return
        step = self._chunk_chars
        pieces = [text[i : i + step] for i in range(0, len(text), step)]
        for piece in pieces:
            await self._pass(latency_s / len(pieces))
            stream_to.feed(piece)

    async def _pass(self, seconds: float) -> None:
        if self._clock is None:
            if seconds > 0:
                raise ValueError("a latency needs a clock")
            await asyncio.sleep(0)
            return
        await self._clock.sleep(seconds)


def reply_to(request: ModelRequest, text: str) -> ModelReply:
    """What a provider would answer: `text`, four characters a token, priced where a price is known."""
    usage = Usage(
        input_tokens=sum(estimate_tokens(m.content) for m in request.messages),
        output_tokens=estimate_tokens(text),
    )
    price, cost_usd = request.model.price, None
    if price is not None:
        cost_usd = (
            usage.input_tokens * price.input_per_mtok + usage.output_tokens * price.output_per_mtok
        ) / 1e6
    return ModelReply(text=text, model=request.model.id, usage=usage, cost_usd=cost_usd)


class ManualClock:
    """A `Clock` that stands still until a test moves it; nothing ever waits for real.

    Time stops at every deadline on its way, and all tasks come to rest there before it goes on.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._order, wake))
        await wake

    @property
    def sleeping(self) -> int:
        """How many tasks sleep."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    async def settle(self) -> None:
        """Return when every task that can run without time passing has run."""
        # asyncio's own loop shows what is ready to run; on another loop, yield often enough.
        ready: object = getattr(asyncio.get_running_loop(), "_ready", None)
        for step in range(_MANY_STEPS):
            await asyncio.sleep(0)
            if ready is None and step > 200:
                return
            if ready is not None and not ready:
                return
        raise RuntimeError("some task runs forever without waiting for anything")

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: whoever sleeps less is woken, in order of its deadline."""
        await self.settle()
        target = self._now + seconds
        while (deadline := self._next()) is not None and deadline <= target:
            self._jump()
            await self.settle()
        self._now = target

    async def drive(self, work: Awaitable[T]) -> T:
        """The result of `work`, with time jumping to the next deadline whenever all tasks rest."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()

        async def carry() -> None:
            try:
                outcome.set_result(await work)
            except Exception as exc:  # noqa: BLE001 - handed to the caller below
                outcome.set_exception(exc)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(carry())
            stalled = 0
            await self.settle()
            while not task.done():
                if self._next() is not None:
                    self._jump()
                    stalled = 0
                else:  # a thread may be at work for this task: give it real time
                    await asyncio.wait({task}, timeout=0.01)
                    stalled += 1
                    if stalled > _STALLED_ROUNDS:
                        raise RuntimeError("the work waits for something that never happens")
                await self.settle()
        return outcome.result()

    def _next(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _jump(self) -> None:
        deadline, _, wake = heapq.heappop(self._sleepers)
        self._now = max(self._now, deadline)
        with contextlib.suppress(asyncio.InvalidStateError):
            wake.set_result(None)


class RecordingRecorder:
    """A `Recorder` that keeps the events in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.committed: list[Event] = []
        """Those that came through `commit`."""

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def commit(self, event: Event) -> None:
        self.events.append(event)
        self.committed.append(event)

    def of(self, kind: type[T]) -> list[T]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]


class RecordingSink:
    """An event `Sink` that keeps what it was fed."""

    def __init__(self) -> None:
        self.stamped: list[Stamped] = []
        self.closed = 0

    @property
    def events(self) -> list[Event]:
        """What was fed, without its stamps."""
        return [stamped.event for stamped in self.stamped]

    def feed(self, stamped: Stamped) -> None:
        self.stamped.append(stamped)

    def close(self) -> None:
        self.closed += 1


class RecordingText:
    """A `TextSink` that keeps the pieces since the last restart."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.restarts = 0

    @property
    def text(self) -> str:
        """The answer as far as it has come."""
        return "".join(self.pieces)

    def feed(self, text: str) -> None:
        self.pieces.append(text)

    def restart(self) -> None:
        self.pieces.clear()
        self.restarts += 1


class MemoryStore:
    """A cache store in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.closed = False

    async def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: str, value: bytes, ttl_s: float | None = None) -> None:
        self.entries[key] = value

    async def close(self) -> None:
        self.closed = True


if TYPE_CHECKING:
    _clock: Clock = ManualClock()
    _client: ModelClient = ScriptedClient([])
    _recorder: Recorder = RecordingRecorder()
    _sink: Sink = RecordingSink()
    _text: TextSink = RecordingText()
