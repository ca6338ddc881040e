"""Revising a plan that did not work out: what its planner may know of it, and what it may change. Pure.

Rule: a planner never reads what agents wrote. It sees a typed summary of its own plan (ids, its own prompts, how each
task ended, error kinds, and the keys of claims, cleaned), so that no text from outside can steer the plan (the
separation of control and data of CaMeL, arXiv 2503.18813). What has ended well stays as it is.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from swarmcli.core.claims import Conflict
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import PlanBuilder, Task, TaskDraft
from swarmcli.core.planform import PlanDocument
from swarmcli.errors import NO_ACCESS_KINDS, RETRYABLE_KINDS, PlanError
from swarmcli.recipe.values import Json

MOST_KEYS = 12
"""Claim keys that are told of one task."""
KEY_CHARS = 40
_MOST_CONFLICTS = 30
_SETTLED_FOR_GOOD = frozenset({"budget", "cache_miss", "uncalled", "uncertain", *NO_ACCESS_KINDS})
"""Failures that no other task can make up for, or after which nobody may try again unasked."""
_CUT_CHARS = 60
"""From so many characters on, the beginning of a prompt is taken for that prompt."""
_NO_KEY = re.compile(r"\W+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A changed plan."""

    tasks: tuple[Task, ...]
    """The whole plan in a stable order; what was not changed is the very same task."""
    added: tuple[str, ...]
    """Tasks that are to run: new ones, replaced ones, and those that build on a replaced one."""
    removed: tuple[str, ...]
    """Tasks whose earlier outcomes no longer count, whether or not their id is used again."""


def troubles(outcomes: Sequence[Outcome], conflicts: Sequence[Conflict] = ()) -> dict[str, str]:
    """The tasks for which a plan is worth another look -> why, in plan order.

    Args:
        outcomes: how every task of the plan ended.
        conflicts: what agents contradict each other about.
    """
    if _is_outage(outcomes):
        return {}
    disputed = {agent for conflict in conflicts for agent in conflict.agents}
    found: dict[str, str] = {}
    for outcome in outcomes:
        failure = outcome.failure
        if outcome.state == "failed" and failure and failure.kind not in _SETTLED_FOR_GOOD:
            found[outcome.agent] = f"failed ({failure.kind})"
        elif outcome.state == "done" and outcome.status != "ok":
            found[outcome.agent] = outcome.status
        elif outcome.state == "done" and outcome.agent in disputed:
            found[outcome.agent] = "conflict"
    return found


def _is_outage(outcomes: Sequence[Outcome]) -> bool:
    """Nothing was answered, for reasons that lie with the provider: another plan would end the same way."""
    kinds = {o.failure.kind for o in outcomes if o.state == "failed" and o.failure}
    return bool(kinds) and kinds <= RETRYABLE_KINDS and all(o.state != "done" for o in outcomes)


def summary(
    outcomes: Sequence[Outcome],
    troubled: Mapping[str, str],
    conflicts: Sequence[Conflict] = (),
    *,
    prompt_chars: int,
) -> str:
    """How each task of a plan ended, one JSON object a line: all that a planner is told.

    Args:
        outcomes: in plan order.
        troubled: see `troubles`.
        conflicts: told by their keys and agents, without the values.
        prompt_chars: most characters of each task's prompt, which the planner itself has written.
    """
    lines = [_line(outcome, troubled.get(outcome.agent), prompt_chars) for outcome in outcomes]
    for conflict in conflicts[:_MOST_CONFLICTS]:
        agents: list[Json] = [*conflict.agents[:MOST_KEYS]]
        lines.append({"different_values_for": clean_key(conflict.key), "ids": agents})
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)


def _line(outcome: Outcome, trouble: str | None, prompt_chars: int) -> dict[str, Json]:
    task = outcome.task
    line: dict[str, Json] = {"id": task.id, "status": trouble or _state(outcome)}
    if task.depends_on:
        line["depends_on"] = [d.name for d in task.depends_on]
    keys = list(dict.fromkeys(filter(None, (clean_key(c.key) for c in outcome.claims))))
    if keys:
        line["claims"] = [*keys[:MOST_KEYS]]
    if prompt_chars:
        line["prompt"] = " ".join(task.prompt.split())[:prompt_chars]
    return line


def _state(outcome: Outcome) -> str:
    if outcome.state == "done":
        return "ok"
    kind = outcome.failure.kind if outcome.state == "failed" and outcome.failure else ""
    return f"{outcome.state} ({kind})" if kind else outcome.state


def clean_key(key: str) -> str:
    """A claim's key as an identifier: `Net price (EUR)` is `net_price_eur`. Nothing else of it is shown."""
    return _NO_KEY.sub("_", key.casefold()).strip("_")[:KEY_CHARS].rstrip("_")


def open_to_change(tasks: Sequence[Task], troubled: Collection[str]) -> frozenset[str]:
    """The troubled tasks, and all that builds on them. `tasks` come with dependencies first."""
    changeable: set[str] = set()
    for task in tasks:
        if task.id in troubled or any(
            agent in changeable for d in task.depends_on for agent in d.agents
        ):
            changeable.add(task.id)
    return frozenset(changeable)


def revise(
    tasks: Sequence[Task],
    answer: PlanDocument,
    *,
    changeable: Collection[str],
    builder: PlanBuilder,
) -> Revision | None:
    """The plan with a planner's changes: tasks with a new id are added, those with a known one replace it.

    A task that is repeated word for word is not changed. A removed or replaced task takes its outcome with it, and
    whatever builds on it runs again.

    Args:
        tasks: the plan so far, dependencies first.
        answer: what the planner wants.
        changeable: see `open_to_change`.
        builder: a fresh one, with the run's bounds.

    Returns:
        None when nothing would change.

    Raises:
        PlanError: it touches a task that ended well, only takes tasks away (a failure must not vanish), or the plan
            would be none: a cycle, an unknown dependency, an id twice, too many tasks.
    """
    known = {task.id: task for task in tasks}
    wanted = _changes(known, answer)
    gone = set(answer.removed)
    _check(known, wanted, gone, changeable)
    if not wanted and not gone:
        return None
    for task in tasks:
        if task.id not in gone:
            builder.add(wanted.pop(task.id, None) or _draft(task))
    for draft in wanted.values():
        builder.add(draft)
    plan = builder.finish()
    for twin, original in plan.folded.items():
        if twin in known and twin not in changeable:
            raise PlanError(f"task {original[:80]!r} repeats {twin!r}, which has ended well")
    whole = tuple(_same_or_new(task, known.get(task.id)) for task in plan.tasks)
    return _difference(tasks, whole)


def _changes(known: Mapping[str, Task], answer: PlanDocument) -> dict[str, TaskDraft]:
    """What differs from the plan, by id.

    Raises:
        PlanError: an id twice.
    """
    wanted: dict[str, TaskDraft] = {}
    for draft in answer.drafts:
        if draft.id in wanted:
            raise PlanError(f"two tasks have the id {draft.id[:80]!r}")
        wanted[draft.id] = draft
    return {
        name: draft
        for name, draft in wanted.items()
        if name not in known or not _repeats(draft, known[name])
    }


def _check(
    known: Mapping[str, Task],
    wanted: Mapping[str, TaskDraft],
    gone: Collection[str],
    changeable: Collection[str],
) -> None:
    for name in (*wanted, *gone):
        if name in known and name not in changeable:
            raise PlanError(f"task {name!r} has ended well and stays as it is")
    for name in gone:
        if name not in known:
            raise PlanError(f"task {name[:80]!r} does not exist and cannot be removed")
        if name in wanted:
            raise PlanError(f"task {name!r} is both removed and replaced")


def _draft(task: Task) -> TaskDraft:
    return TaskDraft(
        id=task.id,
        prompt=task.prompt,
        depends_on=tuple(d.name for d in task.depends_on),
        agent=task.profile,
        model=task.model,
    )


def _repeats(draft: TaskDraft, task: Task) -> bool:
    """The same task again; its prompt perhaps as short as the summary has told it."""
    said, known = " ".join(draft.prompt.split()), " ".join(task.prompt.split())
    return (
        (said == known or (len(said) >= _CUT_CHARS and known.startswith(said)))
        and set(draft.depends_on) == {d.name for d in task.depends_on}
        and (draft.agent, draft.model) in {(task.profile, task.model), (None, None)}
    )


def _same_or_new(task: Task, known: Task | None) -> Task:
    """The known task itself where nothing of it is new: it may hold more than a plan can say."""
    return known if known is not None and _draft(task) == _draft(known) else task


def _difference(before: Sequence[Task], after: tuple[Task, ...]) -> Revision | None:
    kept = {task.id: task for task in before}
    again: set[str] = set()
    for task in after:
        if kept.get(task.id) is not task or any(
            agent in again for d in task.depends_on for agent in d.agents
        ):
            again.add(task.id)
    staying = {task.id for task in after} - again
    removed = tuple(task.id for task in before if task.id not in staying)
    added = tuple(task.id for task in after if task.id in again)
    if removed and not added:
        raise PlanError(f"nothing would make up for {removed[0]!r}, which it only removes")
    return Revision(tasks=after, added=added, removed=removed) if added else None
