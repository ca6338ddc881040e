"""The ledger under any order of calls: nothing is spent that was not set aside, and nothing leaks."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from swarmcli.core.budget import Budget, Estimate, Refusal, Reservation
from swarmcli.core.spend import Amount, Spent

PURPOSES = st.sampled_from(["agent", "planner", "writer"])
COST = st.integers(0, 3000).map(lambda mills: mills / 1000)
TOKENS = st.integers(0, 120)


class Ledger(RuleBasedStateMachine):
    """Reserving, settling, releasing and booking in any order, against plain sums.

    Calls may turn out dearer than what was set aside, as they do where an estimate was wrong. The sum of these
    errors, and one call whose length was a guess, are all by which a cap may be passed.
    """

    reservations = Bundle("reservations")

    @initialize(
        cost_cap=st.integers(500, 20_000).map(lambda mills: mills / 1000),
        token_cap=st.integers(1, 1000),
        call_cap=st.integers(1, 60),
        share=st.sampled_from([0.0, 0.15, 0.25, 1.0]),
    )
    def open_the_books(self, cost_cap, token_cap, call_cap, share):
        """Any caps, and any share for the writer."""
        self.caps = {"cost": cost_cap, "tokens": token_cap, "calls": call_cap}
        self.kept = {
            "cost": cost_cap * share,
            "tokens": math.ceil(token_cap * share),
            "calls": min(math.ceil(call_cap * share), call_cap - 1),
        }
        self.budget = Budget(
            max_cost_usd=cost_cap, max_tokens=token_cap, max_calls=call_cap, reserve=share
        )
        self.open: dict[int, Reservation] = {}
        self.spent = dict.fromkeys(self.caps, 0.0)
        self.by_others = dict.fromkeys(self.caps, 0.0)
        self.errors = dict.fromkeys(self.caps, 0.0)
        """By how much calls were dearer than what was set aside, and what guesses were let through."""
        self.booked = dict.fromkeys(self.caps, 0.0)
        self.estimated = Amount()

    @rule(target=reservations, tokens=TOKENS, cost=COST, purpose=PURPOSES, guessed=st.booleans())
    def reserve(self, tokens, cost, purpose, guessed):
        """A refusal is right: what was asked for would pass a cap, now or for ever."""
        most = Amount(tokens=tokens, cost_usd=cost)
        least = Amount(tokens=tokens // 4, cost_usd=cost / 4) if guessed else most
        wanted = Estimate(model="m", most=most, least=least, guessed=guessed)
        alone = not self.open
        outcome = self.budget.reserve(wanted, purpose)
        if isinstance(outcome, Refusal):
            assert outcome.final or self.open
            at_best = least if guessed else most
            assert outcome.final == (not self.fits(at_best, purpose, with_open=False))
            assert not self.fits(most, purpose, with_open=True)
            return None
        if not self.fits(most, purpose, with_open=True):
            assert guessed
            assert alone
            for name, value in self.units(most).items():
                self.errors[name] += value
        self.open[outcome.id] = outcome
        return outcome

    @rule(reservation=consumes(reservations), share=st.floats(0, 1))
    def settle(self, reservation, share):
        """The call took at most what was set aside for it."""
        if self.is_open(reservation):
            amount = reservation.amount
            self.settle_at(
                reservation,
                Amount(tokens=int(amount.tokens * share), cost_usd=amount.cost_usd * share),
            )

    @rule(reservation=consumes(reservations), tokens=TOKENS, cost=COST)
    def settle_dearer(self, reservation, tokens, cost):
        """The estimate was wrong."""
        if not self.is_open(reservation):
            return
        amount = reservation.amount
        self.errors["cost"] += cost
        self.errors["tokens"] += tokens
        self.settle_at(
            reservation, Amount(tokens=amount.tokens + tokens, cost_usd=amount.cost_usd + cost)
        )

    def is_open(self, reservation):
        """False for one that was refused, or that `close_all` has given back."""
        return reservation is not None and reservation.id in self.open

    def settle_at(self, reservation, actual):
        self.budget.settle(reservation, actual)
        self.estimated += reservation.amount
        self.close(reservation, actual, calls=1)

    @rule(reservation=consumes(reservations))
    def turn_away(self, reservation):
        """The provider refused the call: it counts as a call."""
        if self.is_open(reservation):
            self.budget.turn_away(reservation)
            self.close(reservation, Amount(), calls=1)

    @rule(reservation=consumes(reservations))
    def release(self, reservation):
        """The call was never sent."""
        if self.is_open(reservation):
            self.budget.release(reservation)
            self.close(reservation, Amount(), calls=0)

    @rule(calls=st.integers(0, 3), tokens=TOKENS, cost=COST)
    def book(self, calls, tokens, cost):
        """Earlier sessions of the run, whatever they have spent."""
        self.budget.book(Spent(calls=calls, tokens=tokens, cost_usd=cost))
        for name, value in {"cost": cost, "tokens": tokens, "calls": calls}.items():
            self.spent[name] += value
            self.by_others[name] += value
            self.booked[name] += value

    @rule()
    def close_all(self):
        """When nothing is open, nothing is set aside: what is left under a cap can be reserved to the last cent."""
        for reservation in list(self.open.values()):
            self.budget.release(reservation)
            self.close(reservation, Amount(), calls=0)
        left = {name: self.caps[name] - self.spent[name] for name in self.caps}
        if min(left.values()) <= 0 or left["calls"] < 1:
            return
        rest = Amount(tokens=int(left["tokens"]), cost_usd=left["cost"])
        outcome = self.budget.reserve(Estimate(model="m", most=rest, least=rest), "writer")
        assert isinstance(outcome, Reservation)
        self.budget.release(outcome)

    @invariant()
    def the_books_are_right(self):
        """Sums agree, nothing is negative, and a cap is passed by what could not be known, and by nothing else."""
        spent = self.budget.spent
        assert spent.calls == self.spent["calls"]
        assert spent.tokens == self.spent["tokens"]
        assert spent.cost_usd == pytest.approx(self.spent["cost"])
        assert spent.estimate.tokens == self.estimated.tokens
        assert spent.estimate.cost_usd == pytest.approx(self.estimated.cost_usd)
        assert self.budget.open == len(self.open)
        for name in self.caps:
            reserved = self.set_aside(name)
            allowed = self.errors[name] + self.booked[name] + 1e-6
            assert 0 <= self.spent[name] + reserved <= self.caps[name] + allowed
            others = self.by_others[name] + self.set_aside(name, writer=False)
            assert others <= self.caps[name] - self.kept[name] + allowed

    def close(self, reservation, actual, *, calls):
        self.open.pop(reservation.id, None)
        for name, value in {**self.units(actual), "calls": calls}.items():
            self.spent[name] += value
            if reservation.purpose != "writer":
                self.by_others[name] += value

    def set_aside(self, name, *, writer=True):
        return sum(
            self.units(r.amount)[name]
            for r in self.open.values()
            if writer or r.purpose != "writer"
        )

    def fits(self, amount, purpose, *, with_open):
        for name, value in self.units(amount).items():
            total = self.spent[name] + value + (self.set_aside(name) if with_open else 0)
            others = self.by_others[name] + value
            others += self.set_aside(name, writer=False) if with_open else 0
            if total > self.caps[name] + 1e-9:
                return False
            if purpose != "writer" and others > self.caps[name] - self.kept[name] + 1e-9:
                return False
        return True

    @staticmethod
    def units(amount):
        return {"cost": amount.cost_usd, "tokens": amount.tokens, "calls": 1}


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
