"""Reading a plan out of a model's text, whole or while it streams.

The stream reader hands over each task object the moment its closing brace has arrived, so that the first agents
start while the planner still writes (LLMCompiler, arXiv 2312.04511, streams its plan for the same reason).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from swarmcli.core.plan import PLAN_VERSION, TaskDraft
from swarmcli.errors import PlanError
from swarmcli.recipe.values import Json

MAX_PLAN_CHARS = 2_000_000
_TASKS = re.compile(r'"tasks"\s*:\s*\[')
_DRAFT_KEYS = ("id", "prompt", "depends_on", "agent", "model")

Decode = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDocument:
    """A parsed, unchecked plan v1."""

    mode: str
    drafts: tuple[TaskDraft, ...]


class PlanStream:
    """Feed text, get drafts. Malformed objects are left to `parse_plan`, which reads the whole text at the end."""

    def __init__(self) -> None:
        self._text = ""
        self._position = 0
        self._inside = False
        self._ended = False

    @property
    def text(self) -> str:
        """Everything fed so far."""
        return self._text

    def feed(self, piece: str) -> list[TaskDraft]:
        """Take the next piece; return the task objects that it closed.

        Raises:
            PlanError: the text is longer than any plan may be.
        """
        self._text += piece
        if len(self._text) > MAX_PLAN_CHARS:
            raise PlanError(f"the plan is longer than {MAX_PLAN_CHARS:,} characters")
        if not self._inside and not self._ended:
            match = _TASKS.search(self._text, max(0, self._position - 40))
            if match is None:
                self._position = len(self._text)
                return []
            self._inside, self._position = True, match.end()
        return list(self._closed_objects()) if self._inside else []

    def _closed_objects(self) -> Iterator[TaskDraft]:
        while True:
            start = self._next_object()
            if start is None:
                return
            end = _end_of_object(self._text, start)
            if end is None:
                self._position = start
                return
            self._position = end
            try:
                draft = draft_of(json.loads(self._text[start:end]))
            except (ValueError, PlanError):
                self._inside, self._ended = False, True
                return
            yield draft

    def _next_object(self) -> int | None:
        """Where the next `{` of the array stands; None while it has not arrived or when the array is closed."""
        for position in range(self._position, len(self._text)):
            char = self._text[position]
            if char == "{":
                return position
            if char not in " \t\r\n,":
                self._inside, self._ended = False, True
                return None
        return None


def _end_of_object(text: str, start: int) -> int | None:
    depth, quoted, escaped = 0, False, False
    for position in range(start, len(text)):
        char = text[position]
        if quoted:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return position + 1
    return None


def parse_plan(text: str, *, repair: Decode | None = None) -> PlanDocument:
    """The plan in `text`; prose and code fences around it are ignored.

    Args:
        text: a planner's whole answer, or a plan file.
        repair: a lenient JSON decoder for complete but sloppy JSON; truncated text never reaches it, because half a
            plan must not be run as if it were whole.

    Raises:
        PlanError: no JSON, truncated JSON, or a document that is no plan v1. The message is the exact fault.
    """
    found = [value for value in _json_values(text) if _looks_like_plan(value)]
    if found:
        return document_of(found[0])
    start = _plan_start(text)
    if start is None:
        raise PlanError('the answer holds no JSON object with "tasks"')
    end = _end_of_object(text, start)
    if end is None:
        raise PlanError("the JSON is truncated: it ends before its closing brace")
    try:
        json.loads(text[start:end])
    except RecursionError:
        raise PlanError("the JSON is nested too deeply") from None
    except ValueError as error:
        value = repair(text[start:end]) if repair is not None else None
        if _looks_like_plan(value):
            return document_of(value)
        raise PlanError(f"the JSON is malformed: {error}") from None
    raise PlanError('the JSON holds no "tasks"')


def _json_values(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(1000):
        match = re.compile(r"[{\[]").search(text, position)
        if match is None:
            return
        try:
            value, position = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            position = match.start() + 1
            continue
        yield value


def _plan_start(text: str) -> int | None:
    match = _TASKS.search(text)
    if match is not None:
        before = text.rfind("{", 0, match.start())
        return before if before >= 0 else match.start()
    brace = text.find("{")
    return brace if brace >= 0 else None


def _looks_like_plan(value: object) -> bool:
    if isinstance(value, dict):
        keys = cast("dict[str, object]", value)
        return isinstance(keys.get("tasks"), list) or keys.get("mode") == "instant"
    if isinstance(value, list) and value:
        return all(
            isinstance(entry, dict) and "prompt" in entry for entry in cast("list[object]", value)
        )
    return False


def document_of(value: object, *, strict: bool = False) -> PlanDocument:
    """Check a decoded plan v1 document (or a bare list of its tasks).

    Raises:
        PlanError: a wrong version, mode, shape or type; with `strict` also unknown keys.
    """
    if isinstance(value, list):
        value = {"tasks": cast("list[object]", value)}
    if not isinstance(value, dict):
        raise PlanError("a plan is a JSON object")
    document = cast("dict[str, object]", value)
    version = document.get("version", PLAN_VERSION)
    if version != PLAN_VERSION or isinstance(version, bool):
        raise PlanError(
            f"plan version {version!r} is not known; this swarm reads version {PLAN_VERSION}"
        )
    mode = document.get("mode", "swarm")
    if mode not in {"swarm", "instant", "thinking", "agent"}:
        raise PlanError(f"mode {mode!r} is not one of swarm, instant, thinking, agent")
    tasks = document.get("tasks", [])
    if not isinstance(tasks, list):
        raise PlanError('"tasks" is not a list')
    if strict:
        _refuse_unknown(document, ("version", "mode", "tasks"), "the plan")
    entries = cast("list[object]", tasks)
    return PlanDocument(
        mode=str(mode), drafts=tuple(draft_of(entry, strict=strict) for entry in entries)
    )


def draft_of(value: object, *, strict: bool = False) -> TaskDraft:
    """One entry of `tasks`.

    Raises:
        PlanError: `id` or `prompt` is missing, or something has the wrong type.
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
    if strict:
        _refuse_unknown(entry, _DRAFT_KEYS, f"task {task_id!r}")
    return TaskDraft(
        id=task_id,
        prompt=prompt,
        depends_on=_names(entry.get("depends_on"), task_id),
        agent=_optional_text(entry, "agent", task_id),
        model=_optional_text(entry, "model", task_id),
    )


def _names(value: object, task_id: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise PlanError(f'"depends_on" of task {task_id!r} is not a list')
    names = cast("list[object]", value)
    if not all(isinstance(name, str | int) and not isinstance(name, bool) for name in names):
        raise PlanError(f'"depends_on" of task {task_id!r} holds something that is no task id')
    return tuple(dict.fromkeys(str(name) for name in names))


def _optional_text(entry: Mapping[str, object], key: str, task_id: str) -> str | None:
    value = entry.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise PlanError(f'"{key}" of task {task_id!r} is not a text')
    return value


def _refuse_unknown(entry: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise PlanError(f"{where} has the unknown key {unknown[0]!r} (known: {', '.join(known)})")


def plan_schema(max_tasks: int) -> dict[str, Json]:
    """JSON Schema of the answer that a planner must give, for providers that constrain their output."""
    text: dict[str, Json] = {"type": "string"}
    ids: dict[str, Json] = {"type": "array", "items": {"type": "string"}}
    task: dict[str, Json] = {
        "type": "object",
        "properties": {"id": text, "prompt": text, "depends_on": ids},
        "required": ["id", "prompt"],
    }
    tasks: dict[str, Json] = {"type": "array", "items": task, "minItems": 1, "maxItems": max_tasks}
    return {"type": "object", "properties": {"tasks": tasks}, "required": ["tasks"]}
