"""Events folded into a run, one at a time and each with a bounded amount of work. Pure.

Rule: it takes events of any order and any subset: a display must not be what breaks a state.
"""

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
    RunEnd,
    RunStarted,
    Stamped,
    ToolCompleted,
    ToolStarted,
    TurnCompleted,
    VoteTallied,
    Warned,
)
from swarmcli.ui.calls import bill, fold_call
from swarmcli.ui.checks import AgentEnd, Checked, critic_words, vote_words
from swarmcli.ui.clean import fault_text, one_line
from swarmcli.ui.state import RunState
from swarmcli.ui.steps import ENDED, Agent, Spend, State


def fold(state: RunState, stamped: Stamped) -> None:
    """Fold one event."""
    event, t = stamped.event, stamped.t
    state.run = stamped.run or state.run
    state.version += 1
    match event:
        case CallStarted() | CallCompleted() | CallFailed() | CallRetry() | CallHedged():
            fold_call(state, event, t)
        case LimitWaiting() | LimitChanged():
            state.traffic.feed(event, t)
        case AgentStarted() | AgentUpdated():
            _on_progress(state, event, t)
        case AgentCompleted() | AgentFailed() | AgentSkipped() | AgentCancelled():
            state.checks.feed(event)
            _on_end(state, event, t)
        case PlanStarted() | PlanTask() | PlanReady():
            _on_plan(state, event, t)
        case MergeStarted() | MergeCompleted():
            _on_merge(state, event, t)
        case RunStarted() | ModeChosen() | RunEnd() | BudgetWarning():
            _on_run(state, event)
        case VoteTallied() | CriticJudged() | ConflictFound() | PlanRevised():
            state.checks.feed(event)
            _on_check(state, event, t)
        case Warned() | TurnCompleted() | ToolStarted() | ToolCompleted():
            pass


def _on_run(state: RunState, event: RunStarted | ModeChosen | RunEnd | BudgetWarning) -> None:
    match event:
        case RunStarted():
            state.recipe = one_line(event.recipe)
            state.models = tuple(dict.fromkeys(event.models.values()))
            state.max_cost_usd = event.max_cost_usd
            state.resumed = event.resumed
        case ModeChosen():
            state.mode = one_line(event.mode)
        case BudgetWarning():
            state.budget_note = one_line(event.message)
        case RunEnd():
            state.end = event


def _on_plan(state: RunState, event: PlanStarted | PlanTask | PlanReady, t: float) -> None:
    plan = state.plan
    match event:
        case PlanStarted():
            state.planned = True
            if plan.started_t is None or plan.seconds is not None:
                plan.started_t = t - (plan.seconds or 0.0)  # its clock goes on where it stood
            plan.seconds = None
            why = {"repair": event.repair, "revision": event.revision}
            told = (f"{word}: {one_line(text)}" for word, text in why.items() if text)
            plan.note = "  ".join(told)
        case PlanTask():
            agent = state.agent(event.agent, event.group)
            agent.prompt = _first_line(event.prompt)
            agent.model = one_line(event.model or "")
            if agent.state in ENDED:
                agent.outcome = agent.check = ""
                state.move(agent, State.QUEUED, t)
            state.depend(event.depends_on)
        case PlanReady():
            state.planned = state.planned or event.plan is not None
            if plan.started_t is not None:
                plan.seconds = event.seconds or t - plan.started_t
                plan.note, plan.retry = "", None
            for twin, original in event.folded.items():
                agent = state.agents.get(twin)
                if agent is not None and agent.state is State.QUEUED:
                    agent.outcome = f"same as {one_line(original)}"
                    state.move(agent, State.CACHED, t)


def _on_merge(state: RunState, event: MergeStarted | MergeCompleted, t: float) -> None:
    merge = state.merge
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
            state.charge(merge, Spend(cost_usd=event.cost_usd))


def _on_check(state: RunState, event: Checked, t: float) -> None:
    match event:
        case VoteTallied():
            state.agent(event.agent).check = vote_words(event)
        case CriticJudged():
            state.agent(event.agent).check = critic_words(event)
        case PlanRevised():
            for name in event.removed:
                _taken_back(state, name, t, again=name in event.added)
        case ConflictFound():
            pass


def _taken_back(state: RunState, name: str, t: float, *, again: bool) -> None:
    """A task whose outcome no longer counts: the revised plan leaves it out, or has it done again."""
    agent = state.agents.get(name)
    if agent is None:
        return
    agent.check, agent.outcome = "", "" if again else "left out of the revised plan"
    state.move(agent, State.QUEUED if again else State.SKIPPED, t)


def _on_progress(state: RunState, event: AgentStarted | AgentUpdated, t: float) -> None:
    agent = state.agent(event.agent)
    if isinstance(event, AgentStarted):
        agent.model = one_line(event.model) or agent.model
        if not agent.prompt or "{{" in agent.prompt:
            agent.prompt = _first_line(event.prompt) or agent.prompt
        state.move(agent, State.STARTED, t)
    elif agent.state not in ENDED:
        if agent.state in {State.QUEUED, State.STARTED}:
            state.move(agent, State.RUNNING, t)
        agent.take_note(one_line(event.note[:400]), t)


def _on_end(state: RunState, event: AgentEnd, t: float) -> None:
    agent = state.agent(event.agent)
    match event:
        case AgentCompleted():
            agent.model = one_line(event.model) or agent.model
            agent.seconds = event.seconds
            agent.outcome = "" if event.status == "ok" else one_line(event.status)
            if not (event.cached or event.reused):
                _settle(state, agent, event)
            fresh = State.CACHED if event.cached else State.DONE
            state.move(agent, State.REUSED if event.reused else fresh, t)
        case AgentFailed():
            agent.model = one_line(event.model) or agent.model
            agent.seconds = event.seconds
            agent.kind = event.error.kind
            agent.outcome = fault_text(event.error.kind, event.error.message)
            _settle(state, agent, event)
            state.move(agent, State.FAILED, t)
        case AgentSkipped():
            agent.outcome = one_line(event.because[:400])
            state.move(agent, State.SKIPPED, t)
        case AgentCancelled():
            agent.outcome = one_line(event.because[:400])
            agent.seconds = t - agent.since_t
            state.move(agent, State.CANCELLED, t)


def _settle(state: RunState, agent: Agent, event: AgentCompleted | AgentFailed) -> None:
    """Take tokens and money from the agent itself where no call of it was seen."""
    if not agent.called:
        agent.called = True
        state.charge(agent, bill(event.model, event.tokens, event.cost_usd))


def _first_line(prompt: str) -> str:
    """What a prompt begins with; data blocks are no part of what was asked."""
    for line in prompt[:400].splitlines():
        if cleaned := one_line(line.partition("<data-")[0]):
            return cleaned[:200]
    return ""
