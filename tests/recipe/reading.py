"""What the tests of this folder share: recipes in, problems out."""

from pathlib import Path

import pytest

from swarmcli.errors import RecipeError
from swarmcli.recipe.load import load_recipe
from swarmcli.recipe.values import Recipe

HEAD = "version: 1\n"


def load(text: str, cwd: Path = Path("/nonexistent")) -> Recipe:
    """A recipe from its text, with the version in front when it has none."""
    return load_recipe(with_version(text), "r.yaml", cwd=cwd)


def faults(text: str, cwd: Path = Path("/nonexistent")) -> list[str]:
    """`line:column message [hint]` for every problem; lines count from the first of `text`."""
    with pytest.raises(RecipeError) as caught:
        load(text, cwd)
    added = 0 if with_version(text) == text else 1
    return [
        f"{p.line - added}:{p.column} {p.message}" + (f" [{p.hint}]" if p.hint else "")
        for p in caught.value.problems
    ]


def with_version(text: str) -> str:
    """The text, a complete recipe."""
    return text if text.startswith(("version:", "verison:")) else HEAD + text
