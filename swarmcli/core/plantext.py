"""Finding the plan in a planner's whole answer: one plan with all that was written of it, or one exact fault. Pure."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from swarmcli.core.jsontext import Found, end_of_object, json_values
from swarmcli.core.plan import SINGLE_MODES, is_blank
from swarmcli.core.planform import DECODER, PlanDocument, document_of
from swarmcli.core.planstream import MAX_PLAN_CHARS, TASKS, after_thoughts, too_long
from swarmcli.errors import PlanError

_OBJECT = re.compile(r'\{\s*"')
_A_MODE, _TASKS_IN_IT = 1, 2
"""What an answer has to say, in ascending order; 0: the form of a plan and nothing in it."""
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"|\'(?:[^\'\\]|\\.)*+\'', re.DOTALL)
_LEFT_OUT = re.compile(r"\.\.\.|\u2026|//|/\*|#")
_QUOTES = "[\"'\u201c\u201d\u2018\u2019]"
_BEGUN = re.compile(rf"{_QUOTES}tasks{_QUOTES}\s*:\s*\[\s*\{{")
_KEPT_KEYS = ("prompt", "depends_on")
_KEY = re.compile(rf"{_QUOTES}(?:{'|'.join(_KEPT_KEYS)}){_QUOTES}\s*:")
_ESCAPE = re.compile(r"""\\(?:u([0-9a-fA-F]{4})|[nrtbf"'\\/])""")
_WORD = re.compile(r"\w+")
_LITERALS = frozenset({"none", "null", "true", "false"})

Decode = Callable[[str], object]


def parse_plan(text: str, *, repair: Decode | None = None) -> PlanDocument:
    """The plan in `text`; thoughts, prose and code fences around it are ignored.

    Args:
        text: a planner's whole answer.
        repair: a lenient JSON decoder for complete but sloppy JSON; truncated text never reaches it, because half a
            plan must not be run as if it were whole.

    Raises:
        PlanError: no JSON, truncated JSON, several plans, or a document that is no plan v1. The message is the exact
            fault.
    """
    if len(text) > MAX_PLAN_CHARS:
        raise too_long()
    try:
        return _parse(after_thoughts(text), repair)
    except RecursionError:
        raise PlanError("the JSON is nested too deeply") from None


def _parse(text: str, repair: Decode | None) -> PlanDocument:
    found = list(json_values(text, DECODER))
    plans = [(plan, one.end) for one in found for plan in _plans_in(one.value)]
    if plans:
        best, end = max(plans, key=lambda plan: _substance(plan[0]))
        # A broken draft before the plan is one that its planner gave up; behind it stands what is meant instead.
        if not _has_begun(text, found, end if _substance(best) == _TASKS_IN_IT else 0):
            return document_of(_only([plan for plan, _ in plans], found))
    start = _plan_start(text)
    if start is None:
        raise PlanError('the answer holds no JSON object with "tasks"')
    end = end_of_object(text, start)
    if end is None:
        raise PlanError("the JSON is truncated: it ends before its closing brace")
    return _read(text[start:end], text[end:], repair)


def _read(whole: str, rest: str, repair: Decode | None) -> PlanDocument:
    """The plan in one JSON object, behind which stands `rest`."""
    try:
        value: object = DECODER.decode(whole)
    except ValueError as error:
        lenient = repair(whole) if repair is not None else None
        for plan in _plans_in(lenient):
            if _all_is_in(plan, lenient, whole, rest):
                return document_of(plan)
        raise PlanError(f"the JSON is malformed: {error}") from None
    plans = list(_plans_in(value))
    if not plans:
        raise PlanError(f'the JSON holds no "tasks" list: {json.dumps(value)[:80]}')
    if _BEGUN.search(rest):
        raise PlanError("the JSON of the plan is not whole: more tasks begin behind its end")
    return document_of(_only(plans))


def _only(plans: Sequence[object], found: Sequence[Found] = ()) -> object:
    """The plan that an answer holds: the first of those that say most.

    Raises:
        PlanError: others have other tasks, or a task is among the values that were `found` beside it, so that each of
            them may be a part.
    """
    said = sorted(plans, key=_substance, reverse=True)
    others = [plan for plan in said if _has_tasks(plan) and _entries(plan) != _entries(said[0])]
    if others:
        raise PlanError(f"the answer holds {1 + len(others)} plans: all tasks belong into one list")
    for task in _tasks([one.value for one in found]):
        if "id" in task and _has_tasks([task]):
            raise PlanError(f"a task stands outside of the list: {json.dumps(task)[:80]}")
    return said[0]


def _has_begun(text: str, found: Sequence[Found], start: int) -> bool:
    """Whether, from `start` on, a plan begins outside of what could be read."""
    position = start
    for one in found:
        if one.end <= start:
            continue
        if _BEGUN.search(text, position, one.start):
            return True
        position = one.end
    return _BEGUN.search(text, position) is not None


def _all_is_in(plan: object, value: object, sloppy: str, rest: str) -> bool:
    """Whether a lenient reader, which passes over what it cannot make sense of, has found all that was written.

    Args:
        plan: the plan that it found.
        value: all that it found.
        sloppy: what it read.
        rest: what follows: where quotes are missing, a bracket within a prompt seems to end the plan.

    Raises:
        PlanError: `..., {"id": "t30"` or `// and so on`: not all tasks were written.
    """
    if dots := _LEFT_OUT.search(_QUOTED.sub("", sloppy)):
        raise PlanError(
            f"the JSON holds {dots[0]!r} between its values: every task must be in it, and no comment"
        )
    kept = sum(key in _KEPT_KEYS for task in _tasks(plan) for key in task)
    written = len(_KEY.findall(sloppy)) + len(_KEY.findall(rest))
    lost = _words(sloppy) - _words(json.dumps(value, ensure_ascii=False))
    return written <= kept and not lost


def _words(text: str) -> Counter[str]:
    """The words of some JSON, keys and texts alike: what is left of it whichever way it is quoted."""
    plain = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)) if escape[1] else " ", text)
    return Counter(word for word in _WORD.findall(plain) if word.casefold() not in _LITERALS)


def _plan_start(text: str) -> int | None:
    """Where the broken JSON begins: the outermost object around the first `"tasks": [`."""
    tasks = TASKS.search(text)
    limit = tasks.start() if tasks is not None else len(text)
    position = 0
    while match := _OBJECT.search(text, position):
        end = end_of_object(text, match.start())
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
    elif depth > 0:
        for part in _parts(value):
            if isinstance(part, dict):
                yield from _plans_in(cast("dict[str, object]", part), depth - 1)


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


def _substance(plan: object) -> int:
    """Which of several plans in one answer counts, the most first: planners show the form, and what they decline."""
    if _has_tasks(plan):
        return _TASKS_IN_IT
    return _A_MODE if _declines(plan) and not _entries(plan) else 0


def _looks_like_plan(value: object) -> bool:
    if isinstance(value, dict):
        tasks = cast("dict[str, object]", value).get("tasks")
        return isinstance(tasks, list) or _declines(cast("object", value))
    entries = _entries(value)
    return bool(entries) and all(isinstance(task, dict) and "prompt" in task for task in entries)


def _entries(plan: object) -> list[object]:
    """What stands in the list of tasks."""
    entries = cast("dict[str, object]", plan).get("tasks") if isinstance(plan, dict) else plan
    return cast("list[object]", entries) if isinstance(entries, list) else []


def _tasks(plan: object) -> list[dict[str, object]]:
    """The objects in the list of tasks."""
    return [cast("dict[str, object]", task) for task in _entries(plan) if isinstance(task, dict)]


def _has_tasks(plan: object) -> bool:
    """Somebody is told to do something, unlike where the form of a plan is shown."""
    prompts = (task.get("prompt") for task in _tasks(plan))
    return any(isinstance(prompt, str) and not is_blank(prompt) for prompt in prompts)


def _declines(plan: object) -> bool:
    """It names a mode of one call."""
    mode = cast("dict[str, object]", plan).get("mode") if isinstance(plan, dict) else None
    return isinstance(mode, str) and mode in SINGLE_MODES
