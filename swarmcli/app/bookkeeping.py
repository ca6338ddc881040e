"""What each question of an evaluation takes, while many runs share one model path.

Rule: a configuration never profits from what another one has asked. Each draws its own answers (also from the cache,
where a repeated command finds them again), and an answer from the cache counts at what it has cost when it was asked.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zlib import crc32

from swarmcli.core.budget import cost_of
from swarmcli.core.events import CallCompleted, CallFailed, Event, MergeCompleted, Stamped
from swarmcli.core.ports import Clock, ModelClient, ModelReply, ModelRequest, Recorder, TextSink
from swarmcli.engine.departures import Departures
from swarmcli.recipe.values import Price

PriceOf = Callable[[str], Price | None]
"""LiteLLM id -> its price; None when unknown."""

_DRAWS = 1 << 16
"""More than one configuration ever draws of one question."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What calls took."""

    calls: int = 0
    """Also those that failed, and those that the cache answered."""
    cost_usd: float | None = 0.0
    """None when nobody has said what one of them costs."""
    cached: bool = False
    """The cache has answered one, so nobody knows how long it takes."""

    def __add__(self, other: "Taken") -> "Taken":
        known = self.cost_usd is not None and other.cost_usd is not None
        return Taken(
            calls=self.calls + other.calls,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            cached=self.cached or other.cached,
        )


def taken_by(event: CallCompleted | CallFailed, price_of: PriceOf) -> Taken:
    """What one call took, a cached one at what it has cost when it was asked."""
    cached = isinstance(event, CallCompleted) and event.cached
    return Taken(calls=1, cost_usd=_cost(event, price_of), cached=cached)


def _cost(event: CallCompleted | CallFailed, price_of: PriceOf) -> float | None:
    if isinstance(event, CallFailed):
        # What is booked is a guess unless the provider has counted, or turned the call away.
        return event.booked_usd if event.tokens is not None or event.booked_usd == 0 else None
    if not event.cached:
        return event.cost_usd
    price, tokens = price_of(event.model), event.tokens
    if price is not None and price.input_per_mtok == price.output_per_mtok == 0:
        return 0.0
    if tokens is None:
        return None
    return cost_of(price, tokens.input_tokens, tokens.output_tokens, tokens.cached_tokens)


class Books:
    """The recorder of one run: counts what its agents take, and shows its events to whoever wants them.

    Args:
        run: names it in the events.
        clock: for `t`.
        show: gets every event.
        price_of: what a cached answer has cost.
    """

    def __init__(
        self, run: str, *, clock: Clock, show: Callable[[Stamped], None], price_of: PriceOf
    ) -> None:
        self._run = run
        self._clock = clock
        self._show = show
        self._price_of = price_of
        self._seq = 0
        self.agents: defaultdict[str | None, Taken] = defaultdict(Taken)
        """By agent; what belongs to none (planner, writer) under None."""
        self.merged_by = ""
        """The strategy of the last merge."""
        self.departures = Departures(self.emit)

    @property
    def whole(self) -> Taken:
        """Everything."""
        return sum(self.agents.values(), start=Taken())

    def emit(self, event: Event) -> None:
        if isinstance(event, CallCompleted | CallFailed):
            self.agents[event.agent] += taken_by(event, self._price_of)
        if isinstance(event, MergeCompleted):
            self.merged_by = event.strategy
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        stamped = Stamped(
            seq=self._seq, ts=now, run=self._run, t=self._clock.monotonic(), event=event
        )
        self._seq += 1
        self._show(stamped)

    async def commit(self, event: Event) -> None:
        """Nothing is journalled: a repeated command finds the answers in the cache."""
        self.emit(event)


current: ContextVar[Books | None] = ContextVar("books", default=None)
"""The run on whose behalf a call is made; every task of a run inherits it."""


class OwnDraws:
    """Draws of one configuration's own, and no more calls at once than agents may work, over all of its runs.

    Args:
        inner: the model path.
        name: of the configuration; the same name finds its answers in the cache again.
        parallel: calls at once.
    """

    def __init__(self, inner: ModelClient, name: str, parallel: int) -> None:
        self._inner = inner
        self._first = crc32(name.encode("utf-8", "replace")) * _DRAWS
        self._slots = asyncio.Semaphore(parallel)

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        mine = replace(request, sample=self._first + request.sample)
        async with self._slots:
            return await self._inner.complete(mine, stream_to)

    async def close(self) -> None:
        await self._inner.close()


if TYPE_CHECKING:
    _client: type[ModelClient] = OwnDraws
    _recorder: type[Recorder] = Books
