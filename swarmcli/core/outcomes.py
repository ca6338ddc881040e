"""How each agent ended: values, not exceptions."""

from dataclasses import dataclass
from typing import Literal

from swarmcli.core.events import Failure, Usage
from swarmcli.core.plan import Task
from swarmcli.core.replies import Claim
from swarmcli.core.tally import VoteResult

OutcomeState = Literal["done", "failed", "skipped", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one agent. Times are seconds since the run began; money is US dollars."""

    task: Task
    state: OutcomeState
    output: str | None = None
    """None unless `state` is done."""
    status: str = "ok"
    """What a finished agent says of its answer: ok, insufficient or conflict."""
    claims: tuple[Claim, ...] = ()
    verdict: str = ""
    """What the critic says of the answer: accept, reject or unsure; empty where nobody judged it."""
    failure: Failure | None = None
    hint: str | None = None
    """What helps against the failure, for a person; None when nobody knows, and in a resumed run."""
    model: str = ""
    cached: bool = False
    reused: bool = False
    hedged: bool = False
    attempts: int = 0
    usage: Usage | None = None
    cost_usd: float | None = 0.0
    """None when the price is unknown."""
    busy_s: float = 0.0
    started_s: float = 0.0
    ended_s: float = 0.0
    key: str = ""
    vote: VoteResult | None = None
    """How its answer was voted for; None when nobody voted."""

    @property
    def agent(self) -> str:
        """The agent's id."""
        return self.task.id

    @property
    def caveat(self) -> str:
        """What speaks against the output of a finished agent, for whoever works with it; empty where nothing does."""
        if self.state != "done" or self.status == "ok":
            return ""
        if self.status == "insufficient":
            return "status insufficient: it could not do its task and says what is missing"
        if self.verdict == "reject":
            return "status conflict: a reviewer found its answer wrong"
        return "status conflict: it found contradictions in what it was given"

    @property
    def reason(self) -> str:
        """Why there is no output, in a few words."""
        return f"{self.failure.kind}: {self.failure.message}" if self.failure else self.state
