"""The form of plan v1: what stands in its JSON, and the exact fault of what does not."""

import pytest

from swarmcli.core.planform import document_of, tiny_plan_schema
from swarmcli.errors import PlanError
from tests.core.plans import fault


def tasks_of(*entries):
    return document_of({"tasks": [{"prompt": "x", **entry} for entry in entries]})


@pytest.mark.parametrize(
    "extra",
    [
        {"dependencies": ["t1"]},
        {"deps": "t1, t3"},
        {"dependsOn": ["t1"]},
        {"depends-on": [1]},
        {"prerequisites": ["t1"]},
        {"inputs": ["t1"]},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_inputs_under_another_key_are_not_lost(extra):
    """The task would run without what it needs; the planner is told where that belongs."""
    (key,) = extra
    with pytest.raises(PlanError) as caught:
        tasks_of({"id": "t1"}, {"id": "t2", **extra})

    assert (
        f'task \'t2\' has "{key}": what it needs of other tasks stands in "depends_on"'
        == caught.value.message
    )


@pytest.mark.parametrize(
    "extra",
    [
        {"title": "t1", "priority": 1, "tools": ["t1"]},
        {"inputs": "the text of the job", "dependencies": [], "needs_review": True, "deps": None},
        {"depends_on": ["t1"], "dependencies": ["t1"], "dependency_note": "t1"},
    ],
    ids=["other keys", "nothing named", "beside depends_on"],
)
def test_keys_that_lose_nothing_are_passed_over(extra):
    """Planners add titles, notes and priorities."""
    drafts = tasks_of({"id": "t1"}, {"id": "t2", **extra}).drafts

    assert tuple(extra.get("depends_on", ())) == drafts[1].depends_on


@pytest.mark.parametrize(
    "text",
    [
        '{"tasks": [{"id": "t1", "prompt": "a"}], "tasks": [{"id": "t2", "prompt": "b"}]}',
        '{"tasks": [{"id": "t1", "prompt": "a", "prompt": "b"}]}',
    ],
    ids=["tasks", "prompt"],
)
def test_a_key_that_is_there_twice_is_a_fault(text, request):
    """Of two lists of tasks, or two prompts, JSON readers keep the last one only."""
    assert f"the JSON has the key {request.node.callspec.id!r} twice in one object" == fault(text)


def test_what_is_null_is_not_there():
    """Some models write every key that they know of."""
    plan = document_of(
        {"version": None, "mode": None, "tasks": [{"id": "a", "prompt": "x", "agent": None}]}
    )

    assert ("swarm", "a", None) == (plan.mode, plan.drafts[0].id, plan.drafts[0].agent)
    assert "instant" == document_of({"mode": "instant", "tasks": None}).mode


def test_a_plan_file_is_read_strictly():
    """A typo in a file that a person wrote is an error that names the key."""
    good = {"version": 1, "mode": "swarm", "tasks": [{"id": "a", "prompt": "x", "agent": None}]}
    assert "a" == document_of(good, strict=True).drafts[0].id

    with pytest.raises(PlanError, match="the plan has the unknown key 'taks'"):
        document_of({**good, "taks": []}, strict=True)
    with pytest.raises(PlanError, match="task 'a' has the unknown key 'dependson'"):
        document_of({"tasks": [{"id": "a", "prompt": "x", "dependson": []}]}, strict=True)
    with pytest.raises(PlanError, match='has no "id"'):
        document_of({"tasks": [{"id": 1, "prompt": "x"}]}, strict=True)
    with pytest.raises(PlanError, match='"tasks" is not a list'):
        document_of({"tasks": {}}, strict=True)
    with pytest.raises(PlanError, match="a plan is a JSON object"):
        document_of("tasks", strict=True)


def test_the_schema_for_constrained_planners_admits_plans_and_bounds_them():
    """The grammar of the embedded model can only write what the reader accepts."""
    import jsonschema

    schema = tiny_plan_schema(4)
    questions = [f"What is the part {number} of it?" for number in range(5)]
    tasks = [{"id": f"t{n}", "prompt": q} for n, q in enumerate(questions, 1)]

    jsonschema.validate({"tasks": tasks[:3]}, schema)
    assert 4 == len(document_of({"tasks": tasks[:4]}).drafts)
    for bad in ([], tasks[:2], tasks, [{"id": "t1", "prompt": "Go " * 90}] * 3):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"tasks": bad}, schema)
