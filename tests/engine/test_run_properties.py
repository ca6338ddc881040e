"""What must hold for any graph, any latencies, any failures and any moment of a signal or a corrected plan."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    RunCompleted,
    RunFailed,
    RunInterrupted,
)
from tests.core.tasks import every, task
from tests.engine.stage import DiskRecorder, Stage, error

ENDS = (AgentCompleted, AgentFailed, AgentSkipped, AgentCancelled)


@st.composite
def graphs(draw):
    """Fan-outs, pipelines over them, and tasks that wait for one or all of what was before."""
    tasks = []
    for number in range(draw(st.integers(1, 4))):
        width = draw(st.integers(1, 4))
        before = sorted({t.group for t in tasks})
        source = draw(st.sampled_from([None, *before]))
        size = sum(t.group == source for t in tasks)
        barrier = draw(st.sampled_from([None, *before]))
        shared = [every(barrier, sum(t.group == barrier for t in tasks))] if barrier else []
        for i in range(size or width):
            own = [f"{source}[{i}]"] if source and source != barrier else []
            tasks.append(task(f"g{number}[{i}]", *shared, *own, optional=draw(st.booleans())))
    return tasks


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    graphs(),
    st.integers(1, 6),
    st.sampled_from(["", "interrupt", "cancel", "both", "timeout"]),
    st.booleans(),
)
def test_every_agent_ends_once_and_the_run_always_ends(data, tasks, parallel, event, fail_fast):
    """No agent is lost or ends twice, none starts before its needs are on disk, and there is one last event."""
    takes = {t.id: float(data.draw(st.integers(0, 4))) for t in tasks}
    kinds = st.sampled_from([None, None, None, "server", "auth", "budget"])
    answers = {t.id: error(kind) for t in tasks if (kind := data.draw(kinds))}
    when = data.draw(st.integers(0, 8))
    written_s = float(data.draw(st.integers(0, 1)))
    stage = Stage(
        answers,
        tasks=tasks,
        takes=takes,
        parallel=parallel,
        fail_fast=fail_fast,
        timeout_s=float(when) + 0.5 if event == "timeout" else None,
        recorder=DiskRecorder(seconds=written_s),
    )

    async def play():
        async with asyncio.TaskGroup() as group:
            running = group.create_task(stage.run.execute())
            await stage.clock.sleep(when)
            if event in {"interrupt", "both"}:
                stage.run.interrupt("sigint")
            if event in {"cancel", "both"}:
                stage.run.cancel("sigint")
        return running.result()

    async def drive():
        return await stage.clock.drive(play())

    report = asyncio.run(drive())
    if when > written_s or event not in {
        "interrupt",
        "cancel",
        "both",
    }:  # else no task was known yet
        assert {t.id for t in tasks} == {o.agent for o in report.outcomes}
    ends = Counter(e.agent for e in stage.recorder.events if isinstance(e, ENDS))
    assert {o.agent: 1 for o in report.outcomes} == ends
    assert stage.client.peak <= parallel
    assert 0 == stage.client.in_flight
    assert isinstance(stage.recorder.events[-1], RunCompleted | RunFailed | RunInterrupted)

    by_name = {o.agent: o for o in report.outcomes}
    for outcome in report.outcomes:
        if outcome.attempts:
            needs = [by_name[a] for d in outcome.task.depends_on for a in d.agents]
            assert all(need.ended_s <= outcome.started_s for need in needs)
    totals = report.end.totals["agents"]
    states = Counter(o.state for o in report.outcomes)
    assert [states[s] for s in ("done", "failed", "skipped", "cancelled")] == [
        totals[s] for s in ("done", "failed", "skipped", "cancelled")
    ]
    assert report.end.result is None or states["done"]
