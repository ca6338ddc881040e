"""The parallelism receipt: where the time went and what was of no use, from what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from swarmcli.core import markers
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import final_tasks

_SAME_MOMENT_S = 1e-3


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
    agent_s: float = 0.0
    """Agents' busy seconds: what `speedup` divides by `wall_s`."""
    serial_s: float = 0.0
    """Seconds that planner, agents and merge would have taken one after the other."""
    wall_s: float = 0.0
    """Seconds from the first start to the last end, planner and merge included."""
    critical_steps: int = 0
    """Calls that had to follow one another if there were a barrier after each level of the graph.

    CriticalSteps of the Kimi K2.5 report (arXiv 2602.02276): over all stages, the main agent's steps plus those of the
    longest sub-agent. Main steps are the planner's and the writer's; a stage is a level of the graph. There is no such
    barrier here, so the critical path may be shorter.
    """


@dataclass(frozen=True, slots=True)
class _Phase:
    """Work outside the agents, which they or the result wait for."""

    name: str
    spans: Sequence[Span]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if self.spans else ()

    @property
    def seconds(self) -> float:
        """Busy time; what was done side by side counts once."""
        return sum(self._alone())

    @property
    def steps(self) -> int:
        """Calls that followed one another."""
        number, last_s = 0, float("-inf")
        for span in self._by_end():
            began_s = span.ended_s - span.busy_s
            if span.busy_s > 0 and last_s < span.ended_s and began_s >= last_s - _SAME_MOMENT_S:
                number, last_s = number + 1, span.ended_s
        return number

    def _alone(self) -> Iterator[float]:
        """What each span adds to those that ended before it."""
        last_s = float("-inf")
        for span in self._by_end():
            yield min(span.busy_s, max(0.0, span.ended_s - last_s))
            last_s = max(last_s, span.ended_s)

    def _by_end(self) -> list[Span]:
        """Of those that ended together the longest first, which the others count in."""
        return sorted(self.spans, key=lambda span: (span.ended_s, -span.busy_s))


def receipt(
    outcomes: Sequence[Outcome],
    planner: Sequence[Span] = (),
    writer: Sequence[Span] = (),
    judge: Sequence[Span] = (),
    *,
    steps: Mapping[str, int] | None = None,
) -> Receipt:
    """Add up what was measured. `outcomes` come in plan order (dependencies first).

    What an earlier session of the run had finished took no time in this one.

    Args:
        outcomes: every agent.
        planner: its calls.
        writer: its calls, some of them side by side.
        judge: questions about conflicts between agents, some of them side by side.
        steps: agent -> its calls that followed one another; one for each that worked where nobody counted.
    """
    worked = [o for o in outcomes if o.busy_s > 0 and not o.reused]
    phases = [_Phase("planner", planner), _Phase("judge", judge), _Phase("writer", writer)]
    spans = [span for phase in phases for span in phase.spans]
    starts = [o.ended_s - o.busy_s for o in worked] + [s.ended_s - s.busy_s for s in spans]
    ends = [o.ended_s for o in worked] + [s.ended_s for s in spans]
    wall = max(ends) - min(starts) if starts else 0.0
    busy = sum(o.busy_s for o in worked)
    seconds, chain = _longest_chain(outcomes)
    taken = {o.agent: 1 for o in worked} if steps is None else steps
    levels = _longest_of_levels(outcomes, taken)
    return Receipt(
        speedup=round(busy / wall, 2) if wall > 0 else None,
        critical_path_s=round(seconds + sum(phase.seconds for phase in phases), 3),
        critical_path=(*phases[0].names, *chain, *phases[1].names, *phases[2].names),
        agent_s=round(busy, 3),
        serial_s=round(busy + sum(s.busy_s for s in spans), 3),
        wall_s=round(wall, 3),
        critical_steps=sum(phase.steps for phase in phases) + sum(levels),
    )


def unused_agents(
    outcomes: Sequence[Outcome],
    *,
    written: str | None,
    stopped: bool = False,
) -> tuple[str, ...]:
    """Finished agents whose output reached no answer, in plan order: nobody who did better needed them.

    Args:
        outcomes: every agent.
        written: the result, where a model wrote it and was asked for provenance markers: who is not cited was not used.
        stopped: the run ended early, so that the last finished agents were merged, whether final or not.
    """
    done = {o.agent: o for o in outcomes if o.state == "done"}
    merged = final_tasks(o.task for o in (done.values() if stopped else outcomes))
    leaves = [task.id for task in merged if task.id in done]
    ignored = (
        frozenset(markers.unused(written, leaves)) if written is not None else frozenset[str]()
    )
    open_, used = [leaf for leaf in leaves if leaf not in ignored], set[str]()
    while open_:
        agent = open_.pop()
        if agent in done and agent not in used:
            used.add(agent)
            open_ += [need for d in done[agent].task.depends_on for need in d.agents]
    return tuple(agent for agent in done if agent not in used)


def _longest_of_levels(outcomes: Sequence[Outcome], steps: Mapping[str, int]) -> list[int]:
    """For each level of the graph the steps of the agent that took most."""
    level: dict[str, int] = {}
    longest: list[int] = []
    for outcome in outcomes:
        needs = [level[a] for d in outcome.task.depends_on for a in d.agents if a in level]
        mine = level[outcome.agent] = 1 + max(needs, default=-1)
        longest += [0] * (mine + 1 - len(longest))
        longest[mine] = max(longest[mine], steps.get(outcome.agent, 0))
    return longest


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
