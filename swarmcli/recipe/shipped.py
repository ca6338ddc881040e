"""Which recipe the user means: a path, `-`, or the name of one in `SWARM_RECIPE_PATH` or in the box."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from swarmcli.data import data_dir
from swarmcli.errors import RecipeError, UsageError
from swarmcli.recipe.wording import closest, listed
from swarmcli.recipe.yaml_source import MAX_BYTES, decode, parse

SUFFIXES = (".yaml", ".yml")
STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRecipe:
    """A recipe that is found by its name."""

    name: str
    path: Path
    description: str


class RecipeText(NamedTuple):
    """What `load_recipe` needs: what the user calls the recipe, and its text."""

    source: str
    text: str


def known_recipes(search_path: Sequence[Path] = ()) -> list[KnownRecipe]:
    """The recipes of the search path and the box, by name; an earlier folder hides the same name in later ones."""
    recipes: dict[str, KnownRecipe] = {}
    for folder in (*search_path, data_dir("recipes")):
        for path in _recipe_files(folder):
            if path.stem not in recipes:
                recipes[path.stem] = KnownRecipe(
                    name=path.stem, path=path, description=_description(path)
                )
    return sorted(recipes.values(), key=lambda recipe: recipe.name)


def read_stdin() -> bytes:
    """All of standard input, up to just beyond a recipe's largest size."""
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def resolve_recipe(
    name: str,
    cwd: Path,
    search_path: Sequence[Path] = (),
    *,
    stdin: Callable[[], bytes] = read_stdin,
) -> RecipeText:
    """Find and read a recipe.

    Args:
        name: a path (it ends in .yaml or .yml, or holds a slash), `-`, or a name.
        cwd: what relative paths start from.
        search_path: the folders of `SWARM_RECIPE_PATH`.
        stdin: called for `-`.

    Raises:
        UsageError: there is no such recipe, or it cannot be read.
        RecipeError: it is no UTF-8 text, or too large.
    """
    if name == STDIN:
        return RecipeText(STDIN, decode(stdin(), STDIN))
    if name.endswith(SUFFIXES) or "/" in name or os.sep in name:
        return RecipeText(name, _read(cwd / name, name))
    for folder in (*search_path, data_dir("recipes")):
        for suffix in SUFFIXES:
            path = folder / f"{name}{suffix}"
            if _is_there(path):
                source = name if folder == data_dir("recipes") else str(path)
                return RecipeText(source, _read(path, source))
    raise _not_found(name, cwd, search_path)


def _not_found(name: str, cwd: Path, search_path: Sequence[Path]) -> UsageError:
    here = [path.name for path in _recipe_files(cwd) if path.stem == name or path.name == name]
    if here:
        return UsageError(
            f"no recipe is called '{name}'", hint=f"for the file here: swarm run {here[0]}"
        )
    if name and (cwd / name).is_dir():
        return _folder(cwd / name, name)
    if name and _is_there(cwd / name):
        message = f"'{name}' is a file, but recipes end in .yaml or .yml"
        return UsageError(message, hint=f"swarm run ./{name}, if it is one")
    folders = (*search_path, data_dir("recipes"))
    names = dict.fromkeys(path.stem for folder in folders for path in _recipe_files(folder))
    close = closest(name, names)
    did = f" (did you mean '{close}'?)" if close else ""
    return UsageError(f"no recipe is called '{name}'{did}", hint="swarm recipes")


def _read(path: Path, source: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _no_file(path, source) from None
    except IsADirectoryError:
        raise _folder(path, source) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the recipe '{source}': {reason}") from None
    if b"\0" in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"'{source}' is a binary file, not a recipe")
    return decode(raw, source)


def _no_file(path: Path, source: str) -> UsageError:
    close = closest(path.name, [other.name for other in _recipe_files(path.parent)])
    did = f" (did you mean '{source[: len(source) - len(path.name)]}{close}'?)" if close else ""
    return UsageError(
        f"there is no file '{source}'{did}", hint="swarm recipes lists those in the box"
    )


def _folder(path: Path, source: str) -> UsageError:
    names = [other.name for other in _recipe_files(path)]
    hint = f"recipes in it: {listed(names)}" if names else None
    return UsageError(f"'{source}' is a folder, not a recipe", hint=hint)


def _recipe_files(folder: Path) -> list[Path]:
    """Sorted; empty where the folder cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    except (OSError, ValueError):
        return []


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _description(path: Path) -> str:
    """The recipe's first line about itself; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = parse(decode(file.read(MAX_BYTES + 1), path.name), path.name).data
    except (OSError, RecipeError):
        return ""
    text = data.get("description")
    return text.strip().split("\n")[0] if isinstance(text, str) else ""
