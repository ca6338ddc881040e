"""The filters of templates. What one makes of outside text is outside text; what one picks is what it was."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from jinja2 import Environment, Undefined

from swarmcli.recipe.names import member
from swarmcli.recipe.outside import OutsideText, Passage, made_of, passage
from swarmcli.recipe.rendering import Budget, TemplateError

Filter = Callable[..., object]

_PICKING = (
    "abs", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last", "length", "list",
    "map", "max", "min", "reject", "rejectattr", "round", "select", "selectattr", "sort", "sum", "unique",
)  # fmt: skip
"""Their results are numbers and parts of what they are given."""
_WALKING = frozenset(
    {"groupby", "list", "map", "max", "min", "reject", "rejectattr", "select", "selectattr", "sort", "sum", "unique"}
)  # fmt: skip
"""Those that take a text letter by letter."""
_WRITING = ("capitalize", "lower", "title", "trim", "upper", "wordcount")
LOOP, CONCAT, SLICE = "swarm loop", "swarm concat", "swarm slice"
"""Filters that no template can name, because of the space."""


def filters_of(environment: Environment) -> dict[str, Filter]:
    """All filters by name, made of Jinja's own where those are bounded."""
    builtin = cast("dict[str, Filter]", environment.filters)
    picking = {name: builtin[name] for name in _PICKING}
    writing = {
        **{name: builtin[name] for name in _WRITING},
        "truncate": functools.partial(builtin["truncate"], environment),
        "replace": _replace,
        "indent": _indent,
    }
    return {
        **picking,
        **{name: _walking(picking[name]) for name in _WALKING},
        "reverse": _reverse,
        **{name: _writing(function) for name, function in writing.items()},
        "string": _text,
        "tojson": _tojson,
        "join": join,
        LOOP: _loop,
        CONCAT: join,
        SLICE: _slice,
    }


def _walking(function: Filter) -> Filter:
    """The filter, for which each letter of a text is a step."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja puts a context before the value

    @functools.wraps(function)  # keeps that mark
    def walking(*args: object, **kwargs: object) -> object:
        given = [*args]
        if len(given) > at and isinstance(given[at], str):
            given[at] = Budget.current().loop(cast("str", given[at]))
        return function(*given, **kwargs)

    return walking


def _writing(function: Filter) -> Filter:
    """The filter, which gets a text: Python's spelling of other values is not for prompts."""

    def writing(value: object, *args: object, **kwargs: object) -> object:
        text = value if isinstance(value, str) else _text(value)
        Budget.current().work(text)
        return made_of(function(text, *args, **kwargs), text, *args, *kwargs.values())

    return writing


def join(value: Iterable[object], separator: str = "", attribute: str | None = None) -> str:
    """One text of many: those of one origin in one block, several in their own as long as the text stays whole."""
    budget = Budget.current()
    parts = [item if attribute is None else member(item, attribute) for item in value]
    budget.spend(len(separator) * len(parts))
    texts = [_text(part) for part in parts]
    wraps = {text.wrap if type(text) is OutsideText else None for text in texts}
    if len(wraps) == 1 and (wrap := wraps.pop()) is not None:
        return OutsideText(separator.join(texts), wrap)
    return passage(texts, separator)


def defined(value: object) -> object:
    """The value, if there is one.

    Raises:
        UndefinedError: names what is undefined.
    """
    if isinstance(value, Undefined):
        str(value)  # raises
    return value


def _loop(items: Iterable[object], characters: int) -> Iterator[object]:
    return Budget.current().loop(items, characters)


def _slice(
    value: Sequence[object], start: int | None, stop: int | None, step: int | None
) -> object:
    part = value[start:stop:step]
    Budget.current().work(part)
    return part


def _text(value: object) -> str:
    return Budget.current().text(defined(value))


def _replace(value: str, old: str, new: str) -> str:
    Budget.current().spend(len(value) + value.count(old) * len(new))
    return value.replace(old, new)


def _indent(value: str, width: int = 4, first: bool = False) -> str:
    """Jinja's `indent`: every line but the first is moved to the right, and empty ones stay empty."""
    if isinstance(value, Passage):
        return value.changed(lambda text: _indent(text, width, first))
    lines = value.split("\n")
    Budget.current().spend(len(value) + len(lines) * max(width, 0))
    moved = [" " * width + line if line else line for line in lines]
    return "\n".join(moved if first else [lines[0], *moved[1:]])


def _reverse(value: Sequence[object]) -> object:
    if isinstance(value, str):
        Budget.current().work(value)
        return value[::-1]
    return reversed(value)


def _tojson(value: object, indent: int | None = None) -> object:
    if indent is not None and not 0 <= indent <= 8:
        raise TemplateError("tojson indents by 0 to 8")
    text = json.dumps(Budget.current().plain(defined(value)), ensure_ascii=False, indent=indent)
    return made_of(text, value)
