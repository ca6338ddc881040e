"""The circuit breaker: stops a run in which one agent after the other fails in the same way. Pure.

Rule: only failures count that say something of the model or the way to it. What one prompt brings about (a schema, a
filter, an answer that is too long) says nothing of the next one, and an answer proves that the model can be reached.
"""

from dataclasses import dataclass, field

from swarmcli.core.events import Failure

AGENTS = 5
"""Different agents that fail in the same way with no answer of the model in between ..."""
REQUESTS = 10
"""... and requests of theirs: without retries, five failures in a row are a matter of luck."""
AGENTS_WITHOUT_MODEL = 3
"""The same for a model id that the provider does not know; one that has ever answered does exist."""

_OF_THE_MODEL: frozenset[str] = frozenset(
    {"network", "server", "protocol", "rate_limit", "bad_request", "unknown_model"}
)
_ANSWERED: frozenset[str] = frozenset({"schema", "truncated", "empty", "content_filter"})
"""The agent has failed, but the model has answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """Why it makes no sense to go on with a model."""

    agents: int
    kind: str
    model: str
    last_error: str

    @property
    def because(self) -> str:
        """In a few words, for what is skipped."""
        return f"{self.agents} agents failed the same way ({self.kind}, {self.model})"

    @property
    def message(self) -> str:
        """For the user: what happened and what to do."""
        return (
            f"the run stops early: {self.agents} agents in a row failed the same way ({self.kind}, {self.model}); "
            f"the last: {self.last_error}; when that is mended, `swarm resume` goes on with the rest"
        )


@dataclass(slots=True)
class _Streak:
    """Failures of one kind since the model answered."""

    agents: set[str] = field(default_factory=set[str])
    requests: int = 0


class Breaker:
    """Counts the failures of each model by kind; one answer of the model ends all its streaks."""

    def __init__(self) -> None:
        self._streaks: dict[str, dict[str, _Streak]] = {}
        self._proven: set[str] = set()
        """Models that have answered."""

    def answered(self, model: str) -> None:
        """The provider has answered for `model`. Answers from the cache or of an earlier session prove nothing."""
        self._proven.add(model)
        self._streaks.pop(model, None)

    def failed(self, agent: str, model: str, failure: Failure, requests: int) -> Trip | None:
        """An agent has failed for good after so many requests; a trip when that was one too many."""
        if failure.kind in _ANSWERED:
            self.answered(model)
        if failure.kind not in _OF_THE_MODEL:
            return None
        streak = self._streaks.setdefault(model, {}).setdefault(failure.kind, _Streak())
        streak.agents.add(agent)
        streak.requests += requests
        if not self._is_enough(model, failure.kind, streak):
            return None
        return Trip(
            agents=len(streak.agents),
            kind=failure.kind,
            model=model,
            last_error=failure.message,
        )

    def _is_enough(self, model: str, kind: str, streak: _Streak) -> bool:
        if kind == "unknown_model":
            return len(streak.agents) >= AGENTS_WITHOUT_MODEL and model not in self._proven
        return len(streak.agents) >= AGENTS and streak.requests >= REQUESTS
