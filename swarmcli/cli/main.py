"""The `swarm` command: its sub-commands in panels, and the one place where an error becomes text and an exit code."""

import contextlib
import os
import sys
from typing import Annotated, NoReturn

import typer

from swarmcli import __version__
from swarmcli.errors import EXIT_FAILED, EXIT_SIGINT, RecipeError, SwarmError
from swarmcli.ui.say import err

WORK, LOOK, RECIPES, SETUP = "Work", "Look", "Recipes", "Set-up"
ISSUES_HINT = "this is a bug of swarm; run again with --debug and report what it prints"

app = typer.Typer(
    name="swarm",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help="Run many LLM agents on one job and merge what they find.",
    epilog="Exit codes: swarm help exit-codes",
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Run many LLM agents on one job and merge what they find."""
    if version:
        typer.echo(f"swarm {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        from swarmcli.cli.welcome import welcome

        typer.echo(welcome())
        raise typer.Exit


def _settings(command: str) -> dict[str, bool]:
    """Commands that take a run take `-1` for the last one, which is no option of theirs."""
    return (
        {"ignore_unknown_options": True} if command in {"resume", "show", "logs", "watch"} else {}
    )


def _register() -> None:
    from swarmcli.cli import evaluate, look, recipes, setup, work

    for panel, commands in (
        (WORK, work.COMMANDS),
        (WORK, evaluate.COMMANDS),
        (LOOK, look.COMMANDS),
        (RECIPES, recipes.COMMANDS),
        (SETUP, setup.COMMANDS),
    ):
        for name, command in commands.items():
            app.command(name, rich_help_panel=panel, context_settings=_settings(name))(command)
    for name, group in setup.GROUPS.items():
        app.add_typer(group, name=name, rich_help_panel=SETUP)


_register()


def main() -> NoReturn:
    """Run the command line of this process; never returns."""
    _exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line; the exit code. Errors are printed on stderr as `error:` and `hint:` lines."""
    debug = "--debug" in arguments
    try:
        code = app(arguments, standalone_mode=False, prog_name="swarm")
    except SwarmError as error:
        if debug:
            _print_traceback()
        return report(error)
    except _CLICK_ERROR as error:
        return _report_usage(error)
    except KeyboardInterrupt:
        return EXIT_SIGINT
    except Exception as error:  # noqa: BLE001  a bug of ours ends here, as a line and an exit code
        if debug:
            _print_traceback()
        from swarmcli.ui.clean import clean

        # Typer hides an EOFError (of a damaged .pyc file, say) behind an exception without a text.
        fault = (error.__cause__ if isinstance(error, typer.Abort) else None) or error
        err(f"error: {type(fault).__name__}: {clean(str(fault))}\nhint: {ISSUES_HINT}")
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


def _print_traceback() -> None:
    """Where the error being handled comes from; the exit code stays what it means."""
    import traceback

    from swarmcli.ui.clean import clean

    err(clean(traceback.format_exc()).rstrip())


def report(error: SwarmError) -> int:
    """Print an error as a person needs it; its exit code."""
    if isinstance(error, RecipeError):
        from swarmcli.recipe.diagnostic import render_problems

        err(render_problems(error))
        return error.exit_code
    from swarmcli.ui.clean import clean

    hint = f"\nhint: {clean(error.hint)}" if error.hint else ""
    err(f"error: {clean(error.message)}{hint}")
    return error.exit_code


_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""Click's error root; Typer carries its own copy of Click, which is not to be imported."""


def _report_usage(error: Exception) -> int:
    message = getattr(error, "format_message", error.__str__)().replace(": Value error, ", ": ")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "swarm"
    err(f"error: {message}\nhint: {path} --help")
    return int(getattr(error, "exit_code", 2))


def _exit(code: int) -> NoReturn:
    """Flush and leave at once: tearing down an interpreter that has loaded LiteLLM takes half a second.

    Everything of ours is closed by now: the event loop, the journal, clients and children.
    """
    with contextlib.suppress(AttributeError):  # a stream that was closed from the start is None
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            code = code or EXIT_FAILED
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)
