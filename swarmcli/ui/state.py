"""A run as a screen needs it: events folded into agents, steps and counters. Pure.

Rule: `feed` does a bounded amount of work per event and keeps every sum up to date, so that drawing never has to
walk over all agents. It takes events of any order and any subset: a display must not be what breaks a run.
"""

from collections import Counter, deque
from collections.abc import Iterator

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
    Usage,
    VoteTallied,
    Warned,
)
from swarmcli.ui.cells import cap
from swarmcli.ui.checks import Checks, critic_words, many, vote_words
from swarmcli.ui.clean import one_line
from swarmcli.ui.steps import ENDED, LIVE, Agent, Phase, Retry, Spend, State, Step
from swarmcli.ui.traffic import Traffic, retry_word

MAX_SINGLE_STEPS = 6
"""A fixed graph with more single tasks than this shows them under one head, as a planner's plan does."""
ETA_WINDOW_S = 30.0
MIN_ENDS = 10

LOCAL_PREFIXES = ("embedded/", "ollama/", "ollama_chat/", "lm_studio/", "llamafile/")
"""Models that run on the user's own machine: they cost no money, so an absent price is not an unknown one."""


class RunState:
    """The fold: give it every event through `feed`, read the attributes."""

    def __init__(self) -> None:
        self.run = ""
        self.recipe = ""
        self.mode = ""
        self.models: tuple[str, ...] = ()
        self.max_cost_usd: float | None = None
        self.resumed = False
        self.agents: dict[str, Agent] = {}
        self.counts: Counter[State] = Counter()
        self.spend = Spend()
        self.traffic = Traffic()
        self.checks = Checks()
        self.budget_note = ""
        """The last word on the caps."""
        self.plan = Phase(name="plan")
        self.judge = Phase(name="judge")
        """Other models are asked about conflicts between agents."""
        self.merge = Phase(name="merge")
        self.planned = False
        """A planner made the tasks, so they are peers and not steps that somebody named."""
        self.end: RunEnd | None = None
        self.version = 0
        """Changes with every event that changes what is shown."""
        self._order: list[Step] = []
        self._steps: dict[str, Step] = {}
        self._pool = Step(name="agents")
        self._depended: set[str] = set()
        self._judging = 0
        """Questions about conflicts that are out."""
        self._leaves: int | None = None
        """What `answers` found; None when the graph has changed since."""
        self._first_t: float | None = None
        self._ends: deque[float] = deque()
        """When agents ended that had worked: the latest few, and all of the latest time."""
        self._forgot_ends = False

    def feed(self, stamped: Stamped) -> None:
        """Fold one event."""
        event, t = stamped.event, stamped.t
        self.run = stamped.run or self.run
        self.version += 1
        match event:
            case CallStarted() | CallCompleted():
                self._on_call(event, t)
            case CallRetry() | CallFailed() | CallHedged() | LimitWaiting() | LimitChanged():
                self.traffic.feed(event, t)
                self._on_traffic(event, t)
            case AgentStarted() | AgentUpdated():
                self._on_progress(event, t)
            case AgentCompleted() | AgentFailed() | AgentSkipped() | AgentCancelled():
                self.checks.feed(event)
                self._on_end(event, t)
            case PlanStarted() | PlanTask() | PlanReady():
                self._on_plan(event, t)
            case MergeStarted() | MergeCompleted():
                self._on_merge(event, t)
            case RunStarted() | ModeChosen() | RunCompleted() | RunFailed() | RunInterrupted():
                self._on_run(event)
            case VoteTallied() | CriticJudged() | ConflictFound() | PlanRevised():
                self.checks.feed(event)
                self._on_check(event, t)
            case _:
                self._on_notice(event)

    # What the layout reads.

    @property
    def total(self) -> int:
        """How many agents are known."""
        return len(self.agents)

    @property
    def ended(self) -> int:
        """How many agents have ended, well or not."""
        counts = self.counts
        return self.total - sum(counts[s] for s in LIVE) - counts[State.QUEUED]

    @property
    def waiting(self) -> int:
        """Agents that wait for a retry, or for a slot while a limit holds calls back."""
        held = self.counts[State.STARTED] if self.traffic.holds else 0
        return self.counts[State.RETRYING] + held

    @property
    def running(self) -> int:
        """Agents whose question is with a provider."""
        return self.counts[State.RUNNING]

    @property
    def starting(self) -> int:
        """Agents that have begun and not asked yet, though no limit holds them back: a library is being loaded."""
        return 0 if self.traffic.holds else self.counts[State.STARTED]

    @property
    def free(self) -> bool:
        """Every model runs on the user's own machine."""
        return bool(self.models) and all(m.startswith(LOCAL_PREFIXES) for m in self.models)

    def spins(self) -> bool:
        """Something moves on the screen without an event: a spinner."""
        live = any(self.counts[state] for state in LIVE)
        return live or self.planning or self.judge.is_live or self.merge.is_live

    def money(self) -> str:
        """`$0.41/$2.00`, `~$0.41` with a guess in it, `$?` with an unknown price, nothing for local models."""
        if self.free:
            return ""
        cost_usd = self.spend.cost_usd
        spent = self.spend.money(2 if cost_usd >= 0.01 or not cost_usd else 4)
        return spent if self.max_cost_usd is None else f"{spent}/{cap(self.max_cost_usd)}"

    @property
    def planning(self) -> bool:
        """The planner is still answering, so more agents may come."""
        return self.plan.started_t is not None and self.plan.seconds is None

    @property
    def short_run(self) -> str:
        """The part of the run id that people type."""
        return self.run.rpartition("-")[2][:12]

    def steps(self) -> Iterator[Step]:
        """The steps in the order in which they became known."""
        pooled = self.planned or len(self._pool.agents) > MAX_SINGLE_STEPS
        for step in self._order:
            if pooled if step is self._pool else not (pooled and step.single):
                yield step

    def answers(self) -> int:
        """How many agents nobody depends on: the ones whose answers are merged."""
        if self._leaves is None:
            depended = self._depended
            names = ((agent.id, agent.group) for agent in self.agents.values())
            self._leaves = sum(1 for pair in names if depended.isdisjoint(pair))
        return self._leaves

    def eta_s(self, now_t: float) -> float | None:
        """Seconds until the known agents have ended, from the latest throughput; None while that says little."""
        left = self.total - self.ended
        if len(self._ends) < 5 or not left or self._first_t is None or self.planning:
            return None
        start, done = self._first_t, len(self._ends)
        if self._forgot_ends:
            start, done = self._ends[0], done - 1
        last = self._ends[-1]
        return max(0.0, last + left * (last - start) / done - now_t) if last > start else None

    # Folding.

    def _on_run(self, event: RunStarted | ModeChosen | RunEnd) -> None:
        match event:
            case RunStarted():
                self.recipe = one_line(event.recipe)
                self.models = tuple(dict.fromkeys(event.models.values()))
                self.max_cost_usd = event.max_cost_usd
                self.resumed = event.resumed
            case ModeChosen():
                self.mode = one_line(event.mode)
            case RunEnd():
                self.end = event

    def _on_plan(self, event: PlanStarted | PlanTask | PlanReady, t: float) -> None:
        match event:
            case PlanStarted():
                self.planned = True
                self.plan.seconds = None
                if self.plan.started_t is None:
                    self.plan.started_t = t
                why = {"repair": event.repair, "revision": event.revision}
                told = (f"{word}: {one_line(text)}" for word, text in why.items() if text)
                self.plan.note = "  ".join(told)
            case PlanTask():
                agent = self._agent(event.agent, event.group)
                agent.prompt = _first_line(event.prompt)
                agent.model = one_line(event.model or "")
                if agent.state in ENDED:
                    agent.outcome = agent.check = ""
                    self._move(agent, State.QUEUED, t)
                self._depended.update(event.depends_on)
                self._leaves = None
            case PlanReady():
                self.planned = self.planned or event.plan is not None
                if self.plan.started_t is not None:
                    self.plan.seconds = event.seconds or t - self.plan.started_t
                    self.plan.note, self.plan.retry = "", None
                for twin, original in event.folded.items():
                    agent = self.agents.get(twin)
                    if agent is not None and agent.state is State.QUEUED:
                        agent.outcome = f"same as {one_line(original)}"
                        self._move(agent, State.CACHED, t)

    def _on_merge(self, event: MergeStarted | MergeCompleted, t: float) -> None:
        merge = self.merge
        if merge.started_t is None:
            merge.started_t = t
        merge.retry = None
        if isinstance(event, MergeStarted):
            merge.seconds = None
            merge.note = f"{one_line(event.strategy)}  {event.agents} answers"
        else:
            merge.seconds = event.seconds or t - merge.started_t
            merge.note = one_line(event.strategy)
            if event.cost_usd and not merge.spend.cost_usd:
                self._charge(None, merge.spend, Spend(cost_usd=event.cost_usd))

    def _on_notice(
        self, event: BudgetWarning | Warned | TurnCompleted | ToolStarted | ToolCompleted
    ) -> None:
        if isinstance(event, BudgetWarning):
            self.budget_note = one_line(event.message)

    def _on_check(
        self, event: VoteTallied | CriticJudged | ConflictFound | PlanRevised, t: float
    ) -> None:
        match event:
            case VoteTallied():
                self._agent(event.agent).check = vote_words(event)
            case CriticJudged():
                self._agent(event.agent).check = critic_words(event)
            case PlanRevised():
                for name in event.removed:
                    self._taken_back(name, t, again=name in event.added)
            case ConflictFound():
                pass

    def _taken_back(self, name: str, t: float, *, again: bool) -> None:
        """A task whose outcome no longer counts: the revised plan leaves it out, or has it done again."""
        agent = self.agents.get(name)
        if agent is None:
            return
        agent.check, agent.outcome = "", "" if again else "left out of the revised plan"
        self._move(agent, State.QUEUED if again else State.SKIPPED, t)

    def _on_progress(self, event: AgentStarted | AgentUpdated, t: float) -> None:
        agent = self._agent(event.agent)
        if isinstance(event, AgentStarted):
            agent.model = one_line(event.model) or agent.model
            if not agent.prompt or "{{" in agent.prompt:
                agent.prompt = _first_line(event.prompt) or agent.prompt
            self._move(agent, State.STARTED, t)
        elif agent.state not in ENDED:
            if agent.state in {State.QUEUED, State.STARTED}:
                self._move(agent, State.RUNNING, t)
            agent.take_note(one_line(event.note[:400]), t)

    def _on_call(self, event: CallStarted | CallCompleted, t: float) -> None:
        agent = None if event.agent is None else self._agent(event.agent)
        phase = self._phase(event.purpose)
        if agent is None and phase is self.judge:
            self._on_judge(event, t)
        match event:
            case CallStarted() if agent is not None:
                agent.out, agent.retry = agent.out + 1, None
                if agent.state not in ENDED:
                    self._move(agent, State.RUNNING, t)
            case CallStarted():
                phase.retry = None
            case CallCompleted():
                if agent is not None:
                    agent.called = agent.called or not event.cached
                    agent.hedged = False
                if not event.cached:
                    self._on_return(agent, t)
                    spent = _bill(event.model, event.tokens, event.cost_usd)
                    self._charge(agent, phase.spend, spent)

    def _on_judge(self, event: CallStarted | CallCompleted | CallFailed, t: float) -> None:
        """Nobody says when all conflicts have been asked about: it is over while no question is out."""
        judge = self.judge
        judge.started_t = t if judge.started_t is None else judge.started_t
        if isinstance(event, CallStarted):
            self._judging += 1
        elif isinstance(event, CallFailed) or not event.cached:
            self._judging = max(0, self._judging - 1)
        judge.seconds = None if self._judging else t - judge.started_t
        judge.note = many(len(self.checks.conflicts), "conflict")

    def _on_traffic(
        self, event: CallRetry | CallFailed | CallHedged | LimitWaiting | LimitChanged, t: float
    ) -> None:
        match event:
            case CallRetry():
                self._on_retry(event, t)
            case CallFailed():
                self._on_failed_call(event, t)
                if event.agent is None and event.purpose == "judge":
                    self._on_judge(event, t)
            case CallHedged(agent=str(name)):
                self._agent(name).hedged = True
            case _:
                pass

    def _on_retry(self, event: CallRetry, t: float) -> None:
        retry = Retry(
            why=retry_word(event.kind),
            until_t=t + event.delay_s,
            next_attempt=event.attempt + 1,
            max=event.max,
        )
        if event.agent is None:
            self._phase(event.purpose).retry = retry
            return
        agent = self._agent(event.agent)
        if agent.state not in ENDED:
            agent.retry = retry
            self._wait_if_alone(agent, t)

    def _on_return(self, agent: Agent | None, t: float) -> None:
        """A call has left its provider, with an answer or without."""
        if agent is not None:
            agent.out = max(0, agent.out - 1)
            self._wait_if_alone(agent, t)

    def _wait_if_alone(self, agent: Agent, t: float) -> None:
        """One call waits for its next attempt: so does the agent, unless others of it are being answered."""
        if agent.retry is not None and not agent.out:
            self._move(agent, State.RETRYING, t)

    def _phase(self, purpose: str) -> Phase:
        return {"planner": self.plan, "judge": self.judge}.get(purpose, self.merge)

    def _on_failed_call(self, event: CallFailed, t: float) -> None:
        """What it took, as far as somebody knows; a call that was turned away took nothing."""
        agent = None if event.agent is None else self._agent(event.agent)
        if agent is not None:
            agent.called = True
        self._on_return(agent, t)
        spent = _bill(event.model, event.tokens, event.booked_usd)
        spent.guessed = int(event.tokens is None and spent.cost_usd > 0)
        self._charge(agent, self._phase(event.purpose).spend, spent)

    def _on_end(
        self, event: AgentCompleted | AgentFailed | AgentSkipped | AgentCancelled, t: float
    ) -> None:
        agent = self._agent(event.agent)
        match event:
            case AgentCompleted():
                agent.model = one_line(event.model) or agent.model
                agent.seconds = event.seconds
                agent.outcome = "" if event.status == "ok" else one_line(event.status)
                self._settle(agent, event)
                fresh = State.CACHED if event.cached else State.DONE
                self._move(agent, State.REUSED if event.reused else fresh, t)
            case AgentFailed():
                agent.model = one_line(event.model) or agent.model
                agent.seconds = event.seconds
                agent.kind = event.error.kind
                agent.outcome = fault_text(event.error.kind, event.error.message)
                self._settle(agent, event)
                self._move(agent, State.FAILED, t)
            case AgentSkipped():
                agent.outcome = one_line(event.because[:400])
                self._move(agent, State.SKIPPED, t)
            case AgentCancelled():
                agent.outcome = one_line(event.because[:400])
                agent.seconds = t - agent.since_t
                self._move(agent, State.CANCELLED, t)

    def _settle(self, agent: Agent, event: AgentCompleted | AgentFailed) -> None:
        """Take tokens and money from the agent itself where no call of it was seen."""
        if agent.called or (isinstance(event, AgentCompleted) and (event.cached or event.reused)):
            return
        agent.called = True
        self._charge(agent, agent.spend, _bill(event.model, event.tokens, event.cost_usd))

    def _charge(self, agent: Agent | None, phase: Spend, spent: Spend) -> None:
        self.spend.add(spent)
        if agent is None:
            phase.add(spent)
            return
        agent.spend.add(spent)
        for step, _ in agent.homes:
            step.spend.add(spent)

    def _agent(self, name: str, group: str | None = None) -> Agent:
        """The agent of that id; an unheard-of one joins the step that its id names."""
        agent = self.agents.get(name)
        if agent is not None:
            return agent
        group = group if group is not None else name.partition("[")[0] or name
        agent = Agent(id=one_line(name), group=group)
        self.agents[name] = agent
        self._leaves = None
        self.counts[State.QUEUED] += 1
        for step in self._homes(name, group):
            agent.homes.append((step, len(step.agents)))
            step.agents.append(agent)
            step.cells.append(ord(State.QUEUED))
            step.counts[State.QUEUED] += 1
        return agent

    def _homes(self, name: str, group: str) -> list[Step]:
        if name != group:
            step = self._steps.get(group)
            if step is None:
                step = self._steps[group] = Step(name=one_line(group))
                self._order.append(step)
            return [step]
        pool = self._pool
        if not pool.agents:
            self._order.append(pool)
        if len(pool.agents) >= MAX_SINGLE_STEPS:
            return [pool]
        single = Step(name=one_line(group), single=True)
        self._order.append(single)
        return [pool, single]

    def _move(self, agent: Agent, new: State, t: float) -> None:
        old = agent.state
        if new not in {State.RUNNING, State.RETRYING}:
            agent.retry, agent.out = None, 0
        if old not in LIVE and new in LIVE:
            agent.since_t = t
            self._first_t = t if self._first_t is None else self._first_t
        agent.state = new
        self.counts[old] -= 1
        self.counts[new] += 1
        for step, place in agent.homes:
            step.move(agent, place, old, t)
        if new in {State.DONE, State.FAILED} and old not in ENDED:
            self._ends.append(t)
            while len(self._ends) > MIN_ENDS and self._ends[0] < t - self._window_s():
                self._ends.popleft()
                self._forgot_ends = True

    def _window_s(self) -> float:
        """Two agents' time, or 30 s: a shorter window would see one wave of agents end and nothing else."""
        slowest = max((step.median_s or 0.0 for step in self._order), default=0.0)
        return max(ETA_WINDOW_S, 2 * slowest)


def _first_line(prompt: str) -> str:
    """What a prompt begins with; data blocks are no part of what was asked."""
    for line in prompt[:400].splitlines():
        if cleaned := one_line(line.partition("<data-")[0]):
            return cleaned[:200]
    return ""


def fault_text(kind: str, message: str) -> str:
    """`schema: missing 'severity'`: a failure on one line."""
    kind, message = one_line(kind), one_line(message[:600])
    if not message or message.casefold().startswith(kind.casefold()):
        return message or kind
    return f"{kind}: {message}"


def _bill(model: str, usage: Usage | None, cost_usd: float | None) -> Spend:
    """What a call took; without a price it is unknown, unless it ran on this machine."""
    return Spend(
        tokens=0 if usage is None else usage.input_tokens + usage.output_tokens,
        cost_usd=cost_usd or 0.0,
        unpriced=int(cost_usd is None and not model.startswith(LOCAL_PREFIXES)),
    )
