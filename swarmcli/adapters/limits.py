"""Rate limits: who may send a request to which model, and when. asyncio-throttle keeps the requests per minute.

Rules:
- One bucket per endpoint, model and key; one queue per bucket, first come, first served.
- Only the head of the queue looks at the limits (asyncio-throttle polls, and hundreds of pollers would eat
  a core); everybody behind it waits for one wake-up. A waiter that is cancelled leaves no trace.
- Requests per minute are checked last, right before a request leaves: what counts is when it leaves.
- A 429 is news for the whole bucket: all pause, and fewer are let out at once until answers come again.
"""

import asyncio
import contextlib
import fnmatch
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asyncio_throttle.throttler import Throttler

from swarmcli.adapters.attempt import Attempt, Flight
from swarmcli.adapters.limit_gate import Gate
from swarmcli.adapters.queue_report import QueueReport
from swarmcli.core.budget import DEFAULT_OUTPUT_TOKENS, request_tokens
from swarmcli.core.events import CallCompleted, CallStarted
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Rate

WINDOW_S = 61.0
"""A minute, and a second for what lies between our door and the provider's: it counts arrivals."""
_POLL_S = 0.05
_TOKEN_POLL_S = 0.5


class LimitedClient:
    """Lets requests through to `inner` as fast as the limits allow, and no faster.

    Limits count inside this process only.

    Args:
        inner: called once per request that is let through.
        rates: declared limits; of several patterns that match, the longest counts.
        clock: time for pauses, windows and `ModelReply.seconds`.
        emit: gets `CallStarted` when a request leaves, `CallCompleted` when its answer is there,
            `LimitWaiting` and `LimitChanged` about the queues.
        default_parallel: requests at once for a model without a declared limit; None: no limit.
        window_s: the minute of "requests per minute"; tests shorten it.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        rates: Sequence[Rate] = (),
        clock: Clock,
        emit: Emit,
        default_parallel: Callable[[ModelSpec], int | None] = lambda _: None,
        window_s: float = WINDOW_S,
    ) -> None:
        self._inner = inner
        self._rates = tuple(rates)
        self._clock = clock
        self._emit = emit
        self._default_parallel = default_parallel
        self._window_s = window_s
        self._buckets: dict[tuple[str | None, str, str | None], _Bucket] = {}

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        is_attempt = isinstance(request, Attempt)
        question = request.question if is_attempt else request
        flight = request.flight if is_attempt else Flight()
        bucket = self._bucket_of(question.model)
        asked_at = self._clock.monotonic()
        flight.in_queue = True
        async with bucket.slot(_tokens_of(question)) as slot:
            flight.queued(slot.left_at - asked_at)
            flight.leave(slot.left_at)
            self._emit(
                CallStarted(
                    model=question.model.id,
                    purpose=question.purpose,
                    attempt=request.number if is_attempt else 1,
                    agent=question.agent,
                )
            )
            reply = await self._inner.complete(question, stream_to)
            if reply.usage is not None:
                slot.settle(reply.usage.input_tokens + reply.usage.output_tokens)
            reply = replace(reply, seconds=max(0.0, self._clock.monotonic() - slot.left_at))
            self._emit(
                CallCompleted(
                    model=reply.model,
                    purpose=question.purpose,
                    seconds=reply.seconds,
                    tokens=reply.usage,
                    cost_usd=reply.cost_usd,
                    agent=question.agent,
                )
            )
            return reply

    async def close(self) -> None:
        await self._inner.close()

    def _bucket_of(self, model: ModelSpec) -> "_Bucket":
        key = (model.api_base, model.id, model.api_key_env)
        bucket = self._buckets.get(key)
        if bucket is None:
            rate = rate_for(model.id, self._rates)
            parallel = rate.parallel if rate is not None else None
            bucket = self._buckets[key] = _Bucket(
                name=f"{model.id} @ {model.api_base}" if model.api_base else model.id,
                parallel=self._default_parallel(model) if parallel is None else parallel,
                rpm=rate.rpm if rate is not None else None,
                tpm=rate.tpm if rate is not None else None,
                window_s=self._window_s,
                clock=self._clock,
                emit=self._emit,
            )
        return bucket


def rate_for(model_id: str, rates: Sequence[Rate]) -> Rate | None:
    """The declared limit of a model: the longest pattern that matches its id."""
    matching = [rate for rate in rates if fnmatch.fnmatchcase(model_id, rate.pattern)]
    return max(matching, key=lambda rate: len(rate.pattern), default=None)


def _tokens_of(request: ModelRequest) -> int:
    bound = request.max_output_tokens or request.model.max_output_tokens
    return request_tokens(request) + (bound or DEFAULT_OUTPUT_TOKENS)


class _Throttle(Throttler):
    """asyncio-throttle, which can also say whether it would make its caller wait."""

    @property
    def full(self) -> bool:
        self.flush()
        return len(self._task_logs) >= self.rate_limit


class _TokenWindow:
    """Tokens of the last minute: an estimate when a request leaves, corrected by its answer."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._entries: deque[_Entry] = deque()
        self._sum = 0

    def wait_s(self, tokens: int, now: float) -> float:
        """How long until `tokens` may leave; a request larger than the limit goes alone."""
        while self._entries and now - self._entries[0].at > self._window_s:
            self._sum -= self._entries.popleft().tokens
        if not self._entries or self._sum + tokens <= self._limit:
            return 0.0
        return max(_POLL_S, self._entries[0].at + self._window_s - now)

    def add(self, tokens: int, now: float) -> "_Entry":
        entry = _Entry(at=now, tokens=tokens)
        self._entries.append(entry)
        self._sum += tokens
        return entry

    def settle(self, entry: "_Entry", tokens: int) -> None:
        if self._entries and entry.at >= self._entries[0].at:  # else it has left the window
            self._sum += tokens - entry.tokens
        entry.tokens = tokens


@dataclass(slots=True, eq=False)
class _Entry:
    at: float
    tokens: int


@dataclass(slots=True, eq=False)
class _Slot:
    """A request's place among those that its bucket lets run at once."""

    left_at: float
    tokens: _Entry | None
    window: _TokenWindow | None

    def settle(self, tokens: int) -> None:
        """Correct the estimate by what the provider counted."""
        if self.window is not None and self.tokens is not None:
            self.window.settle(self.tokens, tokens)


class _Bucket:
    """One queue and everything that is known about the limits behind it."""

    def __init__(
        self,
        *,
        name: str,
        parallel: int | None,
        rpm: int | None,
        tpm: int | None,
        window_s: float,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._busy = 0
        self._freed = asyncio.Event()
        self._throttle = None if rpm is None else _Throttle(rpm, window_s, _POLL_S)
        self._window = None if tpm is None else _TokenWindow(tpm, window_s)
        self._gate = Gate(name, parallel, emit)
        self._queue = QueueReport(name, emit)

    @contextlib.asynccontextmanager
    async def slot(self, tokens: int) -> AsyncGenerator[_Slot]:
        """Wait for permission to send one request; leave the block when its answer is there."""
        await self._enter(tokens)
        left_at = self._clock.monotonic()
        entry = None if self._window is None else self._window.add(tokens, left_at)
        try:
            yield _Slot(left_at, entry, self._window)
            self._gate.passed(left_at, self._clock.monotonic())
        except ModelError as exc:
            if exc.kind == "rate_limit":
                now = self._clock.monotonic()
                self._gate.refused(left_at, now, exc.retry_after_s, self._busy)
            raise
        finally:
            self._busy -= 1
            self._freed.set()

    async def _enter(self, tokens: int) -> None:
        """Return when a request may leave, with its place already counted."""
        self._queue.joined(self._clock.monotonic())
        try:
            async with self._turn:
                while not await self._may_leave(tokens):
                    pass
                self._busy += 1
        finally:
            self._queue.left(self._clock.monotonic())

    async def _may_leave(self, tokens: int) -> bool:
        """Wait for one obstacle; True when there was none. Only the head of the queue comes here."""
        if await self._obstacle(tokens):
            return False
        if self._throttle is None:
            return True
        if not self._throttle.full:
            await self._throttle.acquire()  # returns at once
            return True
        self._say(f"{self._throttle.rate_limit} requests a minute")
        await self._throttle.acquire()
        # That took time: a 429 may have closed the gate. The permit is then lost, for a later
        # departure would come too close to the others.
        return not (self._gate.pause_s(self._clock.monotonic()) or self._full)

    async def _obstacle(self, tokens: int) -> bool:
        now = self._clock.monotonic()
        if (pause_s := self._gate.pause_s(now)) > 0:
            self._say("rate limited by the provider")
            await self._clock.sleep(pause_s)
            return True
        if self._full:
            self._say(f"{self._gate.parallel} at once")
            self._freed.clear()
            await self._freed.wait()
            return True
        if self._window is not None and (wait_s := self._window.wait_s(tokens, now)) > 0:
            self._say("tokens a minute")
            # An answer that is shorter than expected makes room early: look again soon.
            await self._clock.sleep(min(wait_s, _TOKEN_POLL_S))
            return True
        return False

    @property
    def _full(self) -> bool:
        return self._busy >= self._gate.parallel

    def _say(self, reason: str) -> None:
        self._queue.blocked(reason, self._clock.monotonic())


if TYPE_CHECKING:
    _client: type[ModelClient] = LimitedClient
