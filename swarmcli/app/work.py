"""The work commands: `run`, `solve`, `map`, `plan`, `resume`. Each returns the exit code of the process."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from swarmcli import __version__
from swarmcli.adapters.journal import read_journal
from swarmcli.adapters.runs import Command, RunDir, RunMeta
from swarmcli.app.deliver import deliver, deliver_again
from swarmcli.app.display import LiveDisplay, display_for
from swarmcli.app.intake import Stdin, read_schema, take_in
from swarmcli.app.mapping import map_tasks
from swarmcli.app.models import preflight
from swarmcli.app.options import RunOptions
from swarmcli.app.prepare import Prepared, blocks_of, prepare, require_models
from swarmcli.app.preview import preview
from swarmcli.app.session import run_session
from swarmcli.app.source import read_recipe
from swarmcli.app.workspace import Workspace, open_workspace
from swarmcli.core.merge import lines
from swarmcli.core.replay import History, replay
from swarmcli.core.routing import Roles
from swarmcli.errors import RecipeError, UsageError
from swarmcli.recipe.load import load_recipe, unsupported
from swarmcli.recipe.values import Json, Recipe
from swarmcli.ui.terminal import Display

SOLVE, MAP = "solve", "map"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One work command with everything that it was given."""

    command: Command
    recipe: Recipe
    options: RunOptions
    ws: Workspace
    stdin: Stdin
    history: History | None = None
    """What earlier sessions of the run left; None for a new run."""
    params: Mapping[str, Json] | None = None
    """The parameters of an earlier session."""


def run(recipe: str, options: RunOptions) -> int:
    """`swarm run RECIPE`."""
    ws = open_workspace(quiet=options.quiet)
    return _begin("run", read_recipe(recipe, ws.cwd, ws.recipe_path), options, ws)


def solve(task: str, options: RunOptions) -> int:
    """`swarm solve TASK`: the shipped recipe `solve` with the task as its parameter."""
    if not task.strip():
        raise UsageError("the task is empty", hint='swarm solve "compare sqlite and duckdb"')
    ws = open_workspace(quiet=options.quiet)
    return _begin(SOLVE, read_recipe(SOLVE, ws.cwd, ()), _with_task(options, task), ws)


def map_items(prompt: str, options: RunOptions) -> int:
    """`swarm map PROMPT`: one agent per input line, file or item."""
    if not prompt.strip():
        raise UsageError(
            "the prompt is empty", hint="swarm map 'Translate to German: {}' < lines.txt"
        )
    ws = open_workspace(quiet=options.quiet)
    params = [f"prompt:={json.dumps(prompt)}", *options.params]
    if not any(param.startswith(("items=", "items:=")) for param in params):
        params.append("items:=[]" if options.files else "items=@-")
    return _begin(MAP, read_recipe(MAP, ws.cwd, ()), replace(options, params=tuple(params)), ws)


def plan(recipe: str | None, task: str | None, options: RunOptions) -> int:
    """`swarm plan RECIPE|--task T`: make the plan, run nothing of it, print plan v1."""
    from swarmcli.app.planning import print_plan

    if (recipe is None) == (task is None):
        raise UsageError(
            "plan needs a recipe or --task", hint='swarm plan --task "compare sqlite and duckdb"'
        )
    ws = open_workspace(quiet=options.quiet)
    stdin = Stdin(forbidden=options.no_stdin, note=ws.note)
    if task is not None:
        options = _with_task(options, task)
    loaded = read_recipe(SOLVE if recipe is None else recipe, ws.cwd, ws.recipe_path)
    check_output(options.output, loaded.source)
    blocks = blocks_of(ws)
    intake = take_in(
        loaded,
        options,
        blocks=blocks,
        stdin=stdin,
        cwd=ws.cwd,
        note=ws.note,
        take_pipe=task is not None,
    )
    prepared = prepare(ws, intake, options)
    return print_plan(prepared, ws, blocks)


def resume(
    ref: str | None, options: RunOptions, *, repair: bool = False, retry_uncertain: bool = False
) -> int:
    """`swarm resume [RUN]`: go on with an interrupted run; a finished one prints its result again."""
    ws = open_workspace(quiet=options.quiet)
    run_dir = ws.runs.open(ref) if ref else ws.runs.last_unfinished()
    if run_dir is None:
        raise UsageError(
            "there is no unfinished run that nobody works on", hint="swarm runs lists all"
        )
    meta = run_dir.read_meta()
    options = _resumed_options(meta, options)
    with run_dir.lock():
        read = read_journal(run_dir.journal, repair=repair)
        for problem in read.problems:
            ws.note(problem)
        history = replay(stamped.event for stamped in read.events)
        if retry_uncertain:
            history = replace(history, uncertain={})
        ws = replace(ws, cwd=Path(meta.cwd) if Path(meta.cwd).is_dir() else ws.cwd)
        recipe = load_recipe(meta.recipe_text, meta.recipe_source, cwd=ws.cwd)
        end = history.end
        if history.is_whole and end is not None and not options.dry_run:
            stamped = next(one for one in read.events if one.event is end)
            output = options.output or recipe.output.file
            return deliver_again(run_dir, end, stamped, replace(options, output=output))
        job = _Job(
            command=meta.command,
            recipe=recipe,
            options=options,
            ws=ws,
            stdin=Stdin(forbidden=True, note=ws.note, text=meta.stdin),
            history=history,
            params=meta.params,
        )
        prepared = _prepare(job)
        if options.dry_run:
            return preview(prepared, blocks_of(ws), ws.cwd, done=history.finished)
        return _run_in(run_dir, job, _checked(prepared, ws))


def _with_task(options: RunOptions, task: str) -> RunOptions:
    return replace(options, params=(f"task:={json.dumps(task)}", *options.params))


def _resumed_options(meta: RunMeta, now: RunOptions) -> RunOptions:
    """The flags of the first session; those that are given now replace them."""
    first = RunOptions.from_record(dict(meta.options))
    default = RunOptions()
    given = {
        name: value for name, value in now.to_record().items() if value != getattr(default, name)
    }
    display = {"dry_run": False, "progress": now.progress, "color": now.color, "quiet": now.quiet}
    return replace(first, **{**display, **given})


def _begin(command: Command, recipe: Recipe, options: RunOptions, ws: Workspace) -> int:
    stdin = Stdin(forbidden=options.no_stdin, note=ws.note)
    job = _Job(command=command, recipe=recipe, options=options, ws=ws, stdin=stdin)
    prepared = _prepare(job)
    if options.dry_run:
        return preview(prepared, blocks_of(ws), ws.cwd)
    if command == MAP and not prepared.tasks:
        ws.note("there are no input lines, so there is nothing to do")
        return 0
    ready = _checked(prepared, ws)
    run_dir = ws.runs.create(_meta(job, prepared))
    with run_dir.lock():
        return _run_in(run_dir, job, ready)


def _meta(job: _Job, prepared: Prepared) -> RunMeta:
    return RunMeta(
        command=job.command,
        recipe_source=job.recipe.source,
        recipe_text=job.recipe.text,
        params=prepared.intake.params,
        stdin=job.stdin.text,
        options=job.options.to_record(),
        version=__version__,
        cwd=str(job.ws.cwd),
        models={role: spec.id for role, spec in prepared.roles.models.items()}
        if prepared.roles
        else {},
    )


def _prepare(job: _Job) -> Prepared:
    recipe, options, ws = job.recipe, job.options, job.ws
    problems = unsupported(recipe)
    if problems:
        raise RecipeError(recipe.source, recipe.text, problems)
    if options.schema is not None:
        recipe = replace(recipe, output=replace(recipe.output, schema=read_schema(options.schema)))
    intake = take_in(
        recipe,
        options,
        blocks=blocks_of(ws),
        stdin=job.stdin,
        cwd=ws.cwd,
        note=ws.note,
        take_pipe=job.command == SOLVE,
        bound=job.params,
    )
    mapped = job.command == MAP
    return prepare(
        ws,
        intake,
        options,
        history=job.history,
        tasks=map_tasks(intake) if mapped else None,
        merge_in_code=lines if mapped and not options.jsonl else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A run that may start: everything that can be refused has been."""

    prepared: Prepared
    roles: Roles
    display: tuple[Display, LiveDisplay]


def check_output(output: str | None, source: str, *, flag: str = "-o") -> None:
    """A place that cannot be written is refused before anything is paid for.

    Args:
        output: the file that the flag names.
        source: what the command was given to work on, a recipe or a dataset, which the file must not replace.
        flag: `-o` or `--events`.

    Raises:
        UsageError: no name, a folder, a folder that cannot be written, or `source` itself.
    """
    if output is None or output == "-":
        return
    path = Path(output)
    parent = next((p for p in path.absolute().parents if p.exists()), Path("/"))
    if not output or output.endswith("/") or path.is_dir() or not parent.is_dir():
        raise UsageError(f"{flag} {output!r} is no file that can be written", hint="name a file")
    target = path if path.exists() else parent
    if not os.access(target, os.W_OK):
        raise UsageError(f"{flag} {output}: {target} cannot be written", hint="choose another file")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UsageError(f"{flag} {output} would replace {source}", hint="choose another file")


def _checked(prepared: Prepared, ws: Workspace) -> _Ready:
    check_output(prepared.options.output, prepared.recipe.source)
    check_output(prepared.options.events, prepared.recipe.source, flag="--events")
    roles = require_models(prepared, ws)
    if prepared.cache.mode != "only":
        preflight(prepared.models(), ws.surroundings())
    return _Ready(prepared=prepared, roles=roles, display=display_for(prepared.options, ws))


def _run_in(run_dir: RunDir, job: _Job, ready: _Ready) -> int:
    """Run a session in its locked folder and write what comes out."""
    session = run_session(
        ready.prepared,
        ready.roles,
        run_dir,
        ws=job.ws,
        blocks=blocks_of(job.ws),
        history=job.history,
        shown=ready.display,
    )
    return deliver(run_dir, ready.prepared, asyncio.run(session))
