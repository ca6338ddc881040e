"""The parallelism receipt: where the time went, from what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmcli.core.outcomes import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Measured work outside the agents: the planner's or the writer's. Seconds since the run began."""

    name: str
    started_s: float
    ended_s: float
    busy_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Speed-up and critical path of one run."""

    speedup: float | None
    """Agents' busy seconds by wall seconds from the first start to the last end; None when nothing was called."""
    critical_path_s: float
    critical_path: tuple[str, ...]
    """The chain with most busy seconds, planner and merge included."""


def receipt(
    outcomes: Sequence[Outcome], planner: Sequence[Span] = (), writer: Sequence[Span] = ()
) -> Receipt:
    """Add up what was measured. `outcomes` come in plan order (dependencies first).

    What an earlier session of the run had finished took no time in this one.
    """
    worked = [o for o in outcomes if o.busy_s > 0 and not o.reused]
    spans = [*planner, *writer]
    starts = [o.ended_s - o.busy_s for o in worked] + [s.ended_s - s.busy_s for s in spans]
    ends = [o.ended_s for o in worked] + [s.ended_s for s in spans]
    wall = max(ends) - min(starts) if starts else 0.0
    busy = sum(o.busy_s for o in worked)
    seconds, chain = _longest_chain(outcomes)
    before = sum(s.busy_s for s in planner)
    after = sum(s.busy_s for s in writer)
    names = (*(["planner"] if planner else []), *chain, *(["writer"] if writer else []))
    return Receipt(
        speedup=round(busy / wall, 2) if wall > 0 else None,
        critical_path_s=round(before + seconds + after, 3),
        critical_path=names,
    )


def _longest_chain(outcomes: Sequence[Outcome]) -> tuple[float, tuple[str, ...]]:
    busy: Mapping[str, float] = {o.agent: 0.0 if o.reused else o.busy_s for o in outcomes}
    total: dict[str, float] = {}
    previous: dict[str, str | None] = {}
    for outcome in outcomes:
        needs = [a for d in outcome.task.depends_on for a in d.agents if a in total]
        best = max(needs, key=lambda agent: total[agent], default=None)
        previous[outcome.agent] = best
        total[outcome.agent] = busy[outcome.agent] + (total[best] if best is not None else 0.0)
    if not total:
        return 0.0, ()
    agent: str | None = max(total, key=lambda a: total[a])
    seconds, chain = total[agent], list[str]()
    while agent is not None:
        chain.append(agent)
        agent = previous[agent]
    return seconds, tuple(reversed(chain))
