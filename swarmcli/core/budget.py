"""The ledger of a run's caps: money, tokens and calls are reserved before they are spent. Pure.

Rule: what is spent and what is reserved never pass a cap together. A call that turns out dearer than its
reservation is booked as it was, and everything after it is refused: a cap is passed by that call at most.

The planner and the agents leave the reserved share to the writer, so that a run that reaches its cap can
still merge what it has. The writer may use all that is left.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from swarmcli.core.ports import ModelRequest, Purpose
from swarmcli.core.tokens import MESSAGE_OVERHEAD, estimate_tokens
from swarmcli.recipe.values import Price

DEFAULT_OUTPUT_TOKENS = 1024
"""How long an answer is taken to be while nothing bounds it and none has been seen."""

Cap = Literal["max_cost_usd", "max_tokens", "max_calls"]

_ROUNDING = 1e-9
"""Dollars: sums of small prices are not exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Tokens and what they cost; `cost_usd` is None when the price is unknown."""

    tokens: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one call may take."""

    model: str
    most: Amount
    """With the longest answer that is expected."""
    least: Amount
    """The prompt alone."""
    guessed: bool = False
    """Nothing bounds the answer and none was seen yet: `most` is a default, not knowledge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A call that may be sent; to be settled exactly once."""

    id: int
    purpose: Purpose
    amount: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A call that may not be sent."""

    cap: Cap
    message: str
    final: bool
    """False: it may fit once a call that is still open costs less than was reserved for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What was used so far."""

    calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    cost_known: bool = True
    """False after a call without a known price: `cost_usd` is then a lower bound."""


def estimate(
    request: ModelRequest, price: Price | None, usual_output: int | None = None
) -> Estimate:
    """What `request` may take.

    Args:
        request: a bound on its answer is believed.
        price: None when unknown.
        usual_output: the longest answer seen for this sort of request, for one without a bound.
    """
    input_tokens = request_tokens(request)
    bound = request.max_output_tokens or request.model.max_output_tokens
    output_tokens = bound or usual_output or DEFAULT_OUTPUT_TOKENS
    return Estimate(
        model=request.model.id,
        most=Amount(
            tokens=input_tokens + output_tokens,
            cost_usd=cost_of(price, input_tokens, output_tokens),
        ),
        least=Amount(tokens=input_tokens, cost_usd=cost_of(price, input_tokens, 0)),
        guessed=bound is None and usual_output is None,
    )


def request_tokens(request: ModelRequest) -> int:
    """About how long the prompt of `request` is."""
    return sum(estimate_tokens(m.content) + MESSAGE_OVERHEAD for m in request.messages)


def cost_of(price: Price | None, input_tokens: int, output_tokens: int) -> float | None:
    """Dollars; None when the price is unknown."""
    if price is None:
        return None
    return (input_tokens * price.input_per_mtok + output_tokens * price.output_per_mtok) / 1_000_000


@dataclass(slots=True)
class _Account:
    """One cap's books; the writer's are kept apart, because only the others must leave a share."""

    cap: float
    kept: float
    """What only the writer may use."""
    spent: float = 0.0
    open: float = 0.0
    spent_by_others: float = 0.0
    open_by_others: float = 0.0

    def fits(self, amount: float, purpose: Purpose, *, with_open: bool) -> bool:
        total = self.spent + amount + (self.open if with_open else 0.0)
        others = self.spent_by_others + amount + (self.open_by_others if with_open else 0.0)
        if total > self.cap + _ROUNDING:
            return False
        return purpose == "writer" or others <= self.cap - self.kept + _ROUNDING

    def open_for(self, amount: float, purpose: Purpose) -> None:
        self.open += amount
        if purpose != "writer":
            self.open_by_others += amount

    def close(self, reserved: float, actual: float, purpose: Purpose) -> None:
        self.open = max(0.0, self.open - reserved)
        self.spent += actual
        if purpose != "writer":
            self.open_by_others = max(0.0, self.open_by_others - reserved)
            self.spent_by_others += actual


class Budget:
    """The caps of one run and what is left under them.

    Args:
        max_cost_usd, max_tokens, max_calls: None means no cap.
        reserve: share of each cap that only the writer may use, 0 to 1. Give 0 where nothing will
            be written.
        allow_unpriced: under `max_cost_usd`, let calls of unknown price through, uncounted.
    """

    def __init__(
        self,
        *,
        max_cost_usd: float | None = None,
        max_tokens: int | None = None,
        max_calls: int | None = None,
        reserve: float = 0.0,
        allow_unpriced: bool = False,
    ) -> None:
        self.max_cost_usd = max_cost_usd
        self._allow_unpriced = allow_unpriced
        self._reserve = reserve
        self._open: dict[int, Reservation] = {}
        self._next_id = 1
        self._spent = Spent()
        self._accounts: dict[Cap, _Account] = {}
        if max_cost_usd is not None:
            self._accounts["max_cost_usd"] = _Account(max_cost_usd, max_cost_usd * reserve)
        if max_tokens is not None:
            self._accounts["max_tokens"] = _Account(max_tokens, math.ceil(max_tokens * reserve))
        if max_calls is not None:
            kept = min(math.ceil(max_calls * reserve), max_calls - 1)  # one call for the others
            self._accounts["max_calls"] = _Account(max_calls, kept)

    @property
    def spent(self) -> Spent:
        """What settled calls used."""
        return self._spent

    @property
    def open(self) -> int:
        """Reservations that are not settled."""
        return len(self._open)

    @property
    def used(self) -> float:
        """The share of the cap that is nearest to its end, spent calls only; 0 without caps."""
        return max((a.spent / a.cap if a.cap else 1.0 for a in self._accounts.values()), default=0)

    def book(self, spent: Spent) -> None:
        """Count what earlier sessions of the run have spent."""
        self._spent = Spent(
            calls=self._spent.calls + spent.calls,
            tokens=self._spent.tokens + spent.tokens,
            cost_usd=self._spent.cost_usd + spent.cost_usd,
            cost_known=self._spent.cost_known and spent.cost_known,
        )
        books = _books(Amount(tokens=spent.tokens, cost_usd=spent.cost_usd), calls=spent.calls)
        for cap, account in self._accounts.items():
            account.spent += books[cap]
            account.spent_by_others += books[cap]

    def reserve(self, wanted: Estimate, purpose: Purpose) -> Reservation | Refusal:
        """Set aside what a call may take, or say why not.

        An answer of unknown length that seems not to fit is let through alone: its length is then
        known for the next. It is the only way by which a cap can be passed.
        """
        most, least = self._amounts(wanted.most), self._amounts(wanted.least)
        if most is None or least is None:
            return Refusal(
                cap="max_cost_usd",
                message=f"the price of {wanted.model} is unknown, so max_cost_usd cannot be kept",
                final=True,
            )
        blocked = self._blocked(most, purpose, with_open=True)
        if blocked is not None and wanted.guessed and not self._open:
            blocked = self._blocked(least, purpose, with_open=True)
        if blocked is not None:
            at_best = least if wanted.guessed else most
            final = self._blocked(at_best, purpose, with_open=False)
            cap = blocked if final is None else final
            return Refusal(
                cap=cap,
                message=self._explain(cap, most[cap], purpose),
                final=final is not None,
            )
        reservation = Reservation(id=self._next_id, purpose=purpose, amount=wanted.most)
        self._next_id += 1
        self._open[reservation.id] = reservation
        for cap, account in self._accounts.items():
            account.open_for(most[cap], purpose)
        return reservation

    def settle(self, reservation: Reservation, actual: Amount) -> None:
        """Book what a call that was sent really took.

        Raises:
            ValueError: the reservation is not open.
        """
        self._close(reservation, actual, calls=1)

    def release(self, reservation: Reservation) -> None:
        """Give back what was set aside for a call that was never sent.

        Raises:
            ValueError: the reservation is not open.
        """
        self._close(reservation, Amount(), calls=0)

    def _close(self, reservation: Reservation, actual: Amount, *, calls: int) -> None:
        if self._open.pop(reservation.id, None) is None:
            raise ValueError(f"reservation {reservation.id} is not open")
        if actual.tokens < 0 or (actual.cost_usd or 0.0) < 0:
            raise ValueError(f"nobody pays us: {actual}")
        reserved = _books(reservation.amount, calls=1)
        booked = _books(actual, calls=calls)
        for cap, account in self._accounts.items():
            account.close(reserved[cap], booked[cap], reservation.purpose)
        self._spent = Spent(
            calls=self._spent.calls + calls,
            tokens=self._spent.tokens + actual.tokens,
            cost_usd=self._spent.cost_usd + (actual.cost_usd or 0.0),
            cost_known=self._spent.cost_known and actual.cost_usd is not None,
        )

    def _amounts(self, amount: Amount) -> Mapping[Cap, float] | None:
        """One call in each cap's unit; None when a cap on cost meets an unknown price."""
        unpriced = amount.cost_usd is None and "max_cost_usd" in self._accounts
        if unpriced and not self._allow_unpriced:
            return None
        return _books(amount, calls=1)

    def _blocked(
        self, amounts: Mapping[Cap, float], purpose: Purpose, *, with_open: bool
    ) -> Cap | None:
        for cap, account in self._accounts.items():
            if not account.fits(amounts[cap], purpose, with_open=with_open):
                return cap
        return None

    def _explain(self, cap: Cap, wanted: float, purpose: Purpose) -> str:
        spent, account = self._spent, self._accounts[cap]
        kept = f" ({self._reserve:.0%} kept for the merge)"
        note = kept if account.kept and purpose != "writer" else ""
        calls = f"{spent.calls:,} {'call' if spent.calls == 1 else 'calls'}"
        match cap:
            case "max_cost_usd":
                return (
                    f"the next call may cost ${wanted:.4g} and pass max_cost_usd "
                    f"${account.cap:.4g}{note}: ${spent.cost_usd:.4g} spent in {calls}"
                )
            case "max_tokens":
                return (
                    f"the next call may take {wanted:,.0f} tokens and pass max_tokens "
                    f"{account.cap:,.0f}{note}: {spent.tokens:,} used in {calls}"
                )
            case "max_calls":
                return f"max_calls {account.cap:,.0f} is reached{note}: {calls} sent"


def _books(amount: Amount, *, calls: int) -> Mapping[Cap, float]:
    return {
        "max_cost_usd": amount.cost_usd or 0.0,
        "max_tokens": amount.tokens,
        "max_calls": calls,
    }
