"""The ledger of caps: nothing is spent that was not set aside, and the writer's share stays."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from swarmcli.core.budget import (
    DEFAULT_OUTPUT_TOKENS,
    Amount,
    Budget,
    Estimate,
    Refusal,
    Reservation,
    cost_of,
    estimate,
)
from swarmcli.core.ports import Message, ModelRequest
from swarmcli.recipe.values import ModelSpec, Price


def wants(tokens=10, cost=0.1, least=None, guessed=False):
    most = Amount(tokens=tokens, cost_usd=cost)
    return Estimate(model="m", most=most, least=least or most, guessed=guessed)


def taken(outcome):
    assert isinstance(outcome, Reservation), outcome
    return outcome


def refused(outcome):
    assert isinstance(outcome, Refusal), outcome
    return outcome


def test_without_caps_everything_fits():
    """No cap refuses nothing, and still counts."""
    budget = Budget()
    reservation = taken(budget.reserve(wants(tokens=10**9, cost=None), "agent"))
    budget.settle(reservation, Amount(tokens=5, cost_usd=None))
    assert (budget.spent.tokens, budget.spent.calls, budget.spent.cost_known) == (5, 1, False)
    assert budget.used == 0


@pytest.mark.parametrize(
    ("caps", "named"),
    [
        ({"max_cost_usd": 0.25}, "max_cost_usd $0.25"),
        ({"max_tokens": 25}, "max_tokens 25"),
        ({"max_calls": 2}, "max_calls 2"),
    ],
)
def test_each_cap_refuses_by_name(caps, named):
    """A refusal says which cap it was and what was spent."""
    budget = Budget(**caps)
    for _ in range(2):
        budget.settle(taken(budget.reserve(wants(), "agent")), Amount(tokens=10, cost_usd=0.1))
    refusal = refused(budget.reserve(wants(), "agent"))
    assert refusal.final
    assert named in refusal.message
    assert "2 calls" in refusal.message


def test_a_refusal_is_not_final_while_open_calls_may_turn_out_cheap():
    """What is reserved but not spent may come back."""
    budget = Budget(max_cost_usd=0.25)
    first = taken(budget.reserve(wants(cost=0.2), "agent"))
    assert not refused(budget.reserve(wants(cost=0.2), "agent")).final
    budget.settle(first, Amount(tokens=1, cost_usd=0.01))
    taken(budget.reserve(wants(cost=0.2), "agent"))


def test_a_call_that_was_never_sent_costs_nothing():
    """A released reservation gives back money, tokens and the call."""
    budget = Budget(max_calls=1)
    budget.release(taken(budget.reserve(wants(), "agent")))
    assert budget.spent.calls == 0
    taken(budget.reserve(wants(), "agent"))


@pytest.mark.parametrize("purpose", ["agent", "planner"])
def test_only_the_writer_may_use_its_share(purpose):
    """At the cap of the others there is still money for the merge."""
    budget = Budget(max_cost_usd=1.0, reserve=0.2)
    budget.settle(taken(budget.reserve(wants(cost=0.8), purpose)), Amount(cost_usd=0.8))
    assert "20% kept for the merge" in refused(budget.reserve(wants(cost=0.1), purpose)).message
    budget.settle(taken(budget.reserve(wants(cost=0.1), "writer")), Amount(cost_usd=0.1))
    assert refused(budget.reserve(wants(cost=0.2), "writer")).final


def test_what_the_writer_uses_of_its_share_is_not_taken_from_the_agents():
    """A sub-merge in the middle of a run costs the agents nothing."""
    budget = Budget(max_cost_usd=1.0, reserve=0.2)
    budget.settle(taken(budget.reserve(wants(cost=0.2), "writer")), Amount(cost_usd=0.2))
    taken(budget.reserve(wants(cost=0.8), "agent"))


@pytest.mark.parametrize(("cap", "for_agents"), [(1, 1), (2, 1), (10, 8), (1000, 850)])
def test_the_share_of_calls_is_whole_and_leaves_one_for_agents(cap, for_agents):
    """15% of ten calls are two."""
    budget = Budget(max_calls=cap, reserve=0.15)
    granted = 0
    while isinstance(budget.reserve(wants(), "agent"), Reservation):
        granted += 1
    assert granted == for_agents


def test_an_unknown_price_is_refused_under_a_cap_on_cost():
    """Unknown is not zero."""
    budget = Budget(max_cost_usd=1.0)
    refusal = refused(budget.reserve(wants(cost=None), "agent"))
    assert refusal.final
    assert "price of m is unknown" in refusal.message


def test_an_unknown_price_passes_when_it_is_allowed():
    """Then the other caps still hold, and the total is a lower bound."""
    budget = Budget(max_cost_usd=1.0, max_tokens=15, allow_unpriced=True)
    budget.settle(taken(budget.reserve(wants(cost=None), "agent")), Amount(tokens=9, cost_usd=None))
    assert not budget.spent.cost_known
    assert refused(budget.reserve(wants(cost=None), "agent")).cap == "max_tokens"


def test_an_answer_of_unknown_length_goes_alone_where_it_might_not_fit():
    """The first call finds out; the others wait for it."""
    budget = Budget(max_tokens=100)
    guess = wants(tokens=1034, least=Amount(tokens=10, cost_usd=0.0), guessed=True)
    first = taken(budget.reserve(guess, "agent"))
    assert not refused(budget.reserve(guess, "agent")).final
    budget.settle(first, Amount(tokens=20, cost_usd=0.0))
    taken(budget.reserve(wants(tokens=20), "agent"))


def test_a_bounded_answer_that_cannot_fit_is_refused_at_once():
    """A bound that the recipe gives is believed."""
    assert refused(Budget(max_tokens=100).reserve(wants(tokens=101), "agent")).final


def test_a_dearer_call_is_booked_as_it_was_and_ends_the_run():
    """A wrong estimate is not hidden."""
    budget = Budget(max_cost_usd=1.0)
    budget.settle(taken(budget.reserve(wants(cost=0.1), "agent")), Amount(cost_usd=3.0))
    assert budget.spent.cost_usd == 3.0
    assert refused(budget.reserve(wants(cost=0.0001), "agent")).final
    assert budget.used == 3.0


def test_a_reservation_is_settled_once():
    """Booking twice is a bug, and says so."""
    budget = Budget()
    reservation = taken(budget.reserve(wants(), "agent"))
    budget.settle(reservation, Amount())
    with pytest.raises(ValueError, match="not open"):
        budget.settle(reservation, Amount())
    with pytest.raises(ValueError, match="not open"):
        budget.release(reservation)


def request(text="x" * 400, **fields):
    return ModelRequest(
        model=ModelSpec(id="m"), messages=(Message(role="user", content=text),), **fields
    )


def test_an_estimate_is_prompt_and_longest_answer():
    """Four characters a token, and the answer at its bound."""
    price = Price(input_per_mtok=1.0, output_per_mtok=10.0)
    bounded = estimate(request(max_output_tokens=50), price)
    assert bounded.most.tokens == bounded.least.tokens + 50
    assert bounded.most.cost_usd == cost_of(price, bounded.least.tokens, 50)
    assert not bounded.guessed
    guessed = estimate(request(), None)
    assert guessed.most.tokens == guessed.least.tokens + DEFAULT_OUTPUT_TOKENS
    assert guessed.most.cost_usd is None
    assert guessed.guessed
    seen = estimate(request(), price, 70)
    assert (seen.most.tokens - seen.least.tokens, seen.guessed) == (70, False)


@given(st.text(max_size=300), st.integers(0, 500))
def test_a_longer_prompt_never_looks_cheaper(text, more):
    """Estimates grow with the prompt."""
    price = Price(input_per_mtok=2.0, output_per_mtok=2.0)
    small, large = estimate(request(text), price), estimate(request(text + "y" * more), price)
    assert small.most.tokens <= large.most.tokens
    assert (small.most.cost_usd or 0) <= (large.most.cost_usd or 0)


class Ledger(RuleBasedStateMachine):
    """Any order of reserving, settling and releasing, against plain sums."""

    reservations = Bundle("reservations")

    def __init__(self):
        super().__init__()
        self.cost_cap, self.token_cap, self.call_cap, self.share = 10.0, 500, 40, 0.25
        self.budget = Budget(
            max_cost_usd=self.cost_cap,
            max_tokens=self.token_cap,
            max_calls=self.call_cap,
            reserve=self.share,
        )
        self.open = {}
        self.cost, self.tokens, self.calls = 0.0, 0, 0
        self.by_agents = 0.0

    @rule(
        target=reservations,
        tokens=st.integers(0, 120),
        cost=st.floats(0, 3),
        purpose=st.sampled_from(["agent", "planner", "writer"]),
    )
    def reserve(self, tokens, cost, purpose):
        """A refusal is right: what was asked for would pass a cap."""
        outcome = self.budget.reserve(wants(tokens=tokens, cost=cost), purpose)
        if isinstance(outcome, Reservation):
            self.open[outcome.id] = outcome
            return outcome
        if outcome.final:
            writer = purpose == "writer"
            left = 1.0 if writer else 1 - self.share
            assert (
                self.cost + cost > self.cost_cap * left - 3.0 * (not writer) - 1e-6
                or self.tokens + tokens > self.token_cap * left - 1
                or self.calls + 1 > self.call_cap * left - 1
            )
        else:
            assert self.open
        return None

    @rule(reservation=consumes(reservations), share=st.floats(0, 1))
    def settle(self, reservation, share):
        """The call took at most what was set aside for it."""
        if reservation is None:
            return
        amount = reservation.amount
        actual = Amount(tokens=int(amount.tokens * share), cost_usd=amount.cost_usd * share)
        self.budget.settle(reservation, actual)
        del self.open[reservation.id]
        self.cost += actual.cost_usd
        self.tokens += actual.tokens
        self.calls += 1
        if reservation.purpose != "writer":
            self.by_agents += actual.cost_usd

    @rule(reservation=consumes(reservations))
    def release(self, reservation):
        """The call was never sent."""
        if reservation is not None:
            self.budget.release(reservation)
            del self.open[reservation.id]

    @invariant()
    def the_books_are_right(self):
        """Sums agree, nothing is negative, no cap is passed, and the writer's share is there."""
        spent = self.budget.spent
        assert spent.calls == self.calls
        assert spent.tokens == self.tokens
        assert spent.cost_usd == pytest.approx(self.cost)
        assert self.budget.open == len(self.open)
        reserved = sum(r.amount.cost_usd for r in self.open.values())
        assert 0 <= spent.cost_usd + reserved <= self.cost_cap + 1e-6
        assert spent.tokens + sum(r.amount.tokens for r in self.open.values()) <= self.token_cap
        assert spent.calls + len(self.open) <= self.call_cap
        agents = sum(r.amount.cost_usd for r in self.open.values() if r.purpose != "writer")
        assert self.by_agents + agents <= self.cost_cap * (1 - self.share) + 1e-6


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
