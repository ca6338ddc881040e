"""Checks of templates before anything runs: each variable that one uses is known where it stands."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from swarmcli.errors import Problem
from swarmcli.recipe.document import Document, Path, line_starts, problem_at
from swarmcli.recipe.outline import Outline, TaskOutline, mapping, text
from swarmcli.recipe.template import TemplateError, is_expression, roots
from swarmcli.recipe.wording import closest, did_you_mean

JOB_VARIABLES = ("stdin", "files")
"""What every template may use beside the parameters."""
RESERVED_NAMES = frozenset(
    {*JOB_VARIABLES, "inputs", "range", "namespace", "true", "false", "none", "True", "False",
     "None", "not", "and", "or", "in", "is", "if", "else", "for", "self", "loop"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A template in the file, and the variables that are known there."""

    path: Path
    template: str
    known: Collection[str]
    task: TaskOutline | None = None
    """Set where `inputs` may be used."""


def check_templates(outline: Outline) -> Iterator[Problem]:
    """Syntax errors and unknown variables in every template of the recipe."""
    for place in _places(outline):
        try:
            names = roots(place.template)
        except TemplateError as error:
            yield _syntax_problem(outline, place, error)
            continue
        for name in sorted(names):
            problem = _check_name(outline, place, name)
            if problem is not None:
                yield problem
        if place.path[-1] == "items" and not is_expression(place.template):
            yield outline.document.problem(
                f"{outline.label(place.path)} must be a list or one expression",
                place.path,
                hint='for example "{{ files }}"',
            )


def _places(outline: Outline) -> Iterator[_Place]:
    known = (*outline.params, *JOB_VARIABLES)
    task = text(outline.data.get("task"))
    if task is not None:
        yield _Place(path=("task",), template=task, known=known)
    for name, value in outline.agents.items():
        prompt = text(mapping(value).get("prompt"))
        if prompt is not None:
            yield _Place(path=("agents", name, "prompt"), template=prompt, known=known)
    for entry in outline.tasks:
        prompt = text(entry.entry.get("prompt"))
        if prompt is not None:
            item = [entry.item] if entry.item else []
            path = (*entry.path, "prompt")
            yield _Place(path=path, template=prompt, known=(*known, *item), task=entry)
        items = text((entry.for_each or {}).get("items"))
        if items is not None:
            yield _Place(path=(*entry.path, "for_each", "items"), template=items, known=known)


def _check_name(outline: Outline, place: _Place, name: str) -> Problem | None:
    if name.startswith("inputs."):
        return _check_input(outline, place, name.removeprefix("inputs."))
    if name in place.known or (name == "inputs" and place.task is not None):
        return None
    offset = _offset_of(outline.document, place.path, name)
    label = outline.label(place.path)
    if name == "inputs":
        message = f"{label} cannot use 'inputs': only the prompts of tasks can"
        return problem_at(outline.document.text, offset, message)
    known = [*place.known, *(["inputs"] if place.task and place.task.needs else [])]
    hint = did_you_mean(name, known)
    return problem_at(outline.document.text, offset, f"unknown variable '{name}' in {label}", hint)


def _check_input(outline: Outline, place: _Place, name: str) -> Problem | None:
    task = place.task
    if task is None:
        return None  # `inputs` itself is reported
    # A misspelt dependency has a message of its own.
    inputs = {
        n.text if n.text in outline.by_id else closest(n.text, outline.by_id) for n in task.needs
    }
    if name in inputs:
        return None
    offset = _offset_of(outline.document, place.path, f"inputs.{name}")
    if name in outline.by_id and name != task.id:
        message = f"{task.called} uses inputs.{name}, but does not wait for '{name}'"
        hint = f"add depends_on: [{name}]"
    else:
        message = f"{task.called} uses inputs.{name}, but there is no task '{name}'"
        close = closest(name, sorted(filter(None, inputs)) or outline.by_id)
        hint = f"did you mean 'inputs.{close}'?" if close else None
    return problem_at(outline.document.text, offset, message, hint)


def _offset_of(document: Document, path: Path, name: str) -> int:
    """Where a variable is used within the template's spelling in the file, else where the template begins."""
    spelling = document.spelling(path)
    root, _, member = name.partition(".")
    pattern = rf"(?<![\w.]){re.escape(root)}"
    if member:
        pattern += rf"\s*(?:\.|\[\s*\\?['\"])\s*{re.escape(member)}"
    start = document.offset(path)
    for block in re.finditer(r"\{\{.*?\}\}|\{%.*?%\}", spelling, re.DOTALL):
        found = re.search(pattern + r"(?!\w)", block[0])
        if found:
            return start + block.start() + found.start()
    return start


def _syntax_problem(outline: Outline, place: _Place, error: TemplateError) -> Problem:
    document = outline.document
    offset = document.offset(place.path)
    message = f"{outline.label(place.path)}: {error.message}"
    if error.line and document.spelling(place.path).startswith("|"):
        starts = line_starts(document.text)
        first = sum(start <= offset for start in starts)
        line = min(first + error.line, len(starts))
        begin = starts[line - 1]
        rest = document.text[begin : starts[line] if line < len(starts) else None]
        offset = begin + len(rest) - len(rest.lstrip())
    elif error.line > 1:
        message += f" (line {error.line} of the text)"
    return problem_at(document.text, offset, message, error.hint)
