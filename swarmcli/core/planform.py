"""The form of plan v1: a decoded JSON document becomes drafts of tasks, or one exact fault. Pure."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from swarmcli.core.plan import PLAN_VERSION, SINGLE_MODES, TASK_ID, TaskDraft
from swarmcli.errors import PlanError
from swarmcli.recipe.values import Json

_DRAFT_KEYS = ("id", "prompt", "depends_on", "agent", "model")
_NEEDS = re.compile(
    "dep(s|end)|prereq|requires|needs|inputs|after|blocked|parent|wait", re.IGNORECASE
)
"""How keys begin under which models name the tasks that come before, other than "depends_on"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDocument:
    """A parsed, unchecked plan v1."""

    mode: str
    drafts: tuple[TaskDraft, ...]
    removed: tuple[str, ...] = ()
    """Ids that a revised plan leaves out."""


def each_key_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, for the `object_pairs_hook` of decoders that must not lose anything.

    Raises:
        PlanError: a key is there twice, of which a decoder keeps the last one only.
    """
    entry = dict(pairs)
    if len(entry) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise PlanError(f"the JSON has the key {twice[:80]!r} twice in one object")
    return entry


DECODER = json.JSONDecoder(strict=False, object_pairs_hook=each_key_once)
"""Takes line breaks inside texts, which weak models do not escape."""


def document_of(value: object, *, strict: bool = False) -> PlanDocument:
    """Check a decoded plan v1 document (or a bare list of its tasks).

    Raises:
        PlanError: a wrong version, mode, shape or type; with `strict` also unknown keys.
    """
    if isinstance(value, list):
        value = {"tasks": cast("list[object]", value)}
    if not isinstance(value, dict):
        raise PlanError("a plan is a JSON object")
    if strict:
        _refuse_unknown(cast("dict[str, object]", value), ("version", "mode", "tasks"), "the plan")
    given = cast("dict[str, object]", value).items()
    document = {key: said for key, said in given if said is not None}
    version = document.get("version", PLAN_VERSION)
    if version != PLAN_VERSION or isinstance(version, bool):
        raise PlanError(
            f"plan version {json.dumps(version)[:80]} is not known; this swarm reads version {PLAN_VERSION}"
        )
    mode = document.get("mode", "swarm")
    if not isinstance(mode, str) or mode not in {"swarm", *SINGLE_MODES}:
        raise PlanError(f"mode {str(mode)[:80]!r} is not one of swarm, instant, thinking, agent")
    tasks = document.get("tasks", [])
    if not isinstance(tasks, list):
        raise PlanError('"tasks" is not a list')
    entries = cast("list[object]", tasks)
    return PlanDocument(
        mode=mode,
        drafts=tuple(draft_of(entry, strict=strict) for entry in entries),
        removed=_names(document.get("remove"), '"remove"'),
    )


def draft_of(value: object, *, strict: bool = False) -> TaskDraft:
    """One entry of `tasks`.

    Raises:
        PlanError: `id` or `prompt` is missing, something has the wrong type, or its inputs have another key.
    """
    if not isinstance(value, dict):
        raise PlanError(f"a task is an object, not {json.dumps(value)[:60]}")
    entry = cast("dict[str, object]", value)
    task_id, prompt = entry.get("id"), entry.get("prompt")
    if isinstance(task_id, int) and not isinstance(task_id, bool) and not strict:
        task_id = str(task_id)
    if not isinstance(task_id, str):
        raise PlanError(f'a task has no "id": {json.dumps(entry)[:80]}')
    if not isinstance(prompt, str):
        raise PlanError(f'task {task_id[:80]!r} has no "prompt"')
    where = f"task {task_id[:80]!r}"
    if strict:
        _refuse_unknown(entry, _DRAFT_KEYS, where)
    _refuse_misplaced_needs(entry, where)
    return TaskDraft(
        id=task_id,
        prompt=prompt,
        depends_on=_names(entry.get("depends_on"), f'"depends_on" of {where}'),
        agent=_optional_text(entry, "agent", task_id),
        model=_optional_text(entry, "model", task_id),
    )


def _refuse_misplaced_needs(entry: Mapping[str, object], where: str) -> None:
    """A task that names others under a key of its own, as "dependencies", would run without what it needs."""
    for key, said in entry.items():
        if "depends_on" not in entry and _NEEDS.match(key) and _names_tasks(said):
            raise PlanError(
                f'{where} has "{key[:80]}": what it needs of other tasks stands in "depends_on"'
            )


def _names_tasks(value: object) -> bool:
    """A list of what could be ids, or a text as `t1, t2`."""
    names = value.split(",") if isinstance(value, str) else value
    return isinstance(names, list) and any(
        TASK_ID.fullmatch(str(name).strip()) for name in cast("list[object]", names)
    )


def _names(value: object, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise PlanError(f"{what} is not a list of task ids")
    names = cast("list[object]", value)
    if not all(isinstance(name, str | int) and not isinstance(name, bool) for name in names):
        raise PlanError(f"{what} holds something that is no task id")
    return tuple(dict.fromkeys(str(name) for name in names))


def _optional_text(entry: Mapping[str, object], key: str, task_id: str) -> str | None:
    value = entry.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise PlanError(f'"{key}" of task {task_id[:80]!r} is not a text')
    return value


def _refuse_unknown(entry: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise PlanError(
            f"{where} has the unknown key {unknown[0][:80]!r} (known: {', '.join(known)})"
        )


_QUESTION = r"^(What|How|Why|When|Who|Where|Which) [a-zA-Z0-9 ,'-]{8,70}\?$"


def tiny_plan_schema(max_tasks: int) -> dict[str, Json]:
    """JSON Schema of a plan by a model that needs a grammar to plan at all: three questions or more, one line each.

    Free prompts make a model of this size repeat itself for ever; questions of bounded length keep it on its topic.
    """
    entries: list[Json] = [
        {
            "type": "object",
            "properties": {
                "id": {"const": f"t{number}"},
                "prompt": {"type": "string", "pattern": _QUESTION},
            },
            "required": ["id", "prompt"],
            "additionalProperties": False,
        }
        for number in range(1, max_tasks + 1)
    ]
    tasks: dict[str, Json] = {
        "type": "array",
        "prefixItems": entries,
        "minItems": min(3, max_tasks),
        "maxItems": max_tasks,
    }
    return {
        "type": "object",
        "properties": {"tasks": tasks},
        "required": ["tasks"],
        "additionalProperties": False,
    }
