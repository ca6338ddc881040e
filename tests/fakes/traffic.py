"""The limits and the weather behind the server's door: what it admits, how long it takes, and what it has counted."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Schedule = Sequence[tuple[float, int | None]]
"""(seconds since the first request, limit from then on); None: no limit. In order of time."""

MINUTE_S = 60.0


def limit_at(limit: int | Schedule | None, elapsed_s: float) -> int | None:
    """What a limit is at a moment; before a schedule's first entry there is none."""
    if limit is None or isinstance(limit, int):
        return limit
    past = bisect_right([start for start, _ in limit], elapsed_s)
    return limit[past - 1][1] if past else None


def schedule(text: str) -> int | Schedule:
    """A limit as it is written on a command line: `40`, or `0:100,30:20,60:none`."""
    if text.isdigit():
        return int(text)
    parts = [part.partition(":") for part in text.split(",")]
    return [(float(start), None if limit == "none" else int(limit)) for start, _, limit in parts]


class Window:
    """An allowance per time, counted over a sliding window: at most `limit` in any `span_s` seconds."""

    def __init__(self, limit: float, span_s: float = MINUTE_S) -> None:
        self.limit = limit
        self.span_s = span_s
        self._taken: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def remaining(self, now: float) -> float:
        """What may still be taken at `now`."""
        while self._taken and self._taken[0][0] <= now - self.span_s:
            self._used -= self._taken.popleft()[1]
        return self.limit - self._used

    def early_s(self, amount: float, now: float) -> float:
        """How many seconds too early it is to take so much; 0 when it fits."""
        missing = amount - self.remaining(now)
        if missing <= 0:
            return 0.0
        for at, size in self._taken:
            missing -= size
            if missing <= 0:
                return max(at + self.span_s - now, 0.001)
        return self.span_s

    def take(self, amount: float, now: float) -> None:
        """Count it."""
        self._taken.append((now, amount))
        self._used += amount

    def full_in_s(self, now: float) -> float:
        """Until everything may be taken again."""
        self.remaining(now)
        return self._taken[-1][0] + self.span_s - now if self._taken else 0.0


class Allowance:
    """Requests and tokens per window, with the headers in which OpenAI tells of them."""

    def __init__(self, rpm: int | None, tpm: int | None, window_s: float) -> None:
        limits = {"requests": rpm, "tokens": tpm}
        self.windows = {k: Window(v, window_s) for k, v in limits.items() if v is not None}

    def admit(self, tokens: int, now: float) -> float:
        """Count a request in and return 0; or return in how many seconds it would fit."""
        amounts = {"requests": 1, "tokens": tokens}
        early_s = max((w.early_s(amounts[k], now) for k, w in self.windows.items()), default=0.0)
        if early_s == 0:
            for kind, window in self.windows.items():
                window.take(amounts[kind], now)
        return early_s

    def headers(self, now: float) -> Mapping[str, str]:
        """`x-ratelimit-limit-requests`, `-remaining-` and `-reset-`, and the same for tokens."""
        found: dict[str, str] = {}
        for kind, window in self.windows.items():
            found[f"x-ratelimit-limit-{kind}"] = f"{window.limit:g}"
            found[f"x-ratelimit-remaining-{kind}"] = f"{max(0.0, window.remaining(now)):.0f}"
            found[f"x-ratelimit-reset-{kind}"] = go_duration(window.full_in_s(now))
        return found


def go_duration(seconds: float) -> str:
    """As Go writes a duration, and OpenAI with it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How much longer than usual an answer takes: drawn by seed and request, the same for every order of arrival."""

    seed: int = 0
    jitter: float = 0.0
    """0.2: between 0.8 and 1.2 times the latency, evenly."""
    straggler_share: float = 0.0
    straggler_factor: float = 10.0

    def factor(self, request: str) -> float:
        """The latency of a request, as a multiple of the usual one."""
        draw = random.Random(f"weather:{self.seed}:{request}")
        spread = 1.0 + self.jitter * draw.uniform(-1.0, 1.0)
        return spread * (self.straggler_factor if self.is_straggler(request) else 1.0)

    def is_straggler(self, request: str) -> bool:
        """Whether a request is one of the slow share."""
        return random.Random(f"slow:{self.seed}:{request}").random() < self.straggler_share


def busiest(times: Sequence[float], span_s: float = MINUTE_S) -> int:
    """The largest number of moments within any `span_s` seconds, ends excluded. The times are in order."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - span_s:
            first += 1
        most = max(most, last - first + 1)
    return most
