"""The parallelism receipt, against figures worked out by hand."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.receipt import Receipt, Span, receipt
from tests.core.tasks import done, every, failed, skipped, task


def ran(name, *needs, start, end, busy=None, **more):
    busy_s = end - start if busy is None else busy
    return done(name, task=task(name, *needs), started_s=start, ended_s=end, busy_s=busy_s, **more)


def span(name, start, end):
    return Span(name=name, started_s=start, ended_s=end, busy_s=end - start)


def test_two_agents_side_by_side_are_twice_as_fast():
    """8 s of work in 4 s."""
    outcomes = [ran("a", start=0, end=4), ran("b", start=0, end=4)]

    assert Receipt(speedup=2.0, critical_path_s=4, critical_path=("a",)) == receipt(outcomes)


def test_a_chain_gains_nothing():
    """One after the other: 1x, and the path is the whole chain."""
    outcomes = [ran("a", start=0, end=1), ran("b", "a", start=1, end=3)]

    assert Receipt(speedup=1.0, critical_path_s=3, critical_path=("a", "b")) == receipt(outcomes)


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

    assert (
        Receipt(speedup=1.0, critical_path_s=8, critical_path=("planner", "a", "writer")) == found
    )


def test_waiting_for_a_slot_is_no_work():
    """Busy is first request to last reply: ten agents in a queue of one are no speed-up."""
    outcomes = [ran(f"t{i}", start=0, end=i + 1, busy=1) for i in range(10)]

    assert 1.0 == receipt(outcomes).speedup


def test_a_run_without_calls_has_no_speedup():
    """Everything came from the cache, or nothing started: there is nothing to brag about."""
    cached = done("a", cached=True, started_s=1, ended_s=1)

    assert (None, 0) == (receipt([cached]).speedup, receipt([cached]).critical_path_s)
    assert Receipt(speedup=None, critical_path_s=0, critical_path=()) == receipt([])
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
