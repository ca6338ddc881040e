"""Events v1: what happened, as flat frozen values. One JSON object a line in the journal and in `stream-json`.

Rule: changes are additive. Every field is JSON-native, or one of the small values at the top of this file.
`agent` is an agent's id (`scan[3]` in a fan-out) and stands only on events that concern one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from swarmcli.recipe.values import Json

SCHEMA_VERSION = 1

BY_PROVIDER = "rate limited by the provider"
"""The reason in `limit.waiting` and `limit.changed` after a 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the provider counted them; `cached_tokens` are input tokens that it read from its own cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed. `kind` is one of `errors.FailureKind`."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    type: ClassVar[str] = "run.started"
    recipe: str
    models: Mapping[str, str]
    """Role -> LiteLLM id."""
    model_reason: str = ""
    """Why this model: `-m`, the recipe, a key that is set, ..."""
    resumed: bool = False
    max_cost_usd: float | None = None
    parallel: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChosen:
    type: ClassVar[str] = "mode.chosen"
    mode: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStarted:
    type: ClassVar[str] = "plan.started"
    model: str
    repair: str | None = None
    """The exact fault of the previous answer, when this is the repair turn."""
    revision: str | None = None
    """Why the plan is looked at again, when its tasks have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTask:
    """One agent became known: from the planner's stream, a fixed graph or a plan file."""

    type: ClassVar[str] = "plan.task"
    agent: str
    group: str
    """The task's id; equal to `agent` unless it is one item of a fan-out."""
    prompt: str
    """Unrendered; at most 200 characters, for displays."""
    depends_on: tuple[str, ...] = ()
    model: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReady:
    type: ClassVar[str] = "plan.ready"
    tasks: int
    folded: Mapping[str, str] = field(default_factory=dict[str, str])
    """Duplicate task -> the task that stands for it."""
    seconds: float = 0.0
    plan: Json = None
    """The plan as plan v1, for a planner-made one: what a resumed run uses instead of planning again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted:
    type: ClassVar[str] = "agent.started"
    agent: str
    model: str
    prompt: str = ""
    """What the model is asked (the user message), cut at 20,000 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUpdated:
    type: ClassVar[str] = "agent.updated"
    agent: str
    note: str
    """A few words for the agent's row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCompleted:
    """The agent's work is done and durable."""

    type: ClassVar[str] = "agent.completed"
    agent: str
    output: str
    status: str = "ok"
    """What the agent says of its answer: ok, insufficient or conflict."""
    model: str = ""
    cached: bool = False
    reused: bool = False
    """True when an earlier session of this run had finished it; nothing was called."""
    hedged: bool = False
    """A duplicate request was sent because the first one was slow."""
    attempts: int = 1
    tokens: Usage | None = None
    cost_usd: float | None = None
    seconds: float = 0.0
    """Busy time: first request sent to last reply, waiting for a slot excluded."""
    claims: Json = None
    verdict: str = ""
    """What a critic says of the answer: accept, reject or unsure; empty where nobody judged it."""
    key: str = ""
    """Hash of everything that went into the answer; a resumed run reuses the output only when it is equal."""
    vote: Json = None
    """How it was voted for: value, counts, agreed, escalated, audited, ...; absent when nobody voted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFailed:
    type: ClassVar[str] = "agent.failed"
    agent: str
    error: Failure
    model: str = ""
    attempts: int = 1
    tokens: Usage | None = None
    """What its answered calls took."""
    cost_usd: float | None = 0.0
    """None when nobody has said what a charged call cost."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSkipped:
    """It will never start, because of what `because` says."""

    type: ClassVar[str] = "agent.skipped"
    agent: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCancelled:
    """It had started and was stopped without a result."""

    type: ClassVar[str] = "agent.cancelled"
    agent: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """A request leaves for the provider (not for cached answers)."""

    type: ClassVar[str] = "call.started"
    model: str
    purpose: str
    attempt: int = 1
    estimated_tokens: int | None = None
    """Input and output together, as they were reserved under the run's caps."""
    estimated_usd: float | None = None
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCompleted:
    type: ClassVar[str] = "call.completed"
    model: str
    purpose: str
    seconds: float
    tokens: Usage | None = None
    cost_usd: float | None = None
    booked_tokens: int | None = None
    """What the budget counts for an answer whose tokens nobody has told; None where they are known."""
    booked_usd: float | None = None
    cached: bool = False
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed:
    """A request that left came back without an answer, or was cut off; a `call.retry` may follow."""

    type: ClassVar[str] = "call.failed"
    model: str
    purpose: str
    kind: str
    """One of `errors.FailureKind`, or `cancelled`."""
    booked_tokens: int = 0
    """What the budget counts for it: nothing where the provider turned it away; what its twin took where another call
    has answered the same question; else all that was reserved."""
    booked_usd: float | None = 0.0
    tokens: Usage | None = None
    """What the provider has counted; None: it has not said, and what is booked is a guess."""
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRetry:
    """A call failed and will be tried again after `delay_s`."""

    type: ClassVar[str] = "call.retry"
    model: str
    purpose: str
    attempt: int
    """The attempt that failed, from 1."""
    max: int
    delay_s: float
    kind: str
    message: str = ""
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHedged:
    """A call takes longer than most of its siblings, so the same is asked once more; the first answer counts."""

    type: ClassVar[str] = "call.hedged"
    model: str
    to: str
    """The model that is asked as well; the same id for another connection."""
    after_s: float
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCompleted:
    """A model call on whose answer something builds was answered: a resumed run does not ask it again."""

    type: ClassVar[str] = "turn.completed"
    agent: str | None = None
    """Whose call it was, and not its last; None for one about a conflict between agents."""
    key: str
    """The input key of the request."""
    output: str
    model: str = ""
    cached: bool = False
    hedged: bool = False
    attempts: int = 1
    tokens: Usage | None = None
    cost_usd: float | None = None
    seconds: float = 0.0
    """Busy time, as in `agent.completed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted:
    """A tool is about to be called; for one with side effects this is durable before the call leaves."""

    type: ClassVar[str] = "tool.started"
    agent: str
    tool: str
    """`server/tool`."""
    call: str
    """The idempotency key: run, agent and number of the call."""
    read_only: bool = False
    """Calling it again does no harm: the configuration says so, not the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCompleted:
    type: ClassVar[str] = "tool.completed"
    agent: str
    tool: str
    call: str
    seconds: float = 0.0
    error: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWaiting:
    """Calls of one bucket wait for a declared or learnt limit; sent when the state changes, at most once a second."""

    type: ClassVar[str] = "limit.waiting"
    bucket: str
    waiting: int
    reason: str
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChanged:
    """The state of one bucket's limit changed; at most once a second and bucket, and the first 429 at once."""

    type: ClassVar[str] = "limit.changed"
    bucket: str
    parallel: int
    """Requests that may be in flight at once."""
    reason: str
    pause_s: float = 0.0
    """Nothing leaves for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetWarning:
    type: ClassVar[str] = "budget.warning"
    message: str
    cost_usd: float | None = None
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictFound:
    """Two agents state different values for the same key."""

    type: ClassVar[str] = "conflict.found"
    key: str
    values: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteTallied:
    """The votes of one agent are in; where they are escalated, the large model is asked next."""

    type: ClassVar[str] = "vote.tallied"
    agent: str
    rule: str
    """unanimous or majority."""
    agreed: bool
    escalated: bool
    value: str | None = None
    """The value that leads; None when nobody gave one."""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """Value -> votes, most votes first."""
    asked: int = 0
    """Votes that were asked for; those that are not in `counts` abstained, or were not needed any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticJudged:
    """A critic of another model has recomputed an agent's answer."""

    type: ClassVar[str] = "critic.judged"
    agent: str
    model: str
    verdict: str
    """accept, reject or unsure."""
    first_error: str = ""
    round: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRevised:
    """The planner has changed its plan after it heard how the first tasks ended."""

    type: ClassVar[str] = "plan.revised"
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Tasks whose outcomes no longer count: others stand for them."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something the user should know that stops nothing."""

    type: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeStarted:
    type: ClassVar[str] = "merge.started"
    strategy: str
    agents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeCompleted:
    type: ClassVar[str] = "merge.completed"
    strategy: str
    seconds: float = 0.0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """The shared shape of the three last events of a run; use its subclasses."""

    type: ClassVar[str] = "run.end"
    status: str
    """ok, partial, unverified, budget, timeout, interrupted or failed."""
    exit_code: int
    result: str | None = None
    error: Failure | None = None
    totals: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """The numbers of `--json`: agents, usage, cost_usd, duration_s, speedup, critical_path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(RunEnd):
    """A result was written; `status` and `exit_code` say how whole it is."""

    type: ClassVar[str] = "run.completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(RunEnd):
    """There is no result."""

    type: ClassVar[str] = "run.failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInterrupted(RunEnd):
    """A signal ended the run; `result` holds a partial merge where there is one."""

    type: ClassVar[str] = "run.interrupted"


Event = (
    RunStarted
    | ModeChosen
    | PlanStarted
    | PlanTask
    | PlanReady
    | AgentStarted
    | AgentUpdated
    | AgentCompleted
    | AgentFailed
    | AgentSkipped
    | AgentCancelled
    | CallStarted
    | CallCompleted
    | CallFailed
    | CallRetry
    | CallHedged
    | TurnCompleted
    | ToolStarted
    | ToolCompleted
    | LimitWaiting
    | LimitChanged
    | BudgetWarning
    | ConflictFound
    | VoteTallied
    | CriticJudged
    | PlanRevised
    | Warned
    | MergeStarted
    | MergeCompleted
    | RunCompleted
    | RunFailed
    | RunInterrupted
)

EVENT_TYPES: Mapping[str, type[Event]] = {cls.type: cls for cls in Event.__args__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """An event with its place in the run. `ts` is RFC 3339 UTC with milliseconds, `t` seconds since the run began."""

    seq: int
    ts: str
    run: str
    t: float
    event: Event


class Sink(Protocol):
    """A consumer of events: a display, a file. `feed` must return quickly and never awaits."""

    def feed(self, stamped: Stamped) -> None:
        """Take one event; events arrive in `seq` order."""
        ...

    def close(self) -> None:
        """Called once at the end, also after a failure."""
        ...
