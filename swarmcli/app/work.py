"""The work commands: `run`, `solve`, `map`, `plan`, `resume`. Each returns the exit code of the process."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from swarmcli import __version__
from swarmcli.adapters.journal import read_journal
from swarmcli.adapters.runs import RunDir, RunMeta
from swarmcli.app.deliver import deliver, deliver_again
from swarmcli.app.intake import Stdin, read_recipe, read_schema, take_in
from swarmcli.app.mapping import map_tasks
from swarmcli.app.models import preflight
from swarmcli.app.options import RunOptions
from swarmcli.app.prepare import Prepared, blocks_of, prepare, require_models
from swarmcli.app.preview import preview
from swarmcli.app.session import LiveDisplay, display_of, run_session
from swarmcli.app.workspace import Workspace, open_workspace
from swarmcli.core.merge import lines
from swarmcli.core.plan import Task
from swarmcli.core.replay import History, replay
from swarmcli.core.routing import Roles
from swarmcli.engine.run import Merge
from swarmcli.errors import RecipeError, UsageError
from swarmcli.recipe.load import load_recipe, unsupported
from swarmcli.recipe.values import Recipe
from swarmcli.ui.terminal import Display

SOLVE, MAP = "solve", "map"


def run(recipe: str, options: RunOptions) -> int:
    """`swarm run RECIPE`."""
    ws = open_workspace(quiet=options.quiet)
    stdin = Stdin(forbidden=options.no_stdin, note=ws.note)
    return _begin("run", read_recipe(recipe, ws.cwd, ws.recipe_path), options, ws, stdin)


def solve(task: str, options: RunOptions) -> int:
    """`swarm solve TASK`: the shipped recipe `solve` with the task as its parameter."""
    if not task.strip():
        raise UsageError("the task is empty", hint='swarm solve "compare sqlite and duckdb"')
    ws = open_workspace(quiet=options.quiet)
    stdin = Stdin(forbidden=options.no_stdin, note=ws.note)
    options = replace(options, params=(f"task:={json.dumps(task)}", *options.params))
    return _begin("solve", read_recipe(SOLVE, ws.cwd, ()), options, ws, stdin, take_pipe=True)


def map_items(prompt: str, options: RunOptions) -> int:
    """`swarm map PROMPT`: one agent per input line, file or item."""
    if not prompt.strip():
        raise UsageError(
            "the prompt is empty", hint="swarm map 'Translate to German: {}' < lines.txt"
        )
    ws = open_workspace(quiet=options.quiet)
    stdin = Stdin(forbidden=options.no_stdin, note=ws.note)
    params = [f"prompt:={json.dumps(prompt)}", *options.params]
    if not any(param.startswith(("items=", "items:=")) for param in params):
        if options.files:
            params.append("items:=[]")
        else:
            params.append("items=@-")
    options = replace(options, params=tuple(params))
    return _begin("map", read_recipe(MAP, ws.cwd, ()), options, ws, stdin)


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
        options = replace(options, params=(f"task:={json.dumps(task)}", *options.params))
    loaded = read_recipe(SOLVE if recipe is None else recipe, ws.cwd, ws.recipe_path)
    blocks = blocks_of(ws)
    intake = take_in(
        loaded, options, blocks=blocks, stdin=stdin, cwd=ws.cwd, take_pipe=task is not None
    )
    prepared = prepare(ws, intake, options)
    return print_plan(prepared, ws, blocks)


def resume(ref: str | None, options: RunOptions) -> int:
    """`swarm resume [RUN]`: go on with an interrupted run; a finished one prints its result again."""
    ws = open_workspace(quiet=options.quiet)
    run_dir = ws.runs.open(ref) if ref else ws.runs.last_unfinished()
    if run_dir is None:
        raise UsageError("there is no unfinished run", hint="swarm runs")
    meta = run_dir.read_meta()
    options = _resumed_options(meta, options)
    with run_dir.lock():
        read = read_journal(run_dir.journal)
        for problem in read.problems:
            ws.note(problem)
        history = replay(stamped.event for stamped in read.events)
        if history.is_whole and history.end is not None:
            return deliver_again(run_dir, history.end, options)
        cwd = Path(meta.cwd) if Path(meta.cwd).is_dir() else ws.cwd
        ws = replace(ws, cwd=cwd)
        recipe = load_recipe(meta.recipe_text, meta.recipe_source, cwd=cwd)
        stdin = Stdin(forbidden=False, note=ws.note, text=meta.stdin)
        prepared = _prepare(meta.command, recipe, options, ws, stdin, history)
        roles, shown = _checked(prepared, ws)
        return _run_in(run_dir, prepared, roles, shown, ws, history)


def _resumed_options(meta: RunMeta, now: RunOptions) -> RunOptions:
    """The flags of the first session; limits, models and display flags that are given now replace them."""
    first = RunOptions.from_record(dict(meta.options))
    default = RunOptions()
    given = {
        name: value
        for name, value in now.to_record().items()
        if value != getattr(default, name) and value != ()
    }
    return replace(
        first, **{"dry_run": False, "progress": now.progress, "quiet": now.quiet, **given}
    )


def _begin(
    command: str,
    recipe: Recipe,
    options: RunOptions,
    ws: Workspace,
    stdin: Stdin,
    *,
    take_pipe: bool = False,
) -> int:
    prepared = _prepare(command, recipe, options, ws, stdin, None, take_pipe=take_pipe)
    if options.dry_run:
        return preview(prepared)
    if command == MAP and not prepared.tasks:
        ws.note("there are no input lines, so there is nothing to do")
        return 0
    meta = RunMeta(
        command=command,  # pyright: ignore[reportArgumentType]
        recipe_source=recipe.source,
        recipe_text=recipe.text,
        params=prepared.intake.params,
        stdin=stdin.text,
        options=options.to_record(),
        version=__version__,
        cwd=str(ws.cwd),
    )
    roles, shown = _checked(prepared, ws)
    run_dir = ws.runs.create(meta)
    with run_dir.lock():
        return _run_in(run_dir, prepared, roles, shown, ws, None)


def _prepare(
    command: str,
    recipe: Recipe,
    options: RunOptions,
    ws: Workspace,
    stdin: Stdin,
    history: History | None,
    *,
    take_pipe: bool = False,
) -> Prepared:
    problems = unsupported(recipe)
    if problems:
        raise RecipeError(recipe.source, recipe.text, problems)
    if options.schema is not None:
        recipe = replace(recipe, output=replace(recipe.output, schema=read_schema(options.schema)))
    take_pipe = take_pipe or command == SOLVE
    intake = take_in(
        recipe, options, blocks=blocks_of(ws), stdin=stdin, cwd=ws.cwd, take_pipe=take_pipe
    )
    tasks: tuple[Task, ...] | None = None
    merge: Merge | None = None
    if command == MAP:
        tasks = map_tasks(intake)
        merge = None if options.jsonl else lines
    return prepare(ws, intake, options, history=history, tasks=tasks, merge_in_code=merge)


def _checked(prepared: Prepared, ws: Workspace) -> tuple[Roles, tuple[Display, LiveDisplay]]:
    """The models and the display of a run that may start: everything that can be refused has been."""
    roles = require_models(prepared, ws)
    if prepared.cache.mode != "only":
        preflight(prepared.models(), ws.surroundings())
    return roles, display_of(prepared, ws)


def _run_in(
    run_dir: RunDir,
    prepared: Prepared,
    roles: Roles,
    shown: tuple[Display, LiveDisplay],
    ws: Workspace,
    history: History | None,
) -> int:
    """Run a session in its locked folder and write what comes out."""
    session = run_session(
        prepared, roles, run_dir, ws=ws, blocks=blocks_of(ws), history=history, shown=shown
    )
    return deliver(run_dir, prepared, asyncio.run(session))
