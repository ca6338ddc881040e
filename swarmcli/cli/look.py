"""The commands that look at runs."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import typer

from swarmcli.cli.complete import complete_run

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Run = Annotated[
    str, typer.Argument(help="An id, the end of one, last, or -1.", autocompletion=complete_run)
]


def runs(
    as_json: Json = False,
    most: Annotated[
        int | None, typer.Option("-n", "--number", min=1, help="How many to show (default: 20).")
    ] = None,
) -> None:
    """List the runs, newest first.

    \b
    swarm runs -n 5
    swarm runs --json | jq -r '.[0].id'
    """
    from swarmcli.app import inspection

    raise typer.Exit(inspection.list_runs(as_json=as_json, most=most))


def show(run: Run = "last", as_json: Json = False) -> None:
    """Show a run: how it ended, its agents, and the next command.

    \b
    swarm show
    swarm show 7k3f --json | jq .totals.usage
    """
    from swarmcli.app import inspection

    raise typer.Exit(inspection.show(run, as_json=as_json))


def logs(
    run: Run = "last",
    agent: Annotated[str | None, typer.Argument(help="One agent, for example scan[3].")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every failed agent.")] = False,
    as_json: Json = False,
) -> None:
    """Print what an agent was asked and what it answered, or a run's events.

    \b
    swarm logs last scan[3]
    swarm logs 7k3f --failed
    """
    from swarmcli.app import inspection

    raise typer.Exit(inspection.logs(run, agent, failed=failed, as_json=as_json))


def watch(
    run: Run = "last",
    progress: Annotated[
        Literal["auto", "tree", "plain", "none"] | None,
        typer.Option("--progress", help="What stderr shows; default: SWARM_PROGRESS."),
    ] = None,
) -> None:
    """Look at a run from another shell, until it ends; Ctrl-C leaves it alone.

    \b
    swarm watch
    swarm watch 7k3f --progress plain
    """
    from swarmcli.app import watch

    raise typer.Exit(watch.watch(run, progress=progress))


COMMANDS: Mapping[str, Callable[..., Any]] = {
    "runs": runs,
    "show": show,
    "logs": logs,
    "watch": watch,
}
