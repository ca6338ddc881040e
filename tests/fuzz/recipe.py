"""Any bytes as a recipe: it is read, or refused with problems that can be shown; nothing else happens."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is started as a script, too

from tests.fuzz.target import fuzz, instrumented

with instrumented(__name__):
    from swarmcli.errors import RecipeError
    from swarmcli.recipe.diagnostic import render_problems
    from swarmcli.recipe.load import load_recipe, template_variables, unsupported
    from swarmcli.recipe.yaml_source import decode

CWD = Path("/nowhere")


def read(data: bytes) -> None:
    """Read a recipe, and use what a command does with one before it runs."""
    try:
        recipe = load_recipe(decode(data, "fuzz.yaml"), "fuzz.yaml", cwd=CWD)
    except RecipeError as error:
        _show(error)
        return
    assert recipe.name
    template_variables(recipe)
    unsupported(recipe)


def _show(refusal: RecipeError) -> None:
    assert refusal.problems
    assert all(p.line >= 0 and p.column >= 0 for p in refusal.problems)
    shown = render_problems(refusal)
    assert not any(ord(c) < 32 and c != "\n" for c in shown), repr(shown)


if __name__ == "__main__":
    fuzz(read)
