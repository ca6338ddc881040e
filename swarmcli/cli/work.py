"""The commands that do work."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from swarmcli.app.options import RunOptions
from swarmcli.cli.complete import complete_recipe, complete_run
from swarmcli.cli.flags import INPUT, OUTPUT, with_run_options


@with_run_options()
def run(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A path, - for stdin, or a shipped recipe's name.", autocompletion=complete_recipe
        ),
    ],
    options: RunOptions,
) -> int:
    """Run a recipe: plan, fan out, merge.

    \b
    swarm run quickstart
    swarm run review.yaml -p topic=security -m openai/gpt-5-mini -j 50
    git diff | swarm run review.yaml -p diff=@- --max-cost 0.50 -o review.md
    """
    from swarmcli.app import work

    return work.run(recipe, options)


@with_run_options()
def solve(
    task: Annotated[str, typer.Argument(help="What is to be done.")], options: RunOptions
) -> int:
    """Solve a task that is written in one line; as many agents as it needs.

    \b
    swarm solve "compare sqlite and duckdb for analytics"
    swarm solve "what does this log say?" < server.log
    swarm solve --mode instant "what is the capital of France?"
    """
    from swarmcli.app import work

    return work.solve(task, options)


@with_run_options("plan_file", "mode", "max_agents")
def map_(
    prompt: Annotated[str, typer.Argument(help="The prompt; {} is the item.")],
    options: RunOptions,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl", rich_help_panel=OUTPUT, help="One JSON record per input, in input order."
        ),
    ] = False,
) -> int:
    """Run one agent per input line (or per file with -f), in input order.

    \b
    cut -f2 tickets.tsv | swarm map "Label as bug, feature or question: {}" -j 32
    swarm map "Summarise this file in one line." -f "docs/*.md" --jsonl > out.jsonl
    """
    from dataclasses import replace

    from swarmcli.app import work

    return work.map_items(prompt, replace(options, jsonl=jsonl))


@with_run_options("plan_file", "dry_run")
def plan(
    options: RunOptions,
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe, as for run.", autocompletion=complete_recipe)
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", rich_help_panel=INPUT, help="A task instead of a recipe."),
    ] = None,
) -> int:
    """Ask for a plan and print it as JSON; nothing of it is run.

    \b
    swarm plan --task "compare sqlite and duckdb" -o plan.json
    swarm solve "compare sqlite and duckdb" --plan plan.json
    """
    from swarmcli.app import work

    return work.plan(recipe, task, options)


@with_run_options("params", "files", "plan_file", "no_stdin", "mode")
def resume(
    options: RunOptions,
    run: Annotated[
        str | None,
        typer.Argument(help="An id, the end of one, last, or -1.", autocompletion=complete_run),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Leave damaged lines of the journal out (a copy is kept)."),
    ] = False,
    retry_uncertain: Annotated[
        bool,
        typer.Option(
            "--retry-uncertain", help="Run agents again although their tools may have run already."
        ),
    ] = False,
) -> int:
    """Go on with an interrupted or partial run; what is finished is not paid again.

    \b
    swarm resume
    swarm resume 7k3f --max-cost 3
    """
    from swarmcli.app import work

    return work.resume(run, options, repair=repair, retry_uncertain=retry_uncertain)


COMMANDS: Mapping[str, Callable[..., Any]] = {
    "run": run,
    "solve": solve,
    "map": map_,
    "plan": plan,
    "resume": resume,
}
