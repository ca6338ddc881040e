"""The commands about recipes."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from swarmcli.cli.complete import complete_recipe

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


def recipes(as_json: Json = False) -> None:
    """List the shipped recipes and those on SWARM_RECIPE_PATH.

    \b
    swarm recipes
    swarm recipes --json | jq -r '.[].name'
    """
    from swarmcli.app import catalogue

    raise typer.Exit(catalogue.list_recipes(as_json=as_json))


def check(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Recipes to check.", autocompletion=complete_recipe),
    ],
) -> None:
    """Check recipes; every problem with its place. Starts nothing and calls nothing.

    \b
    swarm check recipes/*.yaml
    """
    from swarmcli.app import catalogue

    raise typer.Exit(catalogue.check(files))


def schema() -> None:
    """Print the JSON schema of recipes (draft-07), for editors.

    \b
    swarm schema > swarm.schema.json
    """
    from swarmcli.app import catalogue

    raise typer.Exit(catalogue.print_schema())


def new(
    name: Annotated[str, typer.Argument(help="The recipe's name; writes NAME.yaml here.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a new recipe to start from.

    \b
    swarm new review
    swarm check review.yaml && swarm run review.yaml --dry-run
    """
    from swarmcli.app import catalogue

    raise typer.Exit(catalogue.new_recipe(name, force=force))


COMMANDS: Mapping[str, Callable[..., Any]] = {
    "recipes": recipes,
    "new": new,
    "check": check,
    "schema": schema,
}
