"""What the calls of a run were for, who asked them and which came to nothing: folded from its events. Pure.

Rule: money and tokens are those of every session of the run, as in `totals`; steps are those of the last one.
"""

from collections import defaultdict
from collections.abc import Mapping

from swarmcli.core.callbook import CallBook
from swarmcli.core.events import (
    AgentCompleted,
    CallCompleted,
    CallFailed,
    CallHedged,
    CallStarted,
    Event,
    MergeCompleted,
    PlanReady,
    PlanRevised,
    RunStarted,
    Usage,
)
from swarmcli.core.spend import Amount, Spent

AGENTS = "agents"
"""The role of agents' calls where small and large are the same model."""
OTHER = "other"
"""A model that no role names: a fallback, or a model that a task names itself."""
PHASES = ("planner", "judge", "writer")
"""Roles that are known by what a call is for, whichever model answers it."""

_SAME_MOMENT_S = 1e-3
_NAMED = 4
"""Where a recipe's own roles stand."""
_RANKS = {"planner": 0, "small": 1, "large": 2, AGENTS: 3, OTHER: 5, "judge": 6, "writer": 7}


class Accounts:
    """The sums so far; fed with all events of a run, in order."""

    def __init__(self) -> None:
        self._role_of: dict[str, str] = {}
        self._books: defaultdict[str, CallBook] = defaultdict(CallBook)
        self._steps: dict[str, tuple[int, float]] = {}
        self.cached = 0
        """Calls that the cache answered."""
        self.hedged = 0
        """Duplicates of slow calls."""
        self.lost = Amount()
        """What is booked for calls without an answer: failed, cut off, or slower than their duplicate."""
        self.lost_calls = 0
        self.folded = 0
        """Tasks of the plan that others stood for."""
        self.discarded: list[tuple[str, Amount]] = []
        """Agents that had finished before a revised plan took their outcome out, and what they took."""
        self._finished: dict[str, Amount] = {}
        self.merged_by = ""
        """The strategy of the last merge."""

    def feed(self, event: Event, t: float = 0.0) -> None:
        """The next event.

        Args:
            event: what happened.
            t: when, in seconds on any clock of this session.
        """
        match event:
            case RunStarted():
                self._begin(event)
            case CallStarted() | CallCompleted() | CallFailed():
                self._on_call(event, t)
            case CallHedged():
                self.hedged += 1
            case PlanReady():
                self.folded = max(self.folded, len(event.folded))
            case AgentCompleted() if not (event.cached or event.reused):
                usage = event.tokens or Usage()
                tokens = usage.input_tokens + usage.output_tokens
                self._finished[event.agent] = Amount(tokens=tokens, cost_usd=event.cost_usd)
            case PlanRevised():
                gone = [(name, self._finished.pop(name, None)) for name in event.removed]
                self.discarded += [(name, amount) for name, amount in gone if amount is not None]
            case MergeCompleted():
                self.merged_by = event.strategy
            case _:
                pass

    @property
    def roles(self) -> Mapping[str, Spent]:
        """What each role's calls took; planner first, writer last."""
        found = {role: book.spent for role, book in self._books.items()}
        ranked = sorted(found, key=lambda role: (_RANKS.get(role, _NAMED), role))
        return {role: found[role] for role in ranked if found[role].calls}

    @property
    def steps(self) -> Mapping[str, int]:
        """Agent -> answered calls of this session that followed one another; those side by side count once."""
        return {agent: number for agent, (number, _) in self._steps.items()}

    def role_of(self, purpose: str, model: str) -> str:
        """What a call was for: planner, judge, writer, or the role of the agent's model."""
        return purpose if purpose in PHASES else self._role_of.get(model, OTHER)

    def _begin(self, event: RunStarted) -> None:
        models = event.models
        named = {"small": "", "large": "", **models}
        same = bool(named["small"]) and named["small"] == named["large"]
        self._role_of = {named["small"]: AGENTS} if same else {}
        for role, model in named.items():
            self._role_of.setdefault(model, role)
        for book in self._books.values():
            book.feed(event)
        self._steps = {}

    def _on_call(self, event: CallStarted | CallCompleted | CallFailed, t: float) -> None:
        if isinstance(event, CallCompleted) and event.cached:
            self.cached += 1
            return
        self._books[self.role_of(event.purpose, event.model)].feed(event)
        match event:
            case CallCompleted(agent=str(agent)):
                self._step(agent, t - event.seconds, t)
            case CallFailed() if event.booked_tokens or event.booked_usd != 0 or event.tokens:
                self.lost += Amount(tokens=event.booked_tokens, cost_usd=event.booked_usd)
                self.lost_calls += 1
            case _:
                pass

    def _step(self, agent: str, started_t: float, ended_t: float) -> None:
        """Count a call that began after the last counted one had ended; ends come in order, so no count is higher."""
        number, last_t = self._steps.get(agent, (0, float("-inf")))
        if started_t >= last_t - _SAME_MOMENT_S:
            self._steps[agent] = (number + 1, ended_t)
