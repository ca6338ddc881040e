"""What refusals mean that are not about the number of requests in flight. Pure: time comes in as `now`.

- `Gap`: one at a time is refused as well: it is the rate, and the time between departures is what has to grow.
- `Chance`: they come just as often with half as many in flight: others fill the provider, and holding back is no help.
- `Spent`: answers say beforehand that nothing is left of a limit per minute.
"""

import math
from collections import deque

from swarmcli.core.ports import Headroom

MAX_PAUSE_S = 30.0
"""Longest that anybody waits because a provider asks to."""
LONGEST_ASKED_S = 120.0
"""Whoever asks for more than this means another day."""
_GAP_INCREASE = 1.25
_GAP_DECREASE = 0.7
_SHORTEST_GAP_S = 0.02
_LONGEST_GAP_S = 12.0
_FEW_ANSWERS = 2
_BELIEVED = 2
"""So often in a row a provider is believed that nothing is left of its limits."""
_FEW_REFUSED = 0.35
_MANY_REFUSED = 0.5
_CALM = 20
"""After so many answers, and a round trip of them, the next refusal has a new cause."""
_SOME = 2
_ENOUGH = 8
"""Answers from which a share can be told."""


class Gap:
    """The time between departures, where one request at a time is refused as well."""

    def __init__(self) -> None:
        self.gap_s = 0.0
        self.left_at = -math.inf
        self._admitted_at = -math.inf
        self._too_soon_s = 0.0
        self._answers = _FEW_ANSWERS + 1  # since the last refusal

    def refused(self, left_at: float, *, alone: bool) -> None:
        """A request was, with nothing else in flight or not."""
        is_rate = alone and self._answers <= _FEW_ANSWERS
        self._too_soon_s = left_at - self._admitted_at if is_rate else 0.0
        self._answers = 0

    def admitted(self, left_at: float) -> None:
        """A request was; the gap before it was long enough."""
        self._answers += 1
        self.gap_s = self.gap_s * _GAP_DECREASE if self.gap_s > _SHORTEST_GAP_S else 0.0
        if self._too_soon_s and left_at - self._admitted_at <= _LONGEST_GAP_S:
            self.gap_s = max(self.gap_s, _GAP_INCREASE * self._too_soon_s)
        self._too_soon_s = 0.0
        self._admitted_at = max(self._admitted_at, left_at)


class Chance:
    """Whether refusals come by chance: as often with half as many in flight as before."""

    def __init__(self) -> None:
        self.is_it = False
        self._top = 0
        self._since = 0
        self._answered = 0
        self._refused = 0
        self._mixed = 0
        self._answered_before = 0
        self._in_a_row = 0
        self._latest: deque[bool] = deque(maxlen=5 * _ENOUGH)
        self._doubt = 1

    def outcome(self, episode: int, *, refused: bool) -> None:
        """A request came back that had left after `episode` episodes of refusals."""
        self._latest.append(refused)
        self._in_a_row += not refused
        if episode >= self._since:
            self._answered += not refused
            self._refused += refused
        share = self._latest.count(True) / len(self._latest)
        if self.is_it and len(self._latest) >= 2 * _ENOUGH and share > _MANY_REFUSED:
            self.is_it = False
            self._doubt *= 2
            self._top = 0

    def episode(self, number: int, parallel: int) -> int:
        """Episode `number` begins with a limit of `parallel`: what the limit should be, should this be chance."""
        has_new_cause = self._in_a_row >= max(_CALM, parallel)
        self._in_a_row = 0
        if self._top == 0 or (has_new_cause and not self.is_it):
            self._top, self._since, self._answered, self._refused = parallel, number, 0, 0
            self._mixed = self._answered_before = 0
            return parallel
        # Where the capacity has dropped, nothing is answered between two episodes until the limit fits.
        self._mixed += self._answered - self._answered_before >= _SOME
        self._answered_before = self._answered
        enough = self._answered >= _ENOUGH * self._doubt and self._mixed > _SOME
        share = self._refused / max(1, self._answered + self._refused)
        if not self.is_it and 2 * parallel <= self._top and enough and share <= _FEW_REFUSED:
            self.is_it = True
            self._latest.clear()
        return max(parallel, self._top)


class Spent:
    """A pause because answers say that nothing is left of a limit per minute."""

    def __init__(self) -> None:
        self.open_at = -math.inf
        self._in_a_row = 0

    def learn(self, headroom: Headroom, left_at: float, now: float) -> None:
        """Take note of what an answer says; whoever says always the same is not believed for long."""
        limits = (
            (headroom.requests, headroom.requests_reset_s),
            (headroom.tokens, headroom.tokens_reset_s),
        )
        is_later = left_at >= self.open_at
        waits = [sane_s(reset_s) for left, reset_s in limits if left == 0]
        pause_s = max((s for s in waits if s is not None and s <= LONGEST_ASKED_S), default=0.0)
        if pause_s == 0.0:
            if is_later and not waits:
                self._in_a_row = 0
            return
        self._in_a_row += is_later
        if self._in_a_row <= _BELIEVED:
            self.open_at = max(self.open_at, now + min(pause_s, MAX_PAUSE_S))


def sane_s(seconds: float | None) -> float | None:
    """A time that a provider names; None when it says nothing: zero, negative, infinite or not a number."""
    return seconds if seconds is not None and 0 < seconds < math.inf else None
