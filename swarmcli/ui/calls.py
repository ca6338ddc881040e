"""Calls folded into a run: who asks, who waits for another attempt, and what an answer took. Pure."""

from swarmcli.core.events import (
    CallCompleted,
    CallFailed,
    CallHedged,
    CallRetry,
    CallStarted,
    Usage,
)
from swarmcli.ui.checks import many
from swarmcli.ui.state import LOCAL_PREFIXES, RunState
from swarmcli.ui.steps import ENDED, Agent, Phase, Retry, Spend, State
from swarmcli.ui.traffic import retry_word

Call = CallStarted | CallCompleted | CallFailed | CallRetry


def fold_call(state: RunState, event: Call | CallHedged, t: float) -> None:
    """Fold one event of a call, of an agent's or of one of the run itself."""
    if isinstance(event, CallFailed | CallRetry | CallHedged):
        state.traffic.feed(event, t)
    if event.agent is not None:
        _of_agent(state, state.agent(event.agent), event, t)
    elif not isinstance(event, CallHedged):
        phase = state.phase(event.purpose)
        _of_phase(state, phase, event, t)
        if phase is state.judge:
            _of_judge(state, event, t)


def bill(model: str, usage: Usage | None, cost_usd: float | None) -> Spend:
    """What a call took; without a price it is unknown, unless it ran on this machine."""
    return Spend(
        tokens=0 if usage is None else usage.input_tokens + usage.output_tokens,
        cost_usd=cost_usd or 0.0,
        unpriced=int(cost_usd is None and not model.startswith(LOCAL_PREFIXES)),
    )


def _of_agent(state: RunState, agent: Agent, event: Call | CallHedged, t: float) -> None:
    match event:
        case CallStarted():
            agent.out, agent.retry = agent.out + 1, None
            if agent.state not in ENDED:
                state.move(agent, State.RUNNING, t)
        case CallCompleted():
            agent.hedged = False
            if not event.cached:
                _returned(state, agent, _took(event), t)
        case CallFailed():
            _returned(state, agent, _took(event), t)
        case CallRetry():
            if agent.state not in ENDED:
                agent.retry = _retry(event, t)
                _wait_if_alone(state, agent, t)
        case CallHedged():
            agent.hedged = True


def _returned(state: RunState, agent: Agent, took: Spend, t: float) -> None:
    """A call has left its provider, with an answer or without."""
    agent.called = True
    agent.out = max(0, agent.out - 1)
    _wait_if_alone(state, agent, t)
    state.charge(agent, took)


def _wait_if_alone(state: RunState, agent: Agent, t: float) -> None:
    """One call waits for its next attempt: so does the agent, unless others of it are being answered."""
    if agent.retry is not None and not agent.out:
        state.move(agent, State.RETRYING, t)


def _of_phase(state: RunState, phase: Phase, event: Call, t: float) -> None:
    match event:
        case CallStarted():
            phase.retry = None
        case CallCompleted(cached=True):
            pass
        case CallCompleted() | CallFailed():
            state.charge(phase, _took(event))
        case CallRetry():
            phase.retry = _retry(event, t)


def _of_judge(state: RunState, event: Call, t: float) -> None:
    """Nobody says when all conflicts have been asked about: it is over while no question is out, or waits to be."""
    judge = state.judge
    judge.started_t = t if judge.started_t is None else judge.started_t
    if isinstance(event, CallStarted):
        judge.out += 1
    elif isinstance(event, CallFailed) or (isinstance(event, CallCompleted) and not event.cached):
        judge.out = max(0, judge.out - 1)
    judge.seconds = None if judge.out or judge.retry else t - judge.started_t
    judge.note = many(len(state.checks.conflicts), "conflict")


def _retry(event: CallRetry, t: float) -> Retry:
    return Retry(
        why=retry_word(event.kind),
        until_t=t + event.delay_s,
        next_attempt=event.attempt + 1,
        max=event.max,
    )


def _took(event: CallCompleted | CallFailed) -> Spend:
    """As far as somebody knows; a call that was turned away took nothing."""
    if isinstance(event, CallCompleted):
        return bill(event.model, event.tokens, event.cost_usd)
    took = bill(event.model, event.tokens, event.booked_usd)
    took.guessed = int(event.tokens is None and took.cost_usd > 0)
    return took
