"""Plans: what a planner says becomes checked tasks, or one exact fault."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.core.plan import PlanBuilder, TaskDraft, final_tasks, to_document
from swarmcli.core.planform import document_of
from swarmcli.errors import PlanError
from tests.core.tasks import every, task
from tests.effort import calls


def draft(name, *needs, prompt="", **more):
    return TaskDraft(id=name, prompt=prompt or f"do {name}", depends_on=needs, **more)


def builder(max_tasks=60, profiles=(), models=("small", "large"), strict=False):
    return PlanBuilder(max_tasks=max_tasks, profiles=profiles, models=models, strict=strict)


def build(*drafts, mode="swarm", **options):
    built = builder(**options)
    for one in drafts:
        built.add(one)
    return built.finish(mode)


def ids(tasks):
    return [t.id for t in tasks]


def fault(*drafts, **options):
    with pytest.raises(PlanError) as caught:
        build(*drafts, **options)
    return caught.value.message


def test_a_draft_is_handed_over_at_once_when_its_needs_are_known():
    """The first agents start while the plan still streams."""
    built = builder()

    assert ["t1"] == ids(built.add(draft("t1")))
    assert ["t2"] == ids(built.add(draft("t2", "t1")))
    assert ("t1",) == build(draft("t1"), draft("t2", "t1")).tasks[1].depends_on[0].agents


def test_forward_references_wait_for_the_task_that_they_name():
    """A task may stand before its inputs; it is handed over with the last of them, in the order of the plan."""
    built = builder()

    assert [] == built.add(draft("t1", "t3", "t4"))
    assert [] == built.add(draft("t2", "t1"))
    assert ["t3"] == ids(built.add(draft("t3")))
    assert ["t4", "t1", "t2"] == ids(built.add(draft("t4")))
    assert ["t3", "t4", "t1", "t2"] == ids(built.finish().tasks)


@pytest.mark.parametrize(
    ("drafts", "expected"),
    [
        ([draft("a", "b"), draft("b", "a")], "circle: "),
        ([draft("a", "a")], "task 'a' depends on itself"),
        ([draft("a", "x")], "task 'a' depends on 'x', which does not exist"),
        ([draft("a"), draft("a", prompt="other")], "two tasks have the id 'a'"),
        ([draft("a b")], "task id 'a b' is not made of"),
        ([draft("a" * 65)], "is not made of 1-64 letters"),
        ([draft("")], "task id ''"),
        ([TaskDraft(id="a", prompt=" \n")], "task 'a' has an empty prompt"),
        ([TaskDraft(id="a", prompt="...")], "task 'a' has an empty prompt"),
        ([], "the plan has no tasks"),
    ],
)
def test_each_fault_is_named_exactly(drafts, expected):
    """The repair turn gets the planner's exact mistake."""
    assert expected in fault(*drafts)


def test_a_circle_is_told_in_the_order_of_its_arrows():
    """Following the message leads around the circle."""
    message = fault(draft("a", "c"), draft("b", "a"), draft("c", "b"))

    _, _, circle = message.partition("circle: ")
    around = circle.split(" -> ")
    needs = {"a": "c", "b": "a", "c": "b"}
    assert around[0] == around[-1]
    assert [needs[one] for one in around[:-1]] == around[1:]


def test_more_tasks_than_allowed_are_one_fault_with_both_numbers():
    """The planner is told how many it wrote and how many it may write."""
    drafts = [draft(f"t{i}") for i in range(7)]

    assert fault(*drafts, max_tasks=5) == "the plan has 7 tasks, 5 are allowed"
    assert 7 == len(build(*drafts, max_tasks=7).tasks)


def test_no_task_beyond_the_limit_is_handed_over():
    """`--max-agents 5` starts five agents, also while the sixth streams in."""
    built = builder(max_tasks=5)

    assert 5 == sum(len(built.add(draft(f"t{i}"))) for i in range(9))


def test_several_faults_come_in_one_message():
    """One repair turn is enough to tell them all; very many are counted."""
    message = fault(*(draft(f"t{i}", f"x{i}") for i in range(9)))

    assert message.startswith("task 't0' depends on 'x0', which does not exist; task 't1'")
    assert message.endswith("; and 4 more")


def test_a_fault_never_quotes_more_than_a_line():
    """A megabyte in an id is not sent back to the planner."""
    long = "x" * 1_000_000

    assert len(fault(draft("a", long))) < 200
    assert len(fault(draft(long), draft(long))) < 500


def test_after_the_first_fault_nothing_more_is_handed_over():
    """Half a plan is never run as if whole."""
    built = builder()
    built.add(draft("t1"))
    built.add(draft("t2", "t2"))

    assert [] == built.add(draft("t3"))
    with pytest.raises(PlanError, match="depends on itself"):
        built.finish()


def test_twins_are_folded_and_their_dependants_rewired():
    """The same prompt with the same inputs is paid once."""
    plan = build(
        draft("t1", prompt="count the files"),
        draft("t2", prompt=" count  the\nfiles "),
        draft("t3", "t2"),
        draft("t4", "t1", "t2"),
    )

    assert ["t1", "t3", "t4"] == ids(plan.tasks)
    assert {"t2": "t1"} == plan.folded
    assert [("t1",)] == [d.agents for d in plan.tasks[1].depends_on]
    assert [("t1",)] == [d.agents for d in plan.tasks[2].depends_on]


@pytest.mark.parametrize(
    "other",
    [
        draft("t2", prompt="Same"),
        draft("t2", "t0", prompt="same"),
        draft("t2", prompt="same", agent="critic"),
        draft("t2", prompt="same", model="large"),
    ],
    ids=["letters", "inputs", "agent", "model"],
)
def test_tasks_that_differ_in_anything_are_no_twins(other):
    """The same words for another model, agent or input are another task."""
    plan = build(draft("t0"), draft("t1", prompt="same"), other, profiles=("critic",))

    assert ["t0", "t1", "t2"] == ids(plan.tasks)


def test_twins_of_twins_fold_too():
    """Folding two tasks makes their dependants equal, and so on."""
    plan = build(
        draft("a", prompt="x"), draft("b", prompt="x"),
        draft("c", "a", prompt="y"), draft("d", "b", prompt="y"),
    )  # fmt: skip

    assert ["a", "c"] == ids(plan.tasks)
    assert {"b": "a", "d": "c"} == plan.folded


def test_a_planner_can_only_name_what_the_user_gave():
    """An invented model or profile is dropped, so that a plan never reaches a provider that nobody chose."""
    made = draft("t1", agent="root", model="openai/gpt-5-pro")
    kept = draft("t2", agent="critic", model="large")
    plan = build(made, kept, profiles=("critic",))

    assert [(None, None), ("critic", "large")] == [(t.profile, t.model) for t in plan.tasks]


def test_in_a_plan_file_an_unknown_name_is_a_fault():
    """What a person wrote is not dropped silently."""
    assert "names agent 'x', which is not declared" in fault(draft("a", agent="x"), strict=True)
    assert "names model 'y', which is no role" in fault(draft("a", model="y"), strict=True)


def test_instant_needs_no_tasks_and_swarm_does():
    """Not splitting is an answer; an empty plan is not."""
    assert () == build(mode="instant").tasks
    assert "no tasks" in fault(mode="swarm")


def test_a_plan_with_tasks_is_a_swarm_whatever_it_is_called():
    """What `swarm plan` writes says what `--plan` does."""
    assert "swarm" == build(draft("a"), draft("b"), mode="instant").mode


def test_the_leaves_are_those_on_which_nothing_depends():
    """They are what the result is made of."""
    tasks = [task("a"), task("b", "a"), task("s[0]"), task("s[1]"), task("j", every("s", 2))]

    assert ["b", "j"] == ids(final_tasks(tasks))


names = st.text("abcdefgh", min_size=1, max_size=2)
drafts = st.builds(
    TaskDraft,
    id=names,
    prompt=st.sampled_from(["x", "y", "z", ""]),
    depends_on=st.lists(names, max_size=3, unique=True).map(tuple),
    agent=st.sampled_from([None, "critic"]),
    model=st.sampled_from([None, "small", "large"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(drafts, max_size=10), st.integers(1, 8))
def test_a_plan_is_whole_and_ordered_or_it_is_refused(made, max_tasks):
    """Whatever a planner writes: what comes out can be scheduled as it stands, and was handed over as it stands."""
    built = builder(max_tasks=max_tasks, profiles=("critic",))
    handed = [t for one in made for t in built.add(one)]
    assert len(handed) <= max_tasks
    try:
        plan = built.finish()
    except PlanError:
        return
    assert handed == list(plan.tasks)
    known = set()
    for t in plan.tasks:
        assert {a for d in t.depends_on for a in d.agents} <= known
        known.add(t.id)
    assert {d.id for d in made} == known | set(plan.folded)
    assert set(plan.folded.values()) <= known


@settings(max_examples=100, deadline=None)
@given(st.lists(drafts, max_size=10))
def test_plan_v1_round_trips(made):
    """What `swarm plan -o` writes, `--plan` reads as the same tasks."""
    try:
        plan = build(*made, profiles=("critic",))
    except PlanError:
        return
    document = document_of(to_document(plan.mode, plan.tasks), strict=True)
    again = build(*document.drafts, mode=document.mode, profiles=("critic",), strict=True)

    assert plan.tasks == again.tasks


@pytest.mark.parametrize(
    "make",
    [
        lambda n: [draft(f"t{i}", f"t{i + 1}") for i in range(n - 1)] + [draft(f"t{n - 1}")],
        lambda n: [draft(f"t{i}", "end") for i in range(n - 1)] + [draft("end")],
        lambda n: [draft(f"t{i}", *(["t0"] if i else [])) for i in range(n)],
    ],
    ids=["a chain backwards", "all wait for the last", "all wait for the first"],
)
def test_thousands_of_tasks_are_checked_in_no_time(make):
    """Forward references are not looked for again and again."""
    few, many = make(1000), make(8000)

    assert 8000 == len(build(*many, max_tasks=8000).tasks)
    of_few = calls(lambda: build(*few, max_tasks=8000))
    of_many = calls(lambda: build(*many, max_tasks=8000))
    assert of_many < 12 * of_few
