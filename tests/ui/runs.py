"""Runs made by hand: event lists for the display tests. Time moves only where a test says so."""

from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    AgentStarted,
    AgentUpdated,
    CallCompleted,
    CallRetry,
    CallStarted,
    Event,
    Failure,
    MergeStarted,
    PlanReady,
    PlanStarted,
    PlanTask,
    RunStarted,
    Stamped,
    Usage,
)

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

    def at(self, t: float) -> "Tape":
        """What follows happens at `t` seconds."""
        self.t = t
        return self

    def add(self, *events: Event) -> "Tape":
        """Something happened."""
        for event in events:
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
        """The agent answered."""
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
            tape.at(wave + 1.5).add(
                CallRetry(
                    model=MODEL,
                    purpose="agent",
                    attempt=1,
                    max=5,
                    delay_s=8.0 if wave + 9.5 > upto else 2.0,
                    kind="rate_limit",
                    agent=agent,
                )
            )
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
