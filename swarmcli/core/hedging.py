"""Hedging: which running calls are stragglers, and how many of them may be asked twice. Pure.

Method: a call is compared with its siblings. One that still runs is a censored observation ("at least so long"), so
their quantiles are those of Kaplan and Meier's product-limit estimate (1958) over all that have started. Quantiles of
the finished ones alone are those of the quick ones: they spend the duplicates early and on the wrong calls. One
duplicate beyond a high quantile, the first answer wins: Dean and Barroso, "The Tail at Scale" (2013).
"""

import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from swarmcli.recipe.values import Hedge

FEW = 10
"""Answers of siblings below which nobody is called slow."""
MARGIN = 1.5
"""How far beyond the quantile a straggler is at least; where siblings differ much, it is quantile / median.

On a lognormal p90 * (p90 / p50) is the 99.5 % point, whatever its sigma: of equal work one call in 200 is taken for a
straggler. Chosen by simulation: a fixed margin is too late for calls of equal length, or too early for mixed ones.
"""
WORTH_S = 1.0
"""A duplicate is paid for: it must have more than this to gain."""
_MEMORY = 500
"""Ended siblings that are remembered: providers change their pace."""
_ROUNDING = 1e-6
"""Differences of clock readings are not exact."""


class Underway(Protocol):
    """What happens to a call on its way out."""

    @property
    def left_at(self) -> float | None:
        """When its first request left; None before."""
        ...

    @property
    def in_queue(self) -> bool:
        """It waits for a slot."""
        ...

    def busy_s(self, now: float) -> float:
        """Time since its first request left, queues excluded."""
        ...


@dataclass(slots=True, eq=False)
class Call:
    """A call that may be asked twice."""

    siblings: Hashable
    flight: Underway
    hedged: bool = False


class Look(NamedTuple):
    """What there is to do now."""

    stragglers: list[Call]
    """To be asked once more, each of them; they are counted as such already."""
    next_s: float | None
    """Nothing more can become a straggler for so long, unless a call starts or ends; None: nothing can."""


class HedgeBook:
    """The calls of one run, by siblings.

    Rule: duplicates never are more than `max_extra` of the calls that have left so far, rounded down.
    """

    def __init__(self, rules: Hedge) -> None:
        self._rules = rules
        self._cohorts: dict[Hashable, _Cohort] = {}
        self._ended = 0
        self.extra = 0
        """Duplicates so far."""

    @property
    def started(self) -> int:
        """Calls that have left; those that still wait for their turn are not among them."""
        running = (call for cohort in self._cohorts.values() for call in cohort.running)
        return self._ended + sum(call.flight.left_at is not None for call in running)

    def enter(self, siblings: Hashable, flight: Underway) -> Call:
        """A call begins."""
        call = Call(siblings=siblings, flight=flight)
        self._cohorts.setdefault(siblings, _Cohort()).running[call] = None
        return call

    def leave(self, call: Call, now: float, *, answered: bool) -> None:
        """A call has ended, with its own answer or without one (failed, cancelled, overtaken by its duplicate)."""
        cohort = self._cohorts[call.siblings]
        del cohort.running[call]
        if call.flight.left_at is not None:
            self._ended += 1
            cohort.ended.append((call.flight.busy_s(now), not answered))

    def look(self, now: float) -> Look:
        """Find the stragglers that may be asked twice, the worst first."""
        room = math.floor(self._rules.max_extra * self.started + _ROUNDING) - self.extra
        if room <= 0:
            return Look([], None)
        left = sorted(self._time_left(now), key=lambda entry: entry[0])
        stragglers = [call for seconds, call in left if seconds <= _ROUNDING][:room]
        for call in stragglers:
            call.hedged = True
        self.extra += len(stragglers)
        return Look(stragglers, next((s for s, _ in left if s > _ROUNDING), None))

    def _time_left(self, now: float) -> Iterator[tuple[float, Call]]:
        """Seconds until a call can be a straggler; below 0: since when it is one."""
        for cohort in self._cohorts.values():
            limit_s = cohort.limit_s(now, self._rules.quantile)
            if limit_s is None:
                continue
            for call in cohort.running:
                if not call.hedged:
                    busy_s = 0.0 if call.flight.in_queue else call.flight.busy_s(now)
                    yield limit_s - busy_s, call


class _Cohort:
    """Siblings: calls that should take about the same time."""

    def __init__(self) -> None:
        self.running: dict[Call, None] = {}
        """Oldest first."""
        self.ended: deque[tuple[float, bool]] = deque(maxlen=_MEMORY)
        """(seconds, True when it ended without its own answer)."""

    def limit_s(self, now: float, quantile: float) -> float | None:
        """The time after which a call is a straggler; None while that cannot be said."""
        times = list(self.ended)
        if sum(not censored for _, censored in times) < FEW:
            return None
        flights = (call.flight for call in self.running)
        times += [(f.busy_s(now), True) for f in flights if f.left_at is not None]
        return straggling_after_s(times, quantile)


def straggling_after_s(times: Iterable[tuple[float, bool]], quantile: float) -> float | None:
    """The time after which a call takes clearly longer than its siblings; None while the quantile is not known.

    Args:
        times: (seconds, True where the call has not ended by itself: it takes at least so long).
        quantile: between 0 and 1.
    """
    curve = list(_ended_by(times))
    high_s = next((t for t, share in curve if share >= quantile - _ROUNDING), None)
    if high_s is None:
        return None
    middle_s = next((t for t, share in curve if share >= 0.5 - _ROUNDING), 0.0)
    spread = high_s / middle_s if middle_s > 0 else 1.0
    return max(high_s * max(MARGIN, spread), high_s + WORTH_S)


def _ended_by(times: Iterable[tuple[float, bool]]) -> Iterator[tuple[float, float]]:
    """The product-limit estimate: (time, share of calls that take no longer), at each end of a call."""
    ordered = sorted(times)  # at equal times the ended ones come first, as the method wants it
    longer = 1.0
    for index, (seconds, censored) in enumerate(ordered):
        if not censored:
            longer *= 1 - 1 / (len(ordered) - index)
            yield seconds, 1 - longer
