"""Defaults that a user or a project sets once, each with the place that it came from.

Precedence is flag > recipe > environment > project > user; the caller knows flags and recipe, this
module the rest. Rule: nothing that a cloned repository brings along can say where a key is sent: there
is no `api_base` here, and none in `.env` (see `adapters.dotenv`).
"""

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast, get_args

from swarmcli.adapters.atomic import storage_error
from swarmcli.adapters.dotenv import DotEnv, load_dotenv
from swarmcli.errors import UsageError
from swarmcli.recipe.values import CacheMode

T = TypeVar("T")

PROGRESS = ("auto", "tree", "plain", "none")
CACHE_MODES: tuple[str, ...] = get_args(CacheMode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T]):
    """One value and where it was set."""

    value: T
    origin: str
    """For people: `environment variable SWARM_JOBS`, `~/project/swarm.toml: jobs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The values of one place; None where it says nothing."""

    model: Setting[str] | None = None
    jobs: Setting[int] | None = None
    max_cost: Setting[float] | None = None
    progress: Setting[str] | None = None
    cache: Setting[str] | None = None
    recipe_path: Setting[tuple[Path, ...]] | None = None
    ascii: Setting[bool] | None = None

    def over(self, lower: "Layer") -> "Layer":
        """This layer's values, and `lower`'s where this one says nothing."""
        return Layer(
            model=self.model or lower.model,
            jobs=self.jobs or lower.jobs,
            max_cost=self.max_cost or lower.max_cost,
            progress=self.progress or lower.progress,
            cache=self.cache or lower.cache,
            recipe_path=self.recipe_path or lower.recipe_path,
            ascii=self.ascii or lower.ascii,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything below flags and recipe."""

    environment: Layer
    files: Layer
    """The project's config over the user's."""
    dotenv: DotEnv
    sources: tuple[Path, ...] = ()
    """The config files that were read."""

    @property
    def merged(self) -> Layer:
        """The environment over the files."""
        return self.environment.over(self.files)


def load_settings(env: Mapping[str, str], cwd: Path, config_dir: Path) -> Settings:
    """Read the environment, `.env`, the project's config and the user's.

    Args:
        env: the process's environment; it is not changed, see `Settings.dotenv`.
        cwd: where the search for project files starts; absolute.
        config_dir: holds the user's `config.toml`.

    Raises:
        UsageError: a value or a key of ours is wrong; the message names the variable or file:key.
        StorageError: a config file of ours cannot be read.
    """
    dotenv = load_dotenv(env, cwd, also=VARIABLES)
    user = _read_config(config_dir / "config.toml", table=())
    project = _project_config(cwd)
    files = [found for found in (project, user) if found is not None]
    merged = Layer()
    for found in files:
        merged = merged.over(found[1])
    return Settings(
        environment=_environment(env, dotenv),
        files=merged,
        dotenv=dotenv,
        sources=tuple(path for path, _ in files),
    )


# --- values ---


class _Wrong(Exception):
    """A value is wrong; the text completes `<value> is not ...`."""


def _model(value: object) -> str:
    if isinstance(value, str) and value and value.isprintable() and " " not in value:
        return value
    raise _Wrong("a model; write provider/name")


def _jobs(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise _Wrong("a whole number of at least 1")


def _max_cost(value: object) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _Wrong("an amount of US dollars, like 2.50") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        amount = float(value)
        if math.isfinite(amount) and amount >= 0:
            return amount
    raise _Wrong("an amount of US dollars, like 2.50")


def _one_of(choices: tuple[str, ...]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise _Wrong(f"one of {', '.join(choices)}")

    return check


def _ascii(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise _Wrong("yes or no (1 or 0)")


def _recipe_path(value: object, base: Path) -> tuple[Path, ...]:
    """A list of folders, or one text as in PATH; relative ones start at `base`."""
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise _Wrong("a list of folders")
    folders: list[Path] = []
    for part in cast("list[object]", parts):
        if not isinstance(part, str) or "\0" in part:
            raise _Wrong("a list of folders")
        if part:
            folders.append(base / os.path.expanduser(part))  # noqa: PTH111 - Path's raises
    return tuple(folders)


def _layer(raw: Mapping[str, object], where: Callable[[str], str], base: Path) -> Layer:
    """Check the values of one place.

    Args:
        raw: by setting; only known ones.
        where: what to call a setting's place.
        base: the start of relative paths.
    """

    def read(key: str, check: Callable[[object], T]) -> Setting[T] | None:
        if key not in raw:
            return None
        value = raw[key]
        try:
            return Setting(value=check(value), origin=where(key))
        except _Wrong as exc:
            shown = f"'{value}'" if isinstance(value, str) else str(value)
            raise UsageError(f"{where(key)}: {shown} is not {exc}") from None

    return Layer(
        model=read("model", _model),
        jobs=read("jobs", _jobs),
        max_cost=read("max_cost", _max_cost),
        progress=read("progress", _one_of(PROGRESS)),
        cache=read("cache", _one_of(CACHE_MODES)),
        recipe_path=read("recipe_path", lambda value: _recipe_path(value, base)),
        ascii=read("ascii", _ascii),
    )


# --- environment ---

VARIABLES: Mapping[str, str] = {
    "SWARM_MODEL": "model",
    "SWARM_JOBS": "jobs",
    "SWARM_MAX_COST": "max_cost",
    "SWARM_PROGRESS": "progress",
    "SWARM_CACHE": "cache",
    "SWARM_RECIPE_PATH": "recipe_path",
    "SWARM_ASCII": "ascii",
}
"""The variables that are settings. `SWARM_HOME` is one of `folders`, and never taken from `.env`."""

_KEYS = tuple(VARIABLES.values())


def _environment(env: Mapping[str, str], dotenv: DotEnv) -> Layer:
    both = {**dotenv.values, **env}
    names = {key: name for name, key in VARIABLES.items() if both.get(name)}

    def where(key: str) -> str:
        name = names[key]
        return f"environment variable {name}" if name in env else f"{dotenv.path}: {name}"

    return _layer({key: both[name] for key, name in names.items()}, where, Path())


# --- config files ---


def _project_config(cwd: Path) -> tuple[Path, Layer] | None:
    """The nearest `swarm.toml`, or `pyproject.toml` that has a `[tool.swarm]`, from `cwd` upwards."""
    for folder in (cwd, *cwd.parents):
        found = _read_config(folder / "swarm.toml", table=())
        if found is None:
            found = _read_config(folder / "pyproject.toml", table=("tool", "swarm"))
        if found is not None:
            return found
    return None


def _read_config(path: Path, *, table: tuple[str, ...]) -> tuple[Path, Layer] | None:
    """The settings in a TOML file; None without the file, or without `table` in it."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as exc:
        if table:
            return None
        raise storage_error("read", path, exc) from exc
    if table and table[-1].encode() not in data:
        return None  # somebody else's file: not ours to parse, or to complain about
    found: object = _parse_toml(path, data)
    for name in table:
        found = _member(found, name)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {'.'.join(table)} is not a table")
    values = cast("dict[str, object]", found)
    for key in values:
        if key not in _KEYS:
            raise _unknown_key(path, key)
    return path, _layer(values, lambda key: f"{path}: {key}", path.parent)


def _member(table: object, name: str) -> object:
    return cast("dict[str, object]", table).get(name) if isinstance(table, dict) else None


def _parse_toml(path: Path, data: bytes) -> dict[str, object]:
    import tomllib  # here, because most runs have no config file

    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path} is not valid TOML: {exc}") from None


def _unknown_key(path: Path, key: str) -> UsageError:
    if key in {"api_base", "base_url", "api_key", "api_key_env"}:
        return UsageError(
            f"{path}: '{key}' cannot be set here: a config file must not decide where a key goes",
            hint="set it for one model, under models: in the recipe",
        )
    near = difflib.get_close_matches(key, _KEYS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"the keys are {', '.join(_KEYS)}"
    return UsageError(f"{path}: unknown key '{key}'", hint=hint)
