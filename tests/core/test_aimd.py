"""The learnt limit: what answers and refusals teach, moment by moment."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.aimd import FIRST_LIMIT, Aimd
from swarmcli.core.ports import Headroom
from swarmcli.core.refusals import MAX_PAUSE_S, Gap, sane_s


def fill(aimd, now):
    """All that may leave do so; their tickets."""
    tickets = []
    while aimd.wait_s(now) == 0:
        tickets.append(aimd.leave(now))
    return tickets


def answer(aimd, tickets, now, waiting=True):
    for ticket in tickets:
        aimd.answered(ticket, now, waiting=waiting)


class TestGrowth:
    def test_a_declared_limit_starts_there_and_stays(self):
        """No slow start, and no growth however much waits."""
        aimd = Aimd(7)
        for now in range(10):
            tickets = fill(aimd, now)
            assert len(tickets) == 7
            answer(aimd, tickets, now + 1)

    def test_an_unknown_one_starts_at_sixteen_and_opens_places_one_by_one(self):
        """Sixteen answers allow sixteen more, spread over the round trip."""
        aimd = Aimd()
        answer(aimd, fill(aimd, 0.0), 1.0)
        assert len(fill(aimd, 1.0)) <= FIRST_LIMIT + 2
        assert 0 < aimd.wait_s(1.0) < 0.1
        more = sum(len(fill(aimd, 1.0 + step / 100)) for step in range(1, 100))
        assert FIRST_LIMIT + more + 2 >= 2 * FIRST_LIMIT

    def test_nothing_grows_while_nobody_waits(self):
        """A limit that does not bind is not known to be too low."""
        aimd = Aimd()
        for now in range(20):
            answer(aimd, fill(aimd, now), now + 1, waiting=False)
        assert aimd.parallel == FIRST_LIMIT

    def test_what_was_not_refused_for_three_seconds_was_let_in(self):
        """Growth does not wait for answers that take minutes."""
        aimd = Aimd()
        assert len(fill(aimd, 0.0)) == FIRST_LIMIT
        assert aimd.wait_s(0.0) == pytest.approx(3.0)
        for step in range(1, 100):
            fill(aimd, step / 10)
        assert aimd.busy > 4 * FIRST_LIMIT


class TestRefusals:
    def test_one_episode_is_one_cut(self):
        """Of a hundred in flight thirty are refused: seventy are what the provider takes."""
        aimd = Aimd(100)
        tickets = fill(aimd, 0.0)
        for ticket in tickets[:30]:
            aimd.refused(ticket, 0.5)
        assert (aimd.parallel, aimd.busy, aimd.pause_s(0.5)) == (70, 70, 0.0)

    def test_a_few_refusals_cut_by_a_quarter_and_grow_back_to_what_was_taken(self):
        """41 in flight, one refused: 30 at once, then 40, and a hold before 41."""
        aimd = Aimd(41)
        tickets = fill(aimd, 0.0)
        aimd.refused(tickets.pop(), 0.0)
        assert aimd.parallel == 30
        seen = []
        for step in range(1, 400):
            now = step / 100
            done = [t for t in tickets if now - t.left_at >= 1.0]
            tickets = [t for t in tickets if t not in done]
            answer(aimd, done, now)
            tickets += fill(aimd, now)
            seen.append(aimd.parallel)
        assert seen[150] == 40
        assert seen.index(41) - seen.index(40) >= 200  # two round trips

    def test_a_way_that_stays_closed_is_tried_less_and_less_often(self):
        """The hold doubles with each probe that fails at the same level, up to ten seconds."""
        aimd, tickets, probes = Aimd(), [], []
        for step in range(1, 8000):
            now = step / 100
            done = [t for t in tickets if now - t.left_at >= 1.0]
            tickets = [t for t in tickets if t not in done]
            answer(aimd, done, now)
            for ticket in fill(aimd, now):
                if len(tickets) < 24:
                    tickets.append(ticket)
                else:
                    aimd.refused(ticket, now)
                    probes.append(now)
        gaps = [b - a for a, b in itertools.pairwise(probes)]
        assert gaps[0] == pytest.approx(2.3, abs=0.6)
        assert gaps == sorted(gaps[:3]) + gaps[3:]
        assert 9 < gaps[-1] < 12

    def test_when_everything_is_refused_one_at_a_time_asks(self):
        """The pauses grow by six up to half a minute, and after five episodes waiting is in vain."""
        aimd, now, pauses = Aimd(50), 0.0, []
        while aimd.chances(now, 5):
            for ticket in fill(aimd, now):
                aimd.refused(ticket, now)
            assert aimd.parallel == 1
            pauses.append(aimd.pause_s(now))
            now += pauses[-1]
        assert pauses == [0.25, 1.5, 9.0, 30.0, 30.0]

    def test_an_answer_forgives_the_strikes(self):
        """The next pause is the first one again, and after answers a minute of refusals is borne."""
        aimd = Aimd(1)
        for now in (0.0, 1.0, 3.0):
            aimd.refused(*fill(aimd, now), now)
        answer(aimd, fill(aimd, 20.0), 21.0)
        aimd.refused(*fill(aimd, 21.0), 21.0)
        assert aimd.pause_s(21.0) == 0.25
        assert aimd.chances(21.0, 5) == 4

    @pytest.mark.parametrize("asked", [0.0, -3.0, math.nan, math.inf, None])
    def test_nonsense_is_no_hint(self, asked):
        """Zero, negative, infinite and not a number count as absent."""
        aimd = Aimd(1)
        aimd.refused(*fill(aimd, 0.0), 0.0, asked)
        assert aimd.pause_s(0.0) == 0.25

    @pytest.mark.parametrize(("asked", "pause_s"), [(7.0, 7.0), (100.0, 30.0), (1e9, 30.0)])
    def test_a_hint_is_honoured_within_bounds(self, asked, pause_s):
        """Half a minute at most."""
        aimd = Aimd(1)
        aimd.refused(*fill(aimd, 0.0), 0.0, asked)
        assert aimd.pause_s(0.0) == pause_s


class TestHeadroom:
    def told(self, *, left=0, reset_s=8.0):
        aimd = Aimd(1)
        headroom = Headroom(requests=left, requests_reset_s=reset_s)
        aimd.answered(*fill(aimd, 0.0), 1.0, waiting=True, headroom=headroom)
        return aimd.pause_s(1.0)

    def test_nothing_left_is_a_pause_until_the_reset(self):
        """At most half a minute."""
        assert self.told() == 8.0
        assert self.told(reset_s=90.0) == MAX_PAUSE_S

    @pytest.mark.parametrize("reset_s", [None, 0.0, -1.0, math.nan, math.inf, 1e9])
    def test_a_reset_that_makes_no_sense_is_none(self, reset_s):
        """Nor one that is hours away: a 429 will say so."""
        assert self.told(reset_s=reset_s) == 0.0

    @pytest.mark.parametrize("left", [1, 500, -1, None])
    def test_anything_else_is_no_pause(self, left):
        """A negative rest is as good as none said."""
        assert self.told(left=left) == 0.0

    def test_whoever_always_says_so_is_not_believed(self):
        """A header that is stuck at zero costs two pauses, not one for each answer."""
        aimd, now, pauses = Aimd(1), 0.0, []
        for _ in range(6):
            (ticket,) = fill(aimd, now)
            headroom = Headroom(tokens=0, tokens_reset_s=5.0)
            aimd.answered(ticket, now + 1, waiting=True, headroom=headroom)
            now += 1
            pauses.append(aimd.pause_s(now))
            now += pauses[-1]
        assert pauses == [5.0, 5.0, 0.0, 0.0, 0.0, 0.0]


class TestGap:
    def test_the_gap_that_was_long_enough_is_kept_and_tried_shorter(self):
        """One every 4 s passes: refused after 0.5 and 2.2 s, answered after 5: the gap becomes 2.75 s, and fades."""
        gap = Gap()
        gap.admitted(0.0)
        gap.refused(0.5, alone=True)
        gap.refused(2.2, alone=True)
        gap.admitted(5.0)
        assert gap.gap_s == pytest.approx(2.75)
        for now in range(6, 30):
            gap.admitted(now)
        assert gap.gap_s == 0.0

    def test_an_outage_teaches_no_gap(self):
        """What lasts longer than a few seconds is no rate."""
        gap = Gap()
        gap.admitted(0.0)
        gap.refused(0.5, alone=True)
        gap.refused(2.2, alone=True)
        gap.admitted(60.0)
        assert gap.gap_s == 0.0


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_sane_time_is_positive_and_finite(seconds):
    """Whatever a header holds."""
    sane = sane_s(seconds)
    assert sane is None or (sane == seconds and 0 < sane < math.inf)


@given(
    st.none() | st.integers(1, 50),
    st.lists(
        st.tuples(st.sampled_from("larec"), st.integers(0, 99), st.floats(0, 5)), max_size=200
    ),
)
def test_any_story_leaves_a_limit_that_works(declared, story):
    """At least 1, never above what was declared, the books of those in flight right, pauses bounded."""
    aimd, flying, now = Aimd(declared), [], 0.0
    for deed, which, seconds in story:
        now += seconds
        if deed == "l" and aimd.wait_s(now) == 0:
            flying.append(aimd.leave(now))
        elif flying and deed != "l":
            ticket = flying.pop(which % len(flying))
            if deed == "a":
                aimd.answered(ticket, now, waiting=which % 2 == 0)
            elif deed == "r":
                aimd.refused(ticket, now, seconds * 20)
            aimd.ended(ticket)
        assert aimd.busy == len(flying)
        assert 1 <= aimd.parallel <= (declared or math.inf)
        assert 0 <= aimd.pause_s(now) <= MAX_PAUSE_S + 1e-6  # sums of times are not exact
        assert aimd.wait_s(now) >= 0
