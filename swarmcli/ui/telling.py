"""Events in, lines out: which facts of a run are worth a line of plain progress. Pure.

Rule: failures, waits and doubts are told one by one up to a number, then counted; what goes well only where there are
few agents. A line never starts with foreign text, and what is foreign in it was cleaned.
"""

from collections.abc import Iterator
from typing import NamedTuple

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    AgentStarted,
    BudgetWarning,
    CallHedged,
    CallRetry,
    ConflictFound,
    CriticJudged,
    Event,
    LimitChanged,
    LimitWaiting,
    MergeCompleted,
    MergeStarted,
    ModeChosen,
    PlanReady,
    PlanRevised,
    PlanStarted,
    RunEnd,
    RunStarted,
    Stamped,
    VoteTallied,
    Warned,
)
from swarmcli.ui.cells import cap, count, duration
from swarmcli.ui.checks import (
    AgentEnd,
    Checked,
    conflict_words,
    critic_words,
    revision_words,
    vote_words,
)
from swarmcli.ui.clean import fault_text, one_line
from swarmcli.ui.receipt import ReceiptWords
from swarmcli.ui.steps import Agent, Spend, State
from swarmcli.ui.summary import cost, estimated
from swarmcli.ui.traffic import retry_word
from swarmcli.ui.view import RunView

FEW_AGENTS = 20
"""Up to so many agents, each one's start and end is a line; so many failures and retries are told one by one."""
LIMIT_LINE_S = 1.0
"""Between two lines about the same limit."""

_END_WORDS = {
    "ok": ("done", "ok"),
    "partial": ("PARTIAL", "warn"),
    "unverified": ("UNVERIFIED", "warn"),
    "budget": ("BUDGET", "warn"),
    "timeout": ("TIMEOUT", "fail"),
    "interrupted": ("STOPPED", "stopped"),
    "failed": ("FAILED", "fail"),
}
_NOUNS = {"FAIL": "failures", "skipped": "skipped agents", "cancelled": "cancelled agents"}


class Line(NamedTuple):
    """One fact: whom it is about, the fact in a word where there is one, and what else there is to say."""

    who: str
    text: str
    word: str = ""
    style: str = ""


class Telling:
    """What was told so far, and what is to be told next.

    Args:
        view: gets every event, too.
        verbose: tell everything.
    """

    def __init__(self, view: RunView, *, verbose: bool) -> None:
        self.view = view
        self.t = 0.0
        """The time of the latest event."""
        self._verbose = verbose
        self._told: dict[str, int] = {}
        self._retried: set[str] = set()
        self._limited: dict[str, tuple[float, bool]] = {}
        """Bucket -> when its limit was last told, and whether it had refused calls then."""

    def feed(self, stamped: Stamped) -> list[Line]:
        """Take one event; the lines it makes."""
        ended = self.view.ended
        self.view.feed(stamped)
        self.t = max(self.t, stamped.t)
        lines = list(self._lines(stamped.event))
        if self.view.ended > ended and isinstance(stamped.event, AgentEnd):
            lines += self._ended_steps(self.view.agents[stamped.event.agent])
        return lines

    def _lines(self, event: Event) -> Iterator[Line]:
        match event:
            case RunStarted() | ModeChosen() | RunEnd():
                yield self._of_run(event)
            case PlanStarted() | PlanReady() | MergeStarted() | MergeCompleted():
                yield self._of_phase(event)
            case AgentStarted() | AgentCompleted():
                if self._each:
                    yield self._of_agent(event)
            case AgentFailed() | AgentSkipped() | AgentCancelled():
                line = self._of_agent(event)
                yield from self._few(_NOUNS[line.word], line, each=self._each)
            case CallRetry() | CallHedged():
                yield from self._of_call(event)
            case LimitWaiting() | LimitChanged():
                yield from self._of_limit(event)
            case VoteTallied() | CriticJudged() | ConflictFound() | PlanRevised():
                yield from self._of_check(event)
            case Warned() | BudgetWarning():
                word = "warning" if isinstance(event, Warned) else "budget"
                yield Line(word, one_line(event.message), style="warn")
            case _:
                pass

    @property
    def _each(self) -> bool:
        """What goes well is told, too."""
        return self._verbose or self.view.total <= FEW_AGENTS

    def _few(self, what: str, line: Line, *, each: bool) -> Iterator[Line]:
        """The line, while it is one of the first of its kind; then once that further ones are only counted."""
        told = self._told[what] = self._told.get(what, 0) + 1
        if each or told <= FEW_AGENTS:
            yield line
        elif told == FEW_AGENTS + 1:
            yield Line("note", f"more {what} are counted, not listed; -v lists them all")

    # One method for each kind of fact.

    def _of_run(self, event: RunStarted | ModeChosen | RunEnd) -> Line:
        view = self.view
        match event:
            case RunStarted():
                models = ", ".join(map(one_line, view.models)) or "no model"
                why = f" ({one_line(event.model_reason)})" if event.model_reason else ""
                most = "" if event.max_cost_usd is None else f"max {cap(event.max_cost_usd)}"
                again = "resumed" if event.resumed else ""
                return Line(f"run {view.short_run}", join(view.recipe, again, models + why, most))
            case ModeChosen():
                return Line("mode", join(view.mode, one_line(event.reason)))
            case RunEnd():
                word, style = _END_WORDS.get(event.status, (one_line(event.status), ""))
                error = event.error
                facts = join(
                    duration(self.t),
                    self._agents(),
                    f"{count(view.spend.tokens)} tok" if view.spend.tokens else "",
                    f"{cost(event, view, '/')}{estimated(event, view)}",
                    ReceiptWords(event.totals, free=view.free).checks(view.checks),
                    view.traffic.summary(),
                    "" if error is None else fault_text(error.kind, error.message),
                )
                return Line(f"run {view.short_run}", facts, word, style)

    def _of_phase(self, event: PlanStarted | PlanReady | MergeStarted | MergeCompleted) -> Line:
        plan, merge = self.view.plan, self.view.merge
        match event:
            case PlanStarted():  # the note: what is repaired or revised, and why
                return Line("plan", join(one_line(event.model), plan.note), "start")
            case PlanReady() if plan.seconds is None:
                return Line("plan", f"{event.tasks} agents")
            case PlanReady():
                facts = (f"{plan.seconds:.1f}s", f"{event.tasks} agents", _cost(plan.spend))
                return Line("plan", join(*facts), "done", "ok")
            case MergeStarted():
                return Line("merge", merge.note, "start")
            case MergeCompleted():
                facts = (f"{merge.seconds or 0.0:.1f}s", _cost(merge.spend))
                return Line("merge", join(*facts), "done", "ok")

    def _of_agent(self, event: AgentStarted | AgentEnd) -> Line:
        agent = self.view.agents[event.agent]
        seconds = f"{agent.seconds:.1f}s" if agent.seconds else ""
        match event:
            case AgentStarted():
                return Line(agent.id, one_line(agent.model), "start")
            case AgentCompleted():
                kept = "cached" if event.cached else "done before" if event.reused else ""
                facts = (seconds, kept, agent.outcome, _cost(agent.spend))
                return Line(agent.id, join(*facts), "done", "ok")
            case AgentFailed():
                return Line(agent.id, join(seconds, agent.outcome), "FAIL", "fail")
            case AgentSkipped():
                return Line(agent.id, agent.outcome, "skipped", "dim")
            case AgentCancelled():
                return Line(agent.id, join(seconds, agent.outcome), "cancelled", "stopped")

    def _ended_steps(self, agent: Agent) -> Iterator[Line]:
        """The steps that end with it, unless their only agent just said so itself."""
        for step, _ in agent.homes:
            size = len(step.agents)
            if step.ended < size or self.view.planning or (self._each and size == 1):
                continue
            if not any(step is shown for shown in self.view.steps()):
                continue
            failed = step.counts[State.FAILED]
            done = size - failed - step.counts[State.SKIPPED] - step.counts[State.CANCELLED]
            facts = (f"{done}/{size}", f"{failed} failed" if failed else "", _cost(step.spend))
            yield Line(step.name, join(*facts), "done", "warn" if failed else "ok")

    def _of_call(self, event: CallRetry | CallHedged) -> Iterator[Line]:
        """The first retry of each agent; hedges where each agent is told of."""
        if isinstance(event, CallHedged):
            if self._each:
                also = "" if event.to == event.model else f"to {one_line(event.to)}"
                facts = join(f"after {event.after_s:.1f}s", also)
                yield Line(one_line(event.agent or "call"), facts, "hedged", "wait")
            return
        who = event.agent or self.view.phase(event.purpose).name
        if self._verbose or who not in self._retried:
            self._retried.add(who)
            wait = f"waits {event.delay_s:.0f}s ({event.attempt + 1}/{event.max})"
            line = Line(one_line(who), f"{retry_word(event.kind)}, {wait}", "retry", "wait")
            yield from self._few("retries", line, each=self._verbose)

    def _of_limit(self, event: LimitWaiting | LimitChanged) -> Iterator[Line]:
        """Once when a limit first holds calls back and once when it first refuses some; all changes with `-v`.

        Never twice a second: the heartbeat tells how it stands later.
        """
        traffic = self.view.traffic
        limit = traffic.limits.get(event.bucket)
        if limit is None:
            return
        holding, refusing = limit.is_holding(self.t), limit.has_refused
        told_t, told_refusing = self._limited.get(event.bucket, (None, False))
        news = (holding and told_t is None) or (refusing and not told_refusing)
        if not news and not (self._verbose and isinstance(event, LimitChanged)):
            return
        line = Line("limit", traffic.line(limit, self.t), style="wait")
        if told_t is None:
            told = list(self._few("limits", line, each=self._verbose))
        else:
            told = [] if self.t - told_t < LIMIT_LINE_S else [line]
        if line in told:
            self._limited[event.bucket] = (self.t, refusing)
        yield from told

    def _of_check(self, event: Checked) -> Iterator[Line]:
        """Doubts up to a number; what was agreed or accepted, only where each agent is told of."""
        match event:
            case VoteTallied():
                word, style = ("agreed", "ok") if event.agreed else ("split", "wait")
                line = Line(one_line(event.agent), vote_words(event), word, style)
                yield from self._doubt("votes", line, doubted=not event.agreed)
            case CriticJudged():
                doubted = event.verdict != "accept"
                facts = join(critic_words(event), f"({one_line(event.model)})")
                style = "warn" if doubted else "ok"
                line = Line(one_line(event.agent), facts, "judged", style)
                yield from self._doubt("verdicts", line, doubted=doubted)
            case ConflictFound():
                facts = join(one_line(event.key), conflict_words(event.values))
                line = Line("conflict", facts, style="warn")
                yield from self._doubt("conflicts", line, doubted=True)
            case PlanRevised():
                facts = join(revision_words(event), one_line(event.reason))
                yield Line("plan", facts, "revised", "wait")

    def _doubt(self, what: str, line: Line, *, doubted: bool) -> Iterator[Line]:
        if doubted:
            yield from self._few(what, line, each=self._verbose)
        elif self._each:
            yield line

    def _agents(self) -> str:
        counts = self.view.counts
        words = (
            (State.FAILED, "failed"),
            (State.SKIPPED, "skipped"),
            (State.CANCELLED, "cancelled"),
            (State.CACHED, "cached"),
            (State.REUSED, "done before"),
        )
        parts = ", ".join(f"{counts[state]} {word}" for state, word in words if counts[state])
        total = self.view.total
        noun = "agent" if total == 1 else "agents"
        return f"{total} {noun} ({parts})" if parts else f"{total} {noun}"


def join(*facts: str) -> str:
    """The facts that there are, side by side."""
    return "  ".join(fact for fact in facts if fact)


def _cost(spend: Spend) -> str:
    money = spend.money(4) if spend.cost_usd or spend.unpriced else ""
    return join(f"{count(spend.tokens)} tok" if spend.tokens else "", money)
