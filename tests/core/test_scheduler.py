"""The scheduler: facts in, decisions out. Each test plays the engine by hand."""

import pytest

from swarmcli.core.plan import Dependency
from swarmcli.core.scheduler import Cancel, Scheduler, Skip, Start
from tests.core.tasks import every, task
from tests.effort import calls


def test_independent_tasks_start_at_once_in_plan_order():
    """What waits for nothing starts when it is known."""
    scheduler = Scheduler(parallel=10)

    assert [Start("a"), Start("b")] == scheduler.added([task("a"), task("b")])


def test_a_task_starts_the_moment_its_own_inputs_are_there():
    """There are no stages: a slow sibling holds nobody up."""
    scheduler = Scheduler(parallel=10)
    scheduler.added([task("slow"), task("quick"), task("after_quick", "quick")])

    assert [Start("after_quick")] == scheduler.done("quick")
    assert scheduler.states["slow"] == "running"


def test_a_pipeline_goes_on_before_new_work_begins():
    """With fewer slots than items, check[0] follows scan[0] and does not queue behind the other scans."""
    scheduler = Scheduler(parallel=1)
    scheduler.added([task("scan[0]"), task("scan[1]"), task("check[0]", "scan[0]")])

    assert [Start("check[0]")] == scheduler.done("scan[0]")
    assert [Start("scan[1]")] == scheduler.done("check[0]")


def test_no_more_than_parallel_run_and_a_freed_slot_is_used_at_once():
    """`-j 2` means two, in plan order."""
    scheduler = Scheduler(parallel=2)

    assert [Start("a"), Start("b")] == scheduler.added([task(name) for name in "abcd"])
    assert [Start("c")] == scheduler.failed("b")
    assert [Start("d")] == scheduler.done("a")
    assert [] == scheduler.done("c")


def test_a_failure_skips_everything_downstream_with_the_reason():
    """Each skip names the task that was missing."""
    scheduler = Scheduler(parallel=10)
    scheduler.added([task("a"), task("b", "a"), task("c", "b"), task("other")])

    assert [Skip("b", "a failed"), Skip("c", "b was skipped")] == scheduler.failed("a")
    assert scheduler.states["other"] == "running"


def test_a_cancelled_agent_counts_like_a_failed_one():
    """Dependants of an agent without a result do not start."""
    scheduler = Scheduler(parallel=10)
    scheduler.added([task("a"), task("b", "a")])

    assert [Skip("b", "a was cancelled")] == scheduler.cancelled("a")


def test_a_join_waits_for_every_item_and_survives_one_failure():
    """One failed item of a fan-out reaches the join as a failure instead of stopping it."""
    scheduler = Scheduler(parallel=10)
    scheduler.added([*(task(f"scan[{i}]") for i in range(3)), task("join", every("scan", 3))])

    assert [] == scheduler.done("scan[0]")
    assert [] == scheduler.failed("scan[1]")
    assert [Start("join")] == scheduler.done("scan[2]")


def test_a_join_over_nothing_but_failures_is_skipped():
    """With no input at all the join would have to invent one."""
    scheduler = Scheduler(parallel=10)
    scheduler.added([*(task(f"scan[{i}]") for i in range(2)), task("join", every("scan", 2))])

    scheduler.failed("scan[0]")
    skip = Skip("join", "all 2 agents of scan ended without a result")
    assert [skip] == scheduler.failed("scan[1]")


def test_a_join_over_an_empty_fan_out_starts():
    """No files matched: the summary still runs, over nothing."""
    scheduler = Scheduler(parallel=10)

    assert [Start("join")] == scheduler.added([task("join", every("scan", 0))])


def test_a_failed_item_skips_its_own_line_of_a_pipeline_only():
    """`from: scan` has no barrier: the other items go on."""
    scheduler = Scheduler(parallel=10)
    scans = [task(f"scan[{i}]") for i in range(2)]
    checks = [task(f"check[{i}]", f"scan[{i}]") for i in range(2)]
    scheduler.added([*scans, *checks])

    assert [Skip("check[0]", "scan[0] failed")] == scheduler.failed("scan[0]")
    assert [Start("check[1]")] == scheduler.done("scan[1]")


def test_dependants_of_an_optional_task_start_although_it_failed():
    """An optional input may be missing."""
    scheduler = Scheduler(parallel=10)
    need = every("extra", 1, min_done=0)
    scheduler.added([task("extra[0]", optional=True), task("join", need)])

    assert [Start("join")] == scheduler.failed("extra[0]")


def test_one_broken_input_skips_a_task_while_others_still_run():
    """Nothing is gained by waiting for inputs that will not be used."""
    scheduler = Scheduler(parallel=10)
    scheduler.added([task("a"), task("b"), task("join", "a", "b")])

    assert [Skip("join", "a failed")] == scheduler.failed("a")
    assert [] == scheduler.done("b")


def test_the_graph_grows_while_it_runs():
    """A streamed task may depend on one that runs, has succeeded or has failed already."""
    scheduler = Scheduler(parallel=10)
    scheduler.added([task("good"), task("bad"), task("slow")])
    scheduler.done("good")
    scheduler.failed("bad")

    decisions = scheduler.added(
        [task("x", "good"), task("y", "bad"), task("z", "slow"), task("w", "y")]
    )

    assert [Skip("y", "bad failed"), Skip("w", "y was skipped"), Start("x")] == decisions
    assert [Start("z")] == scheduler.done("slow")


def test_a_batch_may_name_its_tasks_in_any_order():
    """A task may stand before the one that it needs when both come together."""
    scheduler = Scheduler(parallel=10)

    assert [Start("a")] == scheduler.added([task("b", "a"), task("a")])
    assert [Start("b")] == scheduler.done("a")


def test_an_unknown_dependency_and_a_known_id_are_refused():
    """The graph that the scheduler holds is always whole."""
    scheduler = Scheduler(parallel=10)
    scheduler.added([task("a")])

    with pytest.raises(ValueError, match="'a' is known already"):
        scheduler.added([task("a")])
    with pytest.raises(ValueError, match="depends on 'nowhere'"):
        scheduler.added([task("b", "nowhere")])


def test_an_end_that_was_never_a_start_is_refused():
    """A fact that cannot be true is a bug of ours and is said aloud."""
    scheduler = Scheduler(parallel=1)
    scheduler.added([task("a"), task("b")])

    with pytest.raises(ValueError, match="'b' ended as done, but it is ready"):
        scheduler.done("b")
    scheduler.done("a")
    with pytest.raises(ValueError, match="'a' ended as failed, but it is done"):
        scheduler.failed("a")


def test_stop_skips_what_has_not_started_and_lets_the_rest_finish():
    """The first Ctrl-C: nothing new starts, running agents get their time."""
    scheduler = Scheduler(parallel=1)
    scheduler.added([task("a"), task("b"), task("c", "a")])

    assert [Skip("b", "interrupted"), Skip("c", "interrupted")] == scheduler.stop("interrupted")
    assert [] == scheduler.done("a")
    assert {"a": "done", "b": "skipped", "c": "skipped"} == dict(scheduler.states)


def test_the_second_stop_cancels_what_runs():
    """The second Ctrl-C ends it now; the first reason stays the one that is told."""
    scheduler = Scheduler(parallel=2)
    scheduler.added([task("a"), task("b")])
    scheduler.stop("interrupted")

    decisions = scheduler.stop("no time is left", cancel_running=True)
    assert [Cancel("a", "no time is left"), Cancel("b", "no time is left")] == decisions
    assert scheduler.stopped == "interrupted"
    assert [] == [*scheduler.cancelled("a"), *scheduler.cancelled("b")]


def test_tasks_that_come_after_a_stop_are_skipped():
    """A planner that is still streaming starts nothing any more."""
    scheduler = Scheduler(parallel=5)
    scheduler.stop("the budget is spent")

    skips = [Skip("a", "the budget is spent"), Skip("b", "the budget is spent")]
    assert skips == scheduler.added([task("a"), task("b", "a")])


def test_fail_fast_stops_at_the_first_failure():
    """`--fail-fast`: what runs is cancelled, what waits is skipped."""
    scheduler = Scheduler(parallel=2, fail_fast=True)
    scheduler.added([task("a"), task("b"), task("c")])

    because = "a failed and the run stops at the first failure"
    assert [Cancel("b", because), Skip("c", because)] == scheduler.failed("a")
    assert [] == scheduler.cancelled("b")


def test_fail_fast_forgives_optional_tasks():
    """What is optional may fail without ending the run."""
    scheduler = Scheduler(parallel=1, fail_fast=True)
    scheduler.added([task("a", optional=True), task("b")])

    assert [Start("b")] == scheduler.failed("a")


def test_dropped_tasks_are_forgotten_and_free_their_slots():
    """A corrected plan leaves out a running task: it is cancelled and the next one starts."""
    scheduler = Scheduler(parallel=1)
    scheduler.added([task("wrong"), task("after", "wrong"), task("right")])

    decisions = scheduler.dropped(["wrong", "after"])

    assert [Cancel("wrong", "the repaired plan does not hold it"), Start("right")] == decisions
    assert ["right"] == list(scheduler.tasks)
    with pytest.raises(ValueError, match="unknown"):
        scheduler.done("wrong")


def test_a_dropped_id_may_be_used_again():
    """The corrected plan may give the same id to another prompt."""
    scheduler = Scheduler(parallel=1)
    scheduler.added([task("keep"), task("t", "keep")])
    scheduler.dropped(["t"])
    scheduler.added([task("t", "keep", prompt="something else")])

    assert [Start("t")] == scheduler.done("keep")
    assert [] == scheduler.done("t")


def run_all(scheduler, tasks):
    """Run to the end, each start ending at once; how many were started."""
    waiting = [d for d in scheduler.added(tasks) if isinstance(d, Start)]
    started = 0
    while waiting:
        started += 1
        waiting += [d for d in scheduler.done(waiting.pop().agent) if isinstance(d, Start)]
    return started


@pytest.mark.parametrize(
    "shape",
    [
        lambda n: [task(f"t{i}", *([f"t{i - 1}"] if i else [])) for i in range(n)],
        lambda n: [*(task(f"t{i}") for i in range(n - 1)), task("end", every_task(n - 1))],
        lambda n: [*(task(f"t{i}") for i in range(n - 1)), task("end", *names(n - 1))],
        lambda n: [task("t"), *(task(f"t{i}", "t") for i in range(n - 1))],
    ],
    ids=["chain", "fan-in", "a join of separate tasks", "fan-out"],
)
def test_time_grows_with_the_number_of_tasks_and_not_with_its_square(shape):
    """Eight times the tasks are about eight times the work, whatever their shape."""
    few, many = (calls(lambda n=n: run_all(Scheduler(parallel=50), shape(n))) for n in (1000, 8000))

    assert many < 12 * few


def every_task(count):
    return Dependency(name="t", agents=tuple(names(count)), fan_out=True)


def names(count):
    return [f"t{i}" for i in range(count)]


def test_dropping_and_stopping_thousands_is_quick():
    """A planner that starts over after a long draft does not freeze the display."""

    def of(count):
        tasks = [task("t"), *(task(f"t{i}", "t") for i in range(count))]
        ready = [task(f"r{i}") for i in range(count)]
        scheduler = Scheduler(parallel=1)
        scheduler.added([*tasks, *ready])
        drop = calls(lambda: scheduler.dropped([*(t.id for t in tasks[1:]), *names_of(ready)]))
        assert ["t"] == list(scheduler.tasks)
        scheduler.added([*tasks[1:], *ready])
        return drop + calls(lambda: scheduler.stop("enough", cancel_running=True))

    assert of(4000) < 12 * of(500)


def names_of(tasks):
    return [t.id for t in tasks]


def test_thirty_pipelines_of_ten_steps_have_no_barrier():
    """With unequal steps each line runs at its own pace: the whole takes as long as the slowest line, not as the
    sum of the slowest steps.
    """
    lines = [
        [task(f"p{line}s{step}", *([f"p{line}s{step - 1}"] if step else [])) for step in range(10)]
        for line in range(30)
    ]
    takes = {
        t.id: 1 + (7 * i + 3 * j) % 5 for i, line in enumerate(lines) for j, t in enumerate(line)
    }
    scheduler = Scheduler(parallel=30)
    running = {d.agent: takes[d.agent] for d in scheduler.added(t for line in lines for t in line)}
    now = 0
    while running:
        now = min(running.values())
        for agent in [a for a, end in running.items() if end == now]:
            del running[agent]
            running |= {d.agent: now + takes[d.agent] for d in scheduler.done(agent)}

    slowest_line = max(sum(takes[t.id] for t in line) for line in lines)
    stages = sum(max(takes[line[step].id] for line in lines) for step in range(10))
    assert now == slowest_line < stages
