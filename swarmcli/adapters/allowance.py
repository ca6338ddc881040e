"""What may leave now, by the limits that were declared for one bucket: requests and tokens a minute, requests at once.

Rules:
- An allowance only counts. Waiting, fairness and what 429s teach are `limits` and `core.aimd`.
- The minute slides: a departure counts for `WINDOW_S` from its own moment, so no minute, wherever it begins, holds too
  many. A fixed minute would let twice the limit through around its end.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from swarmcli.core.events import BY_PROVIDER
from swarmcli.core.ports import Clock

WINDOW_S = 60.5
"""A minute, and half a second for what lies between our door and the provider's: it counts arrivals."""
_SHORTEST_S = 0.001
"""No wait is shorter: a clock that rounds must not make anybody spin."""
_RECHECK_S = 1.0
"""How soon to look for a slot again if nobody says that one was freed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Declared limits of one bucket; None: not limited."""

    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that may leave; to be freed exactly once."""

    id: int


@dataclass(frozen=True, slots=True)
class Wait:
    """A request that may not leave yet: ask again after `seconds`, or when a claim was freed."""

    seconds: float
    reason: str
    """A few words for displays: `500 requests a minute`, `200,000 tokens a minute`, `50 at once`."""


class Allowance(Protocol):
    """The books of one bucket. Synchronous and quick; it has no errors."""

    def claim(self, tokens: int) -> Claim | Wait:
        """Count a request of about `tokens` tokens as leaving now, or say what it waits for."""
        ...

    def settle(self, claim: Claim, tokens: int) -> None:
        """The provider has said how many tokens it counted; called before `free`."""
        ...

    def free(self, claim: Claim) -> None:
        """The request has ended: it is in flight no more; its minute goes on."""
        ...

    def pause(self, seconds: float) -> None:
        """Nothing may leave for so long: the provider said so to one of us."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the books say at one moment."""

    paused_s: float
    """How long nothing may leave; 0 or less: no pause."""
    requests: int
    """Departures of the last minute."""
    tokens: int
    """Of these departures."""
    oldest_s: float
    """Until the oldest of them is a minute old."""
    in_flight: int


def obstacle(
    caps: Caps, standing: Standing, tokens: int, recheck_s: float = _RECHECK_S
) -> Wait | None:
    """What keeps a request of `tokens` tokens from leaving; None: nothing. Of several, the longest.

    A request that is larger than all tokens of a minute leaves when the minute holds no others.
    """
    waits = [
        Wait(max(seconds, _SHORTEST_S), reason)
        for seconds, reason in _obstacles(caps, standing, tokens, recheck_s)
    ]
    return max(waits, key=lambda wait: wait.seconds, default=None)


def _obstacles(
    caps: Caps, standing: Standing, tokens: int, recheck_s: float
) -> Iterator[tuple[float, str]]:
    if standing.paused_s > 0:
        yield standing.paused_s, BY_PROVIDER
    if caps.rpm is not None and standing.requests >= caps.rpm:
        yield standing.oldest_s, f"{caps.rpm:,} requests a minute"
    if caps.tpm is not None and 0 < standing.tokens > caps.tpm - tokens:
        yield standing.oldest_s, f"{caps.tpm:,} tokens a minute"
    if caps.parallel is not None and standing.in_flight >= caps.parallel:
        yield recheck_s, f"{caps.parallel:,} at once"


@dataclass(slots=True, eq=False)
class _Departure:
    """A request of the last minute, or one in flight."""

    leaves_at: float
    """When it stops to count."""
    tokens: int
    counts: bool = True


class LocalAllowance:
    """The books of this process alone: exact sliding windows, a step or two of work for each request.

    Args:
        caps: what is declared.
        clock: time.
        window_s: how long a departure counts.
    """

    def __init__(self, caps: Caps, clock: Clock, window_s: float = WINDOW_S) -> None:
        self._caps = caps
        self._clock = clock
        self._window_s = window_s
        self._ids = itertools.count(1)
        self._minute: deque[_Departure] = deque()
        self._tokens = 0
        self._in_flight: dict[int, _Departure] = {}
        self._open_at = -math.inf

    def claim(self, tokens: int) -> Claim | Wait:
        return self.obstacle(tokens) or self.depart(tokens)

    def obstacle(self, tokens: int) -> Wait | None:
        """What `claim` would wait for; counts nothing."""
        return obstacle(self._caps, self._standing(), tokens)

    def depart(self, tokens: int) -> Claim:
        """Count a request as leaving now, whether it may or not."""
        claim = Claim(next(self._ids))
        departure = _Departure(self._clock.monotonic() + self._window_s, tokens)
        self._in_flight[claim.id] = departure
        self._minute.append(departure)
        self._tokens += tokens
        return claim

    def settle(self, claim: Claim, tokens: int) -> None:
        departure = self._in_flight.get(claim.id)
        if departure is None:
            return
        if departure.counts:
            self._tokens += tokens - departure.tokens
        departure.tokens = tokens

    def free(self, claim: Claim) -> None:
        self._in_flight.pop(claim.id, None)

    def pause(self, seconds: float) -> None:
        if seconds > 0:  # neither is NaN
            self._open_at = max(self._open_at, self._clock.monotonic() + seconds)

    def _standing(self) -> Standing:
        now, minute = self._clock.monotonic(), self._minute
        while minute and minute[0].leaves_at <= now:
            gone = minute.popleft()
            gone.counts = False
            self._tokens -= gone.tokens
        return Standing(
            paused_s=self._open_at - now,
            requests=len(minute),
            tokens=self._tokens,
            oldest_s=minute[0].leaves_at - now if minute else 0.0,
            in_flight=len(self._in_flight),
        )


if TYPE_CHECKING:
    _allowance: type[Allowance] = LocalAllowance
