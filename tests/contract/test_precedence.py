"""Who has the last word: flag over recipe over environment over project config over user config."""

import os
from pathlib import Path

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server

ONE = 'tasks: [{id: t, prompt: "Say it."}]'


def user_config(text: str) -> None:
    """The user's own defaults."""
    folder = Path(os.environ["SWARM_HOME"]) / "config"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)


def calls(shell: Shell, server: Server, recipe: str, *flags: str) -> int:
    """Requests of a run whose answer stands in the cache."""
    shell("run", recipe, "--cache", "use")
    before = len(server.requests)
    shell("run", recipe, *flags)
    return len(server.requests) - before


@pytest.mark.parametrize(
    ("flag", "recipe", "variable", "project", "user", "asked"),
    [
        ("use", "{mode: off}", "off", "off", "off", 0),
        (None, "{mode: off}", "use", "use", "use", 1),
        (None, "{mode: use}", "off", "off", "off", 0),
        (None, "{ttl: 30d}", "off", "use", "use", 1),
        (None, "{ttl: 30d}", None, "off", "use", 1),
        (None, "{ttl: 30d}", None, None, "off", 1),
        (None, None, "use", "off", "off", 0),
        (None, None, None, "use", "off", 0),
        (None, None, None, None, None, 0),
    ],
)
def test_how_the_cache_is_used(
    shell: Shell,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    flag: str | None,
    recipe: str | None,
    variable: str | None,
    project: str | None,
    user: str | None,
    asked: int,
):
    """What is said nearer to the run wins, and a recipe that says something else leaves the mode open."""
    body = ONE if recipe is None else f"{ONE}\ncache: {recipe}"
    if project is not None:
        shell.write("swarm.toml", f'cache = "{project}"')
    if user is not None:
        user_config(f'cache = "{user}"')
    if variable is not None:
        monkeypatch.setenv("SWARM_CACHE", variable)

    flags = () if flag is None else ("--cache", flag)

    assert calls(shell, server, shell.recipe(body), *flags) == asked


@pytest.mark.parametrize(
    ("flag", "recipe", "variable", "project", "user", "parallel"),
    [
        (3, 9, 7, 11, 13, 3),
        (None, 9, 7, 11, 13, 9),
        (None, None, 7, 11, 13, 7),
        (None, None, None, 11, 13, 11),
        (None, None, None, None, 13, 13),
    ],
)
def test_how_many_agents_work_at_once(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    flag: int | None,
    recipe: int | None,
    variable: int | None,
    project: int | None,
    user: int | None,
    parallel: int,
):
    """The same order for -j, limits.parallel, SWARM_JOBS and the config files."""
    if project is not None:
        shell.write("swarm.toml", f"jobs = {project}")
    if user is not None:
        user_config(f"jobs = {user}")
    if variable is not None:
        monkeypatch.setenv("SWARM_JOBS", str(variable))
    body = ONE if recipe is None else f"{ONE}\nlimits: {{parallel: {recipe}}}"
    flags = () if flag is None else ("-j", str(flag))

    done = shell("run", shell.recipe(body), "--dry-run", "--json", *flags)

    assert done.json["parallel"] == parallel


def test_quiet_is_quiet_whatever_the_environment_says(shell: Shell):
    """-q is a flag, SWARM_PROGRESS only a default; --progress shows it all the same."""
    recipe = shell.recipe(ONE)
    env = {"SWARM_PROGRESS": "plain"}

    assert shell("run", recipe, "-q", env=env).err == ""
    assert "done" in shell("run", recipe, env=env).err
    assert "done" in shell("run", recipe, "-q", "--progress", "plain", env=env).err
    assert "done" not in shell("run", recipe, "--progress", "none", env=env).err.splitlines()[0]
