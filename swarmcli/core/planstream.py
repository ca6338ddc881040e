"""Reading a plan out of a model's text, whole or while it streams.

The stream reader hands over each task object the moment its closing brace has arrived, so that the first agents
start while the planner still writes (LLMCompiler, arXiv 2312.04511, streams its plan for the same reason).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from swarmcli.core.plan import PLAN_VERSION, SINGLE_MODES, TaskDraft, is_blank
from swarmcli.errors import PlanError
from swarmcli.recipe.values import Json

MAX_PLAN_CHARS = 2_000_000
_MOST_VALUES = 1000
_LONGEST_HEAD = 100
"""Characters of `"tasks": [` with spaces; a longer one is only read at the end."""
_TASKS = re.compile(r'"tasks"\s*:\s*\[')
_OPEN = re.compile(r"[{\[]")
_OBJECT = re.compile(r'\{\s*"')
_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_DRAFT_KEYS = ("id", "prompt", "depends_on", "agent", "model")
_BEGUN = re.compile(_TASKS.pattern + r"\s*\{")
_A_MODE, _TASKS_IN_IT = 1, 2
"""What an answer has to say, in ascending order; 0: the form of a plan and nothing in it."""
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"|\'(?:[^\'\\]|\\.)*+\'', re.DOTALL)
_LEFT_OUT = re.compile(r"\.\.\.|\u2026|//|/\*|#")
_PROMPT_KEY = re.compile(r"""["'\u201c\u201d\u2018\u2019]prompt["'\u201c\u201d\u2018\u2019]\s*:""")
_DECODER = json.JSONDecoder(strict=False)
"""Takes line breaks inside texts, which weak models do not escape."""

Decode = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDocument:
    """A parsed, unchecked plan v1."""

    mode: str
    drafts: tuple[TaskDraft, ...]
    removed: tuple[str, ...] = ()
    """Ids that a revised plan leaves out."""


class _Balance:
    """Finds where an object ends, piece by piece: every character is looked at once."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def end(self, text: str, position: int) -> int | None:
        """Read `text` from `position`; the place behind the closing brace, None while it has not come."""
        if self._escaped and position < len(text):
            self._escaped, position = False, position + 1
        while mark := (_IN_STRING if self._quoted else _OUTSIDE).search(text, position):
            position = mark.end()
            if mark[0] == "\\":
                self._escaped = position == len(text)
                position += 1
            elif mark[0] == '"':
                self._quoted = not self._quoted
            elif mark[0] in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    return position
        return None


class PlanStream:
    """Feed text, get drafts. Malformed objects are left to `parse_plan`, which reads the whole text at the end."""

    def __init__(self) -> None:
        self._length = 0
        self._state: Literal["before", "between", "inside", "after"] = "before"
        self._tail = ""
        """The end of the text before the array, in which its head may have begun."""
        self._object: list[str] = []
        self._balance = _Balance()
        self._found = False

    def feed(self, piece: str) -> list[TaskDraft]:
        """Take the next piece; return the task objects that it closed.

        Raises:
            PlanError: the text is longer than any plan may be.
        """
        self._length += len(piece)
        if self._length > MAX_PLAN_CHARS:
            raise _too_long()
        drafts: list[TaskDraft] = []
        position = 0
        while position < len(piece) and self._state != "after":
            match self._state:
                case "before":
                    position = self._seek(piece, position)
                case "between":
                    position = self._next_object(piece, position)
                case "inside":
                    position = self._read_object(piece, position, drafts)
        return drafts

    def _seek(self, piece: str, position: int) -> int:
        """To behind the array's opening bracket, or to the end of the piece."""
        text = self._tail + piece[position:]
        match = _TASKS.search(text)
        if match is None:
            self._tail = text[-_LONGEST_HEAD:]
            return len(piece)
        self._state = "between"
        position += match.end() - len(self._tail)
        self._tail = ""
        return position

    def _next_object(self, piece: str, position: int) -> int:
        """To the next `{` of the array. Where something else stands, the array has ended, or it was only prose."""
        while position < len(piece) and piece[position] in " \t\r\n,":
            position += 1
        if position < len(piece):
            if piece[position] == "{":
                self._state, self._object, self._balance = "inside", [], _Balance()
            else:
                self._state = "after" if self._found else "before"
        return position

    def _read_object(self, piece: str, position: int, drafts: list[TaskDraft]) -> int:
        end = self._balance.end(piece, position)
        self._object.append(piece[position:end])
        if end is None:
            return len(piece)
        try:
            drafts.append(draft_of(_DECODER.decode("".join(self._object))))
        except (ValueError, RecursionError, PlanError):
            self._state = "after"
        else:
            self._state, self._found = "between", True
        return end


def _end_of_object(text: str, start: int) -> int | None:
    return _Balance().end(text, start)


def _too_long() -> PlanError:
    return PlanError(f"the plan is longer than {MAX_PLAN_CHARS:,} characters")


def parse_plan(text: str, *, repair: Decode | None = None) -> PlanDocument:
    """The plan in `text`; prose and code fences around it are ignored.

    Args:
        text: a planner's whole answer, or a plan file.
        repair: a lenient JSON decoder for complete but sloppy JSON; truncated text never reaches it, because half a
            plan must not be run as if it were whole.

    Raises:
        PlanError: no JSON, truncated JSON, or a document that is no plan v1. The message is the exact fault.
    """
    if len(text) > MAX_PLAN_CHARS:
        raise _too_long()
    try:
        return _parse(text, repair)
    except RecursionError:
        raise PlanError("the JSON is nested too deeply") from None


def _parse(text: str, repair: Decode | None) -> PlanDocument:
    plans = [plan for value in json_values(text) for plan in _plans_in(value)]
    best = max(plans, key=_substance, default=None)
    if best is not None and (_substance(best) == _TASKS_IN_IT or not _BEGUN.search(text)):
        return document_of(best)
    start = _plan_start(text)
    if start is None:
        raise PlanError('the answer holds no JSON object with "tasks"')
    end = _end_of_object(text, start)
    if end is None:
        raise PlanError("the JSON is truncated: it ends before its closing brace")
    try:
        value: object = _DECODER.decode(text[start:end])
    except ValueError as error:
        for plan in _plans_in(repair(text[start:end]) if repair is not None else None):
            document = document_of(plan)
            if _every_task_is_in(document, text[start:end], text[end:]):
                return document
        raise PlanError(f"the JSON is malformed: {error}") from None
    for plan in _plans_in(value):
        return document_of(plan)
    raise PlanError('the JSON holds no "tasks"')


def _every_task_is_in(document: PlanDocument, sloppy: str, rest: str) -> bool:
    """Whether a lenient reader, which passes over what it cannot make sense of, has found all that was written.

    Args:
        document: what it found.
        sloppy: what it read.
        rest: what follows: where quotes are missing, a bracket within a prompt seems to end the plan.

    Raises:
        PlanError: `..., {"id": "t30"` or `// and so on`: not all tasks were written.
    """
    if dots := _LEFT_OUT.search(_QUOTED.sub("", sloppy)):
        raise PlanError(f"the JSON holds {dots[0]!r} between its values: every task must be in it")
    written = len(_PROMPT_KEY.findall(sloppy)) + len(_PROMPT_KEY.findall(rest))
    return written <= len(document.drafts)


def json_values(text: str) -> Iterator[object]:
    """The JSON values of `text`, outermost ones only: a list inside a broken or truncated plan is no plan.

    Raises:
        RecursionError: one is nested too deeply.
    """
    position = 0
    for _ in range(_MOST_VALUES):
        match = _OPEN.search(text, position)
        if match is None:
            return
        try:
            value, position = _DECODER.raw_decode(text, match.start())
        except json.JSONDecodeError as error:
            # Whatever was read up to the fault belongs to the broken value. This also keeps the search linear.
            position = max(match.start() + 1, error.pos)
            continue
        except ValueError:  # a number with thousands of digits
            position = match.start() + 1
            continue
        yield value


def _plan_start(text: str) -> int | None:
    """Where the broken JSON begins: the outermost object around the first `"tasks": [`."""
    tasks = _TASKS.search(text)
    limit = tasks.start() if tasks is not None else len(text)
    position = 0
    while match := _OBJECT.search(text, position):
        end = _end_of_object(text, match.start())
        if end is None or end > limit:
            return match.start()
        position = end
    if tasks is not None:
        return tasks.start()
    brace = text.find("{")
    return brace if brace >= 0 else None


def _plans_in(value: object, depth: int = 2) -> Iterator[object]:
    """`value` where it is a plan, else the plans that it wraps: `{"plan": {"tasks": [...]}}`."""
    if _looks_like_plan(value):
        yield value
    elif depth > 0 and isinstance(value, dict):
        for part in cast("dict[str, object]", value).values():
            if isinstance(part, dict):
                yield from _plans_in(cast("dict[str, object]", part), depth - 1)


def _substance(plan: object) -> int:
    """Which of several plans in one answer counts, the most first: planners show the form, and what they decline."""
    entries = cast("dict[str, object]", plan).get("tasks") if isinstance(plan, dict) else plan
    if not isinstance(entries, list) or not entries:
        return _A_MODE if _declines(cast("object", plan)) else 0
    prompts = [
        cast("dict[str, object]", entry).get("prompt")
        for entry in cast("list[object]", entries)
        if isinstance(entry, dict)
    ]
    blank = all(isinstance(prompt, str) and is_blank(prompt) for prompt in prompts)
    return 0 if prompts and blank else _TASKS_IN_IT


def _looks_like_plan(value: object) -> bool:
    if isinstance(value, dict):
        tasks = cast("dict[str, object]", value).get("tasks")
        return isinstance(tasks, list) or _declines(cast("object", value))
    if isinstance(value, list) and value:
        return all(
            isinstance(entry, dict) and "prompt" in entry for entry in cast("list[object]", value)
        )
    return False


def _declines(plan: object) -> bool:
    """It names a mode of one call."""
    mode = cast("dict[str, object]", plan).get("mode") if isinstance(plan, dict) else None
    return isinstance(mode, str) and mode in SINGLE_MODES


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
            f"plan version {json.dumps(version)[:80]} is not known; this swarm reads version {PLAN_VERSION}"
        )
    mode = document.get("mode", "swarm")
    if not isinstance(mode, str) or mode not in {"swarm", *SINGLE_MODES}:
        raise PlanError(f"mode {str(mode)[:80]!r} is not one of swarm, instant, thinking, agent")
    tasks = document.get("tasks", [])
    if not isinstance(tasks, list):
        raise PlanError('"tasks" is not a list')
    if strict:
        _refuse_unknown(document, ("version", "mode", "tasks"), "the plan")
    entries = cast("list[object]", tasks)
    return PlanDocument(
        mode=mode,
        drafts=tuple(draft_of(entry, strict=strict) for entry in entries),
        removed=_names(document.get("remove"), '"remove"'),
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
        _refuse_unknown(entry, _DRAFT_KEYS, f"task {task_id[:80]!r}")
    return TaskDraft(
        id=task_id,
        prompt=prompt,
        depends_on=_names(entry.get("depends_on"), f'"depends_on" of task {task_id[:80]!r}'),
        agent=_optional_text(entry, "agent", task_id),
        model=_optional_text(entry, "model", task_id),
    )


def _names(value: object, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise PlanError(f"{what} is not a list")
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
