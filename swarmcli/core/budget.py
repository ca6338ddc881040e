"""The ledger of a run's caps: money, tokens and calls are reserved before they are spent. Pure.

Rule: what is spent and what is reserved never pass a cap together. A call that turns out dearer than its
reservation is booked as it was, and everything after it is refused: a cap is passed at most by the errors of the
estimates of the calls that were in flight when it was reached.

The planner and the agents leave the reserved share to the writer, so that a run that reaches its cap can
still merge what it has. The writer may use all that is left.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from swarmcli.core.events import Usage
from swarmcli.core.ports import ModelRequest, Purpose
from swarmcli.core.spend import TURNED_AWAY, Amount, Spent, one_call
from swarmcli.core.tokens import MESSAGE_OVERHEAD, estimate_tokens
from swarmcli.recipe.values import Price

DEFAULT_OUTPUT_TOKENS = 1024
"""How long an answer is taken to be while nothing bounds it and none has been seen."""

Cap = Literal["max_cost_usd", "max_tokens", "max_calls"]

_ROUNDING = 1e-9
"""Dollars: sums of small prices are not exact."""


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


def estimate(
    request: ModelRequest, price: Price | None, usual_output: int | None = None
) -> Estimate:
    """What `request` may take.

    Args:
        request: a bound on its answer is believed, until a longer answer was seen.
        price: None when unknown.
        usual_output: the longest answer seen for this sort of request.
    """
    input_tokens = request_tokens(request)
    bound = output_bound(request)
    output_tokens = max(bound or 0, usual_output or 0) or DEFAULT_OUTPUT_TOKENS
    return Estimate(
        model=request.model.id,
        most=Amount(
            tokens=input_tokens + output_tokens,
            cost_usd=cost_of(price, input_tokens, output_tokens),
        ),
        least=Amount(tokens=input_tokens, cost_usd=cost_of(price, input_tokens, 0)),
        guessed=bound is None and usual_output is None,
    )


def output_bound(request: ModelRequest) -> int | None:
    """How many tokens the answer may have at most, where something says so."""
    return request.max_output_tokens or request.model.max_output_tokens


def request_tokens(request: ModelRequest) -> int:
    """About how long the prompt of `request` is."""
    return sum(estimate_tokens(m.content) + MESSAGE_OVERHEAD for m in request.messages)


def cost_of(
    price: Price | None, input_tokens: int, output_tokens: int, cached_tokens: int = 0
) -> float | None:
    """Dollars; None when the price is unknown. Of the input, `cached_tokens` came from the provider's cache."""
    if price is None:
        return None
    cached_rate = price.cached_input_per_mtok
    if cached_rate is None:
        cached_rate = price.input_per_mtok
    fresh_tokens = input_tokens - cached_tokens
    dollars = fresh_tokens * price.input_per_mtok + cached_tokens * cached_rate
    return (dollars + output_tokens * price.output_per_mtok) / 1_000_000


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

    def all_closed(self) -> None:
        """Nothing is open, so nothing is set aside: what rounding has left must not add up."""
        self.open = self.open_by_others = 0.0


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
        shares = (a.spent / a.cap if a.cap else float(a.spent > 0) for a in self._accounts.values())
        return max(shares, default=0.0)

    def book(self, spent: Spent) -> None:
        """Count what earlier sessions of the run have spent."""
        self._spent += spent
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

    def settle(
        self,
        reservation: Reservation,
        actual: Amount,
        *,
        usage: Usage | None = None,
        certain: bool = True,
    ) -> None:
        """Book what a call that was sent took.

        Args:
            reservation: of this call.
            actual: what the caps count for it.
            usage: as the provider counted; None when it has not said.
            certain: False: nobody has said what the call costs, and `actual` is a guess.

        Raises:
            ValueError: the reservation is not open, or the amount is no amount.
        """
        if actual.tokens < 0 or not 0 <= (actual.cost_usd or 0.0) < math.inf:
            raise ValueError(f"no amount: {actual}")
        estimated = reservation.amount
        self._close(reservation, one_call(actual, estimate=estimated, usage=usage, certain=certain))

    def turn_away(self, reservation: Reservation) -> None:
        """Book a call that the provider refused: it counts as a call, and costs nothing.

        Raises:
            ValueError: the reservation is not open.
        """
        self._close(reservation, TURNED_AWAY)

    def release(self, reservation: Reservation) -> None:
        """Give back what was set aside for a call that was never sent.

        Raises:
            ValueError: the reservation is not open.
        """
        self._close(reservation, Spent())

    def _close(self, reservation: Reservation, taken: Spent) -> None:
        if self._open.pop(reservation.id, None) is None:
            raise ValueError(f"reservation {reservation.id} is not open")
        reserved = _books(reservation.amount, calls=1)
        booked = _books(Amount(tokens=taken.tokens, cost_usd=taken.cost_usd), calls=taken.calls)
        for cap, account in self._accounts.items():
            account.close(reserved[cap], booked[cap], reservation.purpose)
            if not self._open:
                account.all_closed()
        self._spent += taken

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
