"""A recipe's names as its plain data gives them, before anything is known to be valid. Pure.

Whatever has the wrong type is passed over: the schema reports it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from swarmcli.recipe.document import Document, Path
from swarmcli.recipe.values import Json

_OWNERS = {
    "agents": "agent",
    "params": "parameter",
    "models": "model role",
    "rate": "rate",
}


@dataclass(frozen=True, slots=True)
class Named:
    """A text and where it stands."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutline:
    """What one entry of `tasks` names."""

    path: Path
    entry: Mapping[str, Json]
    id: str | None
    depends_on: tuple[Named, ...]
    for_each: Mapping[str, Json] | None
    source: Named | None
    """`for_each.from`."""
    item: str | None
    """What its prompt calls the item; None without a fan-out."""

    @property
    def called(self) -> str:
        """`task 'scan'`, or its number when it has no id."""
        return f"task '{self.id}'" if self.id else f"task {int(self.path[1]) + 1}"

    @property
    def needs(self) -> tuple[Named, ...]:
        """Everything that it waits for."""
        return (*self.depends_on, self.source) if self.source else self.depends_on


class Outline:
    """The names of a recipe."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.data = document.data
        self.params = mapping(self.data.get("params"))
        self.models = mapping(self.data.get("models"))
        self.agents = mapping(self.data.get("agents"))
        self.servers = mapping(mapping(self.data.get("tools")).get("mcp"))

    @cached_property
    def tasks(self) -> tuple[TaskOutline, ...]:
        """The fixed graph's tasks, in file order."""
        entries = enumerate(listing(self.data.get("tasks")))
        return tuple(_task(("tasks", i), entry) for i, entry in entries if isinstance(entry, dict))

    @cached_property
    def by_id(self) -> Mapping[str, TaskOutline]:
        """The tasks that have an id, in file order; of two with the same one, the first."""
        tasks: dict[str, TaskOutline] = {}
        for task in self.tasks:
            if task.id is not None:
                tasks.setdefault(task.id, task)
        return tasks

    def label(self, path: Path) -> str:
        """What a message calls the value at `path`: `'prompt' of task 'scan'`."""
        owner, rest = "", path
        match path:
            case ("tasks", int() as index, *_):
                known = {task.path[1]: task.called for task in self.tasks}
                owner, rest = known.get(index, f"task {index + 1}"), path[2:]
            case ("tools", "mcp", name, *_):
                owner, rest = f"server '{name}'", path[3:]
            case (section, name, *_) if section in _OWNERS:
                owner, rest = f"{_OWNERS[str(section)]} '{name}'", path[2:]
            case _:
                pass
        if not rest:
            return owner or "the recipe"
        return f"'{dotted(rest)}' of {owner}" if owner else f"'{dotted(rest)}'"

    def texts(self, *path: str) -> Iterator[Named]:
        """The text at `path`, or the texts in the list there."""
        value: Json = self.data
        for step in path:
            value = mapping(value).get(step)
        yield from texts_in(value, path)


def texts_in(value: Json, path: Path) -> Iterator[Named]:
    """A text itself, or those in a list."""
    if isinstance(value, str):
        yield Named(path, value)
    for index, item in enumerate(listing(value)):
        if isinstance(item, str):
            yield Named((*path, index), item)


def mapping(value: Json) -> dict[str, Json]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Json) -> list[Json]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Json) -> str | None:
    """The value if it is text with something in it."""
    return value if isinstance(value, str) and value.strip() else None


def dotted(path: Path) -> str:
    """`for_each.items[0]`."""
    shown = ""
    for step in path:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return shown


def _task(path: Path, entry: dict[str, Json]) -> TaskOutline:
    for_each = entry.get("for_each")
    fan_out = for_each if isinstance(for_each, dict) else None
    source = text(fan_out.get("from")) if fan_out else None
    item = text(fan_out.get("as", "item")) if fan_out is not None else None
    needs = entry.get("depends_on")
    return TaskOutline(
        path=path,
        entry=entry,
        id=text(entry.get("id")),
        depends_on=tuple(
            texts_in(needs if isinstance(needs, list) else None, (*path, "depends_on"))
        ),
        for_each=fan_out,
        source=Named((*path, "for_each", "from"), source) if source else None,
        item=item,
    )
