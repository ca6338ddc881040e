"""Hundreds of callers against providers with limits that nobody told them, on virtual time: what it costs to find out.

`python -m tests.traffic` prints the figures that `tests/adapters/test_traffic.py` asserts. They are exact: the real
`RetryingClient` and `LimitedClient` run on a virtual clock, and only the provider is made up.
"""

import asyncio
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swarmcli.adapters.limits import LimitedClient
from swarmcli.adapters.retry import RetryingClient
from swarmcli.core.ports import Headroom, Message, ModelReply, ModelRequest
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Rate
from swarmcli.testing import RecordingRecorder
from tests.virtual import LoopClock, virtual_runner

MODEL = ModelSpec(id="openai/gpt")

Seconds = Callable[[random.Random], float]


def constant(seconds: float) -> Seconds:
    return lambda _: seconds


def lognormal(mean_s: float, sigma: float = 0.6) -> Seconds:
    """Answer times as models have them."""
    return lambda rng: rng.lognormvariate(math.log(mean_s) - sigma**2 / 2, sigma)


class TokenBucket:
    """Requests a minute that trickle back one by one, at most `burst` at once."""

    def __init__(self, rpm: float, burst: float | None = None) -> None:
        self.per_s, self.burst = rpm / 60, rpm if burst is None else burst
        self.left, self.at = self.burst, 0.0

    def take(self, now: float) -> float:
        """0.0 when one was there, else how long until there is one."""
        self.left = min(self.burst, self.left + (now - self.at) * self.per_s)
        self.at = now
        if self.left >= 1 - 1e-9:
            self.left -= 1
            return 0.0
        return (1 - self.left) / self.per_s


class FixedMinute:
    """Requests a minute that all come back when the next minute begins."""

    def __init__(self, rpm: int) -> None:
        self.rpm, self.minute, self.taken = rpm, 0, 0

    def take(self, now: float) -> float:
        minute = int(now // 60)
        if minute != self.minute:
            self.minute, self.taken = minute, 0
        if self.taken < self.rpm:
            self.taken += 1
            return 0.0
        return 60 * (minute + 1) - now


class Unlimited:
    def take(self, now: float) -> float:
        return 0.0


@dataclass(kw_only=True)
class Provider:
    """A `ModelClient` with limits that it does not tell."""

    answer_s: Seconds = field(default_factory=lambda: constant(1.0))
    refusal_s: float = 0.0
    """How long a 429 takes to come."""
    parallel: Callable[[float], float] = lambda _: math.inf
    """Requests at once, by time."""
    minute: TokenBucket | FixedMinute | Unlimited = field(default_factory=Unlimited)
    retry_after: bool = False
    """Whether 429s say when to come back."""
    chance: float = 0.0
    """Share of requests that are refused for no reason of ours."""
    headroom: Callable[[], Headroom | None] = lambda: None
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    at_work: int = 0
    peak: int = 0
    refused: int = 0
    seen: int = 0
    log: deque[tuple[float, int]] = field(default_factory=deque)
    """(time, requests at work), at each change."""

    async def complete(self, request, stream_to=None):
        now = asyncio.get_running_loop().time()
        self.seen += 1
        wait_s = self._refusal(now)
        if wait_s is not None:
            self.refused += 1
            await asyncio.sleep(self.refusal_s)
            asked = wait_s if self.retry_after and wait_s > 0 else None
            raise ModelError("busy", kind="rate_limit", model=MODEL.id, retry_after_s=asked)
        self._work(+1)
        try:
            await asyncio.sleep(self.answer_s(self.rng))
        finally:
            self._work(-1)
        return ModelReply(text="ok", model=request.model.id, headroom=self.headroom())

    async def close(self) -> None:
        pass

    def _refusal(self, now: float) -> float | None:
        """None: it is let in; else when to come back, 0.0 where nobody can say."""
        if self.at_work >= self.parallel(now) or self.rng.random() < self.chance:
            return 0.0
        return self.minute.take(now) or None

    def _work(self, change: int) -> None:
        self.at_work += change
        self.peak = max(self.peak, self.at_work)
        self.log.append((asyncio.get_running_loop().time(), self.at_work))

    def most_at_work(self, since_s: float, until_s: float) -> int:
        """In that time."""
        return max((n for at, n in self.log if since_s <= at < until_s), default=0)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a scenario came to."""

    calls: int
    answered: int
    makespan_s: float
    refused: int
    peak: int
    longest_s: float
    """The longest that one call took, waiting included."""
    last_failure_s: float
    """When the last one was given up; 0.0: none."""

    @property
    def refused_share(self) -> float:
        """429s by calls."""
        return self.refused / self.calls


async def play(
    provider: Provider,
    *,
    calls: int,
    agents: int | None = None,
    rates: Sequence[Rate] = (),
    attempts: int = 5,
    recorder: RecordingRecorder | None = None,
) -> Figures:
    """`calls` calls by `agents` agents (None: one each), each of them as soon as it can."""
    clock, recorder = LoopClock(), recorder or RecordingRecorder()
    limited = LimitedClient(
        provider, rates=rates, clock=clock, emit=recorder.emit, attempts=attempts
    )
    client = RetryingClient(
        limited, attempts=attempts, clock=clock, rng=random.Random(2), emit=recorder.emit
    )
    todo = iter(range(calls))
    took: list[float] = []
    failed: list[float] = []

    async def agent() -> None:
        for number in todo:
            began = clock.monotonic()
            message = Message(role="user", content=f"{number}")
            request = ModelRequest(model=MODEL, messages=(message,), timeout_s=3600)
            try:
                await client.complete(request)
            except ModelError:
                failed.append(clock.monotonic())
            took.append(clock.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(agents or calls):
            group.create_task(agent())
    return Figures(
        calls=calls,
        answered=calls - len(failed),
        makespan_s=clock.monotonic(),
        refused=provider.refused,
        peak=provider.peak,
        longest_s=max(took),
        last_failure_s=max(failed, default=0.0),
    )


def simulate(provider: Provider, **load) -> Figures:
    """`play` on a virtual clock."""
    with virtual_runner() as runner:
        return runner.run(play(provider, **load))


def main() -> None:
    """Print a table of the scenarios."""
    write = sys.stdout.write
    write(f"{'scenario':44}{'answered':>12}{'makespan':>10}{'429s':>6}{'peak':>6}{'longest':>9}\n")
    for name, (make, load) in SCENARIOS.items():
        f = simulate(make(), **load)
        counts = f"{f.answered:6}/{f.calls:<5}{f.makespan_s:9.1f}s{f.refused:6}{f.peak:6}"
        write(f"{name:44}{counts}{f.longest_s:8.1f}s\n")


def steps(*limits: tuple[float, float]) -> Callable[[float], float]:
    """A limit that changes: (from when, how many)."""
    return lambda now: [limit for start, limit in limits if start <= now][-1]


FORTY = steps((0, 40))

SCENARIOS = {
    "40 at once, 1 s": (lambda: Provider(parallel=FORTY), {"calls": 600}),
    "40 at once, lognormal 1 s": (
        lambda: Provider(parallel=FORTY, answer_s=lognormal(1.0)),
        {"calls": 600},
    ),
    "40 at once, 1 s, 429s take 0.2 s": (
        lambda: Provider(parallel=FORTY, refusal_s=0.2),
        {"calls": 600},
    ),
    "40 at once, lognormal 1 s, 429s take 0.2 s": (
        lambda: Provider(parallel=FORTY, answer_s=lognormal(1.0), refusal_s=0.2),
        {"calls": 600},
    ),
    "40 at once, 0.1 s": (
        lambda: Provider(parallel=FORTY, answer_s=constant(0.1)),
        {"calls": 600},
    ),
    "40 at once, 20 s": (
        lambda: Provider(parallel=FORTY, answer_s=constant(20.0)),
        {"calls": 600},
    ),
    "no limit, 300 of 0.5 s": (lambda: Provider(answer_s=constant(0.5)), {"calls": 300}),
    "no limit, 3000 of 0.5 s by 300": (
        lambda: Provider(answer_s=constant(0.5)),
        {"calls": 3000, "agents": 300},
    ),
    "no limit, 300 of 60 s": (lambda: Provider(answer_s=constant(60.0)), {"calls": 300}),
    "100 -> 20 -> 100 at 30 s and 60 s": (
        lambda: Provider(parallel=steps((0, 100), (30, 20), (60, 100))),
        {"calls": 15000, "agents": 300},
    ),
    "600 rpm, a token bucket": (
        lambda: Provider(minute=TokenBucket(600)),
        {"calls": 1800, "agents": 300},
    ),
    "600 rpm, a bucket of 10": (
        lambda: Provider(minute=TokenBucket(600, 10)),
        {"calls": 900, "agents": 300},
    ),
    "600 rpm, a bucket of 10, Retry-After": (
        lambda: Provider(minute=TokenBucket(600, 10), retry_after=True),
        {"calls": 900, "agents": 300},
    ),
    "600 rpm, by the minute": (
        lambda: Provider(minute=FixedMinute(600)),
        {"calls": 1800, "agents": 300},
    ),
    "600 rpm, by the minute, Retry-After": (
        lambda: Provider(minute=FixedMinute(600), retry_after=True),
        {"calls": 1800, "agents": 300},
    ),
    "15 rpm, a bucket of 1, calls of 0.5 s": (
        lambda: Provider(minute=TokenBucket(15, 1), answer_s=constant(0.5)),
        {"calls": 60},
    ),
    "one in six refused by chance": (lambda: Provider(chance=1 / 6), {"calls": 300}),
    "one in five by chance, calls of 20 ms": (
        lambda: Provider(chance=0.2, answer_s=constant(0.02)),
        {"calls": 300},
    ),
    "always 429": (lambda: Provider(parallel=steps((0, 0))), {"calls": 300}),
    "429 for ever after 10 s": (
        lambda: Provider(parallel=steps((0, 40), (10, 0))),
        {"calls": 2000, "agents": 300},
    ),
    "600 rpm declared": (
        lambda: Provider(minute=Unlimited()),
        {"calls": 1800, "agents": 300, "rates": [Rate(pattern="*", rpm=600)]},
    ),
}


if __name__ == "__main__":
    main()
