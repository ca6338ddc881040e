"""The schema's errors in the recipe's own words: what is wrong, what was found, what to write instead."""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

from swarmcli.errors import Problem
from swarmcli.recipe.document import Path
from swarmcli.recipe.outline import Outline
from swarmcli.recipe.schema import ENV_PATTERN, ID_PATTERN, NAME_PATTERN, REFUSED
from swarmcli.recipe.values import Json
from swarmcli.recipe.wording import closest, found
from swarmcli.recipe.yaml_source import plain_value

_WANTED: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_UNIONS: Mapping[str, str] = {"items": "a list or one expression", "hedge": "off or a mapping"}
_BOUNDS: Mapping[str, str] = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "string_too_long": "at most {max_length} characters long",
    "too_short": "a list of at least {min_length}",
}
_PATTERNS: Mapping[str, str] = {
    ID_PATTERN: "1 to 64 letters, digits, '_' and '-'",
    NAME_PATTERN: "letters, digits and '_', beginning with a letter",
    ENV_PATTERN: "the name of an environment variable",
}
_MAIN_KEYS: Mapping[str, str] = {
    "cache": "mode",
    "merge": "strategy",
    "retry": "attempts",
    "output": "file",
    "for_each": "items",
}
"""Blocks of which people write the one value that they mean, as in `merge: concat`."""
_OFF_WORDS = frozenset({"no", "none", "never", "false", "disabled"})


class _Wanted(NamedTuple):
    """What should stand there (None: only the schema's own words say it), and how to write it."""

    what: str | None
    hint: str | None = None


def schema_problem(
    outline: Outline, fault: ErrorDetails, reported: Collection[Path]
) -> Problem | None:
    """One error of the schema as a problem; None when it is known from elsewhere.

    Args:
        outline: the recipe.
        fault: pydantic's error.
        reported: paths about which the user is told already.
    """
    path = _path_in(outline.data, fault["loc"])
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    if fault["loc"] == ("version",) or path in reported:
        return None
    problem = outline.document.problem
    if kind == "missing":
        owner, key = path, fault["loc"][-1]
        at_key = bool(owner) and isinstance(owner[-1], str)
        return problem(f"{outline.label(owner)} has no '{key}'", owner, at_key=at_key)
    if fault["loc"][-1] == "[key]":
        what = _PATTERNS.get(context.get("pattern", ""), "one line of text")
        return problem(f"the name '{path[-1]}' must be {what}", path, at_key=True)
    label = outline.label(path)
    if kind == REFUSED:
        return problem(f"{label} {context['text']}", path, hint=context["hint"] or None)
    wanted = _wanted(outline, path, kind, value, context)
    if wanted.what is None:
        return problem(f"{label}: {fault['msg']}", path)
    message = f"{label} must be {wanted.what}, found {found(value)}"
    return problem(message, path, hint=wanted.hint)


def _path_in(data: Json, location: tuple[int | str, ...]) -> Path:
    """The part of a location that exists in the data: without union tags, `[key]` and missing keys."""
    path: Path = ()
    for step in location:
        child = _child(data, step)
        if child is not None:
            data = child[0]
            path = (*path, step)
    return path


def _child(data: Json, step: int | str) -> tuple[Json] | None:
    if isinstance(data, dict) and isinstance(step, str):
        return (data[step],) if step in data else None
    if isinstance(data, list) and isinstance(step, int):
        return (data[step],) if step < len(data) else None
    return None


def _wanted(
    outline: Outline, path: Path, kind: str, value: object, context: Mapping[str, Any]
) -> _Wanted:
    """What should stand there, and how to write it."""
    if kind in _WANTED:
        return _Wanted(_WANTED[kind], _rewrite(outline, path, _WANTED[kind], value))
    if kind in _BOUNDS:
        return _Wanted(_BOUNDS[kind].format(**context))
    if kind == "string_pattern_mismatch":
        return _Wanted(_PATTERNS[context["pattern"]])
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        close = closest(value, choices) if isinstance(value, str) else None
        if str(value).lower() in _OFF_WORDS and "off" in choices:
            close = "off"
        listed = " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
        return _Wanted(listed, f"did you mean '{close}'?" if close else None)
    if kind == "union_tag_not_found":
        hint = "write off" if path[-1] == "hedge" and value is False else None
        return _Wanted(_UNIONS.get(str(path[-1]), "a model id, a role or a mapping"), hint)
    return _Wanted(None)


def _rewrite(outline: Outline, path: Path, wanted: str, value: object) -> str | None:
    spelling = outline.document.spelling(path)
    match wanted:
        case "text" if isinstance(value, bool | int | float):
            return f'write "{spelling}" in quotes' if '"' not in spelling else None
        case "a whole number" | "a number" if isinstance(value, str):
            return _as_number(spelling, value)
        case "true or false" if isinstance(value, str):
            words = {"yes": "true", "on": "true", "no": "false", "off": "false"}
            word = words.get(
                value.lower(), value.lower() if value.lower() in {"true", "false"} else ""
            )
            return f"write {word}" if word else None
        case "a list" if isinstance(value, str | int | float):
            return f"write [{spelling}]" if "\n" not in spelling else "begin each item with '- '"
        case "a mapping" if isinstance(value, str | int | float) and path[-1] in _MAIN_KEYS:
            return f"write {{{_MAIN_KEYS[str(path[-1])]}: {spelling}}}"
        case _:
            return None


def _as_number(spelling: str, value: str) -> str | None:
    if isinstance(plain_value(value), int | float) and spelling[:1] in {"'", '"'}:
        return "remove the quotes"
    digits = re.sub(r"[_, ]", "", value)
    if re.fullmatch(r"[-+]?0[0-9]+", digits):
        return f"write {int(digits)}: some readers take a leading zero for octal"
    return f"write {digits}" if digits != value and digits.isdecimal() else None
