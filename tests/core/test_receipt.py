"""The parallelism receipt, against figures worked out by hand."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.receipt import Receipt, Span, receipt, unused_agents
from tests.core.tasks import done, every, failed, skipped, task


def ran(name, *needs, start, end, busy=None, **more):
    busy_s = end - start if busy is None else busy
    return done(name, task=task(name, *needs), started_s=start, ended_s=end, busy_s=busy_s, **more)


def span(name, start, end):
    return Span(name=name, started_s=start, ended_s=end, busy_s=end - start)


def test_two_agents_side_by_side_are_twice_as_fast():
    """8 s of work in 4 s."""
    outcomes = [ran("a", start=0, end=4), ran("b", start=0, end=4)]

    assert receipt(outcomes) == Receipt(
        speedup=2.0,
        critical_path_s=4,
        critical_path=("a",),
        agent_s=8,
        serial_s=8,
        wall_s=4,
        critical_steps=1,
    )


def test_a_chain_gains_nothing():
    """One after the other: 1x, and the path is the whole chain."""
    outcomes = [ran("a", start=0, end=1), ran("b", "a", start=1, end=3)]

    found = receipt(outcomes)
    assert (1.0, 3, ("a", "b")) == (found.speedup, found.critical_path_s, found.critical_path)
    assert (3, 3, 2) == (found.serial_s, found.wall_s, found.critical_steps)


def test_the_critical_path_runs_through_the_slowest_inputs():
    """Of a diamond the slow side counts."""
    outcomes = [
        ran("plan", start=0, end=1),
        ran("quick", "plan", start=1, end=2),
        ran("slow", "plan", start=1, end=6),
        ran("join", "quick", "slow", start=6, end=7),
    ]

    found = receipt(outcomes)
    assert (("plan", "slow", "join"), 7) == (found.critical_path, found.critical_path_s)
    assert round(8 / 7, 2) == found.speedup


def test_a_join_over_a_fan_out_waits_for_the_slowest_item():
    """`scan[1]` is what held the run up."""
    scans = [ran(f"scan[{i}]", start=0, end=end) for i, end in enumerate([1, 9, 2])]
    found = receipt([*scans, ran("join", every("scan", 3), start=9, end=10)])

    assert ("scan[1]", "join") == found.critical_path
    assert 1.3 == found.speedup


def test_planner_and_writer_stand_on_the_path_and_in_the_wall_time():
    """Both are waited for; both are not agents' work."""
    outcomes = [ran("a", start=2, end=6), ran("b", start=2, end=6)]
    found = receipt(outcomes, [span("planner", 0, 2)], [span("writer", 6, 7), span("writer", 7, 8)])

    assert (1.0, 8, ("planner", "a", "writer")) == (
        found.speedup,
        found.critical_path_s,
        found.critical_path,
    )
    assert (8, 12, 8, 4) == (found.agent_s, found.serial_s, found.wall_s, found.critical_steps)


def test_questions_that_are_asked_side_by_side_count_once():
    """Three questions about conflicts at once, one of them asked twice: the result waits for 3 s and two steps."""
    asked = [span("judge", 4, 6), span("judge", 4, 5), span("judge", 5, 7)]
    found = receipt([ran("a", start=0, end=4)], judge=asked, writer=[span("writer", 7, 8)])

    assert (("a", "judge", "writer"), 8) == (found.critical_path, found.critical_path_s)
    assert (4, 10) == (found.critical_steps, found.serial_s)


def test_a_level_of_reducers_is_one_step_and_all_of_their_time_is_serial():
    """Three side by side, told to have ended together: the result waits for the longest, one by one they take 6 s."""
    level = [Span(name="writer", started_s=4, ended_s=7, busy_s=busy) for busy in (1, 3, 2, 0.0005)]
    found = receipt([ran("a", start=0, end=4)], writer=[*level, span("writer", 7, 8)])

    assert (8, 8, 3) == (found.critical_path_s, found.wall_s, found.critical_steps)
    assert 4 + (1 + 3 + 2) + 1 == round(found.serial_s, 1)


def test_critical_steps_have_a_barrier_after_each_level():
    """The report's formula: the longest of each level adds up, though no chain of agents took so many steps."""
    outcomes = [
        ran("quick", start=0, end=1),
        ran("slow", start=0, end=3),
        ran("after-quick", "quick", start=1, end=6),
        ran("after-slow", "slow", start=3, end=4),
    ]
    steps = {"quick": 1, "slow": 3, "after-quick": 5, "after-slow": 1}

    found = receipt(outcomes, [span("planner", 0, 1)], [span("writer", 6, 7)], steps=steps)

    assert 1 + (3 + 5) + 1 == found.critical_steps
    assert 1 + (1 + 5) + 1 == found.critical_path_s


def test_work_is_used_when_it_reaches_the_result():
    """What only a failed agent needed was for nothing; so were its own inputs."""
    outcomes = [
        done("a"),
        done("b", task=task("b", "a")),
        failed("c", task=task("c", "b")),
        done("d"),
        skipped("e", task=task("e", "c")),
    ]

    assert ("a", "b") == unused_agents(outcomes, written=None)


def test_a_run_that_was_stopped_merges_the_last_that_was_finished():
    """Nothing is unused only because there was no time for what comes after it."""
    outcomes = [done("a"), done("b", task=task("b", "a")), skipped("c", task=task("c", "b"))]

    assert () == unused_agents(outcomes, written=None, stopped=True)
    assert ("a", "b") == unused_agents(outcomes, written=None)


def test_a_writer_uses_whom_it_cites():
    """An agent without a marker was not used, nor was what only it needed; without any marker nothing is known."""
    outcomes = [
        done("a"),
        done("b"),
        done("c", task=task("c", "a")),
        done("d", task=task("d", "b")),
    ]

    assert ("b", "d") == unused_agents(outcomes, written="It is so [c].")
    assert () == unused_agents(outcomes, written="It is so.")


def test_waiting_for_a_slot_is_no_work():
    """Busy is first request to last reply: ten agents in a queue of one are no speed-up."""
    outcomes = [ran(f"t{i}", start=0, end=i + 1, busy=1) for i in range(10)]

    assert 1.0 == receipt(outcomes).speedup


def test_a_run_without_calls_has_no_speedup():
    """Everything came from the cache, or nothing started: there is nothing to brag about."""
    cached = done("a", cached=True, started_s=1, ended_s=1)

    assert (None, 0) == (receipt([cached]).speedup, receipt([cached]).critical_path_s)
    assert Receipt(speedup=None, critical_path_s=0, critical_path=()) == receipt([])
    assert 0 == receipt([cached]).critical_steps
    assert receipt([skipped("a"), failed("b")]).speedup is None


def test_what_an_earlier_session_did_is_not_counted_again():
    """A resumed run of one new agent is not 300 times as fast."""
    old = [ran(f"t{i}", start=5, end=5, busy=10, reused=True) for i in range(299)]
    found = receipt([*old, ran("new", "t0", start=5, end=6)])

    assert (1.0, 1) == (found.speedup, found.critical_path_s)


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(0, 2)),
        min_size=1,
        max_size=15,
    )
)
def test_the_path_is_a_chain_of_dependencies_and_never_longer_than_all_work(made):
    """For any run: each agent on the path needs the one before it, and the sums fit."""
    outcomes = []
    for i, (start, busy, back) in enumerate(made):
        needs = [f"t{i - back}"] if back and i >= back else []
        outcomes.append(ran(f"t{i}", *needs, start=start, end=start + busy))
    found = receipt(outcomes)

    by_name = {o.agent: o for o in outcomes}
    path = found.critical_path
    for before, after in pairwise(path):
        assert before in [a for d in by_name[after].task.depends_on for a in d.agents]
    assert found.critical_path_s == sum(by_name[name].busy_s for name in path)
    assert (
        max(o.busy_s for o in outcomes) <= found.critical_path_s <= sum(o.busy_s for o in outcomes)
    )
    assert len(path) <= found.critical_steps <= len(outcomes)
    assert found.serial_s == found.agent_s == sum(o.busy_s for o in outcomes)
