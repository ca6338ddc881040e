"""Which calls are stragglers, and how many duplicates there may be."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.adapters.attempt import Flight
from swarmcli.core.hedging import FEW, MARGIN, WORTH_S, HedgeBook, straggling_after_s
from swarmcli.recipe.values import Hedge

ANY = Hedge(quantile=0.9, max_extra=1.0)


def flight(left_at=0.0, **more):
    return Flight(left_at=left_at, sent=1, **more)


def ended(book, seconds, count=1, siblings="scan", answered=True):
    """Siblings that took `seconds`."""
    for _ in range(count):
        call = book.enter(siblings, flight())
        book.leave(call, seconds, answered=answered)


def test_the_quantile_is_over_all_that_have_started():
    """90 of 100 have answered: the 90th time. 89 of 100: nobody knows, the other 11 still run."""
    times = [(float(t), False) for t in range(1, 91)]

    assert straggling_after_s([*times, *[(90.0, True)] * 10], 0.9) == 90.0 * (90 / 50)
    assert straggling_after_s([*times[:-1], *[(90.0, True)] * 11], 0.9) is None


def test_what_has_just_started_says_nothing_of_long_times():
    """A hundred calls of the next wave, one second old, do not hide that nine in ten of the others took ten."""
    times = [*[(10.0, False)] * 95, *[(40.0, True)] * 5]

    assert straggling_after_s(times, 0.9) == straggling_after_s([*times, *[(1.0, True)] * 100], 0.9)


def test_without_anybody_running_it_is_the_plain_quantile():
    """The estimate is the k-th smallest time when every time is known."""
    times = [(float(t), False) for t in range(100, 0, -1)]

    assert straggling_after_s(times, 0.9) == 90.0 * (90 / 50)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=60),
    st.floats(0.01, 0.99),
)
def test_a_straggler_is_clearly_beyond_its_siblings(times, quantile):
    """At least half as long again as some sibling that has ended, and long enough to be worth a call."""
    limit_s = straggling_after_s(times, quantile)

    if limit_s is not None:
        high = [t for t, censored in times if not censored and limit_s >= MARGIN * t]
        assert high
        assert limit_s >= max(min(high) + WORTH_S, MARGIN * min(high))


@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0])
def test_the_limit_knows_how_much_siblings_differ(sigma):
    """Of lognormal latencies less than one in 100 is beyond it, however wide they are spread."""
    rng = random.Random(7)
    times = [math.exp(rng.gauss(3, sigma)) for _ in range(4000)]
    limit_s = straggling_after_s([(t, False) for t in times], 0.9)

    assert sum(t > limit_s for t in times) / len(times) < 0.01
    assert limit_s < 10 * math.exp(3) or sigma == 1.0


def test_nobody_is_slow_while_few_have_answered():
    """Nine answers are no measure; failures and cut-off calls are no answers."""
    book = HedgeBook(ANY)
    book.enter("scan", flight())
    ended(book, 1.0, FEW - 1)
    ended(book, 1.0, 50, answered=False)
    assert book.look(500.0).stragglers == []

    ended(book, 1.5, 400)
    assert len(book.look(500.0).stragglers) == 1


def test_it_says_when_to_look_again():
    """The moment in which the oldest running call would be a straggler, and nothing before."""
    book = HedgeBook(ANY)
    ended(book, 4.0, 99)
    call = book.enter("scan", flight(left_at=10.0))

    assert book.look(12.0) == ([], pytest.approx(MARGIN * 4 - 2))
    assert book.look(10.0 + MARGIN * 4) == ([call], None)
    assert book.look(10.0 + MARGIN * 8) == ([], None)


def test_one_duplicate_per_call():
    """What was asked twice is not asked a third time."""
    book = HedgeBook(ANY)
    ended(book, 1.0, 99)
    book.enter("scan", flight())

    assert [len(book.look(now).stragglers) for now in (50.0, 60.0, 600.0)] == [1, 0, 0]


def test_siblings_are_compared_with_each_other_only():
    """A fan-out of long calls beside one of short calls is no fan-out of stragglers."""
    book = HedgeBook(ANY)
    ended(book, 1.0, 99, "short")
    ended(book, 60.0, 99, "long")
    for siblings in ("short", "long"):
        book.enter(siblings, flight())

    assert [call.siblings for call in book.look(50.0).stragglers] == ["short"]


def test_waiting_is_not_being_slow():
    """A call in a queue, before its first request or before another one, is no straggler."""
    book = HedgeBook(ANY)
    ended(book, 1.0, 99)
    book.enter("scan", Flight(in_queue=True))
    book.enter("scan", flight(in_queue=True))
    book.enter("scan", flight(left_at=0.0, queued_s=99.5))

    assert book.look(100.0).stragglers == []


def test_the_worst_come_first_when_there_is_little_to_spend():
    """Of three stragglers and room for one, it is the one that is overdue longest."""
    book = HedgeBook(Hedge(quantile=0.9, max_extra=0.01))
    ended(book, 1.0, 99)
    calls = [book.enter("scan", flight(left_at=t)) for t in (30.0, 10.0, 20.0)]

    assert book.look(50.0).stragglers == [calls[1]]
    assert book.look(60.0).stragglers == []


def test_twenty_calls_are_needed_for_the_first_duplicate_by_default():
    """5 % of 19 is less than one."""
    for calls, hedged in ((19, 0), (20, 1)):
        book = HedgeBook(Hedge())
        ended(book, 1.0, calls - 1)
        book.enter("scan", flight())
        assert len(book.look(50.0).stragglers) == hedged


def test_a_call_that_has_not_left_makes_no_room():
    """A thousand calls in the queue are not a thousand calls."""
    book = HedgeBook(Hedge())
    ended(book, 1.0, 18)
    book.enter("scan", flight())
    for _ in range(1000):
        book.enter("scan", Flight())

    assert (book.started, book.look(50.0).stragglers) == (19, [])


moves = st.lists(
    st.tuples(
        st.sampled_from(["begin", "leave", "answer", "fail", "look"]),
        st.integers(0, 30),
        st.floats(0, 20),
    ),
    max_size=150,
)


@given(moves, st.floats(0, 1), st.floats(0.01, 0.99))
def test_duplicates_never_pass_their_share(moves, max_extra, quantile):
    """Whatever happens: at most the share, rounded down, one for each call, and only for running ones."""
    book, now, running, hedged = (
        HedgeBook(Hedge(quantile=quantile, max_extra=max_extra)),
        0.0,
        [],
        set(),
    )
    for move, which, seconds in moves:
        now += seconds
        if move == "begin":
            running += [book.enter(which % 2, Flight()) for _ in range(3)]
        elif move == "look":
            look = book.look(now)
            assert not hedged & set(look.stragglers)
            assert set(look.stragglers) <= set(running)
            assert look.next_s is None or look.next_s > 0
            hedged |= set(look.stragglers)
        elif running and move == "leave":
            running[which % len(running)].flight.leave(now)
        elif running:
            book.leave(running.pop(which % len(running)), now, answered=move == "answer")
        assert len(hedged) == book.extra <= max_extra * book.started + 1e-6
