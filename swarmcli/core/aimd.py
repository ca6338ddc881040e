"""How many requests one provider takes at once, learnt from its answers and refusals. Pure: time comes in as `now`.

A declared number is where the limit starts, and never passed. Without one it starts at 16 and grows.

- Growth: each request that is let in while others wait for the limit allows one more. The new places open one by one,
  spread over a round trip (paced exponential growth): whoever feels its way to an unknown limit by doubling in one
  burst is refused by the burst; like this it is refused once or twice.
- A refusal (429) is news for all. Those that were on their way when the first of them came back belong to the same
  episode, and are one lesson: three quarters of what it was (multiplicative decrease, Chiu and Jain 1989), and the
  requests that were *not* refused are as many as the provider takes, the ceiling.
- Back at the ceiling the limit holds for 2 round trips, and then feels its way beyond, one place first and e times as
  many each round trip (as CUBIC does, RFC 9438). Each time that fails at the same level the hold is twice as long,
  at most 10 s: so there are few refusals, and the limit always climbs back when the provider takes more again.
- When everything is refused there is nothing to learn about numbers: one at a time asks, after pauses that grow.
- What refusals mean that are not about the number in flight is `core.refusals`.
"""

import itertools
import math
from collections import deque
from dataclasses import dataclass

from swarmcli.core.ports import Headroom
from swarmcli.core.refusals import MAX_PAUSE_S, Chance, Gap, Spent, sane_s

FIRST_LIMIT = 16
_MINUTE_S = 61.0
"""What was answered before may be over a limit per minute: it is not given up before such a limit has passed."""
_FIRST_PAUSE_S = 0.25
_PAUSE_FACTOR = 6.0
_BY_CHANCE = 2
"""Episodes without an answer that mean nothing where refusals come by chance."""
_DECREASE = 0.75
_SAME_LEVEL = 0.25
"""Two ceilings that differ by this share are the same one."""
_MAX_HOLD_S = 10.0
_ADMITTED_S = 3.0
"""A request that was not refused by now was let in: answers may take minutes, refusals come at once."""
_MANY_STRIKES = 3
"""Fewer may all be refusals of one question."""
_EWMA = 0.2
_MEMORY = 4096
"""Departures and answers that are remembered."""
_A_MOMENT_S = 0.02
"""Places that were freed so short a time ago are still being filled again."""
_LATE_S = 0.05
"""How much of the growth may be made up for when nobody looked in time."""
_NOW_S = 1e-6
"""What is due so soon is due."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in flight."""

    left_at: float
    episode: int
    """How many episodes of refusals there had been when it left."""
    counts_at: float
    """When it is taken for let in, and allows one more."""
    ended: bool = False
    counted: bool = False
    """It has allowed another one already."""


@dataclass(slots=True)
class _Episode:
    """Refusals that are one lesson, and what was known before them."""

    in_flight: int = 0
    """Most requests at once while those that were refused were on their way."""
    ceiling_before: float = math.inf
    failed_probes_before: int = 0
    refused: int = 0

    @property
    def taken(self) -> int:
        """Those that were in flight and were not refused."""
        return self.in_flight - self.refused

    @property
    def failed_probes(self) -> int:
        """How often the way beyond this ceiling was closed, in a row."""
        if abs(self.taken - self.ceiling_before) <= _SAME_LEVEL * self.ceiling_before < math.inf:
            return self.failed_probes_before + 1
        return 0


class Aimd:
    """The learnt limit of one bucket: facts go in, and when the next request may leave comes out.

    Args:
        declared: a known limit; None: not known.
    """

    def __init__(self, declared: int | None = None) -> None:
        self.busy = 0
        """Requests in flight."""
        self.answers = 0
        """How often one was answered."""
        self.parallel = FIRST_LIMIT if declared is None else max(1, declared)
        """Requests that may be in flight at once; at least 1."""
        self._most = math.inf if declared is None else self.parallel
        self._ceiling = math.inf
        self._credit = 0
        self._binds = False
        self._grown_at = -math.inf
        self._hold_until = -math.inf
        self._unproven: deque[Ticket] = deque()
        self._history: deque[tuple[float, int]] = deque(maxlen=_MEMORY)
        self._episodes = 0
        self._episode = _Episode()
        self._answer_s = math.inf
        self._answered_at = -math.inf
        self._strikes = 0
        self._rate = Gap()
        self._open_at = -math.inf
        self._spent = Spent()
        self._chance = Chance()

    def pause_s(self, now: float) -> float:
        """How long nothing may leave, whatever the limit."""
        pause_s = max(self._open_at, self._spent.open_at) - now
        return pause_s if pause_s > _NOW_S else 0.0

    def wait_s(self, now: float) -> float:
        """How long a request that wants to leave must wait; infinite: until one in flight has ended."""
        self._binds = self.busy >= self.parallel
        self._count_admitted(now)
        if (pause_s := self.pause_s(now)) > 0:
            return pause_s
        if (gap_s := self._rate.left_at + self._rate.gap_s - now) > _NOW_S:
            return gap_s
        if self._binds:
            self._grow(now)
        return 0.0 if self.busy < self.parallel else max(_NOW_S, self._grows_at() - now)

    def chances(self, now: float, attempts: int, in_vain: int = 0) -> int:
        """How many more episodes may go by without an answer, of `attempts`; 0: nobody gains by waiting here.

        `in_vain`: how many went by already for one question, which is then what is asked about.
        What was answered before may only be over a limit per minute, and gets that minute.
        """
        left = min(max(_MANY_STRIKES, attempts) - self._strikes, attempts - in_vain)
        if left > 0:
            return left
        return 1 if self.answers and now - self._answered_at < _MINUTE_S else 0

    def leave(self, now: float) -> Ticket:
        """A request leaves."""
        ticket = Ticket(now, self._episodes, counts_at=now + _ADMITTED_S)
        self.busy += 1
        self._history.append((now, self.busy))
        self._rate.left_at = now
        self._unproven.append(ticket)
        return ticket

    def ended(self, ticket: Ticket) -> None:
        """It is in flight no more, whatever became of it; saying so twice does no harm."""
        if not ticket.ended:
            ticket.ended = True
            self.busy -= 1

    def answered(
        self, ticket: Ticket, now: float, *, waiting: bool, headroom: Headroom | None = None
    ) -> None:
        """It was answered; `waiting`: others want to leave."""
        seconds = max(0.0, now - ticket.left_at)
        first = self._answer_s == math.inf
        self._answer_s = seconds if first else self._answer_s + _EWMA * (seconds - self._answer_s)
        self._answered_at = now
        self.answers += 1
        self._history.append((now, self.busy))
        self._strikes = 0
        if waiting and not ticket.counted:
            self._count(ticket)
        self.ended(ticket)
        self._rate.admitted(ticket.left_at)
        self._chance.outcome(ticket.episode, refused=False)
        if headroom is not None:
            self._spent.learn(headroom, ticket.left_at, now)

    def refused(self, ticket: Ticket, now: float, retry_after_s: float | None = None) -> None:
        """It came back as a 429."""
        self._chance.outcome(ticket.episode, refused=True)
        in_flight = self._most_in_flight(ticket)
        if ticket.episode == self._episodes:
            self._begin_episode(in_flight)
        self.ended(ticket)
        self._episode.in_flight = max(self._episode.in_flight, in_flight)
        self._episode.refused += 1
        if not self._chance.is_it:
            self._cut(now)
        self._pause(now, retry_after_s)
        self._rate.refused(ticket.left_at, alone=self._episode.in_flight == 1)

    def _most_in_flight(self, ticket: Ticket) -> int:
        """While that request was: when it comes back, many of the others may have come home already."""
        begin = ticket.left_at - _A_MOMENT_S
        since = itertools.takewhile(lambda entry: entry[0] >= begin, reversed(self._history))
        return max((busy for _, busy in since), default=self.busy)

    def _begin_episode(self, in_flight: int) -> None:
        self._episode = _Episode(
            in_flight=in_flight,
            ceiling_before=self._ceiling,
            failed_probes_before=self._episode.failed_probes,
        )
        self._episodes += 1
        self._strikes += 1
        if_chance = self._chance.episode(self._episodes, self.parallel)
        if self._chance.is_it:
            self.parallel, self._ceiling = if_chance, math.inf
        else:
            self._credit = 0
            self.parallel = max(1, int(_DECREASE * min(self.parallel, in_flight)))

    def _cut(self, now: float) -> None:
        """Those of the episode that were not refused are as many as the provider takes."""
        episode = self._episode
        # When all are refused it is no matter of number, and the old ceiling is as good as any.
        self._ceiling = episode.taken if episode.taken >= 1 else episode.ceiling_before
        self.parallel = max(1, min(self.parallel, episode.taken))
        self._grown_at = now
        if self.parallel >= self._ceiling:
            self._hold(now)

    def _pause(self, now: float, retry_after_s: float | None) -> None:
        asked_s = sane_s(retry_after_s) or 0.0
        in_vain = self._strikes - (_BY_CHANCE if self._chance.is_it else 0)
        own_s = _FIRST_PAUSE_S * _PAUSE_FACTOR ** min(max(in_vain - 1, 0), 10)
        held_by_limit = in_vain == 1 and self.busy >= self.parallel
        if in_vain <= 0 or held_by_limit or (in_vain == 1 and asked_s):
            own_s = 0.0  # the limit alone holds the next ones back until some have come home
        self._open_at = max(self._open_at, now + min(max(own_s, asked_s), MAX_PAUSE_S))

    # --- growth

    def _count_admitted(self, now: float) -> None:
        """Those that left long enough ago were let in, although their answers are not there yet."""
        while self._unproven:
            ticket = self._unproven[0]
            if not ticket.ended and ticket.counts_at > now + _NOW_S:
                return
            self._unproven.popleft()
            if not ticket.ended:
                self._count(ticket)
                ticket.counts_at = (
                    now + _ADMITTED_S
                )  # as one that was answered and followed by another
                self._unproven.append(ticket)

    def _count(self, ticket: Ticket) -> None:
        """A request was let in: one more may be, when that is what others wait for."""
        is_news = ticket.episode == self._episodes or self.parallel < self._ceiling
        if is_news and self._binds and self.busy <= self.parallel:
            ticket.counted = True
            self._credit = min(self._credit + 1, self.parallel)

    def _grow(self, now: float) -> None:
        """Open the places that are due."""
        while self._credit >= 1 and (due := self._grows_at()) <= now + _NOW_S:
            self._credit -= 1
            self.parallel += 1
            self._grown_at = max(due, now - _LATE_S)
            if self.parallel == self._ceiling:
                self._hold(self._grown_at)

    def _grows_at(self) -> float:
        """When one more may be in flight."""
        if self.parallel >= self._most:
            return math.inf
        beyond = self.parallel - self._ceiling
        a_round_trip = self.parallel if beyond < 0 else min(self.parallel, 1 + beyond)
        due = self._grown_at + self._round_trip_s() / a_round_trip
        if beyond >= 0:
            due = max(due, self._hold_until)
        if self._credit >= 1:
            return due
        return max(due, self._unproven[0].counts_at) if self._unproven else math.inf

    def _hold(self, now: float) -> None:
        round_trips = 2.0 ** (1 + min(self._episode.failed_probes, 10))
        self._hold_until = now + min(_MAX_HOLD_S, self._round_trip_s() * round_trips)

    def _round_trip_s(self) -> float:
        return min(self._answer_s, _ADMITTED_S)
