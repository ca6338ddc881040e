"""The books of one process: exactly the declared limits, in any minute, and no request kept longer than they ask."""

import pytest
from hypothesis import settings

from swarmcli.adapters.allowance import WINDOW_S, Caps, Claim, LocalAllowance, Wait
from tests.adapters.naive_books import AgainstNaiveBooks, Ticks


@pytest.fixture
def clock():
    return Ticks(start=0)


def drain(allowance, clock, tokens=1):
    """Claim until something must be waited for."""
    claims = []
    while isinstance(answer := allowance.claim(tokens), Claim):
        claims.append(answer)
        assert len(claims) < 10_000
    return claims, answer


def test_the_minute_slides(clock):
    """A departure counts for one window from its own moment; there is no second burst after a fixed minute's end."""
    allowance = LocalAllowance(Caps(rpm=3), clock)
    for _ in range(3):
        assert isinstance(allowance.claim(1), Claim)
        clock.pass_by(20)
    assert allowance.claim(1) == Wait(pytest.approx(WINDOW_S - 60), "3 requests a minute")
    clock.pass_by(WINDOW_S - 60)
    assert isinstance(allowance.claim(1), Claim)
    assert allowance.claim(1) == Wait(pytest.approx(20), "3 requests a minute")


def test_answers_correct_the_tokens(clock):
    """An estimate that was too high gives room back at once; one that was too low takes it."""
    allowance = LocalAllowance(Caps(tpm=1000), clock)
    first = allowance.claim(900)
    assert allowance.claim(200) == Wait(WINDOW_S, "1,000 tokens a minute")
    allowance.settle(first, 100)
    second = allowance.claim(200)
    allowance.settle(second, 950)
    clock.pass_by(WINDOW_S - 1)
    assert allowance.claim(1) == Wait(pytest.approx(1), "1,000 tokens a minute")
    clock.pass_by(1)
    assert isinstance(allowance.claim(1000), Claim)


def test_a_late_answer_does_not_touch_the_new_minute(clock):
    """A request that takes longer than a minute is no longer in the sum that its answer would correct."""
    allowance = LocalAllowance(Caps(tpm=1000), clock)
    old = allowance.claim(900)
    clock.pass_by(WINDOW_S)
    allowance.claim(600)
    allowance.settle(old, 0)
    assert isinstance(allowance.claim(500), Wait)
    assert isinstance(allowance.claim(400), Claim)


def test_a_request_larger_than_the_limit_goes_alone(clock):
    """It is not kept for ever, and nothing goes with it."""
    allowance = LocalAllowance(Caps(tpm=1000), clock)
    allowance.claim(10)
    assert isinstance(allowance.claim(5000), Wait)
    clock.pass_by(WINDOW_S)
    assert isinstance(allowance.claim(5000), Claim)
    assert isinstance(allowance.claim(1), Wait)


def test_slots_are_held_until_freed(clock):
    """In flight is in flight, however long it takes; freeing twice frees once."""
    allowance = LocalAllowance(Caps(parallel=2), clock)
    claims, wait = drain(allowance, clock)
    assert len(claims) == 2
    assert wait.reason == "2 at once"
    clock.pass_by(600)
    assert isinstance(allowance.claim(1), Wait)
    allowance.free(claims[0])
    allowance.free(claims[0])
    assert len(drain(allowance, clock)[0]) == 1


def test_a_pause_holds_everything(clock):
    """Nothing leaves before it is over; a shorter one does not end it, and nonsense is none."""
    allowance = LocalAllowance(Caps(), clock)
    for nonsense in (0.0, -5.0, float("nan")):
        allowance.pause(nonsense)
    assert isinstance(allowance.claim(1), Claim)
    allowance.pause(10)
    allowance.pause(2)
    assert allowance.claim(1) == Wait(pytest.approx(10), "rate limited by the provider")
    clock.pass_by(10)
    assert isinstance(allowance.claim(1), Claim)


def test_of_several_obstacles_the_longest_is_named(clock):
    """Whoever waits is told of what keeps them, not of what ends first."""
    allowance = LocalAllowance(Caps(rpm=1, parallel=1), clock)
    allowance.claim(1)
    allowance.pause(5)
    assert allowance.claim(1) == Wait(WINDOW_S, "1 requests a minute")


class LocalAgainstNaiveBooks(AgainstNaiveBooks):
    def make(self, caps):
        return LocalAllowance(caps, self.clock, self.window_s)


TestLocalAgainstNaiveBooks = LocalAgainstNaiveBooks.TestCase
TestLocalAgainstNaiveBooks.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
