"""What 429s teach: when to pause, and how many requests a provider takes at once."""

import math
from collections import deque
from dataclasses import dataclass

from swarmcli.core.events import LimitChanged
from swarmcli.core.ports import Emit

MAX_PAUSE_S = 30.0
"""Longest that anybody waits because a provider asks to."""
_FIRST_PAUSE_S = 0.5
_REPORT_EVERY_S = 1.0
_MEMORY = 50
"""Outcomes that are remembered."""
_FEW = 5
_MANY = 0.4
"""More than so many and more than this share of them are 429s: fewer are let out at once."""


class Gate:
    """What a provider's 429s taught: a pause for all, and how many requests it takes at once.

    A 429 now and then is only a pause. When many are refused, then of those at work the ones that are
    not refused are as many as the provider takes: that is the new limit. Each answer after that raises
    it by one up to half of what was too much; from there it creeps, faster the longer all goes well.
    All 429s of one burst are one lesson.
    """

    def __init__(self, name: str, declared: int | None, emit: Emit) -> None:
        self._name = name
        self._emit = emit
        self._declared = math.inf if declared is None else max(1, declared)
        self._limit = self._declared
        self._too_much = math.inf
        self._outcomes: deque[bool] = deque(maxlen=_MEMORY)
        self._clean = 0
        self._open_at = -math.inf
        self._learnt_at = -math.inf
        self._strikes = 0
        self._burst = _Burst(0)
        self._told_at = -math.inf
        self._told = self.parallel

    @property
    def parallel(self) -> float:
        """Requests that may be at work at once: whole, or infinite."""
        return self._limit if math.isinf(self._limit) else int(self._limit)

    def pause_s(self, now: float) -> float:
        """How long nothing may leave."""
        return max(0.0, self._open_at - now)

    def refused(self, left_at: float, now: float, retry_after_s: float | None, busy: int) -> None:
        """A request that left at `left_at` came back as a 429, while `busy` were at work."""
        asked = retry_after_s if retry_after_s is not None and retry_after_s > 0 else None
        if left_at > self._learnt_at:
            self._strikes += 1
            self._learnt_at = now
            self._burst = _Burst(busy)
            if asked is None:
                asked = _FIRST_PAUSE_S * 2 ** min(self._strikes - 1, 10)
        if asked is not None:
            self._open_at = max(self._open_at, now + min(asked, MAX_PAUSE_S))
        self._outcomes.append(False)
        self._clean = 0
        self._burst.refused += 1
        many = self._outcomes.count(False) > max(_FEW, _MANY * len(self._outcomes))
        if many or self._limit < self._declared:
            self._burst.cut = True
            if math.isinf(self._too_much):
                self._too_much = self._burst.size
            self._limit = max(1.0, min(self._limit, self._burst.size - self._burst.refused))
            self._changed(now, "rate limited by the provider")

    def passed(self, left_at: float, now: float) -> None:
        """A request that left at `left_at` was answered."""
        self._outcomes.append(True)
        self._clean += 1
        self._strikes = 0
        if left_at <= self._learnt_at:
            if self._burst.cut:  # some pass, some do not: it is a matter of number
                self._too_much = self._burst.size
        elif self._limit < self._declared:
            quick = self._limit < self._too_much / 2
            step = 1.0 if quick else min(1.0, (self._clean / _MEMORY) ** 2)
            self._limit = min(self._declared, self._limit + step)
            self._changed(now, "answers come again")

    def _changed(self, now: float, reason: str) -> None:
        if self.parallel == self._told or now - self._told_at < _REPORT_EVERY_S:
            return
        self._told_at, self._told = now, self.parallel
        self._emit(LimitChanged(bucket=self._name, parallel=int(self._limit), reason=reason))


@dataclass(slots=True)
class _Burst:
    """Those that were at work when the first of them was refused."""

    size: int
    refused: int = 0
    cut: bool = False
    """It has lowered the limit."""
