"""Fixed graphs: from the recipe's `tasks:` to one `Task` per agent."""

from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter

from swarmcli.core.plan import Dependency, Task
from swarmcli.errors import UsageError
from swarmcli.recipe.values import ForEach, Json, TaskSpec

ItemsOf = Callable[[str, ForEach], tuple[Json, ...]]
"""(task id, its `for_each`) -> the items, for lists and expressions; the caller knows the variables."""


def expand(specs: tuple[TaskSpec, ...], items_of: ItemsOf) -> tuple[Task, ...]:
    """One task per agent, in an order in which every task comes after those that it depends on.

    A fan-out `scan` over n items becomes `scan[0]` ... `scan[n-1]`. With `for_each: {from: scan}`, agent i depends on
    `scan[i]` alone, so that each item flows through its own pipeline without a barrier.

    Raises:
        UsageError: the graph has a cycle, or a `from:` names something that is no fan-out.
    """
    by_id = {spec.id: spec for spec in specs}
    items: dict[str, tuple[Json, ...] | None] = {}
    expanded: dict[str, tuple[Task, ...]] = {}
    for task_id in _in_order(by_id):
        spec = by_id[task_id]
        items[task_id] = _items(spec, items, items_of)
        expanded[task_id] = _agents(spec, items[task_id], expanded, by_id)
    return tuple(task for spec_id in _in_order(by_id) for task in expanded[spec_id])


def _in_order(by_id: Mapping[str, TaskSpec]) -> list[str]:
    """Topological, and otherwise in file order."""
    graph = {spec.id: _needs(spec) for spec in by_id.values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise UsageError(
            f"tasks depend on each other in a circle: {' -> '.join(reversed(error.args[1]))}"
        ) from None
    ordered: dict[str, None] = {}
    stack = list(reversed(list(by_id)))
    while stack:
        task_id = stack[-1]
        missing = [need for need in graph[task_id] if need not in ordered]
        if missing:
            stack += reversed(missing)
        else:
            ordered.setdefault(stack.pop())
    return list(ordered)


def _needs(spec: TaskSpec) -> list[str]:
    source = spec.for_each.source if spec.for_each else None
    return [*spec.depends_on, *([source] if source else [])]


def _items(
    spec: TaskSpec, items: Mapping[str, tuple[Json, ...] | None], items_of: ItemsOf
) -> tuple[Json, ...] | None:
    if spec.for_each is None:
        return None
    if spec.for_each.source is None:
        return items_of(spec.id, spec.for_each)
    source = items[spec.for_each.source]
    if source is None:
        raise UsageError(
            f"task {spec.id!r}: for_each.from names {spec.for_each.source!r}, which is no fan-out"
        )
    return source


def _agents(
    spec: TaskSpec,
    items: tuple[Json, ...] | None,
    expanded: Mapping[str, tuple[Task, ...]],
    by_id: Mapping[str, TaskSpec],
) -> tuple[Task, ...]:
    shared = tuple(_barrier(by_id[name], expanded[name]) for name in spec.depends_on)
    if items is None:
        return (_task(spec, spec.id, None, None, shared),)
    source = spec.for_each.source if spec.for_each else None
    tasks: list[Task] = []
    for index, item in enumerate(items):
        own = shared
        if source is not None:
            before = expanded[source][index].id
            optional = by_id[source].optional
            own = (
                *shared,
                Dependency(name=source, agents=(before,), min_done=0 if optional else 1),
            )
        tasks.append(_task(spec, f"{spec.id}[{index}]", index, item, own))
    return tuple(tasks)


def _barrier(spec: TaskSpec, agents: tuple[Task, ...]) -> Dependency:
    """`depends_on`: all agents of the named task."""
    return Dependency(
        name=spec.id,
        agents=tuple(task.id for task in agents),
        fan_out=spec.for_each is not None,
        min_done=0 if spec.optional or not agents else 1,
    )


def _task(
    spec: TaskSpec, agent: str, index: int | None, item: Json, needs: tuple[Dependency, ...]
) -> Task:
    return Task(
        id=agent,
        prompt=spec.prompt,
        group=spec.id,
        index=index,
        template=True,
        depends_on=needs,
        profile=spec.agent,
        model=spec.model,
        optional=spec.optional,
        output_schema=spec.output_schema,
        item_name=spec.for_each.name if spec.for_each else None,
        item=item,
        vote=spec.vote,
    )
