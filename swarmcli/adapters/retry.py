"""Retries, on tenacity: the only place in the program where a failed request is sent again.

Rules:
- What cannot get better is never tried again; what a provider asks for is honoured up to 30 s, a longer wait is cut to
  that, and one above two minutes fails at once. Cancellation passes at any moment, also during the wait.
- A 429 says nothing about the question: the limiter below holds it back, and it goes round again while others of its
  bucket get answers. It is given up when nobody does, or when it is refused again and again while others pass.
- A question's other failures are counted apart from its 429s, and so are the answers that make no sense.
"""

import functools
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from tenacity import AsyncRetrying, RetryCallState

from swarmcli.adapters.attempt import BAD_LUCK, Attempt, Flight
from swarmcli.core.events import CallRetry
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.core.refusals import LONGEST_ASKED_S, MAX_PAUSE_S
from swarmcli.errors import RETRYABLE_KINDS, ModelError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = MAX_PAUSE_S
_SHORTEST_S = 0.05
"""Time for an attempt that a slot kept waiting past its deadline."""
_ONCE_MORE: frozenset[str] = frozenset({"protocol", "empty"})
"""Rarely an accident: one more try in all, then it is what it is."""
_REFUSED_TOO_OFTEN = 4
"""So many times `attempts` 429s are about this question: it may be larger than its share of a minute."""


class RetryingClient:
    """Sends a failed request again where that may help.

    Args:
        inner: called once per attempt.
        attempts: how often a question may fail, at least 1; of its 429s, those in a row without any answer of its
            bucket. 1: nothing is ever sent again.
        clock: time for waits and `ModelReply.seconds`.
        rng: spreads the waits, so that hundreds of callers do not return at the same moment.
        emit: gets a `CallRetry` before each wait.
    """

    def __init__(
        self, inner: ModelClient, *, attempts: int, clock: Clock, rng: random.Random, emit: Emit
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts: {attempts}")
        self._inner = inner
        self._attempts = attempts
        self._clock = clock
        self._rng = rng
        self._emit = emit

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        sink = None if stream_to is None else TrackedSink(stream_to)
        question = _Question(
            request=request,
            limit=self._attempts,
            flight=request.flight if isinstance(request, Attempt) else Flight(),
        )
        # One controller per question: tenacity keeps its state per thread, not per task.
        retrying = AsyncRetrying(
            sleep=cast("Callable[[float], Awaitable[None]]", self._clock.sleep),
            # An attempt that begins when the time is up cannot be answered, and may be charged.
            stop=lambda state: (
                question.is_spent or self._time_left(question) <= state.upcoming_sleep
            ),
            retry=functools.partial(_may_help, question),
            wait=functools.partial(self._delay_s, question),
            before_sleep=functools.partial(self._announce, question),
            reraise=True,
        )
        return cast("ModelReply", await retrying(self._attempt, question, sink))

    async def close(self) -> None:
        await self._inner.close()

    async def _attempt(self, question: "_Question", sink: "TrackedSink | None") -> ModelReply:
        question.number += 1
        question.flight.in_queue = False
        if sink is not None:
            sink.begin()
        timed = replace(question.request, timeout_s=max(_SHORTEST_S, self._time_left(question)))
        attempt = Attempt.of(timed, question.number, question.flight)
        try:
            reply = await self._inner.complete(attempt, sink)
        except ModelError as exc:
            question.count(exc)
            exc.attempts = question.sent
            exc.seconds = question.flight.busy_s(self._clock.monotonic())
            if _asks_too_much(exc):
                raise _too_long(exc) from exc
            raise
        seconds = question.flight.busy_s(self._clock.monotonic())
        if question.flight.left_at is None:  # no limiter below us that keeps the log
            seconds = reply.seconds
        return replace(reply, attempts=question.number, seconds=seconds)

    def _time_left(self, question: "_Question") -> float:
        """Of the request's time, which its attempts share; waiting for a slot does not count."""
        return question.request.timeout_s - question.flight.busy_s(self._clock.monotonic())

    def _delay_s(self, question: "_Question", state: RetryCallState) -> float:
        """How long to wait here, on top of what a limiter makes everybody wait."""
        error = _error_of(state)
        failures = question.failures
        if error is not None and error.kind == "rate_limit":
            failures = question.refusals
            if question.flight.chances is not None:
                return self._backoff_s(failures - BAD_LUCK) if failures > BAD_LUCK else 0.0
        asked = error.retry_after_s if error is not None else None
        if asked is not None and asked > 0:
            return min(asked, MAX_PAUSE_S) * (1 + 0.1 * self._rng.random())
        return self._backoff_s(failures)

    def _backoff_s(self, failures: int) -> float:
        """Exponential, between half of it and all of it."""
        delay_s = min(_FIRST_DELAY_S * 2.0 ** (failures - 1), _MAX_DELAY_S)
        return delay_s * (0.5 + 0.5 * self._rng.random())

    def _announce(self, question: "_Question", state: RetryCallState) -> None:
        error = _error_of(state)
        if error is None:
            return
        # A call that waits here is no slow one, and when it is cut off nothing is lost.
        question.flight.in_queue = True
        held_s = question.flight.held_s if error.kind == "rate_limit" else 0.0
        self._emit(
            CallRetry(
                model=question.request.model.id,
                purpose=question.request.purpose,
                attempt=question.number,
                max=question.number + question.left_for(error),
                delay_s=round(max(state.upcoming_sleep, held_s), 3),
                kind=error.kind,
                message=error.message,
                agent=question.request.agent,
            )
        )


class TrackedSink:
    """A `TextSink` that knows whether it must be restarted before an answer begins anew."""

    def __init__(self, sink: TextSink) -> None:
        self._sink = sink
        self._dirty = False

    def begin(self) -> None:
        """An answer begins: void what an earlier one left."""
        if self._dirty:
            self.restart()

    def feed(self, text: str) -> None:
        self._dirty = True
        self._sink.feed(text)

    def restart(self) -> None:
        self._dirty = False
        self._sink.restart()


@dataclass(slots=True)
class _Question:
    """One question and its tries."""

    request: ModelRequest
    limit: int
    flight: Flight
    number: int = 0
    failures: int = 0
    """429s not counted."""
    odd_answers: int = 0
    refusals: int = 0

    @property
    def sent(self) -> int:
        """Requests that left."""
        return self.number - self.flight.in_queue

    @property
    def is_spent(self) -> bool:
        """It has failed as often as it may."""
        return min(self.limit - self.failures, self._refusals_left) <= 0

    @property
    def _refusals_left(self) -> int:
        left = self.limit - self.refusals
        if self.flight.chances is None or self.limit == 1:
            return left
        return min(self.flight.chances, left + (_REFUSED_TOO_OFTEN - 1) * self.limit)

    def count(self, error: ModelError) -> None:
        """Note a failure."""
        if error.kind == "rate_limit":
            self.refusals += 1
        else:
            self.failures += 1
        if error.kind in _ONCE_MORE:
            self.odd_answers += 1

    def left_for(self, error: ModelError) -> int:
        """How many more failures of this kind it may have."""
        if error.kind in _ONCE_MORE:
            return 1
        if error.kind == "rate_limit":
            return self._refusals_left
        return self.limit - self.failures


def _may_help(question: _Question, state: RetryCallState) -> bool:
    error = _error_of(state)
    if error is None or _asks_too_much(error):
        return False
    if error.kind in _ONCE_MORE:
        return question.odd_answers <= 1
    return error.kind in RETRYABLE_KINDS


def _error_of(state: RetryCallState) -> ModelError | None:
    """The failure of the last attempt; None for success, cancellation and bugs."""
    outcome = state.outcome
    error = outcome.exception() if outcome is not None else None
    return error if isinstance(error, ModelError) else None


def _asks_too_much(error: ModelError) -> bool:
    return (error.retry_after_s or 0.0) > LONGEST_ASKED_S


def _too_long(error: ModelError) -> ModelError:
    asked = error.retry_after_s or 0.0
    too_long = ModelError(
        f"{error.message} (the provider asks to wait {asked:.0f} s, swarm waits {MAX_PAUSE_S:.0f})",
        kind="rate_limit",
        model=error.model,
        retry_after_s=error.retry_after_s,
        hint=error.hint or "try again later, or add `fallbacks` to the model",
    )
    too_long.attempts, too_long.seconds = error.attempts, error.seconds
    return too_long


if TYPE_CHECKING:
    _client: type[ModelClient] = RetryingClient
    _sink: type[TextSink] = TrackedSink
