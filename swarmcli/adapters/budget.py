"""The caps of a run, at the door: every request is reserved before it may leave and booked when it is back.

Rule: a call that does not fit *now* waits for open calls to cost less than they reserved; only one that
cannot fit at all is refused. Without that, the first calls' cautious estimates would refuse the rest.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarmcli.adapters.attempt import Attempt
from swarmcli.adapters.queue_report import QueueReport
from swarmcli.core.budget import (
    DEFAULT_OUTPUT_TOKENS,
    Amount,
    Budget,
    Refusal,
    Reservation,
    cost_of,
    estimate,
    request_tokens,
)
from swarmcli.core.events import BudgetWarning
from swarmcli.core.ports import (
    Clock,
    Emit,
    ModelClient,
    ModelReply,
    ModelRequest,
    Purpose,
    TextSink,
)
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


class BudgetedClient:
    """Keeps the calls to `inner` under the caps of `budget`.

    Args:
        inner: sends one request per call; what never left its queue (see `Flight`) is given back.
        budget: the run's ledger.
        clock: time spent waiting here is no busy time.
        emit: gets `BudgetWarning` near a cap and at the first refusal, `LimitWaiting` while calls wait.
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
        self._longest: dict[tuple[str, Purpose], int] = {}
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
            reply = await self._inner.complete(request, stream_to)
        except BaseException as exc:
            if flight is not None and flight.in_queue:
                self._budget.release(reservation)
            elif isinstance(exc, ModelError) and exc.kind in _NOT_CHARGED:
                self._budget.settle(reservation, Amount())
            else:
                self._budget.settle(reservation, reservation.amount)
            raise
        else:
            self._budget.settle(reservation, self._actual(request, reply))
            return reply
        finally:
            self._settled.set()
            self._warn_near()

    async def close(self) -> None:
        await self._inner.close()

    async def _reserved(self, request: ModelRequest) -> Reservation:
        self._queue.joined(self._clock.monotonic())
        try:
            # The writer does not queue behind the agents: its share is there for when they wait.
            async with self._turns[request.purpose == "writer"]:
                while not isinstance(outcome := self._reserve(request), Reservation):
                    if outcome.final:
                        raise self._refusal(request, outcome)
                    self._queue.blocked("what open calls will cost", self._clock.monotonic())
                    self._settled.clear()
                    await self._settled.wait()
                return outcome
        finally:
            self._queue.left(self._clock.monotonic())

    def _reserve(self, request: ModelRequest) -> Reservation | Refusal:
        """With room for a long answer; where that cannot fit, for twice the longest that was seen."""
        price = self._price_of(request.model)
        longest = self._longest.get((request.model.id, request.purpose))
        if longest is None:
            return self._budget.reserve(estimate(request, price), request.purpose)
        roomy = estimate(request, price, max(longest, DEFAULT_OUTPUT_TOKENS))
        outcome = self._budget.reserve(roomy, request.purpose)
        if isinstance(outcome, Refusal) and outcome.final:
            return self._budget.reserve(estimate(request, price, 2 * longest), request.purpose)
        return outcome

    def _refusal(self, request: ModelRequest, refusal: Refusal) -> ModelError:
        self._warn_refused(refusal.message)
        hint = f"raise {refusal.cap}"
        if refusal.cap == "max_cost_usd" and self._price_of(request.model) is None:
            hint = "give the model a `price` in the recipe, or pass --allow-unpriced"
        return ModelError(refusal.message, kind="budget", model=request.model.id, hint=hint)

    def _actual(self, request: ModelRequest, reply: ModelReply) -> Amount:
        """What the reply took; where the provider does not say, what its text suggests."""
        if reply.usage is None:
            input_tokens, output_tokens = request_tokens(request), estimate_tokens(reply.text)
        else:
            input_tokens = max(0, reply.usage.input_tokens)
            output_tokens = max(0, reply.usage.output_tokens)
        key = (request.model.id, request.purpose)
        self._longest[key] = max(self._longest.get(key, 1), output_tokens)
        cost_usd = reply.cost_usd
        if cost_usd is None:
            cost_usd = cost_of(self._price_of(request.model), input_tokens, output_tokens)
        return Amount(tokens=input_tokens + output_tokens, cost_usd=cost_usd)

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


if TYPE_CHECKING:
    _client: type[ModelClient] = BudgetedClient
