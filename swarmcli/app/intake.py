"""Intake: from a recipe's name and the flags to everything that the run is about, before any model is reached."""

import functools
import json
import os
import select
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from swarmcli.adapters.files import find_files, read_text
from swarmcli.app.options import RunOptions
from swarmcli.core.blocks import DataBlocks
from swarmcli.core.fanout import expand
from swarmcli.core.plan import Plan, PlanBuilder, Task
from swarmcli.core.planform import document_of, each_key_once
from swarmcli.engine.briefing import Material
from swarmcli.errors import PlanError, PlanFileError, RecipeError, UsageError
from swarmcli.recipe.outside import OutsideText, marked
from swarmcli.recipe.params import bind_params
from swarmcli.recipe.template import evaluate, render, roots
from swarmcli.recipe.values import ForEach, Json, Recipe

STDIN_PATIENCE_S = 3.0
MAX_STDIN_BYTES = 50_000_000
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """A recipe with its parameters, standard input and files, rendered as far as it can be before the run."""

    recipe: Recipe
    params: Mapping[str, Json]
    stdin: str | None
    variables: Mapping[str, object]
    """For templates: outside text stands in data blocks already."""
    job: str
    job_outline: str
    materials: tuple[Material, ...]
    files: tuple[str, ...]
    tasks: tuple[Task, ...] | None
    """The recipe's own graph, one task per agent; None when a planner is needed."""


class Stdin:
    """Standard input, read at most once and only when somebody needs it."""

    def __init__(self, *, forbidden: bool, note: Note, text: str | None = None) -> None:
        self._forbidden = forbidden
        self._note = note
        self._text = text

    @property
    def text(self) -> str | None:
        """What was read so far; None when nothing was."""
        return self._text

    def read(self) -> str:
        """All of it.

        Raises:
            UsageError: `--no-stdin` was given, or it is a terminal.
        """
        if self._text is None:
            if self._forbidden:
                raise UsageError("standard input is needed, but --no-stdin was given")
            if sys.stdin is None or sys.stdin.isatty():
                raise UsageError(
                    "standard input is needed, and nothing is piped in",
                    hint="give a pipe or a file: swarm ... < input.txt",
                )
            self._text = self._read()
        return self._text

    def read_if_piped(self) -> str | None:
        """What a pipe or a file brings; None for a terminal, a socket or a device, and with `--no-stdin`."""
        if self._text is None and not self._forbidden and _is_piped():
            text = self._read()
            self._text = text or None
            if text:
                self._note(
                    f"read {len(text):,} characters from standard input (--no-stdin prevents that)"
                )
        return self._text

    def _read(self) -> str:
        stream = sys.stdin.buffer
        if not select.select([stream], [], [], STDIN_PATIENCE_S)[0]:
            self._note("waiting for standard input (end it with Ctrl-D, or use --no-stdin)")
        data = stream.read(MAX_STDIN_BYTES + 1)
        if len(data) > MAX_STDIN_BYTES:
            raise UsageError(
                f"standard input is larger than {MAX_STDIN_BYTES // 1_000_000} MB",
                hint="split it, or give files with -f",
            )
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            self._note(
                f"standard input is no UTF-8 at byte {error.start:,}; such bytes are replaced"
            )
            return data.decode("utf-8", errors="replace")


def _is_piped() -> bool:
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def take_in(
    recipe: Recipe,
    options: RunOptions,
    *,
    blocks: DataBlocks,
    stdin: Stdin,
    cwd: Path,
    note: Note,
    take_pipe: bool = False,
    bound: Mapping[str, Json] | None = None,
) -> Intake:
    """Bind parameters, find files, read what is needed and render the job.

    Args:
        recipe: as loaded.
        options: the flags.
        blocks: wraps outside text.
        stdin: read when a parameter or a template asks for it.
        cwd: the root of file patterns.
        note: tells the user something that stops nothing.
        take_pipe: read standard input also when no template asks for it (`solve "task" < text`).
        bound: the parameters of an earlier session, instead of the flags'.

    Raises:
        UsageError: a parameter, file or template cannot be used.
    """
    params = (
        dict(bound)
        if bound is not None
        else bind_params(recipe, options.params, stdin=stdin.read, cwd=cwd, warn=note)
    )
    patterns = options.files or recipe.files
    files = find_files(patterns, cwd)
    piped = stdin.read_if_piped() if take_pipe else None
    if piped is None and _uses_stdin(recipe):
        piped = stdin.read()
    outside = _outside_texts(recipe, options, params, cwd)
    if piped is not None:
        outside["stdin"] = piped
    shown = {
        name: OutsideText(text, functools.partial(blocks.wrap, name))
        for name, text in outside.items()
    }
    named = {
        name: OutsideText(text, functools.partial(_mention, name, len(text)))
        for name, text in outside.items()
    }
    lists = {
        param.name: _marked_list(param.name, params.get(param.name), blocks)
        for param in recipe.params
        if param.type == "list" and param.name in _from_file(options)
    }
    base: dict[str, object] = {**params, **lists, "files": list(files)}
    variables = {**base, **shown}
    in_task = roots(recipe.task) if recipe.task else frozenset[str]()
    used = [name for name in outside if name in in_task or (name == "stdin" and take_pipe)]
    return Intake(
        recipe=recipe,
        params=params,
        stdin=stdin.text,
        variables=variables,
        job=render(recipe.task, variables).strip() if recipe.task else recipe.description,
        job_outline=render(recipe.task, {**base, **named}).strip()
        if recipe.task
        else recipe.description,
        materials=tuple(Material(name=name, text=outside[name]) for name in used),
        files=files,
        tasks=fixed_tasks(recipe, variables) if recipe.tasks else None,
    )


def _marked_list(name: str, value: Json, blocks: DataBlocks) -> object:
    try:
        return marked(value, functools.partial(blocks.wrap, name))
    except RecursionError:
        raise UsageError(f"-p {name}: the list is nested too deep") from None


def _mention(name: str, characters: int, _text: str) -> str:
    """What stands for outside text, and for whatever a template makes of it, where it is named and not shown."""
    return f'[material "{name}": {characters:,} characters]'


def _uses_stdin(recipe: Recipe) -> bool:
    texts = [
        recipe.task,
        *(t.prompt for t in recipe.tasks),
        *(p.prompt for p in recipe.agents.values()),
    ]
    texts += [t.for_each.expression for t in recipe.tasks if t.for_each and t.for_each.expression]
    return any("stdin" in roots(text) for text in texts if text)


def _outside_texts(
    recipe: Recipe, options: RunOptions, params: Mapping[str, Json], cwd: Path
) -> dict[str, str]:
    """Parameters whose text came from a file or a pipe: shown to models only inside data blocks.

    Those that are lists are no material: a planner needs their items, and is shown them in a block.
    """
    from_file = _from_file(options)
    texts: dict[str, str] = {}
    for param in recipe.params:
        value = params.get(param.name)
        if param.type == "file" and isinstance(value, str):
            texts[param.name] = read_text(cwd / value)
        elif param.type == "string" and param.name in from_file and isinstance(value, str):
            texts[param.name] = value
    return texts


def _from_file(options: RunOptions) -> set[str]:
    """The parameters whose value a file or a pipe holds: `-p name=@...`."""
    given = (assignment.partition("=") for assignment in options.params)
    return {name.strip() for name, _, value in given if value.startswith("@")}


def fixed_tasks(recipe: Recipe, variables: Mapping[str, object]) -> tuple[Task, ...]:
    """The recipe's own graph with its fan-outs expanded.

    Raises:
        RecipeError, UsageError: an expression does not yield a list.
    """

    def items_of(task_id: str, for_each: ForEach) -> tuple[Json, ...]:
        if for_each.items is not None:
            return for_each.items
        try:
            return tuple(evaluate(for_each.expression or "", variables))
        except RecipeError:
            raise
        except UsageError as error:
            raise UsageError(
                f"task {task_id!r}: for_each.items: {error.message}", hint=error.hint
            ) from error

    return expand(recipe.tasks, items_of)


def read_schema(path: str) -> dict[str, Json]:
    """The JSON schema of `--schema FILE`.

    Raises:
        UsageError: unreadable, or no JSON object.
    """
    try:
        value = json.loads(read_text(Path(path)))
    except UsageError as error:
        raise UsageError(f"--schema: {error.message}", hint=error.hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--schema {path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"--schema {path} is no JSON object")
    return cast("dict[str, Json]", value)


def read_plan_file(
    path: str, recipe: Recipe, *, models: Mapping[str, object], max_tasks: int
) -> Plan:
    """A plan v1 from a file.

    Raises:
        PlanFileError: unreadable, no JSON, or no usable plan.
    """
    try:
        value = json.loads(read_text(Path(path)), object_pairs_hook=each_key_once)
    except UsageError as error:
        raise PlanFileError(error.message) from error
    except PlanError as error:
        raise PlanFileError(f"{path}: {error.message}") from error
    except (ValueError, RecursionError) as error:
        raise PlanFileError(f"{path} is no JSON: {error}") from error
    builder = PlanBuilder(max_tasks=max_tasks, profiles=recipe.agents, models=models, strict=True)
    try:
        document = document_of(value, strict=True)
        for draft in document.drafts:
            builder.add(draft)
        plan = builder.finish(document.mode)
    except PlanError as error:
        raise PlanFileError(
            f"{path}: {error.message}", hint="swarm plan RECIPE -o plan.json writes a good one"
        ) from error
    return plan
