"""Which recipe a name means, and what is said when there is none."""

from pathlib import Path

import pytest

from swarmcli.data import data_dir
from swarmcli.errors import RecipeError, UsageError
from swarmcli.recipe.load import load_recipe
from swarmcli.recipe.shipped import known_recipes, resolve_recipe
from swarmcli.recipe.yaml_source import MAX_BYTES

GOOD = "version: 1\ndescription: Mine.\ntask: x\n"


def refused(name: str, cwd: Path, *search_path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        resolve_recipe(name, cwd, search_path)
    return caught.value.message + (f" [{caught.value.hint}]" if caught.value.hint else "")


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(GOOD)
    (tmp_path / "other.yml").write_text(GOOD)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep").write_text(GOOD)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["mine.yaml", "./mine.yaml", "other.yml", "sub/deep", "sub/../mine.yaml"]
)
def test_a_path_is_read_and_called_as_typed(cwd: Path, name: str):
    """Both endings are recipes; with a slash any file is."""
    assert resolve_recipe(name, cwd) == (name, GOOD)


def test_an_absolute_path_is_read(cwd: Path):
    """Wherever the command is started."""
    assert resolve_recipe(str(cwd / "mine.yaml"), Path("/"))[1] == GOOD


def test_a_dash_is_standard_input(cwd: Path):
    """A recipe may be generated and piped."""
    assert resolve_recipe("-", cwd, stdin=GOOD.encode) == ("-", GOOD)


def test_a_name_is_a_shipped_recipe(cwd: Path):
    """It is called by its name, not by a path inside the installation."""
    source, text = resolve_recipe("solve", cwd)

    assert source == "solve"
    assert text == (data_dir("recipes") / "solve.yaml").read_text("utf-8")


def test_the_search_path_comes_before_the_box(cwd: Path):
    """A team's `solve` replaces ours; the source says which one it is."""
    (cwd / "solve.yml").write_text(GOOD)

    assert resolve_recipe("solve", Path("/"), [cwd / "nope", cwd]) == (str(cwd / "solve.yml"), GOOD)


def test_a_name_never_means_a_file_that_happens_to_lie_here(cwd: Path):
    """`solve` is the shipped one in every folder."""
    (cwd / "solve.yaml").write_text(GOOD)

    assert resolve_recipe("solve", cwd).text != GOOD


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slove", "no recipe is called 'slove' (did you mean 'solve'?) [swarm recipes]"),
        ("zzzzzz", "no recipe is called 'zzzzzz' [swarm recipes]"),
        ("", "no recipe is called '' [swarm recipes]"),
        ("mine", "no recipe is called 'mine' [for the file here: swarm run mine.yaml]"),
        ("sub", "'sub' is a folder, not a recipe"),
        ("./sub", "'./sub' is a folder, not a recipe"),
        ("mien.yaml", "there is no file 'mien.yaml' (did you mean 'mine.yaml'?) "
         "[swarm recipes lists those in the box]"),
        ("sub/x.yaml", "there is no file 'sub/x.yaml' [swarm recipes lists those in the box]"),
        ("mine.yaml/x.yaml", "cannot read the recipe 'mine.yaml/x.yaml': Not a directory"),
        ("a\0b.yaml", "cannot read the recipe 'a\0b.yaml': embedded null byte"),
    ],
)  # fmt: skip
def test_a_recipe_that_is_not_there(cwd: Path, name: str, message: str):
    """The nearest name is offered."""
    assert refused(name, cwd) == message


def test_a_folder_with_recipes_lists_them(cwd: Path):
    """`swarm run ./recipes` was probably meant to be one of these."""
    assert (
        refused("./", cwd) == "'./' is a folder, not a recipe [recipes in it: mine.yaml, other.yml]"
    )


def test_a_file_without_an_ending_is_pointed_out(cwd: Path):
    """A name without a slash is never a file, so the message says how to make it one."""
    assert refused("deep", cwd / "sub") == (
        "'deep' is a file, but recipes end in .yaml or .yml [swarm run ./deep, if it is one]"
    )


def test_a_binary_file_is_no_recipe(cwd: Path):
    """Nor is anything that is no UTF-8, or too large."""
    (cwd / "b.yaml").write_bytes(b"\x89PNG\0\0")
    (cwd / "l.yaml").write_bytes(b"name: caf\xe9")
    (cwd / "h.yaml").write_bytes(b"x" * (MAX_BYTES + 5))

    assert refused("b.yaml", cwd) == "'b.yaml' is a binary file, not a recipe"
    for name, message in (
        ("l.yaml", "not UTF-8: byte 0xe9"),
        ("h.yaml", "larger than a recipe may be"),
    ):
        with pytest.raises(RecipeError, match=message):
            resolve_recipe(name, cwd)


def test_known_recipes_are_those_of_the_search_path_and_the_box(cwd: Path):
    """Sorted by name, with the first line of their description; a broken one is listed without."""
    (cwd / "broken.yaml").write_text("a: [")
    recipes = {recipe.name: recipe for recipe in known_recipes([cwd, cwd / "nope"])}

    assert list(recipes) == sorted(recipes)
    assert {"solve", "map", "mine", "other", "broken"} <= recipes.keys()
    assert (recipes["mine"].description, recipes["broken"].description) == ("Mine.", "")
    assert recipes["mine"].path == cwd / "mine.yaml"


@pytest.mark.parametrize("recipe", known_recipes(), ids=lambda recipe: recipe.name)
def test_every_shipped_recipe_can_be_used(recipe, tmp_path: Path):
    """It loads without a problem, is called like its file, and says in one line what it does."""
    source, text = resolve_recipe(recipe.name, tmp_path)
    loaded = load_recipe(text, source, cwd=tmp_path)

    assert (loaded.name, bool(loaded.description)) == (recipe.name, True)
