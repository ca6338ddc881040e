"""Fixed graphs: from `tasks:` to one task per agent."""

import pytest

from swarmcli.core.fanout import expand
from swarmcli.core.scheduler import Scheduler, Start
from swarmcli.errors import UsageError
from swarmcli.recipe.values import ForEach, TaskSpec


def spec(name, *needs, items=None, source=None, expression=None, **more):
    for_each = None
    if items is not None or source is not None or expression is not None:
        for_each = ForEach(items=items, source=source, expression=expression)
    return TaskSpec(id=name, prompt=f"do {name}", depends_on=needs, for_each=for_each, **more)


def agents(*specs, items=()):
    """The expanded tasks; `items` is what every expression yields."""
    return expand(specs, lambda _, for_each: items if for_each.items is None else for_each.items)


def needs(tasks):
    return {t.id: [d.agents for d in t.depends_on] for t in tasks}


def test_a_list_becomes_one_agent_per_item_in_order():
    """Equal items are items too; each keeps its own value, unrendered."""
    tasks = agents(spec("scan", items=("b", "a", "b", {"x": [1]}, "{{ evil }}")))

    assert [f"scan[{i}]" for i in range(5)] == [t.id for t in tasks]
    assert ["b", "a", "b", {"x": [1]}, "{{ evil }}"] == [t.item for t in tasks]
    assert {("scan", "item")} == {(t.group, t.item_name) for t in tasks}
    assert list(range(5)) == [t.index for t in tasks]


def test_the_items_of_an_expression_come_from_the_caller():
    """`items: "{{ files }}"` is evaluated where the variables are known."""
    tasks = agents(spec("scan", expression="{{ files }}"), items=("a.py", "b.py"))

    assert [("scan[0]", "a.py"), ("scan[1]", "b.py")] == [(t.id, t.item) for t in tasks]


def test_a_pipeline_has_one_line_per_item_and_keeps_the_original_item():
    """`from: scan`: check[i] waits for scan[i] alone, and its item is still the file."""
    tasks = agents(
        spec("scan", items=("x", "y")), spec("check", source="scan"), spec("fix", source="check")
    )

    assert {
        "scan[0]": [], "scan[1]": [],
        "check[0]": [("scan[0]",)], "check[1]": [("scan[1]",)],
        "fix[0]": [("check[0]",)], "fix[1]": [("check[1]",)],
    } == needs(tasks)  # fmt: skip
    assert ["x", "y"] * 3 == [t.item for t in tasks]


def test_depends_on_a_fan_out_waits_for_all_of_it_and_needs_one():
    """A barrier holds until every item has ended; one result is enough to go on."""
    judge = agents(spec("scan", items=(1, 2, 3)), spec("judge", "scan"))[-1]

    need = judge.depends_on[0]
    assert ("scan", ("scan[0]", "scan[1]", "scan[2]")) == (need.name, need.agents)
    assert (True, 1) == (need.fan_out, need.min_done)


def test_a_pipeline_with_a_barrier_has_both():
    """`from: scan` and `depends_on: [rules]`: its own item, and the shared input."""
    tasks = agents(spec("rules"), spec("scan", items=(1, 2)), spec("check", "rules", source="scan"))

    assert [("rules",), ("scan[1]",)] == needs(tasks)["check[1]"]


def test_optional_tasks_bind_nobody():
    """Who depends on an optional task starts also when all of it failed."""
    tasks = agents(
        spec("extra", items=(1, 2), optional=True),
        spec("after", "extra"),
        spec("line", source="extra"),
    )

    assert {"after": [0], "line[0]": [0], "line[1]": [0]} == {
        t.id: [d.min_done for d in t.depends_on] for t in tasks if t.depends_on
    }
    assert [True, True, False, False, False] == [t.optional for t in tasks]


def test_an_empty_fan_out_has_no_agents_and_stops_nobody():
    """No file matched: the pipeline is empty too, and the summary runs at once."""
    tasks = agents(
        spec("scan", items=()), spec("check", source="scan"), spec("summary", "check", "scan")
    )

    assert ["summary"] == [t.id for t in tasks]
    assert [Start("summary")] == Scheduler(parallel=1).added(tasks)


def test_tasks_come_after_their_needs_and_otherwise_in_file_order():
    """The file may name a task before the one that it needs."""
    tasks = agents(spec("end", "b", "a"), spec("a"), spec("b", "c"), spec("c"))

    assert ["c", "b", "a", "end"] == [t.id for t in tasks]


def test_what_the_recipe_says_of_a_task_reaches_each_agent():
    """Profile, model, schema and the item's name are those of the file."""
    schema = {"type": "object"}
    one = TaskSpec(
        id="scan",
        prompt="Review {{ file }}",
        for_each=ForEach(items=("a",), name="file"),
        agent="critic",
        model="large",
        output_schema=schema,
    )
    task = agents(one)[0]

    assert ("critic", "large", schema) == (task.profile, task.model, task.output_schema)
    assert ("Review {{ file }}", True, "file") == (task.prompt, task.template, task.item_name)


@pytest.mark.parametrize(
    "specs",
    [
        (spec("a", "b"), spec("b", "a")),
        (spec("a", "a"),),
        (spec("a", source="b"), spec("b", "a", items=(1,))),
    ],
    ids=["two", "itself", "through for_each"],
)
def test_a_circle_is_refused_before_anything_starts(specs):
    """The message walks the circle."""
    with pytest.raises(UsageError, match=r"circle: (\w -> )+\w$"):
        agents(*specs)


def test_from_needs_a_fan_out():
    """One task has no items to go through."""
    with pytest.raises(
        UsageError, match=r"'check': for_each\.from names 'scan', which is no fan-out"
    ):
        agents(spec("scan"), spec("check", source="scan"))


def test_thousands_of_items_expand_quickly():
    """30 pipelines are nothing; 5,000 are little."""
    tasks = agents(
        spec("scan", items=tuple(range(5000))), spec("check", source="scan"), spec("end", "check")
    )

    assert 10_001 == len(tasks)
    assert 5000 == len(Scheduler(parallel=10_000).added(tasks))
