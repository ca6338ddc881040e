"""What a display knows of agents, steps and phases: the values that `state` keeps up to date. Pure."""

from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from swarmcli.ui.cells import dollars

NOTE_HOLD_S = 0.5
"""A note stays at least this long, so that it can be read."""


class State(StrEnum):
    """Where an agent stands. The values are the letters of `Step.cells`."""

    QUEUED = "q"
    STARTED = "s"
    """It has begun, and its first call has not left yet."""
    RUNNING = "r"
    RETRYING = "w"
    DONE = "d"
    CACHED = "c"
    REUSED = "u"
    FAILED = "f"
    SKIPPED = "k"
    CANCELLED = "x"


LIVE = frozenset({State.STARTED, State.RUNNING, State.RETRYING})
ENDED = frozenset(State) - LIVE - {State.QUEUED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A call that failed and waits for its next attempt."""

    why: str
    until_t: float
    next_attempt: int
    max: int


@dataclass(slots=True, kw_only=True)
class Spend:
    """Tokens and money of one agent, step or run."""

    tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    """Calls whose price nobody knows."""
    guessed: int = 0
    """Calls that count in `cost_usd` with what was set aside for them, because nobody has said what they cost."""

    def add(self, other: "Spend") -> None:
        self.tokens += other.tokens
        self.cost_usd += other.cost_usd
        self.unpriced += other.unpriced
        self.guessed += other.guessed

    def money(self, digits: int) -> str:
        """`$0.012`, `~$0.012` with a guess in it, `$?` when it is unknown."""
        if self.unpriced:
            return "$?"
        return f"{'~' if self.guessed else ''}{dollars(self.cost_usd, digits)}"


@dataclass(slots=True, kw_only=True, eq=False)
class Agent:
    """One agent as its row shows it. All texts are cleaned and one line."""

    id: str
    group: str
    state: State = State.QUEUED
    model: str = ""
    prompt: str = ""
    note: str = ""
    note_t: float = -NOTE_HOLD_S
    next_note: str | None = None
    """Came while `note` was still being read."""
    outcome: str = ""
    """Why it failed, was skipped or cancelled; or what a finished one says of its answer, when that is not ok."""
    kind: str = ""
    """The failure's kind."""
    check: str = ""
    """How its vote went, or what a critic says of its answer."""
    retry: Retry | None = None
    """What a call of it waits for; the agent waits only while none of its calls is out."""
    out: int = 0
    """Calls that are with a provider: several where models vote, or where a slow one is asked twice."""
    hedged: bool = False
    """The same question is out twice, because the first was slow to be answered."""
    since_t: float = 0.0
    seconds: float = 0.0
    """Busy time, once it has ended."""
    spend: Spend = field(default_factory=Spend)
    called: bool = False
    homes: "list[tuple[Step, int]]" = field(default_factory=list["tuple[Step, int]"])
    """Every step that counts it, with its place there."""

    def take_note(self, note: str, t: float) -> None:
        """A new note; it shows when the one before could be read."""
        if self.next_note is not None and t >= self.note_t + NOTE_HOLD_S:
            self.note, self.next_note = self.next_note, None
            self.note_t += NOTE_HOLD_S
        if t >= self.note_t + NOTE_HOLD_S:
            self.note, self.note_t = note, t
        else:
            self.next_note = note

    def note_at(self, now_t: float) -> str:
        """The note to show now."""
        if self.next_note is not None and now_t >= self.note_t + NOTE_HOLD_S:
            return self.next_note
        return self.note


@dataclass(slots=True, kw_only=True, eq=False)
class Step:
    """The agents under one head: a fan-out, a single task, or all tasks of a plan."""

    name: str
    single: bool = False
    """It stands for one task that is also in the pool of single tasks."""
    agents: list[Agent] = field(default_factory=list[Agent])
    cells: bytearray = field(default_factory=bytearray)
    """The state of each agent, one letter each, in the order of `agents`."""
    counts: Counter[State] = field(default_factory=Counter[State])
    started: dict[str, Agent] = field(default_factory=dict[str, Agent])
    """Begun, and no call has left yet, oldest first."""
    asking: dict[str, Agent] = field(default_factory=dict[str, Agent])
    """A call has left and the agent has not ended: whose left first stands first."""
    troubled: dict[str, Agent] = field(default_factory=dict[str, Agent])
    """Those of `asking` that had to try again, the first first: also once they ask again, so that rows stay."""
    failed: list[Agent] = field(default_factory=list[Agent])
    busy_s: list[float] = field(default_factory=list[float])
    """Sorted busy times of the agents that called and ended."""
    first_t: float | None = None
    last_t: float = 0.0
    spend: Spend = field(default_factory=Spend)

    def move(self, agent: Agent, place: int, old: State, t: float) -> None:
        """Its agent at `place` has a new state."""
        state = agent.state
        self.cells[place] = ord(state)
        self.counts[old] -= 1
        self.counts[state] += 1
        if old is State.FAILED:
            self.failed.remove(agent)
        self._queue(agent)
        if state in LIVE:
            self.first_t = t if self.first_t is None else self.first_t
        elif old in LIVE or state in ENDED:
            self.last_t = max(self.last_t, t)
        if state is State.FAILED:
            self.failed.append(agent)
        if state in {State.DONE, State.FAILED} and agent.seconds > 0:
            insort(self.busy_s, agent.seconds)

    def _queue(self, agent: Agent) -> None:
        """Put a live agent behind the others of its kind; one that stands there already keeps its place."""
        state = agent.state
        if state is State.STARTED:
            self.started[agent.id] = agent
        else:
            self.started.pop(agent.id, None)
        if state in {State.RUNNING, State.RETRYING}:
            self.asking[agent.id] = agent
        else:
            self.asking.pop(agent.id, None)
            self.troubled.pop(agent.id, None)
        if state is State.RETRYING:
            self.troubled[agent.id] = agent

    @property
    def live(self) -> int:
        """How many have begun and not ended."""
        return len(self.started) + len(self.asking)

    @property
    def ended(self) -> int:
        """How many of its agents have ended."""
        return len(self.agents) - self.counts[State.QUEUED] - self.live

    @property
    def median_s(self) -> float | None:
        """Median busy time, once five agents have shown it."""
        return self.busy_s[len(self.busy_s) // 2] if len(self.busy_s) >= 5 else None


@dataclass(slots=True, kw_only=True)
class Phase:
    """Planning or merging: work of the run itself."""

    name: str
    note: str = ""
    started_t: float | None = None
    seconds: float | None = None
    """None while it runs."""
    retry: Retry | None = None
    out: int = 0
    """Questions about conflicts that are with a provider."""
    spend: Spend = field(default_factory=Spend)

    @property
    def is_live(self) -> bool:
        """It has begun and has not ended."""
        return self.started_t is not None and self.seconds is None
