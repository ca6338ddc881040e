"""Retries, on tenacity: the only place in the program where a failed request is sent again.

Rules: what cannot get better is never tried again; what a provider asks for is honoured up to 30 s, and a
wait that is longer fails at once; cancellation passes at any moment, also during the wait.
"""

import functools
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from tenacity import AsyncRetrying, RetryCallState

from swarmcli.adapters.attempt import Attempt, Flight
from swarmcli.adapters.limit_gate import MAX_PAUSE_S
from swarmcli.core.events import CallRetry
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.errors import RETRYABLE_KINDS, ModelError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 30.0
_SHORTEST_S = 0.05
"""Time for an attempt that a slot kept waiting past its deadline."""
_ONCE_MORE: frozenset[str] = frozenset({"protocol", "empty"})
"""Rarely an accident: one more try in all, then it is what it is."""


class RetryingClient:
    """Sends a failed request again where that may help.

    Args:
        inner: called once per attempt.
        attempts: requests per question in all, at least 1.
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
            stop=lambda state: state.attempt_number >= question.limit,
            retry=lambda state: _may_help(question, state) and self._time_left(question) > 0,
            wait=self._delay_s,
            before_sleep=functools.partial(self._announce, question),
            reraise=True,
        )
        return cast("ModelReply", await retrying(self._attempt, question, sink))

    async def close(self) -> None:
        await self._inner.close()

    async def _attempt(self, question: "_Question", sink: "TrackedSink | None") -> ModelReply:
        question.number += 1
        if sink is not None:
            sink.begin()
        timed = replace(question.request, timeout_s=max(_SHORTEST_S, self._time_left(question)))
        attempt = Attempt.of(timed, question.number, question.flight)
        try:
            reply = await self._inner.complete(attempt, sink)
        except ModelError as exc:
            question.count(exc)
            exc.attempts = question.number
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

    def _delay_s(self, state: RetryCallState) -> float:
        error = _error_of(state)
        asked = error.retry_after_s if error is not None else None
        if asked is not None and asked > 0:
            return asked * (1 + 0.1 * self._rng.random())
        delay_s = min(_FIRST_DELAY_S * 2.0 ** (state.attempt_number - 1), _MAX_DELAY_S)
        return delay_s * (0.5 + 0.5 * self._rng.random())

    def _announce(self, question: "_Question", state: RetryCallState) -> None:
        error = _error_of(state)
        if error is None:
            return
        once_more = error.kind in _ONCE_MORE
        self._emit(
            CallRetry(
                model=question.request.model.id,
                purpose=question.request.purpose,
                attempt=question.number,
                max=question.number + 1 if once_more else question.limit,
                delay_s=round(state.upcoming_sleep, 3),
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
    odd_answers: int = 0

    def count(self, error: ModelError) -> None:
        """Note a failure of a kind that is tried once more only."""
        if error.kind in _ONCE_MORE:
            self.odd_answers += 1


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
    return (error.retry_after_s or 0.0) > MAX_PAUSE_S


def _too_long(error: ModelError) -> ModelError:
    asked = error.retry_after_s or 0.0
    return ModelError(
        f"{error.message} (the provider asks to wait {asked:.0f} s, swarm waits {MAX_PAUSE_S:.0f})",
        kind="rate_limit",
        model=error.model,
        retry_after_s=error.retry_after_s,
        hint=error.hint or "try again later, or add `fallbacks` to the model",
    )


if TYPE_CHECKING:
    _client: type[ModelClient] = RetryingClient
    _sink: type[TextSink] = TrackedSink
