"""Rate limits: who may send a request to which model, and when.

Rules:
- One bucket per endpoint, model and key; one line per bucket, first come, first served. A question that goes round
  again stands before those that were never sent: it has waited longest.
- Only the head of the line looks at the limits: what was declared (`allowance`), and what the provider's answers and
  refusals taught (`core.aimd`). A waiter that is cancelled leaves no trace.
- A 429 is news for the whole bucket, and waited out here: it costs nobody its work while others get answers. When
  nobody does, everybody who waits fails at once.
- Where requests per minute are declared, asyncio-throttle spaces the departures: a window counts when they leave, and
  hundreds at one moment would take the event loop seconds to send.
"""

import contextlib
import fnmatch
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asyncio_throttle.throttler import Throttler

from swarmcli.adapters.allowance import Allowance, Caps, Claim, LocalAllowance, Wait
from swarmcli.adapters.attempt import Attempt, Flight
from swarmcli.adapters.bucket import Bucket
from swarmcli.adapters.line import Line
from swarmcli.adapters.queue_report import LimitReport, QueueReport
from swarmcli.core.aimd import Aimd, Ticket
from swarmcli.core.budget import DEFAULT_OUTPUT_TOKENS, request_tokens
from swarmcli.core.events import BY_PROVIDER, CallCompleted, CallStarted
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.core.refusals import LONGEST_ASKED_S
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Rate

_SPACING_S = 0.004
"""Between two departures of a bucket with declared requests per minute."""
_LET_IN: frozenset[str] = frozenset({"truncated", "empty", "content_filter"})
"""Failures that are answers, as far as limits go."""


class LimitedClient:
    """Lets requests through to `inner` as fast as the limits allow, and no faster.

    Args:
        inner: called once per request that is let through.
        rates: declared limits; of several patterns that match, the longest counts.
        clock: time for pauses, windows and `ModelReply.seconds`.
        emit: gets `CallStarted` when a request leaves, `CallCompleted` when its answer is there,
            `LimitWaiting` and `LimitChanged` about the buckets.
        attempts: after so many 429s without any answer of the bucket in between, nobody waits for it any longer.
        default_parallel: requests at once for a model without a declared limit; None: to be found out.
        bucket_of: what is counted together.
        allowance_of: keeps the books of declared limits; the default keeps those of this process.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        rates: Sequence[Rate] = (),
        clock: Clock,
        emit: Emit,
        attempts: int = 5,
        default_parallel: Callable[[ModelSpec], int | None] = lambda _: None,
        bucket_of: Callable[[ModelSpec], Bucket] = lambda model: Bucket(
            model.api_base, model.id, model.api_key_env
        ),
        allowance_of: Callable[[Bucket, Caps], Allowance] | None = None,
    ) -> None:
        self._inner = inner
        self._rates = tuple(rates)
        self._clock = clock
        self._emit = emit
        self._attempts = attempts
        self._default_parallel = default_parallel
        self._bucket_of = bucket_of
        self._allowance_of = allowance_of
        self._doors: dict[Bucket, _Door] = {}

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        attempt = request if isinstance(request, Attempt) else Attempt.of(request, 1, Flight())
        question = attempt.question
        async with self._door_of(question.model).passage(attempt) as passage:
            self._emit(
                CallStarted(
                    model=question.model.id,
                    purpose=question.purpose,
                    attempt=attempt.number,
                    estimated_tokens=attempt.estimated_tokens,
                    estimated_usd=attempt.estimated_usd,
                    agent=question.agent,
                )
            )
            reply = await self._inner.complete(question, stream_to)
            seconds = max(0.0, self._clock.monotonic() - passage.left_at)
            passage.reply = reply = replace(reply, seconds=seconds)
            untold = attempt.book if reply.usage is None else None
            booked = None if untold is None else untold(reply)
            self._emit(
                CallCompleted(
                    model=reply.model,
                    purpose=question.purpose,
                    seconds=reply.seconds,
                    tokens=reply.usage,
                    cost_usd=reply.cost_usd,
                    booked_tokens=None if booked is None else booked.tokens,
                    booked_usd=None if booked is None else booked.cost_usd,
                    agent=question.agent,
                )
            )
            return reply

    async def close(self) -> None:
        await self._inner.close()

    def _door_of(self, model: ModelSpec) -> "_Door":
        bucket = self._bucket_of(model)
        door = self._doors.get(bucket)
        if door is None:
            rate = rate_for(model.id, self._rates)
            parallel = rate.parallel if rate is not None else None
            caps = Caps(
                rpm=rate.rpm if rate is not None else None,
                tpm=rate.tpm if rate is not None else None,
                parallel=self._default_parallel(model) if parallel is None else parallel,
            )
            door = self._doors[bucket] = _Door(
                str(bucket),
                caps,
                self._allowance_of(bucket, caps)
                if self._allowance_of is not None
                else LocalAllowance(caps, self._clock),
                attempts=self._attempts,
                clock=self._clock,
                emit=self._emit,
            )
        return door


def rate_for(model_id: str, rates: Sequence[Rate]) -> Rate | None:
    """The declared limit of a model: the longest pattern that matches its id."""
    matching = [rate for rate in rates if fnmatch.fnmatchcase(model_id, rate.pattern)]
    return max(matching, key=lambda rate: len(rate.pattern), default=None)


def _tokens_of(request: ModelRequest) -> int:
    bound = request.max_output_tokens or request.model.max_output_tokens
    return request_tokens(request) + (bound or DEFAULT_OUTPUT_TOKENS)


@dataclass(slots=True, eq=False)
class _Passage:
    """A request that was let through."""

    ticket: Ticket
    claim: Claim
    left_at: float
    reply: ModelReply | None = None


class _Door:
    """The line of one bucket, and everything that is known about the limits behind it."""

    def __init__(
        self,
        name: str,
        caps: Caps,
        allowance: Allowance,
        *,
        attempts: int,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._clock = clock
        self._allowance = allowance
        self._attempts = attempts
        self._learnt = Aimd(caps.parallel)
        self._throttle = None if caps.rpm is None else Throttler(1, _SPACING_S, _SPACING_S / 2)
        self._line = Line(clock)
        self._sent_away = 0
        """429s in a row that asked for more patience than anybody has."""
        self._queue = QueueReport(name, emit)
        self._state = LimitReport(name, self._learnt.parallel, emit)

    @contextlib.asynccontextmanager
    async def passage(self, attempt: Attempt) -> AsyncGenerator[_Passage]:
        """Wait until one request may leave; leave the block when its answer is there."""
        flight = attempt.flight
        asked_at = self._clock.monotonic()
        flight.in_queue = True
        try:
            passage = await self._enter(_tokens_of(attempt.question), flight)
        finally:
            flight.queued(self._clock.monotonic() - asked_at)
        flight.leave(passage.left_at)
        try:
            yield passage
            self._answered(passage)
        except ModelError as exc:
            if exc.kind == "rate_limit":
                self._refused(passage, exc, flight)
            elif exc.kind in _LET_IN:
                self._answered(passage)
            raise
        finally:
            self._end(passage)

    # --- in the line

    async def _enter(self, tokens: int, flight: Flight) -> _Passage:
        spaced = False
        self._queue.joined(self._clock.monotonic())
        try:
            with self._line.place(again=flight.goes_first) as place:
                while True:
                    if place.error is not None:
                        flight.chances = 0
                        raise place.error.copy()
                    if not self._line.is_head(place):
                        await self._line.nap(place, math.inf)
                    elif self._throttle is not None and not spaced:
                        await self._throttle.acquire()
                        spaced = True
                    elif isinstance(outcome := self._try(tokens), _Passage):
                        return outcome
                    else:
                        await self._line.nap(place, outcome)
        finally:
            self._queue.left(self._clock.monotonic())

    def _try(self, tokens: int) -> "_Passage | float":
        """A passage, or how long to wait before it is tried again; infinite: until a request has ended."""
        now = self._clock.monotonic()
        if (wait_s := self._learnt.wait_s(now)) > 0:
            paused = self._learnt.pause_s(now) > 0
            at_once = f"{self._learnt.parallel:,} at once"
            self._queue.blocked(BY_PROVIDER if paused else at_once, now)
            return wait_s
        claim = self._allowance.claim(tokens)
        if isinstance(claim, Wait):
            self._queue.blocked(claim.reason, now)
            return claim.seconds
        return _Passage(self._learnt.leave(now), claim, now)

    # --- what became of it

    def _answered(self, passage: _Passage) -> None:
        self._sent_away = 0
        now, reply = self._clock.monotonic(), passage.reply
        self._learnt.answered(
            passage.ticket,
            now,
            waiting=len(self._line) > 0,
            headroom=reply.headroom if reply is not None else None,
        )
        if reply is not None and reply.usage is not None:
            used = reply.usage.input_tokens + reply.usage.output_tokens
            self._allowance.settle(passage.claim, used)
        self._state.changed(self._learnt.parallel, self._learnt.pause_s(now), now)

    def _refused(self, passage: _Passage, error: ModelError, flight: Flight) -> None:
        now = self._clock.monotonic()
        asked_s = error.retry_after_s or 0.0
        asks_too_much = asked_s > LONGEST_ASKED_S
        self._sent_away = self._sent_away + 1 if asks_too_much else 0
        self._learnt.refused(passage.ticket, now, None if asks_too_much else asked_s)
        pause_s = self._learnt.pause_s(now)
        if pause_s > 0:
            self._allowance.pause(pause_s)
        self._state.changed(self._learnt.parallel, pause_s, now, refused=True)
        flight.refused(self._learnt.answers)
        flight.held_s = pause_s
        flight.chances = self._learnt.chances(now, self._attempts, flight.refusals_in_vain)
        # To be asked for hours ends that call (`retry`); it is no slip, and ends all, when it comes again.
        if self._sent_away > 1 or self._learnt.chances(now, self._attempts) == 0:
            flight.chances = 0
            self._line.fail(error.copy())

    def _end(self, passage: _Passage) -> None:
        self._learnt.ended(passage.ticket)
        self._allowance.free(passage.claim)
        self._line.wake()


if TYPE_CHECKING:
    _client: type[ModelClient] = LimitedClient
