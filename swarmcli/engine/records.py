"""Tasks and outcomes as the events that the journal keeps of them."""

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    Event,
    Failure,
    PlanTask,
)
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Task


def plan_task(task: Task) -> PlanTask:
    """A task became known."""
    return PlanTask(
        agent=task.id,
        group=task.group,
        prompt=" ".join(task.prompt.split())[:200],
        depends_on=tuple(d.agents[0] if len(d.agents) == 1 else d.name for d in task.depends_on),
        model=task.model,
        profile=task.profile,
    )


def end_event(outcome: Outcome) -> Event:
    """An agent has ended; not for skipped ones, which never began."""
    failure = outcome.failure or Failure(kind="internal", message="no reason was given")
    if outcome.state == "failed":
        return AgentFailed(
            agent=outcome.agent,
            error=failure,
            model=outcome.model,
            attempts=outcome.attempts,
            tokens=outcome.usage,
            cost_usd=outcome.cost_usd,
            seconds=round(outcome.busy_s, 4),
        )
    if outcome.state == "cancelled":
        return AgentCancelled(agent=outcome.agent, because=failure.message)
    return AgentCompleted(
        agent=outcome.agent,
        output=outcome.output or "",
        status=outcome.status,
        model=outcome.model,
        cached=outcome.cached,
        reused=outcome.reused,
        hedged=outcome.hedged,
        attempts=outcome.attempts,
        tokens=outcome.usage,
        cost_usd=outcome.cost_usd,
        seconds=round(outcome.busy_s, 4),
        claims=[
            {"key": c.key, "value": c.value, "unit": c.unit, "source": c.source}
            for c in outcome.claims
        ],
        verdict=outcome.verdict,
        key=outcome.key,
        vote=None if outcome.vote is None else outcome.vote.record(),
    )
