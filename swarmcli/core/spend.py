"""What calls took: tokens and money, as providers said it and as the caps of a run count it. Pure.

Rule: what nobody has said is unknown, never zero. The caps still have to count something for such a call: what had
been set aside for it. So there are two sums, and `Spent.cost_known` says whether they are the same.
"""

from dataclasses import dataclass, field

from swarmcli.core.events import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Tokens and what they cost; `cost_usd` is None when the price is unknown."""

    tokens: int = 0
    cost_usd: float | None = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        known = self.cost_usd is not None and other.cost_usd is not None
        return Amount(
            tokens=self.tokens + other.tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What was used so far."""

    calls: int = 0
    """Requests sent, those that failed included."""
    tokens: int = 0
    """What the caps count: what providers said, and for calls of which none did, what was set aside."""
    cost_usd: float = 0.0
    """What the caps count, in the same way; a call of unknown price counts nothing."""
    cost_known: bool = True
    """False after a call of which nobody has said what it costs: `cost_usd` is then a guess."""
    usage: Usage = field(default_factory=Usage)
    """Tokens as providers counted them, and nothing else."""
    estimate: Amount = field(default_factory=Amount)
    """What had been set aside for these calls before they were sent; those that were turned away excluded."""

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            calls=self.calls + other.calls,
            tokens=self.tokens + other.tokens,
            cost_usd=self.cost_usd + other.cost_usd,
            cost_known=self.cost_known and other.cost_known,
            usage=self.usage + other.usage,
            estimate=self.estimate + other.estimate,
        )

    @property
    def booked(self) -> Amount:
        """What the caps count; no cost where a price is unknown."""
        priced = self.estimate.cost_usd is not None
        return Amount(tokens=self.tokens, cost_usd=self.cost_usd if priced else None)


TURNED_AWAY = Spent(calls=1)
"""A call that the provider refused: it was sent, and it costs nothing."""


def one_call(booked: Amount, *, estimate: Amount, usage: Usage | None, certain: bool) -> Spent:
    """What one call took that was not turned away.

    Args:
        booked: what the caps count for it.
        estimate: what had been set aside for it.
        usage: as the provider counted; None when it has not said.
        certain: `booked` is what the provider charges; False: it is our guess. A guess of $0 is certain: the model
            costs nothing.
    """
    return Spent(
        calls=1,
        tokens=booked.tokens,
        cost_usd=booked.cost_usd or 0.0,
        cost_known=booked.cost_usd is not None and (certain or booked.cost_usd == 0),
        usage=usage or Usage(),
        estimate=estimate,
    )
