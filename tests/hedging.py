"""A run with stragglers, in virtual time: what hedging gains and what it costs. Used by tests and by the benchmark.

unhedged, hedged = compare(seed=1)
print(hedged.makespan_s / unhedged.makespan_s, hedged.extra)
"""

import asyncio
import math
import random
from dataclasses import dataclass
from typing import NamedTuple

from swarmcli.adapters.hedge import HedgedClient
from swarmcli.adapters.limits import LimitedClient
from swarmcli.adapters.retry import RetryingClient
from swarmcli.core.events import CallHedged
from swarmcli.core.ports import Message, ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.recipe.values import Hedge, ModelSpec, Rate
from swarmcli.testing import RecordingRecorder, reply_to
from tests.virtual import LoopClock, virtual_runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Stragglers:
    """What a provider's latencies are like."""

    seconds: float = 3.0
    """The median of the others."""
    sigma: float = 0.3
    """Of the lognormal that all are drawn from; 0: all take equally long."""
    share: float = 0.02
    times: float = 10.0


class SlowAtTimes:
    """A provider: each request's latency is drawn by seed, agent and how often that agent has asked."""

    def __init__(self, seed: int, latencies: Stragglers) -> None:
        self.requests = 0
        self._seed = seed
        self._latencies = latencies
        self._asked: dict[str | None, int] = {}

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        self.requests += 1
        nth = self._asked[request.agent] = self._asked.get(request.agent, 0) + 1
        await asyncio.sleep(self._latency_s(random.Random(f"{self._seed}:{request.agent}:{nth}")))
        return reply_to(request, "answer")

    async def close(self) -> None:
        pass

    def _latency_s(self, rng: random.Random) -> float:
        told = self._latencies
        seconds = told.seconds * math.exp(rng.gauss(0.0, told.sigma))
        return seconds * told.times if rng.random() < told.share else seconds


class Measured(NamedTuple):
    """How one run went."""

    makespan_s: float
    requests: int
    hedges: int
    tasks: int

    @property
    def extra(self) -> float:
        """Extra requests, as a share of the tasks."""
        return (self.requests - self.tasks) / self.tasks


def run_with_stragglers(
    seed: int,
    *,
    hedge: Hedge | None,
    latencies: Stragglers = Stragglers(),
    tasks: int = 300,
    parallel: int = 100,
) -> Measured:
    """`tasks` equal calls, `parallel` at a time, through retries and limits as in a real run."""

    async def main() -> Measured:
        clock, events, provider = LoopClock(), RecordingRecorder(), SlowAtTimes(seed, latencies)
        limited = LimitedClient(
            provider,
            rates=[Rate(pattern="*", parallel=2 * parallel)],
            clock=clock,
            emit=events.emit,
        )
        client: ModelClient = RetryingClient(
            limited, attempts=5, clock=clock, rng=random.Random(seed), emit=events.emit
        )
        if hedge is not None:
            client = HedgedClient(
                client,
                hedge,
                resolve=lambda name: ModelSpec(id=name),
                clock=clock,
                emit=events.emit,
            )
        slots = asyncio.Semaphore(parallel)

        async def one(number: int) -> None:
            async with slots:
                await client.complete(question(f"scan[{number}]"))

        async with asyncio.TaskGroup() as group:
            for number in range(tasks):
                group.create_task(one(number))
        makespan_s = clock.monotonic()
        await client.close()
        return Measured(makespan_s, provider.requests, len(events.of(CallHedged)), tasks)

    with virtual_runner() as runner:
        return runner.run(main())


def compare(seed: int, *, latencies: Stragglers = Stragglers()) -> tuple[Measured, Measured]:
    """The same run without hedging and with the defaults."""
    without = run_with_stragglers(seed, hedge=None, latencies=latencies)
    return without, run_with_stragglers(seed, hedge=Hedge(), latencies=latencies)


def question(agent: str | None = "scan[0]", **more) -> ModelRequest:
    """One agent's question."""
    model = more.pop("model", ModelSpec(id="a/model"))
    return ModelRequest(
        model=model, messages=(Message(role="user", content="q"),), agent=agent, **more
    )
