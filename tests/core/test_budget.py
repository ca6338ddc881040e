"""The ledger of caps: nothing is spent that was not set aside, and the writer's share stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.budget import (
    DEFAULT_OUTPUT_TOKENS,
    Amount,
    Budget,
    Estimate,
    Refusal,
    Reservation,
    Spent,
    cost_of,
    estimate,
)
from swarmcli.core.events import Usage
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
    assert taken(budget.reserve(wants(cost=0.8), "agent"))
    assert refused(budget.reserve(wants(cost=0.01), "agent")), "and gives them nothing"


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


@pytest.mark.parametrize(
    "amount",
    [Amount(tokens=-1), Amount(cost_usd=-0.1), Amount(cost_usd=float("nan")), Amount(cost_usd=float("inf"))],
)  # fmt: skip
def test_what_is_no_amount_is_refused_and_leaves_the_books_as_they_were(amount):
    """The reservation stays open, so that the call can still be booked."""
    budget = Budget(max_cost_usd=1.0)
    reservation = taken(budget.reserve(wants(cost=1.0), "agent"))
    with pytest.raises(ValueError, match="no amount"):
        budget.settle(reservation, amount)
    budget.turn_away(reservation)
    taken(budget.reserve(wants(cost=1.0), "agent"))
    assert budget.spent.calls == 1


def test_a_call_that_was_turned_away_counts_as_a_call_and_nothing_else():
    """It costs nothing, and its estimate does not stand beside what others took."""
    budget = Budget(max_calls=2)
    budget.turn_away(taken(budget.reserve(wants(), "agent")))
    budget.settle(taken(budget.reserve(wants(), "agent")), Amount(tokens=4, cost_usd=0.5))
    assert budget.spent == Spent(
        calls=2, tokens=4, cost_usd=0.5, estimate=Amount(tokens=10, cost_usd=0.1)
    )
    assert refused(budget.reserve(wants(), "agent")).final


@pytest.mark.parametrize(("guess", "known"), [(0.5, False), (0.0, True)])
def test_a_guess_is_booked_and_not_known_unless_the_model_is_free(guess, known):
    """Nobody has said what a call costs that was cut off; for a free model nobody needs to."""
    budget = Budget()
    reservation = taken(budget.reserve(wants(cost=guess), "agent"))
    budget.settle(reservation, reservation.amount, certain=False)
    assert (budget.spent.cost_usd, budget.spent.cost_known) == (guess, known)
    assert budget.spent.booked == Amount(tokens=10, cost_usd=guess)


def test_earlier_sessions_are_booked_with_all_they_took():
    """A resumed run goes on with the sums of the sessions before it."""
    before = Spent(
        calls=3,
        tokens=40,
        cost_usd=0.9,
        cost_known=False,
        usage=Usage(input_tokens=20, output_tokens=10),
        estimate=Amount(tokens=60, cost_usd=1.0),
    )
    budget = Budget(max_cost_usd=1.0)
    budget.book(before)
    assert budget.spent == before
    assert refused(budget.reserve(wants(cost=0.2), "agent")).final


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


def test_a_bound_is_believed_until_a_longer_answer_was_seen():
    """A provider that ignores `max_output_tokens` surprises us once."""
    bounded = request(max_output_tokens=50)
    usual, overrun = estimate(bounded, None, 40), estimate(bounded, None, 500)
    assert (usual.most.tokens - usual.least.tokens, overrun.most.tokens - overrun.least.tokens) == (
        50,
        500,
    )


def test_cache_reads_have_a_price_of_their_own_where_one_is_stated():
    """Otherwise they cost what other input does."""
    plain = Price(input_per_mtok=10.0, output_per_mtok=0.0)
    stated = Price(input_per_mtok=10.0, output_per_mtok=0.0, cached_input_per_mtok=1.0)
    assert cost_of(plain, 1_000_000, 5, 600_000) == 10.0
    assert cost_of(stated, 1_000_000, 5, 600_000) == pytest.approx(4.6)


@given(st.text(max_size=300), st.integers(0, 500))
def test_a_longer_prompt_never_looks_cheaper(text, more):
    """Estimates grow with the prompt."""
    price = Price(input_per_mtok=2.0, output_per_mtok=2.0)
    small, large = estimate(request(text), price), estimate(request(text + "y" * more), price)
    assert small.most.tokens <= large.most.tokens
    assert (small.most.cost_usd or 0) <= (large.most.cost_usd or 0)
