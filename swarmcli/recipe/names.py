"""Names, keys and indexes such as `{{ inputs.scan }}` and `{{ item['tags'][0] }}`, rendered without Jinja. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from swarmcli.recipe.outside import as_written
from swarmcli.recipe.rendering import Budget, TemplateError
from swarmcli.recipe.wording import did_you_mean

_NAME = re.compile(
    r"""(?<!\{)\{\{\s*
        ([A-Za-z_][A-Za-z0-9_]*)
        ((?:\.[A-Za-z_][A-Za-z0-9_]*|\[\s*(?:-?[0-9]{1,9}|'[^'\\{}]*'|"[^"\\{}]*")\s*\])*)
        \s*\}\}""",
    re.VERBOSE,
)
_STEP = re.compile(r"\.(\w+)|\[\s*(-?[0-9]+)\s*\]|\[\s*(['\"])(.*?)\3\s*\]")
MARK = re.compile(r"\{[{%#]")
"""Where a template begins to be more than text."""
_WORDS = frozenset(
    {"true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else", "for", "self",
     "loop"}
)  # fmt: skip
"""What Jinja reads as something other than a variable."""


def is_simple(template: str) -> bool:
    """Whether a template holds text and names only."""
    if any(name[1] in _WORDS for name in _NAME.finditer(template)):
        return False
    return not MARK.search(_NAME.sub(" ", template))


def is_name(expression: str) -> bool:
    """Whether it is one `{{ name }}` and nothing else."""
    name = _NAME.fullmatch(expression)
    return name is not None and name[1] not in _WORDS


def render_names(template: str, variables: Mapping[str, object]) -> str:
    """The text of a simple template.

    Raises:
        TemplateError: a variable does not exist, or the result is too large.
    """
    with Budget() as budget:
        return _NAME.sub(lambda name: as_written(budget.shown(_look_up(name, variables))), template)


def value_of(expression: str, variables: Mapping[str, object]) -> object:
    """What one `{{ name }}` stands for.

    Raises:
        TemplateError: the variable does not exist.
    """
    return _look_up(cast("re.Match[str]", _NAME.fullmatch(expression)), variables)


def names_in(template: str) -> Iterator[str]:
    """The variables of a simple template; for an input both `inputs` and `inputs.scan`."""
    for name in _NAME.finditer(template):
        yield name[1]
        steps = _steps(name[2])
        if name[1] == "inputs" and steps:
            yield f"inputs.{steps[0]}"


def member(value: object, step: str | int) -> object:
    """One step of a path. The engine's `inputs` is no Mapping: something that has `[name]` is enough.

    Raises:
        LookupError, TypeError: there is no such member.
    """
    if isinstance(value, str | bytes | Sequence) and not isinstance(step, int):
        raise TypeError(step)
    return cast("Any", value)[step]


def unknown(name: str, variables: Iterable[str]) -> TemplateError:
    """The refusal of a variable that does not exist."""
    return TemplateError(f"unknown variable '{name}'", hint=did_you_mean(name, sorted(variables)))


def _steps(path: str) -> list[str | int]:
    return [int(step[2]) if step[2] else step[1] or step[4] for step in _STEP.finditer(path)]


def _look_up(name: re.Match[str], variables: Mapping[str, object]) -> object:
    root = name[1]
    if root not in variables:
        raise unknown(root, variables)
    value, shown = variables[root], root
    for step in _steps(name[2]):
        try:
            value = member(value, step)
        except (LookupError, TypeError):
            what = f"'{step}'" if isinstance(step, str) else f"item {step}"
            raise TemplateError(
                f"'{shown}' has no {what}", hint=did_you_mean(str(step), _keys(value))
            ) from None
        shown += f".{step}" if isinstance(step, str) else f"[{step}]"
    return value


def _keys(value: object) -> list[str]:
    return (
        [str(key) for key in cast("Mapping[object, object]", value)]
        if isinstance(value, Mapping)
        else []
    )
