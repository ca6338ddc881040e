"""Hedging: a call that takes clearly longer than its siblings is asked once more, and the first answer counts.

Rules: a duplicate never harms the call that it stands beside, whatever becomes of it; both share the question's time;
the loser is cancelled before the answer is handed on. The decision is `core.hedging`, here it is carried out.
"""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from swarmcli.adapters.attempt import Attempt, Flight
from swarmcli.core.events import CallHedged, Usage
from swarmcli.core.hedging import Call, HedgeBook
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.errors import NO_ACCESS_KINDS, RETRYABLE_KINDS, ModelError, SwarmError
from swarmcli.recipe.values import Hedge, ModelSpec

_SETTLE_S = 0.05
"""Calls that start and end within it are looked at together."""
_SHORTEST_S = 0.05
_ON_THIS_MACHINE = ("embedded/", "ollama")
"""A machine that is slow is not made faster by the same work once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitute(ModelReply):
    """An answer of another model or endpoint than the one that was asked: not to be kept under that one's name."""


class HedgedClient:
    """Asks stragglers twice.

    A hedged reply counts the requests of both calls. Its cost is unknown (None) when the loser was cut off on its way:
    nobody says what that cost, and the caps count what was set aside for it. Its tokens are those of the answer.

    Args:
        inner: keeps the log of an `Attempt` (see `Flight`); what it does not keep is never hedged.
        rules: how slow is slow, and how many duplicates there may be.
        resolve: a role or LiteLLM id -> the model, for fallbacks.
        clock: the clock of `inner`, and of the event loop in all but its zero.
        emit: gets a `CallHedged` for each duplicate.
        spare: False while there is nothing to spare for duplicates.
    """

    def __init__(
        self,
        inner: ModelClient,
        rules: Hedge,
        *,
        resolve: Callable[[str], ModelSpec],
        clock: Clock,
        emit: Emit,
        spare: Callable[[], bool] = lambda: True,
    ) -> None:
        self._inner = inner
        self._resolve = resolve
        self._clock = clock
        self._emit = emit
        self._watch = _Watch(HedgeBook(rules), clock, spare)
        self._dead: set[Hashable] = set()
        """Models that no duplicate of ours can use: no key, no such model."""

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        if not may_be_hedged(request, stream_to) or self._target(request.model) is None:
            return await self._inner.complete(request, stream_to)
        first = _Runner(request)
        with self._watch.over(first) as slow:
            await self._race(first, slow)
        return self._conclusion(first)

    async def close(self) -> None:
        self._watch.stop()
        await self._inner.close()

    async def _race(self, first: "_Runner", slow: "asyncio.Future[None]") -> None:
        """Return when it is known what becomes of the question, with nothing left at work."""
        async with asyncio.TaskGroup() as group:
            running = group.create_task(first.run(self._inner))
            await asyncio.wait({running, slow}, return_when=asyncio.FIRST_COMPLETED)
            target = None if running.done() else self._target(first.request.model)
            if target is None:
                return
            second = first.rival = self._duplicate(first, target)
            left = {running, group.create_task(second.run(self._inner))}
            while left and not first.is_final and second.reply is None:
                _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for runner in (first, second):
                other = second if runner is first else first
                runner.flight.twin = other.reply.usage if other.reply is not None else None
            for task in left:
                task.cancel()

    def _duplicate(self, first: "_Runner", target: ModelSpec) -> "_Runner":
        request = first.request
        busy_s = first.flight.busy_s(self._clock.monotonic())
        self._emit(
            CallHedged(
                model=request.model.id,
                to=target.id,
                after_s=round(busy_s, 3),
                agent=request.agent,
            )
        )
        left_s = max(_SHORTEST_S, request.timeout_s - busy_s)
        return _Runner(replace(request, model=target, timeout_s=left_s))

    def _target(self, model: ModelSpec) -> ModelSpec | None:
        """The first usable fallback, else the model itself on another connection; None where that is no help."""
        for name in model.fallbacks:
            try:
                other = self._resolve(name)
            except SwarmError:  # a name that nothing stands for: it is told when it is needed
                continue
            if _place(other) not in {_place(model), *self._dead} and not _is_here(other):
                return other
        return None if _is_here(model) else model

    def _conclusion(self, first: "_Runner") -> ModelReply:
        second = first.rival
        if second is None:
            return first.outcome()
        if second.error_kind in NO_ACCESS_KINDS | {"unknown_model"}:
            self._dead.add(_place(second.request.model))
        second_counts = not first.is_final and second.reply is not None
        winner, loser = (second, first) if second_counts else (first, second)
        if isinstance(winner.error, ModelError):
            winner.error.attempts += loser.flight.sent
        reply = _with_loser(winner.outcome(), loser)
        if _place(winner.request.model) != _place(first.request.model):
            reply = Substitute(**{f.name: getattr(reply, f.name) for f in fields(ModelReply)})
        busy_s = first.flight.busy_s(self._clock.monotonic())
        return replace(reply, hedged=second.flight.sent > 0, seconds=busy_s)


def may_be_hedged(request: ModelRequest, stream_to: TextSink | None) -> bool:
    """True where asking twice does nothing twice: an agent's question for text alone, and nobody reads along.

    Whatever makes an answer more than text (tools with side effects) has to be excluded here.
    """
    return request.purpose == "agent" and stream_to is None


def siblings_of(request: ModelRequest) -> Hashable:
    """What calls share that should take about the same time: the model, and the fan-out (`scan` for `scan[3]`)."""
    name, bracket, _ = (request.agent or "").partition("[")
    return name if bracket else None, _place(request.model)


class _Runner:
    """One of the calls that may answer a question."""

    def __init__(self, request: ModelRequest) -> None:
        self.request = request
        self.flight = Flight()
        self.reply: ModelReply | None = None
        self.error: Exception | None = None
        self.rival: _Runner | None = None
        """Its duplicate."""

    async def run(self, inner: ModelClient) -> None:
        """Ask; only a cancellation is raised."""
        try:
            self.reply = await inner.complete(Attempt.of(self.request, 1, self.flight))
        except Exception as error:  # noqa: BLE001  raised again by `outcome`, outside of the task group
            self.error = error

    @property
    def error_kind(self) -> str | None:
        return self.error.kind if isinstance(self.error, ModelError) else None

    @property
    def is_final(self) -> bool:
        """An answer, or a failure that no other call could change."""
        failed_for_good = self.error is not None and self.error_kind not in RETRYABLE_KINDS
        return self.reply is not None or failed_for_good

    @property
    def was_cut_off(self) -> bool:
        """A request of it had left when it was cancelled."""
        unanswered = self.reply is None and self.error is None
        return unanswered and self.flight.sent > 0 and not self.flight.in_queue

    def outcome(self) -> ModelReply:
        """Its answer.

        Raises:
            Exception: what it failed with.
        """
        if self.reply is None:
            raise self.error or RuntimeError("the call has not ended")
        return self.reply


class _Watch:
    """Tells slow calls that they are slow. One timer for all: it rings when the next one can be, or after a change."""

    def __init__(self, book: HedgeBook, clock: Clock, spare: Callable[[], bool]) -> None:
        self._book = book
        self._clock = clock
        self._spare = spare
        self._slow: dict[Call, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def over(self, runner: _Runner) -> Generator["asyncio.Future[None]"]:
        """Watch a call; the future is done when it is a straggler and may be asked again."""
        call = self._book.enter(siblings_of(runner.request), runner.flight)
        slow = self._slow[call] = asyncio.get_running_loop().create_future()
        self._ring_in(_SETTLE_S)
        try:
            yield slow
        finally:
            del self._slow[call]
            answered = runner.reply is not None
            self._book.leave(call, self._clock.monotonic(), answered=answered)
            if self._slow:
                self._ring_in(_SETTLE_S)
            else:
                self.stop()

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._spare():  # asked again at the next change
            return
        look = self._book.look(self._clock.monotonic())
        for call in look.stragglers:
            self._slow[call].set_result(None)
        if look.next_s is not None:
            self._ring_in(look.next_s)


def _with_loser(reply: ModelReply, loser: _Runner) -> ModelReply:
    """The answer, with what the other call took as far as anybody knows."""
    reply = replace(reply, attempts=reply.attempts + loser.flight.sent)
    other = loser.reply
    if other is not None:  # both have answered in the same moment, and both are paid
        known = reply.cost_usd is not None and other.cost_usd is not None
        return replace(
            reply,
            cost_usd=(reply.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            usage=(reply.usage or Usage()) + (other.usage or Usage()),
        )
    if not loser.was_cut_off or _is_here(loser.request.model):
        return reply
    twin = loser.flight.twin
    if twin is None or reply.cost_usd is None or reply.model != loser.request.model.id:
        return replace(reply, cost_usd=None)
    # Cut off, it says nothing: it was asked the same, and is taken to cost the same.
    return replace(reply, cost_usd=2 * reply.cost_usd, usage=twin + twin)


def _place(model: ModelSpec) -> tuple[str, str | None, str | None]:
    return model.id, model.api_base, model.api_key_env


def _is_here(model: ModelSpec) -> bool:
    return model.id.startswith(_ON_THIS_MACHINE)


if TYPE_CHECKING:
    _client: type[ModelClient] = HedgedClient
