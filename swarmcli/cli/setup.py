"""The commands that set things up."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from swarmcli.cli.flags import duration_s

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
HELP = {"help_option_names": ["-h", "--help"]}

models = typer.Typer(help="List models, or fetch the embedded one.", context_settings=HELP)
cache = typer.Typer(help="Look at the answer cache, prune or clear it.", context_settings=HELP)


@models.command("list")
def list_models(
    provider: Annotated[
        str | None, typer.Argument(help="Only this provider, for example openai.")
    ] = None,
) -> None:
    """List chat models that LiteLLM knows, with price and window.

    \b
    swarm models list anthropic
    """
    from swarmcli.app import machine

    raise typer.Exit(machine.list_models(provider))


@models.command("pull")
def pull(name: Annotated[str, typer.Argument(help="The model; only smollm2.")] = "smollm2") -> None:
    """Fetch the embedded model's weights (about 94 MB) and verify them.

    \b
    swarm models pull smollm2
    """
    from swarmcli.app import machine

    raise typer.Exit(machine.pull(name))


@cache.command("info")
def cache_info(as_json: Json = False) -> None:
    """Show where the answer cache is and how large.

    \b
    swarm cache info
    """
    from swarmcli.app import machine

    raise typer.Exit(machine.cache_info(as_json=as_json))


@cache.command("clear")
def cache_clear() -> None:
    """Remove all cached answers.

    \b
    swarm cache clear
    """
    from swarmcli.app import machine

    raise typer.Exit(machine.cache_clear())


@cache.command("prune")
def cache_prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=duration_s,
            metavar="DURATION",
            help="Also answers older than this, for example 30d.",
        ),
    ] = None,
) -> None:
    """Remove what is expired or unreadable, and files without an entry.

    \b
    swarm cache prune --older-than 30d
    """
    from swarmcli.app import machine

    raise typer.Exit(machine.cache_prune(older_than))


def doctor(as_json: Json = False) -> None:
    """Say what swarm finds here: versions, folders, keys, models, terminal.

    \b
    swarm doctor
    swarm doctor --json | jq -r .model
    """
    from swarmcli.app import machine

    raise typer.Exit(machine.doctor(as_json=as_json))


def help_topic(
    topic: Annotated[str, typer.Argument(help="exit-codes")] = "exit-codes",
) -> None:
    """Explain a topic: exit-codes.

    \b
    swarm help exit-codes
    """
    if topic != "exit-codes":
        raise typer.BadParameter(f"there is no topic {topic!r}; there is: exit-codes")
    typer.echo(EXIT_CODES)


EXIT_CODES = """\
0    ok
1    failed
2    usage or recipe error; nothing was started
3    partial: a result was written, but fewer agents succeeded than --min-success (default: all)
4    a cap (--max-cost, --max-tokens, limits.max_calls) was reached; the best result was written
5    not verified: the result does not fit its schema, a critic rejects an answer, or a conflict is left
75   worth trying again: rate limit, server error, network
77   no usable key, or no access (401, 403, no credit)
124  --timeout was reached; the best result was written
130  Ctrl-C
141  the reader of stdout went away
143  SIGTERM"""

COMMANDS: Mapping[str, Callable[..., Any]] = {"doctor": doctor, "help": help_topic}
GROUPS: Mapping[str, typer.Typer] = {"models": models, "cache": cache}
