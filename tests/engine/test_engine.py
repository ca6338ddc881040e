"""The engine: carries decisions out, and feeds back only what is durable."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    Failure,
    PlanTask,
    Warned,
)
from swarmcli.core.outcomes import Outcome
from swarmcli.core.replies import Claim
from swarmcli.engine.engine import Engine
from swarmcli.errors import StorageError
from swarmcli.testing import ManualClock, RecordingRecorder
from tests.core.tasks import done, every, failed, task
from tests.engine.stage import DiskRecorder


class Workers:
    """Agents that take their time on the clock and end as they are told."""

    def __init__(self, clock, takes=None, fails=None, raises=None):
        self.clock = clock
        self.takes = takes or {}
        self.fails = fails or {}
        self.raises = raises or {}
        self.started = {}
        self.inputs = {}

    async def __call__(self, one, inputs):
        self.started[one.id] = self.clock.monotonic()
        self.inputs[one.id] = inputs
        await self.clock.sleep(self.takes.get(one.id, 1.0))
        if one.id in self.raises:
            raise self.raises[one.id]
        if one.id in self.fails:
            return Outcome(
                task=one,
                state="failed",
                failure=Failure(kind=self.fails[one.id], message="it broke"),
            )
        return Outcome(task=one, state="done", output=f"output of {one.id}")


def stage(workers=None, recorder=None, parallel=100, fail_fast=False, **told):
    clock = ManualClock(0.0)
    workers = workers or Workers(clock, **told)
    workers.clock = clock
    recorder = recorder or RecordingRecorder()
    if isinstance(recorder, DiskRecorder):
        recorder.clock = clock
    engine = Engine(
        execute=workers, recorder=recorder, clock=clock, parallel=parallel, fail_fast=fail_fast
    )
    return engine, workers, clock, recorder


async def play(engine, clock, tasks, then=None):
    """Run a source that adds `tasks`, and then does what it is told."""

    async def source():
        engine.add(tasks)
        if then is not None:
            await then()

    await clock.drive(engine.run(source))


def ends(engine):
    return {o.agent: o.state for o in engine.outcomes}


async def test_each_task_starts_the_moment_its_own_inputs_are_there():
    """Two lines of unequal steps: neither waits for the other."""
    engine, workers, clock, _ = stage(takes={"a1": 1, "a2": 5, "b1": 4, "b2": 1})
    await play(engine, clock, [task("a1"), task("a2", "a1"), task("b1"), task("b2", "b1")])

    assert {"a1": 0, "b1": 0, "a2": 1, "b2": 4} == workers.started
    assert 6 == clock.monotonic()


async def test_an_agent_gets_how_its_inputs_ended_as_values():
    """A failed item of a fan-out reaches the join as a failure, in item order."""
    engine, workers, clock, _ = stage(fails={"s[1]": "timeout"}, takes={"s[0]": 3})
    await play(engine, clock, [*(task(f"s[{i}]") for i in range(3)), task("join", every("s", 3))])

    ((need, outcomes),) = workers.inputs["join"]
    assert "s" == need.name
    assert [("s[0]", "done"), ("s[1]", "failed"), ("s[2]", "done")] == [
        (o.agent, o.state) for o in outcomes
    ]
    assert "output of s[0]" == outcomes[0].output


async def test_every_agent_is_announced_and_ends_with_one_durable_event():
    """`plan.task` first; the end is committed, not only shown."""
    engine, _, clock, recorder = stage(fails={"b": "server"})
    await play(engine, clock, [task("a"), task("b"), task("c", "b")])

    assert ["a", "b", "c"] == [e.agent for e in recorder.of(PlanTask)]
    assert [("a", AgentCompleted), ("b", AgentFailed)] == [
        (e.agent, type(e)) for e in recorder.committed
    ]
    assert [("c", "b failed")] == [(e.agent, e.because) for e in recorder.of(AgentSkipped)]


async def test_dependants_start_only_after_the_result_is_on_disk():
    """Whatever an agent was shown survives a crash."""
    engine, workers, clock, _ = stage(recorder=DiskRecorder(seconds=10))
    await play(engine, clock, [task("a"), task("b", "a")])

    assert 11 == workers.started["b"]


async def test_never_more_than_parallel_at_once():
    """`-j 3` with ten tasks of one second takes four seconds."""
    engine, workers, clock, _ = stage(parallel=3)
    await play(engine, clock, [task(f"t{i}") for i in range(10)])

    assert 4 == clock.monotonic()
    assert [3, 3, 3, 1] == [list(workers.started.values()).count(t) for t in range(4)]


async def test_a_bug_in_one_agent_is_that_agents_failure():
    """An exception nobody foresaw costs one agent, not the run."""
    engine, _, clock, recorder = stage(raises={"a": ZeroDivisionError("division by zero")})
    await play(engine, clock, [task("a"), task("b")])

    assert {"a": "failed", "b": "done"} == ends(engine)
    assert [Failure(kind="internal", message="ZeroDivisionError: division by zero")] == [
        e.error for e in recorder.of(AgentFailed)
    ]


async def test_claims_and_cost_are_part_of_the_record():
    """`agent.completed` holds all that a resumed run needs to go on as if it had just happened."""
    clock, recorder = ManualClock(0.0), RecordingRecorder()
    claim = Claim(key="pop", value=3.7, unit="m", source="s")

    async def execute(one, _inputs):
        return done(
            "a",
            "out",
            task=one,
            claims=(claim,),
            cost_usd=0.5,
            status="conflict",
            key="k",
            busy_s=2.0,
        )

    engine = Engine(execute=execute, recorder=recorder, clock=clock, parallel=1)
    await play(engine, clock, [task("a")])

    assert [
        AgentCompleted(
            agent="a",
            output="out",
            status="conflict",
            attempts=0,
            cost_usd=0.5,
            seconds=2.0,
            key="k",
            claims=[{"key": "pop", "value": 3.7, "unit": "m", "source": "s"}],
        )
    ] == recorder.of(AgentCompleted)


async def test_stop_lets_running_agents_finish():
    """The first Ctrl-C: what was paid for is kept."""
    engine, workers, clock, _ = stage(parallel=1)

    async def interrupt():
        await clock.sleep(0.5)
        engine.stop("sigint", "interrupted", cancel_running=False)

    await play(engine, clock, [task("a"), task("b")], interrupt)

    assert {"a": "done", "b": "skipped"} == ends(engine)
    assert ["a"] == list(workers.started)


async def test_a_hard_stop_cancels_and_says_so():
    """The second Ctrl-C: each running agent ends as cancelled, and its time is kept."""
    engine, _, clock, recorder = stage(takes={"a": 100})

    async def interrupt():
        await clock.sleep(2)
        engine.stop("sigint", "interrupted", cancel_running=True)

    await play(engine, clock, [task("a"), task("b", "a")], interrupt)

    assert {"a": "cancelled", "b": "skipped"} == ends(engine)
    assert [("a", "interrupted")] == [(e.agent, e.because) for e in recorder.of(AgentCancelled)]
    assert (0, 2) == (engine.outcomes[0].started_s, engine.outcomes[0].ended_s)
    assert "sigint" == engine.stopped_by


async def test_an_agent_that_is_cancelled_in_the_turn_in_which_it_started_is_not_lost():
    """At 300 agents one starts in the very moment in which another meets a 401: both must end."""
    clock, recorder, gate, begun = ManualClock(0.0), RecordingRecorder(), asyncio.Event(), []

    async def execute(one, _inputs):
        begun.append(one.id)
        await (
            gate.wait()
        )  # "ok" and "bad" end in one turn of the loop, and "next" is started in between
        if one.id == "bad":
            return failed("bad", "auth", task=one)
        return done(one.id, task=one)

    engine = Engine(execute=execute, recorder=recorder, clock=clock, parallel=2)

    async def open_gate():
        await clock.sleep(1)
        gate.set()

    await play(
        engine, clock, [task("ok"), task("bad"), task("next"), task("last", "next")], open_gate
    )

    assert ["ok", "bad"] == begun
    assert {"ok": "done", "bad": "failed", "next": "cancelled", "last": "skipped"} == ends(engine)
    assert ["next"] == [e.agent for e in recorder.of(AgentCancelled)]


@pytest.mark.parametrize("kind", ["auth", "quota", "no_key"])
async def test_no_access_stops_the_run_at_first_sight(kind):
    """299 more agents would meet the same refusal."""
    engine, workers, clock, _ = stage(fails={"a": kind}, takes={"b": 50}, parallel=2)
    await play(engine, clock, [task("a"), task("b"), task("c")])

    assert {"a": "failed", "b": "cancelled", "c": "skipped"} == ends(engine)
    assert ("fatal", 1) == (engine.stopped_by, clock.monotonic())
    assert "c" not in workers.started


class Failing:
    """Agents of which those whose model is down fail after a second and two requests, the others take a minute."""

    def __init__(self, *down, kind="network", cached=False):
        self.down = down
        self.kind = kind
        self.cached = cached
        self.started = []

    async def __call__(self, one, _inputs):
        self.started.append(one.id)
        await self.clock.sleep(1.0 if one.model in self.down else 60.0)
        if one.model not in self.down:
            return done(one.id, task=one, model=one.model, cached=self.cached)
        return replace(failed(one.id, self.kind, task=one), model=one.model, attempts=2)


async def test_agent_after_agent_that_fails_the_same_way_stops_the_run():
    """Of 100 agents five fail, those at work are cancelled, the rest is skipped, and one message says why."""
    workers = Failing("a/down")
    engine, _, clock, recorder = stage(workers, parallel=5)
    await play(engine, clock, [task(f"s[{i}]", model="a/down") for i in range(100)])

    assert ("outage", 1) == (engine.stopped_by, clock.monotonic())
    counts = Counter(ends(engine).values())
    assert (5, 95) == (counts["failed"], counts["cancelled"] + counts["skipped"])
    assert len(workers.started) < 10
    (warning,) = recorder.of(Warned)
    for text in ("5 agents", "network", "a/down", "`swarm resume`"):
        assert text in warning.message
    assert {"5 agents failed the same way (network, a/down)"} == {
        e.because for e in recorder.of(AgentSkipped)
    }


async def test_a_healthy_model_goes_on_beside_one_that_is_down():
    """Work on another model is not thrown away; the run stops when only the broken model has work left."""
    workers = Failing("a/down")
    engine, _, clock, _ = stage(workers, parallel=10)
    good = [task(f"g[{i}]", model="b/good") for i in range(3)]
    bad = [task(f"s[{i}]", model="a/down") for i in range(1000)]
    await play(engine, clock, [*good, *bad])

    assert {"done"} == {ends(engine)[one.id] for one in good}
    assert ("outage", 60) == (engine.stopped_by, clock.monotonic())
    assert "skipped" == ends(engine)["s[999]"]


async def test_those_that_wait_for_the_broken_model_do_not_keep_the_run_alive():
    """A report by another model that needs what cannot be made is no work."""
    workers = Failing("a/down")
    engine, _, clock, _ = stage(workers, parallel=5)
    scans = [task(f"s[{i}]", model="a/down") for i in range(100)]
    await play(engine, clock, [*scans, task("report", every("s", 100), model="b/good")])

    assert ("outage", 1) == (engine.stopped_by, clock.monotonic())
    assert "skipped" == ends(engine)["report"]


@pytest.mark.parametrize(("cached", "stopped_by"), [(False, None), (True, "outage")])
async def test_only_fresh_answers_show_that_a_model_works(cached, stopped_by):
    """An answer in between ends the streak, one from the cache does not."""
    clock, recorder = ManualClock(0.0), RecordingRecorder()

    async def execute(one, _inputs):
        await clock.sleep(1.0)
        if one.id == "s[4]":
            return done(one.id, task=one, model="a/m", cached=cached)
        return replace(failed(one.id, "server", task=one), model="a/m", attempts=5)

    engine = Engine(execute=execute, recorder=recorder, clock=clock, parallel=1)
    await play(engine, clock, [task(f"s[{i}]") for i in range(8)])

    assert stopped_by == engine.stopped_by


async def test_a_spent_budget_starts_nothing_new_and_cancels_nothing():
    """What is on its way is paid already."""
    engine, _, clock, _ = stage(fails={"a": "budget"}, takes={"b": 5}, parallel=2)
    await play(engine, clock, [task("a"), task("b"), task("c"), task("d", "b")])

    assert {"a": "failed", "b": "done", "c": "skipped", "d": "skipped"} == ends(engine)
    assert "budget" == engine.stopped_by


async def test_fail_fast_cancels_the_rest():
    """`--fail-fast`: the first failure ends it; that is no stop of the run's own."""
    engine, _, clock, _ = stage(fails={"a": "server"}, takes={"b": 50}, parallel=2, fail_fast=True)
    await play(engine, clock, [task("a"), task("b"), task("c")])

    assert {"a": "failed", "b": "cancelled", "c": "skipped"} == ends(engine)
    assert (None, 1) == (engine.stopped_by, clock.monotonic())


async def test_the_first_cause_of_a_stop_is_the_one_that_counts():
    """A 401 during the grace of a Ctrl-C is not why the run ended."""
    engine, _, clock, _ = stage(fails={"a": "auth"}, takes={"a": 3})

    async def interrupt():
        engine.stop("sigint", "interrupted", cancel_running=False)

    await play(engine, clock, [task("a")], interrupt)

    assert "sigint" == engine.stopped_by


async def test_a_full_disk_stops_the_run():
    """A result that is not on disk is no result; nothing more is paid for."""
    recorder = DiskRecorder(full_at={"a"})
    engine, workers, clock, _ = stage(recorder=recorder, takes={"b": 50})
    await play(engine, clock, [task("a"), task("b"), task("c", "a")])

    assert {"a": "failed", "b": "cancelled", "c": "skipped"} == ends(engine)
    assert isinstance(engine.storage_error, StorageError)
    assert "storage" == engine.stopped_by
    assert "c" not in workers.started
    assert engine.outcomes[0].output is None


async def test_a_stop_before_the_first_step_ends_at_once():
    """Ctrl-C while the run sets itself up: nothing starts, nothing is left unawaited."""
    engine, workers, clock, _ = stage()
    engine.stop("sigint", "interrupted", cancel_running=False)
    await play(engine, clock, [task("a")])
    assert {} == workers.started

    engine, workers, clock, _ = stage()

    async def source():
        raise AssertionError("the source must not begin")

    async def both():
        async with asyncio.TaskGroup() as group:
            running = group.create_task(engine.run(source))
            await asyncio.sleep(0)
            engine.stop("sigint", "interrupted", cancel_running=False)
            await running

    await clock.drive(both())
    assert {} == ends(engine)


async def test_a_source_that_still_works_is_cancelled_by_a_stop():
    """A planner that streams on is cut off."""
    engine, _, clock, _ = stage()

    async def plan():
        await clock.sleep(1)
        engine.stop("timeout", "no time", cancel_running=True)
        await clock.sleep(1000)

    await play(engine, clock, [task("a")], plan)

    assert 1 == clock.monotonic()


async def test_an_outside_cancellation_is_not_swallowed():
    """Whoever cancels the whole run gets it back as a cancellation."""
    engine, _, clock, _ = stage(takes={"a": 100})

    async def source():
        engine.add([task("a")])

    async def outside():
        async with asyncio.TaskGroup() as group:
            running = group.create_task(engine.run(source))
            await clock.sleep(1)
            running.cancel()
        return running.cancelled()

    assert await clock.drive(outside())


async def test_a_corrected_plan_drops_what_it_does_not_hold():
    """Kept tasks go on as they are; dropped ones are cancelled with all that waits for them, and new ones start."""
    engine, workers, clock, recorder = stage(takes={"keep": 5, "wrong": 50})

    async def correct():
        await clock.sleep(1)
        engine.reconcile([task("keep"), task("new", "keep")])

    await play(engine, clock, [task("keep"), task("wrong"), task("after", "wrong")], correct)

    assert {"keep": "done", "new": "done"} == ends(engine)
    assert {"keep": 0, "wrong": 0, "new": 5} == workers.started
    assert [("agent.cancelled", "wrong"), ("agent.skipped", "after")] == [
        (e.type, e.agent) for e in recorder.events if isinstance(e, AgentCancelled | AgentSkipped)
    ]
    assert 6 == clock.monotonic()


async def test_a_task_that_changed_under_its_id_runs_again_with_its_dependants():
    """A dependant that saw the wrong output sees the right one."""
    engine, workers, clock, _ = stage(takes={"t": 1})
    old, new = task("t", prompt="draft"), task("t", prompt="corrected")

    async def correct():
        await clock.sleep(10)
        engine.reconcile([new, task("after", "t")])

    await play(engine, clock, [old, task("after", "t")], correct)

    assert {"t": "done", "after": "done"} == ends(engine)
    assert (10, 11) == (workers.started["t"], workers.started["after"])
    assert new is workers.inputs["after"][0][1][0].task
    assert ["t", "after"] == [o.agent for o in engine.dropped]


async def test_a_task_that_is_dropped_while_its_result_is_written_does_not_come_back():
    """The journal is slow, the corrected plan is quick: the old result is not taken for the new task's."""
    engine, workers, clock, _ = stage(recorder=DiskRecorder(seconds=10), takes={"t": 1})
    old, new = task("t", prompt="draft"), task("t", prompt="corrected")

    async def correct():
        await clock.sleep(5)  # `old` has ended, and is being written until 11
        engine.reconcile([new])

    await play(engine, clock, [old], correct)

    assert {"t": "done"} == ends(engine)
    assert (5, new) == (workers.started["t"], engine.outcomes[0].task)
    assert [old] == [o.task for o in engine.dropped]


async def test_three_hundred_agents_cost_no_time_of_their_own():
    """All start at once, and the wall time is that of one."""
    engine, workers, clock, _ = stage(parallel=300)
    await play(
        engine, clock, [*(task(f"s[{i}]") for i in range(300)), task("end", every("s", 300))]
    )

    assert {0} == {workers.started[f"s[{i}]"] for i in range(300)}
    assert (1, 2) == (workers.started["end"], clock.monotonic())


async def test_a_source_may_wait_until_all_has_ended_and_then_add_more():
    """`settled`: who failed or was skipped has ended too; with nothing to wait for it returns at once."""
    engine, workers, clock, _ = stage(takes={"b": 5, "c": 2}, fails={"a": "server"})
    settled = []

    async def grow():
        await engine.settled()
        settled.append(clock.monotonic())
        engine.add([task("c", "b")])
        await engine.settled()
        await engine.settled()
        settled.append(clock.monotonic())

    await play(engine, clock, [task("a"), task("b"), task("x", "a")], grow)

    assert {"a": "failed", "b": "done", "x": "skipped", "c": "done"} == ends(engine)
    assert ([5, 7], 5) == (settled, workers.started["c"])


async def test_an_agent_has_ended_when_that_is_durable():
    """`settled` waits for the disk: what is decided on the outcomes must not be lost with them."""
    recorder = DiskRecorder(seconds=3)
    engine, _, clock, _ = stage(recorder=recorder)
    settled = []

    async def look():
        await engine.settled()
        settled.append((clock.monotonic(), ends(engine)))

    await play(engine, clock, [task("a")], look)

    assert [(4, {"a": "done"})] == settled


async def test_a_stop_ends_the_wait_for_the_agents():
    """A source that waits does not keep a stopped run alive."""
    engine, _, clock, _ = stage(takes={"a": 500})

    waited = []

    async def source():
        engine.add([task("a")])
        waited.append("begins")
        await engine.settled()
        waited.append("returns")

    async def both():
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.run(source))
            await clock.sleep(1)
            engine.stop("sigint", "interrupted", cancel_running=True)

    await clock.drive(both())

    assert (["begins"], {"a": "cancelled"}) == (waited, ends(engine))


async def test_outcomes_are_in_the_order_of_the_corrected_plan():
    """A task that was replaced keeps its place, whoever ended last."""
    engine, _, clock, _ = stage()

    async def correct():
        await engine.settled()
        engine.reconcile([task("a", prompt="anew"), task("n"), task("b")])

    await play(engine, clock, [task("a"), task("b")], correct)

    assert ["a", "n", "b"] == [o.agent for o in engine.outcomes]
