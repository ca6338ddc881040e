"""Thirty pipelines of ten steps with uneven latencies, in virtual time: what a stage barrier would cost.

Each step takes a lognormal time (median 1.8 s, sigma 0.6), as model calls do. Ten pipelines at a time have a summary,
and the three summaries one conclusion, so the graph has 304 agents. The run goes through the real engine; only the
model and the time are not real.

    python -m tests.pipelines [seed ...]     # speed-up measured, and with barriers, one line per seed
"""

import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from swarmcli.core.budget import Budget
from swarmcli.core.events import RunStarted
from swarmcli.core.plan import Task
from swarmcli.core.routing import ModeChoice
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.order import RunOrder
from swarmcli.engine.run import Run
from swarmcli.testing import RecordingRecorder, ScriptedClient
from tests.core.tasks import task
from tests.engine.stage import BLOCKS, fingerprint, roles_of
from tests.virtual import LoopClock, virtual_runner

MEDIAN_S, SIGMA = 1.8, 0.6
GROUPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run, and the same latencies under stage barriers."""

    agents: int
    speedup: float
    """As the run reports it: agents' seconds by wall seconds."""
    ideal: float
    """Agents' seconds by those of the longest chain: no scheduler can be faster."""
    barrier: float
    """With a barrier after each step, every step of all pipelines at once."""


def pipelines(seed: int, *, count: int = 30, steps: int = 10, parallel: int = 100) -> Measured:
    """Play one run."""
    tasks = graph(count, steps)
    rng = random.Random(seed)
    takes = {t.id: rng.lognormvariate(math.log(MEDIAN_S), SIGMA) for t in tasks}
    with virtual_runner() as runner:
        clock = LoopClock()
        run = Run(
            order=RunOrder(
                mode=ModeChoice(mode="swarm", reason="the test"),
                tasks=tasks,
                started=RunStarted(recipe="pipelines", models={}),
                parallel=parallel,
            ),
            briefing=Briefing(blocks=BLOCKS, roles=roles_of()),
            client=ScriptedClient(
                lambda request: f"output of {request.agent}",
                clock=clock,
                latency_s=lambda request: takes[request.agent or ""],
            ),
            recorder=RecordingRecorder(),
            clock=clock,
            fingerprint=fingerprint,
            spent=lambda: Budget().spent,
        )
        report = runner.run(run.execute())
    assert report.end.status == "ok"
    return Measured(
        agents=len(report.outcomes),
        speedup=float(report.end.totals["speedup"]),
        ideal=sum(takes.values()) / longest(tasks, takes),
        barrier=sum(takes.values()) / with_barriers(tasks, takes),
    )


def graph(count: int, steps: int) -> tuple[Task, ...]:
    """The pipelines side by side, their summaries, and the conclusion."""
    lines = [
        [task(f"p{i}-s{s}", *([f"p{i}-s{s - 1}"] if s else [])) for s in range(steps)]
        for i in range(count)
    ]
    ends = [line[-1].id for line in lines]
    size = math.ceil(count / GROUPS)
    sums = [task(f"sum{g}", *ends[g * size : (g + 1) * size]) for g in range(GROUPS)]
    return (*[t for line in lines for t in line], *sums, task("end", *[t.id for t in sums]))


def _finish(tasks: Sequence[Task], takes: dict[str, float]) -> dict[str, float]:
    ended: dict[str, float] = {}
    for one in tasks:
        needs = (ended[agent] for d in one.depends_on for agent in d.agents)
        ended[one.id] = max(needs, default=0.0) + takes[one.id]
    return ended


def longest(tasks: Sequence[Task], takes: dict[str, float]) -> float:
    """Seconds of the longest dependency chain."""
    return max(_finish(tasks, takes).values())


def with_barriers(tasks: Sequence[Task], takes: dict[str, float]) -> float:
    """Seconds when a level of the graph begins only after the whole level before it has ended."""
    level = _finish(tasks, dict.fromkeys(takes, 1.0))
    slowest: dict[float, float] = {}
    for one in tasks:
        slowest[level[one.id]] = max(slowest.get(level[one.id], 0.0), takes[one.id])
    return sum(slowest.values())


if __name__ == "__main__":
    for number in map(int, sys.argv[1:] or range(10)):
        measured = pipelines(number)
        sys.stdout.write(
            f"seed {number}: {measured.agents} agents, speed-up {measured.speedup:.2f} "
            f"(ideal {measured.ideal:.2f}, with barriers {measured.barrier:.2f})\n"
        )
