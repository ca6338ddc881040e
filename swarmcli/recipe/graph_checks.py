"""Checks of the fixed graph: ids, dependencies, fan-outs, profiles."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from swarmcli.errors import Problem
from swarmcli.recipe.document import Path, place_of
from swarmcli.recipe.outline import Named, Outline, TaskOutline
from swarmcli.recipe.template_checks import RESERVED_NAMES
from swarmcli.recipe.wording import did_you_mean

_MAX_CIRCLES = 10


def check_graph(outline: Outline) -> Iterator[Problem]:
    """Every problem of `tasks`."""
    yield from _check_ids(outline)
    for task in outline.tasks:
        yield from _check_needs(outline, task)
        yield from _check_fan_out(outline, task)
        agent = task.entry.get("agent")
        if isinstance(agent, str) and agent and agent not in outline.agents:
            yield outline.document.problem(
                f"{task.called} names the agent '{agent}', which does not exist",
                (*task.path, "agent"),
                hint=did_you_mean(agent, outline.agents, "agents") or "add it under 'agents'",
            )
    yield from _check_circles(outline)


def _check_ids(outline: Outline) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    for task in outline.tasks:
        if task.id is None:
            continue
        here: Path = (*task.path, "id")
        if task.id in first:
            line = place_of(outline.document.text, outline.document.offset(first[task.id])).line
            message = f"two tasks have the id '{task.id}' (first on line {line})"
            yield outline.document.problem(message, here, hint="ids are unique")
        first.setdefault(task.id, here)


def _check_needs(outline: Outline, task: TaskOutline) -> Iterator[Problem]:
    seen: set[str] = set()
    for need in task.needs:
        if need.text == task.id:
            message = f"{task.called} waits for itself"
            yield outline.document.problem(message, need.path, hint="remove it")
        elif need.text not in outline.by_id:
            yield outline.document.problem(
                f"{task.called} needs '{need.text}', which does not exist",
                need.path,
                hint=did_you_mean(need.text, [i for i in outline.by_id if i != task.id], "tasks"),
            )
    for need in task.depends_on:
        if need.text in seen:
            message = f"{task.called} depends on '{need.text}' twice"
            yield outline.document.problem(message, need.path, hint="remove one of them")
        seen.add(need.text)


def _check_fan_out(outline: Outline, task: TaskOutline) -> Iterator[Problem]:
    problem = outline.document.problem
    path: Path = (*task.path, "for_each")
    if task.for_each is not None and ("items" in task.for_each) == ("from" in task.for_each):
        message = f"'for_each' of {task.called} needs either 'items' or 'from'"
        yield problem(message, path, at_key=True)
    if task.source is not None:
        yield from _check_source(outline, task, task.source)
    if task.item is None:
        return
    if task.item in RESERVED_NAMES:
        message = f"'{task.item}' has a meaning of its own in templates"
        yield problem(message, (*path, "as"), hint="choose another name")
    elif task.item in outline.params:
        message = f"the item of {task.called} hides the parameter '{task.item}'"
        yield problem(message, (*path, "as"), at_key="as" not in (task.for_each or {}),
                      hint="choose another name with 'as'")  # fmt: skip


def _check_source(outline: Outline, task: TaskOutline, source: Named) -> Iterator[Problem]:
    other = outline.by_id.get(source.text)
    if other is not None and other is not task and other.for_each is None:
        yield outline.document.problem(
            f"{task.called} takes its items from '{source.text}', which is no fan-out",
            source.path,
            hint=f"give '{source.text}' a for_each, or write depends_on: [{source.text}]",
        )


def _check_circles(outline: Outline) -> Iterator[Problem]:
    tasks = outline.by_id
    graph = {
        name: [n.text for n in task.needs if n.text in tasks and n.text != name]
        for name, task in tasks.items()
    }
    for _ in range(_MAX_CIRCLES):
        try:
            TopologicalSorter(graph).prepare()
            return
        except CycleError as error:
            circle = _from_first(list(reversed(error.args[1][1:])), list(graph))
        shown = " -> ".join([*circle, circle[0]])
        task = tasks[circle[0]]
        need = next(n for n in task.needs if n.text == circle[1])
        yield outline.document.problem(
            f"tasks wait for each other in a circle: {shown}", need.path, hint="remove one of these"
        )
        graph[circle[0]].remove(circle[1])


def _from_first(circle: list[str], order: list[str]) -> list[str]:
    """The circle, begun at the task that stands first in the file."""
    start = circle.index(min(circle, key=order.index))
    return circle[start:] + circle[:start]
