"""What an earlier session of a run left behind, folded from its events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swarmcli.core.budget import Spent
from swarmcli.core.events import (
    AgentCompleted,
    CallCompleted,
    Event,
    PlanReady,
    RunCompleted,
    RunEnd,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from swarmcli.recipe.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The state of a run when its last session ended or was killed."""

    finished: Mapping[str, AgentCompleted]
    """Agents with a durable result."""
    plan: Json
    """Plan v1 that the planner made; None when it had not finished, or there was no planner."""
    spent: Spent
    """What answers have cost so far, all sessions together."""
    end: RunEnd | None
    """The last session's last event; None when it was killed."""

    @property
    def is_whole(self) -> bool:
        """Nothing is left to do."""
        return self.end is not None and self.end.status == "ok"


def replay(events: Iterable[Event]) -> History:
    """Fold a journal. A later session overrules an earlier one."""
    finished: dict[str, AgentCompleted] = {}
    plan: Json = None
    spent = Spent()
    end: RunEnd | None = None
    for event in events:
        match event:
            case AgentCompleted():
                finished[event.agent] = event
            case PlanReady() if event.plan is not None:
                plan = event.plan
            case CallCompleted() if not event.cached:
                spent = _with_call(spent, event)
            case RunStarted():
                end = None
            case RunCompleted() | RunFailed() | RunInterrupted():
                end = event
            case _:
                pass
    return History(finished=finished, plan=plan, spent=spent, end=end)


def _with_call(spent: Spent, call: CallCompleted) -> Spent:
    tokens = call.tokens.input_tokens + call.tokens.output_tokens if call.tokens else 0
    return Spent(
        calls=spent.calls + 1,
        tokens=spent.tokens + tokens,
        cost_usd=spent.cost_usd + (call.cost_usd or 0.0),
        cost_known=spent.cost_known and call.cost_usd is not None,
    )
