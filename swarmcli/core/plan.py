"""Plans: the agents of a run and what each of them waits for.

Rule: whatever the source (a fixed graph, a planner's stream, a plan file), a `Task` that leaves this module is
checked: its id is legal and unique, its dependencies exist and come without a cycle.
"""

import graphlib
import heapq
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from swarmcli.errors import PlanError
from swarmcli.recipe.values import Json, Vote

TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
PLAN_VERSION = 1
SINGLE_MODES = frozenset({"instant", "thinking", "agent"})
"""Modes of one call: with one of these a plan without tasks is whole, its planner declines to split."""
_SHOWN_FAULTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """One named input of a task.

    It is resolved when all its agents have ended, and satisfied when at least `min_done` of them succeeded: so one
    failed item of a fan-out of 300 reaches its dependants as a failure instead of stopping them.
    """

    name: str
    """What the prompt calls it: `{{ inputs.<name> }}`."""
    agents: tuple[str, ...]
    fan_out: bool = False
    """True when the input is a list of outputs, one per item."""
    min_done: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The work of one agent."""

    id: str
    """The agent's id: the task's, or `scan[3]` for item 3 of the fan-out `scan`."""
    prompt: str
    group: str
    """The task's id in the recipe or plan."""
    index: int | None = None
    """Which item of the fan-out, from 0."""
    template: bool = False
    """True for prompts that a person wrote: rendered with the recipe's variables. Model text never is."""
    depends_on: tuple[Dependency, ...] = ()
    profile: str | None = None
    model: str | None = None
    """A role or a LiteLLM id; None: the profile's, else the default role."""
    optional: bool = False
    output_schema: Mapping[str, Json] | None = field(default=None, hash=False)
    item_name: str | None = None
    item: Json = field(default=None, hash=False)
    vote: Vote | None = None
    """Who answers instead of one model."""
    distrusted: bool = False
    """The votes on it agreed, but are not trusted any more: its `vote.escalate` answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDraft:
    """A task as a planner or a plan file states it, not checked yet."""

    id: str
    prompt: str
    depends_on: tuple[str, ...] = ()
    agent: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole, checked plan in a stable order."""

    mode: str = "swarm"
    tasks: tuple[Task, ...] = ()
    folded: Mapping[str, str] = field(default_factory=dict[str, str])
    """Duplicate task id -> the id that stands for it."""


class PlanBuilder:
    """Checks drafts as they arrive and says which tasks may be scheduled already.

    A draft is accepted once all its dependencies are accepted; forward references wait. The first fault stops the
    hand-over of further tasks (half a plan is never run as if whole), but drafts are still read, so that `finish`
    can name the faults in one `PlanError`.

    Args:
        max_tasks: most tasks that a plan may hold.
        profiles: agent profiles that tasks may name; an unknown one is dropped (or a fault, when `strict`).
        models: roles that tasks may name; likewise. A planner can never choose a model that the user did not.
        strict: True for files written by people, where a wrong name is a fault and not noise.
    """

    def __init__(
        self,
        *,
        max_tasks: int,
        profiles: Collection[str],
        models: Collection[str],
        strict: bool = False,
    ) -> None:
        self._max_tasks = max_tasks
        self._profiles = profiles
        self._models = models
        self._strict = strict
        self._drafts: dict[str, TaskDraft] = {}
        self._accepted: dict[str, Task] = {}
        self._order: dict[str, int] = {}
        self._missing: dict[str, int] = {}
        """Draft -> how many of its dependencies are not accepted yet."""
        self._waiting_for: dict[str, list[str]] = {}
        self._stand_in: dict[str, str] = {}
        self._by_content: dict[tuple[object, ...], str] = {}
        self._faults: list[str] = []

    def add(self, draft: TaskDraft) -> list[Task]:
        """Take one draft; return the tasks that are now fully known, in order."""
        self._check(draft)
        if draft.id in self._drafts:
            return []
        self._order[draft.id] = len(self._drafts)
        self._drafts[draft.id] = draft
        if self._faults or len(self._drafts) > self._max_tasks:
            return []
        return self._accept_what_is_known(draft)

    def finish(self, mode: str = "swarm") -> Plan:
        """The whole plan.

        Raises:
            PlanError: no tasks, too many, duplicate ids, unknown or own dependencies, or a cycle; the message names
                the first faults and is meant for the planner's repair turn as well as for a person.
        """
        faults = list(dict.fromkeys(self._faults))
        if not self._drafts and mode not in SINGLE_MODES:
            faults.append("the plan has no tasks")
        for draft in self._drafts.values():
            unknown = [d for d in draft.depends_on if d not in self._drafts]
            faults += [
                f"task {draft.id[:80]!r} depends on {d[:80]!r}, which does not exist"
                for d in unknown
            ]
        if not faults:
            faults += self._cycle()
        if len(self._drafts) > self._max_tasks:
            faults.append(f"the plan has {len(self._drafts)} tasks, {self._max_tasks} are allowed")
        if faults:
            raise PlanError(_listed(faults))
        if self._accepted:
            mode = "swarm"  # whatever the planner calls it: these tasks are run
        return Plan(mode=mode, tasks=tuple(self._accepted.values()), folded=dict(self._stand_in))

    def _check(self, draft: TaskDraft) -> None:
        name = repr(draft.id[:80])
        if not TASK_ID.fullmatch(draft.id):
            self._faults.append(f"task id {name} is not made of 1-64 letters, digits, '_' and '-'")
        if draft.id in self._drafts:
            self._faults.append(f"two tasks have the id {name}")
        if draft.id in draft.depends_on:
            self._faults.append(f"task {name} depends on itself")
        if is_blank(draft.prompt):
            self._faults.append(f"task {name} has an empty prompt")
        if self._strict and draft.agent is not None and draft.agent not in self._profiles:
            self._faults.append(
                f"task {name} names agent {draft.agent[:80]!r}, which is not declared"
            )
        if self._strict and draft.model is not None and draft.model not in self._models:
            self._faults.append(
                f"task {name} names model {draft.model[:80]!r}, which is no role of this run"
            )

    def _accept_what_is_known(self, draft: TaskDraft) -> list[Task]:
        """Accept `draft`, and what waited for it, in the order of the plan; or let it wait for forward references."""
        missing = [d for d in draft.depends_on if not self._is_known(d)]
        self._missing[draft.id] = len(missing)
        for needed in missing:
            self._waiting_for.setdefault(needed, []).append(draft.id)
        accepted: list[Task] = []
        known = [(self._order[draft.id], draft.id)] if not missing else []
        while known:
            _, task_id = heapq.heappop(known)
            accepted += self._accept(self._drafts[task_id])
            for waiter in self._waiting_for.pop(task_id, []):
                self._missing[waiter] -= 1
                if self._missing[waiter] == 0:
                    heapq.heappush(known, (self._order[waiter], waiter))
        return accepted

    def _is_known(self, task_id: str) -> bool:
        return task_id in self._accepted or task_id in self._stand_in

    def _accept(self, draft: TaskDraft) -> list[Task]:
        needs = tuple(dict.fromkeys(self._stand_in.get(d, d) for d in draft.depends_on))
        task = Task(
            id=draft.id,
            prompt=draft.prompt.strip(),
            group=draft.id,
            depends_on=tuple(Dependency(name=d, agents=(d,)) for d in needs),
            profile=draft.agent if draft.agent in self._profiles else None,
            model=draft.model if draft.model in self._models else None,
        )
        content = (" ".join(task.prompt.split()), frozenset(needs), task.profile, task.model)
        twin = self._by_content.setdefault(content, task.id)
        if twin != task.id:
            self._stand_in[task.id] = twin
            return []
        self._accepted[task.id] = task
        return [task]

    def _cycle(self) -> list[str]:
        graph = {draft.id: set(draft.depends_on) for draft in self._drafts.values()}
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            cycle: list[str] = list(reversed(error.args[1]))
            return [f"tasks depend on each other in a circle: {_chain(cycle)}"]
        return []


def is_blank(prompt: str) -> bool:
    """Nothing to do: no text, or the dots that stand for a text where the form of a plan is shown."""
    return not prompt.strip(" \t\r\n.\u2026")


def _listed(faults: list[str]) -> str:
    more = len(faults) - _SHOWN_FAULTS
    shown = "; ".join(faults[:_SHOWN_FAULTS])
    return f"{shown}; and {more} more" if more > 0 else shown


def _chain(ids: list[str]) -> str:
    return " -> ".join(ids if len(ids) <= 10 else [*ids[:5], "...", *ids[-4:]])


def to_document(mode: str, tasks: Iterable[Task]) -> dict[str, Json]:
    """Plan v1 as JSON: what `swarm plan -o` writes and `--plan` reads."""
    entries: list[Json] = []
    for task in tasks:
        entry: dict[str, Json] = {"id": task.id, "prompt": task.prompt}
        entry["depends_on"] = [d.name for d in task.depends_on]
        if task.profile is not None:
            entry["agent"] = task.profile
        if task.model is not None:
            entry["model"] = task.model
        entries.append(entry)
    return {"version": PLAN_VERSION, "mode": mode, "tasks": entries}


def final_tasks(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """The leaf agents, whose outputs are merged: those on which nothing depends, in plan order."""
    everything = tuple(tasks)
    needed = {agent for task in everything for dep in task.depends_on for agent in dep.agents}
    return tuple(task for task in everything if task.id not in needed)
