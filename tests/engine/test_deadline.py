"""The last moments of a run with `--timeout`: nothing asks that could not finish."""

import asyncio

import pytest

from swarmcli.core.events import CallStarted, Warned
from swarmcli.core.outcomes import Outcome
from swarmcli.engine.deadline import Deadline
from swarmcli.engine.departures import Departures
from swarmcli.engine.engine import Engine
from swarmcli.testing import ManualClock, RecordingRecorder
from tests.core.tasks import task
from tests.engine.stage import Stage, plan_text


class Queue:
    """Agents that stand in line for one of a few slots, as at a provider's limit.

    Args:
        slots: how many ask at once.
        takes_s: seconds that each answer takes.
        timeout_s: the run's time.
    """

    def __init__(self, slots, takes_s, timeout_s):
        self.clock = ManualClock(0.0)
        self.takes_s = takes_s
        self.recorder = RecordingRecorder()
        self.departures = Departures(self.recorder.emit)
        self.slots = asyncio.Semaphore(slots)
        self.engine = Engine(
            execute=self.ask, recorder=self.recorder, clock=self.clock, parallel=100
        )
        self.deadline = Deadline(
            self.engine, self.clock, timeout_s=timeout_s, has_asked=self.departures.has_left
        )

    async def ask(self, job, _inputs):
        async with self.slots:
            self.departures.emit(CallStarted(model="m", purpose="agent", agent=job.id))
            await self.clock.sleep(self.takes_s)
        now = self.clock.monotonic()
        return Outcome(
            task=job, state="done", output="x", busy_s=self.takes_s, ended_s=now, cost_usd=0.0
        )

    async def play(self, agents):
        async def source():
            self.engine.add([task(f"a{i}") for i in range(agents)])

        async def both():
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self.deadline.watch(0.0))
                await self.engine.run(source)
                watching.cancel()

        await self.clock.drive(both())
        return [outcome.state for outcome in self.engine.outcomes]


async def test_who_still_waits_for_a_slot_does_not_ask_any_more():
    """Two at once, 3 s each, 10 s in all: six answers at 9 s; asking again then would be paid for nothing."""
    queue = Queue(slots=2, takes_s=3.0, timeout_s=10.0)
    states = await queue.play(agents=20)

    assert 6 == len(queue.recorder.of(CallStarted))
    assert (6, 14) == (states.count("done"), states.count("cancelled"))
    assert "timeout" == queue.engine.stopped_by
    assert 9.0 == queue.clock.monotonic()
    assert "2.5 s of the run's 10 s are left for agents, and one takes 3 s" == (
        queue.engine.outcomes[-1].failure.message
    )


async def test_a_run_that_has_nothing_left_to_start_is_not_stopped_early():
    """All ask already: they may use the rest, and end in time."""
    queue = Queue(slots=20, takes_s=3.0, timeout_s=4.0)
    states = await queue.play(agents=20)

    assert ["done"] * 20 == states
    assert queue.engine.stopped_by is None


@pytest.mark.parametrize(("slots", "takes_s", "timeout_s"), [(2, 9.0, 10.0), (1, 4.0, 10.0)])
async def test_too_few_answers_say_nothing(slots, takes_s, timeout_s):
    """One or two answers are no measure: the next ones are tried, and cut off at the deadline."""
    queue = Queue(slots=slots, takes_s=takes_s, timeout_s=timeout_s)
    states = await queue.play(agents=6)

    assert timeout_s == queue.clock.monotonic()
    assert "done" in states
    assert len(queue.recorder.of(CallStarted)) > states.count("done")


async def test_what_has_not_started_is_skipped_and_the_writer_gets_its_share():
    """`-j 2`: no agent is cancelled; the merge has its 15 % although the agents needed all the rest."""
    stage = Stage(
        {"planner": plan_text(*[f"t{i}" for i in range(20)]), "writer": "the report"},
        takes={"planner": 1.0, "writer": 1.5, **{f"t{i}": 3.0 for i in range(20)}},
        timeout_s=20.0,
        parallel=2,
    )
    report = await stage.play()
    states = [outcome.state for outcome in report.outcomes]

    assert ("timeout", 124, "the report") == (
        report.end.status,
        report.end.exit_code,
        report.end.result,
    )
    assert {"done", "skipped"} == set(states)
    assert 10 == states.count("done")
    assert 17.0 > report.end.totals["duration_s"]  # the agents may use 85 % of 20 s
    assert [] == [w.message for w in stage.recorder.of(Warned)]
