"""Progress as lines for people and logs: one fact a line.

Rule: a line never starts with foreign text. Everything is prefixed and cleaned, so no model can forge a line of ours,
a command of a CI runner, or what a terminal obeys.
"""

import time
from collections.abc import Callable
from typing import TextIO

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    AgentStarted,
    AgentUpdated,
    BudgetWarning,
    CallCompleted,
    CallFailed,
    CallHedged,
    CallRetry,
    CallStarted,
    ConflictFound,
    CriticJudged,
    LimitChanged,
    LimitWaiting,
    MergeCompleted,
    MergeStarted,
    ModeChosen,
    PlanReady,
    PlanRevised,
    PlanStarted,
    PlanTask,
    RunCompleted,
    RunEnd,
    RunFailed,
    RunInterrupted,
    RunStarted,
    Stamped,
    ToolCompleted,
    ToolStarted,
    TurnCompleted,
    VoteTallied,
    Warned,
)
from swarmcli.ui.cells import Span, cap, clock, count, duration
from swarmcli.ui.checks import conflict_words, critic_words, revision_words, vote_words
from swarmcli.ui.clean import one_line
from swarmcli.ui.receipt import ReceiptWords
from swarmcli.ui.state import fault_text
from swarmcli.ui.steps import Spend, State, Step
from swarmcli.ui.summary import cost, estimated
from swarmcli.ui.terminal import paint
from swarmcli.ui.ticker import Ticker
from swarmcli.ui.traffic import retry_word
from swarmcli.ui.view import RunView
from swarmcli.ui.writer import LineWriter

FEW_AGENTS = 20
"""Up to so many agents, each one's start and end is a line; so many failures and retries are told one by one."""
BEAT_S, SLOW_BEAT_S, FIRST_MINUTE_S = 10.0, 30.0, 60.0
LIMIT_LINE_S = 1.0
"""Between two lines about the same limit."""
MAX_TEXT = 500
CLOSE_TIMEOUT_S = 2.0

_END_WORDS = {
    "ok": ("done", "ok"),
    "partial": ("PARTIAL", "warn"),
    "unverified": ("UNVERIFIED", "warn"),
    "budget": ("BUDGET", "warn"),
    "timeout": ("TIMEOUT", "fail"),
    "interrupted": ("STOPPED", "stopped"),
    "failed": ("FAILED", "fail"),
}


class PlainLines:
    """Plain lines for a log, a pipe or a dumb terminal: steps, failures, retries, and a heartbeat.

    Args:
        stream: stderr.
        verbose: a line for each agent's start and end, however many there are.
        color: with SGR codes.
        github: the log is read by a GitHub runner.
        clock: monotonic seconds, for the heartbeat.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        verbose: bool = False,
        color: bool = False,
        github: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = RunView()
        self._verbose = verbose
        self._color = color
        self._github = github
        self._writer = LineWriter(stream)
        self._ticker = Ticker(self.tick, 1.0, clock)
        self._next_beat = BEAT_S
        self._t = 0.0
        self._told: dict[str, int] = {}
        self._retried: set[str] = set()
        self._limited: dict[str, tuple[float, bool]] = {}
        """Bucket -> when its limit was last told, and whether it had refused calls then."""

    def start(self) -> None:
        """Begin the heartbeat, on the running event loop."""
        self._ticker.start()

    def feed(self, stamped: Stamped) -> None:
        self._ticker.sync(stamped.t)
        ended = self.view.ended
        self.view.feed(stamped)
        self._t = max(self._t, stamped.t)
        match stamped.event:
            case RunStarted() | ModeChosen() | RunCompleted() | RunFailed() | RunInterrupted():
                self._on_run(stamped.event)
            case PlanStarted() | PlanReady() | MergeStarted() | MergeCompleted():
                self._on_phase(stamped.event)
            case (
                AgentStarted()
                | AgentCompleted()
                | AgentFailed()
                | AgentSkipped()
                | AgentCancelled()
            ):
                self._on_agent(stamped.event, has_ended=self.view.ended > ended)
            case CallRetry() | CallHedged():
                self._on_call(stamped.event)
            case LimitWaiting() | LimitChanged():
                self._on_limit(stamped.event)
            case Warned() | BudgetWarning():
                self._on_notice(stamped.event)
            case VoteTallied() | CriticJudged() | ConflictFound() | PlanRevised():
                self._on_check(stamped.event)
            case PlanTask() | AgentUpdated() | CallStarted() | CallCompleted():
                pass
            case CallFailed() | TurnCompleted() | ToolStarted() | ToolCompleted():
                pass

    def tick(self, now_t: float) -> None:
        """Print the heartbeat when it is due: every 10 s in the first minute, then every 30 s."""
        if now_t < self._next_beat or self.view.end is not None or not self.view.run:
            return
        every = BEAT_S if now_t < FIRST_MINUTE_S else SLOW_BEAT_S
        self._next_beat = (now_t // every + 1) * every
        self._t = max(self._t, now_t)
        view, retries = self.view, self.view.traffic.retries.total()
        money, eta = view.money(), view.eta_s(now_t)
        facts = (
            f"{view.ended}/{view.total}"
            if view.total
            else "planning"
            if view.planning
            else "starting",
            f"{view.starting} starting" if view.starting else "",
            f"{view.running} running",
            f"{view.waiting} waiting",
            f"{view.counts[State.FAILED]} failed",
            f"{retries} {'retry' if retries == 1 else 'retries'}" if retries else "",
            f"{view.traffic.hedges} hedged" if view.traffic.hedges else "",
            money,
            f"eta ~{duration(max(5, round(eta / 5) * 5))}" if eta is not None else "",
            self._held(now_t),
        )
        self._line("progress", _join(*facts))

    def log(self, text: str, *, label: str = "note") -> None:
        """Print a line of the program itself."""
        self._line(label, one_line(text))

    def close(self) -> None:
        """Write what is left, for at most two seconds: nobody may be reading."""
        self._ticker.stop()
        self._writer.close(CLOSE_TIMEOUT_S)

    # One method for each kind of fact.

    def _on_run(self, event: RunStarted | ModeChosen | RunEnd) -> None:
        view = self.view
        match event:
            case RunStarted():
                models = ", ".join(map(one_line, view.models)) or "no model"
                why = f" ({one_line(event.model_reason)})" if event.model_reason else ""
                most = "" if event.max_cost_usd is None else f"max {cap(event.max_cost_usd)}"
                again = "resumed" if event.resumed else ""
                self._line(f"run {view.short_run}", _join(view.recipe, again, models + why, most))
            case ModeChosen():
                self._line("mode", _join(view.mode, one_line(event.reason)))
            case RunEnd():
                word, style = _END_WORDS.get(event.status, (one_line(event.status), ""))
                error = event.error
                fault = "" if error is None else fault_text(error.kind, error.message)
                tokens = view.spend.tokens
                facts = _join(
                    duration(self._t),
                    self._agents(),
                    f"{count(tokens)} tok" if tokens else "",
                    f"{cost(event, view, '/')}{estimated(event, view)}",
                    ReceiptWords(event.totals, free=view.free).checks(view.checks),
                    view.traffic.summary(),
                    fault,
                )
                self._line(f"run {view.short_run}", facts, word, style)

    def _on_phase(self, event: PlanStarted | PlanReady | MergeStarted | MergeCompleted) -> None:
        view = self.view
        match event:
            case PlanStarted():
                again = view.plan.note  # what is repaired or revised, and why
                self._line("plan", _join(one_line(event.model), again), "start")
            case PlanReady():
                agents = f"{event.tasks} agents"
                if view.plan.seconds is None:
                    self._line("plan", agents)
                else:
                    facts = (f"{view.plan.seconds:.1f}s", agents, _cost(view.plan.spend))
                    self._line("plan", _join(*facts), "done", "ok")
            case MergeStarted():
                self._line("merge", view.merge.note, "start")
            case MergeCompleted():
                facts = _join(f"{view.merge.seconds or 0.0:.1f}s", _cost(view.merge.spend))
                self._line("merge", facts, "done", "ok")

    def _on_agent(
        self,
        event: AgentStarted | AgentCompleted | AgentFailed | AgentSkipped | AgentCancelled,
        *,
        has_ended: bool,
    ) -> None:
        """One agent's line; `has_ended`: it had not before, as one whose answer is taken back has."""
        agent = self.view.agents[event.agent]
        each = self._verbose or self.view.total <= FEW_AGENTS
        seconds = f"{agent.seconds:.1f}s" if agent.seconds else ""
        match event:
            case AgentStarted():
                fact, told = ("start", "", one_line(agent.model)), each
            case AgentCompleted():
                kept = "cached" if event.cached else "done before" if event.reused else ""
                text = _join(seconds, kept, agent.outcome, _cost(agent.spend))
                fact, told = ("done", "ok", text), each
            case AgentFailed():
                fact = ("FAIL", "fail", _join(seconds, agent.outcome))
                told = self._may_tell("failures", each)
            case AgentSkipped():
                fact = ("skipped", "dim", agent.outcome)
                told = self._may_tell("skipped agents", each)
            case AgentCancelled():
                fact = ("cancelled", "stopped", _join(seconds, agent.outcome))
                told = self._may_tell("cancelled agents", each)
        if told:
            word, style, text = fact
            self._line(agent.id, text, word, style)
        if has_ended:
            self._tell_steps([step for step, _ in agent.homes], each)

    def _tell_steps(self, steps: list[Step], each: bool) -> None:
        """Say that a step has ended, unless its only agent just said so itself."""
        for step in steps:
            size = len(step.agents)
            if step.ended < size or self.view.planning or (each and size == 1):
                continue
            if not any(step is shown for shown in self.view.steps()):
                continue
            done = size - step.counts[State.FAILED] - step.counts[State.SKIPPED]
            done -= step.counts[State.CANCELLED]
            failed = step.counts[State.FAILED]
            facts = (f"{done}/{size}", f"{failed} failed" if failed else "", _cost(step.spend))
            self._line(step.name, _join(*facts), "done", "warn" if failed else "ok")

    def _on_call(self, event: CallRetry | CallHedged) -> None:
        if isinstance(event, CallHedged):
            if self._verbose or self.view.total <= FEW_AGENTS:
                also = "" if event.to == event.model else f"to {one_line(event.to)}"
                facts = _join(f"after {event.after_s:.1f}s", also)
                self._line(one_line(event.agent or "call"), facts, "hedged", "wait")
            return
        phases = {"planner": "plan", "judge": "judge"}
        who = event.agent or phases.get(event.purpose, "merge")
        if who in self._retried and not self._verbose:
            return
        if self._may_tell("retries", self._verbose):
            self._retried.add(who)
            wait = f"waits {event.delay_s:.0f}s ({event.attempt + 1}/{event.max})"
            self._line(one_line(who), f"{retry_word(event.kind)}, {wait}", "retry", "wait")

    def _on_limit(self, event: LimitWaiting | LimitChanged) -> None:
        """Once when a limit first holds calls back and once when it first refuses some; all changes with `-v`.

        Never twice a second: the heartbeat tells how it stands later.
        """
        traffic = self.view.traffic
        limit = traffic.limits.get(event.bucket)
        if limit is None:
            return
        holding, refusing = limit.is_holding(self._t), limit.has_refused
        told_t, told_refusing = self._limited.get(event.bucket, (None, False))
        news = (holding and told_t is None) or (refusing and not told_refusing)
        if not news and not (self._verbose and isinstance(event, LimitChanged)):
            return
        if told_t is not None and self._t - told_t < LIMIT_LINE_S:
            return
        if told_t is not None or self._may_tell("limits", self._verbose):
            self._limited[event.bucket] = (self._t, refusing)
            self._line("limit", traffic.line(limit, self._t), style="wait")

    def _held(self, now_t: float) -> str:
        """What holds most calls back, for the heartbeat."""
        traffic = self.view.traffic
        holding = [limit for limit in traffic.shown(now_t) if limit.is_holding(now_t)]
        if not holding:
            return ""
        most = max(holding, key=lambda limit: limit.waiting)
        more = f" (and {len(holding) - 1} more limits)" if len(holding) > 1 else ""
        return f"{traffic.line(most, now_t)}{more}"

    def _on_notice(self, event: Warned | BudgetWarning) -> None:
        word = "warning" if isinstance(event, Warned) else "budget"
        self._line(word, one_line(event.message), style="warn")

    def _on_check(self, event: VoteTallied | CriticJudged | ConflictFound | PlanRevised) -> None:
        """Doubts are told one by one, up to a number; what was agreed or accepted, only where each agent is."""
        each = self._verbose or self.view.total <= FEW_AGENTS
        match event:
            case VoteTallied() if (event.agreed and each) or (
                not event.agreed and self._may_tell("votes", self._verbose)
            ):
                word, style = ("agreed", "ok") if event.agreed else ("split", "wait")
                self._line(one_line(event.agent), vote_words(event), word, style)
            case CriticJudged() if (event.verdict == "accept" and each) or (
                event.verdict != "accept" and self._may_tell("verdicts", self._verbose)
            ):
                style = "ok" if event.verdict == "accept" else "warn"
                facts = _join(critic_words(event), f"({one_line(event.model)})")
                self._line(one_line(event.agent), facts, "judged", style)
            case ConflictFound() if self._may_tell("conflicts", self._verbose):
                facts = _join(one_line(event.key), conflict_words(event.values))
                self._line("conflict", facts, style="warn")
            case PlanRevised():
                facts = _join(revision_words(event), one_line(event.reason))
                self._line("plan", facts, "revised", "wait")
            case _:
                pass

    # Words.

    def _may_tell(self, what: str, each: bool) -> bool:
        """Whether this is one of the first facts of its kind; says once that further ones are only counted."""
        told = self._told[what] = self._told.get(what, 0) + 1
        if told == FEW_AGENTS + 1 and not each:
            self._line("note", f"more {what} are counted, not listed; -v lists them all")
        return each or told <= FEW_AGENTS

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

    def _line(self, who: str, text: str, word: str = "", style: str = "") -> None:
        text = text[: MAX_TEXT - 1] + "…" if len(text) > MAX_TEXT else text
        row = [Span(f"[{clock(self._t)}] ", "dim"), Span(f"{who:<11}"), Span(" ")]
        if word:
            row.append(Span(f"{word:<6}", style))
        row.append(Span(f"{' ' if word else ''}{text}", style if not word else ""))
        line = paint(row, color=self._color)
        self._writer.write(guard(line) if self._github else line.rstrip())


def _join(*facts: str) -> str:
    return "  ".join(fact for fact in facts if fact)


def _cost(spend: Spend) -> str:
    money = spend.money(4) if spend.cost_usd or spend.unpriced else ""
    return _join(f"{count(spend.tokens)} tok" if spend.tokens else "", money)


def guard(text: str) -> str:
    """The line without what a GitHub runner takes for a command: `##[` anywhere, `::` at its start."""
    text = text.replace("##[", "## [")
    return f": :{text.lstrip()[2:]}" if text.lstrip().startswith("::") else text.rstrip()
