"""The command that measures: `swarm eval`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import typer

from swarmcli.app.options import RunOptions
from swarmcli.cli.complete import complete_recipe
from swarmcli.cli.flags import BEHAVIOUR, INPUT, OUTPUT, with_run_options


@with_run_options(
    "plan_file", "no_stdin", "fail_fast", "allow", "trust_hash", "yes", "no_input", "output", "format", "schema",
    "progress", "color", "verbose",
)  # fmt: skip
def eval_(
    dataset: Annotated[
        str, typer.Argument(help="JSON lines with question and answer; - is standard input.")
    ],
    options: RunOptions,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            rich_help_panel=INPUT,
            metavar="RECIPE",
            help="The swarm to compare with single calls of its small and large model.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            rich_help_panel=INPUT,
            metavar="NAME=WHAT",
            help="Compare these instead: a role, a model or a recipe; the first is the reference.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            rich_help_panel=INPUT,
            min=1,
            metavar="N",
            help="Only N questions, drawn at random.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", rich_help_panel=INPUT, metavar="N", help="Which ones --limit draws."
        ),
    ] = 0,
    scorer: Annotated[
        Literal["auto", "number", "choice", "exact"],
        typer.Option("--scorer", rich_help_panel=BEHAVIOUR, help="How answers are compared."),
    ] = "auto",
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            rich_help_panel=OUTPUT,
            metavar="FILE",
            help="Write a record of each answer here, a JSON line each.",
        ),
    ] = None,
) -> int:
    """Measure accuracy, cost and time on questions with known answers.

    \b
    swarm eval gsm8k.jsonl --recipe vote.yaml --limit 200 --max-cost 2
    swarm eval quiz.jsonl --config a=openai/gpt-5-nano --config b=vote.yaml
    """
    from swarmcli.app.evaluation import EvalOptions, evaluate

    wish = EvalOptions(
        recipe=recipe,
        configs=tuple(config or ()),
        limit=limit,
        seed=seed,
        scorer=None if scorer == "auto" else scorer,
    )
    return evaluate(dataset, wish, replace(options, output=output))


COMMANDS: Mapping[str, Callable[..., Any]] = {"eval": eval_}
