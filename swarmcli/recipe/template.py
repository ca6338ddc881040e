"""Templates that a person wrote: `{{ topic }}`, `{{ inputs.scan }}`, and beyond names a bounded Jinja.

Names, keys and indexes are rendered without Jinja, whose import takes 0.1 s, in every `swarm check`. Anything else goes
to its sandbox, cut down to a dialect without I/O and randomness, in which no small template makes a large result or a
long loop.

Rule: a value is never read as a template. Text is put in as it is, text from outside in a data block, everything else
as JSON.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import cast

from swarmcli.recipe.names import MARK, is_name, is_simple, names_in, render_names, value_of
from swarmcli.recipe.rendering import Budget, TemplateError
from swarmcli.recipe.values import Json
from swarmcli.recipe.wording import found

__all__ = ["TemplateError", "evaluate", "is_expression", "render", "roots"]


def render(template: str, variables: Mapping[str, object]) -> str:
    """The template's text with every variable filled in.

    Raises:
        TemplateError: a variable does not exist, the template is not valid, or its result is too large.
    """
    if not MARK.search(template):
        return template
    if is_simple(template):
        return render_names(template, variables)
    from swarmcli.recipe import dialect

    return dialect.render(template, variables)


@functools.lru_cache(maxsize=1024)
def roots(template: str) -> frozenset[str]:
    """The variables that a template needs: `topic`; for an input both `inputs` and `inputs.scan`.

    Raises:
        TemplateError: the template is not valid.
    """
    if is_simple(template):
        return frozenset(names_in(template))
    from swarmcli.recipe import dialect

    return dialect.roots(template)


def is_expression(template: str) -> bool:
    """Whether the template is one `{{ ... }}` and nothing else, as `for_each.items` must be."""
    text = template.strip()
    return text.startswith("{{") and text.endswith("}}") and len(MARK.findall(text)) == 1


def evaluate(expression: str, variables: Mapping[str, object]) -> list[Json]:
    """The list that `{{ expression }}` stands for: native values, never rendered to text and back.

    Raises:
        TemplateError: not one expression, a variable that does not exist, or no list.
    """
    text = expression.strip()
    if not is_expression(text):
        message = f"one expression such as {{{{ files }}}} is needed, found {found(text)}"
        raise TemplateError(message)
    if is_name(text):
        value = value_of(text, variables)
    else:
        from swarmcli.recipe import dialect

        value = dialect.evaluate(text, variables)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        what = found(cast("object", value))
        raise TemplateError(f"{text} is no list, found {what}")
    with Budget() as budget:
        return [budget.plain(item) for item in budget.loop(cast("Iterable[object]", value))]
