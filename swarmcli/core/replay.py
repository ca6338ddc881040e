"""What an earlier session of a run left behind, folded from its events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from swarmcli.core.callbook import CallBook
from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    Event,
    PlanReady,
    RunCompleted,
    RunEnd,
    RunFailed,
    RunInterrupted,
    RunStarted,
    ToolCompleted,
    ToolStarted,
    TurnCompleted,
)
from swarmcli.core.spend import Spent
from swarmcli.recipe.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The state of a run when its last session ended or was killed."""

    finished: Mapping[str, AgentCompleted] = field(default_factory=dict[str, AgentCompleted])
    """Agents with a durable result."""
    plan: Json = None
    """Plan v1 that the planner made; None when it had not finished, or there was no planner."""
    spent: Spent = field(default_factory=Spent)
    """What all calls have taken so far, all sessions together, planner and writer included."""
    end: RunEnd | None = None
    """The last session's last event; None when it was killed."""
    turns: Mapping[str, Mapping[str, TurnCompleted]] = field(
        default_factory=dict[str, dict[str, TurnCompleted]]
    )
    """Agent -> input key -> the answer of a call that another one had to follow."""
    uncertain: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Unfinished agents -> tools, not read-only, whose calls had begun and of which no end is known."""

    @property
    def is_whole(self) -> bool:
        """Nothing is left to do."""
        return self.end is not None and self.end.status == "ok"


def replay(events: Iterable[Event]) -> History:
    """Fold a journal. A later session overrules an earlier one."""
    finished: dict[str, AgentCompleted] = {}
    plan: Json = None
    calls = CallBook()
    end: RunEnd | None = None
    turns: dict[str, dict[str, TurnCompleted]] = {}
    tools: dict[str, dict[str, str]] = {}
    for event in events:
        calls.feed(event)
        match event:
            case AgentCompleted():
                finished[event.agent] = event
                tools.pop(event.agent, None)
            case AgentFailed() if event.error.kind == "schema":
                turns.pop(event.agent, None)  # they led nowhere: it begins anew
            case TurnCompleted():
                turns.setdefault(event.agent, {})[event.key] = event
            case ToolStarted() if not event.read_only:
                tools.setdefault(event.agent, {})[event.call] = event.tool
            case ToolCompleted():
                tools.get(event.agent, {}).pop(event.call, None)
            case PlanReady() if event.plan is not None:
                plan = event.plan
            case RunStarted():
                end = None
            case RunCompleted() | RunFailed() | RunInterrupted():
                end = event
            case _:
                pass
    return History(
        finished=finished,
        plan=plan,
        spent=calls.spent,
        end=end,
        turns=turns,
        uncertain={agent: tuple(begun.values()) for agent, begun in tools.items() if begun},
    )
