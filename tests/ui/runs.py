"""Runs made by hand: event lists for the display tests. Time moves only where a test says so."""

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentStarted,
    AgentUpdated,
    CallCompleted,
    CallFailed,
    CallHedged,
    CallRetry,
    CallStarted,
    ConflictFound,
    CriticJudged,
    Event,
    Failure,
    LimitChanged,
    LimitWaiting,
    MergeStarted,
    PlanReady,
    PlanRevised,
    PlanStarted,
    PlanTask,
    RunStarted,
    Stamped,
    Usage,
    VoteTallied,
)
from swarmcli.recipe.values import Json
from swarmcli.ui.traffic import BY_PROVIDER

RUN = "20261121-0915-7k3f"
MODEL = "openai/gpt-5-mini"
NOTES = (
    "reading src/api/routes.py",
    "1. Missing timeout on requests.get()",
    "tool: grep 'TODO' (14 hits)",
    "thinking (412 tok)",
    "…and the lock is released before the write",
)


class Tape:
    """Records events at `t`, which `at` sets."""

    def __init__(self) -> None:
        self.t = 0.0
        self.stamped: list[Stamped] = []
        self._votes: dict[str, Json] = {}
        self._verdicts: dict[str, str] = {}

    def at(self, t: float) -> "Tape":
        """What follows happens at `t` seconds."""
        self.t = t
        return self

    def add(self, *events: Event) -> "Tape":
        """Something happened."""
        for event in events:
            if isinstance(event, VoteTallied):
                self._votes[event.agent] = {
                    "agreed": event.agreed,
                    "escalated": event.escalated,
                }
            elif isinstance(event, CriticJudged):
                self._verdicts[event.agent] = event.verdict
            seq = len(self.stamped) + 1
            self.stamped.append(
                Stamped(seq=seq, ts="2026-11-21T09:15:00.000Z", run=RUN, t=self.t, event=event)
            )
        return self

    def started(self, agent: str) -> "Tape":
        """The agent and its first call began."""
        return self.add(
            AgentStarted(agent=agent, model=MODEL, prompt=f"Review the file of {agent}."),
            CallStarted(model=MODEL, purpose="agent", agent=agent),
        )

    def done(self, agent: str, seconds: float = 4.0, *, cached: bool = False) -> "Tape":
        """The agent answered; its end tells how that was voted for and judged."""
        tokens = Usage(input_tokens=900, output_tokens=130)
        cost = 0.0 if cached else 0.0012
        if not cached:
            self.add(
                CallCompleted(
                    model=MODEL,
                    purpose="agent",
                    seconds=seconds,
                    tokens=tokens,
                    cost_usd=cost,
                    agent=agent,
                )
            )
        return self.add(
            AgentCompleted(
                agent=agent,
                output="…",
                model=MODEL,
                cached=cached,
                tokens=tokens,
                cost_usd=cost,
                seconds=seconds,
                vote=self._votes.get(agent),
                verdict=self._verdicts.get(agent, ""),
            )
        )


def begun(tape: Tape | None = None) -> Tape:
    """A run that has a model and a cap, and nothing else yet."""
    return (tape or Tape()).add(
        RunStarted(
            recipe="review-diff",
            models={"small": MODEL},
            model_reason="OPENAI_API_KEY is set",
            max_cost_usd=2.0,
            parallel=64,
        )
    )


def planned(tape: Tape, seconds: float = 2.4) -> Tape:
    """The planner's own call, before the tasks are known."""
    return (
        tape.add(PlanStarted(model=MODEL), CallStarted(model=MODEL, purpose="planner"))
        .at(tape.t + seconds)
        .add(
            CallCompleted(
                model=MODEL,
                purpose="planner",
                seconds=seconds,
                tokens=Usage(input_tokens=180, output_tokens=53),
                cost_usd=0.0003,
            )
        )
    )


def fan_out(agents: int, upto: float = 40.0) -> Tape:
    """`scan[0..n)` then `judge`, with every state in it where there are enough agents, at `upto` seconds."""
    tape = begun()
    for index in range(agents):
        tape.add(PlanTask(agent=f"scan[{index}]", group="scan", prompt="Review {{ item }}"))
    tape.add(PlanTask(agent="judge", group="judge", prompt="Judge.", depends_on=("scan",)))
    tape.add(PlanReady(tasks=agents + 1))
    for index in range(agents):
        agent = f"scan[{index}]"
        wave = index * upto / max(1, agents) / 0.8
        if wave > upto:
            continue
        tape.at(wave)
        if index % 11 == 7:
            tape.done(agent, cached=True)
            continue
        tape.started(agent)
        if index % 23 == 19:
            refused(tape.at(wave + 1.5), agent, delay_s=8.0 if wave + 9.5 > upto else 2.0)
            if wave + 9.5 > upto:
                continue
            tape.at(wave + 3.5).add(
                CallStarted(model=MODEL, purpose="agent", attempt=2, agent=agent)
            )
        if wave + 6 > upto or index % 17 == 2:
            tape.add(AgentUpdated(agent=agent, note=NOTES[index % len(NOTES)]))
        elif index % 29 == 24:
            error = Failure(kind="schema", message="missing 'severity' after 2 tries")
            tape.at(wave + 5).add(
                AgentFailed(agent=agent, error=error, model=MODEL, attempts=2, seconds=5.0)
            )
        else:
            tape.at(wave + 4).done(agent)
    tape.stamped.sort(key=lambda stamped: stamped.t)
    return tape.at(upto)


def plan_of(tasks: int) -> Tape:
    """A planner's plan of single tasks, the last one depending on the others, with some of them running."""
    tape = planned(begun())
    for index in range(1, tasks + 1):
        needs = tuple(f"t{n}" for n in range(1, tasks)) if index == tasks > 1 else ()
        prompt = f"Compare the licences of package {index} with ours.\nBe brief."
        tape.add(PlanTask(agent=f"t{index}", group=f"t{index}", prompt=prompt, depends_on=needs))
    tape.add(PlanReady(tasks=tasks, seconds=2.4, plan={}))
    for index in range(1, max(2, tasks)):
        tape.started(f"t{index}")
    if tasks > 2:
        tape.at(5.0).done("t1", 2.5)
    return tape


BUCKET = f"{MODEL} @ http://127.0.0.1:8000/v1"


def refused(
    tape: Tape, agent: str, attempt: int = 1, delay_s: float = 8.0, kind: str = "rate_limit"
) -> Tape:
    """A call of the agent came back as a 429, or as another failure, and will be tried again."""
    return tape.add(
        CallFailed(model=MODEL, purpose="agent", kind=kind, agent=agent),
        CallRetry(
            model=MODEL,
            purpose="agent",
            attempt=attempt,
            max=5,
            delay_s=delay_s,
            kind=kind,
            agent=agent,
        ),
    )


def storm(agents: int = 300, upto: float = 60.0, at_once: int = 40) -> Tape:
    """Nothing is answered: each second `at_once` calls leave, are refused, and their bucket says how it stands."""
    tape = begun()
    for index in range(agents):
        tape.add(PlanTask(agent=f"scan[{index}]", group="scan", prompt="Review {{ item }}"))
    tape.add(PlanReady(tasks=agents))
    for index in range(agents):
        name = f"scan[{index}]"
        tape.add(AgentStarted(agent=name, model=MODEL, prompt=f"Review the file of {name}."))
    for second in range(int(upto)):
        tape.at(float(second))
        for index in range(second * at_once, (second + 1) * at_once):
            agent = f"scan[{index % agents}]"
            tape.add(CallStarted(model=MODEL, purpose="agent", agent=agent))
            refused(tape.at(second + 0.5), agent, 1 + index // agents % 4, 3.0)
            tape.add(
                LimitWaiting(bucket=BUCKET, waiting=agents - at_once, reason="40 at once"),
                LimitChanged(bucket=BUCKET, parallel=at_once, reason=BY_PROVIDER, pause_s=3.0),
            )
    return tape


def held_back() -> Tape:
    """Two models under limits, one of which makes all pause; some calls are out twice, one agent has ended."""
    tape = begun()
    for index in range(60):
        tape.add(PlanTask(agent=f"scan[{index}]", group="scan", prompt="Review {{ item }}"))
    for index in range(50):
        tape.started(f"scan[{index}]")
    tape.at(3.0).done("scan[0]", 3.0)
    for index, after_s in ((3, 9.5), (7, 10.0)):
        name = f"scan[{index}]"
        tape.at(10.0).add(CallHedged(model=MODEL, to=MODEL, after_s=after_s, agent=name))
        tape.add(CallStarted(model=MODEL, purpose="agent", agent=name))
    tape.add(AgentUpdated(agent="scan[7]", note="tool: read_file tests/test_auth.py"))
    for index in range(40, 50):
        refused(tape, f"scan[{index}]")
    return tape.add(
        LimitChanged(bucket=BUCKET, parallel=40, reason=BY_PROVIDER, pause_s=8.0),
        LimitWaiting(bucket=BUCKET, waiting=10, reason=BY_PROVIDER),
        LimitWaiting(bucket="anthropic/claude-haiku-4-5", waiting=2, reason="50 requests a minute"),
    )


def merging(agents: int) -> Tape:
    """All answers are in; the writer is at work."""
    tape = begun()
    for index in range(agents):
        tape.add(PlanTask(agent=f"scan[{index}]", group="scan", prompt="Review {{ item }}"))
    for index in range(agents):
        tape.started(f"scan[{index}]")
    tape.at(4.0)
    for index in range(agents):
        tape.done(f"scan[{index}]")
    return tape.add(
        MergeStarted(strategy="write", agents=agents), CallStarted(model=MODEL, purpose="writer")
    )


def doubted() -> Tape:
    """Six agents: votes that agree, split and are still open, critics, a revised plan; then two conflicts."""
    tape = begun().add(PlanStarted(model=MODEL))
    for name in ("sum", "half", "odd", "idle", "check", "live"):
        tape.add(PlanTask(agent=name, group=name, prompt=f"Work out {name}."))
    tape.add(PlanReady(tasks=6, seconds=1.0))
    for name in ("sum", "half", "odd", "check", "live"):
        tape.started(name)
    tape.at(3.0).add(vote("sum", True, {"42": 3}, asked=5)).done("sum", 3.0)
    tape.add(vote("half", False, {"1/2": 1, "0.55": 1})).at(4.0).done("half", 4.0)
    tape.add(vote("odd", False, {"7": 2, "9": 1}, escalated=False)).done("odd", 4.0)
    tape.add(judged("check", "reject", "the sum leaves out Q3"), judged("check", "accept"))
    tape.done("check", 4.0)
    tape.add(vote("live", True, {"May": 2}), judged("live", "reject", "the year is 2025"))
    tape.add(AgentUpdated(agent="live", note="critic: asks again"))
    tape.add(PlanStarted(model=MODEL, revision="1 insufficient: idle"))
    tape.add(PlanRevised(added=("again",), removed=("idle",), reason="1 insufficient: idle"))
    tape.add(PlanTask(agent="again", group="again", prompt="Work it out again."))
    tape.add(PlanReady(tasks=6, seconds=2.0)).started("again")
    dates = [{"value": "May", "agents": ["sum", "half"]}, {"value": "June", "agents": ["odd"]}]
    tape.at(5.0).add(
        ConflictFound(key="launch", values=dates),
        ConflictFound(key="price", values=[{"value": 1, "agents": ["sum"]}, {"value": 2}]),
    )
    return tape.add(*(CallStarted(model=MODEL, purpose="judge") for _ in range(2)))


def asked_again(agents: int) -> Tape:
    """All votes of a fan-out agree and are believed; then they are not trusted, and the large model answers."""
    names = [f"ask[{index}]" for index in range(agents)]
    tape = begun().add(*(PlanTask(agent=name, group="ask", prompt="How many?") for name in names))
    for name in names:
        tape.started(name).add(vote(name, True, {"42": 2})).done(name)
    tape.at(10.0)
    tape.add(*(AgentCancelled(agent=name, because="its vote is not trusted") for name in names))
    tape.add(*(PlanTask(agent=name, group="ask", prompt="How many?") for name in names))
    for name in names:
        tape.started(name).add(vote(name, False, {})).done(name)
    return tape


def vote(
    agent: str, agreed: bool, counts: dict[str, int], *, escalated: bool = True, asked: int = 0
) -> VoteTallied:
    """The votes of one agent are in; without agreement they are escalated."""
    return VoteTallied(
        agent=agent,
        rule="majority",
        agreed=agreed,
        escalated=escalated and not agreed,
        value=next(iter(counts), None),
        counts=counts,
        asked=asked or sum(counts.values()),
    )


def judged(agent: str, verdict: str, first_error: str = "") -> CriticJudged:
    """A critic has looked at the agent's answer."""
    return CriticJudged(agent=agent, model="acme/critic", verdict=verdict, first_error=first_error)
