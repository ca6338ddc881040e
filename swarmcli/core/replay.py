"""What an earlier session of a run left behind, folded from its events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from swarmcli.core.accounts import Accounts
from swarmcli.core.callbook import CallBook
from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    Event,
    PlanReady,
    PlanRevised,
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
    """Plan v1 that the planner made, as it was last revised; None when it had not finished, or there was no planner."""
    replans: int = 0
    """How often it was revised."""
    spent: Spent = field(default_factory=Spent)
    """What all calls have taken so far, all sessions together, planner and writer included."""
    accounts: Accounts = field(default_factory=Accounts, compare=False)
    """What these calls were for; a session that goes on feeds them further."""
    end: RunEnd | None = None
    """The last session's last event; None when it was killed."""
    turns: Mapping[str | None, Mapping[str, TurnCompleted]] = field(
        default_factory=dict[str | None, dict[str, TurnCompleted]]
    )
    """Agent, None for conflicts -> input key -> the answer of a call on which something builds."""
    uncertain: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Unfinished agents -> tools, not read-only, whose calls had begun and of which no end is known."""

    @property
    def is_whole(self) -> bool:
        """Nothing is left to do."""
        return self.end is not None and self.end.status == "ok"


def _planned(event: PlanReady | PlanRevised, plan: Json, replans: int) -> tuple[Json, int]:
    """The last whole plan, and how often it was revised. The revised plan itself comes as a `plan.ready`."""
    if isinstance(event, PlanRevised):
        return plan, replans + 1
    return (plan if event.plan is None else event.plan), replans


def replay(events: Iterable[Event]) -> History:
    """Fold a journal. A later session overrules an earlier one."""
    finished: dict[str, AgentCompleted] = {}
    plan: Json = None
    replans = 0
    calls, accounts = CallBook(), Accounts()
    end: RunEnd | None = None
    turns: dict[str | None, dict[str, TurnCompleted]] = {}
    tools: dict[str, dict[str, str]] = {}
    for event in events:
        calls.feed(event)
        accounts.feed(event)
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
            case PlanReady() | PlanRevised():
                plan, replans = _planned(event, plan, replans)
            case RunStarted():
                end = None
            case RunCompleted() | RunFailed() | RunInterrupted():
                end = event
            case _:
                pass
    return History(
        finished=finished,
        plan=plan,
        replans=replans,
        spent=calls.spent,
        accounts=accounts,
        end=end,
        turns=turns,
        uncertain={agent: tuple(begun.values()) for agent, begun in tools.items() if begun},
    )
