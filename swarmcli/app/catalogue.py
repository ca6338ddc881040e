"""Recipes as files: list, check, create, and their JSON schema. Imports nothing heavy."""

import json
import re
from pathlib import Path

from swarmcli.adapters.atomic import write_atomic
from swarmcli.app.source import read_recipe
from swarmcli.app.workspace import open_workspace
from swarmcli.core.safe_json import safe_json
from swarmcli.errors import EXIT_USAGE, RecipeError, UsageError
from swarmcli.recipe.diagnostic import render_problem, render_problems
from swarmcli.recipe.load import unsupported
from swarmcli.recipe.shipped import known_recipes
from swarmcli.ui.clean import clean, one_line
from swarmcli.ui.say import err, out

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TEMPLATE = """\
# yaml-language-server: $schema=swarm.schema.json
# Write that file with: swarm schema > swarm.schema.json
version: 1
name: {name}
description: One line that `swarm recipes` shows.
params:
  topic: {{type: string, description: What it is about, default: sqlite}}
task: |
  Compare the strengths and weaknesses of {{{{ topic }}}} for a small web shop.
mode: auto
plan: {{max_tasks: 8}}
limits: {{timeout: 10m, max_cost_usd: 1.0}}
"""


def list_recipes(*, as_json: bool) -> int:
    """`swarm recipes`."""
    ws = open_workspace()
    found = known_recipes(ws.recipe_path)
    if as_json:
        rows = [{"name": r.name, "description": r.description, "path": str(r.path)} for r in found]
        out(safe_json(rows, indent=2))
        return 0
    width = max((len(r.name) for r in found), default=0)
    for r in found:
        out(f"{r.name:<{width}}  {one_line(r.description)}")
    err("run one with: swarm run NAME")
    return 0


def check(names: list[str]) -> int:
    """`swarm check`: 0 when all recipes can be used, else 2."""
    ws = open_workspace()
    code = 0
    for name in names:
        try:
            recipe = read_recipe(name, ws.cwd, ws.recipe_path)
        except RecipeError as error:
            code = EXIT_USAGE
            err(render_problems(error))
            continue
        except UsageError as error:
            code = EXIT_USAGE
            hint = f"\nhint: {clean(error.hint)}" if error.hint else ""
            err(f"error: {clean(error.message)}{hint}")
            continue
        for problem in unsupported(recipe):
            err(render_problem(problem, recipe.source, recipe.text, label="note"))
        err(f"{name}: ok")
    return code


def print_schema() -> int:
    """`swarm schema`."""
    from swarmcli.recipe.schema import to_json_schema

    out(json.dumps(to_json_schema(), indent=2))
    return 0


def new_recipe(name: str, *, force: bool) -> int:
    """`swarm new NAME`.

    Raises:
        UsageError: a bad name, or the file exists.
    """
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if not _NAME.fullmatch(Path(stem).name):
        raise UsageError(f"{name!r} is no recipe name; use letters, digits, '-' and '_'")
    path = Path(f"{stem}.yaml")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already", hint="--force replaces it")
    write_atomic(path, _TEMPLATE.format(name=path.stem).encode())
    err(f"wrote {path}; next: swarm check {path} && swarm run {path} --dry-run")
    return 0
