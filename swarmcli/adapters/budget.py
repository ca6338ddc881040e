"""The caps of a run, at the door: every request is reserved before it may leave and booked when it is back.

Rule: a call that does not fit *now* waits for open calls to cost less than they reserved; only one that
cannot fit at all is refused. Without that, the first calls' cautious estimates would refuse the rest.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swarmcli.adapters.attempt import Attempt
from swarmcli.adapters.queue_report import QueueReport
from swarmcli.core.budget import (
    DEFAULT_OUTPUT_TOKENS,
    Budget,
    Refusal,
    Reservation,
    cost_of,
    estimate,
    output_bound,
    request_tokens,
)
from swarmcli.core.events import BudgetWarning, CallFailed, Usage
from swarmcli.core.ports import (
    Clock,
    Emit,
    ModelClient,
    ModelReply,
    ModelRequest,
    Purpose,
    TextSink,
)
from swarmcli.core.spend import Amount
from swarmcli.core.tokens import estimate_tokens
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Price

WARN_AT = 0.8
"""The share of a cap at which the user is told."""

_NOT_CHARGED: frozenset[str] = frozenset(
    {
        "rate_limit",
        "server",
        "network",
        "protocol",
        "auth",
        "quota",
        "no_key",
        "unknown_model",
        "bad_request",
        "context_overflow",
    }
)
"""The provider turned the request away. After any other failure all that was reserved counts as spent."""


_Sort = tuple[str, Purpose, int | None]
"""Requests whose answers are about as long as each other: model, purpose, and the bound on the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bill:
    """What one call took."""

    booked: Amount
    """What the caps count."""
    usage: Usage | None
    """As the provider counted; None when it has not said."""
    certain: bool
    """The provider has said what it costs."""


class BudgetedClient:
    """Keeps the calls to `inner` under the caps of `budget`.

    Args:
        inner: sends one request per call; what never left its queue (see `Flight`) is given back.
        budget: the run's ledger.
        clock: time spent waiting here is no busy time.
        emit: gets `BudgetWarning` near a cap and at the first refusal, `LimitWaiting` while calls wait, and
            `CallFailed` for every call that was sent and gave no answer.
        price_of: what a model costs; None when unknown.
    """

    def __init__(
        self,
        inner: ModelClient,
        budget: Budget,
        *,
        clock: Clock,
        emit: Emit,
        price_of: Callable[[ModelSpec], Price | None] = lambda model: model.price,
    ) -> None:
        self._inner = inner
        self._budget = budget
        self._clock = clock
        self._emit = emit
        self._price_of = price_of
        self._turns = {True: asyncio.Lock(), False: asyncio.Lock()}
        self._settled = asyncio.Event()
        self._queue = QueueReport("budget", emit)
        self._longest: dict[_Sort, int] = {}
        self._warned = False
        self._refused = False

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        flight = request.flight if isinstance(request, Attempt) else None
        asked_at = self._clock.monotonic()
        reservation = await self._reserved(request)
        if flight is not None:
            flight.queued(self._clock.monotonic() - asked_at)
        try:
            reply = await self._inner.complete(self._on_its_way(request, reservation), stream_to)
        except BaseException as exc:
            if flight is not None and flight.in_queue:
                self._budget.release(reservation)
            else:
                self._failed(request, reservation, exc)
            raise
        else:
            self._settle(reservation, self._bill(request, reply))
            return reply
        finally:
            self._settled.set()
            self._warn_near()

    async def close(self) -> None:
        await self._inner.close()

    def _on_its_way(self, request: ModelRequest, reservation: Reservation) -> ModelRequest:
        """For the events that say that it leaves, and what its answer counts."""
        if not isinstance(request, Attempt):
            return request
        amount = reservation.amount

        def book(reply: ModelReply) -> Amount:
            return self._bill(request, reply).booked

        return replace(
            request, estimated_tokens=amount.tokens, estimated_usd=amount.cost_usd, book=book
        )

    async def _reserved(self, request: ModelRequest) -> Reservation:
        self._queue.joined(self._clock.monotonic())
        try:
            # The writer does not queue behind the agents: its share is there for when they wait.
            async with self._turns[request.purpose == "writer"]:
                while not isinstance(outcome := self._reserve(request), Reservation):
                    if outcome.final:
                        raise self._refusal(request, outcome)
                    self._queue.blocked("room under the cap", self._clock.monotonic())
                    self._settled.clear()
                    await self._settled.wait()
                return outcome
        finally:
            self._queue.left(self._clock.monotonic())

    def _reserve(self, request: ModelRequest) -> Reservation | Refusal:
        """With room for a long answer; where that cannot fit, for twice the longest that was seen."""
        price = self._price_of(request.model)
        longest = self._longest.get(_sort_of(request))
        if longest is None:
            return self._budget.reserve(estimate(request, price), request.purpose)
        room = longest if output_bound(request) else max(longest, DEFAULT_OUTPUT_TOKENS)
        outcome = self._budget.reserve(estimate(request, price, room), request.purpose)
        if isinstance(outcome, Refusal) and outcome.final:
            return self._budget.reserve(estimate(request, price, 2 * longest), request.purpose)
        return outcome

    def _refusal(self, request: ModelRequest, refusal: Refusal) -> ModelError:
        self._warn_refused(refusal.message)
        hint = f"raise {refusal.cap}"
        if refusal.cap == "max_cost_usd" and self._price_of(request.model) is None:
            hint = "give the model a `price` in the recipe, or pass --allow-unpriced"
        return ModelError(refusal.message, kind="budget", model=request.model.id, hint=hint)

    def _settle(self, reservation: Reservation, bill: _Bill) -> None:
        self._budget.settle(reservation, bill.booked, usage=bill.usage, certain=bill.certain)

    def _bill(self, request: ModelRequest, reply: ModelReply) -> _Bill:
        """What the reply took; where the provider does not say, what its text suggests."""
        usage = reply.usage
        if usage is None:
            usage = Usage(
                input_tokens=request_tokens(request), output_tokens=estimate_tokens(reply.text)
            )
        sort = _sort_of(request)
        self._longest[sort] = max(self._longest.get(sort, 1), usage.output_tokens)
        return _Bill(
            booked=self._amount(request.model, usage, reply.cost_usd),
            usage=reply.usage,
            certain=reply.cost_usd is not None,
        )

    def _amount(self, model: ModelSpec, usage: Usage, cost_usd: float | None) -> Amount:
        """Tokens and dollars for the caps; a cost that nobody has said is computed."""
        input_tokens, output_tokens = max(0, usage.input_tokens), max(0, usage.output_tokens)
        if cost_usd is None:
            price, cached_tokens = self._price_of(model), min(usage.cached_tokens, input_tokens)
            cost_usd = cost_of(price, input_tokens, output_tokens, max(0, cached_tokens))
        return Amount(tokens=input_tokens + output_tokens, cost_usd=cost_usd)

    def _failed(self, request: ModelRequest, reservation: Reservation, exc: BaseException) -> None:
        """Book a call that left and gave no answer, and say so."""
        kind = "cancelled" if isinstance(exc, asyncio.CancelledError) else "internal"
        said: _Bill | None = None
        if isinstance(exc, ModelError):
            kind, said = exc.kind, self._bill_of_failure(request, exc)
        elif isinstance(request, Attempt) and request.flight.twin is not None:
            said = self._bill_of(request.model, request.flight.twin)
        if said is None and kind in _NOT_CHARGED:
            bill = _Bill(booked=Amount(), usage=None, certain=True)
            self._budget.turn_away(reservation)
        else:
            bill = said or _Bill(booked=reservation.amount, usage=None, certain=False)
            self._settle(reservation, bill)
        self._emit(
            CallFailed(
                model=request.model.id,
                purpose=request.purpose,
                kind=kind,
                booked_tokens=bill.booked.tokens,
                booked_usd=bill.booked.cost_usd,
                tokens=bill.usage,
                agent=request.agent,
            )
        )

    def _bill_of_failure(self, request: ModelRequest, error: ModelError) -> _Bill | None:
        """What the provider says that a useless answer took; None when it has not said."""
        charge = error.charge
        if charge is None:
            return None
        usage = Usage(
            input_tokens=charge.input_tokens,
            output_tokens=charge.output_tokens,
            cached_tokens=charge.cached_tokens,
        )
        return self._bill_of(request.model, usage, charge.cost_usd)

    def _bill_of(self, model: ModelSpec, usage: Usage, cost_usd: float | None = None) -> _Bill:
        booked = self._amount(model, usage, cost_usd)
        return _Bill(booked=booked, usage=usage, certain=booked.cost_usd is not None)

    def _warn_near(self) -> None:
        if not self._warned and self._budget.used >= WARN_AT:
            self._warned = True
            self._warn(f"{self._budget.used:.0%} of the budget is used")

    def _warn_refused(self, message: str) -> None:
        if not self._refused:
            self._refused = True
            self._warn(message)

    def _warn(self, message: str) -> None:
        spent = self._budget.spent
        self._emit(
            BudgetWarning(
                message=message,
                cost_usd=spent.cost_usd if spent.cost_known else None,
                max_cost_usd=self._budget.max_cost_usd,
            )
        )


def _sort_of(request: ModelRequest) -> _Sort:
    return request.model.id, request.purpose, output_bound(request)


if TYPE_CHECKING:
    _client: type[ModelClient] = BudgetedClient
