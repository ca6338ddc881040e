"""Revising a plan, the pure part: what the planner may know, what it may change, and what comes of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.claims import conflicts_among
from swarmcli.core.plan import PlanBuilder, TaskDraft
from swarmcli.core.planform import PlanDocument, document_of
from swarmcli.core.replan import (
    KEY_CHARS,
    MOST_KEYS,
    clean_key,
    open_to_change,
    revise,
    summary,
    troubles,
)
from swarmcli.core.replies import Claim
from swarmcli.errors import PlanError
from tests.core.tasks import done, failed, skipped, task


def draft(name, *needs, prompt=None):
    return TaskDraft(id=name, prompt=prompt or f"do {name} anew", depends_on=needs)


def revised(tasks, *drafts, remove=(), changeable=None, max_tasks=60):
    """The revision; everything may be changed unless it is said."""
    return revise(
        tasks,
        PlanDocument(mode="swarm", drafts=drafts, removed=tuple(remove)),
        changeable={t.id for t in tasks} if changeable is None else changeable,
        builder=PlanBuilder(max_tasks=max_tasks, profiles=(), models=()),
    )


def test_trouble_is_what_a_planner_can_do_something_about():
    """Failures and doubts, in plan order; not what was only skipped, and not what ended the run."""
    outcomes = [
        done("a"), failed("b", "timeout"), skipped("c"), done("d", status="insufficient"),
        failed("e", "budget"), failed("f", "auth"), failed("g", "uncalled"), failed("h", "uncertain"),
        done("i", status="conflict"),
    ]  # fmt: skip

    assert {"b": "failed (timeout)", "d": "insufficient", "i": "conflict"} == troubles(outcomes)
    assert ["b", "d", "i"] == list(troubles(outcomes))


def test_no_plan_helps_against_a_provider_that_is_down():
    """Every agent failed for its reasons; as soon as one answered, or one failed for reasons of its own, it may."""
    down = [failed("a", "network"), failed("b", "server"), skipped("c")]

    assert {} == troubles(down)
    assert ["a", "b"] == list(troubles([*down, done("d")]))
    assert ["a", "b", "d"] == list(troubles([*down, failed("d", "context_overflow")]))


def test_who_contradicts_another_is_in_trouble():
    """Also when each of them says that all is well; a value that is the same in other words is no trouble."""
    outcomes = [
        done("a", claims=(Claim(key="Price", value="1,200"),)),
        done("b", claims=(Claim(key="price", value="1300"),)),
        done("c", claims=(Claim(key="size", value="1200"),)),
        done("d", claims=(Claim(key="size", value="1,200.00"),)),
    ]

    assert {"a": "conflict", "b": "conflict"} == troubles(outcomes, conflicts_among(outcomes))


def test_the_summary_is_one_object_a_line():
    """Ids, status, dependencies, claim keys and the planner's own prompt; nothing else."""
    outcomes = [
        done("a", "SECRET", claims=(Claim(key="Net price", value="SECRET", source="SECRET"),)),
        failed("b", "schema", "SECRET"),
        skipped("c", "SECRET", task=task("c", "b")),
    ]
    told = summary(outcomes, troubles(outcomes), prompt_chars=100)

    assert [
        {"id": "a", "status": "ok", "claims": ["net_price"], "prompt": "do a"},
        {"id": "b", "status": "failed (schema)", "prompt": "do b"},
        {"id": "c", "status": "skipped", "depends_on": ["b"], "prompt": "do c"},
    ] == [json.loads(line) for line in told.splitlines()]


@given(st.text(), st.text(max_size=300))
def test_no_key_is_more_than_an_identifier(key, value):
    """Letters, digits and underscores, bounded: no sentence, no tag, no line of its own, whatever it holds."""
    cleaned = clean_key(key)

    assert len(cleaned) <= KEY_CHARS
    assert not cleaned or cleaned.isidentifier() or all(c.isalnum() or c == "_" for c in cleaned)
    outcomes = [done("a", claims=(Claim(key=key, value=value),), status="insufficient")]
    assert 1 == len(summary(outcomes, troubles(outcomes), prompt_chars=10).splitlines())


def test_a_flood_of_keys_is_cut():
    """Ten thousand keys of one agent do not fill the planner's window."""
    flood = tuple(Claim(key=f"key number {i}", value=i) for i in range(10_000))
    (line,) = summary([done("a", claims=flood)], {}, prompt_chars=0).splitlines()

    assert MOST_KEYS == len(json.loads(line)["claims"])


def test_trouble_opens_what_builds_on_it_to_change():
    """And nothing else."""
    tasks = [task("a"), task("b"), task("c", "a"), task("d", "c", "b"), task("e", "b")]

    assert {"a", "c", "d"} == open_to_change(tasks, {"a"})


def test_known_tasks_are_the_very_same():
    """What was not changed is not even copied: it may hold more than a plan can say, for example a vote."""
    tasks = [task("a"), task("b", optional=True)]
    revision = revised(tasks, draft("a"))

    assert ["do a anew", "do b"] == [t.prompt for t in revision.tasks]
    assert revision.tasks[1] is tasks[1]
    assert (("a",), ("a",)) == (revision.added, revision.removed)


@pytest.mark.parametrize(
    "drafts",
    [
        (),
        (draft("a", prompt="do  a"),),
        (draft("b", "a", prompt="do b"), draft("a", prompt="do a\n")),
    ],
    ids=["nothing", "one again", "all again"],
)
def test_repeating_the_plan_changes_nothing(drafts):
    """Planners like to answer with everything."""
    assert revised([task("a"), task("b", "a")], *drafts) is None
    assert revised([task("a"), task("b", "a")], *drafts, changeable=()) is None


def test_a_prompt_as_the_summary_cut_it_is_no_change():
    """Long prompts are told short, so a planner can only repeat them short."""
    tasks = [task("a", prompt="word " * 200), task("b")]
    told = json.loads(summary([done("a", task=tasks[0])], {}, prompt_chars=80))["prompt"]

    assert revised(tasks, draft("a", prompt=told), changeable=()) is None
    assert revised(tasks, draft("a", prompt="word"), changeable={"a"}) is not None


def test_a_replaced_task_may_need_a_new_one():
    """The order of the plan is one in which dependencies come first."""
    revision = revised([task("a"), task("b", "a")], draft("a", "n"), draft("n"))

    assert ["n", "a", "b"] == [t.id for t in revision.tasks]
    assert (("n", "a", "b"), ("a", "b")) == (revision.added, revision.removed)


def test_a_task_that_repeats_a_finished_one_is_refused():
    """It would put the finished one out of the plan."""
    with pytest.raises(PlanError, match="task 'a' repeats 'b', which has ended well"):
        revised([task("a"), task("b")], draft("a", prompt="do b"), changeable={"a"})


def test_a_new_task_that_repeats_a_known_one_is_folded():
    """The known one stands for it."""
    tasks = [task("a"), task("b")]

    assert revised(tasks, draft("n", prompt="do a")) is None
    revision = revised(tasks, draft("n", prompt="do a"), draft("m", "n"))
    assert ["a", "b", "m"] == [t.id for t in revision.tasks]
    assert ("a",) == revision.tasks[2].depends_on[0].agents


FAULTS = {
    "ended well": ([draft("a")], [], "task 'a' has ended well"),
    "removes the good": ([], ["a"], "task 'a' has ended well"),
    "removes nobody": ([], ["zz"], "task 'zz' does not exist"),
    "both": ([draft("b")], ["b"], "'b' is both removed and replaced"),
    "a cycle": ([draft("b", "c"), draft("c", "b")], [], "in a circle"),
    "itself": ([draft("n", "n")], [], "depends on itself"),
    "unknown": ([draft("n", "zz")], [], "'zz', which does not exist"),
    "removed below": ([], ["b"], "task 'c' depends on 'b', which does not exist"),
    "twice": ([draft("n"), draft("n")], [], "two tasks have the id 'n'"),
    "a bad id": ([draft("n n")], [], "is not made of"),
    "no prompt": ([draft("n", prompt=" ")], [], "an empty prompt"),
    "too many": ([draft("n"), draft("m")], [], "5 tasks, 4 are allowed"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_with_a_revision_is_named(name):
    """The exact fault, for the warning."""
    drafts, remove, fault = FAULTS[name]
    tasks = [task("a"), task("b"), task("c", "b")]

    with pytest.raises(PlanError, match=fault):
        revised(tasks, *drafts, remove=remove, changeable={"b", "c"}, max_tasks=4)


def test_a_plan_may_become_smaller():
    """Everything that is not needed may go, where one new task makes up for it."""
    tasks = [task("a"), task("b"), task("c", "b")]
    revision = revised(tasks, draft("n"), remove=["b", "c"], changeable={"b", "c"})

    assert (["a", "n"], ("n",), ("b", "c")) == (
        [t.id for t in revision.tasks], revision.added, revision.removed)  # fmt: skip
    with pytest.raises(PlanError, match="no tasks"):
        revised(tasks[:1], remove=["a"])


@pytest.mark.parametrize("drafts", [(), (draft("n", prompt="do a"),)], ids=["nothing", "a twin"])
def test_a_failure_is_not_taken_out_of_the_plan(drafts):
    """With nothing in its place the run would end as if it had been whole."""
    tasks = [task("a"), task("b"), task("c", "b")]

    with pytest.raises(PlanError, match="nothing would make up for 'b'"):
        revised(tasks, *drafts, remove=["b", "c"], changeable={"b", "c"})


@st.composite
def situations(draw):
    """A plan, its troubled tasks, and whatever a planner may answer to that."""
    size = draw(st.integers(1, 8))
    ids = [f"t{i}" for i in range(size)]
    tasks = [task(n, *draw(st.sets(st.sampled_from(ids[:i]), max_size=2) if i else st.just(set())))
             for i, n in enumerate(ids)]  # fmt: skip
    troubled = draw(st.sets(st.sampled_from(ids), min_size=1))
    names = st.sampled_from([*ids, "n1", "n2", "n3"])
    drafts = draw(st.lists(st.builds(
        lambda n, needs, same: draft(n, *needs, prompt=f"do {n}" if same else None),
        names, st.sets(names, max_size=2), st.booleans()), max_size=4))  # fmt: skip
    return tasks, troubled, drafts, draw(st.lists(names, max_size=2))


@given(situations())
def test_whatever_the_planner_answers_the_plan_stays_a_plan(situation):
    """Either a fault, or a plan: unique ids, dependencies first, within its size; what ended well is still in it."""
    tasks, troubled, drafts, remove = situation
    changeable = open_to_change(tasks, troubled)
    try:
        revision = revised(tasks, *drafts, remove=remove, changeable=changeable, max_tasks=10)
    except PlanError:
        return
    if revision is None:
        return
    ids = [t.id for t in revision.tasks]
    assert len(ids) == len(set(ids)) <= 10
    for place, one in enumerate(revision.tasks):
        assert all(ids.index(agent) < place for d in one.depends_on for agent in d.agents)
    kept = set(ids) - set(revision.added)
    assert {t.id for t in tasks} - changeable <= kept
    assert set(revision.removed) == {t.id for t in tasks} - kept
    by_id = {t.id: t for t in tasks}
    assert all(t is by_id[t.id] for t in revision.tasks if t.id in kept)
    assert all(
        agent in kept
        for t in revision.tasks
        if t.id in kept
        for d in t.depends_on
        for agent in d.agents
    )


def test_remove_is_read_from_the_answer_and_refused_in_a_plan_file():
    """It means something in a revision only."""
    text = {"tasks": [], "remove": ["t1", 2]}

    assert ("t1", "2") == document_of(text).removed
    with pytest.raises(PlanError, match="unknown key 'remove'"):
        document_of(text, strict=True)
    with pytest.raises(PlanError, match='"remove" is not a list'):
        document_of({"tasks": [], "remove": "t1"})
