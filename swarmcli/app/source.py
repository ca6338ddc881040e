"""A recipe by what the user called it. Imports little, so that `swarm check` starts fast."""

from pathlib import Path

from swarmcli.recipe.load import load_recipe
from swarmcli.recipe.shipped import resolve_recipe
from swarmcli.recipe.values import Recipe


def read_recipe(name: str, cwd: Path, search_path: tuple[Path, ...]) -> Recipe:
    """The recipe that `name` means: a path, `-`, or a shipped one's name.

    Raises:
        UsageError: there is none; RecipeError: it cannot be used.
    """
    source, text = resolve_recipe(name, cwd, search_path)
    return load_recipe(text, source, cwd=cwd)
